//! `glioseg-train`: training, evaluation and publishing of glioseg's models.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use glioseg_training::memory;

/// The model that is used where none is named.
const DEFAULT_MODEL: &[u8] = include_bytes!("../models/fast.onnx");

const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncode: MIT OR Apache-2.0",
    "\nbuilt-in model: CC BY-NC-SA 4.0, after the data that it was trained on",
    "\nresearch use only; not a medical device"
);

/// Train, evaluate and publish brain-tumour segmentation models. Research use only; not a medical device.
#[derive(Parser, Debug)]
#[command(name = "glioseg-train", version = VERSION, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Split(commands::split::SplitArgs),
    Fit(Box<commands::fit::FitArgs>),
    CrossValidate(Box<commands::cross_validate::CrossValidateArgs>),
    Export(commands::export::ExportArgs),
    Postprocess(commands::postprocess::PostprocessArgs),
    Evaluate(commands::evaluate::EvaluateArgs),
    Publish(commands::publish::PublishArgs),
    Rollback(commands::rollback::RollbackArgs),
    Train(commands::train::TrainArgs),
    Submit(Box<commands::submit::SubmitArgs>),
}

fn main() -> ExitCode {
    memory::keep_freed();
    let outcome = match Cli::parse().command {
        Command::Split(args) => commands::split::run(&args),
        Command::Fit(args) => commands::fit::run(&args),
        Command::CrossValidate(args) => commands::cross_validate::run(*args),
        Command::Export(args) => commands::export::run(&args),
        Command::Postprocess(args) => commands::postprocess::run(&args),
        Command::Evaluate(args) => commands::evaluate::run(&args),
        Command::Publish(args) => commands::publish::run(&args),
        Command::Rollback(args) => commands::rollback::run(&args),
        Command::Train(args) => commands::train::run(&args),
        Command::Submit(args) => commands::submit::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
