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
        let stored = snapshot.label_names(&all(range))?;
        let mut names: BTreeSet<Text> =
            stored.into_iter().filter(|name| name != label_key::LABELED).collect();
        for (_, view) in self.views() {
            let Some(behind) = behind(&view, range) else { continue };
            let stored = snapshot.label_names(&behind)?;
            let is_there = |one: &Text| stored.iter().any(|stored| stored == one);
            let shown = view.stored_labels().filter(|(_, of)| is_there(of));
            names.extend(shown.map(|(name, _)| name.clone()));
            if !stored.is_empty() {
                names.extend(view.fixed_labels().map(|(name, _)| name.clone()));
            }
        }
        if !names.is_empty() {
            names.insert(Text::from_static(NAME));
        }
        Ok(names.into_iter().collect())
    }

    /// Values of a label over the series that any of the selectors finds, or over all series when
    /// there is none; sorted, each once, none of them empty. Those of `__name__` are names of metrics,
    /// as they are stored and as the vocabulary calls them.
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
        let is_seen = |value: &Text| !(value.is_empty() || label == NAME && is_time_column(value));
        let mut values: BTreeSet<Text> = stored.into_iter().filter(is_seen).collect();
        for (name, view) in self.views() {
            let Some(behind) = behind(&view, range) else { continue };
            let is_stored = || snapshot.column_names(&behind).map(|columns| !columns.is_empty());
            if label == NAME {
                values.extend(is_stored()?.then_some(name));
            } else if let Some((_, of)) = view.stored_labels().find(|(name, _)| *name == label) {
                let stored = snapshot.label_values(of, &behind)?;
                values.extend(stored.into_iter().filter(|value| !value.is_empty()));
            } else if let Some((_, value)) = view.fixed_labels().find(|(name, _)| *name == label) {
                values.extend(is_stored()?.then(|| value.clone()));
            }
        }
        Ok(values.into_iter().collect())
    }

    /// The names of the vocabulary with what is stored behind each.
    fn views(&self) -> impl Iterator<Item = (Text, Arc<View>)> {
        let vocabulary = Arc::clone(&self.options().vocabulary);
        let names = vocabulary.names();
        names.into_iter().flat_map(move |name| {
            vocabulary.views(&name).into_iter().map(move |view| (name.clone(), view))
        })
    }
}

/// What is stored behind a view.
fn behind(view: &View, range: TimeRange) -> Option<Selector> {
    let matchers = view.matchers(&[])?;
    Some(Selector { matchers, columns: Columns::Named(view.column().clone()), range })
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
        let (engine, stored, control) = (engine(), stored(), Control::default());
        let names = engine.label_names(&*stored, &[], TimeRange::ALL, &control).unwrap();
        for name in ["__name__", "job", "pod_name", "pod", "namespace", "resource_id"] {
            assert!(names.iter().any(|own| own == name), "{name} in {names:?}");
        }
        assert!(!names.iter().any(|own| own == "__labeled__"), "{names:?}");
        let values_in =
            |label, range| engine.label_values(&*stored, label, &[], range, &control).unwrap();
        let values = |label| values_in(label, TimeRange::ALL);
        let metrics = values("__name__");
        assert!(metrics.iter().any(|own| own == "up"), "{metrics:?}");
        assert!(metrics.iter().any(|own| own == "container_memory_usage_bytes"), "{metrics:?}");
        assert!(!metrics.iter().any(|own| own == "container_memory_rss"), "{metrics:?}");
        assert_eq!(values("job"), ["a", "b"]);
        assert_eq!(values("namespace"), ["shop"]);
        assert!(values("empty").is_empty() && values("__labeled__").is_empty());
        let before = TimeRange::new(Timestamp::MIN, Timestamp::from_millis(999));
        assert!(values_in("job", before).is_empty());
    }

    #[test]
    fn a_read_that_nobody_waits_for_ends() {
        let control = Control::default();
        control.cancel.cancel();
        let up = [parse_selector("up").unwrap()];
        let ended = engine().series(&*stored(), &up, TimeRange::ALL, &control);
        assert!(matches!(ended, Err(QueryError::Cancelled)), "{ended:?}");
    }
}
