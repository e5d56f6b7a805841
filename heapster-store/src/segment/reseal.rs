//! Makes header, footer and checksums of a changed file right again, so that fuzzing gets behind
//! them. Nothing else may: a checksum that is wrong is the only witness of damage.

use crate::codec::salted_crc32;
use crate::segment::Segment;
use crate::segment::format::{
    END_MAGIC, FOOTER_LEN, GROUP_CRC_LEN, HEADER_LEN, MAGIC, SECTIONS, TRAILER_LEN, VERSION,
    header, trailer,
};

/// Bytes of the footer before its sections, and of each of these.
const FACTS_LEN: usize = 64;
const SECTION_LEN: usize = 24;

/// Rewrites header, trailer, and what the footer says of versions, places and checksums. Lengths of
/// sections are kept as far as the file has them; the last one takes the rest.
pub(crate) fn reseal_frame(file: &mut [u8]) {
    let frame = (HEADER_LEN + FOOTER_LEN + TRAILER_LEN) as usize;
    let Some(body) = file.len().checked_sub(frame) else { return };
    let footer_start = file.len() - (FOOTER_LEN + TRAILER_LEN) as usize;
    let (data, end) = file.split_at_mut(footer_start);
    let (footer, end) = end.split_at_mut(FOOTER_LEN as usize);
    let id = u64_at(footer, 0);
    let tier = footer[8];
    data[..HEADER_LEN as usize].copy_from_slice(&header(id, tier));
    assert!(data.starts_with(&MAGIC));
    footer[10..12].copy_from_slice(&VERSION.to_le_bytes());
    footer[12..16].copy_from_slice(&(SECTIONS.len() as u32).to_le_bytes());
    let groups = (u64_at(footer, 56) as usize).saturating_sub(HEADER_LEN as usize).min(body);
    let mut offset = HEADER_LEN as usize + groups;
    footer[56..64].copy_from_slice(&(offset as u64).to_le_bytes());
    for (index, (section, place)) in
        SECTIONS.iter().zip(footer[FACTS_LEN..].chunks_exact_mut(SECTION_LEN)).enumerate()
    {
        let left = footer_start - offset;
        let is_last = index + 1 == SECTIONS.len();
        let len = if is_last { left } else { (u64_at(place, 12) as usize).min(left) };
        let crc = salted_crc32(id, offset as u64, &data[offset..offset + len]);
        place[..4].copy_from_slice(&(*section as u32).to_le_bytes());
        place[4..12].copy_from_slice(&(offset as u64).to_le_bytes());
        place[12..20].copy_from_slice(&(len as u64).to_le_bytes());
        place[20..24].copy_from_slice(&crc.to_le_bytes());
        offset += len;
    }
    end.copy_from_slice(&trailer(salted_crc32(id, footer_start as u64, footer)));
    assert!(end.ends_with(&END_MAGIC));
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
