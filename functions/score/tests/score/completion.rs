//! When a study is announced as complete, and how often.

use glioseg_shared::cloud::{Condition, Metadata, Storage};
use serde_json::Value;

use crate::stage::{Found, Stage, drawn, object};

async fn done(stage: &Stage, slice: &str) {
    let mask = drawn(&["#.", ".."]);
    stage.found("s", slice, &Found::new(&mask)).await;
    stage.tells(&[&format!("masks/s/{slice}.tif")]).await;
}

#[tokio::test]
async fn a_study_is_announced_once_the_last_slice_is_done() {
    let stage = Stage::new();
    stage.close("s", 3).await;
    done(&stage, "a").await;
    done(&stage, "b").await;
    assert_eq!(stage.events(), Vec::<Value>::new());
    stage.put_result("rejected/s/c.tif.json", b"{}").await;
    stage.tells(&["rejected/s/c.tif.json"]).await;
    let [event] = &stage.events()[..] else {
        panic!("one event");
    };
    assert_eq!(event["study"], "s");
    assert_eq!(event["study_sequencer"], "A1");
    assert_eq!(event["counts"]["segmented"], 2);
    assert_eq!(event["counts"]["rejected"], 1);
    assert_eq!(event["summary"]["tumour_voxels"], 2);
    assert_eq!(event["notice"], "research use only; not a medical device");
    let (stored, metadata) = stage.stored("studies/s/completed.json").await.unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&stored).unwrap(), *event);
    assert_eq!(metadata["event-id"], event["id"].as_str().unwrap());
    let before = stage.everything();
    stage
        .tells(&[
            "masks/s/a.tif",
            "rejected/s/c.tif.json",
            "studies/s/study.json",
        ])
        .await;
    assert_eq!(stage.events().len(), 1, "a replay announces nothing");
    assert_eq!(stage.everything(), before);
}

#[tokio::test]
async fn closing_a_study_that_is_done_announces_it() {
    let stage = Stage::new();
    done(&stage, "a").await;
    assert!(stage.events().is_empty(), "an open study is never done");
    stage.close("s", 1).await;
    stage.tells(&["studies/s/study.json"]).await;
    assert_eq!(stage.events().len(), 1);
}

#[tokio::test]
async fn truths_that_are_known_of_are_waited_for() {
    let stage = Stage::new();
    stage.close("s", 1).await;
    stage.upload("s/a.tif").await;
    stage.upload("s/a_mask.tif").await;
    done(&stage, "a").await;
    assert!(stage.events().is_empty(), "the truth is not prepared yet");
    stage.truth("s", "a", &drawn(&["#.", ".."])).await;
    stage.tells(&["truth/s/a.tif"]).await;
    let [event] = &stage.events()[..] else {
        panic!("one event");
    };
    assert_eq!(event["summary"]["scores"]["volume_dice"], 1.0);
}

#[tokio::test]
async fn truth_that_cannot_be_compared_does_not_hold_a_study_up() {
    let stage = Stage::new();
    stage.close("s", 1).await;
    stage.truth("s", "a", &drawn(&["#"])).await;
    done(&stage, "a").await;
    assert_eq!(stage.events().len(), 1);
    assert_eq!(stage.events()[0]["counts"]["scored"], 0);
}

#[tokio::test]
async fn what_changes_later_is_announced_under_another_id() {
    let stage = Stage::new();
    stage.close("s", 1).await;
    done(&stage, "a").await;
    stage.truth("s", "a", &drawn(&["##", ".."])).await;
    stage.tells(&["truth/s/a.tif"]).await;
    let events = stage.events();
    assert_eq!(events.len(), 2);
    assert_ne!(events[0]["id"], events[1]["id"]);
    assert_eq!(events[1]["summary"]["scores"]["volume_dice"], 0.666_667);
}

#[tokio::test]
async fn a_crash_between_event_and_note_repeats_the_event() {
    let stage = Stage::new();
    stage.close("s", 1).await;
    done(&stage, "a").await;
    // What is there when the process is killed after it has sent the event.
    let key = object("studies/s/completed.json");
    stage.score.results.delete(&key).await.unwrap();
    stage.tells(&["masks/s/a.tif"]).await;
    let events = stage.events();
    assert_eq!(events.len(), 2);
    assert_eq!(events[0], events[1]);
}

#[tokio::test]
async fn studies_below_count_for_themselves() {
    let stage = Stage::new();
    stage.close("s", 2).await;
    let mask = drawn(&["#.", ".."]);
    stage.found("s/deep", "b", &Found::new(&mask)).await;
    done(&stage, "a").await;
    stage.tells(&["masks/s/deep/b.tif"]).await;
    assert!(stage.events().is_empty());
}

#[tokio::test]
async fn a_study_json_that_cannot_be_read_is_no_secret() {
    let stage = Stage::new();
    stage
        .score
        .results
        .put(
            &object("studies/s/study.json"),
            b"{\"slices\": \"many\"}".to_vec(),
            Condition::Always,
            &Metadata::new(),
        )
        .await
        .unwrap();
    assert_eq!(stage.tell("studies/s/study.json").await, ["m1"]);
}
