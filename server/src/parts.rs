//! Commands that do not go to one shard: those of the session, those in parts over several shards,
//! and those that ask every worker.
//!
//! A command in parts becomes one request for each part. All parts leave in one round, so that each
//! takes its place before the connection's next command does; the [`Gather`] at the command's place
//! in the reply queue joins the answers. Parts are executed one by one: what must happen on several
//! shards at one instant is not split but goes through a transaction.
#![forbid(unsafe_code)]

use std::{mem, sync::Arc};

use tessera_engine::{
    command::{Command, CommandError, Way},
    transaction::round::SecondHalf,
};
use tessera_proto::{Args, Mark, ReplyBuffer, ReplyWriter, RequestBatch};

use crate::{
    dispatch::Advance,
    gather::{Count, Gather, Merge, inner_cursor},
    net::{Connection, ConnectionId},
    parcel::{Addressee, CallHeader},
    route::ShardMap,
    session::Held,
    session_commands::{After, Asked, Code, Everywhere, PART_PROTOCOL, SessionContext, Sizes},
    worker::Worker,
};

/// The parts of one command.
struct Plan {
    merge: Merge,
    /// The request of every part.
    requests: RequestBatch,
    /// The shard and the row of every part.
    to: Vec<(u32, &'static Command)>,
}

impl Worker {
    /// Executes a session command. Answers how the connection goes on if that is not with its next
    /// command.
    pub(crate) fn run_session(
        &mut self,
        id: ConnectionId,
        held: Held,
        mut half: SecondHalf,
    ) -> Option<Advance> {
        let Some(code) = self.codes.get(held.command) else {
            let text = format!("ERR '{}' is not built yet", held.command.full_name);
            return Some(self.refuse(id, held, &CommandError::text(text)));
        };
        let shards = self.map.shards() as u32;
        // All workers are asked in one round, the own one in place.
        if let Code::Everywhere(_) = code
            && let Err(blocked) = half.admit_parts(0..shards, |to| self.outboxes.has_room(to))
        {
            return Some(blocked.into());
        }
        let connection = self.network.connection(id)?;
        let mut sizes = Sizes::of(id, connection);
        sizes.input -= held.consumed;
        let Connection { input, output, session, .. } = connection;
        let discard = session.discards_reply();
        let parser = mem::take(&mut session.parser);
        let args = parser.args(input.bytes());
        let mut out = self.pool.take();
        let mut context = SessionContext {
            session,
            out: &mut out,
            shared: &self.shared,
            worker: self.own as usize,
            now_us: self.now_us,
            sizes,
            after: After::GoOn,
            answers_anyway: false,
        };
        let mut asked = Asked::Answered;
        self.stopwatch.start();
        let outcome = match code {
            Code::Local(function) => function(&mut context, &args),
            Code::Everywhere(everywhere) => {
                (everywhere.ask)(&mut context, &args).map(|decided| asked = decided)
            }
        };
        let after = context.after;
        let discard = discard && !context.answers_anyway;
        if let Err(error) = &outcome {
            out.clear();
            ReplyWriter::new(&mut out, session.protocol).error(&error.to_string());
        }
        let nanos = self.stopwatch.lap_ns();
        if matches!(asked, Asked::Answered) {
            self.metrics.executed(held.command, nanos, outcome.as_ref().err());
        }
        if self.watch.is_slow(nanos) {
            let client = (session.peer.as_str(), session.name.as_str());
            self.watch.note(&self.shared, held.command, &args, (self.now_us, nanos), client);
        }
        session.parser = parser;
        session.note(held.command, self.now_us);
        input.consume(held.consumed);
        match (asked, code) {
            (Asked::Workers { args, merge }, Code::Everywhere(everywhere)) => {
                let metrics = Arc::clone(&self.metrics);
                let count = Count { metrics, command: held.command, nanos };
                let gather = Gather::new(merge, session.protocol, shards as usize).counted(count);
                let ticket = session.replies.gather(gather, discard);
                let header = CallHeader::new(held.command, session);
                self.pool.put(out);
                self.ask_everywhere(id, ticket, header, everywhere, &args);
                return Some(match after {
                    After::GoOn => Advance::NextRound,
                    After::Close => Advance::Finished,
                });
            }
            _ if !discard => session.replies.sink(output, &mut self.pool).append(&out),
            _ => {}
        }
        self.pool.put(out);
        (after == After::Close).then_some(Advance::Finished)
    }

    /// Sends a question to all workers and answers it here.
    fn ask_everywhere(
        &mut self,
        id: ConnectionId,
        ticket: u64,
        header: CallHeader,
        everywhere: &Everywhere,
        arguments: &[Vec<u8>],
    ) {
        let mut question = RequestBatch::new();
        question.push_slices(arguments.iter().map(Vec::as_slice));
        let Some(args) = question.get(0) else { return };
        for shard in (0..self.map.shards() as u32).filter(|&shard| shard != self.own) {
            let to = Addressee { connection: id, ticket, part: shard };
            self.outboxes.push(shard, to, header, &args);
        }
        let mut answer = self.pool.take();
        (everywhere.part)(self, &args, &mut ReplyWriter::new(&mut answer, PART_PROTOCOL));
        let nanos = self.stopwatch.lap_ns();
        if self.watch.is_slow(nanos) {
            self.note_slow_part(id, header.command, &args, nanos);
        }
        let whole = Mark::default()..answer.mark();
        self.arrive(id, ticket, self.own, (&answer, whole));
        self.pool.put(answer);
    }

    /// Enters the own part of a question to all workers that took long (DEBUG SLEEP), with the name
    /// that the table has for it and the arguments of the part.
    #[cold]
    fn note_slow_part(
        &mut self,
        id: ConnectionId,
        command: &'static Command,
        args: &Args<'_>,
        nanos: u64,
    ) {
        let mut line = RequestBatch::new();
        line.push_slices(command.full_name.split('|').map(str::as_bytes).chain(args.iter()));
        let (Some(connection), Some(args)) = (self.network.connection(id), line.get(0)) else {
            return;
        };
        let client = (connection.session.peer.as_str(), connection.session.name.as_str());
        self.watch.note(&self.shared, command, &args, (self.now_us, nanos), client);
    }

    /// Sends the parts of a command to their shards; executes those of the own shard.
    pub(crate) fn send_parts(
        &mut self,
        id: ConnectionId,
        held: Held,
        mut half: SecondHalf,
    ) -> Advance {
        let Some(connection) = self.network.connection(id) else { return Advance::Finished };
        let args = connection.session.parser.args(connection.input.bytes());
        let plan = match plan(self.map, held.command, &args, &mut self.positions, &mut || {
            self.random.next_u64()
        }) {
            Ok(plan) => plan,
            Err(error) => return self.refuse(id, held, &error),
        };
        let shards = plan.to.iter().map(|&(shard, _)| shard);
        if let Err(blocked) = half.admit_parts(shards, |to| self.outboxes.has_room(to)) {
            connection.session.held = Some(held);
            return blocked.into();
        }
        let Connection { input, session, .. } = connection;
        let discard = session.discards_reply();
        let header = CallHeader::new(held.command, session);
        let gather = Gather::new(plan.merge, session.protocol, plan.to.len());
        let ticket = session.replies.gather(gather, discard);
        input.consume(held.consumed);
        session.note(held.command, self.now_us);
        let mut answer = self.pool.take();
        for (part, (args, &(shard, command))) in plan.requests.iter().zip(&plan.to).enumerate() {
            let to = Addressee { connection: id, ticket, part: part as u32 };
            let header = CallHeader { command, ..header };
            if shard == self.own {
                answer.clear();
                self.execute_call(&header, args, &mut answer);
                self.arrive(id, ticket, to.part, (&answer, Mark::default()..answer.mark()));
            } else {
                self.outboxes.push(shard, to, header, &args);
            }
        }
        self.pool.put(answer);
        Advance::NextRound
    }

    /// Answers a request at the front of the input with an error and goes on.
    fn refuse(&mut self, id: ConnectionId, held: Held, error: &CommandError) -> Advance {
        let Some(connection) = self.network.connection(id) else { return Advance::Finished };
        let Connection { input, output, session, .. } = connection;
        let discard = session.discards_reply();
        input.consume(held.consumed);
        session.note(held.command, self.now_us);
        self.metrics.refused(Some(held.command), error);
        if !discard {
            let protocol = session.protocol;
            let out: &mut ReplyBuffer = session.replies.sink(output, &mut self.pool);
            ReplyWriter::new(out, protocol).error(&error.to_string());
        }
        Advance::NextRound
    }
}

/// Divides a command into its parts.
fn plan(
    map: ShardMap,
    command: &'static Command,
    args: &Args<'_>,
    positions: &mut Vec<usize>,
    draw: &mut impl FnMut() -> u64,
) -> Result<Plan, CommandError> {
    let shards = map.shards() as u32;
    let mut plan = Plan { merge: Merge::AllOk, requests: RequestBatch::new(), to: Vec::new() };
    match command.way {
        Way::SumOfShards | Way::AllShardsOk | Way::JoinOfShards => {
            plan.merge = match command.way {
                Way::SumOfShards => Merge::Sum,
                Way::AllShardsOk => Merge::AllOk,
                _ => Merge::Join,
            };
            for shard in 0..shards {
                plan.requests.push(args);
                plan.to.push((shard, command));
            }
        }
        Way::Cursor => plan_cursor(shards, command, args, &mut plan)?,
        Way::RandomShard => plan_random(shards, command, draw(), &mut plan),
        Way::EachKey => {
            plan.merge = Merge::Elements;
            key_positions(command, args, positions)?;
            for &at in positions.iter() {
                plan.requests.push_slices([&args[0], &args[at]]);
                plan.to.push((map.owner(&args[at]), command));
            }
        }
        Way::SumOfKeys | Way::AllKeysOk => {
            if command.way == Way::SumOfKeys {
                plan.merge = Merge::Sum;
            }
            key_positions(command, args, positions)?;
            plan_by_shard(map, command, args, positions, &mut plan);
        }
        Way::Owner | Way::Channel | Way::Session => {
            unreachable!("'{}' is not sent in parts", command.full_name)
        }
    }
    Ok(plan)
}

fn key_positions(
    command: &Command,
    args: &Args<'_>,
    positions: &mut Vec<usize>,
) -> Result<(), CommandError> {
    positions.clear();
    command.keys.positions(args, positions)
}

/// One part a shard, with all its keys and what belongs to each (MSET's values) in order.
fn plan_by_shard(
    map: ShardMap,
    command: &'static Command,
    args: &Args<'_>,
    positions: &[usize],
    plan: &mut Plan,
) {
    let step = command.keys.as_redis().2.max(1) as usize;
    for shard in 0..map.shards() as u32 {
        let mut is_empty = true;
        for &at in positions.iter().filter(|&&at| map.owner(&args[at]) == shard) {
            if mem::take(&mut is_empty) {
                plan.requests.add(args, 0);
            }
            for value in at..(at + step).min(args.len()) {
                plan.requests.add(args, value);
            }
        }
        if !is_empty {
            plan.requests.end_request();
            plan.to.push((shard, command));
        }
    }
}

/// SCAN: the one shard that the cursor names, with the cursor of that shard.
fn plan_cursor(
    shards: u32,
    command: &'static Command,
    args: &Args<'_>,
    plan: &mut Plan,
) -> Result<(), CommandError> {
    let outer = std::str::from_utf8(&args[1]).ok().and_then(|text| text.parse::<u64>().ok());
    let outer = outer.ok_or(CommandError::text("ERR invalid cursor"))?;
    let (shard, internal) = inner_cursor(outer, shards);
    plan.merge = Merge::Cursor { shard, shards };
    plan.requests.add(args, 0);
    plan.requests.add_slice(internal.to_string().as_bytes());
    for at in 2..args.len() {
        plan.requests.add(args, at);
    }
    plan.requests.end_request();
    plan.to.push((shard, command));
    Ok(())
}

/// RANDOMKEY: every shard's number of keys and a random one of them.
fn plan_random(shards: u32, command: &'static Command, draw: u64, plan: &mut Plan) {
    let size = tessera_engine::command::table().find(b"dbsize");
    plan.merge = Merge::Random { draw };
    for shard in 0..shards {
        for row in [size.unwrap_or(command), command] {
            plan.requests.push_slices([row.name.as_bytes()]);
            plan.to.push((shard, row));
        }
    }
}
