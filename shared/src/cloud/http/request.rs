//! A request, and how it is read from an event of payload format 2.0.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use crate::cloud::Problem;

/// Most bytes of a body: what Lambda takes in one invocation. Base64, which images come in, leaves three quarters.
pub const MAX_REQUEST_BYTES: usize = 6 * 1024 * 1024;

/// An HTTP request, free of how it came here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpRequest {
    /// The method, upper-case.
    pub method: String,
    /// The path, percent-decoded, without the stage's name before it; starts with `/`.
    pub path: String,
    /// The query's parameters, decoded; the values of one name joined by `,`.
    pub query: BTreeMap<String, String>,
    /// The headers by lower-case name; the values of one name joined by `,`.
    pub headers: BTreeMap<String, String>,
    /// The body, of at most [`MAX_REQUEST_BYTES`].
    pub body: Vec<u8>,
    /// The identifier that the gateway gave the request.
    pub request_id: Option<String>,
}

impl HttpRequest {
    /// A request without query, headers and body.
    #[must_use]
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_ascii_uppercase(),
            path: path.to_owned(),
            ..Self::default()
        }
    }

    /// Sets a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.insert(name.to_ascii_lowercase(), value.into());
        self
    }

    /// Sets the body and its type.
    #[must_use]
    pub fn with_body(self, content_type: &str, body: Vec<u8>) -> Self {
        Self {
            body,
            ..self.with_header("content-type", content_type)
        }
    }

    /// A header's value; the name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(&name.to_ascii_lowercase())
            .map(String::as_str)
    }

    /// The body's media type, lower-case, without parameters; `None` where the request names none.
    #[must_use]
    pub fn media_type(&self) -> Option<String> {
        let essence = self.header("content-type")?.split(';').next()?.trim();
        (!essence.is_empty()).then(|| essence.to_ascii_lowercase())
    }

    /// The parts of the path between the slashes; none for `/`. An empty part is kept: `/a//b` is not `/a/b`.
    #[must_use]
    pub fn segments(&self) -> Vec<&str> {
        match self.path.strip_prefix('/').unwrap_or(&self.path) {
            "" => Vec::new(),
            path => path.split('/').collect(),
        }
    }

    /// Whether an event is an HTTP request of payload format 2.0.
    pub(in crate::cloud) fn is_event(event: &Value) -> bool {
        event
            .pointer("/requestContext/http/method")
            .is_some_and(Value::is_string)
    }

    /// Reads an event for which [`HttpRequest::is_event`] holds.
    ///
    /// # Errors
    ///
    /// What to answer where path, query or body cannot be read.
    pub(in crate::cloud) fn from_event(event: &Value) -> Result<Self, Problem> {
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
        let method = text("/requestContext/http/method").unwrap_or_default();
        let raw_path = text("/rawPath")
            .or_else(|| text("/requestContext/http/path"))
            .unwrap_or("/");
        // The HTTP API, whose routes have names such as `GET /health`, decodes the path itself but for `%25`, the
        // per cent sign; function URLs, whose only route is `$default`, leave all of it encoded.
        let decoded_already = text("/routeKey").is_some_and(|route| route.contains(' '));
        let path = without_stage(
            raw_path,
            text("/requestContext/stage").unwrap_or("$default"),
        );
        let path = if decoded_already {
            path.replace("%25", "%")
        } else {
            percent_decode_str(path)
                .decode_utf8()
                .map_err(|_| Problem::bad_request("the path is no UTF-8"))?
                .into_owned()
        };
        let parameters = event
            .get("queryStringParameters")
            .and_then(Value::as_object);
        let query = match (text("/rawQueryString"), parameters) {
            (Some(raw), _) if !raw.is_empty() => parse_query(raw)?,
            (_, Some(parameters)) => joined(parameters, str::to_owned),
            _ => BTreeMap::new(),
        };
        let headers = event.get("headers").and_then(Value::as_object);
        Ok(Self {
            method: method.to_ascii_uppercase(),
            path,
            query,
            headers: headers
                .map(|headers| joined(headers, str::to_ascii_lowercase))
                .unwrap_or_default(),
            body: body(event)?,
            request_id: text("/requestContext/requestId").map(str::to_owned),
        })
    }
}

/// The path without the name of a stage other than `$default`, which the gateway's own host name puts before it.
fn without_stage<'a>(path: &'a str, stage: &str) -> &'a str {
    let below = path
        .strip_prefix('/')
        .and_then(|path| path.strip_prefix(stage))
        .filter(|_| !stage.is_empty() && stage != "$default");
    match below {
        Some("") => "/",
        Some(below) if below.starts_with('/') => below,
        _ => path,
    }
}

/// Decodes a query as forms write it: `+` is a space, then `%XX`.
fn parse_query(raw: &str) -> Result<BTreeMap<String, String>, Problem> {
    let mut query = BTreeMap::new();
    for parameter in raw.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let decode = |text: &str| {
            form_decode(text).ok_or_else(|| Problem::bad_request("the query is no UTF-8"))
        };
        join(&mut query, decode(name)?, &decode(value)?);
    }
    Ok(query)
}

/// Decodes text as forms write it; `None` where the result is no UTF-8.
pub(in crate::cloud) fn form_decode(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode_str(&text)
        .decode_utf8()
        .ok()
        .map(Cow::into_owned)
}

/// The text values of an object, those whose names become equal joined.
fn joined(object: &Map<String, Value>, name: fn(&str) -> String) -> BTreeMap<String, String> {
    let mut map = BTreeMap::new();
    for (key, value) in object {
        if let Some(value) = value.as_str() {
            join(&mut map, name(key), value);
        }
    }
    map
}

fn join(map: &mut BTreeMap<String, String>, name: String, value: &str) {
    map.entry(name)
        .and_modify(|joined| {
            joined.push(',');
            joined.push_str(value);
        })
        .or_insert_with(|| value.to_owned());
}

fn body(event: &Value) -> Result<Vec<u8>, Problem> {
    let Some(text) = event.get("body").and_then(Value::as_str) else {
        return Ok(Vec::new());
    };
    let is_base64 = event.get("isBase64Encoded").and_then(Value::as_bool) == Some(true);
    // Four characters of base64 are at most three bytes: known before anything is decoded.
    let bytes = if is_base64 {
        text.len().div_ceil(4).saturating_mul(3)
    } else {
        text.len()
    };
    if bytes > MAX_REQUEST_BYTES {
        return Err(Problem::payload_too_large(format!(
            "a body has at most {MAX_REQUEST_BYTES} bytes; upload larger files to the uploads bucket"
        )));
    }
    if !is_base64 {
        return Ok(text.as_bytes().to_vec());
    }
    BASE64_STANDARD
        .decode(text)
        .map_err(|_| Problem::bad_request("the body is no base64, though it is said to be"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn event(raw_path: &str, stage: &str, route: &str) -> Value {
        json!({
            "version": "2.0",
            "routeKey": route,
            "rawPath": raw_path,
            "rawQueryString": "",
            "headers": {},
            "requestContext": {
                "http": { "method": "get", "path": raw_path },
                "requestId": "id",
                "stage": stage,
            },
            "isBase64Encoded": false,
        })
    }

    fn read(event: &Value) -> HttpRequest {
        assert!(HttpRequest::is_event(event));
        HttpRequest::from_event(event).unwrap()
    }

    #[test]
    fn the_stage_is_no_part_of_the_path() {
        for (raw, stage, path) in [
            ("/health", "$default", "/health"),
            ("/prod/health", "prod", "/health"),
            ("/prod", "prod", "/"),
            ("/prod/", "prod", "/"),
            ("/product", "prod", "/product"),
            // A domain name of one's own leads to the stage without naming it.
            ("/health", "prod", "/health"),
            ("/$default/x", "$default", "/$default/x"),
            ("/x", "", "/x"),
        ] {
            assert_eq!(read(&event(raw, stage, "GET /health")).path, path, "{raw}");
        }
    }

    #[test]
    fn only_function_urls_send_paths_that_are_encoded() {
        let of_url = read(&event(
            "/studies/a%20b/50%25%2F%C3%BC+",
            "$default",
            "$default",
        ));
        assert_eq!(of_url.path, "/studies/a b/50%/ü+");
        assert_eq!(of_url.segments(), ["studies", "a b", "50%", "ü+"]);
        let of_api = read(&event(
            "/studies/a b/50%25",
            "$default",
            "GET /studies/{study+}",
        ));
        assert_eq!(of_api.path, "/studies/a b/50%");
        let refused = HttpRequest::from_event(&event("/%FF", "$default", "$default"));
        assert_eq!(refused.unwrap_err().status(), 400);
    }

    #[test]
    fn segments_are_the_parts_between_the_slashes() {
        let segments = |path: &str| HttpRequest::new("get", path).segments().join("|");
        assert_eq!(segments("/"), "");
        assert_eq!(segments("/a/b"), "a|b");
        assert_eq!(segments("/a//b/"), "a||b|");
    }

    #[test]
    fn queries_are_decoded_as_forms_write_them() {
        let mut event = event("/x", "$default", "$default");
        event["rawQueryString"] = "a=1+2%2B3&b&&a=%C3%BC&c=x=y".into();
        let query = read(&event).query;
        let expected = [("a", "1 2+3,ü"), ("b", ""), ("c", "x=y")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(query, BTreeMap::from(expected));
        event["rawQueryString"] = "a=%FF".into();
        assert_eq!(HttpRequest::from_event(&event).unwrap_err().status(), 400);
        event["rawQueryString"] = Value::Null;
        event["queryStringParameters"] = json!({ "a": "1 2" });
        assert_eq!(read(&event).query["a"], "1 2");
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let mut event = event("/x", "$default", "$default");
        event["headers"] =
            json!({ "Content-Type": "Image/TIFF; a=b", "X": 1, "accept": "a/b", "Accept": "c/d" });
        let request = read(&event);
        assert_eq!(request.header("CONTENT-TYPE"), Some("Image/TIFF; a=b"));
        assert_eq!(request.media_type().as_deref(), Some("image/tiff"));
        assert_eq!(request.header("x"), None);
        assert_eq!(request.header("accept").unwrap().len(), "a/b,c/d".len());
        assert_eq!(request.method, "GET");
        assert_eq!(request.request_id.as_deref(), Some("id"));
        assert_eq!(HttpRequest::new("GET", "/").media_type(), None);
    }

    #[test]
    fn bodies_come_as_text_or_in_base64() {
        let mut event = event("/x", "$default", "$default");
        let body = |event: &Value| HttpRequest::from_event(event).map(|request| request.body);
        assert_eq!(body(&event).unwrap(), b"");
        event["body"] = "ü".into();
        assert_eq!(body(&event).unwrap(), "ü".as_bytes());
        event["isBase64Encoded"] = true.into();
        assert_eq!(body(&event).unwrap_err().status(), 400);
        event["body"] = "AP8K".into();
        assert_eq!(body(&event).unwrap(), [0, 255, 10]);
    }

    #[test]
    fn bodies_are_bounded_before_they_are_decoded() {
        let mut event = event("/x", "$default", "$default");
        let status =
            |event: &Value| HttpRequest::from_event(event).map_err(|problem| problem.status());
        event["body"] = "a".repeat(MAX_REQUEST_BYTES).into();
        assert_eq!(status(&event).unwrap().body.len(), MAX_REQUEST_BYTES);
        event["body"] = "a".repeat(MAX_REQUEST_BYTES + 1).into();
        assert_eq!(status(&event).unwrap_err(), 413);
        event["isBase64Encoded"] = true.into();
        // Were it decoded first, the answer would be that it is no base64.
        event["body"] = "!".repeat(MAX_REQUEST_BYTES / 3 * 4 + 1).into();
        assert_eq!(status(&event).unwrap_err(), 413);
        event["body"] = "AAAA".repeat(MAX_REQUEST_BYTES / 3).into();
        assert_eq!(status(&event).unwrap().body.len(), MAX_REQUEST_BYTES);
    }
}
