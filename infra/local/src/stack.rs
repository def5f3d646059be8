//! Everything that the template deploys, in one process.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;

use aws_sdk_s3::Client;
use glioseg_shared::cloud::{EnvironmentError, S3Storage};

use crate::api::{Gateway, HttpApi};
use crate::functions::functions;
use crate::model::{PublishError, SHIPPED, publish_first};
use crate::observer::{Observer, StackEvent};
use crate::queue::{self, Counts, DeadLetter, Failures, Message, Policy, Queue, Worker};
use crate::s3::{EmbeddedS3, Notify, ObjectCreated, S3Config};
use crate::wiring::{Bucket, Function, function_of};

/// How to run a stack.
pub struct StackConfig {
    /// The folder that keeps its state; made where it is missing.
    pub folder: PathBuf,
    /// Port of the S3 endpoint on 127.0.0.1; 0 takes a free one.
    pub s3_port: u16,
    /// Port of the HTTP API on 127.0.0.1; 0 takes a free one.
    pub api_port: u16,
    /// How queues treat their messages.
    pub policy: Policy,
    /// Batches that a function works on at once.
    pub concurrency: usize,
    /// What the functions' environment says besides the names of the buckets.
    pub environment: BTreeMap<String, String>,
    /// The model for a channel that has none.
    pub model: Vec<u8>,
    /// Who is told what happens.
    pub observer: Arc<dyn Observer>,
}

impl StackConfig {
    /// A stack in a folder, on free ports, with the shipped model, that tells nobody.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            s3_port: 0,
            api_port: 0,
            policy: Policy::default(),
            concurrency: available_parallelism().map_or(1, std::num::NonZero::get),
            environment: BTreeMap::new(),
            model: SHIPPED.to_vec(),
            observer: Arc::new(|_: StackEvent<'_>| {}),
        }
    }
}

/// Why a stack does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StackError {
    /// Its folder or a port cannot be used.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Another process runs a stack in the folder.
    #[error("{} is in use by another glioseg: stop it, or use another folder", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The environment is of no use to a function.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// There is no model, and none could be published.
    #[error("no model can be published to the stack: {0}")]
    Model(#[from] PublishError),
}

/// A running stack.
pub struct Stack {
    s3: EmbeddedS3,
    api: HttpApi,
    gateway: Gateway,
    queues: Vec<Arc<Queue>>,
    workers: Vec<Worker>,
    model_version: String,
    _lock: File,
}

impl Stack {
    /// Starts everything, and goes on with the messages that the folder's last stack left.
    ///
    /// # Errors
    ///
    /// [`StackError`]; nothing runs then.
    pub async fn start(config: StackConfig) -> Result<Self, StackError> {
        fs::create_dir_all(&config.folder)?;
        let lock = lock(&config.folder)?;
        let queues = open_queues(&config.folder, config.policy)?;
        let s3 = EmbeddedS3::start(S3Config {
            folder: config.folder.join("s3"),
            port: config.s3_port,
            buckets: Bucket::ALL.map(|bucket| bucket.name().to_owned()).into(),
            notify: Arc::new(Router {
                queues: queues.clone(),
                observer: Arc::clone(&config.observer),
            }),
        })
        .await?;
        let bucket = |bucket: Bucket| S3Storage::new(s3.client(), bucket.name(), None);
        let (functions, channel) = functions(&config.environment, &bucket, &config.observer)?;
        let model_version = publish_first(&config.model, &bucket(Bucket::Models), &channel).await?;
        let workers = queues
            .iter()
            .filter_map(|(function, queue)| {
                let failures: Arc<dyn Failures> = Arc::new(Reporter {
                    function: *function,
                    observer: Arc::clone(&config.observer),
                });
                let handler = functions.get(function)?;
                Some(Worker::start(queue, handler, &failures, config.concurrency))
            })
            .collect();
        let gateway = Gateway::new(functions);
        let api = HttpApi::start(config.api_port, gateway.clone()).await?;
        Ok(Self {
            s3,
            api,
            gateway,
            queues: queues.into_values().collect(),
            workers,
            model_version,
            _lock: lock,
        })
    }

    /// A client of its S3 server.
    #[must_use]
    pub fn client(&self) -> Client {
        self.s3.client()
    }

    /// A bucket of its S3 server.
    #[must_use]
    pub fn bucket(&self, bucket: Bucket) -> S3Storage {
        S3Storage::new(self.client(), bucket.name(), None)
    }

    /// Its S3 endpoint, as the AWS tools take it.
    #[must_use]
    pub fn s3_endpoint(&self) -> String {
        self.s3.endpoint()
    }

    /// Where its HTTP API listens.
    #[must_use]
    pub fn api_address(&self) -> SocketAddr {
        self.api.address()
    }

    /// The gateway of its HTTP API, for requests that come from this process.
    #[must_use]
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// The version that its channel served when it started.
    #[must_use]
    pub fn model_version(&self) -> &str {
        &self.model_version
    }

    /// How many messages of each function are where.
    #[must_use]
    pub fn counts(&self) -> Vec<(String, Counts)> {
        let counts = |queue: &Arc<Queue>| (queue.name().to_owned(), queue.counts());
        self.queues.iter().map(counts).collect()
    }

    /// The messages that were given up, each with the function that it was for.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<(String, DeadLetter)> {
        let letters = |queue: &Arc<Queue>| {
            let name = queue.name().to_owned();
            queue
                .dead_letters()
                .into_iter()
                .map(move |letter| (name.clone(), letter))
        };
        self.queues.iter().flat_map(letters).collect()
    }

    /// Puts all dead letters back into their queues; returns how many.
    ///
    /// # Errors
    ///
    /// Where a queue's file cannot be written.
    pub fn redrive(&self) -> io::Result<usize> {
        self.queues.iter().map(|queue| queue.redrive()).sum()
    }

    /// Returns once every message has been dealt with or given up.
    pub async fn idle(&self) {
        queue::idle(&self.queues).await;
    }

    /// Stops: answers and batches that were begun are finished, all other messages stay for the next start.
    pub async fn stop(self) {
        self.api.stop().await;
        for worker in self.workers {
            worker.stop().await;
        }
        self.s3.stop().await;
    }
}

type Queues = BTreeMap<Function, Arc<Queue>>;

fn open_queues(folder: &Path, policy: Policy) -> io::Result<Queues> {
    let folder = folder.join("queues");
    fs::create_dir_all(&folder)?;
    Function::ALL
        .into_iter()
        .map(|function| {
            let path = folder.join(format!("{function}.jsonl"));
            Ok((
                function,
                Arc::new(Queue::open(function.name(), path, policy)?),
            ))
        })
        .collect()
}

/// Keeps a second process out of the folder, whose numbers and files would mix with this one's.
fn lock(folder: &Path) -> Result<File, StackError> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StackError::InUse {
            folder: folder.to_owned(),
        }),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Takes what the S3 server announces to the queues that it leads to.
struct Router {
    queues: Queues,
    observer: Arc<dyn Observer>,
}

impl Notify for Router {
    fn created(&self, object: ObjectCreated) -> io::Result<()> {
        self.observer.see(StackEvent::Written(&object));
        let function = function_of(&object.bucket, &object.key);
        function
            .and_then(|function| self.queues.get(&function))
            .map_or(Ok(()), |queue| queue.push(object))
    }
}

/// Tells the observer of messages that were not dealt with.
struct Reporter {
    function: Function,
    observer: Arc<dyn Observer>,
}

impl Failures for Reporter {
    fn retried(&self, message: &Message, reason: &str) {
        let function = self.function;
        self.observer.see(StackEvent::Retried {
            function,
            message,
            reason,
        });
    }

    fn given_up(&self, letter: &DeadLetter) {
        let function = self.function;
        self.observer.see(StackEvent::GivenUp { function, letter });
    }

    fn not_recorded(&self, error: &io::Error) {
        let function = self.function;
        self.observer
            .see(StackEvent::NotRecorded { function, error });
    }
}
