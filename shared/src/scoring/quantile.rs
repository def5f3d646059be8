//! Quantiles of samples.

/// The `q`-quantile (0..=1) of sorted values, linear between neighbours.
///
/// Definition 7 of Hyndman and Fan, Sample Quantiles in Statistical Packages (1996): the default of
/// NumPy and PyTorch. `None` for no values.
pub(super) fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = q * last as f64;
    let below = (position as usize).min(last);
    let above = (below + 1).min(last);
    let share = position - below as f64;
    Some(sorted[below] + (sorted[above] - sorted[below]) * share)
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn agrees_with_numpy() {
        // numpy.quantile([1, 2, 4, 8, 16], q)
        let values = [1.0, 2.0, 4.0, 8.0, 16.0];
        for (q, expected) in [
            (0.0, 1.0),
            (0.1, 1.4),
            (0.5, 4.0),
            (0.95, 14.4),
            (1.0, 16.0),
        ] {
            let value = quantile(&values, q);
            assert!(
                value.is_some_and(|v| (v - expected).abs() < 1e-12),
                "{q}: {value:?}"
            );
        }
        assert_eq!(quantile(&[3.0], 0.7), Some(3.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
