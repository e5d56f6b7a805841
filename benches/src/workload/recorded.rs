//! Batches of recorded Kubernetes pods: the data set REAL, 1,120 series and 956,600 samples.
//!
//! Of the five columns two were observed (memory, CPU rate); three are counters integrated from
//! observed rates. Every pod has a clock of its own, so a batch holds one set.

use std::io;
use std::ops::Range;
use std::path::Path;

use heapster_core::{
    DataBatch, EntityKey, EntityType, MetricSet, MetricValue, Timestamp, key, metric,
};

use super::npz::Npz;

/// Pod-days with fewer samples are left out.
const SAMPLES_MIN: usize = 120;
/// Distance of the first sample from the one before it, which is not known.
const FIRST_STEP_MS: i64 = 60_000;
/// The granularity of CPU counters under cgroup v2.
const CPU_UNIT_NS: f64 = 1000.0;
/// Metrics of the columns. Heapster's catalogue has no name for the observed CPU rate in nanocores.
pub const RECORDED_COLUMNS: [&str; 5] = [
    metric::MEMORY_USAGE,
    "custom/cpu_nanocores",
    metric::CPU_USAGE,
    metric::NETWORK_RX,
    metric::NETWORK_TX,
];
/// The columns from here on count.
const FIRST_COUNTER: usize = 2;

/// Batches in order of time.
#[derive(Clone)]
pub struct RecordedBatches {
    rows: std::vec::IntoIter<Row>,
    columns: Range<usize>,
}

#[derive(Clone)]
struct Row {
    at: i64,
    pod: usize,
    values: [i64; RECORDED_COLUMNS.len()],
}

impl RecordedBatches {
    /// Reads the recording.
    ///
    /// # Errors
    /// The file cannot be read or is not the recording.
    pub fn open(path: &Path) -> io::Result<Self> {
        let npz = Npz::new(std::fs::read(path)?);
        let (series, times) = (npz.ints("series")?, npz.ints("time_ms")?);
        let (memory, cpu) = (npz.ints("mem_bytes")?, npz.ints("cpu_nanocores")?);
        let received = npz.floats("f64_NetworkReceiveBytes")?;
        let sent = npz.floats("f64_NetworkTransmitBytes")?;
        let lengths = [series.len(), memory.len(), cpu.len(), received.len(), sent.len()];
        if lengths.iter().any(|length| *length != times.len()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "columns differ in length"));
        }
        let mut groups = std::collections::BTreeMap::<i64, Vec<usize>>::new();
        for (index, series) in series.iter().enumerate() {
            groups.entry(*series).or_default().push(index);
        }
        let mut rows = Vec::with_capacity(times.len());
        for (pod, indexes) in groups.into_values().enumerate() {
            if indexes.len() < SAMPLES_MIN {
                continue;
            }
            let mut previous = times[indexes[0]] - FIRST_STEP_MS;
            let (mut cpu_ns, mut rx, mut tx) = (0, 0, 0);
            for index in indexes {
                let elapsed_s = (times[index] - previous) as f64 / 1000.0;
                previous = times[index];
                cpu_ns += rounded(cpu[index] as f64 * elapsed_s / CPU_UNIT_NS) * CPU_UNIT_NS as i64;
                rx += rounded(received[index] * elapsed_s);
                tx += rounded(sent[index] * elapsed_s);
                let values = [memory[index], cpu[index], cpu_ns, rx, tx];
                rows.push(Row { at: times[index], pod, values });
            }
        }
        rows.sort_by_key(|row| (row.at, row.pod));
        Ok(Self { rows: rows.into_iter(), columns: 0..RECORDED_COLUMNS.len() })
    }

    /// The same batches with some of the columns only.
    #[must_use]
    pub fn with_columns(self, columns: Range<usize>) -> Self {
        Self { columns, ..self }
    }
}

/// The nearest integer, halves to even; nothing for what is not a number.
fn rounded(value: f64) -> i64 {
    value.round_ties_even() as i64
}

impl Iterator for RecordedBatches {
    type Item = DataBatch;

    fn next(&mut self) -> Option<DataBatch> {
        let row = self.rows.next()?;
        let name = format!("pod-day-{:03}", row.pod);
        let mut set = MetricSet::new(EntityType::Pod);
        set.labels.set_static(key::NAMESPACE_NAME, "recorded");
        set.labels.set_static(key::POD_NAME, name.as_str());
        for index in self.columns.clone() {
            let value = row.values[index];
            let metric = if index < FIRST_COUNTER {
                MetricValue::gauge(value)
            } else {
                MetricValue::cumulative(value)
            };
            set.metrics.set_static(RECORDED_COLUMNS[index], metric);
        }
        let mut batch = DataBatch::new(Timestamp::from_millis(row.at));
        batch.sets.insert(EntityKey::pod("recorded", name), set);
        Some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::sample_count;

    #[test]
    fn the_recording_has_the_samples_its_readme_names() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/nezha_k8s_pods.npz");
        if !path.exists() {
            println!("skipped: there is no {}", path.display());
            return;
        }
        let mut last = Timestamp::MIN;
        let mut keys = std::collections::BTreeSet::new();
        let mut samples = 0;
        for batch in RecordedBatches::open(&path).unwrap() {
            assert!(batch.timestamp >= last);
            last = batch.timestamp;
            samples += sample_count(&batch);
            keys.extend(batch.sets.into_keys());
        }
        assert_eq!((samples, keys.len() * RECORDED_COLUMNS.len()), (956_600, 1_120));
    }

    #[test]
    fn what_is_not_an_archive_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for bytes in [&b""[..], b"PK\x05\x06", &[b'P'; 100], b"PK\x05\x06aaaaaaaaaaaaaaaaaaaaaaaaa"]
        {
            std::fs::write(file.path(), bytes).unwrap();
            assert!(RecordedBatches::open(file.path()).is_err());
        }
    }
}
