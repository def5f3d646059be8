//! The server: its folder, its buckets, its port.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use aws_sdk_s3::Client;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

use super::client::client_config;
use super::notification::Notify;
use super::sequencer::Sequencer;
use super::store::Store;
use super::{ACCESS_KEY_ID, SECRET_ACCESS_KEY};
use crate::http_server::HttpServer;

/// How to serve.
pub struct S3Config {
    /// The folder that holds everything; made where it is missing. One server at a time may use it.
    pub folder: PathBuf,
    /// The port of 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Buckets to make where they are missing.
    pub buckets: Vec<String>,
    /// Who is told of written objects.
    pub notify: Arc<dyn Notify>,
}

/// A running S3 server.
#[derive(Debug)]
pub struct EmbeddedS3 {
    server: HttpServer,
}

impl EmbeddedS3 {
    /// Starts to serve.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be used or the port is taken.
    pub async fn start(config: S3Config) -> io::Result<Self> {
        let buckets = config.folder.join("buckets");
        for bucket in &config.buckets {
            fs::create_dir_all(buckets.join(bucket))?;
        }
        let sequencer = Sequencer::open(config.folder.join("sequencer"))?;
        // Resolved, as s3s-fs compares resolved paths.
        let store = Store::open(&buckets.canonicalize()?, sequencer, config.notify)?;
        let mut builder = S3ServiceBuilder::new(store);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY_ID, SECRET_ACCESS_KEY));
        let server = HttpServer::start(config.port, builder.build()).await?;
        Ok(Self { server })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Its address as the AWS tools take it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self) -> Client {
        let config = client_config(&self.endpoint(), ACCESS_KEY_ID, SECRET_ACCESS_KEY);
        Client::from_conf(config.build())
    }

    /// Accepts no more requests, and returns once every answer that was begun is complete.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}
