//! What is published, what serves, and what becomes of both when something fails.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use glioseg_shared::scoring::Summary;
use glioseg_training::data::Split;
use tokio::sync::oneshot;

use crate::s3::{Meddling, S3};
use crate::tree::{Tree, assert_says, ended, fail, metric, succeed};

/// Epochs after which the tiny network marks something of the drawn tumours.
const ENOUGH: &str = "12";

#[test]
fn a_worse_model_is_kept_and_not_promoted() {
    let tree = Tree::new();
    tree.hyper(&[("epochs", ENOUGH)]);
    tree.succeed();
    let good = tree.serving().unwrap();
    let [good_dice] = metric_of(&tree);

    // Of the weights that the run began with; in a tree of its own, as every job has.
    let other = Tree::new();
    other.hyper(&[("epochs", "0")]);
    let mut job = other.job();
    let log = succeed(&other, job.env("MODELS_URI", tree.path("models")));
    let [worse_dice] = metric_of(&other);
    assert!(
        worse_dice < good_dice,
        "{worse_dice} of an untrained network"
    );
    assert_says(
        &log,
        &[
            "no epoch was run",
            "the model is kept, not promoted",
            &format!("keeps serving {}", good.model.version),
            &format!("validation volume Dice {worse_dice:.4}, the serving model {good_dice:.4}"),
            &format!("difference {:+.4}, 95 % interval", worse_dice - good_dice),
            "paired bootstrap over patients, n 1; margin 0",
            "Promoted=0;",
        ],
    );
    assert_eq!(tree.serving().unwrap(), good);
    let kept = tree.files(&format!("models/models/{}", other.version()));
    assert_eq!(kept, ["model.json", "model.onnx"]);
}

#[test]
fn a_margin_or_a_plain_no_keeps_the_serving_model() {
    let tree = Tree::new();
    tree.succeed();
    let serving = tree.serving().unwrap();
    let job = |given: &[(&str, &str)]| {
        let other = Tree::new();
        other.hyper(given);
        let mut job = other.job();
        let log = succeed(&other, job.env("MODELS_URI", tree.path("models")));
        (other.version(), log)
    };
    let (version, log) = job(&[("seed", "3"), ("margin", "0.99")]);
    assert_says(&log, &["margin 0.99", "Promoted=0;"]);
    assert!(
        tree.path(&format!("models/models/{version}/model.onnx"))
            .is_file()
    );
    let (version, log) = job(&[("seed", "7"), ("promote", "False")]);
    assert_says(&log, &["promote is false", "Promoted=0;", &version]);
    assert!(
        tree.path(&format!("models/models/{version}/model.onnx"))
            .is_file()
    );
    assert_eq!(tree.serving().unwrap(), serving);
}

#[test]
fn killed_between_the_model_and_the_pointer_it_publishes_the_same_version() {
    let (tree, s3) = (Tree::new(), S3::start());
    let (heard, hanging) = oneshot::channel();
    s3.meddle(Meddling::Hang("fast/current.json", heard));
    let mut job = tree.job();
    let job = s3.serve(&mut job).stdout(Stdio::null());
    let mut child = job.stderr(Stdio::null()).spawn().unwrap();
    hanging.blocking_recv().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let version = tree.version();
    assert_eq!(s3.files("models"), [version.as_str()]);
    assert_eq!(s3.serving(), None);

    let log = succeed(&tree, s3.serve(&mut tree.job()));
    assert_eq!(metric(&log, "Val_dice").len(), 0, "{log}");
    assert_eq!(s3.serving().unwrap().model.version, version);
    assert_eq!(s3.files("models"), ["fast", version.as_str()]);
}

#[test]
fn the_same_weights_of_another_commit_are_the_model_that_is_there() {
    let tree = Tree::new();
    tree.succeed();
    let (serving, first) = (tree.serving().unwrap(), tree.read("ml/model/model.onnx"));
    let log = succeed(&tree, tree.job().env("GLIOSEG_COMMIT", "another"));
    assert!(tree.read("ml/model/model.onnx") != first);
    assert_says(&log, &["already", "Promoted=1;"]);
    assert_eq!(tree.serving().unwrap(), serving);
    let published = format!("models/models/{}/model.onnx", serving.model.version);
    assert!(tree.read(&published) == first);
}

#[test]
fn what_a_job_skipped_is_skipped_where_its_model_is_published() {
    let tree = Tree::new();
    let data = tree.path("ml/input/data/training");
    fs::write(data.join("p5/p5_1.tif"), "no image").unwrap();
    tree.hyper(&[("corrupt-slices", "skip"), ("publish", "false")]);
    tree.succeed();
    let publish = |options: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_glioseg-train"))
            .arg("publish")
            .args(["ml/model/model.onnx", "models"].map(|name| tree.path(name)))
            .arg("--data")
            .arg(&data)
            .arg("--split")
            .arg(tree.path("ml/model/split.json"))
            .args(options)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), said)
    };
    let (published, said) = publish(&[]);
    assert!(!published);
    assert_says(&said, &["p5/p5_1.tif"]);
    assert_eq!(tree.serving(), None);
    let (published, said) = publish(&["--corrupt-slices", "skip"]);
    assert!(published, "{said}");
    assert_says(&said, &["skipped: ", "p5/p5_1.tif"]);
    assert_eq!(tree.serving().unwrap().model.version, tree.version());
}

#[test]
fn of_two_jobs_at_once_the_better_serves() {
    let s3 = S3::start();
    let jobs: Vec<_> = [("1", "1"), ("2", "6")]
        .into_iter()
        .map(|(seed, epochs)| {
            let tree = Tree::new();
            tree.hyper(&[("seed", seed), ("epochs", epochs)]);
            let mut job = tree.job();
            s3.serve(&mut job);
            thread::spawn(move || {
                let log = succeed(&tree, &mut job);
                (tree.version(), metric(&log, "Val_volume_dice")[0], log)
            })
        })
        .collect();
    let mut ended: Vec<_> = jobs.into_iter().map(|job| job.join().unwrap()).collect();
    ended.sort_by(|a, b| a.1.total_cmp(&b.1));
    for (version, _, log) in &ended {
        assert_eq!(
            s3.files(&format!("models/{version}")),
            ["model.json", "model.onnx"]
        );
        assert_says(log, &["Promoted="]);
    }
    let serving = s3.serving().unwrap().model.version;
    let [worse, better] = &ended[..] else {
        panic!("two jobs")
    };
    // Of equal ones the later serves.
    assert!(serving == better.0 || (worse.1 == better.1 && serving == worse.0));
}

#[test]
fn without_the_right_to_read_nothing_is_trained() {
    let (tree, s3) = (Tree::new(), S3::start());
    let mut job = tree.job();
    let reason = fail(
        &tree,
        1,
        s3.serve(&mut job).env("AWS_SECRET_ACCESS_KEY", "another"),
    );
    assert_says(
        &reason,
        &["s3://models: ", "may not", "models/fast/current.json"],
    );
    assert_eq!(tree.files("ml/checkpoints"), [""; 0]);
    assert_eq!(s3.files(""), [""; 0]);
}

#[test]
fn without_the_right_to_write_the_model_waits() {
    let (tree, s3) = (Tree::new(), S3::start());
    s3.meddle(Meddling::Deny("model.onnx"));
    let reason = fail(&tree, 1, s3.serve(&mut tree.job()));
    assert_says(
        &reason,
        &["was not published", "AccessDenied", "model.onnx"],
    );
    assert_eq!(s3.serving(), None);
    assert!(tree.path("ml/model/model.onnx").is_file());
    let version = tree.version();

    s3.meddle(Meddling::Nothing);
    let log = succeed(&tree, s3.serve(&mut tree.job()));
    assert_eq!(metric(&log, "Val_dice").len(), 0, "{log}");
    assert_eq!(s3.serving().unwrap().model.version, version);

    // The one that serves goes on serving when another's pointer is denied.
    let other = Tree::new();
    other.hyper(&[("seed", "7"), ("epochs", ENOUGH)]);
    s3.meddle(Meddling::Deny("current.json"));
    let ended = ended(s3.serve(&mut other.job()));
    assert!(matches!(ended.code, Some(0 | 1)), "{}", ended.said);
    assert_eq!(s3.serving().unwrap().model.version, version);
}

#[test]
fn a_store_that_is_busy_is_tried_again() {
    let (tree, s3) = (Tree::new(), S3::start());
    s3.meddle(Meddling::Busy("model.onnx"));
    let log = succeed(&tree, s3.serve(&mut tree.job()));
    assert_says(
        &log,
        &["warning: s3://models", "SlowDown", "trying again in 1 s"],
    );
    assert_eq!(s3.serving().unwrap().model.version, tree.version());
}

/// The mean volume Dice of the validation patient, as the model's evaluation has it.
fn metric_of(tree: &Tree) -> [f64; 1] {
    let split = Split::read(&tree.path("ml/model/split.json")).unwrap();
    assert_eq!(split.validation.len(), 1);
    let figures = tree.read("ml/model/evaluation/evaluation.json");
    let figures: serde_json::Value = serde_json::from_slice(&figures).unwrap();
    let summary: Summary = serde_json::from_value(figures["summary"].clone()).unwrap();
    [summary.volume_dice_mean.unwrap().value]
}
