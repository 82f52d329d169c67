//! A shard: one core's part of the keyspace and everything that belongs to it.
//!
//! A shard executes commands and does its background work in slices; it knows no sockets, threads
//! or other shards. The server's worker, the log's replay, the simulation and the benches all drive
//! it through [`Shard::execute`] and [`Shard::tick`].
//!
//! Invariants:
//! - a command that fails leaves no trace of a reply but its error;
//! - time moves only through [`Shard::advance_clock_us`] and, when the machine's clock was set back,
//!   [`Shard::set_clock_back_us`]; never while a command runs.
#![forbid(unsafe_code)]

mod memory;
mod serving;

use bytes::Bytes;
use memory::Memory;
use tessera_proto::{ReplyBuffer, ReplyWriter};

use crate::{
    command::{CommandError, Context, Effect, Run, table::flag},
    keyspace::{Keyspace, events::Class, expire::ExpireCycle},
    notice::Client,
    sys::random::Random,
    types::Thresholds,
    waiting::{Queues, Waiter},
};

pub use crate::command::{Call, Caller, MemorySettings, Settings};

/// The number of a shard, and of the worker that owns it.
pub type ShardId = u32;

/// Where the keys of a call stand; nowhere, if its arguments do not say so: then the command finds
/// the same fault, and does nothing.
fn key_positions(call: &Call<'_>) -> Vec<usize> {
    let mut positions = Vec::new();
    match call.command.keys.positions(&call.args, &mut positions) {
        Ok(()) => positions,
        Err(_) => Vec::new(),
    }
}

/// Watched keys, and waits, that a tick looks at for clients that watch and wait no more.
const SWEPT_A_TICK: usize = 64;

/// One core's part of the keyspace.
pub struct Shard {
    /// The keys. Public for routing decisions that need figures (DBSIZE weights).
    pub keyspace: Keyspace,
    settings: Settings,
    random: Random,
    expire: ExpireCycle,
    /// The millisecond in which fields of hashes that are due were last removed.
    fields_checked_ms: i64,
    changes: u64,
    /// Clients that wait for keys.
    queues: Queues,
    /// What has become of waiters, for their workers.
    answers: Vec<Answer>,
    /// Several commands are executed as one: waiters are served at the end of the whole.
    in_unit: bool,
    memory: Memory,
}

/// What has become of a waiter: its command was executed.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Whose command it is.
    pub waiter: Waiter,
    /// The reply.
    pub reply: Bytes,
    /// The error, if the reply is one.
    pub error: Option<CommandError>,
}

impl Shard {
    /// An empty shard. `seed` decides hashes and random choices; servers draw it afresh, tests fix
    /// it.
    ///
    /// # Panics
    ///
    /// When there is no database.
    pub fn new(seed: u64, mut settings: Settings) -> Self {
        assert!(settings.databases > 0);
        let mut random = Random::from_seed(seed);
        settings.thresholds.hash_seed = random.next_u64();
        let memory = Memory::new(&settings.memory, settings.databases);
        let mut shard = Self {
            keyspace: Keyspace::new(seed, settings.databases),
            settings,
            random,
            expire: ExpireCycle::default(),
            fields_checked_ms: 0,
            changes: 0,
            queues: Queues::new(seed),
            answers: Vec::new(),
            in_unit: false,
            memory,
        };
        shard.apply_settings();
        shard
    }

    /// Takes over changed settings. The number of databases stays.
    pub fn configure(&mut self, settings: Settings) {
        let databases = self.settings.databases;
        let hash_seed = self.settings.thresholds.hash_seed;
        let thresholds = Thresholds { hash_seed, ..settings.thresholds };
        self.settings = Settings { databases, thresholds, ..settings };
        self.apply_settings();
    }

    fn apply_settings(&mut self) {
        self.keyspace.set_usage_policy(self.settings.usage_policy());
        self.keyspace.events.configure(self.settings.notify);
        self.keyspace.events.shrink_tracking(self.settings.tracking_keys_max);
        self.configure_memory();
    }

    /// When collections change their encoding here, and the seed of their hashes.
    pub fn thresholds(&self) -> &Thresholds {
        &self.settings.thresholds
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Moves the shard's time on to `now_us`, microseconds since the Unix epoch; never back.
    #[inline]
    pub fn advance_clock_us(&mut self, now_us: i64) {
        self.keyspace.advance_clock_us(now_us);
    }

    /// Puts the shard's time back to `now_us`: the machine's clock was set back, by more than
    /// [`SET_BACK_MIN_US`](crate::sys::clock::SET_BACK_MIN_US). Background work goes by the new time at
    /// once.
    #[cold]
    pub fn set_clock_back_us(&mut self, now_us: i64) {
        self.keyspace.set_clock_back_us(now_us);
        self.fields_checked_ms = 0;
        self.expire = ExpireCycle::default();
    }

    /// Loads from now on, which is `now_us`: no deadline passes until [`end_loading`](Self::end_loading).
    pub fn begin_loading(&mut self, now_us: i64) {
        self.keyspace.begin_loading(now_us);
        self.keyspace.begin_filling();
    }

    /// Everything is loaded; it is `now_us`.
    pub fn end_loading(&mut self, now_us: i64) {
        while self.keyspace.settle_slice() {}
        self.set_clock_back_us(now_us);
    }

    /// Executes one command and appends its reply to `out`.
    ///
    /// # Errors
    ///
    /// What the command answered, when that is an error; it is in `out` already.
    ///
    /// # Panics
    ///
    /// When the row's code is not the engine's.
    #[inline]
    pub fn execute(
        &mut self,
        call: &Call<'_>,
        out: &mut ReplyBuffer,
    ) -> Result<Effect, CommandError> {
        if call.caller.caches || self.keyspace.events.is_attended() {
            return self.execute_attended(call, out);
        }
        self.run(call, out)
    }

    /// The same while there is more to do than to execute it.
    #[inline(never)]
    fn execute_attended(
        &mut self,
        call: &Call<'_>,
        out: &mut ReplyBuffer,
    ) -> Result<Effect, CommandError> {
        match self.keyspace.events.is_limited() && !self.in_unit {
            true => self.execute_limited(call, out),
            false => self.execute_observed(call, out),
        }
    }

    /// Whether somebody wants to know what a call does.
    #[inline]
    fn needs_observation(&self, call: &Call<'_>) -> bool {
        call.caller.caches || self.keyspace.events.is_observed()
    }

    /// The same while somebody wants to know what happens to keys, or by whom they are read.
    #[cold]
    fn execute_observed(
        &mut self,
        call: &Call<'_>,
        out: &mut ReplyBuffer,
    ) -> Result<Effect, CommandError> {
        let absent = self.absent_keys(call);
        self.keyspace.events.set_cause(Some(call.caller.client));
        let mark = self.keyspace.events.mark();
        let outcome = self.run(call, out);
        for (database, at) in absent {
            let key = &call.args[at];
            self.keyspace.select(database, true);
            if self.keyspace.contains(key) {
                self.keyspace.events.report_new(mark, database, key);
            }
        }
        if call.caller.caches && call.command.flags.has(flag::READONLY) {
            for at in key_positions(call) {
                self.remember_read(&call.args[at], call.caller.client);
            }
        }
        if self.keyspace.events.has_ready() && !self.in_unit {
            self.serve_ready();
        }
        outcome
    }

    /// Remembers that `client` has read `key` and keeps what it has read.
    pub fn remember_read(&mut self, key: &[u8], client: Client) {
        self.keyspace.events.read(key, client, self.settings.tracking_keys_max);
    }

    /// The keys of a command that are not there, with the database, if somebody wants to know when
    /// keys are made. To look before the command costs nothing while nobody does.
    fn absent_keys(&mut self, call: &Call<'_>) -> Vec<(usize, usize)> {
        let is_asked = self.keyspace.events.classes().has(Class::NEW);
        if !is_asked || !call.command.flags.has(flag::WRITE) {
            return Vec::new();
        }
        let own = call.database as usize;
        // Two commands make keys in a database that their arguments name.
        let databases = match call.command.name {
            "copy" | "move" => 0..self.settings.databases,
            _ => own..own + 1,
        };
        let mut absent = Vec::new();
        for database in databases {
            self.keyspace.select(database, true);
            for at in key_positions(call) {
                if !self.keyspace.contains(&call.args[at])
                    && !absent.iter().any(|&(db, other): &(usize, usize)| {
                        db == database && call.args[other] == call.args[at]
                    })
                {
                    absent.push((database, at));
                }
            }
        }
        absent
    }

    #[inline(always)]
    fn run(&mut self, call: &Call<'_>, out: &mut ReplyBuffer) -> Result<Effect, CommandError> {
        let Run::Shard(function) = call.command.run else {
            panic!("'{}' does not run on a shard", call.command.full_name);
        };
        self.keyspace.select(call.database as usize, call.no_touch);
        let before = out.mark();
        let mut context = Context {
            keyspace: &mut self.keyspace,
            reply: ReplyWriter::new(out, call.protocol),
            settings: &self.settings,
            random: &mut self.random,
            may_wait: call.caller.may_wait,
            is_script: call.caller.is_script,
        };
        match function(&mut context, &call.args) {
            Ok(effect) => {
                if let Effect::Changed(changes) | Effect::Waits(changes @ 1..) = effect {
                    self.changes += changes;
                    if self.keyspace.journal.is_on() {
                        self.record(call);
                    }
                }
                debug_assert!(!self.keyspace.journal.is_told(), "recorded, and changed nothing");
                Ok(effect)
            }
            Err(error) => {
                debug_assert!(!self.keyspace.journal.is_told(), "recorded, and failed");
                out.truncate(before);
                ReplyWriter::new(out, call.protocol).error(&error.to_string());
                Err(error)
            }
        }
    }

    /// Records what a command has done, unless it has done so itself.
    fn record(&mut self, call: &Call<'_>) {
        let database = call.database as usize;
        self.keyspace.journal.conclude(database, call.args.len(), call.args.iter());
    }

    /// Keys whose removal some client waits for (XREADGROUP).
    pub fn keys_awaited_to_go(&self) -> usize {
        self.queues.awaited_to_go()
    }

    /// Changes since the start, as `rdb_changes_since_last_save` counts them.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Sets the count of changes back: what was counted since is undone.
    pub(crate) fn set_changes(&mut self, changes: u64) {
        self.changes = changes;
    }

    /// Does the background work that is due, a slice of it: removes keys whose deadline passed and
    /// frees what was removed. Answers whether it should be called again in the next turn;
    /// otherwise [`tick_due_us`](Self::tick_due_us) says when.
    pub fn tick(&mut self) -> bool {
        if self.expires_actively() {
            self.expire.slice(&mut self.keyspace, self.settings.active_expire_effort);
            self.expire_fields();
        }
        if self.keyspace.events.has_ready() {
            // A group is gone with a stream that has expired.
            self.serve_ready();
        }
        self.keyspace.events.sweep_watched(SWEPT_A_TICK);
        self.sweep_waiters(SWEPT_A_TICK);
        self.keyspace.free_slice()
    }

    /// Whether what expires is to be removed before somebody comes across it.
    fn expires_actively(&self) -> bool {
        self.settings.active_expire && !self.keyspace.holds_expiry()
    }

    /// Removes fields of hashes that are due. Deadlines are milliseconds, so once in each is enough;
    /// what a slice leaves is due in the next.
    fn expire_fields(&mut self) {
        let now_ms = self.keyspace.now_ms();
        if now_ms != self.fields_checked_ms {
            self.fields_checked_ms = now_ms;
            self.keyspace.expire_fields_slice();
        }
    }

    /// When background work is due, in microseconds since the Unix epoch; nothing while there is
    /// none, so that an idle worker can sleep.
    pub fn tick_due_us(&self) -> Option<i64> {
        if self.keyspace.has_garbage() {
            return Some(0);
        }
        let volatile = (0..self.settings.databases).any(|db| self.keyspace.volatile_len(db) > 0);
        if !self.expires_actively() {
            return None;
        }
        let keys_due_us = volatile.then(|| self.expire.due_us());
        // What is due already has had its slice in this millisecond.
        let soonest_ms = self.fields_checked_ms + 1;
        let fields_due_ms = self.keyspace.next_field_due_ms().map(|due| due.max(soonest_ms));
        let fields_due_us = fields_due_ms.map(|due| due.saturating_mul(1_000));
        keys_due_us.into_iter().chain(fields_due_us).min()
    }

    /// Checks everything that must always hold, at the cost of visiting every key. For tests.
    ///
    /// # Panics
    ///
    /// When something does not hold.
    pub fn check(&self) {
        self.keyspace.check();
    }
}
