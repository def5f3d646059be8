//! What must hold of the payload of an invocation for any bytes.

use glioseg_shared::cloud::events::{self, Invocation};
use glioseg_shared::cloud::http::{MAX_REQUEST_BYTES, Offer, negotiate};

/// Reads the bytes as a payload, as a message of a queue, and as an `Accept` header.
///
/// # Panics
/// When reading does, or when a request is not what its type promises.
pub(crate) fn read(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let offers = [None, Some("mask"), Some("overlay")].map(|view| Offer {
        media_type: "image/png",
        view,
        value: view,
    });
    if let Err(problem) = negotiate(Some(text), &offers) {
        assert_eq!(problem.status(), 406);
    }

    let message = serde_json::json!({
        "Records": [{ "eventSource": "aws:sqs", "messageId": "m", "body": text }],
    });
    match events::parse(message) {
        Ok(Invocation::Objects(objects)) => assert_eq!(objects.messages.len(), 1),
        other => panic!("a queue's message is {other:?}"),
    }
    let Ok(payload) = serde_json::from_str(text) else {
        return;
    };
    if let Ok(Invocation::Http(request)) = events::parse(payload) {
        assert!(request.body.len() <= MAX_REQUEST_BYTES);
        assert!(!request.method.bytes().any(|b| b.is_ascii_lowercase()));
        assert!(
            request
                .headers
                .keys()
                .all(|name| !name.bytes().any(|b| b.is_ascii_uppercase()))
        );
    }
}
