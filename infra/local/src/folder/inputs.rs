//! Which files below some paths are uploads, and under which keys they would be uploaded.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use glioseg_shared::cloud::ObjectKey;
use glioseg_shared::cloud::keys::{self, Upload, UploadKind};
use glioseg_shared::imaging::natural_order;

use super::Fault;

/// A file, and the upload that it would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The file.
    pub path: PathBuf,
    /// The key that it would be uploaded under.
    pub key: ObjectKey,
    /// What it is by its key.
    pub upload: Upload,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// The files, in the natural order of their keys.
    pub files: Vec<Input>,
    /// How many files of folders are no uploads by their names.
    pub ignored: usize,
    /// What could not be looked at.
    pub faults: Vec<Fault>,
}

/// Looks for uploads: `paths` are files, or folders with files at any depth.
///
/// Keys are those of `aws s3 cp FOLDER s3://uploads/ --recursive`: the folders below a path name the study. Files of
/// which no folder is known that way, images directly in a path or given as one, belong to a study named after the
/// folder that they lie in. What lies in `excluded` is left out. Hidden files are left out; links to folders are not
/// followed.
#[must_use]
pub fn collect(paths: &[PathBuf], excluded: Option<&Path>) -> Inputs {
    let mut walk = Walk {
        excluded: excluded.and_then(|folder| folder.canonicalize().ok()),
        found: Inputs::default(),
    };
    for path in paths {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => walk.folder(path, path, ""),
            Ok(_) => {
                let before = walk.found.ignored;
                walk.file(path, folder_name(path.parent()).as_deref(), "");
                if walk.found.ignored > before {
                    walk.found.ignored = before;
                    let reason = "it is neither .tif, .tiff, .png nor .zip, nor study.json";
                    walk.found.faults.push(Fault::new(path, reason));
                }
            }
            Err(error) => walk.found.faults.push(Fault::new(path, error)),
        }
    }
    let mut found = walk.found;
    found
        .files
        .sort_by(|a, b| natural_order(a.key.as_str(), b.key.as_str()));
    // A path given twice, or within another, is one input.
    found
        .files
        .dedup_by(|a, b| a.key == b.key && same_file(&a.path, &b.path));
    found
}

struct Walk {
    excluded: Option<PathBuf>,
    found: Inputs,
}

impl Walk {
    /// Takes a folder, whose files have keys that begin with `below`.
    fn folder(&mut self, root: &Path, folder: &Path, below: &str) {
        if self.excluded.is_some() && folder.canonicalize().ok() == self.excluded {
            return;
        }
        let mut entries =
            match fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
                Ok(entries) => entries,
                Err(error) => return self.found.faults.push(Fault::new(folder, error)),
            };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                self.found
                    .faults
                    .push(Fault::new(&path, "its name is no UTF-8: rename it"));
                continue;
            };
            if name.starts_with('.') || name == "__MACOSX" {
                continue;
            }
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.folder(root, &path, &format!("{below}{name}/")),
                Ok(kind) if kind.is_symlink() && path.is_dir() => {}
                Ok(_) => self.file(&path, folder_name(Some(root)).as_deref(), below),
                Err(error) => self.found.faults.push(Fault::new(&path, error)),
            }
        }
    }

    /// Takes a file whose key begins with `below`; where that is nothing, `study` stands in.
    fn file(&mut self, path: &Path, study: Option<&str>, below: &str) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            self.found
                .faults
                .push(Fault::new(path, "its name is no UTF-8: rename it"));
            return;
        };
        let is_zip = path
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("zip"));
        let text = match study {
            // A zip names its study itself.
            Some(study) if below.is_empty() && !is_zip => format!("{study}/{name}"),
            _ => format!("{below}{name}"),
        };
        let key = match ObjectKey::parse(text) {
            Ok(key) => key,
            Err(error) => return self.found.faults.push(Fault::new(path, error)),
        };
        match keys::classify(&key) {
            Ok(upload) if upload.kind == UploadKind::Unknown => self.found.ignored += 1,
            Ok(upload) => self.found.files.push(Input {
                path: path.to_owned(),
                key,
                upload,
            }),
            Err(error) => self.found.faults.push(Fault::new(path, error)),
        }
    }
}

/// The name of a folder, also of one given as `.`.
fn folder_name(folder: Option<&Path>) -> Option<String> {
    let folder = folder
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let whole = folder.canonicalize().ok()?;
    Some(whole.file_name()?.to_str()?.to_owned())
}

fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        folder
    }

    fn keys(found: &Inputs) -> Vec<&str> {
        found.files.iter().map(|file| file.key.as_str()).collect()
    }

    #[test]
    fn the_folders_below_a_path_name_the_study() {
        let root = folder(&[
            "all/p1/p1_10.tif",
            "all/p1/p1_2.tif",
            "all/p1/p1_2_mask.tif",
            "all/p1/notes.txt",
            "all/p1/.hidden.tif",
            "all/q/r/study.json",
            "all/q/r/1.PNG",
            "all/loose.tif",
            "all/p2.zip",
            "all/out/masks/p1/p1_2.tif",
        ]);
        let all = root.path().join("all");
        let found = collect(std::slice::from_ref(&all), Some(&all.join("out")));
        assert_eq!(
            keys(&found),
            [
                "all/loose.tif",
                "p1/p1_2.tif",
                "p1/p1_2_mask.tif",
                "p1/p1_10.tif",
                "p2.zip",
                "q/r/1.PNG",
                "q/r/study.json"
            ]
        );
        assert_eq!((found.ignored, found.faults), (1, vec![]));
        let found = collect(&[all.join("p1"), all.join("p1/p1_2.tif")], None);
        assert_eq!(
            keys(&found),
            ["p1/p1_2.tif", "p1/p1_2_mask.tif", "p1/p1_10.tif"]
        );
        assert_eq!(found.files[0].upload.study.as_str(), "p1");
    }

    #[test]
    fn what_was_named_and_is_no_upload_is_a_fault() {
        let root = folder(&["notes.txt"]);
        let paths = [root.path().join("notes.txt"), root.path().join("missing")];
        let found = collect(&paths, None);
        assert_eq!(found.files, []);
        let faulty: Vec<_> = found
            .faults
            .iter()
            .map(|fault| fault.path.clone())
            .collect();
        assert_eq!(faulty, paths);
    }
}
