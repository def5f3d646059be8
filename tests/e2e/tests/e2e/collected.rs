//! What the functions keep of slices with truth: it is what training reads, as it was uploaded.

use std::collections::BTreeMap;
use std::path::Path;

use glioseg_local::stack::{Stack, StackConfig};
use glioseg_local::wiring::Bucket;
use glioseg_shared::imaging::{Limits, decode_masks, decode_slices};
use glioseg_shared::study::Document;
use glioseg_shared::study::labelled::Manifest;
use glioseg_training::data::{CachedPatient, Dataset};

use super::bucket::{Contents, contents, count};
use super::contract::{check_answer, check_document};
use super::requests::{request, send};
use super::studies::{self, Study};

async fn stack(folder: &Path) -> Stack {
    let collect = ("COLLECT_LABELLED".to_owned(), "true".to_owned());
    let config = StackConfig {
        environment: BTreeMap::from([collect]),
        ..StackConfig::new(folder)
    };
    Stack::start(config).await.unwrap()
}

/// Writes what lies under `labelled/` into a folder, as SageMaker does with a channel, or `aws s3 sync`.
fn download(results: &Contents, folder: &Path) {
    for (key, (_, bytes)) in results {
        if let Some(name) = key.strip_prefix("labelled/") {
            let file = folder.join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, bytes).unwrap();
        }
    }
}

/// The content of a study's file.
fn file<'a>(study: &'a Study, name: &str) -> &'a [u8] {
    let mut files = study.files.iter();
    &files.find(|(file, _)| file == name).unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn training_reads_what_was_collected_and_nothing_of_who_was_withdrawn() {
    let folder = tempfile::tempdir().unwrap();
    let stack = stack(folder.path()).await;
    let phantom = studies::phantom();
    let named = |name: &str| Study {
        name: name.to_owned(),
        ..phantom.clone()
    };
    let uploaded = [
        phantom.clone(),
        named("p"),
        named("p/2026 07"),
        named("q/x"),
    ];
    let uploads = stack.bucket(Bucket::Uploads);
    for study in &uploaded {
        study.upload(&uploads).await;
    }
    stack.idle().await;
    let route = "DELETE /patients/{patient}";
    let withdrawal = request("DELETE", "/patients/q", &[], "");
    let answer = send(stack.api_address(), withdrawal).await;
    check_answer(route, &answer, "q");
    assert_eq!(answer.json()["complete"], true);

    let results = contents(&stack.bucket(Bucket::Results)).await;
    for gone in ["masks/q/", "labelled/q/"] {
        assert_eq!(count(&results, gone), 0, "{gone}");
    }
    let (_, manifest) = &results["labelled/manifest.json"];
    let json = serde_json::from_slice(manifest).unwrap();
    check_document("labelled", &json, "labelled/manifest.json");
    let manifest = Manifest::from_json(manifest).unwrap();
    assert_eq!(manifest.withdrawn(), 1);

    let channel = tempfile::tempdir().unwrap();
    download(&results, channel.path());
    let dataset = Dataset::open(channel.path()).unwrap();
    let ids: Vec<_> = dataset.patients().iter().map(|p| p.id.as_str()).collect();
    assert_eq!(ids, ["p", phantom.name.as_str()]);
    assert_eq!(dataset.files(), 3 * phantom.slices.len());
    let split = manifest.split(|patient| dataset.patient(patient).is_some());
    let mut listed = [split.train, split.validation, split.test].concat();
    listed.sort_unstable();
    assert_eq!(listed, ids);

    let limits = Limits::default();
    let studies_of = [
        ("p", &["", "2026 07%2F"][..]),
        (phantom.name.as_str(), &[""][..]),
    ];
    for (patient, prefixes) in studies_of {
        let read = CachedPatient::decode(dataset.patient(patient).unwrap(), &limits).unwrap();
        assert_eq!(read.names.len(), prefixes.len() * phantom.slices.len());
        for prefix in prefixes {
            for slice in &phantom.slices {
                let name = format!("{prefix}{slice}");
                let at = read.names.iter().position(|read| *read == name).unwrap();
                let image = file(&phantom, &format!("{slice}.tif"));
                let mask = file(&phantom, &format!("{slice}_mask.tif"));
                assert_eq!(
                    [read.slices[at].clone()],
                    decode_slices(image, &limits).unwrap()[..]
                );
                assert_eq!(
                    [read.masks[at].clone()],
                    decode_masks(mask, &limits).unwrap()[..]
                );
            }
        }
    }
    stack.stop().await;
}
