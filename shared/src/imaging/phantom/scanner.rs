//! What a scanner makes of the scene: sequences left out, blur, a bias field, gain and noise.

use rand_chacha::ChaCha8Rng;

use super::anatomy::{Head, Place};
use super::noise::{between, blur, deviation, normal_plane, uniform};
use super::statistics;
use crate::imaging::CHANNELS;

/// Index of FLAIR among the channels.
const FLAIR: usize = 1;

/// 95th percentile of the magnitude of complex noise (Rayleigh), in standard deviations of its parts: √(2 ln 20).
const RAYLEIGH_P95: f32 = 2.448;

/// The settings of one study.
pub(super) struct Scanner {
    /// Grey level of the brain's median.
    gain: [f32; CHANNELS],
    /// Standard deviation of the noise, in grey levels.
    noise: [f32; CHANNELS],
    /// Standard deviation of the blur, in pixels of a 256x256 slice.
    blur: [f32; CHANNELS],
    /// Strength of the bias field.
    bias: [f32; CHANNELS],
    /// Where a channel's picture comes from: FLAIR where its own sequence is missing.
    source: [usize; CHANNELS],
}

impl Scanner {
    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        let common = uniform(rng);
        // A channel takes the study's common rank with this probability, which correlates any two of them by its
        // square.
        let keep = statistics::GAIN_CORRELATION.sqrt();
        let gain: [f32; CHANNELS] = std::array::from_fn(|c| {
            let own = uniform(rng);
            let rank = if uniform(rng) < keep { common } else { own };
            statistics::BRAIN[c].at(rank)
        });
        let noise =
            std::array::from_fn(|c| gain[c] * statistics::BACKGROUND[c].sample(rng) / RAYLEIGH_P95);
        let blur = std::array::from_fn(|_| between(rng, 0.5, 0.85));
        let bias = statistics::BIAS.map(|spread| spread.sample(rng));
        let missing = uniform(rng);
        let mut source = [0, 1, 2];
        if missing < statistics::SHARE_WITHOUT_POST_CONTRAST {
            source[2] = FLAIR;
        }
        // No study lacks the first without lacking the second.
        if missing < statistics::SHARE_WITHOUT_PRE_CONTRAST {
            source[0] = FLAIR;
        }
        Self {
            gain,
            noise,
            blur,
            bias,
            source,
        }
    }

    /// The interleaved 8-bit pixels of a slice, from a plane of relative signal for each channel.
    pub(super) fn expose(
        &self,
        head: &Head,
        places: &[Place],
        side: usize,
        mut scene: [Vec<f32>; CHANNELS],
        rng: &mut ChaCha8Rng,
    ) -> Vec<u8> {
        let scale = side as f32 / 256.0;
        for (c, plane) in scene.iter_mut().enumerate() {
            // Always both draws, so that a missing sequence changes nothing else of a study.
            let mut real = normal_plane(rng, side * side);
            let mut imaginary = normal_plane(rng, side * side);
            blur(plane, side, self.blur[c] * scale);
            // The data's slices were interpolated, which makes neighbours' noise alike.
            for noise in [&mut real, &mut imaginary] {
                blur(noise, side, 0.6 * scale);
                let strength = self.noise[c] / deviation(noise).max(1e-6);
                noise.iter_mut().for_each(|n| *n *= strength);
            }
            for (((value, place), a), b) in plane.iter_mut().zip(places).zip(&real).zip(&imaginary)
            {
                // Slow waves: coils are more sensitive on one side than on the other.
                let signal = if *value > 0.0 {
                    let bias = 1.0 + self.bias[c] * head.wave(*place, 110.0, 40.0 + c as f32);
                    *value * bias * self.gain[c]
                } else {
                    0.0
                };
                let (re, im) = (signal + a, *b);
                // The magnitude of a complex signal: Rician noise, so the background is never quite black.
                *value = (re * re + im * im).sqrt();
            }
        }
        (0..side * side)
            .flat_map(|i| {
                self.source
                    .map(|c| (scene[c][i] + 0.5).clamp(0.0, 255.0) as u8)
            })
            .collect()
    }
}
