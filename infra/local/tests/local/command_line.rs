//! The command line as a user meets it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use glioseg_shared::imaging::{encode_mask_tiff, encode_slice_tiff, phantom};

fn glioseg() -> Command {
    Command::new(env!("CARGO_BIN_EXE_glioseg"))
}

fn run(command: &mut Command) -> (Output, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output, out, err)
}

fn study(folder: &Path) {
    let config = phantom::PhantomConfig {
        slices: 3,
        size: 96,
        lesions: 1,
    };
    let drawn = phantom::Phantom::generate(&config, 1).unwrap();
    fs::create_dir_all(folder).unwrap();
    for (number, (slice, mask)) in drawn.slices.iter().zip(&drawn.masks).enumerate() {
        fs::write(
            folder.join(format!("p_{number}.tif")),
            encode_slice_tiff(slice),
        )
        .unwrap();
        fs::write(
            folder.join(format!("p_{number}_mask.tif")),
            encode_mask_tiff(mask),
        )
        .unwrap();
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_version_names_the_licences_of_code_and_model() {
    let (output, out, _) = run(glioseg().arg("--version"));
    assert!(output.status.success());
    for part in [
        "MIT OR Apache-2.0",
        "CC BY-NC-SA 4.0",
        "not a medical device",
    ] {
        assert!(out.contains(part), "{out}");
    }
    let (_, out, _) = run(glioseg().args(["segment", "--help"]));
    assert!(
        out.contains("Examples:") && out.contains("Exit status"),
        "{out}"
    );
}

#[test]
fn bad_files_are_named_and_the_others_are_segmented() {
    let data = tempfile::tempdir().unwrap();
    study(&data.path().join("s"));
    let bad = [
        ("s/text.tif", "no image".as_bytes()),
        ("s/empty.png", b""),
        ("z.zip", b"PK\x05\x06"),
    ];
    for (name, bytes) in bad {
        fs::write(data.path().join(name), bytes).unwrap();
    }
    let out = data.path().join("out");
    for turn in 0..2 {
        let mut command = glioseg();
        command
            .arg("segment")
            .arg(data.path())
            .arg("--out")
            .arg(&out)
            .args(["--truth", "--jobs", "2"]);
        let (output, printed, err) = run(&mut command);
        assert_eq!(output.status.code(), Some(1), "turn {turn}: {err}");
        let errors: Vec<_> = err
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert_eq!(errors.len(), bad.len(), "{err}");
        for (name, _) in bad {
            assert!(
                errors.iter().any(|line| line.contains(name)),
                "{name}: {err}"
            );
        }
        // Its own results of the first turn are no inputs of the second.
        assert_eq!(
            names(&out),
            [
                "masks",
                "overlays",
                "probabilities",
                "reports",
                "scores",
                "slices.csv"
            ]
        );
        for kind in ["masks", "overlays", "probabilities", "reports", "scores"] {
            assert_eq!(names(&out.join(kind)), ["s"]);
            assert_eq!(names(&out.join(kind).join("s")).len(), 3, "{kind}");
        }
        let csv = fs::read_to_string(out.join("slices.csv")).unwrap();
        assert_eq!(csv.lines().count(), 4, "{csv}");
        assert!(
            csv.lines()
                .nth(1)
                .unwrap()
                .starts_with("s,p_0,p_0.tif,1,96,96,"),
            "{csv}"
        );
        let mut lines = csv.lines();
        let column = lines
            .next()
            .unwrap()
            .split(',')
            .position(|name| name == "expected_dice")
            .unwrap();
        let expected =
            lines.map(|line| line.split(',').nth(column).unwrap().parse::<f64>().unwrap());
        let lowest = expected.fold(1.0, f64::min);
        let told = printed
            .lines()
            .find_map(|line| line.strip_prefix("look first (expected Dice): s/p_"))
            .unwrap();
        assert!(told.ends_with(&format!(" {lowest:.3}")), "{told}: {csv}");
    }
}

#[test]
fn nothing_to_do_and_wrong_arguments_have_their_exit_codes() {
    let empty = tempfile::tempdir().unwrap();
    let mut command = glioseg();
    command
        .arg("segment")
        .arg(empty.path())
        .arg("--out")
        .arg(empty.path().join("out"));
    let (output, _, err) = run(&mut command);
    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("there are no slices here"), "{err}");
    let (output, _, _) = run(glioseg().arg("segment"));
    assert_eq!(output.status.code(), Some(2));
    let (output, _, err) = run(glioseg().args(["demo", "--data"]).arg(empty.path()));
    assert_eq!(output.status.code(), Some(1));
    assert!(err.contains("no slices here"), "{err}");
}

#[test]
fn the_demonstration_prints_scores_and_writes_its_page() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = glioseg();
    command
        .arg("demo")
        .args(["--slices", "6"])
        .arg("--out")
        .arg(folder.path().join("page"));
    let (output, out, err) = run(&mut command);
    assert!(output.status.success(), "{err}");
    assert!(
        out.contains("volume Dice") && out.contains("report: "),
        "{out}"
    );
    assert!(out.contains("look first (expected Dice): "), "{out}");
    let page = fs::read_to_string(folder.path().join("page/report.html")).unwrap();
    assert!(page.contains("data:image/png;base64,"));
}

#[cfg(unix)]
#[test]
fn serving_ends_well_when_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = glioseg()
        .args(["serve", "--s3-port", "0", "--api-port", "0", "--data-dir"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let greeting: Vec<_> = lines
        .by_ref()
        .take_while(|line| line != "Ctrl-C stops.")
        .collect();
    assert!(
        greeting
            .iter()
            .any(|line| line.contains("AWS_ENDPOINT_URL=http://127.0.0.1:"))
    );
    assert!(greeting.iter().any(|line| line.contains("curl ")));
    let told = Command::new("kill")
        .arg(child.id().to_string())
        .status()
        .unwrap();
    assert!(told.success());
    assert!(lines.any(|line| line.starts_with("stopped; ")));
    assert!(child.wait().unwrap().success());
}
