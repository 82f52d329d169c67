//! Commands on strings.
//!
//! A string is kept in one of three ways, which only OBJECT ENCODING shows: as an integer when its
//! text is one, as bytes in the key's entry when it is short, else as an object of its own that
//! replies share.
#![forbid(unsafe_code)]

mod digest;
mod get;
mod lcs;
pub(super) mod long_double;
mod number;
mod options;
mod range;
mod set;
#[cfg(test)]
mod tests;
pub(super) mod text;

use super::{keys::Place, prelude::*};
use digest::{delex, delex_access, digest};
use get::{delifeq, get, getdel, getex, mget, strlen};
use lcs::lcs;
use number::{decr, decrby, incr, incrby, incrbyfloat};
pub(super) use range::edit_bytes;
use range::{append, getrange, setrange};
use set::{getset, mset, msetex, msetex_keys, msetnx, psetex, set, set_access, setex, setnx};

/// Changes the value in a way that depends on it.
const CHANGE: KeySpec = KeySpec::FIRST.used(Access::RW.with(Access::ACCESS).with(Access::UPDATE));
const READ: KeySpec = KeySpec::FIRST.used(Access::RO.with(Access::ACCESS));
const OVERWRITE: KeySpec = KeySpec::FIRST.used(Access::OW.with(Access::UPDATE));
/// Reads the value and takes it away.
const TAKE: KeySpec = KeySpec::FIRST.used(Access::RW.with(Access::ACCESS).with(Access::DELETE));

commands! { String;
    /// Appends to a string, or creates it.
    "append" "2.0.0", Exactly(3), WRITE | DENYOOM | FAST, KeySpec::FIRST.used(Access::RW.with(Access::INSERT)), Owner, append;
    /// Subtracts one from an integer; a missing key counts as 0.
    "decr" "1.0.0", Exactly(2), WRITE | DENYOOM | FAST, CHANGE, Owner, decr;
    /// Subtracts from an integer; a missing key counts as 0.
    "decrby" "1.0.0", Exactly(3), WRITE | DENYOOM | FAST, CHANGE, Owner, decrby;
    /// Deletes a key, perhaps only if it holds a certain string.
    "delex" "8.4.0", AtLeast(2), WRITE | FAST, TAKE.varying(delex_access), Owner, delex;
    /// Deletes a key if it holds the string given.
    "delifeq" "9.0.0", Exactly(3), WRITE | FAST, TAKE, Owner, delifeq;
    /// Answers the hash digest of a string.
    "digest" "8.4.0", Exactly(2), READONLY | FAST, READ, Owner, digest;
    /// Answers a string.
    "get" "1.0.0", Exactly(2), READONLY | FAST, READ, Owner, get;
    /// Answers a string and deletes its key.
    "getdel" "6.2.0", Exactly(2), WRITE | FAST, TAKE, Owner, getdel;
    /// Answers a string and sets or removes when it expires.
    "getex" "6.2.0", AtLeast(2), WRITE | FAST, CHANGE, Owner, getex;
    /// Answers the bytes of a string between two positions.
    "getrange" "2.4.0", Exactly(4), READONLY, READ, Owner, getrange;
    /// Sets a string and answers the one it replaces.
    "getset" "1.0.0", Exactly(3), WRITE | DENYOOM | FAST | DEPRECATED, CHANGE, Owner, getset;
    /// Adds one to an integer; a missing key counts as 0.
    "incr" "1.0.0", Exactly(2), WRITE | DENYOOM | FAST, CHANGE, Owner, incr;
    /// Adds to an integer; a missing key counts as 0.
    "incrby" "1.0.0", Exactly(3), WRITE | DENYOOM | FAST, CHANGE, Owner, incrby;
    /// Adds to a floating point number; a missing key counts as 0.
    "incrbyfloat" "2.6.0", Exactly(3), WRITE | DENYOOM | FAST, CHANGE, Owner, incrbyfloat;
    /// Finds the longest common subsequence of two strings.
    "lcs" "7.0.0", AtLeast(3), READONLY, KeySpec::FIRST_TWO.used(Access::RO.with(Access::ACCESS)), Owner, lcs;
    /// Answers several strings.
    "mget" "1.0.0", AtLeast(2), READONLY | FAST, KeySpec::ALL.used(Access::RO.with(Access::ACCESS)), EachKey, mget;
    /// Sets several strings at once.
    "mset" "1.0.1", AtLeast(3), WRITE | DENYOOM, KeySpec::PAIRS.used(Access::OW.with(Access::UPDATE)), AllKeysOk, mset;
    /// Sets several strings at once, perhaps on a condition, perhaps to expire.
    "msetex" "8.4.0", AtLeast(4), WRITE | DENYOOM | MOVABLE_KEYS, KeySpec::at(Place::Custom(msetex_keys)).used(Access::OW.with(Access::UPDATE)), Owner, msetex;
    /// Sets several strings at once, unless one of the keys exists.
    "msetnx" "1.0.1", AtLeast(3), WRITE | DENYOOM, KeySpec::PAIRS.used(Access::OW.with(Access::INSERT)), Owner, msetnx;
    /// Sets a string that expires after some milliseconds.
    "psetex" "2.6.0", Exactly(4), WRITE | DENYOOM | DEPRECATED, OVERWRITE, Owner, psetex;
    /// Sets a string, perhaps on a condition, perhaps to expire.
    "set" "1.0.0", AtLeast(3), WRITE | DENYOOM, CHANGE.varying(set_access), Owner, set;
    /// Sets a string that expires after some seconds.
    "setex" "2.0.0", Exactly(4), WRITE | DENYOOM | DEPRECATED, OVERWRITE, Owner, setex;
    /// Sets a string unless the key exists.
    "setnx" "1.0.0", Exactly(3), WRITE | DENYOOM | FAST | DEPRECATED, KeySpec::FIRST.used(Access::OW.with(Access::INSERT)), Owner, setnx;
    /// Overwrites a stretch of a string, or creates it.
    "setrange" "2.2.0", Exactly(4), WRITE | DENYOOM, KeySpec::FIRST.used(Access::RW.with(Access::UPDATE)), Owner, setrange;
    /// Answers the length of a string.
    "strlen" "2.2.0", Exactly(2), READONLY | FAST, KeySpec::FIRST.used(Access::RO), Owner, strlen;
    /// Answers the bytes of a string between two positions.
    "substr" "1.0.0", Exactly(4), READONLY | DEPRECATED, READ, Owner, getrange;
}
