//! A response, and how it is written for payload format 2.0.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cloud::Problem;

/// Most bytes of a response's body as it is sent, after base64 or JSON's escapes: Lambda's 6 MB for the whole answer,
/// less a margin for its headers.
pub const MAX_RESPONSE_BYTES: usize = 6 * 1024 * 1024 - 64 * 1024;

/// An HTTP response, free of how it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// The headers by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl HttpResponse {
    /// A response with a body of some type.
    #[must_use]
    pub fn new(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        Self {
            status,
            headers: BTreeMap::new(),
            body,
        }
        .with_header("content-type", content_type)
    }

    /// A response with a JSON document. One that cannot be written as JSON becomes a problem of status 500.
    #[must_use]
    pub fn json(status: u16, document: &impl Serialize) -> Self {
        match serde_json::to_vec(document) {
            Ok(json) => Self::new(status, "application/json", json),
            Err(error) => {
                Problem::internal(format!("the answer cannot be written: {error}")).into_response()
            }
        }
    }

    /// A response without a body: 204.
    #[must_use]
    pub fn no_content() -> Self {
        Self {
            status: 204,
            headers: BTreeMap::new(),
            body: Vec::new(),
        }
    }

    /// Sets a header. What no header may carry (all but printable ASCII) is sent as `?`.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let value = value
            .as_ref()
            .chars()
            .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
            .collect();
        self.headers.insert(name.to_ascii_lowercase(), value);
        self
    }

    /// A header's value; the name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(&name.to_ascii_lowercase())
            .map(String::as_str)
    }

    /// The response as the HTTP API and function URLs take it from a function: text as it is, all else in base64.
    ///
    /// A body of more than [`MAX_RESPONSE_BYTES`] as sent becomes a problem of status 413: Lambda would answer 502 to
    /// it. Unless said otherwise, nobody may keep a copy (`cache-control: no-store`): it is about a patient.
    #[must_use]
    pub fn into_api_gateway(mut self) -> Value {
        for (name, value) in [
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
        ] {
            self.headers
                .entry(name.to_owned())
                .or_insert_with(|| value.to_owned());
        }
        let text = self
            .is_text()
            .then(|| std::str::from_utf8(&self.body).ok())
            .flatten();
        let sent = text.map_or(self.body.len().div_ceil(3).saturating_mul(4), escaped_len);
        if sent > MAX_RESPONSE_BYTES {
            return Problem::payload_too_large(format!(
                "the answer takes {sent} bytes, and {MAX_RESPONSE_BYTES} can be sent; upload the image to the \
                 uploads bucket and read the result from the results bucket"
            ))
            .into_response()
            .into_api_gateway();
        }
        let (body, is_base64) = match text {
            Some(text) => (text.to_owned(), false),
            None => (BASE64_STANDARD.encode(&self.body), true),
        };
        json!({
            "statusCode": self.status,
            "headers": self.headers,
            // The format does not ask for it; `cargo lambda watch` does.
            "cookies": [],
            "body": body,
            "isBase64Encoded": is_base64,
        })
    }

    fn is_text(&self) -> bool {
        let content_type = self.header("content-type").unwrap_or("text/plain");
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        essence.starts_with("text/") || essence == "application/json" || essence.ends_with("+json")
    }
}

/// The length of text inside a JSON string.
fn escaped_len(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
            0..=0x1f => 6,
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
    use aws_lambda_events::encodings::Body;

    use super::*;

    /// Reads a response with somebody else's idea of the format.
    fn sent(response: HttpResponse) -> (i64, Body) {
        let read: ApiGatewayV2httpResponse =
            serde_json::from_value(response.into_api_gateway()).unwrap();
        (read.status_code, read.body.unwrap())
    }

    #[test]
    fn text_is_sent_as_it_is_and_bytes_in_base64() {
        let json = HttpResponse::json(201, &json!({ "name": "ü" }));
        assert_eq!(json.header("Content-Type"), Some("application/json"));
        let value = json.clone().into_api_gateway();
        assert_eq!(value["isBase64Encoded"], false);
        assert_eq!(value["headers"]["cache-control"], "no-store");
        assert_eq!(sent(json), (201, Body::Text("{\"name\":\"ü\"}".to_owned())));

        let value = HttpResponse::new(200, "image/png", vec![0, 255, 10]).into_api_gateway();
        assert_eq!(
            (&value["isBase64Encoded"], &value["body"]),
            (&true.into(), &"AP8K".into())
        );
        // Said to be text, and is none.
        let value = HttpResponse::new(200, "text/plain", vec![255]).into_api_gateway();
        assert_eq!(value["isBase64Encoded"], true);
        assert_eq!(HttpResponse::no_content().into_api_gateway()["body"], "");
    }

    #[test]
    fn an_answer_that_lambda_would_drop_becomes_a_problem() {
        let status = |content_type: &str, body| {
            HttpResponse::new(200, content_type, body).into_api_gateway()["statusCode"].clone()
        };
        let most = MAX_RESPONSE_BYTES;
        assert_eq!(status("text/plain", vec![b'a'; most]), 200);
        assert_eq!(status("text/plain", vec![b'a'; most + 1]), 413);
        assert_eq!(status("text/plain", vec![b'"'; most / 2 + 1]), 413);
        assert_eq!(status("image/png", vec![0; most / 4 * 3]), 200);
        assert_eq!(status("image/png", vec![0; most / 4 * 3 + 1]), 413);
    }

    #[test]
    fn the_length_of_escaped_text_is_known_before_it_is_written() {
        let all: String = (0..0x250_u32).filter_map(char::from_u32).collect();
        assert_eq!(
            escaped_len(&all) + 2,
            serde_json::to_string(&all).unwrap().len()
        );
    }

    #[test]
    fn headers_cannot_be_split() {
        let response = HttpResponse::no_content().with_header("X-Key", "a\r\nset-cookie: ü");
        assert_eq!(response.header("x-key"), Some("a??set-cookie: ?"));
    }

    #[test]
    fn a_document_that_is_no_json_is_a_fault_of_this_side() {
        let no_json = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert_eq!(HttpResponse::json(200, &no_json).status, 500);
    }
}
