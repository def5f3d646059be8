//! Events that come twice, at once, late and in any order leave the same results behind, and so do interruptions.

use std::sync::Arc;

use crate::support::{Stack, pages, phantom, sqs, zip};
use futures_util::future::join_all;
use glioseg_preprocess::Preprocess;
use glioseg_preprocess::event::Outcome;
use glioseg_shared::cloud::events::{ObjectCreated, Retryable};
use glioseg_shared::cloud::{Condition, FolderStorage, Metadata, ObjectKey, Storage, StorageError};
use glioseg_shared::imaging::{encode_mask_tiff, encode_slice_tiff};
use glioseg_test_support::contents::{Contents, assert_equal};
use glioseg_test_support::hooked::{Hook, Hooked, denied, nth, unavailable};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// One upload: key, content, spacing.
type Upload = (&'static str, Vec<u8>, Option<&'static str>);

fn metadata(spacing: Option<&str>) -> Metadata {
    spacing
        .map(|spacing| ("spacing-mm".to_owned(), spacing.to_owned()))
        .into_iter()
        .collect()
}

/// A study with everything in it: slices, truths, a volume, a zip, what cannot be read, and corrections.
fn uploads() -> Vec<Upload> {
    let [phantom, other] = [phantom(4, 11), phantom(4, 12)];
    let slice = |number: usize| encode_slice_tiff(&phantom.slices[number]);
    let truth = |number: usize| encode_mask_tiff(&phantom.masks[number]);
    let corrected = |number: usize| encode_slice_tiff(&other.slices[number]);
    let manifest = |json: &str| json.as_bytes().to_vec();
    vec![
        ("s/p_1.tif", slice(0), None),
        ("s/p_1_mask.tif", truth(0), None),
        ("s/p_2.tif", slice(1), Some("0.3,0.3")),
        ("s/p_2_mask.tif", b"broken".to_vec(), None),
        ("s/study.json", manifest(r#"{"channels": ["FLAIR"]}"#), None),
        ("s/p_3.tif", b"broken".to_vec(), None),
        ("s/volume.tif", pages(&phantom.slices), None),
        (
            "s.zip",
            zip(&[
                ("z_1.tif", &slice(2)),
                ("z_1_mask.tif", &truth(2)),
                ("z_2.tif", &slice(3)),
            ]),
            None,
        ),
        ("s/notes.txt", b"notes".to_vec(), None),
        ("s/p_4.tif", b"never corrected".to_vec(), None),
        // What was wrong, corrected; what was right, changed.
        ("s/p_1.tif", corrected(0), None),
        ("s/p_2_mask.tif", truth(1), None),
        ("s/p_3.tif", corrected(1), Some("2,2,2")),
        (
            "s/study.json",
            manifest(
                r#"{"slices": 9, "spacing_mm": [0.5, 0.5, 4], "channels": ["post-contrast", "FLAIR", "pre-contrast"]}"#,
            ),
            None,
        ),
        ("s/volume.tif", pages(&other.slices), None),
    ]
}

/// What is left behind where every upload is dealt with before the next.
async fn in_order(uploads: &[Upload]) -> Contents {
    let stack = Stack::new();
    for (key, bytes, spacing) in uploads {
        let event = stack.put_with(key, bytes, &metadata(*spacing)).await;
        stack.handle(&event).await.unwrap();
    }
    stack.result_contents().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn shuffled_and_doubled_events_leave_the_same_bytes_and_metadata() {
    let uploads = uploads();
    let expected = in_order(&uploads).await;
    assert_eq!(
        expected.keys().map(String::as_str).collect::<Vec<_>>(),
        [
            "prepared/s/p_1.png",
            "prepared/s/p_2.png",
            "prepared/s/p_3.png",
            "prepared/s/volume_page_1.png",
            "prepared/s/volume_page_2.png",
            "prepared/s/volume_page_3.png",
            "prepared/s/volume_page_4.png",
            "prepared/s/z_1.png",
            "prepared/s/z_2.png",
            "rejected/s/notes.txt.json",
            "rejected/s/p_4.tif.json",
            "studies/s/study.json",
            "truth/s/p_1.tif",
            "truth/s/p_2.tif",
            "truth/s/z_1.tif",
        ]
    );
    for seed in 0..6 {
        let stack = Stack::new();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut events = Vec::new();
        for (number, (key, bytes, spacing)) in uploads.iter().enumerate() {
            events.push(stack.put_with(key, bytes, &metadata(*spacing)).await);
            // Some are dealt with before their correction arrives, and will be announced again.
            if number % 3 == (seed % 3) as usize {
                let early = events[number].clone();
                stack.handle(&early).await.unwrap();
            }
        }
        events.extend_from_within(..);
        events.shuffle(&mut rng);
        if seed % 2 == 0 {
            let answer = stack.function.handle(sqs(&events)).await.unwrap();
            assert_eq!(answer["batchItemFailures"], serde_json::json!([]));
        } else {
            let handlers = events.into_iter().map(|event| {
                let function = Arc::clone(&stack.function);
                tokio::spawn(async move { function.on_object(&event).await.map(|_| ()) })
            });
            for handled in join_all(handlers).await {
                handled.unwrap().unwrap();
            }
        }
        let left = stack.result_contents().await;
        assert_equal(&left, &expected, &format!("seed {seed}"));
    }
}

/// What happens before call number `at` of both buckets.
fn before(
    at: usize,
    action: impl Future<Output = Result<(), StorageError>> + Send + 'static,
) -> Arc<Hook> {
    let hook = Arc::new(Hook::default());
    hook.before(nth(at), action);
    hook
}

/// The function over the same buckets, both with one hook.
fn hooked(stack: &Stack, hook: &Arc<Hook>) -> Preprocess<Hooked<FolderStorage>> {
    stack.function_over(|storage| Hooked::sharing(storage, hook))
}

/// Deals with `event` while another upload arrives, and is dealt with whole, before its call number `at`; `None` where it
/// makes fewer calls.
async fn interrupted(stack: &Stack, event: &ObjectCreated, at: usize, other: Upload) -> Option<()> {
    let (uploads, function) = (stack.uploads.clone(), Arc::clone(&stack.function));
    let (key, bytes, spacing) = other;
    let announced = stack.event(key, None);
    let hook = before(at, async move {
        let key = ObjectKey::parse(key).unwrap();
        let always = Condition::Always;
        uploads.put(&key, bytes, always, &metadata(spacing)).await?;
        function.on_object(&announced).await.unwrap();
        Ok(())
    });
    hooked(stack, &hook).on_object(event).await.unwrap();
    hook.ran().then_some(())
}

#[tokio::test]
async fn another_upload_may_come_between_any_two_steps() {
    let slice = |seed| encode_slice_tiff(&phantom(1, seed).slices[0]);
    let two = zip(&[("a.tif", &slice(1)), ("study.json", br#"{"slices": 1}"#)]);
    let cases: [(&str, Upload, Upload); 6] = [
        (
            "correction of what cannot be read",
            ("s/a.tif", b"broken".to_vec(), None),
            ("s/a.tif", slice(2), None),
        ),
        (
            "correction of what can be read",
            ("s/a.tif", slice(1), None),
            ("s/a.tif", slice(2), None),
        ),
        (
            "manifest after slice",
            ("s/a.tif", slice(1), None),
            ("s/study.json", br#"{"spacing_mm": [1, 1]}"#.to_vec(), None),
        ),
        (
            "manifest after what cannot be read",
            ("s/a.tif", b"broken".to_vec(), None),
            ("s/study.json", br#"{"spacing_mm": [1, 1]}"#.to_vec(), None),
        ),
        (
            "manifest after zip with one",
            ("s.zip", two, None),
            ("s/study.json", br#"{"spacing_mm": [1, 1]}"#.to_vec(), None),
        ),
        (
            "slice after manifest",
            (
                "s/study.json",
                br#"{"channels": ["FLAIR", "pre-contrast", "post-contrast"]}"#.to_vec(),
                None,
            ),
            ("s/a.tif", slice(1), None),
        ),
    ];
    for (what, first, second) in cases {
        let expected = in_order(&[first.clone(), second.clone()]).await;
        let mut steps = 0;
        loop {
            let stack = Stack::new();
            let event = stack.put(first.0, &first.1).await;
            if interrupted(&stack, &event, steps, second.clone())
                .await
                .is_none()
            {
                break;
            }
            let left = stack.result_contents().await;
            assert_equal(&left, &expected, &format!("{what}, before call {steps}"));
            steps += 1;
        }
        assert!(steps > 4, "{what}: {steps}");
    }
}

#[tokio::test]
async fn whoever_sets_aside_late_does_not_outlive_a_correction() {
    // A third upload: what could be read no longer can. Its rejection has to be there in the end, whatever the others do.
    let slice = |seed| encode_slice_tiff(&phantom(1, seed).slices[0]);
    let mut steps = 0;
    loop {
        let stack = Stack::new();
        stack.upload("s/a.tif", b"broken").await;
        let event = stack.put("s/a.tif", &slice(1)).await;
        let worse = ("s/a.tif", b"worse".to_vec(), None);
        if interrupted(&stack, &event, steps, worse).await.is_none() {
            break;
        }
        let rejected = stack.result("rejected/s/a.tif.json").await.unwrap();
        let digest = glioseg_shared::digest::sha256_hex(b"worse");
        assert_eq!(
            rejected.metadata["input-sha256"], digest,
            "before call {steps}"
        );
        steps += 1;
    }
    assert!(steps > 4);
}

#[tokio::test]
async fn a_failure_at_any_step_is_reported_and_the_next_attempt_completes() {
    let slice = encode_slice_tiff(&phantom(1, 1).slices[0]);
    let truth = encode_mask_tiff(&phantom(1, 1).masks[0]);
    let manifest = br#"{"spacing_mm": [1, 1]}"#.to_vec();
    let whole = zip(&[
        ("z.tif", &slice),
        ("z_mask.tif", &truth),
        ("study.json", &manifest),
    ]);
    let first: Upload = ("s/a.tif", slice.clone(), None);
    for second in [
        ("s/b.tif", slice.clone(), None),
        ("s/b_mask.tif", truth.clone(), None),
        ("s/b.tif", b"broken".to_vec(), None),
        ("s/study.json", manifest.clone(), None),
        ("s.zip", whole.clone(), None),
    ] {
        let expected = in_order(&[first.clone(), second.clone()]).await;
        let mut steps = 0;
        loop {
            let stack = Stack::new();
            stack.upload(first.0, &first.1).await;
            let event = stack.put(second.0, &second.1).await;
            let refuse = steps % 2 == 1;
            let hook = before(steps, async move {
                Err(if refuse {
                    denied("it")
                } else {
                    unavailable("it")
                })
            });
            let handled = hooked(&stack, &hook).on_object(&event).await;
            if !hook.ran() {
                handled.unwrap();
                break;
            }
            assert_eq!(handled.unwrap_err().is_retryable(), !refuse);
            // As far as it came; then the event comes again.
            stack.handle(&event).await.unwrap();
            let left = stack.result_contents().await;
            assert_equal(&left, &expected, &format!("{}, call {steps}", second.0));
            steps += 1;
        }
        assert!(steps > 3, "{}: {steps}", second.0);
    }
}

#[tokio::test]
async fn a_manifest_that_was_stored_is_applied_even_if_it_is_spoilt_before_that() {
    let slice = encode_slice_tiff(&phantom(1, 1).slices[0]);
    let mut steps = 0;
    loop {
        let stack = Stack::new();
        stack.upload("s/a.tif", &slice).await;
        let event = stack
            .put("s/study.json", br#"{"spacing_mm": [1, 1]}"#)
            .await;
        let hook = before(steps, async { Err(unavailable("it")) });
        let first = hooked(&stack, &hook).on_object(&event).await;
        if !hook.ran() {
            first.unwrap();
            break;
        }
        assert_eq!(
            stack.upload("s/study.json", b"spoilt").await,
            Outcome::Rejected
        );
        assert_eq!(stack.handle(&event).await.unwrap(), Outcome::Rejected);
        let said = stack.result("studies/s/study.json").await;
        let prepared = stack.result("prepared/s/a.png").await.unwrap();
        assert_eq!(
            prepared.metadata.get("study-sequencer"),
            said.and_then(|said| said.metadata.get("sequencer").cloned())
                .as_ref(),
            "call {steps}"
        );
        steps += 1;
    }
    assert!(steps > 8, "{steps}");
}

#[tokio::test]
async fn an_upload_that_is_deleted_meanwhile_is_acknowledged_and_leaves_nothing_half_done() {
    let stack = Stack::new();
    let event = stack.event("s/gone.tif", None);
    assert_eq!(stack.handle(&event).await.unwrap(), Outcome::Gone);
    assert!(stack.result_keys().await.is_empty());

    let slice = encode_slice_tiff(&phantom(1, 1).slices[0]);
    for bytes in [slice.clone(), b"broken".to_vec()] {
        let mut steps = 0;
        loop {
            let stack = Stack::new();
            let event = stack.put("s/a.tif", &bytes).await;
            let uploads = stack.uploads.clone();
            let hook = before(steps, async move {
                uploads.delete(&ObjectKey::parse("s/a.tif").unwrap()).await
            });
            hooked(&stack, &hook).on_object(&event).await.unwrap();
            if !hook.ran() {
                break;
            }
            let left = stack.result_keys().await;
            assert!(left.len() <= 1, "before call {steps}: {left:?}");
            steps += 1;
        }
    }
}

#[tokio::test]
async fn replays_write_nothing() {
    let stack = Stack::new();
    let uploads = uploads();
    let mut events = Vec::new();
    for (key, bytes, spacing) in &uploads {
        events.push(stack.put_with(key, bytes, &metadata(*spacing)).await);
        stack.handle(&events[events.len() - 1]).await.unwrap();
    }
    for event in &events {
        let hook = Arc::default();
        hooked(&stack, &hook).on_object(event).await.unwrap();
        assert_eq!(hook.changes(), [""; 0], "{}", event.key);
    }
}
