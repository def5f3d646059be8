//! What must hold of an object for a request to be granted.

use hyper::HeaderMap;
use hyper::header::{ETAG, HeaderValue};
use s3s::dto::{ETag, ETagCondition};
use s3s::{S3Result, s3_error};

/// What must hold of the object that a write replaces.
#[derive(Clone, Debug, Default)]
pub(super) struct WriteCondition {
    /// `If-Match`.
    matching: Option<ETagCondition>,
    /// `If-None-Match`; S3 takes nothing but `*` here.
    absent: bool,
}

impl WriteCondition {
    /// Takes the conditions out of a request.
    pub(super) fn take(
        if_match: &mut Option<ETagCondition>,
        if_none_match: &mut Option<ETagCondition>,
    ) -> S3Result<Self> {
        let absent = if_none_match.take();
        if absent.as_ref().is_some_and(|condition| !condition.is_any()) {
            return Err(s3_error!(
                NotImplemented,
                "If-None-Match of a write takes * only"
            ));
        }
        Ok(Self {
            matching: if_match.take(),
            absent: absent.is_some(),
        })
    }

    /// Whether there is nothing to check.
    pub(super) fn is_empty(&self) -> bool {
        self.matching.is_none() && !self.absent
    }

    /// Holds it against the object's present state.
    pub(super) fn check(&self, present: Option<&ETag>) -> S3Result<()> {
        let holds = match (&self.matching, present) {
            (None, _) => true,
            (Some(ETagCondition::Any), present) => present.is_some(),
            (Some(ETagCondition::ETag(expected)), Some(present)) => present.strong_cmp(expected),
            (Some(ETagCondition::ETag(_)), None) => return Err(s3_error!(NoSuchKey)),
        };
        if holds && !(self.absent && present.is_some()) {
            Ok(())
        } else {
            Err(s3_error!(PreconditionFailed))
        }
    }
}

/// Holds the conditions of a read against the object's state, by the precedence of RFC 9110, section 13.2.2.
pub(super) fn check_read(
    present: Option<&ETag>,
    matching: Option<&ETagCondition>,
    changed: Option<&ETagCondition>,
) -> S3Result<()> {
    let Some(present) = present else {
        return Ok(());
    };
    if let Some(ETagCondition::ETag(expected)) = matching
        && !present.strong_cmp(expected)
    {
        return Err(s3_error!(PreconditionFailed));
    }
    let unchanged = match changed {
        None => false,
        Some(ETagCondition::Any) => true,
        Some(ETagCondition::ETag(known)) => present.weak_cmp(known),
    };
    if unchanged {
        let mut error = s3_error!(NotModified);
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", present.value())) {
            error.set_headers(HeaderMap::from_iter([(ETAG, tag)]));
        }
        return Err(error);
    }
    Ok(())
}
