//! Commands that read whole strings, and those that read and then remove or date them.
#![forbid(unsafe_code)]

use super::{
    options::{Expiry, parse_getex},
    text::Text,
};
use crate::command::prelude::*;

/// GET key.
#[inline]
pub(super) fn get(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    match cx.keyspace.read(&args[1]) {
        Some(entry) => Text::of(entry.body())?.reply(&mut cx.reply),
        None => cx.reply.null(),
    }
    Ok(Effect::Unchanged)
}

/// MGET key [key …]: for a key that holds no string, nothing.
pub(super) fn mget(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    cx.reply.array(args.len() - 1);
    for key in args.iter().skip(1) {
        let text = cx.keyspace.read(key).map(|entry| Text::of(entry.body()));
        match text {
            Some(Ok(text)) => text.reply(&mut cx.reply),
            Some(Err(_)) | None => cx.reply.null(),
        }
    }
    Ok(Effect::Unchanged)
}

/// STRLEN key.
pub(super) fn strlen(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let len = match cx.keyspace.read(&args[1]) {
        Some(entry) => Text::of(entry.body())?.len(),
        None => 0,
    };
    cx.reply.count(len);
    Ok(Effect::Unchanged)
}

/// GETDEL key.
pub(super) fn getdel(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    let slot = cx.keyspace.slot_read(key);
    let Some(body) = slot.body() else {
        cx.reply.null();
        return Ok(Effect::Unchanged);
    };
    Text::of(body)?.reply(&mut cx.reply);
    slot.remove();
    cx.record(&[b"DEL", key]);
    cx.notify(Class::GENERIC, "del", key);
    Ok(Effect::Changed(1))
}

/// DELIFEQ key value: whether the key held that string and is gone.
pub(super) fn delifeq(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    let slot = cx.keyspace.slot(key);
    let equal = match slot.body() {
        Some(body) => Text::of(body)?.with_bytes(|bytes| bytes == &args[2]),
        None => false,
    };
    if equal {
        slot.remove();
        cx.record(&[b"DEL", key]);
        cx.notify(Class::GENERIC, "del", key);
    }
    cx.reply.integer(i64::from(equal));
    Ok(Effect::changed_if(equal))
}

/// GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST].
pub(super) fn getex(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let expiry = parse_getex(args)?;
    let now_ms = cx.keyspace.now_ms();
    let key = &args[1];
    let mut slot = cx.keyspace.slot_read(key);
    let Some(body) = slot.body() else {
        cx.reply.null();
        return Ok(Effect::Unchanged);
    };
    let text = Text::of(body)?;
    let deadline = expiry.deadline(now_ms, "getex")?;
    text.reply(&mut cx.reply);
    let event = match deadline {
        Some(deadline) if deadline <= now_ms => {
            slot.remove();
            cx.record(&[b"DEL", key]);
            "del"
        }
        Some(deadline) => {
            slot.set_deadline(Some(deadline));
            cx.record_deadline(key, deadline);
            "expire"
        }
        None if expiry == Expiry::Never && slot.deadline().is_some() => {
            slot.set_deadline(None);
            cx.record(&[b"PERSIST", key]);
            "persist"
        }
        None => return Ok(Effect::Unchanged),
    };
    cx.notify(Class::GENERIC, event, key);
    Ok(Effect::Changed(1))
}
