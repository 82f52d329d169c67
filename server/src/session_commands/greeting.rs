//! PING, ECHO, SELECT and QUIT.
#![forbid(unsafe_code)]

use tessera_engine::command::CommandError;
use tessera_proto::{Args, parse_i64};

use super::{After, Code, SessionContext};

pub(super) const CODE: &[(&str, Code)] = &[
    ("echo", Code::Local(echo)),
    ("ping", Code::Local(ping)),
    ("quit", Code::Local(quit)),
    ("select", Code::Local(select)),
];

/// ECHO message: the message.
fn echo(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    cx.reply().bulk(&args[1]);
    Ok(())
}

/// PING [message]: PONG, or the message.
fn ping(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    match args.len() {
        1 => cx.reply().simple("PONG"),
        2 => cx.reply().bulk(&args[1]),
        _ => return Err(CommandError::WrongArity { command: "ping".into() }),
    }
    Ok(())
}

/// QUIT: OK, and the connection is closed.
fn quit(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    cx.reply().simple("OK");
    cx.after = After::Close;
    Ok(())
}

/// SELECT index: OK.
fn select(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let number = parse_i64(&args[1]).ok_or(CommandError::text("ERR invalid DB index"))?;
    let databases = cx.shared.config.current().databases;
    let database = u32::try_from(number).ok().filter(|&number| number < databases);
    cx.session.database = database.ok_or(CommandError::DatabaseOutOfRange)?;
    cx.reply().simple("OK");
    Ok(())
}
