//! Phantoms: brain-like studies with known lesions, drawn from a seed.
//!
//! They let everything run without patient data. Heads, tissue and lesions are procedural; sizes, intensities and the
//! lesions' frequencies are drawn from percentiles measured on the data set's training patients (`statistics.rs`),
//! and were fixed before any model was run on a phantom. Equal configuration and seed give equal bytes on every platform.

mod anatomy;
mod lesion;
mod noise;
mod scanner;
mod statistics;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;

use self::anatomy::{Head, Place};
use self::lesion::Lesion;
use self::scanner::Scanner;
use super::{CHANNELS, Intensity, Mask, Slice};

/// Way up through the head (0 chin, 1 vertex) of the first slice.
const FIRST: f32 = 0.21;

/// Part of the way up that the slices of a study cover.
const COVERED: f32 = 0.77;

/// What to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhantomConfig {
    /// Slices of the study, from the base of the skull to the vertex: 1..=512.
    pub slices: usize,
    /// Columns and rows of a slice: 32..=1024. The head fills the same part of a slice of any size.
    pub size: usize,
    /// Lesions, each in a place of its own: 0..=16. They may touch.
    pub lesions: usize,
}

impl Default for PhantomConfig {
    /// 24 slices of 256x256 pixels with one lesion, as most patients of the data set have.
    fn default() -> Self {
        Self {
            slices: 24,
            size: 256,
            lesions: 1,
        }
    }
}

/// A configuration that no phantom can be drawn for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a phantom cannot have {value} {what}, only {low} to {high}")]
pub struct PhantomError {
    what: &'static str,
    value: usize,
    low: usize,
    high: usize,
}

impl PhantomConfig {
    fn check(&self) -> Result<(), PhantomError> {
        for (what, value, low, high) in [
            ("slices", self.slices, 1, 512),
            ("pixels a side", self.size, 32, 1024),
            ("lesions", self.lesions, 0, 16),
        ] {
            if !(low..=high).contains(&value) {
                return Err(PhantomError {
                    what,
                    value,
                    low,
                    high,
                });
            }
        }
        Ok(())
    }
}

/// A study with known lesions; the lists have one entry a slice, from the base of the skull upwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Phantom {
    /// The images.
    pub slices: Vec<Slice>,
    /// The lesions: empty on most slices.
    pub masks: Vec<Mask>,
    /// The brain, with its ventricles and the lesions; empty where a slice misses it.
    pub brains: Vec<Mask>,
}

/// The default study of a seed.
#[must_use]
pub fn study(seed: u64) -> Phantom {
    Phantom::draw(&PhantomConfig::default(), seed)
}

impl Phantom {
    /// Draws the study of a configuration and seed, the slices over all cores.
    ///
    /// # Errors
    /// [`PhantomError`] when the configuration is outside of its ranges.
    pub fn generate(config: &PhantomConfig, seed: u64) -> Result<Self, PhantomError> {
        config.check()?;
        Ok(Self::draw(config, seed))
    }

    fn draw(config: &PhantomConfig, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let head = Head::new(&mut rng);
        let scanner = Scanner::new(&mut rng);
        let lesions: Vec<Lesion> = (0..config.lesions)
            .map(|number| Lesion::new(&mut rng, &head, number))
            .collect();
        let drawn: Vec<_> = (0..config.slices)
            .into_par_iter()
            .map(|number| {
                // A stream of its own for each slice, whichever core draws it.
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(number as u64 + 1);
                let part = (number as f32 + 0.5) / config.slices as f32;
                draw_slice(
                    &head,
                    &lesions,
                    &scanner,
                    FIRST + COVERED * part,
                    config.size,
                    &mut rng,
                )
            })
            .collect();
        let mut phantom = Self {
            slices: Vec::with_capacity(config.slices),
            masks: Vec::with_capacity(config.slices),
            brains: Vec::with_capacity(config.slices),
        };
        for (slice, mask, brain) in drawn {
            phantom.slices.push(slice);
            phantom.masks.push(mask);
            phantom.brains.push(brain);
        }
        phantom
    }
}

/// One slice `up` through the head: image, lesions, brain.
#[expect(clippy::expect_used, reason = "sizes and lengths are those made here")]
fn draw_slice(
    head: &Head,
    lesions: &[Lesion],
    scanner: &Scanner,
    up: f32,
    side: usize,
    rng: &mut ChaCha8Rng,
) -> (Slice, Mask, Mask) {
    let [centre_x, centre_y] = Head::centre(up);
    let step = 256.0 / side as f32;
    let places: Vec<Place> = (0..side * side)
        .map(|i| Place {
            x: ((i % side) as f32 + 0.5) * step - centre_x,
            y: ((i / side) as f32 + 0.5) * step - centre_y,
            up,
        })
        .collect();
    let mut scene: [Vec<f32>; CHANNELS] = std::array::from_fn(|_| vec![0.0; side * side]);
    let mut mask = Mask::empty(side, side);
    let mut brain = Mask::empty(side, side);
    for (i, &place) in places.iter().enumerate() {
        let mut tissue = head.tissue(place);
        for lesion in lesions {
            if tissue.brain_depth > 0.0 && lesion.bound(place) {
                mask.pixels_mut()[i] |= lesion.stain(head, place, &mut tissue);
            }
        }
        brain.pixels_mut()[i] = tissue.brain_depth > 0.0;
        for (plane, &signal) in scene.iter_mut().zip(&tissue.signal) {
            plane[i] = signal.max(0.0);
        }
    }
    let pixels = scanner.expose(head, &places, side, scene, rng);
    let slice = Slice::new(side, side, pixels, Intensity::EightBit)
        .expect("three values were made for each of at least one pixel");
    (slice, mask, brain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use sha2::{Digest, Sha256};
    use std::sync::LazyLock;

    use super::*;
    use crate::imaging::Channel;

    /// Enough studies for their mean to say something, drawn once for all tests.
    static STUDIES: LazyLock<Vec<Phantom>> = LazyLock::new(|| (0..12).map(study).collect());

    fn digest(phantom: &Phantom) -> String {
        let mut hash = Sha256::new();
        for (slice, mask) in phantom.slices.iter().zip(&phantom.masks) {
            hash.update(slice.pixels());
            hash.update(
                mask.pixels()
                    .iter()
                    .map(|&set| u8::from(set))
                    .collect::<Vec<_>>(),
            );
        }
        hash.finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The values of one channel where `choose` says so, by the pixel's index.
    fn values(slice: &Slice, channel: Channel, choose: impl Fn(usize) -> bool) -> Vec<u8> {
        slice
            .pixels()
            .chunks_exact(CHANNELS)
            .enumerate()
            .filter(|(i, _)| choose(*i))
            .map(|(_, pixel)| pixel[channel as usize])
            .collect()
    }

    fn percentile(mut values: Vec<u8>, percent: usize) -> f64 {
        assert!(!values.is_empty());
        values.sort_unstable();
        f64::from(values[(values.len() - 1) * percent / 100])
    }

    fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
        let (sum, n) = values
            .into_iter()
            .fold((0.0, 0.0), |(sum, n), v| (sum + v, n + 1.0));
        sum / n
    }

    /// The number of the slice on which the lesion is largest.
    fn largest(phantom: &Phantom) -> usize {
        (0..phantom.masks.len())
            .max_by_key(|&z| phantom.masks[z].area())
            .unwrap()
    }

    #[test]
    fn a_seed_always_gives_the_same_bytes() {
        // Frozen: a change of this digest is a change of the phantoms that reported figures were computed on.
        assert_eq!(
            digest(&STUDIES[7]),
            "3eb61e0cd3da1aa39d04817fd6acbc5801facb8ddfdd50ae99447e55261e200c"
        );
        let one = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        assert_eq!(one.install(|| study(7)), STUDIES[7]);
    }

    #[test]
    fn seeds_differ_in_head_and_lesion() {
        for pair in STUDIES.windows(2) {
            assert_ne!(pair[0].slices[12], pair[1].slices[12]);
            assert_ne!(pair[0].masks, pair[1].masks);
            assert_ne!(pair[0].brains, pair[1].brains);
        }
    }

    #[test]
    fn slices_and_masks_have_the_size_and_number_asked_for() {
        for (slices, size, lesions) in [(1, 32, 1), (3, 97, 0), (5, 256, 3), (2, 512, 1)] {
            let config = PhantomConfig {
                slices,
                size,
                lesions,
            };
            let phantom = Phantom::generate(&config, 1).unwrap();
            assert_eq!(phantom.slices.len(), slices);
            assert_eq!(phantom.masks.len(), slices);
            assert_eq!(phantom.brains.len(), slices);
            for (slice, mask) in phantom
                .slices
                .iter()
                .zip(phantom.masks.iter().chain(&phantom.brains))
            {
                assert_eq!((slice.width(), slice.height()), (size, size));
                assert_eq!((mask.width(), mask.height()), (size, size));
            }
            if lesions == 0 {
                assert!(phantom.masks.iter().all(Mask::is_empty));
            }
        }
    }

    #[test]
    fn configurations_out_of_range_are_refused() {
        for (slices, size, lesions) in [
            (0, 256, 1),
            (513, 256, 1),
            (4, 31, 1),
            (4, 1025, 1),
            (4, 256, 17),
        ] {
            let config = PhantomConfig {
                slices,
                size,
                lesions,
            };
            assert!(Phantom::generate(&config, 1).is_err(), "{config:?}");
        }
        let config = PhantomConfig {
            slices: 0,
            ..PhantomConfig::default()
        };
        assert_eq!(
            Phantom::generate(&config, 1).unwrap_err().to_string(),
            "a phantom cannot have 0 slices, only 1 to 512"
        );
    }

    #[test]
    fn every_lesion_lies_inside_the_brain_and_spans_neighbouring_slices() {
        for phantom in STUDIES.iter() {
            let with: Vec<usize> = (0..24).filter(|&z| !phantom.masks[z].is_empty()).collect();
            assert!((2..=16).contains(&with.len()), "{with:?}");
            for (mask, brain) in phantom.masks.iter().zip(&phantom.brains) {
                let mut pairs = mask.pixels().iter().zip(brain.pixels());
                assert!(pairs.all(|(&lesion, &brain)| brain || !lesion));
            }
            let areas = with.iter().map(|&z| phantom.masks[z].area() as f64);
            let [whole, span] = [areas.sum(), (with[with.len() - 1] - with[0] + 1) as f64];
            assert!(
                whole > 500.0 && span <= with.len() as f64 + 1.0,
                "{whole} {with:?}"
            );
        }
    }

    #[test]
    fn lesions_are_as_large_and_as_frequent_as_in_the_data() {
        let share = mean(STUDIES.iter().map(|phantom| {
            phantom.masks.iter().filter(|mask| mask.is_empty()).count() as f64 / 24.0
        }));
        // In the data, 65 % of the slices are empty.
        assert!((0.60..0.72).contains(&share), "{share}");
        let area = |phantom: &Phantom| phantom.masks[largest(phantom)].area() as f64;
        for phantom in STUDIES.iter() {
            // The data's 5th and 95th percentiles, with a margin for the border's folds.
            let [low, high] = [0, 4].map(|i| f64::from(statistics::LARGEST_AREA.0[i]));
            assert!(
                (0.6 * low..1.2 * high).contains(&area(phantom)),
                "{}",
                area(phantom)
            );
        }
        let middle = f64::from(statistics::LARGEST_AREA.at(0.5));
        let typical = mean(STUDIES.iter().map(area));
        assert!((0.7 * middle..1.4 * middle).contains(&typical), "{typical}");
    }

    #[test]
    fn intensities_are_those_of_the_data() {
        let mut contrast = Vec::new();
        for phantom in STUDIES.iter() {
            let z = largest(phantom);
            let (slice, mask, brain) = (&phantom.slices[z], &phantom.masks[z], &phantom.brains[z]);
            for (c, channel) in [Channel::PreContrast, Channel::Flair, Channel::PostContrast]
                .into_iter()
                .enumerate()
            {
                let tissue = values(slice, channel, |i| brain.pixels()[i] && !mask.pixels()[i]);
                let median = percentile(tissue, 50);
                // A missing sequence is a copy of FLAIR, with its grey levels.
                let spread = [statistics::BRAIN[c], statistics::BRAIN[1]];
                let low = spread.map(|s| s.0[0]).into_iter().fold(f32::MAX, f32::min);
                let high = spread.map(|s| s.0[4]).into_iter().fold(0.0, f32::max);
                assert!(
                    (0.8 * f64::from(low)..1.15 * f64::from(high)).contains(&median),
                    "{median}"
                );
                // The corner of the slice is air.
                let air = values(slice, channel, |i| i / 256 < 8 && i % 256 < 32);
                assert!(percentile(air.clone(), 50) <= 8.0 && percentile(air, 95) <= 20.0);
            }
            let flair = |choose: &dyn Fn(usize) -> bool| {
                percentile(values(slice, Channel::Flair, choose), 50)
            };
            let lesion = flair(&|i| mask.pixels()[i]);
            contrast.push(lesion / flair(&|i| brain.pixels()[i] && !mask.pixels()[i]));
        }
        // `lesion_to_brain` on FLAIR: 1.17 to 2.07, in the middle 1.51.
        assert!(
            contrast.iter().all(|c| (1.0..2.4).contains(c)),
            "{contrast:?}"
        );
        let typical = mean(contrast.iter().copied());
        assert!((1.35..1.75).contains(&typical), "{typical}");
    }
}
