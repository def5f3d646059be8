//! End-to-end tests: what no crate can show by itself.
//!
//! - `deployment`: the template, deployed to ministack with the programs of the test build.
//! - `cargo_lambda`: each function by `cargo lambda watch` and `cargo lambda invoke`, with the committed events.
//! - `roles`: what the template's roles may do.
//! - `converge`: events in any order, and more than once.
//! - `bad_input`: uploads and requests that cannot be read.
//! - `faults`: S3 that fails, is slow, loses answers or refuses.
//! - `killed`: processes that end between reading and writing.

#![allow(clippy::unwrap_used, missing_docs)]

mod e2e {
    mod aws;
    mod bad_input;
    mod binaries;
    mod bucket;
    mod cargo_lambda;
    mod contract;
    mod converge;
    mod delivery;
    mod deployment;
    mod faults;
    mod hostile;
    mod killed;
    mod ministack;
    mod models;
    mod plant;
    mod program;
    mod proxy;
    mod reference;
    mod requests;
    mod roles;
    mod stack;
    mod studies;
    mod wait;
}
