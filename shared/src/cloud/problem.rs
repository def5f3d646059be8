//! What an HTTP caller is told when it did not get what it asked for: problem details of RFC 9457.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::http::HttpResponse;

/// The content type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A problem in the sense of RFC 9457, of type `about:blank`: its title is the status' own.
///
/// ```
/// use glioseg_shared::cloud::Problem;
///
/// let problem = Problem::not_found("there is no study s1");
/// assert_eq!(
///     serde_json::to_value(problem).unwrap(),
///     serde_json::json!({
///         "type": "about:blank",
///         "title": "Not Found",
///         "status": 404,
///         "detail": "there is no study s1",
///     })
/// );
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    status: u16,
    detail: String,
    header: Option<(&'static str, String)>,
    members: Map<String, Value>,
}

impl Problem {
    fn new(status: u16, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            header: None,
            members: Map::new(),
        }
    }

    /// 400: the request cannot be understood.
    #[must_use]
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(400, detail)
    }

    /// 403: the request names what its sender may not have.
    #[must_use]
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(403, detail)
    }

    /// 404: there is no such thing.
    #[must_use]
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, detail)
    }

    /// 405 with `Allow`: the path takes only these methods.
    #[must_use]
    pub fn method_not_allowed(allowed: &[&str]) -> Self {
        let allowed = allowed.join(", ");
        Self::new(405, format!("this path takes {allowed}")).with_header("allow", allowed)
    }

    /// 406: nothing that is on offer is accepted.
    #[must_use]
    pub fn not_acceptable(detail: impl Into<String>) -> Self {
        Self::new(406, detail)
    }

    /// 409: the thing is in another state than the request takes for granted.
    #[must_use]
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(409, detail)
    }

    /// 413: the request, or its answer, has too many bytes.
    #[must_use]
    pub fn payload_too_large(detail: impl Into<String>) -> Self {
        Self::new(413, detail)
    }

    /// 415 with `Accept`: the body is of none of these media types.
    #[must_use]
    pub fn unsupported_media_type(supported: &[&str]) -> Self {
        let supported = supported.join(", ");
        Self::new(415, format!("send one of {supported} as content-type"))
            .with_header("accept", supported)
    }

    /// 422: the body is of the right form, and its content cannot be used.
    #[must_use]
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(422, detail)
    }

    /// 429 with `Retry-After`: too many requests.
    #[must_use]
    pub fn too_many(detail: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, detail).with_header("retry-after", retry_after_seconds.to_string())
    }

    /// 500: a fault of this side that waiting does not cure.
    #[must_use]
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(500, detail)
    }

    /// 503 with `Retry-After`: not for the moment.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(503, detail).with_header("retry-after", retry_after_seconds.to_string())
    }

    /// Adds an extension member; RFC 9457's own members keep their meaning and cannot be set.
    #[must_use]
    pub fn with_member(mut self, name: &str, value: impl Into<Value>) -> Self {
        if !matches!(name, "type" | "title" | "status" | "detail" | "instance") {
            self.members.insert(name.to_owned(), value.into());
        }
        self
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// What is wrong with this very request, and what to do.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The problem as a response.
    #[must_use]
    pub fn into_response(self) -> HttpResponse {
        let response = HttpResponse::new(
            self.status,
            PROBLEM_JSON,
            self.document().to_string().into(),
        );
        match self.header {
            Some((name, value)) => response.with_header(name, value),
            None => response,
        }
    }

    fn with_header(mut self, name: &'static str, value: String) -> Self {
        self.header = Some((name, value));
        self
    }

    fn document(&self) -> Value {
        let mut members = self.members.clone();
        members.insert("type".to_owned(), "about:blank".into());
        members.insert("title".to_owned(), title(self.status).into());
        members.insert("status".to_owned(), self.status.into());
        members.insert("detail".to_owned(), self.detail.clone().into());
        Value::Object(members)
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.document().serialize(serializer)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status, title(self.status), self.detail)
    }
}

impl std::error::Error for Problem {}

impl From<Problem> for HttpResponse {
    fn from(problem: Problem) -> Self {
        problem.into_response()
    }
}

/// The status' reason phrase (RFC 9110, section 15), which RFC 9457 asks for as the title of `about:blank`.
fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_problem_is_a_document_of_rfc_9457() {
        let problems = [
            (Problem::bad_request("d"), 400, "Bad Request"),
            (Problem::forbidden("d"), 403, "Forbidden"),
            (Problem::not_found("d"), 404, "Not Found"),
            (
                Problem::method_not_allowed(&["GET", "POST"]),
                405,
                "Method Not Allowed",
            ),
            (Problem::not_acceptable("d"), 406, "Not Acceptable"),
            (Problem::conflict("d"), 409, "Conflict"),
            (Problem::payload_too_large("d"), 413, "Content Too Large"),
            (
                Problem::unsupported_media_type(&["image/tiff"]),
                415,
                "Unsupported Media Type",
            ),
            (Problem::unprocessable("d"), 422, "Unprocessable Content"),
            (Problem::too_many("d", 3), 429, "Too Many Requests"),
            (Problem::internal("d"), 500, "Internal Server Error"),
            (Problem::unavailable("d", 5), 503, "Service Unavailable"),
        ];
        for (problem, status, title) in problems {
            let text = problem.to_string();
            let response = problem.clone().into_response();
            assert_eq!(response.status, status);
            assert_eq!(response.header("content-type"), Some(PROBLEM_JSON));
            let document: Value = serde_json::from_slice(&response.body).unwrap();
            assert_eq!(document["type"], "about:blank");
            assert_eq!(document["title"], title);
            assert_eq!(document["status"], status);
            assert_eq!(document["detail"], problem.detail());
            assert_eq!(text, format!("{status} {title}: {}", problem.detail()));
        }
    }

    #[test]
    fn headers_say_what_would_be_taken_and_when() {
        let header = |problem: Problem, name: &str| {
            problem
                .into_response()
                .header(name)
                .map(str::to_owned)
                .unwrap()
        };
        let allow = Problem::method_not_allowed(&["GET", "DELETE"]);
        assert_eq!(header(allow, "Allow"), "GET, DELETE");
        let accept = Problem::unsupported_media_type(&["image/tiff", "image/png"]);
        assert_eq!(header(accept, "Accept"), "image/tiff, image/png");
        assert_eq!(header(Problem::too_many("d", 7), "Retry-After"), "7");
        assert_eq!(header(Problem::unavailable("d", 9), "Retry-After"), "9");
    }

    #[test]
    fn members_of_ones_own_are_beside_the_standard_ones() {
        let problem = Problem::conflict("d")
            .with_member("notice", "n")
            .with_member("status", 200);
        let document = serde_json::to_value(problem).unwrap();
        assert_eq!(
            (&document["notice"], &document["status"]),
            (&"n".into(), &409.into())
        );
    }
}
