//! `glioseg-train submit` as it is used: against moto's SageMaker and S3, and against a server that is busy, fails, and
//! lets a job take its time.

#![cfg(unix)]
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "support/aws_stub.rs"]
mod aws_stub;
#[path = "support/moto.rs"]
mod moto;
#[path = "support/threshold_model.rs"]
mod threshold_model;

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_stub::Stub;
use aws_types::SdkConfig;
use flate2::Compression;
use flate2::write::GzEncoder;
use glioseg_training::submit::call::{CallError, JsonClient, SAGEMAKER};
use glioseg_training::submit::jobs::{Job, Kind, SageMaker};
use glioseg_training::submit::logs::LogTail;
use glioseg_training::submit::state::{State, Status, Transition};
use glioseg_training::submit::{Watcher, follow};
use moto::Moto;
use serde_json::{Value, json};
use tempfile::TempDir;
use threshold_model::threshold_model;

/// What fills the places of the built-in templates.
const PLACES: [&str; 8] = [
    "--role=arn:aws:iam::123456789012:role/training",
    "--image=123456789012.dkr.ecr.eu-west-1.amazonaws.com/glioseg:1",
    "--data=s3://results/labelled",
    "--output=s3://training/jobs",
    "--kms-key=arn:aws:kms:eu-west-1:123456789012:key/1",
    "--subnet=subnet-1",
    "--subnet=subnet-2",
    "--security-group=sg-1",
];

fn submit(endpoint: &str, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_glioseg-train"));
    command
        .arg("submit")
        .current_dir(folder)
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .env("AWS_REGION", "eu-west-1")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("NO_PROXY", "127.0.0.1");
    command
}

/// A job that is created, named `j`.
fn create(endpoint: &str, folder: &Path) -> Command {
    create_named("j", endpoint, folder)
}

fn create_named(name: &str, endpoint: &str, folder: &Path) -> Command {
    let mut command = submit(endpoint, folder);
    command
        .args(PLACES)
        .args(["--name", name, "--interval", "1"]);
    command
}

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn said(command: &mut Command) -> Said {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let said = Said {
        code: status.code(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    };
    assert!(!said.err.contains("panicked"), "{}", said.err);
    said
}

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let Said { code, out, err } = said(command);
    assert_eq!(code, Some(0), "{out}{err}");
    out
}

/// What is said by a command that ends with this code.
#[track_caller]
fn end(command: &mut Command, expected: i32) -> String {
    let Said { code, out, err } = said(command);
    assert_eq!(code, Some(expected), "{out}{err}");
    format!("{out}{err}")
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// `model.tar.gz` of a job whose model has this version.
fn model_archive(version: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let model = threshold_model(version, 0.5, 16, Vec::new());
    for (name, content) in [
        ("model.onnx", model.as_slice()),
        ("evaluation/report.html", b"page"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, content).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// Puts an object into a bucket that need not be there.
async fn put(endpoint: &str, bucket: &str, key: &str, bytes: Vec<u8>) {
    let config = Builder::new()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .endpoint_url(endpoint)
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
        .force_path_style(true)
        .build();
    let client = Client::from_conf(config);
    client.create_bucket().bucket(bucket).send().await.unwrap();
    let object = client.put_object().bucket(bucket).key(key);
    object.body(bytes.into()).send().await.unwrap();
}

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/submit");
    serde_json::from_slice(&fs::read(path.join(name)).unwrap()).unwrap()
}

#[test]
fn a_dry_run_prints_the_request_and_asks_nobody() {
    let folder = folder();
    // Nobody listens there.
    let dry = |more: &[&str]| {
        let mut command = create("http://127.0.0.1:1", folder.path());
        command.env_remove("AWS_REGION");
        let out = succeed(command.args(more).arg("--dry-run"));
        serde_json::from_str::<Value>(&out).unwrap()
    };
    let out_of_step = "a template of infra/sagemaker has changed, or what fills it: if that is meant, run \
                       python3 training/tests/goldens/submit/make_goldens.py (it needs botocore)";
    assert_eq!(
        dry(&["--set", "epochs=20", "--set", "margin=0.01"]),
        golden("training-job.json"),
        "{out_of_step}"
    );
    assert_eq!(
        dry(&[
            "--tune",
            "--set",
            "epochs=20",
            "--instance-type",
            "ml.g5.xlarge"
        ]),
        golden("tuning-job.json"),
        "{out_of_step}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_request_that_cannot_be_made_is_refused_before_anybody_is_asked() {
    let folder = folder();
    let bare = || submit("http://127.0.0.1:1", folder.path());
    let whole = |more: &[&str]| {
        let mut command = create("http://127.0.0.1:1", folder.path());
        command.args(more);
        command
    };
    let text = end(&mut bare(), 1);
    let options = ["--role", "--image", "--data", "--output"];
    assert_says(&text, &options);
    let text = end(&mut whole(&["--set", "learning_rate=1e-3"]), 1);
    assert_says(&text, &["learning_rate", "did you mean learning-rate"]);
    let text = end(&mut whole(&["--set", "epochs=few"]), 1);
    assert_says(&text, &["hyper-parameter epochs", "few", "whole number"]);
    let text = end(&mut whole(&["--tune", "--set", "learning-rate=1e-3"]), 1);
    assert_says(&text, &["learning-rate", "draws it itself"]);
    let text = end(&mut whole(&["--models", "s3://models"]), 1);
    assert_says(&text, &["--models has no effect", "${ModelsUri}"]);
    let text = end(bare().args(PLACES).args(["--name", "a_b"]), 1);
    assert_says(
        &text,
        &["\"a_b\" is no name of a training job", "63 letters"],
    );

    fs::write(
        folder.path().join("job.json"),
        "{\"HyperParameterTuningJobName\": 1}",
    )
    .unwrap();
    let text = end(&mut whole(&["--template", "job.json"]), 1);
    assert_says(&text, &["one of a tuning job, not of a training job"]);
    let text = end(&mut whole(&["--template", "none.json"]), 1);
    assert_says(&text, &["none.json: cannot be read"]);

    fs::create_dir_all(folder.path().join("j/mine")).unwrap();
    let text = end(&mut whole(&[]), 1);
    assert_says(&text, &["j: there is something already"]);

    // Wrong by the command line itself.
    for (more, says) in [
        (["--set", "epochs"], "use NAME=VALUE"),
        (["--split", "labelled"], "s3://bucket/prefix"),
        (["--attach", "k"], "cannot be used with"),
    ] {
        assert_says(&end(&mut whole(&more), 2), &[says]);
    }
    let text = end(bare().args(["--subnet", "subnet-1"]), 2);
    assert_says(&text, &["--security-group"]);
}

#[tokio::test]
async fn motos_training_job_completes_and_its_model_is_fetched() {
    let Some(moto) = Moto::start() else { return };
    let key = "jobs/j/output/model.tar.gz";
    put(&moto.endpoint, "training", key, model_archive("m-1")).await;
    let folder = folder();
    let out = succeed(&mut create(&moto.endpoint, folder.path()));
    assert_says(
        &out,
        &[
            "training job j: created",
            "== Starting: Preparing the instances for training",
            "training job j: completed",
            "j/model.onnx: model m-1, research use only; not a medical device",
        ],
    );
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    assert!(read("j/model.onnx") == threshold_model("m-1", 0.5, 16, Vec::new()));
    assert_eq!(read("j/evaluation/report.html"), b"page");

    // Again, into another folder; what is there already is left alone.
    let attach = || {
        let mut command = submit(&moto.endpoint, folder.path());
        command.args(["--attach", "j"]);
        command
    };
    assert_says(&end(&mut attach(), 1), &["there is something already"]);
    succeed(attach().args(["--out", "again"]));
    assert!(read("again/model.onnx") == read("j/model.onnx"));
    let text = end(
        submit(&moto.endpoint, folder.path()).args(["--attach", "k"]),
        1,
    );
    assert_says(
        &text,
        &["DescribeTrainingJob: ", "Could not find training job"],
    );

    // A job whose model is not where it says.
    let text = end(&mut create_named("lost", &moto.endpoint, folder.path()), 1);
    assert_says(
        &text,
        &[
            "training job lost: completed",
            "s3://training/jobs/lost/output/model.tar.gz: cannot be fetched",
            "submit --attach lost",
        ],
    );
    assert!(!folder.path().join("lost").exists());
    assert!(!folder.path().join("lost.partial").exists());
}

#[tokio::test]
async fn motos_tuning_job_completes_and_the_best_model_is_fetched() {
    let Some(moto) = Moto::start() else { return };
    let folder = folder();
    // The one that moto calls the best of any tuning job.
    let best = "FakeTrainingJobName";
    let key = format!("jobs/{best}/output/model.tar.gz");
    put(&moto.endpoint, "training", &key, model_archive("m-2")).await;
    let mut command = create_named(best, &moto.endpoint, folder.path());
    let out = succeed(command.arg("--detach"));
    assert_says(
        &out,
        &["created", "submit --attach FakeTrainingJobName", "--stop"],
    );
    assert!(!folder.path().join(best).exists());

    let out = succeed(create(&moto.endpoint, folder.path()).arg("--tune"));
    assert_says(
        &out,
        &[
            "tuning job j: created",
            "1 of 20 training jobs have ended",
            "tuning job j: completed",
            "best training job: FakeTrainingJobName",
            "j/model.onnx: model m-2",
        ],
    );
}

/// The description of a training job in these parts of its life.
fn training_job(status: &str, parts: &[&str]) -> (u16, Value) {
    let transitions: Vec<_> = parts
        .iter()
        .map(|part| json!({"Status": part, "StartTime": 1.5, "StatusMessage": ""}))
        .collect();
    let description = json!({
        "TrainingJobName": "j",
        "TrainingJobStatus": status,
        "SecondaryStatus": parts.last(),
        "SecondaryStatusTransitions": transitions,
        "HyperParameters": {"epochs": "3"},
        "FailureReason": (status == "Failed").then_some("AlgorithmError: channel training is empty"),
    });
    (200, description)
}

fn refused(status: u16, code: &str) -> (u16, Value) {
    (status, json!({"__type": code, "message": "says AWS"}))
}

/// What CloudWatch Logs answers to a reader that is this far: three lines, in two answers.
fn log(operation: &str, before: usize) -> Option<(u16, Value)> {
    let events = |lines: &[&str], next: &str| {
        let events: Vec<_> = lines.iter().map(|line| json!({"message": line})).collect();
        json!({"events": events, "nextForwardToken": next})
    };
    let answer = match (operation, before) {
        ("DescribeLogStreams", _) => json!({"logStreams": [{"logStreamName": "j/algo-1-1"}]}),
        ("GetLogEvents", 0) => events(&["epoch 1/3 loss=0.5; Val_dice=0.7;"], "f/1"),
        ("GetLogEvents", 1) => events(&[], "f/1"),
        ("GetLogEvents", 2) => events(&["epoch 2/3 loss=0.4; Val_dice=0.8;", "\u{1b}[2J"], "f/2"),
        ("GetLogEvents", _) => events(&[], "f/2"),
        _ => return None,
    };
    Some((200, answer))
}

#[test]
fn a_job_is_followed_to_its_failure() {
    let stub = Stub::start(|operation, before| match (operation, before) {
        ("CreateTrainingJob", _) => (200, json!({"TrainingJobArn": "arn"})),
        ("DescribeTrainingJob", 0) => training_job("InProgress", &["Starting"]),
        // An outage of this call alone, which is outlasted.
        ("DescribeTrainingJob", 1) => refused(503, "ServiceUnavailable"),
        ("DescribeTrainingJob", 2) => training_job("Failed", &["Starting", "Training", "Failed"]),
        _ => log(operation, before).unwrap(),
    });
    let folder = folder();
    let mut command = create(&stub.endpoint, folder.path());
    let Said { code, out, err } = said(command.env("AWS_MAX_ATTEMPTS", "1"));
    assert_eq!(code, Some(1), "{out}{err}");
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(
        lines,
        [
            "training job j: created",
            "== Starting",
            "epoch 1/3 loss=0.5; Val_dice=0.7;",
            "== Training",
            "== Failed",
            "epoch 2/3 loss=0.4; Val_dice=0.8;",
            "\u{fffd}[2J",
        ]
    );
    assert_says(
        &err,
        &[
            "warning: DescribeTrainingJob: ServiceUnavailable: says AWS",
            "the job runs on",
            "error: training job j: failed: AlgorithmError: channel training is empty",
        ],
    );

    let calls = stub.calls();
    let created = &calls[0];
    assert_eq!(created.input["TrainingJobName"], "j");
    for call in &calls {
        let service = match call.operation.as_str() {
            "DescribeLogStreams" | "GetLogEvents" => "logs",
            _ => "sagemaker",
        };
        let scope = format!("/eu-west-1/{service}/aws4_request");
        assert_says(
            &call.authorization,
            &["AWS4-HMAC-SHA256 Credential=key/", &scope],
        );
    }
    let tokens = calls.iter().filter(|call| call.operation == "GetLogEvents");
    let tokens: Vec<_> = tokens
        .map(|call| call.input["nextToken"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(tokens, ["", "f/1", "f/1", "f/2", "f/2", "f/2"]);
}

/// The configuration of a client of this endpoint, which tries once.
fn configured(endpoint: &str) -> aws_types::sdk_config::Builder {
    let credentials = Credentials::new("key", "secret", None, None, "test");
    SdkConfig::builder()
        .region(Region::new("eu-west-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(endpoint)
}

/// What a job printed.
#[derive(Default)]
struct Printed(Vec<String>);

impl Watcher for Printed {
    fn entered(&mut self, _: &Transition) {}

    fn printed(&mut self, line: &str) {
        self.0.push(line.to_owned());
    }

    fn seen(&mut self, _: &State) {}

    fn missed(&mut self, error: &CallError) {
        self.0.push(format!("missed: {error}"));
    }
}

#[tokio::test]
async fn lines_that_come_after_the_end_are_told() {
    let events = |line: Option<&str>, next: &str| {
        let events: Vec<_> = line.iter().map(|line| json!({"message": line})).collect();
        (200, json!({"events": events, "nextForwardToken": next}))
    };
    let stub = Stub::start(move |operation, before| match (operation, before) {
        ("DescribeTrainingJob", _) => training_job("Completed", &["Training", "Completed"]),
        ("DescribeLogStreams", 3) => refused(503, "ServiceUnavailable"),
        ("DescribeLogStreams", _) => log(operation, before).unwrap(),
        // Until a token comes a second time, one look asks on.
        (_, 0) => events(Some("first"), "f/1"),
        (_, 1 | 2) => events(None, "f/1"),
        (_, 3) => events(Some("late"), "f/2"),
        (_, 4) => events(None, "f/2"),
        (_, 5) => events(Some("last"), "f/3"),
        (_, _) => events(None, "f/3"),
    });
    let aws = configured(&stub.endpoint).build();
    let job = Job::named(Kind::Training, "j").unwrap();
    let tail = LogTail::new(&aws, &job.name).unwrap();
    let pauses = RefCell::new(Vec::new());
    let sleep = async |pause| pauses.borrow_mut().push(pause);
    let mut printed = Printed::default();
    let state = follow(
        &SageMaker::new(&aws).unwrap(),
        &job,
        Some(tail),
        Duration::from_secs(3600),
        sleep,
        &mut printed,
    )
    .await;
    assert_eq!(state.unwrap().status, Status::Completed);
    let [first, late, missed, last] = &printed.0[..] else {
        panic!("{:?}", printed.0)
    };
    assert_eq!([first, late, last], ["first", "late", "last"]);
    assert_says(missed, &["missed: DescribeLogStreams: ServiceUnavailable"]);
    // Quiet, late, missed, last, and quiet twice in a row.
    assert_eq!(*pauses.borrow(), [Duration::from_secs(5); 6]);
    assert_eq!(stub.count("DescribeTrainingJob"), 1);
}

#[tokio::test]
async fn an_answer_that_stalls_is_given_up() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    // The connection stays open as long as the thread's result is not taken.
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let call = aws_stub::receive(&stream);
        write!(stream, "HTTP/1.1 200 -\r\ncontent-length: 100\r\n\r\n{{").unwrap();
        (stream, call)
    });
    let limit = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_millis(500));
    let aws = configured(&endpoint).timeout_config(limit.build()).build();
    let client = JsonClient::new(&aws).unwrap();
    let error = client
        .call::<Value>(&SAGEMAKER, "StopTrainingJob", &json!({}))
        .await
        .unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_says(
        &error.to_string(),
        &["StopTrainingJob: no whole answer within 0.5 s"],
    );
    let (_stream, call) = server.join().unwrap();
    assert_eq!(call.operation, "StopTrainingJob");
}

#[test]
fn a_busy_service_is_asked_again_and_a_refusal_is_final() {
    let folder = folder();
    let detached = |stub: &Stub| {
        let mut command = create(&stub.endpoint, folder.path());
        command.arg("--detach");
        command
    };
    let throttled = |times: usize| {
        Stub::start(move |_, before| match before {
            before if before < times => refused(400, "ThrottlingException"),
            _ => (200, json!({})),
        })
    };
    let stub = throttled(2);
    succeed(&mut detached(&stub));
    assert_eq!(stub.count("CreateTrainingJob"), 3);

    let stub = throttled(9);
    let text = end(detached(&stub).env("AWS_MAX_ATTEMPTS", "2"), 1);
    assert_says(
        &text,
        &[
            "training job j: CreateTrainingJob: ThrottlingException: says AWS",
            "asked 2 times",
            "trying again later can help",
        ],
    );
    assert_eq!(stub.count("CreateTrainingJob"), 2);

    for code in [
        "AccessDeniedException",
        "ResourceLimitExceeded",
        "ResourceInUse",
    ] {
        let stub = Stub::start(move |_, _| refused(400, code));
        let text = end(&mut detached(&stub), 1);
        assert_says(&text, &[&format!("CreateTrainingJob: {code}: says AWS")]);
        assert!(!text.contains("can help"), "{text}");
        assert_eq!(stub.count("CreateTrainingJob"), 1);
    }
}

#[test]
fn a_job_whose_answer_was_lost_is_created_all_the_same() {
    let folder = folder();
    let stub = Stub::start(|_, before| match before {
        0 => (0, Value::Null),
        _ => refused(400, "ResourceInUse"),
    });
    let out = succeed(create(&stub.endpoint, folder.path()).arg("--detach"));
    assert_says(&out, &["training job j: created"]);
    assert_eq!(stub.count("CreateTrainingJob"), 2);
}

#[test]
fn a_log_that_may_not_be_read_does_not_end_the_watching() {
    let folder = folder();
    let stub = Stub::start(|operation, before| match (operation, before) {
        ("DescribeTrainingJob", 0) => training_job("InProgress", &["Training"]),
        ("DescribeTrainingJob", _) => training_job("Stopped", &["Training", "Stopped"]),
        _ => refused(400, "AccessDeniedException"),
    });
    let mut command = submit(&stub.endpoint, folder.path());
    let text = end(command.args(["--attach", "j", "--interval", "1"]), 3);
    assert_says(
        &text,
        &[
            "warning: DescribeLogStreams: AccessDeniedException",
            "training job j: stopped",
        ],
    );
    assert_eq!(stub.count("DescribeLogStreams"), 1);
}

#[test]
fn a_job_is_stopped_by_its_name() {
    let folder = folder();
    let stub = Stub::start(|_, _| (200, Value::Null));
    let stop = |more: &[&str]| {
        let mut command = submit(&stub.endpoint, folder.path());
        command.args(["--stop", "j"]).args(more);
        succeed(&mut command)
    };
    assert_says(&stop(&[]), &["training job j: is asked to stop"]);
    assert_says(&stop(&["--tune"]), &["tuning job j: is asked to stop"]);
    let calls = stub.calls();
    let calls: Vec<_> = calls.iter().map(|call| call.operation.as_str()).collect();
    assert_eq!(calls, ["StopTrainingJob", "StopHyperParameterTuningJob"]);
}

#[test]
fn an_interruption_leaves_the_job_running() {
    let folder = folder();
    let stub = Stub::start(|operation, _| match operation {
        "DescribeTrainingJob" => training_job("InProgress", &["Training"]),
        _ => refused(400, "ResourceNotFoundException"),
    });
    let mut command = submit(&stub.endpoint, folder.path());
    command.args(["--attach", "j", "--interval", "3600"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "== Training");
    let pid = child.id().to_string();
    let asked = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(asked.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut text = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_says(
        &text,
        &[
            "training job j: runs on",
            "glioseg-train submit --attach j",
            "glioseg-train submit --stop j",
        ],
    );
    assert_eq!(stub.count("StopTrainingJob"), 0);
}

#[test]
fn nobody_is_asked_without_region_or_credentials() {
    let folder = folder();
    let mut command = create("http://127.0.0.1:1", folder.path());
    let text = end(command.env_remove("AWS_REGION"), 1);
    assert_says(&text, &["no AWS region: set AWS_REGION"]);
    let mut command = create("http://127.0.0.1:1", folder.path());
    command.env_remove("AWS_ACCESS_KEY_ID");
    assert_says(&end(&mut command, 1), &["no AWS credentials: "]);
}
