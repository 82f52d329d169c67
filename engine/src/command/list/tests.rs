//! Replies of the list commands, compared with what Redis answers.

use super::super::testing::Bench;

#[test]
fn both_ends_push_and_pop() {
    Bench::new().expect(&[
        ("RPUSH l a b", ":2"),
        ("LPUSH l 1 0", ":4"),
        ("LRANGE l 0 -1", "[\"0\" \"1\" \"a\" \"b\"]"),
        ("LPOP l", "\"0\""),
        ("RPOP l 2", "[\"b\" \"a\"]"),
        ("LPOP l 0", "[]"),
        ("RPOP l 5", "[\"1\"]"),
        ("EXISTS l", ":0"),
        ("LPOP l", "nil"),
        ("LPOP l 3", "nil"),
        ("LPUSHX l x", ":0"),
        ("RPUSHX l x", ":0"),
        ("LPOP l 1 2", "-ERR wrong number of arguments for 'lpop' command"),
        ("LPOP l -1", "-ERR value is out of range, must be positive"),
        ("LPOP l x", "-ERR value is out of range, must be positive"),
    ]);
}

#[test]
fn elements_are_found_changed_and_removed() {
    Bench::new().expect(&[
        ("RPUSH l a b c a b c", ":6"),
        ("LINDEX l 1", "\"b\""),
        ("LINDEX l -1", "\"c\""),
        ("LINDEX l 6", "nil"),
        ("LINDEX none x", "nil"),
        ("LINDEX l x", "-ERR value is not an integer or out of range"),
        ("LSET l -6 A", "OK"),
        ("LSET l 6 x", "-ERR index out of range"),
        ("LSET none 0 x", "-ERR no such key"),
        ("LINSERT l BEFORE b x", ":7"),
        ("LINSERT l after b y", ":8"),
        ("LINSERT l AFTER nothing y", ":-1"),
        ("LINSERT none AFTER a y", ":0"),
        ("LINSERT l BESIDE a y", "-ERR syntax error"),
        ("LRANGE l 0 4", "[\"A\" \"x\" \"b\" \"y\" \"c\"]"),
        ("LREM l -1 c", ":1"),
        (
            "LREM l -9223372036854775808 b",
            "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ),
        ("LREM l 0 b", ":2"),
        ("LLEN l", ":5"),
        ("LTRIM l 1 -2", "OK"),
        ("LRANGE l 0 -1", "[\"x\" \"y\" \"c\"]"),
        ("LTRIM l 5 6", "OK"),
        ("EXISTS l", ":0"),
    ]);
}

#[test]
fn positions_are_searched_from_either_end() {
    Bench::new().expect(&[
        ("RPUSH l a b c 1 2 3 c c", ":8"),
        ("LPOS l c", ":2"),
        ("LPOS l c RANK 2", ":6"),
        ("LPOS l c RANK -1", ":7"),
        ("LPOS l c COUNT 2", "[:2 :6]"),
        ("LPOS l c COUNT 0 RANK -2", "[:6 :2]"),
        ("LPOS l c COUNT 0 MAXLEN 7", "[:2 :6]"),
        ("LPOS l x", "nil"),
        ("LPOS l x COUNT 1", "[]"),
        ("LPOS none x COUNT 1", "[]"),
        ("LPOS l c COUNT -1", "-ERR COUNT can't be negative"),
        ("LPOS l c MAXLEN -1", "-ERR MAXLEN can't be negative"),
        ("LPOS l c RANK", "-ERR syntax error"),
        ("LPOS l 2", ":4"),
    ]);
}

#[test]
fn elements_move_between_lists() {
    Bench::new().expect(&[
        ("RPUSH a 1 2 3", ":3"),
        ("RPOPLPUSH a b", "\"3\""),
        ("LMOVE a b LEFT RIGHT", "\"1\""),
        ("LRANGE b 0 -1", "[\"3\" \"1\"]"),
        ("LMOVE b b LEFT RIGHT", "\"3\""),
        ("LRANGE b 0 -1", "[\"1\" \"3\"]"),
        ("LMOVE a b UP RIGHT", "-ERR syntax error"),
        ("RPOPLPUSH a b", "\"2\""),
        ("EXISTS a", ":0"),
        ("RPOPLPUSH a b", "nil"),
        ("SET s x", "OK"),
        ("RPOPLPUSH a s", "nil"),
        ("RPOPLPUSH b s", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("LLEN b", ":3"),
        ("RPUSH one x", ":1"),
        ("RPOPLPUSH one one", "\"x\""),
        ("LLEN one", ":1"),
    ]);
}

#[test]
fn the_first_list_with_elements_is_popped() {
    Bench::new().expect(&[
        ("RPUSH b 1 2 3", ":3"),
        ("LMPOP 2 a b LEFT COUNT 2", "[\"b\" [\"1\" \"2\"]]"),
        ("LMPOP 2 a b RIGHT COUNT 9", "[\"b\" [\"3\"]]"),
        ("LMPOP 2 a b RIGHT", "nil"),
        ("LMPOP 0 a LEFT", "-ERR numkeys should be greater than 0"),
        ("LMPOP 2 a LEFT", "-ERR syntax error"),
        ("LMPOP 1 a LEFT COUNT 0", "-ERR count should be greater than 0"),
        ("LMPOP 1 a LEFT COUNT 1 COUNT 2", "-ERR syntax error"),
    ]);
}

#[test]
fn other_types_are_refused() {
    let mut bench = Bench::new();
    bench.run("SET s x");
    for line in ["LPUSH s a", "LPOP s", "LRANGE s 0 -1", "LLEN s", "LREM s 0 a", "LTRIM s 0 1"] {
        let reply = bench.run(line);
        assert!(reply.starts_with("-WRONGTYPE"), "{line}: {reply}");
    }
    bench.run("RPUSH l a");
    for line in ["GET l", "INCR l", "APPEND l a", "STRLEN l"] {
        let reply = bench.run(line);
        assert!(reply.starts_with("-WRONGTYPE"), "{line}: {reply}");
    }
    bench.expect(&[("TYPE l", "list"), ("OBJECT ENCODING l", "\"listpack\"")]);
}

#[test]
fn lists_outgrow_their_entries_and_shrink_back() {
    let mut bench = Bench::new();
    for number in 0..2000 {
        bench.run(&format!("RPUSH l element:{number}"));
    }
    bench.expect(&[
        ("OBJECT ENCODING l", "\"quicklist\""),
        ("LINDEX l 1500", "\"element:1500\""),
        ("LTRIM l -3 -1", "OK"),
        ("OBJECT ENCODING l", "\"listpack\""),
        ("LRANGE l 0 -1", "[\"element:1997\" \"element:1998\" \"element:1999\"]"),
    ]);
    bench.shard.check();
}

#[test]
fn a_deadline_outlives_changes_and_not_the_list() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("RPUSH l a", ":1"),
        ("EXPIRE l 100", ":1"),
        ("RPUSH l b", ":2"),
        ("TTL l", ":100"),
    ]);
    for number in 0..300 {
        bench.run(&format!("RPUSH l element:{number}"));
    }
    bench.expect(&[
        ("TTL l", ":100"),
        ("LPOP l 302", &bench_all()),
        ("RPUSH l a", ":1"),
        ("TTL l", ":-1"),
    ]);
}

fn bench_all() -> String {
    let rest: String = (0..300).map(|number| format!(" \"element:{number}\"")).collect();
    format!("[\"a\" \"b\"{rest}]")
}
