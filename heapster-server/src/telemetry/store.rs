//! The statistics of a store as self metrics (`heapster_store_*`).

use heapster_store::Stats;

use super::{Family, FamilyKind, Registry};

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: FamilyKind::Gauge }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: FamilyKind::Counter }
}

type Read = fn(&Stats) -> u64;

const GAUGES: [(Family, Read); 15] = [
    (gauge("heapster_store_head_sets", "Label sets in memory."), |s| s.head_sets),
    (gauge("heapster_store_head_series", "Active series: columns of the sets in memory."), |s| {
        s.head_columns
    }),
    (gauge("heapster_store_head_samples", "Samples in memory."), |s| s.head_samples),
    (gauge("heapster_store_head_bytes", "Memory of the head."), |s| s.head_bytes),
    (gauge("heapster_store_head_generations", "Heads in memory."), |s| s.head_generations),
    (gauge("heapster_store_wal_bytes", "Log that a restart would replay."), |s| s.wal_bytes),
    (gauge("heapster_store_segments", "Segments."), |s| s.segments),
    (gauge("heapster_store_segment_bytes", "Length of all segments."), |s| s.segment_bytes),
    (gauge("heapster_store_segment_samples", "Samples in segments."), |s| s.segment_samples),
    (gauge("heapster_store_tombstones", "Deletions that are not worked in yet."), |s| s.tombstones),
    (gauge("heapster_store_quarantined_files", "Files found damaged or missing."), |s| {
        s.quarantined_files
    }),
    (
        gauge(
            "heapster_store_quarantined_row_groups",
            "Parts of segments that could not be read and that answers are without.",
        ),
        |s| s.quarantined_row_groups,
    ),
    (
        gauge(
            "heapster_store_damaged_indexes",
            "Segments with a damaged index, served out of its other copy.",
        ),
        |s| s.damaged_indexes,
    ),
    (
        gauge("heapster_store_clock_suspect", "1 while deletions wait because the clock jumped."),
        |s| u64::from(s.is_clock_suspect),
    ),
    (
        gauge("heapster_store_poisoned", "1 when the store takes no more data until a restart."),
        |s| u64::from(s.poisoned_by.is_some()),
    ),
];

const COUNTERS: [(Family, Read); 13] = [
    (counter("heapster_store_appended_samples_total", "Samples taken."), |s| s.appended_samples),
    (counter("heapster_store_duplicate_samples_total", "Samples that were there already."), |s| {
        s.duplicate_samples
    }),
    (
        counter("heapster_store_replaced_samples_total", "Samples that replaced another value."),
        |s| s.replaced_samples,
    ),
    (counter("heapster_store_batches_total", "Batches written to the log."), |s| s.batches),
    (counter("heapster_store_syncs_total", "Syncs of the log."), |s| s.syncs),
    (counter("heapster_store_flushes_total", "Segments written."), |s| s.flushes),
    (
        counter(
            "heapster_store_expired_segments_total",
            "Segments deleted because of their age or for want of room in the budget.",
        ),
        |s| s.expired_segments,
    ),
    (counter("heapster_store_compactions_total", "Merges of segments."), |s| s.compactions),
    (counter("heapster_store_compacted_segments_total", "Segments that were merged."), |s| {
        s.compacted_segments
    }),
    (counter("heapster_store_compacted_bytes_total", "Length of what was merged."), |s| {
        s.compacted_bytes_in
    }),
    (counter("heapster_store_compaction_written_bytes_total", "Length of the merges."), |s| {
        s.compacted_bytes_out
    }),
    (counter("heapster_store_deleted_samples_total", "Deleted samples left out of merges."), |s| {
        s.deleted_samples
    }),
    (counter("heapster_store_imported_samples_total", "Samples that imports wrote."), |s| {
        s.imported_samples
    }),
];

const REJECTED: Family =
    counter("heapster_store_rejected_samples_total", "Samples refused, by reason.");

const TIER_BYTES: Family =
    gauge("heapster_store_tier_bytes", "Length of the segments of a tier of aggregates.");
const TIER_STALE: Family = gauge(
    "heapster_store_tier_stale_ranges",
    "Ranges of time whose aggregates have to be built again.",
);
const TIER_BUILT_TO: Family = gauge(
    "heapster_store_tier_built_timestamp_seconds",
    "Up to when a tier of aggregates is built; 0 before it is.",
);

/// Takes the statistics over.
pub fn record(registry: &Registry, stats: &Stats) {
    for (family, read) in &GAUGES {
        registry.set(family, &[], read(stats) as f64);
    }
    for tier in &stats.tiers {
        let resolution = tier.resolution.as_secs().to_string();
        let labels = [("resolution_seconds", resolution.as_str())];
        registry.set(&TIER_BYTES, &labels, tier.bytes as f64);
        registry.set(&TIER_STALE, &labels, tier.stale_ranges as f64);
        let built_to = tier.built_to.map_or(0.0, |to| to.as_millis() as f64 / 1000.0);
        registry.set(&TIER_BUILT_TO, &labels, built_to);
    }
    for (family, read) in &COUNTERS {
        registry.set_total(family, &[], read(stats));
    }
    for (reason, samples) in stats.rejected_samples.iter() {
        registry.set_total(&REJECTED, &[("reason", reason.as_str())], samples);
    }
}
