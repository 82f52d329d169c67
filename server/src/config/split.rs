//! Splitting a configuration line into arguments, and quoting one argument back.
//!
//! The rules are those of Redis's configuration files and of its inline commands: blanks separate
//! arguments; double quotes admit `\n \r \t \b \a \xHH` and a backslash before any other byte;
//! single quotes admit only `\'`; a closing quote ends its argument, so a blank or the line's end
//! must follow it.
//!
//! Invariant: `split_line(quote(x))` gives back exactly `x`, whatever its bytes.

/// A quote that is not closed, or that is followed by neither a blank nor the end of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Unbalanced quotes in configuration line")]
pub struct UnbalancedQuotes;

/// Splits `line` into its arguments, with quotes and escapes resolved.
pub fn split_line(line: &[u8]) -> Result<Vec<Vec<u8>>, UnbalancedQuotes> {
    let mut rest = line;
    let mut arguments = Vec::new();
    loop {
        rest = skip_blanks(rest);
        if rest.is_empty() || rest[0] == 0 {
            return Ok(arguments);
        }
        arguments.push(take_argument(&mut rest)?);
    }
}

/// Reads one argument from the front of `rest`, which starts with a byte that is not blank.
fn take_argument(rest: &mut &[u8]) -> Result<Vec<u8>, UnbalancedQuotes> {
    let mut argument = Vec::new();
    loop {
        match **rest {
            [] | [b' ' | b'\n' | b'\r' | b'\t' | 0, ..] => return Ok(argument),
            [b'"', ..] => {
                *rest = &rest[1..];
                take_double_quoted(rest, &mut argument)?;
                return Ok(argument);
            }
            [b'\'', ..] => {
                *rest = &rest[1..];
                take_single_quoted(rest, &mut argument)?;
                return Ok(argument);
            }
            [byte, ..] => {
                argument.push(byte);
                *rest = &rest[1..];
            }
        }
    }
}

fn take_double_quoted(rest: &mut &[u8], argument: &mut Vec<u8>) -> Result<(), UnbalancedQuotes> {
    loop {
        let (byte, width) = match **rest {
            [] => return Err(UnbalancedQuotes),
            [b'"', ..] => return close_quote(rest),
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex_digit(high) * 16 + hex_digit(low), 4)
            }
            [b'\\', escaped, ..] => (unescape(escaped), 2),
            [byte, ..] => (byte, 1),
        };
        argument.push(byte);
        *rest = &rest[width..];
    }
}

fn take_single_quoted(rest: &mut &[u8], argument: &mut Vec<u8>) -> Result<(), UnbalancedQuotes> {
    loop {
        let (byte, width) = match **rest {
            [] => return Err(UnbalancedQuotes),
            [b'\'', ..] => return close_quote(rest),
            [b'\\', b'\'', ..] => (b'\'', 2),
            [byte, ..] => (byte, 1),
        };
        argument.push(byte);
        *rest = &rest[width..];
    }
}

/// Steps over a closing quote, which must end its argument.
fn close_quote(rest: &mut &[u8]) -> Result<(), UnbalancedQuotes> {
    *rest = &rest[1..];
    match rest.first() {
        Some(&byte) if byte != 0 && !is_blank(byte) => Err(UnbalancedQuotes),
        _ => Ok(()),
    }
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

fn skip_blanks(line: &[u8]) -> &[u8] {
    let blanks = line.iter().take_while(|&&byte| is_blank(byte)).count();
    &line[blanks..]
}

/// C's `isspace`, which counts the vertical tab too.
fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
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

/// The value of a byte that the caller has found to be a hexadecimal digit.
fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        _ => byte - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(line: &str) -> Result<Vec<String>, UnbalancedQuotes> {
        let arguments = split_line(line.as_bytes())?;
        Ok(arguments.into_iter().map(|a| String::from_utf8_lossy(&a).into_owned()).collect())
    }

    #[test]
    fn blanks_separate_arguments() {
        assert_eq!(split("  save\t900   1 ").unwrap(), ["save", "900", "1"]);
        assert_eq!(split("").unwrap(), Vec::<String>::new());
        assert_eq!(split(" \t ").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn double_quotes_resolve_escapes() {
        assert_eq!(split(r#"a "b c" "\x41\n\"" """#).unwrap(), ["a", "b c", "A\n\"", ""]);
        assert_eq!(split(r#""\xZZ""#).unwrap(), ["xZZ"]);
    }

    #[test]
    fn single_quotes_keep_backslashes() {
        assert_eq!(split(r"'a\n' 'it\'s'").unwrap(), [r"a\n", "it's"]);
    }

    #[test]
    fn a_quote_inside_a_word_joins_it() {
        assert_eq!(split(r#"ab"c d""#).unwrap(), ["abc d"]);
    }

    #[test]
    fn open_quotes_and_glued_words_are_refused() {
        for line in ["\"abc", "'abc", "\"a\"b", "'a'b", "\"a\\"] {
            assert_eq!(split(line), Err(UnbalancedQuotes), "{line}");
        }
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

        #[test]
        fn no_bytes_make_splitting_panic(line in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = split_line(&line);
        }
    }
}
