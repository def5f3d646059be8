//! What cannot be read, by both ways in: an upload is set aside with a reason, a request is answered with a problem, and
//! no mask is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use glioseg_local::api::MAX_BODY_BYTES;
use glioseg_local::functions::functions;
use glioseg_local::observer::{Observer, StackEvent};
use glioseg_local::stack::{Stack, StackConfig};
use glioseg_local::wiring::{Bucket, Function};
use glioseg_shared::cloud::{ObjectKey, Storage};
use glioseg_shared::model::contract::NOTICE;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::bucket::contents;
use super::contract;
use super::hostile;
use super::models::CHANNEL;
use super::requests::{Answer, form, request, send};
use super::studies::put;

/// Bounds that tests need not spend gigabytes to go beyond.
const MAX_UPLOAD_BYTES: usize = 2_000_000;
const MAX_DECODED_BYTES: usize = 4_000_000;

async fn stack() -> (Stack, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let environment = [
        ("MAX_UPLOAD_BYTES", MAX_UPLOAD_BYTES.to_string()),
        ("MAX_DECODED_BYTES", MAX_DECODED_BYTES.to_string()),
        ("MODEL_REFRESH_SECONDS", "0".to_owned()),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value));
    let config = StackConfig {
        environment: environment.into(),
        ..StackConfig::new(folder.path())
    };
    (Stack::start(config).await.unwrap(), folder)
}

/// Checks that an answer is a problem of this status, as the description has it.
fn is_problem(route: &str, answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    assert_eq!(answer.media_type(), "application/problem+json", "{what}");
    contract::check_answer(route, answer, what);
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{what}");
    assert!(
        problem["detail"].as_str().unwrap().len() > 10,
        "{what}: {problem}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_set_aside_with_a_reason() {
    let (stack, _folder) = stack().await;
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
    let (stack, _folder) = stack().await;
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
        is_problem("POST /segment", &answer, answer.status, &name);
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
    let (stack, _folder) = stack().await;
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
        is_problem(&format!("POST {path}"), &answer, 400, path);
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

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_segment_are_refused_with_a_problem() {
    const ROUTE: &str = "POST /segment";
    let (stack, _folder) = stack().await;
    let (slice, mask) = (hostile::slice(), hostile::mask());
    let bodies: Vec<(&str, &str, Vec<u8>, u16)> = vec![
        (
            "truncated",
            "image/tiff",
            slice[..slice.len() / 2].to_vec(),
            400,
        ),
        ("empty", "image/tiff", Vec::new(), 400),
        ("text", "image/tiff", b"once upon a time".to_vec(), 415),
        ("huge", "image/tiff", hostile::huge(slice.clone()), 413),
        ("one pixel", "image/tiff", hostile::one_pixel(), 422),
        ("two channels", "image/tiff", hostile::two_channels(), 422),
        ("NaN", "image/tiff", hostile::nan(), 422),
        ("a mask", "image/tiff", mask.clone(), 422),
        (
            "zip bomb",
            "application/zip",
            hostile::bomb(MAX_DECODED_BYTES + 1),
            415,
        ),
        (
            "zip bomb as octets",
            "application/octet-stream",
            hostile::bomb(1000),
            415,
        ),
        (
            "traversing zip",
            "application/octet-stream",
            hostile::traversing(),
            415,
        ),
        (
            "over the function's limit",
            "image/tiff",
            vec![0; MAX_UPLOAD_BYTES + 1],
            413,
        ),
        (
            "over the gateway's limit",
            "image/tiff",
            vec![0; MAX_BODY_BYTES + 1],
            413,
        ),
        ("wrong content type", "text/plain", slice.clone(), 415),
        ("TIFF as PNG", "image/png", slice.clone(), 415),
        (
            "malformed JSON",
            "application/json",
            b"{\"bucket\": ".to_vec(),
            400,
        ),
        (
            "JSON of another form",
            "application/json",
            b"[1]".to_vec(),
            400,
        ),
    ];
    for (what, content_type, body, status) in bodies {
        // The status is the same whatever would have been answered.
        for accept in ["application/json", "image/tiff", "image/png;view=overlay"] {
            let headers = [("content-type", content_type), ("accept", accept)];
            let asked = request("POST", "/segment", &headers, body.clone());
            let answer = send(stack.api_address(), asked).await;
            is_problem(ROUTE, &answer, status, what);
        }
    }
    for accept in ["text/html", "image/jpeg", "image/png;view=film", "*/*;q=0"] {
        let headers = [("content-type", "image/tiff"), ("accept", accept)];
        let asked = request("POST", "/segment", &headers, slice.clone());
        let answer = send(stack.api_address(), asked).await;
        is_problem(ROUTE, &answer, 406, accept);
    }
    for (bucket, key, status) in [
        ("uploads", "s/absent.tif", 404),
        ("results", "prepared/s/absent.png", 404),
        ("models", "fast/current.json", 403),
        ("somebody-elses", "s/1.tif", 403),
        ("uploads", "../1.tif", 400),
    ] {
        let headers = [("content-type", "application/json")];
        let body = json!({ "bucket": bucket, "key": key }).to_string();
        let answer = send(
            stack.api_address(),
            request("POST", "/segment", &headers, body),
        )
        .await;
        is_problem(ROUTE, &answer, status, key);
    }
    // A slice is served as ever.
    let headers = [("content-type", "image/tiff")];
    let answer = send(
        stack.api_address(),
        request("POST", "/segment", &headers, slice),
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    contract::check_answer(ROUTE, &answer, "a slice");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_score_are_refused_with_a_problem() {
    const ROUTE: &str = "POST /score";
    let (stack, _folder) = stack().await;
    let (slice, mask) = (hostile::slice(), hostile::mask());
    let parts: Vec<(&str, Vec<u8>, u16)> = vec![
        ("truncated", mask[..mask.len() / 2].to_vec(), 400),
        ("empty", Vec::new(), 400),
        ("text", b"once upon a time".to_vec(), 415),
        ("huge", hostile::huge(mask.clone()), 413),
        ("other pixels", hostile::small_mask(), 422),
        ("two channels", hostile::two_channels(), 422),
        ("NaN", hostile::nan(), 422),
        ("a slice", slice, 422),
        ("zip bomb", hostile::bomb(MAX_DECODED_BYTES + 1), 415),
        ("over the function's limit", vec![0; MAX_UPLOAD_BYTES], 413),
        ("over the gateway's limit", vec![0; MAX_BODY_BYTES], 413),
    ];
    let ask = async |content_type: &str, accept: &str, body: Vec<u8>| {
        let headers = [("content-type", content_type), ("accept", accept)];
        send(
            stack.api_address(),
            request("POST", "/score", &headers, body),
        )
        .await
    };
    for (what, bad, status) in &parts {
        let pairs = [
            ("prediction", bad, "truth", &mask),
            ("truth", bad, "prediction", &mask),
        ];
        for (name, bytes, other, good) in pairs {
            let (content_type, body) = form(&[
                (name, "application/octet-stream", bytes),
                (other, "image/tiff", good),
            ]);
            let answer = ask(&content_type, "*/*", body).await;
            is_problem(ROUTE, &answer, *status, &format!("{what} as {name}"));
        }
    }
    let (content_type, body) = form(&[
        ("prediction", "image/tiff", &mask),
        ("truth", "image/tiff", &mask),
    ]);
    let half = body[..body.len() / 2].to_vec();
    let (_, text_part) = form(&[
        ("prediction", "text/html", &mask),
        ("truth", "image/tiff", &mask),
    ]);
    let (_, alone) = form(&[("prediction", "image/tiff", &mask)]);
    let absent = json!({ "bucket": "results", "key": "masks/s/1.tif" });
    let json_of = |named: Value| {
        json!({ "prediction": named, "truth": absent })
            .to_string()
            .into_bytes()
    };
    for (what, content_type, accept, body, status) in [
        ("half a form", content_type.as_str(), "*/*", half, 400),
        ("one part", &content_type, "*/*", alone, 400),
        ("a part of text", &content_type, "*/*", text_part, 415),
        (
            "no boundary",
            "multipart/form-data",
            "*/*",
            body.clone(),
            400,
        ),
        ("wrong content type", "image/tiff", "*/*", mask.clone(), 415),
        (
            "unknown Accept",
            &content_type,
            "image/tiff",
            body.clone(),
            406,
        ),
        (
            "malformed JSON",
            "application/json",
            "*/*",
            b"{".to_vec(),
            400,
        ),
        (
            "absent",
            "application/json",
            "*/*",
            json_of(absent.clone()),
            404,
        ),
        (
            "another bucket",
            "application/json",
            "*/*",
            json_of(json!({ "bucket": "models", "key": "masks/s/1.tif" })),
            403,
        ),
    ] {
        let answer = ask(content_type, accept, body).await;
        is_problem(ROUTE, &answer, status, what);
    }
    let answer = ask(&content_type, "application/json", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    contract::check_answer(ROUTE, &answer, "two masks");
    assert_eq!(answer.json()["dice"], 1.0);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_model_requests_are_to_come_again() {
    let (stack, _folder) = stack().await;
    let models = stack.bucket(Bucket::Models);
    let page = models.list("", None, 1000).await.unwrap();
    for entry in page.entries {
        models.delete(&entry.key).await.unwrap();
    }
    let headers = [("content-type", "image/tiff")];
    let asked = request("POST", "/segment", &headers, hostile::slice());
    let answer = send(stack.api_address(), asked).await;
    is_problem("POST /segment", &answer, 503, "no model");
    assert!(answer.header("retry-after").is_some());
    assert!(answer.text().contains(CHANNEL));

    // A file that is no model changes nothing.
    let pointer = ObjectKey::parse("models/fast/current.json").unwrap();
    put(&models, pointer.as_str(), b"{").await;
    let asked = request("GET", "/model", &[], "");
    let answer = send(stack.api_address(), asked).await;
    is_problem("GET /model", &answer, 503, "broken model");
    stack.stop().await;
}

#[tokio::test]
async fn other_methods_at_a_function_url_are_told_which_there_are() {
    let (stack, _folder) = stack().await;
    let nobody: Arc<dyn Observer> = Arc::new(|_: StackEvent<'_>| {});
    let bucket = |bucket: Bucket| stack.bucket(bucket);
    let (functions, _) = functions(&BTreeMap::new(), &bucket, &nobody).unwrap();
    for (function, method, path, allow, route) in [
        (
            Function::Segment,
            "PUT",
            "/segment",
            "POST",
            "POST /segment",
        ),
        (Function::Segment, "DELETE", "/model", "GET", "GET /model"),
        (Function::Score, "GET", "/score", "POST", "POST /score"),
        (
            Function::Score,
            "POST",
            "/studies/s",
            "GET, DELETE",
            "GET /studies/{study}",
        ),
        (
            Function::Preprocess,
            "GET",
            "/uploads",
            "POST",
            "POST /uploads",
        ),
    ] {
        let mut event: Value =
            serde_json::from_str(include_str!("../../events/url-get-health.json")).unwrap();
        event["rawPath"] = path.into();
        event["requestContext"]["http"]["path"] = path.into();
        event["requestContext"]["http"]["method"] = method.into();
        let answer = functions[&function].invoke(event).await.unwrap();
        let headers = answer["headers"].as_object().unwrap().iter();
        let headers = headers.map(|(name, value)| {
            let value = value.as_str().unwrap().to_owned();
            (name.to_lowercase(), value)
        });
        let answer = Answer {
            status: u16::try_from(answer["statusCode"].as_u64().unwrap()).unwrap(),
            headers: headers.collect(),
            body: answer["body"].as_str().unwrap().as_bytes().to_vec(),
        };
        is_problem(route, &answer, 405, route);
        assert_eq!(answer.header("allow"), Some(allow), "{route}");
    }
    stack.stop().await;
}
