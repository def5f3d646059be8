//! The images of the training job are built from what is in the repository; Docker itself is not asked.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const IMAGES: [&str; 2] = ["Dockerfile", "Dockerfile.cpu"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn image(name: &str) -> String {
    read(&format!("infra/sagemaker/{name}"))
}

/// What follows the first place where a text says `before`, up to the end of the line or a quote.
fn value<'a>(text: &'a str, before: &str) -> &'a str {
    let (_, after) = text.split_once(before).expect(before);
    after.split(['\n', '"']).next().unwrap_or(after)
}

/// What the images may be built from: all that .dockerignore takes back from leaving everything out.
fn context() -> BTreeSet<String> {
    let ignored = read(".dockerignore");
    assert!(ignored.lines().any(|line| line == "*"), "{ignored}");
    let taken = ignored.lines().filter_map(|line| line.strip_prefix('!'));
    taken.map(str::to_owned).collect()
}

fn first_part(path: &str) -> String {
    path.split('/').next().unwrap_or(path).to_owned()
}

#[test]
fn all_members_of_the_workspace_are_in_the_context() {
    let manifest = read("Cargo.toml");
    let (_, members) = manifest.split_once("members = [").unwrap();
    let (members, _) = members.split_once(']').unwrap();
    let mut needed: BTreeSet<String> = members
        .split('"')
        .skip(1)
        .step_by(2)
        .map(first_part)
        .collect();
    assert!(needed.contains("training"), "{needed:?}");
    needed.extend(["Cargo.toml", "Cargo.lock"].map(str::to_owned));
    assert_eq!(context(), needed);
}

#[test]
fn what_is_copied_is_there() {
    for name in IMAGES {
        let image = image(name);
        // Neither from another stage nor an option.
        let copied: Vec<_> = image
            .lines()
            .filter(|line| line.starts_with("COPY ") && !line.contains("--from="))
            .filter_map(|line| line.split(' ').skip(1).find(|word| !word.starts_with("--")))
            .collect();
        assert!(copied.len() > 1, "{copied:?}");
        for path in copied.into_iter().filter(|path| *path != ".") {
            assert!(root().join(path).is_file(), "{name}: {path}");
            assert!(context().contains(&first_part(path)), "{name}: {path}");
        }
    }
}

#[test]
fn the_versions_are_those_that_are_tested() {
    let manifest = read("Cargo.toml");
    let rust = value(&manifest, "rust-version = \"");
    for name in IMAGES {
        let image = image(name);
        let version = value(&image, "ARG RUST=");
        assert!(
            version.starts_with(&format!("{rust}.")),
            "{name}: {version}"
        );
    }
    // The interface that is compiled against, that of CI, and the libraries beside it.
    let image = image("Dockerfile");
    let interface = value(&image, "ARG CUDARC_CUDA_VERSION=");
    let tested = read(".ci/run");
    let (tested, _) = value(&tested, "CUDARC_CUDA_VERSION=")
        .split_once(' ')
        .unwrap();
    assert_eq!(interface, tested);
    let mut toolkit = value(&image, "ARG CUDA=").split('.');
    let mut part = || toolkit.next().unwrap().parse::<u32>().unwrap();
    assert_eq!(interface, (part() * 1000 + part() * 10).to_string());
}
