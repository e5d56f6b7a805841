//! A configuration file as Prometheus writes it: `global` and `scrape_configs`.
//!
//! What we do not do is not passed over: an unknown field is an error with its line, since a setting
//! that is silently left out is a wrong one. docs/sources/prometheus.md has the table of fields.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use heapster_query::promql;
use serde::Deserialize;

use super::super::relabel::{Action, LabelMap, Rule, RuleOptions};
use super::{
    Auth, FileDiscovery, INTERVAL, INTERVAL_MIN, JobConfig, Limits, Protocol, Scheme, Secret,
    TIMEOUT, TargetGroup, TlsConfig,
};

/// How often files of targets are looked at.
const REFRESH: Duration = Duration::from_secs(300);
/// The longest duration of a configuration.
const DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Reads the text of a configuration file; its paths are relative to `folder`.
///
/// # Errors
/// What is wrong, with its line.
pub(crate) fn parse(text: &str, folder: &Path) -> Result<Vec<JobConfig>, String> {
    let file: FileYaml = read(text)?;
    let mut names = HashSet::new();
    let mut jobs = Vec::with_capacity(file.scrape_configs.len());
    for job in file.scrape_configs {
        if !names.insert(job.job_name.clone()) {
            return Err(format!("there are two jobs of the name {:?}", job.job_name));
        }
        let name = job.job_name.clone();
        let built = job.into_config(&file.global, folder);
        jobs.push(built.map_err(|what| format!("job {name:?}: {what}"))?);
    }
    if jobs.is_empty() {
        return Err("it has no scrape_configs".to_owned());
    }
    Ok(jobs)
}

/// Reads a file of targets: a list of groups, in YAML or in JSON, which is YAML.
///
/// # Errors
/// What is wrong, with its line.
pub(crate) fn parse_groups(text: &str) -> Result<Vec<TargetGroup>, String> {
    let groups: Vec<GroupYaml> = read(text)?;
    Ok(groups.into_iter().map(TargetGroup::from).collect())
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let told = error.to_string();
        match error.location() {
            Some(place) if !told.contains("line ") => format!("line {}: {told}", place.line()),
            _ => told,
        }
    })
}

/// A Prometheus duration, as PromQL writes one; or `0`.
pub(in super::super) fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    promql::duration(text).filter(|one| *one <= DURATION_MAX)
}

/// A number of bytes with a unit, all of them powers of 1024 as Prometheus has them; `0` is none.
fn parse_size(text: &str) -> Option<usize> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "B" | "" => 0,
        "KB" | "KiB" => 10,
        "MB" | "MiB" => 20,
        "GB" | "GiB" => 30,
        "TB" | "TiB" => 40,
        _ => return None,
    };
    let bytes = number.parse::<usize>().ok()?.checked_mul(1 << shift)?;
    (!unit.is_empty() || bytes == 0).then_some(bytes)
}

macro_rules! read_from_text {
    ($type:ty, $parse:expr, $expected:literal) => {
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let parse: fn(&str) -> Option<Self> = $parse;
                parse(&text).ok_or_else(|| format!("{text:?} is not {}", $expected))
            }
        }
    };
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct DurationYaml(Duration);

read_from_text!(
    DurationYaml,
    |text| parse_duration(text).map(Self),
    "a duration such as 15s or 1m30s"
);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct SizeYaml(usize);

read_from_text!(SizeYaml, |text| parse_size(text).map(Self), "a size such as 10MB");

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct ProtocolYaml(Protocol);

read_from_text!(
    ProtocolYaml,
    |text| Some(Self(match text {
        "PrometheusText0.0.4" => Protocol::Text004,
        "PrometheusText1.0.0" => Protocol::Text100,
        "OpenMetricsText0.0.1" => Protocol::OpenMetrics001,
        "OpenMetricsText1.0.0" => Protocol::OpenMetrics100,
        _ => return None,
    })),
    "one of OpenMetricsText1.0.0, OpenMetricsText0.0.1, PrometheusText1.0.0 and PrometheusText0.0.4"
);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct SchemeYaml(Scheme);

read_from_text!(
    SchemeYaml,
    |text| Some(Self(match text {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    })),
    "http or https"
);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct ActionYaml(Action);

read_from_text!(
    ActionYaml,
    |text| Action::from_word(text).map(Self),
    "one of replace, keep, drop, keepequal, dropequal, hashmod, labelmap, labeldrop, labelkeep, \
     lowercase and uppercase"
);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileYaml {
    #[serde(default)]
    global: GlobalYaml,
    #[serde(default)]
    scrape_configs: Vec<JobYaml>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct GlobalYaml {
    scrape_interval: Option<DurationYaml>,
    scrape_timeout: Option<DurationYaml>,
    scrape_protocols: Option<Vec<ProtocolYaml>>,
    body_size_limit: Option<SizeYaml>,
    sample_limit: Option<usize>,
    target_limit: Option<usize>,
    label_limit: Option<usize>,
    label_name_length_limit: Option<usize>,
    label_value_length_limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobYaml {
    job_name: String,
    scrape_interval: Option<DurationYaml>,
    scrape_timeout: Option<DurationYaml>,
    metrics_path: Option<String>,
    scheme: Option<SchemeYaml>,
    #[serde(default)]
    params: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    honor_labels: bool,
    honor_timestamps: Option<bool>,
    #[serde(default)]
    track_timestamps_staleness: bool,
    scrape_protocols: Option<Vec<ProtocolYaml>>,
    fallback_scrape_protocol: Option<ProtocolYaml>,
    enable_compression: Option<bool>,
    follow_redirects: Option<bool>,
    basic_auth: Option<BasicYaml>,
    authorization: Option<AuthorizationYaml>,
    bearer_token: Option<String>,
    bearer_token_file: Option<PathBuf>,
    #[serde(default)]
    tls_config: TlsYaml,
    #[serde(default)]
    static_configs: Vec<GroupYaml>,
    #[serde(default)]
    file_sd_configs: Vec<FilesYaml>,
    #[serde(default)]
    relabel_configs: Vec<RuleYaml>,
    #[serde(default)]
    metric_relabel_configs: Vec<RuleYaml>,
    body_size_limit: Option<SizeYaml>,
    sample_limit: Option<usize>,
    target_limit: Option<usize>,
    label_limit: Option<usize>,
    label_name_length_limit: Option<usize>,
    label_value_length_limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BasicYaml {
    username: Option<String>,
    username_file: Option<PathBuf>,
    password: Option<String>,
    password_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthorizationYaml {
    r#type: Option<String>,
    credentials: Option<String>,
    credentials_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TlsYaml {
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    server_name: Option<String>,
    insecure_skip_verify: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupYaml {
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl From<GroupYaml> for TargetGroup {
    fn from(group: GroupYaml) -> Self {
        Self { targets: group.targets, labels: group.labels.into_iter().collect() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilesYaml {
    files: Vec<PathBuf>,
    refresh_interval: Option<DurationYaml>,
}

/// A rule, checked where it stands so that an error has its line.
#[derive(Debug, Deserialize)]
#[serde(try_from = "RuleFieldsYaml")]
struct RuleYaml(Rule);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFieldsYaml {
    #[serde(default)]
    source_labels: Vec<String>,
    separator: Option<String>,
    regex: Option<String>,
    #[serde(default)]
    modulus: u64,
    #[serde(default)]
    target_label: String,
    replacement: Option<String>,
    action: Option<ActionYaml>,
}

impl TryFrom<RuleFieldsYaml> for RuleYaml {
    type Error = String;

    fn try_from(fields: RuleFieldsYaml) -> Result<Self, String> {
        let options = RuleOptions {
            source_labels: fields.source_labels,
            separator: fields.separator,
            regex: fields.regex,
            modulus: fields.modulus,
            target_label: fields.target_label,
            replacement: fields.replacement,
            action: fields.action.map_or_else(Action::default, |action| action.0),
        };
        Rule::new(options).map(Self).map_err(|what| format!("a relabel rule: {what}"))
    }
}

impl JobYaml {
    fn into_config(self, global: &GlobalYaml, folder: &Path) -> Result<JobConfig, String> {
        if self.job_name.is_empty() {
            return Err("it has no name".to_owned());
        }
        if self.follow_redirects == Some(true) {
            return Err("follow_redirects: redirects are not followed".to_owned());
        }
        let interval = self.scrape_interval.or(global.scrape_interval).map_or(INTERVAL, |d| d.0);
        if interval < INTERVAL_MIN {
            return Err(format!("its scrape_interval is below {INTERVAL_MIN:?}"));
        }
        let timeout = match (self.scrape_timeout, global.scrape_timeout) {
            (Some(own), _) => own.0,
            // The global one gives way to a shorter interval.
            (None, Some(global)) => global.0.min(interval),
            (None, None) => TIMEOUT.min(interval),
        };
        if timeout > interval || timeout.is_zero() {
            return Err(
                "its scrape_timeout is greater than its scrape_interval, or zero".to_owned()
            );
        }
        let tls = self.tls_config.into_config(folder)?;
        let auth =
            auth(self.basic_auth, self.authorization, (self.bearer_token, self.bearer_token_file))?;
        let protocols = self.scrape_protocols.or_else(|| global.scrape_protocols.clone());
        let protocols: Vec<Protocol> = match protocols {
            Some(given) if given.is_empty() => return Err("its scrape_protocols are none".into()),
            Some(given) => given.into_iter().map(|protocol| protocol.0).collect(),
            None => Protocol::ALL.to_vec(),
        };
        let limit = |own: Option<usize>, global: Option<usize>| own.or(global).unwrap_or_default();
        let body_bytes = self.body_size_limit.or(global.body_size_limit).map_or(0, |size| size.0);
        let files =
            self.file_sd_configs.into_iter().map(|files| FilesYaml::into_config(files, folder));
        Ok(JobConfig {
            interval,
            timeout,
            metrics_path: self.metrics_path.unwrap_or_else(|| "/metrics".to_owned()),
            scheme: self.scheme.map_or(Scheme::Http, |scheme| scheme.0),
            params: self.params.into_iter().collect(),
            honor_labels: self.honor_labels,
            honor_timestamps: self.honor_timestamps.unwrap_or(true),
            track_timestamps_staleness: self.track_timestamps_staleness,
            protocols,
            fallback: self.fallback_scrape_protocol.map(|protocol| protocol.0),
            compression: self.enable_compression.unwrap_or(true),
            auth: auth.in_folder(folder),
            tls,
            groups: self.static_configs.into_iter().map(TargetGroup::from).collect(),
            files: files.collect::<Result<_, _>>()?,
            relabel: self.relabel_configs.into_iter().map(|rule| rule.0).collect(),
            metric_relabel: self.metric_relabel_configs.into_iter().map(|rule| rule.0).collect(),
            limits: Limits {
                samples: limit(self.sample_limit, global.sample_limit),
                targets: limit(self.target_limit, global.target_limit),
                labels: limit(self.label_limit, global.label_limit),
                label_name_bytes: limit(
                    self.label_name_length_limit,
                    global.label_name_length_limit,
                ),
                label_value_bytes: limit(
                    self.label_value_length_limit,
                    global.label_value_length_limit,
                ),
                body_bytes: if body_bytes == 0 { Limits::default().body_bytes } else { body_bytes },
            },
            ..JobConfig::named(self.job_name)
        })
    }
}

impl TlsYaml {
    fn into_config(self, folder: &Path) -> Result<TlsConfig, String> {
        let join = |path: PathBuf| folder.join(path);
        let identity = match (self.cert_file, self.key_file) {
            (Some(certificate), Some(key)) => Some((join(certificate), join(key))),
            (None, None) => None,
            _ => return Err("tls_config: cert_file and key_file go together".to_owned()),
        };
        Ok(TlsConfig {
            ca_file: self.ca_file.map(join),
            identity,
            server_name: self.server_name.filter(|name| !name.is_empty()),
            insecure_skip_verify: self.insecure_skip_verify,
        })
    }
}

impl FilesYaml {
    fn into_config(self, folder: &Path) -> Result<FileDiscovery, String> {
        const EXTENSIONS: [&str; 3] = ["json", "yml", "yaml"];
        let refresh = self.refresh_interval.map_or(REFRESH, |duration| duration.0);
        for path in &self.files {
            let text = path.to_string_lossy();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_known = EXTENSIONS.iter().any(|ending| name.ends_with(&format!(".{ending}")));
            let stars = text.matches('*').count();
            if !is_known || stars > 1 || stars != name.matches('*').count() {
                return Err(format!(
                    "file_sd_configs: {text:?} is no path to a .json, .yml or .yaml whose name has \
                     one * at most"
                ));
            }
        }
        let patterns = self.files.into_iter().map(|path| folder.join(path)).collect();
        Ok(FileDiscovery { patterns, refresh: refresh.max(Duration::from_secs(1)) })
    }
}

type Token = (Option<String>, Option<PathBuf>);

fn auth(
    basic: Option<BasicYaml>,
    authorization: Option<AuthorizationYaml>,
    token: Token,
) -> Result<Auth, String> {
    let has_token = token.0.is_some() || token.1.is_some();
    if usize::from(basic.is_some()) + usize::from(authorization.is_some()) + usize::from(has_token)
        > 1
    {
        return Err("basic_auth, authorization and bearer_token are one at most".to_owned());
    }
    if let Some(basic) = basic {
        let name = secret("username", (basic.username, basic.username_file))?;
        let password = secret("password", (basic.password, basic.password_file))?;
        return Ok(Auth::Basic(name, password));
    }
    if let Some(given) = authorization {
        let credentials = secret("credentials", (given.credentials, given.credentials_file))?;
        let kind = given.r#type.unwrap_or_else(|| "Bearer".to_owned());
        if kind.eq_ignore_ascii_case("basic") {
            return Err("authorization: the type Basic is what basic_auth is for".to_owned());
        }
        return Ok(Auth::Header(kind, credentials));
    }
    match has_token {
        true => Ok(Auth::Header("Bearer".to_owned(), secret("bearer_token", token)?)),
        false => Ok(Auth::None),
    }
}

/// The secret or its file. Nothing at all is an empty one.
fn secret(what: &str, given: Token) -> Result<Secret, String> {
    match given {
        (Some(_), Some(_)) => Err(format!("{what} and {what}_file are one at most")),
        (text, None) => Ok(Secret::Inline(text.unwrap_or_default().into())),
        (None, Some(path)) => Ok(Secret::File(path)),
    }
}

impl Auth {
    fn in_folder(self, folder: &Path) -> Self {
        let join = |secret| match secret {
            Secret::File(path) => Secret::File(folder.join(path)),
            inline => inline,
        };
        match self {
            Self::None => Self::None,
            Self::Basic(name, password) => Self::Basic(join(name), join(password)),
            Self::Header(kind, credentials) => Self::Header(kind, join(credentials)),
        }
    }
}

/// The labels that a file says, without those of its own.
impl From<BTreeMap<String, String>> for LabelMap {
    fn from(labels: BTreeMap<String, String>) -> Self {
        labels.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<JobConfig>, String> {
        parse(text, Path::new("/etc/heapster"))
    }

    #[test]
    fn a_file_of_prometheus_is_read_with_its_defaults() {
        let jobs = parsed(
            "
global:
  scrape_interval: 15s
  scrape_timeout: 12s
  label_limit: 30
scrape_configs:
- job_name: node
  static_configs:
  - targets: ['10.0.0.1:9100', \"10.0.0.2:9100\"]
    labels: {rack: a1}
- job_name: everything
  scrape_interval: 5s
  scrape_timeout: 4s500ms
  metrics_path: /probe
  scheme: https
  params: {module: [http_2xx], 'collect[]': [cpu, meminfo]}
  honor_labels: true
  honor_timestamps: false
  track_timestamps_staleness: true
  scrape_protocols: [PrometheusText0.0.4]
  fallback_scrape_protocol: OpenMetricsText1.0.0
  enable_compression: false
  follow_redirects: false
  basic_auth: {username: me, password_file: secret}
  tls_config: {ca_file: ca.pem, cert_file: /c.pem, key_file: k.pem, server_name: x, insecure_skip_verify: true}
  file_sd_configs:
  - files: [targets/*.json]
    refresh_interval: 1m
  relabel_configs:
  - source_labels: [__address__]
    regex: (.*):\\d+
    target_label: host
  metric_relabel_configs:
  - {action: Drop, source_labels: [__name__], regex: 'go_.*'}
  body_size_limit: 10MB
  sample_limit: 5
  label_limit: 6
  label_name_length_limit: 7
  label_value_length_limit: 8
  target_limit: 9
",
        )
        .unwrap();
        let seconds = Duration::from_secs;
        assert_eq!((jobs[0].interval, jobs[0].timeout), (seconds(15), seconds(12)));
        assert_eq!(jobs[0].limits, Limits { labels: 30, ..Limits::default() });
        assert_eq!(jobs[0].groups[0].targets, ["10.0.0.1:9100", "10.0.0.2:9100"]);
        assert_eq!(jobs[0].groups[0].labels.get("rack"), "a1");
        let job = &jobs[1];
        assert_eq!((job.interval, job.timeout), (seconds(5), Duration::from_millis(4_500)));
        assert_eq!((job.scheme, job.metrics_path.as_str()), (Scheme::Https, "/probe"));
        assert_eq!(job.params[0], ("collect[]".to_owned(), vec!["cpu".into(), "meminfo".into()]));
        assert!(job.honor_labels && !job.honor_timestamps && job.track_timestamps_staleness);
        assert_eq!(
            (job.protocols.as_slice(), job.fallback),
            (&[Protocol::Text004][..], Some(Protocol::OpenMetrics100))
        );
        assert!(!job.compression && job.tls.insecure_skip_verify);
        assert_eq!(job.tls.ca_file.as_deref(), Some(Path::new("/etc/heapster/ca.pem")));
        assert!(
            matches!(&job.auth, Auth::Basic(_, Secret::File(path)) if path == Path::new("/etc/heapster/secret"))
        );
        assert_eq!(job.files[0].patterns, [Path::new("/etc/heapster/targets/*.json")]);
        assert_eq!((job.relabel.len(), job.metric_relabel.len()), (1, 1));
        let limits = Limits {
            samples: 5,
            labels: 6,
            label_name_bytes: 7,
            label_value_bytes: 8,
            targets: 9,
            body_bytes: 10 << 20,
        };
        assert_eq!(job.limits, limits);
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_line_and_name() {
        let job = |field: &str| format!("scrape_configs:\n- job_name: a\n  {field}\n");
        for (text, parts) in [
            ("rule_files: [x]\n".to_owned(), &["line 1", "rule_files"][..]),
            (job("scrape_intervall: 5s"), &["line 3", "scrape_intervall"]),
            (job("scrape_interval: 5"), &["line 3", "\"5\" is not a duration"]),
            (job("scrape_interval: 1s\n  scrape_timeout: 2s"), &["job \"a\"", "scrape_timeout"]),
            (job("kubernetes_sd_configs: []"), &["line 3", "kubernetes_sd_configs"]),
            (job("scheme: ftp"), &["line 3", "\"ftp\" is not http or https"]),
            (job("relabel_configs: [{action: jump}]"), &["line 3", "\"jump\" is not one of"]),
            (
                job("relabel_configs:\n  - regex: '('\n    target_label: x"),
                &["line 4", "the regex"],
            ),
            (job("relabel_configs:\n  - regexp: x"), &["line 4", "regexp"]),
            (job("basic_auth: {username: a, username_file: b}"), &["username_file are one"]),
            (job("basic_auth: {username: a}\n  bearer_token: x"), &["are one at most"]),
            (job("follow_redirects: true"), &["redirects are not followed"]),
            (job("scrape_protocols: [PrometheusProto]"), &["line 3", "PrometheusProto"]),
            (job("body_size_limit: 5x"), &["line 3", "\"5x\" is not a size"]),
            (job("file_sd_configs: [{files: [a.txt]}]"), &["a.txt"]),
            (job("tls_config: {cert_file: x}"), &["cert_file and key_file go together"]),
            ("scrape_configs: [{job_name: a}, {job_name: a}]".to_owned(), &["two jobs"]),
            ("scrape_configs: []".to_owned(), &["no scrape_configs"]),
            ("scrape_configs: [".to_owned(), &["line"]),
            (String::new(), &["no scrape_configs"]),
        ] {
            let error = parsed(&text).expect_err(&text);
            assert!(parts.iter().all(|part| error.contains(part)), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn durations_have_each_unit_once_and_in_order() {
        for (text, millis) in [
            ("0", Some(0)),
            ("15s", Some(15_000)),
            ("1h30m", Some(5_400_000)),
            ("1m0s", Some(60_000)),
            ("5ms", Some(5)),
            ("1y1w1d", Some((365 + 7 + 1) * 86_400_000)),
            ("", None),
            ("s", None),
            ("5", None),
            ("1s1s", None),
            ("1s1m", None),
            ("1.5s", None),
            ("-1s", None),
            ("99999999999999999999s", None),
            ("9999y", None),
        ] {
            assert_eq!(parse_duration(text), millis.map(Duration::from_millis), "{text}");
        }
        for (text, bytes) in
            [("0", Some(0)), ("1KB", Some(1024)), ("2MiB", Some(2 << 20)), ("5", None), ("B", None)]
        {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }

    #[test]
    fn files_of_targets_are_yaml_or_json() {
        let json = r#"[{"targets": ["a:1"], "labels": {"x": "y"}}, {"targets": []}]"#;
        let groups = parse_groups(json).unwrap();
        assert_eq!((groups.len(), groups[0].labels.get("x")), (2, "y"));
        assert_eq!(
            parse_groups("- targets: [a:1]\n  labels: {x: y}\n- targets: []").unwrap(),
            groups
        );
        assert!(parse_groups("- target: [a:1]").unwrap_err().contains("line 1"));
    }
}
