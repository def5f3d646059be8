//! The deployed template: events, retries, models and the HTTP API as on AWS.

use std::collections::BTreeMap;

use glioseg_shared::cloud::keys::{self, LabelledFile, LabelledSlice, SliceName, StudyId};
use glioseg_shared::cloud::{Object, ObjectKey, Storage};
use hyper::Method;
use serde_json::Value;

use super::models::{self, publish};
use super::reference;
use super::stack::{FUNCTIONS, Stack};
use super::studies::{self, Study, put};
use super::wait::until;

const MAX_BYTES: u64 = 1 << 24;

fn key(key: &str) -> ObjectKey {
    ObjectKey::parse(key).unwrap()
}

fn slice(study: &Study, number: usize) -> (StudyId, SliceName) {
    (
        StudyId::parse(&study.name).unwrap(),
        SliceName::parse(&study.slices[number]).unwrap(),
    )
}

async fn read(storage: &impl Storage, key: &ObjectKey) -> Option<Object> {
    match storage.get(key, MAX_BYTES).await {
        Ok(object) => Some(object),
        Err(error) if error.is_not_found() => None,
        Err(error) => panic!("{error}"),
    }
}

async fn arrived(storage: &impl Storage, key: &ObjectKey) -> Object {
    until(key, async || read(storage, key).await).await
}

/// Waits for an object that says a model's version, and takes it for what it is then.
async fn made_by(storage: &impl Storage, key: &ObjectKey, version: &str) -> Object {
    until(format!("{key} by {version}"), async || {
        let object = read(storage, key).await?;
        (object.metadata.get("model-version").map(String::as_str) == Some(version))
            .then_some(object)
    })
    .await
}

async fn everything(storage: &impl Storage, prefix: &str) -> BTreeMap<String, Vec<u8>> {
    let mut objects = BTreeMap::new();
    let mut after = None;
    loop {
        let page = storage.list(prefix, after.as_ref(), 1000).await.unwrap();
        for entry in page.entries {
            let object = storage.get(&entry.key, MAX_BYTES).await.unwrap();
            objects.insert(entry.key.to_string(), object.bytes);
        }
        after = page.next;
        if after.is_none() {
            return objects;
        }
    }
}

async fn no_dead_letters(stack: &Stack) {
    for function in FUNCTIONS {
        assert_eq!(stack.dead_letters(function).await, 0, "of {function}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn studies_become_what_glioseg_segment_makes_of_them() {
    let Some(stack) = Stack::deploy().await else {
        return;
    };
    publish(&stack.models, &models::shipped()).await;
    let studies: Vec<Study> = std::iter::once(studies::phantom())
        .chain(studies::patient())
        .collect();
    let expected = reference::outputs(&studies);
    for kind in ["masks", "overlays", "probabilities", "reports", "scores"] {
        let prefix = format!("{kind}/");
        let made = expected
            .keys()
            .filter(|key| key.starts_with(&prefix))
            .count();
        let slices: usize = studies.iter().map(|study| study.slices.len()).sum();
        assert_eq!(made, slices, "{kind} by glioseg segment");
    }

    for study in &studies {
        study.upload(&stack.uploads).await;
    }
    let phantom = &studies[0];
    let corrupt = &phantom.files[0].1[..1000];
    put(
        &stack.uploads,
        &format!("{}/corrupt.tif", phantom.name),
        corrupt,
    )
    .await;

    for (name, bytes) in &expected {
        let object = arrived(&stack.results, &key(name)).await;
        assert!(
            object.bytes == *bytes,
            "{name} differs from glioseg segment's"
        );
    }
    for kind in ["masks", "overlays", "probabilities", "reports", "scores"] {
        let there = everything(&stack.results, &format!("{kind}/")).await;
        for name in there.keys() {
            assert!(expected.contains_key(name), "nobody asked for {name}");
        }
    }

    let (study, _) = slice(phantom, 0);
    let rejected = arrived(&stack.results, &keys::rejected(&study, "corrupt.tif")).await;
    let rejection: Value = serde_json::from_slice(&rejected.bytes).unwrap();
    assert!(
        rejection["reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty())
    );
    let mask = keys::mask(&study, &SliceName::parse("corrupt").unwrap());
    assert!(read(&stack.results, &mask).await.is_none());
    for study in &studies {
        for number in 0..study.slices.len() {
            let (id, name) = slice(study, number);
            let truth = arrived(&stack.results, &keys::truth(&id, &name)).await;
            let kept = LabelledSlice::new(&id, &name).unwrap();
            let mask = arrived(&stack.results, &kept.key(LabelledFile::Mask)).await;
            assert!(mask.bytes == truth.bytes, "{name} of {id} is labelled");
            arrived(&stack.results, &kept.key(LabelledFile::Image)).await;
        }
    }
    no_dead_letters(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_recovered_by_a_redrive_once_their_cause_is_gone() {
    let Some(stack) = Stack::deploy().await else {
        return;
    };
    let phantom = studies::phantom();
    let (study, name) = slice(&phantom, 0);
    // No model is published yet, so that segment fails whenever it tries.
    let (file, bytes) = &phantom.files[0];
    put(&stack.uploads, &format!("{}/{file}", phantom.name), bytes).await;
    // And this is no event, whoever reads it.
    stack.send_message("preprocess", "poison").await;
    for function in ["segment", "preprocess"] {
        until(format!("the dead letter of {function}"), async || {
            (stack.dead_letters(function).await == 1).then_some(())
        })
        .await;
    }
    // The poisoned message did not stop the one beside it.
    assert!(
        read(&stack.results, &keys::prepared(&study, &name))
            .await
            .is_some()
    );
    assert!(
        read(&stack.results, &keys::mask(&study, &name))
            .await
            .is_none()
    );
    assert_eq!(
        stack
            .ask(Method::GET, "/model", &[], Vec::new())
            .await
            .status,
        503
    );

    let version = publish(&stack.models, &models::shipped()).await;
    assert_eq!(stack.redrive("segment").await, 1);
    made_by(&stack.results, &keys::mask(&study, &name), &version).await;
    assert_eq!(stack.dead_letters("segment").await, 0);
    // What is no event stays none.
    assert_eq!(stack.redrive("preprocess").await, 1);
    until("the dead letter of preprocess once more", async || {
        (stack.dead_letters("preprocess").await == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_model_is_picked_up_and_a_whole_prefix_can_be_segmented_by_it() {
    let Some(stack) = Stack::deploy().await else {
        return;
    };
    let phantom = studies::phantom();
    let image = |number: usize| {
        let file = format!("{}.tif", phantom.slices[number]);
        let (_, bytes) = phantom
            .files
            .iter()
            .find(|(name, _)| *name == file)
            .unwrap();
        (format!("{}/{file}", phantom.name), bytes)
    };
    let report = |number| {
        let (study, name) = slice(&phantom, number);
        keys::report(&study, &name)
    };

    let old = publish(&stack.models, &models::shipped()).await;
    let (name, bytes) = image(0);
    put(&stack.uploads, &name, bytes).await;
    made_by(&stack.results, &report(0), &old).await;

    let new = publish(&stack.models, &models::other()).await;
    let (name, bytes) = image(1);
    put(&stack.uploads, &name, bytes).await;
    made_by(&stack.results, &report(1), &new).await;
    let served = stack
        .ask(Method::GET, "/model", &[], Vec::new())
        .await
        .json();
    assert_eq!(served["version"], new.as_str());
    // What was segmented before is not touched, until somebody asks for it.
    made_by(&stack.results, &report(0), &old).await;

    let ended = stack
        .resegment(&format!("prepared/{}/", phantom.name))
        .await;
    assert_eq!(ended["status"], "SUCCEEDED", "{ended}");
    made_by(&stack.results, &report(0), &new).await;
    let refused = stack.resegment("masks/").await;
    assert_eq!(refused["status"], "FAILED", "{refused}");
    no_dead_letters(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_http_api_answers_those_it_knows_and_nobody_else() {
    let Some(stack) = Stack::deploy().await else {
        return;
    };
    let version = publish(&stack.models, &models::shipped()).await;
    for path in ["/model", "/health/segment", "/studies/a"] {
        assert_eq!(
            stack.ask_unsigned(Method::GET, path).await.status,
            403,
            "{path}"
        );
    }
    for function in FUNCTIONS {
        let health = stack
            .ask(Method::GET, &format!("/health/{function}"), &[], Vec::new())
            .await;
        assert_eq!(
            (health.status, &health.json()["status"]),
            (200, &Value::from("ok")),
            "{function}"
        );
    }
    assert_eq!(
        stack
            .ask(Method::GET, "/elsewhere", &[], Vec::new())
            .await
            .status,
        404
    );

    let phantom = studies::phantom();
    let (_, image) = &phantom.files[0];
    let tiff = ("content-type", "image/tiff");
    let report = stack
        .ask(Method::POST, "/segment", &[tiff], image.clone())
        .await;
    assert_eq!(report.status, 200, "{}", report.text());
    assert_eq!(report.json()["model"]["version"], version.as_str());
    let mask = stack
        .ask(
            Method::POST,
            "/segment",
            &[tiff, ("accept", "image/tiff")],
            image.clone(),
        )
        .await;
    assert_eq!(
        (mask.status, mask.content_type.as_str()),
        (200, "image/tiff")
    );

    // What goes through a link comes to the same as what is sent.
    let order = serde_json::json!({"study": phantom.name, "files": [{"name": "1.tif"}]});
    let json = ("content-type", "application/json");
    let links = stack
        .ask(
            Method::POST,
            "/uploads",
            &[json],
            order.to_string().into_bytes(),
        )
        .await;
    assert!((200..300).contains(&links.status), "{}", links.text());
    let link = links.json()["files"][0]["url"].as_str().unwrap().to_owned();
    let followed = stack.follow(Method::PUT, &link, image.clone()).await;
    assert_eq!(followed.status, 200, "{}", followed.text());
    let study = StudyId::parse(&phantom.name).unwrap();
    let stored = keys::mask(&study, &SliceName::parse("1").unwrap());
    assert!(arrived(&stack.results, &stored).await.bytes == mask.body);

    let path = format!(
        "/studies/{}",
        percent_encoding::utf8_percent_encode(&phantom.name, percent_encoding::NON_ALPHANUMERIC)
    );
    until("the study to be segmented", async || {
        let status = stack.ask(Method::GET, &path, &[], Vec::new()).await;
        assert_eq!(status.status, 200, "{}", status.text());
        (status.json()["counts"]["segmented"] == 1).then_some(())
    })
    .await;
    let deleted = stack.ask(Method::DELETE, &path, &[], Vec::new()).await;
    assert!((200..300).contains(&deleted.status), "{}", deleted.text());
    assert_eq!(everything(&stack.uploads, "").await, BTreeMap::new());
    let left = everything(&stack.results, "").await;
    assert!(left.is_empty(), "{:?}", left.keys());

    let path = path.replace("/studies/", "/patients/");
    let withdrawn = stack.ask(Method::DELETE, &path, &[], Vec::new()).await;
    assert_eq!(withdrawn.status, 200, "{}", withdrawn.text());
    let left = everything(&stack.results, "").await;
    let left: Vec<_> = left.keys().collect();
    assert_eq!(left, ["labelled/manifest.json"]);
}
