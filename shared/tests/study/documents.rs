//! Reports, scores and the status of a study against figures worked out another way.

use glioseg_shared::cloud::ObjectKey;
use glioseg_shared::cloud::keys::{self, Channel};
use glioseg_shared::imaging::{Intensity, Mask, ProbabilityMap, Slice};
use glioseg_shared::model::Segmentation;
use glioseg_shared::study::score::DistanceUnit;
use glioseg_shared::study::status::{self, Evidence};
use glioseg_shared::study::{
    Document, Inventory, SliceReport, SliceScoreDocument, StudyManifest, StudyStatus, report,
};

use super::samples;

/// A mask drawn with `#`.
fn drawn(rows: &[&str]) -> Mask {
    let pixels = rows.iter().flat_map(|row| row.bytes().map(|b| b == b'#'));
    Mask::new(rows[0].len(), rows.len(), pixels.collect()).unwrap()
}

fn found(mask: Mask, probability: impl Fn(usize) -> f32) -> Segmentation {
    let values = (0..mask.pixels().len()).map(probability).collect();
    Segmentation {
        probability: ProbabilityMap::new(mask.width(), mask.height(), values).unwrap(),
        mask,
        model_version: samples::MODEL.to_owned(),
    }
}

fn grey(width: usize, height: usize) -> Slice {
    Slice::new(
        width,
        height,
        vec![9; width * height * 3],
        Intensity::EightBit,
    )
    .unwrap()
}

#[test]
fn a_report_tells_what_is_in_the_mask() {
    let mask = drawn(&[
        "......", //
        ".###..", ".#.#..", ".###..", "....#.", "#.....",
    ]);
    let prepared = samples::prepared(2, grey(6, 6), Some(samples::spacing()));
    // The first row of the ring holds 7 to 9; 0.9 is the certainest pixel of the mask, 0.95 of the slice.
    let report = samples::report(
        &prepared,
        &found(mask, |i| match i {
            7 => 0.9,
            0 => 0.95,
            _ => 0.6,
        }),
    );
    assert_eq!(report.tumour_pixels, 10);
    assert_eq!(report.area_mm2, Some(1.25));
    let bounds = report.bounding_box.unwrap();
    assert_eq!(
        (bounds.x, bounds.y, bounds.width, bounds.height),
        (0, 1, 5, 5)
    );
    // The ring and the pixel at its corner belong together.
    assert_eq!(report.component_count, 2);
    let pixels: Vec<u64> = report.components.iter().map(|c| c.pixels).collect();
    assert_eq!(pixels, [9, 1]);
    assert_eq!(report.components[1].area_mm2, Some(0.125));
    let holes: Vec<bool> = report.contours.iter().map(|c| c.hole).collect();
    assert_eq!(holes, [false, true, false]);
    assert_eq!(report.contours[2].points, [[0, 5], [1, 5], [1, 6], [0, 6]]);
    assert!(report.contours_complete);
    assert_eq!(report.confidence.mean_probability, Some(0.63));
    assert_eq!(report.confidence.max_probability, 0.95);
    // 2 · (0.9 + 9 · 0.6) / ((0.95 + 0.9 + 34 · 0.6) + 10)
    assert_eq!(report.confidence.expected_dice, 0.390_698);
    assert_eq!(SliceReport::from_json(&report.to_json()).unwrap(), report);
}

#[test]
fn a_report_of_nothing_says_so_and_gives_no_area_without_spacing() {
    let prepared = samples::prepared(0, grey(4, 3), None);
    let report = samples::report(&prepared, &found(Mask::empty(4, 3), |_| 0.25));
    assert_eq!((report.tumour_pixels, report.area_mm2), (0, None));
    assert_eq!((report.bounding_box, report.component_count), (None, 0));
    assert_eq!(report.confidence.mean_probability, None);
    assert_eq!(report.confidence.max_probability, 0.25);
    assert_eq!(report.confidence.expected_dice, 0.75);
}

#[test]
fn a_mask_of_another_size_than_its_probabilities_has_no_report() {
    let prepared = samples::prepared(0, grey(4, 3), None);
    let mut found = found(Mask::empty(4, 3), |_| 0.25);
    found.mask = Mask::empty(3, 4);
    let channel = Channel::parse("fast").unwrap();
    let refused = report::of(&prepared, &found, &channel).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the mask has 3x4 pixels, its probabilities 4x3"
    );
}

#[test]
fn a_report_of_noise_stays_small() {
    let mut mask = Mask::empty(1024, 1024);
    for (i, pixel) in mask.pixels_mut().iter_mut().enumerate() {
        *pixel = (i % 1024).is_multiple_of(3) && (i / 1024).is_multiple_of(3);
    }
    let prepared = samples::prepared(1, grey(1024, 1024), Some(samples::spacing()));
    let report = samples::report(&prepared, &found(mask, |_| 0.5));
    assert_eq!(report.component_count, 342 * 342);
    assert_eq!(report.components.len(), 1024);
    assert_eq!(report.contours.len(), (1 << 16) / 4);
    assert!(!report.contours_complete);
    assert!(report.to_json().len() as u64 <= SliceReport::MAX_BYTES / 2);
}

#[test]
fn a_score_is_of_the_pixels_and_in_the_unit_of_the_spacing() {
    let prediction = drawn(&["##..", "##..", "....", "...."]);
    let truth = drawn(&[".##.", ".##.", "....", "...."]);
    let score = samples::score(1, &prediction, &truth, None);
    assert_eq!((score.dice, score.iou), (0.5, 0.333_333));
    assert_eq!((score.precision, score.recall), (Some(0.5), Some(0.5)));
    assert_eq!(
        (score.hd95, score.average_surface_distance),
        (Some(1.0), Some(0.5))
    );
    assert_eq!(score.distance_unit, DistanceUnit::Pixels);
    assert_eq!((score.predicted_pixels, score.true_pixels), (4, 4));
    assert_eq!(score.true_area_mm2, None);
    // Columns are 0.5 mm apart, and the outlines are one column apart.
    let score = samples::score(1, &prediction, &truth, Some(samples::spacing()));
    assert_eq!(
        (score.hd95, score.average_surface_distance),
        (Some(0.5), Some(0.25))
    );
    assert_eq!(score.distance_unit, DistanceUnit::Millimetres);
    assert_eq!(score.predicted_area_mm2, Some(0.5));
    assert_eq!(
        SliceScoreDocument::from_json(&score.to_json()).unwrap(),
        score
    );
}

#[test]
fn what_is_undefined_is_null() {
    let empty = Mask::empty(4, 4);
    let truth = drawn(&["#...", "....", "....", "...."]);
    let missed = samples::score(1, &empty, &truth, None);
    assert_eq!(
        (missed.dice, missed.precision, missed.recall),
        (0.0, None, Some(0.0))
    );
    assert_eq!((missed.hd95, missed.average_surface_distance), (None, None));
    let nothing = samples::score(1, &empty, &empty, None);
    assert_eq!(
        (nothing.dice, nothing.iou, nothing.recall),
        (1.0, 1.0, None)
    );
    let json = String::from_utf8(nothing.to_json()).unwrap();
    assert!(json.contains("\"hd95\":null"), "{json}");
}

/// A study of which everything is there.
struct Done {
    inventory: Inventory,
    reports: Vec<SliceReport>,
    scores: Vec<SliceScoreDocument>,
    truths: Vec<Mask>,
    masks: Vec<Mask>,
}

fn done() -> Done {
    let phantom = samples::phantom();
    let study = samples::study();
    let mut inventory = Inventory::new(study.clone());
    let (mut reports, mut scores, mut masks) = (vec![], vec![], vec![]);
    for (number, (slice, truth)) in phantom.slices.iter().zip(&phantom.masks).enumerate() {
        let prepared = samples::prepared(number, slice.clone(), Some(samples::spacing()));
        let found = samples::prediction(truth);
        reports.push(samples::report(&prepared, &found));
        scores.push(samples::score(
            number,
            &found.mask,
            truth,
            Some(samples::spacing()),
        ));
        masks.push(found.mask);
        for key in [
            keys::prepared(&study, &prepared.name),
            keys::mask(&study, &prepared.name),
            keys::truth(&study, &prepared.name),
            keys::report(&study, &prepared.name),
            keys::score(&study, &prepared.name),
        ] {
            inventory.add(&key);
        }
    }
    Done {
        inventory,
        reports,
        scores,
        truths: phantom.masks,
        masks,
    }
}

impl Done {
    fn status(&self, slices: usize) -> StudyStatus {
        let manifest = StudyManifest {
            slices: Some(slices),
            ..StudyManifest::default()
        };
        status::of(&Evidence {
            manifest: Some(&manifest),
            inventory: &self.inventory,
            uploads: &[],
            reports: &self.reports,
            scores: &self.scores,
            masks: &self.masks,
        })
    }
}

#[test]
fn a_study_is_the_sum_of_its_slices() {
    let done = done();
    let status = done.status(10);
    assert!(status.complete);
    assert_eq!((status.counts.received, status.counts.waiting), (10, 0));
    assert!(status.warnings.is_empty(), "{:?}", status.warnings);

    // Over all pixels at once, without counts of slices.
    let flat =
        |masks: &[Mask]| -> Vec<bool> { masks.iter().flat_map(|m| m.pixels().to_vec()).collect() };
    let (predicted, actual) = (flat(&done.masks), flat(&done.truths));
    let both = predicted
        .iter()
        .zip(&actual)
        .filter(|(p, t)| **p && **t)
        .count() as f64;
    let sum = predicted.iter().chain(&actual).filter(|set| **set).count() as f64;
    let scores = status.summary.scores.as_ref().unwrap();
    assert!((scores.volume_dice - 2.0 * both / sum).abs() < 1e-6);
    let tumour: Vec<f64> = done
        .scores
        .iter()
        .filter(|score| score.true_pixels > 0)
        .map(|score| score.dice)
        .collect();
    assert!(tumour.len() > 1 && tumour.len() < 10);
    let mean = tumour.iter().sum::<f64>() / tumour.len() as f64;
    assert!((scores.tumour_slice_dice.unwrap() - mean).abs() < 2e-6);
    assert_eq!(scores.tumour_slices, tumour.len());
    assert_eq!(scores.false_positive_rate, Some(0.0));

    let voxels = predicted.iter().filter(|set| **set).count() as u64;
    assert_eq!(status.summary.tumour_voxels, voxels);
    assert_eq!(
        status.summary.tumour_volume_mm3,
        Some(voxels as f64 * 0.375)
    );
    assert!(status.summary.largest_component_voxels.unwrap() <= voxels);
    assert_eq!(status.model_versions[samples::MODEL], 10);
    assert_eq!(StudyStatus::from_json(&status.to_json()).unwrap(), status);
}

#[test]
fn the_largest_component_goes_through_slices() {
    let mut done = done();
    done.masks = vec![
        drawn(&["#..##"]), //
        drawn(&[".#..."]),
        drawn(&["#...."]),
    ];
    assert_eq!(done.status(10).summary.largest_component_voxels, Some(3));
    done.masks = vec![drawn(&["#"]), drawn(&["##"])];
    let status = done.status(10);
    assert_eq!(status.summary.largest_component_voxels, None);
    assert!(status.warnings[0].contains("slice 1 has 2x1 pixels"));
    done.masks.clear();
    assert_eq!(done.status(10).summary.largest_component_voxels, None);
}

#[test]
fn what_a_reader_has_to_know_is_a_warning() {
    let mut done = done();
    assert!(!done.status(11).complete);
    let warned = |done: &Done, text: &str| {
        let warnings = done.status(9).warnings;
        assert!(
            warnings.iter().any(|w| w.contains(text)),
            "{text}: {warnings:?}"
        );
    };
    warned(
        &done,
        "10 slices were received, but study.json says that there are 9",
    );
    done.reports[2].model.version = "fast-other".to_owned();
    warned(
        &done,
        "different models: fast-0123456789ab (9), fast-other (1)",
    );
    warned(&done, "1 scores are of another model");
    done.reports[3].spacing_mm = None;
    warned(&done, "different spacings");
    assert_eq!(done.status(9).summary.tumour_volume_mm3, None);
    let study = samples::study();
    done.inventory.add(&keys::truth(&study, &samples::name(99)));
    warned(&done, "1 truths have no slice");
    done.inventory.add(&keys::rejected(&study, "notes.txt"));
    warned(&done, "1 uploads were rejected");
    assert_eq!(done.status(9).rejected, ["notes.txt"]);
}

#[test]
fn a_study_without_a_number_of_slices_is_never_complete() {
    let done = done();
    let status = status::of(&Evidence {
        manifest: None,
        inventory: &done.inventory,
        uploads: &[],
        reports: &[],
        scores: &[],
        masks: &[],
    });
    assert!(!status.complete);
    assert_eq!((status.counts.expected, status.counts.waiting), (None, 0));
    assert_eq!(status.summary.scores, None);
    let mut other = Inventory::new(samples::study());
    other.add(&ObjectKey::parse("masks/other/x.tif").unwrap());
    assert!(other.is_empty());
}
