//! A string value as commands see it, whichever way it is kept.
//!
//! Invariant: the ways are those of the entry's body: an integer, bytes in the entry, or an object;
//! a value's bytes do not tell which (see `OBJECT ENCODING`).
#![forbid(unsafe_code)]

use bytes::Bytes;
use tessera_proto::{
    Args, ReplyWriter,
    number::{i64_len, parse_i64},
};

use crate::{
    command::CommandError,
    keyspace::{Body, Deadline, NewBody, Slot},
    value::{INLINE_STRING_BYTES_MAX, Object, inline},
};

/// The most digits, sign included, that an integer has.
const INTEGER_BYTES_MAX: usize = 20;

/// A string value.
#[derive(Clone, Copy)]
pub(in crate::command) enum Text<'a> {
    /// A number, which stands for its decimal digits.
    Int(i64),
    /// Bytes in the entry.
    Short(&'a [u8]),
    /// Bytes of their own.
    Long(&'a Bytes),
}

impl<'a> Text<'a> {
    /// The string that a body is.
    #[inline]
    pub(in crate::command) fn of(body: Body<'a, Object>) -> Result<Self, CommandError> {
        match body {
            Body::Int(number) => Ok(Self::Int(number)),
            Body::Inline { kind: inline::STRING | inline::CHANGED_STRING, bytes } => {
                Ok(Self::Short(bytes))
            }
            Body::Object(Object::String(bytes)) => Ok(Self::Long(bytes)),
            #[allow(unreachable_patterns, reason = "other types take the other kinds and objects")]
            _ => Err(CommandError::WrongType),
        }
    }

    /// Its length in bytes.
    #[inline]
    pub(in crate::command) fn len(self) -> usize {
        match self {
            Self::Int(number) => i64_len(number),
            Self::Short(bytes) => bytes.len(),
            Self::Long(bytes) => bytes.len(),
        }
    }

    /// The integer that it is, if it is one in its one decimal form.
    #[inline]
    pub(in crate::command) fn integer(self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(number),
            Self::Short(bytes) => parse_i64(bytes),
            Self::Long(_) => None,
        }
    }

    /// Hands its bytes to `use_bytes`.
    #[inline]
    pub(in crate::command) fn with_bytes<R>(self, use_bytes: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Self::Int(number) => use_bytes(itoa::Buffer::new().format(number).as_bytes()),
            Self::Short(bytes) => use_bytes(bytes),
            Self::Long(bytes) => use_bytes(bytes),
        }
    }

    /// Writes it as the reply, or an element of it; a long one without a copy.
    #[inline]
    pub(in crate::command) fn reply(self, reply: &mut ReplyWriter<'_>) {
        match self {
            Self::Int(number) => reply.bulk_integer(number),
            Self::Short(bytes) => reply.bulk(bytes),
            Self::Long(bytes) => reply.bulk_owned(bytes.clone()),
        }
    }
}

/// What to keep for the string at `index`: an integer if it is one, in the entry if it is short, and
/// without a copy if it is long and its request can be shared.
#[inline]
pub(in crate::command) fn new_body<'a>(args: &Args<'a>, index: usize) -> NewBody<'a, Object> {
    let bytes = args.get(index).unwrap_or_default();
    if bytes.len() <= INTEGER_BYTES_MAX
        && let Some(number) = parse_i64(bytes)
    {
        return NewBody::Int(number);
    }
    if bytes.len() <= INLINE_STRING_BYTES_MAX {
        NewBody::Inline { kind: inline::STRING, bytes }
    } else {
        NewBody::Object(Box::new(Object::String(args.bytes(index))))
    }
}

/// Makes the key hold a string that a command has put together, which Redis calls `raw` whatever its
/// length.
pub(in crate::command) fn put_bytes(slot: Slot<'_, '_>, bytes: Vec<u8>, deadline: Deadline) {
    if bytes.len() <= INLINE_STRING_BYTES_MAX {
        slot.put(NewBody::Inline { kind: inline::CHANGED_STRING, bytes: &bytes }, deadline);
    } else {
        slot.put(NewBody::Object(Box::new(Object::String(bytes.into()))), deadline);
    }
}
