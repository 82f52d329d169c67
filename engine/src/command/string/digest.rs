//! DIGEST, and DELEX that compares with one: a hash of a string, so that a client can tell that a
//! long value is still the one it knows.
//!
//! The digest is XXH3 of 64 bits, written as sixteen hexadecimal digits, as in Redis 8.4.
#![forbid(unsafe_code)]

use xxhash_rust::xxh3::xxh3_64;

use super::{options::Condition, text::Text};
use crate::{
    command::prelude::*,
    value::{ValueType, value_type},
};

/// Characters of a digest.
const DIGEST_CHARS: usize = 16;

/// DIGEST key.
pub(super) fn digest(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    match cx.keyspace.read(&args[1]) {
        Some(entry) => {
            let digest = Text::of(entry.body())?.with_bytes(xxh3_64);
            cx.reply.bulk_fmt(format_args!("{digest:016x}"));
        }
        None => cx.reply.null(),
    }
    Ok(Effect::Unchanged)
}

/// DELEX key [IFEQ value | IFNE value | IFDEQ digest | IFDNE digest]: whether the key is gone. With
/// a condition it must hold a string.
pub(super) fn delex(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    if args.len() != 2 && args.len() != 4 {
        return Err(CommandError::WrongArity { command: "delex".into() });
    }
    let key = &args[1];
    let slot = cx.keyspace.slot(key);
    let Some(body) = slot.body() else {
        cx.reply.integer(0);
        return Ok(Effect::Unchanged);
    };
    let removes = match args.get(2).zip(args.get(3)) {
        None => true,
        Some(_) if value_type(&body) != ValueType::String => {
            return Err(CommandError::text(
                "ERR Key should be of string type if conditions are specified",
            ));
        }
        Some((word, operand)) => Condition::named(word, operand)
            .ok_or(CommandError::text("ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE"))?
            .holds(Some(body))?,
    };
    if removes {
        slot.remove();
        cx.record(&[b"DEL", key]);
        cx.notify(Class::GENERIC, "del", key);
    }
    cx.reply.integer(i64::from(removes));
    Ok(Effect::changed_if(removes))
}

/// What DELEX does to its key: without a condition it does not look at the value.
pub(super) fn delex_access(args: &Args<'_>) -> Access {
    if args.len() == 2 {
        Access::RM | Access::DELETE
    } else {
        Access::RW | Access::ACCESS | Access::DELETE
    }
}

/// Whether a string has the digest `wanted`, in any case.
pub(super) fn matches(text: Text<'_>, wanted: &[u8]) -> Result<bool, CommandError> {
    let is_digest = wanted.len() == DIGEST_CHARS && wanted.iter().all(u8::is_ascii_hexdigit);
    if !is_digest {
        return Err(CommandError::text("ERR must be exactly 16 hexadecimal characters"));
    }
    let digest = text.with_bytes(xxh3_64);
    let digits = wanted.iter().filter_map(|&digit| char::from(digit).to_digit(16));
    Ok(digits.fold(0_u64, |number, digit| number << 4 | u64::from(digit)) == digest)
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn digests_are_those_of_xxh3() {
        Bench::new().expect(&[
            ("DIGEST none", "nil"),
            ("SET k hello", "OK"),
            ("DIGEST k", "\"9555e8555c62dcfd\""),
            ("RPUSH l a", ":1"),
            ("DIGEST l", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
            ("DIGEST k k", "-ERR wrong number of arguments for 'digest' command"),
        ]);
        let mut bench = Bench::new();
        bench.call(&[b"SET", b"empty", b""]);
        bench.expect(&[
            ("DIGEST empty", "\"2d06800538d394c2\""),
            // However a string is kept.
            ("SET number 12345", "OK"),
            ("APPEND text 123", ":3"),
            ("APPEND text 45", ":5"),
        ]);
        assert_eq!(bench.run("DIGEST number"), bench.run("DIGEST text"));
    }

    #[test]
    fn keys_are_deleted_on_conditions() {
        Bench::new().expect(&[
            ("MSET a 1 b hello c x", "OK"),
            ("RPUSH l x", ":1"),
            ("DELEX none IFEQ x", ":0"),
            ("DELEX a IFEQ 2", ":0"),
            ("DELEX a IFNE 1", ":0"),
            ("DELEX a ifeq 1", ":1"),
            ("EXISTS a", ":0"),
            ("DELEX b IFDEQ 0000000000000000", ":0"),
            ("DELEX b IFDNE 9555E8555c62dcfd", ":0"),
            ("DELEX b IFDEQ 12", "-ERR must be exactly 16 hexadecimal characters"),
            ("DELEX b IFDEQ 9555e8555c62dcfd", ":1"),
            ("DELEX c IF x", "-ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE"),
            ("DELEX c IFEQ", "-ERR wrong number of arguments for 'delex' command"),
            ("DELEX l IFEQ x", "-ERR Key should be of string type if conditions are specified"),
            ("DELEX l", ":1"),
            ("DELEX c", ":1"),
            ("DBSIZE", ":0"),
        ]);
    }

    #[test]
    fn set_compares_strings_and_digests() {
        Bench::new().expect(&[
            ("SET k a IFDEQ 1234567890", "nil"),
            ("SET k hello IFNE x", "OK"),
            ("SET k x IFNE hello", "nil"),
            ("SET k x IFDNE 9555e8555c62dcfd GET", "\"hello\""),
            ("SET k x IFDEQ 9555e8555c62dcfd GET", "\"hello\""),
            ("GET k", "\"x\""),
            ("SET k y IFNE z EX 10", "OK"),
            ("TTL k", ":10"),
            ("SET k y IFEQ y NX", "-ERR syntax error"),
            ("SET k y IFDNE", "-ERR syntax error"),
        ]);
    }

    #[test]
    fn many_strings_are_set_on_a_condition_and_to_expire() {
        let mut bench = Bench::new();
        bench.expect(&[
            ("MSETEX 2 a 1 b 2 EX 10", ":1"),
            ("TTL b", ":10"),
            ("MSETEX 2 b 3 c 3 NX", ":0"),
            ("MSETEX 2 b 3 c 3 xx PX 500", ":0"),
            ("MSETEX 2 a 5 b 6 XX KEEPTTL", ":1"),
            ("MGET a b c", "[\"5\" \"6\" nil]"),
            ("TTL a", ":10"),
            ("MSETEX 1 a 5", ":1"),
            ("TTL a", ":-1"),
            ("MSETEX 2 a 5 c 5 PXAT 1", ":1"),
            ("EXISTS a b c", ":1"),
            ("MSETEX x a 1", "-ERR invalid numkeys value"),
            ("MSETEX 0 a 1", "-ERR invalid numkeys value"),
            ("MSETEX 2147483648 a 1", "-ERR invalid numkeys value"),
            ("MSETEX 2147483647 a 1", "-ERR wrong number of key-value pairs"),
            ("MSETEX 2 a 1 b", "-ERR wrong number of key-value pairs"),
            ("MSETEX 1 a 1 NX XX", "-ERR syntax error"),
            ("MSETEX 1 a 1 EX 1 PX 1", "-ERR syntax error"),
            ("MSETEX 1 a 1 EX 0", "-ERR invalid expire time in 'msetex' command"),
            ("MSETEX 1 a 1 GET", "-ERR syntax error"),
        ]);
        bench.shard.check();
    }
}
