//! The pixels that a mask ends with.

use super::Mask;

/// The pixels of a mask with at least one of their four neighbours outside the mask or the image.
///
/// The mask without its erosion by a cross, as MONAI takes the edge that surface distances are
/// measured between.
#[must_use]
pub fn edge(mask: &Mask) -> Mask {
    let (width, height) = (mask.width(), mask.height());
    let mut edge = Mask::empty(width, height);
    let outside = vec![false; width];
    let row = |y: usize| &mask.pixels()[y * width..(y + 1) * width];
    for (y, edge) in edge.pixels_mut().chunks_exact_mut(width).enumerate() {
        let here = row(y);
        let above = if y > 0 { row(y - 1) } else { &outside };
        let below = if y + 1 < height { row(y + 1) } else { &outside };
        for x in 0..width {
            let inner = above[x]
                && below[x]
                && x > 0
                && here[x - 1]
                && here.get(x + 1).is_some_and(|&set| set);
            edge[x] = here[x] && !inner;
        }
    }
    edge
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keeps_the_rim_and_what_touches_the_image_border() {
        let full = Mask::new(4, 3, vec![true; 12]).unwrap();
        let rim: Vec<bool> = (0..12).map(|i| i != 5 && i != 6).collect();
        assert_eq!(edge(&full).pixels(), rim);
        let lone = Mask::new(1, 1, vec![true]).unwrap();
        assert_eq!(edge(&lone), lone);
        assert!(edge(&Mask::empty(3, 3)).is_empty());
    }
}
