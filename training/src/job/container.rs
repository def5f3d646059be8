//! The tree that SageMaker gives a training container, and what it says there of the job.
//!
//! | path below the root (`/opt/ml`) | what |
//! |---|---|
//! | `input/config/hyperparameters.json` | hyper-parameters, all strings |
//! | `input/config/inputdataconfig.json` | the channels of data |
//! | `input/config/resourceconfig.json` | the hosts of the job |
//! | `input/data/<channel>/` | the data of a channel |
//! | `checkpoints/` | copied to S3 while the job runs, and back before it goes on |
//! | `model/` | becomes `model.tar.gz` |
//! | `output/failure` | the reason of a failure |
//! | `output/data/` | becomes `output.tar.gz` |
//!
//! The configuration is SageMaker's to write. On a host of one's own each of the three files may be missing: then there
//! are no hyper-parameters, every folder of data is a channel, and the host is the only one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::files::{ReadError, read_bounded};

/// The largest configuration file that is read: 1 MiB.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The tree, by its root.
#[derive(Clone, Debug)]
pub struct Container {
    root: PathBuf,
}

/// Why the tree or its configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// A file could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is larger than any configuration.
    #[error("{}: {bytes} bytes, at most {MAX_CONFIG_BYTES} are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A file is not what SageMaker writes.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A folder could not be made.
    #[error("{}: cannot be made: {source}", path.display())]
    Make {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The job has several hosts.
    #[error(
        "the job has {} hosts ({}): a network is trained on one; set InstanceCount to 1",
        hosts.len(), hosts.join(", ")
    )]
    SeveralHosts {
        /// Their names.
        hosts: Vec<String>,
    },
    /// A channel is not there.
    #[error(
        "the job has no channel {channel:?} ({what}); it has {}",
        listed(there)
    )]
    NoChannel {
        /// Its name.
        channel: &'static str,
        /// What it would hold.
        what: &'static str,
        /// The channels that are there.
        there: Vec<String>,
    },
    /// A channel holds nothing.
    #[error("{}: the channel {channel:?} is empty; {what}", path.display())]
    EmptyChannel {
        /// Its name.
        channel: &'static str,
        /// Its folder.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A path names no file of a channel.
    #[error(
        "{reason}; name CHANNEL/FILE, a file of one of the job's channels ({})",
        listed(there)
    )]
    NotInChannel {
        /// Why it names none.
        reason: &'static str,
        /// The channels that are there.
        there: Vec<String>,
    },
    /// A channel comes as a stream.
    #[error(
        "the channel {channel:?} has the input mode {mode}: use File or FastFile, which give a folder"
    )]
    Streamed {
        /// Its name.
        channel: &'static str,
        /// Its mode.
        mode: String,
    },
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

#[derive(Deserialize)]
struct ChannelConfig {
    #[serde(rename = "TrainingInputMode", default)]
    mode: Option<String>,
}

#[derive(Deserialize)]
struct ResourceConfig {
    hosts: Vec<String>,
}

impl Container {
    /// The tree below `root`. Nothing is looked at yet.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Makes the folders that the job writes into, where they are missing.
    ///
    /// # Errors
    /// [`ContainerError::Make`].
    pub fn make(&self) -> Result<(), ContainerError> {
        for folder in [self.checkpoints(), self.model(), self.output_data()] {
            fs::create_dir_all(&folder).map_err(|source| ContainerError::Make {
                path: folder,
                source,
            })?;
        }
        Ok(())
    }

    /// Hyper-parameters as they are written: the values should be texts.
    ///
    /// # Errors
    /// [`ContainerError`] naming the file; a missing one is an empty table.
    pub fn hyper_parameters(&self) -> Result<BTreeMap<String, serde_json::Value>, ContainerError> {
        Ok(self.config("hyperparameters.json")?.unwrap_or_default())
    }

    /// Refuses a job of several hosts.
    ///
    /// # Errors
    /// [`ContainerError::SeveralHosts`] with their names, or what is wrong with the file.
    pub fn check_hosts(&self) -> Result<(), ContainerError> {
        match self.config::<ResourceConfig>("resourceconfig.json")? {
            Some(ResourceConfig { hosts }) if hosts.len() > 1 => {
                Err(ContainerError::SeveralHosts { hosts })
            }
            _ => Ok(()),
        }
    }

    /// The folder of a channel that the job must have, `what` saying what for.
    ///
    /// # Errors
    /// [`ContainerError::NoChannel`], [`ContainerError::EmptyChannel`] or [`ContainerError::Streamed`].
    pub fn channel(
        &self,
        channel: &'static str,
        what: &'static str,
    ) -> Result<PathBuf, ContainerError> {
        let Some(path) = self.optional_channel(channel)? else {
            return Err(ContainerError::NoChannel {
                channel,
                what,
                there: self.channels()?,
            });
        };
        let unreadable = |source| ContainerError::Read {
            path: path.clone(),
            source,
        };
        if fs::read_dir(&path).map_err(unreadable)?.next().is_none() {
            return Err(ContainerError::EmptyChannel {
                channel,
                path,
                what,
            });
        }
        Ok(path)
    }

    /// The folder of a channel; `None` where the job has no such channel.
    ///
    /// # Errors
    /// [`ContainerError::Streamed`], or what is wrong with the configuration.
    pub fn optional_channel(
        &self,
        channel: &'static str,
    ) -> Result<Option<PathBuf>, ContainerError> {
        let path = self.data().join(channel);
        if let Some(configured) = self.channel_config()? {
            let Some(config) = configured.get(channel) else {
                return Ok(None);
            };
            if let Some(mode) = config.mode.as_deref().filter(|mode| *mode == "Pipe") {
                return Err(ContainerError::Streamed {
                    channel,
                    mode: mode.to_owned(),
                });
            }
        }
        Ok(path.is_dir().then_some(path))
    }

    /// A file of a channel by its name `CHANNEL/FILE`, without links in its path: a channel may be a link to data that lie
    /// elsewhere, but what is in it may lead nowhere else.
    ///
    /// # Errors
    /// [`ContainerError::NotInChannel`], or what is wrong with the configuration.
    pub fn file_of_channel(&self, name: &str) -> Result<PathBuf, ContainerError> {
        let there = self.channels()?;
        let refused = |reason| ContainerError::NotInChannel {
            reason,
            there: there.clone(),
        };
        let channel = name.split('/').next().unwrap_or_default();
        if !there.iter().any(|known| known == channel) {
            return Err(refused("its first part is no channel"));
        }
        let found = fs::canonicalize(self.data().join(channel)).and_then(|folder| {
            let file = fs::canonicalize(self.data().join(name))?;
            Ok(file.starts_with(folder).then_some(file))
        });
        match found {
            Ok(Some(file)) if file.is_file() => Ok(file),
            Ok(Some(_)) => Err(refused("it is not a file")),
            Ok(None) => Err(refused("it leads out of its channel")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(refused("there is no such file"))
            }
            Err(source) => Err(ContainerError::Read {
                path: self.data().join(name),
                source,
            }),
        }
    }

    fn channels(&self) -> Result<Vec<String>, ContainerError> {
        if let Some(configured) = self.channel_config()? {
            return Ok(configured.into_keys().collect());
        }
        let entries = fs::read_dir(self.data()).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    fn channel_config(&self) -> Result<Option<BTreeMap<String, ChannelConfig>>, ContainerError> {
        self.config("inputdataconfig.json")
    }

    /// The folder of all channels.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.root.join("input/data")
    }

    /// Where checkpoints are kept.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// Where the model goes.
    #[must_use]
    pub fn model(&self) -> PathBuf {
        self.root.join("model")
    }

    /// Where other results go.
    #[must_use]
    pub fn output_data(&self) -> PathBuf {
        self.root.join("output/data")
    }

    /// The file that tells the reason of a failure.
    #[must_use]
    pub fn failure(&self) -> PathBuf {
        self.root.join("output/failure")
    }

    fn config<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ContainerError> {
        let path = self.root.join("input/config").join(name);
        let bytes = match read_bounded(&path, MAX_CONFIG_BYTES) {
            Ok(bytes) => bytes,
            Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(ReadError::Io(source)) => return Err(ContainerError::Read { path, source }),
            Err(ReadError::TooLarge(bytes)) => {
                return Err(ContainerError::TooLarge { path, bytes });
            }
        };
        serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|source| ContainerError::Json { path, source })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::symlink;

    use super::*;

    const WHAT: &str = "patients";

    fn tree() -> (tempfile::TempDir, Container) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("input/config")).unwrap();
        fs::create_dir_all(root.path().join("input/data/training")).unwrap();
        let container = Container::new(root.path());
        (root, container)
    }

    fn configure(root: &tempfile::TempDir, file: &str, json: &str) {
        fs::write(root.path().join("input/config").join(file), json).unwrap();
    }

    #[test]
    fn several_hosts_are_refused_by_name() {
        let (root, container) = tree();
        container.check_hosts().unwrap();
        let hosts = |hosts: &str| {
            let json = format!(
                r#"{{"current_host":"algo-1","current_instance_type":"ml.g5.xlarge","hosts":{hosts},"network_interface_name":"eth0"}}"#
            );
            configure(&root, "resourceconfig.json", &json);
        };
        hosts(r#"["algo-1"]"#);
        container.check_hosts().unwrap();
        hosts(r#"["algo-1","algo-2"]"#);
        let said = container.check_hosts().unwrap_err().to_string();
        assert!(said.contains("algo-1, algo-2"), "{said}");
        assert!(said.contains("InstanceCount"), "{said}");
    }

    #[test]
    fn a_channel_is_named_configured_and_not_empty() {
        let (root, container) = tree();
        let said = container.channel("training", WHAT).unwrap_err().to_string();
        assert!(said.contains("empty") && said.contains(WHAT), "{said}");
        fs::write(root.path().join("input/data/training/file"), "").unwrap();
        let folder = container.channel("training", WHAT).unwrap();
        assert!(folder.ends_with("input/data/training"));

        configure(
            &root,
            "inputdataconfig.json",
            r#"{"train":{"TrainingInputMode":"File"}}"#,
        );
        let said = container.channel("training", WHAT).unwrap_err().to_string();
        assert!(said.contains("it has train"), "{said}");
        configure(
            &root,
            "inputdataconfig.json",
            r#"{"training":{"TrainingInputMode":"Pipe","S3DistributionType":"FullyReplicated"}}"#,
        );
        let said = container.channel("training", WHAT).unwrap_err().to_string();
        assert!(said.contains("FastFile"), "{said}");
        assert_eq!(container.optional_channel("split").unwrap(), None);
    }

    #[test]
    fn a_file_is_of_one_of_the_channels() {
        let (root, container) = tree();
        let data = fs::canonicalize(container.data()).unwrap();
        let elsewhere = fs::canonicalize(root.path()).unwrap().join("elsewhere");
        fs::create_dir_all(elsewhere.join("run")).unwrap();
        fs::create_dir_all(data.join("training/run")).unwrap();
        for folder in [
            &elsewhere,
            &elsewhere.join("run"),
            &data.join("training/run"),
        ] {
            fs::write(folder.join("a.bin"), "").unwrap();
        }
        // A channel may be a link; what is in one may lead about in it.
        symlink(&elsewhere, data.join("start")).unwrap();
        symlink("run/a.bin", data.join("training/inside.bin")).unwrap();
        symlink(elsewhere.join("a.bin"), data.join("training/outside.bin")).unwrap();
        symlink(&elsewhere, data.join("training/outside")).unwrap();
        symlink("loop.bin", data.join("training/loop.bin")).unwrap();
        let file = |name: &str| container.file_of_channel(name);
        for (name, found) in [
            ("training/run/a.bin", data.join("training/run/a.bin")),
            ("training/inside.bin", data.join("training/run/a.bin")),
            ("start/run/a.bin", elsewhere.join("run/a.bin")),
        ] {
            assert_eq!(file(name).unwrap(), found, "{name}");
        }
        let absolute = data.join("training/run/a.bin");
        for (name, reason) in [
            ("training/outside.bin", "leads out of its channel"),
            ("training/outside/a.bin", "leads out of its channel"),
            ("training/../../config/hyperparameters.json", "no such file"),
            ("training/../start/a.bin", "leads out of its channel"),
            (absolute.to_str().unwrap(), "no channel"),
            ("../data/training/run/a.bin", "no channel"),
            ("training/run", "not a file"),
            ("training", "not a file"),
            ("training/absent.bin", "no such file"),
            ("other/a.bin", "no channel"),
            ("", "no channel"),
        ] {
            let said = file(name).unwrap_err().to_string();
            assert!(said.contains(reason), "{name}: {said}");
            assert!(said.contains("channels (start, training)"), "{said}");
        }
        let error = file("training/loop.bin").unwrap_err();
        assert!(matches!(error, ContainerError::Read { .. }), "{error}");

        // A folder that the configuration does not name is no channel.
        configure(&root, "inputdataconfig.json", r#"{"training":{}}"#);
        assert!(file("training/run/a.bin").is_ok());
        let said = file("start/run/a.bin").unwrap_err().to_string();
        assert!(
            said.contains("no channel") && said.contains("(training)"),
            "{said}"
        );
    }

    #[test]
    fn a_damaged_configuration_is_named() {
        let (root, container) = tree();
        configure(&root, "hyperparameters.json", "{");
        let said = container.hyper_parameters().unwrap_err().to_string();
        assert!(said.contains("hyperparameters.json"), "{said}");
        configure(&root, "hyperparameters.json", &" ".repeat(2 << 20));
        let error = container.hyper_parameters().unwrap_err();
        assert!(matches!(error, ContainerError::TooLarge { .. }), "{error}");
    }
}
