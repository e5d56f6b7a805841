//! [`Intake`]: the one way into the store, for batches that were collected and samples that were
//! pushed; and what is known of why it takes none.
//!
//! A full disk is no reason to end: collecting, queries and retention go on, what does not fit is
//! refused, counted and said once, and the first append that fits ends it.

mod gathered;
mod series_table;

use std::sync::Arc;
use std::time::Duration;

use heapster_core::{DataBatch, Timestamp};
use heapster_store::{Ack, AppendReport, Clock, Error, Store};
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::telemetry::logging::chain;
use crate::telemetry::rate_limit::RateLimit;
use crate::telemetry::{Family, FamilyKind, Registry};

pub use gathered::{Gathered, Rows};
pub use series_table::{Meaning, Place, Refusal, SeriesTable, Tracked};

const REFUSED: Family = Family {
    name: "heapster_store_refused_appends_total",
    help: "Appends of which the store took nothing or only a part, by reason.",
    kind: FamilyKind::Counter,
};
const REFUSING: Family = Family {
    name: "heapster_store_refusing",
    help: "1 since the store refused an append, until it takes one again.",
    kind: FamilyKind::Gauge,
};

/// One line about the begin of refusals, and one about their end, in this time.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Appends to the store and remembers what it refused.
#[derive(Debug)]
pub struct Intake {
    store: Arc<Store>,
    ack: Ack,
    clock: Arc<dyn Clock>,
    registry: Arc<Registry>,
    /// Why the last append was refused; `None` when it was taken.
    refusing: Mutex<Option<Refusing>>,
    /// Why the last step of maintenance failed.
    unmaintained: Mutex<Option<String>>,
    begin_lines: RateLimit,
    end_lines: RateLimit,
}

/// Refusals without an append that was taken between them.
#[derive(Debug)]
struct Refusing {
    since: Timestamp,
    why: String,
    appends: u64,
}

impl Intake {
    /// An intake whose appends are acknowledged under `ack`.
    pub fn new(
        store: Arc<Store>,
        ack: Ack,
        clock: Arc<dyn Clock>,
        registry: Arc<Registry>,
    ) -> Self {
        // Known from the start, so that an alert on their rise has something to compare with.
        for reason in ["disk_full", "memory_full", "poisoned", "io"] {
            registry.add(&REFUSED, &[("reason", reason)], 0);
        }
        registry.set(&REFUSING, &[], 0.0);
        Self {
            store,
            ack,
            clock,
            registry,
            refusing: Mutex::default(),
            unmaintained: Mutex::default(),
            begin_lines: RateLimit::new(LOG_PERIOD),
            end_lines: RateLimit::new(LOG_PERIOD),
        }
    }

    /// Appends a batch; blocks.
    ///
    /// # Errors
    /// As [`Store::append`].
    pub fn append(&self, batch: &DataBatch) -> Result<AppendReport, Error> {
        let appended = self.store.append(batch, self.ack);
        self.note(appended.as_ref().err());
        appended
    }

    /// The rows that samples make. `table` is the one that their places are of.
    pub fn rows(&self, samples: Gathered, table: &mut SeriesTable) -> Rows {
        samples.into_rows(table, &self.store)
    }

    /// Appends rows of several moments; blocks. They are acknowledged as a whole: `Ok` means that
    /// each sample was taken or is among the refused of the report.
    ///
    /// # Errors
    /// As [`Store::append_dense`]; a part may be in the store then, and to push the same again is
    /// harmless.
    pub fn push(&self, rows: &Rows) -> Result<AppendReport, Error> {
        let ack = self.ack.min(Ack::Buffered);
        let append_all = || {
            let mut report = AppendReport::default();
            for moment in &rows.moments {
                for piece in moment.pieces() {
                    report.add_all(&self.store.append_dense(moment.at, piece.rows(), ack)?);
                }
                if !moment.sparse.is_empty() {
                    report.add_all(&self.store.append_rows(moment.at, &moment.sparse, ack)?);
                }
            }
            // One sync for all moments; also for what an earlier try left behind without one.
            if self.ack == Ack::Durable {
                self.store.sync()?;
            }
            Ok(report)
        };
        let pushed = append_all();
        self.note(pushed.as_ref().err());
        pushed
    }

    /// Remembers how a step of maintenance ended.
    pub fn note_maintenance(&self, error: Option<&Error>) {
        *self.unmaintained.lock() = error.map(|error| chain(error));
    }

    /// Why not everything that comes is stored, for those who look after the server.
    pub fn trouble(&self) -> Option<String> {
        if let Some(op) = self.store.poisoned_by() {
            return Some(format!("the store takes nothing more after a failed {op}"));
        }
        if let Some(Refusing { since, why, .. }) = &*self.refusing.lock() {
            return Some(format!("samples are refused since {since}: {why}"));
        }
        let unmaintained = self.unmaintained.lock();
        unmaintained.as_ref().map(|why| format!("the store's maintenance fails: {why}"))
    }

    fn note(&self, error: Option<&Error>) {
        match error {
            Some(error) => self.note_refusal(error),
            None => self.note_taken(),
        }
    }

    fn note_refusal(&self, error: &Error) {
        self.registry.add(&REFUSED, &[("reason", reason(error))], 1);
        self.registry.set(&REFUSING, &[], 1.0);
        let why = chain(error);
        let mut refusing = self.refusing.lock();
        if let Some(refusing) = &mut *refusing {
            refusing.appends += 1;
            refusing.why = why;
            return;
        }
        *refusing = Some(Refusing { since: self.clock.now(), why: why.clone(), appends: 1 });
        drop(refusing);
        // The process ends and says why.
        if !matches!(error, Error::Poisoned { .. })
            && self.begin_lines.admit(self.clock.monotonic()).is_some()
        {
            warn!(
                "the store refuses samples: {why}; queries and retention go on, and samples are \
                   taken again as soon as that works"
            );
        }
    }

    fn note_taken(&self) {
        let Some(ended) = self.refusing.lock().take() else { return };
        self.registry.set(&REFUSING, &[], 0.0);
        if self.end_lines.admit(self.clock.monotonic()).is_some() {
            let Refusing { since, appends, .. } = ended;
            info!("the store takes samples again; it refused {appends} appends since {since}");
        }
    }
}

fn reason(error: &Error) -> &'static str {
    match error {
        Error::DiskFull { .. } => "disk_full",
        Error::MemoryFull { .. } => "memory_full",
        Error::Poisoned { .. } => "poisoned",
        _ => "io",
    }
}
