//! [`Rejects`]: the bounded list of what a decoder had to leave out.

use std::fmt::Display;

/// More lines than this help nobody; a hostile answer could ask for millions.
const LINES_MAX: usize = 50;

/// One clause for each piece of an answer that was not usable; the count goes on when the list is
/// full.
#[derive(Debug, Default)]
pub(super) struct Rejects {
    lines: Vec<String>,
    more: usize,
}

impl Rejects {
    /// Notes one piece; `line` is only printed when there is room for it.
    pub(super) fn push(&mut self, line: impl Display) {
        if self.lines.len() < LINES_MAX {
            self.lines.push(line.to_string());
        } else {
            self.more += 1;
        }
    }

    /// The lines, with a last one that counts those left out.
    pub(super) fn into_lines(mut self) -> Vec<String> {
        if self.more > 0 {
            self.lines.push(format!("and {} more", self.more));
        }
        self.lines
    }
}
