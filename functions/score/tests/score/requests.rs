//! Requests to score two masks, good and bad, and requests for what there is not.

use glioseg_shared::cloud::HttpRequest;
use glioseg_shared::imaging::{encode_mask_png, encode_mask_tiff};
use serde_json::{Value, json};

use crate::stage::{Found, MODEL, Stage, body, drawn};

const FORM: &str = "multipart/form-data; boundary=\"a b\"";

fn part(name: &str, kind: &str, content: &[u8]) -> Vec<u8> {
    let head = format!(
        "--a b\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"f\"\r\nContent-Type: {kind}\r\n\r\n"
    );
    [head.as_bytes(), content, b"\r\n"].concat()
}

fn form(parts: &[(&str, &str, &[u8])]) -> HttpRequest {
    let mut bytes: Vec<u8> = parts
        .iter()
        .flat_map(|(name, kind, content)| part(name, kind, content))
        .collect();
    bytes.extend(b"--a b--\r\n");
    HttpRequest::new("POST", "/score").with_body(FORM, bytes)
}

/// A prediction, said to be a TIFF file.
fn tiff(content: &[u8]) -> (&'static str, &'static str, &[u8]) {
    ("prediction", "image/tiff", content)
}

fn masks() -> (Vec<u8>, Vec<u8>) {
    (
        encode_mask_tiff(&drawn(&["##..", "...."])),
        encode_mask_png(&drawn(&["#...", "#..."])),
    )
}

async fn answer(stage: &Stage, request: HttpRequest) -> (u16, Value) {
    body(stage.request(request).await)
}

#[tokio::test]
async fn two_masks_that_are_sent_are_scored() {
    let stage = Stage::new();
    let (prediction, truth) = masks();
    let request = form(&[
        ("truth", "image/png", &truth),
        ("prediction", "image/tiff", &prediction),
    ])
    .with_header("x-spacing-mm", "2,1");
    let response = stage.request(request).await;
    assert!(response.header("server-timing").is_some());
    let (status, score) = body(response);
    assert_eq!(status, 200);
    assert_eq!(
        score["counts"],
        json!({"true_positive": 1, "false_positive": 1, "false_negative": 1, "true_negative": 5})
    );
    assert_eq!(
        (&score["dice"], &score["distance_unit"]),
        (&0.5.into(), &"mm".into())
    );
    assert_eq!(score["predicted_area_mm2"], 4.0);
    assert!(score["model_version"].is_null());
    assert!(stage.everything().is_empty(), "nothing is stored");
}

#[tokio::test]
async fn two_objects_of_the_stack_are_scored() {
    let stage = Stage::new();
    let (prediction, truth) = (drawn(&["##", ".."]), drawn(&["#.", ".."]));
    stage.found("s", "x", &Found::new(&prediction)).await;
    stage.truth("s", "x", &truth).await;
    let request = |prediction: Value, truth: Value| {
        let named = json!({"prediction": prediction, "truth": truth});
        HttpRequest::new("POST", "/score")
            .with_body("application/json", named.to_string().into_bytes())
    };
    let mask = json!({"bucket": "results", "key": "masks/s/x.tif"});
    let by_name = json!({"bucket": "results-1", "key": "truth/s/x.tif"});
    let (status, score) = answer(&stage, request(mask.clone(), by_name)).await;
    assert_eq!(status, 200);
    assert_eq!(score["dice"], 0.666_667);
    assert_eq!(
        (&score["study"], &score["slice"]),
        (&"s".into(), &"x".into())
    );
    assert_eq!(score["model_version"], MODEL);
    for (truth, expected) in [
        (json!({"bucket": "models", "key": "truth/s/x.tif"}), 403),
        (json!({"bucket": "results", "key": "reports/s/x.json"}), 400),
        (json!({"bucket": "results", "key": "../x"}), 400),
        (json!({"bucket": "uploads", "key": "s/study.json"}), 400),
        (json!({"bucket": "uploads", "key": "x.tif"}), 400),
        (json!({"bucket": "uploads", "key": "s/x_mask.tif"}), 404),
        (json!({"key": "s/x_mask.tif"}), 400),
        (json!({"bucket": "uploads", "key": "s/x", "more": 1}), 400),
    ] {
        let (status, problem) = answer(&stage, request(mask.clone(), truth.clone())).await;
        assert_eq!(status, expected, "{truth}: {problem}");
    }
    stage.upload("s/x_mask.tif").await;
    let text = json!({"bucket": "uploads", "key": "s/x_mask.tif"});
    assert_eq!(answer(&stage, request(mask, text)).await.0, 415);
}

#[tokio::test]
async fn bad_forms_are_answered_with_what_is_wrong() {
    let mut stage = Stage::new();
    stage.score.config.limits.max_side = 16;
    let (prediction, truth) = masks();
    let wide = encode_mask_tiff(&drawn(&[&"#".repeat(17)]));
    let small = encode_mask_tiff(&drawn(&["#"]));
    let mut cut = prediction.clone();
    cut.truncate(cut.len() / 2);
    let truth = ("truth", "image/png", truth.as_slice());
    for (request, expected, named) in [
        (form(&[]), 400, "prediction"),
        (form(&[tiff(&prediction)]), 400, "truth"),
        (form(&[tiff(&prediction), truth, truth]), 400, "twice"),
        (
            form(&[tiff(&prediction), truth, ("x", "image/png", b"")]),
            400,
            "x",
        ),
        (
            form(&[("prediction", "text/plain", &prediction), truth]),
            415,
            "text/plain",
        ),
        (form(&[tiff(b""), truth]), 400, "empty"),
        (form(&[tiff(b"no image at all"), truth]), 415, "prediction"),
        (form(&[tiff(&cut), truth]), 400, "prediction"),
        (form(&[tiff(&wide), truth]), 413, "16"),
        (form(&[tiff(&small), truth]), 422, "1x1"),
        (
            form(&[tiff(&prediction), truth]).with_header("x-spacing-mm", "0"),
            400,
            "spacing",
        ),
        (
            form(&[tiff(&prediction), truth]).with_header("accept", "image/png"),
            406,
            "json",
        ),
        (
            HttpRequest::new("POST", "/score").with_body("multipart/form-data", b"--".to_vec()),
            400,
            "boundary",
        ),
        (
            HttpRequest::new("POST", "/score").with_body(FORM, b"--a b\r\n".to_vec()),
            400,
            "form",
        ),
        (
            HttpRequest::new("POST", "/score").with_body("image/tiff", prediction.clone()),
            415,
            "multipart",
        ),
        (HttpRequest::new("POST", "/score"), 415, "json"),
        (
            HttpRequest::new("POST", "/score").with_body("application/json", b"{".to_vec()),
            400,
            "prediction",
        ),
        (
            HttpRequest::new("POST", "/score").with_body("application/json", vec![b' '; 70_000]),
            413,
            "65536",
        ),
    ] {
        let (status, problem) = answer(&stage, request).await;
        assert_eq!(
            (status, &problem["status"]),
            (expected, &expected.into()),
            "{problem}"
        );
        assert!(problem.to_string().contains(named), "{named}: {problem}");
    }
    stage.score.config.limits.max_upload_bytes = 100;
    let (status, _) = answer(&stage, form(&[tiff(&prediction), truth])).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn an_image_is_no_mask() {
    let stage = Stage::new();
    let (_, truth) = masks();
    let grey = [0, 1, 2, 3, 4, 5, 6, 7].map(|value| [value; 3]).concat();
    let image = glioseg_shared::imaging::encode_rgb_png(4, 2, &grey);
    let request = form(&[
        ("prediction", "image/png", &image),
        ("truth", "image/png", &truth),
    ]);
    let (status, problem) = answer(&stage, request).await;
    assert_eq!(status, 422);
    assert!(
        problem["detail"].as_str().unwrap().contains("no mask"),
        "{problem}"
    );
}

#[tokio::test]
async fn other_paths_and_methods_are_named() {
    let stage = Stage::new();
    for path in ["/health", "/health/score"] {
        assert_eq!(stage.get(path).await.0, 200, "{path}");
    }
    for (method, path, expected, allow) in [
        ("GET", "/", 404, None),
        ("GET", "/studies/", 404, None),
        ("GET", "/studies", 404, None),
        ("GET", "/score", 405, Some("POST")),
        ("POST", "/health", 405, Some("GET")),
        ("PUT", "/studies/s", 405, Some("GET, DELETE")),
        ("GET", "/studies/a//b", 400, None),
        ("DELETE", "/studies/a/../b", 400, None),
    ] {
        let response = stage.request(HttpRequest::new(method, path)).await;
        assert_eq!(response.header("allow"), allow, "{method} {path}");
        assert_eq!(body(response).0, expected, "{method} {path}");
    }
}

#[tokio::test]
async fn an_event_of_the_gateway_is_answered_as_the_gateway_takes_it() {
    let stage = Stage::new();
    let event = json!({
        "version": "2.0",
        "routeKey": "GET /studies/{study+}",
        "rawPath": "/studies/clinic 1/ünï",
        "rawQueryString": "",
        "headers": {"accept": "*/*"},
        "requestContext": {
            "http": {"method": "GET", "path": "/studies/clinic 1/ünï"},
            "requestId": "r", "stage": "$default",
        },
        "isBase64Encoded": false,
    });
    stage.upload("clinic 1/ünï/a+b.tif").await;
    let answer = stage.score.handle(event).await.unwrap();
    assert_eq!(answer["statusCode"], 200);
    let study: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
    assert_eq!(study["study"], "clinic 1/ünï");
}
