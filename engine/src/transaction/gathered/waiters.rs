//! Clients that wait for keys of shards that are gathered: how they begin to, and how they are served.
#![forbid(unsafe_code)]

use std::mem;

use tessera_proto::ReplyBuffer;

use super::{Gathered, ShardSet};
use crate::{
    command::{stream::wait, waiting::awaited_keys},
    keyspace::awaited::DatabaseKey,
    shard::Call,
    transaction::ShardId,
    waiting::Waiter,
};

impl Gathered {
    /// Lets a call that has answered [`Effect::Waits`](crate::command::Effect::Waits) wait for its
    /// keys.
    pub fn wait(&mut self, call: &Call<'_>) -> Waiter {
        self.positions.clear();
        let found = call.command.keys.positions(&call.args, &mut self.positions);
        debug_assert!(found.is_ok(), "a call that waits has keys");
        let concerned: ShardSet =
            self.positions.iter().map(|&at| self.map.owner(&call.args[at])).collect();
        awaited_keys(call.command, &call.args, &mut self.positions);
        let mut keys: Vec<&[u8]> = self.positions.iter().map(|&at| &call.args[at]).collect();
        keys.sort_unstable();
        keys.dedup();
        let now_us = self.shards.iter().flatten().map(|shard| shard.keyspace.clock().now_us());
        let now_us = now_us.max().unwrap_or(0);
        let pinned = (call.command.name == "xread").then(|| {
            wait::pin_ids(&call.args, |key| {
                let shard = self.shards[self.map.owner(key) as usize].as_deref_mut()?;
                wait::last_id(&mut shard.keyspace, call.database as usize, key)
            })
        });
        let args = pinned.as_ref().and_then(|batch| batch.get(0)).unwrap_or(call.args);
        let waiter = Waiter::new(&Call { args, ..*call }, now_us, concerned.len() > 1);
        for key in keys {
            if let Some(shard) = self.shards[self.map.owner(key) as usize].as_deref_mut() {
                shard.add_waiter(key, &waiter);
            }
        }
        waiter
    }

    /// Notes which awaited keys the last call has changed.
    pub(super) fn note_ready(&mut self) {
        for (id, shard) in (0..).zip(&mut self.shards) {
            if let Some(shard) = shard
                && shard.keyspace.events.has_ready()
            {
                let changed = shard.keyspace.events.take_ready();
                self.ready.extend(changed.into_iter().map(|place| (id, place)));
            }
        }
    }

    /// Serves those who wait for keys that were changed since, in the order of the changes, and then
    /// those whom that serves. To be done at the end of each unit: a command, a transaction, a script.
    pub fn serve_waiters(&mut self) {
        while !self.ready.is_empty() {
            for (id, place) in mem::take(&mut self.ready) {
                self.serve_key(id, &place);
            }
        }
    }

    fn serve_key(&mut self, id: ShardId, place: &DatabaseKey) {
        loop {
            let here = self.shards_here();
            let map = self.map;
            let may_serve = |next: &Waiter| {
                !next.is_spread() || next.has_all(|key| here.contains(map.owner(key)))
            };
            let Some(shard) = self.get_mut(id) else { return };
            let Some(waiter) = shard.next_waiter(place, may_serve) else { return };
            self.serve(id, place, &waiter);
            self.note_ready();
        }
    }

    /// Executes the command of a waiter that was claimed, over all shards of its keys.
    fn serve(&mut self, id: ShardId, place: &DatabaseKey, waiter: &Waiter) {
        let Some(call) = waiter.call() else { return };
        let concerned = self.splitter.shards(self.map, call.command, &call.args);
        if !waiter.is_spread() || !concerned.is_ok_and(|shards| self.has(shards)) {
            if let Some(shard) = self.get_mut(id) {
                shard.serve(place, waiter);
            }
            return;
        }
        let mut out = ReplyBuffer::new();
        if let Ok(outcome) = self.execute_routed(&call, &mut out)
            && let Some(shard) = self.get_mut(id)
        {
            shard.answer(waiter, outcome, &mut out);
        }
    }

    fn shards_here(&self) -> ShardSet {
        (0..).zip(&self.shards).filter(|(_, shard)| shard.is_some()).map(|(id, _)| id).collect()
    }
}
