//! Commands that take members of sorted sets, and wait for some.
#![forbid(unsafe_code)]

use super::remove::{Extreme, parse_extreme, pop_from_first, pop_one};
use crate::{
    command::{
        collection::look,
        multipop::Multipop,
        prelude::*,
        waiting::{found_nothing, parse_seconds},
    },
    types::Zset,
};

/// BZPOPMIN key [key …] timeout: the first key that holds a sorted set, and its lowest member.
pub(super) fn bzpopmin(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    pop_first(cx, args, Extreme::Min)
}

/// BZPOPMAX key [key …] timeout: the first key that holds a sorted set, and its highest member.
pub(super) fn bzpopmax(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    pop_first(cx, args, Extreme::Max)
}

/// BZMPOP timeout numkeys key [key …] MIN|MAX [COUNT count].
pub(super) fn bzmpop(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let what = Multipop::parse(&args.tail(1), parse_extreme)?;
    parse_seconds(&args[1], cx.keyspace.now_ms())?;
    match pop_from_first(cx, &what)? {
        Some(effect) => Ok(effect),
        None => Ok(found_nothing(cx, |reply| reply.null_array())),
    }
}

fn pop_first(cx: &mut Context<'_>, args: &Args<'_>, from: Extreme) -> Result<Effect, CommandError> {
    let last = args.len() - 1;
    parse_seconds(&args[last], cx.keyspace.now_ms())?;
    for key in args.iter().take(last).skip(1) {
        if look::<Zset>(cx.keyspace, key)?.is_some() {
            return pop_one(cx, key, from);
        }
    }
    Ok(found_nothing(cx, |reply| reply.null_array()))
}
