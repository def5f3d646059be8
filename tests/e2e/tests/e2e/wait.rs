//! Waiting for what another process does.
//!
//! What is waited for is the work of other processes that announce nothing: the state of a bucket or a queue has to be
//! asked for again and again. The interval decides how soon a test goes on, not whether it passes; the limit only ends a
//! test that would never end.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(120);

/// Asks until there is an answer; panics with what was waited for where there is none within two minutes.
pub(crate) async fn until<T, F>(what: impl Display, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(
            began.elapsed() < LIMIT,
            "waited {LIMIT:?} in vain for {what}"
        );
        tokio::time::sleep(INTERVAL).await;
    }
}
