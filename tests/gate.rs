//! A log that cannot be written, with `appendfsync always`: who has to wait and who has not, and that
//! nothing acknowledged is lost when it can be written again. The disk is full, or reports errors.

use std::{
    fs,
    io::ErrorKind,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    disk_full::{SmallDisk, wait_until},
    harness::{Builder, Client, Reply, Server, on_1_2_and_4_shards},
};

on_1_2_and_4_shards!(
    a_full_disk_holds_up_only_what_may_be_lost,
    what_waits_leaves_in_its_order,
    a_write_that_fails_never_passes_silently,
    a_sync_that_fails_never_passes_silently,
);

const NO_ROOM: &str = "MISCONF Errors writing to the AOF file: No space left on device";
const BROKEN: &str = "MISCONF Errors writing to the AOF file: Input/output error";

/// A client that writes `key:0`, `key:1` and so on, one after the other, and so waits with the first
/// of them that cannot be made durable.
struct Writer {
    thread: JoinHandle<Reply>,
    acknowledged: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    fn start(server: &Server) -> Self {
        let (acknowledged, stop) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut client = server.connect();
        // It waits until there is room again, however long that is.
        client.stream().set_read_timeout(None).expect("a socket");
        let (count, is_over) = (Arc::clone(&acknowledged), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            loop {
                let number = count.load(SeqCst);
                let reply = client.call(["SET", &key(number), &value(number)]);
                if reply != Reply::ok() || is_over.load(SeqCst) {
                    return reply;
                }
                count.store(number + 1, SeqCst);
            }
        });
        Self { thread, acknowledged, stop }
    }

    /// How many of its writes are acknowledged; the next one, which has this number, is under way.
    fn acknowledged(&self) -> usize {
        self.acknowledged.load(SeqCst)
    }

    /// Its present write is its last.
    fn stop_after_this(&self) {
        self.stop.store(true, SeqCst);
    }

    /// What its last write was answered.
    fn end(self) -> Reply {
        self.thread.join().expect("the writer goes on")
    }
}

fn key(number: usize) -> String {
    format!("key:{number}")
}

fn value(number: usize) -> String {
    format!("{number}{}", "x".repeat(8 << 10))
}

fn always(shards: usize, directory: &Path) -> Builder {
    Server::builder(shards)
        .option("dir", directory.display())
        .option("appendonly", "yes")
        .option("appendfsync", "always")
}

/// A server whose disk is full, the file that fills it, and a writer that waits for room.
fn with_full_disk(disk: &SmallDisk, builder: Builder) -> (Server, std::path::PathBuf, Writer) {
    let filler = disk.fill(24);
    let server = builder.start();
    let writer = Writer::start(&server);
    wait_until("the log fails", || server.info("aof_last_write_status") == "err");
    (server, filler, writer)
}

/// Whether something has come for `client`. Others are served meanwhile, so that what was to leave
/// early would have left.
fn has_reply(server: &Server, client: &mut Client) -> bool {
    let mut other = server.connect();
    for _ in 0..50 {
        other.run("ECHO round");
    }
    client.stream().set_nonblocking(true).expect("a socket");
    let outcome = client.stream().peek(&mut [0]);
    client.stream().set_nonblocking(false).expect("a socket");
    match outcome {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

fn error(text: &str) -> Reply {
    Reply::Error(text.into())
}

fn a_full_disk_holds_up_only_what_may_be_lost(shards: usize) {
    let Some(disk) = SmallDisk::mount(40) else { return };
    let (server, filler, writer) = with_full_disk(&disk, always(shards, disk.path()));
    let last = writer.acknowledged();
    assert!(last > 8, "the disk was full before anything was written: {last}");
    sessions_are_served(&server);
    durable_keys_are_read(&server, last);
    let mut waiting = readers_of(&server, last);
    for client in &mut waiting {
        assert!(!has_reply(&server, client), "a write that is not durable was seen");
    }
    writer.stop_after_this();
    fs::remove_file(&filler).expect("it is there");
    assert_eq!(writer.end(), Reply::ok(), "nothing that was executed is lost");
    for client in &mut waiting {
        let reply = client.receive();
        assert!(!reply.is_null() && !matches!(reply, Reply::Error(_)), "{reply:?}");
    }
    wait_until("writes are taken again", || server.connect().run("SET after room") == Reply::ok());
    assert_eq!(server.connect().run("PING"), Reply::Simple("PONG".into()));
    check_after_kill(server, shards, disk.path(), last + 1);
}

/// Whatever works on the session, the configuration or the server is answered; writes are refused.
fn sessions_are_served(server: &Server) {
    let mut client = server.connect();
    assert_eq!(client.run("PING"), error(NO_ROOM));
    assert_eq!(client.run("SET key:0 x"), error(NO_ROOM));
    assert_eq!(client.run("ECHO hello"), Reply::bulk("hello"));
    assert_eq!(client.run("CLIENT SETNAME reader"), Reply::ok());
    assert_eq!(client.run("SELECT 1"), Reply::ok());
    assert_eq!(client.run("SELECT 0"), Reply::ok());
    assert!(client.run("CLIENT LIST").into_text().contains("name=reader"));
    assert_eq!(client.run("CONFIG GET appendfsync").into_items()[1], Reply::bulk("always"));
    assert_eq!(client.run("CONFIG SET loglevel notice"), Reply::ok());
    assert!(matches!(client.run("AUTH nobody nothing"), Reply::Error(_)));
    assert!(matches!(client.run("NOSUCHCOMMAND"), Reply::Error(_)));
    assert_eq!(client.run("MULTI"), Reply::ok());
    assert_eq!(client.run("GET key:0"), Reply::Simple("QUEUED".into()));
    assert_eq!(client.run("SET key:0 x"), error(NO_ROOM));
    let aborted = "EXECABORT Transaction discarded because of previous errors.";
    assert_eq!(client.run("EXEC"), error(aborted));
    assert!(!matches!(client.run("HELLO 3"), Reply::Error(_)));
}

/// Keys of which every change is durable are read, alone and several at once.
fn durable_keys_are_read(server: &Server, count: usize) {
    let mut client = server.connect();
    for number in 0..8 {
        assert_eq!(client.call(["GET", &key(number)]), Reply::bulk(value(number)));
    }
    let keys: Vec<String> = (0..8).map(key).collect();
    let all = std::iter::once("MGET").chain(keys.iter().map(String::as_str));
    let values = (0..8).map(|number| Reply::bulk(value(number))).collect();
    assert_eq!(client.call(all), Reply::Array(values));
    let newest = key(count - 1);
    client.push(["EXISTS", &newest]);
    client.push(["GET", "nothing"]);
    client.push(["SET", &newest, "x"]);
    client.push(["STRLEN", &newest]);
    client.flush();
    let length = Reply::Integer(value(count - 1).len() as i64);
    assert_eq!(client.receive_all(4), [Reply::Integer(1), Reply::NullBulk, error(NO_ROOM), length]);
}

/// Clients that ask for what depends on the write that waits.
fn readers_of(server: &Server, number: usize) -> Vec<Client> {
    let key = key(number);
    let questions: [&[&str]; 5] = [
        &["GET", &key],
        &["MGET", "key:0", &key],
        &["DBSIZE"],
        &["EVAL", "return redis.call('GET', KEYS[1])", "1", &key],
        &["SCAN", "0"],
    ];
    let ask = |words: &&[&str]| {
        let mut client = server.connect();
        client.push(*words);
        client.flush();
        client
    };
    questions.iter().map(ask).collect()
}

fn what_waits_leaves_in_its_order(shards: usize) {
    let Some(disk) = SmallDisk::mount(40) else { return };
    let (server, filler, writer) = with_full_disk(&disk, always(shards, disk.path()));
    let last = writer.acknowledged();
    let mut client = server.connect();
    client.push(["ECHO", "first"]);
    client.push(["STRLEN", &key(last - 1)]);
    client.push(["SET", "other", "x"]);
    client.push(["STRLEN", &key(last)]);
    client.push(["ECHO", "last"]);
    client.flush();
    let length = |number: usize| Reply::Integer(value(number).len() as i64);
    assert_eq!(client.receive_all(3), [Reply::bulk("first"), length(last - 1), error(NO_ROOM)]);
    assert!(!has_reply(&server, &mut client), "it stands behind what waits");
    client.push(["ECHO", "later"]);
    client.flush();
    assert!(!has_reply(&server, &mut client), "it stands behind what waits");
    writer.stop_after_this();
    fs::remove_file(&filler).expect("it is there");
    assert_eq!(client.receive_all(3), [length(last), Reply::bulk("last"), Reply::bulk("later")]);
    assert_eq!(writer.end(), Reply::ok());
}

/// A server that lets reads of anything leave is found out by what the tests above look at.
#[test]
fn reads_that_leave_early_are_noticed() {
    let Some(disk) = SmallDisk::mount(40) else { return };
    let builder = always(2, disk.path()).fault("early-read");
    let (server, filler, writer) = with_full_disk(&disk, builder);
    let mut early = server.connect();
    let last = writer.acknowledged();
    assert_eq!(early.call(["GET", &key(last)]), Reply::bulk(value(last)));
    writer.stop_after_this();
    fs::remove_file(&filler).expect("it is there");
    writer.end();
}

/// Kills the server, and asserts that so many writes of the writer are there when it starts again.
fn check_after_kill(mut server: Server, shards: usize, directory: &Path, count: usize) {
    server.signal(Signal::KILL);
    server.wait_for_end();
    let server = always(shards, directory).start();
    let mut client = server.connect();
    for number in 0..count {
        assert_eq!(client.call(["GET", &key(number)]), Reply::bulk(value(number)), "{number}");
    }
}

fn a_write_that_fails_never_passes_silently(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let switch = directory.path().join("broken");
    let fault = format!("eio:{}", switch.display());
    let server = always(shards, directory.path()).fault(&fault).start();
    let writer = Writer::start(&server);
    for _ in 0..2 {
        let before = writer.acknowledged();
        wait_until("writes are acknowledged", || writer.acknowledged() > before + 8);
        fs::write(&switch, "write").expect("a file");
        wait_until("the log fails", || server.info("aof_last_write_status") == "err");
        let last = writer.acknowledged();
        let mut client = server.connect();
        // Each try to write again fails too, and none of them lures a client.
        for number in 0..300 {
            assert_eq!(client.run("SET other x"), error(BROKEN), "{number}");
            thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(client.run("STRLEN key:0"), Reply::Integer(value(0).len() as i64));
        assert_eq!(writer.acknowledged(), last, "a write that has failed was acknowledged");
        fs::remove_file(&switch).expect("it is there");
        wait_until("the writer goes on", || writer.acknowledged() > last);
        wait_until("nothing fails", || server.info("aof_last_write_status") == "ok");
    }
    assert!(server.log().contains("Input/output error"), "the log says why");
    writer.stop_after_this();
    let count = writer.acknowledged();
    assert_eq!(writer.end(), Reply::ok());
    check_after_kill(server, shards, directory.path(), count);
}

fn a_sync_that_fails_never_passes_silently(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let switch = directory.path().join("broken");
    let fault = format!("eio:{}", switch.display());
    let server =
        always(shards, directory.path()).option("appendfsync", "everysec").fault(&fault).start();
    fs::write(&switch, "sync").expect("a file");
    let mut client = server.connect();
    let mut written = 0;
    loop {
        match client.call(["SET", &key(written), &value(written)]) {
            Reply::Error(text) => break assert_eq!(text, BROKEN),
            reply => assert_eq!(reply, Reply::ok()),
        }
        written += 1;
        thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(server.info("aof_last_write_status"), "err");
    assert_eq!(client.call(["GET", &key(written - 1)]), Reply::bulk(value(written - 1)));
    fs::remove_file(&switch).expect("it is there");
    wait_until("writes are taken again", || client.run("SET after x") == Reply::ok());
    assert_eq!(client.run("WAITAOF 1 0 0").into_items()[0], Reply::Integer(1));
    check_after_kill(server, shards, directory.path(), written);
}
