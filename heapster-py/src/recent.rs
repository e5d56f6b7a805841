//! [`Recent`]: the newest warnings and errors of the threads that were told to keep them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::Arc;

use heapster_store::{Clock, SystemClock};
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// How many are kept.
const LINES_MAX: usize = 100;

/// The newest lines that a program would log as warnings and errors; clones share them.
#[derive(Clone, Default)]
pub struct Recent(Arc<Mutex<VecDeque<Line>>>);

/// What would be logged: milliseconds since the epoch, `warning` or `error`, and the text.
pub type Line = (i64, &'static str, String);

thread_local! {
    /// As long as it lives, the thread's lines go to a [`Recent`].
    static LISTENING: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

impl Recent {
    /// Keeps what this thread logs from now on. Other threads of the process log as they did.
    pub fn listen(&self) {
        let guard = self.listen_for_now();
        LISTENING.with(|listening| listening.replace(Some(guard)));
    }

    /// Keeps what this thread logs as long as the guard lives.
    pub fn listen_for_now(&self) -> DefaultGuard {
        let subscriber = tracing_subscriber::registry().with(self.clone());
        tracing::subscriber::set_default(subscriber)
    }

    /// The lines, the oldest first.
    pub fn lines(&self) -> Vec<Line> {
        self.0.lock().iter().cloned().collect()
    }
}

impl<S: Subscriber> Layer<S> for Recent {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let kind = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            _ => return,
        };
        let mut text = LineText::default();
        event.record(&mut text);
        let mut lines = self.0.lock();
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back((SystemClock::new().now().as_millis(), kind, text.0));
    }
}

/// The message of a line, and its fields behind it.
#[derive(Default)]
struct LineText(String);

impl Visit for LineText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => {
                let fields = std::mem::take(&mut self.0);
                write!(self.0, "{value:?}{fields}")
            }
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
