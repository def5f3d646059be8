//! Confidence intervals by resampling.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::quantile::quantile;

/// Number of resamples behind every interval.
pub const RESAMPLES: usize = 2000;

const SEED: u64 = 1;

/// The 2.5th and the 97.5th percentile of a statistic over resamples.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The 95 % percentile-bootstrap interval of `statistic`, over [`RESAMPLES`] resamples of `units`
/// with replacement.
///
/// A unit is what was drawn independently: a patient, not a slice. Resamples for which the
/// statistic is undefined (`None`) are left out; `None` when it is undefined for all. The same units
/// give the same interval on every call: the generator (ChaCha8) starts from a fixed seed, so that
/// several statistics of the same units also see the same resamples. Method: B. Efron,
/// R. J. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
#[must_use]
pub fn bootstrap<T>(units: &[T], statistic: impl Fn(&[&T]) -> Option<f64>) -> Option<Interval> {
    if units.is_empty() {
        return None;
    }
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut resample = Vec::with_capacity(units.len());
    let mut values = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        resample.clear();
        resample.extend((0..units.len()).map(|_| &units[random.random_range(0..units.len())]));
        values.extend(statistic(&resample));
    }
    values.sort_unstable_by(f64::total_cmp);
    Some(Interval {
        low: quantile(&values, 0.025)?,
        high: quantile(&values, 0.975)?,
    })
}
