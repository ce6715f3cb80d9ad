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
use rustix::process::{Pid, getpid, getppid};
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

/// What tells an adoption. A session is a number, 0 for all that began outside our PID namespace, and none where the
/// kernel does not tell it (no `/proc`, or one that hides others' processes).
#[derive(Debug, Clone, Copy)]
struct Sessions {
    of_parent: Option<i32>,
    ours: Option<i32>,
    us: i32,
}

impl Sessions {
    fn of(parent: Option<Pid>) -> Self {
        Self {
            of_parent: parent.and_then(session_of),
            ours: session_of(getpid()),
            us: getpid().as_raw_nonzero().get(),
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

/// From `/proc`, because `getsid` says 0 of a session outside the namespace, which rustix does not take for an answer.
fn session_of(process: Pid) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    session_in(&stat)
}

/// The session in a process's `stat` line. The program's name before it may hold anything.
fn session_in(stat: &str) -> Option<i32> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    // State, parent, process group, session.
    behind_name.split_ascii_whitespace().nth(3)?.parse().ok()
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

    fn adopted(of_parent: Option<i32>, ours: i32) -> bool {
        has_adopted_us(&Sessions {
            of_parent,
            ours: Some(ours),
            us: 90,
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
        assert!(
            !adopted(Some(0), 0),
            "both from outside a container, as far as can be seen"
        );
        assert!(adopted(Some(1), 50), "what the first process adopted");
        assert!(adopted(Some(0), 50), "the same, whose session began outside");
    }

    #[test]
    fn nothing_is_concluded_from_a_session_of_our_own_or_a_parent_that_cannot_be_seen() {
        assert!(!adopted(Some(50), 90));
        assert!(!adopted(None, 50));
    }

    #[test]
    fn session_is_found_behind_whatever_a_program_calls_itself() {
        assert_eq!(session_in("7 (sh) S 1 7 5 34816 7 4194304"), Some(5));
        assert_eq!(session_in("7 (a) R 9 9 9 (b) S 1 7 0 34816"), Some(0));
        for broken in ["", "7 sh S 1 7 5", "7 (sh) S 1", "7 (sh) S 1 7 x 8"] {
            assert_eq!(session_in(broken), None, "{broken}");
        }
        assert_eq!(session_of(getpid()).is_some(), cfg!(target_os = "linux"));
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
