//! RDB files: those of redis-server and Valkey are loaded at the start.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    thread,
};

use rustix::process::Signal;

use crate::{
    dump::{content, fill},
    harness::{Client, Reply, Server, ServerKind, on_1_2_and_4_shards, rivals, skip},
};

on_1_2_and_4_shards!(
    files_of_other_servers_are_loaded,
    keys_are_refused_while_the_file_is_loaded,
    loading_can_be_stopped,
    damaged_files_stop_the_start,
    append_only_files_are_moved_in,
    a_torn_append_only_file_is_cut,
    debug_reload_saves_and_loads,
    shutdown_saves_where_there_are_save_points,
    what_was_acknowledged_before_the_end_is_saved,
    a_shutdown_that_cannot_save_does_not_happen,
);

/// The file that `client`'s server saves.
#[track_caller]
fn save(client: &mut Client) -> Vec<u8> {
    assert_eq!(client.run("SAVE"), Reply::ok());
    let setting = |client: &mut Client, name: &str| {
        client.call(["CONFIG", "GET", name]).into_items().remove(1).into_text()
    };
    let (dir, name) = (setting(client, "dir"), setting(client, "dbfilename"));
    fs::read(Path::new(&dir).join(name)).expect("the file that was saved")
}

/// A directory with this file as `dump.rdb`.
fn directory_with(file: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("dump.rdb"), file).expect("a file");
    dir
}

/// Loads a library with a function of that name, which answers its name.
fn load_function(client: &mut Client, name: &str) {
    let code = format!(
        "#!lua name=lib_{name}\nredis.register_function('{name}', function() return '{name}' end)"
    );
    let reply = client.call(["FUNCTION", "LOAD", "REPLACE", &code]);
    assert_eq!(reply, Reply::bulk(format!("lib_{name}")));
}

/// Keys in several databases, with deadlines and use.
fn fill_databases(client: &mut Client) {
    for line in [
        "SET soon 1 PX 100000000",
        "SELECT 5",
        "SET five 5",
        "HSET hash:5 a 1",
        "EXPIRE hash:5 1000000",
        "SELECT 0",
    ] {
        assert!(!matches!(client.run(line), Reply::Error(_)), "{line}");
    }
}

fn files_of_other_servers_are_loaded(shards: usize) {
    for rival in rivals() {
        for compression in ["yes", "no"] {
            let mut theirs = rival.connect();
            theirs.run("FLUSHALL");
            theirs.call(["CONFIG", "SET", "rdbcompression", compression]);
            let keys = fill(&mut theirs);
            fill_databases(&mut theirs);
            load_function(&mut theirs, "saved");
            let dir = directory_with(&save(&mut theirs));
            let server = Server::builder(shards).option("dir", dir.path().display()).start();
            let mut ours = server.connect();
            for key in &keys {
                assert_eq!(content(&mut ours, key), content(&mut theirs, key), "{key}");
            }
            ours.transcript(r#"FCALL saved 0 => "saved""#);
            let size = theirs.run("DBSIZE");
            assert_eq!(ours.run("DBSIZE"), size);
            for line in ["PEXPIRETIME soon", "SELECT 5", "GET five", "PEXPIRETIME hash:5", "DBSIZE"]
            {
                assert_eq!(ours.run(line), theirs.run(line), "{line}");
            }
            for client in [&mut ours, &mut theirs] {
                client.run("SELECT 0");
            }
            assert_eq!(server.info("loading"), "0");
            assert_eq!(server.info("rdb_last_load_keys_loaded"), (keys.len() + 3).to_string());
            assert!(server.log().contains("DB loaded from disk"), "{}", server.log());
            // What is saved here loads there again.
            fs::remove_file(dir.path().join("dump.rdb")).expect("the file");
            let file = save(&mut ours);
            let path = theirs.call(["CONFIG", "GET", "dir"]).into_items().remove(1).into_text();
            fs::write(Path::new(&path).join("dump.rdb"), file).expect("the rival's file");
            theirs.run("FUNCTION FLUSH");
            assert_eq!(theirs.run("DEBUG RELOAD NOSAVE"), Reply::ok());
            for key in &keys {
                assert_eq!(content(&mut ours, key), content(&mut theirs, key), "{key}");
            }
            theirs.transcript(r#"FCALL saved 0 => "saved""#);
        }
    }
}

/// A file that takes long: a key past its deadline whose value is a huge hole.
fn endless_file(path: &Path) {
    const HOLE_BYTES: u64 = 1 << 36;
    let mut file = File::create(path).expect("a file");
    let mut head = b"REDIS0010\xFC".to_vec();
    head.extend_from_slice(&1_000_u64.to_le_bytes());
    head.extend_from_slice(b"\x00\x03old\x81");
    head.extend_from_slice(&HOLE_BYTES.to_be_bytes());
    file.write_all(&head).expect("a file to write to");
    file.set_len(head.len() as u64 + HOLE_BYTES).expect("a file with a hole");
}

fn keys_are_refused_while_the_file_is_loaded(shards: usize) {
    if !ServerKind::under_test().is_tessera() {
        return skip("redis-server would read the file's hole into memory");
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    endless_file(&dir.path().join("dump.rdb"));
    let server = Server::builder(shards)
        .option("dir", dir.path().display())
        .option("rdbchecksum", "no")
        .start_unready();
    let mut client = server.connect();
    client.transcript(
        r#"
        GET k                  => -LOADING Redis is loading the dataset in memory
        MSET a 1 b 2 c 3       => -LOADING Redis is loading the dataset in memory
        PING                   => -LOADING Redis is loading the dataset in memory
        SELECT 1               => +OK
        "#,
    );
    assert_eq!(server.info("loading"), "1");
    let total: u64 = server.info("loading_total_bytes").parse().expect("a number");
    assert!(total > 1 << 36);
    server.info("loading_loaded_bytes").parse::<u64>().expect("a number");
    server.info("loading_eta_seconds").parse::<u64>().expect("a number");
}

fn loading_can_be_stopped(shards: usize) {
    if !ServerKind::under_test().is_tessera() {
        return skip("redis-server would read the file's hole into memory");
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    endless_file(&dir.path().join("dump.rdb"));
    let mut server = Server::builder(shards)
        .option("dir", dir.path().display())
        .option("rdbchecksum", "no")
        .start_unready();
    assert_eq!(server.info("loading"), "1");
    server.signal(Signal::TERM);
    assert!(server.wait_for_end().success());
    assert!(!server.log().contains("Ready to accept"), "{}", server.log());
}

/// Each kind of damage ends the start with the file's name, the place and what can be done.
fn damaged_files_stop_the_start(shards: usize) {
    if !ServerKind::under_test().is_tessera() {
        return skip("redis-server words it differently");
    }
    let good = b"REDIS0010\x00\x01a\x01b\xFE\x14\x00\x01c\x01d\xFF\0\0\0\0\0\0\0\0".to_vec();
    let cut = &good[..good.len() - 12];
    let module = b"REDIS0010\x07\x01m\x81\x45\xE2\x89\x38\xFB\xE4\x4B\x03\0\xFF";
    let files: [(&[u8], &[&str]); 5] = [
        (b"hello, world", &["at byte 0", "no RDB file"]),
        (b"REDIS0099\xFF", &["RDB version 99", "Cure: save it again"]),
        (&good, &["database 20", "'databases'"]),
        (cut, &["ends too early", "Cure: restore"]),
        (module, &["module type", "Cure: delete"]),
    ];
    for (file, texts) in files {
        let dir = directory_with(file);
        let server = Server::builder(shards).option("dir", dir.path().display());
        let (status, log) = server.start_refused();
        assert!(!status.success());
        let path = dir.path().join("dump.rdb").display().to_string();
        for text in [path.as_str()].iter().chain(texts) {
            assert!(log.contains(text), "'{text}' in\n{log}");
        }
    }
}

/// Lets a server write an append-only file: its directory.
fn append_only(client: &mut Client) -> std::path::PathBuf {
    assert_eq!(client.run("CONFIG SET appendonly yes"), Reply::ok());
    loop {
        let info = client.run("INFO persistence").into_text();
        if info.contains("aof_rewrite_in_progress:0") && info.contains("aof_enabled:1") {
            break;
        }
    }
    let setting = |client: &mut Client, name: &str| {
        client.call(["CONFIG", "GET", name]).into_items().remove(1).into_text()
    };
    Path::new(&setting(client, "dir")).join(setting(client, "appenddirname"))
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a new directory");
    for file in fs::read_dir(from).expect("a directory") {
        let file = file.expect("a file of the directory");
        fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
    }
}

/// A base of keys, commands behind it over several keys and databases: all of it is there, also at the
/// next start, and the files are kept aside.
fn append_only_files_are_moved_in(shards: usize) {
    if !ServerKind::under_test().is_tessera() {
        return skip("redis-server does not move in");
    }
    for rival in rivals() {
        let mut theirs = rival.connect();
        theirs.run("FLUSHALL");
        theirs.run("SET base 1");
        load_function(&mut theirs, "of_the_base");
        let written = append_only(&mut theirs);
        let keys = fill(&mut theirs);
        fill_databases(&mut theirs);
        theirs.transcript(
            r#"
            MSET a 1 b 2 c 3          => +OK
            MULTI                     => +OK
            RENAME a d                => +QUEUED
            INCR b                    => +QUEUED
            EXEC                      => [+OK :3]
            SET brief x PX 1          => +OK
            SUNIONSTORE union set bigset => :6000
            "#,
        );
        load_function(&mut theirs, "appended");
        let dir = tempfile::tempdir().expect("a temporary directory");
        copy_files(&written, &dir.path().join("appendonlydir"));
        theirs.run("CONFIG SET appendonly no");
        for start in ["moves in", "starts again"] {
            let server = Server::builder(shards)
                .option("dir", dir.path().display())
                .option("appendonly", "yes")
                .start();
            let mut ours = server.connect();
            for key in keys.iter().copied().chain(["base", "b", "c", "d", "union"]) {
                assert_eq!(content(&mut ours, key), content(&mut theirs, key), "{key}: {start}");
            }
            // The own log does not hold functions yet.
            let functions = ["of_the_base", "appended"];
            for name in functions.into_iter().filter(|_| start == "moves in") {
                assert_eq!(ours.call(["FCALL", name, "0"]), Reply::bulk(name), "{start}");
            }
            for line in ["EXISTS brief", "DBSIZE", "PEXPIRETIME soon", "SELECT 5", "DBSIZE"] {
                assert_eq!(ours.run(line), theirs.run(line), "{line}: {start}");
            }
            theirs.run("SELECT 0");
            let names: Vec<String> = fs::read_dir(dir.path())
                .expect("a directory")
                .map(|file| file.expect("a file").file_name().to_string_lossy().into_owned())
                .collect();
            assert!(names.iter().any(|name| name == "dump.rdb"), "{names:?}");
            assert!(names.iter().any(|name| name.starts_with("appendonlydir.imported-")));
            let log = dir.path().join("appendonlydir");
            assert!(log.join("tessera.manifest").exists(), "the log has begun");
            assert!(!log.join("appendonly.aof.manifest").exists());
        }
    }
}

fn a_torn_append_only_file_is_cut(shards: usize) {
    if !ServerKind::under_test().is_tessera() {
        return skip("redis-server does not move in");
    }
    // The form of before Redis 7: one file, with an RDB file at its front.
    let mut whole = b"REDIS0009\x00\x01a\x01b\xFF\0\0\0\0\0\0\0\0".to_vec();
    whole.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n");
    let torn = [&whole[..], b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$1"].concat();
    let directory = || {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("appendonly.aof"), &torn).expect("a file");
        dir
    };
    let dir = directory();
    let server = Server::builder(shards)
        .option("dir", dir.path().display())
        .option("appendonly", "yes")
        .start();
    server.connect().transcript(
        r#"
        GET a       => "b"
        GET k       => "v"
        EXISTS x    => :0
        "#,
    );
    assert!(server.log().contains("are left out"), "{}", server.log());
    let dir = directory();
    let (status, log) = Server::builder(shards)
        .option("dir", dir.path().display())
        .option("appendonly", "yes")
        .option("aof-load-truncated", "no")
        .start_refused();
    assert!(!status.success());
    let begin = format!("begins at byte {}", whole.len());
    for text in ["appendonly.aof", &begin, "Cure: mend"] {
        assert!(log.contains(text), "'{text}' in\n{log}");
    }
    assert!(dir.path().join("appendonly.aof").exists());
}

fn debug_reload_saves_and_loads(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let keys = fill(&mut client);
    fill_databases(&mut client);
    load_function(&mut client, "kept");
    let before: Vec<_> = keys.iter().map(|key| content(&mut client, key)).collect();
    let (size, deadline) = (client.run("DBSIZE"), client.run("PEXPIRETIME soon"));
    for _ in 0..2 {
        assert_eq!(client.run("DEBUG RELOAD"), Reply::ok());
        for (key, before) in keys.iter().zip(&before) {
            assert_eq!(content(&mut client, key), *before, "{key}");
        }
        assert_eq!(
            (client.run("DBSIZE"), client.run("PEXPIRETIME soon")),
            (size.clone(), deadline.clone())
        );
    }
    client.transcript(
        r#"
        SET later 1             => +OK
        SET int8 other          => +OK
        DEBUG RELOAD NOSAVE     => +OK
        EXISTS later            => :0
        GET int8                => "-7"
        SET later 1             => +OK
        SET int8 other          => +OK
        DEBUG RELOAD NOSAVE NOFLUSH MERGE => +OK
        EXISTS later            => :1
        GET int8                => "-7"
        FCALL kept 0            => "kept"
        SELECT 5                => +OK
        GET five                => "5"
        "#,
    );
    let text = "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.";
    assert_eq!(client.run("DEBUG RELOAD NOW"), Reply::Error(text.into()));
}

/// Ends the server as `end` says and starts another one in the same directory.
fn end_and_start(
    mut server: Server,
    dir: &Path,
    shards: usize,
    end: impl FnOnce(&Server),
) -> Server {
    end(&server);
    assert!(server.wait_for_end().success());
    Server::builder(shards).option("dir", dir.display()).option("save", "3600 1").start()
}

fn shutdown_saves_where_there_are_save_points(shards: usize) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("dump.rdb");
    let server = Server::builder(shards).option("dir", dir.path().display());
    let server = server.option("save", "3600 1").start();
    server.connect().run("SET k 0");
    let nosave = |server: &Server| {
        let mut client = server.connect();
        client.push(["SHUTDOWN", "NOSAVE"]);
        client.flush();
        assert!(client.is_closed());
    };
    let server = end_and_start(server, dir.path(), shards, nosave);
    assert!(!path.exists());
    server.connect().run("SET k 1");
    let shutdown = |server: &Server| {
        let mut client = server.connect();
        client.push(["SHUTDOWN"]);
        client.flush();
        assert!(client.is_closed());
    };
    let server = end_and_start(server, dir.path(), shards, shutdown);
    server.connect().transcript(r#"GET k => "1""#);
    server.connect().run("SET k 2");
    let server = end_and_start(server, dir.path(), shards, |server| server.signal(Signal::TERM));
    server.connect().transcript(r#"GET k => "2""#);
}

/// Clients count up while the server ends: each finds its last count at the next start.
fn what_was_acknowledged_before_the_end_is_saved(shards: usize) {
    if !ServerKind::under_test().is_tessera() {
        return skip("redis-server may acknowledge nothing while it ends");
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = Server::builder(shards).option("dir", dir.path().display());
    let server = server.option("save", "3600 1").start();
    let counters: Vec<_> = (0..8)
        .map(|number| {
            let mut client = server.connect();
            thread::spawn(move || {
                let mut last = 0;
                loop {
                    client.push(["INCR", &format!("counter:{number}")]);
                    if client.try_flush().is_err() {
                        return last;
                    }
                    match client.try_receive() {
                        Ok(Reply::Integer(count)) => last = count,
                        _ => return last,
                    }
                }
            })
        })
        .collect();
    thread::sleep(std::time::Duration::from_millis(50));
    let server = end_and_start(server, dir.path(), shards, |server| server.signal(Signal::TERM));
    let mut client = server.connect();
    for (number, counter) in counters.into_iter().enumerate() {
        let last = counter.join().expect("a counter ends");
        let count = client.run(&format!("GET counter:{number}"));
        let count: i64 =
            if count.is_null() { 0 } else { count.into_text().parse().expect("a count") };
        assert!(count == last || count == last + 1, "counter {number}: {count} after {last}");
    }
}

fn a_shutdown_that_cannot_save_does_not_happen(shards: usize) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let inner = dir.path().join("inner");
    fs::create_dir(&inner).expect("a directory");
    let mut server = Server::builder(shards).option("dir", inner.display()).start();
    let mut client = server.connect();
    client.run("SET k v");
    fs::remove_dir_all(&inner).expect("the directory goes");
    client.transcript(
        r#"
        SHUTDOWN SAVE      => -ERR Errors trying to SHUTDOWN. Check logs.
        GET k              => "v"
        SHUTDOWN ABORT     => -ERR No shutdown in progress.
        SHUTDOWN SAVE NOSAVE => -ERR syntax error
        "#,
    );
    client.push(["SHUTDOWN", "SAVE", "FORCE"]);
    client.flush();
    assert!(client.is_closed());
    assert!(server.wait_for_end().success());
}
