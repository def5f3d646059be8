//! The parts of a local stack with a faulty network in between: embedded S3, queues, and functions that reach S3 through
//! a proxy.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use glioseg_local::api::Gateway;
use glioseg_local::functions::functions;
use glioseg_local::model::{SHIPPED, publish_first};
use glioseg_local::observer::{Observer, StackEvent};
use glioseg_local::queue::{
    self, Counts, DeadLetter, Failures, Invoke, Message, Policy, Queue, Worker,
};
use glioseg_local::s3::{
    ACCESS_KEY_ID, EmbeddedS3, Notify, ObjectCreated, S3Config, SECRET_ACCESS_KEY, client_config,
};
use glioseg_local::wiring::{Bucket, Function, function_of};
use glioseg_shared::cloud::S3Storage;
use glioseg_shared::cloud::keys::Channel;
use tempfile::TempDir;

use super::bucket::{Contents, contents};
use super::models::CHANNEL;
use super::proxy::Proxy;

/// Batches that a function works on at once.
const CONCURRENCY: usize = 2;

/// Queues that lose patience with no message: what goes wrong a limited number of times is dealt with in the end.
pub(crate) const PATIENT: Policy = Policy {
    batch_size: 4,
    max_receive_count: 200,
    retry_after: Duration::from_millis(5),
};

pub(crate) type Functions = HashMap<Function, Arc<dyn Invoke>>;

/// The parts. The workers start when they are told to, so that what is uploaded before has the same place in the order
/// of events each time.
pub(crate) struct Plant {
    pub(crate) proxy: Proxy,
    pub(crate) gateway: Gateway,
    s3: EmbeddedS3,
    functions: Functions,
    queues: BTreeMap<Function, Arc<Queue>>,
    workers: Vec<Worker>,
    noted: Arc<Noted>,
    note: Arc<Note>,
    _folder: TempDir,
}

impl Plant {
    /// Parts whose functions are in this process and try every request once: what retries there are, the queue makes.
    pub(crate) async fn new(policy: Policy) -> Self {
        Self::with(policy, |proxy| {
            let client = client(&proxy.endpoint(), RetryConfig::disabled());
            let bucket = |bucket: Bucket| S3Storage::new(client.clone(), bucket.name(), None);
            let nobody: Arc<dyn Observer> = Arc::new(|_: StackEvent<'_>| {});
            // The model is looked at for every message.
            let refresh = ("MODEL_REFRESH_SECONDS".to_owned(), "0".to_owned());
            functions(&BTreeMap::from([refresh]), &bucket, &nobody)
                .unwrap()
                .0
        })
        .await
    }

    /// Parts with functions that are made for a proxy.
    pub(crate) async fn with(policy: Policy, make: impl FnOnce(&Proxy) -> Functions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let queues: BTreeMap<_, _> = Function::ALL
            .into_iter()
            .map(|function| {
                let file = folder.path().join(format!("{function}.jsonl"));
                let queue = Queue::open(function.name(), file, policy).unwrap();
                (function, Arc::new(queue))
            })
            .collect();
        let note = Arc::new(Note {
            queues: queues.clone(),
            failing: Mutex::default(),
        });
        let s3 = EmbeddedS3::start(S3Config {
            folder: folder.path().join("s3"),
            port: 0,
            buckets: Bucket::ALL.map(|bucket| bucket.name().to_owned()).into(),
            notify: Arc::clone(&note) as Arc<dyn Notify>,
        })
        .await
        .unwrap();
        let models = S3Storage::new(s3.client(), Bucket::Models.name(), None);
        let channel = Channel::parse(CHANNEL).unwrap();
        publish_first(SHIPPED, &models, &channel).await.unwrap();
        let proxy = Proxy::before(s3.address()).await;
        let functions = make(&proxy);
        Self {
            gateway: Gateway::new(functions.clone()),
            proxy,
            s3,
            functions,
            queues,
            workers: Vec::new(),
            noted: Arc::default(),
            note,
            _folder: folder,
        }
    }

    /// Lets the functions work.
    pub(crate) fn start(&mut self) {
        for (function, queue) in &self.queues {
            let failures: Arc<dyn Failures> = Arc::clone(&self.noted) as _;
            let worker = Worker::start(queue, &self.functions[function], &failures, CONCURRENCY);
            self.workers.push(worker);
        }
    }

    /// A bucket, reached directly.
    pub(crate) fn bucket(&self, bucket: Bucket) -> S3Storage {
        S3Storage::new(self.s3.client(), bucket.name(), None)
    }

    pub(crate) async fn results(&self) -> Contents {
        contents(&self.bucket(Bucket::Results)).await
    }

    /// Returns once every message has been dealt with or given up.
    pub(crate) async fn idle(&self) {
        let queues: Vec<_> = self.queues.values().map(Arc::clone).collect();
        queue::idle(&queues).await;
    }

    pub(crate) fn counts(&self, function: Function) -> Counts {
        self.queues[&function].counts()
    }

    /// The messages of all queues that were given up.
    pub(crate) fn dead_letters(&self) -> Vec<DeadLetter> {
        let letters = self.queues.values().map(|queue| queue.dead_letters());
        letters.flatten().collect()
    }

    /// Puts the dead letters of all queues back.
    pub(crate) fn redrive(&self) -> usize {
        let redriven = self.queues.values().map(|queue| queue.redrive().unwrap());
        redriven.sum()
    }

    /// How many messages came back.
    pub(crate) fn retries(&self) -> usize {
        self.noted.reasons.lock().unwrap().len()
    }

    /// Why messages came back or were given up, of each the function's own words.
    pub(crate) fn reasons(&self) -> Vec<String> {
        self.noted.reasons.lock().unwrap().clone()
    }

    /// The next note of each key fails: as if the disk were full for a moment.
    pub(crate) fn fail_notes(&self) {
        *self.note.failing.lock().unwrap() = Some(HashSet::new());
    }
}

/// A client of an endpoint of the embedded S3.
pub(crate) fn client(endpoint: &str, retries: RetryConfig) -> Client {
    let config = client_config(endpoint, ACCESS_KEY_ID, SECRET_ACCESS_KEY);
    Client::from_conf(config.retry_config(retries).build())
}

/// Takes what S3 announces to the queues.
struct Note {
    queues: BTreeMap<Function, Arc<Queue>>,
    failing: Mutex<Option<HashSet<String>>>,
}

impl Notify for Note {
    fn created(&self, object: ObjectCreated) -> io::Result<()> {
        let Some(function) = function_of(&object.bucket, &object.key) else {
            return Ok(());
        };
        if let Some(failed) = &mut *self.failing.lock().unwrap()
            && failed.insert(object.key.clone())
        {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.queues[&function].push(object)
    }
}

/// Keeps what workers tell.
#[derive(Default)]
struct Noted {
    reasons: Mutex<Vec<String>>,
}

impl Failures for Noted {
    fn retried(&self, _: &Message, reason: &str) {
        self.reasons.lock().unwrap().push(reason.to_owned());
    }

    fn given_up(&self, letter: &DeadLetter) {
        self.reasons.lock().unwrap().push(letter.reason.clone());
    }

    fn not_recorded(&self, error: &io::Error) {
        panic!("a queue's file cannot be written: {error}");
    }
}
