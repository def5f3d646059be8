//! The slices where a look is worth most.

/// Most slices that are named.
const MOST: usize = 5;

/// The slices to look at first: the tenth of them with the lowest `expected_dice`, at least one and at most five.
///
/// The lowest comes first, and equal ones stay in their order. `expected_dice` is that of a slice's report. A slice
/// alone is not named: there is nothing that it comes before.
#[must_use]
pub fn look_first<T>(slices: &[T], expected_dice: impl Fn(&T) -> f64) -> Vec<&T> {
    if slices.len() < 2 {
        return Vec::new();
    }
    let mut first: Vec<&T> = slices.iter().collect();
    first.sort_by(|a, b| expected_dice(a).total_cmp(&expected_dice(b)));
    first.truncate((slices.len() / 10).clamp(1, MOST));
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_tenth_comes_first() {
        let of = |slices: &[f64]| -> Vec<f64> {
            look_first(slices, |&dice| dice)
                .into_iter()
                .copied()
                .collect()
        };
        assert_eq!(of(&[]), [0.0; 0]);
        assert_eq!(of(&[0.1]), [0.0; 0]);
        assert_eq!(of(&[0.9, 0.1]), [0.1]);
        let falling: Vec<f64> = (0..39).map(|i| 1.0 - f64::from(i) / 64.0).collect();
        assert_eq!(of(&falling), [38.0, 37.0, 36.0].map(|i| 1.0 - i / 64.0));
        assert_eq!(of(&[0.5; 1000]).len(), MOST);
    }

    #[test]
    fn equal_slices_stay_in_their_order() {
        let slices: Vec<usize> = (0..40).collect();
        let first = look_first(&slices, |&slice| if slice == 7 { 0.0 } else { 0.5 });
        assert_eq!(first, [&7, &0, &1, &2]);
    }
}
