//! `heapster export`: samples out of a store into a file.

use std::sync::Arc;

use heapster_core::series::is_time_column;
use heapster_core::storage::{Columns, Samples, SelectedSet, Selector, Snapshot, StorageError};
use heapster_core::{Text, TimeRange};

use crate::cli::{UsageError, VerbCall};
use crate::transfer::{self, Format, SampleWriter, Series};

use super::output::Output;
use super::progress::{Progress, short_time};
use super::{Outcome, VerbError, dir, open_for_reading, range, selectors, tell};

/// How many damaged places are told one by one.
const TOLD_MAX: usize = 10;

/// What to export.
struct Options<'a> {
    format: Format,
    output: &'a str,
    replace: bool,
    selectors: Vec<Selector>,
    progress: bool,
}

impl<'a> Options<'a> {
    fn of(call: &'a VerbCall) -> Result<Self, UsageError> {
        let output = call.values.get("output");
        let format = match call.values.get_some("format") {
            Some(name) => Format::named(name),
            None => Format::of_file(output.as_ref()),
        };
        let format = format.ok_or_else(|| {
            call.conflict(
                "--format is needed, as the name of the file does not say it: one of \
                           csv, prometheus and parquet",
            )
        })?;
        Ok(Self {
            format,
            output,
            replace: call.values.is_set("force"),
            selectors: wanted(call, range(call)?)?,
            progress: !call.values.is_set("no-progress"),
        })
    }
}

/// What `--match` and `--metric` ask for; a series that one of them finds is wanted.
fn wanted(call: &VerbCall, range: TimeRange) -> Result<Vec<Selector>, UsageError> {
    let mut wanted = selectors(call)?;
    if wanted.is_empty() {
        wanted.push(super::ParsedSelector { matchers: Vec::new(), columns: Columns::All });
    }
    let metrics = call.values.all("metric");
    let narrowed = wanted.into_iter().flat_map(|selector| {
        let columns: Vec<Columns> = if metrics.is_empty() {
            vec![selector.columns]
        } else {
            let names = metrics.iter().filter(|name| selector.columns.contains(name));
            names.map(|name| Columns::Named(name.into())).collect()
        };
        let matchers = selector.matchers;
        columns.into_iter().map(move |columns| Selector {
            matchers: matchers.clone(),
            columns,
            range,
        })
    });
    Ok(narrowed.collect())
}

pub(super) fn run(call: &VerbCall) -> Result<Outcome, VerbError> {
    let options = Options::of(call)?;
    let snapshot = open_for_reading(dir(call))?.snapshot();
    let mut output = Output::create(options.output, options.replace)?;
    if options.format == Format::Parquet && output.is_terminal() {
        let what = "a parquet file is nothing for a terminal: give a file with -o, or a pipe";
        return Err(call.conflict(what).into());
    }
    let name = output.name();
    let mut export = Export {
        snapshot: &snapshot,
        progress: Progress::new("export", "samples", options.progress),
        series: 0,
        failures: 0,
        samples: Samples::default(),
    };
    let result = transfer::writer(options.format, &mut output)
        .map_err(Failure::Write)
        .and_then(|writer| export.write_all(options.format, &options.selectors, writer));
    result.map_err(|error| match error {
        Failure::Write(error) => output.error(error),
        Failure::Read(error) => VerbError::Read(error),
    })?;
    output.commit()?;
    let Export { mut progress, series, failures, .. } = export;
    let lacking = snapshot.damage();
    for damage in lacking.iter().take(TOLD_MAX) {
        progress.say(&format!("heapster: left out: {}", damage.reason));
    }
    let damages = failures + lacking.len();
    let (samples, elapsed) = (progress.count(), short_time(progress.elapsed()));
    drop(progress);
    tell(format_args!("exported {samples} samples of {series} series to {name} in {elapsed}"));
    if damages > 0 {
        tell(format_args!(
            "{damages} damaged places were left out. Run `heapster check {}`.",
            dir(call).display()
        ));
    }
    Ok(Outcome::complete_if(damages == 0))
}

enum Failure {
    Read(StorageError),
    Write(std::io::Error),
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Read(error)
    }
}

/// An export under way.
struct Export<'a> {
    snapshot: &'a dyn Snapshot,
    progress: Progress,
    series: u64,
    failures: usize,
    samples: Samples,
}

impl Export<'_> {
    fn write_all(
        &mut self,
        format: Format,
        selectors: &[Selector],
        mut writer: Box<dyn SampleWriter + '_>,
    ) -> Result<(), Failure> {
        if format == Format::Prometheus {
            self.write_by_metric(selectors, &mut *writer)?;
        } else {
            let sets = find(self.snapshot, selectors)?;
            self.progress.set_whole(Some(sets.len() as u64));
            self.write_sets(&sets, &mut *writer, true)?;
        }
        writer.finish().map_err(Failure::Write)
    }

    /// All series of one metric, then those of the next.
    fn write_by_metric(
        &mut self,
        selectors: &[Selector],
        writer: &mut dyn SampleWriter,
    ) -> Result<(), Failure> {
        let mut names: Vec<Text> = Vec::new();
        for selector in selectors {
            names.extend(self.snapshot.column_names(selector)?);
        }
        names.sort_unstable();
        names.dedup();
        // Nanoseconds of a clock mean nothing to Prometheus.
        names.retain(|name| !is_time_column(name));
        self.progress.set_whole(Some(names.len() as u64));
        for (index, name) in names.iter().enumerate() {
            let of_name: Vec<Selector> = selectors
                .iter()
                .filter(|selector| selector.columns.contains(name))
                .map(|selector| Selector {
                    columns: Columns::Named(name.clone()),
                    ..selector.clone()
                })
                .collect();
            let sets = find(self.snapshot, &of_name)?;
            self.write_sets(&sets, writer, false)?;
            self.progress.set_steps(index as u64 + 1);
        }
        Ok(())
    }

    fn write_sets(
        &mut self,
        sets: &[FoundSet],
        writer: &mut dyn SampleWriter,
        are_steps: bool,
    ) -> Result<(), Failure> {
        for (index, set) in sets.iter().enumerate() {
            for (set, column) in set.columns() {
                self.write_series(set, column, writer).map_err(Failure::Write)?;
            }
            if are_steps {
                self.progress.set_steps(index as u64 + 1);
            }
        }
        Ok(())
    }

    fn write_series(
        &mut self,
        set: &dyn SelectedSet,
        column: usize,
        writer: &mut dyn SampleWriter,
    ) -> std::io::Result<()> {
        let described = &set.columns()[column];
        let (labels, metric, kind) = (set.labels(), &described.name, described.kind);
        let mut cursor = set.read(column);
        let mut has_samples = false;
        loop {
            let decoded = match cursor.next_run() {
                Ok(None) => break,
                Ok(Some(_)) => cursor.decode(&mut self.samples),
                Err(error) => Err(error),
            };
            if let Err(error) = decoded {
                self.failures += 1;
                if self.failures <= TOLD_MAX {
                    let error = crate::telemetry::logging::chain(&error);
                    self.progress.say(&format!("heapster: left out: {error}"));
                }
                continue;
            }
            if self.samples.timestamps.is_empty() {
                continue;
            }
            has_samples = true;
            writer.write(Series { labels, metric, kind }, &self.samples)?;
            self.progress.add(self.samples.timestamps.len() as u64);
        }
        self.series += u64::from(has_samples);
        Ok(())
    }
}

/// What one or more selectors found of a label set.
struct FoundSet(Vec<Arc<dyn SelectedSet>>);

impl FoundSet {
    /// The columns, sorted by name, each once.
    fn columns(&self) -> Vec<(&dyn SelectedSet, usize)> {
        let of_part = |set: &'_ Arc<dyn SelectedSet>| 0..set.columns().len();
        let mut columns: Vec<(&dyn SelectedSet, usize)> = self
            .0
            .iter()
            .flat_map(|set| of_part(set).map(move |column| (&**set, column)))
            .collect();
        if self.0.len() > 1 {
            let name =
                |(set, column): &(&dyn SelectedSet, usize)| set.columns()[*column].name.clone();
            columns.sort_by_key(name);
            columns.dedup_by_key(|column| name(column));
        }
        columns
    }
}

/// The sets that any of the selectors finds, each label set once, in the order of labels.
fn find(snapshot: &dyn Snapshot, selectors: &[Selector]) -> Result<Vec<FoundSet>, StorageError> {
    let mut parts: Vec<Arc<dyn SelectedSet>> = Vec::new();
    for selector in selectors {
        parts.extend(snapshot.select(selector)?);
    }
    if selectors.len() > 1 {
        parts.sort_by(|a, b| a.labels().cmp(b.labels()));
    }
    let mut sets: Vec<FoundSet> = Vec::new();
    for part in parts {
        match sets.last_mut().filter(|set| set.0[0].labels() == part.labels()) {
            Some(set) => set.0.push(part),
            None => sets.push(FoundSet(vec![part])),
        }
    }
    Ok(sets)
}
