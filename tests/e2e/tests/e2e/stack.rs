//! The template, deployed to ministack with the programs of the test build.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use aws_sdk_s3::primitives::ByteStream;
use glioseg_shared::cloud::S3Storage;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request};
use serde_json::{Value, json};

use super::aws::{Answer, Aws, signed};
use super::binaries;
use super::cloudformation;
use super::ministack::Ministack;
use super::state_machine;

const TEMPLATE: &str = include_str!("../../../../infra/template.yaml");
const ARTEFACTS: &str = "artefacts";
const NAME: &str = "glioseg";

/// The functions of the stack.
pub(crate) const FUNCTIONS: [&str; 3] = ["preprocess", "segment", "score"];

/// What differs from the template's defaults: retries and the pick-up of models come soon, what has truth is kept for
/// training, the machine is this one, and concurrency is not reserved.
const PARAMETERS: &[(&str, &str)] = &[
    ("VisibilitySeconds", "1"),
    ("MaxReceiveCount", "3"),
    ("ModelRefreshSeconds", "0"),
    ("CollectLabelled", "true"),
    (
        "Architecture",
        if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "x86_64"
        },
    ),
    ("PreprocessReserved", "0"),
    ("SegmentReserved", "0"),
    ("ScoreReserved", "0"),
];

/// A deployed stack.
pub(crate) struct Stack {
    pub(crate) uploads: S3Storage,
    pub(crate) results: S3Storage,
    pub(crate) models: S3Storage,
    outputs: BTreeMap<String, String>,
    aws: Aws,
    _ministack: Ministack,
}

impl Stack {
    /// Deploys the template; `None`, with a printed line, where ministack is not installed.
    pub(crate) async fn deploy() -> Option<Self> {
        let ministack = Ministack::start().await?;
        let aws = ministack.aws.clone();
        let s3 = aws.s3();
        s3.create_bucket().bucket(ARTEFACTS).send().await.unwrap();
        let put = async |key: String, bytes: Vec<u8>| {
            let body = ByteStream::from(bytes);
            let put = s3.put_object().bucket(ARTEFACTS).key(key).body(body);
            put.send().await.unwrap();
        };
        // Zipped once for all tests: it takes longer than the rest of a deployment.
        static ZIPS: OnceLock<[Vec<u8>; 3]> = OnceLock::new();
        for (function, zip) in FUNCTIONS
            .iter()
            .zip(ZIPS.get_or_init(|| FUNCTIONS.map(binaries::zipped)))
        {
            put(format!("{function}.zip"), zip.clone()).await;
        }
        put("template.yaml".to_owned(), packaged(TEMPLATE).into_bytes()).await;
        let template = format!("{ARTEFACTS}/template.yaml");
        let outputs = cloudformation::deploy(&aws, NAME, &template, PARAMETERS).await;
        let bucket = |output: &str| aws.bucket(&outputs[output]);
        Some(Self {
            uploads: bucket("UploadsBucketName"),
            results: bucket("ResultsBucketName"),
            models: bucket("ModelsBucketName"),
            outputs,
            aws,
            _ministack: ministack,
        })
    }

    /// A value that the template gives out.
    pub(crate) fn output(&self, name: &str) -> &str {
        &self.outputs[name]
    }

    /// A signed request to the HTTP API.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Answer {
        let request = self.request(method, path, headers);
        self.aws.send(signed(request, body, "execute-api")).await
    }

    /// A request to the HTTP API by somebody without a name.
    pub(crate) async fn ask_unsigned(&self, method: Method, path: &str) -> Answer {
        let request = self.request(method, path, &[]);
        self.aws
            .send(request.body(Full::<Bytes>::default()).unwrap())
            .await
    }

    /// A request to wherever a link leads, as somebody without a name.
    pub(crate) async fn follow(&self, method: Method, link: &str, body: Vec<u8>) -> Answer {
        let uri: hyper::Uri = link.parse().unwrap();
        let request = Request::builder()
            .method(method)
            .header("host", uri.authority().unwrap().as_str())
            .uri(uri);
        self.aws
            .send(request.body(Full::new(Bytes::from(body))).unwrap())
            .await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> hyper::http::request::Builder {
        let api = self.output("ApiUrl");
        let host = api.split_once("//").unwrap().1;
        let request = Request::builder()
            .method(method)
            .uri(format!("{api}{path}"))
            .header("host", host);
        headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        })
    }

    /// Sends a message to a function's queue.
    pub(crate) async fn send_message(&self, function: &str, body: &str) {
        let input = json!({"QueueUrl": self.queue(function).await, "MessageBody": body});
        self.aws.call("sqs", "AmazonSQS.SendMessage", &input).await;
    }

    /// How many messages wait in a function's dead-letter queue.
    pub(crate) async fn dead_letters(&self, function: &str) -> usize {
        let input = json!({
            "QueueUrl": self.queue(&dead_letters_of(function)).await,
            "AttributeNames": ["ApproximateNumberOfMessages"],
        });
        let answer = self
            .aws
            .call("sqs", "AmazonSQS.GetQueueAttributes", &input)
            .await;
        let number = &answer["Attributes"]["ApproximateNumberOfMessages"];
        number.as_str().unwrap().parse().unwrap()
    }

    /// Moves what is in a function's dead-letter queue back into its queue; returns the number.
    ///
    /// That is what SQS's own redrive (`StartMessageMoveTask`) does, which ministack does not know.
    pub(crate) async fn redrive(&self, function: &str) -> usize {
        let dead_letters = self.queue(&dead_letters_of(function)).await;
        let mut moved = 0;
        loop {
            let input = json!({"QueueUrl": dead_letters, "MaxNumberOfMessages": 10});
            let answer = self
                .aws
                .call("sqs", "AmazonSQS.ReceiveMessage", &input)
                .await;
            let Some(messages) = answer["Messages"].as_array().filter(|m| !m.is_empty()) else {
                return moved;
            };
            for message in messages {
                self.send_message(function, message["Body"].as_str().unwrap())
                    .await;
                let input =
                    json!({"QueueUrl": dead_letters, "ReceiptHandle": message["ReceiptHandle"]});
                self.aws
                    .call("sqs", "AmazonSQS.DeleteMessage", &input)
                    .await;
                moved += 1;
            }
        }
    }

    /// Runs the state machine that segments a prefix once again, to its end; returns how the execution ended.
    pub(crate) async fn resegment(&self, prefix: &str) -> Value {
        let machine = self.output("ResegmentStateMachineArn");
        let execution = state_machine::start(&self.aws, machine, &json!({"prefix": prefix})).await;
        state_machine::ended(&self.aws, &execution).await
    }

    async fn queue(&self, name: &str) -> Value {
        let input = json!({"QueueName": format!("{NAME}-{name}")});
        let mut answer = self.aws.call("sqs", "AmazonSQS.GetQueueUrl", &input).await;
        answer["QueueUrl"].take()
    }
}

fn dead_letters_of(function: &str) -> String {
    format!("{function}-dead-letters")
}

/// The template as `aws cloudformation package` would upload it, and as ministack can run it.
fn packaged(template: &str) -> String {
    let mut packaged = template.to_owned();
    let mut replace = |from: &str, to: &str| {
        assert!(packaged.contains(from), "the template has no {from}");
        packaged = packaged.replace(from, to);
    };
    for function in FUNCTIONS {
        replace(
            &format!("../target/lambda/{function}/bootstrap.zip"),
            &format!("s3://{ARTEFACTS}/{function}.zip"),
        );
    }
    // ministack is spoken to without TLS, which its policies would rightly refuse.
    replace(
        "aws:SecureTransport: \"false\"",
        "aws:SecureTransport: \"never asked\"",
    );
    // It leaves a parameter's number a text here and then cannot compare it; two cores take no more anyway.
    for function in ["Preprocess", "Segment", "Score"] {
        replace(
            &format!("MaximumConcurrency: !Ref {function}Concurrency"),
            "MaximumConcurrency: 2",
        );
    }
    packaged
}
