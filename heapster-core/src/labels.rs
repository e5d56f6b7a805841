//! [`Labels`]: the sorted label set that identifies a metric set, and the label keys Heapster uses.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as Memory};

use crate::Text;

/// Label keys of Heapster's model.
pub mod key {
    /// Type of the metric set: one of [`crate::EntityType`]'s words. Present on every set.
    pub const TYPE: &str = "type";
    /// API name of the node.
    pub const NODENAME: &str = "nodename";
    /// Host name of the node, the node's name unless it has a Hostname address.
    pub const HOSTNAME: &str = "hostname";
    /// Identifier specific to a host, set by cloud provider or user; may be empty.
    pub const HOST_ID: &str = "host_id";
    /// UID of the pod.
    pub const POD_ID: &str = "pod_id";
    /// Name of the pod.
    pub const POD_NAME: &str = "pod_name";
    /// Name of the namespace.
    pub const NAMESPACE_NAME: &str = "namespace_name";
    /// UID of the namespace.
    pub const NAMESPACE_ID: &str = "namespace_id";
    /// Name of the container.
    pub const CONTAINER_NAME: &str = "container_name";
    /// Image the container runs.
    pub const CONTAINER_BASE_IMAGE: &str = "container_base_image";
    /// The user's labels, joined into one text.
    pub const LABELS: &str = "labels";
    /// Whether the node takes new pods (legacy source only).
    pub const SCHEDULABLE: &str = "schedulable";
    /// What a labelled metric is about: a file system, a volume, a device.
    pub const RESOURCE_ID: &str = "resource_id";
    /// Make of an accelerator.
    pub const MAKE: &str = "make";
    /// Model of an accelerator.
    pub const MODEL: &str = "model";
    /// ID of an accelerator.
    pub const ACCELERATOR_ID: &str = "accelerator_id";
    /// Reserved: the comma-joined names of the labels that belong to a labelled metric rather than
    /// to its set. Only stored series carry it; it tells `filesystem/usage{resource_id="/"}` of a
    /// pod apart from a plain metric of a set that happens to have a label of that name.
    pub const LABELED: &str = "__labeled__";
}

/// One label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// The key; not empty.
    pub name: Text,
    /// The value. Heapster knows empty values (`host_id=""`), which differ from an absent label
    /// when printed, but match like an absent one.
    pub value: Text,
}

/// A set of labels, sorted by name, each name at most once.
///
/// Two label sets are equal when they hold the same names with the same values. A clone shares the
/// labels until one of the two is changed: a batch holds the same sets many times over.
#[derive(Clone, Default)]
pub struct Labels(Option<Arc<Shared>>);

/// What clones share.
#[derive(Default)]
struct Shared {
    labels: Vec<Label>,
    /// Number of these labels; 0 until somebody asks.
    identity: AtomicU64,
}

/// The next [`Labels::identity`].
static IDENTITIES: AtomicU64 = AtomicU64::new(1);

/// Room for labels that enrichers add, left when a shared set is copied to be changed.
const SPARE_LABELS: usize = 4;

impl Labels {
    /// No labels.
    pub const fn new() -> Self {
        Self(None)
    }

    /// The value of a label, or `None` when the label is absent.
    pub fn get(&self, name: &str) -> Option<&Text> {
        let labels = self.as_slice();
        position(labels, name).ok().map(|index| &labels[index].value)
    }

    /// The value of a label, or `""` when the label is absent.
    pub fn value(&self, name: &str) -> &str {
        self.get(name).map_or("", Text::as_str)
    }

    /// Whether the label is present, be it with an empty value.
    pub fn contains(&self, name: &str) -> bool {
        position(self.as_slice(), name).is_ok()
    }

    /// Sets a label, replacing its value if it is there already.
    pub fn set(&mut self, name: impl Into<Text>, value: impl Into<Text>) {
        let (name, value) = (name.into(), value.into());
        match position(self.as_slice(), &name) {
            Ok(index) if self.as_slice()[index].value == value => {}
            Ok(index) => self.own()[index].value = value,
            Err(index) => self.own().insert(index, Label { name, value }),
        }
    }

    /// Sets a label whose name is known at compile time, without allocating for the name.
    pub fn set_static(&mut self, name: &'static str, value: impl Into<Text>) {
        self.set(Text::from_static(name), value);
    }

    /// Removes a label and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<Text> {
        let index = position(self.as_slice(), name).ok()?;
        Some(self.own().remove(index).value)
    }

    /// These labels and others, which win where a name is in both.
    #[must_use]
    pub fn union(&self, others: &Self) -> Self {
        let mut all = Vec::with_capacity(self.len() + others.len());
        let mut own = self.iter().peekable();
        for other in others {
            while let Some(label) = own.next_if(|label| label.name < other.name) {
                all.push(label.clone());
            }
            own.next_if(|label| label.name == other.name);
            all.push(other.clone());
        }
        all.extend(own.cloned());
        Self(Some(Arc::new(Shared { labels: all, identity: AtomicU64::new(0) })))
    }

    /// A number that these labels and their unchanged clones have and no others will have while the
    /// process runs; `None` for labels without storage, which are empty.
    ///
    /// Whoever remembers it recognises the labels with one comparison and without keeping them in
    /// memory. Equal labels that were made apart have different numbers.
    pub fn identity(&self) -> Option<NonZeroU64> {
        let identity = &self.0.as_ref()?.identity;
        if let Some(known) = NonZeroU64::new(identity.load(Memory::Relaxed)) {
            return Some(known);
        }
        let new = IDENTITIES.fetch_add(1, Memory::Relaxed);
        match identity.compare_exchange(0, new, Memory::Relaxed, Memory::Relaxed) {
            Ok(_) => NonZeroU64::new(new),
            Err(other) => NonZeroU64::new(other),
        }
    }

    /// The labels in the order of their names.
    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.as_slice().iter()
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    fn as_slice(&self) -> &[Label] {
        self.0.as_deref().map_or(&[], |shared| &shared.labels)
    }

    /// The labels to change: a copy of its own if they are shared.
    fn own(&mut self) -> &mut Vec<Label> {
        let shared = self.0.get_or_insert_default();
        if Arc::get_mut(shared).is_none() {
            let mut labels = Vec::with_capacity(shared.labels.len() + SPARE_LABELS);
            labels.extend(shared.labels.iter().cloned());
            *shared = Arc::new(Shared { labels, identity: AtomicU64::new(0) });
        }
        let own = Arc::get_mut(shared).expect("bug: labels that were just copied are shared");
        *own.identity.get_mut() = 0;
        &mut own.labels
    }
}

fn position(labels: &[Label], name: &str) -> Result<usize, usize> {
    labels.binary_search_by(|label| label.name.as_str().cmp(name))
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        let is_shared = matches!((&self.0, &other.0), (Some(a), Some(b)) if Arc::ptr_eq(a, b));
        is_shared || self.as_slice() == other.as_slice()
    }
}

impl Eq for Labels {}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

/// Collects labels in any order; of two with one name the later wins.
impl<N: Into<Text>, V: Into<Text>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter();
        let mut sorted: Vec<Label> = Vec::with_capacity(pairs.size_hint().0);
        for (name, value) in pairs {
            let (name, value) = (name.into(), value.into());
            if sorted.last().is_none_or(|last| last.name < name) {
                sorted.push(Label { name, value });
                continue;
            }
            match position(&sorted, &name) {
                Ok(index) => sorted[index].value = value,
                Err(index) => sorted.insert(index, Label { name, value }),
            }
        }
        Self(Some(Arc::new(Shared { labels: sorted, identity: AtomicU64::new(0) })))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = &'a Label;
    type IntoIter = std::slice::Iter<'a, Label>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// `{name="value", …}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, label) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}={:?}", label.name, label.value.as_str())?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_and_unique_whatever_the_order_they_came_in() {
        let labels = Labels::from_iter([("b", "2"), ("a", "1"), ("b", "3")]);
        assert_eq!(labels.to_string(), r#"{a="1", b="3"}"#);
        assert_eq!(labels, Labels::from_iter([("a", "1"), ("b", "3")]));
        assert_eq!((labels.value("b"), labels.value("c")), ("3", ""));
    }

    #[test]
    fn a_change_to_a_clone_leaves_the_original_alone() {
        let labels = Labels::from_iter([("a", "1"), ("b", "2")]);
        let mut clone = labels.clone();
        clone.set("b", "3");
        clone.remove("a");
        assert_eq!(labels.to_string(), r#"{a="1", b="2"}"#);
        assert_eq!(clone.to_string(), r#"{b="3"}"#);
    }

    #[test]
    fn an_identity_is_that_of_clones_and_goes_with_the_first_change() {
        let labels = Labels::from_iter([("a", "1")]);
        let mut clone = labels.clone();
        let identity = labels.identity();
        assert!(identity.is_some() && clone.identity() == identity);
        clone.set("a", "1");
        assert_eq!(clone.identity(), identity, "nothing was changed");
        clone.set("a", "2");
        assert_ne!(clone.identity(), identity);
        let second = clone.identity();
        clone.set("a", "1");
        assert_ne!(clone.identity(), second, "its own labels were changed in place");
        assert_eq!(clone, labels);
        assert_ne!(clone.identity(), labels.identity());
        assert_eq!(Labels::new().identity(), None);
    }

    #[test]
    fn in_a_union_the_others_win() {
        let labels = Labels::from_iter([("b", "1"), ("d", "1"), ("f", "1")]);
        let others = Labels::from_iter([("a", "2"), ("d", "2"), ("g", "2")]);
        let all = Labels::from_iter([("a", "2"), ("b", "1"), ("d", "2"), ("f", "1"), ("g", "2")]);
        assert_eq!(labels.union(&others), all);
        assert_eq!(labels.union(&Labels::new()), labels);
        assert_eq!(Labels::new().union(&labels), labels);
    }

    #[test]
    fn a_removed_label_is_gone() {
        let mut labels = Labels::from_iter([("a", "1"), ("b", "2")]);
        assert_eq!(labels.remove("a").as_deref(), Some("1"));
        assert_eq!(labels.remove("a"), None);
        assert_eq!(labels.len(), 1);
    }
}
