//! The statistics of the data set that phantoms are drawn from.
//!
//! Measured on the 71 training patients of the split of every reported figure (2,511 slices) by
//! `shared/tests/goldens/phantom/make_phantom_statistics.py`, which says how, and frozen before any model was run on a
//! phantom. Each [`Spread`] lists the 5th, 25th, 50th, 75th and 95th percentile over patients, of the patient's median
//! slice where a figure is one of slices.

use rand_chacha::ChaCha8Rng;

use super::noise::uniform;
use crate::imaging::CHANNELS;

/// Percentiles of a quantity: the 5th, 25th, 50th, 75th and 95th.
#[derive(Clone, Copy)]
pub(super) struct Spread(pub(super) [f32; 5]);

/// The ranks of a [`Spread`]'s values, as 0..=1 between its first and its last.
const RANKS: [f32; 5] = [0.0, 2.0 / 9.0, 0.5, 7.0 / 9.0, 1.0];

impl Spread {
    /// The value at `rank`, 0 being the 5th and 1 the 95th percentile, linear between those known.
    pub(super) fn at(&self, rank: f32) -> f32 {
        interpolate(&RANKS, &self.0, rank)
    }

    /// The rank of a value: the inverse of [`Spread::at`].
    pub(super) fn rank(&self, value: f32) -> f32 {
        interpolate(&self.0, &RANKS, value)
    }

    /// A value between the 5th and the 95th percentile; the tails are left out.
    pub(super) fn sample(&self, rng: &mut ChaCha8Rng) -> f32 {
        self.at(uniform(rng))
    }
}

/// Linear interpolation in a table with ascending `keys`, constant beyond its ends.
fn interpolate(keys: &[f32], values: &[f32], key: f32) -> f32 {
    for (k, v) in keys.windows(2).zip(values.windows(2)) {
        if key <= k[1] {
            let part = ((key - k[0]) / (k[1] - k[0])).max(0.0);
            return v[0] + part * (v[1] - v[0]);
        }
    }
    values[values.len() - 1]
}

/// Grey level of the brain's median, by channel (`brain_median`).
pub(super) const BRAIN: [Spread; CHANNELS] = [
    Spread([32.3, 43.0, 56.0, 70.0, 83.9]),
    Spread([36.35, 45.0, 57.0, 61.75, 73.275]),
    Spread([31.9, 44.75, 58.5, 70.25, 79.0]),
];

/// Correlation of two channels' logarithmic grey levels over patients (`log_brain_median_correlation`, mean of three).
pub(super) const GAIN_CORRELATION: f32 = 0.58;

/// Scalp and marrow relative to the brain (`scalp_to_brain`: the 90th percentile of the rim).
pub(super) const SCALP: [Spread; CHANNELS] = [
    Spread([1.3146, 1.8195, 2.2638, 2.5213, 3.2023]),
    Spread([1.4278, 2.019, 2.3116, 2.6615, 3.3798]),
    Spread([1.1031, 1.8966, 2.1348, 2.3354, 2.8073]),
];

/// Cortical bone relative to the brain (`rim_dark_to_brain`: the 15th percentile of the rim).
pub(super) const BONE: [Spread; CHANNELS] = [
    Spread([0.0585, 0.0918, 0.129, 0.2016, 0.323]),
    Spread([0.0725, 0.1085, 0.1333, 0.1674, 0.221]),
    Spread([0.1203, 0.1549, 0.1978, 0.2977, 0.4456]),
];

/// The darkest fluid relative to the brain (`brain_p1_to_median`).
pub(super) const FLUID: [Spread; CHANNELS] = [
    Spread([0.0844, 0.1775, 0.3529, 0.4262, 0.5063]),
    Spread([0.0896, 0.1464, 0.2109, 0.3056, 0.4161]),
    Spread([0.0995, 0.2707, 0.3765, 0.4423, 0.5798]),
];

/// White matter relative to the brain's median; brighter than [`GREY`] but on FLAIR.
///
/// With grey matter, fluid and partial volume, they give the brain's quartiles (`brain_p25_to_median`,
/// `brain_p75_to_median`).
pub(super) const WHITE: [f32; CHANNELS] = [1.12, 1.02, 1.13];

/// Grey matter relative to the brain's median.
pub(super) const GREY: [f32; CHANNELS] = [0.91, 1.19, 0.92];

/// Lesion relative to the brain around it (`lesion_to_brain`).
pub(super) const LESION: [Spread; CHANNELS] = [
    Spread([0.592, 0.7869, 0.8805, 0.952, 1.0548]),
    Spread([1.1748, 1.2973, 1.5127, 1.7873, 2.0704]),
    Spread([0.6168, 0.7915, 0.8724, 0.9593, 1.0504]),
];

/// The darkest part of some lesions (`lesion_p10_to_brain`, 5th percentile).
pub(super) const CYST: [f32; CHANNELS] = [0.42, 0.84, 0.47];

/// The background's 95th percentile relative to the brain (`background_p95_to_brain`).
pub(super) const BACKGROUND: [Spread; CHANNELS] = [
    Spread([0.0272, 0.0462, 0.0588, 0.0699, 0.1031]),
    Spread([0.0477, 0.0721, 0.0933, 0.1115, 0.2099]),
    Spread([0.0272, 0.0482, 0.0632, 0.0734, 0.1152]),
];

/// Amplitude of the bias field: `bias_spread_to_brain` over the standard deviation of the field, 0.25.
pub(super) const BIAS: [Spread; CHANNELS] = [
    Spread([0.10, 0.13, 0.17, 0.22, 0.33]),
    Spread([0.09, 0.13, 0.15, 0.19, 0.32]),
    Spread([0.10, 0.13, 0.17, 0.20, 0.31]),
];

/// Share of patients whose post-contrast channel is a copy of FLAIR: 9 of 71.
pub(super) const SHARE_WITHOUT_POST_CONTRAST: f32 = 0.127;

/// Share of patients whose pre-contrast channel is one as well: 5 of 71.
pub(super) const SHARE_WITHOUT_PRE_CONTRAST: f32 = 0.070;

/// Share of patients whose lesion enhances (`share_enhancing`).
pub(super) const SHARE_ENHANCING: f32 = 0.083;

/// Pixels of a lesion on the slice where it is largest (`tumour_largest_area`).
pub(super) const LARGEST_AREA: Spread = Spread([843.5, 1547.5, 2691.0, 4166.5, 6133.0]);

/// Share of a study's slices with tumour (`tumour_slice_share`).
pub(super) const TUMOUR_SLICE_SHARE: Spread = Spread([0.1806, 0.2743, 0.3514, 0.433, 0.5168]);

/// Way up through the study of a lesion's centre (`tumour_centre_z`).
pub(super) const CENTRE_UP: Spread = Spread([0.4061, 0.4828, 0.6104, 0.6661, 0.8027]);

/// A lesion's distance from the midline, in half widths of the head (`tumour_offset_x`).
pub(super) const OFFSET_X: Spread = Spread([0.1178, 0.2564, 0.3464, 0.4071, 0.5389]);

/// A lesion's place from front to back, in half heights of the head (`tumour_offset_y`).
pub(super) const OFFSET_Y: Spread = Spread([-0.4536, -0.2839, -0.1753, 0.0103, 0.3471]);

/// Width of the head in pixels on its middle slices (`head_width_middle`).
pub(super) const HEAD_WIDTH: Spread = Spread([154.0, 164.0, 172.0, 180.0, 207.0]);

/// Height of the head in pixels on its middle slices (`head_height_middle`).
pub(super) const HEAD_HEIGHT: Spread = Spread([189.0, 204.0, 213.0, 223.0, 243.0]);

/// Outline of the typical head at one level, in pixels.
#[derive(Clone, Copy)]
pub(super) struct Profile {
    pub(super) width: f32,
    pub(super) height: f32,
    pub(super) centre_x: f32,
    pub(super) centre_y: f32,
}

/// Levels of [`OUTLINE`]: the middles of the tenths of the way up, and the vertex.
const LEVELS: [f32; 11] = [
    0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95, 1.0,
];

/// Width, height and centre by level (`head_by_tenth_of_the_way_up`, the last row continued).
const OUTLINE: [[f32; 11]; 4] = [
    [
        180.5, 184.0, 184.0, 181.0, 176.0, 173.0, 168.0, 156.0, 133.0, 111.5, 85.0,
    ],
    [
        215.0, 220.5, 221.0, 220.0, 218.0, 215.0, 206.0, 190.0, 167.0, 136.5, 105.0,
    ],
    [
        128.5, 128.5, 128.5, 128.1, 127.9, 127.9, 127.75, 127.7, 127.9, 128.2, 128.2,
    ],
    [
        124.4, 126.6, 130.9, 133.6, 134.6, 135.6, 137.2, 138.8, 139.2, 140.4, 140.4,
    ],
];

impl Profile {
    /// The outline at a level, 0..=1 of the way up.
    pub(super) fn at(up: f32) -> Self {
        let [width, height, centre_x, centre_y] = OUTLINE.map(|row| interpolate(&LEVELS, &row, up));
        Self {
            width,
            height,
            centre_x,
            centre_y,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn spreads_interpolate_between_their_percentiles_and_back() {
        assert_eq!(LARGEST_AREA.at(0.0), LARGEST_AREA.0[0]);
        assert_eq!(LARGEST_AREA.at(0.5), LARGEST_AREA.0[2]);
        assert_eq!(LARGEST_AREA.at(1.0), LARGEST_AREA.0[4]);
        for rank in [0.1, 0.3, 0.6, 0.9] {
            assert!((LARGEST_AREA.rank(LARGEST_AREA.at(rank)) - rank).abs() < 1e-5);
        }
    }

    #[test]
    fn the_frozen_table_is_what_was_measured() {
        let measured: serde_json::Value = serde_json::from_str(include_str!(
            "../../../tests/goldens/phantom/statistics.json"
        ))
        .unwrap();
        let agrees = |spread: &Spread, group: &str, name: &str| {
            let list = measured[group][name].as_array().unwrap();
            assert_eq!(list.len(), spread.0.len());
            for (frozen, value) in spread.0.iter().zip(list) {
                let value = value.as_f64().unwrap() as f32;
                assert!(
                    (frozen - value).abs() <= 1e-4 * value.abs().max(1.0),
                    "{name}: {frozen}"
                );
            }
        };
        for (spreads, name) in [
            (&BRAIN, "brain_median"),
            (&SCALP, "scalp_to_brain"),
            (&BONE, "rim_dark_to_brain"),
            (&FLUID, "brain_p1_to_median"),
            (&LESION, "lesion_to_brain"),
            (&BACKGROUND, "background_p95_to_brain"),
        ] {
            for (spread, channel) in spreads
                .iter()
                .zip(["pre_contrast", "flair", "post_contrast"])
            {
                let name = format!("{channel}.{name}");
                agrees(spread, "over_patients_of_the_median_slice", &name);
            }
        }
        for (spread, name) in [
            (&LARGEST_AREA, "tumour_largest_area"),
            (&TUMOUR_SLICE_SHARE, "tumour_slice_share"),
            (&CENTRE_UP, "tumour_centre_z"),
            (&OFFSET_X, "tumour_offset_x"),
            (&OFFSET_Y, "tumour_offset_y"),
        ] {
            agrees(spread, "over_patients_or_slices", name);
        }
        let outline = measured["head_by_tenth_of_the_way_up"].as_array().unwrap();
        for (row, name) in OUTLINE
            .iter()
            .zip(["width", "height", "centre_x", "centre_y"])
        {
            for (frozen, level) in row.iter().zip(outline) {
                assert!((f64::from(*frozen) - level[name].as_f64().unwrap()).abs() < 0.1);
            }
        }
    }
}
