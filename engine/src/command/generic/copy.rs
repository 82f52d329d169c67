//! Commands that take a value to another key or database.
#![forbid(unsafe_code)]

use tessera_proto::number::parse_i64;

use crate::{
    command::prelude::*,
    keyspace::{Held, Keyspace},
};

/// COPY source destination [DB number] [REPLACE]: whether it was copied.
pub(super) fn copy(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let (source, target) = (&args[1], &args[2]);
    let selected = cx.keyspace.selected();
    let mut database = selected;
    let mut replace = false;
    let mut rest = args.iter().skip(3);
    while let Some(word) = rest.next() {
        if word.eq_ignore_ascii_case(b"REPLACE") {
            replace = true;
        } else if word.eq_ignore_ascii_case(b"DB") {
            database = parse_database(cx.keyspace, rest.next().ok_or(CommandError::Syntax)?)?;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if database == selected && source == target {
        return Err(same_object());
    }
    let held = cx.keyspace.read(source).map(Held::copy_of);
    let is_taken = !cx.keyspace.slot_of(database, target).is_vacant();
    let held = match held {
        Some(held) if replace || !is_taken => held,
        _ => {
            cx.reply.integer(0);
            return Ok(Effect::Unchanged);
        }
    };
    cx.keyspace.put(database, target, held);
    if is_taken {
        // As in Redis, where the key that was there is removed first.
        cx.keyspace.events.report(Class::NEW, "new", database, target);
    }
    cx.keyspace.events.report(Class::GENERIC, "copy_to", database, target);
    cx.reply.integer(1);
    Ok(Effect::Changed(1))
}

/// MOVE key database: whether it was moved, for which it must be here and not there.
pub(super) fn move_(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let key = &args[1];
    let selected = cx.keyspace.selected();
    let database = parse_database(cx.keyspace, &args[2])?;
    if database == selected {
        return Err(same_object());
    }
    let free = cx.keyspace.slot_of(database, key).is_vacant();
    let held = if free { cx.keyspace.take(selected, key) } else { None };
    let Some(held) = held else {
        cx.reply.integer(0);
        return Ok(Effect::Unchanged);
    };
    cx.keyspace.put(database, key, held);
    cx.keyspace.events.report(Class::GENERIC, "move_from", selected, key);
    cx.keyspace.events.report(Class::GENERIC, "move_to", database, key);
    cx.reply.integer(1);
    Ok(Effect::Changed(1))
}

/// RENAME key newkey.
pub(super) fn rename(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let (source, target) = (&args[1], &args[2]);
    if !cx.keyspace.contains(source) {
        return Err(CommandError::NoSuchKey);
    }
    cx.reply.ok();
    if source == target {
        return Ok(Effect::Unchanged);
    }
    relocate(cx, source, target);
    Ok(Effect::Changed(1))
}

/// RENAMENX key newkey: whether it was renamed.
pub(super) fn renamenx(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let (source, target) = (&args[1], &args[2]);
    if !cx.keyspace.contains(source) {
        return Err(CommandError::NoSuchKey);
    }
    let free = !cx.keyspace.contains(target);
    if free {
        relocate(cx, source, target);
    }
    cx.reply.integer(i64::from(free));
    Ok(Effect::changed_if(free))
}

/// Moves what `source` holds to `target`, over whatever is there.
fn relocate(cx: &mut Context<'_>, source: &[u8], target: &[u8]) {
    let selected = cx.keyspace.selected();
    if let Some(held) = cx.keyspace.take(selected, source) {
        cx.keyspace.put(selected, target, held);
        cx.notify(Class::GENERIC, "rename_from", source);
        cx.notify(Class::GENERIC, "rename_to", target);
    }
}

/// The database that a client means by `number`.
fn parse_database(keyspace: &Keyspace, number: &[u8]) -> Result<usize, CommandError> {
    let number = parse_i64(number).ok_or(CommandError::NotAnInteger)?;
    let number = i32::try_from(number).map_err(|_| {
        let (least, most) = (i32::MIN, i32::MAX);
        CommandError::text(format!(
            "ERR value is out of range, value must between {least} and {most}"
        ))
    })?;
    check_database(keyspace, number)
}

/// The number of a database, which Redis takes for a C int.
pub(in crate::command) fn parse_database_number(number: &[u8]) -> Option<i32> {
    parse_i64(number).and_then(|number| i32::try_from(number).ok())
}

/// The database of that number, if there is one.
pub(in crate::command) fn check_database(
    keyspace: &Keyspace,
    number: i32,
) -> Result<usize, CommandError> {
    usize::try_from(number)
        .ok()
        .filter(|&number| number < keyspace.database_count())
        .ok_or(CommandError::DatabaseOutOfRange)
}

fn same_object() -> CommandError {
    CommandError::text("ERR source and destination objects are the same")
}
