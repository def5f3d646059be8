//! glioseg on one machine.
//!
//! - [`stack`]: everything that the template deploys, in one process: an S3 server, a queue before each function, the
//!   functions themselves, the HTTP API.
//! - [`s3`], [`queue`], [`functions`], [`api`], [`observer`], [`model`]: its parts; [`wiring`]: how they are connected,
//!   in agreement with the template.
//! - [`folder`]: slices in a folder, segmented without any of that, with the same bytes as results.
//! - [`demo`], [`report`]: a study sent through a stack, and what came of it on one page.
//! - [`retrain`]: from labelled slices in a stack to a new model that serves there, and back.
//!
//! Research use only; not a medical device.

pub mod api;
pub mod demo;
pub mod files;
pub mod folder;
pub mod functions;
mod http_server;
pub mod model;
pub mod observer;
pub mod queue;
pub mod report;
pub mod retrain;
pub mod s3;
pub mod stack;
pub mod wiring;
