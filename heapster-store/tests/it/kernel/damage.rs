//! Damaged, cut and missing files, as the real file system and real maps show them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heapster_core::TimeRange;
use heapster_core::storage::{Columns, Selector, Snapshot, collect};
use heapster_store::{Ack, Error, Store, StoreOptions};

use super::child::plain_options;
use super::{files, quick_dir, rounds};
use crate::support::*;

/// Bytes between two that are flipped, unless `HEAPSTER_KERNEL_ROUNDS` is more than one.
const STRIDE: usize = 41;
/// Bytes at the end of a log that nobody was told are safe: the mark of the last sync.
const TAIL_BYTES: usize = 30;

/// The files of a store with two segments and a log, by their path in the directory, and what is in it.
fn filled(dir: &Path) -> (BTreeMap<PathBuf, Vec<u8>>, Contents) {
    let mut expected = Contents::new();
    let clock = TestClock::new();
    let options = StoreOptions { clock: clock.clone(), ..StoreOptions::default() };
    let store = Store::open(dir, options).unwrap();
    for hour in 0..3 {
        for minute in 0..40 {
            clock.step(MINUTE);
            let value = hour * 100 + minute;
            let rows = [
                row("a", [("m", value), ("n", -value)]),
                row(["b", "c"][minute as usize % 2], [("m", value * value)]),
            ];
            let _ = store.append_rows(at(clock.millis()), &rows, Ack::Durable).unwrap();
            rows.iter().for_each(|row| expect(&mut expected, clock.millis(), row));
        }
        if hour < 2 {
            store.flush().unwrap();
        }
    }
    drop(store);
    let files = files(dir).into_iter();
    let files = files.map(|(path, bytes)| (path.strip_prefix(dir).unwrap().to_owned(), bytes));
    (files.collect(), expected)
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn is_log(path: &Path) -> bool {
    path.starts_with("wal")
}

/// Whether the file's bytes say nothing that counts.
fn is_without_data(path: &Path) -> bool {
    name(path) == "LOCK" || name(path).starts_with("RESERVE.")
}

/// What can be read, and whether it was told that something cannot.
fn readable(store: &Store) -> (Contents, bool) {
    let selector = Selector { matchers: Vec::new(), columns: Columns::All, range: TimeRange::ALL };
    let mut found = Contents::new();
    let mut is_told = false;
    let snapshot = store.snapshot();
    let sets = match snapshot.select(&selector) {
        Ok(sets) => sets,
        Err(_) => return (found, true),
    };
    for set in sets {
        for (index, column) in set.columns().iter().enumerate() {
            let Ok(samples) = collect(&*set, index) else {
                is_told = true;
                continue;
            };
            let key = (set.labels().to_string(), column.name.to_string());
            let samples = samples.into_iter().map(|(at, value)| (at.as_millis(), value.into()));
            let column = found.entry(key).or_default();
            column.extend(samples);
        }
    }
    // A column of which nothing is left is not one.
    found.retain(|_, samples| !samples.is_empty());
    (found, is_told || !snapshot.damage().is_empty())
}

/// What the damage of one file leads to.
#[derive(Debug, PartialEq, Eq)]
enum Leads {
    /// Everything is served.
    Nowhere,
    /// Something is lost, and told of.
    ToToldLoss,
    /// Something is lost, as by a crash.
    ToSilentLoss,
    /// The store is not opened.
    ToRefusal,
}

/// Opens the store with that file replaced, or removed, and compares.
fn open_with(
    files: &BTreeMap<PathBuf, Vec<u8>>,
    expected: &Contents,
    changed: &[(&Path, Option<&[u8]>)],
    context: &str,
) -> Leads {
    let dir = quick_dir();
    for (path, bytes) in files {
        let bytes = match changed.iter().find(|(other, _)| path == other) {
            Some((_, Some(bytes))) => bytes,
            Some((_, None)) => continue,
            // Room that is missing is made again; it is not worth copying each time.
            None if name(path).starts_with("RESERVE.") => continue,
            None => &**bytes,
        };
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let store = match Store::open(dir.path(), plain_options()) {
        Ok(store) => store,
        Err(Error::Corrupt { .. } | Error::UnsupportedVersion { .. } | Error::NotAStore { .. }) => {
            return Leads::ToRefusal;
        }
        Err(error) => panic!("{context}: {error:?}"),
    };
    let (found, is_told) = readable(&store);
    for (key, samples) in &found {
        for (millis, value) in samples {
            let wanted = expected.get(key).and_then(|samples| samples.get(millis));
            assert_eq!(wanted, Some(value), "{context}: invented {key:?} at {millis}");
        }
    }
    let is_told = is_told || !store.open_report().is_complete();
    // The store goes on beside the damage.
    let more = row("more", [("m", 1)]);
    let now = at(NOON + DAY);
    assert_eq!(store.append_rows(now, [&more], Ack::Durable).unwrap().accepted, 1, "{context}");
    let flushed = store.flush();
    assert!(flushed.is_ok(), "{context}: {flushed:?}");
    match (&found == expected, is_told) {
        (true, _) => Leads::Nowhere,
        (false, true) => Leads::ToToldLoss,
        (false, false) => Leads::ToSilentLoss,
    }
}

#[test]
fn a_flipped_byte_of_a_real_file_costs_no_more_than_the_pages_say() {
    let dir = quick_dir();
    let (files, expected) = filled(&dir.path().join("store"));
    assert_eq!(open_with(&files, &expected, &[], "sound"), Leads::Nowhere);
    let mut lost = 0;
    for (path, bytes) in &files {
        // Of files without data a few places will do.
        let stride = if is_without_data(path) {
            bytes.len() / 3 + 1
        } else {
            STRIDE / rounds(1).min(STRIDE)
        };
        for offset in (0..bytes.len()).step_by(stride.max(1)).chain(bytes.len().checked_sub(1)) {
            let mut changed = bytes.clone();
            changed[offset] ^= 1 << (offset % 8);
            let context = format!("{} with byte {offset} flipped", path.display());
            let leads = open_with(&files, &expected, &[(path, Some(&changed))], &context);
            let is_tail = is_log(path) && offset + TAIL_BYTES >= bytes.len();
            match leads {
                Leads::Nowhere => {}
                Leads::ToToldLoss if path.starts_with("segments") || is_log(path) => lost += 1,
                Leads::ToSilentLoss if is_tail => {}
                // A version is damaged as one of a newer program would be.
                Leads::ToRefusal if is_log(path) && (8..12).contains(&offset) => {}
                other => panic!("{context}: {other:?}"),
            }
        }
    }
    assert!(lost > 10, "{lost}");
}

#[test]
fn a_cut_emptied_grown_or_missing_file_costs_no_more_than_the_pages_say() {
    let dir = quick_dir();
    let (files, expected) = filled(&dir.path().join("store"));
    let mut lost = 0;
    for (path, bytes) in &files {
        let len = bytes.len();
        let lens = [0, 1, 7, len / 3, len / 2, len.saturating_sub(9), len.saturating_sub(1)];
        let mut versions: Vec<Option<Vec<u8>>> =
            lens.map(|len| Some(bytes[..len].to_vec())).to_vec();
        versions.push(Some([&**bytes, &[0; 5_000]].concat()));
        versions.push(Some(vec![0; len]));
        versions.push(None);
        for version in &versions {
            let kept = version.as_ref().map(Vec::len);
            let context = format!("{} with {kept:?} of {len} bytes", path.display());
            let leads = open_with(&files, &expected, &[(path, version.as_deref())], &context);
            match leads {
                Leads::Nowhere => {}
                Leads::ToToldLoss if path.starts_with("segments") || is_log(path) => lost += 1,
                // A log that ends early is one whose writer died there.
                Leads::ToSilentLoss if is_log(path) => lost += 1,
                other => panic!("{context}: {other:?}"),
            }
        }
    }
    assert!(lost > 20, "{lost}");
    // Without both copies of the manifest nobody can tell what belongs to the store.
    let copies = ["MANIFEST", "MANIFEST.copy"].map(Path::new);
    for version in [None, Some(&b"nothing"[..])] {
        let leads =
            open_with(&files, &expected, &copies.map(|path| (path, version)), "no manifest");
        assert_eq!(leads, Leads::ToRefusal);
    }
}

#[test]
fn a_segment_that_is_deleted_or_replaced_while_it_is_mapped_is_read_on() {
    let dir = quick_dir();
    let dir = dir.path().join("store");
    let (_, expected) = filled(&dir);
    let store = Arc::new(Store::open(&dir, plain_options()).unwrap());
    for (path, _) in files(&dir).into_iter().filter(|(path, _)| name(path).ends_with(".seg")) {
        fs::remove_file(&path).unwrap();
        // As a restore over a running store would.
        fs::write(&path, "something else").unwrap();
    }
    assert_eq!(contents(&store.snapshot()), expected);
    drop(store);
    // The next open finds out.
    let store = Store::open(&dir, plain_options()).unwrap();
    assert_eq!(store.open_report().quarantined.len(), 2);
}
