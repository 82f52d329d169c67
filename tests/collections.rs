//! Lists, hashes, sets and sorted sets over TCP: thresholds from the configuration, and replies that
//! take the way over the shards.

use crate::harness::{Client, Reply, Server, on_1_2_and_4_shards};

on_1_2_and_4_shards!(
    thresholds_are_configured,
    faults_are_worded_by_the_command,
    walks_see_all,
    long_replies_are_of_the_moment_of_their_command,
    long_replies_come_whole_in_transactions_and_scripts_and_before_a_close,
);

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

/// Fills a set and its copy, a hash, a list, a sorted set and a stream with so many members.
fn fill_long(client: &mut Client, members: usize) {
    for number in 0..members {
        let member = format!("member:{number:06}");
        client.push(["SADD", "s", &member]);
        client.push(["HSET", "h", &member, "value"]);
        client.push(["RPUSH", "l", &member]);
        client.push(["ZADD", "z", &number.to_string(), &member]);
        client.push(["XADD", "x", &format!("{}-1", number + 1), "field", &member]);
        if number % 500 == 499 || number + 1 == members {
            client.flush();
            client.receive_all(5 * (number % 500 + 1));
        }
    }
    // Elsewhere, where there are several shards.
    assert_eq!(client.run("COPY s other"), Reply::Integer(1));
}

/// Commands that answer all that [`fill_long`] makes, and how many elements that is.
const WHOLE: [(&str, usize); 15] = [
    ("SMEMBERS s", 1),
    ("HGETALL h", 2),
    ("HKEYS h", 1),
    ("HVALS h", 1),
    ("LRANGE l 0 -1", 1),
    ("ZRANGE z 0 -1", 1),
    ("ZRANGE z 0 -1 REV WITHSCORES", 2),
    ("SUNION s s", 1),
    ("SINTER s other", 1),
    ("SDIFF s none", 1),
    ("ZUNION 2 z z", 1),
    ("ZINTER 2 z z WITHSCORES", 2),
    ("ZDIFF 2 z none", 1),
    ("XRANGE x - +", 1),
    ("XREVRANGE x + -", 1),
];

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// Long replies are written while they are sent: what was changed behind the command, by the same
/// client in the same pipeline, must not show.
fn long_replies_are_of_the_moment_of_their_command(shards: usize) {
    const MEMBERS: usize = 9_000;
    let server = Server::start(shards);
    let mut client = server.connect();
    fill_long(&mut client, MEMBERS);
    let whole: Vec<_> = WHOLE.map(|(line, _)| client.run(line)).into_iter().collect();
    for (reply, (line, times)) in whole.iter().zip(WHOLE) {
        let items = reply.clone().into_items();
        assert_eq!(items.len(), times * MEMBERS, "{line}");
    }
    for (line, _) in WHOLE {
        client.push(words(line));
        client.push(["PING"]);
    }
    let changes =
        ["SREM s member:000007", "HDEL h member:000007", "LPOP l", "ZPOPMAX z", "XDEL x 7-1"];
    for line in changes {
        client.push(words(line));
    }
    for (line, _) in WHOLE {
        client.push(words(line));
    }
    client.push(["DEL", "s", "h", "l", "z", "x", "other"]);
    client.flush();
    // Others go on although nobody reads.
    let mut other = server.connect();
    assert_eq!(other.run("PING"), Reply::Simple("PONG".into()));
    for (expected, (line, _)) in whole.iter().zip(WHOLE) {
        assert!(client.receive() == *expected, "{line}");
        assert_eq!(client.receive(), Reply::Simple("PONG".into()));
    }
    client.receive_all(changes.len());
    for (line, times) in WHOLE {
        assert_eq!(client.receive().into_items().len(), times * (MEMBERS - 1), "{line}");
    }
    assert_eq!(client.receive(), Reply::Integer(6));
}

fn long_replies_come_whole_in_transactions_and_scripts_and_before_a_close(shards: usize) {
    const MEMBERS: usize = 5_000;
    let server = Server::start(shards);
    let mut client = server.connect();
    fill_long(&mut client, MEMBERS);
    let whole: Vec<_> = WHOLE.map(|(line, _)| client.run(line)).into_iter().collect();
    client.run("MULTI");
    for (line, _) in WHOLE {
        client.run(line);
    }
    client.run("DEL s h l");
    let mut replies = client.run("EXEC").into_items();
    assert_eq!(replies.pop(), Some(Reply::Integer(3)));
    assert!(replies == whole);
    let script = "return #redis.call('ZRANGE', KEYS[1], 0, -1)";
    let elements = client.call(["EVAL", script, "1", "z"]);
    assert_eq!(elements, Reply::Integer(MEMBERS as i64));
    // What was asked for before QUIT is sent before the connection closes.
    client.push(["ZRANGE", "z", "0", "-1"]);
    client.push(["QUIT"]);
    client.flush();
    assert_eq!(client.receive().into_items().len(), MEMBERS);
    assert_eq!(client.receive(), Reply::ok());
    assert!(client.is_closed());
}
