//! Commands that take elements of lists, and wait for some.
#![forbid(unsafe_code)]

use super::{
    ends::{pop_event, pop_some},
    transfer::{parse_end, pop_from_first, transfer},
};
use crate::{
    command::{
        collection::{look, update},
        multipop::Multipop,
        prelude::*,
        waiting::{found_nothing, parse_seconds},
    },
    types::{List, list::End},
};

/// BLPOP key [key …] timeout: the first key that holds a list, and its first element.
pub(super) fn blpop(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    pop_first(cx, args, End::Front)
}

/// BRPOP key [key …] timeout: the first key that holds a list, and its last element.
pub(super) fn brpop(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    pop_first(cx, args, End::Back)
}

/// BLMPOP timeout numkeys key [key …] LEFT|RIGHT [COUNT count].
pub(super) fn blmpop(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let what = Multipop::parse(&args.tail(1), parse_end)?;
    parse_seconds(&args[1], cx.keyspace.now_ms())?;
    match pop_from_first(cx, &what)? {
        Some(effect) => Ok(effect),
        None => Ok(found_nothing(cx, |reply| reply.null_array())),
    }
}

/// BLMOVE source destination LEFT|RIGHT LEFT|RIGHT timeout.
pub(super) fn blmove(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let (from, to) = (parse_end(&args[3])?, parse_end(&args[4])?);
    parse_seconds(&args[5], cx.keyspace.now_ms())?;
    transfer_or_wait(cx, args, from, to)
}

/// BRPOPLPUSH source destination timeout.
pub(super) fn brpoplpush(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    parse_seconds(&args[3], cx.keyspace.now_ms())?;
    transfer_or_wait(cx, args, End::Back, End::Front)
}

fn transfer_or_wait(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    from: End,
    to: End,
) -> Result<Effect, CommandError> {
    let (source, target) = (&args[1], &args[2]);
    if look::<List>(cx.keyspace, source)?.is_none() {
        return Ok(found_nothing(cx, |reply| reply.null()));
    }
    let effect = transfer(cx, source, target, from, to)?;
    let side = |end| if end == End::Front { &b"LEFT"[..] } else { b"RIGHT" };
    cx.record(&[b"LMOVE", source, target, side(from), side(to)]);
    Ok(effect)
}

fn pop_first(cx: &mut Context<'_>, args: &Args<'_>, end: End) -> Result<Effect, CommandError> {
    let last = args.len() - 1;
    parse_seconds(&args[last], cx.keyspace.now_ms())?;
    for key in args.iter().take(last).skip(1) {
        if look::<List>(cx.keyspace, key)?.is_some() {
            return pop_from(cx, key, end);
        }
    }
    Ok(found_nothing(cx, |reply| reply.null_array()))
}

/// Pops one element of the list at `key`, which exists, and answers both.
fn pop_from(cx: &mut Context<'_>, key: &[u8], end: End) -> Result<Effect, CommandError> {
    cx.reply.array(2);
    cx.reply.bulk(key);
    let Context { keyspace, reply, settings, .. } = cx;
    let changed = update(keyspace.slot(key), |list: &mut List| {
        pop_some(list, end, 1, &settings.thresholds, reply);
        Ok(())
    })?;
    cx.notify(Class::LIST, pop_event(end), key);
    if changed.is_some_and(|changed| changed.emptied) {
        cx.notify(Class::GENERIC, "del", key);
    }
    let name: &[u8] = if end == End::Front { b"LPOP" } else { b"RPOP" };
    cx.record(&[name, key]);
    Ok(Effect::Changed(1))
}
