//! What the verbs for a store's directory do. Their words and flags are in [`crate::cli`].
//!
//! Results go to stdout, or to the file that was asked for; everything else goes to stderr.

mod backup;
mod check;
mod delete;
mod error;
mod export;
mod import;
mod output;
mod progress;
mod query;
mod selector;
mod stats;
mod top;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use heapster_core::{TimeRange, Timestamp};
use heapster_store::vfs::{RealVfs, Vfs};
use heapster_store::{Clock, ReaderOptions, Store, StoreReader, SystemClock};
use serde::Serialize;

use crate::cli::{UsageError, VerbCall};

pub use error::VerbError;
pub use selector::{ParsedSelector, SelectorError, parse_selector};

/// How a verb that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is as it should be.
    Complete,
    /// Something was left out, or damage was found; it was said on the way.
    Incomplete,
}

impl Outcome {
    /// Complete when nothing is amiss.
    fn complete_if(is_complete: bool) -> Self {
        if is_complete { Self::Complete } else { Self::Incomplete }
    }

    /// The exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::Incomplete => 1,
        }
    }
}

/// Runs a verb. A reader of stdout that went away (`… | head`) is no failure.
///
/// # Errors
/// [`VerbError`], with an exit code and advice.
pub fn run(call: &VerbCall) -> Result<Outcome, VerbError> {
    let result = match call.verb.name {
        "check" => check::run(call),
        "backup" | "restore" => backup::run(call),
        "delete" => delete::run(call),
        "export" => export::run(call),
        "import" => import::run(call),
        "query" => query::run(call),
        "stats" => stats::run(call),
        "top" => top::run(call),
        name => unreachable!("bug: the verb {name} is in the table but not here"),
    };
    match result {
        Err(VerbError::Stdout(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(Outcome::Complete)
        }
        result => result,
    }
}

/// The directory a verb is about: its first word.
fn dir(call: &VerbCall) -> &Path {
    Path::new(call.words.first().map_or("", String::as_str))
}

/// The store in a directory, for reading; a server may be writing to it.
fn open_for_reading(dir: &Path) -> Result<StoreReader, VerbError> {
    StoreReader::open(dir, ReaderOptions::default())
        .map_err(|source| VerbError::Open { dir: dir.to_owned(), source })
}

/// Closes a store that was changed; compacts it before when `--compact` says so.
fn close(call: &VerbCall, store: Store) -> Result<(), VerbError> {
    if call.values.is_set("compact") {
        tell("merging segments; the changes are safe already");
        store
            .compact_all()
            .map_err(|source| VerbError::Store { what: "merge the segments", source })?;
    }
    store.close().map_err(|source| VerbError::Store { what: "close the store", source })
}

fn real_vfs() -> Arc<dyn Vfs> {
    Arc::new(RealVfs)
}

/// A number with separators between thousands.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Prints a result.
fn print(text: &str) -> Result<(), VerbError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(VerbError::Stdout)
}

/// Tells something on stderr; when that is gone, nobody is left to be told.
fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A result as JSON for people and programs.
fn json(result: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(result);
    text.expect("bug: a result is not JSON") + "\n"
}

fn now() -> Timestamp {
    SystemClock::new().now()
}

/// The moment a flag gives; `None` when it is not given and has no default.
fn moment(call: &VerbCall, flag: &'static str, now: Timestamp) -> Option<Timestamp> {
    call.values.get_some(flag).and_then(|text| crate::cli::value::read_moment(text, now))
}

/// The range that `--start` and `--end` give.
fn range(call: &VerbCall) -> Result<TimeRange, UsageError> {
    let now = now();
    let start = moment(call, "start", now).unwrap_or(Timestamp::MIN);
    let end = moment(call, "end", now).unwrap_or(Timestamp::MAX);
    if end < start {
        return Err(call.conflict(format!("--end ({end}) is before --start ({start})")));
    }
    Ok(TimeRange::new(start, end))
}

/// The selectors that `--match` gives; none when it is not given.
fn selectors(call: &VerbCall) -> Result<Vec<ParsedSelector>, UsageError> {
    let texts = call.values.all("match").iter();
    texts
        .map(|text| {
            parse_selector(text).map_err(|error| call.conflict(format!("--match: {error}")))
        })
        .collect()
}
