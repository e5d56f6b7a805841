//! [`Rule`]: one step that changes the labels of a target or a series, or drops it.
//!
//! The rules and their defaults are Prometheus's (`model/relabel`), including where they surprise:
//! patterns are anchored at both ends, an empty result removes the label, and `hashmod` takes the last
//! eight bytes of an MD5 hash.

use std::collections::BTreeMap;

use md5::{Digest, Md5};
use regex::{Regex, RegexBuilder};

/// Limit of a compiled pattern.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// A label's value grows to so many bytes at most, whatever rules do.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// The labels of a target or a series while rules are applied, the name of a metric among them as
/// `__name__`. An empty value is no label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelMap(BTreeMap<String, String>);

impl LabelMap {
    /// The value of a label; empty when there is none.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Whether the label is there.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Sets a label, or removes it if the value is empty.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        if value.is_empty() {
            self.0.remove(&name);
        } else {
            self.0.insert(name, value);
        }
    }

    /// Removes a label and gives its value; empty when there was none.
    pub fn take(&mut self, name: &str) -> String {
        self.0.remove(name).unwrap_or_default()
    }

    /// The labels in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many labels there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps the labels whose names satisfy a condition.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.0.retain(|name, _| keep(name));
    }
}

/// Of two labels with one name the later wins; empty ones are none.
impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for LabelMap {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut labels = Self::default();
        for (name, value) in pairs {
            labels.set(name, value);
        }
        labels
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Sets a label where the pattern matches.
    #[default]
    Replace,
    /// Drops what the pattern does not match.
    Keep,
    /// Drops what the pattern matches.
    Drop,
    /// Drops what has not the value of the target label.
    KeepEqual,
    /// Drops what has the value of the target label.
    DropEqual,
    /// Sets a label to a hash, modulo a number.
    HashMod,
    /// Copies labels whose names match to other names.
    LabelMap,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names do not match.
    LabelKeep,
    /// Sets a label to the value in lower case.
    Lowercase,
    /// Sets a label to the value in upper case.
    Uppercase,
}

impl Action {
    /// The action of a word, whatever its case.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "replace" => Self::Replace,
            "keep" => Self::Keep,
            "drop" => Self::Drop,
            "keepequal" => Self::KeepEqual,
            "dropequal" => Self::DropEqual,
            "hashmod" => Self::HashMod,
            "labelmap" => Self::LabelMap,
            "labeldrop" => Self::LabelDrop,
            "labelkeep" => Self::LabelKeep,
            "lowercase" => Self::Lowercase,
            "uppercase" => Self::Uppercase,
            _ => return None,
        })
    }
}

/// What a rule is made of, as it is configured; see [`Rule::new`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleOptions {
    /// Labels whose values are joined.
    pub source_labels: Vec<String>,
    /// What they are joined with – default `;`.
    pub separator: Option<String>,
    /// The pattern – default `(.*)`.
    pub regex: Option<String>,
    /// What a hash is taken modulo of.
    pub modulus: u64,
    /// The label to set.
    pub target_label: String,
    /// What it is set to – default `$1`.
    pub replacement: Option<String>,
    /// What is done.
    pub action: Action,
}

/// One step that changes labels.
#[derive(Clone, Debug)]
pub struct Rule {
    source_labels: Vec<String>,
    separator: String,
    regex: Regex,
    modulus: u64,
    target_label: String,
    replacement: String,
    action: Action,
}

impl Rule {
    /// A rule.
    ///
    /// # Errors
    /// What does not go together: a clause.
    pub fn new(options: RuleOptions) -> Result<Self, String> {
        let RuleOptions { source_labels, separator, regex, modulus, target_label, .. } = options;
        let action = options.action;
        let has_pattern = regex.is_some();
        let pattern = regex.unwrap_or_else(|| "(.*)".to_owned());
        // By itself first: `a)|(b` must not get out of what it is wrapped in.
        let compile = |pattern: &str| {
            let mut builder = RegexBuilder::new(pattern);
            builder.dot_matches_new_line(true).size_limit(REGEX_BYTES_MAX);
            builder.build().map_err(|error| format!("the regex {pattern:?} is none: {error}"))
        };
        compile(&pattern)?;
        let regex = compile(&format!("^(?:{pattern})$"))?;
        let needs_target = matches!(
            action,
            Action::Replace
                | Action::HashMod
                | Action::Lowercase
                | Action::Uppercase
                | Action::KeepEqual
                | Action::DropEqual
        );
        if needs_target && target_label.is_empty() {
            return Err("it needs a target_label".to_owned());
        }
        if action == Action::HashMod && modulus == 0 {
            return Err("hashmod needs a modulus above 0".to_owned());
        }
        let has_others = has_pattern || modulus != 0 || options.replacement.is_some();
        match action {
            Action::KeepEqual | Action::DropEqual if has_others || separator.is_some() => {
                return Err("it takes source_labels and target_label only".to_owned());
            }
            Action::LabelDrop | Action::LabelKeep
                if !source_labels.is_empty()
                    || !target_label.is_empty()
                    || modulus != 0
                    || options.replacement.is_some()
                    || separator.is_some() =>
            {
                return Err("it takes a regex only".to_owned());
            }
            _ => {}
        }
        Ok(Self {
            source_labels,
            separator: separator.unwrap_or_else(|| ";".to_owned()),
            regex,
            modulus,
            target_label,
            replacement: options.replacement.unwrap_or_else(|| "$1".to_owned()),
            action,
        })
    }

    /// Changes labels; `false` when what they belong to is dropped.
    pub fn apply(&self, labels: &mut LabelMap) -> bool {
        let values: Vec<&str> = self.source_labels.iter().map(|name| labels.get(name)).collect();
        let value = values.join(&self.separator);
        match self.action {
            Action::Keep => return self.regex.is_match(&value),
            Action::Drop => return !self.regex.is_match(&value),
            Action::KeepEqual => return labels.get(&self.target_label) == value,
            Action::DropEqual => return labels.get(&self.target_label) != value,
            Action::Replace => self.replace(&value, labels),
            Action::HashMod => {
                let hash = Md5::digest(value.as_bytes());
                let mut last = [0; 8];
                last.copy_from_slice(&hash[8..]);
                let number = u64::from_be_bytes(last) % self.modulus;
                labels.set(&self.target_label, number.to_string());
            }
            Action::Lowercase => labels.set(&self.target_label, value.to_lowercase()),
            Action::Uppercase => labels.set(&self.target_label, value.to_uppercase()),
            Action::LabelMap => {
                let mut copies = Vec::new();
                for (name, value) in labels.iter().filter(|(name, _)| self.regex.is_match(name)) {
                    let renamed = self.regex.replace_all(name, self.replacement.as_str());
                    if !renamed.is_empty() {
                        copies.push((renamed.into_owned(), value.to_owned()));
                    }
                }
                copies.into_iter().for_each(|(name, value)| labels.set(name, value));
            }
            Action::LabelDrop => labels.retain(|name| !self.regex.is_match(name)),
            Action::LabelKeep => labels.retain(|name| self.regex.is_match(name)),
        }
        true
    }

    fn replace(&self, value: &str, labels: &mut LabelMap) {
        let Some(captures) = self.regex.captures(value) else { return };
        let (mut target, mut replaced) = (String::new(), String::new());
        captures.expand(&self.target_label, &mut target);
        if target.is_empty() {
            return;
        }
        captures.expand(&self.replacement, &mut replaced);
        if replaced.len() > VALUE_BYTES_MAX {
            return;
        }
        labels.set(target, replaced);
    }
}

/// Applies rules in their order; `false` as soon as one drops what the labels belong to.
pub fn relabel(rules: &[Rule], labels: &mut LabelMap) -> bool {
    rules.iter().all(|rule| rule.apply(labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> LabelMap {
        pairs.iter().copied().collect()
    }

    fn rule(action: Action, source: &[&str], regex: &str, target: &str, to: &str) -> RuleOptions {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        RuleOptions {
            source_labels: source.iter().map(|name| (*name).to_owned()).collect(),
            regex: given(regex),
            target_label: target.to_owned(),
            replacement: given(to),
            action,
            ..RuleOptions::default()
        }
    }

    /// The labels after a rule, or `None` when it drops them.
    fn applied(options: RuleOptions, before: &[(&str, &str)]) -> Option<LabelMap> {
        let mut after = labels(before);
        Rule::new(options).unwrap().apply(&mut after).then_some(after)
    }

    /// The cases of Prometheus's own tests (`model/relabel/relabel_test.go`), as facts.
    #[test]
    fn every_action_does_what_it_does_in_prometheus() {
        use Action::{Drop, DropEqual, Keep, KeepEqual, LabelDrop, LabelKeep, Lowercase, Replace};
        let abc = [("a", "foo"), ("b", "bar"), ("c", "baz")];
        let with = |more: &[(&str, &str)]| {
            let mut all = labels(&abc);
            more.iter().for_each(|(name, value)| all.set(*name, *value));
            Some(all)
        };
        assert_eq!(
            applied(rule(Replace, &["a"], "f(.*)", "d", "ch${1}-ch${1}"), &abc),
            with(&[("d", "choo-choo")])
        );
        assert_eq!(
            applied(rule(Replace, &["a", "b"], "f(.*);(.*)r", "a", "b${1}${2}m"), &abc),
            with(&[("a", "boobam")])
        );
        assert_eq!(applied(rule(Replace, &["b"], "nothing", "d", "x"), &abc), with(&[]));
        assert_eq!(
            applied(
                rule(Replace, &["a"], "some-([^-]+)-([^,]+)", "${1}", "${2}"),
                &[("a", "some-name-value")]
            ),
            Some(labels(&[("a", "some-name-value"), ("name", "value")]))
        );
        assert_eq!(
            applied(rule(Replace, &["x"], "", "a", ""), &abc),
            Some(labels(&[("b", "bar"), ("c", "baz")]))
        );
        assert_eq!(applied(rule(Drop, &["a"], ".*o.*", "", ""), &abc), None);
        assert_eq!(applied(rule(Drop, &["a"], "f", "", ""), &abc), with(&[]), "anchored");
        assert_eq!(applied(rule(Keep, &["a"], "no-match", "", ""), &abc), None);
        assert_eq!(applied(rule(Keep, &["a"], "fo+", "", ""), &abc), with(&[]));
        assert_eq!(
            applied(rule(KeepEqual, &["a"], "", "b", ""), &[("a", "x"), ("b", "x")]),
            Some(labels(&[("a", "x"), ("b", "x")]))
        );
        assert_eq!(applied(rule(KeepEqual, &["a"], "", "b", ""), &abc), None);
        assert_eq!(applied(rule(DropEqual, &["a"], "", "b", ""), &[("a", "x"), ("b", "x")]), None);
        assert_eq!(
            applied(rule(LabelDrop, &[], "(a|b)", "", ""), &abc),
            Some(labels(&[("c", "baz")]))
        );
        assert_eq!(applied(rule(LabelKeep, &[], "a", "", ""), &abc), Some(labels(&[("a", "foo")])));
        assert_eq!(
            applied(
                rule(Action::LabelMap, &[], "(b.*)", "", "bar_${1}"),
                &[("a", "foo"), ("b1", "bar"), ("b2", "baz")]
            ),
            Some(labels(&[
                ("a", "foo"),
                ("b1", "bar"),
                ("b2", "baz"),
                ("bar_b1", "bar"),
                ("bar_b2", "baz")
            ]))
        );
        assert_eq!(
            applied(rule(Lowercase, &["a"], "", "a", ""), &[("a", "BaR")]),
            Some(labels(&[("a", "bar")]))
        );
        assert_eq!(
            applied(rule(Action::Uppercase, &["a"], "", "b", ""), &[("a", "BaR")]),
            Some(labels(&[("a", "BaR"), ("b", "BAR")]))
        );
        let hash = |source: &[&str], pairs: &[(&str, &str)]| {
            let options =
                RuleOptions { modulus: 1000, ..rule(Action::HashMod, source, "", "d", "") };
            applied(options, pairs).unwrap().get("d").to_owned()
        };
        assert_eq!(hash(&["c"], &abc), "976");
        assert_eq!(hash(&["a"], &[("a", "foo\nbar")]), "734");
    }

    #[test]
    fn rules_that_cannot_work_are_refused() {
        for (options, error) in [
            (rule(Action::Replace, &["a"], "", "", ""), "it needs a target_label"),
            (rule(Action::HashMod, &["a"], "", "b", ""), "hashmod needs a modulus above 0"),
            (rule(Action::LabelDrop, &["a"], "x", "", ""), "it takes a regex only"),
            (
                rule(Action::KeepEqual, &["a"], "x", "b", ""),
                "it takes source_labels and target_label only",
            ),
        ] {
            assert_eq!(Rule::new(options).unwrap_err(), error);
        }
        for regex in ["(", "a)|(b", "[a-z]{1000}{1000}"] {
            assert!(Rule::new(rule(Action::Drop, &["a"], regex, "", "")).is_err(), "{regex}");
        }
    }

    #[test]
    fn a_value_does_not_grow_without_end() {
        let double = Rule::new(rule(Action::Replace, &["a"], "", "a", "$1$1")).unwrap();
        let mut labels = labels(&[("a", "x")]);
        for _ in 0..100 {
            assert!(double.apply(&mut labels));
        }
        assert_eq!(labels.get("a").len(), VALUE_BYTES_MAX);
    }
}
