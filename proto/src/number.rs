//! Integers as Redis reads and writes them.
//!
//! An integer is accepted only in the one form in which it would be written: no blanks, no plus, no
//! leading zeros, no `-0`. So a value that parses can be stored as a number and read back as the
//! same bytes.

/// Digits of the largest power of ten that is within the range of `i64` whatever its digits are.
const SAFE_DIGITS: usize = 18;

/// Parses an `i64` in its one decimal form.
#[inline]
#[must_use]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (digits, is_negative) = match text {
        [b'-', digits @ ..] => (digits, true),
        digits => (digits, false),
    };
    let magnitude = parse_digits(digits)?;
    if is_negative {
        // Zero has no negative form.
        (magnitude != 0).then_some(0)?;
        0_i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    }
}

/// Parses a `u64` in its one decimal form.
#[inline]
#[must_use]
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    parse_digits(text)
}

/// Appends the decimal form of `value`.
#[inline]
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(value).as_bytes());
}

/// Number of bytes of the decimal form of `value`, its sign included.
#[must_use]
pub fn i64_len(value: i64) -> usize {
    let digits = value.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
    digits + usize::from(value < 0)
}

#[inline]
fn parse_digits(digits: &[u8]) -> Option<u64> {
    match digits {
        [b'0'] => return Some(0),
        [] | [b'0', ..] => return None,
        _ => {}
    }
    if digits.len() > SAFE_DIGITS {
        return parse_many_digits(digits);
    }
    digits.iter().try_fold(0, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then(|| number * 10 + u64::from(digit))
    })
}

#[cold]
fn parse_many_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit < 10).then_some(())?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition itself: what is written as it was read.
    fn naive(text: &[u8]) -> Option<i64> {
        let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
        (number.to_string().as_bytes() == text).then_some(number)
    }

    #[test]
    fn only_the_one_form_is_an_integer() {
        for text in ["", "-", "+1", " 1", "1 ", "01", "-0", "00", "-01", "1.0", "0x1", "1e3", "--1"]
        {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
        for number in [0, 1, -1, 9, 10, 42, i64::MAX, i64::MIN, 999_999_999_999_999_999] {
            assert_eq!(parse_i64(number.to_string().as_bytes()), Some(number));
        }
    }

    #[test]
    fn integers_out_of_range_are_refused() {
        for text in ["9223372036854775808", "-9223372036854775809", "18446744073709551616", "1e19"]
        {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_i64(&[b'9'; 100]), None);
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(b"-1"), None);
    }

    proptest! {
        #[test]
        fn parsing_matches_the_definition(text in "-?[0-9]{0,20}[ -z]?") {
            prop_assert_eq!(parse_i64(text.as_bytes()), naive(text.as_bytes()));
        }

        #[test]
        fn what_is_written_is_read_back(signed: i64, unsigned: u64) {
            let mut out = Vec::new();
            write_i64(&mut out, signed);
            prop_assert_eq!(parse_i64(&out), Some(signed));
            prop_assert_eq!(i64_len(signed), out.len());
            prop_assert_eq!(parse_u64(unsigned.to_string().as_bytes()), Some(unsigned));
        }
    }
}
