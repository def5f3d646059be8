//! The settings of a training run as a user writes them: flags of `fit`, hyper-parameters of a job.
//!
//! One definition for both, so that names, ranges and defaults cannot come apart.

use clap::{ArgAction, Args, ValueEnum};
use glioseg_shared::imaging::grid::Fit;

use crate::augment::Preset;
use crate::loss::Loss;
use crate::optimise::Schedule;
use crate::recipe::{Architecture, Recipe};

/// How a slice comes to the network's grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FitToGrid {
    /// Pixels keep their size, and smaller slices get a border of zeros; larger ones are shrunk until they fit.
    #[value(alias = "crop-pad")]
    ShrinkPad,
    /// Slices are resampled to the grid, masks back to the slice.
    Resample,
}

/// Everything of a [`Recipe`] that a user decides, and whether its model sees mirror images too.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Network: lean-small, lean-medium, lean-fine (each also with -norm), lean-tiny-norm, efficient-lite0 (its
    /// encoder begins with weights from ImageNet), unet-F or attention-unet-F.
    #[arg(long, default_value = "efficient-lite0")]
    pub network: Architecture,
    /// Dropout rate.
    #[arg(long, default_value_t = 0.1, value_parser = fraction)]
    pub dropout: f64,
    /// Loss.
    #[arg(long, value_enum, default_value_t = Loss::TumourDiceCe)]
    pub loss: Loss,
    /// Epochs; 0 keeps the weights that the run begins with.
    #[arg(long, default_value_t = 24, value_parser = count)]
    pub epochs: usize,
    /// Slices a step.
    #[arg(long, default_value_t = 16, value_parser = positive)]
    pub batch: usize,
    /// How slices of another size than 256x256 come to the network's grid.
    #[arg(long, value_enum, default_value_t = FitToGrid::ShrinkPad)]
    pub fit: FitToGrid,
    /// Side of the random crop, pixels.
    #[arg(long, default_value_t = 192, value_parser = positive)]
    pub crop: usize,
    /// Highest learning rate.
    #[arg(long, default_value_t = 1e-3, value_parser = above_zero)]
    pub learning_rate: f64,
    /// Learning rate over time.
    #[arg(long, value_enum, default_value_t = Schedule::Cosine)]
    pub schedule: Schedule,
    /// Epochs over which the learning rate rises at first.
    #[arg(long, default_value_t = 1, value_parser = count)]
    pub warm_up_epochs: usize,
    /// Weight decay.
    #[arg(long, default_value_t = 1e-2, value_parser = fraction)]
    pub weight_decay: f64,
    /// Largest global norm of the gradients.
    #[arg(long, default_value_t = 1.0, value_parser = above_zero)]
    pub clip: f64,
    /// Random transforms.
    #[arg(long, value_enum, default_value_t = Preset::Strong)]
    pub augment: Preset,
    /// Oversampling: how often an epoch shows each slice with tumour.
    #[arg(long, default_value_t = 1, value_parser = positive)]
    pub tumour_repeats: usize,
    /// Least share of slices with tumour in an epoch; others are left out at random to reach it (0: show all).
    #[arg(long, default_value_t = 0.4, value_parser = fraction)]
    pub tumour_share: f64,
    /// Decay of the moving average of the weights (0: none).
    #[arg(long, default_value_t = 0.995, value_parser = fraction)]
    pub average: f64,
    /// End after this many epochs without a better validation Dice; without validation patients never.
    #[arg(long, default_value_t = 20, value_parser = positive)]
    pub patience: usize,
    /// Seed of everything random.
    #[arg(long, default_value_t = 155, value_parser = seed)]
    pub seed: u64,
    /// How the trained network looks at a slice.
    #[command(flatten)]
    pub views: Views,
}

/// How a trained network looks at a slice.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Views {
    /// Whether the model averages the logits of each slice and of its mirror image: better masks for twice the time.
    #[arg(long, value_name = "true|false", default_value_t = true, action = ArgAction::Set, value_parser = boolean)]
    pub mirror: bool,
}

impl Settings {
    /// The recipe of a run that begins with its network's first weights.
    #[must_use]
    pub fn recipe(&self) -> Recipe {
        Recipe {
            network: self.network.clone(),
            dropout: self.dropout,
            loss: self.loss,
            epochs: self.epochs,
            batch: self.batch,
            fit: match self.fit {
                FitToGrid::ShrinkPad => Fit::ShrinkPad,
                FitToGrid::Resample => Fit::Resample,
            },
            crop: self.crop,
            learning_rate: self.learning_rate,
            schedule: self.schedule,
            warm_up_epochs: self.warm_up_epochs,
            weight_decay: self.weight_decay,
            clip: self.clip,
            augmentation: self.augment.augmentation(),
            tumour_share: self.tumour_share,
            tumour_repeats: self.tumour_repeats,
            average: self.average,
            patience: self.patience,
            seed: self.seed,
            start: None,
        }
    }
}

/// More epochs, slices a step or pixels than any run has: a slip of the keyboard, not a plan.
const MOST: usize = 1_000_000;

/// A number from 0 to below 1.
///
/// # Errors
/// What is allowed, for any other text.
pub fn fraction(text: &str) -> Result<f64, String> {
    number(
        text,
        |value| (0.0..1.0).contains(&value),
        "from 0 to below 1",
    )
}

/// A number above 0.
///
/// # Errors
/// What is allowed, for any other text.
pub fn above_zero(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0 && value.is_finite(), "above 0")
}

/// A whole number from 0.
///
/// # Errors
/// What is allowed, for any other text.
pub fn count(text: &str) -> Result<usize, String> {
    whole(text, 0)
}

/// A whole number from 1.
///
/// # Errors
/// What is allowed, for any other text.
pub fn positive(text: &str) -> Result<usize, String> {
    whole(text, 1)
}

/// A real boolean: "False" is false.
///
/// # Errors
/// What is allowed, for any other text.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("use true or false (or 1 or 0)".to_owned()),
    }
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("use a whole number from 0 to {}", u64::MAX))
}

fn number(text: &str, allowed: impl Fn(f64) -> bool, range: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if allowed(value) => Ok(value),
        _ => Err(format!("use a number {range}")),
    }
}

fn whole(text: &str, least: usize) -> Result<usize, String> {
    match text.parse() {
        Ok(value) if (least..=MOST).contains(&value) => Ok(value),
        _ => Err(format!("use a whole number from {least} to {MOST}")),
    }
}
