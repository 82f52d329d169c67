//! Writing one shard's log: group commit, segments, and what happens when the disk refuses.
//!
//! The writer takes the records of closed epochs out of the shard's journal, makes each epoch a group
//! and hands the groups to the disk. While they are on their way the next ones gather. It knows
//! neither files nor threads: it submits to a [`LogDisk`], is told what became of it, and is asked in
//! every turn what is to be done.
//!
//! # Policies
//!
//! - `always`: every group is written durably, the next when the one before is;
//! - `everysec`: groups are written when enough has gathered or some time has passed, and made
//!   durable once a second, or sooner when much is not;
//! - `no`: as `everysec`, and made durable by us only when somebody asks for it (see [`sync`]).
//!
//! # Failure
//!
//! What is not durable yet is kept. When a write, a sync or the making of a segment fails, all that
//! is not known to be durable is written again, into a new segment, a second later and again until
//! it succeeds; [`LogWriter::failure`] says what is wrong meanwhile, and the server refuses writes.
//! The old segment is never touched again: after a failed sync nobody knows what it holds.
//!
//! That a segment could be made shows little. So a failure lasts until a group has been written
//! durably again, and only those that were kept are tried: a disk that goes on failing does not lure
//! further writes into waiting for it.
//!
//! # Invariants
//!
//! - groups go to the disk in the order of their epochs, and a group is begun on a new block;
//! - every record is in exactly one of: the journal, `kept` (on its way, written and not yet
//!   durable, or to be written again), the durable past;
//! - `durable` never passes a record that has not been reported durable by the disk.
#![forbid(unsafe_code)]

mod segments;
mod sync;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, io};

use segments::{Next, SEGMENT_BYTES_MIN, Segment};
use sync::Unsynced;

use super::{
    epoch::Epochs,
    segment::{GroupHeader, finish_group, group_room},
};
use crate::{
    journal::{Chunk, Journal, Waiting, record::RecordBuffer},
    sys::disk::{DiskEvent, LogDisk},
};

/// Unless every group is made durable, so many bytes of records are written without waiting for more.
const GATHER_BYTES: usize = 512 << 10;
/// And records wait at most so long, in microseconds.
const GATHER_US: i64 = 50_000;
/// How long a log that has failed rests before it tries again, in microseconds.
const RETRY_US: i64 = 1_000_000;

/// When the log is made durable: `appendfsync`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before anybody sees what was written.
    Always,
    /// Once a second.
    #[default]
    EverySecond,
    /// When the operating system likes.
    Never,
}

/// Whose log it is.
#[derive(Clone, Copy, Debug)]
pub struct LogIdentity {
    /// The run of the server.
    pub run: u64,
    /// The shard.
    pub shard: u32,
    /// How many shards there are.
    pub shards: u32,
}

/// A group that is not known to be durable.
#[derive(Debug)]
struct Kept {
    epoch: u64,
    first_sequence: u64,
    last_sequence: u64,
    /// Where it stands, if it was submitted.
    segment: u32,
    /// Its bytes; the disk has them while they are written.
    bytes: Option<RecordBuffer>,
    len: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be written, for the first time or again.
    Waiting,
    /// The disk has it.
    Submitted { ticket: u64, durable: bool },
    /// Written, and not known to be durable.
    Written,
    /// Durable, behind others that are not yet.
    Durable,
}

/// Why a log cannot be written, until it can again.
#[derive(Debug)]
struct Failure {
    error: io::Error,
    retry_us: i64,
    /// A write or a sync has failed, so that what was written before it is to be written again.
    is_of_data: bool,
    /// There is a new segment, and it is seen whether what was kept can be written to it.
    is_on_trial: bool,
}

/// The writing end of one shard's log.
#[derive(Debug)]
pub struct LogWriter {
    identity: LogIdentity,
    policy: SyncPolicy,
    room: usize,
    segment: Option<Segment>,
    next: Next,
    /// The number of the segment that is asked for next. One that could not be made is asked for
    /// again, so that no number is missing.
    next_number: u32,
    /// Groups that are not durable, in the order of their epochs.
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    /// The segment whose sync is under way, and the last record that it will make durable.
    syncing: Option<(u32, u64)>,
    /// Segments with groups that were let go of under `no` and that nobody has synced since.
    unsynced: VecDeque<Unsynced>,
    /// Somebody waits for what there is to be durable.
    hurries: bool,
    /// Segments that may be closed once nothing of them is under way.
    closing: Vec<u32>,
    tickets: u64,
    written: u64,
    durable: u64,
    written_us: i64,
    synced_us: i64,
    /// The next segment is not asked for in advance before this time.
    ask_us: i64,
    failure: Option<Failure>,
    /// Bytes written to all segments of this run, headers included.
    pub bytes_written: u64,
    /// Groups written.
    pub groups_written: u64,
    /// Syncs that took so long that the next was due before they were done.
    pub delayed_syncs: u64,
    /// The last epoch of which a group is not kept any more.
    let_go_epoch: u64,
}

impl LogWriter {
    /// The writer of a log whose last record, durable, has the number `sequence`. Its first segment
    /// is to be made.
    pub fn new(
        identity: LogIdentity,
        policy: SyncPolicy,
        sequence: u64,
        disk: &mut impl LogDisk,
    ) -> Self {
        let mut writer = Self {
            identity,
            policy,
            room: group_room(identity.shards as usize),
            segment: None,
            next: Next::None,
            next_number: 0,
            kept: VecDeque::new(),
            kept_bytes: 0,
            syncing: None,
            unsynced: VecDeque::new(),
            hurries: false,
            closing: Vec::new(),
            tickets: 0,
            written: sequence,
            durable: sequence,
            written_us: 0,
            synced_us: 0,
            ask_us: 0,
            failure: None,
            bytes_written: 0,
            groups_written: 0,
            delayed_syncs: 0,
            let_go_epoch: 0,
        };
        writer.ask_segment(SEGMENT_BYTES_MIN, disk);
        writer
    }

    /// Bytes that the journal is to leave free in front of each epoch's records.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Changes `appendfsync`.
    pub fn set_policy(&mut self, policy: SyncPolicy) {
        self.policy = policy;
    }

    /// Somebody waits for what there is to be durable, whatever the policy, or does not any more: it
    /// is written and synced without delay meanwhile.
    pub fn hurry(&mut self, hurries: bool) {
        self.hurries = hurries;
    }

    /// `appendfsync` as it is in force.
    pub fn policy(&self) -> SyncPolicy {
        self.policy
    }

    /// The number of the last record that is durable.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// The number of the last record that is written, durable or not.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Why the log cannot be written, if that is so.
    pub fn failure(&self) -> Option<&io::Error> {
        self.failure.as_ref().map(|failure| &failure.error)
    }

    /// Bytes of groups that are not known to be durable.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// The last epoch of which a group is not kept any more.
    pub(super) fn let_go_epoch(&self) -> u64 {
        self.let_go_epoch
    }

    /// The records of the groups that are kept, unless the disk has some of them.
    pub(super) fn kept_records(&self) -> Option<impl Iterator<Item = Waiting<'_>>> {
        self.kept.iter().all(|kept| kept.bytes.is_some()).then(|| {
            self.kept.iter().flat_map(|kept| {
                let &Kept { first_sequence, last_sequence, .. } = kept;
                let records = kept.bytes.as_deref()?.get(self.room..)?;
                Some(Waiting { first_sequence, last_sequence, records })
            })
        })
    }

    /// The first segment in which records may stand that are made from now on; nothing while there is
    /// none to write to, after a failure.
    pub fn segment_number(&self) -> Option<u32> {
        if let Some(segment) = self.segment {
            return Some(segment.number);
        }
        // A shard that has nothing to write has no segment yet.
        self.failure.is_none().then_some(match self.next {
            Next::Asked { number, .. } | Next::Ready { number, .. } => number,
            _ => self.next_number,
        })
    }

    /// Whether what the journal holds should be written now, for which its epoch must end.
    pub fn wants_epoch(&self, journal: &Journal, now_us: i64) -> bool {
        if journal.is_empty() || self.failure.is_some() || !self.is_free() {
            return false;
        }
        self.policy == SyncPolicy::Always
            || self.hurries
            || journal.len() >= GATHER_BYTES
            || now_us >= self.written_us + GATHER_US
    }

    /// When [`wants_epoch`](Self::wants_epoch) or [`pump`](Self::pump) should be asked again, if
    /// nothing comes before, in microseconds since the Unix epoch.
    pub fn due_us(&self, journal: &Journal) -> Option<i64> {
        if let Some(failure) = &self.failure {
            return Some(failure.retry_us);
        }
        let write = (!journal.is_empty() && self.is_free() && self.policy != SyncPolicy::Always)
            .then_some(self.written_us + GATHER_US);
        write.into_iter().chain(self.next_sync_us()).min()
    }

    /// Whether [`pump`](Self::pump) has something to do.
    pub fn wants_pump(&self, journal: &Journal, now_us: i64) -> bool {
        let is_waiting = || self.kept.iter().any(|kept| kept.state == State::Waiting);
        !journal.is_empty()
            || self.due_us(journal).is_some_and(|due_us| due_us <= now_us)
            || is_waiting()
    }

    /// Whether everything that was taken from the journal is durable.
    pub fn is_settled(&self) -> bool {
        self.kept.is_empty() && self.syncing.is_none() && self.unsynced.is_empty()
    }

    /// Whether nothing is to be done with what was taken from the journal: it is as durable as the
    /// policy makes it.
    pub fn is_at_rest(&self) -> bool {
        let is_synced = self.unsynced.is_empty()
            || (self.policy == SyncPolicy::Never && self.next_sync_us().is_none());
        self.kept.is_empty() && self.syncing.is_none() && self.failure.is_none() && is_synced
    }

    /// Whether a sync is under way.
    pub fn is_syncing(&self) -> bool {
        self.syncing.is_some()
    }

    /// Submits what is due: groups of closed epochs, and a sync.
    pub fn pump(
        &mut self,
        journal: &mut Journal,
        epochs: &Epochs,
        disk: &mut impl LogDisk,
        now_us: i64,
    ) {
        if let Some(failure) = &self.failure
            && now_us >= failure.retry_us
            && self.is_quiet()
        {
            self.try_again(disk, now_us);
        }
        if self.failure.is_none() && self.is_free() {
            self.take_groups(journal, epochs);
        }
        if self.may_submit() && self.is_free() {
            self.submit_groups(disk, now_us);
        }
        self.sync_if_due(disk, now_us);
    }

    /// Takes in what became of a submission.
    pub fn complete(
        &mut self,
        event: DiskEvent,
        journal: &mut Journal,
        disk: &mut impl LogDisk,
        now_us: i64,
    ) {
        match event {
            DiskEvent::Made { segment, result } => self.made(segment, result, disk, now_us),
            DiskEvent::Written { ticket, bytes, result } => {
                self.group_written(ticket, bytes, result, journal, now_us);
            }
            DiskEvent::Synced { segment, result } => self.synced(segment, result, journal, now_us),
        }
        self.close_quiet(disk);
        self.check();
    }

    fn may_submit(&self) -> bool {
        self.failure.as_ref().is_none_or(|failure| failure.is_on_trial)
    }

    /// No group is on its way, so that the next may go.
    fn is_free(&self) -> bool {
        self.kept.iter().all(|kept| !matches!(kept.state, State::Submitted { .. }))
    }

    /// Whether nothing of it is under way to the disk.
    pub fn is_quiet(&self) -> bool {
        self.is_free() && self.syncing.is_none()
    }

    fn take_groups(&mut self, journal: &mut Journal, epochs: &Epochs) {
        while let Some(mut chunk) = journal.take_until(epochs.closed()) {
            let payload_bytes = (chunk.bytes.len() - self.room) as u64;
            let closed = epochs.vector(chunk.epoch).expect("an epoch is kept until it is written");
            let header = GroupHeader {
                run: self.identity.run,
                epoch: chunk.epoch,
                first_sequence: chunk.first_sequence,
                last_sequence: chunk.last_sequence,
                payload_bytes,
                durable_epoch: epochs.durable(),
                durable_sequence: self.durable,
                vector: closed.vector.to_vec(),
            };
            finish_group(&mut chunk, self.room, &header);
            let Chunk { epoch, first_sequence, last_sequence, bytes } = chunk;
            let len = bytes.len();
            self.kept_bytes += len;
            let (segment, bytes, state) = (0, Some(bytes), State::Waiting);
            self.kept.push_back(Kept {
                epoch,
                first_sequence,
                last_sequence,
                segment,
                bytes,
                len,
                state,
            });
        }
    }

    fn submit_groups(&mut self, disk: &mut impl LogDisk, now_us: i64) {
        for index in 0..self.kept.len() {
            if self.kept[index].state != State::Waiting {
                continue;
            }
            let len = self.kept[index].len as u64;
            let Some(segment) = self.segment_for(len, disk) else { return };
            let kept = &mut self.kept[index];
            let Some(bytes) = kept.bytes.take() else { continue };
            self.tickets += 1;
            kept.segment = segment.number;
            let durable = self.policy == SyncPolicy::Always || self.failure.is_some();
            kept.state = State::Submitted { ticket: self.tickets, durable };
            disk.write(self.tickets, segment.number, segment.offset, bytes, durable);
            self.segment = Some(Segment { offset: segment.offset + len, ..segment });
            self.written_us = now_us;
        }
        self.ask_in_advance(disk, now_us);
    }

    fn group_written(
        &mut self,
        ticket: u64,
        bytes: RecordBuffer,
        result: io::Result<()>,
        journal: &mut Journal,
        now_us: i64,
    ) {
        let is_it = |kept: &&mut Kept| matches!(kept.state, State::Submitted { ticket: submitted, .. } if submitted == ticket);
        let Some(kept) = self.kept.iter_mut().find(is_it) else { return };
        kept.bytes = Some(bytes);
        let is_durable = matches!(kept.state, State::Submitted { durable: true, .. });
        match result {
            Ok(()) => {
                kept.state = if is_durable { State::Durable } else { State::Written };
                self.bytes_written += kept.len as u64;
                self.groups_written += 1;
                self.failure.take_if(|failure| failure.is_on_trial);
            }
            Err(error) => {
                kept.state = State::Waiting;
                self.fail(error, now_us);
            }
        }
        let is_written = |kept: &&Kept| matches!(kept.state, State::Written | State::Durable);
        let written = self.kept.iter().take_while(is_written);
        if let Some(last) = written.last() {
            self.written = self.written.max(last.last_sequence);
        }
        let is_sound = self.failure.as_ref().is_none_or(|failure| !failure.is_of_data);
        if is_sound {
            self.forget_durable(journal);
        }
        if self.policy == SyncPolicy::Never && is_sound {
            self.forget_written(journal);
        }
    }

    /// Something has failed: rests, and gives the segment up.
    fn fail(&mut self, error: io::Error, now_us: i64) {
        self.closing.extend(self.segment.take().map(|segment| segment.number));
        let retry_us = now_us + RETRY_US;
        self.failure = Some(Failure { error, retry_us, is_of_data: true, is_on_trial: false });
    }

    /// After the rest: all that is not durable is to be written again, into a new segment. The
    /// failure is over when the first of it is durable.
    fn try_again(&mut self, disk: &mut impl LogDisk, now_us: i64) {
        if self.failure.as_ref().is_some_and(|it| it.is_of_data) {
            for kept in &mut self.kept {
                kept.state = State::Waiting;
            }
        }
        if self.next == Next::None {
            self.ask_segment(SEGMENT_BYTES_MIN, disk);
        }
        let is_ready = matches!(self.next, Next::Ready { .. });
        if let Some(failure) = &mut self.failure {
            failure.retry_us = now_us + RETRY_US;
            failure.is_on_trial = is_ready;
        }
        if is_ready && self.kept.is_empty() {
            self.failure = None;
        }
    }

    fn check(&self) {
        debug_assert_eq!(self.kept_bytes, self.kept.iter().map(|kept| kept.len).sum::<usize>());
        debug_assert!(self.kept.iter().is_sorted_by_key(|kept| kept.epoch));
        debug_assert!(self.kept.iter().all(|kept| kept.first_sequence > self.durable));
        debug_assert!(self.written >= self.durable || self.failure.is_some());
    }
}
