//! [`Campaign`]: many seeds, on several threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::run::{Failure, Tally, run};
use crate::script::Script;

/// Seeds to be run.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The first seed.
    pub first: u64,
    /// How many; the campaign may be stopped before.
    pub seeds: u64,
    /// Threads that run them.
    pub jobs: usize,
    /// Stops once that many images were opened.
    pub images_max: Option<u64>,
    /// Stops once a crash was tried at that many calls of the file system.
    pub crash_points_max: Option<u64>,
}

/// How far a campaign is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Every seed before this one is done.
    pub done_before: u64,
    /// Seeds that are done.
    pub seeds: u64,
    /// What they did.
    pub tally: Tally,
}

/// A seed that breaks a promise.
#[derive(Clone, Debug)]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// What it breaks.
    pub failure: Failure,
}

struct Shared {
    next: AtomicU64,
    is_over: AtomicBool,
    progress: Mutex<(Progress, Vec<u64>)>,
    found: Mutex<Option<Found>>,
}

impl Campaign {
    /// Runs the seeds in their order until one fails; the one with the least number is given.
    /// `tell` is called after each seed.
    ///
    /// # Errors
    /// The seed that fails, with what was done before.
    pub fn run(
        &self,
        tell: &(dyn Fn(&Progress) + Sync),
    ) -> Result<Progress, Box<(Found, Progress)>> {
        let shared = Shared {
            next: AtomicU64::new(self.first),
            is_over: AtomicBool::new(false),
            progress: Mutex::new((
                Progress { done_before: self.first, ..Progress::default() },
                Vec::new(),
            )),
            found: Mutex::default(),
        };
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| self.work(&shared, tell));
            }
        });
        let progress = shared.progress.into_inner().0;
        match shared.found.into_inner() {
            Some(found) => Err(Box::new((found, progress))),
            None => Ok(progress),
        }
    }

    fn work(&self, shared: &Shared, tell: &(dyn Fn(&Progress) + Sync)) {
        while !shared.is_over.load(Ordering::Relaxed) {
            let seed = shared.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.first.saturating_add(self.seeds) {
                return;
            }
            match run_seed(seed, false) {
                Ok(tally) => {
                    let mut progress = shared.progress.lock();
                    let (progress, done) = &mut *progress;
                    progress.seeds += 1;
                    progress.tally.add(&tally);
                    done.push(seed);
                    while let Some(at) = done.iter().position(|one| *one == progress.done_before) {
                        done.swap_remove(at);
                        progress.done_before += 1;
                    }
                    tell(progress);
                    let Tally { images, crash_points, .. } = progress.tally;
                    if self.images_max.is_some_and(|max| images >= max)
                        || self.crash_points_max.is_some_and(|max| crash_points >= max)
                    {
                        shared.is_over.store(true, Ordering::Relaxed);
                    }
                }
                Err(failure) => {
                    let mut progress = shared.progress.lock();
                    progress.0.seeds += 1;
                    progress.0.tally.add(&failure.tally);
                    drop(progress);
                    let mut found = shared.found.lock();
                    if found.as_ref().is_none_or(|other| other.seed > seed) {
                        *found = Some(Found { seed, failure });
                    }
                    shared.is_over.store(true, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Runs the script of a seed.
///
/// # Errors
/// The promise that is broken; a panic breaks one as well.
pub fn run_seed(seed: u64, has_trace: bool) -> Result<Tally, Failure> {
    run_script(&Script::of(seed), has_trace)
}

/// Runs a script; a panic is a failure.
pub(crate) fn run_script(script: &Script, has_trace: bool) -> Result<Tally, Failure> {
    catch_unwind(AssertUnwindSafe(|| run(script, has_trace))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = format!("[panic]: {}", text.unwrap_or_default());
        Err(Failure { what, tally: Tally::default(), trace: Vec::new() })
    })
}
