//! Which series, labels and values there are: what interfaces offer for completion.

use std::collections::BTreeSet;
use std::sync::Arc;

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
use super::vocabulary::View;
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
        let mut names: BTreeSet<Text> = snapshot.label_names(&all(range))?.into_iter().collect();
        names.remove(label_key::LABELED);
        for (_, view, behind) in self.views(range) {
            let stored = snapshot.label_names(&behind)?;
            let is_there = |one: &Text| stored.iter().any(|stored| stored == one);
            let own = view.stored_labels().filter(|(_, of)| is_there(of));
            names.extend(own.map(|(name, _)| name.clone()));
            if !stored.is_empty() {
                names.extend(view.fixed_labels().map(|(name, _)| name.clone()));
            }
        }
        if !snapshot.column_names(&all(range))?.is_empty() {
            names.insert(Text::from_static(NAME));
        }
        Ok(names.into_iter().collect())
    }

    /// Values of a label over the series that any of the selectors finds, or over all series when
    /// there is none; sorted, each once, none of them empty. Those of `__name__` are names of metrics
    /// as they are stored, and those of the vocabulary that find something.
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
        let stored = match label {
            NAME => snapshot.column_names(&all(range))?,
            label_key::LABELED => Vec::new(),
            _ => snapshot.label_values(label, &all(range))?,
        };
        let mut values: BTreeSet<Text> = stored.into_iter().collect();
        for (name, view, behind) in self.views(range) {
            let is_there = || Ok::<_, QueryError>(!snapshot.column_names(&behind)?.is_empty());
            if label == NAME {
                values.extend(is_there()?.then_some(name));
            } else if let Some((_, stored)) = view.stored_labels().find(|(own, _)| *own == label) {
                values.extend(snapshot.label_values(stored, &behind)?);
            } else if let Some((_, fixed)) = view.fixed_labels().find(|(own, _)| *own == label) {
                values.extend(is_there()?.then(|| fixed.clone()));
            }
        }
        let is_seen = |value: &Text| label != NAME || !is_time_column(value);
        values.retain(|value| !value.is_empty() && is_seen(value));
        Ok(values.into_iter().collect())
    }

    /// The names of the vocabulary, each with a view and what is stored behind it.
    fn views(&self, range: TimeRange) -> impl Iterator<Item = (Text, Arc<View>, Selector)> {
        let vocabulary = &self.options().vocabulary;
        let views = vocabulary.names().into_iter().flat_map(|name| {
            vocabulary.views(&name).into_iter().map(move |view| (name.clone(), view))
        });
        views.filter_map(move |(name, view)| {
            let (matchers, columns) = (view.matchers(&[])?, Columns::Named(view.column().clone()));
            Some((name, view, Selector { matchers, columns, range }))
        })
    }
}

fn all(range: TimeRange) -> Selector {
    Selector { matchers: Vec::new(), columns: Columns::All, range }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use heapster_core::series::Row;
    use heapster_core::storage::{MemoryStorage, Storage};
    use heapster_core::{MetricKind, MetricValue, Timestamp, Value};

    use super::*;
    use crate::promql::vocabulary::Kubernetes;
    use crate::promql::{EngineOptions, parse_selector};

    fn stored() -> Arc<dyn Snapshot> {
        let memory = MemoryStorage::new();
        let value = MetricValue { value: Value::Int(1), kind: MetricKind::Gauge };
        let row = |labels: &[(&str, &str)], column: &str| Row {
            labels: labels.iter().map(|(name, value)| (Text::from(*name), *value)).collect(),
            cells: vec![(Text::from(column), value)],
        };
        let rows = [
            row(&[("job", "a")], "up"),
            row(&[("job", "b"), ("empty", "")], "up"),
            row(
                &[("type", "pod_container"), ("pod_name", "web"), ("namespace_name", "shop")],
                "memory/usage",
            ),
            row(&[("type", "pod"), ("__labeled__", "x"), ("resource_id", "eth9")], "network/x"),
        ];
        memory.append(Timestamp::from_millis(1_000), &rows);
        memory.snapshot().unwrap()
    }

    fn engine() -> Engine {
        let vocabulary = Arc::new(Kubernetes);
        Engine::new(EngineOptions { vocabulary, ..EngineOptions::default() })
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found = engine()
            .series(
                &*stored(),
                &[parse_selector(text).unwrap()],
                TimeRange::ALL,
                &Control::default(),
            )
            .unwrap();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn series_are_found_under_the_names_that_queries_know() {
        check("up", &[r#"{__name__="up", job="a"}"#, r#"{__name__="up", job="b"}"#]);
        check(r#"{__name__=~"u.*",job!="a"}"#, &[r#"{__name__="up", job="b"}"#]);
        check(
            r#"container_memory_usage_bytes{namespace="shop"}"#,
            &[r#"{__name__="container_memory_usage_bytes", namespace="shop", pod="web"}"#],
        );
        check(
            "memory_usage",
            &[concat!(
                r#"{__name__="memory_usage", namespace_name="shop", pod_name="web", "#,
                r#"type="pod_container"}"#
            )],
        );
        check(r#"up{job="c"}"#, &[]);
    }

    #[test]
    fn names_and_values_are_those_of_stored_labels_and_of_the_vocabulary() {
        let (engine, stored) = (engine(), stored());
        let control = Control::default();
        let names = engine.label_names(&*stored, &[], TimeRange::ALL, &control).unwrap();
        for name in ["__name__", "job", "pod_name", "pod", "namespace", "resource_id"] {
            assert!(names.iter().any(|own| own == name), "{name} in {names:?}");
        }
        assert!(!names.iter().any(|own| own == "__labeled__"), "{names:?}");
        let between =
            |label, range| engine.label_values(&*stored, label, &[], range, &control).unwrap();
        let values = |label| between(label, TimeRange::ALL);
        let metrics = values("__name__");
        assert!(metrics.iter().any(|own| own == "up"), "{metrics:?}");
        assert!(metrics.iter().any(|own| own == "container_memory_usage_bytes"), "{metrics:?}");
        assert!(!metrics.iter().any(|own| own == "container_memory_rss"), "{metrics:?}");
        assert_eq!(values("job"), ["a", "b"]);
        assert_eq!(values("namespace"), ["shop"]);
        assert!(values("empty").is_empty() && values("__labeled__").is_empty());
        let before = TimeRange::new(Timestamp::MIN, Timestamp::from_millis(999));
        assert!(between("job", before).is_empty());
    }
}
