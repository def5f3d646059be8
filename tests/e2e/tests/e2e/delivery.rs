//! Delivering the events of uploads in a chosen order: the one after the other, or shuffled, doubled and side by side.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use glioseg_local::functions::functions;
use glioseg_local::model::{SHIPPED, publish_first};
use glioseg_local::observer::{Observer, StackEvent};
use glioseg_local::queue::{Message, payload};
use glioseg_local::s3::{EmbeddedS3, Notify, ObjectCreated, S3Config};
use glioseg_local::wiring::{Bucket, Function, function_of};
use glioseg_shared::cloud::S3Storage;
use serde_json::Value;
use tokio::task::JoinSet;

use super::bucket::{Contents, contents};
use super::studies::put;

/// How often a message may fail before the test does.
const MAX_FAILURES: u32 = 100;

/// Batches under way at once where the order is shuffled.
const CONCURRENCY: usize = 4;

/// Most messages of a batch.
const BATCH: usize = 3;

/// In which order events arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// All that follows from one upload is done before the next upload.
    InOrder,
    /// Uploads go on while events arrive, each event twice, in an order by this seed.
    Shuffled(u64),
}

/// Uploads the objects in their order, delivers all events, and returns what the results bucket holds then.
pub(crate) async fn deliver(uploads: &[(String, Vec<u8>)], order: Order) -> Contents {
    let folder = tempfile::tempdir().unwrap();
    let inbox = Arc::new(Inbox::default());
    let s3 = EmbeddedS3::start(S3Config {
        folder: folder.path().to_owned(),
        port: 0,
        buckets: Bucket::ALL.map(|bucket| bucket.name().to_owned()).into(),
        notify: Arc::clone(&inbox) as Arc<dyn Notify>,
    })
    .await
    .unwrap();
    let bucket = |bucket: Bucket| S3Storage::new(s3.client(), bucket.name(), None);
    let nobody: Arc<dyn Observer> = Arc::new(|_: StackEvent<'_>| {});
    let environment = BTreeMap::from([("COLLECT_LABELLED".to_owned(), "true".to_owned())]);
    let (functions, channel) = functions(&environment, &bucket, &nobody).unwrap();
    publish_first(SHIPPED, &bucket(Bucket::Models), &channel)
        .await
        .unwrap();

    let uploads_bucket = bucket(Bucket::Uploads);
    let mut uploads = uploads.iter();
    let mut pending: Vec<Letter> = Vec::new();
    let mut running = JoinSet::new();
    let mut next_id = 0;
    let (mut random, copies, concurrency) = match order {
        Order::InOrder => (None, 1, 1),
        Order::Shuffled(seed) => (Some(Random(seed)), 2, CONCURRENCY),
    };
    loop {
        for object in inbox.take() {
            for _ in 0..copies {
                pending.push(Letter::of(&object, next_id));
                next_id += 1;
            }
        }
        // Between two events another upload may come, in order only once there is no event left.
        let is_time = match &mut random {
            None => pending.is_empty() && running.is_empty(),
            Some(random) => pending.is_empty() || random.below(4) == 0,
        };
        if is_time && let Some((key, bytes)) = uploads.next() {
            put(&uploads_bucket, key, bytes).await;
            continue;
        }
        if running.len() < concurrency && !pending.is_empty() {
            let batch = take_batch(&mut pending, random.as_mut());
            let function = Arc::clone(&functions[&batch[0].function]);
            running.spawn(async move {
                let messages: Vec<_> = batch.iter().map(|letter| letter.message.clone()).collect();
                let event = payload(batch[0].function.name(), &messages);
                let answer = function.invoke(event).await;
                (batch, answer)
            });
            continue;
        }
        let Some(done) = running.join_next().await else {
            if inbox.is_empty() && uploads.len() == 0 {
                break;
            }
            continue;
        };
        let (batch, answer) = done.unwrap();
        pending.extend(failed(batch, &answer));
    }
    contents(&bucket(Bucket::Results)).await
}

/// A message on its way.
#[derive(Clone, Debug)]
struct Letter {
    function: Function,
    message: Message,
}

impl Letter {
    fn of((function, object): &(Function, ObjectCreated), id: u64) -> Self {
        Self {
            function: *function,
            message: Message {
                id,
                receives: 0,
                object: object.clone(),
            },
        }
    }
}

/// Takes letters to one function: the first one, or a few by chance.
fn take_batch(pending: &mut Vec<Letter>, random: Option<&mut Random>) -> Vec<Letter> {
    let Some(random) = random else {
        return vec![pending.remove(0)];
    };
    let mut batch = vec![pending.swap_remove(random.below(pending.len()))];
    for _ in 0..random.below(BATCH) {
        let others = (0..pending.len()).filter(|at| pending[*at].function == batch[0].function);
        let others: Vec<_> = others.collect();
        if !others.is_empty() {
            batch.push(pending.swap_remove(others[random.below(others.len())]));
        }
    }
    batch
}

/// The letters that have to be delivered once more.
fn failed(batch: Vec<Letter>, answer: &Result<Value, String>) -> Vec<Letter> {
    let all_failed = answer.is_err();
    let failures = match answer {
        Ok(answer) => answer["batchItemFailures"].as_array().cloned(),
        Err(_) => None,
    };
    let failures = failures.unwrap_or_default();
    let event = |letters: &[Letter]| {
        let messages: Vec<_> = letters
            .iter()
            .map(|letter| letter.message.clone())
            .collect();
        payload(letters[0].function.name(), &messages)
    };
    batch
        .into_iter()
        .filter_map(|mut letter| {
            let id = event(std::slice::from_ref(&letter))["Records"][0]["messageId"].clone();
            let named = |failure: &Value| failure["itemIdentifier"] == id;
            (all_failed || failures.iter().any(named)).then(|| {
                letter.message.receives += 1;
                assert!(
                    letter.message.receives < MAX_FAILURES,
                    "failed {MAX_FAILURES} times: {letter:?}: {answer:?}"
                );
                letter
            })
        })
        .collect()
}

/// What S3 announced and nobody took yet.
#[derive(Default)]
struct Inbox {
    state: Mutex<(Vec<(Function, ObjectCreated)>, u64)>,
}

impl Inbox {
    fn take(&self) -> Vec<(Function, ObjectCreated)> {
        std::mem::take(&mut self.state.lock().unwrap().0)
    }

    fn is_empty(&self) -> bool {
        self.state.lock().unwrap().0.is_empty()
    }
}

impl Notify for Inbox {
    fn created(&self, mut object: ObjectCreated) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        if object.bucket == Bucket::Uploads.name() {
            // Uploads are numbered among themselves, so that their numbers do not depend on what the functions write
            // in between.
            state.1 += 1;
            object.sequencer = format!("{:016X}", state.1);
        }
        if let Some(function) = function_of(&object.bucket, &object.key) {
            state.0.push((function, object));
        }
        Ok(())
    }
}

/// SplitMix64: numbers that a seed decides.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }
}
