//! Takes back what a script has written that turns out to need more shards than it has.
//!
//! Before each of its commands that writes, the keys that the command may change are copied as they
//! are (a large value by its root). If the script meets keys that are not there, they are put
//! back, and it is as if it had never run: nobody has seen the shards meanwhile.
//!
//! Invariants:
//! - a key is copied before it is first changed, and only then;
//! - the journal is not cut: it gets records that set the keys back, so that replaying it comes to
//!   the same;
//! - keyspace events that wait for delivery are dropped. What listeners have marked already stays
//!   (a watched key, a key in a client's cache): to invalidate too much is allowed.
#![forbid(unsafe_code)]

use std::collections::HashSet;

use crate::{
    keyspace::{Held, Savepoint},
    persist::rdb::{Encoder, Options, payload},
    shard::{Call, Shard, ShardId},
};

/// What a key held.
struct Image {
    shard: ShardId,
    database: usize,
    key: Vec<u8>,
    held: Option<Held>,
}

/// What must be known to undo a script's writes.
#[derive(Default)]
pub struct Undo {
    images: Vec<Image>,
    seen: HashSet<(usize, Vec<u8>)>,
    savepoints: Vec<(ShardId, Savepoint, u64)>,
    positions: Vec<usize>,
}

impl Undo {
    /// Forgets everything: a script begins, or cannot be undone any more.
    pub fn clear(&mut self) {
        self.images.clear();
        self.seen.clear();
        self.savepoints.clear();
    }

    /// Copies what `call`, a command that writes, may change of the keys that `shard` owns.
    pub fn before(
        &mut self,
        id: ShardId,
        shard: &mut Shard,
        call: &Call<'_>,
        owns: impl Fn(&[u8]) -> bool,
    ) {
        if !self.savepoints.iter().any(|&(known, ..)| known == id) {
            self.savepoints.push((id, shard.keyspace.savepoint(), shard.changes()));
        }
        self.positions.clear();
        if call.command.keys.positions(&call.args, &mut self.positions).is_err() {
            // The command finds the same fault and changes nothing.
            return;
        }
        // These reach into other databases.
        let is_far = matches!(call.command.name, "move" | "copy");
        let databases = match is_far {
            true => 0..shard.keyspace.database_count(),
            false => call.database as usize..call.database as usize + 1,
        };
        for &at in self.positions.iter().filter(|&&at| owns(&call.args[at])) {
            for database in databases.clone() {
                let key = call.args[at].to_vec();
                if self.seen.insert((database, key.clone())) {
                    let held = shard.keyspace.copy(database, &key);
                    self.images.push(Image { shard: id, database, key, held });
                }
            }
        }
    }

    /// Puts back what was copied. `with_shard` lets a function work on a shard.
    pub fn roll_back(&mut self, mut with_shard: impl FnMut(ShardId, &mut dyn FnMut(&mut Shard))) {
        for image in &mut self.images {
            with_shard(image.shard, &mut |shard| image.put_back(shard));
        }
        for &(id, savepoint, changes) in &self.savepoints {
            with_shard(id, &mut |shard| {
                shard.keyspace.forget_since(savepoint);
                shard.set_changes(changes);
            });
        }
        self.clear();
    }
}

impl Image {
    fn put_back(&mut self, shard: &mut Shard) {
        let keyspace = &mut shard.keyspace;
        let is_recorded = keyspace.journal.is_on();
        match self.held.take() {
            Some(held) => {
                let restore = is_recorded.then(|| {
                    let options = Options { compress: false, ..Options::default() };
                    payload::dump(&mut Encoder::new(options), &held.value.body())
                });
                let deadline = held.deadline.unwrap_or(0).to_string();
                keyspace.put(self.database, &self.key, held);
                if let Some(value) = restore {
                    let record: [&[u8]; 6] =
                        [b"RESTORE", &self.key, deadline.as_bytes(), &value, b"REPLACE", b"ABSTTL"];
                    keyspace.journal.record_aside(self.database, &record);
                }
            }
            None => {
                if keyspace.take(self.database, &self.key).is_some() && is_recorded {
                    keyspace.journal.record_gone(self.database, &self.key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tessera_proto::{Protocol, ReplyBuffer, RequestBatch};

    use super::*;
    use crate::{
        command::table,
        journal::record::Record,
        persist::replay::Replay,
        shard::{Caller, Settings},
    };

    fn run(shard: &mut Shard, undo: Option<&mut Undo>, line: &str) -> String {
        let mut batch = RequestBatch::new();
        batch.push_slices(line.split(' ').map(str::as_bytes));
        let args = batch.get(0).expect("one request");
        let command = table().resolve(&args).expect("a command");
        let (protocol, caller) = (Protocol::Resp2, Caller::default());
        let call = Call { command, args, database: 0, protocol, no_touch: false, caller };
        if let Some(undo) = undo {
            undo.before(0, shard, &call, |_| true);
        }
        let mut out = ReplyBuffer::new();
        let _ = shard.execute(&call, &mut out);
        String::from_utf8_lossy(&out.to_vec()).into_owned()
    }

    #[test]
    fn everything_is_as_it_was_and_the_journal_says_the_same() {
        let mut shard = Shard::new(1, Settings::default());
        shard.advance_clock_us(1_000_000);
        shard.keyspace.journal.start(0, 1, 0);
        for line in ["SET a 1", "RPUSH l 1 2 3", "SET t x PX 5000", "SADD s 1 2"] {
            run(&mut shard, None, line);
        }
        let before = shard.changes();
        let mut undo = Undo::default();
        for line in
            ["SET a 2", "SET new 1", "DEL l", "LPUSH l 9", "PERSIST t", "MOVE s 3", "COPY a c DB 4"]
        {
            run(&mut shard, Some(&mut undo), line);
        }
        undo.roll_back(|_, work| work(&mut shard));
        let mut journal = Vec::new();
        while let Some(chunk) = shard.keyspace.journal.take_until(u64::MAX) {
            journal.extend_from_slice(&chunk.bytes);
        }
        let mut again = Shard::new(2, Settings::default());
        let (mut rest, mut spans) = (journal.as_slice(), Vec::new());
        while !rest.is_empty() {
            let (record, len) = Record::read(rest, &mut spans).expect("a record");
            Replay::default().apply(&mut again, &record).expect("it can be done again");
            rest = &rest[len..];
        }
        for shard in [&mut shard, &mut again] {
            for (line, reply) in [
                ("GET a", "$1\r\n1\r\n"),
                ("EXISTS new c", ":0\r\n"),
                ("LRANGE l 0 -1", "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n"),
                ("PEXPIRETIME t", ":6000\r\n"),
                ("SCARD s", ":2\r\n"),
                ("DBSIZE", ":4\r\n"),
            ] {
                assert_eq!(run(shard, None, line), reply, "{line}");
            }
            assert_eq!(shard.keyspace.len(3) + shard.keyspace.len(4), 0);
        }
        assert_eq!(shard.changes(), before);
    }
}
