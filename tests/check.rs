//! `tessera-check`: what it says of data directories, how it mends them, and what it exports.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    dump::{content, fill},
    harness::{
        Client, Finished, Reply, Server, find_program, on_1_2_and_4_shards, run_to_end, skip,
    },
};

on_1_2_and_4_shards!(
    a_sound_log_is_called_whole,
    a_torn_end_is_told_and_can_be_cut_off,
    damage_is_named_and_mended,
    a_log_in_use_is_left_alone,
    exports_hold_the_same_elsewhere,
    deadlines_of_fields_are_kept_where_they_are_known,
    a_saved_file_is_checked_and_exported,
);

const LIMIT: Duration = Duration::from_secs(120);
const WHOLE: Option<i32> = Some(0);
const DAMAGED: Option<i32> = Some(1);
const UNUSABLE: Option<i32> = Some(2);

/// Runs `tessera-check`.
#[track_caller]
pub(crate) fn check(path: &Path, options: &[&str]) -> Finished {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tessera-check-under-test"));
    run_to_end(command.arg(path).args(options), LIMIT)
}

/// The same, and it must end as `code` says; what it wrote.
#[track_caller]
pub(crate) fn checked(path: &Path, options: &[&str], code: Option<i32>) -> String {
    let done = check(path, options);
    let text = done.stdout + &done.stderr;
    assert_eq!(done.code, code, "{options:?}: {text}");
    text
}

fn start(shards: usize, directory: &Path) -> Server {
    Server::builder(shards)
        .option("dir", directory.display())
        .option("save", "\"\"")
        .option("appendonly", "yes")
        .option("appendfsync", "always")
        .start()
}

fn kill(mut server: Server) {
    server.signal(Signal::KILL);
    server.wait_for_end();
}

/// Rewrites the log, and waits until that is done.
pub(crate) fn rewrite(server: &Server) {
    let before = server.info("aof_rewrites");
    let started = Reply::Simple("Background append only file rewriting started".into());
    assert_eq!(server.connect().run("BGREWRITEAOF"), started);
    let deadline = Instant::now() + LIMIT;
    while server.info("aof_rewrites") == before {
        assert!(Instant::now() < deadline, "the log is not rewritten");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A directory with the log of a server that was killed: keys of every type, in a base and behind it.
fn filled(shards: usize) -> (TempDir, Vec<&'static str>) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path());
    let mut client = server.connect();
    for line in ["SET early 1", "RPUSH early:list a b", "SELECT 5", "SET five 5", "SELECT 0"] {
        client.run(line);
    }
    let code = "#!lua name=lib\nredis.register_function('known', function() return 'here' end)";
    assert_eq!(client.call(["FUNCTION", "LOAD", code]), Reply::bulk("lib"));
    rewrite(&server);
    // One library is in the base, another one behind it.
    let code = "#!lua name=later\nredis.register_function('later', function() return 'there' end)";
    assert_eq!(client.call(["FUNCTION", "LOAD", code]), Reply::bulk("later"));
    let keys = fill(&mut client);
    for line in [
        "LPOP early:list",
        "MSET a 1 b 2 c 3",
        "SET soon 1 PX 100000000",
        "SELECT 5",
        "EXPIREAT five 2000000000",
    ] {
        let reply = client.run(line);
        assert!(!matches!(reply, Reply::Error(_)), "{line}: {reply:?}");
    }
    kill(server);
    (directory, keys)
}

fn a_sound_log_is_called_whole(shards: usize) {
    let (directory, keys) = filled(shards);
    let inner = directory.path().join("appendonlydir");
    let names = || {
        let entries = fs::read_dir(&inner).expect("the log's directory");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
        names.sort();
        names
    };
    let before = names();
    for path in [directory.path(), &inner] {
        let text = checked(path, &[], WHOLE);
        let count = keys.len() + ["early", "early:list", "a", "b", "c", "soon", "five"].len();
        for part in [
            "tessera-1.base.rdb",
            "3 keys",
            "list 1, string 2",
            "libraries of functions: 1",
            "lpop 1",
            "It is whole",
            &format!("Loaded: {count} keys (db0 {}, db5 1), 2 libraries of functions", count - 1),
        ] {
            assert!(text.contains(part), "'{part}' in\n{text}");
        }
    }
    let text = checked(&inner, &["--quick"], WHOLE);
    assert!(!text.contains("Loaded") && text.contains("without loading"), "{text}");
    assert_eq!(names(), before, "nothing is written");
    // All that can be mended is that the run was not ended, and that only once.
    let text = checked(&inner, &["--fix", "--yes"], WHOLE);
    assert!(text.contains("No record is lost"), "{text}");
    let text = checked(&inner, &["--fix", "--yes"], WHOLE);
    assert!(!text.contains("Mended"), "{text}");
    assert_eq!(names().len(), before.len() + 1);
}

/// A directory with a log of one group a record, and its only segment that is used.
fn logged(shards: usize) -> (TempDir, PathBuf) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path());
    let mut client = server.connect();
    for n in 0..50 {
        assert_eq!(client.run(&format!("SET {{k}}:{n} value:{n}")), Reply::ok());
    }
    kill(server);
    let entries = fs::read_dir(directory.path().join("appendonlydir")).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let used = paths.filter(|path| path.extension().is_some_and(|it| it == "log"));
    let used = used.max_by_key(|path| used_bytes(path)).expect("a segment");
    (directory, used)
}

/// Where the blocks of a file end that hold something.
fn used_bytes(path: &Path) -> u64 {
    let bytes = fs::read(path).expect("a segment");
    let last = bytes.iter().rposition(|&byte| byte != 0).unwrap_or(0);
    (last as u64 + 1).next_multiple_of(4096)
}

fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("the segment");
    file.write_all_at(bytes, offset).expect("it can be written");
}

/// Bytes from a group's beginning to somewhere in its first record, with up to four shards.
const IN_FIRST_RECORD: u64 = 132;

fn a_torn_end_is_told_and_can_be_cut_off(shards: usize) {
    let (directory, segment) = logged(shards);
    overwrite(&segment, used_bytes(&segment) - 4096 + IN_FIRST_RECORD, &[0; 20]);
    let text = checked(directory.path(), &[], WHOLE);
    assert!(text.contains("torn tail: tessera-"), "{text}");
    let strict = || {
        Server::builder(shards)
            .option("dir", directory.path().display())
            .option("appendonly", "yes")
            .option("aof-load-truncated", "no")
    };
    strict().start_refused();
    let text = checked(directory.path(), &["--fix", "--yes"], WHOLE);
    assert!(text.contains("Mended") && text.contains("records 50 to 50"), "{text}");
    let server = strict().start();
    assert_eq!(server.connect().run("DBSIZE").into_integer(), 49);
}

fn damage_is_named_and_mended(shards: usize) {
    let (directory, segment) = logged(shards);
    // Block 0 is the segment's header, and each of the others a group of one record.
    let offset = 21 * 4096 + IN_FIRST_RECORD;
    overwrite(&segment, offset, b"!!");
    let damaged = fs::read(&segment).expect("a segment");
    let builder = || {
        Server::builder(shards)
            .option("dir", directory.path().display())
            .option("appendonly", "yes")
            .option("appendfsync", "always")
    };
    let (status, log) = builder().start_refused();
    assert!(!status.success());
    let name = segment.file_name().expect("a name").to_string_lossy().into_owned();
    for part in [name.as_str(), "at byte", "tessera-check --fix"] {
        assert!(log.contains(part), "'{part}' in {log}");
    }
    let text = checked(directory.path(), &[], DAMAGED);
    assert!(text.contains("DAMAGED") && text.contains(&name), "{text}");
    // Nobody says yes.
    let text = checked(directory.path(), &["--fix"], DAMAGED);
    for part in ["LOST would be 30 records", "records 21 to 50", "Nothing is changed"] {
        assert!(text.contains(part), "'{part}' in {text}");
    }
    assert!(fs::read(&segment).expect("a segment") == damaged, "nothing is changed");
    let text = checked(directory.path(), &["--fix", "--yes"], WHOLE);
    let aside = text.lines().find_map(|line| line.strip_prefix("Mended. What was cut off is in "));
    let aside = Path::new(aside.expect("it says where")).to_owned();
    assert!(fs::read(aside.join(&name)).expect("it is kept") == damaged);
    assert!(aside.join("tessera.manifest").exists());
    checked(directory.path(), &[], WHOLE);
    let server = builder().start();
    let mut client = server.connect();
    assert_eq!(client.run("DBSIZE").into_integer(), 20);
    assert_eq!(client.run("GET {k}:19"), Reply::bulk("value:19"));
    assert_eq!(client.run("SET after the"), Reply::ok());
    kill(server);
    let server = builder().start();
    assert_eq!(server.connect().run("DBSIZE").into_integer(), 21);
}

fn a_log_in_use_is_left_alone(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path());
    server.connect().run("SET k v");
    let holder = format!("process {}", server.process_id());
    for options in [&[][..], &["--fix", "--yes"], &["--to-rdb", "/dev/null"]] {
        let text = checked(directory.path(), options, UNUSABLE);
        assert!(text.contains(&holder), "{text}");
    }
    let (status, log) = Server::builder(shards)
        .option("dir", directory.path().display())
        .option("appendonly", "yes")
        .start_refused();
    assert!(!status.success() && log.contains(&holder), "{log}");
    assert_eq!(server.connect().run("SET k w"), Reply::ok());
    kill(server);
    let server = start(shards, directory.path());
    assert_eq!(server.connect().run("GET k"), Reply::bulk("w"));
}

/// Everything that `filled` has made, as one client after the other sees it.
#[track_caller]
fn assert_same(ours: &mut Client, theirs: &mut Client, keys: &[&str], what: &str) {
    for key in keys.iter().copied().chain(["early", "early:list", "a", "b", "c"]) {
        assert_eq!(content(theirs, key), content(ours, key), "{key} {what}");
    }
    for line in ["DBSIZE", "PEXPIRETIME soon", "SELECT 5", "DBSIZE", "GET five", "PEXPIRETIME five"]
    {
        assert_eq!(theirs.run(line), ours.run(line), "{line} {what}");
    }
    ours.run("SELECT 0");
    theirs.run("SELECT 0");
    for (function, answer) in [("known", "here"), ("later", "there")] {
        assert_eq!(theirs.call(["FCALL", function, "0"]), Reply::bulk(answer), "{what}");
    }
}

fn exports_hold_the_same_elsewhere(shards: usize) {
    let Some(program) = find_program("redis-server") else {
        return skip("redis-server is not installed");
    };
    let (directory, keys) = filled(shards);
    let out = TempDir::new().expect("a directory");
    let [rdb, aof] = ["dump.rdb", "requests"].map(|name| out.path().join(name));
    let options = ["--to-rdb", &rdb.to_string_lossy(), "--to-aof", &aof.to_string_lossy()];
    let text = checked(directory.path(), &options, WHOLE);
    assert!(!text.contains("WARNING"), "{text}");
    let server = start(3, directory.path());
    let mut ours = server.connect();
    // As the file that is loaded at the start.
    let theirs = Server::redis_in(&program, out.path());
    assert_same(&mut ours, &mut theirs.connect(), &keys, "in the RDB file");
    // As an append-only file.
    let logs = TempDir::new().expect("a directory");
    fs::copy(&aof, logs.path().join("appendonly.aof")).expect("a copy");
    let theirs = Server::redis_in_with(&program, logs.path(), &[("appendonly", "yes")]);
    assert_same(&mut ours, &mut theirs.connect(), &keys, "in the append-only file");
    // Sent by redis-cli, there and here.
    let Some(cli) = find_program("redis-cli") else { return skip("redis-cli is not installed") };
    for server in [Server::redis(&program), Server::start(shards)] {
        let mut pipe = Command::new("sh");
        pipe.args(["-c", "exec \"$0\" -p \"$1\" --pipe < \"$2\""]);
        let done = run_to_end(pipe.arg(&cli).arg(server.port().to_string()).arg(&aof), LIMIT);
        assert!(
            done.success && done.stdout.contains("errors: 0"),
            "{}{}",
            done.stdout,
            done.stderr
        );
        assert_same(&mut ours, &mut server.connect(), &keys, "sent by redis-cli");
    }
}

fn deadlines_of_fields_are_kept_where_they_are_known(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path());
    let mut client = server.connect();
    client.run("HSET hash soon 1 never 2");
    client.run("HPEXPIREAT hash 2000000000000 FIELDS 1 soon");
    kill(server);
    let out = TempDir::new().expect("a directory");
    let [older, newer, aof] = ["older.rdb", "dump.rdb", "aof"].map(|name| out.path().join(name));
    let text = checked(directory.path(), &["--to-rdb", &older.to_string_lossy()], WHOLE);
    assert!(text.contains("WARNING: 1 hashes"), "{text}");
    assert!(fs::read(&older).expect("a file").starts_with(b"REDIS0010"));
    let options = ["--rdb-version", "12", "--to-rdb", &newer.to_string_lossy()];
    let text = checked(directory.path(), &options, WHOLE);
    assert!(!text.contains("WARNING"), "{text}");
    assert!(fs::read(&newer).expect("a file").starts_with(b"REDIS0012"));
    let options = ["--rdb-version", "12", "--to-aof", &aof.to_string_lossy()];
    checked(directory.path(), &options, WHOLE);
    assert!(String::from_utf8_lossy(&fs::read(&aof).expect("a file")).contains("HPEXPIREAT"));
    let server = Server::builder(shards).option("dir", out.path().display()).start();
    server.connect().transcript(
        r#"
        HPEXPIRETIME hash FIELDS 2 soon never => [:2000000000000 :-1]
        HGET hash soon => "1"
        "#,
    );
    if let Some(program) = find_program("redis-server") {
        fs::copy(&older, out.path().join("dump.rdb")).expect("a copy");
        let theirs = Server::redis_in(&program, out.path());
        theirs.connect().transcript(
            r#"
            HGET hash soon  => "1"
            HGET hash never => "2"
            "#,
        );
    }
}

fn a_saved_file_is_checked_and_exported(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = Server::builder(shards).option("dir", directory.path().display()).start();
    let mut client = server.connect();
    let keys = fill(&mut client);
    assert_eq!(client.run("SAVE"), Reply::ok());
    let file = directory.path().join("dump.rdb");
    for path in [directory.path(), &file] {
        let text = checked(path, &[], WHOLE);
        assert!(text.contains(&format!("Loaded: {} keys", keys.len())), "{text}");
    }
    let requests = directory.path().join("requests");
    checked(&file, &["--to-aof", &requests.to_string_lossy()], WHOLE);
    let text = fs::read(&requests).expect("requests");
    assert!(text.starts_with(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*"));
    let mut bytes = fs::read(&file).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).expect("it can be written");
    let text = checked(&file, &[], DAMAGED);
    assert!(text.contains("DAMAGED: dump.rdb"), "{text}");
    let text = checked(&file, &["--fix", "--yes"], DAMAGED);
    assert!(text.contains("Restore"), "{text}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let directory = TempDir::new().expect("a directory");
    assert!(checked(directory.path(), &[], UNUSABLE).contains("no log"));
    assert!(checked(&directory.path().join("none"), &[], UNUSABLE).contains("none"));
    assert!(checked(directory.path(), &["--frobnicate"], UNUSABLE).contains("frobnicate"));
    assert!(checked(directory.path(), &["--help"], WHOLE).contains("--to-aof FILE"));
}
