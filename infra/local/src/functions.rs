//! The functions themselves, over the stack's buckets.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use glioseg_preprocess::Preprocess;
use glioseg_score::Score;
use glioseg_score::bus::{Announcement, Bus, BusError};
use glioseg_score::memory::Memory;
use glioseg_segment::Segment;
use glioseg_shared::cloud::keys::Channel;
use glioseg_shared::cloud::{EnvironmentError, S3Storage};
use serde_json::Value;

use crate::observer::{Observer, StackEvent};
use crate::queue::Invoke;
use crate::wiring::{Bucket, Function};

/// The functions, by what they are.
pub type Functions = HashMap<Function, Arc<dyn Invoke>>;

/// Makes the functions over buckets that `bucket` reaches, and tells which channel is served.
///
/// `environment` is what the functions' environment says besides the names of the buckets.
///
/// # Errors
///
/// [`EnvironmentError`], which names the variable.
pub fn functions(
    environment: &BTreeMap<String, String>,
    bucket: &dyn Fn(Bucket) -> S3Storage,
    observer: &Arc<dyn Observer>,
) -> Result<(Functions, Channel), EnvironmentError> {
    let variable = |function: Function, name: &str| {
        let named = function
            .buckets()
            .iter()
            .find(|bucket| bucket.variable() == name);
        named.map_or_else(
            || environment.get(name).cloned(),
            |bucket| Some(bucket.name().to_owned()),
        )
    };
    let config = glioseg_preprocess::config::Config::from_variables(|name| {
        variable(Function::Preprocess, name)
    })?;
    let buckets = glioseg_preprocess::Buckets {
        uploads: bucket(Bucket::Uploads),
        results: bucket(Bucket::Results),
    };
    let preprocess = Preprocess::new(buckets, config);

    let config =
        glioseg_segment::config::Config::from_variables(|name| variable(Function::Segment, name))?;
    let channel = config.channel.clone();
    let buckets = glioseg_segment::Buckets {
        uploads: bucket(Bucket::Uploads),
        results: bucket(Bucket::Results),
        models: bucket(Bucket::Models),
    };
    let segment = Segment::new(buckets, config, Arc::new(SystemTime::now));

    let config =
        glioseg_score::config::Config::from_variables(|name| variable(Function::Score, name))?;
    let bus = LocalBus {
        observer: Arc::clone(observer),
    };
    let score = Score {
        uploads: bucket(Bucket::Uploads),
        results: bucket(Bucket::Results),
        bus,
        memory: Memory::default(),
        config,
    };

    let functions: [(Function, Arc<dyn Invoke>); 3] = [
        (Function::Preprocess, Arc::new(Handler(preprocess))),
        (Function::Segment, Arc::new(Handler(segment))),
        (Function::Score, Arc::new(Handler(score))),
    ];
    Ok((functions.into(), channel))
}

/// The event bus of a stack: whoever observes it.
struct LocalBus {
    observer: Arc<dyn Observer>,
}

impl Bus for LocalBus {
    async fn send(&self, announcement: &Announcement) -> Result<(), BusError> {
        self.observer.see(StackEvent::Announced {
            kind: announcement.detail_type,
            detail: &announcement.detail,
        });
        Ok(())
    }
}

/// A function by its handler, whose error becomes text as in the answer of a Lambda.
struct Handler<F>(F);

macro_rules! invoke_handler_of {
    ($($function:ty),+) => {$(
        #[async_trait]
        impl Invoke for Handler<$function> {
            async fn invoke(&self, payload: Value) -> Result<Value, String> {
                let handled = self.0.handle(payload).await;
                handled.map_err(|error| error.to_string())
            }
        }
    )+};
}

invoke_handler_of!(
    Preprocess<S3Storage>,
    Segment<S3Storage>,
    Score<S3Storage, LocalBus>
);
