//! Everything that decides what a training run computes.

use std::fmt;
use std::str::FromStr;

use glioseg_shared::imaging::grid::Fit;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::augment::Augmentation;
use crate::loss::Loss;
use crate::networks::{
    Graph, Lean, Weights, attention_unet, efficient_lite0, efficient_lite0_encoder, fresh_weights,
    unet,
};
use crate::optimise::Schedule;

/// A training run: two runs with equal recipes on equal data, on the CPU of the same machine, give the same weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// The network.
    pub network: Architecture,
    /// Dropout rate of the network.
    pub dropout: f64,
    /// The loss.
    pub loss: Loss,
    /// Epochs; what an epoch shows is decided by [`Self::tumour_share`] and [`Self::tumour_repeats`].
    pub epochs: usize,
    /// Slices a step.
    pub batch: usize,
    /// How a slice of another size comes to the network's grid.
    pub fit: Fit,
    /// Side of the random square crop, pixels.
    pub crop: usize,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Learning rate over time.
    pub schedule: Schedule,
    /// Epochs over which the learning rate rises at first.
    pub warm_up_epochs: usize,
    /// Weight decay of AdamW.
    pub weight_decay: f64,
    /// Largest global norm of the gradients.
    pub clip: f64,
    /// Random transforms.
    pub augmentation: Augmentation,
    /// Least share of slices with tumour in an epoch: beyond the natural one, an epoch leaves out slices without.
    pub tumour_share: f64,
    /// How often an epoch shows each slice with tumour.
    pub tumour_repeats: usize,
    /// Decay of the exponential moving average of the weights; 0 uses the weights as they are.
    pub average: f64,
    /// Epochs without a better validation Dice after which training ends.
    pub patience: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// SHA-256 of the weights that training begins with; the network's first ones where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
}

/// A network by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// MONAI's UNet with this many filters in its first block.
    Unet(usize),
    /// MONAI's Attention U-Net with this many filters in its first block.
    AttentionUnet(usize),
    /// A lean network.
    Lean(LeanSize),
    /// A U-Net on EfficientNet-Lite0, whose encoder begins with weights that ImageNet gave it.
    EfficientLite0,
}

/// The lean networks on offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeanSize {
    /// 16 to 128 channels; residual blocks from a quarter of the resolution down.
    Small,
    /// [`LeanSize::Small`] with batch normalisation.
    SmallNorm,
    /// 16 to 160 channels, two blocks at the two lowest levels.
    Medium,
    /// [`LeanSize::Medium`] with batch normalisation.
    MediumNorm,
    /// 8 to 96 channels; residual blocks from half the resolution down.
    Fine,
    /// [`LeanSize::Fine`] with batch normalisation.
    FineNorm,
    /// 12 to 96 channels, residual blocks from a quarter of the resolution down, batch normalisation.
    TinyNorm,
}

const LEAN_SIZES: [(LeanSize, &str); 7] = [
    (LeanSize::Small, "lean-small"),
    (LeanSize::SmallNorm, "lean-small-norm"),
    (LeanSize::Medium, "lean-medium"),
    (LeanSize::MediumNorm, "lean-medium-norm"),
    (LeanSize::Fine, "lean-fine"),
    (LeanSize::FineNorm, "lean-fine-norm"),
    (LeanSize::TinyNorm, "lean-tiny-norm"),
];

/// Name of [`Architecture::EfficientLite0`].
const EFFICIENT_LITE0: &str = "efficient-lite0";

impl LeanSize {
    fn lean(self, dropout: f64) -> Lean {
        let (widths, encoder_blocks, decoder_blocks): (&[usize], &[usize], &[usize]) = match self {
            Self::Small | Self::SmallNorm => {
                (&[16, 24, 48, 96, 128], &[0, 1, 1, 1, 1], &[0, 1, 1, 1])
            }
            Self::Medium | Self::MediumNorm => {
                (&[16, 24, 48, 96, 160], &[0, 1, 1, 2, 2], &[0, 1, 1, 1])
            }
            Self::TinyNorm => (&[12, 16, 32, 64, 96], &[0, 1, 1, 1, 1], &[0, 1, 1, 1]),
            Self::Fine | Self::FineNorm => (&[8, 16, 32, 64, 96], &[1, 1, 1, 1, 1], &[1, 1, 1, 1]),
        };
        let batch_norm = !matches!(self, Self::Small | Self::Medium | Self::Fine);
        Lean {
            widths: widths.to_vec(),
            encoder_blocks: encoder_blocks.to_vec(),
            decoder_blocks: decoder_blocks.to_vec(),
            batch_norm,
            dropout,
        }
    }
}

impl Architecture {
    /// The network's operations.
    #[must_use]
    pub fn graph(&self, dropout: f64) -> Graph {
        match self {
            Self::Unet(filters) => unet(*filters, dropout),
            Self::AttentionUnet(filters) => attention_unet(*filters, dropout),
            Self::Lean(size) => size.lean(dropout).graph(),
            Self::EfficientLite0 => efficient_lite0(dropout),
        }
    }

    /// The weights that training begins with where there are no others: drawn by `seed`, but for an encoder that was
    /// trained before.
    #[must_use]
    pub fn first_weights(&self, graph: &Graph, seed: u64) -> Weights {
        let mut weights = fresh_weights(graph, &mut ChaCha8Rng::seed_from_u64(seed));
        if *self == Self::EfficientLite0 {
            weights.extend(efficient_lite0_encoder());
        }
        weights
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unet(filters) => write!(f, "unet-{filters}"),
            Self::AttentionUnet(filters) => write!(f, "attention-unet-{filters}"),
            Self::Lean(size) => {
                let name = LEAN_SIZES.iter().find(|(s, _)| s == size);
                f.write_str(name.map_or("lean", |(_, name)| name))
            }
            Self::EfficientLite0 => f.write_str(EFFICIENT_LITE0),
        }
    }
}

impl FromStr for Architecture {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((size, _)) = LEAN_SIZES.iter().find(|(_, name)| *name == text) {
            return Ok(Self::Lean(*size));
        }
        if text == EFFICIENT_LITE0 {
            return Ok(Self::EfficientLite0);
        }
        let filters = |digits: &str| {
            digits
                .parse()
                .ok()
                .filter(|f| (2..=128).contains(f) && f % 2 == 0)
        };
        if let Some(filters) = text.strip_prefix("unet-").and_then(filters) {
            return Ok(Self::Unet(filters));
        }
        if let Some(filters) = text.strip_prefix("attention-unet-").and_then(filters) {
            return Ok(Self::AttentionUnet(filters));
        }
        let names: Vec<_> = LEAN_SIZES.iter().map(|(_, name)| *name).collect();
        Err(format!(
            "unknown network `{text}`: use {}, {EFFICIENT_LITE0}, unet-F or attention-unet-F with F an even number of filters \
             from 2 to 128",
            names.join(", ")
        ))
    }
}

impl Serialize for Architecture {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Architecture {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for name in [
            "unet-16",
            "attention-unet-32",
            "lean-small",
            "lean-fine-norm",
            "efficient-lite0",
        ] {
            let network: Architecture = name.parse().expect("a known name");
            assert_eq!(network.to_string(), name);
        }
        for name in ["unet", "unet-0", "unet-7", "unet-4096", "lean", ""] {
            let error = name.parse::<Architecture>().expect_err("no such network");
            assert!(error.contains(&format!("`{name}`")), "{error}");
        }
    }

    #[test]
    fn lean_networks_stay_below_their_cost() {
        for (name, most) in [
            ("lean-small", 400),
            ("lean-medium", 420),
            ("lean-fine", 200),
        ] {
            let network: Architecture = name.parse().expect("a known name");
            let cost = network.graph(0.0).multiply_accumulates(256, 256) / 1_000_000;
            assert!(cost <= most, "{name}: {cost} MMAC");
        }
    }
}
