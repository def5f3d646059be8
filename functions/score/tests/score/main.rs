//! The score function over folders: what objects and requests lead to, without a network.

#![allow(clippy::unwrap_used)]

mod collecting;
mod completion;
mod deletion;
mod races;
mod requests;
mod scores;
mod stage;
mod studies;
mod withdrawal;
