//! INFO, TIME, LOLWUT, SHUTDOWN.
#![forbid(unsafe_code)]

use std::sync::Arc;

use tessera_engine::command::{CommandError, table};
use tessera_proto::{Args, ReplyBuffer, ReplyWriter, parse_i64};

use super::{Asked, Code, Everywhere, OnWorker, SessionContext, config::publish_part};
use crate::{
    gather::Merge,
    info::{REDIS_VERSION, Source, TESSERA_VERSION, info},
    net::ConnectionId,
    server::Shared,
    worker::Worker,
};

const SHUTDOWN: OnWorker = OnWorker { run: Worker::run_shutdown, pack: Worker::pack_shutdown };

pub(super) const FAMILY: &[(&str, Code)] = &[
    ("info", Code::Everywhere(&Everywhere { ask: ask_info, part: publish_part })),
    ("lolwut", Code::Local(lolwut)),
    ("monitor", Code::Everywhere(&Everywhere { ask: ask_monitor, part: monitor_part })),
    ("shutdown", Code::OnWorker(&SHUTDOWN)),
    ("time", Code::Local(time)),
];

/// INFO [section …]: every worker publishes its figures first, so that a client sees in them all
/// that it has done.
fn ask_info(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    let shared = Arc::clone(cx.shared);
    let sections: Vec<Vec<u8>> = args.iter().skip(1).map(<[u8]>::to_vec).collect();
    let finish = move |_: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| {
        let sections: Vec<&[u8]> = sections.iter().map(Vec::as_slice).collect();
        reply.verbatim("txt", info_text(&shared, &sections).as_bytes());
    };
    let args = vec![b"publish".to_vec()];
    Ok(Asked::Workers { args, merge: Merge::Custom(Box::new(finish)) })
}

fn info_text(shared: &Shared, sections: &[&[u8]]) -> String {
    with_source(shared, |source| info(source, sections))
}

/// Lets `tell` work with all that there is to tell about the server.
pub(super) fn with_source<T>(shared: &Shared, tell: impl FnOnce(&Source<'_>) -> T) -> T {
    let source = Source {
        config: &shared.config.current(),
        config_file: shared.config.file(),
        process: &shared.process,
        replication_id: &shared.replication_id(),
        loading: shared.loading.status(),
        memory: &shared.memory,
        over_limit: &shared.over_limit,
        aof: &shared.aof,
        saves: &shared.saves,
        scripts: shared.scripts.figures(),
        metrics: &shared.metrics,
        command_name: &|row| {
            let command = table().all().find(|command| usize::from(command.id) == row);
            command.map_or_else(String::new, |command| command.full_name.to_owned())
        },
    };
    tell(&source)
}

/// MONITOR: only the connection's own worker is asked.
fn ask_monitor(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<Asked, CommandError> {
    cx.session.monitors = true;
    let number = cx.session.client.connection.to_string().into_bytes();
    Ok(Asked::Parts { parts: vec![(cx.worker as u32, vec![number])], merge: Merge::AllOk })
}

fn monitor_part(worker: &mut Worker, args: &Args<'_>, reply: &mut ReplyWriter<'_>) {
    if let Some(number) = parse_i64(&args[0]) {
        worker.add_monitor(ConnectionId::from_number(number as u64));
    }
    reply.ok();
}

/// TIME.
fn time(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    let now_us = cx.now_us;
    let mut reply = cx.reply();
    reply.array(2);
    reply.bulk_integer(now_us / 1_000_000);
    reply.bulk_integer(now_us % 1_000_000);
    Ok(())
}

/// LOLWUT [VERSION version …]: a mosaic, different each time and for each size.
fn lolwut(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let is_versioned = args.get(1).is_some_and(|option| option.eq_ignore_ascii_case(b"version"));
    if is_versioned {
        let version = args.get(2).ok_or(CommandError::Syntax)?;
        parse_i64(version).ok_or(CommandError::NotAnInteger)?;
    }
    let text = format!(
        "{}Redis ver. {REDIS_VERSION}, Tessera ver. {TESSERA_VERSION}\n",
        mosaic(cx.now_us as u64, 40, 8)
    );
    cx.reply().verbatim("txt", text.as_bytes());
    Ok(())
}

/// Tiles whose colours follow a square root, so that neighbours are alike and rows never repeat.
fn mosaic(seed: u64, width: u64, height: u64) -> String {
    const TILES: [char; 4] = [' ', '░', '▒', '▓'];
    let mut text = String::new();
    for row in 0..height {
        for column in 0..width {
            let distance = (seed % 97 + column * column + 3 * row * row * (1 + seed % 5)).isqrt();
            text.push(TILES[(distance % 4) as usize]);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mosaic_has_its_size_and_changes() {
        let text = mosaic(1, 40, 8);
        assert_eq!(text.lines().count(), 8);
        assert!(text.lines().all(|line| line.chars().count() == 40));
        assert_ne!(text, mosaic(2, 40, 8));
    }
}
