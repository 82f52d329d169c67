//! The arithmetic of INCRBYFLOAT: x87 extended precision, as Redis has it on x86-64.
//!
//! Redis reads with `strtold`, adds in 80-bit `long double` and prints with `%.17Lf`, trailing zeros
//! cut off. Clients see every digit of that (0.1 + 0.2 is 0.3 there, and not in 64-bit arithmetic),
//! so the same is done here: parsing and rounding by `rustc_apfloat`, printing exactly by integers.
#![forbid(unsafe_code)]

use rustc_apfloat::{Float, Round, Status, ieee::X87DoubleExtended};

/// The longest text that Redis tries to read as a number, in bytes.
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;
/// Digits behind the point that are printed.
const FRACTION_DIGITS: u32 = 17;
/// Bits of the significand behind its leading one.
const FRACTION_BITS: i32 = 63;
const EXPONENT_BIAS: i32 = 16_383;

/// A floating point number with 64 bits of significand.
#[derive(Clone, Copy, Debug)]
pub(in crate::command) struct LongDouble(X87DoubleExtended);

impl LongDouble {
    /// The integer, exactly.
    pub(in crate::command) fn from_i64(number: i64) -> Self {
        Self(X87DoubleExtended::from_i128(i128::from(number)).value)
    }

    /// The number that `text` is, from end to end: decimal or hexadecimal, with or without exponent,
    /// or an infinity. Nothing for NaN, and where the exponent is beyond the format.
    pub(in crate::command) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= TEXT_BYTES_MAX)?;
        let (magnitude, negative) = match text.as_bytes().first()? {
            b'-' => (&text[1..], true),
            b'+' => (&text[1..], false),
            _ => (text, false),
        };
        let value = parse_magnitude(magnitude)?;
        Some(Self(if negative { -value } else { value }))
    }

    /// The sum, rounded to the nearest, or nothing if that is no number.
    pub(in crate::command) fn plus(self, other: Self) -> Option<Self> {
        let sum = self.0.add_r(other.0, Round::NearestTiesToEven).value;
        sum.is_finite().then_some(Self(sum))
    }

    /// The decimal form, rounded to 17 digits behind the point, without trailing zeros there.
    pub(in crate::command) fn to_text(self) -> String {
        let bits = self.0.to_bits();
        let significand = bits as u64;
        let biased = ((bits >> 64) & 0x7FFF) as i32;
        let negative = bits >> 79 & 1 == 1;
        // Subnormal numbers have the exponent of the smallest normal one.
        let exponent = biased.max(1) - EXPONENT_BIAS - FRACTION_BITS;
        let magnitude = match u32::try_from(exponent) {
            Ok(shift) => shifted_integer(significand, shift),
            Err(_) => rounded_fraction(significand, exponent.unsigned_abs()),
        };
        // Also what is rounded to zero has no sign.
        if negative && magnitude != "0" { format!("-{magnitude}") } else { magnitude }
    }
}

fn parse_magnitude(text: &str) -> Option<X87DoubleExtended> {
    if text.eq_ignore_ascii_case("inf") || text.eq_ignore_ascii_case("infinity") {
        return Some(X87DoubleExtended::INFINITY);
    }
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let parsed = match hexadecimal {
        Some(digits) => {
            let has_exponent = check_number(digits, u8::is_ascii_hexdigit, b'p')?;
            // The library insists on an exponent.
            let exponent = if has_exponent { "" } else { "p0" };
            let text = format!("0x{digits}{exponent}");
            X87DoubleExtended::from_str_r(&text, Round::NearestTiesToEven).ok()?
        }
        None => {
            check_number(text, u8::is_ascii_digit, b'e')?;
            X87DoubleExtended::from_str_r(text, Round::NearestTiesToEven).ok()?
        }
    };
    // Too large, or so small that nothing is left of it: `strtold` reports ERANGE for both.
    let lost = parsed.status.contains(Status::INEXACT) && parsed.value.is_zero();
    (parsed.value.is_finite() && !lost).then_some(parsed.value)
}

/// Whether `text` is digits with at most one point among them and perhaps a decimal exponent behind
/// the letter `mark`; answers whether it has that exponent, or nothing for other texts.
fn check_number(text: &str, is_digit: fn(&u8) -> bool, mark: u8) -> Option<bool> {
    let bytes = text.as_bytes();
    let is_part = |byte: &&u8| is_digit(byte) || **byte == b'.';
    let len = bytes.iter().take_while(is_part).count();
    let (significand, rest) = bytes.split_at(len);
    let points = significand.iter().filter(|&&byte| byte == b'.').count();
    if points > 1 || points == significand.len() {
        return None;
    }
    let [letter, exponent @ ..] = rest else { return Some(false) };
    let digits = match exponent {
        [b'+' | b'-', digits @ ..] => digits,
        digits => digits,
    };
    let is_exponent = letter.eq_ignore_ascii_case(&mark)
        && !digits.is_empty()
        && digits.iter().all(u8::is_ascii_digit);
    is_exponent.then_some(true)
}

/// Decimal digits of `significand` × 2^`shift`.
fn shifted_integer(significand: u64, shift: u32) -> String {
    const LIMB: u128 = 1_000_000_000_000_000_000;
    const STEP: u32 = 32;
    // Limbs of 18 decimal digits, the least first.
    let mut limbs = vec![significand];
    let mut left = shift;
    while left > 0 {
        let step = left.min(STEP);
        left -= step;
        let mut carry = 0_u128;
        for limb in &mut limbs {
            let product = (u128::from(*limb) << step) + carry;
            *limb = (product % LIMB) as u64;
            carry = product / LIMB;
        }
        while carry > 0 {
            limbs.push((carry % LIMB) as u64);
            carry /= LIMB;
        }
    }
    // Without a shift the one limb may be any u64, which prints as well.
    let mut digits = limbs.pop().unwrap_or_default().to_string();
    for limb in limbs.iter().rev() {
        digits.push_str(&format!("{limb:018}"));
    }
    digits
}

/// Decimal form of `significand` / 2^`shift`, rounded half to even at the last digit printed.
fn rounded_fraction(significand: u64, shift: u32) -> String {
    let unit = 10_u128.pow(FRACTION_DIGITS);
    // Below 2^121, so that a shift of 128 or more leaves less than a half.
    let scaled = u128::from(significand) * unit;
    let rounded = if shift >= u128::BITS {
        0
    } else {
        let floor = scaled >> shift;
        let rest = scaled & ((1 << shift) - 1);
        let half = 1_u128 << (shift - 1);
        floor + u128::from(rest > half || (rest == half && floor & 1 == 1))
    };
    let (whole, fraction) = (rounded / unit, rounded % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let text = format!("{whole}.{fraction:017}");
    text.trim_end_matches('0').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> Option<String> {
        let (a, b) = (LongDouble::parse(a.as_bytes())?, LongDouble::parse(b.as_bytes())?);
        a.plus(b).map(LongDouble::to_text)
    }

    #[test]
    fn sums_are_those_of_an_80_bit_long_double() {
        for (a, b, expected) in [
            ("0.1", "0.2", "0.3"),
            ("10.50", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-3", "0"),
            ("-0", "-0", "0"),
            ("1e-18", "0", "0"),
            ("-1e-18", "0", "0"),
            ("6e-18", "0", "0.00000000000000001"),
            ("9223372036854775807", "1", "9223372036854775808"),
            ("1e20", "1", "100000000000000000000"),
            ("0x1p3", "0xA.8", "18.5"),
            ("+1", ".5", "1.5"),
            ("1.", "0", "1"),
            ("3.14159265358979323846", "0", "3.14159265358979324"),
        ] {
            assert_eq!(sum(a, b).as_deref(), Some(expected), "{a} + {b}");
        }
    }

    #[test]
    fn the_largest_numbers_are_printed_in_full() {
        let largest = sum("1.18973149535723176502e+4932", "0").expect("the largest finite number");
        assert_eq!(largest.len(), 4933);
        assert!(largest.starts_with("118973149535723176502"));
        assert_eq!(sum("0x1p100", "0").as_deref(), Some("1267650600228229401496703205376"));
        assert_eq!(sum("1.18973149535723176502e+4932", "1.18973149535723176502e+4932"), None);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "", "-", "+", ".", "e5", "1e", "1e+", "1x", " 1", "1 ", "nan", "-nan", "0x", "0x.",
            "0xp1", "1e5000", "-1e5000", "1e-5000", "1.2.3", "--1", "1_000", "0x1p", "infin", "१",
        ] {
            assert!(LongDouble::parse(text.as_bytes()).is_none(), "{text:?}");
        }
        assert!(LongDouble::parse(&[b'1'; 5120]).is_none());
        assert!(LongDouble::parse(b"\xff").is_none());
    }

    #[test]
    fn infinities_are_read_and_their_sums_refused() {
        for text in ["inf", "INF", "+infinity", "-Inf"] {
            let infinity = LongDouble::parse(text.as_bytes()).expect("an infinity");
            assert!(infinity.plus(LongDouble::from_i64(1)).is_none());
        }
    }

    #[test]
    fn integers_are_exact() {
        for number in [0, 1, -1, i64::MAX, i64::MIN] {
            assert_eq!(LongDouble::from_i64(number).to_text(), number.to_string());
        }
    }
}
