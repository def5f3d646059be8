//! Reading whole files within a bound, and writing them so that a final name never holds a part.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Reads a file of at most `allowed` bytes.
///
/// # Errors
///
/// What the system says; [`io::ErrorKind::FileTooLarge`] before more than `allowed` bytes are held in memory.
pub fn read_bounded(path: &Path, allowed: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let too_large = |bytes: u64| {
        let text = format!("it has {bytes} bytes or more, at most {allowed} are read");
        io::Error::new(io::ErrorKind::FileTooLarge, text)
    };
    if metadata.len() > allowed {
        return Err(too_large(metadata.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    // A pipe, or a file that grows while it is read, has no size to trust.
    file.take(allowed.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > allowed {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Writes a file under another name in the same folder, made where it is missing, and renames it.
///
/// # Errors
///
/// What the system says; `path` is what it was before, then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Not the name of another process or thread that writes the same file.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut partial = OsString::from(path);
    partial.push(format!(".{}-{number}.partial", std::process::id()));
    let partial = PathBuf::from(partial);
    let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        // The first error is the one to report; the partial file may not even exist.
        let _ = fs::remove_file(&partial);
    }
    written
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        write_whole(&path, b"one").unwrap();
        write_whole(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path().join("a")).unwrap().count(), 1);
        // A folder is in the way: it stays, and nothing else does.
        assert!(write_whole(&folder.path().join("a"), b"three").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn reads_up_to_the_bound_and_no_further() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
        let error = read_bounded(&path, 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
