//! The ZRANGE family.
#![forbid(unsafe_code)]

use std::ops::Range;

use tessera_proto::Protocol;

use super::{
    bounds::By,
    options::{Form, RangeQuery},
};
use crate::{
    command::{
        collection::{read, reply_element, store_result},
        prelude::*,
        walk::{Content, Walk, is_long},
    },
    types::{Element, Zset},
};

const FREE: Form = Form { by: None, reverse: None, stores: false };

/// ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES].
pub(super) fn zrange(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    answer(cx, args, FREE)
}

/// ZREVRANGE key start stop [WITHSCORES].
pub(super) fn zrevrange(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    answer(cx, args, Form { by: Some(By::Rank), reverse: Some(true), stores: false })
}

/// ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count].
pub(super) fn zrangebyscore(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    answer(cx, args, Form { by: Some(By::Score), reverse: Some(false), stores: false })
}

/// ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count].
pub(super) fn zrevrangebyscore(
    cx: &mut Context<'_>,
    args: &Args<'_>,
) -> Result<Effect, CommandError> {
    answer(cx, args, Form { by: Some(By::Score), reverse: Some(true), stores: false })
}

/// ZRANGEBYLEX key min max [LIMIT offset count].
pub(super) fn zrangebylex(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    answer(cx, args, Form { by: Some(By::Lex), reverse: Some(false), stores: false })
}

/// ZREVRANGEBYLEX key max min [LIMIT offset count].
pub(super) fn zrevrangebylex(
    cx: &mut Context<'_>,
    args: &Args<'_>,
) -> Result<Effect, CommandError> {
    answer(cx, args, Form { by: Some(By::Lex), reverse: Some(true), stores: false })
}

/// ZRANGESTORE destination source start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count]: the
/// number of members.
pub(super) fn zrangestore(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let query = RangeQuery::parse(args, 3, Form { stores: true, ..FREE })?;
    let mut result = Zset::new();
    if let Some(zset) = read::<Zset>(cx.keyspace, &args[2])? {
        let thresholds = &cx.settings.thresholds;
        let ranks = query.ranks(&zset);
        result.expect(ranks.len(), 0, thresholds);
        for (member, score) in zset.iter_from(ranks.start).take(ranks.len()) {
            member.with_bytes(|member| result.set(member, score, thresholds));
        }
    }
    Ok(store_result(cx, &args[1], result, (Class::SORTED_SET, "zrangestore")))
}

fn answer(cx: &mut Context<'_>, args: &Args<'_>, form: Form) -> Result<Effect, CommandError> {
    let query = RangeQuery::parse(args, 2, form)?;
    let Some(zset) = read::<Zset>(cx.keyspace, &args[1])? else {
        cx.reply.array(0);
        return Ok(Effect::Unchanged);
    };
    let ranks = query.ranks(&zset);
    let (reverse, with_scores) = (query.reverse, query.with_scores);
    if is_long(ranks.len(), cx.is_script) {
        begin_members(&mut cx.reply, ranks.len(), with_scores);
        let content = Content::Zset { zset: zset.into_owned(), with_scores, reverse };
        let protocol = cx.reply.protocol();
        cx.reply.later(Walk::over(content, ranks, protocol, cx.keyspace.deferred_free()));
    } else {
        reply_ranks(&mut cx.reply, &zset, ranks, reverse, with_scores);
    }
    Ok(Effect::Unchanged)
}

/// Answers the members of `ranks`.
pub(super) fn reply_ranks(
    reply: &mut ReplyWriter<'_>,
    zset: &Zset,
    ranks: Range<usize>,
    reverse: bool,
    with_scores: bool,
) {
    let len = ranks.len();
    begin_members(reply, len, with_scores);
    let mut each = |(member, score)| reply_member(reply, member, with_scores.then_some(score));
    if reverse {
        zset.iter_back_from(ranks.end).take(len).for_each(&mut each);
    } else {
        zset.iter_from(ranks.start).take(len).for_each(&mut each);
    }
}

/// Begins an array of `len` members.
pub(super) fn begin_members(reply: &mut ReplyWriter<'_>, len: usize, with_scores: bool) {
    let flat = with_scores && reply.protocol() == Protocol::Resp2;
    reply.array(if flat { len.saturating_mul(2) } else { len });
}

/// Answers a member, with its score in a pair as RESP3 has it or flat as RESP2.
#[inline]
pub(in crate::command) fn reply_member(
    reply: &mut ReplyWriter<'_>,
    member: Element<'_>,
    score: Option<f64>,
) {
    if score.is_some() && reply.protocol() == Protocol::Resp3 {
        reply.array(2);
    }
    reply_element(reply, member);
    if let Some(score) = score {
        reply.double(score);
    }
}
