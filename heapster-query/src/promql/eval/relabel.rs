//! `label_replace` and `label_join`.

use super::super::key::Key;
use super::super::plan::Relabel;
use super::table::Table;
use crate::error::QueryError;

/// Changes the labels of each series; those that become the same are merged.
pub(super) fn evaluate<'a>(
    mut table: Table<'a>,
    relabel: &Relabel,
) -> Result<Table<'a>, QueryError> {
    table.series.iter_mut().for_each(|series| relabel.apply(&mut series.key));
    table.merge(false)
}

impl Relabel {
    fn apply(&self, key: &mut Key) {
        match self {
            Self::Replace { target, replacement, source, pattern } => {
                let value = key.value(source).to_owned();
                let Some(captures) = pattern.captures(&value) else { return };
                let mut expanded = String::new();
                captures.expand(replacement, &mut expanded);
                key.set(target, &expanded);
            }
            Self::Join { target, separator, sources } => {
                let values: Vec<&str> = sources.iter().map(|source| key.value(source)).collect();
                let joined = values.join(separator);
                key.set(target, &joined);
            }
        }
    }
}
