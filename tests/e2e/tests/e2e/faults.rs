//! S3 that fails, is slow, loses answers or refuses: nothing is lost, nothing is doubled, and in the end everything is as
//! if all had gone well.

use glioseg_local::api::GatewayRequest;
use glioseg_local::queue::Policy;
use glioseg_local::wiring::{Bucket, Function};
use glioseg_shared::cloud::{ObjectKey, Storage};
use hyper::Method;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::bucket::{Contents, OF_A_SLICE, assert_equal, count};
use super::contract;
use super::plant::{PATIENT, Plant};
use super::proxy::{Fault, Rule};
use super::requests::Answer;
use super::studies::{self, Study, put};
use super::wait::until;

const MANIFEST: &[u8] = br#"{"slices": 4, "spacing_mm": [0.5, 0.5, 3]}"#;

/// A plant with the uploads of a study, not yet started.
async fn filled(policy: Policy) -> (Plant, Study) {
    let (plant, study) = (Plant::new(policy).await, studies::phantom());
    let uploads = plant.bucket(Bucket::Uploads);
    study.upload(&uploads).await;
    put(&uploads, &format!("{}/study.json", study.name), MANIFEST).await;
    put(&uploads, &format!("{}/broken.tif", study.name), b"II*\0").await;
    (plant, study)
}

/// What the uploads come to where nothing goes wrong.
async fn undisturbed() -> &'static Contents {
    static RESULTS: OnceCell<Contents> = OnceCell::const_new();
    RESULTS
        .get_or_init(async || {
            let (mut plant, _) = filled(PATIENT).await;
            plant.start();
            plant.idle().await;
            let results = plant.results().await;
            for kind in OF_A_SLICE {
                assert_eq!(count(&results, kind), 4, "{kind}");
            }
            results
        })
        .await
}

/// Runs the uploads through a plant with these rules; returns it once nothing is left to do.
async fn disturbed(rules: Vec<Rule>) -> Plant {
    let (mut plant, _) = filled(PATIENT).await;
    for rule in rules {
        plant.proxy.add(rule);
    }
    plant.start();
    plant.idle().await;
    plant
}

/// Checks that all is as if nothing had gone wrong.
async fn is_whole(plant: &Plant, what: &str) {
    assert_eq!(plant.dead_letters(), [], "{what}");
    for reason in plant.reasons() {
        assert!(!reason.contains("panic"), "{what}: {reason}");
    }
    assert_equal(&plant.results().await, undisturbed().await, what);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_may_fail_once() {
    for fault in [
        Fault::INTERNAL_ERROR,
        Fault::SLOW_DOWN,
        Fault::DENIED,
        Fault::Broken,
        Fault::Lost,
        Fault::CutOff,
    ] {
        let plant = disturbed(vec![Rule::once(&[], "", fault)]).await;
        let what = format!("{fault:?}");
        // Reads, writes, looks and listings of each of four slices, and the model.
        assert!(
            plant.proxy.faults() > 100,
            "{what}: {}",
            plant.proxy.faults()
        );
        assert!(plant.retries() > 0, "{what}");
        is_whole(&plant, &what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_show_only_after_their_event_are_not_lost() {
    let late = |(methods, begins)| Rule {
        times: 2,
        ..Rule::once(methods, begins, Fault::ABSENT)
    };
    // A prepared slice is read by those alone whom its event tells of it.
    const LOOKS: &[&str] = &["GET", "HEAD"];
    let rules = [
        (LOOKS, "uploads/"),
        (&["GET"], "results/prepared/"),
        (LOOKS, "results/masks/"),
        (LOOKS, "results/truth/"),
    ]
    .map(late);
    let plant = disturbed(rules.into()).await;
    assert!(plant.retries() > 0);
    is_whole(&plant, "late").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_could_not_be_noted_is_not_lost() {
    let (mut plant, _) = filled(PATIENT).await;
    plant.fail_notes();
    plant.start();
    plant.idle().await;
    assert!(plant.retries() > 0);
    is_whole(&plant, "notes").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_write_ends_in_the_dead_letters_and_a_redrive_recovers_it() {
    let policy = Policy {
        max_receive_count: 3,
        ..PATIENT
    };
    let (mut plant, study) = filled(policy).await;
    let slice = format!("{}/{}", study.name, study.slices[1]);
    let mask = format!("results/masks/{slice}.tif");
    plant
        .proxy
        .add(Rule::always(&["PUT"], &mask, Fault::DENIED));
    plant.start();
    plant.idle().await;

    // One for each time that the slice was prepared: before its study was described, and after.
    let letters = plant.dead_letters();
    assert!(!letters.is_empty());
    for letter in &letters {
        assert_eq!(letter.message.object.key, format!("prepared/{slice}.png"));
        assert_eq!(letter.message.receives, policy.max_receive_count);
    }
    assert_eq!(plant.proxy.faults(), 3 * letters.len());
    assert_eq!(plant.counts(Function::Segment).dead, letters.len());
    // Everything else was done; nothing says that the slice was.
    let results = plant.results().await;
    let missing = |key: &&String| !results.contains_key(*key);
    let missing: Vec<_> = undisturbed().await.keys().filter(missing).collect();
    let named = |kind: &str, extension: &str| format!("{kind}/{slice}.{extension}");
    for key in [named("masks", "tif"), named("scores", "json")] {
        assert!(missing.contains(&&key), "{key} is there: {missing:?}");
    }
    assert!(
        missing
            .iter()
            .all(|key| key.contains(&slice) || key.ends_with("/completed.json")),
        "{missing:?}"
    );

    plant.proxy.lift();
    assert_eq!(plant.redrive(), letters.len());
    plant.idle().await;
    is_whole(&plant, "after the redrive").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_message_goes_to_the_dead_letters_and_holds_up_nothing() {
    let policy = Policy {
        max_receive_count: 2,
        ..PATIENT
    };
    let (mut plant, _) = filled(policy).await;
    // A prepared slice that is gone when its event arrives, and is not coming back.
    let results = plant.bucket(Bucket::Results);
    put(&results, "prepared/gone/1.png", b"prepared").await;
    let key = ObjectKey::parse("prepared/gone/1.png").unwrap();
    results.delete(&key).await.unwrap();
    plant.start();
    plant.idle().await;
    let letters = plant.dead_letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0].message.object.key, key.as_str());
    assert_eq!(letters[0].message.receives, 2);
    assert_equal(&plant.results().await, undisturbed().await, "poison");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_holds_up_no_other_slice() {
    let (mut plant, study) = filled(PATIENT).await;
    let slow = format!("results/prepared/{}/{}.png", study.name, study.slices[0]);
    plant.proxy.add(Rule::once(&["GET"], &slow, Fault::Held));
    plant.start();
    let held = plant.proxy.held().await;
    // All other slices of the study are done while the one waits.
    let results = plant.bucket(Bucket::Results);
    for slice in &study.slices[1..] {
        let key = ObjectKey::parse(format!("scores/{}/{slice}.json", study.name)).unwrap();
        until(&key, async || results.head(&key).await.ok()).await;
    }
    assert!(plant.counts(Function::Segment).in_flight > 0);
    held.release();
    plant.idle().await;
    is_whole(&plant, "slow").await;
}

/// Sends a request with a JSON body, or none; checks that the answer is of a status, and as the description has it.
async fn ask(
    plant: &Plant,
    (method, path, route, body): &Asked<'_>,
    status: u16,
    what: &str,
) -> Answer {
    let mut request = GatewayRequest::new(method.clone(), *path);
    if !body.is_null() {
        let content_type = ("content-type".to_owned(), "application/json".to_owned());
        request.headers.extend([content_type]);
        request.body = body.to_string().into_bytes();
    }
    let answer = Answer::from(plant.gateway.answer(request).await);
    assert_eq!(answer.status, status, "{what} {route}: {}", answer.text());
    contract::check_answer(route, &answer, what);
    answer
}

/// Method, path, route and body of a request.
type Asked<'a> = (Method, &'a str, &'a str, Value);

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_told_to_come_again_and_then_are_served() {
    let plant = Plant::new(PATIENT).await;
    let study = studies::phantom();
    study.upload(&plant.bucket(Bucket::Uploads)).await;
    let (image, truth) = (
        json!({ "bucket": "uploads", "key": format!("{}/{}.tif", study.name, study.slices[0]) }),
        json!({ "bucket": "uploads", "key": format!("{}/{}_mask.tif", study.name, study.slices[0]) }),
    );
    let pair = json!({ "prediction": truth, "truth": truth });
    let path = "/studies/phant%C3%B6m+1%20100%25";
    let requests = [
        (Method::GET, "/model", "GET /model", json!(null)),
        (
            Method::GET,
            "/health/segment",
            "GET /health/{function}",
            json!(null),
        ),
        (Method::POST, "/segment", "POST /segment", image),
        (Method::POST, "/score", "POST /score", pair),
        (Method::GET, path, "GET /studies/{study}", json!(null)),
        (Method::DELETE, path, "DELETE /studies/{study}", json!(null)),
    ];
    for fault in [Fault::SLOW_DOWN, Fault::INTERNAL_ERROR, Fault::Broken] {
        plant.proxy.lift();
        plant.proxy.add(Rule::always(&[], "", fault));
        for request in &requests {
            let what = format!("{fault:?}");
            let answer = ask(&plant, request, 503, &what).await;
            assert_eq!(answer.media_type(), "application/problem+json", "{what}");
            let seconds = answer.header("retry-after").unwrap().parse::<u64>();
            assert!(seconds.is_ok_and(|seconds| seconds > 0), "{what}");
        }
    }
    // Nobody is told more of an object that may not be read than of one that is not there.
    plant.proxy.lift();
    plant
        .proxy
        .add(Rule::always(&["GET"], "uploads/", Fault::DENIED));
    for request in &requests[2..4] {
        ask(&plant, request, 404, "denied").await;
    }
    plant.proxy.lift();
    for request in &requests {
        ask(&plant, request, 200, "undisturbed").await;
    }
}
