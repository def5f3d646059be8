//! Announcing that a closed study is done.
//!
//! The event is sent at least once: first it is sent, then `completed.json` is written, and a process that dies in
//! between sends it again. Its id follows from what was found alone, so that subscribers can tell repetitions; where
//! something changes afterwards (a truth that came late, another model), the study is announced again under a new id.

use std::collections::{BTreeMap, BTreeSet};

use glioseg_shared::cloud::keys::{self, ResultKind, StudyId};
use glioseg_shared::cloud::telemetry::{KeyLog, Metrics};
use glioseg_shared::cloud::{Condition, Metadata, Presign, Sequencer, Storage, StorageError};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::model::contract::NOTICE;
use glioseg_shared::study::status::{StudyCounts, StudySummary};
use glioseg_shared::study::{Document, StudyStatus};
use serde::{Deserialize, Serialize};

use crate::bus::{Announcement, Bus};
use crate::input::head;
use crate::study::{Findings, Known, Manifest, TELLING};
use crate::{FUNCTION, Score, ScoreError, listing};

/// The `detail-type` of the event.
pub const STUDY_COMPLETED: &str = "StudyCompleted";

/// How often the study is looked at anew because somebody else announced it meanwhile.
const MAX_TURNS: usize = 16;

/// Metadata of `completed.json`: the id of the event that was sent last.
const EVENT_ID: &str = "event-id";

/// The detail of the event `StudyCompleted`, and the document `studies/<study>/completed.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyCompleted {
    schema: Schema,
    /// 64 hexadecimal digits that equal events, and only these, have in common.
    pub id: String,
    /// The study.
    pub study: StudyId,
    /// Place of the `study.json` that closed the study among its versions.
    pub study_sequencer: Option<String>,
    /// Its slices by how far they have come.
    pub counts: StudyCounts,
    /// What was found.
    pub summary: StudySummary,
    /// Number of masks by the version of the model that made them.
    pub model_versions: BTreeMap<String, usize>,
    /// What a reader has to know before using the figures.
    pub warnings: Vec<String>,
    /// Limits of use.
    pub notice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Schema {
    #[serde(rename = "glioseg-study-completed-1")]
    V1,
}

impl Document for StudyCompleted {
    const NAME: &'static str = "note of a completed study";
    /// EventBridge takes 256 KiB.
    const MAX_BYTES: u64 = 256 << 10;
}

impl StudyCompleted {
    fn new(id: String, sequencer: Option<&Sequencer>, status: StudyStatus) -> Self {
        Self {
            schema: Schema::V1,
            id,
            study: status.study,
            study_sequencer: sequencer.map(ToString::to_string),
            counts: status.counts,
            summary: status.summary,
            model_versions: status.model_versions,
            warnings: status.warnings,
            notice: NOTICE.to_owned(),
        }
    }
}

impl<S: Storage + Presign, B: Bus> Score<S, B> {
    /// Announces a study if it is closed and done, unless just this was announced before.
    pub(crate) async fn announce_if_complete(&self, study: &StudyId) -> Result<(), ScoreError> {
        let marker = keys::completed(study);
        for _ in 0..MAX_TURNS {
            let announced = head(&self.results, &marker).await?;
            let Some(event) = Box::pin(self.completed(study)).await? else {
                return Ok(());
            };
            let condition = match announced {
                Some(before) if before.metadata.get(EVENT_ID) == Some(&event.id) => return Ok(()),
                Some(before) => Condition::IfMatch(before.etag),
                None => Condition::IfAbsent,
            };
            let document = event.to_json();
            self.bus
                .send(&Announcement {
                    detail_type: STUDY_COMPLETED,
                    detail: String::from_utf8_lossy(document.trim_ascii_end()).into_owned(),
                })
                .await?;
            let metadata = Metadata::from([(EVENT_ID.to_owned(), event.id)]);
            match self
                .results
                .put(&marker, document, condition, &metadata)
                .await
            {
                Ok(_) => {
                    tracing::info!(study = %KeyLog(study.as_str()), "the study is complete");
                    Metrics::new(FUNCTION).count("StudiesCompleted", 1).emit();
                    return self.withdraw_if_deleted(study).await;
                }
                Err(StorageError::PreconditionFailed { .. } | StorageError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ScoreError::Restless {
            key: marker,
            turns: MAX_TURNS,
        })
    }

    /// Removes the note of a study that was deleted while it was written.
    async fn withdraw_if_deleted(&self, study: &StudyId) -> Result<(), ScoreError> {
        if head(&self.results, &keys::manifest(study)).await?.is_none() {
            self.results.delete(&keys::completed(study)).await?;
        }
        Ok(())
    }

    /// What there is to announce of a study; `None` where it is not closed, or not done.
    async fn completed(&self, study: &StudyId) -> Result<Option<StudyCompleted>, ScoreError> {
        let Some(manifest) = Manifest::read(&self.results, study).await? else {
            return Ok(None);
        };
        let Some(expected) = manifest.manifest.slices else {
            return Ok(None);
        };
        // Nearly every event of a study ends here, after two listings instead of seven.
        let done = [ResultKind::Mask, ResultKind::Rejected];
        let done = listing::inventory(&self.results, study, &done).await?;
        if done.masks().len() + done.rejected().count() < expected {
            return Ok(None);
        }
        let known = Known {
            inventory: listing::inventory(&self.results, study, &TELLING).await?,
            uploads: listing::uploads(&self.uploads, study).await?,
            manifest: Some(manifest),
        };
        let counts = known.inventory.counts(Some(expected), &known.uploads);
        if counts.waiting > 0 {
            return Ok(None);
        }
        let findings = Findings::read(&self.results, &known.inventory).await?;
        let reported: BTreeSet<_> = findings.reports.iter().map(|r| &r.slice).collect();
        let masks = known.inventory.masks();
        // A mask comes after its report; where one is missing, it was deleted or the mask is not of the stack's making.
        if let Some(slice) = masks.into_iter().find(|slice| !reported.contains(slice)) {
            return Err(ScoreError::NoReportYet {
                report: keys::report(study, slice),
            });
        }
        let sequencer = known.manifest.as_ref().and_then(|manifest| {
            let stamp = &manifest.stamp;
            stamp
                .study_sequencer
                .clone()
                .or_else(|| stamp.sequencer.clone())
        });
        let id = event_id(&known, sequencer.as_ref(), &findings);
        let status = known
            .status(&self.results, &self.config.limits, findings)
            .await?;
        Ok(Some(StudyCompleted::new(id, sequencer.as_ref(), status)))
    }
}

/// The SHA-256 over all that an event is about.
fn event_id(known: &Known, sequencer: Option<&Sequencer>, findings: &Findings) -> String {
    let mut lines = vec![
        STUDY_COMPLETED.to_owned(),
        known.inventory.study().to_string(),
        sequencer.map(ToString::to_string).unwrap_or_default(),
    ];
    let named = |kind: &str, slice: &str, digest: &str| format!("{kind} {digest} {slice}");
    for report in &findings.reports {
        lines.push(named("report", report.slice.as_str(), &report.sha256));
    }
    for score in &findings.scores {
        lines.push(named("score", score.slice.as_str(), &score.sha256));
    }
    for file in known.inventory.rejected() {
        lines.push(named("rejected", file, ""));
    }
    // Names have no control characters, so that no two lists of lines make one text.
    sha256_hex(lines.join("\n").as_bytes())
}
