//! [`TargetMemory`]: what is remembered of a target from scrape to scrape, and what an answer becomes
//! in its light: samples of places, markers of series that ended, and numbers about the scrape.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use heapster_core::series::{TIME_COLUMN_PREFIX, UNKNOWN_KIND};
use heapster_core::{Labels, MetricKind, Text, Timestamp, key};

use super::config::JobConfig;
use super::relabel::{LabelMap, relabel};
use crate::exposition::{Entry, Exposition, ExpositionError, Format, SampleLine, SeriesText};
use crate::intake::{Gathered, Meaning, Refusal, SeriesTable};
use crate::metadata::{Metadata, MetadataRegistry, MetricType};

/// The value that says that a series has ended, as Prometheus writes it.
const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);
/// Scrapes after which a series that is not there any more may be forgotten.
const FORGET_SCRAPES: u32 = 10;
/// Why a series is not stored that the rules of its job drop.
const DROPPED: Refusal = "dropped";

const NAME: &str = "__name__";

/// What is remembered of a target.
#[derive(Debug, Default)]
pub struct TargetMemory {
    table: SeriesTable,
    round: u32,
}

/// What a scrape becomes.
#[derive(Debug, Default)]
pub struct Absorbed {
    /// The samples to store, those about the scrape and the markers among them.
    pub samples: Gathered,
    /// Why the scrape failed, if it did.
    pub error: Option<String>,
}

/// Numbers about a scrape.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    scraped: usize,
    stored: usize,
    added: usize,
}

/// What is the same for all samples of an answer.
struct Reading<'a> {
    job: &'a JobConfig,
    target: &'a Labels,
    at: Timestamp,
    /// What the answer says of families so far.
    families: HashMap<Cow<'a, str>, Said<'a>>,
}

#[derive(Default)]
struct Said<'a> {
    metric_type: MetricType,
    help: Cow<'a, str>,
    unit: &'a str,
}

impl TargetMemory {
    /// The table that the places of samples are of.
    pub fn table(&mut self) -> &mut SeriesTable {
        &mut self.table
    }

    /// What a scrape that began at `at` and took `took` becomes: an answer, or why there is none. All
    /// of its samples are taken or none.
    pub fn absorb(
        &mut self,
        job: &JobConfig,
        target: &Labels,
        answer: Result<(&[u8], Format), String>,
        at: Timestamp,
        took: Duration,
        metadata: &MetadataRegistry,
    ) -> Absorbed {
        self.table.sweep(self.round.saturating_sub(FORGET_SCRAPES));
        self.round += 1;
        let mut counts = Counts::default();
        let read = answer.and_then(|(body, format)| {
            let mut reading = Reading { job, target, at, families: HashMap::new() };
            let samples = self.read(&mut reading, body, format, &mut counts)?;
            for (family, said) in &reading.families {
                metadata.note(family, Metadata::new(said.metric_type, &said.help, said.unit));
            }
            Ok(samples)
        });
        let (mut samples, error) = match read {
            Ok(samples) => (samples, None),
            Err(why) => {
                // What was named in this round was not stored: it neither begins nor goes on.
                self.round += 1;
                (Gathered::default(), Some(why))
            }
        };
        let up = if error.is_none() { 1.0 } else { 0.0 };
        for (name, value) in [
            ("up", up),
            ("scrape_duration_seconds", took.as_secs_f64()),
            ("scrape_samples_scraped", counts.scraped as f64),
            ("scrape_samples_post_metric_relabeling", counts.stored as f64),
            ("scrape_series_added", counts.added as f64),
        ] {
            self.add_own(&mut samples, target, name, at, value);
        }
        self.end_the_rest(&mut samples, at);
        Absorbed { samples, error }
    }

    /// The markers of all series of a target that is not scraped any more.
    pub fn end(&mut self, at: Timestamp) -> Gathered {
        self.round += 1;
        let mut samples = Gathered::default();
        self.end_the_rest(&mut samples, at);
        samples
    }

    fn end_the_rest(&mut self, samples: &mut Gathered, at: Timestamp) {
        for place in self.table.end_untracked(self.round) {
            samples.push(at, place, STALE);
        }
    }

    /// Adds a sample about the scrape. Its key is one that no exposition has, as it is not UTF-8.
    fn add_own(
        &mut self,
        samples: &mut Gathered,
        target: &Labels,
        name: &'static str,
        at: Timestamp,
        value: f64,
    ) {
        let key = [&[0xff], name.as_bytes()].concat();
        let meaning = || {
            let meaning = (target.clone(), Text::from_static(name), MetricKind::Gauge);
            Ok::<_, std::convert::Infallible>(Ok(meaning))
        };
        let Ok(tracked) = self.table.track(&key, self.round, meaning);
        if let Ok(place) = tracked.place {
            samples.push(at, place, value);
        }
    }

    fn read<'a>(
        &mut self,
        reading: &mut Reading<'a>,
        body: &'a [u8],
        format: Format,
        counts: &mut Counts,
    ) -> Result<Gathered, String> {
        let told = |error: ExpositionError| error.to_string();
        let mut samples = Gathered::default();
        let mut lines = Exposition::new(body, format).map_err(told)?;
        while let Some(entry) = lines.next_entry().map_err(told)? {
            match entry {
                Entry::Sample(sample) => {
                    let added = self.add(reading, sample, &mut samples, counts);
                    added.map_err(|what| told(ExpositionError { line: lines.line(), what }))?;
                }
                Entry::Type(family, metric_type) => {
                    reading.families.entry(family).or_default().metric_type = metric_type;
                }
                Entry::Help(family, help) => {
                    reading.families.entry(family).or_default().help = help;
                }
                Entry::Unit(family, unit) => {
                    reading.families.entry(family).or_default().unit = unit;
                }
            }
        }
        let limit = reading.job.limits.samples;
        if limit > 0 && counts.stored > limit {
            let stored = counts.stored;
            return Err(format!("sample_limit exceeded: {stored} samples, at most {limit}"));
        }
        Ok(samples)
    }

    fn add(
        &mut self,
        reading: &Reading<'_>,
        sample: SampleLine<'_>,
        samples: &mut Gathered,
        counts: &mut Counts,
    ) -> Result<(), String> {
        counts.scraped += 1;
        let job = reading.job;
        let given = sample.at_ms.filter(|_| job.honor_timestamps);
        let is_tracked = given.is_none() || job.track_timestamps_staleness;
        let key = sample.series.as_str().as_bytes();
        let meaning = || reading.meaning(sample.series);
        let place = if is_tracked {
            let tracked = self.table.track(key, self.round, meaning)?;
            counts.added += usize::from(tracked.begins);
            tracked.place
        } else {
            self.table.place(key, self.round, meaning)?
        };
        let Ok(place) = place else { return Ok(()) };
        let at = match given {
            None => reading.at,
            Some(millis) => Timestamp::checked_from_millis(millis)
                .ok_or_else(|| format!("the time {millis} is outside the years 1 to 9999"))?,
        };
        counts.stored += 1;
        samples.push(at, place, sample.value);
        Ok(())
    }
}

impl Reading<'_> {
    /// What a series means after the labels of its target and the rules of its job. An error is one
    /// of the whole scrape.
    fn meaning(&self, series: SeriesText<'_>) -> Result<Result<Meaning, Refusal>, String> {
        let (name, parts) = series.parse()?;
        let kind = self.kind(&name);
        let mut labels = LabelMap::default();
        for (label, value) in parts {
            if label == NAME || labels.contains(&label) {
                return Err(format!("the label {label:?} is there twice"));
            }
            labels.set(label, value);
        }
        labels.set(NAME, name);
        self.add_target(&mut labels);
        if !relabel(&self.job.metric_relabel, &mut labels) || labels.is_empty() {
            return Ok(Err(DROPPED));
        }
        self.check_limits(&labels)?;
        let name = labels.take(NAME);
        if name.is_empty() {
            return Err("the rules of the job take the name of a metric away".to_owned());
        }
        if name.starts_with(TIME_COLUMN_PREFIX) || labels.contains(key::LABELED) {
            return Ok(Err("reserved_name"));
        }
        Ok(Ok((labels.iter().collect(), name.into(), kind)))
    }

    /// Adds the labels of the target; where a sample has one of the same name, one of both gives way.
    fn add_target(&self, labels: &mut LabelMap) {
        for target in self.target {
            let has_own = labels.contains(&target.name);
            if has_own && self.job.honor_labels {
                continue;
            }
            if has_own {
                let own = labels.take(&target.name);
                let mut name = format!("exported_{}", target.name);
                while labels.contains(&name) || self.target.contains(&name) {
                    name = format!("exported_{name}");
                }
                labels.set(name, own);
            }
            labels.set(target.name.as_str(), target.value.as_str());
        }
    }

    fn check_limits(&self, labels: &LabelMap) -> Result<(), String> {
        let limits = &self.job.limits;
        let exceeds = |number: usize, limit: usize| limit > 0 && number > limit;
        if exceeds(labels.len(), limits.labels) {
            let (count, limit) = (labels.len(), limits.labels);
            return Err(format!("label_limit exceeded: {count} labels, at most {limit}"));
        }
        for (name, value) in labels.iter() {
            if exceeds(name.len(), limits.label_name_bytes) {
                let limit = limits.label_name_bytes;
                return Err(format!(
                    "label_name_length_limit exceeded: a name of {} bytes, at most {limit}",
                    name.len()
                ));
            }
            if exceeds(value.len(), limits.label_value_bytes) {
                let limit = limits.label_value_bytes;
                return Err(format!(
                    "label_value_length_limit exceeded: the label {name:?} has a value of {} bytes, \
                     at most {limit}",
                    value.len()
                ));
            }
        }
        Ok(())
    }

    /// The kind of a metric by what the answer said of its family.
    fn kind(&self, metric: &str) -> MetricKind {
        let typed = |family: &str| Some(self.families.get(family)?.metric_type);
        if let Some(metric_type) = typed(metric) {
            return metric_type.kind_of(metric);
        }
        let suffixes = ["_total", "_bucket", "_sum", "_count", "_created"];
        let of_family = suffixes.iter().find_map(|suffix| typed(metric.strip_suffix(suffix)?));
        of_family.map_or(UNKNOWN_KIND, |metric_type| metric_type.kind_of(metric))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::config::parse;
    use super::*;

    struct Target {
        job: JobConfig,
        labels: Labels,
        memory: TargetMemory,
        metadata: MetadataRegistry,
        seconds: i64,
    }

    impl Target {
        fn new(options: &str) -> Self {
            let text = format!("scrape_configs:\n- job_name: j\n{options}");
            Self {
                job: parse(&text, Path::new("")).unwrap().remove(0),
                labels: Labels::from_iter([("instance", "i"), ("job", "j")]),
                memory: TargetMemory::default(),
                metadata: MetadataRegistry::default(),
                seconds: 0,
            }
        }

        /// What the next scrape becomes: samples by their order, and why it failed.
        fn scrape(&mut self, answer: Result<&str, &str>) -> (Vec<String>, Option<String>) {
            self.seconds += 1;
            let absorbed = self.memory.absorb(
                &self.job,
                &self.labels,
                answer.map(|text| (text.as_bytes(), Format::Text)).map_err(str::to_owned),
                Timestamp::from_millis(self.seconds * 1000),
                Duration::from_millis(250),
                &self.metadata,
            );
            (self.shown(&absorbed.samples), absorbed.error)
        }

        fn shown(&mut self, samples: &Gathered) -> Vec<String> {
            let table = self.memory.table();
            let shown = samples.iter().map(|(at, place, value)| {
                let value = if value.to_bits() == STALE.to_bits() {
                    "stale".to_owned()
                } else {
                    value.to_string()
                };
                let (name, kind) = table.column(place);
                let sign = if kind == MetricKind::Cumulative { "+" } else { "" };
                let labels = table.labels(place.set);
                format!("{name}{sign}{labels} {value} @{}", at.as_millis())
            });
            shown.collect()
        }

        /// Only what is not about the scrape.
        fn metrics(&mut self, text: &str) -> Vec<String> {
            let (samples, error) = self.scrape(Ok(text));
            assert_eq!(error, None);
            samples[..samples.len()].iter().filter(|line| !is_own(line)).cloned().collect()
        }
    }

    fn is_own(line: &str) -> bool {
        line.starts_with("up{") || line.starts_with("scrape_")
    }

    const TARGET: &str = r#"instance="i", job="j""#;

    #[test]
    fn a_scrape_tells_about_itself() {
        let mut target = Target::new(
            "  metric_relabel_configs: [{action: drop, source_labels: [__name__], regex: b}]\n",
        );
        let own = |up, scraped, stored, added, at| {
            vec![
                format!("up{{{TARGET}}} {up} @{at}"),
                format!("scrape_duration_seconds{{{TARGET}}} 0.25 @{at}"),
                format!("scrape_samples_scraped{{{TARGET}}} {scraped} @{at}"),
                format!("scrape_samples_post_metric_relabeling{{{TARGET}}} {stored} @{at}"),
                format!("scrape_series_added{{{TARGET}}} {added} @{at}"),
            ]
        };
        let (samples, _) = target.scrape(Ok("a 1\nb 2\nc 3\n"));
        assert_eq!(samples[0], format!("a{{{TARGET}}} 1 @1000"));
        assert_eq!(samples[2..], own(1, 3, 2, 2, 1000));
        let (samples, _) = target.scrape(Ok("a 1\nb 2\nd 3\n"));
        assert_eq!(samples[2..7], own(1, 3, 2, 1, 2000));
        assert_eq!(samples[7..], [format!("c{{{TARGET}}} stale @2000")]);
        let (samples, error) = target.scrape(Err("no answer"));
        assert_eq!(error.as_deref(), Some("no answer"));
        assert_eq!(samples[..5], own(0, 0, 0, 0, 3000));
        assert_eq!(
            samples[5..],
            [format!("a{{{TARGET}}} stale @3000"), format!("d{{{TARGET}}} stale @3000")]
        );
        let (samples, _) = target.scrape(Err("no answer"));
        assert_eq!(samples, own(0, 0, 0, 0, 4000), "an end is told once");
        let (samples, _) = target.scrape(Ok("a 1\n"));
        assert_eq!(samples[1..], own(1, 1, 1, 1, 5000));
        let samples = target.memory.end(Timestamp::from_millis(6000));
        let ended = target.shown(&samples);
        assert_eq!(ended.len(), 6);
        assert!(ended.iter().all(|line| line.ends_with(" stale @6000")), "{ended:?}");
    }

    #[test]
    fn of_an_answer_that_cannot_be_read_whole_nothing_is_stored() {
        let mut target =
            Target::new("  sample_limit: 2\n  label_limit: 4\n  label_value_length_limit: 9\n");
        assert_eq!(target.scrape(Ok("a 1\n")).1, None);
        for (text, error) in [
            ("a 1\nb 1\nc x\n", "line 3: the value \"x\" is not a number"),
            ("a 1\nb 1\nc 1\n", "sample_limit exceeded: 3 samples, at most 2"),
            ("a 1\nb{x=\"1\",y=\"2\"} 1\n", "line 2: label_limit exceeded: 5 labels, at most 4"),
            (
                "a{x=\"1234567890\"} 1\n",
                "line 1: label_value_length_limit exceeded: the label \"x\" has a value of 10 bytes, \
                 at most 9",
            ),
            ("a{x=\"1\",x=\"2\"} 1\n", "line 1: the label \"x\" is there twice"),
            (
                "a 1 9223372036854775807\n",
                "line 1: the time 9223372036854775807 is outside the years 1 to 9999",
            ),
        ] {
            let (samples, told) = target.scrape(Ok(text));
            assert_eq!(told.as_deref(), Some(error), "{text}");
            let rest: Vec<_> = samples.iter().filter(|line| !is_own(line)).collect();
            assert!(
                rest.iter().all(|line| line.starts_with("a{") && line.contains("stale")),
                "{rest:?}"
            );
        }
        assert_eq!(target.metrics("b 1\n").len(), 1, "b never began, so it did not end");
    }

    #[test]
    fn labels_of_samples_and_target_that_meet_are_told_apart() {
        let text = "a{job=\"x\",instance=\"y\",exported_job=\"z\",e=\"\"} 1\n";
        let mut target = Target::new("");
        assert_eq!(
            target.metrics(text),
            [
                r#"a{exported_exported_job="x", exported_instance="y", exported_job="z", instance="i", job="j"} 1 @1000"#
            ]
        );
        let mut target = Target::new("  honor_labels: true\n");
        assert_eq!(target.metrics(text), [r#"a{exported_job="z", instance="y", job="x"} 1 @1000"#]);
    }

    #[test]
    fn times_that_a_target_says_are_kept_and_then_ends_are_not_told() {
        let mut target = Target::new("");
        assert_eq!(target.metrics("a 1 7\n"), [format!("a{{{TARGET}}} 1 @7")]);
        assert_eq!(target.metrics(""), [""; 0]);
        let mut target = Target::new("  honor_timestamps: false\n");
        assert_eq!(target.metrics("a 1 7\n"), [format!("a{{{TARGET}}} 1 @1000")]);
        assert_eq!(target.metrics(""), [format!("a{{{TARGET}}} stale @2000")]);
        let mut target = Target::new("  track_timestamps_staleness: true\n");
        assert_eq!(target.metrics("a 1 7\n"), [format!("a{{{TARGET}}} 1 @7")]);
        assert_eq!(target.metrics(""), [format!("a{{{TARGET}}} stale @2000")]);
    }

    #[test]
    fn types_give_kinds_and_what_is_said_is_remembered() {
        let mut target = Target::new("");
        let text = "# HELP c How many.\n# TYPE c counter\nc 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 1\n# TYPE g gauge\ng 1\n# TYPE o counter\no_total 1\n";
        let kinds: Vec<bool> = target.metrics(text).iter().map(|line| line.contains('+')).collect();
        assert_eq!(kinds, [true, true, true, false, true]);
        let known = target.metadata.families(Some("c"));
        assert_eq!(known[0].1, [Metadata::new(MetricType::Counter, "How many.", "")]);
    }

    #[test]
    fn a_thousand_scrapes_of_passing_series_do_not_fill_the_memory() {
        let mut target = Target::new("");
        let padding = "x".repeat(1_000);
        for scrape in 0..1_000 {
            let lines =
                (0..100).map(|number| format!("a{{x=\"{scrape}-{number}-{padding}\"}} 1\n"));
            assert_eq!(target.scrape(Ok(&lines.collect::<String>())).1, None);
        }
        assert!(target.memory.table().len() < 30_000, "{}", target.memory.table().len());
    }
}
