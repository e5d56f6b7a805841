//! What the verbs for a store's directory do. Their words and flags are in [`crate::cli`].
//!
//! Results go to stdout, or to the file that was asked for; everything else goes to stderr.

mod error;
mod export;
mod import;
mod output;
mod pending;
mod progress;
mod selector;

use std::io;
use std::path::Path;
use std::sync::Arc;

use heapster_core::{TimeRange, Timestamp};
use heapster_store::{Clock, StoreSnapshot, SystemClock};

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
        "export" => export::run(call),
        "import" => import::run(call),
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

/// A view of the store in a directory.
fn open_for_reading(dir: &Path) -> Result<Arc<StoreSnapshot>, VerbError> {
    let open = |source| VerbError::Open { dir: dir.to_owned(), source };
    if !dir.is_dir() {
        let source = heapster_store::Error::NotAStore {
            path: dir.to_owned(),
            what: "it is not a directory".into(),
        };
        return Err(open(source));
    }
    let store =
        heapster_store::Store::open(dir, heapster_store::StoreOptions::default()).map_err(open)?;
    Ok(Arc::new(store.snapshot()))
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
