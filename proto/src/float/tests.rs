//! Tests of reading and writing doubles.

use proptest::prelude::*;

use super::*;

fn text(value: f64) -> String {
    String::from_utf8_lossy(F64Text::new(value).as_bytes()).into_owned()
}

#[test]
fn decimal_forms_are_read_as_by_strtod() {
    for (form, value) in [
        ("0", 0.0),
        ("-0", -0.0),
        ("+1", 1.0),
        ("01", 1.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5e1", -5.0),
        ("1e5", 1e5),
        ("1E+5", 1e5),
        ("3.0e-3", 0.003),
        ("0e999999", 0.0),
        ("5e-324", 5e-324),
        ("1.7976931348623157e308", f64::MAX),
    ] {
        assert_eq!(parse_f64(form.as_bytes()).map(f64::to_bits), Some(value.to_bits()), "{form}");
    }
}

#[test]
fn infinity_has_many_names_and_nan_has_none() {
    for form in ["inf", "+inf", "Infinity", "INF", "+iNfInItY"] {
        assert_eq!(parse_f64(form.as_bytes()), Some(f64::INFINITY), "{form}");
    }
    assert_eq!(parse_f64(b"-inf"), Some(f64::NEG_INFINITY));
    for form in ["nan", "-nan", "NaN", "nan(1)", "infi", "infinit", "in", "i"] {
        assert_eq!(parse_f64(form.as_bytes()), None, "{form}");
    }
}

#[test]
fn what_is_not_wholly_a_number_is_refused() {
    for form in [
        "", " ", " 1", "1 ", "1\n", "\t1", "1a", "a", "e5", "1e", "1e+", ".", "+", "-", "--1",
        "+-1", "1..2", "1.2.3", "0x", "0x.", "0xg", "0x1p", "0x1p+", "0x1.2.3", "x1", "1_000",
        "1,5", "0x1 ", "0x-1", "1e5.0", "- 1",
    ] {
        assert_eq!(parse_f64(form.as_bytes()), None, "{form:?}");
    }
    assert_eq!(parse_f64(b"1\xff"), None);
}

#[test]
fn numbers_out_of_range_are_refused() {
    for form in [
        "1e309",
        "-1e309",
        "1.8e308",
        "1e-400",
        "-1e-400",
        "2e-324",
        "1e99999999999999999999",
        "0x1p1024",
        "0x1p-1075",
        "0x0.8p-1075",
        "0x1p99999999999999999999",
        "0x1p-99999999999999999999",
        "0xfffffffffffff8p972",
    ] {
        assert_eq!(parse_f64(form.as_bytes()), None, "{form}");
    }
}

#[test]
fn hexadecimal_forms_are_rounded_to_nearest_even() {
    for (form, value) in [
        ("0x0", 0.0),
        ("-0X0", -0.0),
        ("0x10", 16.0),
        ("0x1.8", 1.5),
        ("0x.8p1", 1.0),
        ("-0xA.p-1", -5.0),
        ("0x1p-1074", 5e-324),
        ("0x1.8p-1074", 1e-323),
        ("0x1.8p-1075", 5e-324),
        ("0x1.fffffffffffffp1023", f64::MAX),
        ("0x1.fffffffffffff7fp1023", f64::MAX),
        ("0x20000000000001", 9_007_199_254_740_992.0),
        ("0x20000000000003", 9_007_199_254_740_996.0),
        ("0x200000000000010000000000001p-52", 9_007_199_254_740_994.0),
        ("0x0.0000000000000000000000001p100", 1.0),
    ] {
        assert_eq!(parse_f64(form.as_bytes()).map(f64::to_bits), Some(value.to_bits()), "{form}");
    }
}

#[test]
fn whole_numbers_are_written_as_integers() {
    for (value, expected) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (3.0, "3"),
        (-17.0, "-17"),
        (4_503_599_627_370_496.0, "4503599627370496"),
        (9_007_199_254_740_992.0, "9007199254740992"),
        (4_611_686_018_427_387_904.0, "4611686018427387904"),
    ] {
        assert_eq!(text(value), expected);
    }
}

#[test]
fn other_numbers_are_laid_out_as_valkey_does() {
    for (value, expected) in [
        (0.1, "0.1"),
        (-1.5, "-1.5"),
        (2.71, "2.71"),
        (0.001, "0.001"),
        (0.001_234_567_890_123_456_7, "0.0012345678901234567"),
        (0.000_123_456_789_012_345_67, "1.2345678901234567e-4"),
        (0.000_012_345_678_901_234_567, "1.2345678901234568e-5"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1.5e-7, "1.5e-7"),
        (1e-10, "1e-10"),
        (1e22, "1e+22"),
        (1.2345e20, "1.2345e+20"),
        (18_446_744_073_709_551_616.0, "18446744073709552000"),
        (1e300, "1e+300"),
        (f64::MAX, "1.7976931348623157e+308"),
        (-f64::MAX, "-1.7976931348623157e+308"),
        (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
        (5e-324, "5e-324"),
        (f64::INFINITY, "inf"),
        (f64::NEG_INFINITY, "-inf"),
        (f64::NAN, "nan"),
        (-f64::NAN, "nan"),
    ] {
        assert_eq!(text(value), expected);
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(bits: u64) {
        let value = f64::from_bits(bits);
        prop_assume!(!value.is_nan());
        let written = F64Text::new(value);
        prop_assert_eq!(parse_f64(written.as_bytes()).map(f64::to_bits), Some(bits));
        prop_assert!(written.as_bytes().len() <= 25);
    }

    #[test]
    fn short_decimals_are_read_back(whole in -1_000_000..1_000_000_i32, cents in 0..100_i32) {
        let value = f64::from(whole) + f64::from(cents) / 100.0;
        prop_assert_eq!(parse_f64(text(value).as_bytes()), Some(value));
    }

    /// Doubles of every size, also subnormal, written with all their bits in hexadecimal.
    #[test]
    fn exact_hexadecimals_are_read_exactly(bits in 0..0x7ff0_0000_0000_0000_u64) {
        let (fraction, exponent) = (bits & ((1 << 52) - 1), bits >> 52);
        let (lead, power) = if exponent == 0 { (0, -1022) } else { (1, exponent as i64 - 1023) };
        let form = format!("0x{lead}.{fraction:013x}p{power}");
        prop_assert_eq!(parse_f64(form.as_bytes()).map(f64::to_bits), Some(bits));
    }

    #[test]
    fn anything_else_agrees_with_the_standard_library(form in "[-+0-9.eExXpPinfnaty ]{0,8}") {
        let known = form.parse::<f64>().ok().filter(|value| value.is_finite() && *value != 0.0);
        let ours = parse_f64(form.as_bytes());
        if let Some(known) = known {
            prop_assert_eq!(ours, Some(known));
        } else if let Some(ours) = ours {
            let is_known_form = form.contains(['x', 'X']) || ours == 0.0 || ours.is_infinite();
            prop_assert!(is_known_form, "{} as {}", form, ours);
        }
    }
}
