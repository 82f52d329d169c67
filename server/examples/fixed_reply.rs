//! Answers every request with the same bulk string: measures the I/O layer alone.
//! Usage: fixed_reply PORT WORKERS REPLY_BYTES
use std::{
    env,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Instant,
};

use tessera_server::{
    net::{
        BindAddress, Board, CloseMode, ListenConfig, NetEvent, Network, NetworkConfig, listener,
    },
    runtime::{
        executor::{self, WorkerContext},
        pace::Pacer,
        ring::RingConfig,
    },
    signal::{self, Shutdown},
};

fn number(input: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0;
    *at += 1;
    loop {
        match *input.get(*at)? {
            b'\r' => {
                *at += 2;
                return (*at <= input.len()).then_some(value);
            }
            digit => value = value * 10 + usize::from(digit - b'0'),
        }
        *at += 1;
    }
}

enum Parsed {
    Whole(usize),
    Missing(usize),
}

fn request(input: &[u8]) -> Parsed {
    let mut at = 0;
    let parsed = (|| {
        for _ in 0..number(input, &mut at)? {
            at += number(input, &mut at)? + 2;
        }
        Some(())
    })();
    match parsed {
        Some(()) if at <= input.len() => Parsed::Whole(at),
        _ if at > input.len() => Parsed::Missing(at - input.len()),
        _ => Parsed::Missing(1),
    }
}

fn serve(
    mut network: Network<()>,
    mut pacer: Pacer,
    reply: Vec<u8>,
    shutdown: Shutdown,
) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        let mut stopping: Option<Instant> = None;
        loop {
            pacer
                .turn(&mut network, &|| shutdown.is_requested() && stopping.is_none(), None)
                .await
                .expect("the ring works");
            while let Some(event) = network.take_event() {
                match event {
                    NetEvent::Readable(id) => {
                        let connection = network.connection(id).expect("it is open");
                        let input = connection.input.bytes();
                        let mut done = 0;
                        while done < input.len() {
                            match request(&input[done..]) {
                                Parsed::Whole(len) => {
                                    done += len;
                                    connection.output.extend(&reply);
                                }
                                Parsed::Missing(missing) => {
                                    connection.input.consume(done);
                                    done = 0;
                                    connection.input.expect(missing);
                                    break;
                                }
                            }
                        }
                        connection.input.consume(done);
                        network.mark_dirty(id);
                    }
                    NetEvent::Ended(id) => network.close(id, CloseMode::AfterReply),
                    NetEvent::Opened(_) | NetEvent::Closed(..) => {}
                }
            }
            network.finish_turn();
            if shutdown.is_requested() {
                if stopping.is_none() {
                    stopping = Some(Instant::now());
                    network.stop_accepting();
                    network.close_all(CloseMode::AfterReply);
                }
                if network.is_empty() {
                    eprintln!("{:?}", network.counters());
                    return;
                }
            }
        }
    })
}

fn main() {
    let mut arguments = env::args().skip(1);
    let mut next =
        |default: usize| arguments.next().map_or(default, |word| word.parse().expect("a number"));
    let (port, workers, size) = (next(7140), next(1), next(64));
    let (buffers, buffer_size) = (next(256), next(16384));
    let mut reply = format!("${size}\r\n").into_bytes();
    reply.extend(std::iter::repeat_n(b'x', size));
    reply.extend(b"\r\n");
    let config = ListenConfig {
        bind: vec![BindAddress::parse("127.0.0.1")],
        port: Some(port as u16),
        ..ListenConfig::default()
    };
    let lists = listener::open(&config, workers).unwrap_or_else(|error| {
        eprintln!("{error}");
        std::process::exit(1)
    });
    let lists = Arc::new(Mutex::new(lists.into_iter().map(Some).collect::<Vec<_>>()));
    let board = Board::with_workers(workers, 10_000).expect("bells");
    let shutdown = Shutdown::default();
    let bells: Vec<_> = (0..workers).map(|worker| board.bell(worker)).collect();
    signal::watch(shutdown.clone(), move || bells.iter().for_each(|bell| bell.ring()))
        .expect("signals");
    let running = executor::start(workers, move |context: WorkerContext| {
        let listeners = lists.lock().unwrap()[context.index].take().expect("once");
        let ring = RingConfig { buffers: buffers as u16, buffer_size, ..RingConfig::default() };
        let network = Network::new(
            NetworkConfig { worker: context.index, ring },
            Arc::clone(&board),
            listeners,
        )
        .unwrap_or_else(|error| panic!("{error}"));
        serve(network, Pacer::new(&context), reply.clone(), shutdown.clone())
    });
    match running {
        Ok(workers) => {
            workers.join();
        }
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1)
        }
    }
}
