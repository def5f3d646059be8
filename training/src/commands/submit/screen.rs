//! What is shown of a job while it is watched.

use std::time::Duration;

use glioseg_training::submit::Watcher;
use glioseg_training::submit::call::CallError;
use glioseg_training::submit::jobs::Job;
use glioseg_training::submit::state::{State, Transition};
use indicatif::ProgressBar;

use crate::commands::progress_bar;

/// The log of a job line by line, and below it a bar, where there is a terminal.
pub(super) struct Screen {
    title: String,
    bar: ProgressBar,
    done: u64,
}

impl Screen {
    pub(super) fn new(job: &Job) -> Self {
        let title = job.to_string();
        let bar = ProgressBar::new_spinner().with_message(title.clone());
        bar.enable_steady_tick(Duration::from_millis(500));
        Self {
            title,
            bar,
            done: 0,
        }
    }

    /// Takes the bar away.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }

    fn line(&self, line: &str) {
        self.bar.suspend(|| println!("{line}"));
    }

    /// Makes the bar where it is known at last how much there is to do.
    fn of(&mut self, total: u64, unit: &str) {
        if self.bar.length() != Some(total) {
            self.bar.finish_and_clear();
            let total = usize::try_from(total).unwrap_or(usize::MAX);
            self.bar = progress_bar(total, &self.title, unit);
            self.bar.enable_steady_tick(Duration::from_secs(1));
        }
    }
}

impl Watcher for Screen {
    fn entered(&mut self, transition: &Transition) {
        self.line(&match transition.status_message.as_str() {
            "" => format!("== {}", transition.status),
            message => format!("== {}: {message}", transition.status),
        });
    }

    fn printed(&mut self, line: &str) {
        if let Some(epoch) = epoch(line) {
            self.done = epoch;
        }
        self.line(line);
    }

    fn seen(&mut self, state: &State) {
        if let Some([done, total]) = state.progress {
            self.of(total, "training jobs");
            if done != self.done && self.bar.is_hidden() {
                self.line(&format!("{done} of {total} training jobs have ended"));
            }
            self.done = done;
        } else if let Some(epochs) = state.epochs {
            self.of(epochs, "epochs");
        }
        self.bar.set_position(self.done);
        self.bar.set_message(state.phase.clone());
    }

    fn missed(&mut self, error: &CallError) {
        self.bar
            .suspend(|| eprintln!("warning: {error}; the job runs on"));
    }
}

/// The number of the epoch that a line of `fit` tells of: `epoch 3/60 loss=…`.
fn epoch(line: &str) -> Option<u64> {
    let (epoch, _) = line.strip_prefix("epoch ")?.split_once('/')?;
    epoch.parse().ok()
}
