//! From the network's output to masks, as the contract says.

use super::contract::Postprocessing;
use super::error::ModelError;
use crate::imaging::components::{
    UnequalSlices, fill_holes, keep_largest, keep_largest_3d, keep_seeded, keep_seeded_3d,
    remove_small, remove_small_3d,
};
use crate::imaging::grid::{self, Fit, Placement};
use crate::imaging::{ImagingError, Mask, ProbabilityMap};

/// The tumour probabilities of an image, from the logits on the network's grid.
///
/// # Errors
/// [`ImagingError::Shape`] when `logits` has not one value for each cell of the grid.
pub fn probabilities(
    logits: &[f32],
    placement: &Placement,
) -> Result<ProbabilityMap, ImagingError> {
    let on_grid: Vec<f32> = logits.iter().map(|&logit| sigmoid(logit)).collect();
    grid::restore(&on_grid, placement)
}

/// Pixels of the image in the smallest component that stays. Where the image was shrunk these are as many more as make up
/// one that the network saw: the same part of a head whatever the scanner's matrix. Models that resample count pixels of
/// the image.
fn smallest_component(postprocessing: &Postprocessing, placement: &Placement) -> u64 {
    let pixels = postprocessing.minimum_component_pixels;
    match placement.fit {
        Fit::ShrinkPad if pixels > 1 => {
            (pixels as f64 * placement.pixels_per_placed()).round() as u64
        }
        Fit::ShrinkPad | Fit::Resample => pixels,
    }
}

/// The mask of a slice by itself, which lay on the grid as `placement` says; components are counted in two dimensions.
#[must_use]
pub fn mask(
    probabilities: &ProbabilityMap,
    placement: &Placement,
    postprocessing: &Postprocessing,
) -> Mask {
    let foreground = foreground(probabilities, postprocessing);
    components(foreground, probabilities, placement, postprocessing)
}

/// The first half of [`mask`]: what is tumour by the threshold, and the holes in it.
#[must_use]
pub fn foreground(probabilities: &ProbabilityMap, postprocessing: &Postprocessing) -> Mask {
    let mask = probabilities.threshold(postprocessing.threshold);
    if postprocessing.fill_holes {
        fill_holes(&mask)
    } else {
        mask
    }
}

/// The second half of [`mask`]: the components of a [`foreground`] that stay.
#[must_use]
pub fn components(
    foreground: Mask,
    probabilities: &ProbabilityMap,
    placement: &Placement,
    postprocessing: &Postprocessing,
) -> Mask {
    let mut mask = foreground;
    if let Some(seed) = postprocessing.seed_probability {
        mask = keep_seeded(&mask, probabilities, seed);
    }
    let smallest = smallest_component(postprocessing, placement);
    if smallest > 1 {
        mask = remove_small(&mask, smallest);
    }
    if postprocessing.keep_largest {
        mask = keep_largest(&mask);
    }
    mask
}

/// The masks of all slices of a volume, in their order, each of which lay on the grid as `placement` says; components are
/// counted in three dimensions, holes are those of slices.
///
/// # Errors
/// [`ModelError::UnequalSlices`] when the slices differ in size.
pub fn volume_masks(
    probabilities: &[ProbabilityMap],
    placement: &Placement,
    postprocessing: &Postprocessing,
) -> Result<Vec<Mask>, ModelError> {
    let mut masks: Vec<Mask> = probabilities
        .iter()
        .map(|slice| foreground(slice, postprocessing))
        .collect();
    if let Some(seed) = postprocessing.seed_probability {
        masks = keep_seeded_3d(&masks, probabilities, seed).map_err(unequal_slices)?;
    }
    let smallest = smallest_component(postprocessing, placement);
    if smallest > 1 {
        masks = remove_small_3d(&masks, smallest).map_err(unequal_slices)?;
    }
    if postprocessing.keep_largest {
        masks = keep_largest_3d(&masks).map_err(unequal_slices)?;
    }
    Ok(masks)
}

/// 1 / (1 + exp(-x)), without overflow for any finite x.
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn unequal_slices(error: UnequalSlices) -> ModelError {
    ModelError::UnequalSlices {
        index: error.index,
        actual: error.actual,
        first: error.first,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::imaging::grid::Grid;
    use crate::model::postprocess;

    fn map(width: usize, values: &[f32]) -> ProbabilityMap {
        ProbabilityMap::new(width, values.len() / width, values.to_vec()).unwrap()
    }

    /// Of an image as large as the grid.
    const PLACED: Placement = Placement {
        image: Grid {
            width: 1,
            height: 1,
        },
        grid: Grid {
            width: 1,
            height: 1,
        },
        fit: Fit::ShrinkPad,
    };

    fn mask(probabilities: &ProbabilityMap, rule: &Postprocessing) -> Mask {
        postprocess::mask(probabilities, &PLACED, rule)
    }

    fn volume_masks(
        probabilities: &[ProbabilityMap],
        rule: &Postprocessing,
    ) -> Result<Vec<Mask>, ModelError> {
        postprocess::volume_masks(probabilities, &PLACED, rule)
    }

    fn rule(minimum_component_pixels: u64, keep_largest: bool) -> Postprocessing {
        Postprocessing {
            threshold: 0.5,
            fill_holes: false,
            seed_probability: None,
            minimum_component_pixels,
            keep_largest,
        }
    }

    #[test]
    fn sigmoid_stays_a_probability_for_any_logit() {
        assert_eq!(sigmoid(0.0), 0.5);
        assert_eq!(sigmoid(-1e4), 0.0);
        assert_eq!(sigmoid(1e4), 1.0);
        assert!((f64::from(sigmoid(-3.0)) - 1.0 / (1.0 + 3.0f64.exp())).abs() < 1e-7);
    }

    #[test]
    fn logits_become_probabilities_of_the_image_size() {
        let placement = Placement {
            image: Grid {
                width: 3,
                height: 1,
            },
            grid: Grid {
                width: 2,
                height: 2,
            },
            fit: Fit::Resample,
        };
        let restored = probabilities(&[0.0, 1e4, 0.0, 1e4], &placement).unwrap();
        assert_eq!(restored.values(), &[0.5, 0.75, 1.0]);
    }

    #[test]
    fn the_smallest_component_grows_with_what_a_shrunk_pixel_stands_for() {
        let grid = |side| Grid {
            width: side,
            height: side,
        };
        let smallest = |rule: Postprocessing, side, fit| {
            let placement = Placement {
                image: grid(side),
                grid: grid(256),
                fit,
            };
            smallest_component(&rule, &placement)
        };
        for (side, pixels) in [(100, 64), (256, 64), (512, 256), (384, 144), (300, 88)] {
            assert_eq!(smallest(rule(64, false), side, Fit::ShrinkPad), pixels);
            assert_eq!(smallest(rule(64, false), side, Fit::Resample), 64);
        }
        assert_eq!(smallest(rule(0, false), 512, Fit::ShrinkPad), 0);
        assert_eq!(smallest(rule(1, false), 512, Fit::ShrinkPad), 1);

        // Four pixels in a row and two, of an image that the network saw at half its width: the smallest component of 2
        // pixels has 4 here.
        let row = map(8, &[0.9, 0.9, 0.9, 0.9, 0.0, 0.9, 0.9, 0.0]);
        let halved = Placement {
            image: Grid {
                width: 8,
                height: 1,
            },
            grid: Grid {
                width: 4,
                height: 1,
            },
            fit: Fit::ShrinkPad,
        };
        let area =
            |placement: &Placement| postprocess::mask(&row, placement, &rule(2, false)).area();
        assert_eq!(halved.pixels_per_placed(), 2.0);
        assert_eq!((area(&PLACED), area(&halved)), (6, 4));
        let volume = [row.clone()];
        let masks = postprocess::volume_masks(&volume, &halved, &rule(2, false)).unwrap();
        assert_eq!(masks[0].area(), 4);
    }

    #[test]
    fn the_threshold_itself_counts_as_tumour() {
        let kept = mask(&map(3, &[0.499, 0.5, 0.501]), &rule(0, false));
        assert_eq!(kept.pixels(), &[false, true, true]);
    }

    #[test]
    fn small_components_go_and_the_largest_stays() {
        let two = map(7, &[0.9, 0.0, 0.9, 0.9, 0.0, 0.9, 0.0]);
        assert_eq!(mask(&two, &rule(0, false)).area(), 4);
        assert_eq!(mask(&two, &rule(2, false)).area(), 2);
        assert_eq!(mask(&two, &rule(0, true)).area(), 2);
        assert_eq!(mask(&two, &rule(3, true)).area(), 0);
    }

    #[test]
    fn holes_fill_before_components_are_counted_and_seeds_decide_which_stay() {
        #[rustfmt::skip]
        let ring_and_spot = map(6, &[
            0.6, 0.6, 0.6, 0.0, 0.0, 0.0,
            0.6, 0.1, 0.6, 0.0, 0.7, 0.9,
            0.6, 0.6, 0.6, 0.0, 0.0, 0.0,
        ]);
        let filled = Postprocessing {
            fill_holes: true,
            ..rule(9, false)
        };
        assert_eq!(mask(&ring_and_spot, &rule(9, false)).area(), 0);
        assert_eq!(mask(&ring_and_spot, &filled).area(), 9);
        let seeded = |seed: f32| Postprocessing {
            seed_probability: Some(seed),
            ..rule(0, false)
        };
        for (seed, area) in [(0.6, 10), (0.7, 2), (0.9, 2), (0.91, 0)] {
            assert_eq!(mask(&ring_and_spot, &seeded(seed)).area(), area, "{seed}");
        }
        // Across slices, the seed of one keeps what touches it in the next.
        let below = map(
            6,
            &[
                0.0, 0.0, 0.0, 0.0, 0.6, 0.0, 0.6, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
                0.0, 0.0,
            ],
        );
        let volume = [ring_and_spot, below];
        let kept = volume_masks(&volume, &seeded(0.9)).unwrap();
        assert_eq!(kept.iter().map(Mask::area).collect::<Vec<_>>(), [2, 1]);
        let kept = volume_masks(&volume, &filled).unwrap();
        assert_eq!(kept.iter().map(Mask::area).collect::<Vec<_>>(), [9, 1]);
    }

    #[test]
    fn a_volume_counts_its_components_across_slices() {
        // A column of three voxels through the slices, and two neighbours in the first slice.
        let column = [0.9, 0.0, 0.0, 0.0, 0.0];
        let first = [0.9, 0.0, 0.0, 0.9, 0.9];
        let volume = [map(5, &first), map(5, &column), map(5, &column)];
        let kept = volume_masks(&volume, &rule(3, false)).unwrap();
        assert_eq!(kept.iter().map(Mask::area).collect::<Vec<_>>(), [1, 1, 1]);
        let kept = volume_masks(&volume, &rule(0, true)).unwrap();
        assert_eq!(kept.iter().map(Mask::area).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!(mask(&volume[0], &rule(0, true)).area(), 2);
    }

    #[test]
    fn a_volume_of_unequal_slices_is_refused() {
        let volume = [map(1, &[0.9]), map(2, &[0.9, 0.9])];
        assert!(matches!(
            volume_masks(&volume, &rule(2, false)),
            Err(ModelError::UnequalSlices { index: 1, .. })
        ));
    }
}
