//! The command line: tables of flags and verbs, from which parsing, help and documentation come.
//!
//! A table of our own rather than a parser library, because the flags must read as Heapster's did:
//! `-` and `_` alike, Go's truth values and durations, retired flags that say so (decision 0007).

mod config;
mod flags;
mod help;
mod parser;
mod secure;
pub(crate) mod value;
mod verbs;

pub use config::{Config, Environment};
pub use flags::{FLAGS, Flag, Group};
pub use help::{help, help_of, page, verbs_page};
pub use parser::{Arguments, UsageError, Values, Word, parse};
pub use secure::{Access, Protection, SecurePort};
pub use value::{Kind, read_moment};
pub use verbs::{VERBS, Verb};

/// What a command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Collect, store and serve; with lines the user should see first.
    Serve(Box<Config>, Vec<String>),
    /// Print the help.
    Help,
    /// Print the help of a verb.
    HelpOf(&'static Verb),
    /// Do something with a store's directory; see [`crate::verbs`].
    Verb(VerbCall),
    /// Print the version.
    Version,
}

/// A verb for a store's directory and what was said about it.
#[derive(Debug)]
pub struct VerbCall {
    /// The verb.
    pub verb: &'static Verb,
    /// The words behind it, as many as it takes.
    pub words: Vec<String>,
    /// What its flags say.
    pub values: Values,
}

impl VerbCall {
    /// A complaint about the command line of this verb.
    pub fn conflict(&self, text: impl Into<String>) -> UsageError {
        let error = Box::new(UsageError::Conflict(text.into()));
        UsageError::OfVerb { verb: self.verb, error }
    }
}

/// Reads the arguments after the program's name; see [`parse`] and [`Config::from_values`].
///
/// # Errors
/// [`UsageError`]: the command line is not usable as it is.
pub fn command(
    arguments: impl IntoIterator<Item = String>,
    environment: Environment<'_>,
) -> Result<Command, UsageError> {
    let Arguments { word, words, values, notes } = parse(arguments)?;
    Ok(match word {
        Word::Help => Command::Help,
        Word::HelpOf(verb) => Command::HelpOf(verb),
        Word::Verb(verb) => Command::Verb(VerbCall { verb, words, values }),
        Word::Version => Command::Version,
        Word::Serve => Command::Serve(Box::new(Config::from_values(&values, environment)?), notes),
    })
}

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Commit it was built from, if the build said so by `HEAPSTER_COMMIT`.
pub const COMMIT: &str = match option_env!("HEAPSTER_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// What `heapster version` prints.
pub fn version() -> String {
    format!("version: {VERSION}\ncommit: {COMMIT}\n")
}
