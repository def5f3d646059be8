//! `glioseg serve`: the whole stack on this machine, until it is stopped.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use glioseg_local::api::MAX_BODY_BYTES;
use glioseg_local::observer::StackEvent;
use glioseg_local::s3::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY};
use glioseg_local::stack::{Stack, StackConfig};
use glioseg_local::wiring::{Bucket, ROUTES};
use glioseg_shared::cloud::telemetry;
use glioseg_shared::model::contract::NOTICE;

use super::{Outcome, runtime};

const EXAMPLES: &str = "Examples:
  glioseg serve
  glioseg serve --data-dir /var/tmp/glioseg --s3-port 9000 --api-port 8080
  glioseg serve --redrive                 try the dead letters once more
  GLIOSEG_LOG=info glioseg serve          with the functions' logs and metrics, as JSON lines
  MODEL_REFRESH_SECONDS=5 glioseg serve   the functions' variables count here too
  COLLECT_LABELLED=true glioseg serve     keeps slices with truth in the bucket results, under labelled/, to train on

Stop it with Ctrl-C: what was begun is finished, everything else goes on with the next start.";

/// Serve S3 and the HTTP API on 127.0.0.1, with the functions behind them, until Ctrl-C.
///
/// What is put into the bucket uploads is segmented, and scored where its truth comes along; masks, overlays, reports
/// and scores appear in the bucket results. Nobody has to sign in to the HTTP API: keep the ports to this machine.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Folder that keeps buckets and queues; made where it is missing.
    #[arg(long, default_value = "glioseg-data")]
    data_dir: PathBuf,
    /// Port of the S3 endpoint; 0 takes a free one.
    #[arg(long, default_value_t = 9000)]
    s3_port: u16,
    /// Port of the HTTP API; 0 takes a free one.
    #[arg(long, default_value_t = 8080)]
    api_port: u16,
    /// First put the messages back into their queues that were given up before.
    #[arg(long)]
    redrive: bool,
}

/// Runs the command.
pub(crate) fn run(args: &ServeArgs) -> Outcome {
    if std::env::var_os("GLIOSEG_LOG").is_some() {
        telemetry::init()?;
    }
    runtime()?.block_on(serve(args))
}

async fn serve(args: &ServeArgs) -> Outcome {
    // Taken over before anything is begun that has to be ended well.
    let mut stop = Stop::listen()?;
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let stack = Stack::start(StackConfig {
        s3_port: args.s3_port,
        api_port: args.api_port,
        environment,
        observer: Arc::new(tell),
        ..StackConfig::new(&args.data_dir)
    })
    .await?;
    greet(args, &stack);
    tell_left(&stack);
    if args.redrive {
        println!("{} dead letters are tried once more", stack.redrive()?);
    }
    stop.requested().await;
    println!("stopping; Ctrl-C once more stops at once");
    tokio::select! {
        () = stack.stop() => {
            println!("stopped; {} keeps everything", args.data_dir.display());
            Ok(ExitCode::SUCCESS)
        }
        // As shells tell of a process that a signal ended. What was begun is begun anew with the next start.
        () = stop.requested() => Ok(ExitCode::from(130)),
    }
}

fn greet(args: &ServeArgs, stack: &Stack) {
    let (s3, api) = (
        stack.s3_endpoint(),
        format!("http://{}", stack.api_address()),
    );
    let (uploads, results) = (Bucket::Uploads.name(), Bucket::Results.name());
    println!(
        "glioseg serves model {version} from {folder}. {NOTICE}.

For the AWS tools:
  export AWS_ENDPOINT_URL={s3} AWS_REGION={REGION} \\
         AWS_ACCESS_KEY_ID={ACCESS_KEY_ID} AWS_SECRET_ACCESS_KEY={SECRET_ACCESS_KEY}
  aws s3 cp study/ s3://{uploads}/study/ --recursive
  aws s3 ls s3://{results}/masks/study/
  glioseg-train publish model.onnx s3://{models} --force

HTTP API (a body has {MAX_BODY_BYTES} bytes at most; POST {api}/uploads gives links for larger ones):
  curl --data-binary @slice.tif -H 'content-type: image/tiff' {api}/segment
  curl --data-binary @slice.tif -H 'content-type: image/tiff' -H 'accept: image/tiff' -o mask.tif {api}/segment
  curl --data-binary @slice.tif -H 'content-type: image/tiff' -H 'accept: image/png;view=overlay' -o overlay.png {api}/segment
  curl {api}/studies/study",
        version = stack.model_version(),
        folder = args.data_dir.display(),
        models = Bucket::Models.name(),
    );
    let routes: Vec<_> = ROUTES
        .iter()
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    println!("  all routes: {}\n\nCtrl-C stops.", routes.join(", "));
}

/// Says what the last run left.
fn tell_left(stack: &Stack) {
    for (queue, counts) in stack.counts() {
        if counts.pending() > 0 {
            println!("{queue}: {} messages of the last run", counts.pending());
        }
    }
    for (queue, letter) in stack.dead_letters() {
        let object = &letter.message.object;
        println!(
            "{queue}: dead letter {}/{}: {}; --redrive tries it once more",
            object.bucket, object.key, letter.reason
        );
    }
}

fn tell(event: StackEvent<'_>) {
    match event {
        StackEvent::Retried {
            function,
            message,
            reason,
        } => {
            let object = &message.object;
            println!(
                "{function}: {}/{} failed (attempt {}) and is tried again: {reason}",
                object.bucket, object.key, message.receives
            );
        }
        StackEvent::GivenUp { function, letter } => {
            let object = &letter.message.object;
            println!(
                "{function}: {}/{} went to the dead letters: {}",
                object.bucket, object.key, letter.reason
            );
        }
        StackEvent::NotRecorded { function, error } => {
            println!("{function}: its queue's file cannot be written: {error}");
        }
        StackEvent::Announced { kind, detail } => println!("{kind}: {detail}"),
        StackEvent::Written(object) => {
            if object.bucket == Bucket::Results.name() && object.key.starts_with("rejected/") {
                println!("set aside: s3://{}/{} says why", object.bucket, object.key);
            }
        }
    }
}

/// The wishes to stop: Ctrl-C, and where there is one, SIGTERM.
struct Stop {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    async fn requested(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}
