//! The log while the server runs: turned on and off, its policy changed, waited for; and what is in it
//! besides keys.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Client, Reply, Server, on_1_2_and_4_shards};

on_1_2_and_4_shards!(
    a_log_that_is_turned_on_holds_what_was_there_and_what_comes,
    a_log_that_is_turned_off_ends_whole,
    a_log_is_turned_on_and_off_under_load,
    a_log_that_cannot_be_turned_on_stays_off,
    a_log_that_is_turned_on_during_a_save_begins_behind_it,
    the_policy_changes_under_load,
    libraries_come_back_with_the_log,
    libraries_of_a_saved_file_stay_in_the_log,
    libraries_change_within_transactions,
    a_reload_is_in_the_log,
    waitaof_waits_for_the_log,
    waits_end_as_in_redis,
    waiting_commands_answer_at_once_where_they_may_not_wait,
    a_save_waits_behind_a_rewrite,
    workers_with_nothing_to_log_sleep_on,
);

/// How long a server may take to notice something.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn start(shards: usize, directory: &Path, appendonly: &str, policy: &str) -> Server {
    Server::builder(shards)
        .option("dir", directory.display())
        .option("save", "\"\"")
        .option("appendonly", appendonly)
        .option("appendfsync", policy)
        .option("enable-debug-command", "yes")
        .start()
}

pub(crate) fn kill(mut server: Server) {
    server.signal(Signal::KILL);
    server.wait_for_end();
}

#[track_caller]
fn await_info(server: &Server, field: &str, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    while server.info(field) != wanted {
        assert!(Instant::now() < deadline, "{field} is {}, not {wanted}", server.info(field));
        thread::sleep(Duration::from_millis(5));
    }
}

/// Turns the log on, and waits until everything is in it.
#[track_caller]
pub(crate) fn turn_on(server: &Server) {
    assert_eq!(server.connect().run("CONFIG SET appendonly yes"), Reply::ok());
    assert_eq!(server.info("aof_enabled"), "1");
    await_info(server, "aof_rewrite_in_progress", "0");
    assert_eq!(server.info("aof_last_bgrewrite_status"), "ok");
}

#[track_caller]
pub(crate) fn turn_off(server: &Server) {
    assert_eq!(server.connect().run("CONFIG SET appendonly no"), Reply::ok());
    assert_eq!(server.info("aof_enabled"), "0");
}

/// Keys on all shards.
fn fill(client: &mut Client, name: &str, count: usize) {
    for n in 0..count {
        client.push(["SET", &format!("{name}:{n}"), name]);
    }
    client.flush();
    client.receive_all(count);
}

fn a_log_that_is_turned_on_holds_what_was_there_and_what_comes(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path(), "no", "always");
    let mut client = server.connect();
    fill(&mut client, "before", 300);
    client.run("PEXPIRE before:0 100000000");
    turn_on(&server);
    fill(&mut client, "after", 300);
    client.run("DEL before:7 after:7");
    kill(server);
    for shards in [shards, 3] {
        let server = start(shards, directory.path(), "yes", "always");
        let mut client = server.connect();
        assert_eq!(client.run("DBSIZE"), Reply::Integer(598));
        assert_eq!(client.run("GET before:1"), Reply::bulk("before"));
        assert!(client.run("PTTL before:0").into_integer() > 0);
        kill(server);
    }
}

fn a_log_that_is_turned_off_ends_whole(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path(), "yes", "no");
    let mut client = server.connect();
    fill(&mut client, "logged", 100);
    turn_off(&server);
    let size: Vec<_> = fs::read_dir(directory.path().join("appendonlydir")).unwrap().collect();
    fill(&mut client, "unlogged", 100);
    assert!(matches!(client.run("BGREWRITEAOF"), Reply::Error(_)));
    let now: Vec<_> = fs::read_dir(directory.path().join("appendonlydir")).unwrap().collect();
    assert_eq!(now.len(), size.len(), "the log is still written to");
    kill(server);
    let server = start(shards, directory.path(), "yes", "always");
    let mut client = server.connect();
    assert_eq!(client.run("DBSIZE"), Reply::Integer(100));
    // Turned off and on again, it begins anew.
    turn_off(&server);
    fill(&mut client, "more", 50);
    turn_on(&server);
    fill(&mut client, "most", 50);
    kill(server);
    let server = start(shards, directory.path(), "yes", "always");
    assert_eq!(server.connect().run("DBSIZE"), Reply::Integer(200));
}

/// Adds one to two counters on different shards at once until told to stop; answers how often that
/// was acknowledged.
fn count(mut client: Client, name: usize, stop: &AtomicBool) -> i64 {
    let mut count = 0;
    while !stop.load(SeqCst) {
        let next = (count + 1).to_string();
        let pair = ["MSET", &format!("left:{name}"), &next, &format!("right:{name}"), &next];
        assert_eq!(client.call(pair), Reply::ok());
        count += 1;
    }
    count
}

/// Runs `change` while clients write.
fn under_load(server: &Server, change: impl FnOnce()) -> Vec<i64> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let counters: Vec<_> = (0..3)
            .map(|name| {
                let (client, stop) = (server.connect(), &stop);
                scope.spawn(move || count(client, name, stop))
            })
            .collect();
        change();
        stop.store(true, SeqCst);
        counters.into_iter().map(|counter| counter.join().expect("it ends")).collect()
    })
}

#[track_caller]
fn assert_counted(server: &Server, counted: &[i64]) {
    let mut client = server.connect();
    for (name, count) in counted.iter().enumerate() {
        for side in ["left", "right"] {
            let found = client.run(&format!("GET {side}:{name}"));
            assert_eq!(found, Reply::bulk(count.to_string()), "{side}:{name}");
        }
    }
}

fn a_log_is_turned_on_and_off_under_load(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path(), "no", "always");
    let counted = under_load(&server, || {
        for _ in 0..3 {
            turn_on(&server);
            turn_off(&server);
        }
        turn_on(&server);
    });
    kill(server);
    let server = start(shards, directory.path(), "yes", "always");
    assert_counted(&server, &counted);
}

fn a_log_that_cannot_be_turned_on_stays_off(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("appendonlydir"), "a file in the way").expect("a file");
    let server = start(shards, directory.path(), "no", "always");
    let mut client = server.connect();
    let refused = Reply::Error(
        "ERR CONFIG SET failed (possibly related to argument 'appendonly') - Unable to turn on AOF. \
         Check server logs."
            .into(),
    );
    assert_eq!(client.run("CONFIG SET appendonly yes"), refused);
    assert_eq!(server.info("aof_enabled"), "0");
    assert_eq!(client.run("CONFIG GET appendonly").into_items()[1], Reply::bulk("no"));
    assert_eq!(client.run("SET k v"), Reply::ok());
    fs::remove_file(directory.path().join("appendonlydir")).expect("it is there");
    turn_on(&server);
    kill(server);
    let server = start(shards, directory.path(), "yes", "always");
    assert_eq!(server.connect().run("GET k"), Reply::bulk("v"));
}

/// Keys that make a save last.
fn fill_for_long(client: &mut Client) {
    let value = "long ".repeat(100);
    for n in 0..40_000 {
        client.push(["SET", &format!("ballast:{n}"), &value]);
    }
    client.flush();
    client.receive_all(40_000);
}

fn a_log_that_is_turned_on_during_a_save_begins_behind_it(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path(), "no", "everysec");
    let mut client = server.connect();
    fill_for_long(&mut client);
    // In one go, so that the save is still under way.
    for line in ["BGSAVE", "CONFIG SET appendonly yes", "SET k v", "WAITAOF 1 0 60000"] {
        client.push(line.split(' '));
    }
    client.flush();
    assert_eq!(client.receive(), Reply::Simple("Background saving started".into()));
    assert_eq!(client.receive(), Reply::ok());
    assert_eq!(client.receive(), Reply::ok());
    // Only what is in the log with all that was before is as good as there.
    assert_eq!(client.receive(), Reply::Array(vec![Reply::Integer(1), Reply::Integer(0)]));
    assert_eq!(server.info("aof_rewrites"), "1");
    kill(server);
    let server = start(shards, directory.path(), "yes", "everysec");
    let mut client = server.connect();
    assert_eq!(client.run("GET k"), Reply::bulk("v"));
    assert_eq!(client.run("DBSIZE"), Reply::Integer(40_001));
}

fn the_policy_changes_under_load(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path(), "yes", "everysec");
    let counted = under_load(&server, || {
        let mut client = server.connect();
        for policy in ["no", "everysec", "always", "no", "always", "everysec", "always"] {
            assert_eq!(client.run(&format!("CONFIG SET appendfsync {policy}")), Reply::ok());
            thread::sleep(Duration::from_millis(50));
        }
    });
    // Nothing is written any more, and yet what was written under other policies must become durable.
    let mut client = server.connect();
    for policy in ["no", "always"] {
        assert_eq!(client.run(&format!("CONFIG SET appendfsync {policy}")), Reply::ok());
        assert_eq!(client.run("SET last word"), Reply::ok());
    }
    assert_eq!(client.run("CONFIG SET appendfsync no"), Reply::ok());
    assert_eq!(client.run("SET unsynced word"), Reply::ok());
    assert_eq!(client.run("CONFIG SET appendfsync always"), Reply::ok());
    assert_eq!(client.run("GET unsynced"), Reply::bulk("word"));
    kill(server);
    let server = start(shards, directory.path(), "yes", "always");
    assert_counted(&server, &counted);
    assert_eq!(server.connect().run("EXISTS last unsynced"), Reply::Integer(2));
}

/// A library with one function, which answers `answer`.
fn library(name: &str, answer: &str) -> String {
    format!(
        "#!lua name={name}\nredis.register_function('{name}', function(keys) \
         redis.call('SET', keys[1], '{answer}') return '{answer}' end)"
    )
}

fn load(client: &mut Client, name: &str, answer: &str) {
    let code = library(name, answer);
    assert_eq!(client.call(["FUNCTION", "LOAD", "REPLACE", &code]), Reply::bulk(name));
}

fn call(client: &mut Client, function: &str) -> Reply {
    client.run(&format!("FCALL {function} 1 key:{function}"))
}

#[track_caller]
fn await_rewrite(server: &Server) {
    let before: u64 = server.info("aof_rewrites").parse().expect("a number");
    let started = Reply::Simple("Background append only file rewriting started".into());
    assert_eq!(server.connect().run("BGREWRITEAOF"), started);
    await_info(server, "aof_rewrites", &(before + 1).to_string());
}

fn libraries_come_back_with_the_log(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path(), "yes", "always");
    let mut client = server.connect();
    for (name, answer) in [("gone", "1"), ("kept", "1"), ("replaced", "old"), ("replaced", "new")] {
        load(&mut client, name, answer);
    }
    assert_eq!(client.run("FUNCTION DELETE gone"), Reply::ok());
    let dumped = client.run("FUNCTION DUMP").into_bytes();
    assert_eq!(client.run("FUNCTION FLUSH"), Reply::ok());
    load(&mut client, "own", "own");
    assert_eq!(client.call([&b"FUNCTION"[..], b"RESTORE", &dumped]), Reply::ok());
    kill(server);
    let mut server = start(shards, directory.path(), "yes", "always");
    for (round, shards) in [shards, 3, shards].into_iter().enumerate() {
        let mut client = server.connect();
        assert!(matches!(call(&mut client, "gone"), Reply::Error(_)));
        for (name, answer) in [("kept", "1"), ("replaced", "new"), ("own", "own")] {
            assert_eq!(call(&mut client, name), Reply::bulk(answer), "round {round}");
        }
        if round == 1 {
            await_rewrite(&server);
        }
        load(&mut client, "later", "later");
        kill(server);
        server = start(shards, directory.path(), "yes", "always");
        assert_eq!(call(&mut server.connect(), "later"), Reply::bulk("later"));
    }
}

fn libraries_of_a_saved_file_stay_in_the_log(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path(), "no", "always");
    let mut client = server.connect();
    load(&mut client, "saved", "1");
    assert_eq!(client.run("SAVE"), Reply::ok());
    kill(server);
    // The file is what the log begins with.
    let server = start(shards, directory.path(), "yes", "always");
    let mut client = server.connect();
    assert_eq!(call(&mut client, "saved"), Reply::bulk("1"));
    assert_eq!(client.run("DEBUG RELOAD"), Reply::ok());
    assert_eq!(call(&mut client, "saved"), Reply::bulk("1"));
    kill(server);
    let server = start(shards, directory.path(), "yes", "always");
    assert_eq!(call(&mut server.connect(), "saved"), Reply::bulk("1"));
}

fn libraries_change_within_transactions(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path(), "yes", "always");
    let mut client = server.connect();
    client.run("MULTI");
    client.call(["FUNCTION", "LOAD", &library("inside", "1")]);
    client.run("FCALL inside 1 key:inside");
    client.run("SET other 2");
    let replies = client.run("EXEC").into_items();
    assert_eq!(replies, [Reply::bulk("inside"), Reply::bulk("1"), Reply::ok()]);
    kill(server);
    let server = start(shards, directory.path(), "yes", "always");
    let mut client = server.connect();
    assert_eq!(client.run("MGET key:inside other").into_items(), ["1", "2"].map(Reply::bulk));
    assert_eq!(call(&mut client, "inside"), Reply::bulk("1"));
}

fn a_reload_is_in_the_log(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path(), "yes", "always");
    let mut client = server.connect();
    fill(&mut client, "saved", 20);
    assert_eq!(client.run("SAVE"), Reply::ok());
    fill(&mut client, "unsaved", 20);
    client.run("RPUSH saved2 x");
    // What was not saved is gone.
    assert_eq!(client.run("DEBUG RELOAD NOSAVE"), Reply::ok());
    assert_eq!(client.run("SET saved2 string"), Reply::ok());
    assert_eq!(client.run("APPEND unsaved:3 x"), Reply::Integer(1));
    kill(server);
    let server = start(shards, directory.path(), "yes", "always");
    let mut client = server.connect();
    assert_eq!(client.run("DBSIZE"), Reply::Integer(22));
    assert_eq!(client.run("GET unsaved:3"), Reply::bulk("x"));
}

fn logged(is_logged: bool) -> Reply {
    Reply::Array(vec![Reply::Integer(is_logged.into()), Reply::Integer(0)])
}

fn waitaof_waits_for_the_log(shards: usize) {
    for policy in ["always", "everysec", "no"] {
        let directory = TempDir::new().expect("a directory");
        let server = start(shards, directory.path(), "yes", policy);
        let mut client = server.connect();
        assert_eq!(client.run("WAITAOF 1 0 0"), logged(true), "nothing was written");
        for n in 0..10 {
            client.push(["MSET", &format!("a:{n}"), "1", &format!("b:{n}"), "1"]);
            client.push(["WAITAOF", "1", "0", "0"]);
        }
        client.flush();
        for _ in 0..10 {
            assert_eq!(client.receive(), Reply::ok());
            assert_eq!(client.receive(), logged(true));
        }
        kill(server);
        let server = start(shards, directory.path(), "yes", policy);
        assert_eq!(server.connect().run("DBSIZE"), Reply::Integer(20), "{policy}");
    }
}

fn waits_end_as_in_redis(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path(), "no", "everysec");
    let mut client = server.connect();
    let off = Reply::Error(
        "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.".into(),
    );
    for (line, reply) in [
        ("WAIT 0 0", Reply::Integer(0)),
        ("WAIT -1 0", Reply::Integer(0)),
        ("WAIT 1 1", Reply::Integer(0)),
        ("WAITAOF 0 0 0", logged(false)),
        ("WAITAOF 0 1 1", logged(false)),
        ("WAITAOF 1 0 0", off.clone()),
        (
            "WAITAOF 2 0 0",
            Reply::Error("ERR value is out of range, value must between 0 and 1".into()),
        ),
        ("WAIT 1 -5", Reply::Error("ERR timeout is negative".into())),
    ] {
        assert_eq!(client.run(line), reply, "{line}");
    }
    // CLIENT UNBLOCK ends both.
    let mut waiting = server.connect();
    let id = waiting.run("CLIENT ID").into_integer();
    for (line, how, reply) in [
        ("WAIT 1 0", "", Reply::Integer(0)),
        ("WAITAOF 0 1 0", "TIMEOUT", logged(false)),
        ("WAIT 2 0", "ERROR", Reply::Error("UNBLOCKED client unblocked via CLIENT UNBLOCK".into())),
    ] {
        // What comes behind waits too.
        waiting.push(line.split(' '));
        waiting.push(["PING"]);
        waiting.flush();
        await_info(&server, "blocked_clients", "1");
        assert_eq!(client.run(&format!("CLIENT UNBLOCK {id} {how}")), Reply::Integer(1));
        assert_eq!(waiting.receive(), reply, "{line}");
        assert_eq!(waiting.receive(), Reply::Simple("PONG".into()));
        assert_eq!(server.info("blocked_clients"), "0");
    }
    // So does the end of the log.
    turn_on(&server);
    waiting.push(["WAITAOF", "1", "1", "0"]);
    waiting.flush();
    await_info(&server, "blocked_clients", "1");
    turn_off(&server);
    assert_eq!(waiting.receive(), off);
    // And the client's own.
    waiting.push(["WAIT", "1", "0"]);
    waiting.flush();
    await_info(&server, "blocked_clients", "1");
    drop(waiting);
    await_info(&server, "blocked_clients", "0");
    assert!(server.info("cmdstat_wait").starts_with("calls=5,"), "{}", server.info("cmdstat_wait"));
}

fn waiting_commands_answer_at_once_where_they_may_not_wait(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path(), "yes", "everysec");
    let mut client = server.connect();
    assert_eq!(client.run("WAITAOF 1 0 0"), logged(true));
    for line in ["MULTI", "WAIT 1 0", "WAITAOF 1 1 0"] {
        client.run(line);
    }
    let replies = client.run("EXEC").into_items();
    assert_eq!(replies, [Reply::Integer(0), logged(true)]);
    for (script, reply) in [
        ("return redis.pcall('wait', '1', '0')", Reply::Integer(0)),
        ("return redis.pcall('waitaof', '0', '1', '0')", logged(true)),
    ] {
        assert_eq!(client.call(["EVAL", script, "0"]), reply);
    }
}

fn a_save_waits_behind_a_rewrite(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path(), "yes", "no");
    let mut client = server.connect();
    fill_for_long(&mut client);
    let lines = ["BGREWRITEAOF", "BGSAVE", "BGSAVE SCHEDULE", "BGREWRITEAOF"];
    lines.iter().for_each(|line| client.push(line.split(' ')));
    client.flush();
    let started = Reply::Simple("Background append only file rewriting started".into());
    assert_eq!(client.receive(), started);
    let Reply::Error(text) = client.receive() else { panic!("one at a time") };
    assert!(text.starts_with("ERR Another child process is active (AOF?)"), "{text}");
    assert_eq!(client.receive(), Reply::Simple("Background saving scheduled".into()));
    let under_way = "ERR Background append only file rewriting already in progress";
    assert_eq!(client.receive(), Reply::Error(under_way.into()));
    await_info(&server, "rdb_saves", "1");
    assert_eq!(server.info("aof_rewrites"), "1");
    assert!(directory.path().join("dump.rdb").exists());
    // And the other way round.
    for line in ["BGSAVE", "BGREWRITEAOF"] {
        client.push(line.split(' '));
    }
    client.flush();
    assert_eq!(client.receive(), Reply::Simple("Background saving started".into()));
    let scheduled = Reply::Simple("Background append only file rewriting scheduled".into());
    assert_eq!(client.receive(), scheduled);
    await_info(&server, "aof_rewrites", "2");
    assert_eq!(
        (server.info("rdb_saves"), server.info("aof_rewrite_scheduled")),
        ("2".into(), "0".into())
    );
}

/// Turns of each worker so far.
fn turns(server: &Server, shards: usize) -> Vec<u64> {
    let turns = |shard: usize| {
        let line = server.info(&format!("shard{shard}"));
        line.rsplit_once("turns=").expect("the field").1.parse().expect("a number")
    };
    (0..shards).map(turns).collect()
}

fn workers_with_nothing_to_log_sleep_on(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path(), "yes", "always");
    let mut client = server.connect();
    client.run("SET {k}:0 1");
    let groups = |server: &Server| -> u64 { server.info("aof_groups_written").parse().unwrap() };
    let (before, groups_before) = (turns(&server, shards), groups(&server));
    for n in 0..1_000 {
        assert_eq!(client.run(&format!("SET {{k}}:{n} value")), Reply::ok());
    }
    let after = turns(&server, shards);
    assert!(groups(&server) - groups_before >= 1_000, "every SET is an epoch of its own");
    // The connection's worker and the key's owner work; each question for INFO wakes the others once.
    let mut spent: Vec<u64> =
        after.iter().zip(&before).map(|(after, before)| after - before).collect();
    spent.sort_unstable();
    for idle in spent.iter().rev().skip(2) {
        assert!(*idle < 500, "turns of the workers: {spent:?}");
    }
}
