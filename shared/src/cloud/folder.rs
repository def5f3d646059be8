//! Objects as files of a local folder.
//!
//! An object's key is its path below the root. What the store keeps for itself has names that start with `.glioseg`:
//! a lock file and the metadata in `.glioseg/` below the root, and files being written beside their final place.
//! Writers hold the lock exclusively while they check their condition and put the file in place, readers hold it
//! shared, so conditions hold between processes too.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::storage::{
    Condition, ETag, Entry, Head, MAX_PAGE, Metadata, Object, ObjectKey, Page, Storage,
    StorageError, check_metadata,
};
use crate::digest::{hex, sha256_hex};
use crate::files::{ReadError, read_rest};

/// What the names of the store's own files and folders start with; no segment of a key may.
const RESERVED: &str = ".glioseg";

/// More metadata than [`check_metadata`] lets through, JSON's escapes included.
const MAX_METADATA_FILE: u64 = 64 * 1024;

/// Objects as files of a local folder; an object's [`ETag`] is the SHA-256 of its content.
///
/// Files are written beside their final place and moved there when whole, so an interrupted write leaves nothing under
/// a final name. An object and a "folder" cannot share a name here: `a` and `a/b` exclude each other.
#[derive(Clone, Debug)]
pub struct FolderStorage {
    folder: Arc<Folder>,
}

impl FolderStorage {
    /// Opens the folder, and makes it where there is none.
    ///
    /// # Errors
    ///
    /// [`StorageError`] where it cannot be made or is no folder.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let root = root.into();
        fs::create_dir_all(&root)
            .map_err(|error| io_error(&error, "open", &root.display().to_string()))?;
        Ok(Self {
            folder: Arc::new(Folder { root }),
        })
    }

    /// The file that holds, or will hold, an object.
    pub(super) fn file_of(&self, key: &ObjectKey) -> Result<PathBuf, StorageError> {
        self.folder.path(key)
    }

    /// Runs file work where it holds up no other task of the runtime.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Folder) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let folder = Arc::clone(&self.folder);
        tokio::task::spawn_blocking(move || work(&folder))
            .await
            .unwrap_or_else(|error| {
                Err(StorageError::Failed {
                    operation: "use",
                    key: self.folder.root.display().to_string(),
                    reason: error.to_string(),
                })
            })
    }
}

impl Storage for FolderStorage {
    async fn get(&self, key: &ObjectKey, max_bytes: u64) -> Result<Object, StorageError> {
        let key = key.clone();
        self.blocking(move |folder| folder.read(&key, max_bytes))
            .await
    }

    async fn get_if_changed(
        &self,
        key: &ObjectKey,
        known: &ETag,
        max_bytes: u64,
    ) -> Result<Option<Object>, StorageError> {
        let object = self.get(key, max_bytes).await?;
        Ok((object.etag != *known).then_some(object))
    }

    async fn put(
        &self,
        key: &ObjectKey,
        bytes: Vec<u8>,
        condition: Condition,
        metadata: &Metadata,
    ) -> Result<ETag, StorageError> {
        check_metadata(metadata)?;
        let (key, metadata) = (key.clone(), metadata.clone());
        self.blocking(move |folder| {
            folder.write(&key, &mut bytes.as_slice(), &condition, &metadata)
        })
        .await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Head, StorageError> {
        let key = key.clone();
        self.blocking(move |folder| folder.head(&key)).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Page, StorageError> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.blocking(move |folder| folder.list(&prefix, after.as_ref(), limit))
            .await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError> {
        let key = key.clone();
        self.blocking(move |folder| folder.delete(&key)).await
    }
}

#[derive(Debug)]
struct Folder {
    root: PathBuf,
}

impl Folder {
    fn read(&self, key: &ObjectKey, max_bytes: u64) -> Result<Object, StorageError> {
        let path = self.path(key)?;
        let failed = |error: io::Error| io_error(&error, "read", key.as_str());
        let _lock = self.lock_shared().map_err(failed)?;
        let file = open_object(&path).map_err(failed)?;
        let bytes = read_rest(file, max_bytes).map_err(|error| match error {
            ReadError::Io(error) => failed(error),
            ReadError::TooLarge(_) => StorageError::TooLarge {
                key: key.to_string(),
                allowed: max_bytes,
            },
        })?;
        let etag = ETag::new(sha256_hex(&bytes));
        let metadata = self.read_metadata(key, &etag)?;
        Ok(Object {
            bytes,
            etag,
            metadata,
        })
    }

    fn head(&self, key: &ObjectKey) -> Result<Head, StorageError> {
        let path = self.path(key)?;
        let failed = |error: io::Error| io_error(&error, "read", key.as_str());
        let _lock = self.lock_shared().map_err(failed)?;
        let mut file = open_object(&path).map_err(failed)?;
        let (etag, size) = copy_and_digest(&mut file, &mut io::sink()).map_err(failed)?;
        let metadata = self.read_metadata(key, &etag)?;
        Ok(Head {
            size,
            etag,
            metadata,
        })
    }

    fn write(
        &self,
        key: &ObjectKey,
        content: &mut impl Read,
        condition: &Condition,
        metadata: &Metadata,
    ) -> Result<ETag, StorageError> {
        let path = self.path(key)?;
        let failed = |error: io::Error| io_error(&error, "write", key.as_str());
        let refused = || StorageError::PreconditionFailed {
            key: key.to_string(),
        };
        let parent = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent).map_err(failed)?;
        let (temporary, etag) = Temporary::create(parent, content).map_err(failed)?;

        let _lock = self.lock_exclusive().map_err(failed)?;
        if path.is_dir() {
            return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        let current = match open_object(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        match (condition, current) {
            (Condition::Always, _) | (Condition::IfAbsent, None) => {}
            (Condition::IfAbsent, Some(_)) | (Condition::IfMatch(_), None) => return Err(refused()),
            (Condition::IfMatch(expected), Some(mut file)) => {
                if copy_and_digest(&mut file, &mut io::sink())
                    .map_err(failed)?
                    .0
                    != *expected
                {
                    return Err(refused());
                }
            }
        }
        // The metadata names the content it belongs to, so it may lie there before the content does, and an
        // interruption between the two steps leaves the old object with its own metadata.
        self.write_metadata(key, &etag, metadata).map_err(failed)?;
        if *condition == Condition::IfAbsent {
            // A link, unlike a move, replaces nothing: the condition holds even against one who knows no lock.
            fs::hard_link(&temporary.path, &path).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => refused(),
                _ => failed(error),
            })?;
        } else {
            fs::rename(&temporary.path, &path).map_err(failed)?;
        }
        self.forget_metadata(key, Some(&etag));
        Ok(etag)
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Page, StorageError> {
        let failed = |error: io::Error| io_error(&error, "list", prefix);
        let mut entries = Vec::new();
        let mut refused = Vec::new();
        let mut folders = vec![(self.root.clone(), String::new())];
        while let Some((folder, below)) = folders.pop() {
            for entry in fs::read_dir(folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                if name.starts_with(RESERVED) {
                    continue;
                }
                let text = format!("{below}{name}");
                let kind = entry.file_type().map_err(failed)?;
                if kind.is_dir() {
                    let below = format!("{text}/");
                    if below.starts_with(prefix) || prefix.starts_with(&below) {
                        folders.push((entry.path(), below));
                    }
                } else if kind.is_file()
                    && text.starts_with(prefix)
                    && after.is_none_or(|after| text.as_str() > after.as_str())
                {
                    match ObjectKey::parse(text.as_str()) {
                        Ok(key) => entries.push(Entry {
                            key,
                            size: entry.metadata().map_err(failed)?.len(),
                        }),
                        Err(_) => refused.push(text),
                    }
                }
            }
        }
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        let limit = limit.clamp(1, MAX_PAGE);
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries
            .last()
            .filter(|_| more)
            .map(|entry| entry.key.clone());
        // Those after the last entry belong to the next page.
        let passed_over = refused
            .iter()
            .filter(|text| {
                next.as_ref()
                    .is_none_or(|next| text.as_str() < next.as_str())
            })
            .count();
        Ok(Page {
            entries,
            passed_over,
            next,
        })
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), StorageError> {
        let path = self.path(key)?;
        let failed = |error: io::Error| io_error(&error, "delete", key.as_str());
        let _lock = self.lock_exclusive().map_err(failed)?;
        match fs::remove_file(path) {
            Err(error) if !means_absent(&error) => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        self.forget_metadata(key, None);
        Ok(())
    }

    /// The file of a key: below the root, and reached through no symbolic link, which could lead elsewhere.
    fn path(&self, key: &ObjectKey) -> Result<PathBuf, StorageError> {
        let invalid = |reason| StorageError::InvalidKey {
            key: key.to_string(),
            reason,
        };
        let mut path = self.root.clone();
        for segment in key.as_str().split('/') {
            let mut components = Path::new(segment).components();
            if !matches!(
                (components.next(), components.next()),
                (Some(Component::Normal(_)), None)
            ) {
                return Err(invalid("a segment is no plain file name"));
            }
            if segment.starts_with(RESERVED) {
                return Err(invalid(
                    "names that start with .glioseg belong to the store",
                ));
            }
            path.push(segment);
            if path.is_symlink() {
                return Err(invalid("it leads through a symbolic link"));
            }
        }
        Ok(path)
    }

    fn lock_exclusive(&self) -> io::Result<File> {
        let own = self.root.join(RESERVED);
        fs::create_dir_all(&own)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(own.join("lock"))?;
        file.lock()?;
        Ok(file)
    }

    /// `None` where no writer has been yet, so that a folder that cannot be written can be read.
    fn lock_shared(&self) -> io::Result<Option<File>> {
        match File::open(self.root.join(RESERVED).join("lock")) {
            Ok(file) => file.lock_shared().map(|()| Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The folder of a key's metadata: one file for each content, named after its [`ETag`]. A digest stands for the
    /// key because a key with its slashes replaced could be longer than a file name may be.
    fn metadata_folder(&self, key: &ObjectKey) -> PathBuf {
        self.root
            .join(RESERVED)
            .join("metadata")
            .join(sha256_hex(key.as_str().as_bytes()))
    }

    fn read_metadata(&self, key: &ObjectKey, etag: &ETag) -> Result<Metadata, StorageError> {
        let failed = |error: io::Error| io_error(&error, "read the metadata of", key.as_str());
        let file = match File::open(self.metadata_folder(key).join(etag.as_str())) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Metadata::new()),
            Err(error) => return Err(failed(error)),
        };
        serde_json::from_reader(file.take(MAX_METADATA_FILE)).map_err(|error| failed(error.into()))
    }

    fn write_metadata(&self, key: &ObjectKey, etag: &ETag, metadata: &Metadata) -> io::Result<()> {
        let folder = self.metadata_folder(key);
        let path = folder.join(etag.as_str());
        if metadata.is_empty() {
            return match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            };
        }
        fs::create_dir_all(&folder)?;
        let json = serde_json::to_vec(metadata)?;
        let (temporary, _) = Temporary::create(&folder, &mut json.as_slice())?;
        fs::rename(&temporary.path, path)
    }

    /// Clears away metadata of contents that are gone. That it fails is no harm: nobody will ask for it.
    fn forget_metadata(&self, key: &ObjectKey, keep: Option<&ETag>) {
        let folder = self.metadata_folder(key);
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if keep.is_none_or(|keep| entry.file_name() != *keep.as_str()) {
                let _ = fs::remove_file(entry.path());
            }
        }
        // Succeeds only where the folder is empty.
        let _ = fs::remove_dir(folder);
    }
}

/// A whole file under a name of the store's own, removed when dropped.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn create(folder: &Path, content: &mut impl Read) -> io::Result<(Self, ETag)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let process = std::process::id();
        let (mut file, temporary) = loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{RESERVED}-{process}-{number}.tmp"));
            match File::create_new(&path) {
                Ok(file) => break (file, Self { path }),
                // Left by a process that was killed and had the same number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        };
        let (etag, _) = copy_and_digest(content, &mut file)?;
        file.sync_all()?;
        Ok((temporary, etag))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        let _ = fs::remove_file(&self.path);
    }
}

/// Opens the file of an object; a folder of that name is none.
fn open_object(path: &Path) -> io::Result<File> {
    let file = File::open(path).map_err(|error| {
        if means_absent(&error) {
            io::Error::from(io::ErrorKind::NotFound)
        } else {
            error
        }
    })?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::from(io::ErrorKind::NotFound))
    }
}

fn means_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    )
}

/// Copies to the end of the source; returns the SHA-256 and the number of bytes.
fn copy_and_digest(source: &mut impl Read, target: &mut impl Write) -> io::Result<(ETag, u64)> {
    let mut digest = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => return Ok((ETag::new(hex(&digest.finalize())), size)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let part = &buffer[..count];
        digest.update(part);
        target.write_all(part)?;
        size += part.len() as u64;
    }
}

fn io_error(error: &io::Error, operation: &'static str, key: &str) -> StorageError {
    let (key, reason) = (key.to_owned(), error.to_string());
    match error.kind() {
        io::ErrorKind::NotFound => StorageError::NotFound { key },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StorageError::Denied {
                operation,
                key,
                reason,
            }
        }
        io::ErrorKind::Interrupted
        | io::ErrorKind::TimedOut
        | io::ErrorKind::WouldBlock
        | io::ErrorKind::ResourceBusy
        | io::ErrorKind::StaleNetworkFileHandle => StorageError::Unavailable {
            operation,
            key,
            reason,
        },
        _ => StorageError::Failed {
            operation,
            key,
            reason,
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Gives some bytes, then fails as a full disk or a broken pipe would.
    struct Broken(usize);

    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            let count = self.0.min(buffer.len());
            self.0 -= count;
            Ok(count)
        }
    }

    fn files(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_write_that_breaks_off_leaves_the_old_object_and_no_other_file() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder {
            root: root.path().to_owned(),
        };
        let (new, old) = (
            ObjectKey::parse("a/new").unwrap(),
            ObjectKey::parse("a/old").unwrap(),
        );
        let metadata = Metadata::from([("made-by".to_owned(), "test".to_owned())]);
        folder
            .write(&old, &mut b"old".as_slice(), &Condition::Always, &metadata)
            .unwrap();
        for key in [&new, &old] {
            let error = folder
                .write(
                    key,
                    &mut Broken(200_000),
                    &Condition::Always,
                    &Metadata::new(),
                )
                .unwrap_err();
            assert!(
                matches!(
                    error,
                    StorageError::Failed {
                        operation: "write",
                        ..
                    }
                ),
                "{error}"
            );
        }
        assert_eq!(files(&root.path().join("a")), ["old"]);
        let object = folder.read(&old, 100).unwrap();
        assert_eq!(
            (object.bytes.as_slice(), object.metadata),
            (b"old".as_slice(), metadata)
        );
    }

    #[test]
    fn metadata_stays_with_its_content_when_a_write_stops_halfway() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder {
            root: root.path().to_owned(),
        };
        let key = ObjectKey::parse("k").unwrap();
        let of = |text: &str| Metadata::from([("of".to_owned(), text.to_owned())]);
        let etag = folder
            .write(&key, &mut b"old".as_slice(), &Condition::Always, &of("old"))
            .unwrap();
        // What a writer has done when it is killed before it moves the content.
        folder
            .write_metadata(&key, &ETag::new(sha256_hex(b"new")), &of("new"))
            .unwrap();
        assert_eq!(
            folder.head(&key).unwrap(),
            Head {
                size: 3,
                etag,
                metadata: of("old")
            }
        );
        folder
            .write(
                &key,
                &mut b"newer".as_slice(),
                &Condition::Always,
                &of("newer"),
            )
            .unwrap();
        assert_eq!(files(&folder.metadata_folder(&key)).len(), 1);
        folder.delete(&key).unwrap();
        assert!(!folder.metadata_folder(&key).exists());
    }
}
