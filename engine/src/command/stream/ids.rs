//! Ids as clients write them.
//!
//! Redis reads the two numbers with C's `strtoull` where they are not plain decimals, so blanks in
//! front, leading zeros and signs are admitted, and nothing behind a zero byte is read.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use crate::{command::CommandError, types::StreamId};

/// The longest text that is looked at, in bytes.
const TEXT_BYTES_MAX: usize = 127;

/// The id that XADD is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewId {
    /// `*`: of this moment.
    Now,
    /// `ms-*`: the next of that time.
    Next(u64),
    /// This one.
    Exactly(StreamId),
}

impl NewId {
    /// The id of an entry to be added at `now_ms` behind `last`; nothing if it would not lie behind.
    pub(super) fn resolve(self, last: StreamId, now_ms: i64) -> Option<StreamId> {
        let id = match self {
            Self::Exactly(id) => id,
            Self::Next(ms) if ms == last.ms => StreamId { ms, seq: last.seq.checked_add(1)? },
            Self::Next(ms) => StreamId { ms, seq: 0 },
            Self::Now => match u64::try_from(now_ms) {
                Ok(ms) if ms > last.ms => StreamId { ms, seq: 0 },
                _ => last.next()?,
            },
        };
        (id > last).then_some(id)
    }

    /// Reads an id for XADD.
    pub(super) fn parse(text: &[u8]) -> Result<Self, CommandError> {
        if text == b"*" {
            return Ok(Self::Now);
        }
        let cut = cut(text).ok_or_else(invalid)?;
        if let [ms @ .., b'-', b'*'] = cut
            && !ms.contains(&b'-')
        {
            return parse_u64(ms).map(Self::Next).ok_or_else(invalid);
        }
        parse_strict(text, 0).map(Self::Exactly)
    }
}

/// Reads an id; one without a number gets `missing_seq`.
pub(super) fn parse_strict(text: &[u8], missing_seq: u64) -> Result<StreamId, CommandError> {
    parse_parts(text, missing_seq).ok_or_else(invalid)
}

/// The same, with `-` and `+` for the least and the greatest id.
pub(super) fn parse_lenient(text: &[u8], missing_seq: u64) -> Result<StreamId, CommandError> {
    match cut(text) {
        Some(b"-") => Ok(StreamId::MIN),
        Some(b"+") => Ok(StreamId::MAX),
        _ => parse_strict(text, missing_seq),
    }
}

/// The least id of an interval that begins at `text`; `(` in front leaves the id itself out.
pub(super) fn parse_start(text: &[u8]) -> Result<StreamId, CommandError> {
    match text {
        [b'(', id @ ..] if !id.is_empty() => parse_strict(id, 0)?
            .next()
            .ok_or(CommandError::text("ERR invalid start ID for the interval")),
        _ => parse_lenient(text, 0),
    }
}

/// The greatest id of an interval that ends at `text`.
pub(super) fn parse_end(text: &[u8]) -> Result<StreamId, CommandError> {
    match text {
        [b'(', id @ ..] if !id.is_empty() => parse_strict(id, u64::MAX)?
            .previous()
            .ok_or(CommandError::text("ERR invalid end ID for the interval")),
        _ => parse_lenient(text, u64::MAX),
    }
}

fn invalid() -> CommandError {
    CommandError::text("ERR Invalid stream ID specified as stream command argument")
}

fn parse_parts(text: &[u8], missing_seq: u64) -> Option<StreamId> {
    let text = cut(text)?;
    match text.iter().position(|&byte| byte == b'-') {
        Some(at) => {
            Some(StreamId { ms: parse_u64(&text[..at])?, seq: parse_u64(&text[at + 1..])? })
        }
        None => Some(StreamId { ms: parse_u64(text)?, seq: missing_seq }),
    }
}

/// The text up to a zero byte; nothing if it is too long.
fn cut(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    (text.len() <= TEXT_BYTES_MAX).then(|| &text[..end])
}

/// A number as Redis's `string2ull` reads it.
fn parse_u64(text: &[u8]) -> Option<u64> {
    if let Some(number) = parse_i64(text) {
        return u64::try_from(number).ok();
    }
    let start = text.iter().position(|byte| !matches!(byte, b' ' | b'\t'..=b'\r'))?;
    let (negative, digits) = match &text[start..] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0_u64, |number, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })?;
    Some(if negative { number.wrapping_neg() } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    #[test]
    fn ids_are_read_as_redis_reads_them() {
        for (text, expected) in [
            ("5", Some(id(5, 9))),
            ("5-7", Some(id(5, 7))),
            ("007- +8", Some(id(7, 8))),
            ("18446744073709551615-18446744073709551615", Some(StreamId::MAX)),
            ("18446744073709551616", None),
            ("5\0x", Some(id(5, 9))),
            ("5--1", None),
            ("5- -1", Some(id(5, u64::MAX))),
            ("", None),
            ("-", None),
            ("+", None),
            ("5-", None),
            ("-5", None),
            ("5-*", None),
            ("5-7-8", None),
            ("x", None),
        ] {
            assert_eq!(parse_strict(text.as_bytes(), 9).ok(), expected, "{text}");
        }
        assert!(parse_strict(&[b'0'; 128], 0).is_err());
        assert_eq!(parse_lenient(b"-", 0), Ok(StreamId::MIN));
        assert_eq!(parse_lenient(b"+", 0), Ok(StreamId::MAX));
    }

    #[test]
    fn intervals_may_leave_their_ends_out() {
        assert_eq!(parse_start(b"(5"), Ok(id(5, 1)));
        assert_eq!(parse_end(b"(5-3"), Ok(id(5, 2)));
        assert_eq!(parse_end(b"5"), Ok(id(5, u64::MAX)));
        assert_eq!(parse_end(b"(5"), Ok(id(5, u64::MAX - 1)));
        assert!(parse_start(b"(18446744073709551615-18446744073709551615").is_err());
        assert!(parse_end(b"(0-0").is_err() && parse_start(b"(-").is_err());
        assert!(parse_start(b"(").is_err());
    }

    #[test]
    fn new_ids_lie_behind_the_last() {
        assert_eq!(NewId::parse(b"*"), Ok(NewId::Now));
        assert_eq!(NewId::parse(b"5-*"), Ok(NewId::Next(5)));
        assert_eq!(NewId::parse(b"5"), Ok(NewId::Exactly(id(5, 0))));
        assert!(NewId::parse(b"-*").is_err() && NewId::parse(b"5-1-*").is_err());
        let last = id(5, 3);
        assert_eq!(NewId::Now.resolve(last, 9), Some(id(9, 0)));
        assert_eq!(NewId::Now.resolve(last, 4), Some(id(5, 4)));
        assert_eq!(NewId::Next(5).resolve(last, 0), Some(id(5, 4)));
        assert_eq!(NewId::Next(6).resolve(last, 0), Some(id(6, 0)));
        assert_eq!(NewId::Next(4).resolve(last, 0), None);
        assert_eq!(NewId::Next(5).resolve(id(5, u64::MAX), 0), None);
        assert_eq!(NewId::Exactly(last).resolve(last, 0), None);
        assert_eq!(NewId::Now.resolve(StreamId::MAX, 0), None);
    }
}
