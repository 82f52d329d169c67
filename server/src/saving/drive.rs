//! What a worker does for a save: slices between its turns.
//!
//! How much: requests come first. The replies of a turn leave before a slice begins, and while
//! requests wait there is none until a multiple of the last one's length has passed. So a save has all
//! the time that requests leave, and a fifth of the core where they would leave nothing; up to half of
//! it as what commands had to preserve fills its budget, since that takes memory.
#![forbid(unsafe_code)]

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use tessera_engine::{
    keyspace::Keyspace,
    persist::snapshot::{Snapshot, Step},
};
use tessera_proto::{Mark, ReplyWriter};

use super::{Save, Why, piece_writer::PieceWriter, plan, plan_rewrite, points};
use crate::{
    libraries,
    metrics::thread_cpu_time,
    net::ConnectionId,
    parcel::CallHeader,
    runtime::ring::{Ring, SaveEvent},
    server::Shared,
    session_commands::PART_PROTOCOL,
    worker::Worker,
};

/// Work of one step in bytes, between two looks at the clock: some ten µs.
const STEP_WORK: usize = 4 << 10;
/// The length of a slice: what a request waits for that comes during one.
const SLICE: Duration = Duration::from_micros(50);
/// How many times its own length a slice is followed by requests, if there are any: with nothing
/// preserved, and with the budget full.
const REST_MOST: u32 = 4;
const REST_LEAST: u32 = 1;
/// Commands may preserve this share of the memory in use before writers wait, within bounds.
const BUDGET_SHARE: usize = 32;
const BUDGET_MIN: usize = 2 << 20;
const BUDGET_MAX: usize = 32 << 20;
/// Nobody waits for the answers to a save that is made by itself.
pub(crate) const NOBODY: ConnectionId = ConnectionId { index: u32::MAX, generation: u32::MAX };
/// How often a worker looks whether a save goes on, if nothing tells it before.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The save that a worker takes part in.
pub(crate) struct Saving {
    save: Arc<Save>,
    writer: PieceWriter,
    phase: Phase,
    budget: usize,
    is_over_budget: bool,
    /// What was told of last.
    keys: u64,
    /// Keys that the last slice has written.
    keys_of_slice: u64,
    preserved: u64,
    /// When the last slice ended, and how long it was.
    rested_since: Instant,
    last_slice: Duration,
}

enum Phase {
    Writing(Box<Snapshot>),
    /// All pieces are made; the disk has not taken all of them.
    Draining,
    /// It has failed: the capture is being given up.
    GivingUp,
}

/// What a client waits for with its command.
pub(crate) enum Awaited {
    /// The end of a save.
    Save(Arc<Save>),
    /// The end of the append-only log, which is turned off.
    EndOfLog,
}

/// A client that waits.
pub(crate) struct SaveWaiter {
    pub(crate) connection: ConnectionId,
    pub(crate) ticket: u64,
    pub(crate) part: u32,
    pub(crate) awaited: Awaited,
}

impl Saving {
    /// Captures `keyspace` as it is now.
    fn begin(keyspace: &mut Keyspace, changes: u64, save: Arc<Save>, writer: PieceWriter) -> Self {
        let databases = 0..keyspace.database_count();
        save.shard_begins(databases.map(|database| keyspace.len(database) as u64).sum(), changes);
        let budget = (keyspace.used_bytes() / BUDGET_SHARE).clamp(BUDGET_MIN, BUDGET_MAX);
        let phase = match keyspace.begin_capture() {
            Ok(()) => {
                let options = save.options().clone();
                Phase::Writing(Box::new(Snapshot::new(keyspace, options)))
            }
            Err(error) => {
                save.fail(std::io::Error::other(error));
                Phase::GivingUp
            }
        };
        let preserved = keyspace.preserved_total();
        Self {
            save,
            writer,
            phase,
            budget,
            is_over_budget: false,
            keys: 0,
            keys_of_slice: 0,
            preserved,
            rested_since: Instant::now(),
            last_slice: Duration::ZERO,
        }
    }

    /// Whether there is something to do now.
    fn is_pressing(&self, key_delay: Duration) -> bool {
        match self.phase {
            Phase::Writing(_) => {
                let may_go_on = self.writer.has_room() && self.has_waited(key_delay);
                self.save.has_failed() || may_go_on
            }
            // The ring tells when the disk has taken a piece.
            Phase::Draining | Phase::GivingUp => false,
        }
    }

    /// Whether the keys of the last slice have taken as long as `rdb-key-save-delay` wants.
    fn has_waited(&self, key_delay: Duration) -> bool {
        let keys = u32::try_from(self.keys_of_slice).unwrap_or(u32::MAX);
        key_delay.is_zero()
            || !matches!(self.phase, Phase::Writing(_))
            || self.rested_since.elapsed() >= key_delay.saturating_mul(keys)
    }

    /// Takes in what the disk has done.
    fn take(&mut self, event: SaveEvent) {
        let buffer = self.writer.take(event);
        if let (Some(buffer), Phase::Writing(snapshot)) = (buffer, &mut self.phase) {
            snapshot.recycle(buffer);
        }
    }

    /// Whether requests that wait must go on waiting for a slice.
    fn has_rested(&self, keyspace: &Keyspace) -> bool {
        let fullness = self.fullness(keyspace).min(100) as u32;
        let rest = REST_MOST - (REST_MOST - REST_LEAST) * fullness / 100;
        self.rested_since.elapsed() >= self.last_slice * rest
    }

    /// Goes on for a slice. Answers whether this worker is through with it.
    fn slice(&mut self, keyspace: &mut Keyspace, ring: &mut Ring) -> bool {
        let start = Instant::now();
        self.go_on(keyspace, ring, start);
        self.rested_since = Instant::now();
        self.last_slice = self.rested_since - start;
        match self.phase {
            Phase::Writing(_) => false,
            Phase::Draining => self.writer.is_settled(),
            Phase::GivingUp => self.writer.is_settled() && keyspace.may_begin_capture(),
        }
    }

    fn go_on(&mut self, keyspace: &mut Keyspace, ring: &mut Ring, start: Instant) {
        if self.save.has_failed() && !matches!(self.phase, Phase::GivingUp) {
            keyspace.abort_capture();
            self.phase = Phase::GivingUp;
        }
        let Phase::Writing(snapshot) = &mut self.phase else { return };
        let is_all = write(snapshot, keyspace, &mut self.writer, ring, start);
        let (keys, preserved) = (snapshot.keys(), keyspace.preserved_total());
        // INFO shows how far it is.
        self.keys_of_slice = keys - self.keys;
        self.save.note_progress(self.keys_of_slice, preserved - self.preserved);
        (self.keys, self.preserved) = (keys, preserved);
        if is_all {
            self.phase = Phase::Draining;
        }
    }

    /// Bytes that commands may preserve before those wait that would preserve more.
    pub(crate) fn budget(&self) -> usize {
        self.budget
    }

    /// How full the budget is, in per cent.
    fn fullness(&self, keyspace: &Keyspace) -> usize {
        keyspace.preserved_bytes() * 100 / self.budget
    }
}

/// Makes pieces as long as a slice that began at `start` is, and as there is room for them. Answers
/// whether there are no more.
fn write(
    snapshot: &mut Snapshot,
    keyspace: &mut Keyspace,
    writer: &mut PieceWriter,
    ring: &mut Ring,
    start: Instant,
) -> bool {
    while writer.has_room() {
        match snapshot.step(keyspace, STEP_WORK) {
            Step::More => {}
            Step::Piece(piece) => writer.push(piece, ring),
            Step::Done => return true,
        }
        if start.elapsed() >= SLICE {
            break;
        }
    }
    false
}

impl Worker {
    /// Captures the shard for the save under way. Runs at this worker's place in the cut.
    pub(crate) fn begin_saving(&mut self) {
        let Some(save) = self.shared.saves.current() else { return };
        let writer = PieceWriter::open(Arc::clone(&save), self.own);
        let changes = self.shard.changes();
        if let Some(log) = save.log() {
            self.begin_log_of(log);
            save.note_position(self.own, self.log.as_ref().and_then(|it| it.position(&self.shard)));
        }
        if self.own == libraries::RECORDING_SHARD {
            save.note_functions(libraries::in_rdb_form(&self.shared));
        }
        self.saving = Some(Saving::begin(&mut self.shard.keyspace, changes, save, writer));
    }

    /// Takes in what the disk has done for the save under way.
    pub(crate) fn take_save_events(&mut self) {
        while let Some(event) = self.network.take_save_event() {
            // A save is there as long as something of it is under way.
            if let Some(saving) = &mut self.saving {
                saving.take(event);
            }
        }
    }

    /// A slice of the save under way, if there is one and it is its turn. `has_requests`: some wait
    /// to be served.
    pub(crate) fn save_slice(&mut self, has_requests: bool) {
        let key_delay = self.key_save_delay();
        let Some(saving) = self.saving.as_mut().filter(|_| self.shard.is_here()) else { return };
        let keyspace = &mut self.shard.keyspace;
        if has_requests && !saving.has_rested(keyspace) {
            return;
        }
        let may_go_on = saving.save.has_failed() || saving.has_waited(key_delay);
        let cpu_before = thread_cpu_time();
        let is_through = may_go_on && saving.slice(keyspace, self.network.ring());
        let cpu = thread_cpu_time().saturating_sub(cpu_before);
        if may_go_on {
            self.metrics.steps.slices.record(saving.last_slice.as_nanos() as u64);
            self.metrics.steps.slices_cpu.record(cpu.as_nanos() as u64);
        }
        let is_over = !is_through && saving.fullness(keyspace) >= 100;
        if is_over != saving.is_over_budget {
            saving.is_over_budget = is_over;
            self.shared.saves.note_budget(self.own, is_over);
            self.metrics.counters.save_stalls.add(u64::from(is_over));
        }
        if is_through && let Some(saving) = self.saving.take() {
            saving.writer.end(Arc::clone(&self.shared), &self.background);
        }
    }

    /// How long each key of a save takes at least: a slow disk for tests (`rdb-key-save-delay`, in
    /// microseconds; below zero it is Redis's number of keys to a microsecond, which is no delay).
    fn key_save_delay(&self) -> Duration {
        let micros = u64::try_from(self.config.get().rdb_key_save_delay).unwrap_or(0);
        Duration::from_micros(micros)
    }

    /// Looks whether a save point is reached. The figures of other workers are those that they have
    /// published last.
    pub(crate) fn look_at_save_points(&mut self) {
        let config = self.config.get();
        if config.save.is_empty() || self.save_is_due || self.shared.saves.current().is_some() {
            return;
        }
        let changes = self.shared.metrics.snapshot().totals.changes;
        let now_s = (self.now_us / 1_000_000) as u64;
        self.save_is_due =
            points::is_due(&config.save, &self.shared.saves.record(), changes, now_s);
        self.due_why = Why::Background;
        if self.save_is_due && self.map.shards() == 1 {
            self.pack_due_save();
        }
    }

    /// Looks whether the append-only log has grown so much that it is to be written anew.
    pub(crate) fn look_at_log_size(&mut self) {
        let (config, aof) = (self.config.get(), &self.shared.aof);
        let (percentage, least) =
            (config.auto_aof_rewrite_percentage, config.auto_aof_rewrite_min_size);
        if self.save_is_due
            || !aof.is_on()
            || self.shared.loading.is_active()
            || self.shared.saves.current().is_some()
            || !aof.wants_rewrite(u64::from(percentage), least)
        {
            return;
        }
        self.save_is_due = true;
        self.due_why = Why::Rewrite;
        if self.map.shards() == 1 {
            self.pack_due_save();
        }
    }

    /// Looks whether a save waits whose turn has come: none is under way, and all is loaded.
    #[inline]
    pub(crate) fn look_at_schedule(&mut self) {
        if self.shared.saves.has_scheduled() && !self.save_is_due {
            self.begin_scheduled();
        }
    }

    #[cold]
    fn begin_scheduled(&mut self) {
        let Shared { saves, loading, aof, .. } = &*self.shared;
        let is_busy = saves.current().is_some() || aof.rewrites().is_installing;
        let Some(why) = saves.scheduled().filter(|_| !is_busy && !loading.is_active()) else {
            return;
        };
        self.save_is_due = true;
        self.due_why = why;
        if self.map.shards() == 1 {
            self.pack_due_save();
        }
    }

    /// Packs the word to begin the save that is due, for the next cut.
    pub(crate) fn pack_due_save(&mut self) {
        let shards = self.map.shards() as u32;
        let Some(command) = self.commands.find(b"bgsave") else { return };
        let has_room = shards == 1 || (0..shards).all(|shard| self.outboxes.has_room(shard));
        if !mem::replace(&mut self.save_is_due, !has_room) || !has_room {
            return;
        }
        let plan = match self.due_why {
            Why::Rewrite => plan_rewrite(&self.shared),
            Why::Background | Why::Asked => Some(plan(&self.shared, Why::Background)),
        };
        if plan.is_none() {
            self.shared.saves.unschedule(self.due_why);
        }
        if plan.and_then(|plan| self.shared.saves.begin(plan)).is_some() {
            let was_scheduled = self.shared.saves.unschedule(self.due_why);
            match self.due_why {
                _ if was_scheduled => tracing::info!("Starting what was scheduled"),
                Why::Rewrite => tracing::info!("Starting automatic rewriting of AOF"),
                Why::Background | Why::Asked => {
                    tracing::info!("A save point is reached. Saving...");
                }
            }
            let header = CallHeader::unasked(command);
            self.pack_question(NOBODY, 0, header, &[b"bgsave".to_vec()]);
        }
    }

    /// When the save under way wants to go on, if there is one.
    pub(crate) fn save_due(&self) -> Option<Duration> {
        let key_delay = self.key_save_delay();
        let is_pressing = self.saving.as_ref().map(|saving| saving.is_pressing(key_delay));
        let waits = !self.save_waiters.is_empty() || self.shared.saves.holds_writes();
        match is_pressing {
            // A shard that is lent cannot be captured, and its return ends the wait.
            Some(true) if self.shard.is_here() => Some(Duration::ZERO),
            Some(_) => Some(LOOK_AGAIN),
            None if self.save_is_due => Some(Duration::ZERO),
            None => waits.then_some(LOOK_AGAIN),
        }
    }

    /// Answers the clients for whom what they wait for has ended.
    pub(crate) fn answer_save_waiters(&mut self) {
        let aof = &self.shared.aof;
        let ended = |waiter: &mut SaveWaiter| match &waiter.awaited {
            Awaited::Save(save) => save.outcome().is_some(),
            Awaited::EndOfLog => !aof.is_ending(),
        };
        let waiters: Vec<_> = self.save_waiters.extract_if(.., ended).collect();
        for waiter in waiters {
            let mut answer = self.pool.take();
            ReplyWriter::new(&mut answer, PART_PROTOCOL).ok();
            let whole = Mark::default()..answer.mark();
            self.arrive(waiter.connection, waiter.ticket, waiter.part, (&answer, whole));
            self.pool.put(answer);
        }
    }
}
