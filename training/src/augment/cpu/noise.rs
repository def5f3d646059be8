//! Gaussian noise from a seeded stream of bits.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::kernels::elementary::{cosine_and_sine, ln};

/// Pairs of normal numbers that are drawn at a time.
const PAIRS: usize = 512;

/// Adds normal numbers of this standard deviation; the same for the same seed, and nothing for a deviation of zero.
pub(super) fn add(values: &mut [f32], deviation: f32, seed: u64) {
    if deviation == 0.0 {
        return;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut bytes = [0; 8 * PAIRS];
    let mut normal = [0.0f32; 2 * PAIRS];
    for values in values.chunks_mut(normal.len()) {
        rng.fill_bytes(&mut bytes);
        draw(&bytes, &mut normal);
        for (value, normal) in values.iter_mut().zip(&normal) {
            *value += normal * deviation;
        }
    }
}

/// Standard normal numbers from random bits, two from every eight bytes (Box and Muller 1958).
fn draw(bytes: &[u8; 8 * PAIRS], normal: &mut [f32; 2 * PAIRS]) {
    let (words, _) = bytes.as_chunks::<4>();
    let (radii, angles) = words.split_at(PAIRS);
    let (firsts, seconds) = normal.split_at_mut(PAIRS);
    let numbers = firsts.iter_mut().zip(seconds);
    for ((first, second), (radius, angle)) in numbers.zip(radii.iter().zip(angles)) {
        // 1..=2^24 times 2^-24: never zero, which has no logarithm.
        let uniform = ((u32::from_le_bytes(*radius) >> 8) as i32 + 1) as f32 / 16_777_216.0;
        let radius = (-2.0 * ln(uniform)).sqrt();
        // 24 bits say where in the first quadrant, two more in which quadrant.
        let bits = u32::from_le_bytes(*angle);
        let place = (bits >> 8) as i32 as f32 / 16_777_216.0 - 0.5;
        let (cosine, sine) = cosine_and_sine(place * std::f32::consts::FRAC_PI_2);
        let radius = radius * std::f32::consts::FRAC_1_SQRT_2;
        *first = with_sign((cosine - sine) * radius, bits);
        *second = with_sign((cosine + sine) * radius, bits >> 1);
    }
}

/// The value, or its opposite if the last of these bits is set.
fn with_sign(value: f32, bits: u32) -> f32 {
    f32::from_bits(value.to_bits() ^ (bits << 31))
}
