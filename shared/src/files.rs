//! Reading whole files within a bound.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system's error.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file has this many bytes or more, and they are too many.
    #[error("it has {0} bytes or more, which is more than are read")]
    TooLarge(u64),
}

/// The bytes of a file of at most `allowed` bytes.
///
/// # Errors
///
/// [`ReadError::TooLarge`] before more than `allowed` bytes are held in memory; [`ReadError::Io`].
pub fn read_bounded(path: &Path, allowed: u64) -> Result<Vec<u8>, ReadError> {
    read_rest(File::open(path)?, allowed)
}

/// The bytes of an open file from where it stands, at most `allowed`.
///
/// # Errors
///
/// As [`read_bounded`].
pub fn read_rest(file: File, allowed: u64) -> Result<Vec<u8>, ReadError> {
    let size = file.metadata()?.len();
    if size > allowed {
        return Err(ReadError::TooLarge(size));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // A pipe, or a file that grows while it is read, has no size to trust.
    file.take(allowed.saturating_add(1))
        .read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        read if read > allowed => Err(ReadError::TooLarge(read)),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn reads_up_to_the_bound_and_no_further() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
        let error = read_bounded(&path, 4).unwrap_err();
        assert!(matches!(error, ReadError::TooLarge(5)), "{error}");
        let absent = read_bounded(&folder.path().join("absent"), 5).unwrap_err();
        assert!(matches!(absent, ReadError::Io(_)), "{absent}");
    }
}
