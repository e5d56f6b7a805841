//! Rows of one set in columns: what the head hands to a segment and what compaction hands on.

use std::cmp::Ordering;
use std::ops::Range;

use heapster_core::storage::Values;
use heapster_core::{Labels, MetricKind, Text, TimeRange, Timestamp};

use crate::head::push_value;

/// A run of rows of one set.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SetRows {
    /// Labels of the set.
    pub labels: Labels,
    /// Time of each row in milliseconds since the epoch; strictly rising, at least one.
    pub timestamps: Vec<i64>,
    /// The columns, sorted by name, each name once, each with at least one value.
    pub columns: Vec<ColumnRows>,
}

/// The values of one column in a run of rows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ColumnRows {
    /// Name of the metric.
    pub name: Text,
    /// How it behaves over time.
    pub kind: MetricKind,
    /// Numbers of the rows that have a value, rising; `None` when every row has one.
    pub present: Option<Vec<u32>>,
    /// One value for each row that has one.
    pub values: Values,
}

impl SetRows {
    /// How many samples there are.
    pub fn samples(&self) -> u64 {
        self.columns.iter().map(|column| column.values.len() as u64).sum()
    }

    /// Some of the rows; columns without a value in them are left out.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let columns = self.columns.iter().filter_map(|column| column.slice(&rows));
        Self {
            labels: self.labels.clone(),
            columns: columns.collect(),
            timestamps: self.timestamps.get(rows).unwrap_or_default().to_vec(),
        }
    }

    /// The rows that lie in none of the ranges; `None` when there is none.
    pub fn without(self, ranges: &[TimeRange]) -> Option<Self> {
        let is_hit =
            |at: &i64| ranges.iter().any(|range| range.contains(Timestamp::from_millis(*at)));
        if !self.timestamps.iter().any(is_hit) {
            return Some(self);
        }
        let mut kept: Option<Self> = None;
        let mut start = 0;
        for run in self.timestamps.chunk_by(|a, b| is_hit(a) == is_hit(b)) {
            let rows = start..start + run.len();
            start = rows.end;
            if run.first().is_some_and(is_hit) {
                continue;
            }
            let part = self.slice(rows);
            match &mut kept {
                Some(kept) => kept.append(part),
                None => kept = Some(part),
            }
        }
        kept.filter(|kept| !kept.columns.is_empty())
    }

    /// Appends rows of the same set that are later than all of these. Where the two disagree about
    /// the kind of a column, theirs is kept.
    pub fn append(&mut self, later: Self) {
        let (before, after) = (self.timestamps.len() as u32, later.timestamps.len() as u32);
        self.timestamps.extend(later.timestamps);
        let mut columns = Vec::with_capacity(self.columns.len().max(later.columns.len()));
        let mut own = std::mem::take(&mut self.columns).into_iter().peekable();
        let mut new = later.columns.into_iter().peekable();
        loop {
            let order = match (own.peek(), new.peek()) {
                (Some(own), Some(new)) => own.name.cmp(&new.name),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            let first = if order.is_le() { own.next() } else { None };
            let second = if order.is_ge() { new.next() } else { None };
            columns.extend(joined(first, before, second, after));
        }
        self.columns = columns;
    }

    /// Merges rows of one set: where two parts have a value of a column for the same moment, the
    /// later part in the list wins, also in what kind the column is of. `None` for no parts.
    pub fn merge(mut parts: Vec<Self>) -> Option<Self> {
        if parts.len() < 2 {
            return parts.pop();
        }
        let mut timestamps: Vec<i64> =
            parts.iter().flat_map(|part| part.timestamps.iter().copied()).collect();
        timestamps.sort_unstable();
        timestamps.dedup();
        let labels = parts.first()?.labels.clone();
        let mut columns = Vec::new();
        for (rank, part) in parts.into_iter().enumerate() {
            let rows = places(&part.timestamps, &timestamps);
            columns.extend(part.columns.into_iter().map(|mut column| {
                let placed = match &column.present {
                    None => rows.clone(),
                    Some(present) => present.iter().map(|row| rows[*row as usize]).collect(),
                };
                column.present = Some(placed);
                (rank, column)
            }));
        }
        columns.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
        let mut merged: Vec<ColumnRows> = Vec::new();
        let mut columns = columns.into_iter().map(|(_, column)| column).peekable();
        while let Some(first) = columns.next() {
            let mut same = vec![first];
            while let Some(next) = columns.next_if(|next| next.name == same[0].name) {
                same.push(next);
            }
            merged.extend(overlay(same, timestamps.len()));
        }
        Some(Self { labels, timestamps, columns: merged })
    }
}

impl ColumnRows {
    fn slice(&self, rows: &Range<usize>) -> Option<Self> {
        let (values, present) = match &self.present {
            None => (rows.clone(), None),
            Some(present) => {
                let from = present.partition_point(|row| (*row as usize) < rows.start);
                let to = present.partition_point(|row| (*row as usize) < rows.end);
                let kept = present.get(from..to)?.iter().map(|row| row - rows.start as u32);
                let kept: Vec<u32> = kept.collect();
                (from..to, (kept.len() < rows.len()).then_some(kept))
            }
        };
        let values = match &self.values {
            Values::Ints(all) => Values::Ints(all.get(values)?.to_vec()),
            Values::Floats(all) => Values::Floats(all.get(values)?.to_vec()),
            Values::Mixed(all) => Values::Mixed(all.get(values)?.to_vec()),
        };
        let (name, kind) = (self.name.clone(), self.kind);
        (!values.is_empty()).then_some(Self { name, kind, present, values })
    }

    /// Numbers of the rows with a value, of `rows` rows.
    fn present_of(&self, rows: u32) -> Vec<u32> {
        self.present.clone().unwrap_or_else(|| (0..rows).collect())
    }
}

/// A column of two stretches of rows, one after the other, of which either may not have it.
fn joined(
    first: Option<ColumnRows>,
    before: u32,
    second: Option<ColumnRows>,
    after: u32,
) -> Option<ColumnRows> {
    let shift = |row: u32| row + before;
    match (first, second) {
        (Some(mut first), Some(second)) => {
            if first.present.is_some() || second.present.is_some() {
                let mut present = first.present.take().unwrap_or_else(|| (0..before).collect());
                match &second.present {
                    Some(later) => present.extend(later.iter().copied().map(shift)),
                    None => present.extend((0..after).map(shift)),
                }
                first.present = Some(present);
            }
            extend(&mut first.values, second.values);
            Some(ColumnRows { kind: second.kind, ..first })
        }
        (Some(first), None) => {
            Some(ColumnRows { present: Some(first.present_of(before)), ..first })
        }
        (None, Some(second)) => {
            let present = second.present_of(after).into_iter().map(shift).collect();
            Some(ColumnRows { present: Some(present), ..second })
        }
        (None, None) => None,
    }
}

fn extend(values: &mut Values, more: Values) {
    match (&mut *values, more) {
        (Values::Ints(ints), Values::Ints(more)) => ints.extend(more),
        (Values::Floats(floats), Values::Floats(more)) => floats.extend(more),
        (_, more) => (0..more.len()).for_each(|index| push_value(values, more.get(index))),
    }
}

/// Where each of some moments stands in a list that has all of them; both rise.
fn places(some: &[i64], all: &[i64]) -> Vec<u32> {
    let mut place = 0;
    let place_of = |at: &i64| {
        while all[place as usize] < *at {
            place += 1;
        }
        place
    };
    some.iter().map(place_of).collect()
}

/// Lays columns of one name over each other; all of them say which rows they have.
fn overlay(mut same: Vec<ColumnRows>, rows: usize) -> Option<ColumnRows> {
    if same.len() > 1 {
        // Of each row the column that has it last, and where its value stands.
        let mut cells: Vec<Option<(u32, u32)>> = vec![None; rows];
        for (rank, column) in (0..).zip(&same) {
            for (index, row) in (0..).zip(column.present.iter().flatten()) {
                cells[*row as usize] = Some((rank, index));
            }
        }
        let mut values = Values::default();
        let mut present = Vec::new();
        for (row, cell) in (0..).zip(cells) {
            let Some((rank, index)) = cell else { continue };
            present.push(row);
            push_value(&mut values, same[rank as usize].values.get(index as usize));
        }
        let last = same.pop()?;
        same = vec![ColumnRows { present: Some(present), values, ..last }];
    }
    let mut column = same.pop()?;
    column.present = column.present.filter(|present| present.len() < rows);
    Some(column)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use heapster_core::Value;
    use proptest::prelude::*;

    use super::*;

    /// Cells by column and time: what rows stand for.
    type Cells = BTreeMap<(String, i64), Value>;

    fn a_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            4 => (0_i64..5).prop_map(Value::Int),
            1 => (0_i64..5).prop_map(|v| Value::Float(v as f64)),
        ]
    }

    fn some_cells() -> impl Strategy<Value = Cells> {
        let cell = (((0_u8..4).prop_map(|c| format!("c{c}")), 0_i64..30), a_value());
        prop::collection::vec(cell, 1..60).prop_map(|cells| cells.into_iter().collect())
    }

    fn rows_of(cells: &Cells) -> SetRows {
        let mut timestamps: Vec<i64> = cells.keys().map(|(_, at)| *at).collect();
        timestamps.sort_unstable();
        timestamps.dedup();
        let mut columns: BTreeMap<&str, (Vec<u32>, Values)> = BTreeMap::new();
        for ((name, at), value) in cells {
            let (present, values) = columns.entry(name).or_default();
            present.push(timestamps.binary_search(at).unwrap() as u32);
            push_value(values, *value);
        }
        let columns = columns.into_iter().map(|(name, (present, values))| ColumnRows {
            name: name.to_owned().into(),
            kind: MetricKind::Gauge,
            present: (present.len() < timestamps.len()).then_some(present),
            values,
        });
        let columns = columns.collect();
        SetRows { labels: Labels::new(), timestamps, columns }
    }

    fn cells_of(rows: &SetRows) -> Cells {
        let mut cells = Cells::new();
        for column in &rows.columns {
            let present = column.present_of(rows.timestamps.len() as u32);
            assert_eq!(present.len(), column.values.len());
            assert!(!present.is_empty() && present.is_sorted_by(|a, b| a < b));
            for (index, row) in present.iter().enumerate() {
                let key = (column.name.to_string(), rows.timestamps[*row as usize]);
                assert!(cells.insert(key, column.values.get(index)).is_none());
            }
        }
        assert!(rows.columns.is_sorted_by(|a, b| a.name < b.name));
        assert_eq!(rows.samples(), cells.len() as u64);
        cells
    }

    fn range(start: i64, end: i64) -> TimeRange {
        TimeRange::new(Timestamp::from_millis(start), Timestamp::from_millis(end))
    }

    proptest! {
        #[test]
        fn of_merged_parts_the_later_one_wins_cell_by_cell(
            parts in prop::collection::vec(some_cells(), 1..5),
        ) {
            let mut expected = Cells::new();
            parts.iter().for_each(|cells| expected.extend(cells.clone()));
            let merged = SetRows::merge(parts.iter().map(rows_of).collect()).unwrap();
            prop_assert_eq!(cells_of(&merged), expected.clone());
            prop_assert_eq!(merged, rows_of(&expected));
        }

        #[test]
        fn rows_that_are_cut_and_joined_again_are_the_same(cells in some_cells(), at in 0_usize..30) {
            let rows = rows_of(&cells);
            let at = at.min(rows.timestamps.len());
            let (mut first, second) = (rows.slice(0..at), rows.slice(at..rows.timestamps.len()));
            first.append(second);
            prop_assert_eq!(cells_of(&first), cells);
        }

        #[test]
        fn only_rows_outside_of_all_ranges_are_left(
            cells in some_cells(), a in 0_i64..30, b in 0_i64..30, len in 0_i64..9,
        ) {
            let ranges = [range(a, a + len), range(b, b + len)];
            let mut expected = cells.clone();
            expected.retain(|(_, at), _| !ranges.iter().any(|r| r.contains(Timestamp::from_millis(*at))));
            let left = rows_of(&cells).without(&ranges);
            prop_assert_eq!(left.map_or(Cells::new(), |left| cells_of(&left)), expected);
        }
    }

    #[test]
    fn a_merged_column_is_of_the_kind_that_the_last_part_says() {
        let mut parts = [1, 2].map(|at| rows_of(&Cells::from([(("c".into(), at), Value::Int(1))])));
        parts[0].columns[0].kind = MetricKind::Cumulative;
        let kind = |parts| SetRows::merge(parts).unwrap().columns[0].kind;
        assert_eq!(kind(parts.to_vec()), MetricKind::Gauge);
        parts.reverse();
        assert_eq!(kind(parts.to_vec()), MetricKind::Cumulative);
    }
}
