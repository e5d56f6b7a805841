//! [`Labels`]: the sorted label set that identifies a metric set, and the label keys Heapster uses.

use std::fmt;

use crate::Text;

/// Label keys of Heapster's model (contract section 1.3).
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
/// Two label sets are equal when they hold the same names with the same values.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Vec<Label>);

impl Labels {
    /// No labels.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The value of a label, or `None` when the label is absent.
    pub fn get(&self, name: &str) -> Option<&Text> {
        self.position(name).ok().map(|index| &self.0[index].value)
    }

    /// The value of a label, or `""` when the label is absent.
    pub fn value(&self, name: &str) -> &str {
        self.get(name).map_or("", Text::as_str)
    }

    /// Whether the label is present, be it with an empty value.
    pub fn contains(&self, name: &str) -> bool {
        self.position(name).is_ok()
    }

    /// Sets a label, replacing its value if it is there already.
    pub fn set(&mut self, name: impl Into<Text>, value: impl Into<Text>) {
        let (name, value) = (name.into(), value.into());
        match self.position(&name) {
            Ok(index) => self.0[index].value = value,
            Err(index) => self.0.insert(index, Label { name, value }),
        }
    }

    /// Sets a label whose name is known at compile time, without allocating for the name.
    pub fn set_static(&mut self, name: &'static str, value: impl Into<Text>) {
        self.set(Text::from_static(name), value);
    }

    /// Removes a label and returns its value.
    pub fn remove(&mut self, name: &str) -> Option<Text> {
        self.position(name).ok().map(|index| self.0.remove(index).value)
    }

    /// The labels in the order of their names.
    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.0.iter()
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|label| label.name.as_str().cmp(name))
    }
}

/// Collects labels in any order; of two with one name the later wins.
impl<N: Into<Text>, V: Into<Text>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut labels = Self::new();
        for (name, value) in pairs {
            labels.set(name, value);
        }
        labels
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = &'a Label;
    type IntoIter = std::slice::Iter<'a, Label>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// `{name="value", …}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, label) in self.0.iter().enumerate() {
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
    fn a_removed_label_is_gone() {
        let mut labels = Labels::from_iter([("a", "1"), ("b", "2")]);
        assert_eq!(labels.remove("a").as_deref(), Some("1"));
        assert_eq!(labels.remove("a"), None);
        assert_eq!(labels.len(), 1);
    }
}
