//! A training job: the tree that SageMaker would give its container, and `glioseg-train` run in it.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{self, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use glioseg_shared::files::read_bounded;
use glioseg_shared::registry::ModelCard;
use serde_json::{Value, json};

use crate::s3::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY};
use crate::wiring::Bucket;

/// The program's name.
const PROGRAM: &str = "glioseg-train";

/// Most bytes that are read of a card, and of a reason of a failure.
const MAX_BYTES: u64 = 1 << 20;

/// What may stand in the user's environment and would lead the program away from the stack.
const OTHER_ENDPOINTS: [&str; 5] = [
    "AWS_ENDPOINT_URL_S3",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "GLIOSEG_ML_ROOT",
];

/// The program that trains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trainer {
    program: PathBuf,
}

/// Where a job publishes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A folder.
    Folder(PathBuf),
    /// The bucket of models of a stack, by its S3 endpoint.
    Stack(String),
}

/// `/opt/ml` of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    root: PathBuf,
}

/// What came of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// Version of its model.
    pub version: String,
    /// The model's mean volume Dice on the validation patients, as the log has it.
    pub volume_dice: f64,
    /// Whether it serves.
    pub is_promoted: bool,
    /// What the job said of its publication.
    pub decision: String,
}

/// Why a job came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The program is not there.
    #[error(
        "{} is not there: build it with `cargo build --release --bin {PROGRAM}`, or name it with --trainer",
        program.display()
    )]
    NoTrainer {
        /// Where it was looked for.
        program: PathBuf,
    },
    /// The program does not start.
    #[error("{}: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file of the tree cannot be used.
    #[error("{}: {reason}", path.display())]
    Tree {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The program failed.
    #[error("{what} failed: {reason}")]
    Failed {
        /// What it was to do.
        what: String,
        /// The reason that it left.
        reason: String,
    },
    /// The program ended well without a word that it ends with.
    #[error("the job's log has no {what}")]
    Silent {
        /// What is missing.
        what: &'static str,
    },
}

impl Trainer {
    /// The program `named`, else the one beside this program.
    ///
    /// # Errors
    /// [`JobError::NoTrainer`] where it is not there.
    pub fn find(named: Option<&Path>) -> Result<Self, JobError> {
        let program = match named {
            Some(program) => program.to_owned(),
            None => env::current_exe()
                .unwrap_or_default()
                .with_file_name(format!("{PROGRAM}{}", env::consts::EXE_SUFFIX)),
        };
        if program.is_file() {
            Ok(Self { program })
        } else {
            Err(JobError::NoTrainer { program })
        }
    }

    /// Runs the job of a tree to its end; `tell` hears every line of its log, which is kept beside the tree's root.
    ///
    /// Blocks for as long as the training takes.
    ///
    /// # Errors
    /// [`JobError`], with the reason that the job left in its tree.
    pub fn train(
        &self,
        tree: &Tree,
        to: &Destination,
        tell: &dyn Fn(&str),
    ) -> Result<Trained, JobError> {
        let (log_path, said_path) = (
            tree.root.with_extension("log"),
            tree.root.with_extension("stderr"),
        );
        let unwritable = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| JobError::Tree {
                path,
                reason: error.to_string(),
            }
        };
        let mut log = File::create(&log_path).map_err(unwritable(&log_path))?;
        let said = File::create(&said_path).map_err(unwritable(&said_path))?;
        let mut child = self
            .command(to)
            .arg("train")
            .arg("--root")
            .arg(&tree.root)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(said)
            .spawn()
            .map_err(|source| self.not_started(source))?;
        let mut heard = Heard::default();
        let mut written = Ok(());
        for line in child
            .stdout
            .take()
            .map(BufReader::new)
            .into_iter()
            .flat_map(io::BufRead::lines)
        {
            let Ok(line) = line else {
                break;
            };
            written = written.and_then(|()| writeln!(log, "{line}"));
            heard.hear(&line);
            tell(&line);
        }
        let status = child.wait().map_err(|source| self.not_started(source))?;
        written.map_err(unwritable(&log_path))?;
        if !status.success() {
            let left = [tree.root.join("output/failure"), said_path];
            let reason = left.iter().find_map(|path| text(path));
            return Err(JobError::Failed {
                what: "the training job".to_owned(),
                reason: reason.unwrap_or_else(|| status.to_string()),
            });
        }
        heard.trained(tree.version()?)
    }

    /// Lets the channel serve the model before the present one; what the program says.
    ///
    /// # Errors
    /// [`JobError`], with what it complains of.
    pub fn roll_back(&self, models: &Destination, channel: &str) -> Result<String, JobError> {
        let output = self
            .command(models)
            .args(["rollback", &models.uri(), "--channel", channel])
            .stdin(Stdio::null())
            .output()
            .map_err(|source| self.not_started(source))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        }
        Err(JobError::Failed {
            what: "the roll-back".to_owned(),
            reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    fn not_started(&self, source: io::Error) -> JobError {
        JobError::Start {
            program: self.program.clone(),
            source,
        }
    }

    /// The program, led to where models are and nowhere else.
    fn command(&self, models: &Destination) -> Command {
        let mut command = Command::new(&self.program);
        for name in OTHER_ENDPOINTS {
            command.env_remove(name);
        }
        command.env("MODELS_URI", models.uri());
        if let Destination::Stack(endpoint) = models {
            command
                .env("AWS_ENDPOINT_URL", endpoint)
                .env("AWS_REGION", REGION)
                .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
                .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY);
        }
        command
    }
}

impl Destination {
    fn uri(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Stack(_) => format!("s3://{}", Bucket::Models.name()),
        }
    }
}

impl Tree {
    /// Makes the tree of a job with these hyper-parameters. Its channel is empty.
    ///
    /// # Errors
    /// [`JobError::Tree`].
    pub fn make(root: &Path, hyper: &BTreeMap<String, String>) -> Result<Self, JobError> {
        let tree = Self {
            root: root.to_owned(),
        };
        let config = tree.root.join("input/config");
        for folder in [&tree.training(), &config] {
            fs::create_dir_all(folder).map_err(|error| JobError::Tree {
                path: folder.clone(),
                reason: error.to_string(),
            })?;
        }
        let files: [(&str, Value); 3] = [
            ("hyperparameters.json", json!(hyper)),
            (
                "inputdataconfig.json",
                json!({"training": {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"}}),
            ),
            (
                "resourceconfig.json",
                json!({"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "lo"}),
            ),
        ];
        for (name, json) in files {
            let path = config.join(name);
            fs::write(&path, json.to_string()).map_err(|error| JobError::Tree {
                path,
                reason: error.to_string(),
            })?;
        }
        Ok(tree)
    }

    /// The folder of its one channel.
    #[must_use]
    pub fn training(&self) -> PathBuf {
        self.root.join("input/data/training")
    }

    /// The model file that the job left.
    #[must_use]
    pub fn model(&self) -> PathBuf {
        self.root.join("model/model.onnx")
    }

    /// The version of the model that the job left, by its card.
    fn version(&self) -> Result<String, JobError> {
        let path = self.root.join("model/model.json");
        let read = read_bounded(&path, MAX_BYTES).map_err(|error| error.to_string());
        let card = read.and_then(|json| {
            serde_json::from_slice::<ModelCard>(&json).map_err(|error| error.to_string())
        });
        match card {
            Ok(card) => Ok(card.model.version),
            Err(reason) => Err(JobError::Tree { path, reason }),
        }
    }
}

/// A file's text, if there is any.
fn text(path: &Path) -> Option<String> {
    let bytes = read_bounded(path, MAX_BYTES).ok()?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// What counts of a log, by the expressions that the job's definition has SageMaker look for.
#[derive(Default)]
struct Heard {
    volume_dice: Option<f64>,
    publication: Option<(bool, String)>,
}

impl Heard {
    fn hear(&mut self, line: &str) {
        if let Some(dice) = metric(line, "Val_volume_dice") {
            self.volume_dice = Some(dice);
        }
        if let Some(promoted) = metric(line, "Promoted") {
            let said = line.split("; Promoted=").next().unwrap_or(line);
            let said = said.split_once(": ").map_or(said, |(_, said)| said);
            self.publication = Some((promoted > 0.5, said.to_owned()));
        }
    }

    fn trained(self, version: String) -> Result<Trained, JobError> {
        let missing = |what| JobError::Silent { what };
        let (is_promoted, decision) = self.publication.ok_or(missing("Promoted"))?;
        Ok(Trained {
            version,
            volume_dice: self.volume_dice.ok_or(missing("Val_volume_dice"))?,
            is_promoted,
            decision,
        })
    }
}

/// The figure that `name=(.*?);` finds.
fn metric(line: &str, name: &str) -> Option<f64> {
    let (_, rest) = line.split_once(&format!("{name}="))?;
    rest.split_once(';')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_log_says_what_became_of_the_model() {
        let mut heard = Heard::default();
        for line in [
            "epoch 1: loss=0.5; Val_dice=0.1000;",
            "Val_volume_dice=0.4321;",
            "Test_volume_dice=0.9999;",
            "s3://models: the model is kept, not promoted: channel fast keeps serving v1: validation volume Dice 0.4321, \
             the serving model 0.5000; margin 0; Promoted=0;",
        ] {
            heard.hear(line);
        }
        let trained = heard.trained("v2".to_owned()).unwrap();
        assert_eq!((trained.volume_dice, trained.is_promoted), (0.4321, false));
        assert!(
            trained.decision.starts_with("the model is kept"),
            "{}",
            trained.decision
        );
        assert!(
            trained.decision.ends_with("margin 0"),
            "{}",
            trained.decision
        );
        assert!(Heard::default().trained(String::new()).is_err());
    }

    #[test]
    fn a_trainer_that_is_not_there_is_named_with_what_builds_it() {
        let error = Trainer::find(Some(Path::new("no/such/trainer")))
            .unwrap_err()
            .to_string();
        assert!(error.contains("no/such/trainer"), "{error}");
        assert!(error.contains("cargo build --release"), "{error}");
    }
}
