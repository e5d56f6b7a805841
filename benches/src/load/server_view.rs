//! What the server says of itself over HTTP: its batches and its self metrics.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use heapster_core::Timestamp;
use http::Method;
use serde_json::Value;

use crate::fetch;

/// Counter of the server: samples appended to the store.
pub(crate) const SAMPLES_APPENDED: &str = "heapster_store_appended_samples_total";
/// A series that every batch has, since the cluster's set is in every batch.
const SERIES_OF_ALL_BATCHES: &str = "/api/v1/model/metrics/memory/usage";
const ALL_KEYS: &str = "/api/v1/model/debug/allkeys";
const PATIENCE: Duration = Duration::from_secs(10);

/// The HTTP side of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerView {
    pub(crate) address: SocketAddr,
}

impl ServerView {
    /// Times of the batches since `start` that the model API knows.
    pub(crate) async fn batches(&self, start: Timestamp) -> io::Result<BTreeSet<Timestamp>> {
        let body = self.get(&format!("{SERIES_OF_ALL_BATCHES}?start={start}")).await?;
        parse_batches(&body)
    }

    /// The newest batch of the model API, if there is one.
    pub(crate) async fn newest_batch(&self, since: Timestamp) -> io::Result<Option<Timestamp>> {
        Ok(self.batches(since).await?.pop_last())
    }

    /// A self metric, summed over its labels; `None` when the server has none of that name.
    pub(crate) async fn metric(&self, name: &str) -> io::Result<Option<f64>> {
        let body = self.get("/metrics").await?;
        Ok(sum_of_metric(&String::from_utf8_lossy(&body), name))
    }

    /// How many sets the newest batch has.
    pub(crate) async fn set_count(&self) -> io::Result<u64> {
        let keys: Vec<String> = serde_json::from_slice(&self.get(ALL_KEYS).await?)?;
        Ok(keys.len() as u64)
    }

    async fn get(&self, path: &str) -> io::Result<Vec<u8>> {
        let answer = fetch(Method::GET, self.address, path, PATIENCE).await?;
        match answer.status {
            200 => Ok(answer.body.to_vec()),
            status => Err(io::Error::other(format!("{path} answered {status}"))),
        }
    }
}

fn parse_batches(body: &[u8]) -> io::Result<BTreeSet<Timestamp>> {
    let answer: Value = serde_json::from_slice(body)?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not a series of the model API");
    let points = answer["metrics"].as_array().ok_or_else(malformed)?;
    let time = |point: &Value| Timestamp::parse_rfc3339(point["timestamp"].as_str()?).ok();
    points.iter().map(|point| time(point).ok_or_else(malformed)).collect()
}

fn sum_of_metric(exposition: &str, name: &str) -> Option<f64> {
    let values = exposition.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        if !rest.starts_with([' ', '{']) {
            return None;
        }
        // Label values may hold spaces, but none follows the closing bracket but the value's own.
        let value = rest.rsplit_once('}').map_or(rest, |(_, value)| value);
        value.split_whitespace().next()?.parse::<f64>().ok()
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_not_confused_with_its_neighbours() {
        let text = "# TYPE a_total counter\na_total{x=\"1 } 2\"} 3\na_total{x=\"2\"} 4.5\n\
                    a_total_of_others 100\nb 7 1700000000000\n";
        assert_eq!(sum_of_metric(text, "a_total"), Some(7.5));
        assert_eq!(sum_of_metric(text, "b"), Some(7.0));
        assert_eq!(sum_of_metric(text, "a"), None);
    }

    #[test]
    fn batches_are_the_times_of_a_model_series() {
        let body = br#"{"metrics":[{"timestamp":"2018-07-26T12:01:00Z","value":1},
            {"timestamp":"2018-07-26T12:02:00Z","value":1}],"latestTimestamp":"2018-07-26T12:02:00Z"}"#;
        let times: Vec<String> =
            parse_batches(body).unwrap().iter().map(Timestamp::to_string).collect();
        assert_eq!(times, ["2018-07-26T12:01:00Z", "2018-07-26T12:02:00Z"]);
        assert!(parse_batches(b"{}").is_err());
        assert!(parse_batches(b"404: Page Not Found").is_err());
    }
}
