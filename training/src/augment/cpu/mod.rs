//! The transforms on the CPU: all of a sample's at once, while it is in the cache; samples over the cores.
//!
//! What a sample becomes depends on its draw alone, so that the number of threads changes no bit.

mod intensity;
mod noise;
mod sampling;

use burn::backend::Flex;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, TensorData};
use glioseg_shared::imaging::CHANNELS;
use rayon::prelude::*;

use super::{Draw, Transforms};
use crate::kernels::{primitive, tensor};
use intensity::Blur;
use sampling::{Affine, Sampler};

impl Transforms for Flex {
    fn transform(
        stack: Tensor<Self, 4>,
        draws: &[Draw],
        size: [usize; 2],
    ) -> (Tensor<Self, 4>, Tensor<Self, 4>) {
        let [batch, planes, height, width] = stack.dims();
        assert_eq!(batch, draws.len(), "one draw a sample");
        let channels = planes - 1;
        assert!(
            channels == CHANNELS || !draws.iter().any(Draw::changes_sequences),
            "one channel a sequence"
        );
        let stack = primitive(stack).to_contiguous();
        let [columns, rows] = size;
        let area = columns * rows;
        let mut images = vec![0.0; batch * channels * area];
        let mut masks = vec![0.0; batch * area];
        images
            .par_chunks_exact_mut(channels * area)
            .zip(masks.par_chunks_exact_mut(area))
            .zip(
                stack
                    .storage::<f32>()
                    .par_chunks_exact(planes * height * width),
            )
            .zip(draws)
            .for_each_init(
                || (Sampler::new([width, height], columns), Blur::default()),
                |(sampler, blur), (((image, mask), source), draw)| {
                    let affine = Affine::new(draw, [width, height], size);
                    let targets = image
                        .chunks_exact_mut(area)
                        .chain(std::iter::once(&mut *mask));
                    sampler.sample(&affine, source, targets);
                    for pixel in mask {
                        // A pixel belongs to the warped mask when at least half of it does.
                        *pixel = f32::from(u8::from(*pixel >= 0.5));
                    }
                    intensity::change(image, size, draw, blur);
                    noise::add(image, draw.noise, draw.noise_seed);
                },
            );
        (
            batch_of(images, [batch, channels, rows, columns]),
            batch_of(masks, [batch, 1, rows, columns]),
        )
    }
}

fn batch_of(values: Vec<f32>, shape: [usize; 4]) -> Tensor<Flex, 4> {
    tensor(FloatTensor::<Flex>::from_data(TensorData::new(
        values, shape,
    )))
}
