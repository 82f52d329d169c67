//! Bitmaps, HyperLogLogs, places, SORT, fields that expire and MSETEX over TCP, with keys on one and on
//! several shards.

use crate::harness::{Reply, Server, on_1_2_and_4_shards};

on_1_2_and_4_shards!(
    bitmaps_are_combined_over_shards,
    bitmap_commands_tell_what_they_are,
    hyperloglogs_are_merged_over_shards,
    places_are_kept_over_shards,
    sort_reaches_keys_of_all_shards,
    conditions_hold_over_shards,
    fields_of_hashes_expire
);

fn bitmaps_are_combined_over_shards(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        SET a "\xf0\xff"                => +OK
        SET b "\x3c"                    => +OK
        SET c "\x06\x01"                => +OK
        BITOP AND d a b                 => :2
        GET d                           => "0\x00"
        BITOP ONE e a b c               => :2
        GET e                           => "\xca\xfe"
        BITCOUNT e                      => :11
        BITFIELD e SET u8 #1 3 GET u8 8 => [:254 :3]
        BITOP NOT a none                => :0
        EXISTS a                        => :0
        RPUSH l x                       => :1
        BITOP OR d b l                  => -WRONGTYPE ...
        BITOP DIFF1 d b                 => -ERR BITOP DIFF1 must be called with at least two source keys.
        SETBIT far 4294967295 1         => :0
        BITPOS far 1                    => :4294967295
        DEL far                         => :1
        "#,
    );
}

fn bitmap_commands_tell_what_they_are(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        COMMAND GETKEYS BITOP AND d a b => ["d" "a" "b"]
        COMMAND GETKEYSANDFLAGS BITFIELD k GET u8 0 => [["k" [+RO +access]]]
        "#,
    );
}

fn hyperloglogs_are_merged_over_shards(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        PFADD a x y z                           => :1
        PFADD b z u v                           => :1
        PFADD c w                               => :1
        PFCOUNT a b c none                      => :6
        PFMERGE d a b c                         => +OK
        PFCOUNT d                               => :6
        SET n 12                                => +OK
        PFCOUNT a n                             => -WRONGTYPE Key is not a valid HyperLogLog string value.
        CONFIG SET hll-sparse-max-bytes 30      => +OK
        PFADD d 1 2 3 4 5 6 7 8 9 10            => :1
        PFDEBUG ENCODING d                      => +dense
        PFDEBUG ENCODING a                      => +sparse
        PFSELFTEST                              => +OK
        "#,
    );
}

fn places_are_kept_over_shards(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        GEOADD a 13.361389 38.115556 Palermo 15.087269 37.502669 Catania => :2
        GEOSEARCHSTORE b a FROMLONLAT 15 37 BYRADIUS 100 km      => :1
        ZRANGE b 0 -1                                            => ["Catania"]
        GEORADIUS a 15 37 200 km STOREDIST c                     => :2
        ZRANGE c 0 -1                                            => ["Catania" "Palermo"]
        GEORADIUSBYMEMBER a Palermo 1 km STORE d                 => :1
        ZRANGE d 0 -1                                            => ["Palermo"]
        GEOPOS d Palermo                                         => [["13.36138933897018433" "38.11555639549629859"]]
        COMMAND GETKEYS GEORADIUS a 1 1 1 km COUNT 1 STORE b     => ["a" "b"]
        COMMAND GETKEYS GEORADIUSBYMEMBER a m 1 km               => ["a"]
        GEOSEARCHSTORE b none FROMLONLAT 15 37 BYRADIUS 100 km   => :0
        EXISTS b                                                 => :0
        "#,
    );
}

fn sort_reaches_keys_of_all_shards(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        RPUSH l 3 1 2                                      => :3
        MSET w1 30 w2 20 w3 10 n1 one n2 two n3 three      => +OK
        SORT l BY w* GET # GET n*                          => ["3" "three" "2" "two" "1" "one"]
        SORT l BY w* DESC LIMIT 0 1 GET n* STORE d         => :1
        LRANGE d 0 -1                                      => ["one"]
        HSET h1 f 1                                        => :1
        SORT_RO l BY nosort GET h*->f                      => [nil "1" nil]
        SORT l STORE e                                     => :3
        LRANGE e 0 -1                                      => ["1" "2" "3"]
        SORT n1 BY w*                                      => -WRONGTYPE ...
        SORT l BY w* UP                                    => -ERR syntax error
        SORT none BY w* STORE d                            => :0
        EXISTS d                                           => :0
        COMMAND GETKEYS SORT l BY STORE GET x STORE d      => ["l" "d"]
        COMMAND GETKEYS SORT_RO l BY w*                    => ["l"]
        SELECT 1                                           => +OK
        RPUSH l 5 4                                        => :2
        SORT l BY w* GET n*                                => [nil nil]
        "#,
    );
}

fn conditions_hold_over_shards(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        MSETEX 3 a 1 b 2 c 3 NX EX 100          => :1
        MSETEX 3 c 1 d 2 e 3 NX                 => :0
        MSETEX 3 c 1 d 2 e 3 XX                 => :0
        EXISTS a b c d e                        => :3
        TTL c                                   => :100
        COMMAND GETKEYS MSETEX 2 a 1 b 2 EX 5   => ["a" "b"]
        MSETEX 9 a 1                            => -ERR wrong number of key-value pairs
        DELEX a IFEQ 1                          => :1
        "#,
    );
}

fn fields_of_hashes_expire(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        r#"
        HSETEX h EX 100 FIELDS 2 a 1 b 2        => :1
        HSET h c 3                              => :1
        OBJECT ENCODING h                       => "listpackex"
        HEXPIRE h 0 FIELDS 1 a                  => [:2]
        HGETEX h PX 20 FIELDS 1 c               => ["3"]
        RENAME h i                              => +OK
        "#,
    );
    // Nobody reads the field: it goes by itself, and its key with the last one.
    let start = std::time::Instant::now();
    while client.run("HLEN i") != Reply::Integer(1) {
        assert!(start.elapsed() < std::time::Duration::from_secs(30), "the field does not expire");
    }
    client.transcript(
        r#"
        HGETALL i                               => ["b" "2"]
        HPEXPIRE i 10 FIELDS 1 b                => [:1]
        "#,
    );
    while client.run("EXISTS i") != Reply::Integer(0) {
        assert!(start.elapsed() < std::time::Duration::from_secs(30), "the key does not go");
    }
}
