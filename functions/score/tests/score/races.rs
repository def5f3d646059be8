//! What others do between reading and writing, and buses and buckets that refuse.

use std::sync::atomic::{AtomicBool, Ordering};

use glioseg_score::Score;
use glioseg_score::bus::{Announcement, Bus, BusError, Recorder};
use glioseg_shared::cloud::events::ObjectCreated;
use glioseg_shared::cloud::{Condition, FolderStorage, HttpRequest, Metadata, Storage};
use glioseg_shared::imaging::encode_mask_tiff;
use glioseg_test_support::hooked::{Hooked, denied};

use crate::stage::{Found, Stage, body, drawn, object};

impl Stage {
    /// The same function, over buckets that others may get at, too.
    pub(crate) fn hooked<B>(&self, bus: B) -> Score<Hooked<FolderStorage>, B> {
        Score {
            uploads: Hooked::new(self.score.uploads.clone()),
            results: Hooked::new(self.score.results.clone()),
            bus,
            memory: self.score.memory.clone(),
            config: self.score.config.clone(),
        }
    }

    /// A slice with mask and truth, and the event of its mask.
    async fn with_pair(&self) -> ObjectCreated {
        let mask = drawn(&["##", ".."]);
        self.found("s", "x", &Found::new(&mask)).await;
        self.truth("s", "x", &drawn(&["#.", ".."])).await;
        ObjectCreated {
            bucket: "results-1".to_owned(),
            key: "masks/s/x.tif".to_owned(),
            size: None,
            etag: None,
            version_id: None,
            sequencer: None,
        }
    }
}

/// Lets somebody else write an object, or delete it for want of bytes, just before the function writes `before_put`.
pub(crate) fn meddle<B>(
    score: &Score<Hooked<FolderStorage>, B>,
    before_put: &str,
    (key, bytes): (&str, Option<Vec<u8>>),
) {
    let (written, changed) = (object(before_put), object(key));
    let bucket = score.results.storage.clone();
    let meddling = async move {
        match bytes {
            Some(bytes) => {
                let none = Metadata::new();
                let put = bucket.put(&changed, bytes, Condition::Always, &none);
                put.await.map(|_| ())
            }
            None => bucket.delete(&changed).await,
        }
    };
    let hook = &score.results.hook;
    hook.before(move |call| call.is("put", &written), meddling);
}

/// Scores a pair while somebody else gets in before the score is written.
async fn score_meddled(stage: &Stage, change: (&str, Option<Vec<u8>>)) {
    let event = stage.with_pair().await;
    let score = stage.hooked(Recorder::default());
    meddle(&score, "scores/s/x.json", change);
    score.on_object(event).await.unwrap();
    assert!(score.results.hook.ran());
}

#[tokio::test]
async fn a_truth_that_changes_meanwhile_counts() {
    let stage = Stage::new();
    let corrected = encode_mask_tiff(&drawn(&["##", ".."]));
    score_meddled(&stage, ("truth/s/x.tif", Some(corrected))).await;
    assert_eq!(stage.stored_score("s", "x").await.unwrap().dice, 1.0);
}

#[tokio::test]
async fn a_study_that_is_deleted_meanwhile_leaves_no_score() {
    let stage = Stage::new();
    score_meddled(&stage, ("masks/s/x.tif", None)).await;
    assert_eq!(stage.stored_score("s", "x").await, None);
}

#[tokio::test]
async fn a_score_that_somebody_else_writes_meanwhile_is_looked_at_anew() {
    let stage = Stage::new();
    score_meddled(&stage, ("scores/s/x.json", Some(b"other".to_vec()))).await;
    assert_eq!(stage.stored_score("s", "x").await.unwrap().dice, 0.666_667);
}

/// Refuses the first event.
struct Flaky {
    refused: AtomicBool,
    inner: Recorder,
}

impl Bus for Flaky {
    async fn send(&self, announcement: &Announcement) -> Result<(), BusError> {
        if self.refused.swap(true, Ordering::SeqCst) {
            self.inner.send(announcement).await
        } else {
            Err(BusError::new(
                "flaky",
                announcement,
                "ThrottlingException",
                true,
            ))
        }
    }
}

#[tokio::test]
async fn an_event_that_the_bus_refused_is_sent_again() {
    let stage = Stage::new();
    stage.close("s", 1).await;
    let event = stage.with_pair().await;
    let score = stage.hooked(Flaky {
        refused: AtomicBool::new(false),
        inner: Recorder::default(),
    });
    let error = score.on_object(event.clone()).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(stage.stored("studies/s/completed.json").await, None);
    score.on_object(event).await.unwrap();
    assert_eq!(score.bus.inner.announcements().len(), 1);
    assert!(stage.stored("studies/s/completed.json").await.is_some());
}

#[tokio::test]
async fn a_note_that_somebody_else_writes_first_is_not_replaced_by_the_same() {
    let stage = Stage::new();
    stage.close("s", 1).await;
    let event = stage.with_pair().await;
    let score = stage.hooked(Recorder::default());
    let note = "studies/s/completed.json";
    meddle(&score, note, (note, Some(b"old".to_vec())));
    score.on_object(event).await.unwrap();
    let sent = score.bus.announcements();
    assert_eq!(sent.len(), 2, "sent at least once");
    assert_eq!(sent[0], sent[1]);
    let (note, _) = stage.stored("studies/s/completed.json").await.unwrap();
    assert_eq!(note.trim_ascii_end(), sent[0].detail.as_bytes());
}

#[tokio::test]
async fn a_study_deleted_while_it_is_announced_keeps_no_note() {
    let stage = Stage::new();
    stage.close("s", 1).await;
    let event = stage.with_pair().await;
    let score = stage.hooked(Recorder::default());
    let manifest = ("studies/s/study.json", None);
    meddle(&score, "studies/s/completed.json", manifest);
    score.on_object(event).await.unwrap();
    assert_eq!(stage.stored("studies/s/completed.json").await, None);
}

#[tokio::test]
async fn what_could_not_be_deleted_is_named() {
    let stage = Stage::new();
    stage.with_pair().await;
    stage.upload("s/x.tif").await;
    let score = stage.hooked(Recorder::default());
    let kept = object("truth/s/x.tif");
    let hook = &score.results.hook;
    hook.fail(move |call| call.is("delete", &kept).then(|| denied(&call.key)));
    let request = HttpRequest::new("DELETE", "/studies/s");
    let (status, deletion) = body(score.on_http(request.clone()).await);
    assert_eq!(status, 200);
    assert_eq!(deletion["complete"], false);
    assert_eq!(deletion["deleted_uploads"], 1);
    assert_eq!(deletion["deleted_results"], 2);
    let [kept] = &deletion["not_deleted"].as_array().unwrap()[..] else {
        panic!("{deletion}");
    };
    assert_eq!(
        (&kept["bucket"], &kept["key"]),
        (&"results".into(), &"truth/s/x.tif".into())
    );
    let reason = kept["reason"].as_str().unwrap();
    assert!(reason.contains("AccessDenied"), "{reason}");
    hook.heal();
    let (_, deletion) = body(score.on_http(request).await);
    assert_eq!(
        (&deletion["complete"], &deletion["deleted_results"]),
        (&true.into(), &1.into())
    );
}

/// The runtime may move the work between threads.
#[test]
fn everything_can_move_between_threads() {
    fn assert_send<T: Send>(_: &T) {}
    let stage = Stage::new();
    assert_send(&stage.score.handle(serde_json::Value::Null));
    assert_send(&stage.score.on_http(HttpRequest::new("GET", "/health")));
}
