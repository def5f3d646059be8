//! Requests: scores of two masks, and what there is of a study or a patient.

use std::fmt::Display;
use std::time::Instant;

use glioseg_shared::cloud::http::{Offer, negotiate};
use glioseg_shared::cloud::keys::{PatientId, SliceName, StudyId};
use glioseg_shared::cloud::telemetry::{KeyLog, Metrics, ServerTiming, scrub};
use glioseg_shared::cloud::{HttpRequest, HttpResponse, Presign, Problem, Storage};
use glioseg_shared::model::contract::NOTICE;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::bus::Bus;
use crate::pair::RETRY_AFTER_SECONDS;
use crate::sweep::Swept;
use crate::{FUNCTION, Score, ScoreError, delete, pair, study, withdraw};

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
                if let Some(patient) = below("/patients/", path) {
                    let patient = named(PatientId::parse(patient))?;
                    if method != "DELETE" {
                        return Err(Problem::method_not_allowed(&["DELETE"]));
                    }
                    negotiate(request.header("accept"), &OFFERS)?;
                    self.withdraw_patient(&patient).await?
                } else if let Some(study) = below("/studies/", path) {
                    let study = named(StudyId::parse(study))?;
                    if !matches!(method, "GET" | "DELETE") {
                        return Err(Problem::method_not_allowed(&["GET", "DELETE"]));
                    }
                    negotiate(request.header("accept"), &OFFERS)?;
                    match method {
                        "GET" => self.study_status(&study, &request).await?,
                        _ => self.delete_study(&study).await?,
                    }
                } else {
                    return Err(Problem::not_found(format!("there is no path {path}")));
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
        .map_err(|error| problem("study", study.as_str(), &error))?
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
            .map_err(|error| problem("study", study.as_str(), &error.into()))?;
        log_swept("a study was deleted", study.as_str(), &deletion.swept);
        Ok(HttpResponse::json(200, &deletion))
    }

    async fn withdraw_patient(&self, patient: &PatientId) -> Result<HttpResponse, Problem> {
        let withdrawal = withdraw::withdraw(&self.uploads, &self.results, patient)
            .await
            .map_err(|error| problem("patient", patient.as_str(), &error))?;
        log_swept(
            "a patient was withdrawn",
            patient.as_str(),
            &withdrawal.swept,
        );
        Ok(HttpResponse::json(200, &withdrawal))
    }
}

fn log_swept(done: &str, name: &str, swept: &Swept) {
    tracing::info!(
        name = %KeyLog(name),
        uploads = swept.deleted_uploads,
        results = swept.deleted_results,
        complete = swept.complete,
        "{done}"
    );
}

/// What a path names below another.
fn below<'a>(parent: &str, path: &'a str) -> Option<&'a str> {
    path.strip_prefix(parent).filter(|name| !name.is_empty())
}

fn named<T, E: Display>(name: Result<T, E>) -> Result<T, Problem> {
    name.map_err(|error| Problem::bad_request(error.to_string()))
}

/// What to answer where a study or patient cannot be looked at. The reason is for the log: it tells of the inside.
fn problem(what: &str, name: &str, error: &ScoreError) -> Problem {
    tracing::error!(
        error = %scrub(&error.to_string(), name),
        "a request failed"
    );
    match error {
        error if error.is_retryable() => Problem::unavailable(
            format!("the {what} {name} cannot be looked at for now"),
            RETRY_AFTER_SECONDS,
        ),
        ScoreError::TooManyObjects { .. } | ScoreError::ManifestFull { .. } => {
            Problem::unprocessable(error.to_string())
        }
        _ => Problem::internal(format!("the {what} {name} cannot be looked at")),
    }
}
