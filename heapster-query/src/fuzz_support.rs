//! What fuzz targets and tests do with arbitrary queries. No part of the interface: it may change or
//! go at any time.

use crate::promql::language;

/// A text that may be a query: it is read or refused, and what is read is printed and read again.
pub fn promql_parse(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match language::parse(text) {
        Ok(expr) => {
            let printed = expr.to_string();
            let again = language::parse(&printed).map(|again| again.to_string());
            assert_eq!(again.as_ref(), Ok(&printed), "of {text:?}");
            let pretty = language::pretty(&expr);
            let again = language::parse(&pretty).map(|again| again.to_string());
            assert_eq!(again.as_ref(), Ok(&printed), "of {pretty:?}");
        }
        Err(error) => {
            assert!(error.offset() <= text.len() && !error.message().is_empty());
            assert!(error.marked().ends_with('^'));
        }
    }
}

/// The query with all selectors fixed to a moment, as `@` does; `None` when it depends on the moment
/// of evaluation nevertheless, or is no query.
pub fn promql_fixed(query: &str, millis: i64) -> Option<String> {
    let mut expr = language::parse(query).ok()?;
    (!expr.fix(millis)).then(|| expr.to_string())
}
