//! Messages as a Lambda gets them: SQS records whose bodies are S3 notifications.

use glioseg_shared::digest::sha256_hex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::crypto::{Checksum as _, Md5};
use serde_json::{Value, json};

use super::Message;
use crate::s3::{ObjectCreated, REGION};

/// The account that a local stack claims to belong to.
const ACCOUNT: &str = "000000000000";

/// What S3 leaves as it is in a notification's key; a space becomes a `+`.
const PLAIN: AsciiSet = NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'*')
    .remove(b' ');

/// The event that a batch of a queue's messages invokes a function with.
#[must_use]
pub fn payload(queue: &str, batch: &[Message]) -> Value {
    let records: Vec<_> = batch.iter().map(|message| record(queue, message)).collect();
    json!({ "Records": records })
}

/// The id of a message as text, by which a function names those that failed.
pub(super) fn message_id(queue: &str, message: &Message) -> String {
    let digest =
        sha256_hex(format!("{queue} {} {}", message.id, message.object.sequencer).as_bytes());
    // The shape of a UUID, as SQS has it.
    [
        &digest[..8],
        &digest[8..12],
        &digest[12..16],
        &digest[16..20],
        &digest[20..32],
    ]
    .join("-")
}

fn record(queue: &str, message: &Message) -> Value {
    let body = notification(&message.object).to_string();
    let id = message_id(queue, message);
    json!({
        "messageId": id,
        "receiptHandle": format!("{id}-{}", message.receives),
        "md5OfBody": glioseg_shared::digest::hex(&Md5::checksum(body.as_bytes())),
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": message.receives.to_string(),
            "SenderId": ACCOUNT,
        },
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}"),
        "awsRegion": REGION,
    })
}

/// S3's notification of one object, event structure version 2.1.
fn notification(object: &ObjectCreated) -> Value {
    let key = utf8_percent_encode(&object.key, &PLAIN)
        .to_string()
        .replace(' ', "+");
    json!({
        "Records": [{
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": REGION,
            "eventTime": object.time,
            "eventName": object.event,
            "userIdentity": { "principalId": ACCOUNT },
            "requestParameters": { "sourceIPAddress": "127.0.0.1" },
            "responseElements": {},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "glioseg-local",
                "bucket": {
                    "name": object.bucket,
                    "ownerIdentity": { "principalId": ACCOUNT },
                    "arn": format!("arn:aws:s3:::{}", object.bucket),
                },
                "object": {
                    "key": key,
                    "size": object.size,
                    "eTag": object.etag,
                    "sequencer": object.sequencer,
                },
            },
        }],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::s3::EventName;

    #[test]
    fn keys_are_written_as_s3_writes_them() {
        let object = ObjectCreated {
            event: EventName::Put,
            bucket: "uploads".to_owned(),
            key: "study 1/a+b 50%ü.tif".to_owned(),
            size: 7,
            etag: "00".to_owned(),
            sequencer: "0000000000000001".to_owned(),
            time: "2026-01-01T00:00:00.000Z".to_owned(),
        };
        let record = &notification(&object)["Records"][0];
        assert_eq!(
            record["s3"]["object"]["key"],
            "study+1/a%2Bb+50%25%C3%BC.tif"
        );
        assert_eq!(record["eventName"], "ObjectCreated:Put");
        let message = Message {
            id: 3,
            receives: 2,
            object,
        };
        let payload = payload("preprocess", std::slice::from_ref(&message));
        let record = &payload["Records"][0];
        assert_eq!(record["attributes"]["ApproximateReceiveCount"], "2");
        assert_eq!(record["messageId"], message_id("preprocess", &message));
        assert!(record["body"].as_str().unwrap().contains("study+1/"));
    }
}
