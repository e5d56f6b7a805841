//! Which series, labels and values there are: what interfaces offer for completion.

use std::collections::BTreeSet;

use heapster_core::labels::key as label_key;
use heapster_core::series::is_time_column;
use heapster_core::storage::{Columns, Selector, Snapshot};
use heapster_core::{Labels, Matcher, Text, TimeRange};

use super::annotations::Annotations;
use super::engine::Engine;
use super::eval::{Evaluator, labels_of};
use super::key::NAME;
use super::meter::{Control, Meter};
use super::plan::Select;
use crate::error::QueryError;

impl Engine {
    /// The series that any of the selectors finds in a range, both ends included; sorted, each once.
    ///
    /// A selector is what [`super::parse_selector`] gives.
    ///
    /// # Errors
    /// [`QueryError::TooMuchMemory`] when there are too many; [`QueryError::Storage`].
    pub fn series(
        &self,
        snapshot: &dyn Snapshot,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        control: &Control,
    ) -> Result<Vec<Labels>, QueryError> {
        let annotations = Annotations::new("");
        let meter = Meter::new(self.options().limits, control.clone());
        let evaluator = Evaluator {
            snapshot,
            vocabulary: &*self.options().vocabulary,
            meter: &meter,
            annotations: &annotations,
            threads: 1,
        };
        let mut held = meter.hold(0, 0)?;
        let mut found = BTreeSet::new();
        for selector in selectors {
            let select = Select::bare(selector.iter().cloned());
            for labels in labels_of(&evaluator, &select, range)? {
                held.grow(1, 0)?;
                found.insert(labels);
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Names of the labels of the series that any of the selectors finds, or of all series when there
    /// is none; sorted, each once, `__name__` among them.
    ///
    /// # Errors
    /// As [`Engine::series`].
    pub fn label_names(
        &self,
        snapshot: &dyn Snapshot,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        control: &Control,
    ) -> Result<Vec<Text>, QueryError> {
        if !selectors.is_empty() {
            let series = self.series(snapshot, selectors, range, control)?;
            let names: BTreeSet<Text> =
                series.iter().flatten().map(|label| label.name.clone()).collect();
            return Ok(names.into_iter().collect());
        }
        let mut names = snapshot.label_names(&all(range))?;
        names.retain(|name| *name != label_key::LABELED);
        if !names.is_empty() {
            names.push(Text::from_static(NAME));
            names.sort_unstable();
        }
        Ok(names)
    }

    /// Values of a label over the series that any of the selectors finds, or over all series when
    /// there is none; sorted, each once, none of them empty. Those of `__name__` are names of metrics
    /// as they are stored.
    ///
    /// # Errors
    /// As [`Engine::series`].
    pub fn label_values(
        &self,
        snapshot: &dyn Snapshot,
        label: &str,
        selectors: &[Vec<Matcher>],
        range: TimeRange,
        control: &Control,
    ) -> Result<Vec<Text>, QueryError> {
        if !selectors.is_empty() {
            let series = self.series(snapshot, selectors, range, control)?;
            let values: BTreeSet<Text> =
                series.iter().filter_map(|labels| labels.get(label).cloned()).collect();
            return Ok(values.into_iter().collect());
        }
        let mut values = match label {
            NAME => snapshot.column_names(&all(range))?,
            _ => snapshot.label_values(label, &all(range))?,
        };
        let is_seen = |value: &Text| label != NAME || !is_time_column(value);
        values.retain(|value| !value.is_empty() && is_seen(value));
        Ok(values)
    }
}

fn all(range: TimeRange) -> Selector {
    Selector { matchers: Vec::new(), columns: Columns::All, range }
}
