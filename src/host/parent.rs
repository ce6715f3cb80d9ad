//! The node that spawned us: whether it still lives.
//!
//! A module whose node is gone must go too, or it keeps the data directory from the module of the node's next life. A node
//! that is killed tells nobody, so we look who our parent is: a process that loses its parent gets another.
//!
//! The node may also have died before we first looked; then our parent never changes again, because it is not the node.
//! Two things tell, and both stay true for good:
//!
//! * A process is born into its parent's session and leaves it only by beginning one of its own. A parent in another
//!   session than ours has adopted us.
//! * The node reads our standard output and error. When nobody is left to read either, it is gone.
//!
//! The kernel's own notice (`PR_SET_PDEATHSIG`) is no help: it is about the thread that spawned us, and a node's threads
//! come and go.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::process::{Pid, getpid, getppid, getsid};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often we look whether the node still lives.
pub(super) const PARENT_LOOK: Duration = Duration::from_secs(1);

/// Who spawned us, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parent {
    process: Option<Pid>,
    gone_already: bool,
    /// When we were spawned, as far as we can tell.
    pub(super) spawned_us: Instant,
}

impl Parent {
    /// To be called before anything that takes time, and before anything is done to the standard streams.
    pub(super) fn of_this_process() -> Self {
        // In this order: a node that dies in between is seen by both.
        let process = getppid();
        Self {
            process,
            gone_already: has_adopted_us(&Sessions::of(process)) || nobody_reads(),
            spawned_us: Instant::now(),
        }
    }

    /// Whether the node had died before we looked.
    pub(super) fn was_gone(&self) -> bool {
        self.gone_already
    }

    /// Comes back when the node has ended since.
    pub(super) async fn gone(self) {
        let mut look = interval(PARENT_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if getppid() != self.process {
                return;
            }
        }
    }
}

/// What tells an adoption; a session is none where the kernel does not tell it (a parent outside our PID namespace).
#[derive(Debug, Clone, Copy)]
struct Sessions {
    of_parent: Option<Pid>,
    ours: Option<Pid>,
    us: Pid,
}

impl Sessions {
    fn of(parent: Option<Pid>) -> Self {
        Self {
            of_parent: parent.and_then(|parent| getsid(Some(parent)).ok()),
            ours: getsid(None).ok(),
            us: getpid(),
        }
    }
}

/// Whether the parent cannot be who spawned us. Who begins a session of his own for us is not recognised by this.
fn has_adopted_us(sessions: &Sessions) -> bool {
    match (sessions.of_parent, sessions.ours) {
        (Some(of_parent), Some(ours)) => ours != sessions.us && ours != of_parent,
        _ => false,
    }
}

/// Whether both standard streams are pipes that nobody reads any more. A node may let one of them go, or give us none.
fn nobody_reads() -> bool {
    is_unread_pipe(&io::stdout()) && is_unread_pipe(&io::stderr())
}

fn is_unread_pipe(stream: &impl AsFd) -> bool {
    let is_pipe = fstat(stream).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    let mut asked = [PollFd::new(stream, PollFlags::empty())];
    // Of a pipe's writing end an error says that no reading end is open.
    is_pipe
        && poll(&mut asked, Some(&Timespec::default())).is_ok()
        && asked[0].revents().contains(PollFlags::ERR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(number: i32) -> Pid {
        Pid::from_raw(number).unwrap()
    }

    fn adopted(of_parent: Option<i32>, ours: i32) -> bool {
        has_adopted_us(&Sessions {
            of_parent: of_parent.map(pid),
            ours: Some(pid(ours)),
            us: pid(90),
        })
    }

    #[test]
    fn parent_in_our_session_spawned_us_and_one_in_another_adopted_us() {
        assert!(
            !adopted(Some(50), 50),
            "a node in a session of its service manager's"
        );
        assert!(
            !adopted(Some(1), 1),
            "a node that is the first process of a container"
        );
        assert!(adopted(Some(1), 50), "what the first process adopted");
    }

    #[test]
    fn nothing_is_concluded_from_a_session_of_our_own_or_a_parent_that_cannot_be_seen() {
        assert!(!adopted(Some(50), 90));
        assert!(!adopted(None, 50));
    }

    #[test]
    fn pipe_is_unread_once_its_reading_end_is_closed_and_a_file_never_is() {
        let (reading, writing) = io::pipe().unwrap();
        assert!(!is_unread_pipe(&writing));
        drop(reading);
        assert!(is_unread_pipe(&writing));
        assert!(!is_unread_pipe(&std::fs::File::open("/dev/null").unwrap()));
    }
}
