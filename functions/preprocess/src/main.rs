//! The Lambda: environment and clients, then one invocation after another.

use glioseg_preprocess::config::Config;
use glioseg_preprocess::{Buckets, Preprocess};
use glioseg_shared::cloud::{S3Storage, aws_environment, environment, s3_client, telemetry};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::Value;

// One invocation runs at a time, and decoding has threads of its own: more would only take time to start.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init()?;
    let config = Config::from_variables(environment::of_process)?;
    let s3 = s3_client(&aws_environment().await);
    let buckets = Buckets {
        uploads: S3Storage::new(s3.clone(), &config.uploads_bucket, None),
        results: S3Storage::new(s3, &config.results_bucket, None).without_listing(),
    };
    let preprocess = &Preprocess::new(buckets, config);
    let handler = |event: LambdaEvent<Value>| async move {
        preprocess.handle(event.payload).await.map_err(Error::from)
    };
    run(service_fn(handler)).await
}
