//! As many containers as wanted, with the labels that a collector gives them in Kubernetes.
//!
//! For what depends on the number of series rather than on their values: new series, memory. Every
//! batch has labels of its own making, as if they had just come out of a kubelet's answer, so that
//! what a store keeps is not shared with its caller.

use heapster_core::{
    DataBatch, EntityKey, EntityType, Labels, MetricSet, MetricValue, Timestamp, key, metric,
};

use crate::cluster_sim::random::Random;

/// Containers of one node.
const PER_NODE: usize = 50;
/// Columns of a container.
pub const COLUMNS_OF_CONTAINER: usize = 6;
const NAMESPACES: usize = 40;
const PAGE: i64 = 4096;

/// How many labels a set has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelSize {
    /// Five short ones, as in the generated data set.
    Short,
    /// Twelve, among them two UIDs, an image and the user's labels: 450 bytes.
    Kubernetes,
}

/// How containers are replaced: 83 % never, 15 % once, 2 % every hour.
#[derive(Clone, Copy, Debug)]
pub struct Churn {
    /// Scrapes of an hour.
    pub scrapes_per_hour: usize,
    /// Scrapes of the whole run.
    pub scrapes: usize,
}

/// A number of containers.
#[derive(Clone, Copy, Debug)]
pub struct Containers {
    /// How many live at a time.
    pub count: usize,
    /// Labels of each.
    pub labels: LabelSize,
    /// Whether they are replaced.
    pub churn: Option<Churn>,
}

impl Containers {
    /// Nodes they run on; a batch is of one node.
    pub fn nodes(&self) -> usize {
        self.count.div_ceil(PER_NODE)
    }

    /// Label sets that live at some time of the first `scrapes` scrapes.
    pub fn sets_until(&self, scrapes: usize) -> usize {
        (0..self.count).map(|index| self.life(index, scrapes.saturating_sub(1)) + 1).sum()
    }

    /// What one node tells in one scrape.
    pub fn batch(&self, node: usize, at: Timestamp, scrape: usize) -> DataBatch {
        let mut batch = DataBatch::new(at);
        for index in node * PER_NODE..((node + 1) * PER_NODE).min(self.count) {
            let (entity, set) = self.container(index, scrape);
            batch.sets.insert(entity, set);
        }
        batch
    }

    /// Which of the containers that follow each other at a place lives in a scrape.
    fn life(&self, index: usize, scrape: usize) -> usize {
        let Some(churn) = self.churn else { return 0 };
        let mut random = Random::of(index as u64, "churn");
        match random.below(100) {
            0..83 => 0,
            83..98 => {
                let tenth = churn.scrapes / 10;
                let at = tenth + random.below((churn.scrapes - 2 * tenth) as u64) as usize;
                usize::from(scrape >= at)
            }
            _ => scrape / churn.scrapes_per_hour.max(1),
        }
    }

    fn container(&self, index: usize, scrape: usize) -> (EntityKey, MetricSet) {
        let life = self.life(index, scrape);
        let mut random = Random::of((index as u64) << 16 | life as u64, "labels");
        let service = index % 400;
        let (namespace, node) = (index % NAMESPACES, index / PER_NODE);
        let (namespace, node) = (format!("team-{namespace:02}"), format!("node-{node:04}"));
        let hash = random.suffix(9);
        let pod = format!("svc-{service:03}-{hash}-{}", random.suffix(5));
        let container = ["api", "worker", "sidecar", "app", "db"][index % 5];
        let entity = EntityKey::pod_container(namespace.as_str(), pod.as_str(), container);
        let mut labels = Labels::new();
        labels.set_static(key::TYPE, EntityType::PodContainer.as_str());
        labels.set_static(key::CONTAINER_NAME, container);
        if self.labels == LabelSize::Kubernetes {
            let image =
                format!("registry.example.com/team/svc-{service:03}:2026.11.{}", index % 28);
            labels.set_static(key::CONTAINER_BASE_IMAGE, image);
            labels.set_static(key::HOSTNAME, format!("{node}.europe-west1-b.c.example.internal"));
            labels.set_static(key::HOST_ID, format!("gce://example/europe-west1-b/{node}"));
            let user = format!("app:svc-{service:03},pod-template-hash:{hash},tier:backend");
            labels.set_static(key::LABELS, user);
            let uid = Random::of(0, &namespace).uid();
            labels.set_static(key::NAMESPACE_ID, uid);
            labels.set_static(key::POD_ID, random.uid());
            labels.set_static(key::SCHEDULABLE, "true");
        }
        labels.set_static(key::NAMESPACE_NAME, namespace);
        labels.set_static(key::NODENAME, node);
        labels.set_static(key::POD_NAME, pod);
        let mut set = MetricSet { labels, ..MetricSet::default() };
        add_metrics(&mut set, index, scrape);
        (entity, set)
    }
}

/// Two of five containers idle: their counters creep and their memory rarely moves.
fn add_metrics(set: &mut MetricSet, index: usize, scrape: usize) {
    let mut fixed = Random::of(index as u64, "usage");
    let is_idle = fixed.chance(0.4);
    let step = |median: f64, fixed: &mut Random| fixed.lognormal(median, 0.9) as u64 + 1;
    let cpu_us = step(if is_idle { 2e4 } else { 5e6 }, &mut fixed);
    let (rx, tx) =
        if is_idle { (2_085, 2_660) } else { (step(4e5, &mut fixed), step(1e6, &mut fixed)) };
    let pages = step(if is_idle { 8e3 } else { 4e4 }, &mut fixed) as i64;
    // Up to a whole step more than the step that is due, so that counters rise and steps vary.
    let mut now = Random::of((index as u64) << 24 | scrape as u64, "now");
    let mut counter = |step: u64| (step * scrape as u64 + now.below(step)) as i64;
    let counters = [counter(cpu_us) * 1000, counter(rx), counter(tx)];
    // Idle memory moves in one scrape of eight.
    let held = if is_idle { (scrape + index) / 8 } else { scrape };
    let mut held = Random::of((index as u64) << 24 | held as u64, "held");
    let rss = (pages + held.below(if is_idle { 6 } else { 400 }) as i64) * PAGE;
    let logs = (pages / 8 + (scrape * usize::from(!is_idle)) as i64) * PAGE;
    let [cpu, rx, tx] = counters.map(MetricValue::cumulative);
    set.metrics.set_static(metric::CPU_USAGE, cpu);
    set.metrics.set_static(metric::EPHEMERAL_STORAGE_USAGE, MetricValue::gauge(logs));
    set.metrics.set_static(metric::MEMORY_RSS, MetricValue::gauge(rss));
    set.metrics.set_static(metric::MEMORY_WORKING_SET, MetricValue::gauge(rss + pages * PAGE / 4));
    set.metrics.set_static(metric::NETWORK_RX, rx);
    set.metrics.set_static(metric::NETWORK_TX, tx);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_700_006_400_000);

    #[test]
    fn a_container_is_the_same_in_every_scrape_and_its_counters_rise() {
        let containers = Containers { count: 70, labels: LabelSize::Kubernetes, churn: None };
        assert_eq!((containers.nodes(), containers.sets_until(9)), (2, 70));
        let (first, second) = (containers.batch(1, AT, 7), containers.batch(1, AT, 8));
        assert_eq!(first.sets.len(), 20);
        for ((a, before), (b, after)) in first.sets.iter().zip(&second.sets) {
            assert_eq!((a, &before.labels), (b, &after.labels));
            assert_eq!((before.labels.len(), before.metrics.len()), (12, COLUMNS_OF_CONTAINER));
            for name in [metric::CPU_USAGE, metric::NETWORK_RX, metric::NETWORK_TX] {
                assert!(before.metrics.int(name) <= after.metrics.int(name), "{name}");
            }
        }
        let labels = first.sets.values().next().unwrap().labels.to_string();
        assert!((400..600).contains(&labels.len()), "{labels}");
    }

    #[test]
    fn some_containers_are_replaced_once_and_few_every_hour() {
        let churn = Churn { scrapes_per_hour: 2, scrapes: 48 };
        let containers = Containers { count: 1000, labels: LabelSize::Short, churn: Some(churn) };
        let mut sets = BTreeSet::new();
        for scrape in 0..48 {
            for node in 0..containers.nodes() {
                sets.extend(containers.batch(node, AT, scrape).sets.into_keys());
            }
        }
        assert_eq!(sets.len(), containers.sets_until(48));
        // 1000 + 15 % + 23 times 2 %.
        assert!((1400..1900).contains(&sets.len()), "{}", sets.len());
    }
}
