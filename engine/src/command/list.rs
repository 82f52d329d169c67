//! Commands on lists.
//!
//! The forms that wait (BLPOP and its like) are the business of waiters; what they do to the data
//! is done here.
#![forbid(unsafe_code)]

mod edit;
mod ends;
mod search;
#[cfg(test)]
mod tests;
mod transfer;

use super::{keys::Place, prelude::*};
use edit::{linsert, lrem, lset, ltrim};
use ends::{lpop, lpush, lpushx, rpop, rpush, rpushx};
use search::{lindex, llen, lpos, lrange};
use transfer::{lmove, lmpop, rpoplpush};
pub(super) use transfer::{parse_at_least_one, parse_pop_count};

const READ: KeySpec = KeySpec::FIRST.used(Access::RO.with(Access::ACCESS));
const INSERT: KeySpec = KeySpec::FIRST.used(Access::RW.with(Access::INSERT));
const UPDATE: KeySpec = KeySpec::FIRST.used(Access::RW.with(Access::UPDATE));
const DELETE: KeySpec = KeySpec::FIRST.used(Access::RW.with(Access::DELETE));
/// Takes elements away and answers them.
const TAKEN: Access = Access::RW.with(Access::ACCESS).with(Access::DELETE);
const TAKE: KeySpec = KeySpec::FIRST.used(TAKEN);
const TRANSFER: KeySpec = KeySpec::FIRST_TWO.used(TAKEN).then(Access::RW.with(Access::INSERT));
const COUNTED: KeySpec = KeySpec::at(Place::Counted { count: 1, destination: None }).used(TAKEN);

commands! { List;
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
