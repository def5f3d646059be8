//! What the server says of every object that was written.

use std::io;

use serde::{Deserialize, Serialize};

/// Which request wrote an object, by the name of S3's event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventName {
    /// PutObject.
    #[serde(rename = "ObjectCreated:Put")]
    Put,
    /// CopyObject.
    #[serde(rename = "ObjectCreated:Copy")]
    Copy,
    /// CompleteMultipartUpload.
    #[serde(rename = "ObjectCreated:CompleteMultipartUpload")]
    CompleteMultipartUpload,
}

/// An object that was written, as its notification tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectCreated {
    /// What wrote it.
    pub event: EventName,
    /// Its bucket.
    pub bucket: String,
    /// Its key, not encoded.
    pub key: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its state, without quotes.
    pub etag: String,
    /// 16 hexadecimal digits that grow with every write of this stack, also over restarts.
    pub sequencer: String,
    /// When it was written, as RFC 3339 in UTC.
    pub time: String,
}

/// Who is told of written objects.
pub trait Notify: Send + Sync + 'static {
    /// Takes note of an object that is about to be there: whoever reads it or lists its bucket from now on waits until
    /// it is. So each write is noted, whenever the process ends; that of a write which failed after all is noted in vain.
    ///
    /// # Errors
    ///
    /// Where the note could not be kept. Nothing is written then, and the writer is told so.
    fn created(&self, object: ObjectCreated) -> io::Result<()>;
}
