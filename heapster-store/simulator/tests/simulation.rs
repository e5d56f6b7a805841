//! The part of the simulation that every change has to pass; `make soak` goes on from there.

use heapster_simulator::{Campaign, Script, run_seed};

/// Crash points that every change is tried at.
const CRASH_POINTS: u64 = 40_000;
/// More seeds than they take.
const SEEDS: u64 = 1_000;

#[test]
fn nothing_acknowledged_is_lost_at_any_of_forty_thousand_crash_points() {
    let crash_points_max = Some(CRASH_POINTS);
    let campaign = Campaign { first: 0, seeds: SEEDS, jobs: 2, images_max: None, crash_points_max };
    match campaign.run(&|_| {}) {
        Ok(progress) => {
            let tally = progress.tally;
            println!("{} seeds from 0 on: {tally:?}", progress.seeds);
            assert!(tally.crash_points >= CRASH_POINTS && tally.images > tally.crash_points);
        }
        Err(found) => {
            let seed = found.0.seed;
            panic!(
                "seed {seed} breaks a promise: {}\nto see it happen: make soak FIRST={seed}",
                found.0.failure.what
            );
        }
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in [3, 14, 159] {
        let tally = run_seed(seed, false).unwrap();
        assert_eq!(run_seed(seed, true).unwrap(), tally, "seed {seed}");
    }
}

#[test]
fn scripts_meet_every_kind_of_step_and_end() {
    let mut kinds = std::collections::BTreeSet::new();
    for seed in 0..300 {
        for life in Script::of(seed).lives {
            let name = |text: String| text.split(['(', ' ', '{']).next().unwrap().to_owned();
            kinds.extend(life.steps.iter().map(|step| name(format!("{step:?}"))));
            kinds.insert(name(format!("{:?}", life.end)));
        }
    }
    assert_eq!(kinds.len(), 21, "{kinds:?}");
}
