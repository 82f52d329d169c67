//! Commands whose keys live on several shards and must be worked on at one instant: RENAME, COPY,
//! MSETNX, LCS and their like.
//!
//! The worker of the connection, the *host*, borrows the keys:
//!
//! 1. It takes the one right to do so (see `right`), lets no round begin anywhere (see `cut`), and
//!    when nobody is within one, sends every other shard concerned a [`Loan`] with the keys' names
//!    and notes the tail of its own mailbox. Then rounds begin again. What has taken its place, or
//!    executed, is before the command on all shards, and all else behind it. From then on the host
//!    serves what is before the line, and what is behind it waits.
//! 2. A shard that executes a loan takes the keys' entries out of its table, puts them into the
//!    loan, and stands still: it executes no command, its own connections' included, until it has
//!    them back. Sending, receiving and handing out replies go on.
//! 3. When all loans are here, the host puts the entries into its own table, executes the command
//!    as if all its keys were its own, and takes the entries out again. That is one step of one
//!    thread: the instant at which the command takes effect.
//! 4. It sends the loans back. A shard puts back what it gets, or nothing where a key is gone, and
//!    goes on with what has waited.
//!
//! Invariants:
//! - at most one command of this kind is under way in the whole server, so that shards that stand
//!   still cannot wait for each other; the right is given up when the places of the returning
//!   loans are taken, so the next one's loans stand behind them;
//! - nobody sees a key missing that is only lent: its shard stands still, and at the host the keys
//!   are there only within one step;
//! - values change owner and are not copied.
//!
//! Queues of intents on single keys (`engine::transaction`) will let such commands run side by
//! side; this is their place.
#![forbid(unsafe_code)]

use std::{mem, thread};

use tessera_engine::keyspace::Held as Lent;
use tessera_proto::{Mark, RequestBatch};

use crate::{
    dispatch::Advance,
    net::{Connection, ConnectionId},
    parcel::{CallHeader, Message},
    session::{Held, Standing},
    worker::Worker,
};

/// Keys of one shard on their way to the host and back.
pub struct Loan {
    /// The worker that borrows.
    pub host: u32,
    /// The shard that owns the keys.
    pub owner: u32,
    /// The sender's time in microseconds since the Unix epoch.
    pub now_us: i64,
    keys: Vec<Vec<u8>>,
    entries: Vec<Entry>,
}

/// What one key of a loan holds in one database.
struct Entry {
    database: usize,
    key: usize,
    lent: Lent,
}

/// A command whose loans are under way.
pub(crate) struct Across {
    connection: ConnectionId,
    ticket: u64,
    header: CallHeader,
    request: RequestBatch,
    /// Boxed, since they travel as pointers.
    #[allow(clippy::vec_box)]
    loans: Vec<Box<Loan>>,
    missing: usize,
}

impl Worker {
    /// Begins a command over several shards, if this worker gets the right to.
    pub(crate) fn send_across(&mut self, id: ConnectionId, held: Held) -> Advance {
        let Some(connection) = self.network.connection(id) else { return Advance::Finished };
        let Connection { input, session, .. } = connection;
        session.held = Some(held);
        let args = session.parser.args(input.bytes());
        let loans = loans(self.own, self.map, self.now_us, held, &args, &mut self.positions);
        if !loans.iter().all(|loan| self.outboxes.has_credit(loan.owner)) {
            return Advance::NoCredit;
        }
        if !mem::take(&mut self.has_right) && !self.shared.right.take_or_wait(self.own) {
            return Advance::NoRight;
        }
        self.shared.cut.close();
        self.cutting = Some(id);
        Advance::Across
    }

    /// Draws the line: when no other worker is within a round, all loans take their places at once,
    /// and what comes behind them waits here as well as at their shards.
    pub(crate) fn try_cut(&mut self) {
        let Some(id) = self.cutting else { return };
        if !self.shared.cut.is_quiet(self.own) {
            // Whoever is within a round may be waiting for this processor.
            return thread::yield_now();
        }
        self.cutting = None;
        if !self.send_loans(id) {
            self.pass_right_on();
        }
        self.shared.cut.open();
    }

    /// Sends out the loans of the command that this connection holds; answers whether it did.
    fn send_loans(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.network.connection(id) else { return false };
        let Connection { input, session, .. } = connection;
        let Some(held) = session.held.filter(|_| session.standing == Standing::Stalled) else {
            return false;
        };
        let args = session.parser.args(input.bytes());
        let mut loans = loans(self.own, self.map, self.now_us, held, &args, &mut self.positions);
        if !loans.iter().all(|loan| self.outboxes.has_credit(loan.owner)) {
            self.without_credit.push(id);
            return false;
        }
        let mut request = RequestBatch::new();
        request.push(&args);
        let discard = session.discards_reply();
        let ticket = session.replies.wait(discard);
        input.consume(held.consumed);
        let header = CallHeader::new(held.command, session);
        session.note(held.command, self.now_us);
        let missing = loans.len();
        for loan in loans.drain(..) {
            self.outboxes.send_loan(loan);
        }
        self.across = Some(Across { connection: id, ticket, header, request, loans, missing });
        self.cut_at = Some(self.mail.tail());
        true
    }

    /// Lends the keys that another worker asks for, and stands still until they are back.
    pub(crate) fn lend(&mut self, mut loan: Box<Loan>) {
        self.outboxes.received(loan.host);
        self.shard.advance_clock_us(loan.now_us);
        let keyspace = &mut self.shard.keyspace;
        for database in 0..keyspace.database_count() {
            for (number, key) in loan.keys.iter().enumerate() {
                if let Some(lent) = keyspace.take(database, key) {
                    loan.entries.push(Entry { database, key: number, lent });
                }
            }
        }
        loan.now_us = loan.now_us.max(self.now_us);
        self.stands_still = true;
        self.outboxes.reply_to(loan.host, Message::Lent(loan));
    }

    /// Takes a loan that has come; with the last one the command executes.
    pub(crate) fn borrow(&mut self, loan: Box<Loan>) {
        self.outboxes.answered(loan.owner);
        self.shard.advance_clock_us(loan.now_us);
        let Some(across) = &mut self.across else { return };
        across.loans.push(loan);
        across.missing -= 1;
        if across.missing == 0 {
            self.execute_across();
        }
    }

    /// Executes the command over the own and the borrowed keys, and sends the loans back.
    fn execute_across(&mut self) {
        let Some(mut across) = self.across.take() else { return };
        self.cut_at = None;
        let databases = self.shard.keyspace.database_count();
        for loan in &mut across.loans {
            for entry in loan.entries.drain(..) {
                self.shard.keyspace.put(entry.database, &loan.keys[entry.key], entry.lent);
            }
        }
        let mut answer = self.pool.take();
        self.stopwatch.start();
        if let Some(args) = across.request.get(0) {
            self.execute_call(&across.header, args, &mut answer);
        }
        for mut loan in across.loans.drain(..) {
            for database in 0..databases {
                for (number, key) in loan.keys.iter().enumerate() {
                    if let Some(lent) = self.shard.keyspace.take(database, key) {
                        loan.entries.push(Entry { database, key: number, lent });
                    }
                }
            }
            self.outboxes.return_loan(loan);
        }
        self.pass_right_on();
        let whole = Mark::default()..answer.mark();
        self.arrive(across.connection, across.ticket, 0, (&answer, whole));
        self.pool.put(answer);
        if let Some(connection) = self.network.connection(across.connection)
            && connection.session.standing == Standing::Stalled
        {
            connection.session.standing = Standing::Ready;
            self.ready.push(across.connection);
        }
        self.serve_waiting();
    }

    /// Gives the right to borrow keys to the worker that has waited for it the longest.
    fn pass_right_on(&mut self) {
        match self.shared.right.pass_on() {
            Some(next) if next == self.own => self.get_right(),
            Some(next) => self.outboxes.pass_right(next),
            None => {}
        }
    }

    /// Takes the right to borrow keys for the connections that wait for it.
    pub(crate) fn get_right(&mut self) {
        self.has_right = true;
        self.wake_stalled(|worker| mem::take(&mut worker.without_right));
    }

    /// Passes on a right for which no connection has had a use: the one that waited is gone, or is
    /// held up by something else.
    pub(crate) fn give_up_unused_right(&mut self) {
        if mem::take(&mut self.has_right) {
            self.pass_right_on();
        }
    }

    /// Takes the own keys back and goes on.
    pub(crate) fn take_back(&mut self, mut loan: Box<Loan>) {
        for entry in mem::take(&mut loan.entries) {
            self.shard.keyspace.put(entry.database, &loan.keys[entry.key], entry.lent);
        }
        self.stands_still = false;
        self.outboxes.loan_is_back(loan);
    }
}

/// One loan for every other shard that owns a key of the command.
#[allow(clippy::vec_box)]
fn loans(
    own: u32,
    map: crate::route::ShardMap,
    now_us: i64,
    held: Held,
    args: &tessera_proto::Args<'_>,
    positions: &mut Vec<usize>,
) -> Vec<Box<Loan>> {
    positions.clear();
    // The positions were found before, when the command was routed.
    let found = held.command.keys.positions(args, positions);
    debug_assert!(found.is_ok(), "a command that was routed has keys");
    let mut loans: Vec<Box<Loan>> = Vec::new();
    for &at in positions.iter() {
        let (key, owner) = (&args[at], map.owner(&args[at]));
        if owner == own {
            continue;
        }
        let loan = match loans.iter_mut().find(|loan| loan.owner == owner) {
            Some(loan) => loan,
            None => {
                let (keys, entries) = (Vec::new(), Vec::new());
                loans.push(Box::new(Loan { host: own, owner, now_us, keys, entries }));
                loans.last_mut().expect("a loan has just been added")
            }
        };
        if !loan.keys.iter().any(|known| known == key) {
            loan.keys.push(key.to_vec());
        }
    }
    loans
}
