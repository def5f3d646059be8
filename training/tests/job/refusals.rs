//! Jobs that fail: the reason is told, and nothing else is left.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::tree::{Tree, assert_says, fail, metric};

/// A job with these hyper-parameters fails for this reason, and leaves neither model nor pointer.
#[track_caller]
fn refused(tree: &Tree, says: &[&str]) {
    let reason = tree.fail(1);
    assert_says(&reason, says);
    assert_eq!(tree.files("ml/model"), [""; 0]);
    assert_eq!(tree.serving(), None);
}

#[test]
fn hyper_parameters_are_named_with_what_is_allowed() {
    let tree = Tree::new();
    let link = tree.path("ml/input/data/training/outside.bin");
    symlink("/dev/null", link).unwrap();
    for (name, text, says) in [
        ("publish", "no", "true or false"),
        ("epochs", "many", "whole number from 0"),
        ("learning-rate", "-1", "above 0"),
        ("network", "resnet", "lean-medium-norm"),
        ("learning_rate", "0.1", "did you mean learning-rate?"),
        ("crop", "33", "multiple of"),
        ("device", "tpu", "cpu"),
        ("fold", "1", "there is no fold 1"),
        ("from", "training/absent.bin", "there is no such file"),
        ("from", "start/absent.bin", "channels (training)"),
        ("from", "/etc/hostname", "CHANNEL/FILE"),
        (
            "from",
            "training/../../config/hyperparameters.json",
            "CHANNEL/FILE",
        ),
        ("from", "training/outside.bin", "leads out of its channel"),
    ] {
        tree.hyper(&[(name, text)]);
        let fixed = if text == "33" { "--crop 33" } else { says };
        refused(&tree, &[says, fixed]);
    }
    tree.hyper(&[("epochs", "x"), ("momentum", "0.9")]);
    refused(&tree, &["epochs is \"x\"", "\"momentum\""]);
    tree.configure("hyperparameters.json", r#"{"epochs": 3}"#);
    refused(&tree, &["epochs is 3"]);
    tree.configure("hyperparameters.json", "epochs: 3");
    refused(&tree, &["hyperparameters.json"]);
    assert_eq!(tree.files("ml/checkpoints"), [""; 0]);
}

#[test]
fn what_is_wrong_is_told_and_once_it_is_put_right_forgotten() {
    let tree = Tree::new();
    tree.hyper(&[("epoch", "1")]);
    refused(&tree, &["did you mean epochs?"]);
    tree.hyper(&[]);
    tree.succeed();
    assert!(tree.serving().is_some());
}

#[test]
fn several_hosts_are_refused() {
    let tree = Tree::new();
    tree.configure(
        "resourceconfig.json",
        r#"{"current_host":"algo-2","hosts":["algo-1","algo-2"],"network_interface_name":"eth0"}"#,
    );
    refused(&tree, &["2 hosts (algo-1, algo-2)", "InstanceCount"]);
}

#[test]
fn data_that_are_not_there_are_missed_by_name() {
    let tree = Tree::empty();
    refused(&tree, &["the channel \"training\" is empty", "X_mask.tif"]);
    fs::write(tree.path("ml/input/data/training/manifest.json"), "{}").unwrap();
    refused(&tree, &["training: no patients"]);
    tree.configure(
        "inputdataconfig.json",
        r#"{"train":{"TrainingInputMode":"File"}}"#,
    );
    refused(&tree, &["no channel \"training\"", "it has train"]);
    tree.configure(
        "inputdataconfig.json",
        r#"{"training":{"TrainingInputMode":"Pipe"}}"#,
    );
    refused(&tree, &["\"training\" has the input mode Pipe", "FastFile"]);

    let tree = Tree::new();
    let split = tree.path("ml/input/data/training/split.json");
    let mut other = tree.split();
    other.train.push("p7".to_owned());
    other.write(&split).unwrap();
    refused(&tree, &["not in the data, p7 (train)"]);
    fs::remove_file(&split).unwrap();
    refused(&tree, &["no split", "split.json", "manifest.json"]);
    fs::write(tree.path("ml/input/data/training/manifest.json"), "{}").unwrap();
    refused(&tree, &["manifest.json: ", "schema"]);
}

#[test]
fn a_corrupt_slice_stops_the_job_or_is_skipped() {
    let tree = Tree::new();
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/tests/goldens/imaging");
    let data = tree.path("ml/input/data/training");
    fs::copy(
        goldens.join("refused/truncated_pixels.tif"),
        data.join("p2/p2_1.tif"),
    )
    .unwrap();
    refused(&tree, &["p2/p2_1.tif: ", "damaged TIFF file"]);

    // More of the sort, among them a patient without a slice that can be read.
    fs::remove_file(data.join("p3/p3_0_mask.tif")).unwrap();
    for index in 0..3 {
        fs::write(data.join(format!("p4/p4_{index}.tif")), "no image").unwrap();
    }
    fs::write(data.join("p6/p6_2.tif"), "no image").unwrap();
    tree.hyper(&[("corrupt-slices", "skip"), ("score-test", "true")]);
    let log = tree.succeed();
    assert_says(
        &log,
        &[
            "skipped: ",
            "p2/p2_1.tif: ",
            "p3/p3_0.tif: no mask",
            "p4/p4_2.tif: ",
            "skipped: patient p4 has no slices",
            "p6/p6_2.tif: ",
            "7 training and 3 validation slices",
        ],
    );
    let split = glioseg_training::data::Split::read(&tree.path("ml/model/split.json")).unwrap();
    assert_eq!(split.train, ["p1", "p2", "p3"]);
    let csv = String::from_utf8(tree.read("ml/model/evaluation/test/slices.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 2, "{csv}");

    // The same data are the same run.
    let log = tree.succeed();
    assert_eq!(metric(&log, "Val_dice").len(), 0, "{log}");
}

#[test]
fn a_test_slice_that_cannot_be_read_is_told_of_before_training() {
    let tree = Tree::new();
    fs::write(tree.path("ml/input/data/training/p6/p6_1.tif"), "no image").unwrap();
    tree.hyper(&[("score-test", "true")]);
    refused(&tree, &["p6/p6_1.tif: "]);
    assert_eq!(tree.files("ml/checkpoints"), [""; 0]);
}

#[test]
fn checkpoints_of_another_job_are_not_gone_on_from() {
    let tree = Tree::new();
    tree.hyper(&[("publish", "false")]);
    tree.succeed();
    let checkpoint = tree.read("ml/checkpoints/checkpoint.bin");
    tree.hyper(&[("publish", "false"), ("seed", "156")]);
    let reason = tree.fail(1);
    assert_says(&reason, &["recipe differs", "CheckpointConfig"]);
    assert!(tree.read("ml/checkpoints/checkpoint.bin") == checkpoint);

    // Its weights can be begun with, through a channel.
    tree.configure(
        "inputdataconfig.json",
        r#"{"training":{"TrainingInputMode":"File"},"start":{"TrainingInputMode":"File"}}"#,
    );
    fs::create_dir(tree.path("ml/input/data/start")).unwrap();
    fs::rename(
        tree.path("ml/checkpoints"),
        tree.path("ml/input/data/start/checkpoints"),
    )
    .unwrap();
    tree.hyper(&[
        ("publish", "false"),
        ("from", "start/checkpoints/checkpoint.bin"),
        ("epochs", "0"),
    ]);
    let before = tree.read("ml/model/model.onnx");
    tree.succeed();
    // Without an epoch they are the model's.
    assert_eq!(tree.read("ml/model/model.onnx"), before);
}

#[test]
fn a_disk_without_room_is_told_of_and_loses_nothing() {
    for (file, kept) in [
        ("checkpoints/checkpoint-next.bin", &[][..]),
        ("output/data/metrics.csv", &["checkpoint.bin"]),
        ("model/split.json", &["checkpoint.bin"]),
        ("model/model.onnx", &["checkpoint.bin"]),
        ("model/evaluation/report.html", &["checkpoint.bin"]),
    ] {
        let tree = Tree::new();
        // The system's own full disk, under the name that a file is written under before it is whole.
        let partial = tree.path(&format!("ml/{file}.partial"));
        fs::create_dir_all(partial.parent().unwrap()).unwrap();
        symlink("/dev/full", &partial).unwrap();
        let reason = tree.fail(1);
        let name = file.rsplit('/').next().unwrap();
        assert_says(&reason, &[name, "cannot be written", "VolumeSizeInGB"]);
        assert_eq!(tree.files("ml/checkpoints"), kept);
        assert!(!tree.path(&format!("ml/{file}")).exists());
        assert_eq!(tree.serving(), None, "{file}");

        // With room it goes on: to the same model, without another epoch where one is on the disk.
        let log = tree.succeed();
        assert_eq!(metric(&log, "Val_dice").len(), 1 - kept.len(), "{file}");
        assert!(tree.serving().is_some());
    }
}

#[test]
fn where_models_are_published_must_be_a_place() {
    let tree = Tree::new();
    let mut job = tree.job();
    let reason = fail(&tree, 1, job.env("MODELS_URI", "ftp://models"));
    assert_says(&reason, &["MODELS_URI: ", "ftp://models"]);
    fs::create_dir_all(tree.path("models/models/fast")).unwrap();
    fs::write(tree.path("models/models/fast/current.json"), "{}").unwrap();
    let reason = tree.fail(1);
    assert_says(&reason, &["models/fast/current.json is no pointer"]);
    // Known before training.
    assert_eq!(tree.files("ml/checkpoints"), [""; 0]);
}
