//! From the pixels of a slice to the network's input, as the contract says.
//!
//! Training, evaluation and serving all come through here. Every normalisation maps an 8-bit
//! intensity to one value, so it is worked out once as a table of 256 values a channel and applied
//! while the pixels are laid on the grid.

use super::contract::{Input, Normalization};
use crate::imaging::grid::{self, Levels, Placement};
use crate::imaging::{CHANNELS, Slice};

/// A slice as the network takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// `3 * height * width` values: channel by channel, row by row.
    pub values: Vec<f32>,
    /// Where the slice lies on the network's grid.
    pub placement: Placement,
}

/// Prepares a slice, given the [`levels`] of the pixels it is normalised with.
///
/// The intensities are normalised first and the result is fitted to the grid; cells outside the
/// slice hold what intensity 0 became.
///
/// # Panics
/// When a side of `input` is zero; a validated contract has none.
#[must_use]
pub fn prepare(slice: &Slice, input: &Input, levels: &Levels) -> Prepared {
    let (values, placement) = grid::place(slice, input.grid(), input.fit, levels);
    Prepared { values, placement }
}

/// The normalised value of each intensity, by channel, for one slice (`[slice]`) or a whole volume.
///
/// Percentiles interpolate linearly between the closest ranks (NumPy's default), the standard
/// deviation is that of the population, both over all pixels of all slices; a channel of one single
/// value becomes 0.
#[must_use]
pub fn levels<'a>(
    slices: impl IntoIterator<Item = &'a Slice>,
    normalization: Normalization,
) -> Levels {
    match normalization {
        Normalization::Unit => [std::array::from_fn(|i| i as f32 / 255.0); CHANNELS],
        Normalization::PercentileZScore { low, high } => {
            histograms(slices).map(|histogram| z_scores(&histogram, low, high))
        }
    }
}

type Histogram = [u64; 256];

fn histograms<'a>(slices: impl IntoIterator<Item = &'a Slice>) -> [Histogram; CHANNELS] {
    let mut histograms = [[0; 256]; CHANNELS];
    for slice in slices {
        for pixel in slice.pixels().chunks_exact(CHANNELS) {
            for (histogram, &value) in histograms.iter_mut().zip(pixel) {
                histogram[usize::from(value)] += 1;
            }
        }
    }
    histograms
}

fn z_scores(histogram: &Histogram, low: f64, high: f64) -> [f32; 256] {
    let total: u64 = histogram.iter().sum();
    if total == 0 {
        return [0.0; 256];
    }
    let low = percentile(histogram, total, low);
    let high = percentile(histogram, total, high);
    let clipped = |intensity: usize| (intensity as f64).clamp(low, high);
    let mean_of = |value: &dyn Fn(f64) -> f64| {
        histogram
            .iter()
            .enumerate()
            .map(|(intensity, &count)| count as f64 * value(clipped(intensity)))
            .sum::<f64>()
            / total as f64
    };
    let mean = mean_of(&|x| x);
    let deviation = mean_of(&|x| (x - mean) * (x - mean)).sqrt();
    if high <= low || deviation <= 0.0 {
        return [0.0; 256];
    }
    std::array::from_fn(|intensity| ((clipped(intensity) - mean) / deviation) as f32)
}

/// The percentile of `total` values that are counted by intensity.
fn percentile(histogram: &Histogram, total: u64, percent: f64) -> f64 {
    let rank = percent / 100.0 * (total - 1) as f64;
    let below = rank.floor();
    let lower = nth(histogram, below as u64);
    let upper = nth(histogram, rank.ceil() as u64);
    lower + (rank - below) * (upper - lower)
}

/// The value at position `n`, from 0, of the sorted values.
fn nth(histogram: &Histogram, n: u64) -> f64 {
    let mut seen = 0;
    let intensity = histogram.iter().position(|&count| {
        seen += count;
        seen > n
    });
    intensity.unwrap_or(histogram.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::imaging::Intensity;
    use crate::imaging::grid::Fit;
    use crate::model::contract::Input;

    /// Made by `tests/goldens/inference/make_normalization_goldens.py` with NumPy.
    const GOLDENS: &str = include_str!("../../tests/goldens/inference/normalization.json");

    #[derive(serde::Deserialize)]
    struct Golden {
        low: f64,
        high: f64,
        width: usize,
        height: usize,
        /// Interleaved pixels, by slice.
        slices: Vec<Vec<u8>>,
        /// Planar values of the first slice, normalised over all of them.
        output: Vec<f32>,
    }

    fn input(side: u32) -> Input {
        Input {
            channels: Input::CHANNELS.to_vec(),
            width: side,
            height: side,
            fit: Fit::ShrinkPad,
        }
    }

    #[test]
    fn percentile_z_score_is_numpys() {
        let goldens: Vec<Golden> = serde_json::from_str(GOLDENS).unwrap();
        assert!(goldens.iter().any(|golden| golden.slices.len() > 1));
        for golden in goldens {
            let slices: Vec<Slice> = golden
                .slices
                .into_iter()
                .map(|p| Slice::new(golden.width, golden.height, p, Intensity::EightBit).unwrap())
                .collect();
            let levels = levels(
                &slices,
                Normalization::PercentileZScore {
                    low: golden.low,
                    high: golden.high,
                },
            );
            let prepared = prepare(&slices[0], &input(16), &levels);
            assert_eq!(prepared.values.len(), golden.output.len());
            for (ours, theirs) in prepared.values.iter().zip(&golden.output) {
                assert!((ours - theirs).abs() < 1e-5, "{ours} against {theirs}");
            }
        }
    }

    #[test]
    fn unit_divides_by_255_and_separates_the_channels() {
        let pixels = (0..256usize).flat_map(|i| [i as u8, 0, 255]).collect();
        let slice = Slice::new(16, 16, pixels, Intensity::EightBit).unwrap();
        let prepared = prepare(&slice, &input(16), &levels([&slice], Normalization::Unit));
        for (i, &value) in prepared.values[..256].iter().enumerate() {
            assert_eq!(value, i as f32 / 255.0);
        }
        assert!(prepared.values[256..512].iter().all(|&v| v == 0.0));
        assert!(prepared.values[512..].iter().all(|&v| v == 1.0));
    }

    #[test]
    fn a_channel_of_one_value_becomes_zero() {
        let slice = Slice::new(4, 4, vec![77; 48], Intensity::EightBit).unwrap();
        let levels = levels(
            [&slice],
            Normalization::PercentileZScore {
                low: 10.0,
                high: 99.0,
            },
        );
        assert_eq!(levels, [[0.0; 256]; CHANNELS]);
    }
}
