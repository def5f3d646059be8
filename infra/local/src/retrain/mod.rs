//! The way of a model on one machine: labelled slices, a training job, the function that serves, and back.
//!
//! Training is a program of its own, `glioseg-train`, run here as SageMaker runs its container; nothing of it is linked.

mod job;
mod labelled;
mod patients;
mod serving;
mod steps;

pub use job::{Destination, JobError, Trained, Trainer, Tree};
pub use labelled::{DownloadError, download};
pub use patients::{DrawError, Wanted, draw, write};
pub use serving::{AskError, Serving, follow, served};
pub use steps::{Step, table};
