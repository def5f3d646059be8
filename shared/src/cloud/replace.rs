//! Writes that replace only what is older: how at-least-once events come to an exactly-once effect.

use std::cmp::Ordering;
use std::fmt;

use super::storage::{Condition, Head, Metadata, ObjectKey, Storage, StorageError};
use crate::digest::sha256_hex;

/// How often a write begins anew because somebody else wrote in between.
const MAX_TURNS: usize = 16;

/// Longest sequencer that is believed, in digits; S3's have 16 to 18.
const MAX_SEQUENCER_DIGITS: usize = 64;

const INPUT_SHA256: &str = "input-sha256";
const SEQUENCER: &str = "sequencer";
const STUDY_SEQUENCER: &str = "study-sequencer";
const MODEL_VERSION: &str = "model-version";
const CONTENT_SHA256: &str = "content-sha256";

/// The place of an event among the events of one key: S3's hexadecimal `sequencer`.
///
/// Sequencers of different lengths are compared as if the shorter had zeros before it, as S3 prescribes. Those of
/// different keys say nothing about each other.
///
/// ```
/// use glioseg_shared::cloud::Sequencer;
///
/// let sequencer = |text| Sequencer::parse(text).unwrap();
/// assert!(sequencer("00FF") < sequencer("100"));
/// assert_eq!(sequencer("00ff"), sequencer("FF"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sequencer(String);

impl Sequencer {
    /// Reads 1 to 64 hexadecimal digits; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hexadecimal = text.bytes().all(|b| b.is_ascii_hexdigit());
        if !hexadecimal || text.is_empty() || text.len() > MAX_SEQUENCER_DIGITS {
            return None;
        }
        let digits = text.trim_start_matches('0').to_ascii_uppercase();
        Some(Self(if digits.is_empty() {
            "0".to_owned()
        } else {
            digits
        }))
    }

    /// The digits, upper-case, without zeros before them.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ord for Sequencer {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |sequencer: &Self| sequencer.0.len();
        key(self)
            .cmp(&key(other))
            .then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Sequencer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Sequencer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a derived object was made from, carried as its metadata.
///
/// The two sequencers order stamps in part: one that is ahead in one and behind in the other is neither older nor
/// newer. Digest and model version have no order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// SHA-256 of the input, 64 lower-case hexadecimal digits.
    pub input_sha256: String,
    /// Of the event that announced the upload; `None` is older than any.
    pub sequencer: Option<Sequencer>,
    /// Of the `study.json` that was applied; `None`, where there was none, is older than any.
    pub study_sequencer: Option<Sequencer>,
    /// The model that took part, if one did.
    pub model_version: Option<String>,
}

impl Stamp {
    /// The stamp as metadata of an object.
    #[must_use]
    pub fn to_metadata(&self) -> Metadata {
        let sequencer = |sequencer: &Option<Sequencer>| sequencer.as_ref().map(ToString::to_string);
        [
            (INPUT_SHA256, Some(self.input_sha256.clone())),
            (SEQUENCER, sequencer(&self.sequencer)),
            (STUDY_SEQUENCER, sequencer(&self.study_sequencer)),
            (MODEL_VERSION, self.model_version.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
    }

    /// The stamp in an object's metadata; what is missing or unreadable there counts as absent, so as oldest.
    #[must_use]
    pub fn from_metadata(metadata: &Metadata) -> Self {
        let sequencer = |name| {
            metadata
                .get(name)
                .and_then(|text: &String| Sequencer::parse(text))
        };
        Self {
            input_sha256: metadata.get(INPUT_SHA256).cloned().unwrap_or_default(),
            sequencer: sequencer(SEQUENCER),
            study_sequencer: sequencer(STUDY_SEQUENCER),
            model_version: metadata.get(MODEL_VERSION).cloned(),
        }
    }

    /// Whether this stamp is older than, as old as, or newer than another; `None` where it is ahead in one sequencer
    /// and behind in the other.
    #[must_use]
    pub fn age_against(&self, other: &Self) -> Option<Ordering> {
        let upload = self.sequencer.cmp(&other.sequencer);
        let study = self.study_sequencer.cmp(&other.study_sequencer);
        match (upload, study) {
            (order, Ordering::Equal) | (Ordering::Equal, order) => Some(order),
            (a, b) if a == b => Some(a),
            _ => None,
        }
    }
}

/// What [`replace_older`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// The object is written: there was none, or an older one, or other bytes of the same age.
    Written,
    /// The very same object is there already.
    Unchanged,
    /// A newer object is there and stays.
    Newer,
    /// The object there is ahead in one sequencer and behind in the other. The caller reads its inputs again, computes
    /// again and comes back with a stamp that is ahead in both.
    Mixed,
    /// The object there is as old, and is the work of this other model. It stays until the caller has made sure that
    /// its own model is the one to serve, and calls [`replace_model`].
    OtherModel(String),
}

/// Writes a derived object unless what is there is as new; compare-and-swap decides between concurrent writers.
///
/// The stamp becomes the object's metadata, together with the SHA-256 of the bytes as `content-sha256`. Whatever the
/// order and number of the calls, the object with the newest stamp stays.
///
/// An [`ETag`](super::ETag) tells contents apart, not stamps. A writer that comes late may thus replace the same bytes
/// under a newer stamp; so whoever derives from an input that changes looks at it again after writing.
///
/// # Errors
///
/// What the store meets; retryable also where others were faster 16 times over.
pub async fn replace_older(
    storage: &impl Storage,
    key: &ObjectKey,
    stamp: &Stamp,
    bytes: Vec<u8>,
) -> Result<Replaced, StorageError> {
    replace(storage, key, stamp, bytes, None).await
}

/// As [`replace_older`], and replaces an output of the same age by the model `replaced` too.
///
/// Naming the model that is to go keeps a writer from replacing one that came after it had looked: it is told
/// [`Replaced::OtherModel`] again.
///
/// # Errors
///
/// As [`replace_older`].
pub async fn replace_model(
    storage: &impl Storage,
    key: &ObjectKey,
    stamp: &Stamp,
    bytes: Vec<u8>,
    replaced: &str,
) -> Result<Replaced, StorageError> {
    replace(storage, key, stamp, bytes, Some(replaced)).await
}

async fn replace(
    storage: &impl Storage,
    key: &ObjectKey,
    stamp: &Stamp,
    bytes: Vec<u8>,
    replaced_model: Option<&str>,
) -> Result<Replaced, StorageError> {
    let mut metadata = stamp.to_metadata();
    metadata.insert(CONTENT_SHA256.to_owned(), sha256_hex(&bytes));
    for _ in 0..MAX_TURNS {
        let condition = match storage.head(key).await {
            Ok(there) => match compare(&there, stamp, &metadata, replaced_model) {
                None => Condition::IfMatch(there.etag),
                Some(nothing_written) => return Ok(nothing_written),
            },
            Err(error) if error.is_not_found() => Condition::IfAbsent,
            Err(error) => return Err(error),
        };
        match storage.put(key, bytes.clone(), condition, &metadata).await {
            Ok(_) => return Ok(Replaced::Written),
            Err(StorageError::PreconditionFailed { .. } | StorageError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(StorageError::Unavailable {
        operation: "replace",
        key: key.to_string(),
        reason: format!("others wrote it {MAX_TURNS} times meanwhile"),
    })
}

/// `None` where the object there is to be replaced, else what to tell the caller.
fn compare(
    there: &Head,
    stamp: &Stamp,
    metadata: &Metadata,
    replaced_model: Option<&str>,
) -> Option<Replaced> {
    let existing = Stamp::from_metadata(&there.metadata);
    match existing.age_against(stamp) {
        Some(Ordering::Less) => None,
        Some(Ordering::Greater) => Some(Replaced::Newer),
        None => Some(Replaced::Mixed),
        Some(Ordering::Equal) if there.metadata == *metadata => Some(Replaced::Unchanged),
        Some(Ordering::Equal) => existing
            .model_version
            .filter(|version| {
                stamp.model_version.as_ref() != Some(version)
                    && replaced_model != Some(version.as_str())
            })
            .map(Replaced::OtherModel),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sequencer(text: &str) -> Sequencer {
        Sequencer::parse(text).unwrap()
    }

    fn stamp(upload: Option<&str>, study: Option<&str>) -> Stamp {
        Stamp {
            input_sha256: sha256_hex(b"input"),
            sequencer: upload.map(sequencer),
            study_sequencer: study.map(sequencer),
            model_version: None,
        }
    }

    #[test]
    fn sequencers_are_compared_as_numbers_of_any_length() {
        let ascending = [
            "0",
            "1",
            "00A",
            "0000b",
            "10",
            "fffffffffffffffff",
            "100000000000000000",
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(sequencer(a).cmp(&sequencer(b)), i.cmp(&j), "{a} {b}");
            }
        }
        assert_eq!(sequencer("000"), sequencer("0"));
        assert_eq!(sequencer("0055AED6DCD90281E5").as_str(), "55AED6DCD90281E5");
        for text in ["", "g", " 1", "1 ", "-1", "ü", &"1".repeat(65)] {
            assert_eq!(Sequencer::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn stamps_are_ordered_in_part() {
        use Ordering::{Equal, Greater, Less};
        let cases = [
            (stamp(None, None), stamp(None, None), Some(Equal)),
            (stamp(None, None), stamp(Some("0"), None), Some(Less)),
            (
                stamp(Some("1"), None),
                stamp(Some("2"), Some("1")),
                Some(Less),
            ),
            (
                stamp(Some("2"), Some("1")),
                stamp(Some("2"), Some("2")),
                Some(Less),
            ),
            (
                stamp(Some("1"), Some("2")),
                stamp(Some("2"), Some("1")),
                None,
            ),
            (stamp(Some("1"), Some("1")), stamp(Some("2"), None), None),
        ];
        for (a, b, order) in cases {
            assert_eq!(a.age_against(&b), order, "{a:?} {b:?}");
            assert_eq!(b.age_against(&a), order.map(Ordering::reverse));
        }
        assert_eq!(
            stamp(Some("2"), None).age_against(&stamp(Some("1"), None)),
            Some(Greater)
        );
    }

    #[test]
    fn a_stamp_survives_being_metadata() {
        let full = Stamp {
            model_version: Some("1.2.0".to_owned()),
            ..stamp(Some("00ab"), Some("1"))
        };
        for stamp in [full, stamp(None, None)] {
            assert_eq!(Stamp::from_metadata(&stamp.to_metadata()), stamp);
        }
        let foreign = Metadata::from([("sequencer".to_owned(), "no digits".to_owned())]);
        assert_eq!(Stamp::from_metadata(&foreign), Stamp::default());
    }
}
