//! What a stack tells of itself while it runs.

use std::io;

use crate::queue::{DeadLetter, Message};
use crate::s3::ObjectCreated;
use crate::wiring::Function;

/// Something that happened.
#[derive(Debug)]
pub enum StackEvent<'a> {
    /// An object was written.
    Written(&'a ObjectCreated),
    /// A message was not dealt with, and will be handed out again.
    Retried {
        /// Whose it is.
        function: Function,
        /// The message.
        message: &'a Message,
        /// What went wrong.
        reason: &'a str,
    },
    /// A message was not dealt with, and went to the dead letters.
    GivenUp {
        /// Whose it was.
        function: Function,
        /// The message, and what went wrong.
        letter: &'a DeadLetter,
    },
    /// A queue's file could not be written: after a restart, messages that are done may come again.
    NotRecorded {
        /// Whose queue.
        function: Function,
        /// What the system said.
        error: &'a io::Error,
    },
    /// A function announced something on the event bus.
    Announced {
        /// The kind of event, such as `StudyCompleted`.
        kind: &'a str,
        /// Its JSON.
        detail: &'a str,
    },
}

/// Who is told. It is told from whatever thread the event happens on, and must not block it.
pub trait Observer: Send + Sync + 'static {
    /// Takes note.
    fn see(&self, event: StackEvent<'_>);
}

impl<F: Fn(StackEvent<'_>) + Send + Sync + 'static> Observer for F {
    fn see(&self, event: StackEvent<'_>) {
        self(event);
    }
}
