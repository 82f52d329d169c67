//! DUMP and RESTORE: values in serialized form (see `persist::rdb`).
#![forbid(unsafe_code)]

use bytes::Bytes;
use tessera_proto::number::parse_i64;

use crate::{
    command::prelude::*,
    keyspace::{Held, Keyspace},
    persist::rdb::{Encoder, Options, Usage, load::usage_bits, payload},
};

/// DUMP key: the value's payload, or null.
pub(super) fn dump(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let options = Options {
        compress: cx.settings.rdb_compression,
        list_max_listpack_size: cx.settings.thresholds.list_max_listpack_size,
    };
    match cx.keyspace.read(&args[1]) {
        Some(entry) => {
            let payload = payload::dump(&mut Encoder::new(options), &entry.body());
            cx.reply.bulk_owned(Bytes::from(payload));
        }
        None => cx.reply.null(),
    }
    Ok(Effect::Unchanged)
}

/// RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds | FREQ frequency].
pub(in crate::command) fn restore(
    cx: &mut Context<'_>,
    args: &Args<'_>,
) -> Result<Effect, CommandError> {
    let options = RestoreOptions::parse(args)?;
    let key = &args[1];
    if !options.replace && cx.keyspace.contains(key) {
        return Err(CommandError::text("BUSYKEY Target key name already exists."));
    }
    let ttl = parse_i64(&args[2]).ok_or(CommandError::NotAnInteger)?;
    if ttl < 0 {
        return Err(CommandError::text("ERR Invalid TTL value, must be >= 0"));
    }
    let content = payload::verify(&args[3])
        .map_err(|_| CommandError::text("ERR DUMP payload version or checksum are wrong"))?;
    let value = payload::value_of(content, &cx.settings.thresholds)
        .map_err(|_| CommandError::text("ERR Bad data format"))?;
    let now_ms = cx.keyspace.now_ms();
    let deadline = match (ttl, options.absolute) {
        (0, _) => None,
        (at, true) => Some(at),
        (span, false) => Some(now_ms.saturating_add(span)),
    };
    let existed = options.replace && cx.keyspace.remove(key);
    cx.reply.ok();
    if deadline.is_some_and(|deadline| deadline <= now_ms) {
        // What would be gone at once is not stored.
        if existed {
            cx.notify(Class::GENERIC, "del", key);
            cx.record(&[b"DEL", key]);
        }
        return Ok(Effect::changed_if(existed));
    }
    let usage = options.usage(cx.keyspace);
    cx.keyspace.slot(key).put_held(Held { value, deadline, usage });
    cx.notify(Class::GENERIC, "restore", key);
    record(cx, args, deadline);
    Ok(Effect::Changed(1))
}

/// Records the command with its deadline made absolute, and over whatever is there.
fn record(cx: &mut Context<'_>, args: &Args<'_>, deadline: Option<i64>) {
    if cx.records() {
        let mut digits = itoa::Buffer::new();
        let at = digits.format(deadline.unwrap_or(0)).as_bytes();
        cx.record(&[b"RESTORE", &args[1], at, &args[3], b"REPLACE", b"ABSTTL"]);
    }
}

/// What follows the payload.
#[derive(Clone, Copy, Debug, Default)]
struct RestoreOptions {
    replace: bool,
    absolute: bool,
    idle_s: Option<u64>,
    frequency: Option<u8>,
}

impl RestoreOptions {
    fn parse(args: &Args<'_>) -> Result<Self, CommandError> {
        let mut options = Self::default();
        let mut rest = args.iter().skip(4);
        while let Some(word) = rest.next() {
            if word.eq_ignore_ascii_case(b"REPLACE") {
                options.replace = true;
            } else if word.eq_ignore_ascii_case(b"ABSTTL") {
                options.absolute = true;
            } else if word.eq_ignore_ascii_case(b"IDLETIME") && options.frequency.is_none() {
                let idle_s = number(rest.next())?;
                options.idle_s =
                    Some(u64::try_from(idle_s).map_err(|_| {
                        CommandError::text("ERR Invalid IDLETIME value, must be >= 0")
                    })?);
            } else if word.eq_ignore_ascii_case(b"FREQ") && options.idle_s.is_none() {
                let frequency = number(rest.next())?;
                options.frequency = Some(u8::try_from(frequency).map_err(|_| {
                    CommandError::text("ERR Invalid FREQ value, must be >= 0 and <= 255")
                })?);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    /// The usage bits of the key.
    fn usage(&self, keyspace: &Keyspace) -> u32 {
        let idle = self.idle_s.map(Usage::IdleSeconds);
        let usage = idle.or(self.frequency.map(Usage::Frequency));
        usage_bits(usage, keyspace.usage_policy(), keyspace.clock())
    }
}

/// The integer behind an option's name, without which that is a word like any other.
fn number(argument: Option<&[u8]>) -> Result<i64, CommandError> {
    let argument = argument.ok_or(CommandError::Syntax)?;
    parse_i64(argument).ok_or(CommandError::NotAnInteger)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        command::testing::{Bench, START_MS},
        shard::Settings,
    };

    /// What DUMP answers for the key.
    fn payload_of(bench: &mut Bench, key: &str) -> Vec<u8> {
        let body = bench.shard.keyspace.peek(key.as_bytes()).expect("a key").body();
        payload::dump(&mut Encoder::new(Options::default()), &body)
    }

    fn restore(bench: &mut Bench, line: &str, payload: &[u8]) -> String {
        let words: Vec<&[u8]> = line
            .split(' ')
            .map(|word| if word == "PAYLOAD" { payload } else { word.as_bytes() })
            .collect();
        bench.call(&words)
    }

    #[test]
    fn a_dump_is_restored_under_another_name() {
        let mut bench = Bench::new();
        bench.expect(&[("SET k hello", "OK"), ("DUMP none", "nil")]);
        let shown = bench.run("DUMP k");
        assert_eq!(shown, r#""\x00\x05hello\n\x00cr\xdfve4 \n""#, "the bytes of redis-server 7.0");
        let payload = payload_of(&mut bench, "k");
        assert_eq!(restore(&mut bench, "RESTORE n 0 PAYLOAD", &payload), "OK");
        bench.expect(&[("GET n", "\"hello\""), ("TTL n", ":-1")]);
    }

    #[test]
    fn errors_come_in_the_order_of_redis() {
        let mut bench = Bench::new();
        bench.run("SET k v");
        let payload = payload_of(&mut bench, "k");
        let newer = {
            let mut content = b"\x00\x01v\xFF\x00".to_vec();
            let sum = crate::persist::rdb::crc64(&content);
            content.extend_from_slice(&sum.to_le_bytes());
            content
        };
        let mut empty = vec![2, 0];
        payload::seal(&mut empty);
        for (line, payload, reply) in [
            ("RESTORE k x PAYLOAD NOW", &payload, "-ERR syntax error"),
            ("RESTORE k x PAYLOAD", &payload, "-BUSYKEY Target key name already exists."),
            ("RESTORE n x PAYLOAD", &payload, "-ERR value is not an integer or out of range"),
            ("RESTORE n -1 PAYLOAD", &payload, "-ERR Invalid TTL value, must be >= 0"),
            (
                "RESTORE n 0 PAYLOAD IDLETIME -1",
                &payload,
                "-ERR Invalid IDLETIME value, must be >= 0",
            ),
            (
                "RESTORE n 0 PAYLOAD FREQ 256",
                &payload,
                "-ERR Invalid FREQ value, must be >= 0 and <= 255",
            ),
            ("RESTORE n 0 PAYLOAD FREQ 1 IDLETIME 1", &payload, "-ERR syntax error"),
            ("RESTORE n 0 PAYLOAD IDLETIME", &payload, "-ERR syntax error"),
            ("RESTORE n 0 x", &payload, "-ERR DUMP payload version or checksum are wrong"),
            ("RESTORE n 0 PAYLOAD", &newer, "-ERR DUMP payload version or checksum are wrong"),
            ("RESTORE n 0 PAYLOAD", &empty, "-ERR Bad data format"),
            ("EXISTS n", &payload, ":0"),
        ] {
            assert_eq!(restore(&mut bench, line, payload), reply, "{line}");
        }
    }

    #[test]
    fn deadlines_are_relative_or_absolute_and_the_past_removes() {
        let mut bench = Bench::new();
        bench.run("SET k v");
        let payload = payload_of(&mut bench, "k");
        assert_eq!(restore(&mut bench, "RESTORE n 1000 PAYLOAD", &payload), "OK");
        assert_eq!(bench.run("PTTL n"), ":1000");
        let line = format!("RESTORE n {} PAYLOAD ABSTTL replace", START_MS + 5_000);
        assert_eq!(restore(&mut bench, &line, &payload), "OK");
        assert_eq!(bench.run("PTTL n"), ":5000");
        let line = format!("RESTORE n {START_MS} PAYLOAD REPLACE ABSTTL");
        assert_eq!(restore(&mut bench, &line, &payload), "OK");
        assert_eq!(bench.run("EXISTS n"), ":0");
        assert_eq!(restore(&mut bench, "RESTORE n 9223372036854775807 PAYLOAD", &payload), "OK");
        assert_eq!(bench.run("EXISTS n"), ":1");
    }

    #[test]
    fn usage_is_taken_over_where_the_policy_keeps_it() {
        let mut bench = Bench::new();
        bench.run("SET k v");
        let payload = payload_of(&mut bench, "k");
        restore(&mut bench, "RESTORE idle 0 PAYLOAD IDLETIME 1000", &payload);
        restore(&mut bench, "RESTORE often 0 PAYLOAD FREQ 100", &payload);
        bench.expect(&[("OBJECT IDLETIME idle", ":1000"), ("OBJECT IDLETIME often", ":0")]);

        let mut bench = Bench::with(Settings { lfu: true, ..Settings::default() });
        restore(&mut bench, "RESTORE often 0 PAYLOAD FREQ 100", &payload);
        restore(&mut bench, "RESTORE idle 0 PAYLOAD IDLETIME 1000", &payload);
        bench.expect(&[("OBJECT FREQ often", ":100"), ("OBJECT FREQ idle", ":5")]);
    }
}
