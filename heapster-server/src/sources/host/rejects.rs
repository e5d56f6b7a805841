//! [`Rejects`]: what could not be used in one scrape, counted by kind so that a thousand cgroups
//! with one fault make one line in the log.

use std::fmt::Display;

/// Kinds of faults, each with a count and its first example.
#[derive(Debug, Default)]
pub(super) struct Rejects(Vec<Reject>);

#[derive(Debug)]
struct Reject {
    kind: &'static str,
    count: usize,
    example: String,
}

impl Rejects {
    /// Counts one fault. The example is only made for the first of its kind.
    pub fn add(&mut self, kind: &'static str, example: impl Display) {
        self.add_many(kind, 1, example);
    }

    /// Counts several faults at once.
    pub fn add_many(&mut self, kind: &'static str, count: usize, example: impl Display) {
        match self.0.iter_mut().find(|reject| reject.kind == kind) {
            Some(reject) => reject.count += count,
            None => self.0.push(Reject { kind, count, example: example.to_string() }),
        }
    }

    /// One clause per kind.
    pub fn into_clauses(self) -> Vec<String> {
        self.0
            .into_iter()
            .map(|Reject { kind, count, example }| format!("{kind} ({count}, first: {example})"))
            .collect()
    }
}
