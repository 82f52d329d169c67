//! Writing values, some of it at a time.
//!
//! An [`Encoder`] has one value under way. It keeps no reference to it, only a position: each step
//! is shown the same value again, which must not have changed in between (a snapshot shows what it
//! captured). A step ends soon after it has done as much work as it was allowed, counted in bytes;
//! only a packed blob, which the thresholds keep small, is written whole. Long strings are
//! compressed and copied in steps too.
//!
//! | value                     | written as                                                   |
//! |---------------------------|--------------------------------------------------------------|
//! | string                    | integer of 1, 2 or 4 bytes, compressed, or plain             |
//! | list                      | nodes as RPUSH would have filled them: listpacks, or plain   |
//! |                           | strings where one alone is more than a node takes            |
//! | set, `intset`             | intset                                                       |
//! | other set                 | member by member: version 10 has no listpack of sets         |
//! | hash, sorted set          | one listpack; large ones element by element, sorted sets     |
//! |                           | from the highest score down, which Redis loads fastest       |
//! | hash with deadlines       | one listpack, the earliest deadline first; large ones field  |
//! |                           | by field: Redis 7.4 and later                                |
//! | stream                    | its blocks as listpacks, then its groups (see `stream`)      |
#![forbid(unsafe_code)]

mod long;
mod nodes;
mod stream;

use std::ops::Deref;

use bytes::Bytes;
use tessera_proto::float::F64Text;

use super::{
    kind,
    lzf::Lzf,
    output::{put_element, put_length, put_text},
    packed::{intset, listpack},
};
use crate::{
    keyspace::Body,
    types::{Element, Hash, List, Set, Zset, set::PackedSet},
    value::{Object, inline},
};
use long::Long;
use nodes::NodeSize;
use stream::StreamPart;

/// From this length on a string is written in steps.
const LONG_BYTES_MIN: usize = 64 << 10;
/// Largest collection in bytes of memory that is written as one blob, whatever the thresholds say:
/// a blob's length has 32 bits.
const BLOB_BYTES_MAX: usize = 256 << 20;
/// Work that an element costs besides its bytes, in bytes that could be copied meanwhile.
const ELEMENT_WORK_BYTES: usize = 32;

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// `rdbcompression`: long strings and blobs are compressed.
    pub compress: bool,
    /// `list-max-listpack-size`: how full the nodes of a list are.
    pub list_max_listpack_size: i64,
}

impl Default for Options {
    fn default() -> Self {
        Self { compress: true, list_max_listpack_size: -2 }
    }
}

/// Whether a value is written whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// There is more to write.
    More,
    /// That was all.
    Done,
}

/// Writes values one after the other.
#[derive(Debug)]
pub struct Encoder {
    options: Options,
    lzf: Lzf,
    state: State,
    long: Option<Long>,
}

/// What of a value comes next.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Its beginning, which may be all of it.
    Start,
    /// The member of that index.
    Members(usize),
    /// The field of that index, or its value.
    Fields(usize, Half),
    /// The member below the so many highest.
    Scores(usize),
    /// The nodes of a list are counted, from the element of that index on.
    Count { index: usize, nodes: u64, size: NodeSize },
    /// The node that begins at that index.
    Nodes(usize),
    /// That part of a stream.
    Stream(StreamPart),
    /// Nothing.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Field,
    Value,
}

/// The kind under which a value is written.
pub fn kind_of(body: &Body<'_, Object>) -> u8 {
    match body {
        Body::Int(_) => kind::STRING,
        Body::Inline { kind: form, .. } => match *form {
            inline::LIST => kind::LIST_QUICKLIST_2,
            inline::HASH => kind::HASH_LISTPACK,
            inline::INTSET => kind::SET_INTSET,
            inline::SET => kind::SET,
            inline::ZSET => kind::ZSET_LISTPACK,
            _ => kind::STRING,
        },
        Body::Object(object) => kind_of_object(object),
    }
}

fn kind_of_object(object: &Object) -> u8 {
    let is_blob = object.memory_bytes() <= BLOB_BYTES_MAX;
    match object {
        Object::String(_) => kind::STRING,
        Object::List(_) => kind::LIST_QUICKLIST_2,
        Object::Set(set) if is_blob && set.encoding_name() == "intset" => kind::SET_INTSET,
        Object::Set(_) => kind::SET,
        Object::Zset(zset) if is_blob && zset.encoding_name() == "listpack" => kind::ZSET_LISTPACK,
        Object::Zset(_) => kind::ZSET_2,
        Object::Hash(hash) if hash.earliest_deadline().is_some() => {
            match is_blob && hash.is_listpack() {
                true => kind::HASH_LISTPACK_EX,
                false => kind::HASH_METADATA,
            }
        }
        Object::Hash(hash) if is_blob && hash.is_listpack() => kind::HASH_LISTPACK,
        Object::Hash(_) => kind::HASH,
        Object::Stream(_) => kind::STREAM_LISTPACKS_2,
    }
}

/// A value's object: the one that the entry points to, or one made of what stands in the entry.
enum Seen<'a> {
    There(&'a Object),
    Made(Object),
}

impl Deref for Seen<'_> {
    type Target = Object;

    fn deref(&self) -> &Object {
        match self {
            Self::There(object) => object,
            Self::Made(object) => object,
        }
    }
}

/// The object that a body is, unless it is a string in its entry.
fn object_of<'a>(body: &Body<'a, Object>) -> Option<Seen<'a>> {
    let (form, bytes) = match *body {
        Body::Int(_) => return None,
        Body::Object(object) => return Some(Seen::There(object)),
        Body::Inline { kind, bytes } => (kind, bytes),
    };
    Some(Seen::Made(match form {
        inline::LIST => Object::List(List::from_packed(bytes)),
        inline::HASH => Object::Hash(Hash::from_packed(bytes)),
        inline::INTSET => Object::Set(Set::from_packed(PackedSet::Ints(bytes))),
        inline::SET => Object::Set(Set::from_packed(PackedSet::Members(bytes))),
        inline::ZSET => Object::Zset(Zset::from_packed(bytes)),
        _ => return None,
    }))
}

/// What one step may still do, in bytes.
struct Work {
    left: usize,
}

impl Work {
    /// Whether an element of `len` bytes may still be done; it is then counted.
    fn admits(&mut self, len: usize) -> bool {
        let may = self.left > 0;
        self.left = self.left.saturating_sub(len + ELEMENT_WORK_BYTES);
        may
    }
}

impl Encoder {
    /// An encoder without a value.
    pub fn new(options: Options) -> Self {
        Self { options, lzf: Lzf::new(), state: State::Done, long: None }
    }

    /// Takes over changed options; not while a value is under way.
    pub fn configure(&mut self, options: Options) {
        self.options = options;
    }

    /// Begins a value.
    pub fn start(&mut self) {
        (self.state, self.long) = (State::Start, None);
    }

    /// Appends the whole of a value to `out`, without its kind.
    pub fn encode(&mut self, body: &Body<'_, Object>, out: &mut Vec<u8>) {
        self.start();
        while self.step(body, out, usize::MAX) == Progress::More {}
    }

    /// Goes on with the value that was begun, for about `budget` bytes of work. At least something
    /// is done, so steps end whatever the budget.
    pub fn step(&mut self, body: &Body<'_, Object>, out: &mut Vec<u8>, budget: usize) -> Progress {
        let mut work = Work { left: budget.max(1) };
        let seen = object_of(body);
        loop {
            if let Some(long) = &mut self.long {
                if long.step(&mut self.lzf, out, &mut work.left) == Progress::More {
                    return Progress::More;
                }
                self.long = None;
            }
            match self.state {
                State::Done => return Progress::Done,
                _ if work.left == 0 => return Progress::More,
                _ => {}
            }
            self.state = match (self.state, seen.as_deref()) {
                (State::Start, None) => self.string_in_entry(body, out),
                (State::Start, Some(object)) => self.begin(object, out),
                (State::Members(next), Some(Object::Set(set))) => {
                    self.members(set, next, out, &mut work)
                }
                (State::Fields(next, half), Some(Object::Hash(hash))) => {
                    self.fields(hash, next, half, out, &mut work)
                }
                (State::Scores(done), Some(Object::Zset(zset))) => {
                    self.scores(zset, done, out, &mut work)
                }
                (State::Count { index, nodes, size }, Some(Object::List(list))) => {
                    self.count_nodes(list, (index, nodes, size), out, &mut work)
                }
                (State::Nodes(next), Some(Object::List(list))) => {
                    self.node(list, next, out, &mut work)
                }
                (State::Stream(part), Some(Object::Stream(stream))) => {
                    self.stream(stream, part, out, &mut work)
                }
                // The caller has shown another value than the one begun.
                _ => State::Done,
            };
        }
    }

    fn string_in_entry(&mut self, body: &Body<'_, Object>, out: &mut Vec<u8>) -> State {
        match *body {
            Body::Int(int) => put_element(out, &Element::Int(int), None),
            Body::Inline { bytes, .. } => put_text(out, bytes, self.compressor()),
            Body::Object(_) => {}
        }
        State::Done
    }

    /// Writes the beginning of an object, and all of it if it is one blob.
    fn begin(&mut self, object: &Object, out: &mut Vec<u8>) -> State {
        let kind = kind_of_object(object);
        let next = match object {
            Object::String(text) => {
                self.put(&Element::Shared(text), out);
                return State::Done;
            }
            Object::List(list) if list.encoding_name() == "listpack" => {
                nodes::put_head(out, 1);
                return State::Nodes(0);
            }
            Object::List(_) => {
                return State::Count { index: 0, nodes: 0, size: NodeSize::default() };
            }
            Object::Set(set) if kind == kind::SET_INTSET => {
                self.put_blob(&intset_of(set), out);
                return State::Done;
            }
            Object::Zset(zset) if kind == kind::ZSET_LISTPACK => {
                self.put_blob(&listpack_of_zset(zset), out);
                return State::Done;
            }
            Object::Hash(hash) if kind == kind::HASH_LISTPACK => {
                self.put_blob(&listpack_of_hash(hash), out);
                return State::Done;
            }
            Object::Hash(hash) if kind == kind::HASH_LISTPACK_EX => {
                out.extend_from_slice(&hash.earliest_deadline().unwrap_or(0).to_le_bytes());
                self.put_blob(&listpack_of_dated(hash), out);
                return State::Done;
            }
            Object::Set(_) => State::Members(0),
            Object::Zset(_) => State::Scores(0),
            Object::Hash(hash) => {
                if let Some(earliest) = hash.earliest_deadline() {
                    out.extend_from_slice(&earliest.to_le_bytes());
                }
                State::Fields(0, Half::Field)
            }
            Object::Stream(_) => State::Stream(StreamPart::Block(0)),
        };
        put_length(out, len_of(object) as u64);
        next
    }

    fn members(&mut self, set: &Set, mut next: usize, out: &mut Vec<u8>, work: &mut Work) -> State {
        for member in set.iter_from(next) {
            if self.long.is_some() || !work.admits(member.len()) {
                return State::Members(next);
            }
            self.put(&member, out);
            next += 1;
        }
        State::Done
    }

    fn fields(
        &mut self,
        hash: &Hash,
        mut next: usize,
        mut half: Half,
        out: &mut Vec<u8>,
        work: &mut Work,
    ) -> State {
        let earliest = hash.earliest_deadline();
        for (field, value, deadline) in hash.iter_timed(next) {
            if half == Half::Field {
                if self.long.is_some() || !work.admits(field.len() + value.len()) {
                    return State::Fields(next, Half::Field);
                }
                if let Some(earliest) = earliest {
                    // Counted from the earliest, and from 1 on: 0 is for none.
                    let after = deadline.map_or(0, |deadline| deadline.abs_diff(earliest) + 1);
                    put_length(out, after);
                }
                self.put(&field, out);
            }
            if self.long.is_some() {
                return State::Fields(next, Half::Value);
            }
            self.put(&value, out);
            (next, half) = (next + 1, Half::Field);
        }
        State::Done
    }

    fn scores(
        &mut self,
        zset: &Zset,
        mut done: usize,
        out: &mut Vec<u8>,
        work: &mut Work,
    ) -> State {
        for (member, score) in zset.iter_back_from(zset.len() - done) {
            if self.long.is_some() || !work.admits(member.len()) {
                return State::Scores(done);
            }
            self.put(&member, out);
            match &mut self.long {
                Some(long) => long.then(score.to_le_bytes()),
                None => out.extend_from_slice(&score.to_le_bytes()),
            }
            done += 1;
        }
        State::Done
    }

    /// Writes an element, or begins to if it is long.
    fn put(&mut self, element: &Element<'_>, out: &mut Vec<u8>) {
        if let Element::Bytes(_) | Element::Shared(_) = element
            && element.len() >= LONG_BYTES_MIN
        {
            let text = match element {
                Element::Shared(text) => Bytes::clone(text),
                element => Bytes::from(element.to_vec()),
            };
            self.long = Some(Long::new(text, self.options.compress, &mut self.lzf));
        } else {
            put_element(out, element, self.compressor());
        }
    }

    fn put_blob(&mut self, blob: &[u8], out: &mut Vec<u8>) {
        put_text(out, blob, self.compressor());
    }

    fn compressor(&mut self) -> Option<&mut Lzf> {
        self.options.compress.then_some(&mut self.lzf)
    }
}

fn len_of(object: &Object) -> usize {
    match object {
        Object::String(text) => text.len(),
        Object::List(list) => list.len(),
        Object::Set(set) => set.len(),
        Object::Zset(zset) => zset.len(),
        Object::Hash(hash) => hash.len(),
        Object::Stream(stream) => stream.entries.block_count(),
    }
}

fn intset_of(set: &Set) -> Vec<u8> {
    let mut ints: Vec<i64> = set
        .iter()
        .filter_map(|member| match member {
            Element::Int(int) => Some(int),
            text => text.with_bytes(crate::types::encoding::element::canonical_i64),
        })
        .collect();
    ints.sort_unstable();
    intset::build(&ints)
}

fn listpack_of_hash(hash: &Hash) -> Vec<u8> {
    let mut pack = listpack::Builder::new();
    for (field, value) in hash.iter() {
        pack.push(&field);
        pack.push(&value);
    }
    pack.finish()
}

/// Fields, values and deadlines in turn, as Redis needs them: by deadline, those without one last.
fn listpack_of_dated(hash: &Hash) -> Vec<u8> {
    let mut fields: Vec<_> = hash.iter_timed(0).collect();
    fields.sort_by_key(|(_, _, deadline)| deadline.unwrap_or(i64::MAX));
    let mut pack = listpack::Builder::new();
    for (field, value, deadline) in fields {
        pack.push(&field);
        pack.push(&value);
        pack.push(&Element::Int(deadline.unwrap_or(0)));
    }
    pack.finish()
}

fn listpack_of_zset(zset: &Zset) -> Vec<u8> {
    let mut pack = listpack::Builder::new();
    for (member, score) in zset.iter_from(0) {
        pack.push(&member);
        match whole(score) {
            Some(int) => pack.push(&Element::Int(int)),
            None => pack.push(&Element::Bytes(F64Text::new(score).as_bytes())),
        }
    }
    pack.finish()
}

/// The integer that a score is, where Redis stores it as one.
fn whole(score: f64) -> Option<i64> {
    let limit = (i64::MAX / 2) as f64;
    let int = score as i64;
    ((-limit..=limit).contains(&score) && int as f64 == score).then_some(int)
}
