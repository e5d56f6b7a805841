//! [`FLAGS`]: every flag of `serve`. Parsing, help and docs/configuration.md come from this table.

use super::value::Kind;

/// A flag of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The name without dashes before it; dashes inside, where underscores do as well.
    pub name: &'static str,
    /// What it accepts.
    pub kind: Kind,
    /// The value when it is not given, in the flag's own spelling; empty when there is none.
    pub default: &'static str,
    /// What it does, in one or a few sentences.
    pub help: &'static str,
    /// Where it stands in the help, and whether it does anything.
    pub group: Group,
}

/// What a flag is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// What is collected and how often.
    Collecting,
    /// Where and how long data is kept.
    Storing,
    /// The HTTP side.
    Serving,
    /// TLS, and who is let in.
    Securing,
    /// Logs and the process itself.
    Process,
    /// Accepted so that old command lines keep working; has no effect, and says so when given.
    NoEffect,
    /// Of a verb other than `serve`.
    OfVerb,
}

impl Group {
    /// The groups of `serve` in the order of its help.
    pub const ALL: [Self; 6] = [
        Self::Collecting,
        Self::Storing,
        Self::Serving,
        Self::Securing,
        Self::Process,
        Self::NoEffect,
    ];

    /// The heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Collecting => "Collecting",
            Self::Storing => "Storing",
            Self::Serving => "Serving",
            Self::Securing => "TLS, and who is let in",
            Self::Process => "Logs and process",
            Self::NoEffect => "Accepted, but without effect",
            Self::OfVerb => "Flags",
        }
    }
}

/// A line of a table of flags.
pub(super) const fn flag(
    group: Group,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag { name, kind, default, help, group }
}

use Group::{Collecting, NoEffect, Process, Securing, Serving, Storing};
use Kind::{Bool, Choice, Duration, Each, Int, Ip, List, Path, Retention, Size, Text, Tiers, Uri};

const ALWAYS_STDERR: &str = "Log lines always go to stderr.";
const ONE_LEVEL: &str = "Use --log-level.";

/// The flags of `serve` in the order of its help.
pub const FLAGS: &[Flag] = &[
    flag(
        Collecting,
        "source",
        Uri,
        "",
        "Where metrics come from; at most one of `host` (this machine), `kubernetes.summary_api`, \
         `kubernetes.resource_metrics` or `kubernetes` (the nodes of a cluster) and `none` (serve what is stored). Any number of \
         `prometheus` may stand beside it: a target (`prometheus:http://HOST:9100/metrics`) or a \
         file with scrape_configs (`prometheus:?config=FILE`). Default: `none` beside `prometheus`, \
         else `kubernetes.summary_api` in a pod, `host` elsewhere.",
    ),
    flag(
        Collecting,
        "kubelet-port",
        Int(1, 65_535),
        "10250",
        "As in metrics-server: the option kubeletPort of a source of Kubernetes, with TLS. This flag and \
         the next ones are for command lines of metrics-server; options of --source come first.",
    ),
    flag(
        Collecting,
        "kubelet-preferred-address-types",
        List,
        "",
        "As in metrics-server: the option preferredAddressTypes.",
    ),
    flag(
        Collecting,
        "kubelet-request-timeout",
        Text,
        "",
        "As in metrics-server: the option scrapeTimeout.",
    ),
    flag(
        Collecting,
        "kubelet-insecure-tls",
        Bool,
        "false",
        "As in metrics-server: the option kubeletInsecureTls.",
    ),
    flag(
        Collecting,
        "kubelet-certificate-authority",
        Path,
        "",
        "As in metrics-server: the option kubeletCAFile.",
    ),
    flag(
        Collecting,
        "kubelet-client-certificate",
        Path,
        "",
        "As in metrics-server: the option kubeletClientCert.",
    ),
    flag(
        Collecting,
        "kubelet-client-key",
        Path,
        "",
        "As in metrics-server: the option kubeletClientKey.",
    ),
    flag(
        Collecting,
        "kubeconfig",
        Path,
        "",
        "As in metrics-server: the option auth, with inClusterConfig=false.",
    ),
    flag(
        Collecting,
        "sink",
        Uri,
        "",
        "Where batches go besides the store; may be repeated. This version has `log`, which \
         prints each batch to stdout. `metric` is the store. Others are skipped with an error \
         in the log.",
    ),
    flag(
        Collecting,
        "metric-resolution",
        Duration(5),
        "1m0s",
        "Length of an interval; one batch each.",
    ),
    flag(
        Collecting,
        "sink-export-data-timeout",
        Duration(0),
        "20s",
        "Longest time one export to a sink may take; then it is abandoned and the sink gets the \
         next batch. The store is waited for without limit.",
    ),
    flag(
        Collecting,
        "label-separator",
        Text,
        ",",
        "What separates the user's labels that are joined into the label `labels`.",
    ),
    flag(
        Collecting,
        "ignore-label",
        List,
        "",
        "Labels of Kubernetes objects to leave out of the label `labels`.",
    ),
    flag(
        Collecting,
        "store-label",
        List,
        "",
        "Labels of Kubernetes objects to store on their own as well; each `name` or `new=old`.",
    ),
    flag(
        Storing,
        "data-dir",
        Path,
        "",
        "The directory of the store; made if it is missing. Default: `/var/lib/heapster` for \
         root, else `$XDG_DATA_HOME/heapster` or `~/.local/share/heapster`.",
    ),
    flag(
        Storing,
        "retention",
        Retention,
        "15d",
        "How long data is kept; units are those of a duration and `d`, `w`, `y`. Older data is \
         deleted. With `--source=none` alone everything is kept unless this flag is given.",
    ),
    flag(
        Storing,
        "retention-size",
        Size,
        "unlimited",
        "How many bytes of files with samples are kept; units are `kB`, `MB`, `GB`, `TB`, and `KiB`, \
         `MiB`, `GiB`, `TiB`. Beyond that the oldest data is deleted, whatever its age. The log \
         and what is rewritten for a while come on top: leave room for a day of data.",
    ),
    flag(
        Storing,
        "downsampling",
        Tiers,
        "5m:90d,1h:2y",
        "Aggregates by buckets of time that are kept longer than the data itself: resolution and \
         retention of each tier. Historical queries use them by themselves. A tier that is left \
         out keeps what it has. With `--source=none` alone there is none unless this flag is given.",
    ),
    flag(
        Storing,
        "head-size-max",
        Size,
        "256MiB",
        "How many bytes of memory the newest samples take before they are written to a segment; \
         from 1MiB to 16GiB. While that runs, as much again may arrive. Less means more and smaller \
         segments, and a shorter replay after a crash.",
    ),
    flag(
        Storing,
        "ack",
        Choice(&["durable", "buffered", "memory"]),
        "buffered",
        "When a batch counts as stored. `durable`: it is on disk and survives a power failure. \
         `buffered`: the kernel has it; it survives a crash of this process, and a power failure \
         costs about a second. `memory`: a crash may cost what is not yet in a segment.",
    ),
    flag(
        Serving,
        "heapster-port",
        Int(0, 65_535),
        "8082",
        "Port of the HTTP APIs; 0 picks a free one.",
    ),
    flag(
        Serving,
        "listen-ip",
        Ip,
        "127.0.0.1",
        "Address of --heapster-port; empty for all interfaces. (Heapster listened on all by default.) \
         One that is not loopback needs --tls-cert with --tls-client-ca or a file of users, or \
         --insecure-allow-unauthenticated.",
    ),
    flag(
        Serving,
        "insecure-allow-unauthenticated",
        Bool,
        "false",
        "Serve on an address that is not loopback without TLS and without asking who calls: \
         everyone who reaches the port can read all metrics and, unless \
         --remote-write-receiver=false, push some.",
    ),
    flag(
        Serving,
        "remote-write-receiver",
        Bool,
        "true",
        "Take samples that Prometheus and its kin push to /api/v1/write (remote write 1.0 and 2.0). \
         They may come up to an hour after the newest sample of the store, in any order; with \
         --retention=forever they may be of any time.",
    ),
    flag(
        Serving,
        "query-timeout",
        Duration(1),
        "30s",
        "Longest time a PromQL query may take, the wait for its turn included. A request may ask for \
         less with `timeout`. (Prometheus: 2m.)",
    ),
    flag(
        Serving,
        "query-max-concurrency",
        Int(1, 1_024),
        "8",
        "PromQL queries that run at one time; more wait for their turn. A quarter of the turns, at least \
         one, is for queries that are done in 250 ms. (Prometheus runs 20.)",
    ),
    flag(
        Serving,
        "query-max-samples",
        Int(1, 1_000_000_000_000),
        "50000000",
        "Samples and points that one PromQL query may hold at one time.",
    ),
    flag(
        Serving,
        "query-memory-max",
        Size,
        "256MiB",
        "Memory that one PromQL query may hold at one time, estimated; all that run at one time may \
         each take as much.",
    ),
    flag(
        Serving,
        "query-lookback-delta",
        Duration(1),
        "5m0s",
        "How far back a PromQL query looks for the newest sample of a series. A request may ask for \
         another with `lookback_delta`.",
    ),
    flag(
        Serving,
        "disable-export",
        Bool,
        "false",
        "Answer /api/v1/metric-export with an empty list.",
    ),
    flag(Serving, "profiling", Bool, "false", "Serve runtime profiles under /debug/pprof/."),
    flag(
        Securing,
        "secure-port",
        Int(0, 65_535),
        "0",
        "Port on which all APIs are served over TLS to whoever may ask, as an aggregated API server; \
         0 is none, or 443 with --api-server.",
    ),
    flag(
        Securing,
        "api-server",
        Bool,
        "false",
        "Serve on --secure-port, 443 unless it says otherwise.",
    ),
    flag(
        Securing,
        "bind-address",
        Ip,
        "0.0.0.0",
        "Address of --secure-port; empty for all interfaces.",
    ),
    flag(
        Securing,
        "tls-cert-file",
        Path,
        "",
        "Certificate chain that --secure-port shows. Without it one is made, kept in --cert-dir and \
         renewed. Files that change are taken over.",
    ),
    flag(Securing, "tls-private-key-file", Path, "", "Key of --tls-cert-file."),
    flag(
        Securing,
        "cert-dir",
        Path,
        "",
        "Where a certificate of our own making is kept. Default: `certificates` in --data-dir.",
    ),
    flag(
        Securing,
        "tls-sni-cert-key",
        Each("CERT,KEY[:NAME,…]"),
        "",
        "Certificate and key for clients that ask for one of these names, `*.` standing for one part; \
         without names, for those in the certificate.",
    ),
    flag(
        Securing,
        "tls-min-version",
        Choice(&["VersionTLS12", "VersionTLS13"]),
        "VersionTLS12",
        "Oldest version of TLS.",
    ),
    flag(
        Securing,
        "client-ca-file",
        Path,
        "",
        "Authorities of users' certificates: common name is the user, organizations are groups. \
         Default: what the cluster says.",
    ),
    flag(
        Securing,
        "requestheader-client-ca-file",
        Path,
        "",
        "Authorities of the front proxy's certificate; only beside one of theirs are names of users \
         in headers believed. Default: what the cluster says, with the names of the next four.",
    ),
    flag(
        Securing,
        "requestheader-allowed-names",
        List,
        "",
        "Common names of the front proxy; empty is any that the authorities vouch for.",
    ),
    flag(Securing, "requestheader-username-headers", List, "", "Default: `x-remote-user`."),
    flag(Securing, "requestheader-group-headers", List, "", "Default: `x-remote-group`."),
    flag(Securing, "requestheader-extra-headers-prefix", List, "", "Default: `x-remote-extra-`."),
    flag(
        Securing,
        "authentication-kubeconfig",
        Path,
        "",
        "The API server that is asked whose tokens are and what users may do. Default: that of \
         --source, or the one of the pod.",
    ),
    flag(
        Securing,
        "authentication-skip-lookup",
        Bool,
        "false",
        "Do not ask the cluster whom it trusts (extension-apiserver-authentication).",
    ),
    flag(
        Securing,
        "authentication-tolerate-lookup-failure",
        Bool,
        "false",
        "Start even when the cluster does not say whom it trusts.",
    ),
    flag(
        Securing,
        "authentication-token-webhook-cache-ttl",
        Duration(0),
        "10s",
        "How long it is remembered whose a token is.",
    ),
    flag(
        Securing,
        "authorization-webhook-cache-authorized-ttl",
        Duration(0),
        "10s",
        "How long it is remembered that a user may do something.",
    ),
    flag(
        Securing,
        "authorization-webhook-cache-unauthorized-ttl",
        Duration(0),
        "10s",
        "How long it is remembered that a user may not.",
    ),
    flag(
        Securing,
        "authorization-always-allow-paths",
        List,
        "",
        "Paths that everybody may get; `*` at the end stands for anything. Default: \
         `/healthz,/livez,/readyz`; what is given takes their place.",
    ),
    flag(
        Securing,
        "anonymous-auth",
        Bool,
        "true",
        "Whether whoever shows nothing is the user system:anonymous, whose rights are asked for. \
         Without an API server such a user has none.",
    ),
    flag(
        Securing,
        "token-auth-file",
        Path,
        "",
        "Users with bearer tokens, for use outside a cluster: lines `TOKEN,NAME,UID,\"GROUP,GROUP\"`. Read \
         again when it changes.",
    ),
    flag(
        Securing,
        "basic-auth-file",
        Path,
        "",
        "Users with passwords: lines `PASSWORD,NAME,UID,\"GROUP,GROUP\"`. Read again when it changes.",
    ),
    flag(
        Securing,
        "tls-cert",
        Path,
        "",
        "Certificate chain of --heapster-port, which is served over TLS then.",
    ),
    flag(Securing, "tls-key", Path, "", "Key of --tls-cert."),
    flag(
        Securing,
        "tls-client-ca",
        Path,
        "",
        "Authorities of the certificates of --heapster-port's clients. With it, or a file of users, \
         only those who are known are answered there.",
    ),
    flag(
        Securing,
        "allowed-users",
        List,
        "",
        "Users that --heapster-port answers; empty is all that are known. It needs --tls-client-ca or a \
         file of users.",
    ),
    flag(
        Process,
        "log-level",
        Choice(&["", "error", "warn", "info", "debug", "trace"]),
        "",
        "Least important level to log. Default: `info`, or what --v asks for.",
    ),
    flag(
        Process,
        "log-format",
        Choice(&["auto", "text", "json"]),
        "auto",
        "Form of log lines; `auto` is text on a terminal and JSON elsewhere.",
    ),
    flag(
        Process,
        "logging-format",
        Choice(&["text", "json"]),
        "",
        "As in metrics-server: --log-format.",
    ),
    flag(
        Process,
        "v",
        Int(0, 1_000),
        "0",
        "Heapster's verbosity: 1 to 5 is --log-level=debug, more is trace.",
    ),
    flag(
        Process,
        "max-procs",
        Int(i64::MIN, 1_024),
        "0",
        "Threads that serve requests; less than one is one per CPU.",
    ),
    flag(Process, "version", Bool, "false", "Print version and commit, and exit."),
    flag(Process, "help", Bool, "false", "Print this help, and exit."),
    flag(NoEffect, "historical-source", Text, "", "The store always answers the historical API."),
    flag(NoEffect, "disable-metric-sink", Bool, "false", "The store has taken the sink's place."),
    flag(NoEffect, "log-flush-frequency", Duration(0), "5s", "Log lines are written at once."),
    flag(NoEffect, "logtostderr", Bool, "true", ALWAYS_STDERR),
    flag(NoEffect, "alsologtostderr", Bool, "false", ALWAYS_STDERR),
    flag(NoEffect, "log-dir", Path, "", ALWAYS_STDERR),
    flag(NoEffect, "stderrthreshold", Text, "2", ONE_LEVEL),
    flag(NoEffect, "vmodule", Text, "", ONE_LEVEL),
    flag(NoEffect, "log-backtrace-at", Text, ":0", "Backtraces are not logged."),
    flag(NoEffect, "tls-ca-file", Path, "", "The chain of --tls-cert-file is shown as it is."),
    flag(
        NoEffect,
        "authorization-kubeconfig",
        Path,
        "",
        "--authentication-kubeconfig is for both.",
    ),
    flag(
        NoEffect,
        "kubelet-use-node-status-port",
        Bool,
        "false",
        "Kubelets are asked at 10250, unless --source or --kubelet-port says otherwise.",
    ),
    flag(NoEffect, "contention-profiling", Bool, "false", "There is nothing to profile so."),
    flag(NoEffect, "enable-swagger-ui", Bool, "false", "OpenAPI documents are always served."),
];

/// The flag of that name in a table; `-` and `_` are alike, and `.` as in Prometheus' `query.timeout`.
pub fn find(table: &'static [Flag], name: &str) -> Option<&'static Flag> {
    let name = name.replace(['_', '.'], "-");
    table.iter().find(|flag| flag.name == name)
}

/// The flag whose name is nearest to a mistyped one, unless it is something else altogether.
pub fn nearest(table: &'static [Flag], name: &str) -> Option<&'static Flag> {
    let names = table.iter().map(|flag| flag.name);
    nearest_name(names, &name.replace('_', "-")).and_then(|name| find(table, name))
}

/// The name that is nearest to a mistyped one, unless it is something else altogether.
pub(super) fn nearest_name(
    names: impl IntoIterator<Item = &'static str>,
    typed: &str,
) -> Option<&'static str> {
    let distances = names.into_iter().map(|name| (edit_distance(typed, name), name));
    let (distance, name) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + typed.len().min(24) / 5).then_some(name)
}

/// How many characters must be added, removed or replaced to turn one text into the other.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (index, char) in a.chars().take(200).enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(char != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_unique_and_each_default_is_accepted() {
        for (index, flag) in FLAGS.iter().enumerate() {
            assert!(FLAGS[..index].iter().all(|other| other.name != flag.name), "{}", flag.name);
            assert!(!flag.name.contains('_'), "{}", flag.name);
            if !flag.default.is_empty() {
                assert!(flag.kind.accepts(flag.default), "{}", flag.name);
            }
        }
    }

    #[test]
    fn a_mistyped_name_finds_its_flag() {
        let name = |typed| nearest(FLAGS, typed).map(|flag| flag.name);
        assert_eq!(name("metric_resolutoin"), Some("metric-resolution"));
        assert_eq!(name("sorce"), Some("source"));
        assert_eq!(name("port"), None);
        assert_eq!(name("completely-different-thing"), None);
    }
}
