//! `heapster stats`: what a store holds and what it costs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

use heapster_core::series::is_time_column;
use heapster_core::storage::{Columns, Selector, Snapshot, StorageError};
use heapster_core::{Text, TimeRange};
use heapster_store::{StoreReader, StoreSnapshot, TierCensus};
use serde::Serialize;

use crate::cli::VerbCall;

use super::progress::short;
use super::{Outcome, VerbError, count, dir, json, open_for_reading, print, tell};

/// The result, in the form of `-o json`.
#[derive(Debug, Serialize)]
struct Stats {
    /// Columns of all sets.
    series: u64,
    /// Label sets.
    sets: u64,
    /// Samples in segments and in the log.
    samples: u64,
    /// Those of the samples that are in the log alone.
    log_samples: u64,
    start: Option<String>,
    end: Option<String>,
    /// Of the directory.
    bytes: u64,
    /// Bytes of logs and raw segments by samples in them.
    bytes_per_sample: Option<f64>,
    files: Vec<Files>,
    tiers: Vec<Tier>,
    labels: Vec<Label>,
    metrics: Vec<Metric>,
    /// Segments with a damaged index, of which nothing is lost.
    damaged_indexes: u64,
}

/// Files of one kind.
#[derive(Debug, Serialize)]
struct Files {
    kind: String,
    files: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Tier {
    tier: u8,
    /// Length of a bucket; absent of raw samples.
    resolution_seconds: Option<f64>,
    segments: u64,
    cold_segments: u64,
    bytes: u64,
    values: u64,
    start: Option<String>,
    end: Option<String>,
    codecs: Vec<Codec>,
    damaged_row_groups: u64,
}

#[derive(Debug, Serialize)]
struct Codec {
    codec: &'static str,
    chunks: u64,
    values: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Label {
    label: String,
    values: u64,
}

#[derive(Debug, Serialize)]
struct Metric {
    metric: String,
    sets: u64,
}

pub(super) fn run(call: &VerbCall) -> Result<Outcome, VerbError> {
    let dir = dir(call);
    let top = call.values.get("top").parse().unwrap_or_default();
    let reader = open_for_reading(dir)?;
    let stats = Stats::of(dir, &reader, top)?;
    let text = match call.values.get("output") {
        "json" => json(&stats),
        _ => stats.table(),
    };
    print(&text)?;
    let report = reader.open_report();
    for file in &report.unavailable {
        tell(format_args!("not counted: {}: {}", file.file, file.reason));
    }
    for index in &report.damaged_indexes {
        tell(format_args!("nothing is lost of {}, but {}", index.file, index.reason));
    }
    let damaged: u64 = stats.tiers.iter().map(|tier| tier.damaged_row_groups).sum();
    if damaged > 0 {
        tell(format_args!("{damaged} row groups are damaged; answers are without them"));
    }
    let is_complete = report.is_complete() && damaged == 0;
    if !is_complete || stats.damaged_indexes > 0 {
        tell(format_args!("The store is damaged. Run `heapster check {}`.", dir.display()));
    }
    Ok(Outcome::complete_if(is_complete))
}

impl Stats {
    fn of(dir: &Path, reader: &StoreReader, top: usize) -> Result<Self, VerbError> {
        let snapshot = reader.snapshot();
        let held = reader.stats();
        let census = snapshot
            .census()
            .map_err(|source| VerbError::Store { what: "read the segments", source })?;
        let files = files_in(dir).map_err(|source| VerbError::File {
            op: "read",
            path: dir.to_owned(),
            source,
        })?;
        let (sets, series, metrics) = count_series(&snapshot, top).map_err(VerbError::Read)?;
        let samples = held.segment_samples + held.head_samples;
        let bounds = snapshot.bounds();
        Ok(Self {
            series,
            sets,
            samples,
            log_samples: held.head_samples,
            start: bounds.map(|range| range.start.to_string()),
            end: bounds.map(|range| range.end.to_string()),
            bytes: files.iter().map(|files| files.bytes).sum(),
            bytes_per_sample: (samples > 0)
                .then(|| (held.segment_bytes + held.wal_bytes) as f64 / samples as f64),
            files,
            tiers: census.iter().map(Tier::of).collect(),
            labels: count_labels(&snapshot, top).map_err(VerbError::Read)?,
            metrics,
            damaged_indexes: held.damaged_indexes,
        })
    }

    /// The result for people.
    fn table(&self) -> String {
        let mut text = String::new();
        let range = match (&self.start, &self.end) {
            (Some(start), Some(end)) => format!("{start} to {end}"),
            _ => "none".to_owned(),
        };
        let per_sample =
            self.bytes_per_sample.map_or("–".to_owned(), |bytes| format!("{bytes:.2}"));
        for (name, value) in [
            ("series", count(self.series)),
            ("sets", count(self.sets)),
            (
                "samples",
                format!("{} ({} in the log)", count(self.samples), count(self.log_samples)),
            ),
            ("time", range),
            ("bytes", size(self.bytes)),
            ("bytes/sample", format!("{per_sample} (log and raw segments)")),
        ] {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<14}{value}");
        }
        let files = self
            .files
            .iter()
            .map(|files| vec![files.kind.clone(), count(files.files), size(files.bytes)]);
        table(&["FILES", "NUMBER", "BYTES"], files, &mut text);
        let tiers = self.tiers.iter().map(|tier| {
            vec![
                tier.name(),
                count(tier.segments),
                count(tier.cold_segments),
                count(tier.values),
                size(tier.bytes),
                tier.start.clone().unwrap_or_default(),
                tier.end.clone().unwrap_or_default(),
            ]
        });
        table(&["TIER", "SEGMENTS", "COLD", "VALUES", "BYTES", "START", "END"], tiers, &mut text);
        for tier in self.tiers.iter().filter(|tier| !tier.codecs.is_empty()) {
            let heading = format!("CODECS OF {}", tier.name());
            let codecs = tier.codecs.iter().map(|codec| {
                let per_value = codec.bytes as f64 / codec.values.max(1) as f64;
                vec![
                    codec.codec.to_owned(),
                    count(codec.chunks),
                    count(codec.values),
                    size(codec.bytes),
                    format!("{per_value:.2}"),
                ]
            });
            table(&[&heading, "CHUNKS", "VALUES", "BYTES", "BYTES/VALUE"], codecs, &mut text);
        }
        let labels = self.labels.iter().map(|label| vec![label.label.clone(), count(label.values)]);
        table(&["LABEL", "VALUES"], labels, &mut text);
        let metrics =
            self.metrics.iter().map(|metric| vec![metric.metric.clone(), count(metric.sets)]);
        table(&["METRIC", "SETS"], metrics, &mut text);
        text
    }
}

impl Tier {
    fn of(census: &TierCensus) -> Self {
        let codecs = census.codecs.iter().map(|codec| Codec {
            codec: codec.codec,
            chunks: codec.chunks,
            values: codec.values,
            bytes: codec.bytes,
        });
        let mut codecs: Vec<Codec> = codecs.collect();
        codecs.sort_by_key(|codec| std::cmp::Reverse(codec.bytes));
        Self {
            tier: census.tier,
            resolution_seconds: census.resolution.map(|resolution| resolution.as_secs_f64()),
            segments: census.segments,
            cold_segments: census.cold_segments,
            bytes: census.bytes,
            values: census.values,
            start: census.range.map(|range| range.start.to_string()),
            end: census.range.map(|range| range.end.to_string()),
            codecs,
            damaged_row_groups: census.damaged_groups,
        }
    }

    fn name(&self) -> String {
        match (self.tier, self.resolution_seconds) {
            (0, _) => "raw".to_owned(),
            (tier, None) => format!("tier {tier}"),
            (tier, Some(seconds)) => format!("tier {tier}, {seconds} s"),
        }
    }
}

/// Sets, series, and the metrics with the most sets. The times of a set are no metrics.
fn count_series(
    snapshot: &StoreSnapshot,
    top: usize,
) -> Result<(u64, u64, Vec<Metric>), StorageError> {
    let all = Selector { matchers: Vec::new(), columns: Columns::All, range: TimeRange::ALL };
    let (mut sets, mut series) = (0, 0);
    let mut by_metric: BTreeMap<Text, u64> = BTreeMap::new();
    for set in snapshot.select(&all)? {
        sets += 1;
        for column in set.columns().iter().filter(|column| !is_time_column(&column.name)) {
            series += 1;
            match by_metric.get_mut(&column.name) {
                Some(count) => *count += 1,
                None => {
                    by_metric.insert(column.name.clone(), 1);
                }
            }
        }
    }
    let metrics =
        by_metric.into_iter().map(|(metric, sets)| Metric { metric: metric.to_string(), sets });
    Ok((sets, series, most(metrics, top, |metric| metric.sets)))
}

/// The labels with the most values.
fn count_labels(snapshot: &StoreSnapshot, top: usize) -> Result<Vec<Label>, StorageError> {
    let all = Selector { matchers: Vec::new(), columns: Columns::All, range: TimeRange::ALL };
    let mut labels = Vec::new();
    for label in snapshot.label_names(&all)? {
        let values = snapshot.label_values(&label, &all)?.len() as u64;
        labels.push(Label { label: label.to_string(), values });
    }
    Ok(most(labels, top, |label| label.values))
}

/// The `top` things with the greatest numbers, greatest first; equals in their order.
fn most<T>(things: impl IntoIterator<Item = T>, top: usize, number: fn(&T) -> u64) -> Vec<T> {
    let mut things: Vec<T> = things.into_iter().collect();
    things.sort_by_key(|thing| std::cmp::Reverse(number(thing)));
    things.truncate(top);
    things
}

/// The files below a directory, by kind: what lies in it, and each of its folders.
fn files_in(dir: &Path) -> io::Result<Vec<Files>> {
    let mut kinds: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut folders = vec![(dir.to_owned(), String::new())];
    while let Some((folder, kind)) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            // A server may remove a folder or a file at any time.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !kind.is_empty() => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            if metadata.is_dir() {
                let below = if kind.is_empty() { name } else { format!("{kind}/{name}") };
                folders.push((entry.path(), below));
                continue;
            }
            let kind = if kind.is_empty() { "manifest and lock".to_owned() } else { kind.clone() };
            let (files, bytes) = kinds.entry(kind).or_default();
            *files += 1;
            *bytes += metadata.len();
        }
    }
    Ok(kinds.into_iter().map(|(kind, (files, bytes))| Files { kind, files, bytes }).collect())
}

/// Bytes, and what they are about.
fn size(bytes: u64) -> String {
    if bytes < 1_000 {
        count(bytes)
    } else {
        format!("{} ({}B)", count(bytes), short(bytes as f64))
    }
}

/// A table with a line of headings; the first column is on the left. Nothing without rows.
fn table(headings: &[&str], rows: impl Iterator<Item = Vec<String>>, text: &mut String) {
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return;
    }
    let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let width = |column: usize| {
        let cells = rows.iter().chain([&headings]).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    text.push('\n');
    for row in [&headings].into_iter().chain(&rows) {
        let mut line = format!("{:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            let _ = write!(line, "  {cell:>width$}");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        let texts: Vec<_> = [0, 999, 1_000, 43_200_000].into_iter().map(count).collect();
        assert_eq!(texts, ["0", "999", "1,000", "43,200,000"]);
        assert_eq!(size(73_400_320), "73,400,320 (73.4MB)");
    }

    #[test]
    fn the_greatest_come_first_and_equals_in_their_order() {
        let things = [("a", 1), ("b", 3), ("c", 1), ("d", 2)];
        assert_eq!(most(things, 3, |thing| thing.1), [("b", 3), ("d", 2), ("a", 1)]);
    }
}
