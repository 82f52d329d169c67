//! Commands that read, delete and number entries.
#![forbid(unsafe_code)]

use smallvec::SmallVec;
use tessera_proto::number::parse_i64;

use super::{
    ids::{parse_end, parse_start, parse_strict},
    long::{Extent, RangeWork},
    read, reply_entries, update,
};
use crate::{
    command::{
        prelude::*,
        work::{in_slices, is_long},
    },
    types::StreamId,
};

/// XLEN key.
pub(super) fn xlen(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let len = read(cx.keyspace, &args[1])?.map_or(0, |stream| stream.entries.len());
    cx.reply.integer(len as i64);
    Ok(Effect::Unchanged)
}

/// XRANGE key start end [COUNT count].
pub(super) fn xrange(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    range(cx, args, false)
}

/// XREVRANGE key end start [COUNT count].
pub(super) fn xrevrange(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    range(cx, args, true)
}

/// XDEL key id [id …]: how many entries were there.
pub(super) fn xdel(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    let deleted = update(cx.keyspace.slot(key), |stream| {
        // All ids are looked at before the first is deleted.
        let ids = parse_ids(&args.tail(2))?;
        Ok(ids.iter().filter(|&&id| stream.entries.delete(id)).count())
    })?;
    let deleted = deleted.unwrap_or(0);
    cx.reply.count(deleted);
    if deleted > 0 {
        cx.notify(Class::STREAM, "xdel", key);
    }
    Ok(Effect::count(deleted as u64))
}

/// XSETID key last-id [ENTRIESADDED count] [MAXDELETEDID id].
pub(super) fn xsetid(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let last_id = parse_strict(&args[2], 0)?;
    let options = SetIdOptions::parse(args, last_id)?;
    let key = &args[1];
    let changed = update(cx.keyspace.slot(key), |stream| {
        let entries = &mut stream.entries;
        if last_id < entries.max_deleted_id {
            return Err(CommandError::text(
                "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
            ));
        }
        if entries.last_live_id().is_some_and(|last| last_id < last) {
            return Err(CommandError::text(
                "ERR The ID specified in XSETID is smaller than the target stream top item",
            ));
        }
        if options.added.is_some_and(|added| added < entries.len()) {
            return Err(CommandError::text(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
        entries.last_id = last_id;
        entries.added = options.added.unwrap_or(entries.added);
        if options.max_deleted_id != StreamId::MIN {
            entries.max_deleted_id = options.max_deleted_id;
        }
        Ok(())
    })?;
    changed.ok_or(CommandError::NoSuchKey)?;
    cx.reply.ok();
    cx.notify(Class::STREAM, "xsetid", key);
    Ok(Effect::Changed(1))
}

/// The ids of a command.
pub(super) type Ids = SmallVec<[StreamId; 8]>;

/// Reads ids, all or none.
pub(super) fn parse_ids(words: &Args<'_>) -> Result<Ids, CommandError> {
    words.iter().map(|word| parse_strict(word, 0)).collect()
}

fn range(cx: &mut Context<'_>, args: &Args<'_>, back: bool) -> Result<Effect, CommandError> {
    let (start, end) = if back { (&args[3], &args[2]) } else { (&args[2], &args[3]) };
    let (start, end) = (parse_start(start)?, parse_end(end)?);
    let mut count = None;
    let mut rest = args.iter().skip(4);
    while let Some(word) = rest.next() {
        let value = rest.next().ok_or(CommandError::Syntax)?;
        if !word.eq_ignore_ascii_case(b"COUNT") {
            return Err(CommandError::Syntax);
        }
        let number = parse_i64(value).ok_or(CommandError::NotAnInteger)?;
        count = Some(usize::try_from(number).unwrap_or(0));
    }
    let Some(stream) = read(cx.keyspace, &args[1])? else {
        cx.reply.array(0);
        return Ok(Effect::Unchanged);
    };
    let entries = &stream.entries;
    let is_long = count.is_none_or(|count| is_long(count, cx.is_script))
        && is_long(entries.len() as usize, cx.is_script);
    if count == Some(0) {
        cx.reply.null_array();
    } else if is_long {
        let extent = Extent { start, end, back, count: count.unwrap_or(usize::MAX) };
        let captured = entries.clone();
        let work = RangeWork::new(captured, extent, cx.keyspace.deferred_free());
        let protocol = cx.reply.protocol();
        cx.reply.later(in_slices(work, protocol));
    } else if back {
        reply_entries(&mut cx.reply, entries.range_back(start, end), count);
    } else {
        reply_entries(&mut cx.reply, entries.range(start, end), count);
    }
    Ok(Effect::Unchanged)
}

/// The options of XSETID.
struct SetIdOptions {
    added: Option<u64>,
    max_deleted_id: StreamId,
}

impl SetIdOptions {
    fn parse(args: &Args<'_>, last_id: StreamId) -> Result<Self, CommandError> {
        let mut options = Self { added: None, max_deleted_id: StreamId::MIN };
        let mut rest = args.iter().skip(3);
        while let Some(word) = rest.next() {
            let value = rest.next().ok_or(CommandError::Syntax)?;
            if word.eq_ignore_ascii_case(b"ENTRIESADDED") {
                let added = parse_i64(value).ok_or(CommandError::NotAnInteger)?;
                let added = u64::try_from(added)
                    .map_err(|_| CommandError::text("ERR entries_added must be positive"))?;
                options.added = Some(added);
            } else if word.eq_ignore_ascii_case(b"MAXDELETEDID") {
                options.max_deleted_id = parse_strict(value, 0)?;
                if last_id < options.max_deleted_id {
                    return Err(CommandError::text(
                        "ERR The ID specified in XSETID is smaller than the provided \
                         max_deleted_entry_id",
                    ));
                }
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }
}
