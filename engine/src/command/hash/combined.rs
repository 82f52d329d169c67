//! HGETDEL, HGETEX and HSETEX: fields read or set, and removed or dated in the same step.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use super::{
    deadline::check_type,
    fields::{BAD_NUMBER, Dated, TimeUnit, date, named_fields},
};
use crate::{
    command::{
        collection::{View, read, reply_element, update, update_or_create},
        prelude::*,
    },
    types::Hash,
};

/// HGETDEL key FIELDS numfields field [field …]: the values of the fields, which are removed.
pub(super) fn hgetdel(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    check_type(cx, key)?;
    let fields = named_fields(args, 2, BAD_NUMBER)?;
    cx.keyspace.expire_touched(key, fields.iter());
    let reply = &mut cx.reply;
    reply.array(fields.len());
    // Value by value: a field that is named twice is there once.
    let changed = update(cx.keyspace.slot(key), |hash: &mut Hash| {
        let mut removed = 0;
        for field in fields.iter() {
            match hash.get(field) {
                Some(value) => reply_element(reply, value),
                None => reply.null(),
            }
            removed += u64::from(hash.remove(field));
        }
        Ok(removed)
    })?;
    let Some(changed) = changed else {
        fields.iter().for_each(|_| cx.reply.null());
        return Ok(Effect::Unchanged);
    };
    if changed.result > 0 {
        cx.notify(Class::HASH, "hdel", key);
    }
    if changed.emptied {
        cx.notify(Class::GENERIC, "del", key);
    }
    Ok(Effect::count(changed.result))
}

/// HGETEX key [EX seconds | PX milliseconds | EXAT unix-seconds | PXAT unix-milliseconds | PERSIST]
/// FIELDS numfields field [field …]: the values of the fields.
pub(super) fn hgetex(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    check_type(cx, key)?;
    let now_ms = cx.keyspace.now_ms();
    let (mut deadline, mut persists, mut fields_at) = (None, false, 2);
    if let Some(unit) = TimeUnit::of_option(&args[2]) {
        deadline = Some(unit.deadline(&args[3], now_ms, "hgetex")?);
        fields_at = 4;
    } else if args[2].eq_ignore_ascii_case(b"PERSIST") {
        persists = true;
        fields_at = 3;
    }
    let fields = named_fields(args, fields_at, BAD_NUMBER)?;
    cx.keyspace.expire_touched(key, fields.iter());
    let hash = read::<Hash>(cx.keyspace, key)?;
    cx.reply.array(fields.len());
    for field in fields.iter() {
        match hash.as_ref().and_then(|hash| hash.get(field)) {
            Some(value) => reply_element(&mut cx.reply, value),
            None => cx.reply.null(),
        }
    }
    match deadline {
        Some(deadline) => date_all(cx, key, &fields, deadline),
        None if persists => persist_all(cx, key, &fields),
        None => Ok(Effect::Unchanged),
    }
}

/// Gives those of the fields that are there a deadline.
fn date_all(
    cx: &mut Context<'_>,
    key: &[u8],
    fields: &Args<'_>,
    deadline: i64,
) -> Result<Effect, CommandError> {
    let (now_ms, thresholds) = (cx.keyspace.now_ms(), &cx.settings.thresholds);
    let mut done = Dated::default();
    let changed = update(cx.keyspace.slot(key), |hash: &mut Hash| {
        for field in fields.iter() {
            if hash.contains(field) {
                date(hash, field, deadline, now_ms, thresholds, &mut done);
            }
        }
        Ok(())
    })?;
    done.emptied = changed.is_some_and(|changed| changed.emptied);
    done.record(cx, key, deadline);
    done.notify(cx, key);
    Ok(Effect::count(done.len()))
}

/// Takes the deadlines of the fields away.
fn persist_all(
    cx: &mut Context<'_>,
    key: &[u8],
    fields: &Args<'_>,
) -> Result<Effect, CommandError> {
    let thresholds = &cx.settings.thresholds;
    let changed = update(cx.keyspace.slot(key), |hash: &mut Hash| {
        let mut persisted = 0;
        for field in fields.iter() {
            if hash.deadline(field).is_some() {
                hash.set_deadline(field, None, thresholds);
                persisted += 1;
            }
        }
        Ok(persisted)
    })?;
    let persisted = changed.map_or(0, |changed| changed.result);
    if persisted > 0 {
        cx.notify(Class::HASH, "hpersist", key);
    }
    Ok(Effect::count(persisted))
}

/// Which fields must be there for HSETEX to set them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// FNX: none of them.
    None,
    /// FXX: all of them.
    All,
}

/// What becomes of the fields' deadlines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expiry {
    /// KEEPTTL: they stay.
    Keep,
    /// They become this.
    At(i64),
}

/// The arguments of HSETEX.
struct SetOptions<'a> {
    presence: Option<Presence>,
    expiry: Option<Expiry>,
    /// Fields and values in turn.
    pairs: Args<'a>,
}

/// HSETEX key [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-seconds | PXAT unix-milliseconds |
/// KEEPTTL] FIELDS numfields field value [field value …]: whether the fields were set.
pub(super) fn hsetex(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    let now_ms = cx.keyspace.now_ms();
    let options = SetOptions::parse(args, now_ms)?;
    let fields = || options.pairs.iter().step_by(2);
    check_type(cx, key)?;
    cx.keyspace.expire_touched(key, fields());
    let hash = cx.keyspace.peek(key).map(|entry| View::<Hash>::of(entry.body())).transpose()?;
    let is_there = |field: &[u8]| hash.as_ref().is_some_and(|hash| hash.contains(field));
    let holds = match options.presence {
        None => true,
        Some(Presence::None) => !fields().any(is_there),
        Some(Presence::All) => fields().all(is_there),
    };
    cx.reply.integer(i64::from(holds));
    if !holds {
        return Ok(Effect::Unchanged);
    }
    match options.expiry {
        Some(Expiry::At(deadline)) if deadline <= now_ms => remove_at_once(cx, key, &options.pairs),
        expiry => set_all(cx, key, &options.pairs, expiry),
    }
}

impl<'a> SetOptions<'a> {
    fn parse(args: &Args<'a>, now_ms: i64) -> Result<Self, CommandError> {
        let (mut presence, mut expiry) = (None, None);
        let mut at = 2;
        while at < args.len() {
            let word = &args[at];
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            if is("FIELDS") {
                return Ok(Self { presence, expiry, pairs: Self::pairs(args, at + 1)? });
            }
            if is("FNX") || is("FXX") {
                let wanted = if is("FNX") { Presence::None } else { Presence::All };
                if presence.replace(wanted).is_some() {
                    return Err(CommandError::text(
                        "ERR Only one of FXX or FNX arguments can be specified",
                    ));
                }
                at += 1;
                continue;
            }
            let unit = TimeUnit::of_option(word);
            if unit.is_none() && !is("KEEPTTL") {
                let word = String::from_utf8_lossy(word);
                return Err(CommandError::text(format!("ERR unknown argument: {word}")));
            }
            if expiry.is_some() {
                return Err(CommandError::text(
                    "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
                ));
            }
            expiry = Some(match unit {
                Some(unit) => {
                    let number = args.get(at + 1).unwrap_or_default();
                    Expiry::At(unit.deadline(number, now_ms, "hsetex")?)
                }
                None => Expiry::Keep,
            });
            at += if unit.is_some() { 2 } else { 1 };
        }
        Err(CommandError::text("ERR missing FIELDS argument"))
    }

    /// The fields and values behind their number, which stands at `at`.
    fn pairs(args: &Args<'a>, at: usize) -> Result<Args<'a>, CommandError> {
        let number = args.get(at).and_then(parse_i64).filter(|&number| number > 0);
        let number = number.ok_or(CommandError::text("ERR invalid number of fields"))?;
        let pairs = args.tail(at + 1);
        if usize::try_from(number).ok().and_then(|number| number.checked_mul(2))
            != Some(pairs.len())
        {
            return Err(CommandError::WrongArity { command: "hsetex".into() });
        }
        Ok(pairs)
    }
}

/// Sets the fields, of which the deadline does not lie in the past.
fn set_all(
    cx: &mut Context<'_>,
    key: &[u8],
    pairs: &Args<'_>,
    expiry: Option<Expiry>,
) -> Result<Effect, CommandError> {
    let thresholds = &cx.settings.thresholds;
    update_or_create(cx.keyspace.slot(key), Hash::new, |hash| {
        for at in (0..pairs.len()).step_by(2) {
            let (field, value) = (&pairs[at], &pairs[at + 1]);
            match expiry {
                Some(Expiry::Keep) => _ = hash.set_keeping_deadline(field, value, thresholds),
                Some(Expiry::At(deadline)) => {
                    hash.set(field, value, thresholds);
                    hash.set_deadline(field, Some(deadline), thresholds);
                }
                None => _ = hash.set(field, value, thresholds),
            }
        }
        Ok(())
    })?;
    cx.notify(Class::HASH, "hset", key);
    if let Some(Expiry::At(deadline)) = expiry {
        record_set(cx, key, pairs, deadline);
        cx.notify(Class::HASH, "hexpire", key);
    }
    Ok(Effect::Changed(pairs.len() as u64 / 2))
}

/// Records fields that were set with a deadline.
fn record_set(cx: &mut Context<'_>, key: &[u8], pairs: &Args<'_>, deadline: i64) {
    let mut draft = cx.draft("HSETEX");
    if draft.is_active() {
        draft.push(key);
        draft.push(b"PXAT");
        draft.push(itoa::Buffer::new().format(deadline).as_bytes());
        draft.push(b"FIELDS");
        draft.push(itoa::Buffer::new().format(pairs.len() / 2).as_bytes());
        pairs.iter().for_each(|word| draft.push(word));
        cx.record_draft(draft);
    }
}

/// Sets fields whose deadline lies in the past: they are gone at once, also those that were there.
fn remove_at_once(
    cx: &mut Context<'_>,
    key: &[u8],
    pairs: &Args<'_>,
) -> Result<Effect, CommandError> {
    let fields = || pairs.iter().step_by(2);
    let changed = update(cx.keyspace.slot(key), |hash: &mut Hash| {
        Ok(fields().filter(|field| hash.remove(field)).collect::<Vec<_>>())
    })?;
    let emptied = changed.as_ref().is_none_or(|changed| changed.emptied);
    let removed = changed.map_or_else(Vec::new, |changed| changed.result);
    if !removed.is_empty() {
        let head: [&[u8]; 2] = [b"HDEL", key];
        cx.record(&[&head[..], &removed].concat());
    }
    cx.notify(Class::HASH, "hset", key);
    cx.notify(Class::HASH, "hdel", key);
    if emptied {
        cx.notify(Class::GENERIC, "del", key);
    }
    Ok(Effect::count(removed.len() as u64))
}
