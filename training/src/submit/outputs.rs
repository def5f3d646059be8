//! What a training job leaves: `model.tar.gz` in S3, as a folder here.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use aws_types::SdkConfig;
use flate2::read::GzDecoder;
use glioseg_shared::cloud::{
    InvalidLocation, Location, S3Storage, Storage, StorageError, s3_client,
};
use tar::Archive;

use crate::files::with_suffix;

/// Largest `model.tar.gz` that is fetched, in bytes: a model is at most 64 MiB, its report a few.
const MAX_ARCHIVE: u64 = 256 << 20;
/// Most bytes that it may unpack to.
const MAX_UNPACKED: u64 = 1 << 30;
/// Most files and folders that it may hold.
const MAX_ENTRIES: usize = 10_000;

/// Outputs that were not fetched; nothing lies at the folder's name then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputsError {
    /// Something is there already.
    #[error("{}: there is something already; name another folder", .0.display())]
    Exists(PathBuf),
    /// An address that is none of S3.
    #[error(transparent)]
    Location(#[from] InvalidLocation),
    /// An address that names no object.
    #[error("{0}: names no object of a bucket")]
    NoObject(String),
    /// The object cannot be read.
    #[error("{archive}: cannot be fetched: {error}")]
    Storage {
        /// Its address.
        archive: String,
        /// What is wrong.
        error: StorageError,
    },
    /// An archive that is broken, or no archive.
    #[error("{archive}: cannot be unpacked: {error}")]
    Broken {
        /// Its address.
        archive: String,
        /// What is wrong.
        error: io::Error,
    },
    /// An archive that may do harm.
    #[error("{archive}: is not unpacked: {reason}")]
    Hostile {
        /// Its address.
        archive: String,
        /// What it holds.
        reason: String,
    },
    /// A file that cannot be written.
    #[error("{}: cannot be written: {error}", path.display())]
    Unwritable {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

impl OutputsError {
    /// Whether fetching again can succeed with nothing changed here.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Storage { error, .. } if error.is_retryable())
    }
}

/// Refuses a folder that holds anything.
///
/// # Errors
///
/// [`OutputsError::Exists`].
pub fn check_free(folder: &Path) -> Result<(), OutputsError> {
    let taken = match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    };
    if taken {
        return Err(OutputsError::Exists(folder.to_owned()));
    }
    Ok(())
}

/// Fetches the archive at this `s3://` address and unpacks it: the folder appears whole or not at all.
///
/// # Errors
///
/// [`OutputsError`].
pub async fn fetch(aws: &SdkConfig, address: &str, folder: &Path) -> Result<(), OutputsError> {
    check_free(folder)?;
    let Location::S3 {
        bucket,
        prefix: Some(key),
    } = Location::parse(address)?
    else {
        return Err(OutputsError::NoObject(address.to_owned()));
    };
    let storage = S3Storage::new(s3_client(aws), bucket, None);
    let archive = storage
        .get(&key, MAX_ARCHIVE)
        .await
        .map_err(|error| OutputsError::Storage {
            archive: address.to_owned(),
            error,
        })?;
    unpack(&archive.bytes, address, folder)
}

/// Unpacks into a folder of another name, which takes its own in the end.
fn unpack(archive: &[u8], address: &str, folder: &Path) -> Result<(), OutputsError> {
    let partial = with_suffix(folder, ".partial");
    let unwritable = |path: &Path| {
        let path = path.to_owned();
        move |error| OutputsError::Unwritable { path, error }
    };
    match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(unwritable(&partial)(error));
        }
        Ok(()) | Err(_) => fs::create_dir_all(&partial).map_err(unwritable(&partial))?,
    }
    let result = extract(archive, address, &partial)
        .and_then(|()| fs::rename(&partial, folder).map_err(unwritable(folder)));
    if result.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_dir_all(&partial);
    }
    result
}

fn extract(archive: &[u8], address: &str, folder: &Path) -> Result<(), OutputsError> {
    let broken = |error| OutputsError::Broken {
        archive: address.to_owned(),
        error,
    };
    let hostile = |reason| OutputsError::Hostile {
        archive: address.to_owned(),
        reason,
    };
    let mut archive = Archive::new(GzDecoder::new(archive).take(MAX_UNPACKED));
    let mut room = MAX_UNPACKED;
    for (number, entry) in archive.entries().map_err(broken)?.enumerate() {
        let mut entry = entry.map_err(broken)?;
        if number >= MAX_ENTRIES {
            return Err(hostile(format!("it has more than {MAX_ENTRIES} entries")));
        }
        let name = entry.path().map_err(broken)?.into_owned();
        let inside = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
        if !name.components().all(inside) {
            return Err(hostile(format!("{} leads out of it", name.display())));
        }
        room = room
            .checked_sub(entry.size())
            .ok_or_else(|| hostile(format!("it unpacks to more than {MAX_UNPACKED} bytes")))?;
        let path = folder.join(&name);
        let unwritable = |error| OutputsError::Unwritable {
            path: path.clone(),
            error,
        };
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            fs::create_dir_all(&path).map_err(unwritable)?;
        } else if kind.is_file() {
            fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(unwritable)?;
            let file = File::create_new(&path).map_err(unwritable)?;
            let copied = copy(&mut entry, file, &broken, &unwritable)?;
            if copied != entry.size() {
                return Err(broken(io::ErrorKind::UnexpectedEof.into()));
            }
        } else {
            return Err(hostile(format!(
                "{} is neither file nor folder",
                name.display()
            )));
        }
    }
    // The checksum comes last, and nothing else asks for it.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(broken)?;
    Ok(())
}

/// Copies what is read to a file, and tells a broken archive from a full disk; returns the number of bytes.
fn copy(
    from: &mut impl Read,
    mut to: File,
    broken: &impl Fn(io::Error) -> OutputsError,
    unwritable: &impl Fn(io::Error) -> OutputsError,
) -> Result<u64, OutputsError> {
    let mut buffer = vec![0; 1 << 16];
    let mut copied = 0;
    loop {
        let read = from.read(&mut buffer).map_err(broken)?;
        if read == 0 {
            to.sync_all().map_err(unwritable)?;
            return Ok(copied);
        }
        to.write_all(&buffer[..read]).map_err(unwritable)?;
        copied += read as u64;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::{Builder, EntryType, Header};
    use tempfile::TempDir;

    use super::*;

    /// An archive of entries with a name as it stands in the header, which a builder would not let pass.
    fn archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        for (name, kind, content) in entries {
            let mut header = Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        zipped(&tar.into_inner().unwrap())
    }

    fn zipped(bytes: &[u8]) -> Vec<u8> {
        let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
        zip.write_all(bytes).unwrap();
        zip.finish().unwrap()
    }

    /// Unpacks into a fresh folder; what lies beside it afterwards, by name.
    fn unpacked(archive: &[u8]) -> (TempDir, Result<(), OutputsError>, Vec<String>) {
        let root = tempfile::tempdir().unwrap();
        let result = unpack(archive, "s3://b/model.tar.gz", &root.path().join("out"));
        let entries = fs::read_dir(root.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let names = names.collect();
        (root, result, names)
    }

    #[test]
    fn files_and_folders_come_out_as_they_were_put_in() {
        let bytes = archive(&[
            ("./", EntryType::Directory, b""),
            ("./model.onnx", EntryType::Regular, b"weights"),
            ("evaluation/report.html", EntryType::Regular, b"page"),
        ]);
        let (root, result, names) = unpacked(&bytes);
        result.unwrap();
        assert_eq!(names, ["out"]);
        let read = |name: &str| fs::read(root.path().join("out").join(name)).unwrap();
        assert_eq!(read("model.onnx"), b"weights");
        assert_eq!(read("evaluation/report.html"), b"page");
    }

    #[test]
    fn an_archive_that_may_do_harm_leaves_nothing() {
        let good: (&str, EntryType, &[u8]) = ("model.onnx", EntryType::Regular, b"weights");
        for (bad, says) in [
            (("../evil", EntryType::Regular), "leads out of it"),
            (("/tmp/evil", EntryType::Regular), "leads out of it"),
            (("a/../../evil", EntryType::Regular), "leads out of it"),
            (("link", EntryType::Symlink), "neither file nor folder"),
            (("link", EntryType::Link), "neither file nor folder"),
            (("pipe", EntryType::Fifo), "neither file nor folder"),
        ] {
            let bytes = archive(&[good, (bad.0, bad.1, b"")]);
            let (_root, result, names) = unpacked(&bytes);
            let error = result.unwrap_err();
            assert!(matches!(error, OutputsError::Hostile { .. }), "{error}");
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(names, Vec::<String>::new());
        }
        // A second file of a name does not replace the first.
        let (_root, result, names) = unpacked(&archive(&[good, good]));
        assert!(matches!(result, Err(OutputsError::Unwritable { .. })));
        assert_eq!(names, Vec::<String>::new());
    }

    #[test]
    fn more_than_is_allowed_is_not_unpacked() {
        let mut header = Header::new_gnu();
        header.set_path("model.onnx").unwrap();
        header.set_size(MAX_UNPACKED + 1);
        header.set_cksum();
        let (_root, result, names) = unpacked(&zipped(header.as_bytes()));
        let error = result.unwrap_err();
        assert!(error.to_string().contains("more than"), "{error}");
        assert_eq!(names, Vec::<String>::new());
    }

    #[test]
    fn half_an_archive_leaves_nothing() {
        let content = vec![7; 5000];
        let whole = archive(&[("model.onnx", EntryType::Regular, &content)]);
        for bytes in [&whole[..whole.len() / 2], b"no archive", b""] {
            let (_root, result, names) = unpacked(bytes);
            assert!(matches!(result, Err(OutputsError::Broken { .. })));
            assert_eq!(names, Vec::<String>::new());
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        check_free(folder.path()).unwrap();
        check_free(&folder.path().join("new")).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "mine").unwrap();
        for taken in [folder.path(), file.as_path()] {
            assert!(matches!(check_free(taken), Err(OutputsError::Exists(_))));
        }
    }
}
