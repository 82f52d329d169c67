//! Commands over several lists.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use super::ends::{pop_event, pop_some, push_event, push_one};
use crate::{
    command::{
        collection::{View, look, reply_element, update},
        multipop::{self, Multipop},
        prelude::*,
    },
    types::{List, list::End},
};

/// RPOPLPUSH source destination.
pub(super) fn rpoplpush(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    transfer(cx, &args[1], &args[2], End::Back, End::Front)
}

/// LMOVE source destination LEFT|RIGHT LEFT|RIGHT.
pub(super) fn lmove(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    transfer(cx, &args[1], &args[2], parse_end(&args[3])?, parse_end(&args[4])?)
}

/// LMPOP numkeys key [key …] LEFT|RIGHT [COUNT count]: the key and what was popped from it.
pub(super) fn lmpop(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let popped = pop_from_first(cx, &Multipop::parse(args, parse_end)?)?;
    Ok(multipop::answer(cx, popped))
}

/// Pops from the first key that holds a list; nothing if none does.
pub(super) fn pop_from_first(
    cx: &mut Context<'_>,
    what: &Multipop<'_, End>,
) -> Result<Option<Effect>, CommandError> {
    for key in what.keys() {
        if look::<List>(cx.keyspace, key)?.is_some() {
            return pop_from(cx, key, what.from, what.count).map(Some);
        }
    }
    Ok(None)
}

/// LEFT or RIGHT.
pub(super) fn parse_end(word: &[u8]) -> Result<End, CommandError> {
    if word.eq_ignore_ascii_case(b"LEFT") {
        Ok(End::Front)
    } else if word.eq_ignore_ascii_case(b"RIGHT") {
        Ok(End::Back)
    } else {
        Err(CommandError::Syntax)
    }
}

/// A number above 0, or `error`.
pub(in crate::command) fn parse_at_least_one(
    text: &[u8],
    error: &'static str,
) -> Result<usize, CommandError> {
    parse_i64(text)
        .and_then(|number| usize::try_from(number).ok())
        .filter(|&number| number > 0)
        .ok_or_else(|| CommandError::text(error))
}

/// What may follow from `at` on: COUNT and a number above 0, once.
pub(in crate::command) fn parse_pop_count(
    args: &Args<'_>,
    at: usize,
) -> Result<usize, CommandError> {
    match args.len() - at {
        0 => Ok(1),
        2 if args[at].eq_ignore_ascii_case(b"COUNT") => {
            parse_at_least_one(&args[at + 1], "ERR count should be greater than 0")
        }
        _ => Err(CommandError::Syntax),
    }
}

/// Pops up to `count` elements of the list at `key`, which exists, for LMPOP.
fn pop_from(
    cx: &mut Context<'_>,
    key: &[u8],
    end: End,
    count: usize,
) -> Result<Effect, CommandError> {
    let Context { keyspace, reply, settings, .. } = cx;
    reply.array(2);
    reply.bulk(key);
    let changed = update(keyspace.slot(key), |list: &mut List| {
        let take = count.min(list.len());
        reply.array(take);
        pop_some(list, end, take, &settings.thresholds, reply);
        Ok(take)
    })?;
    cx.notify(Class::LIST, pop_event(end), key);
    if changed.as_ref().is_some_and(|changed| changed.emptied) {
        cx.notify(Class::GENERIC, "del", key);
    }
    let popped = changed.map_or(0, |changed| changed.result);
    let name: &[u8] = if end == End::Front { b"LPOP" } else { b"RPOP" };
    cx.record(&[name, key, itoa::Buffer::new().format(popped).as_bytes()]);
    Ok(Effect::count(popped as u64))
}

pub(super) fn transfer(
    cx: &mut Context<'_>,
    source: &[u8],
    target: &[u8],
    from: End,
    to: End,
) -> Result<Effect, CommandError> {
    if look::<List>(cx.keyspace, source)?.is_none() {
        cx.reply.null();
        return Ok(Effect::Unchanged);
    }
    if let Some(body) = cx.keyspace.slot(target).body() {
        View::<List>::of(body)?;
    }
    let thresholds = &cx.settings.thresholds;
    let (keyspace, reply) = (&mut *cx.keyspace, &mut cx.reply);
    let take = |list: &mut List| {
        let element = list.pop(from, thresholds, |element| {
            reply_element(reply, element);
            element.to_vec()
        });
        let element = element.unwrap_or_default();
        if source == target {
            list.push(to, &element, thresholds);
        }
        Ok(element)
    };
    let changed = update(keyspace.slot(source), take)?;
    let Some(changed) = changed else { return Ok(Effect::Unchanged) };
    if source != target {
        push_one(cx.keyspace.slot(target), &changed.result, to, thresholds)?;
    }
    cx.notify(Class::LIST, push_event(to), target);
    cx.notify(Class::LIST, pop_event(from), source);
    if changed.emptied {
        cx.notify(Class::GENERIC, "del", source);
    }
    Ok(Effect::Changed(1))
}
