//! A phantom study as the functions see it.

use glioseg_shared::cloud::keys::{Channel, SliceName, StudyId};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::phantom::{Phantom, PhantomConfig};
use glioseg_shared::imaging::{Mask, ProbabilityMap, Slice, encode_mask_tiff};
use glioseg_shared::model::Segmentation;
use glioseg_shared::study::score::{self, Comparison};
use glioseg_shared::study::{
    Prepared, SliceReport, SliceScoreDocument, Source, Spacing, VolumePlace, report,
};

pub(crate) const MODEL: &str = "fast-0123456789ab";

pub(crate) fn study() -> StudyId {
    StudyId::parse("clinic/phantom 1").unwrap()
}

pub(crate) fn name(number: usize) -> SliceName {
    SliceName::parse(&format!("head_{number}")).unwrap()
}

pub(crate) fn phantom() -> Phantom {
    let config = PhantomConfig {
        slices: 10,
        size: 96,
        lesions: 2,
    };
    Phantom::generate(&config, 3).unwrap()
}

pub(crate) fn spacing() -> Spacing {
    "0.5,0.25,3".parse().unwrap()
}

pub(crate) fn prepared(number: usize, slice: Slice, spacing_mm: Option<Spacing>) -> Prepared {
    let file = format!("head_{number}.tif");
    Prepared {
        study: study(),
        name: name(number),
        slice,
        spacing_mm,
        volume: (number > 0).then(|| VolumePlace {
            file: "head.zip".to_owned(),
            index: number,
            of: number + 1,
        }),
        source: Source {
            sha256: sha256_hex(file.as_bytes()),
            file,
            page: number + 1,
        },
    }
}

/// A prediction: the truth one column to the right, certain by 0.75 inside and by 0.25 outside.
pub(crate) fn prediction(truth: &Mask) -> Segmentation {
    let mut mask = Mask::empty(truth.width(), truth.height());
    let rows = mask.pixels_mut().chunks_exact_mut(truth.width());
    for (to, from) in rows.zip(truth.pixels().chunks_exact(truth.width())) {
        to[1..].copy_from_slice(&from[..from.len() - 1]);
    }
    let probability = mask
        .pixels()
        .iter()
        .map(|&set| if set { 0.75 } else { 0.25 });
    Segmentation {
        probability: ProbabilityMap::new(mask.width(), mask.height(), probability.collect())
            .unwrap(),
        mask,
        model_version: MODEL.to_owned(),
    }
}

pub(crate) fn report(prepared: &Prepared, found: &Segmentation) -> SliceReport {
    report::of(prepared, found, &Channel::parse("fast").unwrap()).unwrap()
}

pub(crate) fn score(
    number: usize,
    prediction: &Mask,
    truth: &Mask,
    spacing_mm: Option<Spacing>,
) -> SliceScoreDocument {
    score::of(&Comparison {
        study: study(),
        slice: name(number),
        prediction,
        truth,
        spacing_mm,
        model_version: Some(MODEL.to_owned()),
        mask_sha256: sha256_hex(&encode_mask_tiff(prediction)),
        truth_sha256: sha256_hex(&encode_mask_tiff(truth)),
    })
    .unwrap()
}
