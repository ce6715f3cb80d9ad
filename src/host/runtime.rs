//! Threads and memory of a module, within what the node lets it have.
//!
//! `RLIMIT_NPROC` counts every thread of the user, in all processes: under a node that runs as the same user a limit of
//! ten may be used up before we begin. Nothing tells how many are left but asking for them, so that is done.

use std::num::NonZero;
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use super::ModuleError;
use crate::resources::Limits;

/// Worker threads under a limited address space: each brings a stack and an arena.
const WORKERS_WITHIN_LIMITS: usize = 2;

/// Worker threads otherwise; the loop is one task, and links seldom need more beside it.
const WORKERS: usize = 4;

/// The thread that writes the database.
const STORE_THREADS: usize = 1;

/// Threads for what blocks: name look-ups, reading the books.
const BLOCKING_THREADS: usize = 4;

/// How long an idle thread for what blocks is kept: for good, because another might not be had.
const BLOCKING_KEPT: Duration = Duration::from_secs(u32::MAX as u64);

/// Stack of a thread that only asks whether it can be, in bytes.
const ASKING_STACK: usize = 64 * 1024;

/// How threads are spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    /// None: everything runs in the first thread.
    workers: Option<usize>,
    blocking: usize,
}

impl Plan {
    /// The best use of so many threads beside the first; none when they are too few.
    fn of(to_be_had: usize, workers_wanted: usize) -> Option<Self> {
        let beside_store = to_be_had.checked_sub(STORE_THREADS)?;
        let for_workers = beside_store.checked_sub(1)?;
        // A single worker is no better than the first thread, unless there is only one processor to run it.
        let workers = Some(workers_wanted.min(for_workers)).filter(|workers| *workers >= 2);
        let blocking = (beside_store - workers.unwrap_or_default()).min(BLOCKING_THREADS);
        Some(Self { workers, blocking })
    }
}

/// A runtime of as many threads as can be had.
pub(super) fn build(limits: &Limits) -> Result<Runtime, ModuleError> {
    let most = if limits.address_space.is_some() {
        WORKERS_WITHIN_LIMITS
    } else {
        WORKERS
    };
    let workers_wanted = thread::available_parallelism().map_or(1, NonZero::get).min(most);
    let to_be_had = threads_to_be_had(workers_wanted + STORE_THREADS + BLOCKING_THREADS);
    let plan = Plan::of(to_be_had, workers_wanted).ok_or(ModuleError::TooFewThreads {
        limit: limits.processes,
        to_be_had,
    })?;
    tracing::info!(
        workers = plan.workers.unwrap_or(1),
        blocking = plan.blocking,
        address_space = limits.address_space,
        descriptors = limits.descriptors,
        processes = limits.processes,
        "threads, and the limits they are within"
    );
    let mut builder = match plan.workers {
        Some(workers) => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(workers);
            builder
        }
        None => Builder::new_current_thread(),
    };
    let runtime = builder
        .enable_all()
        .max_blocking_threads(plan.blocking)
        .thread_keep_alive(BLOCKING_KEPT)
        .build()
        .map_err(|error| {
            ModuleError::Failed(format!(
                "cannot start: {error}; check the node's limits for modules"
            ))
        })?;
    take_a_blocking_thread(&runtime)?;
    Ok(runtime)
}

/// Later there might be none, and a runtime that can have none does not come back from asking.
fn take_a_blocking_thread(runtime: &Runtime) -> Result<(), ModuleError> {
    let taken = runtime.block_on(runtime.spawn_blocking(|| ()));
    taken.map_err(|error| ModuleError::Failed(format!("cannot start: {error}")))
}

/// How many threads can be started now, up to so many.
fn threads_to_be_had(most: usize) -> usize {
    let gate = Arc::new(RwLock::new(()));
    let closed = gate.write();
    let mut threads = Vec::with_capacity(most);
    for _ in 0..most {
        let gate = gate.clone();
        let wait = move || {
            let _open = gate.read();
        };
        match thread::Builder::new().stack_size(ASKING_STACK).spawn(wait) {
            Ok(thread) => threads.push(thread),
            Err(_) => break,
        }
    }
    drop(closed);
    let count = threads.len();
    for thread in threads {
        // It does nothing that could fail.
        let _ = thread.join();
    }
    count
}

/// Starts this program again with at most two arenas, if nobody said how many: glibc reserves 64 MiB of addresses for each
/// thread that allocates, and asks for their number only at its start. Comes back only when that is not needed or
/// fails.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn with_few_arenas() {
    use std::os::unix::process::CommandExt;

    const VARIABLE: &str = "MALLOC_ARENA_MAX";
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        // The same process goes on as the new program, so the node keeps its child. When it fails we go on with more
        // arenas than suit us, which matters only under a tight limit.
        let _failed = std::process::Command::new(program).env(VARIABLE, "2").exec();
    }
}

/// Other allocators do not reserve.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn with_few_arenas() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_spent_on_the_disk_first_then_on_what_blocks_then_on_workers() {
        let plan = |to_be_had| Plan::of(to_be_had, 2).map(|plan| (plan.workers, plan.blocking));
        assert_eq!(plan(0), None);
        assert_eq!(plan(1), None);
        assert_eq!(plan(2), Some((None, 1)));
        assert_eq!(plan(3), Some((None, 2)));
        assert_eq!(plan(4), Some((Some(2), 1)));
        assert_eq!(plan(7), Some((Some(2), 4)));
        assert_eq!(plan(100), Some((Some(2), 4)));
        assert_eq!(
            Plan::of(7, 1),
            Some(Plan {
                workers: None,
                blocking: 4
            })
        );
    }

    #[test]
    fn threads_that_are_there_can_be_had_and_are_given_back() {
        for _ in 0..100 {
            assert_eq!(threads_to_be_had(8), 8);
        }
    }

    #[test]
    fn the_runtime_runs_and_blocks() {
        let runtime = build(&Limits::default()).unwrap();
        let answer = runtime.block_on(async { tokio::task::spawn_blocking(|| 5).await.unwrap() });
        assert_eq!(answer, 5);
    }
}
