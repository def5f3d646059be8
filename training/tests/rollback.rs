//! Going back to a model that was published before.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "support/threshold_model.rs"]
mod threshold_model;

use std::process::{Command, Output};

use glioseg_shared::cloud::keys::{self, Channel, ModelVersion};
use glioseg_shared::cloud::{Condition, FolderStorage, Metadata, ObjectKey, Storage, StorageError};
use glioseg_shared::registry::{Pointer, RegistryError, read_pointer};
use glioseg_test_support::hooked::{Call, Hooked, denied, overtaken};
use glioseg_training::publish::{PublishOptions, RollBackError, publish, roll_back};
use tempfile::TempDir;
use threshold_model::threshold_model;

fn fast() -> Channel {
    Channel::parse("fast").unwrap()
}

fn version(name: &str) -> ModelVersion {
    ModelVersion::parse(name).unwrap()
}

/// A store whose channel served these versions one after the other.
async fn served(versions: &[&str]) -> (TempDir, FolderStorage) {
    let folder = tempfile::tempdir().unwrap();
    let storage = FolderStorage::open(folder.path()).unwrap();
    for version in versions {
        serve(&storage, version).await;
    }
    (folder, storage)
}

async fn serve(storage: &impl Storage, version: &str) {
    let channel = fast();
    let options = PublishOptions {
        channel: &channel,
        force: true,
        judge: None,
        margin: 0.0,
    };
    let onnx = threshold_model(version, 0.5, 16, Vec::new());
    publish(&onnx, storage, options).await.unwrap();
}

async fn pointer(storage: &impl Storage) -> Pointer {
    let serving = read_pointer(storage, &fast()).await.unwrap();
    serving.unwrap().pointer
}

/// What serves, and what served before.
async fn versions(storage: &impl Storage) -> (String, Option<String>) {
    let pointer = pointer(storage).await;
    let before = pointer.previous.map(|model| model.version);
    (pointer.model.version, before)
}

fn now_and_before(now: &str, before: &str) -> (String, Option<String>) {
    (now.to_owned(), Some(before.to_owned()))
}

/// A roll-back that must fail and leave the pointer as it was.
async fn refused(storage: &FolderStorage, to: Option<&str>) -> RollBackError {
    let before = pointer(storage).await;
    let to = to.map(version);
    let error = roll_back(storage, &fast(), to.as_ref()).await.unwrap_err();
    assert_eq!(pointer(storage).await, before);
    error
}

#[tokio::test]
async fn the_model_before_serves_again_and_a_second_roll_back_takes_it_back() {
    let (_folder, storage) = served(&["v1", "v2"]).await;
    let new = pointer(&storage).await;
    let done = roll_back(&storage, &fast(), None).await.unwrap();
    assert_eq!(
        done.to_string(),
        "channel fast serves v1 again, no longer v2"
    );
    assert_eq!(done.pointer, pointer(&storage).await);
    assert_eq!(Some(&done.pointer.model), new.previous.as_ref());
    assert_eq!(done.pointer.previous.as_ref(), Some(&new.model));
    assert!(done.pointer.notice.contains("research use only"));

    roll_back(&storage, &fast(), None).await.unwrap();
    assert_eq!(versions(&storage).await, now_and_before("v2", "v1"));
}

#[tokio::test]
async fn any_published_version_can_serve_again() {
    let (_folder, storage) = served(&["v1", "v2", "v3"]).await;
    let to = version("v1");
    roll_back(&storage, &fast(), Some(&to)).await.unwrap();
    assert_eq!(versions(&storage).await, now_and_before("v1", "v3"));
    let again = roll_back(&storage, &fast(), Some(&to)).await.unwrap();
    assert!(again.already);
    assert_eq!(again.to_string(), "channel fast serves v1 already");
    assert_eq!(versions(&storage).await, now_and_before("v1", "v3"));

    let error = refused(&storage, Some("v4")).await;
    assert!(matches!(&error, RollBackError::NotPublished { version, .. } if version == "v4"));
    assert!(
        error.to_string().contains("models/v4/model.json"),
        "{error}"
    );
}

#[tokio::test]
async fn without_a_model_before_nothing_moves() {
    let (_folder, storage) = served(&[]).await;
    let error = roll_back(&storage, &fast(), None).await.unwrap_err();
    assert!(error.to_string().contains("fast serves nothing"), "{error}");
    serve(&storage, "v1").await;
    let error = refused(&storage, None).await;
    assert!(matches!(&error, RollBackError::NoPrevious { version, .. } if version == "v1"));
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_model_that_is_gone_or_another_is_not_gone_back_to() {
    let (_folder, storage) = served(&["v1", "v2"]).await;
    let key = keys::model_onnx(&version("v1"));
    overwrite(&storage, &key, threshold_model("v1", 0.7, 16, Vec::new())).await;
    for to in [None, Some("v1")] {
        let error = refused(&storage, to).await;
        let is_bad = matches!(
            &error,
            RollBackError::Registry(RegistryError::BadModel { .. })
        );
        assert!(is_bad && error.to_string().contains("SHA-256"), "{error}");
    }
    storage.delete(&key).await.unwrap();
    for to in [None, Some("v1")] {
        let error = refused(&storage, to).await.to_string();
        assert!(error.contains("models/v1/model.onnx"), "{error}");
    }
}

#[tokio::test]
async fn a_card_of_another_version_or_none_at_all_names_no_file() {
    let (_folder, storage) = served(&["v1", "v2", "v3"]).await;
    let key = keys::model_card(&version("v1"));
    let other = storage
        .get(&keys::model_card(&version("v2")), 1 << 20)
        .await;
    overwrite(&storage, &key, other.unwrap().bytes).await;
    let error = refused(&storage, Some("v1")).await.to_string();
    assert!(error.contains("it is the card of v2"), "{error}");
    overwrite(&storage, &key, b"{".to_vec()).await;
    let error = refused(&storage, Some("v1")).await.to_string();
    assert!(error.contains("models/v1/model.json"), "{error}");
}

#[tokio::test]
async fn whoever_moved_the_pointer_meanwhile_is_not_overruled() {
    let (_folder, storage) = served(&["v1", "v2"]).await;
    let hooked = Hooked::new(storage.clone());
    let pointer_key = keys::channel_pointer(&fast());
    let at_swap = move |call: &Call| call.is("put", &pointer_key);
    let theirs = storage.clone();
    hooked.hook.before(at_swap, async move {
        serve(&theirs, "v3").await;
        Ok(())
    });
    let error = roll_back(&hooked, &fast(), None).await.unwrap_err();
    assert!(hooked.hook.ran());
    assert!(
        matches!(&error, RollBackError::Moved { serving, .. } if serving == "v3"),
        "{error}"
    );
    assert!(!error.is_retryable());
    assert_eq!(versions(&storage).await, now_and_before("v3", "v2"));
}

#[tokio::test]
async fn a_lost_answer_is_no_lost_race() {
    let (_folder, storage) = served(&["v1", "v2"]).await;
    let hooked = Hooked::new(storage.clone());
    let pointer_key = keys::channel_pointer(&fast());
    let answer = overtaken(pointer_key.as_str());
    let at_swap = move |call: &Call| call.is("put", &pointer_key);
    hooked.hook.lose_answer(at_swap, answer);
    roll_back(&hooked, &fast(), None).await.unwrap();
    assert!(hooked.hook.ran());
    assert_eq!(versions(&storage).await, now_and_before("v1", "v2"));
}

#[tokio::test]
async fn what_the_store_meets_is_told_and_moves_nothing() {
    let (_folder, storage) = served(&["v1", "v2"]).await;
    let hooked = Hooked::new(storage.clone());
    hooked
        .hook
        .fail(|call| (call.operation == "put").then(|| denied(&call.key)));
    let error = roll_back(&hooked, &fast(), None).await.unwrap_err();
    assert!(matches!(
        &error,
        RollBackError::Registry(RegistryError::Storage(StorageError::Denied { .. }))
    ));
    // S3 asks to try again where two writes meet; here they always do.
    hooked.hook.fail(|call| {
        (call.operation == "put").then(|| StorageError::Conflict {
            key: call.key.clone(),
        })
    });
    let error = roll_back(&hooked, &fast(), None).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(versions(&storage).await, now_and_before("v2", "v1"));
}

#[tokio::test]
async fn the_command_says_what_serves() {
    let (folder, storage) = served(&["v1", "v2"]).await;
    let run = |arguments: &[&str]| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_glioseg-train"));
        command.arg("rollback").arg(folder.path()).args(arguments);
        command.output().unwrap()
    };
    let done = run(&[]);
    assert!(done.status.success(), "{done:?}");
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(
        said.contains("channel fast serves v1 again, no longer v2"),
        "{said}"
    );
    assert!(said.contains("model v1: research use only"), "{said}");
    let done = run(&["--to", "v2"]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(versions(&storage).await, now_and_before("v2", "v1"));

    for (arguments, reason) in [
        (&["--to", "v3"][..], "no model v3 was published"),
        (&["--channel", "slow"], "channel slow serves nothing"),
        (&["--to", "../v"], "../v"),
    ] {
        let done = run(arguments);
        assert!(!done.status.success());
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(said.contains(reason), "{said}");
    }
    assert_eq!(versions(&storage).await, now_and_before("v2", "v1"));
}

async fn overwrite(storage: &impl Storage, key: &ObjectKey, bytes: Vec<u8>) {
    let none = Metadata::new();
    let written = storage.put(key, bytes, Condition::Always, &none).await;
    written.unwrap();
}
