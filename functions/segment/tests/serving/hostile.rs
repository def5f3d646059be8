//! Requests that cannot be served: a clear status and a problem document, nothing else.

use glioseg_shared::cloud::{HttpRequest, HttpResponse, Metadata};
use glioseg_shared::imaging::{
    Intensity, Mask, Slice, encode_mask_png, encode_mask_tiff, encode_rgb_png, encode_slice_tiff,
};
use glioseg_test_support::hooked::unavailable;
use serde_json::{Value, json};

use crate::support::{Stack, golden, key, prepared, slice};

fn segment(content_type: &str, body: impl Into<Vec<u8>>) -> HttpRequest {
    HttpRequest::new("POST", "/segment").with_body(content_type, body.into())
}

/// Sends a request that is to be refused, and gives the problem's detail.
async fn refused(stack: &Stack, request: HttpRequest, status: u16) -> String {
    let response = stack.segment.on_http(request.clone()).await;
    let mut shown = request;
    shown.body.truncate(100);
    problem(&response, status, &format!("{shown:?}"))
}

fn problem(response: &HttpResponse, status: u16, what: &str) -> String {
    let text = String::from_utf8_lossy(&response.body);
    assert_eq!(response.status, status, "{what}: {text}");
    assert_eq!(
        response.header("content-type"),
        Some("application/problem+json")
    );
    let document: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(document["status"], status);
    assert_eq!(
        document["notice"],
        "research use only; not a medical device"
    );
    document["detail"].as_str().unwrap().to_owned()
}

fn tiff() -> Vec<u8> {
    encode_slice_tiff(&slice(5))
}

/// A grey TIFF of 32-bit floating-point samples, one strip.
fn float_tiff(width: u32, height: u32, samples: &[f32]) -> Vec<u8> {
    let mut file = b"II\x2a\0".to_vec();
    file.extend(u32::try_from(8 + samples.len() * 4).unwrap().to_le_bytes());
    file.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    let entries = [
        (256u16, width),
        (257, height),
        (258, 32),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, height),
        (279, u32::try_from(samples.len() * 4).unwrap()),
        (339, 3),
    ];
    file.extend(u16::try_from(entries.len()).unwrap().to_le_bytes());
    for (tag, value) in entries {
        file.extend(tag.to_le_bytes());
        file.extend(4u16.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file.extend([0; 4]);
    file
}

#[tokio::test]
async fn bodies_that_are_no_slice_are_refused() {
    let stack = Stack::serving(&golden("lean")).await;
    let tiff = tiff();
    let mut huge = tiff.clone();
    // The directory follows the pixels; its first entry is the width.
    let directory = u32::from_le_bytes(huge[4..8].try_into().unwrap()) as usize;
    huge[directory + 2 + 2] = 4;
    huge[directory + 2 + 8..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
    let image = slice(5);
    let png = encode_rgb_png(image.width(), image.height(), image.pixels());
    let mask = Mask::new(4, 1, vec![false, true, true, false]).unwrap();
    for (content_type, body, status) in [
        ("image/tiff", Vec::new(), 400),
        ("image/tiff", tiff[..tiff.len() / 2].to_vec(), 400),
        ("image/tiff", tiff[..6].to_vec(), 400),
        ("image/png", png[..png.len() / 2].to_vec(), 400),
        ("image/png", png[..10].to_vec(), 400),
        ("image/tiff", b"once upon a time".to_vec(), 415),
        (
            "application/octet-stream",
            b"once upon a time".to_vec(),
            415,
        ),
        ("image/tiff", png.clone(), 415),
        ("image/png", tiff.clone(), 415),
        ("text/plain", tiff.clone(), 415),
        ("application/x-www-form-urlencoded", tiff.clone(), 415),
        ("multipart/form-data; boundary=x", tiff.clone(), 415),
        ("image/tiff", huge, 413),
        ("image/tiff", float_tiff(2, 2, &[f32::NAN; 4]), 422),
        ("image/tiff", float_tiff(2, 1, &[0.0, f32::INFINITY]), 422),
        ("image/tiff", encode_mask_tiff(&mask), 422),
        ("image/png", encode_mask_png(&mask), 422),
    ] {
        refused(&stack, segment(content_type, body), status).await;
    }
}

#[tokio::test]
async fn the_smallest_and_the_strangest_sound_slices_are_served() {
    let stack = Stack::serving(&golden("lean")).await;
    let grey = |width, height, value| {
        Slice::new(
            width,
            height,
            vec![value; width * height * 3],
            Intensity::EightBit,
        )
        .unwrap()
    };
    let extremes: Vec<f32> = [f32::MIN, f32::MAX, 0.0, -0.0].repeat(64);
    for (body, status) in [
        (encode_slice_tiff(&grey(16, 16, 7)), 200),
        (encode_slice_tiff(&grey(16, 16, 0)), 200),
        (encode_slice_tiff(&grey(16, 1000, 0)), 200),
        (encode_slice_tiff(&grey(1000, 16, 255)), 200),
        (float_tiff(16, 16, &extremes), 200),
        (encode_slice_tiff(&grey(1, 1, 7)), 422),
        (encode_slice_tiff(&grey(15, 16, 7)), 422),
    ] {
        let response = stack.segment.on_http(segment("image/tiff", body)).await;
        assert_eq!(
            response.status,
            status,
            "{:?}",
            String::from_utf8_lossy(&response.body)
        );
    }
}

#[tokio::test]
async fn a_file_of_several_pages_is_to_be_uploaded() {
    let stack = Stack::serving(&golden("lean")).await;
    let volume = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/tests/goldens/imaging/slices/volume8.tif"
    );
    let body = std::fs::read(volume).unwrap();
    let detail = refused(&stack, segment("image/tiff", body), 422).await;
    assert!(detail.contains("upload it"), "{detail}");
}

#[tokio::test]
async fn bodies_beyond_the_limit_are_refused() {
    let stack = Stack::with(&[("MAX_UPLOAD_BYTES", "1000"), ("MAX_SIDE", "200")]);
    stack.publish(&golden("lean")).await;
    refused(&stack, segment("image/tiff", tiff()), 413).await;
    let small = Stack::with(&[("MAX_SIDE", "200")]);
    small.publish(&golden("lean")).await;
    refused(&small, segment("image/tiff", tiff()), 413).await;
    let long = format!(
        "{{\"bucket\":\"uploads\",\"key\":\"{}\"}}",
        "k".repeat(1 << 16)
    );
    refused(&small, segment("application/json", long), 413).await;
}

#[tokio::test]
async fn json_names_an_image_of_the_stacks_own_or_is_refused() {
    let stack = Stack::serving(&golden("lean")).await;
    for body in [
        "{",
        "[]",
        "null",
        "{}",
        r#"{"bucket":"uploads"}"#,
        r#"{"bucket":"uploads","key":7}"#,
        r#"{"bucket":"uploads","key":"s/a.tif","more":1}"#,
        r#"{"bucket":"uploads","key":""}"#,
        r#"{"bucket":"uploads","key":"../a.tif"}"#,
        r#"{"bucket":"uploads","key":"s/a\u0000.tif"}"#,
        r#"{"bucket":"uploads","key":"a.tif"}"#,
        r#"{"bucket":"uploads","key":"s/a_mask.tif"}"#,
        r#"{"bucket":"uploads","key":"s/study.json"}"#,
        r#"{"bucket":"uploads","key":"s.zip"}"#,
        r#"{"bucket":"uploads","key":"s/a.txt"}"#,
        r#"{"bucket":"results","key":"masks/s/a.tif"}"#,
        r#"{"bucket":"results","key":"s/a.tif"}"#,
        r#"{"bucket":"uploads","key":"s/a.tif","spacing_mm":[0,0]}"#,
        r#"{"bucket":"uploads","key":"s/a.tif","spacing_mm":"1,1"}"#,
    ] {
        refused(&stack, segment("application/json", body), 400).await;
    }
    for bucket in [
        "",
        "somebody-elses",
        "the-models",
        "models",
        "uploads/../models",
    ] {
        let body = json!({ "bucket": bucket, "key": "s/a.tif" }).to_string();
        refused(&stack, segment("application/json", body), 403).await;
    }
    for body in [
        r#"{"bucket":"uploads","key":"s/a.tif"}"#,
        r#"{"bucket":"results","key":"prepared/s/a.png"}"#,
    ] {
        refused(&stack, segment("application/json", body), 404).await;
    }
}

#[tokio::test]
async fn objects_that_are_damaged_or_out_of_reach_are_told() {
    let stack = Stack::serving(&golden("lean")).await;
    let naming = |bucket: &str, key: &str| {
        let body = json!({ "bucket": bucket, "key": key }).to_string();
        segment("application/json", body)
    };
    let upload = key("s/a.tif");
    stack
        .put(&stack.uploads, &upload, b"text", &Metadata::new())
        .await;
    refused(&stack, naming("uploads", "s/a.tif"), 400).await;
    stack
        .put(&stack.uploads, &upload, &tiff(), &Metadata::new())
        .await;
    let wrong = Metadata::from([("spacing-mm".to_owned(), "wide".to_owned())]);
    stack.put(&stack.uploads, &upload, &tiff(), &wrong).await;
    refused(&stack, naming("uploads", "s/a.tif"), 422).await;
    stack.uploads.hook.fail(|call| Some(unavailable(&call.key)));
    let response = stack.segment.on_http(naming("uploads", "s/a.tif")).await;
    problem(&response, 503, "a bucket that does not answer");
    assert!(response.header("retry-after").is_some());

    let other = key("prepared/s/other.png");
    let slice = prepared("a", 1);
    stack
        .put(&stack.results, &other, &slice.encode(), &Metadata::new())
        .await;
    refused(&stack, naming("results", other.as_str()), 422).await;
    stack
        .put(&stack.results, &other, b"text", &Metadata::new())
        .await;
    refused(&stack, naming("results", other.as_str()), 422).await;
}

#[tokio::test]
async fn headers_that_cannot_be_met_are_refused() {
    let stack = Stack::serving(&golden("lean")).await;
    for accept in [
        "text/html",
        "image/jpeg",
        "image/png;view=film",
        "*/*;q=0",
        "nonsense",
    ] {
        let request = segment("image/tiff", tiff()).with_header("accept", accept);
        refused(&stack, request, 406).await;
    }
    for spacing in ["", "1", "wide", "0,0", "1,1,1,1", "1,NaN", "-1,1"] {
        let request = segment("image/tiff", tiff()).with_header("x-spacing-mm", spacing);
        refused(&stack, request, 400).await;
    }
    let body = json!({ "bucket": "uploads", "key": "s/a.tif", "spacing_mm": [1, 1] }).to_string();
    let twice = segment("application/json", body).with_header("x-spacing-mm", "1,1");
    refused(&stack, twice, 400).await;
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let stack = Stack::serving(&golden("lean")).await;
    for (method, path, status, allow) in [
        ("GET", "/", 404, None),
        ("GET", "/segments", 404, None),
        ("POST", "/score", 404, None),
        ("GET", "/segment/../model", 404, None),
        ("GET", "/segment", 405, Some("POST")),
        ("POST", "/model", 405, Some("GET")),
        ("DELETE", "/health", 405, Some("GET")),
    ] {
        let response = stack.segment.on_http(HttpRequest::new(method, path)).await;
        problem(&response, status, path);
        assert_eq!(response.header("allow"), allow, "{method} {path}");
    }
}
