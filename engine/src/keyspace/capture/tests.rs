//! Captures against a plain copy of the model made at the cut, while anything happens to the keys.

use std::{collections::BTreeMap, ops::ControlFlow};

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};

use super::super::{Body, Deadline, Keyspace, NewBody, expire::ExpireCycle};
use super::{CapturedKey, Preserved};
use crate::{
    types::{Hash, Thresholds},
    value::Object,
};

const START_MS: i64 = 1_700_000_000_000;
const DATABASES: usize = 3;

/// What a key holds, spelt out.
#[derive(Clone, Debug, PartialEq)]
enum Plain {
    Int(i64),
    Inline(Vec<u8>),
    String(Vec<u8>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
}

impl Plain {
    fn of(body: &Body<'_, Object>) -> Self {
        match body {
            Body::Int(number) => Self::Int(*number),
            Body::Inline { bytes, .. } => Self::Inline(bytes.to_vec()),
            Body::Object(Object::String(bytes)) => Self::String(bytes.to_vec()),
            Body::Object(Object::Hash(hash)) => Self::Hash(
                hash.iter().map(|(field, value)| (field.to_vec(), value.to_vec())).collect(),
            ),
            Body::Object(other) => panic!("the test makes no {}", other.encoding_name()),
        }
    }

    /// A hash of `fields` fields.
    fn hash(fields: u32) -> Self {
        Self::Hash((0..fields).map(|field| (name(field), vec![b'v'; 40])).collect())
    }

    fn put(&self, keyspace: &mut Keyspace, database: usize, key: u32, deadline: Deadline) {
        let key = name(key);
        let slot = keyspace.slot_of(database, &key);
        match self {
            Self::Int(number) => slot.put(NewBody::Int(*number), deadline),
            Self::Inline(bytes) => slot.put(NewBody::Inline { kind: 0, bytes }, deadline),
            Self::String(bytes) => {
                let object = Object::String(Bytes::copy_from_slice(bytes));
                slot.put(NewBody::Object(Box::new(object)), deadline);
            }
            Self::Hash(fields) => {
                let mut hash = Hash::new();
                for (field, value) in fields {
                    hash.set(field, value, &Thresholds::default());
                }
                slot.put(NewBody::Object(Box::new(Object::Hash(hash))), deadline);
            }
        }
    }
}

fn name(number: u32) -> Vec<u8> {
    format!("k:{number}").into_bytes()
}

type Model = BTreeMap<(usize, Vec<u8>), (Plain, Option<i64>)>;

#[derive(Clone, Debug)]
enum Op {
    Put(usize, u32, Plain, Option<i64>),
    /// Change what is there in place, whatever it is.
    Change(usize, u32),
    Expire(usize, u32, Option<i64>),
    Remove(usize, u32),
    Rename(usize, u32, usize, u32),
    Copy(usize, u32, usize, u32),
    /// Many keys at once, so that the table grows and shrinks.
    Fill(usize, u32, u32),
    Empty(usize, u32, u32),
    Flush(usize),
    Swap(usize, usize),
    Read(usize, u32),
    Pass(i64),
    ExpireCycle,
    Begin,
    Walk(usize),
    Fetch(usize),
    Abort,
    Free,
}

fn plain() -> impl Strategy<Value = Plain> {
    prop_oneof![
        any::<i64>().prop_map(Plain::Int),
        vec(any::<u8>(), 0..60).prop_map(Plain::Inline),
        (0u8..9, 900usize..3000).prop_map(|(byte, len)| Plain::Inline(vec![byte; len])),
        vec(any::<u8>(), 60..200).prop_map(Plain::String),
        (1u32..5).prop_map(Plain::hash),
        (100u32..150).prop_map(Plain::hash),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let database = 0..DATABASES;
    let key = 0u32..400;
    let place = || (database.clone(), key.clone());
    let deadline = || prop::option::of(0i64..60);
    prop_oneof![
        9 => (place(), plain(), deadline()).prop_map(|((d, k), p, t)| Op::Put(d, k, p, t)),
        9 => place().prop_map(|(d, k)| Op::Change(d, k)),
        4 => (place(), deadline()).prop_map(|((d, k), t)| Op::Expire(d, k, t)),
        6 => place().prop_map(|(d, k)| Op::Remove(d, k)),
        4 => (place(), place()).prop_map(|((d, k), (e, l))| Op::Rename(d, k, e, l)),
        3 => (place(), place()).prop_map(|((d, k), (e, l))| Op::Copy(d, k, e, l)),
        4 => (place(), 1u32..400).prop_map(|((d, k), n)| Op::Fill(d, k, n)),
        3 => (place(), 1u32..400).prop_map(|((d, k), n)| Op::Empty(d, k, n)),
        1 => database.clone().prop_map(Op::Flush),
        1 => (database.clone(), database.clone()).prop_map(|(d, e)| Op::Swap(d, e)),
        3 => place().prop_map(|(d, k)| Op::Read(d, k)),
        3 => (1i64..20).prop_map(Op::Pass),
        2 => Just(Op::ExpireCycle),
        5 => Just(Op::Begin),
        9 => (1usize..200).prop_map(Op::Walk),
        3 => (1usize..50).prop_map(Op::Fetch),
        1 => Just(Op::Abort),
        2 => Just(Op::Free),
    ]
}

/// A keyspace, the model that it must equal, and a capture with what it must yield.
struct Trial {
    keyspace: Keyspace,
    cycle: ExpireCycle,
    now_ms: i64,
    model: Model,
    at_cut: Option<Model>,
    captured: Model,
    captures: usize,
}

impl Trial {
    fn new() -> Self {
        let mut keyspace = Keyspace::new(5, DATABASES);
        keyspace.advance_clock_us(START_MS * 1_000);
        Self {
            keyspace,
            cycle: ExpireCycle::default(),
            now_ms: START_MS,
            model: Model::new(),
            at_cut: None,
            captured: Model::new(),
            captures: 0,
        }
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Put(database, key, plain, deadline) => self.put(*database, *key, plain, *deadline),
            Op::Change(database, key) => self.change(*database, *key),
            Op::Expire(database, key, deadline) => self.expire(*database, *key, *deadline),
            Op::Remove(database, key) => self.remove(*database, *key),
            Op::Rename(database, key, to, target) => {
                if let Some(held) = self.keyspace.take(*database, &name(*key)) {
                    self.keyspace.put(*to, &name(*target), held);
                    let row = self.model.remove(&(*database, name(*key))).expect("it was there");
                    self.model.insert((*to, name(*target)), row);
                }
            }
            Op::Copy(database, key, to, target) => {
                if let Some(held) = self.keyspace.copy(*database, &name(*key)) {
                    self.keyspace.put(*to, &name(*target), held);
                    let row = self.model[&(*database, name(*key))].clone();
                    self.model.insert((*to, name(*target)), row);
                }
            }
            Op::Fill(database, from, count) => {
                let plain = Plain::Int(i64::from(*count));
                (*from..from + count).for_each(|key| self.put(*database, key, &plain, None));
            }
            Op::Empty(database, from, count) => {
                (*from..from + count).for_each(|key| self.remove(*database, key));
            }
            Op::Flush(database) => {
                self.keyspace.flush(*database);
                self.model.retain(|(number, _), _| number != database);
            }
            Op::Swap(first, second) => self.swap(*first, *second),
            Op::Read(database, key) => self.read(*database, *key),
            Op::Pass(ms) => self.pass(*ms),
            Op::ExpireCycle => self.cycle.slice(&mut self.keyspace, 10),
            Op::Begin => self.begin(),
            Op::Walk(keys) => self.walk(*keys),
            Op::Fetch(keys) => (0..*keys).for_each(|_| _ = self.fetch()),
            Op::Abort => {
                self.keyspace.abort_capture();
                self.at_cut = None;
            }
            Op::Free => _ = self.keyspace.free_slice(),
        }
    }

    fn put(&mut self, database: usize, key: u32, plain: &Plain, deadline: Option<i64>) {
        let at = deadline.map(|ms| self.now_ms + ms + 1);
        plain.put(&mut self.keyspace, database, key, at.map_or(Deadline::Never, Deadline::At));
        self.model.insert((database, name(key)), (plain.clone(), at));
    }

    fn change(&mut self, database: usize, key: u32) {
        let key = name(key);
        let mut slot = self.keyspace.slot_of(database, &key);
        let Some((plain, _)) = self.model.get_mut(&(database, key.clone())) else { return };
        match plain {
            Plain::Int(number) => {
                *number = number.wrapping_add(1);
                *slot.integer_mut().expect("an integer") = *number;
            }
            Plain::Inline(bytes) => {
                let len = bytes.len() * 2 % 3_000 + 1;
                bytes.resize(len, 0);
                bytes[0] ^= 1;
                slot.resize_inline(len).expect("inline")[0] ^= 1;
            }
            Plain::String(bytes) => {
                bytes.reverse();
                let reversed = Object::String(Bytes::copy_from_slice(bytes));
                slot.change_object(|object| *object = reversed).expect("an object");
            }
            Plain::Hash(fields) => {
                let field = name(fields.len() as u32 * 7 % 160);
                fields.insert(field.clone(), b"changed".to_vec());
                let changed = slot.change_object(|object| {
                    let Object::Hash(hash) = object else { panic!("a hash") };
                    hash.set(&field, b"changed", &Thresholds::default());
                });
                changed.expect("an object");
            }
        }
    }

    fn expire(&mut self, database: usize, key: u32, deadline: Option<i64>) {
        let at = deadline.map(|ms| self.now_ms + ms + 1);
        self.keyspace.slot_of(database, &name(key)).set_deadline(at);
        if let Some(row) = self.model.get_mut(&(database, name(key))) {
            row.1 = at;
        }
    }

    fn remove(&mut self, database: usize, key: u32) {
        let removed = self.keyspace.slot_of(database, &name(key)).remove();
        assert_eq!(removed, self.model.remove(&(database, name(key))).is_some());
    }

    fn swap(&mut self, first: usize, second: usize) {
        self.keyspace.swap(first, second);
        let swapped = |number| match number {
            number if number == first => second,
            number if number == second => first,
            number => number,
        };
        let model = std::mem::take(&mut self.model);
        let rows = model.into_iter().map(|((number, key), row)| ((swapped(number), key), row));
        self.model = rows.collect();
    }

    fn read(&mut self, database: usize, key: u32) {
        self.keyspace.select(database, false);
        let key = name(key);
        let found = self.keyspace.read(&key);
        let found = found.map(|entry| (Plain::of(&entry.body()), entry.deadline()));
        assert_eq!(found, self.model.get(&(database, key)).cloned());
    }

    fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        self.keyspace.advance_clock_us(self.now_ms * 1_000);
        let now_ms = self.now_ms;
        self.model.retain(|_, (_, deadline)| deadline.is_none_or(|deadline| deadline > now_ms));
    }

    fn begin(&mut self) {
        let may_begin = self.keyspace.may_begin_capture();
        assert_eq!(self.keyspace.begin_capture().is_ok(), may_begin);
        if may_begin {
            self.at_cut = Some(self.model.clone());
            self.captured.clear();
        }
    }

    fn walk(&mut self, keys: usize) {
        let (captured, mut left) = (&mut self.captured, keys);
        let walked = self.keyspace.walk_capture(|key| {
            note(captured, &key);
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if walked.is_continue() {
            while self.fetch() {}
            self.end();
        }
    }

    fn fetch(&mut self) -> bool {
        let preserved = self.keyspace.next_preserved();
        preserved.inspect(|preserved| note(&mut self.captured, &preserved.view())).is_some()
    }

    /// The capture is over: it must be what the model was at the cut.
    fn end(&mut self) {
        assert!(!self.keyspace.is_capturing());
        assert_eq!(self.keyspace.preserved_bytes(), 0);
        if let Some(at_cut) = self.at_cut.take() {
            assert!(self.captured == at_cut, "the capture is not the state at the cut");
            self.captures += 1;
        }
    }

    fn finish(&mut self) {
        while self.at_cut.is_some() {
            self.walk(100);
        }
        self.keyspace.check();
        for database in 0..DATABASES {
            (0..800).for_each(|key| self.read(database, key));
        }
    }
}

fn note(captured: &mut Model, key: &CapturedKey<'_>) {
    let place = (key.database as usize, key.key.to_vec());
    let before = captured.insert(place, (Plain::of(&key.body), key.deadline));
    assert!(before.is_none(), "a key is captured twice");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn a_capture_is_the_state_at_the_cut(ops in vec(op(), 1..300)) {
        let mut trial = Trial::new();
        for op in &ops {
            trial.run(op);
        }
        trial.finish();
    }
}

/// A trial of 400 keys in which a capture has begun.
fn begun() -> Trial {
    let mut trial = Trial::new();
    trial.run(&Op::Fill(0, 0, 400));
    trial.run(&Op::Begin);
    trial
}

#[test]
fn keys_are_captured_however_the_table_is_dealt_out_anew() {
    let mut trial = begun();
    for from in (400..20_000).step_by(400) {
        trial.run(&Op::Fill(0, from, 400));
        trial.run(&Op::Walk(7));
        trial.keyspace.check();
    }
    for from in (0..20_000).step_by(400) {
        trial.run(&Op::Empty(0, from, 400));
        trial.keyspace.check();
    }
    trial.finish();
    assert_eq!(trial.captures, 1);
}

#[test]
#[should_panic(expected = "the capture is not the state at the cut")]
fn a_write_that_preserves_nothing_is_found() {
    let mut trial = begun();
    trial.keyspace.moment.is_capturing = false;
    trial.run(&Op::Change(0, 77));
    trial.keyspace.moment.is_capturing = true;
    trial.finish();
}

#[test]
#[should_panic(expected = "the capture is not the state at the cut")]
fn a_displaced_key_that_lost_its_mark_is_found() {
    let mut trial = begun();
    let table = &mut trial.keyspace.databases[0].table;
    let key = name(77);
    assert!(table.get_mut(table.hash(&key), &key).expect("it is there").mark_captured());
    trial.finish();
}

#[test]
#[should_panic(expected = "the capture is not the state at the cut")]
fn a_flushed_table_that_is_not_walked_is_found() {
    let mut trial = begun();
    trial.run(&Op::Flush(0));
    trial.keyspace.aside.capture.detached.clear();
    trial.finish();
}

#[test]
fn an_aborted_capture_frees_what_it_held_and_lets_another_begin() {
    let mut trial = begun();
    trial.run(&Op::Put(1, 5, Plain::hash(150), None));
    trial.run(&Op::Walk(10));
    trial.run(&Op::Empty(0, 0, 50));
    trial.run(&Op::Flush(0));
    assert!(trial.keyspace.preserved_bytes() > 0);
    trial.run(&Op::Abort);
    assert_eq!(trial.keyspace.preserved_bytes(), 0);
    assert!(trial.keyspace.next_preserved().is_none());
    let mut slices = 0;
    while trial.keyspace.free_slice() {
        slices += 1;
        assert!(slices < 100);
    }
    assert!(trial.keyspace.may_begin_capture());
    trial.keyspace.check();
    trial.run(&Op::Begin);
    trial.finish();
    assert_eq!(trial.captures, 1);
}

#[test]
fn only_what_was_there_at_the_cut_counts_as_preserved() {
    let mut trial = begun();
    trial.run(&Op::Fill(0, 1_000, 500));
    trial.run(&Op::Empty(0, 1_000, 500));
    assert_eq!(trial.keyspace.preserved_bytes(), 0);
    trial.run(&Op::Change(0, 3));
    let once = trial.keyspace.preserved_bytes();
    assert!((size_of::<Preserved>()..300).contains(&once), "{once}");
    trial.run(&Op::Change(0, 3));
    trial.run(&Op::Remove(0, 3));
    assert_eq!(trial.keyspace.preserved_bytes(), once);
}

#[test]
fn a_large_collection_is_held_by_its_root() {
    let mut trial = Trial::new();
    trial.run(&Op::Put(0, 1, Plain::hash(20_000), None));
    trial.run(&Op::Begin);
    trial.run(&Op::Change(0, 1));
    let bytes = trial.keyspace.preserved_bytes();
    assert!(bytes < 70 << 10, "{bytes}");
    trial.finish();
    assert_eq!(trial.captures, 1);
}
