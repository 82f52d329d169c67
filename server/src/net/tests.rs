//! The network over loopback, without an executor: one thread polls, others are the clients.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use socket2::SockRef;

use super::{
    BindAddress, Board, CloseMode, ConnectionId, Counters, ListenConfig, NetEvent, Network,
    NetworkConfig, listener,
    listener::{ListenAddress, Listener},
};
use crate::runtime::{
    ring::{RingConfig, Wait},
    wake::Doorbell,
};

/// What the servers of these tests keep with a connection.
#[derive(Debug, Default)]
struct Seen {
    events: usize,
}

type Net = Network<Seen>;

/// A network in a thread of its own.
struct Server {
    address: SocketAddr,
    board: Arc<Board>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Counters>>,
}

impl Server {
    fn start(ring: RingConfig, workers: usize, handler: fn(&mut Net, NetEvent)) -> Server {
        let config = ListenConfig {
            bind: vec![BindAddress::parse("127.0.0.1")],
            port: Some(0),
            ..ListenConfig::default()
        };
        let lists = listener::open(&config, workers).expect("a free port");
        let ListenAddress::Tcp(address) = lists[0][0].address.clone() else { unreachable!() };
        let board = Board::with_workers(workers, 10_000).expect("bells");
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..workers)
            .zip(lists)
            .map(|(worker, listeners)| {
                let (board, stop) = (Arc::clone(&board), Arc::clone(&stop));
                let config = NetworkConfig { worker, ring };
                thread::spawn(move || serve(config, board, listeners, &stop, handler))
            })
            .collect();
        Server { address, board, stop, threads }
    }

    fn echo() -> Server {
        Server::start(RingConfig::default(), 1, echo)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream
    }

    fn stop(self) -> Vec<Counters> {
        self.stop.store(true, Ordering::SeqCst);
        for worker in 0..self.board.workers() {
            self.board.bell(worker).ring();
        }
        self.threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    }
}

fn serve(
    config: NetworkConfig,
    board: Arc<Board>,
    listeners: Vec<Listener>,
    stop: &AtomicBool,
    handler: fn(&mut Net, NetEvent),
) -> Counters {
    let mut network = Net::new(config, board, listeners).expect("io_uring works here");
    while !stop.load(Ordering::SeqCst) {
        turn(&mut network, handler, &|| stop.load(Ordering::SeqCst));
    }
    network.stop_accepting();
    network.close_all(CloseMode::AfterReply);
    for _ in 0..50 {
        turn(&mut network, handler, &|| false);
    }
    network.close_all(CloseMode::Now);
    while !network.is_empty() {
        turn(&mut network, handler, &|| false);
    }
    network.counters()
}

fn turn(network: &mut Net, handler: fn(&mut Net, NetEvent), has_mail: &impl Fn() -> bool) {
    let wait = Wait { spin: Duration::ZERO, sleep: Duration::from_millis(20) };
    network.poll(wait, has_mail).expect("the ring works");
    while let Some(event) = network.take_event() {
        handler(network, event);
    }
    network.finish_turn();
}

/// Sends back all whole lines.
fn echo(network: &mut Net, event: NetEvent) {
    match event {
        NetEvent::Readable(id) => {
            let connection = network.connection(id).expect("it is open");
            connection.session.events += 1;
            let input = connection.input.bytes();
            let whole = input.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            connection.output.extend(&input[..whole]);
            connection.input.consume(whole);
            network.mark_dirty(id);
        }
        NetEvent::Ended(id) => network.close(id, CloseMode::AfterReply),
        NetEvent::Opened(_) | NetEvent::Closed(..) => {}
    }
}

fn ask(stream: &mut TcpStream, line: &[u8]) -> Vec<u8> {
    stream.write_all(line).expect("the server reads");
    let mut answer = vec![0; line.len()];
    stream.read_exact(&mut answer).expect("the server answers");
    answer
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("procfs").count()
}

#[test]
fn a_line_split_over_many_packets_is_echoed_once_whole() {
    let server = Server::echo();
    let mut client = server.connect();
    client.set_nodelay(true).unwrap();
    for byte in b"hello there" {
        client.write_all(&[*byte]).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(ask(&mut client, b"\n")[..1], b"h"[..]);
    let mut rest = [0; 11];
    client.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"ello there\n");
    drop(client);
    let counters = server.stop()[0];
    assert_eq!((counters.received, counters.sent), (12, 12));
    assert_eq!((counters.opened, counters.closed), (1, 1));
}

#[test]
fn ten_thousand_connections_come_and_go_without_a_leak() {
    let server = Server::echo();
    assert_eq!(ask(&mut server.connect(), b"warm\n"), b"warm\n");
    let before = open_descriptors();
    for round in 0..10_000 {
        let mut client = server.connect();
        match round % 4 {
            // Gone before it is accepted, perhaps.
            0 => {}
            1 => client.write_all(b"half a li").unwrap(),
            _ => assert_eq!(ask(&mut client, b"line\n"), b"line\n"),
        }
        if round % 8 != 7 {
            // Reset instead of the orderly end, so that no client port lingers.
            SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    // The server closes the last ones in its own time.
    for _ in 0..500 {
        if server.board.connections() == 0 {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.board.connections(), 0);
    // Other tests of this process open a few descriptors meanwhile.
    assert!(open_descriptors() < before + 500, "{before} before, {} now", open_descriptors());
    let counters = server.stop()[0];
    assert_eq!(counters.opened, counters.closed);
    assert!(counters.opened >= 5_000, "{counters:?}");
}

#[test]
fn a_ring_that_runs_out_of_buffers_loses_nothing() {
    let ring = RingConfig { buffers: 2, buffer_size: 64, ..RingConfig::default() };
    let server = Server::start(ring, 1, echo);
    let mut clients: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    let lines: Vec<Vec<u8>> = (0..20)
        .map(|number| {
            (0..4000_u32).map(|at| b'a' + ((at + number) % 26) as u8).chain([b'\n']).collect()
        })
        .collect();
    for (client, line) in clients.iter_mut().zip(&lines) {
        client.write_all(line).unwrap();
    }
    for (client, line) in clients.iter_mut().zip(&lines) {
        let mut answer = vec![0; line.len()];
        client.read_exact(&mut answer).unwrap();
        assert!(answer == *line, "bytes are lost or mixed up");
    }
    server.stop();
}

/// Answers each line with a megabyte.
fn flood(network: &mut Net, event: NetEvent) {
    if let NetEvent::Readable(id) = event {
        let connection = network.connection(id).expect("it is open");
        let lines = connection.input.bytes().iter().filter(|&&byte| byte == b'\n').count();
        connection.input.consume(connection.input.len());
        for _ in 0..lines {
            connection.output.splice(Bytes::from(vec![b'x'; 1 << 20]));
        }
        network.mark_dirty(id);
    } else {
        echo(network, event);
    }
}

#[test]
fn peers_that_never_read_do_not_hold_up_others() {
    let server = Server::start(RingConfig::default(), 1, flood);
    let mut greedy: Vec<TcpStream> = (0..8).map(|_| server.connect()).collect();
    for client in &mut greedy {
        client.write_all(&[b'\n'; 16]).unwrap();
    }
    let mut client = server.connect();
    client.write_all(b"\n\n").unwrap();
    let mut answer = vec![0; 2 << 20];
    client.read_exact(&mut answer).unwrap();
    assert!(answer.iter().all(|&byte| byte == b'x'));
    let counters = server.stop()[0];
    assert_eq!((counters.opened, counters.closed), (9, 9));
}

#[test]
fn a_slow_reader_gets_a_long_reply_whole_and_in_order() {
    fn numbers(network: &mut Net, event: NetEvent) {
        if let NetEvent::Readable(id) = event {
            let connection = network.connection(id).expect("it is open");
            connection.input.consume(connection.input.len());
            for piece in 0..300_u32 {
                connection.output.extend(&piece.to_le_bytes());
                connection.output.splice(Bytes::from(vec![piece as u8; 50_000]));
            }
            network.mark_dirty(id);
        } else {
            echo(network, event);
        }
    }
    let server = Server::start(RingConfig::default(), 1, numbers);
    let mut client = server.connect();
    client.write_all(b"\n").unwrap();
    for piece in 0..300_u32 {
        let mut answer = vec![0; 50_004];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..4], piece.to_le_bytes());
        assert!(answer[4..].iter().all(|&byte| byte == piece as u8), "piece {piece}");
    }
    server.stop();
}

#[test]
fn peers_killed_in_the_middle_of_a_request_are_closed() {
    let server = Server::echo();
    for _ in 0..50 {
        let mut client = server.connect();
        client.write_all(b"no end of this line").unwrap();
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let mut client = server.connect();
    assert_eq!(ask(&mut client, b"alive\n"), b"alive\n");
    drop(client);
    let counters = server.stop()[0];
    assert_eq!(counters.opened, counters.closed);
}

#[test]
fn a_peer_that_sends_no_more_still_gets_its_answers() {
    let server = Server::echo();
    let mut client = server.connect();
    let lines = b"a line\n".repeat(10_000);
    let mut writer = client.try_clone().unwrap();
    let sent = lines.clone();
    let sender = thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    sender.join().unwrap();
    assert!(answer == lines);
    let counters = server.stop()[0];
    assert_eq!((counters.opened, counters.closed), (1, 1));
}

#[test]
fn clients_beyond_the_limit_read_why() {
    let server = Server::echo();
    server.board.set_limit(2);
    let mut first = server.connect();
    let mut second = server.connect();
    assert_eq!(ask(&mut first, b"1\n"), b"1\n");
    assert_eq!(ask(&mut second, b"2\n"), b"2\n");
    let mut answer = String::new();
    server.connect().read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "-ERR max number of clients reached\r\n");
    assert_eq!(server.stop()[0].rejected, 1);
}

#[test]
fn connections_are_even_over_workers_though_the_kernel_is_not() {
    let server = Server::start(RingConfig::default(), 4, echo);
    let mut clients: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(ask(client, b"here\n"), b"here\n");
    }
    let counts: Vec<u32> = (0..4).map(|worker| server.board.connections_of(worker)).collect();
    assert!(counts.iter().all(|count| (9..=11).contains(count)), "{counts:?}");
    drop(clients);
    let counters = server.stop();
    assert_eq!(counters.iter().map(|counters| counters.opened).sum::<u64>(), 40);
    // The kernel accepts at more than one listener, so each worker has joined the group.
    let accepting = counters.iter().filter(|one| one.handed_over > 0 || one.opened > 0).count();
    assert!(accepting > 1, "{counters:?}");
}

/// Takes one argument of as many bytes as the first eight say, and answers with its sum.
fn sum(network: &mut Net, event: NetEvent) {
    let NetEvent::Readable(id) = event else { return echo(network, event) };
    let connection = network.connection(id).expect("it is open");
    connection.session.events += 1;
    while let Some(head) = connection.input.bytes().first_chunk::<8>() {
        let total = 8 + u64::from_le_bytes(*head) as usize;
        let have = connection.input.len();
        if have < total {
            connection.input.expect(total - have);
            break;
        }
        let argument = connection.input.take_owned(total);
        let sum: u64 = argument[8..].iter().map(|&byte| u64::from(byte)).sum();
        connection.output.extend(&sum.to_le_bytes());
        connection.output.extend(&(connection.session.events as u64).to_le_bytes());
    }
    network.mark_dirty(id);
}

#[test]
fn long_arguments_stream_into_one_allocation_and_pipelines_survive_it() {
    let server = Server::start(RingConfig::default(), 1, sum);
    let mut client = server.connect();
    let sizes = [10, 100_000, 20 << 20, 3, 40_000, 8 << 20, 5];
    let mut writer = client.try_clone().unwrap();
    let sender = thread::spawn(move || {
        for size in sizes {
            let argument: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            writer.write_all(&(size as u64).to_le_bytes()).unwrap();
            writer.write_all(&argument).unwrap();
        }
    });
    for size in sizes {
        let mut answer = [0; 16];
        client.read_exact(&mut answer).unwrap();
        let expected: u64 = (0..size).map(|at| (at % 251) as u64).sum();
        assert_eq!(answer[..8], expected.to_le_bytes(), "{size} bytes");
    }
    sender.join().unwrap();
    server.stop();
}

/// A first line that begins with `p` pauses its connection; any other line ends the pause of all.
fn pausing(network: &mut Net, event: NetEvent) {
    if let NetEvent::Readable(id) = event {
        let connection = network.connection(id).expect("it is open");
        connection.session.events += 1;
        if connection.input.bytes().starts_with(b"p") {
            if connection.session.events == 1 {
                return network.pause_receive(id);
            }
        } else {
            let ids: Vec<ConnectionId> = network.connections().map(|(id, _)| id).collect();
            ids.into_iter().for_each(|other| network.resume_receive(other));
        }
    }
    echo(network, event);
}

#[test]
fn a_paused_connection_delivers_what_came_meanwhile_when_it_resumes() {
    let server = Server::start(RingConfig::default(), 1, pausing);
    let mut paused = server.connect();
    paused.write_all(b"pause\n").unwrap();
    paused.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let held = paused.read(&mut [0; 1]).expect_err("nothing is answered");
    assert!(matches!(held.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    paused.write_all(b"second\n").unwrap();
    assert_eq!(ask(&mut server.connect(), b"go on\n"), b"go on\n");
    paused.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut answer = [0; 13];
    paused.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"pause\nsecond\n");
    server.stop();
}

#[test]
fn a_sleeping_network_is_woken_by_its_bell_and_by_a_connection_on_its_desk() {
    let board = Board::with_workers(1, 10).expect("bells");
    let bell: Doorbell = board.bell(0);
    let (woken, wakes) = mpsc::channel();
    let sleeper = thread::spawn(move || {
        let mut network = Net::new(NetworkConfig::default(), board, Vec::new()).expect("a ring");
        for _ in 0..3 {
            network.poll(Wait::FOREVER, &|| false).expect("the ring works");
            woken.send(()).unwrap();
        }
    });
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(5));
        bell.ring();
        wakes.recv().expect("the sleeper wakes");
    }
    sleeper.join().unwrap();
}
