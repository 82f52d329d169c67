//! Commands on hashes.
#![forbid(unsafe_code)]

mod combined;
mod deadline;
mod fields;
mod number;
mod read;
#[cfg(test)]
mod tests;
mod write;

use super::prelude::*;
use combined::{hgetdel, hgetex, hsetex};
use deadline::{
    hexpire, hexpireat, hexpiretime, hpersist, hpexpire, hpexpireat, hpexpiretime, hpttl, httl,
};
use number::{hincrby, hincrbyfloat};
use read::{hexists, hget, hgetall, hkeys, hlen, hmget, hrandfield, hscan, hstrlen, hvals};
use write::{hdel, hmset, hset, hsetnx};

const READ: KeySpec = KeySpec::FIRST.used(Access::RO.with(Access::ACCESS));
const LOOK: KeySpec = KeySpec::FIRST.used(Access::RO);
const UPDATE: KeySpec = KeySpec::FIRST.used(Access::RW.with(Access::UPDATE));
/// Changes the value in a way that depends on it.
const CHANGE: KeySpec = KeySpec::FIRST.used(Access::RW.with(Access::ACCESS).with(Access::UPDATE));

commands! { Hash;
    /// Removes fields.
    "hdel" "2.0.0", AtLeast(3), WRITE | FAST, KeySpec::FIRST.used(Access::RW.with(Access::DELETE)), Owner, hdel;
    /// Answers whether there is a field.
    "hexists" "2.0.0", Exactly(3), READONLY | FAST, LOOK, Owner, hexists;
    /// Sets when fields expire, in seconds from now.
    "hexpire" "7.4.0", AtLeast(6), WRITE | DENYOOM | FAST, UPDATE, Owner, hexpire;
    /// Sets when fields expire, in Unix seconds.
    "hexpireat" "7.4.0", AtLeast(6), WRITE | DENYOOM | FAST, UPDATE, Owner, hexpireat;
    /// Answers when fields expire, in Unix seconds.
    "hexpiretime" "7.4.0", AtLeast(5), READONLY | FAST, READ, Owner, hexpiretime;
    /// Answers the value of a field.
    "hget" "2.0.0", Exactly(3), READONLY | FAST, READ, Owner, hget;
    /// Answers all fields and their values.
    "hgetall" "2.0.0", Exactly(2), READONLY, READ, Owner, hgetall;
    /// Answers the values of fields and removes them.
    "hgetdel" "8.0.0", AtLeast(5), WRITE | FAST, KeySpec::FIRST.used(Access::RW.with(Access::ACCESS).with(Access::DELETE)), Owner, hgetdel;
    /// Answers the values of fields and sets or removes when they expire.
    "hgetex" "8.0.0", AtLeast(5), WRITE | FAST, CHANGE, Owner, hgetex;
    /// Adds to the integer of a field; a missing one counts as 0.
    "hincrby" "2.0.0", Exactly(4), WRITE | DENYOOM | FAST, CHANGE, Owner, hincrby;
    /// Adds to the floating point number of a field; a missing one counts as 0.
    "hincrbyfloat" "2.6.0", Exactly(4), WRITE | DENYOOM | FAST, CHANGE, Owner, hincrbyfloat;
    /// Answers all fields.
    "hkeys" "2.0.0", Exactly(2), READONLY, READ, Owner, hkeys;
    /// Answers the number of fields.
    "hlen" "2.0.0", Exactly(2), READONLY | FAST, LOOK, Owner, hlen;
    /// Answers the values of several fields.
    "hmget" "2.0.0", AtLeast(3), READONLY | FAST, READ, Owner, hmget;
    /// Sets fields to values.
    "hmset" "2.0.0", AtLeast(4), WRITE | DENYOOM | FAST | DEPRECATED, UPDATE, Owner, hmset;
    /// Takes away when fields expire.
    "hpersist" "7.4.0", AtLeast(5), WRITE | FAST, UPDATE, Owner, hpersist;
    /// Sets when fields expire, in milliseconds from now.
    "hpexpire" "7.4.0", AtLeast(6), WRITE | DENYOOM | FAST, UPDATE, Owner, hpexpire;
    /// Sets when fields expire, in Unix milliseconds.
    "hpexpireat" "7.4.0", AtLeast(6), WRITE | DENYOOM | FAST, UPDATE, Owner, hpexpireat;
    /// Answers when fields expire, in Unix milliseconds.
    "hpexpiretime" "7.4.0", AtLeast(5), READONLY | FAST, READ, Owner, hpexpiretime;
    /// Answers in how many milliseconds fields expire.
    "hpttl" "7.4.0", AtLeast(5), READONLY | FAST, READ, Owner, hpttl;
    /// Answers fields at random.
    "hrandfield" "6.2.0", AtLeast(2), READONLY, READ, Owner, hrandfield;
    /// Walks over the fields and values, a few at a time.
    "hscan" "2.8.0", AtLeast(3), READONLY, READ, Owner, hscan;
    /// Sets fields to values; answers how many are new.
    "hset" "2.0.0", AtLeast(4), WRITE | DENYOOM | FAST, UPDATE, Owner, hset;
    /// Sets fields to values, perhaps on a condition, perhaps to expire.
    "hsetex" "8.0.0", AtLeast(6), WRITE | DENYOOM | FAST, UPDATE, Owner, hsetex;
    /// Sets a field unless there is one.
    "hsetnx" "2.0.0", Exactly(4), WRITE | DENYOOM | FAST, KeySpec::FIRST.used(Access::RW.with(Access::INSERT)), Owner, hsetnx;
    /// Answers the length of a field's value.
    "hstrlen" "3.2.0", Exactly(3), READONLY | FAST, LOOK, Owner, hstrlen;
    /// Answers in how many seconds fields expire.
    "httl" "7.4.0", AtLeast(5), READONLY | FAST, READ, Owner, httl;
    /// Answers all values.
    "hvals" "2.0.0", Exactly(2), READONLY, READ, Owner, hvals;
}
