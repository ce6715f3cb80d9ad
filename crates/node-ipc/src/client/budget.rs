//! Keeping under the node's limit of requests per second, for sure.
//!
//! The node counts a request at the moment it takes it from the socket, in whole seconds of its own clock, and a module that exceeds
//! 100 loses its connection or the answer. We do not see that moment; it lies between our sending and the node's answer. And as
//! the node takes requests one after the other, an answer to one says that all before it have been counted.
//!
//! So a request stands in the book from its sending until one second after the first answer that proves it counted. If at
//! every sending no more than `limit` stand in the book, no second of any clock holds more than `limit`: whatever the node
//! counted in the same second as the newest was, at the newest's sending, not yet proven counted for a second.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{MutexGuard, Notify};
use tokio::time::Instant;

use crate::message::CorrelationId;

const SECOND: Duration = Duration::from_secs(1);

/// The book.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    /// Held from waiting for room until the request is queued, so that requests are sent in the order of their ids.
    turnstile: tokio::sync::Mutex<()>,
    sent: Mutex<VecDeque<Sent>>,
    answered: Notify,
}

#[derive(Debug)]
struct Sent {
    id: CorrelationId,
    counted: Option<Instant>,
}

enum Room {
    Now,
    At(Instant),
    AfterAnAnswer,
}

/// The right to send one request now.
pub(super) struct Turn<'a> {
    budget: &'a Budget,
    _alone: MutexGuard<'a, ()>,
}

impl Turn<'_> {
    /// Enters the request into the book. Ids only grow.
    pub(super) fn sent(self, id: CorrelationId) {
        self.budget.book().push_back(Sent { id, counted: None });
    }
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            turnstile: tokio::sync::Mutex::new(()),
            sent: Mutex::new(VecDeque::with_capacity(limit)),
            answered: Notify::new(),
        }
    }

    /// Waits for one's turn, first come first served, and for room in the book.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let alone = self.turnstile.lock().await;
        loop {
            match self.room(Instant::now()) {
                Room::Now => {
                    return Turn {
                        budget: self,
                        _alone: alone,
                    };
                }
                Room::At(when) => tokio::time::sleep_until(when).await,
                Room::AfterAnAnswer => self.answered.notified().await,
            }
        }
    }

    /// The node answered `id`: it has counted that and all before.
    pub(super) fn counted_up_to(&self, id: CorrelationId) {
        self.mark(|sent| sent.id <= id);
    }

    /// The connection is gone: what the node has not counted by now it never will.
    pub(super) fn all_counted(&self) {
        self.mark(|_| true);
    }

    fn mark(&self, which: impl Fn(&Sent) -> bool) {
        let now = Instant::now();
        // The marked ones come first, so the search ends at the first that is younger.
        for sent in self
            .book()
            .iter_mut()
            .filter(|sent| sent.counted.is_none())
            .take_while(|sent| which(sent))
        {
            sent.counted = Some(now);
        }
        self.answered.notify_one();
    }

    fn room(&self, now: Instant) -> Room {
        let mut book = self.book();
        while book
            .front()
            .and_then(|sent| sent.counted)
            .is_some_and(|counted| counted + SECOND <= now)
        {
            book.pop_front();
        }
        match book.front() {
            Some(_) if book.len() < self.limit => Room::Now,
            Some(Sent {
                counted: Some(counted),
                ..
            }) => Room::At(*counted + SECOND),
            Some(Sent { counted: None, .. }) => Room::AfterAnAnswer,
            None => Room::Now,
        }
    }

    fn book(&self) -> std::sync::MutexGuard<'_, VecDeque<Sent>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn send(budget: &Budget, id: u64) {
        budget.turn().await.sent(id);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_counts_until_a_second_after_its_answer() {
        let budget = Budget::new(2);
        send(&budget, 1).await;
        send(&budget, 2).await;
        let begun = Instant::now();
        let answer_later = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            budget.counted_up_to(1);
        };
        tokio::join!(send(&budget, 3), answer_later);
        assert_eq!(begun.elapsed(), Duration::from_millis(1300));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_proves_everything_before_it_counted() {
        let budget = Budget::new(3);
        for id in 1..=3 {
            send(&budget, id).await;
        }
        budget.counted_up_to(3);
        let begun = Instant::now();
        for id in 4..=6 {
            send(&budget, id).await;
        }
        assert_eq!(begun.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_connection_does_not_block_the_budget_for_ever() {
        let budget = Budget::new(1);
        send(&budget, 1).await;
        budget.all_counted();
        let begun = Instant::now();
        send(&budget, 2).await;
        assert_eq!(begun.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_of_the_node_holds_more_than_the_limit_however_late_it_counts() {
        const LIMIT: usize = 5;
        let budget = Budget::new(LIMIT);
        let mut counted: Vec<Instant> = Vec::new();
        let mut delays = (1..400_u64).map(|n| Duration::from_millis(n * 7919 % 641));
        for id in 1..=60 {
            send(&budget, id).await;
            if id % 3 == 0 {
                tokio::time::sleep(delays.next().unwrap_or_default()).await;
                counted.resize(usize::try_from(id).unwrap_or_default(), Instant::now());
                budget.counted_up_to(id);
            }
        }
        for from in &counted {
            let in_second = counted
                .iter()
                .filter(|at| *at >= from && **at < *from + SECOND)
                .count();
            assert!(in_second <= LIMIT, "{in_second} requests in one second");
        }
    }
}
