//! When a link breaks under sessions: the hop before it tells their sources at once, and the source takes another way.
//!
//! A source learns of a break one trip after it, whether it is sending or not. A link that comes back finds the
//! sessions as they were: nothing is forgotten at the hops because of a break.

use crate::drop_reason::DropReason;
use crate::event::{Event, LinkId};
use crate::identity::NodeId;
use crate::keys::SessionId;
use crate::limits::{BREAK_ERRORS_AT_ONCE, BREAK_ERRORS_PER_STEP, BREAK_STEP_PAUSE, BREAK_STEP_PAUSE_LATER};
use crate::neighbours::Neighbour;
use crate::open::HopRefusal;
use crate::time::Now;

use super::{Core, Timer};

/// How far the sources of the sessions over one broken link were told.
#[derive(Debug, Default)]
pub(super) struct Telling {
    last: Option<SessionId>,
    told: usize,
}

/// As the hop before the break.
impl Core {
    pub(super) fn on_link_down(&mut self, now: Now, link: LinkId) {
        let Some((neighbour, peer)) = self.neighbours.link_down(link) else {
            return;
        };
        self.routes.cache.forget_via(&peer);
        self.note_own_break(&peer);
        // A link that broke before all were told of its last break has its timer still: one is enough.
        if self.telling.insert(neighbour, Telling::default()).is_none() {
            self.tell_of_break(now, neighbour);
        }
    }

    /// Tells the sources of some more sessions over a broken link; the rest a moment later, so that neither packets here
    /// nor the budget of the neighbours who pass the errors on suffer.
    pub(super) fn tell_of_break(&mut self, now: Now, neighbour: Neighbour) {
        let Some(telling) = self.telling.get(&neighbour) else {
            return;
        };
        let is_back = self.neighbours.link_of(neighbour).is_some();
        let sessions = self.sessions.going_to(neighbour, telling.last);
        let sessions: Vec<SessionId> = sessions.take(BREAK_ERRORS_PER_STEP).collect();
        if is_back || sessions.is_empty() {
            self.telling.remove(&neighbour);
            return;
        }
        let told = telling.told.saturating_add(sessions.len());
        for session in &sessions {
            self.tell_source(now, session, DropReason::NextHopGone);
        }
        let last = sessions.last().copied();
        self.telling.insert(neighbour, Telling { last, told });
        let pause = if told < BREAK_ERRORS_AT_ONCE {
            BREAK_STEP_PAUSE
        } else {
            BREAK_STEP_PAUSE_LATER
        };
        self.set_timer(now.instant + pause, Timer::TellOfBreak(neighbour));
    }
}

/// As the source.
impl Core {
    /// The source is itself the hop before the break, and says so to whoever uses its sessions.
    fn note_own_break(&mut self, first: &NodeId) {
        let hop = self.node_id();
        let refusal = HopRefusal {
            reason: DropReason::NextHopGone,
            credit_msat: 0,
        };
        let mut broken = Vec::new();
        for session in self.payer.sessions.values_mut() {
            if session.opening.is_none() && session.path.get(1) == Some(first) {
                session.watch.refused();
                broken.push(session.id);
            }
        }
        for session in broken {
            self.event(Event::HopRefused {
                session,
                hop,
                refusal,
            });
        }
    }

    /// A hop of one's own session refused: routes that the refusal shows to be broken are not offered again.
    pub(super) fn forget_broken(&mut self, path: &[NodeId], hop: &NodeId, reason: DropReason) {
        match reason {
            DropReason::NextHopGone => {
                let next = path.iter().skip_while(|node| *node != hop).nth(1);
                if let Some(next) = next {
                    self.routes.cache.forget_edge(hop, next);
                }
            }
            DropReason::UnknownSession => self.routes.cache.forget(path),
            _ => {}
        }
    }
}
