//! Things that are done when asked for: never twice at once, and not more often than is good for whoever does them.
//!
//! However many events ask for a thing while it is being done or its pause lasts, it is done once more afterwards. So a storm
//! of events costs as much as its first and its last.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Asks for a chore.
#[derive(Debug, Clone, Default)]
pub(super) struct Chore(Arc<Notify>);

impl Chore {
    /// Does `work` whenever it is asked for, with at least `pause` from the end of one time to the begin of the next.
    pub(super) fn start<F>(
        tasks: &mut JoinSet<()>,
        pause: Duration,
        work: impl Fn() -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send,
    {
        let chore = Self::default();
        let asked = chore.0.clone();
        tasks.spawn(async move {
            loop {
                asked.notified().await;
                work().await;
                tokio::time::sleep(pause).await;
            }
        });
        chore
    }

    /// As [`Chore::start`], where somebody else does it.
    pub(super) fn of(asked: Arc<Notify>) -> Self {
        Self(asked)
    }

    /// Asks for it. Never waits.
    pub(super) fn ask(&self) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_storm_costs_as_much_as_its_first_and_its_last() {
        let done = Arc::new(AtomicU32::new(0));
        let count = done.clone();
        let mut tasks = JoinSet::new();
        let chore = Chore::start(&mut tasks, Duration::from_secs(1), move || {
            let count = count.clone();
            async move {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..10_000 {
            chore.ask();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(done.load(Ordering::Relaxed), 1);
        for _ in 0..10_000 {
            chore.ask();
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(done.load(Ordering::Relaxed), 2);
    }
}
