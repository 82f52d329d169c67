//! Lists, hashes, sets and sorted sets over TCP: thresholds from the configuration, and replies that
//! take the way over the shards.

use crate::harness::{Reply, Server, on_1_2_and_4_shards};

on_1_2_and_4_shards!(thresholds_are_configured, faults_are_worded_by_the_command, walks_see_all);

fn thresholds_are_configured(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        RPUSH l a b c                                => :3
        OBJECT ENCODING l                            => "listpack"
        HSET h a 1 b 2 c 3                           => :3
        OBJECT ENCODING h                            => "listpack"
        SADD ints 1 2 3                              => :3
        OBJECT ENCODING ints                         => "intset"
        SADD s a b c                                 => :3
        OBJECT ENCODING s                            => "listpack"
        ZADD z 1 a 2 b 3 c                           => :3
        OBJECT ENCODING z                            => "listpack"
        CONFIG SET list-max-listpack-size 3          => +OK
        CONFIG SET hash-max-listpack-entries 3       => +OK
        CONFIG SET set-max-intset-entries 3          => +OK
        CONFIG SET set-max-listpack-entries 3        => +OK
        CONFIG SET zset-max-listpack-value 3         => +OK
        RPUSH l d                                    => :4
        OBJECT ENCODING l                            => "quicklist"
        HSET h d 4                                   => :1
        OBJECT ENCODING h                            => "hashtable"
        SADD ints 4                                  => :1
        OBJECT ENCODING ints                         => "hashtable"
        SADD s d                                     => :1
        OBJECT ENCODING s                            => "hashtable"
        ZADD z 4 long                                => :1
        OBJECT ENCODING z                            => "skiplist"
        "#,
    );
}

fn faults_are_worded_by_the_command(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        ZUNION 0 a b                => -ERR at least 1 input key is needed for 'zunion' command
        ZUNION 3 a b                => -ERR syntax error
        SINTERCARD 3 a b            => -ERR Number of keys can't be greater than number of args
        LMPOP 0 a LEFT              => -ERR numkeys should be greater than 0
        ZMPOP x a MIN               => -ERR numkeys should be greater than 0
        "#,
    );
}

fn walks_see_all(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for number in 0..500 {
        client.push(["SADD", "s", &format!("member:{number}")]);
        client.push(["HSET", "h", &format!("field:{number}"), "v"]);
        client.push(["ZADD", "z", &number.to_string(), &format!("member:{number}")]);
    }
    client.flush();
    assert!(client.receive_all(1500).iter().all(|reply| *reply == Reply::Integer(1)));
    for (command, elements) in [("SSCAN s", 500), ("HSCAN h", 1000), ("ZSCAN z", 1000)] {
        let (mut cursor, mut seen) = (String::from("0"), 0);
        loop {
            let mut reply = client.run(&format!("{command} {cursor} COUNT 40")).into_items();
            seen += reply.remove(1).into_items().len();
            cursor = reply.remove(0).into_text();
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen, elements, "{command}");
    }
}
