//! Errors of this crate: text that does not parse, and a processor that cannot go on.

use std::fmt;

/// A text that is not what it should be. The caller reports it to whoever wrote the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    what: &'static str,
    text: String,
    expected: String,
}

/// How much of a bad text an error repeats; the rest could be anything and of any length.
const SHOWN_CHARS_MAX: usize = 120;

impl ParseError {
    /// `what` names the thing, `text` is what was found, `expected` says what would be accepted.
    pub fn new(what: &'static str, text: &str, expected: impl Into<String>) -> Self {
        let text = text.chars().take(SHOWN_CHARS_MAX).collect();
        Self { what, text, expected: expected.into() }
    }

    /// The name of the thing that did not parse, such as "time" or "quantity".
    pub fn what(&self) -> &'static str {
        self.what
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not read {} {:?}: expected {}", self.what, self.text, self.expected)
    }
}

impl std::error::Error for ParseError {}

/// A processor met a batch it cannot process. The batch is dropped; the next one is tried afresh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// One metric is an integer in one set and a float in another, so no sum is exact. Heapster's own
    /// aggregators leave such a sum out instead (decision 0004).
    #[error("could not sum {metric}: integer and float values are mixed")]
    MixedTypes {
        /// The metric's name.
        metric: crate::Text,
    },
}
