//! Log output: the one place that decides where lines go and in which form.
//!
//! Lines go to stderr, so that stdout stays free for what a command prints. Nothing secret reaches
//! here: what holds a token does not print it.

use std::io::{IsTerminal, stderr};
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text when stderr is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One line of text per entry.
    Text,
    /// One JSON object per line.
    Json,
}

/// The least important level that is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Only what ends the process or loses data.
    Error,
    /// And what someone should look at.
    Warn,
    /// And a few lines on start and stop.
    #[default]
    Info,
    /// And what happens in each round.
    Debug,
    /// And everything the libraries tell.
    Trace,
}

impl FromStr for LogFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "auto" => Self::Auto,
            "text" => Self::Text,
            "json" => Self::Json,
            _ => return Err(()),
        })
    }
}

impl FromStr for LogLevel {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "error" => Self::Error,
            "warn" => Self::Warn,
            "info" => Self::Info,
            "debug" => Self::Debug,
            "trace" => Self::Trace,
            _ => return Err(()),
        })
    }
}

/// Which lines pass: our own from `level` on, those of libraries from warnings on. Only at
/// `trace` do libraries speak freely.
fn targets(level: LogLevel) -> Targets {
    let (own, libraries) = match level {
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::WARN),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::WARN),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::WARN),
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::DEBUG),
    };
    Targets::new()
        .with_default(libraries)
        .with_target("heapster", own)
        .with_target("heapster_server", own)
        .with_target("heapster_store", own)
        .with_target("heapster_query", own)
}

/// Sends log lines to stderr from now on. A second call in one process changes nothing: whoever
/// embeds the server keeps the log it has set up.
pub fn init(format: LogFormat, level: LogLevel) {
    let terminal = stderr().is_terminal();
    let text = match format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let layer = if text {
        fmt::layer().with_writer(stderr).with_ansi(terminal).with_target(false).boxed()
    } else {
        fmt::layer().with_writer(stderr).json().flatten_event(true).boxed()
    };
    // Fails only when there is a subscriber already.
    let _ = tracing_subscriber::registry().with(layer.with_filter(targets(level))).try_init();
}

/// An error and its causes in one line: `could not open /data: permission denied`. Some libraries
/// repeat a cause in their own text; it is printed once.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let clause = error.to_string();
        if !text.ends_with(&clause) {
            text.push_str(": ");
            text.push_str(&clause);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use heapster_core::pipeline::SourceError;
    use tracing::Level;

    use super::*;

    #[test]
    fn libraries_are_quiet_unless_everything_is_asked_for() {
        let info = targets(LogLevel::Info);
        assert!(info.would_enable("heapster_server::app", &Level::INFO));
        assert!(!info.would_enable("heapster_server::app", &Level::DEBUG));
        assert!(!info.would_enable("hyper::proto", &Level::INFO));
        assert!(info.would_enable("kube_client", &Level::WARN));
        assert!(targets(LogLevel::Trace).would_enable("hyper::proto", &Level::DEBUG));
    }

    #[test]
    fn a_chain_names_every_cause_once() {
        let cause = std::io::Error::other("connection refused");
        let error = SourceError::new("could not ask node-1").caused_by(cause);
        assert_eq!(chain(&error), "could not ask node-1: connection refused");
        let error = SourceError::new("could not ask node-2").caused_by(error);
        let error = SourceError::new(format!("a library: {error}")).caused_by(error);
        let once = "a library: could not ask node-2: could not ask node-1: connection refused";
        assert_eq!(chain(&error), once);
    }
}
