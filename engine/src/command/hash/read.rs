//! Commands that read hashes.
#![forbid(unsafe_code)]

use tessera_proto::Protocol;

use crate::{
    command::{
        collection::{read, reply_element},
        members::{Draw, ScanOptions, parse_cursor, reply_empty_scan, reply_scan},
        prelude::*,
        walk::{Content, Part, Walk, is_long, reply_field},
    },
    types::{Element, Hash},
};

/// HGET key field.
#[inline]
pub(super) fn hget(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    cx.keyspace.expire_touched(&args[1], args.iter().skip(2));
    let hash = read::<Hash>(cx.keyspace, &args[1])?;
    match hash.as_ref().and_then(|hash| hash.get(&args[2])) {
        Some(value) => reply_element(&mut cx.reply, value),
        None => cx.reply.null(),
    }
    Ok(Effect::Unchanged)
}

/// HMGET key field [field …].
pub(super) fn hmget(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    cx.keyspace.expire_touched(&args[1], args.iter().skip(2));
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
    let now_ms = cx.keyspace.now_ms();
    let len = read::<Hash>(cx.keyspace, &args[1])?.map_or(0, |hash| hash.live_len(now_ms));
    cx.reply.count(len);
    Ok(Effect::Unchanged)
}

/// HSTRLEN key field.
pub(super) fn hstrlen(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    cx.keyspace.expire_touched(&args[1], args.iter().skip(2));
    let hash = read::<Hash>(cx.keyspace, &args[1])?;
    let value = hash.as_ref().and_then(|hash| hash.get(&args[2]));
    cx.reply.count(value.map_or(0, |value| value.len()));
    Ok(Effect::Unchanged)
}

/// HEXISTS key field.
pub(super) fn hexists(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    cx.keyspace.expire_touched(&args[1], args.iter().skip(2));
    let found = read::<Hash>(cx.keyspace, &args[1])?.is_some_and(|hash| hash.contains(&args[2]));
    cx.reply.integer(i64::from(found));
    Ok(Effect::Unchanged)
}

/// HGETALL key.
pub(super) fn hgetall(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    reply_hash(cx, args, Part::Both)
}

/// HKEYS key.
pub(super) fn hkeys(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    reply_hash(cx, args, Part::Fields)
}

/// HVALS key.
pub(super) fn hvals(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    reply_hash(cx, args, Part::Values)
}

/// Answers what of a hash has not expired.
#[inline]
fn reply_hash(cx: &mut Context<'_>, args: &Args<'_>, part: Part) -> Result<Effect, CommandError> {
    let now_ms = cx.keyspace.now_ms();
    let hash = read::<Hash>(cx.keyspace, &args[1])?;
    let live = hash.as_ref().map_or(0, |hash| hash.live_len(now_ms));
    match part {
        Part::Both => cx.reply.map(live),
        Part::Fields | Part::Values => cx.reply.array(live),
    }
    match hash {
        Some(hash) if is_long(live, cx.is_script) => {
            let hash = hash.into_owned();
            let (range, protocol) = (0..hash.len(), cx.reply.protocol());
            let content = Content::Hash(hash, part, now_ms);
            cx.reply.later(Walk::over(content, range, protocol, cx.keyspace.deferred_free()));
        }
        hash => {
            for field in hash.iter().flat_map(|hash| hash.iter_live(now_ms)) {
                reply_field(&mut cx.reply, field, part);
            }
        }
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
    let now_ms = cx.keyspace.now_ms();
    let Some(hash) = read::<Hash>(cx.keyspace, &args[1])? else {
        cx.reply.array(0);
        return Ok(Effect::Unchanged);
    };
    let live = LiveFields::of(&hash, now_ms);
    let reply = &mut cx.reply;
    let nested = with_values && reply.protocol() == Protocol::Resp3;
    let elements = if with_values && !nested { 2 } else { 1 };
    reply.array(draw.take(live.len()).saturating_mul(elements));
    draw.indexes(live.len(), cx.random, |index| {
        let Some((field, value)) = live.at(index) else { return };
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
    let now_ms = cx.keyspace.now_ms();
    let hash = read::<Hash>(cx.keyspace, &args[1])?;
    let live = hash.as_ref().map(|hash| LiveFields::of(hash, now_ms));
    let drawn = live.as_ref().filter(|live| live.len() > 0).and_then(|live| {
        let index = cx.random.below(live.len() as u64) as usize;
        live.at(index)
    });
    match drawn {
        Some((field, _)) => reply_element(&mut cx.reply, field),
        None => cx.reply.null(),
    }
    Ok(Effect::Unchanged)
}

/// The fields of a hash by number, without those that have expired and not yet been removed.
enum LiveFields<'h> {
    /// There are none such.
    All(&'h Hash),
    /// What is left of others.
    Some(Vec<(Element<'h>, Element<'h>)>),
}

impl<'h> LiveFields<'h> {
    fn of(hash: &'h Hash, now_ms: i64) -> Self {
        if hash.live_len(now_ms) == hash.len() {
            Self::All(hash)
        } else {
            Self::Some(hash.iter_live(now_ms).collect())
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::All(hash) => hash.len(),
            Self::Some(fields) => fields.len(),
        }
    }

    fn at(&self, index: usize) -> Option<(Element<'h>, Element<'h>)> {
        match self {
            Self::All(hash) => hash.at(index),
            Self::Some(fields) => fields.get(index).copied(),
        }
    }
}

/// HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES].
pub(super) fn hscan(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let cursor = parse_cursor(&args[2])?;
    let now_ms = cx.keyspace.now_ms();
    let Some(hash) = read::<Hash>(cx.keyspace, &args[1])? else {
        reply_empty_scan(&mut cx.reply);
        return Ok(Effect::Unchanged);
    };
    let options = ScanOptions::parse(args, Some("NOVALUES"))?;
    reply_scan(&mut cx.reply, |reply| {
        let mut len = 0;
        let cursor = hash.scan(cursor, options.count, now_ms, |field, value| {
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
