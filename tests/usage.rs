//! What is remembered of the use of keys, over a restart with a log: what the log begins with says it
//! of its keys; keys that records make or use are as if used at the start, as in Redis.

use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    check::rewrite,
    harness::{Client, Server, on_1_2_and_4_shards},
};

on_1_2_and_4_shards!(idle_times_come_back, frequencies_come_back);

/// Longer than any test takes, in seconds.
const LONG_S: i64 = 100_000;
/// How much a test may take.
const TEST_S: i64 = 1_000;

fn start(shards: usize, directory: &Path, policy: &str) -> Server {
    Server::builder(shards)
        .option("dir", directory.display())
        .option("appendonly", "yes")
        .option("appendfsync", "always")
        .option("maxmemory-policy", policy)
        .start()
}

/// Writes keys into a base and behind it, with `option` for what is known of their use, and restarts
/// with another number of shards.
fn restarted(shards: usize, policy: &str, option: [&str; 2]) -> (TempDir, Server) {
    let directory = TempDir::new().expect("a directory");
    let mut server = start(shards, directory.path(), policy);
    let mut client = server.connect();
    client.run("SET plain value");
    let payload = client.run("DUMP plain").into_bytes();
    let words = [&b"RESTORE"[..], b"in:base", b"0", &payload];
    client.call(words.into_iter().chain(option.map(str::as_bytes)));
    rewrite(&server);
    client.run("SET new value");
    server.signal(Signal::KILL);
    server.wait_for_end();
    let server = start(shards % 4 + 1, directory.path(), policy);
    (directory, server)
}

fn object(client: &mut Client, what: &str, key: &str) -> i64 {
    client.call(["OBJECT", what, key]).into_integer()
}

fn idle_times_come_back(shards: usize) {
    let (_directory, server) = restarted(shards, "allkeys-lru", ["IDLETIME", &LONG_S.to_string()]);
    let mut client = server.connect();
    let idle_s = object(&mut client, "IDLETIME", "in:base");
    assert!((LONG_S..LONG_S + TEST_S).contains(&idle_s), "{idle_s}");
    for key in ["plain", "new"] {
        let idle_s = object(&mut client, "IDLETIME", key);
        assert!((0..TEST_S).contains(&idle_s), "{key}: {idle_s}");
    }
}

fn frequencies_come_back(shards: usize) {
    let (_directory, server) = restarted(shards, "allkeys-lfu", ["FREQ", "200"]);
    let mut client = server.connect();
    let frequency = object(&mut client, "FREQ", "in:base");
    // It loses one with every minute.
    assert!((200 - TEST_S / 60..=200).contains(&frequency), "{frequency}");
    for key in ["plain", "new"] {
        let frequency = object(&mut client, "FREQ", key);
        assert!((0..20).contains(&frequency), "{key}: {frequency}");
    }
}
