//! The template that retrains, deployed to ministack.
//!
//! ministack has no SageMaker. Its two steps are activities here, and the test does them: it gets the very requests that
//! SageMaker would get, which are checked against SageMaker's description of them, and answers as SageMaker would.

use std::collections::BTreeMap;

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use glioseg_shared::cloud::{Condition, Metadata, ObjectKey, S3Storage, Storage};
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};

use super::aws::Aws;
use super::cloudformation;
use super::job_requests::assert_taken;
use super::ministack::Ministack;
use super::state_machine::{Activity, Task, ended, executions, start};
use super::wait::until;

pub(crate) const TEMPLATE: &str = include_str!("../../../../infra/retraining.yaml");
pub(crate) const MACHINE: &str = include_str!("../../../../infra/sagemaker/retrain.asl.json");

const ARTEFACTS: &str = "artefacts";
pub(crate) const RESULTS: &str = "glioseg-results";
pub(crate) const MODELS: &str = "glioseg-models";
const ACCESS_LOGS: &str = "glioseg-access-logs";
pub(crate) const TAG: &str = "0123456789ab";

/// The deployed template.
pub(crate) struct Retraining {
    aws: Aws,
    pub(crate) outputs: BTreeMap<String, String>,
    pub(crate) results: S3Storage,
    pub(crate) key: String,
    training: Activity,
    publishing: Activity,
    notifications: Value,
    _ministack: Ministack,
}

impl Retraining {
    /// Deploys the template beside a results bucket with or without a manifest; `None`, with a printed line, where
    /// ministack is not installed.
    pub(crate) async fn deploy(
        manifest: Option<&str>,
        parameters: &[(&str, &str)],
    ) -> Option<Self> {
        let ministack = Ministack::start().await?;
        let aws = ministack.aws.clone();
        retry_at_once(&aws).await;
        let s3 = aws.s3();
        for bucket in [ARTEFACTS, RESULTS, MODELS, ACCESS_LOGS] {
            s3.create_bucket().bucket(bucket).send().await.unwrap();
        }
        let versioning = VersioningConfiguration::builder()
            .status(BucketVersioningStatus::Enabled)
            .build();
        let versioning = s3
            .put_bucket_versioning()
            .bucket(RESULTS)
            .versioning_configuration(versioning);
        versioning.send().await.unwrap();
        let results = aws.bucket(RESULTS);
        if let Some(manifest) = manifest {
            label(&results, manifest).await;
        }
        let training = Activity::create(&aws, "training").await;
        let publishing = Activity::create(&aws, "publishing").await;
        let artefacts = aws.bucket(ARTEFACTS);
        put(&artefacts, "retraining.yaml", &packaged(TEMPLATE)).await;
        let machine = runnable(MACHINE, &training, &publishing);
        put(&artefacts, "retrain.asl.json", &machine).await;
        let created = aws.call("kms", "TrentService.CreateKey", &json!({})).await;
        let key = created["KeyMetadata"]["Arn"].as_str().unwrap().to_owned();
        let parameters = [
            parameters,
            &[
                ("ResultsBucket", RESULTS),
                ("ModelsBucket", MODELS),
                ("AccessLogsBucket", ACCESS_LOGS),
                ("DataKeyArn", &key),
                ("ImageTag", TAG),
            ],
        ]
        .concat();
        let template = format!("{ARTEFACTS}/retraining.yaml");
        let outputs = cloudformation::deploy(&aws, "retraining", &template, &parameters).await;
        let notifications = subscribe(&aws, &outputs["OutcomesTopicArn"]).await;
        Some(Self {
            aws,
            outputs,
            results,
            key,
            training,
            publishing,
            notifications,
            _ministack: ministack,
        })
    }

    fn machine(&self) -> &str {
        &self.outputs["RetrainStateMachineArn"]
    }

    pub(crate) async fn start(&self, input: Value) -> Value {
        start(&self.aws, self.machine(), &input).await
    }

    /// How many executions there were.
    pub(crate) async fn executions(&self) -> usize {
        executions(&self.aws, self.machine()).await
    }

    pub(crate) async fn ended(&self, execution: &Value) -> Value {
        ended(&self.aws, execution).await
    }

    /// The training job that was asked for; SageMaker would take the request.
    pub(crate) async fn training_job(&self) -> Task {
        let task = self.training.task().await;
        assert_taken("CreateTrainingJob", &task.input);
        task
    }

    /// The publishing job that was asked for; SageMaker would take the request.
    pub(crate) async fn publishing_job(&self) -> Task {
        let task = self.publishing.task().await;
        assert_taken("CreateProcessingJob", &task.input);
        task
    }

    pub(crate) async fn receive(&self) -> Option<Value> {
        let input = json!({"QueueUrl": self.notifications});
        let received = self
            .aws
            .call("sqs", "AmazonSQS.ReceiveMessage", &input)
            .await;
        let message = received["Messages"].as_array()?.first()?;
        let input =
            json!({"QueueUrl": self.notifications, "ReceiptHandle": message["ReceiptHandle"]});
        self.aws
            .call("sqs", "AmazonSQS.DeleteMessage", &input)
            .await;
        Some(serde_json::from_str(message["Body"].as_str().unwrap()).unwrap())
    }

    /// The next notification: its subject and its text.
    pub(crate) async fn told(&self) -> (String, String) {
        let message = until("a notification", async || self.receive().await).await;
        let text = |name: &str| message[name].as_str().unwrap().to_owned();
        (text("Subject"), text("Message"))
    }
}

async fn put(bucket: &S3Storage, key: &str, text: &str) {
    let key = ObjectKey::parse(key).unwrap();
    let bytes = text.as_bytes().to_vec();
    bucket
        .put(&key, bytes, Condition::Always, &Metadata::new())
        .await
        .unwrap();
}

/// Says that other slices are labelled than before.
pub(crate) async fn label(results: &S3Storage, manifest: &str) {
    put(results, "labelled/manifest.json", manifest).await;
}

/// Makes Step Functions try again without waiting.
async fn retry_at_once(aws: &Aws) {
    let body = json!({"stepfunctions._SFN_WAIT_SCALE": 0}).to_string();
    let uri = format!("{}/_ministack/config", aws.endpoint());
    let host = aws.endpoint().replace("http://", "");
    let request = Request::post(uri)
        .header("host", host)
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let answer = aws.send(request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Has what a topic announces put into a queue; returns the queue's URL.
async fn subscribe(aws: &Aws, topic: &str) -> Value {
    let arn = "arn:aws:sqs:us-east-1:000000000000:notifications";
    let policy = json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
        }],
    });
    let input = json!({"QueueName": "notifications", "Attributes": {"Policy": policy.to_string()}});
    let mut queue = aws.call("sqs", "AmazonSQS.CreateQueue", &input).await;
    let subscription = [
        ("Action", "Subscribe"),
        ("Version", "2010-03-31"),
        ("TopicArn", topic),
        ("Protocol", "sqs"),
        ("Endpoint", arn),
    ];
    aws.query("sns", &subscription).await;
    queue["QueueUrl"].take()
}

fn replaced(text: &str, replacements: &[(&str, &str)]) -> String {
    let mut replaced = text.to_owned();
    for (from, to) in replacements {
        assert!(replaced.contains(from), "there is no {from}");
        replaced = replaced.replace(from, to);
    }
    replaced
}

/// The template as `aws cloudformation package` would upload it. ministack is spoken to without TLS, which its policies
/// would rightly refuse.
fn packaged(template: &str) -> String {
    let definition = format!("DefinitionUri: s3://{ARTEFACTS}/retrain.asl.json");
    replaced(
        template,
        &[
            ("DefinitionUri: sagemaker/retrain.asl.json", &definition),
            (
                "aws:SecureTransport: \"false\"",
                "aws:SecureTransport: \"never asked\"",
            ),
        ],
    )
}

/// The state machine with activities in the place of SageMaker. ministack writes the tags that it sends to S3 without
/// the elements around them, which are given to it here.
fn runnable(machine: &str, training: &Activity, publishing: &Activity) -> String {
    replaced(
        machine,
        &[
            (
                "arn:${Partition}:states:::sagemaker:createTrainingJob.sync",
                &training.arn,
            ),
            (
                "arn:${Partition}:states:::sagemaker:createProcessingJob.sync",
                &publishing.arn,
            ),
            (
                r#"[{"Key": "trained-by", "Value": "{% $job %}"}]"#,
                r#"[{"Tag": {"Key": "trained-by", "Value": "{% $job %}"}}]"#,
            ),
        ],
    )
}
