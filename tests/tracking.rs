//! CLIENT TRACKING in all its modes, and MONITOR.

use crate::harness::{Client, Reply, Server, on_1_2_and_4_shards, scaled};

on_1_2_and_4_shards!(
    a_reader_is_told_of_the_next_change,
    every_kind_of_change_is_told,
    a_flush_is_told_once,
    own_changes_are_told_unless_they_are_not_wanted,
    opting_in_and_out,
    broadcasting_by_prefix,
    what_was_read_before_broadcasting_is_told_once,
    redirection_to_a_client_in_resp2,
    redirection_to_a_client_that_goes_away,
    keys_of_several_shards,
    the_table_is_bounded,
    contradictions_are_refused,
    what_was_asked_for_is_shown,
    a_cache_never_keeps_what_has_changed,
    monitors_see_all_commands,
    monitors_see_transactions_that_fail,
    a_monitor_does_not_see_secrets,
);

/// A connection that speaks RESP3.
fn connect_3(server: &Server) -> Client {
    let mut client = server.connect();
    client.run("HELLO 3");
    client
}

/// An invalidation of these keys, as RESP3 pushes it.
fn invalidation(keys: &[&str]) -> Reply {
    let keys = Reply::Array(keys.iter().map(Reply::bulk).collect());
    Reply::Push(vec![Reply::bulk("invalidate"), keys])
}

fn all_keys() -> Reply {
    Reply::Push(vec![Reply::bulk("invalidate"), Reply::Null])
}

/// That the client has nothing to read before the reply to this.
#[track_caller]
fn expect_silence(client: &mut Client) {
    assert_eq!(client.run("ECHO silence"), Reply::bulk("silence"));
}

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("key:{number}")).collect()
}

fn a_reader_is_told_of_the_next_change(shards: usize) {
    let server = Server::start(shards);
    let (mut reader, mut writer) = (connect_3(&server), server.connect());
    assert_eq!(reader.run("CLIENT TRACKING ON"), Reply::ok());
    for key in keys(10) {
        writer.call(["SET", &key, "1"]);
        reader.call(["GET", &key]);
        writer.call(["SET", &key, "2"]);
        assert_eq!(reader.receive(), invalidation(&[&key]));
        writer.call(["SET", &key, "3"]);
        expect_silence(&mut reader);
    }
    reader.run("GET key:0");
    reader.run("CLIENT TRACKING OFF");
    writer.run("SET key:0 4");
    expect_silence(&mut reader);
}

fn every_kind_of_change_is_told(shards: usize) {
    let server = Server::start(shards);
    let (mut reader, mut writer) = (connect_3(&server), server.connect());
    reader.run("CLIENT TRACKING ON");
    for (read, change) in [
        ("GET k", "SET k 1"),
        ("STRLEN k", "APPEND k 1"),
        ("EXISTS k", "DEL k"),
        ("LRANGE k 0 -1", "RPUSH k a"),
        ("LLEN k", "LPOP k"),
        ("HGET k f", "HSET k f 1"),
        ("HGETALL k", "DEL k"),
        ("SMEMBERS k", "SADD k a b"),
        ("SCARD k", "SPOP k"),
        ("TYPE k", "RENAME k {k}2"),
        ("ZSCORE k m", "ZADD k 1 m"),
        ("TTL k", "EXPIRE k 100"),
        ("GETRANGE k2 0 1", "SETBIT k2 1 1"),
    ] {
        reader.run(read);
        writer.run(change);
        let key = read.split(' ').nth(1).unwrap();
        assert_eq!(reader.receive(), invalidation(&[key]), "{read}, then {change}");
    }
    // On a slow machine a key may expire before it is read; one that lives longer is not.
    for lifetime_ms in [30, 300, 3_000, 30_000] {
        let key = format!("e{lifetime_ms}");
        writer.run(&format!("SET {key} 1 PX {lifetime_ms}"));
        if !reader.run(&format!("GET {key}")).is_null() {
            return assert_eq!(reader.receive(), invalidation(&[&key]));
        }
    }
    panic!("no key lives long enough to be read");
}

fn a_flush_is_told_once(shards: usize) {
    let server = Server::start(shards);
    let (mut reader, mut writer) = (connect_3(&server), server.connect());
    reader.run("CLIENT TRACKING ON");
    keys(10).iter().for_each(|key| _ = reader.call(["GET", key]));
    for flush in ["FLUSHALL", "FLUSHDB"] {
        writer.run(flush);
        assert_eq!(reader.receive(), all_keys());
        keys(10).iter().for_each(|key| _ = writer.call(["SET", key, "1"]));
        expect_silence(&mut reader);
    }
}

fn own_changes_are_told_unless_they_are_not_wanted(shards: usize) {
    let server = Server::start(shards);
    let (mut client, mut other) = (connect_3(&server), server.connect());
    client.run("CLIENT TRACKING ON");
    for key in keys(4) {
        client.call(["GET", &key]);
        assert_eq!(client.call(["SET", &key, "1"]), Reply::ok());
        assert_eq!(client.receive(), invalidation(&[&key]));
    }
    client.run("CLIENT TRACKING OFF");
    client.run("CLIENT TRACKING ON NOLOOP");
    for key in keys(4) {
        client.call(["GET", &key]);
        client.call(["SET", &key, "2"]);
        expect_silence(&mut client);
        client.call(["GET", &key]);
        other.call(["SET", &key, "3"]);
        assert_eq!(client.receive(), invalidation(&[&key]));
    }
}

fn opting_in_and_out(shards: usize) {
    let server = Server::start(shards);
    let (mut client, mut writer) = (connect_3(&server), server.connect());
    client.run("CLIENT TRACKING ON OPTIN");
    for key in keys(4) {
        client.call(["GET", &key]);
        writer.call(["SET", &key, "1"]);
        expect_silence(&mut client);
        for line in ["CLIENT CACHING YES", "CLIENT ID"] {
            client.run(line);
        }
        client.call(["GET", &key]);
        client.call(["GET", "other"]);
        writer.call(["SET", &key, "2"]);
        assert_eq!(client.receive(), invalidation(&[&key]));
        writer.call(["SET", "other", "2"]);
        expect_silence(&mut client);
    }
    client.run("CLIENT TRACKING OFF");
    client.run("CLIENT TRACKING ON OPTOUT");
    client.run("CLIENT CACHING NO");
    client.run("GET key:0");
    client.run("GET key:1");
    writer.run("SET key:0 3");
    writer.run("SET key:1 3");
    assert_eq!(client.receive(), invalidation(&["key:1"]));
    expect_silence(&mut client);
}

fn broadcasting_by_prefix(shards: usize) {
    let server = Server::start(shards);
    let (mut client, mut all, mut writer) =
        (connect_3(&server), connect_3(&server), server.connect());
    client.run("CLIENT TRACKING ON BCAST PREFIX user: PREFIX job:");
    all.run("CLIENT TRACKING ON BCAST NOLOOP");
    for key in ["user:1", "job:7", "other", "user:2"] {
        writer.call(["SET", key, "1"]);
        assert_eq!(all.receive(), invalidation(&[key]));
        if key != "other" {
            assert_eq!(client.receive(), invalidation(&[key]));
        }
    }
    all.run("SET own 1");
    expect_silence(&mut all);
    expect_silence(&mut client);
    assert_eq!(server.info("tracking_total_prefixes"), "3");
}

fn what_was_read_before_broadcasting_is_told_once(shards: usize) {
    let server = Server::start(shards);
    let (mut reader, mut other, mut writer) =
        (connect_3(&server), connect_3(&server), server.connect());
    other.run("CLIENT TRACKING ON");
    reader.run("CLIENT TRACKING ON");
    reader.run("GET k");
    reader.run("CLIENT TRACKING OFF");
    reader.run("CLIENT TRACKING ON BCAST");
    writer.run("SET k 1");
    assert_eq!(reader.receive(), invalidation(&["k"]));
    expect_silence(&mut reader);
}

fn redirection_to_a_client_in_resp2(shards: usize) {
    let server = Server::start(shards);
    // Enough connections that some are on other workers.
    for _ in 0..4 {
        let (mut listener, mut client, mut writer) =
            (server.connect(), server.connect(), server.connect());
        let id = listener.run("CLIENT ID").into_integer();
        listener.run("SUBSCRIBE __redis__:invalidate");
        client.run(&format!("CLIENT TRACKING ON REDIRECT {id}"));
        assert_eq!(client.run("CLIENT GETREDIR"), Reply::Integer(id));
        client.run("GET k");
        writer.run("SET k 1");
        let keys = Reply::Array(vec![Reply::bulk("k")]);
        let channel = Reply::bulk("__redis__:invalidate");
        let expected = Reply::Array(vec![Reply::bulk("message"), channel.clone(), keys]);
        assert_eq!(listener.receive(), expected);
        writer.run("FLUSHALL");
        let expected = Reply::Array(vec![Reply::bulk("message"), channel, Reply::NullBulk]);
        assert_eq!(listener.receive(), expected);
        expect_silence(&mut client);
    }
}

fn redirection_to_a_client_that_goes_away(shards: usize) {
    let server = Server::start(shards);
    let (mut listener, mut client, mut writer) =
        (server.connect(), connect_3(&server), server.connect());
    let id = listener.run("CLIENT ID").into_integer();
    client.run(&format!("CLIENT TRACKING ON REDIRECT {id}"));
    assert_eq!(listener.run("QUIT"), Reply::ok());
    assert!(listener.is_closed());
    while writer.run("CLIENT LIST").into_text().lines().count() > 2 {
        std::thread::yield_now();
    }
    client.run("GET k");
    writer.run("SET k 1");
    let broken = Reply::Push(vec![Reply::bulk("tracking-redir-broken"), Reply::Integer(id)]);
    assert_eq!(client.receive(), broken);
    let info = format!("{:?}", client.run("CLIENT TRACKINGINFO"));
    assert!(info.contains("broken_redirect"), "{info}");
    let list = writer.run("CLIENT LIST").into_text();
    assert!(list.contains(" flags=tR db=0 ") && list.contains(&format!(" redir={id} ")));
    let refused = Reply::Error("ERR The client ID you want redirect to does not exist".into());
    assert_eq!(client.run(&format!("CLIENT TRACKING ON REDIRECT {id}")), refused);
}

fn keys_of_several_shards(shards: usize) {
    let server = Server::start(shards);
    let (mut client, mut writer) = (connect_3(&server), server.connect());
    client.run("CLIENT TRACKING ON");
    let told = |client: &mut Client, count: usize| {
        let mut keys: Vec<String> = (0..count)
            .map(|_| match client.receive() {
                Reply::Push(mut parts) => parts.remove(1).into_items().remove(0).into_text(),
                other => panic!("{other:?} is no invalidation"),
            })
            .collect();
        keys.sort();
        keys
    };
    client.run("MGET a b c d");
    writer.run("MSET a 1 b 2 c 3 d 4 e 5");
    assert_eq!(told(&mut client, 4), ["a", "b", "c", "d"]);
    client.run("SUNION s1 s2 s3 s4");
    writer.run("SADD s2 x");
    writer.run("SADD s4 x");
    assert_eq!(told(&mut client, 2), ["s2", "s4"]);
    client.run("MGET from to");
    writer.run("SET from 1");
    assert_eq!(told(&mut client, 1), ["from"]);
    client.run("GET from");
    writer.run("RENAME from to");
    assert_eq!(told(&mut client, 2), ["from", "to"]);
    expect_silence(&mut client);
}

fn the_table_is_bounded(shards: usize) {
    let server = Server::builder(shards).option("tracking-table-max-keys", 40).start();
    let mut client = connect_3(&server);
    client.run("CLIENT TRACKING ON");
    let mut told = 0;
    for key in keys(200) {
        client.push(["GET", &key]);
        client.flush();
        while let Reply::Push(_) = client.receive() {
            told += 1;
        }
    }
    assert!(told >= 140, "told of {told}");
    let kept: usize = server.info("tracking_total_keys").parse().unwrap();
    assert!((20..=40).contains(&kept), "{kept} keys");
    assert_eq!(server.info("tracking_total_items"), kept.to_string());
    assert_eq!(server.info("tracking_clients"), "1");
    // All keys but one are given up, whatever shards they are on; 0 is no bound.
    let mut client = connect_3(&server);
    client.run("CLIENT TRACKING ON");
    client.run("CONFIG SET tracking-table-max-keys 0");
    for key in keys(200) {
        client.push(["GET", &key]);
        client.flush();
        assert_eq!(client.receive(), Reply::Null);
    }
    assert_eq!(server.info("tracking_total_keys"), "200");
    client.push(["CONFIG", "SET", "tracking-table-max-keys", "1"]);
    client.flush();
    let (mut told, mut is_answered) = (0, false);
    while told < 199 || !is_answered {
        match client.receive() {
            Reply::Push(_) => told += 1,
            reply => is_answered = reply == Reply::ok(),
        }
    }
    expect_silence(&mut client);
    let kept: usize = server.info("tracking_total_keys").parse().unwrap();
    assert!(kept <= 1, "{kept} keys");
}

fn contradictions_are_refused(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        r#"
        CLIENT TRACKING MAYBE => -ERR syntax error
        CLIENT TRACKING ON WHAT => -ERR syntax error
        CLIENT TRACKING ON PREFIX => -ERR syntax error
        CLIENT TRACKING ON PREFIX a => -ERR PREFIX option requires BCAST mode to be enabled
        CLIENT TRACKING ON BCAST OPTIN => -ERR OPTIN and OPTOUT are not compatible with BCAST
        CLIENT TRACKING ON OPTIN OPTOUT => -ERR You can't specify both OPTIN mode and OPTOUT mode
        CLIENT TRACKING ON REDIRECT x => -ERR value is not an integer or out of range
        CLIENT TRACKING ON REDIRECT 999999 => -ERR The client ID you want redirect to does not exist
        CLIENT CACHING YES => -ERR CLIENT CACHING can be called only ...
        CLIENT GETREDIR => :-1
        CLIENT TRACKING OFF => +OK
        CLIENT TRACKING ON OPTIN => +OK
        CLIENT CACHING NO => -ERR CLIENT CACHING NO is only valid ...
        CLIENT CACHING MAYBE => -ERR syntax error
        CLIENT TRACKING ON OPTOUT => -ERR You can't switch OPTIN/OPTOUT mode ...
        CLIENT TRACKING ON BCAST => -ERR You can't switch BCAST mode ...
        CLIENT TRACKING OFF => +OK
        CLIENT TRACKING ON BCAST PREFIX foo PREFIX foobar => -ERR Prefix 'foo' overlaps with another provided prefix 'foobar'. ...
        CLIENT TRACKING ON BCAST PREFIX foo => +OK
        CLIENT TRACKING ON BCAST PREFIX foobar => -ERR Prefix 'foobar' overlaps with an existing prefix 'foo'. ...
        CLIENT GETREDIR => :0
        "#,
    );
}

fn what_was_asked_for_is_shown(shards: usize) {
    let server = Server::start(shards);
    let mut client = connect_3(&server);
    let mut info = || {
        let items = client.run("CLIENT TRACKINGINFO").into_items();
        let texts = |reply: &Reply| -> Vec<String> {
            reply.clone().into_items().into_iter().map(Reply::into_text).collect()
        };
        let number = items[3].clone().into_integer();
        let seen = (texts(&items[1]).join(" "), number, texts(&items[5]).join(" "));
        assert!(matches!(items[1], Reply::Set(_)));
        (seen, client.run("CLIENT TRACKING OFF"))
    };
    assert_eq!(info().0, ("off".into(), -1, String::new()));
    let mut client = connect_3(&server);
    client.run("CLIENT TRACKING ON BCAST PREFIX a PREFIX b NOLOOP");
    let items = client.run("CLIENT TRACKINGINFO").into_items();
    let flags = ["on", "bcast", "noloop"].map(Reply::bulk).to_vec();
    assert_eq!(items[1], Reply::Set(flags));
    assert_eq!(items[5], Reply::Array(["a", "b"].map(Reply::bulk).to_vec()));
    assert!(client.run("CLIENT INFO").into_text().contains(" flags=tB "));
    client.run("RESET");
    client.run("HELLO 3");
    let items = client.run("CLIENT TRACKINGINFO").into_items();
    assert_eq!(items[1], Reply::Set(vec![Reply::bulk("off")]));
    assert_eq!(server.info("tracking_clients"), "0");
}

/// A caching client reads keys in pipelines while others count them up: what it keeps is never older
/// than what a reader without a cache finds after it has heard of everything.
fn a_cache_never_keeps_what_has_changed(shards: usize) {
    let server = Server::start(shards);
    let keys = keys(8);
    let writers: Vec<_> = (0..2)
        .map(|_| {
            let (mut client, keys) = (server.connect(), keys.clone());
            std::thread::spawn(move || {
                for _ in 0..scaled(300) {
                    keys.iter().for_each(|key| client.push(["INCR", key]));
                    client.flush();
                    client.receive_all(keys.len());
                }
            })
        })
        .collect();
    let mut client = connect_3(&server);
    client.run("CLIENT TRACKING ON");
    let mut cache = vec![None; keys.len()];
    let forget = |cache: &mut Vec<Option<Vec<u8>>>, mut parts: Vec<Reply>| {
        for key in parts.remove(1).into_items() {
            let key = key.into_text();
            cache[keys.iter().position(|own| *own == key).expect("an own key")] = None;
        }
    };
    for _ in 0..scaled(200) {
        keys.iter().for_each(|key| client.push(["GET", key]));
        client.flush();
        let mut next = 0;
        while next < keys.len() {
            match client.receive() {
                Reply::Push(parts) => forget(&mut cache, parts),
                Reply::Bulk(value) => {
                    cache[next] = Some(value);
                    next += 1;
                }
                _ => next += 1,
            }
        }
    }
    writers.into_iter().for_each(|writer| writer.join().expect("a writer"));
    // Behind this, everything that was caused before has been heard: one command for each shard.
    for key in &keys {
        client.push(["STRLEN", key]);
    }
    client.flush();
    let mut answered = 0;
    while answered < keys.len() {
        match client.receive() {
            Reply::Push(parts) => forget(&mut cache, parts),
            _ => answered += 1,
        }
    }
    let mut plain = server.connect();
    for (key, cached) in keys.iter().zip(cache) {
        if let Some(cached) = cached {
            assert_eq!(plain.call(["GET", key]).into_bytes(), cached, "{key}");
        }
    }
}

/// The rest of a line behind its time and source.
fn shown(monitor: &mut Client) -> String {
    match monitor.receive() {
        Reply::Simple(line) => line.split_once("] ").expect("a line of MONITOR").1.to_owned(),
        other => panic!("{other:?} is no line"),
    }
}

fn monitors_see_all_commands(shards: usize) {
    let server = Server::start(shards);
    let mut monitors: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for monitor in &mut monitors {
        assert_eq!(monitor.run("MONITOR"), Reply::ok());
    }
    for number in 0..4 {
        let mut client = server.connect();
        let lines = [
            format!("SET key:{number} 1"),
            format!("GET key:{number}"),
            "PING".into(),
            "MSET a 1 b 2 c 3".into(),
            "SINTERSTORE x y z".into(),
            "SELECT 3".into(),
        ];
        for line in &lines {
            client.run(line);
            let expected: Vec<String> = line.split(' ').map(|word| format!("\"{word}\"")).collect();
            for monitor in &mut monitors {
                assert_eq!(shown(monitor), expected.join(" "));
            }
        }
    }
    let mut client = server.connect();
    for line in ["MULTI", "SET k 1", "EXEC", "MULTI", "wrong", "EXEC"] {
        client.run(line);
    }
    for expected in ["\"MULTI\"", r#""SET" "k" "1""#, "\"EXEC\"", "\"MULTI\"", "\"EXEC\""] {
        for monitor in &mut monitors {
            assert_eq!(shown(monitor), expected);
        }
    }
    let list = server.connect().run("CLIENT LIST").into_text();
    assert_eq!(list.matches(" flags=O ").count(), 3, "{list}");
}

fn monitors_see_transactions_that_fail(shards: usize) {
    let server = Server::start(shards);
    let (mut monitor, mut client) = (server.connect(), server.connect());
    assert_eq!(monitor.run("MONITOR"), Reply::ok());
    for line in ["MULTI", "NOSUCH command", "EXEC", "WATCH k", "SET k 1", "MULTI", "EXEC"] {
        client.run(line);
    }
    for line in ["MULTI", "EXEC", "WATCH k", "SET k 1", "MULTI", "EXEC"] {
        let words: Vec<String> = line.split(' ').map(|word| format!("\"{word}\"")).collect();
        assert_eq!(shown(&mut monitor), words.join(" "));
    }
}

fn a_monitor_does_not_see_secrets(shards: usize) {
    let server = Server::builder(shards).option("requirepass", "secret").start();
    let (mut monitor, mut client) = (server.connect(), server.connect());
    monitor.run("AUTH secret");
    monitor.run("MONITOR");
    client.run("AUTH secret");
    client.run("CONFIG SET requirepass other");
    client.call(["SET", "a \"b\"", "\r\n\x01"]);
    assert_eq!(shown(&mut monitor), "\"AUTH\" \"(redacted)\"");
    assert_eq!(shown(&mut monitor), r#""SET" "a \"b\"" "\r\n\x01""#);
    assert_eq!(monitor.run("RESET"), Reply::Simple("RESET".into()));
    client.run("PING");
    expect_no_line(&mut monitor);
}

fn expect_no_line(client: &mut Client) {
    client.run("AUTH other");
    expect_silence(client);
}
