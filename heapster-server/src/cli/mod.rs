//! The command line: one table of flags, from which parsing, help and documentation come.
//!
//! A table of our own rather than a parser library, because the flags must read as Heapster's did:
//! `-` and `_` alike, Go's truth values and durations, retired flags that say so (decision 0007).

mod config;
mod flags;
mod help;
mod parser;
pub(crate) mod value;

pub use config::{Config, Environment};
pub use flags::{FLAGS, Flag, Group, find};
pub use help::{help, page};
pub use parser::{Arguments, UsageError, Values, Word, parse};
pub use value::Kind;

/// What a command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Collect, store and serve; with lines the user should see first.
    Serve(Box<Config>, Vec<String>),
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// Reads the arguments after the program's name; see [`parse`] and [`Config::from_values`].
///
/// # Errors
/// [`UsageError`]: the command line is not usable as it is.
pub fn command(
    arguments: impl IntoIterator<Item = String>,
    environment: Environment<'_>,
) -> Result<Command, UsageError> {
    let Arguments { word, values, notes } = parse(arguments)?;
    Ok(match word {
        Word::Help => Command::Help,
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
