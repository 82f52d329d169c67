//! EXEC and WATCH: transactions, from the queue of their connection to the shards and back.
//!
//! An EXEC whose keys, watched ones included, are all on one shard is executed there whole, as one
//! call: in place if that is the own shard, else it travels in a parcel. Otherwise the shards are lent
//! (see `loan`), and it is executed here. So is one that holds commands of the session (CLIENT,
//! SELECT, CONFIG …), since only this worker has the connection.
//!
//! Commands that ask all workers (INFO, CLIENT LIST) are decided at their turn in the transaction,
//! and asked in the next cut; the reply of the EXEC waits for the answers ([`Pieces`]).
//!
//! Invariants:
//! - all commands of a transaction are executed in one step of one thread, on shards that nobody else
//!   reaches meanwhile;
//! - what EXEC depends on and what it executes leave the session when it takes its place, so whatever
//!   the connection sends next finds it outside of MULTI.
#![forbid(unsafe_code)]

use std::mem;

use tessera_engine::{
    command::{Command, CommandError, Run, table::flag},
    transaction::{
        Gathered, Route, ShardId, ShardSet,
        exec::{Queue, Transaction, Watch},
    },
};
use tessera_proto::{Args, Mark, ReplyBuffer, ReplyWriter, RequestBatch};

use crate::{
    dispatch::{Advance, Pause},
    gather::{Gather, Merge},
    loan::Work,
    memory::permit_memory,
    monitor,
    net::{Connection, ConnectionId},
    parcel::{Addressee, Attachment, CallHeader},
    replies::NO_SHARD,
    session::{Held, ReplyMode, Session},
    session_commands::{After, Asked, Code, PART_PROTOCOL},
    worker::Worker,
};

/// Commands that are executed at once although their connection is in MULTI.
pub(crate) fn is_queued(command: &Command) -> bool {
    !matches!(command.full_name, "exec" | "discard" | "quit" | "reset")
}

/// Whom a question goes to, and what each is asked.
type Asks = Vec<(ShardId, Vec<Vec<u8>>)>;

/// A question to workers, asked by a command of a transaction.
pub(crate) struct Question {
    connection: ConnectionId,
    /// The place of the transaction's reply.
    ticket: u64,
    header: CallHeader,
    /// Whom to ask what.
    parts: Asks,
    /// The number of the first part's answer.
    first_part: u32,
}

/// The reply of a transaction that asks all workers: what is there, and what the answers become.
#[derive(Default)]
struct Pieces {
    /// For each question: how its answers become a reply, where that stands in the reply, and how
    /// many answers there are.
    questions: Vec<(Merge, Mark, usize)>,
    /// The calls to be sent: whom to ask what.
    calls: Vec<(CallHeader, Asks)>,
}

/// Where a transaction is executed.
enum Place {
    /// It needs no shard.
    Nowhere,
    /// Whole on one shard.
    Shard(u32),
    /// Here, over these shards.
    Here(ShardSet),
}

impl Worker {
    /// EXEC in the second half of a round. Answers how the connection goes on if that is not with its
    /// next command.
    pub(crate) fn run_exec(
        &mut self,
        id: ConnectionId,
        held: Held,
        may_run: bool,
    ) -> Option<Advance> {
        let connection = self.network.connection(id)?;
        let Connection { session, .. } = connection;
        let Some(queue) = &session.queue else {
            return self.end_exec(id, held, |_| Err(CommandError::text("ERR EXEC without MULTI")));
        };
        if queue.is_aborted() {
            const ABORTED: &str = "EXECABORT Transaction discarded because of previous errors.";
            return self.end_exec(id, held, |_| Err(CommandError::text(ABORTED)));
        }
        if session.watch.as_ref().is_some_and(|watch| watch.is_dirty()) {
            return self.end_exec(id, held, |reply| {
                reply.null_array();
                Ok(())
            });
        }
        if queue.flags().has(flag::DENYOOM)
            && let Err(error) = permit_memory(&self.shared)
        {
            let text = format!("EXECABORT Transaction discarded because of: {error}");
            return self.end_exec(id, held, |_| Err(CommandError::text(text)));
        }
        if self.pause != Pause::Off && self.pauses_transaction(id) {
            return Some(self.hold_paused(id, held));
        }
        match self.place_of(id)? {
            Place::Nowhere => self.exec_in_place(id, held, None),
            Place::Shard(shard) if shard == self.own => self.exec_or_wait(id, held, may_run),
            Place::Here(shards) if shards.single() == Some(self.own) => {
                self.exec_or_wait(id, held, may_run)
            }
            Place::Shard(_) | Place::Here(_) => Some(self.hold(id, held, Advance::Cut)),
        }
    }

    /// Whether any command of a connection's transaction waits for the end of CLIENT PAUSE.
    #[cold]
    fn pauses_transaction(&mut self, id: ConnectionId) -> bool {
        let Self { network, scripts, shared, pause, .. } = self;
        let Some(connection) = network.connection(id) else { return false };
        connection.session.queue.iter().flat_map(|queue| queue.iter()).any(|(command, args)| {
            match command.run {
                Run::Script => scripts.is_paused(*pause, shared, command, &args),
                _ => pause.holds(command),
            }
        })
    }

    /// Executes a transaction over the own shard, if that may execute now.
    fn exec_or_wait(&mut self, id: ConnectionId, held: Held, may_run: bool) -> Option<Advance> {
        if may_run && self.shard.is_here() {
            return self.exec_in_place(id, held, Some(self.own));
        }
        Some(self.hold(id, held, Advance::NextTurn))
    }

    /// EXEC on its way into a cut.
    pub(crate) fn pack_exec(&mut self, id: ConnectionId, held: Held) -> Option<Advance> {
        let is_ready = self.network.connection(id)?.session.queue.as_ref();
        if is_ready.is_none_or(|queue| queue.is_aborted()) {
            // Answered in a round.
            return Some(Advance::NextRound);
        }
        match self.place_of(id)? {
            Place::Shard(shard) if shard != self.own => {
                if !self.outboxes.has_room(shard) {
                    return Some(Advance::NoCredit);
                }
                let (ticket, header, transaction) = self.take_transaction(id, held, shard)?;
                let to = Addressee { connection: id, ticket, part: 0 };
                let attachment = Attachment::Transaction(Box::new(transaction));
                self.outboxes.push_attached(shard, to, header, attachment);
                None
            }
            Place::Here(shards) if shards.single() != Some(self.own) => {
                if self.loans.is_under_way() {
                    return Some(Advance::NoLoan);
                }
                if !self.outboxes.may_borrow(shards) {
                    return Some(Advance::NoCredit);
                }
                let (ticket, header, transaction) = self.take_transaction(id, held, NO_SHARD)?;
                let work = Work::Transaction { header, transaction: Box::new(transaction) };
                self.promise_unit(id, ticket, shards, work);
                Some(Advance::Across)
            }
            _ => Some(Advance::NextRound),
        }
    }

    /// Where the transaction of a connection is executed.
    fn place_of(&mut self, id: ConnectionId) -> Option<Place> {
        let session = &self.network.connection(id)?.session;
        let queue = session.queue.as_ref()?;
        let mut needed =
            session.watch.as_ref().map_or(ShardSet::default(), |it| it.shards(self.map));
        let mut is_session = false;
        for (command, args) in queue.iter() {
            match self.map.route(command, &args, &mut self.positions) {
                Ok(Route::Shard(shard)) => needed.insert(shard),
                Ok(Route::Session) => {
                    is_session = true;
                    if let Some(Code::Libraries(_)) = self.codes.get(command) {
                        needed.extend(ShardSet::all(self.map.shards()));
                    }
                }
                // Which keys it comes to is not known before it runs.
                Ok(Route::Script) => {
                    needed.extend(ShardSet::all(self.map.shards()));
                    is_session = true;
                }
                Ok(Route::Parts | Route::Across) => {
                    if let Ok(shards) = self.splitter.shards(self.map, command, &args) {
                        needed.extend(shards);
                    }
                }
                // It will be refused at its turn, wherever that is.
                Err(_) => {}
            }
        }
        if !needed.is_empty()
            && let Some(couplings) = self.coupled.any()
        {
            // What is pushed may be moved on to keys of other shards.
            for (command, args) in queue.iter() {
                let positions = &mut self.positions;
                needed.extend(couplings.reached_by(self.map, command, &args, positions));
            }
        }
        Some(match needed.single() {
            _ if needed.is_empty() => Place::Nowhere,
            Some(shard) if !is_session => Place::Shard(shard),
            _ => Place::Here(needed),
        })
    }

    /// Takes the transaction out of the session, and EXEC out of the input; answers the place of its
    /// reply, which comes from a shard or [`NO_SHARD`] in particular.
    fn take_transaction(
        &mut self,
        id: ConnectionId,
        held: Held,
        from: ShardId,
    ) -> Option<(u64, CallHeader, Transaction)> {
        let Connection { input, session, .. } = self.network.connection(id)?;
        let discard = session.discards_reply();
        let ticket = session.replies.wait(from, discard);
        let header = CallHeader::new(held.command, session);
        let transaction = leave_multi(session);
        let lines = self.is_monitored.then(|| {
            let (at, database, peer) = (self.now_us, session.database, &session.peer);
            let exec = (held.command, session.parser.args(input.bytes()));
            let all = transaction.queue.iter().chain([exec]);
            all.map(|(command, args)| monitor::line(at, database, peer, command, &args))
                .collect::<Vec<_>>()
        });
        input.consume(held.consumed);
        session.note(held.command, self.now_us);
        for line in lines.into_iter().flatten() {
            self.show_if_any(Some(line));
        }
        Some((ticket, header, transaction))
    }

    /// Ends an EXEC that executes nothing.
    fn end_exec(
        &mut self,
        id: ConnectionId,
        held: Held,
        answer: impl FnOnce(&mut ReplyWriter<'_>) -> Result<(), CommandError>,
    ) -> Option<Advance> {
        let Connection { input, output, session, .. } = self.network.connection(id)?;
        if session.queue.is_some() {
            leave_multi(session);
        }
        let discard = session.discards_reply();
        let line = self.is_monitored.then(|| {
            let args = session.parser.args(input.bytes());
            monitor::line(self.now_us, session.database, &session.peer, held.command, &args)
        });
        input.consume(held.consumed);
        session.note(held.command, self.now_us);
        let protocol = session.protocol;
        let out = session.replies.sink(output, &mut self.pool);
        let before = out.mark();
        let outcome = answer(&mut ReplyWriter::new(out, protocol));
        if let Err(error) = &outcome {
            ReplyWriter::new(out, protocol).error(&error.to_string());
        }
        if discard {
            out.truncate(before);
        }
        self.metrics.executed(held.command, 0, outcome.as_ref().err());
        self.show_if_any(line);
        None
    }

    /// Executes a transaction at once, over the own shard or none.
    fn exec_in_place(
        &mut self,
        id: ConnectionId,
        held: Held,
        shard: Option<u32>,
    ) -> Option<Advance> {
        let (ticket, header, transaction) = self.take_transaction(id, held, NO_SHARD)?;
        let mut alone = self.enter_alone(shard.is_some());
        let mut answer = self.pool.take();
        let after = self.exec(Some((id, ticket)), &mut alone, &header, &transaction, &mut answer);
        self.leave_alone(alone);
        self.finish_reply(id, ticket, &answer);
        self.pool.put(answer);
        (after == After::Close).then_some(Advance::Finished)
    }

    /// The own shard as all that there is, for a transaction that needs no other.
    fn enter_alone(&mut self, with_shard: bool) -> Box<Gathered> {
        let mut alone = self.take_alone();
        if with_shard && let Some(shard) = self.shard.lend() {
            alone.put(self.own, shard);
        }
        alone.align_clocks(self.now_us);
        alone
    }

    /// A place for shards with none in it.
    pub(crate) fn take_alone(&mut self) -> Box<Gathered> {
        self.alone.take().unwrap_or_else(|| Box::new(Gathered::new(self.map, 0)))
    }

    fn leave_alone(&mut self, mut alone: Box<Gathered>) {
        alone.serve_waiters();
        if let Some(shard) = alone.take(self.own) {
            self.shard.put_back(shard);
        }
        self.alone = Some(alone);
    }

    /// Executes a transaction that another worker has sent, or this one to itself.
    pub(crate) fn exec_sent(
        &mut self,
        header: &CallHeader,
        transaction: &Transaction,
        answer: &mut ReplyBuffer,
    ) {
        let mut alone = self.enter_alone(true);
        self.exec(None, &mut alone, header, transaction, answer);
        self.leave_alone(alone);
    }

    /// Executes a transaction over the shards that it needs. `client` is its connection, if that is
    /// one of this worker's, with the place of the reply.
    pub(crate) fn exec(
        &mut self,
        client: Option<(ConnectionId, u64)>,
        gathered: &mut Gathered,
        header: &CallHeader,
        transaction: &Transaction,
        answer: &mut ReplyBuffer,
    ) -> After {
        self.stopwatch.start();
        if !transaction.begin(gathered) {
            ReplyWriter::new(answer, header.protocol).null_array();
            self.metrics.executed(header.command, self.stopwatch.lap_ns(), None);
            return After::GoOn;
        }
        ReplyWriter::new(answer, header.protocol).array(transaction.queue.len());
        let mut after = After::GoOn;
        let mut pieces = Pieces::default();
        for (command, args) in transaction.queue.iter() {
            if let Run::Session = command.run {
                let Some((id, _)) = client else { continue };
                let then = match self.codes.get(command) {
                    Some(Code::Libraries(_)) => {
                        self.execute_on_libraries(id, command, &args, answer, gathered)
                    }
                    _ => self.exec_session(id, command, &args, answer, &mut pieces),
                };
                after = then.max(after);
                continue;
            }
            let header = self.header_now(client, header, command);
            let before = answer.mark();
            if let Run::Script = command.run {
                // It finds the shards where those of loans are.
                mem::swap(gathered, self.loans.gathered_mut());
                self.run_script_inside(client.map(|(id, _)| id), &header, &args, answer);
                mem::swap(gathered, self.loans.gathered_mut());
                continue;
            }
            let outcome = gathered.execute(&header.call(args), answer).unwrap_or_else(|missing| {
                // What a call needs was known when EXEC took its place.
                let text = format!("ERR '{}' needs shards: {missing:?}", command.full_name);
                ReplyWriter::new(answer, header.protocol).error(&text);
                Err(CommandError::text(text))
            });
            if self.is_silent(client) {
                answer.truncate(before);
            }
            self.note_call(client.map(|(id, _)| id), command, &args, outcome.as_ref().err());
        }
        self.metrics.executed(header.command, self.stopwatch.lap_ns(), None);
        if let Some((id, ticket)) = client {
            self.ask_later(id, ticket, pieces, answer);
        }
        after
    }

    /// How the next command of a transaction is executed: as its session says now, since a command
    /// before it may have changed that.
    fn header_now(
        &mut self,
        client: Option<(ConnectionId, u64)>,
        header: &CallHeader,
        command: &'static Command,
    ) -> CallHeader {
        let connection = client.and_then(|(id, _)| self.network.connection(id));
        connection.map_or(CallHeader { command, ..*header }, |open| {
            CallHeader::new(command, &open.session)
        })
    }

    /// Whether CLIENT REPLY OFF was said within the transaction, or before.
    fn is_silent(&mut self, client: Option<(ConnectionId, u64)>) -> bool {
        let connection = client.and_then(|(id, _)| self.network.connection(id));
        connection.is_some_and(|open| open.session.reply_mode == ReplyMode::Off)
    }

    /// Executes a command of the session within its transaction.
    fn exec_session(
        &mut self,
        id: ConnectionId,
        command: &'static Command,
        args: &Args<'_>,
        answer: &mut ReplyBuffer,
        pieces: &mut Pieces,
    ) -> After {
        let Some(code) = self.codes.get(command) else {
            let text = format!("ERR '{}' is not built yet", command.full_name);
            ReplyWriter::new(answer, PART_PROTOCOL).error(&text);
            return After::GoOn;
        };
        if let Code::OnWorker(_) = code {
            let text = "ERR Command not allowed inside a transaction";
            ReplyWriter::new(answer, PART_PROTOCOL).error(text);
            return After::GoOn;
        }
        let mut reply = self.pool.take();
        let Some(called) = self.call_queued(id, command, code, args, &mut reply) else {
            return After::GoOn;
        };
        match called.asked {
            Asked::Workers { args, merge } => {
                let shards = 0..self.map.shards() as u32;
                let parts = shards.map(|shard| (shard, args.clone())).collect();
                self.note_question(id, command, (parts, merge), answer.mark(), pieces);
            }
            Asked::Parts { parts, merge } => {
                self.note_question(id, command, (parts, merge), answer.mark(), pieces);
            }
            Asked::Answered if !self.is_silent(Some((id, 0))) => answer.append(&reply),
            Asked::Answered => {}
        }
        self.pool.put(reply);
        called.after
    }

    /// Notes a question of a transaction, and that its answer stands at `mark` of the reply.
    fn note_question(
        &mut self,
        id: ConnectionId,
        command: &'static Command,
        (parts, merge): (Asks, Merge),
        mark: Mark,
        pieces: &mut Pieces,
    ) {
        if let Some(connection) = self.network.connection(id) {
            let header = CallHeader::new(command, &connection.session);
            pieces.questions.push((merge, mark, parts.len()));
            pieces.calls.push((header, parts));
        }
    }

    /// Lets the questions of a transaction go out with the next cut, and its reply wait for the
    /// answers.
    fn ask_later(
        &mut self,
        id: ConnectionId,
        ticket: u64,
        pieces: Pieces,
        answer: &mut ReplyBuffer,
    ) {
        let Pieces { questions, calls } = pieces;
        if questions.is_empty() {
            return;
        }
        let Some(Connection { session, .. }) = self.network.connection(id) else { return };
        let asked: Vec<ShardId> =
            calls.iter().flat_map(|(_, parts)| parts.iter().map(|part| part.0)).collect();
        let (protocol, known) = (session.protocol, mem::take(answer));
        let finish = move |parts: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| {
            let mut from = Mark::default();
            let mut answers = parts;
            for (merge, at, count) in questions {
                reply.buffer_mut().append_range(&known, from..at);
                from = at;
                let (parts, rest) = answers.split_at(count);
                merge.finish(parts, protocol, reply.buffer_mut());
                answers = rest;
            }
            reply.buffer_mut().append_range(&known, from..known.mark());
        };
        let gather = Gather::new(Merge::Custom(Box::new(finish)), protocol, asked.len());
        session.replies.gather_at(ticket, gather.from_shards(asked));
        let mut first_part = 0;
        for (header, parts) in calls {
            let count = parts.len() as u32;
            self.questions.push(Question { connection: id, ticket, header, parts, first_part });
            first_part += count;
        }
    }

    /// Packs the questions of transactions for the next cut, as far as there is room.
    pub(crate) fn pack_later_questions(&mut self) {
        let mut waiting = mem::take(&mut self.questions);
        waiting.retain(|question| {
            let Question { connection, ticket, header, parts, first_part } = question;
            if !parts.iter().all(|(shard, _)| self.outboxes.has_room(*shard)) {
                return true;
            }
            self.pack_later_question((*connection, *ticket), *header, parts, *first_part);
            false
        });
        self.questions = waiting;
    }

    fn pack_later_question(
        &mut self,
        (connection, ticket): (ConnectionId, u64),
        header: CallHeader,
        parts: &[(ShardId, Vec<Vec<u8>>)],
        first_part: u32,
    ) {
        let mut request = mem::take(&mut self.made_up);
        for (part, (shard, args)) in (first_part..).zip(parts) {
            request.clear();
            request.push_slices(args.iter().map(Vec::as_slice));
            if let Some(args) = request.get(0) {
                let to = Addressee { connection, ticket, part };
                self.outboxes.push(*shard, to, header, &args);
            }
        }
        self.made_up = request;
    }

    /// Puts the reply of a transaction in its place, unless it waits for answers.
    pub(crate) fn finish_reply(&mut self, id: ConnectionId, ticket: u64, answer: &ReplyBuffer) {
        let Some(connection) = self.network.connection(id) else { return };
        if connection.session.replies.is_waiting(ticket) {
            self.arrive(id, ticket, 0, (answer, Mark::default()..answer.mark()));
        }
    }

    /// WATCH in the second half of a round.
    pub(crate) fn run_watch(&mut self, id: ConnectionId, held: Held, _: bool) -> Option<Advance> {
        Some(self.hold(id, held, Advance::Cut))
    }

    /// WATCH: the shards of the keys remember who watches them.
    pub(crate) fn pack_watch(&mut self, id: ConnectionId, held: Held) -> Option<Advance> {
        let connection = self.network.connection(id)?;
        let Connection { input, session, .. } = connection;
        let args = session.parser.args(input.bytes());
        let (ticket, header) =
            (session.replies.next_ticket(), CallHeader::new(held.command, session));
        let watch = session.watch.get_or_insert_default();
        let mut fresh = RequestBatch::new();
        fresh.add(&args, 0);
        let mut keys = ShardSet::default();
        let is_dirty = watch.is_dirty();
        for key in args.iter().skip(1) {
            keys.insert(self.map.owner(key));
        }
        if !keys.iter().all(|shard| self.outboxes.has_room(shard)) {
            return Some(Advance::NoCredit);
        }
        // One that is dirty already can only fail.
        for key in args.iter().skip(1).filter(|_| !is_dirty) {
            if watch.add(session.database, key) {
                fresh.add_slice(key);
            }
        }
        fresh.end_request();
        let mut parts = 0;
        if let Some(args) = fresh.get(0).filter(|args| args.len() > 1) {
            let (outboxes, watcher) = (&mut self.outboxes, watch.watcher().clone());
            let mut give = |shard, args: &Args<'_>| {
                let to = Addressee { connection: id, ticket, part: parts };
                let attachment = Attachment::Watcher(watcher.clone());
                outboxes.push(shard, to, header, args);
                outboxes.attach(shard, attachment);
                parts += 1;
            };
            self.splitter.split_keys(self.map, header.command, &args, &mut give);
        }
        let line = self.is_monitored.then(|| {
            let args = session.parser.args(input.bytes());
            monitor::line(self.now_us, session.database, &session.peer, held.command, &args)
        });
        input.consume(held.consumed);
        let discard = session.discards_reply();
        session.note(held.command, self.now_us);
        if parts > 0 {
            let gather = Gather::new(Merge::AllOk, session.protocol, parts as usize);
            session.replies.gather(gather, discard);
        } else if !discard {
            let Connection { output, session, .. } = connection;
            let protocol = session.protocol;
            let out = session.replies.sink(output, &mut self.pool);
            ReplyWriter::new(out, protocol).ok();
        }
        self.show_if_any(line);
        None
    }
}

/// Ends MULTI and WATCH; answers what they held.
fn leave_multi(session: &mut Session) -> Transaction {
    let queue: Queue = session.queue.take().map(|queue| *queue).unwrap_or_default();
    let watch: Watch = session.watch.take().map(|watch| *watch).unwrap_or_default();
    Transaction { queue, watch }
}
