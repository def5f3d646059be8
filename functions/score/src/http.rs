//! Requests: scores of two masks, and what there is of a study.

use std::time::Instant;

use glioseg_shared::cloud::http::{Offer, negotiate};
use glioseg_shared::cloud::keys::{SliceName, StudyId};
use glioseg_shared::cloud::telemetry::{KeyLog, Metrics, ServerTiming, scrub};
use glioseg_shared::cloud::{HttpRequest, HttpResponse, Presign, Problem, Storage};
use glioseg_shared::model::contract::NOTICE;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::bus::Bus;
use crate::pair::RETRY_AFTER_SECONDS;
use crate::{FUNCTION, Score, ScoreError, delete, pair, study};

/// All that is answered is JSON.
const OFFERS: [Offer<()>; 1] = [Offer {
    media_type: "application/json",
    view: None,
    value: (),
}];

/// The parameter of the query that says after which slice links are wanted.
const AFTER: &str = "after";

/// The answer to `GET /health`, and to `GET /health/score`, by which one API tells the functions apart.
#[derive(Serialize)]
struct Health {
    status: &'static str,
    function: &'static str,
    notice: &'static str,
}

impl<S: Storage + Presign, B: Bus> Score<S, B> {
    /// Answers a request.
    pub async fn on_http(&self, request: HttpRequest) -> HttpResponse {
        self.route(request).await.unwrap_or_else(|problem| {
            Metrics::new(FUNCTION).count("Problems", 1).emit();
            problem.with_member("notice", NOTICE).into_response()
        })
    }

    async fn route(&self, request: HttpRequest) -> Result<HttpResponse, Problem> {
        let (method, path) = (request.method.clone(), request.path.clone());
        let response = match (method.as_str(), path.as_str()) {
            ("GET", "/health" | "/health/score") => {
                negotiate(request.header("accept"), &OFFERS)?;
                HttpResponse::json(
                    200,
                    &Health {
                        status: "ok",
                        function: FUNCTION,
                        notice: NOTICE,
                    },
                )
            }
            ("POST", "/score") => {
                negotiate(request.header("accept"), &OFFERS)?;
                self.score_pair(request).await?
            }
            (_, "/health" | "/health/score") => return Err(Problem::method_not_allowed(&["GET"])),
            (_, "/score") => return Err(Problem::method_not_allowed(&["POST"])),
            (method, path) => {
                let study = path
                    .strip_prefix("/studies/")
                    .filter(|study| !study.is_empty())
                    .ok_or_else(|| Problem::not_found(format!("there is no path {path}")))?;
                let study = StudyId::parse(study)
                    .map_err(|error| Problem::bad_request(error.to_string()))?;
                if !matches!(method, "GET" | "DELETE") {
                    return Err(Problem::method_not_allowed(&["GET", "DELETE"]));
                }
                negotiate(request.header("accept"), &OFFERS)?;
                match method {
                    "GET" => self.study_status(&study, &request).await?,
                    _ => self.delete_study(&study).await?,
                }
            }
        };
        Ok(response
            .with_header("vary", "accept")
            .with_header("x-research-use-only", NOTICE))
    }

    async fn score_pair(&self, request: HttpRequest) -> Result<HttpResponse, Problem> {
        let start = Instant::now();
        let score = pair::score(&self.uploads, &self.results, &self.config, request).await?;
        let took = start.elapsed();
        Metrics::new(FUNCTION)
            .count("Requests", 1)
            .millis("ScoreMilliseconds", took)
            .property("ModelVersion", score.model_version.clone())
            .emit();
        let timing = ServerTiming::default().stage("score", took);
        Ok(HttpResponse::json(200, &score).with_header(ServerTiming::HEADER, timing.to_string()))
    }

    async fn study_status(
        &self,
        study: &StudyId,
        request: &HttpRequest,
    ) -> Result<HttpResponse, Problem> {
        let after = request.query.get(AFTER).map(|name| SliceName::parse(name));
        let after = after
            .transpose()
            .map_err(|error| Problem::bad_request(format!("{AFTER}: {error}")))?;
        let (status, next) = Box::pin(study::status(
            &self.uploads,
            &self.results,
            &self.config,
            study,
            after.as_ref(),
        ))
        .await
        .map_err(|error| problem(study, &error))?
        .ok_or_else(|| Problem::not_found(format!("there is no study {study}")))?;
        let response = HttpResponse::json(200, &status);
        Ok(match next {
            // RFC 8288; the reference is relative to the address that was asked.
            Some(next) => response.with_header(
                "link",
                format!(
                    "<?{AFTER}={}>; rel=\"next\"",
                    utf8_percent_encode(next.as_str(), NON_ALPHANUMERIC)
                ),
            ),
            None => response,
        })
    }

    async fn delete_study(&self, study: &StudyId) -> Result<HttpResponse, Problem> {
        let deletion = delete::delete(&self.uploads, &self.results, study)
            .await
            .map_err(|error| problem(study, &error.into()))?;
        tracing::info!(
            study = %KeyLog(study.as_str()),
            uploads = deletion.deleted_uploads,
            results = deletion.deleted_results,
            complete = deletion.complete,
            "a study was deleted"
        );
        Ok(HttpResponse::json(200, &deletion))
    }
}

/// What to answer where a study cannot be looked at. The reason is for the log: it tells of the inside.
fn problem(study: &StudyId, error: &ScoreError) -> Problem {
    tracing::error!(
        error = %scrub(&error.to_string(), study.as_str()),
        "a request failed"
    );
    match error {
        error if error.is_retryable() => Problem::unavailable(
            format!("the study {study} cannot be looked at for now"),
            RETRY_AFTER_SECONDS,
        ),
        ScoreError::TooManyObjects { .. } => Problem::unprocessable(error.to_string()),
        _ => Problem::internal(format!("the study {study} cannot be looked at")),
    }
}
