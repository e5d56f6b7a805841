//! [`Tombstone`]: a deletion that was recorded and that compaction has yet to work in.

use heapster_core::{Matcher, TimeRange};

/// Hides samples of older segments until compaction has left them out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tombstone {
    /// Only segments with a lower number have rows that it hides; later ones were written after it.
    pub segments_below: u64,
    /// The sets it is about: those that satisfy all of these.
    pub matchers: Vec<Matcher>,
    /// The range of time it is about, both ends included.
    pub range: TimeRange,
}
