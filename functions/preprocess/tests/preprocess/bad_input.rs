//! Uploads that can never be read: set aside with a reason, without a panic and without a result.

use crate::support::{Stack, grey_f32, pages, phantom, plain, zip};
use glioseg_preprocess::event::Outcome;
use glioseg_shared::cloud::Metadata;
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::{encode_mask_tiff, encode_slice_tiff};
use glioseg_shared::study::{Document, Rejection, ServingLimits};

/// Checks that each upload is set aside for a reason with these words, and that nothing else is left behind.
async fn are_set_aside(stack: &Stack, uploads: &[(&str, &[u8], &str)]) {
    for (key, bytes, words) in uploads {
        let rejection = stack.rejection(key, bytes).await;
        assert!(
            rejection.reason.contains(words),
            "{key}: {}",
            rejection.reason
        );
        assert!(rejection.advice.len() > 20, "{key}: {}", rejection.advice);
        assert!(rejection.notice.contains("not a medical device"));
    }
    for key in stack.result_keys().await {
        assert!(key.starts_with("rejected/"), "{key}");
    }
}

#[tokio::test]
async fn files_that_are_no_slices_are_set_aside() {
    let slice = phantom(1, 1).slices.remove(0);
    let tiff = encode_slice_tiff(&slice);
    let mut nan = vec![0.5; 400];
    nan[77] = f32::NAN;
    let mut huge = encode_slice_tiff(&plain(16, 16, [1, 2, 3]));
    let width = huge
        .windows(4)
        .rposition(|entry| entry == [0x00, 0x01, 0x03, 0x00] || entry == [0x00, 0x01, 0x04, 0x00])
        .unwrap();
    huge[width + 8..width + 10].copy_from_slice(&60_000u16.to_le_bytes());
    are_set_aside(
        &Stack::new(),
        &[
            ("s/empty.tif", b"", "the file is empty"),
            ("s/text.tif", b"not an image", "neither TIFF nor PNG"),
            ("s/cut.tif", &tiff[..tiff.len() / 2], "damaged TIFF file"),
            ("s/header.png", b"\x89PNG\r\n\x1a\n", "damaged PNG file"),
            ("s/nan.tif", &grey_f32(20, &nan), "not a finite number"),
            ("s/huge.tif", &huge, "too large: 60000 pixels a side"),
            (
                "s/pixel.tif",
                &encode_slice_tiff(&plain(1, 1, [1, 2, 3])),
                "too small: 1x1 pixels",
            ),
            (
                "s/pixel_mask.png",
                &encode_mask_tiff(&phantom(1, 1).masks[0])[..40],
                "damaged TIFF",
            ),
            ("s/swapped_mask.tif", &tiff, "page 0 is no mask"),
            (
                "s/sizes.tif",
                &pages(&[plain(20, 20, [1, 2, 3]), plain(24, 20, [1, 2, 3])]),
                "one slice has 20x20 pixels and another 24x20",
            ),
            ("s/notes.txt", b"notes", "neither an image nor study.json"),
            ("s/study.json", b"{\"slice\": 3}", "no study.json"),
            ("root.tif", &tiff, "belongs to no study"),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_other_programs_wrote_and_is_not_read_here_is_set_aside() {
    let stack = Stack::new();
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../shared/tests/goldens/imaging/refused"
    );
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() > 30);
    for name in names {
        let bytes = std::fs::read(format!("{folder}/{name}")).unwrap();
        let rejection = stack.rejection(&format!("s/{name}"), &bytes).await;
        assert_eq!(rejection.input_sha256, Some(sha256_hex(&bytes)));
    }
}

#[tokio::test]
async fn limits_hold_before_memory_is_spent() {
    let limits = ServingLimits {
        max_upload_bytes: 20_000,
        max_side: 64,
        max_pages: 2,
        max_decoded_bytes: 30_000,
        max_zip_entries: 3,
    };
    let stack = Stack::with_limits(limits);
    let three = [0, 1, 2].map(|_| plain(16, 16, [1, 2, 3]));
    let file = encode_slice_tiff(&three[0]);
    let sparse = vec![0; 29_000];
    are_set_aside(
        &stack,
        &[
            ("s/bytes.tif", &[0; 20_001], "more than the 20000 bytes"),
            (
                "s/side.tif",
                &encode_slice_tiff(&plain(65, 16, [1, 2, 3])),
                "65 pixels a side",
            ),
            ("s/pages.tif", &pages(&three), "3 pages, at most 2"),
            (
                "many.zip",
                &zip(&[
                    ("1.tif", &file),
                    ("2.tif", &file),
                    ("3.tif", &file),
                    ("4.tif", &file),
                ]),
                "has 4 entries",
            ),
            (
                "pages.zip",
                &zip(&[
                    ("1.tif", &pages(&three[..2])),
                    ("2.tif", &pages(&three[..2])),
                ]),
                "2 pages, at most 1",
            ),
            (
                "bomb.zip",
                &zip(&[("1.tif", &[0; 1_000_000])]),
                "inflates to 1000000",
            ),
            (
                "sum.zip",
                &zip(&[("1.tif", &sparse), ("2.tif", &sparse)]),
                "inflates to 58000",
            ),
        ],
    )
    .await;
    let rejected = stack.result("rejected/s/bytes.tif.json").await.unwrap();
    assert_eq!(
        Rejection::from_json(&rejected.bytes).unwrap().input_sha256,
        None
    );
}

#[tokio::test]
async fn a_zip_with_a_fault_is_set_aside_as_a_whole_and_names_it() {
    let good = encode_slice_tiff(&phantom(1, 1).slices[0]);
    let small = encode_slice_tiff(&plain(20, 20, [1, 2, 3]));
    let inner = zip(&[("1.tif", &good)]);
    let stack = Stack::new();
    let cases: [(&str, Vec<u8>, &str, Option<&str>); 11] = [
        (
            "a.zip",
            b"PK\x03\x04 and no more".to_vec(),
            "damaged zip",
            None,
        ),
        ("b.zip", zip(&[]), "holds no slice", None),
        (
            "c.zip",
            zip(&[(".hidden.tif", &good)]),
            "holds no slice",
            None,
        ),
        (
            "d.zip",
            zip(&[("x/1.tif", &good), ("y/1.tif", &good)]),
            "two files of the archive are called \"1.tif\"",
            None,
        ),
        (
            "e.zip",
            zip(&[("1.tif", &good), ("1.png", &good)]),
            "two images of the archive are the slice \"1\"",
            None,
        ),
        (
            "f.zip",
            zip(&[("1.tif", &good), ("in/2.tif", b"text")]),
            "neither TIFF nor PNG",
            Some("in/2.tif"),
        ),
        (
            "g.zip",
            zip(&[("1.tif", &good), ("more.zip", &inner)]),
            "an archive inside an archive",
            Some("more.zip"),
        ),
        (
            "h.zip",
            zip(&[("1.tif", &good), ("read me.txt", b"text")]),
            "neither an image nor study.json",
            Some("read me.txt"),
        ),
        (
            "i.zip",
            zip(&[("1.tif", &good), ("study.json", b"{}}")]),
            "no study.json",
            Some("study.json"),
        ),
        (
            "j.zip",
            zip(&[("1.tif", &good), ("2.tif", &small)]),
            "one slice has 48x48 pixels and another 20x20",
            Some("2.tif"),
        ),
        (
            "k.zip",
            zip(&[("1.tif", &good), ("1_mask.tif", &good)]),
            "is no mask",
            Some("1_mask.tif"),
        ),
    ];
    for (key, bytes, words, entry) in &cases {
        are_set_aside(&stack, &[(key, bytes, words)]).await;
        let study = key.strip_suffix(".zip").unwrap();
        let rejected = stack.result(&format!("rejected/{study}/{key}.json")).await;
        let rejection = Rejection::from_json(&rejected.unwrap().bytes).unwrap();
        assert_eq!(rejection.entry.as_deref(), *entry, "{key}");
        assert_eq!(rejection.study.unwrap().as_str(), study);
    }

    let mut traversal = zip(&[("aaaaaa.tif", &good)]);
    for at in 0..traversal.len() - 10 {
        if traversal[at..].starts_with(b"aaaaaa.tif") {
            traversal[at..at + 6].copy_from_slice(b"../../");
        }
    }
    are_set_aside(
        &stack,
        &[("l.zip", &traversal, "could lead out of its folder")],
    )
    .await;
}

#[tokio::test]
async fn keys_that_cannot_be_used_are_set_aside_under_one_that_can() {
    let stack = Stack::new();
    for key in ["s/a\nb.tif", "s/../../secret.tif", "s//a.tif", "s\\a.tif"] {
        let event = stack.event(key, Some(3));
        assert_eq!(stack.handle(&event).await.unwrap(), Outcome::Rejected);
        let stored = format!("rejected/{}.json", sha256_hex(key.as_bytes()));
        let rejection = Rejection::from_json(&stack.result(&stored).await.unwrap().bytes).unwrap();
        assert_eq!(rejection.upload, key);
        assert!(
            rejection.reason.contains("is no object key"),
            "{}",
            rejection.reason
        );
    }
    assert_eq!(stack.result_keys().await.len(), 4);
}

#[tokio::test]
async fn spacing_that_is_none_is_set_aside_rather_than_ignored() {
    let stack = Stack::new();
    let file = encode_slice_tiff(&phantom(1, 1).slices[0]);
    let said = Metadata::from([("spacing-mm".to_owned(), "half a millimetre".to_owned())]);
    let event = stack.put_with("s/a.tif", &file, &said).await;
    assert_eq!(stack.handle(&event).await.unwrap(), Outcome::Rejected);
    let rejected = stack.result("rejected/s/a.tif.json").await.unwrap();
    let rejection = Rejection::from_json(&rejected.bytes).unwrap();
    assert!(rejection.reason.starts_with("object metadata spacing-mm"));
    assert_eq!(rejection.input_sha256, Some(sha256_hex(&file)));
}

#[tokio::test]
async fn channels_that_contradict_the_manifest_are_set_aside_until_it_is_corrected() {
    let stack = Stack::new();
    stack
        .upload("s/study.json", br#"{"channels": ["FLAIR"]}"#)
        .await;
    let file = encode_slice_tiff(&plain(20, 20, [10, 20, 30]));
    let rejection = stack.rejection("s/a.tif", &file).await;
    assert!(
        rejection.reason.contains("FLAIR alone"),
        "{}",
        rejection.reason
    );
    stack.upload("s/study.json", b"{}").await;
    assert_eq!(
        stack.result_keys().await,
        ["prepared/s/a.png", "studies/s/study.json"]
    );
}

#[tokio::test]
async fn a_rejection_stays_until_the_upload_is_corrected_and_results_stay_until_then() {
    let stack = Stack::new();
    let good = encode_slice_tiff(&phantom(1, 1).slices[0]);
    let better = encode_slice_tiff(&phantom(1, 2).slices[0]);
    stack.upload("s/a.tif", &good).await;
    let first = stack.result("prepared/s/a.png").await.unwrap();
    let rejection = stack.rejection("s/a.tif", b"text").await;
    assert!(rejection.advice.contains("results of an earlier upload"));
    assert_eq!(stack.result("prepared/s/a.png").await.unwrap(), first);
    stack.upload("s/a.tif", &better).await;
    assert_eq!(stack.result_keys().await, ["prepared/s/a.png"]);
    let second = stack.result("prepared/s/a.png").await.unwrap();
    assert_eq!(second.metadata["input-sha256"], sha256_hex(&better));
}
