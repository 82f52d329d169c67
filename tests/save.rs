//! SAVE and BGSAVE: the files are whole, of one instant, and redis-server loads them.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::harness::{Client, Reply, Server, ServerKind, find_program, on_1_2_and_4_shards, skip};

on_1_2_and_4_shards!(
    a_saved_file_holds_all_keys,
    transfers_are_never_half_in_a_file,
    a_save_cut_short_leaves_the_old_file,
    a_save_that_fails_is_told_and_leaves_nothing,
    one_save_at_a_time,
    another_number_of_shards_loads_the_file,
    an_end_during_a_save_leaves_no_half_file,
    a_slow_save_holds_up_only_what_it_would_have_to_preserve,
);

/// How long a save may take here.
const SAVE_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until no save is under way.
#[track_caller]
fn wait_for_save(server: &Server) {
    let deadline = Instant::now() + SAVE_TIMEOUT;
    while server.info("rdb_bgsave_in_progress") != "0" {
        assert!(Instant::now() < deadline, "the save does not end");
        thread::sleep(Duration::from_millis(10));
    }
}

#[track_caller]
fn save_in_background(server: &Server) {
    let started = Reply::Simple("Background saving started".into());
    assert_eq!(server.connect().run("BGSAVE"), started);
    wait_for_save(server);
    assert_eq!(server.info("rdb_last_bgsave_status"), "ok");
}

/// A redis-server that has loaded the file in `directory`; nothing if there is none installed.
fn loaded_by_redis(directory: &Path) -> Option<Server> {
    let Some(program) = find_program("redis-server") else {
        skip("redis-server is not installed (./tests/run installs it, with apt as root)");
        return None;
    };
    let copy = directory.join("loaded");
    fs::create_dir_all(&copy).expect("a directory");
    fs::copy(directory.join("dump.rdb"), copy.join("dump.rdb")).expect("the file is there");
    Some(Server::redis_in(&program, &copy))
}

/// All keys of a database with type, deadline and content, in a form that no order of tables shows in.
fn contents(client: &mut Client, database: usize) -> BTreeMap<String, String> {
    assert_eq!(client.run(&format!("SELECT {database}")), Reply::ok());
    let keys = client.run("KEYS *").into_items();
    keys.into_iter()
        .map(|key| {
            let key = key.into_text();
            let Reply::Simple(kind) = client.run(&format!("TYPE {key}")) else { panic!("a type") };
            let deadline = client.run(&format!("PEXPIRETIME {key}")).into_integer();
            let (command, pairs) = match kind.as_str() {
                "string" => (format!("GET {key}"), 0),
                "list" => (format!("LRANGE {key} 0 -1"), 0),
                "set" => (format!("SMEMBERS {key}"), 1),
                "hash" => (format!("HGETALL {key}"), 2),
                "zset" => (format!("ZRANGE {key} 0 -1 WITHSCORES"), 0),
                other => panic!("{key} is a {other}"),
            };
            let content = match (client.run(&command), pairs) {
                (reply, 0) => format!("{reply:?}"),
                (reply, size) => {
                    let items = reply.into_items();
                    let mut parts: Vec<_> =
                        items.chunks(size).map(|part| format!("{part:?}")).collect();
                    parts.sort_unstable();
                    parts.join(" ")
                }
            };
            (key, format!("{kind} {deadline} {content}"))
        })
        .collect()
}

/// Keys of every type, small and large, in two databases.
fn fill(client: &mut Client) {
    for database in [0, 3] {
        client.run(&format!("SELECT {database}"));
        for n in 0..500 {
            client.push(["SET", &format!("string:{n}"), &"text ".repeat(n % 70)]);
            client.push(["SET", &format!("int:{n}"), &format!("{}", n * n * 7919)]);
            client.push(["PEXPIRE", &format!("string:{}", n / 2), "100000000"]);
            client.push(["HSET", &format!("hash:{}", n % 9), &format!("f{n}"), "value"]);
            client.push(["ZADD", &format!("zset:{}", n % 9), &format!("{n}.5"), &format!("m{n}")]);
            client.push(["SADD", &format!("set:{}", n % 9), &format!("{}", n * 3)]);
            client.push(["RPUSH", &format!("list:{}", n % 9), &format!("element {n}")]);
        }
        client.flush();
        client.receive_all(500 * 7);
        for n in (0..60_000).step_by(100) {
            let fields = (n..n + 100).flat_map(|n| [format!("field:{n}"), format!("value:{n}")]);
            client.push(["HSET".to_owned(), "large".to_owned()].into_iter().chain(fields));
        }
        client.push(["SET".to_owned(), "long".to_owned(), "long value ".repeat(100_000)]);
        client.flush();
        client.receive_all(601);
    }
}

fn a_saved_file_holds_all_keys(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    fill(&mut client);
    for command in ["BGSAVE", "SAVE"] {
        client.run(&format!("SET saved-by {command}"));
        match command {
            "SAVE" => assert_eq!(client.run("SAVE"), Reply::ok()),
            _ => save_in_background(&server),
        }
        let Some(redis) = loaded_by_redis(server.directory()) else { return };
        let mut other = redis.connect();
        for database in [0, 3] {
            assert_eq!(contents(&mut client, database), contents(&mut other, database));
        }
    }
    assert_eq!(server.info("rdb_saves"), "2");
    let age = client.run("TIME").into_items()[0].clone().into_text().parse::<i64>().unwrap()
        - client.run("LASTSAVE").into_integer();
    assert!((0..60).contains(&age), "{age}");
    assert_eq!(fs::read_dir(server.directory()).unwrap().filter(is_temporary).count(), 0);
}

fn is_temporary(entry: &std::io::Result<fs::DirEntry>) -> bool {
    entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("temp-"))
}

const ACCOUNTS: usize = 2_000;
const BALANCE: i64 = 1_000;

/// Moves money between accounts until told to stop; each transfer is one MSET over two accounts that
/// nobody else uses.
fn transfer(server: &Server, teller: usize, tellers: usize, stop: &AtomicBool) {
    let mut client = server.connect();
    let own: Vec<usize> = (teller..ACCOUNTS).step_by(tellers).collect();
    let mut balances = vec![BALANCE; own.len()];
    let mut step = teller;
    while !stop.load(Ordering::Relaxed) {
        let mut sent = 0;
        for _ in 0..20 {
            step = step
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let (from, to) = ((step >> 33) % own.len(), (step >> 13) % own.len());
            if from == to {
                continue;
            }
            balances[from] -= 7;
            balances[to] += 7;
            let account = |at: usize| format!("account:{}", own[at]);
            let balance = |at: usize| format!("{:020}", balances[at]);
            client.push(["MSET", &account(from), &balance(from), &account(to), &balance(to)]);
            sent += 1;
        }
        client.flush();
        assert!(client.receive_all(sent).iter().all(|reply| *reply == Reply::ok()));
    }
}

fn transfers_are_never_half_in_a_file(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for account in 0..ACCOUNTS {
        client.push(["SET", &format!("account:{account}"), &format!("{BALANCE:020}")]);
    }
    for n in 0..30_000 {
        client.push(["SET", &format!("ballast:{n}"), "so that the save takes a while"]);
    }
    client.flush();
    client.receive_all(ACCOUNTS + 30_000);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for teller in 0..3 {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || transfer(server, teller, 3, stop));
        }
        let mut preserved = 0;
        for _ in 0..3 {
            save_in_background(&server);
            preserved += server.info("rdb_last_cow_size").parse::<u64>().unwrap();
            let Some(redis) = loaded_by_redis(server.directory()) else { break };
            let mut other = redis.connect();
            assert_eq!(money(&mut other), BALANCE * ACCOUNTS as i64);
            assert_eq!(other.run("DBSIZE").into_integer(), ACCOUNTS as i64 + 30_000);
        }
        stop.store(true, Ordering::Relaxed);
        assert!(preserved > 0, "the saves were over before anything was written");
    });
}

/// The money on all accounts of a server.
fn money(client: &mut Client) -> i64 {
    let names = (0..ACCOUNTS).map(|account| format!("account:{account}"));
    let accounts = client.call(["MGET".to_owned()].into_iter().chain(names)).into_items();
    let balance = |reply: Reply| reply.into_text().parse::<i64>().expect("a balance");
    accounts.into_iter().map(balance).sum()
}

#[test]
fn half_a_transfer_in_a_file_is_found() {
    let server = Server::start(2);
    let mut client = server.connect();
    for account in 0..ACCOUNTS {
        client.push(["SET", &format!("account:{account}"), &format!("{BALANCE:020}")]);
    }
    // What a cut that is none would let through: one account without the other.
    client.push(["SET", "account:5", &format!("{:020}", BALANCE - 7)]);
    client.push(["SAVE"]);
    client.flush();
    client.receive_all(ACCOUNTS + 2);
    let Some(redis) = loaded_by_redis(server.directory()) else { return };
    assert_ne!(money(&mut redis.connect()), BALANCE * ACCOUNTS as i64);
}

fn a_save_cut_short_leaves_the_old_file(shards: usize) {
    let mut server = Server::start(shards);
    let mut client = server.connect();
    for n in 0..50_000 {
        client.push(["SET", &format!("key:{n}"), &format!("{n:0100}")]);
    }
    client.flush();
    client.receive_all(50_000);
    assert_eq!(client.run("SAVE"), Reply::ok());
    let file = server.directory().join("dump.rdb");
    let before = fs::read(&file).expect("the file is there");
    client.run("SET another key");
    assert_eq!(client.run("BGSAVE SCHEDULE"), Reply::Simple("Background saving started".into()));
    server.signal(Signal::KILL);
    server.wait_for_end();
    assert!(fs::read(&file).expect("a file is there") == before, "the old file has changed");
}

fn a_save_that_fails_is_told_and_leaves_nothing(shards: usize) {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let gone = parent.path().join("gone");
    fs::create_dir(&gone).expect("a directory");
    let server =
        Server::builder(shards).option("dir", gone.display()).option("save", "100000 1").start();
    let mut client = server.connect();
    for n in 0..5_000 {
        client.push(["SET", &format!("key:{n}"), "value"]);
    }
    client.flush();
    client.receive_all(5_000);
    fs::remove_dir(&gone).expect("it is empty");
    client.run("BGSAVE");
    wait_for_save(&server);
    assert_eq!(server.info("rdb_last_bgsave_status"), "err");
    assert!(server.log().contains("Background saving error"));
    for command in ["SET key:1 x", "PING", "MSET a 1 b 2", "DEL key:1"] {
        let reply = client.run(command);
        assert!(matches!(&reply, Reply::Error(text) if text.starts_with("MISCONF ")), "{reply:?}");
    }
    assert_eq!(client.run("GET key:1"), Reply::bulk("value"));
    assert_eq!(client.run("SAVE"), Reply::Error("ERR".into()));
    assert_eq!(client.run("CONFIG SET stop-writes-on-bgsave-error no"), Reply::ok());
    assert_eq!(client.run("SET key:1 x"), Reply::ok());
    assert_eq!(client.run("CONFIG SET stop-writes-on-bgsave-error yes"), Reply::ok());
    fs::create_dir(&gone).expect("a directory");
    save_in_background(&server);
    assert_eq!(client.run("SET key:1 y"), Reply::ok());
    assert_eq!(fs::read_dir(&gone).expect("the directory").filter(is_temporary).count(), 0);
}

fn one_save_at_a_time(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.push(["BGSAVE"]);
    client.push(["BGSAVE"]);
    client.push(["SAVE"]);
    client.flush();
    let busy = Reply::Error("ERR Background save already in progress".into());
    let started = Reply::Simple("Background saving started".into());
    assert_eq!(client.receive_all(3), [started, busy.clone(), busy]);
    wait_for_save(&server);
    assert_eq!(client.run("BGSAVE LATER"), Reply::Error("ERR syntax error".into()));
    client.push(["SAVE"]);
    client.push(["SET", "k", "v"]);
    client.push(["GET", "k"]);
    client.flush();
    assert_eq!(client.receive_all(3), [Reply::ok(), Reply::ok(), Reply::bulk("v")]);
}

/// Turns that all workers have made so far.
fn turns(client: &mut Client) -> u64 {
    let info = client.run("INFO stats").into_text();
    let line = info.lines().find_map(|line| line.strip_prefix("eventloop_cycles:"));
    line.expect("a count").parse().expect("a number")
}

/// A worker whose shard is lent cannot go on with the save, and must not ask all the time whether it
/// can: that takes the processor from whoever has the shard.
#[test]
fn workers_whose_shards_are_lent_rest_during_a_save() {
    let server = Server::start(4);
    let mut client = server.connect();
    let fill = "for i = 1, 60000 do redis.call('SET', 'key:' .. i, i) end";
    assert!(client.call(["EVAL", fill, "0"]).is_null());
    let (before, start) = (turns(&mut client), Instant::now());
    let read_all = "for i = 1, 150000 do redis.call('GET', 'key:' .. i) end";
    client.push(["BGSAVE"]);
    client.push(["EVAL", read_all, "4", "key:1", "key:2", "key:3", "key:4"]);
    client.push(["INFO", "persistence"]);
    client.flush();
    let answers = client.receive_all(3);
    let info = answers[2].clone().into_text();
    assert!(info.contains("rdb_bgsave_in_progress:1"), "the save was over before: {info}");
    // Slower machines make fewer turns. Without rest it is a thousand in a millisecond.
    let (made, took) = (turns(&mut client) - before, start.elapsed());
    assert!(u128::from(made) < 40 * took.as_millis().max(50), "{made} turns in {took:?}");
}

fn another_number_of_shards_loads_the_file(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    fill(&mut client);
    assert_eq!(client.run("SAVE"), Reply::ok());
    let copy = server.directory().join("loaded");
    fs::create_dir(&copy).expect("a directory");
    fs::copy(server.directory().join("dump.rdb"), copy.join("dump.rdb")).expect("the file");
    let other = Server::builder(5 - shards).option("dir", copy.display()).start();
    for database in [0, 3] {
        let (own, loaded) =
            (contents(&mut client, database), contents(&mut other.connect(), database));
        assert_eq!(own, loaded);
    }
}

fn an_end_during_a_save_leaves_no_half_file(shards: usize) {
    let mut server = Server::start(shards);
    let mut client = server.connect();
    for n in 0..30_000 {
        client.push(["SET", &format!("key:{n}"), &format!("{n:0100}")]);
    }
    client.push(["BGSAVE"]);
    client.push(["SHUTDOWN", "NOSAVE"]);
    client.flush();
    client.receive_all(30_001);
    assert!(server.wait_for_end().success());
    assert_eq!(
        fs::read_dir(server.directory()).expect("the directory").filter(is_temporary).count(),
        0
    );
}

#[test]
fn a_save_point_that_is_reached_saves() {
    for shards in [1, 3] {
        let server = Server::builder(shards).option("save", "1 20").start();
        if !ServerKind::under_test().is_tessera() && shards > 1 {
            return;
        }
        let mut client = server.connect();
        for n in 0..30 {
            client.run(&format!("SET key:{n} value"));
        }
        let deadline = Instant::now() + SAVE_TIMEOUT;
        while server.info("rdb_saves") == "0" {
            assert!(Instant::now() < deadline, "nothing is saved");
            thread::sleep(Duration::from_millis(50));
        }
        assert!(server.directory().join("dump.rdb").exists());
        assert_eq!(server.info("rdb_changes_since_last_save"), "0");
    }
}

/// A save whose disk is slow is told to be so by a time for each key. What commands have to preserve
/// meanwhile is bounded: those that would add to it wait, and no others.
fn a_slow_save_holds_up_only_what_it_would_have_to_preserve(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let value = "x".repeat(20_000);
    for n in 0..400 * shards {
        client.push(["SET", &format!("key:{n}"), &value]);
    }
    client.flush();
    client.receive_all(400 * shards);
    assert_eq!(client.run("CONFIG SET rdb-key-save-delay 1000000"), Reply::ok());
    assert_eq!(client.run("BGSAVE"), Reply::Simple("Background saving started".into()));
    // Whoever overwrites everything exhausts the budget of a shard, and waits.
    let mut writer = server.connect();
    for n in 0..400 * shards {
        writer.push(["SET", &format!("key:{n}"), "short"]);
    }
    writer.flush();
    let deadline = Instant::now() + SAVE_TIMEOUT;
    while server.info("rdb_write_stalls") == "0" || server.info("blocked_clients") == "0" {
        assert!(Instant::now() < deadline, "nobody waits");
        thread::sleep(Duration::from_millis(5));
    }
    let preserved: usize = server.info("current_cow_size").parse().expect("a number");
    assert!(preserved < (8 << 20) * shards, "{preserved} bytes are preserved");
    // Reads go on; and with a single shard, where it is known what is captured, so do writes to keys
    // that are new, or preserved already.
    assert_eq!(client.run("STRLEN key:1"), Reply::Integer(5));
    if shards == 1 {
        assert_eq!(client.run("SET new key"), Reply::ok());
        assert_eq!(client.run("APPEND key:0 er"), Reply::Integer(7));
    }
    assert_eq!(client.run("CONFIG SET rdb-key-save-delay 0"), Reply::ok());
    assert!(writer.receive_all(400 * shards).iter().all(|reply| *reply == Reply::ok()));
    wait_for_save(&server);
    let Some(redis) = loaded_by_redis(server.directory()) else { return };
    let mut other = redis.connect();
    assert_eq!(other.run("DBSIZE").into_integer(), 400 * shards as i64);
    assert_eq!(other.run("STRLEN key:0"), Reply::Integer(20_000));
}
