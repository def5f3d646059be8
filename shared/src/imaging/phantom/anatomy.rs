//! The healthy head: which tissue lies where, and how bright it is on each sequence.
//!
//! Places are given in pixels of a 256x256 slice from the centre of the head, x to the image's right and y to the back of
//! the head (down), and in the way up through the head, 0 to 1. Intensities are relative to the brain's median.

use rand_chacha::ChaCha8Rng;

use super::noise::{Field, between, smoothstep, uniform};
use super::statistics::{self, Profile};
use crate::imaging::CHANNELS;

/// Pixels from the bottom to the top of the head: what one unit of the way up is in a slice's own unit.
pub(super) const HEIGHT: f32 = 190.0;

/// A relative intensity on each sequence.
pub(super) type Signal = [f32; CHANNELS];

/// A place in the head.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) x: f32,
    pub(super) y: f32,
    /// Way up, 0..=1.
    pub(super) up: f32,
}

/// What is found at a place.
pub(super) struct Tissue {
    pub(super) signal: Signal,
    /// Pixels from here to the brain's surface; negative outside of the brain.
    pub(super) brain_depth: f32,
    /// Share of fluid in sulci, fissures and ventricles, 0..=1.
    pub(super) fluid: f32,
    /// Pixels to the wall of the nearest ventricle; negative inside.
    pub(super) ventricle_distance: f32,
    /// Whether the halves of the brain are parted by the fissure at this height of the slice, 0..=1.
    pub(super) parted: f32,
    /// Pixels to the right of the (bent) midline.
    pub(super) aside: f32,
    /// Share of grey matter, 0..=1.
    pub(super) grey: f32,
}

/// The anatomy of one study.
pub(super) struct Head {
    folds: Field,
    offset: [f32; 3],
    /// Of the typical head's size, across and front to back.
    scale: [f32; 2],
    scalp: f32,
    skull: f32,
    scalp_signal: Signal,
    bone_signal: Signal,
    fluid_signal: Signal,
    /// How far grey and white matter differ, 1 being usual.
    grey_contrast: Signal,
    sulcus_width: f32,
    ventricle_size: f32,
    /// How much wider the right ventricle is than the mean of both, as a share.
    asymmetry: f32,
}

impl Head {
    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        let folds = Field::new(rng);
        let offset = std::array::from_fn(|_| between(rng, 0.0, 32.0));
        let size = uniform(rng);
        // Large heads are both long and wide, up to a difference in shape of some percent.
        let scale = [
            statistics::HEAD_WIDTH.at(size) / statistics::HEAD_WIDTH.at(0.5)
                * between(rng, 0.98, 1.02),
            statistics::HEAD_HEIGHT.at(size) / statistics::HEAD_HEIGHT.at(0.5)
                * between(rng, 0.98, 1.02),
        ];
        let fat = uniform(rng);
        let scalp_signal = statistics::SCALP.map(|spread| spread.at(fat));
        let dark = uniform(rng);
        let bone_signal = statistics::BONE.map(|spread| spread.at(dark));
        let clear = uniform(rng);
        let fluid_signal = statistics::FLUID.map(|spread| spread.at(clear));
        let grey_contrast = std::array::from_fn(|_| between(rng, 0.5, 1.4));
        Self {
            folds,
            offset,
            scale,
            scalp: between(rng, 4.0, 8.0),
            skull: between(rng, 5.0, 8.0),
            scalp_signal,
            bone_signal,
            fluid_signal,
            grey_contrast,
            sulcus_width: between(rng, 0.03, 0.065),
            ventricle_size: between(rng, 0.6, 1.35),
            asymmetry: between(rng, -0.2, 0.2),
        }
    }

    /// Centre of the head in a slice, in pixels of a 256x256 slice.
    pub(super) fn centre(up: f32) -> [f32; 2] {
        let Profile {
            centre_x, centre_y, ..
        } = Profile::at(up);
        [centre_x, centre_y]
    }

    /// Width of the head at a level, in pixels.
    pub(super) fn width(&self, up: f32) -> f32 {
        Profile::at(up).width * self.scale[0]
    }

    /// Height of the head at a level (front to back in the slice), in pixels.
    pub(super) fn height(&self, up: f32) -> f32 {
        Profile::at(up).height * self.scale[1]
    }

    /// A smooth random number, about -0.7..0.7, which changes over `wavelength` pixels; `which` picks one of many
    /// independent fields.
    pub(super) fn wave(&self, place: Place, wavelength: f32, which: f32) -> f32 {
        let (x, y, z) = (place.x, place.y, place.up * HEIGHT);
        // Turned (by a rotation with exact entries), so that the lattice's planes never lie in a slice's directions.
        let turn = 1.0 / (3.0 * wavelength);
        self.folds.at([
            (2.0 * x - y + 2.0 * z) * turn + self.offset[0] + 5.37 * which,
            (2.0 * x + 2.0 * y - z) * turn + self.offset[1] + 3.71 * which,
            (2.0 * y + 2.0 * z - x) * turn + self.offset[2] + 7.13 * which,
        ])
    }

    /// Pixels from the head's surface; positive inside.
    fn depth(&self, place: Place) -> f32 {
        let (half_width, half_height) = (self.width(place.up) / 2.0, self.height(place.up) / 2.0);
        // Egg-shaped: the forehead is narrower than the back.
        let along = (place.y / half_height).clamp(-1.2, 1.2);
        let across = half_width * (1.0 + 0.07 * along - 0.05 * along * along + 0.01);
        let (u, v) = (place.x / across, place.y / half_height);
        let radius = (u * u + v * v).sqrt();
        if radius < 1e-3 {
            return half_width;
        }
        let slope = ((u / across) * (u / across) + (v / half_height) * (v / half_height)).sqrt();
        // Divided by the slope, the level set's value becomes a distance in pixels.
        let uneven = 3.0
            * self.wave(
                Place {
                    x: place.x / radius,
                    y: place.y / radius,
                    ..place
                },
                45.0,
                1.0,
            );
        (1.0 - radius) * radius / slope + uneven
    }

    /// Pixels from the brain's surface; positive inside.
    fn brain_depth(&self, place: Place, depth: f32) -> f32 {
        let Place { x, y, up } = place;
        // Near the vertex a slice cuts the scalp and skull at a slant, and they look thicker.
        let slant = 1.0 + 1.1 * smoothstep(0.74, 1.0, up);
        let vault = depth - (self.scalp + self.skull) * slant + 1.5 * self.wave(place, 22.0, 2.0);
        if up > 0.46 {
            return vault;
        }
        // At the base the brain is two temporal lobes, the frontal base, and the cerebellum with the brainstem; they
        // merge upwards.
        let (w, h) = (self.width(up) / 2.0, self.height(up) / 2.0);
        let lobe = |cx: f32, cy: f32, rx: f32, ry: f32| {
            let (u, v) = ((x.abs() - cx * w) / (rx * w), (y - cy * h) / (ry * h));
            (1.0 - (u * u + v * v).sqrt()) * rx.min(ry) * w
        };
        let temporal = lobe(0.48, -0.12, 0.30, 0.34);
        let cerebellum = lobe(0.12, 0.42, 0.58, 0.40);
        let stem = lobe(0.0, 0.10, 0.24, 0.24);
        let frontal = lobe(0.18, -0.50, 0.36, 0.26) - 60.0 * smoothstep(0.36, 0.28, up);
        let base = temporal.max(cerebellum).max(stem).max(frontal);
        let merging = base + 70.0 * smoothstep(0.30, 0.46, up) - 18.0 * smoothstep(0.26, 0.14, up)
            + 3.0 * self.wave(place, 18.0, 3.0);
        vault.min(merging)
    }

    /// Pixels from the nearest ventricle's wall; negative inside.
    fn ventricle_distance(&self, place: Place) -> f32 {
        let Place { x, y, up } = place;
        let size = self.ventricle_size;
        let (lateral, sagittal) = (self.scale[0] * x.abs(), self.scale[1] * y);
        // Far from all three, the distance need not be exact.
        if lateral > 50.0 || sagittal.abs() > 60.0 {
            return 30.0;
        }
        // Lateral ventricles: horns that bend outwards at the front and, more, at the back; lost away from the middle.
        // No two sides are quite alike.
        let side = 1.0 + self.asymmetry * if x > 0.0 { 1.0 } else { -1.0 };
        let along = ((sagittal + 3.0) / 35.0).clamp(-1.0, 1.0);
        let level = (up - 0.56) / 0.13;
        let shrink = (1.0 - level * level).max(-1.5);
        let body = 6.5
            * size
            * side
            * shrink
            * (1.0 - 0.35 * along * along + 0.2 * self.wave(place, 25.0, 19.0));
        let bend = if along > 0.0 { 18.0 } else { 6.0 };
        let curve = 4.0 + 2.5 * size + bend * along * along - 60.0 * (up - 0.56) * along.max(0.0);
        let (aside, beyond) = (lateral - curve, ((sagittal + 3.0).abs() - 35.0).max(0.0));
        let horns = (aside * aside + beyond * beyond).sqrt() - body;
        // Third ventricle: a slit in the midline below them.
        let reach = (sagittal.abs() - 9.0).max(0.0);
        let third = (lateral * lateral + reach * reach).sqrt()
            - 2.2 * size * smoothstep(0.36, 0.43, up) * smoothstep(0.53, 0.48, up);
        // Fourth ventricle: behind the brainstem.
        let (v, closed) = (
            sagittal - 0.12 * self.height(up),
            ((up - 0.24) / 0.08).abs(),
        );
        let fourth =
            (lateral * lateral * 0.6 + v * v * 1.6).sqrt() - 6.5 * size * (1.0 - closed).max(0.0);
        horns.min(third).min(fourth) + 1.5 * self.wave(place, 9.0, 4.0)
    }

    /// Whether the halves of the brain are parted at a place of the midline, 0..=1.
    fn parted(&self, place: Place) -> f32 {
        let along = place.y / (self.height(place.up) / 2.0);
        let high = smoothstep(0.63, 0.69, place.up);
        let ends = smoothstep(-0.36, -0.46, along).max(smoothstep(0.40, 0.52, along));
        high.max(ends * smoothstep(0.33, 0.40, place.up))
    }

    /// The tissue at a place.
    pub(super) fn tissue(&self, place: Place) -> Tissue {
        let depth = self.depth(place);
        let brain_depth = self.brain_depth(place, depth);
        let mut tissue = Tissue {
            signal: [0.0; CHANNELS],
            brain_depth,
            fluid: 0.0,
            ventricle_distance: f32::MAX,
            parted: 0.0,
            aside: place.x,
            grey: 0.0,
        };
        if depth < -1.0 {
            return tissue;
        }
        let share = smoothstep(-0.6, 0.6, brain_depth);
        let skin = smoothstep(-0.7, 0.7, depth);
        let inside = if share > 0.0 {
            self.inside_brain(place, brain_depth, &mut tissue)
        } else {
            [0.0; CHANNELS]
        };
        let outside = if share < 1.0 {
            self.outside_brain(place, depth)
        } else {
            [0.0; CHANNELS]
        };
        for c in 0..CHANNELS {
            tissue.signal[c] = skin * (outside[c] + share * (inside[c] - outside[c]));
        }
        tissue
    }

    /// Scalp, skull, and at the base orbits, air and muscle.
    fn outside_brain(&self, place: Place, depth: f32) -> Signal {
        let Place { x, y, up } = place;
        let slant = 1.0 + 1.1 * smoothstep(0.74, 1.0, up);
        let mottled = self.wave(place, 11.0, 5.0);
        let thickness = self.scalp * slant * (1.0 + 0.5 * self.wave(place, 60.0, 6.0));
        // Coils are most sensitive near the head's rest.
        let back = smoothstep(-60.0, 90.0, y);
        let fat = smoothstep(thickness + 1.0, thickness - 1.0, depth);
        // The outermost pixels are skin, darker than the fat under it; the diploe is a grey line in the skull.
        let skin = smoothstep(2.6, 1.0, depth);
        let middle = (depth - thickness - 0.5 * self.skull * slant).abs();
        let diploe = smoothstep(1.6, 0.4, middle) * smoothstep(-0.1, 0.3, mottled);
        let base = smoothstep(0.44, 0.34, up) * smoothstep(thickness + 1.0, thickness + 4.0, depth);
        let muscle = (0.62 + 0.55 * mottled + 0.5 * self.wave(place, 5.0, 7.0)).max(0.06);
        let mut signal: Signal = std::array::from_fn(|c| {
            let scalp =
                self.scalp_signal[c] * (1.0 - 0.5 * skin) * (0.85 + 0.25 * back + 0.6 * mottled);
            let bone = self.bone_signal[c] + 0.45 * self.scalp_signal[c] * diploe * 0.5;
            let wall = bone + fat * (scalp - bone);
            let deep = muscle * (0.75 + 0.1 * self.scalp_signal[c]);
            wall + base * (deep - wall)
        });
        if up < 0.40 {
            let (w, h) = (self.width(up) / 2.0, self.height(up) / 2.0);
            let front = smoothstep(0.42, 0.36, up) * smoothstep(0.12, 0.2, up);
            let (u, v) = (x.abs() - 0.38 * w, y + 0.68 * h);
            let eye = (u * u + v * v).sqrt();
            let cone = (u * u + (v - 10.0) * (v - 10.0)).sqrt();
            let nasal = smoothstep(0.20, 0.14, x.abs() / w) * smoothstep(-0.30, -0.42, y / h);
            let air = nasal * smoothstep(-0.25, 0.05, self.wave(place, 9.0, 8.0));
            // The temporal bones: dark and cellular.
            let petrous = smoothstep(
                0.16,
                0.05,
                (y / h - 0.14 + 0.18 * (x.abs() / w - 0.5)).abs(),
            ) * smoothstep(0.22, 0.34, x.abs() / w)
                * smoothstep(0.92, 0.80, x.abs() / w);
            let orbit = front * smoothstep(21.0, 18.0, eye.min(cone + 3.0));
            let globe = front * smoothstep(12.0, 10.8, eye);
            let globe_signal = self.fluid_signal.map(|s| 0.8 * s + 0.05);
            for c in 0..CHANNELS {
                let s = &mut signal[c];
                *s += orbit * (0.8 * self.scalp_signal[c] * (1.0 + 0.6 * mottled) - *s);
                *s += globe * (globe_signal[c] - *s);
                *s *= 1.0 - 0.92 * air.max(0.8 * petrous * (1.0 - orbit));
            }
        }
        signal
    }

    /// Grey and white matter, sulci, fissures, ventricles and vessels.
    fn inside_brain(&self, place: Place, depth: f32, tissue: &mut Tissue) -> Signal {
        let Place { x, y, up } = place;
        let bent = x + 4.0 * self.wave(Place { x: 0.0, ..place }, 50.0, 9.0);
        let parted = self.parted(place);
        let medial = bent.abs() + 40.0 * (1.0 - parted);
        let shore = depth.min(medial);
        // Sulci: where a field crosses zero, near the surface. Stretching the field along the radius makes them run
        // inwards; bending its coordinates makes them wind.
        let reach = (x * x + y * y).sqrt().max(1.0);
        let stretch = (reach + 0.55 * shore.min(reach)) / reach;
        let (wind_x, wind_y) = (self.wave(place, 13.0, 10.0), self.wave(place, 13.0, 11.0));
        let folded = Place {
            x: x * stretch + 6.0 * wind_x,
            y: y * stretch + 6.0 * wind_y,
            up,
        };
        let cerebellum = smoothstep(0.34, 0.28, up) * smoothstep(0.10, 0.2, y / self.height(up));
        let fold = self.wave(folded, 17.0 - 9.0 * cerebellum, 12.0).abs();
        let near = smoothstep(27.0, 4.0, shore);
        let width = self.sulcus_width * near * (1.0 + 1.2 * self.wave(place, 35.0, 13.0));
        let sulcus = smoothstep(width + 0.05, width - 0.03, fold) * smoothstep(0.0, 0.3, near);
        let fissure = parted * smoothstep(1.7, 0.4, bent.abs());
        let sylvian = self.sylvian(place);
        let surface = smoothstep(2.2, 0.4, depth);
        let wall = self.ventricle_distance(place);
        let chamber = smoothstep(0.8, -0.8, wall);
        let cistern = smoothstep(0.44, 0.36, up)
            * smoothstep(
                8.5,
                4.5,
                (x * x * 0.5 + (y + 8.0) * (y + 8.0)).sqrt() + 8.0 * wind_x,
            );
        let fluid = (0.75 * sulcus)
            .max(0.85 * fissure)
            .max(0.8 * sylvian)
            .max(0.75 * surface)
            .max(chamber)
            .max(0.9 * cistern);
        // Grey matter: the ribbon along the surface and the sulci, and the deep nuclei.
        let ribbon = smoothstep(6.0, 3.0, shore + 2.0 * wind_x)
            .max(smoothstep(0.30, 0.18, fold) * smoothstep(0.0, 0.5, near));
        let (u, v) = (x.abs() - 17.0 - 0.25 * (y + 5.0), y + 3.0);
        let nuclei = 0.6
            * smoothstep(13.0, 8.0, (u * u * 1.6 + v * v * 0.3).sqrt() + 5.0 * wind_y)
            * smoothstep(0.09, 0.05, (up - 0.5).abs());
        let grey = ribbon.max(nuclei);
        let mottled = self.wave(place, 24.0, 14.0) + 0.8 * self.wave(place, 8.0, 15.0);
        // The brightest specks after contrast: vessels in the sulci, the plexus, the sinus behind the fissure.
        let vessel = if fluid > 0.0 {
            sulcus.max(surface) * smoothstep(0.22, 0.38, self.wave(place, 6.0, 16.0))
                + chamber
                    * smoothstep(0.20, 0.36, self.wave(place, 5.0, 17.0))
                    * smoothstep(0.0, 18.0, y)
                + fissure * smoothstep(5.0, 2.0, depth)
        } else {
            0.0
        };
        tissue.fluid = fluid;
        tissue.ventricle_distance = wall;
        tissue.parted = parted;
        tissue.aside = bent;
        tissue.grey = grey;
        // FLAIR shows a thin bright line along the ventricles' horns.
        let lining = smoothstep(4.0, 0.5, wall) * smoothstep(10.0, 30.0, y.abs());
        std::array::from_fn(|c| {
            let [white, grey_signal] = [statistics::WHITE[c], statistics::GREY[c]];
            let mean = 0.5 * (white + grey_signal);
            let half = 0.5 * (grey_signal - white) * self.grey_contrast[c] * (2.0 * grey - 1.0);
            let mut s = (mean + half) * (1.0 + 0.12 * mottled);
            if c == 1 {
                s += 0.12 * lining;
            }
            s += fluid * (self.fluid_signal[c] - s);
            if c == 2 {
                s += 0.9 * vessel.min(1.0);
            }
            s
        })
    }

    /// The fissure between the temporal lobe and those above it, 0..=1.
    fn sylvian(&self, place: Place) -> f32 {
        let level = smoothstep(0.11, 0.07, (place.up - 0.45).abs());
        if level == 0.0 {
            return 0.0;
        }
        let half_width = self.width(place.up) / 2.0;
        let aside = place.x.abs() / half_width;
        let course = -0.10 * half_width - 16.0 * (aside - 0.5) + 9.0 * self.wave(place, 20.0, 18.0);
        let width = 1.3 + 2.0 * smoothstep(0.5, 0.62, aside) * self.ventricle_size;
        smoothstep(width + 0.8, width - 0.8, (place.y - course).abs())
            * smoothstep(0.42, 0.5, aside)
            * level
    }
}
