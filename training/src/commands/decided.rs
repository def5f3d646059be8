//! The calibration that a user decides.

use clap::{ArgAction, Args, value_parser};
use glioseg_training::calibrate::{Calibration, Decided};
use glioseg_training::package::GRID;
use glioseg_training::settings::boolean;

/// Pixels of the grid: a component of more cannot be.
const MOST_PIXELS: u64 = GRID as u64 * GRID as u64;

/// What comes after the network, where somebody knows better than the patients at hand.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct CalibrationArgs {
    /// What the logits are divided by [default: the temperature of the least cross-entropy on the validation patients].
    #[arg(long, value_parser = temperature)]
    temperature: Option<f32>,
    #[command(flatten)]
    decided: DecidedArgs,
}

impl CalibrationArgs {
    /// The same for whoever makes a model.
    pub(crate) fn decided(self) -> Decided {
        Decided {
            temperature: self.temperature,
            ..self.decided.decided()
        }
    }
}

/// What comes between probabilities and mask, where somebody knows better than the patients at hand.
#[derive(Args, Clone, Copy, Debug, Default)]
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
            temperature: None,
            threshold: self.threshold,
            fill_holes: self.fill_holes,
            seed_probability: self.seed_probability,
            minimum_component_pixels: self.minimum_component,
        }
    }
}

/// A calibration as the flags that decide it.
pub(crate) fn flags(calibration: &Calibration) -> String {
    let Calibration {
        temperature,
        postprocessing: rule,
    } = calibration;
    let seed = rule.seed_probability;
    format!(
        "--temperature {temperature} --threshold {} --minimum-component {}{}{}",
        rule.threshold,
        rule.minimum_component_pixels.max(1),
        if rule.fill_holes {
            ""
        } else {
            " --fill-holes false"
        },
        seed.map_or_else(String::new, |seed| format!(" --seed-probability {seed}")),
    )
}

/// Networks are off by less; what is off by more is a slip of the keyboard.
fn temperature(text: &str) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|value| (0.01..=100.0).contains(value))
        .ok_or_else(|| "use a number from 0.01 to 100".to_owned())
}

fn probability(text: &str) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|&value| value > 0.0 && value < 1.0)
        .ok_or_else(|| "use a number above 0 and below 1".to_owned())
}
