//! One file a command of `glioseg`.

pub(crate) mod demo;
pub(crate) mod retrain;
pub(crate) mod segment;
pub(crate) mod serve;

use std::num::NonZero;
use std::process::ExitCode;
use std::thread::available_parallelism;

use glioseg_local::folder::Fault;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::runtime::Runtime;

/// Anything that ends a command: shown to the user as it is.
pub(crate) type CommandError = Box<dyn std::error::Error + Send + Sync>;

/// What a command returns.
pub(crate) type Outcome = Result<ExitCode, CommandError>;

/// A bar for work that is counted in `unit`s; it shows nothing where nobody watches.
pub(crate) fn progress_bar(length: usize, doing: &str, unit: &str) -> ProgressBar {
    let template = format!("{doing} [{{bar:30}}] {{pos}}/{{len}} {unit}  {{elapsed}}  {{msg}}");
    let style =
        ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length as u64).with_style(style)
}

/// What the stack runs on.
pub(crate) fn runtime() -> std::io::Result<Runtime> {
    let cores = available_parallelism().map_or(1, NonZero::get);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // For reading and writing files, and for what two functions compute on all cores. Tokio's own bound of hundreds
        // would let as many threads fight for the cores, each with memory that it keeps.
        .max_blocking_threads(4 * cores)
        .build()
}

/// Names what was not dealt with; the command fails if there is anything.
pub(crate) fn tell_faults(faults: &[Fault]) -> ExitCode {
    for fault in faults {
        eprintln!("error: {fault}");
    }
    if faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
