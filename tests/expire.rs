//! Deadlines. What can be is tested with points in time far away or long past, so that the speed
//! of the machine decides nothing; the rest waits for an event, with a bound that only a hang
//! passes.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{Client, Reply, Server, on_1_2_and_4_shards};

on_1_2_and_4_shards!(
    deadlines_are_set_and_read,
    conditions,
    limits,
    past_deadlines_delete,
    a_passed_deadline_hides_the_key_everywhere,
    expired_keys_are_removed_unread,
    active_expiry_can_be_switched_off,
    while_clients_are_paused_keys_are_hidden_and_stay,
);

/// What is waited for must come; how soon is not what is tested.
const PATIENCE: Duration = Duration::from_secs(60);

fn deadlines_are_set_and_read(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        r#"
        TTL k                           => :-2
        PTTL k                          => :-2
        EXPIRETIME k                    => :-2
        PEXPIRETIME k                   => :-2
        PERSIST k                       => :0
        EXPIRE k 100                    => :0
        SET k v                         => +OK
        TTL k                           => :-1
        PTTL k                          => :-1
        EXPIRETIME k                    => :-1
        PERSIST k                       => :0
        EXPIREAT k 100000000000         => :1
        EXPIRETIME k                    => :100000000000
        PEXPIRETIME k                   => :100000000000000
        PEXPIREAT k 100000000000567     => :1
        # Rounded to the nearest second, as Redis does.
        EXPIRETIME k                    => :100000000001
        PEXPIRETIME k                   => :100000000000567
        GET k                           => "v"
        APPEND k w                      => :2
        PEXPIRETIME k                   => :100000000000567
        PERSIST k                       => :1
        TTL k                           => :-1
        EXPIRE k 1000                   => :1
        "#,
    );
    let seconds = client.run("TTL k").into_integer();
    assert!((900..=1_000).contains(&seconds), "{seconds} s");
    client.run("PEXPIRE k 1000000");
    let milliseconds = client.run("PTTL k").into_integer();
    assert!((900_000..=1_000_000).contains(&milliseconds), "{milliseconds} ms");
}

fn conditions(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        SET k v                         => +OK
        EXPIREAT k 100000000000 XX      => :0
        EXPIREAT k 100000000000 GT      => :0
        EXPIREAT k 100000000000 LT      => :1
        EXPIREAT k 100000000001 NX      => :0
        EXPIREAT k 100000000001 LT      => :0
        EXPIREAT k 100000000000 GT      => :0
        EXPIREAT k 100000000001 gt      => :1
        EXPIRETIME k                    => :100000000001
        EXPIREAT k 100000000000 XX LT   => :1
        EXPIRETIME k                    => :100000000000
        EXPIRE k 1 NX XX                => -ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE k 1 NX GT                => -ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE k 1 GT LT                => -ERR GT and LT options at the same time are not compatible
        EXPIRE k 1 WHAT                 => -ERR Unsupported option WHAT
        EXPIRETIME k                    => :100000000000
        "#,
    );
}

fn limits(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        SET k v                             => +OK
        EXPIRE k x                          => -ERR value is not an integer or out of range
        EXPIRE k 9223372036854775807        => -ERR invalid expire time in 'expire' command
        EXPIREAT k 9223372036854775807      => -ERR invalid expire time in 'expireat' command
        EXPIRE k 9223372036854775           => -ERR invalid expire time in 'expire' command
        PEXPIRE k 9223372036854775807       => -ERR invalid expire time in 'pexpire' command
        PEXPIREAT k 9223372036854775807     => :1
        PEXPIRETIME k                       => :9223372036854775807
        EXPIRE k -9223372036854775807       => -ERR invalid expire time in 'expire' command
        EXISTS k                            => :1
        "#,
    );
}

fn past_deadlines_delete(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        MSET a 1 b 2 c 3 d 4    => +OK
        EXPIRE a 0              => :1
        EXPIRE b -1             => :1
        EXPIREAT c 1            => :1
        PEXPIREAT d 1           => :1
        DBSIZE                  => :0
        EXISTS a b c d          => :0
        "#,
    );
}

/// Sets a near deadline and waits until the key is gone for the client that set it.
fn let_expire(client: &mut Client, key: &str) {
    client.call(["PEXPIRE", key, "20"]);
    let start = Instant::now();
    while client.call(["EXISTS", key]) == Reply::Integer(1) {
        assert!(start.elapsed() < PATIENCE, "{key} does not expire");
        thread::sleep(Duration::from_millis(1));
    }
}

/// What one client has seen expire, no other client sees alive.
fn a_passed_deadline_hides_the_key_everywhere(shards: usize) {
    let server = Server::start(shards);
    let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    // Only a read may find out, nobody removes the key before.
    clients[0].transcript("DEBUG SET-ACTIVE-EXPIRE 0 => +OK");
    for round in 0..20 {
        let key = format!("key:{round}");
        clients[0].call(["SET", &key, "v"]);
        let_expire(&mut clients[round % 8], &key);
        for client in &mut clients {
            assert_eq!(client.call(["GET", &key]), Reply::NullBulk);
            assert_eq!(client.call(["PTTL", &key]), Reply::Integer(-2));
            assert_eq!(client.call(["TYPE", &key]), Reply::Simple("none".into()));
        }
        assert_eq!(clients[0].call(["SET", &key, "v", "NX"]), Reply::ok());
        assert_eq!(clients[0].call(["PTTL", &key]), Reply::Integer(-1));
    }
}

fn expired_keys_are_removed_unread(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    const KEYS: usize = 2_000;
    for n in 0..KEYS {
        client.push(["SET", &format!("short:{n}"), "v", "PX", "50"]);
        client.push(["SET", &format!("long:{n}"), "v", "EXAT", "100000000000"]);
    }
    client.flush();
    client.receive_all(2 * KEYS);
    let start = Instant::now();
    while client.run("DBSIZE") != Reply::Integer(KEYS as i64) {
        assert!(start.elapsed() < PATIENCE, "expired keys stay: {:?}", client.run("DBSIZE"));
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.info("expired_keys"), KEYS.to_string());
}

fn active_expiry_can_be_switched_off(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        "
        DEBUG SET-ACTIVE-EXPIRE 0   => +OK
        SET unread v PX 1           => +OK
        SET read v                  => +OK
        ",
    );
    let_expire(&mut client, "read");
    thread::sleep(Duration::from_millis(300));
    client.transcript(
        "
        DBSIZE                      => :1
        EXISTS unread               => :0
        DBSIZE                      => :0
        DEBUG SET-ACTIVE-EXPIRE 1   => +OK
        ",
    );
}

/// While clients are paused nothing changes: who compares the data then finds it at rest.
fn while_clients_are_paused_keys_are_hidden_and_stay(shards: usize) {
    const KEYS: usize = 40;
    let server = Server::start(shards);
    let (mut client, mut operator) = (server.connect(), server.connect());
    // Until the pause has begun nobody removes a key, however long that takes.
    operator.transcript("DEBUG SET-ACTIVE-EXPIRE 0 => +OK");
    for n in 0..KEYS {
        client.push(["SET", &format!("key:{n}"), "v", "PX", "20"]);
    }
    client.flush();
    client.receive_all(KEYS);
    operator.transcript(
        "
        CLIENT PAUSE 1000000 WRITE  => +OK
        DEBUG SET-ACTIVE-EXPIRE 1   => +OK
        ",
    );
    let start = Instant::now();
    let is_hidden = |client: &mut Client, n: usize| {
        client.call(["GET", &format!("key:{n}")]) == Reply::NullBulk
    };
    while !(0..KEYS).all(|n| is_hidden(&mut client, n)) {
        assert!(start.elapsed() < PATIENCE, "keys do not expire");
        thread::sleep(Duration::from_millis(5));
    }
    let there = client.run("DBSIZE").into_integer() as usize;
    let gone: usize = server.info("expired_keys").parse().expect("a number");
    assert_eq!((there, gone), (KEYS, 0), "keys are removed during a pause");
    operator.transcript("CLIENT UNPAUSE => +OK");
    while client.run("DBSIZE") != Reply::Integer(0) {
        assert!(start.elapsed() < PATIENCE, "expired keys stay");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(server.info("expired_keys"), KEYS.to_string());
}
