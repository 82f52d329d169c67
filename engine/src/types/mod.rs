//! The types of collections: what a list, a hash, a set, a sorted set and a stream can do, over the
//! encodings that hold them.
//!
//! Types know no keys, deadlines, commands or replies. A small collection is one packed allocation
//! of at most [`SMALL_BYTES_MAX`], a larger one a tree; the two look the same from outside. Under
//! which name OBJECT ENCODING knows a collection is told apart from that: it follows Redis's
//! [`Thresholds`].
#![forbid(unsafe_code)]

pub mod bits;
pub mod encoding;
pub mod garbage;
pub mod geo;
pub mod hash;
pub mod hyperloglog;
pub mod list;
pub mod set;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod zset;

pub use encoding::Element;
pub use garbage::Garbage;
pub use hash::Hash;
pub use list::List;
pub use set::Set;
pub use stream::{Stream, StreamId};
pub use zset::Zset;

/// Largest packed collection in bytes. Beyond it a tree of one leaf finds members faster and hardly
/// takes more.
pub const SMALL_BYTES_MAX: usize = 1024;
/// A tree of at most so many bytes becomes packed again.
const SHRINK_BYTES_MAX: usize = 512;

/// When collections change their encoding: Redis's directives of the same names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// `list-max-listpack-size`: elements, or from -1 to -5 a size of 4 to 64 KiB.
    pub list_max_listpack_size: i64,
    /// `hash-max-listpack-entries`.
    pub hash_max_listpack_entries: usize,
    /// `hash-max-listpack-value`, bytes.
    pub hash_max_listpack_value: usize,
    /// `set-max-intset-entries`.
    pub set_max_intset_entries: usize,
    /// `set-max-listpack-entries`.
    pub set_max_listpack_entries: usize,
    /// `set-max-listpack-value`, bytes.
    pub set_max_listpack_value: usize,
    /// `zset-max-listpack-entries`.
    pub zset_max_listpack_entries: usize,
    /// `zset-max-listpack-value`, bytes.
    pub zset_max_listpack_value: usize,
    /// `stream-node-max-bytes`; 0 is no limit.
    pub stream_node_max_bytes: usize,
    /// `stream-node-max-entries`; 0 is no limit.
    pub stream_node_max_entries: usize,
    /// Seed of the hashes by which large collections are sorted. Not a directive: drawn at start,
    /// so that nobody can choose members that collide.
    pub hash_seed: u64,
}

impl Thresholds {
    /// The default of `hash-max-listpack-value`.
    pub const HASH_MAX_LISTPACK_VALUE_DEFAULT: usize = 64;
}

impl Default for Thresholds {
    /// The defaults of Redis 7 and Valkey 8.
    fn default() -> Self {
        Self {
            list_max_listpack_size: -2,
            hash_max_listpack_entries: 512,
            hash_max_listpack_value: Self::HASH_MAX_LISTPACK_VALUE_DEFAULT,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value: 64,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            stream_node_max_bytes: 4096,
            stream_node_max_entries: 100,
            hash_seed: 0,
        }
    }
}

/// One of two iterators over the same items.
#[derive(Clone, Debug)]
pub(crate) enum Either<A, B> {
    Left(A),
    Right(B),
}

impl<T, A: Iterator<Item = T>, B: Iterator<Item = T>> Iterator for Either<A, B> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        match self {
            Self::Left(left) => left.next(),
            Self::Right(right) => right.next(),
        }
    }
}
