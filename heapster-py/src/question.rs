//! Questions to a snapshot: what the methods of a store ask, without Python.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Float64Array, Int64Array, TimestampMillisecondArray};
use heapster_core::catalogue::{MetricDescriptor, find};
use heapster_core::series::is_time_column;
use heapster_core::storage::{BucketSource, Columns, Samples, Selector, Snapshot};
use heapster_core::{EntityKey, Labels, Matcher, Text, TimeRange, Timestamp, Value, key};
use heapster_query::historical::{self, Aggregation, Target};
use heapster_query::promql::vocabulary::{Kubernetes, is_underscored};
use heapster_query::promql::{Control, Engine, EngineOptions, QueryAnswer, QueryLimits};
use heapster_query::{Budget, Cancel, Limits, QueryError};
use heapster_server::verbs::ParsedSelector;
use heapster_store::{Clock, SystemClock};

use crate::frame::{Frame, FrameBuilder};
use crate::table::{Table, labels};

/// When an expression is evaluated.
#[derive(Clone, Copy)]
pub enum When {
    At(Timestamp),
    Range { start: Timestamp, end: Timestamp, step: Duration },
}

/// Evaluates an expression. Without a time-out it may take as long as it takes.
pub fn query(
    snapshot: &dyn Snapshot,
    expr: &str,
    when: When,
    timeout: Option<Duration>,
    cancel: &Cancel,
) -> Result<QueryAnswer, QueryError> {
    let elapsed = timeout.map(|_| {
        let clock = SystemClock::new();
        let begin = clock.monotonic();
        Arc::new(move || clock.monotonic().saturating_sub(begin)) as Arc<_>
    });
    let control = Control { cancel: cancel.clone(), elapsed };
    let limits =
        QueryLimits { timeout: timeout.unwrap_or(Duration::MAX), ..QueryLimits::default() };
    let engine = engine(limits);
    let mut answer = match when {
        When::At(at) => engine.instant(snapshot, expr, at, &control),
        When::Range { start, end, step } => {
            engine.range(snapshot, expr, start, end, step, &control)
        }
    }?;
    answer.warnings.extend(lacking(snapshot));
    Ok(answer)
}

fn engine(limits: QueryLimits) -> Engine {
    let vocabulary = Arc::new(Kubernetes);
    Engine::new(EngineOptions { limits, vocabulary, ..EngineOptions::default() })
}

/// What reads had to go without.
pub fn lacking(snapshot: &dyn Snapshot) -> Vec<String> {
    let damage = snapshot.damage().into_iter();
    damage.map(|damage| format!("left out: {}", damage.reason)).collect()
}

/// The samples of all series that a selector finds, as they are stored.
pub fn select(
    snapshot: &dyn Snapshot,
    selector: &ParsedSelector,
    range: TimeRange,
    cancel: &Cancel,
) -> Result<Frame, QueryError> {
    let columns = stored_name(snapshot, selector, range)?;
    let selector = Selector { matchers: selector.matchers.clone(), columns, range };
    let mut frame = FrameBuilder::default();
    let mut samples = Samples::default();
    for set in snapshot.select(&selector)? {
        for (index, column) in set.columns().iter().enumerate() {
            if is_time_column(&column.name) {
                continue;
            }
            frame.begin(&column.name, set.labels());
            let mut cursor = set.read(index);
            while cursor.next_run()?.is_some() {
                check(cancel)?;
                cursor.decode(&mut samples)?;
                frame.extend(&samples);
            }
            frame.end();
        }
    }
    Ok(frame.finish())
}

fn check(cancel: &Cancel) -> Result<(), QueryError> {
    if cancel.is_cancelled() { Err(QueryError::Cancelled) } else { Ok(()) }
}

/// The columns that are asked for; a name that is not stored may be one that PromQL writes with `_`.
fn stored_name(
    snapshot: &dyn Snapshot,
    selector: &ParsedSelector,
    range: TimeRange,
) -> Result<Columns, QueryError> {
    let Columns::Named(asked) = &selector.columns else { return Ok(selector.columns.clone()) };
    let matchers = selector.matchers.clone();
    let all = Selector { matchers, columns: Columns::All, range };
    let names = snapshot.column_names(&all)?;
    let found = names.iter().find(|name| *name == asked);
    let found = found.or_else(|| names.iter().find(|name| is_underscored(name, asked)));
    Ok(Columns::Named(found.unwrap_or(asked).clone()))
}

/// A question for aggregates of one metric of one entity.
pub struct Historical {
    pub entity: EntityKey,
    /// Labels that the metric has of its own.
    pub own: Labels,
    pub metric: Text,
    /// Under the names that the columns get.
    pub aggregations: Vec<(String, Aggregation)>,
    pub range: TimeRange,
    pub bucket: Option<Duration>,
}

/// Aggregates by bucket of time, and what a user should know of them.
pub fn historical(
    snapshot: &dyn Snapshot,
    question: Historical,
    cancel: &Cancel,
) -> Result<(Table, Vec<String>), QueryError> {
    let Historical { entity, own, metric, aggregations, range, bucket } = question;
    // A single bucket begins where its range does, which should be where there is something.
    let range = match snapshot.bounds() {
        Some(held) => TimeRange::new(range.start.max(held.start), range.end.min(held.end)),
        None => range,
    };
    let entity = entity.matchers();
    let target = match own.is_empty() {
        true => Target::plain(entity, metric),
        false => Target::labeled(entity, &own, metric),
    };
    // An analyst may have much more than a dashboard; memory for what is held at one time is bounded.
    let limits = Limits { samples_max: usize::MAX, points_max: usize::MAX, ..Limits::default() };
    let mut budget = Budget::new(limits, cancel.clone());
    let wanted: Vec<Aggregation> = aggregations.iter().map(|(_, one)| *one).collect();
    let found = historical::aggregate(snapshot, &target, range, bucket, &wanted, &mut budget)?;
    let times = found.buckets.iter().map(|bucket| bucket.start.as_millis()).collect();
    let mut columns = Vec::new();
    for (name, aggregation) in aggregations {
        let value = |bucket: &historical::Bucket| match aggregation {
            Aggregation::Count => Some(Value::Int(bucket.count.cast_signed())),
            other => bucket.value(other),
        };
        columns.push((name, found.buckets.iter().map(value).collect()));
    }
    let mut warnings = lacking(snapshot);
    if !found.is_exact {
        warnings.push(format!(
            "values are not those of raw samples, which are gone: {}",
            found.sources.iter().map(shown).collect::<Vec<_>>().join(", ")
        ));
    }
    Ok((buckets_of(times, columns), warnings))
}

/// Buckets by the milliseconds at which they begin, with columns of values.
pub fn buckets_of(times: Vec<i64>, values: Vec<(String, Vec<Option<Value>>)>) -> Table {
    let times = TimestampMillisecondArray::from(times).with_timezone("UTC");
    let mut columns: Vec<(String, ArrayRef)> = vec![("time".to_owned(), Arc::new(times))];
    columns.extend(values.into_iter().map(|(name, values)| (name, numbers(&values))));
    Table::new(columns)
}

fn shown(source: &BucketSource) -> String {
    let TimeRange { start, end } = source.range;
    match source.resolution {
        Some(resolution) => format!("aggregates of {resolution:?} from {start} to {end}"),
        None => format!("raw samples from {start} to {end}"),
    }
}

/// A column of integers when all are, otherwise of floats; gaps where there is none.
pub fn numbers(values: &[Option<Value>]) -> ArrayRef {
    let is_float = |value: &Value| matches!(value, Value::Float(_));
    if values.iter().flatten().any(is_float) {
        let floats = values.iter().map(|value| value.map(Value::as_f64));
        Arc::new(floats.collect::<Float64Array>())
    } else {
        let ints = values.iter().map(|value| value.and_then(Value::as_int));
        Arc::new(ints.collect::<Int64Array>())
    }
}

/// The entities that have samples in a range, with the labels that name them.
pub fn entities(
    snapshot: &dyn Snapshot,
    range: TimeRange,
    cancel: &Cancel,
) -> Result<Table, QueryError> {
    let matchers = vec![Matcher::not_equal(key::TYPE, "")];
    let selector = Selector { matchers, columns: Columns::All, range };
    let sets = snapshot.select(&selector)?;
    check(cancel)?;
    Ok(entities_of(sets.iter().map(|set| set.labels())))
}

/// The entities that labels name, each once.
pub fn entities_of<'a>(all: impl Iterator<Item = &'a Labels>) -> Table {
    let mut found = BTreeMap::new();
    for labels in all {
        if let Some(entity) = EntityKey::from_labels(labels) {
            found.entry(entity).or_insert_with(|| labels.clone());
        }
    }
    let names: Vec<String> = found.keys().map(ToString::to_string).collect();
    let mut columns = vec![("entity".to_owned(), texts(names.iter().map(|name| Some(&**name))))];
    for label in [key::TYPE, key::NAMESPACE_NAME, key::POD_NAME, key::CONTAINER_NAME, key::NODENAME]
    {
        let value = |labels: &Labels| labels.get(label).cloned();
        let values: Vec<_> = found.values().map(value).collect();
        columns.push((label.to_owned(), texts(values.iter().map(|value| value.as_deref()))));
    }
    Table::new(columns)
}

/// The metrics that have samples in a range, with what the catalogue says of them.
pub fn metrics(snapshot: &dyn Snapshot, range: TimeRange) -> Result<Table, QueryError> {
    let selector = Selector { matchers: Vec::new(), columns: Columns::All, range };
    let mut names = snapshot.column_names(&selector)?;
    names.retain(|name| !is_time_column(name));
    Ok(described(&names))
}

/// Metrics with what the catalogue says of them.
pub fn described(names: &[Text]) -> Table {
    let of = |say: fn(&MetricDescriptor) -> &'static str| {
        texts(names.iter().map(|name| find(name).map(say)))
    };
    Table::new(vec![
        ("metric".to_owned(), texts(names.iter().map(|name| Some(name.as_str())))),
        ("kind".to_owned(), of(|metric| metric.kind.as_str())),
        ("unit".to_owned(), of(MetricDescriptor::unit_of_values)),
        ("description".to_owned(), of(|metric| metric.description)),
    ])
}

/// A column of labels out of texts.
pub fn texts<'a>(all: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    let mut numbers = std::collections::HashMap::new();
    let mut texts = Vec::new();
    let mut number = |text: &'a str| {
        *numbers.entry(text).or_insert_with(|| {
            texts.push(text);
            texts.len() as i32 - 1
        })
    };
    let codes: arrow_array::Int32Array = all.map(|text| text.map(&mut number)).collect();
    labels(codes, &texts)
}

/// Names of labels, or the values of one.
pub fn label_texts(
    snapshot: &dyn Snapshot,
    label: Option<&str>,
    range: TimeRange,
    cancel: &Cancel,
) -> Result<Vec<Text>, QueryError> {
    let engine = engine(QueryLimits::default());
    let control = Control { cancel: cancel.clone(), elapsed: None };
    match label {
        None => engine.label_names(snapshot, &[], range, &control),
        Some(label) => engine.label_values(snapshot, label, &[], range, &control),
    }
}
