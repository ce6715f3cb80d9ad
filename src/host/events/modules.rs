//! Modules that come and go. That one is gone is believed when the node says so itself: its packets would wait meanwhile.

use std::collections::BTreeSet;
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

/// Modules that are said to be gone.
#[derive(Debug, Clone, Default)]
pub(super) struct Modules {
    /// Those that may have gone, by name.
    news: Arc<Mutex<BTreeSet<String>>>,
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
        if news.len() < MAX_WAITING || news.contains(&name) {
            news.insert(name);
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
                Some(name) => {
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
