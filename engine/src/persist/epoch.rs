//! Epochs: one order over the logs of all shards, and what of it is durable.
//!
//! After the group commit of Silo (Tu, Zheng, Kohler, Liskov and Madden, "Speedy transactions in
//! multicore in-memory databases", SOSP 2013), with message passing in place of locks.
//!
//! Every worker takes places in mailboxes, and executes commands of its own shard, within *rounds*,
//! and every round belongs to an *epoch*. No round of an epoch begins before the last round of the
//! epoch before has ended. So every place and every own command of epoch e comes before every one of
//! e + 1, on all shards: whatever a command has seen is of its own epoch or an earlier one. A record
//! is stamped with the epoch in which its command took its place.
//!
//! ```text
//!  begins       no round of it      every shard has run      every shard's log     
//!  (advance)    is left; e+1 runs   what is stamped ≤ e      holds it durably
//!     │ open e       │                   │ closed: the vector     │
//!     ├──────────────┼───────────────────┼────────────────────────┼────────▶
//!                  advance             `ran` of all          `synced` of all: durable
//! ```
//!
//! When every worker has served what stood in its mailbox when the last round of e was over, e is
//! *closed*: no record of e will follow, and its *vector* is known, for every log the number of the
//! last record of e or an earlier epoch. Logs write the records of an epoch as one group, with the
//! vector in front. Recovery takes the greatest epoch whose vector all logs satisfy; see `recovery`.
//!
//! # Invariants
//!
//! - epochs are closed in order, and one at a time: the next begins only when the one before the
//!   present one is closed;
//! - vectors never fall, in any of their numbers;
//! - an epoch is durable when every log has durably written up to its number in the vector, and then
//!   all earlier ones are;
//! - the vector of an epoch is kept until no log needs it any more for a header.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, sync::Arc};

/// An epoch to which nothing can be added.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Its number.
    pub epoch: u64,
    /// For every log the number of its last record of this epoch or an earlier one.
    pub vector: Arc<[u64]>,
}

/// The epochs of all workers together. Plain data: workers share it behind a lock that they take a
/// few times an epoch, the simulation holds it in one thread.
#[derive(Debug)]
pub struct Epochs {
    /// The epoch in which rounds begin.
    current: u64,
    closed: u64,
    /// The last closed epoch's vector.
    vector: Arc<[u64]>,
    /// For every worker that has run what is before the present epoch, the number of its log's last
    /// record of that.
    ran: Vec<Option<u64>>,
    /// Closed epochs that some log has not written yet or that are not durable yet.
    pending: VecDeque<Closed>,
    logs: Vec<Log>,
    durable: u64,
}

/// How far one log is.
#[derive(Clone, Copy, Debug)]
struct Log {
    written: u64,
    synced: u64,
}

impl Epochs {
    /// Epochs from `first` on, for logs whose last records have the numbers `starts`. What is before
    /// is durable.
    pub fn new(first: u64, starts: &[u64]) -> Self {
        let log = |&start: &u64| Log { written: start, synced: start };
        Self {
            current: first,
            closed: first - 1,
            vector: starts.into(),
            ran: vec![None; starts.len()],
            pending: VecDeque::new(),
            logs: starts.iter().map(log).collect(),
            durable: first - 1,
        }
    }

    /// The epoch in which rounds begin.
    pub fn current(&self) -> u64 {
        self.current
    }

    /// The last epoch that is closed.
    pub fn closed(&self) -> u64 {
        self.closed
    }

    /// The last epoch that is durable.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// Begins the next epoch, unless the one before the present one is still open; answers its
    /// number. Rounds of the new epoch begin when the last one of the present epoch has ended, which
    /// is the caller's to see to.
    pub fn advance(&mut self) -> Option<u64> {
        if self.closed + 1 < self.current {
            return None;
        }
        self.current += 1;
        self.ran.fill(None);
        Some(self.current)
    }

    /// Notes that `worker` has run everything that belongs to epochs before the present one, and
    /// that `sequence` is the number of its log's last record of that. Answers whether the epoch
    /// before the present one is closed now.
    pub fn ran(&mut self, worker: usize, sequence: u64) -> bool {
        if self.closed + 1 == self.current {
            return false;
        }
        debug_assert!(sequence >= self.vector[worker], "a log does not become shorter");
        self.ran[worker] = Some(sequence);
        let Some(vector) = self.ran.iter().copied().collect::<Option<Arc<[u64]>>>() else {
            return false;
        };
        self.closed = self.current - 1;
        self.vector = Arc::clone(&vector);
        self.pending.push_back(Closed { epoch: self.closed, vector });
        self.settle();
        true
    }

    /// Whether `worker` has still to say that it has run what is before the present epoch.
    pub fn awaits(&self, worker: usize) -> bool {
        self.closed + 1 < self.current && self.ran[worker].is_none()
    }

    /// The vector of a closed epoch that some log has still to write.
    pub fn vector(&self, epoch: u64) -> Option<&Closed> {
        self.pending.iter().find(|closed| closed.epoch == epoch)
    }

    /// Notes that `worker`'s log has written its records up to `sequence`, without knowing whether
    /// they are durable; `lasting` says that nobody will ever know (`appendfsync no`).
    pub fn written(&mut self, worker: usize, sequence: u64, lasting: bool) {
        let log = &mut self.logs[worker];
        log.written = log.written.max(sequence);
        while lasting
            && let Some(first) = self.pending.front()
            && first.vector.iter().zip(&self.logs).all(|(&end, log)| log.written >= end)
        {
            self.pending.pop_front();
        }
    }

    /// Notes that `worker`'s log is durable up to `sequence`. Answers whether more is durable now.
    pub fn synced(&mut self, worker: usize, sequence: u64) -> bool {
        let log = &mut self.logs[worker];
        log.synced = log.synced.max(sequence);
        log.written = log.written.max(sequence);
        let before = self.durable;
        self.settle();
        self.durable > before
    }

    /// Moves on over closed epochs that every log holds durably.
    fn settle(&mut self) {
        while let Some(first) = self.pending.front()
            && first.vector.iter().zip(&self.logs).all(|(&end, log)| log.synced >= end)
        {
            self.durable = first.epoch;
            self.pending.pop_front();
        }
        // Under `no` epochs are dropped that nobody knew to be durable. They are when all logs are.
        let is_synced = || self.vector.iter().zip(&self.logs).all(|(&end, log)| log.synced >= end);
        if self.durable < self.closed && self.pending.is_empty() && is_synced() {
            self.durable = self.closed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_closed_when_all_have_run_it_and_durable_when_all_have_synced_it() {
        let mut epochs = Epochs::new(5, &[10, 20]);
        assert_eq!((epochs.current(), epochs.closed(), epochs.durable()), (5, 4, 4));
        assert_eq!(epochs.advance(), Some(6));
        assert_eq!(epochs.advance(), None, "5 is not closed");
        assert!(epochs.awaits(0) && epochs.awaits(1));
        assert!(!epochs.ran(1, 22));
        assert!(epochs.awaits(0) && !epochs.awaits(1));
        assert!(epochs.ran(0, 10));
        assert_eq!((epochs.closed(), epochs.durable()), (5, 4));
        assert_eq!(epochs.vector(5).map(|closed| closed.vector.to_vec()), Some(vec![10, 22]));
        assert!(!epochs.synced(1, 21));
        assert!(epochs.synced(1, 22));
        assert_eq!(epochs.durable(), 5);
        assert!(epochs.vector(5).is_none());
    }

    #[test]
    fn an_epoch_without_records_is_durable_with_the_one_before() {
        let mut epochs = Epochs::new(1, &[0]);
        epochs.advance();
        assert!(epochs.ran(0, 3));
        epochs.advance();
        assert!(epochs.ran(0, 3));
        assert_eq!(epochs.durable(), 0);
        assert!(epochs.synced(0, 3));
        assert_eq!(epochs.durable(), 2);
        epochs.advance();
        assert!(epochs.ran(0, 3));
        assert_eq!(epochs.durable(), 3, "nothing was to be written");
    }

    #[test]
    fn a_log_that_is_ahead_makes_nothing_durable_alone() {
        let mut epochs = Epochs::new(1, &[0, 0]);
        epochs.advance();
        epochs.ran(0, 5);
        epochs.ran(1, 5);
        assert!(!epochs.synced(0, 5));
        epochs.advance();
        epochs.ran(0, 9);
        epochs.ran(1, 5);
        assert!(!epochs.synced(0, 9));
        assert!(epochs.synced(1, 5));
        assert_eq!(epochs.durable(), 2);
    }

    #[test]
    fn vectors_of_logs_that_never_sync_are_dropped_when_all_have_written_them() {
        let mut epochs = Epochs::new(1, &[0, 0]);
        epochs.advance();
        epochs.ran(0, 5);
        epochs.ran(1, 7);
        epochs.written(0, 5, true);
        assert!(epochs.vector(1).is_some());
        epochs.written(1, 7, true);
        assert!(epochs.vector(1).is_none());
        assert_eq!(epochs.durable(), 0);
    }

    #[test]
    fn what_was_dropped_unsynced_is_durable_when_all_logs_are() {
        let mut epochs = Epochs::new(1, &[0, 0]);
        epochs.advance();
        epochs.ran(0, 5);
        epochs.ran(1, 7);
        epochs.written(0, 5, true);
        epochs.written(1, 7, true);
        assert!(!epochs.synced(0, 5));
        assert_eq!(epochs.durable(), 0);
        assert!(epochs.synced(1, 7));
        assert_eq!(epochs.durable(), 1);
    }

    #[test]
    fn what_is_said_twice_or_late_changes_nothing() {
        let mut epochs = Epochs::new(1, &[0, 0]);
        assert!(!epochs.ran(0, 0), "no epoch waits to be closed");
        epochs.advance();
        assert!(!epochs.ran(0, 4));
        assert!(!epochs.ran(0, 4));
        assert!(epochs.ran(1, 4));
        assert!(!epochs.ran(1, 6));
        assert_eq!(epochs.vector(1).map(|closed| closed.vector.to_vec()), Some(vec![4, 4]));
        assert!(!epochs.synced(0, 3));
        assert!(!epochs.synced(0, 1));
    }
}
