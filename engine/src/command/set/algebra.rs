//! Commands over several sets: what they have together, in common and apart.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use super::combine::{Combination, CombinationWork, Kind, Purpose};
use crate::{
    command::{
        collection::{capture, reply_element, store_result},
        prelude::*,
        walk::{Content, Walk, is_long},
        work,
    },
    keyspace::Keyspace,
    types::{Set, Thresholds},
};

/// SINTER key [key …].
pub(super) fn sinter(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    answer(cx, args, Kind::Intersection)
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
    let mut combination = Combination::new(Kind::Intersection, sets, cx.keyspace.deferred_free());
    if work::is_long(combination.lookups(), cx.is_script) {
        answer_later(cx, combination, Purpose::Count { limit });
        return Ok(Effect::Unchanged);
    }
    let mut count = 0;
    combination.go_on(usize::MAX, |_| {
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
    Combination::new(Kind::Intersection, sets, cx.keyspace.deferred_free())
        .add_to(&mut result, thresholds);
    let result = as_integers(&result, thresholds).unwrap_or(result);
    Ok(store_result(cx, &args[1], result, (Class::SET, "sinterstore")))
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
    answer(cx, args, Kind::Union)
}

/// SUNIONSTORE destination key [key …]: the number of members.
pub(super) fn sunionstore(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    combine_and_store(cx, args, Kind::Union, "sunionstore")
}

/// SDIFF key [key …].
pub(super) fn sdiff(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    answer(cx, args, Kind::Difference)
}

/// SDIFFSTORE destination key [key …]: the number of members.
pub(super) fn sdiffstore(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    combine_and_store(cx, args, Kind::Difference, "sdiffstore")
}

/// Answers what the sets behind the command's name come to.
fn answer(cx: &mut Context<'_>, args: &Args<'_>, kind: Kind) -> Result<Effect, CommandError> {
    let sets = sources(cx.keyspace, args, 1)?;
    let mut combination = Combination::new(kind, sets, cx.keyspace.deferred_free());
    let thresholds = &cx.settings.thresholds;
    let is_distinct = kind != Kind::Union;
    let mut result = Set::new(b"0", 0, thresholds);
    if work::is_long(combination.lookups(), cx.is_script) {
        let thresholds = thresholds.clone();
        let purpose = match is_distinct {
            true => Purpose::Answer,
            false => Purpose::Distinct { result, thresholds },
        };
        answer_later(cx, combination, purpose);
    } else if is_distinct {
        let (reply, mut len) = (&mut cx.reply, 0);
        let begun = reply.deferred();
        combination.go_on(usize::MAX, |member| {
            reply_element(reply, member);
            len += 1;
            true
        });
        reply.finish_set(begun, len);
    } else {
        combination.add_to(&mut result, thresholds);
        reply_set(cx, result);
    }
    Ok(Effect::Unchanged)
}

fn answer_later(cx: &mut Context<'_>, combination: Combination, purpose: Purpose) {
    let protocol = cx.reply.protocol();
    cx.reply.later(work::in_slices(CombinationWork::new(combination, purpose), protocol));
}

/// Stores what the sets behind the destination come to.
fn combine_and_store(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    kind: Kind,
    event: &'static str,
) -> Result<Effect, CommandError> {
    let sets = sources(cx.keyspace, args, 2)?;
    let thresholds = &cx.settings.thresholds;
    let mut result = Set::new(b"0", 0, thresholds);
    Combination::new(kind, sets, cx.keyspace.deferred_free()).add_to(&mut result, thresholds);
    Ok(store_result(cx, &args[1], result, (Class::SET, event)))
}

/// The sets at the keys from the argument `first` on.
fn sources(
    keyspace: &mut Keyspace,
    args: &Args<'_>,
    first: usize,
) -> Result<Vec<Option<Set>>, CommandError> {
    args.iter().skip(first).map(|key| capture(keyspace, key)).collect()
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
