//! What a worker does for the log in every turn.
//!
//! In this order: takes in what the disk has done; lets the epoch move on if its log wants to write;
//! reports that it has run the epoch before, if it has; hands groups to the disk; and says what may
//! leave. All of it takes a few comparisons when there is nothing to do.
//!
//! A worker has run an epoch when it has served what stood in its mailbox after the next one began,
//! its shard is here, and nothing waits for the shard: own commands of the epoch have executed in
//! the round that read it. While the shard is lent it reports nothing: what is done to it meanwhile
//! is stamped with the epoch in which it was asked for.
#![forbid(unsafe_code)]

use std::sync::{
    Arc,
    atomic::Ordering::{Relaxed, SeqCst},
};

use tessera_engine::{
    persist::{
        doubt::Doubt,
        log::{LogIdentity, LogWriter, SyncPolicy},
        manifest::LogStart,
    },
    sys::disk::DiskEvent,
    transaction::{ShardId, ShardSet},
};

use super::{
    Aof, Open, policy,
    segments::{RingDisk, Segments},
    start::BAD_FORMAT,
    switch::Ending,
};
use crate::{mesh::mailbox::Position, own_shard::OwnShard, worker::Worker};

/// Records of so many bytes may wait in one worker; then writes do, on all workers.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// One worker's end of the log.
pub(crate) struct WorkerLog {
    pub(super) writer: LogWriter,
    segments: Segments,
    /// The state of the epochs that was looked at last.
    seen: [u64; 4],
    /// Up to here the mailbox must be served, and until then the epoch before `seen` is not run.
    ran_at: Option<(u64, Position)>,
    is_failing: bool,
    is_behind: bool,
    /// The number of the last record, if the log has nothing to do until there is another one.
    rest: Option<u64>,
    /// The first segment that is still needed, as far as the writer knows.
    first_segment: u32,
    pub(super) ending: Ending,
    /// What of the own shard may be lost, while some log cannot be written.
    pub(crate) doubt: Option<Doubt>,
}

impl WorkerLog {
    /// Whether something has changed since the last turn that a sleeping worker should see.
    pub(crate) fn is_called(&self, aof: &Aof) -> bool {
        self.seen != aof.state()
    }

    /// Where the log is, if `shard` is captured now.
    pub(crate) fn position(&self, shard: &OwnShard) -> Option<LogStart> {
        let segment = self.writer.segment_number()?;
        Some(LogStart { segment, sequence: shard.keyspace.journal.sequence() })
    }

    /// When the log wants a turn, in microseconds since the Unix epoch.
    pub(crate) fn due_us(&self, shard: &OwnShard) -> Option<i64> {
        if !shard.is_here() {
            return None;
        }
        self.writer.due_us(&shard.keyspace.journal)
    }

    /// The number of the last record, if the log has nothing to do until there is another one.
    pub(crate) fn rest(&self) -> Option<u64> {
        self.rest
    }

    /// Whether it cannot be written, and nothing of it is under way.
    pub(super) fn is_given_up(&self) -> bool {
        self.writer.failure().is_some() && self.writer.is_quiet()
    }

    /// It is dropped: whatever it has told the others is taken back.
    pub(super) fn withdraw(&self, aof: &Aof) {
        if self.is_failing {
            change(&aof.failing, false);
        }
        if self.is_behind {
            change(&aof.behind, false);
        }
    }

    /// Whether nothing is left to be made durable.
    pub(crate) fn is_settled(&self, shard: &OwnShard) -> bool {
        shard.is_here() && shard.keyspace.journal.is_empty() && self.writer.is_settled()
    }
}

impl Worker {
    /// Takes over the shard that was loaded for this worker, and begins to log.
    pub(crate) fn take_loaded(&mut self) {
        if self.log.is_some() {
            return;
        }
        if self.shared.aof.follows() {
            return self.follow_with_log();
        }
        if let Some(shard) = self.shared.aof.take_loaded(self.own as usize) {
            self.shard = OwnShard::new(shard);
            self.shard.end_loading(self.now_us);
            if self.own == 0
                && let Err(reason) = self.repeat_functions()
            {
                self.shared.loading.fail(format!("{BAD_FORMAT}: {reason}"));
                return self.shared.stop.shutdown().request();
            }
            self.begin_log();
        }
    }

    /// Loads the libraries of functions that the log has.
    fn repeat_functions(&mut self) -> Result<(), String> {
        let commands = self.shared.aof.take_functions();
        commands.iter().try_for_each(|command| self.repeat_function(command))
    }

    /// Begins the log when everything was loaded elsewhere.
    fn follow_with_log(&mut self) {
        if !self.shared.loading.awaits_log() {
            return;
        }
        let seed = self.random.next_u64();
        let (config, workers) = (self.config.get(), self.shared.workers);
        match self.shared.aof.begin_with_dump(config, workers, seed) {
            Ok(()) => self.begin_log(),
            Err(reason) => {
                self.shared.loading.fail(reason);
                self.shared.stop.shutdown().request();
            }
        }
    }

    /// Records and logs from now on what is done to the own shard, which has been loaded.
    fn begin_log(&mut self) {
        let Some(open) = self.shared.aof.open() else { return };
        self.open_log(&open);
        self.publish();
        let databases = 0..self.shard.keyspace.database_count();
        let keys = databases.map(|number| self.shard.keyspace.len(number) as u64).sum();
        self.shared.loading.worker_took_over(keys);
    }

    /// A rewrite for the log `open` begins: it is the first one if nothing is logged yet. Runs at
    /// this worker's place in the cut.
    pub(crate) fn begin_log_of(&mut self, open: &Arc<Open>) {
        if self.log.is_none() && self.shared.aof.is_begun_by(open) {
            self.open_log(open);
        }
    }

    fn open_log(&mut self, open: &Open) {
        let aof = &self.shared.aof;
        let orders = open.keeper.orders(self.shared.board.bell(self.own as usize));
        let run = open.generation.run;
        let mut segments = Segments::new(run, self.own, orders);
        segments.zeroed = policy(self.config.get()) == SyncPolicy::Always;
        let mut disk = RingDisk { segments: &mut segments, network: &mut self.network };
        let shards = self.shared.workers as u32;
        let identity = LogIdentity { run, shard: self.own, shards };
        let writer = LogWriter::new(identity, policy(self.config.get()), 0, &mut disk);
        let (seen, room) = (aof.state(), writer.room());
        // What is done now belongs to the epoch of the place at which the log begins.
        let stamp = self.shard.keyspace.journal.stamp().max(open.generation.first_epoch);
        self.shard.keyspace.journal.start(0, stamp, room);
        self.configure_shard();
        self.log = Some(Box::new(WorkerLog {
            writer,
            segments,
            seen,
            ran_at: None,
            is_failing: false,
            is_behind: false,
            rest: None,
            first_segment: 0,
            ending: Ending::default(),
            doubt: None,
        }));
    }

    /// The log's part of a turn.
    #[inline]
    pub(crate) fn log_turn(&mut self) {
        if let Some(mut log) = self.log.take() {
            self.serve_log(&mut log);
            if self.may_drop_log(&mut log) {
                return self.drop_log(log);
            }
            self.log = Some(log);
        }
    }

    fn serve_log(&mut self, log: &mut WorkerLog) {
        log.seen = self.shared.aof.state();
        self.take_disk_events(log);
        if self.shard.is_here() {
            // Before the records are taken away, and before anything leaves.
            self.shared.aof.note_data(self.shard.keyspace.journal.fresh_epoch());
            self.heed_others(log);
            self.advance_epoch(log);
            self.report_run(log);
            self.write_groups(log);
        }
        self.note_state(log);
        let aof = &self.shared.aof;
        let hold = if log.writer.policy() == SyncPolicy::Always { aof.data_epoch() } else { 0 };
        let durable = aof.durable_epoch();
        self.network.set_gate(hold, durable);
        // While the gate is closed output may wait at it that is not there yet.
        log.rest = if hold <= durable { self.rest_of(log) } else { None };
    }

    /// The number of the last record, if the log of this worker has nothing to do until there is
    /// another one, and nobody here waits for it.
    fn rest_of(&self, log: &WorkerLog) -> Option<u64> {
        let nobody_waits =
            self.acks.is_empty() && self.waiting_mail.is_empty() && !self.network.holds_output();
        if !nobody_waits || !self.shard.is_here() || log.ending.is_asked() {
            return None;
        }
        let journal = &self.shard.keyspace.journal;
        (journal.is_empty() && log.writer.is_at_rest()).then(|| journal.sequence())
    }

    /// Takes in what others have said: somebody waits for the log, or a base stands for its beginning.
    fn heed_others(&mut self, log: &mut WorkerLog) {
        let aof = &self.shared.aof;
        log.writer.hurry(aof.wanted().is_some());
        let first = aof.figures[self.own as usize].first_segment.load(SeqCst);
        if first > log.first_segment {
            log.first_segment = first;
            let WorkerLog { writer, segments, .. } = log;
            writer.forget_before(first, &mut RingDisk { segments, network: &mut self.network });
            let (own, durable) = (self.own as usize, log.writer.durable());
            aof.with_epochs(|epochs| epochs.synced(own, durable));
        }
    }

    fn take_disk_events(&mut self, log: &mut WorkerLog) {
        // What has completed is taken in when the shard is here, whose journal gets memory back.
        while self.shard.is_here()
            && let Some(event) =
                log.segments.take_event().or_else(|| self.network.take_disk_event())
        {
            self.take_disk_event(log, event);
        }
    }

    fn take_disk_event(&mut self, log: &mut WorkerLog, event: DiskEvent) {
        let WorkerLog { writer, segments, .. } = log;
        let mut disk = RingDisk { segments, network: &mut self.network };
        let journal = &mut self.shard.keyspace.journal;
        writer.complete(event, journal, &mut disk, self.now_us);
        // Whoever learns that a write is durable may write again.
        self.note_failure(log);
        let writer = &log.writer;
        let (written, durable) = (writer.written(), writer.durable());
        let never = writer.policy() == SyncPolicy::Never;
        let is_always = writer.policy() == SyncPolicy::Always;
        let own = self.own as usize;
        let aof = &self.shared.aof;
        let was_wanted = aof.wanted().is_some();
        let more = aof.with_epochs(|epochs| {
            epochs.written(own, written, never);
            epochs.synced(own, durable)
        });
        if more && (is_always || was_wanted) {
            // Others may hold output that can leave now, or have clients that wait for it.
            self.wake_busy();
        }
    }

    /// Wakes all workers that may have something to log, or wait for a log.
    fn wake_busy(&mut self) {
        let aof = &self.shared.aof;
        self.outboxes.wake_all_but(|worker| aof.is_at_rest(worker));
    }

    /// Lets the next epoch begin if the log wants to write what it has.
    fn advance_epoch(&mut self, log: &WorkerLog) {
        let (aof, cut) = (&self.shared.aof, &self.shared.cut);
        let journal = &self.shard.keyspace.journal;
        // Whoever waits for the present epoch waits for its end.
        let is_wanted = aof.wanted().is_some_and(|wanted| wanted >= aof.epoch());
        let is_ending = self.shared.stop.is_asked() || log.ending.is_asked();
        let wants =
            log.writer.wants_epoch(journal, self.now_us) || (is_ending && !journal.is_empty());
        // Else all that waits is of epochs that have ended already.
        let has_fresh = journal.stamp() >= aof.epoch();
        let is_due = is_wanted || (wants && has_fresh);
        if is_due && let Some(next) = aof.with_epochs(|epochs| epochs.advance()) {
            cut.through(|| aof.begin_epoch(next));
            self.report_rests(next);
        }
    }

    /// The epoch `next` has begun: reports for those that sleep with nothing to log, and wakes the
    /// others, so that they report themselves.
    fn report_rests(&mut self, next: u64) {
        let (own, aof, outboxes) = (self.own as usize, &self.shared.aof, &mut self.outboxes);
        let others = (0..self.shared.workers).filter(|worker| *worker != own);
        let at_rest = others
            .filter(|&worker| aof.report_rest(worker, outboxes.tail_of(worker), next))
            .map(|worker| worker as ShardId)
            .collect::<ShardSet>();
        outboxes.wake_all_but(|worker| at_rest.contains(worker as ShardId));
    }

    /// Reports that everything before the present epoch has run here, if it has.
    fn report_run(&mut self, log: &mut WorkerLog) {
        let epoch = self.shared.aof.epoch();
        let own = self.own as usize;
        if self.shared.aof.closed.load(SeqCst) + 1 >= epoch {
            return;
        }
        let tail = match log.ran_at {
            Some((noted, tail)) if noted == epoch => tail,
            _ => {
                let tail = self.mail.tail();
                log.ran_at = Some((epoch, tail));
                tail
            }
        };
        if self.mail.head() < tail || !self.waiting_mail.is_empty() {
            return;
        }
        let sequence = self.shard.keyspace.journal.sequence_until(epoch - 1);
        let closed = self.shared.aof.with_epochs(|epochs| {
            epochs.current() == epoch && epochs.awaits(own) && epochs.ran(own, sequence)
        });
        if closed {
            self.wake_busy();
        }
    }

    fn write_groups(&mut self, log: &mut WorkerLog) {
        let WorkerLog { writer, segments, .. } = log;
        writer.set_policy(policy(self.config.get()));
        segments.zeroed = writer.policy() == SyncPolicy::Always;
        let mut disk = RingDisk { segments, network: &mut self.network };
        let journal = &mut self.shard.keyspace.journal;
        let is_ending = self.shared.stop.is_asked() || log.ending.is_asked();
        if !writer.wants_pump(journal, self.now_us) && !is_ending {
            return;
        }
        self.shared.aof.with_epochs(|epochs| writer.pump(journal, epochs, &mut disk, self.now_us));
        if is_ending {
            writer.sync_now(&mut disk, self.now_us);
        }
    }

    /// Tells the others how this log is.
    fn note_state(&mut self, log: &mut WorkerLog) {
        let aof = &self.shared.aof;
        let figures = &aof.figures[self.own as usize];
        figures.written_bytes.store(log.writer.bytes_written, Relaxed);
        figures.groups.store(log.writer.groups_written, Relaxed);
        let waiting = match self.shard.is_here() {
            true => self.shard.keyspace.journal.len() + log.writer.kept_bytes(),
            false => log.writer.kept_bytes(),
        };
        figures.waiting_bytes.store(waiting as u64, Relaxed);
        let settled = match log.writer.policy() {
            SyncPolicy::Never => log.writer.written(),
            SyncPolicy::Always | SyncPolicy::EverySecond => log.writer.durable(),
        };
        figures.settled_sequence.store(settled, SeqCst);
        figures.syncing.store(u64::from(log.writer.is_syncing()), Relaxed);
        figures.delayed_syncs.store(log.writer.delayed_syncs, Relaxed);
        let is_behind = waiting > WAITING_BYTES_MAX;
        if is_behind != log.is_behind {
            log.is_behind = is_behind;
            change(&aof.behind, is_behind);
        }
        self.note_failure(log);
    }

    /// Tells the others whether this log can be written.
    fn note_failure(&self, log: &mut WorkerLog) {
        let (aof, failure) = (&self.shared.aof, log.writer.failure());
        if failure.is_some() != log.is_failing {
            log.is_failing = failure.is_some();
            match failure {
                Some(error) => {
                    tracing::error!("Error writing to the AOF file: {error}");
                    let mut reason = aof.reason.lock().unwrap_or_else(|lock| lock.into_inner());
                    *reason = plain_text(error);
                }
                None => tracing::warn!("AOF write error looks solved, the log is written again."),
            }
            change(&aof.failing, log.is_failing);
        }
    }
}

/// Counts one more, or one less.
fn change(count: &std::sync::atomic::AtomicUsize, more: bool) {
    if more {
        count.fetch_add(1, SeqCst);
    } else {
        count.fetch_sub(1, SeqCst);
    }
}

/// The system's words for an error, as `strerror` gives them.
fn plain_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
