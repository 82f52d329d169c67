//! Making a log durable: what is synced when, and what counts as durable then.
//!
//! Under `no` a group is let go of when it is written, and nobody has synced its segment. The segments
//! that hold such groups are remembered and stay open, so that a later policy, WAITAOF or the end of
//! the server can still sync them: what is behind them counts as durable only when they are. As each
//! of them costs a descriptor, only a few are kept so; the oldest beyond those is synced under `no`
//! too, when the operating system has long written most of it back by itself.
//!
//! Invariants:
//! - segments are synced one at a time, the oldest first;
//! - `durable` passes no record that stands in a segment which was left unsynced.
#![forbid(unsafe_code)]

use std::io;

use super::{Kept, LogWriter, State, SyncPolicy};
use crate::{journal::Journal, sys::disk::LogDisk};

/// `everysec`: how often the log is made durable, in microseconds.
const SYNC_US: i64 = 1_000_000;
/// And after how many bytes at the latest, since what is not durable is kept in memory.
const UNSYNCED_BYTES_MAX: usize = 8 << 20;
/// Under `no`: segments that nobody has synced and that stay open, the present one included.
const UNSYNCED_SEGMENTS_MAX: usize = 4;

/// A segment with groups that were let go of before they were durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unsynced {
    pub(super) segment: u32,
    /// The last record of these groups.
    last_sequence: u64,
}

/// What the next sync makes durable.
struct Due {
    segment: u32,
    last_sequence: u64,
    /// Bytes of groups that are kept in memory until then.
    kept_bytes: usize,
}

impl LogWriter {
    /// Makes durable what was written, whatever the policy: for the end of the log.
    pub fn sync_now(&mut self, disk: &mut impl LogDisk, now_us: i64) {
        if self.may_sync()
            && let Some(due) = self.oldest_unsynced()
        {
            self.sync(&due, disk, now_us);
        }
    }

    /// Syncs, if that is due.
    pub(super) fn sync_if_due(&mut self, disk: &mut impl LogDisk, now_us: i64) {
        if self.may_sync()
            && let Some(due) = self.oldest_unsynced()
            && self.sync_due_us(&due).is_some_and(|due_us| due_us <= now_us)
        {
            self.sync(&due, disk, now_us);
        }
    }

    /// When the next sync is due, if one is and none is under way, in microseconds since the Unix
    /// epoch.
    pub(super) fn next_sync_us(&self) -> Option<i64> {
        if self.syncing.is_some() {
            return None;
        }
        self.sync_due_us(&self.oldest_unsynced()?)
    }

    fn may_sync(&self) -> bool {
        self.syncing.is_none() && self.failure.as_ref().is_none_or(|it| !it.is_of_data)
    }

    fn sync(&mut self, due: &Due, disk: &mut impl LogDisk, now_us: i64) {
        self.synced_us = now_us;
        self.syncing = Some((due.segment, due.last_sequence));
        disk.sync(due.segment);
    }

    /// The oldest segment with something written that is not durable, and what a sync would do.
    fn oldest_unsynced(&self) -> Option<Due> {
        let first = self.kept.front().filter(|kept| kept.state == State::Written);
        let (segment, mut last_sequence) = match (self.unsynced.front(), first) {
            (Some(left), _) => (left.segment, left.last_sequence),
            (None, Some(kept)) => (kept.segment, kept.last_sequence),
            (None, None) => return None,
        };
        let mut kept_bytes = 0;
        let is_covered = |kept: &&Kept| kept.segment == segment && kept.state == State::Written;
        for kept in self.kept.iter().take_while(is_covered) {
            last_sequence = kept.last_sequence;
            kept_bytes += kept.len;
        }
        Some(Due { segment, last_sequence, kept_bytes })
    }

    /// When a sync of `due` is due: at once if that is a time long past.
    fn sync_due_us(&self, due: &Due) -> Option<i64> {
        const AT_ONCE: i64 = 0;
        if self.hurries {
            return Some(AT_ONCE);
        }
        let is_left = self.segment.is_none_or(|current| current.number != due.segment);
        match self.policy {
            SyncPolicy::Always => Some(AT_ONCE),
            SyncPolicy::Never if self.unsynced.len() <= UNSYNCED_SEGMENTS_MAX => None,
            SyncPolicy::Never => Some(AT_ONCE),
            SyncPolicy::EverySecond
                if is_left || !self.unsynced.is_empty() || due.kept_bytes >= UNSYNCED_BYTES_MAX =>
            {
                Some(AT_ONCE)
            }
            SyncPolicy::EverySecond => Some(self.synced_us + SYNC_US),
        }
    }

    /// Takes in what became of a sync.
    pub(super) fn synced(
        &mut self,
        segment: u32,
        result: io::Result<()>,
        journal: &mut Journal,
        now_us: i64,
    ) {
        let Some((_, last)) = self.syncing.take_if(|(syncing, _)| *syncing == segment) else {
            return;
        };
        self.delayed_syncs += u64::from(now_us > self.synced_us + SYNC_US);
        if let Err(error) = result {
            return self.fail(error, now_us);
        }
        let is_covered = |kept: &&mut Kept| {
            let is_there = kept.segment == segment && kept.last_sequence <= last;
            is_there && kept.state == State::Written
        };
        self.kept.iter_mut().filter(is_covered).for_each(|kept| kept.state = State::Durable);
        if let Some(left) = self.unsynced.front().filter(|left| left.segment == segment) {
            self.durable = self.durable.max(last.min(left.last_sequence));
            // Under `no` more may have been let go of meanwhile.
            if left.last_sequence <= last {
                self.unsynced.pop_front();
            }
        }
        self.forget_durable(journal);
    }

    /// Lets go of the first groups as long as they are durable.
    pub(super) fn forget_durable(&mut self, journal: &mut Journal) {
        while self.unsynced.is_empty()
            && self.kept.front().is_some_and(|kept| kept.state == State::Durable)
            && let Some(kept) = self.kept.pop_front()
        {
            self.durable = kept.last_sequence;
            self.let_go(kept, journal);
        }
    }

    /// `appendfsync no`: what is written is the operating system's business.
    pub(super) fn forget_written(&mut self, journal: &mut Journal) {
        let is_written = |kept: &Kept| matches!(kept.state, State::Written | State::Durable);
        while self.kept.front().is_some_and(is_written)
            && let Some(kept) = self.kept.pop_front()
        {
            match self.unsynced.back_mut() {
                None if kept.state == State::Durable => self.durable = kept.last_sequence,
                Some(left) if left.segment == kept.segment => {
                    left.last_sequence = kept.last_sequence;
                }
                _ => {
                    let Kept { segment, last_sequence, .. } = kept;
                    self.unsynced.push_back(Unsynced { segment, last_sequence });
                }
            }
            self.let_go(kept, journal);
        }
    }

    /// The segments before `first` are not needed any more: a base has taken their place, and what
    /// was in them is as durable as that.
    pub fn forget_before(&mut self, first: u32, disk: &mut impl LogDisk) {
        let syncing = self.syncing.map(|(segment, _)| segment);
        while let Some(left) = self.unsynced.front().filter(|left| left.segment < first)
            && syncing != Some(left.segment)
        {
            self.durable = self.durable.max(left.last_sequence);
            self.unsynced.pop_front();
        }
        self.close_quiet(disk);
    }

    fn let_go(&mut self, kept: Kept, journal: &mut Journal) {
        self.kept_bytes -= kept.len;
        self.let_go_epoch = self.let_go_epoch.max(kept.epoch);
        if let Some(bytes) = kept.bytes {
            journal.recycle(bytes);
        }
    }
}
