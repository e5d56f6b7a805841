//! The first byte of a chunk: codec and flags.

use crate::codec::{Decoded, Malformed};

/// How the values of a chunk are encoded. Zero is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Codec {
    /// One integer, for all values.
    Constant = 1,
    /// Integers with how often each is repeated.
    Runs = 2,
    /// Integers as offsets from a base.
    Offsets = 3,
    /// Integers as differences from the value before.
    Deltas = 4,
    /// Integers as differences of differences.
    Curves = 5,
    /// One float, for all values.
    FloatConstant = 6,
    /// Floats that are integers divided by a power of ten.
    Decimals = 7,
    /// Floats as XOR with the value before.
    Xor = 8,
    /// Integers and floats.
    Mixed = 9,
    /// Integers with a bit for each that says whether it differs from the one before.
    Changes = 10,
    /// Floats as the integers that their bits make.
    Patterns = 11,
    /// Integers in entropy codes.
    Entropy = 12,
}

impl Codec {
    /// Whether it is one of packed integers.
    pub(crate) fn is_packed(self) -> bool {
        matches!(self, Self::Offsets | Self::Deltas | Self::Curves)
    }

    /// The word in the description of the format.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Runs => "runs",
            Self::Offsets => "offsets",
            Self::Deltas => "deltas",
            Self::Curves => "curves",
            Self::FloatConstant => "constant float",
            Self::Decimals => "decimals",
            Self::Xor => "XOR",
            Self::Mixed => "mixed",
            Self::Changes => "changes",
            Self::Patterns => "patterns",
            Self::Entropy => "entropy",
        }
    }
}

const CODEC_BITS: u8 = 0b0001_1111;
const RESERVED: u8 = 0b0010_0000;
const SCALED: u8 = 0b0100_0000;
const SUMMARY: u8 = 0b1000_0000;

/// Codec and flags of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    /// How the values are encoded.
    pub codec: Codec,
    /// Whether a common divisor is stored; packed integers and entropy codes only.
    pub scaled: bool,
    /// Whether a summary is stored.
    pub summary: bool,
}

impl Tag {
    /// A tag without flags.
    pub(crate) fn plain(codec: Codec) -> Self {
        Self { codec, scaled: false, summary: false }
    }

    pub(crate) fn to_byte(self) -> u8 {
        let flag = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        self.codec as u8 | flag(self.scaled, SCALED) | flag(self.summary, SUMMARY)
    }

    pub(crate) fn from_byte(byte: u8) -> Decoded<Self> {
        let codec = match byte & CODEC_BITS {
            1 => Codec::Constant,
            2 => Codec::Runs,
            3 => Codec::Offsets,
            4 => Codec::Deltas,
            5 => Codec::Curves,
            6 => Codec::FloatConstant,
            7 => Codec::Decimals,
            8 => Codec::Xor,
            9 => Codec::Mixed,
            10 => Codec::Changes,
            11 => Codec::Patterns,
            12 => Codec::Entropy,
            0 => return Err(Malformed::Bytes("a chunk has the reserved codec 0")),
            unknown => return Err(Malformed::Unknown(unknown)),
        };
        let may_scale = codec.is_packed() || codec == Codec::Entropy;
        if byte & RESERVED != 0 || byte & SCALED != 0 && !may_scale {
            return Err(Malformed::Bytes("a chunk has a flag its codec does not know"));
        }
        Ok(Self { codec, scaled: byte & SCALED != 0, summary: byte & SUMMARY != 0 })
    }
}
