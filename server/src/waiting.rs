//! Connections whose command waits for data (BLPOP and its like; see [`tessera_engine::waiting`]).
//!
//! Such a command is a unit over the shards of its keys (see `loan`). If it finds something there, it
//! is answered at once; else it stands in the queues of its keys from the same step on, its place in
//! the connection's replies stays open, and the connection executes nothing more until it is filled.
//! That is done by what comes first: the answer of a shard that has served it, which travels like a
//! published message and as surely as a reply; its time; CLIENT UNBLOCK; the connection's end.
//!
//! A command counts as executed when it is answered: in the figures, in the slow log, and among its
//! client's commands. MONITOR shows it when it comes.
//!
//! Invariants:
//! - a connection waits with one command at most, and its session knows it exactly as long as the
//!   place is open;
//! - every end but the first claims the waiter before anything else, so that no element is taken for
//!   a client that does not get it; if that fails, the answer is on its way and ends the wait.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use tessera_engine::{command::CommandError, shard::Answer, waiting::Waiter};
use tessera_proto::{Mark, ReplyWriter};

use crate::{
    net::{CloseMode, Connection, ConnectionId},
    worker::Worker,
};

/// What a client reads that another one has unblocked with ERROR.
const UNBLOCKED: &str = "UNBLOCKED client unblocked via CLIENT UNBLOCK";

/// The waits of one worker's connections.
#[derive(Default)]
pub(crate) struct Waits {
    /// When a wait ends, in microseconds since the Unix epoch, with its connection's number and the
    /// place of its reply.
    deadlines: BTreeSet<(i64, u64, u64)>,
    count: usize,
}

impl Waits {
    /// How many connections wait.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// When the next wait ends, in microseconds since the Unix epoch.
    pub(crate) fn due_us(&self) -> i64 {
        self.deadlines.first().map_or(i64::MAX, |&(due_us, ..)| due_us)
    }
}

/// A command that waits, as its session knows it.
pub struct Wait {
    /// The command.
    pub waiter: Waiter,
    /// The place of its reply.
    pub ticket: u64,
    /// Nanoseconds that it took to find nothing.
    pub nanos: u64,
}

/// Why a wait is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As if its time were over.
    Timeout,
    /// With an error.
    Error,
}

impl Worker {
    /// The command of a connection waits from now on, which took `nanos` to find nothing.
    pub(crate) fn begin_wait(
        &mut self,
        id: ConnectionId,
        (ticket, nanos): (u64, u64),
        waiter: Waiter,
    ) {
        let Some(connection) = self.network.connection(id).filter(|open| !open.is_closing()) else {
            waiter.claim();
            self.end_coupling(&waiter);
            return;
        };
        if let Some(due_us) = waiter.deadline_us() {
            self.waits.deadlines.insert((due_us, id.number(), ticket));
        }
        self.waits.count += 1;
        let is_over = connection.session.is_ended;
        connection.session.wait = Some(Wait { waiter, ticket, nanos });
        connection.session.commands -= 1;
        if is_over {
            self.abandon_wait(id);
        }
    }

    /// The wait of a connection is over; answers what it was.
    fn end_wait(&mut self, id: ConnectionId) -> Option<Wait> {
        let wait = self.network.connection(id)?.session.wait.take()?;
        self.waits.count -= 1;
        if let Some(due_us) = wait.waiter.deadline_us() {
            self.waits.deadlines.remove(&(due_us, id.number(), wait.ticket));
        }
        self.end_coupling(&wait.waiter);
        Some(wait)
    }

    /// Answers a command that has waited, which counts as executed only now, and lets its connection
    /// go on. What it took is how long it looked for data and how long it is answered; the wait is not
    /// in it, and serving it counts with the command that brought the data.
    fn answer_wait(
        &mut self,
        id: ConnectionId,
        Wait { waiter, ticket, nanos }: Wait,
        error: Option<&CommandError>,
        write: impl FnOnce(&mut ReplyWriter<'_>),
    ) {
        let Some(connection) = self.network.connection(id) else { return };
        connection.session.commands += 1;
        let protocol = connection.session.protocol;
        self.stopwatch.start();
        let mut reply = self.pool.take();
        write(&mut ReplyWriter::new(&mut reply, protocol));
        let whole = Mark::default()..reply.mark();
        self.arrive(id, ticket, 0, (&reply, whole));
        self.pool.put(reply);
        let nanos = nanos + self.stopwatch.lap_ns();
        self.metrics.executed(waiter.command(), nanos, error);
        if self.watch.is_slow(nanos)
            && let Some(call) = waiter.call()
        {
            self.note_slow(Some(id), call.command, &call.args, nanos);
        }
        self.let_go_on(id);
    }

    /// Takes up what a shard has to say of a waiter of this worker.
    pub(crate) fn take_answer(&mut self, Answer { waiter, reply, error }: Answer) {
        let id = ConnectionId::from_number(waiter.client().connection);
        let Some(connection) = self.network.connection(id) else { return };
        let is_its = connection.session.wait.as_ref().is_some_and(|wait| wait.waiter.is(&waiter));
        if is_its && let Some(wait) = self.end_wait(id) {
            self.answer_wait(id, wait, error.as_ref(), |out| out.raw(&reply));
        }
    }

    /// Ends the waits whose time is over.
    #[inline]
    pub(crate) fn end_due_waits(&mut self) {
        if self.waits.due_us() <= self.now_us {
            self.end_waits_until(self.now_us);
        }
    }

    #[cold]
    fn end_waits_until(&mut self, now_us: i64) {
        while let Some(&place) = self.waits.deadlines.first() {
            let (due_us, number, ticket) = place;
            if due_us > now_us {
                return;
            }
            self.waits.deadlines.remove(&place);
            self.stop_waiting(ConnectionId::from_number(number), Some(ticket), End::Timeout);
        }
    }

    /// Ends the wait of a connection, that of the reply at `ticket` if one is given; answers whether
    /// it has.
    pub(crate) fn stop_waiting(&mut self, id: ConnectionId, ticket: Option<u64>, end: End) -> bool {
        let Some(connection) = self.network.connection(id) else { return false };
        let Some(wait) = &connection.session.wait else { return false };
        if ticket.is_some_and(|ticket| ticket != wait.ticket) || !wait.waiter.claim() {
            return false;
        }
        if let Some(wait) = self.end_wait(id) {
            let waiter = wait.waiter.clone();
            let error = (end == End::Error).then(|| CommandError::text(UNBLOCKED));
            self.answer_wait(id, wait, error.as_ref(), |reply| match end {
                End::Timeout => waiter.reply_timeout(reply),
                End::Error => reply.error(UNBLOCKED),
            });
        }
        true
    }

    /// The client is gone, or the server stops: whatever the connection waits for is not taken any
    /// more.
    pub(crate) fn abandon_wait(&mut self, id: ConnectionId) {
        let Some(connection) = self.network.connection(id) else { return };
        let Connection { session, .. } = connection;
        if session.wait.as_ref().is_some_and(|wait| wait.waiter.claim()) {
            self.end_wait(id);
            self.network.close(id, CloseMode::AfterReply);
        }
    }

    /// The connection is closed.
    pub(crate) fn forget_wait(&mut self, id: ConnectionId) {
        if let Some(wait) = self.end_wait(id) {
            wait.waiter.claim();
        }
    }
}
