//! The step that publishes from the archive of a training job, by the image's own script and program.

use std::path::Path;
use std::process::{Command, Output};

use super::{binaries, models};

const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../infra/sagemaker/publish-archive.sh"
);

/// Runs the script on a container's tree, with glioseg-train on the path.
fn publish(root: &Path, to: &Path) -> Output {
    let programs = binaries::path("glioseg-train");
    let path = std::env::var("PATH").unwrap();
    Command::new("sh")
        .args([Path::new(SCRIPT), to])
        .env("GLIOSEG_ML_ROOT", root)
        .env(
            "PATH",
            format!("{}:{path}", programs.parent().unwrap().display()),
        )
        .output()
        .unwrap()
}

/// Makes model.tar.gz of these files, as SageMaker does of /opt/ml/model.
fn archive(root: &Path, files: &[(&str, &Path)]) {
    let folder = root.join("processing/input/model");
    std::fs::create_dir_all(&folder).unwrap();
    let model = tempfile::tempdir().unwrap();
    for (name, from) in files {
        std::fs::copy(from, model.path().join(name)).unwrap();
    }
    let made = Command::new("tar")
        .arg("-czf")
        .arg(folder.join("model.tar.gz"))
        .arg("-C")
        .arg(model.path())
        .args(files.iter().map(|(name, _)| name))
        .status()
        .unwrap();
    assert!(made.success());
}

fn message(root: &Path) -> String {
    std::fs::read_to_string(root.join("output/message")).unwrap()
}

#[test]
fn a_model_is_published_from_its_archive() {
    let Some(lgg) = glioseg_test_support::lgg() else {
        return;
    };
    let tree = tempfile::tempdir().unwrap();
    let (root, to) = (tree.path().join("ml"), tree.path().join("models"));
    std::fs::create_dir(&to).unwrap();
    // Untrained: nothing serves yet that it has to be better than. The shipped model has no validation patients.
    let split = tree.path().join("split.json");
    let patients = lgg.patients();
    let name = |patient: usize| patients[patient].file_name().unwrap().to_str().unwrap();
    let lists = serde_json::json!({"train": [name(0)], "validation": [name(1)], "test": []});
    std::fs::write(&split, lists.to_string()).unwrap();
    let fitted = Command::new(binaries::path("glioseg-train"))
        .arg("fit")
        .arg(&lgg.folder)
        .arg("--split")
        .arg(&split)
        .arg("--out")
        .arg(tree.path())
        .arg("--cache")
        .arg(tree.path())
        .args(["--epochs", "0", "--network", "lean-tiny-norm"])
        .output()
        .unwrap();
    assert!(fitted.status.success(), "{fitted:?}");
    let model = tree.path().join("model.onnx");
    archive(&root, &[("model.onnx", &model), ("split.json", &split)]);
    std::os::unix::fs::symlink(&lgg.folder, root.join("processing/input/training")).unwrap();
    let output = publish(&root, &to);
    assert!(output.status.success(), "{output:?}");
    let said = message(&root);
    assert!(said.contains("channel fast now serves"), "{said}");
    assert!(to.join("models/fast/current.json").is_file());
    // What the job says at its end is in its log too.
    assert!(String::from_utf8_lossy(&output.stdout).contains(said.trim()));
}

#[test]
fn an_archive_without_a_model_is_said_to_be_one() {
    let tree = tempfile::tempdir().unwrap();
    let (root, to) = (tree.path().join("ml"), tree.path().join("models"));
    std::fs::create_dir(&to).unwrap();
    archive(&root, &[("card.json", &models::shipped())]);
    let output = publish(&root, &to);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = message(&root);
    assert!(
        said.contains("model.tar.gz holds no model.onnx and split.json"),
        "{said}"
    );
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 0);
}

#[test]
fn what_publishing_fails_by_is_the_jobs_message() {
    let tree = tempfile::tempdir().unwrap();
    let (root, to) = (tree.path().join("ml"), tree.path().join("models"));
    std::fs::create_dir(&to).unwrap();
    archive(
        &root,
        &[
            ("model.onnx", Path::new(SCRIPT)),
            ("split.json", Path::new(SCRIPT)),
        ],
    );
    let output = publish(&root, &to);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = message(&root);
    assert!(
        said.contains("error: ") && said.contains("model.onnx"),
        "{said}"
    );
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 0);
}
