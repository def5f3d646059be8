//! The score function over folders: what objects and requests lead to, without a network.

#![allow(clippy::unwrap_used)]

mod completion;
mod deletion;
mod meddled;
mod races;
mod requests;
mod scores;
mod stage;
mod studies;
