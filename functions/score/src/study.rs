//! How a study stands: everything that its objects tell, gathered.

use futures_util::{StreamExt, TryStreamExt, stream};
use glioseg_shared::cloud::keys::{self, ResultKind, SliceName, StudyId, Upload};
use glioseg_shared::cloud::{ObjectKey, Presign, Stamp, Storage, StorageError};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::{Mask, decode_masks};
use glioseg_shared::study::status::{self, Evidence, SliceLinks, SliceObjects};
use glioseg_shared::study::{
    Document, Inventory, ServingLimits, SliceReport, SliceScoreDocument, StudyManifest, StudyStatus,
};

use crate::config::Config;
use crate::error::ScoreError;
use crate::{collect, listing};

/// Documents and masks that are read at a time.
const CONCURRENCY: usize = 16;

/// Most voxels of a study that are looked through for the largest component: a byte each while that lasts.
const MAX_VOXELS: u64 = 64 << 20;

/// Most slices that one answer has links for: five of them, each of up to two kilobytes, have to fit into 6 MB.
pub(crate) const MAX_LINKED_SLICES: usize = 200;

/// The kinds of results that say how far a study has come.
pub(crate) const TELLING: [ResultKind; 6] = [
    ResultKind::Prepared,
    ResultKind::Truth,
    ResultKind::Mask,
    ResultKind::Report,
    ResultKind::Score,
    ResultKind::Rejected,
];

/// A checked copy of `study.json`, and what it was made from.
pub(crate) struct Manifest {
    pub(crate) manifest: StudyManifest,
    pub(crate) stamp: Stamp,
}

impl Manifest {
    pub(crate) async fn read<S: Storage>(
        results: &S,
        study: &StudyId,
    ) -> Result<Option<Self>, ScoreError> {
        let key = keys::manifest(study);
        let object = match results.get(&key, StudyManifest::MAX_BYTES).await {
            Ok(object) => object,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let manifest = StudyManifest::from_json(&object.bytes)
            .map_err(|source| ScoreError::Document { key, source })?;
        Ok(Some(Self {
            manifest,
            stamp: Stamp::from_metadata(&object.metadata),
        }))
    }
}

/// A document of one slice, with the SHA-256 of its bytes.
pub(crate) struct Read<T> {
    pub(crate) slice: SliceName,
    pub(crate) sha256: String,
    pub(crate) document: T,
}

/// What was found in a study's slices, each in their natural order.
pub(crate) struct Findings {
    pub(crate) reports: Vec<Read<SliceReport>>,
    pub(crate) scores: Vec<Read<SliceScoreDocument>>,
}

impl Findings {
    /// Reads every report and score that an inventory knows of; those that are gone meanwhile are left out.
    pub(crate) async fn read<S: Storage>(
        results: &S,
        inventory: &Inventory,
    ) -> Result<Self, ScoreError> {
        let study = inventory.study();
        let (mut report_keys, mut score_keys) = (Vec::new(), Vec::new());
        for (name, objects) in inventory.slices() {
            if objects.report {
                report_keys.push((name.clone(), keys::report(study, name)));
            }
            if objects.score {
                score_keys.push((name.clone(), keys::score(study, name)));
            }
        }
        let mut reports: Vec<Read<SliceReport>> = documents(results, report_keys).await?;
        for Read { document, .. } in &mut reports {
            // Of thousands of slices they would take more memory than all else.
            document.contours = Vec::new();
            document.components = Vec::new();
        }
        let scores = documents(results, score_keys).await?;
        Ok(Self { reports, scores })
    }
}

async fn documents<S: Storage, T: Document + Send>(
    results: &S,
    keys: Vec<(SliceName, ObjectKey)>,
) -> Result<Vec<Read<T>>, ScoreError> {
    stream::iter(keys)
        .map(|(slice, key)| async move {
            let bytes = match results.get(&key, T::MAX_BYTES).await {
                Ok(object) => object.bytes,
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let document =
                T::from_json(&bytes).map_err(|source| ScoreError::Document { key, source })?;
            Ok(Some(Read {
                slice,
                sha256: sha256_hex(&bytes),
                document,
            }))
        })
        .buffered(CONCURRENCY)
        .try_filter_map(|read| async { Ok(read) })
        .try_collect()
        .await
}

/// A study's objects by their keys, and what is said of it.
pub(crate) struct Known {
    pub(crate) manifest: Option<Manifest>,
    pub(crate) inventory: Inventory,
    pub(crate) uploads: Vec<Upload>,
}

impl Known {
    /// Whether there is nothing at all.
    fn is_empty(&self) -> bool {
        self.manifest.is_none() && self.inventory.is_empty() && self.uploads.is_empty()
    }

    /// Says how the study stands, without links.
    pub(crate) async fn status<S: Storage>(
        &self,
        results: &S,
        limits: &ServingLimits,
        findings: Findings,
    ) -> Result<StudyStatus, ScoreError> {
        let reports: Vec<_> = findings.reports.into_iter().map(|r| r.document).collect();
        let scores: Vec<_> = findings.scores.into_iter().map(|s| s.document).collect();
        let mut warnings = Vec::new();
        let masks = masks(results, limits, &self.inventory, &reports, &mut warnings).await?;
        let mut status = status::of(&Evidence {
            manifest: self.manifest.as_ref().map(|m| &m.manifest),
            inventory: &self.inventory,
            uploads: &self.uploads,
            reports: &reports,
            scores: &scores,
            masks: &masks,
        });
        let rescaled = reports.iter().filter(|r| r.intensity.rescaled).count();
        if rescaled > 0 {
            warnings.push(format!(
                "{rescaled} slices were not 8-bit: each was mapped to 0..=255 from its own percentiles"
            ));
        }
        status.warnings.append(&mut warnings);
        Ok(status)
    }
}

/// The masks of all slices, in the order of [`Inventory::masks`]; none, and a warning, where they make no volume.
async fn masks<S: Storage>(
    results: &S,
    limits: &ServingLimits,
    inventory: &Inventory,
    reports: &[SliceReport],
    warnings: &mut Vec<String>,
) -> Result<Vec<Mask>, ScoreError> {
    let Some(first) = reports.first() else {
        return Ok(Vec::new());
    };
    let size = (first.width, first.height);
    if reports.iter().any(|r| (r.width, r.height) != size) {
        warnings.push(
            "the slices have different sizes: there is no largest component of the volume"
                .to_owned(),
        );
        return Ok(Vec::new());
    }
    let pixels = (size.0 as u64).saturating_mul(size.1 as u64);
    if pixels == 0 || pixels.saturating_mul(reports.len() as u64) > MAX_VOXELS {
        warnings.push(format!(
            "the study has more than {MAX_VOXELS} voxels: its largest component was not looked for"
        ));
        return Ok(Vec::new());
    }
    let study = inventory.study();
    let limits = limits.imaging();
    let keys: Vec<Option<ObjectKey>> = reports
        .iter()
        .map(|report| (report.tumour_pixels > 0).then(|| keys::mask(study, &report.slice)))
        .collect();
    let read = stream::iter(keys)
        .map(|key| async move {
            let empty = || Mask::empty(size.0, size.1);
            let Some(key) = key else {
                return Ok(empty());
            };
            // A mask has a byte a pixel and a small header even where nothing could be compressed.
            let max_bytes = pixels.saturating_mul(2).saturating_add(64 << 10);
            let file = match results.get(&key, max_bytes).await {
                Ok(object) => object.bytes,
                Err(error) if error.is_not_found() => return Ok(empty()),
                Err(error) => return Err(error),
            };
            let mask = decode_masks(&file, &limits)
                .ok()
                .and_then(|masks| masks.into_iter().next())
                .filter(|mask| (mask.width(), mask.height()) == size);
            mask.ok_or_else(|| StorageError::Failed {
                operation: "read",
                key: key.to_string(),
                reason: "it is no mask of the size that its report tells".to_owned(),
            })
        })
        .buffered(CONCURRENCY);
    Ok(read.try_collect().await?)
}

/// Says how a study stands, with links to the results of the slices that come after `after`; `None` where nothing is
/// known of it. With it comes the slice after which there are more links to be had.
pub(crate) async fn status<S: Storage + Presign>(
    uploads: &S,
    results: &S,
    config: &Config,
    study: &StudyId,
    after: Option<&SliceName>,
) -> Result<Option<(StudyStatus, Option<SliceName>)>, ScoreError> {
    let mut kinds = TELLING.to_vec();
    kinds.extend([
        ResultKind::Overlay,
        ResultKind::Probability,
        ResultKind::Completed,
    ]);
    let known = Known {
        manifest: Manifest::read(results, study).await?,
        inventory: listing::inventory(results, study, &kinds).await?,
        uploads: listing::uploads(uploads, study).await?,
    };
    if known.is_empty() {
        return Ok(None);
    }
    let findings = Findings::read(results, &known.inventory).await?;
    let mut status = known.status(results, &config.limits, findings).await?;
    if config.collect_labelled {
        let warnings = collect::warnings(results, &known.inventory).await?;
        status.warnings.extend(warnings);
    }
    let slices = known.inventory.slices();
    let start = after.map_or(0, |after| {
        let position = slices.iter().position(|(name, _)| *name == after);
        position.map_or(slices.len(), |position| position + 1)
    });
    let mut page = slices.iter().skip(start);
    for (name, objects) in page.by_ref().take(MAX_LINKED_SLICES) {
        status
            .links
            .push(links(results, config, study, name, objects).await?);
    }
    let next = match (page.next(), status.links.last()) {
        (Some(_), Some(last)) => Some(last.slice.clone()),
        _ => None,
    };
    status.links_expire_in_seconds =
        (!status.links.is_empty()).then_some(config.links_expire_in.as_secs());
    Ok(Some((status, next)))
}

async fn links<S: Presign>(
    results: &S,
    config: &Config,
    study: &StudyId,
    slice: &SliceName,
    objects: &SliceObjects,
) -> Result<SliceLinks, StorageError> {
    let link = async |is_there: bool, key: ObjectKey| {
        if !is_there {
            return Ok::<_, StorageError>(None);
        }
        let signed = results.presign_get(&key, config.links_expire_in).await?;
        Ok(Some(signed.url))
    };
    Ok(SliceLinks {
        slice: slice.clone(),
        mask: link(objects.mask, keys::mask(study, slice)).await?,
        overlay: link(objects.overlay, keys::overlay(study, slice)).await?,
        probability: link(objects.probability, keys::probability(study, slice)).await?,
        report: link(objects.report, keys::report(study, slice)).await?,
        score: link(objects.score, keys::score(study, slice)).await?,
    })
}
