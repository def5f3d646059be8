//! Lesions: irregular bodies of tumour and oedema inside the brain.

use rand_chacha::ChaCha8Rng;

use super::anatomy::{HEIGHT, Head, Place, Signal, Tissue};
use super::noise::{between, smoothstep, uniform};
use super::statistics;
use crate::imaging::CHANNELS;

/// A lesion's place, shape and brightness.
pub(super) struct Lesion {
    centre: Place,
    /// Half axes in pixels; the third is along the way up.
    axes: [f32; 3],
    /// First half axis' direction in the slice.
    direction: [f32; 2],
    ruggedness: f32,
    /// Tells the random fields of a study's lesions apart.
    which: f32,
    /// Relative to the brain's median.
    signal: Signal,
    heterogeneity: f32,
    enhancing: bool,
    cystic: bool,
}

impl Lesion {
    /// Draws a lesion inside the brain of `head`.
    pub(super) fn new(rng: &mut ChaCha8Rng, head: &Head, number: usize) -> Self {
        let centre = site(rng, head);
        let area = statistics::LARGEST_AREA.sample(rng);
        // Large lesions are also long; the rest of the length is chance.
        let rank =
            (statistics::LARGEST_AREA.rank(area) + between(rng, -0.35, 0.35)).clamp(0.0, 1.0);
        let length = statistics::TUMOUR_SLICE_SHARE.at(rank) * HEIGHT * super::COVERED;
        let radius = (area / std::f32::consts::PI).sqrt();
        let aspect = between(rng, 1.0, 1.5);
        let direction = loop {
            let [x, y] = [between(rng, -1.0, 1.0), between(rng, -1.0, 1.0)];
            let length = (x * x + y * y).sqrt();
            if length > 0.05 {
                break [x / length, y / length];
            }
        };
        let bright = uniform(rng);
        let dark = uniform(rng);
        let mut lesion = Self {
            centre,
            axes: [radius * aspect.sqrt(), radius / aspect.sqrt(), length / 2.0],
            direction,
            ruggedness: between(rng, 0.6, 1.3),
            which: 20.0 + 7.0 * number as f32,
            signal: [
                statistics::LESION[0].at(dark),
                statistics::LESION[1].at(bright),
                statistics::LESION[2].at(dark),
            ],
            heterogeneity: between(rng, 0.4, 1.0),
            enhancing: uniform(rng) < statistics::SHARE_ENHANCING,
            cystic: uniform(rng) < 0.1,
        };
        lesion.fit(head, area);
        lesion
    }

    /// Scales the half axes in the slice until the middle slice's area is about `area`: the border's folds and the
    /// brain's surface take some of an ellipse's area away.
    fn fit(&mut self, head: &Head, area: f32) {
        const STEP: f32 = 3.0;
        /// The slice through the centre's area, as part of the largest area of any slice.
        const FULLEST: f32 = 0.88;
        for _ in 0..4 {
            let mut count = 0u32;
            for j in -30..=30 {
                for i in -30..=30 {
                    let place = Place {
                        x: self.centre.x + STEP * i as f32,
                        y: self.centre.y + STEP * j as f32,
                        ..self.centre
                    };
                    // The cheap bound first: most of these places are far outside.
                    if self.bound(place) && self.covers(head, place, &head.tissue(place)) {
                        count += 1;
                    }
                }
            }
            let ratio = FULLEST * area / (count.max(1) as f32 * STEP * STEP);
            let factor = ratio.sqrt().clamp(0.75, 1.33);
            self.axes[0] *= factor;
            self.axes[1] *= factor;
        }
    }

    /// Whether a place is near enough that the lesion can show there at all.
    pub(super) fn bound(&self, place: Place) -> bool {
        let [x, y, z] = self.scaled(place);
        x * x + y * y + z * z < 4.5
    }

    fn scaled(&self, place: Place) -> [f32; 3] {
        let (x, y) = (place.x - self.centre.x, place.y - self.centre.y);
        let [c, s] = self.direction;
        [
            (c * x + s * y) / self.axes[0],
            (c * y - s * x) / self.axes[1],
            (place.up - self.centre.up) * HEIGHT / self.axes[2],
        ]
    }

    /// Pixels from the border; positive inside.
    fn depth(&self, head: &Head, place: Place) -> f32 {
        let [x, y, z] = self.scaled(place);
        let radius = (self.axes[0] * self.axes[1]).sqrt();
        let smooth = (1.0 - (x * x + y * y + z * z).sqrt()) * radius;
        // The folds may not make it longer: its length is drawn from the data too.
        let cut = 2.0 * radius * (z.abs() - 0.65).max(0.0);
        // Nor may they stand off it as islands: nearly all of the data's lesions are in one piece.
        let folded = self.ruggedness * smoothstep(-0.7 * radius, -0.1 * radius, smooth);
        smooth - cut
            + folded
                * (1.2 * radius * head.wave(place, 0.9 * radius + 6.0, self.which)
                    + 12.0 * head.wave(place, 14.0, self.which + 1.0)
                    + 4.0 * head.wave(place, 6.5, self.which + 2.0))
    }

    /// Depth with the brain's own borders: a lesion ends at its surface, at the ventricles and at the fissure.
    fn confined(&self, head: &Head, place: Place, tissue: &Tissue) -> f32 {
        let aside = tissue.aside * self.centre.x.signum();
        // Oedema follows white matter and mostly stays on its side, where the fissure is an outright wall.
        let own =
            self.depth(head, place) - 4.0 * self.ruggedness * tissue.grey + 3.0 * aside.min(0.0);
        own.min(tissue.brain_depth - 3.5)
            .min(4.0 * (tissue.ventricle_distance - 0.5))
            .min(aside - 1.5 + 40.0 * (1.0 - tissue.parted))
    }

    /// Whether a place belongs to the lesion.
    pub(super) fn covers(&self, head: &Head, place: Place, tissue: &Tissue) -> bool {
        self.confined(head, place, tissue) > 0.0
    }

    /// Changes the signal of healthy tissue to that of the lesion, and says whether the place belongs to it.
    pub(super) fn stain(&self, head: &Head, place: Place, tissue: &mut Tissue) -> bool {
        let depth = self.confined(head, place, tissue);
        // The reader's outline lies a little outside of the half height of the edge.
        let share = smoothstep(-4.5, 2.2, depth);
        // Swelling presses the sulci around it shut.
        if depth > -14.0 && tissue.ventricle_distance > 3.0 {
            let pressed = 0.6 * tissue.fluid * smoothstep(-14.0, -3.0, depth);
            for signal in &mut tissue.signal {
                *signal += pressed * (1.0 - *signal);
            }
            tissue.fluid -= pressed;
        }
        if share > 0.0 {
            let radius = (self.axes[0] * self.axes[1]).sqrt();
            let mottled = head.wave(place, 13.0, self.which + 3.0)
                + 0.5 * head.wave(place, 6.0, self.which + 4.0);
            let core = smoothstep(0.4 * radius, 0.6 * radius, depth + 8.0 * mottled);
            let hole = if self.cystic { core } else { 0.0 };
            let rim = if self.enhancing {
                let at = (depth - 0.45 * radius).abs();
                smoothstep(3.5, 1.0, at) * smoothstep(-0.15, 0.2, mottled)
            } else {
                0.0
            };
            // What is left of the sulci shows through.
            let effaced = 1.0 - 0.55 * tissue.fluid;
            for c in 0..CHANNELS {
                let change = self.signal[c] - 1.0;
                let mut target = 1.0 + change * (1.0 + self.heterogeneity * mottled);
                target += hole * (statistics::CYST[c] - target);
                if c == 2 {
                    target += 0.8 * rim;
                }
                // Inside, the difference between grey and white matter is mostly lost.
                let healthy = 1.0 + 0.25 * (tissue.signal[c] - 1.0);
                let goal = target * healthy.max(0.5);
                tissue.signal[c] += share * effaced * (goal - tissue.signal[c]);
            }
        }
        depth > 0.0
    }
}

/// A place in the white matter of one half of the brain, as far off the centre as the data's lesions are.
fn site(rng: &mut ChaCha8Rng, head: &Head) -> Place {
    let mut deepest = (
        f32::MIN,
        Place {
            x: 25.0,
            y: 0.0,
            up: 0.6,
        },
    );
    for _ in 0..64 {
        let up = statistics::CENTRE_UP.sample(rng);
        let side = if uniform(rng) < 0.5 { -1.0 } else { 1.0 };
        let place = Place {
            x: side * statistics::OFFSET_X.sample(rng) * head.width(up) / 2.0,
            y: statistics::OFFSET_Y.sample(rng) * head.height(up) / 2.0,
            up,
        };
        let tissue = head.tissue(place);
        let depth = tissue.brain_depth.min(tissue.ventricle_distance + 6.0);
        if depth > 11.0 {
            return place;
        }
        if depth > deepest.0 {
            deepest = (depth, place);
        }
    }
    deepest.1
}
