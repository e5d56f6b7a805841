//! From metric sets to what is stored and back: the mapping between Heapster's model and rows.
//!
//! A stored *set* is a label set without the metric name; a stored *column* is one metric name in
//! it. The plain metrics of a [`MetricSet`] become one row of the set with its labels. Its labelled
//! metrics become one row for each distinct label set of their own, with those labels added and
//! [`key::LABELED`] naming them. The three times of a set are stored as columns whose names begin
//! with [`TIME_COLUMN_PREFIX`], so that a restarted collector knows them; they are not metrics and
//! no listing shows them.

use crate::labels::{Labels, key};
use crate::value::{MetricKind, MetricValue};
use crate::{LabeledMetric, MetricSet, Text};

/// What the names of the columns that hold a set's times begin with.
pub const TIME_COLUMN_PREFIX: &str = "__time__/";
/// Column of [`MetricSet::collection_start_time`], nanoseconds since the epoch.
pub const COLLECTION_START_COLUMN: &str = "__time__/collection_start";
/// Column of [`MetricSet::entity_create_time`], nanoseconds since the epoch.
pub const ENTITY_CREATE_COLUMN: &str = "__time__/entity_create";
/// Column of [`MetricSet::scrape_time`], nanoseconds since the epoch.
pub const SCRAPE_COLUMN: &str = "__time__/scrape";

/// Whether a column holds one of a set's times rather than a metric.
pub fn is_time_column(name: &str) -> bool {
    name.starts_with(TIME_COLUMN_PREFIX)
}

/// One row to store: the labels of its set and the values of its columns, in no particular order.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Labels of the stored set.
    pub labels: Labels,
    /// Column name and value; each name once.
    pub cells: Vec<(Text, MetricValue)>,
}

/// One row to store, borrowed from a metric set.
#[derive(Clone, Copy, Debug)]
pub struct RowRef<'a> {
    /// Labels of the metric set.
    pub labels: &'a Labels,
    /// Labels of the metrics alone, when these are labelled ones.
    pub own: Option<&'a Labels>,
    /// Column name and value; each name once.
    pub cells: &'a [(&'a Text, MetricValue)],
}

impl RowRef<'_> {
    /// Labels of the stored set.
    pub fn stored_labels(&self) -> Labels {
        match self.own {
            None => self.labels.clone(),
            Some(own) => labeled(self.labels, own),
        }
    }

    /// A copy of the row.
    pub fn to_row(&self) -> Row {
        let cells = self.cells.iter().map(|(name, metric)| ((*name).clone(), *metric));
        Row { labels: self.stored_labels(), cells: cells.collect() }
    }
}

/// The rows a metric set is stored as: the plain one first, unless it is empty, then the others in
/// the order of their own labels.
///
/// A metric label wins over a label of the set with the same name. Of two labelled metrics with
/// the same name and labels the later one wins, as it does when they are queried.
pub fn rows_of(set: &MetricSet) -> Vec<Row> {
    let mut rows = Vec::new();
    let visited = visit_rows([set], |row| {
        rows.push(row.to_row());
        Ok::<_, std::convert::Infallible>(())
    });
    match visited {
        Ok(()) => rows,
    }
}

/// Shows the rows of [`rows_of`] of set after set, without copying names, labels or values.
///
/// # Errors
/// The first one that `visit` returns; it sees no row after that.
pub fn visit_rows<'a, E>(
    sets: impl IntoIterator<Item = &'a MetricSet>,
    mut visit: impl FnMut(RowRef<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut cells: Vec<(&Text, MetricValue)> = Vec::new();
    let mut runs: Vec<&[LabeledMetric]> = Vec::new();
    for set in sets {
        let labels = &set.labels;
        cells.clear();
        plain_cells(set, &mut cells);
        if !cells.is_empty() {
            visit(RowRef { labels, own: None, cells: &cells })?;
        }
        // The metrics of one resource stand together as a rule, so few runs are left to be sorted.
        let same = |a: &LabeledMetric, b: &LabeledMetric| a.labels == b.labels;
        runs.clear();
        runs.extend(set.labeled_metrics.chunk_by(same));
        runs.sort_by(|a, b| a[0].labels.cmp(&b[0].labels));
        for runs in runs.chunk_by(|a, b| same(&a[0], &b[0])) {
            cells.clear();
            for metric in runs.iter().copied().flatten() {
                match cells.iter_mut().find(|(name, _)| **name == metric.name) {
                    Some(cell) => cell.1 = metric.metric,
                    None => cells.push((&metric.name, metric.metric)),
                }
            }
            visit(RowRef { labels, own: Some(&runs[0][0].labels), cells: &cells })?;
        }
    }
    Ok(())
}

static COLLECTION_START: Text = Text::from_static(COLLECTION_START_COLUMN);
static ENTITY_CREATE: Text = Text::from_static(ENTITY_CREATE_COLUMN);
static SCRAPE: Text = Text::from_static(SCRAPE_COLUMN);

fn plain_cells<'a>(set: &'a MetricSet, cells: &mut Vec<(&'a Text, MetricValue)>) {
    cells.extend(set.metrics.iter());
    for (name, time) in [
        (&COLLECTION_START, set.collection_start_time),
        (&ENTITY_CREATE, set.entity_create_time),
        (&SCRAPE, set.scrape_time),
    ] {
        if let Some(time) = time {
            cells.push((name, MetricValue::gauge(time.as_nanos())));
        }
    }
}

/// The labels under which a labelled metric is stored.
pub fn labeled(set: &Labels, own: &Labels) -> Labels {
    let mut own_and_mark = own.clone();
    own_and_mark.set_static(key::LABELED, own_names(own));
    set.union(&own_and_mark)
}

/// The value of [`key::LABELED`] for a metric with these labels of its own.
pub fn own_names(own: &Labels) -> Text {
    let mut labels = own.iter();
    match (labels.next(), labels.next()) {
        (None, _) => Text::default(),
        (Some(only), None) => only.name.clone(),
        (Some(_), Some(_)) => {
            let names: Vec<&str> = own.iter().map(|label| label.name.as_str()).collect();
            names.join(",").into()
        }
    }
}

/// Splits the labels of a stored set into those of the metric set and those of the metric alone.
///
/// The inverse of [`labeled`], except that a set label which a metric label of the same name hid is
/// not known any more. Plain sets have no labels of the second kind.
pub fn split_labels(stored: &Labels) -> (Labels, Labels) {
    let Some(names) = stored.get(key::LABELED) else { return (stored.clone(), Labels::new()) };
    let mut set = stored.clone();
    set.remove(key::LABELED);
    let mut own = Labels::new();
    for name in names.split(',') {
        if let Some(value) = set.remove(name) {
            own.set(name, value);
        }
    }
    (set, own)
}

/// The kind a column without a known kind is taken for.
pub const UNKNOWN_KIND: MetricKind = MetricKind::Gauge;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EntityType, NanoTime};

    fn pod() -> MetricSet {
        let mut set = MetricSet::new(EntityType::Pod);
        set.labels.set("pod_name", "web-1");
        set.metrics.set("memory/usage", MetricValue::gauge(7));
        set.scrape_time = Some(NanoTime::from_nanos(5));
        for (resource, used) in [("Volume:a", 1), ("Volume:b", 2)] {
            let own = Labels::from_iter([("resource_id", resource)]);
            set.push_labeled("filesystem/usage", &own, used);
            set.push_labeled("filesystem/limit", &own, 10);
        }
        set
    }

    #[test]
    fn plain_metrics_are_one_row_and_each_own_label_set_another() {
        let rows = rows_of(&pod());
        assert_eq!(rows.len(), 3);
        let names = |row: &Row| row.cells.iter().map(|c| c.0.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&rows[0]), ["memory/usage", SCRAPE_COLUMN]);
        assert_eq!(names(&rows[2]), ["filesystem/usage", "filesystem/limit"]);
        assert_eq!(rows[2].labels.value("resource_id"), "Volume:b");
        assert_eq!(rows[2].labels.value(key::LABELED), "resource_id");
    }

    #[test]
    fn stored_labels_split_into_those_of_the_set_and_of_the_metric() {
        let set = pod();
        for row in &rows_of(&set)[1..] {
            let (set_labels, own) = split_labels(&row.labels);
            assert_eq!(set_labels, set.labels);
            assert_eq!(own.len(), 1);
        }
        assert_eq!(split_labels(&set.labels), (set.labels.clone(), Labels::new()));
    }
}
