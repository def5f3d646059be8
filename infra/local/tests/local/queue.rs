//! A queue loses nothing, hands out again what failed, and gives up at last.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use glioseg_local::queue::{
    Counts, DeadLetter, Failures, Invoke, Message, Policy, Queue, Worker, idle,
};
use glioseg_local::s3::{EventName, ObjectCreated};
use glioseg_shared::cloud::events::{Invocation, parse};
use serde_json::{Value, json};

const POLICY: Policy = Policy {
    batch_size: 10,
    max_receive_count: 3,
    retry_after: Duration::ZERO,
};

fn object(key: &str) -> ObjectCreated {
    ObjectCreated {
        event: EventName::Put,
        bucket: "uploads".to_owned(),
        key: key.to_owned(),
        size: 3,
        etag: "e".to_owned(),
        sequencer: format!("{:016X}", key.len()),
        time: "2026-01-01T00:00:00.000Z".to_owned(),
    }
}

fn open(folder: &Path) -> Arc<Queue> {
    Arc::new(Queue::open("preprocess", folder.join("q.jsonl"), POLICY).unwrap())
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Failures for Told {
    fn retried(&self, message: &Message, _: &str) {
        self.0
            .lock()
            .unwrap()
            .push(format!("again {}", message.object.key));
    }

    fn given_up(&self, letter: &DeadLetter) {
        self.0
            .lock()
            .unwrap()
            .push(format!("dead {}", letter.message.object.key));
    }

    fn not_recorded(&self, error: &io::Error) {
        panic!("{error}");
    }
}

/// Deals with every key but those that start with `bad`, and fails as a whole or panics for two others.
#[derive(Default)]
struct Function {
    seen: Mutex<Vec<String>>,
    failing: AtomicUsize,
}

#[async_trait]
impl Invoke for Function {
    async fn invoke(&self, payload: Value) -> Result<Value, String> {
        let Invocation::Objects(events) = parse(payload).unwrap() else {
            panic!("no event about objects");
        };
        assert!(events.messages.len() <= POLICY.batch_size);
        let mut failures = Vec::new();
        for message in events.messages {
            for object in message.objects.unwrap() {
                let key = object.key;
                assert!(object.sequencer.is_some());
                self.seen.lock().unwrap().push(key.clone());
                let failing = self.failing.load(Ordering::Relaxed) == 0;
                match key.as_str() {
                    "panic" if failing => panic!("asked for by the test"),
                    "whole" if failing => return Err("all of it".to_owned()),
                    key if failing && key.starts_with("bad") => {
                        failures.push(json!({ "itemIdentifier": message.id }));
                    }
                    _ => {}
                }
            }
        }
        Ok(json!({ "batchItemFailures": failures }))
    }
}

struct Running {
    queue: Arc<Queue>,
    function: Arc<Function>,
    told: Arc<Told>,
    worker: Worker,
}

fn run(queue: Arc<Queue>) -> Running {
    let (function, told) = (Arc::new(Function::default()), Arc::new(Told::default()));
    let handler: Arc<dyn Invoke> = Arc::clone(&function) as _;
    let failures: Arc<dyn Failures> = Arc::clone(&told) as _;
    let worker = Worker::start(&queue, &handler, &failures, 2);
    Running {
        queue,
        function,
        told,
        worker,
    }
}

#[tokio::test]
async fn what_fails_comes_again_and_goes_to_the_dead_letters_at_last() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    for number in 0..25 {
        queue.push(object(&format!("good {number}+%"))).unwrap();
    }
    queue.push(object("bad key")).unwrap();
    let running = run(Arc::clone(&queue));
    idle(std::slice::from_ref(&queue)).await;
    let expected = Counts {
        dead: 1,
        ..Counts::default()
    };
    assert_eq!(queue.counts(), expected);
    let letters = queue.dead_letters();
    assert_eq!(
        (
            letters[0].message.object.key.as_str(),
            letters[0].message.receives
        ),
        ("bad key", 3)
    );
    assert_eq!(
        *running.told.0.lock().unwrap(),
        ["again bad key", "again bad key", "dead bad key"]
    );
    let mut seen = running.function.seen.lock().unwrap().clone();
    seen.sort();
    seen.retain(|key| key != "bad key");
    seen.dedup();
    assert_eq!(seen.len(), 25);

    // What was repaired is tried once more, after a restart too.
    running.worker.stop().await;
    drop((running.queue, queue));
    let queue = open(folder.path());
    assert_eq!(queue.counts(), expected);
    assert_eq!(queue.redrive().unwrap(), 1);
    let running = run(Arc::clone(&queue));
    running.function.failing.store(1, Ordering::Relaxed);
    idle(std::slice::from_ref(&queue)).await;
    assert_eq!(queue.counts(), Counts::default());
    running.worker.stop().await;
}

#[tokio::test]
async fn a_panic_or_an_error_fails_its_whole_batch_and_nothing_else() {
    for poison in ["panic", "whole"] {
        let folder = tempfile::tempdir().unwrap();
        let queue = open(folder.path());
        queue.push(object(poison)).unwrap();
        let running = run(Arc::clone(&queue));
        idle(std::slice::from_ref(&queue)).await;
        queue.push(object("later")).unwrap();
        idle(std::slice::from_ref(&queue)).await;
        let letters = queue.dead_letters();
        assert_eq!(letters.len(), 1, "{poison}");
        assert_eq!(letters[0].message.object.key, poison);
        assert!(
            running
                .function
                .seen
                .lock()
                .unwrap()
                .contains(&"later".to_owned())
        );
        running.worker.stop().await;
    }
}

#[tokio::test]
async fn a_restart_finds_every_message_that_was_not_done() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    for number in 0..12 {
        queue.push(object(&number.to_string())).unwrap();
    }
    let batch = queue.receive().await;
    assert_eq!(batch.len(), 10);
    let failed = [batch[3].id].into();
    queue.settle(&batch, &failed, "reason").unwrap();
    let in_flight = queue.receive().await;
    assert!(!in_flight.is_empty());
    drop(queue);
    // A line that was being written when the process was killed.
    let path = folder.path().join("q.jsonl");
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"put\":{\"id\":99,");
    std::fs::write(&path, text).unwrap();
    let queue = open(folder.path());
    let left = queue.receive().await;
    let keys: Vec<_> = left
        .iter()
        .map(|message| (message.object.key.as_str(), message.receives))
        .collect();
    assert_eq!(keys, [("3", 2), ("10", 1), ("11", 1)]);
}

#[tokio::test]
async fn the_file_does_not_grow_with_what_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let queue = open(folder.path());
    queue.push(object("stays")).unwrap();
    for _ in 0..500 {
        for _ in 0..10 {
            queue.push(object("passes")).unwrap();
        }
        let batch = queue.receive().await;
        let failed = batch
            .iter()
            .filter(|message| message.object.key == "stays")
            .map(|message| message.id)
            .take(1);
        queue.settle(&batch, &failed.collect(), "").unwrap();
    }
    let lines = std::fs::read_to_string(folder.path().join("q.jsonl"))
        .unwrap()
        .lines()
        .count();
    assert!(lines < 5_000, "{lines} lines");
}
