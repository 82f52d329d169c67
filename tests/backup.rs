//! Backups: data directories that are copied while their server runs, and restored. The README says
//! how; here it is done, while clients transfer money, and the sum is counted afterwards.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use fastrand::Rng;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    check::{checked, rewrite},
    harness::{Client, Reply, Server, on_1_2_and_4_shards, scaled},
};

on_1_2_and_4_shards!(
    a_saved_file_is_a_backup,
    a_copy_is_a_backup,
    a_copy_is_a_backup_while_the_log_is_rewritten,
    files_copied_one_by_one_are_a_backup_once_mended,
    hard_links_are_a_backup_once_mended,
);

const ACCOUNTS: usize = 12;
const START: i64 = 1_000;
const TELLERS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

fn account(number: usize) -> String {
    format!("account:{number}")
}

/// A server with a log, and clients that transfer money in it.
struct Bank {
    directory: TempDir,
    server: Server,
    stop: Arc<AtomicBool>,
    transfers: Arc<AtomicU64>,
    tellers: Vec<JoinHandle<()>>,
}

impl Bank {
    fn open(shards: usize, policy: &str) -> Self {
        let directory = TempDir::new().expect("a directory");
        let server = Server::builder(shards)
            .option("dir", directory.path().display())
            .option("appendonly", "yes")
            .option("appendfsync", policy)
            .option("auto-aof-rewrite-percentage", "0")
            .start();
        let mut client = server.connect();
        for number in 0..ACCOUNTS {
            client.call(["SET", &account(number), &START.to_string()]);
        }
        client.run("SET transfers 0");
        if policy != "always" {
            // What the bank has begun with is durable.
            rewrite(&server);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let transfers = Arc::new(AtomicU64::new(0));
        let tellers = (0..TELLERS)
            .map(|teller| {
                let (client, stop) = (server.connect(), Arc::clone(&stop));
                let transfers = Arc::clone(&transfers);
                thread::spawn(move || transfer(client, teller, &stop, &transfers))
            })
            .collect();
        let bank = Self { directory, server, stop, transfers, tellers };
        bank.wait_for(50);
        bank
    }

    /// Waits for so many more transfers.
    fn wait_for(&self, transfers: u64) {
        let wanted = self.transfers.load(SeqCst) + transfers;
        let deadline = Instant::now() + PATIENCE;
        while self.transfers.load(SeqCst) < wanted {
            assert!(Instant::now() < deadline, "the tellers do not come on");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn log(&self) -> std::path::PathBuf {
        self.directory.path().join("appendonlydir")
    }

    /// Ends the server by force; its directory.
    fn close(mut self) -> TempDir {
        self.stop.store(true, SeqCst);
        self.tellers.into_iter().for_each(|teller| teller.join().expect("a teller ends"));
        self.server.signal(Signal::KILL);
        self.server.wait_for_end();
        self.directory
    }
}

/// One teller: each transfer is one transaction, which counts itself.
fn transfer(mut client: Client, teller: usize, stop: &AtomicBool, transfers: &AtomicU64) {
    let mut random = Rng::with_seed(teller as u64);
    while !stop.load(SeqCst) {
        let [from, to] = [0; 2].map(|_| account(random.usize(..ACCOUNTS)));
        let amount = random.i64(1..100).to_string();
        client.push(["MULTI"]);
        client.push(["DECRBY", &from, &amount]);
        client.push(["INCRBY", &to, &amount]);
        client.push(["INCR", "transfers"]);
        client.push(["EXEC"]);
        client.flush();
        let replies = client.receive_all(5);
        assert!(matches!(replies[4], Reply::Array(_)), "{replies:?}");
        transfers.fetch_add(1, SeqCst);
    }
}

/// Starts servers with other numbers of shards from copies of `directory`, and counts the money; how
/// many transfers have come back.
#[track_caller]
fn restore(directory: &Path, appendonly: &str) -> u64 {
    let mut restored = Vec::new();
    for shards in [1, 2, 4] {
        let copy = TempDir::new().expect("a directory");
        copy_tree(directory, copy.path());
        let server = Server::builder(shards)
            .option("dir", copy.path().display())
            .option("appendonly", appendonly)
            .start();
        let mut client = server.connect();
        let number = |client: &mut Client, key: &str| -> i64 {
            client.call(["GET", key]).into_text().parse().expect("a number")
        };
        let sum: i64 = (0..ACCOUNTS).map(|each| number(&mut client, &account(each))).sum();
        assert_eq!(sum, START * ACCOUNTS as i64, "{shards} shards");
        restored.push(number(&mut client, "transfers") as u64);
        // It goes on from there.
        assert!(matches!(client.run("INCR transfers"), Reply::Integer(_)));
    }
    assert!(restored.iter().all(|transfers| *transfers == restored[0]), "{restored:?}");
    restored[0]
}

/// Copies files and directories, as `cp -r` does.
fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_tree(&path, &copy);
        } else {
            fs::copy(&path, &copy).expect("a copy");
        }
    }
}

fn a_saved_file_is_a_backup(shards: usize) {
    let bank = Bank::open(shards, "everysec");
    for _ in 0..scaled(2) {
        let at_least = bank.transfers.load(SeqCst);
        let mut client = bank.server.connect();
        let saves = bank.server.info("rdb_saves");
        assert!(!matches!(client.run("BGSAVE"), Reply::Error(_)));
        let deadline = Instant::now() + PATIENCE;
        while bank.server.info("rdb_saves") == saves {
            assert!(Instant::now() < deadline, "nothing is saved");
            thread::sleep(Duration::from_millis(5));
        }
        let backup = TempDir::new().expect("a directory");
        let name = "dump.rdb";
        fs::copy(bank.directory.path().join(name), backup.path().join(name)).expect("a copy");
        for appendonly in ["no", "yes"] {
            assert!(restore(backup.path(), appendonly) >= at_least);
        }
        bank.wait_for(20);
    }
    bank.close();
}

/// Copies the log with `--copy-to`, and restores the copy.
fn copy_and_restore(bank: &Bank, options: &[&str], is_always: bool) {
    let at_least = bank.transfers.load(SeqCst);
    let backup = TempDir::new().expect("a directory");
    let to = backup.path().join("appendonlydir");
    let mut all = vec!["--copy-to"];
    let to = to.to_string_lossy();
    all.push(&to);
    all.extend(options);
    let text = checked(bank.directory.path(), &all, Some(0));
    assert!(text.contains("It is whole"), "{text}");
    let restored = restore(backup.path(), "yes");
    assert!(!is_always || restored >= at_least, "{restored} of {at_least} transfers are there");
}

fn a_copy_is_a_backup(shards: usize) {
    for policy in ["always", "everysec"] {
        let bank = Bank::open(shards, policy);
        for options in [&[][..], &["--link"]] {
            copy_and_restore(&bank, options, policy == "always");
            bank.wait_for(20);
        }
        let done = bank.transfers.load(SeqCst);
        let own = bank.close();
        assert!(restore(own.path(), "yes") >= if policy == "always" { done } else { 0 });
    }
}

fn a_copy_is_a_backup_while_the_log_is_rewritten(shards: usize) {
    let bank = Bank::open(shards, "always");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                rewrite(&bank.server);
            }
        });
        for _ in 0..scaled(3) {
            copy_and_restore(&bank, &["--link"], true);
        }
        is_over.store(true, SeqCst);
    });
    let done = bank.transfers.load(SeqCst);
    assert!(restore(bank.close().path(), "yes") >= done);
}

fn files_copied_one_by_one_are_a_backup_once_mended(shards: usize) {
    let bank = Bank::open(shards, "always");
    rewrite(&bank.server);
    for _ in 0..scaled(2) {
        bank.wait_for(20);
        let at_least = bank.transfers.load(SeqCst);
        let backup = TempDir::new().expect("a directory");
        copy_tree(&bank.log(), &backup.path().join("appendonlydir"));
        checked(backup.path(), &["--fix", "--yes"], Some(0));
        assert!(restore(backup.path(), "yes") >= at_least);
    }
    bank.close();
}

fn hard_links_are_a_backup_once_mended(shards: usize) {
    let bank = Bank::open(shards, "always");
    rewrite(&bank.server);
    bank.wait_for(20);
    let at_least = bank.transfers.load(SeqCst);
    let backup = TempDir::new().expect("a directory");
    let linked = backup.path().join("appendonlydir");
    fs::create_dir(&linked).expect("a directory");
    for entry in fs::read_dir(bank.log()).expect("the log's directory") {
        let entry = entry.expect("an entry");
        fs::hard_link(entry.path(), linked.join(entry.file_name())).expect("a link");
    }
    // The server goes on writing to the same files.
    bank.wait_for(50);
    checked(backup.path(), &["--fix", "--yes"], Some(0));
    bank.wait_for(20);
    assert!(restore(backup.path(), "yes") >= at_least);
    // Its own files are as they were.
    let done = bank.transfers.load(SeqCst);
    assert!(restore(bank.close().path(), "yes") >= done);
}
