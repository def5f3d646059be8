//! Requests over HTTP: links to upload with, and whether the function is up.

use std::collections::{BTreeMap, HashSet};

use futures_util::{StreamExt, TryStreamExt, stream};
use glioseg_shared::cloud::keys::{self, StudyId, UploadKind};
use glioseg_shared::cloud::{
    HttpRequest, HttpResponse, ObjectKey, Presign, Problem, SignedRequest, Storage, StorageError,
    UploadTerms,
};
use glioseg_shared::model::contract::NOTICE;
use serde::{Deserialize, Serialize};

use crate::{FUNCTION, Preprocess};

/// Most files that links are made for at once: the answer stays far below what can be sent.
pub const MAX_FILES: usize = 1000;

/// Most bytes of a request.
const MAX_REQUEST_BYTES: usize = 1 << 20;

/// Links that are signed at once.
const SIGNED: usize = 16;

/// After how many seconds to ask again where links cannot be signed for the moment.
const RETRY_AFTER_SECONDS: u32 = 5;

/// The body of `POST /uploads`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadsRequest {
    /// The study that the files belong to.
    pub study: StudyId,
    /// The files: 1 to [`MAX_FILES`].
    pub files: Vec<FileRequest>,
}

/// A file to be uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRequest {
    /// Its name: `<slice>.tif`, `<slice>_mask.tif`, `study.json`, or `<study>.zip` after the last part of the study's
    /// name.
    pub name: String,
    /// Its exact length in bytes; the link takes no other then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
}

/// The answer to `POST /uploads`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UploadLinks {
    /// The study that the files belong to.
    pub study: StudyId,
    /// How long the links are good for.
    pub expires_seconds: u64,
    /// Most bytes that a file may have.
    pub max_bytes: u64,
    /// The links, in the order of the request.
    pub files: Vec<UploadLink>,
    /// Limits of use.
    pub notice: &'static str,
}

/// How to upload a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UploadLink {
    /// The name of the file.
    pub name: String,
    /// The key that it will have in the uploads bucket.
    pub key: String,
    /// The method of the request.
    pub method: String,
    /// Where to send it, signature included: a secret until it expires.
    pub url: String,
    /// Headers that have to be sent with it.
    pub headers: BTreeMap<String, String>,
}

/// The answer to `GET /health`.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    function: &'static str,
    version: &'static str,
    notice: &'static str,
}

impl<S: Storage + Presign> Preprocess<S> {
    /// Answers a request.
    pub async fn on_http(&self, request: &HttpRequest) -> HttpResponse {
        let answer = match (request.method.as_str(), &request.segments()[..]) {
            ("GET", ["health"] | ["health", FUNCTION]) => Ok(health()),
            (_, ["health"] | ["health", FUNCTION]) => Err(Problem::method_not_allowed(&["GET"])),
            ("POST", ["uploads"]) => self.links(request).await,
            (_, ["uploads"]) => Err(Problem::method_not_allowed(&["POST"])),
            _ => Err(Problem::not_found(
                "this function answers GET /health and POST /uploads",
            )),
        };
        answer.unwrap_or_else(Problem::into_response)
    }

    async fn links(&self, request: &HttpRequest) -> Result<HttpResponse, Problem> {
        let UploadsRequest { study, files } = read(request)?;
        let keys = self.check(&study, &files)?;
        let links = stream::iter(files.into_iter().zip(keys))
            .map(|(file, key)| async move {
                let terms = UploadTerms {
                    content_length: file.size,
                    content_type: None,
                };
                let signed = self
                    .uploads
                    .presign_put(&key, self.config.presign, &terms)
                    .await?;
                Ok(UploadLink::new(file.name, &key, signed))
            })
            .buffered(SIGNED)
            .try_collect()
            .await
            .map_err(|error: StorageError| {
                tracing::error!(retryable = error.is_retryable(), "links cannot be signed");
                Problem::unavailable("links cannot be signed now", RETRY_AFTER_SECONDS)
            })?;
        Ok(HttpResponse::json(
            200,
            &UploadLinks {
                study,
                expires_seconds: self.config.presign.as_secs(),
                max_bytes: self.config.limits.max_upload_bytes,
                files: links,
                notice: NOTICE,
            },
        ))
    }

    /// Checks the files of a request; returns the keys that they will have.
    fn check(&self, study: &StudyId, files: &[FileRequest]) -> Result<Vec<ObjectKey>, Problem> {
        if files.is_empty() || files.len() > MAX_FILES {
            return Err(Problem::unprocessable(format!(
                "{} files: ask for links to 1 to {MAX_FILES} at once",
                files.len()
            )));
        }
        let mut names = HashSet::new();
        files
            .iter()
            .map(|FileRequest { name, size }| {
                if !names.insert(name) {
                    return Err(Problem::unprocessable(format!("{name:?} is named twice")));
                }
                let allowed = self.config.limits.max_upload_bytes;
                if let Some(size) = size.filter(|size| *size > allowed) {
                    return Err(Problem::payload_too_large(format!(
                        "{name:?} has {size} bytes, at most {allowed} are read"
                    )));
                }
                upload_key(study, name).map_err(Problem::unprocessable)
            })
            .collect()
    }
}

impl UploadLink {
    fn new(name: String, key: &ObjectKey, signed: SignedRequest) -> Self {
        Self {
            name,
            key: key.to_string(),
            method: signed.method,
            url: signed.url,
            headers: signed.headers,
        }
    }
}

fn health() -> HttpResponse {
    HttpResponse::json(
        200,
        &Health {
            status: "ok",
            function: FUNCTION,
            version: env!("CARGO_PKG_VERSION"),
            notice: NOTICE,
        },
    )
}

fn read(request: &HttpRequest) -> Result<UploadsRequest, Problem> {
    if request.media_type().as_deref() != Some("application/json") {
        return Err(Problem::unsupported_media_type(&["application/json"]));
    }
    if request.body.len() > MAX_REQUEST_BYTES {
        return Err(Problem::payload_too_large(format!(
            "a list of files has at most {MAX_REQUEST_BYTES} bytes"
        )));
    }
    serde_json::from_slice(&request.body)
        .map_err(|error| Problem::bad_request(format!("the body is no list of files: {error}")))
}

/// The key of a file of a study, if it is one that something can be made of.
fn upload_key(study: &StudyId, name: &str) -> Result<ObjectKey, String> {
    if name.contains('/') {
        return Err(format!(
            "{name:?} has a slash: name the file, and its folder as the study"
        ));
    }
    // A zip lies beside the study that it holds, under the study's own name.
    let inside = format!("{study}/{name}");
    let parent = study.as_str().rsplit_once('/').map(|(parent, _)| parent);
    let beside = parent.map_or_else(|| name.to_owned(), |parent| format!("{parent}/{name}"));
    for text in [inside, beside] {
        let key = ObjectKey::parse(text).map_err(|error| error.to_string())?;
        match keys::classify(&key) {
            Ok(upload) if upload.kind == UploadKind::Zip && upload.study != *study => {}
            Ok(upload) if upload.kind == UploadKind::Unknown => {
                return Err(format!(
                    "{name:?} is none of <slice>.tif, .tiff or .png, <slice>_mask.tif, study.json and <study>.zip"
                ));
            }
            Ok(_) => return Ok(key),
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(format!(
        "{name:?} would make a study of its own: call the zip of a study like the last part of the study's name"
    ))
}
