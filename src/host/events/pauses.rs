//! Causes for which new sessions are refused, told to the node, and lifted by themselves when their time is over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesh_core::event::Command;
use mesh_core::pause::Pause;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::handle::{NodeHandle, lock};

/// How long the node may take over a command: with a disk that refuses it answers late, but has acted.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is wanted, and until when. One entry for each cause.
#[derive(Debug, Default)]
struct Wanted {
    /// None: lifted.
    until: BTreeMap<Pause, Option<Instant>>,
    /// Since when each holds, and from when on it may hold again: as long after its end as it held. Any module can publish
    /// the events that ask for pauses, and must not keep the node from taking anything new for ever.
    since: BTreeMap<Pause, Instant>,
    not_before: BTreeMap<Pause, Instant>,
    /// What the node was told and not yet of.
    untold: BTreeMap<Pause, bool>,
}

/// Asks for pauses. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Pauses {
    wanted: Arc<Mutex<Wanted>>,
    changed: Arc<Notify>,
}

impl Pauses {
    /// Refuses new sessions for this cause, for so long at the most from now on. Said again while it holds it changes
    /// nothing, and nothing for as long after its end as it held.
    pub(super) fn pause(&self, pause: Pause, at_most: Duration) {
        let now = Instant::now();
        let mut wanted = lock(&self.wanted);
        let holds = wanted.until.get(&pause).is_some_and(Option::is_some);
        let too_soon = wanted.not_before.get(&pause).is_some_and(|from| now < *from);
        if holds || too_soon {
            return;
        }
        wanted.since.insert(pause, now);
        drop(wanted);
        self.want(pause, Some(now + at_most));
    }

    /// Takes new sessions again as far as this cause goes.
    pub(super) fn resume(&self, pause: Pause) {
        let mut wanted = lock(&self.wanted);
        if wanted.until.get(&pause).is_none_or(Option::is_none) {
            return;
        }
        if let Some(since) = wanted.since.remove(&pause) {
            let now = Instant::now();
            wanted.not_before.insert(pause, now + (now - since));
        }
        drop(wanted);
        self.want(pause, None);
    }

    fn want(&self, pause: Pause, until: Option<Instant>) {
        let mut wanted = lock(&self.wanted);
        let before = wanted.until.insert(pause, until).flatten();
        if before.is_some() != until.is_some() {
            wanted.untold.insert(pause, until.is_some());
        }
        drop(wanted);
        self.changed.notify_one();
    }

    /// Tells the node, for ever.
    pub(super) async fn run(self, node: NodeHandle) {
        loop {
            while let Some((pause, holds)) = self.next_untold() {
                tell(&node, pause, holds).await;
            }
            let next = self.next_end();
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_until(next) => self.lift_what_is_over(),
            }
        }
    }

    fn next_untold(&self) -> Option<(Pause, bool)> {
        lock(&self.wanted).untold.pop_first()
    }

    fn next_end(&self) -> Option<Instant> {
        lock(&self.wanted).until.values().flatten().min().copied()
    }

    fn lift_what_is_over(&self) {
        let now = Instant::now();
        let over: Vec<Pause> = {
            let wanted = lock(&self.wanted);
            let ended = wanted
                .until
                .iter()
                .filter(|(_, until)| until.is_some_and(|at| at <= now));
            ended.map(|(pause, _)| *pause).collect()
        };
        for pause in over {
            tracing::warn!(
                cause = pause.reason().as_str(),
                "nobody said that it is over, but its time is: new sessions are taken again"
            );
            self.resume(pause);
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn tell(node: &NodeHandle, because: Pause, holds: bool) {
    let cause = because.reason().as_str();
    if holds {
        tracing::info!(cause, "new sessions are refused; what is open goes on");
    } else {
        tracing::info!(cause, "no longer a reason to refuse new sessions");
    }
    let command = Command::AcceptSessions {
        accept: !holds,
        because,
    };
    match tokio::time::timeout(PATIENCE, node.command(command)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, cause, "the node did not hear of it"),
        Err(_) => tracing::warn!(cause, "the node has not answered yet; its disk may refuse"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pause_that_nobody_lifts_is_lifted_when_its_time_is_over_and_not_before() {
        let pauses = Pauses::default();
        pauses.pause(Pause::Maintenance, Duration::from_secs(60));
        pauses.pause(Pause::ShuttingDown, Duration::from_secs(30));
        assert_eq!(pauses.next_untold(), Some((Pause::ShuttingDown, true)));
        assert_eq!(pauses.next_untold(), Some((Pause::Maintenance, true)));
        tokio::time::advance(Duration::from_secs(30)).await;
        pauses.lift_what_is_over();
        assert_eq!(pauses.next_untold(), Some((Pause::ShuttingDown, false)));
        assert_eq!(pauses.next_untold(), None);
        tokio::time::advance(Duration::from_secs(29)).await;
        pauses.lift_what_is_over();
        assert_eq!(pauses.next_untold(), None, "nothing to tell: it holds");
        tokio::time::advance(Duration::from_secs(1)).await;
        pauses.lift_what_is_over();
        assert_eq!(pauses.next_untold(), Some((Pause::Maintenance, false)));
        assert_eq!(pauses.next_end(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_a_pause_again_and_again_gets_half_of_the_time_at_the_most() {
        let pauses = Pauses::default();
        let mut held = 0;
        for _ in 0..600 {
            pauses.pause(Pause::Maintenance, Duration::from_secs(60));
            pauses.lift_what_is_over();
            held += usize::from(pauses.next_end().is_some());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!((250..=310).contains(&held), "{held} of 600 seconds");
    }
}
