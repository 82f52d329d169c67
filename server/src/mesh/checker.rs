//! How the models of this crate are checked with loom, and what a model needs of the code that it runs.
//!
//! A model is a closure that loom runs again and again, each time with another interleaving of its
//! threads and other values that the memory model lets a load return, until there are no more. Each
//! property that is checked has twins with a planted [`Fault`], to which the checker must object.
#![forbid(unsafe_code)]

use super::sync::{Fault, Planted};

/// Nothing is planted.
pub(crate) const SOUND: Planted = Planted(None);

/// The code with this mistake in it.
pub(crate) fn planted(fault: Fault) -> Planted {
    Planted(Some(fault))
}

/// Preemptions in one run of a model with waiting loops, which make the number of all interleavings
/// unbounded in practice. The planted mistakes show with two.
const PREEMPTIONS: usize = 3;

/// Runs a model that waits: over all interleavings of a few preemptions.
pub(crate) fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

/// Runs a model in which no thread waits for another: over all interleavings.
pub(crate) fn check_all(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = None;
    builder.check(model);
}
