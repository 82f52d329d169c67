//! BGSAVE, SAVE, LASTSAVE.
#![forbid(unsafe_code)]

use std::sync::Arc;

use tessera_engine::command::CommandError;
use tessera_proto::{Args, ReplyBuffer, ReplyWriter};

use super::{Asked, Code, Everywhere, SessionContext};
use crate::{
    gather::Merge,
    saving::{Why, drive::Awaited, plan, plan_rewrite},
    server::Shared,
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

/// BGSAVE [SCHEDULE]: behind a rewrite of the log, which is a save too, it waits if that was asked
/// for.
fn ask_bgsave(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    let may_wait = match (args.len(), args.get(1)) {
        (1, _) => false,
        (2, Some(option)) if option.eq_ignore_ascii_case(b"schedule") => true,
        _ => return Err(CommandError::Syntax),
    };
    if cx.shared.saves.begin(plan(cx.shared, Why::Background)).is_none() {
        if !rewrite_is_under_way(cx.shared) {
            return Err(IN_PROGRESS);
        }
        if !may_wait {
            return Err(CommandError::text(BUSY));
        }
        schedule(cx.shared, Why::Background);
        cx.reply().simple("Background saving scheduled");
        return Ok(Asked::Answered);
    }
    tracing::info!("Background saving started");
    let finish = |_: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| {
        reply.simple("Background saving started");
    };
    Ok(Asked::Workers { args: begin_args(), merge: Merge::Custom(Box::new(finish)) })
}

/// What BGSAVE says while the log is rewritten.
const BUSY: &str = "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE \
                    SCHEDULE in order to schedule a BGSAVE whenever possible.";

fn rewrite_is_under_way(shared: &Shared) -> bool {
    shared.saves.current().is_some_and(|save| save.why() == Why::Rewrite)
}

/// Lets a save begin as soon as none is under way.
pub(super) fn schedule(shared: &Shared, why: Why) {
    shared.saves.schedule(why);
    shared.board.bell(0).ring();
}

/// BGREWRITEAOF: a snapshot takes the place of the log. It waits for a save under way.
fn ask_bgrewriteaof(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<Asked, CommandError> {
    let under_way =
        CommandError::text("ERR Background append only file rewriting already in progress");
    if cx.shared.aof.rewrites().is_installing {
        return Err(under_way);
    }
    let plan = plan_rewrite(cx.shared).ok_or(CommandError::text(
        "ERR there is no append only file to rewrite: 'appendonly' is off",
    ))?;
    if cx.shared.saves.begin(plan).is_none() {
        if rewrite_is_under_way(cx.shared) {
            return Err(under_way);
        }
        schedule(cx.shared, Why::Rewrite);
        cx.reply().simple("Background append only file rewriting scheduled");
        return Ok(Asked::Answered);
    }
    tracing::info!("Background append only file rewriting started");
    let finish = |_: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| {
        reply.simple("Background append only file rewriting started");
    };
    Ok(Asked::Workers { args: begin_args(), merge: Merge::Custom(Box::new(finish)) })
}

/// SAVE: the same, but the reply comes when the file is there. Other clients are served meanwhile.
fn ask_save(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<Asked, CommandError> {
    let save = cx.shared.saves.begin(plan(cx.shared, Why::Asked)).ok_or(IN_PROGRESS)?;
    cx.waits_for = Some(Awaited::Save(Arc::clone(&save)));
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
