//! [`shorten`]: fewer steps that break the same store.

use crate::campaign::run_script;
use crate::script::Script;

/// Leaves out lives, steps and faults of a script as long as it still fails; tries at most that many
/// scripts.
pub fn shorten(script: &Script, tries_max: usize) -> Script {
    let mut shortest = script.clone();
    let Err(failure) = run_script(script, false) else { return shortest };
    let kind = failure.kind();
    let mut tries = 0;
    let mut is_shorter = true;
    while is_shorter {
        is_shorter = false;
        for candidate in candidates(&shortest) {
            tries += 1;
            if tries > tries_max {
                return shortest;
            }
            if run_script(&candidate, false).is_err_and(|failure| failure.kind() == kind) {
                shortest = candidate;
                is_shorter = true;
                break;
            }
        }
    }
    shortest
}

/// Scripts with something left out: first whole lives, then runs of steps, then single faults.
fn candidates(script: &Script) -> Vec<Script> {
    let mut candidates = Vec::new();
    let mut add = |change: &dyn Fn(&mut Script)| {
        let mut candidate = script.clone();
        change(&mut candidate);
        candidates.push(candidate);
    };
    for life in (0..script.lives.len()).filter(|_| script.lives.len() > 1) {
        add(&|script| drop(script.lives.remove(life)));
    }
    for life in 0..script.lives.len() {
        let steps = script.lives[life].steps.len();
        let mut width = steps / 2;
        while width > 0 {
            for start in (0..steps).step_by(width) {
                let end = (start + width).min(steps);
                add(&|script| drop(script.lives[life].steps.drain(start..end)));
            }
            width /= 2;
        }
        for failure in 0..script.lives[life].failures.len() {
            add(&|script| {
                script.lives[life].failures.remove(failure);
            });
        }
    }
    candidates
}
