//! From a command to the shards that own its keys.
//!
//! slot = CRC16(key, or its `{tag}`) mod 16384, as in Redis Cluster; every shard owns a contiguous
//! range of slots, so that keys with one tag are always on one shard.
#![forbid(unsafe_code)]

use std::ops::RangeInclusive;

use tessera_proto::{Args, key_slot};

use super::{SHARDS_MAX, ShardId};
use crate::command::{Command, CommandError, Way, sort, table::flag};

/// Number of slots, fixed by Redis Cluster.
pub const SLOTS: u32 = 16_384;

/// How many shards there are, and which one owns what.
#[derive(Clone, Copy, Debug)]
pub struct ShardMap {
    shards: u32,
}

/// Where a command goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Executed by the connection's worker.
    Session,
    /// Whole to one shard.
    Shard(ShardId),
    /// In parts to several shards, as the row's [`Way`] says (see [`super::parts`]).
    Parts,
    /// Whole, but with keys on several shards, which are gathered for it (see [`super::gathered`]).
    Across,
    /// To the script engine of the connection's worker, with the shards of its keys (see
    /// [`crate::script`]).
    Script,
}

impl ShardMap {
    /// A map over `shards` shards, 1 to [`SHARDS_MAX`].
    pub fn new(shards: usize) -> Self {
        Self { shards: shards.clamp(1, SHARDS_MAX) as u32 }
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.shards as usize
    }

    /// The shard that owns `key`.
    #[inline]
    pub fn owner(&self, key: &[u8]) -> ShardId {
        if self.shards == 1 { 0 } else { self.owner_of_slot(u32::from(key_slot(key))) }
    }

    #[inline]
    fn owner_of_slot(&self, slot: u32) -> ShardId {
        slot * self.shards / SLOTS
    }

    /// The slots that `shard` owns.
    pub fn slots_of(&self, shard: ShardId) -> RangeInclusive<u16> {
        let first = |shard: u32| (shard * SLOTS).div_ceil(self.shards);
        first(shard) as u16..=(first(shard + 1) - 1) as u16
    }

    /// Where `args`, a call of `command` with an admitted number of arguments, goes. `positions` is
    /// scratch space.
    ///
    /// # Errors
    ///
    /// The arguments do not say where the keys are (a wrong `numkeys`), or lack a value that
    /// belongs to a key.
    #[inline]
    pub fn route(
        &self,
        command: &Command,
        args: &Args<'_>,
        positions: &mut Vec<usize>,
    ) -> Result<Route, CommandError> {
        match command.way {
            Way::Session => return Ok(Route::Session),
            Way::Script => return Ok(Route::Script),
            Way::Waiting => return Ok(self.route_waiting(command, args, positions)),
            _ => {}
        }
        if self.shards == 1 {
            return Ok(Route::Shard(0));
        }
        if let Some(at) = command.keys.single() {
            return Ok(Route::Shard(self.owner(&args[at])));
        }
        self.route_many(command, args, positions)
    }

    /// A command that may wait is a matter for the shards of its keys together, even if it is one.
    #[cold]
    fn route_waiting(
        &self,
        command: &Command,
        args: &Args<'_>,
        positions: &mut Vec<usize>,
    ) -> Route {
        positions.clear();
        match command.keys.positions(args, positions) {
            Ok(()) if !positions.is_empty() => Route::Across,
            // The command itself finds the same fault, and words it in its own way.
            _ => Route::Shard(0),
        }
    }

    fn route_many(
        &self,
        command: &Command,
        args: &Args<'_>,
        positions: &mut Vec<usize>,
    ) -> Result<Route, CommandError> {
        match command.way {
            Way::SumOfShards | Way::AllShardsOk | Way::JoinOfShards | Way::RandomShard => {
                return Ok(Route::Parts);
            }
            Way::Cursor => return Ok(Route::Parts),
            // The row makes sure that there is a channel.
            Way::Channel => return Ok(Route::Shard(self.owner(&args[1]))),
            _ => {}
        }
        positions.clear();
        if let Err(error) = command.keys.positions(args, positions) {
            // The command itself finds the same fault, and words it in its own way.
            return if command.way == Way::Owner { Ok(Route::Shard(0)) } else { Err(error) };
        }
        let Some((&first, rest)) = positions.split_first() else {
            return Ok(Route::Shard(0));
        };
        let owner = self.owner(&args[first]);
        if self.reaches_beyond(command, args, owner) {
            return Ok(Route::Across);
        }
        if rest.iter().all(|&at| self.owner(&args[at]) == owner) {
            return Ok(Route::Shard(owner));
        }
        // A last key without its value: refused whole, before a part of the command has run.
        let step = usize::try_from(command.keys.as_redis().2).unwrap_or(0);
        if positions.last().is_some_and(|last| last + step > args.len()) {
            return Err(CommandError::WrongArity { command: command.full_name.into() });
        }
        Ok(match command.way {
            Way::SumOfKeys | Way::EachKey | Way::AllKeysOk => Route::Parts,
            _ => Route::Across,
        })
    }
}

impl ShardMap {
    /// Whether the patterns of a SORT may name keys of other shards than `owner`.
    pub(super) fn reaches_beyond(
        &self,
        command: &Command,
        args: &Args<'_>,
        owner: ShardId,
    ) -> bool {
        command.way == Way::Owner
            && command.flags.has(flag::TOUCHES_ARBITRARY_KEYS)
            && sort::reaches_beyond(args, |name| self.owner(name) == owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_owns_one_contiguous_range_of_about_the_same_size() {
        for shards in [1, 2, 3, 4, 7, 64] {
            let map = ShardMap::new(shards);
            let owners: Vec<u32> = (0..SLOTS).map(|slot| map.owner_of_slot(slot)).collect();
            assert!(owners.is_sorted());
            assert_eq!((owners[0], owners[SLOTS as usize - 1]), (0, shards as u32 - 1));
            for shard in 0..shards as u32 {
                let size = owners.iter().filter(|&&owner| owner == shard).count();
                assert!(size.abs_diff(SLOTS as usize / shards) <= 1, "{shards} shards: {size}");
                let slots = map.slots_of(shard);
                assert_eq!(slots.len(), size);
                assert!(slots.into_iter().all(|slot| owners[usize::from(slot)] == shard));
            }
        }
    }

    #[test]
    fn a_key_without_its_value_is_refused_before_it_is_split() {
        let map = ShardMap::new(16);
        let route = |line: &str| {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            let mut batch = tessera_proto::RequestBatch::new();
            batch.push_slices(words);
            let args = batch.get(0).expect("one request");
            let command = crate::command::table().resolve(&args).expect("a command");
            map.route(command, &args, &mut Vec::new()).map_err(|error| error.to_string())
        };
        assert_eq!(route("MSET a 1 b 2 c 3"), Ok(Route::Parts));
        for name in ["mset", "msetnx"] {
            let error = format!("ERR wrong number of arguments for '{name}' command");
            assert_eq!(route(&format!("{name} a 1 b 2 c")), Err(error));
        }
    }

    #[test]
    fn keys_with_one_tag_are_on_one_shard() {
        let map = ShardMap::new(16);
        assert_eq!(map.owner(b"{user:7}:name"), map.owner(b"{user:7}:mail"));
    }
}
