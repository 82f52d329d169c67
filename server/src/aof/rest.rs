//! Workers at rest: who sleeps with nothing to log is not woken for an epoch.
//!
//! An epoch is closed when every worker has run what belongs to it. A worker that sleeps, has served
//! its mailbox, and has nothing in its journal or on its way to the disk has run everything there is;
//! so whoever lets an epoch begin says so in its place, and lets it sleep on. Without this each flush of
//! one busy worker would wake all others twice.
//!
//! Invariants:
//! - the word of a worker says that it is at rest only between its announcement before it sleeps and
//!   the end of its rest, which it declares before it does anything else;
//! - whoever reports for another has let the new epoch begin before it looks at the word. So if it
//!   finds the worker at rest, the worker's next round reads the new epoch (all four accesses are
//!   sequentially consistent): nothing of the old one follows;
//! - no place of the old epoch is left in the mailbox of the worker: its tail is where it was when the
//!   worker went to rest. A place taken since counts as one, which costs a wake and no more.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::Aof;
use crate::mesh::mailbox::Position;

/// What a worker says before it sleeps; on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Rest {
    /// Up to where its mailbox is served, plus one; 0 while it is not at rest.
    word: AtomicU64,
    /// The number of its log's last record.
    sequence: AtomicU64,
}

impl Aof {
    /// `worker` has served its mailbox up to `head`, has nothing to log behind the record `sequence`,
    /// and is about to sleep.
    pub(crate) fn announce_rest(&self, worker: u32, head: Position, sequence: u64) {
        let rest = &self.rests[worker as usize];
        rest.sequence.store(sequence, SeqCst);
        rest.word.store(head.0 + 1, SeqCst);
    }

    /// `worker` is awake.
    #[inline]
    pub(crate) fn end_rest(&self, worker: u32) {
        self.rests[worker as usize].word.store(0, SeqCst);
    }

    /// Reports for `worker`, whose mailbox ends at `tail`, that it has run everything before `epoch`,
    /// which has begun, if it is at rest; answers whether it is.
    pub(super) fn report_rest(&self, worker: usize, tail: Position, epoch: u64) -> bool {
        let rest = &self.rests[worker];
        if rest.word.load(SeqCst) != tail.0 + 1 {
            return false;
        }
        // As long as nobody has reported for it, the epoch is open and it cannot come to another rest.
        let sequence = rest.sequence.load(SeqCst);
        self.with_epochs(|epochs| {
            if epochs.current() == epoch && epochs.awaits(worker) {
                // Whoever reports for others has not reported for itself, so this closes nothing.
                epochs.ran(worker, sequence);
            }
        });
        true
    }

    /// Whether `worker` sleeps with nothing to log.
    pub(super) fn is_at_rest(&self, worker: usize) -> bool {
        self.rests[worker].word.load(SeqCst) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tessera_engine::persist::epoch::Epochs;

    #[test]
    fn a_worker_at_rest_is_reported_for_unless_it_has_mail_or_is_awake() {
        let aof = Aof::none(2);
        aof.with_epochs(|epochs| *epochs = Epochs::new(1, &[0, 0]));
        aof.announce_rest(1, Position(7), 0);
        assert_eq!(aof.with_epochs(Epochs::advance), Some(2));
        assert!(!aof.report_rest(1, Position(8), 2), "it has mail");
        assert!(aof.report_rest(1, Position(7), 2));
        assert!(aof.with_epochs(|epochs| epochs.ran(0, 5)), "both have run it");
        assert_eq!(aof.with_epochs(Epochs::advance), Some(3));
        aof.end_rest(1);
        assert!(!aof.is_at_rest(1));
        assert!(!aof.report_rest(1, Position(7), 3), "it is awake");
    }
}
