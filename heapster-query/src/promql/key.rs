//! [`Key`]: what identifies a series while it is computed with.

use heapster_core::{Labels, Text};

/// The label of a metric's name.
pub(super) const NAME: &str = "__name__";

/// A metric's name, if it is still there, and the other labels.
///
/// They are apart because nearly every function drops the name and leaves the labels as they are,
/// which then costs nothing. No label is empty: in PromQL that is an absent one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub name: Option<Text>,
    pub labels: Labels,
}

impl Key {
    /// The value of a label, `""` when absent.
    pub fn value(&self, label: &str) -> &str {
        if label == NAME { self.name.as_deref().unwrap_or("") } else { self.labels.value(label) }
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, label: &Text, value: &str) {
        let is_name = *label == NAME;
        match (is_name, value.is_empty()) {
            (true, true) => self.name = None,
            (true, false) => self.name = Some(Text::from(value)),
            (false, true) => drop(self.labels.remove(label)),
            (false, false) => self.labels.set(label.clone(), value),
        }
    }

    /// Of these labels, those of the list.
    pub fn only(&self, list: &[Text]) -> Self {
        // Texts are shared, not copied: a query may have made long ones.
        let asked = list.iter().filter(|label| **label != NAME);
        let pairs =
            asked.filter_map(|label| Some((label.clone(), self.labels.get(label)?.clone())));
        let labels: Labels = pairs.filter(|(_, value)| !value.is_empty()).collect();
        let has_name = list.iter().any(|label| *label == NAME);
        Self { name: self.name.clone().filter(|_| has_name), labels }
    }

    /// Of these labels, those not of the list; the name goes in any case.
    pub fn except(&self, list: &[Text]) -> Self {
        let mut labels = self.labels.clone();
        for label in list {
            if labels.contains(label) {
                labels.remove(label);
            }
        }
        Self { name: None, labels }
    }

    /// All labels, the name among them.
    pub fn to_labels(&self) -> Labels {
        let mut labels = self.labels.clone();
        if let Some(name) = &self.name {
            labels.set_static(NAME, name.clone());
        }
        labels
    }
}

/// As Prometheus prints labels in errors: `{__name__="up", job="a"}`.
impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let labels = self.to_labels();
        let parts: Vec<String> = labels
            .iter()
            .map(|one| format!("{}={}", one.name, super::language::quoted(&one.value)))
            .collect();
        write!(f, "{{{}}}", parts.join(", "))
    }
}
