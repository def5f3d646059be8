//! What every store promises: tests to be run over each.
//!
//! [`keeps_every_promise!`](crate::keeps_every_promise) makes them tests of a store.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use glioseg_shared::cloud::{Condition, Metadata, ObjectKey, Storage, StorageError};

/// Most bytes that are read of an object.
pub const MAX: u64 = 1 << 20;

/// A key that is one.
pub fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

/// Writes text, whatever is there.
pub async fn write(storage: &impl Storage, name: &str, text: &str) {
    storage
        .put(&key(name), text.into(), Condition::Always, &Metadata::new())
        .await
        .unwrap();
}

/// Reads an object that is text.
pub async fn text(storage: &impl Storage, name: &str) -> String {
    String::from_utf8(storage.get(&key(name), MAX).await.unwrap().bytes).unwrap()
}

/// Content, state and metadata survive, whatever the key.
pub async fn an_object_comes_back_as_it_was_written(storage: &impl Storage) {
    let metadata = Metadata::from([
        ("input-sha256".to_owned(), "00ff".to_owned()),
        ("model-version".to_owned(), "1.0 (lean)".to_owned()),
    ]);
    for name in ["a", "study 1/slice_2+3 50%.tif", "ünï/…/名.tif"] {
        for bytes in [vec![], vec![0, 255, 10, 13], vec![7; 300_000]] {
            let etag = storage
                .put(&key(name), bytes.clone(), Condition::Always, &metadata)
                .await
                .unwrap();
            let object = storage.get(&key(name), MAX).await.unwrap();
            assert_eq!(object.bytes, bytes);
            assert_eq!(object.etag, etag);
            assert_eq!(object.metadata, metadata);
            let head = storage.head(&key(name)).await.unwrap();
            assert_eq!(
                (head.size, head.etag, head.metadata),
                (bytes.len() as u64, etag, metadata.clone())
            );
        }
        write(storage, name, "without metadata").await;
        assert_eq!(
            storage.head(&key(name)).await.unwrap().metadata,
            Metadata::new()
        );
        storage.delete(&key(name)).await.unwrap();
        assert!(
            storage
                .get(&key(name), MAX)
                .await
                .unwrap_err()
                .is_not_found()
        );
        assert!(storage.head(&key(name)).await.unwrap_err().is_not_found());
        storage.delete(&key(name)).await.unwrap();
    }
}

/// A reader gets no more than it asks for.
pub async fn a_read_is_bounded(storage: &impl Storage) {
    write(storage, "k", "12345").await;
    assert_eq!(storage.get(&key("k"), 5).await.unwrap().bytes, b"12345");
    let error = storage.get(&key("k"), 4).await.unwrap_err();
    assert!(
        matches!(error, StorageError::TooLarge { allowed: 4, .. }),
        "{error}"
    );
}

/// A known state is not transferred again.
pub async fn only_a_changed_object_is_read_again(storage: &impl Storage) {
    write(storage, "k", "one").await;
    let one = storage.get(&key("k"), MAX).await.unwrap();
    let unchanged = storage.get_if_changed(&key("k"), &one.etag, MAX).await;
    assert_eq!(unchanged.unwrap(), None);
    write(storage, "k", "two").await;
    let two = storage.get_if_changed(&key("k"), &one.etag, MAX).await;
    assert_eq!(two.unwrap().unwrap().bytes, b"two");
    let absent = storage.get_if_changed(&key("absent"), &one.etag, MAX).await;
    assert!(absent.unwrap_err().is_not_found());
}

/// A write happens under its condition only.
pub async fn a_condition_that_does_not_hold_changes_nothing(storage: &impl Storage) {
    let none = Metadata::new();
    let put = async |text: &str, condition| {
        storage
            .put(&key("a/k"), text.into(), condition, &none)
            .await
    };
    let first = put("first", Condition::IfAbsent).await.unwrap();
    let error = put("late", Condition::IfAbsent).await.unwrap_err();
    assert!(error.is_precondition_failed(), "{error}");
    assert_eq!(text(storage, "a/k").await, "first");

    let second = put("second", Condition::IfMatch(first.clone()))
        .await
        .unwrap();
    let error = put("stale", Condition::IfMatch(first)).await.unwrap_err();
    assert!(error.is_precondition_failed(), "{error}");
    assert_eq!(text(storage, "a/k").await, "second");

    storage.delete(&key("a/k")).await.unwrap();
    let error = put("gone", Condition::IfMatch(second)).await.unwrap_err();
    assert!(error.is_precondition_failed(), "{error}");
    assert!(storage.head(&key("a/k")).await.unwrap_err().is_not_found());
    put("again", Condition::IfAbsent).await.unwrap();
}

/// A listing is in the byte order of the keys, page by page.
pub async fn listing_pages_through_the_keys_of_a_prefix_in_order(storage: &impl Storage) {
    let names = ["a/1", "a/2", "a/b/c", "a/ü", "a-1", "ab", "b/a/1"];
    for name in names {
        write(storage, name, name).await;
    }
    let list = async |prefix: &str, limit: usize| {
        let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = storage.list(prefix, after.as_ref(), limit).await.unwrap();
            assert!(page.entries.len() <= limit);
            pages += 1;
            for entry in page.entries {
                assert_eq!(entry.size, entry.key.as_str().len() as u64);
                found.push(entry.key.as_str().to_owned());
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return (found, pages),
            }
        }
    };
    let mut sorted = names;
    sorted.sort_unstable();
    let found = |names: &[&str], pages| (names.iter().map(|&n| n.to_owned()).collect(), pages);
    assert_eq!(list("", 1000).await, found(&sorted, 1));
    assert_eq!(list("", 3).await, found(&sorted, 3));
    assert_eq!(
        list("a/", 2).await,
        found(&["a/1", "a/2", "a/b/c", "a/ü"], 2)
    );
    assert_eq!(list("a", 100).await, found(&sorted[..6], 1));
    assert_eq!(list("a/b", 1).await, found(&["a/b/c"], 1));
    assert_eq!(list("nothing", 1).await, found(&[], 1));
    assert_eq!(list("../", 1).await, found(&[], 1));
}

/// [`Condition::IfAbsent`] holds against others at the same moment.
pub async fn of_many_who_create_one_wins(storage: Arc<impl Storage + 'static>) {
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move {
                let bytes = vec![writer; 100_000];
                let written = storage
                    .put(&key("k"), bytes, Condition::IfAbsent, &Metadata::new())
                    .await;
                match written {
                    Ok(_) => Some(writer),
                    Err(error) if error.is_precondition_failed() => None,
                    Err(error) => panic!("{error}"),
                }
            })
        })
        .collect();
    let mut winners = Vec::new();
    for writer in writers {
        winners.extend(writer.await.unwrap());
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    let object = storage.get(&key("k"), MAX).await.unwrap();
    assert_eq!(object.bytes, vec![winners[0]; 100_000]);
}

/// [`Condition::IfMatch`] holds against others at the same moment.
pub async fn no_update_is_lost_between_many_who_compare_and_swap(
    storage: Arc<impl Storage + 'static>,
) {
    const WRITERS: usize = 4;
    const EACH: usize = 5;
    write(&*storage, "count", "0").await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let storage = Arc::clone(&storage);
            tokio::spawn(async move {
                let mut done = 0;
                while done < EACH {
                    let seen = storage.get(&key("count"), MAX).await.unwrap();
                    let count: usize = String::from_utf8(seen.bytes).unwrap().parse().unwrap();
                    let next = (count + 1).to_string().into_bytes();
                    let condition = Condition::IfMatch(seen.etag);
                    match storage
                        .put(&key("count"), next, condition, &Metadata::new())
                        .await
                    {
                        Ok(_) => done += 1,
                        Err(error) if error.is_precondition_failed() => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(text(&*storage, "count").await, (WRITERS * EACH).to_string());
}

/// Makes a test of each promise, for a store that `$open` gives together with what must outlive it.
#[macro_export]
macro_rules! keeps_every_promise {
    ($store:ident, $open:expr) => {
        mod $store {
            use super::*;

            $crate::keeps_every_promise!(@alone $open;
                an_object_comes_back_as_it_was_written,
                a_read_is_bounded,
                only_a_changed_object_is_read_again,
                a_condition_that_does_not_hold_changes_nothing,
                listing_pages_through_the_keys_of_a_prefix_in_order
            );
            $crate::keeps_every_promise!(@among_others $open;
                of_many_who_create_one_wins,
                no_update_is_lost_between_many_who_compare_and_swap
            );
        }
    };
    (@alone $open:expr; $($promise:ident),+) => {$(
        #[tokio::test]
        async fn $promise() {
            let (storage, _keep) = $open.await;
            $crate::storage_contract::$promise(&storage).await;
        }
    )+};
    (@among_others $open:expr; $($promise:ident),+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $promise() {
            let (storage, _keep) = $open.await;
            $crate::storage_contract::$promise(::std::sync::Arc::new(storage)).await;
        }
    )+};
}
