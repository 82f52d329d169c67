//! Serving clients that wait for keys of a shard (see [`crate::waiting`]).
#![forbid(unsafe_code)]

use std::mem;

use bytes::Bytes;
use tessera_proto::{ReplyBuffer, ReplyWriter};

use super::{Answer, Call, Shard};
use crate::{
    command::{CommandError, Effect},
    keyspace::awaited::DatabaseKey,
    waiting::Waiter,
};

impl Shard {
    /// Lets `waiter` wait for `key` of this shard.
    pub(crate) fn add_waiter(&mut self, key: &[u8], waiter: &Waiter) {
        self.queues.add(&mut self.keyspace, key, waiter);
    }

    /// Several commands follow that are executed as one, until [`Shard::end_unit`]. If memory is
    /// short, room is made before.
    pub fn begin_unit(&mut self) {
        if self.keyspace.events.is_limited() && !self.in_unit {
            self.prepare_memory();
        }
        self.in_unit = true;
    }

    /// The unit is over: those who wait for what it has changed are served, in the order of the
    /// changes.
    pub fn end_unit(&mut self) {
        self.in_unit = false;
        if self.keyspace.events.has_ready() {
            self.serve_ready();
        }
        if self.keyspace.events.is_limited() {
            self.count_memory();
        }
    }

    /// Serves all whose keys have changed, and those whose keys that changes.
    #[cold]
    pub(super) fn serve_ready(&mut self) {
        while self.keyspace.events.has_ready() {
            for place in self.keyspace.events.take_ready() {
                while let Some(waiter) = self.next_waiter(&place, |next| !next.is_spread()) {
                    self.serve(&place, &waiter);
                }
            }
        }
    }

    /// Takes out the next one whom the present value of a key serves, claimed: it is to be served. None
    /// if `may_serve` says no to the one whose turn it is.
    pub(crate) fn next_waiter(
        &mut self,
        place: &DatabaseKey,
        may_serve: impl Fn(&Waiter) -> bool,
    ) -> Option<Waiter> {
        self.queues.next(&mut self.keyspace, place, may_serve)
    }

    /// Executes the command of a waiter that was claimed. If it has keys of other shards too, it is for
    /// what has become of `place`.
    pub(crate) fn serve(&mut self, place: &DatabaseKey, waiter: &Waiter) {
        let Some(whole) = waiter.call() else { return };
        // Keys of other shards are never here; the one that has changed may be gone.
        let part = waiter.part_here(|key| *key == *place.1 || self.keyspace.peek(key).is_some());
        let args = part.as_ref().and_then(|part| part.get(0)).unwrap_or(whole.args);
        let call = Call { args, ..whole };
        let mut out = ReplyBuffer::new();
        self.keyspace.events.set_cause(Some(call.caller.client));
        let outcome = self.run(&call, &mut out);
        self.answer(waiter, outcome, &mut out);
    }

    /// Keeps an answer for the waiter's worker.
    pub(crate) fn answer(
        &mut self,
        waiter: &Waiter,
        outcome: Result<Effect, CommandError>,
        out: &mut ReplyBuffer,
    ) {
        let found_nothing = matches!(outcome, Ok(Effect::Waits(_)));
        debug_assert!(!found_nothing, "{waiter:?} was claimed for nothing");
        if found_nothing && let Some(call) = waiter.call() {
            waiter.reply_timeout(&mut ReplyWriter::new(out, call.protocol));
        }
        let (waiter, error) = (waiter.clone(), outcome.err());
        self.answers.push(Answer { waiter, reply: Bytes::from(out.to_vec()), error });
        self.keyspace.events.set_waiting(true);
    }

    /// A planted fault: who comes last is served first.
    #[cfg(test)]
    pub(crate) fn serve_last_first(&mut self) {
        self.queues.last_first = true;
    }

    /// What has become of waiters since it was asked last, in the order in which it happened.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        mem::take(&mut self.answers)
    }

    /// Drops what is remembered of waiters that are over, looking at `count` entries.
    pub fn sweep_waiters(&mut self, count: usize) {
        self.queues.sweep(&mut self.keyspace, count);
    }
}
