//! Answers every request with the same bulk string: the I/O layer alone, for the figures under
//! "Ring" in `tuning.md`. It trusts its input and is no server.
//!
//! Usage: `fixed_reply PORT WORKERS REPLY_BYTES [BUFFERS BUFFER_BYTES]`

use std::{
    env,
    error::Error,
    sync::{Arc, Mutex},
};

use tessera_server::{
    net::{
        BindAddress, Board, CloseMode, Connection, ListenConfig, NetEvent, Network, NetworkConfig,
        listener,
    },
    runtime::{executor, pace::Pacer, ring::RingConfig},
    signal::{self, Shutdown},
};

/// What is at the front of the input.
enum Front {
    Request { len: usize },
    Part { missing: usize },
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let mut next = |default: usize| match arguments.next() {
        Some(word) => word.parse(),
        None => Ok(default),
    };
    let (port, workers, size) = (next(7140)?, next(1)?, next(64)?);
    let defaults = RingConfig::default();
    let ring = RingConfig {
        buffers: u16::try_from(next(defaults.buffers.into())?)?,
        buffer_size: next(defaults.buffer_size)?,
        ..defaults
    };
    let config = ListenConfig {
        bind: vec![BindAddress::parse("127.0.0.1")],
        port: Some(u16::try_from(port)?),
        ..ListenConfig::default()
    };
    let lists = listener::open(&config, workers)?;
    let lists = Mutex::new(lists.into_iter().map(Some).collect::<Vec<_>>());
    let board = Board::with_workers(workers, 10_000)?;
    let shutdown = Shutdown::default();
    let bells: Vec<_> = (0..workers).map(|worker| board.bell(worker)).collect();
    signal::watch(shutdown.clone(), move || bells.iter().for_each(|bell| bell.ring()))?;
    let reply = format!("${size}\r\n{}\r\n", "x".repeat(size)).into_bytes();
    let running = executor::start(workers, move |context| {
        let listeners = lists.lock().ok().and_then(|mut lists| lists[context.index].take());
        let config = NetworkConfig { worker: context.index, ring };
        let network = Network::new(config, Arc::clone(&board), listeners.unwrap_or_default());
        let pacer = Pacer::new(&context);
        let (reply, shutdown) = (reply.clone(), shutdown.clone());
        async move { serve(network.map_err(|error| error.to_string())?, pacer, &reply, &shutdown).await }
    })?;
    running.join().into_iter().collect::<Result<(), String>>()?;
    Ok(())
}

async fn serve(
    mut network: Network<()>,
    mut pacer: Pacer,
    reply: &[u8],
    shutdown: &Shutdown,
) -> Result<(), String> {
    while !shutdown.is_requested() {
        let turn = pacer.turn(&mut network, &|| shutdown.is_requested(), None).await;
        turn.map_err(|error| error.to_string())?;
        while let Some(event) = network.take_event() {
            match event {
                NetEvent::Readable(id) => {
                    let Some(connection) = network.connection(id) else { continue };
                    answer(connection, reply);
                    network.mark_dirty(id);
                }
                NetEvent::Ended(id) => network.close(id, CloseMode::AfterReply),
                NetEvent::Opened(_) | NetEvent::Closed(..) => {}
            }
        }
        network.finish_turn();
    }
    Ok(())
}

fn answer(connection: &mut Connection<()>, reply: &[u8]) {
    let input = connection.input.bytes();
    let (mut done, mut lacking) = (0, 0);
    while done < input.len() && lacking == 0 {
        match front(&input[done..]) {
            Front::Request { len } => {
                done += len;
                connection.output.extend(reply);
            }
            Front::Part { missing } => lacking = missing,
        }
    }
    connection.input.consume(done);
    connection.input.expect(lacking);
}

/// Measures the request at the front without looking at its arguments.
fn front(input: &[u8]) -> Front {
    let mut at = 0;
    let read = number(input, &mut at).and_then(|count| {
        (0..count).try_for_each(|_| {
            at += number(input, &mut at)? + 2;
            Some(())
        })
    });
    match read {
        Some(()) if at <= input.len() => Front::Request { len: at },
        _ => Front::Part { missing: at.saturating_sub(input.len()).max(1) },
    }
}

/// Reads `*12\r\n` or `$12\r\n` and moves behind it.
fn number(input: &[u8], at: &mut usize) -> Option<usize> {
    let line = input.get(*at + 1..)?;
    let digits = line.iter().position(|&byte| byte == b'\r')?;
    *at += digits + 3;
    line[..digits].iter().try_fold(0_usize, |value, digit| {
        value.checked_mul(10)?.checked_add(usize::from(digit.wrapping_sub(b'0')))
    })
}
