//! Opening what is not a store, not ours, not whole, or not of this version.

use std::path::{Path, PathBuf};
use std::time::Duration;

use heapster_store::vfs::Vfs;
use heapster_store::vfs::faulty::FaultyVfs;
use heapster_store::{Ack, Error, Store, StoreOptions};

use crate::support::*;

/// A store with two segments and a log.
fn filled() -> (FaultyVfs, std::sync::Arc<TestClock>, Contents) {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let mut expected = Contents::new();
    for hour in 0..3 {
        for minute in 0..30 {
            let now = NOON + hour * HOUR + minute * MINUTE;
            clock.step(2 * MINUTE);
            let row = row("a", [("m", hour * 100 + minute), ("n", minute)]);
            let _ = store.append_rows(at(now), [&row], Ack::Durable).unwrap();
            expect(&mut expected, now, &row);
        }
        if hour < 2 {
            store.flush().unwrap();
        }
    }
    drop(store);
    vfs.restart();
    (vfs, clock, expected)
}

fn path_of(vfs: &FaultyVfs, extension: &str) -> PathBuf {
    let is_wanted = |path: &PathBuf| path.extension().is_some_and(|e| e == extension);
    vfs.files().into_keys().find(is_wanted).unwrap()
}

#[test]
fn a_missing_directory_is_made_with_its_parents_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let store = Store::open(&path, StoreOptions::default()).unwrap();
    assert!(store.open_report().is_new);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    store.close().unwrap();
    assert!(!Store::open(&path, StoreOptions::default()).unwrap().open_report().is_new);
}

#[test]
fn a_file_or_a_foreign_directory_is_refused_untouched_and_the_text_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "text").unwrap();
    for (path, advice) in [(&*file, "give a directory"), (dir.path(), "give an empty directory")] {
        let refused = Store::open(path, StoreOptions::default()).unwrap_err();
        assert!(matches!(refused, Error::NotAStore { .. }), "{refused:?}");
        assert!(refused.to_string().contains(advice), "{refused}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_that_names_it() {
    let refused = Store::open("/proc/heapster/store", StoreOptions::default()).unwrap_err();
    assert!(matches!(refused, Error::Io { op: "create", .. }), "{refused:?}");
    assert!(refused.to_string().contains("/proc/heapster/store"));
}

#[test]
fn a_copy_without_the_empty_directories_of_its_source_opens() {
    let dir = tempfile::tempdir().unwrap();
    let [path, copy] = ["store", "copy"].map(|name| dir.path().join(name));
    Store::open(&path, StoreOptions::default()).unwrap().close().unwrap();
    std::fs::create_dir(&copy).unwrap();
    for name in ["MANIFEST", "MANIFEST.copy"] {
        std::fs::copy(path.join(name), copy.join(name)).unwrap();
    }
    let store = Store::open(&copy, StoreOptions::default()).unwrap();
    let row = row("a", [("m", 1)]);
    let now = store.options().clock.now();
    assert_eq!(store.append_rows(now, [&row], Ack::Durable).unwrap().accepted, 1);
    assert!(store.flush().unwrap());
}

#[test]
fn data_without_a_manifest_is_refused_rather_than_taken_for_a_new_store() {
    let (vfs, clock, _) = filled();
    for name in ["MANIFEST", "MANIFEST.copy"] {
        vfs.remove(&Path::new(DIR).join(name)).unwrap();
    }
    let before = vfs.files();
    let refused = Store::open(DIR, options(&vfs, &clock)).unwrap_err();
    assert!(matches!(refused, Error::NotAStore { .. }), "{refused:?}");
    assert_eq!(vfs.files(), before);
}

#[test]
fn a_newer_version_of_any_file_is_refused_and_nothing_is_changed() {
    let patch = |vfs: &FaultyVfs, path: &Path, crc_start: Option<usize>| {
        let file = vfs.open_for_write(path).unwrap();
        let mut bytes = vfs.files()[path].clone();
        bytes[8] = 99;
        let end = crc_start.unwrap_or(bytes.len() - 4);
        let crc = crc32fast::hash(&bytes[..end]).to_le_bytes();
        bytes[end..end + 4].copy_from_slice(&crc);
        heapster_store::vfs::write_all_at(&*file, &bytes, 0).unwrap();
    };
    for which in ["manifest", "wal"] {
        let (vfs, clock, _) = filled();
        if which == "manifest" {
            patch(&vfs, &Path::new(DIR).join("MANIFEST"), None);
        } else {
            patch(&vfs, &path_of(&vfs, "wal"), Some(20));
        }
        let before = vfs.files();
        let refused = Store::open(DIR, options(&vfs, &clock)).unwrap_err();
        assert!(matches!(refused, Error::UnsupportedVersion { found: 99, max: 1, .. }), "{which}");
        assert_eq!(vfs.files(), before, "{which}");
    }
}

#[test]
fn a_missing_or_damaged_segment_is_set_aside_and_the_rest_is_served() {
    for is_missing in [true, false] {
        let (vfs, clock, expected) = filled();
        let segment = path_of(&vfs, "seg");
        if is_missing {
            vfs.remove(&segment).unwrap();
        } else {
            ruin(&vfs, &segment);
        }
        let store = open(&vfs, &clock);
        let [quarantined] = &*store.open_report().quarantined else { panic!("one file") };
        let range = quarantined.range.unwrap();
        assert_eq!((range.start, range.end), (at(NOON), at(NOON + 29 * MINUTE)));
        assert_eq!(store.stats().quarantined_files, 1);
        let mut rest = expected.clone();
        rest.values_mut().for_each(|samples| samples.retain(|at, _| *at >= NOON + HOUR));
        assert_eq!(contents(&store.snapshot()), rest);
        let kept = vfs.files().keys().any(|path| path.to_string_lossy().contains("quarantine"));
        assert_eq!(kept, !is_missing);
        drop(store);
        let again = open(&vfs, &clock);
        assert!(again.open_report().is_complete());
        assert_eq!(contents(&again.snapshot()), rest);
    }
}

#[test]
fn a_segment_that_cannot_be_read_now_is_left_in_place_and_the_rest_is_served() {
    let (vfs, clock, expected) = filled();
    let segment = path_of(&vfs, "seg");
    vfs.refuse_reads_of(Some(&segment));
    let store = open(&vfs, &clock);
    let [told] = &*store.open_report().unavailable else { panic!("one file") };
    assert!(segment.ends_with(&told.file) && !store.open_report().is_complete());
    let mut rest = expected.clone();
    rest.values_mut().for_each(|samples| samples.retain(|at, _| *at >= NOON + HOUR));
    assert_eq!(contents(&store.snapshot()), rest);
    // The manifest goes on naming it.
    store.flush().unwrap();
    drop(store);
    vfs.refuse_reads_of(None);
    let store = open(&vfs, &clock);
    assert!(store.open_report().is_complete());
    assert_eq!(contents(&store.snapshot()), expected);
}

#[test]
fn a_full_disk_does_not_keep_a_store_from_opening_for_the_sake_of_a_message() {
    let (vfs, clock, expected) = filled();
    let lock = vfs.open_for_write(&Path::new(DIR).join("LOCK")).unwrap();
    lock.set_len(0).unwrap();
    let used: usize = vfs.files().values().map(Vec::len).sum();
    // The header of the next log file fits.
    vfs.set_capacity(Some(used + 24));
    assert_eq!(contents(&open(&vfs, &clock).snapshot()), expected);
}

#[test]
fn leftovers_are_removed_and_never_adopted() {
    let (vfs, clock, expected) = filled();
    let dir = Path::new(DIR);
    let segment = path_of(&vfs, "seg");
    let copy = vfs.files()[&segment].clone();
    for name in ["segments/raw/00000000000000ff.seg", "segments/raw/x.tmp", "MANIFEST.tmp"] {
        let file = vfs.create_new(&dir.join(name)).unwrap();
        heapster_store::vfs::write_all_at(&*file, &copy, 0).unwrap();
    }
    let store = open(&vfs, &clock);
    assert_eq!(contents(&store.snapshot()), expected);
    let files = vfs.files();
    assert!(!files.contains_key(&dir.join("segments/raw/00000000000000ff.seg")));
    assert!(!files.keys().any(|path| path.to_string_lossy().ends_with(".tmp")));
}

#[test]
fn opening_again_and_again_changes_nothing() {
    let (vfs, clock, expected) = filled();
    drop(open(&vfs, &clock));
    let names = |vfs: &FaultyVfs| vfs.files().len();
    let before = names(&vfs);
    for _ in 0..20 {
        let store = open(&vfs, &clock);
        assert_eq!(contents(&store.snapshot()), expected);
        drop(store);
        vfs.restart();
        assert_eq!(names(&vfs), before);
    }
}

#[test]
fn whichever_byte_is_damaged_the_store_tells_or_is_not_affected() {
    let (vfs, clock, expected) = filled();
    drop(open(&vfs, &clock));
    let originals = vfs.files();
    for (path, bytes) in originals.iter().filter(|(path, _)| !path.ends_with("LOCK")) {
        for offset in (0..bytes.len()).step_by(7) {
            let vfs = copy_of(&originals);
            vfs.flip_bit(path, offset, (offset % 8) as u8).unwrap();
            let Ok(store) = Store::open(DIR, options(&vfs, &clock)) else { continue };
            let context = format!("{} at {offset}", path.display());
            let is_told = !store.open_report().is_complete()
                || store.open_report().torn_bytes > 0
                || !store.verify().is_empty();
            if !is_told {
                assert_eq!(contents(&store.snapshot()), expected, "{context}");
                continue;
            }
            // What is served is right.
            let selector = heapster_core::storage::Selector {
                matchers: Vec::new(),
                columns: heapster_core::storage::Columns::All,
                range: heapster_core::TimeRange::ALL,
            };
            let snapshot = store.snapshot();
            let Ok(sets) = heapster_core::storage::Snapshot::select(&snapshot, &selector) else {
                continue;
            };
            for set in sets {
                for (index, column) in set.columns().iter().enumerate() {
                    let Ok(samples) = heapster_core::storage::collect(&*set, index) else {
                        continue;
                    };
                    let key = (set.labels().to_string(), column.name.to_string());
                    for (at, value) in samples {
                        assert_eq!(expected[&key][&at.as_millis()], value.into(), "{context}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_head_is_flushed_when_its_window_is_full_and_not_before() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let window = Duration::from_secs(7_200);
    let options = StoreOptions { flush_window: window, ..options(&vfs, &clock) };
    let store = Store::open(DIR, options).unwrap();
    let mut flushed = Vec::new();
    for minute in 0..360 {
        let _ = store.append_rows(at(clock.millis()), [&row("a", [("m", minute)])], Ack::Memory);
        if store.maintain().unwrap().flushed {
            flushed.push(minute);
        }
        clock.step(MINUTE);
    }
    // Noon begins a window of two hours.
    assert_eq!(flushed, [120, 240]);
    assert_eq!(store.stats().segments, 2);
}

#[test]
fn damage_to_the_header_of_a_log_file_loses_no_row() {
    let (vfs, clock, expected) = filled();
    let wal = path_of(&vfs, "wal");
    let originals = vfs.files();
    for offset in 0..24 {
        let vfs = copy_of(&originals);
        vfs.flip_bit(&wal, offset, (offset % 8) as u8).unwrap();
        let store = open(&vfs, &clock);
        assert_eq!(contents(&store.snapshot()), expected, "byte {offset}");
        assert_eq!(store.open_report().damaged_bytes, 24, "byte {offset}");
    }
}

#[test]
fn a_log_file_of_which_nothing_can_be_read_is_kept_and_told() {
    let (vfs, clock, _) = filled();
    let wal = path_of(&vfs, "wal");
    let file = vfs.open_for_write(&wal).unwrap();
    heapster_store::vfs::write_all_at(&*file, &[0; 24], 0).unwrap();
    let bytes = vfs.files()[&wal].clone();
    let store = open(&vfs, &clock);
    assert!(!store.open_report().is_complete());
    assert_eq!(store.open_report().quarantined.len(), 1);
    let kept: Vec<_> = vfs
        .files()
        .into_iter()
        .filter(|(path, _)| path.starts_with("/data/store/quarantine"))
        .collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].1, bytes);
}

#[test]
fn a_log_file_whose_only_record_is_damaged_is_kept() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let _ = store.append_rows(at(NOON), [&row("a", [("m", 1)])], Ack::Durable).unwrap();
    let wal = path_of(&vfs, "wal");
    drop(store);
    vfs.flip_bit(&wal, 24 + 12 + 5, 0).unwrap();
    let store = open(&vfs, &clock);
    assert!(contents(&store.snapshot()).is_empty());
    let kept = |path: &PathBuf| path.starts_with("/data/store/quarantine");
    assert!(vfs.files().keys().any(kept), "{:?}", vfs.files().keys());
}

fn copy_of(files: &std::collections::BTreeMap<PathBuf, Vec<u8>>) -> FaultyVfs {
    let vfs = FaultyVfs::new();
    for (path, bytes) in files {
        vfs.create_dir_all(path.parent().unwrap()).unwrap();
        let file = vfs.create_new(path).unwrap();
        heapster_store::vfs::write_all_at(&*file, bytes, 0).unwrap();
    }
    vfs
}
