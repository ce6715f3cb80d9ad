//! One budget of an hour or a day.

use std::time::Duration;

use super::window::{Moment, Window};
use super::{SpendingCap, SpendingRefusal};

pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// Exactness of the hour: a sixtieth.
const HOUR_STEP: Duration = Duration::from_secs(60);

/// Exactness of the day: a ninety-sixth.
pub(super) const DAY_STEP: Duration = Duration::from_secs(15 * 60);

/// One budget: what was spent of it lately, and what is set aside.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    pub(super) window: Window,
    held_msat: u64,
}

impl Budget {
    pub(super) fn of_an_hour() -> Self {
        Self {
            window: Window::new(HOUR, HOUR_STEP),
            held_msat: 0,
        }
    }

    pub(super) fn of_a_day() -> Self {
        Self {
            window: Window::new(DAY, DAY_STEP),
            held_msat: 0,
        }
    }

    pub(super) fn allows(
        &self,
        at: Moment,
        cap: SpendingCap,
        cap_msat: u64,
        wanted_msat: u64,
    ) -> Result<(), SpendingRefusal> {
        let spent = self.window.spent_msat(at).saturating_add(self.held_msat);
        let left_msat = cap_msat.saturating_sub(spent);
        if wanted_msat <= left_msat {
            return Ok(());
        }
        let most = cap_msat.checked_sub(wanted_msat);
        Err(SpendingRefusal::Above {
            cap,
            cap_msat,
            left_msat,
            wanted_msat,
            frees_in: most.map(|most| self.window.frees_in(at, self.held_msat, most)),
        })
    }

    pub(super) fn hold(&mut self, msat: u64) {
        self.held_msat = self.held_msat.saturating_add(msat);
    }

    pub(super) fn settle(&mut self, at: Moment, held_msat: u64, spent_msat: u64) {
        self.held_msat = self.held_msat.saturating_sub(held_msat);
        self.window.add(at, spent_msat);
    }

    /// Whether nothing is left to remember.
    pub(super) fn forget(&mut self, at: Moment) -> bool {
        self.window.forget(at) && self.held_msat == 0
    }
}

/// Whether a budget counts credit that is drawn.
#[derive(Clone, Copy)]
pub(super) enum Drawn {
    Counted,
    Ignored,
}

impl Drawn {
    pub(super) fn of(self, msat: u64) -> u64 {
        match self {
            Self::Counted => msat,
            Self::Ignored => 0,
        }
    }
}
