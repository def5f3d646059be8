//! What the tests of this function share: two buckets in a folder, events with sequencers, and images.

use std::io::{Cursor, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use glioseg_preprocess::config::Config;
use glioseg_preprocess::event::{ObjectError, Outcome};
use glioseg_preprocess::{Buckets, Preprocess};
use glioseg_shared::cloud::events::ObjectCreated;
use glioseg_shared::cloud::{
    Condition, FolderStorage, Metadata, Object, ObjectKey, Presign, Sequencer, Storage,
};
use glioseg_shared::imaging::phantom::{Phantom, PhantomConfig};
use glioseg_shared::imaging::{Intensity, Slice};
use glioseg_shared::study::{Document, Prepared, Rejection, ServingLimits};
use glioseg_test_support::contents::{Contents, of_bucket};
use serde_json::{Value, json};
use tempfile::TempDir;
use tiff::encoder::{TiffEncoder, colortype};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// Both buckets, and the function over them.
pub(crate) struct Stack {
    pub(crate) uploads: FolderStorage,
    pub(crate) results: FolderStorage,
    pub(crate) function: Arc<Preprocess<FolderStorage>>,
    next: AtomicU64,
    _folder: TempDir,
}

pub(crate) fn config() -> Config {
    Config::from_variables(|variable| match variable {
        "UPLOADS_BUCKET" => Some("uploads".to_owned()),
        "RESULTS_BUCKET" => Some("results".to_owned()),
        _ => None,
    })
    .unwrap()
}

impl Stack {
    pub(crate) fn new() -> Self {
        Self::with_limits(ServingLimits::default())
    }

    pub(crate) fn with_limits(limits: ServingLimits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let uploads = FolderStorage::open(folder.path().join("uploads")).unwrap();
        let results = FolderStorage::open(folder.path().join("results")).unwrap();
        let buckets = Buckets {
            uploads: uploads.clone(),
            results: results.clone(),
        };
        let config = Config { limits, ..config() };
        Self {
            uploads,
            results,
            function: Arc::new(Preprocess::new(buckets, config)),
            next: AtomicU64::new(1),
            _folder: folder,
        }
    }

    /// The function over the same buckets seen through something else.
    pub(crate) fn function_over<S: Storage + Presign>(
        &self,
        see: impl Fn(FolderStorage) -> S,
    ) -> Preprocess<S> {
        let buckets = Buckets {
            uploads: see(self.uploads.clone()),
            results: see(self.results.clone()),
        };
        Preprocess::new(buckets, config())
    }

    /// Uploads a file; returns the event that says so.
    pub(crate) async fn put(&self, key: &str, bytes: &[u8]) -> ObjectCreated {
        self.put_with(key, bytes, &Metadata::new()).await
    }

    pub(crate) async fn put_with(
        &self,
        key: &str,
        bytes: &[u8],
        metadata: &Metadata,
    ) -> ObjectCreated {
        let parsed = ObjectKey::parse(key).unwrap();
        self.uploads
            .put(&parsed, bytes.to_vec(), Condition::Always, metadata)
            .await
            .unwrap();
        self.event(key, Some(bytes.len() as u64))
    }

    /// An event without an upload.
    pub(crate) fn event(&self, key: &str, size: Option<u64>) -> ObjectCreated {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        ObjectCreated {
            bucket: "uploads".to_owned(),
            key: key.to_owned(),
            size,
            etag: None,
            version_id: None,
            sequencer: Sequencer::parse(&format!("{:x}", 0x00f0_0000 + 7 * number)),
        }
    }

    pub(crate) async fn handle(&self, event: &ObjectCreated) -> Result<Outcome, ObjectError> {
        self.function.on_object(event).await
    }

    /// Uploads a file and deals with it.
    pub(crate) async fn upload(&self, key: &str, bytes: &[u8]) -> Outcome {
        let event = self.put(key, bytes).await;
        self.handle(&event).await.unwrap()
    }

    /// Uploads a file that is to be set aside; returns why.
    pub(crate) async fn rejection(&self, key: &str, bytes: &[u8]) -> Rejection {
        assert_eq!(self.upload(key, bytes).await, Outcome::Rejected, "{key}");
        let contents = self.result_contents().await;
        let mut found = contents
            .iter()
            .filter(|(name, _)| name.starts_with("rejected/"))
            .map(|(_, (_, bytes))| Rejection::from_json(bytes).unwrap())
            .filter(|rejection| rejection.upload == key);
        let rejection = found.next().unwrap();
        assert!(found.next().is_none());
        rejection
    }

    pub(crate) async fn result(&self, key: &str) -> Option<Object> {
        let key = ObjectKey::parse(key).unwrap();
        self.results.get(&key, 1 << 30).await.ok()
    }

    pub(crate) async fn prepared(&self, key: &str) -> Prepared {
        let object = self.result(key).await.unwrap();
        Prepared::decode(&object.bytes, &ServingLimits::default().imaging()).unwrap()
    }

    pub(crate) async fn result_contents(&self) -> Contents {
        of_bucket(&self.results).await
    }

    pub(crate) async fn result_keys(&self) -> Vec<String> {
        self.result_contents().await.into_keys().collect()
    }
}

/// Events as a queue delivers them.
pub(crate) fn sqs(events: &[ObjectCreated]) -> Value {
    let records: Vec<Value> = events
        .iter()
        .enumerate()
        .map(|(number, event)| {
            let key: String = event
                .key
                .bytes()
                .map(|byte| match byte {
                    b' ' => "+".to_owned(),
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => {
                        char::from(byte).to_string()
                    }
                    byte => format!("%{byte:02X}"),
                })
                .collect();
            let sequencer = event.sequencer.as_ref().map(Sequencer::as_str);
            let record = json!({
                "eventSource": "aws:s3",
                "eventName": "ObjectCreated:Put",
                "s3": {
                    "bucket": { "name": event.bucket },
                    "object": { "key": key, "size": event.size, "sequencer": sequencer },
                },
            });
            json!({
                "messageId": format!("message-{number}"),
                "eventSource": "aws:sqs",
                "body": json!({ "Records": [record] }).to_string(),
            })
        })
        .collect();
    json!({ "Records": records })
}

/// A small study.
pub(crate) fn phantom(slices: usize, seed: u64) -> Phantom {
    let config = PhantomConfig {
        slices,
        size: 48,
        lesions: 1,
    };
    Phantom::generate(&config, seed).unwrap()
}

/// A TIFF of several RGB pages, by another encoder than the function's own.
pub(crate) fn pages(slices: &[Slice]) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    for slice in slices {
        let (width, height) = (slice.width() as u32, slice.height() as u32);
        encoder
            .write_image::<colortype::RGB8>(width, height, slice.pixels())
            .unwrap();
    }
    file.into_inner()
}

/// A TIFF of one page of 32-bit floating-point samples.
pub(crate) fn grey_f32(side: u32, samples: &[f32]) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    TiffEncoder::new(&mut file)
        .unwrap()
        .write_image::<colortype::Gray32Float>(side, side, samples)
        .unwrap();
    file.into_inner()
}

/// A slice of one colour.
pub(crate) fn plain(width: usize, height: usize, colour: [u8; 3]) -> Slice {
    let pixels = std::iter::repeat_n(colour, width * height)
        .flatten()
        .collect();
    Slice::new(width, height, pixels, Intensity::EightBit).unwrap()
}

pub(crate) fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer
            .start_file(*name, SimpleFileOptions::default())
            .unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}
