//! Scores against MONAI, SciPy, NumPy and sums done by hand.

#![allow(clippy::unwrap_used)]

use glioseg_shared::imaging::{Mask, ProbabilityMap};
use glioseg_shared::scoring::{
    Counts, PROTOCOL, PatientScore, Reliability, SliceScore, Summary, SurfaceDistances, bootstrap,
    spearman, surface_distances,
};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Monai {
    prediction: Vec<String>,
    truth: Vec<String>,
    dice_with_empty: f64,
    hd: Option<f64>,
    hd95: Option<f64>,
    assd: Option<f64>,
}

#[derive(Deserialize)]
struct Goldens {
    surfaces: Vec<Surface>,
}

#[derive(Deserialize)]
struct Surface {
    prediction: Packed,
    truth: Packed,
    spacing: [f64; 2],
    hd: f64,
    hd95: f64,
    average: f64,
}

#[derive(Deserialize)]
struct Calibration {
    correlations: Vec<Correlation>,
    slices: Vec<Calibrated>,
}

#[derive(Deserialize)]
struct Correlation {
    name: String,
    x: Vec<f64>,
    y: Vec<f64>,
    rho: f64,
}

#[derive(Deserialize)]
struct Calibrated {
    name: String,
    width: usize,
    probability: Vec<f32>,
    truth: String,
    ece: f64,
    pixels: Vec<u64>,
    mean_probability: Vec<Option<f64>>,
    tumour_share: Vec<Option<f64>>,
}

impl Calibration {
    fn read() -> Self {
        serde_json::from_str(include_str!("goldens/calibration/calibration.json")).unwrap()
    }
}

impl Calibrated {
    fn reliability(&self) -> Reliability {
        let height = self.probability.len() / self.width;
        let probability =
            ProbabilityMap::new(self.width, height, self.probability.clone()).unwrap();
        let truth = self.truth.bytes().map(|b| b == b'#').collect();
        let truth = Mask::new(self.width, height, truth).unwrap();
        let mut reliability = Reliability::default();
        reliability.add(&probability, &truth).unwrap();
        reliability
    }
}

#[derive(Deserialize)]
struct Packed {
    shape: [usize; 2],
    bits: String,
}

impl Packed {
    fn unpack(&self) -> Mask {
        let [height, width] = self.shape;
        let byte = |i: usize| u8::from_str_radix(&self.bits[2 * i..2 * i + 2], 16).unwrap();
        let pixels = (0..height * width).map(|i| byte(i / 8) << (i % 8) & 0x80 != 0);
        Mask::new(width, height, pixels.collect()).unwrap()
    }
}

fn drawn(rows: &[impl AsRef<str>]) -> Mask {
    let width = rows[0].as_ref().len();
    let pixels = rows.iter().flat_map(|row| row.as_ref().bytes());
    Mask::new(width, rows.len(), pixels.map(|b| b == b'#').collect()).unwrap()
}

fn assert_close(found: f64, expected: f64, tolerance: f64) {
    let difference = (found - expected).abs();
    assert!(
        difference <= tolerance * expected.abs().max(1.0),
        "{found} for {expected}"
    );
}

#[test]
fn dice_and_surface_distances_are_monais() {
    let goldens: Vec<Monai> =
        serde_json::from_str(include_str!("goldens/monai/metrics.json")).unwrap();
    assert_eq!(goldens.len(), 11);
    for golden in goldens {
        let (prediction, truth) = (drawn(&golden.prediction), drawn(&golden.truth));
        let score = SliceScore::of("slice", &prediction, &truth).unwrap();
        assert_close(score.counts.dice(), golden.dice_with_empty, 1e-6);
        assert_eq!(score.surface.is_some(), golden.hd.is_some());
        if let Some(surface) = score.surface {
            assert_close(surface.hd, golden.hd.unwrap(), 1e-6);
            assert_close(surface.hd95, golden.hd95.unwrap(), 1e-6);
            assert_close(surface.average, golden.assd.unwrap(), 1e-6);
        }
    }
}

#[test]
fn surface_distances_heed_the_spacing() {
    let goldens: Goldens = serde_json::from_str(include_str!("goldens/masks/masks.json")).unwrap();
    for golden in goldens.surfaces {
        let (prediction, truth) = (golden.prediction.unpack(), golden.truth.unpack());
        let found = surface_distances(&prediction, &truth, golden.spacing).unwrap();
        assert_close(found.hd, golden.hd, 1e-12);
        assert_close(found.hd95, golden.hd95, 1e-12);
        assert_close(found.average, golden.average, 1e-12);
    }
}

#[test]
fn figures_of_overlap() {
    let prediction = drawn(&["##..", "##..", "...."]);
    let truth = drawn(&[".##.", ".##.", ".#.."]);
    let counts = Counts::of(&prediction, &truth).unwrap();
    let expected = Counts {
        true_positive: 2,
        false_positive: 2,
        false_negative: 3,
        true_negative: 5,
    };
    assert_eq!(counts, expected);
    assert_eq!(
        (counts.predicted_area(), counts.true_area(), counts.total()),
        (4, 5, 12)
    );
    assert_close(counts.dice(), 4.0 / 9.0, 1e-15);
    assert_close(counts.iou(), 2.0 / 7.0, 1e-15);
    assert_eq!(counts.precision(), Some(0.5));
    assert_eq!(counts.recall(), Some(0.4));
}

#[test]
fn figures_of_empty_masks() {
    let (empty, some) = (drawn(&["...", "..."]), drawn(&["...", ".#."]));
    let none = Counts::of(&empty, &empty).unwrap();
    assert_eq!((none.dice(), none.iou()), (1.0, 1.0));
    assert_eq!((none.precision(), none.recall()), (None, None));
    let missed = Counts::of(&empty, &some).unwrap();
    assert_eq!((missed.dice(), missed.iou()), (0.0, 0.0));
    assert_eq!((missed.precision(), missed.recall()), (None, Some(0.0)));
    let invented = Counts::of(&some, &empty).unwrap();
    assert_eq!((invented.dice(), invented.iou()), (0.0, 0.0));
    assert_eq!((invented.precision(), invented.recall()), (Some(0.0), None));
    for (prediction, truth) in [(&empty, &empty), (&empty, &some), (&some, &empty)] {
        assert_eq!(surface_distances(prediction, truth, [1.0, 1.0]), None);
    }
}

#[test]
fn masks_of_different_sizes_are_refused() {
    let refused = Counts::of(&Mask::empty(3, 2), &Mask::empty(2, 3)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the prediction has 3x2 pixels, the truth 2x3"
    );
    assert_eq!(
        SliceScore::of("slice", &Mask::empty(3, 2), &Mask::empty(2, 3)),
        Err(refused)
    );
}

fn slice(true_positive: u64, false_positive: u64, false_negative: u64) -> SliceScore {
    let counts = Counts {
        true_positive,
        false_positive,
        false_negative,
        true_negative: 100 - true_positive - false_positive - false_negative,
    };
    SliceScore {
        slice: String::new(),
        counts,
        surface: None,
    }
}

fn patient(slices: &[SliceScore]) -> PatientScore {
    PatientScore {
        patient: String::new(),
        slices: slices.to_vec(),
    }
}

#[test]
fn the_four_figures() {
    let patients = [
        // Dice of slices: 0.8, 0, 1, 0 (invented); of the volume 2*8 / (8+2+2+4+1+8+0) = 16 / 25.
        patient(&[
            slice(8, 2, 2),
            slice(0, 0, 4),
            slice(0, 0, 0),
            slice(0, 1, 0),
        ]),
        // Slices: 1, 1, 1; volume 1.
        patient(&[slice(5, 0, 0), slice(0, 0, 0), slice(0, 0, 0)]),
        // Slice: 0.5; volume 0.5.
        patient(&[slice(1, 1, 1)]),
    ];
    let summary = Summary::of(&patients);
    assert_eq!(summary.protocol, PROTOCOL);
    assert_eq!((summary.patients, summary.slices), (3, 8));
    assert_eq!((summary.tumour_slices, summary.empty_slices), (4, 4));
    for (estimate, value, n) in [
        (summary.volume_dice_mean, (16.0 / 25.0 + 1.0 + 0.5) / 3.0, 3),
        (summary.volume_dice_median, 16.0 / 25.0, 3),
        (summary.tumour_slice_dice, (0.8 + 0.0 + 1.0 + 0.5) / 4.0, 4),
        (
            summary.all_slice_dice,
            (0.8 + 0.0 + 1.0 + 0.0 + 3.0 + 0.5) / 8.0,
            8,
        ),
        (summary.false_positive_rate, 0.25, 4),
    ] {
        let estimate = estimate.unwrap();
        assert_close(estimate.value, value, 1e-15);
        assert_eq!(estimate.n, n);
        assert!(
            estimate.low <= value && value <= estimate.high,
            "{estimate:?}"
        );
    }
    // With three patients, one in 27 resamples is of the best or the worst alone.
    let volume = summary.volume_dice_mean.unwrap();
    assert_eq!((volume.low, volume.high), (0.5, 1.0));

    let read: Summary = serde_json::from_str(&serde_json::to_string(&summary).unwrap()).unwrap();
    assert_eq!(read, summary);
    assert_eq!(Summary::of(&patients), summary, "resamples are seeded");
}

#[test]
fn figures_without_a_case_are_absent() {
    let nobody = Summary::of(&[]);
    assert_eq!((nobody.patients, nobody.volume_dice_mean), (0, None));
    assert_eq!(
        (nobody.all_slice_dice, nobody.false_positive_rate),
        (None, None)
    );
    let all_tumour = Summary::of(&[patient(&[slice(3, 0, 0)])]);
    assert_eq!(all_tumour.false_positive_rate, None);
    let estimate = all_tumour.tumour_slice_dice.unwrap();
    assert_eq!(
        (estimate.value, estimate.low, estimate.high, estimate.n),
        (1.0, 1.0, 1.0, 1)
    );
    let healthy = Summary::of(&[patient(&[slice(0, 0, 0)])]);
    assert_eq!(
        (healthy.tumour_slices, healthy.tumour_slice_dice),
        (0, None)
    );
    assert_eq!(healthy.false_positive_rate.unwrap().value, 0.0);
}

#[test]
fn the_interval_of_a_mean_is_the_normal_one_for_many_units() {
    let units: Vec<f64> = (0..400_u32)
        .map(|i| f64::from(i * 37 % 400) / 400.0)
        .collect();
    let mean = |units: &[&f64]| Some(units.iter().copied().sum::<f64>() / units.len() as f64);
    let interval = bootstrap(&units, mean).unwrap();
    let centre = 399.0 / 800.0;
    // Standard deviation of 0, 1/400, .. 399/400, over the root of their number.
    let error = ((400.0_f64.powi(2) - 1.0) / 12.0).sqrt() / 400.0 / 20.0;
    assert_close((interval.low - centre) / error, -1.96, 0.1);
    assert_close((interval.high - centre) / error, 1.96, 0.1);
}

#[test]
fn rank_correlations_are_scipys() {
    let goldens = Calibration::read().correlations;
    assert_eq!(goldens.len(), 6);
    for Correlation { name, x, y, rho } in goldens {
        let found = spearman(&x, &y).unwrap_or_else(|| panic!("{name}"));
        assert_close(found, rho, 1e-12);
        assert_eq!(spearman(&y, &x), Some(found), "{name}");
    }
}

#[test]
fn calibration_is_numpys() {
    let goldens = Calibration::read().slices;
    assert_eq!(goldens.len(), 3);
    for golden in &goldens {
        let reliability = golden.reliability();
        let bins = reliability.bins();
        assert_eq!(
            bins.map(|bin| bin.pixels)[..],
            golden.pixels,
            "{}",
            golden.name
        );
        let error = reliability.expected_calibration_error().unwrap();
        assert_close(error, golden.ece, 1e-12);
        let expected = golden.mean_probability.iter().zip(&golden.tumour_share);
        for (bin, (mean, share)) in bins.iter().zip(expected) {
            assert_eq!(bin.mean_probability.is_some(), mean.is_some());
            assert_eq!(bin.tumour_share.is_some(), share.is_some());
            assert_close(
                bin.mean_probability.unwrap_or(0.0),
                mean.unwrap_or(0.0),
                1e-12,
            );
            assert_close(bin.tumour_share.unwrap_or(0.0), share.unwrap_or(0.0), 1e-12);
        }
    }
}

#[test]
fn calibration_of_slices_adds_up() {
    let goldens = Calibration::read().slices;
    let sum: Reliability = goldens.iter().map(Calibrated::reliability).sum();
    let mut pixel_by_pixel = Reliability::default();
    for golden in &goldens {
        for (&probability, tumour) in golden.probability.iter().zip(golden.truth.bytes()) {
            pixel_by_pixel.add_pixel(probability, tumour == b'#');
        }
    }
    assert_eq!(sum.pixels(), pixel_by_pixel.pixels());
    for (bin, other) in sum.bins().iter().zip(&pixel_by_pixel.bins()) {
        assert_eq!(
            (bin.pixels, bin.tumour_share),
            (other.pixels, other.tumour_share)
        );
    }
    let error = |of: &Reliability| of.expected_calibration_error().unwrap();
    assert_close(error(&sum), error(&pixel_by_pixel), 1e-12);
}

fn mask_pair() -> impl Strategy<Value = (Mask, Mask)> {
    (1..24_usize, 1..24_usize, 0.0..0.6_f64, 0.0..0.6_f64).prop_flat_map(|(width, height, p, t)| {
        let mask = |density| {
            prop::collection::vec(prop::bool::weighted(density), width * height)
                .prop_map(move |pixels| Mask::new(width, height, pixels).unwrap())
        };
        (mask(p), mask(t))
    })
}

/// All pairs of edge pixels, straight from the definition.
fn by_pairs(a: &Mask, b: &Mask, [dy, dx]: [f64; 2]) -> Option<SurfaceDistances> {
    let edge = |mask: &Mask| -> Vec<(f64, f64)> {
        let set = |x: i64, y: i64| {
            let inside = 0 <= x && x < mask.width() as i64 && 0 <= y && y < mask.height() as i64;
            inside && mask.pixels()[y as usize * mask.width() + x as usize]
        };
        (0..mask.height() as i64)
            .flat_map(|y| (0..mask.width() as i64).map(move |x| (x, y)))
            .filter(|&(x, y)| {
                let around = [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)];
                set(x, y) && !around.iter().all(|&(x, y)| set(x, y))
            })
            .map(|(x, y)| (x as f64 * dx, y as f64 * dy))
            .collect()
    };
    let (a, b) = (edge(a), edge(b));
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let directed = |from: &[(f64, f64)], to: &[(f64, f64)]| {
        let nearest = |p: &(f64, f64)| {
            to.iter()
                .map(|q| (p.0 - q.0).hypot(p.1 - q.1))
                .fold(f64::INFINITY, f64::min)
        };
        let mut distances: Vec<f64> = from.iter().map(nearest).collect();
        distances.sort_by(f64::total_cmp);
        distances
    };
    let percentile = |distances: &[f64]| {
        let at = 0.95 * (distances.len() - 1) as f64;
        let (low, high) = (
            distances[at.floor() as usize],
            distances[at.ceil() as usize],
        );
        low + (high - low) * at.fract()
    };
    let (out, back) = (directed(&a, &b), directed(&b, &a));
    let sum: f64 = out.iter().chain(&back).sum();
    Some(SurfaceDistances {
        hd: out[out.len() - 1].max(back[back.len() - 1]),
        hd95: percentile(&out).max(percentile(&back)),
        average: sum / (out.len() + back.len()) as f64,
    })
}

proptest! {
    #[test]
    fn counts_of_parts_add_up((prediction, truth) in mask_pair()) {
        let whole = Counts::of(&prediction, &truth).unwrap();
        let row = |mask: &Mask, y: usize| {
            let width = mask.width();
            Mask::new(width, 1, mask.pixels()[y * width..(y + 1) * width].to_vec()).unwrap()
        };
        let rows = (0..truth.height()).map(|y| Counts::of(&row(&prediction, y), &row(&truth, y)).unwrap());
        prop_assert_eq!(rows.sum::<Counts>(), whole);
        prop_assert_eq!(whole.total(), truth.pixels().len() as u64);
        prop_assert_eq!(whole.predicted_area(), prediction.area());
        prop_assert_eq!(whole.true_area(), truth.area());
    }

    #[test]
    fn overlap_is_symmetric_and_bounded((prediction, truth) in mask_pair()) {
        let counts = Counts::of(&prediction, &truth).unwrap();
        let swapped = Counts::of(&truth, &prediction).unwrap();
        prop_assert_eq!(counts.dice(), swapped.dice());
        prop_assert_eq!(counts.iou(), swapped.iou());
        prop_assert_eq!(counts.precision(), swapped.recall());
        let (dice, iou) = (counts.dice(), counts.iou());
        prop_assert!((0.0..=1.0).contains(&dice) && iou <= dice);
        prop_assert!((dice - 2.0 * iou / (1.0 + iou)).abs() < 1e-12);
        prop_assert_eq!(dice == 1.0, prediction == truth);
    }

    #[test]
    fn surface_distances_are_those_of_all_pairs(
        (prediction, truth) in mask_pair(),
        spacing in prop::array::uniform2(0.1..5.0_f64),
    ) {
        let found = surface_distances(&prediction, &truth, spacing);
        let expected = by_pairs(&prediction, &truth, spacing);
        prop_assert_eq!(found.is_some(), expected.is_some());
        if let (Some(found), Some(expected)) = (found, expected) {
            prop_assert!((found.hd - expected.hd).abs() < 1e-9);
            prop_assert!((found.hd95 - expected.hd95).abs() < 1e-9);
            prop_assert!((found.average - expected.average).abs() < 1e-9);
            let swapped = surface_distances(&truth, &prediction, spacing).unwrap();
            prop_assert!((swapped.hd95 - found.hd95).abs() < 1e-9);
            prop_assert!((swapped.average - found.average).abs() < 1e-9);
        }
    }
}
