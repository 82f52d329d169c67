//! Doubles as Redis reads them and as Valkey 8 writes them.
//!
//! Reading follows C's `strtod` as Redis calls it: decimal and hexadecimal forms, `inf` and
//! `infinity` in any case; nothing before or behind; no NaN; no number too large or too small for a
//! double.
//!
//! Writing takes the fewest digits that read back as the same double, which Ryū finds, and lays them
//! out as Valkey 8 does (its `d2string` and `fpconv`): whole numbers up to 2^62 without a point, other
//! ones plainly while that stays short, else with an exponent. Valkey finds the digits by Grisu2,
//! which in about three cases of a thousand ends in another last digit or has one more; both read
//! back as the same double.

/// Most bytes of the text of a double.
pub const F64_MAX_BYTES: usize = 32;
/// Doubles of smaller or equal magnitude are written as integers when they are whole.
const WHOLE_MAX: f64 = 4_611_686_018_427_387_904.0;
/// Whole numbers of so many digits are doubles exactly: they are below 2^53.
const EXACT_DIGITS_MAX: usize = 15;
/// Digits of a double's shortest text, at most.
const DIGITS_MAX: usize = 17;

/// Parses a double as Redis does.
#[must_use]
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    if let Some(whole) = parse_whole(text) {
        return Some(whole);
    }
    let (unsigned, is_negative) = split_sign(text);
    if let [b'0', b'x' | b'X', digits @ ..] = unsigned {
        let value = parse_hexadecimal(digits)?;
        return Some(if is_negative { -value } else { value });
    }
    // From here on Rust's syntax is C's, but for NaN and ranges.
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let names_infinity = matches!(unsigned.first(), Some(b'i' | b'I'));
    let overflowed = value.is_infinite() && !names_infinity;
    let underflowed = value == 0.0 && has_nonzero_digit(unsigned);
    (!value.is_nan() && !overflowed && !underflowed).then_some(value)
}

/// A number of digits alone, few enough that it is exact: what nearly all scores are.
#[inline]
fn parse_whole(text: &[u8]) -> Option<f64> {
    if text.is_empty() || text.len() > EXACT_DIGITS_MAX {
        return None;
    }
    let mut whole = 0_u64;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        whole = whole * 10 + u64::from(digit);
    }
    Some(whole as f64)
}

fn split_sign(text: &[u8]) -> (&[u8], bool) {
    match text {
        [b'-', rest @ ..] => (rest, true),
        [b'+', rest @ ..] => (rest, false),
        rest => (rest, false),
    }
}

/// Whether a digit before the exponent is not zero.
fn has_nonzero_digit(text: &[u8]) -> bool {
    text.iter()
        .take_while(|byte| !matches!(byte, b'e' | b'E'))
        .any(|byte| matches!(byte, b'1'..=b'9'))
}

/// Parses what follows `0x`: digits with or without a point, and a binary exponent or none.
fn parse_hexadecimal(text: &[u8]) -> Option<f64> {
    let mut number = Hexadecimal::default();
    let mut is_fraction = false;
    let mut rest = text;
    while let [byte, behind @ ..] = rest {
        match (*byte as char).to_digit(16) {
            Some(digit) => number.push(digit, is_fraction),
            None if *byte == b'.' && !is_fraction => is_fraction = true,
            None => break,
        }
        rest = behind;
    }
    if !number.has_digits {
        return None;
    }
    match rest {
        [] => {}
        [b'p' | b'P', exponent @ ..] => {
            number.exponent = number.exponent.saturating_add(parse_exponent(exponent)?);
        }
        _ => return None,
    }
    number.value()
}

/// A binary exponent; one that no number of digits can make up for is cut to a huge one.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (digits, is_negative) = split_sign(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude = digits
        .iter()
        .fold(0_i64, |number, byte| (number * 10 + i64::from(byte - b'0')).min(i64::MAX / 16));
    Some(if is_negative { -magnitude } else { magnitude })
}

/// A hexadecimal number: `mantissa` times two to the `exponent`.
#[derive(Default)]
struct Hexadecimal {
    /// The leading bits; its lowest bit also stands for all bits that were cut off.
    mantissa: u64,
    exponent: i64,
    has_digits: bool,
}

impl Hexadecimal {
    fn push(&mut self, digit: u32, is_fraction: bool) {
        self.has_digits = true;
        if self.mantissa >> 60 == 0 {
            self.mantissa = self.mantissa << 4 | u64::from(digit);
            self.exponent -= 4 * i64::from(is_fraction);
        } else {
            self.mantissa |= u64::from(digit != 0);
            self.exponent += 4 * i64::from(!is_fraction);
        }
    }

    /// The double nearest to the number, unless that is infinity, or zero for another number.
    fn value(&self) -> Option<f64> {
        if self.mantissa == 0 {
            return Some(0.0);
        }
        // The unit of the last place is 2^-1074 at the least, and 53 bits at the most are kept.
        let bits = i64::from(64 - self.mantissa.leading_zeros());
        let unit = self.exponent.saturating_add(bits - 53).max(-1074);
        let shift = unit - self.exponent;
        let rounded = if shift > 0 { shift_rounding(self.mantissa, shift) } else { self.mantissa };
        let exponent = if shift > 0 { unit } else { self.exponent };
        let value = scale(rounded, exponent);
        (value != 0.0 && value.is_finite()).then_some(value)
    }
}

/// `number` without its last `shift` bits, rounded to nearest, halves to even.
fn shift_rounding(number: u64, shift: i64) -> u64 {
    if shift > 64 {
        return 0;
    }
    let wide = u128::from(number);
    let (whole, cut) = ((wide >> shift) as u64, wide & ((1 << shift) - 1));
    let half = 1 << (shift - 1);
    whole + u64::from(cut > half || cut == half && whole & 1 == 1)
}

/// `number` times two to the `exponent`, of which the result is exact or infinite.
#[expect(clippy::cast_precision_loss, reason = "the number has 53 bits at most")]
fn scale(number: u64, exponent: i64) -> f64 {
    let mut value = number as f64;
    let mut left = exponent.clamp(-2200, 2200);
    while left != 0 {
        // Powers of two from 2^-1022 on are exact, and so is each product but the last.
        let step = left.clamp(-1022, 1023);
        value *= f64::from_bits(u64::try_from(step + 1023).unwrap_or(0) << 52);
        left -= step;
    }
    value
}

/// The text of a double, on the stack.
#[derive(Debug, Clone, Copy)]
pub struct F64Text {
    bytes: [u8; F64_MAX_BYTES],
    len: usize,
}

impl F64Text {
    /// The text of `value`: `inf`, `-inf` and `nan` for what is no number.
    #[must_use]
    pub fn new(value: f64) -> Self {
        let mut text = Self { bytes: [0; F64_MAX_BYTES], len: 0 };
        text.format(value);
        text
    }

    /// The bytes of the text, which are ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn format(&mut self, value: f64) {
        if value.is_nan() {
            return self.push(b"nan");
        }
        if value.is_sign_negative() {
            self.push(b"-");
        }
        let magnitude = value.abs();
        if magnitude.is_infinite() {
            self.push(b"inf");
        } else if magnitude <= WHOLE_MAX && magnitude.fract() == 0.0 {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
            self.push(itoa::Buffer::new().format(magnitude as u64).as_bytes());
        } else {
            let (digits, len, exponent) = shortest_digits(magnitude);
            self.lay_out(&digits[..len], exponent);
        }
    }

    /// Writes `digits` times ten to the `exponent` in the form that Valkey chooses.
    fn lay_out(&mut self, digits: &[u8], exponent: i32) {
        let count = i32::try_from(digits.len()).unwrap_or(0);
        let scientific = exponent + count - 1;
        if exponent >= 0 && scientific < count + 7 {
            self.push(digits);
            self.push_zeros(exponent);
        } else if exponent < 0 && (exponent > -7 || scientific.abs() < 4) {
            let whole = usize::try_from(count + exponent).unwrap_or(0);
            self.push(if whole == 0 { b"0" } else { &digits[..whole] });
            self.push(b".");
            self.push_zeros(-(count + exponent));
            self.push(&digits[whole..]);
        } else {
            self.push(&digits[..1]);
            if count > 1 {
                self.push(b".");
                self.push(&digits[1..]);
            }
            self.push(if scientific < 0 { b"e-" } else { b"e+" });
            self.push(itoa::Buffer::new().format(scientific.unsigned_abs()).as_bytes());
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn push_zeros(&mut self, count: i32) {
        for _ in 0..count {
            self.push(b"0");
        }
    }
}

/// The fewest digits that make up `value`, how many they are, and the power of ten to be multiplied
/// by. `value` is finite and above zero.
fn shortest_digits(value: f64) -> ([u8; DIGITS_MAX], usize, i32) {
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let mut exponent: i32 = exponent.parse().unwrap_or(0);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    exponent -= i32::try_from(fraction.len()).unwrap_or(0);
    let mut digits = [0; DIGITS_MAX];
    let mut len = 0;
    let mut zeros = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        // Zeros count only between other digits.
        if byte == b'0' {
            zeros += usize::from(len > 0);
            continue;
        }
        digits[len..len + zeros].fill(b'0');
        len += zeros;
        digits[len] = byte;
        len += 1;
        zeros = 0;
    }
    (digits, len, exponent + i32::try_from(zeros).unwrap_or(0))
}

#[cfg(test)]
mod tests;
