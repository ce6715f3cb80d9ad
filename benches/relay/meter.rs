//! Processor time of this process.

use std::future::Future;
use std::time::{Duration, Instant};

/// What something cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// Of all threads, system calls included.
    pub(crate) cpu: Duration,
}

impl Cost {
    /// What it costs until `work` is done; all that the process does meanwhile is counted.
    pub(crate) async fn of(work: impl Future<Output = ()>) -> Self {
        let (started, before) = (Instant::now(), processor_time());
        work.await;
        Self {
            wall: started.elapsed(),
            cpu: processor_time() - before,
        }
    }
}

/// The first figure of each thread's schedstat: nanoseconds on a processor.
fn processor_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux lists its threads there");
    let nanoseconds = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
