//! One shard's lock table: who must wait for whom, after the very lightweight locking of Ren,
//! Thomson and Abadi (VLDB 2012): counted intents on keys, and one queue in the order of numbers.
//!
//! Why queued intents and not locks that are taken: a transaction over shards puts its intents into
//! the queues of all its shards first, and runs when all have accepted them. Nothing that it does
//! can then fail for want of a lock, and whoever comes later waits behind it on every shard alike.
//!
//! The order of the queue. Plain commands and transactions must wait for each other in the same
//! direction on all shards, though their messages cross in any order:
//! - a transaction stands at its number; what comes with that number too late is refused and tries
//!   again with a new one. Too late means: a conflicting entry of higher order is in the queue, or a
//!   transaction of higher number, or a plain command that set out after the number was drawn, has
//!   been here and gone (the *floor*). The floor matters because a connection does not wait for a
//!   command before it sends the next to another shard: what it did there may have led to the
//!   command seen here;
//! - a plain command that set out before the number was drawn, by its tag, goes *ahead* of the
//!   transaction, even when it arrives later, unless the transaction has begun here. Otherwise it
//!   waits, in the queue, behind all conflicting entries that are there. If it waited for a
//!   transaction drawn after it set out, a later command of its connection, already
//!   executed elsewhere, could belong before things that the transaction must come after;
//! - one that must wait for a transaction that has begun takes its order, so that it is behind all
//!   that this one could be waiting for on other shards.
//!
//! Invariants:
//! - the queue is sorted by order, and an entry waits only for conflicting entries before it. So
//!   waits lead from higher to lower order across all shards, and never in a circle;
//! - an entry that has begun waits for nothing, and nothing is put before it that conflicts;
//! - the counts are the sums of the intents in the queue.
//!
//! A shard without transactions pays one look at [`LockTable::is_empty`] a command, and one
//! [`LockTable::observe`] a batch.

use std::{collections::HashMap, hash::BuildHasherDefault};

use ahash::AHasher;
use smallvec::SmallVec;

use super::ids::{Tag, TransactionId};

#[cfg(test)]
mod tests;

/// Stands for a key: a hash of it that clients cannot foresee. Two keys with one fingerprint wait for each other without need, nothing worse.
pub type Fingerprint = u64;

/// Whether others may hold the same key in the same mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    Shared,
    Exclusive,
}

impl Mode {
    fn conflicts(self, other: Mode) -> bool {
        self == Mode::Exclusive || other == Mode::Exclusive
    }
}

/// What a command or transaction touches on one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Keys(Intents),
    /// All keys, those that do not exist too.
    Whole(Mode),
}

/// Intents on single keys, sorted, each key once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intents(SmallVec<[(Fingerprint, Mode); 2]>);

impl Scope {
    /// A scope of single keys. A key that is named twice gets the stronger mode.
    pub fn keys(intents: impl IntoIterator<Item = (Fingerprint, Mode)>) -> Self {
        let mut sorted: SmallVec<[_; 2]> = intents.into_iter().collect();
        sorted.sort_unstable_by(|one, other| other.cmp(one));
        sorted.dedup_by_key(|&mut (key, _)| key);
        sorted.reverse();
        Scope::Keys(Intents(sorted))
    }

    fn conflicts(&self, other: &Scope) -> bool {
        match (self, other) {
            (Scope::Keys(one), Scope::Keys(other)) => one.conflicts(other),
            (Scope::Whole(whole), Scope::Whole(mode)) => whole.conflicts(*mode),
            (Scope::Whole(whole), Scope::Keys(keys)) | (Scope::Keys(keys), Scope::Whole(whole)) => {
                keys.0.iter().any(|&(_, mode)| mode.conflicts(*whole))
            }
        }
    }
}

impl Intents {
    fn conflicts(&self, other: &Intents) -> bool {
        let (few, many) = if self.0.len() <= other.0.len() { (self, other) } else { (other, self) };
        few.0.iter().any(|&(key, mode)| {
            let found = many.0.binary_search_by_key(&key, |&(key, _)| key);
            found.is_ok_and(|index| mode.conflicts(many.0[index].1))
        })
    }
}

/// Who is in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ticket {
    Transaction(TransactionId),
    /// A plain command that waits; the number is the table's own.
    Command(u64),
}

/// Whether a plain command runs at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Run,
    /// It is in the queue. When [`LockTable::release`] names the ticket, run and release it.
    Wait(Ticket),
}

/// The transaction's number cannot be put into this shard's order any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the transaction's number is too late for this shard")]
pub struct Refused;

/// See the module's head.
#[derive(Debug, Default)]
pub struct LockTable {
    queue: Vec<Entry>,
    counts: HashMap<Fingerprint, Counts, BuildHasherDefault<AHasher>>,
    /// The intents on the whole shard.
    whole: Counts,
    /// The highest tag of a plain command that was here, or number of a transaction that has
    /// executed here and gone.
    floor: Tag,
    commands: u64,
}

#[derive(Debug)]
struct Entry {
    ticket: Ticket,
    scope: Scope,
    /// When it set out: twice the number of a transaction; of a plain command twice the tag and one.
    stamp: u64,
    /// Where it stands in the queue: the stamp, or higher behind what has begun.
    order: u64,
    /// A transaction of which a hop was executed here.
    begun: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    shared: u32,
    exclusive: u32,
}

impl Counts {
    fn of(&mut self, mode: Mode) -> &mut u32 {
        match mode {
            Mode::Shared => &mut self.shared,
            Mode::Exclusive => &mut self.exclusive,
        }
    }

    fn conflict(self, mode: Mode) -> bool {
        self.exclusive > 0 || (mode == Mode::Exclusive && self.shared > 0)
    }
}

impl LockTable {
    /// Whether any plain command may run without asking further.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Notes that plain commands with this tag are executed now: once for each batch, and
    /// for the own runs of each round, before the first of them.
    #[inline]
    pub fn observe(&mut self, tag: Tag) {
        self.floor = self.floor.max(tag);
    }

    /// Asks for a plain command with this tag, which was observed already. Needed only if
    /// the table is not empty.
    pub fn admit(&mut self, tag: Tag, scope: Scope) -> Admission {
        if !self.may_conflict(&scope) {
            return Admission::Run;
        }
        let stamp = 2 * tag + 1;
        let behind =
            |entry: &&Entry| (entry.begun || entry.stamp <= stamp) && entry.scope.conflicts(&scope);
        let Some(highest) = self.queue.iter().filter(behind).map(|entry| entry.order).max() else {
            return Admission::Run;
        };
        self.commands += 1;
        let ticket = Ticket::Command(self.commands);
        self.insert(Entry { ticket, scope, stamp, order: stamp.max(highest), begun: false });
        Admission::Wait(ticket)
    }

    /// Puts a transaction's intents into the queue, if its number still fits in.
    pub fn schedule(&mut self, id: TransactionId, scope: Scope) -> Result<(), Refused> {
        let order = 2 * id;
        let too_late = |entry: &Entry| entry.order > order && entry.scope.conflicts(&scope);
        if id <= self.floor || (self.may_conflict(&scope) && self.queue.iter().any(too_late)) {
            return Err(Refused);
        }
        let ticket = Ticket::Transaction(id);
        self.insert(Entry { ticket, scope, stamp: order, order, begun: false });
        Ok(())
    }

    /// Whether the transaction's hop may be executed now, and if so notes that it has begun. If not,
    /// keep the hop until [`LockTable::release`] names the transaction, and ask again.
    pub fn begin(&mut self, id: TransactionId) -> bool {
        let Some(index) = self.index_of(Ticket::Transaction(id)) else { return false };
        let granted = self.queue[index].begun || self.is_granted(index);
        self.queue[index].begun = granted;
        granted
    }

    /// Takes an entry out: a command that has run, a transaction that concluded or was refused
    /// elsewhere. Adds to `granted` those that may run now and may not have been able to before.
    pub fn release(&mut self, ticket: Ticket, granted: &mut Vec<Ticket>) {
        let Some(index) = self.index_of(ticket) else { return };
        let gone = self.queue.remove(index);
        if let (Ticket::Transaction(id), true) = (ticket, gone.begun) {
            self.observe(id);
        }
        self.count(&gone.scope, |count| *count -= 1);
        let waited = |&later: &usize| self.queue[later].scope.conflicts(&gone.scope);
        let free = (index..self.queue.len()).filter(waited).filter(|&later| self.is_granted(later));
        granted.extend(free.map(|later| self.queue[later].ticket));
        self.check();
    }

    /// Entries in the queue.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    fn index_of(&self, ticket: Ticket) -> Option<usize> {
        self.queue.iter().position(|entry| entry.ticket == ticket)
    }

    /// Whether nothing before the entry conflicts with it.
    fn is_granted(&self, index: usize) -> bool {
        let scope = &self.queue[index].scope;
        !self.queue[..index].iter().any(|before| before.scope.conflicts(scope))
    }

    /// A quick look at the counts: false is certain.
    fn may_conflict(&self, scope: &Scope) -> bool {
        match scope {
            Scope::Whole(_) => !self.queue.is_empty(),
            Scope::Keys(intents) => intents.0.iter().any(|&(key, mode)| {
                self.whole.conflict(mode)
                    || self.counts.get(&key).is_some_and(|counts| counts.conflict(mode))
            }),
        }
    }

    fn insert(&mut self, entry: Entry) {
        self.count(&entry.scope, |count| *count += 1);
        let index = self.queue.partition_point(|before| before.order <= entry.order);
        self.queue.insert(index, entry);
        self.check();
    }

    fn count(&mut self, scope: &Scope, change: impl Fn(&mut u32)) {
        match scope {
            Scope::Whole(mode) => change(self.whole.of(*mode)),
            Scope::Keys(intents) => {
                for &(key, mode) in &intents.0 {
                    let counts = self.counts.entry(key).or_default();
                    change(counts.of(mode));
                    if counts.shared == 0 && counts.exclusive == 0 {
                        self.counts.remove(&key);
                    }
                }
            }
        }
    }

    fn check(&self) {
        debug_assert!(self.queue.is_sorted_by_key(|entry| entry.order));
        debug_assert!(!self.queue.is_empty() || self.counts.is_empty());
        debug_assert!(
            (0..self.queue.len()).all(|index| !self.queue[index].begun || self.is_granted(index)),
            "what has begun waits for nothing"
        );
    }
}
