//! Transcripts: commands and the replies expected, one a line.
//!
//! ```text
//! SET "a key" 1          => +OK
//! LRANGE l 0 -1          => ["a" "b"]
//! INCR text              => -WRONGTYPE ...
//! ```
//!
//! Words are split at blanks; a word in double quotes may hold blanks and the escapes
//! `\r \n \t \0 \\ \" \xHH`. The expectation is what `Debug` of [`Reply`](super::Reply) writes;
//! ending in `...`, it is a beginning. Empty lines and lines from `#` on are left out.

use super::client::Client;

impl Client {
    /// Plays `text` and compares each reply.
    #[track_caller]
    pub(crate) fn transcript(&mut self, text: &str) {
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (command, expected) = line
                .split_once("=> ")
                .unwrap_or_else(|| panic!("a transcript line without an arrow: {line}"));
            let got = format!("{:?}", self.call(words(command)));
            let expected = expected.trim();
            match expected.strip_suffix("...") {
                Some(beginning) => {
                    assert!(got.starts_with(beginning), "{line}\ngot {got}");
                }
                None => assert!(got == expected, "{line}\ngot {got}"),
            }
        }
    }
}

/// Splits a line into its words.
pub(crate) fn words(line: &str) -> Vec<Vec<u8>> {
    let mut rest = line.trim_start().as_bytes();
    let mut words = Vec::new();
    while !rest.is_empty() {
        let word = if rest[0] == b'"' { quoted(&mut rest) } else { plain(&mut rest) };
        words.push(word);
        rest = rest.trim_ascii_start();
    }
    words
}

fn plain(rest: &mut &[u8]) -> Vec<u8> {
    let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    *rest = after;
    word.to_vec()
}

fn quoted(rest: &mut &[u8]) -> Vec<u8> {
    let mut bytes = rest[1..].iter().copied().enumerate();
    let mut word = Vec::new();
    while let Some((at, byte)) = bytes.next() {
        let mut next = || bytes.next().expect("an escape is complete").1;
        match byte {
            b'"' => {
                *rest = &rest[at + 2..];
                return word;
            }
            b'\\' => word.push(match next() {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'0' => 0,
                b'x' => 16 * hex(next()) + hex(next()),
                other => other,
            }),
            other => word.push(other),
        }
    }
    panic!("a quote is not closed: {}", rest.escape_ascii());
}

fn hex(digit: u8) -> u8 {
    let value = char::from(digit).to_digit(16).expect("a hexadecimal digit");
    u8::try_from(value).expect("a digit fits a byte")
}

#[test]
fn words_are_split_and_unescaped() {
    let expected: [&[u8]; 4] = [b"SET", b"a key", b"\r\n\x00\xff\"\\", b""];
    assert_eq!(words(r#"SET "a key" "\r\n\0\xff\"\\" "" "#), expected);
}
