//! XREAD and XREADGROUP.
//!
//! All streams and ids are looked at before the first stream is served, so that a command that fails
//! has read nothing. A command that finds nothing waits, if it is to
//! and may.
#![forbid(unsafe_code)]

use smallvec::SmallVec;
use tessera_proto::{Protocol, number::parse_i64, reply::Deferred};

use super::{
    ids::parse_strict,
    of, read,
    record::{GroupChanges, GroupName},
    reply_entry, reply_id,
};
use crate::{
    command::{prelude::*, waiting::parse_ms},
    types::{
        StreamId,
        stream::{ConsumerId, Entries, Group, Pending},
    },
    value::Object,
};

/// The positions of the keys of XREAD and XREADGROUP: the first half of what is behind STREAMS.
pub(super) fn stream_keys(args: &Args<'_>, positions: &mut Vec<usize>) -> Result<(), CommandError> {
    let mut at = 1;
    while let Some(word) = args.get(at) {
        at += match word {
            _ if word.eq_ignore_ascii_case(b"STREAMS") => {
                let count = args.len() - at - 1;
                if count == 0 || count % 2 == 1 {
                    return Err(CommandError::Syntax);
                }
                positions.extend(at + 1..=at + count / 2);
                return Ok(());
            }
            _ if word.eq_ignore_ascii_case(b"NOACK") => 1,
            _ if word.eq_ignore_ascii_case(b"COUNT") || word.eq_ignore_ascii_case(b"BLOCK") => 2,
            _ if word.eq_ignore_ascii_case(b"GROUP") => 3,
            _ => return Err(CommandError::Syntax),
        };
    }
    Err(CommandError::Syntax)
}

/// XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key …] id [id …].
pub(super) fn xread(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let query = ReadQuery::parse(args, Form::Plain, cx.keyspace.now_ms())?;
    let mut after = SmallVec::<[StreamId; 8]>::new();
    for (key, id) in query.streams(args) {
        let last_id = read(cx.keyspace, key)?.map(|stream| stream.entries.last_id);
        after.push(plain_start(id, last_id)?);
    }
    let mut served = Served::default();
    for ((key, _), after) in query.streams(args).zip(after) {
        let Some(entry) = cx.keyspace.peek(key) else { continue };
        let entries = &of(entry.body())?.entries;
        if let Some(start) = after.next().filter(|_| entries.has_after(after)) {
            served.begin(&mut cx.reply, key);
            let range = entries.range(start, StreamId::MAX);
            super::reply_entries(&mut cx.reply, range, query.count);
        }
    }
    Ok(served.finish(cx, &query, 0))
}

/// XREADGROUP GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key …]
/// id [id …].
pub(super) fn xreadgroup(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let query = ReadQuery::parse(args, Form::Group, cx.keyspace.now_ms())?;
    let Some((group, consumer)) = query.group else {
        return Err(CommandError::text("ERR Missing GROUP option for XREADGROUP"));
    };
    let mut starts = SmallVec::<[GroupStart; 8]>::new();
    for (key, id) in query.streams(args) {
        let stream = read(cx.keyspace, key)?;
        if stream.is_none_or(|stream| stream.group(group).is_none()) {
            return Err(no_group_to_read(key, group));
        }
        starts.push(GroupStart::parse(id)?);
    }
    let mut served = Served::default();
    let mut changes = 0;
    for ((key, _), start) in query.streams(args).zip(starts) {
        let reader = GroupReader { query: &query, start, key, name: consumer };
        changes += reader.serve(cx, group, &mut served);
    }
    Ok(served.finish(cx, &query, changes))
}

/// Which of the two commands is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// XREAD.
    Plain,
    /// XREADGROUP.
    Group,
}

/// What a client wants to read.
pub(super) struct ReadQuery<'a> {
    /// Most entries of each stream; all if there is none.
    count: Option<usize>,
    /// BLOCK: how long to wait if there is nothing, in milliseconds; 0 for ever.
    block_ms: Option<i64>,
    /// The group and the consumer.
    pub(super) group: Option<(&'a [u8], &'a [u8])>,
    no_ack: bool,
    /// Position of the first key.
    pub(super) first_key: usize,
    /// Number of keys; as many ids follow them.
    pub(super) keys: usize,
}

impl<'a> ReadQuery<'a> {
    /// That of a command that waits: its arguments have been read before.
    pub(super) fn of_waiting(args: &Args<'a>, form: Form) -> Option<Self> {
        Self::parse(args, form, 0).ok()
    }

    fn parse(args: &Args<'a>, form: Form, now_ms: i64) -> Result<Self, CommandError> {
        let (mut count, mut block_ms, mut group, mut no_ack) = (None, None, None, false);
        let mut at = 1;
        while let Some(word) = args.get(at) {
            let more = args.len() - at - 1;
            if word.eq_ignore_ascii_case(b"BLOCK") && more > 0 {
                block_ms = Some(parse_ms(&args[at + 1], now_ms)?);
                at += 2;
            } else if word.eq_ignore_ascii_case(b"COUNT") && more > 0 {
                let number = parse_i64(&args[at + 1]).ok_or(CommandError::NotAnInteger)?;
                count = usize::try_from(number).ok().filter(|&count| count > 0);
                at += 2;
            } else if word.eq_ignore_ascii_case(b"STREAMS") && more > 0 {
                if more % 2 == 1 {
                    return Err(unbalanced(form));
                }
                let (first_key, keys) = (at + 1, more / 2);
                return Ok(Self { count, block_ms, group, no_ack, first_key, keys });
            } else if word.eq_ignore_ascii_case(b"GROUP") && more >= 2 {
                only_with_groups(form, "GROUP")?;
                group = args.get(at + 1).zip(args.get(at + 2));
                at += 3;
            } else if word.eq_ignore_ascii_case(b"NOACK") {
                only_with_groups(form, "NOACK")?;
                no_ack = true;
                at += 1;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Err(CommandError::Syntax)
    }

    /// The keys with their ids.
    pub(super) fn streams(
        &self,
        args: &Args<'a>,
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let (keys, ids) = (args.tail(self.first_key), args.tail(self.first_key + self.keys));
        keys.iter().zip(ids.iter())
    }
}

/// The reply, which is begun when the first stream has something.
#[derive(Default)]
struct Served {
    reply: Option<Deferred>,
    streams: usize,
}

impl Served {
    /// Begins the part of the stream at `key`.
    fn begin(&mut self, reply: &mut ReplyWriter<'_>, key: &[u8]) {
        if self.reply.is_none() {
            self.reply = Some(reply.deferred());
        }
        self.streams += 1;
        if reply.protocol() == Protocol::Resp2 {
            reply.array(2);
        }
        reply.bulk(key);
    }

    /// Ends the reply of a command that made so many changes; without a single stream it waits, if it
    /// is to and may.
    fn finish(self, cx: &mut Context<'_>, query: &ReadQuery<'_>, changes: u64) -> Effect {
        match self.reply {
            None if query.block_ms.is_some() && cx.may_wait => return Effect::Waits(changes),
            None => cx.reply.null_array(),
            Some(begun) if cx.reply.protocol() == Protocol::Resp2 => {
                cx.reply.finish_array(begun, self.streams);
            }
            Some(begun) => cx.reply.finish_map(begun, self.streams),
        }
        Effect::count(changes)
    }
}

/// The id behind which XREAD reads.
fn plain_start(id: &[u8], last_id: Option<StreamId>) -> Result<StreamId, CommandError> {
    match id {
        b"$" => Ok(last_id.unwrap_or_default()),
        b"+" => last_id.map_or(Ok(StreamId::MIN), |last| {
            last.previous().ok_or(CommandError::text("ERR the stream last element ID is 0-0"))
        }),
        b">" => Err(CommandError::text(
            "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> \
             <consumer> option.",
        )),
        _ => parse_strict(id, 0),
    }
}

/// Where XREADGROUP reads.
#[derive(Clone, Copy)]
enum GroupStart {
    /// What the group has not read.
    New,
    /// What the consumer has not acknowledged, behind this id.
    History(StreamId),
}

impl GroupStart {
    fn parse(id: &[u8]) -> Result<Self, CommandError> {
        match id {
            b">" => Ok(Self::New),
            b"$" | b"+" => Err(CommandError::text(format!(
                "ERR The {} ID is meaningless in the context of XREADGROUP: you want to read the \
                 history of this consumer by specifying a proper ID, or use the > ID to get new \
                 messages. The {0} ID would just return an empty result set.",
                char::from(id[0])
            ))),
            _ => match parse_strict(id, 0)? {
                StreamId::MAX => Ok(Self::New),
                id => Ok(Self::History(id)),
            },
        }
    }
}

/// One consumer at one stream.
struct GroupReader<'q, 'a> {
    query: &'q ReadQuery<'a>,
    start: GroupStart,
    key: &'a [u8],
    name: &'a [u8],
}

impl GroupReader<'_, '_> {
    /// Serves the stream; how many changes that made.
    fn serve(&self, cx: &mut Context<'_>, group: &[u8], served: &mut Served) -> u64 {
        let mut changes = GroupChanges::new(cx);
        let now_ms = cx.keyspace.now_ms();
        let Context { keyspace, reply, .. } = cx;
        keyspace.slot(self.key).change_object(|object| {
            let Object::Stream(stream) = object else { return };
            stream.change_group(group, |entries, group| {
                let (consumer, created) = group.consumer_or_new(self.name, now_ms);
                group.saw(consumer, now_ms);
                changes.created = created;
                let changes = &mut changes;
                let mut turn = Turn { entries, group, consumer, now_ms, reply, changes };
                self.take_turn(&mut turn, served);
            });
        });
        if changes.created {
            cx.notify(Class::STREAM, "xgroup-createconsumer", self.key);
        }
        changes.record(cx, GroupName { key: self.key, group }, self.name)
    }

    fn take_turn(&self, turn: &mut Turn<'_, '_>, served: &mut Served) {
        let count = self.query.count.unwrap_or(usize::MAX);
        match self.start {
            GroupStart::History(after) => {
                served.begin(turn.reply, self.key);
                turn.history(after, count);
            }
            GroupStart::New if turn.entries.has_after(turn.group.last_id) => {
                served.begin(turn.reply, self.key);
                turn.deliver(count, self.query.no_ack);
            }
            GroupStart::New => {}
        }
    }
}

/// A consumer's turn at its group.
struct Turn<'t, 'r> {
    entries: &'t Entries,
    group: &'t mut Group,
    consumer: ConsumerId,
    now_ms: i64,
    reply: &'t mut ReplyWriter<'r>,
    changes: &'t mut GroupChanges,
}

impl Turn<'_, '_> {
    /// Delivers up to `count` of the entries that the group has not read.
    fn deliver(&mut self, count: usize, no_ack: bool) {
        let start = self.group.last_id.next().unwrap_or(StreamId::MAX);
        let array = self.reply.deferred();
        let mut len = 0;
        for entry in self.entries.range(start, StreamId::MAX).take(count) {
            self.group.advance(self.entries, entry.id);
            reply_entry(self.reply, &entry);
            len += 1;
            if !no_ack {
                let delivered_ms = self.now_ms;
                self.assign(
                    entry.id,
                    Pending { consumer: self.consumer, delivered_ms, deliveries: 1 },
                );
            }
        }
        self.reply.finish_array(array, len);
        if !no_ack {
            self.group.got(self.consumer, self.now_ms);
        }
        self.changes.moved(self.group);
    }

    /// Delivers again up to `count` of what the consumer has not acknowledged behind `after`.
    fn history(&mut self, after: StreamId, count: usize) {
        let start = after.next().unwrap_or(StreamId::MAX);
        let consumer = self.group.consumer(self.consumer);
        let ids: Vec<StreamId> = consumer
            .map(|consumer| consumer.pending_from(start).take(count).collect())
            .unwrap_or_default();
        self.reply.array(ids.len());
        for id in ids {
            let Some((entry, before)) = self.entries.get(id).zip(self.group.pending(id)) else {
                // Pending, and deleted since.
                self.reply.array(2);
                reply_id(self.reply, id);
                self.reply.null_array();
                continue;
            };
            reply_entry(self.reply, &entry);
            let deliveries = before.deliveries.saturating_add(1);
            self.assign(id, Pending { delivered_ms: self.now_ms, deliveries, ..before });
        }
    }

    fn assign(&mut self, id: StreamId, pending: Pending) {
        self.group.assign(id, pending);
        self.changes.pending(self.group, id, pending);
    }
}

fn only_with_groups(form: Form, option: &str) -> Result<(), CommandError> {
    match form {
        Form::Group => Ok(()),
        Form::Plain => Err(CommandError::text(format!(
            "ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."
        ))),
    }
}

fn unbalanced(form: Form) -> CommandError {
    let (command, symbol) = match form {
        Form::Plain => ("xread", '$'),
        Form::Group => ("xreadgroup", '>'),
    };
    CommandError::text(format!(
        "ERR Unbalanced '{command}' list of streams: for each stream key an ID or '{symbol}' must \
         be specified."
    ))
}

fn no_group_to_read(key: &[u8], group: &[u8]) -> CommandError {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    CommandError::text(format!(
        "NOGROUP No such key '{key}' or consumer group '{group}' in XREADGROUP with GROUP option"
    ))
}
