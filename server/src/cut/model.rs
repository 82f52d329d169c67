//! Model checks of the cut, and of the epochs of the log, which begin in one. Run them with
//! `cargo test -p tessera-server --features loom --lib -- cut::model`.
//!
//! What is checked is that rounds and cuts exclude each other. Waiting is left out of that: in these
//! models a worker *tries* to enter, and one that makes a cut looks at each flag once; who finds the
//! way barred withdraws. Nothing is lost by it. A look that finds the way barred changes nothing, so
//! a run in which somebody waits is one in which the look that ended the wait came first; what an
//! attempt to enter does change, a worker that tries twice does too. So no thread of a model waits,
//! and loom goes through all of their interleavings, not only those of a few preemptions.
//!
//! That a wait has an end is a model of its own, which runs the loops.

use loom::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use super::Cut;
use crate::{
    aof::EpochWord,
    mesh::{
        checker::{SOUND, check, check_all, planted},
        sync::{Fault, Planted},
    },
};

/// Does something as the round of a worker, if no cut bars the way.
fn try_round<T>(cut: &Cut, worker: usize, take_places: impl FnOnce() -> T) -> Option<T> {
    cut.try_enter(worker as u32).then(|| {
        let taken = take_places();
        cut.leave(worker as u32);
        taken
    })
}

/// Does something as a cut, if neither another cut nor a round bars the way; answers whether it has.
fn try_cut(cut: &Cut, take_places: impl FnOnce()) -> bool {
    if !cut.try_close() {
        return false;
    }
    let is_quiet = (0..cut.taking.len()).all(|worker| !cut.is_taking(worker));
    if is_quiet {
        take_places();
    }
    cut.open();
    is_quiet
}

/// Where places are taken, as loom sees it: a cell for each worker, which its rounds touch and all
/// cuts. Loom objects to a cut that is not ordered with every round, and with every other cut: to
/// one that could see a part of a round, or of whose places a part could be seen.
struct Places(Vec<UnsafeCell<()>>);

impl Places {
    fn of(workers: usize) -> Self {
        Self((0..workers).map(|_| UnsafeCell::new(())).collect())
    }

    fn take_for(&self, worker: usize) {
        self.0[worker].with_mut(|_| ());
    }

    fn take_all(&self) {
        (0..self.0.len()).for_each(|worker| self.take_for(worker));
    }
}

/// Workers that try so many rounds each, beside threads that try so many cuts each.
#[derive(Clone, Copy)]
struct Scene {
    workers: usize,
    rounds: usize,
    cutters: usize,
    cuts: usize,
}

impl Scene {
    /// Checks it over all interleavings.
    fn check(self, planted: Planted) {
        check_all(move || self.play(planted));
    }

    fn play(self, planted: Planted) {
        let cut = Arc::new(Cut::with(self.workers, planted));
        let places = Arc::new(Places::of(self.workers));
        let mut others = Vec::new();
        for worker in 0..self.workers {
            let (cut, places) = (Arc::clone(&cut), Arc::clone(&places));
            others.push(thread::spawn(move || {
                for _ in 0..self.rounds {
                    try_round(&cut, worker, || places.take_for(worker));
                }
            }));
        }
        for _ in 1..self.cutters {
            let (cut, places) = (Arc::clone(&cut), Arc::clone(&places));
            others.push(thread::spawn(move || self.make_cuts(&cut, &places)));
        }
        self.make_cuts(&cut, &places);
        others.into_iter().for_each(|other| other.join().unwrap());
    }

    fn make_cuts(self, cut: &Cut, places: &Places) {
        for _ in 0..self.cuts {
            try_cut(cut, || places.take_all());
        }
    }
}

const TWO_WORKERS: Scene = Scene { workers: 2, rounds: 1, cutters: 1, cuts: 1 };
const TWO_CUTTERS: Scene = Scene { workers: 1, rounds: 1, cutters: 2, cuts: 1 };
const AGAIN: Scene = Scene { workers: 1, rounds: 2, cutters: 1, cuts: 2 };
const ONE_OF_EACH: Scene = Scene { workers: 1, rounds: 1, cutters: 1, cuts: 1 };

#[test]
fn a_cut_is_ordered_with_the_rounds_of_all_workers() {
    TWO_WORKERS.check(SOUND);
}

#[test]
fn two_cuts_exclude_each_other_and_a_round() {
    TWO_CUTTERS.check(SOUND);
}

#[test]
fn whoever_was_barred_is_ordered_when_it_comes_again() {
    AGAIN.check(SOUND);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn looking_before_the_flag_is_raised_is_found() {
    ONE_OF_EACH.check(planted(Fault::LookThenRaise));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_flag_that_may_be_missed_is_found() {
    ONE_OF_EACH.check(planted(Fault::UnorderedEnter));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_closing_that_may_be_missed_is_found() {
    ONE_OF_EACH.check(planted(Fault::UnorderedClose));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_cut_that_waits_for_nobody_is_found() {
    ONE_OF_EACH.check(planted(Fault::CutAtOnce));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn places_that_are_not_seen_when_the_flag_is_lowered_are_found() {
    ONE_OF_EACH.check(planted(Fault::RelaxedLeave));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn places_that_are_not_seen_when_the_way_is_opened_are_found() {
    ONE_OF_EACH.check(planted(Fault::RelaxedOpen));
}

/// The same in numbers: a round takes a place in each of two mailboxes, and so does a cut, beside as
/// many cutters as `cutters`. A cut finds both equally long, and nobody else takes a place in it.
fn places_in_two_mailboxes(cutters: usize) {
    check_all(move || {
        let cut = Arc::new(Cut::with(1, SOUND));
        let mailboxes = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let take = |mailboxes: &[AtomicUsize; 2]| {
            mailboxes.iter().for_each(|mailbox| _ = mailbox.fetch_add(1, Relaxed));
        };
        let make_cut = move |cut: &Cut, mailboxes: &[AtomicUsize; 2]| {
            try_cut(cut, || {
                let [one, other] = [&mailboxes[0], &mailboxes[1]].map(|it| it.load(Relaxed));
                assert_eq!(one, other, "a round is half done");
                take(mailboxes);
                let after = mailboxes[0].load(Relaxed);
                assert_eq!(after, one + 1, "somebody else takes places");
            });
        };
        let mut others = Vec::new();
        for _ in 1..cutters {
            let (cut, mailboxes) = (Arc::clone(&cut), Arc::clone(&mailboxes));
            others.push(thread::spawn(move || make_cut(&cut, &mailboxes)));
        }
        let (others_cut, others_mailboxes) = (Arc::clone(&cut), Arc::clone(&mailboxes));
        others.push(thread::spawn(move || {
            _ = try_round(&others_cut, 0, || take(&others_mailboxes));
        }));
        make_cut(&cut, &mailboxes);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn no_round_is_half_done_in_a_cut() {
    places_in_two_mailboxes(1);
}

#[test]
fn nobody_takes_places_in_the_cut_of_another() {
    places_in_two_mailboxes(2);
}

/// A round and a cut that wait for each other's end: both come to theirs. If one could wait for ever,
/// loom would find a run without an end.
fn waiting(planted: Planted) {
    check(move || {
        let cut = Arc::new(Cut::with(1, planted));
        let others = Arc::clone(&cut);
        let worker = thread::spawn(move || {
            others.enter(0);
            others.leave(0);
        });
        cut.through(|| ());
        worker.join().unwrap();
    });
}

#[test]
fn a_round_and_a_cut_come_to_their_ends() {
    waiting(SOUND);
}

#[test]
#[should_panic(expected = "exceeded maximum number of branches")]
fn waiting_for_each_other_is_found() {
    waiting(planted(Fault::WaitWithFlag));
}

/// How the epoch's protocol is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    /// As it should: rounds read the epoch between entering and leaving, it begins in a cut, and
    /// who reports that it has run an epoch reads its tail after it has seen the next one.
    Kept,
    /// Rounds read the epoch before they enter.
    ReadBefore,
    /// It begins without a cut.
    BeginsOutside,
    /// The tail is read before the epoch.
    TailFirst,
}

impl Protocol {
    /// The round of a worker: its place in the mailbox, and the epoch that this is stamped with.
    fn round(
        self,
        worker: usize,
        cut: &Cut,
        epoch: &EpochWord,
        tail: &AtomicUsize,
    ) -> Option<Taken> {
        let early = (self == Self::ReadBefore).then(|| epoch.now());
        try_round(cut, worker, || {
            let stamp = early.unwrap_or_else(|| epoch.now());
            Taken { place: tail.fetch_add(1, Relaxed), stamp }
        })
    }

    /// The second epoch begins, if nobody is in the way; answers whether it does.
    fn begin(self, cut: &Cut, epoch: &EpochWord) -> bool {
        if self == Self::BeginsOutside {
            epoch.begin(2);
            return true;
        }
        try_cut(cut, || epoch.begin(2))
    }

    /// Where the mailbox ends, and the epoch, as its owner reads both for its report.
    fn look(self, epoch: &EpochWord, tail: &AtomicUsize) -> (usize, u64) {
        if self == Self::TailFirst {
            let tail = tail.load(Relaxed);
            return (tail, epoch.now());
        }
        let epoch = epoch.now();
        (tail.load(Relaxed), epoch)
    }
}

/// A place that a round has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Taken {
    place: usize,
    stamp: u64,
}

/// A worker takes a place while the second epoch begins, and then whoever began it takes one: in the
/// order of places, all of the first epoch are before all of the second.
fn stamps(protocol: Protocol) {
    check_all(move || {
        let cut = Arc::new(Cut::with(2, SOUND));
        let (epoch, tail) = (Arc::new(EpochWord::new(1)), Arc::new(AtomicUsize::new(0)));
        let (others_cut, others_epoch, others_tail) =
            (Arc::clone(&cut), Arc::clone(&epoch), Arc::clone(&tail));
        let worker =
            thread::spawn(move || protocol.round(0, &others_cut, &others_epoch, &others_tail));
        let has_begun = protocol.begin(&cut, &epoch);
        let last = protocol.round(1, &cut, &epoch, &tail).expect("there is no other cut");
        assert_eq!(last.stamp == 2, has_begun, "whoever began the epoch is in it");
        let mut taken: Vec<_> = worker.join().unwrap().into_iter().chain([last]).collect();
        taken.sort_unstable();
        assert!(
            taken.is_sorted_by_key(|taken| taken.stamp),
            "a later place is of an earlier epoch: {taken:?}"
        );
    });
}

#[test]
fn places_of_an_epoch_are_before_those_of_the_next() {
    stamps(Protocol::Kept);
}

#[test]
#[should_panic(expected = "a later place is of an earlier epoch")]
fn an_epoch_that_is_read_before_entering_is_found() {
    stamps(Protocol::ReadBefore);
}

#[test]
#[should_panic(expected = "a later place is of an earlier epoch")]
fn an_epoch_that_begins_outside_of_a_cut_is_found() {
    stamps(Protocol::BeginsOutside);
}

/// The owner of a mailbox, outside of any round, sees that the second epoch has begun, and reads its
/// tail: what is of the first is below it, and the report that this has run is no lie.
fn reports(protocol: Protocol) {
    check_all(move || {
        let cut = Arc::new(Cut::with(1, SOUND));
        let (epoch, tail) = (Arc::new(EpochWord::new(1)), Arc::new(AtomicUsize::new(0)));
        let (others_cut, others_epoch, others_tail) =
            (Arc::clone(&cut), Arc::clone(&epoch), Arc::clone(&tail));
        let worker =
            thread::spawn(move || protocol.round(0, &others_cut, &others_epoch, &others_tail));
        let (owners_epoch, owners_tail) = (Arc::clone(&epoch), Arc::clone(&tail));
        let owner = thread::spawn(move || protocol.look(&owners_epoch, &owners_tail));
        protocol.begin(&cut, &epoch);
        let taken = worker.join().unwrap();
        let (tail, seen) = owner.join().unwrap();
        if let Some(Taken { place, stamp }) = taken {
            assert!(
                place < tail || stamp >= seen,
                "{place} is of {stamp}, reported: {tail}, {seen}"
            );
        }
    });
}

#[test]
fn what_is_of_an_earlier_epoch_is_below_the_tail_of_the_report() {
    reports(Protocol::Kept);
}

#[test]
#[should_panic(expected = "reported")]
fn a_tail_that_is_read_before_the_epoch_is_found() {
    reports(Protocol::TailFirst);
}

#[test]
#[should_panic(expected = "reported")]
fn a_report_of_an_epoch_that_began_outside_of_a_cut_is_found() {
    reports(Protocol::BeginsOutside);
}
