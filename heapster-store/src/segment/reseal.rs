//! Segments in a short form, so that fuzzing gets behind what every segment must have: the frame, the
//! copies, the zeros and the checksums. Nothing else may make these right: a checksum that is wrong is
//! the only witness of damage.

use crate::codec::salted_crc32;
use crate::segment::Segment;
use crate::segment::format::{
    Footer, GROUP_CRC_LEN, GROUPS_START, Layout, Place, SECTIONS, header, trailer,
};

/// Bytes of the footer that are facts about the whole file; its places follow.
const FACTS_LEN: usize = 64;
/// The facts, then the lengths of the row groups and of the sections.
const HEAD_LEN: usize = FACTS_LEN + 2 * (1 + SECTIONS.len());

/// What a short form has, in its order.
struct Short<'a> {
    facts: [u8; FACTS_LEN],
    groups: &'a [u8],
    sections: [&'a [u8]; SECTIONS.len()],
}

impl<'a> Short<'a> {
    /// Lengths count as far as there are bytes; the last section takes the rest.
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (head, mut rest) = bytes.split_at_checked(HEAD_LEN)?;
        let (facts, lens) = head.split_at(FACTS_LEN);
        let mut lens = lens.chunks_exact(2).map(|len| u16::from_le_bytes([len[0], len[1]]));
        let mut next = |is_last: bool| {
            let len = usize::from(lens.next().unwrap_or(0)).min(rest.len());
            let (part, others) = rest.split_at(if is_last { rest.len() } else { len });
            rest = others;
            part
        };
        let groups = next(false);
        let mut sections: [&[u8]; SECTIONS.len()] = [&[]; _];
        for (index, section) in sections.iter_mut().enumerate() {
            *section = next(index + 1 == SECTIONS.len());
        }
        Some(Self { facts: facts.try_into().ok()?, groups, sections })
    }

    fn footer(&self) -> Footer {
        let number = |at: usize| u64_at(&self.facts, at);
        let id = number(0);
        let groups_end = GROUPS_START + self.groups.len() as u64;
        let layout = Layout::new(groups_end, self.sections.map(|bytes| bytes.len() as u64));
        let place = |offset: u64, bytes: &[u8]| Place {
            offset,
            len: bytes.len() as u64,
            crc: salted_crc32(id, offset, bytes),
        };
        let (mut sections, mut copies) = ([Place::default(); _], [Place::default(); _]);
        for (index, bytes) in self.sections.iter().enumerate() {
            sections[index] = place(layout.sections[index], bytes);
            if SECTIONS[index].is_copied() {
                copies[index] = place(layout.copies[index], bytes);
            }
        }
        Footer {
            id,
            tier: self.facts[8],
            is_cold: self.facts[9] & 1 == 1,
            first: number(16) as i64,
            last: number(24) as i64,
            sets: number(32),
            samples: number(40),
            groups: number(48),
            groups_end,
            sections,
            copies,
        }
    }
}

/// The whole file of a short form; nothing of one that is too short for a head.
pub(crate) fn unfold(bytes: &[u8]) -> Option<Vec<u8>> {
    let short = Short::read(bytes)?;
    let footer = short.footer();
    let layout = Layout::new(footer.groups_end, footer.sections.map(|place| place.len));
    let mut file = vec![0; layout.end as usize];
    let mut put = |offset: u64, bytes: &[u8]| {
        let offset = offset as usize;
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    put(0, &header(footer.id, footer.tier));
    put(GROUPS_START, short.groups);
    for ((section, bytes), (place, copy)) in
        SECTIONS.iter().zip(short.sections).zip(footer.sections.iter().zip(&footer.copies))
    {
        put(place.offset, bytes);
        if section.is_copied() {
            put(copy.offset, bytes);
        }
    }
    let mut end = footer.encode();
    end.extend_from_slice(&trailer(salted_crc32(footer.id, layout.end, &end)));
    put(GROUPS_START - end.len() as u64, &end);
    file.extend_from_slice(&end);
    Some(file)
}

/// The short form of a sound segment, of which row groups and sections are shorter than 64 KiB.
pub(crate) fn fold(segment: &Segment, file: &[u8]) -> Option<Vec<u8>> {
    let footer = &segment.footer;
    let part = |from: u64, to: u64| file.get(from as usize..to as usize);
    let mut parts = vec![part(GROUPS_START, footer.groups_end)?];
    for place in &footer.sections {
        parts.push(part(place.offset, place.offset + place.len)?);
    }
    let mut short = footer.encode();
    short.truncate(FACTS_LEN);
    for part in &parts {
        short.extend_from_slice(&u16::try_from(part.len()).ok()?.to_le_bytes());
    }
    Some([short, parts.concat()].concat())
}

/// Rewrites the checksums of the row groups that the segment, opened from the same bytes, names.
pub(crate) fn reseal_groups(segment: &Segment, file: &mut [u8]) {
    let id = segment.info().id;
    for set in 0..segment.sets() {
        for group in segment.row_groups(set).unwrap_or_default() {
            let (offset, len) = (group.group.offset, u64::from(group.group.len));
            let end = offset.saturating_add(len);
            // What overlaps a section would break that.
            if end > segment.footer.groups_end || len < GROUP_CRC_LEN {
                continue;
            }
            let Some(bytes) = file.get_mut(offset as usize..end as usize) else { continue };
            let (crc, body) = bytes.split_at_mut(GROUP_CRC_LEN as usize);
            crc.copy_from_slice(&salted_crc32(id, offset, body).to_le_bytes());
        }
    }
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
}
