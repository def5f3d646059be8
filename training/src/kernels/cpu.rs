//! The kernels on the CPU: patches and matrix products, samples of a batch over the cores.
//!
//! Sums run in an order that does not depend on the number of threads: equal input gives equal bits.

use burn::backend::Flex;
use burn::tensor::TensorData;
use burn::tensor::ops::FloatTensor;
use glioseg_shared::depthwise::{Scratch, Steps};
use rayon::prelude::*;

use super::groups::{inverse, place, pooled};
use super::matrix::{Matrix, add_product};
use super::patches::Walk;
use super::sums::{sum, sum_of_pairs};
use super::{AdamStep, Group, Kernels, Normalised, adamw, pointwise, upconvolution_padding};

type Flat = FloatTensor<Flex>;

impl Kernels for Flex {
    fn convolution(x: Flat, weight: Flat, bias: Flat, stride: usize) -> Flat {
        let (x, weight, bias) = (
            x.to_contiguous(),
            weight.to_contiguous(),
            bias.to_contiguous(),
        );
        let (walk, out) = walk(&x, &weight, stride);
        let mut y = vec![0.0; shape(&x)[0] * out * walk.positions()];
        let (w, b) = (weight.storage::<f32>(), bias.storage::<f32>());
        y.par_chunks_exact_mut(out * walk.positions())
            .zip(x.storage::<f32>().par_chunks_exact(walk.image()))
            .for_each_init(Vec::new, |patches, (y, x)| {
                for (plane, &b) in y.chunks_exact_mut(walk.positions()).zip(b) {
                    plane.fill(b);
                }
                let w = Matrix::new(w, out, walk.depth());
                if walk.is_pointwise() {
                    let x = Matrix::new(x, walk.depth(), walk.positions());
                    add_product(y, walk.positions(), w, x);
                    return;
                }
                for rows in walk.blocks() {
                    let (start, count) = (rows.start * walk.columns, rows.len() * walk.columns);
                    walk.gather(x, rows, patches);
                    let patches = Matrix::new(patches, walk.depth(), count);
                    add_product(&mut y[start..], walk.positions(), w, patches);
                }
            });
        tensor(y, [shape(&x)[0], out, walk.rows, walk.columns])
    }

    fn convolution_backward(
        x: Flat,
        weight: Flat,
        gradient: Flat,
        stride: usize,
        wants_x: bool,
    ) -> (Option<Flat>, Flat, Flat) {
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let gradient = gradient.to_contiguous();
        let (walk, out) = walk(&x, &weight, stride);
        let (w, positions) = (weight.storage::<f32>(), walk.positions());
        let mut by_x = vec![0.0; if wants_x { x.storage::<f32>().len() } else { 0 }];
        // A sample without a gradient by x still needs a place in the parallel walk.
        let by_x_chunk = if wants_x { walk.image() } else { 1 };
        let mut unused = vec![0.0; if wants_x { 0 } else { shape(&x)[0] }];
        let by_x_all = if wants_x { &mut by_x } else { &mut unused };
        let mut by_weight = vec![0.0; shape(&x)[0] * w.len()];
        by_weight
            .par_chunks_exact_mut(w.len())
            .zip(by_x_all.par_chunks_exact_mut(by_x_chunk))
            .zip(x.storage::<f32>().par_chunks_exact(walk.image()))
            .zip(gradient.storage::<f32>().par_chunks_exact(out * positions))
            .for_each_init(
                || (Vec::new(), Vec::new()),
                |(patches, spread), (((by_weight, by_x), x), g)| {
                    let w = Matrix::new(w, out, walk.depth());
                    if walk.is_pointwise() {
                        let g = Matrix::new(g, out, positions);
                        let x = Matrix::new(x, walk.depth(), positions);
                        add_product(by_weight, walk.depth(), g, x.transposed());
                        if wants_x {
                            add_product(by_x, positions, w.transposed(), g);
                        }
                        return;
                    }
                    for rows in walk.blocks() {
                        let (start, count) = (rows.start * walk.columns, rows.len() * walk.columns);
                        let g = Matrix::strided(&g[start..], out, count, positions);
                        walk.gather(x, rows.clone(), patches);
                        let seen = Matrix::new(patches, walk.depth(), count);
                        add_product(by_weight, walk.depth(), g, seen.transposed());
                        if wants_x {
                            spread.clear();
                            spread.resize(walk.depth() * count, 0.0);
                            add_product(spread, count, w.transposed(), g);
                            walk.scatter(spread, rows, by_x);
                        }
                    }
                },
            );
        let by_bias = channel_sums(gradient.storage(), out, positions);
        (
            wants_x.then(|| tensor(by_x, shape(&x))),
            tensor(sum_of_samples(by_weight, w.len()), shape(&weight)),
            vector(by_bias),
        )
    }

    fn depthwise(x: Flat, weight: Flat, bias: Flat, stride: usize) -> Flat {
        let (x, weight, bias) = (
            x.to_contiguous(),
            weight.to_contiguous(),
            bias.to_contiguous(),
        );
        let [batch, channels, height, width] = shape(&x);
        let steps = Steps::new(height, width, shape(&weight)[3], stride);
        let kernels = weight.storage::<f32>().chunks_exact(steps.taps());
        let filters: Vec<_> = kernels.zip(bias.storage::<f32>()).collect();
        let mut y = vec![0.0; batch * channels * steps.positions()];
        y.par_chunks_exact_mut(steps.positions())
            .zip(x.storage::<f32>().par_chunks_exact(steps.area()))
            .enumerate()
            .for_each_init(Scratch::default, |scratch, (plane, (y, x))| {
                let (kernel, &bias) = filters[plane % channels];
                steps.convolve(x, kernel, bias, scratch, y);
            });
        tensor(y, [batch, channels, steps.rows(), steps.columns()])
    }

    fn depthwise_backward(
        x: Flat,
        weight: Flat,
        gradient: Flat,
        stride: usize,
    ) -> (Flat, Flat, Flat) {
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let gradient = gradient.to_contiguous();
        let [batch, channels, height, width] = shape(&x);
        let steps = Steps::new(height, width, shape(&weight)[3], stride);
        let dot = |a: &[f32], b: &[f32]| sum_of_pairs(a, b, |a, b| a * b) as f32;
        let w = weight.storage::<f32>();
        let mut by_x = vec![0.0; x.storage::<f32>().len()];
        let mut by_weight = vec![0.0; batch * w.len()];
        by_weight
            .par_chunks_exact_mut(steps.taps())
            .zip(by_x.par_chunks_exact_mut(steps.area()))
            .zip(x.storage::<f32>().par_chunks_exact(steps.area()))
            .zip(
                gradient
                    .storage::<f32>()
                    .par_chunks_exact(steps.positions()),
            )
            .enumerate()
            .for_each_init(
                Scratch::default,
                |scratch, (plane, (((by_weight, by_x), x), g))| {
                    let kernel = &w[plane % channels * steps.taps()..][..steps.taps()];
                    steps.convolve_backward([x, kernel, g], dot, scratch, by_x, by_weight);
                },
            );
        let by_bias = channel_sums(gradient.storage(), channels, steps.positions());
        (
            tensor(by_x, shape(&x)),
            tensor(sum_of_samples(by_weight, w.len()), shape(&weight)),
            vector(by_bias),
        )
    }

    fn upconvolution(x: Flat, weight: Flat, bias: Flat) -> Flat {
        let (x, weight, bias) = (
            x.to_contiguous(),
            weight.to_contiguous(),
            bias.to_contiguous(),
        );
        let walk = up_walk(&x, &weight);
        let [batch, channels, ..] = shape(&x);
        let (w, b) = (weight.storage::<f32>(), bias.storage::<f32>());
        let mut y = vec![0.0; batch * walk.image()];
        y.par_chunks_exact_mut(walk.image())
            .zip(
                x.storage::<f32>()
                    .par_chunks_exact(channels * walk.positions()),
            )
            .for_each_init(Vec::new, |spread, (y, x)| {
                for (plane, &b) in y.chunks_exact_mut(walk.height * walk.width).zip(b) {
                    plane.fill(b);
                }
                let w = Matrix::new(w, channels, walk.depth());
                for rows in walk.blocks() {
                    let (start, count) = (rows.start * walk.columns, rows.len() * walk.columns);
                    let x = Matrix::strided(&x[start..], channels, count, walk.positions());
                    spread.clear();
                    spread.resize(walk.depth() * count, 0.0);
                    add_product(spread, count, w.transposed(), x);
                    walk.scatter(spread, rows, y);
                }
            });
        tensor(y, [batch, walk.channels, walk.height, walk.width])
    }

    fn upconvolution_backward(x: Flat, weight: Flat, gradient: Flat) -> (Flat, Flat, Flat) {
        let (x, weight) = (x.to_contiguous(), weight.to_contiguous());
        let gradient = gradient.to_contiguous();
        let walk = up_walk(&x, &weight);
        let channels = shape(&x)[1];
        let w = weight.storage::<f32>();
        let mut by_x = vec![0.0; x.storage::<f32>().len()];
        let mut by_weight = vec![0.0; shape(&x)[0] * w.len()];
        by_weight
            .par_chunks_exact_mut(w.len())
            .zip(by_x.par_chunks_exact_mut(channels * walk.positions()))
            .zip(
                x.storage::<f32>()
                    .par_chunks_exact(channels * walk.positions()),
            )
            .zip(gradient.storage::<f32>().par_chunks_exact(walk.image()))
            .for_each_init(Vec::new, |patches, (((by_weight, by_x), x), g)| {
                let w = Matrix::new(w, channels, walk.depth());
                for rows in walk.blocks() {
                    let (start, count) = (rows.start * walk.columns, rows.len() * walk.columns);
                    walk.gather(g, rows, patches);
                    let seen = Matrix::new(patches, walk.depth(), count);
                    let x = Matrix::strided(&x[start..], channels, count, walk.positions());
                    add_product(by_weight, walk.depth(), x, seen.transposed());
                    add_product(&mut by_x[start..], walk.positions(), w, seen);
                }
            });
        let by_bias = channel_sums(gradient.storage(), walk.channels, walk.height * walk.width);
        (
            tensor(by_x, shape(&x)),
            tensor(sum_of_samples(by_weight, w.len()), shape(&weight)),
            vector(by_bias),
        )
    }

    fn normalise(
        x: Flat,
        scale: Flat,
        shift: Flat,
        group: Group,
        epsilon: f64,
    ) -> Normalised<Flat> {
        let (x, scale, shift) = (
            x.to_contiguous(),
            scale.to_contiguous(),
            shift.to_contiguous(),
        );
        let [batch, channels, height, width] = shape(&x);
        let (area, values) = (height * width, x.storage::<f32>());
        let planes: Vec<[f64; 2]> = values
            .par_chunks_exact(area)
            .map(|plane| {
                let mean = sum(plane, |v| v) / area as f64;
                let centre = mean as f32;
                let squares = sum(plane, |v| (v - centre) * (v - centre));
                [mean, squares / area as f64]
            })
            .collect();
        let (mean, variance) = pooled(&planes, channels, group);
        let (scale, shift) = (scale.storage::<f32>(), shift.storage::<f32>());
        let mut output = vec![0.0; values.len()];
        output
            .par_chunks_exact_mut(area)
            .zip(values.par_chunks_exact(area))
            .enumerate()
            .for_each(|(plane, (to, from))| {
                let (channel, statistic) = place(plane, channels, group);
                let centre = mean[statistic];
                let factor = scale[channel] * inverse(variance[statistic], epsilon);
                let shift = shift[channel];
                pointwise::normalise(from, centre, factor, shift, to);
            });
        let groups = mean.len() / channels;
        Normalised {
            output: tensor(output, [batch, channels, height, width]),
            mean: Flat::from_data(TensorData::new(mean, [groups, channels, 1])),
            variance: Flat::from_data(TensorData::new(variance, [groups, channels, 1])),
        }
    }

    fn normalise_backward(
        x: Flat,
        scale: Flat,
        mean: Flat,
        variance: Flat,
        gradient: Flat,
        group: Group,
        epsilon: f64,
    ) -> (Flat, Flat, Flat) {
        let (x, gradient) = (x.to_contiguous(), gradient.to_contiguous());
        let (scale, mean, variance) = (
            scale.to_contiguous(),
            mean.to_contiguous(),
            variance.to_contiguous(),
        );
        let [batch, channels, height, width] = shape(&x);
        let area = height * width;
        let (mean, variance) = (mean.storage::<f32>(), variance.storage::<f32>());
        let scale = scale.storage::<f32>();
        let (values, gradients) = (x.storage::<f32>(), gradient.storage::<f32>());
        // Sums of the gradient, and of the gradient times the normalised value, by plane.
        let sums: Vec<[f64; 2]> = values
            .par_chunks_exact(area)
            .zip(gradients.par_chunks_exact(area))
            .enumerate()
            .map(|(plane, (x, g))| {
                let (_, statistic) = place(plane, channels, group);
                let (centre, inverse) = (mean[statistic], inverse(variance[statistic], epsilon));
                let along = sum_of_pairs(x, g, |x, g| (x - centre) * g);
                [sum(g, |v| v), along * f64::from(inverse)]
            })
            .collect();
        let mut by_shift = vec![0.0f32; channels];
        let mut by_scale = vec![0.0f32; channels];
        let mut grouped = vec![[0.0f64; 2]; mean.len()];
        for (plane, [plain, along]) in sums.iter().enumerate() {
            let (channel, statistic) = place(plane, channels, group);
            grouped[statistic][0] += plain;
            grouped[statistic][1] += along;
            by_shift[channel] += *plain as f32;
            by_scale[channel] += *along as f32;
        }
        let count = match group {
            Group::Batch => batch * area,
            Group::Instance => area,
        } as f64;
        let mut by_x = vec![0.0; values.len()];
        by_x.par_chunks_exact_mut(area)
            .zip(values.par_chunks_exact(area))
            .zip(gradients.par_chunks_exact(area))
            .enumerate()
            .for_each(|(plane, ((to, x), g))| {
                let (channel, statistic) = place(plane, channels, group);
                let (centre, inverse) = (mean[statistic], inverse(variance[statistic], epsilon));
                let [plain, along] = grouped[statistic].map(|s| (s / count) as f32);
                let factor = scale[channel] * inverse;
                pointwise::normalise_backward([x, g], centre, factor, [plain, along * inverse], to);
            });
        (
            tensor(by_x, [batch, channels, height, width]),
            vector(by_scale),
            vector(by_shift),
        )
    }

    fn scale_and_shift(x: Flat, factor: Flat, shift: Flat) -> Flat {
        let (x, factor, shift) = (
            x.to_contiguous(),
            factor.to_contiguous(),
            shift.to_contiguous(),
        );
        let [_, channels, height, width] = shape(&x);
        let (factors, shifts) = (factor.storage::<f32>(), shift.storage::<f32>());
        let mut y = vec![0.0; x.storage::<f32>().len()];
        y.par_chunks_exact_mut(height * width)
            .zip(x.storage::<f32>().par_chunks_exact(height * width))
            .enumerate()
            .for_each(|(plane, (to, from))| {
                let channel = plane % channels;
                pointwise::normalise(from, 0.0, factors[channel], shifts[channel], to);
            });
        tensor(y, shape(&x))
    }

    fn rectify(x: Flat, slope: Flat) -> Flat {
        let (x, slope) = (x.to_contiguous(), slope.to_contiguous());
        let y = pointwise::rectify(x.storage(), slope.storage()[0]);
        tensor(y, shape(&x))
    }

    fn rectify_backward(x: Flat, slope: Flat, gradient: Flat) -> (Flat, Flat) {
        let (x, slope) = (x.to_contiguous(), slope.to_contiguous());
        // Nobody else holds a gradient as a rule, and then this changes it in place.
        let mut by_x = contiguous(gradient);
        let by_slope =
            pointwise::rectify_backward(x.storage(), slope.storage()[0], by_x.storage_mut());
        (by_x, vector(vec![by_slope]))
    }

    fn concatenate(a: Flat, b: Flat) -> Flat {
        let (a, b) = (a.to_contiguous(), b.to_contiguous());
        let [batch, first, height, width] = shape(&a);
        let [_, second, ..] = shape(&b);
        let each = [first, second].map(|channels| channels * height * width);
        let both = pointwise::concatenate(a.storage(), b.storage(), each);
        tensor(both, [batch, first + second, height, width])
    }

    fn concatenate_backward(gradient: Flat, channels: usize) -> (Flat, Flat) {
        let gradient = gradient.to_contiguous();
        let [batch, all, height, width] = shape(&gradient);
        let channels = [channels, all - channels];
        let each = channels.map(|channels| channels * height * width);
        let [a, b] = pointwise::separate(gradient.storage(), each);
        (
            tensor(a, [batch, channels[0], height, width]),
            tensor(b, [batch, channels[1], height, width]),
        )
    }

    fn enlarge(x: Flat) -> Flat {
        let x = x.to_contiguous();
        let [batch, channels, height, width] = shape(&x);
        let mut y = vec![0.0; batch * channels * height * width * 4];
        y.par_chunks_exact_mut(4 * width)
            .zip(x.storage::<f32>().par_chunks_exact(width))
            .with_min_len(64)
            .for_each(|(to, from)| {
                let (first, second) = to.split_at_mut(2 * width);
                for (pair, &value) in first.as_chunks_mut::<2>().0.iter_mut().zip(from) {
                    *pair = [value; 2];
                }
                second.copy_from_slice(first);
            });
        tensor(y, [batch, channels, height * 2, width * 2])
    }

    fn enlarge_backward(gradient: Flat) -> Flat {
        let gradient = gradient.to_contiguous();
        let [batch, channels, height, width] = shape(&gradient);
        let mut by_x = vec![0.0; batch * channels * height * width / 4];
        by_x.par_chunks_exact_mut(width / 2)
            .zip(gradient.storage::<f32>().par_chunks_exact(2 * width))
            .with_min_len(64)
            .for_each(|(to, from)| {
                let (first, second) = from.split_at(width);
                let pairs = first
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .zip(second.as_chunks::<2>().0);
                for (to, (a, b)) in to.iter_mut().zip(pairs) {
                    *to = a[0] + a[1] + b[0] + b[1];
                }
            });
        tensor(by_x, [batch, channels, height / 2, width / 2])
    }

    fn adamw<const D: usize>(
        weights: Flat,
        gradient: Flat,
        moments: [Flat; 2],
        step: AdamStep,
    ) -> [Flat; 3] {
        let (weights, gradient) = (weights.to_contiguous(), gradient.to_contiguous());
        let [first, second] = moments.map(|moment| moment.to_contiguous());
        let moments = [first.storage(), second.storage()];
        let shape: [usize; D] = weights.layout().shape().dims();
        adamw::adamw(weights.storage(), gradient.storage(), moments, &step)
            .map(|values| Flat::from_data(TensorData::new(values, shape)))
    }
}

fn shape(x: &Flat) -> [usize; 4] {
    x.layout().shape().dims()
}

/// The tensor itself where it lies in one piece, otherwise a copy that does.
fn contiguous(x: Flat) -> Flat {
    x.to_contiguous()
}

fn tensor(values: Vec<f32>, shape: [usize; 4]) -> Flat {
    Flat::from_data(TensorData::new(values, shape))
}

fn vector(values: Vec<f32>) -> Flat {
    let length = values.len();
    Flat::from_data(TensorData::new(values, [length]))
}

/// The walk of a convolution over `x`, and its output channels.
fn walk(x: &Flat, weight: &Flat, stride: usize) -> (Walk, usize) {
    let [_, channels, height, width] = shape(x);
    let [out, _, kernel, _] = shape(weight);
    let walk = Walk {
        channels,
        height,
        width,
        kernel,
        stride,
        padding: kernel / 2,
        rows: (height - 1) / stride + 1,
        columns: (width - 1) / stride + 1,
    };
    (walk, out)
}

/// The walk of the convolution whose adjoint a transposed convolution is: over the enlarged image.
fn up_walk(x: &Flat, weight: &Flat) -> Walk {
    let [_, _, rows, columns] = shape(x);
    let [_, channels, kernel, _] = shape(weight);
    Walk {
        channels,
        height: rows * 2,
        width: columns * 2,
        kernel,
        stride: 2,
        padding: upconvolution_padding(kernel).0,
        rows,
        columns,
    }
}

/// Adds the samples' shares up, first to last.
fn sum_of_samples(mut shares: Vec<f32>, length: usize) -> Vec<f32> {
    let (total, others) = shares.split_at_mut(length);
    for share in others.chunks_exact(length) {
        total
            .iter_mut()
            .zip(share)
            .for_each(|(to, from)| *to += *from);
    }
    shares.truncate(length);
    shares
}

fn channel_sums(values: &[f32], channels: usize, area: usize) -> Vec<f32> {
    let planes: Vec<f64> = values
        .par_chunks_exact(area)
        .map(|plane| sum(plane, |v| v))
        .collect();
    let mut sums = vec![0.0f64; channels];
    for (plane, value) in planes.iter().enumerate() {
        sums[plane % channels] += value;
    }
    sums.into_iter().map(|sum| sum as f32).collect()
}
