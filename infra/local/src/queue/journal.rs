//! A queue's file: one line for each thing that happened, so that a stop at any moment loses no message.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{DeadLetter, Message};

/// Lines below which a file is never rewritten.
const SHORT: usize = 4096;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Entry {
    /// All numbers below this one have been used.
    Next(u64),
    /// A message was put.
    Put(Message),
    /// It was dealt with.
    Done(u64),
    /// It failed once more.
    Failed(u64),
    /// It was given up, for this reason.
    Dead(u64, String),
    /// It was taken back from the dead letters.
    Revived(u64),
}

/// What the lines of a file come to.
#[derive(Debug, Default)]
pub(super) struct Left {
    pub(super) next: u64,
    pub(super) waiting: BTreeMap<u64, Message>,
    pub(super) dead: BTreeMap<u64, DeadLetter>,
}

impl Left {
    fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Next(next) => self.next = self.next.max(next),
            Entry::Put(message) => {
                self.next = self.next.max(message.id.saturating_add(1));
                self.waiting.insert(message.id, message);
            }
            Entry::Done(id) => {
                self.waiting.remove(&id);
            }
            Entry::Failed(id) => {
                if let Some(message) = self.waiting.get_mut(&id) {
                    message.receives += 1;
                }
            }
            Entry::Dead(id, reason) => {
                if let Some(mut message) = self.waiting.remove(&id) {
                    message.receives += 1;
                    self.dead.insert(id, DeadLetter { message, reason });
                }
            }
            Entry::Revived(id) => {
                if let Some(letter) = self.dead.remove(&id) {
                    let message = Message {
                        receives: 0,
                        ..letter.message
                    };
                    self.waiting.insert(id, message);
                }
            }
        }
    }
}

/// The file, open for more lines.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Of whole lines.
    bytes: u64,
    lines: usize,
}

impl Journal {
    /// Reads what is left, and starts a new file with nothing but that.
    pub(super) fn open(path: PathBuf) -> io::Result<(Self, Left)> {
        let mut left = Left::default();
        match File::open(&path) {
            Ok(file) => read(BufReader::new(file), &mut left).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let (file, bytes, lines) =
            write(&path, left.next, left.waiting.values(), left.dead.values())?;
        let journal = Self {
            path,
            file,
            bytes,
            lines,
        };
        Ok((journal, left))
    }

    /// Adds a line.
    pub(super) fn append(&mut self, entry: &Entry) -> io::Result<()> {
        self.append_all(std::slice::from_ref(entry))
    }

    /// Adds lines, in one write.
    pub(super) fn append_all(&mut self, entries: &[Entry]) -> io::Result<()> {
        let mut text = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut text, entry)?;
            text.push(b'\n');
        }
        if let Err(error) = self.file.write_all(&text) {
            // A part of a line must not stand before the next one. Where even this fails, opening will say so.
            let _ = self.file.set_len(self.bytes);
            let _ = self.file.seek(SeekFrom::Start(self.bytes));
            return Err(error);
        }
        self.bytes += text.len() as u64;
        self.lines += entries.len();
        Ok(())
    }

    /// Whether far more has happened than what is left of it.
    pub(super) fn is_mostly_history(&self, live: usize) -> bool {
        self.lines > SHORT.max(live.saturating_mul(4))
    }

    /// Replaces the file by one with nothing but what is left.
    pub(super) fn rewrite<'a>(
        &mut self,
        next: u64,
        waiting: impl Iterator<Item = &'a Message>,
        dead: impl Iterator<Item = &'a DeadLetter>,
    ) -> io::Result<()> {
        (self.file, self.bytes, self.lines) = write(&self.path, next, waiting, dead)?;
        Ok(())
    }
}

fn read(mut lines: impl BufRead, left: &mut Left) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        lines.read_until(b'\n', &mut line)?;
        // A last line without its end is of a write that was broken off: its writer was never answered.
        if !line.ends_with(b"\n") {
            return Ok(());
        }
        left.apply(serde_json::from_slice(&line)?);
    }
}

fn write<'a>(
    path: &Path,
    next: u64,
    waiting: impl Iterator<Item = &'a Message>,
    dead: impl Iterator<Item = &'a DeadLetter>,
) -> io::Result<(File, u64, usize)> {
    let entries = std::iter::once(Entry::Next(next))
        .chain(waiting.map(|message| Entry::Put(message.clone())))
        .chain(dead.flat_map(|letter| {
            let message = Message {
                // The line of the death counts the last time.
                receives: letter.message.receives.saturating_sub(1),
                ..letter.message.clone()
            };
            [
                Entry::Put(message),
                Entry::Dead(letter.message.id, letter.reason.clone()),
            ]
        }));
    let partial = path.with_extension("partial");
    let mut text = io::BufWriter::new(File::create(&partial)?);
    let mut lines = 0;
    for entry in entries {
        serde_json::to_writer(&mut text, &entry)?;
        text.write_all(b"\n")?;
        lines += 1;
    }
    let bytes = text.stream_position()?;
    let file = text.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    fs::rename(partial, path)?;
    Ok((file, bytes, lines))
}
