//! What a stack made of a study, fetched from its API and its bucket.

use glioseg_shared::cloud::keys::{self, ResultKind, SliceName, StudyId};
use glioseg_shared::cloud::{ObjectKey, Storage, StorageError};
use glioseg_shared::imaging::overlay::{Picture, SizeDiffers, outlines};
use glioseg_shared::imaging::{
    ImagingError, Limits, Mask, decode_masks, encode_rgb_png, natural_order,
};
use glioseg_shared::study::{
    Document, Prepared, PreparedError, SliceReport, SliceScoreDocument, StudyStatus,
};
use hyper::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::api::GatewayRequest;
use crate::stack::Stack;
use crate::wiring::Bucket;

/// Most bytes of a picture or a mask that is fetched.
const MAX_OBJECT_BYTES: u64 = 256 << 20;

/// A study and its slices.
#[derive(Clone, Debug, PartialEq)]
pub struct StudyResult {
    /// How it stands.
    pub status: StudyStatus,
    /// Its slices, in natural order.
    pub slices: Vec<SliceResult>,
}

/// A slice.
#[derive(Clone, Debug, PartialEq)]
pub struct SliceResult {
    /// What was found.
    pub report: SliceReport,
    /// What that is worth, where the truth is known.
    pub score: Option<SliceScoreDocument>,
    /// FLAIR under the outlines, as PNG: of the mask, and of the truth where it is known.
    pub outlines_png: Vec<u8>,
    /// 255 times the probability of tumour, as grey PNG.
    pub probability_png: Vec<u8>,
}

impl SliceResult {
    /// Whether there is tumour, found or true.
    #[must_use]
    pub fn has_tumour(&self) -> bool {
        self.report.tumour_pixels > 0
            || self
                .score
                .as_ref()
                .is_some_and(|score| score.true_pixels > 0)
    }

    /// The Dice coefficient that its mask is expected to have, whether the truth is known or not.
    #[must_use]
    pub fn expected_dice(&self) -> f64 {
        self.report.confidence.expected_dice
    }
}

/// Why results could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The API did not say how the study stands.
    #[error("the API answered {status} to a question for the study {study}: {body}")]
    Status {
        /// The study.
        study: StudyId,
        /// Its answer's status.
        status: u16,
        /// And body.
        body: String,
    },
    /// The bucket did not give an object.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An object is not what its key says.
    #[error("{key}: {reason}")]
    Unreadable {
        /// Its key.
        key: ObjectKey,
        /// What is wrong with it.
        reason: String,
    },
}

/// Asks the API how a study stands.
///
/// # Errors
///
/// [`FetchError::Status`] where it does not say.
pub async fn status(stack: &Stack, study: &StudyId) -> Result<StudyStatus, FetchError> {
    let path = utf8_percent_encode(study.as_str(), NON_ALPHANUMERIC);
    let request = GatewayRequest::new(Method::GET, format!("/studies/{path}"));
    let answer = stack.gateway().answer(request).await;
    let status = (answer.status == 200).then(|| StudyStatus::from_json(&answer.body).ok());
    status.flatten().ok_or_else(|| FetchError::Status {
        study: study.clone(),
        status: answer.status,
        body: String::from_utf8_lossy(&answer.body).into_owned(),
    })
}

/// Fetches a study.
///
/// # Errors
///
/// [`FetchError`] for the first object that is not as it has to be.
pub async fn fetch(stack: &Stack, study: &StudyId) -> Result<StudyResult, FetchError> {
    let status = status(stack, study).await?;
    let results = stack.bucket(Bucket::Results);
    let mut names = names(&results, study).await?;
    names.sort_by(|a, b| natural_order(a.as_str(), b.as_str()));
    let mut slices = Vec::with_capacity(names.len());
    for name in &names {
        slices.push(slice(&results, study, name).await?);
    }
    Ok(StudyResult { status, slices })
}

/// The slices that have a report.
async fn names(results: &impl Storage, study: &StudyId) -> Result<Vec<SliceName>, FetchError> {
    let prefix = keys::results_prefix(ResultKind::Report, study);
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let page = results.list(&prefix, after.as_ref(), 1000).await?;
        let found = page
            .entries
            .iter()
            .filter_map(|entry| keys::parse_result(&entry.key));
        names.extend(
            found
                .filter(|result| result.study == *study)
                .map(|result| result.name),
        );
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(names),
        }
    }
}

async fn slice(
    results: &impl Storage,
    study: &StudyId,
    name: &SliceName,
) -> Result<SliceResult, FetchError> {
    let limits = Limits::default();
    let key = keys::report(study, name);
    let report = SliceReport::from_json(&read(results, &key).await?)
        .map_err(|error| unreadable(key, error))?;
    let key = keys::score(study, name);
    let score = match read_if_there(results, &key).await? {
        Some(bytes) => {
            Some(SliceScoreDocument::from_json(&bytes).map_err(|error| unreadable(key, error))?)
        }
        None => None,
    };
    let truth = if score.is_some() {
        Some(mask(results, keys::truth(study, name), &limits).await?)
    } else {
        None
    };
    let outlines_png = match truth {
        None => read(results, &keys::overlay(study, name)).await?,
        Some(truth) => {
            let key = keys::prepared(study, name);
            let prepared = Prepared::decode(&read(results, &key).await?, &limits)
                .map_err(|error: PreparedError| unreadable(key.clone(), error))?;
            let found = mask(results, keys::mask(study, name), &limits).await?;
            let picture = outlines(&prepared.slice, &truth, &found)
                .map_err(|error: SizeDiffers| unreadable(key, error))?;
            png(&picture)
        }
    };
    Ok(SliceResult {
        report,
        score,
        outlines_png,
        probability_png: read(results, &keys::probability(study, name)).await?,
    })
}

async fn mask(results: &impl Storage, key: ObjectKey, limits: &Limits) -> Result<Mask, FetchError> {
    let bytes = read(results, &key).await?;
    let masks = decode_masks(&bytes, limits)
        .map_err(|error: ImagingError| unreadable(key.clone(), error))?;
    masks
        .into_iter()
        .next()
        .ok_or_else(|| unreadable(key, "it holds no mask"))
}

async fn read(results: &impl Storage, key: &ObjectKey) -> Result<Vec<u8>, StorageError> {
    Ok(results.get(key, MAX_OBJECT_BYTES).await?.bytes)
}

async fn read_if_there(
    results: &impl Storage,
    key: &ObjectKey,
) -> Result<Option<Vec<u8>>, StorageError> {
    match read(results, key).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn png(picture: &Picture) -> Vec<u8> {
    encode_rgb_png(picture.width(), picture.height(), picture.pixels())
}

fn unreadable(key: ObjectKey, reason: impl std::fmt::Display) -> FetchError {
    FetchError::Unreadable {
        key,
        reason: reason.to_string(),
    }
}
