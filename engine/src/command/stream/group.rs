//! XGROUP and XACK.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use super::{
    bad_subcommand,
    entries::parse_ids,
    ids::{parse_lenient, parse_strict},
    look, no_group_of, update, update_or_create,
};
use crate::{
    command::{help, prelude::*},
    types::stream::Group,
};

/// XGROUP CREATE key group <id | $> [MKSTREAM] [ENTRIESREAD count].
pub(super) fn xgroup_create(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let options = GroupOptions::parse(args, true)?;
    let (key, name) = (&args[2], &args[3]);
    let exists = look(cx.keyspace, key)?.is_some();
    if !exists && !options.make_stream {
        return Err(no_key());
    }
    if args.len() > 8 {
        return Err(bad_subcommand("XGROUP", &args[1]));
    }
    let created = update_or_create(cx.keyspace.slot(key), |stream| {
        let last_id = match &args[4] {
            b"$" => stream.entries.last_id,
            id => parse_strict(id, 0)?,
        };
        Ok(stream.add_group(name, Group::new(last_id, options.entries_read)))
    })?;
    if !created {
        return Err(CommandError::text("BUSYGROUP Consumer Group name already exists"));
    }
    cx.reply.ok();
    cx.notify(Class::STREAM, "xgroup-create", key);
    Ok(Effect::Changed(1))
}

/// XGROUP SETID key group <id | $> [ENTRIESREAD count].
pub(super) fn xgroup_setid(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let options = GroupOptions::parse(args, false)?;
    let (key, name) = (&args[2], &args[3]);
    check_group(cx, key, name)?;
    if args.len() != 5 && args.len() != 7 {
        return Err(bad_subcommand("XGROUP", &args[1]));
    }
    update(cx.keyspace.slot(key), |stream| {
        let last_id = match &args[4] {
            b"$" => stream.entries.last_id,
            id => parse_lenient(id, 0)?,
        };
        stream.change_group(name, |_, group| {
            (group.last_id, group.entries_read) = (last_id, options.entries_read);
        });
        Ok(())
    })?;
    cx.reply.ok();
    cx.notify(Class::STREAM, "xgroup-setid", key);
    Ok(Effect::Changed(1))
}

/// XGROUP DESTROY key group: whether it was there.
pub(super) fn xgroup_destroy(
    cx: &mut Context<'_>,
    args: &Args<'_>,
) -> Result<Effect, CommandError> {
    let (key, name) = (&args[2], &args[3]);
    let removed = update(cx.keyspace.slot(key), |stream| Ok(stream.remove_group(name)))?;
    let removed = removed.ok_or_else(no_key)?;
    cx.reply.integer(i64::from(removed.is_some()));
    let Some(garbage) = removed else { return Ok(Effect::Unchanged) };
    cx.keyspace.free_later(garbage);
    cx.notify(Class::STREAM, "xgroup-destroy", key);
    Ok(Effect::Changed(1))
}

/// XGROUP CREATECONSUMER key group consumer: whether it is new.
pub(super) fn xgroup_createconsumer(
    cx: &mut Context<'_>,
    args: &Args<'_>,
) -> Result<Effect, CommandError> {
    let (key, name) = (&args[2], &args[3]);
    check_group(cx, key, name)?;
    let now_ms = cx.keyspace.now_ms();
    let created = update(cx.keyspace.slot(key), |stream| {
        Ok(stream.change_group(name, |_, group| group.consumer_or_new(&args[4], now_ms).1))
    })?;
    let created = created.flatten().unwrap_or(false);
    cx.reply.integer(i64::from(created));
    if created {
        cx.notify(Class::STREAM, "xgroup-createconsumer", key);
    }
    Ok(Effect::changed_if(created))
}

/// XGROUP DELCONSUMER key group consumer: how many entries it had not acknowledged.
pub(super) fn xgroup_delconsumer(
    cx: &mut Context<'_>,
    args: &Args<'_>,
) -> Result<Effect, CommandError> {
    let (key, name) = (&args[2], &args[3]);
    check_group(cx, key, name)?;
    let removed = update(cx.keyspace.slot(key), |stream| {
        Ok(stream.change_group(name, |_, group| group.remove_consumer(&args[4])))
    })?;
    let Some((pending, garbage)) = removed.flatten().flatten() else {
        cx.reply.integer(0);
        return Ok(Effect::Unchanged);
    };
    cx.reply.count(pending);
    cx.keyspace.free_later(garbage);
    cx.notify(Class::STREAM, "xgroup-delconsumer", key);
    Ok(Effect::Changed(1))
}

/// XGROUP HELP.
pub(super) fn xgroup_help(cx: &mut Context<'_>, _: &Args<'_>) -> Result<Effect, CommandError> {
    help::reply(
        &mut cx.reply,
        "XGROUP",
        &[
            (
                "CREATE <key> <groupname> <id|$> [MKSTREAM] [ENTRIESREAD <count>]",
                "Create a group that reads on behind the id; MKSTREAM creates the stream too.",
            ),
            ("CREATECONSUMER <key> <groupname> <consumer>", "Create a consumer in the group."),
            ("DELCONSUMER <key> <groupname> <consumer>", "Remove the consumer from the group."),
            ("DESTROY <key> <groupname>", "Remove the group."),
            (
                "SETID <key> <groupname> <id|$> [ENTRIESREAD <count>]",
                "Set the id behind which the group reads on.",
            ),
        ],
    );
    Ok(Effect::Unchanged)
}

/// XACK key group id [id …]: how many entries were pending.
pub(super) fn xack(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let (key, name) = (&args[1], &args[2]);
    let acknowledged = update(cx.keyspace.slot_read(key), |stream| {
        if stream.group(name).is_none() {
            return Ok(0);
        }
        // All ids are looked at before the first is acknowledged.
        let ids = parse_ids(&args.tail(3))?;
        let count = stream
            .change_group(name, |_, group| ids.iter().filter(|&&id| group.acknowledge(id)).count());
        Ok(count.unwrap_or(0))
    })?;
    let acknowledged = acknowledged.unwrap_or(0);
    cx.reply.count(acknowledged);
    Ok(Effect::count(acknowledged as u64))
}

/// The options of XGROUP CREATE and SETID.
struct GroupOptions {
    make_stream: bool,
    entries_read: Option<u64>,
}

impl GroupOptions {
    fn parse(args: &Args<'_>, creates: bool) -> Result<Self, CommandError> {
        let mut options = Self { make_stream: false, entries_read: None };
        let mut rest = args.iter().skip(5);
        while let Some(word) = rest.next() {
            if creates && word.eq_ignore_ascii_case(b"MKSTREAM") {
                options.make_stream = true;
                continue;
            }
            let value = match rest.next() {
                Some(value) if word.eq_ignore_ascii_case(b"ENTRIESREAD") => value,
                _ => return Err(bad_subcommand("XGROUP", &args[1])),
            };
            options.entries_read = match parse_i64(value).ok_or(CommandError::NotAnInteger)? {
                -1 => None,
                number => Some(u64::try_from(number).map_err(|_| {
                    CommandError::text("ERR value for ENTRIESREAD must be positive or -1")
                })?),
            };
        }
        Ok(options)
    }
}

/// Whether there are the stream and the group that a subcommand needs.
fn check_group(cx: &mut Context<'_>, key: &[u8], name: &[u8]) -> Result<(), CommandError> {
    match look(cx.keyspace, key)? {
        None => Err(no_key()),
        Some(stream) if stream.group(name).is_none() => Err(no_group_of(key, name)),
        Some(_) => Ok(()),
    }
}

fn no_key() -> CommandError {
    CommandError::text(
        "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to \
         use the MKSTREAM option to create an empty stream automatically.",
    )
}
