//! What there is to ask for: series, and the names and values of their labels.
//!
//! Names are resolved as queries resolve them, other vocabularies included, and what queries hide is
//! hidden here as well.

use std::collections::BTreeSet;

use heapster_core::labels::key as label_key;
use heapster_core::series::is_time_column;
use heapster_core::storage::{Columns, Selector, Snapshot};
use heapster_core::{Labels, MatchOp, Matcher, Text, TimeRange};

use super::annotations::Annotations;
use super::engine::Engine;
use super::eval::Evaluator;
use super::key::NAME;
use super::meter::{Control, Meter};
use super::plan::Select;
use super::vocabulary::View;
use crate::error::QueryError;

impl Engine {
    /// Labels of the series that a selector finds in a range of time, both ends included, sorted, each
    /// once. A condition on the name has the label `__name__`, as [`super::selectors`] gives it.
    ///
    /// Only bounds are looked at, so a listed series may turn out to have no sample in the range.
    ///
    /// # Errors
    /// The store cannot be read, or nobody waits for the answer any more.
    pub fn series(
        &self,
        snapshot: &dyn Snapshot,
        selector: &[Matcher],
        range: TimeRange,
        control: &Control,
    ) -> Result<Vec<Labels>, QueryError> {
        let options = self.options();
        let (meter, annotations) =
            (Meter::new(options.limits, control.clone()), Annotations::new(""));
        let evaluator = Evaluator {
            snapshot,
            vocabulary: &*options.vocabulary,
            meter: &meter,
            annotations: &annotations,
            threads: 1,
        };
        let select = Select::of(selector);
        let (first, last) = (range.start.as_millis(), range.end.as_millis());
        let mut found = evaluator.labels(&select, first, last)?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Names of the labels of all series in a range of time, sorted, each once.
    ///
    /// # Errors
    /// As [`Engine::series`].
    pub fn label_names(
        &self,
        snapshot: &dyn Snapshot,
        range: TimeRange,
    ) -> Result<Vec<Text>, QueryError> {
        let all = Selector { matchers: Vec::new(), columns: Columns::All, range };
        let stored = snapshot.label_names(&all)?;
        let mut names: BTreeSet<Text> =
            stored.into_iter().filter(|name| name != label_key::LABELED).collect();
        for name in self.options().vocabulary.names() {
            for view in self.options().vocabulary.views(&name) {
                let Some(selector) = behind(&view, range) else { continue };
                let stored = snapshot.label_names(&selector)?;
                let is_there = |one: &Text| stored.iter().any(|stored| stored == one);
                names.extend(
                    view.stored_labels().filter(|(_, of)| is_there(of)).map(|of| of.0.clone()),
                );
                if !stored.is_empty() {
                    names.extend(view.fixed_labels().map(|(name, _)| name.clone()));
                }
            }
        }
        if !names.is_empty() {
            names.insert(Text::from_static(NAME));
        }
        Ok(names.into_iter().collect())
    }

    /// Values of a label over all series in a range of time, sorted, each once; those of `__name__` are
    /// the names of metrics.
    ///
    /// # Errors
    /// As [`Engine::series`].
    pub fn label_values(
        &self,
        snapshot: &dyn Snapshot,
        label: &str,
        range: TimeRange,
    ) -> Result<Vec<Text>, QueryError> {
        let all = Selector { matchers: Vec::new(), columns: Columns::All, range };
        let stored = match label {
            NAME => snapshot.column_names(&all)?,
            label_key::LABELED => Vec::new(),
            _ => snapshot.label_values(label, &all)?,
        };
        let is_shown =
            |value: &Text| !value.is_empty() && !(label == NAME && is_time_column(value));
        let mut values: BTreeSet<Text> = stored.into_iter().filter(is_shown).collect();
        for name in self.options().vocabulary.names() {
            for view in self.options().vocabulary.views(&name) {
                let Some(selector) = behind(&view, range) else { continue };
                if label == NAME {
                    if !snapshot.column_names(&selector)?.is_empty() {
                        values.insert(name.clone());
                    }
                } else if let Some((_, stored)) =
                    view.stored_labels().find(|(name, _)| *name == label)
                {
                    let stored = snapshot.label_values(stored, &selector)?;
                    values.extend(stored.into_iter().filter(|value| !value.is_empty()));
                } else if let Some((_, value)) =
                    view.fixed_labels().find(|(name, _)| *name == label)
                    && !snapshot.column_names(&selector)?.is_empty()
                {
                    values.insert(value.clone());
                }
            }
        }
        Ok(values.into_iter().collect())
    }
}

/// What is stored behind a view.
fn behind(view: &View, range: TimeRange) -> Option<Selector> {
    let matchers = view.matchers(&[])?;
    Some(Selector { matchers, columns: Columns::Named(view.column().clone()), range })
}

impl Select {
    /// A selector without modifiers.
    fn of(conditions: &[Matcher]) -> Self {
        let mut select = Self::default();
        for matcher in conditions {
            match (matcher.name() == NAME, matcher.op()) {
                (true, MatchOp::Equal(text)) if select.name.is_none() && !text.is_empty() => {
                    select.name = Some(Text::from(text));
                }
                (true, _) => select.names.push(matcher.clone()),
                (false, _) => select.matchers.push(matcher.clone()),
            }
        }
        select
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use heapster_core::series::Row;
    use heapster_core::storage::{MemoryStorage, Storage};
    use heapster_core::{MetricKind, MetricValue, Timestamp, Value};

    use super::*;
    use crate::promql::vocabulary::Kubernetes;
    use crate::promql::{EngineOptions, selector};

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
            .series(&*stored(), &selector(text).unwrap(), TimeRange::ALL, &Control::default())
            .unwrap();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn series_are_found_under_the_names_that_queries_know() {
        check("up", &[r#"{__name__="up",job="a"}"#, r#"{__name__="up",job="b"}"#]);
        check(r#"{__name__=~"u.*",job!="a"}"#, &[r#"{__name__="up",job="b"}"#]);
        check(
            r#"container_memory_usage_bytes{namespace="shop"}"#,
            &[r#"{__name__="container_memory_usage_bytes",namespace="shop",pod="web"}"#],
        );
        check(
            "memory_usage",
            &[concat!(
                r#"{__name__="memory_usage",namespace_name="shop",pod_name="web","#,
                r#"type="pod_container"}"#
            )],
        );
        check(r#"up{job="c"}"#, &[]);
    }

    #[test]
    fn names_and_values_are_those_of_stored_labels_and_of_the_vocabulary() {
        let (engine, stored) = (engine(), stored());
        let names = engine.label_names(&*stored, TimeRange::ALL).unwrap();
        for name in ["__name__", "job", "pod_name", "pod", "namespace", "resource_id"] {
            assert!(names.iter().any(|own| own == name), "{name} in {names:?}");
        }
        assert!(!names.iter().any(|own| own == "__labeled__"), "{names:?}");
        let values = |label| engine.label_values(&*stored, label, TimeRange::ALL).unwrap();
        let metrics = values("__name__");
        assert!(metrics.iter().any(|own| own == "up"), "{metrics:?}");
        assert!(metrics.iter().any(|own| own == "container_memory_usage_bytes"), "{metrics:?}");
        assert!(!metrics.iter().any(|own| own == "container_memory_rss"), "{metrics:?}");
        assert_eq!(values("job"), ["a", "b"]);
        assert_eq!(values("namespace"), ["shop"]);
        assert!(values("empty").is_empty() && values("__labeled__").is_empty());
        let before = TimeRange::new(Timestamp::MIN, Timestamp::from_millis(999));
        assert!(engine.label_values(&*stored, "job", before).unwrap().is_empty());
    }

    #[test]
    fn a_read_that_nobody_waits_for_ends() {
        let control = Control::default();
        control.cancel.cancel();
        let up = selector("up").unwrap();
        let ended = engine().series(&*stored(), &up, TimeRange::ALL, &control);
        assert!(matches!(ended, Err(QueryError::Cancelled)), "{ended:?}");
    }
}
