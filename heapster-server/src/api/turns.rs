//! [`Turns`]: how many answers are made at one time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::error::ApiError;
use crate::http::{Response, busy, hold};

/// Turns to make answers that take work or memory. Whoever finds none waits a while.
#[derive(Debug)]
pub(super) struct Turns {
    free: Arc<Semaphore>,
    wait: Duration,
}

impl Turns {
    /// That many turns, at least one.
    pub(super) fn new(count: usize, wait: Duration) -> Self {
        Self { free: Arc::new(Semaphore::new(count.max(1))), wait }
    }

    /// Makes an answer on a thread that may block. The turn is held until the answer is dropped
    /// or its memory is accounted for; when nobody waits for it any more, until it is made.
    pub(super) async fn make(&self, make: impl FnOnce() -> Response + Send + 'static) -> Response {
        self.make_within(self.wait, make, || ApiError::Busy.into_response()).await
    }

    /// As [`Turns::make`], with a wait and a refusal of one's own.
    async fn make_within(
        &self,
        wait: Duration,
        make: impl FnOnce() -> Response + Send + 'static,
        refuse: impl FnOnce() -> Response,
    ) -> Response {
        let made = self.take(wait, move || Some(make())).await;
        made.flatten().unwrap_or_else(refuse)
    }

    /// Takes a turn and tries to make an answer. `None` when there was no turn in that time,
    /// `Some(None)` when no answer was made; either way no turn is held.
    pub(super) async fn take(
        &self,
        wait: Duration,
        make: impl FnOnce() -> Option<Response> + Send + 'static,
    ) -> Option<Option<Response>> {
        let turn = Arc::clone(&self.free).acquire_owned();
        let Ok(Ok(turn)) = tokio::time::timeout(wait, turn).await else {
            return None;
        };
        let made = tokio::task::spawn_blocking(move || {
            let mut response = make()?;
            hold(&mut response, turn);
            Some(response)
        });
        match made.await {
            Ok(response) => Some(response),
            // The router turns a panic into an answer.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Some(Some(busy("server is shutting down"))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http::header::RETRY_AFTER;

    use super::*;
    use crate::http::text;

    #[tokio::test(start_paused = true)]
    async fn an_answer_keeps_its_turn_until_it_is_dropped() {
        let turns = Turns::new(1, Duration::from_secs(10));
        let make = || text(StatusCode::OK, "made");
        let first = turns.make(make).await;
        let second = turns.make(make).await;
        assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(second.headers()[RETRY_AFTER], "5");
        drop(first);
        assert_eq!(turns.make(make).await.status(), StatusCode::OK);
    }
}
