//! Commands that read one sorted set, but for ranges.
#![forbid(unsafe_code)]

use super::{
    bounds::{Bounds, By},
    range::{begin_members, reply_member},
};
use crate::{
    command::{
        collection::{read, reply_element},
        members::{Draw, ScanOptions, parse_cursor, reply_empty_scan, reply_scan},
        prelude::*,
    },
    types::Zset,
};

/// ZCARD key.
pub(super) fn zcard(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let len = read::<Zset>(cx.keyspace, &args[1])?.map_or(0, |zset| zset.len());
    cx.reply.count(len);
    Ok(Effect::Unchanged)
}

/// ZSCORE key member.
pub(super) fn zscore(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let zset = read::<Zset>(cx.keyspace, &args[1])?;
    match zset.and_then(|zset| zset.score(&args[2])) {
        Some(score) => cx.reply.double(score),
        None => cx.reply.null(),
    }
    Ok(Effect::Unchanged)
}

/// ZMSCORE key member [member …].
pub(super) fn zmscore(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let zset = read::<Zset>(cx.keyspace, &args[1])?;
    cx.reply.array(args.len() - 2);
    for member in args.iter().skip(2) {
        match zset.as_ref().and_then(|zset| zset.score(member)) {
            Some(score) => cx.reply.double(score),
            None => cx.reply.null(),
        }
    }
    Ok(Effect::Unchanged)
}

/// ZCOUNT key min max.
pub(super) fn zcount(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    count(cx, args, By::Score)
}

/// ZLEXCOUNT key min max.
pub(super) fn zlexcount(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    count(cx, args, By::Lex)
}

fn count(cx: &mut Context<'_>, args: &Args<'_>, by: By) -> Result<Effect, CommandError> {
    let bounds = Bounds::parse(by, &args[2], &args[3])?;
    let zset = read::<Zset>(cx.keyspace, &args[1])?;
    cx.reply.count(zset.map_or(0, |zset| bounds.ranks(&zset, false).len()));
    Ok(Effect::Unchanged)
}

/// ZRANK key member [WITHSCORE].
pub(super) fn zrank(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    rank(cx, args, false, "zrank")
}

/// ZREVRANK key member [WITHSCORE].
pub(super) fn zrevrank(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    rank(cx, args, true, "zrevrank")
}

fn rank(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    reverse: bool,
    command: &'static str,
) -> Result<Effect, CommandError> {
    let with_score = match args.len() {
        3 => false,
        4 if args[3].eq_ignore_ascii_case(b"WITHSCORE") => true,
        4 => return Err(CommandError::Syntax),
        _ => return Err(CommandError::WrongArity { command: command.into() }),
    };
    let zset = read::<Zset>(cx.keyspace, &args[1])?;
    let found = zset.and_then(|zset| {
        let (rank, score) = zset.rank(&args[2])?;
        Some((if reverse { zset.len() - 1 - rank } else { rank }, score))
    });
    match (found, with_score) {
        (Some((rank, score)), true) => {
            cx.reply.array(2);
            cx.reply.count(rank);
            cx.reply.double(score);
        }
        (Some((rank, _)), false) => cx.reply.count(rank),
        (None, true) => cx.reply.null_array(),
        (None, false) => cx.reply.null(),
    }
    Ok(Effect::Unchanged)
}

/// ZRANDMEMBER key [count [WITHSCORES]].
pub(super) fn zrandmember(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let draw = args.get(2).map(Draw::parse).transpose()?;
    let with_scores = match args.len() {
        2 | 3 => false,
        4 if args[3].eq_ignore_ascii_case(b"WITHSCORES") => true,
        _ => return Err(CommandError::Syntax),
    };
    if let Some(draw) = draw.filter(|_| with_scores) {
        draw.doubled()?;
    }
    let Some(zset) = read::<Zset>(cx.keyspace, &args[1])? else {
        match draw {
            Some(_) => cx.reply.array(0),
            None => cx.reply.null(),
        }
        return Ok(Effect::Unchanged);
    };
    if let Some(draw) = draw {
        begin_members(&mut cx.reply, draw.take(zset.len()), with_scores);
    }
    draw.unwrap_or(Draw::Repeated(1)).indexes(zset.len(), cx.random, |rank| {
        if let Some((member, score)) = zset.at(rank) {
            reply_member(&mut cx.reply, member, with_scores.then_some(score));
        }
    });
    Ok(Effect::Unchanged)
}

/// ZSCAN key cursor [MATCH pattern] [COUNT count] [NOSCORES].
pub(super) fn zscan(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let cursor = parse_cursor(&args[2])?;
    let Some(zset) = read::<Zset>(cx.keyspace, &args[1])? else {
        reply_empty_scan(&mut cx.reply);
        return Ok(Effect::Unchanged);
    };
    let options = ScanOptions::parse(args, Some("NOSCORES"))?;
    reply_scan(&mut cx.reply, |reply| {
        let mut len = 0;
        let cursor = zset.scan(cursor, options.count, |member, score| {
            if options.admits(&member) {
                reply_element(reply, member);
                len += 1;
                if !options.alone {
                    // A string also in RESP3, where other commands answer a double.
                    reply.bulk_double(score);
                    len += 1;
                }
            }
        });
        (cursor, len)
    });
    Ok(Effect::Unchanged)
}
