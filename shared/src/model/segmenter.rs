//! Preprocessing, network and post-processing in a row: a slice in, a mask out.

use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::contract::{Contract, Unit};
use super::error::ModelError;
use super::network::Network;
use super::{onnx, postprocess, preprocess};
use crate::imaging::grid::{Grid, Levels, Placement};
use crate::imaging::{Mask, ProbabilityMap, Slice};

/// Most pixels of a study: their probabilities take 512 MiB.
const MAX_STUDY_PIXELS: u64 = 1 << 27;

/// What a model says of one slice.
#[derive(Clone, Debug, PartialEq)]
pub struct Segmentation {
    /// The tumour, of the slice's size.
    pub mask: Mask,
    /// The probability before thresholding and removal of components, of the slice's size.
    pub probability: ProbabilityMap,
    /// The model that said so.
    pub model_version: String,
}

/// How long the steps of one segmentation took; never part of a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepTimes {
    /// From pixels to the network's input.
    pub preprocessing: Duration,
    /// The network itself.
    pub inference: Duration,
    /// From its output to the mask.
    pub postprocessing: Duration,
}

/// A model ready to segment.
#[derive(Debug)]
pub struct Segmenter {
    contract: Contract,
    network: Network,
}

impl Segmenter {
    /// Reads the contract of an ONNX file and makes its network ready.
    ///
    /// # Errors
    /// [`ModelError`]: the file is no ONNX file, has no contract or one that this code does not
    /// know, holds a network that cannot be run, or one of another size than its contract says.
    pub fn from_onnx(bytes: &[u8]) -> Result<Self, ModelError> {
        let proto = onnx::decode(bytes)?;
        let contract = onnx::contract(&proto)?;
        let network = Network::from_proto(proto)?;
        let promised = contract.input.grid();
        if network.grid() != promised {
            let size = |grid: Grid| format!("{}x{}", grid.width, grid.height);
            return Err(ModelError::Interface {
                what: "input size",
                found: size(network.grid()),
                expected: format!("{} as its contract says", size(promised)),
            });
        }
        Ok(Self { contract, network })
    }

    /// What the model says of itself.
    #[must_use]
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Segments a slice by itself.
    ///
    /// # Errors
    /// [`ModelError::NeedsVolume`] for a model of volumes, [`ModelError::StudyTooLarge`] for a slice of more than 134
    /// million pixels, and what [`Network::logits`] can say.
    pub fn segment(&self, slice: &Slice) -> Result<Segmentation, ModelError> {
        Ok(self.segment_timed(slice)?.0)
    }

    /// Segments a slice as [`Segmenter::segment`] does, and says how long each step took.
    ///
    /// # Errors
    /// Those of [`Segmenter::segment`].
    pub fn segment_timed(&self, slice: &Slice) -> Result<(Segmentation, StepTimes), ModelError> {
        if self.contract.unit == Unit::Volume {
            return Err(ModelError::NeedsVolume {
                model_version: self.contract.model_version.clone(),
            });
        }
        check_pixels(std::slice::from_ref(slice))?;
        self.segment_alone(slice)
    }

    /// Segments all slices of a study, in their order, over all cores.
    ///
    /// A model of slices treats each by itself, exactly as [`Segmenter::segment`] does; a model of
    /// volumes normalises them, and finds components, over all of them.
    ///
    /// # Errors
    /// [`ModelError::StudyTooLarge`] for more than 134 million pixels in all, [`ModelError::UnequalSlices`] for a volume
    /// of slices that differ in size, and what [`Network::logits`] can say.
    pub fn segment_study(&self, slices: &[Slice]) -> Result<Vec<Segmentation>, ModelError> {
        check_pixels(slices)?;
        match self.contract.unit {
            Unit::Slice => slices
                .par_iter()
                .map(|slice| Ok(self.segment_alone(slice)?.0))
                .collect(),
            Unit::Volume => self.segment_volume(slices),
        }
    }

    fn segment_alone(&self, slice: &Slice) -> Result<(Segmentation, StepTimes), ModelError> {
        let start = Instant::now();
        let levels = preprocess::levels([slice], self.contract.preprocessing.normalization);
        let prepared = preprocess::prepare(slice, &self.contract.input, &levels);
        let prepared_at = Instant::now();
        let logits = self.network.logits(&prepared.values)?;
        let run_at = Instant::now();
        let probability = postprocess::probabilities(&logits, &prepared.placement)?;
        let rule = &self.contract.postprocessing;
        let mask = postprocess::mask(&probability, &prepared.placement, rule);
        let times = StepTimes {
            preprocessing: prepared_at - start,
            inference: run_at - prepared_at,
            postprocessing: run_at.elapsed(),
        };
        Ok((self.segmentation(mask, probability), times))
    }

    fn segment_volume(&self, slices: &[Slice]) -> Result<Vec<Segmentation>, ModelError> {
        check_equal_sizes(slices)?;
        let Some(first) = slices.first() else {
            return Ok(Vec::new());
        };
        let levels = preprocess::levels(slices, self.contract.preprocessing.normalization);
        let probabilities = slices
            .par_iter()
            .map(|slice| self.probabilities(slice, &levels))
            .collect::<Result<Vec<_>, _>>()?;
        let placement = Placement::of(first, self.network.grid(), self.contract.input.fit);
        let rule = &self.contract.postprocessing;
        let masks = postprocess::volume_masks(&probabilities, &placement, rule)?;
        Ok(masks
            .into_iter()
            .zip(probabilities)
            .map(|(mask, probability)| self.segmentation(mask, probability))
            .collect())
    }

    fn probabilities(&self, slice: &Slice, levels: &Levels) -> Result<ProbabilityMap, ModelError> {
        let prepared = preprocess::prepare(slice, &self.contract.input, levels);
        let logits = self.network.logits(&prepared.values)?;
        Ok(postprocess::probabilities(&logits, &prepared.placement)?)
    }

    fn segmentation(&self, mask: Mask, probability: ProbabilityMap) -> Segmentation {
        Segmentation {
            mask,
            probability,
            model_version: self.contract.model_version.clone(),
        }
    }
}

fn check_pixels(slices: &[Slice]) -> Result<(), ModelError> {
    let pixels = slices
        .iter()
        .map(|slice| slice.width() as u64 * slice.height() as u64)
        .sum();
    if pixels > MAX_STUDY_PIXELS {
        return Err(ModelError::StudyTooLarge {
            pixels,
            limit: MAX_STUDY_PIXELS,
        });
    }
    Ok(())
}

fn check_equal_sizes(slices: &[Slice]) -> Result<(), ModelError> {
    let size = |slice: &Slice| (slice.width(), slice.height());
    let Some(first) = slices.first().map(size) else {
        return Ok(());
    };
    match slices.iter().position(|slice| size(slice) != first) {
        None => Ok(()),
        Some(index) => Err(ModelError::UnequalSlices {
            index,
            actual: size(&slices[index]),
            first,
        }),
    }
}
