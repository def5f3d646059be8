//! A stack of two folders, and what the other functions would have put there.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use glioseg_score::Score;
use glioseg_score::bus::{Announcement, Recorder};
use glioseg_score::config::Config;
use glioseg_score::memory::Memory;
use glioseg_shared::cloud::keys::{self, Channel, SliceName, StudyId};
use glioseg_shared::cloud::{
    Condition, FolderStorage, HttpRequest, HttpResponse, Metadata, ObjectKey, Sequencer, Stamp,
    Storage,
};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::phantom::{Phantom, PhantomConfig};
use glioseg_shared::imaging::{Intensity, Mask, ProbabilityMap, Slice, encode_mask_tiff};
use glioseg_shared::model::Segmentation;
use glioseg_shared::study::{
    Document, Prepared, SliceScoreDocument, Source, Spacing, StudyManifest, report,
};
use glioseg_test_support::contents::of_folder;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const MODEL: &str = "model-a";

/// The function over two folders, and a bus that remembers.
pub(crate) struct Stage {
    folder: TempDir,
    pub(crate) bus: Arc<Recorder>,
    pub(crate) score: Score<FolderStorage, Arc<Recorder>>,
}

/// A predicted mask as the segment function leaves it: with a report and a stamp.
#[derive(Clone)]
pub(crate) struct Found<'a> {
    pub(crate) mask: &'a Mask,
    pub(crate) model: &'a str,
    pub(crate) sequencer: &'a str,
    pub(crate) spacing: Option<Spacing>,
    pub(crate) intensity: Intensity,
}

impl<'a> Found<'a> {
    pub(crate) fn new(mask: &'a Mask) -> Self {
        Self {
            mask,
            model: MODEL,
            sequencer: "01",
            spacing: None,
            intensity: Intensity::EightBit,
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp {
            input_sha256: sha256_hex(b"upload"),
            sequencer: Sequencer::parse(self.sequencer),
            study_sequencer: None,
            model_version: Some(self.model.to_owned()),
        }
    }
}

impl Stage {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let open = |name| FolderStorage::open(folder.path().join(name)).unwrap();
        let bus = Arc::new(Recorder::default());
        let config = Config::from_variables(|variable| match variable {
            "UPLOADS_BUCKET" => Some("uploads-1".to_owned()),
            "RESULTS_BUCKET" => Some("results-1".to_owned()),
            _ => None,
        });
        Self {
            score: Score {
                uploads: open("uploads"),
                results: open("results"),
                bus: Arc::clone(&bus),
                memory: Memory::default(),
                config: config.unwrap(),
            },
            folder,
            bus,
        }
    }

    /// As [`Stage::new`], and what has truth is collected for training.
    pub(crate) fn collecting() -> Self {
        let mut stage = Self::new();
        stage.score.config.collect_labelled = true;
        stage
    }

    pub(crate) async fn upload(&self, key: &str) {
        self.put(
            &self.score.uploads,
            &object(key),
            b"upload".to_vec(),
            &Metadata::new(),
        )
        .await;
    }

    pub(crate) async fn put_result(&self, key: &str, bytes: &[u8]) {
        let key = object(key);
        self.put(&self.score.results, &key, bytes.to_vec(), &Metadata::new())
            .await;
    }

    /// Writes what the preprocess function would of a slice.
    pub(crate) async fn prepared(&self, study: &str, slice: &str, pixels: &Slice, sequencer: &str) {
        let prepared = Prepared {
            study: id(study),
            name: name(slice),
            slice: pixels.clone(),
            spacing_mm: None,
            volume: None,
            source: Source {
                file: format!("{slice}.tif"),
                sha256: sha256_hex(b"upload"),
                page: 1,
            },
        };
        let stamp = Stamp {
            input_sha256: sha256_hex(b"upload"),
            sequencer: Sequencer::parse(sequencer),
            ..Stamp::default()
        };
        let key = keys::prepared(&id(study), &name(slice));
        let metadata = stamp.to_metadata();
        self.put(&self.score.results, &key, prepared.encode(), &metadata)
            .await;
    }

    /// Writes what the segment function would of a slice.
    pub(crate) async fn found(&self, study: &str, slice: &str, found: &Found<'_>) {
        self.report(study, slice, found).await;
        self.mask(study, slice, found).await;
    }

    pub(crate) async fn mask(&self, study: &str, slice: &str, found: &Found<'_>) {
        let key = keys::mask(&id(study), &name(slice));
        let metadata = found.stamp().to_metadata();
        let file = encode_mask_tiff(found.mask);
        self.put(&self.score.results, &key, file, &metadata).await;
    }

    pub(crate) async fn report(&self, study: &str, slice: &str, found: &Found<'_>) {
        let (width, height) = (found.mask.width(), found.mask.height());
        let prepared = Prepared {
            study: id(study),
            name: name(slice),
            slice: Slice::new(width, height, vec![0; width * height * 3], found.intensity).unwrap(),
            spacing_mm: found.spacing,
            volume: None,
            source: Source {
                file: format!("{slice}.tif"),
                sha256: sha256_hex(b"upload"),
                page: 1,
            },
        };
        let values = found.mask.pixels().iter().map(|&set| f32::from(set));
        let segmentation = Segmentation {
            mask: found.mask.clone(),
            probability: ProbabilityMap::new(width, height, values.collect()).unwrap(),
            model_version: found.model.to_owned(),
        };
        let report =
            report::of(&prepared, &segmentation, &Channel::parse("fast").unwrap()).unwrap();
        let key = keys::report(&id(study), &name(slice));
        let metadata = found.stamp().to_metadata();
        self.put(&self.score.results, &key, report.to_json(), &metadata)
            .await;
    }

    pub(crate) async fn truth(&self, study: &str, slice: &str, mask: &Mask) {
        let key = keys::truth(&id(study), &name(slice));
        let file = encode_mask_tiff(mask);
        self.put(&self.score.results, &key, file, &Metadata::new())
            .await;
    }

    /// Writes a file that no call of a store can name, as other tools may leave objects.
    pub(crate) fn put_unnamed(&self, folder: &str) -> PathBuf {
        let folder = self.folder.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("a\nb.tif");
        std::fs::write(&file, b"x").unwrap();
        file
    }

    pub(crate) async fn close(&self, study: &str, slices: usize) {
        let manifest = StudyManifest {
            slices: Some(slices),
            ..StudyManifest::default()
        };
        let metadata = Metadata::from([("study-sequencer".to_owned(), "A1".to_owned())]);
        let key = keys::manifest(&id(study));
        self.put(&self.score.results, &key, manifest.to_json(), &metadata)
            .await;
    }

    async fn put(
        &self,
        storage: &FolderStorage,
        key: &ObjectKey,
        bytes: Vec<u8>,
        metadata: &Metadata,
    ) {
        storage
            .put(key, bytes, Condition::Always, metadata)
            .await
            .unwrap();
    }

    /// Tells the function of a new object, as a queue would, and returns the identifiers that failed.
    pub(crate) async fn tell(&self, key: &str) -> Vec<String> {
        self.tell_of("results-1", key).await
    }

    pub(crate) async fn tell_of(&self, bucket: &str, key: &str) -> Vec<String> {
        let record = json!({
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": { "bucket": { "name": bucket }, "object": { "key": key, "sequencer": "01" } },
        });
        let message = json!({
            "messageId": "m1",
            "eventSource": "aws:sqs",
            "body": json!({ "Records": [record] }).to_string(),
        });
        let answer = self.score.handle(json!({ "Records": [message] })).await;
        let failures = answer.unwrap();
        let failures = failures["batchItemFailures"].as_array().unwrap();
        failures
            .iter()
            .map(|failure| failure["itemIdentifier"].as_str().unwrap().to_owned())
            .collect()
    }

    /// As [`Stage::tell`], where nothing may fail.
    pub(crate) async fn tells(&self, keys: &[&str]) {
        for key in keys {
            assert_eq!(self.tell(key).await, Vec::<String>::new(), "{key}");
        }
    }

    pub(crate) async fn request(&self, request: HttpRequest) -> HttpResponse {
        self.score.on_http(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        body(self.request(HttpRequest::new("GET", path)).await)
    }

    pub(crate) async fn stored(&self, key: &str) -> Option<(Vec<u8>, Metadata)> {
        match self.score.results.get(&object(key), 1 << 20).await {
            Ok(object) => Some((object.bytes, object.metadata)),
            Err(error) if error.is_not_found() => None,
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn stored_score(
        &self,
        study: &str,
        slice: &str,
    ) -> Option<SliceScoreDocument> {
        let (bytes, _) = self.stored(&format!("scores/{study}/{slice}.json")).await?;
        Some(SliceScoreDocument::from_json(&bytes).unwrap())
    }

    /// Every object of both buckets, with its metadata.
    pub(crate) fn everything(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = of_folder(self.folder.path());
        files.retain(|name, _| !name.ends_with("/lock"));
        files
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        self.bus
            .announcements()
            .iter()
            .map(|Announcement { detail, .. }| serde_json::from_str(detail).unwrap())
            .collect()
    }
}

/// Status and JSON of a response.
pub(crate) fn body(response: HttpResponse) -> (u16, Value) {
    let kind = response.header("content-type").unwrap().to_owned();
    let expected = if response.status < 300 {
        "application/json"
    } else {
        "application/problem+json"
    };
    assert_eq!(kind, expected);
    let value: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(value["notice"], "research use only; not a medical device");
    (response.status, value)
}

pub(crate) fn object(key: &str) -> ObjectKey {
    ObjectKey::parse(key).unwrap()
}

pub(crate) fn id(study: &str) -> StudyId {
    StudyId::parse(study).unwrap()
}

fn name(slice: &str) -> SliceName {
    SliceName::parse(slice).unwrap()
}

/// A mask drawn as text: `#` is set.
pub(crate) fn drawn(rows: &[&str]) -> Mask {
    let pixels = rows.iter().flat_map(|row| row.bytes().map(|b| b == b'#'));
    Mask::new(rows[0].len(), rows.len(), pixels.collect()).unwrap()
}

/// The lesions of a phantom of eight slices, and the same one column to the right, as a model might find them.
pub(crate) fn phantom() -> Vec<(Mask, Mask)> {
    let config = PhantomConfig {
        slices: 8,
        size: 64,
        lesions: 1,
    };
    let shifted = |mask: &Mask| {
        let rows = mask.pixels().chunks_exact(mask.width());
        let pixels =
            rows.flat_map(|row| std::iter::once(false).chain(row[..row.len() - 1].iter().copied()));
        Mask::new(mask.width(), mask.height(), pixels.collect()).unwrap()
    };
    let phantom = Phantom::generate(&config, 7).unwrap();
    phantom
        .masks
        .into_iter()
        .map(|truth| (shifted(&truth), truth))
        .collect()
}
