//! COMMAND: the command table about itself.
#![forbid(unsafe_code)]

use tessera_engine::command::{
    Command, CommandError, Flags, docs,
    keys::{Access, Place},
    table,
    table::flag,
};
use tessera_proto::{Args, ReplyWriter, glob::matches_ignoring_case};

use super::{Code, SessionContext, docs::docs as write_docs};

pub(super) const FAMILY: &[(&str, Code)] = &[
    ("command", Code::Local(command)),
    ("command|count", Code::Local(count)),
    ("command|docs", Code::Local(write_docs)),
    ("command|getkeys", Code::Local(getkeys)),
    ("command|getkeysandflags", Code::Local(getkeysandflags)),
    ("command|info", Code::Local(info)),
    ("command|list", Code::Local(list)),
];

/// COMMAND without a subcommand: everything about all commands.
fn command(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    let mut reply = cx.reply();
    write_all(&mut reply);
    Ok(())
}

fn write_all(reply: &mut ReplyWriter<'_>) {
    reply.array(table().commands().len());
    table().commands().iter().for_each(|row| write_info(reply, row));
}

fn count(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    cx.reply().count(table().commands().len());
    Ok(())
}

/// COMMAND INFO [name …]; subcommands are named `container|name`.
fn info(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let mut reply = cx.reply();
    if args.len() == 2 {
        write_all(&mut reply);
        return Ok(());
    }
    reply.array(args.len() - 2);
    for name in args.iter().skip(2) {
        match find(name) {
            Some(row) => write_info(&mut reply, row),
            None => reply.null(),
        }
    }
    Ok(())
}

/// COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern].
fn list(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let filter = list_filter(args)?;
    let names: Vec<&str> = table()
        .all()
        .filter(|row| match &filter {
            ListFilter::All => true,
            ListFilter::Nothing => false,
            ListFilter::Category(category) => row.categories().any(|own| own == *category),
            ListFilter::Pattern(pattern) => {
                matches_ignoring_case(pattern, row.full_name.as_bytes())
            }
        })
        .map(|row| row.full_name)
        .collect();
    let mut reply = cx.reply();
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name.as_bytes()));
    Ok(())
}

enum ListFilter<'a> {
    All,
    /// A module's commands: there are no modules.
    Nothing,
    Category(String),
    Pattern(&'a [u8]),
}

fn list_filter<'a>(args: &Args<'a>) -> Result<ListFilter<'a>, CommandError> {
    let (option, kind, value) = match (args.len(), args.get(2), args.get(3), args.get(4)) {
        (2, ..) => return Ok(ListFilter::All),
        (5, Some(option), Some(kind), Some(value)) => (option, kind, value),
        _ => return Err(CommandError::Syntax),
    };
    if !option.eq_ignore_ascii_case(b"filterby") {
        return Err(CommandError::Syntax);
    }
    match kind.to_ascii_lowercase().as_slice() {
        b"module" => Ok(ListFilter::Nothing),
        b"aclcat" => {
            let name = String::from_utf8_lossy(value).to_ascii_lowercase();
            Ok(ListFilter::Category(name))
        }
        b"pattern" => Ok(ListFilter::Pattern(value)),
        _ => Err(CommandError::Syntax),
    }
}

fn getkeys(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let keys = keys_of(args)?;
    let mut reply = cx.reply();
    reply.array(keys.len());
    keys.iter().for_each(|(key, _)| reply.bulk(key));
    Ok(())
}

fn getkeysandflags(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let keys = keys_of(args)?;
    let mut reply = cx.reply();
    reply.array(keys.len());
    for (key, access) in keys {
        reply.array(2);
        reply.bulk(key);
        write_names(&mut reply, &access.names().collect::<Vec<_>>());
    }
    Ok(())
}

/// The keys of the command line behind `COMMAND GETKEYS`, and what would happen to each.
fn keys_of<'a>(args: &Args<'a>) -> Result<Vec<(&'a [u8], Access)>, CommandError> {
    let line = args.tail(2);
    let row = table().resolve(&line).map_err(|error| match error {
        CommandError::WrongArity { .. } => {
            CommandError::text("ERR Invalid number of arguments specified for command")
        }
        _ => CommandError::text("ERR Invalid command specified"),
    })?;
    if row.keys.is_none() {
        return Err(CommandError::text("ERR The command has no key arguments"));
    }
    let mut positions = Vec::new();
    let found = row.keys.positions(&line, &mut positions);
    let lacks_keys = positions.is_empty() && !row.flags.has(flag::NO_MANDATORY_KEYS);
    if found.is_err() || lacks_keys || positions.iter().any(|&at| at >= line.len()) {
        return Err(CommandError::text("ERR Invalid arguments specified for command"));
    }
    let keys = positions.iter().enumerate();
    Ok(keys.filter_map(|(nth, &at)| Some((line.get(at)?, row.keys.access(&line, nth)))).collect())
}

/// The row of a name such as `get` or `config|set`.
pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    let mut parts = name.splitn(2, |&byte| byte == b'|');
    let row = table().find(parts.next()?)?;
    match parts.next() {
        None => Some(row),
        Some(name) => {
            row.subcommands.iter().find(|sub| sub.name.as_bytes().eq_ignore_ascii_case(name))
        }
    }
}

/// The ten elements of COMMAND INFO.
fn write_info(reply: &mut ReplyWriter<'_>, row: &Command) {
    let (first, last, step) = row.keys.as_redis();
    reply.array(10);
    reply.bulk(row.full_name.as_bytes());
    reply.integer(row.arity.as_redis());
    let flags: Vec<&str> = flag_names(row.flags).collect();
    write_names(reply, &flags);
    reply.integer(first);
    reply.integer(last);
    reply.integer(step);
    let categories: Vec<String> = row.categories().map(|name| format!("@{name}")).collect();
    write_names(reply, &categories.iter().map(String::as_str).collect::<Vec<_>>());
    let tips: Vec<&str> = docs::tips(row.full_name).collect();
    reply.array(tips.len());
    tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    write_key_specs(reply, row);
    reply.array(row.subcommands.len());
    row.subcommands.iter().for_each(|sub| write_info(reply, sub));
}

fn flag_names(flags: Flags) -> impl Iterator<Item = &'static str> {
    flag::REDIS_NAMES.into_iter().filter(move |(bit, _)| flags.has(*bit)).map(|(_, name)| name)
}

/// A set of names, as simple strings.
fn write_names(reply: &mut ReplyWriter<'_>, names: &[&str]) {
    reply.set(names.len());
    names.iter().for_each(|name| reply.simple(name));
}

/// Key specifications: where the search begins, and how keys are found from there.
fn write_key_specs(reply: &mut ReplyWriter<'_>, row: &Command) {
    match row.keys.place {
        Place::None => reply.set(0),
        Place::Range { first, last, step } => {
            let last = if last >= 0 { last - first as isize } else { last };
            let (last, step) = (last as i64, step as i64);
            let differ = last != 0 && row.keys.first != row.keys.rest;
            reply.set(1 + usize::from(differ));
            if differ {
                write_spec_head(reply, row, row.keys.first, Some(first));
                write_range(reply, 0, 1);
                write_spec_head(reply, row, row.keys.rest, Some(first + step as usize));
                write_range(reply, if last > 0 { last - step } else { last }, step);
            } else {
                write_spec_head(reply, row, row.keys.first, Some(first));
                write_range(reply, last, step);
            }
        }
        Place::Counted { count, destination } => {
            reply.set(1 + usize::from(destination.is_some()));
            if let Some(at) = destination {
                write_spec_head(reply, row, row.keys.first, Some(at));
                write_range(reply, 0, 1);
            }
            write_spec_head(reply, row, row.keys.rest, Some(count));
            let numbered = [("keynumidx", 0), ("firstkey", 1), ("keystep", 1)];
            write_found_by(reply, "keynum", &numbered);
        }
        Place::FirstAnd(_) => {
            reply.set(2);
            write_spec_head(reply, row, row.keys.first, Some(1));
            write_range(reply, 0, 1);
            write_spec_head(reply, row, row.keys.rest, None);
            write_found_by(reply, "unknown", &[]);
        }
        Place::Custom(_) => {
            reply.set(1);
            write_spec_head(reply, row, row.keys.first | row.keys.rest, None);
            write_found_by(reply, "unknown", &[]);
        }
    }
}

/// Keys from the place where the search begins up to `last`, counted from there.
fn write_range(reply: &mut ReplyWriter<'_>, last: i64, step: i64) {
    write_found_by(reply, "range", &[("lastkey", last), ("keystep", step), ("limit", 0)]);
}

/// A specification up to the way in which keys are found; `begin` is where the search starts.
fn write_spec_head(
    reply: &mut ReplyWriter<'_>,
    row: &Command,
    access: Access,
    begin: Option<usize>,
) {
    let mut names: Vec<&str> = access.names().collect();
    if row.keys.varies.is_some() {
        names.push("variable_flags");
    }
    reply.map(3);
    reply.bulk(b"flags");
    write_names(reply, &names);
    reply.bulk(b"begin_search");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(if begin.is_some() { b"index" } else { b"unknown" });
    reply.bulk(b"spec");
    reply.map(begin.iter().count());
    if let Some(at) = begin {
        reply.bulk(b"index");
        reply.integer(at as i64);
    }
}

fn write_found_by(reply: &mut ReplyWriter<'_>, kind: &str, spec: &[(&str, i64)]) {
    reply.bulk(b"find_keys");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(spec.len());
    for (name, value) in spec {
        reply.bulk(name.as_bytes());
        reply.integer(*value);
    }
}
