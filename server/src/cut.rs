//! A cut through all mailboxes at once: an instant in which no worker takes places.
//!
//! Why: what concerns several shards takes a place in several mailboxes, and divides all commands
//! into those before it and those behind it on every shard. Places are taken in one mailbox after the
//! other, so without a cut a pipelining connection could take a place behind it in one mailbox, and
//! then one in another mailbox where the line has not been drawn yet: its second command would
//! belong before its first.
//!
//! How: a worker takes the places of a round, and reads the tail of its own mailbox, between
//! [`Cut::enter`] and [`Cut::leave`]. That is a few atomic operations; everything else (packing the
//! parcels before, executing own commands after) is outside. [`Cut::through`] closes the way, waits
//! until everybody is out, takes its places, and opens the way again.
//!
//! It is a lock of many readers and one writer whose readers share no cache line: each has a flag of
//! its own. Both sides wait for the other for the length of a few stores, or if the other has just
//! lost its processor, until it has it back: hence the yielding.
//!
//! Invariants:
//! - the entering worker raises its flag and then looks whether the way is closed; the one that
//!   closes it does so and then looks at the flags (all sequentially consistent). So of the two at
//!   least one sees the other, and while the way is closed and all flags are down nobody takes a
//!   place but the worker that closed it;
//! - nothing is done between entering and leaving, nor within a cut, that could wait for anything.
//!
//! Checked with loom over all interleavings, each access above with a planted fault (`cut::model`).
#![forbid(unsafe_code)]

#[cfg(all(test, feature = "loom"))]
mod model;

use std::hint;

use Ordering::SeqCst;

use crate::mesh::sync::{AtomicBool, Fault, Ordering, Planted, model_fence, yield_now};

/// How often one looks again before it gives up its processor to whom it waits for.
const LOOKS_MAX: u32 = if cfg!(feature = "loom") { 0 } else { 100 };

/// On cache lines of its own, since each worker writes its own flag twice a round.
#[derive(Debug)]
#[repr(align(128))]
struct Flag(AtomicBool);

impl Flag {
    fn new() -> Self {
        Self(AtomicBool::new(false))
    }
}

/// Who is taking places, and whether that may begin.
#[derive(Debug)]
pub struct Cut {
    closed: Flag,
    taking: Box<[Flag]>,
    planted: Planted,
}

impl Cut {
    /// An open way for `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self::with(workers, Planted::default())
    }

    pub(crate) fn with(workers: usize, planted: Planted) -> Self {
        Self { closed: Flag::new(), taking: (0..workers).map(|_| Flag::new()).collect(), planted }
    }

    /// Lets `worker` take places and read its tail, as soon as no cut is being made.
    #[inline]
    pub fn enter(&self, worker: u32) {
        if !self.try_enter(worker) {
            self.enter_again(worker);
        }
    }

    #[cold]
    fn enter_again(&self, worker: u32) {
        loop {
            wait_while(|| self.closed.0.load(Ordering::Relaxed));
            if self.try_enter(worker) {
                return;
            }
        }
    }

    /// Lets `worker` take places unless a cut is being made; its flag is down then.
    #[inline]
    fn try_enter(&self, worker: u32) -> bool {
        let flag = &self.taking[worker as usize].0;
        if self.planted.is(Fault::LookThenRaise) {
            let is_open = !self.closed.0.load(SeqCst);
            flag.store(is_open, SeqCst);
            return is_open;
        }
        flag.store(true, SeqCst);
        if !self.planted.is(Fault::UnorderedEnter) {
            model_fence();
        }
        let is_open = !self.closed.0.load(SeqCst);
        if !is_open && !self.planted.is(Fault::WaitWithFlag) {
            flag.store(false, SeqCst);
        }
        is_open
    }

    /// `worker` has taken its places.
    #[inline]
    pub fn leave(&self, worker: u32) {
        let relaxed = self.planted.is(Fault::RelaxedLeave);
        let order = if relaxed { Ordering::Relaxed } else { Ordering::Release };
        self.taking[worker as usize].0.store(false, order);
    }

    /// Takes places while nobody else does. `worker` must not be between entering and leaving.
    pub fn through<T>(&self, take_places: impl FnOnce() -> T) -> T {
        while !self.try_close() {
            wait_while(|| self.closed.0.load(Ordering::Relaxed));
        }
        (0..self.taking.len()).for_each(|worker| wait_while(|| self.is_taking(worker)));
        let taken = take_places();
        self.open();
        taken
    }

    /// Closes the way for all who come, unless another one has.
    fn try_close(&self) -> bool {
        let closed = &self.closed.0;
        let closes = closed.compare_exchange(false, true, SeqCst, Ordering::Relaxed).is_ok();
        if !self.planted.is(Fault::UnorderedClose) {
            model_fence();
        }
        closes
    }

    /// Whether `worker` may be taking places, as who has closed the way asks.
    #[inline]
    fn is_taking(&self, worker: usize) -> bool {
        !self.planted.is(Fault::CutAtOnce) && self.taking[worker].0.load(SeqCst)
    }

    /// Opens the way again.
    fn open(&self) {
        let relaxed = self.planted.is(Fault::RelaxedOpen);
        self.closed.0.store(false, if relaxed { Ordering::Relaxed } else { SeqCst });
    }
}

/// Waits for another worker to be done with a few stores.
fn wait_while(busy: impl Fn() -> bool) {
    let mut looks = 0;
    while busy() {
        looks += 1;
        if looks <= LOOKS_MAX {
            hint::spin_loop();
        } else {
            yield_now();
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU64, AtomicUsize},
        },
        thread,
    };

    use super::*;

    /// Runs three workers that enter, take five places and leave, while two more make cuts; within
    /// each of these `during` is called with the count of places.
    fn cut_beside_rounds(during: impl Fn(&AtomicU64) + Send + Sync + 'static) {
        const CUTS: usize = 200;
        let cut = Arc::new(Cut::new(5));
        let (places, cuts) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
        let during = Arc::new(during);
        let workers: Vec<_> = (0..5)
            .map(|worker| {
                let (cut, places, cuts) = (cut.clone(), places.clone(), cuts.clone());
                let during = during.clone();
                thread::spawn(move || {
                    while cuts.load(SeqCst) < CUTS {
                        if worker > 2 {
                            cut.through(|| during(&places));
                            cuts.fetch_add(1, SeqCst);
                        }
                        cut.enter(worker);
                        (0..5).for_each(|_| _ = places.fetch_add(1, SeqCst));
                        cut.leave(worker);
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().expect("a worker ends"));
    }

    #[test]
    fn within_a_cut_nobody_takes_a_place_and_no_round_is_half_done() {
        cut_beside_rounds(|places| {
            let before = places.load(SeqCst);
            assert_eq!(before % 5, 0, "a round is half done");
            (0..50).for_each(|_| hint::spin_loop());
            assert_eq!(places.load(SeqCst), before);
        });
    }

    #[test]
    fn cuts_exclude_each_other() {
        let within = AtomicUsize::new(0);
        cut_beside_rounds(move |_| {
            assert_eq!(within.fetch_add(1, SeqCst), 0);
            (0..50).for_each(|_| hint::spin_loop());
            within.fetch_sub(1, SeqCst);
        });
    }
}
