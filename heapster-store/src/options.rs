//! [`StoreOptions`]: every knob of a store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::vfs::{RealVfs, Vfs};
use crate::{Clock, SystemClock};

/// What "the batch was appended" means: what it survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ack {
    /// Nothing is promised before the next sync; the batch still goes to the log. For tests and
    /// for imports that end with [`crate::Store::sync`].
    Memory,
    /// The log has the batch in the operating system's cache: it survives the death of the process.
    /// Maintenance syncs the log each time it is called, so a power cut costs about a second.
    #[default]
    Buffered,
    /// The batch is on the disk: it survives a power cut.
    Durable,
}

/// How long samples are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// For ever.
    #[default]
    Forever,
    /// Until they are older than this.
    Age(Duration),
}

/// A tier: aggregates by buckets of time, kept longer than raw samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierOptions {
    /// Length of a bucket: whole seconds that divide a day, from 1 second to 1 day.
    pub resolution: Duration,
    /// How long buckets are kept. Whole segments of one to a hundred days go once their newest
    /// bucket is past it.
    pub retention: Retention,
    /// Length of all segments of the tier above which the oldest go; `None` for no limit.
    pub retention_bytes: Option<u64>,
}

impl TierOptions {
    /// Checks a ladder of tiers, from the finest to the coarsest.
    ///
    /// # Errors
    /// [`crate::Error::InvalidOptions`]: more than 8 tiers, a resolution that is not whole seconds from a
    /// second to a day or does not divide a day, or one that is no multiple of the one before.
    pub fn check(ladder: &[Self]) -> Result<()> {
        crate::tier::check(ladder)
    }
}

/// How late a sample may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateWindow {
    /// At most this much before the newest sample of the store.
    Within(Duration),
    /// At any time: for imports of old data.
    Any,
}

/// Options of a store; see each field for unit, bounds and why the default is what it is. What is
/// out of bounds is moved to the nearest bound.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The file system. Default: the operating system's.
    pub vfs: Arc<dyn Vfs>,
    /// The clock. Default: the system's.
    pub clock: Arc<dyn Clock>,
    /// How long samples are kept. Default: for ever, because a library that deletes surprises; the
    /// server sets 15 days. Whole segments go once their newest sample is past the age.
    pub retention: Retention,
    /// The tiers, from the finest to the coarsest, each resolution a multiple of the one before; at
    /// most 8. Default: none. They are built by [`crate::Store::roll_up`], and raw samples that a
    /// tier still needs are not dropped. A tier that is taken out of the list keeps what it has and
    /// still answers.
    pub tiers: Vec<TierOptions>,
    /// Length of all segments of raw samples above which the oldest go, whole, whatever their age;
    /// `None` for no limit. Default: none. The newest segment stays in any case, and the log and
    /// what compaction needs for a while come on top.
    pub retention_bytes: Option<u64>,
    /// Bytes of memory after which the head is flushed to a segment; 1 MiB to 16 GiB, default
    /// 256 MiB: two hours of about 500,000 series, or half an hour of a million. Larger means larger
    /// segments, more memory and a longer replay after a crash; smaller means more and smaller
    /// segments. While a flush runs the rows that arrive come on top, up to as much again; then
    /// appends wait for it.
    pub head_bytes_max: usize,
    /// Span of data after which the head is flushed, aligned to multiples of itself; 1 minute to
    /// 7 days, default 2 hours: most dashboards ask for less, and compression gains little beyond.
    pub flush_window: Duration,
    /// How long after its end a day is encoded for size, which makes it smaller by a fifth and reading
    /// it slower; `None` for never. Default: 2 days, since most dashboards ask for less.
    pub cold_after: Option<Duration>,
    /// How late a sample may come. Default: 1 hour, which covers a collector that was cut off and
    /// catches up. Much older rows are cheap one by one, but each overlaps segments that reads must
    /// merge.
    pub late_window: LateWindow,
    /// How far a sample may be ahead of the clock; `None` for any distance. Default: 10 minutes. A
    /// wrong clock of one sender would else move the late window for everybody.
    pub future_max: Option<Duration>,
    /// Label sets in the head at most; default 2,000,000, which need about 2 GiB. Rows of further
    /// sets are refused with [`Rejected::TooManySets`] until the next flush.
    pub sets_max: usize,
    /// What callers without a wish of their own use. Default: [`Ack::Buffered`].
    pub default_ack: Ack,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            vfs: Arc::new(RealVfs),
            clock: Arc::new(SystemClock::new()),
            retention: Retention::Forever,
            tiers: Vec::new(),
            retention_bytes: None,
            head_bytes_max: 256 << 20,
            flush_window: Duration::from_secs(2 * 3600),
            cold_after: Some(Duration::from_secs(2 * 86_400)),
            late_window: LateWindow::Within(Duration::from_secs(3600)),
            future_max: Some(Duration::from_secs(600)),
            sets_max: 2_000_000,
            default_ack: Ack::Buffered,
        }
    }
}

impl StoreOptions {
    /// The options with what is out of bounds moved to the nearest bound.
    pub(crate) fn within_bounds(mut self) -> Self {
        self.head_bytes_max = self.head_bytes_max.clamp(1 << 20, 16 << 30);
        let (minute, week) = (Duration::from_secs(60), Duration::from_secs(7 * 86_400));
        self.flush_window = self.flush_window.clamp(minute, week);
        self.sets_max = self.sets_max.clamp(1, 1 << 31);
        self
    }
}

/// Why samples were refused. The rest of their batch is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rejected {
    /// Older than [`StoreOptions::late_window`] allows; of an import, older than
    /// [`StoreOptions::retention`] keeps.
    TooOld,
    /// Further ahead of the clock than [`StoreOptions::future_max`] allows. Also what seconds or
    /// nanoseconds taken for milliseconds look like.
    TooFarAhead,
    /// More than 128 labels, or more than 64 KiB of them.
    LabelsTooLarge,
    /// The set would have more than 4,096 columns.
    TooManyColumns,
    /// A column's name is empty or longer than 1 KiB, or a handle has it twice.
    ColumnName,
    /// The head would have more sets than [`StoreOptions::sets_max`].
    TooManySets,
    /// Rows of the set came in a falling order of time too often since the last flush: 256 times.
    OutOfOrder,
}

impl Rejected {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::TooOld,
        Self::TooFarAhead,
        Self::LabelsTooLarge,
        Self::TooManyColumns,
        Self::ColumnName,
        Self::TooManySets,
        Self::OutOfOrder,
    ];

    /// A word for metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooOld => "too_old",
            Self::TooFarAhead => "too_far_ahead",
            Self::LabelsTooLarge => "labels_too_large",
            Self::TooManyColumns => "too_many_columns",
            Self::ColumnName => "column_name",
            Self::TooManySets => "too_many_sets",
            Self::OutOfOrder => "out_of_order",
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Samples refused, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RejectedCounts([u64; Rejected::ALL.len()]);

impl RejectedCounts {
    /// Samples refused for that reason.
    pub fn get(&self, reason: Rejected) -> u64 {
        self.0[reason as usize]
    }

    /// Samples refused for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Rejected, u64)> + '_ {
        Rejected::ALL.into_iter().map(|reason| (reason, self.get(reason)))
    }

    pub(crate) fn add(&mut self, reason: Rejected, samples: u64) {
        self.0[reason as usize] += samples;
    }

    pub(crate) fn add_all(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            *own += other;
        }
    }
}
