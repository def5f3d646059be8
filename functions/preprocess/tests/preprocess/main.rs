//! The function over two buckets in a folder.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod convergence;
mod http;
mod support;
mod uploads;
