//! [`Config`]: what `heapster serve` needs to know, with every value in its type.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use heapster_core::processors::LabelCopier;
use heapster_query::promql::QueryLimits;
use heapster_store::{Ack, TierOptions};

use crate::telemetry::logging::{LogFormat, LogLevel};
use crate::uri::Uri;

use super::flags::{FLAGS, Flag, Group};
use super::parser::{UsageError, Values};
use super::secure::{Protection, SecurePort, main_port, secure_port};
use super::value::Kind;
use super::value::{read_duration, read_int, read_ip, read_retention, read_size, read_tiers};

/// The configuration of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where metrics come from.
    pub source: Uri,
    /// Whatever is scraped as Prometheus does, in the order given.
    pub scrapes: Vec<Uri>,
    /// Where batches go besides the store, in the order given.
    pub sinks: Vec<Uri>,
    /// Length of an interval.
    pub resolution: Duration,
    /// Longest time of one export to a queued sink.
    pub export_timeout: Duration,
    /// Turns the user's labels into labels of sets.
    pub copier: LabelCopier,
    /// Directory of the store.
    pub data_dir: PathBuf,
    /// How long data is kept; `None` for ever.
    pub retention: Option<Duration>,
    /// How many bytes of segments are kept; `None` for no limit.
    pub retention_bytes: Option<u64>,
    /// Aggregates that are kept longer.
    pub tiers: Vec<TierOptions>,
    /// Bytes of memory after which the newest data goes to a segment.
    pub head_bytes_max: usize,
    /// When a batch counts as stored.
    pub ack: Ack,
    /// Where to serve.
    pub listen: SocketAddr,
    /// How that is protected, if it is.
    pub protection: Option<Protection>,
    /// The port that is always protected, if there is one.
    pub secure_port: Option<SecurePort>,
    /// Whether samples may be pushed.
    pub remote_write: bool,
    /// What one PromQL query may cost.
    pub query_limits: QueryLimits,
    /// PromQL queries that run at one time.
    pub queries_max: usize,
    /// How far back a PromQL query looks for the newest sample of a series.
    pub query_lookback: Duration,
    /// Names and values of all flags that name no address, which could hold a password.
    pub flags: Vec<(String, String)>,
    /// Whether metric-export answers nothing.
    pub disable_export: bool,
    /// Whether profiles are served.
    pub profiling: bool,
    /// Threads that serve; `None` for one per CPU.
    pub threads: Option<NonZeroUsize>,
    /// Form of log lines.
    pub log_format: LogFormat,
    /// Least important level to log.
    pub log_level: LogLevel,
}

/// Reads an environment variable; tests bring their own.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Config {
    /// The configuration that checked flag values describe.
    ///
    /// # Errors
    /// [`UsageError`] when values do not go together or name something that cannot be.
    pub fn from_values(values: &Values, environment: Environment<'_>) -> Result<Self, UsageError> {
        let sinks = values.all("sink").iter().map(|text| uri("sink", text, environment));
        let copier = LabelCopier::new(
            values.get("label-separator"),
            values.all("store-label"),
            values.all("ignore-label"),
        );
        let Sources { source, scrapes } = sources(values, environment)?;
        let is_reader = source.key() == "none" && scrapes.is_empty();
        let (protection, data_dir) = (main_port(values)?, data_dir(values, environment));
        Ok(Self {
            retention: retention(values, is_reader),
            retention_bytes: read_size(values.get("retention-size")).flatten(),
            tiers: tiers(values, is_reader),
            scrapes,
            sinks: sinks.collect::<Result<_, _>>()?,
            resolution: duration(values, "metric-resolution"),
            export_timeout: duration(values, "sink-export-data-timeout"),
            copier: copier
                .map_err(|error| UsageError::Conflict(format!("--store-label: {error}")))?,
            secure_port: secure_port(values, &source, &data_dir, environment)?,
            data_dir,
            head_bytes_max: head_bytes_max(values),
            ack: match values.get("ack") {
                "durable" => Ack::Durable,
                "memory" => Ack::Memory,
                _ => Ack::Buffered,
            },
            listen: listen(values, protection.as_ref())?,
            protection,
            remote_write: values.is_set("remote-write-receiver"),
            query_limits: query_limits(values),
            queries_max: usize::try_from(int(values, "query-max-concurrency")).unwrap_or(1),
            query_lookback: duration(values, "query-lookback-delta"),
            source,
            flags: shown(values),
            disable_export: values.is_set("disable-export"),
            profiling: values.is_set("profiling"),
            threads: usize::try_from(int(values, "max-procs")).ok().and_then(NonZeroUsize::new),
            log_format: log_format(values),
            log_level: log_level(values),
        })
    }
}

/// Who only looks at stored data, perhaps a backup, must not delete it by that.
fn retention(values: &Values, is_reader: bool) -> Option<Duration> {
    if is_reader && values.all("retention").is_empty() {
        return None;
    }
    read_retention(values.get("retention")).unwrap_or_default()
}

/// Nor build anything of it.
fn tiers(values: &Values, is_reader: bool) -> Vec<TierOptions> {
    if is_reader && values.all("downsampling").is_empty() {
        return Vec::new();
    }
    read_tiers(values.get("downsampling")).unwrap_or_default()
}

/// Sizes that the store does not take are moved to the nearest it does.
fn head_bytes_max(values: &Values) -> usize {
    let bytes = read_size(values.get("head-size-max")).flatten();
    bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX)
}

fn query_limits(values: &Values) -> QueryLimits {
    let memory = read_size(values.get("query-memory-max")).flatten();
    QueryLimits {
        timeout: duration(values, "query-timeout"),
        samples_max: usize::try_from(int(values, "query-max-samples")).unwrap_or(usize::MAX),
        memory_max_bytes: memory
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(usize::MAX),
        ..QueryLimits::default()
    }
}

/// What may be shown of the flags, by name.
fn shown(values: &Values) -> Vec<(String, String)> {
    let has_effect = |flag: &&Flag| flag.group != Group::NoEffect;
    let mut shown: Vec<_> = FLAGS
        .iter()
        .filter(has_effect)
        .filter(|flag| !matches!(flag.kind, Kind::Uri))
        .map(|flag| {
            let value = match flag.kind {
                Kind::List => values.all(flag.name).join(","),
                _ => values.get(flag.name).to_owned(),
            };
            (flag.name.to_owned(), value)
        })
        .collect();
    shown.sort_unstable();
    shown
}

pub(super) fn duration(values: &Values, name: &str) -> Duration {
    read_duration(values.get(name)).unwrap_or_default()
}

pub(super) fn int(values: &Values, name: &str) -> i64 {
    read_int(values.get(name)).unwrap_or_default()
}

fn uri(flag: &'static str, text: &str, environment: Environment<'_>) -> Result<Uri, UsageError> {
    Uri::parse(text, environment)
        .map_err(|error| UsageError::Conflict(format!("--{flag}: {error}")))
}

/// Where metrics come from: one source of batches, or none, and any number of scrapes beside it.
struct Sources {
    source: Uri,
    scrapes: Vec<Uri>,
}

/// The flags of metrics-server that are options of a source here, by the names of both.
const OF_KUBELETS: [(&str, &str); 7] = [
    ("kubelet-port", "kubeletPort"),
    ("kubelet-preferred-address-types", "preferredAddressTypes"),
    ("kubelet-request-timeout", "scrapeTimeout"),
    ("kubelet-certificate-authority", "kubeletCAFile"),
    ("kubelet-client-certificate", "kubeletClientCert"),
    ("kubelet-client-key", "kubeletClientKey"),
    ("kubeconfig", "auth"),
];

/// The source with what the flags of metrics-server say of kubelets; its own options come first.
fn with_flags_of_kubelets(mut source: Uri, values: &Values) -> Result<Uri, UsageError> {
    let mut said: Vec<(&str, &str, String)> = OF_KUBELETS
        .iter()
        .map(|(flag, option)| (*flag, *option, values.all(flag).join(",")))
        .filter(|(_, _, value)| !value.is_empty())
        .collect();
    if values.is_set("kubelet-insecure-tls") {
        said.push(("kubelet-insecure-tls", "kubeletInsecureTls", "true".to_owned()));
    }
    for (flag, option, value) in said {
        if !source.key().starts_with("kubernetes") {
            return Err(UsageError::Conflict(format!(
                "--{flag} is for a source of Kubernetes, and the source is {}",
                source.key()
            )));
        }
        source = match option {
            // In metrics-server it is always a port for TLS.
            "kubeletPort" => source.with_default("kubeletHttps", "true"),
            "auth" => source.with_default("inClusterConfig", "false"),
            _ => source,
        };
        source = source.with_default(option, &value);
    }
    Ok(source)
}

fn sources(values: &Values, environment: Environment<'_>) -> Result<Sources, UsageError> {
    let given = values.all("source").iter().map(|text| uri("source", text, environment));
    let given: Vec<Uri> = given.collect::<Result<_, _>>()?;
    let (scrapes, mut others): (Vec<_>, Vec<_>) =
        given.into_iter().partition(|source| source.key() == "prometheus");
    let default = match scrapes.is_empty() {
        false => "none",
        // Kubernetes sets this in every container of a pod.
        true if environment("KUBERNETES_SERVICE_HOST").is_some() => "kubernetes.summary_api",
        true => "host",
    };
    let source = match (others.pop(), others.len()) {
        (None, _) => uri("source", default, environment)?,
        (Some(source), 0) => source,
        (Some(_), more) => {
            let count = more + 1;
            return Err(UsageError::Conflict(format!(
                "Wrong number of sources specified: --source was given {count} times; give one, and \
                 any number of prometheus beside it"
            )));
        }
    };
    let source = with_flags_of_kubelets(source, values)?;
    match source.key() {
        "host"
        | "none"
        | "kubernetes"
        | "kubernetes.summary_api"
        | "kubernetes.resource_metrics" => Ok(Sources { source, scrapes }),
        key => Err(UsageError::Conflict(format!(
            "Source not recognized: {key}; --source is one of host, kubernetes.summary_api, \
             kubernetes.resource_metrics, kubernetes, prometheus and none"
        ))),
    }
}

fn data_dir(values: &Values, environment: Environment<'_>) -> PathBuf {
    let given = values.get("data-dir");
    if !given.is_empty() {
        return given.into();
    }
    let set = |name| environment(name).filter(|value| value.starts_with('/')).map(PathBuf::from);
    let home = || set("HOME").map(|home| home.join(".local/share"));
    if !rustix::process::geteuid().is_root()
        && let Some(data_home) = set("XDG_DATA_HOME").or_else(home)
    {
        return data_home.join("heapster");
    }
    "/var/lib/heapster".into()
}

fn listen(values: &Values, protection: Option<&Protection>) -> Result<SocketAddr, UsageError> {
    let flag = "listen-ip";
    let text = values.get(flag);
    let bad = || UsageError::bad_value(flag, text, "an IP address");
    let ip = read_ip(text).ok_or_else(bad)?;
    let is_guarded = protection.is_some_and(|protection| protection.access.is_some());
    if !ip.is_loopback() && !is_guarded && !values.is_set("insecure-allow-unauthenticated") {
        return Err(UsageError::Conflict(format!(
            "--{flag} {text:?} is not loopback, and nobody would be asked who calls: give --tls-cert \
             and --tls-key with --tls-client-ca or a file of users, serve on --secure-port instead, \
             or give --insecure-allow-unauthenticated as well"
        )));
    }
    let port = u16::try_from(int(values, "heapster-port")).unwrap_or_default();
    Ok(SocketAddr::new(ip, port))
}

fn log_level(values: &Values) -> LogLevel {
    values.get("log-level").parse().unwrap_or_else(|()| match int(values, "v") {
        0 => LogLevel::Info,
        1..=5 => LogLevel::Debug,
        _ => LogLevel::Trace,
    })
}

/// metrics-server has another name for it.
fn log_format(values: &Values) -> LogFormat {
    let own = values.all("log-format").last().map(String::as_str);
    own.or_else(|| values.get_some("logging-format")).unwrap_or("auto").parse().unwrap_or_default()
}
