//! Bringing the results of one upload in line with what it holds now.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use glioseg_shared::cloud::keys::{self, Upload, UploadKind};
use glioseg_shared::cloud::{
    ETag, Metadata, ObjectKey, Replaced, Sequencer, Stamp, Storage, StorageError, replace_older,
};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::encode_mask_tiff;
use glioseg_shared::study::{Document, InvalidSpacing, Spacing, StudyManifest};

use crate::Preprocess;
use crate::decode::{self, Contents, Given};
use crate::event::{ObjectError, Outcome};
use crate::gate::{Place, SMALL_BYTES};
use crate::refusal::Refusal;
use crate::reject::{Aside, stamp_of};
use crate::study::CheckedCopy;

/// Object metadata of an upload that says how large its pixels are: `columns,rows` or `columns,rows,slices` in mm.
pub(crate) const SPACING_METADATA: &str = "spacing-mm";

/// How often an upload is looked at anew because it, or its study's manifest, changed meanwhile.
const MAX_TURNS: usize = 16;

/// Results of one upload that are written at once.
const WRITES: usize = 8;

/// An upload to be settled.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// Its key.
    pub(crate) key: ObjectKey,
    /// What it is by its key.
    pub(crate) upload: Upload,
    /// Of its newest event that is known.
    pub(crate) sequencer: Option<Sequencer>,
    /// Whether to make anew what was made from the upload as it is now, and nothing else.
    pub(crate) only_anew: bool,
}

/// An upload as it is now.
struct Current<'a> {
    etag: ETag,
    /// SHA-256 of its bytes; `None` where they are too many to be read.
    sha256: Option<String>,
    content: Result<Arc<Content>, Refusal>,
    /// Held as long as the content is.
    _place: Place<'a>,
}

/// What was read of an upload.
struct Content {
    bytes: Vec<u8>,
    sha256: String,
    spacing_mm: Option<Spacing>,
}

/// An object to be written.
struct Product {
    key: ObjectKey,
    bytes: Vec<u8>,
    /// Whether what is known of the study went into it.
    of_manifest: bool,
}

/// Everything made from an upload.
struct Made {
    products: Vec<Product>,
    slices: usize,
    truths: usize,
    /// Whether the upload said something of its study, which is stored then.
    manifest: bool,
}

impl Task {
    /// Whether what is known of the study goes into what is made from the upload.
    pub(crate) fn takes_manifest(&self) -> bool {
        matches!(self.upload.kind, UploadKind::Slice { .. } | UploadKind::Zip)
    }

    fn aside(&self) -> Aside {
        Aside::of(&self.key, &self.upload.study, &self.upload.file)
    }

    /// The stamp of what is made from the upload, with its study's manifest or without.
    fn stamp(&self, current: &Current<'_>, manifest: Option<&CheckedCopy>) -> Stamp {
        Stamp {
            // A stamp has to name something: what was not read is named by its key.
            input_sha256: current
                .sha256
                .clone()
                .unwrap_or_else(|| sha256_hex(self.key.as_str().as_bytes())),
            sequencer: self.sequencer.clone(),
            study_sequencer: manifest.and_then(|copy| copy.state.sequencer.clone()),
            model_version: None,
        }
    }

    /// Takes over the sequencer of an object that is ahead of this task's: what announced it has happened, so the
    /// upload that is read from now on is at least as new.
    fn adopt(&mut self, there: Option<Stamp>) {
        let there = there.and_then(|stamp| stamp.sequencer);
        self.sequencer = self.sequencer.take().max(there);
    }
}

impl<S: Storage> Preprocess<S> {
    /// Reads an upload as it is now, writes what is made from it, and looks whether that still holds, until it does.
    ///
    /// # Errors
    /// What the stores meet; retryable also where the upload, or its study's manifest, changed again and again.
    pub(crate) async fn settle(&self, mut task: Task) -> Result<Outcome, ObjectError> {
        for _ in 0..MAX_TURNS {
            if let Some(outcome) = self.turn(&mut task).await? {
                return Ok(outcome);
            }
        }
        Err(ObjectError::Unsettled { turns: MAX_TURNS })
    }

    /// One turn of [`Preprocess::settle`]; `None` where something changed under way.
    async fn turn(&self, task: &mut Task) -> Result<Option<Outcome>, ObjectError> {
        let Some(current) = self.read(task).await? else {
            if self.is_listed(&task.key).await? {
                let key = task.key.to_string();
                return Err(ObjectError::NotShown { key });
            }
            return Ok(Some(Outcome::Gone));
        };
        if task.only_anew {
            match self.made_from(task, &current).await? {
                Some(stamp) => task.adopt(Some(stamp)),
                None => return Ok(Some(Outcome::Ignored)),
            }
        }
        let study = &task.upload.study;
        let mut copy = if task.takes_manifest() {
            self.checked_copy(study).await?
        } else {
            None
        };
        let made = match &current.content {
            Ok(content) => self.make(task, &current, content, &mut copy).await?,
            Err(refusal) => Err(refusal.clone()),
        };
        let stamp = task.stamp(&current, copy.as_ref());
        let aside = task.aside();
        let (outcome, rejection_changed) = match made {
            Ok(made) => {
                let outcome = Outcome::Prepared {
                    slices: made.slices,
                    truths: made.truths,
                    manifest: made.manifest,
                };
                if let Some(ahead) = self.write(made.products, &stamp).await? {
                    task.adopt(stamp_of(&self.results, &ahead).await?);
                    return Ok(None);
                }
                (outcome, aside.take_back(&self.results, &stamp).await?)
            }
            Err(refusal) => {
                let sha256 = current.sha256.as_deref();
                let said = aside.say(&self.results, &refusal, sha256, &stamp).await?;
                if said == Replaced::Mixed {
                    task.adopt(aside.stamp(&self.results).await?);
                    return Ok(None);
                }
                (Outcome::Rejected, true)
            }
        };
        let manifest_changed =
            task.takes_manifest() && self.copy_state(study).await? != copy.map(|copy| copy.state);
        // Whoever read another state of the upload may have said, or taken back, the opposite.
        if manifest_changed
            || (rejection_changed && !self.is_still(&task.key, &current.etag).await?)
        {
            return Ok(None);
        }
        Ok(Some(outcome))
    }

    /// Reads an upload into memory, as soon as there is room; `None` where there is none any longer.
    async fn read(&self, task: &Task) -> Result<Option<Current<'_>>, ObjectError> {
        let limit = self.config.limits.max_upload_bytes;
        let mut place = self.gate.small().await;
        let mut read = self.uploads.get(&task.key, limit.min(SMALL_BYTES)).await;
        if limit > SMALL_BYTES && matches!(read, Err(StorageError::TooLarge { .. })) {
            drop(place);
            place = self.gate.large().await;
            read = self.uploads.get(&task.key, limit).await;
        }
        let (etag, sha256, content) = match read {
            Ok(object) => {
                let sha256 = sha256_hex(&object.bytes);
                let spacing_mm = stated_spacing(task, &object.metadata);
                let content = spacing_mm.map(|spacing_mm| Content {
                    bytes: object.bytes,
                    sha256: sha256.clone(),
                    spacing_mm,
                });
                (object.etag, Some(sha256), content)
            }
            Err(StorageError::TooLarge { allowed, .. }) => {
                let etag = match self.uploads.head(&task.key).await {
                    Ok(head) => head.etag,
                    Err(error) if error.is_not_found() => return Ok(None),
                    Err(error) => return Err(error.into()),
                };
                let refusal = Refusal::new(
                    format!("the file has more than the {allowed} bytes allowed"),
                    "split it into several, or upload the slices one by one",
                );
                (etag, None, Err(refusal))
            }
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Current {
            etag,
            sha256,
            content: content.map(Arc::new),
            _place: place,
        }))
    }

    /// Makes everything that is made from an upload. What it says of its study is stored first, and `copy` is then what
    /// the store holds: that counts, even where somebody said something newer meanwhile.
    async fn make(
        &self,
        task: &Task,
        current: &Current<'_>,
        content: &Arc<Content>,
        copy: &mut Option<CheckedCopy>,
    ) -> Result<Result<Made, Refusal>, ObjectError> {
        let (upload, input, limits) = (task.upload.clone(), content.clone(), self.config.limits);
        let own = self
            .gate
            .compute(move || decode::manifest(&upload, &input.bytes, &limits))
            .await?;
        let own = match own {
            Err(refusal) => return Ok(Err(refusal)),
            Ok(None) => {
                let known = copy.as_ref().map(|copy| copy.manifest.clone());
                return self.decode(task, content, known).await;
            }
            Ok(Some(own)) => own,
        };
        // First the whole upload: nothing is stored of one that cannot be read.
        let made = self.decode(task, content, Some(own.clone())).await?;
        if made.is_err() {
            return Ok(made);
        }
        let study = &task.upload.study;
        let stamp = task.stamp(current, None);
        replace_older(&self.results, &keys::manifest(study), &stamp, own.to_json()).await?;
        *copy = self.checked_copy(study).await?;
        match copy {
            Some(copy) if copy.manifest != own => {
                self.decode(task, content, Some(copy.manifest.clone()))
                    .await
            }
            _ => Ok(made),
        }
    }

    /// Decodes an upload, and encodes what it holds, apart from the threads that read and write.
    async fn decode(
        &self,
        task: &Task,
        content: &Arc<Content>,
        manifest: Option<StudyManifest>,
    ) -> Result<Result<Made, Refusal>, ObjectError> {
        let (upload, input, limits) = (task.upload.clone(), content.clone(), self.config.limits);
        let made = self.gate.compute(move || {
            let given = Given {
                sha256: &input.sha256,
                manifest: manifest.as_ref(),
                spacing_mm: input.spacing_mm,
            };
            decode::upload(&upload, &input.bytes, &given, &limits)
                .map(|contents| Made::of(contents, &upload))
        });
        Ok(made.await?)
    }

    /// Writes objects unless newer ones are there; returns the key of one that is ahead of the stamp and behind it.
    async fn write(
        &self,
        products: Vec<Product>,
        stamp: &Stamp,
    ) -> Result<Option<ObjectKey>, StorageError> {
        stream::iter(products)
            .map(|product| async move {
                let stamp = Stamp {
                    study_sequencer: stamp
                        .study_sequencer
                        .clone()
                        .filter(|_| product.of_manifest),
                    ..stamp.clone()
                };
                let replaced =
                    replace_older(&self.results, &product.key, &stamp, product.bytes).await?;
                Ok((replaced == Replaced::Mixed).then_some(product.key))
            })
            .buffer_unordered(WRITES)
            .try_fold(None, |ahead: Option<ObjectKey>, key| async move {
                Ok(ahead.or(key))
            })
            .await
    }

    /// The newest stamp of what was made from the upload as it is now, its rejection among it; `None` where nothing was,
    /// so that an event of it has still to come, or another upload of the same slice came after it.
    async fn made_from(
        &self,
        task: &Task,
        current: &Current<'_>,
    ) -> Result<Option<Stamp>, ObjectError> {
        let study = &task.upload.study;
        let name = match (&task.upload.kind, &current.content) {
            (UploadKind::Slice { name }, _) => Some(name.clone()),
            (UploadKind::Zip, Ok(content)) => {
                let (upload, limits) = (task.upload.clone(), self.config.limits);
                let input = Arc::clone(content);
                let first = move || decode::first_slice(&upload, &input.bytes, &limits);
                self.gate.compute(first).await?
            }
            _ => None,
        };
        let pages = name.map(|name| [name.page(1).ok(), Some(name)]);
        let prepared = pages.into_iter().flatten().flatten();
        let mut stamps = vec![task.aside().stamp(&self.results).await?];
        for name in prepared {
            stamps.push(stamp_of(&self.results, &keys::prepared(study, &name)).await?);
        }
        let input_sha256 = task.stamp(current, None).input_sha256;
        Ok(stamps
            .into_iter()
            .flatten()
            .filter(|stamp| stamp.input_sha256 == input_sha256)
            .max_by(|a, b| a.sequencer.cmp(&b.sequencer)))
    }

    /// Whether a store that shows no object has it all the same: it may show late what its event told before.
    async fn is_listed(&self, key: &ObjectKey) -> Result<bool, StorageError> {
        // Of all keys that begin with this one, it comes first.
        let page = self.uploads.list(key.as_str(), None, 1).await?;
        Ok(page.entries.first().is_some_and(|entry| entry.key == *key))
    }

    /// Whether an upload is still in the state that was read. One that is gone stays as it was dealt with.
    async fn is_still(&self, key: &ObjectKey, etag: &ETag) -> Result<bool, StorageError> {
        match self.uploads.head(key).await {
            Ok(head) => Ok(head.etag == *etag),
            Err(error) if error.is_not_found() => Ok(true),
            Err(error) => Err(error),
        }
    }
}

impl Made {
    fn of(contents: Contents, upload: &Upload) -> Self {
        let study = &upload.study;
        let (slices, truths) = (contents.slices.len(), contents.truths.len());
        // Each slice is let go of as soon as it is encoded.
        let prepared = contents.slices.into_iter().map(|slice| Product {
            key: keys::prepared(study, &slice.name),
            bytes: slice.encode(),
            of_manifest: true,
        });
        let masks = contents.truths.into_iter().map(|(name, mask)| Product {
            key: keys::truth(study, &name),
            bytes: encode_mask_tiff(&mask),
            of_manifest: false,
        });
        Self {
            products: prepared.chain(masks).collect(),
            slices,
            truths,
            manifest: contents.manifest.is_some(),
        }
    }
}

/// What the metadata of an upload says of its pixels' size.
fn stated_spacing(task: &Task, metadata: &Metadata) -> Result<Option<Spacing>, Refusal> {
    metadata
        .get(SPACING_METADATA)
        .filter(|_| task.takes_manifest())
        .map(|text| text.parse())
        .transpose()
        .map_err(|error: InvalidSpacing| {
            Refusal::new(
                format!("object metadata {SPACING_METADATA}: {error}"),
                "upload the file again without this metadata, or with distances in mm such as 0.5,0.5,3",
            )
        })
}
