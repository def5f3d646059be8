//! Which statistics the planes of a batch share in, and how they make them up.

use super::Group;

/// Channel of a plane, and the position of the statistics that it shares in.
pub(super) fn place(plane: usize, channels: usize, group: Group) -> (usize, usize) {
    let channel = plane % channels;
    match group {
        Group::Batch => (channel, channel),
        Group::Instance => (channel, plane),
    }
}

/// One over the deviation that a normalisation divides by.
pub(super) fn inverse(variance: f32, epsilon: f64) -> f32 {
    (1.0 / (f64::from(variance) + epsilon).sqrt()) as f32
}

/// Means and variances of the groups from those of their planes, all of one size (Chan et al. 1979).
pub(super) fn pooled(planes: &[[f64; 2]], channels: usize, group: Group) -> (Vec<f32>, Vec<f32>) {
    match group {
        Group::Instance => planes.iter().map(|[m, v]| (*m as f32, *v as f32)).unzip(),
        Group::Batch => (0..channels)
            .map(|channel| {
                let own = || planes.iter().skip(channel).step_by(channels);
                let count = own().count() as f64;
                let mean = own().map(|[m, _]| m).sum::<f64>() / count;
                let variance = own().map(|[m, v]| v + (m - mean) * (m - mean)).sum::<f64>() / count;
                (mean as f32, variance as f32)
            })
            .unzip(),
    }
}
