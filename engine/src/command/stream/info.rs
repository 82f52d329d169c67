//! XINFO: figures about streams, groups and consumers.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use super::{bad_subcommand, no_group_of, read, reply_entries, reply_entry, reply_id};
use crate::{
    command::{help, prelude::*},
    types::{
        Stream, StreamId,
        stream::{Consumer, Entry, Group},
    },
};

/// Entries and pending entries that XINFO STREAM FULL shows unless COUNT says otherwise.
const COUNT_DEFAULT: usize = 10;

/// XINFO STREAM key [FULL [COUNT count]].
pub(super) fn xinfo_stream(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let stream = read(cx.keyspace, &args[2])?.ok_or(CommandError::NoSuchKey)?;
    let full = parse_full(args)?;
    let reply = &mut cx.reply;
    reply.map(if full.is_some() { 9 } else { 10 });
    reply_figures(reply, stream);
    match full {
        Some(count) => reply_full(reply, stream, count),
        None => {
            let (entries, end) = (&stream.entries, StreamId::MAX);
            field(reply, "groups");
            reply.count(stream.group_count());
            field(reply, "first-entry");
            reply_one(reply, entries.range(StreamId::MIN, end).next());
            field(reply, "last-entry");
            reply_one(reply, entries.range_back(StreamId::MIN, end).next());
        }
    }
    Ok(Effect::Unchanged)
}

/// XINFO GROUPS key.
pub(super) fn xinfo_groups(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let stream = read(cx.keyspace, &args[2])?.ok_or(CommandError::NoSuchKey)?;
    let reply = &mut cx.reply;
    reply.array(stream.group_count());
    for (name, group) in stream.groups() {
        reply.map(6);
        field(reply, "name");
        reply.bulk(name);
        field(reply, "consumers");
        reply.count(group.consumer_count());
        field(reply, "pending");
        reply.count(group.pending_len());
        reply_progress(reply, stream, group);
    }
    Ok(Effect::Unchanged)
}

/// XINFO CONSUMERS key group.
pub(super) fn xinfo_consumers(
    cx: &mut Context<'_>,
    args: &Args<'_>,
) -> Result<Effect, CommandError> {
    let now_ms = cx.keyspace.now_ms();
    let (key, name) = (&args[2], &args[3]);
    let stream = read(cx.keyspace, key)?.ok_or(CommandError::NoSuchKey)?;
    let group = stream.group(name).ok_or_else(|| no_group_of(key, name))?;
    let reply = &mut cx.reply;
    reply.array(group.consumer_count());
    for consumer in group.consumers() {
        reply.map(4);
        field(reply, "name");
        reply.bulk(consumer.name());
        field(reply, "pending");
        reply.count(consumer.pending_len());
        field(reply, "idle");
        reply.integer(idle_ms(consumer, now_ms));
        field(reply, "inactive");
        reply.integer(consumer.active_ms.map_or(-1, |active_ms| now_ms - active_ms));
    }
    Ok(Effect::Unchanged)
}

/// XINFO HELP.
pub(super) fn xinfo_help(cx: &mut Context<'_>, _: &Args<'_>) -> Result<Effect, CommandError> {
    help::reply(
        &mut cx.reply,
        "XINFO",
        &[
            ("CONSUMERS <key> <groupname>", "List the consumers of the group."),
            ("GROUPS <key>", "List the groups of the stream."),
            ("STREAM <key> [FULL [COUNT <count>]]", "Answer figures about the stream."),
        ],
    );
    Ok(Effect::Unchanged)
}

/// Whether XINFO STREAM is to show all, and how many entries of each list; 0 for all of them.
fn parse_full(args: &Args<'_>) -> Result<Option<usize>, CommandError> {
    let is = |at: usize, word: &[u8]| args[at].eq_ignore_ascii_case(word);
    match args.len() {
        3 => Ok(None),
        4 if is(3, b"FULL") => Ok(Some(COUNT_DEFAULT)),
        6 if is(3, b"FULL") && is(4, b"COUNT") => {
            let count = parse_i64(&args[5]).ok_or(CommandError::NotAnInteger)?;
            Ok(Some(usize::try_from(count).unwrap_or(COUNT_DEFAULT)))
        }
        _ => Err(bad_subcommand("XINFO", &args[1])),
    }
}

fn field(reply: &mut ReplyWriter<'_>, name: &str) {
    reply.bulk(name.as_bytes());
}

/// What both forms of XINFO STREAM begin with.
fn reply_figures(reply: &mut ReplyWriter<'_>, stream: &Stream) {
    let entries = &stream.entries;
    field(reply, "length");
    reply.integer(entries.len() as i64);
    // The tree here is not a radix tree; its blocks are what that holds as keys.
    field(reply, "radix-tree-keys");
    reply.count(entries.block_count());
    field(reply, "radix-tree-nodes");
    reply.count(entries.block_count() + 1);
    field(reply, "last-generated-id");
    reply_id(reply, entries.last_id);
    field(reply, "max-deleted-entry-id");
    reply_id(reply, entries.max_deleted_id);
    field(reply, "entries-added");
    reply.integer(entries.added as i64);
    field(reply, "recorded-first-entry-id");
    reply_id(reply, entries.first_id());
}

fn reply_one(reply: &mut ReplyWriter<'_>, entry: Option<Entry<'_>>) {
    match entry {
        Some(entry) => reply_entry(reply, &entry),
        None => reply.null(),
    }
}

/// How far a group has read.
fn reply_progress(reply: &mut ReplyWriter<'_>, stream: &Stream, group: &Group) {
    field(reply, "last-delivered-id");
    reply_id(reply, group.last_id);
    field(reply, "entries-read");
    match group.entries_read {
        Some(read) => reply.integer(read as i64),
        None => reply.null(),
    }
    field(reply, "lag");
    match group.lag(&stream.entries) {
        Some(lag) => reply.integer(lag),
        None => reply.null(),
    }
}

/// Entries, groups and consumers, at most `count` entries of each list.
fn reply_full(reply: &mut ReplyWriter<'_>, stream: &Stream, count: usize) {
    let count = Some(count).filter(|&count| count > 0);
    field(reply, "entries");
    reply_entries(reply, stream.entries.range(StreamId::MIN, StreamId::MAX), count);
    field(reply, "groups");
    reply.array(stream.group_count());
    for (name, group) in stream.groups() {
        reply.map(7);
        field(reply, "name");
        reply.bulk(name);
        reply_progress(reply, stream, group);
        field(reply, "pel-count");
        reply.count(group.pending_len());
        field(reply, "pending");
        let shown = count.unwrap_or(usize::MAX);
        reply.array(group.pending_len().min(shown));
        for (id, pending) in group.pending_from(StreamId::MIN).take(shown) {
            reply.array(4);
            reply_id(reply, id);
            let owner = group.consumer(pending.consumer);
            reply.bulk(owner.map_or(&[][..], |owner| owner.name()));
            reply.integer(pending.delivered_ms);
            reply.integer(pending.deliveries as i64);
        }
        field(reply, "consumers");
        reply.array(group.consumer_count());
        group.consumers().for_each(|consumer| reply_consumer(reply, group, consumer, shown));
    }
}

fn reply_consumer(reply: &mut ReplyWriter<'_>, group: &Group, consumer: &Consumer, shown: usize) {
    reply.map(5);
    field(reply, "name");
    reply.bulk(consumer.name());
    field(reply, "seen-time");
    reply.integer(consumer.seen_ms);
    field(reply, "active-time");
    reply.integer(consumer.active_ms.unwrap_or(-1));
    field(reply, "pel-count");
    reply.count(consumer.pending_len());
    field(reply, "pending");
    reply.array(consumer.pending_len().min(shown));
    for id in consumer.pending_from(StreamId::MIN).take(shown) {
        let pending = group.pending(id);
        reply.array(3);
        reply_id(reply, id);
        reply.integer(pending.map_or(0, |pending| pending.delivered_ms));
        reply.integer(pending.map_or(0, |pending| pending.deliveries as i64));
    }
}

/// Milliseconds since the consumer was last seen; 0 where that is not known, as after a restart.
fn idle_ms(consumer: &Consumer, now_ms: i64) -> i64 {
    if consumer.seen_ms == 0 { 0 } else { (now_ms - consumer.seen_ms).max(0) }
}
