//! [`TargetRegistry`]: the targets that are scraped, and how they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use heapster_core::{Labels, Timestamp};
use parking_lot::Mutex;

/// Targets that a job's rules dropped, of which so many are shown.
const DROPPED_MAX: usize = 1_000;

/// The targets of all jobs.
#[derive(Debug, Default)]
pub struct TargetRegistry {
    jobs: Mutex<BTreeMap<String, JobTargets>>,
}

/// The targets of a job.
#[derive(Clone, Debug, Default)]
pub struct JobTargets {
    /// Those that are scraped, in the order of their labels.
    pub active: Vec<Arc<TargetState>>,
    /// What is known of those that its rules dropped; the first thousand.
    pub dropped: Vec<Labels>,
    /// How many its rules dropped.
    pub dropped_count: usize,
}

/// A target that is scraped.
#[derive(Debug)]
pub struct TargetState {
    /// Name of its job.
    pub job: String,
    /// What is known of it before the rules of its job, the labels that begin with `__` included.
    pub discovered: Labels,
    /// The labels that its samples get.
    pub labels: Labels,
    /// What is asked.
    pub url: String,
    /// Time between scrapes.
    pub interval: Duration,
    /// Longest time of a scrape.
    pub timeout: Duration,
    status: Mutex<TargetStatus>,
}

/// How the last scrape of a target went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetStatus {
    /// Whether it answers.
    pub health: Health,
    /// Why the last scrape failed; empty when it did not.
    pub last_error: String,
    /// When the last scrape began.
    pub last_scrape: Option<Timestamp>,
    /// How long it took.
    pub last_duration: Duration,
}

/// Whether a target answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It was not scraped yet.
    #[default]
    Unknown,
    /// The last scrape was good.
    Up,
    /// The last scrape failed.
    Down,
}

impl Health {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl TargetState {
    /// A target that was not scraped yet.
    pub fn new(
        job: String,
        discovered: Labels,
        labels: Labels,
        url: String,
        interval: Duration,
        timeout: Duration,
    ) -> Self {
        Self { job, discovered, labels, url, interval, timeout, status: Mutex::default() }
    }

    /// How it is.
    pub fn status(&self) -> TargetStatus {
        self.status.lock().clone()
    }

    /// Notes how a scrape went; gives how it was before.
    pub fn set_status(&self, status: TargetStatus) -> TargetStatus {
        std::mem::replace(&mut *self.status.lock(), status)
    }
}

impl TargetRegistry {
    /// Sets the targets of a job.
    pub fn set(&self, job: &str, mut active: Vec<Arc<TargetState>>, mut dropped: Vec<Labels>) {
        active.sort_by(|a, b| (&a.labels, &a.url).cmp(&(&b.labels, &b.url)));
        let dropped_count = dropped.len();
        dropped.truncate(DROPPED_MAX);
        let targets = JobTargets { active, dropped, dropped_count };
        self.jobs.lock().insert(job.to_owned(), targets);
    }

    /// The jobs in the order of their names.
    pub fn jobs(&self) -> Vec<(String, JobTargets)> {
        self.jobs.lock().iter().map(|(name, targets)| (name.clone(), targets.clone())).collect()
    }
}
