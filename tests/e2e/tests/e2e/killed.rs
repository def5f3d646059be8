//! Processes that are killed between reading and writing: what was begun is begun anew, and everything is done in the
//! end.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use aws_sdk_s3::config::retry::RetryConfig;
use glioseg_local::queue::Invoke;
use glioseg_local::s3::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY};
use glioseg_local::stack::{Stack, StackConfig};
use glioseg_local::wiring::{Bucket, Function};
use glioseg_shared::cloud::{S3Storage, Storage};

use super::binaries;
use super::bucket::{assert_equal, contents};
use super::plant::{PATIENT, Plant, client};
use super::program::Program;
use super::proxy::{Fault, Proxy, Rule};
use super::reference;
use super::studies;
use super::wait::until;

/// The programs of the functions, which reach S3 through a proxy.
fn programs(proxy: &Proxy) -> BTreeMap<Function, Arc<Program>> {
    let mut environment: Vec<(String, String)> = [
        ("AWS_ENDPOINT_URL", proxy.endpoint().as_str()),
        ("AWS_REGION", REGION),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
        ("COLLECT_LABELLED", "true"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let buckets =
        Bucket::ALL.map(|bucket| (bucket.variable().to_owned(), bucket.name().to_owned()));
    environment.extend(buckets);
    Function::ALL
        .into_iter()
        .map(|function| {
            let program = Program::new(function.name(), environment.clone());
            (function, Arc::new(program))
        })
        .collect()
}

async fn plant_of_programs() -> (Plant, BTreeMap<Function, Arc<Program>>) {
    let mut made = BTreeMap::new();
    let plant = Plant::with(PATIENT, |proxy| {
        made = programs(proxy);
        let functions = made.iter().map(|(function, program)| {
            let program: Arc<dyn Invoke> = Arc::clone(program) as _;
            (*function, program)
        });
        functions.collect()
    })
    .await;
    (plant, made)
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_are_killed_between_reading_and_writing_begin_anew() {
    let study = studies::phantom();
    let (mut whole, _programs) = plant_of_programs().await;
    study.upload(&whole.bucket(Bucket::Uploads)).await;
    whole.start();
    whole.idle().await;
    let expected = whole.results().await;
    drop(whole);

    // Of each function: before a write and after it, before the answer is there.
    let moments = [
        ("prepared", 0, "png", Fault::Held, Function::Preprocess),
        (
            "prepared",
            1,
            "png",
            Fault::AnswerHeld,
            Function::Preprocess,
        ),
        ("truth", 2, "tif", Fault::Held, Function::Preprocess),
        ("masks", 0, "tif", Fault::Held, Function::Segment),
        ("masks", 1, "tif", Fault::AnswerHeld, Function::Segment),
        ("reports", 2, "json", Fault::Held, Function::Segment),
        ("reports", 3, "json", Fault::AnswerHeld, Function::Segment),
        ("scores", 0, "json", Fault::Held, Function::Score),
        ("scores", 1, "json", Fault::AnswerHeld, Function::Score),
        ("labelled", 2, "tif", Fault::Held, Function::Score),
        ("labelled", 3, "tif", Fault::AnswerHeld, Function::Score),
    ];
    let (mut plant, programs) = plant_of_programs().await;
    study.upload(&plant.bucket(Bucket::Uploads)).await;
    let mut waiting = BTreeMap::new();
    for (kind, slice, extension, fault, function) in moments {
        let slice = &study.slices[slice];
        let object = format!("results/{kind}/{}/{slice}.{extension}", study.name);
        plant.proxy.add(Rule::once(&["PUT"], &object, fault));
        waiting.insert(format!("PUT {object}"), function);
    }
    plant.start();
    // Kept to the end, so that no connection ends before its process does.
    let mut kept = Vec::new();
    while !waiting.is_empty() {
        let held = plant.proxy.held().await;
        let function = waiting.remove(&held.request).unwrap();
        programs[&function].kill();
        kept.push(held);
    }
    plant.idle().await;
    assert_eq!(plant.dead_letters(), []);
    let killed = plant.reasons();
    let killed = killed
        .iter()
        .filter(|reason| reason.ends_with("was killed"));
    assert!(killed.count() >= moments.len(), "{:?}", plant.reasons());
    for reason in plant.reasons() {
        assert!(!reason.contains("by itself"), "{reason}");
    }
    assert_equal(&plant.results().await, &expected, "killed");
}

/// `glioseg serve`, which is killed when this is dropped.
struct Serving {
    process: Child,
    results: S3Storage,
    uploads: S3Storage,
}

impl Serving {
    fn start(folder: &Path) -> Self {
        let mut process = Command::new(binaries::path("glioseg"))
            .args(["serve", "--s3-port", "0", "--api-port", "0", "--data-dir"])
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let endpoint = lines
            .by_ref()
            .map(Result::unwrap)
            .find_map(|line| {
                let (_, rest) = line.split_once("AWS_ENDPOINT_URL=")?;
                Some(rest.split_whitespace().next()?.to_owned())
            })
            .unwrap();
        // Nobody reads what it says from here on, and it must not wait for that.
        std::thread::spawn(move || lines.for_each(drop));
        let client = client(&endpoint, RetryConfig::standard());
        let bucket = |bucket: Bucket| S3Storage::new(client.clone(), bucket.name(), None);
        Self {
            process,
            results: bucket(Bucket::Results),
            uploads: bucket(Bucket::Uploads),
        }
    }

    /// Returns once as many objects are below a prefix of the results.
    async fn has(&self, prefix: &str, count: usize) {
        until(format!("{count} of {prefix}"), async || {
            let page = self.results.list(prefix, None, 1000).await.unwrap();
            (page.entries.len() >= count).then_some(())
        })
        .await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // SIGKILL.
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_is_killed_again_and_again_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let studies: Vec<_> = [Some(studies::phantom()), studies::patient()]
        .into_iter()
        .flatten()
        .collect();
    let serving = Serving::start(folder.path());
    for study in &studies {
        study.upload(&serving.uploads).await;
    }
    drop(serving);
    for (prefix, count) in [
        ("prepared/", 1),
        ("prepared/", 3),
        ("masks/", 1),
        ("masks/", 2),
        ("scores/", 1),
        ("scores/", 3),
    ] {
        Serving::start(folder.path()).has(prefix, count).await;
    }
    let stack = Stack::start(StackConfig::new(folder.path())).await.unwrap();
    stack.idle().await;
    assert_eq!(stack.dead_letters(), []);
    let expected = reference::outputs(&studies);
    assert_eq!(
        expected
            .keys()
            .filter(|key| key.starts_with("scores/"))
            .count(),
        4 * studies.len()
    );
    let mut found = contents(&stack.bucket(Bucket::Results)).await;
    found.retain(|key, _| !key.starts_with("prepared/") && !key.starts_with("truth/"));
    // What the folder's results lack: the place of the upload among the events of this stack.
    let expected = expected
        .into_iter()
        .map(|(key, bytes)| {
            let metadata = found.get(&key).map(|(metadata, _)| metadata.clone());
            (key, (metadata.unwrap_or_default(), bytes))
        })
        .collect();
    assert_equal(&found, &expected, "killed");
    stack.stop().await;
}
