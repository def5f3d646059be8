//! Each function as a developer runs it on a laptop: `cargo lambda watch`, and `cargo lambda invoke` with the committed
//! events. The programs are those of the test build: `--only-lambda-apis` keeps `watch` from building others.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use glioseg_shared::cloud::keys::{self, SliceName, StudyId};
use glioseg_shared::cloud::{ObjectKey, S3Storage, Storage};
use glioseg_shared::imaging::{encode_mask_tiff, encode_slice_tiff, phantom};
use http_body_util::Full;
use hyper::{Method, Request};
use serde_json::Value;

use super::aws::{ADMINISTRATOR, Answer, Aws, REGION};
use super::binaries;
use super::ministack::{Ministack, free_port};
use super::models::{self, publish};
use super::stack::FUNCTIONS;
use super::studies::{first_with_tumour, put};
use super::wait::until;

/// The names that the committed events have.
const UPLOADS: &str = "glioseg-uploads-111122223333-us-east-1";
const RESULTS: &str = "glioseg-results-111122223333-us-east-1";
const MODELS: &str = "glioseg-models-111122223333-us-east-1";
const STUDY: &str = "phantöm 1";
const SLICE: &str = "slice+12";

/// `cargo lambda watch` with the three functions; they end with this value.
struct Laptop {
    program: PathBuf,
    port: u16,
    processes: Vec<Child>,
    ministack: Ministack,
}

impl Drop for Laptop {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Laptop {
    /// `None`, with a printed line, where something for it is not installed.
    async fn start() -> Option<Self> {
        let program = glioseg_test_support::cargo_lambda()?;
        let ministack = Ministack::start().await?;
        let s3 = ministack.aws.s3();
        for bucket in [UPLOADS, RESULTS, MODELS] {
            s3.create_bucket().bucket(bucket).send().await.unwrap();
        }
        let port = free_port();
        let watch = Command::new(&program)
            .args(["lambda", "watch", "--only-lambda-apis"])
            .args([
                "--invoke-address",
                "127.0.0.1",
                "--invoke-port",
                &port.to_string(),
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut laptop = Self {
            program,
            port,
            processes: vec![watch],
            ministack,
        };
        until("cargo lambda watch to listen", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .ok()
        })
        .await;
        for function in FUNCTIONS {
            let process = laptop.function(function).spawn().unwrap();
            laptop.processes.push(process);
        }
        Some(laptop)
    }

    fn function(&self, name: &str) -> Command {
        let mut command = Command::new(binaries::path(name));
        command
            .env(
                "AWS_LAMBDA_RUNTIME_API",
                format!("http://127.0.0.1:{}/.rt/{name}", self.port),
            )
            .env("AWS_LAMBDA_FUNCTION_NAME", name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769")
            .env("AWS_ENDPOINT_URL", self.ministack.aws.endpoint())
            .env("AWS_ACCESS_KEY_ID", ADMINISTRATOR)
            .env("AWS_SECRET_ACCESS_KEY", ADMINISTRATOR)
            .env("AWS_REGION", REGION)
            .env("UPLOADS_BUCKET", UPLOADS)
            .env("RESULTS_BUCKET", RESULTS)
            .env("MODELS_BUCKET", MODELS)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn bucket(&self, name: &str) -> S3Storage {
        self.ministack.aws.bucket(name)
    }

    /// Sends a committed event by `cargo lambda invoke`; returns the answer.
    fn invoke(&self, function: &str, event: &str) -> Value {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("events/{event}.json"));
        let output = Command::new(&self.program)
            .args(["lambda", "invoke", function, "--data-file"])
            .arg(file)
            .args([
                "--invoke-address",
                "127.0.0.1",
                "--invoke-port",
                &self.port.to_string(),
            ])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{function} with {event}: {said}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!(
                "{function} with {event}: {error}: {}",
                String::from_utf8_lossy(&output.stdout)
            )
        })
    }

    /// Sends a request of API Gateway's; returns the status and the body, still as Lambda has it.
    fn request(&self, function: &str, event: &str) -> (u64, String) {
        let answer = self.invoke(function, event);
        let status = answer["statusCode"].as_u64().unwrap();
        (
            status,
            answer["body"].as_str().unwrap_or_default().to_owned(),
        )
    }

    /// Asks a function's URL.
    async fn get(&self, function: &str, path: &str) -> Answer {
        let aws = Aws::at(self.port);
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("{}/lambda-url/{function}{path}", aws.endpoint()))
            .header("host", format!("127.0.0.1:{}", self.port))
            .body(Full::default())
            .unwrap();
        aws.send(request).await
    }
}

/// A slice through the lesion and its truth, at the keys that the events name.
async fn fill(laptop: &Laptop) {
    let phantom = phantom::study(1);
    let lesion = first_with_tumour(&phantom);
    let (uploads, results) = (laptop.bucket(UPLOADS), laptop.bucket(RESULTS));
    let slice = encode_slice_tiff(&phantom.slices[lesion]);
    put(&uploads, &format!("{STUDY}/{SLICE}.tif"), &slice).await;
    let truth = encode_mask_tiff(&phantom.masks[lesion]);
    put(&results, &format!("truth/{STUDY}/{SLICE}.tif"), &truth).await;
    publish(&laptop.bucket(MODELS), &models::shipped()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_function_takes_the_committed_events() {
    let Some(laptop) = Laptop::start().await else {
        return;
    };
    fill(&laptop).await;
    let (study, slice) = (
        StudyId::parse(STUDY).unwrap(),
        SliceName::parse(SLICE).unwrap(),
    );
    let outputs: [(&str, ObjectKey); 3] = [
        ("preprocess", keys::prepared(&study, &slice)),
        ("segment", keys::mask(&study, &slice)),
        ("score", keys::score(&study, &slice)),
    ];
    let results = laptop.bucket(RESULTS);
    for (function, output) in &outputs {
        let mut first = None;
        for sender in ["s3", "sqs", "eventbridge"] {
            results.delete(output).await.unwrap();
            let answer = laptop.invoke(function, &format!("{function}-{sender}"));
            if sender == "sqs" {
                assert_eq!(
                    answer["batchItemFailures"],
                    Value::Array(Vec::new()),
                    "{function}"
                );
            }
            let made = results.get(output, 1 << 24).await.unwrap();
            let first = first.get_or_insert_with(|| made.bytes.clone());
            assert!(*first == made.bytes, "{output} differs by {sender}");
        }
        let answer = laptop.invoke(function, "sqs-s3-test-event");
        assert_eq!(
            answer["batchItemFailures"],
            Value::Array(Vec::new()),
            "{function}"
        );
    }

    for (function, event) in [
        ("preprocess", "http-get-health-preprocess"),
        ("segment", "http-get-health-segment"),
        ("score", "http-get-health-score"),
        ("preprocess", "http-post-uploads"),
        ("segment", "http-get-model"),
        ("segment", "http-post-segment"),
        ("segment", "http-post-segment-image"),
        ("score", "http-post-score"),
        ("score", "http-get-study"),
        ("score", "http-delete-study"),
        ("score", "http-delete-patient"),
    ] {
        let (status, body) = laptop.request(function, event);
        assert_eq!(status, 200, "{function} with {event}: {body}");
        assert!(!body.is_empty(), "{function} with {event}");
    }
    assert_eq!(laptop.request("score", "http-get-study").0, 404);
    for function in FUNCTIONS {
        assert_eq!(
            laptop.request(function, "url-get-health").0,
            200,
            "{function}"
        );
        let health = laptop.get(function, "/health").await;
        assert_eq!(health.status, 200, "{}", health.text());
        assert_eq!(health.json()["function"], function);
    }
}
