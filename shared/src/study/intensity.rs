//! How intensities became 8-bit, as documents tell it.

use serde::{Deserialize, Serialize};

use crate::imaging::{CHANNELS, Intensity};

/// How stored intensities became 0..=255; [`Intensity`] in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntensityRecord {
    /// Whether the file held other than 8-bit values.
    pub rescaled: bool,
    /// What became 0, by channel; null where nothing was rescaled.
    pub low: Option<[f32; CHANNELS]>,
    /// What became 255, by channel; null where nothing was rescaled.
    pub high: Option<[f32; CHANNELS]>,
}

impl From<Intensity> for IntensityRecord {
    fn from(intensity: Intensity) -> Self {
        let (low, high) = match intensity {
            Intensity::EightBit => (None, None),
            Intensity::Rescaled { low, high } => (Some(low), Some(high)),
        };
        Self {
            rescaled: low.is_some(),
            low,
            high,
        }
    }
}

impl IntensityRecord {
    /// What it tells; `None` where it contradicts itself.
    #[must_use]
    pub fn intensity(&self) -> Option<Intensity> {
        match (self.rescaled, self.low, self.high) {
            (false, None, None) => Some(Intensity::EightBit),
            (true, Some(low), Some(high)) => Some(Intensity::Rescaled { low, high }),
            _ => None,
        }
    }
}
