//! Collections that a reply has captured, on their way back to the shard that frees them.
//!
//! A collection that was captured (see `command::walk`) may be deleted before the capture ends, so
//! whoever ends it, perhaps on another thread, holds all that is left. To free a million members takes
//! too long for one step, so they go back to the shard that made them, which frees them in slices like
//! all that it removes (see `garbage`).
//!
//! Why with a lock: nodes are left here seldom, from any thread, and the lock is held for a push.
#![forbid(unsafe_code)]

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::types::Garbage;

/// Nodes that are freed at once, which is as quick as to send them back.
const NODES_AT_ONCE: usize = 16;

/// Nodes that are yet to be freed by their shard; whoever may have to let go of some holds it by `Arc`.
#[derive(Debug, Default)]
pub struct DeferredFree {
    nodes: Mutex<Vec<Garbage>>,
    /// Set behind every push; it orders nothing, the lock does.
    has_some: AtomicBool,
}

impl DeferredFree {
    /// Frees `nodes` if they are few or held by others too; else keeps them for the shard.
    pub fn leave(&self, mut nodes: Garbage) {
        if nodes.is_empty() || nodes.free_slice(NODES_AT_ONCE) {
            return;
        }
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner).push(nodes);
        self.has_some.store(true, Relaxed);
    }

    /// Whether something waits here.
    #[inline]
    pub fn has_some(&self) -> bool {
        self.has_some.load(Relaxed)
    }

    /// Takes everything out.
    pub(super) fn take(&self) -> Vec<Garbage> {
        self.has_some.store(false, Relaxed);
        std::mem::take(&mut *self.nodes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
