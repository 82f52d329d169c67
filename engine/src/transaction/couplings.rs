//! Which keys an element may go on to when a key is filled.
//!
//! A client that waits with `BLMOVE source destination` is owed the next element of `source`, and gets
//! it in the same step in which that comes: so whatever fills `source` needs the destination's shard
//! at hand. If the two keys live on different shards, they are *coupled* as long as the client waits:
//! commands that write to `source` go over both shards ([`super::Route::Across`]), whoever sends them.
//!
//! Every worker routes by a table of its own ([`Couplings`]). A wait begins only in a cut that was made
//! after every worker had heard of its coupling ([`Announcements`]), so that nothing that was routed
//! without knowing of it takes a place behind the beginning of the wait.
//!
//! An element that arrives may serve a client that moves it further. What is needed is therefore all
//! that can be reached from the keys that a command writes ([`Couplings::reach`]).
//!
//! Invariants:
//! - a worker that has heard of a coupling has nothing packed that was routed before and has not taken
//!   its place, but for units over shards that are lent, which are looked at again when they execute;
//! - a coupling is ended only when nobody waits by it, and whoever begins to wait after that
//!   announces it anew;
//! - to have more in the table than is waited for costs time, and nothing else.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    mem,
    sync::Arc,
};

use ahash::RandomState;
use tessera_proto::Args;

use super::{Route, ShardMap, ShardSet, parts::Splitter};
use crate::{
    command::{Command, table::flag, waiting::transfer},
    notice::hasher,
    shard::Call,
    waiting::Waiter,
};

/// Two keys on different shards: what comes to the source may be moved to the destination at once.
/// Databases do not matter: a coupling holds for all of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// From where a client that waits moves an element.
    pub source: Arc<[u8]>,
    /// To where.
    pub destination: Arc<[u8]>,
}

impl Pair {
    /// What has to be coupled before `call`, which has found nothing, may wait; nothing if one shard
    /// owns all that it needs.
    pub fn of(call: &Call<'_>, map: ShardMap) -> Option<Self> {
        let (source, destination) = transfer(call.command, &call.args)?;
        let is_spread = map.owner(source) != map.owner(destination);
        is_spread.then(|| Self { source: source.into(), destination: destination.into() })
    }

    /// The same for one that has begun to wait.
    pub fn of_waiter(waiter: &Waiter) -> Option<Self> {
        let (source, destination) = waiter.transfer()?;
        let is_spread = waiter.is_spread();
        is_spread.then(|| Self { source: source.into(), destination: destination.into() })
    }
}

/// What a worker tells all workers, itself included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A coupling begins. As often as this is said it must be ended.
    Begins(Pair),
    /// It has ended.
    Ended(Pair),
}

/// The couplings that a worker has heard of.
pub struct Couplings {
    /// By source: the destinations, and how many workers have coupled them.
    destinations: HashMap<Arc<[u8]>, BTreeMap<Arc<[u8]>, usize>, RandomState>,
    /// A planted fault: what is reached in more than one step is overlooked.
    #[cfg(test)]
    pub(crate) one_step_only: bool,
}

impl Couplings {
    /// None. The hash function follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            destinations: HashMap::with_hasher(hasher(seed)),
            #[cfg(test)]
            one_step_only: false,
        }
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.destinations.is_empty()
    }

    /// Takes note of a change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Begins(Pair { source, destination }) => {
                let destinations = self.destinations.entry(Arc::clone(source)).or_default();
                *destinations.entry(Arc::clone(destination)).or_default() += 1;
            }
            Change::Ended(Pair { source, destination }) => {
                let Some(destinations) = self.destinations.get_mut(source) else { return };
                if let Some(count) = destinations.get_mut(destination) {
                    *count -= 1;
                    if *count == 0 {
                        destinations.remove(destination);
                    }
                }
                if destinations.is_empty() {
                    self.destinations.remove(source);
                }
            }
        }
    }

    /// The shards to which elements may go on from `keys`.
    pub fn reach<'k>(&self, map: ShardMap, keys: impl IntoIterator<Item = &'k [u8]>) -> ShardSet {
        let mut reached = ShardSet::default();
        let mut seen: HashSet<&[u8]> = HashSet::new();
        let mut next: Vec<&[u8]> = Vec::new();
        for key in keys {
            next.extend(self.destinations.get_key_value(key).map(|(key, _)| &**key));
        }
        while let Some(source) = next.pop() {
            if !seen.insert(source) {
                continue;
            }
            for destination in self.destinations.get(source).into_iter().flat_map(BTreeMap::keys) {
                reached.insert(map.owner(destination));
                next.push(destination);
            }
            #[cfg(test)]
            if self.one_step_only {
                next.clear();
            }
        }
        reached
    }

    /// The shards to which elements may go on from what a command writes.
    pub fn reached_by(
        &self,
        map: ShardMap,
        command: &Command,
        args: &Args<'_>,
        positions: &mut Vec<usize>,
    ) -> ShardSet {
        if self.is_empty() || !command.flags.has(flag::WRITE) {
            return ShardSet::default();
        }
        positions.clear();
        match command.keys.positions(args, positions) {
            Ok(()) if positions.is_empty() => self.reach_of_all(map),
            Ok(()) => self.reach(map, positions.iter().map(|&at| &args[at])),
            // The command finds the same fault, and writes nothing.
            Err(_) => ShardSet::default(),
        }
    }

    /// A command that names no keys (SWAPDB) may fill any.
    fn reach_of_all(&self, map: ShardMap) -> ShardSet {
        let all = self.destinations.values().flat_map(BTreeMap::keys);
        all.map(|destination| map.owner(destination)).collect()
    }

    /// Where a command goes that would go to `route` if nothing were coupled.
    #[cold]
    pub fn route(
        &self,
        map: ShardMap,
        (command, args, route): (&Command, &Args<'_>, Route),
        splitter: &mut Splitter,
        positions: &mut Vec<usize>,
    ) -> Route {
        let reached = self.reached_by(map, command, args, positions);
        if reached.is_empty() || matches!(route, Route::Session | Route::Script | Route::Across) {
            return route;
        }
        let mut needed = match route {
            Route::Shard(shard) => [shard].into_iter().collect(),
            _ => splitter.shards(map, command, args).unwrap_or_default(),
        };
        // In parts, one would fill a key without the other at hand.
        needed.extend(reached);
        if needed.len() > 1 { Route::Across } else { route }
    }
}

/// What one worker has announced, and what waits for its being heard.
pub struct Announcements<T> {
    /// The own couplings.
    pairs: HashMap<Pair, Coupled>,
    /// What the next announcement says.
    changes: Vec<Change>,
    /// What waits for the next announcement to be heard.
    waiting: Vec<T>,
    /// What waits for the one under way.
    under_way: Vec<T>,
    /// How many workers have not heard the one under way; none is if this is 0.
    unheard: usize,
    /// Announcements begun.
    begun: u64,
    /// Announcements that all have heard.
    heard: u64,
}

/// One coupling of a worker's own.
struct Coupled {
    /// The announcement that says so.
    announced: u64,
    /// Own clients that wait by it.
    waiters: usize,
    /// It had none when idle ones were last looked for.
    is_idle: bool,
}

impl<T> Default for Announcements<T> {
    fn default() -> Self {
        Self {
            pairs: HashMap::new(),
            changes: Vec::new(),
            waiting: Vec::new(),
            under_way: Vec::new(),
            unheard: 0,
            begun: 0,
            heard: 0,
        }
    }
}

impl<T> Announcements<T> {
    /// How many announcements all workers have heard: to be read before a cut is made, for
    /// [`Announcements::begin_wait`].
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// One more client waits by `pair`, if all workers had heard of that before a cut was made when as
    /// many announcements as `heard` were; answers whether that is so. If not, `pair` must be
    /// announced ([`Announcements::announce`]), and the command tried again in a later cut.
    pub fn begin_wait(&mut self, pair: &Pair, heard: u64) -> bool {
        match self.pairs.get_mut(pair) {
            Some(coupled) if coupled.announced <= heard => {
                coupled.waiters += 1;
                coupled.is_idle = false;
                true
            }
            _ => false,
        }
    }

    /// A client that has begun to wait by `pair` does so no more.
    pub fn end_wait(&mut self, pair: &Pair) {
        if let Some(coupled) = self.pairs.get_mut(pair) {
            coupled.waiters -= 1;
        }
    }

    /// Announces `pair`, if that has not been done. Gives `then` back if all workers have heard of it
    /// already; else it comes back from [`Announcements::hear`] when they have.
    #[must_use]
    pub fn announce(&mut self, pair: Pair, then: T) -> Option<T> {
        let next = self.begun + 1;
        let announced = match self.pairs.get(&pair) {
            Some(coupled) => coupled.announced,
            None => {
                self.changes.push(Change::Begins(pair.clone()));
                self.pairs.insert(pair, Coupled { announced: next, waiters: 0, is_idle: false });
                next
            }
        };
        if announced <= self.heard {
            return Some(then);
        }
        let line = if announced == next { &mut self.waiting } else { &mut self.under_way };
        line.push(then);
        None
    }

    /// Ends the couplings by which nobody has waited since the last call. A client that waits again and
    /// again, as those of queues do, finds its coupling still there.
    pub fn end_idle(&mut self) {
        let Self { pairs, changes, heard, .. } = self;
        pairs.retain(|pair, coupled| {
            if coupled.waiters > 0 || coupled.announced > *heard {
                return true;
            }
            if mem::replace(&mut coupled.is_idle, true) {
                changes.push(Change::Ended(pair.clone()));
                return false;
            }
            true
        });
    }

    /// Whether something is to be announced, and can be.
    #[inline]
    pub fn is_due(&self) -> bool {
        !self.changes.is_empty() && self.unheard == 0
    }

    /// Whether no coupling is known or waited for.
    pub fn is_idle(&self) -> bool {
        self.pairs.is_empty() && self.changes.is_empty()
    }

    /// Begins the announcement that is due; answers what is to be told to all of `workers` workers, who
    /// answer each.
    pub fn begin(&mut self, workers: usize) -> Arc<[Change]> {
        debug_assert!(self.is_due() && self.under_way.is_empty());
        self.begun += 1;
        self.unheard = workers;
        mem::swap(&mut self.waiting, &mut self.under_way);
        mem::take(&mut self.changes).into()
    }

    /// One worker more has heard the announcement under way. With the last one, what has waited for it
    /// comes back.
    pub fn hear(&mut self) -> Vec<T> {
        self.unheard -= 1;
        if self.unheard > 0 {
            return Vec::new();
        }
        self.heard = self.begun;
        mem::take(&mut self.under_way)
    }
}

#[cfg(test)]
mod tests {
    use tessera_proto::RequestBatch;

    use super::*;
    use crate::command::table;

    /// Of 4 shards, b and f are on shard 0, c on 1, a on 3.
    fn pair(source: &str, destination: &str) -> Pair {
        Pair { source: source.as_bytes().into(), destination: destination.as_bytes().into() }
    }

    fn begins(source: &str, destination: &str) -> Change {
        Change::Begins(pair(source, destination))
    }

    fn route(couplings: &Couplings, line: &str) -> (Route, Vec<u32>) {
        let mut batch = RequestBatch::new();
        batch.push_slices(line.split(' ').map(str::as_bytes));
        let args = batch.get(0).expect("one request");
        let command = table().resolve(&args).expect("a command");
        let (map, mut positions) = (ShardMap::new(4), Vec::new());
        let route = map.route(command, &args, &mut positions).expect("a route");
        let reached = couplings.reached_by(map, command, &args, &mut positions);
        let call = (command, &args, route);
        let route = couplings.route(map, call, &mut Splitter::default(), &mut positions);
        (route, reached.iter().collect())
    }

    #[test]
    fn what_fills_a_coupled_key_goes_over_the_shards_that_its_elements_may_reach() {
        let mut couplings = Couplings::new(1);
        assert_eq!(route(&couplings, "RPUSH a x"), (Route::Shard(3), vec![]));
        couplings.apply(&begins("a", "b"));
        couplings.apply(&begins("b", "c"));
        couplings.apply(&begins("c", "a"));
        assert_eq!(route(&couplings, "RPUSH a x"), (Route::Across, vec![0, 1, 3]));
        assert_eq!(route(&couplings, "LLEN a"), (Route::Shard(3), vec![]), "it fills nothing");
        assert_eq!(route(&couplings, "RPUSH f x"), (Route::Shard(0), vec![]));
        assert_eq!(route(&couplings, "MSET a 1 f 2").0, Route::Across);
        assert_eq!(route(&couplings, "MSET f 2 x 3").0, Route::Parts);
        assert_eq!(route(&couplings, "SWAPDB 0 1").0, Route::Across);
        couplings.apply(&Change::Ended(pair("b", "c")));
        assert_eq!(route(&couplings, "RPUSH a x"), (Route::Across, vec![0]));
    }

    #[test]
    fn a_coupling_of_two_workers_ends_with_the_second() {
        let mut couplings = Couplings::new(1);
        couplings.apply(&begins("a", "b"));
        couplings.apply(&begins("a", "b"));
        couplings.apply(&Change::Ended(pair("a", "b")));
        assert!(!couplings.is_empty());
        couplings.apply(&Change::Ended(pair("a", "b")));
        assert!(couplings.is_empty());
    }

    #[test]
    fn nobody_waits_before_all_have_heard() {
        let mut announcements = Announcements::default();
        let ab = pair("a", "b");
        assert!(!announcements.begin_wait(&ab, announcements.heard()));
        assert_eq!(announcements.announce(ab.clone(), "first"), None);
        assert!(announcements.is_due());
        assert_eq!(&*announcements.begin(2), [Change::Begins(ab.clone())]);
        let heard_too_early = announcements.heard();
        assert_eq!(announcements.announce(ab.clone(), "second"), None);
        assert_eq!(announcements.announce(pair("b", "c"), "third"), None);
        assert!(!announcements.is_due(), "one is under way");
        assert!(announcements.hear().is_empty());
        assert_eq!(announcements.hear(), ["first", "second"]);
        assert!(!announcements.begin_wait(&ab, heard_too_early), "its cut was too early");
        assert_eq!(announcements.announce(ab.clone(), "again"), Some("again"));
        assert!(announcements.begin_wait(&ab, announcements.heard()));
        assert!(announcements.is_due());
        announcements.begin(1);
        assert_eq!(announcements.hear(), ["third"]);
    }

    #[test]
    fn a_coupling_ends_when_nobody_has_waited_by_it_for_a_while() {
        let mut announcements = Announcements::default();
        let ab = pair("a", "b");
        assert_eq!(announcements.announce(ab.clone(), ()), None);
        announcements.begin(1);
        announcements.end_idle();
        announcements.end_idle();
        assert!(!announcements.is_due(), "not before it was heard");
        announcements.hear();
        assert!(announcements.begin_wait(&ab, announcements.heard()));
        announcements.end_idle();
        announcements.end_idle();
        announcements.end_wait(&ab);
        announcements.end_idle();
        assert!(announcements.begin_wait(&ab, announcements.heard()), "it was there still");
        announcements.end_wait(&ab);
        announcements.end_idle();
        assert!(!announcements.is_due());
        announcements.end_idle();
        assert!(!announcements.begin_wait(&ab, announcements.heard()));
        assert_eq!(&*announcements.begin(1), [Change::Ended(ab)]);
        announcements.hear();
        assert!(announcements.is_idle());
    }
}
