//! `heapster backup` and `heapster restore`: copies of a store.

use std::path::Path;

use heapster_store::{CopyReport, ReaderOptions, StoreReader};

use crate::cli::VerbCall;

use super::progress::{Progress, short_time};
use super::{Outcome, VerbError, count, dir, open_for_reading, print, real_vfs, tell};

pub(super) fn run(call: &VerbCall) -> Result<Outcome, VerbError> {
    let (from, to) = (dir(call), Path::new(&call.words[1]));
    if call.values.is_set("dry-run") {
        return announce(from, to);
    }
    let mut progress = Progress::new(call.verb.name, "bytes", !call.values.is_set("no-progress"));
    let vfs = real_vfs();
    let show = &mut |at| progress.show(at);
    let report = match call.verb.name {
        "restore" => heapster_store::restore(&vfs, from, to, show),
        _ => heapster_store::backup(&vfs, from, to, show),
    };
    let report = report.map_err(|source| VerbError::Copy {
        verb: call.verb.name,
        from: from.to_owned(),
        to: to.to_owned(),
        source,
    })?;
    progress.clear();
    let elapsed = short_time(progress.elapsed());
    let done = if call.verb.name == "restore" { "restored" } else { "backed up" };
    summarize(&report);
    tell(format_args!(
        "{done} {} to {} in {elapsed}: {} bytes, {} of them copied now",
        from.display(),
        to.display(),
        count(report.bytes),
        count(report.bytes_copied)
    ));
    Ok(Outcome::complete_if(report.is_complete()))
}

/// Tells what is damaged in the original.
fn summarize(report: &CopyReport) {
    for file in &report.damaged {
        tell(format_args!("damaged: {}: {}", file.file, file.reason));
    }
    if !report.is_complete() {
        tell("The original is damaged, and so is the copy. `heapster check` says what that means.");
    }
}

/// Says what would be copied.
fn announce(from: &Path, to: &Path) -> Result<Outcome, VerbError> {
    let stats = open_for_reading(from)?.stats();
    let state = match StoreReader::open(to, ReaderOptions::default()) {
        Ok(_) => "which holds a store or a backup",
        Err(_) if !to.exists() => "which is not there yet",
        Err(_) => "which holds no backup",
    };
    print(&format!(
        "would copy {} segments of {} bytes and {} bytes of log from {} to {}, {state}\n",
        count(stats.segments),
        count(stats.segment_bytes),
        count(stats.wal_bytes),
        from.display(),
        to.display(),
    ))?;
    Ok(Outcome::Complete)
}
