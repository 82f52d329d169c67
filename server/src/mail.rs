//! What a worker does with its mail: executes others' parcels, and hands out the replies of its own.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, iter, mem, ops::Range, thread};

use tessera_engine::{
    command::{Command, CommandError, Run},
    keyspace::KeyHash,
};
use tessera_proto::{Args, Mark, ReplyBuffer, ReplyWriter, RequestBatch};

use crate::{
    client_limits::output_limit,
    faults::{self, Rule},
    gather::Count,
    mesh::mailbox::{Next, Position},
    metrics::WorkerMetrics,
    net::{CloseMode, Connection, ConnectionId},
    parcel::{Addressee, Attachment, CallHeader, Executor, Message, Parcel, RunHeader},
    pubsub::News,
    replies::{Arrived, Out},
    server::Shared,
    session::Standing,
    session_commands::{Code, PART_PROTOCOL},
    slowlog::Watch,
    worker::Worker,
};

/// How often in a row a worker may find a place unfilled before it gives up its processor.
const UNFILLED_WAITS_MAX: u32 = 3;

impl Worker {
    /// Serves everything that stands before the mailbox's tail as it is now.
    pub(crate) fn serve_mail(&mut self) {
        self.serve_mail_before(self.mail.tail());
    }

    /// Serves everything that stands before `tail`. Answers whether all of it could be served: if a
    /// place is taken and not yet filled, what stands behind it waits, and while the shard is lent,
    /// everything for it does.
    pub(crate) fn serve_mail_before(&mut self, tail: Position) -> bool {
        let mut complete = true;
        while self.mail.head() < tail {
            match self.mail.next() {
                Next::Message(message) => {
                    self.unfilled_waits = 0;
                    self.receive(message);
                    self.release_wanted();
                }
                Next::Unfilled | Next::Empty => {
                    self.metrics.counters.unfilled_stalls.add(1);
                    self.let_sender_fill();
                    complete = false;
                    break;
                }
            }
        }
        complete && self.shard.is_here()
    }

    /// A place is filled within nanoseconds, unless its sender has lost its processor just then:
    /// if there are more workers than processors, it may be waiting for this one.
    fn let_sender_fill(&mut self) {
        self.unfilled_waits += 1;
        if self.unfilled_waits > UNFILLED_WAITS_MAX {
            thread::yield_now();
        }
    }

    /// Does what a message asks for. While this shard is lent, what is for it waits in its order.
    fn receive(&mut self, message: Message) {
        match message {
            Message::Request(_) | Message::Borrow { .. } if !self.shard.is_here() => {
                self.waiting_mail.push_back(message);
            }
            Message::Request(parcel) => self.serve(parcel),
            Message::Reply(parcel) => self.hand_out(parcel),
            Message::Borrow { host, now_us, stamp } => self.lend(host, now_us, stamp),
            Message::Lent { owner, shard } => {
                self.outboxes.answered(owner);
                self.borrow(owner, shard);
            }
            Message::Return { host, shard, now_us } => {
                self.outboxes.shard_is_back(host);
                self.shard.advance_clock_us(now_us);
                self.take_back(shard);
            }
            Message::Returned { owner } => self.outboxes.loan_is_settled(owner),
            Message::Coupled { host, changes } => {
                self.take_couplings(&changes);
                self.outboxes.received(host);
                self.outboxes.reply_to(host, Message::CoupledHeard { by: self.own });
            }
            Message::CoupledHeard { by } => {
                self.outboxes.answered(by);
                self.couplings_are_heard();
            }
            Message::News { from, news, bytes } => {
                self.hear_all(news);
                self.outboxes.news_are_heard(from, bytes);
            }
            Message::NewsHeard { by, bytes } => self.outboxes.news_are_settled(by, bytes),
        }
    }

    /// Serves what came while this shard was lent, until it is so again.
    pub(crate) fn serve_waiting(&mut self) {
        while self.shard.is_here()
            && let Some(message) = self.waiting_mail.pop_front()
        {
            self.receive(message);
        }
    }

    /// Executes a parcel and sends it home.
    fn serve(&mut self, mut parcel: Box<Parcel>) {
        let is_own = parcel.origin == self.own;
        self.make_time_for(&parcel);
        if !is_own {
            self.outboxes.received(parcel.origin);
            self.metrics.counters.remote_commands.add(parcel.len() as u64);
        }
        self.shard.advance_clock_us(parcel.now_us);
        self.shard.keyspace.journal.set_stamp(parcel.stamp);
        self.stopwatch.start();
        // What a host has done on the shard is told before.
        self.deliver();
        parcel.begin_with(self.outboxes.take_news(parcel.origin));
        let attachments = parcel.take_attachments();
        let has_doubt = self.doubt().is_some();
        let has_told = false;
        parcel.execute(&mut Serving { worker: self, is_own, attachments, has_doubt, has_told });
        parcel.now_us = parcel.now_us.max(self.now_us);
        if is_own {
            self.hand_out(parcel);
        } else {
            self.shared.aof.note_data(self.shard.keyspace.journal.fresh_epoch());
            self.outboxes.reply(parcel);
        }
    }

    /// Executes one call of a parcel, or one part of a command, on this shard. `client` is the
    /// connection that asks, if it is one of this worker's. Answers how many nanoseconds a part of a
    /// command took, which is counted as a whole when all have come home.
    fn execute_call(
        &mut self,
        client: Option<ConnectionId>,
        header: &CallHeader,
        args: Args<'_>,
        out: &mut ReplyBuffer,
    ) -> u64 {
        if let Run::Session = header.command.run {
            self.execute_part(client, header, &args, out);
            return 0;
        }
        let start = out.mark();
        let outcome = self.shard.execute(&header.call(args), out);
        if faults::breaks(Rule::FreshReads) {
            faults::make_stale(&args, out, start);
        }
        if header.is_part {
            return self.stopwatch.lap_ns();
        }
        self.note_call(client, header.command, &args, outcome.as_ref().err());
        0
    }

    /// Answers a question to all workers (see [`session_commands::Everywhere`]).
    ///
    /// [`session_commands::Everywhere`]: crate::session_commands::Everywhere
    pub(crate) fn execute_part(
        &mut self,
        client: Option<ConnectionId>,
        header: &CallHeader,
        args: &Args<'_>,
        out: &mut ReplyBuffer,
    ) {
        if let Some(Code::Everywhere(everywhere)) = self.codes.get(header.command) {
            (everywhere.part)(self, args, &mut ReplyWriter::new(out, PART_PROTOCOL));
        }
        let nanos = self.stopwatch.lap_ns();
        if client.is_some() && self.watch.is_slow(nanos) {
            self.note_slow_part(client, header.command, args, nanos);
        }
    }

    /// Executes a call that carries more than arguments; answers as
    /// [`execute_call`](Self::execute_call).
    fn execute_attached(
        &mut self,
        header: &CallHeader,
        args: &Args<'_>,
        attachment: &Attachment,
        out: &mut ReplyBuffer,
    ) -> u64 {
        match attachment {
            Attachment::Transaction(transaction) => self.exec_sent(header, transaction, out),
            Attachment::Watcher(watcher) => {
                for key in args.iter().skip(1) {
                    self.shard.keyspace.watch(header.database as usize, key, watcher);
                }
                ReplyWriter::new(out, PART_PROTOCOL).ok();
                return self.stopwatch.lap_ns();
            }
        }
        0
    }

    /// Counts a call that has just been executed, and notes it if it was slow.
    pub(crate) fn note_call(
        &mut self,
        client: Option<ConnectionId>,
        command: &'static Command,
        args: &Args<'_>,
        error: Option<&CommandError>,
    ) {
        let nanos = self.stopwatch.lap_ns();
        self.metrics.executed(command, nanos, error);
        if self.watch.is_slow(nanos) {
            self.note_slow(client, command, args, nanos);
        }
    }

    /// Enters the own part of a question to all workers that took long (DEBUG SLEEP), with the name
    /// that the table has for it and the arguments of the part.
    #[cold]
    fn note_slow_part(
        &mut self,
        client: Option<ConnectionId>,
        command: &'static Command,
        args: &Args<'_>,
        nanos: u64,
    ) {
        let mut line = RequestBatch::new();
        line.push_slices(command.full_name.split('|').map(str::as_bytes).chain(args.iter()));
        if let Some(args) = line.get(0) {
            self.note_slow(client, command, &args, nanos);
        }
    }

    #[cold]
    pub(crate) fn note_slow(
        &mut self,
        client: Option<ConnectionId>,
        command: &'static Command,
        args: &Args<'_>,
        nanos: u64,
    ) {
        let connection = client.and_then(|id| self.network.connection(id));
        let names = connection
            .map_or(("", ""), |open| (open.session.peer.as_str(), open.session.name.as_str()));
        self.watch.note(&self.shared, command, args, (self.now_us, nanos), names);
    }

    /// Hands the replies of an own parcel to the connections that wait for them.
    fn hand_out(&mut self, mut parcel: Box<Parcel>) {
        self.shard.advance_clock_us(parcel.now_us);
        let mut news = parcel.take_news().into_iter().peekable();
        for (number, (run, range)) in (0..).zip(parcel.answers()) {
            if news.peek().is_some() {
                let due = iter::from_fn(|| news.next_if(|(runs, _)| *runs <= number));
                self.hear_all(due.map(|(_, news)| news));
            }
            let RunHeader { to: Addressee { connection, ticket, part }, nanos, is_ungated, .. } =
                run;
            let reply = (parcel.replies(), range);
            self.arrive_as(connection, Arrived { ticket, part, nanos, reply, is_ungated });
        }
        self.hear_all(news.map(|(_, news)| news));
        self.outboxes.come_home(parcel);
        // A credit has come back: whoever waited for one tries again.
        self.wake_stalled(|worker| mem::take(&mut worker.without_credit));
    }

    /// Puts a reply, or a part of one, in its place; what can leave is marked to be sent. It may tell
    /// what is not durable yet.
    pub(crate) fn arrive(
        &mut self,
        id: ConnectionId,
        ticket: u64,
        part: u32,
        reply: (&ReplyBuffer, Range<Mark>),
    ) {
        self.arrive_as(id, Arrived { ticket, part, nanos: 0, reply, is_ungated: false });
    }

    /// The same for one of which more is known.
    fn arrive_as(&mut self, id: ConnectionId, arrived: Arrived<'_>) {
        let Some(connection) = self.network.connection(id) else { return };
        let Connection { output, ungated, session, .. } = connection;
        let out = Out { buffer: output, ungated };
        if let Some(count) = session.replies.arrive(arrived, out, &mut self.pool) {
            let names = (session.peer.as_str(), session.name.as_str());
            count_whole(count, self.now_us, names, (&self.metrics, &self.watch, &self.shared));
        }
        session.active_us = self.now_us;
        let has_output = !output.is_empty();
        let limit = output_limit(&self.output_limits, &connection.session);
        if connection.is_over_limit(limit.hard_bytes) {
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

/// Counts a command that has been executed in parts, and notes it if it was slow.
fn count_whole(
    count: Count,
    now_us: i64,
    client: (&str, &str),
    (metrics, watch, shared): (&WorkerMetrics, &Watch, &Shared),
) {
    let Count { command, nanos, shown, error } = count;
    metrics.executed(command, nanos, error.as_ref());
    if watch.is_slow(nanos)
        && let Some(shown) = shown
    {
        watch.note_shown(shared, command, &shown, (now_us, nanos), client);
    }
}

/// A worker that executes a parcel.
struct Serving<'a> {
    worker: &'a mut Worker,
    /// The parcel is its own: it concerns several shards, and this is one of them.
    is_own: bool,
    /// What its calls carry, from the next one that carries something.
    attachments: VecDeque<Attachment>,
    /// A log cannot be written, and it is known what may be lost.
    has_doubt: bool,
    /// The run has told something that may be.
    has_told: bool,
}

impl Executor for Serving<'_> {
    #[inline]
    fn look(&self, header: &CallHeader, args: &Args<'_>) -> Option<KeyHash> {
        let key = args.get(header.command.keys.single()?)?;
        Some(self.worker.shard.keyspace.prefetch(header.database as usize, key))
    }

    #[inline]
    fn fetch(&self, header: &CallHeader, hash: KeyHash) {
        self.worker.shard.keyspace.prefetch_entry(header.database as usize, hash);
    }

    #[inline]
    fn run(
        &mut self,
        to: ConnectionId,
        header: &CallHeader,
        args: Args<'_>,
        out: &mut ReplyBuffer,
    ) -> u64 {
        if let Run::Session = header.command.run
            && let Some(Code::OnWorker(_)) = self.worker.codes.get(header.command)
        {
            self.has_told = true;
            return self.attachments.pop_front().map_or(0, |attachment| {
                self.worker.execute_attached(header, &args, &attachment, out)
            });
        }
        let nanos = self.worker.execute_call(self.is_own.then_some(to), header, args, out);
        if self.has_doubt {
            self.has_told |= !self.worker.spares(header.command, &args);
        }
        nanos
    }

    #[inline]
    fn end_run(&mut self, origin: u32, run: u32, news: &mut Vec<(u32, News)>) -> bool {
        if self.worker.shard.keyspace.has_notices() {
            self.worker.tell_with_parcel(origin, run, news);
        }
        self.has_doubt && !std::mem::take(&mut self.has_told)
    }
}
