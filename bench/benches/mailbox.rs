//! What a message between workers costs: on one thread, where only instructions count, and between
//! two, where the lines travel.

use std::{
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tessera_server::mesh::{
    mailbox::{Next, mailbox},
    wake::sleeper,
};

const CAPACITY: usize = 1024;

/// A boxed batch and what says whose it is.
type Message = [u64; 3];

fn on_one_thread(c: &mut Criterion) {
    let mut group = c.benchmark_group("mailbox/one thread");
    for batch in [1, 4, 16] {
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new("send and receive", batch), |b| {
            let (sender, mut receiver) = mailbox::<Message>(CAPACITY);
            b.iter(|| {
                sender.send_all((0..batch).map(|n| [n as u64; 3]));
                for _ in 0..batch {
                    if let Next::Message([number, ..]) = receiver.next() {
                        black_box(number);
                    }
                }
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("look into an empty mailbox", |b| {
        let (_sender, mut receiver) = mailbox::<Message>(CAPACITY);
        b.iter(|| matches!(receiver.next(), Next::Empty));
    });
    group.bench_function("read the tail", |b| {
        let (_sender, receiver) = mailbox::<Message>(CAPACITY);
        b.iter(|| black_box(receiver.tail()));
    });
    group.bench_function("wake a worker that is awake", |b| {
        let (_sleeper, waker) = sleeper(|| ());
        b.iter(|| black_box(waker.wake_if_asleep()));
    });
    group.bench_function("announce sleep and take it back", |b| {
        let (_sender, receiver) = mailbox::<Message>(CAPACITY);
        let (sleeper, _waker) = sleeper(|| ());
        b.iter(|| {
            black_box(sleeper.announce_sleep(|| receiver.is_drained()));
            sleeper.announce_awake();
        });
    });
    group.finish();
}

fn between_threads(c: &mut Criterion) {
    let mut group = c.benchmark_group("mailbox/between threads");
    group.throughput(Throughput::Elements(1)).sample_size(10);
    for producers in [1, 2] {
        group.bench_function(BenchmarkId::new("stream", producers), |b| {
            b.iter_custom(|messages| stream(producers, messages));
        });
    }
    group.finish();
}

/// Time for that many messages to pass from that many producers to one consumer, which gives the
/// credits back through one counter a producer.
fn stream(producers: usize, messages: u64) -> Duration {
    let (sender, mut receiver) = mailbox::<Message>(CAPACITY);
    let credits = (CAPACITY / producers) as u64;
    let each = messages.div_ceil(producers as u64);
    let received: Vec<_> = (0..producers).map(|_| AtomicU64::new(0)).collect();
    let start = Instant::now();
    thread::scope(|scope| {
        for (producer, received) in received.iter().enumerate() {
            let sender = sender.clone();
            scope.spawn(move || {
                for sent in 0..each {
                    while sent - received.load(Ordering::Acquire) >= credits {
                        thread::yield_now();
                    }
                    sender.send([producer as u64, sent, 0]);
                }
            });
        }
        let mut left = each * producers as u64;
        while left > 0 {
            match receiver.next() {
                Next::Message([producer, sent, _]) => {
                    received[producer as usize].store(sent + 1, Ordering::Release);
                    left -= 1;
                }
                Next::Unfilled | Next::Empty => thread::yield_now(),
            }
        }
    });
    start.elapsed()
}

criterion_group!(benches, on_one_thread, between_threads);
criterion_main!(benches);
