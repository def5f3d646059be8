//! Studies: prepared slices, every document against independent truth and its JSON Schema, and what the API promises.

#![allow(clippy::unwrap_used)]

mod documents;
mod openapi;
mod prepared;
mod samples;
mod schemas;
