//! The board of a moment in the past, and averages over a time that ends there, from the store.
//!
//! A store has what the kubelets said, with the times at which they say so: the same points go
//! through the same rules again. That is also how a server knows at its start what it showed before.

use std::collections::BTreeMap;
use std::time::Duration;

use heapster_core::catalogue::metric;
use heapster_core::series::{COLLECTION_START_COLUMN, SCRAPE_COLUMN};
use heapster_core::storage::{Columns, Samples, SelectedSet, Selector, Snapshot, StorageError};
use heapster_core::{EntityKey, Labels, Matcher, NanoTime, Text, TimeRange, Timestamp, Value, key};
use heapster_query::{Budget, QueryError};

use super::board::Board;
use super::track::{Point, Rules, Track};

/// What is wanted of a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All nodes and pods.
    #[default]
    All,
    /// All nodes, or one.
    Nodes(Option<Text>),
    /// All pods, or those of a namespace, or one of its.
    Pods(Option<Text>, Option<Text>),
}

impl Scope {
    fn matchers(&self) -> Vec<Vec<Matcher>> {
        let one = |name, value: &Option<Text>| {
            value.as_ref().map(|value| Matcher::equal(name, value.clone()))
        };
        let mut nodes = vec![Matcher::equal(key::TYPE, "node")];
        let mut containers = vec![Matcher::equal(key::TYPE, "pod_container")];
        match self {
            Self::All => return vec![nodes, containers],
            Self::Nodes(name) => nodes.extend(one(key::NODENAME, name)),
            Self::Pods(namespace, pod) => {
                containers.extend(one(key::NAMESPACE_NAME, namespace));
                containers.extend(one(key::POD_NAME, pod));
                return vec![containers];
            }
        }
        vec![nodes]
    }
}

/// What was shown at a moment. With a `span`, averages over that time before it in place of the rate
/// between the two newest points.
///
/// # Errors
/// [`QueryError`]: the store cannot be read, or more is asked for than the budget has.
pub fn board_at(
    snapshot: &dyn Snapshot,
    scope: &Scope,
    at: Timestamp,
    span: Option<Duration>,
    rules: Rules,
    budget: &mut Budget,
) -> Result<Board, QueryError> {
    let back = span.map_or(rules.look_back(), |span| span.max(rules.age_max()));
    let range = TimeRange::new(at.saturating_sub(back), at);
    let mut stories: BTreeMap<EntityKey, Story> = BTreeMap::new();
    for matchers in scope.matchers() {
        let selector = Selector { matchers, columns: Columns::All, range };
        for set in snapshot.select(&selector)? {
            // Sets of labelled metrics have no points.
            if set.labels().contains(key::LABELED) {
                continue;
            }
            if let Some(key) = EntityKey::from_labels(set.labels()) {
                stories.entry(key).or_default().add(&*set, budget)?;
            }
        }
    }
    let from = span.map(|span| at.saturating_sub(span));
    let mut board = Board::default();
    for (key, story) in stories {
        let track = match from {
            None => story.track(rules),
            Some(from) => story.average(from),
        };
        let is_shown = |track: &Track| at.saturating_since(track.seen) <= rules.age_max();
        if let Some(track) = track.filter(is_shown) {
            board.put(&key, &story.labels, track);
        }
    }
    Ok(board)
}

/// The points of one node or container with the times of their batches.
#[derive(Default)]
struct Story {
    points: Vec<(Timestamp, Point)>,
    /// The labels of its newest set.
    labels: Labels,
    newest: Option<Timestamp>,
}

impl Story {
    /// Adds the points of a stored set. One entity has several when its labels changed.
    fn add(&mut self, set: &dyn SelectedSet, budget: &mut Budget) -> Result<(), QueryError> {
        let mut column = |name: &str| -> Result<Vec<(Timestamp, i64)>, QueryError> {
            match set.columns().iter().position(|column| column.name == name) {
                Some(index) => ints(set, index, budget),
                None => Ok(Vec::new()),
            }
        };
        let scraped = column(SCRAPE_COLUMN)?;
        let (cpu, memory) = (column(metric::CPU_USAGE)?, column(metric::MEMORY_WORKING_SET)?);
        let (start, swap) = (column(COLLECTION_START_COLUMN)?, column(metric::MEMORY_SWAP)?);
        let of = |column: &[(Timestamp, i64)], at: Timestamp| {
            let index = column.binary_search_by_key(&at, |(at, _)| *at).ok()?;
            Some(column[index].1)
        };
        for (seen, nanos) in scraped {
            let (Some(cpu_nanos), Some(memory_bytes)) = (of(&cpu, seen), of(&memory, seen)) else {
                continue;
            };
            let point = Point {
                at: NanoTime::from_nanos(nanos),
                start: of(&start, seen).map(NanoTime::from_nanos),
                cpu_nanos,
                memory_bytes,
                swap_bytes: of(&swap, seen),
            };
            self.points.extend(point.plausible().map(|point| (seen, point)));
            if self.newest.is_none_or(|newest| newest < seen) {
                self.newest = Some(seen);
                self.labels = set.labels().clone();
            }
        }
        Ok(())
    }

    fn in_order(&self) -> Vec<(Timestamp, Point)> {
        let mut points = self.points.clone();
        points.sort_by_key(|(seen, _)| *seen);
        points
    }

    /// The track after all points.
    fn track(&self, rules: Rules) -> Option<Track> {
        let mut points = self.in_order().into_iter();
        let (seen, first) = points.next()?;
        Some(points.fold(Track::first(first, seen, rules), |track, (seen, point)| {
            track.followed_by(point, seen, rules)
        }))
    }

    /// The average from a moment on: what all lives together spent, over the time between the first
    /// and the last point; memory and swap are means of the points.
    fn average(&self, from: Timestamp) -> Option<Track> {
        let mut points = self.in_order();
        points.retain(|(seen, _)| *seen >= from);
        points.dedup_by_key(|(_, point)| point.at);
        let (seen, mut last) = *points.last()?;
        let (_, first) = *points.first()?;
        let mut spent: i64 = 0;
        for pair in points.windows(2) {
            let (before, now) = (pair[0].1, pair[1].1);
            // A counter that fell began anew at nothing.
            let more = now.cpu_nanos.checked_sub(before.cpu_nanos).filter(|more| *more >= 0);
            spent = spent.saturating_add(more.unwrap_or(now.cpu_nanos));
        }
        let mean = |of: &dyn Fn(&Point) -> Option<i64>| {
            let values: Vec<i128> =
                points.iter().filter_map(|(_, point)| of(point)).map(i128::from).collect();
            let count = i128::try_from(values.len()).ok().filter(|count| *count > 0)?;
            i64::try_from(values.iter().sum::<i128>() / count).ok()
        };
        last.memory_bytes = mean(&|point| Some(point.memory_bytes))?;
        last.swap_bytes = mean(&|point| point.swap_bytes);
        Some(Track::over(last, first.at, spent, seen))
    }
}

/// The integers of a column in the order of time.
fn ints(
    set: &dyn SelectedSet,
    column: usize,
    budget: &mut Budget,
) -> Result<Vec<(Timestamp, i64)>, QueryError> {
    let mut cursor = set.read(column);
    let mut samples = Samples::default();
    let mut ints = Vec::new();
    while cursor.next_run().map_err(QueryError::from)?.is_some() {
        cursor.decode(&mut samples).map_err(|error: StorageError| QueryError::from(error))?;
        budget.take_samples(samples.timestamps.len())?;
        ints.extend(samples.iter().filter_map(|(at, value)| match value {
            Value::Int(int) => Some((at, int)),
            Value::Float(_) => None,
        }));
    }
    Ok(ints)
}
