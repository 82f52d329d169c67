//! What is computed in slices against the same computed at once.

use tessera_proto::{Args, ReplyBuffer};

use crate::{
    command::{
        table::table,
        testing::{Bench, lay_out},
    },
    shard::{Call, Caller},
};

const LINES: [&str; 17] = [
    "SINTER a b",
    "SINTER a b none",
    "SDIFF a b",
    "SDIFF a a",
    "SUNION a b",
    "SINTERCARD 2 a b",
    "SINTERCARD 2 a b LIMIT 5000",
    "ZUNION 2 y z WITHSCORES",
    "ZUNION 2 y a",
    "ZINTER 2 y z WEIGHTS 2 3 AGGREGATE MAX WITHSCORES",
    "ZDIFF 2 y z WITHSCORES",
    "ZINTERCARD 2 y z",
    "ZINTERCARD 2 y z LIMIT 4500",
    "XRANGE x - +",
    "XRANGE x 77-1 9000-0 COUNT 5000",
    "XREVRANGE x + -",
    "XREVRANGE x 9000-1 77-1 COUNT 5000",
];

fn execute(bench: &mut Bench, line: &str, is_script: bool) -> ReplyBuffer {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let (bytes, spans) = lay_out(&words);
    let args = Args::new(&bytes, &spans);
    let command = table().resolve(&args).expect("the command exists");
    let Bench { database, protocol, .. } = *bench;
    let caller = Caller { is_script, ..Caller::default() };
    let call = Call { command, args, database, protocol, no_touch: false, caller };
    let mut out = ReplyBuffer::new();
    let _effect = bench.shard.execute(&call, &mut out).expect("it succeeds");
    out
}

fn filled() -> Bench {
    let mut bench = Bench::new();
    for number in 0..10_000_u32 {
        bench.run(&format!("SADD a member:{number}"));
        bench.run(&format!("SADD b member:{}", number + 3_000));
        bench.run(&format!("ZADD y {} member:{number}", number % 77));
        bench.run(&format!("ZADD z {} member:{}", number % 33, number + 3_000));
        bench.run(&format!("XADD x {number}-1 field {number}"));
    }
    for number in (0..10_000).step_by(7) {
        bench.run(&format!("XDEL x {number}-1"));
    }
    bench
}

#[test]
fn slices_come_to_what_the_command_would_have_answered_at_once() {
    let mut bench = filled();
    let expected = LINES.map(|line| execute(&mut bench, line, true));
    let replies = LINES.map(|line| execute(&mut bench, line, false));
    bench.run("FLUSHALL");
    for ((line, expected), mut reply) in LINES.into_iter().zip(expected).zip(replies) {
        assert!(!expected.has_later(), "{line}: scripts get all at once");
        let is_long = line != "SINTER a b none";
        assert_eq!(reply.has_later(), is_long, "{line}");
        let again = reply.clone();
        let (mut bytes, mut empty) = (Vec::new(), 0);
        while !reply.is_empty() {
            let piece = reply.take_written();
            assert!(piece.len() < 200_000, "{line}: a piece of {}", piece.len());
            empty += usize::from(piece.is_empty());
            bytes.extend(piece.to_vec());
        }
        assert!(bytes == expected.to_vec(), "{line}");
        let counts_blocks = line.starts_with('X');
        assert!(counts_blocks || !is_long || empty > 2, "{line}: others had {empty} turns");
        assert!(again.to_vec() == bytes, "{line}: a copy writes the same");
    }
}

#[test]
fn what_was_captured_is_freed_by_the_shard_when_a_reply_is_given_up() {
    let mut bench = filled();
    let mut reply = execute(&mut bench, "SUNION a b", false);
    for _ in 0..5 {
        assert!(reply.take_written().is_empty());
    }
    bench.run("FLUSHALL");
    while bench.shard.tick() {}
    assert!(!bench.shard.keyspace.has_garbage());
    drop(reply);
    assert!(bench.shard.keyspace.has_garbage());
    while bench.shard.tick() {}
    assert!(!bench.shard.keyspace.has_garbage());
}
