//! Commands that concern the connection and the server: what tools send on connecting, and what
//! operators ask.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Client, Reply, Server, ServerKind, on_1_2_and_4_shards, skip};

on_1_2_and_4_shards!(
    greetings,
    hello,
    authentication,
    client_names_and_identifiers,
    client_list_shows_everyone,
    client_kill,
    client_reply,
    client_pause,
    a_pause_of_writes_holds_all_that_may_change_something,
    clients_that_are_held_up_are_not_idle,
    reset_and_quit,
    unknown_commands,
    command_table,
    command_keys,
    info_sections,
    info_counts_commands_and_errors,
    info_shards,
    config,
    debug,
    memory_usage,
);

fn greetings(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        r#"
        PING                    => +PONG
        PING hello              => "hello"
        PING a b                => -ERR wrong number of arguments for 'ping' command
        ECHO "a b"              => "a b"
        ECHO                    => -ERR wrong number of arguments for 'echo' command
        SELECT 0                => +OK
        SELECT                  => -ERR wrong number of arguments for 'select' command
        "#,
    );
    let time = client.run("TIME").into_items();
    assert_eq!(time.len(), 2);
    let seconds: u64 = time[0].clone().into_text().parse().expect("seconds");
    assert!(seconds > 1_700_000_000, "{seconds}");
    assert!(client.run("LOLWUT").into_text().contains("ver."));
}

/// The value beside `key` in a reply of names and values.
fn field(reply: &Reply, key: &str) -> Reply {
    let items = reply.clone().into_items();
    let found = items.chunks(2).find(|pair| pair[0] == Reply::bulk(key));
    found.unwrap_or_else(|| panic!("no field {key} in {reply:?}"))[1].clone()
}

fn hello(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        r#"
        HELLO 4                         => -NOPROTO unsupported protocol version
        HELLO abc                       => -ERR Protocol version is not an integer or out of range
        HELLO 3 x                       => -ERR Syntax error in HELLO option 'x'
        HELLO 3 AUTH default            => -ERR Syntax error in HELLO option 'AUTH'
        HELLO 3 SETNAME "a b"           => -ERR Client names cannot contain spaces, newlines or special characters.
        GET k                           => nil
        "#,
    );
    let two = client.run("HELLO");
    assert_eq!(field(&two, "proto"), Reply::Integer(2));
    let three = client.run("HELLO 3 SETNAME me");
    assert_eq!(field(&three, "proto"), Reply::Integer(3));
    assert_eq!(field(&three, "mode"), Reply::bulk("standalone"));
    assert_eq!(field(&three, "role"), Reply::bulk("master"));
    assert_eq!(field(&three, "modules"), Reply::Array(vec![]));
    assert!(matches!(field(&three, "id"), Reply::Integer(_)));
    client.transcript(r#"CLIENT GETNAME => "me""#);
}

fn authentication(shards: usize) {
    let server = Server::builder(shards).option("requirepass", "secret").start();
    let mut client = server.connect();
    client.transcript(
        r#"
        PING                    => -NOAUTH Authentication required.
        GET k                   => -NOAUTH Authentication required.
        NOSUCH                  => -ERR unknown command 'NOSUCH', ...
        HELLO 3                 => -NOAUTH HELLO must be called with the client already authenticated, ...
        AUTH wrong              => -WRONGPASS invalid username-password pair or user is disabled.
        AUTH nobody secret      => -WRONGPASS invalid username-password pair or user is disabled.
        AUTH                    => -ERR wrong number of arguments for 'auth' command
        AUTH a b c              => -ERR syntax error
        AUTH default secret     => +OK
        PING                    => +PONG
        RESET                   => +RESET
        PING                    => -NOAUTH Authentication required.
        AUTH secret             => +OK
        CONFIG SET requirepass "" => +OK
        "#,
    );
    server.connect().transcript(
        "
        PING                    => +PONG
        AUTH x                  => -ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?
        AUTH default anything   => +OK
        AUTH x y                => -WRONGPASS invalid username-password pair or user is disabled.
        CONFIG SET requirepass other => +OK
        ",
    );
    let mut late = server.connect();
    late.transcript("GET k => -NOAUTH Authentication required.");
    let hello = late.run("HELLO 3 AUTH default other SETNAME x");
    assert_eq!(field(&hello, "proto"), Reply::Integer(3));
    late.transcript("GET k => null");
}

fn client_names_and_identifiers(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        r#"
        CLIENT GETNAME              => nil
        CLIENT SETNAME me           => +OK
        CLIENT GETNAME              => "me"
        CLIENT SETNAME "a b"        => -ERR Client names cannot contain spaces, newlines or special characters.
        CLIENT GETNAME              => "me"
        CLIENT SETNAME ""           => +OK
        CLIENT GETNAME              => nil
        CLIENT NO-EVICT on          => +OK
        CLIENT NO-EVICT x           => -ERR syntax error
        CLIENT UNBLOCK x            => -ERR value is not an integer or out of range
        CLIENT UNBLOCK 999999       => :0
        CLIENT NOSUCH               => -ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP.
        CLIENT                      => -ERR wrong number of arguments for 'client' command
        CLIENT SETNAME              => -ERR wrong number of arguments for 'client|setname' command
        "#,
    );
    let ids: BTreeSet<_> =
        (0..100).map(|_| server.connect().run("CLIENT ID").into_integer()).collect();
    assert_eq!(ids.len(), 100, "no identifier is given twice");
    if ServerKind::under_test().is_tessera() {
        // Since Redis 7.2.
        client.transcript(
            "
            CLIENT SETINFO lib-name redis-x     => +OK
            CLIENT SETINFO lib-ver 1.2.3        => +OK
            CLIENT SETINFO lib-ver \"1 2\"      => -ERR lib-ver cannot contain spaces, newlines or special characters.
            CLIENT SETINFO lib x                => -ERR Unrecognized option 'lib'
            CLIENT NO-TOUCH on                  => +OK
            CLIENT NO-TOUCH off                 => +OK
            ",
        );
        let line = client.run("CLIENT INFO").into_text();
        assert!(line.contains("lib-name=redis-x lib-ver=1.2.3"), "{line}");
    }
}

/// The value of `name=` in a line of CLIENT LIST.
fn attribute<'a>(line: &'a str, name: &str) -> &'a str {
    let mut parts = line.split_ascii_whitespace().filter_map(|part| part.split_once('='));
    let found = parts.find(|(key, _)| *key == name);
    found.unwrap_or_else(|| panic!("no {name}= in {line}")).1
}

fn client_list_shows_everyone(shards: usize) {
    let server = Server::start(shards);
    let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.call(["CLIENT", "SETNAME", &format!("client-{n}")]);
        client.call(["SELECT", &(n % 16).to_string()]);
    }
    for asker in [0, 7, 19] {
        let list = clients[asker].run("CLIENT LIST").into_text();
        for (n, client) in clients.iter_mut().enumerate() {
            let name = format!("client-{n}");
            let mut lines = list.lines().filter(|line| attribute(line, "name") == name);
            let line = lines.next().unwrap_or_else(|| panic!("no {name} in\n{list}"));
            assert_eq!(lines.next(), None, "{name} is listed once");
            assert_eq!(attribute(line, "db"), (n % 16).to_string());
            assert_eq!(attribute(line, "addr"), client.local_address().to_string());
            assert_eq!(attribute(line, "laddr"), server.address().to_string());
            if n == asker {
                assert_eq!(attribute(line, "cmd"), "client|list");
            }
        }
    }
    let own = clients[3].run("CLIENT INFO").into_text();
    assert_eq!(attribute(&own, "name"), "client-3");
    let id = attribute(&own, "id").to_owned();
    let one = clients[5].call(["CLIENT", "LIST", "ID", &id]).into_text();
    assert_eq!(one.lines().count(), 1);
    assert_eq!(attribute(&one, "name"), "client-3");
    clients[0].transcript(
        "
        CLIENT LIST ID x        => -ERR Invalid client ID
        CLIENT LIST TYPE x      => -ERR Unknown client type 'x'
        CLIENT LIST WHAT        => -ERR syntax error
        ",
    );
}

fn client_kill(shards: usize) {
    let server = Server::start(shards);
    let mut killer = server.connect();
    let id = |client: &mut Client| client.run("CLIENT ID").into_integer().to_string();
    // More victims than workers, so that some live beside the killer and some elsewhere.
    for _ in 0..6 {
        let mut by_address = server.connect();
        by_address.run("PING");
        let address = by_address.local_address().to_string();
        assert_eq!(killer.call(["CLIENT", "KILL", &address]), Reply::ok());
        assert!(by_address.is_closed());

        let mut by_id = server.connect();
        let victim = id(&mut by_id);
        assert_eq!(killer.call(["CLIENT", "KILL", "ID", &victim]), Reply::Integer(1));
        assert!(by_id.is_closed());
        assert_eq!(killer.call(["CLIENT", "KILL", "ID", &victim]), Reply::Integer(0));

        let mut by_filter = server.connect();
        by_filter.run("PING");
        let address = by_filter.local_address().to_string();
        let filter = ["CLIENT", "KILL", "ADDR", &address, "USER", "default", "SKIPME", "yes"];
        assert_eq!(killer.call(filter), Reply::Integer(1));
        assert!(by_filter.is_closed());
    }
    killer.transcript(
        "
        CLIENT KILL 1.1.1.1:1       => -ERR No such client
        CLIENT KILL ID x            => -ERR client-id should be greater than 0
        CLIENT KILL TYPE x          => -ERR Unknown client type 'x'
        CLIENT KILL USER nobody     => -ERR No such user 'nobody'
        CLIENT KILL SKIPME maybe ID 1 => -ERR syntax error
        PING                        => +PONG
        ",
    );
    let mut others: Vec<_> = (0..10).map(|_| server.connect()).collect();
    others.iter_mut().for_each(|client| drop(client.run("PING")));
    assert_eq!(killer.run("CLIENT KILL TYPE normal SKIPME yes"), Reply::Integer(10));
    assert!(others.iter_mut().all(Client::is_closed));
    assert_eq!(killer.run("CLIENT KILL TYPE normal SKIPME no"), Reply::Integer(1));
    assert!(killer.is_closed());
    if shards == 1 {
        a_killed_client_executes_nothing_more(&server);
    }
}

/// What came from the victim behind the command that kills it is not executed, even if both arrive
/// while the worker sleeps.
fn a_killed_client_executes_nothing_more(server: &Server) {
    let (mut sleeper, mut killer, mut victim) =
        (server.connect(), server.connect(), server.connect());
    let id = victim.run("CLIENT ID").into_integer().to_string();
    killer.run("PING");
    sleeper.push(["DEBUG", "SLEEP", "0.3"]);
    killer.push(["CLIENT", "KILL", "ID", &id]);
    victim.push(["SET", "k", "after death"]);
    for client in [&mut sleeper, &mut killer, &mut victim] {
        client.flush();
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(killer.receive(), Reply::Integer(1));
    assert!(victim.is_closed());
    assert_eq!(killer.run("EXISTS k"), Reply::Integer(0));
}

fn client_reply(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.push(["CLIENT", "REPLY", "SKIP"]);
    client.push(["SET", "k", "skipped"]);
    client.push(["GET", "k"]);
    client.push(["CLIENT", "REPLY", "OFF"]);
    client.push(["SET", "k", "off"]);
    client.push(["GET", "k"]);
    client.push(["CLIENT", "REPLY", "ON"]);
    client.push(["GET", "k"]);
    client.flush();
    assert_eq!(client.receive(), Reply::bulk("skipped"));
    assert_eq!(client.receive(), Reply::ok());
    assert_eq!(client.receive(), Reply::bulk("off"));
    client.transcript("CLIENT REPLY MAYBE => -ERR syntax error");
    client.push(["CLIENT", "REPLY", "OFF"]);
    client.push(["RESET"]);
    client.flush();
    assert_eq!(client.receive(), Reply::Simple("RESET".into()), "RESET ends the silence");
}

/// Paused commands wait, in order, and run when the pause ends.
fn client_pause(shards: usize) {
    let server = Server::start(shards);
    let mut operator = server.connect();
    let mut writers: Vec<_> = (0..8).map(|_| server.connect()).collect();
    operator.transcript("CLIENT PAUSE 1000000 WRITE => +OK");
    for (n, writer) in writers.iter_mut().enumerate() {
        writer.transcript("GET k => nil");
        writer.push(["SET", &format!("key:{n}"), "v"]);
        writer.push(["GET", &format!("key:{n}")]);
        writer.flush();
    }
    thread::sleep(Duration::from_millis(100));
    operator.transcript(
        "
        DBSIZE                  => :0
        CLIENT UNPAUSE          => +OK
        CLIENT PAUSE x          => -ERR timeout is not an integer or out of range
        CLIENT PAUSE -1         => -ERR timeout is negative
        CLIENT PAUSE 1 WHAT     => -ERR CLIENT PAUSE mode must be WRITE or ALL
        ",
    );
    for writer in &mut writers {
        assert_eq!(writer.receive(), Reply::ok());
        assert_eq!(writer.receive(), Reply::bulk("v"));
    }
    operator.transcript("CLIENT PAUSE 50 ALL => +OK");
    assert_eq!(writers[0].run("GET key:0"), Reply::bulk("v"), "a pause ends by itself");
}

/// What reaches replicas waits too; scripts and transactions by what they hold. Who waits is counted.
fn a_pause_of_writes_holds_all_that_may_change_something(shards: usize) {
    let server = Server::start(shards);
    let mut operator = server.connect();
    let [reads, returns] = ["#!lua flags=no-writes\nreturn 1", "return 1"];
    operator.transcript("PFADD sketch a => :1");
    operator.transcript("CLIENT PAUSE 1000000 WRITE => +OK");
    let mut reader = server.connect();
    reader.transcript("GET k => nil");
    assert_eq!(reader.call(["EVAL", reads, "0"]), Reply::Integer(1));
    assert_eq!(reader.call(["EVAL_RO", returns, "0"]), Reply::Integer(1));
    reader.transcript("MULTI => +OK");
    reader.transcript("GET k => +QUEUED");
    reader.call(["EVAL", reads, "1", "k"]);
    reader.transcript("EXEC => [nil :1]");
    let mut held: Vec<Client> = Vec::new();
    let mut hold = |requests: &[&[&str]]| {
        let mut client = server.connect();
        requests.iter().for_each(|words| client.push(*words));
        client.flush();
        held.push(client);
    };
    hold(&[&["PFCOUNT", "sketch"]]);
    hold(&[&["PUBLISH", "channel", "message"]]);
    hold(&[&["EVAL", returns, "0"]]);
    hold(&[&["EVAL", "#!lua\nreturn 1", "0"]]);
    hold(&[&["MULTI"], &["EVAL", returns, "1", "k"], &["EXEC"]]);
    hold(&[&["MULTI"], &["SET", "k", "v"], &["EXEC"]]);
    let begin = Instant::now();
    while server.info("blocked_clients") != "6" {
        assert!(begin.elapsed() < Duration::from_secs(30), "{}", server.info("blocked_clients"));
        thread::sleep(Duration::from_millis(10));
    }
    operator.transcript("CLIENT UNPAUSE => +OK");
    let mut last = |client: usize, replies: usize| held[client].receive_all(replies).pop().unwrap();
    assert_eq!(last(0, 1), Reply::Integer(1));
    assert_eq!(last(1, 1), Reply::Integer(0));
    assert_eq!([last(2, 1), last(3, 1)], [Reply::Integer(1), Reply::Integer(1)]);
    assert_eq!(last(4, 3), Reply::Array(vec![Reply::Integer(1)]));
    assert_eq!(last(5, 3), Reply::Array(vec![Reply::ok()]));
    assert_eq!(server.info("blocked_clients"), "0");
}

/// `timeout` is for clients that send nothing, not for those whose commands wait.
fn clients_that_are_held_up_are_not_idle(shards: usize) {
    let server = Server::start(shards);
    let (mut operator, mut idle) = (server.connect(), server.connect());
    let mut writers: Vec<_> = (0..4).map(|_| server.connect()).collect();
    idle.run("PING");
    operator.push(["CONFIG", "SET", "timeout", "1"]);
    operator.push(["CLIENT", "PAUSE", "100000", "WRITE"]);
    operator.flush();
    assert_eq!(operator.receive_all(2), [Reply::ok(), Reply::ok()]);
    for (n, writer) in writers.iter_mut().enumerate() {
        writer.push(["SET", &format!("key:{n}"), "v"]);
        writer.flush();
    }
    assert!(idle.is_closed());
    thread::sleep(Duration::from_millis(1_000));
    server.connect().transcript("CLIENT UNPAUSE => +OK");
    assert!(writers.iter_mut().all(|writer| writer.receive() == Reply::ok()));
}

fn reset_and_quit(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.run("HELLO 3");
    client.transcript(
        "
        SELECT 3                => +OK
        SET k three             => +OK
        CLIENT SETNAME me       => +OK
        RESET                   => +RESET
        CLIENT GETNAME          => nil
        EXISTS k                => :0
        ",
    );
    client.push(["SET", "k", "v"]);
    client.push(["QUIT"]);
    client.push(["SET", "k", "after"]);
    client.flush();
    assert_eq!(client.receive(), Reply::ok());
    assert_eq!(client.receive(), Reply::ok());
    assert!(client.is_closed());
    assert_eq!(server.connect().run("GET k"), Reply::bulk("v"));
}

fn unknown_commands(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        r#"
        NOSUCH                  => -ERR unknown command 'NOSUCH', with args beginning with: ...
        nosuch a "b c"          => -ERR unknown command 'nosuch', with args beginning with: 'a' 'b c' ...
        "no\r\nsuch" "x\r\ny"   => -ERR unknown command 'no  such', with args beginning with: 'x  y' ...
        CONFIG NOSUCH           => -ERR unknown subcommand 'NOSUCH'. Try CONFIG HELP.
        GET                     => -ERR wrong number of arguments for 'get' command
        PING                    => +PONG
        "#,
    );
    let long = "x".repeat(1_000);
    let Reply::Error(text) = client.call([&long, &long, &long]) else {
        panic!("an unknown command is an error");
    };
    assert!(text.len() < 400, "{} bytes of error text", text.len());
}

fn command_table(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let count = client.run("COMMAND COUNT").into_integer();
    assert_eq!(client.run("COMMAND").into_items().len() as i64, count);
    let list = client.run("COMMAND LIST").into_items();
    assert!(list.len() as i64 >= count, "every command is listed, subcommands too");
    assert!(list.contains(&Reply::bulk("get")));
    let info = client.run("COMMAND INFO get nosuch set").into_items();
    assert_eq!(info.len(), 3);
    assert!(info[1].is_null());
    check_row(&info[0], "\"get\" :2 [+readonly +fast] :1 :1 :1", &["read", "string", "fast"]);
    check_row(&info[2], "\"set\" :-3 [+write +denyoom] :1 :1 :1", &["write", "string", "slow"]);
    let docs = client.run("COMMAND DOCS get").into_items();
    assert_eq!(docs[0], Reply::bulk("get"));
    assert_eq!(field(&docs[1], "group"), Reply::bulk("string"));
    client.transcript("COMMAND NOSUCH => -ERR unknown subcommand 'NOSUCH'. Try COMMAND HELP.");
}

/// A command's row: name, arity, flags and key positions as said, and these categories.
fn check_row(row: &Reply, beginning: &str, categories: &[&str]) {
    let text = format!("{row:?}");
    assert!(text.starts_with(&format!("[{beginning} ")), "{text}");
    let found: BTreeSet<_> = row.clone().into_items()[6].clone().into_items().into_iter().collect();
    let expected = categories.iter().map(|name| Reply::Simple(format!("@{name}"))).collect();
    assert_eq!(found, expected);
}

fn command_keys(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        COMMAND GETKEYS GET k                   => ["k"]
        COMMAND GETKEYS MSET a 1 b 2            => ["a" "b"]
        COMMAND GETKEYS DEL a b c               => ["a" "b" "c"]
        COMMAND GETKEYS RENAME a b              => ["a" "b"]
        COMMAND GETKEYS EVAL script 0            => []
        COMMAND GETKEYS PING x                  => -ERR The command has no key arguments
        COMMAND GETKEYS NOSUCH a                => -ERR Invalid command specified
        COMMAND GETKEYS GET a b                 => -ERR Invalid number of arguments specified for command
        COMMAND GETKEYSANDFLAGS GET k           => [["k" [+RO +access]]]
        COMMAND GETKEYSANDFLAGS SET k v         => [["k" [+OW +update]]]
        "#,
    );
}

fn info_sections(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let all = client.run("INFO").into_text();
    for (section, field) in [
        ("Server", "redis_version"),
        ("Server", "tcp_port"),
        ("Server", "process_id"),
        ("Server", "run_id"),
        ("Server", "uptime_in_seconds"),
        ("Clients", "connected_clients"),
        ("Clients", "maxclients"),
        ("Clients", "blocked_clients"),
        ("Memory", "used_memory"),
        ("Memory", "used_memory_rss"),
        ("Memory", "used_memory_peak"),
        ("Memory", "maxmemory"),
        ("Memory", "maxmemory_policy"),
        ("Stats", "total_connections_received"),
        ("Stats", "total_commands_processed"),
        ("Stats", "instantaneous_ops_per_sec"),
        ("Stats", "keyspace_hits"),
        ("Stats", "keyspace_misses"),
        ("Stats", "expired_keys"),
        ("Stats", "evicted_keys"),
        ("CPU", "used_cpu_sys"),
        ("CPU", "used_cpu_user"),
    ] {
        let body = all.split("# ").find(|part| part.starts_with(&format!("{section}\r\n")));
        let body = body.unwrap_or_else(|| panic!("no section {section} in\n{all}"));
        assert!(body.contains(&format!("\r\n{field}:")), "no {field} in section {section}");
    }
    assert_eq!(server.info("process_id"), server.process_id().to_string());
    assert_eq!(server.info("tcp_port"), server.port().to_string());
    if ServerKind::under_test().is_tessera() {
        assert_eq!(server.info("redis_version"), "7.2.4");
        assert_eq!(server.info("server_name"), "tessera");
        assert!(!server.info("tessera_version").is_empty());
    }
    let only = client.run("INFO clients").into_text();
    assert!(only.starts_with("# Clients\r\n") && !only.contains("# Server"), "{only}");
    let two = client.run("INFO memory cpu").into_text();
    assert!(two.contains("# Memory\r\n") && two.contains("# CPU\r\n"), "{two}");
    client.transcript(r#"INFO nosuch => """#);
}

fn info_counts_commands_and_errors(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for n in 0..100 {
        client.call(["SET", &format!("key:{n}"), "v"]);
        client.call(["GET", &format!("key:{n}")]);
        client.call(["GET", &format!("absent:{n}")]);
    }
    client.run("INCR key:1");
    client.run("GET a b");
    assert!(server.info("cmdstat_get").starts_with("calls=200,"));
    assert!(server.info("cmdstat_get").contains(",rejected_calls=1,"));
    assert!(server.info("cmdstat_set").starts_with("calls=100,"));
    assert!(server.info("cmdstat_incr").contains(",failed_calls=1"));
    assert_eq!(server.info("errorstat_ERR"), "count=2");
    assert_eq!(server.info("keyspace_hits"), "100");
    assert_eq!(server.info("keyspace_misses"), "100");
    assert_eq!(server.info("db0").split(',').next(), Some("keys=100"));
    client.transcript("CONFIG RESETSTAT => +OK");
    assert_eq!(server.info("keyspace_hits"), "0");
    let stats = client.run("INFO commandstats").into_text();
    assert!(!stats.contains("cmdstat_get:"), "{stats}");
}

fn info_shards(shards: usize) {
    if !ServerKind::under_test().is_tessera() {
        return skip("only Tessera has shards");
    }
    let server = Server::start(shards);
    let mut client = server.connect();
    for n in 0..1_000 {
        client.call(["SET", &format!("key:{n}"), "v"]);
    }
    let text = client.run("INFO shards").into_text();
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("shard")).collect();
    let keys: Vec<usize> = lines
        .iter()
        .filter_map(|line| line.split_once("keys=")?.1.split(',').next()?.parse().ok())
        .collect();
    assert_eq!(keys.len(), shards, "{text}");
    assert_eq!(keys.iter().sum::<usize>(), 1_000, "{text}");
    let least = 1_000 / shards / 2;
    assert!(keys.iter().all(|&count| count > least), "keys are spread over the shards: {text}");
}

fn config(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        r#"
        CONFIG GET databases            => ["databases" "16"]
        CONFIG GET nosuch               => []
        CONFIG SET nosuch 1             => -ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'
        CONFIG SET maxclients x         => -ERR CONFIG SET failed (possibly related to argument 'maxclients') - argument couldn't be parsed into an integer
        CONFIG SET timeout 100          => +OK
        CONFIG GET timeout              => ["timeout" "100"]
        CONFIG SET timeout 0 tcp-keepalive 200 => +OK
        CONFIG GET tcp-keepalive        => ["tcp-keepalive" "200"]
        CONFIG SET timeout 1 port       => -ERR syntax error
        CONFIG SET timeout 1 databases 3 => -ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config
        CONFIG GET                      => -ERR wrong number of arguments for 'config|get' command
        "#,
    );
    let some = client.run("CONFIG GET tcp-* port").into_items();
    let names: Vec<_> = some.chunks(2).map(|pair| pair[0].clone().into_text()).collect();
    assert!(names.contains(&"tcp-backlog".to_owned()), "{names:?}");
    assert!(names.contains(&"port".to_owned()), "{names:?}");
    for seen in &mut [server.connect(), server.connect(), server.connect()] {
        seen.transcript(r#"CONFIG GET tcp-keepalive => ["tcp-keepalive" "200"]"#);
    }
}

fn debug(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        "
        DEBUG SLEEP 0.001           => +OK
        DEBUG SET-ACTIVE-EXPIRE 1   => +OK
        DEBUG NOSUCH                => -ERR unknown subcommand ...
        PING                        => +PONG
        ",
    );
    let start = Instant::now();
    client.transcript("DEBUG SLEEP 0.2 => +OK");
    assert!(start.elapsed() >= Duration::from_millis(200));
}

fn memory_usage(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript("MEMORY USAGE absent => nil");
    client.call(["SET", "small", "v"]);
    client.call(["SET", "large", &"x".repeat(100_000)]);
    let small = client.run("MEMORY USAGE small").into_integer();
    let large = client.run("MEMORY USAGE large").into_integer();
    assert!((16..=200).contains(&small), "{small} bytes");
    assert!((100_000..=140_000).contains(&large), "{large} bytes");
}
