//! Segmenting the inputs, over all cores of the pool that it runs in.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use glioseg_preprocess::Refusal;
use glioseg_preprocess::decode::{self, Contents, Given};
use glioseg_score::slice::{Pair, score};
use glioseg_segment::slice::Segmented;
use glioseg_shared::cloud::ObjectKey;
use glioseg_shared::cloud::keys::{self, Channel, SliceName, StudyId, UploadKind};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::files::read_bounded;
use glioseg_shared::imaging::{Mask, encode_mask_tiff, natural_order};
use glioseg_shared::model::Segmenter;
use glioseg_shared::study::{Document, Prepared, ServingLimits, StudyManifest};
use rayon::prelude::*;

use super::{Fault, Input, Inputs, Row};
use crate::files::write_whole;

/// What is to be done.
pub struct Job<'a> {
    /// The model.
    pub segmenter: &'a Segmenter,
    /// The channel that reports name as the model's.
    pub channel: &'a Channel,
    /// What a file may ask for.
    pub limits: ServingLimits,
    /// Where the results go, laid out as in the results bucket.
    pub out: &'a Path,
    /// Whether files `<slice>_mask.…` are truths to score by; they are left alone otherwise.
    pub truth: bool,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The slices, by study and slice in natural order.
    pub rows: Vec<Row>,
    /// The files that were not, or not wholly, dealt with.
    pub faults: Vec<Fault>,
    /// How many truths have no slice.
    pub truths_alone: usize,
}

/// A truth, and where it was read.
type Truths = HashMap<(StudyId, SliceName), (PathBuf, Mask)>;

impl Job<'_> {
    /// How many of the inputs are work, each of which is told to `done` of [`Job::run`].
    #[must_use]
    pub fn len(&self, inputs: &Inputs) -> usize {
        inputs
            .files
            .iter()
            .filter(|input| self.takes(input))
            .count()
    }

    /// Segments the inputs. A file that cannot be read is a fault, and the others go on.
    pub fn run(&self, inputs: &Inputs, done: &(dyn Fn(usize) + Sync)) -> Outcome {
        let mut outcome = Outcome {
            faults: inputs.faults.clone(),
            ..Outcome::default()
        };
        let manifests = self.manifests(inputs, &mut outcome.faults);
        let truths = self.truths(inputs, &mut outcome.faults, done);
        let claimed = Mutex::new(HashSet::new());
        let files: Vec<_> = of_kind(inputs, |kind| {
            matches!(kind, UploadKind::Slice { .. } | UploadKind::Zip)
        })
        .collect();
        let worked: Vec<_> = files
            .into_par_iter()
            .map(|input| {
                let manifest = manifests.get(&input.upload.study);
                let worked = self.file(input, manifest, &truths, &claimed);
                done(worked.len());
                worked
            })
            .collect();
        for worked in worked.into_iter().flatten() {
            match worked {
                Ok(row) => outcome.rows.push(row),
                Err(fault) => outcome.faults.push(fault),
            }
        }
        let claimed = claimed.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome.truths_alone = truths
            .keys()
            .filter(|truth| !claimed.contains(*truth))
            .count();
        outcome.rows.sort_by(|a, b| {
            let (a, b) = (&a.report, &b.report);
            natural_order(a.study.as_str(), b.study.as_str())
                .then_with(|| natural_order(a.slice.as_str(), b.slice.as_str()))
        });
        outcome.faults.sort();
        outcome
    }

    fn takes(&self, input: &Input) -> bool {
        match input.upload.kind {
            UploadKind::Slice { .. } | UploadKind::Zip => true,
            UploadKind::Truth { .. } => self.truth,
            UploadKind::Study | UploadKind::Unknown => false,
        }
    }

    fn manifests(
        &self,
        inputs: &Inputs,
        faults: &mut Vec<Fault>,
    ) -> HashMap<StudyId, StudyManifest> {
        let mut manifests = HashMap::new();
        for input in of_kind(inputs, |kind| matches!(kind, UploadKind::Study)) {
            match self.contents(input, None) {
                Ok(contents) => manifests.extend(
                    contents
                        .manifest
                        .map(|manifest| (input.upload.study.clone(), manifest)),
                ),
                Err(fault) => faults.push(fault),
            }
        }
        manifests
    }

    fn truths(
        &self,
        inputs: &Inputs,
        faults: &mut Vec<Fault>,
        done: &(dyn Fn(usize) + Sync),
    ) -> Truths {
        if !self.truth {
            return Truths::new();
        }
        let files: Vec<_> =
            of_kind(inputs, |kind| matches!(kind, UploadKind::Truth { .. })).collect();
        let read: Vec<_> = files
            .into_par_iter()
            .map(|input| {
                let contents = self.contents(input, None);
                done(0);
                contents.map(|contents| (input, contents.truths))
            })
            .collect();
        let mut truths = Truths::new();
        for read in read {
            match read {
                Ok((input, masks)) => {
                    let study = &input.upload.study;
                    let path = &input.path;
                    truths.extend(
                        masks
                            .into_iter()
                            .map(|(slice, mask)| ((study.clone(), slice), (path.clone(), mask))),
                    );
                }
                Err(fault) => faults.push(fault),
            }
        }
        truths
    }

    fn contents(&self, input: &Input, manifest: Option<&StudyManifest>) -> Result<Contents, Fault> {
        let bytes = read_bounded(&input.path, self.limits.max_upload_bytes)
            .map_err(|error| Fault::new(&input.path, error))?;
        let given = Given {
            sha256: &sha256_hex(&bytes),
            manifest,
            spacing_mm: None,
        };
        decode::upload(&input.upload, &bytes, &given, &self.limits)
            .map_err(|refusal| Fault::new(&input.path, describe(&refusal)))
    }

    fn file(
        &self,
        input: &Input,
        manifest: Option<&StudyManifest>,
        truths: &Truths,
        claimed: &Mutex<HashSet<(StudyId, SliceName)>>,
    ) -> Vec<Result<Row, Fault>> {
        let contents = match self.contents(input, manifest) {
            Ok(contents) => contents,
            Err(fault) => return vec![Err(fault)],
        };
        let inside: HashMap<_, _> = contents.truths.into_iter().filter(|_| self.truth).collect();
        contents
            .slices
            .into_par_iter()
            .map(|prepared| {
                let name = (prepared.study.clone(), prepared.name.clone());
                let is_new = claimed
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(name.clone());
                if !is_new {
                    let reason = format!(
                        "another file holds a slice {} of study {} too: rename one",
                        name.1, name.0
                    );
                    return Err(Fault::new(&input.path, reason));
                }
                let outside = || truths.get(&name).map(|(path, mask)| (path.as_path(), mask));
                let truth = inside
                    .get(&name.1)
                    .map(|mask| (input.path.as_path(), mask))
                    .or_else(outside);
                self.slice(&prepared, &input.path, truth)
            })
            .collect()
    }

    fn slice(
        &self,
        prepared: &Prepared,
        path: &Path,
        truth: Option<(&Path, &Mask)>,
    ) -> Result<Row, Fault> {
        let segmented = Segmented::new(prepared, self.segmenter, self.channel)
            .map_err(|error| Fault::new(path, error))?;
        let (study, slice) = (&prepared.study, &prepared.name);
        let report = segmented.report();
        let outputs = segmented.outputs();
        let score = truth
            .map(|(truth_path, truth)| {
                let pair = Pair {
                    study: study.clone(),
                    slice: slice.clone(),
                    prediction: &outputs.mask_tiff,
                    truth: &encode_mask_tiff(truth),
                    spacing_mm: prepared.spacing_mm,
                    model_version: Some(report.model.version.clone()),
                };
                score(&pair, &self.limits.imaging()).map_err(|error| Fault::new(truth_path, error))
            })
            .transpose();
        self.write(&keys::mask(study, slice), &outputs.mask_tiff)?;
        self.write(&keys::overlay(study, slice), &outputs.overlay_png)?;
        self.write(&keys::probability(study, slice), &outputs.probability_png)?;
        self.write(&keys::report(study, slice), &outputs.report_json)?;
        let score = score?;
        if let Some(score) = &score {
            self.write(&keys::score(study, slice), &score.to_json())?;
        }
        Ok(Row {
            file: prepared.source.file.clone(),
            report,
            score,
        })
    }

    fn write(&self, key: &ObjectKey, bytes: &[u8]) -> Result<(), Fault> {
        // A key has no `..` and no empty segment: it stays below the folder.
        let path = self.out.join(key.as_str());
        write_whole(&path, bytes).map_err(|error| Fault::new(&path, error))
    }
}

fn of_kind<'a>(
    inputs: &'a Inputs,
    is: impl Fn(&UploadKind) -> bool + 'a,
) -> impl Iterator<Item = &'a Input> {
    inputs
        .files
        .iter()
        .filter(move |input| is(&input.upload.kind))
}

fn describe(refusal: &Refusal) -> String {
    let Refusal {
        reason,
        advice,
        entry,
    } = refusal;
    match entry {
        Some(entry) => format!("{entry}: {reason}; {advice}"),
        None => format!("{reason}; {advice}"),
    }
}
