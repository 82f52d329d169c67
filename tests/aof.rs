//! The append-only log: what comes back after the server was killed, after its files were damaged,
//! and on another number of shards. Crashes under load are in `crash`, full disks in `disk_full`.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Client, Reply, Server, on_1_2_and_4_shards};

on_1_2_and_4_shards!(
    everything_comes_back_after_a_kill,
    a_torn_end_is_cut_off_and_told,
    damage_before_the_durable_end_stops_the_start,
    a_saved_file_is_what_the_log_begins_with,
    a_rewrite_takes_the_place_of_the_log,
    a_log_without_records_is_rewritten,
);

/// How long a server may take to notice something.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with a log in `directory`.
fn start(shards: usize, directory: &Path, policy: &str) -> Server {
    Server::builder(shards)
        .option("dir", directory.display())
        .option("save", "\"\"")
        .option("appendonly", "yes")
        .option("appendfsync", policy)
        .start()
}

fn kill(mut server: Server) {
    server.signal(Signal::KILL);
    server.wait_for_end();
}

/// What a command answers, in an order that no table shows in.
fn answer(client: &mut Client, line: &str) -> String {
    let reply = client.run(line);
    match reply {
        Reply::Array(_) => {
            let mut items: Vec<_> =
                reply.into_items().into_iter().map(|item| format!("{item:?}")).collect();
            items.sort();
            items.join(" ")
        }
        reply => format!("{reply:?}"),
    }
}

fn everything_comes_back_after_a_kill(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path(), "always");
    let mut client = server.connect();
    for line in [
        "SET string text",
        "INCRBYFLOAT float 1.25",
        "SET dated soon EX 1000",
        "MSET a 1 b 2 c 3 d 4",
        "RENAME a renamed",
        "SADD set x y z 1 2 3",
        "SPOP set 2",
        "SUNIONSTORE union set",
        "SMOVE set other x",
        "RPUSH list a b c d e",
        "LMOVE list list2 LEFT RIGHT",
        "HSET hash f v g w",
        "HINCRBYFLOAT hash n 0.5",
        "ZADD zset 1 one 2 two 3.5 three",
        "ZPOPMIN zset",
        "XADD stream * field value",
        "SETEX brief 1 gone",
        "PFADD hll a b c",
        "SELECT 3",
        "SET elsewhere 3",
        "COPY elsewhere there DB 4",
        "SELECT 0",
        "DEL b",
        "SWAPDB 4 5",
    ] {
        let reply = client.run(line);
        assert!(!matches!(reply, Reply::Error(_)), "{line}: {reply:?}");
    }
    let questions = [
        "MGET string float dated renamed a b c d",
        "SMEMBERS set",
        "SMEMBERS union",
        "LRANGE list 0 -1",
        "LRANGE list2 0 -1",
        "HGETALL hash",
        "ZRANGE zset 0 -1 WITHSCORES",
        "XRANGE stream - +",
        "PFCOUNT hll",
        "PEXPIRETIME dated",
        "SELECT 3",
        "GET elsewhere",
        "SELECT 5",
        "GET there",
    ];
    let before = questions.map(|line| answer(&mut client, line));
    kill(server);
    // As many shards as before, and then others.
    for shards in [shards, 3, 1] {
        let server = start(shards, directory.path(), "always");
        let mut client = server.connect();
        assert_eq!(questions.map(|line| answer(&mut client, line)), before, "{shards} shards");
        assert_eq!(server.info("aof_enabled"), "1");
        assert_eq!(server.info("aof_last_write_status"), "ok");
        assert_eq!(server.info("loading"), "0");
        kill(server);
    }
}

/// Bytes from a group's beginning to somewhere in its first record, with up to four shards.
const IN_FIRST_RECORD: u64 = 132;

/// The segments in the log's directory, by name.
fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("appendonlydir")).expect("the log's directory");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    paths
}

/// Where the blocks of a file end that hold something.
fn used_bytes(path: &Path) -> u64 {
    let bytes = fs::read(path).expect("a segment");
    let last = bytes.iter().rposition(|&byte| byte != 0).unwrap_or(0);
    (last as u64 + 1).next_multiple_of(4096)
}

/// A directory with a log of some groups, and the fullest of its segments.
fn logged(shards: usize) -> (TempDir, PathBuf) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path(), "always");
    let mut client = server.connect();
    for n in 0..50 {
        // All in one log, so that its last group is the last of all.
        assert_eq!(client.run(&format!("SET {{k}}:{n} value:{n}")), Reply::ok());
    }
    kill(server);
    let fullest = segments(directory.path()).into_iter().max_by_key(|path| used_bytes(path));
    (directory, fullest.expect("a segment"))
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("the segment");
    file.write_all_at(bytes, offset).expect("it can be written");
}

fn a_torn_end_is_cut_off_and_told(shards: usize) {
    let (directory, segment) = logged(shards);
    // The last group, one block with one record, has lost a part of it, as if it had been on its way.
    let end = used_bytes(&segment);
    overwrite(&segment, end - 4096 + IN_FIRST_RECORD, &[0; 20]);
    let refused = Server::builder(shards)
        .option("dir", directory.path().display())
        .option("save", "\"\"")
        .option("appendonly", "yes")
        .option("aof-load-truncated", "no")
        .start_refused();
    assert!(refused.1.contains("aof-load-truncated"), "{}", refused.1);
    let server = start(shards, directory.path(), "always");
    let name = segment.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(server.log().contains(&name), "the log names the file: {}", server.log());
    let mut client = server.connect();
    let keys = client.run("DBSIZE").into_integer();
    assert!((1..50).contains(&keys), "{keys} keys");
    assert_eq!(client.run("SET after the"), Reply::ok());
    kill(server);
    // What was cut off stays away.
    let server = start(shards, directory.path(), "always");
    assert_eq!(server.connect().run("DBSIZE").into_integer(), keys + 1);
}

fn damage_before_the_durable_end_stops_the_start(shards: usize) {
    let (directory, segment) = logged(shards);
    // The first block is the segment's header, the second the first group.
    overwrite(&segment, 4096 + IN_FIRST_RECORD, b"!");
    let (status, text) = Server::builder(shards)
        .option("dir", directory.path().display())
        .option("save", "\"\"")
        .option("appendonly", "yes")
        .start_refused();
    assert!(!status.success());
    let name = segment.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(text.contains(&name) && text.contains("at byte"), "{text}");
}

fn a_saved_file_is_what_the_log_begins_with(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = Server::builder(shards).option("dir", directory.path().display()).start();
    let mut client = server.connect();
    for n in 0..200 {
        assert_eq!(client.run(&format!("SET key:{n} saved")), Reply::ok());
    }
    assert_eq!(client.run("SAVE"), Reply::ok());
    kill(server);
    let server = start(shards, directory.path(), "always");
    let mut client = server.connect();
    assert_eq!(client.run("GET key:7"), Reply::bulk("saved"));
    assert_eq!(client.run("SET key:7 logged"), Reply::ok());
    assert_eq!(client.run("RENAME key:8 renamed"), Reply::ok());
    // A later save replaces the file, and not what the log begins with.
    assert_eq!(client.run("DEL key:9"), Reply::Integer(1));
    assert_eq!(client.run("SAVE"), Reply::ok());
    kill(server);
    for shards in [shards, 3] {
        let server = start(shards, directory.path(), "always");
        let mut client = server.connect();
        assert_eq!(client.run("DBSIZE").into_integer(), 199);
        assert_eq!(client.run("GET key:7"), Reply::bulk("logged"));
        assert_eq!(client.run("GET renamed"), Reply::bulk("saved"));
        kill(server);
    }
}

/// Most shards have written nothing: they have no segment yet.
fn a_log_without_records_is_rewritten(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path(), "always");
    let mut client = server.connect();
    for (rewrites, line) in [("1", "SET a 1"), ("2", "SET b 2")] {
        client.run(line);
        client.run("BGREWRITEAOF");
        let deadline = Instant::now() + PATIENCE;
        while server.info("aof_rewrites") != rewrites {
            assert!(Instant::now() < deadline, "the log is not rewritten");
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(server.info("aof_last_bgrewrite_status"), "ok");
    }
    client.run("SET c 3");
    kill(server);
    let server = start(shards, directory.path(), "always");
    assert_eq!(server.connect().run("EXISTS a b c"), Reply::Integer(3));
}

fn a_rewrite_takes_the_place_of_the_log(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    kill(start(2, directory.path(), "always"));
    let server = start(shards, directory.path(), "everysec");
    let mut client = server.connect();
    let long = "x".repeat(1000);
    for n in 0..5_000 {
        client.push(["SET", &format!("key:{}", n % 50), &format!("{long}{n}")]);
    }
    client.flush();
    client.receive_all(5_000);
    client.run("RPUSH list a b c");
    let started = Reply::Simple("Background append only file rewriting started".into());
    assert_eq!(client.run("BGREWRITEAOF"), started);
    client.run("LPOP list");
    let deadline = Instant::now() + PATIENCE;
    while server.info("aof_rewrites") != "1" {
        assert!(Instant::now() < deadline, "the log is not rewritten");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.info("aof_last_bgrewrite_status"), "ok");
    let size: u64 = server.info("aof_current_size").parse().expect("a number");
    assert!(size < 1 << 20, "{size} bytes are left");
    client.run("RPUSH list d");
    let mut server = server;
    server.signal(Signal::TERM);
    server.wait_for_end();
    for shards in [shards, 3] {
        let server = start(shards, directory.path(), "always");
        let mut client = server.connect();
        assert_eq!(client.run("DBSIZE").into_integer(), 51);
        assert_eq!(client.run("GET key:49"), Reply::bulk(format!("{long}4999")));
        let list = client.run("LRANGE list 0 -1").into_items();
        assert_eq!(list, ["b", "c", "d"].map(Reply::bulk));
        kill(server);
    }
}
