//! What all lines have in common: messages in at one end, counted at the other, never too many between.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// What a line is given to carry.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    /// Length of one message.
    pub(crate) bytes: usize,
    pub(crate) messages: usize,
    /// Messages under way at once, at the most.
    pub(crate) window: usize,
    /// Messages handed in together.
    pub(crate) batch: usize,
}

/// Source, routers, destination.
pub(crate) trait Line: Send {
    /// Carries all messages of a load; done when the last has arrived.
    fn carry<'a>(&'a mut self, load: &'a Load) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// A message that has not arrived by then is lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// Counts messages under way. The destination gives back what arrives.
#[derive(Clone)]
pub(crate) struct Window(Arc<Semaphore>);

impl Window {
    /// Nothing may be under way yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Opens the window by that many messages.
    pub(crate) fn open(&self, messages: usize) {
        self.0.add_permits(messages);
    }

    /// That many messages have arrived.
    pub(crate) fn arrived(&self, messages: usize) {
        self.0.add_permits(messages);
    }

    /// Waits until that many more messages may be sent; false when some were lost on the way.
    pub(crate) async fn take(&self, messages: usize) -> bool {
        match timeout(PATIENCE, self.0.acquire_many(messages as u32)).await {
            Ok(permits) => {
                permits.unwrap().forget();
                true
            }
            Err(_) => false,
        }
    }
}
