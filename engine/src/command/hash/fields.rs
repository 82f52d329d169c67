//! What the commands on fields with deadlines have in common: their list of fields, their times, and
//! what they tell of a change.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use crate::{command::prelude::*, types::Hash};

/// The fields behind `FIELDS numfields` at argument `at`, of which there must be as many.
/// `bad_number` is what is said of a number that is none or not positive.
pub(super) fn named_fields<'a>(
    args: &Args<'a>,
    at: usize,
    bad_number: &'static str,
) -> Result<Args<'a>, CommandError> {
    if !args.get(at).is_some_and(|word| word.eq_ignore_ascii_case(b"FIELDS")) {
        return Err(CommandError::text(
            "ERR Mandatory argument FIELDS is missing or not at the right position",
        ));
    }
    let number = args.get(at + 1).and_then(parse_i64).filter(|&number| number > 0);
    let number = number.ok_or(CommandError::text(bad_number))?;
    let fields = args.tail(at + 2);
    if usize::try_from(number) != Ok(fields.len()) {
        return Err(CommandError::text(
            "ERR The `numfields` parameter must match the number of arguments",
        ));
    }
    Ok(fields)
}

/// What is said of a bad number of fields by all but HEXPIRE and its like.
pub(super) const BAD_NUMBER: &str = "ERR Number of fields must be a positive integer";

/// How a time is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeUnit {
    /// Milliseconds of a unit.
    pub(super) ms: i64,
    /// Whether it counts from now, and not from the Unix epoch.
    pub(super) from_now: bool,
}

impl TimeUnit {
    /// Seconds from now.
    pub(super) const SECONDS: Self = Self { ms: 1_000, from_now: true };
    /// Milliseconds from now.
    pub(super) const MILLISECONDS: Self = Self { ms: 1, from_now: true };
    /// Unix time in seconds.
    pub(super) const UNIX_SECONDS: Self = Self { ms: 1_000, from_now: false };
    /// Unix time in milliseconds.
    pub(super) const UNIX_MILLISECONDS: Self = Self { ms: 1, from_now: false };

    /// The unit of the option EX, PX, EXAT or PXAT.
    pub(super) fn of_option(word: &[u8]) -> Option<Self> {
        let units = [
            (&b"EX"[..], Self::SECONDS),
            (b"PX", Self::MILLISECONDS),
            (b"EXAT", Self::UNIX_SECONDS),
            (b"PXAT", Self::UNIX_MILLISECONDS),
        ];
        units.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, unit)| unit)
    }

    /// The deadline in Unix milliseconds that `text` gives at `now_ms` for `command`.
    pub(super) fn deadline(
        self,
        text: &[u8],
        now_ms: i64,
        command: &'static str,
    ) -> Result<i64, CommandError> {
        let number = parse_i64(text).ok_or(CommandError::NotAnInteger)?;
        if number < 0 {
            return Err(CommandError::text("ERR invalid expire time, must be >= 0"));
        }
        let start_ms = if self.from_now { now_ms } else { 0 };
        number
            .checked_mul(self.ms)
            .and_then(|ms| ms.checked_add(start_ms))
            .filter(|&deadline| deadline <= Hash::DEADLINE_MAX_MS)
            .ok_or(CommandError::InvalidExpire { command })
    }
}

/// Fields that a command has given a deadline, and those it has removed because that lay in the
/// past.
#[derive(Default)]
pub(super) struct Dated<'a> {
    pub(super) dated: Vec<&'a [u8]>,
    pub(super) removed: Vec<&'a [u8]>,
    /// Whether the key went with its last field.
    pub(super) emptied: bool,
}

impl Dated<'_> {
    /// Number of fields changed.
    pub(super) fn len(&self) -> u64 {
        (self.dated.len() + self.removed.len()) as u64
    }

    /// Records what was done to `key`: HPEXPIREAT and HDEL.
    pub(super) fn record(&self, cx: &mut Context<'_>, key: &[u8], deadline: i64) {
        if !cx.records() {
            return;
        }
        let (mut deadline_text, mut count_text) = (itoa::Buffer::new(), itoa::Buffer::new());
        if !self.dated.is_empty() {
            let count = count_text.format(self.dated.len()).as_bytes();
            let at = deadline_text.format(deadline).as_bytes();
            let head: [&[u8]; 5] = [b"HPEXPIREAT", key, at, b"FIELDS", count];
            cx.record(&[&head[..], &self.dated].concat());
        }
        if !self.removed.is_empty() {
            let head: [&[u8]; 2] = [b"HDEL", key];
            cx.record(&[&head[..], &self.removed].concat());
        }
    }

    /// Tells of it, with Redis's events.
    pub(super) fn notify(&self, cx: &mut Context<'_>, key: &[u8]) {
        if !self.removed.is_empty() {
            cx.notify(Class::HASH, "hdel", key);
        } else if !self.dated.is_empty() {
            cx.notify(Class::HASH, "hexpire", key);
        }
        if self.emptied {
            cx.notify(Class::GENERIC, "del", key);
        }
    }
}

/// Gives a field that is there a deadline, or removes it if that lies in the past.
pub(super) fn date<'a>(
    hash: &mut Hash,
    field: &'a [u8],
    deadline: i64,
    now_ms: i64,
    thresholds: &crate::types::Thresholds,
    done: &mut Dated<'a>,
) {
    if deadline <= now_ms {
        hash.remove(field);
        done.removed.push(field);
    } else {
        hash.set_deadline(field, Some(deadline), thresholds);
        done.dated.push(field);
    }
}
