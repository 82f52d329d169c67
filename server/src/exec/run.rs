//! A transaction under way: its commands, one after the other.
//!
//! One of its scripts may run longer than `busy-reply-threshold`. It is suspended then like any other:
//! the transaction stands still where it is ([`Suspended`]), its shards stay with it, all workers
//! refuse most commands with BUSY, and when the script has ended the rest follows.
//!
//! Invariant: nobody sees a shard of the transaction between its first command and its last.
#![forbid(unsafe_code)]

use std::mem;

use tessera_engine::{
    command::{Command, CommandError, Run},
    transaction::{Gathered, exec::Transaction},
};
use tessera_proto::{Args, Mark, ReplyBuffer, ReplyWriter};

use super::questions::Pieces;
use crate::{
    dispatch::Advance,
    net::ConnectionId,
    parcel::CallHeader,
    replies::NO_SHARD,
    session::{Held, ReplyMode},
    session_commands::{After, Asked, Code, PART_PROTOCOL, pubsub},
    worker::Worker,
};

/// How far a transaction has come.
pub(crate) struct TransactionRun {
    /// Its connection, if that is one of this worker's, and the place of the reply.
    client: Option<(ConnectionId, u64)>,
    /// How EXEC itself came.
    header: CallHeader,
    /// Which of its commands is next.
    next: usize,
    /// When it began, by the stopwatch.
    began: u64,
    pieces: Pieces,
    /// What becomes of the connection.
    after: After,
    answer: ReplyBuffer,
}

impl TransactionRun {
    fn new(client: Option<(ConnectionId, u64)>, header: CallHeader, answer: ReplyBuffer) -> Self {
        let (pieces, after) = (Pieces::default(), After::GoOn);
        Self { client, header, next: 0, began: 0, pieces, after, answer }
    }
}

/// A transaction of which a script is suspended.
pub(crate) struct Suspended {
    run: TransactionRun,
    transaction: Box<Transaction>,
    /// The own shard, if it runs over that alone; else it runs over the shards that are lent.
    alone: Option<Box<Gathered>>,
}

impl Suspended {
    /// The shards that it runs over, if they are not lent ones.
    pub(crate) fn alone_mut(&mut self) -> Option<&mut Gathered> {
        self.alone.as_deref_mut()
    }
}

impl Worker {
    /// Executes a transaction at once, over the own shard or none.
    pub(super) fn exec_in_place(
        &mut self,
        id: ConnectionId,
        held: Held,
        shard: Option<u32>,
    ) -> Option<Advance> {
        let (ticket, header, transaction) = self.take_transaction(id, held, NO_SHARD)?;
        let alone = self.enter_alone(shard.is_some());
        let run = TransactionRun::new(Some((id, ticket)), header, self.pool.take());
        let transaction = Box::new(transaction);
        match self.exec_alone(alone, Suspended { run, transaction, alone: None }) {
            Some(After::GoOn) => None,
            Some(After::Close) => Some(Advance::Finished),
            // It goes on when a script of the transaction has ended.
            None => Some(Advance::Across),
        }
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
        let mut run = TransactionRun::new(None, *header, mem::take(answer));
        let has_ended = self.exec(&mut alone, transaction, &mut run);
        debug_assert!(has_ended, "scripts are not sent");
        *answer = run.answer;
        self.leave_alone(alone);
    }

    /// Executes a transaction of this worker's connection over the shards that are lent; answers
    /// whether it has ended. If not, one of its scripts is suspended, and it goes on when that ends.
    pub(crate) fn exec_lent(
        &mut self,
        client: (ConnectionId, u64),
        header: CallHeader,
        transaction: Box<Transaction>,
    ) -> bool {
        let run = TransactionRun::new(Some(client), header, self.pool.take());
        self.exec_over_loans(Suspended { run, transaction, alone: None })
    }

    /// Executes what is left of a transaction over the shards that are lent; answers whether it has
    /// ended.
    fn exec_over_loans(&mut self, mut rest: Suspended) -> bool {
        let mut gathered = self.take_alone();
        self.loans.swap_gathered(&mut gathered);
        let has_ended = self.exec(&mut gathered, &rest.transaction, &mut rest.run);
        self.loans.swap_gathered(&mut gathered);
        self.alone = Some(gathered);
        if !has_ended {
            self.scripts.keep_transaction(rest);
            return false;
        }
        let after = rest.run.after;
        if let Some(id) = self.finish_exec(rest.run) {
            self.go_on(id, after);
        }
        true
    }

    /// Executes what is left of a transaction over the own shard; answers how its connection goes on,
    /// or nothing if a script is suspended once more.
    fn exec_alone(&mut self, mut alone: Box<Gathered>, mut rest: Suspended) -> Option<After> {
        if !self.exec(&mut alone, &rest.transaction, &mut rest.run) {
            rest.alone = Some(alone);
            self.scripts.keep_transaction(rest);
            return None;
        }
        self.leave_alone(alone);
        let after = rest.run.after;
        self.finish_exec(rest.run);
        Some(after)
    }

    /// A script that was suspended within a transaction has ended with `answer`: the transaction goes
    /// on, and all that has waited for its shards when it has ended.
    pub(crate) fn resume_transaction(&mut self, mut rest: Suspended, answer: &ReplyBuffer) {
        rest.run.answer.append(answer);
        rest.run.next += 1;
        let Some(alone) = rest.alone.take() else {
            if self.exec_over_loans(rest) {
                self.execute_units();
            }
            return;
        };
        let client = rest.run.client;
        if let Some(after) = self.exec_alone(alone, rest) {
            if let Some((id, _)) = client {
                self.go_on(id, after);
            }
            self.serve_waiting();
        }
    }

    /// Executes a transaction over the shards that it needs, from where it stands; answers false if one
    /// of its scripts has been suspended.
    fn exec(
        &mut self,
        gathered: &mut Gathered,
        transaction: &Transaction,
        run: &mut TransactionRun,
    ) -> bool {
        self.stopwatch.start();
        if run.next == 0 {
            run.began = self.stopwatch.mark();
        }
        if run.next == 0 && !self.begin_exec(gathered, transaction, run) {
            return true;
        }
        while let Some((command, args)) = transaction.queue.get(run.next) {
            if let Run::Session = command.run {
                self.exec_session((command, &args), gathered, run);
            } else if !self.exec_command((command, &args), gathered, run) {
                return false;
            }
            run.next += 1;
        }
        // What its commands took is a part of what it took itself.
        let nanos = self.stopwatch.since_ns(run.began);
        self.metrics.executed(run.header.command, nanos, None);
        if let Some((id, ticket)) = run.client {
            let pieces = mem::take(&mut run.pieces);
            self.ask_later(id, ticket, pieces, &mut run.answer);
        }
        true
    }

    /// Begins the reply, unless a watched key has changed: then that is all.
    fn begin_exec(
        &mut self,
        gathered: &mut Gathered,
        transaction: &Transaction,
        run: &mut TransactionRun,
    ) -> bool {
        let mut reply = ReplyWriter::new(&mut run.answer, run.header.protocol);
        let holds = transaction.begin(gathered);
        if holds {
            reply.array(transaction.queue.len());
        } else {
            reply.null_array();
            self.metrics.executed(run.header.command, self.stopwatch.lap_ns(), None);
        }
        holds
    }

    /// Executes a command on shards, or a script; answers false if that has been suspended.
    fn exec_command(
        &mut self,
        (command, args): (&'static Command, &Args<'_>),
        gathered: &mut Gathered,
        run: &mut TransactionRun,
    ) -> bool {
        let id = run.client.map(|(id, _)| id);
        let header = self.header_now(run.client, &run.header, command);
        let answer = &mut run.answer;
        if let Run::Script = command.run {
            // It finds the shards where those of loans are.
            mem::swap(gathered, self.loans.gathered_mut());
            let has_ended = self.run_script_inside(run.client, &header, args, answer);
            mem::swap(gathered, self.loans.gathered_mut());
            self.count_inner(run.client);
            return has_ended;
        }
        let before = answer.mark();
        let outcome = gathered.execute(&header.call(*args), answer).unwrap_or_else(|missing| {
            // What a call needs was known when EXEC took its place.
            let text = format!("ERR '{}' needs shards: {missing:?}", command.full_name);
            ReplyWriter::new(answer, header.protocol).error(&text);
            Err(CommandError::text(text))
        });
        if self.is_silent(run.client) {
            run.answer.truncate(before);
        }
        self.count_inner(run.client);
        self.note_call(id, command, args, outcome.as_ref().err());
        true
    }

    /// Counts a command of a transaction among its client's.
    fn count_inner(&mut self, client: Option<(ConnectionId, u64)>) {
        let connection = client.and_then(|(id, _)| self.network.connection(id));
        if let Some(connection) = connection {
            connection.session.commands += 1;
        }
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
        (command, args): (&'static Command, &Args<'_>),
        gathered: &mut Gathered,
        run: &mut TransactionRun,
    ) {
        let Some((id, _)) = run.client else { return };
        let refusal = match self.codes.get(command) {
            None => format!("ERR '{}' is not built yet", command.full_name),
            Some(Code::OnWorker(_)) => "ERR Command not allowed inside a transaction".into(),
            Some(Code::Libraries(_)) => {
                let answer = &mut run.answer;
                let after = self.execute_on_libraries(id, command, args, answer, gathered);
                run.after = run.after.max(after);
                return;
            }
            Some(code) => return self.exec_session_code(id, (command, code, args), gathered, run),
        };
        ReplyWriter::new(&mut run.answer, PART_PROTOCOL).error(&refusal);
    }

    fn exec_session_code(
        &mut self,
        id: ConnectionId,
        (command, code, args): (&'static Command, Code, &Args<'_>),
        gathered: &mut Gathered,
        run: &mut TransactionRun,
    ) {
        let mut reply = self.pool.take();
        let Some(called) = self.call_queued(id, command, code, args, &mut reply) else { return };
        let (answer, pieces) = (&mut run.answer, &mut run.pieces);
        if !matches!(called.asked, Asked::Answered) {
            self.metrics.executed(command, called.nanos, None);
        }
        match called.asked {
            Asked::Workers { args, merge } => {
                let shards = 0..self.map.shards() as u32;
                let parts = shards.map(|shard| (shard, args.clone())).collect();
                self.note_question(id, command, (parts, merge), answer.mark(), pieces);
            }
            Asked::Parts { parts, merge } if pubsub::changes_subscriptions(command) => {
                for (shard, args) in &parts {
                    if let Some(shard) = gathered.get_mut(*shard) {
                        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                        pubsub::change_audience(shard.keyspace.audience_mut(), &args);
                    }
                }
                merge.finish(&[], run.header.protocol, answer);
            }
            Asked::Parts { parts, merge } => {
                self.note_question(id, command, (parts, merge), answer.mark(), pieces);
            }
            Asked::Answered if !self.is_silent(run.client) => answer.append(&reply),
            Asked::Answered => {}
        }
        self.pool.put(reply);
        self.count_inner(run.client);
        run.after = run.after.max(called.after);
    }

    /// Puts the reply of a transaction that has ended in its place; answers its connection.
    fn finish_exec(&mut self, run: TransactionRun) -> Option<ConnectionId> {
        let (id, ticket) = run.client?;
        self.finish_reply(id, ticket, &run.answer);
        self.pool.put(run.answer);
        Some(id)
    }

    /// Puts the reply of a transaction in its place, unless it waits for answers.
    pub(crate) fn finish_reply(&mut self, id: ConnectionId, ticket: u64, answer: &ReplyBuffer) {
        let Some(connection) = self.network.connection(id) else { return };
        if connection.session.replies.is_waiting(ticket) {
            self.arrive(id, ticket, 0, (answer, Mark::default()..answer.mark()));
        }
    }
}
