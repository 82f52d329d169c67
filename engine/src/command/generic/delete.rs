//! Commands that remove keys or ask whether they are there.
#![forbid(unsafe_code)]

use crate::{command::prelude::*, value::value_type};

/// DEL key [key …] and UNLINK: how many there were.
pub(super) fn del(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let mut removed = 0;
    for key in args.iter().skip(1) {
        if cx.keyspace.remove(key) {
            cx.notify(Class::GENERIC, "del", key);
            removed += 1;
        }
    }
    cx.reply.count(removed);
    Ok(Effect::count(removed as u64))
}

/// EXISTS key [key …]: how many there are, those named twice counted twice.
pub(super) fn exists(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let found = args.iter().skip(1).filter(|key| cx.keyspace.inspect(key).is_some()).count();
    cx.reply.count(found);
    Ok(Effect::Unchanged)
}

/// TOUCH key [key …]: how many there are; their use is noted.
pub(super) fn touch(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let found = args.iter().skip(1).filter(|key| cx.keyspace.read(key).is_some()).count();
    cx.reply.count(found);
    Ok(Effect::Unchanged)
}

/// TYPE key: the type's name, or none.
pub(super) fn type_(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let found = cx.keyspace.inspect(&args[1]).map(|entry| value_type(&entry.body()).name());
    cx.reply.simple(found.unwrap_or("none"));
    Ok(Effect::Unchanged)
}
