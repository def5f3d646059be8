//! Finds what tests need from outside the repository, and says so where it is not there; and what tests of several
//! crates share: [`hooked`], a store that fails on demand, [`storage_contract`], what every store promises, [`contents`], all that a
//! bucket or a folder holds, and [`fuzz`], the inputs of the fuzzers.
//!
//! | variable | meaning |
//! |---|---|
//! | `GLIOSEG_LGG_DIR` | the unpacked LGG data set: the folder `kaggle_3m`, or the one that holds it |
//! | `GLIOSEG_LGG_SPLIT` | its split; default `split.json` in that folder, in the one above, or in the archive's |
//! | `GLIOSEG_LGG_ARCHIVE` | the packed data set with its `unpack.py`; default `../shared/data/lgg` beside the repository |
//! | `GLIOSEG_PYTHON` | the Python that has the packages a test needs; default `python3` |
//! | `GLIOSEG_MINISTACK` | ministack, installed together with aws-sam-translator; default `ministack` |
//! | `GLIOSEG_MOTO` | the server of moto, installed together with flask and flask-cors; default `moto_server` |
//! | `GLIOSEG_CARGO_LAMBDA` | cargo-lambda; default `cargo-lambda` |
//! | `GLIOSEG_REQUIRE_ALL` | `1`: what is missing fails the test instead of skipping it |

pub mod contents;
pub mod fuzz;
pub mod hooked;
pub mod storage_contract;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The LGG data set on disk.
#[derive(Clone, Debug)]
pub struct Lgg {
    /// The folder that holds one folder for each patient.
    pub folder: PathBuf,
    /// The split of every reported figure.
    pub split: PathBuf,
}

impl Lgg {
    /// The folders of all patients, by name.
    ///
    /// # Panics
    /// When the data set cannot be read.
    #[must_use]
    pub fn patients(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", self.folder.display()));
        let mut patients: Vec<_> = entries.iter().map(fs::DirEntry::path).collect();
        patients.retain(|path| path.is_dir());
        patients.sort();
        patients
    }
}

/// The LGG data set, unpacked below `target/` on first use; `None`, with a printed line, when it is not there.
///
/// # Panics
/// When it is not there and `GLIOSEG_REQUIRE_ALL=1`; when an archive is there but cannot be unpacked.
#[must_use]
pub fn lgg() -> Option<Lgg> {
    let archive =
        variable("GLIOSEG_LGG_ARCHIVE").unwrap_or_else(|| workspace().join("../shared/data/lgg"));
    let unpacked = match variable("GLIOSEG_LGG_DIR") {
        Some(folder) => folder,
        None if archive.join("unpack.py").is_file() => {
            let folder = target().join("lgg");
            unpack_once(&archive, &folder).unwrap_or_else(|error| {
                panic!("{} cannot be unpacked: {error}", archive.display());
            });
            folder
        }
        None => {
            missing("no LGG data set: set GLIOSEG_LGG_DIR or GLIOSEG_LGG_ARCHIVE");
            return None;
        }
    };
    let folder = Some(unpacked.join("kaggle_3m"))
        .filter(|inner| inner.is_dir())
        .unwrap_or(unpacked);
    let split = variable("GLIOSEG_LGG_SPLIT").or_else(|| {
        [Some(folder.as_path()), folder.parent(), Some(&archive)]
            .into_iter()
            .flatten()
            .map(|place| place.join("split.json"))
            .find(|split| split.is_file())
    });
    if !folder.is_dir() {
        missing(&format!("no LGG data set in {}", folder.display()));
        return None;
    }
    let Some(split) = split else {
        missing("no split.json of the LGG data set: set GLIOSEG_LGG_SPLIT");
        return None;
    };
    Some(Lgg { folder, split })
}

/// A Python that can import these modules; `None`, with a printed line, where there is none.
///
/// # Panics
/// When there is none and `GLIOSEG_REQUIRE_ALL=1`.
#[must_use]
pub fn python(modules: &[&str]) -> Option<PathBuf> {
    let python = variable("GLIOSEG_PYTHON").unwrap_or_else(|| PathBuf::from("python3"));
    let imports: String = modules.iter().map(|m| format!("import {m}\n")).collect();
    match Command::new(&python).arg("-c").arg(imports).output() {
        Ok(output) if output.status.success() => Some(python),
        _ => {
            let modules = modules.join(", ");
            missing(&format!(
                "{} has not all of {modules}: set GLIOSEG_PYTHON",
                python.display()
            ));
            None
        }
    }
}

/// The AWS stand-in ministack, which a test runs as a process; `None`, with a printed line, where there is none.
///
/// # Panics
/// When there is none and `GLIOSEG_REQUIRE_ALL=1`.
#[must_use]
pub fn ministack() -> Option<PathBuf> {
    tool("GLIOSEG_MINISTACK", "ministack", &["--help"])
}

/// The AWS stand-in moto, which a test runs as a process for SageMaker, whose jobs complete at once there; `None`, with a
/// printed line, where there is none.
///
/// # Panics
/// When there is none and `GLIOSEG_REQUIRE_ALL=1`.
#[must_use]
pub fn moto() -> Option<PathBuf> {
    tool("GLIOSEG_MOTO", "moto_server", &["--help"])
}

/// The tool cargo-lambda, to be called with `lambda` as its first argument; `None`, with a printed line, where there
/// is none.
///
/// # Panics
/// When there is none and `GLIOSEG_REQUIRE_ALL=1`.
#[must_use]
pub fn cargo_lambda() -> Option<PathBuf> {
    tool(
        "GLIOSEG_CARGO_LAMBDA",
        "cargo-lambda",
        &["lambda", "--version"],
    )
}

/// The program that a variable names, if it runs with these arguments.
fn tool(name: &str, default: &str, probe: &[&str]) -> Option<PathBuf> {
    let program = variable(name).unwrap_or_else(|| PathBuf::from(default));
    match Command::new(&program).args(probe).output() {
        Ok(output) if output.status.success() => Some(program),
        _ => {
            missing(&format!("{} does not run: set {name}", program.display()));
            None
        }
    }
}

/// Says that the test at hand skips for want of something.
///
/// # Panics
/// When `GLIOSEG_REQUIRE_ALL=1`.
pub fn missing(what: &str) {
    assert!(
        std::env::var_os("GLIOSEG_REQUIRE_ALL").is_none_or(|value| value != "1"),
        "{what} (GLIOSEG_REQUIRE_ALL=1 forbids to skip)"
    );
    eprintln!("SKIPPED: {what}");
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

fn target() -> PathBuf {
    variable("CARGO_TARGET_DIR").unwrap_or_else(|| workspace().join("target"))
}

/// Unpacks the archive, unless `folder` already holds it whole; tests of several processes wait for each other.
fn unpack_once(archive: &Path, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder.parent().unwrap_or(folder))?;
    let lock = File::create(folder.with_extension("lock"))?;
    lock.lock()?;
    // The manifest is copied last, so a folder that has the archive's own manifest is complete and up to date.
    let manifest = fs::read(archive.join("manifest.csv"))?;
    if fs::read(folder.join("manifest.csv")).is_ok_and(|copied| copied == manifest) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let python = variable("GLIOSEG_PYTHON").unwrap_or_else(|| PathBuf::from("python3"));
    let output = Command::new(&python)
        .arg(archive.join("unpack.py"))
        .arg(folder)
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{}: {said}", python.display())));
    }
    fs::write(folder.join("manifest.csv"), manifest)
}
