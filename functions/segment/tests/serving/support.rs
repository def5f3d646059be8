//! A stack of three folders around the function, with a clock that is set by hand and faults on demand.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use glioseg_segment::config::Config;
use glioseg_segment::event::ObjectError;
use glioseg_segment::model::Clock;
use glioseg_segment::slice::{self, Outputs};
use glioseg_segment::{Buckets, Segment};
use glioseg_shared::cloud::events::ObjectCreated;
use glioseg_shared::cloud::keys::{self, Channel, ModelVersion, SliceName, StudyId};
use glioseg_shared::cloud::{
    Condition, FolderStorage, HttpRequest, Metadata, Object, ObjectKey, Sequencer, Stamp, Storage,
};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::Slice;
use glioseg_shared::imaging::phantom::{Phantom, PhantomConfig};
use glioseg_shared::model::{Contract, Segmenter};
use glioseg_shared::registry::{self, ModelFile, Pointer};
use glioseg_shared::study::{Prepared, Source, Spacing};
use glioseg_test_support::hooked::Hooked;
use serde_json::{Value, json};

pub(crate) const UPLOADS: &str = "the-uploads";
pub(crate) const RESULTS: &str = "the-results";

/// A small model with random weights: `lean`, `residual` and `classic` take slices of any size, `separable` those of at
/// most 48x32 pixels, `volume` takes volumes.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/tests/goldens/inference");
    std::fs::read(folder.join(format!("{name}.onnx"))).unwrap()
}

/// The model that is shipped.
pub(crate) fn shipped() -> Vec<u8> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../training/models");
    std::fs::read(models.join("fast.onnx")).unwrap()
}

pub(crate) fn channel() -> Channel {
    Channel::parse("fast").unwrap()
}

pub(crate) fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

/// A slice through the middle of a head with a lesion.
pub(crate) fn slice(seed: u64) -> Slice {
    let config = PhantomConfig {
        slices: 3,
        size: 256,
        lesions: 2,
    };
    Phantom::generate(&config, seed).unwrap().slices.remove(1)
}

pub(crate) fn prepared(name: &str, seed: u64) -> Prepared {
    Prepared {
        study: StudyId::parse("clinic/study 1").unwrap(),
        name: SliceName::parse(name).unwrap(),
        slice: slice(seed),
        spacing_mm: Some(Spacing::new(0.5, 0.5, Some(3.0)).unwrap()),
        volume: None,
        source: Source {
            file: format!("{name}.tif"),
            sha256: sha256_hex(&seed.to_le_bytes()),
            page: 1,
        },
    }
}

pub(crate) fn stamp(prepared: &Prepared, sequencer: &str) -> Stamp {
    Stamp {
        input_sha256: prepared.source.sha256.clone(),
        sequencer: Sequencer::parse(sequencer),
        ..Stamp::default()
    }
}

pub(crate) fn expected(prepared: &Prepared, onnx: &[u8]) -> Outputs {
    let segmenter = Segmenter::from_onnx(onnx).unwrap();
    slice::outputs(prepared, &segmenter, &channel()).unwrap()
}

/// A bucket that tells what was asked of it, and fails on demand.
pub(crate) type Bucket = Hooked<FolderStorage>;

/// An empty bucket, seen with the function's rights: it may neither list nor delete.
fn open(folder: &Path) -> Bucket {
    Hooked::new(FolderStorage::open(folder).unwrap()).forbidding(&["list", "delete"])
}

/// The function and its three buckets.
pub(crate) struct Stack {
    pub(crate) uploads: Bucket,
    pub(crate) results: Bucket,
    pub(crate) models: Bucket,
    pub(crate) segment: Segment<Bucket>,
    seconds: Arc<AtomicU64>,
    _folder: tempfile::TempDir,
}

impl Stack {
    /// Over empty buckets.
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// Over empty buckets, with some variables set.
    pub(crate) fn with(variables: &[(&'static str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bucket = |name: &str| open(&folder.path().join(name));
        let (uploads, results, models) = (bucket("u"), bucket("r"), bucket("m"));
        let config = Config::from_variables(|variable| {
            let set = variables.iter().find(|(name, _)| *name == variable);
            match (set, variable) {
                (Some((_, value)), _) => Some((*value).to_owned()),
                (None, "UPLOADS_BUCKET") => Some(UPLOADS.to_owned()),
                (None, "RESULTS_BUCKET") => Some(RESULTS.to_owned()),
                (None, "MODELS_BUCKET") => Some("the-models".to_owned()),
                _ => None,
            }
        })
        .unwrap();
        let seconds = Arc::new(AtomicU64::new(1_000_000));
        Self {
            segment: Segment::new(
                Buckets {
                    uploads: uploads.clone(),
                    results: results.clone(),
                    models: models.clone(),
                },
                config,
                clock(&seconds),
            ),
            uploads,
            results,
            models,
            seconds,
            _folder: folder,
        }
    }

    /// A stack that serves a model.
    pub(crate) async fn serving(onnx: &[u8]) -> Self {
        let stack = Self::new();
        stack.publish(onnx).await;
        stack
    }

    /// Lets time pass until the next request looks at the channel.
    pub(crate) fn pass_refresh_time(&self) {
        self.seconds.fetch_add(60, Ordering::Relaxed);
    }

    /// Puts a model into the bucket and points the channel to it.
    pub(crate) async fn publish(&self, onnx: &[u8]) {
        let contract = Contract::of_onnx(onnx).unwrap();
        let version = ModelVersion::parse(&contract.model_version).unwrap();
        let file = ModelFile::of(&version, onnx);
        self.put_model(&version, onnx).await;
        self.point_to(&Pointer::new(&channel(), file, &contract, None))
            .await;
    }

    pub(crate) async fn put_model(&self, version: &ModelVersion, onnx: &[u8]) {
        self.put(
            &self.models,
            &keys::model_onnx(version),
            onnx,
            &Metadata::new(),
        )
        .await;
    }

    pub(crate) async fn point_to(&self, pointer: &Pointer) {
        let key = keys::channel_pointer(&channel());
        let json = registry::to_json(pointer, &key).unwrap();
        self.put(&self.models, &key, &json, &Metadata::new()).await;
    }

    /// Writes behind the function's back.
    pub(crate) async fn put(
        &self,
        bucket: &Bucket,
        key: &ObjectKey,
        bytes: &[u8],
        metadata: &Metadata,
    ) {
        bucket
            .storage
            .put(key, bytes.to_vec(), Condition::Always, metadata)
            .await
            .unwrap();
    }

    /// Reads behind the function's back.
    pub(crate) async fn read(&self, bucket: &Bucket, key: &ObjectKey) -> Object {
        bucket.storage.get(key, u64::MAX).await.unwrap()
    }

    pub(crate) async fn has(&self, bucket: &Bucket, key: &ObjectKey) -> bool {
        bucket.storage.head(key).await.is_ok()
    }

    /// Puts a prepared slice with its stamp, and gives its key.
    pub(crate) async fn put_prepared(&self, prepared: &Prepared, sequencer: &str) -> ObjectKey {
        let key = keys::prepared(&prepared.study, &prepared.name);
        let metadata = stamp(prepared, sequencer).to_metadata();
        self.put(&self.results, &key, &prepared.encode(), &metadata)
            .await;
        key
    }

    /// Tells the function of an object in the bucket of results.
    pub(crate) async fn announce(&self, key: &ObjectKey) -> Result<(), ObjectError> {
        self.segment.on_object(created(RESULTS, key)).await
    }

    /// Tells the function of an object that it can work on.
    pub(crate) async fn work_on(&self, key: &ObjectKey) {
        self.announce(key).await.unwrap();
    }

    /// What is stored of a slice.
    pub(crate) async fn outputs(&self, prepared: &Prepared) -> Outputs {
        let Prepared { study, name, .. } = prepared;
        let read = async |key| self.read(&self.results, &key).await.bytes;
        Outputs {
            mask_tiff: read(keys::mask(study, name)).await,
            overlay_png: read(keys::overlay(study, name)).await,
            probability_png: read(keys::probability(study, name)).await,
            report_json: read(keys::report(study, name)).await,
        }
    }

    /// The version that answers now.
    pub(crate) async fn version(&self) -> String {
        let response = self
            .segment
            .on_http(HttpRequest::new("GET", "/model"))
            .await;
        let answer: Value = serde_json::from_slice(&response.body).unwrap();
        match response.status {
            200 => answer["version"].as_str().unwrap().to_owned(),
            status => format!("{status}"),
        }
    }
}

fn clock(seconds: &Arc<AtomicU64>) -> Clock {
    let seconds = Arc::clone(seconds);
    Arc::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::Relaxed)))
}

/// A new object, as an event tells.
pub(crate) fn created(bucket: &str, key: &ObjectKey) -> ObjectCreated {
    ObjectCreated {
        bucket: bucket.to_owned(),
        key: key.to_string(),
        size: None,
        etag: None,
        version_id: None,
        sequencer: None,
    }
}

/// S3's event for a new object.
pub(crate) fn s3_event(bucket: &str, key: &ObjectKey) -> Value {
    let encoded = key.as_str().replace(' ', "+");
    json!({ "Records": [{
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "bucket": { "name": bucket },
            "object": { "key": encoded, "size": 1, "eTag": "e", "sequencer": "0A" },
        },
    }] })
}

/// A queue's event of several messages.
pub(crate) fn sqs_event(bodies: &[(&str, String)]) -> Value {
    let records: Vec<Value> = bodies
        .iter()
        .map(|(id, body)| json!({ "messageId": id, "eventSource": "aws:sqs", "body": body }))
        .collect();
    json!({ "Records": records })
}
