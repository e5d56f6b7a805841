//! When a rate is given and what it is (decision 0004).

use heapster_core::pipeline::Processor;
use heapster_core::processors::{RATE_MEMORY, RateCalculator};
use heapster_core::{
    DataBatch, EntityKey, LabeledMetric, Labels, MetricSet, MetricValue, Value, key,
};
use proptest::prelude::*;

use crate::objects::{batch, seconds, set_of};

fn entity() -> EntityKey {
    EntityKey::pod_container("default", "web-1", "nginx")
}

/// A set scraped at that second, started at second 10, with these counters.
fn sample(scraped: i64, counters: &[(&'static str, i64)]) -> MetricSet {
    let mut set = set_of::<i64>(&entity(), []);
    set.scrape_time = seconds(scraped);
    set.collection_start_time = seconds(10);
    for (name, value) in counters {
        set.metrics.set(*name, MetricValue::cumulative(*value));
    }
    set
}

fn cpu(scraped: i64, nanos: i64) -> MetricSet {
    sample(scraped, &[("cpu/usage", nanos)])
}

fn step(rates: &mut RateCalculator, mut batch: DataBatch) -> DataBatch {
    rates.process(&mut batch).unwrap();
    batch
}

/// Processes a batch at that second with this set in it; returns the set.
fn next(rates: &mut RateCalculator, at: i64, set: MetricSet) -> MetricSet {
    let mut batch = step(rates, batch(at, [(entity(), set)]));
    batch.sets.remove(&entity()).unwrap()
}

/// The CPU rate after two batches a minute apart.
fn rate_between(old: MetricSet, new: MetricSet) -> Option<i64> {
    let mut rates = RateCalculator::new();
    let first = next(&mut rates, 60, old);
    assert_eq!(first.metrics.get("cpu/usage_rate"), None);
    next(&mut rates, 120, new).metrics.int("cpu/usage_rate")
}

#[test]
fn batches_an_hour_apart_have_rates_once_that_is_known() {
    let mut rates = RateCalculator::new();
    let core_hour = 3_600_000_000_000;
    let rate_at = |rates: &mut RateCalculator, hour: i64| {
        let set = next(rates, hour * 3_600, cpu(hour * 3_600 - 5, hour * core_hour));
        set.metrics.int("cpu/usage_rate")
    };
    assert_eq!(rate_at(&mut rates, 1), None);
    assert_eq!(rate_at(&mut rates, 2), None);
    assert_eq!(rate_at(&mut rates, 3), Some(1000));
    assert_eq!(rate_at(&mut rates, 4), Some(1000));
    assert_eq!(rate_at(&mut rates, 9), None);
}

#[test]
fn rates_are_averages_between_sample_times() {
    let mut rates = RateCalculator::new();
    let old = [("cpu/usage", 947_130_377_781), ("network/tx_errors", 0), ("uptime", 1)];
    next(&mut rates, 60, sample(55, &old));
    let new = [("cpu/usage", 948_071_062_732), ("network/tx_errors", 120), ("uptime", 2)];
    let set = next(&mut rates, 120, sample(115, &new));
    assert_eq!(set.metrics.get("cpu/usage_rate"), Some(MetricValue::gauge(15)));
    assert_eq!(set.metrics.get("network/tx_errors_rate"), Some(MetricValue::gauge(2.0)));
    assert_eq!(set.metrics.len(), 5);
}

#[test]
fn a_restart_gives_no_rate() {
    let mut restarted = cpu(115, 60_000_000_000);
    restarted.collection_start_time = seconds(11);
    assert_eq!(rate_between(cpu(55, 0), restarted), None);
}

#[test]
fn a_start_time_unknown_in_both_samples_is_the_same() {
    let unknown = |mut set: MetricSet| {
        set.collection_start_time = None;
        set
    };
    assert_eq!(rate_between(unknown(cpu(55, 0)), unknown(cpu(115, 60_000_000_000))), Some(1000));
    assert_eq!(rate_between(unknown(cpu(55, 0)), cpu(115, 60_000_000_000)), None);
}

#[test]
fn a_sample_time_that_did_not_advance_gives_no_rate() {
    assert_eq!(rate_between(cpu(55, 0), cpu(55, 1000)), None);
    assert_eq!(rate_between(cpu(55, 0), cpu(54, 1000)), None);
}

#[test]
fn an_unknown_sample_time_gives_no_rate() {
    let unknown = MetricSet { scrape_time: None, ..cpu(0, 0) };
    assert_eq!(rate_between(unknown.clone(), cpu(115, 1000)), None);
    assert_eq!(rate_between(cpu(55, 0), unknown), None);
}

#[test]
fn a_counter_that_goes_backwards_has_no_rate_and_the_others_do() {
    let mut rates = RateCalculator::new();
    next(&mut rates, 60, sample(55, &[("cpu/usage", 1000), ("network/rx", 0)]));
    let set = next(&mut rates, 120, sample(115, &[("cpu/usage", 999), ("network/rx", 60)]));
    assert_eq!(set.metrics.get("cpu/usage_rate"), None);
    assert_eq!(set.metrics.get("network/rx_rate"), Some(MetricValue::gauge(1.0)));
    let set = next(&mut rates, 180, sample(175, &[("cpu/usage", 60_000_000_999)]));
    assert_eq!(set.metrics.int("cpu/usage_rate"), Some(1000));
}

#[test]
fn a_float_under_a_counters_name_has_no_rate() {
    let mut float = cpu(115, 0);
    float.metrics.set("cpu/usage", MetricValue::cumulative(1e9));
    assert_eq!(rate_between(cpu(55, 0), float), None);
}

#[test]
fn a_missed_scrape_costs_no_other_rate() {
    let mut rates = RateCalculator::new();
    next(&mut rates, 60, cpu(55, 0));
    step(&mut rates, batch(120, []));
    let set = next(&mut rates, 180, cpu(175, 60_000_000_000));
    assert_eq!(set.metrics.int("cpu/usage_rate"), Some(500));
}

#[test]
fn an_entity_missing_for_longer_than_the_memory_starts_anew() {
    let memory = i64::try_from(RATE_MEMORY.as_secs()).unwrap();
    for (gap, expected) in [(memory, Some(1)), (memory + 1, None)] {
        let mut rates = RateCalculator::new();
        next(&mut rates, 60, cpu(55, 0));
        let set = next(&mut rates, 60 + gap, cpu(55 + gap, gap * 1_000_000));
        assert_eq!(set.metrics.int("cpu/usage_rate"), expected, "{gap} s");
    }
}

#[test]
fn a_batch_that_is_not_later_passes_unchanged_and_is_not_remembered() {
    let mut rates = RateCalculator::new();
    next(&mut rates, 120, cpu(115, 0));
    for late in [cpu(116, 5), cpu(200, 5)] {
        assert_eq!(next(&mut rates, 120, late.clone()), late);
        assert_eq!(next(&mut rates, 60, late.clone()), late);
    }
    let set = next(&mut rates, 180, cpu(175, 60_000_000_000));
    assert_eq!(set.metrics.int("cpu/usage_rate"), Some(1000));
}

#[test]
fn a_collectors_clock_set_back_stops_neither_rates_nor_forgetting() {
    let memory = i64::try_from(RATE_MEMORY.as_secs()).unwrap();
    for (silence, expected) in [(0, Some(1000)), (memory, Some(1000)), (memory + 60, None)] {
        let mut rates = RateCalculator::new();
        next(&mut rates, 1_000_000, cpu(999_995, 0));
        step(&mut rates, batch(60, []));
        let later = 60 + silence.max(1);
        let set = next(&mut rates, later, cpu(1_000_055, 60_000_000_000));
        assert_eq!(set.metrics.int("cpu/usage_rate"), expected, "{silence} s");
    }
}

#[test]
fn a_calculator_seeded_with_the_last_batch_goes_on_where_it_ended() {
    let mut stored = batch(60, [(entity(), cpu(55, 0))]);
    stored.sets.insert(EntityKey::Cluster, set_of::<i64>(&EntityKey::Cluster, []));
    let mut rates = RateCalculator::seeded(&stored);
    let set = next(&mut rates, 120, cpu(115, 60_000_000_000));
    assert_eq!(set.metrics.int("cpu/usage_rate"), Some(1000));
    let mut rates = RateCalculator::seeded(&stored);
    let set = next(&mut rates, 86_400, cpu(86_395, 60_000_000_000));
    assert_eq!(set.metrics.int("cpu/usage_rate"), None);
}

fn disk(name: &str, disk: &str, value: impl Into<Value>) -> LabeledMetric {
    LabeledMetric {
        name: name.into(),
        labels: Labels::from_iter([(key::RESOURCE_ID, disk)]),
        metric: MetricValue::gauge(value),
    }
}

#[test]
fn each_disk_has_rates_of_its_own_after_its_counters() {
    let mut old = cpu(55, 0);
    old.labeled_metrics = vec![
        disk("disk/io_write_bytes", "8:0", 0),
        disk("disk/io_read_bytes", "8:0", 100),
        disk("disk/io_read_bytes", "8:16", 500),
        disk("filesystem/usage", "8:0", 0),
        // Of two with one name the first counts.
        disk("disk/io_read_bytes", "8:0", 0),
    ];
    let mut new = cpu(115, 0);
    new.labeled_metrics = vec![
        disk("disk/io_write_bytes", "8:0", 600),
        disk("disk/io_read_bytes", "8:0", 160),
        disk("disk/io_read_bytes", "8:16", 400),
        disk("disk/io_read_bytes", "8:32", 1),
        disk("filesystem/usage", "8:0", 6),
    ];
    let mut expected = new.labeled_metrics.clone();
    expected.push(disk("disk/io_read_bytes_rate", "8:0", 1.0));
    expected.push(disk("disk/io_write_bytes_rate", "8:0", 10.0));
    let mut rates = RateCalculator::new();
    next(&mut rates, 60, old);
    assert_eq!(next(&mut rates, 120, new).labeled_metrics, expected);
}

proptest! {
    #[test]
    fn any_two_samples_give_the_exact_truncated_cpu_rate(
        old in any::<i64>(),
        new in any::<i64>(),
        elapsed in 1..i64::from(u32::MAX),
    ) {
        let at = |nanos, value| {
            let mut set = cpu(0, value);
            set.scrape_time = Some(heapster_core::NanoTime::from_nanos(nanos));
            set
        };
        let start = 1_532_606_400_000_000_000;
        let rate = rate_between(at(start, old), at(start + elapsed, new));
        let rise = i128::from(new) - i128::from(old);
        let exact = i64::try_from(1000 * rise / i128::from(elapsed)).unwrap_or(i64::MAX);
        prop_assert_eq!(rate, (rise >= 0).then_some(exact));
    }
}
