//! Waiting for credit that is being bought: a stream that is faster than its money pauses instead of failing.

use std::sync::Arc;
use std::time::Duration;

use mesh_core::drop_reason::DropReason;
use mesh_core::event::Event;
use mesh_core::keys::SessionId;
use mesh_core::limits::{PURCHASE_TIMEOUT, QUOTE_TIMEOUT};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::{CommandError, NodeHandle};

/// The longest that the next slice is waited for: as long as buying it may take.
const LONGEST_WAIT: Duration = QUOTE_TIMEOUT.saturating_add(PURCHASE_TIMEOUT);

/// How one sender waits for the next slice of one session.
pub(super) struct Patience {
    session: SessionId,
    /// Listens from the first refusal on, and when to give up.
    listening: Option<(broadcast::Receiver<Arc<Event>>, Instant)>,
}

impl Patience {
    pub(super) fn new(session: SessionId) -> Self {
        Self {
            session,
            listening: None,
        }
    }

    /// Something was sent: the next slice is waited for anew.
    pub(super) fn refresh(&mut self) {
        self.listening = None;
    }

    /// Whether to send again: the refusal says that credit is coming, and word of it came. False when it was another
    /// refusal, or nothing was heard for longer than a purchase may take. At the first refusal it only begins to listen:
    /// word may have come just before.
    pub(super) async fn is_worth_it(&mut self, node: &NodeHandle, error: &CommandError) -> bool {
        if error.reason() != Some(DropReason::CreditComing) {
            return false;
        }
        let session = self.session;
        let Some((events, until)) = &mut self.listening else {
            self.listening = Some((node.events(), Instant::now() + LONGEST_WAIT));
            return true;
        };
        tokio::time::timeout_at(*until, next_word(session, events))
            .await
            .is_ok()
    }
}

async fn next_word(session: SessionId, events: &mut broadcast::Receiver<Arc<Event>>) {
    loop {
        match events.recv().await {
            Ok(event) if concerns(&event, session) => return,
            Ok(_) => {}
            // What was missed may be what is waited for: asking again tells. A node that stops says so too.
            Err(RecvError::Lagged(_) | RecvError::Closed) => return,
        }
    }
}

fn concerns(event: &Event, session: SessionId) -> bool {
    match event {
        Event::SessionContinued { session: named, .. }
        | Event::TopUpFailed { session: named, .. }
        | Event::SessionClosed { session: named }
        | Event::SessionSilent { session: named, .. } => *named == session,
        _ => false,
    }
}
