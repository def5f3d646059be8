//! A model scored as it is served, on studies small enough to be scored by hand, and its report.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "support/threshold_model.rs"]
mod threshold_model;

use std::fs;
use std::ops::Range;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::{
    CHANNELS, Channel, Intensity, Limits, Mask, Slice, decode_slices, encode_mask_tiff,
    encode_slice_tiff,
};
use glioseg_shared::model::Segmenter;
use glioseg_shared::scoring::{Estimate, PatientScore};
use glioseg_training::data::{CachedPatient, DataError, Dataset, Split};
use glioseg_training::evaluate::studies::{Part, decoded, phantoms};
use glioseg_training::evaluate::{EvaluateError, Evaluation, Exhibit, evaluate, volume_dice};
use glioseg_training::publish::Judge;
use glioseg_training::report::{Report, ReportError, SplitPart, Subject};
use serde_json::{Value, json};
use tempfile::TempDir;
use threshold_model::threshold_model;

const SIDE: usize = 16;
const ROW: usize = 4;

/// Columns of one row, set.
fn mask(columns: Range<usize>) -> Mask {
    let mut mask = Mask::empty(SIDE, SIDE);
    mask.pixels_mut()[ROW * SIDE..][columns].fill(true);
    mask
}

/// A slice on which the model finds these columns.
fn slice(columns: Range<usize>, intensity: Intensity) -> Slice {
    let pixels = mask(columns)
        .pixels()
        .iter()
        .flat_map(|&bright| [7, if bright { 200 } else { 100 }, 9])
        .collect();
    Slice::new(SIDE, SIDE, pixels, intensity).unwrap()
}

/// A patient from the name, the predicted and the true columns of each slice.
fn patient(id: &str, slices: &[(&str, Range<usize>, Range<usize>)]) -> CachedPatient {
    CachedPatient {
        id: id.to_owned(),
        names: slices.iter().map(|s| s.0.to_owned()).collect(),
        slices: slices
            .iter()
            .map(|s| slice(s.1.clone(), Intensity::EightBit))
            .collect(),
        masks: slices.iter().map(|s| mask(s.2.clone())).collect(),
    }
}

fn studies() -> [CachedPatient; 2] {
    let mut first = patient(
        "<b>",
        &[
            ("half, found", 4..8, 2..6),
            ("false", 1..4, 0..0),
            ("empty", 0..0, 0..0),
        ],
    );
    let rescaled = Intensity::Rescaled {
        low: [0.0; CHANNELS],
        high: [1.0; CHANNELS],
    };
    first.slices[2] = slice(0..0, rescaled);
    let second = patient("plain", &[("found", 3..7, 3..7), ("missed", 0..0, 5..11)]);
    [first, second]
}

fn given(studies: &[CachedPatient]) -> impl Iterator<Item = Result<&CachedPatient, DataError>> {
    studies.iter().map(Ok)
}

fn model() -> Vec<u8> {
    threshold_model("tiny-1", 0.5, SIDE as u32, Vec::new())
}

fn segmenter() -> Segmenter {
    Segmenter::from_onnx(&model()).unwrap()
}

fn evaluated(studies: &[CachedPatient]) -> Evaluation {
    evaluate(&segmenter(), given(studies), |_| ()).unwrap()
}

fn report(subject: Subject) -> Report {
    Report::make(&model(), subject, given(&studies()), |_| ()).unwrap()
}

fn split() -> Split {
    let list = |name: &str| vec![name.to_owned()];
    Split {
        data_set: String::new(),
        note: String::new(),
        train: list("a"),
        validation: list("b"),
        test: vec!["<b>".to_owned(), "plain".to_owned()],
        folds: Vec::new(),
    }
}

fn subject(part: Part) -> Subject {
    Subject::Data {
        name: "tiny & small".to_owned(),
        split: Some(SplitPart::new("split.json", &split(), part)),
    }
}

fn assert_estimate(actual: Option<Estimate>, expected: [f64; 3], n: usize) {
    let actual = actual.unwrap();
    let found = [actual.value, actual.low, actual.high];
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-12, "{actual:?}");
    }
    assert_eq!(actual.n, n);
}

#[test]
fn the_four_figures_are_those_counted_by_hand() {
    let mut seen = Vec::new();
    let studies = studies();
    let evaluation = evaluate(&segmenter(), given(&studies), |patient| {
        seen.push(patient.patient.clone());
    })
    .unwrap();
    assert_eq!(seen, ["<b>", "plain"]);
    let summary = &evaluation.summary;
    assert_eq!(
        (summary.patients, summary.slices, summary.tumour_slices),
        (2, 5, 3)
    );
    assert_eq!(evaluation.rescaled_slices, 1);
    // First patient: 2 pixels right, 2 + 3 too many, 2 missed; second: 4 right, 6 missed. Resamples
    // of two patients hold one of them twice half of the time, which is what the intervals end at.
    let (first, second) = (4.0 / 11.0, 8.0 / 14.0);
    assert_eq!(
        evaluation.volume_dice().collect::<Vec<_>>(),
        [("<b>", first), ("plain", second)]
    );
    let middle = (first + second) / 2.0;
    assert_estimate(summary.volume_dice_mean, [middle, first, second], 2);
    assert_estimate(summary.volume_dice_median, [middle, first, second], 2);
    assert_estimate(summary.tumour_slice_dice, [0.5, 0.5, 0.5], 3);
    assert_estimate(summary.all_slice_dice, [0.5, 0.5, 0.5], 5);
    // The second patient has no empty slice: a resample of it alone has no rate.
    assert_estimate(summary.false_positive_rate, [0.5, 0.5, 0.5], 2);
}

#[test]
fn the_gallery_shows_what_it_says() {
    let evaluation = evaluated(&studies());
    let gallery = &evaluation.gallery;
    let name = |exhibit: &Exhibit| exhibit.score.slice.clone();
    assert_eq!(
        gallery.best().map(name).collect::<Vec<_>>(),
        ["found", "half, found"]
    );
    assert_eq!(
        gallery.worst().map(name).collect::<Vec<_>>(),
        ["missed", "false", "half, found"]
    );
    assert_eq!(
        gallery.worst_with_tumour().map(name).collect::<Vec<_>>(),
        ["missed", "half, found"]
    );
    let wrong: Vec<_> = gallery.false_positives().collect();
    assert_eq!(wrong.len(), 1);
    assert_eq!(
        (wrong[0].patient.as_str(), name(wrong[0])),
        ("<b>", "false".to_owned())
    );
    assert_eq!(wrong[0].slice, studies()[0].slices[1]);
    assert_eq!(
        (&wrong[0].prediction, &wrong[0].truth),
        (&mask(1..4), &mask(0..0))
    );
    assert_eq!(wrong[0].probability.threshold(0.5), mask(1..4));
}

#[test]
fn studies_read_one_by_one_score_as_those_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut studies = studies();
    studies[0].id = "first".to_owned();
    for study in &mut studies {
        let folder = folder.path().join(&study.id);
        fs::create_dir(&folder).unwrap();
        for (number, (slice, mask)) in study.slices.iter_mut().zip(&study.masks).enumerate() {
            // Read back from an 8-bit file.
            *slice = Slice::new(SIDE, SIDE, slice.pixels().to_vec(), Intensity::EightBit).unwrap();
            study.names[number] = format!("{}_{number}", study.id);
            let name = &study.names[number];
            fs::write(folder.join(format!("{name}.tif")), encode_slice_tiff(slice)).unwrap();
            fs::write(
                folder.join(format!("{name}_mask.tif")),
                encode_mask_tiff(mask),
            )
            .unwrap();
        }
    }
    let dataset = Dataset::open(folder.path()).unwrap();
    let limits = Limits::default();
    let streamed = evaluate(&segmenter(), decoded(&dataset, &limits), |_| ()).unwrap();
    assert_eq!(streamed.patients, evaluated(&studies).patients);

    fs::write(folder.path().join("plain/plain_1.tif"), "no image").unwrap();
    let mut scored = Vec::new();
    let error = evaluate(
        &segmenter(),
        decoded(&dataset, &limits),
        |patient: &PatientScore| {
            scored.push(patient.patient.clone());
        },
    )
    .unwrap_err();
    assert!(error.to_string().contains("plain_1.tif"), "{error}");
    assert_eq!(scored, ["first"]);
}

#[test]
fn phantoms_are_studies_too() {
    let studies: Vec<CachedPatient> = phantoms(3..5).map(Result::unwrap).collect();
    assert_eq!(
        [&*studies[0].id, &*studies[1].id],
        ["phantom-3", "phantom-4"]
    );
    assert_ne!(studies[0].slices, studies[1].slices);
    let study = &studies[0];
    assert_eq!(study.names[1], "phantom-3_2");
    assert_eq!(study.names.len(), study.slices.len());
    assert_eq!(study.masks.len(), study.slices.len());
    assert!(study.masks.iter().any(|mask| !mask.is_empty()));
}

#[test]
fn what_cannot_be_scored_is_named() {
    let fails =
        |studies: &[CachedPatient]| evaluate(&segmenter(), given(studies), |_| ()).unwrap_err();
    assert!(matches!(fails(&[]), EvaluateError::NoPatients));

    let mut uneven = studies();
    uneven[1].masks.pop();
    let error = fails(&uneven).to_string();
    assert!(
        error.contains("plain") && error.contains("1 masks for 2 slices"),
        "{error}"
    );

    let mut small = studies();
    small[1].masks[1] = Mask::empty(8, 8);
    let error = fails(&small).to_string();
    assert!(
        error.contains("slice missed") && error.contains("8x8"),
        "{error}"
    );
}

#[test]
fn the_volume_dice_of_each_patient_judges_a_model_for_publishing() {
    let studies = studies();
    let judge: &dyn Judge = &|onnx: &[u8]| Ok(volume_dice(onnx, given(&studies))?);
    let close = |scores: Vec<f64>, expected: [f64; 2]| {
        let all = scores.iter().zip(expected);
        scores.len() == 2 && all.into_iter().all(|(s, e)| (s - e).abs() < 1e-12)
    };
    let scores = judge.volume_dice(&model()).unwrap();
    assert!(close(scores, [4.0 / 11.0, 8.0 / 14.0]));
    // Everything is brighter than 0.2: 16 x 16 pixels are found on each of the slices.
    let bright = threshold_model("tiny-2", 0.2, SIDE as u32, Vec::new());
    let worse = judge.volume_dice(&bright).unwrap();
    assert!(close(
        worse,
        [8.0 / (3.0 * 256.0 + 4.0), 20.0 / (2.0 * 256.0 + 10.0)]
    ));
    assert!(judge.volume_dice(b"no model").is_err());
}

#[test]
fn the_terminal_table_is_aligned() {
    let text = report(subject(Part::Test)).to_string();
    let sha256 = sha256_hex(&model());
    let expected = format!(
        "model     tiny-1
sha256    {sha256}
on        tiny & small, test patients of split.json (2 patients, 5 slices)
protocol  glioseg-scoring-1

figure                   value        95 % interval  n
volume Dice, mean        0.468       0.364 to 0.571  2 patients
volume Dice, median      0.468       0.364 to 0.571  2 patients
tumour-slice Dice        0.500       0.500 to 0.500  3 slices with tumour
all-slice Dice           0.500       0.500 to 0.500  5 slices
false-positive rate     50.0 %     50.0 % to 50.0 %  2 slices without tumour
calibration error    0.57 % of all pixels, undefined of those in doubt (1 to 99 %)
rank correlation     0.25 of expected and true Dice over all slices, 0.00 over those with tumour

note: The model was trained by another split: these patients may have trained it.
note: 1 of 5 slices are not 8-bit; each channel was mapped to 0..255 from its own 0th to 99.9th percentile.
research use only; not a medical device
"
    );
    assert_eq!(text, expected);
}

#[test]
fn figures_that_promise_too_much_are_cautioned_against() {
    let said = |subject, words: &str| {
        let cautions = report(subject).cautions();
        cautions.iter().any(|caution| caution.contains(words))
    };
    assert!(said(Subject::Phantoms, "say nothing of patients"));
    assert!(said(subject(Part::Train), "trained the model"));
    assert!(said(subject(Part::Validation), "chose the model"));
    let all = || Subject::Data {
        name: "all".to_owned(),
        split: None,
    };
    assert!(said(all(), "No split"));

    let mut same_split = report(subject(Part::Test));
    same_split.model.provenance.split_digest = split().digest();
    same_split.evaluation.rescaled_slices = 0;
    assert_eq!(same_split.cautions(), Vec::<String>::new());
}

fn written() -> (TempDir, String, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let files = report(subject(Part::Test))
        .write(&folder.path().join("new/out"))
        .unwrap();
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let texts = (read(&files.json), read(&files.csv), read(&files.html));
    (folder, texts.0, texts.1, texts.2)
}

#[test]
fn three_whole_files_are_written() {
    let (folder, ..) = written();
    let mut names: Vec<_> = fs::read_dir(folder.path().join("new/out"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["evaluation.json", "report.html", "slices.csv"]);

    let taken = folder.path().join("taken");
    fs::create_dir_all(taken.join("report.html/inside")).unwrap();
    let error = report(Subject::Phantoms).write(&taken).unwrap_err();
    assert!(matches!(&error, ReportError::Write { path, .. } if path.ends_with("report.html")));
    assert_eq!(fs::read_dir(&taken).unwrap().count(), 1, "no partial file");

    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = report(Subject::Phantoms).write(&file).unwrap_err();
    assert!(
        error.to_string().contains("file: cannot be written"),
        "{error}"
    );
}

#[test]
fn the_csv_has_a_row_a_slice_and_leaves_the_undefined_empty() {
    let (_folder, _, csv, _) = written();
    let third = 1.0 / 3.0;
    // Every pixel that is not found has the same small probability, every other one all but 1.
    let background = 1.0 / (1.0 + (50.0_f64 * (0.5 - 100.0 / 255.0)).exp());
    let found = |pixels: f64| {
        let outside = ((SIDE * SIDE) as f64 - pixels) * background;
        format!("{:.4}", 2.0 * pixels / (2.0 * pixels + outside))
    };
    let (four, three) = (found(4.0), found(3.0));
    let none = format!("{:.4}", 1.0 - background);
    let (mut csv, expected_dice): (String, Vec<String>) = csv
        .lines()
        .map(|row| {
            let (row, expected) = row.rsplit_once(',').unwrap();
            (format!("{row}\n"), expected.to_owned())
        })
        .unzip();
    let rounded: Vec<String> = expected_dice[1..]
        .iter()
        .map(|value| format!("{:.4}", value.parse::<f64>().unwrap()))
        .collect();
    assert_eq!(rounded, [four.clone(), three, none.clone(), four, none]);
    assert_eq!(expected_dice[0], "expected_dice");
    // The percentile is interpolated: 1 + 0.85 * (2 - 1), up to rounding.
    for close in ["1.8499999999999999", "1.8499999999999996"] {
        csv = csv.replace(close, "1.85");
    }
    let expected = format!(
        "patient,slice,true_area,predicted_area,dice,iou,precision,recall,hd95,average_surface_distance
<b>,\"half, found\",4,4,0.5,{third},0.5,0.5,1.85,0.75
<b>,false,0,3,0,0,0,,,
<b>,empty,0,0,1,1,,,,
plain,found,4,4,1,1,1,1,0,0
plain,missed,6,0,0,0,,0,,
"
    );
    assert_eq!(csv, expected);
}

#[test]
fn the_json_names_model_data_split_and_n() {
    let (_folder, json, ..) = written();
    let report: Value = serde_json::from_str(&json).unwrap();
    // As text, since reading a number as JSON may change its last bit.
    let volume_dice = format!("\"volume_dice\": {},", 4.0 / 11.0);
    assert!(json.contains(&volume_dice), "{json}");
    assert_eq!(report["schema"], "glioseg-evaluation-2");
    assert_eq!(report["notice"], "research use only; not a medical device");
    assert_eq!(report["model"]["version"], "tiny-1");
    assert_eq!(report["model"]["sha256"], sha256_hex(&model()));
    assert_eq!(report["model"]["licence"], "CC-BY-NC-SA-4.0");
    assert_eq!(
        report["subject"],
        json!({
            "kind": "data",
            "name": "tiny & small",
            "split": {"name": "split.json", "digest": split().digest(), "part": "test"},
        })
    );
    let summary = &report["summary"];
    assert_eq!(summary["protocol"], "glioseg-scoring-1");
    for figure in [
        "volume_dice_mean",
        "volume_dice_median",
        "tumour_slice_dice",
        "all_slice_dice",
        "false_positive_rate",
    ] {
        for field in ["value", "low", "high", "n"] {
            assert!(summary[figure][field].is_number(), "{figure}.{field}");
        }
    }
    assert_eq!(report["rescaled_slices"], 1);
    let certainty = &report["certainty"];
    // Every pixel is certain; two of the slices with tumour are expected to be good that are not.
    assert_eq!(certainty["pixels_in_doubt"], 0);
    assert_eq!(
        certainty["expected_calibration_error_in_doubt"],
        Value::Null
    );
    assert_eq!(certainty["by_expected_dice"].as_array().unwrap().len(), 4);
    for figure in ["expected_calibration_error", "rank_correlation"] {
        assert!(certainty[figure].is_number(), "{figure}");
    }
    assert_eq!(
        report["patients"][0],
        json!({
            "patient": "<b>",
            "slices": 3,
            "tumour_slices": 1,
            "false_positive_slices": 1,
            "true_area": 4,
            "predicted_area": 7,
            "volume_dice": report["patients"][0]["volume_dice"],
            "tumour_slice_dice": 0.5,
            "precision": 2.0 / 7.0,
            "recall": 0.5,
            "counts": {
                "true_positive": 2,
                "false_positive": 5,
                "false_negative": 2,
                "true_negative": 3 * 256 - 9,
            },
        })
    );
}

#[test]
fn the_page_is_self_contained_and_accessible() {
    let (_folder, _, _, html) = written();
    for outside in [
        "http:", "https:", "<script", "<link", "@import", "url(", "<iframe",
    ] {
        assert!(!html.contains(outside), "{outside}");
    }
    // Two slices among the best, three among the worst, two with tumour, one false; and two legends.
    let images = html.matches("<img").count();
    assert_eq!(images, 3 * (2 + 3 + 2 + 1) + 2);
    assert_eq!(html.matches("src=\"data:image/png;base64,").count(), images);
    assert_eq!(html.matches("src=").count(), images);
    assert_eq!(html.matches("alt=\"").count(), images);
    assert_eq!(
        html.matches("role=\"img\" aria-label=\"Histogram").count(),
        2
    );
    for expected in [
        "<html lang=\"en-GB\">",
        "research use only; not a medical device",
        "0.468",
        "0.364 to 0.571",
        "50.0 % to 50.0 %",
        "CC-BY-NC-SA-4.0",
        "tiny-1",
        "On 1 of 2 slices without tumour",
        "trained by another split",
        "HD95 undefined",
        &sha256_hex(&model()),
    ] {
        assert!(html.contains(expected), "{expected}");
    }
}

#[test]
fn names_are_text_on_the_page() {
    let (_folder, _, _, html) = written();
    assert!(!html.contains("<b>"));
    assert!(html.contains("<th scope=\"row\" class=\"name\">&lt;b&gt;</th>"));
    assert!(html.contains("tiny &amp; small"));
}

#[test]
fn the_first_picture_is_flair_of_the_best_slice() {
    let (_folder, _, _, html) = written();
    let best = html.split_once("<h3>Best</h3>").unwrap().1;
    let uri = best.split_once("base64,").unwrap().1;
    let png = BASE64_STANDARD
        .decode(uri.split_once('"').unwrap().0)
        .unwrap();
    let picture = &decode_slices(&png, &Limits::default()).unwrap()[0];
    let found = &studies()[1].slices[0];
    for (x, y) in [(3, ROW), (6, ROW), (7, ROW), (0, 0)] {
        let expected = found.at(x, y, Channel::Flair);
        assert_eq!(picture.at(x, y, Channel::PreContrast), expected);
    }
}
