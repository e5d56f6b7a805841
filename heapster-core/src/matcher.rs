//! [`Matcher`]: one condition on a label. An absent label matches like an empty one.

use std::fmt;
use std::slice;
use std::sync::Arc;

use crate::Text;
use crate::error::ParseError;
use crate::pattern::{Pattern, Shape};

/// One condition on the value of one label: `=`, `!=`, `=~` or `!~`.
///
/// Patterns are anchored at both ends, as in Prometheus. An absent label has the value `""`, so
/// `Matcher::equal("pod_name", "")` selects the sets without a pod.
#[derive(Clone)]
pub struct Matcher {
    name: Text,
    test: Test,
}

#[derive(Clone)]
enum Test {
    Equal(Text),
    NotEqual(Text),
    Regex(Arc<Pattern>),
    NotRegex(Arc<Pattern>),
}

/// What a matcher demands, for an index that can answer equality without looking at values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchOp<'a> {
    /// The value is this text; the empty text also selects sets without the label.
    Equal(&'a str),
    /// The value is not this text.
    NotEqual(&'a str),
    /// The whole value matches this pattern.
    Regex(&'a str),
    /// The whole value does not match this pattern.
    NotRegex(&'a str),
}

/// The texts that a matcher's text or pattern stands for, for an index that wants to look at few
/// values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchTexts<'a> {
    /// Every text, the empty one included.
    Any,
    /// These and no others; sorted, each once.
    These(&'a [Text]),
    /// Only such as begin with this text, which may be empty. Which of them is for
    /// [`Matcher::matches`] to say.
    BeginningWith(&'a str),
}

impl Matcher {
    /// `name="value"`.
    pub fn equal(name: impl Into<Text>, value: impl Into<Text>) -> Self {
        Self { name: name.into(), test: Test::Equal(value.into()) }
    }

    /// `name!="value"`.
    pub fn not_equal(name: impl Into<Text>, value: impl Into<Text>) -> Self {
        Self { name: name.into(), test: Test::NotEqual(value.into()) }
    }

    /// `name=~"pattern"`.
    ///
    /// # Errors
    /// [`ParseError`] when the pattern does not compile or compiles to more than 1 MiB.
    pub fn regex(name: impl Into<Text>, pattern: impl Into<Text>) -> Result<Self, ParseError> {
        let pattern = Arc::new(Pattern::new(pattern.into())?);
        Ok(Self { name: name.into(), test: Test::Regex(pattern) })
    }

    /// `name!~"pattern"`.
    ///
    /// # Errors
    /// [`ParseError`] when the pattern does not compile or compiles to more than 1 MiB.
    pub fn not_regex(name: impl Into<Text>, pattern: impl Into<Text>) -> Result<Self, ParseError> {
        let pattern = Arc::new(Pattern::new(pattern.into())?);
        Ok(Self { name: name.into(), test: Test::NotRegex(pattern) })
    }

    /// The label's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is demanded of the label's value.
    pub fn op(&self) -> MatchOp<'_> {
        match &self.test {
            Test::Equal(value) => MatchOp::Equal(value),
            Test::NotEqual(value) => MatchOp::NotEqual(value),
            Test::Regex(pattern) => MatchOp::Regex(&pattern.text),
            Test::NotRegex(pattern) => MatchOp::NotRegex(&pattern.text),
        }
    }

    /// The texts that the matcher's text or pattern stands for: those that satisfy it, or, when
    /// [`Matcher::is_negative`], those that do not.
    pub fn texts(&self) -> MatchTexts<'_> {
        match &self.test {
            Test::Equal(text) | Test::NotEqual(text) => MatchTexts::These(slice::from_ref(text)),
            Test::Regex(pattern) | Test::NotRegex(pattern) => match &pattern.shape {
                Shape::Any => MatchTexts::Any,
                Shape::These(texts) => MatchTexts::These(texts),
                Shape::Begins { prefix, .. } | Shape::Other { prefix } => {
                    MatchTexts::BeginningWith(prefix)
                }
            },
        }
    }

    /// Whether it is `!=` or `!~`.
    pub fn is_negative(&self) -> bool {
        matches!(self.test, Test::NotEqual(_) | Test::NotRegex(_))
    }

    /// Whether a label value satisfies the matcher; pass `""` for an absent label.
    pub fn matches(&self, value: &str) -> bool {
        match &self.test {
            Test::Equal(wanted) => wanted == value,
            Test::NotEqual(unwanted) => unwanted != value,
            Test::Regex(pattern) => pattern.matches(value),
            Test::NotRegex(pattern) => !pattern.matches(value),
        }
    }

    /// Whether sets without the label satisfy the matcher.
    pub fn matches_absent(&self) -> bool {
        self.matches("")
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.op() == other.op()
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (op, text) = match self.op() {
            MatchOp::Equal(value) => ("=", value),
            MatchOp::NotEqual(value) => ("!=", value),
            MatchOp::Regex(pattern) => ("=~", pattern),
            MatchOp::NotRegex(pattern) => ("!~", pattern),
        };
        write!(f, "{}{op}{text:?}", self.name)
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_anchored_at_both_ends() {
        let matcher = Matcher::regex("pod", "web-.|db").unwrap();
        assert!(matcher.matches("web-1") && matcher.matches("db"));
        assert!(!matcher.matches("my-db") && !matcher.matches("web-10"));
    }

    #[test]
    fn an_absent_label_matches_like_an_empty_one() {
        assert!(Matcher::equal("a", "").matches_absent());
        assert!(Matcher::not_equal("a", "x").matches_absent());
        assert!(Matcher::regex("a", ".*").unwrap().matches_absent());
        assert!(!Matcher::regex("a", ".+").unwrap().matches_absent());
    }

    #[test]
    fn a_pattern_that_would_cost_much_memory_is_refused() {
        assert!(Matcher::regex("a", "(").is_err());
        assert!(Matcher::regex("a", "[a-z]{1000}{1000}").is_err());
    }
}
