//! HyperLogLog: an estimate of how many different elements a sketch has seen, within 0.81 %.
//!
//! A sketch is a string, in Redis's own form byte for byte, so that GET, DUMP and the log carry it
//! like any other:
//!
//! ```text
//! "HYLL" | encoding: 0 dense, 1 sparse | 3 zeros | cached estimate, 8 bytes LE | registers
//! ```
//!
//! The topmost bit of the cached estimate says that it is out of date. There are [`REGISTERS`]
//! registers, each the greatest *rank* seen (the position of the first one among the bits of a hash)
//! of the elements that fall to it. [`dense`] keeps them in six bits each, [`sparse`] as runs of
//! equal registers, until they take too many bytes or a register needs more than five bits.
//!
//! The estimator is Ertl's ("New cardinality estimation algorithms for HyperLogLog sketches",
//! arXiv:1702.01284, algorithm 6), as in Redis; the arithmetic follows the same order, so that
//! estimates agree to the last digit.
//!
//! Invariant: bytes come from clients. Whatever they are, they give an error and never a panic.
#![forbid(unsafe_code)]

pub mod dense;
pub mod sparse;
#[cfg(test)]
mod tests;

/// Bits of a hash that name a register.
const INDEX_BITS: u32 = 14;
/// Number of registers.
pub const REGISTERS: usize = 1 << INDEX_BITS;
/// The greatest rank: all bits of the hash that do not name the register are zeros.
const RANK_MAX: usize = 64 - INDEX_BITS as usize + 1;
/// Bytes before the registers.
pub const HEADER_BYTES: usize = 16;
const MAGIC: &[u8] = b"HYLL";
const ENCODING_AT: usize = 4;
const CACHE_AT: usize = 8;
/// Set in the last byte of the cached estimate when it is out of date.
const STALE: u8 = 0x80;

/// The registers one by one, to merge sketches.
pub type Registers = [u8; REGISTERS];

/// The runs of a sparse sketch do not cover the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("INVALIDOBJ Corrupted HLL object detected")]
pub struct Corrupted;

/// How the registers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Six bits each.
    Dense,
    /// Runs.
    Sparse,
}

impl Encoding {
    /// PFDEBUG's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Sparse => "sparse",
        }
    }

    /// The encoding of a sketch; nothing if the bytes are none. Runs are not looked at.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER_BYTES || !bytes.starts_with(MAGIC) {
            return None;
        }
        match bytes[ENCODING_AT] {
            0 if bytes.len() == HEADER_BYTES + dense::BYTES => Some(Self::Dense),
            1 => Some(Self::Sparse),
            _ => None,
        }
    }
}

/// What an element does to a sketch: it lifts a register to a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The register.
    pub index: usize,
    /// 1 to 51.
    pub rank: u8,
}

impl Observation {
    /// What `element` does.
    pub fn of(element: &[u8]) -> Self {
        let hash = murmur_hash_64a(element, 0xADC8_3B19);
        let index = hash as usize % REGISTERS;
        // A bit behind the last one bounds the rank.
        let rest = hash >> INDEX_BITS | 1 << (64 - INDEX_BITS);
        Self { index, rank: rest.trailing_zeros() as u8 + 1 }
    }
}

/// A sketch that has seen nothing.
pub fn new() -> Vec<u8> {
    let mut sketch = vec![0; HEADER_BYTES];
    sketch[..MAGIC.len()].copy_from_slice(MAGIC);
    sketch[ENCODING_AT] = 1;
    sparse::push_zeros(&mut sketch, REGISTERS);
    sketch
}

/// Takes in an observation; whether it changed a register. A sparse sketch that would grow beyond
/// `sparse_bytes_max` becomes dense.
///
/// # Errors
///
/// The sketch is corrupted, or none; it stays as it is.
pub fn observe(
    sketch: &mut Vec<u8>,
    seen: Observation,
    sparse_bytes_max: usize,
) -> Result<bool, Corrupted> {
    match Encoding::of(sketch).ok_or(Corrupted)? {
        Encoding::Dense => Ok(dense::raise(&mut sketch[HEADER_BYTES..], seen)),
        Encoding::Sparse => match sparse::raise(sketch, seen, sparse_bytes_max)? {
            sparse::Raised::No => Ok(false),
            sparse::Raised::Yes => Ok(true),
            sparse::Raised::TooLarge => {
                *sketch = to_dense(sketch)?;
                Ok(dense::raise(&mut sketch[HEADER_BYTES..], seen))
            }
        },
    }
}

/// The same sketch, dense.
///
/// # Errors
///
/// The sketch is corrupted, or none.
pub fn to_dense(sketch: &[u8]) -> Result<Vec<u8>, Corrupted> {
    match Encoding::of(sketch).ok_or(Corrupted)? {
        Encoding::Dense => Ok(sketch.to_vec()),
        Encoding::Sparse => {
            let mut dense = vec![0; HEADER_BYTES + dense::BYTES];
            dense[..HEADER_BYTES].copy_from_slice(&sketch[..HEADER_BYTES]);
            dense[ENCODING_AT] = 0;
            sparse::for_each_value(sketch, |index, rank| {
                dense::set(&mut dense[HEADER_BYTES..], index, rank);
            })?;
            Ok(dense)
        }
    }
}

/// Lifts each of `registers` to what it is in `sketch`.
///
/// # Errors
///
/// The sketch is corrupted, or none; some registers may have been lifted.
pub fn merge(registers: &mut Registers, sketch: &[u8]) -> Result<(), Corrupted> {
    match Encoding::of(sketch).ok_or(Corrupted)? {
        Encoding::Dense => {
            let ranks = dense::iter(&sketch[HEADER_BYTES..]);
            registers.iter_mut().zip(ranks).for_each(|(known, rank)| *known = rank.max(*known));
            Ok(())
        }
        Encoding::Sparse => sparse::for_each_value(sketch, |index, rank| {
            registers[index] = registers[index].max(rank);
        }),
    }
}

/// The estimate that the sketch holds, if it is up to date.
pub fn cached(sketch: &[u8]) -> Option<u64> {
    let bytes = sketch.get(CACHE_AT..)?.first_chunk::<8>()?;
    (bytes[7] & STALE == 0).then_some(u64::from_le_bytes(*bytes))
}

/// Keeps the estimate in the sketch.
pub fn set_cached(sketch: &mut [u8], estimate: u64) {
    sketch[CACHE_AT..HEADER_BYTES].copy_from_slice(&estimate.to_le_bytes());
}

/// Says that the estimate in the sketch is out of date.
pub fn invalidate(sketch: &mut [u8]) {
    sketch[HEADER_BYTES - 1] |= STALE;
}

/// The estimate of a sketch.
///
/// # Errors
///
/// The sketch is corrupted, or none.
pub fn estimate(sketch: &[u8]) -> Result<u64, Corrupted> {
    let mut histogram = Histogram::new();
    match Encoding::of(sketch).ok_or(Corrupted)? {
        Encoding::Dense => {
            dense::iter(&sketch[HEADER_BYTES..]).for_each(|rank| histogram.add(rank, 1));
        }
        Encoding::Sparse => {
            let mut others = REGISTERS;
            sparse::for_each_value(sketch, |_, rank| {
                histogram.add(rank, 1);
                others -= 1;
            })?;
            histogram.add(0, others);
        }
    }
    Ok(histogram.estimate())
}

/// The estimate of registers that stand one by one.
pub fn estimate_registers(registers: &Registers) -> u64 {
    let mut histogram = Histogram::new();
    registers.iter().for_each(|&rank| histogram.add(rank, 1));
    histogram.estimate()
}

/// How many registers have each rank. Six bits can hold ranks that no hash has.
struct Histogram([usize; 64]);

impl Histogram {
    fn new() -> Self {
        Self([0; 64])
    }

    #[inline]
    fn add(&mut self, rank: u8, count: usize) {
        self.0[usize::from(rank) % 64] += count;
    }

    fn estimate(&self) -> u64 {
        /// 1 / (2 ln 2).
        const ALPHA_INFINITE: f64 = 0.721_347_520_444_481_7;
        let m = REGISTERS as f64;
        let mut z = m * tau((m - self.0[RANK_MAX] as f64) / m);
        for rank in (1..RANK_MAX).rev() {
            z += self.0[rank] as f64;
            z *= 0.5;
        }
        z += m * sigma(self.0[0] as f64 / m);
        let estimate = (ALPHA_INFINITE * m * m / z).round();
        // Registers that no hash fills make it infinite, for which C's llroundl has one bit set.
        if estimate < i64::MAX as f64 { estimate as u64 } else { 1 << 63 }
    }
}

/// The paper's sigma: x + the sum of x^(2^k) * 2^(k-1) over k from 1.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

/// The paper's tau: (1 - x - the sum of (1 - x^(2^-k))^2 * 2^-k over k from 1) / 3.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before == z {
            return z / 3.0;
        }
    }
}

/// MurmurHash64A by Austin Appleby, which is in the public domain.
fn murmur_hash_64a(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xC6A4_A793_5BD1_E995;
    const R: u32 = 47;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let mut word = word.iter().rev().fold(0_u64, |word, &byte| word << 8 | u64::from(byte));
        word = word.wrapping_mul(M);
        word ^= word >> R;
        hash = (hash ^ word.wrapping_mul(M)).wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> R;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> R
}
