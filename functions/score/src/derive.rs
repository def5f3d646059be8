//! From the state of the results bucket to the score of a slice.
//!
//! Nothing of the event that brought us here counts but the slice's name: the outcome follows from the mask, its report
//! and the truth as they are now. So the order and number of the events do not matter. Whoever wrote something looks at
//! what it was derived from once more, and begins anew where that has changed meanwhile.

use futures_util::future::try_join;
use glioseg_shared::cloud::keys::{self, SliceName, StudyId};
use glioseg_shared::cloud::{
    Condition, Head, Metadata, Object, ObjectKey, Stamp, Storage, StorageError,
};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::study::{
    Document, Rejection, ServingLimits, SliceReport, SliceScoreDocument, Spacing,
};

use crate::error::ScoreError;
use crate::input::{Input, head};
use crate::slice::{self, Incomparable, Pair};

/// How often the outcome is derived anew because somebody else wrote meanwhile.
const MAX_TURNS: usize = 16;

/// Metadata of what is derived: the SHA-256 of its bytes.
pub(crate) const CONTENT_SHA256: &str = "content-sha256";
/// What tells this function's rejections from those of uploads.
const TRUTH_SHA256: &str = "truth-sha256";

/// What follows from the mask and the truth of a slice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Not both are there, so there is nothing to say.
    Waiting {
        /// Whether the mask is there.
        mask: bool,
        /// Whether the truth is there.
        truth: bool,
    },
    /// The score.
    Scored(Box<SliceScoreDocument>),
    /// Why there can be none.
    Incomparable(Box<Rejection>),
}

/// Brings the score of a slice up to date.
pub(crate) async fn derive<S: Storage>(
    results: &S,
    limits: &ServingLimits,
    study: &StudyId,
    slice: &SliceName,
) -> Result<Outcome, ScoreError> {
    let targets = Targets {
        score: keys::score(study, slice),
        rejection: keys::incomparable(study, slice),
    };
    for _ in 0..MAX_TURNS {
        let there = targets.look(results).await?;
        let inputs = Inputs::read(results, limits, study, slice).await?;
        let outcome = inputs.outcome(limits, study, slice)?;
        let document = match &outcome {
            Outcome::Waiting { .. } => Written::default(),
            Outcome::Scored(score) => Written {
                score: Some(score.to_json()),
                rejection: None,
            },
            Outcome::Incomparable(rejection) => Written {
                score: None,
                rejection: Some(rejection.to_json()),
            },
        };
        match targets
            .write(results, there, document, &inputs.metadata())
            .await?
        {
            // What has changed since it was read has an event of its own, or somebody else's rejection.
            Change::None => return Ok(outcome),
            Change::Made if inputs.are_current(results).await? => return Ok(outcome),
            Change::Made | Change::Overtaken => {}
        }
    }
    Err(ScoreError::Restless {
        key: targets.score,
        turns: MAX_TURNS,
    })
}

/// The objects that an outcome is derived from, by their keys and as they were read.
struct Inputs {
    mask: Input,
    truth: Input,
    report: Input,
}

impl Inputs {
    async fn read<S: Storage>(
        results: &S,
        limits: &ServingLimits,
        study: &StudyId,
        slice: &SliceName,
    ) -> Result<Self, ScoreError> {
        let max_bytes = limits.max_upload_bytes;
        let (mask, truth) = try_join(
            Input::read(results, keys::mask(study, slice), max_bytes),
            Input::read(results, keys::truth(study, slice), max_bytes),
        )
        .await?;
        let report = keys::report(study, slice);
        let report = if mask.object.is_some() && truth.object.is_some() {
            Input::read(results, report, SliceReport::MAX_BYTES).await?
        } else {
            Input {
                key: report,
                object: None,
            }
        };
        Ok(Self {
            mask,
            truth,
            report,
        })
    }

    fn pair(&self) -> Option<(&Object, &Object)> {
        self.mask.object.as_ref().zip(self.truth.object.as_ref())
    }

    fn outcome(
        &self,
        limits: &ServingLimits,
        study: &StudyId,
        slice: &SliceName,
    ) -> Result<Outcome, ScoreError> {
        let Some((mask, truth)) = self.pair() else {
            return Ok(Outcome::Waiting {
                mask: self.mask.object.is_some(),
                truth: self.truth.object.is_some(),
            });
        };
        let stamp = Stamp::from_metadata(&mask.metadata);
        let pair = Pair {
            study: study.clone(),
            slice: slice.clone(),
            prediction: &mask.bytes,
            truth: &truth.bytes,
            spacing_mm: self.spacing(&stamp)?,
            model_version: stamp.model_version,
        };
        Ok(match slice::score(&pair, &limits.imaging()) {
            Ok(score) => Outcome::Scored(Box::new(score)),
            Err(reason) => {
                Outcome::Incomparable(Box::new(self.rejection(study, &reason, &truth.bytes)))
            }
        })
    }

    /// The spacing that the mask's report tells. A mask without a stamp was not made by the stack and has no report.
    fn spacing(&self, mask: &Stamp) -> Result<Option<Spacing>, ScoreError> {
        if mask.input_sha256.is_empty() {
            return Ok(None);
        }
        let missing = || ScoreError::NoReportYet {
            report: self.report.key.clone(),
        };
        let report = self.report.object.as_ref().ok_or_else(missing)?;
        let stamp = Stamp::from_metadata(&report.metadata);
        let is_ready = match stamp.age_against(mask) {
            Some(std::cmp::Ordering::Greater) => true,
            Some(std::cmp::Ordering::Equal) => stamp.model_version == mask.model_version,
            Some(std::cmp::Ordering::Less) | None => false,
        };
        if !is_ready {
            return Err(missing());
        }
        let report =
            SliceReport::from_json(&report.bytes).map_err(|source| ScoreError::Document {
                key: self.report.key.clone(),
                source,
            })?;
        Ok(report.spacing_mm)
    }

    fn rejection(&self, study: &StudyId, reason: &Incomparable, truth: &[u8]) -> Rejection {
        let advice = match reason {
            Incomparable::Size(_) => {
                "upload as truth the mask of this very slice, with as many columns and rows"
            }
            Incomparable::Unreadable { .. } | Incomparable::Pages { .. } => {
                "upload slice and truth again: what was made of them is damaged"
            }
        };
        let mut rejection = Rejection::new(self.truth.key.to_string(), reason.to_string(), advice);
        rejection.study = Some(study.clone());
        rejection.input_sha256 = Some(sha256_hex(truth));
        rejection
    }

    /// What is said of the outcome beside its bytes: the mask's stamp, and the truth's digest.
    fn metadata(&self) -> Metadata {
        let Some((mask, truth)) = self.pair() else {
            return Metadata::new();
        };
        let mut metadata = Stamp::from_metadata(&mask.metadata).to_metadata();
        metadata.retain(|_, value| !value.is_empty());
        metadata.insert(TRUTH_SHA256.to_owned(), sha256_hex(&truth.bytes));
        metadata
    }

    /// Whether all is as it was read.
    async fn are_current<S: Storage>(&self, results: &S) -> Result<bool, StorageError> {
        let mut inputs = vec![&self.mask, &self.truth];
        // Where one of the two is missing it was not read, and is of no importance.
        if self.pair().is_some() {
            inputs.push(&self.report);
        }
        for input in inputs {
            if !input.is_current(results).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The two objects of which at most one is to be there.
struct Targets {
    score: ObjectKey,
    rejection: ObjectKey,
}

/// The state of both.
struct There {
    score: Option<Head>,
    rejection: Option<Head>,
}

/// What both are to hold.
#[derive(Default)]
struct Written {
    score: Option<Vec<u8>>,
    rejection: Option<Vec<u8>>,
}

/// What a write has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// All is as it should be already.
    None,
    /// All is as it should be now.
    Made,
    /// Somebody else wrote meanwhile.
    Overtaken,
}

impl Targets {
    async fn look<S: Storage>(&self, results: &S) -> Result<There, StorageError> {
        let (score, rejection) =
            try_join(head(results, &self.score), head(results, &self.rejection)).await?;
        Ok(There { score, rejection })
    }

    async fn write<S: Storage>(
        &self,
        results: &S,
        there: There,
        written: Written,
        metadata: &Metadata,
    ) -> Result<Change, StorageError> {
        // A file of the user's that has the same name may have been set aside.
        let is_ours = |head: &Head| head.metadata.contains_key(TRUTH_SHA256);
        let mut change = Change::None;
        for (key, there, bytes) in [
            (&self.score, there.score, written.score),
            (&self.rejection, there.rejection, written.rejection),
        ] {
            let part = match bytes {
                Some(bytes) => put(results, key, there, bytes, metadata.clone()).await?,
                None if there.as_ref().is_some_and(is_ours) => {
                    results.delete(key).await?;
                    Change::Made
                }
                None => Change::None,
            };
            match part {
                Change::None => {}
                Change::Made => change = Change::Made,
                Change::Overtaken => return Ok(Change::Overtaken),
            }
        }
        Ok(change)
    }
}

async fn put<S: Storage>(
    results: &S,
    key: &ObjectKey,
    there: Option<Head>,
    bytes: Vec<u8>,
    mut metadata: Metadata,
) -> Result<Change, StorageError> {
    metadata.insert(CONTENT_SHA256.to_owned(), sha256_hex(&bytes));
    let condition = match there {
        Some(there) if there.metadata == metadata => return Ok(Change::None),
        Some(there) => Condition::IfMatch(there.etag),
        None => Condition::IfAbsent,
    };
    match results.put(key, bytes, condition, &metadata).await {
        Ok(_) => Ok(Change::Made),
        Err(StorageError::PreconditionFailed { .. } | StorageError::Conflict { .. }) => {
            Ok(Change::Overtaken)
        }
        Err(error) => Err(error),
    }
}
