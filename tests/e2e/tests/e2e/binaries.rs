//! The programs of the test build, beside the test itself.

use std::io::{Cursor, Write};
use std::path::PathBuf;
use std::process::Command;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A program of the workspace.
///
/// The tests of the whole workspace build all of them, as each package with a program has integration tests.
pub(crate) fn path(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let program = profile.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.is_file(),
        "{} is not built: run `cargo test --workspace --release`",
        program.display()
    );
    program
}

/// A function's program as what Lambda takes: a zip with the executable `bootstrap`.
///
/// Line tables, nine tenths of the file, are left out as `cargo lambda build` leaves them out. `strip` is there wherever
/// Rust has a linker.
pub(crate) fn zipped(name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let bootstrap = folder.path().join("bootstrap");
    let stripped = Command::new("strip")
        .arg("-o")
        .args([&bootstrap, &path(name)])
        .status()
        .unwrap();
    assert!(stripped.success(), "strip {name}: {stripped}");
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().unix_permissions(0o755);
    zip.start_file("bootstrap", options).unwrap();
    zip.write_all(&std::fs::read(bootstrap).unwrap()).unwrap();
    zip.finish().unwrap().into_inner()
}
