//! Commands that add, remove and move members.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use crate::{
    command::{
        collection::{View, reply_element, update, update_or_create},
        prelude::*,
    },
    journal::record::Draft,
    sys::random::Random,
    types::Set,
};

/// SADD key member [member …]: how many are new.
pub(super) fn sadd(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    let thresholds = &cx.settings.thresholds;
    let expected = args.len() - 2;
    let create = || Set::new(&args[2], expected, thresholds);
    let added = update_or_create(cx.keyspace.slot(key), create, |set| {
        set.expect(expected, thresholds);
        Ok((2..args.len()).filter(|&at| set.add(&args[at], thresholds)).count())
    })?;
    cx.reply.count(added);
    if added > 0 {
        cx.notify(Class::SET, "sadd", key);
    }
    Ok(Effect::count(added as u64))
}

/// SREM key member [member …]: how many were there.
pub(super) fn srem(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    let changed = update(cx.keyspace.slot(key), |set: &mut Set| {
        Ok(args.iter().skip(2).filter(|member| set.remove(member)).count())
    })?;
    let removed = changed.as_ref().map_or(0, |changed| changed.result);
    cx.reply.count(removed);
    if removed > 0 {
        cx.notify(Class::SET, "srem", key);
    }
    if changed.is_some_and(|changed| changed.emptied) {
        cx.notify(Class::GENERIC, "del", key);
    }
    Ok(Effect::count(removed as u64))
}

/// SPOP key [count].
pub(super) fn spop(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let count = match args.len() {
        2 => None,
        3 => Some(parse_count(&args[2])?),
        _ => return Err(CommandError::Syntax),
    };
    let key = &args[1];
    let mut effect = cx.draft("SREM");
    effect.push(key);
    let Context { keyspace, reply, random, .. } = cx;
    let changed = update(keyspace.slot(key), |set: &mut Set| {
        let take = count.unwrap_or(1).min(set.len());
        if count.is_some() {
            reply.set(take);
        }
        pop_some(set, take, random, reply, &mut effect);
        Ok(take)
    })?;
    let Some(changed) = changed else {
        match count {
            Some(_) => cx.reply.set(0),
            None => cx.reply.null(),
        }
        return Ok(Effect::Unchanged);
    };
    if changed.result > 0 {
        match changed.emptied {
            true => cx.record(&[b"DEL", key]),
            false => cx.record_draft(effect),
        }
        cx.notify(Class::SET, "spop", key);
    }
    if changed.emptied {
        cx.notify(Class::GENERIC, "del", key);
    }
    Ok(Effect::count(changed.result as u64))
}

fn pop_some(
    set: &mut Set,
    take: usize,
    random: &mut Random,
    reply: &mut ReplyWriter<'_>,
    effect: &mut Draft,
) {
    for _ in 0..take {
        let index = random.below(set.len() as u64) as usize;
        set.pop_at(index, |member| {
            if effect.is_active() {
                member.with_bytes(|member| effect.push(member));
            }
            reply_element(reply, member);
        });
    }
}

/// SMOVE source destination member: whether it was there.
pub(super) fn smove(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let (source, target, member) = (&args[1], &args[2], &args[3]);
    let Some(body) = cx.keyspace.slot(source).into_view().map(|entry| entry.body()) else {
        cx.reply.integer(0);
        return Ok(Effect::Unchanged);
    };
    let found = View::<Set>::of(body)?.contains(member);
    if let Some(body) = cx.keyspace.slot(target).body() {
        View::<Set>::of(body)?;
    }
    cx.reply.integer(i64::from(found));
    if !found || source == target {
        return Ok(Effect::Unchanged);
    }
    let removed = update(cx.keyspace.slot(source), |set: &mut Set| Ok(set.remove(member)))?;
    cx.notify(Class::SET, "srem", source);
    if removed.is_some_and(|removed| removed.emptied) {
        cx.notify(Class::GENERIC, "del", source);
    }
    let thresholds = &cx.settings.thresholds;
    let create = || Set::new(member, 1, thresholds);
    let added =
        update_or_create(cx.keyspace.slot(target), create, |set| Ok(set.add(member, thresholds)))?;
    if added {
        cx.notify(Class::SET, "sadd", target);
    }
    Ok(Effect::Changed(1 + u64::from(added)))
}

/// A number of members that must not be negative.
fn parse_count(text: &[u8]) -> Result<usize, CommandError> {
    parse_i64(text)
        .and_then(|count| usize::try_from(count).ok())
        .ok_or(CommandError::MustBePositive)
}
