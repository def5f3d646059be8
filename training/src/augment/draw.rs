//! What is drawn for a sample.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How often and how far samples are transformed. Ranges are symmetric unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Augmentation {
    /// Probability of a left-right mirror image.
    pub mirror_columns: f64,
    /// Probability of an upside-down mirror image.
    pub mirror_rows: f64,
    /// Probability of a rotation.
    pub rotation: f64,
    /// Largest angle of a rotation, radians.
    pub angle: f32,
    /// Probability of an affine scale.
    pub zoom: f64,
    /// Largest relative change of size.
    pub zoom_by: f32,
    /// Probability of a gamma curve.
    pub gamma: f64,
    /// Exponents are drawn log-uniformly from 1 / this to this.
    pub gamma_to: f32,
    /// Probability of a blur.
    pub blur: f64,
    /// Probability of a change of contrast: all values times 1 ± [`Self::factor_by`].
    pub factor: f64,
    /// Largest relative change of intensity.
    pub factor_by: f32,
    /// Probability of a change of brightness: all values plus or minus up to [`Self::shift_by`].
    pub shift: f64,
    /// Largest shift.
    pub shift_by: f32,
    /// Probability that each sequence changes its contrast by itself.
    pub sequence: f64,
    /// Largest relative change of a sequence's intensity.
    pub sequence_by: f32,
    /// Probability that the pre-contrast sequence is missing, and the same for the post-contrast one.
    pub missing: f64,
    /// Probability of Gaussian noise.
    pub noise: f64,
    /// Largest standard deviation of the noise.
    pub noise_to: f32,
}

/// A named set of transforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// Nothing but the crop.
    None,
    /// The transforms of the original system with its parameters.
    Original,
    /// Those, with mirrored rows, wider angles, scale, gamma, blur, and sequences that change by themselves or are missing.
    Strong,
}

impl Preset {
    /// The parameters of this set.
    #[must_use]
    pub fn augmentation(self) -> Augmentation {
        let none = Augmentation {
            mirror_columns: 0.0,
            mirror_rows: 0.0,
            rotation: 0.0,
            angle: 0.0,
            zoom: 0.0,
            zoom_by: 0.0,
            gamma: 0.0,
            gamma_to: 1.0,
            blur: 0.0,
            factor: 0.0,
            factor_by: 0.0,
            shift: 0.0,
            shift_by: 0.0,
            sequence: 0.0,
            sequence_by: 0.0,
            missing: 0.0,
            noise: 0.0,
            noise_to: 0.0,
        };
        let original = Augmentation {
            mirror_columns: 0.5,
            rotation: 0.5,
            angle: 0.26,
            factor: 0.5,
            factor_by: 0.1,
            shift: 0.5,
            shift_by: 0.1,
            noise: 0.5,
            noise_to: 0.1,
            ..none.clone()
        };
        match self {
            Self::None => none,
            Self::Original => original,
            Self::Strong => Augmentation {
                mirror_rows: 0.1,
                rotation: 0.7,
                angle: 0.4,
                zoom: 0.7,
                zoom_by: 0.2,
                gamma: 0.5,
                gamma_to: 2.0,
                blur: 0.2,
                factor_by: 0.2,
                sequence: 0.5,
                sequence_by: 0.7,
                missing: 0.15,
                noise: 0.3,
                noise_to: 0.06,
                ..original
            },
        }
    }
}

/// What happens to one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Left-right mirror image.
    pub mirror_columns: bool,
    /// Upside-down mirror image.
    pub mirror_rows: bool,
    /// Rotation, radians.
    pub angle: f32,
    /// Size of what is seen, relative to the original.
    pub zoom: f32,
    /// Centre of the crop relative to the centre of the image, in pixels: columns, rows.
    pub offset: [f32; 2],
    /// Exponent of the gamma curve.
    pub gamma: f32,
    /// Share of the 3x3 mean in the result.
    pub blur: f32,
    /// Factor of all values.
    pub factor: f32,
    /// Added to all values.
    pub shift: f32,
    /// Factor of each sequence, in the order of the channels.
    pub sequences: [f32; 3],
    /// Whether the pre-contrast and the post-contrast sequence are missing.
    pub missing: [bool; 2],
    /// Standard deviation of the noise.
    pub noise: f32,
    /// Seed of the noise. Backends without kernels for the transforms take the noise from their own generator instead.
    pub noise_seed: u64,
}

impl Draw {
    /// Whether a sequence changes by itself or is missing.
    pub(super) fn changes_sequences(&self) -> bool {
        self.sequences != [1.0; 3] || self.missing != [false; 2]
    }
}

impl Augmentation {
    /// Draws what happens to one sample whose crop leaves `slack` pixels (columns, rows) of the image out.
    pub fn draw(&self, slack: [usize; 2], rng: &mut ChaCha8Rng) -> Draw {
        // Every number is drawn whether it is used or not: a change of one probability leaves the other draws alone.
        let mut symmetric = |probability: f64, range: f32| {
            let chosen = happens(probability, rng);
            let value = range * rng.random_range(-1.0..=1.0);
            if chosen { value } else { 0.0 }
        };
        let angle = symmetric(self.rotation, self.angle);
        let zoom = 1.0 + symmetric(self.zoom, self.zoom_by);
        let gamma = symmetric(self.gamma, self.gamma_to.ln()).exp();
        let blur = symmetric(self.blur, 1.0).abs();
        let factor = 1.0 + symmetric(self.factor, self.factor_by);
        let shift = symmetric(self.shift, self.shift_by);
        let noise = symmetric(self.noise, self.noise_to).abs();
        let sequences = [(); 3].map(|()| 1.0 + symmetric(self.sequence, self.sequence_by));
        let offset =
            slack.map(|left_out| rng.random_range(0..=left_out) as f32 - left_out as f32 / 2.0);
        Draw {
            mirror_columns: happens(self.mirror_columns, rng),
            mirror_rows: happens(self.mirror_rows, rng),
            angle,
            zoom,
            offset,
            gamma,
            blur,
            factor,
            shift,
            sequences,
            missing: [(); 2].map(|()| happens(self.missing, rng)),
            noise,
            noise_seed: rng.random(),
        }
    }
}

/// True with this probability. Unlike `random_bool`, it draws a number for a probability of 1, too.
fn happens(probability: f64, rng: &mut ChaCha8Rng) -> bool {
    rng.random::<f64>() < probability
}
