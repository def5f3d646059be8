//! Changes of a sample's intensities in place.

use glioseg_shared::imaging::Channel;

use crate::augment::Draw;
use crate::kernels::elementary::{exp, ln};

/// Applies what a draw says of intensities, but for the noise, to the planes of an image of `size` (columns, rows).
pub(super) fn change(image: &mut [f32], size: [usize; 2], draw: &Draw, blur: &mut Blur) {
    let [columns, rows] = size;
    let area = columns * rows;
    let missing = [Channel::PreContrast, Channel::PostContrast];
    for (channel, _) in missing.into_iter().zip(draw.missing).filter(|(_, m)| *m) {
        let flair = Channel::Flair as usize * area;
        image.copy_within(flair..flair + area, channel as usize * area);
    }
    let factors = draw.sequences.into_iter().chain(std::iter::repeat(1.0));
    for (plane, factor) in image.chunks_exact_mut(area).zip(factors) {
        if factor != 1.0 {
            plane.iter_mut().for_each(|v| *v *= factor);
        }
        if draw.gamma != 1.0 {
            // x^g as exp(g ln x); the floor keeps the logarithm finite and is far below one grey level.
            let exponent = draw.gamma;
            plane
                .iter_mut()
                .for_each(|v| *v = exp(ln(v.max(1e-6)) * exponent));
        }
        if draw.blur != 0.0 {
            blur.mix_in(plane, columns, draw.blur);
        }
        let (factor, shift) = (draw.factor, draw.shift);
        plane.iter_mut().for_each(|v| *v = *v * factor + shift);
    }
}

/// The mean of a pixel and its up to eight neighbours.
#[derive(Debug, Default)]
pub(super) struct Blur {
    /// Sums of each pixel and its neighbours to the left and right, of the whole plane.
    sums: Vec<f32>,
    /// Pixels in those sums, by column.
    counts: Vec<f32>,
    /// Sums of nine, of one row.
    nines: Vec<f32>,
}

impl Blur {
    /// Moves every pixel towards the mean by this share of the way.
    fn mix_in(&mut self, plane: &mut [f32], columns: usize, share: f32) {
        let last = columns - 1;
        let count = |x: usize| 1 + usize::from(x > 0) + usize::from(x < last);
        self.counts.clear();
        self.counts.extend((0..columns).map(|x| count(x) as f32));
        self.sums.clear();
        self.sums.extend_from_slice(plane);
        let sums = self.sums.chunks_exact_mut(columns);
        for (sums, row) in sums.zip(plane.chunks_exact(columns)) {
            add(&mut sums[1..], &row[..last]);
            add(&mut sums[..last], &row[1..]);
        }
        let rows = plane.len() / columns;
        for (y, row) in plane.chunks_exact_mut(columns).enumerate() {
            let near = y.saturating_sub(1)..(y + 2).min(rows);
            let height = near.len() as f32;
            self.nines.clear();
            self.nines.resize(columns, 0.0);
            for sums in self.sums[near.start * columns..near.end * columns].chunks_exact(columns) {
                add(&mut self.nines, sums);
            }
            for ((value, nine), count) in row.iter_mut().zip(&self.nines).zip(&self.counts) {
                *value += (nine / (count * height) - *value) * share;
            }
        }
    }
}

fn add(to: &mut [f32], from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
}
