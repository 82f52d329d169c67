//! Commands that take a field's value for a number.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use crate::{
    command::{collection::update_or_create, prelude::*, string::long_double::LongDouble},
    types::{Element, Hash},
};

/// HINCRBY key field increment: the sum.
pub(super) fn hincrby(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let (key, field) = (&args[1], &args[2]);
    let increment = parse_i64(&args[3]).ok_or(CommandError::NotAnInteger)?;
    cx.keyspace.expire_touched(key, std::iter::once(field));
    let thresholds = &cx.settings.thresholds;
    let sum = update_or_create(cx.keyspace.slot(key), Hash::new, |hash| {
        let old = match hash.get(field) {
            None => Some(0),
            Some(Element::Int(int)) => Some(int),
            Some(value) => value.with_bytes(parse_i64),
        };
        let old = old.ok_or(CommandError::text("ERR hash value is not an integer"))?;
        let sum = old.checked_add(increment).ok_or(CommandError::Overflow)?;
        hash.set_keeping_deadline(field, itoa::Buffer::new().format(sum).as_bytes(), thresholds);
        Ok(sum)
    })?;
    cx.reply.integer(sum);
    cx.notify(Class::HASH, "hincrby", key);
    Ok(Effect::Changed(1))
}

/// HINCRBYFLOAT key field increment: the sum as a string.
pub(super) fn hincrbyfloat(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let (key, field) = (&args[1], &args[2]);
    if is_infinity(&args[3]) {
        return Err(CommandError::text("ERR value is NaN or Infinity"));
    }
    let increment = LongDouble::parse(&args[3]).ok_or(CommandError::NotAFloat)?;
    cx.keyspace.expire_touched(key, std::iter::once(field));
    let thresholds = &cx.settings.thresholds;
    let (sum, has_deadline) = update_or_create(cx.keyspace.slot(key), Hash::new, |hash| {
        let old = match hash.get(field) {
            None => Some(LongDouble::from_i64(0)),
            Some(value) => value.with_bytes(LongDouble::parse),
        };
        let old = old.ok_or(CommandError::text("ERR hash value is not a float"))?;
        let sum = old
            .plus(increment)
            .ok_or(CommandError::text("ERR increment would produce NaN or Infinity"))?
            .to_text();
        hash.set_keeping_deadline(field, sum.as_bytes(), thresholds);
        Ok((sum, hash.deadline(field).is_some()))
    })?;
    cx.reply.bulk(sum.as_bytes());
    if has_deadline {
        // Which HSET would take away.
        cx.record(&[b"HSETEX", key, b"KEEPTTL", b"FIELDS", b"1", field, sum.as_bytes()]);
    } else {
        cx.record(&[b"HSET", key, field, sum.as_bytes()]);
    }
    cx.notify(Class::HASH, "hincrbyfloat", key);
    Ok(Effect::Changed(1))
}

/// Whether `text` spells infinity as `strtold` reads it.
fn is_infinity(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"+").or_else(|| text.strip_prefix(b"-")).unwrap_or(text);
    text.eq_ignore_ascii_case(b"inf") || text.eq_ignore_ascii_case(b"infinity")
}
