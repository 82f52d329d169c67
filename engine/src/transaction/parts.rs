//! Splits a command over several shards into independent parts, one a shard.
//!
//! MSET's part for a shard is an MSET of the keys that the shard owns; DBSIZE's part is DBSIZE
//! itself. The row's [`Way`] says how; [`Merge`] says how the replies of the parts become one. The
//! parts are independent of each other, so they may run at the same time, and if nothing stands
//! between them in the order (the server's cut, or shards that are gathered) the command is atomic.
//!
//! Invariants:
//! - parts are given out in ascending order of their shards, RANDOMKEY's two for a shard together;
//! - each key of the command is in just one part, in the order in which the command names the keys
//!   (so the last of two values for one key in MSET wins).
#![forbid(unsafe_code)]

use tessera_proto::{Args, RequestBatch, Span};

use super::{
    ShardId, ShardMap, ShardSet,
    merge::{Merge, inner_cursor},
};
use crate::command::{Command, CommandError, Way, generic::parse_cursor, table};

/// Splits commands; keeps its scratch space from one to the next.
#[derive(Debug, Default)]
pub struct Splitter {
    /// Where the command's keys stand.
    positions: Vec<usize>,
    /// Who owns them.
    owners: Vec<ShardId>,
    spans: Vec<Span>,
    made_up: RequestBatch,
}

impl Splitter {
    /// The shards that a command concerns: what [`split`](Self::split) gives parts to, or what has
    /// to be gathered.
    ///
    /// # Errors
    ///
    /// The arguments do not say where the keys are, or a cursor is none.
    pub fn shards(
        &mut self,
        map: ShardMap,
        command: &Command,
        args: &Args<'_>,
    ) -> Result<ShardSet, CommandError> {
        match command.way {
            Way::SumOfShards | Way::AllShardsOk | Way::JoinOfShards | Way::RandomShard => {
                Ok(ShardSet::all(map.shards()))
            }
            Way::Cursor => {
                let (shard, _) = inner_cursor(outer_cursor(args)?, map.shards() as u32);
                Ok([shard].into_iter().collect())
            }
            Way::Owner
            | Way::Waiting
            | Way::SumOfKeys
            | Way::EachKey
            | Way::AllKeysOk
            | Way::Script => {
                self.find(map, command, args)?;
                match self.owners.first() {
                    Some(&owner) if map.reaches_beyond(command, args, owner) => {
                        Ok(ShardSet::all(map.shards()))
                    }
                    _ => Ok(self.owners.iter().copied().collect()),
                }
            }
            Way::Channel => Ok([map.owner(&args[1])].into_iter().collect()),
            Way::Session => Ok(ShardSet::default()),
        }
    }

    /// Finds the keys and their owners.
    fn find(
        &mut self,
        map: ShardMap,
        command: &Command,
        args: &Args<'_>,
    ) -> Result<(), CommandError> {
        self.positions.clear();
        self.owners.clear();
        command.keys.positions(args, &mut self.positions)?;
        self.owners.extend(self.positions.iter().map(|&at| map.owner(&args[at])));
        Ok(())
    }

    /// Gives each part to `give`, with its shard and its row. `draw` makes a random number for
    /// RANDOMKEY.
    ///
    /// # Errors
    ///
    /// As [`shards`](Self::shards); then nothing has been given.
    ///
    /// # Panics
    ///
    /// When the row's way is not one in parts.
    pub fn split(
        &mut self,
        map: ShardMap,
        command: &'static Command,
        args: &Args<'_>,
        draw: impl FnOnce() -> u64,
        give: &mut dyn FnMut(ShardId, &'static Command, &Args<'_>),
    ) -> Result<Merge, CommandError> {
        let shards = map.shards() as u32;
        match command.way {
            Way::SumOfShards | Way::AllShardsOk | Way::JoinOfShards => {
                (0..shards).for_each(|shard| give(shard, command, args));
            }
            Way::Cursor => return self.split_cursor(shards, command, args, give),
            Way::RandomShard => {
                self.split_random(shards, command, give);
                return Ok(Merge::Random { draw: draw() });
            }
            Way::EachKey | Way::SumOfKeys | Way::AllKeysOk => {
                self.find(map, command, args)?;
                let concerned = self.split_by_owner(command, args, give);
                if command.way == Way::EachKey {
                    let part_of = |&owner: &ShardId| concerned.rank(owner) as u16;
                    return Ok(Merge::Elements {
                        order: self.owners.iter().map(part_of).collect(),
                    });
                }
            }
            Way::Owner | Way::Waiting | Way::Channel | Way::Session | Way::Script => {
                unreachable!("'{}' is not sent in parts", command.full_name)
            }
        }
        Ok(match command.way {
            Way::SumOfShards | Way::SumOfKeys => Merge::Sum,
            Way::JoinOfShards => Merge::Join,
            _ => Merge::AllOk,
        })
    }

    /// Gives the keys of a command that is the server's own (WATCH) to their owners, in the way of
    /// [`split`](Self::split).
    pub fn split_keys(
        &mut self,
        map: ShardMap,
        command: &'static Command,
        args: &Args<'_>,
        give: &mut dyn FnMut(ShardId, &Args<'_>),
    ) {
        if self.find(map, command, args).is_ok() {
            self.split_by_owner(command, args, &mut |shard, _, args| give(shard, args));
        }
    }

    /// One part for each owner, with all its keys and what belongs to each (MSET's values) in order.
    fn split_by_owner(
        &mut self,
        command: &'static Command,
        args: &Args<'_>,
        give: &mut dyn FnMut(ShardId, &'static Command, &Args<'_>),
    ) -> ShardSet {
        let step = command.keys.as_redis().2.max(1) as usize;
        let concerned: ShardSet = self.owners.iter().copied().collect();
        for shard in concerned.iter() {
            self.spans.clear();
            args.select(0, &mut self.spans);
            let keys = self.positions.iter().zip(&self.owners);
            for (&at, _) in keys.filter(|&(_, &owner)| owner == shard) {
                for value in at..(at + step).min(args.len()) {
                    args.select(value, &mut self.spans);
                }
            }
            give(shard, command, &args.with_spans(&self.spans));
        }
        concerned
    }

    /// SCAN: the one shard that the cursor names, with the cursor of that shard.
    fn split_cursor(
        &mut self,
        shards: u32,
        command: &'static Command,
        args: &Args<'_>,
        give: &mut dyn FnMut(ShardId, &'static Command, &Args<'_>),
    ) -> Result<Merge, CommandError> {
        let (shard, internal) = inner_cursor(outer_cursor(args)?, shards);
        self.made_up.clear();
        self.made_up.add(args, 0);
        self.made_up.add_slice(internal.to_string().as_bytes());
        (2..args.len()).for_each(|at| self.made_up.add(args, at));
        self.made_up.end_request();
        if let Some(args) = self.made_up.get(0) {
            give(shard, command, &args);
        }
        Ok(Merge::Cursor { shard, shards })
    }

    /// RANDOMKEY: every shard's number of keys and a random one of them.
    fn split_random(
        &mut self,
        shards: u32,
        command: &'static Command,
        give: &mut dyn FnMut(ShardId, &'static Command, &Args<'_>),
    ) {
        let size = table().find(b"dbsize").unwrap_or(command);
        self.made_up.clear();
        self.made_up.push_slices([size.name.as_bytes()]);
        self.made_up.push_slices([command.name.as_bytes()]);
        for shard in 0..shards {
            for (row, args) in [size, command].into_iter().zip(self.made_up.iter()) {
                give(shard, row, &args);
            }
        }
    }
}

/// SCAN's cursor.
fn outer_cursor(args: &Args<'_>) -> Result<u64, CommandError> {
    parse_cursor(args.get(1).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parts of a command over 4 shards, as shard and line, and how they are merged.
    fn parts(line: &str) -> Result<(Vec<(ShardId, String)>, Merge), CommandError> {
        let mut batch = RequestBatch::new();
        batch.push_slices(line.split(' ').map(str::as_bytes));
        let args = batch.get(0).expect("one request");
        let command = table().resolve(&args)?;
        let mut given = Vec::new();
        let (map, mut splitter) = (ShardMap::new(4), Splitter::default());
        let shards = splitter.shards(map, command, &args)?;
        let merge = splitter.split(map, command, &args, || 9, &mut |shard, row, args| {
            let words: Vec<_> = args.iter().map(String::from_utf8_lossy).collect();
            assert!(words[0].eq_ignore_ascii_case(row.name));
            given.push((shard, words.join(" ")));
        })?;
        assert!(given.is_sorted_by_key(|&(shard, _)| shard));
        assert_eq!(shards, given.iter().map(|&(shard, _)| shard).collect());
        Ok((given, merge))
    }

    #[test]
    fn every_key_goes_to_its_owner_with_what_belongs_to_it() {
        // Of 4 shards, b and f are on shard 0, a on 3, c on 1.
        let (given, merge) = parts("MSET a 1 b 2 f 3 a 4 c 5").unwrap();
        let expected = [(0, "MSET b 2 f 3"), (1, "MSET c 5"), (3, "MSET a 1 a 4")];
        assert_eq!(given, expected.map(|(shard, line)| (shard, line.to_owned())));
        assert_eq!(merge, Merge::AllOk);
    }

    #[test]
    fn elements_remember_which_part_has_them() {
        let (given, merge) = parts("MGET a b c f").unwrap();
        let expected = [(0, "MGET b f"), (1, "MGET c"), (3, "MGET a")];
        assert_eq!(given, expected.map(|(shard, line)| (shard, line.to_owned())));
        assert_eq!(merge, Merge::Elements { order: vec![2, 0, 1, 0] });
    }

    #[test]
    fn a_scan_goes_to_the_shard_that_its_cursor_names() {
        let (given, merge) = parts("SCAN 30 COUNT 5").unwrap();
        assert_eq!(given, [(2, "SCAN 7 COUNT 5".to_owned())]);
        assert_eq!(merge, Merge::Cursor { shard: 2, shards: 4 });
        assert_eq!(parts("SCAN x").unwrap_err().to_string(), "ERR invalid cursor");
    }

    #[test]
    fn what_concerns_all_keys_goes_to_all_shards() {
        let (given, merge) = parts("FLUSHALL ASYNC").unwrap();
        assert_eq!(given.len(), 4);
        assert!(given.iter().all(|(_, line)| line == "FLUSHALL ASYNC"));
        assert_eq!(merge, Merge::AllOk);
        assert_eq!(parts("DBSIZE").unwrap().1, Merge::Sum);
        assert_eq!(parts("KEYS *").unwrap().1, Merge::Join);
        let (given, merge) = parts("RANDOMKEY").unwrap();
        assert_eq!((given.len(), merge), (8, Merge::Random { draw: 9 }));
    }
}
