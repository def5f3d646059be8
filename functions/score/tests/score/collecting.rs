//! Slices with truth that are kept for training.

use std::sync::Arc;

use futures_util::future::join_all;
use glioseg_score::Score;
use glioseg_score::bus::Recorder;
use glioseg_score::memory::Memory;
use glioseg_shared::cloud::events::ObjectCreated;
use glioseg_shared::cloud::keys::PatientId;
use glioseg_shared::cloud::{Condition, FolderStorage, HttpRequest, Metadata, Storage};
use glioseg_shared::imaging::{Intensity, Mask, Slice, encode_mask_tiff, encode_slice_tiff};
use glioseg_shared::study::Document;
use glioseg_shared::study::labelled::{Manifest, Standing, Subset};
use glioseg_test_support::hooked::{Hooked, denied};
use serde_json::{Value, json};

use crate::races::meddle;
use crate::stage::{Found, Stage, body, drawn, object};

const IMAGE: &str = "labelled/p/x.tif";
const MASK: &str = "labelled/p/x_mask.tif";
const MANIFEST: &str = "labelled/manifest.json";

/// What is kept of a slice for some time, its truth excepted.
const ALL_BUT_TRUTH: [&str; 3] = ["prepared/p/x.png", "masks/p/x.tif", "reports/p/x.json"];

pub(crate) fn truth() -> Mask {
    drawn(&["##", "#."])
}

/// A slice of the size of [`truth`], of one grey.
pub(crate) fn slice(grey: u8) -> Slice {
    Slice::new(2, 2, vec![grey; 12], Intensity::EightBit).unwrap()
}

pub(crate) fn patient(name: &str) -> PatientId {
    PatientId::parse(name).unwrap()
}

impl Stage {
    /// A slice with everything that it takes to be collected; of that nobody is told.
    pub(crate) async fn labelled(&self, study: &str, name: &str) {
        self.prepared(study, name, &slice(7), "01").await;
        self.found(study, name, &Found::new(&truth())).await;
        self.truth(study, name, &truth()).await;
    }

    /// A stack that has collected one slice, `x` of `p`.
    async fn with_pair_kept() -> Self {
        let stage = Self::collecting();
        stage.labelled("p", "x").await;
        stage.tells(&["masks/p/x.tif"]).await;
        stage
    }

    /// Removes results of the slice as the bucket does once they are old.
    async fn expire(&self, keys: &[&str]) {
        for key in keys {
            self.score.results.delete(&object(key)).await.unwrap();
        }
    }

    pub(crate) async fn manifest(&self) -> Manifest {
        let (bytes, metadata) = self.stored(MANIFEST).await.unwrap();
        assert_eq!(metadata, Metadata::new());
        Manifest::from_json(&bytes).unwrap()
    }

    /// The keys of the labelled data set.
    pub(crate) fn collected(&self) -> Vec<String> {
        let keys = self.everything().into_keys();
        // Beside each object its metadata lie in a file of the folder's own.
        keys.filter_map(|file| file.strip_prefix("results/").map(str::to_owned))
            .filter(|key| key.starts_with("labelled/"))
            .collect()
    }

    async fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        self.stored(key).await.map(|(bytes, _)| bytes)
    }
}

fn event(key: &str) -> ObjectCreated {
    ObjectCreated {
        bucket: "results-1".to_owned(),
        key: key.to_owned(),
        size: None,
        etag: None,
        version_id: None,
        sequencer: None,
    }
}

#[tokio::test]
async fn a_slice_lies_beside_its_truth_whichever_came_last() {
    let mut stages = Vec::new();
    for truth_first in [true, false] {
        let stage = Stage::collecting();
        for is_truth in [truth_first, !truth_first] {
            assert_eq!(stage.stored(IMAGE).await, None);
            if is_truth {
                stage.truth("p", "x", &truth()).await;
                stage.tells(&["truth/p/x.tif"]).await;
            } else {
                stage.prepared("p", "x", &slice(7), "01").await;
                stage.tells(&["truth/p/x.tif"]).await;
                stage.found("p", "x", &Found::new(&truth())).await;
                stage.tells(&["masks/p/x.tif"]).await;
            }
        }
        assert_eq!(stage.bytes(IMAGE).await, Some(encode_slice_tiff(&slice(7))));
        assert_eq!(stage.bytes(MASK).await, Some(encode_mask_tiff(&truth())));
        let subset = Subset::of(&patient("p"));
        assert_eq!(
            stage.manifest().await.standing(&patient("p")),
            Standing::Enrolled(subset)
        );
        let once = stage.everything();
        stage.tells(&["truth/p/x.tif", "masks/p/x.tif"]).await;
        assert_eq!(stage.everything(), once, "events that come again");
        stages.push(once);
    }
    assert_eq!(stages[0], stages[1]);
}

#[tokio::test]
async fn nothing_is_collected_where_nobody_wishes_it() {
    let stage = Stage::new();
    stage.labelled("p", "x").await;
    stage.tells(&["truth/p/x.tif", "masks/p/x.tif"]).await;
    assert!(stage.stored_score("p", "x").await.is_some());
    assert_eq!(stage.collected(), Vec::<String>::new());
    let (_, status) = stage.get("/studies/p").await;
    assert_eq!(status["warnings"], json!([]));
}

#[tokio::test]
async fn what_is_corrected_is_corrected_for_training_too() {
    let stage = Stage::with_pair_kept().await;
    let corrected = drawn(&["..", ".#"]);
    stage.truth("p", "x", &corrected).await;
    stage.tells(&["truth/p/x.tif"]).await;
    assert_eq!(stage.bytes(MASK).await, Some(encode_mask_tiff(&corrected)));
    stage.prepared("p", "x", &slice(8), "02").await;
    stage.tells(&["masks/p/x.tif"]).await;
    assert_eq!(stage.bytes(IMAGE).await, Some(encode_slice_tiff(&slice(8))));
    let (_, metadata) = stage.stored(IMAGE).await.unwrap();
    assert_eq!(metadata["sequencer"], "2", "the stamp of the upload");
}

#[tokio::test]
async fn a_truth_of_another_size_takes_the_pair_away() {
    let stage = Stage::with_pair_kept().await;
    stage.truth("p", "x", &drawn(&["###", "..."])).await;
    stage.tells(&["truth/p/x.tif"]).await;
    assert_eq!(
        (stage.stored(IMAGE).await, stage.stored(MASK).await),
        (None, None)
    );
    stage.truth("p", "x", &truth()).await;
    stage.tells(&["truth/p/x.tif"]).await;
    assert!(stage.stored(IMAGE).await.is_some() && stage.stored(MASK).await.is_some());
}

#[tokio::test]
async fn an_image_outlives_what_it_was_made_from() {
    let stage = Stage::with_pair_kept().await;
    stage.expire(&["prepared/p/x.png"]).await;
    let corrected = drawn(&["..", "##"]);
    stage.truth("p", "x", &corrected).await;
    stage.tells(&["truth/p/x.tif"]).await;
    assert_eq!(stage.bytes(IMAGE).await, Some(encode_slice_tiff(&slice(7))));
    assert_eq!(stage.bytes(MASK).await, Some(encode_mask_tiff(&corrected)));
}

#[tokio::test]
async fn a_pair_outlives_the_truth_it_was_made_from() {
    let stage = Stage::with_pair_kept().await;
    stage.expire(&["truth/p/x.tif"]).await;
    let found_anew = drawn(&["..", ".#"]);
    let found = Found {
        model: "model-b",
        ..Found::new(&found_anew)
    };
    stage.found("p", "x", &found).await;
    stage.tells(&["masks/p/x.tif"]).await;
    assert_eq!(stage.bytes(IMAGE).await, Some(encode_slice_tiff(&slice(7))));
    assert_eq!(stage.bytes(MASK).await, Some(encode_mask_tiff(&truth())));
}

#[tokio::test]
async fn a_truth_is_corrected_whose_mask_has_expired() {
    let stage = Stage::with_pair_kept().await;
    stage.expire(&ALL_BUT_TRUTH).await;
    let corrected = drawn(&["..", "##"]);
    stage.truth("p", "x", &corrected).await;
    stage.tells(&["truth/p/x.tif"]).await;
    assert_eq!(stage.bytes(IMAGE).await, Some(encode_slice_tiff(&slice(7))));
    assert_eq!(stage.bytes(MASK).await, Some(encode_mask_tiff(&corrected)));
}

#[tokio::test]
async fn beside_a_kept_image_no_truth_of_another_size_is_written() {
    // With a mask of the image's size the two cannot be compared; with one of the truth's they can; with none nobody
    // tries.
    let other = drawn(&["###", "..."]);
    for mask in [Some(truth()), Some(other.clone()), None] {
        let stage = Stage::with_pair_kept().await;
        stage.expire(&ALL_BUT_TRUTH).await;
        if let Some(mask) = &mask {
            stage.found("p", "x", &Found::new(mask)).await;
        }
        stage.truth("p", "x", &other).await;
        stage.tells(&["truth/p/x.tif"]).await;
        assert_eq!(stage.collected(), [MANIFEST]);
    }
}

#[tokio::test]
async fn studies_of_a_patient_share_a_folder_and_no_file() {
    let stage = Stage::collecting();
    for study in ["p", "p/a", "p/a/b"] {
        stage.labelled(study, "x").await;
        stage.tells(&[&format!("masks/{study}/x.tif")]).await;
    }
    for name in ["x", "a%2Fx", "a%2Fb%2Fx"] {
        assert!(
            stage
                .stored(&format!("labelled/p/{name}.tif"))
                .await
                .is_some()
        );
        assert!(
            stage
                .stored(&format!("labelled/p/{name}_mask.tif"))
                .await
                .is_some()
        );
    }
    let manifest = stage.manifest().await;
    let split = manifest.split(|_| true);
    assert_eq!([split.train, split.validation, split.test].concat(), ["p"]);
}

#[tokio::test]
async fn a_study_that_cannot_be_collected_says_so_and_is_scored() {
    let stage = Stage::collecting();
    let study = "kaggle_3m/visit";
    stage.labelled(study, "x").await;
    stage.tells(&[&format!("masks/{study}/x.tif")]).await;
    assert!(stage.stored_score(study, "x").await.is_some());
    assert_eq!(stage.collected(), Vec::<String>::new());
    let (_, status) = stage.get(&format!("/studies/{study}")).await;
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("1 slices with truth are not collected for training: kaggle_3m"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn patients_who_come_at_once_are_all_enrolled() {
    const PATIENTS: usize = 32;
    let stage = Arc::new(Stage::collecting());
    let names: Vec<String> = (0..PATIENTS).map(|n| format!("p{n}")).collect();
    for name in &names {
        stage.labelled(name, "x").await;
    }
    let writers: Vec<_> = names
        .iter()
        .map(|name| {
            let (stage, key) = (Arc::clone(&stage), format!("masks/{name}/x.tif"));
            tokio::spawn(async move { stage.tell(&key).await })
        })
        .collect();
    for writer in writers {
        assert_eq!(writer.await.unwrap(), Vec::<String>::new());
    }
    let manifest = stage.manifest().await;
    for name in &names {
        let subset = Subset::of(&patient(name));
        assert_eq!(
            manifest.standing(&patient(name)),
            Standing::Enrolled(subset)
        );
        assert!(
            stage
                .stored(&format!("labelled/{name}/x.tif"))
                .await
                .is_some()
        );
    }
}

/// Collects a slice while somebody else gets in just before its image is written.
async fn collect_meddled(stage: &Stage, change: (&str, Option<Vec<u8>>)) {
    stage.labelled("p", "x").await;
    let score = stage.hooked(Recorder::default());
    meddle(&score, IMAGE, change);
    score.on_object(event("masks/p/x.tif")).await.unwrap();
    assert!(score.results.hook.ran());
}

#[tokio::test]
async fn a_truth_that_changes_meanwhile_is_the_one_that_is_kept() {
    let stage = Stage::collecting();
    let corrected = encode_mask_tiff(&drawn(&["..", ".."]));
    collect_meddled(&stage, ("truth/p/x.tif", Some(corrected.clone()))).await;
    assert_eq!(stage.bytes(MASK).await, Some(corrected));
    assert!(stage.stored(IMAGE).await.is_some());
}

#[tokio::test]
async fn of_a_study_that_is_deleted_meanwhile_nothing_is_kept() {
    let stage = Stage::collecting();
    collect_meddled(&stage, ("truth/p/x.tif", None)).await;
    assert_eq!(stage.collected(), [MANIFEST]);
}

#[tokio::test]
async fn of_a_patient_who_is_withdrawn_meanwhile_nothing_is_kept() {
    let stage = Stage::collecting();
    let mut manifest = Manifest::default();
    manifest.withdraw(&patient("p"));
    collect_meddled(&stage, (MANIFEST, Some(manifest.to_json()))).await;
    assert_eq!(stage.collected(), [MANIFEST]);
    assert_eq!(stage.manifest().await, manifest);
}

#[tokio::test]
async fn who_is_withdrawn_before_being_enrolled_is_not() {
    let stage = Stage::collecting();
    stage.labelled("p", "x").await;
    let mut manifest = Manifest::default();
    manifest.withdraw(&patient("p"));
    let score = stage.hooked(Recorder::default());
    meddle(&score, MANIFEST, (MANIFEST, Some(manifest.to_json())));
    score.on_object(event("masks/p/x.tif")).await.unwrap();
    assert!(score.results.hook.ran());
    assert_eq!(stage.manifest().await, manifest);
    assert_eq!(stage.collected(), [MANIFEST]);
}

#[tokio::test]
async fn whoever_is_killed_between_two_files_is_followed_by_one_who_finishes() {
    let stage = Stage::collecting();
    stage.labelled("p", "x").await;
    let score = stage.hooked(Recorder::default());
    let image = object(IMAGE);
    let hook = &score.results.hook;
    hook.fail(move |call| call.is("put", &image).then(|| denied(&call.key)));
    score.on_object(event("masks/p/x.tif")).await.unwrap_err();
    assert!(
        stage.stored(MASK).await.is_some(),
        "no image without its mask"
    );
    assert_eq!(stage.stored(IMAGE).await, None);
    hook.heal();
    score.on_object(event("masks/p/x.tif")).await.unwrap();
    assert!(stage.stored(IMAGE).await.is_some());
}

/// Has the study deleted just before the mask of its slice is kept, and whoever keeps it dies at the call `fatal`.
async fn die_while_deleted(
    stage: &Stage,
    fatal: (&'static str, &str),
) -> Score<Hooked<FolderStorage>, Recorder> {
    stage.labelled("p", "x").await;
    let score = stage.hooked(Recorder::default());
    let (deleting, hook) = (stage.score.clone(), Arc::clone(&score.results.hook));
    let (operation, key) = (fatal.0, object(fatal.1));
    let action = async move {
        let request = HttpRequest::new("DELETE", "/studies/p");
        let (_, deletion) = body(deleting.on_http(request).await);
        assert_eq!(deletion["complete"], true);
        hook.fail(move |call| call.is(operation, &key).then(|| denied(&call.key)));
        Ok(())
    };
    let mask = object(MASK);
    let hook = &score.results.hook;
    hook.before(move |call| call.is("put", &mask), action);
    score.on_object(event("masks/p/x.tif")).await.unwrap_err();
    hook.heal();
    score
}

#[tokio::test]
async fn whoever_dies_while_a_study_is_deleted_leaves_nothing_of_it_for_good() {
    let between_files = (("put", IMAGE), vec![MANIFEST, MASK]);
    let before_looking_again = (("head", "truth/p/x.tif"), vec![MANIFEST, IMAGE, MASK]);
    for (fatal, left) in [between_files, before_looking_again] {
        let stage = Stage::collecting();
        let score = die_while_deleted(&stage, fatal).await;
        assert_eq!(stage.collected(), left);
        // The queue sends the event again.
        score.on_object(event("masks/p/x.tif")).await.unwrap();
        assert_eq!(stage.collected(), [MANIFEST]);
    }
}

#[tokio::test]
async fn a_mask_without_its_image_goes_at_the_next_event_of_its_slice() {
    let stage = Stage::collecting();
    die_while_deleted(&stage, ("put", IMAGE)).await;
    stage.found("p", "x", &Found::new(&truth())).await;
    stage.tells(&["masks/p/x.tif"]).await;
    assert_eq!(stage.collected(), [MANIFEST]);
}

#[tokio::test]
async fn slices_without_room_beside_each_other_are_collected_one_after_the_other() {
    let mut stage = Stage::collecting();
    // Less than any slice takes.
    stage.score.memory = Memory::of(1);
    let names = ["a", "b", "c", "d"];
    for name in names {
        stage.labelled("p", name).await;
    }
    let score = stage.hooked(Recorder::default());
    let keys = names.map(|name| format!("masks/p/{name}.tif"));
    let handled = join_all(keys.iter().map(|key| score.on_object(event(key)))).await;
    assert!(handled.iter().all(Result::is_ok), "{handled:?}");
    // From the first that is read of a slice to the last that is written of it.
    let mut calls = score.results.hook.calls();
    calls.retain(|call| {
        let is_image = call.starts_with("put labelled/p/") && !call.ends_with("_mask.tif");
        is_image || call.starts_with("get prepared/")
    });
    let (pairs, []) = calls.as_chunks::<2>() else {
        panic!("{calls:?}");
    };
    assert_eq!(pairs.len(), names.len(), "{calls:?}");
    for [read, written] in pairs {
        let name = |call: &str| {
            let file = call.rsplit_once('/').map(|(_, file)| file.to_owned());
            file.and_then(|file| Some(file.split_once('.')?.0.to_owned()))
        };
        assert!(read.starts_with("get "), "{calls:?}");
        assert_eq!(name(read), name(written), "{calls:?}");
    }
}

#[tokio::test]
async fn a_study_is_scored_and_announced_where_nothing_can_be_collected() {
    let stage = Stage::collecting();
    stage.close("p", 1).await;
    stage.labelled("p", "x").await;
    let score = stage.hooked(Recorder::default());
    let hook = &score.results.hook;
    hook.fail(|call| {
        let forbidden = call.operation == "put" && call.key.starts_with("labelled/");
        forbidden.then(|| denied(&call.key))
    });
    let error = score.on_object(event("masks/p/x.tif")).await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert!(error.to_string().contains("labelled/"), "{error}");
    assert!(stage.stored_score("p", "x").await.is_some());
    assert_eq!(score.bus.announcements().len(), 1);
}

#[tokio::test]
async fn the_manifest_is_written_before_what_is_new_and_for_nothing_else() {
    let stage = Stage::collecting();
    stage.labelled("p", "x").await;
    let score = stage.hooked(Recorder::default());
    let changes = async |key: &str| {
        score.results.hook.calls();
        score.on_object(event(key)).await.unwrap();
        let mut changes = score.results.hook.changes();
        changes.retain(|change| change.contains(" labelled/"));
        changes
    };
    let all = [MANIFEST, MASK, IMAGE].map(|key| format!("put {key}"));
    assert_eq!(changes("masks/p/x.tif").await, all);
    assert_eq!(changes("truth/p/x.tif").await, Vec::<String>::new());
    stage.truth("p", "x", &drawn(&["..", ".#"])).await;
    assert_eq!(changes("truth/p/x.tif").await, all[..2]);
    // The same file uploaded again: nothing to learn from it.
    stage.prepared("p", "x", &slice(7), "02").await;
    assert_eq!(changes("masks/p/x.tif").await, all[2..]);
}

#[tokio::test]
async fn a_patient_stays_where_somebody_put_them_before() {
    let stage = Stage::collecting();
    let other = match Subset::of(&patient("p")) {
        Subset::Test => Subset::Train,
        _ => Subset::Test,
    };
    let manifest: Value = json!({
        "schema": "glioseg-labelled-1",
        "patients": { "p": other.to_string() },
        "withdrawn": [],
        "notice": "",
    });
    stage
        .put_result(MANIFEST, manifest.to_string().as_bytes())
        .await;
    stage.labelled("p", "x").await;
    stage.tells(&["masks/p/x.tif"]).await;
    assert!(stage.stored(IMAGE).await.is_some());
    let standing = stage.manifest().await.standing(&patient("p"));
    assert_eq!(standing, Standing::Enrolled(other));
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_is_not_begun_anew() {
    let stage = Stage::collecting();
    stage.put_result(MANIFEST, b"{}").await;
    stage.labelled("p", "x").await;
    assert_eq!(stage.tell("masks/p/x.tif").await, ["m1"]);
    assert_eq!(stage.bytes(MANIFEST).await, Some(b"{}".to_vec()));
    let (code, status) = stage.get("/studies/p").await;
    assert_eq!((code, &status["counts"]["scored"]), (200, &json!(1)));
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains(&format!("is mended: {MANIFEST}")));
    let results = &stage.score.results;
    let manifest = object(MANIFEST);
    let mended = Manifest::default().to_json();
    let none = Metadata::new();
    let put = results.put(&manifest, mended, Condition::Always, &none);
    put.await.unwrap();
    stage.tells(&["masks/p/x.tif"]).await;
    assert!(stage.stored(IMAGE).await.is_some());
}
