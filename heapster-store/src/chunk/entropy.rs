//! Integers in the fewest bytes, for data that is seldom read: bins and entropy codes of the `pco`
//! crate.
//!
//! Of its format only what integers need is written and let through to it when reading. The rest
//! could make it allocate far more than there are values.

use std::ops::Range;

use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DeltaSpec, ModeSpec, PagingSpec};

use crate::chunk::packed;
use crate::chunk::tag::{Codec, Tag};
use crate::codec::{ByteReader, Decoded, Malformed};

/// Fewer values do not pay for the tables that their codes need.
const VALUES_MIN: usize = 64;
/// Values that the decoder gives at once.
const BATCH: usize = pco::FULL_BATCH_N;
/// Differences are taken up to so many times.
const ORDER_MAX: usize = 2;
/// The format's version as it lies before the tables.
const VERSION: [u8; 2] = [4, 1];
/// The byte after it: plain integers, and whether differences are taken.
const PLAIN: u8 = 0x00;
const PLAIN_DIFFERENCES: u8 = 0x10;
/// Under Miri, which stops in a dependency of `pco` that borrows otherwise than it allows.
const IS_LEFT_OUT: bool = cfg!(miri);
const REFUSED: Malformed = Malformed::Bytes("entropy codes are broken");

/// Integers in the fewest bytes.
pub(super) struct Plan {
    scale_and_first: Vec<u8>,
    is_scaled: bool,
    codes: Vec<u8>,
    /// How many bytes it takes.
    pub cost: usize,
}

impl Plan {
    /// `None` when there are too few values.
    pub(super) fn new(packed: &packed::Plan) -> Option<Self> {
        let multiples = packed.multiples();
        if multiples.len() < VALUES_MIN || IS_LEFT_OUT {
            return None;
        }
        let codes = (0..=ORDER_MAX).filter_map(|order| compress(multiples, order));
        let codes = codes.min_by_key(Vec::len)?;
        let mut scale_and_first = Vec::new();
        packed.put_head(&mut scale_and_first);
        let cost = scale_and_first.len().saturating_add(codes.len());
        Some(Self { scale_and_first, is_scaled: packed.tag().scaled, codes, cost })
    }

    pub(super) fn tag(&self) -> Tag {
        Tag { codec: Codec::Entropy, scaled: self.is_scaled, summary: false }
    }

    /// Appends the body.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.scale_and_first);
        out.extend_from_slice(&self.codes);
    }
}

/// Version, tables and codes; `None` when they are not what [`decode`] lets through.
fn compress(multiples: &[i64], order: usize) -> Option<Vec<u8>> {
    let delta = if order == 0 { DeltaSpec::NoOp } else { DeltaSpec::TryConsecutive(order) };
    let config = ChunkConfig::default()
        .with_mode_spec(ModeSpec::Classic)
        .with_delta_spec(delta)
        .with_paging_spec(PagingSpec::Exact(vec![multiples.len()]));
    let file = FileCompressor::default();
    let mut chunk = file.chunk_compressor(multiples, &config).ok()?;
    let out = file.write_header(Vec::new()).ok()?;
    let out = chunk.write_meta(out).ok()?;
    let out = chunk.write_page(0, out).ok()?;
    check_head(&out).is_ok().then_some(out)
}

/// Lets through what [`compress`] writes.
fn check_head(codes: &[u8]) -> Decoded<()> {
    if IS_LEFT_OUT {
        return Err(REFUSED);
    }
    let mut head = ByteReader::new(codes);
    let version = [head.u8()?, head.u8()?];
    let kind = head.u8()?;
    if version != VERSION || !matches!(kind, PLAIN | PLAIN_DIFFERENCES) {
        return Err(Malformed::Bytes("entropy codes are of a kind that is not allowed"));
    }
    Ok(())
}

/// Decodes the values of `rows`, which lie below `count`, into as many slots.
pub(super) fn decode(
    tag: Tag,
    mut body: ByteReader<'_>,
    count: usize,
    rows: Range<usize>,
    into: &mut [i64],
) -> Decoded<()> {
    let (first, scale) = packed::get_head(tag, &mut body)?;
    check_head(body.rest())?;
    if rows == (0..count) {
        decompress(body.rest(), count, into)?;
    } else {
        // There is no way into the midst of the codes, but one out of it.
        let needed = rows.end.div_ceil(BATCH).saturating_mul(BATCH).min(count);
        let mut before = vec![0; needed];
        decompress(body.rest(), count, &mut before)?;
        into.copy_from_slice(before.get(rows).unwrap_or_default());
    }
    for slot in into {
        *slot = first.wrapping_add(slot.wrapping_mul(scale));
    }
    Ok(())
}

/// Decodes the first values of `count`, all of them or some batches.
fn decompress(codes: &[u8], count: usize, into: &mut [i64]) -> Decoded<()> {
    let (file, rest) = FileDecompressor::new(codes).map_err(|_| REFUSED)?;
    let (mut chunk, rest) = file.chunk_decompressor::<i64, _>(rest).map_err(|_| REFUSED)?;
    let mut page = chunk.page_decompressor(rest, count).map_err(|_| REFUSED)?;
    let progress = page.read(into).map_err(|_| REFUSED)?;
    if progress.n_processed != into.len() || progress.finished != (into.len() == count) {
        return Err(REFUSED);
    }
    if progress.finished { ByteReader::new(page.into_src()).finish() } else { Ok(()) }
}
