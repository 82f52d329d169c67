//! RDB: Redis's format of values and of whole databases.
//!
//! One value is the payload of DUMP and RESTORE ([`payload`]); a file `dump.rdb` is a header, keys
//! with their values, and a checksum ([`writer`], [`reader`]). Everything here is bytes in, bytes
//! out: no files, no sockets. Both directions work in steps, so that a value of any size neither
//! stalls a shard nor has to lie in memory twice:
//!
//! - [`Encoder`] writes a value some tens of kilobytes at a time, from any borrowed value;
//! - [`Decoder`] takes what bytes are there and asks for more; it never needs more of them at once
//!   than the longest single string (or packed blob) that the value holds.
//!
//! ```text
//! crc64, fold  the checksum           grammar   what each type is made of, to skip values
//! lzf          the compression        encode    values to bytes
//! input        lengths and strings    decode    bytes to values
//! output       the same, written      payload   DUMP, RESTORE
//! packed       listpack, ziplist,     writer    files, entry by entry
//!              zipmap, intset         reader    files, chunk by chunk
//!                                     load      a file into a keyspace
//!                                     index     whose keys stand where in a file
//!                                     portion   what of a file one shard reads
//! ```
//!
//! # What is written
//!
//! Version 10, of Redis 7.0, and only types that it knows, so that every Redis from 7.0 on and
//! Valkey load what is written here. Two things version 10 cannot say: deadlines of fields, for which
//! Redis 7.4's types are used, so that only files with such hashes need it; and when a consumer of a
//! stream was last given something, for which there is a type of version 11. That type is not used:
//! every file with a consumer group would be lost to Redis 7.0 for a figure of XINFO. Where that figure
//! is missing, the time at which the consumer was last seen stands for it, as in Redis.
//!
//! Where the content alone decides what Redis writes, the bytes are the same; the order of hash tables
//! is anybody's, and so is what a compressor finds.
//!
//! # What is read
//!
//! Every type and encoding up to version 12 (Redis 8), and version 80 (Valkey 9). Modules' values cannot
//! be read without their module, and are refused by its name.
//!
//! # Invariants
//!
//! - Bytes read are hostile: every length is compared with what can still come before anything is
//!   allocated by it, and nothing is allocated by a mere count of elements. No input panics.
//! - A packed blob (listpack, ziplist, …) is checked entry by entry while it is taken apart; none
//!   of its bytes get into a value unseen.
//! - Where decoding stops for want of bytes it goes on at the same token: what was taken is never
//!   looked at again.
//!
//! The format has no specification but Redis's `rdb.c`; the description above each type here is
//! made from observing files and from public descriptions of them.
#![deny(unsafe_code)]

mod crc64;
pub mod decode;
pub mod encode;
mod error;
mod fold;
pub mod functions;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod grammar;
pub mod index;
mod input;
pub mod load;
pub mod lzf;
mod output;
mod packed;
pub mod payload;
pub mod portion;
pub mod reader;
#[cfg(test)]
mod tests;
pub mod writer;

pub use crc64::{Crc64, crc64};
pub use decode::{Decoded, Decoder};
pub use encode::{Encoder, Options, Progress};
pub use error::RdbError;
pub use index::{Index, Part};
pub use input::{Input, Stop};
pub use load::{Collision, Load, LoadError, LoadStats, LoadStep};
pub use portion::{Portion, PortionError};
pub use reader::{Event, LoadedEntry, LoadedKey, ReadError, Reader};
pub use writer::{EntryHead, Trailer, Usage, Writer};

/// The version that is written: Redis 7.0's.
pub const VERSION_WRITTEN: u16 = 10;
/// The newest version of Redis that is read: 7.4's and 8's.
pub const VERSION_READ_MAX: u16 = 12;
/// The version that Valkey 9 writes, in files behind a magic of its own.
pub const VERSION_VALKEY: u16 = 80;

/// The bytes that say of what type and encoding a value is.
pub mod kind {
    /// A string.
    pub const STRING: u8 = 0;
    /// A list, element by element.
    pub const LIST: u8 = 1;
    /// A set, member by member.
    pub const SET: u8 = 2;
    /// A sorted set whose scores are decimal text.
    pub const ZSET: u8 = 3;
    /// A hash, field by field.
    pub const HASH: u8 = 4;
    /// A sorted set whose scores are binary doubles.
    pub const ZSET_2: u8 = 5;
    /// A module's value from before Redis 4.0.
    pub const MODULE_PRE_GA: u8 = 6;
    /// A module's value.
    pub const MODULE_2: u8 = 7;
    /// A hash in one zipmap.
    pub const HASH_ZIPMAP: u8 = 9;
    /// A list in one ziplist.
    pub const LIST_ZIPLIST: u8 = 10;
    /// A set in one intset.
    pub const SET_INTSET: u8 = 11;
    /// A sorted set in one ziplist.
    pub const ZSET_ZIPLIST: u8 = 12;
    /// A hash in one ziplist.
    pub const HASH_ZIPLIST: u8 = 13;
    /// A list in several ziplists.
    pub const LIST_QUICKLIST: u8 = 14;
    /// A stream, as of Redis 5.
    pub const STREAM_LISTPACKS: u8 = 15;
    /// A hash in one listpack.
    pub const HASH_LISTPACK: u8 = 16;
    /// A sorted set in one listpack.
    pub const ZSET_LISTPACK: u8 = 17;
    /// A list in several listpacks and plain strings.
    pub const LIST_QUICKLIST_2: u8 = 18;
    /// A stream, as of Redis 7.0.
    pub const STREAM_LISTPACKS_2: u8 = 19;
    /// A set in one listpack; from version 11 on.
    pub const SET_LISTPACK: u8 = 20;
    /// A stream, as of Redis 7.2; from version 11 on.
    pub const STREAM_LISTPACKS_3: u8 = 21;
    /// A hash with deadlines of fields, as of Valkey 9; of its version 80. (Release candidates of
    /// Redis 7.4 had another form under this number, which is not read.)
    pub const HASH_2: u8 = 22;
    /// A hash with deadlines of fields, as of Redis 7.4; from version 12 on.
    pub const HASH_METADATA: u8 = 24;
    /// The same in one listpack.
    pub const HASH_LISTPACK_EX: u8 = 25;
}

/// The bytes of a file that stand where a kind of value could, and say something else.
mod opcode {
    /// A slot and how many keys it has: Valkey 8 in cluster mode.
    pub(super) const SLOT_INFO: u8 = 244;
    /// A library of functions.
    pub(super) const FUNCTION_2: u8 = 245;
    /// The same in a form that was given up before it was released.
    pub(super) const FUNCTION_PRE_GA: u8 = 246;
    /// Data that a module keeps beside the keys.
    pub(super) const MODULE_AUX: u8 = 247;
    /// Seconds since the use of the key that follows.
    pub(super) const IDLE: u8 = 248;
    /// The counter of the use of the key that follows.
    pub(super) const FREQ: u8 = 249;
    /// A field for information.
    pub(super) const AUX: u8 = 250;
    /// Numbers of keys.
    pub(super) const RESIZE_DB: u8 = 251;
    /// The deadline of the key that follows, in milliseconds.
    pub(super) const EXPIRE_TIME_MS: u8 = 252;
    /// The same in seconds.
    pub(super) const EXPIRE_TIME: u8 = 253;
    /// The database of the keys that follow.
    pub(super) const SELECT_DB: u8 = 254;
    /// The end.
    pub(super) const EOF: u8 = 255;
}
