//! LZF: the compression of strings in RDB, after the format of Marc Lehmann's liblzf.
//!
//! A stream of runs. A first byte below 32 says that one more than that many bytes follow as they
//! are. Otherwise its upper three bits are a length less two (seven: add the next byte), and its
//! lower five bits with the next byte a distance less one: so many bytes are repeated from so far
//! back, at most 264 bytes from at most 8 KiB.
//!
//! The compressor is greedy: it looks up the three bytes at hand in a table of where such were last
//! seen. The table is never cleared between strings: positions count on from string to string, and
//! one that lies before the present string stands for nothing. Compressing goes in steps, since a
//! string may have half a gigabyte.
#![forbid(unsafe_code)]

/// Longest run of plain bytes.
const LITERALS_MAX: usize = 32;
/// Shortest and longest repetition.
const MATCH_MIN: usize = 3;
const MATCH_MAX: usize = 264;
/// Farthest distance of a repetition.
const DISTANCE_MAX: usize = 1 << 13;
/// The largest table has 2^14 places: twice the window, 64 KiB.
const TABLE_BITS_MAX: u32 = 14;
const TABLE_BITS_MIN: u32 = 8;

/// The most bytes that one byte of compressed data can stand for: three make 264.
const EXPANSION_MAX: usize = MATCH_MAX / 3;

/// The place in a compressor's table where three bytes belong.
#[inline]
fn place(bytes: &[u8], bits: u32) -> usize {
    let three = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
    (three.wrapping_mul(0x9E37_79B1) >> (32 - bits)) as usize
}

/// A compressor, to be kept for many strings.
#[derive(Debug, Default)]
pub struct Lzf {
    /// Where, counted over all strings, each triple was last seen; less than `base` for nowhere.
    table: Vec<u32>,
    /// The present string's start in that count. At least 1, so that zero is nowhere.
    base: u32,
    /// The next string's.
    next_base: u32,
}

/// A string on its way through a compressor.
#[derive(Debug)]
pub struct Compression {
    bits: u32,
    at: usize,
    literals_from: usize,
    out: Vec<u8>,
    out_bytes_max: usize,
}

impl Lzf {
    /// A compressor, whose table is made when it is first needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Compresses `input` at once; nothing unless the result has at most `out_bytes_max` bytes.
    pub fn compress(&mut self, input: &[u8], out_bytes_max: usize) -> Option<Vec<u8>> {
        let mut compression = self.start(input.len(), out_bytes_max);
        while !self.step(&mut compression, input, usize::MAX) {}
        compression.finish()
    }

    /// Begins to compress a string of `len` bytes. Only one can be under way at a time.
    pub fn start(&mut self, len: usize, out_bytes_max: usize) -> Compression {
        let bits = (usize::BITS - len.leading_zeros()).clamp(TABLE_BITS_MIN, TABLE_BITS_MAX);
        if self.table.len() < 1 << bits {
            self.table.resize(1 << bits, 0);
        }
        self.base = self.next_base.max(1);
        if len as u64 >= u64::from(u32::MAX - self.base) {
            // The count is full and begins anew.
            self.table.fill(0);
            self.base = 1;
        }
        self.next_base = self.base.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
        Compression { bits, at: 0, literals_from: 0, out: Vec::new(), out_bytes_max }
    }

    /// Goes on with the compression of `input`, the same at every step, for about `budget` bytes of
    /// it; answers whether it is done.
    pub fn step(&mut self, state: &mut Compression, input: &[u8], budget: usize) -> bool {
        let until = state.at.saturating_add(budget);
        while state.at + MATCH_MIN <= input.len() {
            if !state.is_worth_it() {
                return true;
            }
            if state.at >= until {
                return false;
            }
            match self.find(state, input) {
                Some(distance) => self.repeat(state, input, distance),
                None => state.at += 1,
            }
        }
        state.at = input.len();
        state.put_literals(input);
        true
    }

    /// Notes where the three bytes at hand are; how far back they were last, if that is of use.
    #[inline]
    fn find(&mut self, state: &Compression, input: &[u8]) -> Option<usize> {
        let here = &input[state.at..];
        let last = &mut self.table[place(here, state.bits)];
        // A string beyond the count's width is not compressed from there on.
        let now = u32::try_from(state.at).ok()?.checked_add(self.base)?;
        let then = std::mem::replace(last, now);
        let distance = (now - then) as usize;
        let is_match = then >= self.base
            && distance <= DISTANCE_MAX
            && input[state.at - distance..][..MATCH_MIN] == here[..MATCH_MIN];
        is_match.then_some(distance)
    }

    /// Writes a repetition, as long as it goes.
    fn repeat(&mut self, state: &mut Compression, input: &[u8], distance: usize) {
        let here = &input[state.at..];
        let there = &input[state.at - distance..];
        let same = here.iter().zip(there).take(MATCH_MAX).skip(MATCH_MIN);
        let len = MATCH_MIN + same.take_while(|(a, b)| a == b).count();
        state.put_literals(input);
        let (code, offset) = (len - 2, distance - 1);
        let high = (offset >> 8) as u8;
        if code < 7 {
            state.out.push((code as u8) << 5 | high);
        } else {
            state.out.extend_from_slice(&[7 << 5 | high, (code - 7) as u8]);
        }
        state.out.push(offset as u8);
        let end = state.at + len;
        // The last places of the repetition are good starts for the next one.
        for at in (end - 2)..end {
            if at + MATCH_MIN <= input.len()
                && let Some(now) = u32::try_from(at).ok().and_then(|at| at.checked_add(self.base))
            {
                self.table[place(&input[at..], state.bits)] = now;
            }
        }
        (state.at, state.literals_from) = (end, end);
    }
}

impl Compression {
    /// The compressed string; nothing if it is not small enough.
    pub fn finish(self) -> Option<Vec<u8>> {
        self.is_worth_it().then_some(self.out)
    }

    /// How much of the string has been looked at, in bytes.
    pub fn position(&self) -> usize {
        self.at
    }

    fn is_worth_it(&self) -> bool {
        self.out.len() <= self.out_bytes_max
    }

    fn put_literals(&mut self, input: &[u8]) {
        for run in input[self.literals_from..self.at].chunks(LITERALS_MAX) {
            self.out.push((run.len() - 1) as u8);
            self.out.extend_from_slice(run);
        }
        self.literals_from = self.at;
    }
}

/// The `len` bytes that `input` stands for; nothing if it stands for anything else. Allocates only
/// what the input may stand for.
pub fn decompress(input: &[u8], len: usize) -> Option<Vec<u8>> {
    if len > input.len().saturating_mul(EXPANSION_MAX) {
        return None;
    }
    let mut out = Vec::with_capacity(len);
    let mut rest = input;
    while let [control, tail @ ..] = rest {
        let control = usize::from(*control);
        rest = if control < LITERALS_MAX {
            let (run, tail) = tail.split_at_checked(control + 1)?;
            out.extend_from_slice(run);
            tail
        } else {
            repeat_from(control, tail, &mut out)?
        };
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

/// Carries out the repetition that `control` and the beginning of `tail` say; what comes after.
fn repeat_from<'a>(control: usize, tail: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (mut code, mut tail) = (control >> 5, tail);
    if code == 7 {
        let (more, rest) = tail.split_first()?;
        (code, tail) = (7 + usize::from(*more), rest);
    }
    let (low, tail) = tail.split_first()?;
    let distance = ((control & 0x1F) << 8 | usize::from(*low)) + 1;
    let from = out.len().checked_sub(distance)?;
    let len = code + 2;
    if distance >= len {
        out.extend_from_within(from..from + len);
    } else {
        // It repeats what it writes itself.
        (from..from + len).for_each(|at| out.push(out[at]));
    }
    Some(tail)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::sys::random::Random;

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            vec(any::<u8>(), 0..400),
            vec(0..3_u8, 0..2_000),
            (vec(any::<u8>(), 1..40), 1..600_usize).prop_map(|(piece, times)| piece.repeat(times)),
            vec(prop_oneof![Just("the same words "), Just("again"), Just("\n")], 0..1_000)
                .prop_map(|words| words.concat().into_bytes()),
        ]
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back(texts in vec(text(), 1..5), budget in 1..500_usize) {
            let mut lzf = Lzf::new();
            for text in texts {
                let packed = lzf.compress(&text, usize::MAX).expect("there is no limit");
                prop_assert_eq!(decompress(&packed, text.len()), Some(text.clone()));
                prop_assert_eq!(decompress(&packed, text.len() + 1), None);

                let mut state = lzf.start(text.len(), usize::MAX);
                while !lzf.step(&mut state, &text, budget) {}
                let packed = state.finish().expect("there is no limit");
                prop_assert_eq!(decompress(&packed, text.len()), Some(text));
            }
        }

        #[test]
        fn no_bytes_make_the_decompressor_fail(bytes in vec(any::<u8>(), 0..300), len in 0..40_000_usize) {
            if let Some(text) = decompress(&bytes, len) {
                prop_assert_eq!(text.len(), len);
            }
        }
    }

    #[test]
    fn repetition_is_compressed_and_noise_is_given_up() {
        let mut lzf = Lzf::new();
        let packed = lzf.compress(&[b'x'; 10_000], 200).expect("it is 38 repetitions");
        assert!(packed.len() < 130);
        let mut random = Random::from_seed(1);
        let noise: Vec<u8> = (0..1_000).map(|_| random.next_u64() as u8).collect();
        assert_eq!(lzf.compress(&noise, noise.len() - 4), None);
        assert_eq!(lzf.compress(b"", 0), Some(Vec::new()));
    }

    #[test]
    fn a_length_that_no_input_can_have_is_refused_before_it_is_allocated() {
        assert_eq!(decompress(&[0xFF; 100], usize::MAX), None);
        assert_eq!(decompress(&[], 1), None);
        assert_eq!(decompress(&[0xE0, 0, 5], 9), None);
    }

    #[test]
    fn positions_begin_anew_when_their_count_is_full() {
        let mut lzf = Lzf::new();
        lzf.next_base = u32::MAX - 20;
        let text = b"abcabcabcabcabcabcabcabcabcabc".to_vec();
        for _ in 0..3 {
            let packed = lzf.compress(&text, usize::MAX).expect("there is no limit");
            assert_eq!(decompress(&packed, text.len()).as_ref(), Some(&text));
        }
    }
}
