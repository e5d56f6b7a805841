//! [`JobConfig`]: what a job of scrapes consists of, from `--source=prometheus:…` or from the
//! `scrape_configs` of a file (`yaml`).

mod yaml;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use super::relabel::{LabelMap, Rule};
use crate::uri::{Uri, UriError};

pub(super) use yaml::parse_duration;
pub(crate) use yaml::{parse, parse_groups};

/// Bytes of a configuration file at most.
pub(super) const FILE_BYTES_MAX: u64 = 8 << 20;
/// Bytes of an answer at most, unless a job says otherwise. Prometheus has no limit by default.
const BODY_BYTES_MAX: usize = 64 << 20;
/// The limits of Prometheus's defaults.
const INTERVAL: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter ones would keep the machine busy with nothing else.
pub(super) const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// A job: targets that are scraped in the same way.
#[derive(Clone, Debug)]
pub struct JobConfig {
    /// The name: the label `job` of its targets.
    pub name: String,
    /// Time between scrapes of a target.
    pub interval: Duration,
    /// Longest time of a scrape; at most the interval.
    pub timeout: Duration,
    /// Path that is asked for.
    pub metrics_path: String,
    /// `http` or `https`.
    pub scheme: Scheme,
    /// Parameters of the query, in the order of their names.
    pub params: Vec<(String, Vec<String>)>,
    /// Whether labels of the samples win over those of the target.
    pub honor_labels: bool,
    /// Whether the times that a target says are kept.
    pub honor_timestamps: bool,
    /// Whether series whose times a target says get a marker when they end, too.
    pub track_timestamps_staleness: bool,
    /// The formats that are asked for, the most wanted first.
    pub protocols: Vec<Protocol>,
    /// What an answer is taken for that does not say what it is.
    pub fallback: Option<Protocol>,
    /// Whether a compressed answer is asked for.
    pub compression: bool,
    /// What is shown to targets.
    pub auth: Auth,
    /// How connections over TLS are made.
    pub tls: TlsConfig,
    /// Targets that are known.
    pub groups: Vec<TargetGroup>,
    /// Files that say more targets.
    pub files: Vec<FileDiscovery>,
    /// Change the labels of targets.
    pub relabel: Vec<Rule>,
    /// Change the labels of samples.
    pub metric_relabel: Vec<Rule>,
    /// Beyond which a scrape fails.
    pub limits: Limits,
}

/// How targets are spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    #[default]
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The word of URLs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A format that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The text format of Prometheus, 0.0.4.
    Text004,
    /// The text format of Prometheus, 1.0.0, with names in quotes.
    Text100,
    /// OpenMetrics 0.0.1.
    OpenMetrics001,
    /// OpenMetrics 1.0.0.
    OpenMetrics100,
}

impl Protocol {
    /// What Prometheus asks for unless it is told otherwise, in its order.
    pub const ALL: [Self; 4] =
        [Self::OpenMetrics100, Self::OpenMetrics001, Self::Text100, Self::Text004];
}

/// A secret, or the file that holds it and is read again for each scrape.
#[derive(Clone, Debug)]
pub enum Secret {
    /// The secret itself.
    Inline(SecretString),
    /// The file, of which blanks at the ends do not count.
    File(PathBuf),
}

/// What is shown to targets.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// Nothing.
    #[default]
    None,
    /// A name and a password.
    Basic(Secret, Secret),
    /// The header `Authorization` of a type, usually `Bearer`.
    Header(String, Secret),
}

/// How connections over TLS are made.
#[derive(Clone, Debug, Default)]
pub struct TlsConfig {
    /// File of the authorities that are trusted; those of the system by default.
    pub ca_file: Option<PathBuf>,
    /// Files of a certificate to show and of its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that a certificate must have, if it is another than the target's.
    pub server_name: Option<String>,
    /// Whether any certificate is accepted.
    pub insecure_skip_verify: bool,
}

/// Some targets with labels in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetGroup {
    /// Their addresses.
    pub targets: Vec<String>,
    /// Their labels.
    pub labels: LabelMap,
}

/// Files that say targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileDiscovery {
    /// Paths whose file name may have one `*`.
    pub patterns: Vec<PathBuf>,
    /// How often they are looked at.
    pub refresh: Duration,
}

/// Beyond which a scrape fails, or a job has no more targets. Zero is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Samples of a scrape that are to be stored.
    pub samples: usize,
    /// Targets of a job after relabelling.
    pub targets: usize,
    /// Labels of a series.
    pub labels: usize,
    /// Bytes of a label's name.
    pub label_name_bytes: usize,
    /// Bytes of a label's value.
    pub label_value_bytes: usize,
    /// Bytes of an answer, decompressed; never without limit.
    pub body_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            samples: 0,
            targets: 0,
            labels: 0,
            label_name_bytes: 0,
            label_value_bytes: 0,
            body_bytes: BODY_BYTES_MAX,
        }
    }
}

/// Why jobs cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be used.
    #[error("{}: {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line where there is one.
        what: String,
    },
    /// An option of the source cannot be used.
    #[error(transparent)]
    Option(#[from] UriError),
    /// The source names neither a target nor a file.
    #[error(
        "source prometheus needs a target (prometheus:http://HOST:PORT/metrics) or a file with \
         scrape_configs (prometheus:?config=FILE)"
    )]
    NoTarget,
}

impl JobConfig {
    /// A job with the defaults of Prometheus and without targets.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            interval: INTERVAL,
            timeout: TIMEOUT,
            metrics_path: "/metrics".to_owned(),
            scheme: Scheme::Http,
            params: Vec::new(),
            honor_labels: false,
            honor_timestamps: true,
            track_timestamps_staleness: false,
            protocols: Protocol::ALL.to_vec(),
            fallback: None,
            compression: true,
            auth: Auth::None,
            tls: TlsConfig::default(),
            groups: Vec::new(),
            files: Vec::new(),
            relabel: Vec::new(),
            metric_relabel: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// The jobs of `--source=prometheus:…`: one whose first target is the URL, or those of the file
    /// that the option `config` names.
    ///
    /// # Errors
    /// [`ConfigError`]; nothing is guessed.
    pub fn from_uri(uri: &Uri, interval: Duration) -> Result<Vec<Self>, ConfigError> {
        if let Some(path) = uri.option("config") {
            uri.accept_options(&["config"])?;
            if !uri.host().is_empty() {
                return Err(uri.bad_option("config", "a file, without a URL beside it").into());
            }
            return read(Path::new(path));
        }
        uri.accept_options(&[
            "config",
            "job",
            "target",
            "interval",
            "timeout",
            "honorLabels",
            "honorTimestamps",
            "bearerTokenFile",
            "caFile",
            "insecureTls",
        ])?;
        if uri.host().is_empty() {
            return Err(ConfigError::NoTarget);
        }
        let duration = |name: &str, default| match uri.option(name) {
            None => Ok(default),
            Some(text) => parse_duration(text)
                .filter(|duration| *duration >= INTERVAL_MIN)
                .ok_or_else(|| uri.bad_option(name, "a duration such as 15s, at least 100ms")),
        };
        let mut job = Self::named(uri.option("job").unwrap_or("prometheus"));
        job.interval = duration("interval", interval)?;
        job.timeout = duration("timeout", TIMEOUT.min(job.interval))?;
        if job.timeout > job.interval {
            return Err(uri.bad_option("timeout", "at most the interval").into());
        }
        job.scheme = match uri.scheme() {
            "https" => Scheme::Https,
            _ => Scheme::Http,
        };
        if !matches!(uri.path(), "" | "/") {
            job.metrics_path = uri.path().to_owned();
        }
        job.honor_labels = uri.bool_option("honorLabels")?.unwrap_or(false);
        job.honor_timestamps = uri.bool_option("honorTimestamps")?.unwrap_or(true);
        job.tls.insecure_skip_verify = uri.bool_option("insecureTls")?.unwrap_or(false);
        job.tls.ca_file = uri.option("caFile").map(PathBuf::from);
        if let Some((name, password)) = uri.user() {
            let inline = |text: &str| Secret::Inline(text.to_owned().into());
            job.auth = Auth::Basic(inline(name), inline(password.unwrap_or_default()));
        }
        if let Some(path) = uri.option("bearerTokenFile") {
            job.auth = Auth::Header("Bearer".to_owned(), Secret::File(path.into()));
        }
        let default_port = if job.scheme == Scheme::Https { 443 } else { 80 };
        let first = format!("{}:{}", uri.host(), uri.port().unwrap_or(default_port));
        let targets = [first].into_iter().chain(uri.options("target").map(str::to_owned));
        job.groups.push(TargetGroup { targets: targets.collect(), labels: LabelMap::default() });
        Ok(vec![job])
    }
}

/// The jobs of a file.
fn read(path: &Path) -> Result<Vec<JobConfig>, ConfigError> {
    let text =
        read_text(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    parse(&text, folder).map_err(|what| ConfigError::File { path: path.to_owned(), what })
}

/// A file that a user wrote, which is small.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(text: &str) -> Result<Vec<JobConfig>, String> {
        let uri = Uri::parse(text, |_| None).unwrap();
        JobConfig::from_uri(&uri, Duration::from_secs(30)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_target_can_stand_in_the_flag() {
        let jobs = jobs("prometheus:http://10.0.0.1:9100?target=10.0.0.2:9100&job=node&timeout=5s");
        let job = &jobs.unwrap()[0];
        assert_eq!((job.name.as_str(), job.metrics_path.as_str()), ("node", "/metrics"));
        assert_eq!((job.interval, job.timeout), (Duration::from_secs(30), Duration::from_secs(5)));
        assert_eq!(job.groups[0].targets, ["10.0.0.1:9100", "10.0.0.2:9100"]);
        let https = self::jobs("prometheus:https://name:secret@host/probe?interval=1m30s").unwrap();
        assert_eq!(https[0].groups[0].targets, ["host:443"]);
        assert_eq!((https[0].scheme, https[0].metrics_path.as_str()), (Scheme::Https, "/probe"));
        assert!(matches!(https[0].auth, Auth::Basic(..)));
        assert!(!format!("{https:?}").contains("secret"));
    }

    #[test]
    fn a_flag_that_says_too_little_or_too_much_is_refused() {
        for (text, part) in [
            ("prometheus", "needs a target"),
            ("prometheus:http://h:1?intervall=5s", "intervall"),
            ("prometheus:http://h:1?interval=5", "a duration such as 15s"),
            ("prometheus:http://h:1?interval=5s&timeout=6s", "at most the interval"),
            ("prometheus:?config=/nowhere/at/all.yml", "could not read /nowhere/at/all.yml"),
            ("prometheus:http://h:1?config=/nowhere", "without a URL beside it"),
        ] {
            let error = jobs(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
