//! GEOSEARCH, GEOSEARCHSTORE and the GEORADIUS family: members within a shape.
#![forbid(unsafe_code)]

use super::{
    options::{Form, Order, Query},
    reply_distance, reply_point,
};
use crate::{
    command::{
        collection::{read, reply_element, store_result},
        prelude::*,
    },
    types::{
        Element, Thresholds, Zset,
        geo::{Point, Search},
    },
};

/// A member within the shape.
struct Found<'a> {
    member: Element<'a>,
    score: f64,
    point: Point,
    /// From the centre, in units of the search.
    distance: f64,
}

/// GEOSEARCH key FROMMEMBER member | FROMLONLAT longitude latitude, BYRADIUS radius unit | BYBOX
/// width height unit [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH].
pub(super) fn geosearch(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    search(cx, args, Form::Search, false)
}

/// GEOSEARCHSTORE destination source, then as GEOSEARCH, [STOREDIST].
pub(super) fn geosearchstore(
    cx: &mut Context<'_>,
    args: &Args<'_>,
) -> Result<Effect, CommandError> {
    search(cx, args, Form::SearchStore, true)
}

/// GEORADIUS key longitude latitude radius unit [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count
/// [ANY]] [ASC | DESC] [STORE key | STOREDIST key].
pub(super) fn georadius(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    search(cx, args, Form::Around, true)
}

/// GEORADIUS_RO: without STORE.
pub(super) fn georadius_ro(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    search(cx, args, Form::Around, false)
}

/// GEORADIUSBYMEMBER key member radius unit, then as GEORADIUS.
pub(super) fn georadiusbymember(
    cx: &mut Context<'_>,
    args: &Args<'_>,
) -> Result<Effect, CommandError> {
    search(cx, args, Form::AroundMember, true)
}

/// GEORADIUSBYMEMBER_RO: without STORE.
pub(super) fn georadiusbymember_ro(
    cx: &mut Context<'_>,
    args: &Args<'_>,
) -> Result<Effect, CommandError> {
    search(cx, args, Form::AroundMember, false)
}

/// The key behind the last STORE or STOREDIST of a GEORADIUS.
pub(super) fn georadius_keys(args: &Args<'_>, positions: &mut Vec<usize>) {
    stored_key(args, 6, positions);
}

/// The same of a GEORADIUSBYMEMBER.
pub(super) fn georadiusbymember_keys(args: &Args<'_>, positions: &mut Vec<usize>) {
    stored_key(args, 5, positions);
}

fn stored_key(args: &Args<'_>, first: usize, positions: &mut Vec<usize>) {
    let (mut at, mut stored) = (first, None);
    while at + 1 < args.len() {
        let is = |name: &str| args[at].eq_ignore_ascii_case(name.as_bytes());
        if is("STORE") || is("STOREDIST") {
            stored = Some(at + 1);
            at += 1;
        } else if is("COUNT") {
            at += 1;
        }
        at += 1;
    }
    positions.extend(stored);
}

fn search(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    form: Form,
    stores: bool,
) -> Result<Effect, CommandError> {
    let source = if form == Form::SearchStore { 2 } else { 1 };
    let zset = read::<Zset>(cx.keyspace, &args[source])?;
    let query = Query::parse(args, form, stores, zset.as_deref())?;
    let found = match zset.as_deref().zip(query.search()) {
        Some((zset, search)) => find(zset, &search, &query),
        None => Vec::new(),
    };
    let Some(destination) = query.store_at else {
        reply_found(&mut cx.reply, &found, &query);
        return Ok(Effect::Unchanged);
    };
    let result = collect(&found, query.store_distance, &cx.settings.thresholds);
    let stored = found.len() as u64;
    let searches = form == Form::SearchStore;
    let event = if searches { "geosearchstore" } else { "georadiusstore" };
    let effect = store_result(cx, &args[destination], result, (Class::SORTED_SET, event));
    Ok(if stored > 0 { Effect::Changed(stored) } else { effect })
}

/// The members within the shape, in the order and number that the client wants.
fn find<'a>(zset: &'a Zset, search: &Search, query: &Query) -> Vec<Found<'a>> {
    let enough = if query.any { query.count } else { usize::MAX };
    let mut found = Vec::new();
    for cell in search.cells() {
        let scores = cell.scores();
        let first = zset.count_below(|score, _| score < scores.start);
        let within = zset.iter_from(first).take_while(|(_, score)| *score < scores.end);
        let admitted = within.filter_map(|(member, score)| {
            let point = Point::from_score(score);
            let distance = search.distance_m(point)? / search.unit_m;
            Some(Found { member, score, point, distance })
        });
        let room = enough - found.len();
        found.extend(admitted.take(room));
    }
    // So many of them means the nearest, unless anyone will do.
    let order = match query.order {
        Order::Any if query.count > 0 && !query.any => Order::Ascending,
        order => order,
    };
    sort(&mut found, order, query.count);
    found
}

/// Brings the members into their order, and leaves the first `count` of them, or all for 0.
fn sort(found: &mut Vec<Found<'_>>, order: Order, count: usize) {
    let compare = |a: &Found<'_>, b: &Found<'_>| match order {
        Order::Descending => b.distance.total_cmp(&a.distance),
        Order::Any | Order::Ascending => a.distance.total_cmp(&b.distance),
    };
    let is_partial = 0 < count && count < found.len();
    if order != Order::Any {
        if is_partial {
            found.select_nth_unstable_by(count - 1, compare);
            found.truncate(count);
        }
        found.sort_by(compare);
    } else if is_partial {
        found.truncate(count);
    }
}

fn collect(found: &[Found<'_>], distances: bool, thresholds: &Thresholds) -> Zset {
    let mut result = Zset::new();
    for each in found {
        let score = if distances { each.distance } else { each.score };
        each.member.with_bytes(|member| result.set(member, score, thresholds));
    }
    result
}

fn reply_found(reply: &mut ReplyWriter<'_>, found: &[Found<'_>], query: &Query) {
    let details = [query.with_distance, query.with_hash, query.with_point];
    let details = details.into_iter().filter(|&wanted| wanted).count();
    reply.array(found.len());
    for each in found {
        if details > 0 {
            reply.array(1 + details);
        }
        reply_element(reply, each.member);
        if query.with_distance {
            reply_distance(reply, each.distance);
        }
        if query.with_hash {
            reply.integer(each.score as i64);
        }
        if query.with_point {
            reply_point(reply, each.point);
        }
    }
}
