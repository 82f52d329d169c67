//! What stands between MULTI and EXEC, and between WATCH and EXEC.
//!
//! A client's commands are queued as they came ([`Queue`]); its watched keys are remembered here with
//! the mark that shards set when one of them changes ([`Watch`]). EXEC takes both along as one
//! [`Transaction`] to where it is executed: over shards that are at hand ([`Gathered`]), at one
//! instant.
//!
//! Invariants:
//! - the decision whether a watched key has changed is made where the commands are executed, behind
//!   everything that came before on every shard of a watched key;
//! - a watched key whose deadline has passed by then has changed, as it would for a reader.
#![forbid(unsafe_code)]

use tessera_proto::{Args, RequestBatch};

use super::{Gathered, ShardMap, ShardSet};
use crate::{
    command::{Command, Flags},
    keyspace::watch::Watcher,
};

/// The commands of a client in MULTI.
#[derive(Default)]
pub struct Queue {
    requests: RequestBatch,
    rows: Vec<&'static Command>,
    flags: u32,
    is_aborted: bool,
}

impl Queue {
    /// Adds a command. In a transaction that is aborted already it is dropped.
    pub fn push(&mut self, command: &'static Command, args: &Args<'_>) {
        if !self.is_aborted {
            self.requests.push(args);
            self.rows.push(command);
            self.flags |= command.flags.0;
        }
    }

    /// A command could not be queued: EXEC will refuse the whole.
    pub fn abort(&mut self) {
        *self = Self { is_aborted: true, ..Self::default() };
    }

    /// Whether EXEC refuses it.
    pub fn is_aborted(&self) -> bool {
        self.is_aborted
    }

    /// How many commands are queued.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no command is queued.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The flags that any of the commands has.
    pub fn flags(&self) -> Flags {
        Flags(self.flags)
    }

    /// Bytes that the queued arguments take.
    pub fn memory_bytes(&self) -> usize {
        self.requests.len_bytes() + self.rows.len() * size_of::<&Command>()
    }

    /// Command number `at` with its arguments.
    pub fn get(&self, at: usize) -> Option<(&'static Command, Args<'_>)> {
        Some((*self.rows.get(at)?, self.requests.get(at)?))
    }

    /// The commands in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Command, Args<'_>)> {
        self.rows.iter().copied().zip(self.requests.iter())
    }
}

/// The keys that a client watches.
#[derive(Default)]
pub struct Watch {
    watcher: Watcher,
    keys: Vec<(u32, Box<[u8]>)>,
}

impl Watch {
    /// The mark that shards set.
    pub fn watcher(&self) -> &Watcher {
        &self.watcher
    }

    /// Whether a watched key is known to have changed.
    pub fn is_dirty(&self) -> bool {
        self.watcher.is_dirty()
    }

    /// How many keys are watched.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is watched.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Remembers a key; answers whether it was not watched yet.
    pub fn add(&mut self, database: u32, key: &[u8]) -> bool {
        let is_known = self.keys.iter().any(|(of, known)| *of == database && **known == *key);
        if !is_known {
            self.keys.push((database, key.into()));
        }
        !is_known
    }

    /// The shards that own the keys.
    pub fn shards(&self, map: ShardMap) -> ShardSet {
        self.keys.iter().map(|(_, key)| map.owner(key)).collect()
    }
}

/// What EXEC executes.
#[derive(Default)]
pub struct Transaction {
    /// The commands.
    pub queue: Queue,
    /// The keys that must not have changed.
    pub watch: Watch,
}

impl Transaction {
    /// Whether no watched key has changed; their shards are all in `gathered`. From then on they are
    /// watched no more, so that the transaction's own writes do not count.
    pub fn begin(&self, gathered: &mut Gathered) -> bool {
        let map = gathered.map();
        for (database, key) in &self.watch.keys {
            let Some(shard) = gathered.get_mut(map.owner(key)) else { continue };
            shard.keyspace.select(*database as usize, true);
            // To look for a key past its deadline removes it, and that is a change.
            shard.keyspace.contains(key);
            shard.keyspace.unwatch(*database as usize, key, &self.watch.watcher);
        }
        !self.watch.is_dirty()
    }
}

#[cfg(test)]
mod tests {
    use tessera_proto::{Protocol, ReplyBuffer};

    use super::*;
    use crate::{
        command::table,
        shard::{Call, Caller, Settings, Shard},
    };

    const NOW_US: i64 = 1_700_000_000_000_000;

    /// Two shards that are at hand; of these, b and c are on shard 0, a on 1.
    fn gathered() -> Gathered {
        let mut gathered = Gathered::new(ShardMap::new(2), 1);
        (0..2).for_each(|id| {
            gathered.put(id, Box::new(Shard::new(id.into(), Settings::default())));
        });
        gathered.align_clocks(NOW_US);
        gathered
    }

    fn run(gathered: &mut Gathered, line: &str) {
        let mut batch = RequestBatch::new();
        batch.push_slices(line.split(' ').map(str::as_bytes));
        let args = batch.get(0).expect("one request");
        let command = table().resolve(&args).expect("a command");
        let (protocol, caller) = (Protocol::Resp2, Caller::default());
        let call = Call { command, args, database: 0, protocol, no_touch: false, caller };
        let executed = gathered.execute(&call, &mut ReplyBuffer::new());
        assert!(matches!(executed, Ok(Ok(_))), "{line}");
    }

    fn watching(gathered: &mut Gathered, keys: &[&str]) -> Transaction {
        let mut transaction = Transaction::default();
        for key in keys {
            assert!(transaction.watch.add(0, key.as_bytes()));
            assert!(!transaction.watch.add(0, key.as_bytes()));
            let owner = gathered.map().owner(key.as_bytes());
            let shard = gathered.get_mut(owner).expect("it is here");
            shard.keyspace.watch(0, key.as_bytes(), transaction.watch.watcher());
        }
        transaction
    }

    /// Whether a transaction that watches `keys`, after `before` was executed, still holds when
    /// `after` has been, and `wait_ms` have passed.
    fn holds(before: &[&str], keys: &[&str], after: &[&str], wait_ms: i64) -> bool {
        let mut gathered = gathered();
        before.iter().for_each(|line| run(&mut gathered, line));
        let transaction = watching(&mut gathered, keys);
        after.iter().for_each(|line| run(&mut gathered, line));
        gathered.align_clocks(NOW_US + wait_ms * 1000);
        let holds = transaction.begin(&mut gathered);
        gathered.iter_mut().for_each(|(_, shard)| {
            assert!(shard.keyspace.watched() == 0, "keys stay watched");
        });
        holds
    }

    #[test]
    fn a_transaction_holds_until_a_watched_key_changes() {
        assert!(holds(&["SET a 1"], &["a", "b"], &["GET a", "SET c 2", "DEL b"], 0));
        assert!(!holds(&["SET a 1"], &["a", "b"], &["SET a 1"], 0));
        assert!(!holds(&[], &["a", "b"], &["SADD b x"], 0));
        assert!(!holds(&["SET a 1"], &["a"], &["EXPIRE a 100"], 0));
    }

    #[test]
    fn keys_that_are_worked_on_at_another_shard_are_watched_all_the_same() {
        assert!(!holds(&["SET a 1"], &["a"], &["RENAME a b"], 0));
        assert!(!holds(&["SET a 1"], &["b"], &["RENAME a b"], 0));
        assert!(!holds(&["SADD a x", "SADD b y"], &["c"], &["SUNIONSTORE c a b"], 0));
        assert!(holds(&["SADD a x", "SADD b y"], &["a", "b"], &["SUNIONSTORE c a b"], 0));
    }

    #[test]
    fn a_key_that_expires_has_changed() {
        assert!(!holds(&["SET a 1 PX 10"], &["a"], &[], 20));
        assert!(holds(&["SET a 1 PX 30"], &["a"], &[], 20));
    }

    #[test]
    fn flushing_changes_the_keys_that_were_there() {
        for flush in ["FLUSHALL", "FLUSHDB"] {
            assert!(!holds(&["SET a 1"], &["a", "b"], &[flush], 0));
            assert!(holds(&["SET a 1"], &["b"], &[flush], 0));
        }
        assert!(!holds(&["SET a 1"], &["a"], &["SWAPDB 0 1"], 0));
        assert!(!holds(&["SET a 1", "SWAPDB 0 1"], &["a"], &["SWAPDB 1 0"], 0));
        assert!(holds(&["SET a 1"], &["b"], &["SWAPDB 0 1"], 0));
    }

    #[test]
    fn an_aborted_queue_keeps_nothing() {
        let mut queue = Queue::default();
        let mut batch = RequestBatch::new();
        batch.push_slices([&b"PING"[..]]);
        let args = batch.get(0).expect("one request");
        let ping = table().resolve(&args).expect("a command");
        queue.push(ping, &args);
        assert_eq!((queue.len(), queue.is_aborted()), (1, false));
        queue.abort();
        queue.push(ping, &args);
        assert_eq!((queue.len(), queue.is_aborted(), queue.memory_bytes()), (0, true, 0));
    }
}
