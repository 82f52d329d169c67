//! RESP at its edges, and clients that behave badly: each gets a clear error or is slowed down,
//! and nobody else notices.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Client, Reply, Server, ServerKind, on_1_2_and_4_shards, scaled};

on_1_2_and_4_shards!(
    malformed_requests,
    limits_before_authentication,
    requests_in_any_pieces,
    inline_commands,
    empty_requests_are_ignored,
    requests_of_browsers_close_their_connection,
    resp3_replies,
    half_closed_socket,
    client_that_never_reads,
    output_buffer_limit,
    connections_cut_in_mid_command,
    oversized_announcements_cost_nothing,
    many_connects_and_disconnects,
    deep_pipeline,
);

/// What the server says, up to and including its closing of the connection.
fn last_words(server: &Server, request: &[u8]) -> String {
    let mut client = server.connect();
    // The server may close before it has read all: what it said is what counts.
    let _ = client.send_raw(request);
    String::from_utf8(client.read_to_end()).expect("an error text")
}

fn malformed_requests(shards: usize) {
    let server = Server::builder(shards).option("proto-max-bulk-len", "1mb").start();
    let mut witness = server.connect();
    let long = "x".repeat(70_000);
    let cases: &[(&str, &str)] = &[
        ("*x\r\n", "invalid multibulk length"),
        ("*2147483648\r\n", "invalid multibulk length"),
        ("*99999999999999999999\r\n", "invalid multibulk length"),
        ("* 1\r\n", "invalid multibulk length"),
        ("*1\r\nPING\r\n", "expected '$', got 'P'"),
        ("*1\r\n\r\n", "expected '$', got '\r'"),
        ("*1\r\n*1\r\n", "expected '$', got '*'"),
        ("*1\r\n$x\r\n", "invalid bulk length"),
        ("*1\r\n$-1\r\n", "invalid bulk length"),
        ("*1\r\n$\r\n", "invalid bulk length"),
        ("*1\r\n$1048577\r\n", "invalid bulk length"),
        ("*1\r\n$99999999999999999999\r\n", "invalid bulk length"),
        ("SET k \"x\r\n", "unbalanced quotes in request"),
        ("SET k \"x\"y\r\n", "unbalanced quotes in request"),
        ("SET k 'x\r\n", "unbalanced quotes in request"),
        (&long, "too big inline request"),
        (&format!("*{long}"), "too big mbulk count string"),
        (&format!("*1\r\n${long}"), "too big bulk count string"),
    ];
    for (request, text) in cases {
        // Redis writes the offending byte as it is, except that line breaks become blanks.
        let expected = format!("-ERR Protocol error: {}\r\n", text.replace('\r', " "));
        let said = last_words(&server, request.as_bytes());
        assert_eq!(said, expected, "{}", &request[..request.len().min(40)].escape_debug());
        let said = last_words(&server, format!("PING\r\n{request}").as_bytes());
        assert_eq!(said, format!("+PONG\r\n{expected}"), "what came before is answered");
    }
    assert_eq!(witness.run("PING"), Reply::Simple("PONG".into()));
}

fn limits_before_authentication(shards: usize) {
    let server = Server::builder(shards).option("requirepass", "secret").start();
    let said = last_words(&server, b"*11\r\n");
    assert_eq!(said, "-ERR Protocol error: unauthenticated multibulk length\r\n");
    let said = last_words(&server, b"*1\r\n$16385\r\n");
    assert_eq!(said, "-ERR Protocol error: unauthenticated bulk length\r\n");
    let mut client = server.connect();
    client.transcript("AUTH secret => +OK");
    let value = "x".repeat(100_000);
    assert_eq!(client.call(["SET", "k", &value]), Reply::ok());
}

fn requests_in_any_pieces(shards: usize) {
    let server = Server::start(shards);
    let request =
        b"*3\r\n$3\r\nSET\r\n$6\r\nk\r\n\r\n\x00\r\n$4\r\n$1\r\n\r\nGET k\r\n*1\r\n$4\r\nPING\r\n";
    let expected = b"+OK\r\n$-1\r\n+PONG\r\n";
    for piece_length in [1, 2, 3, 5, 7, 11, 40, request.len()] {
        let mut client = server.connect();
        for piece in request.chunks(piece_length) {
            client.send_raw(piece).expect("an open connection");
            thread::sleep(Duration::from_micros(200));
        }
        client.finish_sending();
        let said = client.read_to_end();
        assert_eq!(said.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}

fn inline_commands(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let mut ask = |line: &str| {
        client.send_raw(line.as_bytes()).expect("an open connection");
        client.receive()
    };
    assert_eq!(ask("PING\r\n"), Reply::Simple("PONG".into()));
    assert_eq!(ask("ping\n"), Reply::Simple("PONG".into()));
    assert_eq!(ask("  SET   k \"a b\\x41\\n\"  \r\n"), Reply::ok());
    assert_eq!(ask("GET k\r\n"), Reply::bulk("a bA\n"));
    assert_eq!(ask("SET k 'it\\'s \\n'\r\n"), Reply::ok());
    assert_eq!(ask("GET 'k'\r\n"), Reply::bulk("it's \\n"));
    assert_eq!(ask("SET k \"\"\r\n"), Reply::ok());
    assert_eq!(ask("GET k\r\n"), Reply::bulk(""));
    let shown = "x".repeat(128);
    let unknown = format!("ERR unknown command 'nosuch', with args beginning with: '{shown}' ");
    assert_eq!(ask(&format!("nosuch {shown}xyz y\r\n")), Reply::Error(unknown));
}

/// A page can make a browser post lines of its choice here; none of them must be executed.
fn requests_of_browsers_close_their_connection(shards: usize) {
    let server = Server::start(shards);
    for header in
        ["POST / HTTP/1.1\r\n", "post\r\n", "GET / HTTP/1.1\r\nHost: a\r\n", "MULTI\r\nhost: a\r\n"]
    {
        let answer = last_words(&server, format!("{header}\r\nSET k v\r\n").as_bytes());
        assert!(!answer.contains("unknown command"), "{header}: {answer}");
    }
    let mut array = b"*1\r\n$4\r\nPOST\r\n".to_vec();
    array.extend(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n");
    assert_eq!(last_words(&server, &array), "");
    // Replies that are due are given before.
    assert_eq!(last_words(&server, b"PING\r\nHost: a\r\nPING\r\n"), "+PONG\r\n");
    assert_eq!(server.connect().run("EXISTS k"), Reply::Integer(0));
}

fn empty_requests_are_ignored(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.send_raw(b"\r\n\r\n\n*0\r\n*-1\r\n   \r\nPING\r\n").expect("an open connection");
    assert_eq!(client.receive(), Reply::Simple("PONG".into()));
    client.finish_sending();
    assert_eq!(client.read_to_end(), b"");
}

fn resp3_replies(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let hello = client.run("HELLO 3");
    assert!(matches!(hello, Reply::Map(_)), "{hello:?}");
    client.transcript(
        r#"
        GET absent              => null
        MGET absent             => [null]
        SET k v XX              => null
        INCRBYFLOAT f 1.5       => "1.5"
        CONFIG GET databases    => %["databases" "16"]
        LPOP absent 1           => null
        "#,
    );
    assert!(matches!(client.run("INFO server"), Reply::Verbatim(_)));
    assert!(matches!(client.run("HELLO 2"), Reply::Array(_)));
    client.transcript("GET absent => nil");
}

/// A client that has sent all and closed its sending half still gets every reply.
fn half_closed_socket(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    const COMMANDS: usize = 10_000;
    for n in 0..COMMANDS {
        client.push(["SET", &format!("key:{n}"), "v"]);
    }
    client.flush();
    client.finish_sending();
    assert_eq!(client.read_to_end(), b"+OK\r\n".repeat(COMMANDS));
}

/// Sends GETs of large values and reads nothing, until the server takes no more.
fn stop_reading(server: &Server, key: &str) -> Client {
    let client = server.connect();
    client.stream().set_nonblocking(true).expect("a socket");
    let request = format!("GET {key}\r\n").repeat(100);
    for _ in 0..2_000 {
        if client.stream().write_all(request.as_bytes()).is_err() {
            break;
        }
    }
    client.stream().set_nonblocking(false).expect("a socket");
    client
}

fn client_that_never_reads(shards: usize) {
    let server =
        Server::builder(shards).option("client-output-buffer-limit", "normal 8mb 0 0").start();
    let mut witness = server.connect();
    witness.call(["SET", "large", &"x".repeat(1 << 20)]);
    let silent: Vec<_> = (0..5).map(|_| stop_reading(&server, "large")).collect();
    for n in 0..1_000 {
        let key = format!("key:{n}");
        assert_eq!(witness.call(["SET", &key, "v"]), Reply::ok());
    }
    // A GET that has been taken off the socket may cost memory up to the limit, not more.
    let resident = resident_bytes(&server);
    assert!(resident < 600 << 20, "{resident} bytes resident for 5 clients that do not read");
    drop(silent);
}

fn resident_bytes(server: &Server) -> usize {
    let path = format!("/proc/{}/status", server.process_id());
    let status = std::fs::read_to_string(path).expect("a running server");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident size");
    let kibibytes = line.split_ascii_whitespace().nth(1).and_then(|text| text.parse().ok());
    1024 * kibibytes.unwrap_or(0usize)
}

/// Over its hard limit a client is disconnected, and the server says that it was.
fn output_buffer_limit(shards: usize) {
    let server =
        Server::builder(shards).option("client-output-buffer-limit", "normal 4mb 0 0").start();
    let mut witness = server.connect();
    witness.call(["SET", "large", &"x".repeat(1 << 20)]);
    let mut silent = server.connect();
    for _ in 0..200 {
        silent.push(["GET", "large"]);
    }
    silent.flush();
    wait_for_clients(&mut witness, 1);
    if ServerKind::under_test().is_tessera() {
        // Counted since Redis 7.4.
        assert_eq!(server.info("client_output_buffer_limit_disconnections"), "1");
    }
    assert!(silent.read_to_end().len() < 200 << 20, "not all was sent");
    witness.transcript("PING => +PONG");
}

fn connections_cut_in_mid_command(shards: usize) {
    let server = Server::start(shards);
    let mut witness = server.connect();
    let request = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\n0123456789\r\n";
    for cut in 1..request.len() - 1 {
        let mut client = server.connect();
        client.send_raw(&request[..cut]).expect("an open connection");
    }
    // Cut while replies are on their way: the socket is reset under the server's hands.
    witness.call(["SET", "large", &"x".repeat(1 << 20)]);
    for _ in 0..20 {
        let mut client = server.connect();
        client.send_raw(&b"GET large\r\n".repeat(20)).expect("an open connection");
    }
    witness.transcript("EXISTS k => :0");
    wait_for_clients(&mut witness, 1);
}

/// Waits until no more than `count` clients are left.
fn wait_for_clients(witness: &mut Client, count: usize) {
    let start = Instant::now();
    loop {
        let list = witness.run("CLIENT LIST").into_text();
        if list.lines().count() <= count {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "clients stay:\n{list}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A length is a promise: memory is taken for what has come, not for what was announced.
fn oversized_announcements_cost_nothing(shards: usize) {
    let server = Server::start(shards);
    let mut witness = server.connect();
    let before = resident_bytes(&server);
    let mut clients: Vec<_> = (0..100).map(|_| server.connect()).collect();
    for client in &mut clients {
        let beginning = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\nabc";
        client.send_raw(beginning).expect("an open connection");
    }
    let mut many = server.connect();
    many.send_raw(b"*1048576\r\n$3\r\nDEL\r\n").expect("an open connection");
    witness.transcript("PING => +PONG");
    let grown = resident_bytes(&server).saturating_sub(before);
    assert!(grown < 256 << 20, "{grown} bytes for what never came");
}

fn many_connects_and_disconnects(shards: usize) {
    let server = Server::start(shards);
    let mut witness = server.connect();
    let files_before = server.open_files();
    let total = scaled(10_000);
    for n in 0..total {
        let mut client = server.connect();
        match n % 4 {
            0 => drop(client),
            1 => assert_eq!(client.run("PING"), Reply::Simple("PONG".into())),
            2 => client.send_raw(b"*2\r\n$3\r\nGE").expect("an open connection"),
            _ => client.send_raw(b"SET k v\r\nGET k\r\n").expect("an open connection"),
        }
    }
    wait_for_clients(&mut witness, 1);
    let start = Instant::now();
    while server.open_files() > files_before + 4 {
        assert!(start.elapsed() < Duration::from_secs(60), "{} files open", server.open_files());
        thread::sleep(Duration::from_millis(10));
    }
    let received: usize = server.info("total_connections_received").parse().expect("a number");
    assert!(received > total, "{received} of {total} connections counted");
}

/// A pipeline far deeper than any buffer: replies in order, and no deadlock though the client
/// reads nothing before it has sent all from a second thread.
fn deep_pipeline(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    const COMMANDS: usize = 100_000;
    let mut writer = client.stream().try_clone().expect("a second handle");
    let sender = thread::spawn(move || {
        let mut request = Vec::new();
        for n in 0..COMMANDS {
            write!(request, "INCR key:{}\r\nECHO {n}\r\n", n % 100).expect("memory");
        }
        writer.write_all(&request).expect("an open connection");
    });
    for n in 0..COMMANDS {
        assert_eq!(client.receive(), Reply::Integer((n / 100 + 1) as i64));
        assert_eq!(client.receive(), Reply::bulk(n.to_string()));
    }
    sender.join().expect("all was sent");
}
