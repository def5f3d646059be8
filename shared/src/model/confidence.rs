//! How good a mask is likely to be, by the probabilities that it was cut from.

use crate::imaging::{Mask, ProbabilityMap};

/// A mask and the probabilities behind it have different sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the mask has {}x{} pixels, its probabilities {}x{}",
    mask.0, mask.1, probability.0, probability.1
)]
pub struct MaskSizeMismatch {
    /// Columns and rows of the mask.
    pub mask: (usize, usize),
    /// Columns and rows of the probabilities.
    pub probability: (usize, usize),
}

/// An estimate (0..=1) of the Dice coefficient that a mask has with the truth, which need not be known.
///
/// With M the mask and p the probability of tumour of each pixel, 2·Σ p over M / (Σ p over all + |M|):
/// the Soft Dice Confidence of B. L. C. Borges, B. M. Pacheco and D. Silva, Soft Dice Confidence: A
/// Near-Optimal Confidence Estimator for Selective Prediction in Semantic Segmentation (2024),
/// arXiv:2402.10665. It puts the expected counts in place of the unknown ones, and of pixels that are
/// certain (0 or 1) it is the Dice coefficient itself.
///
/// An empty mask is the exception: the formula says 0, yet the mask is right (Dice 1) where there is no
/// tumour, and wrong (Dice 0) otherwise, so that its expected Dice is the chance of no tumour. That is
/// taken as 1 - max p, the most that the pixels leave room for, and the chance itself where the likelier
/// pixels belong to every tumour that the others belong to. (Independent pixels, Π (1 - p), would be far
/// off: tens of thousands of them with p = 0.0001 would make a tumour all but certain.)
///
/// It is as good as the probabilities are: of a model that is sure of what is wrong it is high.
///
/// # Errors
/// [`MaskSizeMismatch`] when the two differ in width or height.
pub fn soft_dice_confidence(
    mask: &Mask,
    probability: &ProbabilityMap,
) -> Result<f64, MaskSizeMismatch> {
    let sizes = MaskSizeMismatch {
        mask: (mask.width(), mask.height()),
        probability: (probability.width(), probability.height()),
    };
    if sizes.mask != sizes.probability {
        return Err(sizes);
    }
    let (mut inside, mut all, mut largest, mut area) = (0.0, 0.0, 0.0_f32, 0_u64);
    for (&p, &set) in probability.values().iter().zip(mask.pixels()) {
        all += f64::from(p);
        largest = largest.max(p);
        if set {
            inside += f64::from(p);
            area += 1;
        }
    }
    Ok(match area {
        0 => 1.0 - f64::from(largest),
        area => 2.0 * inside / (all + area as f64),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::scoring::Counts;

    /// One row of pixels: `#` for those of the mask.
    fn confidence(mask: &str, probability: &[f32]) -> f64 {
        let mask: Vec<bool> = mask.bytes().map(|b| b == b'#').collect();
        of(&mask, probability)
    }

    fn of(mask: &[bool], probability: &[f32]) -> f64 {
        let mask = Mask::new(mask.len(), 1, mask.to_vec()).unwrap();
        soft_dice_confidence(&mask, &map(probability)).unwrap()
    }

    fn map(probability: &[f32]) -> ProbabilityMap {
        ProbabilityMap::new(probability.len(), 1, probability.to_vec()).unwrap()
    }

    /// The expected Dice coefficient of independent pixels: the sum over every truth that there can be.
    fn expected_dice(mask: &[bool], probability: &[f32]) -> f64 {
        let outcomes = 0..1_u32 << mask.len();
        outcomes
            .map(|truth| {
                let (mut chance, mut both, mut sizes) = (1.0, 0, 0);
                for (i, (&set, &p)) in mask.iter().zip(probability).enumerate() {
                    let tumour = truth >> i & 1 == 1;
                    chance *= if tumour {
                        f64::from(p)
                    } else {
                        1.0 - f64::from(p)
                    };
                    both += u32::from(set && tumour);
                    sizes += u32::from(set) + u32::from(tumour);
                }
                match sizes {
                    0 => chance,
                    _ => chance * 2.0 * f64::from(both) / f64::from(sizes),
                }
            })
            .sum()
    }

    #[test]
    fn the_formula_by_hand() {
        // 2 (0.75 + 0.5) / ((0.75 + 0.5 + 0.25) + 2)
        assert_eq!(confidence("##.", &[0.75, 0.5, 0.25]), 2.5 / 3.5);
        // A mask beside what is likely: 2 · 0.25 / ((0.25 + 0.75) + 1)
        assert_eq!(confidence("#.", &[0.25, 0.75]), 0.25);
        assert_eq!(confidence("####", &[1.0; 4]), 1.0);
        assert_eq!(confidence("##", &[0.5; 2]), 2.0 / 3.0);
        assert_eq!(confidence("##..", &[0.0; 4]), 0.0);
    }

    #[test]
    fn an_empty_mask_is_as_good_as_no_tumour_is_likely() {
        assert_eq!(confidence("...", &[0.0; 3]), 1.0);
        assert_eq!(confidence("...", &[0.125, 0.25, 0.0]), 0.75);
        assert_eq!(confidence("..", &[1.0, 0.0]), 0.0);
    }

    #[test]
    fn small_probabilities_of_many_pixels_are_not_lost() {
        // 2^20 times 2^-24 is 1/16; in single precision nothing of it would remain beside 16.
        let mut probability = vec![1.0; 16];
        probability.extend(vec![2.0_f32.powi(-24); 1 << 20]);
        let mask: Vec<bool> = (0..probability.len()).map(|i| i < 16).collect();
        assert_eq!(of(&mask, &probability), 32.0 / (16.0 + 0.0625 + 16.0));
    }

    #[test]
    fn different_sizes_are_refused() {
        let refused = soft_dice_confidence(&Mask::empty(3, 1), &map(&[0.5; 2])).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the mask has 3x1 pixels, its probabilities 2x1"
        );
        assert!(soft_dice_confidence(&Mask::empty(1, 2), &map(&[0.5; 2])).is_err());
    }

    fn pixels(most: usize) -> impl Strategy<Value = (Vec<bool>, Vec<f32>)> {
        prop::collection::vec((any::<bool>(), 0.0..=1.0_f32), 1..most)
            .prop_map(|pixels| pixels.into_iter().unzip())
    }

    proptest! {
        #[test]
        fn of_certain_pixels_it_is_the_dice_coefficient(
            pixels in prop::collection::vec((any::<bool>(), any::<bool>()), 1..64)
        ) {
            let (mask, truth): (Vec<bool>, Vec<bool>) = pixels.into_iter().unzip();
            let certain: Vec<f32> = truth.iter().map(|&tumour| f32::from(tumour)).collect();
            let flat = |pixels: &[bool]| Mask::new(pixels.len(), 1, pixels.to_vec()).unwrap();
            let dice = Counts::of(&flat(&mask), &flat(&truth)).unwrap().dice();
            prop_assert_eq!(of(&mask, &certain), dice);
        }

        #[test]
        fn it_is_a_ratio((mask, probability) in pixels(64)) {
            let confidence = of(&mask, &probability);
            prop_assert!((0.0..=1.0).contains(&confidence), "{}", confidence);
        }

        #[test]
        fn it_rises_with_certainty_inside_and_falls_with_doubt_outside(
            (mask, mut probability) in pixels(64),
            pixel in any::<prop::sample::Index>(),
            higher in 0.0..=1.0_f32,
        ) {
            let pixel = pixel.index(mask.len());
            let before = of(&mask, &probability);
            probability[pixel] = probability[pixel].max(higher);
            let after = of(&mask, &probability);
            // Rounding may undo a change that is smaller than itself.
            if mask[pixel] {
                prop_assert!(after >= before - 1e-12, "{} < {}", after, before);
            } else {
                prop_assert!(after <= before + 1e-12, "{} > {}", after, before);
            }
        }

        // By Jensen's inequality: 2a / (|M| + a + b) is concave in the pixels found, a, and convex in those
        // missed, b.
        #[test]
        fn it_bounds_the_expected_dice_of_independent_pixels((mask, probability) in pixels(9)) {
            prop_assume!(mask.contains(&true));
            let only = |where_set: bool, otherwise: f32| -> Vec<f32> {
                let pairs = mask.iter().zip(&probability);
                pairs.map(|(&set, &p)| if set == where_set { p } else { otherwise }).collect()
            };
            let nothing_missed = only(true, 0.0);
            prop_assert!(of(&mask, &nothing_missed) >= expected_dice(&mask, &nothing_missed) - 1e-9);
            let nothing_invented = only(false, 1.0);
            prop_assert!(of(&mask, &nothing_invented) <= expected_dice(&mask, &nothing_invented) + 1e-9);
        }
    }
}
