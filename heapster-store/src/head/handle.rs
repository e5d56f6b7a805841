//! [`SetHandle`]: labels and columns that were resolved once, for appends that only bring values.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use heapster_core::{Labels, MetricKind, MetricValue, Text, Value};

use super::Layout;

/// A set of a store with the columns that rows are appended to, in an order of the caller's:
/// [`crate::Store::register`] gives it, [`crate::Store::append_dense`] takes it.
///
/// It shares the labels it was registered with. It is good as long as its store is open, whatever
/// is flushed or deleted meanwhile; clones are the same handle.
#[derive(Clone, Debug)]
pub struct SetHandle(Arc<Registered>);

#[derive(Debug)]
struct Registered {
    /// [`Columns::store`] of the store.
    store: u64,
    labels: Labels,
    columns: Arc<ColumnList>,
    /// Era of the encoder and number of the set in it; read and written by the one who holds the
    /// writer.
    place: AtomicU64,
}

/// Columns of handles, in the caller's order.
#[derive(Debug)]
pub(crate) struct ColumnList {
    id: u64,
    columns: Box<[(Text, MetricKind)]>,
}

/// The column lists of the handles of a store: each list once.
#[derive(Debug)]
pub(crate) struct ColumnLists {
    /// Tells the handles of different stores apart.
    store: u64,
    next_id: u64,
    lists: HashMap<Box<[(Text, MetricKind)]>, Arc<ColumnList>>,
    /// Lists of dropped handles are forgotten when there are so many.
    sweep_at: usize,
}

/// Every store of the process has its own number.
static STORES: AtomicU64 = AtomicU64::new(1);
/// Column lists before the first look for those that nobody uses.
const SWEEP_MIN: usize = 1024;
/// No place yet. The greatest number is never a set's.
const NO_PLACE: u64 = u64::MAX;

impl SetHandle {
    /// The labels of the set.
    pub fn labels(&self) -> &Labels {
        &self.0.labels
    }

    /// Number of columns: so many values has a row.
    pub fn width(&self) -> usize {
        self.0.columns.columns.len()
    }

    pub(crate) fn new(
        labels: Labels,
        lists: &mut ColumnLists,
        columns: &[(Text, MetricKind)],
    ) -> Self {
        let place = AtomicU64::new(NO_PLACE);
        Self(Arc::new(Registered {
            store: lists.store,
            labels,
            columns: lists.list(columns),
            place,
        }))
    }

    pub(crate) fn belongs_to(&self, store: u64) -> bool {
        self.0.store == store
    }

    pub(super) fn columns(&self) -> &ColumnList {
        &self.0.columns
    }

    /// The number of the set in an era, if it was looked up there.
    pub(super) fn place(&self, era: u32) -> Option<u32> {
        let place = self.0.place.load(Ordering::Relaxed);
        (place != NO_PLACE && (place >> 32) as u32 == era).then_some(place as u32)
    }

    pub(super) fn set_place(&self, era: u32, set: u32) {
        self.0.place.store(u64::from(era) << 32 | u64::from(set), Ordering::Relaxed);
    }

    /// The values with the names of their columns, without those that are missing.
    pub(crate) fn cells<'a>(
        &'a self,
        values: &[Option<Value>],
        into: &mut Vec<(&'a Text, MetricValue)>,
    ) {
        into.clear();
        let cells = self.0.columns.columns.iter().zip(values);
        let given = cells.filter_map(|((name, kind), value)| Some((name, *kind, (*value)?)));
        into.extend(given.map(|(name, kind, value)| (name, MetricValue { value, kind })));
    }
}

impl ColumnList {
    /// Tells the lists of a store apart.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where the columns are in a layout; `nowhere` for those that it has not, or as another kind.
    pub fn positions_in(&self, layout: &Layout, nowhere: u16) -> Arc<[u16]> {
        let position = |(name, kind): &(Text, MetricKind)| {
            let position = layout.position(name)?;
            (layout.columns[position].kind == *kind).then_some(position as u16)
        };
        self.columns.iter().map(|column| position(column).unwrap_or(nowhere)).collect()
    }
}

impl ColumnLists {
    /// For the handles of a store that is being opened.
    pub fn new() -> Self {
        let store = STORES.fetch_add(1, Ordering::Relaxed);
        Self { store, next_id: 0, lists: HashMap::new(), sweep_at: SWEEP_MIN }
    }

    /// The number of the store.
    pub fn store(&self) -> u64 {
        self.store
    }

    fn list(&mut self, columns: &[(Text, MetricKind)]) -> Arc<ColumnList> {
        if let Some(known) = self.lists.get(columns) {
            return Arc::clone(known);
        }
        if self.lists.len() >= self.sweep_at {
            self.lists.retain(|_, list| Arc::strong_count(list) > 1);
            self.sweep_at = SWEEP_MIN.max(2 * self.lists.len());
        }
        let list = Arc::new(ColumnList { id: self.next_id, columns: columns.into() });
        self.next_id += 1;
        self.lists.insert(columns.into(), Arc::clone(&list));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_of_columns_are_one_and_those_of_dropped_handles_go() {
        let mut lists = ColumnLists::new();
        let gauge = |name: String| [(Text::from(name), MetricKind::Gauge)];
        let kept = SetHandle::new(Labels::new(), &mut lists, &gauge("kept".into()));
        let same = SetHandle::new(Labels::new(), &mut lists, &gauge("kept".into()));
        assert_eq!(kept.columns().id(), same.columns().id());
        for number in 0..10_000 {
            let dropped = SetHandle::new(Labels::new(), &mut lists, &gauge(number.to_string()));
            assert_ne!(dropped.columns().id(), kept.columns().id());
        }
        assert!(lists.lists.len() <= SWEEP_MIN, "{}", lists.lists.len());
        assert!(lists.lists.contains_key(&gauge("kept".into())[..]));
    }
}
