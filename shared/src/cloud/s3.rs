//! Objects in a bucket of S3, or of a service that speaks its protocol.

use std::error::Error;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::BehaviorVersion;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;

use super::storage::{
    Condition, ETag, Entry, Head, MAX_PAGE, Metadata, Object, ObjectKey, Page, Storage,
    StorageError, check_metadata,
};

/// What the standard AWS environment and files say. Clients made from one reading share connections and credentials.
pub async fn aws_environment() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .load()
        .await
}

/// A client for all buckets of one account.
///
/// Where the environment names an endpoint (`AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_S3`), buckets are addressed by path:
/// services other than AWS seldom have a host name for each bucket.
#[must_use]
pub fn s3_client(aws: &SdkConfig) -> Client {
    let own_endpoint =
        aws.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some();
    let config = aws_sdk_s3::config::Builder::from(aws)
        .force_path_style(own_endpoint)
        .build();
    Client::from_conf(config)
}

/// Objects in a bucket, all keys below one prefix.
#[derive(Clone, Debug)]
pub struct S3Storage {
    client: Client,
    bucket: String,
    prefix: Option<ObjectKey>,
    may_list: bool,
}

impl S3Storage {
    /// A store over a client that is configured already. Nothing is asked of the bucket yet.
    #[must_use]
    pub fn new(client: Client, bucket: impl Into<String>, prefix: Option<ObjectKey>) -> Self {
        Self {
            client,
            bucket: bucket.into(),
            prefix,
            may_list: true,
        }
    }

    /// The same store for a role that may not list the bucket.
    ///
    /// S3 tells such a role that an object is forbidden (403) where it is absent, so as not to say what is there. Here
    /// a read that is denied counts as [`StorageError::NotFound`] then. A write cannot be misled by that: one that takes
    /// a hidden object for absent asks for [`Condition::IfAbsent`], and S3 refuses it.
    #[must_use]
    pub fn without_listing(self) -> Self {
        Self {
            may_list: false,
            ..self
        }
    }

    fn denied_is_absent(&self, error: StorageError) -> StorageError {
        match error {
            StorageError::Denied { key, .. } if !self.may_list => StorageError::NotFound { key },
            other => other,
        }
    }

    /// A store over a client of its own: [`s3_client`] of the [`aws_environment`].
    pub async fn connect(bucket: impl Into<String>, prefix: Option<ObjectKey>) -> Self {
        Self::new(s3_client(&aws_environment().await), bucket, prefix)
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn bucket(&self) -> &str {
        &self.bucket
    }

    pub(super) fn full_key(&self, key: &str) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}/{key}"),
            None => key.to_owned(),
        }
    }

    async fn read(
        &self,
        key: &ObjectKey,
        known: Option<&ETag>,
        max_bytes: u64,
    ) -> Result<Option<Object>, StorageError> {
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.full_key(key.as_str()))
            .set_if_none_match(known.map(|etag| etag.as_str().to_owned()));
        let output = match request.send().await {
            Ok(output) => output,
            Err(error) if known.is_some() && status(&error) == Some(304) => return Ok(None),
            Err(error) => {
                let error = storage_error(&error, "read", key.as_str());
                return Err(self.denied_is_absent(error));
            }
        };
        let etag = etag_of(output.e_tag(), "read", key)?;
        // Some services ignore the condition and send the object.
        if known == Some(&etag) {
            return Ok(None);
        }
        let metadata = metadata_of(output.metadata());
        let bytes = collect(output, key, max_bytes).await?;
        Ok(Some(Object {
            bytes,
            etag,
            metadata,
        }))
    }
}

impl Storage for S3Storage {
    async fn get(&self, key: &ObjectKey, max_bytes: u64) -> Result<Object, StorageError> {
        self.read(key, None, max_bytes)
            .await?
            .ok_or_else(|| StorageError::NotFound {
                key: key.to_string(),
            })
    }

    async fn get_if_changed(
        &self,
        key: &ObjectKey,
        known: &ETag,
        max_bytes: u64,
    ) -> Result<Option<Object>, StorageError> {
        self.read(key, Some(known), max_bytes).await
    }

    async fn put(
        &self,
        key: &ObjectKey,
        bytes: Vec<u8>,
        condition: Condition,
        metadata: &Metadata,
    ) -> Result<ETag, StorageError> {
        check_metadata(metadata)?;
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.full_key(key.as_str()))
            .set_metadata(
                Some(
                    metadata
                        .iter()
                        .map(|(name, value)| (name.clone(), value.clone()))
                        .collect(),
                )
                .filter(|_| !metadata.is_empty()),
            )
            .body(ByteStream::from(bytes));
        let request = match &condition {
            Condition::Always => request,
            Condition::IfAbsent => request.if_none_match("*"),
            Condition::IfMatch(etag) => request.if_match(etag.as_str()),
        };
        match request.send().await {
            Ok(output) => etag_of(output.e_tag(), "write", key),
            Err(error) => Err(
                match (storage_error(&error, "write", key.as_str()), &condition) {
                    // S3 says 404 where the object that should match has been deleted.
                    (StorageError::NotFound { key }, Condition::IfMatch(_)) => {
                        StorageError::PreconditionFailed { key }
                    }
                    (other, _) => other,
                },
            ),
        }
    }

    async fn head(&self, key: &ObjectKey) -> Result<Head, StorageError> {
        let output = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(self.full_key(key.as_str()))
            .send()
            .await
            .map_err(|error| self.denied_is_absent(storage_error(&error, "read", key.as_str())))?;
        Ok(Head {
            size: output
                .content_length()
                .and_then(|size| u64::try_from(size).ok())
                .unwrap_or(0),
            etag: etag_of(output.e_tag(), "read", key)?,
            metadata: metadata_of(output.metadata()),
        })
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Page, StorageError> {
        let limit = limit.clamp(1, MAX_PAGE);
        let mut entries = Vec::new();
        let mut passed_over = 0;
        let mut continuation = None;
        // More than one turn only where some keys of a page are no keys here, such as a console's folder markers.
        loop {
            let output = self
                .client
                .list_objects_v2()
                .bucket(&self.bucket)
                .prefix(self.full_key(prefix))
                .set_start_after(after.map(|after| self.full_key(after.as_str())))
                .set_continuation_token(continuation.take())
                .max_keys(i32::try_from(limit - entries.len()).unwrap_or(i32::MAX))
                .send()
                .await
                .map_err(|error| storage_error(&error, "list", prefix))?;
            let base = self.full_key("");
            let before = entries.len();
            entries.extend(output.contents().iter().filter_map(|object| {
                let key = ObjectKey::parse(object.key()?.strip_prefix(&base)?).ok()?;
                Some(Entry {
                    key,
                    size: u64::try_from(object.size().unwrap_or(0)).unwrap_or(0),
                })
            }));
            passed_over += output.contents().len() - (entries.len() - before);
            continuation = output.next_continuation_token().map(str::to_owned);
            let more = output.is_truncated() == Some(true) && continuation.is_some();
            if !more || entries.len() >= limit {
                let next = entries
                    .last()
                    .filter(|_| more)
                    .map(|entry| entry.key.clone());
                return Ok(Page {
                    entries,
                    passed_over,
                    next,
                });
            }
        }
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError> {
        let deleted = self
            .client
            .delete_object()
            .bucket(&self.bucket)
            .key(self.full_key(key.as_str()))
            .send()
            .await;
        match deleted.map_err(|error| storage_error(&error, "delete", key.as_str())) {
            Err(error) if !error.is_not_found() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// Reads the body, never holding more than `max_bytes` of it.
async fn collect(
    mut output: GetObjectOutput,
    key: &ObjectKey,
    max_bytes: u64,
) -> Result<Vec<u8>, StorageError> {
    let too_large = || StorageError::TooLarge {
        key: key.to_string(),
        allowed: max_bytes,
    };
    let announced = output
        .content_length()
        .and_then(|size| u64::try_from(size).ok())
        .unwrap_or(0);
    if announced > max_bytes {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(announced).map_err(|_| too_large())?);
    while let Some(part) =
        output
            .body
            .try_next()
            .await
            .map_err(|error| StorageError::Unavailable {
                operation: "read",
                key: key.to_string(),
                reason: DisplayErrorContext(error).to_string(),
            })?
    {
        if (bytes.len() as u64).saturating_add(part.len() as u64) > max_bytes {
            return Err(too_large());
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

fn etag_of(
    etag: Option<&str>,
    operation: &'static str,
    key: &ObjectKey,
) -> Result<ETag, StorageError> {
    etag.map(ETag::new).ok_or_else(|| StorageError::Failed {
        operation,
        key: key.to_string(),
        reason: "the service sent no ETag".to_owned(),
    })
}

fn metadata_of(metadata: Option<&std::collections::HashMap<String, String>>) -> Metadata {
    metadata
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error
        .raw_response()
        .map(|response| response.status().as_u16())
}

/// Translates what the SDK met, after the retries of its own.
fn storage_error<E>(
    error: &SdkError<E, HttpResponse>,
    operation: &'static str,
    key: &str,
) -> StorageError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let key = key.to_owned();
    let passing = match error {
        SdkError::ServiceError(service) => {
            let meta = service.err().meta();
            return service_error(
                service.raw().status().as_u16(),
                meta.code(),
                meta.message(),
                operation,
                key,
            );
        }
        // The connection broke, or the response is incomplete.
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => true,
        SdkError::DispatchFailure(failure) => {
            // The SDK gives a kind to those other failures alone that it would try again: a connection that ended
            // before the answer is one.
            failure.is_io() || failure.is_timeout() || failure.as_other().is_some()
        }
        _ => false,
    };
    let reason = DisplayErrorContext(error).to_string();
    if passing {
        StorageError::Unavailable {
            operation,
            key,
            reason,
        }
    } else {
        StorageError::Failed {
            operation,
            key,
            reason,
        }
    }
}

/// The meaning of an error response: of its status, and of S3's error code where the status is shared by several.
///
/// Source: "Error responses" of the Amazon S3 API reference, and "How to prevent object overwrites with conditional
/// writes" of the user guide for 409 and 412.
fn service_error(
    status: u16,
    code: Option<&str>,
    message: Option<&str>,
    operation: &'static str,
    key: String,
) -> StorageError {
    let reason = match (code, message) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(text), None) | (None, Some(text)) => text.to_owned(),
        (None, None) => format!("status {status}"),
    };
    match (status, code) {
        (404, Some("NoSuchBucket")) => StorageError::Failed {
            operation,
            key,
            reason,
        },
        (404, _) => StorageError::NotFound { key },
        (412, _) => StorageError::PreconditionFailed { key },
        (409, None | Some("ConditionalRequestConflict" | "OperationAborted")) => {
            StorageError::Conflict { key }
        }
        (
            _,
            Some(
                "SlowDown"
                | "RequestTimeout"
                | "Throttling"
                | "ThrottlingException"
                | "RequestLimitExceeded",
            ),
        )
        | (408 | 429 | 500.., _) => StorageError::Unavailable {
            operation,
            key,
            reason,
        },
        (401 | 403, _) => StorageError::Denied {
            operation,
            key,
            reason,
        },
        _ => StorageError::Failed {
            operation,
            key,
            reason,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_mean_what_the_api_reference_says() {
        let error = |status, code| service_error(status, code, None, "write", "k".to_owned());
        assert!(error(404, Some("NoSuchKey")).is_not_found());
        // The answer to HEAD has no body, so no code.
        assert!(error(404, None).is_not_found());
        assert!(!error(404, Some("NoSuchBucket")).is_not_found());
        assert!(error(412, Some("PreconditionFailed")).is_precondition_failed());
        assert!(!error(412, None).is_retryable());
        assert!(matches!(
            error(409, Some("ConditionalRequestConflict")),
            StorageError::Conflict { .. }
        ));
        assert!(matches!(
            error(409, Some("InvalidBucketState")),
            StorageError::Failed { .. }
        ));
        for (status, code) in [
            (503, Some("SlowDown")),
            (500, Some("InternalError")),
            (502, None),
            (429, None),
            (400, Some("RequestTimeout")),
        ] {
            assert!(error(status, code).is_retryable(), "{status} {code:?}");
        }
        assert!(matches!(
            error(403, Some("AccessDenied")),
            StorageError::Denied { .. }
        ));
        assert!(matches!(
            error(400, Some("InvalidRequest")),
            StorageError::Failed { .. }
        ));
    }
}
