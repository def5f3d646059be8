//! What is kept of a slice for training: the slice beside its truth, as two files of the labelled data set.
//!
//! As with scores nothing of the event counts but the slice's name: what is kept follows from the prepared slice, its
//! truth and the manifest as they are now, and each file carries the stamp of what it was made from, so that only what
//! is older is replaced. Whoever changed something looks once more, and begins anew where something changed meanwhile.
//!
//! Slice and truth expire, and what is kept of them does not. A truth that is absent therefore takes nothing away that
//! was kept before: deleting does that itself. Two things say that it was deleted all the same, while somebody was
//! keeping the slice who died before looking again: that the object is gone whose event comes once more, and that there
//! is one file of the two. An event that comes after its object has expired says the same, though nothing was deleted:
//! results should outlive what waits in the queues, 18 days at most.

mod files;

use futures_util::future::{try_join, try_join3};
use glioseg_shared::cloud::keys::{self, LabelledSlice, PatientId, SliceName, StudyId};
use glioseg_shared::cloud::{Head, Stamp, Storage, StorageError};
use glioseg_shared::imaging::{Limits, decode_masks, encode_slice_tiff};
use glioseg_shared::study::labelled::{NotEnrolled, Standing};
use glioseg_shared::study::{Inventory, Prepared, ServingLimits};

use crate::derive::Outcome;
use crate::error::ScoreError;
use crate::input::{Input, head};
use crate::memory::Memory;
use crate::roll;
use files::{Change, Files, Made, Wanted};

/// How often a slice is looked at anew because somebody else wrote meanwhile.
const MAX_TURNS: usize = 16;

/// What became of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collected {
    /// It is there with its truth now.
    Kept,
    /// All was as it should be already.
    Unchanged,
    /// It is not, since there are no slice and truth of one size.
    Unpaired,
    /// It is as it was before, there or not: its truth has expired, was deleted, or is to come.
    WithoutTruth,
    /// It is not, since its patient was withdrawn.
    Withdrawn,
    /// It is not, since its names are not those of a folder and a file.
    WithoutPlace,
    /// Its mask will tell of it again.
    NotYet,
}

/// What brings the files of slices up to date.
pub(crate) struct Collector<'a, S> {
    /// The bucket of all that is derived.
    pub(crate) results: &'a S,
    /// What an image may ask for.
    pub(crate) limits: &'a ServingLimits,
    /// What slices that are collected at once share.
    pub(crate) memory: &'a Memory,
}

impl<S: Storage> Collector<'_, S> {
    /// Brings the files of a slice up to date, after its score has been. `is_deleted` says that the object is gone whose
    /// event led here.
    pub(crate) async fn collect(
        &self,
        study: &StudyId,
        slice: &SliceName,
        scored: &Outcome,
        is_deleted: bool,
    ) -> Result<Collected, ScoreError> {
        let Ok(place) = LabelledSlice::new(study, slice) else {
            return Ok(Collected::WithoutPlace);
        };
        // A slice that no model can segment is none to learn from, whichever of slice and truth came first.
        let is_to_come = Outcome::Waiting {
            mask: false,
            truth: true,
        };
        let files = Files::of(&place);
        // Of a slice that was kept the mask may have expired: no other will tell that its truth was corrected.
        if *scored == is_to_come && head(self.results, &files.image).await?.is_none() {
            return Ok(Collected::NotYet);
        }
        let is_incomparable = matches!(scored, Outcome::Incomparable(_));
        let mut has_changed = false;
        for _ in 0..MAX_TURNS {
            let _held = self.memory.take(self.weight(&place, &files).await?).await;
            let standing = roll::read(self.results).await?.standing(place.patient());
            let there = files.look(self.results).await?;
            if standing == Standing::Withdrawn {
                files.remove(self.results, &there).await?;
                return Ok(Collected::Withdrawn);
            }
            let inputs = Inputs::read(self.results, self.limits, &place).await?;
            // Where this very call has written, the truth was there when it began: it is being deleted, perhaps by one
            // who looked for the files before they were written.
            let was_deleted = has_changed || is_deleted || there.is_torn();
            if inputs.truth.object.is_none() && !was_deleted {
                return Ok(Collected::WithoutTruth);
            }
            let kept_size = if inputs.prepared.object.is_none() && !is_incomparable {
                let limits = self.limits.imaging();
                files.size_of_image(self.results, &limits).await?
            } else {
                None
            };
            let wanted = inputs.wanted(kept_size, &self.limits.imaging())?;
            let collected = wanted.collected();
            let is_unknown = collected == Collected::Kept && standing == Standing::Unknown;
            if is_unknown || there.is_new(&wanted) {
                match roll::enrol(self.results, place.patient()).await {
                    Ok(()) => {}
                    Err(ScoreError::NotEnrolled(NotEnrolled::Withdrawn)) => continue,
                    Err(error) => return Err(error),
                }
            }
            let change = files.bring_to(self.results, &there, wanted).await?;
            has_changed |= change != Change::None;
            match change {
                // What has changed since it was read has an event of its own.
                Change::None => return Ok(Collected::Unchanged),
                Change::Made
                    if inputs.are_current(self.results).await?
                        && !is_withdrawn(self.results, place.patient()).await? =>
                {
                    return Ok(collected);
                }
                Change::Made | Change::Overtaken => {}
            }
        }
        Err(ScoreError::Restless {
            key: files.image,
            turns: MAX_TURNS,
        })
    }

    /// How many bytes one turn holds of a slice at most, by what lies in the bucket.
    async fn weight(&self, place: &LabelledSlice, files: &Files) -> Result<u64, StorageError> {
        let (prepared, truth) = (
            keys::prepared(place.study(), place.slice()),
            keys::truth(place.study(), place.slice()),
        );
        let (prepared, truth, image) = try_join3(
            head(self.results, &prepared),
            head(self.results, &truth),
            head(self.results, &files.image),
        )
        .await?;
        let size = |head: Option<Head>| head.map(|head| head.size);
        Ok(weight(size(prepared), size(truth), size(image)))
    }
}

/// How many bytes are held at most of a slice whose objects have these sizes.
///
/// A truth is not compressed: a byte a pixel. With its slice it is there twice, as it was read and as it is written, and
/// an image of its size twice with three bytes a pixel, decoded and encoded, beside the file that it is decoded from.
/// Where there is no such file, the image that was kept takes the place of both.
fn weight(prepared: Option<u64>, truth: Option<u64>, image: Option<u64>) -> u64 {
    let truth = truth.unwrap_or(0);
    match prepared {
        Some(prepared) => truth.saturating_mul(8).saturating_add(prepared),
        None => image.unwrap_or(0).saturating_add(truth).saturating_mul(2),
    }
}

/// What a study's owner has to know of what is not collected.
pub(crate) async fn warnings<S: Storage>(
    results: &S,
    inventory: &Inventory,
) -> Result<Vec<String>, ScoreError> {
    let labelled: Vec<_> = inventory
        .slices()
        .into_iter()
        .filter(|(_, objects)| objects.truth)
        .map(|(slice, _)| LabelledSlice::new(inventory.study(), slice))
        .collect();
    if labelled.is_empty() {
        return Ok(Vec::new());
    }
    let mut warnings = Vec::new();
    let patient = PatientId::of(inventory.study());
    match is_withdrawn(results, &patient).await {
        Ok(false) => {}
        Ok(true) => warnings.push(
            "the patient was withdrawn from the labelled data set: nothing of the study is collected for training"
                .to_owned(),
        ),
        // The study stands as it does, whatever somebody has made of the manifest.
        Err(error @ ScoreError::Document { .. }) => warnings.push(format!(
            "nothing is collected for training until the manifest of the labelled data set is mended: {error}"
        )),
        Err(error) => return Err(error),
    }
    let without_place: Vec<_> = labelled.into_iter().filter_map(Result::err).collect();
    if let Some(first) = without_place.first() {
        warnings.push(format!(
            "{} slices with truth are not collected for training: {first}",
            without_place.len()
        ));
    }
    Ok(warnings)
}

async fn is_withdrawn<S: Storage>(results: &S, patient: &PatientId) -> Result<bool, ScoreError> {
    Ok(roll::read(results).await?.standing(patient) == Standing::Withdrawn)
}

/// The objects that the files are made from, by their keys and as they were read.
struct Inputs {
    prepared: Input,
    truth: Input,
}

impl Inputs {
    async fn read<S: Storage>(
        results: &S,
        limits: &ServingLimits,
        place: &LabelledSlice,
    ) -> Result<Self, StorageError> {
        let max_bytes = limits.max_upload_bytes;
        let (study, slice) = (place.study(), place.slice());
        let (prepared, truth) = try_join(
            Input::read(results, keys::prepared(study, slice), max_bytes),
            Input::read(results, keys::truth(study, slice), max_bytes),
        )
        .await?;
        Ok(Self { prepared, truth })
    }

    /// What follows from them. Where the prepared slice is gone, `kept_size` is that of the image which is there
    /// already. The truth is in the data set's layout since it was uploaded.
    fn wanted(
        &self,
        kept_size: Option<(usize, usize)>,
        limits: &Limits,
    ) -> Result<Wanted, ScoreError> {
        let Some(truth) = &self.truth.object else {
            return Ok(Wanted::Nothing);
        };
        let Some(size) = size_of_mask(&truth.bytes, limits) else {
            return Ok(Wanted::Nothing);
        };
        let mask = Made {
            bytes: truth.bytes.clone(),
            stamp: Stamp::from_metadata(&truth.metadata),
        };
        let Some(prepared) = &self.prepared.object else {
            return Ok(if kept_size == Some(size) {
                Wanted::Mask(mask)
            } else {
                Wanted::Nothing
            });
        };
        let unreadable = |source| ScoreError::Prepared {
            key: self.prepared.key.clone(),
            source,
        };
        // Looked at first, so that no slice is decoded that is larger than its truth.
        if Prepared::size(&prepared.bytes).map_err(unreadable)? != size {
            return Ok(Wanted::Nothing);
        }
        let decoded = Prepared::decode(&prepared.bytes, limits).map_err(unreadable)?;
        let image = Made {
            bytes: encode_slice_tiff(&decoded.slice),
            stamp: Stamp::from_metadata(&prepared.metadata),
        };
        Ok(Wanted::Pair { image, mask })
    }

    /// Whether both are as they were read.
    async fn are_current<S: Storage>(&self, results: &S) -> Result<bool, StorageError> {
        let (prepared, truth) = try_join(
            self.prepared.is_current(results),
            self.truth.is_current(results),
        )
        .await?;
        Ok(prepared && truth)
    }
}

/// Columns and rows of a file of one mask; `None` for any other, of which the score's rejection tells.
fn size_of_mask(file: &[u8], limits: &Limits) -> Option<(usize, usize)> {
    match &decode_masks(file, limits).ok()?[..] {
        [mask] => Some((mask.width(), mask.height())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_weighs_what_is_held_of_it() {
        const PIXELS: u64 = 4096 * 4096;
        // Truth twice, a decoded and an encoded image, and the prepared slice where nothing could be compressed.
        let held = 2 * PIXELS + 2 * 3 * PIXELS + 3 * PIXELS;
        assert_eq!(weight(Some(3 * PIXELS), Some(PIXELS), None), held);
        let held = 2 * PIXELS + 2 * 3 * PIXELS;
        assert_eq!(weight(None, Some(PIXELS), Some(3 * PIXELS)), held);
        assert_eq!(weight(None, None, None), 0);
        assert_eq!(weight(Some(u64::MAX), Some(u64::MAX), None), u64::MAX);
    }
}
