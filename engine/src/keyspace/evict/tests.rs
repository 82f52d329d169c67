//! Eviction: what goes, what stays, and how close it comes to an exact choice.

use std::collections::{BTreeMap, HashMap};

use super::{Among, Eviction, Order, POOL_MAX, Pool};
use crate::{
    journal::record::Record,
    keyspace::{Deadline, Keyspace, NewBody, usage::Policy},
    sys::random::Random,
};

const START_S: i64 = 1_700_000_000;
const FREQUENCY: Policy = Policy::Frequency { log_factor: 10, decay_minutes: 1 };

fn eviction(among: Among, order: Order) -> Eviction {
    Eviction { among, order, samples: 5 }
}

fn keyspace() -> Keyspace {
    let mut keyspace = Keyspace::new(3, 4);
    keyspace.advance_clock_us(START_S * 1_000_000);
    keyspace
}

fn name(key: usize) -> [u8; 4] {
    (key as u32).to_le_bytes()
}

fn set(keyspace: &mut Keyspace, key: usize, deadline: Deadline) {
    keyspace.slot(&name(key)).put(NewBody::Int(7), deadline);
}

/// Evicts `keys` keys.
fn evict(keyspace: &mut Keyspace, pool: &mut Pool, order: Eviction, keys: usize) -> usize {
    keyspace.evict(order, pool, (usize::MAX, keys)).keys
}

#[test]
fn keys_without_deadline_survive_volatile_policies() {
    for order in [Order::Recency, Order::Frequency, Order::Random, Order::Deadline] {
        let (mut keyspace, mut pool) = (keyspace(), Pool::default());
        for key in 0..600 {
            let deadline = match key % 3 {
                0 => Deadline::At(START_S * 1_000 + 1_000_000),
                _ => Deadline::Never,
            };
            keyspace.select(key % 2, false);
            set(&mut keyspace, key, deadline);
        }
        let order = eviction(Among::Volatile, order);
        assert!(keyspace.has_evictable(Among::Volatile));
        assert_eq!(evict(&mut keyspace, &mut pool, order, usize::MAX), 200);
        assert_eq!((keyspace.len(0) + keyspace.len(1), keyspace.stats.evicted), (400, 200));
        assert!(!keyspace.has_evictable(Among::Volatile));
        assert_eq!(evict(&mut keyspace, &mut pool, order, usize::MAX), 0);
        keyspace.check();
    }
}

#[test]
fn other_policies_empty_all_databases_if_they_must() {
    for order in [Order::Recency, Order::Frequency, Order::Random] {
        let (mut keyspace, mut pool) = (keyspace(), Pool::default());
        for key in 0..100 {
            keyspace.select(key % 4, false);
            set(&mut keyspace, key, Deadline::Never);
        }
        assert_eq!(evict(&mut keyspace, &mut pool, eviction(Among::All, order), usize::MAX), 100);
        assert!(keyspace.is_empty() && !keyspace.has_evictable(Among::All));
        keyspace.check();
    }
}

#[test]
fn it_stops_when_enough_is_freed_and_counts_what_that_is() {
    let (mut keyspace, mut pool) = (keyspace(), Pool::default());
    (0..1_000).for_each(|key| set(&mut keyspace, key, Deadline::Never));
    let before = keyspace.used_bytes();
    let order = eviction(Among::All, Order::Recency);
    let evicted = keyspace.evict(order, &mut pool, (2_000, usize::MAX));
    assert!((10..300).contains(&evicted.keys), "{evicted:?}");
    // Buckets are given back now and then, which may make it more.
    assert!(evicted.bytes >= 2_000);
    assert_eq!(before - keyspace.used_bytes(), evicted.bytes);
}

#[test]
fn a_key_that_was_used_since_it_was_sampled_stays() {
    let (mut keyspace, mut pool) = (keyspace(), Pool::default());
    (0..POOL_MAX).for_each(|key| set(&mut keyspace, key, Deadline::Never));
    keyspace.advance_clock_us((START_S + 100) * 1_000_000);
    let order = Eviction { samples: 64, ..eviction(Among::All, Order::Recency) };
    assert_eq!(evict(&mut keyspace, &mut pool, order, 1), 1);
    let left: Vec<usize> = (0..POOL_MAX).filter(|&key| keyspace.contains(&name(key))).collect();
    for &key in &left[1..] {
        assert!(keyspace.read(&name(key)).is_some());
    }
    assert_eq!(evict(&mut keyspace, &mut pool, order, 1), 1);
    assert!(!keyspace.contains(&name(left[0])));
    assert!(left[1..].iter().all(|&key| keyspace.contains(&name(key))));
}

#[test]
fn every_removal_is_recorded_and_a_capture_keeps_its_keys() {
    let (mut keyspace, mut pool) = (keyspace(), Pool::default());
    keyspace.journal.start(0, 1, 0);
    (0..50).for_each(|key| set(&mut keyspace, key, Deadline::Never));
    keyspace.begin_capture().expect("no other one");
    evict(&mut keyspace, &mut pool, eviction(Among::All, Order::Random), 20);
    let preserved = std::iter::from_fn(|| keyspace.next_preserved()).count();
    assert_eq!(preserved, 20);
    let (mut records, mut spans) = (0, Vec::new());
    while let Some(chunk) = keyspace.journal.take_until(u64::MAX) {
        let mut rest = chunk.bytes.as_slice();
        while !rest.is_empty() {
            let (record, len) = Record::read(rest, &mut spans).expect("a record");
            assert_eq!(&record.args()[0], b"DEL");
            records += 1;
            rest = &rest[len..];
        }
    }
    assert_eq!(records, 20);
}

#[test]
fn the_pool_keeps_the_best_once_each() {
    let mut pool = Pool::default();
    for round in 0..3 {
        for score in 0..40_u64 {
            pool.offer(score + round, 0, &score.to_le_bytes());
        }
    }
    let scores: Vec<u64> = pool.candidates.iter().map(|it| it.score).collect();
    assert_eq!(scores, (26..42).collect::<Vec<_>>());
    let keys: std::collections::BTreeSet<_> = pool.candidates.iter().map(|it| &it.key).collect();
    assert_eq!(keys.len(), POOL_MAX);
}

/// Numbers below `count` by Zipf's law: the rank's inverse is the weight.
struct Zipf {
    sums: Vec<f64>,
}

impl Zipf {
    fn new(count: usize) -> Self {
        let mut sum = 0.0;
        let sums = (1..=count).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        Self { sums: sums.collect() }
    }

    fn draw(&self, random: &mut Random) -> usize {
        let total = self.sums.last().copied().unwrap_or(1.0);
        let point = random.below(1 << 53) as f64 / (1_u64 << 53) as f64 * total;
        self.sums.partition_point(|&sum| sum <= point)
    }
}

const KEYS: usize = 4_000;
const ROOM: usize = 800;
const READS: usize = 60_000;

/// Reads keys, putting in those that are missing and letting one go for each beyond [`ROOM`]; answers
/// which share of the second half was there.
fn hit_ratio(reads: &[usize], mut read: impl FnMut(usize) -> bool) -> f64 {
    let hits = reads.iter().enumerate().filter(|&(at, &key)| read(key) && at >= READS / 2).count();
    hits as f64 / (READS / 2) as f64
}

fn sampled_ratio(reads: &[usize], order: Order) -> f64 {
    let (mut keyspace, mut pool) = (keyspace(), Pool::default());
    if order == Order::Frequency {
        keyspace.set_usage_policy(FREQUENCY);
    }
    let order = eviction(Among::All, order);
    let mut now_s = START_S;
    hit_ratio(reads, |key| {
        // A second for each read, so that no two keys were used at the same time.
        now_s += i64::from(order.order == Order::Recency);
        keyspace.advance_clock_us(now_s * 1_000_000);
        if keyspace.read(&name(key)).is_some() {
            return true;
        }
        if keyspace.len(0) == ROOM {
            assert_eq!(evict(&mut keyspace, &mut pool, order, 1), 1);
        }
        set(&mut keyspace, key, Deadline::Never);
        false
    })
}

/// The longest unused goes.
fn exact_recency_ratio(reads: &[usize]) -> f64 {
    let (mut times, mut by_time) = (HashMap::new(), BTreeMap::new());
    let mut now = 0;
    hit_ratio(reads, |key| {
        now += 1;
        let before: Option<i32> = times.insert(key, now);
        before.map(|time| by_time.remove(&time));
        if before.is_none()
            && times.len() > ROOM
            && let Some((_, oldest)) = by_time.pop_first()
        {
            times.remove(&oldest);
        }
        by_time.insert(now, key);
        before.is_some()
    })
}

/// The least frequently used goes, by all uses that there ever were.
fn exact_frequency_ratio(reads: &[usize]) -> f64 {
    let mut uses = vec![0_u32; KEYS];
    let mut held = std::collections::BTreeSet::new();
    hit_ratio(reads, |key| {
        let is_hit = held.remove(&(uses[key], key));
        uses[key] += 1;
        if !is_hit && held.len() == ROOM {
            held.pop_first();
        }
        held.insert((uses[key], key));
        is_hit
    })
}

#[test]
fn hit_ratios_come_close_to_those_of_exact_orders() {
    let zipf = Zipf::new(KEYS);
    let mut random = Random::from_seed(11);
    let reads: Vec<usize> = (0..READS).map(|_| zipf.draw(&mut random)).collect();
    let lru = sampled_ratio(&reads, Order::Recency);
    let exact_lru = exact_recency_ratio(&reads);
    assert!(lru > exact_lru - 0.02, "LRU: {lru:.3}, exactly {exact_lru:.3}");
    let lfu = sampled_ratio(&reads, Order::Frequency);
    let exact_lfu = exact_frequency_ratio(&reads);
    assert!(lfu > exact_lfu - 0.05, "LFU: {lfu:.3}, exactly {exact_lfu:.3}");
    let chance = sampled_ratio(&reads, Order::Random);
    assert!(chance < lru && lru < lfu, "random {chance:.3}, LRU {lru:.3}, LFU {lfu:.3}");
}

#[test]
fn the_nearest_deadlines_go_first() {
    let (mut keyspace, mut pool) = (keyspace(), Pool::default());
    (0..1_000).for_each(|key| {
        set(&mut keyspace, key, Deadline::At((START_S + 1_000 + key as i64) * 1_000));
    });
    let order = eviction(Among::Volatile, Order::Deadline);
    assert_eq!(evict(&mut keyspace, &mut pool, order, 200), 200);
    let near = (0..200).filter(|&key| keyspace.contains(&name(key))).count();
    let far = (600..1_000).filter(|&key| keyspace.contains(&name(key))).count();
    assert!(near < 80 && far > 390, "{near} of the nearest, {far} of the farthest are left");
}
