//! Modules that come and go. That one is gone is believed when the node says so itself: its packets would wait meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use node_ipc::{NodeClient, Request, Response};
use tokio::sync::Notify;

use super::ModuleLife;
use crate::handle::lock;

/// Modules heard of and not looked at yet: more than a node loads.
const MAX_WAITING: usize = 256;

/// Least time between two questions: many modules stop at once when a node does.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// News of modules, the newest of each.
#[derive(Debug, Clone, Default)]
pub(super) struct Modules {
    /// Whether each came, or may have gone.
    news: Arc<Mutex<BTreeMap<String, bool>>>,
    changed: Arc<Notify>,
}

impl Modules {
    pub(super) fn came(&self, name: String) {
        self.note(name, true);
    }

    pub(super) fn may_be_gone(&self, name: String) {
        self.note(name, false);
    }

    fn note(&self, name: String, came: bool) {
        let mut news = lock(&self.news);
        if news.len() < MAX_WAITING || news.contains_key(&name) {
            news.insert(name, came);
            drop(news);
            self.changed.notify_one();
        }
    }

    /// Passes the news on, for ever.
    pub(super) async fn run(self, client: NodeClient, life: Arc<dyn ModuleLife>) {
        loop {
            let next = lock(&self.news).pop_first();
            match next {
                None => self.changed.notified().await,
                Some((name, true)) => life.came(&name),
                Some((name, false)) => {
                    if is_gone(&client, &name).await {
                        life.went(&name);
                    }
                    tokio::time::sleep(ASK_EVERY).await;
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
