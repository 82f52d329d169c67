//! Commands over several sets: what they have together, in common and apart.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use crate::{
    command::{
        collection::{capture, reply_element, store},
        prelude::*,
        walk::{Content, Walk, is_long},
    },
    keyspace::Keyspace,
    types::{Element, Set, Thresholds},
};

/// SINTER key [key …].
pub(super) fn sinter(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let sets = sources(cx.keyspace, args, 1)?;
    let reply = &mut cx.reply;
    let begun = reply.deferred();
    let mut len = 0;
    intersect(&sets, |member| {
        reply_element(reply, member);
        len += 1;
        true
    });
    reply.finish_set(begun, len);
    Ok(Effect::Unchanged)
}

/// SINTERCARD numkeys key [key …] [LIMIT limit].
pub(super) fn sintercard(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let keys = parse_i64(&args[1])
        .and_then(|keys| usize::try_from(keys).ok())
        .filter(|&keys| keys > 0)
        .ok_or(CommandError::text("ERR numkeys should be greater than 0"))?;
    if keys > args.len() - 2 {
        return Err(CommandError::text("ERR Number of keys can't be greater than number of args"));
    }
    let limit = parse_limit(args, keys + 2)?;
    let mut sets = Vec::with_capacity(keys);
    for key in args.iter().skip(2).take(keys) {
        sets.push(capture(cx.keyspace, key)?);
    }
    let mut count = 0;
    intersect(&sets, |_| {
        count += 1;
        count != limit
    });
    cx.reply.count(count);
    Ok(Effect::Unchanged)
}

/// SINTERSTORE destination key [key …]: the number of members.
pub(super) fn sinterstore(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let sets = sources(cx.keyspace, args, 2)?;
    let thresholds = &cx.settings.thresholds;
    // A result of strings need not be an intset for a while.
    let smallest = sets.iter().flatten().min_by_key(|set| set.len());
    let like: &[u8] = match smallest {
        Some(set) if set.encoding_name() == "intset" => b"0",
        _ => b"",
    };
    let mut result = Set::new(like, 0, thresholds);
    intersect(&sets, |member| {
        member.with_bytes(|member| result.add(member, thresholds));
        true
    });
    let result = as_integers(&result, thresholds).unwrap_or(result);
    Ok(store_result(cx, &args[1], result, "sinterstore"))
}

/// The same set as an intset, if it is none and may be one: few members, all integers.
fn as_integers(set: &Set, thresholds: &Thresholds) -> Option<Set> {
    if set.encoding_name() == "intset" || set.len() > thresholds.set_max_intset_entries {
        return None;
    }
    let mut integers = Set::new(b"0", 0, thresholds);
    for member in set.iter() {
        member.with_bytes(|member| integers.add(member, thresholds));
        if integers.encoding_name() != "intset" {
            return None;
        }
    }
    Some(integers)
}

/// SUNION key [key …].
pub(super) fn sunion(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let sets = sources(cx.keyspace, args, 1)?;
    reply_set(cx, union(&sets, &cx.settings.thresholds));
    Ok(Effect::Unchanged)
}

/// SUNIONSTORE destination key [key …]: the number of members.
pub(super) fn sunionstore(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let sets = sources(cx.keyspace, args, 2)?;
    let result = union(&sets, &cx.settings.thresholds);
    Ok(store_result(cx, &args[1], result, "sunionstore"))
}

/// SDIFF key [key …].
pub(super) fn sdiff(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let sets = sources(cx.keyspace, args, 1)?;
    reply_set(cx, difference(&sets, &cx.settings.thresholds));
    Ok(Effect::Unchanged)
}

/// SDIFFSTORE destination key [key …]: the number of members.
pub(super) fn sdiffstore(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let sets = sources(cx.keyspace, args, 2)?;
    let result = difference(&sets, &cx.settings.thresholds);
    Ok(store_result(cx, &args[1], result, "sdiffstore"))
}

/// The sets at the keys from the argument `first` on.
fn sources(
    keyspace: &mut Keyspace,
    args: &Args<'_>,
    first: usize,
) -> Result<Vec<Option<Set>>, CommandError> {
    args.iter().skip(first).map(|key| capture(keyspace, key)).collect()
}

/// Calls `each` with the members that all `sets` have, until it returns false.
fn intersect(sets: &[Option<Set>], mut each: impl FnMut(Element<'_>) -> bool) {
    let Some(mut sets) = sets.iter().map(Option::as_ref).collect::<Option<Vec<_>>>() else {
        return;
    };
    sets.sort_by_key(|set| set.len());
    let Some((smallest, others)) = sets.split_first() else { return };
    for member in smallest.iter() {
        let common = member.with_bytes(|name| others.iter().all(|set| set.contains(name)));
        if common && !each(member) {
            return;
        }
    }
}

fn union(sets: &[Option<Set>], thresholds: &Thresholds) -> Set {
    let mut result = Set::new(b"0", 0, thresholds);
    for member in sets.iter().flatten().flat_map(|set| set.iter()) {
        member.with_bytes(|member| result.add(member, thresholds));
    }
    result
}

/// What the first of `sets` has and no other.
fn difference(sets: &[Option<Set>], thresholds: &Thresholds) -> Set {
    let mut result = Set::new(b"0", 0, thresholds);
    let Some((Some(first), others)) = sets.split_first() else { return result };
    let mut others: Vec<&Set> = others.iter().flatten().collect();
    // The largest is the likeliest to have a member.
    others.sort_by_key(|set| std::cmp::Reverse(set.len()));
    for member in first.iter() {
        member.with_bytes(|member| {
            if !others.iter().any(|set| set.contains(member)) {
                result.add(member, thresholds);
            }
        });
    }
    result
}

/// Answers the members of a set.
pub(super) fn reply_set(cx: &mut Context<'_>, set: Set) {
    let len = set.len();
    cx.reply.set(len);
    if is_long(len, cx.is_script) {
        let protocol = cx.reply.protocol();
        cx.reply.later(Walk::over(
            Content::Set(set),
            0..len,
            protocol,
            cx.keyspace.deferred_free(),
        ));
    } else {
        set.iter().for_each(|member| reply_element(&mut cx.reply, member));
    }
}

/// Puts `result` at `key` and answers its number of members.
fn store_result(cx: &mut Context<'_>, key: &[u8], result: Set, event: &'static str) -> Effect {
    let len = result.len();
    let existed = store(cx.keyspace, key, result);
    cx.reply.count(len);
    if len > 0 {
        cx.notify(Class::SET, event, key);
        return Effect::Changed(1);
    }
    if existed {
        cx.notify(Class::GENERIC, "del", key);
    }
    Effect::changed_if(existed)
}

/// LIMIT and a number, 0 for none, from the argument `at` on.
fn parse_limit(args: &Args<'_>, at: usize) -> Result<usize, CommandError> {
    let mut limit = 0;
    let mut rest = args.iter().skip(at);
    while let Some(word) = rest.next() {
        if !word.eq_ignore_ascii_case(b"LIMIT") {
            return Err(CommandError::Syntax);
        }
        let number = rest.next().ok_or(CommandError::Syntax)?;
        limit = parse_i64(number)
            .and_then(|limit| usize::try_from(limit).ok())
            .ok_or(CommandError::text("ERR LIMIT can't be negative"))?;
    }
    Ok(limit)
}
