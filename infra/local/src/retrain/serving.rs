//! Which model the running segment function answers with.

use std::time::Duration;

use glioseg_shared::model::contract::NOTICE;
use glioseg_shared::study::{Document as _, SliceReport};
use hyper::Method;
use serde_json::Value;

use crate::api::{Gateway, GatewayRequest};

/// How often the function is asked while a refresh time passes, and how many refresh times it has.
const ASKED_EACH_TIME: u32 = 4;
const REFRESH_TIMES: u32 = 10;

/// The shortest pause between two questions.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// A model, as the function's answers name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Its version.
    pub version: String,
    /// Pixels that it marked in the slice that was sent.
    pub tumour_pixels: u64,
}

/// Why it is not known what serves.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The function answered with a problem.
    #[error("{request} was answered with {status}: {body}")]
    Refused {
        /// Method and path.
        request: String,
        /// The status.
        status: u16,
        /// What it said.
        body: String,
    },
    /// An answer is not what the API promises.
    #[error("the answer to {request} {reason}")]
    Wrong {
        /// Method and path.
        request: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It answers with another model still.
    #[error(
        "the function serves {serving} still, {refresh_times} refresh times after the channel was moved to {version}"
    )]
    Stale {
        /// What it should serve.
        version: String,
        /// What it serves.
        serving: String,
        /// How long it was waited for.
        refresh_times: u32,
    },
}

/// Asks until the function answers with a version, for ten refresh times at most.
///
/// # Errors
/// [`AskError`].
pub async fn follow(
    gateway: &Gateway,
    slice: &[u8],
    version: &str,
    refresh: Duration,
) -> Result<Serving, AskError> {
    let pause = (refresh / ASKED_EACH_TIME).max(SHORTEST_PAUSE);
    let mut serving = String::new();
    for asked in 0..ASKED_EACH_TIME * REFRESH_TIMES {
        if asked > 0 {
            tokio::time::sleep(pause).await;
        }
        serving = named(gateway).await?;
        if serving == version {
            return served(gateway, slice).await;
        }
    }
    Err(AskError::Stale {
        version: version.to_owned(),
        serving,
        refresh_times: REFRESH_TIMES,
    })
}

/// Has a slice (TIFF) segmented, and says by which model. All that the function tells of the model has to agree: what it
/// names when asked, the header and the report.
///
/// # Errors
/// [`AskError`].
pub async fn served(gateway: &Gateway, slice: &[u8]) -> Result<Serving, AskError> {
    let mut request = GatewayRequest::new(Method::POST, "/segment");
    let content_type = ("content-type".to_owned(), "image/tiff".to_owned());
    request.headers.extend([content_type]);
    request.body = slice.to_vec();
    let asked = name_of(&request);
    let wrong = |reason: String| AskError::Wrong {
        request: asked.clone(),
        reason,
    };
    let (headers, body) = answered(gateway, request).await?;
    let report = SliceReport::from_json(&body).map_err(|error| wrong(error.to_string()))?;
    let header = headers.get("x-model-version").map(String::as_str);
    let version = report.model.version;
    if header != Some(version.as_str()) {
        let header = header.unwrap_or("none");
        return Err(wrong(format!(
            "names {header} in its header and {version} in its report"
        )));
    }
    if report.notice != NOTICE {
        return Err(wrong(format!("does not say: {NOTICE}")));
    }
    let named = named(gateway).await?;
    if named != version {
        return Err(wrong(format!(
            "is by {version}, and GET /model names {named}"
        )));
    }
    Ok(Serving {
        version,
        tumour_pixels: report.tumour_pixels,
    })
}

/// The version that `GET /model` names.
async fn named(gateway: &Gateway) -> Result<String, AskError> {
    let request = GatewayRequest::new(Method::GET, "/model");
    let asked = name_of(&request);
    let (_, body) = answered(gateway, request).await?;
    let model: Option<Value> = serde_json::from_slice(&body).ok();
    let version = model.as_ref().and_then(|model| model["version"].as_str());
    version.map(str::to_owned).ok_or_else(|| AskError::Wrong {
        request: asked,
        reason: "names no version".to_owned(),
    })
}

fn name_of(request: &GatewayRequest) -> String {
    format!("{} {}", request.method, request.path_and_query)
}

type Answered = (std::collections::BTreeMap<String, String>, Vec<u8>);

async fn answered(gateway: &Gateway, request: GatewayRequest) -> Result<Answered, AskError> {
    let name = name_of(&request);
    let answer = gateway.answer(request).await;
    if answer.status == 200 {
        return Ok((answer.headers, answer.body));
    }
    Err(AskError::Refused {
        request: name,
        status: answer.status,
        body: String::from_utf8_lossy(&answer.body).into_owned(),
    })
}
