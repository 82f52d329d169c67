//! Replies of the set commands, compared with what Redis answers.

use super::super::testing::Bench;

#[test]
fn members_come_and_go() {
    Bench::new().expect(&[
        ("SADD s 3 1 2", ":3"),
        ("SADD s 1 4", ":1"),
        ("SMEMBERS s", "[\"1\" \"2\" \"3\" \"4\"]"),
        ("OBJECT ENCODING s", "\"intset\""),
        ("SADD s a", ":1"),
        ("OBJECT ENCODING s", "\"listpack\""),
        ("SCARD s", ":5"),
        ("SISMEMBER s a", ":1"),
        ("SISMEMBER s b", ":0"),
        ("SMISMEMBER s a b 1", "[:1 :0 :1]"),
        ("SMISMEMBER none a b", "[:0 :0]"),
        ("SREM s a b 1", ":2"),
        ("SREM s 2 3 4", ":3"),
        ("EXISTS s", ":0"),
        ("SMEMBERS s", "[]"),
        ("SCARD s", ":0"),
    ]);
}

#[test]
fn members_are_popped_and_drawn() {
    Bench::new().expect(&[
        ("SPOP s", "nil"),
        ("SPOP s 1", "[]"),
        ("SRANDMEMBER s", "nil"),
        ("SRANDMEMBER s 2", "[]"),
        ("SADD s a", ":1"),
        ("SRANDMEMBER s", "\"a\""),
        ("SRANDMEMBER s 2", "[\"a\"]"),
        ("SRANDMEMBER s -2", "[\"a\" \"a\"]"),
        ("SRANDMEMBER s x", "-ERR value is not an integer or out of range"),
        ("SRANDMEMBER s 1 2", "-ERR syntax error"),
        ("SPOP s 0", "[]"),
        ("SPOP s -1", "-ERR value is out of range, must be positive"),
        ("SPOP s 1 1", "-ERR syntax error"),
        ("SPOP s", "\"a\""),
        ("EXISTS s", ":0"),
        ("SADD s 1", ":1"),
        ("SPOP s 5", "[\"1\"]"),
        ("EXISTS s", ":0"),
    ]);
}

#[test]
fn popping_a_large_set_empties_it() {
    let mut bench = Bench::new();
    for number in 0..1000 {
        bench.run(&format!("SADD s member:{number}"));
    }
    bench.expect(&[("OBJECT ENCODING s", "\"hashtable\"")]);
    let popped = bench.run("SPOP s 900");
    assert_eq!(popped.matches("member:").count(), 900);
    bench.shard.check();
    bench.expect(&[("SCARD s", ":100")]);
    let rest = bench.run("SPOP s 1000");
    assert_eq!(rest.matches("member:").count(), 100);
    bench.expect(&[("EXISTS s", ":0")]);
}

#[test]
fn members_move_between_sets() {
    Bench::new().expect(&[
        ("SADD a x y", ":2"),
        ("SMOVE a b x", ":1"),
        ("SMOVE a b x", ":0"),
        ("SMOVE none b x", ":0"),
        ("SMOVE b b x", ":1"),
        ("SMOVE b b z", ":0"),
        ("SMOVE a b y", ":1"),
        ("EXISTS a", ":0"),
        ("SMEMBERS b", "[\"x\" \"y\"]"),
        ("SET t x", "OK"),
        ("SMOVE b t x", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("SMOVE b t nothing", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("SMOVE none t x", ":0"),
    ]);
}

#[test]
fn sets_are_compared() {
    Bench::new().expect(&[
        ("SADD a 1 2 3 4", ":4"),
        ("SADD b 3 4 5", ":3"),
        ("SADD c 4 x", ":2"),
        ("SINTER a b", "[\"3\" \"4\"]"),
        ("SINTER a b c", "[\"4\"]"),
        ("SINTER a none", "[]"),
        ("SUNION a b", "[\"1\" \"2\" \"3\" \"4\" \"5\"]"),
        ("SUNION none", "[]"),
        ("SDIFF a b", "[\"1\" \"2\"]"),
        ("SDIFF none a", "[]"),
        ("SINTERCARD 2 a b", ":2"),
        ("SINTERCARD 2 a b LIMIT 1", ":1"),
        ("SINTERCARD 2 a b LIMIT 0", ":2"),
        ("SINTERCARD 0 a", "-ERR numkeys should be greater than 0"),
        ("SINTERCARD 3 a b", "-ERR Number of keys can't be greater than number of args"),
        ("SINTERCARD 2 a b LIMIT -1", "-ERR LIMIT can't be negative"),
        ("SINTERCARD 2 a b MAX 1", "-ERR syntax error"),
        ("SINTERSTORE d a b", ":2"),
        ("OBJECT ENCODING d", "\"intset\""),
        ("SADD words 1 2 3 x", ":4"),
        ("SADD more 2 3 4 y z", ":5"),
        ("SINTERSTORE d words more", ":2"),
        ("OBJECT ENCODING d", "\"intset\""),
        ("SADD more x", ":1"),
        ("SINTERSTORE d words more", ":3"),
        ("OBJECT ENCODING d", "\"listpack\""),
        ("SUNIONSTORE d a c", ":5"),
        ("SDIFFSTORE d a b", ":2"),
        ("SMEMBERS d", "[\"1\" \"2\"]"),
        ("SDIFFSTORE a a b", ":2"),
        ("SINTERSTORE d a none", ":0"),
        ("EXISTS d", ":0"),
        ("SET t x", "OK"),
        ("SINTER none t", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("SUNIONSTORE t a", ":2"),
        ("TYPE t", "set"),
    ]);
}

#[test]
fn scans_see_every_member() {
    let mut bench = Bench::new();
    for number in 0..1000 {
        bench.run(&format!("SADD s member:{number}"));
    }
    let (mut cursor, mut seen) = (String::from("0"), 0);
    loop {
        let reply = bench.run(&format!("SSCAN s {cursor} COUNT 30"));
        seen += reply.matches("member:").count();
        cursor = reply.split('"').nth(1).expect("a cursor").to_string();
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(seen, 1000);
    bench.expect(&[("SSCAN none 0", "[\"0\" []]"), ("SSCAN s 0 NOVALUES", "-ERR syntax error")]);
}
