//! End-to-end tests: what no crate can show by itself.
//!
//! - `deployment`: the template, deployed to ministack with the programs of the test build.
//! - `cargo_lambda`: each function by `cargo lambda watch` and `cargo lambda invoke`, with the committed events.
//! - `roles`: what the template's roles may do.
//! - `collected`: what is kept of slices with truth is what training reads.
//! - `closed_loop`: labelled slices lead to a model that serves, and the way back, by one command.
//! - `retraining`, `job_requests`, `publish_archive`: the state machine that retrains, what it asks of SageMaker, and the
//!   step of its own.
//! - `retraining_ec2`: the same on a plain instance.
//! - `converge`: events in any order, and more than once.
//! - `bad_uploads`, `bad_requests`: what cannot be read, or must not be.
//! - `faults`: S3 that fails, is slow, loses answers or refuses.
//! - `killed`: processes that end between reading and writing.

#![allow(clippy::unwrap_used, missing_docs)]

mod e2e {
    mod aws;
    mod bad_requests;
    mod bad_uploads;
    mod binaries;
    mod bucket;
    mod cargo_lambda;
    mod closed_loop;
    mod cloudformation;
    mod collected;
    mod contract;
    mod converge;
    mod delivery;
    mod deployment;
    mod faults;
    mod hostile;
    mod job_requests;
    mod killed;
    mod ministack;
    mod models;
    mod plant;
    mod program;
    mod proxy;
    mod publish_archive;
    mod reference;
    mod requests;
    mod retraining;
    mod retraining_ec2;
    mod retraining_stack;
    mod roles;
    mod small_stack;
    mod stack;
    mod state_machine;
    mod studies;
    mod wait;
}
