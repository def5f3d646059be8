//! Training: slices in, weights out.

mod error;
mod validation;

use std::io::Write;
use std::path::Path;

use burn::module::AutodiffModule;
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{GradientsParams, Optimizer};
use burn::record::{BinBytesRecorder, FullPrecisionSettings, Recorder};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use indicatif::{ProgressBar, ProgressStyle};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::augment::{self, Transforms};
use crate::batches::Batches;
use crate::checkpoint::{Checkpoint, Checkpoints, Epoch, Validation};
use crate::files::write_atomically;
use crate::kernels::Kernels;
use crate::loss::Losses;
use crate::networks::{Network, Weights};
use crate::optimise::{AdamW, clip_global_norm};
use crate::recipe::Recipe;

pub use error::FitError;
pub use validation::validate;

/// What a finished run leaves.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// Averaged weights of the best epoch; of the last one where nobody validates.
    pub best: Weights,
    /// All epochs.
    pub history: Vec<Epoch>,
}

impl Fitted {
    /// The best epoch by the validation patients, which the weights are from; `None` where nobody validates.
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
    /// The weights to begin with; the network's first ones, drawn by the recipe's seed but for an
    /// encoder that was trained before, where there are none.
    pub start: Option<Weights>,
}

/// What a run does that finds a checkpoint of its own recipe, but of other data or another split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherData {
    /// It ends with an error: whoever started it named the wrong folder, or changed it.
    Refuse,
    /// It begins anew, and says so: the data of a job grow while it waits for an instance.
    BeginAnew,
}

/// Where a run leaves its state, and what it hears while it runs.
pub struct Session<'a> {
    /// Its checkpoints, written after every epoch.
    pub checkpoints: Checkpoints,
    /// What a checkpoint of other data means.
    pub other_data: OtherData,
    /// The table of all epochs, written after every epoch.
    pub metrics: &'a Path,
    /// Where a line is printed after every epoch, with `Val_dice=…;` where anybody validates.
    pub log: &'a mut dyn Write,
    /// Asked before every step: whether to stop there.
    pub stop: &'a dyn Fn() -> bool,
}

/// Trains by `recipe`, going on from the session's checkpoint if there is one; validates after every epoch where there is
/// anybody to validate on.
///
/// A run that does not go on begins with the weights of `origin`, or with the network's first ones.
/// The result is the same whether the run was interrupted or not: whatever was done of an epoch that did not end is
/// done again.
///
/// # Errors
/// See [`FitError`].
pub fn fit<B>(
    recipe: &Recipe,
    training: &Batches<'_, B::InnerBackend>,
    validation: Option<&Batches<'_, B::InnerBackend>>,
    origin: Origin<'_>,
    session: Session<'_>,
    device: &B::Device,
) -> Result<Fitted, FitError>
where
    B: AutodiffBackend<InnerBackend: Kernels + Transforms> + Kernels + Losses,
{
    for (part, batches) in [("training", Some(training)), ("validation", validation)] {
        if batches.is_some_and(Batches::is_empty) {
            return Err(FitError::NoSlices(part));
        }
    }
    check_crop(recipe, training.shortest_side())?;
    let Session {
        mut checkpoints,
        other_data,
        metrics,
        log,
        stop,
    } = session;
    let left = left_state(&mut checkpoints, recipe, origin.data, other_data, log)?;
    let mut run = Run::<B>::start_or_resume(recipe, origin, left, log, device)?;
    while run.history.len() < recipe.epochs && !run.is_stale() {
        let mut epoch = run.train_epoch(training, stop)?;
        epoch.validation = validation.map(|batches| validate(&run.average, batches));
        write_epoch(&epoch, recipe.epochs, log).map_err(FitError::Log)?;
        run.keep(epoch);
        checkpoints.write(&run.checkpoint()?)?;
        write_metrics(&run.history, metrics)?;
    }
    // Once more: a run that was killed between its last checkpoint and this file goes through no further epoch.
    write_metrics(&run.history, metrics)?;
    Ok(Fitted {
        best: run.best,
        history: run.history,
    })
}

/// Checks that the crop suits the network and a grid whose shorter side is `most` pixels.
///
/// # Errors
/// [`FitError::Crop`].
pub fn check_crop(recipe: &Recipe, most: usize) -> Result<(), FitError> {
    let crop = recipe.crop;
    let divisor = recipe.network.graph(recipe.dropout).divisor();
    if crop == 0 || crop > most || !crop.is_multiple_of(divisor) {
        return Err(FitError::Crop {
            crop,
            divisor,
            most,
        });
    }
    Ok(())
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
        left: Option<Checkpoint>,
        log: &mut dyn Write,
        device: &B::Device,
    ) -> Result<Self, FitError> {
        let Origin { data, start } = origin;
        let graph = recipe.network.graph(recipe.dropout);
        let optimiser = AdamW::new(recipe.weight_decay as f32).init::<B, Network<B>>();
        let Some(checkpoint) = left else {
            let weights =
                start.unwrap_or_else(|| recipe.network.first_weights(&graph, recipe.seed));
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
        let epochs = checkpoint.history.len();
        writeln!(log, "going on after epoch {epochs} of {}", recipe.epochs)
            .map_err(FitError::Log)?;
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

    fn train_epoch(
        &mut self,
        batches: &Batches<'_, B::InnerBackend>,
        stop: &dyn Fn() -> bool,
    ) -> Result<Epoch, FitError> {
        let recipe = self.recipe;
        let number = self.history.len() + 1;
        // Seeded by epoch, so that a resumed run draws what an unbroken one does.
        let mut rng = ChaCha8Rng::seed_from_u64(recipe.seed ^ (number as u64) << 32);
        let order = batches.epoch(recipe.tumour_share, recipe.tumour_repeats, &mut rng);
        // Statistics over a last, very small batch would be noise; its slices come again in the next epoch.
        let steps = (order.len() / recipe.batch).max(1);
        let bar = progress_bar(number, recipe.epochs, (steps * recipe.batch) as u64);
        let best = best_of(&self.history).and_then(|epoch| epoch.validation);
        let best = best.map_or_else(String::new, |best| format!("  best Dice {:.4}", best.dice));
        let (mut losses, mut norms) = (0.0, 0.0);
        let mut rate = 0.0;
        for (step, chosen) in order.chunks(recipe.batch).take(steps).enumerate() {
            if stop() {
                bar.finish_and_clear();
                return Err(FitError::Stopped { epochs: number - 1 });
            }
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
            bar.set_message(format!("loss {:.4}{best}", losses / (step + 1) as f64));
        }
        bar.finish_and_clear();
        Ok(Epoch {
            epoch: number,
            loss: losses / steps as f64,
            validation: None,
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

    /// Records an epoch, and keeps its averaged weights if they are the best, or if nobody says which are.
    fn keep(&mut self, epoch: Epoch) {
        self.history.push(epoch);
        let last = self.history.len();
        if best_of(&self.history).is_none_or(|best| best.epoch == last) {
            self.best = self.average.weights();
        }
    }
}

/// What an earlier session of this very run left, if any.
fn left_state(
    checkpoints: &mut Checkpoints,
    recipe: &Recipe,
    data: &str,
    other_data: OtherData,
    log: &mut dyn Write,
) -> Result<Option<Checkpoint>, FitError> {
    let mut damaged = Vec::new();
    let read = checkpoints.read(&mut |path, reason| {
        damaged.push(format!("{} ({reason})", path.display()));
    })?;
    for file in &damaged {
        writeln!(log, "warning: a damaged checkpoint is passed over: {file}")
            .map_err(FitError::Log)?;
    }
    let Some(checkpoint) = read else {
        return Ok(None);
    };
    let differs = |difference| FitError::OtherRun {
        path: checkpoints.newest().to_owned(),
        difference,
    };
    if checkpoint.recipe != *recipe {
        return Err(differs("recipe"));
    }
    if checkpoint.data == data {
        return Ok(Some(checkpoint));
    }
    match other_data {
        OtherData::Refuse => Err(differs("data")),
        OtherData::BeginAnew => {
            writeln!(
                log,
                "warning: data or split have changed since {} was written; the training begins anew",
                checkpoints.newest().display()
            )
            .map_err(FitError::Log)?;
            Ok(None)
        }
    }
}

/// The epoch with the highest validation Dice, the earliest of equals; `None` where nobody validates.
fn best_of(history: &[Epoch]) -> Option<&Epoch> {
    let dice = |epoch: &Epoch| epoch.validation.map(|validation| validation.dice);
    let validated = history.iter().filter(|epoch| epoch.validation.is_some());
    validated.reduce(|best, epoch| {
        if dice(epoch) > dice(best) {
            epoch
        } else {
            best
        }
    })
}

/// One line, by whose names the figures are read.
fn write_epoch(epoch: &Epoch, of: usize, log: &mut dyn Write) -> std::io::Result<()> {
    write!(log, "epoch {}/{of} loss={:.4}; ", epoch.epoch, epoch.loss)?;
    if let Some(Validation {
        dice,
        false_positive_rate,
    }) = epoch.validation
    {
        write!(
            log,
            "Val_dice={dice:.4}; false_positive_rate={false_positive_rate:.4}; "
        )?;
    }
    writeln!(log, "learning_rate={:.3e};", epoch.learning_rate)?;
    log.flush()
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
            let figure = |of: fn(Validation) -> f64| {
                e.validation.map_or_else(String::new, |v| of(v).to_string())
            };
            writeln!(
                file,
                "{},{},{},{},{},{}",
                e.epoch,
                e.loss,
                figure(|v| v.dice),
                figure(|v| v.false_positive_rate),
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
