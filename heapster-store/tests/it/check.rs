//! The check of a directory tells what is wrong with it, and changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heapster_store::vfs::faulty::FaultyVfs;
use heapster_store::vfs::{Vfs, write_all_at};
use heapster_store::{
    Ack, CheckReport, Error, Finding, Progress, ReaderOptions, Result, Retention, Severity, Store,
    StoreOptions, StoreReader, backup, check,
};
use proptest::prelude::*;

use crate::support::*;

fn shared(vfs: &FaultyVfs) -> Arc<dyn Vfs> {
    Arc::new(vfs.clone())
}

fn checked(vfs: &FaultyVfs) -> CheckReport {
    check(&shared(vfs), DIR, &mut |_| {}).unwrap()
}

fn append(store: &Store, batch: i64) {
    let rows = ["a", "b"].map(|pod| {
        let cells = [("m", batch as f64 / 3.0), ("n", batch as f64)];
        row(pod, cells)
    });
    let _ = store.append_rows(at(NOON + batch * 1_000), &rows, Ack::Durable).unwrap();
}

/// A closed store with two segments and two batches in its log.
fn filled() -> (FaultyVfs, Arc<TestClock>) {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    for batch in 0..6 {
        append(&store, batch);
        if batch == 1 || batch == 3 {
            store.flush().unwrap();
        }
    }
    drop(store);
    vfs.restart();
    (vfs, clock)
}

/// The one log with batches, and all segments.
fn files_with(vfs: &FaultyVfs, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = vfs.files().into_keys().collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files
}

/// Whether a file's bytes say nothing: the lock, and what keeps room for a full disk.
fn is_without_data(path: &Path) -> bool {
    path.ends_with("LOCK") || relative(path).to_string_lossy().starts_with("RESERVE.")
}

fn replace(vfs: &FaultyVfs, path: &Path, bytes: &[u8]) {
    let _ = vfs.remove(path);
    let file = vfs.create_new(path).unwrap();
    write_all_at(&*file, bytes, 0).unwrap();
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix(DIR).unwrap()
}

fn worst_of<'a>(report: &'a CheckReport, file: &Path) -> Option<&'a Finding> {
    let of_file = report.findings.iter().filter(|finding| finding.file == file);
    of_file.max_by_key(|finding| finding.severity)
}

#[test]
fn a_sound_store_and_a_sound_backup_have_no_findings_and_everything_was_read() {
    let (vfs, _) = filled();
    let before = (vfs.files(), vfs.changes());
    let mut told: Vec<Progress> = Vec::new();
    let report = check(&shared(&vfs), DIR, &mut |progress| told.push(progress)).unwrap();
    assert_eq!((report.findings.len(), report.worst()), (0, None), "{:?}", report.findings);
    assert_eq!((report.segments, report.samples, report.batches), (2, 16, 2));
    let bytes = before.0.iter().filter(|(path, _)| !is_without_data(path));
    assert_eq!(report.bytes, bytes.map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
    assert!(told.is_sorted_by_key(|progress| progress.bytes_done));
    assert_eq!(told.last().unwrap().bytes_done, told.last().unwrap().bytes_total);
    assert_eq!((vfs.files(), vfs.changes()), before);
    backup(&shared(&vfs), DIR, "/saved", &mut |_| {}).unwrap();
    let report = check(&shared(&vfs), "/saved", &mut |_| {}).unwrap();
    assert_eq!((report.findings, report.samples, report.batches), (Vec::new(), 16, 2));
}

#[test]
fn a_flipped_bit_anywhere_is_damage_in_that_file_or_proven_harmless() {
    let (vfs, _) = filled();
    let read = || -> Result<Contents> {
        let reader = StoreReader::open(DIR, ReaderOptions { vfs: shared(&vfs) })?;
        Ok(contents(&reader.snapshot()))
    };
    let expected = read().unwrap();
    let mut harmless = 0;
    for (path, bytes) in vfs.files() {
        if is_without_data(&path) {
            continue;
        }
        for offset in 0..bytes.len() {
            let bit = (offset % 8) as u8;
            vfs.flip_bit(&path, offset, bit).unwrap();
            let report = checked(&vfs);
            let context = format!("{} at {offset}: {:?}", path.display(), report.findings);
            let elsewhere = report.findings.iter().filter(|f| f.file != relative(&path));
            assert_eq!(elsewhere.count(), 0, "{context}");
            match worst_of(&report, relative(&path)) {
                Some(finding) if finding.severity == Severity::Damage => {
                    assert!(!finding.what.is_empty() && !finding.consequence.is_empty());
                    assert!(finding.offset.is_none_or(|at| at <= offset as u64), "{context}");
                }
                // The mark that the last sync left: no batch hangs on it.
                _ => {
                    assert_eq!(read().unwrap(), expected, "{context}");
                    harmless += 1;
                }
            }
            vfs.flip_bit(&path, offset, bit).unwrap();
        }
    }
    assert!(harmless < 40, "{harmless}");
    assert_eq!(checked(&vfs).worst(), None);
}

#[test]
fn a_segment_or_manifest_that_was_cut_zeroed_or_swapped_is_damage() {
    let (vfs, _) = filled();
    let files = vfs.files();
    let is_log = |path: &Path| path.extension().is_some_and(|extension| extension == "wal");
    for (path, bytes) in &files {
        if is_without_data(path) || is_log(path) {
            continue;
        }
        let mut others: Vec<Vec<u8>> = vec![vec![0; bytes.len()], vec![0xff; 5_000]];
        others.extend((0..bytes.len()).step_by(7).map(|len| bytes[..len].to_vec()));
        let mut longer = bytes.clone();
        longer.push(0);
        others.push(longer);
        others.extend(files.values().filter(|other| *other != bytes).cloned());
        for other in others {
            replace(&vfs, path, &other);
            let report = checked(&vfs);
            let finding = worst_of(&report, relative(path)).unwrap();
            assert_eq!(finding.severity, Severity::Damage, "{finding}");
        }
        replace(&vfs, path, bytes);
    }
    assert_eq!(checked(&vfs).worst(), None);
}

#[test]
fn a_row_group_is_told_with_its_place_and_what_it_costs() {
    let (vfs, _) = filled();
    let segment = files_with(&vfs, "seg").remove(0);
    vfs.flip_bit(&segment, 330, 2).unwrap();
    let report = checked(&vfs);
    let [finding] = &*report.findings else { panic!("{:?}", report.findings) };
    assert_eq!(finding.offset, Some(320));
    let text = finding.to_string();
    assert!(
        text.starts_with("damage: segments/raw/0000000000000001.seg at byte 320: the row group")
    );
    assert!(text.contains("2018-07-26T12:00:00Z to 2018-07-26T12:00:01Z"), "{text}");
    assert!(text.contains("restore it from a backup"), "{text}");
}

#[test]
fn what_is_missing_left_over_foreign_or_set_aside_is_told_apart() {
    let (vfs, clock) = filled();
    let [first, second] = &*files_with(&vfs, "seg") else { panic!("two segments") };
    let bytes = vfs.files()[second].clone();
    let dir = Path::new(DIR);
    replace(&vfs, &dir.join("segments/raw/00000000000000ff.seg"), &bytes);
    replace(&vfs, &dir.join("segments/raw/0000000000000003.seg.tmp"), b"x");
    replace(&vfs, &dir.join("wal/0000000000000001.wal"), b"x");
    replace(&vfs, &dir.join("notes.txt"), b"x");
    vfs.create_dir_all(&dir.join("quarantine")).unwrap();
    replace(&vfs, &dir.join("quarantine/0000000000000009.seg"), &bytes);
    replace(&vfs, &dir.join("quarantine/0000000000000009.wal"), b"x");
    vfs.remove(first).unwrap();
    let report = checked(&vfs);
    let found: Vec<(Severity, &str)> =
        report.findings.iter().map(|f| (f.severity, f.file.to_str().unwrap())).collect();
    use Severity::{Damage, Note, Warning};
    let expected = [
        (Damage, "segments/raw/0000000000000001.seg"),
        (Note, "wal/0000000000000001.wal"),
        (Note, "notes.txt"),
        (Note, "segments/raw/0000000000000003.seg.tmp"),
        (Note, "segments/raw/00000000000000ff.seg"),
        (Warning, "quarantine/0000000000000009.seg"),
        (Warning, "quarantine/0000000000000009.wal"),
    ];
    assert_eq!(found, expected);
    let aside = worst_of(&report, Path::new("quarantine/0000000000000009.seg")).unwrap();
    assert!(aside.what.contains("a sound segment of 8 samples"), "{aside}");
    // What opening does of itself leaves the damage alone.
    drop(open(&vfs, &clock));
    let notes = checked(&vfs).findings.iter().filter(|f| f.severity == Note).count();
    assert_eq!(notes, 1, "the foreign file");
}

#[test]
fn a_store_whose_manifests_are_gone_is_damaged_and_its_segments_are_told() {
    let (vfs, _) = filled();
    for name in ["MANIFEST", "MANIFEST.copy"] {
        vfs.flip_bit(&Path::new(DIR).join(name), 20, 1).unwrap();
    }
    let report = checked(&vfs);
    let damaged = report.findings.iter().filter(|f| f.severity == Severity::Damage).count();
    assert_eq!((damaged, report.findings.len()), (2, 4));
    assert!(report.findings[3].what.contains("a sound segment"), "{}", report.findings[3]);
    let nothing = check(&shared(&FaultyVfs::new()), "/", &mut |_| {}).unwrap_err();
    assert!(matches!(nothing, Error::NotAStore { .. }), "{nothing:?}");
}

#[test]
fn one_manifest_that_is_left_may_not_name_all_that_is_wanted() {
    let (vfs, _) = filled();
    vfs.remove(&Path::new(DIR).join("MANIFEST.copy")).unwrap();
    let [first, _] = &*files_with(&vfs, "seg") else { panic!("two segments") };
    let bytes = vfs.files()[first].clone();
    replace(&vfs, &Path::new(DIR).join("segments/raw/00000000000000ff.seg"), &bytes);
    let report = checked(&vfs);
    assert_eq!(report.findings.len(), 2);
    assert!(report.findings.iter().all(|finding| finding.severity == Severity::Warning));
}

#[test]
fn a_file_that_the_system_does_not_give_out_is_a_finding() {
    let (vfs, _) = filled();
    for path in [files_with(&vfs, "seg").remove(0), files_with(&vfs, "wal").remove(0)] {
        vfs.refuse_reads_of(Some(&path));
        let report = checked(&vfs);
        let finding = worst_of(&report, relative(&path)).unwrap();
        assert!(finding.severity == Severity::Damage && finding.what.contains("bad sector"));
    }
}

#[test]
fn the_check_of_a_store_that_is_written_finds_nothing_but_notes() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let options = StoreOptions {
        retention: Retention::Age(Duration::from_secs(3_600)),
        ..options(&vfs, &clock)
    };
    let store = Store::open(DIR, options).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for step in 0.. {
                clock.step(MINUTE);
                let row = row("a", [("m", step)]);
                let _ = store.append_rows(at(clock.millis()), &[row], Ack::Buffered).unwrap();
                match step % 10 {
                    3 => drop(store.flush().unwrap()),
                    5 => drop(store.maintain().unwrap()),
                    7 => drop(store.compact().unwrap()),
                    _ => {}
                }
                if is_done.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        for _ in 0..60 {
            let report = checked(&vfs);
            let worse = report.findings.iter().find(|finding| finding.severity > Severity::Note);
            if let Some(finding) = worse {
                is_done.store(true, Ordering::SeqCst);
                panic!("{finding}");
            }
        }
        is_done.store(true, Ordering::SeqCst);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn garbage_in_any_file_never_makes_the_check_panic(
        garbage in prop::collection::vec((any::<u16>(), any::<u8>()), 1..30),
        file in 0_usize..6,
        len in prop::option::of(any::<u16>()),
    ) {
        let (vfs, _) = filled();
        let (path, mut bytes) = vfs.files().into_iter().nth(file).unwrap();
        if let Some(len) = len {
            bytes.resize(usize::from(len), 0x55);
        }
        for (offset, byte) in garbage {
            let offset = usize::from(offset) % bytes.len().max(1);
            if let Some(slot) = bytes.get_mut(offset) {
                *slot = byte;
            }
        }
        replace(&vfs, &path, &bytes);
        let _ = check(&shared(&vfs), DIR, &mut |_| {});
    }
}
