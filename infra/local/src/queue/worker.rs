//! What takes messages from a queue to a function, as Lambda's event source mapping does.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::message::{message_id, payload};
use super::{DeadLetter, Message, Queue};

/// A function as Lambda sees it: an event in, an answer or an error out.
#[async_trait]
pub trait Invoke: Send + Sync + 'static {
    /// Runs the function once.
    ///
    /// # Errors
    ///
    /// What the function reports as its failure, as text.
    async fn invoke(&self, payload: Value) -> Result<Value, String>;
}

/// What a worker tells of messages that were not dealt with.
pub trait Failures: Send + Sync + 'static {
    /// A message will be handed out again.
    fn retried(&self, message: &Message, reason: &str);
    /// A message was given up.
    fn given_up(&self, letter: &DeadLetter);
    /// The queue's file could not be written.
    fn not_recorded(&self, error: &std::io::Error);
}

/// Runs a function over a queue until it is stopped.
pub struct Worker {
    stop: watch::Sender<bool>,
    running: JoinSet<()>,
}

impl Worker {
    /// Starts `concurrency` invocations side by side.
    pub fn start(
        queue: &Arc<Queue>,
        function: &Arc<dyn Invoke>,
        failures: &Arc<dyn Failures>,
        concurrency: usize,
    ) -> Self {
        let (stop, stopping) = watch::channel(false);
        let mut running = JoinSet::new();
        for _ in 0..concurrency.max(1) {
            let (queue, function, failures) = (
                Arc::clone(queue),
                Arc::clone(function),
                Arc::clone(failures),
            );
            let mut stopping = stopping.clone();
            running.spawn(async move {
                loop {
                    let batch = tokio::select! {
                        biased;
                        _ = stopping.wait_for(|&stop| stop) => return,
                        batch = queue.receive() => batch,
                    };
                    run(&queue, &function, &*failures, &batch).await;
                }
            });
        }
        Self { stop, running }
    }

    /// Hands out no more, and returns once what was handed out is settled.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.running.join_next().await.is_some() {}
    }
}

async fn run(
    queue: &Queue,
    function: &Arc<dyn Invoke>,
    failures: &dyn Failures,
    batch: &[Message],
) {
    let event = payload(queue.name(), batch);
    let function = Arc::clone(function);
    // In a task of its own, so that a panic fails this batch as it would fail a Lambda's invocation, and no more.
    let answer = tokio::spawn(async move { function.invoke(event).await }).await;
    let (failed, reason) = match answer {
        Ok(Ok(answer)) => match failed_messages(queue.name(), batch, &answer) {
            Ok(failed) => (
                failed,
                "the function reported it as failed; its log says why".to_owned(),
            ),
            Err(reason) => (all(batch), reason),
        },
        Ok(Err(reason)) => (all(batch), reason),
        Err(error) => (all(batch), error.to_string()),
    };
    match queue.settle(batch, &failed, &reason) {
        Ok(settled) => {
            for message in &settled.retried {
                failures.retried(message, &reason);
            }
            for letter in &settled.dead {
                failures.given_up(letter);
            }
        }
        Err(error) => failures.not_recorded(&error),
    }
}

fn all(batch: &[Message]) -> BTreeSet<u64> {
    batch.iter().map(|message| message.id).collect()
}

/// The messages that an answer names in `batchItemFailures`, by Lambda's rules: no list, or an empty one, is a success;
/// a name that is none of the batch's fails the whole batch.
fn failed_messages(
    queue: &str,
    batch: &[Message],
    answer: &Value,
) -> Result<BTreeSet<u64>, String> {
    let failures = match answer.get("batchItemFailures") {
        None | Some(Value::Null) => return Ok(BTreeSet::new()),
        Some(Value::Array(failures)) => failures,
        Some(other) => return Err(format!("batchItemFailures is no list: {other}")),
    };
    let ids: HashMap<String, u64> = batch
        .iter()
        .map(|message| (message_id(queue, message), message.id))
        .collect();
    failures
        .iter()
        .map(|failure| {
            let named = failure.get("itemIdentifier").and_then(Value::as_str);
            let id = named.and_then(|named| ids.get(named));
            id.copied().ok_or_else(|| {
                format!("batchItemFailures names no message of the batch: {failure}")
            })
        })
        .collect()
}
