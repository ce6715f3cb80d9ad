//! Whether the disk has room: below the operator's limit the node takes nothing new, and again once there is half as much
//! more.
//!
//! The disk itself is asked, now and then and when somebody says that it is low. What others say is a reason to look and
//! nothing else: whoever could make a node believe that its disk is full could take it out of the mesh.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::event::Command;
use mesh_core::pause::Pause;
use tokio::sync::Notify;

use crate::handle::NodeHandle;

/// How often the disk is looked at without a reason: a disk that fills at 100 MB/s gains 3 GB meanwhile, but the node's own
/// records are few, and what waits for them waits.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Least time between two looks, however often somebody says that the disk is low.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// When room is low, and when it is enough again. Between the two nothing changes, so that a disk at the limit does not
/// have sessions refused and taken in turn.
#[derive(Debug, Clone, Copy)]
struct Gauge {
    least: u64,
    low: bool,
}

impl Gauge {
    /// Whether it is low now; none when that is as before.
    fn read(&mut self, free: u64) -> Option<bool> {
        let enough = self.least.saturating_add(self.least / 2);
        let low = free < self.least || (self.low && free < enough);
        let changed = low != self.low;
        self.low = low;
        changed.then_some(low)
    }
}

/// Bytes that this program may still write there.
///
/// # Errors
/// What the operating system says.
fn free_bytes(path: &std::path::Path) -> std::io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Looks at the disk until the node has stopped; `look` has it look at once. A limit of 0 never looks.
pub(crate) async fn watch(node: NodeHandle, path: PathBuf, least_free_mib: u64, look: Arc<Notify>) {
    let measure = move || free_bytes(&path);
    if least_free_mib > 0 {
        watch_by(node, measure, least_free_mib.saturating_mul(1 << 20), look).await;
    }
}

async fn watch_by(
    node: NodeHandle,
    measure: impl Fn() -> std::io::Result<u64>,
    least: u64,
    look: Arc<Notify>,
) {
    let mut gauge = Gauge { least, low: false };
    loop {
        match measure() {
            Ok(free) => {
                if let Some(low) = gauge.read(free) {
                    tell(&node, low, free, least).await;
                }
            }
            Err(error) => tracing::warn!(%error, "the disk's free space is not known"),
        }
        tokio::select! {
            () = node.stopped() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = async {
                tokio::time::sleep(LOOK_AT_MOST_EVERY).await;
                look.notified().await;
            } => {}
        }
    }
}

async fn tell(node: &NodeHandle, low: bool, free: u64, least: u64) {
    let free_mib = free >> 20;
    if low {
        let least_mib = least >> 20;
        tracing::warn!(
            free_mib,
            least_mib,
            "little room on the disk: new sessions are refused, what is open goes on; make room"
        );
    } else {
        tracing::info!(free_mib, "the disk has room again: new sessions are taken");
    }
    let command = Command::AcceptSessions {
        accept: !low,
        because: Pause::DiskLow,
    };
    if let Err(error) = node.command(command).await {
        tracing::warn!(%error, "the node did not hear of its disk");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_is_low_below_the_limit_and_has_room_again_only_well_above_it() {
        let mut gauge = Gauge {
            least: 100,
            low: false,
        };
        let read = [100, 99, 100, 149, 150, 149, 100, 99].map(|free| gauge.read(free));
        assert_eq!(
            read,
            [None, Some(true), None, None, Some(false), None, None, Some(true)]
        );
    }

    #[test]
    fn room_on_a_real_disk_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(folder.path()).unwrap() > 0);
        assert!(free_bytes(&folder.path().join("nowhere")).is_err());
    }
}
