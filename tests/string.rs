//! Strings: every command of the family, its options, its limits and its error texts.

use crate::harness::{Reply, Server, ServerKind, on_1_2_and_4_shards};

on_1_2_and_4_shards!(
    set_and_get,
    set_options,
    set_if_equal,
    get_with_expiry_or_deletion,
    set_with_expiry,
    several_keys,
    append_and_ranges,
    integers,
    floats,
    longest_common_substring,
    wrong_type,
    wrong_arity,
    large_values,
    any_bytes_are_a_value,
);

/// A point in time that no test run reaches: 5138-11-16.
const FAR: &str = "100000000000";

fn set_and_get(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        GET k                  => nil
        SET k v                => +OK
        GET k                  => "v"
        get K                  => nil
        sEt k ""               => +OK
        GET k                  => ""
        STRLEN k               => :0
        STRLEN absent          => :0
        SETNX k other          => :0
        SETNX fresh 1          => :1
        GETSET fresh 2         => "1"
        GETSET absent 2        => nil
        TYPE k                 => +string
        "#,
    );
}

fn set_options(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        SET k 1 XX                     => nil
        SET k 1 NX                     => +OK
        SET k 2 NX                     => nil
        SET k 2 XX GET                 => "1"
        SET k 3 NX GET                 => "2"
        GET k                          => "2"
        SET absent 3 NX GET            => nil
        GET absent                     => "3"
        SET gone 3 XX GET              => nil
        EXISTS gone                    => :0
        SET k 4 EXAT 100000000000      => +OK
        EXPIRETIME k                   => :100000000000
        SET k 5 KEEPTTL                => +OK
        EXPIRETIME k                   => :100000000000
        SET k 6                        => +OK
        TTL k                          => :-1
        SET k 7 PXAT 100000000000123   => +OK
        PEXPIRETIME k                  => :100000000000123
        SET k 8 EXAT 1                 => +OK
        GET k                          => nil
        SET k 9 keepttl nx get         => nil

        SET k 1 NX XX                  => -ERR syntax error
        SET k 1 EX                     => -ERR syntax error
        SET k 1 EX 1 PX 1              => -ERR syntax error
        SET k 1 EX 1 KEEPTTL           => -ERR syntax error
        SET k 1 SOON                   => -ERR syntax error
        SET k 1 EX x                   => -ERR value is not an integer or out of range
        SET k 1 EX 0                   => -ERR invalid expire time in 'set' command
        SET k 1 PX -1                  => -ERR invalid expire time in 'set' command
        SET k 1 EX 9223372036854775807 => -ERR invalid expire time in 'set' command
        SET k 1 PX 9223372036854775807 => -ERR invalid expire time in 'set' command
        GET k                          => "9"
        "#,
    );
}

/// SET … IFEQ came with Valkey 8.1; Redis 7 takes it for a syntax error.
fn set_if_equal(shards: usize) {
    if !ServerKind::under_test().is_tessera() {
        return crate::harness::skip("SET IFEQ is Valkey's");
    }
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        SET k new IFEQ old      => nil
        EXISTS k                => :0
        SET k old               => +OK
        SET k new IFEQ other    => nil
        SET k new IFEQ old      => +OK
        GET k                   => "new"
        SET k 10                => +OK
        SET k 11 IFEQ 10 GET    => "10"
        SET k 12 IFEQ 10 GET    => "11"
        GET k                   => "11"
        SET k 1 IFEQ 11 NX      => -ERR syntax error
        SET k 1 IFEQ 11 XX      => -ERR syntax error
        SET k 1 IFEQ            => -ERR syntax error
        "#,
    );
}

fn get_with_expiry_or_deletion(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        GETEX k                        => nil
        SET k v                        => +OK
        GETEX k                        => "v"
        GETEX k EXAT 100000000000      => "v"
        EXPIRETIME k                   => :100000000000
        GETEX k PXAT 100000000000123   => "v"
        PEXPIRETIME k                  => :100000000000123
        GETEX k PERSIST                => "v"
        TTL k                          => :-1
        GETEX k EX 100 PERSIST         => -ERR syntax error
        GETEX k KEEPTTL                => -ERR syntax error
        GETEX k EX 0                   => -ERR invalid expire time in 'getex' command
        GETEX k PX x                   => -ERR value is not an integer or out of range
        GETEX k EXAT 1                 => "v"
        EXISTS k                       => :0
        SET k v                        => +OK
        GETDEL k                       => "v"
        GETDEL k                       => nil
        "#,
    );
}

fn set_with_expiry(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        r#"
        SETEX k 1000 v          => +OK
        PSETEX l 1000000 v      => +OK
        SETEX k 0 v             => -ERR invalid expire time in 'setex' command
        PSETEX k -1 v           => -ERR invalid expire time in 'psetex' command
        SETEX k x v             => -ERR value is not an integer or out of range
        "#,
    );
    for key in ["k", "l"] {
        let left = client.call(["TTL", key]).into_integer();
        assert!((900..=1000).contains(&left), "{key} lives for {left} s");
    }
}

fn several_keys(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript(
        r#"
        MSET a 1 b 2 c 3        => +OK
        MGET a b nobody c a     => ["1" "2" nil "3" "1"]
        MSET a 4 a 5            => +OK
        GET a                   => "5"
        MSETNX x 1 y 2          => :1
        MSETNX y 3 z 4          => :0
        MGET x y z              => ["1" "2" nil]
        RPUSH l 1               => :1
        MGET a l                => ["5" nil]
        MSET a                  => -ERR wrong number of arguments for 'mset' command
        MSET a 1 b              => -ERR wrong number of arguments for 'mset' command
        MSETNX a 1 b            => -ERR wrong number of arguments for 'msetnx' command
        "#,
    );
    let keys: Vec<_> = (0..500).map(|n| format!("key:{n}")).collect();
    let set = keys.iter().flat_map(|key| [key.clone(), format!("value of {key}")]);
    assert_eq!(client.call(std::iter::once("MSET".to_owned()).chain(set)), Reply::ok());
    let get = std::iter::once("MGET".to_owned()).chain(keys.iter().cloned());
    let expected = keys.iter().map(|key| Reply::bulk(format!("value of {key}"))).collect();
    assert_eq!(client.call(get), Reply::Array(expected));
}

fn append_and_ranges(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        APPEND k Hello                 => :5
        APPEND k " World"              => :11
        GETRANGE k 0 4                 => "Hello"
        GETRANGE k -5 -1               => "World"
        GETRANGE k 5 2                 => ""
        GETRANGE k 0 -100              => "H"
        GETRANGE k 6 1000              => "World"
        SUBSTR k 1 3                   => "ell"
        GETRANGE absent 0 -1           => ""
        SETRANGE k 6 Redis             => :11
        GET k                          => "Hello Redis"
        SETRANGE pad 3 x               => :4
        GET pad                        => "\x00\x00\x00x"
        SETRANGE absent 5 ""           => :0
        EXISTS absent                  => :0
        SETRANGE k -1 x                => -ERR offset is out of range
        SETRANGE k 536870912 x         => -ERR string exceeds maximum allowed size (proto-max-bulk-len)
        SET n 12                       => +OK
        APPEND n 3                     => :3
        INCR n                         => :124
        SETRANGE n 0 9                 => :3
        GET n                          => "924"
        GETRANGE n 1 -1                => "24"
        "#,
    );
}

fn integers(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        INCR n                         => :1
        INCRBY n 41                    => :42
        DECR n                         => :41
        DECRBY n 50                    => :-9
        OBJECT ENCODING n              => "int"
        SET n 9223372036854775807      => +OK
        INCR n                         => -ERR increment or decrement would overflow
        DECRBY n -1                    => -ERR increment or decrement would overflow
        GET n                          => "9223372036854775807"
        SET n -9223372036854775808     => +OK
        DECR n                         => -ERR increment or decrement would overflow
        DECRBY n -9223372036854775808  => -ERR decrement would overflow
        SET n 9223372036854775808      => +OK
        INCR n                         => -ERR value is not an integer or out of range
        SET n " 1"                     => +OK
        INCR n                         => -ERR value is not an integer or out of range
        SET n 01                       => +OK
        INCR n                         => -ERR value is not an integer or out of range
        SET n +1                       => +OK
        INCR n                         => -ERR value is not an integer or out of range
        SET n -0                       => +OK
        INCR n                         => -ERR value is not an integer or out of range
        SET n ""                       => +OK
        INCR n                         => -ERR value is not an integer or out of range
        SET n 1                        => +OK
        INCRBY n 1.0                   => -ERR value is not an integer or out of range
        INCRBY n ""                    => -ERR value is not an integer or out of range
        EXPIREAT n 100000000000        => :1
        INCR n                         => :2
        EXPIRETIME n                   => :100000000000
        "#,
    );
}

fn floats(shards: usize) {
    let server = Server::start(shards);
    server.connect().transcript(
        r#"
        INCRBYFLOAT f 10.5             => "10.5"
        INCRBYFLOAT f 0.1              => "10.6"
        INCRBYFLOAT f -5               => "5.6"
        # Redis computes with the 80 bits of x87's long double and prints 17 decimals.
        INCRBYFLOAT f 5.0e3            => "5005.60000000000000009"
        SET f 3.0e3                    => +OK
        INCRBYFLOAT f 200              => "3200"
        SET f 3                        => +OK
        INCRBYFLOAT f 1.000000000000000005 => "4.00000000000000001"
        INCRBYFLOAT f x                => -ERR value is not a valid float
        INCRBYFLOAT f " 1"             => -ERR value is not a valid float
        INCRBYFLOAT f nan              => -ERR value is not a valid float
        INCRBYFLOAT f inf              => -ERR increment would produce NaN or Infinity
        SET f abc                      => +OK
        INCRBYFLOAT f 1                => -ERR value is not a valid float
        SET f 1                        => +OK
        INCRBYFLOAT f -1.1             => "-0.1"
        "#,
    );
}

fn longest_common_substring(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    // Both keys on one slot: LCS reads two keys at once.
    client.transcript(
        r#"
        MSET {t}a ohmytext {t}b mynewtext       => +OK
        LCS {t}a {t}b                           => "mytext"
        LCS {t}a {t}b LEN                       => :6
        LCS {t}a {t}b IDX                       => ["matches" [[[:4 :7] [:5 :8]] [[:2 :3] [:0 :1]]] "len" :6]
        LCS {t}a {t}b IDX MINMATCHLEN 4         => ["matches" [[[:4 :7] [:5 :8]]] "len" :6]
        LCS {t}a {t}b IDX MINMATCHLEN 4 WITHMATCHLEN => ["matches" [[[:4 :7] [:5 :8] :4]] "len" :6]
        LCS {t}a {t}absent                      => ""
        LCS {t}a {t}b LEN IDX                   => -ERR If you want both the length and indexes, please just use IDX.
        LCS {t}a {t}b MINMATCHLEN x             => -ERR value is not an integer or out of range
        LCS {t}a {t}b WHAT                      => -ERR syntax error
        RPUSH {t}l 1                            => :1
        LCS {t}a {t}l                           => -ERR The specified keys must contain string values
        "#,
    );
}

fn wrong_type(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    client.transcript("RPUSH l a => :1");
    for command in [
        "GET l",
        "GETSET l v",
        "GETDEL l",
        "GETEX l",
        "APPEND l v",
        "STRLEN l",
        "GETRANGE l 0 1",
        "SUBSTR l 0 1",
        "SETRANGE l 0 v",
        "INCR l",
        "DECR l",
        "INCRBY l 1",
        "DECRBY l 1",
        "INCRBYFLOAT l 1",
        "SET l v GET",
        "SET l v NX GET",
    ] {
        let reply = client.run(command);
        let expected = "WRONGTYPE Operation against a key holding the wrong kind of value";
        assert_eq!(reply, Reply::Error(expected.into()), "{command}");
    }
    client.transcript(
        "
        TYPE l    => +list
        SET l v   => +OK
        TYPE l    => +string
        ",
    );
}

fn wrong_arity(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for command in [
        "set k",
        "get",
        "get k k",
        "getex",
        "getdel",
        "getset k",
        "setex k 1",
        "psetex k 1",
        "setnx k",
        "mset",
        "msetnx k",
        "mget",
        "append k",
        "strlen",
        "getrange k 0",
        "substr k 0",
        "setrange k 0",
        "incr",
        "decr",
        "incrby k",
        "decrby k",
        "incrbyfloat k",
        "lcs k",
    ] {
        let name = command.split(' ').next().expect("a name");
        let expected = format!("ERR wrong number of arguments for '{name}' command");
        assert_eq!(client.run(command), Reply::Error(expected), "{command}");
    }
}

/// Sizes around the steps of buffers, up to one that fills many socket buffers.
fn large_values(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for size in [1, 63, 64, 65, 4_095, 16_384, 65_535, 65_536, 65_537, 1 << 20, 20_000_003] {
        let value: Vec<u8> = (0..size).map(|n: u32| (n % 251) as u8).collect();
        let key = format!("large:{size}");
        assert_eq!(client.call([b"SET", key.as_bytes(), &value]), Reply::ok());
        assert!(client.call(["GET", &key]) == Reply::Bulk(value), "a value of {size} bytes");
        assert_eq!(client.call(["STRLEN", &key]), Reply::Integer(i64::from(size)));
        let reply = client.call(["APPEND", &key, "tail"]);
        assert_eq!(reply, Reply::Integer(i64::from(size) + 4));
        assert_eq!(client.call(["GETRANGE", &key, "-4", "-1"]), Reply::bulk("tail"));
    }
}

fn any_bytes_are_a_value(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let all: Vec<u8> = (0..=255).collect();
    assert_eq!(client.call([b"SET", &all[..], &all[..]]), Reply::ok());
    assert_eq!(client.call([b"GET", &all[..]]), Reply::bulk(&all));
    assert_eq!(client.call([&b"EXPIREAT"[..], &all[..], FAR.as_bytes()]), Reply::Integer(1));
    assert_eq!(client.call([b"GET", &b""[..]]), Reply::NullBulk);
    assert_eq!(client.call([b"SET", &b""[..], b"empty key"]), Reply::ok());
    assert_eq!(client.call([b"GET", &b""[..]]), Reply::bulk("empty key"));
}
