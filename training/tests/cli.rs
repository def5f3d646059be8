//! The program as it is used: real processes, real files, real signals.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

#[path = "support/threshold_model.rs"]
#[allow(unreachable_pub)]
mod threshold_model;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::phantom::{Phantom, PhantomConfig};
use glioseg_shared::imaging::{
    CHANNELS, Intensity, Mask, Slice, encode_mask_tiff, encode_slice_tiff,
};
use glioseg_shared::model::contract::{NOTICE, Score};
use glioseg_shared::model::{Contract, Network};
use glioseg_shared::registry::Pointer;
use glioseg_shared::scoring::{Counts, PatientScore, SliceScore, Summary};
use glioseg_training::checkpoint::{Checkpoint, weights_digest};
use glioseg_training::data::Split;
use glioseg_training::export::bare_onnx;
use glioseg_training::networks::{fresh_weights, unet};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;
use threshold_model::threshold_model;

const PROGRAM: &str = env!("CARGO_BIN_EXE_glioseg-train");
const COMMANDS: [&str; 10] = [
    "split",
    "fit",
    "cross-validate",
    "export",
    "postprocess",
    "evaluate",
    "publish",
    "rollback",
    "train",
    "submit",
];

/// Slices of each patient, and pixels a side.
const SLICES: usize = 3;
const SIDE: usize = 48;

/// Epochs of a run that is to be killed in between: many more than the processor does between a line and the signal.
const EPOCHS: usize = 8;

/// A folder of data with a split, and room for what the program writes.
struct Study {
    root: TempDir,
}

impl Study {
    /// Six patients of drawn slices: four to train on, one to validate and one to test.
    fn phantoms() -> Self {
        let config = PhantomConfig {
            slices: SLICES,
            size: SIDE,
            lesions: 2,
        };
        let names = ["p1", "p2", "p3", "p4", "p5", "p6"];
        Self::new(&names, |patient| {
            let phantom = Phantom::generate(&config, patient as u64).unwrap();
            phantom.slices.into_iter().zip(phantom.masks).collect()
        })
    }

    /// Three patients of one slice each, with a bright square tumour in a square brain half as bright.
    fn squares() -> Self {
        Self::new(&["p1", "p2", "p3"], |_| vec![square()])
    }

    /// The last patient tests, the one before validates, the others train.
    fn new(names: &[&str], draw: impl Fn(usize) -> Vec<(Slice, Mask)>) -> Self {
        let study = Self {
            root: tempfile::tempdir().unwrap(),
        };
        for (patient, name) in names.iter().enumerate() {
            let folder = study.data().join(name);
            fs::create_dir_all(&folder).unwrap();
            for (number, (slice, mask)) in draw(patient).iter().enumerate() {
                let image = folder.join(format!("{name}_{number}.tif"));
                fs::write(image, encode_slice_tiff(slice)).unwrap();
                let file = folder.join(format!("{name}_{number}_mask.tif"));
                fs::write(file, encode_mask_tiff(mask)).unwrap();
            }
        }
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let (train, held_out) = names.split_at(names.len() - 2);
        let split = Split {
            data_set: "drawn".to_owned(),
            note: String::new(),
            train: list(train),
            validation: list(&held_out[..1]),
            test: list(&held_out[1..]),
            folds: Vec::new(),
        };
        split.write(&study.split()).unwrap();
        study
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    fn split(&self) -> PathBuf {
        self.path("split.json")
    }

    /// A fit into the folder `out` that takes a second or two.
    fn fit(&self, out: &str, epochs: usize) -> Command {
        self.run("fit", out, epochs)
    }

    /// The same by a command with the same settings.
    fn run(&self, name: &str, out: &str, epochs: usize) -> Command {
        let mut command = program(name);
        command.arg(self.data()).arg("--split").arg(self.split());
        command.arg("--out").arg(self.path(out));
        command.arg("--cache").arg(self.path("cache"));
        command.arg("--epochs").arg(epochs.to_string());
        command.args([
            "--network",
            "lean-tiny-norm",
            "--dropout",
            "0.1",
            "--crop",
            "32",
        ]);
        command.args(["--batch", "2", "--average", "0.9", "--patience", "99"]);
        command
    }

    /// The export of the checkpoint of the run `out` into the file `name`.
    fn export(&self, name: &str) -> Command {
        let mut command = program("export");
        command
            .arg(self.path("out/checkpoint.bin"))
            .arg(self.data());
        command.arg("--split").arg(self.split());
        command.arg("--cache").arg(self.path("cache"));
        command.arg("--out").arg(self.path(name));
        command
    }

    /// What lies in a folder, by name.
    fn files(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.path(folder))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn checkpoint(&self, out: &str) -> Checkpoint {
        let path = self.path(out).join("checkpoint.bin");
        Checkpoint::read(&path).unwrap().unwrap()
    }

    /// Everything below the folder that has a final name; locks hold nothing.
    fn results(&self, folder: &str) -> Vec<String> {
        let mut names = self.files(folder);
        names.retain(|name| !name.ends_with(".lock"));
        names
    }
}

/// A threshold model whose contract names another split: digests are all of one length, which no length field notices.
fn with_split_digest(mut onnx: Vec<u8>, digest: &str) -> Vec<u8> {
    let stated = sha256_hex(b"");
    for start in 0..=onnx.len() - stated.len() {
        if onnx[start..].starts_with(stated.as_bytes()) {
            onnx[start..start + digest.len()].copy_from_slice(digest.as_bytes());
        }
    }
    let contract = Contract::of_onnx(&onnx).unwrap();
    assert_eq!(contract.provenance.split_digest, digest);
    onnx
}

fn square() -> (Slice, Mask) {
    let side = 16;
    let mut pixels = vec![0; side * side * CHANNELS];
    let mut truth = Mask::empty(side, side);
    for y in 2..14 {
        for x in 2..14 {
            let tumour = (5..9).contains(&x) && (5..9).contains(&y);
            pixels[(y * side + x) * CHANNELS + 1] = if tumour { 204 } else { 102 };
            truth.pixels_mut()[y * side + x] = tumour;
        }
    }
    let slice = Slice::new(side, side, pixels, Intensity::EightBit).unwrap();
    (slice, truth)
}

fn program(command: &str) -> Command {
    let mut program = Command::new(PROGRAM);
    program.arg(command).env_remove("GLIOSEG_COMMIT");
    program
}

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// What a command says when it refuses; a panic or a signal is no refusal.
#[track_caller]
fn refusal(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(matches!(status.code(), Some(1 | 2)), "{status}: {said}");
    assert!(said.contains("error: "), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// Looks for phrases in a text, wherever its lines are broken.
#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    let text: Vec<_> = text.split_whitespace().collect();
    let text = text.join(" ");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

/// The figures of the lines that match `Val_dice=(.*?);`.
fn validation_dice(log: &str) -> Vec<f64> {
    log.lines()
        .filter_map(|line| line.split_once("Val_dice=")?.1.split_once(';'))
        .map(|(figure, _)| figure.parse().unwrap())
        .collect()
}

/// Kills the run by SIGKILL once it has printed the lines of this many epochs of its own.
#[track_caller]
fn kill_after(epochs: usize, command: &mut Command) {
    let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = 0;
    while seen < epochs {
        let line = lines.next().expect("the run is long enough").unwrap();
        seen += usize::from(line.contains("Val_dice="));
    }
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9), "killed in time");
}

/// Names, lengths and bits of all weights that a checkpoint holds.
fn bits(checkpoint: &Checkpoint) -> Vec<(&str, Vec<u32>)> {
    [&checkpoint.weights, &checkpoint.average, &checkpoint.best]
        .into_iter()
        .flatten()
        .map(|(name, values)| {
            let bits = values.iter().map(|value| value.to_bits());
            (name.as_str(), bits.collect())
        })
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let study = Study::phantoms();
    let log = succeed(&mut study.fit("a", 3));
    succeed(study.fit("b", 3).env("RAYON_NUM_THREADS", "1"));
    succeed(study.fit("c", 3).args(["--seed", "156"]));
    let (a, b, c) = (
        study.checkpoint("a"),
        study.checkpoint("b"),
        study.checkpoint("c"),
    );
    assert!(bits(&a) == bits(&b), "weights");
    assert!(bits(&a) != bits(&c), "another seed, the same weights");
    assert!(study.read("a/model.onnx") == study.read("b/model.onnx"));
    assert_eq!(study.read("a/metrics.csv"), study.read("b/metrics.csv"));
    let names = ["checkpoint.bin", "metrics.csv", "model.onnx"];
    assert_eq!(study.files("a"), names);

    let dice = validation_dice(&log);
    assert_eq!(dice.len(), 3, "{log}");
    let metrics = study.text("a/metrics.csv");
    let mut rows = metrics.lines();
    let columns: Vec<_> = rows.next().unwrap().split(',').collect();
    let column = |name: &str| columns.iter().position(|c| *c == name).unwrap();
    let rows: Vec<Vec<f64>> = rows
        .map(|row| row.split(',').map(|cell| cell.parse().unwrap()).collect())
        .collect();
    assert_eq!(rows.len(), 3, "{metrics}");
    for (number, (row, dice)) in rows.iter().zip(dice).enumerate() {
        assert_eq!(row[column("epoch")], number as f64 + 1.0);
        assert!((row[column("validation_dice")] - dice).abs() < 1e-4);
        assert!(row[column("loss")].is_finite());
    }

    let contract = Contract::of_onnx(&study.read("a/model.onnx")).unwrap();
    let split = Split::read(&study.split()).unwrap();
    assert_eq!(contract.provenance.seed, 155);
    assert_eq!(contract.provenance.split_digest, split.digest());
    assert_eq!(contract.network, "lean-tiny-norm, mirrored");
    let parts: Vec<_> = contract.scores.iter().map(|s| s.split.as_str()).collect();
    assert_eq!(parts, ["validation"], "test patients stay unseen");

    assert!(sees_mirror_images(&study.read("a/model.onnx")));
}

/// Whether the mirror image of a slice gives the mirror image of its logits, by a network that is made ready once.
fn sees_mirror_images(onnx: &[u8]) -> bool {
    let network = Network::from_onnx(onnx).unwrap();
    let views = network.views();
    let width = network.grid().width;
    let mirrored = |values: &[f32]| -> Vec<f32> {
        let rows = values.chunks_exact(width);
        rows.flat_map(|row| row.iter().rev().copied()).collect()
    };
    let values: Vec<f32> = (0..3 * width * network.grid().height)
        .map(|i| (i * 7919 % 1009) as f32 / 1009.0)
        .collect();
    let of_mirrored = network.logits(&mirrored(&values)).unwrap();
    let difference = mirrored(&network.logits(&values).unwrap())
        .iter()
        .zip(&of_mirrored)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    let sees = difference < 1e-4;
    assert_eq!(views, if sees { 2 } else { 1 });
    sees
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let study = Study::phantoms();
    succeed(&mut study.fit("unbroken", EPOCHS));
    // Of the line of an epoch and its checkpoint the line comes first.
    kill_after(2, &mut study.fit("broken", EPOCHS));
    let before = study.checkpoint("broken").history.len();
    assert!((1..EPOCHS).contains(&before), "{before} epochs");
    assert!(!study.path("broken/model.onnx").exists());
    kill_after(2, &mut study.fit("broken", EPOCHS));
    let after = study.checkpoint("broken").history.len();
    assert!((before + 1..EPOCHS).contains(&after), "{after} epochs");

    // A disk that is full when the next checkpoint is due leaves this one.
    let partial = study.path("broken/checkpoint.bin.partial");
    let _ = fs::remove_file(&partial);
    symlink("/dev/full", &partial).unwrap();
    let kept = study.read("broken/checkpoint.bin");
    let said = refusal(&mut study.fit("broken", EPOCHS));
    assert_says(&said, &["checkpoint.bin: cannot be written", "No space"]);
    assert!(study.read("broken/checkpoint.bin") == kept);

    let log = succeed(&mut study.fit("broken", EPOCHS));
    assert_eq!(validation_dice(&log).len(), EPOCHS - after, "{log}");
    let (unbroken, broken) = (study.checkpoint("unbroken"), study.checkpoint("broken"));
    assert_eq!(unbroken.history, broken.history);
    assert!(bits(&unbroken) == bits(&broken), "weights");
    for file in ["model.onnx", "metrics.csv"] {
        let [a, b] = ["unbroken", "broken"].map(|out| study.read(&format!("{out}/{file}")));
        assert!(a == b, "{file}");
    }
    assert_eq!(study.files("broken"), study.files("unbroken"));
}

#[test]
fn a_folder_holds_one_run() {
    let study = Study::phantoms();
    succeed(&mut study.fit("out", 1));
    let held = study.read("out/checkpoint.bin");
    let said = refusal(&mut study.fit("out", 2));
    assert_says(&said, &["checkpoint.bin", "recipe differs", "--out"]);
    let (slice, mask) = square();
    fs::write(study.path("data/p1/new.tif"), encode_slice_tiff(&slice)).unwrap();
    fs::write(study.path("data/p1/new_mask.tif"), encode_mask_tiff(&mask)).unwrap();
    let said = refusal(&mut study.fit("out", 1));
    assert_says(&said, &["checkpoint.bin", "data differs", "--out"]);
    assert!(study.read("out/checkpoint.bin") == held);

    fs::write(study.path("out/checkpoint.bin"), &held[..held.len() / 2]).unwrap();
    let said = refusal(&mut study.fit("out", 1));
    assert_says(&said, &["checkpoint.bin", "damaged"]);
}

#[test]
fn what_cannot_be_trained_is_refused_by_its_flag() {
    let study = Study::phantoms();
    for (flag, value) in [
        ("--batch", "0"),
        ("--epochs", "-1"),
        ("--crop", "33"),
        ("--crop", "0"),
        ("--crop", "512"),
        ("--network", "unet-7"),
        ("--learning-rate", "NaN"),
        ("--dropout", "1"),
        ("--tumour-share", "-1"),
    ] {
        let mut command = program("fit");
        command.arg(study.data()).arg("--split").arg(study.split());
        command.arg("--out").arg(study.path("out"));
        command.args(["--network", "unet-2", "--epochs", "1"]);
        if ["--network", "--epochs"].contains(&flag) {
            command = program("fit");
            command.arg(study.data()).arg("--split").arg(study.split());
            command.arg("--out").arg(study.path("out"));
        }
        let said = refusal(command.arg(format!("{flag}={value}")));
        assert_says(&said, &[flag]);
        assert_eq!(study.files("out"), [""; 0], "{flag} {value}");
    }
}

/// The same command where no file may grow beyond half a kilobyte.
fn without_room(command: &Command) -> Command {
    let mut limited = Command::new("sh");
    // Ignored, the signal leaves the write to fail as on a full disk.
    limited.args(["-c", r#"trap "" XFSZ; ulimit -f 1; exec "$@""#, "sh"]);
    limited.arg(command.get_program()).args(command.get_args());
    limited.env_remove("GLIOSEG_COMMIT");
    limited
}

#[test]
fn a_full_disk_leaves_nothing_under_a_final_name() {
    let study = Study::phantoms();
    let said = refusal(&mut without_room(&study.fit("out", 1)));
    assert_says(&said, &[".cache: cannot be written"]);
    assert_eq!(study.results("cache"), [""; 0]);
    assert_eq!(study.files("out"), [""; 0]);

    succeed(&mut study.fit("whole", 1));
    let said = refusal(&mut without_room(&study.fit("out", 1)));
    let file = study.path("out/checkpoint.bin");
    let expected = format!("{}: cannot be written", file.display());
    assert_says(&said, &[&expected, "free some space"]);
    assert_eq!(study.files("out"), [""; 0]);

    // The system's own full disk, under the name that a file is written under before it is whole.
    for (file, whole) in [
        ("checkpoint.bin", &[][..]),
        ("metrics.csv", &["checkpoint.bin"][..]),
        ("model.onnx", &["checkpoint.bin", "metrics.csv"]),
    ] {
        let out = format!("full-{file}");
        fs::create_dir(study.path(&out)).unwrap();
        symlink("/dev/full", study.path(&format!("{out}/{file}.partial"))).unwrap();
        let said = refusal(&mut study.fit(&out, 1));
        assert_says(&said, &[&format!("{file}: cannot be written"), "No space"]);
        assert_eq!(study.files(&out), whole);
    }

    let mut evaluate = program("evaluate");
    evaluate
        .arg(study.path("whole/model.onnx"))
        .arg(study.data());
    evaluate.arg("--out").arg(study.path("evaluation"));
    let said = refusal(&mut without_room(&evaluate));
    assert_says(&said, &["report.html", "File too large"]);
    assert_eq!(study.files("evaluation"), [""; 0]);
}

/// A damage to the second slice of a training patient, and what must be said about it.
struct Damage {
    what: &'static str,
    file: &'static str,
    /// A golden of the shared crate to put in its place; `None` removes the file.
    by: Option<&'static str>,
    says: &'static str,
}

const IMAGE: &str = "p2_1.tif";
const MASK: &str = "p2_1_mask.tif";

const DAMAGES: [Damage; 10] = [
    Damage {
        what: "truncated",
        file: IMAGE,
        by: Some("refused/truncated_pixels.tif"),
        says: "damaged TIFF file",
    },
    Damage {
        what: "zero bytes",
        file: IMAGE,
        by: Some("refused/zero_bytes.tif"),
        says: "the file is empty",
    },
    Damage {
        what: "not a TIFF",
        file: IMAGE,
        by: Some("refused/text.tif"),
        says: "neither TIFF nor PNG",
    },
    Damage {
        what: "two channels",
        file: IMAGE,
        by: Some("refused/two_samples.tif"),
        says: "unsupported TIFF file",
    },
    Damage {
        what: "extra samples",
        file: IMAGE,
        by: Some("refused/extra_sample_alpha.tif"),
        says: "unsupported TIFF file",
    },
    Damage {
        what: "giant dimensions",
        file: IMAGE,
        by: Some("refused/giant_width.tif"),
        says: "too large",
    },
    Damage {
        what: "NaN",
        file: IMAGE,
        by: Some("refused/nan.tif"),
        says: "not a finite number",
    },
    Damage {
        what: "a mask of another size",
        file: MASK,
        by: Some("masks/mask_255.tif"),
        says: "its slice is 48x48",
    },
    Damage {
        what: "a mask of three values",
        file: MASK,
        by: Some("masks/mask_three_values.tif"),
        says: "is no mask",
    },
    Damage {
        what: "no mask",
        file: MASK,
        by: None,
        says: "no mask; add p2_1_mask.tif",
    },
];

/// Every command that reads slices refuses these data by these words, and leaves nothing.
#[track_caller]
fn assert_refused(study: &Study, what: &str, says: &[&str]) {
    let model = study.path("threshold.onnx");
    fs::write(&model, threshold_model("v1", 0.6, SIDE as u32, Vec::new())).unwrap();
    let mut split = program("split");
    split.arg(study.data()).args(["--folds", "2", "--out"]);
    split.arg(study.path("out/split.json"));
    split.arg("--cache").arg(study.path("cache"));
    let mut evaluate = program("evaluate");
    evaluate.arg(&model).arg(study.data());
    evaluate.arg("--out").arg(study.path("out"));
    for command in [&mut study.fit("out", 1), &mut split, &mut evaluate] {
        let said = refusal(command);
        for part in says {
            assert!(said.contains(part), "{what}: no {part:?} in: {said}");
        }
        for folder in ["out", "cache"] {
            assert_eq!(study.results(folder), [""; 0], "{what}");
        }
    }
}

#[test]
fn bad_input_is_refused_by_name_and_leaves_nothing() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/tests/goldens/imaging");
    for damage in DAMAGES {
        let study = Study::phantoms();
        let file = study.path("data/p2").join(damage.file);
        match damage.by {
            Some(golden) => drop(fs::copy(goldens.join(golden), &file).unwrap()),
            None => fs::remove_file(&file).unwrap(),
        }
        // A missing mask is told of the slice that it belongs to.
        let named = if damage.by.is_some() {
            damage.file
        } else {
            IMAGE
        };
        assert_refused(&study, damage.what, &[&format!("{named}: "), damage.says]);
    }

    let study = Study::phantoms();
    for name in study.files("data/p2") {
        fs::remove_file(study.path("data/p2").join(name)).unwrap();
    }
    assert_refused(&study, "empty folder of a patient", &["p2: no slices"]);
    fs::remove_dir_all(study.data()).unwrap();
    assert_refused(&study, "no folder", &["data: cannot be read"]);
    fs::create_dir(study.data()).unwrap();
    assert_refused(&study, "empty folder", &["data: no patients"]);
}

#[test]
fn a_split_is_made_once_for_a_seed_and_trained_on() {
    let study = Study::phantoms();
    for out in ["first.json", "second.json"] {
        let mut split = program("split");
        split.arg(study.data()).args(["--folds", "2", "--out"]);
        let log = succeed(split.arg(study.path(out)));
        assert_says(
            &log,
            &[out, "4 training, 1 validation and 1 test", "2 folds"],
        );
    }
    assert_eq!(study.text("first.json"), study.text("second.json"));
    let split = Split::read(&study.path("first.json")).unwrap();
    let mut named = [split.train, split.validation, split.test].concat();
    named.sort();
    assert_eq!(named, ["p1", "p2", "p3", "p4", "p5", "p6"]);

    let mut joined = program("split");
    joined.arg(study.data()).arg("--join-test");
    joined.arg(study.path("first.json"));
    let log = succeed(joined.arg("--out").arg(study.path("everybody.json")));
    assert_says(&log, &["5 training, 1 validation and 0 test", "2 folds"]);
    let everybody = Split::read(&study.path("everybody.json")).unwrap();
    assert_eq!(everybody.folds.concat().len(), 6);

    fs::copy(study.path("first.json"), study.split()).unwrap();
    succeed(&mut study.fit("out", 1));
    let contract = Contract::of_onnx(&study.read("out/model.onnx")).unwrap();
    assert_eq!(contract.provenance.data, "data", "the folder's name");
}

#[test]
fn a_checkpoint_becomes_a_model_that_is_evaluated() {
    let study = Study::phantoms();
    succeed(&mut study.fit("out", 2));
    let export = |out: &str| study.export(out);
    succeed(&mut export("again.onnx"));
    assert!(study.read("again.onnx") == study.read("out/model.onnx"));
    succeed(export("single.onnx").args(["--mirror", "false"]));
    let single = study.read("single.onnx");
    let network = Contract::of_onnx(&single).unwrap().network;
    assert_eq!(network, "lean-tiny-norm");
    assert!(!sees_mirror_images(&single));
    succeed(export("scored.onnx").arg("--score-test"));
    succeed(export("decided.onnx").args(["--threshold", "0.4", "--minimum-component", "77"]));
    let decided = Contract::of_onnx(&study.read("decided.onnx")).unwrap();
    assert_eq!(decided.postprocessing.threshold, 0.4);
    assert_eq!(decided.postprocessing.minimum_component_pixels, 77);
    assert!(decided.postprocessing.fill_holes);
    for (flag, value) in [
        ("--threshold", "1"),
        ("--threshold", "0"),
        ("--threshold", "NaN"),
        ("--minimum-component", "0"),
        ("--minimum-component", "65537"),
        ("--seed-probability", "1"),
        ("--fill-holes", "maybe"),
    ] {
        let said = refusal(export("refused.onnx").args([flag, value]));
        assert_says(&said, &[flag, value]);
    }
    let mut absent = program("export");
    absent.arg(study.path("absent.bin")).arg(study.data());
    let said = refusal(absent.arg("--split").arg(study.split()));
    assert_says(&said, &["absent.bin"]);

    // What is decided as a model is made can be decided afterwards: the same model, digest and all.
    let decide = ["--seed-probability", "0.6", "--fill-holes", "false"];
    succeed(export("seeded.onnx").arg("--score-test").args(decide));
    let unchanged = |split: PathBuf| {
        let mut command = program("postprocess");
        command.arg(study.path("again.onnx")).arg(study.data());
        command.arg("--split").arg(split);
        command.arg("--out").arg(study.path("afterwards.onnx"));
        command
    };
    succeed(&mut unchanged(study.split()));
    assert!(study.read("afterwards.onnx") == study.read("again.onnx"));
    let postprocess = |split: PathBuf| {
        let mut command = unchanged(split);
        command.arg("--score-test").args(decide);
        command
    };
    let log = succeed(&mut postprocess(study.split()));
    let seeded = Contract::of_onnx(&study.read("seeded.onnx")).unwrap();
    assert_says(&log, &[&seeded.model_version, "validation:", "test:"]);
    assert_eq!(seeded.postprocessing.seed_probability, Some(0.6));
    assert!(study.read("afterwards.onnx") == study.read("seeded.onnx"));
    let mut other = Split::read(&study.split()).unwrap();
    other.test.clear();
    other.write(&study.path("other.json")).unwrap();
    let said = refusal(&mut postprocess(study.path("other.json")));
    assert_says(&said, &["again.onnx", "another split"]);

    let contract = Contract::of_onnx(&study.read("scored.onnx")).unwrap();
    for (part, patient) in [("validation", "p5"), ("test", "p6")] {
        let mut evaluate = program("evaluate");
        evaluate.arg(study.path("scored.onnx")).arg(study.data());
        evaluate
            .arg("--split")
            .arg(study.split())
            .args(["--part", part]);
        let log = succeed(evaluate.arg("--out").arg(study.path(part)));
        assert_says(&log, &[&contract.model_version, NOTICE, "evaluation.json"]);
        let names = ["evaluation.json", "report.html", "slices.csv"];
        assert_eq!(study.files(part), names);

        let figures = study.read(&format!("{part}/evaluation.json"));
        let figures: serde_json::Value = serde_json::from_slice(&figures).unwrap();
        let summary: Summary = serde_json::from_value(figures["summary"].clone()).unwrap();
        assert_eq!((summary.patients, summary.slices), (1, SLICES));
        let scored = contract.scores.iter().find(|s| s.split == part).unwrap();
        assert_eq!(scored.summary, summary, "the contract's own scores");
        let csv = study.text(&format!("{part}/slices.csv"));
        assert_eq!(csv.lines().count(), 1 + SLICES);
        assert!(csv.lines().skip(1).all(|row| row.starts_with(patient)));
        assert_says(
            &study.text(&format!("{part}/report.html")),
            &[patient, NOTICE],
        );
    }
}

#[test]
fn every_patient_is_scored_by_the_network_that_has_not_seen_it() {
    let study = Study::phantoms();
    let without = {
        let mut command = study.run("cross-validate", "out", 1);
        refusal(&mut command)
    };
    assert_says(&without, &["split.json", "0 folds"]);
    let mut split = Split::read(&study.split()).unwrap();
    let fold = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    split.folds = vec![fold(&["p1", "p2"]), fold(&["p3", "p4", "p5"])];
    split.write(&study.split()).unwrap();

    let mut joined = study.run("cross-validate", "out", 1);
    let absent = refusal(joined.arg("--join").arg(study.path("absent.bin")));
    assert_says(&absent, &["absent.bin", "no such checkpoint"]);
    assert!(!study.path("out").exists(), "refused before training");

    let mut validate = study.run("cross-validate", "out", 1);
    let log = succeed(validate.arg("--score-test"));
    assert_says(
        &log,
        &["fold 0 of 2", "fold 1 of 2", "cross-validation", NOTICE],
    );
    assert_eq!(
        study.files("out"),
        [
            "evaluation.json",
            "fold-0",
            "fold-1",
            "model.onnx",
            "report.html",
            "slices.csv"
        ]
    );
    let model = study.read("out/model.onnx");
    let contract = Contract::of_onnx(&model).unwrap();
    assert_eq!(contract.network, "2 of lean-tiny-norm, mirrored");
    assert!(sees_mirror_images(&model));
    let figures: serde_json::Value =
        serde_json::from_slice(&study.read("out/evaluation.json")).unwrap();
    assert_eq!(figures["model"]["version"], contract.model_version);
    let patients = figures["patients"].as_array().unwrap();
    let names: Vec<_> = patients
        .iter()
        .map(|p| p["patient"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["p1", "p2", "p3", "p4", "p5"]);
    let scored: Vec<_> = contract
        .scores
        .iter()
        .map(|s| (s.split.as_str(), s.summary.patients))
        .collect();
    assert_eq!(scored, [("cross-validation", 5), ("test", 1)]);

    // Each network by itself, as it left training: its fold alone is what it had not seen.
    for (fold, patients) in [["p1", "p2"].as_slice(), &["p3", "p4", "p5"]]
        .iter()
        .enumerate()
    {
        let member =
            Contract::of_onnx(&study.read(&format!("out/fold-{fold}/model.onnx"))).unwrap();
        assert_eq!(member.provenance.split, format!("split.json, fold {fold}"));
        assert_eq!(member.scores[0].summary.patients, patients.len());
    }

    // The members have seen everybody: no list of validation patients is one that they have not seen.
    let mut publish = program("publish");
    publish
        .arg(study.path("out/model.onnx"))
        .arg(study.path("models"));
    publish
        .arg("--data")
        .arg(study.data())
        .arg("--split")
        .arg(study.split());
    assert_says(&refusal(&mut publish), &["another split"]);

    // A network of the whole split joins the model, not the scores; one of a fold could not.
    succeed(&mut study.fit("whole", 1));
    let mut join = study.run("cross-validate", "out", 1);
    join.arg("--join").arg(study.path("whole/checkpoint.bin"));
    succeed(join.args(["--mirror", "false"]));
    let joined = Contract::of_onnx(&study.read("out/model.onnx")).unwrap();
    assert_eq!(joined.network, "2 of lean-tiny-norm, lean-tiny-norm");
    assert!(!sees_mirror_images(&study.read("out/model.onnx")));
    assert_eq!(joined.scores.len(), 1);
    let mut join = study.run("cross-validate", "out", 1);
    join.arg("--join")
        .arg(study.path("out/fold-0/checkpoint.bin"));
    assert_says(
        &refusal(&mut join),
        &["fold-0/checkpoint.bin", "another split"],
    );

    let again = succeed(study.run("cross-validate", "out", 1).arg("--score-test"));
    assert!(
        !again.contains("Val_dice"),
        "nothing is trained twice: {again}"
    );
    assert!(study.read("out/model.onnx") == model);
}

#[test]
fn a_model_of_all_folds_has_the_last_weights_and_a_calibration_that_is_given() {
    const CALIBRATION: [&str; 5] = [
        "--threshold=0.4",
        "--minimum-component=7",
        "--fill-holes=false",
        "--fold",
        "all",
    ];
    let study = Study::phantoms();
    let said = refusal(study.fit("out", 2).args(["--fold", "all"]));
    assert_says(
        &said,
        &["--temperature", "--threshold", "--minimum-component"],
    );
    assert!(!study.path("out").exists(), "refused before training");
    let said = refusal(study.fit("out", 2).args(["--fold", "every"]));
    assert_says(&said, &["--fold", "from 0, or `all`"]);

    let mut fit = study.fit("out", 2);
    let log = succeed(fit.args(CALIBRATION).arg("--temperature=2"));
    assert_eq!(log.matches("loss=").count(), 2, "{log}");
    assert_says(&log, &["0 validation slices", "weights of the last epoch"]);
    assert!(validation_dice(&log).is_empty(), "{log}");
    let metrics = study.text("out/metrics.csv");
    for row in metrics.lines().skip(1) {
        let cells: Vec<_> = row.split(',').collect();
        assert_eq!((cells.len(), cells[2], cells[3]), (6, "", ""), "{metrics}");
    }
    let split = Split::read(&study.split()).unwrap();
    let contract = Contract::of_onnx(&study.read("out/model.onnx")).unwrap();
    assert_eq!(contract.postprocessing.threshold, 0.4);
    assert_eq!(contract.postprocessing.minimum_component_pixels, 7);
    assert!(!contract.postprocessing.fill_holes);
    assert_eq!(contract.provenance.split, "split.json, all folds");
    assert_eq!(contract.provenance.split_digest, split.all_folds().digest());
    assert!(contract.scores.is_empty(), "nobody is left to score");

    // The weights are those of a run whose split trains the same patients, whoever validates it.
    let mut other = split.clone();
    other.train.append(&mut other.validation);
    other.validation.append(&mut other.test);
    other.write(&study.split()).unwrap();
    succeed(&mut study.fit("validated", 2));
    split.write(&study.split()).unwrap();
    let (ours, theirs) = (study.checkpoint("out"), study.checkpoint("validated"));
    assert!(ours.best == ours.average && ours.average == theirs.average);

    let export = |out: &str, temperature: &str| {
        let mut command = study.export(out);
        command
            .args(CALIBRATION)
            .args(["--temperature", temperature]);
        command
    };
    let log = succeed(&mut export("again.onnx", "2"));
    assert_says(
        &log,
        &["calibration: --temperature 2 --threshold 0.4 --minimum-component 7 --fill-holes false"],
    );
    assert!(study.read("again.onnx") == study.read("out/model.onnx"));
    succeed(export("scored.onnx", "2").arg("--score-test"));
    let scored = Contract::of_onnx(&study.read("scored.onnx")).unwrap();
    let parts: Vec<_> = scored.scores.iter().map(|s| s.split.as_str()).collect();
    assert_eq!(parts, ["test"]);
    for (part, trained) in [("test", false), ("validation", true)] {
        let mut evaluate = program("evaluate");
        evaluate.arg(study.path("scored.onnx")).arg(study.data());
        evaluate.arg("--split").arg(study.split());
        let log = succeed(
            evaluate
                .args(["--part", part])
                .arg("--out")
                .arg(study.path(part)),
        );
        assert_eq!(log.contains("patients trained the model"), trained, "{log}");
        assert!(!log.contains("another split"), "{log}");
    }

    // A temperature divides the logits and does nothing else.
    succeed(&mut export("warmer.onnx", "4"));
    let logits = |file: &str| {
        let network = Network::from_onnx(&study.read(file)).unwrap();
        let values = vec![0.25; 3 * network.grid().width * network.grid().height];
        network.logits(&values).unwrap()
    };
    for (cool, warm) in logits("again.onnx").iter().zip(logits("warmer.onnx")) {
        assert!((cool / 2.0 - warm).abs() < 1e-4, "{cool} and {warm}");
    }
}

#[test]
fn cross_validation_goes_on_from_weights_that_no_patient_has_chosen() {
    let study = Study::phantoms();
    let mut split = Split::read(&study.split()).unwrap();
    let fold = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    split.folds = vec![fold(&["p1", "p2"]), fold(&["p3", "p4", "p5"])];
    split.write(&study.split()).unwrap();
    succeed(&mut study.run("cross-validate", "first", 1));
    let checkpoint = |path: &str| Checkpoint::read(&study.path(path)).unwrap().unwrap();
    let mut last = Vec::new();
    for fold in 0..2 {
        let path = format!("first/fold-{fold}/checkpoint.bin");
        let mut left = checkpoint(&path);
        // As if an earlier epoch had been the best by the fold.
        left.best.values_mut().for_each(|values| values[0] += 1.0);
        left.write(&study.path(&path)).unwrap();
        last.push(weights_digest(&left.average));
    }
    let mut second = study.run("cross-validate", "second", 1);
    succeed(second.arg("--from").arg(study.path("first")));
    let starts: Vec<_> = (0..2)
        .map(|fold| {
            checkpoint(&format!("second/fold-{fold}/checkpoint.bin"))
                .recipe
                .start
        })
        .collect();
    assert_eq!(starts, last.into_iter().map(Some).collect::<Vec<_>>());
}

#[test]
fn a_model_is_exported_with_the_split_it_was_trained_on() {
    let study = Study::phantoms();
    succeed(&mut study.fit("out", 1));
    let mut other = Split::read(&study.split()).unwrap();
    std::mem::swap(&mut other.validation[0], &mut other.train[0]);
    other.write(&study.path("other.json")).unwrap();
    let mut export = program("export");
    export
        .arg(study.path("out/checkpoint.bin"))
        .arg(study.data());
    export.arg("--split").arg(study.path("other.json"));
    let said = refusal(export.arg("--out").arg(study.path("model.onnx")));
    assert_says(&said, &["checkpoint.bin", "another split"]);
    assert!(!study.path("model.onnx").exists());
}

#[test]
fn a_model_that_says_nothing_of_itself_is_refused() {
    let study = Study::squares();
    let graph = unet(2, 0.0);
    let weights = fresh_weights(&graph, &mut ChaCha8Rng::seed_from_u64(0));
    let model = study.path("bare.onnx");
    fs::write(&model, bare_onnx(&graph, &weights, 16, 16).unwrap()).unwrap();
    let mut evaluate = program("evaluate");
    evaluate.arg(&model).arg(study.data());
    let said = refusal(evaluate.arg("--out").arg(study.path("out")));
    assert_says(&said, &["bare.onnx: ", "glioseg.contract"]);

    let whole = threshold_model("v1", 0.6, 16, Vec::new());
    fs::write(&model, &whole[..whole.len() - 40]).unwrap();
    let mut evaluate = program("evaluate");
    evaluate.arg(&model).arg(study.data());
    let said = refusal(evaluate.arg("--out").arg(study.path("out")));
    assert_says(&said, &["bare.onnx: ", "not an ONNX file"]);
    assert!(!study.path("out").exists());

    let mut publish = program("publish");
    let said = refusal(publish.arg(&model).arg(study.path("store")));
    assert_says(&said, &["bare.onnx: ", "not an ONNX file"]);
    assert_eq!(study.files("store"), [""; 0]);
}

#[test]
fn the_better_model_serves_whatever_is_claimed() {
    let study = Study::squares();
    let (_, truth) = square();
    let perfect = Summary::of(&[PatientScore {
        patient: "p2".to_owned(),
        slices: vec![SliceScore {
            slice: "p2_0".to_owned(),
            counts: Counts::of(&truth, &truth).unwrap(),
            surface: None,
        }],
    }]);
    let claim = || Score {
        split: "validation".to_owned(),
        summary: perfect.clone(),
    };
    // Only the tumour, all of the brain, nothing; and one from elsewhere.
    let digest = Split::read(&study.split()).unwrap().digest();
    for (version, level, claims, digest) in [
        ("good", 0.6, Vec::new(), digest.as_str()),
        ("fair", 0.2, Vec::new(), &digest),
        ("poor", 0.9, vec![claim()], &digest),
        ("strange", 0.6, Vec::new(), &sha256_hex(b"another split")),
    ] {
        let onnx = threshold_model(version, level, 16, claims);
        let onnx = with_split_digest(onnx, digest);
        fs::write(study.path(&format!("{version}.onnx")), onnx).unwrap();
    }
    let publish = |version: &str| {
        let mut command = program("publish");
        command.arg(study.path(&format!("{version}.onnx")));
        command.arg(study.path("store"));
        command
    };
    let judged = |version: &str| {
        let mut command = publish(version);
        command.arg("--data").arg(study.data());
        command.arg("--split").arg(study.split());
        command
    };
    let serving = || {
        let pointer = study.read("store/models/fast/current.json");
        let pointer: Pointer = serde_json::from_slice(&pointer).unwrap();
        pointer.model.version
    };

    let said = succeed(&mut publish("fair"));
    assert_says(&said, &["channel fast now serves fair"]);
    assert_eq!(
        study.files("store/models/fair"),
        ["model.json", "model.onnx"]
    );
    let said = succeed(&mut publish("good"));
    assert_says(&said, &["keeps serving fair", "without data"]);
    let said = succeed(&mut judged("good"));
    assert_says(&said, &["now serves good", "1.0000"]);
    let said = succeed(&mut judged("fair"));
    assert_says(&said, &["keeps serving good"]);
    let said = refusal(&mut judged("strange"));
    assert_says(&said, &["strange.onnx: trained by another split"]);
    assert!(!study.path("store/models/strange").exists());

    // The serving model's card is made to look bad; the poor one's contract looks perfect already.
    let card = study.path("store/models/good/model.json");
    let mut edited: serde_json::Value = serde_json::from_slice(&fs::read(&card).unwrap()).unwrap();
    let mut nothing = serde_json::to_value(claim()).unwrap();
    nothing["summary"]["volume_dice_mean"]["value"] = 0.0.into();
    edited["contract"]["scores"] = serde_json::json!([nothing]);
    fs::write(&card, edited.to_string()).unwrap();
    let said = succeed(&mut judged("poor"));
    assert_says(&said, &["keeps serving good", "0.0000", "1.0000"]);
    assert_eq!(serving(), "good");

    let said = succeed(publish("poor").arg("--force"));
    assert_says(&said, &["now serves poor"]);
    assert_eq!(serving(), "poor");
    let said = succeed(publish("fair").args(["--channel", "accurate"]));
    assert_says(&said, &["channel accurate now serves fair"]);
    assert_eq!(serving(), "poor");
}

#[test]
fn help_and_version_say_what_it_is() {
    let said = succeed(Command::new(PROGRAM).arg("--help"));
    assert_says(&said, &["Research use only", "not a medical device"]);
    for command in COMMANDS {
        assert_says(&said, &[command]);
        let help = succeed(program(command).arg("--help"));
        assert_says(&help, &["Usage: glioseg-train", command]);
    }
    let said = succeed(Command::new(PROGRAM).arg("--version"));
    let version = env!("CARGO_PKG_VERSION");
    assert_says(&said, &[version, "MIT OR Apache-2.0", "CC BY-NC-SA 4.0"]);
    assert_says(&said, &["research use only", "not a medical device"]);
    let said = refusal(&mut program("improve"));
    assert_says(&said, &["improve"]);
}
