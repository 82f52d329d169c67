//! How a shard stays within its part of `maxmemory`.
//!
//! While there is a limit, the shard looks before each command whether all shards together are above
//! it, and if so lets keys go: its share of the excess (see [`crate::keyspace::budget`]), as many as
//! the tenacity allows for one command. What is left goes in slices between commands. So a command
//! waits for at most one slice, and memory does not run away from the limit: as long as anything can
//! go, each command finds at most what those before it have added and this shard has not given back.
//!
//! By how much the limit can be exceeded, then: by the largest command, times the number of shards
//! if only one of them is written to and the others sleep; and by one reporting step a shard.
//!
//! Whether a command that needs memory is refused is decided where it comes in and not here: a
//! command over several shards, a transaction or a script is refused as a whole.
//!
//! Invariants:
//! - nothing goes while several commands are executed as one (`in_unit`): it goes before the first;
//! - nothing goes while that is held up: while a script is suspended, clients are paused or data is
//!   loaded;
//! - values that were let go and are not freed yet count no more; but while they and what is left
//!   exceed the limit, each command frees a slice of them first;
//! - without a limit nothing of this runs.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::{Call, Shard};
use crate::{
    command::{CommandError, Effect, MemorySettings, settings::TENACITY_USUAL},
    keyspace::{budget::Account, events::Listener, evict::Pool},
};
use tessera_proto::ReplyBuffer;

/// Keys that go before a command, or in a slice between commands, at the least tenacity.
const KEYS_MIN: usize = 16;
/// How many more each step of tenacity up to [`TENACITY_USUAL`] adds: some 50 µs, as in Redis.
const KEYS_A_STEP: usize = 30;
/// By how many per cent each step beyond it makes more of them.
const GROWTH_PERCENT: usize = 15;
/// At this tenacity as many go as are asked for.
const TENACITY_BOUNDLESS: u32 = 100;

/// A shard's memory, and what was found on the search for keys to let go.
#[derive(Debug)]
pub(super) struct Memory {
    account: Account,
    pool: Pool,
    /// Nothing may go now.
    is_held: bool,
    /// Bytes that all shards share and this one accounts for.
    shared_bytes: usize,
}

impl Memory {
    pub(super) fn new(settings: &MemorySettings, databases: usize) -> Self {
        let account = Account::new(Arc::clone(&settings.budget), databases);
        Self { account, pool: Pool::default(), is_held: false, shared_bytes: 0 }
    }
}

impl Shard {
    /// Takes over changed settings of memory.
    pub(super) fn configure_memory(&mut self) {
        let settings = &self.settings.memory;
        if !Arc::ptr_eq(self.memory.account.budget(), &settings.budget) {
            self.memory = Memory::new(settings, self.settings.databases);
        }
        // What scores say depends on the policy.
        self.memory.pool.clear();
        self.keyspace.events.listen(Listener::LIMITED, settings.budget.limit() != 0);
        self.count_memory();
        self.declare_spent();
    }

    /// Tells the other shards whether this one has nothing to let go, while memory is short.
    fn declare_spent(&mut self) {
        let is_spent = self.memory.account.budget().is_over()
            && self
                .settings
                .memory
                .eviction
                .is_some_and(|it| !self.keyspace.has_evictable(it.among));
        self.memory.account.declare_spent(is_spent);
    }

    /// Notes that this shard accounts for `bytes` bytes more, which all shards share.
    pub fn note_shared_memory(&mut self, bytes: usize) {
        self.memory.shared_bytes = bytes;
    }

    /// Looks at all that takes memory and reports it exactly. `maxmemory` goes by this; between two
    /// calls, by the databases of the commands that were executed.
    pub fn count_memory(&mut self) {
        let account = &mut self.memory.account;
        for database in 0..self.keyspace.database_count() {
            account.note(database, self.keyspace.database_bytes(database));
        }
        account.note_beside(self.keyspace.client_table_bytes() + self.memory.shared_bytes);
        account.report();
    }

    /// Bytes that count towards `maxmemory`, when they were last counted.
    pub fn memory_bytes(&self) -> usize {
        self.memory.account.bytes()
    }

    /// Lets no key go from now on, or lets keys go again.
    pub fn hold_eviction(&mut self, is_held: bool) {
        self.memory.is_held = is_held;
    }

    /// Whether this shard is to let keys go, or to look whether it has any.
    #[inline]
    pub fn wants_room(&self) -> bool {
        self.memory.account.budget().is_over()
            && !self.memory.is_held
            && !self.memory.account.is_spent()
            && self.settings.memory.eviction.is_some()
    }

    /// Lets a slice of keys go if memory is short, well below half a millisecond at the usual
    /// tenacity. To be called between commands, as long as [`Shard::wants_room`].
    pub fn make_room(&mut self) {
        let tenacity = self.settings.memory.tenacity.min(TENACITY_USUAL);
        self.evict(keys_of_tenacity(tenacity));
    }

    /// Executes a command while memory is limited.
    #[inline(never)]
    pub(super) fn execute_limited(
        &mut self,
        call: &Call<'_>,
        out: &mut ReplyBuffer,
    ) -> Result<Effect, CommandError> {
        self.prepare_memory();
        let outcome = match self.needs_observation(call) {
            true => self.execute_observed(call, out),
            false => self.run(call, out),
        };
        self.note_memory(call);
        outcome
    }

    /// Makes room before one or several commands are executed.
    #[inline]
    pub(super) fn prepare_memory(&mut self) {
        let budget = self.memory.account.budget();
        if budget.is_over() {
            self.evict(keys_of_tenacity(self.settings.memory.tenacity));
        } else if self.keyspace.has_garbage() {
            let taken = budget.used() + self.keyspace.garbage_bytes() as u64;
            if taken > budget.limit() {
                self.keyspace.free_slice();
            }
        }
    }

    /// Looks at the memory of what a command has worked on.
    #[inline]
    fn note_memory(&mut self, call: &Call<'_>) {
        match call.command.name {
            "copy" | "move" | "swapdb" | "flushall" => self.count_memory(),
            _ => {
                let database = call.database as usize;
                self.memory.account.note(database, self.keyspace.database_bytes(database));
            }
        }
        let account = &mut self.memory.account;
        if account.is_spent() && !account.budget().is_over() {
            // What it holds may be another matter when memory is short again.
            account.declare_spent(false);
        }
    }

    /// Lets up to `keys_max` keys go, as far as this shard's share of the excess demands.
    #[cold]
    fn evict(&mut self, keys_max: usize) {
        if self.memory.is_held {
            return;
        }
        let Some(eviction) = self.settings.memory.eviction else { return };
        let Memory { account, pool, .. } = &mut self.memory;
        account.report();
        let share = account.share_of_excess();
        if share > 0 {
            self.keyspace.evict(eviction, pool, (share, keys_max));
        }
        self.count_memory();
        self.declare_spent();
        if self.keyspace.events.has_ready() {
            self.serve_ready();
        }
    }
}

/// How many keys go at once at most.
fn keys_of_tenacity(tenacity: u32) -> usize {
    let usual = KEYS_MIN + KEYS_A_STEP * tenacity.min(TENACITY_USUAL) as usize;
    if tenacity >= TENACITY_BOUNDLESS {
        return usize::MAX;
    }
    (TENACITY_USUAL..tenacity).fold(usual, |keys, _| keys + keys * GROWTH_PERCENT / 100)
}

#[cfg(test)]
mod tests;
