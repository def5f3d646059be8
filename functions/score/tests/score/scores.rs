//! What masks and truths lead to, in whatever order they arrive.

use std::fs;

use glioseg_shared::imaging::{Mask, encode_mask_tiff};
use glioseg_shared::study::{Document, Rejection, Spacing};
use serde_json::Value;

use crate::stage::{Found, MODEL, Stage, drawn, phantom};

/// 3 pixels in common, 1 only predicted, 2 only true, 9 neither.
fn pair() -> (Mask, Mask) {
    (
        drawn(&["##...", "##...", "....."]),
        drawn(&["###..", "#....", "#...."]),
    )
}

#[tokio::test]
async fn a_score_says_what_can_be_counted_by_hand() {
    let stage = Stage::new();
    let (prediction, truth) = pair();
    let spacing: Spacing = "0.5,2".parse().unwrap();
    let found = Found {
        spacing: Some(spacing),
        ..Found::new(&prediction)
    };
    stage.found("a/s", "x", &found).await;
    stage.truth("a/s", "x", &truth).await;
    stage.tells(&["masks/a/s/x.tif"]).await;
    let score = stage.stored_score("a/s", "x").await.unwrap();
    let counts = score.counts;
    assert_eq!(
        (
            counts.true_positive,
            counts.false_positive,
            counts.false_negative,
            counts.true_negative
        ),
        (3, 1, 2, 9)
    );
    assert_eq!(
        (score.dice, score.iou, score.precision, score.recall),
        (0.666_667, 0.5, Some(0.75), Some(0.6))
    );
    assert_eq!((score.predicted_pixels, score.true_pixels), (4, 5));
    assert_eq!(
        (score.predicted_area_mm2, score.true_area_mm2),
        (Some(4.0), Some(5.0))
    );
    // Every pixel is on an outline. There: 0, 0, 0, and 0.5 to the left of the fourth; back: 0, 0, 0, 0.5, and 2.
    let average = (0.5 + 0.5 + 2.0) / 9.0;
    assert!((score.average_surface_distance.unwrap() - average).abs() < 1e-6);
    // The 95th percentile of five sorted distances lies four fifths of the way from the fourth to the fifth.
    assert!((score.hd95.unwrap() - (0.5 + 0.8 * 1.5)).abs() < 1e-6);
    assert_eq!(score.model_version.as_deref(), Some(MODEL));
    let (_, metadata) = stage.stored("scores/a/s/x.json").await.unwrap();
    assert_eq!(metadata["model-version"], MODEL);
}

#[tokio::test]
async fn stored_scores_are_those_of_monai() {
    let goldens = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/tests/goldens/monai/metrics.json"
    );
    let goldens: Vec<Value> = serde_json::from_slice(&fs::read(goldens).unwrap()).unwrap();
    assert!(goldens.len() > 5);
    let stage = Stage::new();
    for (number, golden) in goldens.iter().enumerate() {
        let mask = |side: &str| {
            let rows = golden[side].as_array().unwrap();
            let rows: Vec<&str> = rows.iter().map(|row| row.as_str().unwrap()).collect();
            drawn(&rows)
        };
        let slice = format!("p_{number}");
        stage
            .found("s", &slice, &Found::new(&mask("prediction")))
            .await;
        stage.truth("s", &slice, &mask("truth")).await;
        stage.tells(&[&format!("truth/s/{slice}.tif")]).await;
        let score = stage.stored_score("s", &slice).await.unwrap();
        let close = |value: Option<f64>, figure: &str| match golden[figure].as_f64() {
            Some(expected) => assert!(
                (value.unwrap() - expected).abs() < 2e-5 * expected.max(1.0),
                "{figure} of {number}: {value:?}, not {expected}"
            ),
            None => assert_eq!(value, None, "{figure} of {number}"),
        };
        close(Some(score.dice), "dice_with_empty");
        close(score.hd95, "hd95");
        close(score.average_surface_distance, "assd");
    }
}

#[tokio::test]
async fn the_order_of_mask_and_truth_does_not_matter() {
    let (prediction, truth) = pair();
    let mut ends = Vec::new();
    for truth_first in [true, false] {
        let stage = Stage::new();
        for is_truth in [truth_first, !truth_first] {
            if is_truth {
                stage.truth("s", "x", &truth).await;
                stage.tells(&["truth/s/x.tif"]).await;
            } else {
                stage.found("s", "x", &Found::new(&prediction)).await;
                stage.tells(&["masks/s/x.tif"]).await;
            }
        }
        ends.push(stage.everything());
        stage.tells(&["masks/s/x.tif", "truth/s/x.tif"]).await;
        assert_eq!(stage.everything(), ends[0], "a replay changes nothing");
    }
    assert_eq!(ends[0], ends[1]);
    assert!(ends[0].contains_key("results/scores/s/x.json"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shuffled_doubled_and_simultaneous_events_end_alike() {
    let slices = phantom();
    let mut ends = Vec::new();
    for step in [1, 5, 11] {
        let stage = Stage::new();
        stage.close("s", slices.len()).await;
        let mut events = Vec::new();
        for (number, (prediction, truth)) in slices.iter().enumerate() {
            let slice = format!("p_{number}");
            stage.found("s", &slice, &Found::new(prediction)).await;
            stage.truth("s", &slice, truth).await;
            events.push(format!("masks/s/{slice}.tif"));
            events.push(format!("truth/s/{slice}.tif"));
        }
        // Steps that have no factor in common with the number of events visit all of them, twice.
        let order = (0..2 * events.len()).map(|i| &events[i * step % events.len()]);
        let order: Vec<&String> = order.collect();
        for together in order.chunks(4) {
            let failed =
                futures_util::future::join_all(together.iter().map(|key| stage.tell(key))).await;
            assert!(failed.iter().all(Vec::is_empty));
        }
        let ids: std::collections::BTreeSet<String> = stage
            .events()
            .iter()
            .map(|event| event["id"].as_str().unwrap().to_owned())
            .collect();
        let (last, _) = stage.stored("studies/s/completed.json").await.unwrap();
        let last: Value = serde_json::from_slice(&last).unwrap();
        assert!(ids.contains(last["id"].as_str().unwrap()));
        ends.push(stage.everything());
    }
    assert_eq!(ends[0], ends[1]);
    assert_eq!(ends[0], ends[2]);
    let scores = ends[0]
        .keys()
        .filter(|key| key.starts_with("results/scores/"));
    assert_eq!(scores.count(), slices.len());
}

#[tokio::test]
async fn a_corrected_truth_and_a_new_mask_replace_the_score() {
    let stage = Stage::new();
    let (prediction, truth) = pair();
    stage.found("s", "x", &Found::new(&prediction)).await;
    stage.truth("s", "x", &truth).await;
    stage.tells(&["masks/s/x.tif"]).await;
    stage.truth("s", "x", &prediction).await;
    stage.tells(&["truth/s/x.tif"]).await;
    assert_eq!(stage.stored_score("s", "x").await.unwrap().dice, 1.0);
    let found = Found {
        model: "model-b",
        ..Found::new(&truth)
    };
    stage.found("s", "x", &found).await;
    stage.tells(&["masks/s/x.tif"]).await;
    let score = stage.stored_score("s", "x").await.unwrap();
    assert_eq!(score.dice, 0.666_667);
    assert_eq!(score.model_version.as_deref(), Some("model-b"));
    // The same mask under another name: the bytes of the mask say nothing of it.
    let found = Found {
        model: "model-c",
        ..Found::new(&truth)
    };
    stage.found("s", "x", &found).await;
    stage.tells(&["masks/s/x.tif"]).await;
    let score = stage.stored_score("s", "x").await.unwrap();
    assert_eq!(score.model_version.as_deref(), Some("model-c"));
}

#[tokio::test]
async fn masks_of_different_sizes_are_set_aside_until_they_fit() {
    let stage = Stage::new();
    let (prediction, truth) = pair();
    stage.found("s", "x", &Found::new(&prediction)).await;
    stage.truth("s", "x", &truth).await;
    stage.tells(&["masks/s/x.tif"]).await;
    stage.truth("s", "x", &drawn(&["##", ".."])).await;
    stage.tells(&["truth/s/x.tif"]).await;
    assert_eq!(stage.stored_score("s", "x").await, None);
    let (bytes, _) = stage.stored("rejected/s/x_mask.json").await.unwrap();
    let rejection = Rejection::from_json(&bytes).unwrap();
    assert!(rejection.reason.contains("5x3"), "{}", rejection.reason);
    assert!(rejection.reason.contains("2x2"), "{}", rejection.reason);
    let before = stage.everything();
    stage.tells(&["truth/s/x.tif", "masks/s/x.tif"]).await;
    assert_eq!(stage.everything(), before);
    stage.truth("s", "x", &truth).await;
    stage.tells(&["truth/s/x.tif"]).await;
    assert!(stage.stored_score("s", "x").await.is_some());
    assert_eq!(stage.stored("rejected/s/x_mask.json").await, None);
}

#[tokio::test]
async fn what_is_no_mask_is_set_aside_and_foreign_rejections_stay() {
    let stage = Stage::new();
    let (prediction, truth) = pair();
    stage.found("s", "x", &Found::new(&prediction)).await;
    stage.put_result("truth/s/x.tif", b"neither").await;
    stage
        .put_result("rejected/s/y_mask.json", b"a user's file")
        .await;
    stage.found("s", "y", &Found::new(&prediction)).await;
    stage.truth("s", "y", &truth).await;
    stage.tells(&["truth/s/x.tif", "truth/s/y.tif"]).await;
    let (bytes, _) = stage.stored("rejected/s/x_mask.json").await.unwrap();
    let rejection = Rejection::from_json(&bytes).unwrap();
    assert!(rejection.reason.contains("truth"), "{}", rejection.reason);
    assert!(stage.stored_score("s", "y").await.is_some());
    assert!(stage.stored("rejected/s/y_mask.json").await.is_some());
}

#[tokio::test]
async fn a_mask_waits_for_its_report() {
    let stage = Stage::new();
    let (prediction, truth) = pair();
    let found = Found::new(&prediction);
    stage.truth("s", "x", &truth).await;
    stage.mask("s", "x", &found).await;
    assert_eq!(
        stage.tell("masks/s/x.tif").await,
        ["m1"],
        "sent again later"
    );
    let newer = Found {
        sequencer: "02",
        spacing: Some("1,1".parse().unwrap()),
        ..found.clone()
    };
    stage.report("s", "x", &found).await;
    stage.mask("s", "x", &newer).await;
    assert_eq!(stage.tell("masks/s/x.tif").await, ["m1"], "an old report");
    stage.report("s", "x", &newer).await;
    stage.tells(&["masks/s/x.tif"]).await;
    let score = stage.stored_score("s", "x").await.unwrap();
    assert_eq!(score.predicted_area_mm2, Some(4.0));
}

#[tokio::test]
async fn a_mask_that_no_function_made_is_scored_in_pixels() {
    let stage = Stage::new();
    let (prediction, truth) = pair();
    stage
        .put_result("masks/s/x.tif", &encode_mask_tiff(&prediction))
        .await;
    stage.truth("s", "x", &truth).await;
    stage.tells(&["masks/s/x.tif"]).await;
    let score = stage.stored_score("s", "x").await.unwrap();
    assert_eq!((score.model_version, score.spacing_mm), (None, None));
}

#[tokio::test]
async fn a_score_goes_with_what_it_was_made_from() {
    let stage = Stage::new();
    let (prediction, truth) = pair();
    stage.found("s", "x", &Found::new(&prediction)).await;
    stage.truth("s", "x", &truth).await;
    stage.tells(&["masks/s/x.tif"]).await;
    let key = crate::stage::object("truth/s/x.tif");
    glioseg_shared::cloud::Storage::delete(&stage.score.results, &key)
        .await
        .unwrap();
    stage.tells(&["masks/s/x.tif"]).await;
    assert_eq!(stage.stored_score("s", "x").await, None);
}

#[tokio::test]
async fn events_that_are_none_of_its_business_do_not_fail_and_those_of_other_buckets_do() {
    let stage = Stage::new();
    stage
        .tells(&[
            "scores/s/x.json",
            "masks/x.tif",
            "prepared/s/x.png",
            "a%0Ab",
        ])
        .await;
    assert!(stage.everything().is_empty());
    assert_eq!(stage.tell_of("other", "masks/s/x.tif").await, ["m1"]);
    let test = serde_json::json!({ "Event": "s3:TestEvent" });
    assert!(stage.score.handle(test).await.is_ok());
    let nonsense = serde_json::json!({ "hello": 1 });
    assert!(stage.score.handle(nonsense).await.is_err());
}
