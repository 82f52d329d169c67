//! Templates of the commands on lists, hashes, sets and sorted sets, and the words in them.
//!
//! Scores are multiples of a quarter, which Redis 7.0 and its successors write alike, and not -0:
//! whether a zero keeps its sign depends on the encoding at that moment, and 7.0 chooses it by the
//! first of several members, its successors by the longest. Ranges by
//! member go to keys of their own, whose scores are all equal: elsewhere their outcome is not
//! defined. Where several keys take part they lie in one slot.

use fastrand::Rng;

/// Commands whose replies have no order.
pub(super) const UNORDERED: &[&str] = &[
    "KEYS",
    "SMEMBERS",
    "SINTER",
    "SUNION",
    "SDIFF",
    "SPOP",
    "SRANDMEMBER",
    "HGETALL",
    "HKEYS",
    "HVALS",
    "HRANDFIELD",
    "ZRANDMEMBER",
];

pub(super) const LISTS: &[&str] = &[
    "RPUSH <near> <member>",
    "RPUSH <near> <member> <member> <member> <member>",
    "LPUSH <near> <member> <member>",
    "LPUSH <near> <many-members>",
    "LPUSHX <near> <member>",
    "RPUSHX <near> <member> <member>",
    "LPOP <near>",
    "LPOP <near> <few>",
    "RPOP <near>",
    "RPOP <near> <few>",
    "LRANGE <near> <few> <few>",
    "LRANGE <near> 0 -1",
    "LINDEX <near> <few>",
    "LLEN <near>",
    "LSET <near> <few> <member>",
    "LINSERT <near> BEFORE <member> <member>",
    "LINSERT <near> after <member> <member>",
    "LREM <near> <few> <member>",
    "LTRIM <near> <few> -1",
    "LTRIM <near> <few> <few>",
    "LPOS <near> <member>",
    "LPOS <near> <member> RANK <few> COUNT <few>",
    "LPOS <near> <member> COUNT 0 MAXLEN <few>",
    "RPOPLPUSH <near> <near>",
    "LMOVE <near> <near> <end> <end>",
    "LMPOP 2 <near> <near> <end>",
    "LMPOP <few> <near> <near> <end> COUNT <few>",
    "SET <near> <value>",
    "TYPE <near>",
    "DEL <near>",
    "EXISTS <near> <near>",
    "COPY <near> <near> REPLACE",
];

pub(super) const HASHES: &[&str] = &[
    "HSET <near> <member> <value>",
    "HSET <near> <member> <value> <member> <value> <member> <number>",
    "HSET <near> <member> <value> <member>",
    "HSET <near> <many-members>",
    "HMSET <near> <member> <value>",
    "HSETNX <near> <member> <value>",
    "HGET <near> <member>",
    "HMGET <near> <member> <member> <member>",
    "HDEL <near> <member> <member>",
    "HDEL <near> <many-members>",
    "HLEN <near>",
    "HSTRLEN <near> <member>",
    "HEXISTS <near> <member>",
    "HINCRBY <near> <member> <number>",
    "HINCRBYFLOAT <near> <member> <score>",
    "HGETALL <near>",
    "HKEYS <near>",
    "HVALS <near>",
    "HRANDFIELD <near> 100000",
    "HRANDFIELD <near> 100000 WITHVALUES",
    "HRANDFIELD <near> <word>",
    "HSCAN <near> 0 COUNT 100000",
    "HSCAN <near> 0 MATCH m* COUNT 100000",
    "SET <near> <value>",
    "DEL <near>",
    "COPY <near> <near> REPLACE",
];

pub(super) const SETS: &[&str] = &[
    "SADD <near> <member>",
    "SADD <near> <member> <member> <number>",
    "SADD <near> <many-members>",
    "SREM <near> <member> <member>",
    "SREM <near> <many-members>",
    "SCARD <near>",
    "SISMEMBER <near> <member>",
    "SMISMEMBER <near> <member> <member>",
    "SMEMBERS <near>",
    "SMOVE <near> <near> <member>",
    "SPOP <near> 100000",
    "SPOP <near> 0",
    "SPOP <near> <word>",
    "SRANDMEMBER <near> 100000",
    "SRANDMEMBER <near> <word>",
    "SSCAN <near> 0 COUNT 100000",
    "SSCAN <near> 0 COUNT 100000 MATCH <member>",
    "SINTER <near> <near>",
    "SINTER <near> <near> <near>",
    "SUNION <near> <near>",
    "SDIFF <near> <near>",
    "SDIFF <near> <near> <near>",
    "SINTERSTORE <near> <near> <near>",
    "SUNIONSTORE <near> <near> <near>",
    "SDIFFSTORE <near> <near> <near>",
    "SINTERCARD 2 <near> <near>",
    "SINTERCARD <few> <near> <near> LIMIT <few>",
    "SET <near> <value>",
    "DEL <near>",
    "COPY <near> <near> REPLACE",
];

pub(super) const SORTED_SETS: &[&str] = &[
    "ZADD <near> <score> <member>",
    "ZADD <near> <score> <member> <score> <member> <score> <member>",
    "ZADD <near> <zadd-option> <score> <member>",
    "ZADD <near> <zadd-option> <zadd-option> <score> <member> <score> <member>",
    "ZADD <near> <zadd-option> INCR <score> <member>",
    "ZADD <near> <many-scores>",
    "ZADD {t}lex 0 <member> 0 <member> 0 <member>",
    "ZINCRBY <near> <score> <member>",
    "ZREM <near> <member> <member>",
    "ZREM {t}lex <member>",
    "ZCARD <near>",
    "ZSCORE <near> <member>",
    "ZMSCORE <near> <member> <member>",
    "ZCOUNT <near> <score-bound> <score-bound>",
    "ZLEXCOUNT {t}lex <lex-bound> <lex-bound>",
    "ZRANK <near> <member>",
    "ZREVRANK <near> <member>",
    "ZPOPMIN <near>",
    "ZPOPMAX <near> <few>",
    "ZMPOP 2 <near> <near> MIN",
    "ZMPOP <few> <near> <near> MAX COUNT <few>",
    "ZRANDMEMBER <near> 100000",
    "ZRANDMEMBER <near> 100000 WITHSCORES",
    "ZSCAN <near> 0 COUNT 100000",
    "ZSCAN <near> 0 MATCH m:*1 COUNT 100000",
    "ZRANGE <near> <few> <few>",
    "ZRANGE <near> 0 -1 WITHSCORES",
    "ZRANGE <near> <few> <few> REV WITHSCORES",
    "ZRANGE <near> <score-bound> <score-bound> BYSCORE",
    "ZRANGE <near> <score-bound> <score-bound> BYSCORE REV LIMIT <few> <few>",
    "ZRANGE {t}lex <lex-bound> <lex-bound> BYLEX",
    "ZRANGE {t}lex <lex-bound> <lex-bound> BYLEX REV LIMIT <few> <few>",
    "ZREVRANGE <near> <few> <few>",
    "ZREVRANGE <near> <few> <few> WITHSCORES",
    "ZREVRANGEBYSCORE <near> <score-bound> <score-bound> LIMIT <few> <few> WITHSCORES",
    "ZRANGEBYSCORE <near> <score-bound> <score-bound> WITHSCORES LIMIT <few> <few>",
    "ZREVRANGEBYSCORE <near> <score-bound> <score-bound>",
    "ZRANGEBYLEX {t}lex <lex-bound> <lex-bound>",
    "ZREVRANGEBYLEX {t}lex <lex-bound> <lex-bound> LIMIT <few> <few>",
    "ZRANGESTORE <near> <near> <few> <few>",
    "ZRANGESTORE <near> <near> <score-bound> <score-bound> BYSCORE REV",
    "ZRANGESTORE <near> {t}lex <lex-bound> <lex-bound> BYLEX LIMIT <few> <few>",
    "ZRANGEBYLEX {t}lex <lex-bound> <lex-bound> LIMIT <few> <few>",
    "ZREMRANGEBYRANK <near> <few> <few>",
    "ZREMRANGEBYSCORE <near> <score-bound> <score-bound>",
    "ZREMRANGEBYLEX {t}lex <lex-bound> <lex-bound>",
    "ZUNION 2 <near> <near> WITHSCORES",
    "ZUNION 2 <near> <near> WEIGHTS <score> <score> AGGREGATE <aggregate> WITHSCORES",
    "ZINTER 2 <near> <near> AGGREGATE <aggregate> WITHSCORES",
    "ZINTER <few> <near> <near>",
    "ZINTER 2 <near> <near> WEIGHTS <score> <score>",
    "ZDIFF 3 <near> <near> <near> WITHSCORES",
    "ZINTERCARD 2 <near> <near> LIMIT <few>",
    "ZUNIONSTORE <near> 2 <near> <near> WEIGHTS <score> <score>",
    "ZUNIONSTORE <near> 2 <near> <near> AGGREGATE <aggregate>",
    "ZINTERSTORE <near> 2 <near> <near> AGGREGATE <aggregate>",
    "ZINTERSTORE <near> 2 <near> <near> WEIGHTS <score> <score> AGGREGATE <aggregate>",
    "ZDIFFSTORE <near> 2 <near> <near>",
    "SADD <near> <member> <member>",
    "SET <near> <value>",
    "DEL <near>",
    "COPY <near> <near> REPLACE",
];

/// The words that stand for a word of these templates, if it is one of theirs.
pub(super) fn fill(word: &str, random: &mut Rng) -> Option<Vec<Vec<u8>>> {
    let text = match word {
        "<member>" => return Some(vec![member(random)]),
        "<many-members>" => return Some((0..40).map(|_| member(random)).collect()),
        "<many-scores>" => {
            let pairs = (0..20).flat_map(|_| [score(random).into_bytes(), member(random)]);
            return Some(pairs.collect());
        }
        // Keys of one slot.
        "<near>" => format!("{{t}}{}", random.u8(0..4)),
        "<few>" => random.i32(-4..12).to_string(),
        "<word>" => pick(random, &["x", "", "1.5", " 1", "9223372036854775808"]),
        "<end>" => pick(random, &["LEFT", "RIGHT", "left", "Right", "UP"]),
        "<score>" => score(random),
        "<score-bound>" => {
            pick(random, &["-inf", "+inf", "1", "(1", "(-3", "0", "7.25", "x", "(", "40"])
        }
        "<lex-bound>" => {
            pick(random, &["-", "+", "[b", "(b", "[d", "(m:2", "[m:30", "[", "(", "x", ""])
        }
        "<zadd-option>" => pick(random, &["NX", "XX", "GT", "LT", "CH", "ch"]),
        "<aggregate>" => pick(random, &["SUM", "min", "MAX", "avg"]),
        _ => return None,
    };
    Some(vec![text.into_bytes()])
}

fn pick(random: &mut Rng, list: &[&str]) -> String {
    list[random.usize(0..list.len())].into()
}

/// Few short ones, so that they meet, many to make collections large, and some long ones.
fn member(random: &mut Rng) -> Vec<u8> {
    match random.u8(0..20) {
        0..6 => pick(random, &["a", "b", "c", "d", "e", "f"]).into_bytes(),
        6..10 => random.i32(-5..30).to_string().into_bytes(),
        10..17 => format!("m:{}", random.u16(0..300)).into_bytes(),
        17 => random.i64(..).to_string().into_bytes(),
        18 => pick(random, &["", "007", "-0", "1.0", "\r\n\0\u{ff}"]).into_bytes(),
        _ => vec![b'x'; [63, 64, 65, 300, 700, 5000][random.usize(0..6)]],
    }
}

fn score(random: &mut Rng) -> String {
    match random.u8(0..12) {
        0..6 => random.i32(-20..50).to_string(),
        6..10 => format!("{}", f64::from(random.i32(-100..100)) / 4.0),
        _ => pick(random, &["inf", "-inf", "nan", "x", ""]),
    }
}
