//! `heapster delete`: samples of some sets and of a range of time go.

use std::collections::BTreeSet;
use std::io::{self, BufRead, IsTerminal, Write};

use heapster_core::storage::{Columns, Selector, Snapshot};
use heapster_core::{Labels, Matcher, TimeRange};
use heapster_store::{Store, StoreOptions};

use crate::cli::{UsageError, VerbCall};

use super::{
    Outcome, VerbError, close, count, dir, open_for_reading, print, range, selectors, tell,
};

pub(super) fn run(call: &VerbCall) -> Result<Outcome, VerbError> {
    let range = range(call)?;
    let deletions = deletions(call)?;
    let found = Found::of(call, &deletions, range)?;
    if found.sets == 0 {
        tell("there is nothing to delete: no set matches in that time");
        return Ok(Outcome::Complete);
    }
    let what = found.describe();
    if call.values.is_set("dry-run") {
        print(&format!("would delete {what}\n"))?;
        return Ok(Outcome::Complete);
    }
    if !call.values.is_set("yes") && !confirm(call, &what)? {
        tell("nothing was deleted");
        return Ok(Outcome::Incomplete);
    }
    let store = Store::open(dir(call), StoreOptions::default())
        .map_err(|source| VerbError::Open { dir: dir(call).to_owned(), source })?;
    for matchers in &deletions {
        store
            .delete(matchers, range)
            .map_err(|source| VerbError::Store { what: "delete from the store", source })?;
    }
    close(call, store)?;
    tell(format_args!("deleted {what}"));
    Ok(Outcome::Complete)
}

/// The matchers of each deletion.
fn deletions(call: &VerbCall) -> Result<Vec<Vec<Matcher>>, UsageError> {
    let selectors = selectors(call)?;
    if selectors.is_empty() {
        return Err(call.conflict("--match is needed: it says which sets lose samples"));
    }
    let matchers = selectors.into_iter().map(|selector| {
        if !matches!(selector.columns, Columns::All) {
            let what = "a deletion takes all metrics of the sets, so --match must not name one";
            return Err(call.conflict(what));
        }
        if selector.matchers.is_empty() {
            let what = "--match={} is everything; to delete that, give a matcher that holds for \
                        all sets, such as {type=~\".*\"}";
            return Err(call.conflict(what));
        }
        Ok(selector.matchers)
    });
    matchers.collect()
}

/// What a deletion is about.
struct Found {
    sets: u64,
    series: u64,
    range: TimeRange,
}

impl Found {
    fn of(
        call: &VerbCall,
        deletions: &[Vec<Matcher>],
        range: TimeRange,
    ) -> Result<Self, VerbError> {
        let snapshot = open_for_reading(dir(call))?.snapshot();
        let mut seen: BTreeSet<Labels> = BTreeSet::new();
        let mut series = 0;
        for matchers in deletions {
            let selector = Selector { matchers: matchers.clone(), columns: Columns::All, range };
            for set in snapshot.select(&selector).map_err(VerbError::Read)? {
                if seen.insert(set.labels().clone()) {
                    series += set.columns().len() as u64;
                }
            }
        }
        let bounds = snapshot.bounds().unwrap_or(range);
        let range = TimeRange::new(range.start.max(bounds.start), range.end.min(bounds.end));
        Ok(Self { sets: seen.len() as u64, series, range })
    }

    fn describe(&self) -> String {
        let TimeRange { start, end } = self.range;
        let (sets, series) = (count(self.sets), count(self.series));
        format!("all samples of {sets} sets ({series} series) from {start} to {end}")
    }
}

/// Asks on the terminal.
fn confirm(call: &VerbCall, what: &str) -> Result<bool, VerbError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        let what = format!("this deletes {what}; give --yes, as there is no terminal to ask on");
        return Err(call.conflict(what).into());
    }
    // Nobody sees the question when stderr is gone, and then nobody says yes.
    let _ = write!(io::stderr(), "Delete {what}? Type yes to go on: ");
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    Ok(read.is_ok() && answer.trim() == "yes")
}
