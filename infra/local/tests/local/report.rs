//! What people read of a study: which slices it sends them to.

use glioseg_local::demo::{SliceResult, StudyResult};
use glioseg_local::report::{page, table};
use glioseg_shared::cloud::keys::{Channel, SliceName, StudyId};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::{Intensity, Mask, ProbabilityMap, Slice};
use glioseg_shared::model::Segmentation;
use glioseg_shared::study::status::{self, Evidence};
use glioseg_shared::study::{Inventory, Prepared, SliceReport, Source, report};

const VERSION: &str = "fast-0123456789ab";

/// The report of a slice of 4 by 4 pixels: its upper half is found where the probability there is at least a half.
fn found(study: &StudyId, name: &str, upper: f32, lower: f32) -> SliceReport {
    let prepared = Prepared {
        study: study.clone(),
        name: SliceName::parse(name).unwrap(),
        slice: Slice::new(4, 4, vec![9; 48], Intensity::EightBit).unwrap(),
        spacing_mm: None,
        volume: None,
        source: Source {
            file: format!("{name}.tif"),
            sha256: sha256_hex(name.as_bytes()),
            page: 1,
        },
    };
    let upper_half = |i: usize| i < 8;
    let mask = (0..16).map(|i| upper_half(i) && upper >= 0.5).collect();
    let probability = (0..16).map(|i| if upper_half(i) { upper } else { lower });
    let segmentation = Segmentation {
        mask: Mask::new(4, 4, mask).unwrap(),
        probability: ProbabilityMap::new(4, 4, probability.collect()).unwrap(),
        model_version: VERSION.to_owned(),
    };
    report::of(&prepared, &segmentation, &Channel::parse("fast").unwrap()).unwrap()
}

/// Slices by the probabilities of their halves.
fn study(name: &str, slices: &[(f32, f32)]) -> StudyResult {
    let study = StudyId::parse(name).unwrap();
    let reports: Vec<SliceReport> = slices
        .iter()
        .enumerate()
        .map(|(number, &(upper, lower))| found(&study, &format!("s{number}"), upper, lower))
        .collect();
    let inventory = Inventory::new(study);
    let status = status::of(&Evidence {
        manifest: None,
        inventory: &inventory,
        uploads: &[],
        reports: &reports,
        scores: &[],
        masks: &[],
    });
    let slices = reports.into_iter().map(|report| SliceResult {
        report,
        score: None,
        outlines_png: vec![1],
        probability_png: vec![2],
    });
    StudyResult {
        status,
        slices: slices.collect(),
    }
}

/// Twenty slices: two of tumour, 4 doubtful (2 · 8 · 0.5 / (16 · 0.5 + 8)) and 12 certain; of the empty ones 9 is
/// doubtful (1 - 0.375).
fn doubtful() -> StudyResult {
    let mut slices = [(0.0, 0.0); 20];
    slices[4] = (0.5, 0.5);
    slices[9] = (0.375, 0.0);
    slices[12] = (1.0, 0.0);
    study("clinic/a", &slices)
}

#[test]
fn the_table_names_the_slices_to_look_at_first() {
    let text = table(&[doubtful()]);
    assert!(
        text.contains("  look first (expected Dice): s4 0.500, s9 0.625\n"),
        "{text}"
    );
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("  s"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    // The slice where tumour may have been missed has its line, the other empty ones have none.
    assert_eq!(rows[1], ["s4", "–", "8", "–", "0.500", "–", "–"]);
    assert_eq!(rows[2], ["s9", "–", "0", "–", "0.625", "–", "–"]);
    assert_eq!(rows[3], ["s12", "–", "8", "–", "1.000", "–", "–"]);
    assert_eq!(rows.len(), 4, "{text}");
}

#[test]
fn the_page_shows_the_slices_to_look_at_first_before_all_others() {
    let html = page(&[study("clinic/b", &[(1.0, 0.0)]), doubtful()], VERSION);
    let at = |part: &str| {
        assert_eq!(html.matches(part).count(), 1, "{part}");
        html.find(part).unwrap()
    };
    let first = at("<h2>Look at these first</h2>");
    let others = at("<h2>Other slices with tumour</h2>");
    let four = at("<strong>s4</strong> <span>of clinic/a: expected Dice 0.500, found area 8 px");
    let nine = at("<strong>s9</strong> <span>of clinic/a: expected Dice 0.625, found area 0 px");
    let twelve = at("<strong>s12</strong> <span>of clinic/a: expected Dice 1.000, found area 8 px");
    // A slice alone comes before nothing.
    let alone = at("<strong>s0</strong> <span>of clinic/b: expected Dice 1.000, found area 8 px");
    assert!(first < four && four < nine && nine < others && others < alone && alone < twelve);
    assert_eq!(html.matches("look first</span></th>").count(), 2);
    assert!(html.contains(">s9 <span class=\"mark\">look first</span></th>"));
}

#[test]
fn a_page_without_tumour_says_so() {
    let html = page(&[study("clinic/a", &[(0.25, 0.0), (0.0, 0.0)])], VERSION);
    assert!(html.contains("<h2>Slices with tumour</h2>\n<p>No tumour was found.</p>"));
    assert!(html.contains("<strong>s0</strong> <span>of clinic/a: expected Dice 0.750"));
    let alone = page(&[study("clinic/a", &[(1.0, 0.0)])], VERSION);
    assert!(!alone.contains("look first") && !alone.contains("Look at these first"));
}
