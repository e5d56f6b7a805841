//! Promises of segments: what was pushed comes back, damage is found, bytes are few.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use heapster_core::storage::{Column, Columns, Samples, Selector, Values};
use heapster_core::{Labels, Matcher, MetricKind, Text, TimeRange, Timestamp, Value};
use proptest::prelude::*;

use super::format::{DISTANCE, FOOTER_LEN, GROUPS_START, HEADER_LEN, SECTIONS, TRAILER_LEN};
use super::*;
use crate::chunk::{Effort, is_same_summary, summarize};
use crate::codec::{hex_example, salted_crc32};
use crate::error::{Error, Result};
use crate::rows::{ColumnRows, SetRows};
use crate::vfs::{DirEntry, Mapping, Vfs, VfsFile};

const PATH: &str = "segment";

/// One file in memory.
#[derive(Clone, Debug, Default)]
struct OneFile {
    bytes: Arc<Mutex<Vec<u8>>>,
    refuses_to_map: bool,
}

#[derive(Debug)]
struct Mapped(Vec<u8>);

impl std::ops::Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Mapping for Mapped {}

fn unsupported<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Vfs for OneFile {
    fn create_new(&self, _: &Path) -> io::Result<Box<dyn VfsFile>> {
        Ok(Box::new(self.clone()))
    }
    fn open(&self, _: &Path) -> io::Result<Box<dyn VfsFile>> {
        Ok(Box::new(self.clone()))
    }
    fn open_for_write(&self, _: &Path) -> io::Result<Box<dyn VfsFile>> {
        unsupported()
    }
    fn map(&self, _: &Path) -> io::Result<Box<dyn Mapping>> {
        if self.refuses_to_map {
            return unsupported();
        }
        Ok(Box::new(Mapped(self.bytes.lock().unwrap().clone())))
    }
    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        unsupported()
    }
    fn hard_link(&self, _: &Path, _: &Path) -> io::Result<()> {
        unsupported()
    }
    fn remove(&self, _: &Path) -> io::Result<()> {
        unsupported()
    }
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        unsupported()
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        unsupported()
    }
    fn list(&self, _: &Path) -> io::Result<Vec<DirEntry>> {
        unsupported()
    }
    fn lock(&self, _: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        unsupported()
    }
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        unsupported()
    }
}

impl VfsFile for OneFile {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.bytes.lock().unwrap();
        let bytes = bytes.get(offset as usize..).unwrap_or_default();
        let len = bytes.len().min(into.len());
        into[..len].copy_from_slice(&bytes[..len]);
        Ok(len)
    }
    fn write_at(&self, from: &[u8], offset: u64) -> io::Result<usize> {
        let mut bytes = self.bytes.lock().unwrap();
        // A short write now and then: callers must go on where it stopped.
        let len = from.len().min(1000);
        let end = offset as usize + len;
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset as usize..end].copy_from_slice(&from[..len]);
        Ok(len)
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        unsupported()
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn drop_cache(&self) -> io::Result<()> {
        Ok(())
    }
}

const ID: u64 = 7;

fn write(rows: &[SetRows]) -> (Vec<u8>, SegmentInfo) {
    let vfs = OneFile::default();
    let mut writer = SegmentWriter::create(&vfs, Path::new(PATH), ID, 0, Effort::Fast).unwrap();
    for rows in rows {
        writer.push(rows).unwrap();
    }
    let info = writer.finish().unwrap();
    let bytes = vfs.bytes.lock().unwrap().clone();
    assert_eq!(info.len, bytes.len() as u64);
    (bytes, info)
}

fn open(bytes: &[u8], info: &SegmentInfo, refuses_to_map: bool) -> Result<Segment> {
    let vfs = OneFile { bytes: Arc::new(Mutex::new(bytes.to_vec())), refuses_to_map };
    Segment::open(&vfs, Path::new(PATH), info)
}

fn all() -> Selector {
    Selector { matchers: Vec::new(), columns: Columns::All, range: TimeRange::ALL }
}

/// A sample of a set's column, value as kind and bits.
type Cells = BTreeMap<(Labels, Text, i64), (MetricKind, Value)>;

fn cells_of(rows: &[SetRows]) -> Cells {
    let mut cells = Cells::new();
    for rows in rows {
        for column in &rows.columns {
            let every: Vec<u32> = (0..rows.timestamps.len() as u32).collect();
            let present = column.present.as_ref().unwrap_or(&every);
            for (index, row) in present.iter().enumerate() {
                let at = rows.timestamps[*row as usize];
                let key = (rows.labels.clone(), column.name.clone(), at);
                cells.insert(key, (column.kind, column.values.get(index)));
            }
        }
    }
    cells
}

/// All rows of a set.
fn rows_of(segment: &Segment, set: u32) -> Result<Vec<SetRows>> {
    let (labels, groups) = (segment.labels(set)?, segment.row_groups(set)?);
    groups.iter().map(|group| segment.rows(&labels, group)).collect()
}

/// Calls `each` with every column of every row group that a selector finds.
fn each_column(
    segment: &Segment,
    selector: &Selector,
    mut each: impl FnMut(Labels, &Column, GroupColumn<'_>) -> Result<()>,
) -> Result<()> {
    for group in &segment.find(selector, &[])?.groups {
        let columns = segment.columns_of_list(group.columns())?;
        for (column, named) in columns.iter().enumerate() {
            let columns = columns.len();
            each(
                segment.labels(group.set)?,
                named,
                GroupColumn { segment, group, columns, column },
            )?;
        }
    }
    Ok(())
}

/// Reads everything in every way there is; the ways must agree.
fn read_all(segment: &Segment) -> Result<Cells> {
    let mut rows = Vec::new();
    for set in segment.select(&all())? {
        rows.extend(rows_of(segment, set)?);
    }
    let cells = cells_of(&rows);
    let mut streamed = BTreeMap::new();
    let (clocks, mut samples) = (ClockCache::default(), Samples::default());
    each_column(segment, &all(), |labels, column, of_group| {
        let run = of_group.run(&TimeRange::ALL, &clocks)?;
        of_group.decode(&TimeRange::ALL, &clocks, &mut samples)?;
        if let Some(summary) = &run.summary {
            let real = summarize(&samples.values).unwrap();
            assert!(is_same_summary(summary, &real), "{summary:?} {real:?}");
            assert_eq!(Some(&run.first), samples.timestamps.first());
            assert_eq!(Some(&run.last), samples.timestamps.last());
        }
        streamed.extend(samples.iter().map(|(at, value)| {
            ((labels.clone(), column.name.clone(), at.as_millis()), (column.kind, value))
        }));
        Ok(())
    })?;
    assert_eq!(cells, streamed);
    segment.verify_content()?;
    Ok(cells)
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-5_i64..5).prop_map(Value::Int),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
    ]
}

fn label_value() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "b", "web-1", "web-2", "ü", "a-very-long-value-of-a-label"])
        .prop_map(str::to_owned)
}

prop_compose! {
    fn labels()(
        values in prop::collection::vec(prop::option::of(label_value()), 3),
    ) -> Labels {
        ["app", "pod", "type"].into_iter().zip(values)
            .filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

prop_compose! {
    /// A run of rows: steps between timestamps, and for each column which rows have which values.
    fn some_rows()(
        start in 0_i64..1000,
        steps in prop::collection::vec(1_i64..1000, 1..30),
        columns in prop::collection::vec(prop::option::of((
            prop::collection::vec(prop::option::weighted(0.8, value()), 30), 0..3_u8, any::<bool>(),
        )), 4),
    ) -> (Vec<i64>, Vec<ColumnRows>) {
        let timestamps: Vec<i64> =
            steps.iter().scan(start, |at, step| { *at += step; Some(*at) }).collect();
        let mut rows: Vec<ColumnRows> = Vec::new();
        for (name, column) in ["cpu/usage", "memory/usage", "uptime", "x"].into_iter().zip(columns) {
            let Some((cells, kind, ints_only)) = column else { continue };
            let cells: Vec<(u32, Value)> = (0_u32..).zip(cells).take(timestamps.len())
                .filter_map(|(row, value)| Some((row, value?))).collect();
            if cells.is_empty() { continue }
            let kinds = [MetricKind::Cumulative, MetricKind::Gauge, MetricKind::Delta];
            let values: Vec<Value> = cells.iter().map(|(_, value)| *value).collect();
            let values = if ints_only {
                Values::Ints(values.iter().map(|v| v.as_int().unwrap_or(9)).collect())
            } else {
                Values::Mixed(values)
            };
            let present: Vec<u32> = cells.iter().map(|(row, _)| *row).collect();
            rows.push(ColumnRows {
                name: name.into(),
                kind: kinds[kind as usize],
                present: (present.len() < timestamps.len()).then_some(present),
                values,
            });
        }
        if rows.is_empty() {
            rows.push(ColumnRows {
                name: "cpu/usage".into(), kind: MetricKind::Gauge, present: None,
                values: Values::Floats(timestamps.iter().map(|at| *at as f64 / 3.0).collect()),
            });
        }
        (timestamps, rows)
    }
}

/// Sets in the order a writer takes them, some with a second row group.
fn some_sets() -> impl Strategy<Value = Vec<SetRows>> {
    let groups = prop::collection::vec(some_rows(), 1..3);
    prop::collection::btree_map(labels(), groups, 0..12).prop_map(|sets| {
        let mut all = Vec::new();
        for (labels, groups) in sets {
            for (index, (timestamps, columns)) in (0_i64..).zip(groups) {
                let shift = index * 100_000;
                let timestamps = timestamps.iter().map(|at| at + shift).collect();
                all.push(SetRows { labels: labels.clone(), timestamps, columns });
            }
        }
        all
    })
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let name = prop::sample::select(vec!["app", "pod", "type", "absent"]);
    let patterns = vec![".*", ".+", "web-.", "web-.*", ".*1", "a|", "a|b|c", "ü", "nothing"];
    let pattern = prop::sample::select(patterns);
    (name, label_value(), pattern, 0..4_u8).prop_map(|(name, value, pattern, op)| match op {
        0 => Matcher::equal(name, value),
        1 => Matcher::not_equal(name, value),
        2 => Matcher::regex(name, pattern).unwrap(),
        _ => Matcher::not_regex(name, pattern).unwrap(),
    })
}

fn selector() -> impl Strategy<Value = Selector> {
    let columns = prop_oneof![
        Just(Columns::All),
        prop::sample::select(vec!["cpu/usage", "x", "none"])
            .prop_map(|name| Columns::Named(name.into())),
        Just(Columns::Matching(Matcher::regex("__name__", ".*/usage").unwrap())),
    ];
    let range = prop_oneof![
        Just(TimeRange::ALL),
        (0_i64..120_000, 0_i64..50_000).prop_map(|(start, len)| {
            TimeRange::new(Timestamp::from_millis(start), Timestamp::from_millis(start + len))
        }),
    ];
    (prop::collection::vec(matcher(), 0..3), columns, range)
        .prop_map(|(matchers, columns, range)| Selector { matchers, columns, range })
}

/// Copies all row groups of a segment into one with the same number, without decoding them.
fn copy_of(segment: &Segment) -> Vec<u8> {
    let (vfs, path) = (OneFile::default(), Path::new(PATH));
    let mut writer = SegmentWriter::create(&vfs, path, ID, 0, Effort::Fast).unwrap();
    for set in 0..segment.sets() {
        let labels = segment.labels(set).unwrap();
        for group in segment.row_groups(set).unwrap() {
            writer.push_encoded(&labels, &segment.encoded(&group).unwrap()).unwrap();
        }
    }
    assert_eq!(writer.finish().unwrap(), *segment.info());
    vfs.bytes.lock().unwrap().clone()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn row_groups_that_are_copied_make_the_same_segment(rows in some_sets()) {
        let (bytes, info) = write(&rows);
        for refuses_to_map in [false, true] {
            let segment = open(&bytes, &info, refuses_to_map).unwrap();
            prop_assert_eq!(&copy_of(&segment), &bytes);
        }
    }

    #[test]
    fn what_was_pushed_comes_back(rows in some_sets()) {
        let (bytes, info) = write(&rows);
        for refuses_to_map in [false, true] {
            let segment = open(&bytes, &info, refuses_to_map).unwrap();
            prop_assert_eq!(read_all(&segment).unwrap(), cells_of(&rows));
        }
    }

    #[test]
    fn the_index_finds_what_a_scan_finds(rows in some_sets(), selector in selector()) {
        let (bytes, info) = write(&rows);
        let segment = open(&bytes, &info, false).unwrap();
        let has = |rows: &&SetRows| {
            let bounds = TimeRange::new(
                Timestamp::from_millis(rows.timestamps[0]),
                Timestamp::from_millis(*rows.timestamps.last().unwrap()),
            );
            selector.matchers.iter().all(|matcher| matcher.matches(rows.labels.value(matcher.name())))
                && rows.columns.iter().any(|column| selector.columns.contains(&column.name))
                && bounds.overlaps(&selector.range)
        };
        let expected: Vec<&SetRows> = rows.iter().filter(has).collect();
        let mut labels: Vec<Labels> = expected.iter().map(|rows| rows.labels.clone()).collect();
        labels.dedup();
        let found = segment.select(&selector).unwrap();
        let found: Vec<Labels> = found.iter().map(|set| segment.labels(*set).unwrap()).collect();
        prop_assert_eq!(&found, &labels);

        let sorted = |texts: Vec<Text>| {
            let set: std::collections::BTreeSet<Text> = texts.into_iter().collect();
            set.into_iter().collect::<Vec<_>>()
        };
        let names = expected.iter().flat_map(|rows| &rows.columns)
            .map(|column| column.name.clone())
            .filter(|name| selector.columns.contains(name)).collect();
        prop_assert_eq!(segment.column_names(&selector, &[]).unwrap(), sorted(names));
        let names = labels.iter().flatten().map(|label| label.name.clone()).collect();
        prop_assert_eq!(segment.label_names(&selector, &[]).unwrap(), sorted(names));
        let values = labels.iter().filter_map(|labels| labels.get("pod").cloned()).collect();
        prop_assert_eq!(segment.label_values("pod", &selector, &[]).unwrap(), sorted(values));
    }

    #[test]
    fn a_run_is_clipped_to_the_range(rows in some_sets(), start in 0_i64..30_000, len in 0_i64..30_000) {
        let (bytes, info) = write(&rows);
        let segment = open(&bytes, &info, false).unwrap();
        let range = TimeRange::new(Timestamp::from_millis(start), Timestamp::from_millis(start + len));
        let mut found = BTreeMap::new();
        let (clocks, mut samples) = (ClockCache::default(), Samples::default());
        let in_range = Selector { range, ..all() };
        each_column(&segment, &in_range, |labels, column, of_group| {
            let run = of_group.run(&range, &clocks).unwrap();
            of_group.decode(&range, &clocks, &mut samples).unwrap();
            assert_eq!(samples.timestamps.len(), samples.values.len());
            assert_eq!(of_group.count(&range, &clocks).unwrap(), samples.values.len() as u64);
            let last = of_group.last(&range, &clocks, &mut Values::default()).unwrap();
            assert_eq!(last, samples.iter().next_back());
            for (at, value) in samples.iter() {
                assert!(run.first <= at && at <= run.last);
                found.insert((labels.clone(), column.name.clone(), at.as_millis()), value);
            }
            Ok(())
        }).unwrap();
        let expected: BTreeMap<_, _> = cells_of(&rows).into_iter()
            .filter(|((_, _, at), _)| range.contains(Timestamp::from_millis(*at)))
            .map(|(key, (_, value))| (key, value)).collect();
        prop_assert_eq!(found, expected);
    }

    /// Damage that carries right checksums, as a hostile file has.
    #[test]
    fn a_crafted_file_is_refused_or_read_but_never_panics(
        rows in some_sets(), at: prop::sample::Index, to: u8, at2: prop::sample::Index, to2: u8,
    ) {
        let (mut bytes, mut info) = write(&rows);
        let end = bytes.len() - (FOOTER_LEN + TRAILER_LEN) as usize;
        let original = open(&bytes, &info, false).unwrap();
        let start = GROUPS_START as usize;
        bytes[start + at.index(end - start)] = to;
        bytes[start + at2.index(end - start)] = to2;
        fix_checksums(&original, &mut bytes, &mut info);
        if let Ok(segment) = open(&bytes, &info, false) {
            let _ = read_leniently(&segment);
            let _ = segment.verify();
        }
    }
}

/// Like [`read_all`], but the ways need not agree.
fn read_leniently(segment: &Segment) -> Result<()> {
    let mut samples = Samples::default();
    for text in ["", "web-1", "app", "pod"] {
        let _ = segment.label_values(text, &all(), &[]);
        let matchers = vec![Matcher::not_equal("pod", text), Matcher::regex("app", ".*b").unwrap()];
        let _ = segment.select(&Selector { matchers, ..all() });
    }
    let _ = segment.label_names(&all(), &[]);
    let _ = segment.column_names(&all(), &[]);
    for set in segment.select(&all())? {
        for rows in rows_of(segment, set).unwrap_or_default() {
            // What a merge relies on.
            assert!(rows.timestamps.is_sorted_by(|a, b| a < b));
        }
    }
    let clocks = ClockCache::default();
    each_column(segment, &all(), |_, _, of_group| {
        let _ = of_group.run(&TimeRange::ALL, &clocks);
        let _ = of_group.count(&TimeRange::ALL, &clocks);
        let _ = of_group.last(&TimeRange::ALL, &clocks, &mut samples.values);
        let _ = of_group.decode(&TimeRange::ALL, &clocks, &mut samples);
        Ok(())
    })
}

/// Makes the checksums of changed bytes right again.
fn fix_checksums(original: &Segment, bytes: &mut [u8], info: &mut SegmentInfo) {
    for place in original.group_places() {
        let (start, end) = (place.0 as usize, (place.0 + place.1) as usize);
        let crc = salted_crc32(ID, place.0, &bytes[start + 4..end]);
        bytes[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    }
    let footer = bytes.len() - (FOOTER_LEN + TRAILER_LEN) as usize;
    for (index, (section, place)) in SECTIONS.iter().zip(original.section_places()).enumerate() {
        let (start, end) = (place.0 as usize, (place.0 + place.1) as usize);
        let crc = salted_crc32(ID, place.0, &bytes[start..end]);
        let slot = footer + 64 + 36 * index + 20;
        bytes[slot..slot + 4].copy_from_slice(&crc.to_le_bytes());
        if section.is_copied() {
            // What somebody crafts is the same in both copies.
            let copy = original.footer.copy(*section).offset;
            bytes.copy_within(start..end, copy as usize);
            let crc = salted_crc32(ID, copy, &bytes[start..end]);
            bytes[slot + 12..slot + 16].copy_from_slice(&crc.to_le_bytes());
        }
    }
    let trailer = footer + FOOTER_LEN as usize;
    let crc = salted_crc32(ID, footer as u64, &bytes[footer..trailer]);
    bytes[trailer + 4..trailer + 8].copy_from_slice(&crc.to_le_bytes());
    bytes.copy_within(footer.., HEADER_LEN as usize);
    info.crc = crc;
}

impl Segment {
    /// Offset and length of every row group.
    fn group_places(&self) -> Vec<(u64, u64)> {
        let groups = (0..self.sets()).flat_map(|set| self.row_groups(set).unwrap());
        groups.map(|group| (group.group.offset, u64::from(group.group.len))).collect()
    }

    /// Offset and length of every section.
    fn section_places(&self) -> Vec<(u64, u64)> {
        let places = SECTIONS.map(|section| self.footer.place(section));
        places.iter().map(|place| (place.offset, place.len)).collect()
    }
}

fn column(name: &str, kind: MetricKind, values: Vec<i64>) -> ColumnRows {
    ColumnRows { name: name.into(), kind, present: None, values: Values::Ints(values) }
}

/// The segment that lies in `testdata/v1`.
fn golden_rows() -> Vec<SetRows> {
    let timestamps: Vec<i64> = (0..8).map(|row| 1_700_000_000_000 + row * 60_000).collect();
    let node = Labels::from_iter([("host_id", ""), ("nodename", "n1"), ("type", "node")]);
    let pod = Labels::from_iter([("nodename", "n1"), ("pod_name", "web-1"), ("type", "pod")]);
    vec![
        SetRows {
            labels: node,
            timestamps: timestamps.clone(),
            columns: vec![
                column("cpu/usage", MetricKind::Cumulative, vec![1, 5, 9, 12, 2, 6, 9, 11]),
                column("memory/limit", MetricKind::Gauge, vec![1 << 33; 8]),
                ColumnRows {
                    name: "ratio".into(),
                    kind: MetricKind::Gauge,
                    present: Some(vec![1, 2, 5]),
                    values: Values::Floats(vec![0.1, f64::from_bits(0x7ff0_0000_0000_0002), -0.0]),
                },
            ],
        },
        SetRows {
            labels: pod.clone(),
            timestamps: timestamps.clone(),
            columns: vec![
                column(
                    "memory/usage",
                    MetricKind::Gauge,
                    vec![4096, 8192, 8192, 4096, 409_600, 8192, 8192, 4096],
                ),
                ColumnRows {
                    name: "mixed".into(),
                    kind: MetricKind::Delta,
                    present: None,
                    values: Values::Mixed(
                        (0..8_i32)
                            .map(|row| match row % 2 {
                                0 => Value::Int(i64::MIN + i64::from(row)),
                                _ => Value::Float(f64::from(row) / 3.0),
                            })
                            .collect(),
                    ),
                },
            ],
        },
        SetRows {
            labels: pod,
            timestamps: vec![1_700_000_600_000],
            columns: vec![column("memory/usage", MetricKind::Gauge, vec![12_288])],
        },
    ]
}

/// The golden file and what the manifest would know of it. It was written once and is never
/// rewritten: if it is missing the test writes it and fails, so that it gets committed.
fn golden() -> (Vec<u8>, SegmentInfo) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/v1/segment");
    let Ok(bytes) = std::fs::read(&path) else {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let (bytes, info) = write(&golden_rows());
        std::fs::write(&path, bytes).unwrap();
        panic!("wrote {}; commit it, with {info:?} in this test", path.display());
    };
    let info = SegmentInfo {
        id: ID,
        tier: 0,
        is_cold: false,
        len: 5220,
        crc: 888_993_435,
        first: 1_700_000_000_000,
        last: 1_700_000_600_000,
        sets: 2,
        samples: 36,
    };
    (bytes, info)
}

#[test]
fn a_segment_of_version_1_opens_for_ever() {
    let (bytes, info) = golden();
    for refuses_to_map in [false, true] {
        let segment = open(&bytes, &info, refuses_to_map).unwrap();
        assert_eq!(read_all(&segment).unwrap(), cells_of(&golden_rows()));
    }
}

/// All errors that a look at every byte finds.
fn errors_of(segment: &Segment) -> Vec<Error> {
    let mut errors = Vec::new();
    segment.check_index(&mut |error| errors.push(error));
    segment.check_groups(&mut |error| errors.push(error));
    errors
}

#[test]
fn any_changed_byte_of_a_file_is_found_and_costs_a_row_group_at_most() {
    let (bytes, info) = golden();
    let sound = open(&bytes, &info, false).unwrap();
    let expected = read_all(&sound).unwrap();
    let is_row_group = |at: usize| (GROUPS_START..sound.footer.groups_end).contains(&(at as u64));
    let padding = sound.footer.padding();
    let mut faults_at_open = 0;
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            for refuses_to_map in [false, true] {
                let segment = open(&changed, &info, refuses_to_map).unwrap();
                let context = format!("byte {at} ^ {flip}: {:?}", segment.index_faults());
                if is_row_group(at) {
                    assert!(read_all(&segment).unwrap_err().is_corruption(), "{context}");
                } else {
                    assert!(read_all(&segment).unwrap() == expected, "{context}");
                }
                let [error] = &*errors_of(&segment) else { panic!("{context}") };
                let Error::Corrupt { offset, .. } = error else { panic!("{error:?}") };
                assert!(*offset <= at as u64, "{context}: {error}");
                assert!(segment.verify().unwrap_err().is_corruption(), "{context}");
                faults_at_open += segment.index_faults().len();
            }
        }
    }
    // Header, both footers, and the copy of each section that is read.
    let sections: u64 = sound.section_places().iter().map(|(_, len)| len).sum();
    let looked_at = GROUPS_START + sections + FOOTER_LEN + TRAILER_LEN;
    assert_eq!(faults_at_open as u64, 6 * looked_at);
    assert!(padding.1 > 0 && padding.1 < DISTANCE);
}

#[test]
fn a_lost_stretch_as_long_as_a_sector_costs_the_row_groups_in_it_and_no_more() {
    for rows in [golden_rows(), kubelet_rows(1, 3)] {
        let (bytes, info) = write(&rows);
        let sound = open(&bytes, &info, false).unwrap();
        let groups = sound.group_places();
        let expected = read_all(&sound).unwrap();
        let len = DISTANCE as usize;
        let step = 1 + bytes.len() / 60;
        for start in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
            let end = bytes.len().min(start + len);
            for fill in [0_u8, 0xff] {
                let mut changed = bytes.clone();
                changed[start..end].fill(fill);
                let segment = open(&changed, &info, false)
                    .unwrap_or_else(|error| panic!("{fill} from byte {start}: {error}"));
                let is_hit =
                    |place: &(u64, u64)| place.0 < end as u64 && start as u64 <= place.0 + place.1;
                if !groups.iter().any(is_hit) {
                    assert!(read_all(&segment).unwrap() == expected, "from byte {start}");
                }
                assert!(!errors_of(&segment).is_empty() || changed == bytes);
            }
        }
    }
}

#[test]
fn two_damaged_copies_of_a_part_make_the_segment_unreadable() {
    let (bytes, info) = golden();
    let sound = open(&bytes, &info, false).unwrap();
    let end = bytes.len() as u64;
    let mut pairs = vec![(HEADER_LEN, end - FOOTER_LEN - TRAILER_LEN), (GROUPS_START - 1, end - 1)];
    for section in SECTIONS.into_iter().filter(|section| section.is_copied()) {
        pairs.push((sound.footer.copy(section).offset, sound.footer.place(section).offset));
    }
    for (first, last) in pairs {
        let mut changed = bytes.clone();
        changed[first as usize] ^= 1;
        open(&changed, &info, false).unwrap();
        changed[last as usize] ^= 1;
        assert!(open(&changed, &info, false).unwrap_err().is_corruption(), "{first}, {last}");
    }
}

#[test]
fn a_damaged_row_group_costs_only_its_own_rows() {
    let (mut bytes, info) = write(&golden_rows());
    let places = open(&bytes, &info, false).unwrap().group_places();
    bytes[places[0].0 as usize + 6] ^= 1;
    let segment = open(&bytes, &info, false).unwrap();
    assert!(rows_of(&segment, 0).unwrap_err().is_corruption());
    assert!(segment.verify().unwrap_err().is_corruption());
    assert_eq!(rows_of(&segment, 1).unwrap().len(), 2);
    assert_eq!(segment.labels(0).unwrap().value("type"), "node");
}

#[test]
fn a_cut_file_or_that_of_another_segment_is_refused() {
    let (bytes, info) = write(&golden_rows());
    for len in [0, 10, 24, 200, bytes.len() - 1] {
        assert!(open(&bytes[..len], &info, false).unwrap_err().is_corruption());
        let short = SegmentInfo { len: len as u64, ..info.clone() };
        assert!(open(&bytes[..len], &short, false).unwrap_err().is_corruption());
    }
    for other in [
        SegmentInfo { id: ID + 1, ..info.clone() },
        SegmentInfo { tier: 1, ..info.clone() },
        SegmentInfo { crc: info.crc ^ 1, ..info.clone() },
        SegmentInfo { samples: info.samples + 1, ..info.clone() },
    ] {
        assert!(open(&bytes, &other, false).unwrap_err().is_corruption());
    }
}

#[test]
fn a_file_of_a_later_version_is_named_as_such() {
    let (mut bytes, info) = write(&golden_rows());
    bytes[8] = 2;
    let segment = open(&bytes, &info, false).unwrap();
    let [fault] = segment.index_faults() else { panic!("the footer still says version 1") };
    assert!(fault.is_corruption(), "{fault:?}");
    // A file whose footers this program cannot read either is as new as it says.
    let end = bytes.len() - 1;
    bytes[end] ^= 1;
    bytes[GROUPS_START as usize - 1] ^= 1;
    let error = open(&bytes, &info, false).unwrap_err();
    assert!(matches!(error, Error::UnsupportedVersion { found: 2, max: 1, .. }), "{error:?}");
    // So is one whose footer, with its checksum, says so.
    let (mut bytes, mut info) = write(&golden_rows());
    let end = bytes.len() - TRAILER_LEN as usize;
    let footer = end - FOOTER_LEN as usize..end;
    bytes[footer.start + 10] = 2;
    info.crc = salted_crc32(ID, footer.start as u64, &bytes[footer]);
    bytes[end + 4..end + 8].copy_from_slice(&info.crc.to_le_bytes());
    let error = open(&bytes, &info, false).unwrap_err();
    assert!(matches!(error, Error::UnsupportedVersion { found: 2, max: 1, .. }), "{error:?}");
}

#[test]
fn rows_beyond_the_limit_of_a_row_group_are_split() {
    let rows = 70_000_usize;
    let present: Vec<u32> = (0..rows as u32).filter(|row| row % 7 == 3).collect();
    let long = SetRows {
        labels: Labels::from_iter([("type", "node")]),
        timestamps: (0..rows as i64).map(|row| row * 1000).collect(),
        columns: vec![
            column("a", MetricKind::Gauge, (0..rows as i64).map(|row| row % 100).collect()),
            ColumnRows {
                name: "b".into(),
                kind: MetricKind::Gauge,
                values: Values::Floats(present.iter().map(|row| f64::from(*row)).collect()),
                present: Some(present),
            },
        ],
    };
    let (bytes, info) = write(std::slice::from_ref(&long));
    let segment = open(&bytes, &info, false).unwrap();
    assert_eq!(rows_of(&segment, 0).unwrap().len(), 2);
    assert_eq!(read_all(&segment).unwrap(), cells_of(&[long]));
}

#[test]
fn an_empty_segment_opens() {
    let (bytes, info) = write(&[]);
    let segment = open(&bytes, &info, false).unwrap();
    segment.verify().unwrap();
    assert_eq!(segment.select(&all()).unwrap(), Vec::<u32>::new());
    assert_eq!(segment.column_names(&all(), &[]).unwrap(), Vec::<Text>::new());
}

#[test]
fn the_worked_example_of_the_format_page_is_the_first_row_group() {
    let example = hex_example(include_str!("../../../docs/format/segment.md"));
    let (bytes, _) = golden();
    let start = GROUPS_START as usize;
    assert_eq!(example, bytes[start..start + example.len()]);
    assert_eq!(example[..4], salted_crc32(ID, GROUPS_START, &example[4..]).to_le_bytes());
    let cells = row_group::all_cells(&example[4..], 8, 3).unwrap();
    for (cells, column) in cells.iter().zip(&golden_rows()[0].columns) {
        let mut values = Values::default();
        crate::chunk::decode(cells.chunk, cells.count, &mut values).unwrap();
        let bits = |values: &Values| (0..values.len()).map(|i| values.get(i)).collect::<Vec<_>>();
        assert_eq!(bits(&values), bits(&column.values));
    }
    let present: Vec<_> = cells[2].present.unwrap().runs().collect();
    assert_eq!(present, [1..3, 5..6]);
}

/// A small generator of numbers, the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound).cast_signed()
    }
}

/// Rows as kubelets give them for an hour: nodes of pods of one container each, in which most
/// things idle, memory moves by pages and cpu time by noisy nanoseconds.
fn kubelet_rows(nodes: usize, pods: usize) -> Vec<SetRows> {
    let random = &mut Random(88_172_645_463_325_252);
    let start = 1_700_000_000_000;
    let mut all = Vec::new();
    for node in 0..nodes {
        let timestamps: Vec<i64> = (0..60).map(|row| start + row * 60_000).collect();
        for pod in 0..pods {
            let is_busy = pod % 5 == 0;
            let pod_id = format!(
                "{:08x}-0000-4000-8000-{:012x}",
                random.below(1 << 32),
                random.below(1 << 48)
            );
            let mut labels = Labels::from_iter([
                ("host_id", String::new()),
                ("hostname", format!("node-{node}")),
                ("labels", format!("app:web-{},pod-template-hash:5d8f", pod % 9)),
                ("namespace_id", format!("1c5f8a52-0000-4000-8000-{:012x}", pod % 7)),
                ("namespace_name", format!("team-{}", pod % 7)),
                ("nodename", format!("node-{node}")),
                ("pod_id", pod_id),
                ("pod_name", format!("web-{}-5d8f-{:05x}", pod % 9, node * 1000 + pod)),
            ]);
            for kind in ["pod", "pod_container"] {
                labels.set("type", kind);
                if kind == "pod_container" {
                    labels.set("container_name", "main");
                    labels.set("container_base_image", format!("registry.local/web:{}", pod % 9));
                }
                let walk = |from: i64, steps: &mut dyn FnMut() -> i64| -> Vec<i64> {
                    (0..60)
                        .scan(from, |at, _| {
                            *at += steps();
                            Some(*at)
                        })
                        .collect()
                };
                let load = if is_busy { 4_000_000_000 } else { 40_000_000 };
                let cpu = walk(1 << 45, &mut || load + random.below(load as u64 / 8));
                let rate = cpu.windows(2).map(|pair| (pair[1] - pair[0]) / 60_000_000);
                let rate: Vec<i64> = std::iter::once(0).chain(rate).collect();
                let working = walk(50_000 * 4096, &mut || match random.below(3) {
                    0 if is_busy => (random.below(200) - 100) * 4096,
                    0 => (random.below(7) - 3) * 4096,
                    _ => 0,
                });
                let usage: Vec<i64> = working.iter().map(|bytes| bytes + 9_000 * 4096).collect();
                let faults = walk(1_000_000, &mut || if is_busy { random.below(200) } else { 0 });
                let uptime: Vec<i64> = (0..60).map(|row| 7_000_000 + row * 60_000).collect();
                let (rising, gauge) = (MetricKind::Cumulative, MetricKind::Gauge);
                let mut columns = vec![
                    column("cpu/limit", gauge, vec![500; 60]),
                    column("cpu/request", gauge, vec![100; 60]),
                    column("cpu/usage", rising, cpu),
                    column("cpu/usage_rate", gauge, rate),
                    column("memory/limit", gauge, vec![1 << 30; 60]),
                    column("memory/major_page_faults", rising, vec![12; 60]),
                    column("memory/page_faults", rising, faults),
                    column("memory/request", gauge, vec![1 << 28; 60]),
                    column("memory/rss", gauge, working.iter().map(|b| b - 4096 * 500).collect()),
                    column("memory/usage", gauge, usage),
                    column("memory/working_set", gauge, working),
                    column("restart_count", rising, vec![0; 60]),
                    column("uptime", rising, uptime),
                ];
                if kind == "pod" {
                    let bytes = walk(1 << 40, &mut || {
                        if is_busy { 50_000 + random.below(20_000) } else { 700 }
                    });
                    columns.push(column("network/rx", rising, bytes));
                    columns.push(column("network/rx_errors", rising, vec![0; 60]));
                    columns.sort_by(|a, b| a.name.cmp(&b.name));
                }
                all.push(SetRows {
                    labels: labels.clone(),
                    timestamps: timestamps.clone(),
                    columns,
                });
            }
        }
    }
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    all
}

#[test]
fn an_hour_of_a_cluster_costs_at_most_1_6_bytes_a_sample() {
    let rows = kubelet_rows(5, 30);
    let (bytes, info) = write(&rows);
    let segment = open(&bytes, &info, false).unwrap();
    segment.verify().unwrap();
    let sections: Vec<u64> = segment.section_places().iter().map(|place| place.1).collect();
    let per_sample = bytes.len() as f64 / info.samples as f64;
    println!("{per_sample:.3} B/sample, {} samples, sections {sections:?}", info.samples);
    assert!(per_sample <= 1.6, "{per_sample:.3} bytes a sample; sections {sections:?}");
}
