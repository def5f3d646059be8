//! What every store of objects can do here, whatever it is made of.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::str::FromStr;

/// Longest key that S3 takes, in bytes of UTF-8.
const MAX_KEY_BYTES: usize = 1024;

/// Most user metadata that S3 takes for one object: bytes of all names and values together.
const MAX_METADATA_BYTES: usize = 2048;

/// The name of an object: segments joined by `/`.
///
/// A key is 1 to 1024 bytes of UTF-8. No segment is empty, `.` or `..`, and there are neither control characters nor
/// backslashes, so a key that came from outside cannot leave the place it is joined to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Checks a key.
    ///
    /// # Errors
    ///
    /// [`StorageError::InvalidKey`] where the key breaks one of the rules above.
    ///
    /// ```
    /// use glioseg_shared::cloud::ObjectKey;
    ///
    /// assert!(ObjectKey::parse("study 1/slice_2+3.tif").is_ok());
    /// assert!(ObjectKey::parse("study/../../etc/passwd").is_err());
    /// ```
    pub fn parse(key: impl Into<String>) -> Result<Self, StorageError> {
        let key = key.into();
        let reason = if key.is_empty() {
            Some("it is empty")
        } else if key.len() > MAX_KEY_BYTES {
            Some("it is longer than 1024 bytes")
        } else if key.chars().any(|c| c.is_control() || c == '\\') {
            Some("it has a control character or a backslash")
        } else if key
            .split('/')
            .any(|segment| matches!(segment, "" | "." | ".."))
        {
            Some("a segment is empty, `.` or `..`")
        } else {
            None
        };
        match reason {
            None => Ok(Self(key)),
            Some(reason) => Err(StorageError::InvalidKey { key, reason }),
        }
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The state of an object as its store names it: equal tags, equal bytes. Opaque: S3's is no digest of the content.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ETag(String);

impl ETag {
    /// A tag as the store wrote it, quotes included.
    #[must_use]
    pub fn new(tag: impl Into<String>) -> Self {
        Self(tag.into())
    }

    /// The tag as the store wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a writer says of an object beside its bytes.
///
/// Names are of `a-z`, `0-9` and `-`, values printable ASCII, 2 KiB in all: what S3 carries unchanged in headers.
pub type Metadata = BTreeMap<String, String>;

/// What must hold for a write to happen; checking and writing are one atomic step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there is replaced.
    Always,
    /// No object has the key.
    IfAbsent,
    /// The object is still in this state.
    IfMatch(ETag),
}

/// An object with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The content.
    pub bytes: Vec<u8>,
    /// The state that the content belongs to.
    pub etag: ETag,
    /// What the writer said of it.
    pub metadata: Metadata,
}

/// An object without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Length of the content in bytes.
    pub size: u64,
    /// The state of the object.
    pub etag: ETag,
    /// What the writer said of it.
    pub metadata: Metadata,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The object's key.
    pub key: ObjectKey,
    /// Length of its content in bytes.
    pub size: u64,
}

/// A part of a listing, in the byte order of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The objects.
    pub entries: Vec<Entry>,
    /// How many objects among them were passed over, since their keys are no [`ObjectKey`]: a console's folder markers,
    /// which end in `/`, and what lies in folders without a name. No call here can read or delete them.
    pub passed_over: usize,
    /// Where to continue: pass it as `after` for the next page. `None` on the last.
    pub next: Option<ObjectKey>,
}

/// A store of objects under keys.
///
/// Reads see whole objects: the old one or the new one, never a part. The futures can move between threads, so a
/// handler over any store can run on a multi-threaded runtime.
pub trait Storage: Send + Sync {
    /// Reads an object of at most `max_bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`StorageError::NotFound`]; [`StorageError::TooLarge`] before more than `max_bytes` are held in memory; and
    /// whatever the store meets.
    fn get(
        &self,
        key: &ObjectKey,
        max_bytes: u64,
    ) -> impl Future<Output = Result<Object, StorageError>> + Send;

    /// Reads an object unless it is still in the state `known`: `None` then, and no content is transferred.
    ///
    /// # Errors
    ///
    /// As [`Storage::get`].
    fn get_if_changed(
        &self,
        key: &ObjectKey,
        known: &ETag,
        max_bytes: u64,
    ) -> impl Future<Output = Result<Option<Object>, StorageError>> + Send;

    /// Writes an object if the condition holds, and returns its new state.
    ///
    /// # Errors
    ///
    /// [`StorageError::PreconditionFailed`] where the condition does not hold; [`StorageError::Conflict`] where the
    /// store could not tell because of another write at the same moment; [`StorageError::InvalidMetadata`]; and
    /// whatever the store meets. The old object is untouched then.
    fn put(
        &self,
        key: &ObjectKey,
        bytes: Vec<u8>,
        condition: Condition,
        metadata: &Metadata,
    ) -> impl Future<Output = Result<ETag, StorageError>> + Send;

    /// Reads size, state and metadata of an object.
    ///
    /// # Errors
    ///
    /// [`StorageError::NotFound`], and whatever the store meets.
    fn head(&self, key: &ObjectKey) -> impl Future<Output = Result<Head, StorageError>> + Send;

    /// Lists at most `limit` (1 to 1000; more is taken as 1000) objects whose keys start with the text `prefix` and
    /// come after `after`.
    ///
    /// # Errors
    ///
    /// Whatever the store meets. A prefix that nothing starts with gives an empty page.
    fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Page, StorageError>> + Send;

    /// Deletes an object; that there is none is no error.
    ///
    /// # Errors
    ///
    /// Whatever the store meets.
    fn delete(&self, key: &ObjectKey) -> impl Future<Output = Result<(), StorageError>> + Send;
}

/// Most entries of one [`Page`]: S3's own bound.
pub(super) const MAX_PAGE: usize = 1000;

/// Why a store did not do as told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// There is no such object.
    #[error("no object {key}")]
    NotFound {
        /// Its key.
        key: String,
    },
    /// The condition of a write does not hold: somebody else wrote, or deleted, before.
    #[error("{key} was written by somebody else before")]
    PreconditionFailed {
        /// The object's key.
        key: String,
    },
    /// The store met two writes at one moment, refused this one and did not say whether the condition holds.
    #[error("{key} is being written by somebody else at this moment")]
    Conflict {
        /// The object's key.
        key: String,
    },
    /// The object is larger than the reader takes.
    #[error("{key} is larger than the {allowed} bytes allowed")]
    TooLarge {
        /// The object's key.
        key: String,
        /// The reader's bound.
        allowed: u64,
    },
    /// The caller may not do this.
    #[error("may not {operation} {key}: {reason}")]
    Denied {
        /// What was asked for, as a verb.
        operation: &'static str,
        /// The object's key.
        key: String,
        /// What the store said.
        reason: String,
    },
    /// The key cannot name an object here.
    #[error("{key:?} is no object key: {reason}")]
    InvalidKey {
        /// The text that was given.
        key: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The metadata would not survive a store unchanged.
    #[error("metadata {name:?} cannot be stored: {reason}")]
    InvalidMetadata {
        /// The name of the entry.
        name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The store is not to be reached, overloaded, or broken for the moment.
    #[error("could not {operation} {key} for now: {reason}")]
    Unavailable {
        /// What was asked for, as a verb.
        operation: &'static str,
        /// The object's key.
        key: String,
        /// What the store said.
        reason: String,
    },
    /// The store refused for good.
    #[error("could not {operation} {key}: {reason}")]
    Failed {
        /// What was asked for, as a verb.
        operation: &'static str,
        /// The object's key.
        key: String,
        /// What the store said.
        reason: String,
    },
}

impl StorageError {
    /// Whether the very same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Conflict { .. })
    }

    /// Whether a write did not happen because its condition does not hold. The caller has to decide anew, not repeat.
    #[must_use]
    pub fn is_precondition_failed(&self) -> bool {
        matches!(self, Self::PreconditionFailed { .. })
    }

    /// Whether there is no such object.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// Refuses metadata that S3 would change or reject, in every store alike.
pub(super) fn check_metadata(metadata: &Metadata) -> Result<(), StorageError> {
    let mut total = 0;
    for (name, value) in metadata {
        total += name.len() + value.len();
        let reason = if name.is_empty()
            || !name
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        {
            Some("a name is of a-z, 0-9 and -")
        } else if !value.bytes().all(|b| (b' '..=b'~').contains(&b)) || value.trim() != value {
            Some("a value is printable ASCII without spaces at its ends")
        } else if total > MAX_METADATA_BYTES {
            Some("all names and values together take more than 2048 bytes")
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(StorageError::InvalidMetadata {
                name: name.clone(),
                reason,
            });
        }
    }
    Ok(())
}

/// Where a store is, as a user writes it: `s3://bucket/prefix`, or a folder.
///
/// ```
/// use glioseg_shared::cloud::Location;
///
/// let location: Location = "s3://my-bucket/gliomas/".parse().unwrap();
/// assert_eq!(location.to_string(), "s3://my-bucket/gliomas");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A bucket of S3, or of a service that speaks its protocol.
    S3 {
        /// The bucket.
        bucket: String,
        /// What every key starts with, a `/` between.
        prefix: Option<ObjectKey>,
    },
    /// A folder of this machine.
    Folder(PathBuf),
}

/// Text that names no place for objects.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{location:?} is neither s3://bucket/prefix nor a folder: {reason}")]
pub struct InvalidLocation {
    location: String,
    reason: &'static str,
}

impl Location {
    /// Reads a location. A folder need not exist.
    ///
    /// # Errors
    ///
    /// [`InvalidLocation`] for empty text, another scheme than `s3`, or names that S3 does not take.
    pub fn parse(location: &str) -> Result<Self, InvalidLocation> {
        let invalid = |reason| InvalidLocation {
            location: location.to_owned(),
            reason,
        };
        if let Some(rest) = location.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if !is_bucket_name(bucket) {
                return Err(invalid(
                    "a bucket's name is 3 to 63 of a-z, 0-9, `.` and `-`, a letter or digit at its ends",
                ));
            }
            let prefix = match prefix.trim_end_matches('/') {
                "" => None,
                prefix => Some(
                    ObjectKey::parse(prefix).map_err(|_| invalid("the prefix is no object key"))?,
                ),
            };
            return Ok(Self::S3 {
                bucket: bucket.to_owned(),
                prefix,
            });
        }
        if location.is_empty() || location.contains('\0') {
            return Err(invalid("it names nothing"));
        }
        if location.contains("://") {
            return Err(invalid("the only scheme is s3"));
        }
        Ok(Self::Folder(PathBuf::from(location)))
    }
}

impl FromStr for Location {
    type Err = InvalidLocation;

    fn from_str(location: &str) -> Result<Self, Self::Err> {
        Self::parse(location)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 {
                bucket,
                prefix: None,
            } => write!(f, "s3://{bucket}"),
            Self::S3 {
                bucket,
                prefix: Some(prefix),
            } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Folder(folder) => folder.display().fmt(f),
        }
    }
}

fn is_bucket_name(name: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|&b| alphanumeric(b) || matches!(b, b'.' | b'-'))
        && bytes.first().copied().is_some_and(alphanumeric)
        && bytes.last().copied().is_some_and(alphanumeric)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn keys_that_could_leave_their_place_are_refused() {
        for key in [
            "",
            "/",
            "/etc/passwd",
            "a//b",
            "a/",
            ".",
            "..",
            "../a",
            "a/../b",
            "a/./b",
            "a\\..\\b",
            "a\0b",
            "a\nb",
        ] {
            assert!(
                matches!(ObjectKey::parse(key), Err(StorageError::InvalidKey { .. })),
                "{key:?}"
            );
        }
        assert!(ObjectKey::parse("k".repeat(1025)).is_err());
        for key in [
            "a",
            "a/b",
            "...",
            "a/..b",
            "50 % + more/ünï.tif",
            &"k".repeat(1024),
        ] {
            assert_eq!(ObjectKey::parse(key).unwrap().as_str(), key);
        }
    }

    #[test]
    fn locations_are_told_apart() {
        let prefix = |text: &str| Some(ObjectKey::parse(text).unwrap());
        let s3 = |bucket: &str, prefix| Location::S3 {
            bucket: bucket.to_owned(),
            prefix,
        };
        assert_eq!(Location::parse("s3://bucket").unwrap(), s3("bucket", None));
        assert_eq!(Location::parse("s3://bucket/").unwrap(), s3("bucket", None));
        assert_eq!(
            Location::parse("s3://my.bucket-1/a/b/").unwrap(),
            s3("my.bucket-1", prefix("a/b"))
        );
        assert_eq!(
            Location::parse("out/models").unwrap(),
            Location::Folder("out/models".into())
        );
        assert_eq!(
            Location::parse("s3:/bucket").unwrap(),
            Location::Folder("s3:/bucket".into())
        );
        for location in [
            "",
            "s3://",
            "s3://B_",
            "s3://ab",
            "s3://-ab",
            "s3://bucket/../x",
            "gs://bucket",
            "file:///a",
        ] {
            let error = Location::parse(location).unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("{location:?}")),
                "{error}"
            );
        }
    }

    #[test]
    fn metadata_that_headers_cannot_carry_is_refused() {
        let one = |name: &str, value: &str| Metadata::from([(name.to_owned(), value.to_owned())]);
        assert!(check_metadata(&one("input-sha256", "ab 12~")).is_ok());
        for (name, value) in [
            ("", "x"),
            ("Name", "x"),
            ("a b", "x"),
            ("a", "ü"),
            ("a", "x\r\ny: z"),
            ("a", " x"),
        ] {
            assert!(
                check_metadata(&one(name, value)).is_err(),
                "{name:?}: {value:?}"
            );
        }
        assert!(check_metadata(&one("a", &"x".repeat(2047))).is_ok());
        assert!(check_metadata(&one("a", &"x".repeat(2048))).is_err());
    }

    #[test]
    fn only_trouble_that_passes_is_worth_a_retry() {
        let key = || "k".to_owned();
        let (operation, reason) = ("read", String::new());
        let retryable = [
            StorageError::Conflict { key: key() },
            StorageError::Unavailable {
                operation,
                key: key(),
                reason: reason.clone(),
            },
        ];
        let final_ones = [
            StorageError::NotFound { key: key() },
            StorageError::PreconditionFailed { key: key() },
            StorageError::TooLarge {
                key: key(),
                allowed: 1,
            },
            StorageError::Denied {
                operation,
                key: key(),
                reason: reason.clone(),
            },
            StorageError::Failed {
                operation,
                key: key(),
                reason,
            },
        ];
        assert!(retryable.iter().all(StorageError::is_retryable));
        assert!(!final_ones.iter().any(StorageError::is_retryable));
        assert!(!retryable.iter().any(StorageError::is_precondition_failed));
    }
}
