//! Distances between the outlines of two masks, by MONAI's definitions.
//!
//! Every [`edge`] pixel of one mask has a distance to the nearest edge pixel of the other, between
//! pixel centres. The distances are exact: P. F. Felzenszwalb, D. P. Huttenlocher, Distance
//! Transforms of Sampled Functions, Theory of Computing 8 (2012), within the rectangle that holds
//! both masks.

use super::quantile::quantile;
use crate::imaging::Mask;
use crate::imaging::edge::edge;

/// How far apart two outlines are, in the unit of the spacing.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SurfaceDistances {
    /// Hausdorff distance: the largest distance, both ways.
    pub hd: f64,
    /// The larger of the two ways' 95th percentiles (linear between neighbours).
    pub hd95: f64,
    /// Average symmetric surface distance: the mean of the distances of both ways together.
    pub average: f64,
}

/// Measures the distances between the outlines of a predicted and a true mask.
///
/// `spacing` is the distance between rows and between columns, in that order: `[1.0, 1.0]` gives
/// pixels. `None` when either mask is empty: the distances are then undefined.
///
/// # Panics
/// When the masks differ in size, or a spacing is not positive and finite.
#[must_use]
pub fn surface_distances(
    prediction: &Mask,
    truth: &Mask,
    spacing: [f64; 2],
) -> Option<SurfaceDistances> {
    assert_eq!(
        (prediction.width(), prediction.height()),
        (truth.width(), truth.height()),
        "masks of one size are compared"
    );
    assert!(
        spacing.iter().all(|s| s.is_finite() && *s > 0.0),
        "a spacing is positive and finite, not {spacing:?}"
    );
    let window = Window::around(prediction, truth)?;
    let predicted = window.edge(prediction);
    let actual = window.edge(truth);
    let mut out = window.distances(predicted.pixels(), actual.pixels(), spacing);
    let mut back = window.distances(actual.pixels(), predicted.pixels(), spacing);

    let total: f64 = out.iter().chain(&back).sum();
    let average = total / (out.len() + back.len()) as f64;
    out.sort_unstable_by(f64::total_cmp);
    back.sort_unstable_by(f64::total_cmp);
    let larger = |q| Some(quantile(&out, q)?.max(quantile(&back, q)?));
    Some(SurfaceDistances {
        hd: larger(1.0)?,
        hd95: larger(0.95)?,
        average,
    })
}

/// The part of the image that holds every pixel of both masks.
struct Window {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl Window {
    /// `None` when either mask is empty.
    fn around(a: &Mask, b: &Mask) -> Option<Self> {
        let (a, b) = (a.bounding_box()?, b.bounding_box()?);
        let (x, y) = (a.x.min(b.x), a.y.min(b.y));
        Some(Self {
            x,
            y,
            width: (a.x + a.width).max(b.x + b.width) - x,
            height: (a.y + a.height).max(b.y + b.height) - y,
        })
    }

    /// The edge pixels of a mask, row by row. All of the mask lies in the window, so that beyond the
    /// window's border there is as little of it as beyond the image's.
    fn edge(&self, mask: &Mask) -> Mask {
        let mut part = Mask::empty(self.width, self.height);
        let rows = mask.pixels().chunks_exact(mask.width()).skip(self.y);
        for (to, from) in part.pixels_mut().chunks_exact_mut(self.width).zip(rows) {
            to.copy_from_slice(&from[self.x..self.x + self.width]);
        }
        edge(&part)
    }

    /// The distance of every pixel in `from` to the nearest pixel in `to`, which holds at least one.
    fn distances(&self, from: &[bool], to: &[bool], [dy, dx]: [f64; 2]) -> Vec<f64> {
        let within_columns = self.squares_within_columns(to, dy);
        let mut envelope = Envelope::default();
        let mut distances = Vec::new();
        let rows = from
            .chunks_exact(self.width)
            .zip(within_columns.chunks_exact(self.width));
        for (from, squares) in rows {
            if !from.contains(&true) {
                continue;
            }
            envelope.rebuild(squares, dx);
            let mut piece = 0;
            for x in (0..self.width).filter(|&x| from[x]) {
                distances.push(envelope.square_at(x as f64 * dx, &mut piece).sqrt());
            }
        }
        distances
    }

    /// The squared distance of every pixel to the nearest site of its own column; infinite where
    /// the column has none.
    fn squares_within_columns(&self, sites: &[bool], dy: f64) -> Vec<f64> {
        const NONE: usize = usize::MAX;
        let mut rows_away = vec![NONE; sites.len()];
        let mut nearest = vec![NONE; self.width];
        let mut sweep = |y: usize, nearest: &mut [usize]| {
            let start = y * self.width;
            for x in 0..self.width {
                nearest[x] = if sites[start + x] {
                    0
                } else {
                    nearest[x].saturating_add(1)
                };
                let away = &mut rows_away[start + x];
                *away = nearest[x].min(*away);
            }
        };
        for y in 0..self.height {
            sweep(y, &mut nearest);
        }
        nearest.fill(NONE);
        for y in (0..self.height).rev() {
            sweep(y, &mut nearest);
        }
        rows_away
            .into_iter()
            .map(|rows| match rows {
                NONE => f64::INFINITY,
                rows => (rows as f64 * dy).powi(2),
            })
            .collect()
    }
}

/// The lower envelope of one row's parabolas `square + (position - centre)²`.
#[derive(Default)]
struct Envelope {
    pieces: Vec<Piece>,
}

struct Piece {
    /// Where this parabola becomes the lowest.
    start: f64,
    centre: f64,
    square: f64,
}

impl Envelope {
    fn rebuild(&mut self, squares: &[f64], dx: f64) {
        self.pieces.clear();
        for (x, &square) in squares.iter().enumerate() {
            if square.is_infinite() {
                continue;
            }
            let centre = x as f64 * dx;
            let mut start = f64::NEG_INFINITY;
            while let Some(last) = self.pieces.last() {
                start = ((square + centre * centre) - (last.square + last.centre * last.centre))
                    / (2.0 * (centre - last.centre));
                if start > last.start {
                    break;
                }
                self.pieces.pop();
                start = f64::NEG_INFINITY;
            }
            self.pieces.push(Piece {
                start,
                centre,
                square,
            });
        }
    }

    /// The envelope at a position; `piece` remembers where the last, smaller position was found.
    fn square_at(&self, position: f64, piece: &mut usize) -> f64 {
        while self
            .pieces
            .get(*piece + 1)
            .is_some_and(|next| next.start <= position)
        {
            *piece += 1;
        }
        // Without a piece, every square was too large for a float.
        self.pieces
            .get(*piece)
            .map_or(f64::INFINITY, |Piece { centre, square, .. }| {
                square + (position - centre).powi(2)
            })
    }
}
