//! Start and stop: options, configuration files, refusals that name cause and cure, signals.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    Reply, Server, ServerKind, on_1_2_and_4_shards, program_under_test, run_to_end, skip,
};

on_1_2_and_4_shards!(
    configuration_file_and_options,
    included_files,
    unix_socket,
    maxclients,
    timeout_closes_idle_clients,
    terminate_finishes_what_was_received,
    interrupt_stops_too,
    shutdown_command,
    port_in_use,
    connections_are_spread_evenly,
    several_addresses,
);

fn configuration_file_and_options(shards: usize) {
    let text = "# a comment\n\ntimeout 300\n  tcp-keepalive   60\nrequirepass \"se cret\"\nloglevel notice\n";
    let server = Server::builder(shards).config(text).option("timeout", 100).start();
    let mut client = server.connect();
    client.transcript(
        r#"
        AUTH "se cret"              => +OK
        CONFIG GET timeout          => ["timeout" "100"]
        CONFIG GET tcp-keepalive    => ["tcp-keepalive" "60"]
        CONFIG GET loglevel         => ["loglevel" "notice"]
        "#,
    );
}

fn included_files(shards: usize) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("more.conf");
    fs::write(&path, "timeout 77\ndatabases 4\n").expect("a file");
    let text = format!("timeout 1\ninclude {}\n", path.display());
    let server = Server::builder(shards).config(&text).start();
    server.connect().transcript(
        r#"
        CONFIG GET timeout          => ["timeout" "77"]
        SELECT 3                    => +OK
        SELECT 4                    => -ERR DB index is out of range
        "#,
    );
}

fn unix_socket(shards: usize) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("tessera.sock");
    let server = Server::builder(shards).option("unixsocket", path.display()).start();
    server.connect().run("SET k v");
    for _ in 0..2 * shards {
        let mut stream = UnixStream::connect(&path).expect("the server's socket");
        stream.write_all(b"GET k\r\n").expect("an open socket");
        let mut reply = [0; 7];
        stream.read_exact(&mut reply).expect("a reply");
        assert_eq!(&reply, b"$1\r\nv\r\n");
    }
}

fn maxclients(shards: usize) {
    let server = Server::builder(shards).option("maxclients", 20).start();
    let mut first = server.connect();
    // The start's own probe may still count for a moment.
    let start = Instant::now();
    while !first.run("INFO clients").into_text().contains("connected_clients:1\r\n") {
        assert!(start.elapsed() < Duration::from_secs(60), "the probe's connection stays");
    }
    let mut clients = vec![first];
    clients.extend((1..20).map(|_| server.connect()));
    for client in &mut clients {
        client.transcript("PING => +PONG");
    }
    let refused = server.connect().read_to_end();
    assert_eq!(refused, b"-ERR max number of clients reached\r\n");
    clients[0].run("QUIT");
    assert!(clients[0].is_closed());
    clients[1].transcript("CONFIG SET maxclients 40 => +OK");
    clients.extend((0..20).map(|_| server.connect()));
    clients.last_mut().expect("a client").transcript("PING => +PONG");
}

fn timeout_closes_idle_clients(shards: usize) {
    let server = Server::builder(shards).option("timeout", 1).start();
    let mut idle: Vec<_> = (0..4).map(|_| server.connect()).collect();
    assert!(idle.iter_mut().all(|client| client.is_closed()));
}

/// Requests that have reached the server are answered; the process ends with status 0.
fn terminate_finishes_what_was_received(shards: usize) {
    if !ServerKind::under_test().is_tessera() {
        return skip("redis-server stops between two turns of its loop");
    }
    let mut server = Server::start(shards);
    let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    const COMMANDS: usize = 1_000;
    for client in &mut clients {
        client.transcript("PING => +PONG");
        for n in 0..COMMANDS {
            client.push(["INCR", &format!("key:{n}")]);
        }
        client.flush();
    }
    for client in &mut clients {
        client.receive();
    }
    server.signal(Signal::TERM);
    for client in &mut clients {
        let mut replies = 1;
        while let Ok(reply) = client.try_receive() {
            assert!(matches!(reply, Reply::Integer(_)), "{reply:?}");
            replies += 1;
        }
        assert_eq!(replies, COMMANDS, "all that was sent before the signal is answered");
    }
    assert_eq!(server.wait_for_end().code(), Some(0), "{}", server.log());
    assert!(server.try_connect().is_err(), "nobody listens any more");
}

fn interrupt_stops_too(shards: usize) {
    let mut server = Server::start(shards);
    let _idle: Vec<_> = (0..4).map(|_| server.connect()).collect();
    server.signal(Signal::INT);
    assert_eq!(server.wait_for_end().code(), Some(0), "{}", server.log());
}

fn shutdown_command(shards: usize) {
    let mut server = Server::start(shards);
    let mut client = server.connect();
    client.transcript("SHUTDOWN WHAT => -ERR syntax error");
    client.push(["SHUTDOWN", "NOSAVE"]);
    client.flush();
    assert!(client.is_closed(), "no reply, as Redis");
    assert_eq!(server.wait_for_end().code(), Some(0), "{}", server.log());
}

/// Another server's port, and one of Tessera's own, which listens with SO_REUSEPORT.
fn port_in_use(shards: usize) {
    let foreign = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = foreign.local_addr().expect("a bound socket").port();
    let own = Server::start(shards);
    for port in [port, own.port()] {
        let (status, log) = Server::builder(shards).option("port", port).start_refused();
        assert!(!status.success());
        assert!(log.contains("in use") && log.contains(&port.to_string()), "{log}");
    }
    own.connect().transcript("PING => +PONG");
}

/// Reconnecting in any rhythm leaves no worker without connections.
fn connections_are_spread_evenly(shards: usize) {
    if !ServerKind::under_test().is_tessera() {
        return skip("only Tessera has shards");
    }
    let server = Server::start(shards);
    const CLIENTS: usize = 64;
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| client.transcript("PING => +PONG"));
    check_spread(&server, shards, CLIENTS);
    // Every second one goes and comes again.
    for n in (0..CLIENTS).step_by(2) {
        clients[n] = server.connect();
        clients[n].transcript("PING => +PONG");
    }
    check_spread(&server, shards, CLIENTS);
}

fn check_spread(server: &Server, shards: usize, clients: usize) {
    let text = server.connect().run("INFO shards").into_text();
    let counts: Vec<usize> = text
        .lines()
        .filter_map(|line| {
            let (_, rest) = line.split_once("clients=")?;
            rest.split(',').next()?.parse().ok()
        })
        .collect();
    assert_eq!(counts.len(), shards, "{text}");
    let fair = clients / shards;
    let even = counts.iter().all(|&count| (fair / 2..=2 * fair).contains(&count));
    assert!(even, "connections by shard: {counts:?}");
}

fn several_addresses(shards: usize) {
    let server = Server::builder(shards).config("bind 127.0.0.1 127.0.0.2 -::1\n").start();
    for address in ["127.0.0.1", "127.0.0.2"] {
        let mut stream = TcpStream::connect((address, server.port())).expect("a listener");
        stream.write_all(b"PING\r\n").expect("an open connection");
        let mut reply = [0; 7];
        stream.read_exact(&mut reply).expect("a reply");
        assert_eq!(&reply, b"+PONG\r\n");
    }
}

/// What Redis refuses too, plus what concerns shards.
#[test]
fn wrong_options_are_refused_by_name() {
    let mut cases = vec![
        ("nosuch-option", "1", "nosuch-option"),
        ("port", "123456", "port"),
        ("port", "x", "port"),
        ("maxclients", "0", "maxclients"),
        ("databases", "0", "databases"),
        ("loglevel", "loud", "loglevel"),
        ("tcp-keepalive", "-1", "tcp-keepalive"),
        ("dir", "/nowhere/at/all", "nowhere"),
    ];
    if ServerKind::under_test().is_tessera() {
        cases.extend([("shards", "0", "shards"), ("shards", "x", "shards")]);
        cases.push(("shards", "100000", "shards"));
    }
    for (option, value, named) in cases {
        let (status, log) = Server::builder(1).option(option, value).start_refused();
        assert!(!status.success(), "--{option} {value}");
        assert!(log.contains(named), "--{option} {value} is named:\n{log}");
    }
}

#[test]
fn wrong_configuration_files_are_refused_with_the_line() {
    for text in ["timeout 1\nnosuch-option 1\n", "timeout\n", "timeout \"1\n", "include /nowhere\n"]
    {
        let (status, log) = Server::builder(1).config(text).start_refused();
        assert!(!status.success(), "{text}");
        assert!(!log.contains("panicked"), "{log}");
        let last = text.lines().last().expect("a line").split(' ').next_back().expect("a word");
        assert!(log.contains(last.trim_matches('"')), "{text:?} is named:\n{log}");
    }
}

/// Debian's configuration is full of options of parts that are not built yet.
#[test]
fn a_stock_redis_configuration_starts() {
    let Ok(stock) = fs::read_to_string("/etc/redis/redis.conf") else {
        return skip("/etc/redis/redis.conf is not readable");
    };
    // What names folders of the system or another process's port is left out.
    let own = ["port ", "dir ", "logfile ", "pidfile ", "daemonize ", "supervised ", "save "];
    let lines = stock.lines().filter(|line| !own.iter().any(|name| line.starts_with(name)));
    let text: Vec<_> = lines.collect();
    let server = Server::builder(1).config(&format!("{}\n", text.join("\n"))).start();
    server.connect().transcript("SET k v => +OK");
    if ServerKind::under_test().is_tessera() {
        assert!(server.log().contains("appendonly") || server.log().contains("repl"), "warned");
    }
}

#[test]
fn version_and_help() {
    for flag in ["--version", "-v", "--help", "-h"] {
        let done =
            run_to_end(Command::new(program_under_test()).arg(flag), Duration::from_secs(60));
        if flag.contains('v') {
            assert!(done.success && done.stdout.contains("v="), "{}", done.stdout);
        } else {
            let said = format!("{}{}", done.stdout, done.stderr);
            assert!(said.contains("--port"), "{said}");
        }
    }
}

/// In protected mode, without a password and on all addresses, strangers are refused. A test has
/// only loopback to come from, so what is checked is that loopback is served.
#[test]
fn protected_mode_serves_loopback() {
    let server = Server::builder(1).option("protected-mode", "yes").start();
    thread::sleep(Duration::from_millis(1));
    server.connect().transcript("PING => +PONG");
}
