//! [`Manifest`]: which segments and log files make up the store. The page is docs/format/manifest.md.
//!
//! It is replaced as a whole: written under a temporary name, synced, renamed. A second copy is
//! written after it, so that one damaged file does not take the store with it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use heapster_core::{MatchOp, Matcher, Text, TimeRange, Timestamp};

use crate::error::{Error, Result};
use crate::paths::{Paths, temporary};
use crate::planted::{self, Bug};
use crate::segment::{Segment, SegmentInfo};
use crate::tier::TierState;
use crate::tombstone::Tombstone;
use crate::vfs::{Vfs, open_if_there, read_exact_at, read_up_to_at, remove_if_there, write_all_at};
use crate::wal::bytes::{Malformed, Reader, put_text, put_varint};

pub(crate) const MAGIC: [u8; 8] = *b"HPSTRMAN";
/// The version this program writes, and the newest it reads.
pub(crate) const VERSION: u32 = 1;
/// magic 8 | version u32.
const HEADER_BYTES: usize = 12;
const CRC_BYTES: usize = 4;
/// The header, the store's id and the manifest's number.
const STAMP_BYTES: usize = HEADER_BYTES + 16;
/// A manifest is at most this long: about a million segments.
const BYTES_MAX: u64 = 64 << 20;

/// What the store consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Random number of the store, so that a copy of another store is told from one of this.
    pub store_id: u64,
    /// Counts the manifests of this store; the valid one with the greatest number counts.
    pub number: u64,
    /// Number of the next segment.
    pub next_segment: u64,
    /// Log files of earlier generations are in segments; what is left of them may go.
    pub wal_floor: u64,
    /// How long the clock still had to behave before it is trusted, in whole seconds; zero when it
    /// was trusted (decision 0009).
    pub clock_probation: Duration,
    /// Raw samples from this moment on are all there; `None` when none was ever dropped for its age.
    pub raw_from: Option<Timestamp>,
    /// The segments of all tiers in the order of their numbers.
    pub segments: Vec<SegmentInfo>,
    /// How far each tier of aggregates is built, in the order of their numbers.
    pub tiers: Vec<TierState>,
    /// Deletions that some segment still has to be rid of, oldest first.
    pub tombstones: Vec<Tombstone>,
}

/// What tells the first copy of one manifest from that of the next without reading all of it: its
/// length, its first bytes, which have the number, and its checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(Option<(u64, [u8; STAMP_BYTES], [u8; CRC_BYTES])>);

impl Stamp {
    /// Takes the stamp of what is there now.
    pub fn take(vfs: &dyn Vfs, paths: &Paths) -> Result<Self> {
        let path = paths.manifest();
        let failed = |source| Error::io("read", &path, source);
        let Some(file) = open_if_there(vfs, &path).map_err(failed)? else { return Ok(Self(None)) };
        let len = file.size().map_err(failed)?;
        let (mut start, mut crc) = ([0; STAMP_BYTES], [0; CRC_BYTES]);
        read_up_to_at(&*file, &mut start, 0).map_err(failed)?;
        read_up_to_at(&*file, &mut crc, len.saturating_sub(CRC_BYTES as u64)).map_err(failed)?;
        Ok(Self(Some((len, start, crc))))
    }
}

/// A manifest as found on disk.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub manifest: Manifest,
    /// Whether the two copies are not the same, so that both should be written again.
    pub needs_repair: bool,
    /// Whether a copy could not be read. It may have been the newer one, so that what this one does
    /// not name may still be wanted.
    pub may_be_stale: bool,
}

impl Manifest {
    /// Reads the newer of the two copies that is sound. `None` when there is neither.
    pub fn load(vfs: &dyn Vfs, paths: &Paths) -> Result<Option<Loaded>> {
        let copies = paths.manifests().map(|path| Self::read(vfs, &path));
        let mut best: Option<Manifest> = None;
        let mut damage = None;
        let mut numbers = Vec::new();
        for copy in copies {
            match copy {
                Ok(Some(manifest)) => {
                    numbers.push(manifest.number);
                    if best.as_ref().is_none_or(|best| best.number < manifest.number) {
                        best = Some(manifest);
                    }
                }
                Ok(None) => {}
                Err(error) if error.is_corruption() => damage = Some(error),
                Err(error) => return Err(error),
            }
        }
        match (best, damage) {
            (Some(manifest), _) => {
                let needs_repair = numbers != [manifest.number; 2];
                Ok(Some(Loaded { manifest, needs_repair, may_be_stale: numbers.len() < 2 }))
            }
            (None, Some(damage)) => Err(damage),
            (None, None) => Ok(None),
        }
    }

    /// Reads one copy; `None` when it is not there.
    pub fn read(vfs: &dyn Vfs, path: &Path) -> Result<Option<Self>> {
        let failed = |source| Error::io("read", path, source);
        let Some(file) = open_if_there(vfs, path).map_err(failed)? else { return Ok(None) };
        let len = file.size().map_err(failed)?;
        if len > BYTES_MAX {
            return Err(Error::corrupt(path, 0, "it is too long for a manifest"));
        }
        let mut bytes = vec![0; len as usize];
        read_exact_at(&*file, &mut bytes, 0).map_err(failed)?;
        Self::parse(path, &bytes).map(Some)
    }

    /// Whether a segment of that number is part of the store.
    pub fn names(&self, id: u64) -> bool {
        self.segments.binary_search_by_key(&id, |segment| segment.id).is_ok()
    }

    /// Makes segments part of the store. Their numbers are not used again.
    pub fn add(&mut self, segments: &[Arc<Segment>]) {
        for segment in segments {
            let info = segment.info();
            self.next_segment = self.next_segment.max(info.id + 1);
            let place = self.segments.partition_point(|other| other.id < info.id);
            self.segments.insert(place, info.clone());
        }
    }

    /// Drops segments that are past their time, and remembers from when on their tiers are whole.
    pub fn expire(&mut self, gone: &[u64]) {
        for segment in self.segments.extract_if(.., |segment| gone.contains(&segment.id)) {
            let after = Timestamp::from_millis(segment.last.saturating_add(1));
            if segment.tier == 0 {
                self.raw_from = self.raw_from.max(Some(after));
            } else if let Some(state) = self.tiers.iter_mut().find(|s| s.tier == segment.tier) {
                state.complete_from = state.complete_from.max(after);
            }
        }
    }

    /// Notes that samples of a range came late or went: aggregates that were built of them have to
    /// be built again.
    pub fn mark_stale(&mut self, range: TimeRange) {
        for tier in &mut self.tiers {
            tier.mark_stale(range);
        }
    }

    /// Writes both copies under temporary names and syncs them. An error leaves the store as it was.
    pub fn prepare(&self, vfs: &dyn Vfs, paths: &Paths) -> Result<()> {
        let bytes = self.to_bytes();
        let copies = paths.manifests();
        copies.iter().try_for_each(|path| write(vfs, &temporary(path), &bytes))
    }

    /// Makes the prepared copies the store's manifest, durably. The caller deletes what it does not
    /// name only after this returns. After an error nobody knows which manifest a reopen finds.
    pub fn publish(vfs: &dyn Vfs, paths: &Paths) -> Result<()> {
        for path in paths.manifests() {
            if planted::has(Bug::ManifestInPlace) && overwrite(vfs, &path).is_ok() {
                continue;
            }
            vfs.rename(&temporary(&path), &path).map_err(|e| Error::io("rename", &path, e))?;
            if !planted::has(Bug::ManifestDirNotSynced) {
                vfs.sync_dir(paths.root()).map_err(|e| Error::io("sync", paths.root(), e))?;
            }
        }
        Ok(())
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        for number in [self.store_id, self.number, self.next_segment, self.wal_floor] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let probation = u32::try_from(self.clock_probation.as_secs()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&probation.to_le_bytes());
        let raw_from = self.raw_from.unwrap_or(Timestamp::MIN);
        bytes.extend_from_slice(&raw_from.as_millis().to_le_bytes());
        bytes.extend_from_slice(&(self.segments.len() as u32).to_le_bytes());
        for segment in &self.segments {
            bytes.extend_from_slice(&segment.id.to_le_bytes());
            bytes.push(segment.tier);
            bytes.push(u8::from(segment.is_cold));
            bytes.extend_from_slice(&segment.len.to_le_bytes());
            bytes.extend_from_slice(&segment.crc.to_le_bytes());
            bytes.extend_from_slice(&segment.first.to_le_bytes());
            bytes.extend_from_slice(&segment.last.to_le_bytes());
            bytes.extend_from_slice(&segment.sets.to_le_bytes());
            bytes.extend_from_slice(&segment.samples.to_le_bytes());
        }
        bytes.extend_from_slice(&(self.tiers.len() as u32).to_le_bytes());
        for tier in &self.tiers {
            put_tier(tier, &mut bytes);
        }
        bytes.extend_from_slice(&(self.tombstones.len() as u32).to_le_bytes());
        for tombstone in &self.tombstones {
            put_tombstone(tombstone, &mut bytes);
        }
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let damaged = |what: &'static str| Error::corrupt(path, 0, what);
        let Some((content, crc)) = bytes.split_last_chunk::<CRC_BYTES>() else {
            return Err(damaged("it is too short for a manifest"));
        };
        let mut reader = Reader::new(content);
        let header = |reader: &mut Reader<'_>| Ok((reader.array::<8>()?, reader.u32()?));
        let (magic, version) =
            header(&mut reader).map_err(|Malformed(what)| Error::corrupt(path, 0, what))?;
        let is_sound = crc32fast::hash(content).to_le_bytes() == *crc;
        if !is_sound && !planted::has(Bug::ManifestUnchecked) {
            return Err(damaged("its checksum differs"));
        }
        if magic != MAGIC {
            return Err(damaged("it does not begin as a manifest does"));
        }
        if version == 0 || version > VERSION {
            let path = path.to_owned();
            return Err(Error::UnsupportedVersion { path, found: version, max: VERSION });
        }
        Self::read_body(&mut reader)
            .map_err(|Malformed(what)| Error::corrupt(path, HEADER_BYTES as u64, what))
    }

    fn read_body(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (store_id, number) = (reader.u64()?, reader.u64()?);
        let (next_segment, wal_floor) = (reader.u64()?, reader.u64()?);
        let clock_probation = Duration::from_secs(reader.u32()?.into());
        let raw_from = Some(read_time(reader)?).filter(|from| *from > Timestamp::MIN);
        let mut segments: Vec<SegmentInfo> = Vec::new();
        for _ in 0..reader.u32()? {
            let segment = SegmentInfo {
                id: reader.u64()?,
                tier: reader.byte()?,
                is_cold: read_flag(reader)?,
                len: reader.u64()?,
                crc: reader.u32()?,
                first: reader.u64()? as i64,
                last: reader.u64()? as i64,
                sets: reader.u64()?,
                samples: reader.u64()?,
            };
            let is_next = segments.last().is_none_or(|before| before.id < segment.id);
            if !is_next || segment.id >= next_segment {
                return Err(Malformed("the segments are not in order"));
            }
            segments.push(segment);
        }
        let mut tiers: Vec<TierState> = Vec::new();
        for _ in 0..reader.u32()? {
            let tier = read_tier(reader)?;
            if tiers.last().is_some_and(|before| before.tier >= tier.tier) {
                return Err(Malformed("the tiers are not in order"));
            }
            tiers.push(tier);
        }
        let mut tombstones = Vec::new();
        for _ in 0..reader.u32()? {
            tombstones.push(read_tombstone(reader)?);
        }
        let manifest = Self {
            store_id,
            number,
            next_segment,
            wal_floor,
            clock_probation,
            raw_from,
            segments,
            tiers,
            tombstones,
        };
        if reader.is_empty() { Ok(manifest) } else { Err(Malformed("bytes follow the tombstones")) }
    }
}

fn put_tier(tier: &TierState, bytes: &mut Vec<u8>) {
    bytes.push(tier.tier);
    bytes.extend_from_slice(&(tier.resolution.as_millis() as u64).to_le_bytes());
    bytes.extend_from_slice(&tier.complete_from.as_millis().to_le_bytes());
    bytes.extend_from_slice(&tier.built_to.as_millis().to_le_bytes());
    bytes.extend_from_slice(&(tier.stale.len() as u32).to_le_bytes());
    tier.stale.iter().for_each(|range| put_range(*range, bytes));
}

fn read_tier(reader: &mut Reader<'_>) -> Result<TierState, Malformed> {
    let (tier, resolution) = (reader.byte()?, Duration::from_millis(reader.u64()?));
    if tier == 0 || resolution.is_zero() {
        return Err(Malformed("a tier of aggregates has no number or no resolution"));
    }
    let (complete_from, built_to) = (read_time(reader)?, read_time(reader)?);
    let mut stale = Vec::new();
    for _ in 0..reader.u32()? {
        stale.push(read_range(reader)?);
    }
    Ok(TierState { tier, resolution, complete_from, built_to, stale })
}

fn put_tombstone(tombstone: &Tombstone, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&tombstone.segments_below.to_le_bytes());
    put_range(tombstone.range, bytes);
    put_varint(bytes, tombstone.matchers.len() as u64);
    for matcher in &tombstone.matchers {
        let (op, text) = match matcher.op() {
            MatchOp::Equal(text) => (1, text),
            MatchOp::NotEqual(text) => (2, text),
            MatchOp::Regex(text) => (3, text),
            MatchOp::NotRegex(text) => (4, text),
        };
        bytes.push(op);
        put_text(bytes, matcher.name());
        put_text(bytes, text);
    }
}

fn read_tombstone(reader: &mut Reader<'_>) -> Result<Tombstone, Malformed> {
    let (segments_below, range) = (reader.u64()?, read_range(reader)?);
    let mut matchers = Vec::new();
    for _ in 0..reader.count()? {
        let op = reader.byte()?;
        let (name, text) = (Text::from(reader.text()?), Text::from(reader.text()?));
        let bad_pattern = |_| Malformed("a tombstone has a pattern that does not compile");
        matchers.push(match op {
            1 => Matcher::equal(name, text),
            2 => Matcher::not_equal(name, text),
            3 => Matcher::regex(name, text).map_err(bad_pattern)?,
            4 => Matcher::not_regex(name, text).map_err(bad_pattern)?,
            _ => return Err(Malformed("a tombstone has an unknown matcher")),
        });
    }
    Ok(Tombstone { segments_below, matchers, range })
}

fn put_range(range: TimeRange, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&range.start.as_millis().to_le_bytes());
    bytes.extend_from_slice(&range.end.as_millis().to_le_bytes());
}

fn read_range(reader: &mut Reader<'_>) -> Result<TimeRange, Malformed> {
    Ok(TimeRange::new(read_time(reader)?, read_time(reader)?))
}

fn read_time(reader: &mut Reader<'_>) -> Result<Timestamp, Malformed> {
    let time = Timestamp::checked_from_millis(reader.u64()? as i64);
    time.ok_or(Malformed("a time is outside the years 1 to 9999"))
}

fn read_flag(reader: &mut Reader<'_>) -> Result<bool, Malformed> {
    match reader.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed("a flag is neither 0 nor 1")),
    }
}

fn write(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> Result<()> {
    remove_if_there(vfs, path).map_err(|source| Error::io("remove", path, source))?;
    let file = vfs.create_new(path).map_err(|source| Error::io("create", path, source))?;
    if let Err(source) = write_all_at(&*file, bytes, 0) {
        let _ = vfs.remove(path);
        return Err(Error::io("write", path, source));
    }
    if planted::has(Bug::ManifestNotSynced) {
        return Ok(());
    }
    file.sync().map_err(|source| Error::io("sync", path, source))
}

/// Writes a prepared copy over the one before: see [`Bug::ManifestInPlace`].
fn overwrite(vfs: &dyn Vfs, path: &Path) -> std::io::Result<()> {
    let prepared = vfs.open(&temporary(path))?;
    let mut bytes = vec![0; prepared.size()? as usize];
    read_exact_at(&*prepared, &mut bytes, 0)?;
    let file = vfs.open_for_write(path)?;
    file.set_len(0)?;
    write_all_at(&*file, &bytes, 0)?;
    file.sync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::faulty::FaultyVfs;

    fn store(vfs: &FaultyVfs, paths: &Paths) {
        manifest().prepare(vfs, paths).unwrap();
        Manifest::publish(vfs, paths).unwrap();
    }

    fn manifest() -> Manifest {
        let range = TimeRange::new(Timestamp::from_millis(-7), Timestamp::from_millis(7));
        let segment = |id| SegmentInfo {
            id,
            tier: 0,
            is_cold: id == 8,
            len: 1000,
            crc: 7,
            first: -5,
            last: 5,
            sets: 2,
            samples: 20,
        };
        Manifest {
            store_id: 0x0102_0304_0506_0708,
            number: 4,
            next_segment: 9,
            wal_floor: 3,
            clock_probation: Duration::from_secs(3600),
            raw_from: Some(Timestamp::from_millis(-3)),
            segments: vec![segment(2), segment(8)],
            tiers: vec![TierState {
                tier: 1,
                resolution: Duration::from_secs(300),
                complete_from: Timestamp::from_millis(300_000),
                built_to: Timestamp::from_millis(600_000),
                stale: vec![range],
            }],
            tombstones: vec![Tombstone {
                segments_below: 7,
                matchers: vec![
                    Matcher::equal("a", "b"),
                    Matcher::not_equal("c", ""),
                    Matcher::regex("d", "e|f").unwrap(),
                    Matcher::not_regex("g", "h.+").unwrap(),
                ],
                range,
            }],
        }
    }

    #[test]
    fn either_copy_is_enough_whichever_byte_of_the_other_is_damaged() {
        let paths = Paths::new(Path::new("/d"));
        let len = manifest().to_bytes().len();
        for path in [paths.manifest(), paths.manifest_copy()] {
            for offset in 0..len {
                let vfs = FaultyVfs::new();
                vfs.create_dir_all(paths.root()).unwrap();
                store(&vfs, &paths);
                vfs.flip_bit(&path, offset, (offset % 8) as u8).unwrap();
                let loaded = Manifest::load(&vfs, &paths).unwrap().unwrap();
                assert_eq!(loaded.manifest, manifest());
                assert!(loaded.needs_repair && loaded.may_be_stale);
            }
        }
    }

    #[test]
    fn a_copy_that_was_left_behind_is_written_again() {
        let paths = Paths::new(Path::new("/d"));
        let vfs = FaultyVfs::new();
        vfs.create_dir_all(paths.root()).unwrap();
        store(&vfs, &paths);
        assert!(!Manifest::load(&vfs, &paths).unwrap().unwrap().needs_repair);
        let newer = Manifest { number: 5, ..manifest() };
        newer.prepare(&vfs, &paths).unwrap();
        vfs.rename(&temporary(&paths.manifest()), &paths.manifest()).unwrap();
        let loaded = Manifest::load(&vfs, &paths).unwrap().unwrap();
        assert_eq!(loaded.manifest, newer);
        assert!(loaded.needs_repair && !loaded.may_be_stale);
    }

    #[test]
    fn two_damaged_copies_are_an_error_and_none_is_a_new_store() {
        let paths = Paths::new(Path::new("/d"));
        let vfs = FaultyVfs::new();
        vfs.create_dir_all(paths.root()).unwrap();
        assert!(Manifest::load(&vfs, &paths).unwrap().is_none());
        store(&vfs, &paths);
        vfs.flip_bit(&paths.manifest(), 30, 0).unwrap();
        vfs.flip_bit(&paths.manifest_copy(), 31, 0).unwrap();
        assert!(Manifest::load(&vfs, &paths).unwrap_err().is_corruption());
    }

    #[test]
    fn the_bytes_are_those_of_version_1() {
        let fixture = include_bytes!("../testdata/v1/manifest");
        assert_eq!(manifest().to_bytes(), fixture);
        assert_eq!(Manifest::parse(Path::new("M"), fixture).unwrap(), manifest());
    }

    #[test]
    fn a_newer_version_is_refused() {
        let mut bytes = manifest().to_bytes();
        bytes[8] = 2;
        let end = bytes.len() - 4;
        let crc = crc32fast::hash(&bytes[..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&crc);
        let refused = Manifest::parse(Path::new("M"), &bytes).unwrap_err();
        assert!(matches!(refused, Error::UnsupportedVersion { found: 2, max: 1, .. }));
    }
}
