//! Outlines of masks as polygons along the sides of pixels.
//!
//! Coordinates: x runs to the right and y down, in pixels, and the pixel in column `x` and row `y` is
//! the square from (x, y) to (x + 1, y + 1). Corners therefore lie at whole numbers, and a polygon
//! holds exactly the area of its pixels.

use super::Mask;

/// A corner of a pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Point {
    /// Columns to the left of it.
    pub x: usize,
    /// Rows above it.
    pub y: usize,
}

/// A closed polygon with horizontal and vertical sides in turn; its last corner joins its first.
///
/// The mask lies on the right of every side, as one walks from corner to corner: outer contours run
/// clockwise on the screen, those of holes counter-clockwise. A contour may touch itself in a
/// corner.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Contour {
    points: Vec<Point>,
    hole: bool,
}

impl Contour {
    /// The corners, at least four.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Whether this is the rim of a hole rather than of a component.
    #[must_use]
    pub fn is_hole(&self) -> bool {
        self.hole
    }

    /// Number of pixels inside the polygon, the holes of a component among them.
    #[must_use]
    pub fn area(&self) -> u64 {
        twice_signed_area(&self.points).unsigned_abs() / 2
    }
}

/// Follows all outlines of a mask, each from its first pixel side, in the order of those sides, row
/// by row.
///
/// Pixels that touch only by a corner are joined, so that there is one outer contour for every
/// 8-connected component; areas of outer contours less those of holes add up to the mask's. Nothing
/// is returned for an empty mask.
#[must_use]
pub fn contours(mask: &Mask) -> Vec<Contour> {
    let (width, height) = (mask.width(), mask.height());
    // Every contour has sides that lead east, each on top of a pixel of its own.
    let mut followed = vec![false; width * height];
    let mut contours = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let top = is_set(mask, x, y) && !is_set(mask, x, y.wrapping_sub(1));
            if top && !followed[y * width + x] {
                let points = follow(mask, Point { x, y }, &mut followed);
                let hole = twice_signed_area(&points) < 0;
                contours.push(Contour { points, hole });
            }
        }
    }
    contours
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Heading {
    East,
    South,
    West,
    North,
}

impl Heading {
    fn right(self) -> Self {
        match self {
            Self::East => Self::South,
            Self::South => Self::West,
            Self::West => Self::North,
            Self::North => Self::East,
        }
    }

    fn left(self) -> Self {
        self.right().right().right()
    }
}

/// Walks along the sides of pixels, the mask on the right, from a corner where the contour turns east
/// until it is back.
fn follow(mask: &Mask, start: Point, followed: &mut [bool]) -> Vec<Point> {
    let mut points = vec![start];
    let (mut at, mut heading) = (start, Heading::East);
    loop {
        let Point { x, y } = at;
        at = match heading {
            Heading::East => {
                followed[y * mask.width() + x] = true;
                Point { x: x + 1, y }
            }
            Heading::South => Point { x, y: y + 1 },
            Heading::West => Point { x: x - 1, y },
            Heading::North => Point { x, y: y - 1 },
        };
        let (west, north) = (at.x.wrapping_sub(1), at.y.wrapping_sub(1));
        let (north_west, north_east) = ((west, north), (at.x, north));
        let (south_west, south_east) = ((west, at.y), (at.x, at.y));
        let (left, right) = match heading {
            Heading::East => (north_east, south_east),
            Heading::South => (south_east, south_west),
            Heading::West => (south_west, north_west),
            Heading::North => (north_west, north_east),
        };
        // To look left first is what joins pixels that touch only by this corner.
        let next = if is_set(mask, left.0, left.1) {
            heading.left()
        } else if is_set(mask, right.0, right.1) {
            heading
        } else {
            heading.right()
        };
        if at == start && next == Heading::East {
            return points;
        }
        if next != heading {
            points.push(at);
        }
        heading = next;
    }
}

/// Whether a pixel is set; those outside the image, to which corners at its border wrap, are not.
fn is_set(mask: &Mask, x: usize, y: usize) -> bool {
    x < mask.width() && y < mask.height() && mask.pixels()[y * mask.width() + x]
}

/// The shoelace formula: positive for polygons that run clockwise on the screen.
fn twice_signed_area(points: &[Point]) -> i64 {
    let next = points.iter().cycle().skip(1);
    points
        .iter()
        .zip(next)
        .map(|(a, b)| a.x as i64 * b.y as i64 - b.x as i64 * a.y as i64)
        .sum()
}
