//! A study through the whole stack, and the same files without it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use glioseg_local::demo::{Content, DemoUpload, fetch, from_folder, phantom, send};
use glioseg_local::folder::{Job, collect};
use glioseg_local::model::SHIPPED;
use glioseg_local::observer::StackEvent;
use glioseg_local::report::{page, table};
use glioseg_local::stack::{Stack, StackConfig, StackError};
use glioseg_local::wiring::Bucket;
use glioseg_shared::cloud::keys::{Channel, StudyId};
use glioseg_shared::cloud::{ObjectKey, Storage};
use glioseg_shared::imaging::phantom::PhantomConfig;
use glioseg_shared::model::Segmenter;
use glioseg_shared::model::contract::NOTICE;
use glioseg_shared::study::ServingLimits;
use glioseg_test_support::contents::{of_bucket, of_folder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What both ways write of a slice.
const SHARED_FOLDERS: [&str; 5] = [
    "masks/",
    "overlays/",
    "probabilities/",
    "reports/",
    "scores/",
];

fn small() -> Vec<DemoUpload> {
    let config = PhantomConfig {
        slices: 5,
        size: 128,
        lesions: 2,
    };
    phantom(&config, 3).unwrap()
}

fn upload(key: &str, bytes: &[u8]) -> DemoUpload {
    DemoUpload {
        key: ObjectKey::parse(key).unwrap(),
        content: Content::Bytes(bytes.to_vec()),
        is_slice: false,
    }
}

/// The bytes of everything below some prefixes of a bucket.
async fn objects(storage: &impl Storage, prefixes: &[&str]) -> BTreeMap<String, Vec<u8>> {
    let objects = of_bucket(storage).await.into_iter();
    below(objects.map(|(key, (_, bytes))| (key, bytes)), prefixes)
}

fn below(
    files: impl IntoIterator<Item = (String, Vec<u8>)>,
    prefixes: &[&str],
) -> BTreeMap<String, Vec<u8>> {
    let wanted = |key: &str| prefixes.iter().any(|prefix| key.starts_with(prefix));
    let files = files.into_iter();
    files.filter(|(key, _)| wanted(key)).collect()
}

fn write(root: &Path, uploads: &[DemoUpload]) {
    for upload in uploads {
        let Content::Bytes(bytes) = &upload.content else {
            continue;
        };
        let path = root.join(upload.key.as_str());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// What `glioseg segment --truth` makes of a folder.
fn segmented(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let out = tempfile::tempdir().unwrap();
    let segmenter = Segmenter::from_onnx(SHIPPED).unwrap();
    let job = Job {
        segmenter: &segmenter,
        channel: &Channel::parse("fast").unwrap(),
        limits: ServingLimits::default(),
        out: out.path(),
        truth: true,
    };
    let outcome = job.run(&collect(&[folder.to_owned()], None), &|_| {});
    assert_eq!(outcome.faults, []);
    below(of_folder(out.path()), &SHARED_FOLDERS)
}

fn assert_same(cloud: &BTreeMap<String, Vec<u8>>, folder: &BTreeMap<String, Vec<u8>>) {
    let names = |map: &BTreeMap<String, Vec<u8>>| map.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(cloud), names(folder));
    for (key, bytes) in cloud {
        assert!(bytes == &folder[key], "{key} differs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_study_comes_out_complete_and_equal_to_the_folders_results() {
    let folder = tempfile::tempdir().unwrap();
    let announced = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&announced);
    let stack = Stack::start(StackConfig {
        observer: Arc::new(move |event: StackEvent<'_>| {
            if let StackEvent::Announced { kind, detail } = event {
                seen.lock().unwrap().push(format!("{kind} {detail}"));
            }
        }),
        ..StackConfig::new(folder.path())
    })
    .await
    .unwrap();
    let uploads = small();
    send(&stack.client(), uploads.clone()).await.unwrap();
    stack.idle().await;
    assert_eq!(stack.dead_letters(), []);

    let study = fetch(&stack, &StudyId::parse("phantom-3").unwrap())
        .await
        .unwrap();
    assert!(study.status.complete, "{:?}", study.status);
    assert_eq!(study.slices.len(), 5);
    assert!(study.slices.iter().all(|slice| slice.score.is_some()));
    let announced = announced.lock().unwrap().clone();
    let ids: BTreeSet<_> = announced.iter().collect();
    assert_eq!(
        ids.len(),
        1,
        "however often it is sent, one event: {announced:?}"
    );
    assert!(
        announced[0].starts_with("StudyCompleted {"),
        "{announced:?}"
    );

    let cloud = objects(&stack.bucket(Bucket::Results), &SHARED_FOLDERS).await;
    let data = tempfile::tempdir().unwrap();
    write(data.path(), &uploads);
    assert_same(&cloud, &segmented(data.path()));

    let studies = [study];
    let page = page(&studies, stack.model_version());
    assert!(page.contains(NOTICE) && page.contains("phantom-3"));
    assert!(
        !page.contains("http")
            || page.matches("http").count() == page.matches("http-equiv").count()
    );
    let table = table(&studies);
    assert!(table.contains("volume Dice"), "{table}");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_slices_come_out_equal_to_the_folders_results() {
    let Some(lgg) = glioseg_test_support::lgg() else {
        return;
    };
    // A few slices of a patient, some with tumour, under names with all that keys make difficult.
    let patient = "TCGA_CS_4941_19960909";
    let data = tempfile::tempdir().unwrap();
    let study = data.path().join("ü study +1%");
    fs::create_dir(&study).unwrap();
    for number in [1, 10, 12, 13] {
        for end in ["", "_mask"] {
            let file = format!("{patient}_{number}{end}.tif");
            fs::copy(lgg.folder.join(patient).join(&file), study.join(&file)).unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let stack = Stack::start(StackConfig::new(folder.path())).await.unwrap();
    let (uploads, faults) = from_folder(data.path()).unwrap();
    assert_eq!(faults, []);
    send(&stack.client(), uploads).await.unwrap();
    stack.idle().await;
    assert_eq!(stack.dead_letters(), []);
    let cloud = objects(&stack.bucket(Bucket::Results), &SHARED_FOLDERS).await;
    assert_eq!(cloud.len(), 4 * SHARED_FOLDERS.len());
    assert_same(&cloud, &segmented(data.path()));
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_between_loses_nothing_and_bad_uploads_are_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let stack = Stack::start(StackConfig::new(folder.path())).await.unwrap();
    let again = Stack::start(StackConfig::new(folder.path())).await;
    assert!(matches!(again, Err(StackError::InUse { .. })));
    let mut uploads = small();
    uploads.push(upload("phantom-3/broken.tif", b"II*\0"));
    uploads.push(upload("loose.tif", b"text"));
    send(&stack.client(), uploads).await.unwrap();
    // Whatever is not begun stays in the queues.
    stack.stop().await;

    let stack = Stack::start(StackConfig::new(folder.path())).await.unwrap();
    stack.idle().await;
    assert_eq!(stack.dead_letters(), []);
    let results = stack.bucket(Bucket::Results);
    let scores = objects(&results, &["scores/"]).await;
    assert_eq!(scores.len(), 5);
    let rejected = objects(&results, &["rejected/"]).await;
    let names: Vec<_> = rejected.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "rejected/loose.tif.json",
            "rejected/phantom-3/broken.tif.json"
        ]
    );
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_sent_to_the_api_comes_back_as_its_mask() {
    let folder = tempfile::tempdir().unwrap();
    let stack = Stack::start(StackConfig::new(folder.path())).await.unwrap();
    let uploads = small();
    let Content::Bytes(slice) = &uploads[5].content else {
        panic!("a phantom is in memory");
    };
    assert!(uploads[5].is_slice);
    let (head, body) = http(
        &stack,
        "POST",
        "/segment",
        &["content-type: image/tiff", "accept: image/tiff"],
        slice,
    )
    .await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let data = tempfile::tempdir().unwrap();
    write(data.path(), &uploads[5..6]);
    let masks: Vec<_> = segmented(data.path())
        .into_iter()
        .filter(|(key, _)| key.starts_with("masks/"))
        .collect();
    assert_eq!(masks.len(), 1);
    assert!(masks[0].1 == body, "the mask differs");

    let (head, body) = http(&stack, "GET", "/model", &[], b"").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(
        String::from_utf8(body)
            .unwrap()
            .contains(stack.model_version())
    );
    let (head, body) = http(
        &stack,
        "POST",
        "/segment",
        &["content-type: image/tiff"],
        &vec![0; 5_000_000],
    )
    .await;
    assert!(head.starts_with("HTTP/1.1 413"), "{head}");
    assert!(String::from_utf8(body).unwrap().contains("POST /uploads"));
    stack.stop().await;
}

async fn http(
    stack: &Stack,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &[u8],
) -> (String, Vec<u8>) {
    let address = stack.api_address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let headers: String = headers
        .iter()
        .map(|header| format!("{header}\r\n"))
        .collect();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {length}\r\n{headers}connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // A server that refuses a body need not read all of it.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    (head, answer[end + 4..].to_vec())
}
