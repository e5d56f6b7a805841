//! `heapster import`: samples out of files into a store.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::rc::Rc;

use heapster_core::{Labels, TimeRange};
use heapster_store::{ImportReport, Store, StoreOptions};

use crate::cli::{UsageError, VerbCall};
use crate::transfer::{
    self, Counter, Format, Input, Pending, ReadError, ReadOptions, Repeated, Sample,
};

use super::progress::{Progress, short_time};
use super::{Outcome, VerbError, close, dir, moment, now, tell};

/// Samples that are put together before they go to the store: the more, the fewer rows they make
/// when a file has series after series.
const PENDING_MAX: usize = 500_000;
const APPEND: &str = "add to the store";
/// How many bad lines are told one by one when they do not end the import.
const TOLD_MAX: u64 = 10;

/// How to import.
struct Options {
    /// `None`: by each file's name.
    format: Option<Format>,
    read: ReadOptions,
    labels: Labels,
    /// Bad lines that do not end the import.
    bad_lines_max: u64,
    skip_bad: bool,
    progress: bool,
}

impl Options {
    fn of(call: &VerbCall) -> Result<Self, UsageError> {
        let values = &call.values;
        let now = now();
        let mut labels = Labels::new();
        for text in values.all("label") {
            let (name, value) = text
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| call.conflict(format!("--label {text:?} is not NAME=VALUE")))?;
            labels.set(name, value);
        }
        let format = values.get_some("format").and_then(Format::named);
        let files = &call.words[1..];
        for file in files {
            if format.is_none() && Format::of_file(file.as_ref()).is_none() {
                let what = format!(
                    "--format is needed, as the name {file:?} does not say it: one of csv, \
                     prometheus and parquet"
                );
                return Err(call.conflict(what));
            }
        }
        let skip_bad = values.is_set("skip-bad");
        let bad_lines_max = values.get("bad-lines").parse().unwrap_or_default();
        Ok(Self {
            format,
            read: ReadOptions {
                time: moment(call, "time", now).unwrap_or(now),
                floats: values.is_set("floats"),
            },
            labels,
            bad_lines_max: if skip_bad { u64::MAX } else { bad_lines_max },
            skip_bad,
            progress: !values.is_set("no-progress"),
        })
    }
}

pub(super) fn run(call: &VerbCall) -> Result<Outcome, VerbError> {
    let options = Options::of(call)?;
    let files = &call.words[1..];
    // All files are opened first: a mistyped name must not end an import halfway.
    let sources = files.iter().map(|name| Source::open(name, options.format));
    let sources = sources.collect::<Result<Vec<_>, _>>()?;
    let store_options = StoreOptions { future_max: None, ..StoreOptions::default() };
    let store = Store::open(dir(call), store_options)
        .map_err(|source| VerbError::Open { dir: dir(call).to_owned(), source })?;
    let mut import = Import {
        store: store.import(),
        options: &options,
        progress: Progress::new("import", "samples", options.progress),
        pending: Pending::default(),
        repeated: Repeated::default(),
        range: None,
        bad_lines: 0,
    };
    import.progress.set_whole(sources.iter().map(|source| source.len).sum());
    let bytes: Counter = Rc::new(Cell::new(0));
    let mut result = Ok(());
    for source in sources {
        result = import.read_file(source, &bytes);
        if result.is_err() {
            break;
        }
    }
    // What came before an error is kept.
    let flushed = import.flush().and_then(|()| {
        import.store.finish().map(drop).map_err(|source| VerbError::Store { what: APPEND, source })
    });
    import.progress.clear();
    let report = *import.store.report();
    import.summarize(&report);
    let is_complete = (import.bad_lines == 0 || options.skip_bad) && report.rejected.total() == 0;
    drop(import);
    let closed = close(call, store);
    result.and(flushed).and(closed)?;
    Ok(Outcome::complete_if(is_complete))
}

/// A file to read.
struct Source {
    name: String,
    format: Format,
    from: Input,
    /// Length in bytes; `None` when it is not known.
    len: Option<u64>,
}

impl Source {
    fn open(name: &str, format: Option<Format>) -> Result<Self, VerbError> {
        let format = format.or_else(|| Format::of_file(name.as_ref()));
        let format = format.expect("bug: the format of a file is not known");
        if name == "-" {
            let from = Input::Stream(io::stdin());
            return Ok(Self { name: "stdin".to_owned(), format, from, len: None });
        }
        let error = |source| VerbError::File { op: "open", path: name.into(), source };
        let file = File::open(name).map_err(error)?;
        let metadata = file.metadata().map_err(error)?;
        if metadata.is_dir() {
            return Err(error(io::ErrorKind::IsADirectory.into()));
        }
        let len = metadata.is_file().then_some(metadata.len());
        Ok(Self { name: name.to_owned(), format, from: Input::File(file), len })
    }
}

/// An import under way.
struct Import<'a> {
    store: heapster_store::Import<'a>,
    options: &'a Options,
    progress: Progress,
    pending: Pending,
    /// Samples that the store never saw, since a later one of the files counts.
    repeated: Repeated,
    /// Times of the samples seen.
    range: Option<TimeRange>,
    bad_lines: u64,
}

impl Import<'_> {
    fn read_file(&mut self, source: Source, bytes: &Counter) -> Result<(), VerbError> {
        let Source { name, format, from, .. } = source;
        let unusable = |source| VerbError::Input { file: name.clone(), source };
        let reader = transfer::reader(format, from, bytes, self.options.read);
        let mut reader = reader.map_err(unusable)?;
        loop {
            match reader.next() {
                Ok(Some(sample)) => self.take(sample, bytes)?,
                Ok(None) => return Ok(()),
                Err(ReadError::BadLine { line, reason }) => self.complain(&name, line, &reason)?,
                Err(source) => return Err(unusable(source)),
            }
        }
    }

    fn take(&mut self, mut sample: Sample, bytes: &Counter) -> Result<(), VerbError> {
        let at = sample.at;
        self.range = Some(match self.range {
            None => TimeRange::new(at, at),
            Some(range) => TimeRange::new(range.start.min(at), range.end.max(at)),
        });
        if !self.options.labels.is_empty() {
            sample.labels = sample.labels.union(&self.options.labels);
        }
        self.pending.add(sample);
        if self.pending.len() >= PENDING_MAX {
            self.flush()?;
        }
        self.progress.set_steps(bytes.get());
        self.progress.add(1);
        Ok(())
    }

    fn complain(&mut self, file: &str, line: u64, reason: &str) -> Result<(), VerbError> {
        self.bad_lines += 1;
        if !self.options.skip_bad || self.bad_lines <= TOLD_MAX {
            self.progress.say(&format!("{file}:{line}: {reason}"));
        }
        if self.bad_lines > self.options.bad_lines_max {
            let count = self.bad_lines;
            return Err(VerbError::BadLines { file: file.to_owned(), line, count });
        }
        Ok(())
    }

    /// Hands what is pending to the store.
    fn flush(&mut self) -> Result<(), VerbError> {
        let drained = self.pending.drain(|at, rows| self.store.push_rows(at, rows));
        let Repeated { duplicate, replaced } =
            drained.map_err(|source| VerbError::Store { what: APPEND, source })?;
        self.repeated.duplicate += duplicate;
        self.repeated.replaced += replaced;
        Ok(())
    }

    fn summarize(&self, report: &ImportReport) {
        let elapsed = short_time(self.progress.elapsed());
        let accepted = report.accepted;
        match self.range {
            None => tell("imported nothing: there are no samples"),
            Some(TimeRange { start, end }) => {
                tell(format_args!(
                    "imported {accepted} samples from {start} to {end} in {elapsed}"
                ));
            }
        }
        for (count, what) in [
            (
                report.duplicate + self.repeated.duplicate,
                "samples were in the files more than once",
            ),
            (
                report.replaced + self.repeated.replaced,
                "samples were replaced by a later one of the same time",
            ),
            (self.bad_lines, "bad lines were left out"),
        ] {
            if count > 0 {
                tell(format_args!("{count} {what}"));
            }
        }
        for (reason, count) in report.rejected.iter().filter(|(_, count)| *count > 0) {
            tell(format_args!("{count} samples were refused by the store: {reason}"));
        }
    }
}
