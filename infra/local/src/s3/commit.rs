//! The moment at which a write happens.
//!
//! s3s-fs reads a body to its end and then moves the new content into place. The end of the body is therefore where a
//! lock is taken, the condition checked and the write announced: a slow sender blocks nobody, and between check and move
//! nobody else writes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use glioseg_shared::digest::hex;
use hyper::body::Bytes;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::StreamingBlob;
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{S3Error, S3Result, StdError};
use tokio::sync::OwnedRwLockWriteGuard;

use super::integrity::Integrity;

/// What a body held.
#[derive(Clone, Debug)]
pub(super) struct Content {
    /// Bytes.
    pub(super) size: u64,
    /// Their MD5 in hexadecimal digits, which s3s-fs makes the ETag.
    pub(super) md5: String,
}

/// What happened at the end of a body.
pub(super) enum Turn {
    /// The body was not read to its end.
    NotReached,
    /// The write may happen, and nobody else writes or reads the key until the guard is dropped.
    Granted(OwnedRwLockWriteGuard<()>),
    /// The write must not happen.
    Refused(S3Error),
}

/// Hands over what happened at the end of a body, once it was read.
#[derive(Clone)]
pub(super) struct Outcome(Arc<Mutex<Turn>>);

impl Outcome {
    pub(super) fn take(&self) -> Turn {
        let mut turn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut turn, Turn::NotReached)
    }

    fn set(&self, turn: Turn) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = turn;
    }
}

/// The same body, ending only once `turn`, asked at its end, has been granted; refused, it ends with an error.
pub(super) fn with_turn<F>(
    body: StreamingBlob,
    integrity: Integrity,
    turn: impl FnOnce(Content) -> F + Send + 'static,
) -> (StreamingBlob, Outcome)
where
    F: Future<Output = S3Result<OwnedRwLockWriteGuard<()>>> + Send + 'static,
{
    let outcome = Outcome(Arc::new(Mutex::new(Turn::NotReached)));
    let reading = Reading {
        integrity,
        md5: Md5::new(),
        size: 0,
        turn: Box::new(move |content| Box::pin(turn(content))),
    };
    let gated = Gated {
        body,
        stage: Mutex::new(Stage::Reading(Box::new(reading))),
        outcome: outcome.clone(),
    };
    (StreamingBlob::new(gated), outcome)
}

type TurnFuture = Pin<Box<dyn Future<Output = S3Result<OwnedRwLockWriteGuard<()>>> + Send>>;

struct Gated {
    body: StreamingBlob,
    /// A mutex, never locked, because a body must be `Sync` and a future need not be.
    stage: Mutex<Stage>,
    outcome: Outcome,
}

enum Stage {
    /// The body is under way.
    Reading(Box<Reading>),
    /// It is complete, and the write waits for its turn.
    Waiting(TurnFuture),
    /// There is nothing more to come.
    Over,
}

struct Reading {
    integrity: Integrity,
    md5: Md5,
    size: u64,
    turn: Box<dyn FnOnce(Content) -> TurnFuture + Send>,
}

impl Reading {
    fn update(&mut self, part: &[u8]) {
        self.integrity.update(part);
        self.md5.update(part);
        self.size += part.len() as u64;
    }

    /// Asks for the turn of a body that arrived as it was sent.
    fn end(self) -> S3Result<TurnFuture> {
        self.integrity.check()?;
        let content = Content {
            size: self.size,
            md5: hex(self.md5.finalize().as_ref()),
        };
        Ok((self.turn)(content))
    }
}

impl Stream for Gated {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let stage = this.stage.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Stage::Reading(reading) = stage {
            match ready!(Pin::new(&mut this.body).poll_next(context)) {
                Some(Ok(part)) => {
                    reading.update(&part);
                    return Poll::Ready(Some(Ok(part)));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {}
            }
        }
        let turn = match std::mem::replace(stage, Stage::Over) {
            Stage::Reading(reading) => reading.end(),
            Stage::Waiting(turn) => Ok(turn),
            Stage::Over => return Poll::Ready(None),
        };
        let granted = match turn {
            Ok(mut turn) => match turn.as_mut().poll(context) {
                Poll::Ready(granted) => granted,
                Poll::Pending => {
                    *stage = Stage::Waiting(turn);
                    return Poll::Pending;
                }
            },
            Err(refusal) => Err(refusal),
        };
        match granted {
            Ok(guard) => {
                this.outcome.set(Turn::Granted(guard));
                Poll::Ready(None)
            }
            Err(refusal) => {
                this.outcome.set(Turn::Refused(refusal));
                Poll::Ready(Some(Err("the write was refused".into())))
            }
        }
    }
}

impl ByteStream for Gated {
    fn remaining_length(&self) -> RemainingLength {
        self.body.remaining_length()
    }
}
