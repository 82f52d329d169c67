//! SETBIT and GETBIT.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use super::{Text, edit_bytes};
use crate::{command::prelude::*, types::bits};

/// SETBIT key offset value: the bit that was there.
pub(super) fn setbit(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    let offset = parse_offset(&args[2], cx.settings.bulk_bytes_max)?;
    let bit = match &args[3] {
        b"0" => false,
        b"1" => true,
        _ => return Err(CommandError::text("ERR bit is not an integer or out of range")),
    };
    let len = bytes_up_to(offset);
    let slot = cx.keyspace.slot(key);
    let old_len = slot.body().map(Text::of).transpose()?.map(Text::len);
    let was = edit_bytes(slot, len, |bytes| bits::set(bytes, offset, bit));
    cx.reply.integer(i64::from(was));
    // A string that came to be, or grew, has changed even by a zero.
    let changed = old_len.is_none_or(|old_len| old_len < len) || was != bit;
    if changed {
        cx.notify(Class::STRING, "setbit", key);
    }
    Ok(Effect::changed_if(changed))
}

/// GETBIT key offset.
pub(super) fn getbit(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let offset = parse_offset(&args[2], cx.settings.bulk_bytes_max)?;
    let bit = match cx.keyspace.read(&args[1]) {
        Some(entry) => Text::of(entry.body())?.with_bytes(|bytes| bits::get(bytes, offset)),
        None => false,
    };
    cx.reply.integer(i64::from(bit));
    Ok(Effect::Unchanged)
}

/// How many bytes a string has at least in which bit `last` lies.
pub(super) fn bytes_up_to(last: u64) -> usize {
    usize::try_from(last / 8).map_or(usize::MAX, |byte| byte.saturating_add(1))
}

/// A position of a bit, which must lie in a string of at most `bytes_max` bytes.
pub(super) fn parse_offset(text: &[u8], bytes_max: usize) -> Result<u64, CommandError> {
    parse_i64(text).and_then(|offset| within(offset, bytes_max)).ok_or_else(bad_offset)
}

/// The position that BITFIELD's `offset` or `#offset` names for integers of `width` bits.
pub(super) fn parse_field_offset(
    text: &[u8],
    width: u64,
    bytes_max: usize,
) -> Result<u64, CommandError> {
    let Some(index) = text.strip_prefix(b"#") else { return parse_offset(text, bytes_max) };
    parse_i64(index)
        .and_then(|index| index.checked_mul(width as i64))
        .and_then(|offset| within(offset, bytes_max))
        .ok_or_else(bad_offset)
}

fn within(offset: i64, bytes_max: usize) -> Option<u64> {
    u64::try_from(offset).ok().filter(|offset| offset / 8 < bytes_max as u64)
}

fn bad_offset() -> CommandError {
    CommandError::text("ERR bit offset is not an integer or out of range")
}
