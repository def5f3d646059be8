//! An S3 server inside this process: s3s over a folder, with S3's promises about concurrent writers kept.
//!
//! s3s-fs stores the objects. What it leaves open is closed here: a condition is checked and its write committed as one
//! step, a reader never sees content with another write's metadata, `If-None-Match` of a read is answered with 304, a
//! key that the folder cannot hold is refused with a client error, and every write is announced.

mod client;
mod commit;
mod conditions;
mod copy;
mod integrity;
mod listing;
mod locks;
mod notification;
mod places;
mod sequencer;
mod server;
mod store;

pub use client::client_config;
pub use notification::{EventName, Notify, ObjectCreated};
pub use server::{EmbeddedS3, S3Config};

/// The access key id that the server takes.
pub const ACCESS_KEY_ID: &str = "glioseg";

/// The secret that belongs to [`ACCESS_KEY_ID`]. It keeps nobody out: the server listens on 127.0.0.1 only.
pub const SECRET_ACCESS_KEY: &str = "glioseg-local";

/// The region that requests are signed for.
pub const REGION: &str = "us-east-1";
