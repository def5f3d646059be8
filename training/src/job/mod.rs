//! A training job in a container, by SageMaker's contract: `glioseg-train train`.
//!
//! - [`Container`]: the tree that it finds, and leaves its results in.
//! - [`HyperParameters`]: what it is told.
//! - [`conclude`]: the job from its beginning to an exit code.
//!
//! A job can be stopped or killed at any moment and started again: it goes on from its last whole epoch, comes to the
//! same weights and so to the same version, and publishes what it had not published. Nothing that others read changes
//! but by one conditional write, that of the channel's pointer, at the very end.

mod container;
mod data;
mod hyperparameters;
mod outcome;
mod publication;
mod termination;

use std::any::Any;
use std::fs;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use glioseg_shared::model::contract::NOTICE;

use self::data::Material;
use self::publication::{Store, ValidationJudge, write_model};
use crate::calibrate::Decided;
use crate::checkpoint::{Checkpoints, weights_digest};
use crate::data::CachedPatient;
use crate::device::Chosen;
use crate::evaluate::studies::Part;
use crate::fit::{Origin, OtherData, Session, check_crop};
use crate::package::{GRID, draft, score};
use crate::report::{Report, SplitPart, Subject};
use crate::run::{Run, RunError, StartWeights, provenance, run_data, weights_of};

pub use container::{Container, ContainerError};
pub use hyperparameters::{CorruptSlices, HyperParameterError, HyperParameters};
pub use outcome::{FAILED, FAILED_FOR_NOW, JobError, STOPPED};
pub use termination::Termination;

/// What a job is told beside its hyper-parameters.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where models are published: `s3://BUCKET[/PREFIX]` or a folder; nowhere but to the container's model folder
    /// where there is none.
    pub models: Option<String>,
    /// Commit of the code, for the model's contract.
    pub commit: String,
    /// Name of the job, for the log.
    pub job: Option<String>,
}

/// Runs a job to its end and returns its exit code: 0, [`FAILED`], [`FAILED_FOR_NOW`] or [`STOPPED`].
///
/// A model that is not better than the one that serves is no failure. The reason of a failure stands in the container's
/// `output/failure`, and on stderr.
pub fn conclude(container: &Container, surroundings: &Surroundings, log: &mut dyn Write) -> u8 {
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let termination = Termination::listen()?;
        forget(container)?;
        run(container, surroundings, log, &|| termination.is_told())
    }));
    let error = match ended {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => error,
        Err(panic) => JobError::Panicked(message(panic.as_ref())),
    };
    if error.is_stop() {
        eprintln!("{error}");
        return error.exit_code();
    }
    eprintln!("error: {error}");
    if let Err(unwritten) = outcome::write_failure(&container.failure(), &error) {
        eprintln!(
            "error: {}: cannot be written: {unwritten}",
            container.failure().display()
        );
    }
    error.exit_code()
}

/// The reason of a failure tells of this start of the job, not of one before.
fn forget(container: &Container) -> Result<(), JobError> {
    let path = container.failure();
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(JobError::Write {
            path: path.display().to_string(),
            source: error,
        }),
        _ => Ok(()),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the program broke off without a word".to_owned())
}

fn run(
    container: &Container,
    surroundings: &Surroundings,
    log: &mut dyn Write,
    stop: &dyn Fn() -> bool,
) -> Result<(), JobError> {
    container.check_hosts()?;
    let hyper = HyperParameters::read(&container.hyper_parameters()?)?;
    check_crop(&hyper.settings.recipe(), GRID as usize)?;
    let start = hyper.start(container)?;
    let device = hyper.device.choose()?;
    match &surroundings.job {
        Some(job) => writeln!(log, "job {job}: training on {device}")?,
        None => writeln!(log, "training on {device}")?,
    }
    let models = surroundings.models.as_deref().filter(|_| hyper.publish);
    let store = models.map(Store::new).transpose()?;
    if let Some(store) = &store {
        store.check(&hyper, log)?;
    }
    container.make()?;

    let material = Material::read(container, &hyper, log, stop)?;
    let job = Job {
        container,
        hyper: &hyper,
        material: &material,
        validation: material.patients(&material.split.validation),
        start,
        stop,
    };
    let onnx = job.train(device, &surroundings.commit, log)?;
    let (onnx, report) = job.evaluate(onnx, log)?;
    go_on(stop)?;

    let dice = report.evaluation.volume_dice().map(|(_, dice)| dice);
    let judge = ValidationJudge::new(&job.validation, &onnx, dice.collect());
    match &store {
        Some(store) => store.publish(&onnx, &hyper, &judge, log)?,
        None => writeln!(
            log,
            "not published ({}): the model is in {}",
            if hyper.publish {
                "MODELS_URI is not set"
            } else {
                "publish is false"
            },
            container.model().display()
        )?,
    }
    writeln!(log, "model {}: {NOTICE}", report.model.version)?;
    Ok(())
}

/// A job whose data are read.
struct Job<'a> {
    container: &'a Container,
    hyper: &'a HyperParameters,
    material: &'a Material,
    validation: Vec<&'a CachedPatient>,
    /// The checkpoint whose weights it begins with.
    start: Option<PathBuf>,
    stop: &'a dyn Fn() -> bool,
}

impl Job<'_> {
    /// Trains, going on from a checkpoint where there is one; the model file.
    fn train(
        &self,
        device: Chosen,
        commit: &str,
        log: &mut dyn Write,
    ) -> Result<Vec<u8>, JobError> {
        let Self {
            container,
            hyper,
            material,
            ..
        } = *self;
        let mut recipe = hyper.settings.recipe();
        let (_, digest) = run_data(&material.dataset, &material.split)?;
        let start = match &self.start {
            Some(path) => Some(weights_of(path, StartWeights::BestEpoch, &recipe, &digest)?),
            None => None,
        };
        recipe.start = start.as_ref().map(weights_digest);
        let names = material.names.clone();
        let provenance = provenance(&material.dataset, &material.split, names, &recipe, commit)?;
        let trained = device.run(Run {
            recipe: &recipe,
            mirror: hyper.settings.views.mirror,
            name: hyper.name(),
            contract: draft(&recipe, hyper.name(), provenance)?,
            training: material.patients(&material.split.train),
            validation: self.validation.clone(),
            decided: Decided::default(),
            origin: Origin {
                data: &digest,
                start,
            },
            resident_bytes: (hyper.resident_gib * f64::from(1u32 << 30)) as u64,
            session: Session {
                checkpoints: Checkpoints::two(&container.checkpoints()),
                other_data: OtherData::BeginAnew,
                metrics: &container.output_data().join("metrics.csv"),
                log: &mut *log,
                stop: self.stop,
            },
        })?;
        match trained.fitted.best_epoch() {
            Some(best) => writeln!(
                log,
                "epoch {} is the best on the validation patients",
                best.epoch
            )?,
            None => writeln!(
                log,
                "no epoch was run: the model has the weights that the run began with"
            )?,
        }
        Ok(trained.packaged.onnx)
    }

    /// Scores the model, leaves it with its reports in the container's model folder, and returns it with the report on
    /// the validation patients.
    fn evaluate(
        &self,
        mut onnx: Vec<u8>,
        log: &mut dyn Write,
    ) -> Result<(Vec<u8>, Report), JobError> {
        go_on(self.stop)?;
        let test: Vec<&CachedPatient> = self.material.test.iter().collect();
        if !test.is_empty() {
            onnx = score(&onnx, self.hyper.name(), "test", &test).map_err(RunError::from)?;
        }
        go_on(self.stop)?;
        let folder = self.container.model();
        write_model(&folder, &onnx, &self.material.split)?;
        let evaluation = folder.join("evaluation");
        let report = self.report(&onnx, Part::Validation, &self.validation)?;
        report.write(&evaluation)?;
        tell(&report, "Val_volume_dice", log)?;
        if !test.is_empty() {
            let report = self.report(&onnx, Part::Test, &test)?;
            report.write(&evaluation.join("test"))?;
            tell(&report, "Test_volume_dice", log)?;
        }
        Ok((onnx, report))
    }

    /// Scores a model on patients of a part, through the code that serves.
    fn report(
        &self,
        onnx: &[u8],
        part: Part,
        patients: &[&CachedPatient],
    ) -> Result<Report, JobError> {
        let (data, split) = &self.material.names;
        let subject = Subject::Data {
            name: data.clone(),
            split: Some(SplitPart::new(split, &self.material.split, part)),
        };
        let studies = patients.iter().copied().map(Ok);
        Ok(Report::make(onnx, subject, studies, |_| ())?)
    }
}

/// Where the job may well stop, it looks whether it should.
fn go_on(stop: &dyn Fn() -> bool) -> Result<(), JobError> {
    if stop() {
        Err(JobError::Stopped)
    } else {
        Ok(())
    }
}

/// Prints a report and, for who reads logs by regular expressions, its mean volume Dice.
fn tell(report: &Report, metric: &str, log: &mut dyn Write) -> io::Result<()> {
    writeln!(log, "{report}")?;
    match report.evaluation.summary.volume_dice_mean {
        Some(dice) => writeln!(log, "{metric}={:.4};", dice.value),
        None => Ok(()),
    }
}
