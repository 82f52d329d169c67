//! Commands that count: strings taken as numbers.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use super::{long_double::LongDouble, text::Text};
use crate::{
    command::prelude::*,
    keyspace::{Deadline, NewBody},
    value::inline,
};

/// INCR key.
pub(super) fn incr(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    add(cx, &args[1], 1)
}

/// DECR key.
pub(super) fn decr(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    add(cx, &args[1], -1)
}

/// INCRBY key increment.
pub(super) fn incrby(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let increment = parse_i64(&args[2]).ok_or(CommandError::NotAnInteger)?;
    add(cx, &args[1], increment)
}

/// DECRBY key decrement.
pub(super) fn decrby(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let decrement = parse_i64(&args[2]).ok_or(CommandError::NotAnInteger)?;
    let increment =
        decrement.checked_neg().ok_or(CommandError::text("ERR decrement would overflow"))?;
    add(cx, &args[1], increment)
}

/// Adds to the integer at `key`, 0 if there is none, and replies the sum.
fn add(cx: &mut Context<'_>, key: &[u8], increment: i64) -> Result<Effect, CommandError> {
    let mut slot = cx.keyspace.slot(key);
    let sum = match slot.integer_mut() {
        Some(number) => {
            *number = number.checked_add(increment).ok_or(CommandError::Overflow)?;
            *number
        }
        None => {
            let old = match slot.body() {
                Some(body) => Text::of(body)?.integer().ok_or(CommandError::NotAnInteger)?,
                None => 0,
            };
            let sum = old.checked_add(increment).ok_or(CommandError::Overflow)?;
            slot.put(NewBody::Int(sum), Deadline::Keep);
            sum
        }
    };
    cx.notify(Class::STRING, "incrby", key);
    cx.reply.integer(sum);
    Ok(Effect::Changed(1))
}

/// INCRBYFLOAT key increment: the sum as a string.
pub(super) fn incrbyfloat(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    let slot = cx.keyspace.slot(key);
    let old = match slot.body().map(Text::of).transpose()? {
        Some(Text::Int(number)) => Some(LongDouble::from_i64(number)),
        Some(text) => text.with_bytes(LongDouble::parse),
        None => Some(LongDouble::from_i64(0)),
    };
    let old = old.ok_or(CommandError::NotAFloat)?;
    let increment = LongDouble::parse(&args[2]).ok_or(CommandError::NotAFloat)?;
    let sum = old
        .plus(increment)
        .ok_or(CommandError::text("ERR increment would produce NaN or Infinity"))?
        .to_text();
    // Kept as a string even if it is an integer, as in Redis; INCR reads it as one.
    let body = NewBody::Inline { kind: inline::STRING, bytes: sum.as_bytes() };
    slot.put(body, Deadline::Keep);
    // Another machine may round differently.
    cx.record(&[b"SET", key, sum.as_bytes(), b"KEEPTTL"]);
    cx.notify(Class::STRING, "incrbyfloat", key);
    cx.reply.bulk(sum.as_bytes());
    Ok(Effect::Changed(1))
}
