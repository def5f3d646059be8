//! A real S3 server inside the test: s3s over a temporary folder, on a free port of 127.0.0.1.

use std::net::SocketAddr;
use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use glioseg_shared::cloud::{ObjectKey, S3Storage};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::HttpError;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

const BUCKET: &str = "bucket";
const KEY_ID: &str = "key-id";
const SECRET: &str = "secret";
/// No test sends more in one request.
const MOST_BYTES: usize = 64 << 20;

/// The server, with one empty bucket; stops and forgets its objects when dropped.
pub(crate) struct S3Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    accepting: JoinHandle<()>,
    _root: TempDir,
}

impl S3Server {
    pub(crate) async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(accept(listener, service));
        Self {
            address,
            accepting,
            _root: root,
        }
    }

    /// A store in the server's bucket.
    pub(crate) fn storage(&self, prefix: Option<&str>) -> S3Storage {
        storage(self.address, BUCKET, prefix)
    }

    /// A store in the server's bucket whose every request is denied (403).
    #[allow(
        dead_code,
        reason = "not every test binary with this module asks for it"
    )]
    pub(crate) fn denied(&self) -> S3Storage {
        signed_with("another secret", self.address, BUCKET, None)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A store of whatever serves at the address, without the client's own retries.
pub(crate) fn storage(address: SocketAddr, bucket: &str, prefix: Option<&str>) -> S3Storage {
    signed_with(SECRET, address, bucket, prefix)
}

fn signed_with(secret: &str, address: SocketAddr, bucket: &str, prefix: Option<&str>) -> S3Storage {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .endpoint_url(format!("http://{address}"))
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(KEY_ID, secret, None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .force_path_style(true)
        .build();
    let prefix = prefix.map(|prefix| ObjectKey::parse(prefix).unwrap());
    S3Storage::new(Client::from_conf(config), bucket, prefix)
}

async fn accept(listener: TcpListener, service: S3Service) {
    // S3 decides conditional writes one by one; s3s-fs lets several writers pass the same check. One request at a
    // time gives its promise. Nor does S3 answer before it has taken the whole body: a connection that is closed on the
    // rest of one fails whatever request comes next on it.
    let one_at_a_time = Arc::new(Mutex::new(()));
    while let Ok((stream, _)) = listener.accept().await {
        let (service, one_at_a_time) = (service.clone(), Arc::clone(&one_at_a_time));
        let handler = service_fn(move |request| {
            let (service, one_at_a_time) = (service.clone(), Arc::clone(&one_at_a_time));
            async move {
                let mut request = request.map(s3s::Body::from);
                let whole = request.body_mut().store_all_limited(MOST_BYTES).await;
                whole.map_err(HttpError::new)?;
                let _turn = one_at_a_time.lock().await;
                service.call(request).await
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), handler));
    }
}
