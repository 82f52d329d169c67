//! XPENDING: what a group's consumers have not acknowledged.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use super::{
    ids::{parse_end, parse_start},
    no_group, read, reply_id,
};
use crate::{
    command::prelude::*,
    types::{
        StreamId,
        stream::{Group, Pending},
    },
};

/// XPENDING key group [[IDLE min-idle-time] start end count [consumer]]: the number, bounds and
/// owners, or the entries of a range.
pub(super) fn xpending(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let query = match args.len() {
        3 => None,
        6..=9 => Some(Query::parse(args, cx.keyspace.now_ms())?),
        _ => return Err(CommandError::Syntax),
    };
    let (key, name) = (&args[1], &args[2]);
    let group = read(cx.keyspace, key)?.and_then(|stream| stream.group(name));
    let group = group.ok_or_else(|| no_group(key, name))?;
    match query {
        None => reply_summary(&mut cx.reply, group),
        Some(query) => query.reply(&mut cx.reply, group),
    }
    Ok(Effect::Unchanged)
}

fn reply_summary(reply: &mut ReplyWriter<'_>, group: &Group) {
    reply.array(4);
    reply.count(group.pending_len());
    let first = group.pending_from(StreamId::MIN).next();
    let Some(((first, _), last)) = first.zip(group.last_pending()) else {
        reply.null();
        reply.null();
        reply.null_array();
        return;
    };
    reply_id(reply, first);
    reply_id(reply, last);
    let array = reply.deferred();
    let mut len = 0;
    for consumer in group.consumers().filter(|consumer| consumer.pending_len() > 0) {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_integer(consumer.pending_len() as i64);
        len += 1;
    }
    reply.finish_array(array, len);
}

/// A range of pending entries.
struct Query<'a> {
    now_ms: i64,
    min_idle_ms: i64,
    start: StreamId,
    end: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> Query<'a> {
    fn parse(args: &Args<'a>, now_ms: i64) -> Result<Self, CommandError> {
        let (mut at, mut min_idle_ms) = (3, 0);
        if args[3].eq_ignore_ascii_case(b"IDLE") {
            min_idle_ms = parse_i64(&args[4]).ok_or(CommandError::NotAnInteger)?;
            if args.len() < 8 {
                return Err(CommandError::Syntax);
            }
            at += 2;
        }
        let count = parse_i64(&args[at + 2]).ok_or(CommandError::NotAnInteger)?;
        Ok(Self {
            now_ms,
            min_idle_ms,
            start: parse_start(&args[at])?,
            end: parse_end(&args[at + 1])?,
            count: usize::try_from(count).unwrap_or(0),
            consumer: args.get(at + 3),
        })
    }

    fn reply(&self, reply: &mut ReplyWriter<'_>, group: &Group) {
        let Some(name) = self.consumer else {
            return self.reply_range(reply, group, group.pending_from(self.start));
        };
        let consumer = group.find_consumer(name).and_then(|number| group.consumer(number));
        let Some(consumer) = consumer else { return reply.array(0) };
        let ids = consumer.pending_from(self.start);
        let pending = ids.filter_map(|id| group.pending(id).map(|pending| (id, pending)));
        self.reply_range(reply, group, pending);
    }

    fn reply_range(
        &self,
        reply: &mut ReplyWriter<'_>,
        group: &Group,
        pending: impl Iterator<Item = (StreamId, Pending)>,
    ) {
        let idle = |pending: &Pending| self.now_ms.wrapping_sub(pending.delivered_ms);
        let array = reply.deferred();
        let mut len = 0;
        let shown = pending
            .take_while(|(id, _)| *id <= self.end)
            .filter(|(_, pending)| self.min_idle_ms == 0 || idle(pending) >= self.min_idle_ms)
            .take(self.count);
        for (id, pending) in shown {
            reply.array(4);
            reply_id(reply, id);
            let owner = group.consumer(pending.consumer);
            reply.bulk(owner.map_or(&[][..], |owner| owner.name()));
            reply.integer(idle(&pending).max(0));
            reply.integer(pending.deliveries as i64);
            len += 1;
        }
        reply.finish_array(array, len);
    }
}
