//! The definitions of jobs against the program: what they read in its log, and what they tell it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use glioseg_training::job::HyperParameters;
use serde_json::Value;

use crate::tree::{Tree, metric};

fn definition(file: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/sagemaker");
    serde_json::from_slice(&fs::read(folder.join(file)).unwrap()).unwrap()
}

/// Names of the metrics that a definition reads; its patterns must be of the form `name=(.*?);`.
fn metrics(algorithm: &Value) -> Vec<String> {
    let definitions = algorithm["MetricDefinitions"].as_array().unwrap();
    let patterns = definitions.iter().map(|metric| {
        let pattern = metric["Regex"].as_str().unwrap();
        let name = pattern.strip_suffix("=(.*?);").expect(pattern);
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(name.chars().all(plain), "{pattern}");
        name.to_owned()
    });
    patterns.collect()
}

#[test]
fn every_metric_of_the_job_definitions_is_in_the_log() {
    let training = definition("training-job.json");
    let tuning = definition("tuning-job.json");
    let tree = Tree::new();
    tree.hyper(&[
        ("score-test", "true"),
        ("epochs", "2"),
        ("_tuning_objective_metric", "Val_dice"),
    ]);
    let log = tree.succeed();
    let algorithm = &tuning["TrainingJobDefinition"]["AlgorithmSpecification"];
    for name in [
        metrics(&training["AlgorithmSpecification"]),
        metrics(algorithm),
    ]
    .concat()
    {
        let found = metric(&log, &name);
        assert!(!found.is_empty(), "no {name} in: {log}");
        assert!(found.iter().all(|value| value.is_finite()), "{name}");
    }
    let objective = &tuning["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"];
    let objective = objective["MetricName"].as_str().unwrap();
    assert_eq!(metric(&log, objective).len(), 2, "one an epoch");
}

#[test]
fn the_program_takes_every_hyper_parameter_of_the_job_definitions() {
    let table = |value: &Value| -> BTreeMap<String, Value> {
        serde_json::from_value(value.clone()).unwrap()
    };
    let training = definition("training-job.json");
    HyperParameters::read(&table(&training["HyperParameters"])).unwrap();

    let tuning = definition("tuning-job.json");
    let fixed = table(&tuning["TrainingJobDefinition"]["StaticHyperParameters"]);
    let ranges = &tuning["HyperParameterTuningJobConfig"]["ParameterRanges"];
    let mut tuned = 0;
    for range in ranges
        .as_object()
        .unwrap()
        .values()
        .flat_map(|r| r.as_array().unwrap())
    {
        let name = range["Name"].as_str().unwrap();
        assert!(!fixed.contains_key(name), "{name} is fixed and tuned");
        let ends = [range["MinValue"].clone(), range["MaxValue"].clone()];
        let values = range["Values"].as_array().cloned().unwrap_or(ends.to_vec());
        for value in values {
            let mut given = fixed.clone();
            given.insert(name.to_owned(), value);
            HyperParameters::read(&given).unwrap();
        }
        tuned += 1;
    }
    assert!(tuned >= 4);
}
