//! The Lambda: environment, clients and model, then one invocation after another.

use std::sync::Arc;
use std::time::SystemTime;

use glioseg_segment::config::Config;
use glioseg_segment::{Buckets, Segment};
use glioseg_shared::cloud::{S3Storage, aws_environment, environment, s3_client, telemetry};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::Value;

// One invocation runs at a time, and computing has threads of its own: more would only take time to start.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init()?;
    let config = Config::from_variables(environment::of_process)?;
    let s3 = s3_client(&aws_environment().await);
    let buckets = Buckets {
        uploads: S3Storage::new(s3.clone(), &config.uploads_bucket, None).without_listing(),
        results: S3Storage::new(s3.clone(), &config.results_bucket, None).without_listing(),
        models: S3Storage::new(s3, &config.models_bucket, None),
    };
    let segment = Segment::new(buckets, config, Arc::new(SystemTime::now));
    segment.warm_up().await;
    let handler = async |event: LambdaEvent<Value>| {
        let handled = segment.handle(event.payload).await;
        handled.map_err(Error::from)
    };
    run(service_fn(handler)).await
}
