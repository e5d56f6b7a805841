//! [`Answer`]: the sets that one kubelet answer has yielded so far, and what was left out of it.
//!
//! Both formats fill one, so that they agree on limits, on duplicates and on how a number becomes a
//! metric.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use heapster_core::catalogue::metric;
use heapster_core::pipeline::Scrape;
use heapster_core::{EntityKey, EntityType, Labels, MetricSet, MetricValue, NanoTime, Text, key};

use super::NodeInfo;
use super::lenient::{Lenient, List};
use super::rejects::Rejects;

/// The most sets one node may yield: forty times what a full node of 110 pods has.
pub(super) const SETS_MAX: usize = 20_000;

/// The sets of one node, each key once.
pub(super) struct Answer<'n> {
    node: &'n NodeInfo,
    /// Labels that every set of the node has.
    pub(super) node_labels: Labels,
    now: NanoTime,
    sets: Vec<(EntityKey, MetricSet)>,
    /// Where in `sets` a key is.
    places: HashMap<EntityKey, usize>,
    /// Labels of the file systems that every container has.
    common: [Labels; 2],
    pub(super) rejects: Rejects,
}

/// Names of the file systems that every container has.
const COMMON_RESOURCES: [&str; 2] = ["/", "logs"];

impl<'n> Answer<'n> {
    pub(super) fn new(node: &'n NodeInfo, now: NanoTime) -> Self {
        Self {
            node,
            node_labels: node.labels(),
            now,
            sets: Vec::new(),
            places: HashMap::new(),
            common: COMMON_RESOURCES.map(resource),
            rejects: Rejects::default(),
        }
    }

    /// The node's API name.
    pub(super) fn nodename(&self) -> Text {
        self.node.nodename.clone()
    }

    pub(super) fn contains(&self, key: &EntityKey) -> bool {
        self.places.contains_key(key)
    }

    /// Starts a set with the given labels and the type that its key names.
    pub(super) fn begin<'a>(&'a mut self, key: &'a EntityKey, labels: &Labels) -> SetBuilder<'a> {
        let mut labels = labels.clone();
        labels.set_static(key::TYPE, Text::from_static(key.entity_type().as_str()));
        let set = MetricSet { labels, ..MetricSet::default() };
        let Self { now, common, rejects, .. } = self;
        SetBuilder { key, set, now: *now, common, rejects }
    }

    /// Keeps a set, replacing one of the same key.
    pub(super) fn put(&mut self, key: EntityKey, set: MetricSet) {
        let is_full = self.sets.len() >= SETS_MAX;
        match self.places.entry(key) {
            Entry::Occupied(place) => {
                if let Some(slot) = self.sets.get_mut(*place.get()) {
                    slot.1 = set;
                }
            }
            // The node's own set is one and first in importance: it always finds room.
            Entry::Vacant(place) if is_full && place.key().entity_type() != EntityType::Node => {
                self.rejects.push(format_args!("{}: more than {SETS_MAX} sets", place.key()));
            }
            Entry::Vacant(place) => {
                self.sets.push((place.key().clone(), set));
                place.insert(self.sets.len() - 1);
            }
        }
    }

    /// Keeps a container's set unless the one that is kept already started later: a restarted
    /// container may be listed twice, and the dead one must not hide the running one.
    pub(super) fn put_newer(&mut self, key: EntityKey, set: MetricSet) {
        let kept = self.places.get(&key).and_then(|place| self.sets.get(*place));
        if kept.is_none_or(|(_, kept)| set.collection_start_time >= kept.collection_start_time) {
            self.put(key, set);
        }
    }

    /// Notes a list that is none, and elements beyond those that are read.
    pub(super) fn check_list<T>(&mut self, list: &Lenient<List<T>>, what: &str) {
        match list {
            Lenient::Bad => self.rejects.push(format_args!("the {what} are not a list")),
            Lenient::Given(list) if list.left_out > 0 => {
                self.rejects.push(format_args!("{} of the {what} are too many", list.left_out));
            }
            Lenient::Absent | Lenient::Given(_) => {}
        }
    }

    pub(super) fn finish(self) -> Scrape {
        Scrape { sets: self.sets, rejects: self.rejects.into_lines() }
    }
}

/// Builds one set and reports the numbers it has to leave out under the set's key.
pub(super) struct SetBuilder<'a> {
    key: &'a EntityKey,
    pub(super) set: MetricSet,
    now: NanoTime,
    common: &'a [Labels; 2],
    rejects: &'a mut Rejects,
}

impl SetBuilder<'_> {
    /// The labels of a metric about one resource, shared where many sets have them.
    pub(super) fn resource(&self, id: &str) -> Labels {
        match COMMON_RESOURCES.iter().position(|common| *common == id) {
            Some(index) => self.common[index].clone(),
            None => resource(id),
        }
    }

    pub(super) fn finish(self) -> MetricSet {
        self.set
    }

    pub(super) fn reject(&mut self, what: impl fmt::Display) {
        self.rejects.push(format_args!("{}: {what}", self.key));
    }

    /// Takes the start as the kubelet wrote it.
    pub(super) fn start(&mut self, what: &str, start: &Lenient<Cow<'_, str>>) {
        if let Some(start) = self.time(what, start) {
            self.started(start);
        }
    }

    /// Takes the start of the counters, and the uptime it implies.
    pub(super) fn started(&mut self, start: NanoTime) {
        self.set.collection_start_time = Some(start);
        let uptime = self.now.as_nanos().saturating_sub(start.as_nanos()) / 1_000_000;
        self.set.metrics.set_static(metric::UPTIME, MetricValue::cumulative(uptime));
    }

    pub(super) fn time(&mut self, what: &str, text: &Lenient<Cow<'_, str>>) -> Option<NanoTime> {
        let parsed = match text {
            Lenient::Absent => return None,
            Lenient::Given(text) => NanoTime::parse_rfc3339(text),
            Lenient::Bad => NanoTime::parse_rfc3339(""),
        };
        parsed.unwrap_or_else(|error| {
            self.reject(format_args!("{what}: {error}"));
            None
        })
    }

    /// Takes the members of a group, which must be an object when it is there at all.
    pub(super) fn group<'g, T>(&mut self, what: &str, group: &'g Lenient<T>) -> Option<&'g T> {
        if matches!(group, Lenient::Bad) {
            self.reject(format_args!("{what} is not what it should be"));
        }
        group.given()
    }

    pub(super) fn gauge(&mut self, name: &'static str, number: &Lenient<u64>) {
        if let Some(value) = self.number(name, number) {
            self.set.metrics.set_static(name, MetricValue::gauge(value));
        }
    }

    pub(super) fn counter(&mut self, name: &'static str, number: &Lenient<u64>) {
        if let Some(value) = self.number(name, number) {
            self.set.metrics.set_static(name, MetricValue::cumulative(value));
        }
    }

    pub(super) fn labeled(&mut self, name: &'static str, own: &Labels, number: &Lenient<u64>) {
        if let Some(value) = self.number(name, number) {
            self.set.push_labeled(name, own, value);
        }
    }

    /// The number as the original keeps it: the 64 bits taken for a signed integer.
    fn number(&mut self, name: &str, number: &Lenient<u64>) -> Option<i64> {
        if matches!(number, Lenient::Bad) {
            self.reject(format_args!("{name} is not a whole number from 0 to 2^64-1"));
        }
        number.given().map(|value| value.cast_signed())
    }
}

/// The labels of a metric about one resource.
pub(super) fn resource(id: &str) -> Labels {
    Labels::from_iter([(Text::from_static(key::RESOURCE_ID), Text::from(id))])
}
