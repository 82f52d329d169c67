//! Streams over TCP: keys on one and on several shards, limits from the configuration, payloads that
//! redis-server and Valkey take.

use crate::harness::{Client, Reply, Server, on_1_2_and_4_shards, rivals};

on_1_2_and_4_shards!(
    streams_of_several_shards_are_read_together,
    blocks_are_limited_by_the_configuration,
    every_command_is_there,
    maps_are_maps_in_resp3,
    keys_are_found_behind_the_word_streams,
    dumped_streams_are_whole_elsewhere,
);

fn streams_of_several_shards_are_read_together(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        XADD a 1-1 f 1                              => "1-1"
        XADD b 1-1 f 2                              => "1-1"
        XADD c 1-1 f 3                              => "1-1"
        XREAD STREAMS a b c 0 0 0                   => [["a" [["1-1" ["f" "1"]]]] ["b" [["1-1" ["f" "2"]]]] ["c" [["1-1" ["f" "3"]]]]]
        XREAD STREAMS a b c $ 0 $                   => [["b" [["1-1" ["f" "2"]]]]]
        XREAD STREAMS a none c 1-1 0 2              => nil-array
        XREAD STREAMS a b c 0 0                     => -ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified.
        XGROUP CREATE a g 0                         => +OK
        XGROUP CREATE b g 0                         => +OK
        XREADGROUP GROUP g x STREAMS a b c > > >    => -NOGROUP No such key 'c' or consumer group 'g' in XREADGROUP with GROUP option
        XPENDING a g                                => [:0 nil nil nil-array]
        XGROUP CREATE c g 0                         => +OK
        XREADGROUP GROUP g x STREAMS a b c > > >    => [["a" [["1-1" ["f" "1"]]]] ["b" [["1-1" ["f" "2"]]]] ["c" [["1-1" ["f" "3"]]]]]
        XREADGROUP GROUP g x STREAMS a b c > 0 >    => [["b" [["1-1" ["f" "2"]]]]]
        XACK b g 1-1                                => :1
        XPENDING a g                                => [:1 "1-1" "1-1" [["x" "1"]]]
        XPENDING b g                                => [:0 nil nil nil-array]
        "#,
    );
}

fn blocks_are_limited_by_the_configuration(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.run("CONFIG SET stream-node-max-entries 10");
    for number in 1..=35 {
        client.run(&format!("XADD s {number}-0 f v"));
    }
    client.transcript(
        r#"
        XTRIM s MAXLEN ~ 12                         => :20
        CONFIG SET stream-node-max-entries 0        => +OK
        CONFIG SET stream-node-max-bytes 60         => +OK
        XADD s 36-0 f v                             => "36-0"
        XADD s 37-0 f v                             => "37-0"
        XTRIM s MAXLEN ~ 2                          => :15
        XLEN s                                      => :2
        "#,
    );
}

fn every_command_is_there(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        XGROUP CREATE s g $ MKSTREAM                => +OK
        TYPE s                                      => +stream
        OBJECT ENCODING s                           => "stream"
        XADD s 1-1 f v                              => "1-1"
        XADD s 1-* f w                              => "1-2"
        XLEN s                                      => :2
        XRANGE s - + COUNT 1                        => [["1-1" ["f" "v"]]]
        XREVRANGE s + - COUNT 1                     => [["1-2" ["f" "w"]]]
        XREADGROUP GROUP g c COUNT 1 STREAMS s >    => [["s" [["1-1" ["f" "v"]]]]]
        XCLAIM s g d 0 1-1 JUSTID                   => ["1-1"]
        XAUTOCLAIM s g e 0 0 JUSTID                 => ["0-0" ["1-1"] []]
        XPENDING s g                                => [:1 "1-1" "1-1" [["e" "1"]]]
        XACK s g 1-1                                => :1
        XGROUP SETID s g 0                          => +OK
        XGROUP CREATECONSUMER s g f                 => :1
        XGROUP DELCONSUMER s g f                    => :0
        XGROUP DESTROY s g                          => :1
        XINFO GROUPS s                              => []
        XDEL s 1-1                                  => :1
        XSETID s 5-0                                => +OK
        XTRIM s MAXLEN 0                            => :1
        XADD s 4-0 f v                              => -ERR The ID specified in XADD is equal or smaller than the target stream top item
        EXISTS s                                    => :1
        XGROUP                                      => -ERR wrong number of arguments for 'xgroup' command
        XINFO NOPE s                                => -ERR unknown subcommand 'NOPE'. Try XINFO HELP.
        "#,
    );
}

fn maps_are_maps_in_resp3(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.run("HELLO 3");
    client.run("XADD s 1-1 f v");
    client.run("XGROUP CREATE s g 0");
    let read = client.run("XREAD STREAMS s 0");
    let groups = client.run("XINFO GROUPS s").into_items();
    assert!(matches!(read, Reply::Map(_)), "{read:?}");
    assert!(matches!(groups[0], Reply::Map(_)), "{groups:?}");
    assert!(matches!(client.run("XINFO STREAM s FULL"), Reply::Map(_)));
    assert_eq!(client.run("XREAD STREAMS s $"), Reply::Null);
}

fn keys_are_found_behind_the_word_streams(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        COMMAND GETKEYS XREAD COUNT 5 BLOCK 1 STREAMS a b 0 0               => ["a" "b"]
        COMMAND GETKEYS XREADGROUP GROUP STREAMS c NOACK STREAMS a >        => ["a"]
        COMMAND GETKEYS XGROUP CREATE s g $                                 => ["s"]
        "#,
    );
}

/// Two streams with what a stream can hold: blocks, deleted entries, groups, pending entries.
fn fill(client: &mut Client) {
    let long = "long ".repeat(300).replace(' ', "_");
    for number in 1..=350 {
        let value = if number % 97 == 0 { &long[..] } else { "7" };
        client.run(&format!("XADD s {number}-{number} field {number} other {value}"));
    }
    for line in [
        "XDEL s 5-5 6-6 120-120 350-350",
        "XADD s 360-0 different fields",
        "XTRIM s MAXLEN 330",
        "XGROUP CREATE s first 0",
        "XGROUP CREATE s second 100 ENTRIESREAD 17",
        "XREADGROUP GROUP first alice COUNT 50 STREAMS s >",
        "XREADGROUP GROUP first bob COUNT 5 STREAMS s >",
        "XGROUP CREATECONSUMER s second carol",
        "XGROUP CREATE empty g $ MKSTREAM",
    ] {
        assert!(!matches!(client.run(line), Reply::Error(_)), "{line}");
    }
}

fn dumped_streams_are_whole_elsewhere(shards: usize) {
    for rival in rivals() {
        let server = Server::start(shards);
        let (mut ours, mut theirs) = (server.connect(), rival.connect());
        fill(&mut ours);
        for key in ["s", "empty"] {
            let payload = ours.call(["DUMP", key]).into_bytes();
            let words: [&[u8]; 5] = [b"RESTORE", key.as_bytes(), b"0", &payload, b"REPLACE"];
            assert_eq!(theirs.call(words), Reply::ok());
            for line in ["XRANGE KEY - +", "XREVRANGE KEY + -", "XLEN KEY"] {
                let line = line.replace("KEY", key);
                assert_eq!(ours.run(&line), theirs.run(&line), "{line}");
            }
        }
        for line in ["XPENDING s first", "XPENDING s second", "XREAD STREAMS s 300"] {
            assert_eq!(ours.run(line), theirs.run(line), "{line}");
        }
        let again = theirs.call(["DUMP", "s"]).into_bytes();
        assert!(!again.is_empty());
    }
}
