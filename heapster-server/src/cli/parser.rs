//! [`parse`]: arguments → command, words and flag values, checked against the table of flags.

use std::collections::BTreeMap;

use super::flags::{self, FLAGS, Flag, Group};
use super::value::{Kind, read_bool};
use super::verbs::{self, VERBS, Verb};

/// Flags with a name of one letter.
const SHORT: [(&str, &str); 7] = [
    ("h", "help"),
    ("v", "v"),
    ("o", "output"),
    ("y", "yes"),
    ("A", "all-namespaces"),
    ("n", "namespace"),
    ("l", "selector"),
];
/// The commands that are no verb for a store's directory.
const COMMANDS: [&str; 3] = ["serve", "help", "version"];

/// Why a command line is not usable. Prints one clause that names the flag, the value and what is
/// accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsageError {
    /// The first word is no command.
    #[error("unknown command {word:?}; {}", commands(*suggestion))]
    UnknownCommand {
        /// The word.
        word: String,
        /// The nearest command.
        suggestion: Option<&'static str>,
    },
    /// A verb has too few words behind it.
    #[error("{missing} is missing: the verb is used as heapster {} {}", verb.name, verb.words)]
    MissingWord {
        /// The verb.
        verb: &'static Verb,
        /// The first word that is not there, as the usage calls it.
        missing: &'static str,
    },
    /// A verb has more words behind it than it takes.
    #[error("{word:?} is one word too many: the verb is used as heapster {} {}", verb.name, verb.words)]
    ExtraWord {
        /// The verb.
        verb: &'static Verb,
        /// The first word too many.
        word: String,
    },
    /// The command line of a verb is not usable.
    #[error("{}: {error}", verb.name)]
    OfVerb {
        /// The verb.
        verb: &'static Verb,
        /// Why.
        error: Box<UsageError>,
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
    /// Values that are good by themselves do not go together.
    #[error("{0}")]
    Conflict(String),
}

/// What could have been meant by an unknown command.
fn commands(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(
        || {
            let names: Vec<_> = command_names().collect();
            let (last, others) = names.split_last().unwrap_or((&"", &[]));
            format!("the commands are {} and {last}", others.join(", "))
        },
        |name| format!("did you mean {name}?"),
    )
}

fn command_names() -> impl Iterator<Item = &'static str> {
    COMMANDS.into_iter().chain(VERBS.iter().map(|verb| verb.name))
}

/// How much of a bad value an error repeats.
const SHOWN_CHARS_MAX: usize = 120;

impl UsageError {
    /// A value that is not of its flag's kind; a very long one is cut.
    pub fn bad_value(flag: &'static str, value: &str, expected: impl Into<String>) -> Self {
        let value = value.chars().take(SHOWN_CHARS_MAX).collect();
        Self::BadValue { flag, value, expected: expected.into() }
    }

    /// The command line that prints what would have helped.
    pub fn help_command(&self) -> String {
        match self {
            Self::OfVerb { verb, .. } => format!("heapster help {}", verb.name),
            _ => "heapster --help".to_owned(),
        }
    }

    fn unknown_command(word: &str) -> Self {
        let suggestion = flags::nearest_name(command_names(), word);
        Self::UnknownCommand { word: word.chars().take(SHOWN_CHARS_MAX).collect(), suggestion }
    }
}

/// What the command line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Collect, store and serve.
    Serve,
    /// Print the help.
    Help,
    /// Print the help of a verb.
    HelpOf(&'static Verb),
    /// Print the version.
    Version,
    /// Do something with a store's directory.
    Verb(&'static Verb),
}

/// A parsed command line.
#[derive(Debug)]
pub struct Arguments {
    /// The command.
    pub word: Word,
    /// The words behind the command; those of `serve` have no meaning.
    pub words: Vec<String>,
    /// What the flags say.
    pub values: Values,
    /// What the user should know, one line each: flags without effect, words that were ignored.
    pub notes: Vec<String>,
}

/// Values of flags as texts of their kind.
#[derive(Debug)]
pub struct Values {
    table: &'static [Flag],
    given: BTreeMap<&'static str, Vec<String>>,
}

impl Values {
    /// The value of a flag: the last one given, else its default.
    pub fn get(&self, name: &str) -> &str {
        let default = || flags::find(self.table, name).map_or("", |flag| flag.default);
        self.all(name).last().map_or_else(default, String::as_str)
    }

    /// The value of a flag unless it was not given and has no default, or is empty.
    pub fn get_some(&self, name: &str) -> Option<&str> {
        Some(self.get(name)).filter(|value| !value.is_empty())
    }

    /// Whether a flag that is true or false is true.
    pub fn is_set(&self, name: &str) -> bool {
        read_bool(self.get(name)).unwrap_or(false)
    }

    /// All values of a repeatable flag.
    pub fn all(&self, name: &str) -> &[String] {
        self.given.get(name).map_or(&[], Vec::as_slice)
    }

    fn insert(&mut self, flag: &'static Flag, value: String) {
        let values = self.given.entry(flag.name).or_default();
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
/// repeatable. The first word is the command. Words that are no flags belong to a verb; `serve`
/// ignores them with a note, as Heapster ignored them.
///
/// # Errors
/// [`UsageError`]: a flag is unknown, lacks its value, or has one that is not accepted; there is no
/// such command; a verb has too few or too many words.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Arguments, UsageError> {
    let mut arguments = arguments.into_iter().peekable();
    let first = arguments.next_if(|first| !first.starts_with('-'));
    match first.as_deref() {
        None | Some("serve") => parse_serve(Word::Serve, arguments),
        Some("help") => parse_help(arguments),
        Some("version") => parse_serve(Word::Version, arguments),
        Some(name) => match verbs::find(name) {
            Some(verb) => parse_verb(verb, arguments)
                .map_err(|error| UsageError::OfVerb { verb, error: Box::new(error) }),
            None => Err(UsageError::unknown_command(name)),
        },
    }
}

/// What follows `help`: nothing, or the name of a command.
fn parse_help(arguments: impl Iterator<Item = String>) -> Result<Arguments, UsageError> {
    let mut arguments = parse_serve(Word::Help, arguments)?;
    if let Some(name) = arguments.words.first().filter(|name| !COMMANDS.contains(&name.as_str())) {
        let verb = verbs::find(name).ok_or_else(|| UsageError::unknown_command(name))?;
        arguments.word = Word::HelpOf(verb);
    }
    Ok(arguments)
}

fn parse_verb(
    verb: &'static Verb,
    arguments: impl Iterator<Item = String>,
) -> Result<Arguments, UsageError> {
    let (values, words) = read(verb.flags, arguments)?;
    let mut word = Word::Verb(verb);
    if values.is_set("help") {
        word = Word::HelpOf(verb);
    } else if let Some(missing) = verb.required().nth(words.len()) {
        return Err(UsageError::MissingWord { verb, missing });
    } else if let Some(extra) = words.get(verb.words_max()) {
        let word = extra.chars().take(SHOWN_CHARS_MAX).collect();
        return Err(UsageError::ExtraWord { verb, word });
    }
    Ok(Arguments { word, words, values, notes: Vec::new() })
}

/// The flags of `serve` behind `word`.
fn parse_serve(
    mut word: Word,
    arguments: impl Iterator<Item = String>,
) -> Result<Arguments, UsageError> {
    let (values, words) = read(FLAGS, arguments)?;
    if values.is_set("help") {
        word = Word::Help;
    } else if values.is_set("version") {
        word = Word::Version;
    }
    let mut notes: Vec<String> = Vec::new();
    if !words.is_empty() && word == Word::Serve {
        notes.push(format!("ignored: {}", words.join(" ")));
    }
    for flag in FLAGS {
        let given = values.all(flag.name);
        if given.is_empty() || (given.len() == 1 && given[0] == flag.default) {
            continue;
        }
        if flag.group == Group::NoEffect {
            notes.push(format!("--{} has no effect. {}", flag.name, flag.help));
        }
    }
    Ok(Arguments { word, words, values, notes })
}

/// Reads flags of one table, and the words between and behind them.
fn read(
    table: &'static [Flag],
    mut arguments: impl Iterator<Item = String>,
) -> Result<(Values, Vec<String>), UsageError> {
    let mut values = Values { table, given: BTreeMap::new() };
    let mut words = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            words.extend(arguments.by_ref());
            break;
        }
        let Some((name, value)) = split_flag(&argument) else {
            words.push(argument);
            continue;
        };
        let long = if argument.starts_with("--") {
            Some(name)
        } else {
            SHORT.iter().find(|(short, _)| *short == name).map(|(_, long)| *long)
        };
        let Some(flag) = long.and_then(|long| flags::find(table, long)) else {
            let typed = argument.split('=').next().unwrap_or_default();
            let typed = typed.chars().take(SHOWN_CHARS_MAX).collect();
            let suggestion = flags::find(table, name).or_else(|| flags::nearest(table, name));
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
    Ok((values, words))
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
