//! Floats as XOR with the value before, as in Gorilla (Pelkonen et al., VLDB 2015, section 4.1.2).

use crate::codec::bits::{BitReader, BitWriter, mask};
use crate::codec::{Decoded, Malformed};

/// The paper's limit: leading zeros have five bits.
const LEADING_ZEROS_MAX: u32 = 31;
/// Bits of a new window: two that announce it, leading zeros, width.
const WINDOW_BITS: u32 = 13;

/// What is written for a value.
enum Step {
    /// The value before again.
    Same,
    /// A XOR in the last window; its trailing zeros and width.
    Within { trailing: u32, width: u32 },
    /// A XOR with a window of its own.
    Window { leading: u32, trailing: u32, width: u32 },
}

/// The windows so far.
#[derive(Default)]
struct Steps {
    window: Option<(u32, u32)>,
}

impl Steps {
    fn next(&mut self, xor: u64) -> Step {
        if xor == 0 {
            return Step::Same;
        }
        let leading = xor.leading_zeros().min(LEADING_ZEROS_MAX);
        let trailing = xor.trailing_zeros();
        let width_of = |leading, trailing| 64_u32.wrapping_sub(leading).wrapping_sub(trailing);
        if let Some((last_leading, last_trailing)) = self.window
            && leading >= last_leading
            && trailing >= last_trailing
        {
            let width = width_of(last_leading, last_trailing);
            return Step::Within { trailing: last_trailing, width };
        }
        self.window = Some((leading, trailing));
        Step::Window { leading, trailing, width: width_of(leading, trailing) }
    }
}

fn xors(patterns: &[u64]) -> impl Iterator<Item = u64> {
    patterns.iter().zip(patterns.iter().skip(1)).map(|(a, b)| a ^ b)
}

/// Bytes of the body.
pub(super) fn len_of(patterns: &[u64]) -> usize {
    let mut steps = Steps::default();
    let bits = xors(patterns).map(|xor| match steps.next(xor) {
        Step::Same => 1,
        Step::Within { width, .. } => width.wrapping_add(2) as usize,
        Step::Window { width, .. } => width.wrapping_add(WINDOW_BITS) as usize,
    });
    bits.sum::<usize>().saturating_add(64).div_ceil(8)
}

/// Appends the body.
pub(super) fn put(patterns: &[u64], out: &mut Vec<u8>) {
    let mut writer = BitWriter::new(out);
    writer.put(patterns.first().copied().unwrap_or(0), 64);
    let mut steps = Steps::default();
    for xor in xors(patterns) {
        match steps.next(xor) {
            Step::Same => writer.put(0, 1),
            Step::Within { trailing, width } => {
                writer.put(0b01, 2);
                writer.put(xor.wrapping_shr(trailing), width);
            }
            Step::Window { leading, trailing, width } => {
                let window = 0b11 | leading << 2 | width.wrapping_sub(1) << 7;
                writer.put(u64::from(window), WINDOW_BITS);
                writer.put(xor.wrapping_shr(trailing), width);
            }
        }
    }
    writer.finish();
}

/// Decodes all values up to the last wanted one; the first `skip` of them are not wanted.
pub(super) fn decode(bytes: &[u8], skip: usize, into: &mut [u64], is_all: bool) -> Decoded<()> {
    let mut reader = BitReader::new(bytes);
    let mut bits = 0_u64;
    // As long as there is no window it has no bits, which no window has.
    let (mut width, mut trailing) = (0_u32, 0_u32);
    let mut is_sound = true;
    let mut next = |is_first: bool| {
        if is_first {
            bits = reader.get(64);
            return bits;
        }
        let head = reader.peek();
        if head & 1 == 0 {
            reader.skip(1);
            return bits;
        }
        if head & 2 == 0 {
            reader.skip(2);
            is_sound &= width > 0;
        } else {
            reader.skip(WINDOW_BITS);
            let leading = (head >> 2) as u32 & mask(5) as u32;
            width = ((head >> 7) as u32 & mask(6) as u32).wrapping_add(1);
            trailing = 64_u32.wrapping_sub(leading).wrapping_sub(width);
            is_sound &= leading.wrapping_add(width) <= 64;
        }
        bits ^= reader.get(width).wrapping_shl(trailing);
        bits
    };
    for index in 0..skip {
        next(index == 0);
    }
    let mut is_first = skip == 0;
    for slot in into {
        *slot = next(is_first);
        is_first = false;
    }
    if !is_sound {
        return Err(Malformed::Bytes("a float has no window or one of more than 64 bits"));
    }
    if is_all { reader.finish() } else { Ok(()) }
}
