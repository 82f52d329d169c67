//! Where a worker leaves what it owns while it is in the kernel, so that others need not wait for it.
//!
//! Why: to wake a sleeper costs 11 to 13 µs of CPU on either side, and its answer as much again; to
//! send a command to one that is awake, and its reply back, costs several times what executing it
//! does. So a worker that goes to the kernel, to sleep or not, puts its shard into its berth, and a
//! worker that has commands for that shard takes it from there, executes them itself, and puts it
//! back. Nothing is shared: at every moment one side has it.
//!
//! The word says who that is:
//!
//! ```text
//!            offer                 borrow
//!   HOME ───────────► OFFERED ───────────► LENT
//!    ▲ ▲   reclaim       │  ▲   give back   │ reclaim: not yet
//!    │ └─────────────────┘  └───────────────┤
//!    │        reclaim          give back    ▼
//!    └──────────────── KEPT ◄──────────── WANTED
//! ```
//!
//! Invariants:
//! - the cell is touched by the owner in HOME, and before it offers; by a borrower from its change of
//!   OFFERED to LENT until it gives back; by nobody in OFFERED and KEPT but who leaves these states;
//! - an owner that wants its own gets it next: from WANTED the way leads to KEPT, which no borrower
//!   leaves;
//! - no wake is lost: an owner that finds it LENT says WANTED; a borrower that gives back and finds
//!   WANTED says KEPT and then looks whether the owner sleeps, and an owner that announces its sleep
//!   looks for KEPT afterwards. All four are `SeqCst`, as in [`wake`](super::wake).
//!
//! A borrower that must know whether the owner has passed anything by meanwhile (see `guests`) asks
//! [`Berth::is_wanted`] after it has looked at the head of the owner's mailbox: an owner says WANTED
//! before it takes any mail.

use super::sync::{AtomicU8, Fault, Ordering, Planted, UnsafeCell, model_fence};

const HOME: u8 = 0;
const OFFERED: u8 = 1;
const LENT: u8 = 2;
const WANTED: u8 = 3;
const KEPT: u8 = 4;

/// The berth of one worker. Its owner and all others hold the same one.
///
/// The word and what it speaks of share a line, which whoever takes the content needs anyway.
#[repr(align(128))]
pub struct Berth<T> {
    state: AtomicU8,
    content: UnsafeCell<Option<Box<T>>>,
    planted: Planted,
}

// SAFETY: the cell is reached by one thread at a time, as the head of this module says; what lies in
// it crosses threads that way, hence `T: Send`.
unsafe impl<T: Send> Sync for Berth<T> {}

impl<T> Default for Berth<T> {
    fn default() -> Self {
        Self::with(Planted::default())
    }
}

impl<T> Berth<T> {
    pub(super) fn with(planted: Planted) -> Self {
        Self { state: AtomicU8::new(HOME), content: UnsafeCell::new(None), planted }
    }

    /// The owner's side: leaves it for others. It must have come back since it was offered last.
    #[inline]
    pub fn offer(&self, owned: Box<T>) {
        debug_assert_eq!(self.state.load(Ordering::Relaxed), HOME, "it is offered already");
        // SAFETY: the state is HOME, so nobody but the owner, the caller, reaches the cell.
        self.content.with_mut(|cell| unsafe { *cell = Some(owned) });
        self.state.store(OFFERED, Ordering::Release);
    }

    /// The owner's side: takes it back, or says that it is wanted.
    #[inline]
    pub fn reclaim(&self) -> Option<Box<T>> {
        loop {
            let state = self.state.load(Ordering::SeqCst);
            let next = match state {
                OFFERED | KEPT => HOME,
                LENT => WANTED,
                _ => return None,
            };
            let changed =
                self.state.compare_exchange(state, next, Ordering::SeqCst, Ordering::SeqCst);
            match (changed, next) {
                (Ok(_), HOME) => return self.take(),
                (Ok(_), _) => return None,
                (Err(_), _) => {}
            }
        }
    }

    /// The owner's side: whether a reclaim would succeed now, after one that did not.
    #[inline]
    pub fn is_back(&self) -> bool {
        self.state.load(Ordering::SeqCst) == KEPT
    }

    /// Whether it can perhaps be borrowed. Costs a load of a line that changes only when its owner
    /// falls asleep or wakes, or somebody borrows.
    #[inline]
    pub fn is_offered(&self) -> bool {
        self.state.load(Ordering::Relaxed) == OFFERED
    }

    /// Another worker's side: takes it. It must be given back.
    pub fn borrow(&self) -> Option<Box<T>> {
        let order = match self.planted.is(Fault::RelaxedBorrow) {
            true => Ordering::Relaxed,
            false => Ordering::Acquire,
        };
        self.state.compare_exchange(OFFERED, LENT, order, Ordering::Relaxed).ok()?;
        self.take()
    }

    /// The borrower's side: whether the owner waits for it.
    #[inline]
    pub fn is_wanted(&self) -> bool {
        self.state.load(Ordering::SeqCst) == WANTED
    }

    /// The borrower's side: gives it back. Answers whether the owner waits for it, and has to be
    /// woken if it sleeps.
    #[must_use = "an owner that waits may have gone to sleep again"]
    pub fn give_back(&self, owned: Box<T>) -> bool {
        // SAFETY: the state is LENT or WANTED, and the caller is who has borrowed.
        self.content.with_mut(|cell| unsafe { *cell = Some(owned) });
        let back = self.state.compare_exchange(LENT, OFFERED, Ordering::AcqRel, Ordering::Acquire);
        if back.is_ok() {
            return false;
        }
        // A swap, which costs what a SeqCst store does: the owner alone leaves WANTED otherwise, and
        // does not.
        let kept = if self.planted.is(Fault::OfferWanted) { OFFERED } else { KEPT };
        self.state.swap(kept, Ordering::SeqCst);
        model_fence();
        true
    }

    fn take(&self) -> Option<Box<T>> {
        // SAFETY: the caller has just changed OFFERED or KEPT to a state that is its own, and the
        // change has acquired what whoever filled the cell has released.
        self.content.with_mut(|cell| unsafe { (*cell).take() })
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn what_is_offered_can_be_borrowed_once_and_comes_back() {
        let berth = Berth::default();
        assert!(berth.borrow().is_none());
        berth.offer(Box::new(5));
        let borrowed = berth.borrow().expect("it is offered");
        assert!(berth.borrow().is_none());
        assert!(!berth.give_back(borrowed));
        assert_eq!(berth.reclaim().as_deref(), Some(&5));
        assert!(berth.borrow().is_none());
    }

    #[test]
    fn an_owner_that_wants_its_own_gets_it_next() {
        let berth = Berth::default();
        berth.offer(Box::new(5));
        let borrowed = berth.borrow().expect("it is offered");
        assert!(!berth.is_wanted());
        assert!(berth.reclaim().is_none());
        assert!(berth.is_wanted() && !berth.is_back());
        assert!(berth.give_back(borrowed));
        assert!(berth.is_back() && berth.borrow().is_none());
        assert_eq!(berth.reclaim().as_deref(), Some(&5));
        berth.offer(Box::new(6));
        assert!(berth.is_offered());
    }
}
