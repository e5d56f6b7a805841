//! The command line reads Heapster's flags as Heapster did, and says clearly what it does not take.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use heapster_server::cli::{self, Command, Config, FLAGS, Kind};
use heapster_server::telemetry::logging::{LogFormat, LogLevel};
use heapster_store::Ack;

fn command_in(environment: &[(&str, &str)], arguments: &[&str]) -> Result<Command, String> {
    let environment: BTreeMap<&str, &str> = environment.iter().copied().collect();
    let lookup = |name: &str| environment.get(name).map(|value| (*value).to_owned());
    cli::command(arguments.iter().map(|argument| (*argument).to_owned()), &lookup)
        .map_err(|error| error.to_string())
}

#[track_caller]
fn serve(arguments: &[&str]) -> (Config, Vec<String>) {
    match command_in(&[], arguments) {
        Ok(Command::Serve(config, notes)) => (*config, notes),
        other => panic!("{arguments:?} gave {other:?}"),
    }
}

#[track_caller]
fn config(arguments: &[&str]) -> Config {
    serve(arguments).0
}

#[track_caller]
fn refusal(arguments: &[&str]) -> String {
    command_in(&[], arguments).expect_err("this should be refused")
}

/// A value that the flag takes, other than its default.
fn other_value(flag: &cli::Flag) -> String {
    match flag.kind {
        Kind::Bool => (flag.default != "true").to_string(),
        Kind::Int(..) => "3".to_owned(),
        Kind::Duration(_) => "25s".to_owned(),
        Kind::Retention => "3w".to_owned(),
        Kind::Size => "3GiB".to_owned(),
        Kind::Tiers => "10m:30d".to_owned(),
        Kind::Text | Kind::Path | Kind::Each(_) => "something".to_owned(),
        Kind::Moment => "2018-07-26".to_owned(),
        Kind::List => "one,two".to_owned(),
        Kind::Uri if flag.name == "source" => "none".to_owned(),
        Kind::Uri => "log".to_owned(),
        Kind::Ip => "::1".to_owned(),
        Kind::Choice(words) => words[words.len() - 1].to_owned(),
    }
}

#[test]
fn every_flag_is_read_in_all_spellings() {
    for flag in FLAGS {
        let value = other_value(flag);
        let underscored = flag.name.replace('-', "_");
        let mut spellings = vec![
            vec![format!("--{}={value}", flag.name)],
            vec![format!("--{underscored}={value}")],
        ];
        if !matches!(flag.kind, Kind::Bool) {
            spellings.push(vec![format!("--{}", flag.name), value.clone()]);
            spellings.push(vec![format!("--{underscored}"), value.clone()]);
        } else if value == "true" {
            spellings.push(vec![format!("--{}", flag.name)]);
        }
        for spelling in spellings {
            let parsed = cli::parse(spelling.clone());
            let values = parsed.unwrap_or_else(|error| panic!("{spelling:?}: {error}")).values;
            match flag.kind {
                Kind::List => assert_eq!(values.all(flag.name), ["one", "two"], "{spelling:?}"),
                _ => assert_eq!(values.get(flag.name), value, "{spelling:?}"),
            }
        }
    }
}

#[test]
fn a_bad_value_of_any_flag_names_the_flag_the_value_and_what_is_accepted() {
    for flag in FLAGS {
        let bad = match flag.kind {
            Kind::Text | Kind::List | Kind::Each(_) => continue,
            Kind::Path => "a\0b",
            Kind::Uri => ":no-key",
            _ => "certainly not",
        };
        let error = refusal(&[&format!("--{}={bad}", flag.name)]);
        let bad = if matches!(flag.kind, Kind::Uri) { ":…" } else { bad };
        let expected =
            format!("--{} cannot be {bad:?}: expected {}", flag.name, flag.kind.expected());
        assert_eq!(error, expected);
    }
}

#[test]
fn a_flag_without_its_value_says_what_is_missing() {
    for flag in FLAGS.iter().filter(|flag| !matches!(flag.kind, Kind::Bool)) {
        let error = refusal(&[&format!("--{}", flag.name)]);
        assert!(error.starts_with(&format!("--{} needs a value: ", flag.name)), "{error}");
    }
}

#[test]
fn without_flags_this_machine_is_collected_and_served_on_loopback() {
    let (config, notes) = serve(&[]);
    assert!(notes.is_empty());
    assert_eq!(config.source.key(), "host");
    assert!(config.sinks.is_empty());
    assert_eq!(config.resolution, Duration::from_secs(60));
    assert_eq!(config.export_timeout, Duration::from_secs(20));
    assert_eq!(config.retention, Some(Duration::from_secs(15 * 86_400)));
    assert_eq!(config.retention_bytes, None);
    assert_eq!(config.ack, Ack::Buffered);
    assert_eq!(config.listen.to_string(), "127.0.0.1:8082");
    assert!(!config.disable_export && !config.profiling);
    assert_eq!(config.threads, None);
    assert_eq!((config.log_format, config.log_level), (LogFormat::Auto, LogLevel::Info));
    assert!(config.data_dir.ends_with("heapster"), "{:?}", config.data_dir);
}

#[test]
fn in_a_pod_the_cluster_is_collected() {
    let pod = [("KUBERNETES_SERVICE_HOST", "10.0.0.1")];
    let Ok(Command::Serve(config, _)) = command_in(&pod, &["serve"]) else { panic!("no config") };
    assert_eq!(config.source.key(), "kubernetes.summary_api");
    let Ok(Command::Serve(config, _)) = command_in(&pod, &["--source=host"]) else {
        panic!("no config")
    };
    assert_eq!(config.source.key(), "host");
}

#[test]
fn values_reach_the_configuration() {
    let config = config(&[
        "serve",
        "--source=kubernetes.summary_api:?kubeletPort=10250",
        "--sink=log",
        "--sink",
        "metric",
        "--metric_resolution=10s",
        "--data-dir",
        "/srv/data",
        "--retention=forever",
        "--retention-size=20GiB",
        "--ack=durable",
        "--listen_ip=::1",
        "--heapster-port=0",
        "--max_procs=4",
        "--profiling",
        "--disable_export=T",
        "--log-format=json",
        "--v=7",
    ]);
    assert_eq!(config.source.to_string(), "kubernetes.summary_api:?kubeletPort=10250");
    let sinks: Vec<_> = config.sinks.iter().map(|sink| sink.key().to_owned()).collect();
    assert_eq!(sinks, ["log", "metric"]);
    assert_eq!(config.resolution, Duration::from_secs(10));
    assert_eq!(config.data_dir, Path::new("/srv/data"));
    assert_eq!(config.retention, None);
    assert_eq!(config.retention_bytes, Some(20 << 30));
    assert_eq!(config.ack, Ack::Durable);
    assert_eq!(config.listen.to_string(), "[::1]:0");
    assert_eq!(config.threads.map(usize::from), Some(4));
    assert!(config.profiling && config.disable_export);
    assert_eq!((config.log_format, config.log_level), (LogFormat::Json, LogLevel::Trace));
}

#[test]
fn looking_at_stored_data_deletes_nothing_unless_told_to() {
    let days = |days: u64| Some(Duration::from_secs(days * 86_400));
    assert_eq!(config(&["--source=none"]).retention, None);
    assert_eq!(config(&["--source=none", "--retention=15d"]).retention, days(15));
    assert_eq!(config(&["--source=host"]).retention, days(15));
}

#[test]
fn verbosity_is_heapsters_and_a_level_overrules_it() {
    assert_eq!(config(&["--v=0"]).log_level, LogLevel::Info);
    assert_eq!(config(&["-v", "2"]).log_level, LogLevel::Debug);
    assert_eq!(config(&["-v4"]).log_level, LogLevel::Debug);
    assert_eq!(config(&["-v=6"]).log_level, LogLevel::Trace);
    assert_eq!(config(&["--v=6", "--log-level=warn"]).log_level, LogLevel::Warn);
}

#[test]
fn of_a_flag_given_twice_the_last_counts() {
    assert_eq!(config(&["--heapster-port=1", "--heapster_port=2"]).listen.port(), 2);
}

#[test]
fn a_command_line_of_an_old_manifest_works_and_says_what_has_no_effect() {
    let (config, notes) = serve(&[
        "--source=kubernetes.summary_api:''",
        "--sink=log",
        "--logtostderr=true",
        "--vmodule=x=1",
        "--historical_source=influxdb:http://a",
        "--secure-port=8443",
        "leftover",
    ]);
    assert_eq!(config.source.key(), "kubernetes.summary_api");
    assert_eq!(config.secure_port.unwrap().listen.to_string(), "0.0.0.0:8443");
    assert_eq!(
        notes,
        [
            "ignored: leftover",
            "--historical-source has no effect. The store always answers the historical API.",
            "--vmodule has no effect. Use --log-level.",
        ]
    );
}

#[test]
fn a_command_line_of_metrics_server_works() {
    let (config, notes) = serve(&[
        "--source=kubernetes.resource_metrics:?scrapeTimeout=5s",
        "--cert-dir=/tmp",
        "--secure-port=10250",
        "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
        "--kubelet-use-node-status-port",
        "--metric-resolution=15s",
        "--kubelet-insecure-tls",
        "--kubelet-port=4443",
        "--kubelet-request-timeout=8s",
        "--kubeconfig=/etc/kubeconfig",
        "--logging-format=json",
        "--authorization-always-allow-paths=/metrics",
        "--requestheader-client-ca-file=/ca",
        "--v=2",
    ]);
    let source = &config.source;
    for (option, value) in [
        ("preferredAddressTypes", "InternalIP,ExternalIP,Hostname"),
        ("kubeletInsecureTls", "true"),
        ("kubeletPort", "4443"),
        ("kubeletHttps", "true"),
        ("scrapeTimeout", "5s"),
        ("auth", "/etc/kubeconfig"),
        ("inClusterConfig", "false"),
    ] {
        assert_eq!(source.option(option), Some(value), "{option}");
    }
    assert_eq!(source.to_string().parse(), Ok(source.clone()));
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(
        notes,
        ["--kubelet-use-node-status-port has no effect. Kubelets are asked at 10250, unless \
             --source or --kubelet-port says otherwise."]
    );
    assert_eq!(
        refusal(&["--source=host", "--kubelet-insecure-tls"]),
        "--kubelet-insecure-tls is for a source of Kubernetes, and the source is host"
    );
}

#[test]
fn what_is_not_usable_is_refused_with_a_clause_that_helps() {
    for (arguments, expected) in [
        (vec!["sevre"], "unknown command \"sevre\"; did you mean serve?"),
        (
            vec!["--metric_resolutoin=5s"],
            "unknown flag --metric_resolutoin; did you mean --metric-resolution?",
        ),
        (vec!["-source=host"], "unknown flag -source; did you mean --source?"),
        (vec!["--xyzzy"], "unknown flag --xyzzy"),
        (
            vec!["--metric_resolution=4.999s"],
            "--metric-resolution cannot be \"4.999s\": expected a duration of at least 5 seconds, \
             such as 20s, 1m30s or 1h",
        ),
        (
            vec!["--source=host", "--source=none"],
            "Wrong number of sources specified: --source was given 2 times; give one, and any \
             number of prometheus beside it",
        ),
        (
            vec!["--source=influxdb"],
            "Source not recognized: influxdb; --source is one of host, kubernetes.summary_api, \
             kubernetes.resource_metrics, kubernetes, prometheus and none",
        ),
        (
            vec!["--listen-ip=0.0.0.0"],
            "--listen-ip \"0.0.0.0\" is not loopback, and nobody would be asked who calls: give \
             --tls-cert and --tls-key with --tls-client-ca or a file of users, serve on \
             --secure-port instead, or give --insecure-allow-unauthenticated as well",
        ),
        (vec!["--tls_cert=/cert"], "--tls-cert needs --tls-key beside it"),
        (
            vec!["--tls-private-key-file=/k", "--secure-port=1"],
            "--tls-private-key-file needs --tls-cert-file beside it",
        ),
        (vec!["--allowed-users=a"], "--allowed-users needs --tls-cert and --tls-key beside it"),
        (vec!["--tls-client-ca=/ca"], "--tls-client-ca needs --tls-cert and --tls-key beside it"),
        (
            vec!["--tls-cert=/c", "--tls-key=/k", "--allowed-users=a"],
            "--allowed-users needs --tls-client-ca, or a file of users, to know who is who",
        ),
        (
            vec!["--secure-port=1", "--tls-sni-cert-key=/c"],
            "--tls-sni-cert-key cannot be \"/c\": expected CERT,KEY or CERT,KEY:NAME,…",
        ),
    ] {
        assert_eq!(refusal(&arguments), expected);
    }
    assert!(!refusal(&["--sink=:http://user:hush@host"]).contains("hush"));
    assert!(refusal(&["--store-label=type"]).starts_with("--store-label: "));
    assert!(refusal(&["--listen-ip="]).contains("not loopback"));
    let long = format!("--heapster-port={}", "9".repeat(10_000));
    assert!(refusal(&[&long]).len() < 300);
}

#[test]
fn an_open_address_is_served_when_that_is_spelled_out() {
    let config = config(&["--listen_ip=", "--insecure_allow_unauthenticated"]);
    assert_eq!(config.listen.to_string(), "0.0.0.0:8082");
}

#[test]
fn turning_off_what_is_not_available_is_fine() {
    assert!(serve(&["--api-server=false", "--tls_cert="]).1.is_empty());
}

#[test]
fn help_and_version_win_over_everything_else_but_errors() {
    for arguments in [vec!["help"], vec!["--help"], vec!["-h"], vec!["serve", "--sink=log", "-h"]] {
        assert!(matches!(command_in(&[], &arguments), Ok(Command::Help)), "{arguments:?}");
    }
    for arguments in [vec!["version"], vec!["--version"], vec!["--listen-ip=0.0.0.0", "--version"]]
    {
        assert!(matches!(command_in(&[], &arguments), Ok(Command::Version)), "{arguments:?}");
    }
    assert!(command_in(&[], &["--help", "--nonsense"]).is_err());
}

#[test]
fn the_help_names_every_flag_and_fits_a_terminal() {
    let help = cli::help();
    for flag in FLAGS {
        assert!(help.contains(&format!("--{}", flag.name)), "{}", flag.name);
    }
    for line in help.lines() {
        assert!(line.chars().count() <= 110, "{line}");
    }
}

/// Run with `UPDATE_DOCS=1` to write the page anew.
#[test]
fn the_page_about_configuration_is_the_table_of_flags() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, cli::page()).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(page == cli::page(), "docs/configuration.md is out of date; run with UPDATE_DOCS=1");
}
