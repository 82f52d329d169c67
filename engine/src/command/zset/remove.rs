//! Commands that take members away.
#![forbid(unsafe_code)]

use tessera_proto::{Protocol, number::parse_i64};

use super::bounds::{Bounds, By};
use crate::{
    command::{
        collection::{Changed, look, reply_element, update},
        multipop::{self, Multipop},
        prelude::*,
    },
    types::Zset,
};

/// The end of the order from which members are popped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extreme {
    Min,
    Max,
}

/// How popped members and scores stand in the reply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// All in one array.
    Flat,
    /// The same behind the key.
    Keyed,
    /// An array of pairs.
    Pairs,
}

/// ZREM key member [member …]: how many were there.
pub(super) fn zrem(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let changed = update(cx.keyspace.slot(&args[1]), |zset: &mut Zset| {
        Ok(args.iter().skip(2).filter(|member| zset.remove(member).is_some()).count())
    })?;
    Ok(answer_removed(cx, &args[1], changed, "zrem"))
}

/// ZREMRANGEBYRANK key start stop.
pub(super) fn zremrangebyrank(
    cx: &mut Context<'_>,
    args: &Args<'_>,
) -> Result<Effect, CommandError> {
    remove_range(cx, args, By::Rank, "zremrangebyrank")
}

/// ZREMRANGEBYSCORE key min max.
pub(super) fn zremrangebyscore(
    cx: &mut Context<'_>,
    args: &Args<'_>,
) -> Result<Effect, CommandError> {
    remove_range(cx, args, By::Score, "zremrangebyscore")
}

/// ZREMRANGEBYLEX key min max.
pub(super) fn zremrangebylex(
    cx: &mut Context<'_>,
    args: &Args<'_>,
) -> Result<Effect, CommandError> {
    remove_range(cx, args, By::Lex, "zremrangebylex")
}

fn remove_range(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    by: By,
    event: &'static str,
) -> Result<Effect, CommandError> {
    let bounds = Bounds::parse(by, &args[2], &args[3])?;
    let changed = update(cx.keyspace.slot(&args[1]), |zset: &mut Zset| {
        let ranks = bounds.ranks(zset, false);
        Ok((ranks.len(), zset.remove_range(ranks.start, ranks.end)))
    })?;
    let changed = changed.map(|Changed { result: (removed, garbage), emptied }| {
        cx.keyspace.free_later(garbage);
        Changed { result: removed, emptied }
    });
    Ok(answer_removed(cx, &args[1], changed, event))
}

/// Answers how many members were removed.
fn answer_removed(
    cx: &mut Context<'_>,
    key: &[u8],
    changed: Option<Changed<usize>>,
    event: &'static str,
) -> Effect {
    let (removed, emptied) =
        changed.map_or((0, false), |changed| (changed.result, changed.emptied));
    cx.reply.count(removed);
    if removed > 0 {
        cx.notify(Class::SORTED_SET, event, key);
    }
    if emptied {
        cx.notify(Class::GENERIC, "del", key);
    }
    Effect::count(removed as u64)
}

/// ZPOPMIN key [count].
pub(super) fn zpopmin(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    pop(cx, args, Extreme::Min)
}

/// ZPOPMAX key [count].
pub(super) fn zpopmax(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    pop(cx, args, Extreme::Max)
}

fn pop(cx: &mut Context<'_>, args: &Args<'_>, from: Extreme) -> Result<Effect, CommandError> {
    let count = match args.len() {
        2 => 1,
        3 => parse_i64(&args[2])
            .and_then(|count| usize::try_from(count).ok())
            .ok_or(CommandError::MustBePositive)?,
        _ => return Err(CommandError::Syntax),
    };
    let paired = args.len() == 3 && cx.reply.protocol() == Protocol::Resp3;
    let shape = if paired { Shape::Pairs } else { Shape::Flat };
    pop_from(cx, &args[1], from, count, shape)
}

/// ZMPOP numkeys key [key …] MIN|MAX [COUNT count]: the key and what was popped from it.
pub(super) fn zmpop(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let popped = pop_from_first(cx, &Multipop::parse(args, parse_extreme)?)?;
    Ok(multipop::answer(cx, popped))
}

/// MIN or MAX.
pub(super) fn parse_extreme(word: &[u8]) -> Result<Extreme, CommandError> {
    match word {
        _ if word.eq_ignore_ascii_case(b"MIN") => Ok(Extreme::Min),
        _ if word.eq_ignore_ascii_case(b"MAX") => Ok(Extreme::Max),
        _ => Err(CommandError::Syntax),
    }
}

/// Pops from the first key that holds a sorted set; nothing if none does.
pub(super) fn pop_from_first(
    cx: &mut Context<'_>,
    what: &Multipop<'_, Extreme>,
) -> Result<Option<Effect>, CommandError> {
    for key in what.keys() {
        if let Some(zset) = look::<Zset>(cx.keyspace, key)? {
            let count = what.count.min(zset.len());
            cx.reply.array(2);
            cx.reply.bulk(key);
            let effect = pop_from(cx, key, what.from, count, Shape::Pairs)?;
            record_pop(cx, key, what.from, count);
            return Ok(Some(effect));
        }
    }
    Ok(None)
}

/// Pops one member of the sorted set at `key`, which exists, and answers both with its score.
pub(super) fn pop_one(
    cx: &mut Context<'_>,
    key: &[u8],
    from: Extreme,
) -> Result<Effect, CommandError> {
    let effect = pop_from(cx, key, from, 1, Shape::Keyed)?;
    record_pop(cx, key, from, 1);
    Ok(effect)
}

/// Records what was popped in the form of a command that names one key.
fn record_pop(cx: &mut Context<'_>, key: &[u8], from: Extreme, count: usize) {
    let name: &[u8] = if from == Extreme::Min { b"ZPOPMIN" } else { b"ZPOPMAX" };
    cx.record(&[name, key, itoa::Buffer::new().format(count).as_bytes()]);
}

/// Pops up to `count` members of the sorted set at `key` and answers them with their scores.
fn pop_from(
    cx: &mut Context<'_>,
    key: &[u8],
    from: Extreme,
    count: usize,
    shape: Shape,
) -> Result<Effect, CommandError> {
    let (keyspace, reply) = (&mut *cx.keyspace, &mut cx.reply);
    let changed = update(keyspace.slot(key), |zset: &mut Zset| {
        let take = count.min(zset.len());
        match shape {
            Shape::Flat => reply.array(2 * take),
            Shape::Keyed => {
                reply.array(1 + 2 * take);
                reply.bulk(key);
            }
            Shape::Pairs => reply.array(take),
        }
        for _ in 0..take {
            let rank = if from == Extreme::Min { 0 } else { zset.len() - 1 };
            zset.pop_at(rank, |member, score| {
                if shape == Shape::Pairs {
                    reply.array(2);
                }
                reply_element(reply, member);
                reply.double(score);
            });
        }
        Ok(take)
    })?;
    let Some(Changed { result: popped, emptied }) = changed else {
        cx.reply.array(0);
        return Ok(Effect::Unchanged);
    };
    if popped > 0 {
        let event = if from == Extreme::Min { "zpopmin" } else { "zpopmax" };
        cx.notify(Class::SORTED_SET, event, key);
    }
    if emptied {
        cx.notify(Class::GENERIC, "del", key);
    }
    Ok(Effect::count(popped as u64))
}
