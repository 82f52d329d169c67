//! Templates of the commands on bitmaps and HyperLogLogs, and the words in them.
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

/// The words that stand for a word of these templates, if it is one of theirs.
pub(super) fn fill(word: &str, random: &mut Rng) -> Option<Vec<Vec<u8>>> {
    let text = match word {
        "<bitmap>" => return Some(vec![bitmap(random)]),
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
