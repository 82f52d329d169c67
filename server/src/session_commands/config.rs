//! CONFIG GET, SET, REWRITE, RESETSTAT.
#![forbid(unsafe_code)]

use std::{io, sync::Arc};

use tessera_engine::command::CommandError;
use tessera_proto::{Args, ReplyBuffer, ReplyWriter};

use super::{Asked, Code, Everywhere, SessionContext, save::schedule};
use crate::{
    config,
    gather::Merge,
    saving::{Why, drive::Awaited},
    worker::Worker,
};

pub(super) const FAMILY: &[(&str, Code)] = &[
    ("config|get", Code::Local(get)),
    ("config|resetstat", Code::Everywhere(&Everywhere { ask: ask_resetstat, part: publish_part })),
    ("config|rewrite", Code::Local(rewrite)),
    ("config|set", Code::Everywhere(&Everywhere { ask: ask_set, part: set_part })),
];

/// CONFIG GET pattern …
fn get(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let patterns: Vec<&[u8]> = args.iter().skip(2).collect();
    let options = config::get(&cx.shared.config.current(), &patterns);
    let mut reply = cx.reply();
    reply.map(options.len());
    for (name, value) in options {
        reply.bulk(name.as_bytes());
        reply.bulk(&value);
    }
    Ok(())
}

/// Counters are published by every worker first, so that the reset forgets all of them.
fn ask_resetstat(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<Asked, CommandError> {
    let shared = Arc::clone(cx.shared);
    let finish = move |_: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| {
        shared.metrics.reset();
        shared.over_limit.reset();
        reply.ok();
    };
    let args = vec![b"publish".to_vec()];
    Ok(Asked::Workers { args, merge: Merge::Custom(Box::new(finish)) })
}

/// Publishes a worker's figures, for whoever reads them next.
pub(super) fn publish_part(worker: &mut Worker, _: &Args<'_>, reply: &mut ReplyWriter<'_>) {
    worker.publish();
    reply.ok();
}

fn rewrite(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    cx.shared.config.rewrite().map_err(|error| {
        tracing::warn!("CONFIG REWRITE failed: {error}");
        CommandError::text(error.to_string())
    })?;
    tracing::info!("CONFIG REWRITE executed with success.");
    cx.reply().ok();
    Ok(())
}

/// CONFIG SET option value …: the change is published at once and acknowledged when every worker
/// goes by it. Each does so at the place of this question in its mailbox, so that what the client
/// sent before is executed by the old configuration, wherever that is.
fn ask_set(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    if !args.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    let pairs: Vec<(&[u8], &[u8])> =
        (2..args.len()).step_by(2).map(|at| (&args[at], &args[at + 1])).collect();
    let is_local = cx.session.is_local;
    let generation = cx
        .shared
        .config
        .set(&pairs, is_local)
        .map_err(|error| CommandError::text(error.to_string()))?;
    let mut args = vec![generation.to_le_bytes().to_vec()];
    if switch_log(cx) {
        args.push(STOP_LOGGING.to_vec());
    }
    Ok(Asked::Workers { args, merge: Merge::AllOk })
}

/// What workers are told when `appendonly` is turned off.
const STOP_LOGGING: &[u8] = b"stop-logging";

/// Goes by `appendonly` as it is now; answers whether workers must stop to log.
fn switch_log(cx: &mut SessionContext<'_>) -> bool {
    let aof = &cx.shared.aof;
    if aof.take_start() {
        // The log begins with a rewrite.
        schedule(cx.shared, Why::Rewrite);
    }
    if cx.shared.config.current().appendonly || !aof.turn_off() {
        return false;
    }
    cx.shared.saves.unschedule(Why::Rewrite);
    if let Some(save) = cx.shared.saves.current().filter(|save| save.why() == Why::Rewrite) {
        save.fail(io::Error::other("the log is turned off"));
    }
    cx.waits_for = Some(Awaited::EndOfLog);
    true
}

fn set_part(worker: &mut Worker, args: &Args<'_>, reply: &mut ReplyWriter<'_>) {
    let generation = <[u8; 8]>::try_from(&args[0]).map_or(0, u64::from_le_bytes);
    if worker.config.advance(generation) {
        worker.configure();
    }
    if args.get(1) == Some(STOP_LOGGING) {
        worker.stop_logging();
    }
    if let Some(relocation) = worker.shared.new_listeners.take(worker.own as usize) {
        worker.network.relocate(relocation);
    }
    reply.ok();
}
