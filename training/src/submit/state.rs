//! Where a job stands, as SageMaker's descriptions of it say.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Waiting, running or stopping.
    Running,
    /// It ended well.
    Completed,
    /// It ended badly.
    Failed,
    /// It was stopped.
    Stopped,
}

impl Status {
    /// Whatever is none of the ends goes on.
    fn parse(status: &str) -> Self {
        match status {
            "Completed" => Self::Completed,
            "Failed" | "DeleteFailed" => Self::Failed,
            "Stopped" => Self::Stopped,
            _ => Self::Running,
        }
    }
}

/// A part of a training job's life, in SageMaker's words.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Transition {
    /// `Starting`, `Downloading`, `Training`, `Interrupted`, `Uploading` and others.
    pub status: String,
    /// More words, where there are any.
    #[serde(default)]
    pub status_message: String,
}

/// A metric that SageMaker read from a job's log by the regular expressions of its request.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Metric {
    /// Its name.
    pub metric_name: String,
    /// Its last value.
    pub value: f64,
}

/// What is to be known of a job at some moment.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Where it stands.
    pub status: Status,
    /// The same in SageMaker's words.
    pub phase: String,
    /// The parts of its life so far; none of a tuning job.
    pub transitions: Vec<Transition>,
    /// Why it failed, where it did.
    pub failure: Option<String>,
    /// Units of work that are done and that there are: training jobs of a tuning job. SageMaker does not count the epochs
    /// of a training job.
    pub progress: Option<[u64; 2]>,
    /// Epochs that a training job is to run.
    pub epochs: Option<u64>,
    /// Last values of the metrics; of a tuning job, those of its best training job.
    pub metrics: Vec<Metric>,
    /// Seconds that a training job trained, and those that are charged for.
    pub seconds: Option<[u64; 2]>,
    /// `s3://` address of a training job's `model.tar.gz`.
    pub model: Option<String>,
    /// The best training job of a tuning job so far.
    pub best: Option<String>,
}

/// What is read of DescribeTrainingJob's answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TrainingJob {
    training_job_status: String,
    #[serde(default)]
    secondary_status: String,
    #[serde(default)]
    secondary_status_transitions: Vec<Transition>,
    failure_reason: Option<String>,
    #[serde(default)]
    hyper_parameters: BTreeMap<String, String>,
    #[serde(default)]
    final_metric_data_list: Vec<Metric>,
    training_time_in_seconds: Option<u64>,
    billable_time_in_seconds: Option<u64>,
    model_artifacts: Option<ModelArtifacts>,
}

#[derive(Deserialize)]
struct ModelArtifacts {
    #[serde(rename = "S3ModelArtifacts")]
    model: Option<String>,
}

impl TrainingJob {
    pub(super) fn state(self) -> State {
        let epochs = self.hyper_parameters.get("epochs");
        let seconds = self.training_time_in_seconds;
        State {
            status: Status::parse(&self.training_job_status),
            phase: self.secondary_status,
            transitions: self.secondary_status_transitions,
            failure: self.failure_reason.filter(|reason| !reason.is_empty()),
            progress: None,
            epochs: epochs.and_then(|epochs| epochs.parse().ok()),
            metrics: self.final_metric_data_list,
            seconds: seconds
                .map(|seconds| [seconds, self.billable_time_in_seconds.unwrap_or(seconds)]),
            model: self.model_artifacts.and_then(|artifacts| artifacts.model),
            best: None,
        }
    }
}

/// What is read of DescribeHyperParameterTuningJob's answer.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TuningJob {
    hyper_parameter_tuning_job_status: String,
    failure_reason: Option<String>,
    #[serde(default)]
    hyper_parameter_tuning_job_config: TuningConfig,
    #[serde(default)]
    training_job_status_counters: Counters,
    best_training_job: Option<Best>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct TuningConfig {
    resource_limits: ResourceLimits,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ResourceLimits {
    max_number_of_training_jobs: u64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Counters {
    completed: u64,
    non_retryable_error: u64,
    stopped: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Best {
    training_job_name: String,
    final_hyper_parameter_tuning_job_objective_metric: Option<Metric>,
}

impl TuningJob {
    pub(super) fn state(self) -> State {
        let Counters {
            completed,
            non_retryable_error,
            stopped,
        } = self.training_job_status_counters;
        let limits = self.hyper_parameter_tuning_job_config.resource_limits;
        let done = completed
            .saturating_add(non_retryable_error)
            .saturating_add(stopped);
        let (best, metric) = self.best_training_job.map_or((None, None), |best| {
            (
                Some(best.training_job_name),
                best.final_hyper_parameter_tuning_job_objective_metric,
            )
        });
        State {
            status: Status::parse(&self.hyper_parameter_tuning_job_status),
            phase: self.hyper_parameter_tuning_job_status,
            transitions: Vec::new(),
            failure: self.failure_reason.filter(|reason| !reason.is_empty()),
            progress: Some([done, limits.max_number_of_training_jobs.max(done)]),
            epochs: None,
            metrics: Vec::from_iter(metric),
            seconds: None,
            model: None,
            best,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn a_tuning_job_counts_the_training_jobs_that_ended() {
        let answer = json!({
            "HyperParameterTuningJobStatus": "InProgress",
            "HyperParameterTuningJobConfig": {"ResourceLimits": {"MaxNumberOfTrainingJobs": 20}},
            "TrainingJobStatusCounters": {
                "Completed": 3, "InProgress": 2, "RetryableError": 4, "NonRetryableError": 1, "Stopped": 2,
            },
            "BestTrainingJob": {
                "TrainingJobName": "t-003",
                "FinalHyperParameterTuningJobObjectiveMetric": {"MetricName": "Val_dice", "Value": 0.8},
            },
            "FailureReason": "",
        });
        let state = serde_json::from_value::<TuningJob>(answer).unwrap().state();
        assert_eq!(state.status, Status::Running);
        assert_eq!(state.progress, Some([6, 20]));
        assert_eq!(state.best.as_deref(), Some("t-003"));
        assert_eq!(state.metrics[0].value, 0.8);
        assert_eq!(state.failure, None);
    }

    #[test]
    fn the_barest_answer_is_enough() {
        let of = |status| {
            let answer = json!({"TrainingJobStatus": status});
            serde_json::from_value::<TrainingJob>(answer)
                .unwrap()
                .state()
        };
        assert_eq!(of("Stopping").status, Status::Running);
        assert_eq!(of("Stopped").status, Status::Stopped);
        assert_eq!(of("Failed").status, Status::Failed);
        assert_eq!(of("Completed").model, None);
    }
}
