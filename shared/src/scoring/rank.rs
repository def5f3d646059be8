//! Correlation of ranks.

/// Spearman's rank correlation of pairs (-1..=1): Pearson's correlation of their ranks.
///
/// Equal values share the mean of the ranks that they take (mid-ranks). `None` for fewer than two pairs,
/// where one side is constant, where a value is NaN, and for sides of different lengths.
/// Source: C. Spearman, The Proof and Measurement of Association between Two Things, American Journal
/// of Psychology 15 (1904).
#[must_use]
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() != y.len() || x.iter().chain(y).any(|value| value.is_nan()) {
        return None;
    }
    let (x, y) = (centred_ranks(x), centred_ranks(y));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let spread = (dot(&x, &x) * dot(&y, &y)).sqrt();
    (spread > 0.0).then(|| (dot(&x, &y) / spread).clamp(-1.0, 1.0))
}

/// The mid-rank of each value, less the mean of all ranks.
fn centred_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    // Zeros of both signs are equal, and neighbours in the total order.
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let last = first + tied.len() - 1;
        let rank = (first + last) as f64 / 2.0;
        for &value in tied {
            ranks[value] = rank - (values.len() - 1) as f64 / 2.0;
        }
        first = last + 1;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_alone_count() {
        let x = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(spearman(&x, &[-7.0, 0.0, 0.001, 1e300]), Some(1.0));
        assert_eq!(spearman(&x, &[f64::INFINITY, 3.0, 2.0, 1.0]), Some(-1.0));
        // Without ties 1 - 6 Σd² / (n³ - n): here Σd² = 1 + 1.
        assert_eq!(spearman(&x, &[2.0, 1.0, 3.0, 4.0]), Some(0.8));
        assert_eq!(spearman(&x, &[2.0, 4.0, 1.0, 3.0]), Some(0.0));
    }

    #[test]
    fn equal_values_share_their_ranks() {
        assert_eq!(centred_ranks(&[5.0, 1.0, 5.0, 9.0]), [0.0, -1.5, 0.0, 1.5]);
        assert_eq!(centred_ranks(&[0.0, -0.0]), [0.0, 0.0]);
    }

    #[test]
    fn what_has_no_correlation_has_none() {
        assert_eq!(spearman(&[], &[]), None);
        assert_eq!(spearman(&[1.0], &[2.0]), None);
        assert_eq!(spearman(&[1.0, 2.0], &[3.0, 3.0]), None);
        assert_eq!(spearman(&[0.0, -0.0], &[1.0, 2.0]), None);
        assert_eq!(spearman(&[1.0, f64::NAN], &[1.0, 2.0]), None);
        assert_eq!(spearman(&[1.0, 2.0], &[1.0, 2.0, 3.0]), None);
    }
}
