//! PromQL over the storage port.

mod language;

pub use language::{DEPTH_MAX, ParseError, QUERY_BYTES_MAX};

/// An expression as Prometheus formats it: over several lines when it is longer than a hundred bytes.
///
/// Comments are not kept.
///
/// # Errors
/// [`ParseError`] when the text is no expression.
pub fn format(query: &str) -> Result<String, ParseError> {
    Ok(language::pretty(&language::parse(query)?))
}
