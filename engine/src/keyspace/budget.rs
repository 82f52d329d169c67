//! `maxmemory`: one limit for all shards of a server, and what each of them takes of it.
//!
//! Every shard keeps an [`Account`] of its own bytes, by database, so that after a command one
//! database is looked at and not all. It reports to the [`Budget`] that all share, in steps of
//! [`REPORT_STEP_BYTES`], so that a shared cache line is written once in hundreds of commands. While
//! the sum is above the limit each shard gives up what is proportionate to what it holds: its share
//! of the excess. So nobody is emptied for the others' growth, and the shards, each acting when it
//! has its turn, free the excess once and not each of them.
//!
//! Invariants:
//! - `used` is the sum of what the accounts have reported; an account that ends takes its part back;
//! - an account has reported its bytes to within one step; exactly, if its shard is the only one;
//! - `spent` is the number of accounts which have found that they hold nothing that the policy
//!   lets go. When that is all of them, memory cannot be freed.
//!
//! The counters are atomics for the sake of shards on several threads; nothing here waits, and a
//! shard that is alone, in a test or a simulation, sees exact numbers.
#![forbid(unsafe_code)]

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

/// By how much a shard's memory may differ from what it has reported, if there are several.
pub const REPORT_STEP_BYTES: usize = 16 << 10;

/// A number on a pair of cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// What the shards of one server share of `maxmemory`.
#[derive(Debug)]
pub struct Budget {
    /// Accounts that will be opened.
    shards: usize,
    /// In bytes; 0 is none.
    limit: AtomicU64,
    /// Whether the policy lets anything go.
    evicts: AtomicBool,
    /// Accounts that have nothing to let go.
    spent: AtomicUsize,
    /// The sum of what was reported, in bytes.
    used: Padded<AtomicU64>,
}

impl Budget {
    /// A budget without a limit for `shards` shards.
    pub fn new(shards: usize) -> Self {
        Self {
            shards,
            limit: AtomicU64::new(0),
            evicts: AtomicBool::new(false),
            spent: AtomicUsize::new(0),
            used: Padded::default(),
        }
    }

    /// Sets the limit in bytes, 0 for none, and whether keys are evicted to keep it.
    pub fn configure(&self, limit: u64, evicts: bool) {
        self.limit.store(limit, Ordering::Relaxed);
        self.evicts.store(evicts, Ordering::Relaxed);
    }

    /// The limit in bytes; 0 is none.
    #[inline]
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Bytes that all shards have reported.
    #[inline]
    pub fn used(&self) -> u64 {
        // SeqCst costs no more here than any load, and a worker that goes to sleep must see what
        // was reported before somebody looked whether it sleeps.
        self.used.0.load(Ordering::SeqCst)
    }

    /// Bytes above the limit.
    #[inline]
    pub fn excess(&self) -> u64 {
        match self.limit() {
            0 => 0,
            limit => self.used().saturating_sub(limit),
        }
    }

    /// Whether more is used than the limit allows.
    #[inline]
    pub fn is_over(&self) -> bool {
        self.excess() > 0
    }

    /// Whether more is used than the limit allows and nothing can be let go: commands that may need
    /// more memory are refused.
    pub fn is_exhausted(&self) -> bool {
        self.is_over()
            && (!self.evicts.load(Ordering::Relaxed)
                || self.spent.load(Ordering::Relaxed) >= self.shards)
    }
}

/// The bytes of one shard.
#[derive(Debug)]
pub(crate) struct Account {
    budget: Arc<Budget>,
    /// By database, when it was last looked at.
    databases: Vec<usize>,
    /// What belongs to no database.
    beside: usize,
    /// The sum of all these.
    sum: usize,
    reported: usize,
    is_spent: bool,
}

impl Account {
    /// An empty account of a shard with so many databases.
    pub(crate) fn new(budget: Arc<Budget>, databases: usize) -> Self {
        let databases = vec![0; databases];
        Self { budget, databases, beside: 0, sum: 0, reported: 0, is_spent: false }
    }

    /// The budget that it is part of.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Bytes of the shard.
    pub(crate) fn bytes(&self) -> usize {
        self.sum
    }

    /// Notes that `database` takes `bytes` now.
    #[inline]
    pub(crate) fn note(&mut self, database: usize, bytes: usize) {
        let before = std::mem::replace(&mut self.databases[database], bytes);
        self.sum = self.sum - before + bytes;
        let step = if self.budget.shards == 1 { 0 } else { REPORT_STEP_BYTES };
        if self.sum.abs_diff(self.reported) > step {
            self.report();
        }
    }

    /// Notes that what belongs to no database takes `bytes` now.
    pub(crate) fn note_beside(&mut self, bytes: usize) {
        self.sum = self.sum - self.beside + bytes;
        self.beside = bytes;
    }

    /// Reports the exact sum.
    pub(crate) fn report(&mut self) {
        // What is less is added as its two's complement.
        let change = (self.sum as u64).wrapping_sub(self.reported as u64);
        if change != 0 {
            self.budget.used.0.fetch_add(change, Ordering::SeqCst);
            self.reported = self.sum;
        }
    }

    /// This shard's share of what has to be freed, in bytes; 0 if nothing has to.
    pub(crate) fn share_of_excess(&self) -> usize {
        let (excess, used) = (self.budget.excess(), self.budget.used());
        if excess == 0 {
            return 0;
        }
        let share = u128::from(excess) * self.reported as u128 / u128::from(used.max(1));
        usize::try_from(share).unwrap_or(usize::MAX).max(1)
    }

    /// Tells the others whether this shard has anything to let go.
    pub(crate) fn declare_spent(&mut self, is_spent: bool) {
        if self.is_spent != is_spent {
            self.is_spent = is_spent;
            match is_spent {
                true => self.budget.spent.fetch_add(1, Ordering::SeqCst),
                false => self.budget.spent.fetch_sub(1, Ordering::SeqCst),
            };
        }
    }

    /// Whether it has told so.
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.is_spent
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.declare_spent(false);
        self.sum = 0;
        self.report();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_report_in_steps_and_take_back_what_they_reported() {
        let budget = Arc::new(Budget::new(2));
        let mut first = Account::new(Arc::clone(&budget), 2);
        let mut second = Account::new(Arc::clone(&budget), 1);
        first.note(1, REPORT_STEP_BYTES);
        assert_eq!((budget.used(), first.bytes()), (0, REPORT_STEP_BYTES));
        first.note(0, 1);
        second.note(0, 3 * REPORT_STEP_BYTES);
        assert_eq!(budget.used(), 4 * REPORT_STEP_BYTES as u64 + 1);
        second.note(0, 5);
        assert_eq!(budget.used(), REPORT_STEP_BYTES as u64 + 6);
        second.note_beside(7);
        second.report();
        assert_eq!(budget.used(), REPORT_STEP_BYTES as u64 + 13);
        drop(first);
        assert_eq!(budget.used(), 12);
    }

    #[test]
    fn a_lone_shard_reports_every_byte() {
        let budget = Arc::new(Budget::new(1));
        let mut account = Account::new(Arc::clone(&budget), 1);
        account.note(0, 3);
        account.note(0, 2);
        assert_eq!(budget.used(), 2);
    }

    #[test]
    fn shares_of_the_excess_add_up_to_it() {
        let budget = Arc::new(Budget::new(2));
        let mut first = Account::new(Arc::clone(&budget), 1);
        let mut second = Account::new(Arc::clone(&budget), 1);
        first.note(0, 300_000);
        second.note(0, 100_000);
        budget.configure(400_000, true);
        assert_eq!((first.share_of_excess(), budget.is_over()), (0, false));
        budget.configure(396_000, true);
        assert_eq!((first.share_of_excess(), second.share_of_excess()), (3_000, 1_000));
    }

    #[test]
    fn memory_is_exhausted_when_nobody_has_anything_to_let_go() {
        let budget = Arc::new(Budget::new(2));
        let mut first = Account::new(Arc::clone(&budget), 1);
        let mut second = Account::new(Arc::clone(&budget), 1);
        first.note(0, 1 << 20);
        budget.configure(1, true);
        first.declare_spent(true);
        assert!(budget.is_over() && !budget.is_exhausted());
        second.declare_spent(true);
        assert!(budget.is_exhausted());
        drop(second);
        assert!(!budget.is_exhausted());
        budget.configure(1, false);
        assert!(budget.is_exhausted());
        budget.configure(0, false);
        assert!(!budget.is_exhausted());
    }
}
