//! `glioseg`: brain-tumour segmentation on one machine, from a demonstration to the whole stack.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\ncode: MIT OR Apache-2.0",
    "\nbuilt-in model: CC BY-NC-SA 4.0, after the data that it was trained on",
    "\nresearch use only; not a medical device"
);

const EXAMPLES: &str = "Examples:
  glioseg demo                                  a drawn study through the whole stack, with a report
  glioseg demo --data kaggle_3m/TCGA_CS_4941_19960909
  glioseg segment kaggle_3m --out results --truth
  glioseg serve                                 an S3 endpoint and an HTTP API on this machine
  glioseg retrain                               from labelled slices to a new model that serves, and back";

/// Brain-tumour segmentation of MRI slices on one machine. Research use only; not a medical device.
///
/// A slice is an image of pre-contrast, FLAIR and post-contrast (RGB), or of FLAIR alone (grey), as TIFF or PNG; the
/// answer is a mask of the FLAIR abnormality. Nothing leaves this machine.
#[derive(Parser, Debug)]
#[command(name = "glioseg", version = VERSION, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Demo(commands::demo::DemoArgs),
    Segment(commands::segment::SegmentArgs),
    Serve(commands::serve::ServeArgs),
    Retrain(commands::retrain::RetrainArgs),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(args) => commands::demo::run(&args),
        Command::Segment(args) => commands::segment::run(&args),
        Command::Serve(args) => commands::serve::run(&args),
        Command::Retrain(args) => commands::retrain::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
