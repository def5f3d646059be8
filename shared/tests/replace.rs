//! Many writers of derived objects, in any order and number, come to one result.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/s3_server.rs"]
mod s3_server;

use std::sync::Arc;

use glioseg_shared::cloud::{
    Condition, FolderStorage, Metadata, Object, ObjectKey, Replaced, Sequencer, Stamp, Storage,
    replace_model, replace_older,
};
use glioseg_shared::digest::sha256_hex;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use s3_server::S3Server;
use tempfile::TempDir;

fn key() -> ObjectKey {
    ObjectKey::parse("masks/study/slice.tif").unwrap()
}

fn folder() -> (FolderStorage, TempDir) {
    let root = tempfile::tempdir().unwrap();
    (FolderStorage::open(root.path()).unwrap(), root)
}

/// A stamp of the sequencers, 0 for none.
fn stamp(upload: u32, study: u32) -> Stamp {
    let sequencer = |n: u32| (n > 0).then(|| Sequencer::parse(&format!("{n:x}")).unwrap());
    Stamp {
        input_sha256: sha256_hex(&upload.to_be_bytes()),
        sequencer: sequencer(upload),
        study_sequencer: sequencer(study),
        model_version: None,
    }
}

fn of_model(version: &str, stamp: Stamp) -> Stamp {
    Stamp {
        model_version: Some(version.to_owned()),
        ..stamp
    }
}

async fn read(storage: &impl Storage) -> Object {
    storage.get(&key(), 1 << 20).await.unwrap()
}

#[tokio::test]
async fn only_what_is_older_is_replaced() {
    let (storage, _root) = folder();
    let write = async |stamp: &Stamp, text: &str| {
        replace_older(&storage, &key(), stamp, text.into())
            .await
            .unwrap()
    };
    assert_eq!(write(&stamp(2, 1), "first").await, Replaced::Written);
    assert_eq!(write(&stamp(2, 1), "first").await, Replaced::Unchanged);
    assert_eq!(write(&stamp(1, 1), "old").await, Replaced::Newer);
    assert_eq!(write(&stamp(2, 0), "old").await, Replaced::Newer);
    assert_eq!(write(&stamp(0, 0), "old").await, Replaced::Newer);
    assert_eq!(write(&stamp(3, 0), "torn").await, Replaced::Mixed);
    assert_eq!(write(&stamp(1, 2), "torn").await, Replaced::Mixed);
    assert_eq!(read(&storage).await.bytes, b"first");

    // The same events, made to other bytes: a corrected program.
    assert_eq!(write(&stamp(2, 1), "better").await, Replaced::Written);
    assert_eq!(write(&stamp(2, 2), "study").await, Replaced::Written);
    assert_eq!(write(&stamp(3, 2), "upload").await, Replaced::Written);
    // The same bytes of a newer upload: the stamp moves on.
    assert_eq!(write(&stamp(4, 2), "upload").await, Replaced::Written);
    let object = read(&storage).await;
    assert_eq!(object.bytes, b"upload");
    assert_eq!(Stamp::from_metadata(&object.metadata), stamp(4, 2));
    assert_eq!(object.metadata["content-sha256"], sha256_hex(b"upload"));
}

#[tokio::test]
async fn an_object_that_nobody_stamped_is_the_oldest() {
    let (storage, _root) = folder();
    storage
        .put(
            &key(),
            b"foreign".to_vec(),
            Condition::Always,
            &Metadata::new(),
        )
        .await
        .unwrap();
    for (stamp, text) in [(stamp(0, 0), "unstamped event"), (stamp(1, 0), "event")] {
        let replaced = replace_older(&storage, &key(), &stamp, text.into()).await;
        assert_eq!(replaced.unwrap(), Replaced::Written);
        assert_eq!(read(&storage).await.bytes, text.as_bytes());
    }
}

#[tokio::test]
async fn another_models_output_goes_only_when_it_is_named() {
    let (storage, _root) = folder();
    let (old, new) = (of_model("v1", stamp(1, 0)), of_model("v2", stamp(1, 0)));
    let other = |version: &str| Replaced::OtherModel(version.to_owned());
    let older = async |stamp, text: &str| {
        replace_older(&storage, &key(), stamp, text.into())
            .await
            .unwrap()
    };
    let model = async |stamp, text: &str, replaced| {
        replace_model(&storage, &key(), stamp, text.into(), replaced)
            .await
            .unwrap()
    };
    assert_eq!(older(&old, "by v1").await, Replaced::Written);
    assert_eq!(older(&new, "by v2").await, other("v1"));
    assert_eq!(read(&storage).await.bytes, b"by v1");
    assert_eq!(model(&new, "by v2", "v0").await, other("v1"));
    assert_eq!(model(&new, "by v2", "v1").await, Replaced::Written);
    // One that had looked before v2 came does not undo it.
    let late = of_model("v1.1", stamp(1, 0));
    assert_eq!(model(&late, "by v1.1", "v1").await, other("v2"));
    assert_eq!(model(&new, "by v2", "v1").await, Replaced::Unchanged);
    // A newer input is nobody's finished work.
    let next = of_model("v1", stamp(2, 0));
    assert_eq!(older(&next, "next by v1").await, Replaced::Written);
}

/// Every stamp of a chain, doubled and shuffled, each written by a task of its own.
async fn the_newest_stays(storage: Arc<impl Storage + 'static>, seed: u64) {
    let chain: Vec<Stamp> = (0..8)
        .flat_map(|n| [stamp(n, n), stamp(n + 1, n)])
        .collect();
    let mut stamps: Vec<Stamp> = chain.iter().chain(&chain).cloned().collect();
    stamps.shuffle(&mut rand_chacha::ChaCha8Rng::seed_from_u64(seed));
    let content = |stamp: &Stamp| format!("{stamp:?}").into_bytes();
    let writers: Vec<_> = stamps
        .into_iter()
        .map(|stamp| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move {
                // What the queue does with a message that failed for the moment.
                loop {
                    let written = replace_older(&*storage, &key(), &stamp, content(&stamp)).await;
                    match written {
                        Ok(replaced) => return replaced,
                        Err(error) => assert!(error.is_retryable(), "{error}"),
                    }
                }
            })
        })
        .collect();
    let newest = stamp(8, 7);
    let mut written = 0;
    for writer in writers {
        match writer.await.unwrap() {
            Replaced::Written => written += 1,
            Replaced::Unchanged | Replaced::Newer => {}
            other => panic!("{other:?} in a chain without forks"),
        }
    }
    assert!((1..=chain.len()).contains(&written), "{written}");
    let object = read(&*storage).await;
    assert_eq!(object.bytes, content(&newest));
    assert_eq!(Stamp::from_metadata(&object.metadata), newest);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_order_converges_in_a_folder() {
    for seed in 0..10 {
        let (storage, _root) = folder();
        the_newest_stays(Arc::new(storage), seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_order_converges_in_a_bucket() {
    for seed in 0..3 {
        let server = S3Server::start().await;
        the_newest_stays(Arc::new(server.storage(None)), seed).await;
    }
}
