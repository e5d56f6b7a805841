//! [`RateCalculator`]: counters → rates.

use std::time::Duration;

use crate::catalogue::RATE_OF;
use crate::error::ProcessError;
use crate::pipeline::Processor;
use crate::{
    DataBatch, EntityKey, LabeledMetric, MetricKind, MetricSet, MetricValue, NanoTime, Text,
    Timestamp, Value, key, metric,
};

/// How long an entity that is missing from batches is remembered, in batch time.
///
/// Long enough for a kubelet to restart or a node to be unreachable for a while; an average over
/// a longer gap would say little about now. Where batches themselves are further apart, twice their
/// spacing takes its place.
pub const RATE_MEMORY: Duration = Duration::from_secs(600);

/// How many of [`RATE_OF`] are plain metrics; the rest are labelled ones, of disks.
const PLAIN_COUNT: usize = 7;

/// Derives rates from the counters of an entity's last two samples.
///
/// A rate needs a sample time later than the remembered one, the same collection start time, and a
/// counter that did not go backwards. It is the average between the two samples, by the kubelet's
/// clock, however many batches lie between. Only times and counters are remembered.
///
/// A batch not later than the last one passes unchanged, unless it is earlier by more than
/// [`RATE_MEMORY`]: then the collector's clock was set back, and batch time goes on from there.
#[derive(Debug, Default)]
pub struct RateCalculator {
    last_batch: Option<Timestamp>,
    /// Between the last two batches.
    spacing: Duration,
    /// Sorted by key, as the sets of a batch are.
    samples: Vec<(EntityKey, Sample)>,
}

/// What is remembered of one entity.
#[derive(Debug)]
struct Sample {
    batch: Timestamp,
    scraped: NanoTime,
    start: Option<NanoTime>,
    /// By the order of [`RATE_OF`].
    plain: [Option<i64>; PLAIN_COUNT],
    /// Sorted by metric and disk, the first one of each.
    disks: Box<[DiskCounter]>,
}

#[derive(Debug)]
struct DiskCounter {
    /// Index of the counter among the labelled ones of [`RATE_OF`].
    counter: usize,
    disk: Text,
    value: i64,
}

impl RateCalculator {
    /// A calculator that remembers nothing; its first batch gets no rates.
    pub fn new() -> Self {
        Self::default()
    }

    /// A calculator that remembers a batch, such as the last one before a restart.
    pub fn seeded(batch: &DataBatch) -> Self {
        let samples = batch.sets.iter().filter_map(|(key, set)| {
            Sample::of(set, batch.timestamp).map(|sample| (key.clone(), sample))
        });
        Self {
            last_batch: Some(batch.timestamp),
            spacing: Duration::ZERO,
            samples: samples.collect(),
        }
    }

    /// Whether the batch is the next one; forgets what is too old for it. When the clock was set
    /// back, what is remembered ages from the new time on, for it is still the kubelets' clocks that
    /// rates go by.
    fn advance(&mut self, at: Timestamp) -> bool {
        if let Some(last) = self.last_batch.filter(|last| at <= *last) {
            if last.saturating_since(at) <= RATE_MEMORY {
                return false;
            }
            for (_, sample) in &mut self.samples {
                sample.batch = sample.batch.min(at);
            }
        }
        let memory = RATE_MEMORY.max(self.spacing.saturating_mul(2));
        self.samples.retain(|(_, sample)| at.saturating_since(sample.batch) <= memory);
        self.spacing = self.last_batch.map_or(Duration::ZERO, |last| at.saturating_since(last));
        self.last_batch = Some(at);
        true
    }
}

impl Processor for RateCalculator {
    fn name(&self) -> &'static str {
        "rate calculator"
    }

    fn process(&mut self, batch: &mut DataBatch) -> Result<(), ProcessError> {
        let at = batch.timestamp;
        if !self.advance(at) {
            return Ok(());
        }
        // Both lists are sorted by key, so one walk finds the sample before of every set.
        let mut remembered = std::mem::take(&mut self.samples).into_iter().peekable();
        self.samples.reserve(batch.sets.len());
        for (key, set) in &mut batch.sets {
            while let Some(other) = remembered.next_if(|(of, _)| of < key) {
                self.samples.push(other);
            }
            let old = remembered.next_if(|(of, _)| of == key);
            let Some(new) = Sample::of(set, at) else {
                self.samples.extend(old);
                continue;
            };
            if let Some((_, old)) = &old
                && old.scraped < new.scraped
                && old.start == new.start
            {
                add_rates(set, old, &new);
            }
            self.samples.push((old.map_or_else(|| key.clone(), |(key, _)| key), new));
        }
        self.samples.extend(remembered);
        Ok(())
    }
}

impl Sample {
    /// What to remember of a set; `None` when no rate could ever come of it.
    fn of(set: &MetricSet, batch: Timestamp) -> Option<Self> {
        let scraped = set.scrape_time?;
        let mut plain = [None; PLAIN_COUNT];
        // Few metrics are cumulative, so this looks at fewer names than seven searches would.
        for (name, metric) in set.metrics.iter().filter(|(_, m)| m.kind == MetricKind::Cumulative) {
            let counter = RATE_OF[..PLAIN_COUNT].iter().position(|(counter, _)| *name == *counter);
            if let Some(value) = counter.and_then(|index| plain.get_mut(index)) {
                *value = metric.value.as_int();
            }
        }
        let disks = disk_counters(&set.labeled_metrics);
        if disks.is_empty() && plain.iter().all(Option::is_none) {
            return None;
        }
        let start = set.collection_start_time;
        Some(Self { batch, scraped, start, plain, disks })
    }

    fn disk(&self, counter: usize, disk: &str) -> Option<i64> {
        let found = self
            .disks
            .binary_search_by(|own| (own.counter, own.disk.as_str()).cmp(&(counter, disk)));
        found.ok().map(|index| self.disks[index].value)
    }
}

fn disk_counters(metrics: &[LabeledMetric]) -> Box<[DiskCounter]> {
    let mut disks: Vec<DiskCounter> = metrics
        .iter()
        .filter_map(|metric| {
            let counter = disk_counter(&metric.name)?;
            let value = metric.metric.value.as_int()?;
            let disk = metric.labels.get(key::RESOURCE_ID).cloned().unwrap_or_default();
            Some(DiskCounter { counter, disk, value })
        })
        .collect();
    disks.sort_by(|a, b| (a.counter, &a.disk).cmp(&(b.counter, &b.disk)));
    disks.dedup_by(|later, first| later.counter == first.counter && later.disk == first.disk);
    disks.into_boxed_slice()
}

fn disk_counter(name: &Text) -> Option<usize> {
    RATE_OF[PLAIN_COUNT..].iter().position(|(counter, _)| *name == *counter)
}

fn add_rates(set: &mut MetricSet, old: &Sample, new: &Sample) {
    let elapsed = i128::from(new.scraped.as_nanos()) - i128::from(old.scraped.as_nanos());
    for ((_, name), (old, new)) in RATE_OF.iter().zip(old.plain.iter().zip(&new.plain)) {
        if let (Some(old), Some(new)) = (old, new)
            && let Some(rise) = rise(*old, *new)
        {
            set.metrics.set_static(name, MetricValue::gauge(rate(name, rise, elapsed)));
        }
    }
    add_disk_rates(set, old, elapsed);
}

fn add_disk_rates(set: &mut MetricSet, old: &Sample, elapsed: i128) {
    let mut rates = Vec::new();
    for (counter, (counter_name, rate_name)) in RATE_OF[PLAIN_COUNT..].iter().enumerate() {
        for metric in set.labeled_metrics.iter().filter(|metric| metric.name == *counter_name) {
            let old = old.disk(counter, metric.labels.value(key::RESOURCE_ID));
            if let (Some(old), Some(new)) = (old, metric.metric.value.as_int())
                && let Some(rise) = rise(old, new)
            {
                rates.push(LabeledMetric {
                    name: Text::from_static(rate_name),
                    labels: metric.labels.clone(),
                    metric: MetricValue::gauge(rate(rate_name, rise, elapsed)),
                });
            }
        }
    }
    set.labeled_metrics.append(&mut rates);
}

/// By how much a counter rose; `None` when it went backwards, which no usage explains.
fn rise(old: i64, new: i64) -> Option<i128> {
    (new >= old).then(|| i128::from(new) - i128::from(old))
}

/// `elapsed` is in nanoseconds and positive. CPU nanoseconds become whole millicores, anything else
/// a float per second.
fn rate(name: &str, rise: i128, elapsed: i128) -> Value {
    if name == metric::CPU_USAGE_RATE {
        Value::Int(i64::try_from(1000 * rise / elapsed).unwrap_or(i64::MAX))
    } else {
        Value::Float(1e9 * rise as f64 / elapsed as f64)
    }
}
