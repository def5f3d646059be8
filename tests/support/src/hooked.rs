//! A store that lets a test in before every call: it may count, act in between, fail, or lose the answer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use glioseg_shared::cloud::{
    Condition, ETag, Head, Metadata, Object, ObjectKey, Page, Presign, SignedRequest, Storage,
    StorageError, UploadTerms,
};

/// A call of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The method, such as `put`.
    pub operation: &'static str,
    /// The key, or the prefix that is listed.
    pub key: String,
}

/// Shows as `put masks/s/x.tif`.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.operation, self.key)
    }
}

impl Call {
    /// Whether it is this method with this key.
    #[must_use]
    pub fn is(&self, operation: &str, key: &ObjectKey) -> bool {
        self.operation == operation && self.key == key.as_str()
    }
}

/// What happens at the calls of all stores that share it. One thing is planned at a time; at first there is nothing.
#[derive(Default)]
pub struct Hook {
    calls: Mutex<Vec<Call>>,
    plan: Mutex<Plan>,
    ran: AtomicBool,
}

type When = Box<dyn FnMut(&Call) -> bool + Send>;
type Fault = Box<dyn Fn(&Call) -> Option<StorageError> + Send>;
type Action = Pin<Box<dyn Future<Output = Result<(), StorageError>> + Send>>;

#[derive(Default)]
enum Plan {
    #[default]
    Nothing,
    /// At the first call of the kind, and never again.
    Once(When, Event),
    Fail(Fault),
}

/// What happens once.
enum Event {
    Act(Action),
    LoseAnswer(StorageError),
}

impl Hook {
    /// Runs `action` just before the first call that `when` picks; where the action fails, so does the call.
    pub fn before(
        &self,
        when: impl FnMut(&Call) -> bool + Send + 'static,
        action: impl Future<Output = Result<(), StorageError>> + Send + 'static,
    ) {
        self.set(Plan::Once(Box::new(when), Event::Act(Box::pin(action))));
    }

    /// Lets the first call that `when` picks do its work, and answers it with an error.
    pub fn lose_answer(
        &self,
        when: impl FnMut(&Call) -> bool + Send + 'static,
        answer: StorageError,
    ) {
        self.set(Plan::Once(Box::new(when), Event::LoseAnswer(answer)));
    }

    /// Fails every call that `fault` has an error for.
    pub fn fail(&self, fault: impl Fn(&Call) -> Option<StorageError> + Send + 'static) {
        self.set(Plan::Fail(Box::new(fault)));
    }

    /// Lets everything happen from now on.
    pub fn heal(&self) {
        self.set(Plan::Nothing);
    }

    /// Whether what was planned to happen once has happened.
    pub fn ran(&self) -> bool {
        self.ran.load(Ordering::SeqCst)
    }

    /// The calls since the last time, as text.
    pub fn calls(&self) -> Vec<String> {
        let calls = std::mem::take(&mut *locked(&self.calls));
        calls.iter().map(Call::to_string).collect()
    }

    /// Those of the calls since the last time that write or delete, as text.
    pub fn changes(&self) -> Vec<String> {
        let mut calls = self.calls();
        calls.retain(|call| call.starts_with("put ") || call.starts_with("delete "));
        calls
    }

    fn set(&self, plan: Plan) {
        *locked(&self.plan) = plan;
        self.ran.store(false, Ordering::SeqCst);
    }

    /// Takes part in a call before it is made; gives what it is to be answered instead.
    async fn meet(&self, call: Call) -> Result<Option<StorageError>, StorageError> {
        let event = self.due(&call);
        locked(&self.calls).push(call);
        match event? {
            None => Ok(None),
            Some(Event::Act(action)) => action.await.map(|()| None),
            Some(Event::LoseAnswer(answer)) => Ok(Some(answer)),
        }
    }

    fn due(&self, call: &Call) -> Result<Option<Event>, StorageError> {
        let mut plan = locked(&self.plan);
        let is_due = match &mut *plan {
            Plan::Nothing => false,
            Plan::Once(when, _) => when(call),
            Plan::Fail(fault) => return fault(call).map_or(Ok(None), Err),
        };
        if is_due && let Plan::Once(_, event) = std::mem::take(&mut *plan) {
            self.ran.store(true, Ordering::SeqCst);
            return Ok(Some(event));
        }
        Ok(None)
    }
}

/// Picks call number `at`, from 0.
pub fn nth(at: usize) -> impl FnMut(&Call) -> bool + Send + 'static {
    let mut calls = 0..;
    move |_| calls.next() == Some(at)
}

/// A test that panicked elsewhere has failed already.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A store with a [`Hook`].
#[derive(Clone)]
pub struct Hooked<S> {
    /// The store itself, for what should go round the hook.
    pub storage: S,
    /// What happens at its calls.
    pub hook: Arc<Hook>,
    forbidden: &'static [&'static str],
}

impl<S> Hooked<S> {
    /// A store with a hook of its own.
    pub fn new(storage: S) -> Self {
        Self::sharing(storage, &Arc::default())
    }

    /// A store whose calls count among those of others.
    pub fn sharing(storage: S, hook: &Arc<Hook>) -> Self {
        Self {
            storage,
            hook: Arc::clone(hook),
            forbidden: &[],
        }
    }

    /// The same store for one who may not make some calls: they panic.
    #[must_use]
    pub fn forbidding(self, operations: &'static [&'static str]) -> Self {
        Self {
            forbidden: operations,
            ..self
        }
    }

    async fn meet<T>(
        &self,
        operation: &'static str,
        key: &str,
        call: impl Future<Output = Result<T, StorageError>> + Send,
    ) -> Result<T, StorageError> {
        assert!(
            !self.forbidden.contains(&operation),
            "{operation} {key}: this caller may not"
        );
        let key = key.to_owned();
        let lost = self.hook.meet(Call { operation, key }).await?;
        let answer = call.await?;
        lost.map_or(Ok(answer), Err)
    }
}

impl<S: Storage> Storage for Hooked<S> {
    async fn get(&self, key: &ObjectKey, max_bytes: u64) -> Result<Object, StorageError> {
        let call = self.storage.get(key, max_bytes);
        self.meet("get", key.as_str(), call).await
    }

    async fn get_if_changed(
        &self,
        key: &ObjectKey,
        known: &ETag,
        max_bytes: u64,
    ) -> Result<Option<Object>, StorageError> {
        let call = self.storage.get_if_changed(key, known, max_bytes);
        self.meet("get_if_changed", key.as_str(), call).await
    }

    async fn put(
        &self,
        key: &ObjectKey,
        bytes: Vec<u8>,
        condition: Condition,
        metadata: &Metadata,
    ) -> Result<ETag, StorageError> {
        let call = self.storage.put(key, bytes, condition, metadata);
        self.meet("put", key.as_str(), call).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Head, StorageError> {
        let call = self.storage.head(key);
        self.meet("head", key.as_str(), call).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Page, StorageError> {
        let call = self.storage.list(prefix, after, limit);
        self.meet("list", prefix, call).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError> {
        let call = self.storage.delete(key);
        self.meet("delete", key.as_str(), call).await
    }
}

impl<S: Presign> Presign for Hooked<S> {
    async fn presign_get(
        &self,
        key: &ObjectKey,
        expires_in: Duration,
    ) -> Result<SignedRequest, StorageError> {
        let call = self.storage.presign_get(key, expires_in);
        self.meet("presign_get", key.as_str(), call).await
    }

    async fn presign_put(
        &self,
        key: &ObjectKey,
        expires_in: Duration,
        terms: &UploadTerms,
    ) -> Result<SignedRequest, StorageError> {
        let call = self.storage.presign_put(key, expires_in, terms);
        self.meet("presign_put", key.as_str(), call).await
    }
}

/// What a bucket answers that is overloaded.
#[must_use]
pub fn unavailable(key: &str) -> StorageError {
    StorageError::Unavailable {
        operation: "use",
        key: key.to_owned(),
        reason: "503 SlowDown".to_owned(),
    }
}

/// What a bucket answers to those who may not do this.
#[must_use]
pub fn denied(key: &str) -> StorageError {
    StorageError::Denied {
        operation: "use",
        key: key.to_owned(),
        reason: "403 AccessDenied".to_owned(),
    }
}

/// What a bucket answers where the condition of a write does not hold.
#[must_use]
pub fn overtaken(key: &str) -> StorageError {
    StorageError::PreconditionFailed {
        key: key.to_owned(),
    }
}
