//! Publish/subscribe and keyspace notifications.
//!
//! The checks of order run publishers and subscribers on many connections, so that every worker has
//! some of each, with channels that live on all shards.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Client, Reply, Server, on_1_2_and_4_shards, scaled};

on_1_2_and_4_shards!(
    subscriptions_are_confirmed_and_counted,
    a_confined_client_can_do_little_else,
    messages_have_the_form_of_the_protocol,
    channels_can_be_listed,
    all_subscribers_see_one_order,
    a_message_comes_after_its_data,
    a_pipelining_subscriber_sees_no_older_data_behind_a_message,
    messages_come_between_the_confirmations_and_are_all_counted,
    ten_thousand_channels,
    long_messages,
    a_slow_subscriber_is_disconnected,
    who_is_gone_is_not_counted,
    reset_and_quit_end_subscriptions,
    notifications_name_key_and_event,
    notifications_of_every_class,
    an_event_is_there_when_its_command_is_answered,
    a_setting_counts_from_its_place_in_the_order,
);

fn connect(address: SocketAddr) -> Client {
    Client::connect(address).expect("a connection")
}

/// A connection that speaks RESP3.
fn connect_3(address: SocketAddr) -> Client {
    let mut client = connect(address);
    client.run("HELLO 3");
    client
}

/// A reply's elements as text; integers and nulls too.
fn words(reply: Reply) -> Vec<String> {
    let word = |item: Reply| match item {
        Reply::Integer(number) => number.to_string(),
        null if null.is_null() => "nil".into(),
        other => other.into_text(),
    };
    reply.into_items().into_iter().map(word).collect()
}

/// The next thing the client reads, as text.
#[track_caller]
fn next(client: &mut Client) -> String {
    words(client.receive()).join(" ")
}

/// Repeats `question` until `is_right` says so.
#[track_caller]
fn wait_until(mut is_right: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_right() {
        assert!(Instant::now() < deadline, "it does not come true");
        thread::sleep(Duration::from_millis(5));
    }
}

fn subscriptions_are_confirmed_and_counted(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for line in [
        "SUBSCRIBE a b a",
        "PSUBSCRIBE a* b",
        "SSUBSCRIBE a",
        "UNSUBSCRIBE a none",
        "PUNSUBSCRIBE",
        "UNSUBSCRIBE",
        "UNSUBSCRIBE",
        "SUNSUBSCRIBE",
        "SUNSUBSCRIBE x",
    ] {
        client.push(line.split(' '));
    }
    client.push(["ECHO", "free"]);
    client.flush();
    for expected in [
        "subscribe a 1",
        "subscribe b 2",
        "subscribe a 2",
        "psubscribe a* 3",
        "psubscribe b 4",
        "ssubscribe a 1",
        "unsubscribe a 3",
        "unsubscribe none 3",
        "punsubscribe a* 2",
        "punsubscribe b 1",
        "unsubscribe b 0",
        "unsubscribe nil 0",
        "sunsubscribe a 0",
        "sunsubscribe x 0",
    ] {
        assert_eq!(next(&mut client), expected);
    }
    assert_eq!(client.receive(), Reply::bulk("free"));
}

fn a_confined_client_can_do_little_else(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.run("SUBSCRIBE c");
    let refused = "ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / \
                   RESET are allowed in this context";
    assert_eq!(client.run("GET k"), Reply::Error(refused.into()));
    assert_eq!(words(client.run("PING")), ["pong", ""]);
    assert_eq!(words(client.run("PING hi")), ["pong", "hi"]);
    client.run("UNSUBSCRIBE c");
    assert_eq!(client.run("PING"), Reply::Simple("PONG".into()));
    let mut client = connect_3(server.address());
    client.run("SUBSCRIBE c");
    assert_eq!(client.run("PING hi"), Reply::bulk("hi"));
    assert!(client.run("GET k").is_null());
}

fn messages_have_the_form_of_the_protocol(shards: usize) {
    let server = Server::start(shards);
    let (mut two, mut three) = (server.connect(), connect_3(server.address()));
    for client in [&mut two, &mut three] {
        client.run("SUBSCRIBE news");
        client.run("PSUBSCRIBE n?ws");
        client.run("SSUBSCRIBE news");
    }
    let mut publisher = server.connect();
    assert_eq!(publisher.run("PUBLISH news hello"), Reply::Integer(4));
    assert_eq!(publisher.run("SPUBLISH news again"), Reply::Integer(2));
    assert_eq!(publisher.run("PUBLISH other hello"), Reply::Integer(0));
    let texts = |parts: &[&str]| parts.iter().map(Reply::bulk).collect::<Vec<_>>();
    for parts in [
        &["message", "news", "hello"][..],
        &["pmessage", "n?ws", "news", "hello"],
        &["smessage", "news", "again"],
    ] {
        assert_eq!(two.receive(), Reply::Array(texts(parts)));
        assert_eq!(three.receive(), Reply::Push(texts(parts)));
    }
    // What a client publishes itself comes behind the reply.
    assert_eq!(three.run("PUBLISH news self"), Reply::Integer(4));
    assert_eq!(next(&mut three), "message news self");
}

fn channels_can_be_listed(shards: usize) {
    let server = Server::start(shards);
    let (mut first, mut second) = (server.connect(), server.connect());
    first.run("SUBSCRIBE alpha");
    second.run("SUBSCRIBE alpha");
    second.run("SUBSCRIBE beta");
    second.run("SUBSCRIBE __keyevent@0__:set");
    second.run("PSUBSCRIBE a*");
    first.run("PSUBSCRIBE a*");
    first.run("SSUBSCRIBE slot");
    let mut client = server.connect();
    let mut sorted = |line: &str| {
        let mut words = words(client.run(line));
        words.sort();
        words
    };
    assert_eq!(sorted("PUBSUB CHANNELS"), ["__keyevent@0__:set", "alpha", "beta"]);
    assert_eq!(sorted("PUBSUB CHANNELS *et*"), ["__keyevent@0__:set", "beta"]);
    assert_eq!(sorted("PUBSUB SHARDCHANNELS"), ["slot"]);
    let mut client = server.connect();
    let numbers = words(client.run("PUBSUB NUMSUB alpha none __keyevent@0__:set alpha"));
    assert_eq!(numbers, ["alpha", "2", "none", "0", "__keyevent@0__:set", "1", "alpha", "2"]);
    assert_eq!(words(client.run("PUBSUB NUMSUB")), [""; 0]);
    assert_eq!(words(client.run("PUBSUB SHARDNUMSUB slot alpha")), ["slot", "1", "alpha", "0"]);
    assert_eq!(client.run("PUBSUB NUMPAT"), Reply::Integer(1));
    for (field, value) in [("pubsub_channels", "3"), ("pubsub_patterns", "1")] {
        assert_eq!(server.info(field), value);
    }
    let list = client.run("CLIENT LIST TYPE pubsub").into_text();
    assert_eq!(list.lines().count(), 2);
    assert!(list.contains(" flags=P db=0 sub=1 psub=1 ssub=1 "), "{list}");
    assert!(list.contains(" sub=3 psub=1 ssub=0 "), "{list}");
}

/// Names of channels whose shards differ.
fn channels(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("channel:{number}")).collect()
}

fn all_subscribers_see_one_order(shards: usize) {
    let (subscribers, publishers, rounds) = (6, 4, scaled(300));
    let server = Server::start(shards);
    let (address, channels) = (server.address(), channels(3));
    let total = publishers * rounds * channels.len();
    let clients: Vec<Client> = (0..subscribers)
        .map(|number| {
            let mut client = connect(address);
            match number % 2 {
                0 => channels.iter().for_each(|c| _ = client.call(["SUBSCRIBE", c])),
                _ => _ = client.run("PSUBSCRIBE channel:*"),
            }
            client
        })
        .collect();
    let seen: Vec<BTreeMap<String, Vec<String>>> = thread::scope(|scope| {
        for publisher in 0..publishers {
            let channels = &channels;
            scope.spawn(move || {
                let mut client = connect(address);
                for round in 0..rounds {
                    let text = format!("{publisher}:{round}");
                    channels.iter().for_each(|c| client.push(["PUBLISH", c, &text]));
                    client.flush();
                    for reply in client.receive_all(channels.len()) {
                        assert_eq!(reply, Reply::Integer(subscribers as i64));
                    }
                }
            });
        }
        let readers = clients.into_iter().map(|mut client| {
            scope.spawn(move || {
                let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
                for _ in 0..total {
                    let mut words = words(client.receive());
                    let (text, channel) = (words.pop().unwrap(), words.pop().unwrap());
                    seen.entry(channel).or_default().push(text);
                }
                seen
            })
        });
        let readers: Vec<_> = readers.collect();
        readers.into_iter().map(|reader| reader.join().expect("a subscriber")).collect()
    });
    for (number, other) in seen.iter().enumerate() {
        assert!(*other == seen[0], "subscriber {number} has seen another order");
    }
    for texts in seen[0].values() {
        // Each publisher's messages keep their order.
        for publisher in 0..publishers {
            let own = texts.iter().filter(|t| t.starts_with(&format!("{publisher}:")));
            let rounds: Vec<usize> = own.map(|t| t[2..].parse().unwrap()).collect();
            assert!(rounds.is_sorted());
        }
    }
}

/// Lets publishers write a number to data and then publish it, pipelined, until `stop`.
fn publish_numbers(address: SocketAddr, publisher: usize, stop: &AtomicBool) {
    let mut client = connect(address);
    let (data, channel) = (format!("data:{publisher}"), format!("channel:{publisher}"));
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..4 {
            number += 1;
            client.push(["SET", &data, &number.to_string()]);
            client.push(["PUBLISH", &channel, &number.to_string()]);
        }
        client.flush();
        client.receive_all(8);
    }
}

const PUBLISHERS: usize = 4;

fn a_message_comes_after_its_data(shards: usize) {
    let server = Server::start(shards);
    let (address, stop) = (server.address(), AtomicBool::new(false));
    thread::scope(|scope| {
        let readers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| {
                scope.spawn(move || {
                    let (mut subscriber, mut reader) = (connect(address), connect(address));
                    subscriber.call(["SUBSCRIBE", &format!("channel:{publisher}")]);
                    let data = format!("data:{publisher}");
                    for _ in 0..scaled(400) {
                        let told: i64 = words(subscriber.receive())[2].parse().unwrap();
                        let found: i64 = reader.call(["GET", &data]).into_text().parse().unwrap();
                        assert!(found >= told, "told of {told}, and found {found}");
                    }
                })
            })
            .collect();
        for publisher in 0..PUBLISHERS {
            let stop = &stop;
            scope.spawn(move || publish_numbers(address, publisher, stop));
        }
        let ends: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        stop.store(true, Ordering::Relaxed);
        ends.into_iter().for_each(|end| end.expect("a message comes after its data"));
    });
}

fn a_pipelining_subscriber_sees_no_older_data_behind_a_message(shards: usize) {
    let server = Server::start(shards);
    let (address, stop) = (server.address(), AtomicBool::new(false));
    let messages = AtomicUsize::new(0);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| {
                let messages = &messages;
                scope.spawn(move || {
                    let mut client = connect_3(address);
                    client.call(["SUBSCRIBE", &format!("channel:{publisher}")]);
                    let data = format!("data:{publisher}");
                    let mut told = 0;
                    for _ in 0..scaled(200) {
                        for other in 0..4 {
                            client.push(["GET", &data]);
                            client.push(["GET", &format!("other:{other}")]);
                        }
                        client.flush();
                        let mut replies = 0;
                        while replies < 8 {
                            match client.receive() {
                                Reply::Push(parts) => {
                                    told = parts[2].clone().into_text().parse().unwrap();
                                    messages.fetch_add(1, Ordering::Relaxed);
                                }
                                Reply::Bulk(text) => {
                                    let found: i64 =
                                        String::from_utf8(text).unwrap().parse().unwrap();
                                    assert!(found >= told, "{found} stands behind {told}");
                                    replies += 1;
                                }
                                _ => replies += 1,
                            }
                        }
                    }
                })
            })
            .collect();
        for publisher in 0..PUBLISHERS {
            let stop = &stop;
            scope.spawn(move || publish_numbers(address, publisher, stop));
        }
        let ends: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        stop.store(true, Ordering::Relaxed);
        ends.into_iter().for_each(|end| end.expect("no older data"));
    });
    assert!(messages.load(Ordering::Relaxed) > 100);
}

/// Subscribes and unsubscribes in pipelines while others publish: within each connection messages
/// stand between the confirmations only, and together the subscribers get as many messages as the
/// publishers were told of.
fn messages_come_between_the_confirmations_and_are_all_counted(shards: usize) {
    let server = Server::start(shards);
    let (address, stop) = (server.address(), AtomicBool::new(false));
    let (sent, received) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let subscribers: Vec<_> = (0..4)
            .map(|number| {
                let received = &received;
                scope.spawn(move || {
                    let mut client = connect_3(address);
                    for _ in 0..scaled(150) {
                        client.push(["SUBSCRIBE", "channel:0", "channel:1"]);
                        client.push(["GET", &format!("k{number}")]);
                        client.push(["UNSUBSCRIBE", "channel:1"]);
                        client.push(["PING"]);
                        client.push(["UNSUBSCRIBE"]);
                        client.push(["ECHO", "end"]);
                        client.flush();
                        received.fetch_add(read_between(&mut client), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            let (stop, sent) = (&stop, &sent);
            scope.spawn(move || {
                let mut client = connect(address);
                while !stop.load(Ordering::Relaxed) {
                    (0..2).for_each(|c| client.push(["PUBLISH", &format!("channel:{c}"), "m"]));
                    client.flush();
                    for reply in client.receive_all(2) {
                        sent.fetch_add(reply.into_integer() as usize, Ordering::Relaxed);
                    }
                }
            });
        }
        let ends: Vec<_> = subscribers.into_iter().map(|each| each.join()).collect();
        stop.store(true, Ordering::Relaxed);
        ends.into_iter().for_each(|end| end.expect("messages stand between the confirmations"));
    });
    assert_eq!(sent.into_inner(), received.into_inner());
}

/// Reads up to "end"; counts the messages.
fn read_between(client: &mut Client) -> usize {
    let (mut messages, mut subscribed) = (0, [false; 2]);
    loop {
        let reply = client.receive();
        if reply == Reply::bulk("end") {
            assert_eq!(subscribed, [false; 2]);
            return messages;
        }
        let Reply::Push(parts) = reply else { continue };
        let channel = usize::from(parts[1] == Reply::bulk("channel:1"));
        match parts[0].clone().into_text().as_str() {
            "subscribe" => subscribed[channel] = true,
            "unsubscribe" => subscribed[channel] = false,
            _ => {
                assert!(subscribed[channel], "a message of a channel that is not subscribed to");
                messages += 1;
            }
        }
    }
}

fn ten_thousand_channels(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let names: Vec<String> = (0..10_000).map(|number| format!("c:{number}")).collect();
    let mut command = vec!["SUBSCRIBE"];
    command.extend(names.iter().map(String::as_str));
    client.push(&command);
    client.flush();
    let last = client.receive_all(names.len()).pop().unwrap();
    assert_eq!(words(last), ["subscribe", "c:9999", "10000"]);
    let mut publisher = server.connect();
    for name in names.iter().step_by(500) {
        assert_eq!(publisher.call(["PUBLISH", name, "m"]), Reply::Integer(1));
        assert_eq!(words(client.receive()), ["message", name, "m"]);
    }
    client.push(["UNSUBSCRIBE"]);
    client.flush();
    let last = client.receive_all(names.len()).pop().unwrap();
    assert_eq!(words(last)[2], "0");
    assert_eq!(words(publisher.run("PUBSUB CHANNELS")), [""; 0]);
}

fn long_messages(shards: usize) {
    let server = Server::start(shards);
    let mut subscribers: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    subscribers.iter_mut().for_each(|client| _ = client.run("SUBSCRIBE c"));
    let mut publisher = server.connect();
    for len in [0, 100, 16 << 10, 1 << 20] {
        let text = "x".repeat(len);
        assert_eq!(publisher.call(["PUBLISH", "c", &text]), Reply::Integer(4));
        for client in &mut subscribers {
            assert!(words(client.receive()) == ["message", "c", &text], "of {len} bytes");
        }
    }
}

fn a_slow_subscriber_is_disconnected(shards: usize) {
    let server =
        Server::builder(shards).option("client-output-buffer-limit", "pubsub 2mb 0 0").start();
    let (mut slow, mut quick) = (server.connect(), server.connect());
    slow.run("SUBSCRIBE c");
    quick.run("SUBSCRIBE c");
    let mut publisher = server.connect();
    let text = "x".repeat(100_000);
    let mut receivers = 2;
    for _ in 0..1_000 {
        receivers = publisher.call(["PUBLISH", "c", &text]).into_integer();
        quick.receive();
        if receivers == 1 {
            break;
        }
    }
    assert_eq!(receivers, 1, "the slow subscriber is still there");
    assert!(slow.read_to_end().len() < 100 << 20);
    assert_eq!(publisher.run("PUBLISH c m"), Reply::Integer(1));
    assert_eq!(next(&mut quick), "message c m");
}

fn who_is_gone_is_not_counted(shards: usize) {
    let server = Server::start(shards);
    let mut publisher = server.connect();
    for _ in 0..20 {
        let mut client = server.connect();
        client.run("SUBSCRIBE c d");
        client.receive();
        client.run("PSUBSCRIBE c*");
        client.run("SSUBSCRIBE c");
        assert!(publisher.run("PUBLISH c m").into_integer() >= 2);
    }
    wait_until(|| publisher.run("PUBLISH c m") == Reply::Integer(0));
    wait_until(|| publisher.run("PUBSUB NUMPAT") == Reply::Integer(0));
    wait_until(|| publisher.run("SPUBLISH c m") == Reply::Integer(0));
    assert_eq!(server.info("pubsub_clients"), "0");
}

fn reset_and_quit_end_subscriptions(shards: usize) {
    let server = Server::start(shards);
    let (mut client, mut publisher) = (server.connect(), server.connect());
    client.run("SUBSCRIBE c");
    client.run("PSUBSCRIBE *");
    assert_eq!(client.run("RESET"), Reply::Simple("RESET".into()));
    assert_eq!(publisher.run("PUBLISH c m"), Reply::Integer(0));
    assert!(client.run("GET k").is_null());
    client.run("SUBSCRIBE c");
    assert_eq!(client.run("QUIT"), Reply::ok());
    assert!(client.is_closed());
    wait_until(|| publisher.run("PUBLISH c m") == Reply::Integer(0));
}

fn notifications_name_key_and_event(shards: usize) {
    let server = Server::start(shards);
    let (mut client, mut listener) = (server.connect(), server.connect());
    listener.run("SUBSCRIBE __keyspace@0__:k");
    listener.run("SUBSCRIBE __keyevent@0__:set");
    listener.run("PSUBSCRIBE __key*@5__:*");
    client.run("SET k 1");
    client.run("CONFIG SET notify-keyspace-events KEA");
    client.run("SET k 1");
    assert_eq!(next(&mut listener), "message __keyspace@0__:k set");
    assert_eq!(next(&mut listener), "message __keyevent@0__:set k");
    client.run("SET other 1");
    assert_eq!(next(&mut listener), "message __keyevent@0__:set other");
    client.run("SELECT 5");
    client.run("LPUSH k 1");
    assert_eq!(next(&mut listener), "pmessage __key*@5__:* __keyspace@5__:k lpush");
    assert_eq!(next(&mut listener), "pmessage __key*@5__:* __keyevent@5__:lpush k");
    client.run("CONFIG SET notify-keyspace-events El");
    client.run("SELECT 0");
    client.run("SET k 2");
    client.run("CONFIG SET notify-keyspace-events K$");
    client.run("SET k 3");
    assert_eq!(next(&mut listener), "message __keyspace@0__:k set");
}

fn notifications_of_every_class(shards: usize) {
    let server = Server::builder(shards).option("notify-keyspace-events", "EAmn").start();
    let (mut client, mut listener) = (server.connect(), server.connect());
    listener.run("PSUBSCRIBE __keyevent@0__:*");
    let mut expect = |line: &str, events: &[&str]| {
        client.run(line);
        for event in events {
            let told = words(listener.receive());
            assert_eq!(told[2], format!("__keyevent@0__:{event}"), "after {line}");
        }
    };
    expect("SET s 1", &["new", "set"]);
    expect("GET none", &["keymiss"]);
    expect("EXPIRE s 1000", &["expire"]);
    expect("PERSIST s", &["persist"]);
    expect("INCR s", &["incrby"]);
    expect("RPUSH l a b", &["new", "rpush"]);
    expect("LPOP l 2", &["lpop", "del"]);
    expect("SADD t a", &["new", "sadd"]);
    expect("SREM t a", &["srem", "del"]);
    expect("HSET h f 1", &["new", "hset"]);
    expect("HDEL h f", &["hdel", "del"]);
    expect("ZADD z 1 a", &["new", "zadd"]);
    expect("ZREM z a", &["zrem", "del"]);
    expect("RENAME s {s}r", &["new", "rename_from", "rename_to"]);
    expect("DEL {s}r", &["del"]);
    expect("SET v 1 PX 1", &["new", "set", "expire", "expired"]);
}

fn an_event_is_there_when_its_command_is_answered(shards: usize) {
    let server = Server::builder(shards).option("notify-keyspace-events", "K$").start();
    let mut listeners: Vec<Client> = (0..4).map(|_| connect_3(server.address())).collect();
    listeners.iter_mut().for_each(|client| _ = client.run("PSUBSCRIBE __keyspace@0__:k*"));
    let mut client = server.connect();
    for key in 0..20 {
        assert_eq!(client.run(&format!("SET k{key} 1")), Reply::ok());
    }
    for listener in &mut listeners {
        // The events stand before the reply of whatever comes behind the answered commands.
        for key in 0..20 {
            listener.push(["GET", &format!("k{key}")]);
        }
        listener.flush();
        let (mut told, mut answered) = (0, 0);
        while answered < 20 {
            match listener.receive() {
                Reply::Push(_) => told += 1,
                _ => answered += 1,
            }
        }
        assert_eq!(told, 20);
    }
}

fn a_setting_counts_from_its_place_in_the_order(shards: usize) {
    const ROUNDS: usize = 50;
    let server = Server::start(shards);
    let (mut client, mut listener) = (server.connect(), server.connect());
    listener.run("PSUBSCRIBE __keyevent@0__:*");
    listener.run("SUBSCRIBE end");
    for round in 0..ROUNDS {
        // Keys of all shards, so that most commands are executed elsewhere, the last one on two shards.
        let [from, to] = ["from", "to"].map(|name| format!("{name}{round}"));
        client.push(["CONFIG", "SET", "notify-keyspace-events", "E$g"]);
        client.push(["SET", &from, "1"]);
        client.push(["RENAME", &from, &to]);
        client.push(["CONFIG", "SET", "notify-keyspace-events", ""]);
        client.push(["SET", &to, "2"]);
    }
    client.flush();
    client.receive_all(5 * ROUNDS);
    client.run("PUBLISH end .");
    let mut told = BTreeMap::new();
    loop {
        let message = words(listener.receive());
        if message[0] == "message" {
            break;
        }
        *told.entry(message[2].clone()).or_insert(0) += 1;
    }
    let expected = ["rename_from", "rename_to", "set"];
    let expected = expected.map(|event| (format!("__keyevent@0__:{event}"), ROUNDS));
    assert_eq!(told, BTreeMap::from(expected));
}
