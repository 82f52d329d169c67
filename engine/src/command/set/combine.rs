//! What several sets come to, computed a part at a time.
#![forbid(unsafe_code)]

use std::{cmp::Reverse, mem, sync::Arc};

use tessera_proto::Protocol;

use crate::{
    command::{
        collection::reply_element,
        walk::{Content, Walk},
        work::{Computed, Pieces, Work, written},
    },
    keyspace::deferred_free::DeferredFree,
    types::{Element, Set, Thresholds},
};

/// How sets are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What any has.
    Union,
    /// What all have.
    Intersection,
    /// What the first has and no other.
    Difference,
}

/// Captured sets that are combined, and how far that has come.
#[derive(Debug)]
pub(super) struct Combination {
    kind: Kind,
    /// All of them are walked over for a union; else the first, and the others are asked.
    sets: Vec<Set>,
    /// The set that is walked over, and its next member.
    walked: usize,
    next: usize,
    deferred_free: Arc<DeferredFree>,
}

impl Combination {
    /// Of `sets`, in the order of their keys. What is captured is left to `deferred_free` in the end.
    pub(super) fn new(
        kind: Kind,
        sets: Vec<Option<Set>>,
        deferred_free: &Arc<DeferredFree>,
    ) -> Self {
        let is_empty = match kind {
            Kind::Union => false,
            Kind::Intersection => sets.iter().any(Option::is_none),
            Kind::Difference => sets.first().is_none_or(Option::is_none),
        };
        let mut sets: Vec<Set> = sets.into_iter().flatten().collect();
        match kind {
            _ if is_empty => sets.clear(),
            Kind::Union => {}
            Kind::Intersection => sets.sort_by_key(Set::len),
            // The largest is the likeliest to have a member.
            Kind::Difference => sets[1..].sort_by_key(|set| Reverse(set.len())),
        }
        Self { kind, sets, walked: 0, next: 0, deferred_free: deferred_free.clone() }
    }

    /// Adds everything to `result`.
    pub(super) fn add_to(mut self, result: &mut Set, thresholds: &Thresholds) {
        self.go_on(usize::MAX, |member| {
            member.with_bytes(|member| result.add(member, thresholds));
            true
        });
    }

    /// About how many look-ups all of it takes.
    pub(super) fn lookups(&self) -> usize {
        self.len() * self.lookups_each()
    }

    /// How many members are walked over.
    fn len(&self) -> usize {
        match self.kind {
            Kind::Union => self.sets.iter().map(Set::len).sum(),
            Kind::Intersection | Kind::Difference => self.sets.first().map_or(0, Set::len),
        }
    }

    /// Look-ups for each of them.
    fn lookups_each(&self) -> usize {
        match self.kind {
            Kind::Union => 1,
            Kind::Intersection | Kind::Difference => self.sets.len().max(1),
        }
    }

    /// Goes on over up to `members` members; calls `each` with those of the result until it returns
    /// false. Whether all is done.
    pub(super) fn go_on(
        &mut self,
        members: usize,
        mut each: impl FnMut(Element<'_>) -> bool,
    ) -> bool {
        let (mut left, walked_max) =
            (members, if self.kind == Kind::Union { usize::MAX } else { 1 });
        while let Some(set) = self.sets.get(self.walked).filter(|_| self.walked < walked_max) {
            let others = self.sets.get(self.walked + 1..).unwrap_or_default();
            let part = set.iter_from(self.next).take(left);
            for member in part {
                self.next += 1;
                left -= 1;
                let belongs = member.with_bytes(|name| match self.kind {
                    Kind::Union => true,
                    Kind::Intersection => others.iter().all(|set| set.contains(name)),
                    Kind::Difference => !others.iter().any(|set| set.contains(name)),
                });
                if belongs && !each(member) {
                    return true;
                }
            }
            if self.next < set.len() {
                return false;
            }
            (self.walked, self.next) = (self.walked + 1, 0);
        }
        true
    }
}

impl Drop for Combination {
    fn drop(&mut self) {
        self.sets.drain(..).for_each(|set| self.deferred_free.leave(set.into_garbage()));
    }
}

/// What becomes of the result.
#[derive(Debug)]
pub(super) enum Purpose {
    /// It is answered; no member comes twice.
    Answer,
    /// It is answered; members may come again.
    Distinct { result: Set, thresholds: Thresholds },
    /// Its size is answered, or `limit` if that is less and not 0.
    Count { limit: usize },
}

/// A combination that is answered while the reply is sent.
#[derive(Debug)]
pub(super) struct CombinationWork {
    combination: Combination,
    purpose: Purpose,
    pieces: Pieces,
    count: usize,
}

impl CombinationWork {
    pub(super) fn new(combination: Combination, purpose: Purpose) -> Self {
        Self { combination, purpose, pieces: Pieces::default(), count: 0 }
    }

    fn finish(&mut self, protocol: Protocol) -> Computed {
        match mem::replace(&mut self.purpose, Purpose::Answer) {
            Purpose::Answer => {
                mem::take(&mut self.pieces).finish(protocol, |reply, len| reply.set(len))
            }
            Purpose::Distinct { result, .. } => {
                let len = result.len();
                let head = written(protocol, |reply| reply.set(len));
                let content = Content::Set(result);
                let rest = Walk::over(content, 0..len, protocol, &self.combination.deferred_free);
                Computed { head, rest: (len > 0).then_some(rest) }
            }
            Purpose::Count { .. } => {
                Computed { head: written(protocol, |reply| reply.count(self.count)), rest: None }
            }
        }
    }
}

impl Work for CombinationWork {
    fn go_on(&mut self, lookups: usize, protocol: Protocol) -> Option<Computed> {
        let Self { combination, purpose, pieces, count } = self;
        let members = (lookups / combination.lookups_each()).max(1);
        let is_done = combination.go_on(members, |member| match purpose {
            Purpose::Answer => {
                pieces.push(protocol, |reply| reply_element(reply, member));
                true
            }
            Purpose::Distinct { result, thresholds } => {
                member.with_bytes(|member| result.add(member, thresholds));
                true
            }
            Purpose::Count { limit } => {
                *count += 1;
                *count != *limit
            }
        });
        is_done.then(|| self.finish(protocol))
    }
}

impl Drop for CombinationWork {
    fn drop(&mut self) {
        if let Purpose::Distinct { result, .. } = mem::replace(&mut self.purpose, Purpose::Answer) {
            self.combination.deferred_free.leave(result.into_garbage());
        }
    }
}
