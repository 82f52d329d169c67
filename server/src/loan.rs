//! Shards lent whole, for what must be done over several of them as one step: RENAME, SUNIONSTORE and
//! their like, transactions and scripts.
//!
//! The worker of the connection, the *host*, borrows the shards:
//!
//! 1. In a cut (see `several`) it takes a place in the mailbox of every shard concerned, its own one
//!    too if that is. What has taken its place, or executed, is before the unit on all shards, and
//!    all else is behind it. All units that wait at the host go together.
//! 2. A worker that comes to that place hands its `Box<Shard>` over, which is one pointer, and
//!    stands still: it executes no command for this shard and does no work in the background on it.
//!    Sending, receiving, replies, and commands for other shards go on.
//! 3. When all shards are here, the host executes the units one after the other
//!    ([`Gathered`]): one step of one thread, in which every shard's own tables are at hand.
//! 4. It sends the shards back, and their owners go on with what has waited.
//!
//! Invariants:
//! - a host has one loan under way at a time; units that come meanwhile wait for its end, and then go
//!   together in the next;
//! - hosts cannot wait for each other in a circle: the places of a loan are taken at one instant, so
//!   all mailboxes have the loans in the same order, and the first of them waits for nobody;
//! - a connection with a unit under way executes nothing else until the unit is done, so that a unit
//!   which turns out to need more shards can start over with a later place.
#![forbid(unsafe_code)]

use std::mem;

use tessera_engine::{
    command::{Command, Effect, Run, Way},
    shard::Shard,
    transaction::{
        Gathered, Missing, ShardId, ShardMap, ShardSet, couplings::Coupling, exec::Transaction,
    },
    waiting::Waiter,
};
use tessera_proto::{Args, ReplyBuffer, RequestBatch};

use crate::{
    dispatch::Advance,
    monitor,
    net::{CloseMode, Connection, ConnectionId},
    parcel::{CallHeader, Message},
    replies::NO_SHARD,
    session::{Held, Standing},
    session_commands::After,
    stop_the_world::StopTheWorld,
    worker::Worker,
};

/// Something that is executed as one step over several shards.
pub(crate) struct Unit {
    /// Who gets the reply.
    pub(crate) connection: ConnectionId,
    /// The place in the connection's queue of replies.
    pub(crate) ticket: u64,
    /// The shards that it is known to need.
    pub(crate) shards: ShardSet,
    /// It has found nothing to take, and waits for data as soon as its keys are coupled.
    pub(crate) has_waited: bool,
    pub(crate) work: Work,
}

/// What a unit does.
pub(crate) enum Work {
    /// One command.
    Call { header: CallHeader, request: RequestBatch },
    /// EXEC.
    Transaction { header: CallHeader, transaction: Box<Transaction> },
    /// Something that the server itself does over all shards, while every worker stands still.
    StopTheWorld(StopTheWorld),
}

/// How the execution of a unit has ended.
enum Ended {
    /// It is done.
    Done,
    /// It waits for data.
    Waits(Waiter),
    /// It is to wait for data once these keys are coupled.
    WaitsFor(Coupling),
    /// It is a script that has been suspended, and keeps the shards.
    Suspended,
}

/// The loans of one host.
pub(crate) struct Loans {
    /// The shards that are here.
    gathered: Box<Gathered>,
    /// Units whose shards are asked for in the next cut.
    promised: Vec<Unit>,
    /// Units whose shards have been asked for.
    running: Vec<Unit>,
    /// The shards that they have been promised.
    asked: ShardSet,
    /// How many of these are not here yet.
    missing: usize,
    /// How many announcements of couplings all workers had heard before the shards were asked for.
    heard: u64,
    /// Units that need more shards than they had, and have not been promised these yet.
    again: Vec<Unit>,
    /// Connections with a unit that waits for the end of the loan under way.
    waiting: Vec<ConnectionId>,
}

impl Loans {
    pub(crate) fn new(map: ShardMap, seed: u64) -> Self {
        Self {
            gathered: Box::new(Gathered::new(map, seed)),
            promised: Vec::new(),
            running: Vec::new(),
            asked: ShardSet::default(),
            missing: 0,
            heard: 0,
            again: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// The shards that are here.
    pub(crate) fn gathered_mut(&mut self) -> &mut Gathered {
        &mut self.gathered
    }

    /// Exchanges the shards that are here with those of `other`.
    pub(crate) fn swap_gathered(&mut self, other: &mut Box<Gathered>) {
        mem::swap(&mut self.gathered, other);
    }

    /// Whether a loan is under way.
    pub(crate) fn is_under_way(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether units wait for the next cut.
    pub(crate) fn has_promised(&self) -> bool {
        !self.promised.is_empty()
    }

    /// Whether units wait to be promised more shards, and can be.
    pub(crate) fn wants_again(&self) -> bool {
        !self.again.is_empty() && !self.is_under_way()
    }

    /// Lets a unit go into the next cut for which there are credits.
    pub(crate) fn start_again(&mut self, unit: Unit) {
        self.again.push(unit);
    }

    /// A connection waits for the end of the loan under way.
    pub(crate) fn wait(&mut self, id: ConnectionId) {
        self.waiting.push(id);
    }

    /// The shards have been asked for, when all workers had heard `heard` announcements of couplings.
    pub(crate) fn asked(&mut self, shards: ShardSet, heard: u64) {
        if shards.is_empty() {
            return;
        }
        debug_assert!(!self.is_under_way() && self.running.is_empty());
        mem::swap(&mut self.running, &mut self.promised);
        (self.asked, self.heard) = (shards, heard);
        self.missing = shards.len();
    }
}

impl Worker {
    /// Lets the command at the front of the input, whose keys live on several shards, go into the
    /// next cut.
    pub(crate) fn promise_command(&mut self, id: ConnectionId, held: Held) -> Advance {
        if self.loans.is_under_way() {
            return Advance::NoLoan;
        }
        let Some(connection) = self.network.connection(id) else { return Advance::Finished };
        let Connection { input, session, .. } = connection;
        let args = session.parser.args(input.bytes());
        let shards = match held.command.run {
            Run::Session => Ok(ShardSet::all(self.map.shards())),
            Run::Script => {
                let mut request = RequestBatch::new();
                request.push(&args);
                let Some(args) = request.get(0) else { return Advance::Finished };
                self.script_shards(held, &args)
            }
            _ => self.splitter.shards(self.map, held.command, &args),
        };
        let mut shards = match shards {
            Ok(shards) => shards,
            Err(error) => return self.refuse(id, held, &error),
        };
        let Some(connection) = self.network.connection(id) else { return Advance::Finished };
        let Connection { input, session, .. } = connection;
        let args = session.parser.args(input.bytes());
        if let Some(couplings) = self.coupled.any() {
            let (map, positions) = (self.map, &mut self.positions);
            shards.extend(couplings.reached_by(map, held.command, &args, positions));
        }
        if !self.outboxes.may_borrow(shards) {
            return Advance::NoCredit;
        }
        let mut request = RequestBatch::new();
        request.push(&args);
        let line = self.is_monitored.then(|| {
            monitor::line(self.now_us, session.database, &session.peer, held.command, &args)
        });
        let discard = session.discards_reply();
        let ticket = session.replies.wait(NO_SHARD, discard);
        let mut header = CallHeader::new(held.command, session);
        header.caller.may_wait = held.command.way == Way::Waiting;
        input.consume(held.consumed);
        session.note(held.command, self.now_us);
        self.show_if_any(line);
        self.promise_unit(id, ticket, shards, Work::Call { header, request });
        Advance::Across
    }

    /// Lets a unit go into the next cut. No loan is under way, and its shards may be borrowed.
    pub(crate) fn promise_unit(
        &mut self,
        connection: ConnectionId,
        ticket: u64,
        shards: ShardSet,
        work: Work,
    ) {
        self.outboxes.will_borrow(shards);
        let has_waited = false;
        self.loans.promised.push(Unit { connection, ticket, shards, has_waited, work });
    }

    /// Lets units that start over go into the next cut, as far as there are credits.
    pub(crate) fn promise_again(&mut self) {
        if !self.loans.wants_again() {
            return;
        }
        for unit in mem::take(&mut self.loans.again) {
            if self.outboxes.may_borrow(unit.shards) {
                self.outboxes.will_borrow(unit.shards);
                self.loans.promised.push(unit);
            } else {
                self.loans.again.push(unit);
            }
        }
    }

    /// Hands the own shard to `host`, which may be this worker, and stands still until it is back.
    ///
    /// What is done to it there belongs to the epoch in which it was asked for.
    pub(crate) fn lend(&mut self, host: u32, now_us: i64, stamp: u64) {
        self.shard.advance_clock_us(now_us.max(self.now_us));
        self.shard.keyspace.journal.set_stamp(stamp);
        // Own commands have answers that do not leave before their records are durable: this turn's
        // look at the journal may find it gone.
        self.shared.aof.note_data(self.shard.keyspace.journal.fresh_epoch());
        let Some(shard) = self.shard.lend() else { return };
        if host == self.own {
            self.outboxes.answered(host);
            self.borrow(host, shard);
        } else {
            self.outboxes.received(host);
            self.outboxes.reply_to(host, Message::Lent { owner: self.own, shard });
        }
    }

    /// Takes a shard that has been lent; with the last one the units execute.
    pub(crate) fn borrow(&mut self, owner: ShardId, shard: Box<Shard>) {
        self.loans.gathered.put(owner, shard);
        self.loans.missing -= 1;
        if self.loans.missing == 0 {
            self.execute_units();
        }
    }

    /// Executes the units over the shards that are here, and sends these back.
    /// A script that gets suspended keeps them; when it has ended, this goes on.
    pub(crate) fn execute_units(&mut self) {
        self.make_time();
        self.loans.gathered.align_clocks(self.now_us);
        // A script that was suspended has ended, if this is called again.
        self.loans.gathered.serve_waiters();
        let mut units = mem::take(&mut self.loans.running);
        let mut left = units.drain(..);
        let is_suspended = left.by_ref().any(|unit| {
            let has_ended = self.execute_unit(unit);
            if has_ended {
                self.loans.gathered.serve_waiters();
            }
            !has_ended || self.shared.stop.is_final()
        });
        self.loans.running.extend(left);
        // What was saved for the end is the last word: nobody gets a shard back.
        if is_suspended || self.shared.stop.is_final() {
            return;
        }
        self.loans.running = units;
        for (_, shard) in self.loans.gathered.iter_mut() {
            self.shared.aof.note_data(shard.keyspace.journal.fresh_epoch());
        }
        let now_us = self.now_us;
        for owner in mem::take(&mut self.loans.asked).iter() {
            match self.loans.gathered.take(owner) {
                Some(shard) if owner == self.own => self.put_back(shard),
                Some(shard) => self.outboxes.return_shard(owner, shard, now_us),
                None => {}
            }
        }
        self.outboxes.wake();
        self.wake_stalled(|worker| mem::take(&mut worker.loans.waiting));
        self.serve_waiting();
    }

    /// Executes one unit, and lets its connection go on. Answers false if it is a script that has
    /// been suspended.
    fn execute_unit(&mut self, unit: Unit) -> bool {
        let client = (unit.connection, unit.ticket);
        if unit.has_waited && self.is_leaving(unit.connection) {
            self.network.close(unit.connection, CloseMode::AfterReply);
            return true;
        }
        let work = match unit.work {
            Work::Transaction { header, transaction } => {
                return self.exec_lent(client, header, transaction);
            }
            work => work,
        };
        let unit = Unit { work, ..unit };
        let mut answer = self.pool.take();
        self.stopwatch.start();
        let mut after = After::GoOn;
        match &unit.work {
            Work::Call { header, request } => {
                let to = (unit.connection, unit.ticket);
                match self.execute_gathered(to, header, request, &mut answer) {
                    Ok(Ended::Done) => {}
                    Ok(Ended::Waits(waiter)) => {
                        self.pool.put(answer);
                        let place = (unit.ticket, self.stopwatch.lap_ns());
                        self.begin_wait(unit.connection, place, waiter);
                        return true;
                    }
                    Ok(Ended::WaitsFor(coupling)) => {
                        self.pool.put(answer);
                        self.announce(coupling, Unit { has_waited: true, ..unit });
                        return true;
                    }
                    Ok(Ended::Suspended) => {
                        self.pool.put(answer);
                        return false;
                    }
                    Err(missing) => {
                        self.pool.put(answer);
                        self.start_over(unit, missing);
                        return true;
                    }
                }
            }
            Work::Transaction { .. } => {}
            Work::StopTheWorld(_) => {}
        }
        if let Work::StopTheWorld(work) = unit.work {
            after = self.execute_stop_the_world(work, &mut answer);
        }
        self.finish_reply(unit.connection, unit.ticket, &answer);
        self.pool.put(answer);
        self.go_on(unit.connection, after);
        true
    }

    /// Whether the client of a command that waits is gone, or has said that it sends no more: then
    /// nothing is taken for it.
    fn is_leaving(&mut self, id: ConnectionId) -> bool {
        self.network.connection(id).is_none_or(|open| open.is_closing() || open.session.is_ended)
    }

    /// Lets a unit start over with more shards.
    fn start_over(&mut self, mut unit: Unit, missing: Missing) {
        unit.shards = match missing {
            Missing::All => ShardSet::all(self.map.shards()),
            Missing::Shard(shard) => unit.shards.iter().chain([shard]).collect(),
        };
        self.loans.again.push(unit);
    }

    /// Lets a call that has run, and was undone, start over with all shards.
    pub(crate) fn start_over_with_all(
        &mut self,
        (connection, ticket): (ConnectionId, u64),
        header: CallHeader,
        request: RequestBatch,
    ) {
        let shards = ShardSet::all(self.map.shards());
        let work = Work::Call { header, request };
        let has_waited = false;
        self.loans.again.push(Unit { connection, ticket, shards, has_waited, work });
    }

    /// Lets the connection of a unit that has ended go on, or end itself.
    pub(crate) fn go_on(&mut self, id: ConnectionId, after: After) {
        match after {
            After::GoOn => self.let_go_on(id),
            After::Close => self.settle(id, Advance::Finished),
        }
    }

    /// A connection whose unit has ended goes on.
    pub(crate) fn let_go_on(&mut self, id: ConnectionId) {
        if let Some(connection) = self.network.connection(id)
            && connection.session.standing == Standing::Stalled
        {
            connection.session.standing = Standing::Ready;
            self.ready.push(id);
        }
    }

    /// Executes one command over the shards that are here.
    fn execute_gathered(
        &mut self,
        to: (ConnectionId, u64),
        header: &CallHeader,
        request: &RequestBatch,
        answer: &mut ReplyBuffer,
    ) -> Result<Ended, Missing> {
        if let Run::Script = header.command.run {
            let has_ended = self.run_script_unit(to, header, request, answer)?;
            return Ok(if has_ended { Ended::Done } else { Ended::Suspended });
        }
        let Some(args) = request.get(0) else { return Ok(Ended::Done) };
        if let Run::Session = header.command.run {
            self.change_libraries(to.0, header.command, &args, answer);
            return Ok(Ended::Done);
        }
        let call = header.call(args);
        if let Some(missing) = self.lacks_coupled(&call) {
            return Err(missing);
        }
        let outcome = self.loans.gathered.execute(&call, answer)?;
        if let Ok(Effect::Waits(_)) = outcome {
            let coupling = Coupling::of(&call, self.map);
            if self.coupled.may_wait(coupling.as_ref(), self.loans.heard) {
                return Ok(Ended::Waits(self.loans.gathered.wait(&call)));
            }
            return Ok(coupling.map_or(Ended::Done, Ended::WaitsFor));
        }
        self.note_call(Some(to.0), header.command, &args, outcome.as_ref().err());
        Ok(Ended::Done)
    }

    /// Executes a command that changes libraries over the shards that are here, which are all.
    fn change_libraries(
        &mut self,
        id: ConnectionId,
        command: &'static Command,
        args: &Args<'_>,
        answer: &mut ReplyBuffer,
    ) {
        let spare = self.take_alone();
        let mut gathered = mem::replace(&mut self.loans.gathered, spare);
        self.execute_on_libraries(id, command, args, answer, &mut gathered);
        self.alone = Some(mem::replace(&mut self.loans.gathered, gathered));
    }

    /// Takes the own shard back and goes on with what has waited for it.
    pub(crate) fn take_back(&mut self, shard: Box<Shard>) {
        self.put_back(shard);
        self.serve_waiting();
    }

    pub(crate) fn put_back(&mut self, shard: Box<Shard>) {
        self.shard.put_back(shard);
        self.configure_if_due();
    }

    /// Tells the shard, which is here again, of what was configured meanwhile.
    pub(crate) fn configure_if_due(&mut self) {
        if mem::take(&mut self.configure_when_back) {
            self.configure_shard();
        }
    }
}
