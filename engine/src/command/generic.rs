//! Commands on keys of any type.
#![forbid(unsafe_code)]

mod copy;
mod delete;
mod dump;
mod expire;
mod object;
mod scan;
#[cfg(test)]
mod tests;

use super::prelude::*;
pub(super) use copy::{check_database, parse_database_number};
use copy::{copy, move_, rename, renamenx};
use delete::{del, exists, touch, type_};
use dump::dump;
pub(super) use dump::restore;
use expire::{expire, expireat, expiretime, persist, pexpire, pexpireat, pexpiretime, pttl, ttl};
use object::{object_encoding, object_freq, object_help, object_idletime, object_refcount};
pub(crate) use scan::parse_cursor;
use scan::{keys, randomkey, scan};

const READ: KeySpec = KeySpec::FIRST.used(Access::RO.with(Access::ACCESS));
const LOOK: KeySpec = KeySpec::FIRST.used(Access::RO);
const LOOK_AT_ALL: KeySpec = KeySpec::ALL.used(Access::RO);
const LOOK_AT_SECOND: KeySpec = KeySpec::SECOND.used(Access::RO);
const REMOVE_ALL: KeySpec = KeySpec::ALL.used(Access::RM.with(Access::DELETE));
/// Changes when the key expires.
const DATE: KeySpec = KeySpec::FIRST.used(Access::RW.with(Access::UPDATE));
const OVERWRITE: KeySpec = KeySpec::FIRST.used(Access::OW.with(Access::UPDATE));
const TAKEN: Access = Access::RW.with(Access::ACCESS).with(Access::DELETE);

commands! { Generic;
    /// Copies a value to another key.
    "copy" "6.2.0", AtLeast(3), WRITE | DENYOOM, KeySpec::FIRST_TWO.used(Access::RO.with(Access::ACCESS)).then(Access::OW.with(Access::UPDATE)), Owner, copy;
    /// Deletes keys.
    "del" "1.0.0", AtLeast(2), WRITE, REMOVE_ALL, SumOfKeys, del;
    /// Answers a value in serialized form.
    "dump" "2.6.0", Exactly(2), READONLY, READ, Owner, dump;
    /// Answers how many of the keys exist.
    "exists" "1.0.0", AtLeast(2), READONLY | FAST, LOOK_AT_ALL, SumOfKeys, exists;
    /// Lets a key expire after some seconds.
    "expire" "1.0.0", AtLeast(3), WRITE | FAST, DATE, Owner, expire;
    /// Lets a key expire at a time, in seconds since 1970.
    "expireat" "1.2.0", AtLeast(3), WRITE | FAST, DATE, Owner, expireat;
    /// Answers when a key expires, in seconds since 1970.
    "expiretime" "7.0.0", Exactly(2), READONLY | FAST, READ, Owner, expiretime;
    /// Answers all keys that match a pattern.
    "keys" "1.0.0", Exactly(2), READONLY | DANGEROUS, KeySpec::NONE, JoinOfShards, keys;
    /// Moves a key to another database.
    "move" "1.0.0", Exactly(3), WRITE | FAST, KeySpec::FIRST.used(Access::RW.with(Access::ACCESS).with(Access::UPDATE)), Owner, move_;
    /// Commands about how values are kept.
    "object" "2.2.3", AtLeast(2), NONE, KeySpec::NONE, Session, [
        /// Answers the name of a value's representation.
        "encoding" "2.2.3", Exactly(3), READONLY, LOOK_AT_SECOND, Owner, object_encoding;
        /// Answers the counter of a key's use, under an LFU policy.
        "freq" "4.0.0", Exactly(3), READONLY, LOOK_AT_SECOND, Owner, object_freq;
        /// Lists the subcommands.
        "help" "6.2.0", Exactly(2), LOADING | STALE, KeySpec::NONE, Owner, object_help;
        /// Answers the seconds since a key was last used.
        "idletime" "2.2.3", Exactly(3), READONLY, LOOK_AT_SECOND, Owner, object_idletime;
        /// Answers how often a value is referred to: once.
        "refcount" "2.2.3", Exactly(3), READONLY, LOOK_AT_SECOND, Owner, object_refcount;
    ];
    /// Lets a key live for good.
    "persist" "2.2.0", Exactly(2), WRITE | FAST, DATE, Owner, persist;
    /// Lets a key expire after some milliseconds.
    "pexpire" "2.6.0", AtLeast(3), WRITE | FAST, DATE, Owner, pexpire;
    /// Lets a key expire at a time, in milliseconds since 1970.
    "pexpireat" "2.6.0", AtLeast(3), WRITE | FAST, DATE, Owner, pexpireat;
    /// Answers when a key expires, in milliseconds since 1970.
    "pexpiretime" "7.0.0", Exactly(2), READONLY | FAST, READ, Owner, pexpiretime;
    /// Answers the milliseconds until a key expires.
    "pttl" "2.6.0", Exactly(2), READONLY | FAST, READ, Owner, pttl;
    /// Answers a key at random.
    "randomkey" "1.0.0", Exactly(1), READONLY | TOUCHES_ARBITRARY_KEYS, KeySpec::NONE, RandomShard, randomkey;
    /// Renames a key, in place of another if the name is taken.
    "rename" "1.0.0", Exactly(3), WRITE, KeySpec::FIRST_TWO.used(TAKEN).then(Access::OW.with(Access::UPDATE)), Owner, rename;
    /// Renames a key unless the name is taken.
    "renamenx" "1.0.0", Exactly(3), WRITE | FAST, KeySpec::FIRST_TWO.used(TAKEN).then(Access::OW.with(Access::INSERT)), Owner, renamenx;
    /// Makes a key of a value in serialized form.
    "restore" "2.6.0", AtLeast(4), WRITE | DENYOOM | DANGEROUS, OVERWRITE, Owner, restore;
    /// Walks over the keys of the database, a few at a time.
    "scan" "2.8.0", AtLeast(2), READONLY | TOUCHES_ARBITRARY_KEYS, KeySpec::NONE, Cursor, scan;
    /// Answers how many of the keys exist, and notes their use.
    "touch" "3.2.1", AtLeast(2), READONLY | FAST, LOOK_AT_ALL, SumOfKeys, touch;
    /// Answers the seconds until a key expires.
    "ttl" "1.0.0", Exactly(2), READONLY | FAST, READ, Owner, ttl;
    /// Answers the type of a key's value.
    "type" "1.0.0", Exactly(2), READONLY | FAST, LOOK, Owner, type_;
    /// Deletes keys, and frees large values in the background.
    "unlink" "4.0.0", AtLeast(2), WRITE | FAST, REMOVE_ALL, SumOfKeys, del;
}
