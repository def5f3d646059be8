//! A container's tree in a temporary folder, and the program that runs in it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use glioseg_shared::imaging::phantom::{Phantom, PhantomConfig};
use glioseg_shared::imaging::{encode_mask_tiff, encode_slice_tiff};
use glioseg_shared::registry::Pointer;
use glioseg_training::data::Split;
use regex::Regex;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_glioseg-train");

/// Slices of each patient, and pixels a side.
const SLICES: usize = 3;
const SIDE: usize = 48;

/// Hyper-parameters that make a job take a second or two.
const TINY: [(&str, &str); 7] = [
    ("network", "lean-tiny-norm"),
    ("crop", "32"),
    ("batch", "2"),
    ("average", "0.9"),
    ("patience", "99"),
    ("epochs", "1"),
    ("device", "cpu"),
];

/// `/opt/ml` of a job, with a folder for models beside it.
pub(crate) struct Tree {
    root: TempDir,
}

/// How a job ended.
pub(crate) struct Ended {
    /// The exit code; `None` for a signal.
    pub(crate) code: Option<i32>,
    /// What it printed on stdout.
    pub(crate) log: String,
    /// What it printed on stderr.
    pub(crate) said: String,
}

impl Tree {
    /// Six patients of drawn slices, four to train on, one to validate and one to test, with their split among them;
    /// configured as SageMaker does.
    pub(crate) fn new() -> Self {
        let tree = Self::empty();
        let config = PhantomConfig {
            slices: SLICES,
            size: SIDE,
            lesions: 2,
        };
        for number in 1..=6 {
            let phantom = Phantom::generate(&config, number).unwrap();
            let name = format!("p{number}");
            let folder = tree.path("ml/input/data/training").join(&name);
            fs::create_dir(&folder).unwrap();
            for (index, (slice, mask)) in phantom.slices.iter().zip(&phantom.masks).enumerate() {
                let image = folder.join(format!("{name}_{index}.tif"));
                fs::write(image, encode_slice_tiff(slice)).unwrap();
                let file = folder.join(format!("{name}_{index}_mask.tif"));
                fs::write(file, encode_mask_tiff(mask)).unwrap();
            }
        }
        tree.split()
            .write(&tree.path("ml/input/data/training/split.json"))
            .unwrap();
        tree
    }

    /// The same without data.
    pub(crate) fn empty() -> Self {
        let tree = Self {
            root: tempfile::tempdir().unwrap(),
        };
        fs::create_dir_all(tree.path("ml/input/data/training")).unwrap();
        tree.configure(
            "inputdataconfig.json",
            r#"{"training":{"TrainingInputMode":"File","S3DistributionType":"FullyReplicated","RecordWrapperType":"None"}}"#,
        );
        tree.configure(
            "resourceconfig.json",
            r#"{"current_host":"algo-1","current_instance_type":"ml.m5.large","hosts":["algo-1"],"network_interface_name":"eth0"}"#,
        );
        tree.hyper(&[]);
        tree
    }

    pub(crate) fn split(&self) -> Split {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Split {
            data_set: "drawn".to_owned(),
            note: String::new(),
            train: list(&["p1", "p2", "p3", "p4"]),
            validation: list(&["p5"]),
            test: list(&["p6"]),
            folds: Vec::new(),
        }
    }

    /// A path below the temporary folder: `ml/…`, or `models/…`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a file below `input/config`.
    pub(crate) fn configure(&self, file: &str, json: &str) {
        let folder = self.path("ml/input/config");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), json).unwrap();
    }

    /// Sets the hyper-parameters: those of [`TINY`], and these instead or beside them.
    pub(crate) fn hyper(&self, given: &[(&str, &str)]) {
        let mut table = serde_json::Map::new();
        for (name, text) in TINY.iter().chain(given) {
            table.insert((*name).to_owned(), (*text).into());
        }
        let json = serde_json::Value::Object(table).to_string();
        self.configure("hyperparameters.json", &json);
    }

    /// The job, yet to be started; it publishes to the folder `models`.
    pub(crate) fn job(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("train");
        for variable in ["GLIOSEG_COMMIT", "AWS_PROFILE", "AWS_SESSION_TOKEN"] {
            command.env_remove(variable);
        }
        command.env("GLIOSEG_ML_ROOT", self.path("ml"));
        command.env("MODELS_URI", self.path("models"));
        command.env("TRAINING_JOB_NAME", "job-1");
        command
    }

    /// Runs the job, which must succeed; its log.
    #[track_caller]
    pub(crate) fn succeed(&self) -> String {
        succeed(self, &mut self.job())
    }

    /// Runs the job, which must fail with this code; the reason of the failure.
    #[track_caller]
    pub(crate) fn fail(&self, code: i32) -> String {
        fail(self, code, &mut self.job())
    }

    /// The reason of the failure.
    pub(crate) fn failure(&self) -> Option<String> {
        fs::read_to_string(self.path("ml/output/failure")).ok()
    }

    /// What lies in a folder, by name.
    pub(crate) fn files(&self, folder: &str) -> Vec<String> {
        files(&self.path(folder))
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// What the channel `fast` of the folder `models` serves.
    pub(crate) fn serving(&self) -> Option<Pointer> {
        let json = fs::read(self.path("models/models/fast/current.json")).ok()?;
        Some(serde_json::from_slice(&json).unwrap())
    }

    /// Version of the model in `ml/model`.
    pub(crate) fn version(&self) -> String {
        let card: serde_json::Value =
            serde_json::from_slice(&self.read("ml/model/model.json")).unwrap();
        card["version"].as_str().unwrap().to_owned()
    }
}

/// What lies in a folder, by name; nothing in one that is not there.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Runs a job to its end.
pub(crate) fn ended(job: &mut Command) -> Ended {
    let output = job.output().unwrap();
    Ended {
        code: output.status.code(),
        log: String::from_utf8(output.stdout).unwrap(),
        said: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a job of a tree, which must succeed; its log.
#[track_caller]
pub(crate) fn succeed(tree: &Tree, job: &mut Command) -> String {
    let Ended { code, log, said } = ended(job);
    assert_eq!(code, Some(0), "{said}{log}");
    assert_eq!(tree.failure(), None);
    log
}

/// Runs a job of a tree, which must fail with this code; the reason of the failure.
#[track_caller]
pub(crate) fn fail(tree: &Tree, code: i32, job: &mut Command) -> String {
    let ended = ended(job);
    assert_eq!(ended.code, Some(code), "{}{}", ended.said, ended.log);
    assert!(!ended.said.contains("panicked"), "{}", ended.said);
    let reason = tree.failure().expect("a failure has its reason");
    assert!(
        !reason.is_empty() && reason.chars().count() <= 1024,
        "{reason}"
    );
    let first = reason.split(" (a larger").next().unwrap();
    assert!(ended.said.contains(first), "{}", ended.said);
    reason
}

/// Starts a job and waits until it printed this many lines with a validation Dice.
#[track_caller]
pub(crate) fn start_for(
    epochs: usize,
    job: &mut Command,
) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = job
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stdout.take().unwrap());
    let mut seen = 0;
    while seen < epochs {
        let mut line = String::new();
        assert_ne!(
            log.read_line(&mut line).unwrap(),
            0,
            "the job is long enough"
        );
        seen += usize::from(line.contains("Val_dice="));
    }
    (child, log)
}

/// Sends SIGTERM, as SageMaker does before it stops or takes back an instance.
pub(crate) fn terminate(child: &Child) {
    let mut kill = Command::new("kill");
    let status = kill.args(["-TERM", &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

/// The figures that a metric's regular expression `name=(.*?);` finds.
pub(crate) fn metric(log: &str, name: &str) -> Vec<f64> {
    figures(log, &format!("{name}=(.*?);"))
}

/// The figures that a regular expression finds in the lines of a log.
#[track_caller]
pub(crate) fn figures(log: &str, pattern: &str) -> Vec<f64> {
    let pattern = Regex::new(pattern).unwrap();
    let found = log.lines().flat_map(|line| pattern.captures_iter(line));
    found.map(|found| found[1].parse().unwrap()).collect()
}

/// Looks for phrases in a text, wherever its lines are broken.
#[track_caller]
pub(crate) fn assert_says(text: &str, parts: &[&str]) {
    let words: Vec<_> = text.split_whitespace().collect();
    let text = words.join(" ");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}
