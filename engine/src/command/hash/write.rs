//! Commands that set and remove fields.
#![forbid(unsafe_code)]

use crate::{
    command::{
        collection::{update, update_or_create},
        prelude::*,
    },
    types::Hash,
};

/// HSET key field value [field value …]: how many fields are new.
pub(super) fn hset(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let created = set_pairs(cx, args, "hset")?;
    cx.reply.count(created);
    Ok(Effect::count(args.len() as u64 / 2 - 1))
}

/// HMSET key field value [field value …].
pub(super) fn hmset(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    set_pairs(cx, args, "hmset")?;
    cx.reply.ok();
    Ok(Effect::count(args.len() as u64 / 2 - 1))
}

/// HSETNX key field value: whether it was set.
pub(super) fn hsetnx(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    cx.keyspace.expire_touched(key, args.iter().skip(2).take(1));
    let thresholds = &cx.settings.thresholds;
    let set = update_or_create(cx.keyspace.slot(key), Hash::new, |hash| {
        let absent = !hash.contains(&args[2]);
        if absent {
            hash.set(&args[2], &args[3], thresholds);
        }
        Ok(absent)
    })?;
    cx.reply.integer(i64::from(set));
    if set {
        cx.notify(Class::HASH, "hset", key);
    }
    Ok(Effect::changed_if(set))
}

/// HDEL key field [field …]: how many were there.
pub(super) fn hdel(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    cx.keyspace.expire_touched(key, args.iter().skip(2));
    let changed = update(cx.keyspace.slot(key), |hash: &mut Hash| {
        Ok(args.iter().skip(2).filter(|field| hash.remove(field)).count())
    })?;
    let removed = changed.as_ref().map_or(0, |changed| changed.result);
    cx.reply.count(removed);
    if removed > 0 {
        cx.notify(Class::HASH, "hdel", key);
    }
    if changed.is_some_and(|changed| changed.emptied) {
        cx.notify(Class::GENERIC, "del", key);
    }
    Ok(Effect::count(removed as u64))
}

/// Sets the fields behind the key; how many are new.
fn set_pairs(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    command: &'static str,
) -> Result<usize, CommandError> {
    if args.len() % 2 == 1 {
        return Err(CommandError::WrongArity { command: command.into() });
    }
    let key = &args[1];
    cx.keyspace.expire_touched(key, args.iter().skip(2).step_by(2));
    let thresholds = &cx.settings.thresholds;
    let created = update_or_create(cx.keyspace.slot(key), Hash::new, |hash| {
        let pairs = (2..args.len()).step_by(2);
        Ok(pairs.filter(|&at| hash.set(&args[at], &args[at + 1], thresholds)).count())
    })?;
    cx.notify(Class::HASH, "hset", key);
    Ok(created)
}
