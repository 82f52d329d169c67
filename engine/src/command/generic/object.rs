//! OBJECT: how a value is kept and when it was used.
#![forbid(unsafe_code)]

use crate::{
    command::{help, prelude::*},
    keyspace::{
        EntryRef, Keyspace,
        usage::{Policy, idle_seconds},
    },
    value::{Object, encoding_name},
};

/// OBJECT ENCODING key.
pub(super) fn object_encoding(
    cx: &mut Context<'_>,
    args: &Args<'_>,
) -> Result<Effect, CommandError> {
    match inspect(cx.keyspace, args) {
        Some(entry) => cx.reply.bulk(encoding_name(&entry.body()).as_bytes()),
        None => cx.reply.null(),
    }
    Ok(Effect::Unchanged)
}

/// OBJECT FREQ key.
pub(super) fn object_freq(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let (policy, clock) = (cx.keyspace.usage_policy(), cx.keyspace.clock());
    let Some(usage) = inspect(cx.keyspace, args).map(EntryRef::lru) else {
        cx.reply.null();
        return Ok(Effect::Unchanged);
    };
    if policy == Policy::Recency {
        return Err(wrong_policy("not selected, access frequency"));
    }
    cx.reply.integer(i64::from(policy.frequency(usage, clock)));
    Ok(Effect::Unchanged)
}

/// OBJECT IDLETIME key.
pub(super) fn object_idletime(
    cx: &mut Context<'_>,
    args: &Args<'_>,
) -> Result<Effect, CommandError> {
    let (policy, clock) = (cx.keyspace.usage_policy(), cx.keyspace.clock());
    let Some(usage) = inspect(cx.keyspace, args).map(EntryRef::lru) else {
        cx.reply.null();
        return Ok(Effect::Unchanged);
    };
    if policy != Policy::Recency {
        return Err(wrong_policy("selected, idle time"));
    }
    cx.reply.integer(i64::from(idle_seconds(usage, clock)));
    Ok(Effect::Unchanged)
}

/// OBJECT REFCOUNT key.
pub(super) fn object_refcount(
    cx: &mut Context<'_>,
    args: &Args<'_>,
) -> Result<Effect, CommandError> {
    match inspect(cx.keyspace, args) {
        Some(_) => cx.reply.integer(1),
        None => cx.reply.null(),
    }
    Ok(Effect::Unchanged)
}

/// OBJECT HELP.
pub(super) fn object_help(cx: &mut Context<'_>, _: &Args<'_>) -> Result<Effect, CommandError> {
    help::reply(
        &mut cx.reply,
        "OBJECT",
        &[
            ("ENCODING <key>", "Answer the name of the representation of the key's value."),
            ("FREQ <key>", "Answer the counter of the key's use, which grows logarithmically."),
            ("IDLETIME <key>", "Answer the seconds since the key was last used."),
            ("REFCOUNT <key>", "Answer how often the key's value is referred to."),
        ],
    );
    Ok(Effect::Unchanged)
}

fn inspect<'a>(keyspace: &'a mut Keyspace, args: &Args<'_>) -> Option<EntryRef<'a, Object>> {
    keyspace.inspect(&args[2])
}

fn wrong_policy(what: &str) -> CommandError {
    CommandError::text(format!(
        "ERR An LFU maxmemory policy is {what} not tracked. Please note that when switching between \
         policies at runtime LRU and LFU data will take some time to adjust."
    ))
}
