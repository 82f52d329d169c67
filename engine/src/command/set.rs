//! Commands on sets.
#![forbid(unsafe_code)]

mod algebra;
mod combine;
mod read;
#[cfg(test)]
mod tests;
mod write;

use super::{keys::Place, prelude::*};
use algebra::{sdiff, sdiffstore, sinter, sintercard, sinterstore, sunion, sunionstore};
use read::{scard, sismember, smembers, smismember, srandmember, sscan};
use write::{sadd, smove, spop, srem};

const READ: KeySpec = KeySpec::FIRST.used(Access::RO.with(Access::ACCESS));
const LOOK: KeySpec = KeySpec::FIRST.used(Access::RO);
const READ_ALL: KeySpec = KeySpec::ALL.used(Access::RO.with(Access::ACCESS));
const TAKEN: Access = Access::RW.with(Access::ACCESS).with(Access::DELETE);
/// A destination, then sources.
const STORE: KeySpec =
    KeySpec::ALL.used(Access::OW.with(Access::UPDATE)).then(Access::RO.with(Access::ACCESS));
const MOVE: KeySpec = KeySpec::FIRST_TWO.used(TAKEN).then(Access::RW.with(Access::INSERT));
const COUNTED: KeySpec = KeySpec::at(Place::Counted { count: 1, destination: None })
    .used(Access::RO.with(Access::ACCESS));

commands! { Set;
    /// Adds members, or creates the set.
    "sadd" "1.0.0", AtLeast(3), WRITE | DENYOOM | FAST, KeySpec::FIRST.used(Access::RW.with(Access::INSERT)), Owner, sadd;
    /// Answers the number of members.
    "scard" "1.0.0", Exactly(2), READONLY | FAST, LOOK, Owner, scard;
    /// Answers the members of the first set that are in none of the others.
    "sdiff" "1.0.0", AtLeast(2), READONLY, READ_ALL, Owner, sdiff;
    /// Stores the members of the first set that are in none of the others.
    "sdiffstore" "1.0.0", AtLeast(3), WRITE | DENYOOM, STORE, Owner, sdiffstore;
    /// Answers the members that are in all sets.
    "sinter" "1.0.0", AtLeast(2), READONLY, READ_ALL, Owner, sinter;
    /// Answers how many members are in all sets.
    "sintercard" "7.0.0", AtLeast(3), READONLY | MOVABLE_KEYS, COUNTED, Owner, sintercard;
    /// Stores the members that are in all sets.
    "sinterstore" "1.0.0", AtLeast(3), WRITE | DENYOOM, STORE, Owner, sinterstore;
    /// Answers whether there is a member.
    "sismember" "1.0.0", Exactly(3), READONLY | FAST, LOOK, Owner, sismember;
    /// Answers all members.
    "smembers" "1.0.0", Exactly(2), READONLY, READ, Owner, smembers;
    /// Answers of several members whether they are there.
    "smismember" "6.2.0", AtLeast(3), READONLY | FAST, LOOK, Owner, smismember;
    /// Moves a member to another set.
    "smove" "1.0.0", Exactly(4), WRITE | FAST, MOVE, Owner, smove;
    /// Takes members at random away.
    "spop" "1.0.0", AtLeast(2), WRITE | FAST, KeySpec::FIRST.used(TAKEN), Owner, spop;
    /// Answers members at random.
    "srandmember" "1.0.0", AtLeast(2), READONLY, READ, Owner, srandmember;
    /// Removes members.
    "srem" "1.0.0", AtLeast(3), WRITE | FAST, KeySpec::FIRST.used(Access::RW.with(Access::DELETE)), Owner, srem;
    /// Walks over the members, a few at a time.
    "sscan" "2.8.0", AtLeast(3), READONLY, READ, Owner, sscan;
    /// Answers the members that are in any of the sets.
    "sunion" "1.0.0", AtLeast(2), READONLY, READ_ALL, Owner, sunion;
    /// Stores the members that are in any of the sets.
    "sunionstore" "1.0.0", AtLeast(3), WRITE | DENYOOM, STORE, Owner, sunionstore;
}
