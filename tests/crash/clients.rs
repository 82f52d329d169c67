//! The clients of a server that is going to die, and what they know when it has.
//!
//! A *writer* takes steps. Each is one pipeline of commands over as many shards as there are, in this
//! order: a datum, a pointer to it, an MSET, a transaction, a script, and an element of a list; all
//! of them say the number of the step. A *follower* reads pointers and writes down what it has seen. A
//! *mover* takes the elements of a writer's list to another list, on another shard or not, with BLMOVE
//! and its like, which wait for them or find them there (see `moved`).
//!
//! What comes back must be the beginning of the one order of all this. [`Clients::compare`] says what
//! is wrong if it is not, or if something is missing that was promised to be there.

use std::{
    fmt, io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use super::moved::{self, Lists};
use crate::harness::{Client, Reply, Server};

pub(super) const WRITERS: usize = 3;
const FOLLOWERS: usize = 2;
/// Steps of a writer that are under way at a time.
const DEPTH: i64 = 4;
/// Data of so many last steps are there.
const DATA: i64 = 16;
/// Where the elements of a writer's `list` are moved: with several shards, to another one.
const TAKEN: &str = "taken";
const SCRIPT: &str = "redis.call('SET', KEYS[1], ARGV[1]) redis.call('SET', KEYS[2], ARGV[1])";

/// What comes back, or came back before: the last step that each part of a step tells of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Steps {
    pointer: i64,
    set: i64,
    transaction: i64,
    script: i64,
    list: i64,
}

impl Steps {
    fn in_order(self) -> [i64; 5] {
        let Steps { pointer, set, transaction, script, list } = self;
        [pointer, set, transaction, script, list]
    }

    /// The last step that is whole.
    fn whole(self) -> i64 {
        self.in_order().into_iter().min().unwrap_or(0)
    }
}

/// What is known of one writer.
#[derive(Default)]
struct Writer {
    /// The last step that was begun.
    begun: AtomicI64,
    /// The last step that was acknowledged as a whole.
    acknowledged: AtomicI64,
    /// The last step that somebody has seen.
    seen: AtomicI64,
    /// The last step that was promised to be durable.
    settled: AtomicI64,
    /// The last element that was acknowledged as moved, and the last one that was promised so.
    moved: AtomicI64,
    moved_settled: AtomicI64,
    /// What the last start has found.
    found: Mutex<Steps>,
}

/// All clients of one data directory, through all lives of its server.
#[derive(Default)]
pub(super) struct Clients {
    writers: [Writer; WRITERS],
    /// For each follower and writer, the last note that was acknowledged.
    noted: [[AtomicI64; WRITERS]; FOLLOWERS],
    /// No writer begins a step behind this one.
    gate: AtomicI64,
    is_over: AtomicBool,
}

/// Why a comparison has not come to a good end.
#[derive(Debug)]
pub(super) enum Objection {
    /// What has come back is not what should have.
    Wrong(String),
    /// The server was gone before it had answered everything.
    Gone(io::Error),
}

impl fmt::Display for Objection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Objection::Wrong(what) => out.write_str(what),
            Objection::Gone(error) => write!(out, "the server is gone: {error}"),
        }
    }
}

impl From<io::Error> for Objection {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

/// An objection, unless `holds`.
fn demand(holds: bool, text: impl FnOnce() -> String) -> Result<(), Objection> {
    if holds { Ok(()) } else { Err(Objection::Wrong(text())) }
}

impl Clients {
    /// Lets all clients work on `server` until it dies, while `meanwhile` runs.
    pub(super) fn work(&self, server: &mut Server, meanwhile: impl FnOnce(&mut Server)) {
        self.is_over.store(false, SeqCst);
        let connect = || server.try_connect().ok();
        let of_writers: Vec<_> = (0..WRITERS).map(|_| connect()).collect();
        let of_followers: Vec<_> = (0..FOLLOWERS).map(|_| connect()).collect();
        let of_movers: Vec<_> = (0..WRITERS).map(|_| connect()).collect();
        thread::scope(|scope| {
            for (writer, client) in of_writers.into_iter().enumerate() {
                scope.spawn(move || client.and_then(|client| self.write(client, writer)));
            }
            for (follower, client) in of_followers.into_iter().enumerate() {
                scope.spawn(move || client.and_then(|client| self.follow(client, follower)));
            }
            for (writer, client) in of_movers.into_iter().enumerate() {
                scope.spawn(move || client.and_then(|client| self.move_elements(client, writer)));
            }
            meanwhile(server);
            self.is_over.store(true, SeqCst);
        });
    }

    /// Lets the writers go so many steps further.
    pub(super) fn open_gate(&self, steps: i64) {
        self.gate.fetch_add(steps, SeqCst);
    }

    /// Whether all writers have gone `steps` steps since the last start.
    pub(super) fn have_gone(&self, steps: i64) -> bool {
        self.writers.iter().all(|writer| {
            let begin = writer.found().whole();
            writer.acknowledged.load(SeqCst) >= begin + steps
        })
    }

    /// Whether nothing is under way: all writers have come to the gate.
    pub(super) fn are_at_gate(&self) -> bool {
        let gate = self.gate.load(SeqCst);
        self.writers.iter().all(|writer| writer.acknowledged.load(SeqCst) >= gate)
    }

    /// What is acknowledged now, steps and moves of each writer's elements; to be given to
    /// [`settle`](Self::settle).
    pub(super) fn acknowledged(&self) -> [(i64, i64); WRITERS] {
        std::array::from_fn(|number| {
            let writer = &self.writers[number];
            (writer.acknowledged.load(SeqCst), writer.moved.load(SeqCst))
        })
    }

    /// The server has promised that these are durable.
    pub(super) fn settle(&self, known: [(i64, i64); WRITERS]) {
        for (writer, (step, moved)) in self.writers.iter().zip(known) {
            writer.settled.fetch_max(step, SeqCst);
            writer.moved_settled.fetch_max(moved, SeqCst);
        }
    }

    /// Takes steps until the server is gone.
    fn write(&self, mut client: Client, writer: usize) -> Option<()> {
        let known = &self.writers[writer];
        // A step that was cut off in the middle is done again.
        let mut step = known.found().whole();
        while !self.is_over.load(SeqCst) {
            if step >= self.gate.load(SeqCst) {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            for next in step + 1..=step + DEPTH {
                push_step(&mut client, writer, next);
            }
            known.begun.store(step + DEPTH, SeqCst);
            client.try_flush().ok()?;
            for next in step + 1..=step + DEPTH {
                for _ in 0..REPLIES {
                    let reply = client.try_receive().ok()?;
                    assert!(!matches!(reply, Reply::Error(_)), "step {next}: {reply:?}");
                }
                known.acknowledged.store(next, SeqCst);
            }
            step += DEPTH;
        }
        Some(())
    }

    /// Moves the elements of a writer's list until the server is gone.
    fn move_elements(&self, mut client: Client, writer: usize) -> Option<()> {
        let (from, to) = (key("list", writer), key(TAKEN, writer));
        for line in moved::WAYS.iter().cycle() {
            if self.is_over.load(SeqCst) {
                break;
            }
            client.push(line.replace("FROM", &from).replace("TO", &to).split(' '));
            client.try_flush().ok()?;
            let reply = client.try_receive().ok()?;
            // The server ends the waits of its clients when it is asked to stop.
            assert!(!matches!(reply, Reply::Error(_)), "{line}: {reply:?}");
            self.writers[writer].moved.fetch_max(step_of(&reply), SeqCst);
        }
        Some(())
    }

    /// Follows the pointers until the server is gone.
    fn follow(&self, mut client: Client, follower: usize) -> Option<()> {
        for writer in (0..WRITERS).cycle() {
            if self.is_over.load(SeqCst) {
                break;
            }
            client.push(["GET", &format!("pointer:{writer}")]);
            client.try_flush().ok()?;
            let step = step_of(&client.try_receive().ok()?);
            self.writers[writer].seen.fetch_max(step, SeqCst);
            // What has not changed is not noted again: nothing is written when nobody writes.
            if step > self.noted[follower][writer].load(SeqCst) {
                client.push(["SET", &format!("note:{follower}:{writer}"), &step.to_string()]);
                client.try_flush().ok()?;
                client.try_receive().ok()?;
                self.noted[follower][writer].store(step, SeqCst);
            }
            thread::sleep(Duration::from_micros(200));
        }
        Some(())
    }

    /// Compares what has come back with what is known. With `always` everything counts that anybody
    /// was told; otherwise what was promised. What has come back is what counts from then on.
    ///
    /// # Errors
    ///
    /// What is wrong, or the server has died meanwhile.
    pub(super) fn compare(&self, server: &Server, always: bool) -> Result<(), Objection> {
        let mut client = server.try_connect()?;
        for (number, writer) in self.writers.iter().enumerate() {
            let steps = read_steps(&mut client, number)?;
            writer.compare(steps, always).map_err(|what| {
                Objection::Wrong(format!("writer {number}: {what}; {steps:?} came back"))
            })?;
            check_data(&mut client, number, steps.pointer)?;
            let moved = read_lists(&mut client, number)?.check(steps.list);
            let moved =
                moved.map_err(|what| Objection::Wrong(format!("writer {number}: {what}")))?;
            writer.compare_moved(moved, always)?;
            for (follower, noted) in self.noted.iter().enumerate() {
                let note = read(&mut client, &format!("note:{follower}:{number}"))?;
                demand(note <= steps.pointer, || {
                    format!("follower {follower} has seen {note} of {number}, {steps:?} came back")
                })?;
                let noted = noted[number].load(SeqCst);
                demand(!always || note >= noted, || {
                    format!("follower {follower} has lost note {noted} of {number}: {note}")
                })?;
            }
            writer.begin_again(steps);
        }
        let whole = self.writers.iter().map(|writer| writer.found().whole());
        self.gate.store(whole.max().unwrap_or(0), SeqCst);
        for (follower, noted) in self.noted.iter().enumerate() {
            for (number, noted) in noted.iter().enumerate() {
                noted.store(read(&mut client, &format!("note:{follower}:{number}"))?, SeqCst);
            }
        }
        Ok(())
    }
}

impl Writer {
    fn found(&self) -> Steps {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compare(&self, steps: Steps, always: bool) -> Result<(), Objection> {
        let in_order = steps.in_order();
        let falls_by_one =
            in_order.is_sorted_by(|one, next| one >= next) && in_order[4] >= in_order[0] - 1;
        demand(falls_by_one, || "an effect without its cause".into())?;
        let begun = self.begun.load(SeqCst);
        demand(steps.pointer <= begun, || format!("only {begun} steps were begun"))?;
        let before = self.found();
        let lost = in_order.iter().zip(before.in_order()).any(|(&now, before)| now < before);
        demand(!lost, || format!("{before:?} had come back before"))?;
        let whole = steps.whole();
        let settled = self.settled.load(SeqCst);
        demand(whole >= settled, || format!("step {settled} was promised to be durable"))?;
        if always {
            let acknowledged = self.acknowledged.load(SeqCst);
            demand(whole >= acknowledged, || format!("step {acknowledged} was acknowledged"))?;
            let seen = self.seen.load(SeqCst);
            demand(steps.pointer >= seen, || format!("step {seen} was seen"))?;
        }
        Ok(())
    }

    /// The same for the last element that has been moved.
    fn compare_moved(&self, moved: i64, always: bool) -> Result<(), Objection> {
        let settled = self.moved_settled.load(SeqCst);
        demand(moved >= settled, || {
            format!("element {settled} was promised to be moved for good, up to {moved} are")
        })?;
        let acknowledged = self.moved.load(SeqCst);
        demand(!always || moved >= acknowledged, || {
            format!("element {acknowledged} was acknowledged as moved, up to {moved} are")
        })?;
        self.moved.store(moved, SeqCst);
        self.moved_settled.store(moved, SeqCst);
        Ok(())
    }

    /// What has come back is what counts from now on.
    fn begin_again(&self, steps: Steps) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = steps;
        for known in [&self.begun, &self.seen] {
            known.store(steps.pointer, SeqCst);
        }
        for known in [&self.acknowledged, &self.settled] {
            known.store(steps.whole(), SeqCst);
        }
    }
}

/// Replies to one step.
const REPLIES: usize = 9;

fn key(name: &str, writer: usize) -> String {
    format!("{name}:{writer}")
}

fn push_step(client: &mut Client, writer: usize, step: i64) {
    let value = step.to_string();
    let key = |name| key(name, writer);
    client.push(["SET", &format!("data:{writer}:{}", step % DATA), &value]);
    client.push(["SET", &key("pointer"), &value]);
    client.push(["MSET", &key("one"), &value, &key("two"), &value, &key("three"), &value]);
    client.push(["MULTI"]);
    client.push(["SET", &key("first"), &value]);
    client.push(["SET", &key("second"), &value]);
    client.push(["EXEC"]);
    client.push(["EVAL", SCRIPT, "2", &key("left"), &key("right"), &value]);
    client.push(["LPUSH", &key("list"), &value]);
}

/// The step that a reply tells of; 0 for none.
fn step_of(reply: &Reply) -> i64 {
    match reply {
        Reply::Bulk(digits) => String::from_utf8_lossy(digits).parse().expect("a step"),
        other => {
            assert!(other.is_null(), "{other:?}");
            0
        }
    }
}

/// The step that is the answer to a question.
fn ask(client: &mut Client, words: &[&str]) -> io::Result<i64> {
    client.push(words);
    client.try_flush()?;
    Ok(step_of(&client.try_receive()?))
}

fn read(client: &mut Client, key: &str) -> io::Result<i64> {
    ask(client, &["GET", key])
}

/// The steps of a writer that have come back, if no command is half there.
fn read_steps(client: &mut Client, writer: usize) -> Result<Steps, Objection> {
    let mut all = |names: &[&str]| {
        let steps: Vec<_> = names
            .iter()
            .map(|name| read(client, &format!("{name}:{writer}")))
            .collect::<io::Result<_>>()?;
        let is_whole = steps.iter().all(|&step| step == steps[0]);
        demand(is_whole, || format!("half there: {names:?} of writer {writer} are {steps:?}"))?;
        Ok::<_, Objection>(steps[0])
    };
    let pointer = all(&["pointer"])?;
    let set = all(&["one", "two", "three"])?;
    let transaction = all(&["first", "second"])?;
    let script = all(&["left", "right"])?;
    let list = read_lists(client, writer)?.newest();
    Ok(Steps { pointer, set, transaction, script, list })
}

/// The elements of a writer, wherever they are.
fn read_lists(client: &mut Client, writer: usize) -> io::Result<Lists> {
    let mut elements = |name| {
        client.push(["LRANGE", &key(name, writer), "0", "-1"]);
        client.try_flush()?;
        Ok::<_, io::Error>(client.try_receive()?.into_items().iter().map(step_of).collect())
    };
    Ok(Lists { waiting: elements("list")?, moved: elements(TAKEN)? })
}

/// Whether the pointer has its datum, and those before it theirs.
fn check_data(client: &mut Client, writer: usize, pointer: i64) -> Result<(), Objection> {
    for step in (pointer - DATA + 2..=pointer).filter(|&step| step > 0) {
        let datum = read(client, &format!("data:{writer}:{}", step % DATA))?;
        demand(datum == step, || {
            format!("pointer {pointer} of writer {writer}: the datum of {step} is {datum}")
        })?;
    }
    Ok(())
}
