//! Connections whose command waits for data (BLPOP and its like; see [`tessera_engine::waiting`]).
//!
//! Such a command is a unit over the shards of its keys (see `loan`). If it finds something there, it
//! is answered at once; else it stands in the queues of its keys from the same step on, its place in
//! the connection's replies stays open, and the connection executes nothing more until it is filled.
//! That is done by what comes first: the answer of a shard that has served it, which travels like a
//! published message and as surely as a reply; its time; CLIENT UNBLOCK; the connection's end.
//!
//! Invariants:
//! - a connection waits with one command at most, and its session knows it exactly as long as the
//!   place is open;
//! - every end but the first takes the waiter's word before anything else, so that no element is
//!   taken for a client that does not get it.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use tessera_engine::{command::Effect, shard::Answer, waiting::Waiter};
use tessera_proto::{Mark, ReplyBuffer, ReplyWriter};

use crate::{
    loan::{Unit, Work},
    net::{CloseMode, Connection, ConnectionId},
    worker::Worker,
};

/// When a wait that has ended otherwise just now is looked at again, in microseconds.
const LOOK_AGAIN_US: i64 = 1_000;

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
    /// The command of a connection waits from now on.
    pub(crate) fn begin_wait(&mut self, id: ConnectionId, ticket: u64, waiter: Waiter) {
        let Some(connection) = self.network.connection(id).filter(|open| !open.is_closing()) else {
            waiter.give_up();
            return;
        };
        if let Some(due_us) = waiter.deadline_us() {
            self.waits.deadlines.insert((due_us, id.number(), ticket));
        }
        self.waits.count += 1;
        let is_over = connection.session.is_ended;
        connection.session.wait = Some(Wait { waiter, ticket });
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
        Some(wait)
    }

    /// Answers a command that has waited, which counts as executed only now, and lets its connection
    /// go on.
    fn answer_wait(
        &mut self,
        id: ConnectionId,
        Wait { waiter, ticket }: Wait,
        write: impl FnOnce(&mut ReplyWriter<'_>),
    ) {
        let Some(connection) = self.network.connection(id) else { return };
        let protocol = connection.session.protocol;
        self.metrics.executed(waiter.command(), 0, None);
        let mut reply = self.pool.take();
        write(&mut ReplyWriter::new(&mut reply, protocol));
        let whole = Mark::default()..reply.mark();
        self.arrive(id, ticket, 0, (&reply, whole));
        self.pool.put(reply);
        self.let_go_on(id);
    }

    /// Takes up what a shard has to say of a waiter of this worker.
    pub(crate) fn take_answer(&mut self, answer: Answer) {
        let waiter = match &answer {
            Answer::Reply(waiter, _) | Answer::Ready(waiter) => waiter,
        };
        let id = ConnectionId::from_number(waiter.client().connection);
        let Some(connection) = self.network.connection(id) else { return };
        if !connection.session.wait.as_ref().is_some_and(|wait| wait.waiter.is(waiter)) {
            return;
        }
        match answer {
            Answer::Reply(_, reply) => {
                if let Some(wait) = self.end_wait(id) {
                    self.answer_wait(id, wait, |out| out.raw(&reply));
                }
            }
            Answer::Ready(waiter) => self.try_again(id, waiter),
        }
    }

    /// Lets a waiter be tried over all shards of its keys.
    fn try_again(&mut self, id: ConnectionId, waiter: Waiter) {
        let Some(call) = waiter.call() else { return };
        // They were found when it began to wait.
        let Ok(shards) = self.splitter.shards(self.map, call.command, &call.args) else { return };
        let Some(connection) = self.network.connection(id) else { return };
        let Some(ticket) = connection.session.wait.as_ref().map(|wait| wait.ticket) else { return };
        let work = Work::Wait(waiter);
        self.loans.start_again(Unit { connection: id, ticket, shards, work });
    }

    /// Tries a waiter over the shards that are lent.
    pub(crate) fn try_wait(&mut self, id: ConnectionId, waiter: &Waiter) {
        if !waiter.try_claim() {
            return;
        }
        let mut reply = ReplyBuffer::new();
        let Some(call) = waiter.call() else { return };
        let outcome = self.loans.gathered_mut().execute(&call, &mut reply);
        // A shard cannot be missing: those of all its keys were asked for.
        let waits = matches!(outcome, Ok(Ok(Effect::Waits(_))) | Err(_));
        waiter.settle(!waits);
        if !waits && let Some(wait) = self.end_wait(id) {
            self.metrics.executed(waiter.command(), 0, None);
            let whole = Mark::default()..reply.mark();
            self.arrive(id, wait.ticket, 0, (&reply, whole));
            self.let_go_on(id);
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
            let id = ConnectionId::from_number(number);
            if !self.stop_waiting(id, Some(ticket), End::Timeout) && self.waits_at(id, ticket) {
                // A shard executes the command just now, or has: its answer is on its way.
                self.waits.deadlines.insert((now_us + LOOK_AGAIN_US, number, ticket));
            }
        }
    }

    fn waits_at(&mut self, id: ConnectionId, ticket: u64) -> bool {
        let wait = self.network.connection(id).and_then(|open| open.session.wait.as_ref());
        wait.is_some_and(|wait| wait.ticket == ticket)
    }

    /// Ends the wait of a connection, that of the reply at `ticket` if one is given; answers whether
    /// it has.
    pub(crate) fn stop_waiting(&mut self, id: ConnectionId, ticket: Option<u64>, end: End) -> bool {
        let Some(connection) = self.network.connection(id) else { return false };
        let Some(wait) = &connection.session.wait else { return false };
        if ticket.is_some_and(|ticket| ticket != wait.ticket) || !wait.waiter.give_up() {
            return false;
        }
        if let Some(wait) = self.end_wait(id) {
            let waiter = wait.waiter.clone();
            self.answer_wait(id, wait, |reply| match end {
                End::Timeout => waiter.reply_timeout(reply),
                End::Error => reply.error("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
            });
        }
        true
    }

    /// The client is gone, or the server stops: whatever the connection waits for is not taken any
    /// more.
    pub(crate) fn abandon_wait(&mut self, id: ConnectionId) {
        let Some(connection) = self.network.connection(id) else { return };
        let Connection { session, .. } = connection;
        if session.wait.as_ref().is_some_and(|wait| wait.waiter.give_up()) {
            self.end_wait(id);
            self.network.close(id, CloseMode::AfterReply);
        }
    }

    /// The connection is closed.
    pub(crate) fn forget_wait(&mut self, id: ConnectionId) {
        if let Some(wait) = self.end_wait(id) {
            wait.waiter.give_up();
        }
    }
}
