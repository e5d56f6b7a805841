//! [`Sources`]: the columns of the store that a selector stands for.

use std::sync::Arc;

use heapster_core::labels::key as label_key;
use heapster_core::series::is_time_column;
use heapster_core::storage::{Columns, SelectedSet, Selector};
use heapster_core::{Labels, Matcher, MetricKind, Text, TimeRange, Timestamp};

use super::super::key::{Key, NAME};
use super::super::plan::Select;
use super::super::vocabulary::{View, is_underscored};
use super::Evaluator;
use crate::error::QueryError;

/// One series of the store.
pub(super) struct Source {
    pub set: Arc<dyn SelectedSet>,
    pub column: usize,
    /// The name it has in the answer.
    pub name: Text,
    /// What another vocabulary makes of it.
    pub view: Option<Arc<View>>,
}

impl Source {
    /// Its labels, made when asked for. None of them is empty or only there for the store.
    pub fn key(&self) -> Key {
        let stored = self.set.labels();
        let labels = match &self.view {
            Some(view) => view.labels(stored),
            None if self.is_seen_whole() => stored.clone(),
            None => seen(stored),
        };
        Key { name: Some(self.name.clone()), labels }
    }

    /// Of its labels, those of a list.
    pub fn key_of(&self, list: &[Text]) -> Key {
        if self.view.is_some() || list.iter().any(|label| *label == NAME) {
            return self.key().only(list);
        }
        let value = |label: &Text| Some((label.clone(), self.set.label(label)?));
        let labels = list.iter().filter_map(value);
        Key { name: None, labels: labels.filter(|(name, value)| is_seen(name, value)).collect() }
    }

    /// Whether users see all that tells its set apart from others.
    pub fn is_seen_whole(&self) -> bool {
        let labels = self.set.labels();
        self.view.is_none() && labels.iter().all(|label| is_seen(&label.name, &label.value))
    }

    pub fn is_counter(&self) -> bool {
        let kind = self.set.columns()[self.column].kind;
        kind == MetricKind::Cumulative || is_counter_name(&self.name)
    }
}

/// Whether a name says that its metric only rises.
pub(super) fn is_counter_name(name: &str) -> bool {
    ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix))
}

/// Whether users see a stored label: an empty one is absent, and one names others.
fn is_seen(name: &str, value: &str) -> bool {
    !value.is_empty() && name != label_key::LABELED
}

fn seen(stored: &Labels) -> Labels {
    let labels = stored.iter().filter(|label| is_seen(&label.name, &label.value));
    labels.map(|label| (label.name.clone(), label.value.clone())).collect()
}

/// The series of a selector, ordered by labels, then by name.
pub(super) struct Sources {
    pub list: Vec<Source>,
    /// Whether all have the same name.
    pub one_name: bool,
}

/// Finds the series with samples from `first_ms` to `last_ms`, both included.
pub(super) fn find(
    evaluator: &Evaluator<'_>,
    select: &Select,
    first_ms: i64,
    last_ms: i64,
) -> Result<Sources, QueryError> {
    let range = TimeRange::new(Timestamp::from_millis(first_ms), Timestamp::from_millis(last_ms));
    let mut finder = Finder { evaluator, select, range, list: Vec::new() };
    match &select.name {
        Some(name) if select.names.iter().all(|matcher| matcher.matches(name)) => {
            finder.named(name)?;
        }
        Some(_) => {}
        None => finder.by_matchers()?,
    }
    let Finder { list, .. } = finder;
    evaluator.meter.check()?;
    Ok(Sources { list, one_name: select.name.is_some() })
}

struct Finder<'a> {
    evaluator: &'a Evaluator<'a>,
    select: &'a Select,
    range: TimeRange,
    list: Vec<Source>,
}

impl Finder<'_> {
    fn sets(
        &self,
        matchers: Vec<Matcher>,
        columns: Columns,
    ) -> Result<Vec<Arc<dyn SelectedSet>>, QueryError> {
        let selector = Selector { matchers, columns, range: self.range };
        Ok(self.evaluator.snapshot.select(&selector)?)
    }

    /// A column of that name; otherwise what the vocabulary knows under it; otherwise columns whose
    /// names are written that way when only letters, digits and `_` are allowed.
    fn named(&mut self, name: &Text) -> Result<(), QueryError> {
        if self.add_column(name, name)? || self.add_views(name)? {
            return Ok(());
        }
        if !name.contains('_') {
            return Ok(());
        }
        let columns = Columns::All;
        let matchers = self.select.matchers.clone();
        let all = Selector { matchers, columns, range: self.range };
        let names = self.evaluator.snapshot.column_names(&all)?;
        for column in names.iter().filter(|column| is_underscored(column, name)) {
            self.add_column(column, name)?;
        }
        Ok(())
    }

    fn add_column(&mut self, column: &Text, name: &Text) -> Result<bool, QueryError> {
        let found = self.sets(self.select.matchers.clone(), Columns::Named(column.clone()))?;
        let is_found = !found.is_empty();
        self.list.extend(found.into_iter().map(|set| Source {
            set,
            column: 0,
            name: name.clone(),
            view: None,
        }));
        Ok(is_found)
    }

    fn add_views(&mut self, name: &Text) -> Result<bool, QueryError> {
        let mut is_found = false;
        for view in self.evaluator.vocabulary.views(name) {
            let Some(matchers) = view.matchers(&self.select.matchers) else { continue };
            let found = self.sets(matchers, Columns::Named(view.column().clone()))?;
            is_found |= !found.is_empty();
            let wanted = |set: &Arc<dyn SelectedSet>| {
                let labels = view.labels(set.labels());
                let mut own = self.select.matchers.iter();
                own.all(|matcher| matcher.matches(labels.value(matcher.name())))
            };
            let found: Vec<_> = found.into_iter().filter(wanted).collect();
            self.list.extend(found.into_iter().map(|set| Source {
                set,
                column: 0,
                name: name.clone(),
                view: Some(Arc::clone(&view)),
            }));
        }
        Ok(is_found)
    }

    fn by_matchers(&mut self) -> Result<(), QueryError> {
        let (columns, others) = match self.select.names.split_first() {
            Some((first, others)) => (Columns::Matching(first.clone()), others),
            None => (Columns::All, &[][..]),
        };
        for set in self.sets(self.select.matchers.clone(), columns)? {
            for (index, column) in set.columns().iter().enumerate() {
                let is_wanted = others.iter().all(|matcher| matcher.matches(&column.name));
                if is_wanted && !is_time_column(&column.name) {
                    let (set, name) = (Arc::clone(&set), column.name.clone());
                    self.list.push(Source { set, column: index, name, view: None });
                }
            }
        }
        Ok(())
    }
}
