//! A job watched to its end.

use std::time::Duration;

use super::call::CallError;
use super::jobs::{Job, SageMaker};
use super::logs::LogTail;
use super::state::{State, Status, Transition};

/// Looks in a row that may fail before the watching is given up: with the tries of each call and a pause of ten seconds
/// between them, ten minutes and more.
const MAX_FAILURES: u32 = 60;

/// Looks in a row at the log of a job that has ended which bring nothing new before it is taken for whole: CloudWatch may
/// have the last lines later than SageMaker the status.
const QUIET_LOOKS: u32 = 2;
/// Longest pause before such a look. Lines are on their way for seconds.
const MAX_QUIET_PAUSE: Duration = Duration::from_secs(5);

/// Whoever is told what becomes of a job.
pub trait Watcher {
    /// The job entered another part of its life.
    fn entered(&mut self, transition: &Transition);
    /// The job printed a line.
    fn printed(&mut self, line: &str);
    /// The job was looked at.
    fn seen(&mut self, state: &State);
    /// It could not be looked at, or its log could not be read; the watching goes on.
    fn missed(&mut self, error: &CallError);
}

/// Looks at a job, and at its log where there is one, until it ends and the log with it; pauses for `interval` in
/// between by `sleep`, which is [`tokio::time::sleep`] but for tests.
///
/// An outage is outlasted, as the job runs on without anybody watching. A log that may not be read is told of once.
///
/// # Errors
///
/// [`CallError`] of looking at the job, where it does not pass.
pub async fn follow(
    sagemaker: &SageMaker,
    job: &Job,
    mut log: Option<LogTail>,
    interval: Duration,
    sleep: impl AsyncFn(Duration),
    watcher: &mut impl Watcher,
) -> Result<State, CallError> {
    let mut known = 0;
    let mut failures = 0;
    loop {
        match sagemaker.describe(job).await {
            Ok(state) => {
                failures = 0;
                for transition in state.transitions.iter().skip(known) {
                    watcher.entered(transition);
                }
                known = state.transitions.len().max(known);
                tell_log(&mut log, watcher).await;
                watcher.seen(&state);
                if state.status != Status::Running {
                    let pause = interval.min(MAX_QUIET_PAUSE);
                    tell_rest(&mut log, async || sleep(pause).await, watcher).await;
                    return Ok(state);
                }
            }
            Err(error) if error.is_retryable() && failures < MAX_FAILURES => {
                failures += 1;
                watcher.missed(&error);
            }
            Err(error) => return Err(error),
        }
        sleep(interval).await;
    }
}

/// Tells what still comes of the log of a job that has ended.
async fn tell_rest(log: &mut Option<LogTail>, pause: impl AsyncFn(), watcher: &mut impl Watcher) {
    let mut quiet = 0;
    while log.is_some() && quiet < QUIET_LOOKS {
        pause().await;
        quiet = if tell_log(log, watcher).await {
            0
        } else {
            quiet + 1
        };
    }
}

/// Tells what is new in the log, and returns whether anything was; gives it up where it never can be read.
async fn tell_log(log: &mut Option<LogTail>, watcher: &mut impl Watcher) -> bool {
    let Some(tail) = log else { return false };
    match tail.next().await {
        Ok(lines) => {
            lines.iter().for_each(|line| watcher.printed(line));
            !lines.is_empty()
        }
        Err(error) => {
            watcher.missed(&error);
            if !error.is_retryable() {
                *log = None;
            }
            false
        }
    }
}
