//! What a worker does with its mail: executes others' parcels, and hands out the replies of its own.
#![forbid(unsafe_code)]

use std::{mem, ops::Range, thread};

use tessera_engine::{command::Run, keyspace::KeyHash, shard::Call};
use tessera_proto::{Args, Mark, ReplyBuffer, ReplyWriter};

use crate::{
    mesh::mailbox::Next,
    net::{CloseMode, Connection, ConnectionId},
    parcel::{CallHeader, Executor, Message, Parcel},
    session::Standing,
    session_commands::{Code, PART_PROTOCOL},
    worker::Worker,
};

/// How often in a row a worker may find a place unfilled before it gives up its processor.
const UNFILLED_WAITS_MAX: u32 = 3;

impl Worker {
    /// Serves everything that stands before the mailbox's tail as it is now. Answers whether all of
    /// it could be served: if a place is taken and not yet filled, what stands behind it waits, and
    /// while the shard's keys are lent, everything does.
    pub(crate) fn serve_mail(&mut self) -> bool {
        let tail = self.mail.tail();
        let mut complete = true;
        while self.mail.head() < tail {
            let place = self.mail.head();
            match self.mail.next() {
                Next::Message(message) => {
                    self.unfilled_waits = 0;
                    let is_behind_cut = self.cut_at.is_some_and(|cut| place >= cut);
                    self.receive(message, is_behind_cut || self.stands_still);
                }
                Next::Unfilled | Next::Empty => {
                    self.metrics.counters.unfilled_stalls.add(1);
                    self.let_sender_fill();
                    complete = false;
                    break;
                }
            }
        }
        complete && !self.stands_still && self.cut_at.is_none()
    }

    /// A place is filled within nanoseconds, unless its sender has lost its processor just then:
    /// if there are more workers than processors, it may be waiting for this one.
    fn let_sender_fill(&mut self) {
        self.unfilled_waits += 1;
        if self.unfilled_waits > UNFILLED_WAITS_MAX {
            thread::yield_now();
        }
    }

    /// Does what a message asks for. While this shard stands still, or for what lies behind the cut
    /// of its own borrowing, requests wait in their order.
    fn receive(&mut self, message: Message, requests_wait: bool) {
        match message {
            Message::Request(_) | Message::Borrow(_) if requests_wait => {
                self.waiting_mail.push_back(message);
            }
            Message::Request(parcel) => self.serve(parcel),
            Message::Reply(parcel) => self.hand_out(parcel),
            Message::Borrow(loan) => self.lend(loan),
            Message::Lent(loan) => self.borrow(loan),
            Message::Return(loan) => {
                self.take_back(loan);
                self.serve_waiting();
            }
            Message::Returned(loan) => self.outboxes.loan_is_settled(&loan),
            Message::Right(from) => {
                self.outboxes.right_is_taken(from);
                self.get_right();
            }
            Message::RightTaken(by) => self.outboxes.right_is_settled(by),
        }
    }

    /// Serves the requests that came while this shard stood still, until it does so again.
    pub(crate) fn serve_waiting(&mut self) {
        while !self.stands_still
            && self.cut_at.is_none()
            && let Some(message) = self.waiting_mail.pop_front()
        {
            self.receive(message, false);
        }
    }

    /// Executes a parcel of another worker and sends it home.
    fn serve(&mut self, mut parcel: Box<Parcel>) {
        self.outboxes.received(parcel.origin);
        self.shard.advance_clock_us(parcel.now_us);
        self.stopwatch.start();
        let calls = parcel.len() as u64;
        parcel.execute(self);
        self.metrics.counters.remote_commands.add(calls);
        parcel.now_us = parcel.now_us.max(self.now_us);
        self.outboxes.reply(parcel);
    }

    /// Executes one call of a parcel, or one part of a command, on this shard.
    pub(crate) fn execute_call(
        &mut self,
        header: &CallHeader,
        args: Args<'_>,
        out: &mut ReplyBuffer,
    ) {
        if let Run::Session = header.command.run {
            if let Some(Code::Everywhere(everywhere)) = self.codes.get(header.command) {
                (everywhere.part)(self, &args, &mut ReplyWriter::new(out, PART_PROTOCOL));
            }
            return;
        }
        let call = Call {
            command: header.command,
            args,
            database: header.database,
            protocol: header.protocol,
            no_touch: header.no_touch,
            caller: header.caller,
        };
        let outcome = self.shard.execute(&call, out);
        let nanos = self.stopwatch.lap_ns();
        self.metrics.executed(header.command, nanos, outcome.as_ref().err());
        if self.watch.is_slow(nanos) {
            // The client is another worker's.
            let at = (self.now_us, nanos);
            self.watch.note(&self.shared, header.command, &args, at, ("", ""));
        }
    }

    /// Hands the replies of an own parcel to the connections that wait for them.
    fn hand_out(&mut self, parcel: Box<Parcel>) {
        self.shard.advance_clock_us(parcel.now_us);
        for (to, range) in parcel.answers() {
            self.arrive(to.connection, to.ticket, to.part, (parcel.replies(), range));
        }
        self.outboxes.come_home(parcel);
        // A credit has come back: whoever waited for one tries again.
        self.wake_stalled(|worker| mem::take(&mut worker.without_credit));
    }

    /// Puts a reply, or a part of one, in its place; what can leave is marked to be sent.
    pub(crate) fn arrive(
        &mut self,
        id: ConnectionId,
        ticket: u64,
        part: u32,
        reply: (&ReplyBuffer, Range<Mark>),
    ) {
        let Some(connection) = self.network.connection(id) else { return };
        let Connection { output, session, .. } = connection;
        session.replies.arrive(ticket, part, reply, output, &mut self.pool);
        session.active_us = self.now_us;
        let has_output = !output.is_empty();
        if connection.is_over_limit(self.output_limit.hard_bytes) {
            return self.disconnect_overrun(id);
        }
        let session = &connection.session;
        let may_close = session.standing == Standing::Finished && session.replies.is_empty();
        if has_output {
            self.network.mark_dirty(id);
        }
        if may_close {
            self.network.close(id, CloseMode::AfterReply);
        }
    }

    /// Makes stalled connections ready again.
    pub(crate) fn wake_stalled(&mut self, take: impl Fn(&mut Self) -> Vec<ConnectionId>) {
        for id in take(self) {
            if let Some(connection) = self.network.connection(id) {
                connection.session.standing = Standing::Ready;
                self.ready.push(id);
            }
        }
    }
}

impl Executor for Worker {
    #[inline]
    fn look(&self, header: &CallHeader, args: &Args<'_>) -> Option<KeyHash> {
        let key = args.get(header.command.keys.single()?)?;
        Some(self.shard.keyspace.prefetch(header.database as usize, key))
    }

    #[inline]
    fn fetch(&self, header: &CallHeader, hash: KeyHash) {
        self.shard.keyspace.prefetch_entry(header.database as usize, hash);
    }

    #[inline]
    fn run(&mut self, header: &CallHeader, args: Args<'_>, out: &mut ReplyBuffer) {
        self.execute_call(header, args, out);
    }
}
