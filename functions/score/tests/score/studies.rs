//! What is said of a study.

use std::collections::BTreeSet;

use glioseg_shared::cloud::HttpRequest;
use glioseg_shared::imaging::{Intensity, Mask};

use crate::stage::{Found, Stage, body, drawn, phantom};

#[tokio::test]
async fn nothing_at_all_is_known_of_a_study_that_nobody_uploaded() {
    let stage = Stage::new();
    assert_eq!(stage.get("/studies/s").await.0, 404);
    stage.upload("s/deep/a.tif").await;
    stage.put_result("masks/s/deep/a.tif", b"").await;
    assert_eq!(stage.get("/studies/s").await.0, 404, "only one below it");
    stage.upload("s/a.tif").await;
    let (status, known) = stage.get("/studies/s").await;
    assert_eq!((status, &known["counts"]["waiting"]), (200, &1.into()));
    assert_eq!(known["complete"], false);
}

/// The largest set of voxels that touch by sides, edges or corners, one voxel after another.
fn largest_by_flooding(masks: &[&Mask]) -> u64 {
    let (width, height) = (masks[0].width(), masks[0].height());
    let mut left: BTreeSet<(usize, usize, usize)> = BTreeSet::new();
    for (z, mask) in masks.iter().enumerate() {
        let set = (0..width * height).filter(|&i| mask.pixels()[i]);
        left.extend(set.map(|i| (z, i / width, i % width)));
    }
    let mut largest = 0;
    while let Some(first) = left.pop_first() {
        let (mut reached, mut size) = (vec![first], 0);
        while let Some((z, y, x)) = reached.pop() {
            size += 1;
            for (dz, dy, dx) in (0..27).map(|n| (n / 9, n / 3 % 3, n % 3)) {
                let next = (
                    (z + dz).wrapping_sub(1),
                    (y + dy).wrapping_sub(1),
                    (x + dx).wrapping_sub(1),
                );
                if left.remove(&next) {
                    reached.push(next);
                }
            }
        }
        largest = largest.max(size);
    }
    largest
}

#[tokio::test]
async fn a_study_is_summed_up_from_its_counts() {
    let stage = Stage::new();
    let slices = phantom();
    stage.close("a/s", slices.len() + 1).await;
    let mut keys = Vec::new();
    for (number, (prediction, truth)) in slices.iter().enumerate() {
        // Ten apart, so that the order of the bytes is not that of the numbers.
        let slice = format!("p_{}", 95 + number);
        let found = Found {
            spacing: Some("0.5,0.5,3".parse().unwrap()),
            ..Found::new(prediction)
        };
        stage.found("a/s", &slice, &found).await;
        stage.truth("a/s", &slice, truth).await;
        keys.push(format!("masks/a/s/{slice}.tif"));
    }
    for key in &keys {
        stage.tells(&[key]).await;
    }
    let (status, study) = stage.get("/studies/a/s").await;
    assert_eq!(status, 200);
    let (mut both, mut predicted, mut actual) = (0, 0, 0);
    for (prediction, truth) in &slices {
        let pixels = prediction.pixels().iter().zip(truth.pixels());
        both += pixels.filter(|(p, t)| **p && **t).count();
        predicted += prediction.area();
        actual += truth.area();
    }
    assert!(
        both > 0 && actual as usize > both,
        "the phantom has a lesion"
    );
    let counts = &study["counts"];
    assert_eq!(counts["expected"], 9);
    for (count, expected) in [
        ("received", 8),
        ("segmented", 8),
        ("with_truth", 8),
        ("scored", 8),
        ("rejected", 0),
        ("waiting", 1),
    ] {
        assert_eq!(counts[count], expected, "{count}");
    }
    assert_eq!(study["complete"], false);
    let summary = &study["summary"];
    assert_eq!(summary["tumour_voxels"], predicted);
    let predictions: Vec<&Mask> = slices.iter().map(|(prediction, _)| prediction).collect();
    let largest = largest_by_flooding(&predictions);
    assert!(largest > 0 && largest <= predicted);
    assert_eq!(summary["largest_component_voxels"], largest);
    assert_eq!(summary["tumour_volume_mm3"], predicted as f64 * 0.75);
    let dice = summary["scores"]["volume_dice"].as_f64().unwrap();
    let expected = 2.0 * both as f64 / (predicted + actual) as f64;
    assert!((dice - expected).abs() < 1e-6);
    assert_eq!(summary["scores"]["false_positive_rate"], 0.0);
    assert_eq!(study["model_versions"]["model-a"], 8);
    assert_eq!(study["warnings"], serde_json::json!([]));
    let links = study["links"].as_array().unwrap();
    assert_eq!(links[0]["slice"], "p_95");
    assert_eq!(links[7]["slice"], "p_102");
    let mask = links[0]["mask"].as_str().unwrap();
    assert!(mask.ends_with("results/masks/a/s/p_95.tif"), "{mask}");
    assert!(links[0]["overlay"].is_null(), "there is none");
    assert_eq!(study["links_expire_in_seconds"], 900);
}

#[tokio::test]
async fn whatever_clouds_the_figures_is_said() {
    let stage = Stage::new();
    let mask = drawn(&["#.", ".."]);
    stage.found("s", "a", &Found::new(&mask)).await;
    let other = drawn(&["#...", "...."]);
    let found = Found {
        model: "model-b",
        intensity: Intensity::Rescaled {
            low: [0.0; 3],
            high: [1.0; 3],
        },
        ..Found::new(&other)
    };
    stage.found("s", "b", &found).await;
    stage.truth("s", "b", &mask).await;
    stage.tells(&["masks/s/b.tif"]).await;
    let (_, study) = stage.get("/studies/s").await;
    let warnings = study["warnings"].to_string();
    for part in [
        "different models",
        "were not 8-bit",
        "different sizes",
        "cannot be compared",
    ] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    assert!(study["summary"]["largest_component_voxels"].is_null());
    assert_eq!(study["rejected"][0], "b_mask");
}

#[tokio::test]
async fn links_of_many_slices_come_page_by_page() {
    let stage = Stage::new();
    let mask = drawn(&[".."]);
    for number in 0..201 {
        let slice = format!("p {number}");
        stage.mask("s", &slice, &Found::new(&mask)).await;
    }
    let first = stage.request(HttpRequest::new("GET", "/studies/s")).await;
    let next = first.header("link").unwrap().to_owned();
    assert_eq!(next, "<?after=p%20199>; rel=\"next\"");
    assert_eq!(body(first).1["links"].as_array().unwrap().len(), 200);
    let mut request = HttpRequest::new("GET", "/studies/s");
    request.query.insert("after".to_owned(), "p 199".to_owned());
    let second = stage.request(request).await;
    assert_eq!(second.header("link"), None);
    let (_, study) = body(second);
    assert_eq!(study["links"][0]["slice"], "p 200");
    assert_eq!(study["links"].as_array().unwrap().len(), 1);
}
