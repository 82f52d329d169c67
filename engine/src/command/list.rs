//! Commands on lists.
//!
//! The forms that wait (BLPOP and its like) look for data as the others do; how they wait is the
//! business of [`crate::waiting`].
#![forbid(unsafe_code)]

mod edit;
mod ends;
mod search;
#[cfg(test)]
mod tests;
mod transfer;
mod waiting;

use super::{keys::Place, prelude::*};
use edit::{linsert, lrem, lset, ltrim};
use ends::{lpop, lpush, lpushx, rpop, rpush, rpushx};
use search::{lindex, llen, lpos, lrange};
use transfer::{lmove, lmpop, rpoplpush};
pub(super) use transfer::{parse_at_least_one, parse_pop_count};
use waiting::{blmove, blmpop, blpop, brpop, brpoplpush};

const READ: KeySpec = KeySpec::FIRST.used(Access::RO.with(Access::ACCESS));
const INSERT: KeySpec = KeySpec::FIRST.used(Access::RW.with(Access::INSERT));
const UPDATE: KeySpec = KeySpec::FIRST.used(Access::RW.with(Access::UPDATE));
const DELETE: KeySpec = KeySpec::FIRST.used(Access::RW.with(Access::DELETE));
/// Takes elements away and answers them.
const TAKEN: Access = Access::RW.with(Access::ACCESS).with(Access::DELETE);
const TAKE: KeySpec = KeySpec::FIRST.used(TAKEN);
const TRANSFER: KeySpec = KeySpec::FIRST_TWO.used(TAKEN).then(Access::RW.with(Access::INSERT));
const COUNTED: KeySpec = KeySpec::at(Place::Counted { count: 1, destination: None }).used(TAKEN);
const COUNTED_SECOND: KeySpec =
    KeySpec::at(Place::Counted { count: 2, destination: None }).used(TAKEN);
const ALL_BUT_LAST: KeySpec = KeySpec::at(Place::Range { first: 1, last: -2, step: 1 }).used(TAKEN);
/// Flags of what may wait.
const WAITING: u32 = WRITE | BLOCKING;

commands! { List;
    /// Takes an element from an end of one list, as soon as it has one, and pushes it at an end of
    /// another.
    "blmove" "6.2.0", Exactly(6), WAITING | DENYOOM, TRANSFER, Waiting, blmove;
    /// Takes elements from the first of several lists that is not empty, as soon as there is one.
    "blmpop" "7.0.0", AtLeast(5), WAITING | MOVABLE_KEYS, COUNTED_SECOND, Waiting, blmpop;
    /// Takes the first element of the first of several lists that is not empty, as soon as there is one.
    "blpop" "2.0.0", AtLeast(3), WAITING, ALL_BUT_LAST, Waiting, blpop;
    /// Takes the last element of the first of several lists that is not empty, as soon as there is one.
    "brpop" "2.0.0", AtLeast(3), WAITING, ALL_BUT_LAST, Waiting, brpop;
    /// Takes the last element of one list, as soon as it has one, and pushes it at the head of another.
    "brpoplpush" "2.2.0", Exactly(4), WAITING | DENYOOM | DEPRECATED, TRANSFER, Waiting, brpoplpush;
    /// Answers the element at an index.
    "lindex" "1.0.0", Exactly(3), READONLY, READ, Owner, lindex;
    /// Inserts an element before or after another.
    "linsert" "2.2.0", Exactly(5), WRITE | DENYOOM, INSERT, Owner, linsert;
    /// Answers the number of elements.
    "llen" "1.0.0", Exactly(2), READONLY | FAST, KeySpec::FIRST.used(Access::RO), Owner, llen;
    /// Takes an element from an end of one list and pushes it at an end of another.
    "lmove" "6.2.0", Exactly(5), WRITE | DENYOOM, TRANSFER, Owner, lmove;
    /// Takes elements from the first of several lists that is not empty.
    "lmpop" "7.0.0", AtLeast(4), WRITE | MOVABLE_KEYS, COUNTED, Owner, lmpop;
    /// Takes elements from the head.
    "lpop" "1.0.0", AtLeast(2), WRITE | FAST, TAKE, Owner, lpop;
    /// Answers the index of elements that equal a string.
    "lpos" "6.0.6", AtLeast(3), READONLY, READ, Owner, lpos;
    /// Pushes elements at the head, or creates the list.
    "lpush" "1.0.0", AtLeast(3), WRITE | DENYOOM | FAST, INSERT, Owner, lpush;
    /// Pushes elements at the head of a list that exists.
    "lpushx" "2.2.0", AtLeast(3), WRITE | DENYOOM | FAST, INSERT, Owner, lpushx;
    /// Answers the elements between two positions.
    "lrange" "1.0.0", Exactly(4), READONLY, READ, Owner, lrange;
    /// Removes elements that equal a string.
    "lrem" "1.0.0", Exactly(4), WRITE, DELETE, Owner, lrem;
    /// Replaces the element at an index.
    "lset" "1.0.0", Exactly(4), WRITE | DENYOOM, UPDATE, Owner, lset;
    /// Keeps the elements between two positions alone.
    "ltrim" "1.0.0", Exactly(4), WRITE, DELETE, Owner, ltrim;
    /// Takes elements from the tail.
    "rpop" "1.0.0", AtLeast(2), WRITE | FAST, TAKE, Owner, rpop;
    /// Takes the last element of one list and pushes it at the head of another.
    "rpoplpush" "1.2.0", Exactly(3), WRITE | DENYOOM | DEPRECATED, TRANSFER, Owner, rpoplpush;
    /// Pushes elements at the tail, or creates the list.
    "rpush" "1.0.0", AtLeast(3), WRITE | DENYOOM | FAST, INSERT, Owner, rpush;
    /// Pushes elements at the tail of a list that exists.
    "rpushx" "2.2.0", AtLeast(3), WRITE | DENYOOM | FAST, INSERT, Owner, rpushx;
}
