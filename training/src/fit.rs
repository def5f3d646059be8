//! Training: slices in, weights out.

use std::io::Write;
use std::path::{Path, PathBuf};

use burn::module::AutodiffModule;
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{GradientsParams, Optimizer};
use burn::record::{BinBytesRecorder, FullPrecisionSettings, Recorder};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use glioseg_shared::scoring::Counts;
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::augment::{self, Transforms};
use crate::batches::Batches;
use crate::checkpoint::{Checkpoint, CheckpointError, Epoch};
use crate::files::write_atomically;
use crate::kernels::Kernels;
use crate::loss::Losses;
use crate::networks::{Network, Weights, WeightsError, fresh_weights};
use crate::optimise::{AdamW, clip_global_norm};
use crate::recipe::Recipe;

/// Slices of a validation batch: no gradients are kept, so it may be larger than one of training.
const VALIDATION_BATCH: usize = 32;

/// Why training ended without a model.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The metrics could not be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Metrics {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The log could not be written.
    #[error("the log cannot be written: {0}")]
    Log(std::io::Error),
    /// The folder holds a run of another recipe or on other data.
    #[error(
        "{}: a checkpoint of another run ({difference} differs); choose another --out, or remove it",
        path.display()
    )]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// `recipe` or `data`.
        difference: &'static str,
    },
    /// The checkpoint's weights do not fit the network.
    #[error("the checkpoint does not fit: {0}")]
    Weights(#[from] WeightsError),
    /// The optimiser's state could not be read or written.
    #[error("the optimiser's state: {0}")]
    Optimiser(#[from] burn::record::RecorderError),
    /// The loss or its gradients are no longer numbers.
    #[error("epoch {epoch}: training diverged at a loss of {loss}; lower --learning-rate")]
    Diverged {
        /// From 1.
        epoch: usize,
        /// The loss.
        loss: f64,
    },
    /// Nothing to train or to validate on.
    #[error("no slices in the {0} part of the split")]
    NoSlices(&'static str),
    /// The crop does not suit the network.
    #[error(
        "--crop {crop} must be a multiple of {divisor} and at most {most} for this network and grid"
    )]
    Crop {
        /// What was asked for.
        crop: usize,
        /// What the network divides by.
        divisor: usize,
        /// Side of the grid.
        most: usize,
    },
}

/// What a finished run leaves.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// Averaged weights of the best epoch.
    pub best: Weights,
    /// All epochs.
    pub history: Vec<Epoch>,
}

impl Fitted {
    /// The epoch that the weights are from.
    #[must_use]
    pub fn best_epoch(&self) -> Option<&Epoch> {
        best_of(&self.history)
    }
}

/// What a run stands on besides its recipe.
#[derive(Clone, Debug)]
pub struct Origin<'a> {
    /// Digest of data and split.
    pub data: &'a str,
    /// The weights to begin with; fresh ones, drawn by the recipe's seed, where there are none.
    pub start: Option<Weights>,
}

/// Trains by `recipe`, going on from `folder/checkpoint.bin` if it is there; validates after every epoch.
///
/// A run that does not go on begins with the weights of `origin`, or with fresh ones drawn by the recipe's seed.
///
/// Writes `folder/checkpoint.bin` and `folder/metrics.csv` after every epoch and prints `Val_dice=…;` to `log`.
/// The result is the same whether the run was interrupted or not.
///
/// # Errors
/// See [`FitError`].
pub fn fit<B>(
    recipe: &Recipe,
    training: &Batches<'_, B::InnerBackend>,
    validation: &Batches<'_, B::InnerBackend>,
    origin: Origin<'_>,
    folder: &Path,
    log: &mut dyn Write,
    device: &B::Device,
) -> Result<Fitted, FitError>
where
    B: AutodiffBackend<InnerBackend: Kernels + Transforms> + Kernels + Losses,
{
    for (part, batches) in [("training", training), ("validation", validation)] {
        if batches.is_empty() {
            return Err(FitError::NoSlices(part));
        }
    }
    let divisor = recipe.network.graph(recipe.dropout).divisor();
    let most = training.shortest_side();
    if recipe.crop == 0 || recipe.crop > most || !recipe.crop.is_multiple_of(divisor) {
        return Err(FitError::Crop {
            crop: recipe.crop,
            divisor,
            most,
        });
    }
    let path = folder.join("checkpoint.bin");
    let mut run = Run::<B>::start_or_resume(recipe, origin, &path, device)?;
    while run.history.len() < recipe.epochs && !run.is_stale() {
        let epoch = run.train_epoch(training)?;
        run.history.push(epoch);
        run.validate(validation);
        let last = &run.history[run.history.len() - 1];
        let (dice, rate) = (last.validation_dice, last.false_positive_rate);
        let line = writeln!(
            log,
            "epoch {}/{} loss={:.4}; Val_dice={dice:.4}; false_positive_rate={rate:.4}; learning_rate={:.3e};",
            last.epoch, recipe.epochs, last.loss, last.learning_rate
        );
        line.and_then(|()| log.flush()).map_err(FitError::Log)?;
        run.checkpoint()?.write(&path)?;
        write_metrics(&run.history, &folder.join("metrics.csv"))?;
    }
    // Once more: a run that was killed between its last checkpoint and this file goes through no further epoch.
    write_metrics(&run.history, &folder.join("metrics.csv"))?;
    Ok(Fitted {
        best: run.best,
        history: run.history,
    })
}

struct Run<'a, B: AutodiffBackend<InnerBackend: Kernels>> {
    recipe: &'a Recipe,
    data: &'a str,
    device: B::Device,
    network: Network<B>,
    average: Network<B::InnerBackend>,
    best: Weights,
    optimiser: Adam<B>,
    history: Vec<Epoch>,
}

type Adam<B> = OptimizerAdaptor<AdamW, Network<B>, B>;

impl<'a, B: AutodiffBackend<InnerBackend: Kernels + Transforms> + Kernels + Losses> Run<'a, B> {
    fn start_or_resume(
        recipe: &'a Recipe,
        origin: Origin<'a>,
        path: &Path,
        device: &B::Device,
    ) -> Result<Self, FitError> {
        let Origin { data, start } = origin;
        let graph = recipe.network.graph(recipe.dropout);
        let optimiser = AdamW::new(recipe.weight_decay as f32).init::<B, Network<B>>();
        let Some(checkpoint) = Checkpoint::read(path)? else {
            let weights = start.unwrap_or_else(|| {
                fresh_weights(&graph, &mut ChaCha8Rng::seed_from_u64(recipe.seed))
            });
            let network = Network::<B>::new(graph, weights.clone(), device)?;
            return Ok(Self {
                recipe,
                data,
                device: device.clone(),
                average: network.valid(),
                network,
                best: weights,
                optimiser,
                history: Vec::new(),
            });
        };
        let differs = |difference| FitError::OtherRun {
            path: path.to_owned(),
            difference,
        };
        if checkpoint.recipe != *recipe {
            return Err(differs("recipe"));
        }
        if checkpoint.data != data {
            return Err(differs("data"));
        }
        let recorder = BinBytesRecorder::<FullPrecisionSettings>::default();
        let record = recorder.load(checkpoint.optimiser, device)?;
        Ok(Self {
            recipe,
            data,
            device: device.clone(),
            network: Network::new(graph.clone(), checkpoint.weights, device)?,
            average: Network::new(graph, checkpoint.average, device)?,
            best: checkpoint.best,
            optimiser: optimiser.load_record(record),
            history: checkpoint.history,
        })
    }

    fn checkpoint(&self) -> Result<Checkpoint, FitError> {
        let recorder = BinBytesRecorder::<FullPrecisionSettings>::default();
        Ok(Checkpoint {
            recipe: self.recipe.clone(),
            data: self.data.to_owned(),
            history: self.history.clone(),
            weights: self.network.weights(),
            average: self.average.weights(),
            best: self.best.clone(),
            optimiser: Recorder::<B>::record(&recorder, self.optimiser.to_record(), ())?,
        })
    }

    /// Whether the best epoch lies further back than the recipe's patience.
    fn is_stale(&self) -> bool {
        best_of(&self.history)
            .is_some_and(|best| self.history.len() - best.epoch >= self.recipe.patience)
    }

    fn train_epoch(&mut self, batches: &Batches<'_, B::InnerBackend>) -> Result<Epoch, FitError> {
        let recipe = self.recipe;
        let number = self.history.len() + 1;
        // Seeded by epoch, so that a resumed run draws what an unbroken one does.
        let mut rng = ChaCha8Rng::seed_from_u64(recipe.seed ^ (number as u64) << 32);
        let order = batches.epoch(recipe.tumour_share, recipe.tumour_repeats, &mut rng);
        // Statistics over a last, very small batch would be noise; its slices come again in the next epoch.
        let steps = (order.len() / recipe.batch).max(1);
        let bar = progress_bar(number, recipe.epochs, (steps * recipe.batch) as u64);
        let best = best_of(&self.history).map_or(0.0, |epoch| epoch.validation_dice);
        let (mut losses, mut norms) = (0.0, 0.0);
        let mut rate = 0.0;
        for (step, chosen) in order.chunks(recipe.batch).take(steps).enumerate() {
            let global = (number - 1) * steps + step;
            B::seed(&self.device, recipe.seed ^ ((global as u64) << 20));
            let stack = batches.gather(chosen);
            let [_, _, height, width] = stack.dims();
            let size = [recipe.crop; 2];
            let slack = [width - size[0], height - size[1]];
            let draws: Vec<_> = chosen
                .iter()
                .map(|_| recipe.augmentation.draw(slack, &mut rng))
                .collect();
            let (images, masks) = augment::apply(stack, &draws, size);
            rate = recipe.schedule.rate(
                recipe.learning_rate,
                global,
                recipe.epochs * steps,
                recipe.warm_up_epochs * steps,
            );
            let (loss, norm) = self.step(images, masks, rate, global);
            if !loss.is_finite() || !norm.is_finite() {
                bar.finish_and_clear();
                return Err(FitError::Diverged {
                    epoch: number,
                    loss,
                });
            }
            losses += loss;
            norms += norm;
            bar.inc(chosen.len() as u64);
            bar.set_message(format!(
                "loss {:.4}  best Dice {best:.4}",
                losses / (step + 1) as f64
            ));
        }
        bar.finish_and_clear();
        Ok(Epoch {
            epoch: number,
            loss: losses / steps as f64,
            validation_dice: 0.0,
            false_positive_rate: 0.0,
            learning_rate: rate,
            gradient_norm: norms / steps as f64,
        })
    }

    /// One optimiser step; the loss and the norm of its gradients.
    fn step(
        &mut self,
        images: Tensor<B::InnerBackend, 4>,
        masks: Tensor<B::InnerBackend, 4>,
        rate: f64,
        global: usize,
    ) -> (f64, f64) {
        let logits = self.network.forward(Tensor::from_inner(images));
        let loss = self.recipe.loss.forward(logits, Tensor::from_inner(masks));
        let gradients = GradientsParams::from_grads(loss.backward(), &self.network);
        let (gradients, norm) = clip_global_norm(&self.network, gradients, self.recipe.clip);
        self.network = self.optimiser.step(rate, self.network.clone(), gradients);
        // The first steps move far: an average that starts slowly forgets them (as in TensorFlow's `num_updates`).
        let keep = self
            .recipe
            .average
            .min((1.0 + global as f64) / (10.0 + global as f64));
        let current = self.network.valid();
        self.average = if self.recipe.average == 0.0 {
            current
        } else {
            self.average.clone().average(&current, keep)
        };
        let scalar = |tensor: Tensor<B::InnerBackend, 1>| {
            f64::from(tensor.into_data().iter::<f32>().next().unwrap_or(f32::NAN))
        };
        (scalar(loss.inner()), scalar(norm))
    }

    /// Scores the averaged network, fills the last epoch's figures in and keeps the weights if they are the best.
    fn validate(&mut self, batches: &Batches<'_, B::InnerBackend>) {
        let (dice, false_positive_rate) = validate(&self.average, batches);
        let before = best_of(&self.history[..self.history.len() - 1]).map(|e| e.validation_dice);
        if let Some(epoch) = self.history.last_mut() {
            epoch.validation_dice = dice;
            epoch.false_positive_rate = false_positive_rate;
        }
        if before.is_none_or(|before| dice > before) {
            self.best = self.average.weights();
        }
    }
}

/// Mean volume Dice by patient and share of empty slices with a false tumour, at probability 0.5.
pub fn validate<B: Kernels>(network: &Network<B>, batches: &Batches<'_, B>) -> (f64, f64) {
    let mut volumes: Vec<Counts> = Vec::new();
    let (mut empty, mut false_positive) = (0u32, 0u32);
    let all: Vec<usize> = (0..batches.len()).collect();
    for chosen in all.chunks(VALIDATION_BATCH) {
        let stack = batches.gather(chosen);
        let channels = stack.dims()[1] - 1;
        let truth = stack.clone().narrow(1, channels, 1).into_data();
        let logits = network.forward(stack.narrow(1, 0, channels)).into_data();
        let truth: Vec<bool> = truth.iter::<f32>().map(|t| t >= 0.5).collect();
        let predicted: Vec<bool> = logits.iter::<f32>().map(|x| x >= 0.0).collect();
        let plane = truth.len() / chosen.len();
        let slices = predicted.chunks(plane).zip(truth.chunks(plane));
        for (&slice, (predicted, truth)) in chosen.iter().zip(slices) {
            let counts = counts(predicted, truth);
            let patient = batches.patient(slice);
            volumes.resize(volumes.len().max(patient + 1), Counts::default());
            volumes[patient] += counts;
            if counts.true_positive + counts.false_negative == 0 {
                empty += 1;
                false_positive += u32::from(counts.false_positive > 0);
            }
        }
    }
    let dice = volumes.iter().map(Counts::dice).sum::<f64>() / volumes.len() as f64;
    let rate = f64::from(false_positive) / f64::from(empty.max(1));
    (dice, rate)
}

fn counts(predicted: &[bool], truth: &[bool]) -> Counts {
    let mut counts = Counts::default();
    for (&predicted, &truth) in predicted.iter().zip(truth) {
        let cell = match (predicted, truth) {
            (true, true) => &mut counts.true_positive,
            (true, false) => &mut counts.false_positive,
            (false, true) => &mut counts.false_negative,
            (false, false) => &mut counts.true_negative,
        };
        *cell += 1;
    }
    counts
}

/// The epoch with the highest validation Dice, the earliest of equals.
fn best_of(history: &[Epoch]) -> Option<&Epoch> {
    history.iter().reduce(|best, epoch| {
        if epoch.validation_dice > best.validation_dice {
            epoch
        } else {
            best
        }
    })
}

fn progress_bar(epoch: usize, epochs: usize, slices: u64) -> ProgressBar {
    let template = "{prefix} [{bar:30}] {pos}/{len} slices  {per_sec}  {eta} left  {msg}";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(slices)
        .with_style(style.progress_chars("=> "))
        .with_prefix(format!("epoch {epoch}/{epochs}"))
}

fn write_metrics(history: &[Epoch], path: &Path) -> Result<(), FitError> {
    write_atomically(path, |file| {
        writeln!(
            file,
            "epoch,loss,validation_dice,false_positive_rate,learning_rate,gradient_norm"
        )?;
        history.iter().try_for_each(|e| {
            writeln!(
                file,
                "{},{},{},{},{},{}",
                e.epoch,
                e.loss,
                e.validation_dice,
                e.false_positive_rate,
                e.learning_rate,
                e.gradient_norm
            )
        })
    })
    .map_err(|source| FitError::Metrics {
        path: path.to_owned(),
        source,
    })
}
