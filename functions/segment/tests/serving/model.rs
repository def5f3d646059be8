//! Models that come and go while the function serves.

use glioseg_shared::cloud::keys::{self, ModelVersion};
use glioseg_shared::cloud::{HttpRequest, Metadata};
use glioseg_shared::imaging::encode_slice_tiff;
use glioseg_shared::model::Contract;
use glioseg_shared::registry::{ModelFile, Pointer};
use glioseg_test_support::hooked::unavailable;

use crate::support::{Stack, channel, golden, key, prepared, s3_event, shipped, slice};

/// A pointer to bytes under the version of a sound model.
fn pointer(onnx: &[u8], version_of: &[u8]) -> (ModelVersion, Pointer) {
    let contract = Contract::of_onnx(version_of).unwrap();
    let version = ModelVersion::parse(&contract.model_version).unwrap();
    let file = ModelFile::of(&version, onnx);
    let pointer = Pointer::new(&channel(), file, &contract, None);
    (version, pointer)
}

fn post() -> HttpRequest {
    HttpRequest::new("POST", "/segment").with_body("image/tiff", encode_slice_tiff(&slice(1)))
}

#[tokio::test]
async fn a_new_model_answers_once_the_refresh_time_is_over() {
    let stack = Stack::serving(&golden("lean")).await;
    assert_eq!(stack.version().await, "lean-golden");
    stack.publish(&golden("classic")).await;
    stack.models.hook.calls();
    assert_eq!(stack.version().await, "lean-golden");
    assert_eq!(
        stack.models.hook.calls(),
        [""; 0],
        "nothing is asked meanwhile"
    );
    stack.pass_refresh_time();
    assert_eq!(stack.version().await, "classic-golden");
    stack.pass_refresh_time();
    stack.models.hook.calls();
    assert_eq!(stack.version().await, "classic-golden");
    let look = format!("get_if_changed {}", keys::channel_pointer(&channel()));
    assert_eq!(
        stack.models.hook.calls(),
        [look],
        "an old pointer is not read again"
    );
}

#[tokio::test]
async fn the_pointer_moved_back_is_a_roll_back() {
    let stack = Stack::serving(&golden("lean")).await;
    for model in ["classic", "lean", "classic"] {
        stack.publish(&golden(model)).await;
        stack.pass_refresh_time();
        assert_eq!(stack.version().await, format!("{model}-golden"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_models_are_swapped() {
    let stack = Stack::serving(&golden("lean")).await;
    for model in ["classic", "residual", "lean"] {
        stack.publish(&golden(model)).await;
        stack.pass_refresh_time();
        let requests = (0..8).map(|_| stack.segment.on_http(post()));
        for response in futures_util::future::join_all(requests).await {
            assert_eq!(response.status, 200);
            let version = response.header("x-model-version").unwrap().to_owned();
            let report: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
            assert_eq!(report["model"]["version"], version, "one model a request");
        }
        assert_eq!(stack.version().await, format!("{model}-golden"));
    }
}

#[tokio::test]
async fn a_broken_model_leaves_the_old_one_serving_and_is_fetched_once() {
    let (lean, classic) = (golden("lean"), golden("classic"));
    let half = &classic[..classic.len() / 2];
    let (version, sound) = pointer(&classic, &classic);
    let other_bytes = pointer(&lean, &classic).1;
    for (what, onnx, pointer) in [
        ("a file cut off on its way", half, &sound),
        (
            "a file cut off before it was named",
            half,
            &pointer(half, &classic).1,
        ),
        ("another file than named", &classic, &other_bytes),
        ("a model of another version than named", &lean, &other_bytes),
        ("no model", b"<html>", &pointer(b"<html>", &classic).1),
    ] {
        let stack = Stack::serving(&lean).await;
        assert_eq!(stack.version().await, "lean-golden");
        stack.put_model(&version, onnx).await;
        stack.point_to(pointer).await;
        stack.models.hook.calls();
        for _ in 0..3 {
            stack.pass_refresh_time();
            assert_eq!(stack.version().await, "lean-golden", "{what}");
        }
        let fetch = format!("get {}", keys::model_onnx(&version));
        // After that it is only asked whether the file has changed.
        let calls = stack.models.hook.calls();
        assert_eq!(
            calls.iter().filter(|call| **call == fetch).count(),
            1,
            "{what}: {calls:?}"
        );
        stack.publish(&classic).await;
        stack.pass_refresh_time();
        assert_eq!(
            stack.version().await,
            "classic-golden",
            "{what}, then mended"
        );
    }
}

#[tokio::test]
async fn back_from_a_broken_model_needs_no_download() {
    let stack = Stack::serving(&golden("lean")).await;
    assert_eq!(stack.version().await, "lean-golden");
    let (version, broken) = pointer(b"broken", &golden("classic"));
    stack.put_model(&version, b"broken").await;
    stack.point_to(&broken).await;
    stack.pass_refresh_time();
    assert_eq!(stack.version().await, "lean-golden");
    stack.publish(&golden("lean")).await;
    stack.models.hook.calls();
    stack.pass_refresh_time();
    assert_eq!(stack.version().await, "lean-golden");
    assert_eq!(
        stack.models.hook.calls().len(),
        1,
        "only the pointer was looked at"
    );
}

#[tokio::test]
async fn a_damaged_pointer_leaves_the_old_model_serving() {
    let stack = Stack::serving(&golden("lean")).await;
    assert_eq!(stack.version().await, "lean-golden");
    let place = keys::channel_pointer(&channel());
    let long = vec![b' '; 1 << 20];
    for json in [&b"{"[..], b"", b"{\"channel\": \"slow\"}", &long] {
        stack
            .put(&stack.models, &place, json, &Metadata::new())
            .await;
        stack.pass_refresh_time();
        assert_eq!(stack.version().await, "lean-golden");
    }
}

#[tokio::test]
async fn a_model_of_volumes_is_refused() {
    let stack = Stack::serving(&golden("volume")).await;
    let response = stack.segment.on_http(post()).await;
    assert_eq!(response.status, 503);
    let detail = String::from_utf8(response.body).unwrap();
    assert!(
        detail.contains("volume-golden works on whole volumes"),
        "{detail}"
    );
    stack.publish(&golden("lean")).await;
    assert_eq!(stack.version().await, "lean-golden", "at the next request");
    stack.publish(&golden("volume")).await;
    stack.pass_refresh_time();
    assert_eq!(stack.version().await, "lean-golden");
}

#[tokio::test]
async fn without_a_model_requests_and_events_are_to_come_again() {
    let stack = Stack::new();
    stack.segment.warm_up().await;
    for path in ["/health", "/model"] {
        let response = stack.segment.on_http(HttpRequest::new("GET", path)).await;
        assert_eq!(response.status, 503, "{path}");
    }
    let response = stack.segment.on_http(post()).await;
    assert_eq!(response.status, 503);
    assert_eq!(
        response.header("content-type"),
        Some("application/problem+json")
    );
    let seconds: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!(seconds > 0);
    let at = stack.put_prepared(&prepared("a", 1), "1").await;
    let error = stack
        .segment
        .handle(s3_event(crate::support::RESULTS, &at))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no model is published to channel fast"),
        "{error}"
    );
    stack.publish(&golden("lean")).await;
    stack
        .segment
        .handle(s3_event(crate::support::RESULTS, &at))
        .await
        .unwrap();
    assert!(
        stack
            .has(&stack.results, &key("masks/clinic/study 1/a.tif"))
            .await
    );
}

#[tokio::test]
async fn a_bucket_that_cannot_be_reached_is_tried_again() {
    let stack = Stack::serving(&golden("lean")).await;
    stack.models.hook.fail(|call| Some(unavailable(&call.key)));
    stack.segment.warm_up().await;
    assert_eq!(stack.segment.on_http(post()).await.status, 503);
    stack.models.hook.heal();
    assert_eq!(
        stack.version().await,
        "lean-golden",
        "at once: there was no model to go on with"
    );
    stack.publish(&golden("classic")).await;
    let file = keys::model_onnx(&ModelVersion::parse("classic-golden").unwrap());
    let hook = &stack.models.hook;
    hook.fail(move |call| (call.key == file.as_str()).then(|| unavailable(&call.key)));
    stack.pass_refresh_time();
    assert_eq!(
        stack.version().await,
        "lean-golden",
        "the model file is out of reach"
    );
    stack.models.hook.heal();
    stack.pass_refresh_time();
    assert_eq!(
        stack.version().await,
        "classic-golden",
        "though the pointer is the same"
    );
}

#[tokio::test]
async fn the_shipped_model_can_be_served() {
    let onnx = shipped();
    let stack = Stack::serving(&onnx).await;
    let response = stack
        .segment
        .on_http(HttpRequest::new("GET", "/model"))
        .await;
    assert_eq!(response.status, 200);
    let answer: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    let contract = Contract::of_onnx(&onnx).unwrap();
    assert_eq!(answer["version"], contract.model_version);
    assert_eq!(answer["channel"], "fast");
    assert_eq!(answer["unit"], "slice");
    assert_eq!(
        answer["onnx_sha256"],
        glioseg_shared::digest::sha256_hex(&onnx)
    );
    assert_eq!(answer["licence"], contract.licence);
    assert_eq!(answer["notice"], "research use only; not a medical device");
    assert_eq!(answer["input"]["width"], contract.input.width);
}
