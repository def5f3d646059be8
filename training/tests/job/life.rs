//! A job that succeeds, and what it leaves.

use std::fs;

use glioseg_shared::digest::sha256_hex;
use glioseg_shared::model::Contract;
use glioseg_shared::model::contract::NOTICE;
use glioseg_shared::registry::ModelCard;
use glioseg_training::data::Split;

use crate::tree::{Tree, assert_says, metric, succeed};

#[test]
fn a_job_leaves_the_model_its_card_its_evaluation_and_a_pointer() {
    let tree = Tree::new();
    tree.hyper(&[("epochs", "2"), ("score-test", "True")]);
    let log = tree.succeed();

    let names = ["evaluation", "model.json", "model.onnx", "split.json"];
    assert_eq!(tree.files("ml/model"), names);
    let report = ["evaluation.json", "report.html", "slices.csv"];
    assert_eq!(tree.files("ml/model/evaluation/test"), report);
    assert_eq!(
        tree.files("ml/model/evaluation"),
        [&report[..], &["test"]].concat()
    );
    let checkpoints = ["checkpoint-previous.bin", "checkpoint.bin"];
    assert_eq!(tree.files("ml/checkpoints"), checkpoints);
    assert_eq!(tree.files("ml/output"), ["data"]);

    let onnx = tree.read("ml/model/model.onnx");
    let card: ModelCard = serde_json::from_slice(&tree.read("ml/model/model.json")).unwrap();
    assert_eq!(card.model.onnx_sha256, sha256_hex(&onnx));
    let contract = Contract::of_onnx(&onnx).unwrap();
    assert_eq!(card.contract, contract);
    assert_eq!(contract.provenance.split_digest, tree.split().digest());
    assert_eq!(contract.provenance.data, "drawn");
    let parts: Vec<_> = contract.scores.iter().map(|s| s.split.as_str()).collect();
    assert_eq!(parts, ["validation", "test"]);
    let split = Split::read(&tree.path("ml/model/split.json")).unwrap();
    assert_eq!(split.digest(), tree.split().digest());

    let pointer = tree.serving().unwrap();
    assert_eq!(pointer.model, card.model);
    let stored = tree.read(&format!("models/{}", pointer.model.onnx_key));
    assert!(stored == onnx);
    assert_says(
        &log,
        &[
            "job-1",
            "training on the CPU",
            "now serves",
            "Promoted=1;",
            &format!("model {}: {NOTICE}", contract.model_version),
        ],
    );

    // What the log says is what the files say.
    for (part, name) in [
        ("validation", "Val_volume_dice"),
        ("test", "Test_volume_dice"),
    ] {
        let scores = contract.scores.iter().find(|s| s.split == part).unwrap();
        let dice = scores.summary.volume_dice_mean.unwrap().value;
        let [logged] = metric(&log, name)[..] else {
            panic!("{name} once: {log}")
        };
        assert!((logged - dice).abs() < 1e-4, "{name}");
    }
    let metrics = fs::read_to_string(tree.path("ml/output/data/metrics.csv")).unwrap();
    assert_eq!(metrics.lines().count(), 1 + metric(&log, "Val_dice").len());
}

#[test]
fn a_channel_of_its_own_may_hold_the_split() {
    let tree = Tree::new();
    let beside = tree.path("ml/input/data/training/split.json");
    let folder = tree.path("ml/input/data/split");
    fs::create_dir(&folder).unwrap();
    fs::rename(beside, folder.join("retraining-7.json")).unwrap();
    tree.configure(
        "inputdataconfig.json",
        r#"{"training":{"TrainingInputMode":"File"},"split":{"TrainingInputMode":"FastFile"}}"#,
    );
    tree.hyper(&[("publish", "false")]);
    let log = tree.succeed();
    assert_says(&log, &["not published (publish is false)"]);
    assert_eq!(tree.serving(), None);
    assert_eq!(tree.files("models"), [""; 0]);
    let contract = Contract::of_onnx(&tree.read("ml/model/model.onnx")).unwrap();
    assert_eq!(contract.provenance.split, "retraining-7.json");
    let parts: Vec<_> = contract.scores.iter().map(|s| s.split.as_str()).collect();
    assert_eq!(parts, ["validation"], "nobody asked for the test patients");
}

#[test]
fn the_manifest_of_the_labelled_slices_is_a_split() {
    let tree = Tree::new();
    fs::remove_file(tree.path("ml/input/data/training/split.json")).unwrap();
    // p4 has no slices any more, and nobody says what p3 is for.
    fs::remove_dir_all(tree.path("ml/input/data/training/p4")).unwrap();
    let manifest = serde_json::json!({
        "schema": "glioseg-labelled-1",
        "patients": {"p1": "train", "p2": "train", "p4": "train", "p5": "validation", "p6": "test"},
        "withdrawn": [],
        "notice": NOTICE,
    });
    fs::write(
        tree.path("ml/input/data/training/manifest.json"),
        manifest.to_string(),
    )
    .unwrap();
    // Half of a slice is on its way, or on its way out: no fault even where one stops the job.
    for half in ["p1/p1_1.tif", "p2/p2_2_mask.tif"] {
        fs::remove_file(tree.path("ml/input/data/training").join(half)).unwrap();
    }
    tree.hyper(&[("corrupt-slices", "stop")]);
    let log = tree.succeed();
    let skipped: Vec<_> = log.lines().filter(|l| l.starts_with("skipped: ")).collect();
    let [mask, image, patient] = skipped[..] else {
        panic!("three lines: {log}")
    };
    assert_says(mask, &["p1/p1_1_mask.tif: a mask without its slice"]);
    assert_says(image, &["p2/p2_2.tif: no mask"]);
    assert_says(patient, &["patient p3 is not in manifest.json"]);
    assert_says(&log, &["4 training and 3 validation slices"]);
    let split = Split::read(&tree.path("ml/model/split.json")).unwrap();
    assert_eq!(split.train, ["p1", "p2"]);
    assert_eq!(split.validation, ["p5"]);
    assert_eq!(split.test, ["p6"]);
}

#[test]
fn a_host_of_ones_own_needs_no_configuration() {
    let tree = Tree::new();
    fs::remove_file(tree.path("ml/input/config/inputdataconfig.json")).unwrap();
    fs::remove_file(tree.path("ml/input/config/resourceconfig.json")).unwrap();
    let mut job = tree.job();
    job.env_remove("GLIOSEG_ML_ROOT").env_remove("MODELS_URI");
    job.arg("--root").arg(tree.path("ml"));
    let log = succeed(&tree, &mut job);
    assert_says(&log, &["not published (MODELS_URI is not set)"]);
    assert!(tree.path("ml/model/model.onnx").is_file());
}
