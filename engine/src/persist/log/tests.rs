//! The log writer over a simulated disk: when which segment is synced, and what counts as durable then.

use super::*;
use crate::{
    persist::manifest::segment_name,
    sys::disk::simulated::{Faults, SimDisk, SimLog},
};

const RUN: u64 = 7;

/// One log whose epochs end when the test says so.
struct Bench {
    disk: SimDisk,
    log: SimLog,
    journal: Journal,
    epochs: Epochs,
    writer: LogWriter,
    now_us: i64,
}

impl Bench {
    fn new(policy: SyncPolicy) -> Self {
        let disk = SimDisk::new(3);
        let mut log = SimLog::new(disk.clone(), |segment| segment_name(RUN, 0, segment));
        let identity = LogIdentity { run: RUN, shard: 0, shards: 1 };
        let writer = LogWriter::new(identity, policy, 0, &mut log);
        let mut journal = Journal::default();
        journal.start(0, 1, writer.room());
        let (epochs, now_us) = (Epochs::new(1, &[0]), 10_000_000);
        Self { disk, log, journal, epochs, writer, now_us }
    }

    /// A record of so many bytes, alone in its epoch.
    fn record(&mut self, bytes: usize) {
        self.journal.record(0, &[b"SET", b"k", &vec![b'x'; bytes]]);
        let epoch = self.epochs.advance().expect("the one before is closed");
        self.epochs.ran(0, self.journal.sequence());
        self.journal.set_stamp(epoch);
    }

    fn pump(&mut self) {
        let Self { journal, epochs, log, now_us, .. } = self;
        if self.writer.wants_pump(journal, *now_us) {
            self.writer.pump(journal, epochs, log, *now_us);
        }
    }

    /// Lets the disk do one thing, if it has something to do.
    fn complete(&mut self) -> bool {
        let Some(event) = self.log.step() else { return false };
        let Self { journal, log, now_us, .. } = self;
        self.writer.complete(event, journal, log, *now_us);
        let never = self.writer.policy() == SyncPolicy::Never;
        self.epochs.written(0, self.writer.written(), never);
        self.epochs.synced(0, self.writer.durable());
        true
    }

    /// Lets the disk do what it is asked for, and the writer ask for what is due now.
    fn settle(&mut self) {
        for _ in 0..8 {
            self.pump();
            while self.complete() {
                self.pump();
            }
        }
    }

    /// Writes records of so many bytes, one after the other.
    fn write(&mut self, records: usize, bytes: usize) {
        for _ in 0..records {
            self.record(bytes);
            self.settle();
        }
    }

    fn is_synced(&self, segment: u32) -> bool {
        self.disk.unsynced_writes(&segment_name(RUN, 0, segment)) == 0
    }
}

/// Fills the first segment, and begins the second.
const LARGE: usize = 900 << 10;

#[test]
fn nothing_is_durable_before_the_segments_that_no_has_left_unsynced() {
    for policy in [SyncPolicy::EverySecond, SyncPolicy::Always] {
        let mut bench = Bench::new(SyncPolicy::Never);
        bench.write(2, LARGE);
        assert_eq!((bench.writer.durable(), bench.writer.written()), (0, 2));
        assert!(!bench.is_synced(0) && !bench.is_synced(1));
        bench.writer.set_policy(policy);
        bench.record(10);
        for _ in 0..20 {
            bench.pump();
            bench.complete();
            assert!(bench.writer.durable() == 0 || bench.is_synced(0), "{policy:?}");
            assert!(bench.writer.durable() < 3 || bench.is_synced(1), "{policy:?}");
        }
        bench.now_us += 2_000_000;
        bench.settle();
        assert_eq!((bench.writer.durable(), bench.epochs.durable()), (3, 3), "{policy:?}");
        assert!(bench.writer.is_settled() && bench.writer.is_at_rest());
    }
}

#[test]
fn a_change_to_always_makes_durable_what_was_written_before() {
    for before in [SyncPolicy::EverySecond, SyncPolicy::Never] {
        let mut bench = Bench::new(before);
        bench.writer.set_policy(before);
        // The first sync of `everysec` comes at once, so the second record is the one that waits.
        bench.write(2, 10);
        assert!(bench.writer.durable() < 2, "{before:?}");
        bench.writer.set_policy(SyncPolicy::Always);
        let due_us = bench.writer.due_us(&bench.journal);
        assert!(due_us.is_some_and(|due_us| due_us <= bench.now_us), "{before:?}: {due_us:?}");
        bench.settle();
        assert_eq!((bench.writer.durable(), bench.epochs.durable()), (2, 2), "{before:?}");
    }
}

#[test]
fn groups_that_are_let_go_of_during_a_sync_are_not_made_durable_by_it() {
    let mut bench = Bench::new(SyncPolicy::EverySecond);
    bench.record(10);
    bench.pump();
    while bench.writer.syncing.is_none() {
        assert!(bench.complete(), "nothing is under way");
        bench.pump();
    }
    bench.writer.set_policy(SyncPolicy::Never);
    bench.record(10);
    bench.settle();
    assert_eq!(bench.writer.durable(), 1);
    assert!(!bench.is_synced(0));
    bench.writer.hurry(true);
    bench.settle();
    assert_eq!(bench.writer.durable(), 2);
    assert!(bench.is_synced(0));
}

#[test]
fn whoever_hurries_waits_for_no_time_to_pass() {
    for policy in [SyncPolicy::Never, SyncPolicy::EverySecond, SyncPolicy::Always] {
        let mut bench = Bench::new(policy);
        bench.write(2, 10);
        bench.writer.hurry(true);
        bench.write(1, 10);
        assert_eq!(bench.writer.durable(), 3, "{policy:?}");
    }
}

#[test]
fn under_no_only_a_few_segments_stay_unsynced() {
    let mut bench = Bench::new(SyncPolicy::Never);
    bench.write(40, LARGE);
    let last = bench.writer.segment_number().expect("it is written to");
    assert!(last >= 5, "{last} segments");
    assert!(bench.writer.durable() > 0);
    assert_eq!((0..=last).filter(|&segment| !bench.is_synced(segment)).count(), 4);
}

#[test]
fn what_a_base_has_replaced_needs_no_sync() {
    let mut bench = Bench::new(SyncPolicy::Never);
    bench.write(2, LARGE);
    bench.writer.forget_before(1, &mut bench.log);
    assert_eq!(bench.writer.durable(), 1);
    bench.writer.set_policy(SyncPolicy::EverySecond);
    bench.settle();
    assert_eq!(bench.writer.durable(), 2);
    assert!(!bench.is_synced(0) && bench.is_synced(1));
}

#[test]
fn a_segment_that_cannot_be_synced_holds_up_what_is_behind_it() {
    let mut bench = Bench::new(SyncPolicy::Never);
    bench.write(2, LARGE);
    bench.disk.set_faults(Faults { error_in: 1, ..Faults::default() });
    bench.writer.set_policy(SyncPolicy::EverySecond);
    bench.settle();
    assert!(bench.writer.failure().is_some() && bench.writer.durable() == 0);
    bench.disk.set_faults(Faults::default());
    for _ in 0..5 {
        bench.now_us += 2_000_000;
        bench.settle();
    }
    assert!(bench.writer.failure().is_none());
    assert_eq!(bench.writer.durable(), 2);
}
