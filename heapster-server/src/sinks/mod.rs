//! Where processed batches go, one file each; and which of them a command line asks for.

pub mod log;
pub mod store;

use std::sync::Arc;

use heapster_core::pipeline::Sink;
use tracing::{error, info};

use crate::uri::{Uri, UriError};

use log::{LogSink, Output};

/// Heapster's sinks that this version does not have.
const NOT_AVAILABLE: [&str; 13] = [
    "elasticsearch",
    "gcm",
    "graphite",
    "hawkular",
    "honeycomb",
    "influxdb",
    "kafka",
    "librato",
    "opentsdb",
    "riemann",
    "stackdriver",
    "statsd",
    "wavefront",
];

/// Sinks were asked for, and none could be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("No available sink to use")]
pub struct NoAvailableSink;

/// Why one sink could not be built; prints as Heapster logged it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum NotBuilt {
    #[error("Failed to create {key} sink: it is not available in this version")]
    NotAvailable { key: String },
    #[error("Sink not recognized: {key}")]
    NotRecognized { key: String },
    #[error("Failed to create {key} sink")]
    BadOption { key: String, source: UriError },
}

/// Builds the sinks in their order. As in Heapster, one that cannot be built is logged and left out.
///
/// `metric` stands for the store, which is always there, and adds nothing.
///
/// # Errors
/// [`NoAvailableSink`]: sinks were asked for and each one had to be left out.
pub fn build(uris: &[Uri]) -> Result<Vec<Arc<dyn Sink>>, NoAvailableSink> {
    let (mut sinks, mut left_out) = (Vec::new(), 0);
    for uri in uris {
        match build_one(uri) {
            Ok(Some(sink)) => sinks.push(sink),
            Ok(None) => info!("the store takes the place of the sink metric"),
            Err(why) => {
                error!("--sink={uri:?}: {}", crate::telemetry::logging::chain(&why));
                left_out += 1;
            }
        }
    }
    if left_out > 0 && left_out == uris.len() { Err(NoAvailableSink) } else { Ok(sinks) }
}

fn build_one(uri: &Uri) -> Result<Option<Arc<dyn Sink>>, NotBuilt> {
    let key = uri.key().to_owned();
    match uri.key() {
        "metric" => Ok(None),
        "log" => {
            let output = log_output(uri).map_err(|source| NotBuilt::BadOption { key, source })?;
            Ok(Some(Arc::new(LogSink::new(output))))
        }
        known if NOT_AVAILABLE.contains(&known) => Err(NotBuilt::NotAvailable { key }),
        _ => Err(NotBuilt::NotRecognized { key }),
    }
}

fn log_output(uri: &Uri) -> Result<Output, UriError> {
    uri.accept_options(&["output"])?;
    match uri.option("output") {
        None | Some("stdout") => Ok(Output::Stdout),
        Some("log") => Ok(Output::Log),
        Some(_) => Err(uri.bad_option("output", "stdout or log")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(uris: &[&str]) -> Result<Vec<String>, NoAvailableSink> {
        let uris: Vec<Uri> =
            uris.iter().map(|uri| Uri::parse(uri, |_| None).expect("a good URI")).collect();
        Ok(build(&uris)?.iter().map(|sink| sink.name().as_str().to_owned()).collect())
    }

    #[test]
    fn what_cannot_be_built_is_left_out() {
        assert_eq!(built(&[]), Ok(vec![]));
        assert_eq!(built(&["metric"]), Ok(vec![]));
        assert_eq!(built(&["influxdb:http://x", "log", "xyz"]), Ok(vec!["Log Sink".to_owned()]));
        assert_eq!(built(&["metric", "kafka"]), Ok(vec![]));
    }

    #[test]
    fn when_nothing_asked_for_can_be_built_that_is_an_error() {
        assert_eq!(built(&["influxdb"]), Err(NoAvailableSink));
        assert_eq!(built(&["kafka", "log:?output=printer"]), Err(NoAvailableSink));
    }

    #[test]
    fn the_reason_is_one_clear_line() {
        for (uri, line) in [
            ("kafka", "Failed to create kafka sink: it is not available in this version"),
            ("xyz:http://h", "Sink not recognized: xyz"),
        ] {
            let uri = Uri::parse(uri, |_| None).expect("a good URI");
            let why = build_one(&uri).err().map(|why| why.to_string());
            assert_eq!(why.as_deref(), Some(line));
        }
    }
}
