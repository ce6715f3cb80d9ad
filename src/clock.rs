//! The only clock of the process: monotonic time for timers, and a wall clock that never runs backwards.

use std::time::{SystemTime, UNIX_EPOCH};

use mesh_core::time::{Instant, Now, UnixMillis};

/// Reads both clocks. The wall clock starts no earlier than where an earlier life of this node left it and never steps
/// back: otherwise setting the machine's clock back would make expired proofs and quotes valid again.
#[derive(Debug)]
pub struct Clock {
    started: std::time::Instant,
    latest: UnixMillis,
}

impl Clock {
    /// A clock that begins at `floor` or the system's time, whichever is later.
    pub fn starting_at(floor: UnixMillis) -> Self {
        Self {
            started: std::time::Instant::now(),
            latest: floor,
        }
    }

    /// This moment.
    pub fn now(&mut self) -> Now {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        self.latest = self.latest.max(UnixMillis(unix));
        let micros = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        Now {
            instant: Instant(micros),
            unix: self.latest,
        }
    }

    /// The moment of the runtime's clock at which `instant` comes.
    pub fn deadline(&self, instant: Instant) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.started + std::time::Duration::from_micros(instant.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_set_back_does_not_make_time_run_backwards() {
        let in_a_thousand_years = UnixMillis(1000 * 365 * 24 * 3_600_000 + 1_700_000_000_000);
        let mut clock = Clock::starting_at(in_a_thousand_years);
        assert_eq!(clock.now().unix, in_a_thousand_years);
    }
}
