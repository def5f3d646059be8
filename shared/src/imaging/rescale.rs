//! Bringing 16-bit and floating-point intensities to 8 bits.

use std::cmp::Ordering;

use super::CHANNELS;
use super::page::Layout;

/// The percentile that becomes 255.
const HIGH_PERCENTILE: f64 = 99.9;

/// A page of which every channel was mapped to 0..=255.
pub(super) struct Rescaled {
    /// Three interleaved channels.
    pub(super) pixels: Vec<u8>,
    /// What became 0, by channel.
    pub(super) low: [f32; CHANNELS],
    /// What became 255, by channel.
    pub(super) high: [f32; CHANNELS],
}

/// Maps each channel linearly from its own 0th to 99.9th percentile to 0..=255, rounded half up, and clamped above.
///
/// The percentile is NumPy's `linear` one (Hyndman and Fan's type 7: the value at position `0.999 * (n - 1)` of the
/// `n` sorted ones, interpolated). A channel of one value becomes 0. `samples` must be finite and non-empty; a
/// single channel fills all three.
pub(super) fn rescale<T>(samples: &[T], layout: Layout) -> Rescaled
where
    T: Copy + PartialOrd + Into<f64>,
{
    let channels = layout.channels();
    let mut pixels = vec![0; samples.len() / channels * CHANNELS];
    let mut low = [0.0; CHANNELS];
    let mut high = [0.0; CHANNELS];
    let mut sorted: Vec<T> = Vec::with_capacity(samples.len() / channels);
    for channel in 0..channels {
        let values = samples.iter().copied().skip(channel).step_by(channels);
        sorted.clear();
        sorted.extend(values.clone());
        let (from, to) = range(&mut sorted);
        let targets = match layout {
            Layout::Gray => 0..CHANNELS,
            Layout::Rgb => channel..channel + 1,
        };
        for (pixel, value) in pixels.chunks_exact_mut(CHANNELS).zip(values) {
            pixel[targets.clone()].fill(to_byte(value.into(), from, to));
        }
        low[targets.clone()].fill(from as f32);
        high[targets].fill(to as f32);
    }
    Rescaled { pixels, low, high }
}

fn to_byte(value: f64, from: f64, to: f64) -> u8 {
    // The cast saturates, and takes 0/0 of a constant channel to 0; `from` is the minimum, so only the upper end clips.
    ((value - from) / (to - from) * 255.0 + 0.5).floor() as u8
}

/// The 0th and the 99.9th percentile.
fn range<T: Copy + PartialOrd + Into<f64>>(values: &mut [T]) -> (f64, f64) {
    let ascending = |a: &T, b: &T| a.partial_cmp(b).unwrap_or(Ordering::Equal);
    let position = HIGH_PERCENTILE / 100.0 * (values.len() - 1) as f64;
    let index = position as usize;
    let fraction = position - index as f64;
    let (below, &mut value, above) = values.select_nth_unstable_by(index, ascending);
    let minimum = below
        .iter()
        .copied()
        .min_by(ascending)
        .unwrap_or(value)
        .into();
    let value: f64 = value.into();
    let next: f64 = above
        .iter()
        .copied()
        .min_by(ascending)
        .map_or(value, Into::into);
    (minimum, value + (next - value) * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_interpolated_between_the_two_nearest_ranks() {
        // numpy.percentile(numpy.arange(340) ** 2, 99.9) == 114691.49700000003
        let mut squares: Vec<f32> = (0..340u16).map(|i| f32::from(i) * f32::from(i)).collect();
        squares.reverse();
        let (low, high) = range(&mut squares);
        assert_eq!(low, 0.0);
        assert!((high - 114_691.497).abs() < 1e-6, "{high}");
    }

    #[test]
    fn a_constant_channel_becomes_zero() {
        for value in [0.0f32, -7.5, f32::MAX] {
            let page = rescale(&[value; 12], Layout::Gray);
            assert_eq!(page.pixels, [0; 36]);
            assert_eq!((page.low, page.high), ([value; 3], [value; 3]));
        }
    }

    #[test]
    fn the_whole_range_of_f32_overflows_nothing() {
        let page = rescale(&[f32::MIN, f32::MAX], Layout::Gray);
        assert_eq!(page.pixels, [0, 0, 0, 255, 255, 255]);
    }

    #[test]
    fn channels_are_mapped_each_from_their_own_range() {
        let page = rescale(&[0u16, 10, 500, 1000, 20, 500], Layout::Rgb);
        assert_eq!(page.pixels, [0, 0, 0, 255, 255, 0]);
    }
}
