//! Everything as requests: what a client would send to make the same keys in an empty server. It is
//! the form of Redis's append-only file, which redis-server loads and `redis-cli --pipe` sends.
//!
//! | value       | requests                                                                    |
//! |-------------|-----------------------------------------------------------------------------|
//! | string      | SET                                                                         |
//! | collections | RPUSH, SADD, ZADD, HSET, [`ITEMS_MAX`] elements at a time                    |
//! | fields      | HPEXPIREAT for each that has a deadline, if the reader knows it             |
//! | stream      | XADD of every entry, XSETID; XGROUP CREATE of every group, CREATECONSUMER   |
//! |             | of its consumers, XCLAIM of what they have pending                          |
//! | deadline    | PEXPIREAT                                                                   |
//! | library     | FUNCTION LOAD                                                               |
//!
//! One thing no request can make: an entry that is pending and was deleted from its stream. It is
//! left out and counted, as Redis does when it rewrites its own file.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use tessera_proto::float::F64Text;

use super::{ExportOptions, Exported, Plain, Target, for_each_entry, without_deadlines};
use crate::{
    keyspace::Body,
    shard::Shard,
    types::{
        Element, Hash, List, Set, Stream, StreamId, Zset,
        set::PackedSet,
        stream::{Consumer, Entry, Group},
    },
    value::{Object, inline},
};

/// Elements that one request adds at most, as in Redis's own files: a request takes the server's time
/// whole.
const ITEMS_MAX: usize = 64;
/// Bytes that are written at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Writes the requests that make everything that `shards` hold, and the libraries with this code.
///
/// # Errors
///
/// Of `output`.
pub fn export_requests(
    shards: &mut [Shard],
    libraries: &[Vec<u8>],
    options: ExportOptions,
    output: &mut dyn Write,
) -> io::Result<Exported> {
    let mut requests = Requests {
        output,
        waiting: Vec::new(),
        options,
        database: None,
        exported: Exported::default(),
    };
    for code in libraries {
        requests.put(&[b"FUNCTION", b"LOAD", code])?;
    }
    for_each_entry(shards, |database, entry| {
        let mut exported = requests.exported;
        let plain = without_deadlines(&entry.body(), options, &mut exported);
        requests.exported = exported;
        match plain {
            Plain::AsItIs => requests.key(database, entry.key(), &entry.body(), entry.deadline()),
            Plain::Made(value) => {
                requests.key(database, entry.key(), &value.body(), entry.deadline())
            }
            Plain::Nothing => Ok(()),
        }
    })?;
    requests.flush()?;
    Ok(requests.exported)
}

/// Requests on their way out.
struct Requests<'o> {
    output: &'o mut dyn Write,
    waiting: Vec<u8>,
    options: ExportOptions,
    /// The database that is selected.
    database: Option<u32>,
    exported: Exported,
}

impl Requests<'_> {
    /// Puts one request.
    fn put(&mut self, words: &[&[u8]]) -> io::Result<()> {
        self.begin(words.len());
        words.iter().for_each(|word| self.word(word));
        self.end()
    }

    fn begin(&mut self, words: usize) {
        self.head(b'*', words);
    }

    fn word(&mut self, word: &[u8]) {
        self.head(b'$', word.len());
        self.waiting.extend_from_slice(word);
        self.waiting.extend_from_slice(b"\r\n");
    }

    fn head(&mut self, kind: u8, number: usize) {
        self.waiting.push(kind);
        self.waiting.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        self.waiting.extend_from_slice(b"\r\n");
    }

    fn end(&mut self) -> io::Result<()> {
        if self.waiting.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.exported.bytes += self.waiting.len() as u64;
        self.output.write_all(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }

    /// Puts the requests that make a key.
    fn key(
        &mut self,
        database: u32,
        key: &[u8],
        body: &Body<'_, Object>,
        deadline: Option<i64>,
    ) -> io::Result<()> {
        if self.database.replace(database) != Some(database) {
            self.put(&[b"SELECT", itoa::Buffer::new().format(database).as_bytes()])?;
        }
        match *body {
            Body::Int(int) => {
                self.put(&[b"SET", key, itoa::Buffer::new().format(int).as_bytes()])?
            }
            Body::Object(object) => self.object(key, object)?,
            Body::Inline { kind, bytes } => match kind {
                inline::LIST => self.list(key, &List::from_packed(bytes))?,
                inline::HASH => self.hash(key, &Hash::from_packed(bytes))?,
                inline::INTSET => self.set(key, &Set::from_packed(PackedSet::Ints(bytes)))?,
                inline::SET => self.set(key, &Set::from_packed(PackedSet::Members(bytes)))?,
                inline::ZSET => self.zset(key, &Zset::from_packed(bytes))?,
                _ => self.put(&[b"SET", key, bytes])?,
            },
        }
        if let Some(deadline) = deadline {
            let at = itoa::Buffer::new().format(deadline).to_owned();
            self.put(&[b"PEXPIREAT", key, at.as_bytes()])?;
        }
        self.exported.keys += 1;
        Ok(())
    }

    fn object(&mut self, key: &[u8], object: &Object) -> io::Result<()> {
        match object {
            Object::String(text) => self.put(&[b"SET", key, text]),
            Object::List(list) => self.list(key, list),
            Object::Set(set) => self.set(key, set),
            Object::Zset(zset) => self.zset(key, zset),
            Object::Hash(hash) => self.hash(key, hash),
            Object::Stream(stream) => self.stream(key, stream),
        }
    }

    fn list(&mut self, key: &[u8], list: &List) -> io::Result<()> {
        let elements = list.iter_from(0).map(|element| [element]);
        self.in_batches(b"RPUSH", key, list.len(), elements)
    }

    fn set(&mut self, key: &[u8], set: &Set) -> io::Result<()> {
        self.in_batches(b"SADD", key, set.len(), set.iter_from(0).map(|member| [member]))
    }

    fn zset(&mut self, key: &[u8], zset: &Zset) -> io::Result<()> {
        let mut left = zset.len();
        let mut members = zset.iter_from(0);
        while left > 0 {
            let count = left.min(ITEMS_MAX);
            self.begin(2 + 2 * count);
            self.word(b"ZADD");
            self.word(key);
            for (member, score) in members.by_ref().take(count) {
                self.word(F64Text::new(score).as_bytes());
                member.with_bytes(|member| self.word(member));
            }
            self.end()?;
            left -= count;
        }
        Ok(())
    }

    fn hash(&mut self, key: &[u8], hash: &Hash) -> io::Result<()> {
        let fields = hash.iter_timed(0).map(|(field, value, _)| [field, value]);
        self.in_batches(b"HSET", key, hash.len(), fields)?;
        if self.options.target == Target::Any {
            return Ok(());
        }
        for (field, _, deadline) in hash.iter_timed(0) {
            let Some(deadline) = deadline else { continue };
            let (at, field) = (deadline.to_string(), field.to_vec());
            self.put(&[b"HPEXPIREAT", key, at.as_bytes(), b"FIELDS", b"1", &field])?;
        }
        Ok(())
    }

    /// Requests `command key item …` for `count` items of `W` words each.
    fn in_batches<'e, const W: usize>(
        &mut self,
        command: &[u8],
        key: &[u8],
        count: usize,
        mut items: impl Iterator<Item = [Element<'e>; W]>,
    ) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            let count = left.min(ITEMS_MAX);
            self.begin(2 + W * count);
            self.word(command);
            self.word(key);
            for word in items.by_ref().take(count).flatten() {
                word.with_bytes(|word| self.word(word));
            }
            self.end()?;
            left -= count;
        }
        Ok(())
    }

    fn stream(&mut self, key: &[u8], stream: &Stream) -> io::Result<()> {
        let entries = &stream.entries;
        for entry in entries.range(StreamId::MIN, StreamId::MAX) {
            self.entry(key, &entry)?;
        }
        if entries.is_empty() {
            // An entry that is trimmed at once makes a stream without any.
            let id = entries.last_id.max(StreamId { ms: 0, seq: 1 }).text();
            self.put(&[b"XADD", key, b"MAXLEN", b"0", id.as_bytes(), b"x", b"y"])?;
        }
        let (last, deleted) = (entries.last_id.text(), entries.max_deleted_id.text());
        let added = entries.added.to_string();
        let (last, deleted) = (last.as_bytes(), deleted.as_bytes());
        let figures = [&b"ENTRIESADDED"[..], added.as_bytes(), b"MAXDELETEDID", deleted];
        self.put(&[&[&b"XSETID"[..], key, last], &figures[..]].concat())?;
        stream.groups().try_for_each(|(name, group)| self.group(key, stream, name, group))
    }

    fn entry(&mut self, key: &[u8], entry: &Entry<'_>) -> io::Result<()> {
        self.begin(3 + 2 * entry.len());
        self.word(b"XADD");
        self.word(key);
        self.word(entry.id.text().as_bytes());
        for word in entry.pairs().flat_map(|(field, value)| [field, value]) {
            word.with_bytes(|word| self.word(word));
        }
        self.end()
    }

    fn group(&mut self, key: &[u8], stream: &Stream, name: &[u8], group: &Group) -> io::Result<()> {
        let last = group.last_id.text();
        // What is not known is -1.
        let read = group.entries_read.map_or_else(|| "-1".to_owned(), |read| read.to_string());
        let (last, read) = (last.as_bytes(), read.as_bytes());
        self.put(&[b"XGROUP", b"CREATE", key, name, last, b"ENTRIESREAD", read])?;
        for consumer in group.consumers() {
            self.put(&[b"XGROUP", b"CREATECONSUMER", key, name, consumer.name()])?;
            self.pending(key, stream, name, (group, consumer))?;
        }
        Ok(())
    }

    /// What a consumer has pending.
    fn pending(
        &mut self,
        key: &[u8],
        stream: &Stream,
        name: &[u8],
        (group, consumer): (&Group, &Consumer),
    ) -> io::Result<()> {
        for id in consumer.pending_from(StreamId::MIN) {
            let Some(pending) = group.pending(id) else { continue };
            if stream.entries.get(id).is_none() {
                self.exported.pending_left_out += 1;
                continue;
            }
            let (time, count) = (pending.delivered_ms.to_string(), pending.deliveries.to_string());
            let (time, count, id) = (time.as_bytes(), count.as_bytes(), id.text());
            let whose = [&b"XCLAIM"[..], key, name, consumer.name(), b"0", id.as_bytes()];
            let how = [&b"TIME"[..], time, b"RETRYCOUNT", count, b"JUSTID", b"FORCE"];
            self.put(&[&whose[..], &how[..]].concat())?;
        }
        Ok(())
    }
}
