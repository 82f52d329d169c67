//! What a key can hold.
//!
//! Integers and short byte strings stand in the entry itself (see `keyspace::entry`); whatever is
//! larger is an [`Object`] that the entry points to. [`value_type`], [`encoding_name`] and
//! [`Value`] look at both together.
//!
//! A new data type is a variant here; the exhaustive matches (size, names, copying) then make the
//! compiler list what is left to write.
#![forbid(unsafe_code)]

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{
    keyspace::{Body, NewBody},
    types::{
        Garbage, Hash, List, Set, Stream, Zset, encoding::element::canonical_i64, set::PackedSet,
    },
};

/// The longest string that is kept in its entry, in bytes. From one byte more on, replies send a
/// string by reference and SET takes it over without a copy (`proto::buffer::SPLICE_MIN_BYTES`), for
/// which it must be an object; below, one allocation and one copy are cheaper.
pub const INLINE_STRING_BYTES_MAX: usize = tessera_proto::buffer::SPLICE_MIN_BYTES - 1;

/// The longest string that Redis calls `embstr`, in bytes.
const EMBSTR_BYTES_MAX: usize = 44;

/// What the bytes of an inline body are: its `kind`.
pub mod inline {
    /// A string as it was set.
    pub const STRING: u8 = 0;
    /// A string that was changed in place, which Redis calls `raw` whatever its length.
    pub const CHANGED_STRING: u8 = 1;
    /// A list, as [`crate::types::List::packed`] gives it.
    pub const LIST: u8 = 2;
    /// A hash, as [`crate::types::Hash::packed`] gives it.
    pub const HASH: u8 = 3;
    /// A set of integers, as [`crate::types::Set::packed`] gives it.
    pub const INTSET: u8 = 4;
    /// Another set, as [`crate::types::Set::packed`] gives it.
    pub const SET: u8 = 5;
    /// A sorted set, as [`crate::types::Zset::packed`] gives it.
    pub const ZSET: u8 = 6;
}

/// The types of values under the names that TYPE answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// Bytes, or a number.
    String,
    /// Elements by position.
    List,
    /// Distinct members.
    Set,
    /// Members ordered by a score.
    Zset,
    /// Fields with values.
    Hash,
    /// Entries with ascending ids.
    Stream,
}

impl ValueType {
    /// Every type.
    pub const ALL: [Self; 6] =
        [Self::String, Self::List, Self::Set, Self::Zset, Self::Hash, Self::Stream];

    /// The answer of TYPE.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::Zset => "zset",
            Self::Hash => "hash",
            Self::Stream => "stream",
        }
    }

    /// The type that TYPE calls `name`, in any case.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name().as_bytes().eq_ignore_ascii_case(name))
    }
}

/// A value too large for its entry.
#[derive(Clone, Debug)]
pub enum Object {
    /// A string of more than [`INLINE_STRING_BYTES_MAX`] bytes, or one that was. Shared with
    /// replies on their way out, so it is changed in place only while nobody else holds it.
    String(Bytes),
    /// A list that is large or that Redis would call so.
    List(List),
    /// A set that is large or that Redis would call so.
    Set(Set),
    /// A sorted set that is large or that Redis would call so.
    Zset(Zset),
    /// A hash that is large or that Redis would call so.
    Hash(Hash),
    /// A stream.
    Stream(Box<Stream>),
}

impl Object {
    /// The type that the value has for clients.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::String(_) => ValueType::String,
            Self::List(_) => ValueType::List,
            Self::Set(_) => ValueType::Set,
            Self::Zset(_) => ValueType::Zset,
            Self::Hash(_) => ValueType::Hash,
            Self::Stream(_) => ValueType::Stream,
        }
    }

    /// OBJECT ENCODING's name for the representation.
    pub fn encoding_name(&self) -> &'static str {
        match self {
            Self::String(_) => "raw",
            Self::List(list) => list.encoding_name(),
            Self::Set(set) => set.encoding_name(),
            Self::Zset(zset) => zset.encoding_name(),
            Self::Hash(hash) => hash.encoding_name(),
            Self::Stream(_) => "stream",
        }
    }

    /// Bytes of memory behind the entry's pointer, allocator rounding left out.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::String(bytes) => bytes.len(),
                Self::List(list) => list.memory_bytes(),
                Self::Set(set) => set.memory_bytes(),
                Self::Zset(zset) => zset.memory_bytes(),
                Self::Hash(hash) => hash.memory_bytes(),
                Self::Stream(stream) => stream.memory_bytes(),
            }
    }
}

impl Object {
    /// What is to be freed in slices; the rest is freed here.
    pub fn into_garbage(self) -> Garbage {
        match self {
            Self::String(_) => Garbage::default(),
            Self::List(list) => list.into_garbage(),
            Self::Set(set) => set.into_garbage(),
            Self::Zset(zset) => zset.into_garbage(),
            Self::Hash(hash) => hash.into_garbage(),
            Self::Stream(stream) => stream.into_garbage(),
        }
    }
}

/// The type that a body has for clients.
#[inline]
pub fn value_type(body: &Body<'_, Object>) -> ValueType {
    match body {
        Body::Int(_) => ValueType::String,
        Body::Inline { kind, .. } => match *kind {
            inline::LIST => ValueType::List,
            inline::HASH => ValueType::Hash,
            inline::INTSET | inline::SET => ValueType::Set,
            inline::ZSET => ValueType::Zset,
            _ => ValueType::String,
        },
        Body::Object(object) => object.value_type(),
    }
}

/// OBJECT ENCODING's name for how a body is kept, as Redis would name its own form of it.
pub fn encoding_name(body: &Body<'_, Object>) -> &'static str {
    match body {
        Body::Int(_) => "int",
        Body::Inline { kind: inline::STRING, bytes } if bytes.len() <= EMBSTR_BYTES_MAX => "embstr",
        Body::Inline { kind: inline::INTSET, .. } => "intset",
        Body::Inline { kind: inline::STRING | inline::CHANGED_STRING, .. } => "raw",
        Body::Inline { .. } => "listpack",
        Body::Object(object) => object.encoding_name(),
    }
}

/// Bytes of memory that a body takes outside its entry.
pub fn outside_bytes(body: &Body<'_, Object>) -> usize {
    match body {
        Body::Int(_) | Body::Inline { .. } => 0,
        Body::Object(object) => object.memory_bytes(),
    }
}

/// A value that stands on its own, between two keys or two databases.
#[derive(Clone, Debug)]
pub enum Value {
    /// An integer.
    Int(i64),
    /// What an entry holds inline.
    Inline {
        /// See [`inline`].
        kind: u8,
        /// The bytes.
        bytes: SmallVec<[u8; 64]>,
    },
    /// What an entry points to.
    Object(Box<Object>),
}

impl Value {
    /// A copy of what an entry holds.
    pub fn copy_of(body: &Body<'_, Object>) -> Self {
        match *body {
            Body::Int(number) => Self::Int(number),
            Body::Inline { kind, bytes } => {
                Self::Inline { kind, bytes: SmallVec::from_slice(bytes) }
            }
            Body::Object(object) => Self::Object(Box::new(object.clone())),
        }
    }

    /// The string `text`, as SET would keep it.
    pub fn string(text: &[u8]) -> Self {
        Self::short_string(text)
            .unwrap_or_else(|| Self::Object(Box::new(Object::String(Bytes::copy_from_slice(text)))))
    }

    /// The string `text` as SET would keep it, taken over where it is long.
    pub fn owned_string(text: Bytes) -> Self {
        Self::short_string(&text).unwrap_or_else(|| Self::Object(Box::new(Object::String(text))))
    }

    fn short_string(text: &[u8]) -> Option<Self> {
        match canonical_i64(text) {
            Some(number) => Some(Self::Int(number)),
            None => {
                (text.len() <= INLINE_STRING_BYTES_MAX).then(|| Self::inline(inline::STRING, text))
            }
        }
    }

    fn inline(kind: u8, bytes: &[u8]) -> Self {
        Self::Inline { kind, bytes: SmallVec::from_slice(bytes) }
    }

    /// What it is, as an entry would hold it.
    pub fn body(&self) -> Body<'_, Object> {
        match self {
            Self::Int(number) => Body::Int(*number),
            Self::Inline { kind, bytes } => Body::Inline { kind: *kind, bytes },
            Self::Object(object) => Body::Object(object),
        }
    }

    /// What to put into an entry with `put`.
    pub fn put_with<R>(self, put: impl FnOnce(NewBody<'_, Object>) -> R) -> R {
        match self {
            Self::Int(number) => put(NewBody::Int(number)),
            Self::Inline { kind, bytes } => put(NewBody::Inline { kind, bytes: &bytes }),
            Self::Object(object) => put(NewBody::Object(object)),
        }
    }
}

/// What to put into an entry for the string `text`, as SET would keep it.
pub fn new_string(text: &[u8]) -> NewBody<'_, Object> {
    match canonical_i64(text) {
        Some(number) => NewBody::Int(number),
        None if text.len() <= INLINE_STRING_BYTES_MAX => {
            NewBody::Inline { kind: inline::STRING, bytes: text }
        }
        None => NewBody::Object(Box::new(Object::String(Bytes::copy_from_slice(text)))),
    }
}

impl From<List> for Value {
    fn from(list: List) -> Self {
        match list.packed() {
            Some(bytes) => Self::inline(inline::LIST, bytes),
            None => Self::Object(Box::new(Object::List(list))),
        }
    }
}

impl From<Hash> for Value {
    fn from(hash: Hash) -> Self {
        match hash.packed() {
            Some(bytes) => Self::inline(inline::HASH, bytes),
            None => Self::Object(Box::new(Object::Hash(hash))),
        }
    }
}

impl From<Zset> for Value {
    fn from(zset: Zset) -> Self {
        match zset.packed() {
            Some(bytes) => Self::inline(inline::ZSET, bytes),
            None => Self::Object(Box::new(Object::Zset(zset))),
        }
    }
}

impl From<Set> for Value {
    fn from(set: Set) -> Self {
        match set.packed() {
            Some(PackedSet::Ints(bytes)) => Self::inline(inline::INTSET, bytes),
            Some(PackedSet::Members(bytes)) => Self::inline(inline::SET, bytes),
            None => Self::Object(Box::new(Object::Set(set))),
        }
    }
}
