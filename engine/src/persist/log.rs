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
//! - `no`: as `everysec`, and never made durable by us.
//!
//! # Failure
//!
//! What is not durable yet is kept. When a write, a sync or the making of a segment fails, all that
//! is not known to be durable is written again, into a new segment, a second later and again until
//! it succeeds; [`LogWriter::failure`] says what is wrong meanwhile, and the server refuses writes.
//! The old segment is never touched again: after a failed sync nobody knows what it holds.
//!
//! # Invariants
//!
//! - groups go to the disk in the order of their epochs, and a group is begun on a new block;
//! - every record is in exactly one of: the journal, `kept` (on its way, written and not yet
//!   durable, or to be written again), the durable past;
//! - `durable` never passes a record that has not been reported durable by the disk.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, io};

use super::{
    epoch::Epochs,
    segment::{GroupHeader, SegmentHeader, finish_group, group_room, segment_block},
};
use crate::{
    journal::{
        Chunk, Journal,
        record::{BLOCK_BYTES, RecordBuffer},
    },
    sys::disk::{DiskEvent, LogDisk},
};

/// Bytes that are set aside for the first segment of a log.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// The same for a log that has grown: every segment is twice as large as the one before, up to this.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// Unless every group is made durable, so many bytes of records are written without waiting for more.
const GATHER_BYTES: usize = 512 << 10;
/// And records wait at most so long, in microseconds.
const GATHER_US: i64 = 50_000;
/// `everysec`: how often the log is made durable, in microseconds.
const SYNC_US: i64 = 1_000_000;
/// And after how many bytes at the latest, since what is not durable is kept in memory.
const UNSYNCED_BYTES_MAX: usize = 8 << 20;
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

/// The segment that is written to.
#[derive(Clone, Copy, Debug)]
struct Segment {
    number: u32,
    /// Where the next group goes.
    offset: u64,
    capacity: u64,
}

/// The next segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    None,
    Asked { number: u32, capacity: u64 },
    Ready { number: u32, capacity: u64 },
}

/// Why a log cannot be written, until it can again.
#[derive(Debug)]
struct Failure {
    error: io::Error,
    retry_us: i64,
    /// A write or a sync has failed, so that what was written before it is to be written again.
    is_of_data: bool,
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
        let sync = (self.policy == SyncPolicy::EverySecond && self.has_unsynced())
            .then_some(self.synced_us + SYNC_US);
        write.into_iter().chain(sync).min()
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
        self.kept.is_empty() && self.syncing.is_none()
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
            self.submit_groups(disk, now_us);
        }
        self.sync_if_due(disk, now_us, false);
    }

    /// Makes durable what was written, whatever the policy: for the end of the server, and for
    /// WAITAOF.
    pub fn sync_now(&mut self, disk: &mut impl LogDisk, now_us: i64) {
        self.sync_if_due(disk, now_us, true);
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

    /// No group is on its way, so that the next may go.
    fn is_free(&self) -> bool {
        self.kept.iter().all(|kept| !matches!(kept.state, State::Submitted { .. }))
    }

    fn is_quiet(&self) -> bool {
        self.is_free() && self.syncing.is_none()
    }

    fn has_unsynced(&self) -> bool {
        self.kept.front().is_some_and(|kept| kept.state == State::Written)
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
            let durable = self.policy == SyncPolicy::Always;
            kept.state = State::Submitted { ticket: self.tickets, durable };
            disk.write(self.tickets, segment.number, segment.offset, bytes, durable);
            self.segment = Some(Segment { offset: segment.offset + len, ..segment });
            self.written_us = now_us;
        }
        // The next segment is made before it is needed.
        if let Some(Segment { offset, capacity, .. }) = self.segment
            && self.next == Next::None
            && offset > capacity / 2
            && now_us >= self.ask_us
        {
            self.ask_segment((capacity * 2).min(SEGMENT_BYTES_MAX), disk);
        }
    }

    /// The segment for a group of `len` bytes, if there is one with room; else one is asked for.
    fn segment_for(&mut self, len: u64, disk: &mut impl LogDisk) -> Option<Segment> {
        if let Some(segment) = self.segment {
            // A group that is longer than any segment makes its own grow.
            let is_empty = segment.offset == BLOCK_BYTES as u64;
            if is_empty || segment.offset + len <= segment.capacity {
                return Some(segment);
            }
        }
        match self.next {
            Next::Ready { number, capacity } => {
                self.closing.extend(self.segment.map(|old| old.number));
                self.next = Next::None;
                self.segment = Some(Segment { number, offset: BLOCK_BYTES as u64, capacity });
            }
            Next::None => {
                let capacity = self.segment.map_or(SEGMENT_BYTES_MIN, |segment| segment.capacity);
                self.ask_segment((capacity * 2).min(SEGMENT_BYTES_MAX), disk);
                return None;
            }
            Next::Asked { .. } => return None,
        }
        self.segment
    }

    fn ask_segment(&mut self, capacity: u64, disk: &mut impl LogDisk) {
        let number = self.next_number;
        let block = segment_block(&SegmentHeader {
            run: self.identity.run,
            shard: self.identity.shard,
            shards: self.identity.shards,
            number,
            first_sequence: self.durable + 1,
        });
        self.next_number = number + 1;
        self.next = Next::Asked { number, capacity };
        disk.make(number, block, capacity);
    }

    fn made(&mut self, number: u32, result: io::Result<()>, disk: &mut impl LogDisk, now_us: i64) {
        let Next::Asked { number: asked, capacity } = self.next else { return };
        if asked != number {
            return disk.close(number);
        }
        match result {
            Ok(()) => self.next = Next::Ready { number, capacity },
            Err(error) => {
                self.next = Next::None;
                self.next_number = number;
                self.ask_us = now_us + RETRY_US;
                // If there is room left it is not needed yet.
                let is_needed = self.kept.iter().any(|kept| kept.state == State::Waiting);
                if is_needed || self.segment.is_none() {
                    // What was written is as good as before.
                    let retry_us = now_us + RETRY_US;
                    self.failure.get_or_insert(Failure { error, retry_us, is_of_data: false });
                }
            }
        }
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

    fn sync_if_due(&mut self, disk: &mut impl LogDisk, now_us: i64, at_once: bool) {
        if self.syncing.is_some() || self.failure.as_ref().is_some_and(|it| it.is_of_data) {
            return;
        }
        // Synced one segment after the other, the oldest first.
        let Some(first) = self.kept.front().filter(|kept| kept.state == State::Written) else {
            return;
        };
        let segment = first.segment;
        let of_segment = |kept: &&Kept| kept.segment == segment && kept.state == State::Written;
        let (mut last_sequence, mut bytes) = (first.last_sequence, 0);
        for kept in self.kept.iter().take_while(of_segment) {
            last_sequence = kept.last_sequence;
            bytes += kept.len;
        }
        let is_left = self.segment.is_none_or(|current| current.number != segment);
        let is_due = self.policy == SyncPolicy::Always
            || bytes >= UNSYNCED_BYTES_MAX
            || now_us >= self.synced_us + SYNC_US
            || is_left;
        if at_once || (is_due && self.policy != SyncPolicy::Never) {
            self.synced_us = now_us;
            self.syncing = Some((segment, last_sequence));
            disk.sync(segment);
        }
    }

    fn synced(&mut self, segment: u32, result: io::Result<()>, journal: &mut Journal, now_us: i64) {
        let Some((_, last)) = self.syncing.take_if(|(syncing, _)| *syncing == segment) else {
            return;
        };
        match result {
            Ok(()) => {
                let synced = |kept: &&mut Kept| {
                    let is_covered = kept.segment == segment && kept.last_sequence <= last;
                    is_covered && kept.state == State::Written
                };
                self.kept.iter_mut().filter(synced).for_each(|kept| kept.state = State::Durable);
                self.forget_durable(journal);
            }
            Err(error) => self.fail(error, now_us),
        }
    }

    /// Lets go of the first groups as long as they are durable.
    fn forget_durable(&mut self, journal: &mut Journal) {
        while self.kept.front().is_some_and(|kept| kept.state == State::Durable)
            && let Some(kept) = self.kept.pop_front()
        {
            self.durable = kept.last_sequence;
            self.let_go(kept, journal);
        }
    }

    /// `appendfsync no`: what is written is the operating system's business.
    fn forget_written(&mut self, journal: &mut Journal) {
        while self
            .kept
            .front()
            .is_some_and(|kept| matches!(kept.state, State::Written | State::Durable))
            && let Some(kept) = self.kept.pop_front()
        {
            self.let_go(kept, journal);
        }
    }

    fn let_go(&mut self, kept: Kept, journal: &mut Journal) {
        self.kept_bytes -= kept.len;
        if let Some(bytes) = kept.bytes {
            journal.recycle(bytes);
        }
    }

    /// Something has failed: rests, and gives the segment up.
    fn fail(&mut self, error: io::Error, now_us: i64) {
        self.closing.extend(self.segment.take().map(|segment| segment.number));
        self.failure = Some(Failure { error, retry_us: now_us + RETRY_US, is_of_data: true });
    }

    /// After the rest: all that is not durable is to be written again, into a new segment. The
    /// failure is over when that has been made.
    fn try_again(&mut self, disk: &mut impl LogDisk, now_us: i64) {
        if self.failure.as_ref().is_some_and(|it| it.is_of_data) {
            for kept in &mut self.kept {
                kept.state = State::Waiting;
            }
        }
        match self.next {
            Next::Ready { .. } => self.failure = None,
            Next::None => {
                self.ask_segment(SEGMENT_BYTES_MIN, disk);
                if let Some(failure) = &mut self.failure {
                    failure.retry_us = now_us + RETRY_US;
                }
            }
            Next::Asked { .. } => {
                if let Some(failure) = &mut self.failure {
                    failure.retry_us = now_us + RETRY_US;
                }
            }
        }
    }

    fn close_quiet(&mut self, disk: &mut impl LogDisk) {
        let Self { closing, kept, syncing, .. } = self;
        closing.retain(|&segment| {
            let is_used =
                kept.iter().any(|kept| kept.segment == segment && kept.state != State::Waiting)
                    || syncing.is_some_and(|(syncing, _)| syncing == segment);
            if !is_used {
                disk.close(segment);
            }
            is_used
        });
    }

    fn check(&self) {
        debug_assert_eq!(self.kept_bytes, self.kept.iter().map(|kept| kept.len).sum::<usize>());
        debug_assert!(self.kept.iter().is_sorted_by_key(|kept| kept.epoch));
        debug_assert!(self.kept.iter().all(|kept| kept.first_sequence > self.durable));
        debug_assert!(self.written >= self.durable || self.failure.is_some());
    }
}
