//! Constants and fixed-size parts of a segment file. Described in `docs/format/segment.md`.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

use crate::codec::{ByteReader, Decoded, Malformed};

/// What the file begins with.
pub(super) const MAGIC: [u8; 8] = *b"HEAPSEG\n";
/// What the file ends with.
pub(super) const END_MAGIC: [u8; 8] = *b"\nGESPAEH";
/// The version this program writes, and the newest it reads.
pub(super) const VERSION: u16 = 1;
/// Length of the header: magic, version, tier, reserved, reserved, id.
pub(super) const HEADER_LEN: u64 = 24;
/// Length of the trailer: length of the footer, its checksum, end magic.
pub(super) const TRAILER_LEN: u64 = 16;
/// Where the row groups begin: behind the header and the first copy of footer and trailer.
pub(super) const GROUPS_START: u64 = HEADER_LEN + FOOTER_LEN + TRAILER_LEN;
/// The two copies of a section are at least so far apart that what a disk loses as one is no more
/// than one of them.
pub(super) const DISTANCE: u64 = 4096;
/// Length of a row group's checksum, which comes before it.
pub(super) const GROUP_CRC_LEN: u64 = 4;

/// Most columns of a row group.
pub(super) const GROUP_COLUMNS_MAX: usize = 65_536;
/// Most cells (rows times columns) of a row group, so that a few bytes cannot unfold into gigabytes.
pub(super) const GROUP_CELLS_MAX: usize = 1 << 22;
/// Most labels of a set.
pub(super) const LABELS_MAX: usize = 65_536;

/// The sections, in the order of the file. Numbered from one; zero is reserved.
pub(super) const SECTIONS: [Section; 6] = [
    Section::Symbols,
    Section::LabelNames,
    Section::Columns,
    Section::Sets,
    Section::Postings,
    Section::Clocks,
];

/// A checksummed region of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Section {
    /// Every string, sorted, each once.
    Symbols = 1,
    /// The distinct lists of label names.
    LabelNames = 2,
    /// The distinct lists of columns.
    Columns = 3,
    /// Label values and row groups of each set.
    Sets = 4,
    /// From metric names and label pairs to sets.
    Postings = 5,
    /// The distinct lists of timestamps.
    Clocks = 6,
}

/// Where a section lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub offset: u64,
    pub len: u64,
    pub crc: u32,
}

/// The footer: facts about the whole file and where its sections are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub id: u64,
    pub tier: u8,
    pub is_cold: bool,
    pub first: i64,
    pub last: i64,
    pub sets: u64,
    pub samples: u64,
    pub groups: u64,
    /// End of the row groups, which begin at [`GROUPS_START`].
    pub groups_end: u64,
    pub sections: [Place; SECTIONS.len()],
    /// The copies of the sections; nothing of the postings, which are made of the other sections.
    pub copies: [Place; SECTIONS.len()],
}

/// Length of the footer without its trailer.
pub(super) const FOOTER_LEN: u64 = 64 + 36 * SECTIONS.len() as u64;

impl Section {
    /// Whether it is in the file twice.
    pub(super) fn is_copied(self) -> bool {
        self != Self::Postings
    }
}

/// Where everything behind the row groups lies: copies of the sections, postings, zeros, sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Where each section begins.
    pub sections: [u64; SECTIONS.len()],
    /// Where its copy begins; 0 where there is none.
    pub copies: [u64; SECTIONS.len()],
    /// Where the zeros begin that keep the sections away from their copies, and how many they are.
    pub padding: (u64, u64),
    /// Where the footer begins.
    pub end: u64,
}

impl Layout {
    /// The layout of sections of these lengths behind row groups that end there.
    pub(super) fn new(groups_end: u64, lens: [u64; SECTIONS.len()]) -> Self {
        let mut layout =
            Self { sections: [0; _], copies: [0; _], padding: (0, 0), end: groups_end };
        let (mut longest, mut between) = (0, 0_u64);
        for ((section, len), copy) in SECTIONS.iter().zip(lens).zip(&mut layout.copies) {
            between = between.saturating_add(len);
            if section.is_copied() {
                longest = longest.max(len);
                *copy = layout.end;
                layout.end = layout.end.saturating_add(len);
            }
        }
        let zeros = DISTANCE.saturating_sub(between.saturating_sub(longest));
        for is_copied in [false, true] {
            for ((section, len), place) in SECTIONS.iter().zip(lens).zip(&mut layout.sections) {
                if section.is_copied() == is_copied {
                    *place = layout.end;
                    layout.end = layout.end.saturating_add(len);
                }
            }
            if !is_copied {
                layout.padding = (layout.end, zeros);
                layout.end = layout.end.saturating_add(zeros);
            }
        }
        layout
    }
}

/// The header of a segment.
pub(super) fn header(id: u64, tier: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN as usize);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.push(tier);
    out.extend_from_slice(&[0; 5]);
    out.extend_from_slice(&id.to_le_bytes());
    out
}

/// Why a header or footer was refused.
#[derive(Clone, Copy, Debug)]
pub(super) enum BadFrame {
    Malformed(Malformed),
    Version(u16),
}

impl From<Malformed> for BadFrame {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// Checks a header against what it should say.
pub(super) fn check_header(bytes: &[u8], id: u64, tier: u8) -> Result<(), BadFrame> {
    let mut reader = ByteReader::new(bytes);
    if reader.take(MAGIC.len())? != MAGIC {
        return Err(Malformed::Bytes("the file does not begin as a segment").into());
    }
    let version = reader.fixed_u16()?;
    if version != VERSION {
        return Err(BadFrame::Version(version));
    }
    let found_tier = reader.u8()?;
    if reader.take(5)? != [0; 5] {
        return Err(Malformed::Bytes("reserved bytes of the header are not zero").into());
    }
    if found_tier != tier || reader.fixed_u64()? != id {
        return Err(Malformed::Bytes("the header is that of another segment").into());
    }
    Ok(())
}

impl Footer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FOOTER_LEN as usize);
        out.extend_from_slice(&self.id.to_le_bytes());
        out.push(self.tier);
        out.push(u8::from(self.is_cold));
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(SECTIONS.len() as u32).to_le_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.last.to_le_bytes());
        out.extend_from_slice(&self.sets.to_le_bytes());
        out.extend_from_slice(&self.samples.to_le_bytes());
        out.extend_from_slice(&self.groups.to_le_bytes());
        out.extend_from_slice(&self.groups_end.to_le_bytes());
        for ((section, place), copy) in SECTIONS.iter().zip(&self.sections).zip(&self.copies) {
            out.extend_from_slice(&(*section as u32).to_le_bytes());
            out.extend_from_slice(&place.offset.to_le_bytes());
            out.extend_from_slice(&place.len.to_le_bytes());
            out.extend_from_slice(&place.crc.to_le_bytes());
            out.extend_from_slice(&copy.offset.to_le_bytes());
            out.extend_from_slice(&copy.crc.to_le_bytes());
        }
        out
    }

    /// Reads a footer whose checksum is right. `start` is where it begins in the file.
    pub(super) fn decode(bytes: &[u8], start: u64) -> Result<Self, BadFrame> {
        let mut reader = ByteReader::new(bytes);
        let id = reader.fixed_u64()?;
        let tier = reader.u8()?;
        let is_cold = reader.u8()?;
        if is_cold > 1 {
            return Err(Malformed::Bytes("the footer is neither cold nor not cold").into());
        }
        let version = reader.fixed_u16()?;
        if version != VERSION {
            return Err(BadFrame::Version(version));
        }
        if reader.fixed_u32()? != SECTIONS.len() as u32 {
            return Err(Malformed::Bytes("the footer has not the known number of sections").into());
        }
        let first = reader.fixed_i64()?;
        let last = reader.fixed_i64()?;
        let sets = reader.fixed_u64()?;
        let samples = reader.fixed_u64()?;
        let groups = reader.fixed_u64()?;
        let groups_end = reader.fixed_u64()?;
        let mut sections = [Place::default(); SECTIONS.len()];
        let mut copies = [Place::default(); SECTIONS.len()];
        for ((section, place), copy) in SECTIONS.iter().zip(&mut sections).zip(&mut copies) {
            if reader.fixed_u32()? != *section as u32 {
                return Err(Malformed::Bytes("the footer names an unknown section").into());
            }
            *place = Place {
                offset: reader.fixed_u64()?,
                len: reader.fixed_u64()?,
                crc: reader.fixed_u32()?,
            };
            let (offset, crc) = (reader.fixed_u64()?, reader.fixed_u32()?);
            match section.is_copied() {
                true => *copy = Place { offset, len: place.len, crc },
                false if offset != 0 || crc != 0 => {
                    return Err(Malformed::Bytes("the postings have a copy").into());
                }
                false => {}
            }
        }
        reader.finish()?;
        // The parts of the file follow each other without gaps, so no byte is without a check.
        let layout = Layout::new(groups_end, sections.map(|place| place.len));
        let is_laid_out = layout.sections == sections.map(|place| place.offset)
            && layout.copies == copies.map(|place| place.offset)
            && layout.end == start;
        if groups_end < GROUPS_START || !is_laid_out {
            return Err(Malformed::Bytes("the sections do not fill the file").into());
        }
        if sets > u64::from(u32::MAX) || groups > u64::from(u32::MAX) {
            return Err(Malformed::Bytes("the footer counts more than a segment may hold").into());
        }
        let is_cold = is_cold == 1;
        Ok(Self {
            id,
            tier,
            is_cold,
            first,
            last,
            sets,
            samples,
            groups,
            groups_end,
            sections,
            copies,
        })
    }

    pub(super) fn place(&self, section: Section) -> Place {
        self.sections.get(index_of(section)).copied().unwrap_or_default()
    }

    pub(super) fn copy(&self, section: Section) -> Place {
        self.copies.get(index_of(section)).copied().unwrap_or_default()
    }
    /// Takes the copy of a section for the section.
    pub(super) fn swap(&mut self, section: Section) {
        let index = index_of(section);
        if let (Some(place), Some(copy)) =
            (self.sections.get_mut(index), self.copies.get_mut(index))
        {
            std::mem::swap(place, copy);
        }
    }

    /// The zeros between postings and sections: where they begin and how many they are.
    pub(super) fn padding(&self) -> (u64, u64) {
        Layout::new(self.groups_end, self.sections.map(|place| place.len)).padding
    }
}

/// The place of a section in a list of all.
pub(super) fn index_of(section: Section) -> usize {
    (section as usize).wrapping_sub(1)
}

/// The trailer of a file.
pub(super) fn trailer(footer_crc: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(TRAILER_LEN as usize);
    out.extend_from_slice(&(FOOTER_LEN as u32).to_le_bytes());
    out.extend_from_slice(&footer_crc.to_le_bytes());
    out.extend_from_slice(&END_MAGIC);
    out
}

/// The footer's checksum, as the trailer has it.
pub(super) fn check_trailer(bytes: &[u8]) -> Decoded<u32> {
    let mut reader = ByteReader::new(bytes);
    if u64::from(reader.fixed_u32()?) != FOOTER_LEN {
        return Err(Malformed::Bytes("the footer has not the known length"));
    }
    let crc = reader.fixed_u32()?;
    if reader.rest() != END_MAGIC {
        return Err(Malformed::Bytes("the file does not end as a segment"));
    }
    Ok(crc)
}
