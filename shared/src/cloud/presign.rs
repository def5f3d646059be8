//! Links that let their holder read or write one object for a while, without credentials of the holder's own.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, SdkError};
use aws_sdk_s3::presigning::{PresignedRequest, PresigningConfig};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{FolderStorage, ObjectKey, S3Storage, StorageError};

/// What errors call the operation.
const SIGN: &str = "sign a link to";

/// What an upload link binds its user to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadTerms {
    /// The exact length of the body in bytes; any where `None`.
    pub content_length: Option<u64>,
    /// The exact `Content-Type`; any where `None`.
    pub content_type: Option<String>,
}

/// A request that is signed already: whoever sends it as it is may do what it says.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedRequest {
    /// `GET` or `PUT`.
    pub method: String,
    /// The address, signature included: a secret until it expires.
    pub url: String,
    /// Headers that belong to the signature, to be sent with these very values; lower-case names.
    pub headers: BTreeMap<String, String>,
    /// How long the request is good for from now on.
    pub expires_in: Duration,
}

impl fmt::Debug for SignedRequest {
    /// Leaves the address out: it would end up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedRequest")
            .field("method", &self.method)
            .field("headers", &self.headers)
            .field("expires_in", &self.expires_in)
            .finish_non_exhaustive()
    }
}

/// A store that can hand out links to its objects.
pub trait Presign: Send + Sync {
    /// A link to read an object; that there is one is not asked.
    ///
    /// # Errors
    ///
    /// [`StorageError::Failed`] where the store cannot sign, or not for so long: S3 signs for 1 second to 7 days.
    fn presign_get(
        &self,
        key: &ObjectKey,
        expires_in: Duration,
    ) -> impl Future<Output = Result<SignedRequest, StorageError>> + Send;

    /// A link to write an object once or many times, whatever is there.
    ///
    /// # Errors
    ///
    /// As [`Presign::presign_get`].
    fn presign_put(
        &self,
        key: &ObjectKey,
        expires_in: Duration,
        terms: &UploadTerms,
    ) -> impl Future<Output = Result<SignedRequest, StorageError>> + Send;
}

impl Presign for S3Storage {
    async fn presign_get(
        &self,
        key: &ObjectKey,
        expires_in: Duration,
    ) -> Result<SignedRequest, StorageError> {
        let signed = self
            .client()
            .get_object()
            .bucket(self.bucket())
            .key(self.full_key(key.as_str()))
            .presigned(signing(key, expires_in)?)
            .await
            .map_err(|error| sdk_error(key, &error))?;
        Ok(signed_request(&signed, expires_in))
    }

    async fn presign_put(
        &self,
        key: &ObjectKey,
        expires_in: Duration,
        terms: &UploadTerms,
    ) -> Result<SignedRequest, StorageError> {
        let length = terms
            .content_length
            .map(i64::try_from)
            .transpose()
            .map_err(|_| failed(key, "no body has so many bytes".to_owned()))?;
        let signed = self
            .client()
            .put_object()
            .bucket(self.bucket())
            .key(self.full_key(key.as_str()))
            .set_content_length(length)
            .set_content_type(terms.content_type.clone())
            .presigned(signing(key, expires_in)?)
            .await
            .map_err(|error| sdk_error(key, &error))?;
        Ok(signed_request(&signed, expires_in))
    }
}

/// A folder's links are `file:` addresses: who may use the folder may use them, at any time and on any terms.
impl Presign for FolderStorage {
    async fn presign_get(
        &self,
        key: &ObjectKey,
        expires_in: Duration,
    ) -> Result<SignedRequest, StorageError> {
        file_request("GET", &self.file_of(key)?, key, expires_in)
    }

    async fn presign_put(
        &self,
        key: &ObjectKey,
        expires_in: Duration,
        _terms: &UploadTerms,
    ) -> Result<SignedRequest, StorageError> {
        file_request("PUT", &self.file_of(key)?, key, expires_in)
    }
}

/// What `file:` addresses carry unescaped: RFC 3986's unreserved characters and the separator.
const FILE_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

fn file_request(
    method: &str,
    file: &Path,
    key: &ObjectKey,
    expires_in: Duration,
) -> Result<SignedRequest, StorageError> {
    let file = std::path::absolute(file).map_err(|error| failed(key, error.to_string()))?;
    let path = file
        .to_str()
        .ok_or_else(|| failed(key, "the folder's name is no UTF-8".to_owned()))?;
    Ok(SignedRequest {
        method: method.to_owned(),
        url: format!("file://{}", utf8_percent_encode(path, FILE_PATH)),
        headers: BTreeMap::new(),
        expires_in,
    })
}

fn signing(key: &ObjectKey, expires_in: Duration) -> Result<PresigningConfig, StorageError> {
    if expires_in.is_zero() {
        return Err(failed(
            key,
            "a link must last a second or longer".to_owned(),
        ));
    }
    PresigningConfig::expires_in(expires_in).map_err(|error| failed(key, error.to_string()))
}

fn signed_request(signed: &PresignedRequest, expires_in: Duration) -> SignedRequest {
    SignedRequest {
        method: signed.method().to_owned(),
        url: signed.uri().to_owned(),
        headers: signed
            .headers()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            // Inside a Lambda the SDK adds its trace to every request, after signing: of no use to who follows the link.
            .filter(|(name, _)| name != "x-amzn-trace-id")
            .collect(),
        expires_in,
    }
}

/// Signing asks no server but one for credentials, and these may be there a moment later.
fn sdk_error<E: Error + 'static>(
    key: &ObjectKey,
    error: &SdkError<E, HttpResponse>,
) -> StorageError {
    let reason = DisplayErrorContext(error).to_string();
    match error {
        SdkError::ConstructionFailure(_) => failed(key, reason),
        _ => StorageError::Unavailable {
            operation: SIGN,
            key: key.to_string(),
            reason,
        },
    }
}

fn failed(key: &ObjectKey, reason: String) -> StorageError {
    StorageError::Failed {
        operation: SIGN,
        key: key.to_string(),
        reason,
    }
}
