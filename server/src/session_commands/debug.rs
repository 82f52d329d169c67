//! DEBUG, as far as it needs no key.
#![forbid(unsafe_code)]

use std::time::Duration;

use tessera_engine::{command::CommandError, shard::Settings};
use tessera_proto::{Args, ReplyWriter, float::parse_f64, glob_matches, parse_i64};

use super::{Asked, Code, Everywhere, OnWorker, SessionContext};
use crate::{gather::Merge, worker::Worker};

pub(super) const FAMILY: &[(&str, Code)] = &[
    ("debug|change-repl-id", Code::Local(change_repl_id)),
    ("debug|jmap", Code::Local(jmap)),
    ("debug|quicklist-packed-threshold", Code::Local(quicklist_packed_threshold)),
    ("debug|reload", Code::OnWorker(&RELOAD)),
    ("debug|set-active-expire", Code::Everywhere(&ACTIVE_EXPIRE)),
    ("debug|sleep", Code::Everywhere(&SLEEP)),
    ("debug|stringmatch-len", Code::Local(stringmatch_len)),
];

const RELOAD: OnWorker = OnWorker { run: Worker::run_reload, pack: Worker::pack_reload };
const SLEEP: Everywhere = Everywhere { ask: ask_sleep, part: sleep_part };
const ACTIVE_EXPIRE: Everywhere = Everywhere { ask: ask_active_expire, part: active_expire_part };

fn change_repl_id(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    tracing::info!("Changing replication IDs after receiving DEBUG change-repl-id");
    cx.shared.change_replication_id();
    cx.reply().ok();
    Ok(())
}

/// DEBUG JMAP is a rival's command to a virtual machine that is not here.
fn jmap(_: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    Err(CommandError::text("ERR there is no Java virtual machine here"))
}

/// Lists have no plain nodes here, so the size is checked and has no effect.
fn quicklist_packed_threshold(
    cx: &mut SessionContext<'_>,
    args: &Args<'_>,
) -> Result<(), CommandError> {
    let bytes = crate::config::parse_memory(&args[2]).filter(|&bytes| bytes < 1 << 32);
    bytes.ok_or(CommandError::text(
        "ERR argument must be a memory value bigger than 1 and smaller than 4gb",
    ))?;
    cx.reply().ok();
    Ok(())
}

/// The longest DEBUG SLEEP.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// DEBUG SLEEP seconds: all workers stand still, as the one thread of Redis would.
fn ask_sleep(_: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    Ok(Asked::Workers { args: vec![args[2].to_vec()], merge: Merge::AllOk })
}

fn sleep_part(_: &mut Worker, args: &Args<'_>, reply: &mut ReplyWriter<'_>) {
    let seconds = parse_f64(&args[0]).unwrap_or(0.0);
    let time = Duration::try_from_secs_f64(seconds).unwrap_or_default().min(SLEEP_MAX);
    std::thread::sleep(time);
    reply.ok();
}

/// DEBUG SET-ACTIVE-EXPIRE 0 | 1.
fn ask_active_expire(_: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    Ok(Asked::Workers { args: vec![args[2].to_vec()], merge: Merge::AllOk })
}

fn active_expire_part(worker: &mut Worker, args: &Args<'_>, reply: &mut ReplyWriter<'_>) {
    let active_expire = parse_i64(&args[0]).unwrap_or(0) != 0;
    let settings = Settings { active_expire, ..worker.shard.settings().clone() };
    worker.shard.configure(settings);
    reply.ok();
}

/// The longest text that DEBUG STRINGMATCH-LEN makes up.
const MATCHED_BYTES_MAX: i64 = 64 << 20;

/// DEBUG STRINGMATCH-LEN length pattern: whether the pattern matches that many letters `a`.
fn stringmatch_len(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let length = parse_i64(&args[2]).filter(|length| (0..=MATCHED_BYTES_MAX).contains(length));
    let text = vec![b'a'; length.ok_or(CommandError::NotAnInteger)? as usize];
    let is_match = glob_matches(&args[3], &text);
    cx.reply().integer(is_match.into());
    Ok(())
}
