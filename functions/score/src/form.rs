//! Two masks as a `multipart/form-data` body (RFC 7578).

use std::convert::Infallible;
use std::future::ready;

use futures_util::{FutureExt, stream};
use multer::{Constraints, Multipart, SizeLimit};

const PREDICTION: &str = "prediction";
const TRUTH: &str = "truth";

/// The parts of a form, each the bytes of an image file that nobody has looked at yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) prediction: Vec<u8>,
    pub(crate) truth: Vec<u8>,
}

/// Why a body is no such form.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormError {
    #[error("the content type names no boundary of the parts")]
    NoBoundary,
    #[error("the form breaks off or is damaged: {0}")]
    Damaged(String),
    #[error("the form has no part {0:?}; it takes two, \"prediction\" and \"truth\"")]
    Missing(&'static str),
    #[error("the form has the part {0:?} twice")]
    Twice(&'static str),
    #[error("the form has a part {0:?}; it takes two, \"prediction\" and \"truth\"")]
    Unknown(String),
    #[error(
        "the part {part:?} is {found}; a mask is image/tiff, image/png or application/octet-stream"
    )]
    WrongType { part: &'static str, found: String },
    #[error("the form is larger than the {0} bytes allowed")]
    TooLarge(u64),
}

/// Reads a form of at most `max_bytes` bytes.
pub(crate) fn parse(content_type: &str, body: Vec<u8>, max_bytes: u64) -> Result<Form, FormError> {
    let boundary = multer::parse_boundary(content_type).map_err(|_| FormError::NoBoundary)?;
    let limits = SizeLimit::new()
        .whole_stream(max_bytes)
        .per_field(max_bytes);
    let constraints = Constraints::new()
        .allowed_fields(vec![PREDICTION, TRUTH])
        .size_limit(limits);
    let body = stream::once(ready(Ok::<_, Infallible>(body)));
    // The whole body is there already, so whoever waits for more of it would wait for ever.
    read(Multipart::with_constraints(body, boundary, constraints))
        .now_or_never()
        .unwrap_or_else(|| Err(FormError::Damaged("a part has no end".to_owned())))
}

async fn read(mut parts: Multipart<'_>) -> Result<Form, FormError> {
    let (mut prediction, mut truth) = (None, None);
    while let Some(part) = parts.next_field().await? {
        let (name, place) = match part.name() {
            Some(PREDICTION) => (PREDICTION, &mut prediction),
            Some(TRUTH) => (TRUTH, &mut truth),
            other => return Err(FormError::Unknown(other.unwrap_or_default().to_owned())),
        };
        if let Some(found) = part
            .content_type()
            .map(|kind| kind.essence_str().to_owned())
            .filter(|kind| !is_image(kind))
        {
            return Err(FormError::WrongType { part: name, found });
        }
        if place.replace(part.bytes().await?.to_vec()).is_some() {
            return Err(FormError::Twice(name));
        }
    }
    Ok(Form {
        prediction: prediction.ok_or(FormError::Missing(PREDICTION))?,
        truth: truth.ok_or(FormError::Missing(TRUTH))?,
    })
}

fn is_image(kind: &str) -> bool {
    matches!(
        kind,
        "image/tiff" | "image/png" | "application/octet-stream"
    )
}

impl From<multer::Error> for FormError {
    fn from(error: multer::Error) -> Self {
        match error {
            multer::Error::UnknownField { field_name } => {
                Self::Unknown(field_name.unwrap_or_default())
            }
            multer::Error::StreamSizeExceeded { limit }
            | multer::Error::FieldSizeExceeded { limit, .. } => Self::TooLarge(limit),
            other => Self::Damaged(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=XX";

    fn part(name: &str, kind: &str, content: &str) -> String {
        format!(
            "--XX\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"m.tif\"\r\n\
             Content-Type: {kind}\r\n\r\n{content}\r\n"
        )
    }

    fn read(body: &str) -> Result<Form, FormError> {
        parse(TYPE, body.as_bytes().to_vec(), 1000)
    }

    #[test]
    fn two_parts_are_read_in_either_order() {
        let (p, t) = (
            part("prediction", "image/tiff", "P\r\n--X"),
            part("truth", "image/png", ""),
        );
        for body in [format!("{p}{t}--XX--\r\n"), format!("{t}{p}--XX--")] {
            let form = read(&body).unwrap();
            assert_eq!(form.prediction, b"P\r\n--X");
            assert_eq!(form.truth, b"");
        }
    }

    #[test]
    fn every_damage_is_named() {
        let (p, t) = (
            part("prediction", "image/tiff", "P"),
            part("truth", "application/octet-stream", "T"),
        );
        let whole = format!("{p}{t}--XX--\r\n");
        // The last two bytes belong to what may follow a form.
        for length in 0..whole.len() - 2 {
            let error = read(&whole[..length]).unwrap_err();
            assert!(
                matches!(error, FormError::Damaged(_)),
                "cut at {length}: {error}"
            );
        }
        assert!(matches!(
            read(&format!("{p}--XX--\r\n")).unwrap_err(),
            FormError::Missing("truth")
        ));
        assert!(matches!(
            read(&format!("{p}{p}{t}--XX--\r\n")).unwrap_err(),
            FormError::Twice("prediction")
        ));
        let other = part("mask", "image/tiff", "M");
        assert!(matches!(
            read(&format!("{p}{t}{other}--XX--\r\n")).unwrap_err(),
            FormError::Unknown(name) if name == "mask"
        ));
        let text = part("truth", "text/html; charset=utf-8", "T");
        assert!(matches!(
            read(&format!("{p}{text}--XX--\r\n")).unwrap_err(),
            FormError::WrongType { part: "truth", found } if found == "text/html"
        ));
        assert!(matches!(
            read("--XX\r\n\r\nno name\r\n--XX--\r\n").unwrap_err(),
            FormError::Unknown(_) | FormError::Damaged(_)
        ));
        assert!(matches!(
            parse(TYPE, whole.clone().into_bytes(), 20).unwrap_err(),
            FormError::TooLarge(20)
        ));
        for kind in ["multipart/form-data", "image/tiff", ""] {
            assert!(matches!(
                parse(kind, whole.clone().into_bytes(), 1000).unwrap_err(),
                FormError::NoBoundary
            ));
        }
    }
}
