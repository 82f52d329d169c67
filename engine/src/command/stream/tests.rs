//! Commands on streams, line by line.

use tessera_proto::Protocol;

use crate::{command::testing::Bench, keyspace::events::Class, shard::Settings};

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
const BAD_ID: &str = "-ERR Invalid stream ID specified as stream command argument";

#[test]
fn entries_are_added_with_ascending_ids() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("XADD s * a 1", "\"1700000000000-0\""),
        ("XADD s * a 2 b 3", "\"1700000000000-1\""),
        ("XADD s 1700000000000-* a 4", "\"1700000000000-2\""),
        ("XADD s 1800000000000 a 5", "\"1800000000000-0\""),
        ("XADD s * a 6", "\"1800000000000-1\""),
        (
            "XADD s 1800000000000-1 a 7",
            "-ERR The ID specified in XADD is equal or smaller than the target stream top item",
        ),
        ("XADD s 0-0 a 7", "-ERR The ID specified in XADD must be greater than 0-0"),
        ("XADD new 0-* a 7", "\"0-1\""),
        ("XADD s x a 7", BAD_ID),
        ("XADD s - a 7", BAD_ID),
        ("XADD s * a", "-ERR wrong number of arguments for 'xadd' command"),
        ("XADD s * a 1 b", "-ERR wrong number of arguments for 'xadd' command"),
        ("XADD s MAXLEN 5 *", "-ERR wrong number of arguments for 'xadd' command"),
        ("XADD none NOMKSTREAM * a 1", "nil"),
        ("EXISTS none", ":0"),
        ("XLEN s", ":5"),
        ("XLEN none", ":0"),
        ("TYPE s", "stream"),
        ("OBJECT ENCODING s", "\"stream\""),
        (
            "XADD end 18446744073709551615-18446744073709551615 a 1",
            "\"18446744073709551615-18446744073709551615\"",
        ),
        (
            "XADD end * a 1",
            "-ERR The stream has exhausted the last possible ID, unable to add more items",
        ),
    ]);
}

#[test]
fn ranges_go_either_way() {
    let mut bench = Bench::new();
    for line in ["XADD s 1-1 a 1", "XADD s 1-2 b 2", "XADD s 2-0 a 3 c 4"] {
        bench.run(line);
    }
    bench.expect(&[
        (
            "XRANGE s - +",
            "[[\"1-1\" [\"a\" \"1\"]] [\"1-2\" [\"b\" \"2\"]] [\"2-0\" [\"a\" \"3\" \"c\" \"4\"]]]",
        ),
        ("XRANGE s 1 1", "[[\"1-1\" [\"a\" \"1\"]] [\"1-2\" [\"b\" \"2\"]]]"),
        ("XRANGE s (1-1 (2-0", "[[\"1-2\" [\"b\" \"2\"]]]"),
        ("XRANGE s - + COUNT 1", "[[\"1-1\" [\"a\" \"1\"]]]"),
        ("XRANGE s - + COUNT 0", "nil"),
        ("XRANGE s - + COUNT -1", "nil"),
        (
            "XREVRANGE s + - COUNT 2",
            "[[\"2-0\" [\"a\" \"3\" \"c\" \"4\"]] [\"1-2\" [\"b\" \"2\"]]]",
        ),
        ("XREVRANGE s (2-0 1-2", "[[\"1-2\" [\"b\" \"2\"]]]"),
        ("XRANGE s 3 +", "[]"),
        ("XRANGE s 2 1", "[]"),
        ("XRANGE none - +", "[]"),
        ("XRANGE s - + COUNT", "-ERR syntax error"),
        ("XRANGE s - + LIMIT 1", "-ERR syntax error"),
        ("XRANGE s - + COUNT x", "-ERR value is not an integer or out of range"),
        ("XRANGE s (- +", BAD_ID),
        (
            "XRANGE s (18446744073709551615-18446744073709551615 +",
            "-ERR invalid start ID for the interval",
        ),
        ("XRANGE s - (0-0", "-ERR invalid end ID for the interval"),
    ]);
}

#[test]
fn entries_are_deleted_and_trimmed() {
    let mut bench = Bench::new();
    for number in 1..=250 {
        bench.run(&format!("XADD s {number}-0 f v"));
    }
    bench.expect(&[
        ("XDEL s 1-0 1-0 300-0 2", ":2"),
        ("XDEL s 5-0 x", BAD_ID),
        ("XDEL none x", ":0"),
        ("XLEN s", ":248"),
        ("XTRIM s MAXLEN ~ 100", ":98"),
        ("XTRIM s MAXLEN ~ 10 LIMIT 99", ":0"),
        ("XTRIM s MAXLEN 100", ":50"),
        ("XRANGE s - + COUNT 1", "[[\"151-0\" [\"f\" \"v\"]]]"),
        ("XTRIM s MINID = 200", ":49"),
        ("XTRIM s MINID ~ 240", ":1"),
        ("XTRIM s MINID ~ 240", ":0"),
        ("XADD s MAXLEN 3 251-0 f v", "\"251-0\""),
        ("XLEN s", ":3"),
        ("XADD s MINID 251 252-0 f v", "\"252-0\""),
        ("XLEN s", ":2"),
        ("XTRIM s MAXLEN 0", ":2"),
        ("XLEN s", ":0"),
        ("EXISTS s", ":1"),
        (
            "XADD s 252-0 f v",
            "-ERR The ID specified in XADD is equal or smaller than the target stream top item",
        ),
        ("XADD s MAXLEN 0 253-0 f v", "\"253-0\""),
        ("XLEN s", ":0"),
        ("XTRIM none MAXLEN 0", ":0"),
    ]);
    bench.shard.check();
}

#[test]
fn options_of_trimming_are_checked() {
    let mut bench = Bench::new();
    let both = "-ERR syntax error, MAXLEN and MINID options at the same time are not compatible";
    bench.expect(&[
        ("XTRIM s MAXLEN", "-ERR wrong number of arguments for 'xtrim' command"),
        ("XTRIM s MAXLEN x", "-ERR value is not an integer or out of range"),
        ("XTRIM s MAXLEN -1", "-ERR The MAXLEN argument must be >= 0."),
        ("XTRIM s MAXLEN =", "-ERR value is not an integer or out of range"),
        ("XTRIM s MAXLEN 1 MINID 1", both),
        ("XTRIM s MAXLEN 1 MAXLEN 1", both),
        ("XTRIM s MINID x", BAD_ID),
        (
            "XTRIM s LIMIT 5",
            "-ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
        ),
        ("XTRIM s LIMIT 0", "-ERR syntax error, XTRIM must be called with a trimming strategy"),
        (
            "XTRIM s MAXLEN 5 LIMIT 5",
            "-ERR syntax error, LIMIT cannot be used without the special ~ option",
        ),
        ("XTRIM s MAXLEN ~ 5 LIMIT -1", "-ERR The LIMIT argument must be >= 0."),
        ("XTRIM s MAXLEN ~ 5 OTHER", "-ERR syntax error"),
        (
            "XADD s LIMIT 5 * f v",
            "-ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
        ),
        (
            "XADD s MAXLEN = 5 LIMIT 5 * f v",
            "-ERR syntax error, LIMIT cannot be used without the special ~ option",
        ),
        ("XADD s MAXLEN 5 MINID 5 * f v", both),
        ("EXISTS s", ":0"),
    ]);
}

#[test]
fn streams_are_read_behind_ids() {
    let mut bench = Bench::new();
    for line in ["XADD a 1-0 f 1", "XADD a 2-0 f 2", "XADD b 1-0 g 3"] {
        bench.run(line);
    }
    bench.expect(&[
        ("XREAD STREAMS a b 1 0", "[[\"a\" [[\"2-0\" [\"f\" \"2\"]]]] [\"b\" [[\"1-0\" [\"g\" \"3\"]]]]]"),
        ("XREAD COUNT 1 STREAMS a b 0 1", "[[\"a\" [[\"1-0\" [\"f\" \"1\"]]]]]"),
        ("XREAD COUNT 0 STREAMS a 1", "[[\"a\" [[\"2-0\" [\"f\" \"2\"]]]]]"),
        ("XREAD STREAMS a $", "nil"),
        ("XREAD STREAMS a +", "[[\"a\" [[\"2-0\" [\"f\" \"2\"]]]]]"),
        ("XREAD BLOCK 10 STREAMS a none $ 0", "nil"),
        ("XREAD STREAMS a", "-ERR wrong number of arguments for 'xread' command"),
        ("XREAD COUNT 1 STREAMS a", "-ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified."),
        ("XREAD STREAMS a b 1", "-ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified."),
        ("XREAD COUNT 1 a 1", "-ERR syntax error"),
        ("XREAD COUNT x STREAMS a 1", "-ERR value is not an integer or out of range"),
        ("XREAD BLOCK x STREAMS a 1", "-ERR timeout is not an integer or out of range"),
        ("XREAD BLOCK -1 STREAMS a 1", "-ERR timeout is negative"),
        ("XREAD BLOCK 9223372036854775807 STREAMS a 1", "-ERR timeout is out of range"),
        ("XREAD GROUP g c STREAMS a >", "-ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead."),
        ("XREAD NOACK STREAMS a 1", "-ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead."),
        ("XREAD STREAMS a >", "-ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option."),
        ("XREAD STREAMS a x", BAD_ID),
        ("SET k v", "OK"),
        ("XREAD STREAMS a k 0 x", WRONG_TYPE),
        ("XDEL a 2-0", ":1"),
        ("XREAD STREAMS a 1-0", "nil"),
    ]);
    bench.protocol = Protocol::Resp3;
    bench.expect(&[
        (
            "XREAD STREAMS a b 0 0",
            "{\"a\" [[\"1-0\" [\"f\" \"1\"]]] \"b\" [[\"1-0\" [\"g\" \"3\"]]]}",
        ),
        ("XREAD STREAMS a 5", "nil"),
    ]);
}

#[test]
fn groups_deliver_each_entry_once() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("XGROUP CREATE s g $", "-ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically."),
        ("XGROUP CREATE s g x MKSTREAM", BAD_ID),
        ("EXISTS s", ":0"),
        ("XGROUP CREATE s g $ MKSTREAM", "OK"),
        ("XGROUP CREATE s g $", "-BUSYGROUP Consumer Group name already exists"),
        ("XADD s 1-0 f 1", "\"1-0\""),
        ("XADD s 2-0 f 2", "\"2-0\""),
        ("XADD s 3-0 f 3", "\"3-0\""),
        ("XREADGROUP GROUP g alice COUNT 1 STREAMS s >", "[[\"s\" [[\"1-0\" [\"f\" \"1\"]]]]]"),
        ("XREADGROUP GROUP g bob STREAMS s >", "[[\"s\" [[\"2-0\" [\"f\" \"2\"]] [\"3-0\" [\"f\" \"3\"]]]]]"),
        ("XREADGROUP GROUP g bob STREAMS s >", "nil"),
        ("XREADGROUP GROUP g bob STREAMS s 2", "[[\"s\" [[\"3-0\" [\"f\" \"3\"]]]]]"),
        ("XREADGROUP GROUP g bob COUNT 1 STREAMS s 0", "[[\"s\" [[\"2-0\" [\"f\" \"2\"]]]]]"),
        ("XREADGROUP GROUP g carol STREAMS s 0", "[[\"s\" []]]"),
        ("XPENDING s g", "[:3 \"1-0\" \"3-0\" [[\"alice\" \"1\"] [\"bob\" \"2\"]]]"),
        ("XPENDING s g - + 10", "[[\"1-0\" \"alice\" :0 :1] [\"2-0\" \"bob\" :0 :2] [\"3-0\" \"bob\" :0 :2]]"),
        ("XPENDING s g - + 10 bob", "[[\"2-0\" \"bob\" :0 :2] [\"3-0\" \"bob\" :0 :2]]"),
        ("XPENDING s g (2 + 10", "[[\"3-0\" \"bob\" :0 :2]]"),
        ("XPENDING s g - + 10 nobody", "[]"),
        ("XPENDING s g IDLE 1 - + 10", "[]"),
        ("XACK s g 2-0 2-0 9-0", ":1"),
        ("XACK s g x", BAD_ID),
        ("XACK s none x", ":0"),
        ("XDEL s 3-0", ":1"),
        ("XREADGROUP GROUP g bob STREAMS s 0", "[[\"s\" [[\"3-0\" nil]]]]"),
        ("XGROUP DELCONSUMER s g bob", ":1"),
        ("XGROUP DELCONSUMER s g bob", ":0"),
        ("XPENDING s g", "[:1 \"1-0\" \"1-0\" [[\"alice\" \"1\"]]]"),
        ("XGROUP CREATECONSUMER s g dave", ":1"),
        ("XGROUP CREATECONSUMER s g dave", ":0"),
        ("XGROUP SETID s g 0", "OK"),
        ("XREADGROUP GROUP g dave NOACK STREAMS s >", "[[\"s\" [[\"1-0\" [\"f\" \"1\"]] [\"2-0\" [\"f\" \"2\"]]]]]"),
        ("XPENDING s g", "[:1 \"1-0\" \"1-0\" [[\"alice\" \"1\"]]]"),
        ("XACK s g 1-0", ":1"),
        ("XPENDING s g", "[:0 nil nil nil]"),
        ("XGROUP DESTROY s g", ":1"),
        ("XGROUP DESTROY s g", ":0"),
    ]);
    bench.shard.check();
}

#[test]
fn groups_are_asked_for_in_vain() {
    let mut bench = Bench::new();
    bench.run("XADD s 1-0 f 1");
    bench.expect(&[
        ("XREADGROUP GROUP g c STREAMS s >", "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option"),
        ("XREADGROUP GROUP g c STREAMS none >", "-NOGROUP No such key 'none' or consumer group 'g' in XREADGROUP with GROUP option"),
        ("XREADGROUP COUNT 1 NOACK NOACK STREAMS s >", "-ERR Missing GROUP option for XREADGROUP"),
        ("XREADGROUP GROUP g c COUNT 1 STREAMS s", "-ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be specified."),
        ("XGROUP SETID s g 0", "-NOGROUP No such consumer group 'g' for key name 's'"),
        ("XGROUP CREATECONSUMER s g c", "-NOGROUP No such consumer group 'g' for key name 's'"),
        ("XPENDING s g", "-NOGROUP No such key 's' or consumer group 'g'"),
        ("XPENDING s g - +", "-ERR syntax error"),
        ("XCLAIM s g c 0 1-0", "-NOGROUP No such key 's' or consumer group 'g'"),
        ("XAUTOCLAIM none g c 0 0", "-NOGROUP No such key 'none' or consumer group 'g'"),
        ("XINFO CONSUMERS s g", "-NOGROUP No such consumer group 'g' for key name 's'"),
        ("XINFO STREAM none", "-ERR no such key"),
        ("XINFO STREAM s FULL COUNT", "-ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP."),
        ("XGROUP CREATE s g 0 NOPE", "-ERR unknown subcommand or wrong number of arguments for 'CREATE'. Try XGROUP HELP."),
        ("XGROUP CREATE s g 0 ENTRIESREAD -2", "-ERR value for ENTRIESREAD must be positive or -1"),
        ("XGROUP CREATE s g 0 ENTRIESREAD 0", "OK"),
        ("XREADGROUP GROUP g c STREAMS s $", "-ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set."),
        ("XGROUP NOSUCH s", "-ERR unknown subcommand 'NOSUCH'. Try XGROUP HELP."),
    ]);
}

#[test]
fn pending_entries_change_hands() {
    let mut bench = Bench::new();
    for line in [
        "XADD s 1-0 f 1",
        "XADD s 2-0 f 2",
        "XADD s 3-0 f 3",
        "XGROUP CREATE s g 0",
        "XREADGROUP GROUP g alice STREAMS s >",
    ] {
        bench.run(line);
    }
    bench.pass_ms(100);
    bench.expect(&[
        ("XCLAIM s g bob 200 1-0", "[]"),
        ("XCLAIM s g bob 50 1-0 9-0", "[[\"1-0\" [\"f\" \"1\"]]]"),
        ("XCLAIM s g bob 50 2-0 JUSTID IDLE 40 RETRYCOUNT 7", "[\"2-0\"]"),
        (
            "XPENDING s g - + 10",
            "[[\"1-0\" \"bob\" :0 :2] [\"2-0\" \"bob\" :40 :7] [\"3-0\" \"alice\" :100 :1]]",
        ),
        ("XACK s g 1-0", ":1"),
        ("XCLAIM s g carol 0 1-0", "[]"),
        ("XCLAIM s g carol 0 1-0 FORCE JUSTID TIME 1699999999999", "[\"1-0\"]"),
        ("XPENDING s g - + 1", "[[\"1-0\" \"carol\" :101 :1]]"),
        ("XAUTOCLAIM s g dave 50 0 COUNT 1", "[\"2-0\" [[\"1-0\" [\"f\" \"1\"]]] []]"),
        ("XDEL s 3-0", ":1"),
        ("XAUTOCLAIM s g dave 0 2-0 JUSTID", "[\"0-0\" [\"2-0\"] [\"3-0\"]]"),
        ("XPENDING s g - + 10", "[[\"1-0\" \"dave\" :0 :2] [\"2-0\" \"dave\" :0 :7]]"),
        ("XAUTOCLAIM s g dave 0 - COUNT 0", "-ERR COUNT must be > 0"),
        ("XAUTOCLAIM s g dave x 0", "-ERR Invalid min-idle-time argument for XAUTOCLAIM"),
        ("XAUTOCLAIM s g dave 0 x", BAD_ID),
        ("XAUTOCLAIM s g dave 0 0 NOPE", "-ERR syntax error"),
        ("XCLAIM s g dave x 1-0", "-ERR Invalid min-idle-time argument for XCLAIM"),
        ("XCLAIM s g dave 0 1-0 IDLE x", "-ERR Invalid IDLE option argument for XCLAIM"),
        ("XCLAIM s g dave 0 1-0 NOPE", "-ERR Unrecognized XCLAIM option 'NOPE'"),
        ("XCLAIM s g dave 0 1-0 LASTID 9-0 JUSTID", "[\"1-0\"]"),
        ("XADD s 8-0 f 8", "\"8-0\""),
        ("XREADGROUP GROUP g dave STREAMS s >", "nil"),
        ("XDEL s 1-0", ":1"),
        ("XCLAIM s g dave 0 1-0", "[]"),
        ("XPENDING s g", "[:1 \"2-0\" \"2-0\" [[\"dave\" \"1\"]]]"),
    ]);
    bench.shard.check();
}

#[test]
fn information_is_complete() {
    let mut bench = Bench::new();
    for line in ["XADD s 1-0 f 1", "XADD s 2-0 f 2", "XGROUP CREATE s g 0 ENTRIESREAD 0"] {
        bench.run(line);
    }
    bench.run("XREADGROUP GROUP g c COUNT 1 STREAMS s >");
    bench.run("XGROUP CREATECONSUMER s g d");
    bench.pass_ms(5);
    bench.expect(&[
        ("XINFO GROUPS s", "[[\"name\" \"g\" \"consumers\" :2 \"pending\" :1 \"last-delivered-id\" \"1-0\" \"entries-read\" :1 \"lag\" :1]]"),
        ("XINFO CONSUMERS s g", "[[\"name\" \"c\" \"pending\" :1 \"idle\" :5 \"inactive\" :5] [\"name\" \"d\" \"pending\" :0 \"idle\" :5 \"inactive\" :-1]]"),
    ]);
    bench.protocol = Protocol::Resp3;
    bench.expect(&[
        ("XINFO STREAM s", "{\"length\" :2 \"radix-tree-keys\" :1 \"radix-tree-nodes\" :2 \"last-generated-id\" \"2-0\" \"max-deleted-entry-id\" \"0-0\" \"entries-added\" :2 \"recorded-first-entry-id\" \"1-0\" \"groups\" :1 \"first-entry\" [\"1-0\" [\"f\" \"1\"]] \"last-entry\" [\"2-0\" [\"f\" \"2\"]]}"),
        ("XINFO STREAM s FULL COUNT 1", "{\"length\" :2 \"radix-tree-keys\" :1 \"radix-tree-nodes\" :2 \"last-generated-id\" \"2-0\" \"max-deleted-entry-id\" \"0-0\" \"entries-added\" :2 \"recorded-first-entry-id\" \"1-0\" \"entries\" [[\"1-0\" [\"f\" \"1\"]]] \"groups\" [{\"name\" \"g\" \"last-delivered-id\" \"1-0\" \"entries-read\" :1 \"lag\" :1 \"pel-count\" :1 \"pending\" [[\"1-0\" \"c\" :1700000000000 :1]] \"consumers\" [{\"name\" \"c\" \"seen-time\" :1700000000000 \"active-time\" :1700000000000 \"pel-count\" :1 \"pending\" [[\"1-0\" :1700000000000 :1]]} {\"name\" \"d\" \"seen-time\" :1700000000000 \"active-time\" :-1 \"pel-count\" :0 \"pending\" []}]}]}"),
        ("XDEL s 1-0 2-0", ":2"),
        ("XINFO STREAM s", "{\"length\" :0 \"radix-tree-keys\" :0 \"radix-tree-nodes\" :1 \"last-generated-id\" \"2-0\" \"max-deleted-entry-id\" \"2-0\" \"entries-added\" :2 \"recorded-first-entry-id\" \"0-0\" \"groups\" :1 \"first-entry\" nil \"last-entry\" nil}"),
    ]);
}

#[test]
fn lag_is_known_except_behind_gaps() {
    let mut bench = Bench::new();
    for number in 1..=5 {
        bench.run(&format!("XADD s {number}-0 f v"));
    }
    bench.run("XGROUP CREATE s g 0");
    let lag = |bench: &mut Bench| {
        let shown = bench.run("XINFO GROUPS s");
        let at = shown.find("\"entries-read\"").expect("a group");
        shown[at..].trim_end_matches(']').to_string()
    };
    assert_eq!(lag(&mut bench), "\"entries-read\" nil \"lag\" :5");
    bench.run("XREADGROUP GROUP g c COUNT 1 STREAMS s >");
    assert_eq!(lag(&mut bench), "\"entries-read\" :1 \"lag\" :4");
    bench.run("XDEL s 3-0");
    assert_eq!(lag(&mut bench), "\"entries-read\" :1 \"lag\" nil");
    bench.run("XREADGROUP GROUP g c COUNT 2 STREAMS s >");
    assert_eq!(lag(&mut bench), "\"entries-read\" nil \"lag\" nil");
    bench.run("XREADGROUP GROUP g c STREAMS s >");
    assert_eq!(lag(&mut bench), "\"entries-read\" :5 \"lag\" :0");
}

#[test]
fn what_a_stream_remembers_can_be_set() {
    let mut bench = Bench::new();
    bench.expect(&[
        ("XSETID s 5-0", "-ERR no such key"),
        ("XADD s 5-0 f v", "\"5-0\""),
        (
            "XSETID s 4-0",
            "-ERR The ID specified in XSETID is smaller than the target stream top item",
        ),
        (
            "XSETID s 6-0 ENTRIESADDED 0",
            "-ERR The entries_added specified in XSETID is smaller than the target stream length",
        ),
        ("XSETID s 6-0 ENTRIESADDED -1", "-ERR entries_added must be positive"),
        (
            "XSETID s 6-0 MAXDELETEDID 7-0",
            "-ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
        ),
        ("XSETID s 6-0 NOPE 1", "-ERR syntax error"),
        ("XSETID s 6-0 ENTRIESADDED 9 MAXDELETEDID 3-0", "OK"),
        ("XADD s 6-* f v", "\"6-1\""),
        ("XDEL s 6-1 5-0", ":2"),
        (
            "XSETID s 6-0",
            "-ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
        ),
    ]);
}

#[test]
fn copies_go_their_own_way() {
    let mut bench = Bench::new();
    for line in ["XADD s 1-0 f 1", "XGROUP CREATE s g 0", "XREADGROUP GROUP g c STREAMS s >"] {
        bench.run(line);
    }
    bench.expect(&[
        ("COPY s t", ":1"),
        ("XADD s 2-0 f 2", "\"2-0\""),
        ("XACK s g 1-0", ":1"),
        ("XLEN t", ":1"),
        ("XPENDING t g", "[:1 \"1-0\" \"1-0\" [[\"c\" \"1\"]]]"),
        ("SCAN 0 TYPE stream COUNT 100", "[\"0\" [\"s\" \"t\"]]"),
        ("DEL s t", ":2"),
    ]);
    bench.shard.check();
}

#[test]
fn every_change_is_notified() {
    let notify = Class::ALL | Class::KEYEVENT;
    let mut bench = Bench::with(Settings { notify, ..Settings::default() });
    for (line, events) in [
        ("XADD s 1-0 f v", &["xadd"][..]),
        ("XADD s MAXLEN 1 2-0 f v", &["xadd", "xtrim"]),
        ("XADD s NOMKSTREAM 3-0 f v", &["xadd"]),
        ("XTRIM s MAXLEN 9", &[]),
        ("XTRIM s MAXLEN 1", &["xtrim"]),
        ("XDEL s 9-0", &[]),
        ("XDEL s 3-0", &["xdel"]),
        ("XSETID s 9-0", &["xsetid"]),
        ("XGROUP CREATE s g $", &["xgroup-create"]),
        ("XGROUP SETID s g 0", &["xgroup-setid"]),
        ("XGROUP CREATECONSUMER s g c", &["xgroup-createconsumer"]),
        ("XGROUP CREATECONSUMER s g c", &[]),
        ("XREADGROUP GROUP g d STREAMS s >", &["xgroup-createconsumer"]),
        ("XREADGROUP GROUP g d STREAMS s >", &[]),
        ("XCLAIM s g e 0 1-0", &["xgroup-createconsumer"]),
        ("XAUTOCLAIM s g f 0 0", &["xgroup-createconsumer"]),
        ("XGROUP DELCONSUMER s g c", &["xgroup-delconsumer"]),
        ("XGROUP DESTROY s g", &["xgroup-destroy"]),
        ("XGROUP DESTROY s g", &[]),
    ] {
        bench.run(line);
        let names: Vec<_> = bench.shard.keyspace.events.take().iter().map(|e| e.name).collect();
        assert_eq!(names, events, "after {line}");
    }
}

#[test]
fn other_types_are_refused() {
    let mut bench = Bench::new();
    bench.run("SET k v");
    for line in [
        "XADD k * f v",
        "XLEN k",
        "XRANGE k - +",
        "XDEL k 1-0",
        "XTRIM k MAXLEN 0",
        "XSETID k 1-0",
        "XREAD STREAMS k 0",
        "XREADGROUP GROUP g c STREAMS k >",
        "XACK k g 1-0",
        "XCLAIM k g c 0 1-0",
        "XAUTOCLAIM k g c 0 0",
        "XPENDING k g",
        "XGROUP CREATE k g $",
        "XGROUP DESTROY k g",
        "XINFO STREAM k",
        "XINFO GROUPS k",
    ] {
        assert_eq!(bench.run(line), WRONG_TYPE, "{line}");
    }
    bench.run("XADD s 1-0 f v");
    assert_eq!(bench.run("GET s"), WRONG_TYPE);
    assert_eq!(bench.run("LPUSH s x"), WRONG_TYPE);
}
