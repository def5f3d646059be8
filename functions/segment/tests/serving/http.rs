//! Requests that can be served: what is answered, and that it is what events store.

use glioseg_shared::cloud::keys;
use glioseg_shared::cloud::{HttpRequest, HttpResponse, Metadata};
use glioseg_shared::imaging::{
    Intensity, Limits, Slice, decode_masks, encode_mask_png, encode_rgb_png, encode_slice_tiff,
};
use glioseg_shared::study::{Document, Prepared, SliceReport, Source, Spacing, unnamed};
use serde_json::{Value, json};

use crate::support::{
    RESULTS, Stack, UPLOADS, expected, golden, key, prepared, s3_event, shipped, slice,
};

fn segment(content_type: &str, body: Vec<u8>) -> HttpRequest {
    HttpRequest::new("POST", "/segment").with_body(content_type, body)
}

fn naming(bucket: &str, key: &str) -> HttpRequest {
    let body = json!({ "bucket": bucket, "key": key });
    segment("application/json", body.to_string().into())
}

async fn body(stack: &Stack, request: HttpRequest, accept: &str) -> Vec<u8> {
    let response = stack
        .segment
        .on_http(request.with_header("accept", accept))
        .await;
    assert_eq!(
        response.status,
        200,
        "{:?}",
        String::from_utf8_lossy(&response.body)
    );
    response.body
}

fn report(response: &HttpResponse) -> SliceReport {
    assert_eq!(
        response.status,
        200,
        "{:?}",
        String::from_utf8_lossy(&response.body)
    );
    assert_eq!(response.header("content-type"), Some("application/json"));
    SliceReport::from_json(&response.body).unwrap()
}

/// A file as somebody sends it, and the prepared slice that it stands for.
fn sent(file: &[u8]) -> Prepared {
    Prepared {
        study: unnamed::study(),
        name: unnamed::slice(),
        slice: slice(5),
        spacing_mm: None,
        volume: None,
        source: Source {
            file: unnamed::slice().to_string(),
            sha256: glioseg_shared::digest::sha256_hex(file),
            page: 1,
        },
    }
}

#[tokio::test]
async fn requests_are_answered_with_the_bytes_that_events_store() {
    let stack = Stack::serving(&shipped()).await;
    let slice = prepared("a", 1);
    let at = stack.put_prepared(&slice, "1").await;
    stack.segment.handle(s3_event(RESULTS, &at)).await.unwrap();
    let stored = stack.outputs(&slice).await;
    for (accept, bytes) in [
        ("application/json", &stored.report_json),
        ("image/tiff", &stored.mask_tiff),
        ("image/png;view=overlay", &stored.overlay_png),
        ("image/png;view=probability", &stored.probability_png),
    ] {
        for bucket in ["results", RESULTS] {
            let answered = body(&stack, naming(bucket, at.as_str()), accept).await;
            assert!(answered == *bytes, "{accept}");
        }
    }
    let png = body(&stack, naming("results", at.as_str()), "image/png").await;
    let mask = decode_masks(&stored.mask_tiff, &Limits::default())
        .unwrap()
        .remove(0);
    assert_eq!(png, encode_mask_png(&mask));
}

#[tokio::test]
async fn an_image_in_the_body_is_segmented() {
    let onnx = golden("lean");
    let stack = Stack::serving(&onnx).await;
    let image = slice(5);
    let tiff = encode_slice_tiff(&image);
    let png = encode_rgb_png(image.width(), image.height(), image.pixels());
    for (content_type, file) in [
        ("image/tiff", &tiff),
        ("Image/TIFF; charset=binary", &tiff),
        ("application/octet-stream", &tiff),
        ("", &png),
        ("image/png", &png),
    ] {
        let expected = expected(&sent(file), &onnx);
        let request = segment(content_type, file.clone());
        assert_eq!(
            body(&stack, request.clone(), "*/*").await,
            expected.report_json
        );
        assert_eq!(
            body(&stack, request, "image/tiff").await,
            expected.mask_tiff
        );
    }
}

#[tokio::test]
async fn answers_say_what_they_are_and_how_long_they_took() {
    let stack = Stack::serving(&golden("lean")).await;
    for (accept, content_type) in [
        ("*/*", "application/json"),
        ("image/*", "image/tiff"),
        ("image/png", "image/png"),
        ("image/png; view=probability", "image/png"),
        ("text/html, image/png;q=0.5, */*;q=0.1", "image/png"),
    ] {
        let request = segment("image/tiff", encode_slice_tiff(&slice(5)));
        let response = stack
            .segment
            .on_http(request.with_header("accept", accept))
            .await;
        assert_eq!(response.status, 200);
        let header = |name| response.header(name).unwrap();
        assert_eq!(header("content-type"), content_type, "{accept}");
        assert_eq!(header("x-model-version"), "lean-golden");
        assert_eq!(
            header("x-research-use-only"),
            "research use only; not a medical device"
        );
        for stage in ["decode", "preprocess", "inference", "encode"] {
            assert!(
                header("server-timing").contains(&format!("{stage};dur=")),
                "{stage}"
            );
        }
    }
}

#[tokio::test]
async fn an_area_needs_a_spacing() {
    let stack = Stack::serving(&shipped()).await;
    let request = segment("image/tiff", encode_slice_tiff(&slice(3)));
    let without = report(&stack.segment.on_http(request.clone()).await);
    assert!(without.tumour_pixels > 0, "the phantom has a lesion");
    assert_eq!((without.area_mm2, without.spacing_mm), (None, None));
    let request = request.with_header("X-Spacing-mm", "0.5,0.25");
    let with = report(&stack.segment.on_http(request).await);
    assert_eq!(with.area_mm2, Some(with.tumour_pixels as f64 * 0.125));
    assert_eq!(
        with.spacing_mm,
        Some(Spacing::new(0.5, 0.25, None).unwrap())
    );
}

#[tokio::test]
async fn an_upload_is_read_with_all_that_is_known_of_its_study() {
    let onnx = golden("lean");
    let stack = Stack::serving(&onnx).await;
    let image = slice(5);
    // The file has its channels in another order, as study.json says.
    let turned = image
        .pixels()
        .chunks_exact(3)
        .flat_map(|p| [p[1], p[2], p[0]]);
    let turned = Slice::new(256, 256, turned.collect(), Intensity::EightBit).unwrap();
    let file = encode_slice_tiff(&turned);
    let upload = key("clinic/study 1/p_1.TIF");
    stack
        .put(&stack.uploads, &upload, &file, &Metadata::new())
        .await;
    let slice = Prepared {
        name: "p_1".parse().unwrap(),
        source: Source {
            file: "p_1.TIF".to_owned(),
            ..sent(&file).source
        },
        slice: image,
        ..prepared("p_1", 5)
    };
    let manifest = json!({
        "spacing_mm": [0.5, 0.5, 3],
        "channels": ["FLAIR", "post-contrast", "pre-contrast"],
    });
    let place = keys::manifest(&slice.study);
    let manifest = manifest.to_string();
    stack
        .put(
            &stack.results,
            &place,
            manifest.as_bytes(),
            &Metadata::new(),
        )
        .await;
    for bucket in ["uploads", UPLOADS] {
        let answered = body(&stack, naming(bucket, upload.as_str()), "*/*").await;
        assert_eq!(answered, expected(&slice, &onnx).report_json);
    }
    // The spacing of the request counts before that of the object, and that before the study's.
    let metadata = Metadata::from([("spacing-mm".to_owned(), "2,2".to_owned())]);
    stack.put(&stack.uploads, &upload, &file, &metadata).await;
    let of_object = report(
        &stack
            .segment
            .on_http(naming("uploads", upload.as_str()))
            .await,
    );
    assert_eq!(of_object.spacing_mm, Some("2,2".parse().unwrap()));
    let request = json!({ "bucket": "uploads", "key": upload.as_str(), "spacing_mm": [1, 1] });
    let request = segment("application/json", request.to_string().into());
    let of_request = report(&stack.segment.on_http(request).await);
    assert_eq!(of_request.spacing_mm, Some("1,1".parse().unwrap()));
}

#[tokio::test]
async fn the_gateway_is_answered_in_its_own_form() {
    let stack = Stack::serving(&golden("lean")).await;
    let tiff = encode_slice_tiff(&slice(5));
    let event = |accept: &str| {
        json!({
            "version": "2.0",
            "routeKey": "POST /segment",
            "rawPath": "/segment",
            "rawQueryString": "",
            "headers": { "content-type": "image/tiff", "accept": accept },
            "requestContext": {
                "http": { "method": "POST", "path": "/segment" },
                "stage": "$default",
                "requestId": "r1",
            },
            "body": base64(&tiff),
            "isBase64Encoded": true,
        })
    };
    let expected = expected(&sent(&tiff), &golden("lean"));
    let answer = stack
        .segment
        .handle(event("application/json"))
        .await
        .unwrap();
    assert_eq!(answer["statusCode"], 200);
    assert_eq!(answer["isBase64Encoded"], false);
    assert_eq!(
        answer["body"].as_str().unwrap().as_bytes(),
        expected.report_json
    );
    let answer = stack.segment.handle(event("image/tiff")).await.unwrap();
    assert_eq!(answer["isBase64Encoded"], true);
    assert_eq!(answer["body"], base64(&expected.mask_tiff));
    let answer = stack.segment.handle(event("text/html")).await.unwrap();
    assert_eq!(answer["statusCode"], 406);
}

#[tokio::test]
async fn health_names_the_model() {
    let stack = Stack::serving(&golden("lean")).await;
    let response = stack
        .segment
        .on_http(HttpRequest::new("GET", "/health"))
        .await;
    let answer: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(answer["status"], "ok");
    assert_eq!(answer["model_version"], "lean-golden");
    assert_eq!(answer["notice"], "research use only; not a medical device");
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let word = group
            .iter()
            .fold(0, |word, &byte| word << 8 | u32::from(byte));
        let word = word << (8 * (3 - group.len()));
        for digit in 0..=group.len() {
            text.push(char::from(DIGITS[(word >> (18 - 6 * digit) & 63) as usize]));
        }
        text.extend(std::iter::repeat_n('=', 3 - group.len()));
    }
    text
}
