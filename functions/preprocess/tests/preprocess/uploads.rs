//! Uploads that can be read: what they become.

use crate::support::{Stack, grey_f32, pages, phantom, plain, sqs, zip};
use glioseg_preprocess::event::Outcome;
use glioseg_shared::cloud::Metadata;
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::{
    Channel, Intensity, Limits, Mask, decode_masks, decode_slices, encode_mask_png,
    encode_mask_tiff, encode_rgb_png, encode_slice_tiff,
};
use glioseg_shared::study::Spacing;

fn prepared(slices: usize, truths: usize) -> Outcome {
    Outcome::Prepared {
        slices,
        truths,
        manifest: false,
    }
}

#[tokio::test]
async fn a_slice_is_prepared_whatever_it_is_stored_as() {
    let stack = Stack::new();
    let slice = phantom(1, 1).slices.remove(0);
    let tiff = encode_slice_tiff(&slice);
    let png = encode_rgb_png(slice.width(), slice.height(), slice.pixels());
    for (key, bytes) in [
        ("s/a.tif", &tiff),
        ("s/b.TIFF", &tiff),
        ("s/deep er/ü+%41.png", &png),
    ] {
        assert_eq!(stack.upload(key, bytes).await, prepared(1, 0));
    }
    for (key, study, name, file, bytes) in [
        ("prepared/s/a.png", "s", "a", "a.tif", &tiff),
        ("prepared/s/b.png", "s", "b", "b.TIFF", &tiff),
        (
            "prepared/s/deep er/ü+%41.png",
            "s/deep er",
            "ü+%41",
            "ü+%41.png",
            &png,
        ),
    ] {
        let prepared = stack.prepared(key).await;
        assert_eq!(prepared.slice, slice);
        assert_eq!(
            (prepared.study.as_str(), prepared.name.as_str()),
            (study, name)
        );
        assert_eq!(
            (prepared.source.file.as_str(), prepared.source.page),
            (file, 1)
        );
        assert_eq!(prepared.source.sha256, sha256_hex(bytes));
        assert_eq!((prepared.volume, prepared.spacing_mm), (None, None));
    }
    assert_eq!(stack.result_keys().await.len(), 3);
}

#[tokio::test]
async fn what_is_stored_says_what_it_was_made_from() {
    let stack = Stack::new();
    let bytes = encode_slice_tiff(&phantom(1, 1).slices[0]);
    let event = stack.put("s/a.tif", &bytes).await;
    stack.handle(&event).await.unwrap();
    let stored = stack.result("prepared/s/a.png").await.unwrap();
    assert_eq!(stored.metadata["input-sha256"], sha256_hex(&bytes));
    assert_eq!(
        stored.metadata["sequencer"],
        event.sequencer.unwrap().as_str()
    );
    assert_eq!(stored.metadata["content-sha256"], sha256_hex(&stored.bytes));
    assert!(!stored.metadata.contains_key("study-sequencer"));
}

#[tokio::test]
async fn the_pages_of_a_file_are_a_volume() {
    let stack = Stack::new();
    let phantom = phantom(3, 2);
    let file = pages(&phantom.slices);
    assert_eq!(stack.upload("s/brain.tif", &file).await, prepared(3, 0));
    for (index, slice) in phantom.slices.iter().enumerate() {
        let key = format!("prepared/s/brain_page_{}.png", index + 1);
        let prepared = stack.prepared(&key).await;
        assert_eq!(prepared.slice, *slice);
        assert_eq!(prepared.source.page, index + 1);
        let place = prepared.volume.unwrap();
        assert_eq!(
            (place.file.as_str(), place.index, place.of),
            ("brain.tif", index, 3)
        );
    }
    assert_eq!(stack.result_keys().await.len(), 3);
}

#[tokio::test]
async fn truths_are_stored_as_the_data_set_stores_masks() {
    let stack = Stack::new();
    let phantom = phantom(4, 3);
    let mask = phantom.masks.iter().max_by_key(|mask| mask.area()).unwrap();
    assert!(!mask.is_empty());
    let tiff = encode_mask_tiff(mask);
    for (key, bytes) in [
        ("s/a_mask.tif", tiff.clone()),
        ("s/b_MASK.png", encode_mask_png(mask)),
    ] {
        assert_eq!(stack.upload(key, &bytes).await, prepared(0, 1));
    }
    assert_eq!(stack.result("truth/s/a.tif").await.unwrap().bytes, tiff);
    assert_eq!(stack.result("truth/s/b.tif").await.unwrap().bytes, tiff);

    let as_slices: Vec<_> = phantom
        .masks
        .iter()
        .map(|mask| {
            let grey = mask.pixels().iter().flat_map(|&set| [u8::from(set); 3]);
            let (width, height) = (mask.width(), mask.height());
            glioseg_shared::imaging::Slice::new(width, height, grey.collect(), Intensity::EightBit)
                .unwrap()
        })
        .collect();
    stack.upload("s/c_mask.tif", &pages(&as_slices)).await;
    for (index, mask) in phantom.masks.iter().enumerate() {
        let key = format!("truth/s/c_page_{}.tif", index + 1);
        assert_eq!(
            stack.result(&key).await.unwrap().bytes,
            encode_mask_tiff(mask)
        );
    }
}

#[tokio::test]
async fn a_mask_that_is_uploaded_as_a_slice_is_set_aside() {
    let stack = Stack::new();
    let mask = Mask::new(16, 16, (0..256).map(|i| i % 5 == 0).collect()).unwrap();
    let rejection = stack.rejection("s/a.tif", &encode_mask_tiff(&mask)).await;
    assert!(rejection.reason.contains("this is a mask"), "{rejection:?}");
}

#[tokio::test]
async fn floating_point_slices_keep_how_they_were_rescaled() {
    let stack = Stack::new();
    let samples: Vec<f32> = (0..32 * 32).map(|i| i as f32 * 0.25 - 3.0).collect();
    stack.upload("s/a.tif", &grey_f32(32, &samples)).await;
    let slice = stack.prepared("prepared/s/a.png").await.slice;
    let Intensity::Rescaled { low, high } = slice.intensity() else {
        panic!("{:?}", slice.intensity());
    };
    // numpy.percentile(samples, [0, 99.9]) == [-3, 252.49425]
    assert_eq!(low, [-3.0; 3]);
    assert!((high[1] - 252.494_25).abs() < 1e-3, "{high:?}");
}

#[tokio::test]
async fn a_zip_is_a_volume_with_its_truths_and_its_manifest() {
    let stack = Stack::new();
    let phantom = phantom(3, 4);
    let slices: Vec<Vec<u8>> = phantom.slices.iter().map(encode_slice_tiff).collect();
    let truth = encode_mask_tiff(&phantom.masks[1]);
    let bytes = zip(&[
        ("p/p_10.tif", &slices[2]),
        ("p/p_2_mask.tif", &truth),
        ("p/p_2.tif", &slices[1]),
        ("p/p_1.tif", &slices[0]),
        (
            "p/study.json",
            br#"{"slices": 3, "spacing_mm": [0.5, 0.5, 3]}"#,
        ),
        ("__MACOSX/p/._p_1.tif", b"hidden"),
        ("p/.DS_Store", b"hidden"),
    ]);
    let event = stack.put("clinic/p.zip", &bytes).await;
    assert_eq!(
        stack.handle(&event).await.unwrap(),
        Outcome::Prepared {
            slices: 3,
            truths: 1,
            manifest: true
        }
    );
    assert_eq!(
        stack.result_keys().await,
        [
            "prepared/clinic/p/p_1.png",
            "prepared/clinic/p/p_10.png",
            "prepared/clinic/p/p_2.png",
            "studies/clinic/p/study.json",
            "truth/clinic/p/p_2.tif",
        ]
    );
    for (index, name) in ["p_1", "p_2", "p_10"].into_iter().enumerate() {
        let prepared = stack
            .prepared(&format!("prepared/clinic/p/{name}.png"))
            .await;
        assert_eq!(prepared.slice, phantom.slices[index]);
        let place = prepared.volume.unwrap();
        assert_eq!(
            (place.file.as_str(), place.index, place.of),
            ("p.zip", index, 3)
        );
        assert_eq!(prepared.source.file, format!("{name}.tif"));
        assert_eq!(prepared.source.sha256, sha256_hex(&bytes));
        assert_eq!(prepared.spacing_mm, Some("0.5,0.5,3".parse().unwrap()));
    }
    assert_eq!(
        stack.result("truth/clinic/p/p_2.tif").await.unwrap().bytes,
        truth
    );
}

#[tokio::test]
async fn spacing_is_what_somebody_said_and_the_upload_goes_before_the_study() {
    let stack = Stack::new();
    let bytes = encode_slice_tiff(&phantom(1, 1).slices[0]);
    let said = Metadata::from([("spacing-mm".to_owned(), "0.4, 0.6".to_owned())]);
    let event = stack.put_with("s/own.tif", &bytes, &said).await;
    stack.handle(&event).await.unwrap();
    stack.upload("s/other.tif", &bytes).await;
    let spacing = async |name: &str| -> Option<Spacing> {
        stack
            .prepared(&format!("prepared/s/{name}.png"))
            .await
            .spacing_mm
    };
    assert_eq!(spacing("own").await, Some("0.4,0.6".parse().unwrap()));
    assert_eq!(spacing("other").await, None);
    stack
        .upload("s/study.json", br#"{"spacing_mm": [1, 1, 5]}"#)
        .await;
    assert_eq!(spacing("own").await, Some("0.4,0.6".parse().unwrap()));
    assert_eq!(spacing("other").await, Some("1,1,5".parse().unwrap()));
}

#[tokio::test]
async fn a_manifest_is_applied_to_what_came_before_and_after_it() {
    let stack = Stack::new();
    let colours = |slice: &glioseg_shared::imaging::Slice| {
        [Channel::PreContrast, Channel::Flair, Channel::PostContrast]
            .map(|channel| slice.at(0, 0, channel))
    };
    let file = encode_slice_tiff(&plain(20, 20, [10, 20, 30]));
    stack.upload("s/before.tif", &file).await;
    stack.upload("s/below/other.tif", &file).await;
    let two = pages(&[plain(20, 20, [10, 20, 30]), plain(20, 20, [11, 21, 31])]);
    stack.upload("s/two.tif", &two).await;
    stack.upload("s.zip", &zip(&[("z.tif", &file)])).await;
    let said = br#"{"channels": ["FLAIR", "post-contrast", "pre-contrast"]}"#;
    let event = stack.put("s/study.json", said).await;
    stack.handle(&event).await.unwrap();
    stack.upload("s/after.tif", &file).await;
    for (key, expected) in [
        ("prepared/s/before.png", [30, 10, 20]),
        ("prepared/s/after.png", [30, 10, 20]),
        ("prepared/s/two_page_2.png", [31, 11, 21]),
        ("prepared/s/z.png", [30, 10, 20]),
        ("prepared/s/below/other.png", [10, 20, 30]),
    ] {
        assert_eq!(colours(&stack.prepared(key).await.slice), expected, "{key}");
    }
    let metadata = stack
        .result("prepared/s/before.png")
        .await
        .unwrap()
        .metadata;
    let sequencer = event.sequencer.unwrap();
    assert_eq!(metadata["study-sequencer"], sequencer.as_str());
    let other = stack.result("prepared/s/below/other.png").await.unwrap();
    assert!(!other.metadata.contains_key("study-sequencer"));
}

#[tokio::test]
async fn uploads_without_an_event_yet_are_left_to_their_event() {
    let stack = Stack::new();
    let file = encode_slice_tiff(&phantom(1, 1).slices[0]);
    stack.put("s/later.tif", &file).await;
    stack.upload("s/study.json", b"{}").await;
    assert_eq!(stack.result_keys().await, ["studies/s/study.json"]);
}

#[tokio::test]
async fn a_queue_is_told_which_messages_failed_and_why_never_whose() {
    let stack = Stack::new();
    let file = encode_slice_tiff(&phantom(1, 1).slices[0]);
    let good = stack.put("s 1/ü+%.tif", &file).await;
    let elsewhere = glioseg_shared::cloud::events::ObjectCreated {
        bucket: "another".to_owned(),
        ..stack.put("s/b.tif", &file).await
    };
    let bad = stack.put("s/c.tif", b"text").await;
    let gone = stack.event("s/gone.tif", None);
    let folder = stack.event("s/folder/", Some(0));
    let payload = sqs(&[good, elsewhere, bad, gone, folder]);
    let answer = stack.function.handle(payload).await.unwrap();
    assert_eq!(
        answer,
        serde_json::json!({ "batchItemFailures": [{ "itemIdentifier": "message-1" }] })
    );
    assert_eq!(
        stack.result_keys().await,
        ["prepared/s 1/ü+%.png", "rejected/s/c.tif.json"]
    );
}

#[tokio::test]
async fn large_uploads_wait_for_room_and_all_come_through() {
    let stack = Stack::new();
    let large = encode_slice_tiff(&plain(1700, 1700, [1, 2, 3]));
    let small = encode_slice_tiff(&plain(20, 20, [1, 2, 3]));
    assert!(large.len() > 8 << 20);
    let mut events = Vec::new();
    for number in 0..3 {
        events.push(stack.put(&format!("s/large_{number}.tif"), &large).await);
        events.push(stack.put(&format!("s/small_{number}.tif"), &small).await);
    }
    stack.function.handle(sqs(&events)).await.unwrap();
    assert_eq!(stack.result_keys().await.len(), 6);
}

#[tokio::test]
async fn real_slices_and_masks_come_through_unchanged() {
    let Some(lgg) = glioseg_test_support::lgg() else {
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(&lgg.patients()[0])
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let stack = Stack::new();
    for file in files.iter().take(12) {
        let bytes = std::fs::read(file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        stack.upload(&format!("p/{name}"), &bytes).await;
        match name.strip_suffix("_mask.tif") {
            Some(slice) => {
                let stored = stack.result(&format!("truth/p/{slice}.tif")).await.unwrap();
                assert_eq!(stored.bytes, bytes);
                decode_masks(&stored.bytes, &Limits::default()).unwrap();
            }
            None => {
                let slice = name.strip_suffix(".tif").unwrap();
                let prepared = stack.prepared(&format!("prepared/p/{slice}.png")).await;
                let decoded = decode_slices(&bytes, &Limits::default()).unwrap();
                assert_eq!(decoded, [prepared.slice]);
            }
        }
    }
}
