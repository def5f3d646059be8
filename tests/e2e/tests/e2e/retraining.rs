//! The state machine that retrains, from labels to the message of what came of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::job_requests::filled;
use super::models;
use super::retraining_stack::{MACHINE, MODELS, RESULTS, Retraining, TAG, TEMPLATE, label};

const TRAINING_JOB: &str = include_str!("../../../../infra/sagemaker/training-job.json");

/// What a publishing job says at its end.
const DECISION: &str = "channel fast now serves fast-0123456789ab";

/// What SageMaker says of a training job that has ended well.
fn trained(request: &Value) -> Value {
    let job = request["TrainingJobName"].as_str().unwrap();
    let output = request["OutputDataConfig"]["S3OutputPath"]
        .as_str()
        .unwrap();
    json!({
        "TrainingJobName": job,
        "TrainingJobStatus": "Completed",
        "ModelArtifacts": {"S3ModelArtifacts": format!("{output}/{job}/output/model.tar.gz")},
        "FinalMetricDataList": [
            {"MetricName": "loss", "Value": 0.1},
            {"MetricName": "Val_volume_dice", "Value": 0.9012},
            {"MetricName": "Test_volume_dice", "Value": 0.8123},
        ],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_newly_labelled_is_trained_on_published_and_announced() {
    let Some(stack) = Retraining::deploy(None, &[]).await else {
        return;
    };
    let nothing = stack.start(json!({})).await;
    let nothing = stack.ended(&nothing).await;
    assert_eq!(nothing["status"], "SUCCEEDED", "{nothing}");
    let said = nothing["output"].as_str().unwrap();
    assert!(said.contains("nothing new"), "{said}");

    label(&stack.results, "{}").await;
    let execution = stack.start(json!({})).await;
    let training = stack.training_job().await;
    assert_eq!(training.input, definition(&stack, &training.input));
    // What is labelled while the job trains is for the next run.
    label(&stack.results, r#"{"later": true}"#).await;
    let answer = trained(&training.input);
    let job = training.input["TrainingJobName"].clone();
    training.succeed(&answer).await;

    let publishing = stack.publishing_job().await;
    let request = &publishing.input;
    let to = format!("s3://{MODELS}");
    let arguments = json!([
        "publish-archive",
        to,
        "--channel",
        models::CHANNEL,
        "--margin",
        "0"
    ]);
    assert_eq!(request["AppSpecification"]["ContainerArguments"], arguments);
    assert_eq!(request["NetworkConfig"]["EnableNetworkIsolation"], false);
    assert_eq!(request["RoleArn"], stack.outputs["PublishRoleArn"].as_str());
    let inputs: BTreeMap<_, _> = request["ProcessingInputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|input| {
            let of = |name: &str| input["S3Input"][name].as_str().unwrap();
            (of("LocalPath"), of("S3Uri"))
        })
        .collect();
    let artefacts = answer["ModelArtifacts"]["S3ModelArtifacts"]
        .as_str()
        .unwrap();
    let labelled = format!("s3://{RESULTS}/labelled/");
    let expected = BTreeMap::from([
        ("/opt/ml/processing/input/model", artefacts),
        ("/opt/ml/processing/input/training", labelled.as_str()),
    ]);
    assert_eq!(inputs, expected);
    publishing.succeed(&json!({"ExitMessage": DECISION})).await;

    let done = stack.ended(&execution).await;
    assert_eq!(done["status"], "SUCCEEDED", "{done}");
    let output: Value = serde_json::from_str(done["output"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&output["outcome"], &output["job"]),
        (&json!(DECISION), &job)
    );
    let (subject, message) = stack.told().await;
    assert_eq!(subject, "glioseg: a model was trained");
    for part in [
        DECISION,
        "Val_volume_dice 0.9012, Test_volume_dice 0.8123",
        artefacts,
        "Research use only",
    ] {
        assert!(message.contains(part), "no {part:?} in {message}");
    }

    let next = stack.start(json!({})).await;
    let training = stack.training_job().await;
    training.succeed(&answer).await;
    let publishing = stack.publishing_job().await;
    // A job that said nothing is no reason to fail.
    publishing.succeed(&json!({})).await;
    assert_eq!(stack.ended(&next).await["status"], "SUCCEEDED");
    stack.told().await;
    let last = stack.start(json!({})).await;
    let last = stack.ended(&last).await;
    let said = last["output"].as_str().unwrap();
    assert!(said.contains("nothing new"), "{last}");
    // That nothing is new is not worth a message.
    assert_eq!(stack.receive().await, None);
}

/// The committed definition of the training job, filled with what the stack is made of.
fn definition(stack: &Retraining, request: &Value) -> Value {
    let job = request["TrainingJobName"].as_str().unwrap();
    assert!(job.starts_with("glioseg-retrain-"), "{job}");
    let image = format!("{}:{TAG}", stack.outputs["RepositoryUri"]);
    let training = format!("s3://{RESULTS}/labelled/");
    let bucket = &stack.outputs["TrainingBucketName"];
    let output = format!("s3://{bucket}/output");
    let checkpoints = format!("s3://{bucket}/checkpoints/{job}");
    let mut definition = filled(
        TRAINING_JOB,
        &[
            ("TrainingJobName", job),
            ("ImageUri", &image),
            ("TrainingUri", &training),
            ("OutputUri", &output),
            ("CheckpointUri", &checkpoints),
            ("KmsKeyId", &stack.key),
            ("InstanceType", "ml.g6.xlarge"),
            ("SecurityGroupId", &stack.outputs["SecurityGroupIds"]),
            ("SubnetId", ""),
            ("RoleArn", &stack.outputs["TrainingRoleArn"]),
            ("SplitUri", ""),
        ],
    );
    // The manifest of the labelled slices says who validates.
    let channels = definition["InputDataConfig"].as_array_mut().unwrap();
    channels.retain(|channel| channel["ChannelName"] != "split");
    let subnets: Vec<&str> = stack.outputs["SubnetIds"].split(',').collect();
    assert_eq!(subnets.len(), 2, "{subnets:?}");
    definition["VpcConfig"]["Subnets"] = json!(subnets);
    definition
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_announced_and_what_is_new_stays_new() {
    let Some(stack) = Retraining::deploy(Some("{}"), &[]).await else {
        return;
    };
    let execution = stack.start(json!({})).await;
    let training = stack.training_job().await;
    let reason = json!({"FailureReason": "AlgorithmError: TCGA_1/3.tif: no TIFF file"}).to_string();
    training.fail("States.TaskFailed", &reason).await;
    let failed = stack.ended(&execution).await;
    assert_eq!(failed["status"], "FAILED", "{failed}");
    assert_eq!(failed["error"], "RetrainingFailed");
    let (subject, message) = stack.told().await;
    assert_eq!(subject, "glioseg: retraining failed");
    assert!(message.contains("while training"), "{message}");
    assert!(message.contains("TCGA_1/3.tif: no TIFF file"), "{message}");

    // Publishing is tried again, as a job of another name, and with the same model.
    let execution = stack.start(json!({})).await;
    let training = stack.training_job().await;
    let answer = trained(&training.input);
    training.succeed(&answer).await;
    let mut names = BTreeSet::new();
    for _ in 0..2 {
        let publishing = stack.publishing_job().await;
        names.insert(publishing.input["ProcessingJobName"].to_string());
        let model = &publishing.input["ProcessingInputs"][0]["S3Input"]["S3Uri"];
        assert_eq!(*model, answer["ModelArtifacts"]["S3ModelArtifacts"]);
        publishing.fail("States.TaskFailed", "access denied").await;
    }
    assert_eq!(names.len(), 2, "{names:?}");
    let failed = stack.ended(&execution).await;
    assert_eq!(failed["status"], "FAILED", "{failed}");
    let (_, message) = stack.told().await;
    assert!(message.contains("while publishing"), "{message}");
    assert!(message.contains("access denied"), "{message}");

    let execution = stack.start(json!({})).await;
    let training = stack.training_job().await;
    training.succeed(&answer).await;
    let publishing = stack.publishing_job().await;
    publishing.succeed(&json!({"ExitMessage": DECISION})).await;
    assert_eq!(stack.ended(&execution).await["status"], "SUCCEEDED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_runs_by_schedule_and_by_hand_as_it_is_told() {
    let parameters = [
        ("Schedule", "at(2026-01-01T00:00:00)"),
        ("ScheduleState", "ENABLED"),
    ];
    let Some(stack) = Retraining::deploy(Some("{}"), &parameters).await else {
        return;
    };
    let training = stack.training_job().await;
    assert_eq!(stack.executions().await, 1);
    let answer = trained(&training.input);
    training.succeed(&answer).await;
    let publishing = stack.publishing_job().await;
    publishing.succeed(&json!({"ExitMessage": DECISION})).await;
    stack.told().await;

    // Nothing is new, but somebody insists, and there is no spot capacity.
    let input = json!({
        "force": true,
        "spot": false,
        "instanceType": "ml.m7i.4xlarge",
        "hyperparameters": {"epochs": "3", "margin": "0.01"},
    });
    stack.start(input).await;
    let training = stack.training_job().await;
    let request = &training.input;
    assert_eq!(request["HyperParameters"]["epochs"], "3");
    assert_eq!(request["HyperParameters"]["margin"], "0.01");
    assert_eq!(request["HyperParameters"]["network"], "efficient-lite0");
    assert_eq!(request["EnableManagedSpotTraining"], false);
    // Only spot jobs may wait.
    assert_eq!(
        request["StoppingCondition"],
        json!({"MaxRuntimeInSeconds": 28800})
    );
    assert_eq!(request["ResourceConfig"]["InstanceType"], "ml.m7i.4xlarge");
    // It has no volume of its own, which would take no key.
    assert_eq!(
        request["ResourceConfig"]["VolumeKmsKeyId"],
        stack.key.as_str()
    );

    let answer = trained(request);
    training.succeed(&answer).await;
    let publishing = stack.publishing_job().await;
    let arguments = &publishing.input["AppSpecification"]["ContainerArguments"];
    let arguments: Vec<&str> = arguments
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert!(arguments.ends_with(&["--margin", "0.01"]), "{arguments:?}");
}

#[test]
fn the_template_fills_every_place_of_the_state_machine() {
    let places: BTreeSet<&str> = MACHINE
        .split("${")
        .skip(1)
        .map(|rest| rest.split_once('}').unwrap().0)
        .collect();
    let template: serde_yaml_ng::Value = serde_yaml_ng::from_str(TEMPLATE).unwrap();
    let machine = &template["Resources"]["RetrainStateMachine"]["Properties"];
    let filled: BTreeSet<&str> = machine["DefinitionSubstitutions"]
        .as_mapping()
        .unwrap()
        .keys()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert_eq!(places, filled);
}
