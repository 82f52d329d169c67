//! Commands over several sorted sets: what they have together, in common and apart. Sets count as
//! sorted sets whose scores are all 1.
#![forbid(unsafe_code)]

use tessera_proto::{float::parse_f64, number::parse_i64};

use super::{
    combine::{Aggregate, Combination, CombinationWork, Operation, Source},
    range::reply_ranks,
};
use crate::{
    command::{collection::store_result, prelude::*, work},
    keyspace::Keyspace,
    types::{Element, Thresholds, Zset},
};

/// What becomes of the result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Answer,
    Store,
    Count,
}

/// ZUNION numkeys key [key …] [WEIGHTS w …] [AGGREGATE SUM | MIN | MAX] [WITHSCORES].
pub(super) fn zunion(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    answer(cx, args, Operation::Union, "zunion")
}

/// ZINTER numkeys key [key …] [WEIGHTS w …] [AGGREGATE SUM | MIN | MAX] [WITHSCORES].
pub(super) fn zinter(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    answer(cx, args, Operation::Intersection, "zinter")
}

/// ZDIFF numkeys key [key …] [WITHSCORES].
pub(super) fn zdiff(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    answer(cx, args, Operation::Difference, "zdiff")
}

/// ZUNIONSTORE destination numkeys key [key …] [WEIGHTS w …] [AGGREGATE SUM | MIN | MAX].
pub(super) fn zunionstore(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    store(cx, args, Operation::Union, "zunionstore")
}

/// ZINTERSTORE destination numkeys key [key …] [WEIGHTS w …] [AGGREGATE SUM | MIN | MAX].
pub(super) fn zinterstore(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    store(cx, args, Operation::Intersection, "zinterstore")
}

/// ZDIFFSTORE destination numkeys key [key …].
pub(super) fn zdiffstore(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    store(cx, args, Operation::Difference, "zdiffstore")
}

/// ZINTERCARD numkeys key [key …] [LIMIT limit].
pub(super) fn zintercard(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let sources = sources(cx.keyspace, args, 1, "zintercard")?;
    let keys = sources.len();
    let options = Options::parse(args, 2 + keys, keys, Operation::Intersection, Use::Count)?;
    let limit = options.limit;
    let mut combination = options.combine(cx, Operation::Intersection, sources);
    if work::is_long(combination.lookups(), cx.is_script) {
        let protocol = cx.reply.protocol();
        let counting = CombinationWork::counting(combination, limit);
        cx.reply.later(work::in_slices(counting, protocol));
        return Ok(Effect::Unchanged);
    }
    let mut count = 0;
    combination.count(usize::MAX, limit, &mut count);
    cx.reply.count(count);
    Ok(Effect::Unchanged)
}

fn answer(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    operation: Operation,
    command: &'static str,
) -> Result<Effect, CommandError> {
    let sources = sources(cx.keyspace, args, 1, command)?;
    let keys = sources.len();
    let options = Options::parse(args, 2 + keys, keys, operation, Use::Answer)?;
    let with_scores = options.with_scores;
    let combination = options.combine(cx, operation, sources);
    let thresholds = &cx.settings.thresholds;
    if work::is_long(combination.lookups(), cx.is_script) {
        let protocol = cx.reply.protocol();
        let answering = CombinationWork::answering(combination, with_scores, thresholds);
        cx.reply.later(work::in_slices(answering, protocol));
        return Ok(Effect::Unchanged);
    }
    let result = combination.whole(thresholds);
    reply_ranks(&mut cx.reply, &result, 0..result.len(), false, with_scores);
    Ok(Effect::Unchanged)
}

fn store(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    operation: Operation,
    command: &'static str,
) -> Result<Effect, CommandError> {
    let sources = sources(cx.keyspace, args, 2, command)?;
    let keys = sources.len();
    let options = Options::parse(args, 3 + keys, keys, operation, Use::Store)?;
    let combination = options.combine(cx, operation, sources);
    let thresholds = &cx.settings.thresholds;
    let result = fitting(combination.whole(thresholds), thresholds);
    Ok(store_result(cx, &args[1], result, (Class::SORTED_SET, command)))
}

/// The result in the encoding that fits it, as Redis stores it.
fn fitting(result: Zset, thresholds: &Thresholds) -> Zset {
    let long = |member: Element<'_>| member.len() > thresholds.zset_max_listpack_value;
    if result.len() > thresholds.zset_max_listpack_entries
        || result.iter_from(0).any(|(member, _)| long(member))
    {
        return result;
    }
    let mut fitted = Zset::new();
    for (member, score) in result.iter_from(0) {
        member.with_bytes(|member| fitted.set(member, score, thresholds));
    }
    fitted
}

/// The sets whose number is the argument `at`, their keys behind it.
fn sources(
    keyspace: &mut Keyspace,
    args: &Args<'_>,
    at: usize,
    command: &str,
) -> Result<Vec<Source>, CommandError> {
    let keys = parse_i64(&args[at]).ok_or(CommandError::NotAnInteger)?;
    if keys < 1 {
        return Err(CommandError::text(format!(
            "ERR at least 1 input key is needed for '{command}' command"
        )));
    }
    let keys = usize::try_from(keys).ok().filter(|&keys| keys < args.len() - at);
    let keys = keys.ok_or(CommandError::Syntax)?;
    args.iter().skip(at + 1).take(keys).map(|key| Source::capture(keyspace, key)).collect()
}

struct Options {
    /// One a source.
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
    /// Most members to count, 0 for all.
    limit: usize,
}

impl Options {
    /// What `sources` come to with these options.
    fn combine(self, cx: &Context<'_>, operation: Operation, sources: Vec<Source>) -> Combination {
        let weighted = sources.into_iter().zip(self.weights).collect();
        Combination::new(operation, weighted, self.aggregate, cx.keyspace.deferred_free())
    }

    /// The options from the argument `at` on.
    fn parse(
        args: &Args<'_>,
        at: usize,
        keys: usize,
        operation: Operation,
        purpose: Use,
    ) -> Result<Self, CommandError> {
        let mut options = Self {
            weights: vec![1.0; keys],
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: 0,
        };
        let joins = operation != Operation::Difference && purpose != Use::Count;
        let mut rest = args.tail(at).iter();
        while let Some(word) = rest.next() {
            if joins && word.eq_ignore_ascii_case(b"WEIGHTS") && rest.len() >= keys {
                for weight in &mut options.weights {
                    *weight = rest
                        .next()
                        .and_then(parse_f64)
                        .ok_or(CommandError::text("ERR weight value is not a float"))?;
                }
            } else if joins && word.eq_ignore_ascii_case(b"AGGREGATE") {
                options.aggregate = Aggregate::parse(rest.next().ok_or(CommandError::Syntax)?)?;
            } else if purpose == Use::Answer && word.eq_ignore_ascii_case(b"WITHSCORES") {
                options.with_scores = true;
            } else if purpose == Use::Count && word.eq_ignore_ascii_case(b"LIMIT") {
                options.limit = rest
                    .next()
                    .ok_or(CommandError::Syntax)
                    .map(parse_i64)?
                    .and_then(|limit| usize::try_from(limit).ok())
                    .ok_or(CommandError::text("ERR LIMIT can't be negative"))?;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }
}
