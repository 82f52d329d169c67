//! Parsing requests, carrying them in batches, writing replies: what every command pays for before
//! and after it runs.
//!
//! Inputs have the shapes that load generators send: 16-byte keys, 64-byte values, one request alone
//! or 64 in a row, a value that fills several reads.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tessera_proto::{
    Limits, Protocol, ReplyBuffer, ReplyWriter, RequestBatch, RequestParser, Step, key_slot,
};

const KEY: &[u8] = b"memtier-00123456";
const VALUE: [u8; 64] = [b'v'; 64];
const PIPELINE: usize = 64;

fn request(arguments: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Parses all of `input` and gives the bytes of all arguments, so that all are looked at.
fn parse_all(parser: &mut RequestParser, limits: &Limits, input: &[u8]) -> usize {
    let (mut start, mut bytes) = (0, 0);
    while let Ok(Step::Request { consumed }) = parser.parse(&input[start..], limits) {
        let args = parser.args(&input[start..]);
        bytes += args[0].len() + args[1].len();
        start += consumed;
    }
    bytes
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    let get = request(&[b"GET", KEY]);
    let set = request(&[b"SET", KEY, &VALUE]);
    let large = request(&[b"SET", KEY, &vec![b'v'; 64 * 1024]]);
    let inputs = [
        ("get", 1, get.clone()),
        ("set", 1, set.clone()),
        ("inline get", 1, b"GET memtier-00123456\r\n".to_vec()),
        ("get x64", PIPELINE, get.repeat(PIPELINE)),
        ("set x64", PIPELINE, set.repeat(PIPELINE)),
        ("set 64 KiB", 1, large.clone()),
    ];
    for (name, requests, input) in &inputs {
        let (mut parser, limits) = (RequestParser::new(), Limits::default());
        group.throughput(Throughput::Elements(*requests as u64));
        group.bench_function(*name, |b| {
            b.iter(|| parse_all(&mut parser, &limits, black_box(input)));
        });
    }
    group.throughput(Throughput::Elements(1));
    group.bench_function("set 64 KiB in 16 KiB reads", |b| {
        let (mut parser, limits) = (RequestParser::new(), Limits::default());
        b.iter(|| {
            for end in (16 * 1024..large.len()).step_by(16 * 1024) {
                let step = parser.parse(black_box(&large[..end]), &limits);
                assert!(matches!(step, Ok(Step::NeedMore { .. })));
            }
            parser.parse(black_box(&large), &limits)
        });
    });
    group.finish();
}

fn carry(c: &mut Criterion) {
    let mut group = c.benchmark_group("carry");
    group.throughput(Throughput::Elements(PIPELINE as u64));
    let owner = Bytes::from(request(&[b"SET", KEY, &VALUE]));
    let (mut parser, limits) = (RequestParser::new(), Limits::default());
    parser.parse(&owner, &limits).expect("the request is whole");
    group.bench_function("set x64", |b| {
        let mut batch = RequestBatch::new();
        b.iter(|| {
            batch.clear();
            for _ in 0..PIPELINE {
                batch.push(&parser.args(black_box(&owner)));
            }
            batch.iter().map(|args| args[1].len()).sum::<usize>()
        });
    });
    group.finish();
}

fn reply(c: &mut Criterion) {
    let mut group = c.benchmark_group("reply");
    group.throughput(Throughput::Elements(PIPELINE as u64));
    let mut buffer = ReplyBuffer::new();
    let mut bench = |name: &str, write: &dyn Fn(&mut ReplyWriter<'_>)| {
        group.bench_function(name, |b| {
            b.iter(|| {
                buffer.clear();
                let mut reply = ReplyWriter::new(&mut buffer, Protocol::Resp2);
                for _ in 0..PIPELINE {
                    write(&mut reply);
                }
                black_box(buffer.len())
            });
        });
    };
    bench("ok x64", &|reply| reply.ok());
    bench("bulk of 64 bytes x64", &|reply| reply.bulk(black_box(&VALUE)));
    bench("integer x64", &|reply| reply.integer(black_box(12_345)));
    group.finish();
}

fn slot(c: &mut Criterion) {
    c.bench_function("slot of a 16-byte key", |b| b.iter(|| key_slot(black_box(KEY))));
}

criterion_group!(benches, parse, carry, reply, slot);
criterion_main!(benches);
