//! From what is known of a target to what is scraped: labels, rules, URL. The defaults and the special
//! labels are Prometheus's (`scrape/target.go`).

use std::time::Duration;

use heapster_core::Labels;

use super::config::{INTERVAL_MIN, JobConfig, TargetGroup, parse_duration};
use super::relabel::{LabelMap, relabel};
use crate::targets::TargetState;

const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const PARAM: &str = "__param_";
const JOB: &str = "job";
const INSTANCE: &str = "instance";

/// The targets that groups describe.
#[derive(Debug, Default)]
pub(super) struct Targets {
    pub active: Vec<TargetState>,
    /// What is known of those that the rules of the job dropped.
    pub dropped: Vec<Labels>,
    /// Why others cannot be scraped.
    pub errors: Vec<String>,
}

/// Makes the targets of groups.
pub(super) fn targets_of(job: &JobConfig, groups: &[TargetGroup]) -> Targets {
    let mut targets = Targets::default();
    for group in groups {
        for address in &group.targets {
            let mut known = group.labels.clone();
            known.set(ADDRESS, address);
            let known = with_defaults(known, job);
            let discovered = known.iter().collect::<Labels>();
            match target_of(job, known) {
                Ok(Some(target)) => {
                    let Made { labels, url, interval, timeout } = target;
                    let name = job.name.clone();
                    let state = TargetState::new(name, discovered, labels, url, interval, timeout);
                    let is_known = |other: &TargetState| {
                        other.url == state.url && other.labels == state.labels
                    };
                    if !targets.active.iter().any(is_known) {
                        targets.active.push(state);
                    }
                }
                Ok(None) => targets.dropped.push(discovered),
                Err(why) => targets.errors.push(format!("target {address:?}: {why}")),
            }
        }
    }
    targets
}

fn with_defaults(mut known: LabelMap, job: &JobConfig) -> LabelMap {
    let mut default = |name: &str, value: &str| {
        if known.get(name).is_empty() {
            known.set(name, value);
        }
    };
    default(JOB, &job.name);
    default(INTERVAL, &format!("{}ms", job.interval.as_millis()));
    default(TIMEOUT, &format!("{}ms", job.timeout.as_millis()));
    default(METRICS_PATH, &job.metrics_path);
    default(SCHEME, job.scheme.as_str());
    for (name, values) in &job.params {
        if let Some(first) = values.first() {
            default(&format!("{PARAM}{name}"), first);
        }
    }
    known
}

struct Made {
    labels: Labels,
    url: String,
    interval: Duration,
    timeout: Duration,
}

/// The target, unless the rules of the job drop it.
fn target_of(job: &JobConfig, mut labels: LabelMap) -> Result<Option<Made>, String> {
    if !relabel(&job.relabel, &mut labels) {
        return Ok(None);
    }
    let address = labels.get(ADDRESS).to_owned();
    if address.is_empty() {
        return Err("it has no address".to_owned());
    }
    if address.contains('/') {
        return Err(format!("{address:?} is not a host with a port"));
    }
    let duration = |name| {
        let text = labels.get(name);
        parse_duration(text)
            .filter(|duration| *duration >= Duration::from_millis(1))
            .ok_or_else(|| format!("{name} is {text:?}, which is not a duration"))
    };
    let (interval, timeout) = (duration(INTERVAL)?.max(INTERVAL_MIN), duration(TIMEOUT)?);
    if timeout > interval {
        return Err(format!("{TIMEOUT} is greater than {INTERVAL}"));
    }
    let url = url_of(job, &labels, &address)?;
    if labels.get(INSTANCE).is_empty() {
        labels.set(INSTANCE, address);
    }
    labels.retain(|name| !name.starts_with("__"));
    Ok(Some(Made { labels: labels.iter().collect(), url, interval, timeout }))
}

fn url_of(job: &JobConfig, labels: &LabelMap, address: &str) -> Result<String, String> {
    let scheme = labels.get(SCHEME);
    if !matches!(scheme, "http" | "https") {
        return Err(format!("{SCHEME} is {scheme:?}, not http or https"));
    }
    let path = labels.get(METRICS_PATH);
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, values) in &job.params {
        // The first value of each is a label, which rules may have changed.
        let first = labels.get(&format!("{PARAM}{name}"));
        let others = values.iter().skip(1).map(String::as_str);
        for value in [first].into_iter().filter(|first| !first.is_empty()).chain(others) {
            query.append_pair(name, value);
        }
    }
    let is_new = |name: &str| !job.params.iter().any(|(own, _)| own == name);
    for (label, value) in labels.iter() {
        if let Some(name) = label.strip_prefix(PARAM).filter(|name| is_new(name)) {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    let mark = if query.is_empty() { "" } else { "?" };
    let url = format!("{scheme}://{address}{slash}{path}{mark}{query}");
    match url.parse::<http::Uri>() {
        Ok(parsed) if parsed.host().is_some() => Ok(url),
        Ok(_) => Err(format!("{url:?} has no host")),
        Err(error) => Err(format!("{url:?} is not a URL: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::config::parse;
    use super::*;

    fn targets(job: &str) -> Targets {
        let text = format!("scrape_configs:\n- job_name: node\n{job}");
        let jobs = parse(&text, Path::new("")).unwrap();
        targets_of(&jobs[0], &jobs[0].groups)
    }

    fn shown(target: &TargetState) -> String {
        format!("{} {}", target.url, target.labels)
    }

    #[test]
    fn a_target_has_the_labels_of_its_group_and_its_job() {
        let targets = targets(
            "  params: {a: [x, y z]}
  static_configs:
  - targets: ['h:1', 'h:1', 'h:2']
    labels: {rack: r, __meta_x: hidden, instance: ''}
",
        );
        let shown: Vec<String> = targets.active.iter().map(shown).collect();
        assert_eq!(
            shown,
            [
                r#"http://h:1/metrics?a=x&a=y+z {instance="h:1", job="node", rack="r"}"#,
                r#"http://h:2/metrics?a=x&a=y+z {instance="h:2", job="node", rack="r"}"#,
            ]
        );
        assert_eq!(targets.active[0].discovered.value("__meta_x"), "hidden");
        assert_eq!(targets.active[0].discovered.value("__scrape_interval__"), "60000ms");
    }

    #[test]
    fn rules_change_where_and_how_often_a_target_is_asked() {
        let targets = targets(
            "  relabel_configs:
  - {source_labels: [__address__], target_label: __param_target}
  - {source_labels: [__param_target], target_label: instance}
  - {target_label: __address__, replacement: 'probe:9115'}
  - {target_label: __metrics_path__, replacement: probe}
  - {target_label: __scheme__, replacement: https}
  - {target_label: __scrape_interval__, replacement: 5s}
  - {target_label: __scrape_timeout__, replacement: 4s}
  - {action: drop, source_labels: [instance], regex: b}
  static_configs: [{targets: [a, b]}]
",
        );
        assert_eq!(
            shown(&targets.active[0]),
            r#"https://probe:9115/probe?target=a {instance="a", job="node"}"#
        );
        assert_eq!(targets.active[0].interval, Duration::from_secs(5));
        assert_eq!((targets.active.len(), targets.dropped.len()), (1, 1));
        assert_eq!(targets.dropped[0].value("__address__"), "b");
    }

    #[test]
    fn a_target_that_cannot_be_asked_is_told() {
        for (target, rule, error) in [
            ("a/b", "", "is not a host with a port"),
            ("a b", "", "is not a URL"),
            ("a", "{target_label: __address__, replacement: ''}", "it has no address"),
            ("a", "{target_label: __scheme__, replacement: ftp}", "not http or https"),
            ("a", "{target_label: __scrape_timeout__, replacement: 2m}", "greater than"),
            ("a", "{target_label: __scrape_interval__, replacement: x}", "not a duration"),
        ] {
            let targets = targets(&format!(
                "  relabel_configs: [{rule}]\n  static_configs: [{{targets: ['{target}']}}]\n"
            ));
            assert_eq!(targets.active.len(), 0, "{target} {rule}");
            assert!(targets.errors[0].contains(error), "{:?}", targets.errors);
        }
    }
}
