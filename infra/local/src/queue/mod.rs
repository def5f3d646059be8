//! A queue before each function, as SQS stands before a Lambda: batches, retries, dead letters; kept over restarts.

mod journal;
mod message;
mod worker;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;

use self::journal::{Entry, Journal};
use crate::s3::ObjectCreated;

pub use message::payload;
pub use worker::{Failures, Invoke, Worker};

/// How a queue treats its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Messages handed out together at most.
    pub batch_size: usize,
    /// How often a message is handed out before it goes to the dead letters.
    pub max_receive_count: u32,
    /// How long a message that was not dealt with stays hidden. In SQS the clock runs from the receipt, as nobody
    /// knows whether the receiver still lives; here it runs from the failure.
    pub retry_after: Duration,
}

impl Default for Policy {
    /// The template's defaults, but for a shorter wait: nobody else's service has to recover here.
    fn default() -> Self {
        Self {
            batch_size: 10,
            max_receive_count: 5,
            retry_after: Duration::from_secs(2),
        }
    }
}

/// A message, as small as it can be kept: its text is written when it is handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its number in this queue.
    pub id: u64,
    /// How often it was handed out.
    pub receives: u32,
    /// The object that it tells of.
    pub object: ObjectCreated,
}

/// A message that was handed out too often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message.
    pub message: Message,
    /// Why it failed the last time.
    pub reason: String,
}

/// How many messages are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// To be handed out, now or after a while.
    pub waiting: usize,
    /// Handed out.
    pub in_flight: usize,
    /// Given up.
    pub dead: usize,
}

impl Counts {
    /// Messages that are still to be dealt with.
    #[must_use]
    pub fn pending(self) -> usize {
        self.waiting + self.in_flight
    }
}

/// What became of the failed messages of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Will be handed out again.
    pub retried: Vec<Message>,
    /// Will not.
    pub dead: Vec<DeadLetter>,
}

/// A queue.
pub struct Queue {
    name: String,
    policy: Policy,
    state: Mutex<State>,
    /// Something was put into the queue.
    arrived: Notify,
    /// Something has left it.
    left: Notify,
}

struct State {
    journal: Journal,
    next: u64,
    waiting: VecDeque<Message>,
    /// Messages that failed, by the moment from which they are handed out again.
    hidden: BTreeMap<(Instant, u64), Message>,
    in_flight: BTreeMap<u64, Message>,
    dead: BTreeMap<u64, DeadLetter>,
}

impl Queue {
    /// Opens a queue, with the messages that its last user left in the file.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read or written.
    pub fn open(name: impl Into<String>, path: PathBuf, policy: Policy) -> io::Result<Self> {
        let (journal, left) = Journal::open(path)?;
        let state = State {
            journal,
            next: left.next,
            waiting: left.waiting.into_values().collect(),
            hidden: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            dead: left.dead,
        };
        Ok(Self {
            name: name.into(),
            policy,
            state: Mutex::new(state),
            arrived: Notify::new(),
            left: Notify::new(),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Puts a message of an object into the queue; it is in the file when this returns.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub fn push(&self, object: ObjectCreated) -> io::Result<()> {
        let mut state = self.state();
        let message = Message {
            id: state.next,
            receives: 0,
            object,
        };
        state.journal.append(&Entry::Put(message.clone()))?;
        state.next += 1;
        state.waiting.push_back(message);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// Hands out the next messages: at least one, at most a batch.
    pub async fn receive(&self) -> Vec<Message> {
        loop {
            let next = {
                let mut state = self.state();
                state.unhide(Instant::now());
                let count = state.waiting.len().min(self.policy.batch_size);
                if count > 0 {
                    let mut batch: Vec<Message> = state.waiting.drain(..count).collect();
                    for message in &mut batch {
                        message.receives += 1;
                        state.in_flight.insert(message.id, message.clone());
                    }
                    if !state.waiting.is_empty() {
                        // There may be other receivers, and only one was woken.
                        self.arrived.notify_one();
                    }
                    return batch;
                }
                state.hidden.keys().next().map(|&(due, _)| due)
            };
            match next {
                None => self.arrived.notified().await,
                Some(due) => {
                    tokio::select! {
                        () = self.arrived.notified() => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
            }
        }
    }

    /// Takes a batch back: what did not fail is done, what failed comes again or goes to the dead letters.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written. The messages are dealt with all the same, and after a restart may come again.
    pub fn settle(
        &self,
        batch: &[Message],
        failed: &BTreeSet<u64>,
        reason: &str,
    ) -> io::Result<Settled> {
        let mut settled = Settled::default();
        let mut entries = Vec::with_capacity(batch.len());
        let mut state = self.state();
        for message in batch {
            let Some(message) = state.in_flight.remove(&message.id) else {
                continue;
            };
            if !failed.contains(&message.id) {
                entries.push(Entry::Done(message.id));
            } else if message.receives < self.policy.max_receive_count {
                entries.push(Entry::Failed(message.id));
                let due = Instant::now() + self.policy.retry_after;
                state.hidden.insert((due, message.id), message.clone());
                settled.retried.push(message);
            } else {
                let letter = DeadLetter {
                    message,
                    reason: reason.to_owned(),
                };
                entries.push(Entry::Dead(letter.message.id, letter.reason.clone()));
                state.dead.insert(letter.message.id, letter.clone());
                settled.dead.push(letter);
            }
        }
        let written = state.journal.append_all(&entries);
        let written = written.and_then(|()| state.compact_if_due());
        drop(state);
        if !settled.retried.is_empty() {
            self.arrived.notify_one();
        }
        self.left.notify_waiters();
        written.map(|()| settled)
    }

    /// How many messages are where.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let state = self.state();
        Counts {
            waiting: state.waiting.len() + state.hidden.len(),
            in_flight: state.in_flight.len(),
            dead: state.dead.len(),
        }
    }

    /// The messages that were given up.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.state().dead.values().cloned().collect()
    }

    /// Puts the dead letters back into the queue, as if they had never been handed out; returns how many.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written.
    pub fn redrive(&self) -> io::Result<usize> {
        let mut state = self.state();
        let entries: Vec<_> = state.dead.keys().map(|&id| Entry::Revived(id)).collect();
        state.journal.append_all(&entries)?;
        for (_, letter) in std::mem::take(&mut state.dead) {
            let message = Message {
                receives: 0,
                ..letter.message
            };
            state.waiting.push_back(message);
        }
        drop(state);
        self.arrived.notify_one();
        Ok(entries.len())
    }

    /// Returns once a batch has been settled.
    pub(crate) fn settled(&self) -> tokio::sync::futures::Notified<'_> {
        self.left.notified()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn unhide(&mut self, now: Instant) {
        while let Some(entry) = self.hidden.first_entry()
            && entry.key().0 <= now
        {
            self.waiting.push_back(entry.remove());
        }
    }

    fn compact_if_due(&mut self) -> io::Result<()> {
        let live = self.waiting.len() + self.hidden.len() + self.in_flight.len() + self.dead.len();
        if !self.journal.is_mostly_history(live) {
            return Ok(());
        }
        let waiting = self
            .waiting
            .iter()
            .chain(self.hidden.values())
            .chain(self.in_flight.values());
        self.journal.rewrite(self.next, waiting, self.dead.values())
    }
}

/// Returns once none of the queues has anything left to do.
pub async fn idle(queues: &[Arc<Queue>]) {
    loop {
        // Made before the counts are read, so that nothing settled in between is missed.
        let settled: Vec<_> = queues
            .iter()
            .map(|queue| {
                let mut settled = Box::pin(queue.settled());
                settled.as_mut().enable();
                settled
            })
            .collect();
        // In the order of the functions: what one adds to a later one it adds before it is settled itself.
        if queues.iter().all(|queue| queue.counts().pending() == 0) {
            return;
        }
        futures_util::future::select_all(settled).await;
    }
}
