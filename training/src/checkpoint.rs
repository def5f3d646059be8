//! What a training run needs to go on where it stopped.
//!
//! One file: magic, length of a JSON head, head, then the sections that the head names with their lengths and sha256.
//! It is written under another name and renamed, so that a run killed while writing keeps its last whole checkpoint.
//! [`Checkpoints`] decides which of them stay.

mod keeping;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use glioseg_shared::digest::sha256_hex;
use serde::{Deserialize, Serialize};

use crate::files::write_atomically;
use crate::networks::Weights;
use crate::recipe::Recipe;

pub use keeping::Checkpoints;

const MAGIC: &[u8; 8] = b"GLIOCKP1";

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written; the checkpoint before it is untouched.
    #[error("{}: cannot be written: {source}; free some space or choose another --out", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no whole checkpoint.
    #[error("{}: damaged checkpoint ({reason}); remove it to start anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// One line of the record of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: usize,
    /// Mean loss over the steps.
    pub loss: f64,
    /// What the averaged network is worth after it, where somebody validates.
    #[serde(flatten)]
    pub validation: Option<Validation>,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Mean global norm of the gradients before clipping.
    pub gradient_norm: f64,
}

/// What a network is worth on the validation patients, at threshold 0.5 without post-processing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Mean volume Dice.
    #[serde(rename = "validation_dice")]
    pub dice: f64,
    /// Share of the empty slices with a false tumour.
    pub false_positive_rate: f64,
}

/// The state of a run after a whole epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// What the run computes.
    pub recipe: Recipe,
    /// Digest of data and split that it trains on.
    pub data: String,
    /// Epochs so far.
    pub history: Vec<Epoch>,
    /// Weights of the network that is trained.
    pub weights: Weights,
    /// Moving average of the weights.
    pub average: Weights,
    /// Averaged weights of the best epoch so far; of the last one where nobody validates.
    pub best: Weights,
    /// State of the optimiser.
    pub optimiser: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    recipe: Recipe,
    data: String,
    history: Vec<Epoch>,
    sections: Vec<Section>,
}

#[derive(Serialize, Deserialize)]
struct Section {
    name: String,
    bytes: usize,
    sha256: String,
}

impl Checkpoint {
    /// Writes the checkpoint; on any error the file is what it was before.
    ///
    /// # Errors
    /// [`CheckpointError::Write`].
    pub fn write(&self, path: &Path) -> Result<(), CheckpointError> {
        let contents = [
            ("weights", to_bytes(&self.weights)),
            ("average", to_bytes(&self.average)),
            ("best", to_bytes(&self.best)),
            ("optimiser", self.optimiser.clone()),
        ];
        let sections = contents.iter().map(|(name, bytes)| Section {
            name: (*name).to_owned(),
            bytes: bytes.len(),
            sha256: sha256_hex(bytes),
        });
        let head = Head {
            recipe: self.recipe.clone(),
            data: self.data.clone(),
            history: self.history.clone(),
            sections: sections.collect(),
        };
        write_atomically(path, |file| {
            let head = serde_json::to_vec(&head)?;
            file.write_all(MAGIC)?;
            file.write_all(&(head.len() as u64).to_le_bytes())?;
            file.write_all(&head)?;
            contents
                .iter()
                .try_for_each(|(_, bytes)| file.write_all(bytes))
        })
        .map_err(|source| CheckpointError::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// Reads a checkpoint; `None` when there is no such file.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged.
    pub fn read(path: &Path) -> Result<Option<Self>, CheckpointError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(CheckpointError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        Self::parse(&bytes)
            .map(Some)
            .map_err(|reason| CheckpointError::Damaged {
                path: path.to_owned(),
                reason,
            })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or("no checkpoint of this version")?;
        let (length, rest) = rest.split_first_chunk::<8>().ok_or("truncated")?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|e| e.to_string())?;
        let (head, mut rest) = rest.split_at_checked(length).ok_or("truncated")?;
        let head: Head = serde_json::from_slice(head).map_err(|e| e.to_string())?;
        let mut sections = BTreeMap::new();
        for section in head.sections {
            let (bytes, after) = rest.split_at_checked(section.bytes).ok_or("truncated")?;
            if sha256_hex(bytes) != section.sha256 {
                return Err(format!("checksum of {} differs", section.name));
            }
            sections.insert(section.name, bytes);
            rest = after;
        }
        let section = |name: &str| sections.get(name).copied().ok_or(format!("no {name}"));
        Ok(Self {
            recipe: head.recipe,
            data: head.data,
            history: head.history,
            weights: from_bytes(section("weights")?)?,
            average: from_bytes(section("average")?)?,
            best: from_bytes(section("best")?)?,
            optimiser: section("optimiser")?.to_vec(),
        })
    }
}

/// SHA-256 over weights as a checkpoint stores them.
#[must_use]
pub fn weights_digest(weights: &Weights) -> String {
    sha256_hex(&to_bytes(weights))
}

/// Name length, name, number of values, values; all little-endian.
fn to_bytes(weights: &Weights) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, values) in weights {
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend((values.len() as u64).to_le_bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    bytes
}

fn from_bytes(mut bytes: &[u8]) -> Result<Weights, String> {
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = bytes.split_at_checked(count).ok_or("truncated weights")?;
        *bytes = rest;
        Ok(taken)
    }
    fn length(bytes: &mut &[u8]) -> Result<usize, String> {
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or("truncated weights")?;
        *bytes = rest;
        usize::try_from(u64::from_le_bytes(*length)).map_err(|e| e.to_string())
    }
    let mut weights = Weights::new();
    while !bytes.is_empty() {
        let count = length(&mut bytes)?;
        let name =
            String::from_utf8(take(&mut bytes, count)?.to_vec()).map_err(|e| e.to_string())?;
        let count = length(&mut bytes)?
            .checked_mul(4)
            .ok_or("truncated weights")?;
        let values = take(&mut bytes, count)?.as_chunks::<4>().0;
        weights.insert(
            name,
            values.iter().map(|v| f32::from_le_bytes(*v)).collect(),
        );
    }
    Ok(weights)
}
