//! `label_replace` and `label_join`.

use super::super::key::Key;
use super::super::plan::Relabel;
use super::table::Table;
use crate::error::QueryError;

/// Bytes of a label's value that a query makes, at most. Values are made of values, so without a bound
/// a short query makes endless ones.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// Changes the labels of each series; those that become the same are merged.
pub(super) fn evaluate<'a>(
    mut table: Table<'a>,
    relabel: &Relabel,
) -> Result<Table<'a>, QueryError> {
    for series in &mut table.series {
        if let Some((target, value)) = relabel.value(&series.key)? {
            table.held.grow_bytes(value.len())?;
            series.key.set(target, &value);
        }
    }
    table.merge(false)
}

impl Relabel {
    /// The label that is to be set, and to what; `None` where the labels stay as they are.
    fn value(&self, key: &Key) -> Result<Option<(&heapster_core::Text, String)>, QueryError> {
        match self {
            Self::Replace { target, replacement, source, pattern } => {
                let value = key.value(source);
                let Some(captures) = pattern.captures(value) else { return Ok(None) };
                // Each reference stands for a part of the value.
                let references = replacement.bytes().filter(|byte| *byte == b'$').count();
                bounded(replacement.len().saturating_add(references.saturating_mul(value.len())))?;
                let mut expanded = String::new();
                captures.expand(replacement, &mut expanded);
                Ok(Some((target, expanded)))
            }
            Self::Join { target, separator, sources } => {
                let values: Vec<&str> = sources.iter().map(|source| key.value(source)).collect();
                let separators = separator.len().saturating_mul(values.len().saturating_sub(1));
                let lens = values.iter().map(|value| value.len());
                bounded(lens.fold(separators, usize::saturating_add))?;
                Ok(Some((target, values.join(separator))))
            }
        }
    }
}

fn bounded(bytes: usize) -> Result<(), QueryError> {
    if bytes <= VALUE_BYTES_MAX {
        return Ok(());
    }
    let message =
        format!("a label would be longer than {VALUE_BYTES_MAX} bytes; replace or join less");
    Err(QueryError::execution(message))
}
