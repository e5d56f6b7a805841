//! Fuzzing without a fuzzer: every input of a corpus, then changed ones, the same ones every time.
//!
//! The tests of other crates use it too. The real thing is `make fuzz`, see docs/fuzzing.md.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The seed of all changes. Another one may be given in the environment.
const SEED: u64 = 0x6865_6170_7374_6572;
const SEED_VARIABLE: &str = "HEAPSTER_FUZZ_SEED";
const CHANGED_INPUTS: usize = 2000;
/// Larger inputs take longer and find no more.
const INPUT_BYTES_MAX: usize = 4096;

/// Shows every input of `fuzz/corpus/<target>` of a crate to the target, then changed ones.
///
/// # Panics
/// There is no corpus, or the target panics; the message has the input.
pub fn run_corpus(krate: &str, target: &str, run: fn(&[u8])) {
    run_corpus_times(krate, target, CHANGED_INPUTS, run);
}

/// As [`run_corpus`] with a number of changed inputs.
///
/// # Panics
/// As [`run_corpus`].
pub fn run_corpus_times(krate: &str, target: &str, changed_inputs: usize, run: fn(&[u8])) {
    let inputs = read_corpus(&Path::new(krate).join("fuzz/corpus").join(target));
    assert!(!inputs.is_empty(), "{target} has no corpus");
    for (path, input) in &inputs {
        run_one(target, &path.display().to_string(), input, run);
    }
    let seed = std::env::var(SEED_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(SEED);
    println!("{target}: {} inputs, {changed_inputs} changed, seed {seed}", inputs.len());
    let mut random = Random(seed);
    for number in 0..changed_inputs {
        let (_, input) = &inputs[random.below(inputs.len())];
        let mut input = input.clone();
        for _ in 0..=random.below(4) {
            let (_, other) = &inputs[random.below(inputs.len())];
            change(&mut input, other, &mut random);
        }
        input.truncate(INPUT_BYTES_MAX);
        run_one(target, &format!("change {number} of seed {seed}"), &input, run);
    }
}

fn read_corpus(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn run_one(target: &str, name: &str, input: &[u8], run: fn(&[u8])) {
    if catch_unwind(AssertUnwindSafe(|| run(input))).is_err() {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        panic!("{target} panics with {name}, which is, for `xxd -r -p`:\n{hex}");
    }
}

/// One of the changes that fuzzers make.
fn change(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let end = (at + 1 + random.below(16)).min(input.len());
    match random.below(7) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.next() as u8,
        2 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        3 => drop(input.splice(at..at, (0..=random.below(8)).map(|_| 0xff))),
        4 => drop(input.drain(at..end)),
        5 => input.extend_from_within(at..end),
        _ => {
            input.truncate(at);
            input.extend_from_slice(&other[random.below(other.len() + 1)..]);
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}
