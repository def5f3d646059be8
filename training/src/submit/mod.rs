//! Training and tuning jobs on SageMaker, seen from outside: asked for, watched, their outputs fetched.
//!
//! - [`request`]: a job's request from a template, the places to fill and the hyper-parameters.
//! - [`call`]: signed calls of AWS's JSON protocol.
//! - [`jobs`]: names of jobs, and the calls that concern them.
//! - [`state`]: where a job stands.
//! - [`logs`]: what a job has printed since it was last asked.
//! - [`follow()`]: a job watched to its end.
//! - [`outputs`]: `model.tar.gz` as a folder.

pub mod call;
mod follow;
pub mod jobs;
pub mod logs;
pub mod outputs;
pub mod request;
pub mod state;

pub use follow::{Watcher, follow};
