//! Requests over HTTP.

use crate::support::Stack;
use glioseg_preprocess::http::MAX_FILES;
use glioseg_shared::cloud::HttpRequest;
use serde_json::{Value, json};

async fn ask(stack: &Stack, body: &Value) -> (u16, Value) {
    let request = HttpRequest::new("POST", "/uploads")
        .with_body("application/json; charset=utf-8", body.to_string().into());
    let response = stack.function.on_http(&request).await;
    (
        response.status,
        serde_json::from_slice(&response.body).unwrap(),
    )
}

async fn refused(stack: &Stack, body: &Value, status: u16, words: &str) {
    let (answered, problem) = ask(stack, body).await;
    assert_eq!(answered, status, "{problem}");
    assert_eq!(problem["status"], status);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(words), "{detail}");
}

#[tokio::test]
async fn links_are_given_for_every_file_in_order() {
    let stack = Stack::new();
    let (status, answer) = ask(
        &stack,
        &json!({
            "study": "clinic/p 1",
            "files": [
                { "name": "x_1.tif", "size": 196_608 },
                { "name": "x_1_mask.tif" },
                { "name": "study.json" },
                { "name": "p 1.zip" },
            ],
        }),
    )
    .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["study"], "clinic/p 1");
    assert_eq!(answer["expires_seconds"], 900);
    assert_eq!(answer["max_bytes"], 256 << 20);
    assert!(answer["notice"].as_str().unwrap().contains("research"));
    let files = answer["files"].as_array().unwrap();
    let keys: Vec<_> = files
        .iter()
        .map(|file| file["key"].as_str().unwrap())
        .collect();
    assert_eq!(
        keys,
        [
            "clinic/p 1/x_1.tif",
            "clinic/p 1/x_1_mask.tif",
            "clinic/p 1/study.json",
            "clinic/p 1.zip",
        ]
    );
    for file in files {
        assert_eq!(file["method"], "PUT");
        assert!(!file["url"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn files_that_would_be_set_aside_get_no_link() {
    let stack = Stack::new();
    let one = |name: &str| json!({ "study": "s", "files": [{ "name": name }] });
    refused(&stack, &one("notes.txt"), 422, "none of <slice>.tif").await;
    refused(&stack, &one("other.zip"), 422, "a study of its own").await;
    refused(&stack, &one("a/b.tif"), 422, "has a slash").await;
    refused(&stack, &one("a\nb.tif"), 422, "is no object key").await;
    refused(&stack, &one(".."), 422, "is no object key").await;
    refused(&stack, &one("_mask.tif"), 422, "names no slice").await;
    refused(
        &stack,
        &json!({ "study": "s", "files": [] }),
        422,
        "0 files",
    )
    .await;
    let twice = json!({ "study": "s", "files": [{ "name": "a.tif" }, { "name": "a.tif" }] });
    refused(&stack, &twice, 422, "named twice").await;
    let huge = json!({ "study": "s", "files": [{ "name": "a.tif", "size": (256 << 20) + 1 }] });
    refused(&stack, &huge, 413, "268435457 bytes").await;
    let names = (0..=MAX_FILES).map(|n| json!({ "name": format!("{n}.tif") }));
    let many = json!({ "study": "s", "files": names.collect::<Vec<_>>() });
    refused(&stack, &many, 422, "1001 files").await;
}

#[tokio::test]
async fn bodies_that_are_no_list_are_refused() {
    let stack = Stack::new();
    for body in [
        json!([]),
        json!({ "study": "s" }),
        json!({ "study": "", "files": [{ "name": "a.tif" }] }),
        json!({ "study": "../s", "files": [{ "name": "a.tif" }] }),
        json!({ "study": "s", "files": [{ "name": "a.tif", "size": -1 }] }),
        json!({ "study": "s", "files": [{ "name": "a.tif" }], "more": 1 }),
    ] {
        refused(&stack, &body, 400, "no list of files").await;
    }
    let send = async |content_type: &str, body: Vec<u8>| {
        let request = HttpRequest::new("POST", "/uploads").with_body(content_type, body);
        stack.function.on_http(&request).await.status
    };
    assert_eq!(
        send("application/json", b"{\"study\": ".to_vec()).await,
        400
    );
    assert_eq!(
        send("application/json", vec![b' '; (1 << 20) + 1]).await,
        413
    );
    assert_eq!(send("text/plain", b"{}".to_vec()).await, 415);
}

#[tokio::test]
async fn paths_and_methods_are_told_apart() {
    let stack = Stack::new();
    for (method, path, status) in [
        ("GET", "/health", 200),
        ("POST", "/health", 405),
        ("GET", "/uploads", 405),
        ("GET", "/", 404),
        ("GET", "/uploads/more", 404),
    ] {
        let response = stack
            .function
            .on_http(&HttpRequest::new(method, path))
            .await;
        assert_eq!(response.status, status, "{method} {path}");
    }
    let event = json!({
        "version": "2.0",
        "routeKey": "GET /health",
        "rawPath": "/health",
        "rawQueryString": "",
        "headers": {},
        "requestContext": { "http": { "method": "GET", "path": "/health" }, "stage": "$default" },
        "isBase64Encoded": false,
    });
    let answer = stack.function.handle(event).await.unwrap();
    assert_eq!(answer["statusCode"], 200);
    let health: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert_eq!(health["function"], "preprocess");
    let test = json!({ "Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "uploads" });
    assert_eq!(stack.function.handle(test).await.unwrap(), Value::Null);
    stack
        .function
        .handle(json!({ "hello": 1 }))
        .await
        .unwrap_err();
}
