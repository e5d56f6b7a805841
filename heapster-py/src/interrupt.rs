//! Work without the interpreter's lock that Ctrl-C can end.

use std::panic::resume_unwind;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use heapster_query::Cancel;
use pyo3::prelude::*;

/// How long Ctrl-C may go unnoticed.
const POLL: Duration = Duration::from_millis(50);

/// Runs `work` on a thread of its own, while this one, without the interpreter's lock, looks for
/// signals. A signal handler that raises, as Python's own for Ctrl-C does, cancels the work; its
/// exception is raised once the work has ended.
pub fn run<T: Send>(py: Python<'_>, work: impl FnOnce(&Cancel) -> T + Send) -> PyResult<T> {
    let cancel = Cancel::default();
    let mut interrupted = None;
    let result = py.detach(|| {
        thread::scope(|scope| {
            let (done, waiting) = mpsc::sync_channel(1);
            let cancel = &cancel;
            let worker = scope.spawn(move || {
                // Whoever waits is there as long as this runs.
                let _ = done.send(work(cancel));
            });
            loop {
                match waiting.recv_timeout(POLL) {
                    Ok(result) => return result,
                    Err(RecvTimeoutError::Timeout) => {
                        if let Err(error) = check_signals() {
                            cancel.cancel();
                            interrupted.get_or_insert(error);
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => match worker.join() {
                        Err(panic) => resume_unwind(panic),
                        Ok(()) => unreachable!("bug: work ended without a result or a panic"),
                    },
                }
            }
        })
    });
    match interrupted {
        Some(error) => Err(error),
        None => Ok(result),
    }
}

#[expect(clippy::redundant_closure_for_method_calls, reason = "the method has one lifetime only")]
fn check_signals() -> PyResult<()> {
    Python::attach(|py| py.check_signals())
}
