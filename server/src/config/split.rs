//! Splitting a configuration line into arguments, and quoting one argument back.
//!
//! The rules are those of inline commands (`tessera_proto::split_arguments`), as in Redis.
//!
//! Invariant: `split_line(quote(x))` gives back exactly `x`, whatever its bytes.

/// A quote that is not closed, or that is followed by neither a blank nor the end of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Unbalanced quotes in configuration line")]
pub struct UnbalancedQuotes;

/// Splits `line` into its arguments, with quotes and escapes resolved.
pub fn split_line(line: &[u8]) -> Result<Vec<Vec<u8>>, UnbalancedQuotes> {
    tessera_proto::split_arguments(line).map_err(|_| UnbalancedQuotes)
}

/// Appends `argument` in double quotes to `line`, with everything that is not printable escaped.
pub fn quote(line: &mut Vec<u8>, argument: &[u8]) {
    line.push(b'"');
    for &byte in argument {
        match byte {
            b'\\' | b'"' => line.extend([b'\\', byte]),
            b'\n' => line.extend(b"\\n"),
            b'\r' => line.extend(b"\\r"),
            b'\t' => line.extend(b"\\t"),
            0x07 => line.extend(b"\\a"),
            0x08 => line.extend(b"\\b"),
            0x20..=0x7e => line.push(byte),
            _ => line.extend(format!("\\x{byte:02x}").into_bytes()),
        }
    }
    line.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn open_quotes_and_glued_words_are_refused() {
        for line in ["\"abc", "'abc", "\"a\"b", "'a'b"] {
            assert_eq!(split_line(line.as_bytes()), Err(UnbalancedQuotes), "{line}");
        }
    }

    #[test]
    fn what_is_not_printable_is_escaped() {
        let mut line = Vec::new();
        quote(&mut line, b"a\"\\\n\x00\xff");
        assert_eq!(line, br#""a\"\\\n\x00\xff""#);
    }

    proptest! {
        #[test]
        fn quoting_is_undone_by_splitting(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..6)) {
            let mut line = Vec::new();
            for word in &words {
                quote(&mut line, word);
                line.push(b' ');
            }
            prop_assert_eq!(split_line(&line).unwrap(), words);
        }
    }
}
