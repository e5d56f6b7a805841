//! [`Lab`]: what the sections share: options, data sets, stores that are filled once.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use heapster_core::Timestamp;
use heapster_core::storage::{Columns, Snapshot};
use heapster_store::{Clock, Store, StoreOptions, SystemClock};
use tempfile::TempDir;

use super::disk::{OnDisk, compact};
use crate::measure::cpu_of;
use crate::workload::{
    BatchClock, FillCost, Filling, GENERATED_COLUMNS, Generated, read_all, store_options,
};

/// Until a day is old whatever the options say.
const LONG_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// What to measure with.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// Small data: numbers in a minute that are good for a look only.
    pub is_quick: bool,
    /// Folder that the generator of the generated set wrote.
    pub generated: Option<PathBuf>,
    /// File of the recorded set.
    pub recorded: PathBuf,
    /// The server that is asked over HTTP.
    pub heapster: PathBuf,
    /// Where to put the stores; a temporary folder by default.
    pub folder: Option<PathBuf>,
}

/// The options and what was made so far.
pub struct Lab {
    pub(super) options: LabOptions,
    /// Answers that were wrong.
    pub(super) failures: Vec<String>,
    generated: Option<Rc<Generated>>,
    filled: Option<Rc<Filled>>,
    root: TempDir,
    clock: SystemClock,
}

/// The generated set in a compacted store.
pub(super) struct Filled {
    pub store: Store,
    pub folder: PathBuf,
    pub cost: FillCost,
    pub disk: OnDisk,
}

impl Lab {
    pub(super) fn new(options: LabOptions) -> io::Result<Self> {
        let root = match &options.folder {
            Some(parent) => tempfile::tempdir_in(parent)?,
            None => tempfile::tempdir()?,
        };
        let clock = SystemClock::new();
        Ok(Self { options, failures: Vec::new(), generated: None, filled: None, root, clock })
    }

    /// Says on stderr what is being done.
    pub(super) fn progress(&self, what: &str) {
        eprintln!("{:7.1} s  {what}", self.clock.monotonic().as_secs_f64());
    }

    /// One of two numbers.
    pub(super) fn scaled<T>(&self, full: T, quick: T) -> T {
        if self.options.is_quick { quick } else { full }
    }

    /// How many slots of the generated set are used.
    pub(super) fn slots(&self) -> usize {
        self.scaled(5_000, 500)
    }

    /// The generated set.
    pub(super) fn generated(&mut self) -> io::Result<Rc<Generated>> {
        if let Some(generated) = &self.generated {
            return Ok(Rc::clone(generated));
        }
        self.progress("reading the generated set");
        let generated = Rc::new(load_generated(self.options.generated.as_deref(), self.slots())?);
        self.generated = Some(Rc::clone(&generated));
        Ok(generated)
    }

    /// The generated set in a compacted store.
    pub(super) fn filled(&mut self) -> io::Result<Rc<Filled>> {
        if let Some(filled) = &self.filled {
            return Ok(Rc::clone(filled));
        }
        let data = self.generated()?;
        let folder = self.folder("GEN")?;
        let mut filling = Filling::begin(&folder)?;
        self.progress("appending GEN");
        for batch in data.batches(0..GENERATED_COLUMNS.len()) {
            filling.append(&batch)?;
        }
        self.progress("compacting GEN");
        let cost = filling.cost;
        let (store, disk) = compact(filling, &folder)?;
        let filled = Rc::new(Filled { store, folder, cost, disk });
        self.filled = Some(Rc::clone(&filled));
        Ok(filled)
    }

    /// A copy of a store's folder, for what changes it.
    pub(super) fn copy_of(&self, folder: &Path) -> io::Result<PathBuf> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let copy = self.root.path().join(format!("{name}-copy"));
        copy_folder(folder, &copy)?;
        Ok(copy)
    }

    /// A folder for a store, removed with the lab.
    pub(super) fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.root.path().join(name);
        std::fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// What was measured with.
    pub(super) fn description(&self) -> String {
        let source = match &self.options.generated {
            Some(_) => "of the generator",
            None => {
                "of our own making: like the generator's, not the same, so figures differ a little"
            }
        };
        let size = self.generated.as_ref().map_or(String::new(), |data| {
            format!("{} series, {} samples, ", data.series(), data.samples())
        });
        let quick = if self.options.is_quick {
            "\nquick: small data, while goals and peers are for the full size"
        } else {
            ""
        };
        format!("GEN: {size}{source}{quick}")
    }
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &copy)?;
        } else {
            std::fs::copy(entry.path(), copy)?;
        }
    }
    Ok(())
}

/// Lets the days of a store be old, so that they are encoded for size; gives the samples that are
/// there afterwards and what it cost.
pub(super) fn make_cold(folder: &Path) -> io::Result<(u64, Duration)> {
    let clock = Arc::new(BatchClock::new());
    let options = StoreOptions { cold_after: Some(Duration::ZERO), ..store_options(&clock) };
    let store = Store::open(folder, options).map_err(io::Error::other)?;
    let newest = store.snapshot().bounds().map_or(Timestamp::EPOCH, |bounds| bounds.end);
    clock.set(newest.saturating_add(LONG_AFTER));
    let (done, cpu) = cpu_of(|| store.compact_all());
    let _ = done.map_err(io::Error::other)?;
    let samples = read_all(&store.snapshot(), Columns::All).map_err(io::Error::other)?;
    store.close().map_err(io::Error::other)?;
    Ok((samples, cpu))
}

/// The generated set from a folder, or an own one without.
pub(super) fn load_generated(folder: Option<&Path>, slots: usize) -> io::Result<Generated> {
    match folder {
        Some(folder) => Generated::open(folder, slots),
        None => Ok(Generated::made(slots)),
    }
}
