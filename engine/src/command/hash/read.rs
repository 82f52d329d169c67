//! Commands that read hashes.
#![forbid(unsafe_code)]

use tessera_proto::Protocol;

use crate::{
    command::{
        collection::{View, read, reply_element},
        members::{Draw, ScanOptions, parse_cursor, reply_empty_scan, reply_scan},
        prelude::*,
    },
    types::Hash,
};

/// HGET key field.
#[inline]
pub(super) fn hget(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let hash = read::<Hash>(cx.keyspace, &args[1])?;
    match hash.as_ref().and_then(|hash| hash.get(&args[2])) {
        Some(value) => reply_element(&mut cx.reply, value),
        None => cx.reply.null(),
    }
    Ok(Effect::Unchanged)
}

/// HMGET key field [field …].
pub(super) fn hmget(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let hash = read::<Hash>(cx.keyspace, &args[1])?;
    cx.reply.array(args.len() - 2);
    for field in args.iter().skip(2) {
        match hash.as_ref().and_then(|hash| hash.get(field)) {
            Some(value) => reply_element(&mut cx.reply, value),
            None => cx.reply.null(),
        }
    }
    Ok(Effect::Unchanged)
}

/// HLEN key.
pub(super) fn hlen(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let len = read::<Hash>(cx.keyspace, &args[1])?.map_or(0, |hash| hash.len());
    cx.reply.count(len);
    Ok(Effect::Unchanged)
}

/// HSTRLEN key field.
pub(super) fn hstrlen(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let hash = read::<Hash>(cx.keyspace, &args[1])?;
    let value = hash.as_ref().and_then(|hash| hash.get(&args[2]));
    cx.reply.count(value.map_or(0, |value| value.len()));
    Ok(Effect::Unchanged)
}

/// HEXISTS key field.
pub(super) fn hexists(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let found = read::<Hash>(cx.keyspace, &args[1])?.is_some_and(|hash| hash.contains(&args[2]));
    cx.reply.integer(i64::from(found));
    Ok(Effect::Unchanged)
}

/// HGETALL key.
pub(super) fn hgetall(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let hash = read::<Hash>(cx.keyspace, &args[1])?;
    cx.reply.map(hash.as_ref().map_or(0, |hash| hash.len()));
    for (field, value) in hash.iter().flat_map(|hash| hash.iter()) {
        reply_element(&mut cx.reply, field);
        reply_element(&mut cx.reply, value);
    }
    Ok(Effect::Unchanged)
}

/// HKEYS key.
pub(super) fn hkeys(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let hash = read::<Hash>(cx.keyspace, &args[1])?;
    cx.reply.array(hash.as_ref().map_or(0, |hash| hash.len()));
    for (field, _) in hash.iter().flat_map(|hash| hash.iter()) {
        reply_element(&mut cx.reply, field);
    }
    Ok(Effect::Unchanged)
}

/// HVALS key.
pub(super) fn hvals(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let hash = read::<Hash>(cx.keyspace, &args[1])?;
    cx.reply.array(hash.as_ref().map_or(0, |hash| hash.len()));
    for (_, value) in hash.iter().flat_map(|hash| hash.iter()) {
        reply_element(&mut cx.reply, value);
    }
    Ok(Effect::Unchanged)
}

/// HRANDFIELD key [count [WITHVALUES]].
pub(super) fn hrandfield(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    if args.len() == 2 {
        return random_field(cx, args);
    }
    let mut draw = Draw::parse(&args[2])?;
    let with_values = match args.len() {
        3 => false,
        4 if args[3].eq_ignore_ascii_case(b"WITHVALUES") => true,
        _ => return Err(CommandError::Syntax),
    };
    if with_values {
        draw = draw.doubled()?;
    }
    let Some(hash) = read::<Hash>(cx.keyspace, &args[1])? else {
        cx.reply.array(0);
        return Ok(Effect::Unchanged);
    };
    let reply = &mut cx.reply;
    let nested = with_values && reply.protocol() == Protocol::Resp3;
    let elements = if with_values && !nested { 2 } else { 1 };
    reply.array(draw.take(hash.len()).saturating_mul(elements));
    draw.indexes(hash.len(), cx.random, |index| {
        let Some((field, value)) = hash.at(index) else { return };
        if nested {
            reply.array(2);
        }
        reply_element(reply, field);
        if with_values {
            reply_element(reply, value);
        }
    });
    Ok(Effect::Unchanged)
}

fn random_field(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let hash = read::<Hash>(cx.keyspace, &args[1])?;
    let random = &mut *cx.random;
    let drawn = |hash: &View<'_, Hash>| random.below(hash.len() as u64) as usize;
    let index = hash.as_ref().map(drawn);
    match hash.as_ref().zip(index).and_then(|(hash, index)| hash.at(index)) {
        Some((field, _)) => reply_element(&mut cx.reply, field),
        None => cx.reply.null(),
    }
    Ok(Effect::Unchanged)
}

/// HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES].
pub(super) fn hscan(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let cursor = parse_cursor(&args[2])?;
    let Some(hash) = read::<Hash>(cx.keyspace, &args[1])? else {
        reply_empty_scan(&mut cx.reply);
        return Ok(Effect::Unchanged);
    };
    let options = ScanOptions::parse(args, Some("NOVALUES"))?;
    reply_scan(&mut cx.reply, |reply| {
        let mut len = 0;
        let cursor = hash.scan(cursor, options.count, |field, value| {
            if options.admits(&field) {
                reply_element(reply, field);
                len += 1;
                if !options.alone {
                    reply_element(reply, value);
                    len += 1;
                }
            }
        });
        (cursor, len)
    });
    Ok(Effect::Unchanged)
}
