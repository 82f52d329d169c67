//! What commands that may wait for data have in common (BLPOP, XREAD BLOCK …).
//!
//! Such a command looks for data as any other does. If there is none it answers
//! [`Effect::Waits`], having done and written nothing, and is executed again when one of its keys
//! has changed (see [`crate::waiting`]); or, where it may not wait (in EXEC, in a script, replayed), it
//! answers as if its time were over.
#![forbid(unsafe_code)]

use tessera_proto::{Args, ReplyWriter, float::parse_f64, number::parse_i64};

use super::{Command, CommandError, Context, Effect};

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

/// Whether a command must see all its keys to do what is right when one of them has changed. Others
/// take from the first key that has something, or read what there is: while they wait, the keys that
/// have not changed have nothing.
pub(crate) fn needs_all_keys(command: &Command) -> bool {
    matches!(command.name, "blmove" | "brpoplpush" | "xreadgroup")
}

/// The type of the values that a command takes from or reads.
pub(crate) fn awaited_type(command: &Command) -> &'static str {
    match command.name {
        "bzpopmin" | "bzpopmax" | "bzmpop" => "zset",
        "xread" | "xreadgroup" => "stream",
        _ => "list",
    }
}

/// Whether a key that has changed, and holds nothing or something else now, is an answer (to a reader
/// of a group that is gone with its stream), or nothing that the client has waited for.
pub(crate) fn hears_of_other_types(command: &Command) -> bool {
    command.name == "xreadgroup"
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
