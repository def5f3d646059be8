//! What `POST /segment` is asked for, checked before anything is spent on it.

use glioseg_shared::cloud::http::{Offer, negotiate};
use glioseg_shared::cloud::keys::{self, ResultKey, ResultKind, SliceName, StudyId, UploadKind};
use glioseg_shared::cloud::{HttpRequest, ObjectKey, Problem};
use glioseg_shared::study::Spacing;
use serde::Deserialize;

use crate::config::Config;

/// Header of how large a pixel is: `columns,rows` or `columns,rows,slices` in mm.
const SPACING_HEADER: &str = "x-spacing-mm";

/// Content types that are read.
const MEDIA_TYPES: [&str; 4] = [
    "image/tiff",
    "image/png",
    "application/octet-stream",
    "application/json",
];

/// Longest JSON document that names an object: a key has at most 1024 bytes.
const MAX_REFERENCE_BYTES: usize = 64 << 10;

/// What is answered, by `Accept`; the first is what a caller gets who does not mind.
const OFFERS: [Offer<View>; 5] = [
    offer("application/json", None, View::Report),
    offer("image/tiff", None, View::MaskTiff),
    offer("image/png", Some("mask"), View::MaskPng),
    offer("image/png", Some("overlay"), View::OverlayPng),
    offer("image/png", Some("probability"), View::ProbabilityPng),
];

/// What a caller wants to see of a segmented slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Report,
    MaskTiff,
    MaskPng,
    OverlayPng,
    ProbabilityPng,
}

/// A request to segment one slice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Order {
    pub(crate) image: Image,
    /// How large a pixel is, by the caller; it counts before what is known otherwise.
    pub(crate) spacing_mm: Option<Spacing>,
    pub(crate) view: View,
}

/// Where the image is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Image {
    /// In the request.
    Sent(Vec<u8>),
    /// In the uploads bucket: a file of one slice.
    Upload {
        key: ObjectKey,
        study: StudyId,
        name: SliceName,
        file: String,
    },
    /// In the results bucket: a prepared slice.
    Prepared { key: ObjectKey, result: ResultKey },
}

/// The body that names an object of the stack's own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    /// `uploads` or `results`, or the name of that bucket.
    bucket: String,
    key: String,
    spacing_mm: Option<Spacing>,
}

impl Order {
    /// Reads a request.
    ///
    /// # Errors
    /// What to answer where it cannot be served.
    pub(crate) fn read(request: HttpRequest, config: &Config) -> Result<Self, Problem> {
        let view = *negotiate(request.header("accept"), &OFFERS)?;
        let header = request.header(SPACING_HEADER).map(str::parse::<Spacing>);
        let header = header
            .transpose()
            .map_err(|error| Problem::bad_request(format!("{SPACING_HEADER}: {error}")))?;
        // RFC 9110, section 8.3: a body without a type may be taken for octets.
        let media_type = request.media_type();
        let media_type = media_type.as_deref().unwrap_or("application/octet-stream");
        if !MEDIA_TYPES.contains(&media_type) {
            return Err(Problem::unsupported_media_type(&MEDIA_TYPES));
        }
        if request.body.is_empty() {
            return Err(Problem::bad_request(
                "the body is empty: send a TIFF or PNG file, or JSON that names an object",
            ));
        }
        if media_type != "application/json" {
            return Ok(Self {
                image: sent(request.body, media_type, config.limits.max_upload_bytes)?,
                spacing_mm: header,
                view,
            });
        }
        let reference = Reference::read(&request.body)?;
        if header.is_some() && reference.spacing_mm.is_some() {
            return Err(Problem::bad_request(format!(
                "the spacing is given twice: by {SPACING_HEADER} and by spacing_mm"
            )));
        }
        Ok(Self {
            image: reference.image(config)?,
            spacing_mm: header.or(reference.spacing_mm),
            view,
        })
    }
}

impl Reference {
    fn read(json: &[u8]) -> Result<Self, Problem> {
        if json.len() > MAX_REFERENCE_BYTES {
            return Err(Problem::payload_too_large(format!(
                "JSON that names an object has at most {MAX_REFERENCE_BYTES} bytes"
            )));
        }
        serde_json::from_slice(json).map_err(|error| {
            Problem::bad_request(format!(
                "the body is not of the form {{\"bucket\": \"uploads\" or \"results\", \"key\": …}}: {error}"
            ))
        })
    }

    /// The object, which lies in one of the stack's own buckets or is none of this function's business.
    fn image(&self, config: &Config) -> Result<Image, Problem> {
        let is = |role: &str, name: &str| self.bucket == role || self.bucket == name;
        let in_uploads = is("uploads", &config.uploads_bucket);
        if !in_uploads && !is("results", &config.results_bucket) {
            return Err(Problem::forbidden(
                "only objects of this stack's uploads and results buckets are read",
            ));
        }
        let key = ObjectKey::parse(self.key.as_str())
            .map_err(|error| Problem::bad_request(error.to_string()))?;
        if in_uploads {
            upload(key)
        } else {
            prepared(key)
        }
    }
}

fn upload(key: ObjectKey) -> Result<Image, Problem> {
    let upload = keys::classify(&key).map_err(|error| Problem::bad_request(error.to_string()))?;
    let refused = |what: &str| {
        Err(Problem::bad_request(format!(
            "{key} is {what}: name a file <study>/<slice>.tif, .tiff or .png"
        )))
    };
    match upload.kind {
        UploadKind::Slice { name } => Ok(Image::Upload {
            key,
            study: upload.study,
            name,
            file: upload.file,
        }),
        UploadKind::Truth { .. } => refused("the truth of a slice, by its name"),
        UploadKind::Study => refused("the description of a study"),
        UploadKind::Zip => refused("a whole study"),
        UploadKind::Unknown => refused("no image, by its name"),
    }
}

fn prepared(key: ObjectKey) -> Result<Image, Problem> {
    match keys::parse_result(&key) {
        Some(result) if result.kind == ResultKind::Prepared => Ok(Image::Prepared { key, result }),
        _ => Err(Problem::bad_request(format!(
            "{key} is no prepared slice: of the results bucket name prepared/<study>/<slice>.png"
        ))),
    }
}

fn sent(body: Vec<u8>, media_type: &str, max_bytes: u64) -> Result<Image, Problem> {
    if body.len() as u64 > max_bytes {
        return Err(Problem::payload_too_large(format!(
            "the image has {} bytes, at most {max_bytes} are read",
            body.len()
        )));
    }
    let found = media_type_of(&body);
    if found.is_none_or(|found| media_type != found && media_type != "application/octet-stream") {
        return Err(
            Problem::unsupported_media_type(&MEDIA_TYPES[..2]).with_member(
                "found",
                found.unwrap_or("neither TIFF nor PNG, by its first bytes"),
            ),
        );
    }
    Ok(Image::Sent(body))
}

/// The type of an image by its first bytes.
fn media_type_of(bytes: &[u8]) -> Option<&'static str> {
    const TIFF: [&[u8]; 4] = [b"II\x2a\0", b"MM\0\x2a", b"II\x2b\0", b"MM\0\x2b"];
    if TIFF.iter().any(|start| bytes.starts_with(start)) {
        Some("image/tiff")
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else {
        None
    }
}

const fn offer(media_type: &'static str, view: Option<&'static str>, value: View) -> Offer<View> {
    Offer {
        media_type,
        view,
        value,
    }
}
