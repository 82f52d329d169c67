//! Commands of the server: its configuration and figures, the command table's description of
//! itself, and what concerns whole databases.
//!
//! Rows that end in `session` are executed by the server, in `server/src/session_commands`.
#![forbid(unsafe_code)]

use tessera_proto::number::{i64_len, parse_i64};

use super::{
    generic::{check_database, parse_database_number, restore},
    prelude::*,
};
use crate::{
    keyspace::{Body, usage::idle_seconds},
    value::{Object, encoding_name, outside_bytes},
};

/// What a key takes in the table besides its entry: eight bytes and a fingerprint at a load of 0.85.
const SLOT_BYTES: usize = 11;
/// Harmless at any time.
const ANY_TIME: u32 = LOADING | STALE;
/// For operators, at any time.
const OPERATOR: u32 = ADMIN | NOSCRIPT | LOADING | STALE;
/// The command table about itself.
const TABLE: u32 = LOADING | STALE | CONNECTION;
const READS_KEY: KeySpec = KeySpec::SECOND.used(Access::RO);

commands! { Server;
    /// Writes the append-only log anew, as short as it can be.
    "bgrewriteaof" "1.0.0", Exactly(1), ADMIN | NOSCRIPT, KeySpec::NONE, Session, session;
    /// Saves the keys to a file while clients are served.
    "bgsave" "1.0.0", AtLeast(1), ADMIN | NOSCRIPT, KeySpec::NONE, Session, session;
    /// Describes all commands.
    "command" "2.8.13", AtLeast(1), TABLE, KeySpec::NONE, Session, [
        /// Answers how many commands there are.
        "count" "2.8.13", Exactly(2), TABLE, KeySpec::NONE, Session, session;
        /// Documents one, several or all commands.
        "docs" "7.0.0", AtLeast(2), TABLE, KeySpec::NONE, Session, session;
        /// Extracts the keys from a full command line.
        "getkeys" "2.8.13", AtLeast(3), TABLE, KeySpec::NONE, Session, session;
        /// Extracts the keys from a full command line, with what is done to each.
        "getkeysandflags" "7.0.0", AtLeast(3), TABLE, KeySpec::NONE, Session, session;
        /// Lists the subcommands.
        "help" "5.0.0", Exactly(2), TABLE, KeySpec::NONE, Session, session;
        /// Describes one, several or all commands.
        "info" "2.8.13", AtLeast(2), TABLE, KeySpec::NONE, Session, session;
        /// Lists the names of commands, all or filtered.
        "list" "7.0.0", AtLeast(2), TABLE, KeySpec::NONE, Session, session;
    ];
    /// Commands about the configuration.
    "config" "2.0.0", AtLeast(2), NONE, KeySpec::NONE, Session, [
        /// Answers the options whose names match a pattern, with their values.
        "get" "2.0.0", AtLeast(3), OPERATOR, KeySpec::NONE, Session, session;
        /// Lists the subcommands.
        "help" "5.0.0", Exactly(2), ANY_TIME, KeySpec::NONE, Session, session;
        /// Sets the counters that INFO shows back to zero.
        "resetstat" "2.0.0", Exactly(2), OPERATOR, KeySpec::NONE, Session, session;
        /// Writes the options in force to the configuration file.
        "rewrite" "2.8.0", Exactly(2), OPERATOR, KeySpec::NONE, Session, session;
        /// Changes options while the server runs.
        "set" "2.0.0", AtLeast(4), OPERATOR, KeySpec::NONE, Session, session;
    ];
    /// Answers how many keys the database holds.
    "dbsize" "1.0.0", Exactly(1), READONLY | FAST | KEYSPACE, KeySpec::NONE, SumOfShards, dbsize;
    /// Commands for tests and for finding faults.
    "debug" "1.0.0", AtLeast(2), OPERATOR, KeySpec::NONE, Session, [
        /// Draws a new replication id.
        "change-repl-id" "3.2.0", Exactly(2), OPERATOR, KeySpec::NONE, Session, session;
        /// Lists the subcommands.
        "help" "3.2.0", Exactly(2), OPERATOR, KeySpec::NONE, Session, session;
        /// Answers figures of the hash table behind a value.
        "htstats-key" "3.2.0", AtLeast(3), OPERATOR | READONLY, READS_KEY, Owner, debug_htstats_key;
        /// Would show the memory of a virtual machine that does not exist.
        "jmap" "3.2.0", AtLeast(2), OPERATOR, KeySpec::NONE, Session, session;
        /// Shows how a listpack encodes its elements.
        "listpack" "7.0.0", Exactly(3), OPERATOR | READONLY, READS_KEY, Owner, debug_listpack;
        /// Shows how a key's value is kept.
        "object" "1.0.0", AtLeast(3), OPERATOR | READONLY, READS_KEY, Owner, debug_object;
        /// Sets the size from which a list's element is kept apart.
        "quicklist-packed-threshold" "7.0.0", Exactly(3), OPERATOR, KeySpec::NONE, Session, session;
        /// Saves the keys and loads them again.
        "reload" "1.0.0", AtLeast(2), OPERATOR, KeySpec::NONE, Session, session;
        /// Turns the removal of expired keys in the background on or off.
        "set-active-expire" "3.2.0", Exactly(3), OPERATOR, KeySpec::NONE, Session, session;
        /// Stops the whole server for so many seconds.
        "sleep" "2.8.0", Exactly(3), OPERATOR, KeySpec::NONE, Session, session;
        /// Matches a pattern against a long string.
        "stringmatch-len" "6.0.0", Exactly(4), OPERATOR, KeySpec::NONE, Session, session;
    ];
    /// Removes the keys of all databases.
    "flushall" "1.0.0", AtLeast(1), WRITE | KEYSPACE | DANGEROUS, KeySpec::NONE, AllShardsOk, flushall;
    /// Removes the keys of the database.
    "flushdb" "1.0.0", AtLeast(1), WRITE | KEYSPACE | DANGEROUS, KeySpec::NONE, AllShardsOk, flushdb;
    /// Answers figures about the server, in sections.
    "info" "1.0.0", AtLeast(1), ANY_TIME | DANGEROUS, KeySpec::NONE, Session, session;
    /// Answers when the keys were last saved to a file, in seconds since 1970.
    "lastsave" "1.0.0", Exactly(1), ANY_TIME | FAST | DANGEROUS, KeySpec::NONE, Session, session;
    /// Commands about what took long.
    "latency" "2.8.13", AtLeast(2), NONE, KeySpec::NONE, Session, [
        /// Describes in words what the latency monitor has seen.
        "doctor" "2.8.13", Exactly(2), OPERATOR, KeySpec::NONE, Session, session;
        /// Draws the times of one kind of event.
        "graph" "2.8.13", Exactly(3), OPERATOR, KeySpec::NONE, Session, session;
        /// Lists the subcommands.
        "help" "2.8.13", Exactly(2), ANY_TIME, KeySpec::NONE, Session, session;
        /// Answers how many calls of commands took how long.
        "histogram" "7.0.0", AtLeast(2), OPERATOR, KeySpec::NONE, Session, session;
        /// Answers the times of one kind of event.
        "history" "2.8.13", Exactly(3), OPERATOR, KeySpec::NONE, Session, session;
        /// Answers the last time of each kind of event.
        "latest" "2.8.13", Exactly(2), OPERATOR, KeySpec::NONE, Session, session;
        /// Forgets events, all or of some kinds.
        "reset" "2.8.13", AtLeast(2), OPERATOR, KeySpec::NONE, Session, session;
    ];
    /// Draws a picture and names the version.
    "lolwut" "5.0.0", AtLeast(1), READONLY | FAST, KeySpec::NONE, Session, session;
    /// Commands about memory.
    "memory" "4.0.0", AtLeast(2), NONE, KeySpec::NONE, Session, [
        /// Describes in words what is wrong with the use of memory.
        "doctor" "4.0.0", Exactly(2), NONE, KeySpec::NONE, Session, session;
        /// Lists the subcommands.
        "help" "4.0.0", Exactly(2), ANY_TIME, KeySpec::NONE, Session, session;
        /// Answers figures of the allocator.
        "malloc-stats" "4.0.0", Exactly(2), NONE, KeySpec::NONE, Session, session;
        /// Asks the allocator to give back what is free.
        "purge" "4.0.0", Exactly(2), NONE, KeySpec::NONE, Session, session;
        /// Answers what memory is used for.
        "stats" "4.0.0", Exactly(2), NONE, KeySpec::NONE, Session, session;
        /// Answers the bytes of memory that a key and its value take.
        "usage" "4.0.0", AtLeast(3), READONLY, READS_KEY, Owner, memory_usage;
    ];
    /// Makes a key of a value in serialized form that comes from another node of a cluster.
    "restore-asking" "3.0.0", AtLeast(4), WRITE | DENYOOM | DANGEROUS | ASKING | KEYSPACE, KeySpec::FIRST.used(Access::OW.with(Access::UPDATE)), Owner, restore;
    /// Saves the keys to a file and answers when that is done.
    "save" "1.0.0", Exactly(1), ADMIN | NOSCRIPT | NO_MULTI, KeySpec::NONE, Session, session;
    /// Shows all commands that are executed from now on.
    "monitor" "1.0.0", Exactly(1), OPERATOR, KeySpec::NONE, Session, session;
    /// Ends the server.
    "shutdown" "1.0.0", AtLeast(1), OPERATOR | NO_MULTI | ALLOW_BUSY, KeySpec::NONE, Session, session;
    /// Commands about the log of slow commands.
    "slowlog" "2.2.12", AtLeast(2), NONE, KeySpec::NONE, Session, [
        /// Answers the newest entries.
        "get" "2.2.12", AtLeast(2), OPERATOR, KeySpec::NONE, Session, session;
        /// Lists the subcommands.
        "help" "6.2.0", Exactly(2), ANY_TIME, KeySpec::NONE, Session, session;
        /// Answers how many entries there are.
        "len" "2.2.12", Exactly(2), OPERATOR, KeySpec::NONE, Session, session;
        /// Forgets all entries.
        "reset" "2.2.12", Exactly(2), OPERATOR, KeySpec::NONE, Session, session;
    ];
    /// Exchanges the contents of two databases.
    "swapdb" "4.0.0", Exactly(3), WRITE | FAST | KEYSPACE | DANGEROUS, KeySpec::NONE, AllShardsOk, swapdb;
    /// Answers the server's time: seconds since 1970, and microseconds.
    "time" "2.6.0", Exactly(1), ANY_TIME | FAST, KeySpec::NONE, Session, session;
}

/// DBSIZE.
fn dbsize(cx: &mut Context<'_>, _: &Args<'_>) -> Result<Effect, CommandError> {
    let selected = cx.keyspace.selected();
    cx.reply.count(cx.keyspace.len(selected));
    Ok(Effect::Unchanged)
}

/// FLUSHALL [ASYNC | SYNC].
fn flushall(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    check_flush_options(args)?;
    let removed: usize = (0..cx.keyspace.database_count()).map(|db| cx.keyspace.flush(db)).sum();
    cx.reply.ok();
    Ok(Effect::count(removed as u64))
}

/// FLUSHDB [ASYNC | SYNC].
fn flushdb(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    check_flush_options(args)?;
    let removed = cx.keyspace.flush(cx.keyspace.selected());
    cx.reply.ok();
    Ok(Effect::count(removed as u64))
}

/// The keys are gone at once either way, and their memory is freed in slices either way: freeing it
/// before the reply would stall everybody else.
fn check_flush_options(args: &Args<'_>) -> Result<(), CommandError> {
    let known = |word: &[u8]| [&b"ASYNC"[..], b"SYNC"].iter().any(|w| word.eq_ignore_ascii_case(w));
    match args.get(1) {
        Some(word) if args.len() > 2 || !known(word) => Err(CommandError::Syntax),
        _ => Ok(()),
    }
}

/// SWAPDB first second.
fn swapdb(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    // That both are numbers is checked before whether there are such databases.
    let number = |at: usize, invalid: &'static str| {
        parse_database_number(&args[at]).ok_or(CommandError::text(invalid))
    };
    let first = number(1, "ERR invalid first DB index")?;
    let second = number(2, "ERR invalid second DB index")?;
    let first = check_database(cx.keyspace, first)?;
    let second = check_database(cx.keyspace, second)?;
    cx.keyspace.swap(first, second);
    cx.reply.ok();
    Ok(Effect::Changed(1))
}

/// MEMORY USAGE key [SAMPLES count]: bytes, all elements counted whatever the number of samples.
fn memory_usage(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    for (at, word) in args.iter().enumerate().skip(3).step_by(2) {
        let samples = args.get(at + 1).ok_or(CommandError::Syntax)?;
        if !word.eq_ignore_ascii_case(b"SAMPLES") {
            return Err(CommandError::Syntax);
        }
        if parse_i64(samples).ok_or(CommandError::NotAnInteger)? < 0 {
            return Err(CommandError::Syntax);
        }
    }
    match cx.keyspace.peek(&args[2]) {
        Some(entry) => {
            let outside = outside_bytes(&entry.body());
            cx.reply.count(entry.allocated_bytes() + outside + SLOT_BYTES);
        }
        None => cx.reply.null(),
    }
    Ok(Effect::Unchanged)
}

/// DEBUG OBJECT key: a status line with fields that tools parse.
fn debug_object(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let clock = cx.keyspace.clock();
    let entry = cx.keyspace.peek(&args[2]).ok_or(CommandError::NoSuchKey)?;
    let body = entry.body();
    cx.reply.simple(&format!(
        "Value at:{:p} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{}",
        entry.key().as_ptr(),
        encoding_name(&body),
        serialized_len(&body),
        entry.lru(),
        idle_seconds(entry.lru(), clock),
    ));
    Ok(Effect::Unchanged)
}

/// Bytes that the value would take in a dump, uncompressed.
fn serialized_len(body: &Body<'_, Object>) -> usize {
    let with_length = |len: usize| {
        len + if len < 1 << 6 {
            1
        } else if len < 1 << 14 {
            2
        } else {
            5
        }
    };
    match *body {
        Body::Int(number) if i8::try_from(number).is_ok() => 2,
        Body::Int(number) if i16::try_from(number).is_ok() => 3,
        Body::Int(number) if i32::try_from(number).is_ok() => 5,
        Body::Int(number) => with_length(i64_len(number)),
        Body::Inline { bytes, .. } => with_length(bytes.len()),
        Body::Object(Object::String(bytes)) => with_length(bytes.len()),
        Body::Object(object) => object.memory_bytes(),
    }
}

/// DEBUG LISTPACK key.
fn debug_listpack(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    cx.keyspace.peek(&args[2]).ok_or(CommandError::NoSuchKey)?;
    Err(CommandError::text("ERR Not a listpack encoded object."))
}

/// DEBUG HTSTATS-KEY key [FULL].
fn debug_htstats_key(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    cx.keyspace.peek(&args[2]).ok_or(CommandError::NoSuchKey)?;
    Err(CommandError::text(
        "ERR The value stored at the specified key is not represented using an hash table",
    ))
}

#[cfg(test)]
mod tests {
    use crate::{command::testing::Bench, value::INLINE_STRING_BYTES_MAX};

    #[test]
    fn memory_usage_grows_with_the_value() {
        let mut bench = Bench::new();
        let mut usage = |len: usize| {
            bench.run(&format!("SET k {}", "x".repeat(len)));
            let reply = bench.run("MEMORY USAGE k");
            reply[1..].parse::<usize>().expect("an integer")
        };
        for len in [1, 100, INLINE_STRING_BYTES_MAX, INLINE_STRING_BYTES_MAX + 1, 100_000] {
            let bytes = usage(len);
            assert!((len..len + len / 8 + 100).contains(&bytes), "{bytes} for {len}");
        }
        bench.expect(&[
            ("MEMORY USAGE none", "nil"),
            ("MEMORY USAGE none SAMPLES 0", "nil"),
            ("MEMORY USAGE none SAMPLES -1", "-ERR syntax error"),
            ("MEMORY USAGE none SAMPLES", "-ERR syntax error"),
            ("MEMORY USAGE none SAMPLES x", "-ERR value is not an integer or out of range"),
            ("MEMORY USAGE none BAD 1", "-ERR syntax error"),
        ]);
    }

    #[test]
    fn debug_object_shows_the_fields_that_tools_parse() {
        let mut bench = Bench::new();
        for (value, encoding, len) in
            [("7", "int", 2), ("300", "int", 3), ("70000", "int", 5), ("hello", "embstr", 6)]
        {
            bench.run(&format!("SET k {value}"));
            bench.pass_ms(2_000);
            let shown = bench.run("DEBUG OBJECT k");
            let wanted = format!("refcount:1 encoding:{encoding} serializedlength:{len} lru:");
            assert!(shown.starts_with("Value at:0x") && shown.contains(&wanted), "{shown}");
            assert!(shown.ends_with("lru_seconds_idle:2"), "{shown}");
        }
        bench.expect(&[
            ("DEBUG OBJECT none", "-ERR no such key"),
            ("DEBUG LISTPACK none", "-ERR no such key"),
            ("DEBUG LISTPACK k", "-ERR Not a listpack encoded object."),
            ("DEBUG HTSTATS-KEY none", "-ERR no such key"),
        ]);
    }
}
