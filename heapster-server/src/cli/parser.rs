//! [`parse`]: arguments → command and flag values, checked against the table of flags.

use std::collections::BTreeMap;

use super::flags::{self, FLAGS, Flag, Group};
use super::value::{Kind, read_bool};

/// Why a command line is not usable. Prints one clause that names the flag, the value and what is
/// accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// The first word is no command.
    #[error("unknown command {word:?}; the commands are serve, help and version")]
    UnknownCommand {
        /// The word.
        word: String,
    },
    /// No such flag.
    #[error("unknown flag {typed}{}", suggestion.map(|name| format!("; did you mean --{name}?")).unwrap_or_default())]
    UnknownFlag {
        /// What was typed.
        typed: String,
        /// The nearest flag.
        suggestion: Option<&'static str>,
    },
    /// The flag needs a value and is the last word.
    #[error("--{flag} needs a value: {expected}")]
    MissingValue {
        /// The flag.
        flag: &'static str,
        /// What is accepted.
        expected: String,
    },
    /// The value is not of the flag's kind.
    #[error("--{flag} cannot be {value:?}: expected {expected}")]
    BadValue {
        /// The flag.
        flag: &'static str,
        /// The value.
        value: String,
        /// What is accepted.
        expected: String,
    },
    /// The flag asks for something this version does not have.
    #[error("--{flag} is not available yet in this version; {}", instead(flag))]
    NotAvailable {
        /// The flag.
        flag: &'static str,
    },
    /// Values that are good by themselves do not go together.
    #[error("{0}")]
    Conflict(String),
}

/// What to do without a flag that is not available.
fn instead(flag: &str) -> &'static str {
    match flag {
        "api-server" => "leave it out: the APIs are served on --heapster-port",
        "tls-client-ca" | "allowed-users" => {
            "leave it out, listen on loopback, and let a TLS proxy check who calls"
        }
        _ => "leave it out, listen on loopback, and let a TLS proxy encrypt",
    }
}

/// How much of a bad value an error repeats.
const SHOWN_CHARS_MAX: usize = 120;

impl UsageError {
    /// A value that is not of its flag's kind; a very long one is cut.
    pub fn bad_value(flag: &'static str, value: &str, expected: impl Into<String>) -> Self {
        let value = value.chars().take(SHOWN_CHARS_MAX).collect();
        Self::BadValue { flag, value, expected: expected.into() }
    }
}

/// What the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Collect, store and serve.
    Serve,
    /// Print the help.
    Help,
    /// Print the version.
    Version,
}

/// A parsed command line.
#[derive(Debug)]
pub struct Arguments {
    /// The command.
    pub word: Word,
    /// What the flags say.
    pub values: Values,
    /// What the user should know, one line each: flags without effect, words that were ignored.
    pub notes: Vec<String>,
}

/// Values of flags as texts of their kind.
#[derive(Debug, Default)]
pub struct Values(BTreeMap<&'static str, Vec<String>>);

impl Values {
    /// The value of a flag: the last one given, else its default.
    pub fn get(&self, name: &str) -> &str {
        let given = self.0.get(name).and_then(|values| values.last());
        given.map_or_else(|| flags::find(name).map_or("", |flag| flag.default), String::as_str)
    }

    /// Whether a flag that is true or false is true.
    pub fn is_set(&self, name: &str) -> bool {
        read_bool(self.get(name)).unwrap_or(false)
    }

    /// All values of a repeatable flag.
    pub fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    fn insert(&mut self, flag: &'static Flag, value: String) {
        let values = self.0.entry(flag.name).or_default();
        if !flag.kind.is_repeatable() {
            values.clear();
        }
        if matches!(flag.kind, Kind::List) {
            values.extend(value.split(',').filter(|part| !part.is_empty()).map(str::to_owned));
        } else {
            values.push(value);
        }
    }
}

/// Reads the arguments after the program's name.
///
/// Flags are `--name=value` or `--name value`; `--name` alone sets one that is true or false. `-`
/// and `_` in names are alike. Of a flag given twice the last value counts, unless it is
/// repeatable. Words that are no flags are ignored with a note, as Heapster ignored them, except
/// for the first one, which is the command.
///
/// # Errors
/// [`UsageError`]: a flag is unknown, lacks its value, or has one that is not accepted.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Arguments, UsageError> {
    let mut arguments = arguments.into_iter().peekable();
    let mut word = Word::Serve;
    if let Some(first) = arguments.next_if(|first| !first.starts_with('-')) {
        word = match first.as_str() {
            "serve" => Word::Serve,
            "help" => Word::Help,
            "version" => Word::Version,
            _ => return Err(UsageError::UnknownCommand { word: first }),
        };
    }
    let mut values = Values::default();
    let mut ignored = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            ignored.extend(arguments.by_ref());
            break;
        }
        let Some((name, value)) = split_flag(&argument) else {
            ignored.push(argument);
            continue;
        };
        let flag = if argument.starts_with("--") || name == "v" {
            flags::find(name)
        } else if name == "h" {
            flags::find("help")
        } else {
            None
        };
        let Some(flag) = flag else {
            let typed = argument.split('=').next().unwrap_or_default();
            let typed = typed.chars().take(SHOWN_CHARS_MAX).collect();
            let suggestion = flags::find(name).or_else(|| flags::nearest(name));
            let suggestion = suggestion.map(|flag| flag.name);
            return Err(UsageError::UnknownFlag { typed, suggestion });
        };
        let value = match value {
            Some(value) => value.to_owned(),
            None if matches!(flag.kind, Kind::Bool) => "true".to_owned(),
            None => arguments.next().ok_or_else(|| UsageError::MissingValue {
                flag: flag.name,
                expected: flag.kind.expected(),
            })?,
        };
        if !flag.kind.accepts(&value) {
            // What follows a missing key may hold a password.
            let shown = match flag.kind {
                Kind::Uri if value.starts_with(':') => ":…",
                _ => &value,
            };
            return Err(UsageError::bad_value(flag.name, shown, flag.kind.expected()));
        }
        values.insert(flag, value);
    }
    if values.is_set("help") {
        word = Word::Help;
    } else if values.is_set("version") {
        word = Word::Version;
    }
    let mut notes: Vec<String> = Vec::new();
    if !ignored.is_empty() && word == Word::Serve {
        notes.push(format!("ignored: {}", ignored.join(" ")));
    }
    for flag in FLAGS {
        let given = values.all(flag.name);
        if given.is_empty() || (given.len() == 1 && given[0] == flag.default) {
            continue;
        }
        match flag.group {
            Group::NotYet if word == Word::Serve => {
                return Err(UsageError::NotAvailable { flag: flag.name });
            }
            Group::NoEffect => notes.push(format!("--{} has no effect. {}", flag.name, flag.help)),
            _ => {}
        }
    }
    Ok(Arguments { word, values, notes })
}

/// Name and value of a flag; `None` for a word. `-v2` is `-v=2`.
fn split_flag(argument: &str) -> Option<(&str, Option<&str>)> {
    let name = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'))?;
    if name.is_empty() {
        return None;
    }
    if !argument.starts_with("--")
        && let Some(level) = name.strip_prefix('v')
        && level.starts_with(|char: char| char.is_ascii_digit())
    {
        return Some(("v", Some(level)));
    }
    Some(match name.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (name, None),
    })
}
