//! Requests for jobs, checked against SageMaker's own description of them.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

const TRAINING: &str = include_str!("../../../../infra/sagemaker/training-job.json");
const TUNING: &str = include_str!("../../../../infra/sagemaker/tuning-job.json");

const KEY: &str = "arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d";
const FILLED: &[(&str, &str)] = &[
    ("TrainingJobName", "glioseg-1"),
    ("TuningJobName", "glioseg-1"),
    (
        "ImageUri",
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/glioseg-train:1",
    ),
    ("TrainingUri", "s3://glioseg-results/labelled/"),
    ("SplitUri", "s3://glioseg-results/split.json"),
    ("OutputUri", "s3://glioseg-training/output"),
    (
        "CheckpointUri",
        "s3://glioseg-training/checkpoints/glioseg-1",
    ),
    ("KmsKeyId", KEY),
    ("SecurityGroupId", "sg-0a1b2c3d"),
    ("SubnetId", "subnet-0a1b2c3d"),
    ("RoleArn", "arn:aws:iam::123456789012:role/glioseg"),
];

/// A definition of a job with its places filled; a member whose place nothing fills is left out.
pub(crate) fn filled(definition: &str, values: &[(&str, &str)]) -> Value {
    fill(serde_json::from_str(definition).unwrap(), values).unwrap()
}

fn fill(value: Value, values: &[(&str, &str)]) -> Option<Value> {
    match value {
        Value::String(text) => match text.strip_prefix("${") {
            None => Some(Value::String(text)),
            Some(place) => {
                let place = place.strip_suffix('}').unwrap();
                let (_, value) = values.iter().find(|(name, _)| *name == place)?;
                Some(Value::from(*value))
            }
        },
        Value::Array(elements) => {
            let elements = elements.into_iter().map(|element| fill(element, values));
            elements.collect::<Option<Vec<_>>>().map(Value::Array)
        }
        Value::Object(members) => {
            let members = members.into_iter();
            let members =
                members.filter_map(|(name, value)| fill(value, values).map(|value| (name, value)));
            Some(Value::Object(members.collect()))
        }
        other => Some(other),
    }
}

/// What SageMaker would refuse in a request; `None`, with a printed line, where nobody is there to say.
pub(crate) fn faults(operation: &str, request: &Value) -> Option<String> {
    let python = glioseg_test_support::python(&["botocore"])?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/sagemaker_request.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = json!({"operation": operation, "request": request}).to_string();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert_eq!(output.status.code(), Some(i32::from(!said.is_empty())));
    Some(said)
}

/// Fails where SageMaker would refuse the request.
#[track_caller]
pub(crate) fn assert_taken(operation: &str, request: &Value) {
    if let Some(faults) = faults(operation, request) {
        assert_eq!(faults, "", "{operation} {request:#}");
    }
}

#[test]
fn sagemaker_takes_the_definitions() {
    let gpu = [FILLED, &[("InstanceType", "ml.g6.xlarge")]].concat();
    let cpu = [("InstanceType", "ml.m7i.4xlarge"), ("VolumeKmsKeyId", KEY)];
    let cpu = [FILLED, &cpu].concat();
    for values in [gpu, cpu] {
        assert_taken("CreateTrainingJob", &filled(TRAINING, &values));
        assert_taken("CreateHyperParameterTuningJob", &filled(TUNING, &values));
    }
}

#[test]
fn what_sagemaker_does_not_take_is_found() {
    let values = [FILLED, &[("InstanceType", "ml.g6.xlarge")]].concat();
    let request = filled(TRAINING, &values);
    for (pointer, wrong, reason) in [
        ("/HyperParameters/epochs", json!(60), "invalid type"),
        (
            "/ResourceConfig/InstanceType",
            json!("ml.g6.tiny"),
            "none of the values",
        ),
        ("/TrainingJobName", json!("glioseg_1"), "does not match"),
        (
            "/StoppingCondition/MaxRuntimeInSeconds",
            json!(0),
            "valid min value",
        ),
        ("/EnableNetworkIsolation", json!("true"), "invalid type"),
    ] {
        let mut request = request.clone();
        *request.pointer_mut(pointer).unwrap() = wrong;
        let Some(faults) = faults("CreateTrainingJob", &request) else {
            return;
        };
        assert!(
            faults.to_lowercase().contains(reason),
            "{pointer}: {faults}"
        );
    }
}

#[test]
fn the_tuning_job_searches_where_the_original_did() {
    let tuning = filled(TUNING, FILLED);
    let config = &tuning["HyperParameterTuningJobConfig"];
    let objective = json!({"Type": "Maximize", "MetricName": "Val_dice"});
    assert_eq!(config["HyperParameterTuningJobObjective"], objective);
    let metrics = &tuning["TrainingJobDefinition"]["AlgorithmSpecification"]["MetricDefinitions"];
    let metrics = metrics.as_array().unwrap();
    assert!(metrics.contains(&json!({"Name": "Val_dice", "Regex": "Val_dice=(.*?);"})));
    let ranges = &config["ParameterRanges"];
    let continuous = [
        json!({"Name": "learning-rate", "MinValue": "0.00001", "MaxValue": "0.1", "ScalingType": "Logarithmic"}),
        json!({"Name": "dropout", "MinValue": "0", "MaxValue": "0.3", "ScalingType": "Linear"}),
    ];
    assert_eq!(ranges["ContinuousParameterRanges"], json!(continuous));
    let categorical = [
        json!({"Name": "batch", "Values": ["16", "32"]}),
        json!({"Name": "network", "Values": ["unet-16", "unet-32", "unet-64"]}),
    ];
    assert_eq!(ranges["CategoricalParameterRanges"], json!(categorical));
}
