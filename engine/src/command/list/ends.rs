//! Commands that push and pop at a list's ends.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use crate::{
    command::{
        collection::{reply_element, update, update_or_create},
        prelude::*,
    },
    keyspace::Slot,
    types::{List, Thresholds, list::End},
};

/// LPUSH key element [element …]: the length after.
pub(super) fn lpush(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    push(cx, args, End::Front)
}

/// RPUSH key element [element …]: the length after.
pub(super) fn rpush(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    push(cx, args, End::Back)
}

/// LPUSHX key element [element …]: the length after, 0 without the key.
pub(super) fn lpushx(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    push_existing(cx, args, End::Front)
}

/// RPUSHX key element [element …]: the length after, 0 without the key.
pub(super) fn rpushx(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    push_existing(cx, args, End::Back)
}

/// LPOP key [count].
pub(super) fn lpop(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    pop(cx, args, End::Front, "lpop")
}

/// RPOP key [count].
pub(super) fn rpop(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    pop(cx, args, End::Back, "rpop")
}

/// The event of a push at `end`.
pub(super) fn push_event(end: End) -> &'static str {
    match end {
        End::Front => "lpush",
        End::Back => "rpush",
    }
}

/// The event of a pop at `end`.
pub(super) fn pop_event(end: End) -> &'static str {
    match end {
        End::Front => "lpop",
        End::Back => "rpop",
    }
}

/// Pushes one element at `end` of the list in `slot`, or of a new one.
pub(super) fn push_one(
    slot: Slot<'_, '_>,
    element: &[u8],
    end: End,
    thresholds: &Thresholds,
) -> Result<(), CommandError> {
    update_or_create(slot, List::new, |list| {
        list.push(end, element, thresholds);
        Ok(())
    })
}

fn push(cx: &mut Context<'_>, args: &Args<'_>, end: End) -> Result<Effect, CommandError> {
    let key = &args[1];
    let thresholds = &cx.settings.thresholds;
    let len = update_or_create(cx.keyspace.slot(key), List::new, |list| {
        Ok(push_all(list, args, end, thresholds))
    })?;
    cx.reply.count(len);
    cx.notify(Class::LIST, push_event(end), key);
    Ok(Effect::count(args.len() as u64 - 2))
}

fn push_existing(cx: &mut Context<'_>, args: &Args<'_>, end: End) -> Result<Effect, CommandError> {
    let key = &args[1];
    let thresholds = &cx.settings.thresholds;
    let changed = update(cx.keyspace.slot(key), |list| Ok(push_all(list, args, end, thresholds)))?;
    let Some(changed) = changed else {
        cx.reply.integer(0);
        return Ok(Effect::Unchanged);
    };
    cx.reply.count(changed.result);
    cx.notify(Class::LIST, push_event(end), key);
    Ok(Effect::count(args.len() as u64 - 2))
}

/// Pushes the arguments behind the key; the length after.
fn push_all(list: &mut List, args: &Args<'_>, end: End, thresholds: &Thresholds) -> usize {
    for at in 2..args.len() {
        list.push(end, &args[at], thresholds);
    }
    list.len()
}

fn pop(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    end: End,
    command: &'static str,
) -> Result<Effect, CommandError> {
    let count = match args.len() {
        2 => None,
        3 => Some(parse_count(&args[2])?),
        _ => return Err(CommandError::WrongArity { command: command.into() }),
    };
    let key = &args[1];
    let Context { keyspace, reply, settings, .. } = cx;
    let changed = update(keyspace.slot(key), |list: &mut List| {
        let take = count.unwrap_or(1).min(list.len());
        if count.is_some() {
            reply.array(take);
        }
        pop_some(list, end, take, &settings.thresholds, reply);
        Ok(take)
    })?;
    let Some(changed) = changed else {
        match count {
            Some(_) => cx.reply.null_array(),
            None => cx.reply.null(),
        }
        return Ok(Effect::Unchanged);
    };
    if changed.result > 0 {
        cx.notify(Class::LIST, pop_event(end), key);
        if changed.emptied {
            cx.notify(Class::GENERIC, "del", key);
        }
    }
    Ok(Effect::count(changed.result as u64))
}

/// Pops `take` elements, of which there are as many, and answers each.
pub(super) fn pop_some(
    list: &mut List,
    end: End,
    take: usize,
    thresholds: &Thresholds,
    reply: &mut ReplyWriter<'_>,
) {
    for _ in 0..take {
        list.pop(end, thresholds, |element| reply_element(reply, element));
    }
}

/// A number of elements that must not be negative.
fn parse_count(text: &[u8]) -> Result<usize, CommandError> {
    parse_i64(text)
        .and_then(|count| usize::try_from(count).ok())
        .ok_or(CommandError::MustBePositive)
}
