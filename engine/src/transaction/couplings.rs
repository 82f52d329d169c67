//! What must be at hand when a key is filled for which clients wait.
//!
//! Most waiters need nothing but the shard of their key. One whose keys live on several shards needs
//! all of them in the instant in which it is served:
//!
//! - `BLMOVE source destination` is owed the next element of `source`, and moves it in the same step
//!   in which that comes, before anybody else reaches it;
//! - `BLPOP high low` is served by the first push to either. Each shard by itself could not know
//!   whether a push that stands earlier in the one order is still to come to the other; a client that
//!   pipelines `RPUSH high a; RPUSH low b` would see `b` go first.
//!
//! So while such a command waits its keys are *coupled* ([`Coupling`]): commands that write to an
//! awaited key go over all shards of the coupling ([`super::Route::Across`]), whoever sends them. They
//! take their places in cuts then, and whom they serve is served within.
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
    command::{
        Command,
        table::flag,
        waiting::{awaited_keys, transfer},
    },
    notice::hasher,
    shard::Call,
};

/// The keys of a command that waits, if they live on several shards. Databases do not matter: a
/// coupling holds for all of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Coupling(Arc<Keys>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Keys {
    /// Those that are waited for, in ascending order.
    awaited: Vec<Box<[u8]>>,
    /// Where an element is moved to, if one is.
    destination: Option<Box<[u8]>>,
}

impl Coupling {
    /// What has to be coupled before `call`, which has found nothing, may wait; nothing if one shard
    /// owns all its keys.
    pub fn of(call: &Call<'_>, map: ShardMap) -> Option<Self> {
        let mut positions = Vec::new();
        awaited_keys(call.command, &call.args, &mut positions);
        let mut awaited: Vec<&[u8]> = positions.iter().map(|&at| &call.args[at]).collect();
        awaited.sort_unstable();
        awaited.dedup();
        let destination = transfer(call.command, &call.args).map(|(_, to)| to);
        let mut owners = awaited.iter().copied().chain(destination).map(|key| map.owner(key));
        let first = owners.next()?;
        if owners.all(|owner| owner == first) {
            return None;
        }
        let awaited = awaited.into_iter().map(Box::from).collect();
        Some(Self(Arc::new(Keys { awaited, destination: destination.map(Box::from) })))
    }

    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.0.awaited.iter().chain(&self.0.destination).map(|key| &**key)
    }
}

/// What a worker tells all workers, itself included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A coupling begins. As often as this is said it must be ended.
    Begins(Coupling),
    /// It has ended.
    Ended(Coupling),
}

/// The couplings that a worker has heard of.
pub struct Couplings {
    /// By each awaited key, with the number of workers that have coupled it.
    of_keys: HashMap<Box<[u8]>, BTreeMap<Coupling, usize>, RandomState>,
    /// A planted fault: what is reached in more than one step is overlooked.
    #[cfg(test)]
    pub(crate) one_step_only: bool,
}

impl Couplings {
    /// None. The hash function follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            of_keys: HashMap::with_hasher(hasher(seed)),
            #[cfg(test)]
            one_step_only: false,
        }
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.of_keys.is_empty()
    }

    /// Takes note of a change.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Begins(coupling) => {
                for key in &coupling.0.awaited {
                    let couplings = self.of_keys.entry(key.clone()).or_default();
                    *couplings.entry(coupling.clone()).or_default() += 1;
                }
            }
            Change::Ended(coupling) => {
                coupling.0.awaited.iter().for_each(|key| self.end(key, coupling));
            }
        }
    }

    fn end(&mut self, key: &[u8], coupling: &Coupling) {
        let Some(couplings) = self.of_keys.get_mut(key) else { return };
        if let Some(count) = couplings.get_mut(coupling) {
            *count -= 1;
            if *count == 0 {
                couplings.remove(coupling);
            }
        }
        if couplings.is_empty() {
            self.of_keys.remove(key);
        }
    }

    /// The shards that serving those needs who wait for `keys`, and for what that fills.
    pub fn reach<'k>(&self, map: ShardMap, keys: impl IntoIterator<Item = &'k [u8]>) -> ShardSet {
        let mut reached = ShardSet::default();
        let mut seen: HashSet<&[u8]> = HashSet::new();
        let known = |key: &[u8]| self.of_keys.get_key_value(key).map(|(key, _)| &**key);
        let mut next: Vec<&[u8]> = keys.into_iter().filter_map(known).collect();
        while let Some(key) = next.pop() {
            if !seen.insert(key) {
                continue;
            }
            for coupling in self.of_keys.get(key).into_iter().flat_map(BTreeMap::keys) {
                reached.extend(coupling.keys().map(|key| map.owner(key)).collect());
                next.extend(coupling.0.destination.as_deref());
            }
            #[cfg(test)]
            if self.one_step_only {
                next.clear();
            }
        }
        reached
    }

    /// The same for what a command writes.
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
        let all = self.of_keys.values().flat_map(BTreeMap::keys);
        all.flat_map(Coupling::keys).map(|key| map.owner(key)).collect()
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
    couplings: HashMap<Coupling, Coupled>,
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
            couplings: HashMap::new(),
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

    /// One more client waits by `coupling`, if all workers had heard of that before a cut was made when as
    /// many announcements as `heard` were; answers whether that is so. If not, it must be
    /// announced ([`Announcements::announce`]), and the command tried again in a later cut.
    pub fn begin_wait(&mut self, coupling: &Coupling, heard: u64) -> bool {
        match self.couplings.get_mut(coupling) {
            Some(coupled) if coupled.announced <= heard => {
                coupled.waiters += 1;
                coupled.is_idle = false;
                true
            }
            _ => false,
        }
    }

    /// A client that has begun to wait by `coupling` does so no more.
    pub fn end_wait(&mut self, coupling: &Coupling) {
        if let Some(coupled) = self.couplings.get_mut(coupling) {
            coupled.waiters -= 1;
        }
    }

    /// Announces `coupling`, if that has not been done. Gives `then` back if all workers have heard of it
    /// already; else it comes back from [`Announcements::hear`] when they have.
    #[must_use]
    pub fn announce(&mut self, coupling: Coupling, then: T) -> Option<T> {
        let next = self.begun + 1;
        let announced = match self.couplings.get(&coupling) {
            Some(coupled) => coupled.announced,
            None => {
                self.changes.push(Change::Begins(coupling.clone()));
                self.couplings
                    .insert(coupling, Coupled { announced: next, waiters: 0, is_idle: false });
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
        let Self { couplings, changes, heard, .. } = self;
        couplings.retain(|coupling, coupled| {
            if coupled.waiters > 0 || coupled.announced > *heard {
                return true;
            }
            if mem::replace(&mut coupled.is_idle, true) {
                changes.push(Change::Ended(coupling.clone()));
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
        self.couplings.is_empty() && self.changes.is_empty()
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
    use tessera_proto::{Protocol, RequestBatch};

    use super::*;
    use crate::{command::table, shard::Caller};

    fn request(line: &str) -> RequestBatch {
        let mut batch = RequestBatch::new();
        batch.push_slices(line.split(' ').map(str::as_bytes));
        batch
    }

    /// Of 4 shards, b and f are on shard 0, c on 1, a on 3.
    fn coupling(line: &str) -> Option<Coupling> {
        let batch = request(line);
        let args = batch.get(0).expect("one request");
        let command = table().resolve(&args).expect("a command");
        let (protocol, caller) = (Protocol::Resp2, Caller::default());
        let call = Call { command, args, database: 0, protocol, no_touch: false, caller };
        Coupling::of(&call, ShardMap::new(4))
    }

    fn moves(source: &str, destination: &str) -> Coupling {
        let line = format!("BLMOVE {source} {destination} LEFT LEFT 0");
        coupling(&line).expect("they are on different shards")
    }

    fn begins(source: &str, destination: &str) -> Change {
        Change::Begins(moves(source, destination))
    }

    fn route(couplings: &Couplings, line: &str) -> (Route, Vec<u32>) {
        let batch = request(line);
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
        couplings.apply(&Change::Ended(moves("b", "c")));
        assert_eq!(route(&couplings, "RPUSH a x"), (Route::Across, vec![0, 3]));
    }

    #[test]
    fn keys_that_one_client_awaits_are_coupled_with_each_other() {
        assert_eq!(coupling("BLPOP b f 0"), None, "they are on one shard");
        let both = coupling("BLPOP c b c 0").expect("they are on two");
        assert_eq!(Some(&both), coupling("BRPOP b c 0").as_ref());
        let mut couplings = Couplings::new(1);
        couplings.apply(&Change::Begins(both.clone()));
        couplings.apply(&begins("a", "b"));
        assert_eq!(route(&couplings, "RPUSH b x"), (Route::Across, vec![0, 1]));
        assert_eq!(route(&couplings, "RPUSH c x"), (Route::Across, vec![0, 1]));
        assert_eq!(route(&couplings, "RPUSH a x"), (Route::Across, vec![0, 1, 3]));
        couplings.apply(&Change::Ended(both));
        assert_eq!(route(&couplings, "RPUSH c x"), (Route::Shard(1), vec![]));
        assert_eq!(route(&couplings, "RPUSH a x"), (Route::Across, vec![0, 3]));
    }

    #[test]
    fn a_coupling_of_two_workers_ends_with_the_second() {
        let mut couplings = Couplings::new(1);
        couplings.apply(&begins("a", "b"));
        couplings.apply(&begins("a", "b"));
        couplings.apply(&Change::Ended(moves("a", "b")));
        assert!(!couplings.is_empty());
        couplings.apply(&Change::Ended(moves("a", "b")));
        assert!(couplings.is_empty());
    }

    #[test]
    fn nobody_waits_before_all_have_heard() {
        let mut announcements = Announcements::default();
        let ab = moves("a", "b");
        assert!(!announcements.begin_wait(&ab, announcements.heard()));
        assert_eq!(announcements.announce(ab.clone(), "first"), None);
        assert!(announcements.is_due());
        assert_eq!(&*announcements.begin(2), [Change::Begins(ab.clone())]);
        let heard_too_early = announcements.heard();
        assert_eq!(announcements.announce(ab.clone(), "second"), None);
        assert_eq!(announcements.announce(moves("b", "c"), "third"), None);
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
        let ab = moves("a", "b");
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
