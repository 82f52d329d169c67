//! Replies as the wire carries them, and the strict reader that makes them.
//!
//! Strict: a reply in any other than RESP's canonical form is refused, so two replies are equal
//! exactly when their bytes are.

use std::fmt;
use std::io::{self, BufRead, Read};

/// One reply in RESP2 or RESP3. `Debug` writes the notation that transcripts use.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reply {
    Simple(String),
    Error(String),
    Integer(i64),
    Bulk(Vec<u8>),
    /// RESP2's `$-1`.
    NullBulk,
    /// RESP2's `*-1`.
    NullArray,
    /// RESP3's `_`.
    Null,
    Array(Vec<Reply>),
    /// RESP3's `%`: keys and values alternate.
    Map(Vec<Reply>),
    Set(Vec<Reply>),
    Push(Vec<Reply>),
    /// The digits as sent: formatting is part of what is tested.
    Double(String),
    Boolean(bool),
    BigNumber(String),
    /// Format, a colon and the text, as sent.
    Verbatim(Vec<u8>),
}

impl Reply {
    pub(crate) fn ok() -> Self {
        Reply::Simple("OK".into())
    }

    pub(crate) fn bulk(text: impl AsRef<[u8]>) -> Self {
        Reply::Bulk(text.as_ref().to_vec())
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Reply::Null | Reply::NullBulk | Reply::NullArray)
    }

    /// The integer, or a panic that shows what was there instead; so do the other `into_`s.
    #[track_caller]
    pub(crate) fn into_integer(self) -> i64 {
        match self {
            Reply::Integer(number) => number,
            other => panic!("an integer was expected, not {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        match self {
            Reply::Bulk(bytes) => bytes,
            Reply::Verbatim(bytes) => bytes[4..].to_vec(),
            other => panic!("a bulk string was expected, not {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn into_text(self) -> String {
        String::from_utf8(self.into_bytes()).expect("text in UTF-8")
    }

    /// The elements of any aggregate.
    #[track_caller]
    pub(crate) fn into_items(self) -> Vec<Reply> {
        match self {
            Reply::Array(items) | Reply::Map(items) | Reply::Set(items) | Reply::Push(items) => {
                items
            }
            other => panic!("an aggregate was expected, not {other:?}"),
        }
    }
}

/// Reads one reply. What was read is appended to `raw`, byte for byte.
///
/// # Errors
/// `InvalidData` when the bytes are not canonical RESP, else what the reader reports.
pub(crate) fn read_reply(input: &mut impl BufRead, raw: &mut Vec<u8>) -> io::Result<Reply> {
    let line = read_line(input, raw)?;
    let (&kind, rest) = line.as_bytes().split_first().ok_or_else(|| invalid("an empty line"))?;
    let rest = &line[line.len() - rest.len()..];
    Ok(match kind {
        b'+' => Reply::Simple(rest.into()),
        b'-' => Reply::Error(rest.into()),
        b':' => Reply::Integer(integer(rest)?),
        b'$' if rest == "-1" => Reply::NullBulk,
        b'*' if rest == "-1" => Reply::NullArray,
        b'_' if rest.is_empty() => Reply::Null,
        b'$' => Reply::Bulk(read_bulk(input, raw, rest)?),
        b'=' => Reply::Verbatim(read_verbatim(input, raw, rest)?),
        b'*' => Reply::Array(read_items(input, raw, length(rest)?)?),
        b'~' => Reply::Set(read_items(input, raw, length(rest)?)?),
        b'>' => Reply::Push(read_items(input, raw, length(rest)?)?),
        b'%' => Reply::Map(read_items(input, raw, 2 * length(rest)?)?),
        b',' => Reply::Double(rest.into()),
        b'(' => Reply::BigNumber(rest.into()),
        b'#' if rest == "t" => Reply::Boolean(true),
        b'#' if rest == "f" => Reply::Boolean(false),
        _ => return Err(invalid(&format!("a reply beginning with {line:?}"))),
    })
}

fn read_line(input: &mut impl BufRead, raw: &mut Vec<u8>) -> io::Result<String> {
    let start = raw.len();
    input.read_until(b'\n', raw)?;
    let Some(line) = raw[start..].strip_suffix(b"\r\n") else {
        return Err(if raw.len() == start || raw.last() != Some(&b'\n') {
            io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")
        } else {
            invalid("a line that ends without a carriage return")
        });
    };
    if line.contains(&b'\r') {
        return Err(invalid("a carriage return inside a line"));
    }
    String::from_utf8(line.to_vec()).map_err(|_| invalid("a line that is not UTF-8"))
}

fn read_bulk(input: &mut impl BufRead, raw: &mut Vec<u8>, header: &str) -> io::Result<Vec<u8>> {
    let start = raw.len();
    let wanted = length(header)? + 2;
    let got = input.take(wanted as u64).read_to_end(raw)?;
    if got < wanted {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed inside a bulk string"));
    }
    let bytes = raw[start..].strip_suffix(b"\r\n");
    bytes.map(<[u8]>::to_vec).ok_or_else(|| invalid("a bulk string of another length than said"))
}

fn read_verbatim(input: &mut impl BufRead, raw: &mut Vec<u8>, header: &str) -> io::Result<Vec<u8>> {
    let bytes = read_bulk(input, raw, header)?;
    match bytes.get(3) {
        Some(b':') => Ok(bytes),
        _ => Err(invalid("a verbatim string without a format")),
    }
}

fn read_items(input: &mut impl BufRead, raw: &mut Vec<u8>, count: usize) -> io::Result<Vec<Reply>> {
    (0..count).map(|_| read_reply(input, raw)).collect()
}

fn integer(digits: &str) -> io::Result<i64> {
    let number: i64 = digits.parse().map_err(|_| invalid(&format!("the number {digits:?}")))?;
    if number.to_string() == digits { Ok(number) } else { Err(invalid("a padded number")) }
}

fn length(digits: &str) -> io::Result<usize> {
    usize::try_from(integer(digits)?).map_err(|_| invalid("a negative length"))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server sent {what}"))
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Simple(text) => write!(f, "+{text}"),
            Reply::Error(text) => write!(f, "-{text}"),
            Reply::Integer(number) => write!(f, ":{number}"),
            Reply::Bulk(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Reply::NullBulk => write!(f, "nil"),
            Reply::NullArray => write!(f, "nil-array"),
            Reply::Null => write!(f, "null"),
            Reply::Array(items) => write_items(f, "[", items, "]"),
            Reply::Map(items) => write_items(f, "%[", items, "]"),
            Reply::Set(items) => write_items(f, "~[", items, "]"),
            Reply::Push(items) => write_items(f, ">[", items, "]"),
            Reply::Double(digits) => write!(f, ",{digits}"),
            Reply::Boolean(value) => write!(f, "#{value}"),
            Reply::BigNumber(digits) => write!(f, "({digits}"),
            Reply::Verbatim(bytes) => write!(f, "=\"{}\"", bytes.escape_ascii()),
        }
    }
}

fn write_items(
    f: &mut fmt::Formatter<'_>,
    open: &str,
    items: &[Reply],
    close: &str,
) -> fmt::Result {
    f.write_str(open)?;
    for (index, item) in items.iter().enumerate() {
        let separator = if index == 0 { "" } else { " " };
        write!(f, "{separator}{item:?}")?;
    }
    f.write_str(close)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Reply> {
        let mut raw = Vec::new();
        let reply = read_reply(&mut &bytes[..], &mut raw)?;
        assert_eq!(raw, bytes, "all that was sent belongs to the reply");
        Ok(reply)
    }

    #[test]
    fn every_type_is_read() {
        let nested = read(b"*3\r\n:-7\r\n$-1\r\n%1\r\n+a\r\n,1.5\r\n").expect("canonical");
        assert_eq!(format!("{nested:?}"), "[:-7 nil %[+a ,1.5]]");
        let others = read(b"*4\r\n_\r\n#t\r\n(12\r\n=7\r\ntxt:abc\r\n").expect("canonical");
        assert_eq!(format!("{others:?}"), "[null #true (12 =\"txt:abc\"]");
        assert_eq!(read(b"$2\r\n\r\n\r\n").expect("canonical"), Reply::bulk("\r\n"));
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        for bytes in [&b":01\r\n"[..], b"+a\n", b"$3\r\nabcd\r\n", b"?\r\n", b"\r\n", b"$-2\r\n"] {
            let error = read(bytes).expect_err("not canonical");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_cut_reply_is_the_end_of_the_connection() {
        for bytes in [&b""[..], b"+O", b"$3\r\nab", b"*2\r\n:1\r\n"] {
            let error = read(bytes).expect_err("cut");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{}", bytes.escape_ascii());
        }
    }
}
