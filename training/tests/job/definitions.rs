//! The definitions of jobs against the program: what they read in its log, and what they tell it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use glioseg_training::job::HyperParameters;
use serde_json::Value;

use crate::tree::{Tree, figures};

fn definition(file: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/sagemaker");
    serde_json::from_slice(&fs::read(folder.join(file)).unwrap()).unwrap()
}

/// The regular expressions of the metrics that a definition reads, by name.
fn metrics(algorithm: &Value) -> BTreeMap<&str, &str> {
    let definitions = algorithm["MetricDefinitions"].as_array().unwrap();
    definitions
        .iter()
        .map(|metric| {
            (
                metric["Name"].as_str().unwrap(),
                metric["Regex"].as_str().unwrap(),
            )
        })
        .collect()
}

#[test]
fn the_metrics_of_the_job_definitions_find_their_figures_in_the_log() {
    let training = definition("training-job.json");
    let tuning = definition("tuning-job.json");
    let tree = Tree::new();
    tree.hyper(&[
        ("score-test", "true"),
        ("epochs", "2"),
        ("_tuning_objective_metric", "Val_dice"),
    ]);
    let log = tree.succeed();
    let training = metrics(&training["AlgorithmSpecification"]);
    let tuned = metrics(&tuning["TrainingJobDefinition"]["AlgorithmSpecification"]);

    // What is independent of the log: the table of epochs, and the report.
    let table = String::from_utf8(tree.read("ml/output/data/metrics.csv")).unwrap();
    let column = |name: &str| -> Vec<f64> {
        let mut rows = table.lines().map(|row| row.split(',').collect::<Vec<_>>());
        let header = rows.next().unwrap();
        let at = header.iter().position(|of| *of == name).unwrap();
        rows.map(|row| row[at].parse().unwrap()).collect()
    };
    let report = |path: &str| -> Vec<f64> {
        let report: Value = serde_json::from_slice(&tree.read(path)).unwrap();
        vec![
            report["summary"]["volume_dice_mean"]["value"]
                .as_f64()
                .unwrap(),
        ]
    };
    let expected = BTreeMap::from([
        ("loss", column("loss")),
        ("Val_dice", column("validation_dice")),
        ("false_positive_rate", column("false_positive_rate")),
        ("learning_rate", column("learning_rate")),
        (
            "Val_volume_dice",
            report("ml/model/evaluation/evaluation.json"),
        ),
        (
            "Test_volume_dice",
            report("ml/model/evaluation/test/evaluation.json"),
        ),
    ]);
    assert_eq!(
        training.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>()
    );
    for (name, pattern) in training.iter().chain(&tuned) {
        let found = figures(&log, pattern);
        let expected = &expected[name];
        assert_eq!(found.len(), expected.len(), "{name} in: {log}");
        for (found, expected) in found.iter().zip(expected) {
            // The log rounds: to four places, and rates to four digits.
            let tolerance = match *name {
                "learning_rate" => 6e-4 * expected,
                _ => 6e-5,
            };
            assert!(
                (found - expected).abs() <= tolerance,
                "{name}: {found}, {expected}"
            );
        }
    }
    let objective = &tuning["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"];
    let objective = objective["MetricName"].as_str().unwrap();
    assert_eq!(expected[objective].len(), 2, "one an epoch");
    assert!(tuned.contains_key(objective));
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
