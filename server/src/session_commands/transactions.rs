//! MULTI, DISCARD, UNWATCH; WATCH and EXEC are the worker's own business (see `exec`).
#![forbid(unsafe_code)]

use tessera_engine::command::CommandError;
use tessera_proto::Args;

use super::{Code, OnWorker, SessionContext};
use crate::worker::Worker;

pub(super) const FAMILY: &[(&str, Code)] = &[
    ("discard", Code::Local(discard)),
    ("exec", Code::OnWorker(&OnWorker { run: Worker::run_exec, pack: Worker::pack_exec })),
    ("multi", Code::Local(multi)),
    ("unwatch", Code::Local(unwatch)),
    ("watch", Code::OnWorker(&OnWorker { run: Worker::run_watch, pack: Worker::pack_watch })),
];

/// MULTI. Inside of MULTI it is refused by its row.
fn multi(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    cx.session.queue = Some(Box::default());
    cx.reply().ok();
    Ok(())
}

/// DISCARD.
fn discard(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    if cx.session.queue.take().is_none() {
        return Err(CommandError::text("ERR DISCARD without MULTI"));
    }
    cx.session.watch = None;
    cx.reply().ok();
    Ok(())
}

/// UNWATCH. In a transaction it is too late to change what that depends on.
fn unwatch(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    cx.session.watch = None;
    cx.reply().ok();
    Ok(())
}
