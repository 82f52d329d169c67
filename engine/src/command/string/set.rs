//! Commands that set whole strings.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use super::{
    options::{Expiry, ManyOptions, SetOptions, Unit},
    text::{Text, new_body},
};
use crate::{
    command::prelude::*,
    keyspace::{Deadline, Slot},
};

/// SET key value [NX | XX | IFEQ value | IFNE value | IFDEQ digest | IFDNE digest] [GET]
/// [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL].
#[inline]
pub(super) fn set(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    if args.len() == 3 {
        put(cx, args, 1, 2);
        cx.reply.ok();
        return Ok(Effect::Changed(1));
    }
    set_with_options(cx, args)
}

/// What SET does to its key: with GET it reads it too.
pub(super) fn set_access(args: &Args<'_>) -> Access {
    let reads = args.iter().skip(3).any(|word| word.eq_ignore_ascii_case(b"GET"));
    if reads { Access::RW | Access::ACCESS | Access::UPDATE } else { Access::OW | Access::UPDATE }
}

/// SETNX key value: whether it was set.
pub(super) fn setnx(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    let slot = cx.keyspace.slot(key);
    let absent = slot.is_vacant();
    if absent {
        slot.put(new_body(args, 2), Deadline::Never);
        cx.notify(Class::STRING, "set", key);
    }
    cx.reply.integer(i64::from(absent));
    Ok(Effect::changed_if(absent))
}

/// SETEX key seconds value.
pub(super) fn setex(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let deadline = Unit::EX.deadline(&args[2], cx.keyspace.now_ms(), "setex")?;
    set_until(cx, args, deadline)
}

/// PSETEX key milliseconds value.
pub(super) fn psetex(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let deadline = Unit::PX.deadline(&args[2], cx.keyspace.now_ms(), "psetex")?;
    set_until(cx, args, deadline)
}

/// GETSET key value: the old value.
pub(super) fn getset(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    let slot = cx.keyspace.slot_read(key);
    reply_old(&slot, &mut cx.reply)?;
    slot.put(new_body(args, 2), Deadline::Never);
    cx.notify(Class::STRING, "set", key);
    Ok(Effect::Changed(1))
}

/// MSET key value [key value …].
pub(super) fn mset(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let pairs = pairs(args, "mset")?;
    put_pairs(cx, args);
    cx.reply.ok();
    Ok(Effect::count(pairs))
}

/// MSETNX key value [key value …]: whether they were set, for which none may exist.
pub(super) fn msetnx(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let pairs = pairs(args, "msetnx")?;
    if args.iter().skip(1).step_by(2).any(|key| cx.keyspace.contains(key)) {
        cx.reply.integer(0);
        return Ok(Effect::Unchanged);
    }
    put_pairs(cx, args);
    cx.reply.integer(1);
    Ok(Effect::count(pairs))
}

/// MSETEX numkeys key value [key value …] [NX | XX] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]:
/// whether they were set, for which none, or all, of the keys must be there if a condition says so.
pub(super) fn msetex(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let pairs_end = 2 + 2 * counted_pairs(args)?;
    let options = ManyOptions::parse(&args.tail(pairs_end))?;
    let now_ms = cx.keyspace.now_ms();
    let deadline = options.expiry.deadline(now_ms, "msetex")?;
    let keys = || (2..pairs_end).step_by(2);
    for at in keys() {
        if !options.condition.holds(cx.keyspace.peek(&args[at]).map(|entry| entry.body()))? {
            cx.reply.integer(0);
            return Ok(Effect::Unchanged);
        }
    }
    cx.reply.integer(1);
    if deadline.is_some_and(|deadline| deadline <= now_ms) {
        return Ok(remove_all(cx, keys().map(|at| &args[at])));
    }
    let until = match (deadline, options.expiry) {
        (Some(deadline), _) => Deadline::At(deadline),
        (None, Expiry::Keep) => Deadline::Keep,
        (None, _) => Deadline::Never,
    };
    for at in keys() {
        cx.keyspace.slot(&args[at]).put(new_body(args, at + 1), until);
        cx.notify(Class::STRING, "set", &args[at]);
        if deadline.is_some() {
            cx.notify(Class::GENERIC, "expire", &args[at]);
        }
    }
    if let Some(deadline) = deadline {
        let mut draft = cx.draft("MSETEX");
        if draft.is_active() {
            args.iter().take(pairs_end).skip(1).for_each(|word| draft.push(word));
            draft.push(b"PXAT");
            draft.push(itoa::Buffer::new().format(deadline).as_bytes());
            cx.record_draft(draft);
        }
    }
    Ok(Effect::Changed(keys().len() as u64))
}

/// The positions of MSETEX's keys.
pub(super) fn msetex_keys(args: &Args<'_>, positions: &mut Vec<usize>) -> Result<(), CommandError> {
    positions.extend((2..2 + 2 * counted_pairs(args)?).step_by(2));
    Ok(())
}

/// How many keys with their values follow their number.
fn counted_pairs(args: &Args<'_>) -> Result<usize, CommandError> {
    let pairs = parse_i64(&args[1]).and_then(|pairs| i32::try_from(pairs).ok());
    let pairs = pairs.and_then(|pairs| usize::try_from(pairs).ok()).filter(|&pairs| pairs > 0);
    let pairs = pairs.ok_or(CommandError::text("ERR invalid numkeys value"))?;
    if 2 + 2 * pairs > args.len() {
        return Err(CommandError::text("ERR wrong number of key-value pairs"));
    }
    Ok(pairs)
}

/// Removes keys that would be set to be gone at once.
fn remove_all<'k>(cx: &mut Context<'_>, keys: impl Iterator<Item = &'k [u8]>) -> Effect {
    let removed: Vec<&[u8]> = keys.filter(|key| cx.keyspace.remove(key)).collect();
    if !removed.is_empty() {
        cx.record(&[&[&b"DEL"[..]][..], &removed].concat());
    }
    removed.iter().for_each(|key| cx.notify(Class::GENERIC, "del", key));
    Effect::count(removed.len() as u64)
}

fn set_with_options(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let options = SetOptions::parse(args)?;
    let now_ms = cx.keyspace.now_ms();
    let deadline = options.expiry.deadline(now_ms, "set")?;
    let key = &args[1];
    let slot = if options.get { cx.keyspace.slot_read(key) } else { cx.keyspace.slot(key) };
    if options.get {
        reply_old(&slot, &mut cx.reply)?;
    }
    if !options.condition.holds(slot.body())? {
        if !options.get {
            cx.reply.null();
        }
        return Ok(Effect::Unchanged);
    }
    if !options.get {
        cx.reply.ok();
    }
    if deadline.is_some_and(|deadline| deadline <= now_ms) {
        // What would be gone at once is not stored.
        let removed = slot.remove();
        if removed {
            cx.record(&[b"DEL", key]);
            cx.notify(Class::GENERIC, "del", key);
        }
        return Ok(Effect::changed_if(removed));
    }
    let until = match (deadline, options.expiry) {
        (Some(deadline), _) => Deadline::At(deadline),
        (None, Expiry::Keep) => Deadline::Keep,
        (None, _) => Deadline::Never,
    };
    slot.put(new_body(args, 2), until);
    record_set(cx, key, &args[2], until);
    cx.notify(Class::STRING, "set", key);
    if deadline.is_some() {
        cx.notify(Class::GENERIC, "expire", key);
    }
    Ok(Effect::Changed(1))
}

/// Replies what is in the slot: a string or nothing.
fn reply_old(slot: &Slot<'_, '_>, reply: &mut ReplyWriter<'_>) -> Result<(), CommandError> {
    match slot.body() {
        Some(body) => Text::of(body)?.reply(reply),
        None => reply.null(),
    }
    Ok(())
}

/// SETEX and PSETEX: the deadline lies in the future, since it counts from now.
fn set_until(cx: &mut Context<'_>, args: &Args<'_>, deadline: i64) -> Result<Effect, CommandError> {
    let key = &args[1];
    let until = Deadline::At(deadline);
    cx.keyspace.slot(key).put(new_body(args, 3), until);
    record_set(cx, key, &args[3], until);
    cx.notify(Class::STRING, "set", key);
    cx.notify(Class::GENERIC, "expire", key);
    cx.reply.ok();
    Ok(Effect::Changed(1))
}

/// Records that `key` was set, whatever the conditions were, with the deadline made absolute.
fn record_set(cx: &mut Context<'_>, key: &[u8], value: &[u8], until: Deadline) {
    match until {
        Deadline::Never => cx.record(&[b"SET", key, value]),
        Deadline::Keep => cx.record(&[b"SET", key, value, b"KEEPTTL"]),
        Deadline::At(at_ms) if cx.records() => {
            let at_ms = itoa::Buffer::new().format(at_ms).to_owned();
            cx.record(&[b"SET", key, value, b"PXAT", at_ms.as_bytes()]);
        }
        Deadline::At(_) => {}
    }
}

/// Sets the key at `key_at` to the string at `value_at`.
#[inline]
fn put(cx: &mut Context<'_>, args: &Args<'_>, key_at: usize, value_at: usize) {
    let key = &args[key_at];
    cx.keyspace.slot(key).put(new_body(args, value_at), Deadline::Never);
    cx.notify(Class::STRING, "set", key);
}

fn put_pairs(cx: &mut Context<'_>, args: &Args<'_>) {
    for key_at in (1..args.len()).step_by(2) {
        put(cx, args, key_at, key_at + 1);
    }
}

/// How many pairs of key and value the arguments are.
fn pairs(args: &Args<'_>, command: &'static str) -> Result<u64, CommandError> {
    if args.len().is_multiple_of(2) {
        return Err(CommandError::WrongArity { command: command.into() });
    }
    Ok((args.len() / 2) as u64)
}
