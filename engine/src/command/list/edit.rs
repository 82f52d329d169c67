//! Commands that change lists elsewhere than at the ends.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use super::search::position;
use crate::{
    command::{
        collection::{Changed, stretch, update},
        prelude::*,
    },
    types::{List, list::End},
};

/// LINSERT key BEFORE|AFTER pivot element: the length after, -1 without the pivot, 0 without the
/// key.
pub(super) fn linsert(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let shift = match &args[2] {
        word if word.eq_ignore_ascii_case(b"AFTER") => 1,
        word if word.eq_ignore_ascii_case(b"BEFORE") => 0,
        _ => return Err(CommandError::Syntax),
    };
    let key = &args[1];
    let thresholds = &cx.settings.thresholds;
    let changed = update(cx.keyspace.slot(key), |list: &mut List| {
        let pivot = list.iter_from(0).position(|element| element.is(&args[3]));
        if let Some(pivot) = pivot {
            list.insert(pivot + shift, &args[4], thresholds);
        }
        Ok(pivot.map(|_| list.len()))
    })?;
    let inserted = match changed.map(|changed| changed.result) {
        None => {
            cx.reply.integer(0);
            false
        }
        Some(None) => {
            cx.reply.integer(-1);
            false
        }
        Some(Some(len)) => {
            cx.reply.count(len);
            cx.notify(Class::LIST, "linsert", key);
            true
        }
    };
    Ok(Effect::changed_if(inserted))
}

/// LSET key index element.
pub(super) fn lset(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    let thresholds = &cx.settings.thresholds;
    let changed = update(cx.keyspace.slot(key), |list: &mut List| {
        let index = parse_i64(&args[2]).ok_or(CommandError::NotAnInteger)?;
        let index = position(index, list.len()).ok_or(CommandError::IndexOutOfRange)?;
        list.set(index, &args[3], thresholds);
        Ok(())
    })?;
    changed.ok_or(CommandError::NoSuchKey)?;
    cx.reply.ok();
    cx.notify(Class::LIST, "lset", key);
    Ok(Effect::Changed(1))
}

/// LREM key count element: how many were removed; a negative count begins at the tail, 0 means all.
pub(super) fn lrem(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let count = parse_i64(&args[2]).ok_or(CommandError::NotAnInteger)?;
    if count == i64::MIN {
        let text = "ERR value is out of range, value must between -9223372036854775807 and \
                    9223372036854775807";
        return Err(CommandError::text(text));
    }
    let key = &args[1];
    let thresholds = &cx.settings.thresholds;
    let end = if count < 0 { End::Back } else { End::Front };
    let limit = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let changed = update(cx.keyspace.slot(key), |list: &mut List| {
        Ok(list.remove_equal(&args[3], end, limit, thresholds))
    })?;
    let Some(changed) = changed else {
        cx.reply.integer(0);
        return Ok(Effect::Unchanged);
    };
    cx.reply.count(changed.result);
    if changed.result > 0 {
        cx.notify(Class::LIST, "lrem", key);
    }
    if changed.emptied {
        cx.notify(Class::GENERIC, "del", key);
    }
    Ok(Effect::count(changed.result as u64))
}

/// LTRIM key start stop.
pub(super) fn ltrim(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let first = parse_i64(&args[2]).ok_or(CommandError::NotAnInteger)?;
    let last = parse_i64(&args[3]).ok_or(CommandError::NotAnInteger)?;
    let key = &args[1];
    let thresholds = &cx.settings.thresholds;
    let changed = update(cx.keyspace.slot(key), |list: &mut List| {
        let len = list.len();
        let (start, end) = stretch(first, last, len);
        let tail = list.remove_range(end, len, thresholds);
        let head = list.remove_range(0, start, thresholds);
        Ok((len - list.len(), [tail, head]))
    })?;
    cx.reply.ok();
    let Some(Changed { result: (removed, garbage), emptied }) = changed else {
        return Ok(Effect::Unchanged);
    };
    garbage.into_iter().for_each(|nodes| cx.keyspace.free_later(nodes));
    cx.notify(Class::LIST, "ltrim", key);
    if emptied {
        cx.notify(Class::GENERIC, "del", key);
    }
    Ok(Effect::count(removed as u64))
}
