//! The workload report: what the store costs on known data, beside its goals and other engines.
//!
//! Each section is a file and fills in rows. What a query answers is checked against the data
//! itself, so that a wrong answer fails the report however fast it was.

mod append;
mod child;
mod decode;
mod direct;
mod disk;
mod http;
mod lab;
mod memory;
mod opening;
mod queries;
mod row;
mod series;
mod tiers;

use std::fmt;
use std::io;

use clap::ValueEnum;
use heapster_core::Timestamp;
use serde_json::{Value, json};

pub use child::ChildWork;
pub use lab::{Lab, LabOptions};
pub use row::Row;
use row::Table;

/// Midnight UTC, so that windows and days of a store are whole.
const START: Timestamp = Timestamp::from_millis(1_700_006_400_000);
/// How often a query or an opening is measured; the median counts.
const REPEATS: usize = 7;

/// A part of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// Bytes on the disk.
    Disk,
    /// Appending batches, with the log.
    Append,
    /// Series that were not there before.
    Series,
    /// Memory of a process by its series.
    Memory,
    /// Decoding into a slice.
    Decode,
    /// Queries in process.
    Queries,
    /// Queries of PromQL, asked of the server.
    Http,
    /// A month and its tiers.
    Tiers,
    /// Opening a store again.
    Opening,
}

impl Section {
    const fn title(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Append => "append",
            Self::Series => "new series",
            Self::Memory => "memory",
            Self::Decode => "decode",
            Self::Queries => "queries, in process, one thread, CPU time",
            Self::Http => "queries over HTTP, wall time",
            Self::Tiers => "tiers",
            Self::Opening => "opening",
        }
    }

    fn run(self, lab: &mut Lab) -> io::Result<Vec<Row>> {
        match self {
            Self::Disk => disk::run(lab),
            Self::Append => append::run(lab),
            Self::Series => series::run(lab),
            Self::Memory => memory::run(lab),
            Self::Decode => decode::run(lab),
            Self::Queries => queries::run(lab),
            Self::Http => http::run(lab),
            Self::Tiers => tiers::run(lab),
            Self::Opening => opening::run(lab),
        }
    }
}

/// What was measured.
#[derive(Debug, Default)]
pub struct Report {
    data: String,
    sections: Vec<(Section, Vec<Row>)>,
    failures: Vec<String>,
}

impl Report {
    /// Measures; says on stderr what it is doing.
    pub fn measure(options: LabOptions, sections: &[Section]) -> io::Result<Self> {
        let mut lab = Lab::new(options)?;
        let mut report = Self::default();
        for section in sections {
            lab.progress(section.title());
            match section.run(&mut lab) {
                Ok(rows) => report.sections.push((*section, rows)),
                Err(error) => report.failures.push(format!("{}: {error}", section.title())),
            }
        }
        report.data = lab.description();
        report.failures.append(&mut lab.failures);
        Ok(report)
    }

    /// Whether every section ran and every answer was right.
    pub fn is_good(&self) -> bool {
        self.failures.is_empty()
    }

    /// The numbers as JSON.
    pub fn to_json(&self) -> Value {
        let section = |(section, rows): &(Section, Vec<Row>)| {
            json!({
                "section": section.title(),
                "rows": rows.iter().map(Row::to_json).collect::<Vec<_>>(),
            })
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "data": self.data,
            "sections": self.sections.iter().map(section).collect::<Vec<_>>(),
            "failures": self.failures,
            "good": self.is_good(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.data)?;
        for (section, rows) in &self.sections {
            writeln!(f, "\n{}", section.title())?;
            write!(f, "{}", Table(rows))?;
        }
        self.failures.iter().try_for_each(|failure| writeln!(f, "\nFAILED {failure}"))
    }
}
