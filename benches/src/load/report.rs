//! The outcome of a load run, as a table or as JSON.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::process::{DiskUsage, ProcessUsage};

/// One cycle of the server: from one batch being visible to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cycle {
    /// CPU time used, per batch.
    pub(crate) cpu: Duration,
    /// From the end of the batch's interval until the batch was visible.
    pub(crate) latency: Duration,
    /// Samples appended to the store; unknown when the server does not tell.
    pub(crate) samples: Option<f64>,
}

/// What happened after `kill -9`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// Until the model API answered at all.
    pub(crate) answered_after: Duration,
    /// Until it knew every batch it had known before; `None` when it never did.
    pub(crate) complete_after: Option<Duration>,
    pub(crate) batches_before: usize,
    /// Batches that were visible before and are not any more.
    pub(crate) missing: usize,
}

/// The outcome of a load run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub(crate) nodes: usize,
    pub(crate) pods: usize,
    pub(crate) containers: usize,
    pub(crate) resolution: Duration,
    pub(crate) duration: Duration,
    pub(crate) cycles: Vec<Cycle>,
    /// Whole intervals that ended during the run.
    pub(crate) intervals: usize,
    pub(crate) batches: usize,
    pub(crate) sets: Option<u64>,
    pub(crate) samples: Option<f64>,
    /// At the end of the run.
    pub(crate) usage: ProcessUsage,
    /// At the end of the run, while the server still ran.
    pub(crate) disk: DiskUsage,
    /// After the server had ended.
    pub(crate) disk_after_end: DiskUsage,
    pub(crate) recovery: Option<Recovery>,
    /// How long the server took to end, and whether it ended well.
    pub(crate) end: Option<(Duration, bool)>,
    pub(crate) errors: Vec<String>,
}

impl Report {
    /// Whether batches were seen and nothing failed on the way.
    pub fn is_good(&self) -> bool {
        let lost = self.recovery.is_some_and(|recovery| recovery.missing > 0);
        self.batches > 0 && self.errors.is_empty() && !lost && self.end.is_some_and(|end| end.1)
    }

    /// CPU time of the whole process, start included, for each batch.
    fn cpu_per_batch(&self) -> Option<Duration> {
        let batches = u32::try_from(self.batches).ok().filter(|batches| *batches > 0)?;
        Some(self.usage.cpu / batches)
    }

    fn cycle_quantile(&self, quantile: f64, of: impl Fn(&Cycle) -> Duration) -> Option<Duration> {
        let mut values: Vec<Duration> = self.cycles.iter().map(of).collect();
        values.sort_unstable();
        let last = values.len().checked_sub(1)?;
        values.get((last as f64 * quantile).round() as usize).copied()
    }

    /// Median of the samples appended per cycle.
    fn samples_per_cycle(&self) -> Option<f64> {
        let mut values: Vec<f64> = self.cycles.iter().filter_map(|cycle| cycle.samples).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    fn bytes_per_sample(&self, bytes: u64) -> Option<f64> {
        self.samples.filter(|samples| *samples > 0.0).map(|samples| bytes as f64 / samples)
    }

    /// The report as JSON; unknown numbers are null, durations are seconds.
    pub fn to_json(&self) -> Value {
        let seconds = |duration: Option<Duration>| duration.map(|d| d.as_secs_f64());
        let cpu = |quantile| seconds(self.cycle_quantile(quantile, |cycle| cycle.cpu));
        let latency = |quantile| seconds(self.cycle_quantile(quantile, |cycle| cycle.latency));
        json!({
            "cluster": {"nodes": self.nodes, "pods": self.pods, "containers": self.containers},
            "resolution_seconds": self.resolution.as_secs_f64(),
            "duration_seconds": self.duration.as_secs_f64(),
            "batches": {"intervals": self.intervals, "seen": self.batches},
            "cpu_seconds": {
                "whole_process": self.usage.cpu.as_secs_f64(),
                "whole_process_per_batch": seconds(self.cpu_per_batch()),
                "cycle_median": cpu(0.5), "cycle_p95": cpu(0.95), "cycle_max": cpu(1.0),
            },
            "latency_seconds": {"median": latency(0.5), "p95": latency(0.95), "max": latency(1.0)},
            "memory_bytes": {
                "resident": self.usage.resident_bytes, "anonymous": self.usage.anonymous_bytes,
                "file": self.usage.file_bytes, "peak": self.usage.peak_bytes,
            },
            "threads": self.usage.threads,
            "sets_per_batch": self.sets,
            "samples": {"appended": self.samples, "per_cycle": self.samples_per_cycle()},
            "disk": disk_json(self, &self.disk),
            "disk_after_end": disk_json(self, &self.disk_after_end),
            "kill9": self.recovery.map(|recovery| json!({
                "answered_after_seconds": recovery.answered_after.as_secs_f64(),
                "complete_after_seconds": seconds(recovery.complete_after),
                "batches_before": recovery.batches_before,
                "missing": recovery.missing,
            })),
            "end": self.end.map(|(took, well)| json!({
                "seconds": took.as_secs_f64(), "exited_with_success": well,
            })),
            "errors": self.errors,
            "good": self.is_good(),
        })
    }
}

fn disk_json(report: &Report, disk: &DiskUsage) -> Value {
    json!({
        "bytes": disk.total_bytes(),
        "allocated_bytes": disk.allocated_bytes,
        "files": disk.files,
        "bytes_by_folder": disk.by_folder,
        "bytes_per_sample": report.bytes_per_sample(disk.total_bytes()),
        "wal_share": wal_share(disk),
    })
}

fn wal_share(disk: &DiskUsage) -> Option<f64> {
    let total = disk.total_bytes();
    (total > 0).then(|| disk.folder_bytes("wal") as f64 / total as f64)
}

/// A table of two columns.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String| writeln!(f, "  {name:<28} {value}");
        let cpu = |quantile| seconds(self.cycle_quantile(quantile, |cycle| cycle.cpu));
        let latency = |quantile| seconds(self.cycle_quantile(quantile, |cycle| cycle.latency));
        row(
            "cluster",
            format!("{} nodes, {} pods, {} containers", self.nodes, self.pods, self.containers),
        )?;
        row("run", format!("{:.0?} at a resolution of {:?}", self.duration, self.resolution))?;
        row("batches seen / intervals", format!("{} / {}", self.batches, self.intervals))?;
        row(
            "cpu per cycle",
            format!("median {}, p95 {}, slowest {}", cpu(0.5), cpu(0.95), cpu(1.0)),
        )?;
        row(
            "cpu, whole process / batch",
            format!(
                "{} in all, {} per batch",
                seconds(Some(self.usage.cpu)),
                seconds(self.cpu_per_batch())
            ),
        )?;
        row(
            "batch visible after",
            format!("median {}, p95 {}, slowest {}", latency(0.5), latency(0.95), latency(1.0)),
        )?;
        row(
            "memory at the end",
            format!(
                "{} resident: {} own, {} files",
                mib(self.usage.resident_bytes),
                mib(self.usage.anonymous_bytes),
                mib(self.usage.file_bytes)
            ),
        )?;
        row("memory at its peak", mib(self.usage.peak_bytes))?;
        row("sets per batch", known(self.sets.map(|sets| sets.to_string())))?;
        row(
            "samples per cycle",
            known(self.samples_per_cycle().map(|samples| format!("{samples:.0}"))),
        )?;
        row("disk", self.disk_text(&self.disk))?;
        row("disk after the end", self.disk_text(&self.disk_after_end))?;
        if let Some(recovery) = &self.recovery {
            row(
                "after kill -9",
                format!(
                    "answered in {}, complete in {}, {} of {} batches missing",
                    seconds(Some(recovery.answered_after)),
                    seconds(recovery.complete_after),
                    recovery.missing,
                    recovery.batches_before
                ),
            )?;
        }
        row(
            "end after SIGTERM",
            known(self.end.map(|(took, well)| {
                format!(
                    "{}{}",
                    seconds(Some(took)),
                    if well { "" } else { ", and not with success" }
                )
            })),
        )?;
        row("errors", self.errors.len().to_string())?;
        self.errors.iter().try_for_each(|error| writeln!(f, "    {error}"))
    }
}

impl Report {
    fn disk_text(&self, disk: &DiskUsage) -> String {
        let per_sample = self.bytes_per_sample(disk.total_bytes());
        let folders: Vec<String> = disk
            .by_folder
            .iter()
            .map(|(name, bytes)| {
                format!("{} {}", if name.is_empty() { "top" } else { name }, mib(*bytes))
            })
            .collect();
        format!(
            "{} in {} files ({}), {} bytes/sample, wal share {}",
            mib(disk.total_bytes()),
            disk.files,
            folders.join(", "),
            known(per_sample.map(|bytes| format!("{bytes:.2}"))),
            known(wal_share(disk).map(|share| format!("{:.0} %", share * 100.0))),
        )
    }
}

fn seconds(duration: Option<Duration>) -> String {
    known(duration.map(|duration| format!("{:.3} s", duration.as_secs_f64())))
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

fn known(value: Option<String>) -> String {
    value.unwrap_or_else(|| "unknown".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let cycle = |millis, samples| Cycle {
            cpu: Duration::from_millis(millis),
            latency: Duration::from_secs(6),
            samples: Some(samples),
        };
        Report {
            batches: 5,
            intervals: 5,
            cycles: [100, 300, 200, 900, 250].map(|millis| cycle(millis, 1000.0)).into(),
            usage: ProcessUsage { cpu: Duration::from_secs(2), ..ProcessUsage::default() },
            samples: Some(5000.0),
            disk: DiskUsage {
                by_folder: [("segments".into(), 7_500), ("wal".into(), 2_500)].into(),
                ..DiskUsage::default()
            },
            end: Some((Duration::from_millis(80), true)),
            ..Report::default()
        }
    }

    #[test]
    fn cycles_are_summed_up_by_their_quantiles() {
        let json = report().to_json();
        assert_eq!(json["cpu_seconds"]["cycle_median"], 0.25);
        assert_eq!(json["cpu_seconds"]["cycle_max"], 0.9);
        assert_eq!(json["cpu_seconds"]["whole_process_per_batch"], 0.4);
        assert_eq!(json["disk"]["bytes_per_sample"], 2.0);
        assert_eq!(json["disk"]["wal_share"], 0.25);
        assert_eq!(json["good"], true);
        assert!(report().to_string().contains("2.00 bytes/sample, wal share 25 %"));
    }

    #[test]
    fn lost_batches_errors_and_a_bad_end_are_not_good() {
        let recovery = Recovery {
            answered_after: Duration::ZERO,
            complete_after: None,
            batches_before: 5,
            missing: 1,
        };
        assert!(!Report { recovery: Some(recovery), ..report() }.is_good());
        assert!(!Report { errors: vec!["broken".into()], ..report() }.is_good());
        assert!(!Report { end: Some((Duration::ZERO, false)), ..report() }.is_good());
        assert!(!Report { batches: 0, ..report() }.is_good());
    }

    #[test]
    fn a_run_without_batches_has_a_report_without_numbers() {
        let empty = Report::default();
        assert_eq!(empty.to_json()["cpu_seconds"]["cycle_median"], Value::Null);
        assert!(empty.to_string().contains("unknown"));
    }
}
