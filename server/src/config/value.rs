//! What an option may hold, how its text is read and how it is shown.
//!
//! A `Kind` stands in each row of the option table; it turns the arguments of a configuration line
//! or of CONFIG SET into a `Value`, or into the error text that Redis gives for the same mistake.
//! Kinds know no option by name and no `Config`, so that options which are merely accepted are
//! checked by the same rules as those that are built.

use super::special::Special;

/// The parsed value of any option.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// yes or no.
    Bool(bool),
    /// Any number; wide enough for both signed and unsigned 64-bit options. A percentage is held
    /// as its negative, as Redis does.
    Number(i128),
    /// One of the names of a `Kind::Choice`.
    Choice(&'static str),
    /// One string, not necessarily UTF-8.
    Text(Vec<u8>),
    /// Several strings.
    Words(Vec<Vec<u8>>),
    /// Pairs of seconds and changes (`save`).
    Pairs(Vec<(u64, u64)>),
    /// Percentiles between 0 and 100.
    Floats(Vec<f64>),
    /// Output buffer limits: normal, replica, pubsub.
    Limits([BufferLimit; 3]),
}

/// The bounds of the output that may wait for one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferLimit {
    /// Bytes at which the client is disconnected at once; 0 is no bound.
    pub hard_bytes: u64,
    /// Bytes at which it is disconnected when they have stood for `soft_seconds`; 0 is no bound.
    pub soft_bytes: u64,
    /// Seconds that the soft bound may be exceeded.
    pub soft_seconds: u64,
}

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Decimal digits only.
    Plain,
    /// Bytes, with an optional unit: b, k, kb, m, mb, g, gb.
    Memory,
    /// Bytes as `Memory`, or a percentage such as `5%`.
    MemoryOrPercent,
    /// Octal digits (file permissions).
    Octal,
}

/// A check of a string beyond its form; the error is what the user reads.
pub(super) type TextCheck = fn(&[u8]) -> Result<(), &'static str>;

/// The form of an option's value.
#[derive(Clone, Copy)]
pub enum Kind {
    /// yes or no.
    Bool,
    /// A number within inclusive bounds.
    Number { min: i128, max: i128, unit: Unit },
    /// Exactly one of some names.
    Choice(&'static [&'static str]),
    /// Any number of names out of some (`shutdown-on-sigterm`).
    Flags(&'static [&'static str]),
    /// One string. With `unset_when_empty`, an empty one means that the option is not set, and a
    /// rewrite then drops its line.
    Text { unset_when_empty: bool, check: Option<TextCheck> },
    /// A form of its own.
    Special(&'static Special),
}

impl Kind {
    /// A plain number between `min` and `max`.
    pub const fn number(min: i128, max: i128) -> Kind {
        Kind::Number { min, max, unit: Unit::Plain }
    }

    /// A number of bytes between `min` and `max`.
    pub const fn memory(min: i128, max: i128) -> Kind {
        Kind::Number { min, max, unit: Unit::Memory }
    }

    /// A string that may be empty.
    pub const fn text() -> Kind {
        Kind::Text { unset_when_empty: false, check: None }
    }

    /// A string whose emptiness means that the option is not set.
    pub const fn optional_text() -> Kind {
        Kind::Text { unset_when_empty: true, check: None }
    }

    /// Reads the value that `arguments` give. `current` is what the option holds; some options
    /// change only the parts that are named.
    pub fn parse(&self, arguments: &[Vec<u8>], current: &Value) -> Result<Value, String> {
        if let Kind::Special(special) = self {
            return (special.parse)(arguments, current);
        }
        if let Kind::Flags(names) = self {
            return parse_flags(names, arguments);
        }
        let [text] = arguments else { return Err("wrong number of arguments".into()) };
        match *self {
            Kind::Bool => parse_bool(text).map(Value::Bool),
            Kind::Number { min, max, unit } => parse_number(text, min, max, unit),
            Kind::Choice(names) => parse_choice(names, text).map(Value::Choice),
            Kind::Text { check, .. } => parse_text(text, check),
            Kind::Flags(_) | Kind::Special(_) => Err("wrong number of arguments".into()),
        }
    }

    /// The value as CONFIG GET shows it.
    pub fn show(&self, value: &Value) -> Vec<u8> {
        match (self, value) {
            (Kind::Special(special), _) => (special.show)(value),
            (_, Value::Bool(flag)) => {
                if *flag {
                    b"yes".to_vec()
                } else {
                    b"no".to_vec()
                }
            }
            (Kind::Number { unit: Unit::MemoryOrPercent, .. }, Value::Number(n)) if *n < 0 => {
                format!("{}%", -n).into_bytes()
            }
            (Kind::Number { unit: Unit::Octal, .. }, Value::Number(n)) => {
                format!("{n:o}").into_bytes()
            }
            (_, Value::Number(n)) => n.to_string().into_bytes(),
            (_, Value::Choice(name)) => name.as_bytes().to_vec(),
            (_, Value::Text(text)) => text.clone(),
            (_, Value::Words(words)) => words.join(&b' '),
            (_, Value::Pairs(_) | Value::Floats(_) | Value::Limits(_)) => Vec::new(),
        }
    }
}

fn parse_bool(text: &[u8]) -> Result<bool, String> {
    if text.eq_ignore_ascii_case(b"yes") {
        Ok(true)
    } else if text.eq_ignore_ascii_case(b"no") {
        Ok(false)
    } else {
        Err("argument must be 'yes' or 'no'".into())
    }
}

fn parse_number(text: &[u8], min: i128, max: i128, unit: Unit) -> Result<Value, String> {
    let number = match unit {
        Unit::Plain => parse_decimal(text)
            .ok_or_else(|| "argument couldn't be parsed into an integer".to_owned())?,
        Unit::Memory => parse_memory(text)
            .map(i128::from)
            .ok_or_else(|| "argument must be a memory value".to_owned())?,
        Unit::MemoryOrPercent => match (parse_memory(text), parse_percent(text)) {
            (Some(bytes), _) => i128::from(bytes),
            (None, Some(percent)) => -percent,
            (None, None) => return Err("argument must be a memory or percent value".into()),
        },
        Unit::Octal => parse_octal(text)
            .ok_or_else(|| "argument couldn't be parsed as an octal number".to_owned())?,
    };
    check_bounds(number, min, max, unit)?;
    Ok(Value::Number(number))
}

fn check_bounds(number: i128, min: i128, max: i128, unit: Unit) -> Result<(), String> {
    if (min..=max).contains(&number) {
        return Ok(());
    }
    Err(match unit {
        Unit::MemoryOrPercent if number < 0 => {
            format!("percentage argument must be less or equal to {}", -min)
        }
        Unit::Octal => format!("argument must be between {min:o} and {max:o} inclusive"),
        _ => format!("argument must be between {min} and {max} inclusive"),
    })
}

/// A decimal number as Redis reads one: no plus sign, no leading zeros, no blanks.
fn parse_decimal(text: &[u8]) -> Option<i128> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical =
        digits == b"0" && digits.len() == text.len() || matches!(digits.first(), Some(b'1'..=b'9'));
    if !canonical || digits.len() > 20 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: i128 = std::str::from_utf8(text).ok()?.parse().ok()?;
    // Unsigned 64-bit options take what string2ll refuses; their own bounds decide.
    (i128::from(i64::MIN)..=i128::from(i64::MAX)).contains(&number).then_some(number)
}

/// A number of bytes with an optional unit: powers of ten for k, m, g and of 1024 for kb, mb, gb.
pub(crate) fn parse_memory(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1000 * 1000,
        b"mb" => 1 << 20,
        b"g" => 1000 * 1000 * 1000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    std::str::from_utf8(number).ok()?.parse::<u64>().ok()?.checked_mul(scale)
}

fn parse_percent(text: &[u8]) -> Option<i128> {
    let number = parse_decimal(text.strip_suffix(b"%")?)?;
    (number >= 0).then_some(number)
}

fn parse_octal(text: &[u8]) -> Option<i128> {
    i64::from_str_radix(std::str::from_utf8(text).ok()?, 8).ok().map(i128::from)
}

fn parse_choice(names: &'static [&'static str], text: &[u8]) -> Result<&'static str, String> {
    let found = names.iter().find(|name| text.eq_ignore_ascii_case(name.as_bytes()));
    found.copied().ok_or_else(|| choices_error(names))
}

fn parse_flags(names: &'static [&'static str], arguments: &[Vec<u8>]) -> Result<Value, String> {
    let chosen: Result<Vec<_>, _> =
        arguments.iter().map(|text| parse_choice(names, text)).collect();
    let chosen = chosen?;
    if chosen.is_empty() {
        return Err(choices_error(names));
    }
    if chosen.contains(&"save") && chosen.contains(&"nosave") {
        return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
    }
    Ok(Value::Words(chosen.into_iter().map(|name| name.as_bytes().to_vec()).collect()))
}

fn choices_error(names: &[&str]) -> String {
    format!("argument(s) must be one of the following: {}", names.join(", "))
}

fn parse_text(text: &[u8], check: Option<TextCheck>) -> Result<Value, String> {
    if let Some(check) = check {
        check(text)?;
    }
    Ok(Value::Text(text.to_vec()))
}

/// Bytes as a rewritten file shows them: in the largest unit that divides them.
pub(super) fn format_memory(bytes: i128) -> String {
    for (shift, unit) in [(30, "gb"), (20, "mb"), (10, "kb")] {
        if bytes != 0 && bytes % (1 << shift) == 0 {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: Kind, text: &str) -> Result<Value, String> {
        kind.parse(&[text.as_bytes().to_vec()], &Value::Number(0))
    }

    #[test]
    fn memory_units_are_powers_of_ten_or_1024() {
        let cases = [("1", 1), ("1b", 1), ("1k", 1000), ("1Kb", 1024), ("2m", 2_000_000)];
        for (text, bytes) in cases {
            assert_eq!(parse_memory(text.as_bytes()), Some(bytes), "{text}");
        }
        assert_eq!(parse_memory(b"3MB"), Some(3 << 20));
        assert_eq!(parse_memory(b"1gb"), Some(1 << 30));
        for text in ["", "-1", "x", "1tb", "1 kb", "99999999999gb"] {
            assert_eq!(parse_memory(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn numbers_out_of_bounds_name_the_bounds() {
        let port = Kind::number(0, 65535);
        assert_eq!(parse(port, "6379"), Ok(Value::Number(6379)));
        let error = parse(port, "65536").unwrap_err();
        assert_eq!(error, "argument must be between 0 and 65535 inclusive");
        let error = parse(port, "-1").unwrap_err();
        assert_eq!(error, "argument must be between 0 and 65535 inclusive");
    }

    #[test]
    fn numbers_must_be_canonical() {
        for text in ["", "-", "+1", "01", "1 ", "-0", "1e3", "99999999999999999999"] {
            let error = parse(Kind::number(i128::MIN, i128::MAX), text).unwrap_err();
            assert_eq!(error, "argument couldn't be parsed into an integer", "{text}");
        }
    }

    #[test]
    fn percentages_are_shown_as_they_were_given() {
        let kind = Kind::Number { min: -100, max: 1 << 60, unit: Unit::MemoryOrPercent };
        let value = parse(kind, "5%").unwrap();
        assert_eq!(kind.show(&value), b"5%");
        let error = parse(kind, "101%").unwrap_err();
        assert_eq!(error, "percentage argument must be less or equal to 100");
        assert_eq!(parse(kind, "x").unwrap_err(), "argument must be a memory or percent value");
    }

    #[test]
    fn octal_numbers_are_shown_in_octal() {
        let kind = Kind::Number { min: 0, max: 0o777, unit: Unit::Octal };
        let value = parse(kind, "700").unwrap();
        assert_eq!(value, Value::Number(0o700));
        assert_eq!(kind.show(&value), b"700");
        let error = parse(kind, "1000").unwrap_err();
        assert_eq!(error, "argument must be between 0 and 777 inclusive");
    }

    #[test]
    fn choices_list_what_is_possible() {
        let kind = Kind::Choice(&["a", "b"]);
        assert_eq!(parse(kind, "B"), Ok(Value::Choice("b")));
        let error = parse(kind, "c").unwrap_err();
        assert_eq!(error, "argument(s) must be one of the following: a, b");
    }

    #[test]
    fn one_value_means_one_argument() {
        let two = [b"yes".to_vec(), b"no".to_vec()];
        let error = Kind::Bool.parse(&two, &Value::Bool(true)).unwrap_err();
        assert_eq!(error, "wrong number of arguments");
    }

    #[test]
    fn rewritten_memory_takes_the_largest_exact_unit() {
        assert_eq!(format_memory(0), "0");
        assert_eq!(format_memory(1 << 30), "1gb");
        assert_eq!(format_memory(64 << 20), "64mb");
        assert_eq!(format_memory(1000), "1000");
    }
}
