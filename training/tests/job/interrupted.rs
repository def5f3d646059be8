//! Jobs that are stopped, killed, or find a checkpoint cut short.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;

use glioseg_training::checkpoint::Checkpoint;

use crate::tree::{Tree, assert_says, metric, start_for, terminate};

/// Many more than the processor does between a line and a signal.
const EPOCHS: usize = 10;

fn tree() -> Tree {
    let tree = Tree::new();
    tree.hyper(&[("epochs", &EPOCHS.to_string())]);
    tree
}

fn epochs_of(tree: &Tree, file: &str) -> usize {
    let path = tree.path("ml/checkpoints").join(file);
    Checkpoint::read(&path).unwrap().unwrap().history.len()
}

fn cut_short(tree: &Tree, file: &str) {
    let path = tree.path("ml/checkpoints").join(file);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
}

#[test]
fn stopped_killed_and_cut_short_it_comes_to_the_same_model() {
    let unbroken = tree();
    unbroken.succeed();

    let broken = tree();
    let (mut child, mut log) = start_for(2, &mut broken.job());
    terminate(&child);
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143), "{rest}");
    assert_eq!(broken.failure(), None, "to be stopped is no failure");
    assert_eq!(broken.files("ml/model"), [""; 0]);
    assert_eq!(broken.serving(), None);
    let stopped = epochs_of(&broken, "checkpoint.bin");
    // Every epoch that was told of is on the disk.
    assert_eq!(stopped, 2 + metric(&rest, "Val_dice").len());

    let (mut child, _log) = start_for(2, &mut broken.job());
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9), "killed in time");
    let killed = epochs_of(&broken, "checkpoint.bin");
    assert!((stopped + 1..EPOCHS).contains(&killed), "{killed} epochs");
    assert_eq!(epochs_of(&broken, "checkpoint-previous.bin"), killed - 1);

    cut_short(&broken, "checkpoint.bin");
    let log = broken.succeed();
    assert_says(
        &log,
        &[
            "a damaged checkpoint is passed over",
            &format!("going on after epoch {} of {EPOCHS}", killed - 1),
        ],
    );
    assert_eq!(metric(&log, "Val_dice").len(), EPOCHS - (killed - 1));
    for file in ["ml/model/model.onnx", "ml/output/data/metrics.csv"] {
        assert!(unbroken.read(file) == broken.read(file), "{file}");
    }
    assert_eq!(
        unbroken.files("ml/checkpoints"),
        broken.files("ml/checkpoints")
    );
    let [a, b] = [&unbroken, &broken].map(|tree| tree.serving().unwrap());
    assert_eq!(a.model, b.model);
}

#[test]
fn a_job_whose_checkpoints_are_all_cut_short_begins_anew() {
    let tree = Tree::new();
    tree.hyper(&[("epochs", "2"), ("publish", "0")]);
    tree.succeed();
    let before = tree.read("ml/model/model.onnx");
    cut_short(&tree, "checkpoint.bin");
    cut_short(&tree, "checkpoint-previous.bin");
    let log = tree.succeed();
    assert_eq!(metric(&log, "Val_dice").len(), 2);
    assert!(tree.read("ml/model/model.onnx") == before);
}

#[test]
fn a_finished_job_that_is_started_again_trains_no_more() {
    let tree = Tree::new();
    tree.hyper(&[("epochs", "2")]);
    tree.succeed();
    let pointer = tree.serving();
    let log = tree.succeed();
    assert_eq!(metric(&log, "Val_dice").len(), 0, "{log}");
    assert_says(&log, &["already", "Promoted=1;"]);
    assert_eq!(tree.serving(), pointer);
}

#[test]
fn data_that_change_while_it_waits_begin_it_anew() {
    let tree = Tree::new();
    tree.hyper(&[("epochs", "2"), ("publish", "false")]);
    tree.succeed();
    for file in ["p4_2.tif", "p4_2_mask.tif"] {
        fs::remove_file(tree.path("ml/input/data/training/p4").join(file)).unwrap();
    }
    let log = tree.succeed();
    assert_says(&log, &["the training begins anew"]);
    assert_eq!(metric(&log, "Val_dice").len(), 2);
}
