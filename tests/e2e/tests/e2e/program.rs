//! A function's program, run as Lambda runs it: a process that asks the runtime API for its next event.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use glioseg_local::queue::Invoke;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use super::binaries;

/// How long Lambda says that an invocation may take.
const ALLOWED: Duration = Duration::from_secs(60);

/// A program that is started when there is an event for it, and again after it was killed.
pub(crate) struct Program {
    name: &'static str,
    environment: Vec<(String, String)>,
    running: Mutex<Option<Running>>,
    killed: Notify,
}

/// A process and its runtime API.
struct Running {
    process: Child,
    events: mpsc::Sender<Value>,
    answers: mpsc::Receiver<Result<Value, String>>,
    api: JoinHandle<()>,
}

impl Program {
    pub(crate) fn new(name: &'static str, environment: Vec<(String, String)>) -> Self {
        Self {
            name,
            environment,
            running: Mutex::default(),
            killed: Notify::new(),
        }
    }

    /// Kills the process in the middle of its invocation: SIGKILL, which it cannot see coming.
    pub(crate) fn kill(&self) {
        self.killed.notify_one();
    }
}

#[async_trait]
impl Invoke for Program {
    async fn invoke(&self, payload: Value) -> Result<Value, String> {
        let mut place = self.running.lock().await;
        let mut running = match place.take() {
            Some(running) => running,
            None => Running::start(self.name, &self.environment).await,
        };
        running.events.send(payload).await.unwrap();
        let answer = tokio::select! {
            answer = running.answers.recv() => answer.unwrap(),
            status = running.process.wait() => {
                return Err(format!("{} ended by itself: {status:?}", self.name));
            }
            () = self.killed.notified() => {
                running.process.kill().await.unwrap();
                return Err(format!("{} was killed", self.name));
            }
        };
        *place = Some(running);
        answer
    }
}

impl Running {
    async fn start(name: &str, environment: &[(String, String)]) -> Self {
        let (events, next) = mpsc::channel(1);
        let (answered, answers) = mpsc::channel(1);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let next = Arc::new(Mutex::new(next));
        let api = tokio::spawn(serve(listener, next, answered));
        let process = Command::new(binaries::path(name))
            .env_clear()
            .envs(lambda_environment(name, address))
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            process,
            events,
            answers,
            api,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.api.abort();
    }
}

fn lambda_environment(name: &str, api: SocketAddr) -> [(&'static str, String); 5] {
    [
        ("AWS_LAMBDA_RUNTIME_API", api.to_string()),
        ("AWS_LAMBDA_FUNCTION_NAME", name.to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512".to_owned()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
        ("AWS_LAMBDA_LOG_STREAM_NAME", name.to_owned()),
    ]
}

type Next = Arc<Mutex<mpsc::Receiver<Value>>>;
type Answered = mpsc::Sender<Result<Value, String>>;

async fn serve(listener: TcpListener, next: Next, answered: Answered) {
    // They end together with the task that holds them.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (next, answered) = (Arc::clone(&next), answered.clone());
        let service = service_fn(move |request| {
            let (next, answered) = (Arc::clone(&next), answered.clone());
            async move { Ok::<_, Infallible>(answer(request, &next, &answered).await) }
        });
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// Source: "Using the Lambda runtime API for custom runtimes" of the AWS Lambda developer guide.
async fn answer(
    request: Request<Incoming>,
    next: &Mutex<mpsc::Receiver<Value>>,
    answered: &Answered,
) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if path.ends_with("/invocation/next") {
        let Some(event) = next.lock().await.recv().await else {
            // The process that asked is gone, and so is whoever had events for it.
            return std::future::pending().await;
        };
        let deadline = SystemTime::now() + ALLOWED;
        let deadline = deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        return Response::builder()
            .header("content-type", "application/json")
            .header("lambda-runtime-aws-request-id", "request")
            .header(
                "lambda-runtime-deadline-ms",
                deadline.as_millis().to_string(),
            )
            .header(
                "lambda-runtime-invoked-function-arn",
                "arn:aws:lambda:us-east-1:000000000000:function:test",
            )
            .header("lambda-runtime-trace-id", "Root=1-0-0;Sampled=0")
            .body(Full::from(event.to_string()))
            .unwrap();
    }
    let body = request.into_body().collect().await;
    let answer = match body {
        Ok(body) if path.ends_with("/response") => {
            Ok(serde_json::from_slice(&body.to_bytes()).unwrap())
        }
        Ok(body) => Err(String::from_utf8_lossy(&body.to_bytes()).into_owned()),
        Err(error) => Err(error.to_string()),
    };
    // Whoever waited for the answer may have killed the process.
    let _ = answered.send(answer).await;
    Response::builder()
        .status(202)
        .body(Full::from("{}"))
        .unwrap()
}
