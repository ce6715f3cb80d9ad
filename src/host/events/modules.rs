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

/// How long after such news the node is asked. While it reloads a module, a question about modules stops the node for good: it
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

    pub(super) fn may_be_gone(&self, name: String) {
        let mut news = lock(&self.news);
        // Names made up by whoever publishes events may fill it: a module that is gone is then noticed when it is called.
        if news.len() < MAX_WAITING || news.contains_key(&name) {
            news.insert(name, Instant::now() + ASK_AFTER);
            drop(news);
            self.changed.notify_one();
        }
    }

    /// Whom to ask about first, and when.
    fn first(&self) -> Option<(String, Instant)> {
        let news = lock(&self.news);
        let (name, when) = news.iter().min_by_key(|(_, when)| **when)?;
        Some((name.clone(), *when))
    }

    /// Passes the news on, for ever.
    pub(super) async fn run(self, client: NodeClient, life: Arc<dyn ModuleLife>) {
        loop {
            match self.first() {
                None => self.changed.notified().await,
                Some((_, when)) if when > Instant::now() => sleep_until(when).await,
                Some((name, _)) => {
                    // It may have come back meanwhile.
                    if lock(&self.news).remove(&name).is_none() {
                        continue;
                    }
                    if is_gone(&client, &name).await {
                        life.went(&name);
                    }
                    sleep(ASK_EVERY).await;
                }
            }
        }
    }
}

/// Without an answer nothing is known, and calls of its handlers will show.
async fn is_gone(client: &NodeClient, name: &str) -> bool {
    let module_id = name.to_owned();
    let asked = client.request(Request::IsModuleAvailable { module_id }).await;
    matches!(asked, Ok(Response::ModuleAvailable(false)))
}
