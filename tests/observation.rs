//! What operators watch and turn while the server runs: SLOWLOG, LATENCY, INFO's counters, the
//! configuration file, DEBUG's permission.

use std::fs;
use std::net::{SocketAddr, TcpListener};

use crate::harness::{Client, PortClaim, Reply, Server, on_1_2_and_4_shards, redis_server};

on_1_2_and_4_shards!(
    slow_commands_are_kept,
    slow_commands_of_scripts_are_kept,
    a_command_over_several_keys_is_one_call,
    a_transaction_takes_what_its_commands_take,
    who_has_waited_shows_what_it_took_without_the_wait,
    secrets_stay_out_of_the_slow_log,
    latency_events_are_kept,
    latency_histograms_count_calls,
    counters_start_again,
    configuration_is_written_back,
    the_own_options_take_their_own_values,
    hits_and_misses_are_those_of_redis,
    pauses_end_in_time,
    debug_needs_permission,
    large_configurations_are_read_whole,
    the_server_moves_to_another_port,
    a_password_may_come_and_go,
    clients_are_charged_their_bytes,
);

fn slow_commands_are_kept(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        "
        CONFIG SET slowlog-log-slower-than 50000 => +OK
        SLOWLOG RESET           => +OK
        CLIENT SETNAME sleeper  => +OK
        PING                    => +PONG
        DEBUG SLEEP 0.1         => +OK
        SLOWLOG LEN             => :1
        SLOWLOG GET -2          => -ERR count should be greater than or equal to -1
        SLOWLOG GET 0           => []
        ",
    );
    let entries = client.run("SLOWLOG GET -1").into_items();
    let entry = entries[0].clone().into_items();
    assert_eq!(entry.len(), 6);
    assert!(entry[2].clone().into_integer() >= 100_000);
    let line = ["debug", "sleep", "0.1"].map(Reply::bulk).to_vec();
    assert_eq!(entry[3].clone().into_items(), line);
    assert_eq!(entry[4], Reply::bulk(client.local_address().to_string()));
    assert_eq!(entry[5], Reply::bulk("sleeper"));
    client.transcript("CONFIG SET slowlog-log-slower-than 0 slowlog-max-len 3 => +OK");
    for _ in 0..10 {
        client.run("GET k");
    }
    client.transcript("SLOWLOG LEN => :3");
}

fn slow_commands_of_scripts_are_kept(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript("CLIENT SETNAME scripter => +OK");
    client.transcript("CONFIG SET slowlog-log-slower-than 0 => +OK");
    for keys in [&["a"][..], &["a", "b", "c", "d"]] {
        client.transcript("SLOWLOG RESET => +OK");
        let script = "redis.call('ping') return redis.call('get', KEYS[1])";
        let count = keys.len().to_string();
        client.call(["EVAL", script, &count].iter().chain(keys));
        let entries = client.run("SLOWLOG GET 3").into_items();
        let entries: Vec<_> = entries.into_iter().map(Reply::into_items).collect();
        let name = |entry: &[Reply]| entry[3].clone().into_items()[0].clone().into_text();
        let names: Vec<_> = entries.iter().map(|entry| name(entry)).collect();
        assert_eq!(names, ["EVAL", "get", "ping"]);
        let address = Reply::bulk(client.local_address().to_string());
        assert!(entries.iter().all(|entry| entry[4] == address), "{entries:?}");
        assert!(entries.iter().all(|entry| entry[5] == Reply::bulk("scripter")), "{entries:?}");
    }
}

/// What `INFO commandstats` says of a command: its calls, and microseconds a call.
fn figures_of(client: &mut Client, command: &str) -> (u64, f64) {
    let stats = client.run("INFO commandstats").into_text();
    let name = format!("cmdstat_{command}:");
    let line = stats.lines().find_map(|line| line.strip_prefix(&name));
    let line = line.unwrap_or_else(|| panic!("{command} is not there: {stats}"));
    let field = |name: &str| {
        let text = line.split(',').find_map(|field| field.strip_prefix(name));
        text.unwrap_or_else(|| panic!("no {name} in {line}")).parse::<f64>().expect("a number")
    };
    (field("calls=") as u64, field("usec_per_call="))
}

/// The arguments of the slow log's entries, newest first, each with how long it took.
fn slow_lines(client: &mut Client, count: usize) -> Vec<(String, i64)> {
    let entries = client.call(["SLOWLOG", "GET", &count.to_string()]).into_items();
    let shown = |entry: Reply| {
        let entry = entry.into_items();
        let words = entry[3].clone().into_items().into_iter().map(Reply::into_text);
        (words.collect::<Vec<_>>().join(" "), entry[2].clone().into_integer())
    };
    entries.into_iter().map(shown).collect()
}

fn a_command_over_several_keys_is_one_call(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.run("CLIENT SETNAME asker");
    client.transcript("CONFIG SET slowlog-log-slower-than 0 => +OK");
    let long = "x".repeat(200);
    for line in
        ["MSET a 1 b 2 c 3 d 4", "MGET a b c d", "DEL a b c d e", "WATCH a b c d", "UNWATCH"]
    {
        let name = line.split(' ').next().expect("a name").to_lowercase();
        client.transcript("SLOWLOG RESET => +OK");
        client.run("CONFIG RESETSTAT");
        client.run(line);
        let (calls, usec) = figures_of(&mut client, &name);
        assert_eq!(calls, 1, "{line}");
        assert!(usec > 0.0 || name.contains("watch"), "{line} took nothing");
        if !name.contains("watch") {
            let lines = slow_lines(&mut client, 100);
            let lines = lines.iter().filter(|(shown, _)| shown.to_lowercase().starts_with(&name));
            assert_eq!(lines.map(|(line, _)| line.as_str()).collect::<Vec<_>>(), [line]);
        }
    }
    client.call(["MSET", "a", &long, "b", "2", "c", "3"]);
    let cut = format!("MSET a {}... (72 more bytes) b 2 c 3", "x".repeat(128));
    assert_eq!(slow_lines(&mut client, 1)[0].0, cut);
    // An error of a part is one of the command.
    client.run("CONFIG RESETSTAT");
    assert!(matches!(client.run("SCAN 0 MATCH"), Reply::Error(_)));
    let stats = client.run("INFO commandstats").into_text();
    let scan = stats.lines().find(|line| line.starts_with("cmdstat_scan:calls=1,"));
    assert!(scan.is_some_and(|line| line.ends_with(",failed_calls=1")), "{stats}");
    let entry = client.run("SLOWLOG GET 100").into_items().pop().expect("entries").into_items();
    assert_eq!(entry[5], Reply::bulk("asker"));
}

fn a_transaction_takes_what_its_commands_take(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let values: Vec<String> = (0..2_000).map(|n| format!("element {n}")).collect();
    for key in ["a", "b", "c"] {
        client.call(["RPUSH", key].into_iter().chain(values.iter().map(String::as_str)));
    }
    for keys in [&["a"][..], &["a", "b", "c"]] {
        client.run("CONFIG RESETSTAT");
        client.run("MULTI");
        for key in keys {
            client.call(["LRANGE", key, "0", "-1"]);
        }
        client.run("EXEC");
        let (calls, inner) = figures_of(&mut client, "lrange");
        assert_eq!(calls, keys.len() as u64);
        let (calls, whole) = figures_of(&mut client, "exec");
        assert_eq!(calls, 1);
        assert!(whole >= inner * keys.len() as f64 - 0.1, "{whole} for {keys:?} of {inner} each");
    }
}

fn who_has_waited_shows_what_it_took_without_the_wait(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript("CONFIG SET slowlog-log-slower-than 0 => +OK");
    for (line, push) in
        [("BLPOP one two three 0", "RPUSH two v"), ("BLMOVE src dst LEFT LEFT 0", "RPUSH src v")]
    {
        let name = line.split(' ').next().expect("a name").to_lowercase();
        let mut waiter = server.waiting(line, 1);
        client.run("DEBUG SLEEP 1");
        client.run(push);
        waiter.receive();
        let (calls, usec) = figures_of(&mut client, &name);
        assert_eq!(calls, 1);
        assert!(0.0 < usec && usec < 900_000.0, "{line}: {usec}");
        let lines = slow_lines(&mut client, 100);
        let took = lines.iter().filter(|(shown, _)| shown == line).map(|&(_, took)| took);
        let took: Vec<_> = took.collect();
        assert!(took.len() == 1 && took[0] < 900_000, "{line}: {took:?}");
    }
}

fn secrets_stay_out_of_the_slow_log(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript("CONFIG SET slowlog-log-slower-than 0 => +OK");
    client.transcript("CONFIG SET requirepass topsecret => +OK");
    client.transcript("AUTH topsecret => +OK");
    client.run("HELLO 2 AUTH default topsecret");
    let log = format!("{:?}", client.run("SLOWLOG GET -1"));
    assert!(log.contains("redacted") && !log.contains("topsecret"), "{log}");
}

fn latency_events_are_kept(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        "
        LATENCY LATEST          => []
        LATENCY GRAPH command   => -ERR No samples available for event 'command'
        CONFIG SET latency-monitor-threshold 50 => +OK
        DEBUG SLEEP 0.1         => +OK
        ",
    );
    let latest = client.run("LATENCY LATEST").into_items();
    let event = latest[0].clone().into_items();
    assert_eq!(event[0], Reply::bulk("command"));
    assert!(event[2].clone().into_integer() >= 100);
    assert_eq!(client.run("LATENCY HISTORY command").into_items().len(), 1);
    assert!(client.run("LATENCY GRAPH command").into_text().starts_with("command - high "));
    client.transcript("LATENCY RESET => :1");
    client.transcript("LATENCY HISTORY command => []");
}

fn latency_histograms_count_calls(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for number in 0..50 {
        client.call(["SET", &format!("key{number}"), "v"]);
    }
    let histogram = client.run("LATENCY HISTOGRAM set nosuch").into_items();
    assert_eq!(histogram[0], Reply::bulk("set"));
    let figures = histogram[1].clone().into_items();
    assert_eq!(figures[..2], [Reply::bulk("calls"), Reply::Integer(50)]);
    let buckets = figures[3].clone().into_items();
    assert_eq!(buckets.last(), Some(&Reply::Integer(50)));
}

fn counters_start_again(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript("SET k v => +OK");
    client.run("GET k");
    client.run("NOSUCH");
    assert_eq!(server.info("keyspace_hits"), "1");
    assert_eq!(server.info("errorstat_ERR"), "count=1");
    client.transcript("CONFIG RESETSTAT => +OK");
    assert_eq!(server.info("keyspace_hits"), "0");
    assert_eq!(server.info("total_error_replies"), "0");
    assert!(server.info("db0").starts_with("keys=1,expires=0,"));
    // A call counts once it is answered: the reset is the first after itself.
    client.transcript("CONFIG RESETSTAT => +OK");
    let histogram = client.run("LATENCY HISTOGRAM").into_items();
    assert_eq!((histogram.len(), &histogram[0]), (2, &Reply::bulk("config|resetstat")));
}

fn configuration_is_written_back(shards: usize) {
    let server = Server::builder(shards).config("# kept\ntimeout 7\n").start();
    let mut client = server.connect();
    let file = server.info("config_file");
    client.transcript("CONFIG SET timeout 8 maxmemory-samples 6 => +OK");
    client.transcript("CONFIG REWRITE => +OK");
    let text = fs::read_to_string(file).expect("the configuration file");
    assert!(text.starts_with("# kept\ntimeout 8\n"), "{text}");
    assert!(text.contains("# Generated by CONFIG REWRITE\n"), "{text}");
    assert!(text.contains("maxmemory-samples 6\n"), "{text}");
    let server = Server::start(shards);
    let refusal = "CONFIG REWRITE => -ERR The server is running without a config file";
    server.connect().transcript(refusal);
}

/// Tools write back what they read, and leave out only what they know to be fixed.
fn the_own_options_take_their_own_values(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(&format!("CONFIG SET shards {shards} => +OK"));
    let refusal = client.run(&format!("CONFIG SET shards {}", shards + 1));
    assert!(format!("{refusal:?}").ends_with("can't set immutable config"), "{refusal:?}");
}

fn pauses_end_in_time(shards: usize) {
    let server = Server::start(shards);
    let (mut pauser, mut writer) = (server.connect(), server.connect());
    // Of two pauses the later end counts; a pause of minutes ends at once when it is taken back.
    pauser.transcript("CLIENT PAUSE 600000 WRITE => +OK");
    writer.push(["SET", "k", "v"]);
    writer.flush();
    pauser.transcript("GET k => nil");
    while server.info("blocked_clients") != "1" {
        std::thread::yield_now();
    }
    pauser.transcript("CLIENT UNPAUSE => +OK");
    assert_eq!(writer.receive(), Reply::ok());
    assert_eq!(server.info("blocked_clients"), "0");
    pauser.transcript("CLIENT PAUSE 50 ALL => +OK");
    writer.transcript("GET k => \"v\"");
}

fn debug_needs_permission(shards: usize) {
    let allowed = Server::builder(shards).option("enable-debug-command", "local").start();
    allowed.connect().transcript("DEBUG SET-ACTIVE-EXPIRE 1 => +OK");
    let denied = Server::builder(shards).option("enable-debug-command", "no").start();
    let mut client = denied.connect();
    client.run("SET k v");
    for line in ["DEBUG SLEEP 0", "DEBUG OBJECT k", "DEBUG HELP"] {
        let reply = format!("{:?}", client.run(line));
        assert!(reply.starts_with("-ERR DEBUG command not allowed."), "{line}: {reply}");
    }
}

fn large_configurations_are_read_whole(shards: usize) {
    let mut text = "# a comment of some length, as there are many in a stock file\n".repeat(5_000);
    text.push_str("timeout 77");
    let server = Server::builder(shards).config(&text).start();
    server.connect().transcript("CONFIG GET timeout => [\"timeout\" \"77\"]");
}

fn the_server_moves_to_another_port(shards: usize) {
    let server = Server::start(shards);
    let (elsewhere, taken) = (PortClaim::new(), TcpListener::bind("127.0.0.1:0").unwrap());
    let mut client = server.connect();
    let port = taken.local_addr().unwrap().port();
    let refusal = format!("{:?}", client.call(["CONFIG", "SET", "port", &port.to_string()]));
    assert!(refusal.ends_with("Unable to listen on this port. Check server logs."), "{refusal}");
    let port = elsewhere.port();
    assert_eq!(client.call(["CONFIG", "SET", "port", &port.to_string()]), Reply::ok());
    // Who was connected stays, and new clients find every worker at the new place.
    client.transcript("PING => +PONG");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    for _ in 0..8 {
        Client::connect(address).unwrap().transcript("PING => +PONG");
    }
    client.transcript("CONFIG SET bind 127.0.0.1 => +OK");
    Client::connect(address).unwrap().transcript("PING => +PONG");
    let before =
        [&b"CONFIG"[..], b"SET", b"port", server.port().to_string().as_bytes()].map(<[u8]>::to_vec);
    assert_eq!(client.call(before), Reply::ok());
    server.connect().transcript("PING => +PONG");
}

fn a_password_may_come_and_go(shards: usize) {
    let server = Server::builder(shards).option("requirepass", "one").start();
    let (mut admin, mut stranger) = (server.connect(), server.connect());
    admin.transcript("AUTH one => +OK");
    stranger.transcript("PING => -NOAUTH Authentication required.");
    admin.transcript("CONFIG SET requirepass two => +OK");
    stranger.transcript("AUTH one => -WRONGPASS ...");
    stranger.transcript("AUTH two => +OK");
    let mut late = server.connect();
    late.transcript("GET k => -NOAUTH Authentication required.");
    admin.transcript("CONFIG SET requirepass \"\" => +OK");
    late.transcript("GET k => nil");
    late.transcript("AUTH two => -ERR AUTH <password> called without any password configured...");
}

fn clients_are_charged_their_bytes(shards: usize) {
    let server = Server::start(shards);
    let (mut reader, mut watcher) = (server.connect(), server.connect());
    let id = reader.run("CLIENT ID").into_integer();
    reader.call(["SET", "k", &"x".repeat(10_000)]);
    reader.run("GET k");
    let line = watcher.run(&format!("CLIENT LIST ID {id}")).into_text();
    let figure = |name: &str| -> u64 {
        let word = line.split_whitespace().find_map(|word| word.strip_prefix(name));
        word.unwrap_or_else(|| panic!("no {name} in {line}")).parse().expect("a number")
    };
    assert!((10_000..11_000).contains(&figure("tot-net-in=")), "{line}");
    assert!((10_000..11_000).contains(&figure("tot-net-out=")), "{line}");
    assert_eq!(figure("tot-cmds="), 3);
    // The request that shows them is charged, and waits no longer.
    let (before, after) = (watcher.run("CLIENT INFO"), watcher.run("CLIENT INFO"));
    let received = |line: Reply| -> u64 {
        let line = line.into_text();
        assert!(line.contains(" qbuf=0 "), "{line}");
        let word = line.split_whitespace().find_map(|word| word.strip_prefix("tot-net-in="));
        word.expect("the field").parse().expect("a number")
    };
    assert_eq!(
        received(before) + "*2\r\n$6\r\nCLIENT\r\n$4\r\nINFO\r\n".len() as u64,
        received(after)
    );
}

/// Commands, each of which counts hits and misses, or neither: those that read do, those that are
/// going to change what they find do not.
const COUNTED: &str = "
    SET s 1 | GET s | GET none | APPEND s 2 | GETDEL s | GETDEL s | SET s 1 | GETEX s | GETEX none
    STRLEN s | STRLEN none | EXISTS s none | TYPE s | TYPE none | TTL s | TTL none | TOUCH s none
    OBJECT ENCODING s | MEMORY USAGE s | MEMORY USAGE none | DUMP s | DUMP none
    COPY s {s}copy | COPY none {none}copy | COPY s {s}copy REPLACE | COPY s {s}copy
    RENAME s {s}moved | RENAME {s}moved s | RPUSH l a b c d e f g h | LLEN l | LPOP l | LPOP none
    LMPOP 2 none l LEFT | LMPOP 1 none LEFT | LMOVE l l LEFT RIGHT | LMOVE none l LEFT RIGHT
    RPOPLPUSH l {l}2 | BLPOP none l 0 | BRPOP l 0 | BLMOVE l {l}2 LEFT LEFT 0 | BLMPOP 0 1 l LEFT
    LRANGE l 0 -1 | LSET l 0 x | LTRIM l 0 1 | ZADD z 1 a 2 b 3 c 4 d 5 e | ZCARD z | ZPOPMIN z
    ZPOPMIN none | ZMPOP 2 none z MIN | ZMPOP 1 none MIN | BZPOPMIN z 0 | BZMPOP 0 1 z MAX
    ZRANGE z 0 -1 | ZRANGE none 0 -1 | ZINCRBY z 1 a | SADD t a b c | SPOP t | SPOP none
    SISMEMBER t a | SMOVE t {t}2 a | SMEMBERS none | HSET h f v | HGET h f | HGET none f | HDEL h g
    HINCRBY h n 1 | XADD x 1-1 f v | XLEN x | XGROUP CREATE x g 0 | XGROUP SETID x g 0
    XGROUP CREATECONSUMER x g c | XGROUP DELCONSUMER x g c | XGROUP CREATE y g 0 MKSTREAM
    XGROUP DESTROY y g | XRANGE x - + | XRANGE none - +
";

fn hits_and_misses_are_those_of_redis(shards: usize) {
    let Some(redis) = redis_server() else { return };
    let server = Server::start(shards);
    let (mut ours, mut theirs) = (server.connect(), redis.connect());
    let counted = |server: &Server| ["keyspace_hits", "keyspace_misses"].map(|it| server.info(it));
    for line in COUNTED.lines().flat_map(|line| line.split('|')).map(str::trim) {
        if line.is_empty() {
            continue;
        }
        ours.run(line);
        theirs.run(line);
        assert_eq!(counted(&server), counted(&redis), "after {line}");
    }
}
