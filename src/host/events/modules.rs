//! Modules that come and go. That one is gone is believed when the node says so itself: its packets would wait meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use node_ipc::{NodeClient, Request, Response};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::ModuleLife;
use crate::handle::lock;

/// Modules heard of and not looked at yet: more than a node loads.
const MAX_WAITING: usize = 256;

/// How long after the last such news the node is asked. While it reloads a module, a question about modules stops the node for good: it
/// waits for the lock that the reload holds, and holds the one that the reload needs next. A reload takes a second.
const ASK_AFTER: Duration = Duration::from_secs(5);

/// Least time between two questions: many modules stop at once when a node does.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Modules that are said to be gone.
#[derive(Debug, Clone, Default)]
pub(super) struct Modules {
    /// Those that may have gone, by name, and when to ask.
    news: Arc<Mutex<BTreeMap<String, Instant>>>,
    changed: Arc<Notify>,
}

impl Modules {
    /// It is here: what was heard before is no news any more.
    pub(super) fn came(&self, name: &str) {
        lock(&self.news).remove(name);
    }

    /// Whoever makes such news up again and again only delays the question; a module that is gone is then noticed when it is called.
    pub(super) fn may_be_gone(&self, name: String) {
        let mut news = lock(&self.news);
        // Names made up by whoever publishes events may fill it, to the same effect.
        if news.len() < MAX_WAITING || news.contains_key(&name) {
            news.insert(name, Instant::now() + ASK_AFTER);
            drop(news);
            self.changed.notify_one();
        }
    }

    /// Passes the news on, for ever.
    pub(super) async fn run(self, client: NodeClient, life: Arc<dyn ModuleLife>) {
        loop {
            match self.first_due() {
                None => self.changed.notified().await,
                Some(when) if when > Instant::now() => {
                    tokio::select! {
                        () = sleep_until(when) => {}
                        () = self.changed.notified() => {}
                    }
                }
                Some(_) => {
                    // None when it came in this moment.
                    if let Some(name) = self.take_due(Instant::now())
                        && is_gone(&client, &name).await
                    {
                        life.went(&name);
                    }
                    sleep(ASK_EVERY).await;
                }
            }
        }
    }

    fn first_due(&self) -> Option<Instant> {
        lock(&self.news).values().min().copied()
    }

    fn take_due(&self, now: Instant) -> Option<String> {
        let mut news = lock(&self.news);
        let name = news
            .iter()
            .find(|(_, when)| **when <= now)
            .map(|(name, _)| name.clone())?;
        news.remove(&name);
        Some(name)
    }
}

/// Without an answer nothing is known, and calls of its handlers will show.
async fn is_gone(client: &NodeClient, name: &str) -> bool {
    let module_id = name.to_owned();
    let asked = client.request(Request::IsModuleAvailable { module_id }).await;
    matches!(asked, Ok(Response::ModuleAvailable(false)))
}
