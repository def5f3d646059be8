//! A stack of three folders around the function, with a clock that is set by hand and faults on demand.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use glioseg_segment::config::Config;
use glioseg_segment::model::Clock;
use glioseg_segment::slice::{self, Outputs};
use glioseg_segment::{Buckets, Segment};
use glioseg_shared::cloud::keys::{self, Channel, ModelVersion, SliceName, StudyId};
use glioseg_shared::cloud::{
    Condition, ETag, FolderStorage, Head, HttpRequest, Metadata, Object, ObjectKey, Page,
    Sequencer, Stamp, Storage, StorageError,
};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::Slice;
use glioseg_shared::imaging::phantom::{Phantom, PhantomConfig};
use glioseg_shared::model::{Contract, Segmenter};
use glioseg_shared::registry::{self, ModelFile, Pointer};
use glioseg_shared::study::{Prepared, Source, Spacing};
use serde_json::{Value, json};

pub(crate) const UPLOADS: &str = "the-uploads";
pub(crate) const RESULTS: &str = "the-results";

/// A small model with random weights: `lean`, `residual` and `classic` take slices, `volume` takes volumes.
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

type Fault = dyn Fn(&str, &ObjectKey) -> Option<StorageError> + Send + Sync;

/// A write of somebody else.
type Write = (ObjectKey, Vec<u8>, Metadata);

/// A folder that tells what was asked of it, and fails on demand.
#[derive(Clone)]
pub(crate) struct Watched {
    inner: FolderStorage,
    calls: Arc<Mutex<Vec<String>>>,
    fault: Arc<Mutex<Option<Arc<Fault>>>>,
    meanwhile: Arc<Mutex<Option<Write>>>,
}

impl Watched {
    fn open(folder: &Path) -> Self {
        Self {
            inner: FolderStorage::open(folder).unwrap(),
            calls: Arc::default(),
            fault: Arc::default(),
            meanwhile: Arc::default(),
        }
    }

    /// Fails from now on where the fault says so; it sees `get`, `head` or `put` and the key.
    pub(crate) fn fail(
        &self,
        fault: impl Fn(&str, &ObjectKey) -> Option<StorageError> + Send + Sync + 'static,
    ) {
        *self.fault.lock().unwrap() = Some(Arc::new(fault));
    }

    pub(crate) fn heal(&self) {
        *self.fault.lock().unwrap() = None;
    }

    /// Lets somebody else write an object just before the next write.
    pub(crate) fn write_meanwhile(&self, key: ObjectKey, bytes: Vec<u8>, metadata: Metadata) {
        *self.meanwhile.lock().unwrap() = Some((key, bytes, metadata));
    }

    /// What was asked since the last time, such as `put masks/s/x.tif`.
    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn meet(&self, operation: &str, key: &ObjectKey) -> Result<(), StorageError> {
        self.calls
            .lock()
            .unwrap()
            .push(format!("{operation} {key}"));
        let fault = self.fault.lock().unwrap().clone();
        fault
            .and_then(|fault| fault(operation, key))
            .map_or(Ok(()), Err)
    }
}

/// What a bucket answers that is overloaded.
pub(crate) fn unavailable(key: &ObjectKey) -> StorageError {
    StorageError::Unavailable {
        operation: "reach",
        key: key.to_string(),
        reason: "503 SlowDown".to_owned(),
    }
}

impl Storage for Watched {
    async fn get(&self, key: &ObjectKey, max_bytes: u64) -> Result<Object, StorageError> {
        self.meet("get", key)?;
        self.inner.get(key, max_bytes).await
    }

    async fn get_if_changed(
        &self,
        key: &ObjectKey,
        known: &ETag,
        max_bytes: u64,
    ) -> Result<Option<Object>, StorageError> {
        self.meet("get_if_changed", key)?;
        self.inner.get_if_changed(key, known, max_bytes).await
    }

    async fn put(
        &self,
        key: &ObjectKey,
        bytes: Vec<u8>,
        condition: Condition,
        metadata: &Metadata,
    ) -> Result<ETag, StorageError> {
        self.meet("put", key)?;
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some((key, bytes, metadata)) = meanwhile {
            let inner = &self.inner;
            inner.put(&key, bytes, Condition::Always, &metadata).await?;
        }
        self.inner.put(key, bytes, condition, metadata).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Head, StorageError> {
        self.meet("head", key)?;
        self.inner.head(key).await
    }

    async fn list(
        &self,
        _prefix: &str,
        _after: Option<&ObjectKey>,
        _limit: usize,
    ) -> Result<Page, StorageError> {
        panic!("this function may not list buckets");
    }

    async fn delete(&self, _key: &ObjectKey) -> Result<(), StorageError> {
        panic!("this function may not delete objects");
    }
}

/// The function and its three buckets.
pub(crate) struct Stack {
    pub(crate) uploads: Watched,
    pub(crate) results: Watched,
    pub(crate) models: Watched,
    pub(crate) segment: Segment<Watched>,
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
        let bucket = |name: &str| Watched::open(&folder.path().join(name));
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
        bucket: &Watched,
        key: &ObjectKey,
        bytes: &[u8],
        metadata: &Metadata,
    ) {
        let inner = &bucket.inner;
        inner
            .put(key, bytes.to_vec(), Condition::Always, metadata)
            .await
            .unwrap();
    }

    /// Reads behind the function's back.
    pub(crate) async fn read(&self, bucket: &Watched, key: &ObjectKey) -> Object {
        bucket.inner.get(key, u64::MAX).await.unwrap()
    }

    pub(crate) async fn has(&self, bucket: &Watched, key: &ObjectKey) -> bool {
        bucket.inner.head(key).await.is_ok()
    }

    /// Puts a prepared slice with its stamp, and gives its key.
    pub(crate) async fn put_prepared(&self, prepared: &Prepared, sequencer: &str) -> ObjectKey {
        let key = keys::prepared(&prepared.study, &prepared.name);
        let metadata = stamp(prepared, sequencer).to_metadata();
        self.put(&self.results, &key, &prepared.encode(), &metadata)
            .await;
        key
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
