//! CLIENT, as far as it concerns the connection that sends it.
//!
//! What concerns other connections (LIST, KILL, UNBLOCK) stands in `clients`.
#![forbid(unsafe_code)]

use tessera_engine::command::{CommandError, table};
use tessera_proto::{Args, ReplyWriter, parse_i64};

use super::{Asked, Code, Everywhere, SessionContext, client_line::client_line};
use crate::{gather::Merge, session::ReplyMode, worker::Worker};

pub(super) const FAMILY: &[(&str, Code)] = &[
    ("client|getname", Code::Local(getname)),
    ("client|id", Code::Local(id)),
    ("client|info", Code::Local(info)),
    ("client|no-evict", Code::Local(no_evict)),
    ("client|no-touch", Code::Local(no_touch)),
    ("client|pause", Code::Everywhere(&Everywhere { ask: ask_pause, part: pause_part })),
    ("client|reply", Code::Local(reply)),
    ("client|setinfo", Code::Local(setinfo)),
    ("client|setname", Code::Local(setname)),
    ("client|unpause", Code::Everywhere(&Everywhere { ask: ask_unpause, part: pause_part })),
];

fn getname(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    let name = std::mem::take(&mut cx.session.name);
    match name.as_str() {
        "" => cx.reply().null(),
        name => cx.reply().bulk(name.as_bytes()),
    }
    cx.session.name = name;
    Ok(())
}

fn id(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    let id = cx.session.id as i64;
    cx.reply().integer(id);
    Ok(())
}

fn info(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    // The line names this command already.
    cx.session.last_command = table().resolve(args).ok();
    let line = client_line(cx.session, cx.sizes, cx.now_us) + "\n";
    cx.reply().verbatim("txt", line.as_bytes());
    Ok(())
}

fn no_evict(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    cx.session.no_evict = on_or_off(&args[2])?;
    cx.reply().ok();
    Ok(())
}

fn no_touch(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    cx.session.no_touch = on_or_off(&args[2])?;
    cx.reply().ok();
    Ok(())
}

fn on_or_off(text: &[u8]) -> Result<bool, CommandError> {
    match text.to_ascii_lowercase().as_slice() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(CommandError::Syntax),
    }
}

/// CLIENT PAUSE milliseconds [WRITE | ALL]: answered when every worker keeps it.
fn ask_pause(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    let only_writes = match args.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"all") => false,
        Some(b"write") => true,
        Some(_) => return Err(CommandError::text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    if args.len() > 4 {
        return Err(CommandError::WrongArity { command: "client|pause".into() });
    }
    let until_us = cx.now_us.checked_add(timeout_us(&args[2])?);
    let until_us = until_us.ok_or(CommandError::text("ERR timeout is out of range"))?;
    cx.shared.pause.set(only_writes, until_us);
    Ok(Asked::Workers { args: vec![b"pause".to_vec()], merge: Merge::AllOk })
}

/// Takes up what is paused now, and what is not any more.
fn pause_part(worker: &mut Worker, _: &Args<'_>, reply: &mut ReplyWriter<'_>) {
    worker.look_at_pause();
    reply.ok();
}

/// A timeout given in milliseconds, in microseconds.
fn timeout_us(text: &[u8]) -> Result<i64, CommandError> {
    let timeout_ms = parse_i64(text)
        .ok_or(CommandError::text("ERR timeout is not an integer or out of range"))?;
    if timeout_ms < 0 {
        return Err(CommandError::text("ERR timeout is negative"));
    }
    timeout_ms.checked_mul(1_000).ok_or(CommandError::text("ERR timeout is out of range"))
}

fn ask_unpause(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<Asked, CommandError> {
    cx.shared.pause.clear();
    Ok(Asked::Workers { args: vec![b"pause".to_vec()], merge: Merge::AllOk })
}

/// CLIENT REPLY ON | OFF | SKIP. Only ON is answered.
fn reply(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    match args[2].to_ascii_lowercase().as_slice() {
        b"on" => {
            cx.session.reply_mode = ReplyMode::On;
            cx.answers_anyway = true;
            cx.reply().ok();
        }
        b"off" => cx.session.reply_mode = ReplyMode::Off,
        b"skip" if cx.session.reply_mode == ReplyMode::Off => {}
        b"skip" => cx.session.reply_mode = ReplyMode::SkipNext,
        _ => return Err(CommandError::Syntax),
    }
    Ok(())
}

/// CLIENT SETINFO LIB-NAME | LIB-VER value.
fn setinfo(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let (attribute, value) = (String::from_utf8_lossy(&args[2]), &args[3]);
    let field = match attribute.to_ascii_lowercase().as_str() {
        "lib-name" => &mut cx.session.library_name,
        "lib-ver" => &mut cx.session.library_version,
        _ => {
            return Err(CommandError::text(format!("ERR Unrecognized option '{attribute}'")));
        }
    };
    *field = printable(value).ok_or_else(|| {
        CommandError::text(format!(
            "ERR {attribute} cannot contain spaces, newlines or special characters."
        ))
    })?;
    cx.reply().ok();
    Ok(())
}

fn setname(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    cx.session.name = check_name(&args[2])?;
    cx.reply().ok();
    Ok(())
}

/// A client's name; an empty one is none.
pub(super) fn check_name(name: &[u8]) -> Result<String, CommandError> {
    printable(name).ok_or(CommandError::text(
        "ERR Client names cannot contain spaces, newlines or special characters.",
    ))
}

/// The text, if every byte of it is visible ASCII: CLIENT LIST is split at blanks.
fn printable(text: &[u8]) -> Option<String> {
    let is_visible = text.iter().all(u8::is_ascii_graphic);
    is_visible.then(|| text.iter().map(|&byte| char::from(byte)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_visible_ascii() {
        assert_eq!(check_name(b"my-app:1").unwrap(), "my-app:1");
        assert_eq!(check_name(b"").unwrap(), "");
        for name in [&b"a b"[..], b"a\nb", "é".as_bytes(), b"\x7f"] {
            assert!(check_name(name).is_err());
        }
    }

    #[test]
    fn timeouts_are_not_negative_and_fit() {
        assert_eq!(timeout_us(b"100").unwrap(), 100_000);
        let text = |timeout: &[u8]| timeout_us(timeout).unwrap_err().to_string();
        assert_eq!(text(b"-1"), "ERR timeout is negative");
        assert_eq!(text(b"x"), "ERR timeout is not an integer or out of range");
        assert_eq!(text(b"9223372036854775807"), "ERR timeout is out of range");
    }
}
