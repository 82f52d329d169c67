//! A full disk, on a small file system of its own: what cannot be made durable is refused, nothing
//! that was acknowledged is lost, and when there is room again everything goes on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::{Client, Reply, Server, on_1_2_and_4_shards, skip};

on_1_2_and_4_shards!(
    the_log_refuses_writes_until_there_is_room,
    a_save_fails_and_the_next_one_succeeds,
    a_rewrite_fails_and_the_next_one_succeeds,
);

/// How long a server may take to notice something.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file system of some megabytes, unmounted when it is dropped.
pub(crate) struct SmallDisk(TempDir);

impl SmallDisk {
    /// Nothing where this process may not mount.
    pub(crate) fn mount(megabytes: usize) -> Option<Self> {
        let directory = TempDir::new().expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"]);
        mount.arg(directory.path()).stderr(Stdio::null());
        let is_mounted = mount.status().is_ok_and(|status| status.success());
        if !is_mounted {
            skip("a file system cannot be mounted here (needs root)");
        }
        is_mounted.then_some(Self(directory))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes so much of the room; it is given back by removing the file.
    pub(crate) fn fill(&self, megabytes: usize) -> PathBuf {
        let filler = self.path().join("filler");
        fs::write(&filler, vec![1; megabytes << 20]).expect("there is room");
        filler
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The test is over; what stays mounted is told by `mount`.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn start(shards: usize, disk: &SmallDisk, policy: &str) -> Server {
    Server::builder(shards)
        .option("dir", disk.path().display())
        .option("appendonly", "yes")
        .option("appendfsync", policy)
        .start()
}

/// Waits until `holds`.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not yet: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn value() -> String {
    "x".repeat(8 << 10)
}

/// Writes keys until one is refused; how many were not.
fn write_until_refused(client: &mut Client) -> i64 {
    let value = value();
    for written in 0..100_000 {
        if let Reply::Error(text) = client.call(["SET", &format!("key:{written}"), &value]) {
            assert!(text.starts_with("MISCONF"), "{text}");
            return written;
        }
    }
    panic!("the disk does not fill");
}

/// Asserts that a server that ends and starts again has so many keys.
fn check_after_end(mut server: Server, shards: usize, disk: &SmallDisk, policy: &str, keys: i64) {
    server.signal(Signal::TERM);
    assert!(server.wait_for_end().success());
    let server = start(shards, disk, policy);
    assert_eq!(server.connect().run("DBSIZE"), Reply::Integer(keys));
}

fn the_log_refuses_writes_until_there_is_room(shards: usize) {
    let Some(disk) = SmallDisk::mount(40) else { return };
    let server = start(shards, &disk, "everysec");
    let mut client = server.connect();
    let filler = disk.fill(24);
    let written = write_until_refused(&mut client);
    assert_eq!(server.info("aof_last_write_status"), "err");
    assert_eq!(client.call(["GET", "key:0"]), Reply::bulk(value()));
    everything_that_writes_is_refused(&mut client);
    fs::remove_file(&filler).expect("it is there");
    wait_until("writes are taken again", || client.run("SET after room") == Reply::ok());
    assert_eq!(server.info("aof_last_write_status"), "ok");
    // Its last words are durable when it has ended well.
    check_after_end(server, shards, &disk, "everysec", written + 1);
}

/// While the log cannot be written every way to write is closed, and every way to read open.
fn everything_that_writes_is_refused(client: &mut Client) {
    let refused = "MISCONF Errors writing to the AOF file: No space left on device";
    let error = |text: &str| Reply::Error(text.into());
    assert_eq!(client.run("DEL key:0"), error(refused));
    assert_eq!(client.run("PING"), error(refused));
    let script = "return redis.pcall('SET', KEYS[1], 'x')";
    assert_eq!(client.call(["EVAL", script, "1", "key:0"]), error(refused));
    assert_eq!(
        client.call(["EVAL", "return #redis.call('GET', KEYS[1])", "1", "key:0"]),
        Reply::Integer(8 << 10)
    );
    client.run("MULTI");
    assert_eq!(client.run("SET key:0 x"), error(refused));
    let aborted = "EXECABORT Transaction discarded because of previous errors.";
    assert_eq!(client.run("EXEC"), error(aborted));
    client.run("MULTI");
    client.run("STRLEN key:0");
    assert_eq!(client.run("EXEC"), Reply::Array(vec![Reply::Integer(8 << 10)]));
}

/// Text that does not become shorter when it is compressed.
fn noise(n: u64) -> String {
    (0..40).map(|i| format!("{:x}", (n * 41 + i).wrapping_mul(0x9E37_79B9_7F4A_7C15))).collect()
}

fn fill_with_noise(client: &mut Client, keys: u64) {
    for n in 0..keys {
        client.push(["SET", &format!("key:{n}"), &noise(n)]);
    }
    client.flush();
    client.receive_all(keys as usize);
}

fn a_save_fails_and_the_next_one_succeeds(shards: usize) {
    let Some(disk) = SmallDisk::mount(3) else { return };
    let server = Server::builder(shards).option("dir", disk.path().display()).start();
    let mut client = server.connect();
    fill_with_noise(&mut client, 12_000);
    let save = |client: &mut Client| {
        client.run("BGSAVE");
        wait_until("the save ends", || server.info("rdb_bgsave_in_progress") == "0");
        server.info("rdb_last_bgsave_status")
    };
    assert_eq!(save(&mut client), "err");
    let log = server.log();
    assert!(log.to_lowercase().contains("no ") && log.contains("Write error saving DB"), "{log}");
    assert_eq!(fs::read_dir(disk.path()).expect("the directory").count(), 0);
    assert_eq!(client.run("SAVE"), Reply::Error("ERR".into()));
    assert_eq!(client.run("DBSIZE"), Reply::Integer(12_000));
    assert_eq!(client.run("FLUSHALL"), Reply::ok());
    client.run("SET key value");
    assert_eq!(save(&mut client), "ok");
    assert!(disk.path().join("dump.rdb").exists());
}

fn a_rewrite_fails_and_the_next_one_succeeds(shards: usize) {
    let Some(disk) = SmallDisk::mount(40) else { return };
    let server = start(shards, &disk, "everysec");
    let mut client = server.connect();
    fill_with_noise(&mut client, 12_000);
    wait_until("all is written", || server.info("aof_buffer_length") == "0");
    // The log has its room; what is left is not enough for a base.
    let free = rustix::fs::statvfs(disk.path()).map(|stat| stat.f_bavail * stat.f_bsize);
    let free = free.expect("a file system") as usize >> 20;
    let filler = disk.fill(free - 1);
    let started = Reply::Simple("Background append only file rewriting started".into());
    assert_eq!(client.run("BGREWRITEAOF"), started);
    wait_until("the rewrite fails", || server.info("aof_last_bgrewrite_status") == "err");
    assert_eq!(server.info("aof_rewrite_in_progress"), "0");
    let names: Vec<_> = fs::read_dir(disk.path().join("appendonlydir"))
        .expect("the log's directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    assert!(names.iter().all(|name| !name.contains("temp") && !name.contains("base")), "{names:?}");
    // The log itself is as good as before.
    assert_eq!(client.run("SET small value"), Reply::ok());
    assert_eq!(client.run("DBSIZE"), Reply::Integer(12_001));
    fs::remove_file(&filler).expect("it is there");
    assert_eq!(client.run("BGREWRITEAOF"), started);
    wait_until("the rewrite succeeds", || server.info("aof_rewrites") == "1");
    assert_eq!(server.info("aof_last_bgrewrite_status"), "ok");
    check_after_end(server, shards, &disk, "everysec", 12_001);
}
