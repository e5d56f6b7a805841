//! [`LabelCopier`]: the user's labels of a Kubernetes object as labels of its metric set.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::ParseError;
use crate::{Labels, Text, key};

/// Copies a Kubernetes object's labels to a metric set: all of them joined into `labels`, and chosen
/// ones as labels of their own.
///
/// The joined text is `key:value` pairs, sorted bytewise as whole pairs. Nothing is escaped, so a
/// value that contains the separator cannot be told apart again.
#[derive(Clone, Debug)]
pub struct LabelCopier {
    separator: Text,
    stored: Vec<StoredLabel>,
    ignored: BTreeSet<Text>,
}

/// A label that is copied on its own.
#[derive(Clone, Debug)]
struct StoredLabel {
    /// Name in the metric set.
    name: Text,
    /// Name in Kubernetes.
    source: Text,
}

/// Labels that say which entity a set is of. A user's label in their place would make the set
/// another entity's.
const IDENTITY: [&str; 6] = [
    key::TYPE,
    key::NODENAME,
    key::NAMESPACE_NAME,
    key::POD_NAME,
    key::CONTAINER_NAME,
    key::LABELED,
];

impl LabelCopier {
    /// A copier that joins with `separator`, copies the `stored` labels on their own (each `name`
    /// or `new=old`), and keeps the `ignored` ones out of the joined text.
    ///
    /// An ignored label can still be a stored one.
    ///
    /// # Errors
    /// [`ParseError`] when a stored label lacks a name or would replace one that identifies the
    /// entity, such as `type` or `pod_name`.
    pub fn new<S: AsRef<str>, I: AsRef<str>>(
        separator: &str,
        stored: impl IntoIterator<Item = S>,
        ignored: impl IntoIterator<Item = I>,
    ) -> Result<Self, ParseError> {
        let stored = stored.into_iter().map(|text| StoredLabel::parse(text.as_ref()));
        Ok(Self {
            separator: separator.into(),
            stored: stored.collect::<Result<_, _>>()?,
            ignored: ignored.into_iter().map(|name| Text::from(name.as_ref())).collect(),
        })
    }

    /// Sets on `to` what this copier makes of the labels `from`. `labels` is always set.
    pub fn copy(&self, from: &BTreeMap<Text, Text>, to: &mut Labels) {
        self.read(from).write_to(to);
    }

    /// What this copier makes of the labels, to be written to several sets.
    pub(super) fn read(&self, from: &BTreeMap<Text, Text>) -> CopiedLabels {
        let stored = self.stored.iter().filter_map(|label| {
            from.get(&label.source).map(|value| (label.name.clone(), value.clone()))
        });
        CopiedLabels { joined: self.join(from), stored: stored.collect() }
    }

    fn join(&self, labels: &BTreeMap<Text, Text>) -> Text {
        let mut pairs: Vec<_> =
            labels.iter().filter(|(name, _)| !self.ignored.contains(*name)).collect();
        // The order of pairs is not that of names: `a-b:1` sorts before `a:1`.
        pairs.sort_by(|a, b| pair_bytes(*a).cmp(pair_bytes(*b)));
        let mut joined = String::new();
        for (index, (name, value)) in pairs.into_iter().enumerate() {
            if index > 0 {
                joined.push_str(&self.separator);
            }
            joined.push_str(name);
            joined.push(':');
            joined.push_str(value);
        }
        joined.into()
    }
}

/// Heapster's defaults: a comma, nothing stored, nothing ignored.
impl Default for LabelCopier {
    fn default() -> Self {
        Self { separator: Text::from_static(","), stored: Vec::new(), ignored: BTreeSet::new() }
    }
}

fn pair_bytes<'a>((name, value): (&'a Text, &'a Text)) -> impl Iterator<Item = u8> + 'a {
    name.bytes().chain([b':']).chain(value.bytes())
}

impl StoredLabel {
    fn parse(text: &str) -> Result<Self, ParseError> {
        let error = |expected| Err(ParseError::new("stored label", text, expected));
        let (name, source) = text.split_once('=').unwrap_or((text, text));
        if name.is_empty() || source.is_empty() {
            return error("name or new=old".to_owned());
        }
        if IDENTITY.contains(&name) {
            return error(format!(
                "a name that heapster does not need itself, such as user_{name}={source}"
            ));
        }
        Ok(Self { name: name.into(), source: source.into() })
    }
}

/// The labels a copier made of one object's.
pub(super) struct CopiedLabels {
    joined: Text,
    stored: Vec<(Text, Text)>,
}

impl CopiedLabels {
    pub(super) fn write_to(&self, labels: &mut Labels) {
        labels.set_static(key::LABELS, self.joined.clone());
        for (name, value) in &self.stored {
            labels.set(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(copier: &LabelCopier) -> String {
        let from = [("zone", "a"), ("app", "web"), ("app-tier", "front"), ("role", "x:y")];
        let from = from.map(|(name, value)| (Text::from(name), Text::from(value))).into();
        let mut labels = Labels::new();
        copier.copy(&from, &mut labels);
        labels.to_string()
    }

    fn copier(separator: &str, stored: &[&str], ignored: &[&str]) -> LabelCopier {
        LabelCopier::new(separator, stored, ignored).unwrap()
    }

    #[test]
    fn labels_are_joined_sorted_as_whole_pairs() {
        assert_eq!(
            copy(&LabelCopier::default()),
            r#"{labels="app-tier:front,app:web,role:x:y,zone:a"}"#
        );
        assert_eq!(
            copy(&copier("; ", &[], &[])),
            r#"{labels="app-tier:front; app:web; role:x:y; zone:a"}"#
        );
    }

    #[test]
    fn chosen_labels_are_stored_under_their_own_or_a_new_name() {
        assert_eq!(
            copy(&copier(",", &["app", "area=zone", "absent"], &["role", "app-tier", "zone"])),
            r#"{app="web", area="a", labels="app:web"}"#
        );
    }

    #[test]
    fn labels_is_set_even_when_nothing_is_left() {
        let all = ["zone", "app", "app-tier", "role"];
        assert_eq!(copy(&copier(",", &[], &all)), r#"{labels=""}"#);
    }

    #[test]
    fn a_stored_label_never_hides_whose_set_it_is() {
        for text in ["type", "type=app", "pod_name=app", "nodename", "", "=a", "a="] {
            let error = LabelCopier::new(",", [text], [""; 0]).unwrap_err();
            assert_eq!(error.what(), "stored label", "{text}");
        }
        assert!(LabelCopier::new(",", ["kind=type"], [""; 0]).is_ok());
    }
}
