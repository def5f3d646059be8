//! Publishing, to a folder and to a real S3 server alike.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "../../shared/tests/support/s3_server.rs"]
mod s3_server;
#[path = "support/threshold_model.rs"]
mod threshold_model;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use glioseg_shared::cloud::keys::{self, Channel, ModelVersion};
use glioseg_shared::cloud::{Condition, FolderStorage, Metadata, ObjectKey, Page, Storage};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::{CHANNELS, Intensity, Mask, Slice};
use glioseg_shared::model::Segmenter;
use glioseg_shared::model::contract::Score;
use glioseg_shared::registry::{ModelCard, Pointer, RegistryError, read_pointer};
use glioseg_shared::scoring::{Counts, PatientScore, SliceScore, Summary};
use glioseg_test_support::hooked::{Call, Hooked, overtaken};
use glioseg_training::publish::{
    Judge, JudgeError, Outcome, PublishError, PublishOptions, Reason, Scores, publish, store,
};
use s3_server::S3Server;
use threshold_model::threshold_model;

const SIDE: usize = 16;
const MAX: u64 = 1 << 20;

/// FLAIR levels that a [`model`] may cut at, from the best score to the worst: only the tumour, the
/// tumour and the brain, nothing.
const BEST: f32 = 0.6;
const MIDDLE: f32 = 0.2;
const WORST: f32 = 0.9;

/// A slice with a bright tumour in a brain, and the tumour.
fn study() -> (Slice, Mask) {
    let mut pixels = vec![0; SIDE * SIDE * CHANNELS];
    let mut truth = Mask::empty(SIDE, SIDE);
    for y in 2..14 {
        for x in 2..14 {
            let tumour = (5..9).contains(&x) && (5..9).contains(&y);
            pixels[(y * SIDE + x) * CHANNELS + 1] = if tumour { 204 } else { 102 };
            truth.pixels_mut()[y * SIDE + x] = tumour;
        }
    }
    let slice = Slice::new(SIDE, SIDE, pixels, Intensity::EightBit).unwrap();
    (slice, truth)
}

/// Scores a model by running it, as the command does on the validation patients.
fn judge(onnx: &[u8]) -> Result<Vec<f64>, JudgeError> {
    let (slice, truth) = study();
    let segmentation = Segmenter::from_onnx(onnx)?.segment(&slice)?;
    Ok(vec![Counts::of(&segmentation.mask, &truth)?.dice()])
}

/// A model file that marks what is brighter than `level` (0..=1) on FLAIR, and whose contract
/// claims a perfect score on the validation patients, or none.
fn model(version: &str, level: f32, claims_perfection: bool) -> Vec<u8> {
    let (_, truth) = study();
    let perfect = Summary::of(&[PatientScore {
        patient: "p".to_owned(),
        slices: vec![SliceScore {
            slice: "p_1".to_owned(),
            counts: Counts::of(&truth, &truth).unwrap(),
            surface: None,
        }],
    }]);
    let claim = claims_perfection.then_some(Score {
        split: "validation".to_owned(),
        summary: perfect,
    });
    threshold_model(version, level, SIDE as u32, Vec::from_iter(claim))
}

fn fast() -> Channel {
    Channel::parse("fast").unwrap()
}

fn version(name: &str) -> ModelVersion {
    ModelVersion::parse(name).unwrap()
}

async fn publish_as(
    storage: &impl Storage,
    onnx: &[u8],
    force: bool,
    judge: Option<&dyn Judge>,
) -> Result<Outcome, PublishError> {
    let channel = fast();
    let options = PublishOptions {
        channel: &channel,
        force,
        judge,
        margin: 0.0,
    };
    publish(onnx, storage, options).await
}

async fn judged(storage: &impl Storage, onnx: &[u8]) -> Result<Outcome, PublishError> {
    publish_as(storage, onnx, false, Some(&judge)).await
}

async fn serving(storage: &impl Storage) -> Pointer {
    let serving = read_pointer(storage, &fast()).await.unwrap().unwrap();
    serving.pointer
}

async fn serving_version(storage: &impl Storage) -> String {
    serving(storage).await.model.version
}

async fn overwrite(storage: &impl Storage, key: &ObjectKey, bytes: Vec<u8>) {
    let none = Metadata::new();
    storage
        .put(key, bytes, Condition::Always, &none)
        .await
        .unwrap();
}

fn scores_of(outcome: Outcome) -> Scores {
    match outcome {
        Outcome::Promoted {
            scores: Some(scores),
            ..
        }
        | Outcome::KeptNotPromoted {
            reason: Reason::NotBetter(scores),
            ..
        } => scores,
        other => panic!("{other:?}"),
    }
}

async fn the_first_model_needs_no_data(storage: &impl Storage) {
    let onnx = model("v1", BEST, false);
    let outcome = publish_as(storage, &onnx, false, None).await.unwrap();
    let Outcome::Promoted {
        pointer,
        scores: None,
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(pointer, serving(storage).await);
    assert_eq!(pointer.model.onnx_sha256, sha256_hex(&onnx));
    assert_eq!(pointer.previous, None);
    assert_eq!(pointer.licence, "CC-BY-NC-SA-4.0");
    assert!(pointer.notice.contains("research use only"));

    let file = storage
        .get(&keys::model_onnx(&version("v1")), MAX)
        .await
        .unwrap();
    assert_eq!(file.bytes, onnx);
    let card = storage
        .get(&keys::model_card(&version("v1")), MAX)
        .await
        .unwrap();
    let card: ModelCard = serde_json::from_slice(&card.bytes).unwrap();
    assert_eq!(card.model, pointer.model);
    assert_eq!(card.contract.model_version, "v1");
    let page = storage.list("", None, 10).await.unwrap();
    let keys: Vec<_> = page.entries.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "models/fast/current.json",
            "models/v1/model.json",
            "models/v1/model.onnx"
        ]
    );
}

async fn the_same_model_again_changes_nothing(storage: &impl Storage) {
    let onnx = model("v1", BEST, false);
    publish_as(storage, &onnx, false, None).await.unwrap();
    let pointer = serving(storage).await;
    for force in [false, true] {
        let outcome = publish_as(storage, &onnx, force, None).await.unwrap();
        assert!(
            matches!(outcome, Outcome::AlreadyServing { .. }),
            "{outcome:?}"
        );
        assert_eq!(serving(storage).await, pointer);
    }
}

async fn a_version_is_published_once(storage: &impl Storage) {
    let first = model("v1", MIDDLE, false);
    publish_as(storage, &first, false, None).await.unwrap();
    let pointer = serving(storage).await;
    // One of the same length, and a longer one.
    for other in [model("v1", BEST, false), model("v1", BEST, true)] {
        for force in [false, true] {
            let error = publish_as(storage, &other, force, Some(&judge))
                .await
                .unwrap_err();
            assert!(
                matches!(&error, PublishError::VersionTaken { key } if key == "models/v1/model.onnx"),
                "{error}"
            );
        }
    }
    assert_eq!(serving(storage).await, pointer);
    let file = storage
        .get(&keys::model_onnx(&version("v1")), MAX)
        .await
        .unwrap();
    assert_eq!(file.bytes, first);
}

async fn the_better_model_serves(storage: &impl Storage) {
    judged(storage, &model("worst", WORST, false))
        .await
        .unwrap();
    let scores = scores_of(
        judged(storage, &model("middle", MIDDLE, false))
            .await
            .unwrap(),
    );
    // Marking the brain of 144 pixels for the tumour of 16 gives 2*16 / (144+16).
    assert_eq!((scores.candidate, scores.serving), (0.2, 0.0));
    assert_eq!(scores.patients, 1);
    // Of a single patient every resample is the same.
    assert_eq!((scores.difference.low, scores.difference.high), (0.2, 0.2));
    let pointer = serving(storage).await;
    assert_eq!(pointer.model.version, "middle");
    assert_eq!(pointer.previous.unwrap().version, "worst");

    judged(storage, &model("best", BEST, false)).await.unwrap();
    let pointer = serving(storage).await;
    let outcome = judged(storage, &model("middle-2", MIDDLE, false))
        .await
        .unwrap();
    assert!(outcome.to_string().contains("keeps serving best"));
    let scores = scores_of(outcome);
    assert_eq!((scores.candidate, scores.serving), (0.2, 1.0));
    assert_eq!(serving(storage).await, pointer);

    // It is stored nonetheless, and can be made to serve; of equal models the newer serves.
    publish_as(storage, &model("middle-2", MIDDLE, false), true, None)
        .await
        .unwrap();
    assert_eq!(serving_version(storage).await, "middle-2");
    judged(storage, &model("middle-3", MIDDLE, false))
        .await
        .unwrap();
    assert_eq!(serving_version(storage).await, "middle-3");
}

async fn what_a_card_claims_promotes_nothing(storage: &impl Storage) {
    let best = model("best", BEST, false);
    judged(storage, &best).await.unwrap();
    let pointer = serving(storage).await;
    let boaster = model("boaster", MIDDLE, true);

    // Without data there is only the claim.
    let outcome = publish_as(storage, &boaster, false, None).await.unwrap();
    assert!(
        matches!(
            outcome,
            Outcome::KeptNotPromoted {
                reason: Reason::NotScored,
                ..
            }
        ),
        "{outcome:?}"
    );
    // With data the claim is not looked at,
    let outcome = judged(storage, &boaster).await.unwrap();
    assert_eq!(scores_of(outcome).candidate, 0.2);
    // nor is a card that belittles the model that serves.
    let card_key = keys::model_card(&version("best"));
    let card = storage.get(&card_key, MAX).await.unwrap();
    let mut card: ModelCard = serde_json::from_slice(&card.bytes).unwrap();
    card.contract.scores.clear();
    overwrite(storage, &card_key, serde_json::to_vec(&card).unwrap()).await;
    let outcome = judged(storage, &boaster).await.unwrap();
    assert_eq!(scores_of(outcome).serving, 1.0);
    assert_eq!(serving(storage).await, pointer);

    // A card edited before its model is published stops it.
    let card_key = keys::model_card(&version("edited"));
    overwrite(storage, &card_key, serde_json::to_vec(&card).unwrap()).await;
    let error = judged(storage, &model("edited", BEST, false))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, PublishError::VersionTaken { key } if *key == card_key.to_string()),
        "{error}"
    );
    assert_eq!(serving(storage).await, pointer);
}

async fn what_cannot_be_scored_is_replaced_by_force_only(storage: &impl Storage) {
    publish_as(storage, &model("v1", MIDDLE, false), false, None)
        .await
        .unwrap();
    let next = model("v2", BEST, false);

    // A serving model that is another than was published, though it would score worse.
    let exchanged = model("v1", WORST, false);
    overwrite(storage, &keys::model_onnx(&version("v1")), exchanged).await;
    let error = judged(storage, &next).await.unwrap_err();
    assert!(
        matches!(
            error,
            PublishError::Registry(RegistryError::BadModel { .. })
        ),
        "{error}"
    );
    // A serving model that is gone.
    storage
        .delete(&keys::model_onnx(&version("v1")))
        .await
        .unwrap();
    let error = judged(storage, &next).await.unwrap_err();
    assert!(
        error.to_string().contains("models/v1/model.onnx"),
        "{error}"
    );
    assert_eq!(serving_version(storage).await, "v1");
    publish_as(storage, &next, true, Some(&judge))
        .await
        .unwrap();
    assert_eq!(serving_version(storage).await, "v2");

    // A pointer that is none.
    overwrite(storage, &keys::channel_pointer(&fast()), b"{}".to_vec()).await;
    let last = model("v3", BEST, false);
    let error = judged(storage, &last).await.unwrap_err();
    assert!(
        matches!(
            error,
            PublishError::Registry(RegistryError::BadPointer { .. })
        ),
        "{error}"
    );
    publish_as(storage, &last, true, None).await.unwrap();
    assert_eq!(serving_version(storage).await, "v3");
}

async fn trouble_leaves_the_pointer_alone(storage: &impl Storage) {
    for bytes in [&b""[..], b"no model", &model("v1", BEST, false)[..100]] {
        let error = publish_as(storage, bytes, true, None).await.unwrap_err();
        assert!(matches!(error, PublishError::Model(_)), "{error}");
    }
    assert_eq!(
        storage.list("", None, 10).await.unwrap(),
        Page::default(),
        "nothing is written of a file that is no model"
    );

    judged(storage, &model("v1", WORST, false)).await.unwrap();
    let pointer = serving(storage).await;
    let broken = |_: &[u8]| Err(JudgeError::from("no patients"));
    let absurd = |_: &[u8]| Ok(vec![0.5, f64::NAN]);
    let judges: [&dyn Judge; 2] = [&broken, &absurd];
    for judge in judges {
        let onnx = model("v2", BEST, false);
        let error = publish_as(storage, &onnx, false, Some(judge))
            .await
            .unwrap_err();
        assert!(matches!(error, PublishError::Judge { .. }), "{error}");
        assert!(!error.is_retryable());
        assert_eq!(serving(storage).await, pointer);
    }
}

async fn a_margin_keeps_what_is_hardly_better_from_serving(storage: &impl Storage) {
    judged(storage, &model("worst", WORST, false))
        .await
        .unwrap();
    let channel = fast();
    let with = |margin| PublishOptions {
        channel: &channel,
        force: false,
        judge: Some(&judge),
        margin,
    };
    let middle = model("middle", MIDDLE, false);
    let outcome = publish(&middle, storage, with(0.25)).await.unwrap();
    assert!(outcome.to_string().contains("margin 0.25"), "{outcome}");
    assert!(scores_of(outcome).margin == 0.25);
    assert_eq!(serving_version(storage).await, "worst");
    publish(&middle, storage, with(0.2)).await.unwrap();
    assert_eq!(serving_version(storage).await, "middle");

    // Scores of other patients cannot be paired.
    let first = std::sync::atomic::AtomicBool::new(true);
    let uneven = |_: &[u8]| {
        let patients = 1 + usize::from(first.swap(false, Ordering::Relaxed));
        Ok(vec![0.5; patients])
    };
    let options = PublishOptions {
        judge: Some(&uneven),
        ..with(0.0)
    };
    let best = model("best", BEST, false);
    let error = publish(&best, storage, options).await.unwrap_err();
    assert!(matches!(error, PublishError::Unpaired { .. }), "{error}");
    assert_eq!(serving_version(storage).await, "middle");
}

async fn a_model_is_stored_without_serving(storage: &impl Storage) {
    let onnx = model("v1", BEST, false);
    let stored = store(&onnx, storage).await.unwrap();
    assert_eq!(stored.model.onnx_sha256, sha256_hex(&onnx));
    let page = storage.list("", None, 10).await.unwrap();
    let keys: Vec<_> = page.entries.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(keys, ["models/v1/model.json", "models/v1/model.onnx"]);
    // Whoever publishes it later finds it there.
    publish_as(storage, &onnx, false, None).await.unwrap();
    assert_eq!(serving(storage).await.model, stored.model);
}

async fn of_models_published_at_once_the_best_serves(storage: Arc<impl Storage + 'static>) {
    let publishers: Vec<_> = [
        ("a", MIDDLE),
        ("b", WORST),
        ("c", BEST),
        ("d", MIDDLE),
        ("e", WORST),
    ]
    .into_iter()
    .map(|(version, level)| {
        let storage = Arc::clone(&storage);
        tokio::spawn(async move { judged(&*storage, &model(version, level, false)).await })
    })
    .collect();
    for publisher in publishers {
        publisher.await.unwrap().unwrap();
    }
    assert_eq!(serving_version(&*storage).await, "c");
}

macro_rules! publishes_rightly {
    ($store:ident, $open:expr) => {
        mod $store {
            use super::*;

            #[tokio::test]
            async fn the_first_model_needs_no_data() {
                let (storage, _keep) = $open.await;
                super::the_first_model_needs_no_data(&storage).await;
            }

            #[tokio::test]
            async fn the_same_model_again_changes_nothing() {
                let (storage, _keep) = $open.await;
                super::the_same_model_again_changes_nothing(&storage).await;
            }

            #[tokio::test]
            async fn a_version_is_published_once() {
                let (storage, _keep) = $open.await;
                super::a_version_is_published_once(&storage).await;
            }

            #[tokio::test]
            async fn the_better_model_serves() {
                let (storage, _keep) = $open.await;
                super::the_better_model_serves(&storage).await;
            }

            #[tokio::test]
            async fn what_a_card_claims_promotes_nothing() {
                let (storage, _keep) = $open.await;
                super::what_a_card_claims_promotes_nothing(&storage).await;
            }

            #[tokio::test]
            async fn what_cannot_be_scored_is_replaced_by_force_only() {
                let (storage, _keep) = $open.await;
                super::what_cannot_be_scored_is_replaced_by_force_only(&storage).await;
            }

            #[tokio::test]
            async fn trouble_leaves_the_pointer_alone() {
                let (storage, _keep) = $open.await;
                super::trouble_leaves_the_pointer_alone(&storage).await;
            }

            #[tokio::test]
            async fn a_margin_keeps_what_is_hardly_better_from_serving() {
                let (storage, _keep) = $open.await;
                super::a_margin_keeps_what_is_hardly_better_from_serving(&storage).await;
            }

            #[tokio::test]
            async fn a_model_is_stored_without_serving() {
                let (storage, _keep) = $open.await;
                super::a_model_is_stored_without_serving(&storage).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn of_models_published_at_once_the_best_serves() {
                let (storage, _keep) = $open.await;
                super::of_models_published_at_once_the_best_serves(Arc::new(storage)).await;
            }
        }
    };
}

publishes_rightly!(in_a_folder, async {
    let root = tempfile::tempdir().unwrap();
    (FolderStorage::open(root.path()).unwrap(), root)
});

publishes_rightly!(in_a_bucket, async {
    let server = S3Server::start().await;
    (server.storage(Some("team/gliomas")), server)
});

/// A store in a folder to which something happens when the pointer is written.
fn hooked(folder: FolderStorage) -> (Hooked<FolderStorage>, impl Fn(&Call) -> bool + Send) {
    let pointer = keys::channel_pointer(&fast());
    let writes_pointer = move |call: &Call| call.is("put", &pointer);
    (Hooked::new(folder), writes_pointer)
}

#[tokio::test]
async fn a_lost_race_is_decided_anew_without_scoring_twice() {
    for (overtaker, level, expected) in [("best", BEST, "best"), ("worst", WORST, "middle")] {
        let root = tempfile::tempdir().unwrap();
        let folder = FolderStorage::open(root.path()).unwrap();
        judged(&folder, &model("old", WORST, false)).await.unwrap();
        let (storage, writes_pointer) = hooked(folder.clone());
        let other = model(overtaker, level, false);
        storage.hook.before(writes_pointer, async move {
            publish_as(&folder, &other, true, None).await.unwrap();
            Ok(())
        });
        let scored = AtomicUsize::new(0);
        let counting = |onnx: &[u8]| {
            scored.fetch_add(1, Ordering::Relaxed);
            judge(onnx)
        };
        let onnx = model("middle", MIDDLE, false);
        publish_as(&storage, &onnx, false, Some(&counting))
            .await
            .unwrap();
        assert_eq!(serving_version(&storage).await, expected);
        // The candidate, the model it set out to replace, and the one it found instead.
        assert_eq!(scored.into_inner(), 3);
        if expected == "middle" {
            let previous = serving(&storage).await.previous.unwrap();
            assert_eq!(previous.version, overtaker);
        }
    }
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_recognised() {
    let root = tempfile::tempdir().unwrap();
    let folder = FolderStorage::open(root.path()).unwrap();
    judged(&folder, &model("old", WORST, false)).await.unwrap();
    let (storage, writes_pointer) = hooked(folder);
    // The write happens, its answer is lost, and the repetition is refused.
    let refused = overtaken(keys::channel_pointer(&fast()).as_str());
    storage.hook.lose_answer(writes_pointer, refused);
    let outcome = judged(&storage, &model("new", BEST, false)).await.unwrap();
    assert!(matches!(outcome, Outcome::Promoted { .. }), "{outcome:?}");
    let pointer_write = format!("put {}", keys::channel_pointer(&fast()));
    let changes = storage.hook.changes();
    let writes = changes.iter().filter(|change| **change == pointer_write);
    assert_eq!(writes.count(), 1, "{changes:?}");
}

#[tokio::test]
async fn a_race_that_never_ends_is_given_up() {
    let root = tempfile::tempdir().unwrap();
    let folder = FolderStorage::open(root.path()).unwrap();
    let (storage, writes_pointer) = hooked(folder);
    // Others write the pointer before every attempt.
    let refuse = move |call: &Call| writes_pointer(call).then(|| overtaken(&call.key));
    storage.hook.fail(refuse);
    let error = judged(&storage, &model("new", BEST, false))
        .await
        .unwrap_err();
    assert!(matches!(error, PublishError::Contended { .. }), "{error}");
    assert!(error.is_retryable());
}
