//! An S3 server inside the test that can be told to fail: s3s over a temporary folder, on a free port of 127.0.0.1.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use glioseg_shared::registry::Pointer;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::tree::files;

const BUCKET: &str = "models";
const KEY_ID: &str = "key-id";
const SECRET: &str = "secret";

/// What happens to the writes of objects whose key ends with a text.
pub(crate) enum Meddling {
    /// Nothing.
    Nothing,
    /// The first is never answered nor done; the sender hears of it.
    Hang(&'static str, oneshot::Sender<()>),
    /// All are denied.
    Deny(&'static str),
    /// The first finds the service busy.
    Busy(&'static str),
}

/// The server, with one empty bucket.
pub(crate) struct S3 {
    address: SocketAddr,
    meddling: Arc<Mutex<Meddling>>,
    root: TempDir,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

impl S3 {
    pub(crate) fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        let service = builder.build();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let meddling = Arc::new(Mutex::new(Meddling::Nothing));
        let (stop, stopped) = oneshot::channel();
        let serving = {
            let meddling = Arc::clone(&meddling);
            thread::spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = accept(listener, service, meddling) => {}
                        _ = stopped => {}
                    }
                });
            })
        };
        Self {
            address,
            meddling,
            root,
            stop: Some(stop),
            serving: Some(serving),
        }
    }

    pub(crate) fn meddle(&self, meddling: Meddling) {
        *self.meddling.lock().unwrap() = meddling;
    }

    /// Lets a job publish to the bucket.
    pub(crate) fn serve<'a>(&self, job: &'a mut Command) -> &'a mut Command {
        job.env("MODELS_URI", format!("s3://{BUCKET}"))
            .env("AWS_ENDPOINT_URL", format!("http://{}", self.address))
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            // What the program does about trouble is to be seen, not what its client does.
            .env("AWS_MAX_ATTEMPTS", "1")
    }

    /// What lies under a prefix of the bucket.
    pub(crate) fn files(&self, prefix: &str) -> Vec<String> {
        let mut names = files(&self.path(prefix));
        // The server's own notes.
        names.retain(|name| !name.starts_with('.'));
        names
    }

    /// What the channel `fast` serves.
    pub(crate) fn serving(&self) -> Option<Pointer> {
        let json = std::fs::read(self.path("models/fast/current.json")).ok()?;
        Some(serde_json::from_slice(&json).unwrap())
    }

    fn path(&self, key: &str) -> PathBuf {
        self.root.path().join(BUCKET).join(key)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

async fn accept(listener: TcpListener, service: S3Service, meddling: Arc<Mutex<Meddling>>) {
    // S3 decides conditional writes one by one; s3s-fs lets several writers pass the same check. One request at a
    // time gives its promise.
    let one_at_a_time = Arc::new(tokio::sync::Mutex::new(()));
    while let Ok((stream, _)) = listener.accept().await {
        let (service, meddling) = (service.clone(), Arc::clone(&meddling));
        let one_at_a_time = Arc::clone(&one_at_a_time);
        let handler = service_fn(move |request: Request<Incoming>| {
            let (service, meddling) = (service.clone(), Arc::clone(&meddling));
            let one_at_a_time = Arc::clone(&one_at_a_time);
            async move {
                match meddled(&request, &meddling) {
                    Some(Answer::Never) => std::future::pending().await,
                    Some(Answer::Error(status, code)) => {
                        // A client whose request is not taken might see a broken connection instead of the answer.
                        let mut body = request.into_body();
                        while poll_fn(|cx| Pin::new(&mut body).poll_frame(cx))
                            .await
                            .is_some()
                        {}
                        Ok::<_, Infallible>(error(status, code))
                    }
                    None => {
                        let _turn = one_at_a_time.lock().await;
                        let answer = Service::call(&service, request).await;
                        Ok(answer.unwrap_or_else(|_| error(500, "InternalError")))
                    }
                }
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), handler));
    }
}

enum Answer {
    Never,
    Error(u16, &'static str),
}

/// What happens to a request instead of what it asks for.
fn meddled(request: &Request<Incoming>, meddling: &Mutex<Meddling>) -> Option<Answer> {
    let mut meddling = meddling.lock().unwrap();
    let (Meddling::Hang(end, _) | Meddling::Deny(end) | Meddling::Busy(end)) = &*meddling else {
        return None;
    };
    if request.method() != Method::PUT || !request.uri().path().ends_with(end) {
        return None;
    }
    if matches!(*meddling, Meddling::Deny(_)) {
        return Some(Answer::Error(403, "AccessDenied"));
    }
    match std::mem::replace(&mut *meddling, Meddling::Nothing) {
        Meddling::Hang(_, heard) => {
            let _ = heard.send(());
            Some(Answer::Never)
        }
        _ => Some(Answer::Error(503, "SlowDown")),
    }
}

fn error(status: u16, code: &str) -> Response<Body> {
    let xml = format!("<Error><Code>{code}</Code><Message>as planned</Message></Error>");
    let answer = Response::builder().status(status);
    answer.body(Body::from(xml)).unwrap()
}
