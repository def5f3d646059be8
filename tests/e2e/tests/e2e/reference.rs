//! What `glioseg segment` makes of a folder: the bytes that every other way has to come to as well.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::binaries;
use super::models;
use super::studies::Study;

/// The outputs of studies with their truth, by key of the results bucket.
pub(crate) fn outputs(studies: &[Study]) -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    for study in studies {
        study.write(&input);
    }
    let run = Command::new(binaries::path("glioseg"))
        .arg("segment")
        .arg(&input)
        .arg("--out")
        .arg(&output)
        .arg("--truth")
        .arg("--model")
        .arg(models::shipped())
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "glioseg segment: {}",
        String::from_utf8_lossy(&run.stderr)
    );
    let mut files = BTreeMap::new();
    collect(&output, &output, &mut files);
    files.retain(|key, _| key.contains('/'));
    files
}

/// Reads every file below a folder, by its path from the root on.
fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let key = path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            files.insert(key, std::fs::read(&path).unwrap());
        }
    }
}
