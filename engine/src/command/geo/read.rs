//! GEODIST, GEOHASH and GEOPOS: what is known of single members.
#![forbid(unsafe_code)]

use super::{parse_unit, reply_distance, reply_point};
use crate::{
    command::{collection::read, prelude::*},
    types::{Zset, geo::Point},
};

/// GEODIST key member1 member2 [M | KM | FT | MI].
pub(super) fn geodist(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let unit_m = match args.len() {
        4 => 1.0,
        5 => parse_unit(&args[4])?,
        _ => return Err(CommandError::Syntax),
    };
    let zset = read::<Zset>(cx.keyspace, &args[1])?;
    let place = |member| zset.as_ref()?.score(member).map(Point::from_score);
    match place(&args[2]).zip(place(&args[3])) {
        Some((first, second)) => {
            reply_distance(&mut cx.reply, first.distance_m(second) / unit_m);
        }
        None => cx.reply.null(),
    }
    Ok(Effect::Unchanged)
}

/// GEOHASH key [member …].
pub(super) fn geohash(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let zset = read::<Zset>(cx.keyspace, &args[1])?;
    cx.reply.array(args.len() - 2);
    for member in args.iter().skip(2) {
        match zset.as_ref().and_then(|zset| zset.score(member)) {
            Some(score) => cx.reply.bulk(&Point::from_score(score).geohash()),
            None => cx.reply.null(),
        }
    }
    Ok(Effect::Unchanged)
}

/// GEOPOS key [member …].
pub(super) fn geopos(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let zset = read::<Zset>(cx.keyspace, &args[1])?;
    cx.reply.array(args.len() - 2);
    for member in args.iter().skip(2) {
        match zset.as_ref().and_then(|zset| zset.score(member)) {
            Some(score) => reply_point(&mut cx.reply, Point::from_score(score)),
            None => cx.reply.null_array(),
        }
    }
    Ok(Effect::Unchanged)
}
