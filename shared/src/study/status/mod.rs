//! How a whole study stands: the answer to `GET /studies/{study}`.

mod inventory;
mod progress;
mod summary;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use inventory::{Inventory, SliceObjects};
pub use summary::{StudyScores, StudySummary};

use super::document::Document;
use super::manifest::StudyManifest;
use super::report::SliceReport;
use super::score::SliceScoreDocument;
use crate::cloud::keys::{SliceName, StudyId, Upload};
use crate::imaging::Mask;
use crate::model::contract::NOTICE;

/// How a study stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyStatus {
    schema: Schema,
    /// The study.
    pub study: StudyId,
    /// Its slices by how far they have come.
    pub counts: StudyCounts,
    /// Whether `study.json` says how many slices there are, and every one is done: segmented, scored if its truth is
    /// there, or rejected.
    pub complete: bool,
    /// What was found, of the slices done so far.
    pub summary: StudySummary,
    /// Number of masks by the version of the model that made them.
    pub model_versions: BTreeMap<String, usize>,
    /// File names of the uploads that were set aside.
    pub rejected: Vec<String>,
    /// What a reader has to know before using the figures.
    pub warnings: Vec<String>,
    /// Where to fetch the results; [`of`] makes none, since that takes a bucket.
    pub links: Vec<SliceLinks>,
    /// How long the links are valid, in seconds; null without links.
    pub links_expire_in_seconds: Option<u64>,
    /// Limits of use.
    pub notice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Schema {
    #[serde(rename = "glioseg-study-status-1")]
    V1,
}

/// The slices of a study by how far they have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyCounts {
    /// How many there will be; null while `study.json` does not say.
    pub expected: Option<usize>,
    /// How many were read and prepared.
    pub received: usize,
    /// How many have a mask.
    pub segmented: usize,
    /// How many have a truth.
    pub with_truth: usize,
    /// How many have a score.
    pub scored: usize,
    /// How many uploads were set aside, whatever they were.
    pub rejected: usize,
    /// How many are still to come, to be segmented, or to be scored although mask and truth are there; and how many
    /// uploaded truths nobody has read yet.
    pub waiting: usize,
}

/// Links to what there is of a slice; null for what there is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceLinks {
    /// The slice.
    pub slice: SliceName,
    /// Its mask, as TIFF.
    pub mask: Option<String>,
    /// The slice with its outline, as PNG.
    pub overlay: Option<String>,
    /// The slice under its heat map, as PNG.
    pub probability: Option<String>,
    /// Its report, as JSON.
    pub report: Option<String>,
    /// Its score, as JSON.
    pub score: Option<String>,
}

impl Document for StudyStatus {
    const NAME: &'static str = "study status";
    const MAX_BYTES: u64 = 32 << 20;
}

/// What is known of a study.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The checked copy of its `study.json`, where there is one.
    pub manifest: Option<&'a StudyManifest>,
    /// Which results there are.
    pub inventory: &'a Inventory,
    /// Which uploads there are, directly below its name.
    pub uploads: &'a [Upload],
    /// The reports, in any order.
    pub reports: &'a [SliceReport],
    /// The scores, in any order.
    pub scores: &'a [SliceScoreDocument],
    /// The masks in the order of [`Inventory::masks`]; empty where nobody asks for components of the volume.
    pub masks: &'a [Mask],
}

/// Says how a study stands; without links.
#[must_use]
pub fn of(evidence: &Evidence<'_>) -> StudyStatus {
    let Evidence {
        manifest,
        inventory,
        uploads,
        reports,
        scores,
        masks,
    } = *evidence;
    let expected = manifest.and_then(|manifest| manifest.slices);
    let counts = inventory.counts(expected, uploads);
    let mut warnings = Vec::new();
    let model_versions = model_versions(reports);
    warn_of_models(&model_versions, reports, scores, &mut warnings);
    warn_of_inventory(&counts, inventory, &mut warnings);
    let summary = summary::of(reports, scores, masks, &mut warnings);
    StudyStatus {
        schema: Schema::V1,
        study: inventory.study().clone(),
        complete: counts.expected.is_some() && counts.waiting == 0,
        counts,
        summary,
        model_versions,
        rejected: inventory.rejected().map(str::to_owned).collect(),
        warnings,
        links: Vec::new(),
        links_expire_in_seconds: None,
        notice: NOTICE.to_owned(),
    }
}

fn model_versions(reports: &[SliceReport]) -> BTreeMap<String, usize> {
    let mut versions = BTreeMap::new();
    for report in reports {
        *versions.entry(report.model.version.clone()).or_default() += 1;
    }
    versions
}

fn warn_of_models(
    versions: &BTreeMap<String, usize>,
    reports: &[SliceReport],
    scores: &[SliceScoreDocument],
    warnings: &mut Vec<String>,
) {
    if versions.len() > 1 {
        let list: Vec<String> = versions
            .iter()
            .map(|(version, slices)| format!("{version} ({slices})"))
            .collect();
        warnings.push(format!(
            "the masks are of different models: {}",
            list.join(", ")
        ));
    }
    let by_slice: BTreeMap<&SliceName, &str> = reports
        .iter()
        .map(|report| (&report.slice, report.model.version.as_str()))
        .collect();
    let stale = scores
        .iter()
        .filter(|score| {
            let version = by_slice.get(&score.slice).copied();
            version.is_some() && version != score.model_version.as_deref()
        })
        .count();
    if stale > 0 {
        warnings.push(format!(
            "{stale} scores are of another model than the slice's report"
        ));
    }
}

fn warn_of_inventory(counts: &StudyCounts, inventory: &Inventory, warnings: &mut Vec<String>) {
    if let Some(expected) = counts.expected
        && counts.received > expected
    {
        warnings.push(format!(
            "{} slices were received, but study.json says that there are {expected}",
            counts.received
        ));
    }
    let lone = inventory.truths_without_slice();
    if lone > 0 {
        warnings.push(format!("{lone} truths have no slice"));
    }
    if counts.rejected > 0 {
        warnings.push(format!("{} uploads were rejected", counts.rejected));
    }
    let incomparable = inventory.incomparable();
    if incomparable > 0 {
        warnings.push(format!(
            "{incomparable} slices have no score: mask and truth cannot be compared"
        ));
    }
}
