//! What `POST /score` is asked for, and the answer.

use glioseg_shared::cloud::keys::{self, ResultKind, SliceName, StudyId, UploadKind};
use glioseg_shared::cloud::{
    HttpRequest, Object, ObjectKey, Problem, Stamp, Storage, StorageError,
};
use glioseg_shared::imaging::ImagingError;
use glioseg_shared::study::{SliceScoreDocument, Spacing, unnamed};
use serde::Deserialize;

use crate::config::Config;
use crate::form::{self, FormError};
use crate::slice::{self, Incomparable, Pair};

/// Header of how large a pixel is: `columns,rows` or `columns,rows,slices` in mm.
const SPACING_HEADER: &str = "x-spacing-mm";

const MULTIPART: &str = "multipart/form-data";
const JSON: &str = "application/json";

/// Longest JSON document that names two objects: a key has at most 1024 bytes.
const MAX_REFERENCE_BYTES: usize = 64 << 10;

/// How long a caller is to wait before trying again, in seconds.
pub(crate) const RETRY_AFTER_SECONDS: u32 = 2;

/// The body that names two objects of the stack's own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    prediction: Reference,
    truth: Reference,
    spacing_mm: Option<Spacing>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    /// `uploads` or `results`, or the name of that bucket.
    bucket: String,
    key: String,
}

/// A mask's file and what is known of it.
struct File {
    bytes: Vec<u8>,
    origin: Option<(StudyId, SliceName)>,
    model_version: Option<String>,
}

impl File {
    fn sent(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            origin: None,
            model_version: None,
        }
    }
}

/// Scores the two masks that a request sends or names.
///
/// # Errors
///
/// What to answer where they cannot be compared.
pub(crate) async fn score<S: Storage>(
    uploads: &S,
    results: &S,
    config: &Config,
    request: HttpRequest,
) -> Result<SliceScoreDocument, Problem> {
    let header = request.header(SPACING_HEADER).map(str::parse::<Spacing>);
    let header = header
        .transpose()
        .map_err(|error| Problem::bad_request(format!("{SPACING_HEADER}: {error}")))?;
    let (prediction, truth, spacing_mm) = match request.media_type().as_deref() {
        Some(MULTIPART) => {
            let content_type = request
                .header("content-type")
                .unwrap_or_default()
                .to_owned();
            let form = form::parse(&content_type, request.body, config.limits.max_upload_bytes)
                .map_err(|error| form_problem(&error))?;
            (File::sent(form.prediction), File::sent(form.truth), header)
        }
        Some(JSON) => {
            let named = Named::read(&request.body)?;
            if header.is_some() && named.spacing_mm.is_some() {
                return Err(Problem::bad_request(format!(
                    "the spacing is given twice: by {SPACING_HEADER} and by spacing_mm"
                )));
            }
            let prediction = named.prediction.fetch(uploads, results, config).await?;
            let truth = named.truth.fetch(uploads, results, config).await?;
            (prediction, truth, header.or(named.spacing_mm))
        }
        _ => return Err(Problem::unsupported_media_type(&[MULTIPART, JSON])),
    };
    let (study, slice) = prediction
        .origin
        .unwrap_or_else(|| (unnamed::study(), unnamed::slice()));
    let pair = Pair {
        study,
        slice,
        prediction: &prediction.bytes,
        truth: &truth.bytes,
        spacing_mm,
        model_version: prediction.model_version,
    };
    slice::score(&pair, &config.limits.imaging()).map_err(|error| incomparable_problem(&error))
}

impl Named {
    fn read(json: &[u8]) -> Result<Self, Problem> {
        if json.len() > MAX_REFERENCE_BYTES {
            return Err(Problem::payload_too_large(format!(
                "JSON that names two objects has at most {MAX_REFERENCE_BYTES} bytes"
            )));
        }
        serde_json::from_slice(json).map_err(|error| {
            Problem::bad_request(format!(
                "the body is not of the form {{\"prediction\": {{\"bucket\": \"uploads\" or \"results\", \
                 \"key\": …}}, \"truth\": {{…}}}}: {error}"
            ))
        })
    }
}

impl Reference {
    /// Reads the object, which lies in one of the stack's own buckets or is none of this function's business.
    async fn fetch<S: Storage>(
        &self,
        uploads: &S,
        results: &S,
        config: &Config,
    ) -> Result<File, Problem> {
        let is = |role: &str, name: &str| self.bucket == role || self.bucket == name;
        let in_uploads = is("uploads", &config.uploads_bucket);
        if !in_uploads && !is("results", &config.results_bucket) {
            return Err(Problem::forbidden(
                "only objects of this stack's uploads and results buckets are read",
            ));
        }
        let key = ObjectKey::parse(self.key.as_str())
            .map_err(|error| Problem::bad_request(error.to_string()))?;
        let origin = if in_uploads {
            upload_origin(&key)?
        } else {
            result_origin(&key)?
        };
        let storage = if in_uploads { uploads } else { results };
        let Object {
            bytes, metadata, ..
        } = storage
            .get(&key, config.limits.max_upload_bytes)
            .await
            .map_err(|error| storage_problem(&key, &error))?;
        // Users can say of their uploads what they like.
        let stamp = Stamp::from_metadata(&metadata);
        Ok(File {
            bytes,
            origin: Some(origin),
            model_version: stamp.model_version.filter(|_| !in_uploads),
        })
    }
}

/// The slice that an upload is of, by its name.
fn upload_origin(key: &ObjectKey) -> Result<(StudyId, SliceName), Problem> {
    let upload = keys::classify(key).map_err(|error| Problem::bad_request(error.to_string()))?;
    match upload.kind {
        UploadKind::Slice { name } | UploadKind::Truth { name } => Ok((upload.study, name)),
        UploadKind::Study | UploadKind::Zip | UploadKind::Unknown => {
            Err(Problem::bad_request(format!(
                "{key} is no image, by its name: name a file <study>/<slice>.tif, .tiff or .png"
            )))
        }
    }
}

/// The slice that a mask of the results bucket is of.
fn result_origin(key: &ObjectKey) -> Result<(StudyId, SliceName), Problem> {
    keys::parse_result(key)
        .filter(|result| matches!(result.kind, ResultKind::Mask | ResultKind::Truth))
        .map(|result| (result.study, result.name))
        .ok_or_else(|| {
            Problem::bad_request(format!(
                "{key} is no mask: of the results bucket name masks/<study>/<slice>.tif or truth/<study>/<slice>.tif"
            ))
        })
}

fn form_problem(error: &FormError) -> Problem {
    match error {
        FormError::WrongType { .. } => Problem::unsupported_media_type(&[
            "image/tiff",
            "image/png",
            "application/octet-stream",
        ])
        .with_member("reason", error.to_string()),
        FormError::TooLarge(_) => Problem::payload_too_large(error.to_string()),
        FormError::NoBoundary
        | FormError::Damaged(_)
        | FormError::Missing(_)
        | FormError::Twice(_)
        | FormError::Unknown(_) => Problem::bad_request(error.to_string()),
    }
}

fn incomparable_problem(error: &Incomparable) -> Problem {
    let reason = error.to_string();
    match error {
        Incomparable::Unreadable { source, .. } => match source {
            ImagingError::TooLarge { .. } => Problem::payload_too_large(reason),
            ImagingError::UnknownFormat { .. } => {
                Problem::unsupported_media_type(&["image/tiff", "image/png"])
                    .with_member("reason", reason)
            }
            ImagingError::Empty | ImagingError::Damaged { .. } => Problem::bad_request(reason),
            _ => Problem::unprocessable(reason),
        },
        Incomparable::Pages { .. } => Problem::unprocessable(format!(
            "{reason}; upload studies of several slices to the uploads bucket"
        )),
        Incomparable::Size(_) => Problem::unprocessable(reason),
    }
}

/// What to answer where an object that the caller named cannot be read.
fn storage_problem(key: &ObjectKey, error: &StorageError) -> Problem {
    match error {
        StorageError::NotFound { .. } | StorageError::Denied { .. } => {
            Problem::not_found(format!("there is no object {key}, or it may not be read"))
        }
        StorageError::TooLarge { .. } => Problem::payload_too_large(error.to_string()),
        error if error.is_retryable() => Problem::unavailable(
            format!("{key} could not be read for now"),
            RETRY_AFTER_SECONDS,
        ),
        _ => Problem::internal(format!("{key} could not be read")),
    }
}
