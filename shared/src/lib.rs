//! What glioseg's Lambdas and its training have in common.
//!
//! Its modules, each a floor that knows only what it names:
//!
//! - [`imaging`]: pixels in, pixels out; no file system, no cloud, no model.
//! - [`scoring`]: masks in, figures out.
//! - [`model`]: what a model file promises (its contract), and keeping the promise.
//! - [`depthwise`]: a kind of convolution, for inference and for training; numbers in, numbers out.
//! - [`cloud`]: bytes and keys; knows no pixels.
//! - [`registry`]: which model serves.
//! - [`study`]: the documents that the functions hand each other about a study.
//! - [`files`]: reading whole files within a bound.
//! - [`page`]: the frame of reports for people.
//! - [`digest`]: SHA-256 as text.
//!
//! Not a medical device: research use only.

// Bad input ends in an error; where something is expected all the same, the place says why it holds.
#![warn(clippy::expect_used, clippy::panic, clippy::unreachable, clippy::todo)]

pub mod cloud;
pub mod depthwise;
pub mod digest;
pub mod files;
pub mod imaging;
pub mod model;
pub mod page;
pub mod registry;
pub mod scoring;
pub mod study;
