//! Training jobs from beginning to end: the real program on a container's tree.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod definitions;
mod interrupted;
mod life;
mod publishing;
mod refusals;
mod s3;
mod tree;
