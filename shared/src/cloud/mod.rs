//! Bytes and keys; knows no pixels.
//!
//! - [`Storage`]: what every store of objects can do; conditional writes are its only means of agreement.
//! - [`S3Storage`], [`FolderStorage`]: a bucket, and a local folder with the same promises.
//! - [`keys`]: which object lies under which key.

mod folder;
pub mod keys;
mod s3;
mod storage;

pub use folder::FolderStorage;
pub use s3::S3Storage;
pub use storage::{
    Condition, ETag, Entry, Head, InvalidLocation, Location, Metadata, Object, ObjectKey, Page,
    Storage, StorageError,
};
