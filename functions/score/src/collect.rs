//! What is kept of a slice for training: the slice beside its truth, as two files of the labelled data set.
//!
//! As with scores nothing of the event counts but the slice's name: what is kept follows from the prepared slice, its
//! truth and the manifest as they are now, and each file carries the stamp of what it was made from, so that only what
//! is older is replaced. Whoever changed something looks once more, and begins anew where something changed meanwhile.
//!
//! Slice and truth expire, and what is kept of them does not. A truth that is absent therefore takes nothing away that
//! was kept before: deleting does that itself.

use futures_util::future::try_join;
use glioseg_shared::cloud::keys::{
    self, LabelledFile, LabelledSlice, PatientId, SliceName, StudyId,
};
use glioseg_shared::cloud::{
    Head, Object, ObjectKey, Replaced, Stamp, Storage, StorageError, replace_older,
};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::{Limits, decode_masks, decode_slices, encode_slice_tiff};
use glioseg_shared::study::labelled::{NotEnrolled, Standing};
use glioseg_shared::study::{Inventory, Prepared, ServingLimits};

use crate::derive::{CONTENT_SHA256, Outcome, head};
use crate::error::ScoreError;
use crate::roll;

/// How often a slice is looked at anew because somebody else wrote meanwhile.
const MAX_TURNS: usize = 16;

/// Most bytes of an image's file beyond those of its pixels: a directory, eight bytes for each strip, and what fills up
/// the last one.
const MAX_TIFF_OVERHEAD: u64 = 1 << 20;

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

/// Brings the files of a slice up to date, after its score has been.
pub(crate) async fn collect<S: Storage>(
    results: &S,
    limits: &ServingLimits,
    study: &StudyId,
    slice: &SliceName,
    scored: &Outcome,
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
    if *scored == is_to_come && head(results, &files.image).await?.is_none() {
        return Ok(Collected::NotYet);
    }
    let is_incomparable = matches!(scored, Outcome::Incomparable(_));
    let mut has_changed = false;
    for _ in 0..MAX_TURNS {
        let standing = roll::read(results).await?.standing(place.patient());
        let there = files.look(results).await?;
        if standing == Standing::Withdrawn {
            files.remove(results, &there).await?;
            return Ok(Collected::Withdrawn);
        }
        let inputs = Inputs::read(results, limits, &place).await?;
        // Where this very call has written, the truth was there when it began: it is being deleted, perhaps by one who
        // looked for the files before they were written.
        if inputs.truth.object.is_none() && !has_changed {
            return Ok(Collected::WithoutTruth);
        }
        let kept_size = if inputs.prepared.object.is_none() && !is_incomparable {
            files.size_of_image(results, &limits.imaging()).await?
        } else {
            None
        };
        let wanted = inputs.wanted(kept_size, &limits.imaging())?;
        let collected = wanted.collected();
        let is_unknown = collected == Collected::Kept && standing == Standing::Unknown;
        if is_unknown || there.is_new(&wanted) {
            match roll::enrol(results, place.patient()).await {
                Ok(()) => {}
                Err(ScoreError::NotEnrolled(NotEnrolled::Withdrawn)) => continue,
                Err(error) => return Err(error),
            }
        }
        let change = files.bring_to(results, &there, wanted).await?;
        has_changed |= change != Change::None;
        match change {
            // What has changed since it was read has an event of its own.
            Change::None => return Ok(Collected::Unchanged),
            Change::Made
                if inputs.are_current(results).await?
                    && !is_withdrawn(results, place.patient()).await? =>
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

struct Input {
    key: ObjectKey,
    object: Option<Object>,
}

/// A file to be written, and what it was made from.
struct Made {
    bytes: Vec<u8>,
    stamp: Stamp,
}

/// What the files are to hold.
enum Wanted {
    /// Slice and truth.
    Pair { image: Made, mask: Made },
    /// The truth, beside an image of its size that is there already: what that was made from has expired.
    Mask(Made),
    /// Nothing.
    Nothing,
}

impl Wanted {
    fn collected(&self) -> Collected {
        match self {
            Self::Pair { .. } | Self::Mask(_) => Collected::Kept,
            Self::Nothing => Collected::Unpaired,
        }
    }
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
        let stamp = Stamp::from_metadata(&prepared.metadata);
        let prepared =
            Prepared::decode(&prepared.bytes, limits).map_err(|source| ScoreError::Prepared {
                key: self.prepared.key.clone(),
                source,
            })?;
        if (prepared.slice.width(), prepared.slice.height()) != size {
            return Ok(Wanted::Nothing);
        }
        let image = Made {
            bytes: encode_slice_tiff(&prepared.slice),
            stamp,
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

impl Input {
    async fn read<S: Storage>(
        results: &S,
        key: ObjectKey,
        max_bytes: u64,
    ) -> Result<Self, StorageError> {
        let object = match results.get(&key, max_bytes).await {
            Ok(object) => Some(object),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        Ok(Self { key, object })
    }

    async fn is_current<S: Storage>(&self, results: &S) -> Result<bool, StorageError> {
        let now = head(results, &self.key).await?;
        Ok(match (&now, &self.object) {
            (None, None) => true,
            // Equal tags are equal bytes, but not equal stamps.
            (Some(now), Some(read)) => now.etag == read.etag && now.metadata == read.metadata,
            _ => false,
        })
    }
}

/// Columns and rows of a file of one mask; `None` for any other, of which the score's rejection tells.
fn size_of_mask(file: &[u8], limits: &Limits) -> Option<(usize, usize)> {
    match &decode_masks(file, limits).ok()?[..] {
        [mask] => Some((mask.width(), mask.height())),
        _ => None,
    }
}

/// Columns and rows of a file of one slice; `None` for any other.
fn size_of_slice(file: &[u8], limits: &Limits) -> Option<(usize, usize)> {
    match &decode_slices(file, limits).ok()?[..] {
        [slice] => Some((slice.width(), slice.height())),
        _ => None,
    }
}

/// The state of the two files of a slice.
struct There {
    image: Option<Head>,
    mask: Option<Head>,
}

impl There {
    /// Whether something is wanted that none of them has.
    fn is_new(&self, wanted: &Wanted) -> bool {
        let lacks = |there: &Option<Head>, made: &Made| {
            let has = there
                .as_ref()
                .and_then(|head| head.metadata.get(CONTENT_SHA256));
            has != Some(&sha256_hex(&made.bytes))
        };
        match wanted {
            Wanted::Pair { image, mask } => lacks(&self.image, image) || lacks(&self.mask, mask),
            Wanted::Mask(mask) => lacks(&self.mask, mask),
            Wanted::Nothing => false,
        }
    }
}

/// The two files of a slice.
struct Files {
    image: ObjectKey,
    mask: ObjectKey,
}

/// What a write has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// All is as it should be already, or newer.
    None,
    /// All is as it should be now.
    Made,
    /// What is there is ahead of what was read, and behind it.
    Overtaken,
}

impl Files {
    fn of(place: &LabelledSlice) -> Self {
        Self {
            image: place.key(LabelledFile::Image),
            mask: place.key(LabelledFile::Mask),
        }
    }

    async fn look<S: Storage>(&self, results: &S) -> Result<There, StorageError> {
        let (image, mask) = try_join(head(results, &self.image), head(results, &self.mask)).await?;
        Ok(There { image, mask })
    }

    /// Columns and rows of the image that is there; `None` where there is none that can be read.
    async fn size_of_image<S: Storage>(
        &self,
        results: &S,
        limits: &Limits,
    ) -> Result<Option<(usize, usize)>, StorageError> {
        let max_bytes = limits.max_decoded_bytes.saturating_add(MAX_TIFF_OVERHEAD);
        match results.get(&self.image, max_bytes).await {
            Ok(object) => Ok(size_of_slice(&object.bytes, limits)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes or deletes. At no time is there a slice without a mask.
    async fn bring_to<S: Storage>(
        &self,
        results: &S,
        there: &There,
        wanted: Wanted,
    ) -> Result<Change, StorageError> {
        match wanted {
            Wanted::Pair { image, mask } => {
                let masks = write(results, &self.mask, mask).await?;
                if masks == Change::Overtaken {
                    return Ok(masks);
                }
                Ok(match write(results, &self.image, image).await? {
                    Change::None => masks,
                    images => images,
                })
            }
            Wanted::Mask(mask) => write(results, &self.mask, mask).await,
            Wanted::Nothing => self.remove(results, there).await,
        }
    }

    async fn remove<S: Storage>(&self, results: &S, there: &There) -> Result<Change, StorageError> {
        let mut change = Change::None;
        for (key, there) in [(&self.image, &there.image), (&self.mask, &there.mask)] {
            if there.is_some() {
                results.delete(key).await?;
                change = Change::Made;
            }
        }
        Ok(change)
    }
}

async fn write<S: Storage>(
    results: &S,
    key: &ObjectKey,
    made: Made,
) -> Result<Change, StorageError> {
    let replaced = replace_older(results, key, &made.stamp, made.bytes).await?;
    Ok(match replaced {
        Replaced::Written => Change::Made,
        Replaced::Unchanged | Replaced::Newer => Change::None,
        // Neither file is a model's, so that there is no other model's either.
        Replaced::Mixed | Replaced::OtherModel(_) => Change::Overtaken,
    })
}
