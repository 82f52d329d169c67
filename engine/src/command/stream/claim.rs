//! XCLAIM and XAUTOCLAIM: pending entries change hands.
#![forbid(unsafe_code)]

use smallvec::SmallVec;
use tessera_proto::number::parse_i64;

use super::{
    entries::Ids,
    ids::{parse_start, parse_strict},
    no_group, of,
    record::{GroupChanges, GroupName},
    reply_entry_of, reply_id, update,
};
use crate::{
    command::prelude::*,
    types::{
        StreamId,
        stream::{ConsumerId, Entries, Group, Pending},
    },
};

/// Entries that XAUTOCLAIM claims unless COUNT says otherwise.
const COUNT_DEFAULT: usize = 100;
/// Pending entries that XAUTOCLAIM looks at, as a multiple of those that it may claim.
const ATTEMPTS_FACTOR: usize = 10;
/// The greatest COUNT of XAUTOCLAIM: ids of so many entries can be counted in bytes.
const COUNT_MAX: i64 = i64::MAX / 16;

/// XCLAIM key group consumer min-idle-time id [id …] [IDLE ms] [TIME unix-time-ms]
/// [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID id]: the entries claimed.
pub(super) fn xclaim(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let (key, group) = (&args[1], &args[2]);
    check_group(cx, key, group)?;
    let claim = Claim::parse(args, cx.keyspace.now_ms())?;
    let mut changes = GroupChanges::new(cx);
    let name = &args[3];
    let Context { keyspace, reply, .. } = cx;
    update(keyspace.slot(key), |stream| {
        stream.change_group(group, |entries, group| {
            if claim.last_id > group.last_id {
                group.last_id = claim.last_id;
                changes.moved(group);
            }
            let seen_ms = claim.now_ms.max(claim.delivered_ms);
            let consumer = consumer_of(group, name, seen_ms, &mut changes);
            let array = reply.deferred();
            let mut len = 0;
            for &id in &claim.ids {
                if claim.take(entries, group, consumer, id, &mut changes) {
                    reply_claimed(reply, entries, id, claim.just_id);
                    len += 1;
                }
            }
            reply.finish_array(array, len);
        });
        Ok(())
    })?;
    conclude(cx, GroupName { key, group }, name, &changes)
}

/// XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID]: where to go on, the
/// entries claimed, and the ids that were pending without an entry.
pub(super) fn xautoclaim(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let now_ms = cx.keyspace.now_ms();
    let sweep = Sweep::parse(args, now_ms)?;
    let (key, group, name) = (&args[1], &args[2], &args[3]);
    check_group(cx, key, group)?;
    let mut changes = GroupChanges::new(cx);
    let Context { keyspace, reply, .. } = cx;
    update(keyspace.slot(key), |stream| {
        stream.change_group(group, |entries, group| {
            let consumer = consumer_of(group, name, now_ms, &mut changes);
            let found = sweep.run(entries, group, consumer, &mut changes);
            reply.array(3);
            reply_id(reply, found.next);
            reply.array(found.claimed.len());
            for id in found.claimed {
                reply_claimed(reply, entries, id, sweep.just_id);
            }
            reply.array(found.deleted.len());
            found.deleted.iter().for_each(|&id| reply_id(reply, id));
        });
        Ok(())
    })?;
    conclude(cx, GroupName { key, group }, name, &changes)
}

/// What XCLAIM shall do.
struct Claim {
    now_ms: i64,
    min_idle_ms: i64,
    ids: Ids,
    /// The time of delivery that claimed entries get.
    delivered_ms: i64,
    deliveries: Option<u64>,
    force: bool,
    just_id: bool,
    last_id: StreamId,
}

impl Claim {
    fn parse(args: &Args<'_>, now_ms: i64) -> Result<Self, CommandError> {
        let min_idle_ms = number(&args[4], "Invalid min-idle-time argument for XCLAIM")?.max(0);
        let ids: Ids = args.iter().skip(5).map_while(|word| parse_strict(word, 0).ok()).collect();
        let options = 5 + ids.len();
        let mut claim = Self {
            now_ms,
            min_idle_ms,
            ids,
            delivered_ms: now_ms,
            deliveries: None,
            force: false,
            just_id: false,
            last_id: StreamId::MIN,
        };
        claim.parse_options(&args.tail(options))?;
        Ok(claim)
    }

    fn parse_options(&mut self, options: &Args<'_>) -> Result<(), CommandError> {
        let mut rest = options.iter();
        while let Some(word) = rest.next() {
            if word.eq_ignore_ascii_case(b"FORCE") {
                self.force = true;
                continue;
            }
            if word.eq_ignore_ascii_case(b"JUSTID") {
                self.just_id = true;
                continue;
            }
            let value = rest.next().ok_or_else(|| unrecognized(word))?;
            if word.eq_ignore_ascii_case(b"IDLE") {
                let idle_ms = number(value, "Invalid IDLE option argument for XCLAIM")?;
                self.delivered_at(self.now_ms.wrapping_sub(idle_ms));
            } else if word.eq_ignore_ascii_case(b"TIME") {
                self.delivered_at(number(value, "Invalid TIME option argument for XCLAIM")?);
            } else if word.eq_ignore_ascii_case(b"RETRYCOUNT") {
                let count = number(value, "Invalid RETRYCOUNT option argument for XCLAIM")?;
                self.deliveries = u64::try_from(count).ok();
            } else if word.eq_ignore_ascii_case(b"LASTID") {
                self.last_id = parse_strict(value, 0)?;
            } else {
                return Err(unrecognized(word));
            }
        }
        Ok(())
    }

    /// Sets the time of delivery; one that is in the future, as a client's clock may say, is now.
    /// A shard that replays knows no now (see [`super::record`]).
    fn delivered_at(&mut self, ms: i64) {
        let is_sane = ms >= 0 && (ms <= self.now_ms || self.now_ms == 0);
        self.delivered_ms = if is_sane { ms } else { self.now_ms };
    }

    /// Claims the entry `id`; whether that was possible.
    fn take(
        &self,
        entries: &Entries,
        group: &mut Group,
        consumer: ConsumerId,
        id: StreamId,
        changes: &mut GroupChanges,
    ) -> bool {
        let before = group.pending(id);
        if entries.get(id).is_none() {
            drop_deleted(group, id, before, changes);
            return false;
        }
        let deliveries = match before {
            Some(pending) if !is_idle(pending, self.now_ms, self.min_idle_ms) => return false,
            Some(pending) => pending.deliveries,
            None if self.force => 1,
            None => return false,
        };
        let deliveries = self.deliveries.unwrap_or(match self.just_id {
            true => deliveries,
            false => deliveries.saturating_add(1),
        });
        let pending = Pending { consumer, delivered_ms: self.delivered_ms, deliveries };
        group.assign(id, pending);
        group.got(consumer, self.now_ms.max(self.delivered_ms));
        changes.pending(group, id, pending);
        true
    }
}

/// What XAUTOCLAIM shall do.
struct Sweep {
    now_ms: i64,
    min_idle_ms: i64,
    start: StreamId,
    count: usize,
    just_id: bool,
}

/// What XAUTOCLAIM has done.
struct Swept {
    claimed: SmallVec<[StreamId; 8]>,
    deleted: SmallVec<[StreamId; 8]>,
    /// The first pending entry that was not looked at; 0-0 at the end.
    next: StreamId,
}

impl Sweep {
    fn parse(args: &Args<'_>, now_ms: i64) -> Result<Self, CommandError> {
        let min_idle_ms = number(&args[4], "Invalid min-idle-time argument for XAUTOCLAIM")?.max(0);
        let start = parse_start(&args[5])?;
        let (mut count, mut just_id) = (COUNT_DEFAULT, false);
        let mut rest = args.iter().skip(6);
        while let Some(word) = rest.next() {
            if word.eq_ignore_ascii_case(b"JUSTID") {
                just_id = true;
                continue;
            }
            let value = rest.next().ok_or(CommandError::Syntax)?;
            if !word.eq_ignore_ascii_case(b"COUNT") {
                return Err(CommandError::Syntax);
            }
            let wanted = parse_i64(value).filter(|wanted| (1..=COUNT_MAX).contains(wanted));
            let wanted = wanted.ok_or(CommandError::text("ERR COUNT must be > 0"))?;
            count = wanted as usize;
        }
        Ok(Self { now_ms, min_idle_ms, start, count, just_id })
    }

    fn run(
        &self,
        entries: &Entries,
        group: &mut Group,
        consumer: ConsumerId,
        changes: &mut GroupChanges,
    ) -> Swept {
        let (mut claimed, mut deleted) = (SmallVec::new(), SmallVec::new());
        let mut attempts = self.count.saturating_mul(ATTEMPTS_FACTOR);
        let mut at = group.pending_from(self.start).next();
        while let Some((id, before)) = at {
            if attempts == 0 || claimed.len() + deleted.len() == self.count {
                break;
            }
            attempts -= 1;
            if entries.get(id).is_none() {
                drop_deleted(group, id, Some(before), changes);
                deleted.push(id);
            } else if is_idle(before, self.now_ms, self.min_idle_ms) {
                let deliveries = before.deliveries.saturating_add(u64::from(!self.just_id));
                let pending = Pending { consumer, delivered_ms: self.now_ms, deliveries };
                group.assign(id, pending);
                group.got(consumer, self.now_ms);
                changes.pending(group, id, pending);
                claimed.push(id);
            }
            at = id.next().and_then(|next| group.pending_from(next).next());
        }
        Swept { claimed, deleted, next: at.map_or(StreamId::MIN, |(id, _)| id) }
    }
}

fn check_group(cx: &mut Context<'_>, key: &[u8], group: &[u8]) -> Result<(), CommandError> {
    let stream =
        cx.keyspace.slot_read(key).into_view().map(|entry| of(entry.body())).transpose()?;
    match stream.and_then(|stream| stream.group(group)) {
        Some(_) => Ok(()),
        None => Err(no_group(key, group)),
    }
}

/// The consumer that claims, made if it is new.
fn consumer_of(
    group: &mut Group,
    name: &[u8],
    now_ms: i64,
    changes: &mut GroupChanges,
) -> ConsumerId {
    let (consumer, created) = group.consumer_or_new(name, now_ms);
    group.saw(consumer, now_ms);
    changes.created = created;
    consumer
}

/// Whether an entry was delivered at least `min_idle_ms` ago.
fn is_idle(pending: Pending, now_ms: i64, min_idle_ms: i64) -> bool {
    min_idle_ms == 0 || now_ms.wrapping_sub(pending.delivered_ms) >= min_idle_ms
}

/// Takes an entry that does not exist from what is pending.
fn drop_deleted(
    group: &mut Group,
    id: StreamId,
    pending: Option<Pending>,
    changes: &mut GroupChanges,
) {
    if let Some(pending) = pending {
        changes.pending(group, id, pending);
        group.acknowledge(id);
    }
}

fn reply_claimed(reply: &mut ReplyWriter<'_>, entries: &Entries, id: StreamId, just_id: bool) {
    if just_id {
        reply_id(reply, id);
    } else {
        reply_entry_of(reply, entries, id);
    }
}

/// Reports and records what was done.
fn conclude(
    cx: &mut Context<'_>,
    group: GroupName<'_>,
    consumer: &[u8],
    changes: &GroupChanges,
) -> Result<Effect, CommandError> {
    if changes.created {
        cx.notify(Class::STREAM, "xgroup-createconsumer", group.key);
    }
    Ok(Effect::count(changes.record(cx, group, consumer)))
}

fn number(text: &[u8], fault: &str) -> Result<i64, CommandError> {
    parse_i64(text).ok_or_else(|| CommandError::text(format!("ERR {fault}")))
}

fn unrecognized(word: &[u8]) -> CommandError {
    let word = String::from_utf8_lossy(word);
    CommandError::text(format!("ERR Unrecognized XCLAIM option '{word}'"))
}
