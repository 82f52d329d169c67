//! What the server remembers of its saves, and the one that is under way.
#![forbid(unsafe_code)]

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::{Save, save::Plan};

/// Why the server saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// BGSAVE, or a save point.
    Background,
    /// A client waits for it (SAVE, SHUTDOWN).
    Asked,
    /// It takes the place of the append-only log (BGREWRITEAOF).
    Rewrite,
}

/// What INFO and the save points want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When the last save that succeeded ended, in Unix seconds; at first the server's start.
    pub saved_at_s: u64,
    /// When the last save began.
    pub tried_at_s: u64,
    /// How many changes the shards had counted at the cut of the last save that succeeded.
    pub changes_saved: u64,
    /// Whether the last save in the background succeeded.
    pub is_ok: bool,
    /// How long the last save in the background took.
    pub took_s: Option<u64>,
    /// Saves that succeeded.
    pub saves: u64,
    /// Bytes that commands had to preserve during the last save.
    pub preserved_bytes: u64,
    /// The same during the last rewrite of the log.
    pub rewrite_preserved_bytes: u64,
}

impl Record {
    /// Nothing has been saved since `start_s`.
    pub fn new(start_s: u64) -> Self {
        Self {
            saved_at_s: start_s,
            tried_at_s: 0,
            changes_saved: 0,
            is_ok: true,
            took_s: None,
            saves: 0,
            preserved_bytes: 0,
            rewrite_preserved_bytes: 0,
        }
    }
}

/// The saves of one server. What commands look at on their way are two atomics that hardly ever
/// change.
pub struct Saves {
    /// How many shards have more to preserve than they may, and which.
    over_budget: AtomicUsize,
    shards_over: Box<[AtomicBool]>,
    /// The last save in the background has failed.
    has_failed: AtomicBool,
    /// A rewrite of the log, and a save, that wait until the save under way has ended.
    rewrite_is_scheduled: AtomicBool,
    save_is_scheduled: AtomicBool,
    state: Mutex<State>,
}

struct State {
    record: Record,
    current: Option<Arc<Save>>,
}

impl Saves {
    /// None yet; the server started at `start_s`, with so many shards.
    pub fn new(start_s: u64, shards: usize) -> Self {
        Self {
            over_budget: AtomicUsize::new(0),
            shards_over: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            has_failed: AtomicBool::new(false),
            rewrite_is_scheduled: AtomicBool::new(false),
            save_is_scheduled: AtomicBool::new(false),
            state: Mutex::new(State { record: Record::new(start_s), current: None }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered.
    pub fn record(&self) -> Record {
        self.state().record.clone()
    }

    /// The save under way.
    pub fn current(&self) -> Option<Arc<Save>> {
        self.state().current.clone()
    }

    /// Begins a save, unless one is under way.
    pub fn begin(&self, plan: Plan) -> Option<Arc<Save>> {
        let mut state = self.state();
        if state.current.is_some() {
            return None;
        }
        if plan.why != Why::Rewrite {
            state.record.tried_at_s = plan.began_at_s;
        }
        let save = Arc::new(Save::new(plan));
        state.current = Some(Arc::clone(&save));
        Some(save)
    }

    fn schedule_of(&self, why: Why) -> &AtomicBool {
        if why == Why::Rewrite { &self.rewrite_is_scheduled } else { &self.save_is_scheduled }
    }

    /// Lets a save begin when none is under way any more. The first worker must be woken.
    pub(crate) fn schedule(&self, why: Why) {
        self.schedule_of(why).store(true, Ordering::SeqCst);
    }

    /// It has begun, or is not wanted any more; answers whether it was scheduled.
    pub(crate) fn unschedule(&self, why: Why) -> bool {
        self.schedule_of(why).swap(false, Ordering::SeqCst)
    }

    /// What is to begin next; a rewrite of the log goes first.
    pub fn scheduled(&self) -> Option<Why> {
        let waits = |why: &Why| self.schedule_of(*why).load(Ordering::SeqCst);
        [Why::Rewrite, Why::Background].into_iter().find(waits)
    }

    /// Whether a rewrite of the log waits.
    pub fn has_scheduled_rewrite(&self) -> bool {
        self.rewrite_is_scheduled.load(Ordering::SeqCst)
    }

    /// Whether anything waits.
    #[inline]
    pub(crate) fn has_scheduled(&self) -> bool {
        self.rewrite_is_scheduled.load(Ordering::Relaxed)
            || self.save_is_scheduled.load(Ordering::Relaxed)
    }

    /// Ends the save under way.
    pub(super) fn end(&self, save: &Save, outcome: &Result<(), io::Error>, now_s: u64) {
        let mut state = self.state();
        if save.why() == Why::Rewrite {
            state.record.rewrite_preserved_bytes = save.preserved_bytes();
            state.current = None;
            return;
        }
        let record = &mut state.record;
        if outcome.is_ok() {
            record.saved_at_s = now_s;
            record.changes_saved = save.changes();
            record.saves += 1;
        }
        // A SAVE that failed says so to its client; one that succeeded mends what had failed before.
        if save.why() == Why::Background || outcome.is_ok() {
            record.is_ok = outcome.is_ok();
            self.has_failed.store(outcome.is_err(), Ordering::Relaxed);
        }
        if save.why() == Why::Background {
            record.took_s = Some(now_s.saturating_sub(save.began_at_s()));
        }
        record.preserved_bytes = save.preserved_bytes();
        state.current = None;
    }

    /// All shards were saved at once at `now_s`, with so many changes behind them.
    pub(crate) fn note_at_once(&self, now_s: u64, changes: u64) {
        let mut state = self.state();
        let record = &mut state.record;
        (record.saved_at_s, record.changes_saved, record.is_ok) = (now_s, changes, true);
        record.saves += 1;
        self.has_failed.store(false, Ordering::Relaxed);
    }

    /// Whether commands that write must wait because some shard has too much to preserve.
    #[inline]
    pub fn holds_writes(&self) -> bool {
        self.over_budget.load(Ordering::Relaxed) > 0
    }

    /// Whether the last save in the background has failed.
    #[inline]
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Whether `shard` has more to preserve than it may.
    pub(crate) fn is_over_budget(&self, shard: u32) -> bool {
        self.shards_over[shard as usize].load(Ordering::Relaxed)
    }

    /// `shard` has too much to preserve from now on, or no longer.
    pub(super) fn note_budget(&self, shard: u32, is_over: bool) {
        self.shards_over[shard as usize].store(is_over, Ordering::Relaxed);
        if is_over {
            self.over_budget.fetch_add(1, Ordering::Relaxed);
        } else {
            self.over_budget.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
