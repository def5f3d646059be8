//! Bytes and keys; knows no pixels.
//!
//! - [`Storage`]: what every store of objects can do; conditional writes are its only means of agreement.
//! - [`S3Storage`], [`FolderStorage`]: a bucket, and a local folder with the same promises.
//! - [`Presign`]: links to objects for those without credentials.
//! - [`keys`]: which object lies under which key.
//! - [`replace_older`]: writes that come to the same end whatever their order and number.
//! - [`events`]: what invokes a function, read in one place.
//! - [`http`], [`Problem`]: requests, responses, and what is answered where there is nothing better to answer.
//! - [`environment`]: what a function is told by its environment, checked.
//! - [`telemetry`]: logs, metrics and timings without names of patients.

pub mod environment;
pub mod events;
mod folder;
pub mod http;
pub mod keys;
mod presign;
mod problem;
mod replace;
mod s3;
mod storage;
pub mod telemetry;

pub use environment::{Environment, EnvironmentError};
pub use folder::FolderStorage;
pub use http::{HttpRequest, HttpResponse};
pub use presign::{Presign, SignedRequest, UploadTerms};
pub use problem::{PROBLEM_JSON, Problem};
pub use replace::{Replaced, Sequencer, Stamp, replace_model, replace_older};
pub use s3::{S3Storage, aws_environment, s3_client};
pub use storage::{
    Condition, ETag, Entry, Head, InvalidLocation, Location, Metadata, Object, ObjectKey, Page,
    Storage, StorageError,
};
