//! Prepared slices that arrive: what is stored, whatever the order, the faults and the models.

use glioseg_shared::cloud::events::{ObjectCreated, Retryable};
use glioseg_shared::cloud::keys;
use glioseg_shared::cloud::{Metadata, ObjectKey, Stamp, StorageError};
use glioseg_shared::study::{Document, Prepared, Rejection, SliceReport};
use serde_json::{Value, json};

use crate::support::{
    RESULTS, Stack, UPLOADS, expected, golden, key, prepared, s3_event, shipped, sqs_event, stamp,
    unavailable,
};

fn created(bucket: &str, key: &ObjectKey) -> ObjectCreated {
    ObjectCreated {
        bucket: bucket.to_owned(),
        key: key.to_string(),
        size: None,
        etag: None,
        version_id: None,
        sequencer: None,
    }
}

fn puts(calls: &[String]) -> Vec<&str> {
    let put = |call: &'_ String| call.starts_with("put ");
    calls
        .iter()
        .filter(|call| put(call))
        .map(String::as_str)
        .collect()
}

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
    let event = created(RESULTS, &at);
    stack.segment.on_object(event).await.unwrap();
    assert_eq!(stack.outputs(&slice).await, expected(&slice, &onnx));

    let calls = stack.results.calls();
    assert!(
        puts(&calls).last().unwrap().starts_with("put masks/"),
        "{calls:?}"
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
        stack
            .segment
            .on_object(created(RESULTS, &at))
            .await
            .unwrap();
        assert_eq!(puts(&stack.results.calls()).len(), expected);
    }
}

#[tokio::test]
async fn a_corrected_upload_replaces_and_an_outdated_event_does_not() {
    let onnx = golden("lean");
    let stack = Stack::serving(&onnx).await;
    let (old, new) = (prepared("a", 1), prepared("a", 2));
    let at = stack.put_prepared(&new, "20").await;
    stack
        .segment
        .on_object(created(RESULTS, &at))
        .await
        .unwrap();
    // What a late writer of the prepared object could leave for a moment.
    stack.put_prepared(&old, "10").await;
    stack
        .segment
        .on_object(created(RESULTS, &at))
        .await
        .unwrap();
    assert_eq!(stack.outputs(&new).await, expected(&new, &onnx));
    let newest = prepared("a", 3);
    stack.put_prepared(&newest, "100").await;
    stack
        .segment
        .on_object(created(RESULTS, &at))
        .await
        .unwrap();
    assert_eq!(stack.outputs(&newest).await, expected(&newest, &onnx));
}

#[tokio::test]
async fn an_input_that_changes_meanwhile_is_segmented_again() {
    let onnx = golden("lean");
    let stack = Stack::serving(&onnx).await;
    let (old, new) = (prepared("a", 1), prepared("a", 2));
    let at = stack.put_prepared(&old, "1").await;
    // The corrected slice arrives after the old one was read: while the first mask is being written.
    let metadata = stamp(&new, "2").to_metadata();
    stack
        .results
        .write_meanwhile(at.clone(), new.encode(), metadata);
    stack
        .segment
        .on_object(created(RESULTS, &at))
        .await
        .unwrap();
    assert_eq!(stack.outputs(&new).await, expected(&new, &onnx));
}

#[tokio::test]
async fn a_new_model_replaces_what_the_old_one_made() {
    let stack = Stack::serving(&golden("lean")).await;
    let slice = prepared("a", 1);
    let at = stack.put_prepared(&slice, "1").await;
    stack
        .segment
        .on_object(created(RESULTS, &at))
        .await
        .unwrap();
    stack.publish(&golden("classic")).await;
    stack.pass_refresh_time();
    stack
        .segment
        .on_object(created(RESULTS, &at))
        .await
        .unwrap();
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
    stack
        .segment
        .on_object(created(RESULTS, &at))
        .await
        .unwrap();
    assert_eq!(stack.outputs(&slice).await, new);
    assert_eq!(stack.version().await, "classic-golden");
}

#[tokio::test]
async fn another_models_work_stays_while_the_channel_cannot_be_asked() {
    let stack = Stack::serving(&golden("lean")).await;
    let slice = prepared("a", 1);
    let at = stack.put_prepared(&slice, "1").await;
    stack
        .segment
        .on_object(created(RESULTS, &at))
        .await
        .unwrap();
    let old = stack.outputs(&slice).await;
    stack.publish(&golden("classic")).await;
    stack.pass_refresh_time();
    assert_eq!(stack.version().await, "classic-golden");
    stack.models.fail(|_, key| Some(unavailable(key)));
    let error = stack
        .segment
        .on_object(created(RESULTS, &at))
        .await
        .unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(stack.outputs(&slice).await, old);
    stack.models.heal();
    stack
        .segment
        .on_object(created(RESULTS, &at))
        .await
        .unwrap();
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
            stack
                .segment
                .on_object(created(RESULTS, &at))
                .await
                .unwrap();
        }
        assert_eq!(puts(&stack.results.calls()).len(), 1, "{reason}");
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
    stack
        .segment
        .on_object(created(RESULTS, &at))
        .await
        .unwrap();
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
    stack
        .segment
        .on_object(created(RESULTS, &at))
        .await
        .unwrap();
    let rejection = rejection(&stack, &slice).await;
    assert!(
        rejection.reason.contains("larger than the"),
        "{}",
        rejection.reason
    );
    assert_eq!(rejection.input_sha256, None);
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
        for fault in [
            unavailable as fn(&ObjectKey) -> StorageError,
            refused,
            absent,
        ] {
            let stack = Stack::serving(&onnx).await;
            let at = stack.put_prepared(&slice, "1").await;
            stack.results.fail(move |met, key| {
                (met == operation && key.as_str().starts_with(folder)).then(|| fault(key))
            });
            // What is absent where an output goes, or after the work, is no fault.
            let harmless = operation == "head" && fault(&at).is_not_found();
            let done = stack.segment.on_object(created(RESULTS, &at)).await;
            assert_eq!(done.is_ok(), harmless, "{operation} {folder}: {done:?}");
            stack.results.heal();
            stack
                .segment
                .on_object(created(RESULTS, &at))
                .await
                .unwrap();
            assert_eq!(stack.outputs(&slice).await, whole, "{operation} {folder}");
        }
    }
}

fn refused(key: &ObjectKey) -> StorageError {
    StorageError::Denied {
        operation: "use",
        key: key.to_string(),
        reason: "403 AccessDenied".to_owned(),
    }
}

fn absent(key: &ObjectKey) -> StorageError {
    StorageError::NotFound {
        key: key.to_string(),
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
    assert_eq!(puts(&stack.results.calls()), [""; 0]);
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
