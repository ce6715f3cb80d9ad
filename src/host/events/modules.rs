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

#[derive(Debug, Clone, Copy)]
enum News {
    Came,
    /// It may be gone; when to ask.
    MayBeGone(Instant),
}

impl News {
    fn due(self) -> Option<Instant> {
        match self {
            Self::Came => None,
            Self::MayBeGone(when) => Some(when),
        }
    }
}

/// News of modules, the newest of each.
#[derive(Debug, Clone, Default)]
pub(super) struct Modules {
    news: Arc<Mutex<BTreeMap<String, News>>>,
    changed: Arc<Notify>,
}

impl Modules {
    pub(super) fn came(&self, name: String) {
        self.note(name, News::Came);
    }

    pub(super) fn may_be_gone(&self, name: String) {
        self.note(name, News::MayBeGone(Instant::now() + ASK_AFTER));
    }

    fn note(&self, name: String, came: News) {
        let mut news = lock(&self.news);
        if news.len() < MAX_WAITING || news.contains_key(&name) {
            news.insert(name, came);
            drop(news);
            self.changed.notify_one();
        }
    }

    /// The news that is to be passed on first, left where it is while it is not due.
    fn next(&self) -> Option<(String, News)> {
        let mut news = lock(&self.news);
        let (name, next) = news.iter().min_by_key(|(_, news)| news.due())?;
        let (name, next) = (name.clone(), *next);
        if next.due().is_none_or(|when| when <= Instant::now()) {
            news.remove(&name);
        }
        Some((name, next))
    }

    /// Passes the news on, for ever.
    pub(super) async fn run(self, client: NodeClient, life: Arc<dyn ModuleLife>) {
        loop {
            match self.next() {
                None => self.changed.notified().await,
                Some((name, News::Came)) => life.came(&name),
                Some((_, News::MayBeGone(when))) if when > Instant::now() => {
                    tokio::select! {
                        () = sleep_until(when) => {}
                        () = self.changed.notified() => {}
                    }
                }
                Some((name, News::MayBeGone(_))) => {
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
