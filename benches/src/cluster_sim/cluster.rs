//! The simulated cluster as a whole: nodes with their pods, the registry that lists them, and what
//! may happen to them.

use std::collections::HashMap;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::SimOptions;
use super::model::{Maker, Node};
use super::objects::{self, Phase};
use super::random::Random;
use super::registry::{Kind, Registry};
use super::summary::SummaryTemplates;

/// Replacements that are made at once when the clock leaps ahead.
const REPLACEMENTS_PER_STEP_MAX: u64 = 10_000;

/// A node with the text of its answers.
struct Inhabited {
    node: Node,
    templates: SummaryTemplates,
    /// How often the pod of each slot was replaced; slots and pods go together.
    generations: Vec<(usize, u64)>,
    answer_bytes: usize,
}

struct Seat {
    inhabited: Mutex<Inhabited>,
    is_hung: watch::Sender<bool>,
}

/// Pods are replaced at an even pace.
struct Churn {
    random: Random,
    per_hour: u64,
    started_at: i64,
    done: u64,
}

/// A request that names nothing there is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoSuch(pub(crate) String);

/// The simulated cluster.
pub(crate) struct Cluster {
    maker: Maker,
    seats: Vec<Seat>,
    by_name: HashMap<String, usize>,
    churn: Mutex<Churn>,
    pub(crate) registry: Registry,
}

impl Cluster {
    /// The cluster of the options as it stands at `now`, seconds since the epoch.
    pub(crate) fn new(options: &SimOptions, now: i64) -> Self {
        let maker = Maker::new(options);
        let registry = Registry::new();
        for name in &maker.namespaces {
            let uid = maker.namespace_uid(name);
            registry.put(Kind::Namespaces, objects::namespace(name, &uid, now - 90 * 86_400));
        }
        let mut seats = Vec::with_capacity(options.nodes);
        let mut by_name = HashMap::new();
        for index in 0..options.nodes {
            let node = maker.node(index, now);
            by_name.insert(node.name.clone(), index);
            registry.put(Kind::Nodes, objects::node(&node));
            for pod in &node.pods {
                registry.put(Kind::Pods, objects::pod(pod, &node.name, Phase::Running));
            }
            let inhabited = Inhabited {
                templates: SummaryTemplates::new(&node),
                generations: (0..node.pods.len()).map(|slot| (slot, 0)).collect(),
                answer_bytes: 4096,
                node,
            };
            seats.push(Seat { inhabited: inhabited.into(), is_hung: watch::Sender::new(false) });
        }
        let churn = Churn {
            random: Random::of(options.seed, "churn"),
            per_hour: options.churn,
            started_at: now,
            done: 0,
        };
        Self { maker, seats, by_name, churn: churn.into(), registry }
    }

    /// How many nodes there are.
    pub(crate) fn node_count(&self) -> usize {
        self.seats.len()
    }

    /// The answer of a node's kubelet at `now`.
    pub(crate) fn summary(&self, node: usize, now: i64) -> Option<Bytes> {
        let mut guard = self.seats.get(node)?.inhabited.lock();
        let inhabited = &mut *guard;
        inhabited.node.advance(now);
        // Room for some more digits than last time, so that the answer is written without copies.
        let mut out = Vec::with_capacity(inhabited.answer_bytes + 1024);
        inhabited.templates.render(&inhabited.node, &mut out);
        inhabited.answer_bytes = out.len();
        Some(out.into())
    }

    /// Waits until the node's kubelet is not hung.
    pub(crate) async fn until_awake(&self, node: usize) {
        if let Some(seat) = self.seats.get(node) {
            // Fails only when the sender is gone, and the seat holds it.
            let _ = seat.is_hung.subscribe().wait_for(|is_hung| !is_hung).await;
        }
    }

    /// Makes kubelets hang or answer again: one by name, or all.
    pub(crate) fn set_hung(&self, node: Option<&str>, is_hung: bool) -> Result<(), NoSuch> {
        let seats = match node {
            None => &self.seats[..],
            Some(name) => std::slice::from_ref(&self.seats[self.index_of(name)?]),
        };
        for seat in seats {
            seat.is_hung.send_replace(is_hung);
        }
        Ok(())
    }

    /// Deletes a pod for good.
    pub(crate) fn delete_pod(&self, namespace: &str, name: &str) -> Result<(), NoSuch> {
        self.with_pod(namespace, name, |inhabited, position| {
            inhabited.node.pods.remove(position);
            inhabited.generations.remove(position);
            inhabited.templates.remove_pod(position);
        })?;
        self.registry.delete(Kind::Pods, &format!("{namespace}/{name}"));
        Ok(())
    }

    /// Restarts a pod's containers at `now`.
    pub(crate) fn restart_pod(&self, namespace: &str, name: &str, now: i64) -> Result<(), NoSuch> {
        let object = self.with_pod(namespace, name, |inhabited, position| {
            inhabited.node.advance(now);
            inhabited.node.pods[position].restart(now);
            let pod = &inhabited.node.pods[position];
            objects::pod(pod, &inhabited.node.name, Phase::Running)
        })?;
        self.registry.put(Kind::Pods, object);
        Ok(())
    }

    /// Replaces as many pods as have become due by `now`; returns how many.
    pub(crate) fn step_churn(&self, now: i64) -> u64 {
        let mut churn = self.churn.lock();
        let elapsed = u64::try_from(now - churn.started_at).unwrap_or(0);
        let due = (elapsed.saturating_mul(churn.per_hour) / 3600).saturating_sub(churn.done);
        churn.done += due;
        let made = due.min(REPLACEMENTS_PER_STEP_MAX);
        for _ in 0..made {
            let node = churn.random.below(self.seats.len() as u64) as usize;
            let choice = churn.random.next();
            self.replace_pod(node, choice, now);
        }
        made
    }

    fn replace_pod(&self, node_index: usize, choice: u64, now: i64) {
        let Some(seat) = self.seats.get(node_index) else { return };
        let mut guard = seat.inhabited.lock();
        let inhabited = &mut *guard;
        if inhabited.node.pods.is_empty() {
            return;
        }
        let position = choice as usize % inhabited.node.pods.len();
        let (slot, generation) = &mut inhabited.generations[position];
        *generation += 1;
        let pod = self.maker.pod(node_index, *slot, *generation, 1000, now);
        let old = std::mem::replace(&mut inhabited.node.pods[position], pod);
        inhabited.templates.replace_pod(position, &inhabited.node);
        let (pod, node_name) = (&inhabited.node.pods[position], &inhabited.node.name);
        let phases =
            [Phase::Pending, Phase::Running].map(|phase| objects::pod(pod, node_name, phase));
        drop(guard);
        self.registry.delete(Kind::Pods, &format!("{}/{}", old.namespace, old.name));
        for object in phases {
            self.registry.put(Kind::Pods, object);
        }
    }

    fn with_pod<R>(
        &self,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Inhabited, usize) -> R,
    ) -> Result<R, NoSuch> {
        let key = format!("{namespace}/{name}");
        let stored = self.registry.get(Kind::Pods, &key).ok_or_else(|| NoSuch(key.clone()))?;
        let mut inhabited = self.seats[self.index_of(&stored.node_name)?].inhabited.lock();
        let is_it = |pod: &super::model::Pod| pod.namespace == namespace && pod.name == name;
        let position = inhabited.node.pods.iter().position(is_it).ok_or(NoSuch(key))?;
        Ok(change(&mut inhabited, position))
    }

    fn index_of(&self, node: &str) -> Result<usize, NoSuch> {
        self.by_name.get(node).copied().ok_or_else(|| NoSuch(node.to_owned()))
    }
}
