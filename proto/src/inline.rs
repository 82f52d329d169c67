//! Splitting of inline commands into arguments, with quotes and escapes.
//!
//! The rules are those of Redis's command line: blanks part arguments; `"…"` takes `\n \r \t \b \a`,
//! `\xHH` and a backslash before any other byte; `'…'` knows `\'` only; a closing quote ends the
//! argument and must stand before a blank or the end. Quotes may open within an argument
//! (`ab"c d"` is `abc d`).
//!
//! A line without quotes is split in place. One with quotes is written anew, all arguments of it,
//! so that the spans of one request always refer to one buffer.

use memchr::memchr2;

use crate::args::Span;
use crate::error::ProtocolError;

/// Splits `line`, which is without its line end. Tells whether the spans refer to `unquoted`, whose
/// former contents are dropped, or else to `line`.
///
/// # Errors
/// [`ProtocolError::UnbalancedQuotes`]
pub(crate) fn split(
    line: &[u8],
    spans: &mut Vec<Span>,
    unquoted: &mut Vec<u8>,
) -> Result<bool, ProtocolError> {
    if memchr2(b'"', b'\'', line).is_none() {
        split_plain(line, spans);
        return Ok(false);
    }
    unquoted.clear();
    let mut rest = skip_blanks(line);
    while !rest.is_empty() {
        let start = unquoted.len();
        let used = unquote(rest, unquoted).ok_or(ProtocolError::UnbalancedQuotes)?;
        spans.push(Span::new(start, unquoted.len() - start));
        rest = skip_blanks(&rest[used..]);
    }
    Ok(true)
}

/// The arguments of `line` on their own: for lines that are read rarely, as those of configuration
/// files, which follow the same rules.
///
/// # Errors
/// [`ProtocolError::UnbalancedQuotes`]
pub fn split_arguments(line: &[u8]) -> Result<Vec<Vec<u8>>, ProtocolError> {
    let (mut spans, mut unquoted) = (Vec::new(), Vec::new());
    let is_unquoted = split(line, &mut spans, &mut unquoted)?;
    let bytes = if is_unquoted { &unquoted } else { line };
    Ok(spans.iter().map(|span| bytes[span.range()].to_vec()).collect())
}

fn split_plain(line: &[u8], spans: &mut Vec<Span>) {
    let mut rest = skip_blanks(line);
    while !rest.is_empty() {
        let len = rest.iter().position(|byte| ends_argument(*byte)).unwrap_or(rest.len());
        spans.push(Span::new(line.len() - rest.len(), len));
        rest = skip_blanks(&rest[len..]);
    }
}

/// Appends the first argument of `text` to `out`; gives the number of bytes it took.
fn unquote(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at) {
            Some(b'"') => return unquote_double(text, at + 1, out),
            Some(b'\'') => return unquote_single(text, at + 1, out),
            Some(byte) if !ends_argument(*byte) => out.push(*byte),
            _ => return Some(at),
        }
        at += 1;
    }
}

/// Appends what stands between double quotes, of which the first is before `at`; gives the number of
/// bytes up to the second, included.
fn unquote_double(text: &[u8], mut at: usize, out: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *text.get(at..)? {
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                out.push(hex_digit(high) << 4 | hex_digit(low));
                at += 4;
            }
            [b'\\', escaped, ..] => {
                out.push(unescape(escaped));
                at += 2;
            }
            [b'"', ref rest @ ..] => return closes_argument(rest).then_some(at + 1),
            [byte, ..] => {
                out.push(byte);
                at += 1;
            }
            [] => return None,
        }
    }
}

/// The same between single quotes.
fn unquote_single(text: &[u8], mut at: usize, out: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *text.get(at..)? {
            [b'\\', b'\'', ..] => {
                out.push(b'\'');
                at += 2;
            }
            [b'\'', ref rest @ ..] => return closes_argument(rest).then_some(at + 1),
            [byte, ..] => {
                out.push(byte);
                at += 1;
            }
            [] => return None,
        }
    }
}

/// Whether what follows a closing quote allows it to end the argument.
fn closes_argument(rest: &[u8]) -> bool {
    rest.first().is_none_or(|byte| is_blank(*byte))
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        _ => (byte | 0x20) - b'a' + 10,
    }
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    let blanks = text.iter().take_while(|byte| is_blank(**byte)).count();
    &text[blanks..]
}

/// What C's `isspace` takes for a blank. Vertical tab and form feed are skipped between arguments,
/// yet do not end one: so it is in Redis.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn ends_argument(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splits(line: &str, expected: &[&[u8]]) {
        assert_eq!(split_arguments(line.as_bytes()).unwrap(), expected, "{line}");
    }

    #[test]
    fn blanks_part_arguments() {
        splits("SET key value", &[b"SET", b"key", b"value"]);
        splits("  \t GET   k\r ", &[b"GET", b"k"]);
        splits("", &[]);
        splits(" \x0b\x0c ", &[]);
    }

    #[test]
    fn vertical_tab_and_form_feed_do_not_end_an_argument() {
        splits("a\x0bb \x0cc", &[b"a\x0bb", b"c"]);
        splits("a\x0bb '' \x0cc", &[b"a\x0bb", b"", b"c"]);
    }

    #[test]
    fn double_quotes_take_escapes() {
        splits(r#"SET k "a b\n\r\t\b\a\"\\\q""#, &[b"SET", b"k", b"a b\n\r\t\x08\x07\"\\q"]);
        splits(r#""\x00\xfF\xg1\x1""#, &[b"\x00\xffxg1x1"]);
        splits(r#""it's""#, &[b"it's"]);
    }

    #[test]
    fn single_quotes_take_only_their_own_escape() {
        splits(r"'a\'b\n\x41'", &[br"a'b\n\x41"]);
        splits(r#"'"'"#, &[b"\""]);
    }

    #[test]
    fn quotes_may_open_within_an_argument_and_be_empty() {
        splits(r#"ab"c d" '' x"#, &[b"abc d", b"", b"x"]);
    }

    #[test]
    fn backslashes_outside_of_quotes_are_plain() {
        splits(r"a\ b\n", &[b"a\\", b"b\\n"]);
        splits(r"a\n ''", &[b"a\\n", b""]);
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in ["\"", "'", "\"ab", "'ab", "\"ab\"c", "'ab'c", "\"ab\\\"", "'ab\\'", "\"a\\"] {
            assert_eq!(
                split_arguments(line.as_bytes()),
                Err(ProtocolError::UnbalancedQuotes),
                "{line}"
            );
        }
    }
}
