//! Requests that have been looked at executed, and replies put in their places.
#![forbid(unsafe_code)]

use std::mem;

use tessera_engine::{
    command::{Command, CommandError},
    persist::doubt::Doubt,
    shard::Call,
};
use tessera_proto::{Args, ReplyBuffer, ReplyWriter};

use super::{InPlace, OWNED_REQUEST_MIN, ahead::Ahead};
use crate::{
    aof::doubt::spares,
    guests::STAYS,
    monitor,
    net::Connection,
    replies::Out,
    session::{Held, Session},
};

impl InPlace<'_> {
    /// Executes the batch and drops its bytes from the input.
    #[inline]
    pub(super) fn execute_batch(
        &mut self,
        connection: &mut Connection<Session>,
        ahead: &mut Ahead,
    ) {
        if ahead.requests.is_empty() {
            return;
        }
        let Connection { input, output, ungated, session, .. } = connection;
        self.stopwatch.start();
        let (mut first, mut consumed) = (0, 0);
        for looked in &ahead.requests {
            let spans = &ahead.spans[first..looked.spans_end];
            let args = Args::new(&input.bytes()[looked.start..], spans);
            match self.doubt {
                None => self.execute(session, output, looked.command, looked.shard, args),
                Some(doubt) => {
                    let out = Out { buffer: output, ungated };
                    self.execute_in_doubt(doubt, session, out, looked.command, looked.shard, args);
                }
            }
            first = looked.spans_end;
            consumed = looked.start + looked.consumed;
        }
        input.consume(consumed);
        ahead.requests.clear();
        ahead.spans.clear();
    }

    /// Executes the one request that is held, and drops its bytes from the input.
    pub(super) fn execute_held(&mut self, connection: &mut Connection<Session>, held: Held) {
        let Connection { input, output, ungated, session, .. } = connection;
        let parser = mem::take(&mut session.parser);
        let owner = (held.consumed >= OWNED_REQUEST_MIN).then(|| input.take_owned(held.consumed));
        let args = match &owner {
            Some(owner) => parser.args_with_owner(owner),
            None => parser.args(input.bytes()),
        };
        self.stopwatch.start();
        match self.doubt {
            None => self.execute(session, output, held.command, self.own, args),
            Some(doubt) => {
                let out = Out { buffer: output, ungated };
                self.execute_in_doubt(doubt, session, out, held.command, self.own, args);
            }
        }
        if owner.is_none() {
            input.consume(held.consumed);
        }
        session.parser = parser;
        session.held = None;
    }

    /// Executes one command; its reply goes where its turn is.
    #[inline]
    fn execute(
        &mut self,
        session: &mut Session,
        output: &mut ReplyBuffer,
        command: &'static Command,
        shard: u32,
        args: Args<'_>,
    ) {
        let discard = session.discards_reply();
        let call = Call {
            command,
            args,
            database: session.database,
            protocol: session.protocol,
            no_touch: session.no_touch,
            caller: session.take_caller(command),
        };
        let out = session.replies.sink(output, self.pool);
        let before = out.mark();
        let shard = match shard == self.own {
            true => &mut **self.shard,
            false => {
                self.metrics.counters.guest_commands.add(1);
                self.guests.get_mut(shard).expect(STAYS)
            }
        };
        let outcome = shard.execute(&call, out);
        if discard {
            out.truncate(before);
        }
        let nanos = self.stopwatch.lap_ns();
        self.metrics.executed(command, nanos, outcome.as_ref().err());
        if self.watch.is_slow(nanos) {
            let client = (session.peer.as_str(), session.name.as_str());
            self.watch.note(self.shared, command, &args, (self.now_us, nanos), client);
            if self.is_monitored {
                let (database, peer) = (session.database, &session.peer);
                self.shown.extend(monitor::line(self.now_us, database, peer, command, &args));
            }
        }
        session.commands += 1;
        session.last_command = Some(command);
    }

    /// Executes one command while a log cannot be written: its reply need not wait at the gate if it
    /// tells nothing that is in doubt.
    #[cold]
    fn execute_in_doubt(
        &mut self,
        doubt: &Doubt,
        session: &mut Session,
        out: Out<'_>,
        command: &'static Command,
        shard: u32,
        args: Args<'_>,
    ) {
        // Alone first, for what it tells is known when it has executed.
        let replies = mem::take(&mut session.replies);
        let mut reply = self.pool.take();
        self.execute(session, &mut reply, command, shard, args);
        session.replies = replies;
        let journal = &self.shard.keyspace.journal;
        let is_ungated = shard == self.own && spares(doubt, command, &args, journal);
        session.replies.answer(out, is_ungated, self.pool, |out| out.append(&reply));
        self.pool.put(reply);
    }

    /// Answers an error in its turn.
    #[cold]
    pub(super) fn answer(&mut self, connection: &mut Connection<Session>, error: &CommandError) {
        self.answer_with(connection, |reply| reply.error(&error.to_string()));
    }

    /// Answers something in its turn that tells nothing of the keys.
    pub(super) fn answer_with(
        &mut self,
        connection: &mut Connection<Session>,
        write: impl FnOnce(&mut ReplyWriter<'_>),
    ) {
        let Connection { output, ungated, session, .. } = connection;
        if session.discards_reply() {
            return;
        }
        let protocol = session.protocol;
        let out = Out { buffer: output, ungated };
        session.replies.answer(out, true, self.pool, |out| {
            write(&mut ReplyWriter::new(out, protocol));
        });
    }
}
