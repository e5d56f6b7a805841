//! The language: from text to a checked tree, and back to text.
//!
//! ```text
//! text ── lex ── parse ── check ──▶ Expr ── print ──▶ text
//! ```
//!
//! Nothing here knows storage or evaluation. Positions are bytes of the query's text; an error and an
//! annotation show them as line and column.

pub(crate) mod ast;
mod check;
mod duration;
pub(crate) mod functions;
mod lex;
mod number;
mod parse;
mod print;
mod quote;
pub(crate) mod regex;
pub(crate) mod tree;

#[cfg(test)]
mod tests;

pub(crate) use duration::{parse as parse_duration, print_millis};
pub(crate) use number::print as print_number;
pub(crate) use print::pretty;
pub(crate) use quote::{quoted, quoted_bytes};

use ast::{Expr, Span};
use std::fmt;

/// Most bytes of a query. Grafana's largest are a few KiB; pathological ones cost memory.
pub const QUERY_BYTES_MAX: usize = 256 << 10;
/// Most levels of a query's tree, so that walks over it need a bounded stack.
pub const DEPTH_MAX: usize = 200;

/// Most regular expressions of a query, those of `label_replace` among them. Each may take a MiB when it
/// is compiled, before there is a meter that counts it.
pub const PATTERNS_MAX: usize = 256;

/// Reads an expression and checks its types.
///
/// # Errors
/// [`ParseError`] at the first thing that is wrong.
pub(crate) fn parse(text: &str) -> Result<Expr, ParseError> {
    if text.len() > QUERY_BYTES_MAX {
        let message = format!("query of {} bytes is longer than {QUERY_BYTES_MAX}", text.len());
        return Err(Fault::new(Span::at(0), message).in_text(""));
    }
    let parsed = parse::expression(text).and_then(|expr| {
        check::check(&expr)?;
        Ok(expr)
    });
    parsed.map_err(|fault| fault.in_text(text))
}

/// Reads a bare selector such as `up{job="a"}`, as `match[]` holds one.
///
/// # Errors
/// [`ParseError`] at the first thing that is wrong; modifiers are.
pub(crate) fn parse_selector(text: &str) -> Result<ast::Selector, ParseError> {
    match parse(text)? {
        Expr::Selector(selector) if selector.modifiers.are_none() => Ok(selector),
        other => {
            let message = "expected a bare selector of series".to_owned();
            Err(Fault::new(other.span(), message).in_text(text))
        }
    }
}

/// What is wrong, where; not yet tied to the text.
#[derive(Debug)]
pub(crate) struct Fault {
    span: Span,
    message: String,
}

impl Fault {
    pub fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into() }
    }

    fn in_text(self, text: &str) -> ParseError {
        let (line, column) = position(text, self.span.start);
        let shown = text.lines().nth(line - 1).unwrap_or_default().to_owned();
        ParseError { message: self.message, line, column, shown, start: self.span.start }
    }
}

/// Line and column of a byte of a text, both from one; the column counts bytes, as Prometheus does.
pub(crate) fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    (line, before.len() - line_start + 1)
}

/// Why a text is no query.
///
/// Prints as Prometheus words it, `1:5: parse error: …`; [`ParseError::marked`] adds the line and a
/// caret below the place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    message: String,
    line: usize,
    column: usize,
    shown: String,
    start: usize,
}

impl ParseError {
    /// What is wrong, without the position.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Line and column, both counted from one, the column in bytes.
    pub fn position(&self) -> (usize, usize) {
        (self.line, self.column)
    }

    /// Byte of the query at which it is wrong; its length when something is missing at the end.
    pub fn offset(&self) -> usize {
        self.start
    }

    /// The error, the line of the query it is in, and a caret below the place.
    pub fn marked(&self) -> String {
        let before = self.shown.get(..self.column - 1).unwrap_or(&self.shown);
        // Tabs are kept, so that the caret stands below its place however wide they are.
        let indent: String =
            before.chars().map(|char| if char == '\t' { '\t' } else { ' ' }).collect();
        format!("{self}\n{}\n{indent}^", self.shown)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: parse error: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for ParseError {}
