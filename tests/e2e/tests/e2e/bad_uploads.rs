//! Uploads that cannot be read: they are set aside with a reason, nothing else is made of them, and no mask. What came
//! with a request is answered with a problem.

use std::collections::BTreeMap;
use std::sync::Arc;

use glioseg_local::functions::functions;
use glioseg_local::observer::{Observer, StackEvent};
use glioseg_local::wiring::{Bucket, Function};
use glioseg_shared::model::contract::NOTICE;
use serde_json::{Value, json};

use super::bucket::contents;
use super::contract;
use super::hostile;
use super::requests::{request, send};
use super::small_stack::{MAX_DECODED_BYTES, MAX_UPLOAD_BYTES, small_stack};
use super::studies::put;

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_set_aside_with_a_reason() {
    let (stack, _folder) = small_stack().await;
    let (slice, mask) = (hostile::slice(), hostile::mask());
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "bad/truncated.tif",
            slice[..slice.len() / 2].to_vec(),
            "damaged TIFF file",
        ),
        ("bad/empty.tif", Vec::new(), "the file is empty"),
        (
            "bad/text.png",
            b"once upon a time".to_vec(),
            "neither TIFF nor PNG",
        ),
        (
            "bad/huge.tif",
            hostile::huge(slice.clone()),
            "too large: 4294967295 pixels a side",
        ),
        (
            "bad/pixel.tif",
            hostile::one_pixel(),
            "too small: 1x1 pixels",
        ),
        ("bad/channels.tif", hostile::two_channels(), "2 "),
        ("bad/nan.tif", hostile::nan(), "not a finite number"),
        ("bad/swapped.tif", mask.clone(), "a mask, not a slice"),
        ("bad/swapped_mask.tif", slice.clone(), "is no mask"),
        (
            "bad/large.tif",
            vec![0; MAX_UPLOAD_BYTES + 1],
            "more than the 2000000 bytes",
        ),
        (
            "bad/notes.txt",
            b"notes".to_vec(),
            "neither an image nor study.json",
        ),
        ("bad/study.json", b"{\"slices\": ".to_vec(), "study.json"),
        (
            "bomb.zip",
            hostile::bomb(MAX_DECODED_BYTES + 1),
            "inflates to 4000001",
        ),
        (
            "traversing.zip",
            hostile::traversing(),
            "could lead out of its folder",
        ),
        ("no.zip", b"PK\x03\x04 and no more".to_vec(), "damaged zip"),
        ("root.tif", slice.clone(), "belongs to no study"),
    ];
    let uploads = stack.bucket(Bucket::Uploads);
    for (key, bytes, _) in &cases {
        put(&uploads, key, bytes).await;
    }
    // Beside them everything goes its way.
    put(&uploads, "good/1.tif", &slice).await;
    put(&uploads, "good/1_mask.tif", &mask).await;
    stack.idle().await;
    assert_eq!(stack.dead_letters(), []);

    let results = contents(&stack.bucket(Bucket::Results)).await;
    let rejections: BTreeMap<String, Value> = results
        .iter()
        .filter(|(key, _)| key.starts_with("rejected/"))
        .map(|(key, (_, bytes))| {
            let rejection: Value = serde_json::from_slice(bytes).unwrap();
            contract::check_document("rejection", &rejection, key);
            (rejection["upload"].as_str().unwrap().to_owned(), rejection)
        })
        .collect();
    assert_eq!(rejections.len(), cases.len(), "{:?}", rejections.keys());
    for (key, _, words) in &cases {
        let rejection = &rejections[*key];
        let reason = rejection["reason"].as_str().unwrap();
        assert!(reason.contains(words), "{key}: {reason}");
        assert!(
            rejection["advice"].as_str().unwrap().len() > 20,
            "{key}: {rejection}"
        );
        assert_eq!(rejection["notice"], NOTICE);
    }
    let others = results.keys().filter(|key| !key.starts_with("rejected/"));
    let others: Vec<_> = others.map(String::as_str).collect();
    let of_good = [
        "masks/good/1.tif",
        "overlays/good/1.png",
        "prepared/good/1.png",
        "probabilities/good/1.png",
        "reports/good/1.json",
        "scores/good/1.json",
        "truth/good/1.tif",
    ];
    assert_eq!(others, of_good);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_other_kinds_are_refused_by_both_ways() {
    let (stack, _folder) = small_stack().await;
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/tests/goldens/imaging/refused"
    );
    let uploads = stack.bucket(Bucket::Uploads);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let bytes = std::fs::read(entry.path()).unwrap();
        put(&uploads, &format!("bad/{name}"), &bytes).await;
        let headers = [("content-type", "application/octet-stream")];
        let asked = request("POST", "/segment", &headers, bytes);
        let answer = send(stack.api_address(), asked).await;
        assert!(
            matches!(answer.status, 400 | 413 | 415 | 422),
            "{name}: {} {}",
            answer.status,
            answer.text()
        );
        contract::check_problem("POST /segment", &answer, answer.status, &name);
        names.push(format!("rejected/bad/{name}.json"));
    }
    assert!(names.len() > 30);
    names.sort();
    stack.idle().await;
    assert_eq!(stack.dead_letters(), []);
    let results = contents(&stack.bucket(Bucket::Results)).await;
    assert_eq!(results.keys().cloned().collect::<Vec<_>>(), names);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_with_control_characters_are_refused_wherever_they_come_from() {
    let (stack, _folder) = small_stack().await;
    let sent = stack
        .client()
        .put_object()
        .bucket(Bucket::Uploads.name())
        .key("bad/a\u{1}b.tif")
        .body(hostile::slice().into())
        .send()
        .await;
    let status = sent
        .unwrap_err()
        .raw_response()
        .map(|raw| raw.status().as_u16());
    assert_eq!(status, Some(400));
    let named = json!({ "bucket": "uploads", "key": "bad/a\u{1}b.tif" });
    let pair = json!({ "prediction": named, "truth": named });
    for (path, body) in [("/segment", &named), ("/score", &pair)] {
        let headers = [("content-type", "application/json")];
        let asked = request("POST", path, &headers, body.to_string());
        let answer = send(stack.api_address(), asked).await;
        contract::check_problem(&format!("POST {path}"), &answer, 400, path);
    }
    // S3 itself takes such keys, and sends their events.
    let event = json!({ "Records": [{
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "eventVersion": "2.1",
        "awsRegion": "us-east-1",
        "eventTime": "2026-01-01T00:00:00.000Z",
        "s3": {
            "bucket": { "name": "uploads" },
            "object": { "key": "bad/a%01b.tif", "size": 1, "eTag": "0", "sequencer": "01" },
        },
    }] });
    let nobody: Arc<dyn Observer> = Arc::new(|_: StackEvent<'_>| {});
    let bucket = |bucket: Bucket| stack.bucket(bucket);
    let (functions, _) = functions(&BTreeMap::new(), &bucket, &nobody).unwrap();
    functions[&Function::Preprocess]
        .invoke(event)
        .await
        .unwrap();
    stack.idle().await;
    let results = contents(&stack.bucket(Bucket::Results)).await;
    let [(key, (_, bytes))] = results.iter().collect::<Vec<_>>()[..] else {
        panic!("{:?}", results.keys());
    };
    let rejection: Value = serde_json::from_slice(bytes).unwrap();
    assert!(key.starts_with("rejected/"), "{key}");
    contract::check_document("rejection", &rejection, key);
    assert_eq!(rejection["upload"], "bad/a\u{1}b.tif");
    stack.stop().await;
}
