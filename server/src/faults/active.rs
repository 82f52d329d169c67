//! The faults that the environment asks for, and the ledger.
//!
//! Whatever goes wrong here would make a test worthless, so it ends the process.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    fs, io, mem,
    os::fd::AsRawFd,
    path::{Path, PathBuf, absolute},
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use rustix::process::{Signal, getpid, kill_process};
use tessera_proto::{Args, Mark, ReplyBuffer};

use super::{Access, Rule, SyncPoint, ledger::Ledger, plan::Plan};

/// How long places of one command lie apart when an order is broken: others need time to look between
/// them.
const BETWEEN_PLACES: Duration = Duration::from_micros(300);

static PLAN: LazyLock<Plan> = LazyLock::new(|| {
    let text = std::env::var("TESSERA_FAULT").unwrap_or_default();
    Plan::parse(&text).unwrap_or_else(|error| panic!("TESSERA_FAULT: {error}"))
});

static LEDGER: LazyLock<Option<Ledger>> = LazyLock::new(|| {
    let directory = PathBuf::from(std::env::var_os("TESSERA_LEDGER")?);
    Some(Ledger::begin(directory).unwrap_or_else(|error| panic!("TESSERA_LEDGER: {error}")))
});

/// Syncs until now: all, and those of the kind at which the process is to end.
static SYNCS: AtomicU64 = AtomicU64::new(0);

fn sure<T>(outcome: io::Result<T>) -> T {
    outcome.unwrap_or_else(|error| panic!("the ledger cannot be written: {error}"))
}

/// Lets `entry` be made if there is a ledger.
fn note<T>(entry: impl FnOnce(&Ledger) -> io::Result<T>) -> Option<T> {
    LEDGER.as_ref().map(|ledger| sure(entry(ledger)))
}

/// As the file system knows it, wherever the process is.
fn full(path: &Path) -> PathBuf {
    sure(absolute(path))
}

/// A change of a file that is under way; nothing without a ledger.
#[derive(Debug)]
pub(crate) struct Change {
    number: Option<u64>,
    is_sync: bool,
}

impl Change {
    fn write(number: Option<u64>) -> Self {
        Self { number, is_sync: false }
    }

    fn sync(number: Option<u64>) -> Self {
        Self { number, is_sync: true }
    }

    /// It has ended well.
    pub(crate) fn done(self) {
        let how = if self.is_sync { "synced" } else { "wrote" };
        self.end(how);
    }

    /// It was a write that has ended well and is durable, which makes it a sync as well.
    pub(crate) fn durable(self, point: SyncPoint) {
        count(point);
        self.end("lasting");
    }

    fn end(self, how: &str) {
        if let Some(number) = self.number {
            note(|ledger| ledger.end(how, number));
        }
    }
}

/// `file` has been opened for writing at `path`, and was made if it was not there.
pub(crate) fn opened(path: &Path, file: &impl AsRawFd) {
    note(|ledger| ledger.open(&full(path), file.as_raw_fd()));
}

/// `len` bytes of `file` are going to be written.
pub(crate) fn writing(file: &impl AsRawFd, offset: u64, len: usize) -> Change {
    Change::write(note(|ledger| ledger.write(file.as_raw_fd(), offset, len)))
}

/// Whether syncs of this kind are left out.
pub(crate) fn skips(point: SyncPoint) -> bool {
    PLAN.skipped.contains(&point)
}

/// `file` is going to be synced; nothing if that is to be left out.
pub(crate) fn syncing(point: SyncPoint, file: &impl AsRawFd) -> Option<Change> {
    count(point);
    (!skips(point)).then(|| Change::sync(note(|ledger| ledger.sync(file.as_raw_fd()))))
}

/// The names in a directory are going to be synced; nothing if that is to be left out.
pub(crate) fn syncing_directory(point: SyncPoint, directory: &Path) -> Option<Change> {
    count(point);
    (!skips(point)).then(|| Change::sync(note(|ledger| ledger.names(&full(directory)))))
}

pub(crate) fn making_directory(path: &Path) {
    note(|ledger| ledger.mkdir(&full(path)));
}

pub(crate) fn renaming(from: &Path, to: &Path) {
    note(|ledger| ledger.rename(&full(from), &full(to)));
}

pub(crate) fn linking(from: &Path, to: &Path) {
    note(|ledger| ledger.link(&full(from), &full(to)));
}

pub(crate) fn removing(path: &Path) {
    note(|ledger| ledger.unlink(&full(path)));
}

/// Counts a sync, and ends the process if it is the one.
fn count(point: SyncPoint) {
    if let Some((kind, number)) = PLAN.crash
        && kind.is_none_or(|kind| kind == point)
        && SYNCS.fetch_add(1, SeqCst) + 1 == number
    {
        // Nothing is done on the way out: that is what is to be shown.
        sure(kill_process(getpid(), Signal::KILL).map_err(Into::into));
        loop {
            thread::park();
        }
    }
}

/// What is reported of an operation that has ended with `result`, as the system reports it.
pub(crate) fn device(access: Access, result: i32) -> i32 {
    let Some(file) = &PLAN.device else { return result };
    let word = match access {
        Access::Write => "write",
        Access::Sync => "sync",
    };
    // No file, no fault.
    let fails = fs::read_to_string(file).is_ok_and(|text| text.contains(word));
    if fails { -libc::EIO } else { result }
}

/// Whether `rule` is to be broken.
#[inline]
pub(crate) fn breaks(rule: Rule) -> bool {
    PLAN.broken.contains(&rule)
}

/// Gives others time between two places that are taken, if an order is to be broken.
#[inline]
pub(crate) fn pause_between_places() {
    if breaks(Rule::ProgramOrder) || breaks(Rule::Cut) {
        thread::sleep(BETWEEN_PLACES);
    }
}

/// The last right answer to a GET.
struct Answer {
    reply: ReplyBuffer,
    /// The next one is given this answer, whatever is right then.
    is_for_next: bool,
}

/// Answers every other GET of a key with what the one before it was answered: `out` holds the right
/// answer from `start` on.
pub(crate) fn make_stale(args: &Args<'_>, out: &mut ReplyBuffer, start: Mark) {
    static ANSWERS: LazyLock<Mutex<HashMap<Vec<u8>, Answer>>> = LazyLock::new(Mutex::default);
    if !args[0].eq_ignore_ascii_case(b"get") {
        return;
    }
    let mut answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(old) = answers.get_mut(&args[1])
        && mem::take(&mut old.is_for_next)
    {
        out.truncate(start);
        out.append(&old.reply);
        return;
    }
    let mut reply = ReplyBuffer::new();
    reply.append_range(out, start..out.mark());
    answers.insert(args[1].to_vec(), Answer { reply, is_for_next: true });
}
