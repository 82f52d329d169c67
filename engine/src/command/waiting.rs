//! What commands that may wait for data have in common (BLPOP, XREAD BLOCK …).
//!
//! Such a command looks for data as any other does. If there is none it answers
//! [`Effect::Waits`], having done and written nothing, and is executed again when one of its keys
//! has changed (see [`crate::waiting`]); or, where it may not wait (in EXEC, in a script, replayed), it
//! answers as if its time were over.
#![forbid(unsafe_code)]

use tessera_proto::{Args, ReplyWriter, RequestBatch, float::parse_f64, number::parse_i64};

use super::{Command, CommandError, Context, Effect, stream::wait};
use crate::types::StreamId;

/// The outcome of a command that has found nothing: it waits, or answers `nothing`.
pub(super) fn found_nothing(
    cx: &mut Context<'_>,
    nothing: impl FnOnce(&mut ReplyWriter<'_>),
) -> Effect {
    if cx.may_wait {
        return Effect::Waits(0);
    }
    nothing(&mut cx.reply);
    Effect::Unchanged
}

/// Reads a time to wait in seconds, which may have a fraction; answers milliseconds, rounded up, 0 for
/// ever.
pub(super) fn parse_seconds(text: &[u8], now_ms: i64) -> Result<i64, CommandError> {
    let seconds = parse_f64(text).filter(|seconds| !seconds.is_nan());
    let seconds =
        seconds.ok_or(CommandError::text("ERR timeout is not a float or out of range"))?;
    let ms = (seconds * 1_000.0).ceil();
    if ms > i64::MAX as f64 {
        return Err(CommandError::text("ERR timeout is out of range"));
    }
    in_range(ms as i64, now_ms)
}

/// Reads a time to wait in milliseconds; 0 is for ever.
///
/// # Errors
///
/// It is not a number, or not in the range of times.
pub fn parse_ms(text: &[u8], now_ms: i64) -> Result<i64, CommandError> {
    let ms = parse_i64(text);
    let ms = ms.ok_or(CommandError::text("ERR timeout is not an integer or out of range"))?;
    in_range(ms, now_ms)
}

fn in_range(ms: i64, now_ms: i64) -> Result<i64, CommandError> {
    if ms < 0 {
        return Err(CommandError::text("ERR timeout is negative"));
    }
    if ms.checked_add(now_ms).is_none() {
        return Err(CommandError::text("ERR timeout is out of range"));
    }
    Ok(ms)
}

/// How long a command that has found nothing waits, in milliseconds; 0 for ever. Its arguments have
/// been read before.
pub(crate) fn timeout_ms(command: &Command, args: &Args<'_>, now_ms: i64) -> Option<i64> {
    let seconds = |at: usize| parse_seconds(args.get(at)?, now_ms).ok();
    match command.name {
        "blmpop" | "bzmpop" => seconds(1),
        "xread" | "xreadgroup" => {
            let option = args.iter().position(|word| word.eq_ignore_ascii_case(b"BLOCK"))?;
            parse_ms(args.get(option + 1)?, now_ms).ok()
        }
        _ => seconds(args.len() - 1),
    }
}

/// What a command that waits wants of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Elements of a list.
    Elements,
    /// Members of a sorted set.
    Members,
    /// Entries of a stream behind this id.
    Entries(StreamId),
    /// Entries of a stream that this group has not read; or to hear that group or stream are gone.
    Unread(Box<[u8]>),
}

/// What a command wants of `key`, which is one of those that it awaits.
pub(crate) fn want(command: &Command, args: &Args<'_>, key: &[u8]) -> Want {
    match command.name {
        "bzpopmin" | "bzpopmax" | "bzmpop" => Want::Members,
        "xread" => Want::Entries(wait::read_behind(args, key)),
        "xreadgroup" => Want::Unread(wait::group_of(args).into()),
        _ => Want::Elements,
    }
}

/// The source and the destination of a command that moves an element (BLMOVE, BRPOPLPUSH).
pub(crate) fn transfer<'a>(command: &Command, args: &Args<'a>) -> Option<(&'a [u8], &'a [u8])> {
    matches!(command.name, "blmove" | "brpoplpush").then(|| args.get(1).zip(args.get(2))).flatten()
}

/// The positions of the keys that a command waits for: all its keys, but of one that moves an element
/// only the source. Its arguments have been read before.
pub(crate) fn awaited_keys(command: &Command, args: &Args<'_>, positions: &mut Vec<usize>) {
    positions.clear();
    let found = command.keys.positions(args, positions);
    debug_assert!(found.is_ok(), "a call that waits has keys");
    if transfer(command, args).is_some() {
        positions.truncate(1);
    }
}

/// The part of a waiting call that concerns the keys that are `here`, if the command would take the
/// others amiss that are not.
pub(crate) fn part_here(
    command: &Command,
    args: &Args<'_>,
    here: impl FnMut(&[u8]) -> bool,
) -> Option<RequestBatch> {
    (command.name == "xreadgroup").then(|| wait::of_streams(args, here))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_refused_as_redis_does() {
        let seconds =
            |text: &str| parse_seconds(text.as_bytes(), 1_000).map_err(|error| error.to_string());
        assert_eq!(seconds("0"), Ok(0));
        assert_eq!(seconds("1.5"), Ok(1_500));
        assert_eq!(seconds("0.0001"), Ok(1), "not for ever");
        for (text, error) in [
            ("x", "timeout is not a float or out of range"),
            ("nan", "timeout is not a float or out of range"),
            ("-1", "timeout is negative"),
            ("-0.01", "timeout is negative"),
            ("9223372036854775", "timeout is out of range"),
            ("1e300", "timeout is out of range"),
        ] {
            assert_eq!(seconds(text), Err(format!("ERR {error}")), "{text}");
        }
        assert!(parse_ms(b"1.5", 0).is_err());
        assert_eq!(parse_ms(b"15", 0).ok(), Some(15));
    }
}
