//! [`Vocabulary`]: other names for what is stored.
//!
//! A metric is stored once, under one name and with one label set. Users know it under the names of
//! other programs too. A vocabulary says which stored column stands behind such a name, and how its
//! labels and values are turned into what the name promises.

mod kubernetes;

use std::fmt;
use std::sync::Arc;

use heapster_core::labels::key as label_key;
use heapster_core::{Labels, MatchOp, Matcher, Text};

pub use kubernetes::Kubernetes;

/// Resolves names of which no column is stored.
pub trait Vocabulary: fmt::Debug + Send + Sync {
    /// The columns that stand behind a name, in the order in which their series are given; none for
    /// a name that is not known. Two views must not give series with the same labels.
    fn views(&self, name: &str) -> Vec<Arc<View>>;

    /// The names it knows.
    fn names(&self) -> Vec<Text>;
}

/// Knows no other names.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoredNames;

impl Vocabulary for StoredNames {
    fn views(&self, _: &str) -> Vec<Arc<View>> {
        Vec::new()
    }

    fn names(&self) -> Vec<Text> {
        Vec::new()
    }
}

/// A stored column as another vocabulary sees it.
#[derive(Clone, Debug)]
pub struct View {
    column: Text,
    sets: Vec<Matcher>,
    labels: Vec<(Text, Source)>,
    scale: f64,
}

/// Where the value of a label comes from.
#[derive(Clone, Debug)]
enum Source {
    /// From a stored label.
    Stored(Text),
    /// It is always this.
    Fixed(Text),
}

impl View {
    /// The view of a column, with no labels yet and values as they are.
    pub fn new(column: impl Into<Text>) -> Self {
        Self { column: column.into(), sets: Vec::new(), labels: Vec::new(), scale: 1.0 }
    }

    /// Of sets that satisfy a matcher only.
    #[must_use]
    pub fn of(mut self, matcher: Matcher) -> Self {
        self.sets.push(matcher);
        self
    }

    /// With a label whose value is that of a stored one.
    #[must_use]
    pub fn label(mut self, name: impl Into<Text>, stored: impl Into<Text>) -> Self {
        self.labels.push((name.into(), Source::Stored(stored.into())));
        self
    }

    /// With a label that is always the same.
    #[must_use]
    pub fn fixed(mut self, name: impl Into<Text>, value: impl Into<Text>) -> Self {
        self.labels.push((name.into(), Source::Fixed(value.into())));
        self
    }

    /// With values times a factor, which turns the stored unit into the promised one.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        self.scale = factor;
        self
    }

    pub(super) fn column(&self) -> &Text {
        &self.column
    }

    pub(super) fn scale(&self) -> f64 {
        self.scale
    }

    /// Its labels whose values are stored, each with the stored label.
    pub(super) fn stored_labels(&self) -> impl Iterator<Item = (&Text, &Text)> {
        self.labels.iter().filter_map(|(name, source)| match source {
            Source::Stored(stored) => Some((name, stored)),
            Source::Fixed(_) => None,
        })
    }

    /// Its labels that are always the same, with their values.
    pub(super) fn fixed_labels(&self) -> impl Iterator<Item = (&Text, &Text)> {
        self.labels.iter().filter_map(|(name, source)| match source {
            Source::Fixed(value) => Some((name, value)),
            Source::Stored(_) => None,
        })
    }

    /// The labels of a stored set under this view, without empty ones.
    pub(super) fn labels(&self, stored: &Labels) -> Labels {
        let value = |source: &Source| match source {
            Source::Stored(name) => stored.get(name).cloned().unwrap_or_default(),
            Source::Fixed(value) => value.clone(),
        };
        let labels = self.labels.iter().map(|(name, source)| (name.clone(), value(source)));
        labels.filter(|(_, value)| !value.is_empty()).collect()
    }

    /// Conditions on stored labels that conditions on this view's come to; `None` when they cannot
    /// hold. They may let too much through: whoever selects looks at the labels again.
    pub(super) fn matchers(&self, asked: &[Matcher]) -> Option<Vec<Matcher>> {
        let mut matchers = self.sets.clone();
        for matcher in asked {
            let of_label = self.labels.iter().find(|(name, _)| name == matcher.name());
            match of_label {
                None if matcher.matches_absent() => {}
                Some((_, Source::Fixed(value))) if matcher.matches(value) => {}
                None | Some((_, Source::Fixed(_))) => return None,
                Some((_, Source::Stored(stored))) => matchers.extend(renamed(matcher, stored)),
            }
        }
        Some(matchers)
    }
}

/// The same condition on another label.
fn renamed(matcher: &Matcher, name: &Text) -> Option<Matcher> {
    match matcher.op() {
        MatchOp::Equal(value) => Some(Matcher::equal(name.clone(), value)),
        MatchOp::NotEqual(value) => Some(Matcher::not_equal(name.clone(), value)),
        MatchOp::Regex(pattern) => Matcher::regex(name.clone(), pattern).ok(),
        MatchOp::NotRegex(pattern) => Matcher::not_regex(name.clone(), pattern).ok(),
    }
}

/// Whether a name is written `asked` when all but letters, digits and colons become `_`.
pub fn is_underscored(name: &str, asked: &str) -> bool {
    let is_kept = |byte: u8| byte.is_ascii_alphanumeric() || byte == b':';
    name != asked
        && name.len() == asked.len()
        && name
            .bytes()
            .zip(asked.bytes())
            .all(|(own, other)| own == other || (other == b'_' && !is_kept(own)))
}

/// The condition that selects sets of plain metrics.
pub(super) fn plain_only() -> Matcher {
    Matcher::equal(label_key::LABELED, "")
}
