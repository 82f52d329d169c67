//! Commands on sorted sets.
//!
//! Ranges of every kind are turned into ranks first (`range`); what is then read, stored or removed
//! goes by rank.
#![forbid(unsafe_code)]

pub(super) mod add;
mod algebra;
mod bounds;
mod combine;
mod options;
pub(super) mod range;
mod read;
mod remove;
#[cfg(test)]
mod tests;
mod waiting;

use super::{keys::Place, prelude::*};
use add::{zadd, zincrby};
use algebra::{zdiff, zdiffstore, zinter, zintercard, zinterstore, zunion, zunionstore};
use range::{
    zrange, zrangebylex, zrangebyscore, zrangestore, zrevrange, zrevrangebylex, zrevrangebyscore,
};
use read::{zcard, zcount, zlexcount, zmscore, zrandmember, zrank, zrevrank, zscan, zscore};
use remove::{zmpop, zpopmax, zpopmin, zrem, zremrangebylex, zremrangebyrank, zremrangebyscore};
use waiting::{bzmpop, bzpopmax, bzpopmin};

const READ: KeySpec = KeySpec::FIRST.used(Access::RO.with(Access::ACCESS));
const LOOK: KeySpec = KeySpec::FIRST.used(Access::RO);
const UPDATE: KeySpec = KeySpec::FIRST.used(Access::RW.with(Access::UPDATE));
const DELETE: KeySpec = KeySpec::FIRST.used(Access::RW.with(Access::DELETE));
const TAKEN: Access = Access::RW.with(Access::ACCESS).with(Access::DELETE);
const ALL_BUT_LAST: KeySpec = KeySpec::at(Place::Range { first: 1, last: -2, step: 1 }).used(TAKEN);
/// Flags of what may wait.
const WAITING: u32 = WRITE | BLOCKING;
const SOURCES: KeySpec = KeySpec::at(Place::Counted { count: 1, destination: None })
    .used(Access::RO.with(Access::ACCESS));
const STORE: KeySpec = KeySpec::at(Place::Counted { count: 2, destination: Some(1) })
    .used(Access::OW.with(Access::UPDATE))
    .then(Access::RO.with(Access::ACCESS));

commands! { SortedSet;
    /// Takes members from the first of several sorted sets that is not empty, as soon as there is one.
    "bzmpop" "7.0.0", AtLeast(5), WAITING | MOVABLE_KEYS, KeySpec::at(Place::Counted { count: 2, destination: None }).used(TAKEN), Waiting, bzmpop;
    /// Takes the member of the highest score of the first of several sorted sets that is not empty,
    /// as soon as there is one.
    "bzpopmax" "5.0.0", AtLeast(3), WAITING | FAST, ALL_BUT_LAST, Waiting, bzpopmax;
    /// Takes the member of the lowest score of the first of several sorted sets that is not empty, as
    /// soon as there is one.
    "bzpopmin" "5.0.0", AtLeast(3), WAITING | FAST, ALL_BUT_LAST, Waiting, bzpopmin;
    /// Adds members, or gives them other scores.
    "zadd" "1.2.0", AtLeast(4), WRITE | DENYOOM | FAST, UPDATE, Owner, zadd;
    /// Answers the number of members.
    "zcard" "1.2.0", Exactly(2), READONLY | FAST, LOOK, Owner, zcard;
    /// Answers how many members have scores in a range.
    "zcount" "2.0.0", Exactly(4), READONLY | FAST, READ, Owner, zcount;
    /// Answers the members of the first sorted set that are in none of the others.
    "zdiff" "6.2.0", AtLeast(3), READONLY | MOVABLE_KEYS, SOURCES, Owner, zdiff;
    /// Stores the members of the first sorted set that are in none of the others.
    "zdiffstore" "6.2.0", AtLeast(4), WRITE | DENYOOM | MOVABLE_KEYS, STORE, Owner, zdiffstore;
    /// Adds to a member's score.
    "zincrby" "1.2.0", Exactly(4), WRITE | DENYOOM | FAST, KeySpec::FIRST.used(Access::RW.with(Access::ACCESS).with(Access::UPDATE)), Owner, zincrby;
    /// Answers the members that are in all sorted sets.
    "zinter" "6.2.0", AtLeast(3), READONLY | MOVABLE_KEYS, SOURCES, Owner, zinter;
    /// Answers how many members are in all sorted sets.
    "zintercard" "7.0.0", AtLeast(3), READONLY | MOVABLE_KEYS, SOURCES, Owner, zintercard;
    /// Stores the members that are in all sorted sets.
    "zinterstore" "2.0.0", AtLeast(4), WRITE | DENYOOM | MOVABLE_KEYS, STORE, Owner, zinterstore;
    /// Answers how many members are in a range of members.
    "zlexcount" "2.8.9", Exactly(4), READONLY | FAST, READ, Owner, zlexcount;
    /// Takes members from the first of several sorted sets that is not empty.
    "zmpop" "7.0.0", AtLeast(4), WRITE | MOVABLE_KEYS, KeySpec::at(Place::Counted { count: 1, destination: None }).used(TAKEN), Owner, zmpop;
    /// Answers the scores of several members.
    "zmscore" "6.2.0", AtLeast(3), READONLY | FAST, READ, Owner, zmscore;
    /// Takes the members of the highest scores.
    "zpopmax" "5.0.0", AtLeast(2), WRITE | FAST, KeySpec::FIRST.used(TAKEN), Owner, zpopmax;
    /// Takes the members of the lowest scores.
    "zpopmin" "5.0.0", AtLeast(2), WRITE | FAST, KeySpec::FIRST.used(TAKEN), Owner, zpopmin;
    /// Answers members at random.
    "zrandmember" "6.2.0", AtLeast(2), READONLY, READ, Owner, zrandmember;
    /// Answers the members of a range.
    "zrange" "1.2.0", AtLeast(4), READONLY, READ, Owner, zrange;
    /// Answers the members of a range of members.
    "zrangebylex" "2.8.9", AtLeast(4), READONLY | DEPRECATED, READ, Owner, zrangebylex;
    /// Answers the members whose scores are in a range.
    "zrangebyscore" "1.0.5", AtLeast(4), READONLY | DEPRECATED, READ, Owner, zrangebyscore;
    /// Stores the members of a range.
    "zrangestore" "6.2.0", AtLeast(5), WRITE | DENYOOM, KeySpec::FIRST_TWO.used(Access::OW.with(Access::UPDATE)).then(Access::RO.with(Access::ACCESS)), Owner, zrangestore;
    /// Answers the rank of a member, the lowest score first.
    "zrank" "2.0.0", AtLeast(3), READONLY | FAST, READ, Owner, zrank;
    /// Removes members.
    "zrem" "1.2.0", AtLeast(3), WRITE | FAST, DELETE, Owner, zrem;
    /// Removes the members of a range of members.
    "zremrangebylex" "2.8.9", Exactly(4), WRITE, DELETE, Owner, zremrangebylex;
    /// Removes the members of a range of ranks.
    "zremrangebyrank" "2.0.0", Exactly(4), WRITE, DELETE, Owner, zremrangebyrank;
    /// Removes the members whose scores are in a range.
    "zremrangebyscore" "1.2.0", Exactly(4), WRITE, DELETE, Owner, zremrangebyscore;
    /// Answers the members of a range of ranks, the highest score first.
    "zrevrange" "1.2.0", AtLeast(4), READONLY | DEPRECATED, READ, Owner, zrevrange;
    /// Answers the members of a range of members, the greatest first.
    "zrevrangebylex" "2.8.9", AtLeast(4), READONLY | DEPRECATED, READ, Owner, zrevrangebylex;
    /// Answers the members whose scores are in a range, the highest first.
    "zrevrangebyscore" "2.2.0", AtLeast(4), READONLY | DEPRECATED, READ, Owner, zrevrangebyscore;
    /// Answers the rank of a member, the highest score first.
    "zrevrank" "2.0.0", AtLeast(3), READONLY | FAST, READ, Owner, zrevrank;
    /// Walks over the members and scores, a few at a time.
    "zscan" "2.8.0", AtLeast(3), READONLY, READ, Owner, zscan;
    /// Answers the score of a member.
    "zscore" "1.2.0", Exactly(3), READONLY | FAST, READ, Owner, zscore;
    /// Answers the members that are in any of the sorted sets.
    "zunion" "6.2.0", AtLeast(3), READONLY | MOVABLE_KEYS, SOURCES, Owner, zunion;
    /// Stores the members that are in any of the sorted sets.
    "zunionstore" "2.0.0", AtLeast(4), WRITE | DENYOOM | MOVABLE_KEYS, STORE, Owner, zunionstore;
}
