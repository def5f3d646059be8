//! Which checkpoints of a run are kept, and which of them it goes on from.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Checkpoint, CheckpointError};

/// The newest checkpoint of a run and, where that is wanted, the one before it.
///
/// A checkpoint that was copied to another place and back, as that of a spot instance is, may come back cut short; the
/// one before it costs the run an epoch instead of all of them.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    newest: PathBuf,
    previous: Option<PathBuf>,
    /// Whether the newest file is known to be a checkpoint, so that it may take the place of the one before.
    newest_is_whole: bool,
}

impl Checkpoints {
    /// One checkpoint: each replaces the one before.
    #[must_use]
    pub fn one(path: PathBuf) -> Self {
        Self {
            newest: path,
            previous: None,
            newest_is_whole: false,
        }
    }

    /// `checkpoint.bin` in a folder, and `checkpoint-previous.bin`, the one before it.
    #[must_use]
    pub fn two(folder: &Path) -> Self {
        Self {
            newest: folder.join("checkpoint.bin"),
            previous: Some(folder.join("checkpoint-previous.bin")),
            newest_is_whole: false,
        }
    }

    /// Where the newest checkpoint lies.
    #[must_use]
    pub fn newest(&self) -> &Path {
        &self.newest
    }

    /// The newest checkpoint that is whole; `None` where there is none.
    ///
    /// Where two are kept, one that is damaged is passed over, and `passed_over` told its file and what is wrong with
    /// it: beginning anew gives the same weights, only later.
    ///
    /// # Errors
    /// When a file cannot be read; and, where one checkpoint is kept, when it is damaged.
    pub fn read(
        &mut self,
        passed_over: &mut dyn FnMut(&Path, &str),
    ) -> Result<Option<Checkpoint>, CheckpointError> {
        let Some(previous) = &self.previous else {
            return Checkpoint::read(&self.newest);
        };
        let mut whole = |path: &Path| match Checkpoint::read(path) {
            Err(CheckpointError::Damaged { path, reason }) => {
                passed_over(&path, &reason);
                Ok(None)
            }
            other => other,
        };
        if let Some(checkpoint) = whole(&self.newest)? {
            self.newest_is_whole = true;
            return Ok(Some(checkpoint));
        }
        whole(previous)
    }

    /// Writes a checkpoint, which is the newest from now on; on any error those that are there remain.
    ///
    /// # Errors
    /// [`CheckpointError::Write`].
    pub fn write(&mut self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let unwritable = |path: &Path| {
            let path = path.to_owned();
            move |source| CheckpointError::Write { path, source }
        };
        let next = match &self.previous {
            None => return checkpoint.write(&self.newest),
            Some(previous) => previous.with_file_name("checkpoint-next.bin"),
        };
        // The new one is whole on the disk before an old one gives up its name.
        checkpoint.write(&next)?;
        if let (true, Some(previous)) = (self.newest_is_whole, &self.previous) {
            fs::rename(&self.newest, previous).map_err(unwritable(previous))?;
        }
        fs::rename(&next, &self.newest).map_err(unwritable(&self.newest))?;
        self.newest_is_whole = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;
    use crate::networks::Weights;
    use crate::settings::Settings;

    #[derive(Parser)]
    struct Defaults {
        #[command(flatten)]
        settings: Settings,
    }

    /// A checkpoint that is told by its data.
    fn checkpoint(data: &str) -> Checkpoint {
        Checkpoint {
            recipe: Defaults::parse_from(["fit"]).settings.recipe(),
            data: data.to_owned(),
            history: Vec::new(),
            weights: Weights::from([("w".to_owned(), vec![1.0; 1000])]),
            average: Weights::new(),
            best: Weights::new(),
            optimiser: vec![7; 1000],
        }
    }

    /// What is gone on from by whoever comes next, and which files were passed over.
    fn next(folder: &Path) -> (Option<String>, Vec<String>) {
        let mut passed_over = Vec::new();
        let read = Checkpoints::two(folder)
            .read(&mut |path, _| passed_over.push(path.display().to_string()))
            .unwrap();
        (read.map(|checkpoint| checkpoint.data), passed_over)
    }

    fn cut_short(path: &Path) {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }

    #[test]
    fn the_one_before_stands_in_for_one_that_is_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Checkpoints::two(folder.path());
        assert_eq!(next(folder.path()), (None, Vec::new()));
        for data in ["one", "two", "three"] {
            kept.write(&checkpoint(data)).unwrap();
        }
        assert_eq!(next(folder.path()).0.as_deref(), Some("three"));

        cut_short(&folder.path().join("checkpoint.bin"));
        let (read, passed_over) = next(folder.path());
        assert_eq!(read.as_deref(), Some("two"));
        assert_eq!(passed_over.len(), 1);
        assert!(passed_over[0].contains("checkpoint.bin"), "{passed_over:?}");

        // The damaged one does not take the place of the whole one.
        let mut resumed = Checkpoints::two(folder.path());
        resumed.read(&mut |_, _| ()).unwrap();
        resumed.write(&checkpoint("three again")).unwrap();
        assert_eq!(next(folder.path()).0.as_deref(), Some("three again"));
        cut_short(&folder.path().join("checkpoint.bin"));
        assert_eq!(next(folder.path()).0.as_deref(), Some("two"));

        cut_short(&folder.path().join("checkpoint-previous.bin"));
        let (read, passed_over) = next(folder.path());
        assert_eq!((read, passed_over.len()), (None, 2));
    }

    #[test]
    fn a_kill_between_the_two_names_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Checkpoints::two(folder.path());
        kept.write(&checkpoint("one")).unwrap();
        fs::rename(
            folder.path().join("checkpoint.bin"),
            folder.path().join("checkpoint-previous.bin"),
        )
        .unwrap();
        assert_eq!(next(folder.path()), (Some("one".to_owned()), Vec::new()));
    }

    #[test]
    fn where_one_is_kept_it_must_be_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint.bin");
        let mut kept = Checkpoints::one(path.clone());
        kept.write(&checkpoint("one")).unwrap();
        cut_short(&path);
        assert!(matches!(
            kept.read(&mut |_, _| ()),
            Err(CheckpointError::Damaged { .. })
        ));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
