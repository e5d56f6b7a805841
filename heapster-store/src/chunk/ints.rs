//! Integers: constant, in one of the ways for values that often stay, packed or in entropy codes.

use std::ops::Range;

use crate::chunk::repeats::{self, Changes};
use crate::chunk::tag::{Codec, Tag};
use crate::chunk::{Effort, entropy, packed};
use crate::codec::{ByteReader, Decoded, Malformed, put_i64};

/// Entropy codes save at least one of so many bytes, or they do not pay for slow reading.
const SLOW_BYTES: usize = 64;

/// The cheapest way to write integers.
pub(super) struct Plan<'a> {
    values: &'a [i64],
    way: Way,
    /// How many bytes it takes.
    pub cost: usize,
}

enum Way {
    Constant(i64),
    Runs,
    Changes(Changes),
    Packed(packed::Plan),
    Entropy(entropy::Plan),
}

impl<'a> Plan<'a> {
    /// `values` is not empty.
    pub(super) fn new(values: &'a [i64], effort: Effort) -> Self {
        let first = values.first().copied().unwrap_or(0);
        if values.iter().all(|value| *value == first) {
            return Self { values, way: Way::Constant(first), cost: packed::len_i64(first) };
        }
        let packed = packed::Plan::new(values);
        let mut cost = packed.cost;
        let mut better = None;
        if let Some(changes) = Changes::new(values) {
            let runs = repeats::len_of_runs(values);
            if changes.cost < cost {
                cost = changes.cost;
                better = Some(Way::Changes(changes));
            }
            if runs <= cost {
                cost = runs;
                better = Some(Way::Runs);
            }
        }
        if effort == Effort::Small
            && let Some(entropy) = entropy::Plan::new(&packed)
            && entropy.cost < cost.saturating_sub(cost / SLOW_BYTES)
        {
            cost = entropy.cost;
            better = Some(Way::Entropy(entropy));
        }
        Self { values, way: better.unwrap_or(Way::Packed(packed)), cost }
    }

    /// Appends tag and body.
    pub(super) fn put_with_tag(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.push(0);
        let tag = self.put(out);
        if let Some(slot) = out.get_mut(at) {
            *slot = tag.to_byte();
        }
    }

    /// Appends the body and says how it is encoded.
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Tag {
        match &self.way {
            Way::Constant(value) => {
                put_i64(out, *value);
                Tag::plain(Codec::Constant)
            }
            Way::Runs => {
                repeats::put_runs(self.values, out);
                Tag::plain(Codec::Runs)
            }
            Way::Changes(changes) => {
                changes.put(self.values, out);
                Tag::plain(Codec::Changes)
            }
            Way::Packed(packed) => {
                packed.put(out);
                packed.tag()
            }
            Way::Entropy(entropy) => {
                entropy.put(out);
                entropy.tag()
            }
        }
    }
}

/// Decodes the values of `rows`, which lie below `count`, into as many slots.
pub(super) fn decode(
    tag: Tag,
    mut body: ByteReader<'_>,
    count: usize,
    rows: Range<usize>,
    into: &mut [i64],
) -> Decoded<()> {
    match tag.codec {
        Codec::Constant => {
            into.fill(body.i64()?);
            body.finish()
        }
        Codec::Runs => repeats::decode_runs(body, count, rows, into),
        Codec::Changes => repeats::decode_changes(body, count, rows, into),
        Codec::Offsets | Codec::Deltas | Codec::Curves => {
            packed::decode(tag, body, count, rows, into)
        }
        Codec::Entropy => entropy::decode(tag, body, count, rows, into),
        _ => Err(Malformed::Bytes("integers are encoded as floats")),
    }
}
