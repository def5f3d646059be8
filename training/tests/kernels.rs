//! The kernels of training on the CPU against burn's own operations, forwards and backwards.

#![allow(clippy::unwrap_used)]

use burn::backend::{Autodiff, Flex};
use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use burn::tensor::module::{conv_transpose2d, conv2d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions, FloatTensor};
use burn::tensor::{Tensor, TensorData, TensorPrimitive};
use glioseg_training::kernels::{EPSILON, Group, Kernels, upconvolution_padding};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::ThreadPoolBuilder;

type Cpu = Autodiff<Flex>;

/// Largest deviation, as a part of the largest value.
const TOLERANCE: f32 = 1e-4;

/// Batch, channels, height and width: odd, even, a single row, and one that is worked on in several blocks.
const IMAGES: [[usize; 4]; 6] = [
    [1, 3, 8, 8],
    [3, 2, 7, 9],
    [1, 5, 6, 11],
    [3, 4, 1, 5],
    [2, 1, 3, 1],
    [2, 16, 40, 64],
];

/// Values around 0.2, so that no mean vanishes.
fn random<B: Backend, const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<B, D> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| rng.random_range(-0.8..1.2)).collect();
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

fn tensor<B: Backend, const D: usize>(primitive: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn primitive<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> FloatTensor<B> {
    tensor.into_primitive().tensor()
}

fn values<const D: usize>(tensor: Tensor<Flex, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

#[track_caller]
fn assert_close(ours: &[f32], theirs: &[f32], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}: number of values");
    let largest = theirs.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    let worst = ours
        .iter()
        .zip(theirs)
        .fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(
        worst <= TOLERANCE * largest.max(1.0),
        "{what}: off by {worst} of {largest}"
    );
}

/// Output of an operation on an image, a second operand and a vector, and gradients by all three.
fn outcome<const D: usize>(
    image: &Tensor<Flex, 4>,
    second: &Tensor<Flex, D>,
    vector: &Tensor<Flex, 1>,
    operation: impl Fn(Tensor<Cpu, 4>, Tensor<Cpu, D>, Tensor<Cpu, 1>) -> Tensor<Cpu, 4>,
) -> [Vec<f32>; 4] {
    let x = Tensor::<Cpu, 4>::from_inner(image.clone()).require_grad();
    let s = Tensor::<Cpu, D>::from_inner(second.clone()).require_grad();
    let v = Tensor::<Cpu, 1>::from_inner(vector.clone()).require_grad();
    let y = operation(x.clone(), s.clone(), v.clone());
    let weights = random::<Cpu, 4>(4, y.dims());
    let gradients = (y.clone() * weights).sum().backward();
    [
        values(y.inner()),
        x.grad(&gradients).map(values).unwrap_or_default(),
        s.grad(&gradients).map(values).unwrap_or_default(),
        v.grad(&gradients).map(values).unwrap_or_default(),
    ]
}

/// Compares two operations on tensors as they lie in memory, and on views that are transposed or begin further on;
/// the gradient comes back transposed then, too.
fn assert_same<const D: usize>(
    what: &str,
    shape: [usize; 4],
    second: [usize; D],
    channels: usize,
    ours: impl Fn(Tensor<Cpu, 4>, Tensor<Cpu, D>, Tensor<Cpu, 1>) -> Tensor<Cpu, 4>,
    theirs: impl Fn(Tensor<Cpu, 4>, Tensor<Cpu, D>, Tensor<Cpu, 1>) -> Tensor<Cpu, 4>,
) {
    let what = format!("{what} of {shape:?} by {second:?}");
    let compare = |what: &str, ours: [Vec<f32>; 4], theirs: [Vec<f32>; 4]| {
        let parts = ["output", "by image", "by second operand", "by vector"];
        for ((part, ours), theirs) in parts.into_iter().zip(ours).zip(theirs) {
            assert_close(&ours, &theirs, &format!("{what}, {part}"));
        }
    };
    let (x, s) = (random(1, shape), random(2, second));
    let v = random(3, [channels]);
    compare(
        &what,
        outcome(&x, &s, &v, &ours),
        outcome(&x, &s, &v, &theirs),
    );

    let [batch, planes, height, width] = shape;
    let x = random(1, [batch, planes, width, height]);
    let mut longer = second;
    longer[0] += 1;
    let s = random(2, longer);
    let v = random(3, [channels + 1]);
    let views = |x: Tensor<Cpu, 4>, s: Tensor<Cpu, D>, v: Tensor<Cpu, 1>| {
        let s = s.narrow(0, 1, second[0]);
        let s = if D == 4 { s.swap_dims(D - 2, D - 1) } else { s };
        (x.swap_dims(2, 3), s, v.narrow(0, 1, channels))
    };
    let run =
        |operation: &dyn Fn(Tensor<Cpu, 4>, Tensor<Cpu, D>, Tensor<Cpu, 1>) -> Tensor<Cpu, 4>| {
            outcome(&x, &s, &v, |x, s, v| {
                let (x, s, v) = views(x, s, v);
                operation(x, s, v).swap_dims(2, 3)
            })
        };
    compare(&format!("{what}, views"), run(&ours), run(&theirs));
}

fn convolution(
    x: Tensor<Cpu, 4>,
    w: Tensor<Cpu, 4>,
    b: Tensor<Cpu, 1>,
    stride: usize,
) -> Tensor<Cpu, 4> {
    tensor(Cpu::convolution(
        primitive(x),
        primitive(w),
        primitive(b),
        stride,
    ))
}

#[test]
fn convolutions_are_burns() {
    for image in IMAGES {
        for (kernel, stride) in [(1, 1), (1, 2), (3, 1), (3, 2)] {
            let out = 4;
            assert_same(
                &format!("convolution of stride {stride}"),
                image,
                [out, image[1], kernel, kernel],
                out,
                |x, w, b| convolution(x, w, b, stride),
                |x, w, b| {
                    let options = ConvOptions::new([stride; 2], [kernel / 2; 2], [1; 2], 1);
                    conv2d(x, w, Some(b), options)
                },
            );
        }
    }
}

#[test]
fn convolutions_of_every_channel_by_itself_are_burns() {
    for image in IMAGES.into_iter().chain([[2, 3, 33, 64]]) {
        for (kernel, stride) in [(3, 1), (3, 2), (5, 1), (5, 2)] {
            let channels = image[1];
            assert_same(
                &format!("convolution by channel of stride {stride}"),
                image,
                [channels, 1, kernel, kernel],
                channels,
                |x, w, b| {
                    let (x, w, b) = (primitive(x), primitive(w), primitive(b));
                    tensor(Cpu::depthwise(x, w, b, stride))
                },
                |x, w, b| {
                    let padding = [kernel / 2; 2];
                    let options = ConvOptions::new([stride; 2], padding, [1; 2], channels);
                    conv2d(x, w, Some(b), options)
                },
            );
        }
    }
}

#[test]
fn a_convolution_of_input_without_gradient_learns_the_same() {
    for (kernel, stride) in [(1, 1), (3, 1), (3, 2)] {
        let x = random::<Flex, 4>(1, [2, 3, 9, 8]);
        let by_weight = |wanted: bool| {
            let x = Tensor::<Cpu, 4>::from_inner(x.clone());
            let x = if wanted { x.require_grad() } else { x };
            let w = random::<Cpu, 4>(2, [4, 3, kernel, kernel]).require_grad();
            let b = random::<Cpu, 1>(3, [4]).require_grad();
            let y = convolution(x.clone(), w.clone(), b.clone(), stride);
            let gradients = (y.clone() * random(4, y.dims())).sum().backward();
            assert_eq!(x.grad(&gradients).is_some(), wanted);
            [
                values(w.grad(&gradients).unwrap()),
                values(b.grad(&gradients).unwrap()),
            ]
        };
        assert_eq!(by_weight(false), by_weight(true));
    }
}

#[test]
fn upconvolutions_are_burns() {
    for image in IMAGES {
        for kernel in [2, 3, 4] {
            let out = 3;
            let (padding, extra) = upconvolution_padding(kernel);
            assert_same(
                "upconvolution",
                image,
                [image[1], out, kernel, kernel],
                out,
                |x, w, b| tensor(Cpu::upconvolution(primitive(x), primitive(w), primitive(b))),
                |x, w, b| {
                    let options =
                        ConvTransposeOptions::new([2; 2], [padding; 2], [extra; 2], [1; 2], 1);
                    let y = conv_transpose2d(x, w, Some(b), options);
                    assert_eq!(y.dims()[2..], [image[2] * 2, image[3] * 2]);
                    y
                },
            );
        }
    }
}

/// Mean and biased variance by group, one operation of burn after the other.
fn statistics<B: Backend>(x: Tensor<B, 4>, group: Group) -> [Tensor<B, 3>; 2] {
    let [batch, channels, height, width] = x.dims();
    let x = x.reshape([batch, channels, height * width]);
    let mean = |x: Tensor<B, 3>| match group {
        Group::Batch => x.mean_dim(2).mean_dim(0),
        Group::Instance => x.mean_dim(2),
    };
    let centre = mean(x.clone());
    let variance = mean((x - centre.clone()).powf_scalar(2.0));
    [centre, variance]
}

fn normalised<B: Backend>(
    x: Tensor<B, 4>,
    scale: Tensor<B, 1>,
    shift: Tensor<B, 1>,
    group: Group,
    epsilon: f64,
) -> Tensor<B, 4> {
    let shape = x.dims();
    let [batch, channels, height, width] = shape;
    let [mean, variance] = statistics(x.clone(), group);
    let normal =
        (x.reshape([batch, channels, height * width]) - mean) / (variance + epsilon).sqrt();
    let by_channel = |v: Tensor<B, 1>| v.reshape([1, channels, 1]);
    (normal * by_channel(scale) + by_channel(shift)).reshape(shape)
}

#[test]
fn normalisations_are_what_their_formula_says() {
    for image in IMAGES {
        for (group, epsilon) in [(Group::Batch, EPSILON), (Group::Instance, 0.1)] {
            let channels = image[1];
            assert_same(
                &format!("normalisation by {group:?}"),
                image,
                [channels],
                channels,
                |x, scale, shift| {
                    let (x, scale, shift) = (primitive(x), primitive(scale), primitive(shift));
                    tensor(Cpu::normalise(x, scale, shift, group, epsilon).output)
                },
                |x, scale, shift| normalised(x, scale, shift, group, epsilon),
            );

            let x = random::<Flex, 4>(1, image) + 20.0;
            let ones = || primitive(Tensor::<Flex, 1>::ones([channels], &Default::default()));
            let ours = Flex::normalise(primitive(x.clone()), ones(), ones(), group, epsilon);
            let [mean, variance] = statistics(x, group);
            for (what, ours, theirs) in [
                ("mean", ours.mean, mean),
                ("variance", ours.variance, variance),
            ] {
                let ours = tensor::<Flex, 3>(ours);
                assert_eq!(ours.dims(), theirs.dims(), "{what} by {group:?}");
                let what = format!("{what} by {group:?} of {image:?}");
                assert_close(&values(ours), &values(theirs), &what);
            }
        }
    }
}

#[test]
fn channels_are_scaled_and_shifted_by_themselves() {
    fn outcome<B: Kernels>(shape: [usize; 4], by: [Tensor<B, 1>; 2]) -> Tensor<B, 4> {
        let [factor, shift] = by.map(primitive::<B, 1>);
        tensor(B::scale_and_shift(
            primitive(random::<B, 4>(1, shape)),
            factor,
            shift,
        ))
    }
    for shape in IMAGES {
        let channels = [shape[1]];
        let ours = outcome::<Flex>(shape, [random(2, channels), random(3, channels)]);
        // With gradients it is the composition of burn's operations.
        let theirs = outcome::<Cpu>(shape, [random(2, channels), random(3, channels)]);
        assert_close(&values(ours), &values(theirs.inner()), "values");
    }
}

#[test]
fn a_constant_image_is_normalised_to_the_shift() {
    let x = Tensor::<Flex, 4>::full([2, 2, 5, 5], 7.5, &Default::default());
    for group in [Group::Batch, Group::Instance] {
        let (scale, shift) = (random(2, [2]), random::<Flex, 1>(3, [2]));
        let scale = primitive::<Flex, 1>(scale);
        let result = Flex::normalise(
            primitive(x.clone()),
            scale,
            primitive(shift.clone()),
            group,
            EPSILON,
        );
        let shift = values(shift);
        let expected: Vec<f32> = (0..4).flat_map(|plane| [shift[plane % 2]; 25]).collect();
        assert_close(
            &values(tensor::<Flex, 4>(result.output)),
            &expected,
            "output",
        );
    }
}

#[test]
fn enlarging_repeats_every_pixel() {
    for image in IMAGES {
        assert_same(
            "enlargement",
            image,
            [1],
            1,
            |x, _, _| tensor(Cpu::enlarge(primitive(x))),
            |x, _, _| {
                let [batch, channels, height, width] = x.dims();
                x.reshape([batch, channels, height, 1, width, 1])
                    .expand([batch, channels, height, 2, width, 2])
                    .reshape([batch, channels, height * 2, width * 2])
            },
        );
    }
}

#[test]
fn rectifiers_are_burns() {
    for image in IMAGES {
        assert_same(
            "parametric rectifier",
            image,
            [1],
            1,
            |x, slope, _| tensor(Cpu::rectify(primitive(x), primitive(slope))),
            |x, slope, _| relu(x.clone()) - relu(-x) * slope.reshape([1; 4]),
        );
    }
}

/// As in PyTorch, where burn's composition has no gradient at all.
#[test]
fn the_gradient_of_a_rectified_zero_is_that_of_a_negative_value() {
    let x = Tensor::<Flex, 4>::from_data([[[[-1.0, 0.0, 2.0]]]], &Default::default());
    let slope = Tensor::<Flex, 1>::from_data([0.25], &Default::default());
    let gradient = x.ones_like();
    let (by_x, by_slope) =
        Flex::rectify_backward(primitive(x), primitive(slope), primitive(gradient));
    assert_eq!(values(tensor::<Flex, 4>(by_x)), [0.25, 0.25, 1.0]);
    assert_eq!(values(tensor::<Flex, 1>(by_slope)), [-1.0]);
}

#[test]
fn concatenations_are_burns() {
    for image in IMAGES {
        let [batch, _, height, width] = image;
        // Of views the second operand comes transposed.
        let upright = |x: &Tensor<Cpu, 4>, s: Tensor<Cpu, 4>| {
            if s.dims()[2..] == x.dims()[2..] {
                s
            } else {
                s.swap_dims(2, 3)
            }
        };
        assert_same(
            "concatenation",
            image,
            [batch, 3, height, width],
            1,
            |x, s, _| {
                let s = upright(&x, s);
                tensor(Cpu::concatenate(primitive(x), primitive(s)))
            },
            |x, s, _| {
                let s = upright(&x, s);
                Tensor::cat(vec![x, s], 1)
            },
        );
    }
}

/// The bits of every result of every kernel.
fn all_bits(image: [usize; 4]) -> Vec<Vec<u32>> {
    let channels = image[1];
    let x = || primitive(random::<Flex, 4>(1, image));
    let vector = |seed, length| primitive(random::<Flex, 1>(seed, [length]));
    let mut results = Vec::new();
    let mut keep = |result: FloatTensor<Flex>| {
        let data = Tensor::<Flex, 1>::into_data(tensor::<Flex, 4>(result).flatten(0, 3));
        results.push(data.iter::<f32>().map(f32::to_bits).collect());
    };
    for (kernel, stride) in [(1, 1), (3, 1), (3, 2)] {
        let w = || primitive(random::<Flex, 4>(2, [6, channels, kernel, kernel]));
        let y = Flex::convolution(x(), w(), vector(3, 6), stride);
        let gradient = primitive(random::<Flex, 4>(4, tensor::<Flex, 4>(y.clone()).dims()));
        let (by_x, by_w, by_b) = Flex::convolution_backward(x(), w(), gradient, stride, true);
        keep(y);
        keep(by_x.unwrap());
        keep(by_w);
        keep(primitive(tensor::<Flex, 1>(by_b).reshape([1, 1, 1, 6])));
    }
    let w = || primitive(random::<Flex, 4>(2, [channels, 1, 5, 5]));
    let y = Flex::depthwise(x(), w(), vector(3, channels), 2);
    let gradient = primitive(random::<Flex, 4>(4, tensor::<Flex, 4>(y.clone()).dims()));
    let (by_x, by_w, by_b) = Flex::depthwise_backward(x(), w(), gradient, 2);
    keep(y);
    keep(by_x);
    keep(by_w);
    keep(primitive(
        tensor::<Flex, 1>(by_b).reshape([1, 1, 1, channels]),
    ));
    let w = || primitive(random::<Flex, 4>(2, [channels, 6, 3, 3]));
    let y = Flex::upconvolution(x(), w(), vector(3, 6));
    let gradient = primitive(random::<Flex, 4>(4, tensor::<Flex, 4>(y.clone()).dims()));
    let (by_x, by_w, by_b) = Flex::upconvolution_backward(x(), w(), gradient);
    keep(y);
    keep(by_x);
    keep(by_w);
    keep(primitive(tensor::<Flex, 1>(by_b).reshape([1, 1, 1, 6])));
    for group in [Group::Batch, Group::Instance] {
        let normal = Flex::normalise(
            x(),
            vector(2, channels),
            vector(3, channels),
            group,
            EPSILON,
        );
        let gradient = primitive(random::<Flex, 4>(4, image));
        let (mean, variance) = (normal.mean, normal.variance);
        let (by_x, by_scale, by_shift) = Flex::normalise_backward(
            x(),
            vector(2, channels),
            mean.clone(),
            variance.clone(),
            gradient,
            group,
            EPSILON,
        );
        keep(normal.output);
        keep(by_x);
        for row in [by_scale, by_shift] {
            let row = tensor::<Flex, 1>(row).reshape([1, 1, 1, channels]);
            keep(primitive(row));
        }
        for column in [mean, variance] {
            keep(primitive(tensor::<Flex, 3>(column).unsqueeze::<4>()));
        }
    }
    let gradient = || primitive(random::<Flex, 4>(4, image));
    keep(Flex::rectify(x(), vector(2, 1)));
    let (by_x, by_slope) = Flex::rectify_backward(x(), vector(2, 1), gradient());
    keep(by_x);
    keep(primitive(tensor::<Flex, 1>(by_slope).reshape([1; 4])));
    keep(Flex::concatenate(x(), gradient()));
    let (by_a, by_b) = Flex::concatenate_backward(gradient(), 5);
    keep(by_a);
    keep(by_b);
    keep(Flex::enlarge(x()));
    keep(Flex::enlarge_backward(primitive(random::<Flex, 4>(
        4, image,
    ))));
    results
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let image = [3, 16, 40, 64];
    let with = |threads| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| all_bits(image))
    };
    let alone = with(1);
    for threads in [2, 5] {
        assert!(with(threads) == alone, "{threads} threads");
    }
}
