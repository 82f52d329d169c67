//! The synchronisation that the mesh is built of: the standard library's, or loom's under the
//! cargo feature `loom`, so that the model checker runs the very code that serves clients.
//!
//! Two things differ between the builds, and both are confined to this file:
//! - cells are reached through closures, as loom asks for;
//! - loom treats a `SeqCst` access as `AcqRel` and knows the single total order only of fences.
//!   [`model_fence`] stands wherever the mesh relies on two `SeqCst` accesses being ordered. It is
//!   nothing in the real build: there the accesses themselves give that order, and on x86-64 they
//!   give it at the price of the atomic add that takes a place.

#![forbid(unsafe_code)]

#[cfg(not(feature = "loom"))]
pub(crate) use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};

#[cfg(feature = "loom")]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
};

/// A cell with the interface of loom's: access goes through a closure that is given a pointer.
#[cfg(not(feature = "loom"))]
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(feature = "loom"))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    /// Hands out a pointer for reading. Whoever dereferences it guarantees that nobody writes.
    #[inline(always)]
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    /// Hands out a pointer for writing. Whoever dereferences it guarantees that nobody else does.
    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Stands between two `SeqCst` accesses whose single total order matters; see the module's head.
#[inline(always)]
pub(crate) fn model_fence() {
    #[cfg(feature = "loom")]
    loom::sync::atomic::fence(Ordering::SeqCst);
}

/// Whether a model has already failed and is being torn down: a destructor that touches loom's
/// cells then would panic again, and abort the test that expects the first panic.
#[inline(always)]
pub(crate) fn model_failed() -> bool {
    cfg!(feature = "loom") && std::thread::panicking()
}

/// Gives up the processor: to whoever is waited for, and under loom, so that its thread comes on.
#[inline]
pub(crate) fn yield_now() {
    #[cfg(feature = "loom")]
    loom::thread::yield_now();
    #[cfg(not(feature = "loom"))]
    std::thread::yield_now();
}

/// Keeps a word that one side writes away from the words of the other side.
///
/// 128 bytes and not 64, because the cores that this server is made for fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// A mistake that the model tests plant, so that the checker is seen to object to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A filled slot is announced with `Relaxed` instead of `Release`.
    RelaxedFill,
    /// Places are taken without a place in the total order of all takes and looks at tails.
    UnorderedTake,
    /// The consumer looks beyond a place that is taken and not filled.
    PassUnfilled,
    /// The consumer looks for mail first and announces its sleep afterwards.
    LookThenAnnounce,
    /// A berth's content is taken without acquiring what filled it.
    RelaxedBorrow,
    /// What its owner wants is offered to others again.
    OfferWanted,
    /// A worker looks whether a cut is made first, and raises its flag afterwards.
    LookThenRaise,
    /// A worker's flag has no place in the total order of all flags and looks at them.
    UnorderedEnter,
    /// A worker waits for the end of a cut with its flag raised.
    WaitWithFlag,
    /// The flag is lowered without letting the places be seen that were taken.
    RelaxedLeave,
    /// Who makes a cut waits for nobody who is taking places.
    CutAtOnce,
    /// A cut's closing has no place in the total order of all flags and looks at them.
    UnorderedClose,
    /// The way is opened without letting the places be seen that were taken in the cut.
    RelaxedOpen,
}

/// The planted mistake, if any. In every build but that of the model tests it is always none,
/// takes no room, and the compiler removes the questions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Planted(#[cfg(all(test, feature = "loom"))] pub(crate) Option<Fault>);

impl Planted {
    #[inline(always)]
    pub(crate) fn is(self, fault: Fault) -> bool {
        #[cfg(all(test, feature = "loom"))]
        return self.0 == Some(fault);
        #[cfg(not(all(test, feature = "loom")))]
        {
            let _ = fault;
            false
        }
    }
}
