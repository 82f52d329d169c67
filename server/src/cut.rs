//! A cut through all mailboxes at once: an instant in which no worker is within a round.
//!
//! Why: a command that borrows keys (see `across`) divides all commands into those before it and
//! those behind it, on every shard it concerns. Places are taken in one mailbox after the other, so
//! without a cut a pipelining connection could take a place behind the loan in one mailbox, and then
//! one in another mailbox where the line has not been drawn yet: its second command would belong
//! before its first.
//!
//! Invariants:
//! - a worker takes places and executes own commands only within a round, which it enters and
//!   leaves here;
//! - the entering worker raises its flag and then looks whether the way is closed; the one that
//!   closes it does so and then looks at the flags (all sequentially consistent). So of the two at
//!   least one sees the other, and while the way is closed and all flags are down nobody takes a
//!   place but the worker that closed it;
//! - only the holder of the right to borrow closes the way.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// On cache lines of its own, since each worker writes its own flag twice a round.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Flag(AtomicBool);

/// Who is within a round, and whether rounds may begin.
#[derive(Debug)]
pub struct Cut {
    closed: Flag,
    in_round: Box<[Flag]>,
}

impl Cut {
    /// An open way for `workers` workers.
    pub fn new(workers: usize) -> Self {
        let in_round = (0..workers).map(|_| Flag::default()).collect();
        Self { closed: Flag::default(), in_round }
    }

    /// Lets `worker` begin a round, unless the way is closed by another one than itself.
    #[inline]
    pub fn enter(&self, worker: u32, has_closed: bool) -> bool {
        let flag = &self.in_round[worker as usize].0;
        flag.store(true, SeqCst);
        if self.closed.0.load(SeqCst) && !has_closed {
            flag.store(false, SeqCst);
            return false;
        }
        true
    }

    /// Ends the round of `worker`.
    #[inline]
    pub fn leave(&self, worker: u32) {
        self.in_round[worker as usize].0.store(false, SeqCst);
    }

    /// Lets no other worker begin a round from now on.
    pub fn close(&self) {
        self.closed.0.store(true, SeqCst);
    }

    /// Whether every worker but `worker` is out of its rounds.
    pub fn is_quiet(&self, worker: u32) -> bool {
        let others = self.in_round.iter().zip(0..).filter(|&(_, other)| other != worker);
        others.into_iter().all(|(flag, _)| !flag.0.load(SeqCst))
    }

    /// Lets rounds begin again.
    pub fn open(&self) {
        self.closed.0.store(false, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU64, AtomicUsize},
        },
        thread,
    };

    use super::*;

    #[test]
    fn nobody_but_the_one_that_closed_it_enters_a_closed_way() {
        let cut = Cut::new(3);
        assert!(cut.enter(1, false));
        cut.close();
        assert!(!cut.enter(2, false));
        assert!(cut.enter(0, true));
        assert!(!cut.is_quiet(0));
        cut.leave(1);
        assert!(cut.is_quiet(0));
        cut.open();
        assert!(cut.enter(2, false));
    }

    #[test]
    fn no_place_is_taken_while_the_way_is_closed_and_quiet() {
        let cut = Arc::new(Cut::new(3));
        let (places, cuts) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
        let workers: Vec<_> = [1, 2]
            .map(|worker| {
                let (cut, places, cuts) = (cut.clone(), places.clone(), cuts.clone());
                thread::spawn(move || {
                    while cuts.load(SeqCst) < 200 {
                        if cut.enter(worker, false) {
                            (0..5).for_each(|_| _ = places.fetch_add(1, SeqCst));
                            cut.leave(worker);
                        } else {
                            thread::yield_now();
                        }
                    }
                })
            })
            .into();
        while cuts.load(SeqCst) < 200 {
            cut.close();
            while !cut.is_quiet(0) {
                thread::yield_now();
            }
            let before = places.load(SeqCst);
            (0..50).for_each(|_| std::hint::spin_loop());
            assert_eq!(places.load(SeqCst), before);
            cut.open();
            cuts.fetch_add(1, SeqCst);
        }
        workers.into_iter().for_each(|worker| worker.join().expect("a worker ends"));
    }
}
