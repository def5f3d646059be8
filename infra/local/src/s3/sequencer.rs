//! Numbers that only grow, over restarts too.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Numbers reserved at a time: the file is written once for so many.
const BLOCK: u64 = 4096;

/// Gives out sequencers: 16 hexadecimal digits, each larger than all before.
pub(super) struct Sequencer {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    next: u64,
    /// The file promises that no number from here on was given out.
    reserved: u64,
}

impl Sequencer {
    /// Continues after whatever the file's last user may have given out; from 1 where there is no file.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let next = match fs::read_to_string(&path) {
            Ok(text) => u64::from_str_radix(text.trim(), 16).map_err(|error| {
                let text = format!("{}: {error}", path.display());
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 1,
            Err(error) => return Err(error),
        };
        let state = Mutex::new(State {
            next,
            reserved: next,
        });
        Ok(Self { path, state })
    }

    /// The next number.
    pub(super) fn next(&self) -> io::Result<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.next == state.reserved {
            let reserved = state.next.saturating_add(BLOCK);
            self.write(reserved)?;
            state.reserved = reserved;
        }
        let number = state.next;
        state.next += 1;
        Ok(format!("{number:016X}"))
    }

    fn write(&self, reserved: u64) -> io::Result<()> {
        let partial = self.path.with_extension("partial");
        let mut file = File::create(&partial)?;
        writeln!(file, "{reserved:016X}")?;
        file.sync_all()?;
        fs::rename(partial, &self.path)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn numbers_grow_over_restarts_and_blocks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sequencer");
        let mut last = String::new();
        for _ in 0..3 {
            let sequencer = Sequencer::open(path.clone()).unwrap();
            for _ in 0..BLOCK + 10 {
                let next = sequencer.next().unwrap();
                assert_eq!(next.len(), 16);
                assert!(next > last, "{next} after {last}");
                last = next;
            }
        }
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sequencer");
        fs::write(&path, "many").unwrap();
        let error = Sequencer::open(path).err().unwrap();
        assert!(error.to_string().contains("sequencer"), "{error}");
    }
}
