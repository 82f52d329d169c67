//! Commands over several sorted sets: what they have together, in common and apart. Sets count as
//! sorted sets whose scores are all 1.
#![forbid(unsafe_code)]

use tessera_proto::{float::parse_f64, number::parse_i64};

use super::range::{reply_ranks, store_result};
use crate::{
    command::{collection::View, prelude::*},
    keyspace::Keyspace,
    types::{Element, Set, Thresholds, Zset},
    value::{ValueType, value_type},
};

/// Which operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// What becomes of the result.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Answer,
    Store,
    Count,
}

/// How the scores of a member that several sets have are joined.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
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
    let mut count = 0;
    intersect(&sources, &options, |_, _| {
        count += 1;
        count != options.limit
    });
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
    let result = compute(&sources, &options, operation, &cx.settings.thresholds);
    reply_ranks(&mut cx.reply, &result, 0..result.len(), false, options.with_scores);
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
    let thresholds = &cx.settings.thresholds;
    let result = fitting(compute(&sources, &options, operation, thresholds), thresholds);
    Ok(store_result(cx, &args[1], result, command))
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

/// A set to compute with, captured.
enum Source {
    Missing,
    Set(Set),
    Zset(Zset),
}

impl Source {
    fn capture(keyspace: &mut Keyspace, key: &[u8]) -> Result<Self, CommandError> {
        let Some(entry) = keyspace.read(key) else { return Ok(Self::Missing) };
        let body = entry.body();
        match value_type(&body) {
            ValueType::Zset => Ok(Self::Zset(View::<Zset>::of(body)?.into_owned())),
            ValueType::Set => Ok(Self::Set(View::<Set>::of(body)?.into_owned())),
            _ => Err(CommandError::WrongType),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Missing => 0,
            Self::Set(set) => set.len(),
            Self::Zset(zset) => zset.len(),
        }
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        match self {
            Self::Missing => None,
            Self::Set(set) => set.contains(member).then_some(1.0),
            Self::Zset(zset) => zset.score(member),
        }
    }

    /// Calls `each` with the members and scores until it returns false.
    fn each(&self, mut each: impl FnMut(Element<'_>, f64) -> bool) {
        match self {
            Self::Missing => {}
            Self::Set(set) => _ = set.iter().all(|member| each(member, 1.0)),
            Self::Zset(zset) => _ = zset.iter_from(0).all(|(member, score)| each(member, score)),
        }
    }
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

impl Aggregate {
    fn parse(word: &[u8]) -> Result<Self, CommandError> {
        if word.eq_ignore_ascii_case(b"SUM") {
            Ok(Self::Sum)
        } else if word.eq_ignore_ascii_case(b"MIN") {
            Ok(Self::Min)
        } else if word.eq_ignore_ascii_case(b"MAX") {
            Ok(Self::Max)
        } else {
            Err(CommandError::Syntax)
        }
    }

    fn join(self, first: f64, second: f64) -> f64 {
        match self {
            // Infinities of either sign make zero.
            Self::Sum => number_or_zero(first + second),
            // What is no number is neither less nor greater, and of two zeros the first stays.
            Self::Min if second < first => second,
            Self::Max if second > first => second,
            Self::Min | Self::Max => first,
        }
    }
}

fn number_or_zero(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value }
}

fn compute(
    sources: &[Source],
    options: &Options,
    operation: Operation,
    thresholds: &Thresholds,
) -> Zset {
    let mut result = Zset::new();
    // Redis computes in a skiplist, in which a zero keeps its sign.
    result.expect(usize::MAX, 0, thresholds);
    match operation {
        Operation::Union => {
            for (source, weight) in by_size(sources, options) {
                source.each(|member, score| {
                    let score = number_or_zero(score * weight);
                    member.with_bytes(|member| {
                        let before = result.score(member);
                        let score = before.map_or(score, |old| options.aggregate.join(old, score));
                        // Where only the sign of a zero changed, `set` would see no change.
                        if before == Some(0.0) && score == 0.0 {
                            result.remove(member);
                        }
                        result.set(member, score, thresholds);
                    });
                    true
                });
            }
        }
        Operation::Intersection => intersect(sources, options, |member, score| {
            result.set(member, score, thresholds);
            true
        }),
        Operation::Difference => {
            let Some((first, others)) = sources.split_first() else { return result };
            first.each(|member, score| {
                member.with_bytes(|member| {
                    if others.iter().all(|other| other.score(member).is_none()) {
                        result.set(member, score, thresholds);
                    }
                });
                true
            });
        }
    }
    result
}

/// The sources with their weights, the smallest first: the order in which scores are added, which
/// shows in rounding, and in which an intersection is cheapest.
fn by_size<'a>(sources: &'a [Source], options: &Options) -> Vec<(&'a Source, f64)> {
    let mut sorted: Vec<_> = sources.iter().zip(options.weights.iter().copied()).collect();
    sorted.sort_by_key(|(source, _)| source.len());
    sorted
}

/// Calls `each` with the members that all sources have and their joined scores, until it returns
/// false.
fn intersect(sources: &[Source], options: &Options, mut each: impl FnMut(&[u8], f64) -> bool) {
    let sorted = by_size(sources, options);
    let Some(((smallest, weight), others)) = sorted.split_first() else { return };
    smallest.each(|member, score| {
        member.with_bytes(|member| {
            let mut joined = number_or_zero(score * weight);
            for (other, weight) in others {
                let Some(score) = other.score(member) else { return true };
                // An infinite score of no weight is no number, and makes a sum zero as a whole.
                joined = options.aggregate.join(joined, score * weight);
            }
            each(member, joined)
        })
    });
}
