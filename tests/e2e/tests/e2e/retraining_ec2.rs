//! The user data of a training instance: the script itself, among stand-ins for what such an instance has.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const SCRIPT: &str = include_str!("../../../../infra/sagemaker/ec2-user-data.sh");

/// Programs of the instance. Each notes how it was called; nobody waits as long as the script says.
const STAND_INS: &[(&str, &str)] = &[
    (
        "aws",
        r#"case "$*" in
"ecr "*) echo password ;;
"s3 sync"*"/checkpoints s3://"*) cp -R "$GLIOSEG_ML_ROOT/checkpoints/." "$KEPT" ;;
esac"#,
    ),
    // No notice of a spot interruption.
    ("curl", "exit 22"),
    (
        "docker",
        r#"case $1 in
login) cat >/dev/null ;;
run)
    if [ "$JOB_ENDS" = well ]; then
        echo weights >"$GLIOSEG_ML_ROOT/model/model.onnx"
        exit
    fi
    trap 'echo "epoch 3" >"$GLIOSEG_ML_ROOT/checkpoints/checkpoint.bin"; exit 143' TERM
    while :; do sleep 1; done
    ;;
esac"#,
    ),
    ("nvidia-smi", "exit 9"),
    ("python3", r#"exec "$PYTHON" "$@""#),
    ("shutdown", r#"[ "$2" = now ] || exit "$SHUTDOWN_CODE""#),
    ("sleep", r#"exec "$SLEEP" 0.05"#),
    (
        "timeout",
        r#"preserve=$1 kill=$2
shift 3
exec "$TIMEOUT" "$preserve" "$kill" 2 "$@""#,
    ),
];

/// An instance whose user data ran to their end.
struct Ended {
    root: TempDir,
    output: Output,
    /// The calls of all programs, in their order.
    calls: Vec<String>,
}

impl Ended {
    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    #[track_caller]
    fn assert_said(&self, code: i32, part: &str) {
        let said = String::from_utf8_lossy(&self.output.stdout);
        assert_eq!(self.output.status.code(), Some(code), "{:?}", self.output);
        assert!(said.contains(part), "no {part:?} in {said}");
    }

    fn has_called(&self, program_and_arguments: &str) -> bool {
        let mut calls = self.calls.iter();
        calls.any(|call| call.starts_with(program_and_arguments))
    }
}

/// Runs user data; `None`, with a printed line, where there is no Python.
fn run(user_data: &str, job_ends: &str, shutdown_code: &str) -> Option<Ended> {
    let python = glioseg_test_support::python(&["json"])?;
    let root = tempfile::tempdir().unwrap();
    let programs = root.path().join("bin");
    let calls = root.path().join("calls");
    for folder in [&programs, &root.path().join("kept")] {
        fs::create_dir(folder).unwrap();
    }
    for (name, does) in STAND_INS {
        let program = programs.join(name);
        let script = format!("#!/bin/sh\necho \"{name} $*\" >>\"$CALLS\"\n{does}\n");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let script = root.path().join("user-data.sh");
    fs::write(&script, user_data).unwrap();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("bash")
        .arg(script)
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("GLIOSEG_ML_ROOT", root.path().join("ml"))
        .env("KEPT", root.path().join("kept"))
        .env("CALLS", &calls)
        .env("JOB_ENDS", job_ends)
        .env("SHUTDOWN_CODE", shutdown_code)
        .env("PYTHON", python)
        .env("SLEEP", own("sleep"))
        .env("TIMEOUT", own("timeout"))
        .env_remove("SHUTDOWN")
        .output()
        .unwrap();
    let calls = fs::read_to_string(calls).unwrap();
    let calls = calls.lines().map(str::to_owned).collect();
    Some(Ended {
        root,
        output,
        calls,
    })
}

/// This machine's program of that name.
fn own(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
    places.find(|program| program.is_file()).unwrap()
}

#[test]
fn training_that_takes_too_long_is_stopped_and_what_it_saved_is_kept() {
    let Some(ended) = run(SCRIPT, "never", "0") else {
        return;
    };
    ended.assert_said(143, "ended with 143");
    // First of all, so that it holds whatever becomes of the script.
    assert_eq!(ended.calls[0], "shutdown -P +360");
    assert_eq!(ended.calls.last().unwrap(), "shutdown -P now");
    let limit = ended
        .calls
        .iter()
        .find_map(|call| call.strip_prefix("timeout --preserve-status --kill-after=120 "));
    let (seconds, command) = limit.unwrap().split_once(' ').unwrap();
    // Ten minutes less, and less what getting ready took.
    let seconds: u32 = seconds.parse().unwrap();
    assert!((20_000..=21_000).contains(&seconds), "{seconds}");
    assert!(command.starts_with("docker run "), "{command}");
    // What the job saved when it was told to stop is uploaded; a model there is none.
    let kept = fs::read_to_string(ended.path("kept/checkpoint.bin")).unwrap();
    assert_eq!(kept, "epoch 3\n");
    let archive = ended.path("ml/output/model.tar.gz");
    assert!(!archive.exists());
}

#[test]
fn training_that_ends_well_is_uploaded_and_ends_the_instance() {
    let Some(ended) = run(SCRIPT, "well", "0") else {
        return;
    };
    ended.assert_said(0, "ended with 0");
    let archive = ended.path("ml/output/model.tar.gz");
    let upload = format!("aws s3 cp --only-show-errors {} s3://", archive.display());
    assert!(ended.has_called(&upload), "{:?}", ended.calls);
    assert_eq!(ended.calls.last().unwrap(), "shutdown -P now");
    let hyper = read_json(&ended.path("ml/input/config/hyperparameters.json"));
    assert_eq!(hyper["publish"], "false", "{hyper}");
}

#[test]
fn nothing_is_trained_without_an_end_in_sight() {
    let short = SCRIPT.replace("MAX_MINUTES=360", "MAX_MINUTES=9");
    assert_ne!(short, SCRIPT);
    for (user_data, shutdown_code, says) in [
        (SCRIPT, "1", "the end of the instance could not be set"),
        (short.as_str(), "0", "no time is left for training"),
    ] {
        let Some(ended) = run(user_data, "well", shutdown_code) else {
            return;
        };
        ended.assert_said(1, says);
        assert!(!ended.has_called("docker run"), "{:?}", ended.calls);
        assert_eq!(ended.calls.last().unwrap(), "shutdown -P now");
    }
}

fn read_json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
