//! Commands on HyperLogLogs: strings that estimate how many different elements they have seen.
//!
//! The sketches themselves stand in `types::hyperloglog`. A sketch that turns out to be corrupted
//! fails the command, which then has changed nothing.
#![forbid(unsafe_code)]

mod debug;
#[cfg(test)]
mod tests;

use super::{
    prelude::*,
    string::{
        edit_bytes,
        text::{Text, put_bytes},
    },
};
use crate::{
    keyspace::{Body, Deadline, Keyspace},
    types::hyperloglog::{self as sketches, Corrupted, Encoding, HEADER_BYTES, Observation, dense},
    value::Object,
};
use debug::{pfdebug, pfselftest};

const INSERT: KeySpec = KeySpec::FIRST.used(Access::RW.with(Access::INSERT));
const DEBUG: KeySpec = KeySpec::SECOND.used(Access::RW.with(Access::ACCESS));
/// Counting may refresh the estimate that a sketch keeps.
const COUNT: KeySpec = KeySpec::ALL.used(Access::RW.with(Access::ACCESS));
const MERGE: KeySpec = KeySpec::ALL
    .used(Access::RW.with(Access::ACCESS).with(Access::INSERT))
    .then(Access::RO.with(Access::ACCESS));

commands! { HyperLogLog;
    /// Adds elements to a HyperLogLog, or creates it.
    "pfadd" "2.8.9", AtLeast(2), WRITE | DENYOOM | FAST, INSERT, Owner, pfadd;
    /// Estimates how many different elements HyperLogLogs have seen together.
    "pfcount" "2.8.9", AtLeast(2), READONLY | MAY_REPLICATE, COUNT, Owner, pfcount;
    /// Shows how a HyperLogLog is kept, or changes it.
    "pfdebug" "2.8.9", Exactly(3), WRITE | DENYOOM | ADMIN, DEBUG, Owner, pfdebug;
    /// Merges HyperLogLogs into one.
    "pfmerge" "2.8.9", AtLeast(2), WRITE | DENYOOM, MERGE, Owner, pfmerge;
    /// Tests the HyperLogLogs of this server.
    "pfselftest" "2.8.9", Exactly(1), ADMIN, KeySpec::NONE, Owner, pfselftest;
}

impl From<Corrupted> for CommandError {
    fn from(corrupted: Corrupted) -> Self {
        Self::text(corrupted.to_string())
    }
}

/// PFADD key [element …]: whether the estimate may have changed.
fn pfadd(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    let slot = cx.keyspace.slot(key);
    let elements = args.iter().skip(2).map(Observation::of);
    let updated = match slot.body() {
        Some(body) => {
            let (encoding, sketch) = view(body)?;
            match encoding {
                Encoding::Dense => {
                    let registers = &sketch[HEADER_BYTES..];
                    // Most elements of a sketch in use change nothing.
                    let raises = elements.clone().any(|seen| dense::would_raise(registers, seen));
                    if raises {
                        edit_bytes(slot, 0, |sketch| raise_all(sketch, elements))
                    } else {
                        0
                    }
                }
                Encoding::Sparse => {
                    let mut sketch = sketch.to_vec();
                    let max = cx.settings.hll_sparse_bytes_max;
                    let updated = observe_all(&mut sketch, elements, max)?;
                    if updated > 0 {
                        put_bytes(slot, sketch, Deadline::Keep);
                    }
                    updated
                }
            }
        }
        None => {
            let mut sketch = sketches::new();
            let max = cx.settings.hll_sparse_bytes_max;
            let updated = 1 + observe_all(&mut sketch, elements, max)?;
            sketches::invalidate(&mut sketch);
            put_bytes(slot, sketch, Deadline::Never);
            updated
        }
    };
    cx.reply.integer(i64::from(updated > 0));
    if updated > 0 {
        cx.notify(Class::STRING, "pfadd", key);
    }
    Ok(Effect::count(updated))
}

/// PFCOUNT key [key …].
fn pfcount(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    if args.len() > 2 {
        let keys = args.iter().skip(1);
        let merged = Merged::of(cx.keyspace, keys)?;
        cx.reply.integer(sketches::estimate_registers(&merged.registers) as i64);
        return Ok(Effect::Unchanged);
    }
    let slot = cx.keyspace.slot_read(&args[1]);
    let Some(body) = slot.body() else {
        cx.reply.integer(0);
        return Ok(Effect::Unchanged);
    };
    let (_, sketch) = view(body)?;
    if let Some(estimate) = sketches::cached(sketch) {
        cx.reply.integer(estimate as i64);
        return Ok(Effect::Unchanged);
    }
    let estimate = sketches::estimate(sketch)?;
    edit_bytes(slot, 0, |sketch| sketches::set_cached(sketch, estimate));
    cx.reply.integer(estimate as i64);
    // The bytes are others, which watchers see, but nothing happened that has a name.
    cx.notify(Class::NONE, "pfcount", &args[1]);
    Ok(Effect::Changed(1))
}

/// PFMERGE destination [source …]: the destination is a source too.
fn pfmerge(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    let merged = Merged::of(cx.keyspace, args.iter().skip(1))?;
    let slot = cx.keyspace.slot(key);
    let mut sketch = match slot.body() {
        Some(body) => view(body)?.1.to_vec(),
        None => sketches::new(),
    };
    if merged.any_dense {
        sketch = sketches::to_dense(&sketch)?;
    }
    let ranks = merged.registers.iter().enumerate().filter(|(_, rank)| **rank > 0);
    let seen = ranks.map(|(index, &rank)| Observation { index, rank });
    observe_all(&mut sketch, seen, cx.settings.hll_sparse_bytes_max)?;
    sketches::invalidate(&mut sketch);
    put_bytes(slot, sketch, Deadline::Keep);
    cx.notify(Class::STRING, "pfadd", key);
    cx.reply.ok();
    Ok(Effect::Changed(1))
}

/// The sketch that a body is, and how it is kept.
fn view<'a>(body: Body<'a, Object>) -> Result<(Encoding, &'a [u8]), CommandError> {
    let bytes: &[u8] = match Text::of(body)? {
        Text::Short(bytes) => bytes,
        Text::Long(bytes) => bytes,
        Text::Int(_) => b"",
    };
    let encoding = Encoding::of(bytes)
        .ok_or(CommandError::text("WRONGTYPE Key is not a valid HyperLogLog string value."))?;
    Ok((encoding, bytes))
}

/// Takes observations into a sketch, whose cached estimate then is out of date if any of them
/// changed it; how many did.
fn observe_all(
    sketch: &mut Vec<u8>,
    elements: impl Iterator<Item = Observation>,
    sparse_bytes_max: usize,
) -> Result<u64, Corrupted> {
    let mut updated = 0;
    for seen in elements {
        updated += u64::from(sketches::observe(sketch, seen, sparse_bytes_max)?);
    }
    if updated > 0 {
        sketches::invalidate(sketch);
    }
    Ok(updated)
}

/// The same for a dense sketch in its place.
fn raise_all(sketch: &mut [u8], elements: impl Iterator<Item = Observation>) -> u64 {
    sketches::invalidate(sketch);
    let registers = &mut sketch[HEADER_BYTES..];
    elements.map(|seen| u64::from(dense::raise(registers, seen))).sum()
}

/// Several sketches together.
struct Merged {
    registers: Box<sketches::Registers>,
    any_dense: bool,
}

impl Merged {
    /// Those at `keys`; keys that are not there have seen nothing.
    fn of<'k>(
        keyspace: &mut Keyspace,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Result<Self, CommandError> {
        let mut merged = Self { registers: Box::new([0; sketches::REGISTERS]), any_dense: false };
        for key in keys {
            let Some(entry) = keyspace.read(key) else { continue };
            let (encoding, sketch) = view(entry.body())?;
            merged.any_dense |= encoding == Encoding::Dense;
            sketches::merge(&mut merged.registers, sketch)?;
        }
        Ok(merged)
    }
}
