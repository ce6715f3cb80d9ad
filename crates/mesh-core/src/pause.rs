//! Why a node takes nothing new for a while.
//!
//! What is running goes on: packets, receipts, and opens that show a payment this node asked for, because that money is
//! paid already. New quotes, sessions over old credit and purchases of one's own are refused by the cause's name, so that
//! whoever is refused knows that it will pass and takes another route meanwhile.

use std::collections::BTreeSet;

use crate::drop_reason::DropReason;

/// One cause. Several may hold at once; each is lifted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pause {
    /// The node is being stopped.
    ShuttingDown,
    /// There is little room left on the disk: what is open may need it.
    DiskLow,
    /// The host, or the operator, works on the node.
    Maintenance,
}

impl Pause {
    /// What those who are refused are told.
    pub const fn reason(self) -> DropReason {
        match self {
            Self::ShuttingDown => DropReason::ShuttingDown,
            Self::DiskLow => DropReason::DiskLow,
            Self::Maintenance => DropReason::Maintenance,
        }
    }
}

/// The causes that hold now.
#[derive(Debug, Default)]
pub(crate) struct Pauses(BTreeSet<Pause>);

impl Pauses {
    pub(crate) fn set(&mut self, pause: Pause, holds: bool) {
        if holds {
            self.0.insert(pause);
        } else {
            self.0.remove(&pause);
        }
    }

    /// Refuses what is new, by the first cause that holds.
    pub(crate) fn admit(&self) -> Result<(), DropReason> {
        self.0.first().map_or(Ok(()), |pause| Err(pause.reason()))
    }

    pub(crate) fn all(&self) -> Vec<Pause> {
        self.0.iter().copied().collect()
    }
}
