//! Events that come in any order, and more than once: the results are those of events that come in order.

use std::io::{Cursor, Write as _};
use std::path::Path;

use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::phantom::{Phantom, PhantomConfig};
use glioseg_shared::imaging::{encode_mask_tiff, encode_slice_tiff, natural_order};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::bucket::{Contents, OF_A_SLICE, assert_equal, count};
use super::delivery::{Order, deliver};

type Upload = (String, Vec<u8>);

async fn converges(uploads: &[Upload], seeds: impl IntoIterator<Item = u64>) -> Contents {
    let expected = deliver(uploads, Order::InOrder).await;
    for seed in seeds {
        let found = deliver(uploads, Order::Shuffled(seed)).await;
        assert_equal(&found, &expected, &format!("seed {seed}"));
    }
    expected
}

/// A study with everything that can be corrected: its description, slices, truths.
fn corrected() -> Vec<Upload> {
    let draw = |size, seed| {
        let config = PhantomConfig {
            slices: 5,
            size,
            lesions: 2,
        };
        Phantom::generate(&config, seed).unwrap()
    };
    let (drawn, smaller) = (draw(96, 1), draw(64, 2));
    let slice = |n: usize| encode_slice_tiff(&drawn.slices[n]);
    let mask = |n: usize| encode_mask_tiff(&drawn.masks[n]);
    let wrong_mask = encode_mask_tiff(&smaller.masks[2]);
    let zip = zipped(&[
        ("head/1.tif", slice(1)),
        ("head/1_mask.tif", mask(1)),
        ("head/2.tif", slice(2)),
        ("study.json", br#"{"spacing_mm": [2, 2, 2]}"#.to_vec()),
    ]);
    [
        ("s/study.json", br#"{"spacing_mm": [1, 1, 2]}"#.to_vec()),
        ("s/0.tif", slice(4)),
        ("s/0_mask.tif", mask(0)),
        ("s/1.tif", b"no image".to_vec()),
        ("s/2.tif", slice(2)),
        ("s/2_mask.tif", wrong_mask),
        ("s/0.tif", slice(0)),
        ("s/3.tif", slice(3)),
        ("s/1.tif", slice(1)),
        ("s/1_mask.tif", mask(1)),
        (
            "s/study.json",
            br#"{"slices": 6, "spacing_mm": [0.5, 0.5, 3]}"#.to_vec(),
        ),
        ("s/2_mask.tif", mask(2)),
        ("s/4.tif", slice(4)),
        ("s/4_mask.tif", mask(4)),
        ("s/alone_mask.tif", mask(3)),
        ("s/broken.tif", slice(1)[..500].to_vec()),
        ("z.zip", zip),
        ("z/study.json", br#"{"spacing_mm": [0.7, 0.7, 4]}"#.to_vec()),
    ]
    .map(|(key, bytes)| (key.to_owned(), bytes))
    .into()
}

fn zipped(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_study_with_corrections_comes_out_the_same_in_any_order() {
    let uploads = corrected();
    let results = converges(&uploads, 1..=6).await;
    assert_eq!(count(&results, "masks/s/"), 5);
    assert_eq!(count(&results, "masks/z/"), 2);
    assert_eq!(count(&results, "scores/s/"), 4);
    assert_eq!(count(&results, "scores/z/"), 1);
    assert_eq!(count(&results, "truth/s/"), 5);
    assert_eq!(count(&results, "rejected/"), 1);
    assert_eq!(count(&results, "studies/s/completed.json"), 1);
    // What is scored is kept for training, slice and truth, beside the manifest.
    assert_eq!(count(&results, "labelled/s/"), 2 * 4);
    assert_eq!(count(&results, "labelled/z/"), 2);
    assert_eq!(count(&results, "labelled/"), 2 * 4 + 2 + 1);
    // What counts is what was uploaded last.
    for (slice, upload) in [("0", 6), ("1", 8)] {
        let (metadata, _) = &results[&format!("masks/s/{slice}.tif")];
        let digest = sha256_hex(&uploads[upload].1);
        assert_eq!(metadata["input-sha256"], digest, "slice {slice}");
    }
    for (report, spacing) in [("s/0", "0.5"), ("z/1", "0.7")] {
        let (_, report) = &results[&format!("reports/{report}.json")];
        let report: serde_json::Value = serde_json::from_slice(report).unwrap();
        assert_eq!(report["spacing_mm"][0].to_string(), spacing);
    }
}

/// The files of a patient of the data set in their natural order, as uploads.
fn patient(folder: &Path) -> Vec<Upload> {
    let study = folder.file_name().unwrap().to_str().unwrap();
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".tif"))
        .collect();
    names.sort_by(|a, b| natural_order(a, b));
    names
        .into_iter()
        .map(|name| {
            let bytes = std::fs::read(folder.join(&name)).unwrap();
            (format!("{study}/{name}"), bytes)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn patients_of_the_data_set_come_out_the_same_in_any_order() {
    let Some(lgg) = glioseg_test_support::lgg() else {
        return;
    };
    let patients: Vec<_> = lgg.patients()[..3]
        .iter()
        .map(|folder| patient(folder))
        .collect();
    let slices: Vec<_> = patients.iter().map(|files| files.len() / 2).collect();
    let name = |patient: usize| patients[patient][0].0.split('/').next().unwrap().to_owned();
    let mut uploads = Vec::new();
    // The first study is closed at its beginning, the second at its end, of the third nothing is said.
    let manifest =
        |slices: usize| format!("{{\"slices\": {slices}, \"spacing_mm\": [0.5, 0.5, 3]}}");
    uploads.push((
        format!("{}/study.json", name(0)),
        manifest(slices[0]).into_bytes(),
    ));
    // A slice and its truth are uploaded wrong first: those of another slice under their names.
    for (right, wrong) in [(0, 2), (1, 3)] {
        let pair = 2 * (slices[0] / 2);
        let (key, _) = &patients[0][pair + right];
        uploads.push((key.clone(), patients[0][pair + wrong].1.clone()));
    }
    uploads.extend(patients.iter().flatten().cloned());
    uploads.push((
        format!("{}/study.json", name(1)),
        manifest(slices[1]).into_bytes(),
    ));

    let results = converges(&uploads, [1, 2]).await;
    let all: usize = slices.iter().sum();
    for kind in OF_A_SLICE {
        assert_eq!(count(&results, kind), all, "{kind}");
    }
    assert_eq!(count(&results, "labelled/"), 2 * all + 1);
    assert_eq!(count(&results, "rejected/"), 0);
    let completed = results
        .keys()
        .filter(|key| key.ends_with("/completed.json"));
    assert_eq!(completed.count(), 2);
}
