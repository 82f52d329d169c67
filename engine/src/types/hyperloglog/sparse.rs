//! Registers as runs of equal ones.
//!
//! ```text
//! 00xxxxxx            x+1 registers of 0
//! 01xxxxxx xxxxxxxx   x+1 registers of 0
//! 1vvvvvxx            x+1 registers of v+1
//! ```
//!
//! Runs change in place: the run of a register that is lifted is split, and equal neighbours among
//! the five runs from the one before on are joined. Which runs come out is seen by clients, so
//! it is Redis's choice at every step.
#![forbid(unsafe_code)]

use smallvec::SmallVec;

use super::{Corrupted, HEADER_BYTES, Observation, REGISTERS};

/// The most registers of a run of zeros in one byte.
const SHORT_ZEROS_MAX: usize = 64;
/// The most registers of a run of values.
const VALUES_MAX: usize = 4;
/// The greatest value of such a run.
const VALUE_MAX: u8 = 32;
/// Runs looked at to join equal neighbours.
const JOIN_SCAN_RUNS: usize = 5;

/// A run of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// What the registers are.
    pub value: u8,
    /// How many there are.
    pub len: usize,
    /// How many bytes tell it.
    pub bytes: usize,
}

impl Run {
    /// The run at the beginning of `bytes`; nothing if there is none, or half of one.
    fn read(bytes: &[u8]) -> Option<Self> {
        let first = *bytes.first()?;
        Some(match first >> 6 {
            0 => Self { value: 0, len: usize::from(first & 0x3F) + 1, bytes: 1 },
            1 => {
                let len = usize::from(first & 0x3F) << 8 | usize::from(*bytes.get(1)?);
                Self { value: 0, len: len + 1, bytes: 2 }
            }
            _ => Self { value: (first >> 2 & 0x1F) + 1, len: usize::from(first & 3) + 1, bytes: 1 },
        })
    }
}

/// What came of lifting a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    /// It was as high already.
    No,
    /// It was lifted.
    Yes,
    /// Nothing was done: it cannot be, or not within the bytes allowed.
    TooLarge,
}

/// The runs of `sketch` in order; they end early where the bytes end within one.
pub fn runs(sketch: &[u8]) -> impl Iterator<Item = Run> {
    let mut rest = sketch.get(HEADER_BYTES..).unwrap_or_default();
    std::iter::from_fn(move || {
        let run = Run::read(rest)?;
        rest = &rest[run.bytes..];
        Some(run)
    })
}

/// Calls `each` with every register that is not 0, and its rank.
pub fn for_each_value(sketch: &[u8], mut each: impl FnMut(usize, u8)) -> Result<(), Corrupted> {
    let mut first = 0;
    for run in runs(sketch) {
        if first + run.len > REGISTERS {
            return Err(Corrupted);
        }
        if run.value > 0 {
            (first..first + run.len).for_each(|index| each(index, run.value));
        }
        first += run.len;
    }
    if first == REGISTERS { Ok(()) } else { Err(Corrupted) }
}

/// Lifts a register, as long as the sketch keeps within `bytes_max`.
pub fn raise(
    sketch: &mut Vec<u8>,
    seen: Observation,
    bytes_max: usize,
) -> Result<Raised, Corrupted> {
    if seen.rank > VALUE_MAX {
        return Ok(Raised::TooLarge);
    }
    let Place { at, first, run, previous } = Place::find(sketch, seen.index)?;
    if run.value >= seen.rank {
        return Ok(Raised::No);
    }
    let mut split: SmallVec<[u8; 8]> = SmallVec::new();
    push_run(&mut split, run.value, seen.index - first);
    push_run(&mut split, seen.rank, 1);
    push_run(&mut split, run.value, first + run.len - 1 - seen.index);
    let grown = (sketch.len() + split.len()).saturating_sub(run.bytes);
    if split.len() > run.bytes && grown > bytes_max {
        return Ok(Raised::TooLarge);
    }
    sketch.splice(at..at + run.bytes, split);
    join_equal(sketch, previous.unwrap_or(HEADER_BYTES));
    Ok(Raised::Yes)
}

/// Where a register's run stands.
struct Place {
    at: usize,
    /// The run's first register.
    first: usize,
    run: Run,
    /// Where the run before stands.
    previous: Option<usize>,
}

impl Place {
    fn find(sketch: &[u8], index: usize) -> Result<Self, Corrupted> {
        let (mut at, mut first, mut previous) = (HEADER_BYTES, 0, None);
        loop {
            let run = sketch.get(at..).and_then(Run::read).ok_or(Corrupted)?;
            if index < first + run.len {
                return Ok(Self { at, first, run, previous });
            }
            previous = Some(at);
            at += run.bytes;
            first += run.len;
        }
    }
}

/// Joins neighbours of equal value, looking at a few runs from the one at `at` on.
fn join_equal(sketch: &mut Vec<u8>, mut at: usize) {
    for _ in 0..JOIN_SCAN_RUNS {
        let Some(run) = sketch.get(at..).and_then(Run::read) else { return };
        let next = sketch.get(at + run.bytes..).and_then(Run::read);
        match next.filter(|next| next.value == run.value && run.value > 0) {
            Some(next) if run.len + next.len <= VALUES_MAX => {
                sketch.remove(at);
                sketch[at] = value_run(run.value, run.len + next.len);
            }
            _ => at += run.bytes,
        }
    }
}

/// Appends a run of zeros.
pub fn push_zeros(out: &mut Vec<u8>, len: usize) {
    let mut run: SmallVec<[u8; 8]> = SmallVec::new();
    push_run(&mut run, 0, len);
    out.extend_from_slice(&run);
}

/// Appends a run of at least no register.
fn push_run(out: &mut SmallVec<[u8; 8]>, value: u8, len: usize) {
    match len {
        0 => {}
        _ if value > 0 => out.push(value_run(value, len)),
        1..=SHORT_ZEROS_MAX => out.push(len as u8 - 1),
        _ => out.extend(((len - 1) as u16 | 0x4000).to_be_bytes()),
    }
}

fn value_run(value: u8, len: usize) -> u8 {
    0x80 | (value - 1) << 2 | (len as u8 - 1)
}
