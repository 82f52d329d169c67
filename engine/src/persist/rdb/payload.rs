//! The payload of DUMP and RESTORE: a value's kind, the value, a version and a checksum.
#![forbid(unsafe_code)]

use super::{
    Decoded, Decoder, Encoder, Input, RdbError, Stop, VERSION_READ_MAX, VERSION_VALKEY,
    VERSION_WRITTEN, crc64, encode::kind_of,
};
use crate::{
    keyspace::Body,
    types::Thresholds,
    value::{Object, Value},
};

/// Bytes of the version and of the checksum, little-endian, at the end.
const VERSION_BYTES: usize = 2;
const CHECKSUM_BYTES: usize = 8;

/// The payload that stands for a value.
pub fn dump(encoder: &mut Encoder, body: &Body<'_, Object>) -> Vec<u8> {
    let mut out = vec![kind_of(body)];
    encoder.encode(body, &mut out);
    seal(&mut out);
    out
}

/// Appends version and checksum to what they are for.
pub fn seal(out: &mut Vec<u8>) {
    out.extend_from_slice(&VERSION_WRITTEN.to_le_bytes());
    let sum = crc64(out);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// What version and checksum stand behind.
///
/// # Errors
///
/// The payload is too short, of a newer version than can be read, or damaged.
pub fn verify(payload: &[u8]) -> Result<&[u8], RdbError> {
    let (sealed, sum) = payload.split_last_chunk::<CHECKSUM_BYTES>().ok_or(RdbError::Truncated)?;
    let (content, version) =
        sealed.split_last_chunk::<VERSION_BYTES>().ok_or(RdbError::Truncated)?;
    let version = u16::from_le_bytes(*version);
    if version > VERSION_READ_MAX && version != VERSION_VALKEY {
        return Err(RdbError::Version(u32::from(version)));
    }
    let (found, expected) = (u64::from_le_bytes(*sum), crc64(sealed));
    if found != expected {
        return Err(RdbError::Checksum { found, expected });
    }
    Ok(content)
}

/// The value that the content of a payload (see [`verify`]) stands for.
///
/// # Errors
///
/// It stands for none: wrong bytes, an empty collection, a module's value, or bytes left over.
pub fn value_of(content: &[u8], thresholds: &Thresholds) -> Result<Value, RdbError> {
    let (&kind, bytes) = content.split_first().ok_or(RdbError::Truncated)?;
    let mut input = Input::whole(bytes);
    let decoded = Decoder::new(kind)?.step(&mut input, thresholds).map_err(|stop| match stop {
        Stop::NeedMore(_) => RdbError::Truncated,
        Stop::Broken(error) => error,
    })?;
    match decoded {
        Decoded::Empty => Err(RdbError::Corrupt("an empty collection")),
        Decoded::Value(_) if !input.is_empty() => Err(RdbError::Corrupt("bytes behind the value")),
        Decoded::Value(value) => Ok(value),
    }
}
