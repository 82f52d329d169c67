//! Recording what a key has become, for changes that no record of one shard's commands can describe:
//! those that were made of keys of several shards.
#![forbid(unsafe_code)]

use super::rdb::{
    encode::{Encoder, Options},
    payload::dump,
};
use crate::keyspace::Keyspace;

/// Records in the keyspace's own journal what `key` of `database` holds now, or that it is gone.
pub fn record_state(keyspace: &mut Keyspace, database: usize, key: &[u8]) {
    if !keyspace.journal.is_on() {
        return;
    }
    let state = keyspace.slot_of(database, key).into_view().map(|entry| {
        let payload = dump(&mut Encoder::new(Options::default()), &entry.body());
        (payload, entry.deadline().unwrap_or(0))
    });
    match state {
        None => keyspace.journal.record_gone(database, key),
        Some((payload, deadline)) => {
            let mut digits = itoa::Buffer::new();
            let at = digits.format(deadline).as_bytes();
            let record: [&[u8]; 6] = [b"RESTORE", key, at, &payload, b"REPLACE", b"ABSTTL"];
            keyspace.journal.record_state(database, &record);
        }
    }
}

/// Records in the keyspace's own journal that it holds what it holds now, whatever it held before.
pub fn record_all(keyspace: &mut Keyspace) {
    if !keyspace.journal.is_on() {
        return;
    }
    keyspace.journal.record_aside(0, &[b"FLUSHALL"]);
    for database in 0..keyspace.database_count() {
        keyspace.select(database, true);
        let mut keys = Vec::new();
        keyspace.for_each(|entry| keys.push(entry.key().to_vec()));
        keys.iter().for_each(|key| record_state(keyspace, database, key));
    }
}

#[cfg(test)]
mod tests {
    use crate::{command::testing::Bench, journal::record::Record, persist::replay::Replay};

    use super::*;

    #[test]
    fn the_state_of_a_key_is_repeated_elsewhere() {
        let mut bench = Bench::new();
        bench.run("RPUSH k a b c");
        bench.run("PEXPIREAT k 1800000000000");
        bench.shard.keyspace.journal.start(0, 1, 0);
        record_state(&mut bench.shard.keyspace, 0, b"k");
        record_state(&mut bench.shard.keyspace, 0, b"none");
        bench.run("SET own 1");
        let chunk = bench.shard.keyspace.journal.take_until(1).expect("records");
        let mut other = Bench::new();
        for line in ["SET k old", "SET none old"] {
            other.run(line);
        }
        replay(&chunk.bytes, &mut other);
        assert_eq!(other.contents(), bench.contents());
        assert_eq!(chunk.last_sequence, 3);
    }

    #[test]
    fn the_state_of_all_keys_takes_the_place_of_what_was_there() {
        let mut bench = Bench::new();
        bench.run("SET a 1");
        bench.database = 2;
        bench.run("HSET b f v");
        bench.shard.keyspace.journal.start(0, 1, 0);
        record_all(&mut bench.shard.keyspace);
        let chunk = bench.shard.keyspace.journal.take_until(1).expect("records");
        let mut other = Bench::new();
        for line in ["RPUSH a x", "SET c gone"] {
            other.run(line);
        }
        replay(&chunk.bytes, &mut other);
        assert_eq!(other.contents(), bench.contents());
    }

    fn replay(mut rest: &[u8], other: &mut Bench) {
        let mut spans = Vec::new();
        while !rest.is_empty() {
            let (record, len) = Record::read(rest, &mut spans).expect("a record");
            Replay::default().apply(&mut other.shard, &record).expect("it can be done again");
            rest = &rest[len..];
        }
    }
}
