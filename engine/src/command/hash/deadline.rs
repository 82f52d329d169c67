//! HEXPIRE and its like: deadlines of single fields, set, shown and taken away.
//!
//! Each answers an integer per field: -2 where there is no such field, -1 where it has no deadline.
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

use super::fields::{BAD_NUMBER, Dated, TimeUnit, date, named_fields};
use crate::{
    command::{
        collection::{View, read, update},
        prelude::*,
    },
    types::Hash,
};

/// Answer for a field that is not there.
const NO_FIELD: i64 = -2;
/// Answer for a field without a deadline.
const NO_DEADLINE: i64 = -1;
/// Answer where the condition does not hold.
const REFUSED: i64 = 0;
/// Answer where it was done.
const DONE: i64 = 1;
/// Answer where the deadline lay in the past, so that the field is gone.
const REMOVED: i64 = 2;

/// HEXPIRE key seconds [NX | XX | GT | LT] FIELDS numfields field [field …].
pub(super) fn hexpire(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    expire(cx, args, TimeUnit::SECONDS, "hexpire")
}

/// HPEXPIRE key milliseconds, then as HEXPIRE.
pub(super) fn hpexpire(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    expire(cx, args, TimeUnit::MILLISECONDS, "hpexpire")
}

/// HEXPIREAT key unix-seconds, then as HEXPIRE.
pub(super) fn hexpireat(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    expire(cx, args, TimeUnit::UNIX_SECONDS, "hexpireat")
}

/// HPEXPIREAT key unix-milliseconds, then as HEXPIRE.
pub(super) fn hpexpireat(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    expire(cx, args, TimeUnit::UNIX_MILLISECONDS, "hpexpireat")
}

/// HTTL key FIELDS numfields field [field …]: seconds left, rounded up.
pub(super) fn httl(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    show(cx, args, TimeUnit::SECONDS)
}

/// HPTTL key FIELDS numfields field [field …]: milliseconds left.
pub(super) fn hpttl(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    show(cx, args, TimeUnit::MILLISECONDS)
}

/// HEXPIRETIME key FIELDS numfields field [field …]: deadlines in Unix seconds, rounded up.
pub(super) fn hexpiretime(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    show(cx, args, TimeUnit::UNIX_SECONDS)
}

/// HPEXPIRETIME key FIELDS numfields field [field …]: deadlines in Unix milliseconds.
pub(super) fn hpexpiretime(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    show(cx, args, TimeUnit::UNIX_MILLISECONDS)
}

/// HPERSIST key FIELDS numfields field [field …].
pub(super) fn hpersist(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    check_type(cx, key)?;
    let fields = named_fields(args, 2, BAD_NUMBER)?;
    cx.keyspace.expire_touched(key, fields.iter());
    let thresholds = &cx.settings.thresholds;
    let persist = |hash: &mut Hash, field: &[u8]| match hash.deadline(field) {
        Some(_) => {
            hash.set_deadline(field, None, thresholds);
            DONE
        }
        None if hash.contains(field) => NO_DEADLINE,
        None => NO_FIELD,
    };
    let answers = update(cx.keyspace.slot(key), |hash: &mut Hash| {
        Ok(fields.iter().map(|field| persist(hash, field)).collect::<Vec<_>>())
    })?;
    let answers = answers.map_or_else(|| vec![NO_FIELD; fields.len()], |changed| changed.result);
    reply_all(cx, &answers);
    let persisted = answers.contains(&DONE);
    if persisted {
        cx.notify(Class::HASH, "hpersist", key);
    }
    Ok(Effect::changed_if(persisted))
}

/// When a deadline is set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    /// NX: there is none.
    None,
    /// XX: there is one.
    Some,
    /// GT: it is later than the one there is.
    Later,
    /// LT: it is earlier, or there is none.
    Earlier,
}

impl Condition {
    /// The condition at argument 3, and where FIELDS follows.
    fn parse(args: &Args<'_>) -> (Self, usize) {
        let word = &args[3];
        let named = [
            (&b"NX"[..], Self::None),
            (b"XX", Self::Some),
            (b"GT", Self::Later),
            (b"LT", Self::Earlier),
        ];
        let found = named.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
        found.map_or((Self::Always, 3), |(_, condition)| (condition, 4))
    }

    fn holds(self, before: Option<i64>, after: i64) -> bool {
        match (self, before) {
            (Self::Always, _) | (Self::None | Self::Earlier, None) | (Self::Some, Some(_)) => true,
            (Self::Later, Some(before)) => after > before,
            (Self::Earlier, Some(before)) => after < before,
            (Self::Some | Self::Later, None) | (Self::None, Some(_)) => false,
        }
    }
}

fn expire(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    unit: TimeUnit,
    command: &'static str,
) -> Result<Effect, CommandError> {
    let key = &args[1];
    check_type(cx, key)?;
    let now_ms = cx.keyspace.now_ms();
    let deadline = unit.deadline(&args[2], now_ms, command)?;
    let (condition, fields_at) = Condition::parse(args);
    let bad_number = "ERR Parameter `numFields` should be greater than 0";
    let fields = named_fields(args, fields_at, bad_number)?;
    cx.keyspace.expire_touched(key, fields.iter());
    let thresholds = &cx.settings.thresholds;
    let mut done = Dated::default();
    let judge = |hash: &Hash, field: &[u8]| {
        if !hash.contains(field) {
            return NO_FIELD;
        }
        if !condition.holds(hash.deadline(field), deadline) {
            return REFUSED;
        }
        if deadline <= now_ms { REMOVED } else { DONE }
    };
    let changed = update(cx.keyspace.slot(key), |hash: &mut Hash| {
        let mut answers = Vec::with_capacity(fields.len());
        for field in fields.iter() {
            let answer = judge(hash, field);
            if answer > REFUSED {
                date(hash, field, deadline, now_ms, thresholds, &mut done);
            }
            answers.push(answer);
        }
        Ok(answers)
    })?;
    done.emptied = changed.as_ref().is_some_and(|changed| changed.emptied);
    match changed {
        Some(changed) => reply_all(cx, &changed.result),
        None => reply_all(cx, &vec![NO_FIELD; fields.len()]),
    }
    done.record(cx, key, deadline);
    done.notify(cx, key);
    Ok(Effect::count(done.len()))
}

fn show(cx: &mut Context<'_>, args: &Args<'_>, unit: TimeUnit) -> Result<Effect, CommandError> {
    let key = &args[1];
    check_type(cx, key)?;
    let fields = named_fields(args, 2, BAD_NUMBER)?;
    let start_ms = if unit.from_now { cx.keyspace.now_ms() } else { 0 };
    cx.keyspace.expire_touched(key, fields.iter());
    let hash = read::<Hash>(cx.keyspace, key)?;
    cx.reply.array(fields.len());
    for field in fields.iter() {
        let deadline = hash.as_ref().and_then(|hash| hash.deadline(field));
        let there = hash.as_ref().is_some_and(|hash| hash.contains(field));
        cx.reply.integer(match deadline {
            Some(deadline) => (deadline - start_ms + unit.ms - 1) / unit.ms,
            None if there => NO_DEADLINE,
            None => NO_FIELD,
        });
    }
    Ok(Effect::Unchanged)
}

/// Refuses a key that holds something else, before the arguments are looked at, as Redis does.
pub(super) fn check_type(cx: &mut Context<'_>, key: &[u8]) -> Result<(), CommandError> {
    cx.keyspace.peek(key).map(|entry| View::<Hash>::of(entry.body())).transpose().map(drop)
}

fn reply_all(cx: &mut Context<'_>, answers: &[i64]) {
    cx.reply.array(answers.len());
    answers.iter().for_each(|&answer| cx.reply.integer(answer));
}
