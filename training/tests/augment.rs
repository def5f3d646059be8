//! Random transforms: what each does to images, and that masks go along; the kernels of the CPU against tensor
//! operations and SciPy.

#![allow(clippy::unwrap_used)]

use burn::backend::Flex;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use glioseg_training::augment::{
    self, Augmentation, Draw, Preset, apply, blur, compose, factor_and_shift, gamma, noise,
    sequences,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::ThreadPoolBuilder;
use serde_json::Value;

/// Sampling positions are rounded to f32: about a hundred-thousandth of a pixel at 256 pixels.
const ROUNDING: f32 = 1e-4;

const IDENTITY: Draw = Draw {
    mirror_columns: false,
    mirror_rows: false,
    angle: 0.0,
    zoom: 1.0,
    offset: [0.0; 2],
    gamma: 1.0,
    blur: 0.0,
    factor: 1.0,
    shift: 0.0,
    sequences: [1.0; 3],
    missing: [false; 2],
    noise: 0.0,
    noise_seed: 0,
};

fn tensor(values: Vec<f32>, shape: [usize; 4]) -> Tensor<Flex, 4> {
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

fn plain(tensor: Tensor<Flex, 4>) -> Vec<f32> {
    tensor.into_data().to_vec().unwrap()
}

/// Uniform in 0..1.
fn random(shape: [usize; 4], seed: u64) -> Tensor<Flex, 4> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values = (0..shape.iter().product()).map(|_| rng.random::<f32>());
    tensor(values.collect(), shape)
}

/// One channel whose value at column x and row y is `value(x, y)`.
fn drawn(width: usize, height: usize, value: impl Fn(usize, usize) -> f32) -> Tensor<Flex, 4> {
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let values = pixels.map(|(x, y)| value(x, y)).collect();
    tensor(values, [1, 1, height, width])
}

/// Images of any number of channels after a draw by the kernels, which tensor operations must agree with.
fn warp(images: Tensor<Flex, 4>, draws: &[Draw], size: [usize; 2]) -> Tensor<Flex, 4> {
    let mask = images.clone().narrow(1, 0, 1).zeros_like();
    let (ours, _) = apply(Tensor::cat(vec![images.clone(), mask], 1), draws, size);
    let composed = augment::warp(images, draws, size);
    assert_close(ours.clone(), composed, ROUNDING, "kernels and operations");
    ours
}

fn assert_close(ours: Tensor<Flex, 4>, expected: Tensor<Flex, 4>, tolerance: f32, what: &str) {
    assert_eq!(ours.dims(), expected.dims(), "{what}");
    let pairs = plain(ours).into_iter().zip(plain(expected));
    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance, "{what}: off by {worst}");
}

/// The augmentation without what changes intensities.
fn geometry(augmentation: &Augmentation) -> Augmentation {
    Augmentation {
        gamma: 0.0,
        blur: 0.0,
        factor: 0.0,
        shift: 0.0,
        sequence: 0.0,
        missing: 0.0,
        noise: 0.0,
        ..augmentation.clone()
    }
}

#[test]
fn nothing_drawn_changes_nothing() {
    let images = random([2, 3, 256, 256], 1);
    let masks = random([2, 1, 256, 256], 2).greater_equal_elem(0.7).float();
    let stack = Tensor::cat(vec![images.clone(), masks.clone()], 1);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let none = Preset::None.augmentation();
    let draws = [none.draw([0, 0], &mut rng), none.draw([0, 0], &mut rng)];
    let but_for_the_seed = draws.map(|draw| Draw {
        noise_seed: 0,
        ..draw
    });
    assert_eq!(but_for_the_seed, [IDENTITY; 2]);
    let (ours, our_masks) = apply(stack.clone(), &draws, [256, 256]);
    assert_close(ours, images.clone(), 0.0, "images");
    assert_close(our_masks, masks.clone(), 0.0, "masks");
    let (composed, composed_masks) = compose(stack, &draws, [256, 256]);
    assert_close(composed, images, ROUNDING, "images, composed");
    assert_close(composed_masks, masks, 0.0, "masks, composed");
}

#[test]
fn mirror_images_are_exact() {
    let image = random([1, 2, 12, 17], 4);
    let (columns, rows) = (image.clone().flip([3]), image.clone().flip([2]));
    for (mirror_columns, mirror_rows, flipped) in [
        (true, false, columns),
        (false, true, rows.clone()),
        (true, true, rows.flip([3])),
    ] {
        let draw = Draw {
            mirror_columns,
            mirror_rows,
            ..IDENTITY
        };
        let ours = warp(image.clone(), &[draw], [17, 12]);
        assert_close(ours, flipped, ROUNDING, &format!("{draw:?}"));
    }
}

#[test]
fn quarter_turns_are_exact() {
    let image = random([1, 2, 16, 16], 5);
    // Row i, column j of NumPy's rot90 is row j, column 15 - i of the original.
    let mut turned = image.clone();
    for quarters in 1..=4 {
        turned = turned.swap_dims(2, 3).flip([2]);
        let draw = Draw {
            angle: quarters as f32 * std::f32::consts::FRAC_PI_2,
            ..IDENTITY
        };
        let ours = warp(image.clone(), &[draw], [16, 16]);
        assert_close(ours, turned.clone(), ROUNDING, &format!("{quarters}"));
    }
    assert_close(turned, image, 0.0, "a full turn");
}

/// Between the grid's points the sampling is linear, so that a linear image shows any affine map without error.
#[test]
fn rotation_and_zoom_are_affine_about_the_centre() {
    const SIDE: usize = 33;
    let centre = (SIDE as f32 - 1.0) / 2.0;
    let image = drawn(SIDE, SIDE, |x, y| 0.01 * x as f32 - 0.02 * y as f32);
    let (angle, zoom) = (0.3_f32, 1.25_f32);
    let draw = Draw {
        angle,
        zoom,
        ..IDENTITY
    };
    // The middle only: nothing outside the image is needed for it.
    let ours = warp(image, &[draw], [21, 21]);
    let expected = drawn(21, 21, |x, y| {
        let (x, y) = (x as f32 - 10.0, y as f32 - 10.0);
        let from_x = centre + (angle.cos() * x - angle.sin() * y) / zoom;
        let from_y = centre + (angle.sin() * x + angle.cos() * y) / zoom;
        0.01 * from_x - 0.02 * from_y
    });
    assert_close(ours, expected, ROUNDING, "affine");
}

#[test]
fn zoom_enlarges_what_is_seen() {
    let square = drawn(64, 64, |x, y| {
        f32::from(u8::from((28..36).contains(&x) && (28..36).contains(&y)))
    });
    for (zoom, side) in [(0.5, 4.0), (1.0, 8.0), (2.0, 16.0)] {
        let draw = Draw { zoom, ..IDENTITY };
        let seen = plain(warp(square.clone(), &[draw], [64, 64]));
        let area = seen.iter().filter(|&&value| value >= 0.5).count() as f32;
        assert_eq!(area, side * side, "zoom {zoom}");
    }
}

#[test]
fn beyond_the_border_its_pixels_repeat() {
    let image = drawn(8, 8, |x, _| if x == 0 { 0.25 } else { 0.75 });
    let draw = Draw {
        offset: [-8.0, 0.0],
        ..IDENTITY
    };
    let beyond = warp(image, &[draw], [8, 8]);
    assert_close(beyond, drawn(8, 8, |_, _| 0.25), ROUNDING, "border");
}

#[test]
fn crops_are_exact_windows_and_reach_every_place() {
    // Even and odd numbers of pixels left out.
    const SIZE: [usize; 2] = [10, 6];
    const SLACK: [usize; 2] = [5, 4];
    let image = random([1, 2, SIZE[1] + SLACK[1], SIZE[0] + SLACK[0]], 6);
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut seen = [[false; SLACK[1] + 1]; SLACK[0] + 1];
    for _ in 0..600 {
        let draw = Preset::None.augmentation().draw(SLACK, &mut rng);
        let start = |axis: usize| (draw.offset[axis] + SLACK[axis] as f32 / 2.0) as usize;
        let (column, row) = (start(0), start(1));
        if !std::mem::replace(&mut seen[column][row], true) {
            let window = image
                .clone()
                .narrow(3, column, SIZE[0])
                .narrow(2, row, SIZE[1]);
            let what = format!("window at {column}, {row}");
            assert_close(warp(image.clone(), &[draw], SIZE), window, ROUNDING, &what);
        }
    }
    assert!(seen.iter().flatten().all(|&seen| seen), "{seen:?}");
}

#[test]
fn samples_of_a_batch_are_transformed_each_by_its_own_draw() {
    let images = random([2, 1, 9, 9], 8);
    let flipped = Draw {
        mirror_columns: true,
        ..IDENTITY
    };
    let ours = warp(images.clone(), &[IDENTITY, flipped], [9, 9]);
    let expected = Tensor::cat(
        vec![
            images.clone().narrow(0, 0, 1),
            images.narrow(0, 1, 1).flip([3]),
        ],
        0,
    );
    assert_close(ours, expected, ROUNDING, "batch");
}

/// The first channel is the mask itself: after any geometric transform it must still be.
#[test]
fn masks_move_with_their_images() {
    let blob = |x: usize, y: usize| {
        let (x, y) = (x as f32 - 27.0, y as f32 - 36.0);
        f32::from(u8::from(x * x / 150.0 + y * y / 60.0 < 1.0))
    };
    let mask = drawn(64, 64, blob);
    let stack = Tensor::cat(vec![mask.clone(), random([1, 1, 64, 64], 9), mask], 1);
    let geometry = geometry(&Preset::Strong.augmentation());
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    let draws: Vec<_> = (0..32).map(|_| geometry.draw([16, 16], &mut rng)).collect();
    let stacks = stack.repeat_dim(0, draws.len());
    let (images, masks) = apply(stacks.clone(), &draws, [48, 48]);
    let thresholded = images.narrow(1, 0, 1).greater_equal_elem(0.5).float();
    assert_close(thresholded, masks.clone(), 0.0, "image and mask");
    // Every draw shows a part of the blob, and they do not all show the same one.
    let areas = masks
        .clone()
        .sum_dim(3)
        .sum_dim(2)
        .into_data()
        .to_vec::<f32>()
        .unwrap();
    assert!(areas.iter().all(|&area| area > 50.0), "{areas:?}");
    assert!(areas.iter().any(|&area| area != areas[0]), "{areas:?}");

    // Intensities change images only.
    let bright: Vec<_> = draws
        .iter()
        .map(|draw| Draw {
            gamma: 1.4,
            blur: 1.0,
            factor: 0.8,
            shift: 0.4,
            noise: 0.1,
            ..*draw
        })
        .collect();
    let (_, same) = apply(stacks, &bright, [48, 48]);
    assert_close(same, masks, 0.0, "masks under changes of intensity");
}

#[test]
fn gamma_is_a_power_and_leaves_black_and_white() {
    let images = tensor([-0.2, 0.0, 0.1, 0.5, 0.9, 1.0].repeat(3), [3, 1, 1, 6]);
    let draws = [0.7, 1.0, 1.5].map(|gamma| Draw { gamma, ..IDENTITY });
    let powers = draws.iter().flat_map(|draw| {
        [-0.2_f32, 0.0, 0.1, 0.5, 0.9, 1.0].map(|value| value.max(0.0).powf(draw.gamma))
    });
    let expected = tensor(powers.collect(), [3, 1, 1, 6]);
    // A fiftieth of a grey level.
    assert_close(gamma(images, &draws), expected, 1e-4, "gamma");
}

#[test]
fn blur_mixes_in_the_mean_of_nine() {
    let impulse = drawn(7, 7, |x, y| f32::from(u8::from((x, y) == (3, 3))));
    let draws = [0.0, 0.5, 1.0].map(|blur| Draw { blur, ..IDENTITY });
    let blurred = blur(impulse.repeat_dim(0, 3), &draws);
    let near = |x: usize, y: usize| f32::from(u8::from(x.abs_diff(3) <= 1 && y.abs_diff(3) <= 1));
    for (sample, share) in [(0, 0.0), (1, 0.5), (2, 1.0)] {
        let expected = drawn(7, 7, |x, y| {
            let own = f32::from(u8::from((x, y) == (3, 3)));
            (1.0 - share) * own + share * near(x, y) / 9.0
        });
        let ours = blurred.clone().narrow(0, sample, 1);
        assert_close(ours, expected, 1e-6, &format!("share {share}"));
    }
    // At the border the mean is that of the pixels there are.
    let even = drawn(7, 7, |_, _| 0.6);
    assert_close(blur(even.clone(), &draws[2..]), even, 1e-6, "even image");
}

#[test]
fn contrast_and_brightness_are_a_factor_and_a_shift() {
    let images = random([2, 3, 5, 5], 11);
    let first = Draw {
        factor: 1.1,
        shift: -0.05,
        ..IDENTITY
    };
    let ours = factor_and_shift(images.clone(), &[first, IDENTITY]);
    let expected = images
        .clone()
        .narrow(0, 0, 1)
        .mul_scalar(1.1)
        .sub_scalar(0.05);
    let expected = Tensor::cat(vec![expected, images.narrow(0, 1, 1)], 0);
    assert_close(ours, expected, 1e-6, "factor and shift");
}

/// Images of any number of channels with the draws' noise, by the kernels.
fn noise_by_kernels(images: Tensor<Flex, 4>, draws: &[Draw]) -> Tensor<Flex, 4> {
    let [_, _, height, width] = images.dims();
    let mask = images.clone().narrow(1, 0, 1).zeros_like();
    apply(Tensor::cat(vec![images, mask], 1), draws, [width, height]).0
}

#[test]
fn noise_is_normal_with_each_samples_deviation() {
    const COUNT: usize = 3 * 96 * 96;
    Flex::seed(&Default::default(), 12);
    let images = random([3, 3, 96, 96], 13);
    let deviations = [0.0, 0.02, 0.1];
    let draws = deviations.map(|noise| Draw { noise, ..IDENTITY });
    for noisy in [
        noise(images.clone(), &draws),
        noise_by_kernels(images.clone(), &draws),
    ] {
        let added = plain(noisy.sub(images.clone()));
        for (values, deviation) in added.chunks_exact(COUNT).zip(deviations) {
            let moment = |power: i32| {
                let sum: f64 = values.iter().map(|&v| f64::from(v).powi(power)).sum();
                sum / COUNT as f64
            };
            let deviation = f64::from(deviation);
            // Five standard errors of each moment; the fourth tells a normal distribution (3) from a uniform one (1.8).
            let unit = 5.0 / (COUNT as f64).sqrt();
            assert!(moment(1).abs() <= unit * deviation, "mean {}", moment(1));
            let variance = deviation.powi(2);
            assert!(
                (moment(2) - variance).abs() <= unit * 1.5 * variance,
                "{}",
                moment(2)
            );
            let fourth = 3.0 * variance.powi(2);
            assert!(
                (moment(4) - fourth).abs() <= unit * 3.3 * fourth,
                "{}",
                moment(4)
            );
        }
    }
}

/// The whole distribution, by the share of values below each of a few limits, and no likeness of values to their
/// neighbours or to those half a block on, which are made from the same random bits.
#[test]
fn noise_of_the_kernels_is_white_and_has_the_tails_of_a_normal_distribution() {
    const COUNT: usize = 3 * 400 * 400;
    let images = Tensor::<Flex, 4>::zeros([1, 3, 400, 400], &Default::default());
    let draw = Draw {
        noise: 1.0,
        noise_seed: 16,
        ..IDENTITY
    };
    let values = plain(noise_by_kernels(images, &[draw]));
    // The normal distribution function at these limits.
    for (limit, expected) in [
        (-4.0, 3.167_1e-5),
        (-3.0, 1.349_9e-3),
        (-2.0, 0.022_750),
        (-1.0, 0.158_655),
        (-0.25, 0.401_294),
        (0.0, 0.5),
        (0.5, 0.691_462),
        (1.5, 0.933_193),
        (2.5, 0.993_790),
        (3.5, 0.999_767),
    ] {
        let found = values.iter().filter(|&&v| v < limit).count() as f64 / COUNT as f64;
        let error = (expected * (1.0 - expected) / COUNT as f64).sqrt();
        assert!(
            (found - expected).abs() < 5.0 * error,
            "{found} below {limit}"
        );
    }
    for lag in [1, 2, 400, 512, 1024, 400 * 400] {
        for power in [1, 2] {
            let centred = |v: f32| f64::from(v).powi(power) - f64::from(power - 1);
            let pairs = values.iter().zip(&values[lag..]);
            let sum: f64 = pairs.map(|(&a, &b)| centred(a) * centred(b)).sum();
            let count = (COUNT - lag) as f64;
            // The square of a normal number has a variance of 2.
            let limit = 5.0 * f64::from(power).powi(1) / count.sqrt();
            assert!((sum / count).abs() < limit, "lag {lag}, power {power}");
        }
    }
}

#[test]
fn draws_stay_in_their_ranges_and_come_as_often_as_they_should() {
    const DRAWS: usize = 4000;
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    for preset in [Preset::Original, Preset::Strong] {
        let a = preset.augmentation();
        let draws: Vec<_> = (0..DRAWS).map(|_| a.draw([32, 32], &mut rng)).collect();
        let share = |applies: &dyn Fn(&Draw) -> bool| {
            draws.iter().filter(|draw| applies(draw)).count() as f64 / DRAWS as f64
        };
        for (what, expected, found) in [
            (
                "mirror_columns",
                a.mirror_columns,
                share(&|d| d.mirror_columns),
            ),
            ("mirror_rows", a.mirror_rows, share(&|d| d.mirror_rows)),
            ("rotation", a.rotation, share(&|d| d.angle != 0.0)),
            ("zoom", a.zoom, share(&|d| d.zoom != 1.0)),
            ("gamma", a.gamma, share(&|d| d.gamma != 1.0)),
            ("blur", a.blur, share(&|d| d.blur != 0.0)),
            ("factor", a.factor, share(&|d| d.factor != 1.0)),
            ("shift", a.shift, share(&|d| d.shift != 0.0)),
            ("noise", a.noise, share(&|d| d.noise != 0.0)),
        ] {
            // Five standard errors at most.
            assert!(
                (found - expected).abs() < 0.04,
                "{preset:?} {what}: {found}, not {expected}"
            );
        }
        // Each range is kept to, and its last tenth is reached.
        for (what, limit, largest) in [
            ("angle", a.angle, extreme(&draws, |d| d.angle.abs())),
            ("zoom", a.zoom_by, extreme(&draws, |d| (d.zoom - 1.0).abs())),
            (
                "gamma",
                a.gamma_to.ln(),
                extreme(&draws, |d| d.gamma.ln().abs()),
            ),
            (
                "factor",
                a.factor_by,
                extreme(&draws, |d| (d.factor - 1.0).abs()),
            ),
            ("shift", a.shift_by, extreme(&draws, |d| d.shift.abs())),
            ("noise", a.noise_to, extreme(&draws, |d| d.noise)),
            ("offset", 16.0, extreme(&draws, |d| d.offset[0].abs())),
        ] {
            let reached = 0.9 * limit..=limit + 1e-6;
            assert!(
                reached.contains(&largest),
                "{preset:?} {what}: {largest} of {limit}"
            );
        }
        assert!(
            draws
                .iter()
                .all(|d| d.noise >= 0.0 && (0.0..=1.0).contains(&d.blur))
        );
    }
}

fn extreme(draws: &[Draw], value: impl Fn(&Draw) -> f32) -> f32 {
    draws.iter().map(value).fold(0.0, f32::max)
}

#[test]
fn one_probability_leaves_the_other_draws_alone() {
    let draws = |rotation: f64| {
        let augmentation = Augmentation {
            rotation,
            ..Preset::Strong.augmentation()
        };
        let mut rng = ChaCha8Rng::seed_from_u64(15);
        let draws = (0..50).map(|_| Draw {
            angle: 0.0,
            ..augmentation.draw([8, 8], &mut rng)
        });
        draws.collect::<Vec<_>>()
    };
    let half = draws(0.5);
    assert!(half == draws(0.0), "never rotated");
    assert!(half == draws(1.0), "always rotated");
}

#[test]
fn missing_sequences_become_flair_and_each_keeps_its_own_factor() {
    let images = random([2, 3, 4, 5], 21);
    let draws = [
        Draw {
            missing: [true, false],
            ..IDENTITY
        },
        Draw {
            sequences: [2.0, 0.5, 3.0],
            missing: [false, true],
            ..IDENTITY
        },
    ];
    let ours = sequences(images.clone(), &draws);
    let channel =
        |sample: usize, channel: usize| images.clone().narrow(0, sample, 1).narrow(1, channel, 1);
    let first = Tensor::cat(vec![channel(0, 1), channel(0, 1), channel(0, 2)], 1);
    let second = vec![
        channel(1, 0).mul_scalar(2.0),
        channel(1, 1).mul_scalar(0.5),
        channel(1, 1).mul_scalar(3.0),
    ];
    let expected = Tensor::cat(vec![first, Tensor::cat(second, 1)], 0);
    assert_close(ours, expected, ROUNDING, "sequences");
}

fn numbers(value: &Value) -> Vec<f32> {
    let numbers = value.as_array().unwrap().iter();
    numbers.map(|v| v.as_f64().unwrap() as f32).collect()
}

fn array<const N: usize>(value: &Value) -> [f32; N] {
    numbers(value).try_into().unwrap()
}

#[test]
fn transforms_are_scipys() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/goldens/transforms/transforms.json"
    );
    let golden: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let [width, height] = array(&golden["size"]).map(|pixels| pixels as usize);
    let stack = tensor(numbers(&golden["stack"]), [1, 4, height, width]);
    for case in golden["cases"].as_array().unwrap() {
        let drawn = &case["draw"];
        let number = |name: &str| drawn[name].as_f64().unwrap() as f32;
        let flag = |value: &Value| value.as_bool().unwrap();
        let draw = Draw {
            mirror_columns: flag(&drawn["mirror_columns"]),
            mirror_rows: flag(&drawn["mirror_rows"]),
            angle: number("angle"),
            zoom: number("zoom"),
            offset: array(&drawn["offset"]),
            gamma: number("gamma"),
            blur: number("blur"),
            factor: number("factor"),
            shift: number("shift"),
            sequences: array(&drawn["sequences"]),
            missing: [flag(&drawn["missing"][0]), flag(&drawn["missing"][1])],
            ..IDENTITY
        };
        let size = array(&case["size"]).map(|pixels| pixels as usize);
        let [columns, rows] = size;
        let images = tensor(numbers(&case["images"]), [1, 3, rows, columns]);
        let mask = tensor(numbers(&case["mask"]), [1, 1, rows, columns]);
        // Sampling positions of the operations are rounded to f32, those of the kernels are not.
        for (transform, tolerance) in [(apply as Transform, 1e-6), (compose, 1e-5)] {
            let (ours, our_mask) = transform(stack.clone(), &[draw], size);
            assert_close(ours, images.clone(), tolerance, &format!("{draw:?}"));
            assert_close(our_mask, mask.clone(), 0.0, &format!("mask of {draw:?}"));
        }
    }
}

type Transform = fn(Tensor<Flex, 4>, &[Draw], [usize; 2]) -> (Tensor<Flex, 4>, Tensor<Flex, 4>);

/// Smooth, as images are: there a sampling position may be off by a hundred-thousandth of a pixel.
fn smooth_stack(samples: usize) -> Tensor<Flex, 4> {
    let wave = |x: usize, y: usize, pitch: f32| (x as f32 * pitch).sin() * (y as f32 * 0.11).cos();
    let planes =
        [0.13, 0.07, 0.17, 0.09].map(|pitch| drawn(96, 80, |x, y| 0.5 + 0.4 * wave(x, y, pitch)));
    Tensor::cat(planes.to_vec(), 1).repeat_dim(0, samples)
}

#[test]
fn kernels_and_operations_agree_on_whole_batches() {
    const SIZE: [usize; 2] = [64, 56];
    let mut rng = ChaCha8Rng::seed_from_u64(22);
    let noiseless = Augmentation {
        noise: 0.0,
        ..Preset::Strong.augmentation()
    };
    let draws: Vec<_> = (0..96)
        .map(|_| noiseless.draw([32, 24], &mut rng))
        .collect();
    // Changes of intensity meet in one sample, too.
    assert!(draws.iter().any(|d| d.gamma != 1.0 && d.blur != 0.0));
    let stack = smooth_stack(draws.len());
    let (ours, our_masks) = apply(stack.clone(), &draws, SIZE);
    let (composed, masks) = compose(stack.clone(), &draws, SIZE);
    assert_close(ours, composed, 1e-5, "images");
    // Where the sampled mask is a half but for rounding, either side is right.
    let sampled = plain(augment::warp(stack.narrow(1, 3, 1), &draws, SIZE));
    let masks = plain(our_masks).into_iter().zip(plain(masks));
    for ((ours, composed), sampled) in masks.zip(sampled) {
        assert!(ours == composed || (sampled - 0.5).abs() < 1e-5);
    }
}

#[test]
fn views_are_transformed_as_what_they_show() {
    let stack = random([3, 4, 20, 24], 23);
    let mut rng = ChaCha8Rng::seed_from_u64(24);
    let draws = [(); 2].map(|()| Preset::Strong.augmentation().draw([8, 4], &mut rng));
    let bits = |stack: Tensor<Flex, 4>| {
        let (images, masks) = apply(stack, &draws, [12, 16]);
        (bits_of(images), bits_of(masks))
    };
    let view = stack.narrow(0, 1, 2).swap_dims(2, 3);
    let copy = tensor(plain(view.clone()), view.dims());
    assert!(bits(view) == bits(copy));
}

fn bits_of(tensor: Tensor<Flex, 4>) -> Vec<u32> {
    plain(tensor).into_iter().map(f32::to_bits).collect()
}

#[test]
fn neither_threads_nor_the_rest_of_the_batch_change_a_bit_of_a_sample() {
    let stack = random([16, 4, 64, 64], 25);
    let mut rng = ChaCha8Rng::seed_from_u64(26);
    let draws: Vec<_> = (0..16)
        .map(|_| Preset::Strong.augmentation().draw([16, 16], &mut rng))
        .collect();
    assert!(draws.iter().any(|draw| draw.noise > 0.0));
    let transform = |stack: Tensor<Flex, 4>, draws: &[Draw]| {
        let (images, masks) = apply(stack, draws, [48, 48]);
        (bits_of(images), bits_of(masks))
    };
    let with = |threads| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| transform(stack.clone(), &draws))
    };
    let (images, masks) = with(1);
    for threads in [2, 5] {
        assert!(
            with(threads) == (images.clone(), masks.clone()),
            "{threads} threads"
        );
    }
    for (sample, draw) in draws.iter().enumerate() {
        let alone = transform(stack.clone().narrow(0, sample, 1), &[*draw]);
        let of = |all: &[u32]| {
            let each = all.len() / draws.len();
            all[sample * each..(sample + 1) * each].to_vec()
        };
        assert!(alone == (of(&images), of(&masks)), "sample {sample}");
    }
}

#[test]
fn noise_follows_its_seed() {
    let stack = random([1, 4, 16, 16], 27);
    let noisy = |noise_seed: u64| {
        let draw = Draw {
            noise: 0.05,
            noise_seed,
            ..IDENTITY
        };
        bits_of(apply(stack.clone(), &[draw], [16, 16]).0)
    };
    assert!(noisy(1) == noisy(1), "the same seed");
    assert!(noisy(1) != noisy(2), "another seed");
}
