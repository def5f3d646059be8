//! Every form of event, as AWS and its stand-ins send it, and what is answered.

#![allow(clippy::unwrap_used, missing_docs)]

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lambda_events::sqs::SqsBatchResponse;
use glioseg_shared::cloud::Sequencer;
use glioseg_shared::cloud::events::{
    EventError, Invocation, ObjectCreated, ObjectEvents, Retryable, Source, parse, run_objects,
};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

/// A notification as S3 sends it.
fn s3_event(keys: &[&str]) -> Value {
    let record = |key: &&str| {
        json!({
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "eu-central-1",
            "eventTime": "2026-01-02T03:04:05.678Z",
            "eventName": "ObjectCreated:Put",
            "userIdentity": { "principalId": "AWS:AIDAEXAMPLE" },
            "requestParameters": { "sourceIPAddress": "192.0.2.1" },
            "responseElements": { "x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8" },
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "uploads",
                "bucket": {
                    "name": "uploads",
                    "ownerIdentity": { "principalId": "A3NL1KOZZKExample" },
                    "arn": "arn:aws:s3:::uploads",
                },
                "object": {
                    "key": key,
                    "size": 1024,
                    "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                    "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
                    "sequencer": "0055AED6DCD90281E5",
                },
            },
        })
    };
    json!({ "Records": keys.iter().map(record).collect::<Vec<_>>() })
}

/// A batch of a queue, as Lambda polls it.
fn sqs_event(messages: &[(&str, String)]) -> Value {
    let record = |(id, body): &(&str, String)| {
        json!({
            "messageId": id,
            "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
            "body": body,
            "attributes": { "ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183" },
            "messageAttributes": {},
            "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:uploads",
            "awsRegion": "eu-central-1",
        })
    };
    json!({ "Records": messages.iter().map(record).collect::<Vec<_>>() })
}

fn event_bridge(key: &str) -> Value {
    json!({
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "111122223333",
        "time": "2026-01-02T03:04:05Z",
        "region": "eu-central-1",
        "resources": ["arn:aws:s3:::uploads"],
        "detail": {
            "version": "0",
            "bucket": { "name": "uploads" },
            "object": {
                "key": key,
                "size": 5,
                "etag": "b1946ac92492d2347c6235b4d2611184",
                "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
                "sequencer": "617f08299329d189",
            },
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            "source-ip-address": "192.0.2.1",
            "reason": "PutObject",
        },
    })
}

fn test_event() -> Value {
    json!({
        "Service": "Amazon S3",
        "Event": "s3:TestEvent",
        "Time": "2026-01-02T03:04:05.678Z",
        "Bucket": "uploads",
        "RequestId": "5582815E1AEA5ADF",
        "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR",
    })
}

fn http_event() -> Value {
    json!({
        "version": "2.0",
        "routeKey": "POST /segment",
        "rawPath": "/v1/segment",
        "rawQueryString": "a=b",
        "headers": { "accept": "image/png", "content-type": "image/tiff" },
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "api-id",
            "domainName": "id.execute-api.eu-central-1.amazonaws.com",
            "domainPrefix": "id",
            "http": {
                "method": "POST",
                "path": "/v1/segment",
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "agent",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "POST /segment",
            "stage": "v1",
            "time": "10/Mar/2026:05:16:23 +0000",
            "timeEpoch": 1_583_817_383_220_u64,
        },
        "body": "SUkqAA==",
        "isBase64Encoded": true,
    })
}

fn objects(payload: Value) -> ObjectEvents {
    match parse(payload).unwrap() {
        Invocation::Objects(events) => events,
        other => panic!("{other:?}"),
    }
}

/// The keys of the only message of an event.
fn keys(payload: Value) -> Result<Vec<String>, EventError> {
    let [message]: [_; 1] = objects(payload).messages.try_into().unwrap();
    message
        .objects
        .map(|objects| objects.into_iter().map(|object| object.key).collect())
}

const ENCODED_KEYS: [(&str, &str); 6] = [
    ("study/slice_1.tif", "study/slice_1.tif"),
    ("my+study/slice+1.tif", "my study/slice 1.tif"),
    ("a%2Bb/c%2B.tif", "a+b/c+.tif"),
    ("50%25/100%2525.tif", "50%/100%25.tif"),
    ("%C3%BCn%C3%AF/%E5%90%8D.tif", "ünï/名.tif"),
    ("a%28b%29%3D%26.tif", "a(b)=&.tif"),
];

#[test]
fn a_notification_says_what_was_created() {
    let events = objects(s3_event(&["study/slice_1.tif"]));
    assert_eq!(events.source, Source::S3);
    let expected = ObjectCreated {
        bucket: "uploads".to_owned(),
        key: "study/slice_1.tif".to_owned(),
        size: Some(1024),
        etag: Some("d41d8cd98f00b204e9800998ecf8427e".to_owned()),
        version_id: Some("096fKKXTRTtl3on89fVO.nfljtsv6qko".to_owned()),
        sequencer: Sequencer::parse("0055AED6DCD90281E5"),
    };
    assert_eq!(events.messages[0].id, None);
    assert_eq!(events.messages[0].objects, Ok(vec![expected]));
}

#[test]
fn keys_of_notifications_are_decoded_as_forms() {
    for (encoded, key) in ENCODED_KEYS {
        assert_eq!(keys(s3_event(&[encoded])).unwrap(), [key]);
        let body = s3_event(&[encoded]).to_string();
        assert_eq!(keys(sqs_event(&[("m", body)])).unwrap(), [key]);
    }
    let error = keys(s3_event(&["%FF"])).unwrap_err();
    assert_eq!(
        error,
        EventError::Field {
            field: "s3.object.key"
        }
    );
}

#[test]
fn keys_of_event_bridge_are_plain_already() {
    for (encoded, key) in ENCODED_KEYS {
        for plain in [encoded, key] {
            assert_eq!(keys(event_bridge(plain)).unwrap(), [plain]);
            let body = event_bridge(plain).to_string();
            assert_eq!(keys(sqs_event(&[("m", body)])).unwrap(), [plain]);
        }
    }
    let events = objects(event_bridge("k"));
    assert_eq!(events.source, Source::EventBridge);
    let object = &events.messages[0].objects.as_ref().unwrap()[0];
    assert_eq!(object.size, Some(5));
    assert_eq!(object.sequencer, Sequencer::parse("617f08299329d189"));
    assert_eq!(
        object.version_id.as_deref(),
        Some("IYV3p45BT0ac8hjHg1houSdS1a.Mro8e")
    );
    assert_eq!(
        object.etag.as_deref(),
        Some("b1946ac92492d2347c6235b4d2611184")
    );
}

#[test]
fn what_other_senders_leave_out_is_not_missed() {
    let bare = json!({ "Records": [{
        "eventSource": "aws:s3",
        "eventName": "s3:ObjectCreated:CompleteMultipartUpload",
        "s3": {
            "bucket": { "name": "uploads" },
            "object": { "key": "k", "size": null, "versionId": null, "eTag": "" },
        },
    }]});
    let expected = ObjectCreated {
        bucket: "uploads".to_owned(),
        key: "k".to_owned(),
        size: None,
        etag: None,
        version_id: None,
        sequencer: None,
    };
    assert_eq!(
        objects(bare).messages[0].objects,
        Ok(vec![expected.clone()])
    );
    let bare = json!({
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": { "bucket": { "name": "uploads" }, "object": { "key": "k" } },
    });
    assert_eq!(objects(bare).messages[0].objects, Ok(vec![expected]));
}

#[test]
fn the_test_event_is_skipped_wherever_it_comes() {
    assert_eq!(parse(test_event()), Ok(Invocation::Empty));
    let events = objects(sqs_event(&[
        ("test", test_event().to_string()),
        ("real", s3_event(&["k"]).to_string()),
    ]));
    assert_eq!(events.messages[0].objects, Ok(vec![]));
    assert_eq!(events.messages[1].objects.as_ref().unwrap().len(), 1);
}

#[test]
fn other_things_that_befall_objects_are_skipped() {
    for name in [
        "ObjectRemoved:Delete",
        "ObjectRestore:Post",
        "s3:ObjectTagging:Put",
        "x",
    ] {
        let mut event = s3_event(&["gone", "new"]);
        event["Records"][0]["eventName"] = name.into();
        assert_eq!(keys(event).unwrap(), ["new"]);
    }
    let mut event = event_bridge("gone");
    event["detail-type"] = "Object Deleted".into();
    assert_eq!(keys(event).unwrap(), Vec::<String>::new());
}

#[test]
fn a_record_that_names_no_object_is_an_error() {
    for (pointer, field) in [
        ("/Records/0/eventName", "eventName"),
        ("/Records/0/s3/object/key", "s3.object.key"),
        ("/Records/0/s3/bucket/name", "s3.bucket.name"),
    ] {
        let mut event = s3_event(&["k"]);
        *event.pointer_mut(pointer).unwrap() = Value::Null;
        assert_eq!(keys(event).unwrap_err(), EventError::Field { field });
    }
    // Taken for none, it would make the event the oldest of its key.
    let mut event = s3_event(&["k"]);
    event["Records"][0]["s3"]["object"]["sequencer"] = "soon".into();
    assert!(keys(event).is_err());
}

#[test]
fn a_payload_of_another_form_is_refused() {
    for payload in [
        json!(null),
        json!([]),
        json!("text"),
        json!({}),
        json!({ "Records": {} }),
        json!({ "Records": [{ "eventSource": "aws:dynamodb" }] }),
        json!({ "Records": [{ "EventSource": "aws:sns" }] }),
        json!({ "source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification" }),
        // Payload format 1.0.
        json!({ "httpMethod": "GET", "path": "/health", "requestContext": { "httpMethod": "GET" } }),
    ] {
        let error = parse(payload.clone()).unwrap_err();
        assert_eq!(error, EventError::Unknown, "{payload}");
    }
}

#[test]
fn an_http_request_is_one_whoever_sends_it() {
    let Invocation::Http(request) = parse(http_event()).unwrap() else {
        panic!("no request");
    };
    assert_eq!((&*request.method, &*request.path), ("POST", "/segment"));
    assert_eq!(request.header("Accept"), Some("image/png"));
    assert_eq!(request.query["a"], "b");
    assert_eq!(request.body, b"II*\0");
    assert_eq!(request.request_id.as_deref(), Some("JKJaXmPLvHcESHA="));

    let mut of_url = http_event();
    of_url["routeKey"] = "$default".into();
    of_url["rawPath"] = "/studies/a%20b".into();
    of_url["requestContext"]["stage"] = "$default".into();
    of_url["isBase64Encoded"] = false.into();
    of_url["body"] = "{}".into();
    let Invocation::Http(request) = parse(of_url).unwrap() else {
        panic!("no request");
    };
    assert_eq!(
        (&*request.path, &*request.body),
        ("/studies/a b", &b"{}"[..])
    );

    let mut broken = http_event();
    broken["body"] = "no base64".into();
    let Invocation::Refused(problem) = parse(broken).unwrap() else {
        panic!("not refused");
    };
    assert_eq!(problem.status(), 400);
}

/// What a handler meets, worth a retry or not.
#[derive(Debug)]
struct Trouble(bool);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no luck with Jane/k")
    }
}

impl Retryable for Trouble {
    fn is_retryable(&self) -> bool {
        self.0
    }
}

async fn unless_bad(object: ObjectCreated) -> Result<(), Trouble> {
    match object.key.as_str() {
        "bad" => Err(Trouble(true)),
        "worse" | "Jane/k" => Err(Trouble(false)),
        _ => Ok(()),
    }
}

#[tokio::test]
async fn only_the_messages_that_failed_are_sent_again() {
    let message = |keys: &[&str]| s3_event(keys).to_string();
    let events = objects(sqs_event(&[
        ("good", message(&["a"])),
        ("no-json", "{".to_owned()),
        ("half", message(&["b", "bad", "c"])),
        ("no-event", "{}".to_owned()),
        ("test", test_event().to_string()),
        ("worse", message(&["worse", "bad"])),
        ("bridge", event_bridge("d").to_string()),
    ]));
    let handled = Mutex::new(Vec::new());
    let answer = run_objects(events, 2, |object| {
        handled.lock().unwrap().push(object.key.clone());
        unless_bad(object)
    })
    .await
    .unwrap();
    let response: SqsBatchResponse = serde_json::from_value(answer).unwrap();
    let mut failed: Vec<_> = response
        .batch_item_failures
        .into_iter()
        .map(|failure| failure.item_identifier)
        .collect();
    failed.sort();
    assert_eq!(failed, ["half", "no-event", "no-json", "worse"]);
    let mut handled = handled.into_inner().unwrap();
    handled.sort();
    assert_eq!(handled, ["a", "b", "bad", "bad", "c", "d", "worse"]);
}

#[tokio::test]
async fn a_batch_without_failures_names_none() {
    let events = objects(sqs_event(&[("good", s3_event(&["a"]).to_string())]));
    let answer = run_objects(events, 1, unless_bad).await.unwrap();
    assert_eq!(answer, json!({ "batchItemFailures": [] }));
}

#[tokio::test]
async fn a_failed_message_without_a_name_fails_the_batch() {
    let mut event = sqs_event(&[("good", s3_event(&["a"]).to_string()), ("", "{".to_owned())]);
    event["Records"][1]["messageId"] = Value::Null;
    let failed = run_objects(objects(event), 1, unless_bad)
        .await
        .unwrap_err();
    assert!(!failed.is_retryable());
    assert!(
        failed
            .to_string()
            .starts_with("1 of 2 objects were not handled"),
        "{failed}"
    );
}

#[tokio::test]
async fn a_direct_event_fails_as_a_whole() {
    for (keys, retryable) in [(&["a", "bad"][..], true), (&["bad", "worse"], false)] {
        let failed = run_objects(objects(s3_event(keys)), 8, unless_bad)
            .await
            .unwrap_err();
        assert_eq!(failed.is_retryable(), retryable);
    }
    let failed = run_objects(objects(event_bridge("bad")), 0, unless_bad).await;
    assert!(failed.is_err());
    let fine = run_objects(objects(s3_event(&["a", "b"])), 1, unless_bad).await;
    assert_eq!(fine, Ok(Value::Null));
}

#[tokio::test]
async fn a_failure_names_no_patient() {
    let failed = run_objects(objects(event_bridge("Jane/k")), 1, unless_bad).await;
    let text = failed.unwrap_err().to_string();
    assert!(
        text.contains("no luck with ") && !text.contains("Jane"),
        "{text}"
    );
}

#[tokio::test]
async fn no_more_than_so_many_objects_are_handled_at_a_time() {
    let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let answer = run_objects(objects(s3_event(&keys)), 3, |_| async {
        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        now.fetch_sub(1, Ordering::SeqCst);
        Ok::<(), Trouble>(())
    })
    .await;
    assert_eq!(answer, Ok(Value::Null));
    assert_eq!(most.into_inner(), 3);
}

/// JSON of any shape, in which the names and texts that the parser looks for are frequent.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        3 => prop::sample::select(vec![
            "Records", "eventSource", "eventName", "s3", "bucket", "name", "object", "key", "size", "sequencer",
            "body", "messageId", "source", "detail-type", "detail", "Event", "requestContext", "http", "method",
            "stage", "rawPath", "rawQueryString", "headers", "isBase64Encoded", "aws:s3", "aws:sqs", "aws.s3",
            "ObjectCreated:Put", "Object Created", "s3:TestEvent", "%", "%zz", "%FF+", "$default", "/",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The places inside a document, as JSON pointers.
fn places(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(member, format!("{at}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                places(item, format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
    found.push(at);
}

proptest! {
    #[test]
    fn no_json_makes_the_parser_panic(json in any_json()) {
        let _ = parse(json.clone());
        let inside = objects(sqs_event(&[("m", json.to_string())]));
        prop_assert_eq!(inside.messages.len(), 1);
    }

    #[test]
    fn no_change_of_a_real_event_makes_the_parser_panic(
        which in 0..4_usize,
        changes in prop::collection::vec((any::<Index>(), any_json()), 1..4),
    ) {
        let mut event = match which {
            0 => s3_event(&["a", "b"]),
            1 => sqs_event(&[("m", s3_event(&["a"]).to_string())]),
            2 => event_bridge("k"),
            _ => http_event(),
        };
        for (place, value) in changes {
            let mut found = Vec::new();
            places(&event, String::new(), &mut found);
            *event.pointer_mut(place.get::<String>(&found)).unwrap() = value;
        }
        let _ = parse(event);
    }

    #[test]
    fn any_key_comes_through_a_notification(key in "\\PC{1,40}") {
        let encoded: String = key
            .bytes()
            .map(|byte| match byte {
                b' ' => "+".to_owned(),
                byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect();
        prop_assert_eq!(keys(s3_event(&[&encoded])).unwrap(), [key]);
    }
}
