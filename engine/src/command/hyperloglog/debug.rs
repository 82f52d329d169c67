//! PFDEBUG and PFSELFTEST: for those who want to see how a sketch is kept.
#![forbid(unsafe_code)]

use std::fmt::Write;

use super::{put_bytes, view};
use crate::{
    command::prelude::*,
    keyspace::Deadline,
    types::hyperloglog::{self as sketches, Encoding, Observation, REGISTERS, dense, sparse},
};

/// Rounds of random registers in a self-test.
const REGISTER_ROUNDS: usize = 4;
/// Elements that a self-test adds: enough for both encodings, and some hundredths of a second.
const ELEMENTS: u64 = 100_000;

/// PFDEBUG GETREG | DECODE | ENCODING | TODENSE key, or SIMD ON | OFF.
pub(super) fn pfdebug(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let (name, key) = (&args[1], &args[2]);
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    if is("SIMD") {
        return choose_simd(cx, key);
    }
    let slot = cx.keyspace.slot(key);
    let body = slot.body().ok_or(CommandError::text("ERR The specified key does not exist"))?;
    let (encoding, sketch) = view(body)?;
    let is_sparse = encoding == Encoding::Sparse;
    if is("DECODE") {
        if !is_sparse {
            return Err(CommandError::text("ERR HLL encoding is not sparse"));
        }
        cx.reply.bulk(decode(sketch).as_bytes());
        return Ok(Effect::Unchanged);
    }
    if is("ENCODING") {
        cx.reply.simple(encoding.name());
        return Ok(Effect::Unchanged);
    }
    let shows = is("GETREG");
    if !shows && !is("TODENSE") {
        let name = String::from_utf8_lossy(name);
        return Err(CommandError::text(format!("ERR Unknown PFDEBUG subcommand '{name}'")));
    }
    let dense = sketches::to_dense(sketch)?;
    if shows {
        cx.reply.array(REGISTERS);
        dense::iter(&dense[sketches::HEADER_BYTES..]).for_each(|rank| {
            cx.reply.integer(i64::from(rank));
        });
    } else {
        cx.reply.integer(i64::from(is_sparse));
    }
    if is_sparse {
        put_bytes(slot, dense, Deadline::Keep);
        cx.notify(Class::NONE, "pfdebug", key);
    }
    Ok(Effect::changed_if(is_sparse))
}

/// Accepted as Valkey's tests have it. There is nothing to choose: the compiler vectorises.
fn choose_simd(cx: &mut Context<'_>, word: &[u8]) -> Result<Effect, CommandError> {
    if !word.eq_ignore_ascii_case(b"ON") && !word.eq_ignore_ascii_case(b"OFF") {
        return Err(CommandError::text("ERR Argument must be ON or OFF"));
    }
    cx.reply.ok();
    Ok(Effect::Unchanged)
}

/// The runs of a sparse sketch: `z` and `Z` for short and long runs of zeros, `v` for values.
fn decode(sketch: &[u8]) -> String {
    let mut text = String::new();
    for run in sparse::runs(sketch) {
        let separator = if text.is_empty() { "" } else { " " };
        let written = match run {
            sparse::Run { value: 0, len, bytes: 1 } => write!(text, "{separator}z:{len}"),
            sparse::Run { value: 0, len, .. } => write!(text, "{separator}Z:{len}"),
            sparse::Run { value, len, .. } => write!(text, "{separator}v:{value},{len}"),
        };
        debug_assert!(written.is_ok(), "a string takes everything");
    }
    text
}

/// PFSELFTEST: OK, or what is wrong.
pub(super) fn pfselftest(cx: &mut Context<'_>, _: &Args<'_>) -> Result<Effect, CommandError> {
    check_registers(cx)?;
    check_estimates(cx)?;
    cx.reply.ok();
    Ok(Effect::Unchanged)
}

/// Registers keep what is written to them, and to them alone.
fn check_registers(cx: &mut Context<'_>) -> Result<(), CommandError> {
    let mut registers = vec![0; dense::BYTES];
    for _ in 0..REGISTER_ROUNDS {
        let ranks: Vec<u8> = (0..REGISTERS).map(|_| cx.random.below(64) as u8).collect();
        for (index, &rank) in ranks.iter().enumerate() {
            dense::set(&mut registers, index, rank);
        }
        for (index, &rank) in ranks.iter().enumerate() {
            let found = dense::get(&registers, index);
            if found != rank {
                return Err(CommandError::text(format!(
                    "TESTFAILED Register {index} should be {rank} but is {found}"
                )));
            }
        }
    }
    Ok(())
}

/// Both encodings give the same estimate, and a good one.
fn check_estimates(cx: &mut Context<'_>) -> Result<(), CommandError> {
    let sparse_bytes_max = cx.settings.hll_sparse_bytes_max;
    let (mut sketch, salt) = (sketches::new(), cx.random.next_u64());
    let mut dense = sketches::to_dense(&sketch)?;
    let mut checkpoint = 1;
    for number in 1..=ELEMENTS {
        let seen = Observation::of(&(number ^ salt).to_le_bytes());
        sketches::observe(&mut sketch, seen, sparse_bytes_max)?;
        sketches::observe(&mut dense, seen, sparse_bytes_max)?;
        if number < checkpoint {
            continue;
        }
        let estimate = sketches::estimate(&dense)?;
        if sketches::estimate(&sketch)? != estimate {
            return Err(CommandError::text("TESTFAILED dense/sparse disagree"));
        }
        // Six standard errors, of which more than one element is left for small numbers.
        let allowed = (6.0 * 1.04 / (REGISTERS as f64).sqrt() * number as f64).ceil() as u64 + 1;
        let error = estimate.abs_diff(number);
        if error > allowed {
            return Err(CommandError::text(format!(
                "TESTFAILED Too big error. card:{number} abserr:{error}"
            )));
        }
        checkpoint *= 10;
    }
    Ok(())
}
