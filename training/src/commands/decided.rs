//! The post-processing that a user decides.

use clap::{ArgAction, Args, value_parser};
use glioseg_training::calibrate::Decided;
use glioseg_training::package::GRID;
use glioseg_training::settings::boolean;

/// Pixels of the grid: a component of more cannot be.
const MOST_PIXELS: u64 = GRID as u64 * GRID as u64;

/// What comes between probabilities and mask, where somebody knows better than the patients at hand.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct DecidedArgs {
    /// Probability from which a pixel is tumour [default: of a new model what is plainest and good on the validation
    /// patients].
    #[arg(long, value_parser = probability)]
    threshold: Option<f32>,
    /// Whether what a mask encloses becomes tumour [default: of a new model true].
    #[arg(long, value_name = "true|false", action = ArgAction::Set, value_parser = boolean)]
    fill_holes: Option<bool>,
    /// Components stay only with a pixel of at least this probability [default: of a new model all may stay].
    #[arg(long, value_name = "PROBABILITY", value_parser = probability)]
    seed_probability: Option<f32>,
    /// Pixels of the smallest component that stays, such as cross-validation has chosen by more patients [default: of a
    /// new model what is plainest and good on the validation patients].
    #[arg(long, value_name = "PIXELS", value_parser = value_parser!(u64).range(1..=MOST_PIXELS))]
    minimum_component: Option<u64>,
}

impl DecidedArgs {
    /// The same for whoever makes or changes a model.
    pub(crate) fn decided(self) -> Decided {
        Decided {
            threshold: self.threshold,
            fill_holes: self.fill_holes,
            seed_probability: self.seed_probability,
            minimum_component_pixels: self.minimum_component,
        }
    }
}

fn probability(text: &str) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|&value| value > 0.0 && value < 1.0)
        .ok_or_else(|| "use a number above 0 and below 1".to_owned())
}
