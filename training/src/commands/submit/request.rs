//! The options that make a request.

use std::path::{Path, PathBuf};

use clap::Args;
use glioseg_shared::cloud::Location;
use glioseg_shared::files::read_bounded;
use glioseg_training::submit::jobs::{Job, Kind};
use glioseg_training::submit::request::{
    TRAINING_TEMPLATE, TUNING_TEMPLATE, Values, check, fill, read_template, set,
};
use serde_json::Value;

use crate::commands::CommandError;

/// Largest template that is read, in bytes.
const MAX_TEMPLATE: u64 = 1 << 20;

/// What fills the template of a request.
#[derive(Args, Debug)]
pub(super) struct RequestArgs {
    /// Request to fill instead of the built-in one: JSON with placeholders such as ${RoleArn}.
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// ARN of the role that the job runs as.
    #[arg(long, value_name = "ARN")]
    role: Option<String>,
    /// Container image in ECR.
    #[arg(long, value_name = "URI")]
    image: Option<String>,
    /// Labelled data: s3://BUCKET/PREFIX with one folder a patient.
    #[arg(long, value_name = "S3", value_parser = s3_folder)]
    data: Option<String>,
    /// Split: s3://BUCKET/KEY of a split.json [default: the data's own].
    #[arg(long, value_name = "S3", value_parser = s3_address)]
    split: Option<String>,
    /// Where the job writes: s3://BUCKET/PREFIX; a folder of the job's name is made there.
    #[arg(long, value_name = "S3", value_parser = s3_address)]
    output: Option<String>,
    /// Where checkpoints are kept, for a spot instance that is taken away [default: OUTPUT/NAME/checkpoints].
    #[arg(long, value_name = "S3", value_parser = s3_address)]
    checkpoints: Option<String>,
    /// Where the job publishes the model itself, by a template that lets it: s3://BUCKET.
    #[arg(long, value_name = "S3", value_parser = s3_address)]
    models: Option<String>,
    /// Instance to train on [default: ml.g6.xlarge].
    #[arg(long, value_name = "TYPE")]
    instance_type: Option<String>,
    /// KMS key of the outputs.
    #[arg(long, value_name = "KEY")]
    kms_key: Option<String>,
    /// KMS key of the instance's volume; not for instances with disks of their own, such as ml.g5.
    #[arg(long, value_name = "KEY")]
    volume_kms_key: Option<String>,
    /// Subnet to run in, again for each [default: no VPC].
    #[arg(long, value_name = "ID", requires = "security_group")]
    subnet: Vec<String>,
    /// Security group to run in, again for each.
    #[arg(long, value_name = "ID", requires = "subnet")]
    security_group: Vec<String>,
    /// Hyper-parameter, again for each: --set epochs=20. `glioseg-train train --help` lists them.
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
}

impl RequestArgs {
    /// What is to be asked for.
    pub(super) fn request(&self, job: &Job) -> Result<Value, CommandError> {
        let template = match (&self.template, job.kind) {
            (Some(path), _) => read_text(path)?,
            (None, Kind::Training) => TRAINING_TEMPLATE.to_owned(),
            (None, Kind::Tuning) => TUNING_TEMPLATE.to_owned(),
        };
        let template = read_template(&template, job.kind)?;
        let mut request = fill(&template, job, &self.values(), &self.defaults(job))?;
        for (name, value) in &self.set {
            set(&mut request, job, name, value)?;
        }
        check(&request)?;
        Ok(request)
    }

    fn values(&self) -> Values {
        let one = |value: &Option<String>| Vec::from_iter(value.clone());
        let mut values = Values::from([
            ("RoleArn", one(&self.role)),
            ("ImageUri", one(&self.image)),
            ("TrainingUri", one(&self.data)),
            ("SplitUri", one(&self.split)),
            ("OutputUri", one(&self.output)),
            ("CheckpointUri", one(&self.checkpoints)),
            ("ModelsUri", one(&self.models)),
            ("InstanceType", one(&self.instance_type)),
            ("KmsKeyId", one(&self.kms_key)),
            ("VolumeKmsKeyId", one(&self.volume_kms_key)),
            ("SubnetId", self.subnet.clone()),
            ("SecurityGroupId", self.security_group.clone()),
        ]);
        values.retain(|_, values| !values.is_empty());
        values
    }

    fn defaults(&self, job: &Job) -> Values {
        let mut values = Values::from([
            ("TrainingJobName", vec![job.name.clone()]),
            ("TuningJobName", vec![job.name.clone()]),
            ("InstanceType", vec!["ml.g6.xlarge".to_owned()]),
        ]);
        if let Some(output) = &self.output {
            let checkpoints = format!("{output}/{}/checkpoints", job.name);
            values.insert("CheckpointUri", vec![checkpoints]);
        }
        values
    }
}

fn read_text(path: &Path) -> Result<String, CommandError> {
    let bytes = read_bounded(path, MAX_TEMPLATE)
        .map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    String::from_utf8(bytes).map_err(|_| format!("{}: is no text", path.display()).into())
}

fn s3_address(text: &str) -> Result<String, String> {
    match Location::parse(text) {
        Ok(address @ Location::S3 { .. }) => Ok(address.to_string()),
        Ok(Location::Folder(_)) => Err("use an address such as s3://bucket/prefix".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// With a `/` at its end: SageMaker takes all keys that begin like the address, and `labelled` begins `labelled-old`, too.
fn s3_folder(text: &str) -> Result<String, String> {
    s3_address(text).map(|address| format!("{address}/"))
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("use NAME=VALUE".to_owned()),
    }
}
