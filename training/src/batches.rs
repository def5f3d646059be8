//! Prepared slices in batches on the device that trains.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use glioseg_shared::imaging::grid::{self, Levels};
use glioseg_shared::imaging::{CHANNELS, Mask, Slice};
use glioseg_shared::model::contract::{Input, Normalization};
use glioseg_shared::model::preprocess;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::data::cache::CachedPatient;

/// Image and mask of every slice, prepared as in serving: image channels first, the mask last.
#[derive(Debug)]
pub struct Batches<'a, B: Backend> {
    sources: Vec<Source<'a>>,
    resident: Option<Vec<Tensor<B, 4>>>,
    input: Input,
    device: B::Device,
}

#[derive(Debug)]
struct Source<'a> {
    slice: &'a Slice,
    mask: &'a Mask,
    patient: usize,
    levels: Levels,
    tumour: bool,
}

impl<'a, B: Backend> Batches<'a, B> {
    /// Prepares the slices of `patients`; they stay on the device when they take at most `resident_bytes` there.
    #[must_use]
    pub fn new(
        patients: &[&'a CachedPatient],
        input: &Input,
        normalization: Normalization,
        resident_bytes: u64,
        device: &B::Device,
    ) -> Self {
        let mut sources = Vec::new();
        for (patient, study) in patients.iter().enumerate() {
            for (slice, mask) in study.slices.iter().zip(&study.masks) {
                sources.push(Source {
                    slice,
                    mask,
                    patient,
                    levels: preprocess::levels([slice], normalization),
                    // As the network sees it: of a tumour of few pixels nothing may be left in a shrunk slice.
                    tumour: !grid::place_mask(mask, input.grid(), input.fit).is_empty(),
                });
            }
        }
        let mut batches = Self {
            sources,
            resident: None,
            input: input.clone(),
            device: device.clone(),
        };
        if batches.device_bytes() <= resident_bytes {
            let all = (0..batches.len()).into_par_iter();
            let tensors = all.map(|i| batches.prepare(&[i])).collect();
            batches.resident = Some(tensors);
        }
        batches
    }

    /// Number of slices.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether there is no slice.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The shorter side of the grid, pixels.
    #[must_use]
    pub fn shortest_side(&self) -> usize {
        let grid = self.input.grid();
        grid.width.min(grid.height)
    }

    /// Position of the patient of a slice among the patients given.
    #[must_use]
    pub fn patient(&self, slice: usize) -> usize {
        self.sources[slice].patient
    }

    /// Slices: `[indices, channels + 1, height, width]`, the last channel the mask as 0 or 1.
    #[must_use]
    pub fn gather(&self, indices: &[usize]) -> Tensor<B, 4> {
        match &self.resident {
            Some(tensors) => {
                let chosen = indices.iter().map(|&i| tensors[i].clone()).collect();
                Tensor::cat(chosen, 0)
            }
            None => self.prepare(indices),
        }
    }

    /// The order of an epoch: every slice with tumour `repeats` times, and all slices without, or as many of them at
    /// random as leave `tumour_share` to the former.
    #[must_use]
    pub fn epoch(&self, tumour_share: f64, repeats: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
        let (tumour, mut empty): (Vec<_>, Vec<_>) =
            (0..self.len()).partition(|&i| self.sources[i].tumour);
        let mut chosen = tumour.repeat(repeats);
        empty.shuffle(rng);
        if tumour_share > 0.0 && !chosen.is_empty() {
            let room = chosen.len() as f64 * (1.0 - tumour_share) / tumour_share;
            empty.truncate(room.round() as usize);
        }
        chosen.append(&mut empty);
        chosen.shuffle(rng);
        chosen
    }

    /// Bytes that all slices take on the device.
    #[must_use]
    pub fn device_bytes(&self) -> u64 {
        let values = self.sources.len() * (CHANNELS + 1) * self.plane();
        (values * size_of::<f32>()) as u64
    }

    fn plane(&self) -> usize {
        self.input.width as usize * self.input.height as usize
    }

    fn prepare(&self, indices: &[usize]) -> Tensor<B, 4> {
        let (grid, fit) = (self.input.grid(), self.input.fit);
        let values: Vec<f32> = indices
            .par_iter()
            .flat_map_iter(|&i| {
                let source = &self.sources[i];
                let image = preprocess::prepare(source.slice, &self.input, &source.levels).values;
                let mask = grid::place_mask(source.mask, grid, fit);
                let mask: Vec<f32> = mask.pixels().iter().map(|&set| f32::from(set)).collect();
                image.into_iter().chain(mask)
            })
            .collect();
        let shape = [indices.len(), CHANNELS + 1, grid.height, grid.width];
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }
}
