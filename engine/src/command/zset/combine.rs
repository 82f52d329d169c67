//! What several sorted sets come to, computed a part at a time.
#![forbid(unsafe_code)]

use std::{mem, sync::Arc};

use tessera_proto::Protocol;

use super::range::begin_members;
use crate::{
    command::{
        CommandError,
        collection::View,
        walk::{Content, Walk},
        work::{Computed, Work, written},
    },
    keyspace::{Keyspace, deferred_free::DeferredFree},
    types::{Either, Element, Garbage, Set, Thresholds, Zset},
    value::{ValueType, value_type},
};

/// Which operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Union,
    Intersection,
    Difference,
}

/// How the scores of a member that several sets have are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    pub(super) fn parse(word: &[u8]) -> Result<Self, CommandError> {
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

/// A set to compute with, captured.
#[derive(Debug)]
pub(super) enum Source {
    Missing,
    Set(Set),
    Zset(Zset),
}

impl Source {
    pub(super) fn capture(keyspace: &mut Keyspace, key: &[u8]) -> Result<Self, CommandError> {
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

    /// The members and scores from number `index` on.
    fn iter_from(&self, index: usize) -> impl Iterator<Item = (Element<'_>, f64)> {
        match self {
            Self::Missing => Either::Left(None.into_iter().flatten()),
            Self::Set(set) => {
                let members = set.iter_from(index).map(|member| (member, 1.0));
                Either::Left(Some(members).into_iter().flatten())
            }
            Self::Zset(zset) => Either::Right(zset.iter_from(index)),
        }
    }

    fn into_garbage(self) -> Garbage {
        match self {
            Self::Missing => Garbage::default(),
            Self::Set(set) => set.into_garbage(),
            Self::Zset(zset) => zset.into_garbage(),
        }
    }
}

/// Captured sets with their weights that are combined, and how far that has come.
#[derive(Debug)]
pub(super) struct Combination {
    operation: Operation,
    /// All of them are walked over for a union; else the first, and the others are asked.
    sources: Vec<(Source, f64)>,
    aggregate: Aggregate,
    /// The source that is walked over, and its next member.
    walked: usize,
    next: usize,
    deferred_free: Arc<DeferredFree>,
}

impl Combination {
    /// Of `sources`, in the order of their keys. What is captured is left to `deferred_free` in the end.
    pub(super) fn new(
        operation: Operation,
        mut sources: Vec<(Source, f64)>,
        aggregate: Aggregate,
        deferred_free: &Arc<DeferredFree>,
    ) -> Self {
        if operation != Operation::Difference {
            // The smallest first: the order in which scores are added, which shows in rounding, and in
            // which an intersection is cheapest.
            sources.sort_by_key(|(source, _)| source.len());
        }
        Self {
            operation,
            sources,
            aggregate,
            walked: 0,
            next: 0,
            deferred_free: deferred_free.clone(),
        }
    }

    /// About how many look-ups all of it takes.
    pub(super) fn lookups(&self) -> usize {
        let len = match self.operation {
            Operation::Union => self.sources.iter().map(|(source, _)| source.len()).sum(),
            _ => self.sources.first().map_or(0, |(source, _)| source.len()),
        };
        len * self.lookups_each()
    }

    /// Look-ups for each member that is walked over.
    fn lookups_each(&self) -> usize {
        match self.operation {
            // In both trees of the result.
            Operation::Union => 4,
            Operation::Intersection | Operation::Difference => self.sources.len() + 1,
        }
    }

    /// All of the result.
    pub(super) fn whole(mut self, thresholds: &Thresholds) -> Zset {
        let mut result = empty_result(thresholds);
        self.add_to(usize::MAX, &mut result, thresholds);
        result
    }

    /// Goes on over up to `members` members and adds what they come to; whether all is done.
    fn add_to(&mut self, members: usize, result: &mut Zset, thresholds: &Thresholds) -> bool {
        let (operation, aggregate) = (self.operation, self.aggregate);
        self.go_on(members, |member, score| {
            let before = match operation {
                Operation::Union => result.score(member),
                Operation::Intersection | Operation::Difference => None,
            };
            let score = before.map_or(score, |old| aggregate.join(old, score));
            // Where only the sign of a zero changed, `set` would see no change.
            if before == Some(0.0) && score == 0.0 {
                result.remove(member);
            }
            result.set(member, score, thresholds);
            true
        })
    }

    /// Goes on over up to `members` members of an intersection and adds to `count` how many belong to
    /// it, up to `limit` unless that is 0; whether all is done.
    pub(super) fn count(&mut self, members: usize, limit: usize, count: &mut usize) -> bool {
        self.go_on(members, |_, _| {
            *count += 1;
            *count != limit
        })
    }

    /// Goes on over up to `members` members; calls `each` with those of the result, and their scores,
    /// until it returns false. A union calls it for each source that has the member. Whether all is
    /// done.
    fn go_on(&mut self, members: usize, mut each: impl FnMut(&[u8], f64) -> bool) -> bool {
        let mut left = members;
        let walked_max = if self.operation == Operation::Union { self.sources.len() } else { 1 };
        while self.walked < walked_max {
            let Some((source, weight)) = self.sources.get(self.walked) else { break };
            let others = &self.sources[self.walked + 1..];
            let part = source.iter_from(self.next).take(left);
            for (member, score) in part {
                self.next += 1;
                left -= 1;
                let goes_on = member.with_bytes(|name| {
                    let score = match self.operation {
                        Operation::Union => Some(number_or_zero(score * weight)),
                        Operation::Intersection => {
                            common_score(name, score * weight, others, self.aggregate)
                        }
                        Operation::Difference => {
                            let has = |(other, _): &(Source, f64)| other.score(name).is_some();
                            (!others.iter().any(has)).then_some(score)
                        }
                    };
                    score.is_none_or(|score| each(name, score))
                });
                if !goes_on {
                    return true;
                }
            }
            if self.next < source.len() {
                return false;
            }
            (self.walked, self.next) = (self.walked + 1, 0);
        }
        true
    }
}

/// The joined score of a member that all of `others` have, too.
fn common_score(
    member: &[u8],
    first: f64,
    others: &[(Source, f64)],
    aggregate: Aggregate,
) -> Option<f64> {
    let mut joined = number_or_zero(first);
    for (other, weight) in others {
        // An infinite score of no weight is no number, and makes a sum zero as a whole.
        joined = aggregate.join(joined, other.score(member)? * weight);
    }
    Some(joined)
}

/// Redis computes in a skiplist, in which a zero keeps its sign.
fn empty_result(thresholds: &Thresholds) -> Zset {
    let mut result = Zset::new();
    result.expect(usize::MAX, 0, thresholds);
    result
}

impl Drop for Combination {
    fn drop(&mut self) {
        for (source, _) in self.sources.drain(..) {
            self.deferred_free.leave(source.into_garbage());
        }
    }
}

/// A combination that is answered while the reply is sent.
#[derive(Debug)]
pub(super) struct CombinationWork {
    combination: Combination,
    purpose: Purpose,
}

#[derive(Debug)]
enum Purpose {
    Answer { result: Zset, with_scores: bool, thresholds: Thresholds },
    Count { count: usize, limit: usize },
}

impl CombinationWork {
    /// Answers the result.
    pub(super) fn answering(
        combination: Combination,
        with_scores: bool,
        thresholds: &Thresholds,
    ) -> Self {
        let (result, thresholds) = (empty_result(thresholds), thresholds.clone());
        Self { combination, purpose: Purpose::Answer { result, with_scores, thresholds } }
    }

    /// Answers its number of members, or `limit` if that is less and not 0.
    pub(super) fn counting(combination: Combination, limit: usize) -> Self {
        Self { combination, purpose: Purpose::Count { count: 0, limit } }
    }
}

impl Work for CombinationWork {
    fn go_on(&mut self, lookups: usize, protocol: Protocol) -> Option<Computed> {
        let members = (lookups / self.combination.lookups_each()).max(1);
        match &mut self.purpose {
            Purpose::Count { count, limit } => {
                if !self.combination.count(members, *limit, count) {
                    return None;
                }
                Some(Computed { head: written(protocol, |reply| reply.count(*count)), rest: None })
            }
            Purpose::Answer { result, with_scores, thresholds } => {
                if !self.combination.add_to(members, result, thresholds) {
                    return None;
                }
                let (zset, with_scores) = (mem::take(result), *with_scores);
                let len = zset.len();
                let head = written(protocol, |reply| begin_members(reply, len, with_scores));
                let content = Content::Zset { zset, with_scores, reverse: false };
                let rest = Walk::over(content, 0..len, protocol, &self.combination.deferred_free);
                Some(Computed { head, rest: (len > 0).then_some(rest) })
            }
        }
    }
}

impl Drop for CombinationWork {
    fn drop(&mut self) {
        if let Purpose::Answer { result, .. } = &mut self.purpose {
            self.combination.deferred_free.leave(mem::take(result).into_garbage());
        }
    }
}
