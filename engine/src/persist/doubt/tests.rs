use super::*;
use crate::{
    command::{table, testing::lay_out},
    persist::{
        epoch::Epochs,
        log::{LogIdentity, SyncPolicy},
        manifest::segment_name,
    },
    sys::disk::simulated::{Faults, SimDisk, SimLog},
};

/// A log whose disk is full from the second record on.
struct Bench {
    disk: SimDisk,
    log: SimLog,
    journal: Journal,
    epochs: Epochs,
    writer: LogWriter,
    now_us: i64,
}

impl Bench {
    fn new() -> Self {
        let disk = SimDisk::new(3);
        let mut log = SimLog::new(disk.clone(), |segment| segment_name(7, 0, segment));
        let identity = LogIdentity { run: 7, shard: 0, shards: 1 };
        let writer = LogWriter::new(identity, SyncPolicy::Always, 0, &mut log);
        let mut journal = Journal::default();
        journal.start(0, 1, writer.room());
        let (epochs, now_us) = (Epochs::new(1, &[0]), 10_000_000);
        let mut bench = Self { disk, log, journal, epochs, writer, now_us };
        bench.record(&["SET", "old", "1"]);
        bench.end_epoch();
        bench.disk.set_faults(Faults { full: true, ..Faults::default() });
        bench
    }

    fn record(&mut self, words: &[&str]) {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.journal.record(0, &words);
    }

    /// Lets the present epoch end, and the disk do what is asked of it.
    fn end_epoch(&mut self) {
        let epoch = self.epochs.advance().expect("the one before is closed");
        self.epochs.ran(0, self.journal.sequence());
        self.journal.set_stamp(epoch);
        self.settle();
    }

    fn settle(&mut self) {
        let Self { journal, epochs, log, writer, now_us, .. } = self;
        for _ in 0..8 {
            writer.pump(journal, epochs, log, *now_us);
            while let Some(event) = log.step() {
                writer.complete(event, journal, log, *now_us);
                epochs.synced(0, writer.durable());
            }
        }
    }

    fn look(&self, before: Option<Doubt>) -> Doubt {
        Doubt::look(before, &self.journal, &self.writer, self.epochs.durable())
    }

    /// Whether the reply of a command may be told.
    fn spares(&self, doubt: &Doubt, words: &[&str]) -> bool {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        let (bytes, spans) = lay_out(&words);
        let args = Args::new(&bytes, &spans);
        doubt.spares(table().resolve(&args).expect("a command"), &args, &self.journal)
    }
}

#[test]
fn keys_of_groups_that_failed_are_in_doubt_and_no_others() {
    let mut bench = Bench::new();
    bench.record(&["MSET", "a", "1", "b", "2"]);
    bench.end_epoch();
    assert!(bench.writer.failure().is_some(), "the disk is full");
    let doubt = bench.look(None);
    for words in [&["GET", "a"][..], &["MGET", "old", "b"], &["EXISTS", "b"], &["STRLEN", "b"]] {
        assert!(!bench.spares(&doubt, words), "{words:?}");
    }
    for words in [&["GET", "old"][..], &["MGET", "old", "other"], &["TTL", "c"]] {
        assert!(bench.spares(&doubt, words), "{words:?}");
    }
    assert!(!doubt.is_outdated(&bench.journal, &bench.writer));
}

#[test]
fn what_names_no_keys_waits_while_any_key_is_in_doubt() {
    let mut bench = Bench::new();
    let nameless = [&["DBSIZE"][..], &["RANDOMKEY"], &["SCAN", "0"], &["KEYS", "*"]];
    let clean = bench.look(None);
    assert!(nameless.iter().all(|words| bench.spares(&clean, words)));
    assert!(!bench.spares(&clean, &["SET", "a", "1"]), "a write is no read");
    bench.record(&["SET", "a", "1"]);
    bench.end_epoch();
    let doubt = bench.look(None);
    assert!(!nameless.iter().any(|words| bench.spares(&doubt, words)));
    assert!(!bench.spares(&doubt, &["SORT_RO", "old", "BY", "a*"]), "BY reads other keys");
}

#[test]
fn what_is_recorded_after_the_look_is_in_doubt_before_the_next() {
    let mut bench = Bench::new();
    bench.record(&["SET", "a", "1"]);
    bench.end_epoch();
    let doubt = bench.look(None);
    bench.record(&["SET", "late", "1"]);
    assert!(!bench.spares(&doubt, &["GET", "late"]) && !bench.spares(&doubt, &["GET", "old"]));
    assert!(doubt.is_outdated(&bench.journal, &bench.writer));
    let doubt = bench.look(Some(doubt));
    assert!(bench.spares(&doubt, &["GET", "old"]));
    assert!(!bench.spares(&doubt, &["GET", "late"]) && !bench.spares(&doubt, &["GET", "a"]));
}

#[test]
fn a_deadline_that_has_passed_puts_nothing_in_doubt() {
    let mut bench = Bench::new();
    bench.record(&["SET", "a", "1"]);
    bench.end_epoch();
    let doubt = bench.look(None);
    bench.journal.record_expired(0, &[b"DEL", b"gone"]);
    assert!(bench.spares(&doubt, &["GET", "gone"]) && bench.spares(&doubt, &["GET", "old"]));
}

#[test]
fn a_record_that_names_no_key_puts_everything_in_doubt() {
    let mut bench = Bench::new();
    bench.record(&["FLUSHALL"]);
    bench.end_epoch();
    let doubt = bench.look(None);
    assert!(!bench.spares(&doubt, &["GET", "old"]));
}

#[test]
fn too_many_records_put_everything_in_doubt() {
    let mut bench = Bench::new();
    bench.record(&["SET", "a", &"x".repeat(BYTES_MAX)]);
    bench.end_epoch();
    let doubt = bench.look(None);
    assert!(!bench.spares(&doubt, &["GET", "old"]));
    for (count, is_too_many) in [(RECORDS_MAX, false), (RECORDS_MAX + 1, true)] {
        let mut bench = Bench::new();
        (0..count).for_each(|_| bench.record(&["SET", "a", "1"]));
        bench.end_epoch();
        let doubt = bench.look(None);
        assert_eq!(bench.spares(&doubt, &["GET", "old"]), !is_too_many, "{count} records");
    }
}

#[test]
fn when_there_is_room_again_nothing_is_in_doubt() {
    let mut bench = Bench::new();
    bench.record(&["SET", "a", "1"]);
    bench.end_epoch();
    let doubt = bench.look(None);
    bench.disk.set_faults(Faults::default());
    bench.now_us += 2_000_000;
    bench.settle();
    assert!(bench.writer.failure().is_none() && bench.epochs.durable() == 2);
    assert!(doubt.is_outdated(&bench.journal, &bench.writer));
    let doubt = bench.look(Some(doubt));
    assert!(bench.spares(&doubt, &["GET", "a"]) && bench.spares(&doubt, &["DBSIZE"]));
}

#[test]
fn what_is_durable_here_alone_is_in_doubt() {
    let mut bench = Bench::new();
    bench.disk.set_faults(Faults::default());
    bench.record(&["SET", "a", "1"]);
    bench.end_epoch();
    // Another log has not written the epoch of that record.
    let doubt = Doubt::look(None, &bench.journal, &bench.writer, bench.epochs.durable() - 1);
    assert!(!bench.spares(&doubt, &["GET", "old"]) && !bench.spares(&doubt, &["GET", "a"]));
}
