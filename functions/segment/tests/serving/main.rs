//! The function over folders: events, requests, and models that come and go. No network, no waiting.

#![allow(clippy::unwrap_used, missing_docs)]

mod event;
mod hostile;
mod http;
mod model;
mod support;
