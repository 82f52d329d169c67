//! Replies of the sorted set commands, compared with what Redis answers.

use tessera_proto::Protocol;

use super::super::testing::Bench;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

#[test]
fn an_infinite_score_without_weight_makes_a_sum_zero() {
    Bench::new().expect(&[
        ("ZADD few inf m", ":1"),
        ("ZADD many 5 m 1 x 1 y", ":3"),
        ("ZINTER 2 few many WEIGHTS 0 1 WITHSCORES", "[\"m\" \"5\"]"),
        ("ZADD few 7 m", ":0"),
        ("ZADD many inf m", ":0"),
        ("ZINTER 2 few many WEIGHTS 1 0 WITHSCORES", "[\"m\" \"0\"]"),
        ("ZINTER 2 few many WEIGHTS 1 0 AGGREGATE MIN WITHSCORES", "[\"m\" \"7\"]"),
        ("ZUNION 2 few many WEIGHTS 1 0 AGGREGATE SUM", "[\"x\" \"y\" \"m\"]"),
    ]);
}

#[test]
fn members_are_added_by_the_options() {
    Bench::new().expect(&[
        ("ZADD z 1 a 2 b", ":2"),
        ("ZADD z 3 a", ":0"),
        ("ZADD z CH 4 a 2 b", ":1"),
        ("ZADD z NX 9 a 5 c", ":1"),
        ("ZADD z XX 9 d", ":0"),
        ("ZADD z GT CH 1 a", ":0"),
        ("ZADD z LT CH 1 a", ":1"),
        ("ZADD z INCR 2.5 a", "\"3.5\""),
        ("ZADD z NX INCR 1 a", "nil"),
        ("ZADD none XX INCR 1 a", "nil"),
        ("EXISTS none", ":0"),
        ("ZINCRBY z -0.5 a", "\"3\""),
        ("ZADD z NX XX 1 a", "-ERR XX and NX options at the same time are not compatible"),
        ("ZADD z NX GT 1 a", "-ERR GT, LT, and/or NX options at the same time are not compatible"),
        ("ZADD z INCR 1 a 2 b", "-ERR INCR option supports a single increment-element pair"),
        ("ZADD z 1", "-ERR wrong number of arguments for 'zadd' command"),
        ("ZADD z 1 a 2", "-ERR syntax error"),
        ("ZADD z 1 a x b", "-ERR value is not a valid float"),
        ("ZADD z nan a", "-ERR value is not a valid float"),
        ("ZADD z inf i", ":1"),
        ("ZINCRBY z -inf i", "-ERR resulting score is not a number (NaN)"),
        ("ZSCORE z i", "\"inf\""),
        ("ZRANGE z 0 -1 WITHSCORES", "[\"b\" \"2\" \"a\" \"3\" \"c\" \"5\" \"i\" \"inf\"]"),
    ]);
}

#[test]
fn scores_and_ranks_are_read() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("ZADD z 1 a 2 b 3 c", ":3"),
        ("ZCARD z", ":3"),
        ("ZCARD none", ":0"),
        ("ZSCORE z b", "\"2\""),
        ("ZSCORE z x", "nil"),
        ("ZMSCORE z a x c", "[\"1\" nil \"3\"]"),
        ("ZRANK z c", ":2"),
        ("ZREVRANK z c", ":0"),
        ("ZRANK z c WITHSCORE", "[:2 \"3\"]"),
        ("ZRANK z x", "nil"),
        ("ZRANK z x WITHSCORE", "nil"),
        ("ZRANK z x SCORE", "-ERR syntax error"),
        ("ZRANK z x WITHSCORE y", "-ERR wrong number of arguments for 'zrank' command"),
        ("ZCOUNT z 1 (3", ":2"),
        ("ZCOUNT z -inf +inf", ":3"),
        ("ZCOUNT z (1 x", "-ERR min or max is not a float"),
        ("ZCOUNT z 3 1", ":0"),
        ("ZREM z a x b", ":2"),
        ("ZREM z c", ":1"),
        ("EXISTS z", ":0"),
    ]);
}

#[test]
fn ranges_go_by_rank_score_and_member() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("ZADD z 1 a 2 b 3 c 4 d", ":4"),
        ("ZRANGE z 1 2", "[\"b\" \"c\"]"),
        ("ZRANGE z 0 1 REV", "[\"d\" \"c\"]"),
        ("ZREVRANGE z 0 0 WITHSCORES", "[\"d\" \"4\"]"),
        ("ZRANGE z 2 3 BYSCORE", "[\"b\" \"c\"]"),
        ("ZRANGE z (3 1 BYSCORE REV", "[\"b\" \"a\"]"),
        ("ZRANGE z -inf inf BYSCORE LIMIT 1 2", "[\"b\" \"c\"]"),
        ("ZRANGE z inf -inf BYSCORE REV LIMIT 1 2", "[\"c\" \"b\"]"),
        ("ZRANGE z -inf inf BYSCORE LIMIT -1 2", "[]"),
        ("ZRANGE z -inf inf BYSCORE LIMIT 2 -1", "[\"c\" \"d\"]"),
        ("ZRANGEBYSCORE z 1 (3 WITHSCORES", "[\"a\" \"1\" \"b\" \"2\"]"),
        ("ZREVRANGEBYSCORE z 3 2", "[\"c\" \"b\"]"),
        ("ZRANGEBYSCORE z 1 2 REV", "-ERR syntax error"),
        ("ZRANGE z 0 -1 LIMIT 1 2", "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"),
        ("ZRANGE z a b", "-ERR value is not an integer or out of range"),
        ("ZRANGE none 0 -1", "[]"),
        ("ZADD l 0 a 0 b 0 c 0 d", ":4"),
        ("ZRANGEBYLEX l [b (d", "[\"b\" \"c\"]"),
        ("ZRANGEBYLEX l - +", "[\"a\" \"b\" \"c\" \"d\"]"),
        ("ZRANGEBYLEX l + -", "[]"),
        ("ZREVRANGEBYLEX l (d [b", "[\"c\" \"b\"]"),
        ("ZRANGE l + (b BYLEX REV LIMIT 0 1", "[\"d\"]"),
        ("ZRANGEBYLEX l b d", "-ERR min or max not valid string range item"),
        ("ZRANGE l - + BYLEX WITHSCORES", "-ERR syntax error, WITHSCORES not supported in combination with BYLEX"),
        ("ZLEXCOUNT l (a [c", ":2"),
        ("ZRANGESTORE out z 1 2", ":2"),
        ("ZRANGE out 0 -1 WITHSCORES", "[\"b\" \"2\" \"c\" \"3\"]"),
        ("ZRANGESTORE out z 9 9", ":0"),
        ("EXISTS out", ":0"),
        ("ZREMRANGEBYLEX l [b [c", ":2"),
        ("ZREMRANGEBYRANK z 0 0", ":1"),
        ("ZREMRANGEBYSCORE z (2 3", ":1"),
        ("ZRANGE z 0 -1", "[\"b\" \"d\"]"),
        ("ZREMRANGEBYRANK z 0 -1", ":2"),
        ("EXISTS z", ":0"),
    ]);
    bench.protocol = Protocol::Resp3;
    bench.run("ZADD z 1 a");
    assert_eq!(bench.run("ZRANGE z 0 -1 REV"), "[\"a\"]");
}

#[test]
fn members_are_popped_from_either_end() {
    Bench::new().expect(&[
        ("ZPOPMIN z", "[]"),
        ("ZADD z 1 a 2 b 3 c 4 d 5 e", ":5"),
        ("ZPOPMIN z", "[\"a\" \"1\"]"),
        ("ZPOPMAX z 2", "[\"e\" \"5\" \"d\" \"4\"]"),
        ("ZPOPMIN z 0", "[]"),
        ("ZPOPMIN z -1", "-ERR value is out of range, must be positive"),
        ("ZPOPMIN z 1 1", "-ERR syntax error"),
        ("ZMPOP 2 none z MIN", "[\"z\" [[\"b\" \"2\"]]]"),
        ("ZMPOP 1 z MAX COUNT 5", "[\"z\" [[\"c\" \"3\"]]]"),
        ("EXISTS z", ":0"),
        ("ZMPOP 1 z MIN", "nil"),
        ("ZMPOP 1 z LEFT", "-ERR syntax error"),
        ("ZMPOP 0 z MIN", "-ERR numkeys should be greater than 0"),
        ("ZRANDMEMBER z", "nil"),
        ("ZRANDMEMBER z 2", "[]"),
        ("ZADD z 1 a", ":1"),
        ("ZRANDMEMBER z", "\"a\""),
        ("ZRANDMEMBER z -2 WITHSCORES", "[\"a\" \"1\" \"a\" \"1\"]"),
        ("ZSCAN z 0", "[\"0\" [\"a\" \"1\"]]"),
        ("ZSCAN z 0 MATCH a NOSCORES COUNT 5", "[\"0\" [\"a\"]]"),
        ("ZSCAN z 0 NOVALUES", "-ERR syntax error"),
    ]);
}

#[test]
fn sorted_sets_are_joined_and_compared() {
    Bench::new().expect(&[
        ("ZADD a 1 x 2 y", ":2"),
        ("ZADD b 10 y 20 z", ":2"),
        ("SADD s y w", ":2"),
        ("ZUNION 2 a b WITHSCORES", "[\"x\" \"1\" \"y\" \"12\" \"z\" \"20\"]"),
        (
            "ZUNION 2 a b WEIGHTS 2 1 AGGREGATE MAX WITHSCORES",
            "[\"x\" \"2\" \"y\" \"10\" \"z\" \"20\"]",
        ),
        ("ZINTER 2 a b WITHSCORES", "[\"y\" \"12\"]"),
        ("ZINTER 3 a b s AGGREGATE min WITHSCORES", "[\"y\" \"1\"]"),
        ("ZDIFF 2 a b WITHSCORES", "[\"x\" \"1\"]"),
        ("ZDIFF 2 a none", "[\"x\" \"y\"]"),
        ("ZINTERCARD 2 a b", ":1"),
        ("ZINTERCARD 1 a LIMIT 1", ":1"),
        ("ZUNIONSTORE d 2 a s", ":3"),
        ("ZRANGE d 0 -1 WITHSCORES", "[\"w\" \"1\" \"x\" \"1\" \"y\" \"3\"]"),
        ("ZINTERSTORE d 2 a none", ":0"),
        ("EXISTS d", ":0"),
        ("ZDIFFSTORE d 1 a", ":2"),
        ("ZUNION 0 a", "-ERR at least 1 input key is needed for 'zunion' command"),
        ("ZUNIONSTORE d x a", "-ERR value is not an integer or out of range"),
        ("ZUNION 3 a b", "-ERR syntax error"),
        ("ZUNION 2 a b WEIGHTS 1", "-ERR syntax error"),
        ("ZUNION 2 a b WEIGHTS 1 x", "-ERR weight value is not a float"),
        ("ZUNION 2 a b AGGREGATE avg", "-ERR syntax error"),
        ("ZUNIONSTORE d 1 a WITHSCORES", "-ERR syntax error"),
        ("ZDIFF 2 a b WEIGHTS 1 1", "-ERR syntax error"),
        ("RPUSH l x", ":1"),
        ("ZUNION 2 a l", WRONG_TYPE),
    ]);
}

#[test]
fn infinite_scores_of_either_sign_join_to_zero() {
    Bench::new().expect(&[
        ("ZADD a inf x", ":1"),
        ("ZADD b -inf x", ":1"),
        ("ZUNION 2 a b WITHSCORES", "[\"x\" \"0\"]"),
        ("ZUNION 1 a WEIGHTS 0 WITHSCORES", "[\"x\" \"0\"]"),
    ]);
}

#[test]
fn large_sorted_sets_answer_like_small_ones() {
    let mut bench = Bench::new();
    for number in 0..1000 {
        bench.run(&format!("ZADD z {} member:{number:04}", number % 100));
    }
    bench.expect(&[
        ("OBJECT ENCODING z", "\"skiplist\""),
        ("ZCARD z", ":1000"),
        ("ZCOUNT z 10 (20", ":100"),
        ("ZRANK z member:0001", ":10"),
        ("ZREVRANK z member:0001", ":989"),
        ("ZRANGE z 99 99 BYSCORE LIMIT 0 1", "[\"member:0099\"]"),
        ("ZREMRANGEBYSCORE z 0 49", ":500"),
        ("ZCARD z", ":500"),
        ("ZPOPMAX z", "[\"member:0999\" \"99\"]"),
    ]);
    bench.shard.check();
    let (mut cursor, mut seen) = (String::from("0"), 0);
    loop {
        let reply = bench.run(&format!("ZSCAN z {cursor} COUNT 30"));
        seen += reply.matches("member:").count();
        cursor = reply.split('"').nth(1).expect("a cursor").to_string();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen, 499);
}

#[test]
fn other_types_are_refused() {
    let mut bench = Bench::new();
    bench.run("SADD s a");
    for line in ["ZADD s 1 a", "ZSCORE s a", "ZRANGE s 0 -1", "ZPOPMIN s", "ZREM s a", "ZSCAN s 0"]
    {
        assert_eq!(bench.run(line), WRONG_TYPE, "{line}");
    }
}
