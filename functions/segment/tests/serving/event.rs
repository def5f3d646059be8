//! Prepared slices that arrive: what is stored, whatever the order, the faults and the models.

use glioseg_shared::cloud::events::Retryable;
use glioseg_shared::cloud::keys;
use glioseg_shared::cloud::{Condition, Metadata, Stamp, Storage, StorageError};
use glioseg_shared::imaging::{Limits, decode_masks};
use glioseg_shared::model::Contract;
use glioseg_shared::study::{Document, Prepared, Rejection, SliceReport};
use glioseg_test_support::hooked::{denied, unavailable};
use serde_json::{Value, json};

use crate::support::{
    RESULTS, Stack, UPLOADS, created, expected, golden, key, prepared, s3_event, shipped,
    sqs_event, stamp,
};

async fn rejection(stack: &Stack, prepared: &Prepared) -> Rejection {
    let file = format!("{}.png", prepared.name);
    let place = keys::rejected(&prepared.study, &file);
    Rejection::from_json(&stack.read(&stack.results, &place).await.bytes).unwrap()
}

#[tokio::test]
async fn a_prepared_slice_becomes_mask_pictures_and_report() {
    let onnx = shipped();
    let stack = Stack::serving(&onnx).await;
    let slice = prepared("head 1+2", 3);
    let at = stack.put_prepared(&slice, "0A").await;
    stack.work_on(&at).await;
    assert_eq!(stack.outputs(&slice).await, expected(&slice, &onnx));

    let changes = stack.results.hook.changes();
    assert!(
        changes.last().unwrap().starts_with("put masks/"),
        "{changes:?}"
    );
    let object = stack
        .read(&stack.results, &keys::report(&slice.study, &slice.name))
        .await;
    let report = SliceReport::from_json(&object.bytes).unwrap();
    assert!(report.tumour_pixels > 0, "the phantom has a lesion");
    assert_eq!(report.area_mm2, Some(report.tumour_pixels as f64 * 0.25));
    let written = Stamp::from_metadata(&object.metadata);
    assert_eq!(
        written,
        Stamp {
            model_version: Some(report.model.version),
            ..stamp(&slice, "0A")
        }
    );
}

#[tokio::test]
async fn a_replayed_event_writes_nothing() {
    let stack = Stack::serving(&golden("lean")).await;
    let at = stack.put_prepared(&prepared("a", 1), "1").await;
    for expected in [4, 0, 0] {
        stack.work_on(&at).await;
        assert_eq!(stack.results.hook.changes().len(), expected);
    }
}

#[tokio::test]
async fn a_corrected_upload_replaces_and_an_outdated_event_does_not() {
    let onnx = golden("lean");
    let stack = Stack::serving(&onnx).await;
    let (old, new) = (prepared("a", 1), prepared("a", 2));
    let at = stack.put_prepared(&new, "20").await;
    stack.work_on(&at).await;
    // What a late writer of the prepared object could leave for a moment.
    stack.put_prepared(&old, "10").await;
    stack.work_on(&at).await;
    assert_eq!(stack.outputs(&new).await, expected(&new, &onnx));
    let newest = prepared("a", 3);
    stack.put_prepared(&newest, "100").await;
    stack.work_on(&at).await;
    assert_eq!(stack.outputs(&newest).await, expected(&newest, &onnx));
}

#[tokio::test]
async fn an_input_that_changes_meanwhile_is_segmented_again() {
    let onnx = golden("lean");
    let stack = Stack::serving(&onnx).await;
    let (old, new) = (prepared("a", 1), prepared("a", 2));
    let at = stack.put_prepared(&old, "1").await;
    // The corrected slice arrives after the old one was read: while the first mask is being written.
    let (bucket, corrected) = (stack.results.storage.clone(), at.clone());
    let (file, metadata) = (new.encode(), stamp(&new, "2").to_metadata());
    let correction = async move {
        let put = bucket.put(&corrected, file, Condition::Always, &metadata);
        put.await.map(|_| ())
    };
    let hook = &stack.results.hook;
    hook.before(|call| call.operation == "put", correction);
    stack.work_on(&at).await;
    assert_eq!(stack.outputs(&new).await, expected(&new, &onnx));
}

#[tokio::test]
async fn a_new_model_replaces_what_the_old_one_made() {
    let stack = Stack::serving(&golden("lean")).await;
    let slice = prepared("a", 1);
    let at = stack.put_prepared(&slice, "1").await;
    stack.work_on(&at).await;
    stack.publish(&golden("classic")).await;
    stack.pass_refresh_time();
    stack.work_on(&at).await;
    assert_eq!(
        stack.outputs(&slice).await,
        expected(&slice, &golden("classic"))
    );
}

#[tokio::test]
async fn an_old_model_does_not_replace_what_the_new_one_made() {
    let stack = Stack::serving(&golden("lean")).await;
    assert_eq!(stack.version().await, "lean-golden");
    let slice = prepared("a", 1);
    let at = stack.put_prepared(&slice, "1").await;
    // Another instance has picked the new model up already and made its outputs; here the refresh time is not over.
    stack.publish(&golden("classic")).await;
    let new = expected(&slice, &golden("classic"));
    let metadata = Stamp {
        model_version: Some("classic-golden".to_owned()),
        ..stamp(&slice, "1")
    }
    .to_metadata();
    let mask = keys::mask(&slice.study, &slice.name);
    stack
        .put(&stack.results, &mask, &new.mask_tiff, &metadata)
        .await;
    stack.work_on(&at).await;
    assert_eq!(stack.outputs(&slice).await, new);
    assert_eq!(stack.version().await, "classic-golden");
}

#[tokio::test]
async fn another_models_work_stays_while_the_channel_cannot_be_asked() {
    let stack = Stack::serving(&golden("lean")).await;
    let slice = prepared("a", 1);
    let at = stack.put_prepared(&slice, "1").await;
    stack.work_on(&at).await;
    let old = stack.outputs(&slice).await;
    stack.publish(&golden("classic")).await;
    stack.pass_refresh_time();
    assert_eq!(stack.version().await, "classic-golden");
    stack.models.hook.fail(|call| Some(unavailable(&call.key)));
    let error = stack.announce(&at).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(stack.outputs(&slice).await, old);
    stack.models.hook.heal();
    stack.work_on(&at).await;
    assert_eq!(
        stack.outputs(&slice).await,
        expected(&slice, &golden("classic"))
    );
}

#[tokio::test]
async fn what_can_never_be_segmented_is_set_aside() {
    let slice = prepared("a", 1);
    let sound = slice.encode();
    let elsewhere = prepared("b", 1).encode();
    let mut flipped = sound.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    for (bytes, reason) in [
        (&b""[..], "damaged"),
        (b"text", "damaged"),
        (&sound[..sound.len() / 2], "damaged"),
        (&flipped, "damaged"),
        (&elsewhere, "slice b of study"),
        (
            &expected(&slice, &golden("lean")).overlay_png,
            "not a prepared slice",
        ),
    ] {
        let stack = Stack::serving(&golden("lean")).await;
        let at = keys::prepared(&slice.study, &slice.name);
        let metadata = stamp(&slice, "1").to_metadata();
        stack.put(&stack.results, &at, bytes, &metadata).await;
        for _ in 0..2 {
            stack.work_on(&at).await;
        }
        assert_eq!(stack.results.hook.changes().len(), 1, "{reason}");
        let rejection = rejection(&stack, &slice).await;
        assert!(rejection.reason.contains(reason), "{}", rejection.reason);
        assert_eq!(rejection.study.as_ref(), Some(&slice.study));
        assert_eq!(rejection.input_sha256.as_ref(), Some(&slice.source.sha256));
        assert!(
            !stack
                .has(&stack.results, &keys::mask(&slice.study, &slice.name))
                .await
        );
    }
}

#[tokio::test]
async fn a_slice_beyond_the_limits_is_set_aside_before_it_is_held() {
    let slice = prepared("a", 1);
    let stack = Stack::with(&[("MAX_SIDE", "255")]);
    stack.publish(&golden("lean")).await;
    let at = stack.put_prepared(&slice, "1").await;
    stack.work_on(&at).await;
    assert!(
        rejection(&stack, &slice)
            .await
            .reason
            .contains("256 pixels a side")
    );

    let stack = Stack::with(&[("MAX_DECODED_BYTES", "1")]);
    stack.publish(&golden("lean")).await;
    let at = keys::prepared(&slice.study, &slice.name);
    stack
        .put(&stack.results, &at, &vec![0; 2 << 20], &Metadata::new())
        .await;
    stack.work_on(&at).await;
    let rejection = rejection(&stack, &slice).await;
    assert!(
        rejection.reason.contains("larger than the"),
        "{}",
        rejection.reason
    );
    assert_eq!(rejection.input_sha256, None);
}

#[tokio::test]
async fn a_slice_larger_than_the_models_grid_is_segmented_whole() {
    let onnx = golden("separable");
    let slice = prepared("a", 1);
    let grid = Contract::of_onnx(&onnx).unwrap().input.grid();
    assert!(slice.slice.width() > grid.width && slice.slice.height() > grid.height);
    let stack = Stack::serving(&onnx).await;
    let at = stack.put_prepared(&slice, "1").await;
    stack.work_on(&at).await;
    assert_eq!(stack.outputs(&slice).await, expected(&slice, &onnx));
    let at = keys::mask(&slice.study, &slice.name);
    let mask = decode_masks(
        &stack.read(&stack.results, &at).await.bytes,
        &Limits::default(),
    );
    let mask = &mask.unwrap()[0];
    assert_eq!(
        (mask.width(), mask.height()),
        (slice.slice.width(), slice.slice.height())
    );
}

#[tokio::test]
async fn every_fault_ends_in_a_retry_that_completes_the_work() {
    let onnx = golden("lean");
    let slice = prepared("a", 1);
    let whole = expected(&slice, &onnx);
    for (operation, folder) in [
        ("get", "prepared/"),
        ("head", "masks/"),
        ("put", "masks/"),
        ("put", "overlays/"),
        ("put", "probabilities/"),
        ("put", "reports/"),
        ("head", "prepared/"),
    ] {
        for fault in [unavailable as fn(&str) -> StorageError, denied, absent] {
            let stack = Stack::serving(&onnx).await;
            let at = stack.put_prepared(&slice, "1").await;
            stack.results.hook.fail(move |call| {
                let met = call.operation == operation && call.key.starts_with(folder);
                met.then(|| fault(&call.key))
            });
            // What is absent where an output goes, or after the work, is no fault.
            let harmless = operation == "head" && fault("").is_not_found();
            let done = stack.announce(&at).await;
            assert_eq!(done.is_ok(), harmless, "{operation} {folder}: {done:?}");
            stack.results.hook.heal();
            stack.work_on(&at).await;
            assert_eq!(stack.outputs(&slice).await, whole, "{operation} {folder}");
        }
    }
}

fn absent(key: &str) -> StorageError {
    StorageError::NotFound {
        key: key.to_owned(),
    }
}

#[tokio::test]
async fn events_that_are_not_for_this_function_fail() {
    let stack = Stack::serving(&golden("lean")).await;
    let at = stack.put_prepared(&prepared("a", 1), "1").await;
    for event in [
        created(UPLOADS, &at),
        created(RESULTS, &key("masks/s/a.tif")),
        created(RESULTS, &key("prepared/a.png")),
    ] {
        let error = stack.segment.on_object(event).await.unwrap_err();
        assert!(!error.is_retryable(), "{error}");
    }
    assert_eq!(stack.results.hook.changes(), [""; 0]);
}

#[tokio::test]
async fn a_queue_is_told_which_messages_to_keep() {
    let stack = Stack::serving(&golden("lean")).await;
    let slice = prepared("a", 1);
    let at = stack.put_prepared(&slice, "1").await;
    let gone = key("prepared/clinic/study 1/gone.png");
    let payload = sqs_event(&[
        ("sound", s3_event(RESULTS, &at).to_string()),
        ("gone", s3_event(RESULTS, &gone).to_string()),
        ("noise", "no event".to_owned()),
        ("test", json!({ "Event": "s3:TestEvent" }).to_string()),
    ]);
    let answer = stack.segment.handle(payload).await.unwrap();
    let mut failed: Vec<&str> = answer["batchItemFailures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failure| failure["itemIdentifier"].as_str().unwrap())
        .collect();
    failed.sort_unstable();
    assert_eq!(failed, ["gone", "noise"]);
    assert!(
        stack
            .has(&stack.results, &keys::report(&slice.study, &slice.name))
            .await
    );
    let test = json!({ "Event": "s3:TestEvent", "Bucket": RESULTS });
    assert_eq!(stack.segment.handle(test).await.unwrap(), Value::Null);
    assert!(
        stack
            .segment
            .handle(json!({ "hello": "world" }))
            .await
            .is_err()
    );
}
