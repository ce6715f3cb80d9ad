//! Starting again what could not start because something else is not up yet.
//!
//! A node does not start a module a second time, and after a power cut the wallet may come up last. So the module waits
//! itself, less and less often: whoever is to answer is not kept busy by being asked.

use std::future::Future;
use std::time::Duration;

use super::ModuleError;

/// The first pause before a start that failed is tried again, and the longest: each doubles the last.
const START_AGAIN: Duration = Duration::from_secs(2);
const START_AGAIN_AT_LAST: Duration = Duration::from_secs(60);

/// Tries until it starts, or fails by what time does not mend.
pub(super) async fn until_it_starts<T, F>(mut start: impl FnMut() -> F) -> Result<T, ModuleError>
where
    F: Future<Output = Result<T, ModuleError>>,
{
    let mut pause = START_AGAIN;
    loop {
        match start().await {
            Err(error) if error.may_pass() => {
                tracing::warn!(%error, again_in = ?pause, "the mesh cannot start yet");
            }
            ended => return ended,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(START_AGAIN_AT_LAST);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::Instant;

    use super::*;
    use crate::daemon::DaemonError;

    fn not_up() -> ModuleError {
        DaemonError::Unreachable("the wallet does not answer".to_owned()).into()
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_answer_is_tried_less_and_less_often_but_never_given_up() {
        let begun = Instant::now();
        let tries = RefCell::new(Vec::new());
        let started = until_it_starts(|| {
            tries.borrow_mut().push(begun.elapsed().as_secs());
            let many = tries.borrow().len() == 9;
            async move { if many { Ok(()) } else { Err(not_up()) } }
        });
        started.await.unwrap();
        assert_eq!(tries.into_inner(), [0, 2, 6, 14, 30, 62, 122, 182, 242]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_time_does_not_mend_ends_at_once() {
        let begun = Instant::now();
        for error in [
            DaemonError::Refused("a contradiction".to_owned()),
            DaemonError::Failed("the port is taken".to_owned()),
        ] {
            let mut error = Some(error);
            let ended: Result<(), _> = until_it_starts(|| {
                let error = error.take().expect("tried once");
                async { Err(error.into()) }
            })
            .await;
            assert!(matches!(ended, Err(ModuleError::Daemon(_))));
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
