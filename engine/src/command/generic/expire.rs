//! Commands about when keys expire.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use crate::command::prelude::*;

const MS_PER_S: i64 = 1_000;

/// EXPIRE key seconds [NX | XX | GT | LT]: whether the deadline was set.
pub(super) fn expire(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let now_ms = cx.keyspace.now_ms();
    set_deadline(cx, args, now_ms, MS_PER_S, "expire")
}

/// PEXPIRE key milliseconds [NX | XX | GT | LT].
pub(super) fn pexpire(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let now_ms = cx.keyspace.now_ms();
    set_deadline(cx, args, now_ms, 1, "pexpire")
}

/// EXPIREAT key unix-time-seconds [NX | XX | GT | LT].
pub(super) fn expireat(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    set_deadline(cx, args, 0, MS_PER_S, "expireat")
}

/// PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT].
pub(super) fn pexpireat(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    set_deadline(cx, args, 0, 1, "pexpireat")
}

/// TTL key: seconds, -1 without a deadline, -2 without a key.
pub(super) fn ttl(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    reply_deadline(cx, args, |deadline, now_ms| rounded_seconds((deadline - now_ms).max(0)))
}

/// PTTL key: milliseconds, or as TTL.
pub(super) fn pttl(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    reply_deadline(cx, args, |deadline, now_ms| (deadline - now_ms).max(0))
}

/// EXPIRETIME key: Unix time in seconds, or as TTL.
pub(super) fn expiretime(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    reply_deadline(cx, args, |deadline, _| rounded_seconds(deadline))
}

/// PEXPIRETIME key: Unix time in milliseconds, or as TTL.
pub(super) fn pexpiretime(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    reply_deadline(cx, args, |deadline, _| deadline)
}

/// PERSIST key: whether there was a deadline to remove.
pub(super) fn persist(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    let mut slot = cx.keyspace.slot(key);
    let had = slot.deadline().is_some();
    if had {
        slot.set_deadline(None);
        cx.notify(Class::GENERIC, "persist", key);
    }
    cx.reply.integer(i64::from(had));
    Ok(Effect::changed_if(had))
}

/// What the present deadline must be for a new one to be set. GT and LT may come with XX.
#[derive(Clone, Copy, Default)]
struct Condition {
    absent: bool,
    present: bool,
    later: bool,
    earlier: bool,
}

impl Condition {
    fn parse(args: &Args<'_>) -> Result<Self, CommandError> {
        let mut condition = Self::default();
        for word in args.iter().skip(3) {
            let flag = match word.to_ascii_uppercase().as_slice() {
                b"NX" => &mut condition.absent,
                b"XX" => &mut condition.present,
                b"GT" => &mut condition.later,
                b"LT" => &mut condition.earlier,
                _ => {
                    let word = String::from_utf8_lossy(word);
                    return Err(CommandError::text(format!("ERR Unsupported option {word}")));
                }
            };
            *flag = true;
        }
        condition.check()
    }

    fn check(self) -> Result<Self, CommandError> {
        if self.absent && (self.present || self.later || self.earlier) {
            return Err(CommandError::text(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if self.later && self.earlier {
            return Err(CommandError::text(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(self)
    }

    /// Whether `deadline` may take the place of `old`, none being later than any.
    fn admits(self, old: Option<i64>, deadline: i64) -> bool {
        match old {
            None => !self.present && !self.later,
            Some(old) => {
                let refused = self.absent
                    || (self.later && deadline <= old)
                    || (self.earlier && deadline >= old);
                !refused
            }
        }
    }
}

/// Sets the deadline of the key to `base_ms` and the number given, which counts `unit_ms` each.
fn set_deadline(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    base_ms: i64,
    unit_ms: i64,
    command: &'static str,
) -> Result<Effect, CommandError> {
    let condition = Condition::parse(args)?;
    let number = parse_i64(&args[2]).ok_or(CommandError::NotAnInteger)?;
    let deadline = number
        .checked_mul(unit_ms)
        .and_then(|span| span.checked_add(base_ms))
        .ok_or(CommandError::InvalidExpire { command })?;
    let now_ms = cx.keyspace.now_ms();
    let key = &args[1];
    let mut slot = cx.keyspace.slot(key);
    if slot.is_vacant() || !condition.admits(slot.deadline(), deadline) {
        cx.reply.integer(0);
        return Ok(Effect::Unchanged);
    }
    let event = if deadline <= now_ms {
        slot.remove();
        cx.record(&[b"DEL", key]);
        "del"
    } else {
        slot.set_deadline(Some(deadline));
        cx.record_deadline(key, deadline);
        "expire"
    };
    cx.notify(Class::GENERIC, event, key);
    cx.reply.integer(1);
    Ok(Effect::Changed(1))
}

/// Replies what `shown` makes of the key's deadline and the time.
fn reply_deadline(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    shown: impl FnOnce(i64, i64) -> i64,
) -> Result<Effect, CommandError> {
    let now_ms = cx.keyspace.now_ms();
    let answer = match cx.keyspace.inspect(&args[1]).map(|entry| entry.deadline()) {
        None => -2,
        Some(None) => -1,
        Some(Some(deadline)) => shown(deadline, now_ms),
    };
    cx.reply.integer(answer);
    Ok(Effect::Unchanged)
}

fn rounded_seconds(ms: i64) -> i64 {
    ms.saturating_add(MS_PER_S / 2) / MS_PER_S
}
