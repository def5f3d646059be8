//! What is answered over HTTP: `POST /segment`, `GET /model` and `GET /health`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use glioseg_shared::cloud::keys::{self, StudyId};
use glioseg_shared::cloud::telemetry::{KeyLog, Metrics, ServerTiming, scrub};
use glioseg_shared::cloud::{
    HttpRequest, HttpResponse, Metadata, ObjectKey, Problem, Storage, StorageError,
};
use glioseg_shared::imaging::Limits;
use glioseg_shared::model::StepTimes;
use glioseg_shared::model::contract::{
    Contract, Input, NOTICE, Postprocessing, Preprocessing, Score, Unit,
};
use glioseg_shared::study::{Document, Prepared, Spacing, StudyManifest, unnamed};
use serde::Serialize;

use crate::Segment;
use crate::image::{self, Label};
use crate::model::{NoModel, ServedModel};
use crate::request::{Image, Order, View};
use crate::slice::Segmented;
use crate::workers::BrokeOff;

/// When a caller may try again who found no model, or a bucket that did not answer.
const RETRY_AFTER_SECONDS: u32 = 10;

/// Metadata by which an upload says how large its pixels are.
const SPACING_METADATA: &str = "spacing-mm";

/// The answer to `GET /health`.
#[derive(Serialize)]
struct Health<'a> {
    status: &'static str,
    function: &'static str,
    model_version: &'a str,
    notice: &'static str,
}

/// The answer to `GET /model`: what is being served, as the model file says.
#[derive(Serialize)]
struct ModelAnswer<'a> {
    version: &'a str,
    channel: &'a str,
    onnx_sha256: &'a str,
    network: &'a str,
    label: &'a str,
    unit: Unit,
    input: &'a Input,
    preprocessing: Preprocessing,
    postprocessing: Postprocessing,
    scores: &'a [Score],
    licence: &'a str,
    notice: &'a str,
}

/// An image that is to be segmented, read but not decoded.
enum Subject {
    Image(Vec<u8>, Label),
    Prepared(Vec<u8>, keys::ResultKey, Option<Spacing>),
}

/// What became of an image on a worker.
struct Answer {
    body: Vec<u8>,
    decode: Duration,
    steps: StepTimes,
    encode: Duration,
}

impl<S: Storage> Segment<S> {
    /// Answers a request; what goes wrong is a problem document.
    pub async fn on_http(&self, request: HttpRequest) -> HttpResponse {
        let answered = match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/health" | "/health/segment") => self.health().await,
            ("GET", "/model") => self.model_answer().await,
            ("POST", "/segment") => self.segment(request).await,
            (_, "/health" | "/health/segment" | "/model") => {
                Err(Problem::method_not_allowed(&["GET"]))
            }
            (_, "/segment") => Err(Problem::method_not_allowed(&["POST"])),
            _ => Err(Problem::not_found(
                "there are POST /segment, GET /model and GET /health",
            )),
        };
        answered.unwrap_or_else(|problem| {
            let status = problem.status();
            tracing::info!(status, "a request was not served");
            Metrics::new("segment")
                .count("Problems", 1)
                .property("Status", status)
                .emit();
            problem.with_member("notice", NOTICE).into_response()
        })
    }

    async fn health(&self) -> Result<HttpResponse, Problem> {
        let model = self
            .model
            .current()
            .await
            .map_err(|error| no_model(&error))?;
        Ok(HttpResponse::json(
            200,
            &Health {
                status: "ok",
                function: "segment",
                model_version: model.version(),
                notice: NOTICE,
            },
        ))
    }

    async fn model_answer(&self) -> Result<HttpResponse, Problem> {
        let model = self
            .model
            .current()
            .await
            .map_err(|error| no_model(&error))?;
        Ok(HttpResponse::json(200, &ModelAnswer::of(&model)))
    }

    async fn segment(&self, request: HttpRequest) -> Result<HttpResponse, Problem> {
        let order = Order::read(request, &self.config)?;
        let model = self
            .model
            .current()
            .await
            .map_err(|error| no_model(&error))?;
        let view = order.view;
        let subject = self.subject(order.image, order.spacing_mm).await?;
        let work = {
            let (model, channel) = (Arc::clone(&model), self.model.channel().clone());
            let limits = self.config.limits.imaging();
            move || -> Result<Answer, Problem> {
                let decoding = Instant::now();
                let prepared = subject.prepare(&limits)?;
                let decode = decoding.elapsed();
                let segmented = Segmented::new(&prepared, &model.segmenter, &channel)
                    .map_err(|error| Problem::unprocessable(error.to_string()))?;
                let encoding = Instant::now();
                let body = body(&segmented, view);
                Ok(Answer {
                    body,
                    decode,
                    steps: segmented.times(),
                    encode: encoding.elapsed(),
                })
            }
        };
        let answer = self.workers.run(work).await.map_err(broke_off)??;
        Ok(respond(answer, view, &model))
    }

    /// Reads the image, and what else the buckets know of it.
    async fn subject(&self, image: Image, spacing_mm: Option<Spacing>) -> Result<Subject, Problem> {
        let max_bytes = self.config.limits.max_upload_bytes;
        match image {
            Image::Sent(bytes) => Ok(Subject::Image(
                bytes,
                Label {
                    study: unnamed::study(),
                    name: unnamed::slice(),
                    file: unnamed::slice().into(),
                    spacing_mm,
                    manifest: StudyManifest::default(),
                },
            )),
            Image::Prepared { key, result } => {
                let object = self.results.get(&key, self.max_prepared_bytes()).await;
                let object = object.map_err(|error| storage_problem(&key, &error))?;
                Ok(Subject::Prepared(object.bytes, result, spacing_mm))
            }
            Image::Upload {
                key,
                study,
                name,
                file,
            } => {
                let object = self.uploads.get(&key, max_bytes).await;
                let object = object.map_err(|error| storage_problem(&key, &error))?;
                let manifest = self.manifest(&study).await?;
                let label = Label {
                    spacing_mm: spacing_mm.or(spacing_of(&object.metadata)?),
                    study,
                    name,
                    file,
                    manifest,
                };
                Ok(Subject::Image(object.bytes, label))
            }
        }
    }

    /// What the owner of a study said of it; nothing, where there is no checked `study.json`.
    async fn manifest(&self, study: &StudyId) -> Result<StudyManifest, Problem> {
        let key = keys::manifest(study);
        match self.results.get(&key, StudyManifest::MAX_BYTES).await {
            Ok(object) => StudyManifest::from_json(&object.bytes)
                .map_err(|error| Problem::internal(error.to_string())),
            Err(error) if error.is_not_found() => Ok(StudyManifest::default()),
            Err(error) => Err(storage_problem(&key, &error)),
        }
    }
}

impl Subject {
    fn prepare(self, limits: &Limits) -> Result<Prepared, Problem> {
        match self {
            Self::Image(bytes, label) => image::prepare(&bytes, limits, label),
            Self::Prepared(bytes, result, spacing_mm) => {
                let unusable = |reason: String| Problem::unprocessable(reason);
                let prepared = Prepared::decode(&bytes, limits)
                    .map_err(|error| unusable(error.to_string()))?;
                if (&prepared.study, &prepared.name) != (&result.study, &result.name) {
                    return Err(unusable(
                        "it is the prepared slice of another key".to_owned(),
                    ));
                }
                Ok(Prepared {
                    spacing_mm: spacing_mm.or(prepared.spacing_mm),
                    ..prepared
                })
            }
        }
    }
}

impl<'a> ModelAnswer<'a> {
    fn of(model: &'a ServedModel) -> Self {
        let contract: &Contract = model.segmenter.contract();
        Self {
            version: model.version(),
            channel: model.channel(),
            onnx_sha256: &model.pointer.model.onnx_sha256,
            network: &contract.network,
            label: &contract.label,
            unit: contract.unit,
            input: &contract.input,
            preprocessing: contract.preprocessing,
            postprocessing: contract.postprocessing,
            scores: &contract.scores,
            licence: &contract.licence,
            notice: &contract.notice,
        }
    }
}

fn body(segmented: &Segmented<'_>, view: View) -> Vec<u8> {
    match view {
        View::Report => segmented.report().to_json(),
        View::MaskTiff => segmented.mask_tiff(),
        View::MaskPng => segmented.mask_png(),
        View::OverlayPng => segmented.overlay_png(),
        View::ProbabilityPng => segmented.probability_png(),
    }
}

fn respond(answer: Answer, view: View, model: &ServedModel) -> HttpResponse {
    let content_type = match view {
        View::Report => "application/json",
        View::MaskTiff => "image/tiff",
        View::MaskPng | View::OverlayPng | View::ProbabilityPng => "image/png",
    };
    let Answer {
        body,
        decode,
        steps,
        encode,
    } = answer;
    let timing = ServerTiming::default()
        .stage("decode", decode)
        .stage("preprocess", steps.preprocessing)
        .stage("inference", steps.inference)
        .stage("postprocess", steps.postprocessing)
        .stage("encode", encode);
    tracing::info!(model_version = model.version(), %timing, "an image was segmented");
    Metrics::new("segment")
        .count("Requests", 1)
        .millis("DecodeMilliseconds", decode)
        .millis("PreprocessMilliseconds", steps.preprocessing)
        .millis("InferenceMilliseconds", steps.inference)
        .millis("PostprocessMilliseconds", steps.postprocessing)
        .millis("EncodeMilliseconds", encode)
        .property("ModelVersion", model.version())
        .emit();
    HttpResponse::new(200, content_type, body)
        .with_header("vary", "accept")
        .with_header("x-model-version", model.version())
        .with_header("x-research-use-only", NOTICE)
        .with_header(ServerTiming::HEADER, timing.to_string())
}

/// How large the pixels of an upload are, where its metadata says so.
fn spacing_of(metadata: &Metadata) -> Result<Option<Spacing>, Problem> {
    metadata
        .get(SPACING_METADATA)
        .map(|text| text.parse())
        .transpose()
        .map_err(|error| Problem::unprocessable(format!("metadata {SPACING_METADATA}: {error}")))
}

fn no_model(error: &NoModel) -> Problem {
    let detail = match error {
        // What the store said is in the log, and no caller's business.
        NoModel::Unreachable { channel, .. } => {
            format!("the model of channel {channel} could not be read for now")
        }
        _ => error.to_string(),
    };
    Problem::unavailable(detail, RETRY_AFTER_SECONDS)
}

fn broke_off(error: BrokeOff) -> Problem {
    tracing::error!(%error, "the work on a request ended without a result");
    Problem::internal(error.to_string())
}

/// What to answer where an object cannot be read. What the store said is for the log.
fn storage_problem(key: &ObjectKey, error: &StorageError) -> Problem {
    let problem = match error {
        // Without the permission to list, S3 does not tell an absent object from a forbidden one.
        StorageError::NotFound { .. } | StorageError::Denied { .. } => {
            return Problem::not_found(format!("there is no object {key}, or it may not be read"));
        }
        StorageError::TooLarge { .. } => return Problem::payload_too_large(error.to_string()),
        error if error.is_retryable() => Problem::unavailable(
            format!("{key} could not be read for now"),
            RETRY_AFTER_SECONDS,
        ),
        _ => Problem::internal(format!("{key} could not be read")),
    };
    let error = scrub(&error.to_string(), key.as_str());
    tracing::error!(key = %KeyLog(key.as_str()), error, "an object could not be read");
    problem
}
