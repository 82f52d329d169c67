//! Replies of the geo commands, compared with what Redis answers.

use tessera_proto::Protocol;

use crate::{
    command::{Effect, testing::Bench},
    keyspace::events::Class,
    shard::Settings,
};

fn sicily() -> Bench {
    let mut bench = Bench::new();
    bench.expect(&[
        ("GEOADD s 13.361389 38.115556 Palermo 15.087269 37.502669 Catania", ":2"),
        ("GEOADD s 12.758489 38.788135 edge1 17.241510 38.788135 edge2", ":2"),
    ]);
    bench
}

#[test]
fn members_are_added_at_places() {
    sicily().expect(&[
        ("ZSCORE s Palermo", "\"3479099956230698\""),
        ("GEOADD s CH 13.361389 38.115556 Palermo 13 38 Catania", ":1"),
        ("GEOADD s NX CH 1 1 Palermo 2 2 new", ":1"),
        ("GEOADD s XX CH 1 1 Palermo 2 2 newer", ":1"),
        ("ZCARD s", ":5"),
        ("GEOADD s XX NX 1 1 a", "-ERR syntax error"),
        ("GEOADD s 1 1", "-ERR wrong number of arguments for 'geoadd' command"),
        ("GEOADD s 1 1 a 2", "-ERR syntax error"),
        ("GEOADD s NX XX CH", "-ERR syntax error"),
        ("GEOADD s x 1 a", "-ERR value is not a valid float"),
        ("GEOADD s 200 1 a", "-ERR invalid longitude,latitude pair 200.000000,1.000000"),
        ("GEOADD s 1 86 a", "-ERR invalid longitude,latitude pair 1.000000,86.000000"),
        ("GEOADD t 1 1 a 1 99 b", "-ERR invalid longitude,latitude pair 1.000000,99.000000"),
        ("EXISTS t", ":0"),
        ("SET k v", "OK"),
        ("GEOADD k 1 1 a", "-WRONGTYPE Operation against a key holding the wrong kind of value"),
    ]);
}

#[test]
fn single_members_are_read() {
    let mut bench = sicily();
    bench.expect(&[
        ("GEODIST s Palermo Catania", "\"166274.1516\""),
        ("GEODIST s Palermo Catania km", "\"166.2742\""),
        ("GEODIST s Palermo Catania MI", "\"103.3182\""),
        ("GEODIST s Palermo Palermo", "\"0.0000\""),
        ("GEODIST s Palermo none", "nil"),
        ("GEODIST none a b", "nil"),
        ("GEODIST s a b c", "-ERR unsupported unit provided. please use M, KM, FT, MI"),
        ("GEODIST s a b m c", "-ERR syntax error"),
        ("GEOHASH s Palermo none Catania", "[\"sqc8b49rny0\" nil \"sqdtr74hyu0\"]"),
        ("GEOHASH none a", "[nil]"),
        ("GEOHASH s", "[]"),
        ("GEOPOS s Palermo none", "[[\"13.36138933897018433\" \"38.11555639549629859\"] nil]"),
    ]);
    bench.protocol = Protocol::Resp3;
    bench.expect(&[("GEOPOS none a", "[nil]")]);
}

#[test]
fn members_are_found_around_a_place() {
    sicily().expect(&[
        ("GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 200 km ASC", "[\"Catania\" \"Palermo\"]"),
        ("GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 200 km DESC", "[\"Palermo\" \"Catania\"]"),
        (
            "GEOSEARCH s FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHDIST",
            "[[\"Catania\" \"56.4413\"] [\"Palermo\" \"190.4424\"] [\"edge2\" \"279.7403\"] \
             [\"edge1\" \"279.7405\"]]",
        ),
        ("GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 200 km COUNT 1", "[\"Catania\"]"),
        ("GEOSEARCH s FROMMEMBER Palermo BYRADIUS 100 km ASC", "[\"Palermo\" \"edge1\"]"),
        ("GEORADIUS s 15 37 200 km WITHHASH ASC COUNT 1", "[[\"Catania\" :3479447370796909]]"),
        ("GEORADIUS_RO s 15 37 1 m", "[]"),
        ("GEORADIUSBYMEMBER s Catania 0 m", "[\"Catania\"]"),
        ("GEORADIUSBYMEMBER_RO none a x y", "[]"),
        (
            "GEORADIUS s 15 37 100 km WITHCOORD WITHDIST",
            "[[\"Catania\" \"56.4413\" [\"15.08726745843887329\" \"37.50266842333162032\"]]]",
        ),
        ("GEOSEARCH none FROMLONLAT 1 1 BYRADIUS 1 m", "[]"),
    ]);
}

#[test]
fn arguments_are_checked() {
    sicily().expect(&[
        ("GEOSEARCH s FROMLONLAT 1 1 ASC DESC ASC", "-ERR exactly one of BYRADIUS and BYBOX can be specified for GEOSEARCH"),
        ("geosearch s BYRADIUS 1 m ASC DESC", "-ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for geosearch"),
        ("GEOSEARCH s FROMLONLAT 1 1 FROMMEMBER Palermo BYRADIUS 1 m", "-ERR syntax error"),
        ("GEOSEARCH s FROMLONLAT 1 1 BYRADIUS 1 m BYBOX 1 1 m", "-ERR syntax error"),
        ("GEOSEARCH s FROMLONLAT 1 1 BYRADIUS 1 m STOREDIST", "-ERR syntax error"),
        ("GEOSEARCH s FROMLONLAT 1 1 BYRADIUS 1 m ANY", "-ERR the ANY argument requires COUNT argument"),
        ("GEOSEARCH s FROMLONLAT 1 1 BYRADIUS 1 m COUNT 0", "-ERR COUNT must be > 0"),
        ("GEOSEARCH s FROMLONLAT 1 1 BYRADIUS -1 m", "-ERR radius cannot be negative"),
        ("GEOSEARCH s FROMLONLAT 1 1 BYRADIUS x m", "-ERR need numeric radius"),
        ("GEOSEARCH s FROMLONLAT 1 1 BYRADIUS 1 x", "-ERR unsupported unit provided. please use M, KM, FT, MI"),
        ("GEOSEARCH s FROMLONLAT 1 1 BYBOX 1 -1 m", "-ERR height or width cannot be negative"),
        ("GEOSEARCH s FROMLONLAT 1 1 BYBOX x 1 m", "-ERR need numeric width"),
        ("GEOSEARCH s FROMLONLAT 1 1 BYBOX 1 x m", "-ERR need numeric height"),
        ("GEOSEARCH s FROMMEMBER nobody BYRADIUS 1 m", "-ERR could not decode requested zset member"),
        ("GEOSEARCHSTORE d s FROMLONLAT 1 1 BYRADIUS 1 m WITHDIST", "-ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options"),
        ("GEORADIUS s 1 1 1 m STORE d WITHHASH", "-ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options"),
        ("GEORADIUS_RO s 1 1 1 m STORE d", "-ERR syntax error"),
        ("GEORADIUS s 1 1 1 m STORE", "-ERR syntax error"),
    ]);
}

#[test]
fn what_is_found_is_kept() {
    let notify = Class::SORTED_SET | Class::GENERIC | Class::KEYEVENT;
    let mut bench = sicily();
    bench.shard.configure(Settings { notify, ..Settings::default() });
    bench.expect(&[
        ("GEOSEARCHSTORE d s FROMLONLAT 15 37 BYBOX 400 400 km ASC COUNT 3", ":3"),
        ("ZRANGE d 0 -1", "[\"Palermo\" \"Catania\" \"edge2\"]"),
        ("GEOSEARCHSTORE d s FROMLONLAT 15 37 BYRADIUS 200 km STOREDIST", ":2"),
        ("ZRANGE d 0 0", "[\"Catania\"]"),
        ("GEORADIUS s 15 37 200 km STOREDIST d STORE e", ":2"),
        ("ZSCORE e Palermo", "\"3479099956230698\""),
        ("GEORADIUSBYMEMBER s Palermo 10 m STORE s", ":1"),
        ("ZCARD s", ":1"),
        ("GEOSEARCHSTORE d none FROMLONLAT 1 1 BYRADIUS 1 m", ":0"),
        ("EXISTS d", ":0"),
    ]);
    let events: Vec<_> = bench.shard.keyspace.events.take().iter().map(|e| e.name).collect();
    let expected = ["geosearchstore", "geosearchstore", "georadiusstore", "georadiusstore", "del"];
    assert_eq!(events, expected);
    let words: Vec<&[u8]> =
        "GEORADIUS s 0 0 1 m STORE none".split(' ').map(str::as_bytes).collect();
    assert_eq!(bench.effect(&words).1, Ok(Effect::Unchanged));
    bench.shard.check();
}

#[test]
fn any_members_will_do_if_the_client_says_so() {
    let mut bench = sicily();
    let reply = bench.run("GEOSEARCH s FROMLONLAT 15 37 BYBOX 4000 4000 km COUNT 2 ANY");
    assert_eq!(reply.matches('"').count(), 4);
}
