//! [`ColumnLists`]: the distinct lists of columns of a selection. Few, and every set needs one.

use std::sync::Arc;

use hashbrown::HashMap;
use heapster_core::storage::Column;

/// Lists of columns by number, the same for the same columns.
#[derive(Debug, Default)]
pub(super) struct ColumnLists {
    lists: Vec<Arc<[Column]>>,
    numbers: HashMap<Arc<[Column]>, u32>,
    merged: HashMap<(u32, u32), u32>,
}

impl ColumnLists {
    /// The number of a list, whose names are sorted.
    pub fn add(&mut self, columns: Vec<Column>) -> u32 {
        if let Some(number) = self.numbers.get(columns.as_slice()) {
            return *number;
        }
        let number = self.lists.len() as u32;
        let columns: Arc<[Column]> = columns.into();
        self.lists.push(Arc::clone(&columns));
        self.numbers.insert(columns, number);
        number
    }

    pub fn get(&self, number: u32) -> &Arc<[Column]> {
        &self.lists[number as usize]
    }

    /// The columns of both lists; of one that is in both the newer kind counts.
    pub fn merge(&mut self, older: u32, newer: u32) -> u32 {
        if older == newer {
            return older;
        }
        if let Some(number) = self.merged.get(&(older, newer)) {
            return *number;
        }
        let mut columns = self.get(newer).to_vec();
        columns.extend_from_slice(self.get(older));
        // Stable, so that the newer one of two with the same name comes first and stays.
        columns.sort_by(|a, b| a.name.cmp(&b.name));
        columns.dedup_by(|later, first| later.name == first.name);
        let number = self.add(columns);
        self.merged.insert((older, newer), number);
        number
    }
}
