//! Replies of the hash commands, compared with what Redis answers.

use tessera_proto::Protocol;

use super::super::testing::Bench;

#[test]
fn fields_are_set_read_and_removed() {
    Bench::new().expect(&[
        ("HSET h a 1 b 2", ":2"),
        ("HSET h a 3 c 4", ":1"),
        ("HSET h a", "-ERR wrong number of arguments for 'hset' command"),
        ("HSET h a 1 b", "-ERR wrong number of arguments for 'hset' command"),
        ("HMSET h d x y", "-ERR wrong number of arguments for 'hmset' command"),
        ("HMSET h d x", "OK"),
        ("HGET h a", "\"3\""),
        ("HGET h x", "nil"),
        ("HGET none a", "nil"),
        ("HMGET h a x d", "[\"3\" nil \"x\"]"),
        ("HMGET none a", "[nil]"),
        ("HGETALL h", "[\"a\" \"3\" \"b\" \"2\" \"c\" \"4\" \"d\" \"x\"]"),
        ("HKEYS h", "[\"a\" \"b\" \"c\" \"d\"]"),
        ("HVALS h", "[\"3\" \"2\" \"4\" \"x\"]"),
        ("HGETALL none", "[]"),
        ("HLEN h", ":4"),
        ("HSTRLEN h d", ":1"),
        ("HSTRLEN h x", ":0"),
        ("HEXISTS h a", ":1"),
        ("HEXISTS h x", ":0"),
        ("HSETNX h a 9", ":0"),
        ("HSETNX h e 9", ":1"),
        ("HDEL h a b x a", ":2"),
        ("HDEL h c d e", ":3"),
        ("EXISTS h", ":0"),
        ("HDEL h a", ":0"),
    ]);
}

#[test]
fn values_count_as_numbers() {
    Bench::new().expect(&[
        ("HINCRBY h n 5", ":5"),
        ("HINCRBY h n -7", ":-2"),
        ("HINCRBY h n x", "-ERR value is not an integer or out of range"),
        ("HSET h s x f 10.5 m 9223372036854775807", ":3"),
        ("HINCRBY h s 1", "-ERR hash value is not an integer"),
        ("HINCRBY h f 1", "-ERR hash value is not an integer"),
        ("HINCRBY h m 1", "-ERR increment or decrement would overflow"),
        ("HINCRBYFLOAT h f 0.1", "\"10.6\""),
        ("HINCRBYFLOAT h n 1.5", "\"-0.5\""),
        ("HINCRBYFLOAT h s 1", "-ERR hash value is not a float"),
        ("HINCRBYFLOAT h f x", "-ERR value is not a valid float"),
        ("HINCRBYFLOAT h f inf", "-ERR value is NaN or Infinity"),
        ("HINCRBYFLOAT none f x", "-ERR value is not a valid float"),
        ("HINCRBY other s x", "-ERR value is not an integer or out of range"),
        ("EXISTS none other", ":0"),
    ]);
}

#[test]
fn a_failed_change_creates_no_key() {
    let mut bench = Bench::new();
    bench.expect(&[("HSET h a x", ":1"), ("HINCRBY h a 1", "-ERR hash value is not an integer")]);
    bench.expect(&[("HGETALL h", "[\"a\" \"x\"]"), ("DBSIZE", ":1")]);
}

#[test]
fn fields_are_drawn_at_random() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("HRANDFIELD h", "nil"),
        ("HRANDFIELD h 3", "[]"),
        ("HSET h a 1", ":1"),
        ("HRANDFIELD h", "\"a\""),
        ("HRANDFIELD h 3", "[\"a\"]"),
        ("HRANDFIELD h -3", "[\"a\" \"a\" \"a\"]"),
        ("HRANDFIELD h -2 WITHVALUES", "[\"a\" \"1\" \"a\" \"1\"]"),
        ("HRANDFIELD h 0", "[]"),
        ("HRANDFIELD h x", "-ERR value is not an integer or out of range"),
        ("HRANDFIELD h 1 VALUES", "-ERR syntax error"),
        ("HRANDFIELD h 1 WITHVALUES x", "-ERR syntax error"),
        ("HRANDFIELD h 4611686018427387905 WITHVALUES", "-ERR value is out of range"),
    ]);
    bench.protocol = Protocol::Resp3;
    bench.expect(&[
        ("HRANDFIELD h 1 WITHVALUES", "[[\"a\" \"1\"]]"),
        ("HGETALL h", "{\"a\" \"1\"}"),
        ("HGETALL none", "{}"),
    ]);
}

#[test]
fn scans_see_every_field() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("HSCAN none 0", "[\"0\" []]"),
        ("HSET h a 1 b 2", ":2"),
        ("HSCAN h 0", "[\"0\" [\"a\" \"1\" \"b\" \"2\"]]"),
        ("HSCAN h 0 MATCH b*", "[\"0\" [\"b\" \"2\"]]"),
        ("HSCAN h 0 NOVALUES", "[\"0\" [\"a\" \"b\"]]"),
        ("HSCAN h x", "-ERR invalid cursor"),
        ("HSCAN h 0 COUNT 0", "-ERR syntax error"),
        ("HSCAN h 0 COUNT x", "-ERR value is not an integer or out of range"),
        ("HSCAN h 0 TYPE hash", "-ERR syntax error"),
    ]);
    for number in 0..1000 {
        bench.run(&format!("HSET big field:{number} {number}"));
    }
    let (mut cursor, mut seen) = (String::from("0"), 0);
    loop {
        let reply = bench.run(&format!("HSCAN big {cursor} COUNT 50 NOVALUES"));
        seen += reply.matches("field:").count();
        cursor = reply.split('"').nth(1).expect("a cursor").to_string();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen, 1000);
    bench
        .expect(&[("OBJECT ENCODING big", "\"hashtable\""), ("OBJECT ENCODING h", "\"listpack\"")]);
    bench.shard.check();
}

#[test]
fn other_types_are_refused() {
    let mut bench = Bench::new();
    bench.run("RPUSH l x");
    for line in [
        "HSET l a 1",
        "HGET l a",
        "HMGET l a",
        "HDEL l a",
        "HGETALL l",
        "HINCRBY l a 1",
        "HSCAN l 0",
    ] {
        let reply = bench.run(line);
        assert!(reply.starts_with("-WRONGTYPE"), "{line}: {reply}");
    }
}
