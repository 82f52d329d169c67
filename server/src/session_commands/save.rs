//! BGSAVE, SAVE, LASTSAVE.
#![forbid(unsafe_code)]

use std::sync::Arc;

use tessera_engine::command::CommandError;
use tessera_proto::{Args, ReplyBuffer, ReplyWriter};

use super::{Asked, Code, Everywhere, SessionContext};
use crate::{
    gather::Merge,
    saving::{Why, plan, plan_rewrite},
    worker::Worker,
};

pub(super) const FAMILY: &[(&str, Code)] = &[
    ("bgsave", Code::Everywhere(&Everywhere { ask: ask_bgsave, part: begin_part })),
    ("bgrewriteaof", Code::Everywhere(&Everywhere { ask: ask_bgrewriteaof, part: begin_part })),
    ("lastsave", Code::Local(lastsave)),
    ("save", Code::Everywhere(&Everywhere { ask: ask_save, part: begin_part })),
];

const IN_PROGRESS: CommandError =
    CommandError::Text(std::borrow::Cow::Borrowed("ERR Background save already in progress"));

/// BGSAVE [SCHEDULE]. Nothing else needs the place of a save here, so there is nothing that a save
/// would have to be scheduled behind.
fn ask_bgsave(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    let is_known = match (args.len(), args.get(1)) {
        (1, _) => true,
        (2, Some(option)) => option.eq_ignore_ascii_case(b"schedule"),
        _ => false,
    };
    if !is_known {
        return Err(CommandError::Syntax);
    }
    cx.shared.saves.begin(plan(cx.shared, Why::Background)).ok_or(IN_PROGRESS)?;
    tracing::info!("Background saving started");
    let finish = |_: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| {
        reply.simple("Background saving started");
    };
    Ok(Asked::Workers { args: begin_args(), merge: Merge::Custom(Box::new(finish)) })
}

/// BGREWRITEAOF: a snapshot takes the place of the log.
fn ask_bgrewriteaof(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<Asked, CommandError> {
    let under_way =
        CommandError::text("ERR Background append only file rewriting already in progress");
    if cx.shared.aof.rewrites().is_installing {
        return Err(under_way);
    }
    let plan = plan_rewrite(cx.shared).ok_or(CommandError::text(
        "ERR there is no append only file to rewrite: the server was started with 'appendonly no'",
    ))?;
    let is_rewrite = cx.shared.saves.current().is_some_and(|save| save.why() == Why::Rewrite);
    let busy = if is_rewrite { under_way } else { IN_PROGRESS };
    cx.shared.saves.begin(plan).ok_or(busy)?;
    tracing::info!("Background append only file rewriting started");
    let finish = |_: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| {
        reply.simple("Background append only file rewriting started");
    };
    Ok(Asked::Workers { args: begin_args(), merge: Merge::Custom(Box::new(finish)) })
}

/// SAVE: the same, but the reply comes when the file is there. Other clients are served meanwhile.
fn ask_save(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<Asked, CommandError> {
    let save = cx.shared.saves.begin(plan(cx.shared, Why::Asked)).ok_or(IN_PROGRESS)?;
    cx.waits_for = Some(Arc::clone(&save));
    let finish = move |_: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| match save.outcome() {
        Some(true) => reply.ok(),
        _ => reply.error("ERR"),
    };
    Ok(Asked::Workers { args: begin_args(), merge: Merge::Custom(Box::new(finish)) })
}

/// LASTSAVE: when the last save that succeeded ended, in Unix seconds.
fn lastsave(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    let saved_at_s = cx.shared.saves.record().saved_at_s;
    cx.reply().integer(i64::try_from(saved_at_s).unwrap_or(i64::MAX));
    Ok(())
}

fn begin_args() -> Vec<Vec<u8>> {
    vec![b"bgsave".to_vec()]
}

fn begin_part(worker: &mut Worker, _: &Args<'_>, reply: &mut ReplyWriter<'_>) {
    worker.begin_saving();
    reply.ok();
}
