//! Strings as arrays of bits: counting, searching, combining, and integers of any width.
//!
//! Bit 0 is the most significant bit of the first byte, as in Redis. What lies behind the end of a
//! string counts as zeros.
//!
//! Why words: a bitmap of many megabytes is walked in one step of its shard, so counting adds up
//! sixteen words with carries before it counts bits (Harley and Seal, in Warren, "Hacker's
//! Delight", 2nd ed., section 5-1), searching skips a word at a time, and combining is written so
//! that the compiler uses vector instructions. Each has a naive oracle in the tests.
#![forbid(unsafe_code)]

use std::ops::Range;

/// Bits of a byte, as a count of bits.
const BYTE: u64 = 8;
/// Bytes of the words that are added up before bits are counted.
const BLOCK_BYTES: usize = 16 * 8;

/// The bit at `offset`, counted from the first byte's most significant one.
#[inline]
pub fn get(bytes: &[u8], offset: u64) -> bool {
    let byte = usize::try_from(offset / BYTE).ok().and_then(|at| bytes.get(at));
    byte.is_some_and(|byte| byte & mask(offset) != 0)
}

/// Sets the bit at `offset`, which lies within `bytes`; answers what it was.
#[inline]
pub fn set(bytes: &mut [u8], offset: u64, bit: bool) -> bool {
    let byte = &mut bytes[(offset / BYTE) as usize];
    let was = *byte & mask(offset) != 0;
    if bit {
        *byte |= mask(offset);
    } else {
        *byte &= !mask(offset);
    }
    was
}

/// The bit of its byte at which `offset` points.
#[inline]
fn mask(offset: u64) -> u8 {
    0x80 >> (offset % BYTE)
}

/// Number of bits set in `bytes`.
pub fn count(bytes: &[u8]) -> u64 {
    let mut blocks = bytes.chunks_exact(BLOCK_BYTES);
    let mut counter = BlockCounter::default();
    for block in &mut blocks {
        counter.add(block);
    }
    let rest: u32 = blocks.remainder().chunks(8).map(|chunk| word(chunk).count_ones()).sum();
    counter.total() + u64::from(rest)
}

/// Number of bits set among the bits `range`, which lies within `bytes`.
pub fn count_within(bytes: &[u8], range: Range<u64>) -> u64 {
    if range.is_empty() {
        return 0;
    }
    let (first, last) = (range.start / BYTE, (range.end - 1) / BYTE);
    let whole = &bytes[first as usize..=last as usize];
    let before = whole[0] & !(0xFF >> (range.start % BYTE));
    let behind = whole[whole.len() - 1] & trailing(range.end);
    count(whole) - u64::from(before.count_ones() + behind.count_ones())
}

/// The bits of the byte of bit `end - 1` that lie behind it.
fn trailing(end: u64) -> u8 {
    match end % BYTE {
        0 => 0,
        used => 0xFF >> used,
    }
}

/// The first of the bits `range`, which lies within `bytes`, that is `bit`.
pub fn find(bytes: &[u8], range: Range<u64>, bit: bool) -> Option<u64> {
    if range.is_empty() {
        return None;
    }
    // Seen through `flip`, the bit looked for is a one; a byte without it is `flip` itself.
    let flip = if bit { 0 } else { 0xFF };
    let first = (range.start / BYTE) as usize;
    let within = &bytes[first..=((range.end - 1) / BYTE) as usize];
    let head = (within[0] ^ flip) & (0xFF >> (range.start % BYTE));
    let at = if head != 0 {
        (first, head)
    } else {
        let skipped = 1 + leading_run(&within[1..], flip);
        (first + skipped, within.get(skipped).map_or(0, |byte| byte ^ flip))
    };
    let found = at.0 as u64 * BYTE + u64::from(at.1.leading_zeros());
    (at.1 != 0 && found < range.end).then_some(found)
}

/// How many bytes at the beginning are `byte`.
fn leading_run(bytes: &[u8], byte: u8) -> usize {
    let wanted = u64::from_ne_bytes([byte; 8]);
    let words = bytes.chunks_exact(8).take_while(|chunk| word(chunk) == wanted).count() * 8;
    words + bytes[words..].iter().take_while(|&&other| other == byte).count()
}

/// Up to eight bytes as a word, zeros behind them.
#[inline]
fn word(chunk: &[u8]) -> u64 {
    match chunk.first_chunk::<8>() {
        Some(whole) => u64::from_ne_bytes(*whole),
        None => {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(bytes)
        }
    }
}

/// Counts bits over blocks of sixteen words: word `i` of the state holds, bit by bit, the digit of
/// weight 2^i of 64 sums, and only what overflows weight 8 is counted at once.
#[derive(Default)]
struct BlockCounter {
    digits: [u64; 4],
    sixteens: u64,
}

impl BlockCounter {
    /// Adds a block of [`BLOCK_BYTES`].
    fn add(&mut self, block: &[u8]) {
        let mut carry = [0; 16];
        for (word_of, chunk) in carry.iter_mut().zip(block.chunks_exact(8)) {
            *word_of = word(chunk);
        }
        let mut len = carry.len();
        for digit in &mut self.digits {
            for pair in 0..len / 2 {
                let (sum, over) = add_three(*digit, carry[2 * pair], carry[2 * pair + 1]);
                *digit = sum;
                carry[pair] = over;
            }
            len /= 2;
        }
        self.sixteens += u64::from(carry[0].count_ones());
    }

    fn total(&self) -> u64 {
        let digits = self.digits.iter().enumerate();
        digits.map(|(weight, digit)| u64::from(digit.count_ones()) << weight).sum::<u64>()
            + 16 * self.sixteens
    }
}

/// The sums of three bits at each place: the digits, and what is carried.
#[inline]
fn add_three(a: u64, b: u64, c: u64) -> (u64, u64) {
    let both = a ^ b;
    (both ^ c, (a & b) | (both & c))
}

/// How BITOP combines bitmaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combination {
    /// Bits that all have.
    And,
    /// Bits that any has.
    Or,
    /// Bits that an odd number have.
    Xor,
    /// Bits that the only one has not.
    Not,
    /// Bits that the first has and none of the others.
    Diff,
    /// Bits that one of the others has and the first has not.
    Diff1,
    /// Bits that the first has and one of the others too.
    AndOr,
    /// Bits that exactly one has.
    One,
}

impl Combination {
    /// The combination of `sources`, of which there is at least one; as long as the longest.
    pub fn of(self, sources: &[impl AsRef<[u8]>]) -> Vec<u8> {
        let len = sources.iter().map(|source| source.as_ref().len()).max().unwrap_or(0);
        let mut result = match sources.first() {
            Some(first) => padded(first.as_ref(), len),
            None => return Vec::new(),
        };
        let others = || sources[1..].iter().map(AsRef::as_ref);
        match self {
            Self::And => others().for_each(|other| and(&mut result, other)),
            Self::Or => others().for_each(|other| zip(&mut result, other, |a, b| a | b)),
            Self::Xor => others().for_each(|other| zip(&mut result, other, |a, b| a ^ b)),
            Self::Not => result.iter_mut().for_each(|byte| *byte = !*byte),
            Self::One => keep_single(&mut result, others()),
            Self::Diff | Self::Diff1 | Self::AndOr => {
                let mut any = vec![0; len];
                others().for_each(|other| zip(&mut any, other, |a, b| a | b));
                match self {
                    Self::Diff => zip(&mut result, &any, |first, any| first & !any),
                    Self::Diff1 => zip(&mut result, &any, |first, any| !first & any),
                    _ => zip(&mut result, &any, |first, any| first & any),
                }
            }
        }
        result
    }
}

fn padded(bytes: &[u8], len: usize) -> Vec<u8> {
    let mut padded = Vec::with_capacity(len);
    padded.extend_from_slice(bytes);
    padded.resize(len, 0);
    padded
}

/// Combines byte by byte, as far as `other` goes.
fn zip(result: &mut [u8], other: &[u8], combine: impl Fn(u8, u8) -> u8) {
    for (byte, other) in result.iter_mut().zip(other) {
        *byte = combine(*byte, *other);
    }
}

fn and(result: &mut [u8], other: &[u8]) {
    let (within, behind) = result.split_at_mut(other.len().min(result.len()));
    zip(within, other, |a, b| a & b);
    behind.fill(0);
}

/// Clears in `result` what any of the others has too, and sets what exactly one of them has.
fn keep_single<'a>(result: &mut [u8], others: impl Iterator<Item = &'a [u8]>) {
    let mut several = vec![0; result.len()];
    for other in others {
        for ((any, several), other) in result.iter_mut().zip(&mut several).zip(other) {
            *several |= *any & other;
            *any |= other;
        }
    }
    zip(result, &several, |any, several| any & !several);
}

/// An integer within a bitmap: its width and whether it has a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldType {
    signed: bool,
    bits: u32,
}

/// What becomes of an integer that a field cannot hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Its lowest bits are kept.
    #[default]
    Wrap,
    /// The nearest integer that the field can hold is.
    Saturate,
    /// The field stays as it is.
    Fail,
}

impl FieldType {
    /// A type of `bits` bits: 1 to 64 with a sign, to 63 without; nothing else has one.
    pub fn new(signed: bool, bits: i64) -> Option<Self> {
        let max = if signed { 64 } else { 63 };
        (1..=max).contains(&bits).then_some(Self { signed, bits: bits as u32 })
    }

    /// Number of bits.
    pub fn bits(self) -> u64 {
        u64::from(self.bits)
    }

    /// The integer at bit `offset`.
    pub fn get(self, bytes: &[u8], offset: u64) -> i64 {
        let (window, shift) = self.window(bytes, offset);
        self.truncate((window >> shift) as i64)
    }

    /// Makes the integer at bit `offset`, which lies within `bytes` whole, `value`.
    pub fn set(self, bytes: &mut [u8], offset: u64, value: i64) {
        let (window, shift) = self.window(bytes, offset);
        let mask = u128::from(u64::MAX >> (64 - self.bits)) << shift;
        let window = (window & !mask) | ((value as u128) << shift & mask);
        let first = (offset / BYTE) as usize;
        let room = bytes.len().min(first + WINDOW_BYTES) - first;
        bytes[first..first + room].copy_from_slice(&window.to_be_bytes()[..room]);
    }

    /// The bytes from that of `offset` on, and how far to the right the integer must be shifted.
    fn window(self, bytes: &[u8], offset: u64) -> (u128, u32) {
        let mut window = [0; WINDOW_BYTES];
        if let Some(tail) = usize::try_from(offset / BYTE).ok().and_then(|at| bytes.get(at..)) {
            let len = tail.len().min(WINDOW_BYTES);
            window[..len].copy_from_slice(&tail[..len]);
        }
        let shift = u128::BITS - (offset % BYTE) as u32 - self.bits;
        (u128::from_be_bytes(window), shift)
    }

    /// The lowest bits of `value`, as an integer of this type.
    fn truncate(self, value: i64) -> i64 {
        let unused = 64 - self.bits;
        if self.signed {
            value << unused >> unused
        } else {
            ((value as u64) << unused >> unused) as i64
        }
    }

    /// `value` plus `increment` as this type can hold it; nothing if it cannot and `overflow` is to
    /// fail.
    pub fn sum(self, value: i64, increment: i64, overflow: Overflow) -> Option<i64> {
        let limit = if self.signed {
            self.signed_limit(value, increment)
        } else {
            self.unsigned_limit(value, increment)
        };
        match (limit, overflow) {
            (None, _) => Some(value.wrapping_add(increment)),
            (Some(_), Overflow::Wrap) => Some(self.truncate(value.wrapping_add(increment))),
            (Some(limit), Overflow::Saturate) => Some(limit),
            (Some(_), Overflow::Fail) => None,
        }
    }

    /// The limit beyond which `value + increment` lies; `value` may be beyond it itself. A negative
    /// `value` stands for the number of 64 bits without a sign that has its bits, as in Redis.
    fn unsigned_limit(self, value: i64, increment: i64) -> Option<i64> {
        let max = i64::MAX >> (63 - self.bits);
        let sum = i128::from(value) + i128::from(increment);
        if value < 0 || value > max || sum > i128::from(max) {
            Some(max)
        } else {
            (sum < 0).then_some(0)
        }
    }

    /// The same with a sign. The differences to the limits wrap around at 64 bits, as Redis's do:
    /// what lies below a narrow field's least number by more than that is taken for too large.
    fn signed_limit(self, value: i64, increment: i64) -> Option<i64> {
        let max = i64::MAX >> (64 - self.bits);
        let min = !max;
        let (above, below) = (max.wrapping_sub(value), min.wrapping_sub(value));
        let narrow = self.bits < 64;
        let may_exceed = narrow || (value >= 0 && increment > 0);
        let may_fall_below = narrow || (value < 0 && increment < 0);
        if value > max || (may_exceed && increment > above) {
            Some(max)
        } else if value < min || (may_fall_below && increment < below) {
            Some(min)
        } else {
            None
        }
    }
}

/// Bytes in which a field of 64 bits lies, wherever it begins, and more.
const WINDOW_BYTES: usize = 16;

#[cfg(test)]
mod tests;
