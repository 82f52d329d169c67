//! Commands that read one set.
#![forbid(unsafe_code)]

use super::algebra::reply_set;
use crate::{
    command::{
        collection::{read, reply_element},
        members::{Draw, ScanOptions, parse_cursor, reply_empty_scan, reply_scan},
        prelude::*,
        walk::is_long,
    },
    types::Set,
};

/// SCARD key.
pub(super) fn scard(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let len = read::<Set>(cx.keyspace, &args[1])?.map_or(0, |set| set.len());
    cx.reply.count(len);
    Ok(Effect::Unchanged)
}

/// SISMEMBER key member.
pub(super) fn sismember(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let found = read::<Set>(cx.keyspace, &args[1])?.is_some_and(|set| set.contains(&args[2]));
    cx.reply.integer(i64::from(found));
    Ok(Effect::Unchanged)
}

/// SMISMEMBER key member [member …].
pub(super) fn smismember(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let set = read::<Set>(cx.keyspace, &args[1])?;
    cx.reply.array(args.len() - 2);
    for member in args.iter().skip(2) {
        let found = set.as_ref().is_some_and(|set| set.contains(member));
        cx.reply.integer(i64::from(found));
    }
    Ok(Effect::Unchanged)
}

/// SMEMBERS key.
pub(super) fn smembers(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let set = read::<Set>(cx.keyspace, &args[1])?;
    match set {
        None => cx.reply.set(0),
        Some(set) if is_long(set.len(), cx.is_script) => {
            let set = set.into_owned();
            reply_set(cx, set);
        }
        Some(set) => {
            cx.reply.set(set.len());
            set.iter().for_each(|member| reply_element(&mut cx.reply, member));
        }
    }
    Ok(Effect::Unchanged)
}

/// SRANDMEMBER key [count].
pub(super) fn srandmember(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let draw = match args.len() {
        2 => None,
        3 => Some(Draw::parse(&args[2])?),
        _ => return Err(CommandError::Syntax),
    };
    let Some(set) = read::<Set>(cx.keyspace, &args[1])? else {
        match draw {
            Some(_) => cx.reply.array(0),
            None => cx.reply.null(),
        }
        return Ok(Effect::Unchanged);
    };
    if let Some(draw) = draw {
        cx.reply.array(draw.take(set.len()));
    }
    draw.unwrap_or(Draw::Repeated(1)).indexes(set.len(), cx.random, |index| {
        if let Some(member) = set.at(index) {
            reply_element(&mut cx.reply, member);
        }
    });
    Ok(Effect::Unchanged)
}

/// SSCAN key cursor [MATCH pattern] [COUNT count].
pub(super) fn sscan(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let cursor = parse_cursor(&args[2])?;
    let Some(set) = read::<Set>(cx.keyspace, &args[1])? else {
        reply_empty_scan(&mut cx.reply);
        return Ok(Effect::Unchanged);
    };
    let options = ScanOptions::parse(args, None)?;
    reply_scan(&mut cx.reply, |reply| {
        let mut len = 0;
        let cursor = set.scan(cursor, options.count, |member| {
            if options.admits(&member) {
                reply_element(reply, member);
                len += 1;
            }
        });
        (cursor, len)
    });
    Ok(Effect::Unchanged)
}
