//! The table against a plain map, under even and under hostile hashes.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::rc::Rc;

use proptest::prelude::*;

use super::super::bucket::SLOTS;
use super::super::entry::{Body, BodyMut, EntryRef, NewBody, RemovedBody};
use super::super::hash::Seed;
use super::super::segment::{SIZE_MAX, segment_bytes};
use super::{Among, Entry, Table, Verdict};

/// So many cases, unless the environment (PROPTEST_CASES) asks for another number.
fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    if asked { ProptestConfig::default() } else { ProptestConfig::with_cases(usual) }
}

/// An object that counts how many of its kind are alive.
struct Counted(u32, Rc<Cell<i64>>);

impl Counted {
    fn new(value: u32, alive: &Rc<Cell<i64>>) -> Box<Self> {
        alive.set(alive.get() + 1);
        Box::new(Self(value, alive.clone()))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.set(self.1.get() - 1);
    }
}

fn key(number: u32) -> Vec<u8> {
    let mut key = format!("key:{number}").into_bytes();
    if number.is_multiple_of(97) {
        // Beyond the short form of the length.
        key.resize(300, b'x');
    }
    key
}

fn number(key: &[u8]) -> u64 {
    let digits = key[4..].iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |sum, &digit| sum * 10 + u64::from(digit - b'0'))
}

/// Hashes under which the table must work all the same.
fn hostile_hashes() -> Vec<Seed> {
    vec![
        Seed::fixed(7),
        // All alike.
        Seed::from_fn(|_| 0x1234_5678_9abc_def0),
        // All alike but for a few bits, at the very ends of the order.
        Seed::from_fn(|key| 0u64.wrapping_sub(number(key) % 3)),
        // Alike in the first 20 bits: splits go deep before they help. All fingerprints alike.
        Seed::from_fn(|key| (number(key) % (1 << 20)) << 24),
        // Half the keys in one place, half spread.
        Seed::from_fn(|key| match number(key) {
            n if n % 2 == 0 => n << 40,
            n => n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        }),
        // Ascending: one segment after the other fills.
        Seed::from_fn(|key| number(key) << 50),
    ]
}

#[derive(Clone, Debug, PartialEq)]
enum Held {
    Int(i64),
    Inline(u8, Vec<u8>),
    Object(u32),
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    held: Held,
    deadline: Option<i64>,
    lru: u32,
}

impl Row {
    fn of(entry: EntryRef<'_, Counted>) -> Self {
        let held = match entry.body() {
            Body::Int(value) => Held::Int(value),
            Body::Inline { kind, bytes } => Held::Inline(kind, bytes.to_vec()),
            Body::Object(object) => Held::Object(object.0),
        };
        Self { held, deadline: entry.deadline(), lru: entry.lru() }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Set(u32, Held, Option<i64>),
    Replace(u32, Held),
    Resize(u32, usize),
    Deadline(u32, Option<i64>),
    Touch(u32, u32),
    Add(u32, i64),
    Remove(u32),
    Fill(u32, u32),
    Empty(u32, u32),
    Expire(i64),
    Take,
    Load,
    Settle(usize),
}

fn held() -> impl Strategy<Value = Held> {
    prop_oneof![
        any::<i64>().prop_map(Held::Int),
        (0u8..16, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(k, b)| Held::Inline(k, b)),
        (0u8..16, 900usize..5000).prop_map(|(k, n)| Held::Inline(k, vec![k; n])),
        any::<u32>().prop_map(Held::Object),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let number = 0u32..3000;
    prop_oneof![
        4 => (number.clone(), held(), prop::option::of(0i64..100)).prop_map(|(n, h, d)| Op::Set(n, h, d)),
        4 => (number.clone(), held()).prop_map(|(n, h)| Op::Replace(n, h)),
        4 => (number.clone(), 0usize..2000).prop_map(|(n, l)| Op::Resize(n, l)),
        4 => (number.clone(), prop::option::of(0i64..100)).prop_map(|(n, d)| Op::Deadline(n, d)),
        2 => (number.clone(), any::<u32>()).prop_map(|(n, l)| Op::Touch(n, l)),
        2 => (number.clone(), -5i64..5).prop_map(|(n, a)| Op::Add(n, a)),
        4 => number.clone().prop_map(Op::Remove),
        3 => (number.clone(), 1u32..900).prop_map(|(n, c)| Op::Fill(n, c)),
        3 => (number.clone(), 1u32..900).prop_map(|(n, c)| Op::Empty(n, c)),
        1 => (0i64..100).prop_map(Op::Expire),
        1 => Just(Op::Take),
        1 => Just(Op::Load),
        2 => (1usize..5).prop_map(Op::Settle),
    ]
}

/// The table and the model that it must equal.
struct Pair {
    table: Table<Counted>,
    model: BTreeMap<Vec<u8>, Row>,
    alive: Rc<Cell<i64>>,
}

impl Pair {
    fn new(seed: Seed) -> Self {
        Self { table: Table::new(seed), model: BTreeMap::new(), alive: Rc::default() }
    }

    fn put(&mut self, key: &[u8], held: &Held, deadline: Option<i64>) {
        let hash = self.table.hash(key);
        let body = match held {
            Held::Int(value) => NewBody::Int(*value),
            Held::Inline(kind, bytes) => NewBody::Inline { kind: *kind, bytes },
            Held::Object(value) => NewBody::Object(Counted::new(*value, &self.alive)),
        };
        match self.table.entry(hash, key) {
            Entry::Occupied(mut entry) => {
                let old = Row::of(entry.view()).held;
                let removed = entry.set_body(body);
                match (old, removed) {
                    (Held::Int(a), RemovedBody::Int(b)) => assert_eq!(a, b),
                    (Held::Inline(a, _), RemovedBody::Inline { kind }) => assert_eq!(a, kind),
                    (Held::Object(a), RemovedBody::Object(b)) => assert_eq!(a, b.0),
                    (old, _) => panic!("{old:?} came back as something else"),
                }
                entry.set_deadline(deadline);
            }
            Entry::Vacant(vacant) => {
                let entry = vacant.insert(body, deadline);
                assert_eq!(entry.lru(), 0);
            }
        }
        let lru = self.model.get(key).map_or(0, |row| row.lru);
        self.model.insert(key.to_vec(), Row { held: held.clone(), deadline, lru });
    }

    fn remove(&mut self, key: &[u8]) {
        let hash = self.table.hash(key);
        let removed = self.table.get_mut(hash, key).map(|entry| entry.remove());
        assert_eq!(removed.is_some(), self.model.remove(key).is_some());
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Set(n, held, deadline) => self.put(&key(*n), held, *deadline),
            Op::Fill(n, count) => {
                for n in *n..n + count {
                    let held = if n % 11 == 0 { Held::Object(n) } else { Held::Int(n.into()) };
                    self.put(&key(n), &held, (n % 5 == 0).then_some(i64::from(n % 100)));
                }
            }
            Op::Empty(n, count) => (*n..n + count).for_each(|n| self.remove(&key(n))),
            Op::Remove(n) => self.remove(&key(*n)),
            Op::Expire(now) => self.expire(*now),
            Op::Take => self.take(),
            Op::Load => self.table.begin_loading(),
            Op::Settle(segments) => _ = self.table.settle_slice(*segments),
            Op::Replace(n, _)
            | Op::Resize(n, _)
            | Op::Deadline(n, _)
            | Op::Touch(n, _)
            | Op::Add(n, _) => self.change(&key(*n), op),
        }
    }

    fn change(&mut self, key: &[u8], op: &Op) {
        let hash = self.table.hash(key);
        let Some(row) = self.model.get_mut(key) else {
            assert!(self.table.get(hash, key).is_none());
            return;
        };
        let mut entry = self.table.get_mut(hash, key).expect("the model has it");
        match op {
            Op::Replace(_, held) => {
                let deadline = row.deadline;
                self.put(key, held, deadline);
            }
            Op::Resize(_, len) => {
                let (kind, mut bytes) = match &row.held {
                    Held::Inline(kind, bytes) => (*kind, bytes.clone()),
                    Held::Int(_) | Held::Object(_) => (0, Vec::new()),
                };
                bytes.resize(*len, 0);
                assert_eq!(entry.resize_inline(*len), &bytes[..]);
                row.held = Held::Inline(kind, bytes);
            }
            Op::Deadline(_, deadline) => {
                entry.set_deadline(*deadline);
                row.deadline = *deadline;
            }
            Op::Touch(_, lru) => {
                entry.set_lru(*lru);
                row.lru = lru & 0xff_ffff;
            }
            Op::Add(_, amount) => match (entry.body_mut(), &mut row.held) {
                (BodyMut::Int(value), Held::Int(held)) => {
                    *value = value.wrapping_add(*amount);
                    *held = held.wrapping_add(*amount);
                }
                (BodyMut::Inline { bytes, .. }, Held::Inline(_, held)) => {
                    bytes.reverse();
                    held.reverse();
                }
                (BodyMut::Object(object), Held::Object(held)) => {
                    object.0 ^= 1;
                    *held ^= 1;
                }
                (_, held) => panic!("the table does not hold {held:?}"),
            },
            _ => unreachable!("run hands over only what changes one entry"),
        }
    }

    fn expire(&mut self, now: i64) {
        let mut cursor = 0;
        let mut gone = BTreeSet::new();
        loop {
            let visit = |entry: EntryRef<'_, Counted>, _| {
                let deadline = entry.deadline().expect("only entries with a deadline are visited");
                if deadline >= now {
                    return Verdict::Keep;
                }
                assert!(gone.insert(entry.key().to_vec()), "removed twice");
                Verdict::Remove
            };
            cursor = self.table.for_each_volatile_slice(cursor, 20, visit, drop);
            if cursor == 0 {
                break;
            }
        }
        let due = |row: &Row| row.deadline.is_some_and(|deadline| deadline < now);
        let expected: BTreeSet<_> =
            self.model.iter().filter(|(_, row)| due(row)).map(|(key, _)| key.clone()).collect();
        assert_eq!(gone, expected);
        self.model.retain(|_, row| !due(row));
    }

    fn take(&mut self) {
        let mut drain = self.table.take();
        assert!(self.table.is_empty());
        self.model.clear();
        let mut rounds = 0;
        while !drain.free(10, drop) {
            rounds += 1;
            assert!(rounds < 100_000);
        }
        assert_eq!(self.alive.get(), 0);
    }

    fn check(&self) {
        self.table.check();
        assert_eq!(self.table.len(), self.model.len());
        let volatile = self.model.values().filter(|row| row.deadline.is_some()).count();
        assert_eq!(self.table.volatile_len(), volatile);
        for (key, row) in &self.model {
            let entry = self.table.get(self.table.hash(key), key).expect("the model has it");
            assert_eq!((entry.key(), Row::of(entry)), (&key[..], row.clone()));
        }
        assert_eq!(self.table.iter().count(), self.model.len());
        let objects = self.model.values().filter(|row| matches!(row.held, Held::Object(_))).count();
        assert_eq!(self.alive.get(), objects as i64);
    }
}

proptest! {
    #![proptest_config(cases(24))]
    #[test]
    fn the_table_equals_a_plain_map(ops in prop::collection::vec(op(), 1..60)) {
        for seed in hostile_hashes() {
            let mut pair = Pair::new(seed);
            for op in &ops {
                pair.run(op);
                pair.table.check();
            }
            pair.check();
            let alive = pair.alive.clone();
            drop(pair);
            prop_assert_eq!(alive.get(), 0);
        }
    }
}

proptest! {
    #![proptest_config(cases(6))]
    #[test]
    fn a_scan_returns_everything_that_stays(
        counts in prop::collection::vec((1usize..200, 0u32..4000, 0u32..2), 1..40),
        before in 0u32..4000,
    ) {
        for seed in hostile_hashes() {
            let mut pair = Pair::new(seed);
            let stay = 100_000..100_000 + 200u32;
            for n in stay.clone().chain(0..before) {
                pair.put(&key(n), &Held::Int(0), None);
            }
            let mut seen = BTreeSet::new();
            let mut rounds = counts.iter().cycle();
            let mut cursor = 0;
            loop {
                let &(count, n, fill) = rounds.next().expect("a cycle does not end");
                cursor = pair.table.scan(cursor, count, |entry| {
                    seen.insert(number(entry.key()) as u32);
                });
                if cursor == 0 {
                    break;
                }
                pair.run(&if fill == 1 { Op::Fill(n, 500) } else { Op::Empty(n, 1500) });
            }
            pair.table.check();
            prop_assert!(stay.clone().all(|n| seen.contains(&n)));
        }
    }
}

fn filled(count: u32, seed: Seed) -> Table<()> {
    let mut table = Table::new(seed);
    for n in 0..count {
        insert(&mut table, &key(n), NewBody::Int(n.into()), None);
    }
    table
}

fn insert(table: &mut Table<()>, key: &[u8], body: NewBody<'_, ()>, deadline: Option<i64>) {
    let hash = table.hash(key);
    match table.entry(hash, key) {
        Entry::Vacant(vacant) => drop(vacant.insert(body, deadline)),
        Entry::Occupied(_) => panic!("inserted twice"),
    }
}

fn remove(table: &mut Table<()>, key: &[u8]) {
    let hash = table.hash(key);
    table.get_mut(hash, key).expect("it is there").remove();
}

#[test]
fn an_undisturbed_scan_returns_each_entry_once() {
    for seed in hostile_hashes() {
        let table = filled(5000, seed);
        let (mut cursor, mut seen, mut calls) = (0, Vec::new(), 0);
        loop {
            cursor = table.scan(cursor, 10, |entry| seen.push(number(entry.key())));
            calls += 1;
            if cursor == 0 {
                break;
            }
        }
        assert!(calls <= 5000, "{calls}");
        seen.sort_unstable();
        assert_eq!(seen, (0..5000).collect::<Vec<_>>());
    }
}

#[test]
fn any_cursor_is_answered() {
    let table = filled(3000, Seed::fixed(1));
    for cursor in [1, 77, u64::MAX, 1 << 44, (1 << 45) - 1, 1 << 45, 0x1234_5678_9abc] {
        let next = table.scan(cursor, 10, |_| {});
        assert!(next < 1 << super::CURSOR_BITS);
    }
}

#[test]
fn a_big_table_grows_and_shrinks_to_nothing() {
    let mut table = filled(200_000, Seed::fixed(3));
    table.check();
    let full = table.structure_bytes();
    for n in 0..200_000 {
        remove(&mut table, &key(n));
        if n % 20_000 == 0 {
            table.check();
        }
    }
    table.check();
    assert!(table.is_empty());
    assert_eq!(table.storage.slab.used_bytes(), 0);
    assert!(table.structure_bytes() < full / 1000, "{}", table.structure_bytes());
}

#[test]
fn structure_stays_within_twelve_bytes_a_key_at_any_size() {
    let mut table: Table<()> = Table::new(Seed::fixed(5));
    let mut next_look = 20_000;
    for n in 0..400_000u32 {
        insert(&mut table, &n.to_le_bytes(), NewBody::Int(0), None);
        if table.len() == next_look {
            next_look = next_look * 51 / 50;
            let bytes = table.structure_bytes() as f64 / table.len() as f64;
            assert!((9.8..12.0).contains(&bytes), "{bytes} at {}", table.len());
        }
    }
}

#[test]
fn entries_take_what_the_layout_promises() {
    for (value_len, deadline, bytes) in
        [(32, None, 56), (8, None, 32), (32, Some(1), 64), (8, Some(1), 40)]
    {
        let mut table: Table<()> = Table::new(Seed::fixed(5));
        let value = vec![1; value_len];
        for n in 0..1000u128 {
            let body = NewBody::Inline { kind: 0, bytes: &value };
            insert(&mut table, &n.to_le_bytes(), body, deadline);
        }
        assert_eq!(table.storage.slab.used_bytes(), bytes * 1000);
    }
}

#[test]
fn churn_does_not_spread_the_table_out() {
    let mut table: Table<()> = Table::new(Seed::fixed(9));
    let value = [7; 32];
    let body = || NewBody::Inline { kind: 0, bytes: &value };
    let mut live: Vec<u64> = (0..100_000).collect();
    live.iter().for_each(|n| insert(&mut table, &n.to_le_bytes(), body(), None));
    let quiet = table.reserved_bytes();
    let mut random = 1u64;
    for next in (100_000u64..).step_by(50_000).take(10) {
        for n in next..next + 50_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (random >> 33) as usize % live.len();
            remove(&mut table, &live.swap_remove(at).to_le_bytes());
            if live.len() == 50_000 {
                for n in next..=n {
                    insert(&mut table, &n.to_le_bytes(), body(), None);
                    live.push(n);
                }
            }
        }
    }
    table.check();
    assert_eq!(live.len(), 100_000);
    let churned = table.reserved_bytes();
    assert!(churned * 100 <= quiet * 115, "{quiet} -> {churned}");
}

#[test]
fn random_entries_are_evenly_chosen() {
    let table = filled(2000, Seed::fixed(4));
    let mut state = 99u64;
    let mut draw = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    let mut counts = vec![0u32; 2000];
    for _ in 0..200_000 {
        let entry = table.random(&mut draw).expect("the table is not empty");
        counts[number(entry.key()) as usize] += 1;
    }
    // A hundred are expected of each; seven standard deviations are 70.
    assert!(counts.iter().all(|count| (30..170).contains(count)));
    let empty: Table<()> = Table::new(Seed::fixed(4));
    assert!(empty.random(&mut draw).is_none());
}

thread_local! {
    static HASHED: Cell<usize> = const { Cell::new(0) };
}

#[test]
fn no_operation_works_on_more_than_a_few_segments() {
    let counting = |key: &[u8]| {
        HASHED.set(HASHED.get() + 1);
        Seed::fixed(1).hash(key).bits()
    };
    let segment = segment_bytes(SIZE_MAX);
    let mut table: Table<()> = Table::new(Seed::from_fn(counting));
    let check = |table: &mut Table<()>, step: &dyn Fn(&mut Table<()>)| {
        HASHED.set(0);
        let bytes = table.storage.pool.used_bytes();
        step(table);
        assert!(table.storage.pool.used_bytes().abs_diff(bytes) <= 2 * segment);
        assert!(HASHED.get() <= 2 + SIZE_MAX * SLOTS, "{} keys hashed", HASHED.get());
    };
    for n in 0..60_000 {
        check(&mut table, &|table| insert(table, &key(n), NewBody::Int(0), None));
    }
    assert!(table.directory.words() >= 64);
    for n in 0..60_000 {
        check(&mut table, &|table| remove(table, &key(n)));
    }
    assert_eq!(table.directory.words(), 2);
}

#[test]
fn a_drain_frees_no_more_than_its_budget_at_once() {
    let alive = Rc::default();
    let mut table = Table::new(Seed::fixed(1));
    for n in 0..20_000u32 {
        let (key, body) = (key(n), NewBody::Object(Counted::new(n, &alive)));
        let hash = table.hash(&key);
        if let Entry::Vacant(vacant) = table.entry(hash, &key) {
            vacant.insert(body, None);
        }
    }
    let mut drain = table.into_drain();
    let mut done = false;
    while !done {
        let before = alive.get();
        let mut freed = 0;
        done = drain.free(100, |object| {
            freed += 1;
            drop(object);
        });
        assert_eq!(before - alive.get(), freed);
        assert!(freed <= 100 + SLOTS as i64);
    }
    assert_eq!(alive.get(), 0);
}

#[test]
fn samples_are_distinct_and_as_many_as_wanted() {
    for seed in hostile_hashes() {
        let table = filled(300, seed);
        for start in [0, 1 << 20, u64::MAX / 3, u64::MAX] {
            for wanted in [0, 1, 16, 300, 1000] {
                let mut seen = BTreeSet::new();
                table.sample(
                    wanted,
                    Among::All,
                    || start,
                    |entry| {
                        assert!(seen.insert(entry.key().to_vec()));
                    },
                );
                assert_eq!(seen.len(), wanted.min(300));
            }
        }
    }
}

#[test]
fn equal_hashes_beyond_a_segment_neither_fail_nor_grow_the_table() {
    let mut table = filled(3000, Seed::from_fn(|_| 42));
    table.check();
    assert!(table.structure_bytes() < 64 << 10);
    for n in (0..3000).rev() {
        assert!(table.get(table.hash(&key(n)), &key(n)).is_some());
        remove(&mut table, &key(n));
    }
    table.check();
    assert!(table.is_empty());
}

#[test]
fn an_overwrite_of_the_same_class_stays_in_place() {
    let mut table: Table<()> = Table::new(Seed::fixed(1));
    insert(&mut table, b"key", NewBody::Inline { kind: 1, bytes: b"12345" }, Some(5));
    let hash = table.hash(b"key");
    let before = table.get(hash, b"key").expect("inserted").key().as_ptr();
    let mut entry = table.get_mut(hash, b"key").expect("inserted");
    entry.set_body(NewBody::Inline { kind: 2, bytes: b"1234" });
    entry.set_deadline(Some(6));
    assert_eq!((entry.key().as_ptr(), entry.deadline()), (before, Some(6)));
}

#[test]
fn a_walk_visits_every_entry_that_was_not_marked_before() {
    for seed in hostile_hashes() {
        let mut table = filled(3000, seed);
        table.begin_capture(7);
        let mut seen = BTreeSet::new();
        for n in 0..4000 {
            let key = key(n);
            let hash = table.hash(&key);
            if let Some(mut entry) = table.get_mut(hash, &key) {
                assert_eq!(entry.captured_as(), 7);
                if n % 3 == 0 && entry.mark_captured() {
                    assert!(seen.insert(key));
                }
            } else {
                insert(&mut table, &key, NewBody::Int(1), None);
            }
            let mut left = 3;
            let _ = table.walk_uncaptured(|entry| {
                assert!(seen.insert(entry.key().to_vec()), "visited twice");
                left -= 1;
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if n % 500 == 0 {
                table.check();
            }
        }
        table.check();
        assert!(table.is_captured());
        assert_eq!(seen, (0..3000).map(key).collect());
    }
}
