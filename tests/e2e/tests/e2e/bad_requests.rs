//! Requests that cannot be served: each is answered with a problem, as the description has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use glioseg_local::api::MAX_BODY_BYTES;
use glioseg_local::functions::functions;
use glioseg_local::observer::{Observer, StackEvent};
use glioseg_local::wiring::{Bucket, Function};
use glioseg_shared::cloud::{ObjectKey, Storage};
use serde_json::{Value, json};

use super::contract;
use super::hostile;
use super::models::CHANNEL;
use super::requests::{Answer, form, request, send};
use super::small_stack::{MAX_DECODED_BYTES, MAX_UPLOAD_BYTES, small_stack};
use super::studies::put;

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_segment_are_refused_with_a_problem() {
    const ROUTE: &str = "POST /segment";
    let (stack, _folder) = small_stack().await;
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
            contract::check_problem(ROUTE, &answer, status, what);
        }
    }
    for accept in ["text/html", "image/jpeg", "image/png;view=film", "*/*;q=0"] {
        let headers = [("content-type", "image/tiff"), ("accept", accept)];
        let asked = request("POST", "/segment", &headers, slice.clone());
        let answer = send(stack.api_address(), asked).await;
        contract::check_problem(ROUTE, &answer, 406, accept);
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
        contract::check_problem(ROUTE, &answer, status, key);
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
    let (stack, _folder) = small_stack().await;
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
            contract::check_problem(ROUTE, &answer, *status, &format!("{what} as {name}"));
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
        contract::check_problem(ROUTE, &answer, status, what);
    }
    let answer = ask(&content_type, "application/json", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    contract::check_answer(ROUTE, &answer, "two masks");
    assert_eq!(answer.json()["dice"], 1.0);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_model_requests_are_to_come_again() {
    let (stack, _folder) = small_stack().await;
    let models = stack.bucket(Bucket::Models);
    let page = models.list("", None, 1000).await.unwrap();
    for entry in page.entries {
        models.delete(&entry.key).await.unwrap();
    }
    let headers = [("content-type", "image/tiff")];
    let asked = request("POST", "/segment", &headers, hostile::slice());
    let answer = send(stack.api_address(), asked).await;
    contract::check_problem("POST /segment", &answer, 503, "no model");
    assert!(answer.header("retry-after").is_some());
    assert!(answer.text().contains(CHANNEL));

    // A file that is no model changes nothing.
    let pointer = ObjectKey::parse("models/fast/current.json").unwrap();
    put(&models, pointer.as_str(), b"{").await;
    let asked = request("GET", "/model", &[], "");
    let answer = send(stack.api_address(), asked).await;
    contract::check_problem("GET /model", &answer, 503, "broken model");
    stack.stop().await;
}

#[tokio::test]
async fn other_methods_at_a_function_url_are_told_which_there_are() {
    let (stack, _folder) = small_stack().await;
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
        contract::check_problem(route, &answer, 405, route);
        assert_eq!(answer.header("allow"), Some(allow), "{route}");
    }
    stack.stop().await;
}
