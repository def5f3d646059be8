//! Hyper-parameters: texts by name, as SageMaker hands them on.
//!
//! They are the flags of `fit` by the same names, with the same ranges and defaults, and a few of a job's own.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::{self, Write as _};
use std::path::{Component, Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{ArgAction, CommandFactory, Parser, ValueEnum};
use glioseg_shared::cloud::keys::Channel;
use serde_json::Value;

use super::container::Container;
use crate::device::Device;
use crate::settings::{Settings, above_zero, boolean, count, fraction};

/// What `from` is where a job begins with the first weights of its network.
const NONE: &str = "none";

/// What becomes of slices that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CorruptSlices {
    /// The job fails at the first.
    Stop,
    /// Each is named in the log and left out.
    Skip,
}

/// What a job is told.
#[derive(Clone, Debug, Parser)]
#[command(disable_help_flag = true)]
pub struct HyperParameters {
    /// What the recipe is made of.
    #[command(flatten)]
    pub settings: Settings,
    /// Cross-validation: validate on this fold (from 0) of the split and train on the others.
    #[arg(long, value_parser = count)]
    pub fold: Option<usize>,
    /// Device to train on.
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub device: Device,
    /// Keep all slices on the device when they take at most this many GiB there.
    #[arg(long, default_value_t = 4.0, value_parser = above_zero)]
    pub resident_gib: f64,
    /// Begin with the best weights of this checkpoint, CHANNEL/FILE of one of the job's channels; or none.
    #[arg(long, default_value = NONE, value_parser = none_or_file)]
    pub from: String,
    /// What becomes of slices that cannot be read.
    #[arg(long, value_enum, default_value_t = CorruptSlices::Stop)]
    pub corrupt_slices: CorruptSlices,
    /// Channel that is to serve the model.
    #[arg(long, default_value = "fast")]
    pub channel: Channel,
    /// Name that the model's version begins with [default: the channel's].
    #[arg(long)]
    pub name: Option<String>,
    /// Whether the model is written to MODELS_URI.
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_parser = boolean)]
    pub publish: bool,
    /// Whether it is to serve if it is no worse than the model that serves.
    #[arg(long, default_value_t = true, action = ArgAction::Set, value_parser = boolean)]
    pub promote: bool,
    /// Mean volume Dice of the validation patients by which it must at least be better; at 0 it must be no worse.
    #[arg(long, default_value_t = 0.0, value_parser = fraction)]
    pub margin: f64,
    /// Whether the test patients are scored too, once all is decided.
    #[arg(long, default_value_t = false, action = ArgAction::Set, value_parser = boolean)]
    pub score_test: bool,
}

/// Hyper-parameters that cannot be meant.
#[derive(Debug, thiserror::Error)]
pub struct HyperParameterError {
    wrong: Vec<String>,
    unknown: Vec<String>,
}

impl fmt::Display for HyperParameterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [self.wrong.as_slice(), &self.unknown].concat();
        f.write_str(&all.join("; "))?;
        if !self.unknown.is_empty() {
            write!(f, ". The hyper-parameters are {}", names().join(", "))?;
        }
        Ok(())
    }
}

impl HyperParameters {
    /// Reads hyper-parameters; those that are missing have their defaults.
    ///
    /// SageMaker adds some of its own (`_tuning_objective_metric`, `sagemaker_…`), which are passed over. A text in
    /// quotes within the text, as SageMaker's Python SDK writes them, is taken without them.
    ///
    /// # Errors
    /// Everything that is unknown, no text, or out of its range, by name, with what is allowed.
    pub fn read(given: &BTreeMap<String, Value>) -> Result<Self, HyperParameterError> {
        let mut arguments = Vec::new();
        let (mut wrong, mut unknown) = (Vec::new(), Vec::new());
        let names = names();
        for (name, value) in given {
            if name.starts_with('_') || name.starts_with("sagemaker_") {
                continue;
            }
            if !names.contains(name) {
                unknown.push(no_such(name, &names));
                continue;
            }
            let Value::String(text) = value else {
                wrong.push(format!(
                    "hyper-parameter {name} is {value}: write it as a text, \"{value}\""
                ));
                continue;
            };
            let text = serde_json::from_str::<String>(text).unwrap_or_else(|_| text.clone());
            let argument = format!("--{name}={text}");
            // By itself, so that every fault is found; each of the others has its default.
            match Self::try_parse_from(["job", argument.as_str()]) {
                Ok(_) => arguments.push(argument),
                Err(error) => wrong.push(format!(
                    "hyper-parameter {name} is {text:?}: {}",
                    allowed(&error)
                )),
            }
        }
        if !wrong.is_empty() || !unknown.is_empty() {
            return Err(HyperParameterError { wrong, unknown });
        }
        let all = std::iter::once("job".to_owned()).chain(arguments);
        Self::try_parse_from(all).map_err(|error| HyperParameterError {
            wrong: vec![error.to_string()],
            unknown: Vec::new(),
        })
    }

    /// The checkpoint to begin with, a file of one of the container's channels.
    ///
    /// # Errors
    /// By name, with what is allowed, where there is no such file in a channel.
    pub fn start(&self, container: &Container) -> Result<Option<PathBuf>, HyperParameterError> {
        if self.from == NONE {
            return Ok(None);
        }
        let file = container.file_of_channel(&self.from);
        file.map(Some).map_err(|error| HyperParameterError {
            wrong: vec![format!("hyper-parameter from is {:?}: {error}", self.from)],
            unknown: Vec::new(),
        })
    }

    /// Name that the model's version begins with.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.channel.as_str())
    }

    /// All hyper-parameters, a line each: name, meaning, default, and what is allowed.
    #[must_use]
    pub fn help() -> String {
        let mut text = String::new();
        for argument in Self::command().get_arguments() {
            let (Some(name), Some(help)) = (argument.get_long(), argument.get_help()) else {
                continue;
            };
            let _ = write!(text, "  {name}: {help}");
            let possible: Vec<_> = argument
                .get_possible_values()
                .iter()
                .map(|value| value.get_name().to_owned())
                .collect();
            if !possible.is_empty() {
                let _ = write!(text, " [{}]", possible.join(", "));
            }
            if let [default] = argument.get_default_values() {
                let _ = write!(text, " [default: {}]", default.to_string_lossy());
            }
            text.push('\n');
        }
        text
    }
}

/// `none`, or a path of a channel and a file in it that cannot lead anywhere else by itself.
fn none_or_file(text: &str) -> Result<String, String> {
    let leads_down = |part| matches!(part, Component::Normal(_));
    let path = Path::new(text);
    if text == NONE || (path.components().count() > 1 && path.components().all(leads_down)) {
        Ok(text.to_owned())
    } else {
        Err("use none, or CHANNEL/FILE: a file of one of the job's channels, not an absolute path and without ..".to_owned())
    }
}

fn names() -> Vec<String> {
    let command = HyperParameters::command();
    let arguments = command.get_arguments();
    arguments
        .filter_map(|argument| argument.get_long().map(str::to_owned))
        .collect()
}

/// What would have been allowed instead of a value.
fn allowed(error: &clap::Error) -> String {
    if let Some(ContextValue::Strings(values)) = error.get(ContextKind::ValidValue) {
        return format!("use one of {}", values.join(", "));
    }
    match error.source() {
        Some(reason) => reason.to_string(),
        None => error.kind().to_string(),
    }
}

fn no_such(name: &str, names: &[String]) -> String {
    let unknown = format!("there is no hyper-parameter {name:?}");
    let meant = name.to_ascii_lowercase().replace('_', "-");
    let nearest = names
        .iter()
        .map(|known| (edits(&meant, known), known))
        .min();
    match nearest {
        // Further away it would be a guess.
        Some((edits, known)) if edits <= known.len() / 3 => {
            format!("{unknown}, did you mean {known}?")
        }
        _ => unknown,
    }
}

/// The Levenshtein distance: letters to insert, delete or exchange.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(given: &[(&str, &str)]) -> Result<HyperParameters, String> {
        let given = given.iter().map(|(name, text)| {
            let value = Value::String((*text).to_owned());
            ((*name).to_owned(), value)
        });
        HyperParameters::read(&given.collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn false_is_false_however_it_is_written() {
        for (text, meant) in [
            ("False", false),
            ("false", false),
            ("FALSE", false),
            ("0", false),
            ("True", true),
            ("true", true),
            ("1", true),
            ("\"false\"", false),
        ] {
            for name in ["publish", "promote", "score-test"] {
                let read = read(&[(name, text)]).unwrap();
                let value = match name {
                    "publish" => read.publish,
                    "promote" => read.promote,
                    _ => read.score_test,
                };
                assert_eq!(value, meant, "{name} {text}");
            }
        }
        for text in ["", "no", "None", "2", "falsch"] {
            let said = read(&[("publish", text)]).unwrap_err();
            assert!(said.contains("publish"), "{said}");
            assert!(said.contains("true or false"), "{said}");
        }
    }

    #[test]
    fn texts_become_what_they_mean() {
        let read = read(&[
            ("network", "unet-16"),
            ("epochs", "0"),
            ("learning-rate", "1e-4"),
            ("batch", "\"32\""),
            ("fold", "2"),
            ("channel", "accurate"),
            ("corrupt-slices", "skip"),
            ("from", "start/checkpoint.bin"),
            ("_tuning_objective_metric", "Val_dice"),
            ("sagemaker_region", "\"eu-west-1\""),
        ])
        .unwrap();
        let recipe = read.settings.recipe();
        assert_eq!(recipe.network.to_string(), "unet-16");
        assert_eq!((recipe.epochs, recipe.batch), (0, 32));
        assert!((recipe.learning_rate - 1e-4).abs() < 1e-15);
        assert_eq!(read.fold, Some(2));
        assert_eq!(read.corrupt_slices, CorruptSlices::Skip);
        assert_eq!(read.name(), "accurate");
        assert_eq!(read.from, "start/checkpoint.bin");
        let nowhere = Container::new(Path::new("nowhere"));
        assert_eq!(self::read(&[]).unwrap().start(&nowhere).unwrap(), None);
    }

    #[test]
    fn what_is_out_of_range_is_named_with_what_is_allowed() {
        for (name, text, allowed) in [
            ("epochs", "-1", "whole number from 0"),
            ("epochs", "ten", "whole number from 0"),
            ("batch", "0", "whole number from 1"),
            ("learning-rate", "0", "above 0"),
            ("learning-rate", "NaN", "above 0"),
            ("dropout", "1", "from 0 to below 1"),
            ("margin", "-0.1", "from 0 to below 1"),
            ("seed", "-3", "whole number from 0"),
            ("fold", "first", "whole number from 0"),
            ("network", "resnet", "lean-medium-norm"),
            ("loss", "mse", "batch-dice-ce"),
            ("schedule", "step", "cosine"),
            ("augment", "weak", "strong"),
            ("device", "tpu", "auto, cpu"),
            ("corrupt-slices", "ignore", "stop, skip"),
            ("channel", "a/b", "a/b"),
            ("from", "/opt/ml/checkpoints/checkpoint.bin", "CHANNEL/FILE"),
            ("from", "start/../../../checkpoints/c.bin", "CHANNEL/FILE"),
            ("from", "../data/start/c.bin", "CHANNEL/FILE"),
            ("from", "checkpoint.bin", "CHANNEL/FILE"),
            ("from", "", "use none, or"),
        ] {
            let said = read(&[(name, text)]).unwrap_err();
            assert!(said.contains(&format!("hyper-parameter {name}")), "{said}");
            assert!(said.contains(allowed), "{said}");
        }
    }

    #[test]
    fn what_is_unknown_is_named_with_the_nearest_name() {
        let said = read(&[("learning_rate", "0.1"), ("epoch", "3"), ("batch", "0")]).unwrap_err();
        assert!(said.contains("\"learning_rate\", did you mean learning-rate?"));
        assert!(said.contains("\"epoch\", did you mean epochs?"), "{said}");
        assert!(said.contains("hyper-parameter batch"), "{said}");
        assert!(said.contains("warm-up-epochs"), "{said}");
        let said = read(&[("momentum", "0.9")]).unwrap_err();
        assert!(!said.contains("did you mean"), "{said}");
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let given = BTreeMap::from([("epochs".to_owned(), Value::from(3))]);
        let said = HyperParameters::read(&given).unwrap_err().to_string();
        assert!(
            said.contains("epochs is 3") && said.contains("\"3\""),
            "{said}"
        );
    }

    #[test]
    fn help_names_every_hyper_parameter_with_its_default() {
        let help = HyperParameters::help();
        for name in names() {
            assert!(help.contains(&format!("  {name}: ")), "{name}");
        }
        assert!(help.contains("[default: efficient-lite0]"), "{help}");
        assert!(help.contains("[stop, skip] [default: stop]"), "{help}");
    }

    #[test]
    fn letters_are_counted() {
        for (a, b, expected) in [
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("same", "same", 0),
        ] {
            assert_eq!(edits(a, b), expected, "{a} {b}");
        }
    }
}
