//! Serving clients that wait for keys of a shard (see [`crate::waiting`]).
#![forbid(unsafe_code)]

use std::{collections::VecDeque, mem};

use bytes::Bytes;
use tessera_proto::ReplyBuffer;

use super::{Answer, Shard};
use crate::{
    command::{Effect, waiting},
    keyspace::awaited::DatabaseKey,
    value::value_type,
    waiting::Waiter,
};

/// What came of looking after one waiter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It waits on.
    Waits,
    /// It was over before.
    Over,
    /// Its command was executed.
    Served,
    /// It is to be executed over several shards, before those behind it.
    Spread,
}

impl Shard {
    /// Lets `waiter` wait for `key` of this shard.
    pub(crate) fn add_waiter(&mut self, key: &[u8], waiter: &Waiter) {
        let Some(call) = waiter.call() else { return };
        self.queues.add(&mut self.keyspace, call.database, key, waiter);
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
                self.serve_key(&place, false);
            }
        }
    }

    /// Serves those who wait for a key, first come first served, as long as it has something. With
    /// `stops_at_spread` it stops before one whose keys are on several shards, and answers it: within
    /// a unit these may all be at hand.
    pub(crate) fn serve_key(
        &mut self,
        place: &DatabaseKey,
        stops_at_spread: bool,
    ) -> Option<Waiter> {
        let mut queue = self.queues.take(place);
        let (mut kept, mut gone, mut spread) = (VecDeque::new(), 0, None);
        let mut held = self.type_of(place);
        while let Some(waiter) = queue.pop_front() {
            match self.look_after(&waiter, held, stops_at_spread) {
                Outcome::Waits => kept.push_back(waiter),
                Outcome::Over => gone += 1,
                Outcome::Served => {
                    gone += 1;
                    held = self.type_of(place);
                }
                Outcome::Spread => {
                    spread = Some(waiter.clone());
                    kept.push_back(waiter);
                    kept.append(&mut queue);
                }
            }
        }
        self.queues.put_back(&mut self.keyspace, place, kept, gone);
        spread
    }

    /// Executes the command of a waiter for a key that has changed and now holds a value of the type
    /// `held`, if it can be, and if that has an outcome.
    fn look_after(
        &mut self,
        waiter: &Waiter,
        held: Option<&'static str>,
        stops_at_spread: bool,
    ) -> Outcome {
        if waiter.is_over() {
            return Outcome::Over;
        }
        let is_awaited = held == Some(waiting::awaited_type(waiter.command()));
        if !is_awaited && !waiting::hears_of_other_types(waiter.command()) {
            return Outcome::Waits;
        }
        if stops_at_spread && waiter.is_spread() {
            return Outcome::Spread;
        }
        if !waiter.is_local() || !waiter.try_claim() {
            // The latter: it is over just now, or another shard tries it.
            self.answer(Answer::Ready(waiter.clone()));
            return Outcome::Waits;
        }
        let mut out = ReplyBuffer::new();
        let Some(call) = waiter.call() else { return Outcome::Over };
        self.keyspace.events.set_cause(Some(call.caller.client));
        let waits = matches!(self.run(&call, &mut out), Ok(Effect::Waits(_)));
        waiter.settle(!waits);
        if waits {
            return Outcome::Waits;
        }
        self.answer(Answer::Reply(waiter.clone(), Bytes::from(out.to_vec())));
        Outcome::Served
    }

    /// Keeps an answer for the waiter's worker.
    pub(crate) fn answer(&mut self, answer: Answer) {
        self.answers.push(answer);
        self.keyspace.events.set_waiting(true);
    }

    /// The name of the type of what a key holds.
    fn type_of(&mut self, (database, key): &DatabaseKey) -> Option<&'static str> {
        self.keyspace.select(*database as usize, true);
        self.keyspace.peek(key).map(|entry| value_type(&entry.body()).name())
    }

    /// What has become of waiters since it was asked last, in the order in which it happened.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        mem::take(&mut self.answers)
    }

    /// Drops what is remembered of waiters that are over, some of it.
    pub(super) fn sweep_waiters(&mut self, count: usize) {
        self.queues.sweep(&mut self.keyspace, count);
    }
}
