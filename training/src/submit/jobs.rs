//! Jobs of SageMaker: their names, and the calls that create them, look at them and stop them.

use std::fmt;
use std::time::SystemTime;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use aws_types::SdkConfig;
use serde_json::{Value, json};

use super::call::{CallError, JsonClient, SAGEMAKER};
use super::state::{State, TrainingJob, TuningJob};

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Trains one model.
    Training,
    /// Trains many, and looks for the hyper-parameters that serve best.
    Tuning,
}

impl Kind {
    /// The member of requests and answers that names the job.
    #[must_use]
    pub fn name_member(self) -> &'static str {
        match self {
            Self::Training => "TrainingJobName",
            Self::Tuning => "HyperParameterTuningJobName",
        }
    }

    /// Longest name that SageMaker takes.
    #[must_use]
    pub fn max_name_length(self) -> usize {
        match self {
            Self::Training => 63,
            Self::Tuning => 32,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Training => "training job",
            Self::Tuning => "tuning job",
        })
    }
}

/// A job, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What it does.
    pub kind: Kind,
    /// Its name, unique in account and region.
    pub name: String,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A name that SageMaker does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is no name of a {kind}: it takes 1 to {} letters, digits and hyphens, no hyphen at its ends",
    kind.max_name_length()
)]
pub struct InvalidName {
    name: String,
    kind: Kind,
}

impl Job {
    /// A job of this name, if SageMaker takes it.
    ///
    /// # Errors
    ///
    /// [`InvalidName`].
    pub fn named(kind: Kind, name: &str) -> Result<Self, InvalidName> {
        let job = Self {
            kind,
            name: name.to_owned(),
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let right = (1..=kind.max_name_length()).contains(&name.len())
            && name.chars().all(allowed)
            && !name.starts_with('-')
            && !name.ends_with('-');
        if right {
            Ok(job)
        } else {
            let Self { kind, name } = job;
            Err(InvalidName { name, kind })
        }
    }

    /// A job named by a prefix and the time in UTC, to the second: `glioseg-20261123T193210Z`.
    ///
    /// # Errors
    ///
    /// As [`Job::named`].
    pub fn named_at(kind: Kind, prefix: &str, now: SystemTime) -> Result<Self, InvalidName> {
        let seconds = DateTime::from_secs(DateTime::from(now).secs());
        let time = seconds.fmt(Format::DateTime).unwrap_or_default();
        let time: String = time.chars().filter(char::is_ascii_alphanumeric).collect();
        Self::named(kind, &format!("{prefix}-{time}"))
    }
}

/// The calls of SageMaker that concern jobs.
#[derive(Debug)]
pub struct SageMaker {
    client: JsonClient,
}

impl SageMaker {
    /// A client as the environment configures it.
    ///
    /// # Errors
    ///
    /// As [`JsonClient::new`].
    pub fn new(aws: &SdkConfig) -> Result<Self, CallError> {
        let client = JsonClient::new(aws)?;
        Ok(Self { client })
    }

    /// Creates a job from its whole request.
    ///
    /// # Errors
    ///
    /// [`CallError`]. A name that is taken is refused, unless an attempt of this call may have taken it before its answer
    /// was lost.
    pub async fn create(&self, kind: Kind, request: &Value) -> Result<(), CallError> {
        let operation = match kind {
            Kind::Training => "CreateTrainingJob",
            Kind::Tuning => "CreateHyperParameterTuningJob",
        };
        match self
            .client
            .call::<Value>(&SAGEMAKER, operation, request)
            .await
        {
            Ok(_) => Ok(()),
            Err(CallError::Refused {
                code, attempt: 2.., ..
            }) if code == "ResourceInUse" => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Looks at a job.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn describe(&self, job: &Job) -> Result<State, CallError> {
        let input = json!({ job.kind.name_member(): job.name });
        match job.kind {
            Kind::Training => self
                .client
                .call::<TrainingJob>(&SAGEMAKER, "DescribeTrainingJob", &input)
                .await
                .map(TrainingJob::state),
            Kind::Tuning => self
                .client
                .call::<TuningJob>(&SAGEMAKER, "DescribeHyperParameterTuningJob", &input)
                .await
                .map(TuningJob::state),
        }
    }

    /// Asks a job to stop. A training job gets SIGTERM and 120 seconds to save; its last checkpoint stays.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn stop(&self, job: &Job) -> Result<(), CallError> {
        let operation = match job.kind {
            Kind::Training => "StopTrainingJob",
            Kind::Tuning => "StopHyperParameterTuningJob",
        };
        let input = json!({ job.kind.name_member(): job.name });
        self.client
            .call::<Value>(&SAGEMAKER, operation, &input)
            .await
            .map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    #[test]
    fn names_are_what_sagemaker_takes() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_462_330_999);
        let job = Job::named_at(Kind::Tuning, "glioseg", at).unwrap();
        assert_eq!(job.name, "glioseg-20261123T193210Z");
        assert!(Job::named(Kind::Training, &"a".repeat(63)).is_ok());
        for (kind, name) in [
            (Kind::Training, String::new()),
            (Kind::Training, "a".repeat(64)),
            (Kind::Tuning, "a".repeat(33)),
            (Kind::Training, "a_b".to_owned()),
            (Kind::Training, "-a".to_owned()),
            (Kind::Training, "a-".to_owned()),
        ] {
            assert!(Job::named(kind, &name).is_err(), "{name}");
        }
    }
}
