//! Which keys the folder can hold, and where s3s-fs puts what belongs to them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use glioseg_shared::cloud::ObjectKey;
use s3s::{S3Result, s3_error};

/// Longest file name of the usual file systems, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// The folder that s3s-fs keeps its buckets in.
#[derive(Clone, Debug)]
pub(super) struct Places {
    root: PathBuf,
}

impl Places {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder of a bucket.
    pub(super) fn bucket(&self, bucket: &str) -> S3Result<PathBuf> {
        // The service has checked the name: it is one plain segment.
        let path = self.root.join(bucket);
        if path.is_dir() {
            Ok(path)
        } else {
            Err(s3_error!(NoSuchBucket))
        }
    }

    /// The file of an object that may not be there.
    pub(super) fn object(&self, bucket: &str, key: &str) -> S3Result<PathBuf> {
        let folder = self.bucket(bucket)?;
        if key.len() > 1024 {
            return Err(s3_error!(KeyTooLongError));
        }
        let key = ObjectKey::parse(key).map_err(|error| {
            s3_error!(InvalidArgument, "this store cannot hold the key: {error}")
        })?;
        let key = key.as_str();
        let longest = key.split('/').map(str::len).max().unwrap_or(0);
        if longest > MAX_NAME_BYTES || sidecar_name(bucket, key, "metadata").len() > MAX_NAME_BYTES
        {
            return Err(s3_error!(
                KeyTooLongError,
                "this store keeps objects as files and takes keys of about 160 bytes at most; this one has {}",
                key.len()
            ));
        }
        Ok(folder.join(key))
    }

    /// The file of an object that is there.
    pub(super) fn existing(&self, bucket: &str, key: &str) -> S3Result<PathBuf> {
        let path = self.object(bucket, key)?;
        if path.is_file() {
            Ok(path)
        } else {
            Err(s3_error!(NoSuchKey))
        }
    }

    /// The file of an object that is to be written: neither is it a folder, nor is one of its folders a file.
    pub(super) fn writable(&self, bucket: &str, key: &str) -> S3Result<PathBuf> {
        let path = self.object(bucket, key)?;
        if path.is_dir() {
            return Err(s3_error!(
                InvalidRequest,
                "there are objects below {key}/: this store cannot hold {key} beside them"
            ));
        }
        let bucket = self.bucket(bucket)?;
        let within = |ancestor: &&Path| ancestor.starts_with(&bucket) && *ancestor != bucket;
        if path
            .ancestors()
            .skip(1)
            .take_while(within)
            .any(Path::is_file)
        {
            return Err(s3_error!(
                InvalidRequest,
                "an object has the name of a folder of {key}: this store cannot hold both"
            ));
        }
        Ok(path)
    }

    /// Removes what s3s-fs noted of an object's content, so that it cannot be taken for the next content's.
    pub(super) fn forget_checksums(&self, bucket: &str, key: &str) -> io::Result<()> {
        remove(&self.root.join(sidecar_name(bucket, key, "internal")))
    }

    /// Removes all that s3s-fs noted of an object.
    pub(super) fn forget(&self, bucket: &str, key: &str) -> io::Result<()> {
        self.forget_checksums(bucket, key)?;
        remove(&self.root.join(sidecar_name(bucket, key, "metadata")))
    }
}

/// The name that s3s-fs gives the file beside the buckets with what it notes of an object.
fn sidecar_name(bucket: &str, key: &str, kind: &str) -> String {
    let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    format!(
        ".bucket-{}.object-{}.{kind}.json",
        encode(bucket),
        encode(key)
    )
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use s3s::S3ErrorCode;

    use super::*;

    #[test]
    fn keys_that_a_folder_cannot_hold_are_the_clients_error() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("uploads/a")).unwrap();
        fs::write(root.path().join("uploads/a/file"), "x").unwrap();
        let places = Places::new(root.path().to_owned());
        let code = |key: &str| {
            let error = places.writable("uploads", key).unwrap_err();
            assert_eq!(
                error.status_code().unwrap().as_u16(),
                400,
                "{key:?}: {error}"
            );
            error.code().clone()
        };
        for key in ["a/../../b", "/a", "a//b", "a/", "a\u{1}b", "a\\b", "."] {
            assert_eq!(code(key), S3ErrorCode::InvalidArgument, "{key:?}");
        }
        for key in ["k".repeat(200), "k".repeat(2000)] {
            assert_eq!(code(&key), S3ErrorCode::KeyTooLongError);
        }
        for key in ["a", "a/file/below"] {
            assert_eq!(code(key), S3ErrorCode::InvalidRequest, "{key:?}");
        }
        let error = places.existing("uploads", "a").unwrap_err();
        assert_eq!(*error.code(), S3ErrorCode::NoSuchKey);
        let error = places.existing("missing", "a").unwrap_err();
        assert_eq!(*error.code(), S3ErrorCode::NoSuchBucket);
        places.writable("uploads", &"k".repeat(150)).unwrap();
        assert!(places.existing("uploads", "a/file").is_ok());
    }
}
