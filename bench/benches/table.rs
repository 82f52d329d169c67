//! The keyspace table at one million keys: nanoseconds for one key.
//!
//! For orientation the same with the standard library's map (hashbrown) under the same kind of hash,
//! which keeps its keys and values in allocations of their own.
//!
//! `cargo bench -p tessera-bench --bench table`; `-- --test` runs each once.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tessera_engine::keyspace::{Body, Entry, NewBody, Seed, Table};

const KEYS: u64 = 1_000_000;
const VALUE: [u8; 32] = [b'v'; 32];
/// Commands that a full pipeline hands over together.
const BATCH: usize = 16;

type Map = HashMap<Box<[u8]>, Box<[u8]>, ahash::RandomState>;

/// Sixteen digits that look random, as redis-benchmark's keys do.
fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// The keys of `KEYS` numbers in an order without pattern, another for each seed. Look-ups must not go
/// in the order of insertion, which is that of the entries in memory.
fn shuffled(from: u64, seed: u64) -> Vec<[u8; 16]> {
    let mut keys: Vec<_> = (from..from + KEYS).map(key).collect();
    let mut state = seed;
    for last in (1..keys.len()).rev() {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        keys.swap(last, (state >> 33) as usize % (last + 1));
    }
    keys
}

fn insert(table: &mut Table<()>, key: &[u8]) {
    let hash = table.hash(key);
    if let Entry::Vacant(vacant) = table.entry(hash, key) {
        vacant.insert(NewBody::Inline { kind: 0, bytes: &VALUE }, None);
    }
}

fn look_up(table: &Table<()>, key: &[u8]) -> usize {
    match table.get(table.hash(key), key).map(|entry| entry.body()) {
        Some(Body::Inline { bytes, .. }) => usize::from(bytes[0]),
        _ => 0,
    }
}

fn look_up_batch(table: &Table<()>, keys: &[[u8; 16]]) -> usize {
    let mut hashes = [table.hash(b""); BATCH];
    for (hash, key) in hashes.iter_mut().zip(keys) {
        *hash = table.hash(key);
        table.prefetch(*hash);
    }
    for &hash in &hashes[..keys.len()] {
        table.prefetch_entry(hash);
    }
    let found = hashes.iter().zip(keys).map(|(&hash, key)| table.get(hash, key));
    found.filter(|entry| matches!(entry.map(|e| e.body()), Some(Body::Inline { .. }))).count()
}

fn overwrite(table: &mut Table<()>, key: &[u8]) {
    let hash = table.hash(key);
    if let Some(mut entry) = table.get_mut(hash, key) {
        entry.set_body(NewBody::Inline { kind: 0, bytes: &VALUE });
    }
}

/// Removes a key and puts it back.
fn replace(table: &mut Table<()>, key: &[u8]) {
    let hash = table.hash(key);
    if let Some(entry) = table.get_mut(hash, key) {
        entry.remove();
    }
    insert(table, key);
}

/// Time for `rounds` keys of building up from nothing, as often as it takes.
fn time_inserts<M>(
    rounds: u64,
    keys: &[[u8; 16]],
    new: fn() -> M,
    put: fn(&mut M, &[u8]),
) -> Duration {
    let (mut spent, mut left) = (Duration::ZERO, rounds as usize);
    while left > 0 {
        let some = &keys[..left.min(keys.len())];
        let mut map = new();
        let start = Instant::now();
        some.iter().for_each(|key| put(&mut map, key));
        spent += start.elapsed();
        left -= some.len();
    }
    spent
}

fn bench_table(c: &mut Criterion) {
    let keys = shuffled(0, 1);
    let absent = shuffled(KEYS, 2);
    let mut table = Table::new(Seed::fixed(1));
    shuffled(0, 3).iter().for_each(|key| insert(&mut table, key));
    let id = |what| BenchmarkId::new("table", what);
    let mut group = c.benchmark_group("keyspace");
    group.throughput(Throughput::Elements(1));
    group.sample_size(20);

    let new = || Table::new(Seed::fixed(1));
    group.bench_function(id("insert"), |b| {
        b.iter_custom(|rounds| time_inserts(rounds, &keys, new, insert));
    });
    let mut at = keys.iter().cycle();
    group.bench_function(id("hit"), |b| {
        b.iter(|| look_up(&table, black_box(at.next().expect("endless"))));
    });
    let mut at = absent.iter().cycle();
    group.bench_function(id("miss"), |b| {
        b.iter(|| look_up(&table, black_box(at.next().expect("endless"))));
    });
    let mut at = keys.iter().cycle();
    group.bench_function(id("overwrite"), |b| {
        b.iter(|| overwrite(&mut table, black_box(at.next().expect("endless"))));
    });
    let mut at = keys.iter().cycle();
    group.bench_function(id("remove and insert"), |b| {
        b.iter(|| replace(&mut table, black_box(at.next().expect("endless"))));
    });
    group.throughput(Throughput::Elements(BATCH as u64));
    let mut at = keys.as_chunks::<BATCH>().0.iter().cycle();
    group.bench_function(id("hit, 16 prefetched"), |b| {
        b.iter(|| look_up_batch(&table, black_box(at.next().expect("endless"))));
    });
    group.finish();
}

fn new_map() -> Map {
    Map::with_hasher(ahash::RandomState::with_seed(1))
}

fn map_insert(map: &mut Map, key: &[u8]) {
    map.insert(key.into(), VALUE.as_slice().into());
}

fn bench_std(c: &mut Criterion) {
    let keys = shuffled(0, 1);
    let absent = shuffled(KEYS, 2);
    let mut map = new_map();
    shuffled(0, 3).iter().for_each(|key| map_insert(&mut map, key));
    let id = |what| BenchmarkId::new("std", what);
    let mut group = c.benchmark_group("keyspace");
    group.throughput(Throughput::Elements(1));
    group.sample_size(20);

    group.bench_function(id("insert"), |b| {
        b.iter_custom(|rounds| time_inserts(rounds, &keys, new_map, map_insert));
    });
    let get = |key: &[u8; 16]| map.get(&key[..]).map_or(0, |value| usize::from(value[0]));
    let mut at = keys.iter().cycle();
    group.bench_function(id("hit"), |b| b.iter(|| get(black_box(at.next().expect("endless")))));
    let mut at = absent.iter().cycle();
    group.bench_function(id("miss"), |b| b.iter(|| get(black_box(at.next().expect("endless")))));
    group.finish();
}

criterion_group!(benches, bench_table, bench_std);
criterion_main!(benches);
