//! What the fuzz targets of `fuzz/` and the test of their corpora do with arbitrary bytes: one
//! function for each target. No part of the interface: it may change or go at any time.
//!
//! Each feeds a decoder and then asks more of it than not to panic: what is decoded twice is the
//! same, what was decoded can be encoded, and what passed a check can be read. Where bytes have
//! checksums, the first byte of the input says whether these are made right before, so that
//! mutations get behind them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use heapster_core::storage::{
    Aggregates, BucketSelector, Columns, Samples, SelectedSet, Selector, Snapshot, StorageError,
    Values, collect,
};
use heapster_core::{MatchOp, Matcher, TimeRange, Timestamp, Value};

use crate::chunk::{self, CHUNK_VALUES_MAX, Effort};
use crate::follower::Follower;
use crate::head::Head;
use crate::manifest::{self, Manifest};
use crate::options::{LateWindow, StoreOptions};
use crate::paths::Paths;
use crate::segment::{self, Segment};
use crate::snapshot::{StoreSnapshot, View};
use crate::store::Store;
use crate::vfs::faulty::FaultyVfs;
use crate::vfs::{Vfs, write_all_at};
use crate::wal;
use crate::wal::format::{FILE_HEADER_BYTES, RECORD_HEADER_BYTES, RECORD_MAGIC};

/// Values that a segment may unfold into before it is let go: a few bytes stand for millions of
/// equal ones, which is right and slow.
const VALUES_MAX: u64 = 1 << 21;
/// Values of a chunk that is made to be read back.
const MADE_VALUES_MAX: usize = 20_000;
/// Where files lie in memory.
const DIR: &str = "/store";

/// Takes numbers off the front; zeros when there is nothing left.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let len = self.0.len().min(N);
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        let mut array = [0; N];
        array[..len].copy_from_slice(taken);
        array
    }

    fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    fn short(&mut self) -> usize {
        usize::from(u16::from_le_bytes(self.array()))
    }

    fn long(&mut self) -> i64 {
        i64::from_le_bytes(self.array())
    }
}

/// A chunk: number of values less one, some rows, then the bytes.
pub fn chunk_decode(bytes: &[u8]) {
    let mut input = Input(bytes);
    let count = input.short() + 1;
    let start = input.short() % count;
    let rows = start..start + (input.short() + 1).min(count - start);
    let bytes = input.0;
    let _ = chunk::codec_name(bytes);
    let summary = chunk::stored_summary(bytes, count);
    let (mut whole, mut part) = (Values::default(), Values::Mixed(vec![Value::Int(7); 3]));
    let is_part = chunk::decode_rows(bytes, count, rows.clone(), &mut part).is_ok();
    assert!(!is_part || part.len() == rows.len(), "a part has not its number of values");
    if chunk::decode(bytes, count, &mut whole).is_err() {
        return;
    }
    assert_eq!(whole.len(), count, "a chunk has not its number of values");
    assert!(is_part, "a part of a sound chunk is refused");
    assert_eq!(bits_of(&whole)[rows], bits_of(&part), "a part is not that of the whole");
    assert!(summary.is_ok(), "a sound chunk has no readable summary");
    round_trip(&whole);
}

/// The timestamps of a clock: their number less one, the first one, then the bytes.
pub fn times_decode(bytes: &[u8]) {
    let mut input = Input(bytes);
    let count = input.short() + 1;
    let first = input.long();
    let mut times = Vec::new();
    if chunk::decode_times(input.0, first, count, &mut times).is_ok() {
        assert_eq!((times.len(), times.first()), (count, Some(&first)));
        times_round_trip(&times);
    }
}

/// Values or timestamps, made of steps, runs and raw numbers, come back bit for bit.
pub fn codec_roundtrip(bytes: &[u8]) {
    let mut input = Input(bytes);
    let kind = input.byte() % 4;
    let numbers = numbers(&mut input);
    if numbers.is_empty() {
        return;
    }
    let float = |(shape, number): &(u8, i64)| match shape >> 3 & 3 {
        0 => f64::from_bits(number.cast_unsigned()),
        1 => *number as f64 / 1000.0,
        2 => *number as f64,
        _ => {
            [f64::NAN, -0.0, f64::INFINITY, f64::MIN_POSITIVE][number.cast_unsigned() as usize % 4]
        }
    };
    match kind {
        0 => round_trip(&Values::Ints(numbers.iter().map(|(_, number)| *number).collect())),
        1 => round_trip(&Values::Floats(numbers.iter().map(float).collect())),
        2 => {
            let value = |one: &(u8, i64)| match one.0 >> 5 & 1 {
                0 => Value::Int(one.1),
                _ => Value::Float(float(one)),
            };
            round_trip(&Values::Mixed(numbers.iter().map(value).collect()));
        }
        _ => {
            let (earliest, latest) = (Timestamp::MIN.as_millis(), Timestamp::MAX.as_millis());
            let mut times: Vec<i64> =
                numbers.iter().map(|(_, number)| (*number).clamp(earliest, latest)).collect();
            times.sort_unstable();
            times.dedup();
            times_round_trip(&times);
        }
    }
}

/// Each number with the byte that says how it was made.
fn numbers(input: &mut Input<'_>) -> Vec<(u8, i64)> {
    let mut numbers = Vec::new();
    let (mut last, mut step) = (0_i64, 0_i64);
    while !input.0.is_empty() && numbers.len() < MADE_VALUES_MAX {
        let shape = input.byte();
        let times = match shape & 7 {
            0 => {
                last = input.long();
                1
            }
            1 => {
                last = last.wrapping_add(i64::from(input.byte().cast_signed()));
                1
            }
            2 => {
                last = i64::from(input.short() as u16);
                1
            }
            // Runs of equal numbers, and of equal steps.
            3 => {
                step = 0;
                usize::from(input.byte()) + 1
            }
            4 => {
                step = input.short() as i64 - 1000;
                usize::from(input.byte()) + 1
            }
            5 => {
                step = input.long();
                usize::from(input.byte()) * 16 + 1
            }
            6 => {
                last = [i64::MIN, i64::MAX, 0, -1, 1 << 53][usize::from(input.byte()) % 5];
                1
            }
            _ => usize::from(input.byte() & 15) + 1,
        };
        for _ in 0..times {
            last = last.wrapping_add(if times > 1 { step } else { 0 });
            numbers.push((shape, last));
        }
    }
    numbers.truncate(CHUNK_VALUES_MAX);
    numbers
}

fn round_trip(values: &Values) {
    let len = values.len();
    let mut lens = Vec::new();
    for effort in [Effort::Fast, Effort::Small] {
        let mut made = Vec::new();
        chunk::encode(values, effort, &mut made);
        assert!(made.len() <= chunk::chunk_len_max(len), "a chunk is longer than any");
        let (mut whole, mut part) = (Values::default(), Values::default());
        assert!(chunk::decode(&made, len, &mut whole).is_ok(), "what was encoded is refused");
        let bits = bits_of(&whole);
        assert_eq!(bits_of(values), bits, "what was encoded comes back changed");
        for rows in [0..1, len - 1..len, len / 3..len / 2, len / 2..len] {
            let decoded = chunk::decode_rows(&made, len, rows.clone(), &mut part);
            assert!(decoded.is_ok(), "a part of what was encoded is refused");
            assert_eq!(bits[rows], bits_of(&part), "a part comes back changed");
        }
        if let Ok(Some(stored)) = chunk::stored_summary(&made, len) {
            let real = chunk::summarize(&whole);
            let is_same = real.is_some_and(|real| chunk::is_same_summary(&stored, &real));
            assert!(is_same, "a stored summary is not that of its values");
        }
        lens.push(made.len());
    }
    assert!(lens.is_sorted_by(|fast, small| small <= fast), "small chunks are larger: {lens:?}");
}

fn times_round_trip(times: &[i64]) {
    let (Some(first), mut made, mut read) = (times.first(), Vec::new(), Vec::new()) else { return };
    chunk::encode_times(times, &mut made);
    assert!(chunk::decode_times(&made, *first, times.len(), &mut read).is_ok());
    assert_eq!(times, read, "timestamps come back changed");
}

/// Values by kind and bits.
fn bits_of(values: &Values) -> Vec<(bool, u64)> {
    (0..values.len()).map(|index| bits_of_value(values.get(index))).collect()
}

fn bits_of_value(value: Value) -> (bool, u64) {
    match value {
        Value::Int(value) => (false, value.cast_unsigned()),
        Value::Float(value) => (true, value.to_bits()),
    }
}

/// A manifest: whether its frame is made right, then the file.
pub fn manifest_parse(bytes: &[u8]) {
    let mut input = Input(bytes);
    let is_resealed = input.byte() & 1 == 1;
    let mut bytes = input.0.to_vec();
    if is_resealed {
        reseal_manifest(&mut bytes);
    }
    let path = Path::new("MANIFEST");
    if let Ok(manifest) = Manifest::parse(path, &bytes) {
        let again = Manifest::parse(path, &manifest.to_bytes());
        assert_eq!(again.ok(), Some(manifest), "a manifest that was read is not written back");
    }
}

/// A log file: whether its header and records are made right, where reading is interrupted, then
/// the file.
///
/// What is read of it is also flushed into segments and read again.
pub fn wal_replay(bytes: &[u8]) {
    let mut input = Input(bytes);
    let is_resealed = input.byte() & 1 == 1;
    let cut = input.short();
    let mut bytes = input.0.to_vec();
    if is_resealed {
        reseal_log(&mut bytes);
    }
    let whole = follow(&[&bytes]);
    if is_resealed && let Some(whole) = &whole {
        let parts = follow(&[&bytes[..cut.min(bytes.len())], &bytes]);
        let parts = parts.expect("a file that is sound is so in parts");
        // Before a record is whole, others that lie in it as its data pass for what follows it.
        let is_plain = parts.damaged_bytes == whole.damaged_bytes;
        assert!(
            !is_plain
                || (parts.batches, parts.samples, parts.lost_rows, parts.last_seq)
                    == (whole.batches, whole.samples, whole.lost_rows, whole.last_seq),
            "a growing file reads differently: {parts:?} {whole:?}"
        );
        let (parts, whole) = (contents_of_head(&parts), contents_of_head(whole));
        assert!(!is_plain || parts == whole, "a growing file reads differently");
    }
    let Some(log) = whole else { return };
    let expected = contents_of_head(&log);
    flush_log(&bytes, &expected);
}

/// Reads a log file as it is at these moments; `None` when it is refused.
fn follow(moments: &[&[u8]]) -> Option<Follower> {
    let path = Path::new("/log");
    let mut log = Follower::new(2);
    for bytes in moments {
        let vfs = FaultyVfs::new();
        put(&vfs, path, bytes);
        let file = vfs.open(path).expect("it was just written");
        log.read(path, &*file, bytes.len() as u64).ok()?;
    }
    log.head().catch_up();
    Some(log)
}

type Contents = BTreeMap<(String, String), Vec<(i64, (bool, u64))>>;

fn contents_of_head(log: &Follower) -> Contents {
    let head: Arc<Head> = Arc::clone(log.head());
    let view = View::new(&Manifest::default(), Vec::new(), vec![head], Arc::default());
    read_all(&StoreSnapshot::new(Arc::new(view), u64::MAX)).expect("a head has no file")
}

/// The log of a store that died: what was read of it is what the store shows, keeps in segments and
/// shows when it is opened again.
fn flush_log(bytes: &[u8], expected: &Contents) {
    let vfs = FaultyVfs::new();
    let options = || StoreOptions {
        vfs: Arc::new(vfs.clone()),
        late_window: LateWindow::Any,
        ..StoreOptions::default()
    };
    let open = || Store::open(DIR, options());
    open().and_then(Store::close).expect("an empty store opens and closes");
    put(&vfs, &Paths::new(Path::new(DIR)).wal(9), bytes);
    let store = open().expect("a damaged log is set aside");
    let shown = |store: &Store| read_all(&store.snapshot()).expect("nothing is damaged");
    assert_eq!(&shown(&store), expected, "a store shows another log than was read");
    store.flush().expect("rows of a log become segments");
    assert_eq!(&shown(&store), expected, "a flush changes what is read");
    assert!(store.verify().is_empty(), "a flush writes a damaged segment");
    store.close().expect("a store closes");
    let store = open().expect("a store opens again");
    assert_eq!(&shown(&store), expected, "reopening changes what is read");
}

fn everything() -> Selector {
    Selector { matchers: Vec::new(), columns: Columns::All, range: TimeRange::ALL }
}

fn read_all(snapshot: &dyn Snapshot) -> Result<Contents, StorageError> {
    let mut contents = Contents::new();
    for set in snapshot.select(&everything())? {
        for (index, column) in set.columns().iter().enumerate() {
            let samples = collect(&*set, index)?;
            assert!(samples.is_sorted_by(|(a, _), (b, _)| a < b), "times repeat or fall");
            if !samples.is_empty() {
                let bits =
                    samples.iter().map(|(at, value)| (at.as_millis(), bits_of_value(*value)));
                let key = (set.labels().to_string(), column.name.to_string());
                let before = contents.insert(key, bits.collect());
                assert_eq!(before, None, "a column is there twice");
            }
        }
    }
    Ok(contents)
}

/// A segment: how it is written, then the file, or its short form with one more change behind it. It
/// is opened, searched, read and verified.
///
/// A short form (see [`fold_segment`]) becomes a whole file whose frame and checksums are right. Of
/// every other one a byte is changed afterwards, which the second copy of the index or the quarantine
/// has to answer for.
pub fn segment_open(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mode = input.byte();
    let bytes = match mode & 1 {
        0 => Some(input.0.to_vec()),
        _ => {
            let (at, mask) = match mode & 2 {
                0 => (0, 0),
                _ => (u32::from_le_bytes(input.array()) as usize, input.byte()),
            };
            whole_segment(input.0).map(|mut file| {
                let at = at % file.len();
                file[at] ^= mask;
                file
            })
        }
    };
    let Some(bytes) = bytes else { return };
    let Ok(segment) = open_segment(&bytes) else { return };
    if !unfolds_into_few(&segment) {
        return;
    }
    let is_sound = segment.verify().is_ok();
    segment.check_groups(&mut |_| {});
    let view = View::new(&Manifest::default(), vec![Arc::new(segment)], Vec::new(), Arc::default());
    let snapshot = StoreSnapshot::new(Arc::new(view), u64::MAX);
    let all = read_all_and_compare(&snapshot);
    let damage = snapshot.damage();
    let is_read = all.is_ok() && damage.is_empty();
    assert!(!is_sound || is_read, "what passed the check cannot be read: {all:?} {damage:?}");
    search(&snapshot);
}

fn open_segment(bytes: &[u8]) -> Result<Segment, crate::Error> {
    let (vfs, path) = (FaultyVfs::new(), Path::new("/segment"));
    put(&vfs, path, bytes);
    Segment::open_unnamed(&vfs, path)
}

fn whole_segment(short: &[u8]) -> Option<Vec<u8>> {
    let mut file = segment::unfold(short)?;
    if let Ok(segment) = open_segment(&file) {
        segment::reseal_groups(&segment, &mut file);
    }
    Some(file)
}

/// The short form of a segment, without what is the same or can be made of the rest; `None` where it
/// is not sound, or too large for one.
///
/// | offset | size | what |
/// |---|---|---|
/// | 0 | 64 | the footer up to its places |
/// | 64 | 2 · 7 | lengths of the row groups and of the six sections |
/// | 78 | | the row groups, then the sections |
pub fn fold_segment(file: &[u8]) -> Option<Vec<u8>> {
    segment::fold(&open_segment(file).ok()?, file)
}

/// The whole file of a short form.
pub fn unfold_segment(short: &[u8]) -> Option<Vec<u8>> {
    whole_segment(short)
}

/// Whether reading everything stays within a test's patience.
fn unfolds_into_few(segment: &Segment) -> bool {
    let mut values = 0_u64;
    for set in 0..segment.sets() {
        let Ok(groups) = segment.row_groups(set) else { continue };
        for group in groups {
            let columns = segment.columns_of_list(group.columns()).map_or(1, |list| list.len());
            values = values.saturating_add((group.rows as u64).saturating_mul(columns as u64 + 1));
        }
    }
    values <= VALUES_MAX
}

/// Reads every column in all the ways there are; they must agree.
fn read_all_and_compare(snapshot: &StoreSnapshot) -> Result<(), StorageError> {
    let mut first_error = None;
    for set in snapshot.select(&everything())? {
        for column in 0..set.columns().len() {
            let read = compare_column(snapshot, &*set, column);
            first_error = first_error.or(read.err());
        }
    }
    first_error.map_or(Ok(()), Err)
}

/// Rows that turn out to be damaged are left out and told; whoever asked before may have counted them.
fn compare_column(
    snapshot: &StoreSnapshot,
    set: &dyn SelectedSet,
    column: usize,
) -> Result<(), StorageError> {
    let is_whole = || snapshot.damage().is_empty();
    let samples = collect(set, column)?;
    let last = set.last(column)?;
    let bits = |sample: &(Timestamp, Value)| (sample.0, bits_of_value(sample.1));
    let (last, of_all) = (last.as_ref().map(bits), samples.last().map(bits));
    assert!(last == of_all || !is_whole(), "the newest is {last:?}, not {of_all:?}");
    let mut cursor = set.read(column);
    let (mut runs, mut counted) = (Samples::default(), 0);
    while cursor.next_run()?.is_some() {
        let count = cursor.count()?;
        cursor.decode(&mut runs)?;
        let is_same = count == runs.timestamps.len() as u64;
        assert!(is_same || !is_whole(), "a run of {count} has {}", runs.timestamps.len());
        assert_eq!(runs.timestamps.len(), runs.values.len(), "times are not as many as values");
        counted += runs.timestamps.len();
    }
    assert!(counted == samples.len() || !is_whole(), "{counted} of {}", samples.len());
    Ok(())
}

/// Asks for what only the index knows, with the labels and columns that are there.
fn search(snapshot: &StoreSnapshot) {
    let all = everything();
    let _ = (snapshot.census(), snapshot.cardinality(3), snapshot.bounds());
    let columns = snapshot.column_names(&all).unwrap_or_default();
    let labels = snapshot.label_names(&all).unwrap_or_default();
    let middle = snapshot.bounds().map_or(TimeRange::ALL, |bounds| {
        let half = Duration::from_millis(
            1 + bounds.end.saturating_since(bounds.start).as_millis() as u64 / 2,
        );
        TimeRange::new(bounds.start.saturating_add(half), bounds.end)
    });
    for label in labels.iter().take(3) {
        let values = snapshot.label_values(label, &all).unwrap_or_default();
        let value = values.first().cloned().unwrap_or_default();
        let matchers = [
            Some(Matcher::equal(label.clone(), value.clone())),
            Some(Matcher::not_equal(label.clone(), value)),
            Matcher::regex(label.clone(), "[a-w].*|").ok(),
        ];
        for matcher in matchers.into_iter().flatten() {
            let is_negative = matches!(matcher.op(), MatchOp::NotEqual(_));
            let columns = match columns.first().filter(|_| is_negative) {
                Some(name) => Columns::Named(name.clone()),
                None => Columns::All,
            };
            let selector = Selector { matchers: vec![matcher], columns, range: middle };
            for set in snapshot.select(&selector).unwrap_or_default() {
                let read = (0..set.columns().len()).map(|column| collect(&*set, column));
                read.flatten().for_each(|samples| {
                    assert!(samples.iter().all(|(at, _)| middle.contains(*at)), "out of range");
                });
            }
        }
    }
    let buckets = snapshot.select_buckets(&BucketSelector {
        matchers: Vec::new(),
        columns: Columns::All,
        range: middle,
        bucket: None,
        aggregates: Aggregates::SUM | Aggregates::INCREASE | Aggregates::PERCENTILES,
    });
    for set in buckets.map(|found| found.sets).unwrap_or_default() {
        for column in 0..set.columns().len() {
            let (mut cursor, mut read) = (set.read(column), Vec::new());
            while let Ok(Some(_)) = cursor.step(&mut read) {}
        }
    }
}

fn put(vfs: &FaultyVfs, path: &Path, bytes: &[u8]) {
    let parent = path.parent().expect("a file lies in a directory");
    vfs.create_dir_all(parent).expect("memory has room");
    let file = vfs.create_new(path).expect("the name is new");
    write_all_at(&*file, bytes, 0).expect("memory has room");
}

/// Makes magic, version and checksum of a manifest right.
fn reseal_manifest(file: &mut [u8]) {
    let Some((content, crc)) = file.split_last_chunk_mut::<4>() else { return };
    let Some((magic, rest)) = content.split_first_chunk_mut::<8>() else { return };
    let Some((version, _)) = rest.split_first_chunk_mut::<4>() else { return };
    *magic = manifest::MAGIC;
    *version = manifest::VERSION.to_le_bytes();
    *crc = crc32fast::hash(content).to_le_bytes();
}

/// Makes the header of a log file right, and every record one that is whole: magic, checksum, and
/// a length that the file has.
fn reseal_log(file: &mut [u8]) {
    let Some((header, _)) = file.split_first_chunk_mut::<FILE_HEADER_BYTES>() else { return };
    let file_id = u64::from_le_bytes(header[12..20].try_into().expect("eight bytes"));
    *header = wal::file_header(file_id);
    let mut at = FILE_HEADER_BYTES;
    while let Some(room) = file.len().checked_sub(at + RECORD_HEADER_BYTES) {
        let (header, rest) = file[at..].split_at_mut(RECORD_HEADER_BYTES);
        let len = u32::from_le_bytes(header[4..8].try_into().expect("four bytes")) as usize;
        let len = len.min(room);
        let crc = wal::record_crc(file_id, at as u64, &rest[..len]);
        header[..4].copy_from_slice(&RECORD_MAGIC);
        header[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        header[8..].copy_from_slice(&crc.to_le_bytes());
        at += RECORD_HEADER_BYTES + len;
    }
}
