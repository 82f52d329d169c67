//! WAIT and WAITAOF: clients that wait until what they have written is on disks.
//!
//! WAITAOF waits for an epoch. All that a connection has sent before has taken its places in the
//! present epoch or an earlier one, so its writes are durable when that epoch is. Whoever waits wants
//! the epoch ended ([`Aof::want`](crate::aof::Aof::want)), and every log written and synced up to its
//! end without delay, whatever `appendfsync` says. As nothing is known of single connections' writes, a
//! client may wait for what others have written at the same time: what it is told is true all the same.
//!
//! There are no replicas yet: whoever waits for any waits until its time is over.
//!
//! Invariants:
//! - a connection waits with one command at most, and executes nothing else meanwhile;
//! - where it may not wait (in MULTI, in a script) the command answers at once how things are.
#![forbid(unsafe_code)]

use tessera_engine::command::{Command, CommandError, waiting::parse_ms};
use tessera_proto::{Args, Mark, ReplyWriter, parse_i64};

use crate::{
    aof::Aof,
    dispatch::Advance,
    monitor,
    net::{CloseMode, Connection, ConnectionId},
    replies::NO_SHARD,
    session::Held,
    session_commands::SessionContext,
    waiting::End,
    worker::Worker,
};

const NO_LOG: &str = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Goal {
    /// WAITAOF.
    is_aof: bool,
    /// The own log counts too.
    wants_log: bool,
    /// So many replicas.
    replicas: i64,
    /// How long to wait at most, in milliseconds; 0 for ever.
    timeout_ms: i64,
}

impl Goal {
    /// WAIT numreplicas timeout; WAITAOF numlocal numreplicas timeout.
    fn parse(args: &Args<'_>, now_us: i64) -> Result<Self, CommandError> {
        let is_aof = args.len() == 4;
        let number = |at: usize| parse_i64(&args[at]).ok_or(CommandError::NotAnInteger);
        let mut wants_log = false;
        if is_aof {
            wants_log = match number(1)? {
                0 => false,
                1 => true,
                _ => return Err(CommandError::text(OUT_OF_RANGE)),
            };
        }
        let replicas = number(args.len() - 2)?;
        if is_aof && replicas < 0 {
            return Err(CommandError::text("ERR value is out of range, must be positive"));
        }
        let timeout_ms = parse_ms(&args[args.len() - 1], now_us / 1_000)?;
        Ok(Self { is_aof, wants_log, replicas, timeout_ms })
    }

    /// Why it cannot be waited for, if that is so.
    fn check(&self, aof: &Aof) -> Result<(), CommandError> {
        if self.wants_log && !aof.is_on() { Err(CommandError::text(NO_LOG)) } else { Ok(()) }
    }

    /// Answers how things are: whether the own log has it, and no replicas.
    fn answer(&self, is_logged: bool, reply: &mut ReplyWriter<'_>) {
        if self.is_aof {
            reply.array(2);
            reply.integer(is_logged.into());
        }
        reply.integer(0);
    }
}

const OUT_OF_RANGE: &str = "ERR value is out of range, value must between 0 and 1";

/// A connection that waits.
#[derive(Clone, Copy)]
struct Ack {
    connection: ConnectionId,
    ticket: u64,
    command: &'static Command,
    goal: Goal,
    /// The epoch to which its last write belongs at the latest.
    epoch: u64,
    /// In microseconds since the Unix epoch.
    due_us: i64,
}

impl Ack {
    fn is_logged(&self, aof: &Aof) -> bool {
        aof.is_complete() && aof.durable_epoch() >= self.epoch
    }

    /// Whether there is an answer now.
    fn has_ended(&self, aof: &Aof, now_us: i64) -> bool {
        let is_reached = self.goal.replicas <= 0 && (!self.goal.wants_log || self.is_logged(aof));
        is_reached || self.due_us <= now_us || self.goal.check(aof).is_err()
    }
}

/// The connections of one worker that wait.
#[derive(Default)]
pub(crate) struct Acks(Vec<Ack>);

impl Acks {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the next wait ends, in microseconds since the Unix epoch.
    pub(crate) fn due_us(&self) -> i64 {
        self.0.iter().map(|ack| ack.due_us).min().unwrap_or(i64::MAX)
    }

    fn take(&mut self, id: ConnectionId) -> Option<Ack> {
        let at = self.0.iter().position(|ack| ack.connection == id)?;
        Some(self.0.swap_remove(at))
    }
}

/// WAIT and WAITAOF where they may not wait.
pub(crate) fn answer_now(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let goal = Goal::parse(args, cx.now_us)?;
    goal.check(&cx.shared.aof)?;
    let is_logged = cx.shared.aof.has_all_durable();
    goal.answer(is_logged, &mut cx.reply());
    Ok(())
}

impl Worker {
    /// WAIT and WAITAOF in the second half of a round.
    pub(crate) fn run_ack(&mut self, id: ConnectionId, held: Held, _: bool) -> Option<Advance> {
        let Connection { input, session, .. } = self.network.connection(id)?;
        let args = session.parser.args(input.bytes());
        let parsed = Goal::parse(&args, self.now_us);
        let goal = match parsed.and_then(|goal| goal.check(&self.shared.aof).map(|()| goal)) {
            Ok(goal) => goal,
            Err(error) => return Some(self.refuse(id, held, &error)),
        };
        let line = self.is_monitored.then(|| {
            monitor::line(self.now_us, session.database, &session.peer, held.command, &args)
        });
        let discard = session.discards_reply();
        let ticket = session.replies.wait(NO_SHARD, discard);
        input.consume(held.consumed);
        session.note(held.command, self.now_us);
        session.awaits_ack = true;
        self.show_if_any(line);
        let epoch = self.shared.aof.epoch();
        if goal.wants_log {
            self.shared.aof.want(epoch);
        }
        let due_us = match goal.timeout_ms {
            0 => i64::MAX,
            ms => self.now_us.saturating_add(ms.saturating_mul(1_000)),
        };
        let command = held.command;
        self.acks.0.push(Ack { connection: id, ticket, command, goal, epoch, due_us });
        Some(Advance::Across)
    }

    /// They need no cut.
    pub(crate) fn pack_ack(&mut self, _: ConnectionId, _: Held) -> Option<Advance> {
        Some(Advance::NextRound)
    }

    /// Answers those that have what they wait for, or whose time is over.
    pub(crate) fn answer_acks(&mut self) {
        let (aof, now_us) = (&self.shared.aof, self.now_us);
        let ended: Vec<Ack> =
            self.acks.0.extract_if(.., |ack| ack.has_ended(aof, now_us)).collect();
        ended.iter().for_each(|ack| self.answer_ack(ack, None));
    }

    /// Ends the wait of a connection from outside; answers whether it waited.
    pub(crate) fn stop_ack(&mut self, id: ConnectionId, end: End) -> bool {
        let Some(ack) = self.acks.take(id) else { return false };
        self.answer_ack(&ack, Some(end));
        true
    }

    /// The server stops.
    pub(crate) fn abandon_acks(&mut self) {
        let waiting: Vec<ConnectionId> = self.acks.0.iter().map(|ack| ack.connection).collect();
        waiting.into_iter().for_each(|id| self.abandon_ack(id));
    }

    /// The client is gone.
    pub(crate) fn abandon_ack(&mut self, id: ConnectionId) {
        if self.acks.take(id).is_some() {
            self.network.close(id, CloseMode::AfterReply);
        }
    }

    /// The connection is closed.
    pub(crate) fn forget_ack(&mut self, id: ConnectionId) {
        self.acks.take(id);
    }

    fn answer_ack(&mut self, ack: &Ack, end: Option<End>) {
        let Some(connection) = self.network.connection(ack.connection) else { return };
        connection.session.awaits_ack = false;
        let protocol = connection.session.protocol;
        let mut answer = self.pool.take();
        let mut reply = ReplyWriter::new(&mut answer, protocol);
        let aof = &self.shared.aof;
        let refusal = match (end, ack.goal.check(aof)) {
            (Some(End::Error), _) => {
                Some(CommandError::text("UNBLOCKED client unblocked via CLIENT UNBLOCK"))
            }
            (_, Err(error)) => Some(error),
            _ => None,
        };
        match &refusal {
            Some(error) => reply.error(&error.to_string()),
            None => ack.goal.answer(ack.is_logged(aof), &mut reply),
        }
        self.metrics.executed(ack.command, 0, refusal.as_ref());
        let whole = Mark::default()..answer.mark();
        self.arrive(ack.connection, ack.ticket, 0, (&answer, whole));
        self.pool.put(answer);
        self.let_go_on(ack.connection);
    }
}

#[cfg(test)]
mod tests {
    use tessera_proto::RequestBatch;

    use super::*;

    fn parse(words: &[&str]) -> Result<Goal, String> {
        let mut request = RequestBatch::new();
        request.push_slices(words.iter().map(|word| word.as_bytes()));
        let args = request.get(0).expect("one request");
        Goal::parse(&args, 1_000).map_err(|error| error.to_string())
    }

    #[test]
    fn arguments_are_read_as_redis_reads_them() {
        let goal = |is_aof, wants_log, replicas, timeout_ms| {
            Ok(Goal { is_aof, wants_log, replicas, timeout_ms })
        };
        assert_eq!(parse(&["WAIT", "-1", "0"]), goal(false, false, -1, 0));
        assert_eq!(parse(&["WAITAOF", "1", "2", "50"]), goal(true, true, 2, 50));
        for (words, text) in [
            (&["WAIT", "x", "0"][..], "ERR value is not an integer or out of range"),
            (&["WAIT", "1", "-1"], "ERR timeout is negative"),
            (&["WAIT", "1", "x"], "ERR timeout is not an integer or out of range"),
            (&["WAITAOF", "2", "0", "0"], OUT_OF_RANGE),
            (&["WAITAOF", "-1", "0", "0"], OUT_OF_RANGE),
            (&["WAITAOF", "1", "-1", "0"], "ERR value is out of range, must be positive"),
            (&["WAITAOF", "x", "-1", "0"], "ERR value is not an integer or out of range"),
        ] {
            assert_eq!(parse(words), Err(text.into()), "{words:?}");
        }
    }
}
