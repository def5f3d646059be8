//! Folders of slices on this machine, segmented as the cloud would: the same names, the same bytes.

mod inputs;
mod summary;
mod work;

pub use inputs::{Input, Inputs, collect};
pub use summary::{Row, csv};
pub use work::{Job, Outcome};

use std::fmt;
use std::path::{Path, PathBuf};

/// A file that was not dealt with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

impl Fault {
    /// Names a file and what is wrong with it.
    pub(crate) fn new(path: &Path, reason: impl fmt::Display) -> Self {
        Self {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}
