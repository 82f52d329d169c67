//! Shards that share one limit.

use std::sync::Arc;

use tessera_proto::{Protocol, ReplyBuffer, RequestBatch};

use super::*;
use crate::{
    command::table,
    keyspace::{
        Among,
        budget::{Budget, REPORT_STEP_BYTES},
        evict::{Eviction, Order},
    },
    shard::{Caller, Settings},
    sys::random::Random,
};

const NOW_US: i64 = 1_700_000_000_000_000;

/// Some shards of one server, without their workers.
struct Shards {
    budget: Arc<Budget>,
    shards: Vec<Shard>,
}

impl Shards {
    fn new(count: usize) -> Self {
        let budget = Arc::new(Budget::new(count));
        let shards = (0..count as u64).map(|seed| {
            let memory = MemorySettings { budget: Arc::clone(&budget), ..Default::default() };
            let mut shard = Shard::new(seed, Settings { memory, ..Settings::default() });
            shard.advance_clock_us(NOW_US);
            shard
        });
        let shards = shards.collect();
        Self { budget, shards }
    }

    fn limit(&mut self, bytes: u64, eviction: Option<Eviction>) {
        self.budget.configure(bytes, eviction.is_some());
        for shard in &mut self.shards {
            let memory = MemorySettings { eviction, ..shard.settings().memory.clone() };
            let settings = Settings { memory, ..shard.settings().clone() };
            shard.configure(settings);
        }
    }

    fn run(&mut self, shard: usize, words: &[&[u8]]) -> String {
        let mut batch = RequestBatch::new();
        batch.push_slices(words.iter().copied());
        let args = batch.get(0).expect("one request");
        let command = table().resolve(&args).expect("a command");
        let (protocol, caller) = (Protocol::Resp2, Caller::default());
        let call = Call { command, args, database: 0, protocol, no_touch: false, caller };
        let mut out = ReplyBuffer::new();
        let _ = self.shards[shard].execute(&call, &mut out);
        String::from_utf8_lossy(&out.to_vec()).into_owned()
    }

    fn set(&mut self, shard: usize, key: u64, len: usize) {
        let reply = self.run(shard, &[b"SET", &key.to_le_bytes(), &vec![b'x'; len]]);
        assert_eq!(reply, "+OK\r\n");
    }

    /// What really counts, whatever was reported.
    fn used(&self) -> u64 {
        self.shards.iter().map(|shard| shard.keyspace.used_bytes() as u64).sum()
    }

    /// What workers do between commands.
    fn settle(&mut self) {
        while self.shards.iter().any(Shard::wants_room) {
            self.shards.iter_mut().filter(|it| it.wants_room()).for_each(Shard::make_room);
        }
    }
}

fn allkeys(order: Order) -> Option<Eviction> {
    Some(Eviction { among: Among::All, order, samples: 5 })
}

/// What one SET of a value of `len` bytes may add: its entry, and the growth of a segment.
fn growth(len: usize) -> u64 {
    len as u64 + len as u64 / 8 + 10_000
}

#[test]
fn the_limit_is_kept_whatever_the_policy_and_the_number_of_shards() {
    for count in [1, 2, 4] {
        for order in [Order::Recency, Order::Frequency, Order::Random] {
            let mut all = Shards::new(count);
            let limit = all.used() + 400_000;
            all.limit(limit, allkeys(order));
            let mut random = Random::from_seed(8);
            let steps = if count == 1 { 0 } else { (count * REPORT_STEP_BYTES) as u64 };
            for key in 0..20_000_u64 {
                let len = 20 + random.below(400) as usize;
                all.set(random.below(count as u64) as usize, key, len);
                let used = all.used();
                let most = limit + steps + growth(420) * count as u64;
                assert!(used <= most, "{used} of {limit} with {count} shards");
            }
            all.settle();
            assert!(all.used() <= limit + steps);
            let evicted: u64 = all.shards.iter().map(|it| it.keyspace.stats.evicted).sum();
            assert!(evicted > 15_000, "{evicted}");
            all.shards.iter().for_each(Shard::check);
        }
    }
}

#[test]
fn a_shard_that_alone_is_written_to_is_not_emptied_for_the_others() {
    let mut all = Shards::new(4);
    for key in 0..8_000 {
        all.set((key % 4) as usize, key, 100);
    }
    let limit = all.used();
    all.limit(limit, allkeys(Order::Recency));
    for key in 8_000..14_000 {
        all.set(0, key, 100);
        all.settle();
    }
    let keys: Vec<usize> = all.shards.iter().map(|shard| shard.keyspace.len(0)).collect();
    assert!(keys[0] > 4_000, "{keys:?}");
    assert!(keys[1..].iter().all(|&kept| (500..1_800).contains(&kept)), "{keys:?}");
    assert!(all.used() <= limit + 4 * REPORT_STEP_BYTES as u64);
}

#[test]
fn a_shard_keeps_the_limit_alone_while_the_others_sleep() {
    let mut all = Shards::new(4);
    for key in 0..8_000 {
        all.set((key % 4) as usize, key, 100);
    }
    let limit = all.used();
    all.limit(limit, allkeys(Order::Random));
    for key in 8_000..30_000 {
        all.set(0, key, 100);
        let most = limit + 4 * (REPORT_STEP_BYTES as u64 + growth(100));
        assert!(all.used() <= most, "{} of {limit}", all.used());
    }
}

#[test]
fn memory_is_exhausted_once_all_shards_have_looked() {
    let mut all = Shards::new(2);
    (0..100).for_each(|key| all.set((key % 2) as usize, key, 100));
    let volatile = Eviction { among: Among::Volatile, order: Order::Deadline, samples: 5 };
    all.run(0, &[b"EXPIRE", &0_u64.to_le_bytes(), b"1000"]);
    all.limit(1, Some(volatile));
    assert!(!all.budget.is_exhausted());
    all.settle();
    assert!(all.budget.is_exhausted());
    assert_eq!(all.shards[0].keyspace.stats.evicted, 1);
    // A key that may go brings the shard back.
    all.run(1, &[b"EXPIRE", &1_u64.to_le_bytes(), b"1000"]);
    all.run(1, &[b"DBSIZE"]);
    assert_eq!(all.shards[1].keyspace.len(0), 49);
    all.limit(0, None);
    assert!(!all.budget.is_over());
}

#[test]
fn a_large_limit_costs_no_key_and_a_held_shard_gives_none() {
    let mut all = Shards::new(1);
    all.limit(1 << 30, allkeys(Order::Recency));
    (0..1_000).for_each(|key| all.set(0, key, 50));
    assert_eq!(all.budget.used(), all.used());
    all.shards[0].hold_eviction(true);
    all.limit(1, allkeys(Order::Recency));
    assert!(!all.shards[0].wants_room());
    all.run(0, &[b"GET", b"k"]);
    assert_eq!(all.shards[0].keyspace.len(0), 1_000);
    all.shards[0].hold_eviction(false);
    all.settle();
    assert_eq!(all.shards[0].keyspace.len(0), 0);
}

#[test]
fn nothing_goes_in_the_middle_of_a_unit() {
    let mut all = Shards::new(1);
    (0..100).for_each(|key| all.set(0, key, 100));
    let limit = all.used();
    all.limit(limit, allkeys(Order::Recency));
    all.shards[0].begin_unit();
    (100..200).for_each(|key| all.set(0, key, 100));
    assert_eq!(all.shards[0].keyspace.len(0), 200);
    all.shards[0].end_unit();
    assert!(all.shards[0].wants_room());
    all.settle();
    assert!(all.used() <= limit);
}

#[test]
fn what_is_not_freed_yet_is_freed_before_more_is_taken() {
    let mut all = Shards::new(1);
    for number in 0..50_000_u64 {
        all.run(0, &[b"SADD", b"huge", format!("member:{number:020}").as_bytes()]);
    }
    let limit = all.used();
    all.limit(limit, None);
    all.run(0, &[b"DEL", b"huge"]);
    let waiting = all.shards[0].keyspace.garbage_bytes();
    assert!(waiting > 1_000_000, "{waiting}");
    // As long as both fit there is no haste.
    all.run(0, &[b"DBSIZE"]);
    assert_eq!(all.shards[0].keyspace.garbage_bytes(), waiting);
    let mut commands = 0;
    for key in 0.. {
        if !all.shards[0].keyspace.has_garbage() {
            break;
        }
        all.set(0, key, 20_000);
        commands += 1;
        assert!(all.used() + all.shards[0].keyspace.garbage_bytes() as u64 <= 2 * limit);
    }
    assert!((2..500).contains(&commands), "{commands}");
    assert_eq!(all.shards[0].keyspace.garbage_bytes(), 0);
}

#[test]
fn tenacity_is_the_number_of_keys_that_a_command_may_cost() {
    assert_eq!(keys_of_tenacity(0), 16);
    assert_eq!(keys_of_tenacity(10), 316);
    assert!(keys_of_tenacity(50) > 10 * keys_of_tenacity(30));
    assert_eq!(keys_of_tenacity(100), usize::MAX);
}
