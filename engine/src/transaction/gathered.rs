//! Shards that one thread holds for a moment, to execute commands over their keys as one step.
//!
//! Commands over keys of several shards (RENAME, SUNIONSTORE), transactions and scripts are executed
//! by one worker, their *host*, to which the shards concerned are lent whole. What runs here needs no
//! message to reach a key, and nobody else can see a shard meanwhile: so whatever is done between
//! two moves of shards is atomic and isolated.
//!
//! A call goes the way that it would go over all workers ([`ShardMap::route`]): to the one shard that
//! owns its keys; in parts ([`super::parts`]) to several; and if its keys must be worked on together,
//! the keys of other shards are moved into the shard of its first key, the command executes there,
//! and they are moved back.
//!
//! Invariants:
//! - a call that needs a shard which is not here changes nothing and says which ([`Missing`]), so its
//!   caller can start over with more shards;
//! - keys that only the elements of a SORT name are moved like those that its arguments name;
//! - between two calls every key is in the shard that owns it;
//! - the shards' clocks agree ([`Gathered::align_clocks`]) while calls are executed, so that a key that
//!   is moved cannot expire on the way.
#![forbid(unsafe_code)]

mod waiters;

use tessera_proto::{Args, ReplyBuffer, ReplyWriter};

use super::{Route, ShardId, ShardMap, ShardSet, parts::Splitter};
use crate::{
    command::{Command, CommandError, Effect, sort, table::flag},
    keyspace::{awaited::DatabaseKey, events::Event},
    persist::state::record_state,
    shard::{Call, Caller, Shard},
    sys::random::Random,
};

/// What a call needs and is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// This shard.
    Shard(ShardId),
    /// Some shard, for a call that concerns all of them.
    All,
}

/// What a call came to: the command's own outcome (its reply is written in either case), unless a
/// shard is missing and nothing has happened.
pub type Executed = Result<Result<Effect, CommandError>, Missing>;

/// Some shards of a server, or all.
pub struct Gathered {
    map: ShardMap,
    shards: Vec<Option<Box<Shard>>>,
    positions: Vec<usize>,
    splitter: Splitter,
    /// Replies of parts, kept for their memory.
    replies: Vec<ReplyBuffer>,
    /// For RANDOMKEY.
    random: Random,
    /// Awaited keys that have changed, in the order of the changes.
    ready: Vec<(ShardId, DatabaseKey)>,
}

impl Gathered {
    /// No shards yet, of those that `map` knows.
    pub fn new(map: ShardMap, seed: u64) -> Self {
        Self {
            map,
            shards: (0..map.shards()).map(|_| None).collect(),
            positions: Vec::new(),
            splitter: Splitter::default(),
            replies: Vec::new(),
            random: Random::from_seed(seed),
            ready: Vec::new(),
        }
    }

    /// Which shard owns what.
    pub fn map(&self) -> ShardMap {
        self.map
    }

    /// Adds a shard.
    ///
    /// # Panics
    ///
    /// When it is here already.
    pub fn put(&mut self, id: ShardId, mut shard: Box<Shard>) {
        shard.begin_unit();
        let before = self.shards[id as usize].replace(shard);
        assert!(before.is_none(), "shard {id} was lent twice");
    }

    /// Takes a shard out, if it is here. Those who wait for keys of it have been served (see
    /// [`Gathered::serve_waiters`]).
    pub fn take(&mut self, id: ShardId) -> Option<Box<Shard>> {
        let mut shard = self.shards[id as usize].take()?;
        shard.end_unit();
        Some(shard)
    }

    /// A shard that is here.
    pub fn get(&self, id: ShardId) -> Option<&Shard> {
        self.shards.get(id as usize)?.as_deref()
    }

    /// A shard that is here, to be changed.
    pub fn get_mut(&mut self, id: ShardId) -> Option<&mut Shard> {
        self.shards.get_mut(id as usize)?.as_deref_mut()
    }

    /// The shards that are here, in ascending order of their numbers.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ShardId, &mut Shard)> {
        let numbered = (0..).zip(&mut self.shards);
        numbered.filter_map(|(id, shard)| Some((id, shard.as_deref_mut()?)))
    }

    /// Whether no shard is here.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(Option::is_none)
    }

    /// Whether all of these shards are here.
    pub fn has(&self, shards: ShardSet) -> bool {
        shards.iter().all(|shard| self.get(shard).is_some())
    }

    /// Moves the time of all shards here on to the latest that one of them, or the caller, knows.
    /// It stands still until the next call of this.
    pub fn align_clocks(&mut self, now_us: i64) {
        let times = self.shards.iter().flatten().map(|shard| shard.keyspace.clock().now_us());
        let latest = times.fold(now_us, i64::max);
        self.iter_mut().for_each(|(_, shard)| shard.advance_clock_us(latest));
    }

    /// The shards that a call concerns. A call whose arguments name no keys concerns one shard, and
    /// any will do: shard 0 is named.
    ///
    /// # Errors
    ///
    /// The arguments do not say where the keys are.
    pub fn concerned(
        &mut self,
        command: &Command,
        args: &Args<'_>,
    ) -> Result<ShardSet, CommandError> {
        match self.map.route(command, args, &mut self.positions)? {
            Route::Shard(shard) => Ok([shard].into_iter().collect()),
            Route::Session => Ok(ShardSet::default()),
            Route::Parts | Route::Across | Route::Script => {
                self.splitter.shards(self.map, command, args)
            }
        }
    }

    /// Executes one call and appends its reply to `out`.
    ///
    /// # Errors
    ///
    /// A shard that the call needs is not here; nothing has been done or written.
    ///
    /// # Panics
    ///
    /// When the command is not the engine's.
    pub fn execute(&mut self, call: &Call<'_>, out: &mut ReplyBuffer) -> Executed {
        let executed = self.execute_routed(call, out);
        self.note_ready();
        executed
    }

    fn execute_routed(&mut self, call: &Call<'_>, out: &mut ReplyBuffer) -> Executed {
        match self.map.route(call.command, &call.args, &mut self.positions) {
            Ok(Route::Shard(id)) => {
                let shard = self.get_mut(id).ok_or(Missing::Shard(id))?;
                Ok(shard.execute(call, out))
            }
            Ok(Route::Parts) => self.execute_parts(call, out),
            Ok(Route::Across) => self.execute_together(call, out),
            Ok(Route::Session | Route::Script) => {
                panic!("'{}' does not run on a shard", call.command.full_name)
            }
            Err(error) => Ok(refuse(call, error, out)),
        }
    }

    /// Executes a call in parts.
    fn execute_parts(&mut self, call: &Call<'_>, out: &mut ReplyBuffer) -> Executed {
        let concerned = match self.splitter.shards(self.map, call.command, &call.args) {
            Ok(concerned) => concerned,
            Err(error) => return Ok(refuse(call, error, out)),
        };
        self.require(concerned)?;
        let Self { map, shards, splitter, replies, random, .. } = self;
        let (mut count, mut changes) = (0, 0);
        let draw = || random.next_u64();
        let merge =
            splitter.split(*map, call.command, &call.args, draw, &mut |id, command, args| {
                if replies.len() == count {
                    replies.push(ReplyBuffer::new());
                }
                let reply = &mut replies[count];
                reply.clear();
                count += 1;
                let part = Call { command, args: *args, ..*call };
                let shard = shards[id as usize].as_deref_mut();
                // The part's error is its reply.
                if let Some(Ok(Effect::Changed(number))) = shard.map(|it| it.execute(&part, reply))
                {
                    changes += number;
                }
            });
        match merge {
            Ok(merge) => merge.finish(&replies[..count], call.protocol, out),
            Err(error) => return Ok(refuse(call, error, out)),
        }
        Ok(Ok(Effect::count(changes)))
    }

    /// Executes a call whose keys on several shards must be worked on together.
    fn execute_together(&mut self, call: &Call<'_>, out: &mut ReplyBuffer) -> Executed {
        self.positions.clear();
        let found = call.command.keys.positions(&call.args, &mut self.positions);
        debug_assert!(found.is_ok(), "a call that was routed has keys");
        let mut keys: Vec<(ShardId, &[u8])> = self
            .positions
            .iter()
            .map(|&at| (self.map.owner(&call.args[at]), &call.args[at]))
            .collect();
        let home = keys[0].0;
        let mut named = Vec::new();
        if self.map.reaches_beyond(call.command, &call.args, home) {
            self.require(ShardSet::all(self.map.shards()))?;
            if let Some(shard) = self.get_mut(home) {
                shard.keyspace.select(call.database as usize, true);
                named = sort::named_keys(&mut shard.keyspace, &call.args);
            }
            keys.extend(named.iter().map(|key| (self.map.owner(key), key.as_slice())));
        }
        self.require(keys.iter().map(|&(owner, _)| owner).collect())?;
        if keys.iter().all(|&(owner, _)| owner == home) {
            let shard = self.get_mut(home).ok_or(Missing::Shard(home))?;
            return Ok(shard.execute(call, out));
        }
        let guests = || keys.iter().filter(|&&(owner, _)| owner != home);
        for &(owner, key) in guests() {
            self.move_key(key, owner, home);
        }
        let is_observed = self.is_observed();
        let outcome = self.shards[home as usize].as_deref_mut().map(|it| {
            // What is recorded is what the keys become, each in the journal of its own shard. Own
            // keys past their deadline go first, as those of others have when they were moved.
            for &(_, key) in keys.iter().filter(|&&(owner, _)| owner == home) {
                (0..it.keyspace.database_count()).for_each(|at| _ = it.keyspace.slot_of(at, key));
            }
            let was_on = it.keyspace.journal.suspend();
            let outcome = execute_for_guests(it, call, is_observed, out);
            it.keyspace.journal.resume(was_on);
            outcome
        });
        for &(owner, key) in guests() {
            self.move_key(key, home, owner);
        }
        let (outcome, events) = outcome.ok_or(Missing::Shard(home))?;
        if let Ok(Effect::Changed(_) | Effect::Waits(1..)) = outcome {
            // Keys that only a pattern names are read.
            self.record_states(call, &keys[..self.positions.len()]);
        }
        self.report_at_home(call, &keys, events);
        Ok(outcome)
    }

    /// Whether anybody listens to keys of the shards that are here.
    fn is_observed(&self) -> bool {
        self.shards.iter().flatten().any(|shard| shard.keyspace.events.is_observed())
    }

    /// Reports what happened to keys, and that they were read, where each of them lives: there it is
    /// known who listens.
    fn report_at_home(&mut self, call: &Call<'_>, keys: &[(ShardId, &[u8])], events: Vec<Event>) {
        let Caller { client, caches, .. } = call.caller;
        for event in events {
            let owner = self.map.owner(&event.key);
            if let Some(shard) = self.get_mut(owner) {
                let told = &mut shard.keyspace.events;
                told.set_cause(Some(client));
                told.report(event.class, event.name, event.database as usize, &event.key);
            }
        }
        if caches && call.command.flags.has(flag::READONLY) {
            for &(owner, key) in keys {
                if let Some(shard) = self.get_mut(owner) {
                    shard.remember_read(key, client);
                }
            }
        }
    }

    /// Records what a call has made of the keys that it may have changed. Keys that it only reads
    /// are as they were: those past their deadline were recorded as deleted when they were moved,
    /// or when they were looked for.
    fn record_states(&mut self, call: &Call<'_>, keys: &[(ShardId, &[u8])]) {
        let writes = |nth: usize| call.command.keys.access(&call.args, nth).writes();
        // XREADGROUP changes what its groups know of the keys, which Redis does not call a write.
        let any = !(0..keys.len()).any(writes);
        let changed = (0..).zip(keys).filter(|&(nth, _)| any || writes(nth));
        for (_, &(owner, key)) in changed {
            let Some(shard) = self.shards[owner as usize].as_deref_mut() else { continue };
            // COPY may name another database than the connection's.
            let databases = match call.command.full_name {
                "copy" => 0..shard.keyspace.database_count(),
                _ => call.database as usize..call.database as usize + 1,
            };
            databases.for_each(|database| record_state(&mut shard.keyspace, database, key));
        }
    }

    /// Moves `key` from one shard to another in all databases, with all that belongs to it, those who
    /// watch it too. Nobody hears of it: the key is only a guest there, or comes home.
    fn move_key(&mut self, key: &[u8], from: ShardId, to: ShardId) {
        let Ok([Some(from), Some(to)]) = self.shards.get_disjoint_mut([from as usize, to as usize])
        else {
            return;
        };
        for database in 0..from.keyspace.database_count() {
            if from.keyspace.len(database) > 0
                && let Some(held) = from.keyspace.take(database, key)
            {
                to.keyspace.put(database, key, held);
            }
            if from.keyspace.events.is_watched()
                && let Some(watchers) = from.keyspace.events.take_watchers(database, key)
            {
                to.keyspace.events.put_watchers(database, key, watchers);
            }
        }
    }

    /// That all of these shards are here.
    fn require(&self, shards: ShardSet) -> Result<(), Missing> {
        if self.has(shards) {
            return Ok(());
        }
        if shards == ShardSet::all(self.map.shards()) {
            return Err(Missing::All);
        }
        let missing = shards.iter().find(|&shard| self.get(shard).is_none());
        Err(missing.map_or(Missing::All, Missing::Shard))
    }
}

/// Executes a call on a shard where keys of other shards are guests; what happens to keys is not told
/// there, but answered, if anybody wants to know.
fn execute_for_guests(
    shard: &mut Shard,
    call: &Call<'_>,
    is_observed: bool,
    out: &mut ReplyBuffer,
) -> (Result<Effect, CommandError>, Vec<Event>) {
    let caller = Caller { caches: false, ..call.caller };
    if is_observed {
        shard.keyspace.events.overhear();
    }
    let outcome = shard.execute(&Call { caller, ..*call }, out);
    (outcome, shard.keyspace.events.end_overhearing())
}

/// Answers a call with an error before it reaches a shard.
fn refuse(
    call: &Call<'_>,
    error: CommandError,
    out: &mut ReplyBuffer,
) -> Result<Effect, CommandError> {
    ReplyWriter::new(out, call.protocol).error(&error.to_string());
    Err(error)
}

#[cfg(test)]
mod tests {
    use tessera_proto::{Protocol, RequestBatch};

    use super::*;
    use crate::{
        command::table,
        journal::record::Record,
        keyspace::events::Class,
        notice::{Client, Notice, audience::Kind},
        persist::replay::Replay,
        shard::Settings,
    };

    const NOW_US: i64 = 1_700_000_000_000_000;

    fn gathered(shards: usize, here: impl IntoIterator<Item = ShardId>) -> Gathered {
        let mut gathered = Gathered::new(ShardMap::new(shards), 1);
        for id in here {
            gathered.put(id, Box::new(Shard::new(id.into(), Settings::default())));
        }
        gathered.align_clocks(NOW_US);
        gathered
    }

    /// Executes a line; answers its reply, or what is missing.
    fn run(gathered: &mut Gathered, line: &str) -> Result<String, Missing> {
        run_as(gathered, line, Caller::default())
    }

    fn run_as(gathered: &mut Gathered, line: &str, caller: Caller) -> Result<String, Missing> {
        let mut batch = RequestBatch::new();
        batch.push_slices(line.split(' ').map(str::as_bytes));
        let args = batch.get(0).expect("one request");
        let command = table().resolve(&args).expect("a command");
        let protocol = Protocol::Resp2;
        let call = Call { command, args, database: 0, protocol, no_touch: false, caller };
        let mut out = ReplyBuffer::new();
        let _ = gathered.execute(&call, &mut out)?;
        Ok(String::from_utf8(out.to_vec()).unwrap())
    }

    /// Every key is where it belongs, and every shard is sound.
    fn check(gathered: &mut Gathered) {
        let map = gathered.map();
        for (id, shard) in gathered.iter_mut() {
            shard.check();
            shard.keyspace.select(0, false);
            shard.keyspace.for_each(|entry| assert_eq!(map.owner(entry.key()), id));
        }
    }

    #[test]
    fn keys_of_several_shards_are_worked_on_together_and_go_home() {
        let mut all = gathered(4, 0..4);
        for (line, reply) in [
            ("SADD a 1 2 3", ":3\r\n"),
            ("SADD b 3 4", ":2\r\n"),
            ("SUNIONSTORE c a b", ":4\r\n"),
            ("SINTERSTORE a a b", ":1\r\n"),
            ("SMEMBERS a", "*1\r\n$1\r\n3\r\n"),
            ("RENAME a f", "+OK\r\n"),
            ("EXISTS a b c f f", ":4\r\n"),
            ("RENAME nothing x", "-ERR no such key\r\n"),
            ("DBSIZE", ":3\r\n"),
        ] {
            assert_eq!(run(&mut all, line).as_deref(), Ok(reply), "{line}");
            check(&mut all);
        }
    }

    /// Does in empty shards, one each, what the journals say.
    fn repeated(all: &mut Gathered, shards: u32) -> Gathered {
        let mut again = gathered(shards as usize, 0..shards);
        let (mut replay, mut spans) = (Replay::default(), Vec::new());
        for id in 0..shards {
            let shard = all.get_mut(id).expect("all are here");
            while let Some(chunk) = shard.keyspace.journal.take_until(u64::MAX) {
                let mut rest = chunk.bytes.as_slice();
                while !rest.is_empty() {
                    let (record, len) = Record::read(rest, &mut spans).expect("a record");
                    let target = again.get_mut(id).expect("all are here");
                    replay.apply(target, &record).expect("it can be done again");
                    rest = &rest[len..];
                }
            }
        }
        again
    }

    #[test]
    fn each_shard_records_what_its_own_keys_have_become() {
        let mut all = gathered(4, 0..4);
        all.iter_mut().for_each(|(_, shard)| shard.keyspace.journal.start(0, 1, 0));
        for line in [
            "SADD a 1 2 3",
            "SADD b 3 4",
            "SUNIONSTORE c a b",
            "SINTERSTORE d a c",
            "SDIFFSTORE b a a",
            "RENAME a f",
            "COPY c g",
            "COPY c f DB 3 REPLACE",
            "SMOVE c g 4",
            "RPUSH l 1 2 3",
            "LMOVE l m LEFT RIGHT",
            "RPOPLPUSH l m",
            "RPOPLPUSH l m",
            "MSETNX x 1 y 2 z 3",
            "MSET x 2 y 3",
            "EXPIRE x 100",
            "RENAME x w",
            "XADD s 1-0 f v",
            "XADD t 2-0 f v",
            "XGROUP CREATE s group 0",
            "XGROUP CREATE t group 0",
            "XREADGROUP GROUP group me STREAMS s t > >",
        ] {
            assert!(run(&mut all, line).is_ok(), "{line}");
        }
        let mut again = repeated(&mut all, 4);
        for line in [
            "KEYS *",
            "SMEMBERS c",
            "SMEMBERS d",
            "SMEMBERS f",
            "SMEMBERS g",
            "LRANGE l 0 -1",
            "LRANGE m 0 -1",
            "MGET x y z w",
            "EXISTS a b l",
            "PEXPIRETIME w",
            "XPENDING s group",
            "XPENDING t group",
        ] {
            assert_eq!(
                run(&mut again, line).map(sorted),
                run(&mut all, line).map(sorted),
                "{line}"
            );
        }
        for (id, shard) in again.iter_mut() {
            let origin = all.get(id).expect("all are here");
            assert_eq!(shard.keyspace.len(3), origin.keyspace.len(3), "database 3");
        }
        check(&mut again);
    }

    /// The lines of a reply in an order that does not depend on hashes.
    fn sorted(reply: String) -> Vec<String> {
        let mut lines: Vec<String> = reply.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[test]
    fn what_happens_to_guests_is_told_by_their_own_shards() {
        let mut all = gathered(4, 0..4);
        let map = all.map();
        let client = Client { worker: 0, connection: 7 };
        for (_, shard) in all.iter_mut() {
            let notify = Class::GENERIC | Class::NEW | Class::KEYEVENT;
            shard.configure(Settings { notify, ..Settings::default() });
            shard.keyspace.events.track(client, std::iter::empty());
            shard.keyspace.audience_mut().subscribe(Kind::Pattern, &"*".into(), client);
        }
        assert_ne!(map.owner(b"a"), map.owner(b"b"));
        run(&mut all, "SET a 1").unwrap();
        all.get_mut(map.owner(b"b")).unwrap().remember_read(b"b", client);
        run(&mut all, "RENAME a b").unwrap();
        let mut told = Vec::new();
        for (id, shard) in all.iter_mut() {
            for (_, notice) in shard.keyspace.take_notices() {
                told.push(match notice {
                    Notice::Message(message) => {
                        let [channel, key] = [message.channel, message.payload]
                            .map(|text| String::from_utf8_lossy(&text).into_owned());
                        assert_eq!(id, map.owner(key.as_bytes()));
                        format!("{} {key}", channel.trim_start_matches("__keyevent@0__:"))
                    }
                    Notice::Stale(stale) => format!("stale {:?}", stale.keys[0].0),
                    Notice::AllStale => panic!("all"),
                });
            }
        }
        told.sort();
        let expected = ["new a", "new b", "rename_from a", "rename_to b", "stale [98]"];
        assert_eq!(told, expected);
        run_as(
            &mut all,
            "SDIFF x b c",
            Caller { client, caches: true, may_wait: false, is_script: false },
        )
        .unwrap();
        for (id, shard) in all.iter_mut() {
            let own = [b"x", b"b", b"c"].into_iter().filter(|&key| map.owner(key) == id).count();
            assert_eq!(shard.keyspace.events.tracking.keys(), own);
        }
    }

    #[test]
    fn commands_in_parts_answer_as_one() {
        let mut all = gathered(4, 0..4);
        for (line, reply) in [
            ("MSET a 1 b 2 c 3 a 4", "+OK\r\n"),
            ("MGET c a nothing b", "*4\r\n$1\r\n3\r\n$1\r\n4\r\n$-1\r\n$1\r\n2\r\n"),
            ("DEL a nothing c", ":2\r\n"),
            ("KEYS *", "*1\r\n$1\r\nb\r\n"),
            ("RANDOMKEY", "$1\r\nb\r\n"),
            ("SCAN x", "-ERR invalid cursor\r\n"),
            ("FLUSHALL", "+OK\r\n"),
            ("DBSIZE", ":0\r\n"),
        ] {
            assert_eq!(run(&mut all, line).as_deref(), Ok(reply), "{line}");
            check(&mut all);
        }
    }

    #[test]
    fn a_shard_that_is_missing_is_named_and_nothing_happens() {
        // Of 4 shards, b and f are on shard 0, c on 1, a on 3.
        let mut some = gathered(4, [0, 1]);
        assert_eq!(run(&mut some, "SET b 1").as_deref(), Ok("+OK\r\n"));
        assert_eq!(run(&mut some, "SET a 1"), Err(Missing::Shard(3)));
        assert_eq!(run(&mut some, "MSET b 2 a 2"), Err(Missing::Shard(3)));
        assert_eq!(run(&mut some, "RENAME b a"), Err(Missing::Shard(3)));
        assert_eq!(run(&mut some, "FLUSHALL"), Err(Missing::All));
        assert_eq!(run(&mut some, "GET b").as_deref(), Ok("$1\r\n1\r\n"));
        assert_eq!(run(&mut some, "RENAME b c").as_deref(), Ok("+OK\r\n"));
        check(&mut some);
    }

    #[test]
    fn a_sort_reaches_keys_of_all_shards() {
        let mut all = gathered(4, 0..4);
        for (line, reply) in [
            ("RPUSH l 1 2 3 2", ":4\r\n"),
            ("MSET w1 9 w2 8 w3 7 n1 a n2 b n3 c", "+OK\r\n"),
            ("SORT l BY w* GET n*", "*4\r\n$1\r\nc\r\n$1\r\nb\r\n$1\r\nb\r\n$1\r\na\r\n"),
            ("SORT_RO l BY w* LIMIT 0 1", "*1\r\n$1\r\n3\r\n"),
            ("SORT l BY w* GET n* STORE d", ":4\r\n"),
            ("LRANGE d 0 0", "*1\r\n$1\r\nc\r\n"),
            ("DBSIZE", ":8\r\n"),
        ] {
            assert_eq!(run(&mut all, line).as_deref(), Ok(reply), "{line}");
            check(&mut all);
        }
        let mut some = gathered(4, [1]);
        assert_eq!(run(&mut some, "SORT c BY w*"), Err(Missing::All));
        assert_eq!(run(&mut some, "SORT c").as_deref(), Ok("*0\r\n"));
    }

    #[test]
    fn deadlines_move_with_their_keys() {
        let mut all = gathered(4, 0..4);
        run(&mut all, "SET a 1 PX 1000").unwrap();
        run(&mut all, "RENAME a b").unwrap();
        assert_eq!(run(&mut all, "PTTL b").as_deref(), Ok(":1000\r\n"));
        all.align_clocks(NOW_US + 1_000_000);
        assert_eq!(run(&mut all, "RENAME b c").as_deref(), Ok("-ERR no such key\r\n"));
    }
}
