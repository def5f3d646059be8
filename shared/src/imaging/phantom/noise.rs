//! Randomness for phantoms: smooth 3-D fields, normal noise and blur, the same to the bit on every platform.
//!
//! Only `+ - * /` and square roots are used, which IEEE 754 defines exactly; sines, exponentials and the like differ in
//! the last bit from one mathematics library to the next.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// A number in `0.0..1.0`.
pub(super) fn uniform(rng: &mut ChaCha8Rng) -> f32 {
    // The 24 high bits: every value is exact in f32.
    (rng.next_u32() >> 8) as f32 / 16_777_216.0
}

/// A number in `low..high`.
pub(super) fn between(rng: &mut ChaCha8Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * uniform(rng)
}

/// Rises smoothly from 0 at `low` to 1 at `high`.
pub(super) fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Cells a side before a [`Field`] repeats; a power of two.
const PERIOD: usize = 32;

/// Gradient noise (Perlin, "Improving noise", SIGGRAPH 2002) on a lattice of random gradients; about -0.7..0.7.
pub(super) struct Field {
    gradients: Vec<[f32; 3]>,
}

impl Field {
    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        let gradients = (0..PERIOD * PERIOD * PERIOD)
            .map(|_| {
                loop {
                    let [x, y, z] = std::array::from_fn(|_| between(rng, -1.0, 1.0));
                    let square = x * x + y * y + z * z;
                    // Outside the ball, diagonal directions would be favoured.
                    if square > 0.01 && square <= 1.0 {
                        let length = square.sqrt();
                        return [x / length, y / length, z / length];
                    }
                }
            })
            .collect();
        Self { gradients }
    }

    /// The field at a point, in cells. Integer points are zero, so callers that want independent fields shift by
    /// fractions.
    pub(super) fn at(&self, point: [f32; 3]) -> f32 {
        let floor = point.map(f32::floor);
        let part = [
            point[0] - floor[0],
            point[1] - floor[1],
            point[2] - floor[2],
        ];
        let wrap =
            |axis: usize, step: usize| (floor[axis] as i64 as usize).wrapping_add(step) % PERIOD;
        let columns = [wrap(0, 0), wrap(0, 1)];
        let fade = part.map(|t| t * t * t * (t * (t * 6.0 - 15.0) + 10.0));
        let mut planes = [0.0; 2];
        for (k, plane) in planes.iter_mut().enumerate() {
            let mut lines = [0.0; 2];
            for (j, line) in lines.iter_mut().enumerate() {
                let row = (wrap(2, k) * PERIOD + wrap(1, j)) * PERIOD;
                let (y, z) = (part[1] - j as f32, part[2] - k as f32);
                let ends: [f32; 2] = std::array::from_fn(|i| {
                    let g = self.gradients[row + columns[i]];
                    g[0] * (part[0] - i as f32) + g[1] * y + g[2] * z
                });
                *line = ends[0] + fade[0] * (ends[1] - ends[0]);
            }
            *plane = lines[0] + fade[1] * (lines[1] - lines[0]);
        }
        planes[0] + fade[2] * (planes[1] - planes[0])
    }
}

/// A plane of normal noise with standard deviation 1 (the sum of four uniform numbers, so within ±3.5).
pub(super) fn normal_plane(rng: &mut ChaCha8Rng, pixels: usize) -> Vec<f32> {
    // The standard deviation of the sum of four numbers 0..=65535: 4 times (65536² - 1) / 12, its root.
    const SCALE: f32 = 1.0 / 37_837.23;
    (0..pixels)
        .map(|_| {
            let mut sum = 0i64;
            for _ in 0..2 {
                let bits = rng.next_u32();
                sum += i64::from(bits & 0xffff) + i64::from(bits >> 16);
            }
            (sum - 2 * 65_535) as f32 * SCALE
        })
        .collect()
}

/// Standard deviation of a plane about zero.
pub(super) fn deviation(plane: &[f32]) -> f32 {
    (plane.iter().map(|v| v * v).sum::<f32>() / plane.len() as f32).sqrt()
}

/// Blurs a square plane in place with a kernel of standard deviation `sigma` pixels (binomial, so nearly Gaussian).
///
/// Each pass has the taps (w, 1 - 2w, w) and adds a variance of 2w; edges repeat their last pixel.
pub(super) fn blur(plane: &mut [f32], side: usize, sigma: f32) {
    let variance = sigma * sigma;
    let passes = (variance / 0.4).ceil().max(1.0);
    let weight = variance / (2.0 * passes);
    let mut line = vec![0.0; side];
    for _ in 0..passes as usize {
        for row in plane.chunks_exact_mut(side) {
            line.copy_from_slice(row);
            for (x, value) in row.iter_mut().enumerate() {
                let neighbours = line[x.saturating_sub(1)] + line[(x + 1).min(side - 1)];
                *value += weight * (neighbours - 2.0 * *value);
            }
        }
        let mut above: Vec<f32> = plane[..side].to_vec();
        for y in 0..side {
            let below = (y + 1).min(side - 1) * side;
            for x in 0..side {
                let here = plane[y * side + x];
                plane[y * side + x] = here + weight * (above[x] + plane[below + x] - 2.0 * here);
                above[x] = here;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn fields_are_smooth_bounded_and_zero_on_the_lattice() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let field = Field::new(&mut rng);
        assert_eq!(field.at([-4.0, 7.0, 40.0]), 0.0);
        let mut last = field.at([-50.0, 0.3, 0.6]);
        let mut square = 0.0;
        for step in 1..10_000 {
            let here = field.at([-50.0 + step as f32 * 0.01, 0.3, 0.6]);
            assert!(here.abs() < 1.0 && (here - last).abs() < 0.05);
            square += here * here;
            last = here;
        }
        assert!((0.1..0.5).contains(&(square / 10_000.0_f32).sqrt()));
    }

    #[test]
    fn normal_noise_has_unit_variance_and_blur_keeps_the_mean() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let plane = normal_plane(&mut rng, 128 * 128);
        let mean = plane.iter().sum::<f32>() / plane.len() as f32;
        let variance = plane.iter().map(|v| v * v).sum::<f32>() / plane.len() as f32;
        assert!(
            mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04,
            "{mean} {variance}"
        );

        let mut point = vec![0.0; 33 * 33];
        point[16 * 33 + 16] = 1.0;
        blur(&mut point, 33, 1.7);
        let sum: f32 = point.iter().sum();
        let spread: f32 = (0..33)
            .flat_map(|y| (0..33).map(move |x| (x, y)))
            .map(|(x, y)| point[y * 33 + x] * (x as f32 - 16.0).powi(2))
            .sum();
        assert!(
            (sum - 1.0).abs() < 1e-5 && (spread - 1.7 * 1.7).abs() < 1e-3,
            "{sum} {spread}"
        );
    }
}
