//! Commands of the session: executed at their connection's worker, or decided there and asked of all
//! workers.
#![forbid(unsafe_code)]

use std::{mem, sync::Arc};

use tessera_engine::{
    command::{Command, CommandError},
    transaction::{ShardId, ShardMap},
};
use tessera_proto::{Args, Mark, ReplyBuffer, ReplyWriter};

use crate::{
    dispatch::Advance,
    gather::{Count, Gather, Merge},
    metrics::WorkerMetrics,
    monitor,
    net::{Connection, ConnectionId},
    parcel::{Addressee, CallHeader},
    replies::Out,
    saving::drive::{Awaited, SaveWaiter},
    scripts::Scripts,
    server::Shared,
    session::{Held, Session},
    session_commands::{After, Asked, Code, SessionContext, Sizes},
    slowlog::Watch,
    stopwatch::Stopwatch,
    worker::Worker,
};

/// What has become of a session command.
pub(crate) struct Called {
    /// It failed, or was answered, or asks all workers.
    pub(crate) asked: Asked,
    pub(crate) after: After,
    /// It is answered when this has ended.
    waits_for: Option<Awaited>,
    /// The reply is sent although CLIENT REPLY said otherwise when the command came.
    answers_anyway: bool,
    /// How long it took.
    pub(crate) nanos: u64,
}

/// What calling the code of a session command takes of the worker.
struct Caller<'a> {
    shared: &'a Arc<Shared>,
    metrics: &'a WorkerMetrics,
    stopwatch: &'a mut Stopwatch,
    watch: &'a Watch,
    worker: usize,
    map: ShardMap,
    now_us: i64,
    scripts: Option<&'a mut Scripts>,
}

impl Caller<'_> {
    /// Calls the code, and counts the call. An error is written as its reply.
    fn call(
        self,
        (session, sizes): (&mut Session, Sizes),
        (command, code): (&'static Command, Code),
        args: &Args<'_>,
        reply: &mut ReplyBuffer,
    ) -> Called {
        let mut context = SessionContext {
            session,
            out: reply,
            shared: self.shared,
            worker: self.worker,
            map: self.map,
            now_us: self.now_us,
            sizes,
            scripts: self.scripts,
            after: After::GoOn,
            waits_for: None,
            answers_anyway: false,
        };
        self.stopwatch.start();
        let outcome = match code {
            Code::Local(function)
            | Code::Libraries(function)
            | Code::Waiting { now: function, .. } => {
                function(&mut context, args).map(|()| Asked::Answered)
            }
            Code::Everywhere(everywhere) => (everywhere.ask)(&mut context, args),
            Code::OnWorker(_) => Ok(Asked::Answered),
        };
        let (after, answers_anyway) = (context.after, context.answers_anyway);
        let waits_for = context.waits_for.take();
        if let Err(error) = &outcome {
            reply.clear();
            ReplyWriter::new(reply, session.protocol).error(&error.to_string());
        }
        let nanos = self.stopwatch.lap_ns();
        // What asks all workers is counted when they have answered.
        if !matches!(outcome, Ok(Asked::Workers { .. } | Asked::Parts { .. })) {
            self.metrics.executed(command, nanos, outcome.as_ref().err());
        }
        if self.watch.is_slow(nanos) {
            let client = (session.peer.as_str(), session.name.as_str());
            self.watch.note(self.shared, command, args, (self.now_us, nanos), client);
        }
        let asked = outcome.unwrap_or(Asked::Answered);
        Called { asked, after, waits_for, answers_anyway, nanos }
    }
}

impl Worker {
    /// Executes a session command. Answers how the connection goes on if that is not with its next
    /// command.
    pub(crate) fn run_session(
        &mut self,
        id: ConnectionId,
        held: Held,
        may_run: bool,
    ) -> Option<Advance> {
        let code = match self.session_code(id, held) {
            Ok(code) => code,
            Err(advance) => return Some(advance),
        };
        match code {
            Code::OnWorker(command) | Code::Waiting { on_worker: command, .. } => {
                (command.run)(self, id, held, may_run)
            }
            Code::Everywhere(_) if self.map.shards() == 1 => self.pack_session(id, held),
            Code::Everywhere(_) | Code::Libraries(_) => {
                // All workers are asked, or all shards lent, in a cut.
                Some(self.hold(id, held, Advance::Cut))
            }
            Code::Local(_) => {
                let (Called { after, .. }, discard, reply) = self.call_session(id, held, code)?;
                self.answer_session(id, held.command, discard, reply);
                (after == After::Close).then_some(Advance::Finished)
            }
        }
    }

    /// Packs the questions of a command that asks all workers, for the next cut; a lone worker answers
    /// at once. Answers how the connection goes on if that is not with its next command.
    pub(crate) fn pack_session(&mut self, id: ConnectionId, held: Held) -> Option<Advance> {
        let code = match self.session_code(id, held) {
            Ok(code @ Code::Everywhere(_)) => code,
            Ok(Code::OnWorker(command) | Code::Waiting { on_worker: command, .. }) => {
                return (command.pack)(self, id, held);
            }
            Ok(Code::Libraries(_)) => return Some(self.promise_command(id, held)),
            Ok(Code::Local(_)) => return Some(Advance::NextRound),
            Err(advance) => return Some(advance),
        };
        let shards = self.map.shards() as u32;
        if !(0..shards).all(|shard| self.outboxes.has_room(shard)) {
            return Some(Advance::NoCredit);
        }
        let (called, discard, reply) = self.call_session(id, held, code)?;
        let Called { asked, after, waits_for, nanos, .. } = called;
        match asked {
            Asked::Answered => self.answer_session(id, held.command, discard, reply),
            Asked::Workers { args, merge } => {
                self.pool.put(reply);
                let answers = self.map.shards() + usize::from(waits_for.is_some());
                let joined = (merge, answers);
                let parts: Vec<_> = (0..shards).map(|shard| (shard, args.as_slice())).collect();
                let ticket = self.ask_workers(id, (held.command, nanos), &parts, joined, discard);
                if let (Some(ticket), Some(awaited)) = (ticket, waits_for) {
                    let part = self.map.shards() as u32;
                    self.save_waiters.push(SaveWaiter { connection: id, ticket, part, awaited });
                }
            }
            Asked::Parts { parts, merge } => {
                self.pool.put(reply);
                let parts: Vec<_> =
                    parts.iter().map(|(shard, args)| (*shard, args.as_slice())).collect();
                let joined = (merge, parts.len());
                self.ask_workers(id, (held.command, nanos), &parts, joined, discard);
            }
        }
        (after == After::Close).then_some(Advance::Finished)
    }

    /// The code of a session command; without any it is refused.
    fn session_code(&mut self, id: ConnectionId, held: Held) -> Result<Code, Advance> {
        self.codes.get(held.command).ok_or_else(|| {
            let text = format!("ERR '{}' is not built yet", held.command.full_name);
            self.refuse(id, held, &CommandError::text(text))
        })
    }

    /// Calls the code of a session command on the request at the front of the input, and drops that.
    /// Answers also whether the reply is thrown away, and the reply.
    fn call_session(
        &mut self,
        id: ConnectionId,
        held: Held,
        code: Code,
    ) -> Option<(Called, bool, ReplyBuffer)> {
        let connection = self.network.connection(id)?;
        let mut sizes = Sizes::of(id, connection);
        sizes.input -= held.consumed;
        let Connection { input, session, .. } = connection;
        let discard = session.discards_reply();
        let database = session.database;
        let parser = mem::take(&mut session.parser);
        let args = parser.args(input.bytes());
        let mut reply = self.pool.take();
        let caller = Caller {
            shared: &self.shared,
            metrics: &self.metrics,
            stopwatch: &mut self.stopwatch,
            watch: &self.watch,
            worker: self.own as usize,
            map: self.map,
            now_us: self.now_us,
            scripts: Some(&mut self.scripts),
        };
        let called = caller.call((session, sizes), (held.command, code), &args, &mut reply);
        let line = self
            .is_monitored
            .then(|| monitor::line(self.now_us, database, &session.peer, held.command, &args));
        session.parser = parser;
        session.note(held.command, self.now_us);
        input.consume(held.consumed);
        self.show_if_any(line);
        let discard = discard && !called.answers_anyway;
        Some((called, discard, reply))
    }

    /// Calls the code of a session command that was queued.
    pub(crate) fn call_queued(
        &mut self,
        id: ConnectionId,
        command: &'static Command,
        code: Code,
        args: &Args<'_>,
        reply: &mut ReplyBuffer,
    ) -> Option<Called> {
        let connection = self.network.connection(id)?;
        let sizes = Sizes::of(id, connection);
        let caller = Caller {
            shared: &self.shared,
            metrics: &self.metrics,
            stopwatch: &mut self.stopwatch,
            watch: &self.watch,
            worker: self.own as usize,
            map: self.map,
            now_us: self.now_us,
            scripts: Some(&mut self.scripts),
        };
        Some(caller.call((&mut connection.session, sizes), (command, code), args, reply))
    }

    /// Puts the reply of a session command in its place.
    fn answer_session(
        &mut self,
        id: ConnectionId,
        command: &Command,
        discard: bool,
        reply: ReplyBuffer,
    ) {
        let is_ungated = self.codes.is_ungated(command);
        if let Some(Connection { output, ungated, session, .. }) = self.network.connection(id)
            && !discard
        {
            let out = Out { buffer: output, ungated };
            session.replies.answer(out, is_ungated, &mut self.pool, |out| out.append(&reply));
        }
        self.pool.put(reply);
    }

    /// Packs questions to workers, which this one may be among, at most one for each. Answers the
    /// place of the reply, which waits for so many answers.
    fn ask_workers(
        &mut self,
        id: ConnectionId,
        (command, nanos): (&'static Command, u64),
        parts: &[(ShardId, &[Vec<u8>])],
        (merge, answers): (Merge, usize),
        discard: bool,
    ) -> Option<u64> {
        let Connection { session, .. } = self.network.connection(id)?;
        let gather = Gather::new(merge, session.protocol, answers)
            .from_shards(parts.iter().map(|(shard, _)| *shard))
            .counted(Count::begun(command, nanos))
            .ungated(self.codes.is_ungated(command));
        let ticket = session.replies.gather(gather, discard);
        let header = CallHeader::new(command, session);
        self.pack_parts_of_question(id, ticket, header, parts);
        Some(ticket)
    }

    /// Packs a question to every worker; the only worker answers its own in place.
    pub(crate) fn pack_question(
        &mut self,
        id: ConnectionId,
        ticket: u64,
        header: CallHeader,
        question: &[Vec<u8>],
    ) {
        let shards = 0..self.map.shards() as u32;
        let parts: Vec<_> = shards.map(|shard| (shard, question)).collect();
        self.pack_parts_of_question(id, ticket, header, &parts);
    }

    fn pack_parts_of_question(
        &mut self,
        id: ConnectionId,
        ticket: u64,
        header: CallHeader,
        parts: &[(ShardId, &[Vec<u8>])],
    ) {
        let mut made_up = mem::take(&mut self.made_up);
        made_up.clear();
        parts.iter().for_each(|(_, args)| made_up.push_slices(args.iter().map(Vec::as_slice)));
        for ((part, (shard, _)), args) in (0..).zip(parts).zip(made_up.iter()) {
            if self.map.shards() == 1 {
                self.ask_itself(id, ticket, &header, &args);
            } else {
                let to = Addressee { connection: id, ticket, part };
                self.outboxes.push(*shard, to, header, &args);
            }
        }
        self.made_up = made_up;
    }

    /// The only worker answers its own question in place.
    fn ask_itself(&mut self, id: ConnectionId, ticket: u64, header: &CallHeader, args: &Args<'_>) {
        let mut answer = self.pool.take();
        self.execute_part(Some(id), header, args, &mut answer);
        let whole = Mark::default()..answer.mark();
        self.arrive(id, ticket, 0, (&answer, whole));
        self.pool.put(answer);
    }

    /// Answers a request at the front of the input with an error and goes on.
    pub(crate) fn refuse(&mut self, id: ConnectionId, held: Held, error: &CommandError) -> Advance {
        let Some(connection) = self.network.connection(id) else { return Advance::Finished };
        let Connection { input, output, ungated, session, .. } = connection;
        let discard = session.discards_reply();
        input.consume(held.consumed);
        session.note(held.command, self.now_us);
        self.metrics.refused(Some(held.command), error);
        if !discard {
            let protocol = session.protocol;
            let out = Out { buffer: output, ungated };
            session.replies.answer(out, true, &mut self.pool, |out| {
                ReplyWriter::new(out, protocol).error(&error.to_string());
            });
        }
        Advance::NextRound
    }
}
