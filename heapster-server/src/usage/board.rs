//! [`Board`]: the tracks of all nodes and pods, as of the newest batch.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use heapster_core::{DataBatch, EntityKey, Labels, Text, Timestamp, key};

use super::track::{Point, Rules, Track, Usage};

/// A node or a pod with its tracks: one of a node, one for each container of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracked {
    /// Namespace of a pod; empty for a node.
    pub namespace: Text,
    /// Name of the node or pod.
    pub name: Text,
    /// The node itself, or the one that the pod runs on.
    pub node: Text,
    /// The labels of its object, joined as the batch has them.
    pub labels: Text,
    /// Name of the container, empty for a node, and its track; sorted.
    pub parts: Vec<(Text, Track)>,
}

impl Tracked {
    /// What each part uses, of those whose rate is known.
    pub fn usages(&self) -> impl Iterator<Item = (&Text, Usage)> {
        self.parts.iter().filter_map(|(name, track)| Some((name, track.usage()?)))
    }

    /// Whether a scrape brought it lately.
    pub fn is_current(&self, now: Timestamp, rules: Rules) -> bool {
        let seen = self.parts.iter().map(|(_, track)| track.seen).max();
        seen.is_some_and(|seen| now.saturating_since(seen) <= rules.age_max())
    }

    /// Adds or replaces the track of a part.
    fn put(&mut self, name: Text, track: Track) {
        match self.parts.binary_search_by(|(own, _)| own.cmp(&name)) {
            Ok(index) => self.parts[index].1 = track,
            Err(index) => self.parts.insert(index, (name, track)),
        }
    }
}

/// Everything whose numbers came lately. A new batch makes a new board: who reads one is not
/// disturbed and holds nobody up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Board {
    nodes: BTreeMap<Text, Arc<Tracked>>,
    pods: BTreeMap<Text, BTreeMap<Text, Arc<Tracked>>>,
}

impl Board {
    /// A node.
    pub fn node(&self, name: &str) -> Option<&Arc<Tracked>> {
        self.nodes.get(name)
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Tracked>> {
        self.nodes.values()
    }

    /// A pod.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Tracked>> {
        self.pods.get(namespace)?.get(name)
    }

    /// The pods of a namespace, or all, by namespace and name.
    pub fn pods(&self, namespace: Option<&str>) -> impl Iterator<Item = &Arc<Tracked>> {
        let (one, all) = match namespace {
            Some(namespace) => (self.pods.get(namespace), None),
            None => (None, Some(self.pods.values())),
        };
        one.into_iter().chain(all.into_iter().flatten()).flat_map(BTreeMap::values)
    }

    /// Adds or replaces the track of a node or a container; keys of anything else do nothing.
    pub(super) fn put(&mut self, key: &EntityKey, labels: &Labels, track: Track) {
        let (namespace, name, part) = match key {
            EntityKey::Node(name) => (Text::default(), name, Text::default()),
            EntityKey::PodContainer { namespace, pod, container } => {
                (namespace.clone(), pod, container.clone())
            }
            _ => return,
        };
        let shelf = match namespace.is_empty() {
            true => &mut self.nodes,
            false => self.pods.entry(namespace.clone()).or_default(),
        };
        let label = |name| labels.get(name).cloned().unwrap_or_default();
        let tracked = shelf.entry(name.clone()).or_insert_with(|| {
            let (node, labels) = (label(key::NODENAME), label(key::LABELS));
            let (name, parts) = (name.clone(), Vec::with_capacity(1));
            Arc::new(Tracked { namespace, name, node, labels, parts })
        });
        Arc::make_mut(tracked).put(part, track);
    }

    /// The track of a node or a container.
    fn track(&self, key: &EntityKey) -> Option<&Track> {
        let (tracked, part) = match key {
            EntityKey::Node(name) => (self.node(name)?, ""),
            EntityKey::PodContainer { namespace, pod, container } => {
                (self.pod(namespace, pod)?, container.as_str())
            }
            _ => return None,
        };
        tracked.parts.iter().find(|(own, _)| own == part).map(|(_, track)| track)
    }

    /// The board after a batch. What a node that answered does not name any more is gone; what a
    /// node that did not answer said before stays for a while.
    #[must_use]
    pub fn after(&self, batch: &DataBatch, rules: Rules) -> Self {
        let mut next = Self::default();
        for (key, set) in &batch.sets {
            let is_tracked = matches!(key, EntityKey::Node(_) | EntityKey::PodContainer { .. });
            if let Some(point) = Point::of(set).filter(|_| is_tracked) {
                let track = match self.track(key) {
                    Some(track) => track.followed_by(point, batch.timestamp, rules),
                    None => Track::first(point, batch.timestamp, rules),
                };
                next.put(key, &set.labels, track);
            }
        }
        self.carry_over(&mut next, batch, rules);
        next
    }

    fn insert(&mut self, tracked: Arc<Tracked>) {
        let shelf = match tracked.namespace.is_empty() {
            true => &mut self.nodes,
            false => self.pods.entry(tracked.namespace.clone()).or_default(),
        };
        shelf.insert(tracked.name.clone(), tracked);
    }

    fn carry_over(&self, next: &mut Self, batch: &DataBatch, rules: Rules) {
        let answered: HashSet<&Text> = batch
            .sets
            .iter()
            .filter_map(|(key, set)| match key {
                EntityKey::Node(name) => set.scrape_time.is_some().then_some(name),
                _ => None,
            })
            .collect();
        for old in self.nodes().chain(self.pods(None)) {
            let stays = !answered.contains(&old.node) && old.is_current(batch.timestamp, rules);
            let is_new = match old.namespace.is_empty() {
                true => next.node(&old.name).is_some(),
                false => next.pod(&old.namespace, &old.name).is_some(),
            };
            if stays && !is_new {
                next.insert(Arc::clone(old));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use heapster_core::catalogue::metric;
    use heapster_core::{MetricSet, MetricValue, NanoTime};

    use super::*;

    const RULES: Rules = Rules { resolution: Duration::from_secs(60) };

    /// A batch at that second in which every key has spent as many seconds of CPU.
    fn batch(seconds: i64, sets: &[(EntityKey, &str)]) -> DataBatch {
        let mut batch = DataBatch::new(Timestamp::from_millis(seconds * 1000));
        for (key, node) in sets {
            let mut set = MetricSet::new(key.entity_type());
            set.labels.set_static(key::NODENAME, *node);
            set.scrape_time = NanoTime::from_seconds(seconds);
            set.metrics
                .set_static(metric::CPU_USAGE, MetricValue::cumulative(seconds * 1_000_000_000));
            set.metrics.set_static(metric::MEMORY_WORKING_SET, MetricValue::gauge(1));
            batch.sets.insert(key.clone(), set);
        }
        batch
    }

    fn shown(board: &Board) -> String {
        let pods = board.pods(None).flat_map(|pod| {
            pod.usages().map(move |(name, usage)| {
                format!("{}/{} {} ", pod.name, name, usage.window_nanos / 1_000_000_000)
            })
        });
        let nodes = board.nodes().flat_map(|node| {
            node.usages()
                .map(|(_, usage)| format!("{} {} ", node.name, usage.window_nanos / 1_000_000_000))
        });
        nodes.chain(pods).collect()
    }

    #[test]
    fn a_node_that_does_not_answer_keeps_its_numbers_for_three_intervals() {
        let c = |pod: &str, name: &str, node: &'static str| {
            (EntityKey::pod_container("d", pod, name), node)
        };
        let (n1, n2) = ((EntityKey::node("n1"), "n1"), (EntityKey::node("n2"), "n2"));
        let all = [n1.clone(), n2, c("p", "a", "n1"), c("p", "b", "n1"), c("q", "a", "n2")];
        let board = Board::default().after(&batch(60, &all), RULES).after(&batch(120, &all), RULES);
        assert_eq!(shown(&board), "n1 60 n2 60 p/a 60 p/b 60 q/a 60 ");

        // One container ended; the other node is silent.
        let some = [n1, c("p", "a", "n1")];
        let mut board = board.after(&batch(180, &some), RULES);
        assert_eq!(shown(&board), "n1 60 n2 60 p/a 60 q/a 60 ");
        for seconds in [240, 300] {
            board = board.after(&batch(seconds, &some), RULES);
            assert!(board.node("n2").is_some() && board.pod("d", "q").is_some(), "{seconds}");
        }
        let board = board.after(&batch(360, &some), RULES);
        assert_eq!(shown(&board), "n1 60 p/a 60 ");
        let node = board.node("n1").unwrap();
        assert!(node.is_current(Timestamp::from_millis(540_000), RULES));
        assert!(!node.is_current(Timestamp::from_millis(540_001), RULES));
    }
}
