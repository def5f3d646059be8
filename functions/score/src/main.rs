//! The Lambda: environment and clients, then one invocation after another.

use glioseg_score::Score;
use glioseg_score::bus::EventBridge;
use glioseg_score::config::Config;
use glioseg_score::memory::Memory;
use glioseg_shared::cloud::{S3Storage, aws_environment, environment, s3_client, telemetry};
use lambda_runtime::{Error, LambdaEvent, run, service_fn};
use serde_json::Value;

// One invocation runs at a time, and it waits rather than computes: more threads would only take time to start.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    telemetry::init()?;
    let config = Config::from_variables(environment::of_process)?;
    let aws = aws_environment().await;
    let s3 = s3_client(&aws);
    let score = Score {
        uploads: S3Storage::new(s3.clone(), &config.uploads_bucket, None),
        results: S3Storage::new(s3, &config.results_bucket, None),
        bus: EventBridge::new(aws_sdk_eventbridge::Client::new(&aws), &config.event_bus),
        memory: Memory::default(),
        config,
    };
    let handler =
        async |event: LambdaEvent<Value>| Ok::<_, Error>(score.handle(event.payload).await?);
    run(service_fn(handler)).await
}
