//! The options behind SET's and GETEX's arguments: conditions, and when the key shall expire.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use super::{digest, text::Text};
use crate::{command::prelude::*, keyspace::Body, value::Object};

/// When a value shall expire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Expiry<'a> {
    /// Nothing was said of it.
    #[default]
    Unsaid,
    /// KEEPTTL: as before.
    Keep,
    /// PERSIST: never.
    Never,
    /// EX, PX, EXAT or PXAT with its number, not yet read.
    Given(Unit, &'a [u8]),
}

/// How the number behind EX, PX, EXAT and PXAT is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) seconds: bool,
    pub(super) from_now: bool,
}

impl Unit {
    /// EX: seconds from now.
    pub(super) const EX: Self = Self { seconds: true, from_now: true };
    /// PX: milliseconds from now.
    pub(super) const PX: Self = Self { seconds: false, from_now: true };
    /// EXAT: Unix time in seconds.
    pub(super) const EXAT: Self = Self { seconds: true, from_now: false };
    /// PXAT: Unix time in milliseconds.
    pub(super) const PXAT: Self = Self { seconds: false, from_now: false };

    fn named(word: &[u8]) -> Option<Self> {
        let units = [
            (&b"EX"[..], Self::EX),
            (b"PX", Self::PX),
            (b"EXAT", Self::EXAT),
            (b"PXAT", Self::PXAT),
        ];
        units.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, unit)| unit)
    }

    /// The deadline in Unix milliseconds that `number` names for `command`.
    ///
    /// # Errors
    ///
    /// Not an integer, not positive, or beyond 64 bits of milliseconds.
    pub(super) fn deadline(
        self,
        number: &[u8],
        now_ms: i64,
        command: &'static str,
    ) -> Result<i64, CommandError> {
        let number = parse_i64(number).ok_or(CommandError::NotAnInteger)?;
        let unit_ms = if self.seconds { 1_000 } else { 1 };
        let start_ms = if self.from_now { now_ms } else { 0 };
        Some(number)
            .filter(|&number| number > 0)
            .and_then(|number| number.checked_mul(unit_ms)?.checked_add(start_ms))
            .ok_or(CommandError::InvalidExpire { command })
    }
}

impl<'a> Expiry<'a> {
    /// Takes in `word` if it is an option about expiry that goes with those before it; its number,
    /// if it has one, comes from `rest`. Answers whether it was.
    fn accept(&mut self, word: &[u8], rest: &mut impl Iterator<Item = &'a [u8]>) -> bool {
        let Some(unit) = Unit::named(word) else { return false };
        let fits = match *self {
            Self::Unsaid => true,
            // The same option again: the last one counts.
            Self::Given(before, _) => before == unit,
            Self::Keep | Self::Never => false,
        };
        match rest.next() {
            Some(number) if fits => {
                *self = Self::Given(unit, number);
                true
            }
            _ => false,
        }
    }

    /// Takes in a word without a number, KEEPTTL or PERSIST; answers whether it goes with the others.
    fn accept_word(&mut self, meaning: Self) -> bool {
        let fits = *self == Self::Unsaid || *self == meaning;
        *self = meaning;
        fits
    }

    /// The deadline in Unix milliseconds, if one was given.
    pub(super) fn deadline(
        self,
        now_ms: i64,
        command: &'static str,
    ) -> Result<Option<i64>, CommandError> {
        match self {
            Self::Given(unit, number) => unit.deadline(number, now_ms, command).map(Some),
            Self::Unsaid | Self::Keep | Self::Never => Ok(None),
        }
    }
}

/// What must hold for SET to set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Condition<'a> {
    /// Nothing.
    #[default]
    Always,
    /// NX: the key is not there.
    Absent,
    /// XX: the key is there.
    Present,
    /// IFEQ: the key holds this string.
    Equal(&'a [u8]),
    /// IFNE: the key does not hold this string.
    NotEqual(&'a [u8]),
    /// IFDEQ: the key holds a string with this digest.
    DigestEqual(&'a [u8]),
    /// IFDNE: the key does not hold a string with this digest.
    DigestNotEqual(&'a [u8]),
}

impl<'a> Condition<'a> {
    /// The condition on a string that `word` names, with what it is compared with.
    pub(super) fn named(word: &[u8], operand: &'a [u8]) -> Option<Self> {
        Some(match word {
            _ if word.eq_ignore_ascii_case(b"IFEQ") => Self::Equal(operand),
            _ if word.eq_ignore_ascii_case(b"IFNE") => Self::NotEqual(operand),
            _ if word.eq_ignore_ascii_case(b"IFDEQ") => Self::DigestEqual(operand),
            _ if word.eq_ignore_ascii_case(b"IFDNE") => Self::DigestNotEqual(operand),
            _ => return None,
        })
    }

    /// Whether it holds of what a key holds.
    ///
    /// # Errors
    ///
    /// It is about strings and the key holds something else, or it compares with no digest.
    pub(super) fn holds(self, body: Option<Body<'_, Object>>) -> Result<bool, CommandError> {
        let Some(body) = body else {
            return Ok(match self {
                Self::Always | Self::Absent | Self::NotEqual(_) | Self::DigestNotEqual(_) => true,
                Self::Present | Self::Equal(_) | Self::DigestEqual(_) => false,
            });
        };
        Ok(match self {
            Self::Always | Self::Present => true,
            Self::Absent => false,
            Self::Equal(wanted) => Text::of(body)?.with_bytes(|old| old == wanted),
            Self::NotEqual(wanted) => Text::of(body)?.with_bytes(|old| old != wanted),
            Self::DigestEqual(wanted) => digest::matches(Text::of(body)?, wanted)?,
            Self::DigestNotEqual(wanted) => !digest::matches(Text::of(body)?, wanted)?,
        })
    }
}

/// MSETEX's options, behind its keys and values.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ManyOptions<'a> {
    pub(super) condition: Condition<'a>,
    pub(super) expiry: Expiry<'a>,
}

impl<'a> ManyOptions<'a> {
    /// Reads the options in `words`.
    pub(super) fn parse(words: &Args<'a>) -> Result<Self, CommandError> {
        let mut options = Self::default();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let condition = match word {
                _ if word.eq_ignore_ascii_case(b"NX") => Some(Condition::Absent),
                _ if word.eq_ignore_ascii_case(b"XX") => Some(Condition::Present),
                _ => None,
            };
            let fits = match condition {
                Some(condition) => {
                    let before = std::mem::replace(&mut options.condition, condition);
                    before == Condition::Always || before == condition
                }
                None if word.eq_ignore_ascii_case(b"KEEPTTL") => {
                    options.expiry.accept_word(Expiry::Keep)
                }
                None => options.expiry.accept(word, &mut rest),
            };
            if !fits {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }
}

/// SET's options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SetOptions<'a> {
    pub(super) condition: Condition<'a>,
    /// GET: the reply is the old value.
    pub(super) get: bool,
    pub(super) expiry: Expiry<'a>,
}

impl<'a> SetOptions<'a> {
    /// Reads the options that follow the value.
    pub(super) fn parse(args: &Args<'a>) -> Result<Self, CommandError> {
        let mut options = Self::default();
        let mut rest = args.iter().skip(3);
        while let Some(word) = rest.next() {
            if !options.accept(word, &mut rest) {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    fn accept(&mut self, word: &[u8], rest: &mut impl Iterator<Item = &'a [u8]>) -> bool {
        if word.eq_ignore_ascii_case(b"NX") {
            self.accept_condition(Condition::Absent)
        } else if word.eq_ignore_ascii_case(b"XX") {
            self.accept_condition(Condition::Present)
        } else if Condition::named(word, b"").is_some() {
            let condition = rest.next().and_then(|operand| Condition::named(word, operand));
            condition.is_some_and(|condition| self.accept_condition(condition))
        } else if word.eq_ignore_ascii_case(b"GET") {
            self.get = true;
            true
        } else if word.eq_ignore_ascii_case(b"KEEPTTL") {
            self.expiry.accept_word(Expiry::Keep)
        } else {
            self.expiry.accept(word, rest)
        }
    }

    fn accept_condition(&mut self, condition: Condition<'a>) -> bool {
        let may_repeat = matches!(condition, Condition::Absent | Condition::Present);
        let fits =
            self.condition == Condition::Always || (self.condition == condition && may_repeat);
        self.condition = condition;
        fits
    }
}

/// GETEX's option, of which there may be one.
pub(super) fn parse_getex<'a>(args: &Args<'a>) -> Result<Expiry<'a>, CommandError> {
    let mut expiry = Expiry::default();
    let mut rest = args.iter().skip(2);
    while let Some(word) = rest.next() {
        let fits = if word.eq_ignore_ascii_case(b"PERSIST") {
            expiry.accept_word(Expiry::Never)
        } else {
            expiry.accept(word, &mut rest)
        };
        if !fits {
            return Err(CommandError::Syntax);
        }
    }
    Ok(expiry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_beyond_64_bits_are_refused() {
        let invalid = Err(CommandError::InvalidExpire { command: "set" });
        for (unit, number) in [
            (Unit::EX, "0"),
            (Unit::EX, "-1"),
            (Unit::PXAT, "-9223372036854775808"),
            (Unit::EX, "9223372036854775"),
            (Unit::EX, "9223372036854775807"),
            (Unit::PX, "9223372036854775807"),
            (Unit::EXAT, "9223372036854776"),
        ] {
            assert_eq!(
                unit.deadline(number.as_bytes(), 1_000, "set"),
                invalid,
                "{unit:?} {number}"
            );
        }
        let largest = Unit::PXAT.deadline(b"9223372036854775807", 1_000, "set");
        assert_eq!(largest, Ok(i64::MAX));
        assert_eq!(Unit::EX.deadline(b"x", 0, "set"), Err(CommandError::NotAnInteger));
    }

    #[test]
    fn deadlines_follow_their_units() {
        for (unit, expected) in
            [(Unit::EX, 8_500), (Unit::PX, 1_507), (Unit::EXAT, 7_000), (Unit::PXAT, 7)]
        {
            assert_eq!(unit.deadline(b"7", 1_500, "set"), Ok(expected), "{unit:?}");
        }
    }
}
