//! ministack, which stands in for AWS: a process on a port of its own, without a container and without an account.
//!
//! It runs with `AUTH=true`, so that every call is checked against the roles and resource policies that the template
//! makes.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use http_body_util::Full;
use hyper::Request;
use tempfile::TempDir;

use super::aws::{ADMINISTRATOR, Aws, REGION};
use super::wait::until;

/// A running ministack; it ends with this value.
pub(crate) struct Ministack {
    pub(crate) aws: Aws,
    process: Child,
    folder: TempDir,
}

impl Ministack {
    /// Starts one; `None`, with a printed line, where it is not installed.
    pub(crate) async fn start() -> Option<Self> {
        let program = glioseg_test_support::ministack()?;
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let aws = Aws::at(port);
        let log = File::create(log(folder.path())).unwrap();
        let process = Command::new(program)
            .env("AUTH", "true")
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            // Where the functions find it.
            .env("AWS_ENDPOINT_URL", aws.endpoint())
            .env("AWS_ACCESS_KEY_ID", ADMINISTRATOR)
            .env("AWS_SECRET_ACCESS_KEY", ADMINISTRATOR)
            .env("AWS_REGION", REGION)
            .env("MINISTACK_REGION", REGION)
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_PROFILE")
            // A port that two of them would quarrel about.
            .env("IOT_MTLS_ENABLED", "0")
            .env("TMPDIR", folder.path())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut ministack = Self {
            aws,
            process,
            folder,
        };
        until("ministack to listen", || {
            let ended = ministack.process.try_wait().unwrap();
            assert!(ended.is_none(), "ministack ended: {ended:?}");
            let aws = ministack.aws.clone();
            async move { healthy(&aws, port).await.then_some(()) }
        })
        .await;
        Some(ministack)
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        // Asked to end, it ends the functions too.
        let asked = Command::new("kill")
            .arg(self.process.id().to_string())
            .status();
        if !asked.is_ok_and(|status| status.success()) {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
        if std::thread::panicking() {
            let text = std::fs::read_to_string(log(self.folder.path())).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = &lines[lines.len().saturating_sub(80)..];
            eprintln!("the last of ministack's log:\n{}", last.join("\n"));
        }
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

async fn healthy(aws: &Aws, port: u16) -> bool {
    if tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .is_err()
    {
        return false;
    }
    let request = Request::get(format!("{}/_ministack/health", aws.endpoint()))
        .header("host", format!("127.0.0.1:{port}"))
        .body(Full::default())
        .unwrap();
    aws.send(request).await.status == 200
}

fn log(folder: &Path) -> PathBuf {
    folder.join("ministack.log")
}
