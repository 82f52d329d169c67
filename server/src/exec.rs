//! EXEC and WATCH: transactions, from the queue of their connection to the shards and back.
//!
//! An EXEC whose keys, watched ones included, are all on one shard is executed there whole, as one
//! call: in place if that is the own shard, else it travels in a parcel. Otherwise the shards are lent
//! (see `loan`), and it is executed here. So is one that holds commands of the session (CLIENT,
//! SELECT, CONFIG …), since only this worker has the connection.
//!
//! ```text
//! run         its commands one after the other; a script may be suspended among them
//! questions   commands that ask all workers, which are asked behind it
//! watch       WATCH
//! ```
//!
//! Invariants:
//! - all commands of a transaction are executed in one step of one thread, on shards that nobody else
//!   reaches meanwhile;
//! - what EXEC depends on and what it executes leave the session when it takes its place, so whatever
//!   the connection sends next finds it outside of MULTI.
#![forbid(unsafe_code)]

mod questions;
mod run;
mod watch;

use tessera_engine::{
    command::{
        Command, CommandError, Run,
        table::{Flags, flag},
    },
    transaction::{
        Route, ShardId, ShardSet,
        exec::{Queue, Transaction, Watch},
    },
};
use tessera_proto::ReplyWriter;

pub(crate) use self::{questions::Question, run::Suspended};
use crate::{
    dispatch::Advance,
    loan::Work,
    memory::permit_memory,
    monitor,
    net::{Connection, ConnectionId},
    parcel::{Addressee, Attachment, CallHeader},
    pause::Pause,
    replies::{NO_SHARD, Out},
    session::{Held, Session},
    session_commands::{Code, permit_write, pubsub},
    worker::Worker,
};

/// Commands that are executed at once although their connection is in MULTI.
pub(crate) fn is_queued(command: &Command) -> bool {
    !matches!(command.full_name, "exec" | "discard" | "quit" | "reset")
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
        let flags = queue.flags();
        if let Err(error) = self.permit_transaction(flags) {
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

    /// Whether a transaction whose commands have these flags may be executed now.
    fn permit_transaction(&self, flags: Flags) -> Result<(), CommandError> {
        if self.care & flag::WRITE != 0 && flags.has(flag::WRITE) {
            permit_write(&self.shared)?;
        }
        if flags.has(flag::DENYOOM) { permit_memory(&self.shared) } else { Ok(()) }
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
                    let of_libraries = matches!(self.codes.get(command), Some(Code::Libraries(_)));
                    // Subscriptions take effect in their place, wherever the channels belong.
                    if of_libraries || pubsub::changes_subscriptions(command) {
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
            // What is pushed may be for clients that wait for keys of other shards too.
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
        let Connection { input, output, ungated, session, .. } = self.network.connection(id)?;
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
        let mut reply = self.pool.take();
        let outcome = answer(&mut ReplyWriter::new(&mut reply, protocol));
        if let Err(error) = &outcome {
            ReplyWriter::new(&mut reply, protocol).error(&error.to_string());
        }
        if !discard {
            // That a watched key has changed may be lost; a refusal tells of no key.
            let (out, is_ungated) = (Out { buffer: output, ungated }, outcome.is_err());
            session.replies.answer(out, is_ungated, &mut self.pool, |out| out.append(&reply));
        }
        self.pool.put(reply);
        self.metrics.executed(held.command, 0, outcome.as_ref().err());
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
