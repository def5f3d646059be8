//! What goes wrong with a call, and whether it passes.

use std::error::Error;

use serde_json::Value;

/// A call that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Nothing says which region is meant.
    #[error("no AWS region: set AWS_REGION, or name one in the profile")]
    NoRegion,
    /// Nobody to sign as.
    #[error("no AWS credentials: {0}")]
    NoCredentials(String),
    /// A request that cannot be made, such as one to an endpoint that is no URL.
    #[error("{operation} of {endpoint}: the request cannot be made: {reason}")]
    Unsendable {
        /// The call.
        operation: &'static str,
        /// Where to.
        endpoint: String,
        /// Why not.
        reason: String,
    },
    /// The service understood, and said no.
    #[error("{operation}: {code}: {message}")]
    Refused {
        /// The call.
        operation: &'static str,
        /// AWS's code of the error.
        code: String,
        /// AWS's words.
        message: String,
        /// Which attempt this was the answer to, from 1.
        attempt: u32,
    },
    /// The service was busy, failed or was out of reach, as often as it was asked.
    #[error(
        "{operation}: {reason}; asked {attempts} times in vain, but trying again later can help"
    )]
    Unavailable {
        /// The call.
        operation: &'static str,
        /// What the last attempt met.
        reason: String,
        /// How many attempts were made.
        attempts: u32,
    },
    /// An answer that means nothing here.
    #[error("{operation}: the answer cannot be read: {reason}")]
    Unreadable {
        /// The call.
        operation: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl CallError {
    /// Whether the same call can succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// Whether the service refused with this code.
    #[must_use]
    pub fn has_code(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == wanted)
    }
}

/// What an error answer says.
pub(super) struct Complaint {
    pub(super) code: String,
    pub(super) message: String,
}

/// The code and the words of an error answer.
///
/// The code is the header's, else `__type`'s, without a namespace before `#` and an address after `:`. Source: the AWS
/// JSON 1.1 protocol of Smithy, "Operation error serialization".
pub(super) fn complaint(status: u16, header: Option<&str>, body: &[u8]) -> Complaint {
    let document: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    let code = header.or_else(|| text("__type")).unwrap_or_default();
    let code = code.split(':').next().unwrap_or(code);
    let code = code.rsplit('#').next().unwrap_or(code);
    Complaint {
        code: match code {
            "" => format!("status {status}"),
            code => code.to_owned(),
        },
        message: text("message")
            .or_else(|| text("Message"))
            .unwrap_or("the service gives no reason")
            .to_owned(),
    }
}

/// Whether the same request may succeed a little later.
///
/// Source: the AWS SDKs and Tools Reference Guide, "Retry behavior": transient errors and throttling.
pub(super) fn is_passing(status: u16, code: &str) -> bool {
    matches!(status, 429 | 500 | 502 | 503 | 504)
        || matches!(
            code,
            "Throttling"
                | "ThrottlingException"
                | "ThrottledException"
                | "RequestThrottled"
                | "RequestThrottledException"
                | "TooManyRequestsException"
                | "RequestLimitExceeded"
                | "BandwidthLimitExceeded"
                | "LimitExceededException"
                | "SlowDown"
                | "PriorRequestNotComplete"
                | "TransactionInProgressException"
                | "RequestTimeout"
                | "RequestTimeoutException"
                | "ServiceUnavailable"
                | "ServiceUnavailableException"
                | "InternalFailure"
                | "InternalError"
        )
}

/// An error with what caused it, as one line.
pub(super) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_from_header_and_body() {
        let of = |header, body: &str| {
            let said = complaint(400, header, body.as_bytes());
            (said.code, said.message)
        };
        let words = |code: &str, message: &str| (code.to_owned(), message.to_owned());
        assert_eq!(
            of(
                None,
                r#"{"__type":"com.amazonaws.sagemaker#ResourceInUse","Message":"m"}"#
            ),
            words("ResourceInUse", "m")
        );
        assert_eq!(
            of(
                Some("ValidationException:http://internal.amazon.com/coral/"),
                r#"{"__type":"Other","message":"m"}"#
            ),
            words("ValidationException", "m")
        );
        assert_eq!(
            of(None, "<html>bad gateway</html>"),
            words("status 400", "the service gives no reason")
        );
    }

    #[test]
    fn what_passes_by_itself_is_told_from_what_does_not() {
        for (status, code) in [
            (400, "ThrottlingException"),
            (429, "status 429"),
            (500, "InternalFailure"),
            (503, "status 503"),
        ] {
            assert!(is_passing(status, code), "{status} {code}");
        }
        for (status, code) in [
            (400, "ValidationException"),
            (400, "ResourceInUse"),
            // A quota of instances, which only AWS raises.
            (400, "ResourceLimitExceeded"),
            (403, "AccessDeniedException"),
            (501, "NotImplemented"),
        ] {
            assert!(!is_passing(status, code), "{status} {code}");
        }
    }
}
