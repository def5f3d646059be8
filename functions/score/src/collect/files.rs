//! The two files that are kept of a slice: what they are to hold, and what they hold.

use futures_util::future::try_join;
use glioseg_shared::cloud::keys::{LabelledFile, LabelledSlice};
use glioseg_shared::cloud::{
    Head, ObjectKey, Replaced, Stamp, Storage, StorageError, replace_older,
};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::{Limits, decode_slices};

use super::Collected;
use crate::derive::CONTENT_SHA256;
use crate::input::head;

/// Most bytes of an image's file beyond those of its pixels: a directory, eight bytes for each strip, and what fills up
/// the last one.
const MAX_TIFF_OVERHEAD: u64 = 1 << 20;

/// A file to be written, and what it was made from.
pub(super) struct Made {
    pub(super) bytes: Vec<u8>,
    pub(super) stamp: Stamp,
}

/// What the files are to hold.
pub(super) enum Wanted {
    /// Slice and truth.
    Pair { image: Made, mask: Made },
    /// The truth, beside an image of its size that is there already: what that was made from has expired.
    Mask(Made),
    /// Nothing.
    Nothing,
}

impl Wanted {
    /// What will have become of the slice then.
    pub(super) fn collected(&self) -> Collected {
        match self {
            Self::Pair { .. } | Self::Mask(_) => Collected::Kept,
            Self::Nothing => Collected::Unpaired,
        }
    }
}

/// The state of the two files of a slice.
pub(super) struct There {
    image: Option<Head>,
    mask: Option<Head>,
}

impl There {
    /// Whether there is one file of the two: whoever wrote or deleted them has died in between, or is about to go on.
    pub(super) fn is_torn(&self) -> bool {
        self.image.is_some() != self.mask.is_some()
    }

    /// Whether something is wanted that none of them has.
    pub(super) fn is_new(&self, wanted: &Wanted) -> bool {
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
pub(super) struct Files {
    pub(super) image: ObjectKey,
    pub(super) mask: ObjectKey,
}

/// What a write has come to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// All is as it should be already, or newer.
    None,
    /// All is as it should be now.
    Made,
    /// What is there is ahead of what was read, and behind it.
    Overtaken,
}

impl Files {
    /// Those of a slice.
    pub(super) fn of(place: &LabelledSlice) -> Self {
        Self {
            image: place.key(LabelledFile::Image),
            mask: place.key(LabelledFile::Mask),
        }
    }

    /// Looks at both.
    pub(super) async fn look<S: Storage>(&self, results: &S) -> Result<There, StorageError> {
        let (image, mask) = try_join(head(results, &self.image), head(results, &self.mask)).await?;
        Ok(There { image, mask })
    }

    /// Columns and rows of the image that is there; `None` where there is none that can be read.
    pub(super) async fn size_of_image<S: Storage>(
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
    pub(super) async fn bring_to<S: Storage>(
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

    /// Deletes what is there, the image first.
    pub(super) async fn remove<S: Storage>(
        &self,
        results: &S,
        there: &There,
    ) -> Result<Change, StorageError> {
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

/// Columns and rows of a file of one slice; `None` for any other.
fn size_of_slice(file: &[u8], limits: &Limits) -> Option<(usize, usize)> {
    match &decode_slices(file, limits).ok()?[..] {
        [slice] => Some((slice.width(), slice.height())),
        _ => None,
    }
}
