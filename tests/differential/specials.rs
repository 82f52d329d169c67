//! Templates of the commands on bitmaps, HyperLogLogs and places and of SORT, and the words in them.
//!
//! Strings reach 300 bytes, so that words, blocks and the way a string is kept all change.

use fastrand::Rng;

pub(super) const BITMAPS: &[&str] = &[
    "SETBIT <near> <bit-offset> <bit>",
    "SETBIT <near> <bit-offset> <bit>",
    "GETBIT <near> <bit-offset>",
    "BITCOUNT <near>",
    "BITCOUNT <near> <byte-index> <byte-index>",
    "BITCOUNT <near> <bit-index> <bit-index> BIT",
    "BITCOUNT <near> <byte-index> <byte-index> <bit-unit>",
    "BITPOS <near> <bit>",
    "BITPOS <near> <bit> <byte-index>",
    "BITPOS <near> <bit> <byte-index> <byte-index>",
    "BITPOS <near> <bit> <bit-index> <bit-index> BIT",
    "BITPOS <near> <bit> <bit-index> <bit-index> <bit-unit>",
    "BITOP <bit-operation> <near> <near> <near>",
    "BITOP <bit-operation> <near> <near> <near> <near>",
    "BITOP NOT <near> <near>",
    "BITFIELD <near> GET <field-type> <field-offset>",
    "BITFIELD <near> SET <field-type> <field-offset> <number>",
    "BITFIELD <near> INCRBY <field-type> <field-offset> <number>",
    "BITFIELD <near> OVERFLOW <overflow> SET <field-type> <field-offset> <number>",
    "BITFIELD <near> OVERFLOW <overflow> INCRBY <field-type> <field-offset> <number> INCRBY <field-type> <field-offset> <number> GET <field-type> <field-offset>",
    "BITFIELD <near> INCRBY <field-type> <field-offset> 1 OVERFLOW <overflow> INCRBY <field-type> <field-offset> <number> SET <field-type> <field-offset>",
    "BITFIELD_RO <near> GET <field-type> <field-offset> GET <field-type> <field-offset>",
    "BITFIELD_RO <near> SET u8 0 1",
    "SET <near> <bitmap>",
    "SET <near> <number>",
    "SET <near> <value>",
    "APPEND <near> <bitmap>",
    "SETRANGE <near> <offset> <bitmap>",
    "GET <near>",
    "STRLEN <near>",
    "OBJECT ENCODING <near>",
    "RPUSH <near> x",
    "DEL <near>",
];

/// Sketches are compared by their bytes. Corrupted ones are left out: 7.0 reads beyond their end.
pub(super) const HYPERLOGLOGS: &[&str] = &[
    "PFADD <near>",
    "PFADD <near> <element>",
    "PFADD <near> <element> <element> <element>",
    "PFADD <near> <many-elements>",
    "PFADD <near> <many-elements>",
    "PFADD {t}large <many-elements>",
    "PFCOUNT <near>",
    "PFCOUNT {t}large",
    "<rarely>PFCOUNT <near> <near> {t}large",
    "PFMERGE <near> <near>",
    "PFMERGE <near> <near> <near>",
    "PFMERGE {t}sum <near> <near>",
    "<rarely>PFMERGE <near> {t}large",
    "PFDEBUG ENCODING <near>",
    "PFDEBUG DECODE <near>",
    "<rarely>PFDEBUG TODENSE <near>",
    "<rarely>PFDEBUG GETREG <near>",
    "GET <near>",
    "GET {t}sum",
    "GET {t}large",
    "STRLEN <near>",
    "COPY <near> <near> REPLACE",
    "DEL <near>",
    "<rarely>DEL {t}large",
    "<rarely>SET <near> <value>",
    "<rarely>SADD <near> a",
];

/// Places are drawn so that no two distances are equal: which of them comes first is not defined. So
/// what is no place, a score or a distance, which as places lie on top of each other, goes to a key
/// that is searched without an order. Nor is it defined which members COUNT ANY finds.
pub(super) const GEO: &[&str] = &[
    "GEOADD <near> <longitude> <latitude> <member>",
    "GEOADD <near> <many-places>",
    "GEOADD {t}all <many-places>",
    "GEOADD <near> <geoadd-option> <longitude> <latitude> <member> <longitude> <latitude> <member>",
    "GEOADD <near> <geoadd-option> <geoadd-option> <longitude> <latitude> <member>",
    "GEOADD <near> <longitude> <latitude>",
    "GEODIST <near> <member> <member>",
    "GEODIST {t}all <member> <member> <unit>",
    "GEOHASH <near> <member> <member> <member>",
    "GEOPOS <near> <member> <member> <member>",
    "ZSCORE {t}all <member>",
    "ZRANK <near> <member>",
    "GEOSEARCH <near> FROMLONLAT <longitude> <latitude> BYRADIUS <distance> <unit>",
    "GEOSEARCH {t}all FROMLONLAT <longitude> <latitude> BYRADIUS <distance> <unit> ASC WITHDIST WITHCOORD",
    "GEOSEARCH {t}all FROMLONLAT <longitude> <latitude> BYBOX <distance> <distance> <unit> ASC COUNT <positive>",
    "GEOSEARCH {t}all FROMMEMBER <member> BYBOX <distance> <distance> km DESC WITHHASH WITHDIST",
    "GEOSEARCH {t}all FROMMEMBER <member> BYRADIUS <distance> km DESC COUNT <positive>",
    "GEOSEARCH <near> <geo-word> <geo-word> <geo-word> <geo-word> ASC",
    "GEOSEARCHSTORE <near> {t}all FROMLONLAT <longitude> <latitude> BYRADIUS <distance> km",
    "GEOSEARCHSTORE {t}scores {t}all FROMLONLAT <longitude> <latitude> BYBOX <distance> <distance> km STOREDIST",
    "GEOSEARCHSTORE <near> {t}all FROMMEMBER <member> BYRADIUS <distance> <unit> ASC COUNT <positive>",
    "GEOSEARCHSTORE <near> {t}all FROMMEMBER <member> BYBOX <distance> <distance> <unit> DESC COUNT <positive>",
    "GEORADIUS {t}all <longitude> <latitude> <distance> <unit> DESC WITHCOORD WITHHASH COUNT <positive>",
    "GEORADIUS_RO {t}all <longitude> <latitude> <distance> <unit> ASC WITHDIST WITHCOORD WITHHASH COUNT <positive>",
    "GEORADIUSBYMEMBER {t}all <member> <distance> <unit> DESC WITHDIST WITHCOORD WITHHASH",
    "GEORADIUSBYMEMBER {t}all <member> <distance> km STORE <near>",
    "GEORADIUSBYMEMBER {t}all <member> <distance> km STOREDIST {t}scores",
    "GEORADIUSBYMEMBER_RO {t}all <member> <distance> <unit> ASC WITHDIST WITHCOORD WITHHASH",
    "GEORADIUSBYMEMBER_RO {t}all <member> <distance> <unit> DESC COUNT <positive>",
    "GEORADIUS {t}all <longitude> <latitude> <distance> <unit> ASC WITHDIST",
    "GEORADIUS {t}all <longitude> <latitude> <distance> km STORE <near>",
    "GEORADIUS {t}all <longitude> <latitude> <distance> km STOREDIST {t}scores",
    "GEORADIUS_RO <near> <longitude> <latitude> <distance> <unit> DESC",
    "GEORADIUSBYMEMBER {t}all <member> <distance> <unit> ASC",
    "GEORADIUSBYMEMBER <near> <member> <distance> km COUNT <positive> DESC",
    "GEORADIUSBYMEMBER_RO <near> <member> <distance> km",
    "ZRANGE <near> 0 -1",
    "ZRANGE {t}scores 0 -1 WITHSCORES",
    "ZADD {t}scores <score> <member>",
    "GEOPOS {t}scores <member> <member>",
    "GEORADIUS_RO {t}scores <longitude> <latitude> <distance> <unit>",
    "GEORADIUSBYMEMBER_RO {t}scores <member> <distance> km",
    "ZREM <near> <member>",
    "SET <near> x",
    "DEL <near>",
    "<rarely>DEL {t}all",
];

/// Weights lie in keys of all slots. What compares equal comes in the order of the source, which a set
/// does not have, and a sorted set has not in Redis: texts by pattern are for the list alone.
pub(super) const SORTS: &[&str] = &[
    "RPUSH {t}l <sortable> <sortable> <sortable>",
    "LPUSH {t}l <sortable>",
    "SADD {t}s <sortable> <sortable> <sortable>",
    "ZADD {t}z 1 <sortable> 2 <sortable> 1.5 <sortable>",
    "LTRIM {t}l <few> 20",
    "SPOP {t}s 100",
    "ZREMRANGEBYRANK {t}z 15 -1",
    "SET <weight-key> <sortable>",
    "MSET <weight-key> <sortable> <weight-key> <sortable> <weight-key> <sortable>",
    "HSET <weight-hash> f <sortable> g <member>",
    "DEL <weight-key> <weight-hash>",
    "<rarely>SADD <weight-key> x",
    "SORT <source>",
    "SORT <source> DESC",
    "SORT <source> ALPHA",
    "SORT <source> ALPHA DESC LIMIT <few> <few>",
    "SORT <source> LIMIT <few> <few>",
    "SORT {t}l <sort-word> <sort-word> <sort-word>",
    "SORT <source> BY w:*",
    "SORT <source> BY h:*->f DESC",
    "SORT <source> BY h:*->f LIMIT <few> <few> GET #",
    "SORT {t}l BY w:* ALPHA",
    "SORT {t}l BY h:*->g ALPHA GET # GET h:*->g",
    "SORT {t}l BY nosort",
    "SORT {t}l BY nosort DESC LIMIT <few> <few>",
    "SORT {t}z BY nosort",
    "SORT {t}z BY nosort DESC LIMIT <few> <few>",
    "SORT {t}s BY nosort",
    "SORT <source> GET w:* GET # GET h:*->f GET h:* GET fixed",
    "SORT_RO <source> BY w:* GET w:*",
    "SORT_RO <source> STORE {t}d",
    "SORT_RO <source> ASC",
    "SORT_RO <source> ALPHA DESC LIMIT <few> <few>",
    "SORT <source> STORE {t}d",
    "SORT <source> BY w:* GET h:*->g STORE {t}d",
    "SORT {t}s BY nosort GET # STORE d",
    "LRANGE {t}d 0 -1",
    "LRANGE d 0 -1",
    "TYPE {t}d",
];

/// The words that stand for a word of these templates, if it is one of theirs.
pub(super) fn fill(word: &str, random: &mut Rng) -> Option<Vec<Vec<u8>>> {
    let text = match word {
        "<bitmap>" => return Some(vec![bitmap(random)]),
        "<longitude>" => coordinate(random, 181.0),
        "<latitude>" => coordinate(random, 85.5),
        "<many-places>" => {
            let place = |_| {
                let member = format!("m:{}", random.u16(0..300));
                [coordinate(random, 179.0), coordinate(random, 84.0), member]
            };
            let words: Vec<_> = (0..20).flat_map(place).map(String::into_bytes).collect();
            return Some(words);
        }
        "<distance>" => match random.u8(0..12) {
            0 => pick(random, &["0", "-1", "x", "1e3", "30000000"]),
            1..6 => random.u32(0..3_000).to_string(),
            _ => format!("{}", random.f64() * 12_000.0),
        },
        "<unit>" => pick(random, &["km", "km", "km", "mi", "KM", "m", "ft", "miles"]),
        "<geoadd-option>" => pick(random, &["NX", "XX", "CH", "ch"]),
        "<geo-word>" => pick(
            random,
            &[
                "FROMLONLAT",
                "1",
                "2",
                "BYRADIUS",
                "BYBOX",
                "km",
                "ASC",
                "COUNT",
                "FROMMEMBER",
                "a",
                "STORE",
            ],
        ),
        "<positive>" => random.u8(1..9).to_string(),
        "<sortable>" => match random.u8(0..200) {
            0 => pick(random, &["x", " 3", "3 ", "", "nan", "inf"]),
            1..20 => format!("{}", f64::from(random.i32(-40..40)) / 4.0),
            _ => random.i32(-15..30).to_string(),
        },
        "<source>" => pick(random, &["{t}l", "{t}s", "{t}z", "{t}l", "none", "w:1"]),
        "<weight-key>" => format!("w:{}", random.i32(-15..30)),
        "<weight-hash>" => format!("h:{}", random.i32(-15..30)),
        "<sort-word>" => pick(
            random,
            &[
                "ASC", "desc", "ALPHA", "alpha", "BY", "w:*", "GET", "#", "LIMIT", "1", "STORE",
                "{t}d", "x",
            ],
        ),
        "<element>" => format!("element:{}", random.u32(0..100_000)),
        "<many-elements>" => {
            let first = random.u32(0..100_000);
            let many = first..first + random.u32(1..120);
            return Some(many.map(|number| format!("element:{number}").into_bytes()).collect());
        }
        "<bit>" => pick(random, &["0", "1", "0", "1", "0", "1", "0", "1", "2", "x"]),
        "<bit-offset>" => match random.u8(0..20) {
            0 => pick(random, &["-1", "x", "", "4294967296", "9223372036854775808"]),
            1 => random.u32(2_000..40_000).to_string(),
            _ => random.u32(0..2_000).to_string(),
        },
        "<byte-index>" => index(random, 300),
        "<bit-index>" => index(random, 2_400),
        "<bit-unit>" => pick(random, &["BIT", "bit", "BYTE", "byte"]),
        "<bit-operation>" => pick(random, &["AND", "OR", "XOR", "and", "NOT", "NAND"]),
        "<overflow>" => pick(random, &["WRAP", "SAT", "FAIL", "sat", "fail", "none"]),
        "<field-type>" => match random.u8(0..12) {
            0 => pick(random, &["u64", "i65", "i0", "u", "8", "i-1", "x8", "I8"]),
            1..4 => pick(random, &["i64", "u63", "i8", "u8", "i1", "u1"]),
            4..8 => format!("i{}", random.u8(1..=64)),
            _ => format!("u{}", random.u8(1..=63)),
        },
        "<field-offset>" => match random.u8(0..12) {
            0 => pick(random, &["-1", "#", "#-1", "x", "#x", "4294967296"]),
            1..5 => format!("#{}", random.u8(0..30)),
            _ => random.u32(0..2_000).to_string(),
        },
        _ => return None,
    };
    Some(vec![text.into_bytes()])
}

fn pick(random: &mut Rng, list: &[&str]) -> String {
    list[random.usize(0..list.len())].into()
}

/// A position within or about a string of `len` units, from either end.
fn index(random: &mut Rng, len: i64) -> String {
    match random.u8(0..12) {
        0 => pick(random, &["9223372036854775807", "-9223372036854775808", "0", "-1"]),
        1..4 => random.i64(-10..10).to_string(),
        _ => random.i64(-len..len + 10).to_string(),
    }
}

/// Bytes in runs, most of them all ones or all zeros.
fn bitmap(random: &mut Rng) -> Vec<u8> {
    (0..random.usize(0..6))
        .flat_map(|_| {
            let byte = if random.bool() { random.u8(..) } else { [0, 0xFF][random.usize(0..2)] };
            std::iter::repeat_n(byte, random.usize(0..60))
        })
        .collect()
}

fn coordinate(random: &mut Rng, max: f64) -> String {
    match random.u8(0..60) {
        0 => pick(random, &["x", "inf", "200", "-90"]),
        _ => format!("{:.6}", (random.f64() * 2.0 - 1.0) * max),
    }
}
