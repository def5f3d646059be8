//! What `glioseg segment` makes of a folder: the bytes that every other way has to come to as well.

use std::collections::BTreeMap;
use std::process::Command;

use glioseg_test_support::contents::of_folder;

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
    let mut files = of_folder(&output);
    files.retain(|key, _| key.contains('/'));
    files
}
