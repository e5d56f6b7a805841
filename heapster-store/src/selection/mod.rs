//! What a selector found: sets whose parts lie in heads and segments, and reading them.
//!
//! Sources are ranked: segments by their number, then heads by their generation. Where two have a
//! cell for the same moment, the later source wins, and within a head the later batch.
//!
//! A selection may have a million sets and be asked for one sample of each. So a set is little more
//! than a place in lists that all share, and whatever is not asked for is not made: labels, decoded
//! clocks, summaries.

mod columns;
mod cursor;
mod merge;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use heapster_core::storage::{
    Column, ColumnCursor, Run, Samples, SelectedSet, Selector, StorageError, Values,
};
use heapster_core::{Labels, Text, TimeRange, Timestamp, Value};
use parking_lot::Mutex;

use crate::error::{Error, Result};
use crate::head::FoundHeadSet;
use crate::quarantine::Losses;
use crate::segment::{ClockCache, Found, GroupColumn, Hidden, RowGroup, Segment};
use crate::snapshot::View;
use columns::ColumnLists;
use cursor::{Cursor, next_run};

/// Finds the sets of a view as of batch `seq`, ordered by labels. What of them cannot be read later is
/// left out and noted with the losses.
pub(crate) fn select(
    view: &View,
    seq: u64,
    selector: &Selector,
    losses: &Arc<Losses>,
) -> Result<Vec<Arc<dyn SelectedSet>>> {
    let mut builder = Builder::new(selector);
    let mut sources = Vec::new();
    for segment in view.segments.iter().filter(|one| one.range().overlaps(&selector.range)) {
        let hidden = view.hidden_of(segment, &selector.range)?;
        let found = segment.find(selector, &hidden)?;
        if !found.sets.is_empty() {
            let sets = SourceSets::Segment { segment: Arc::clone(segment), found };
            sources.push(Source { sets, hidden });
        }
    }
    for head in &view.heads {
        let mut sets = head.select(selector, seq);
        sets.retain(|found| builder.columns_of_head(found).is_some());
        if !sets.is_empty() {
            sources.push(Source { sets: SourceSets::Head(sets), hidden: Vec::new() });
        }
    }
    if let [source] = sources.as_slice() {
        (0..source.sets.len()).for_each(|at| builder.add(&sources, &[(0, at)]));
    } else {
        merge::merge(&sources, |places| builder.add(&sources, places))?;
    }
    Ok(builder.finish(sources, selector.range, seq, losses))
}

/// Where sets come from.
struct Source {
    sets: SourceSets,
    /// What is deleted of it.
    hidden: Vec<Hidden>,
}

/// The sets that were found in a source, in the order of labels.
enum SourceSets {
    Segment { segment: Arc<Segment>, found: Found },
    Head(Vec<FoundHeadSet>),
}

impl SourceSets {
    fn len(&self) -> usize {
        match self {
            Self::Segment { found, .. } => found.sets.len(),
            Self::Head(sets) => sets.len(),
        }
    }
}

/// What the sets of a selection share.
struct Selection {
    range: TimeRange,
    seq: u64,
    /// By rank. What was found in them is in `parts` by now.
    sources: Vec<Place>,
    layouts: Vec<GroupLayout>,
    /// Set by set; those of a set in the order of their first time, then of their rank.
    parts: Vec<Part>,
    clocks: ClockCache,
    losses: Arc<Losses>,
}

/// A source that is read from.
enum Place {
    Segment { segment: Arc<Segment>, hidden: Vec<Hidden> },
    Head,
}

/// Rows of a set in one source.
#[derive(Debug)]
struct Part {
    /// Rank of the source.
    source: u32,
    rows: Rows,
}

#[derive(Debug)]
enum Rows {
    /// A row group, and the number of its [`GroupLayout`].
    Group(RowGroup, u32),
    Head(FoundHeadSet),
}

/// Where the columns of a set are in a row group.
#[derive(Debug)]
struct GroupLayout {
    /// How many columns the row group has.
    width: usize,
    /// For each column of the set its position, or [`ABSENT`].
    positions: Box<[u32]>,
}

const ABSENT: u32 = u32::MAX;

impl Part {
    /// At or before its first row.
    fn first(&self) -> i64 {
        match &self.rows {
            Rows::Group(group, _) => group.first,
            Rows::Head(found) => found.first,
        }
    }

    /// At or after its last row.
    fn last(&self) -> i64 {
        match &self.rows {
            Rows::Group(group, _) => group.last,
            Rows::Head(found) => found.last,
        }
    }
}

/// A set of a selection.
struct Selected {
    selection: Arc<Selection>,
    /// Its parts in [`Selection::parts`].
    parts: Range<usize>,
    columns: Arc<[Column]>,
    labels: OnceLock<Labels>,
    /// Columns of heads that were decoded together with the one that was asked for, by rank of the
    /// source: a row of a head has all columns in one piece. Each is given out once.
    decoded: Mutex<Vec<(u32, Vec<Option<Samples>>)>>,
}

impl SelectedSet for Selected {
    fn labels(&self) -> &Labels {
        self.labels.get_or_init(|| {
            // Labels of a head are there already, and heads are likely to be the last part.
            match self.parts().last().map(|part| (&part.rows, part.source)) {
                Some((Rows::Head(found), _)) => found.set.labels(),
                // The strings were checked when the segment was opened and the set when it was
                // found, so nothing is left that could fail.
                Some((Rows::Group(group, _), source)) => {
                    let segment = self.selection.segment(source);
                    segment.and_then(|segment| segment.labels(group.set).ok()).unwrap_or_default()
                }
                None => Labels::new(),
            }
        })
    }

    fn label(&self, name: &str) -> Option<Text> {
        match self.parts().last().map(|part| (&part.rows, part.source)) {
            Some((Rows::Group(group, _), source)) if self.labels.get().is_none() => {
                self.selection.segment(source)?.label(group.set, name).ok()?
            }
            _ => self.labels().get(name).cloned(),
        }
    }

    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn read(&self, column: usize) -> Box<dyn ColumnCursor + '_> {
        assert!(column < self.columns.len(), "the set has no column {column}");
        Box::new(Cursor::new(self, column))
    }

    fn last(&self, column: usize) -> Result<Option<(Timestamp, Value)>, StorageError> {
        assert!(column < self.columns.len(), "the set has no column {column}");
        let mut samples = Samples::default();
        if let [part] = self.parts() {
            return match self.has(part, column) {
                true => Ok(self.last_of(part, column, &mut samples)),
                false => Ok(None),
            };
        }
        let mut runs = Vec::new();
        let mut from = 0;
        while let Some((parts, is_alone)) = next_run(self, column, from) {
            from = parts.end;
            runs.push((parts, is_alone));
        }
        for (parts, is_alone) in runs.into_iter().rev() {
            let part = &self.parts()[parts.start];
            let last = match is_alone {
                true => self.last_of(part, column, &mut samples),
                false => {
                    Cursor::at(self, column, parts).decode(&mut samples)?;
                    samples.iter().next_back()
                }
            };
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }
}

impl Selected {
    fn parts(&self) -> &[Part] {
        &self.selection.parts[self.parts.clone()]
    }

    /// Whether a part has a column.
    fn has(&self, part: &Part, column: usize) -> bool {
        match &part.rows {
            Rows::Group(_, layout) => {
                self.selection.layouts[*layout as usize].positions[column] != ABSENT
            }
            Rows::Head(found) => found.layout.position(&self.columns[column].name).is_some(),
        }
    }

    /// The column of a part that lies in a segment; none when samples of it are deleted.
    fn group_column<'a>(
        &'a self,
        part: &'a Part,
        column: usize,
    ) -> Option<(GroupColumn<'a>, &'a [Hidden])> {
        let Rows::Group(group, layout) = &part.rows else { return None };
        let Place::Segment { segment, hidden } = &self.selection.sources[part.source as usize]
        else {
            return None;
        };
        let layout = &self.selection.layouts[*layout as usize];
        let (columns, column) = (layout.width, layout.positions[column] as usize);
        Some((GroupColumn { segment, group, columns, column }, hidden))
    }

    /// The bounds of a part within the range.
    fn bounds(&self, part: &Part) -> Run {
        let first = Timestamp::from_millis(part.first()).max(self.selection.range.start);
        let last = Timestamp::from_millis(part.last()).min(self.selection.range.end);
        Run { first, last, summary: None }
    }

    /// The run that a part is by itself.
    fn run(&self, part: &Part, column: usize) -> Run {
        match self.group_column(part, column) {
            Some((column, hidden)) if !hidden.iter().any(|one| one.touches(column.group)) => {
                let Selection { range, clocks, .. } = &*self.selection;
                let run = column.run(range, clocks);
                self.unless_lost(&column, run).unwrap_or_else(|| self.bounds(part))
            }
            _ => self.bounds(part),
        }
    }

    /// What was read of a row group; `None`, and a note, when it could not be read.
    fn unless_lost<T>(&self, column: &GroupColumn<'_>, read: Result<T, Error>) -> Option<T> {
        read.inspect_err(|error| self.selection.losses.note(column.segment, column.group, error))
            .ok()
    }

    /// How many samples a part has, if that is known without decoding.
    fn count(&self, part: &Part, column: usize) -> Option<u64> {
        match self.group_column(part, column) {
            Some((column, hidden)) if !hidden.iter().any(|one| one.touches(column.group)) => {
                let Selection { range, clocks, .. } = &*self.selection;
                let count = column.count(range, clocks);
                Some(self.unless_lost(&column, count).unwrap_or(0))
            }
            _ => None,
        }
    }

    fn decode(&self, part: &Part, column: usize, into: &mut Samples) {
        let Selection { range, clocks, .. } = &*self.selection;
        if let Some((column, hidden)) = self.group_column(part, column) {
            let decoded = column.decode(range, clocks, into);
            if self.unless_lost(&column, decoded).is_none() {
                *into = Samples::default();
                return;
            }
            for one in hidden.iter().filter(|one| one.touches(column.group)) {
                remove(into, &one.range);
            }
        } else if let Rows::Head(found) = &part.rows {
            *into = self.decode_head(part.source, found, column);
        }
    }

    fn decode_head(&self, source: u32, found: &FoundHeadSet, column: usize) -> Samples {
        let read = |columns| found.set.read(columns, self.selection.range, self.selection.seq);
        if let [only] = &*self.columns {
            return read(std::slice::from_ref(only)).pop().unwrap_or_default();
        }
        let mut decoded = self.decoded.lock();
        let place = decoded.iter().position(|(other, _)| *other == source);
        let place = place.unwrap_or_else(|| {
            decoded.push((source, Vec::new()));
            decoded.len() - 1
        });
        let (_, samples) = &mut decoded[place];
        if let Some(samples) = samples.get_mut(column).and_then(Option::take) {
            return samples;
        }
        *samples = read(&self.columns).into_iter().map(Some).collect();
        samples[column].take().unwrap_or_default()
    }

    /// The newest sample of a part.
    fn last_of(
        &self,
        part: &Part,
        column: usize,
        samples: &mut Samples,
    ) -> Option<(Timestamp, Value)> {
        match self.group_column(part, column) {
            Some((column, hidden)) if !hidden.iter().any(|one| one.touches(column.group)) => {
                let Selection { range, clocks, .. } = &*self.selection;
                let last = column.last(range, clocks, &mut samples.values);
                self.unless_lost(&column, last).flatten()
            }
            _ => {
                self.decode(part, column, samples);
                samples.iter().next_back()
            }
        }
    }
}

impl Selection {
    fn segment(&self, source: u32) -> Option<&Segment> {
        match &self.sources[source as usize] {
            Place::Segment { segment, .. } => Some(segment),
            Place::Head => None,
        }
    }
}

/// Takes the samples of a range out.
fn remove(samples: &mut Samples, range: &TimeRange) {
    let from = samples.timestamps.partition_point(|at| *at < range.start);
    let to = samples.timestamps.partition_point(|at| *at <= range.end).max(from);
    samples.timestamps.make_mut().drain(from..to);
    match &mut samples.values {
        Values::Ints(values) => drop(values.drain(from..to)),
        Values::Floats(values) => drop(values.drain(from..to)),
        Values::Mixed(values) => drop(values.drain(from..to)),
    }
}

/// Puts a selection together.
struct Builder<'a> {
    selector: &'a Selector,
    columns: ColumnLists,
    /// Numbers of the lists that were asked for, by rank of the source and number there.
    of_segments: HashMap<(usize, u32), Option<u32>>,
    /// Numbers of the lists that were asked for, by the address of the layout, which is held as
    /// long as this.
    of_heads: HashMap<usize, Option<u32>>,
    layouts: Vec<GroupLayout>,
    /// Numbers of layouts by rank of the source, number of its list and number of the set's list.
    layout_numbers: HashMap<(u32, u32, u32), u32>,
    parts: Vec<Part>,
    /// Where the parts of each set end, and the number of its list of columns.
    sets: Vec<(usize, u32)>,
}

impl<'a> Builder<'a> {
    fn new(selector: &'a Selector) -> Self {
        Self {
            selector,
            columns: ColumnLists::default(),
            of_segments: HashMap::new(),
            of_heads: HashMap::new(),
            layouts: Vec::new(),
            layout_numbers: HashMap::new(),
            parts: Vec::new(),
            sets: Vec::new(),
        }
    }

    /// The columns that are wanted of a list of a segment; `None` when none is.
    fn columns_of_segment(&mut self, source: usize, segment: &Segment, list: u32) -> Option<u32> {
        let Self { selector, columns, of_segments, .. } = self;
        *of_segments.entry((source, list)).or_insert_with(|| {
            let all = segment.columns_of_list(list).ok()?.iter();
            let wanted = all.filter(|column| selector.columns.contains(&column.name));
            let wanted: Vec<Column> = wanted.cloned().collect();
            (!wanted.is_empty()).then(|| columns.add(wanted))
        })
    }

    /// The columns that are wanted of a set of a head; `None` when none is.
    fn columns_of_head(&mut self, found: &FoundHeadSet) -> Option<u32> {
        let Self { selector, columns, of_heads, .. } = self;
        *of_heads.entry(Arc::as_ptr(&found.layout) as usize).or_insert_with(|| {
            let all = found.layout.columns.iter();
            let wanted = all.filter(|column| selector.columns.contains(&column.name));
            let mut wanted: Vec<Column> = wanted.cloned().collect();
            wanted.sort_by(|a, b| a.name.cmp(&b.name));
            (!wanted.is_empty()).then(|| columns.add(wanted))
        })
    }

    /// Adds a set: numbers of the sources that have it, rising, and its places there.
    fn add(&mut self, sources: &[Source], places: &[(usize, usize)]) {
        let start = self.parts.len();
        let mut columns: Option<u32> = None;
        for (source, at) in places {
            let mut add = |builder: &mut Self, list: Option<u32>, rows: Rows| {
                let Some(list) = list else { return };
                columns = Some(columns.map_or(list, |older| builder.columns.merge(older, list)));
                builder.parts.push(Part { source: *source as u32, rows });
            };
            match &sources[*source].sets {
                SourceSets::Segment { segment, found } => {
                    for group in found.groups_of(*at) {
                        let list = self.columns_of_segment(*source, segment, group.columns());
                        add(self, list, Rows::Group(*group, 0));
                    }
                }
                SourceSets::Head(sets) => {
                    let found = &sets[*at];
                    let list = self.columns_of_head(found);
                    add(self, list, Rows::Head(found.clone()));
                }
            }
        }
        let Some(columns) = columns else { return };
        for index in start..self.parts.len() {
            let Part { source, rows: Rows::Group(group, _) } = &self.parts[index] else { continue };
            let key = (*source, group.columns(), columns);
            let number = self.layout(sources, key);
            if let Rows::Group(_, layout) = &mut self.parts[index].rows {
                *layout = number;
            }
        }
        if places.len() > 1 {
            self.parts[start..].sort_by_key(|part| (part.first(), part.source));
        }
        self.sets.push((self.parts.len(), columns));
    }

    fn layout(&mut self, sources: &[Source], key: (u32, u32, u32)) -> u32 {
        if let Some(number) = self.layout_numbers.get(&key) {
            return *number;
        }
        let (source, list, columns) = key;
        let of_group = match &sources[source as usize].sets {
            SourceSets::Segment { segment, .. } => segment.columns_of_list(list).ok(),
            SourceSets::Head(_) => None,
        };
        let of_group = of_group.map_or(&[][..], |columns| &**columns);
        let position = |column: &Column| {
            let found = of_group.binary_search_by(|other| other.name.cmp(&column.name));
            found.map_or(ABSENT, |position| position as u32)
        };
        let positions = self.columns.get(columns).iter().map(position).collect();
        let number = self.layouts.len() as u32;
        self.layouts.push(GroupLayout { width: of_group.len(), positions });
        self.layout_numbers.insert(key, number);
        number
    }

    fn finish(
        self,
        sources: Vec<Source>,
        range: TimeRange,
        seq: u64,
        losses: &Arc<Losses>,
    ) -> Vec<Arc<dyn SelectedSet>> {
        let place = |source: Source| match source.sets {
            SourceSets::Segment { segment, .. } => {
                Place::Segment { segment, hidden: source.hidden }
            }
            SourceSets::Head(_) => Place::Head,
        };
        let selection = Arc::new(Selection {
            range,
            seq,
            sources: sources.into_iter().map(place).collect(),
            layouts: self.layouts,
            parts: self.parts,
            clocks: ClockCache::default(),
            losses: Arc::clone(losses),
        });
        let mut start = 0;
        let set = |(end, columns): (usize, u32)| -> Arc<dyn SelectedSet> {
            let parts = start..end;
            start = end;
            Arc::new(Selected {
                selection: Arc::clone(&selection),
                parts,
                columns: Arc::clone(self.columns.get(columns)),
                labels: OnceLock::new(),
                decoded: Mutex::default(),
            })
        };
        self.sets.into_iter().map(set).collect()
    }
}
