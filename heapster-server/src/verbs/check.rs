//! `heapster check`: is every byte of a store what was written?

use std::fmt::Write as _;
use std::path::Path;

use heapster_store::{CheckReport, Finding, Severity};
use serde::Serialize;

use crate::cli::VerbCall;

use super::progress::Progress;
use super::{Outcome, VerbError, count, dir, json, print, real_vfs};

/// The result, in the form of `-o json`.
#[derive(Debug, Serialize)]
struct Report<'a> {
    /// Whether no bytes that count are damaged or missing.
    sound: bool,
    findings: Vec<Found<'a>>,
    segments: u64,
    /// Samples in segments.
    samples: u64,
    /// Batches in logs.
    batches: u64,
    /// Bytes that were read.
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Found<'a> {
    /// `note`, `warning` or `damage`.
    severity: String,
    file: String,
    /// Where in the file, in bytes.
    offset: Option<u64>,
    what: &'a str,
    consequence: &'a str,
    advice: &'a str,
}

pub(super) fn run(call: &VerbCall) -> Result<Outcome, VerbError> {
    let dir = dir(call);
    let mut progress = Progress::new("check", "bytes", !call.values.is_set("no-progress"));
    let report = heapster_store::check(&real_vfs(), dir, &mut |at| progress.show(at))
        .map_err(|source| VerbError::Open { dir: dir.to_owned(), source })?;
    progress.clear();
    let is_sound = report.worst() != Some(Severity::Damage);
    let text = match call.values.get("output") {
        "json" => json(&Report::of(&report, is_sound)),
        _ => table(dir, &report, is_sound),
    };
    print(&text)?;
    Ok(Outcome::complete_if(is_sound))
}

impl<'a> Report<'a> {
    fn of(report: &'a CheckReport, sound: bool) -> Self {
        let found = |finding: &'a Finding| Found {
            severity: finding.severity.to_string(),
            file: finding.file.display().to_string(),
            offset: finding.offset,
            what: &finding.what,
            consequence: &finding.consequence,
            advice: &finding.advice,
        };
        Self {
            sound,
            findings: report.findings.iter().map(found).collect(),
            segments: report.segments,
            samples: report.samples,
            batches: report.batches,
            bytes: report.bytes,
        }
    }
}

/// The result for people: what is worst stands last, where the eye is.
fn table(dir: &Path, report: &CheckReport, is_sound: bool) -> String {
    let mut findings: Vec<&Finding> = report.findings.iter().collect();
    findings.sort_by_key(|finding| finding.severity);
    let mut text = String::new();
    for finding in findings {
        let place = finding.offset.map(|at| format!(" at byte {at}")).unwrap_or_default();
        let (severity, file) = (finding.severity, finding.file.display());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{severity}: {file}{place}: {}", finding.what);
        for more in [&finding.consequence, &finding.advice] {
            if !more.is_empty() {
                let _ = writeln!(text, "    {more}");
            }
        }
    }
    let verdict = if is_sound { "sound" } else { "DAMAGED" };
    let _ = writeln!(
        text,
        "{}: {verdict} ({} samples in {} segments, {} batches in logs, {} bytes read)",
        dir.display(),
        count(report.samples),
        count(report.segments),
        count(report.batches),
        count(report.bytes),
    );
    text
}
