//! [`hunt`]: plants one bug at a time into the store, and sees how long it takes to be noticed.

use heapster_store::planted::{Bug, plant};

use crate::campaign::{Campaign, Found, run_seed};
use crate::run::Tally;

/// What became of a bug.
#[derive(Clone, Debug)]
pub struct Trophy {
    /// The bug.
    pub bug: Bug,
    /// The seed that noticed it, and by what; `None` when none did.
    pub found: Option<Found>,
    /// Seeds that were run.
    pub seeds: u64,
    /// What they did.
    pub tally: Tally,
}

/// Plants a bug and runs seeds from zero on until one notices, or `seeds_max` did not. One hunt at a
/// time in a process.
pub fn hunt(bug: Bug, seeds_max: u64, jobs: usize) -> Trophy {
    plant(Some(bug));
    let campaign =
        Campaign { first: 0, seeds: seeds_max, jobs, images_max: None, crash_points_max: None };
    let result = campaign.run(&|_| {});
    plant(None);
    let (found, progress) = match result {
        Ok(progress) => (None, progress),
        Err(found) => (Some(found.0), found.1),
    };
    // What fails on a sound store as well says nothing of the bug.
    let found = found.filter(|found| run_seed(found.seed, false).is_ok());
    Trophy { bug, found, seeds: progress.seeds, tally: progress.tally }
}
