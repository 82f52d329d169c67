//! Random commands. A template is a line of words; a word in angle brackets is replaced by a
//! random value of that kind, so that a command is added by adding a line.
//!
//! Deadlines lie far away or in the past: no outcome depends on when a command runs. GT and LT
//! compare only such fixed deadlines, or relative ones that get longer by far each time. DBSIZE counts
//! keys whose deadline has passed until somebody removes them, so it is not asked where such keys are.

use std::fmt;

use fastrand::Rng;

use super::{collections, entries, specials};

#[derive(Clone, Copy, Debug)]
pub(super) enum Family {
    Strings,
    Keys,
    Expiry,
    Databases,
    Malformed,
    Lists,
    Hashes,
    Sets,
    SortedSets,
    Bitmaps,
    HyperLogLogs,
    Places,
    Sorts,
    Streams,
    Transactions,
}

impl Family {
    /// Every family.
    pub(super) const ALL: [Family; 15] = [
        Family::Strings,
        Family::Keys,
        Family::Expiry,
        Family::Databases,
        Family::Malformed,
        Family::Lists,
        Family::Hashes,
        Family::Sets,
        Family::SortedSets,
        Family::Bitmaps,
        Family::HyperLogLogs,
        Family::Places,
        Family::Sorts,
        Family::Streams,
        Family::Transactions,
    ];
}

/// How two replies to a command are compared.
#[derive(Clone, Copy, Debug)]
pub(super) enum Compare {
    Exact,
    /// The order of the elements is free.
    Unordered,
    /// The reply of a SCAN that walks everything at once: a cursor, and elements in any order.
    Walk,
    /// Two positive numbers may differ by a minute's milliseconds.
    Time,
    /// Times and a few named figures are left out.
    WithoutTimes,
}

pub(super) struct Step {
    pub(super) args: Vec<Vec<u8>>,
    pub(super) compare: Compare,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, arg) in self.args.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            let shown = &arg[..arg.len().min(80)];
            write!(f, "{separator}{}", shown.escape_ascii())?;
        }
        Ok(())
    }
}

/// Keys of other kinds: what string commands say to them is compared too.
const OTHERS: &[&str] = &[
    "RPUSH <key> <short> <short>",
    "SADD <key> <short>",
    "HSET <key> <short> <value>",
    "ZADD <key> 1 <short>",
    "DEL <key>",
    "DEL <key> <key> <key>",
];

const STRINGS: &[&str] = &[
    "SET <key> <value>",
    "SET <key> <value>",
    "SET <key> <number>",
    "SET <key> <float>",
    "SET <key> <value> <set-option>",
    "SET <key> <value> <set-option> <set-option>",
    "SET <key> <value> <set-option> <set-option> <set-option>",
    "GET <key>",
    "GET <key>",
    "GETSET <key> <value>",
    "GETDEL <key>",
    "GETEX <key>",
    "GETEX <key> <expiry-option>",
    "GETEX <key> PERSIST",
    "SETNX <key> <value>",
    "SETEX <key> 5000 <value>",
    "PSETEX <key> 5000000 <value>",
    "MSET <key> <value> <key> <number> <key> <value>",
    "MSETNX <key> <value> <key> <value>",
    "MGET <key> <key> <key> <key>",
    "APPEND <key> <short>",
    "APPEND <key> <value>",
    "STRLEN <key>",
    "GETRANGE <key> <index> <index>",
    "SUBSTR <key> <index> <index>",
    "SETRANGE <key> <offset> <short>",
    "INCR <key>",
    "DECR <key>",
    "INCRBY <key> <number>",
    "DECRBY <key> <number>",
    "INCRBYFLOAT <key> <float>",
    "INCRBYFLOAT <key> <number>",
    "LCS <key> <key>",
    "LCS <key> <key> LEN",
    "LCS <key> <key> IDX",
    "LCS <key> <key> IDX MINMATCHLEN 2 WITHMATCHLEN",
    "TYPE <key>",
    "EXISTS <key> <key>",
    "OBJECT ENCODING <key>",
    "PEXPIRETIME <key>~",
    "<other>",
];

/// MULTI and WATCH are not sent inside of MULTI: since Valkey 8.1 they abort the transaction. Commands
/// that may wait are sent nowhere else: there they do not.
const TRANSACTIONS: &[&str] = &[
    "MULTI",
    "MULTI",
    "MULTI",
    "EXEC",
    "EXEC",
    "DISCARD",
    "WATCH <key>",
    "WATCH <key> <key> <key>",
    "UNWATCH",
    "SET <key> <value>",
    "SET <key> <number>",
    "SET <key> <value> XX",
    "SET <key> <value> EX 5000",
    "GET <key>",
    "INCR <key>",
    "APPEND <key> <short>",
    "MSET <key> <value> <key> <number>",
    "MSETNX <key> <value> <key> <value>",
    "MGET <key> <key> <key>",
    "DEL <key> <key>",
    "EXISTS <key> <key>",
    "RENAME <key> <key>",
    "RENAMENX <key> <key>",
    "COPY <key> <key> DB 1",
    "RPUSH <key> <short> <short>",
    "LRANGE <key> 0 -1",
    "LMOVE <key> <key> LEFT RIGHT",
    "SADD <key> <short>",
    "SUNIONSTORE <key> <key> <key>",
    "SCARD <key>",
    "PEXPIREAT <key> 1",
    "PERSIST <key>",
    "SELECT 0",
    "SELECT 1",
    "SELECT 99",
    "MOVE <key> 1",
    "SWAPDB 0 1",
    "FLUSHDB",
    "DBSIZE",
    "BLPOP <key> <key> 0",
    "BRPOP <key> 0",
    "BLMOVE <key> <key> <end> <end> 0",
    "BRPOPLPUSH <key> <key> 0",
    "BLMPOP 0 2 <key> <key> LEFT COUNT <few>",
    "BLMPOP 0 1 <key> RIGHT",
    "BZPOPMIN <key> <key> 0",
    "BZPOPMAX <key> 0",
    "BZMPOP 0 2 <key> <key> MIN COUNT <few>",
    "BZMPOP 0 1 <key> MAX",
    "ZADD <key> 1 <short> 2 <short>",
    "PING",
    "ECHO <short>",
    "ZUNION <number> <key>",
    "GET",
    "NOSUCH <number>",
];

const KEYS: &[&str] = &[
    "SET <key> <value>",
    "SET <key> <number>",
    "MSET <key> <value> <key> <value>",
    "GET <key>",
    "DEL <key>",
    "DEL <key> <key> <key>",
    "UNLINK <key> <key>",
    "EXISTS <key> <key> <key>",
    "TOUCH <key> <key>",
    "TYPE <key>",
    "RENAME <key> <key>",
    "RENAMENX <key> <key>",
    "COPY <key> <key>",
    "COPY <key> <key> REPLACE",
    "COPY <key> <key> DB 1",
    "KEYS *",
    "KEYS k*",
    "KEYS key:?",
    "KEYS *[0-3]",
    "KEYS *[^0-3]",
    "KEYS {t}*",
    "KEYS <key>",
    "DBSIZE",
    "OBJECT ENCODING <key>",
    "OBJECT FREQ <key>",
    "MGET <key> <key> <key>",
    "INCR <key>",
    "STRLEN <key>",
    "EXPIREAT <key> 100000000000",
    "PEXPIRETIME <key>~",
    "PERSIST <key>",
    "APPEND <key> <short>",
    "<other>",
    "<other>",
];

const EXPIRY: &[&str] = &[
    "SET <key> <value>",
    "SET <key> <value> KEEPTTL",
    "SET <key> <value> <expiry-option>",
    "GETEX <key> <expiry-option>",
    "GETEX <key> PERSIST",
    "GET <key>",
    "EXISTS <key> <key>",
    "EXPIRE <key> <seconds>",
    "PEXPIRE <key> <milliseconds>",
    "EXPIREAT <key> <far>",
    "PEXPIREAT <key> <far-milliseconds>",
    "EXPIRE <key> <seconds> <nx-or-xx>",
    "PEXPIRE <key> <milliseconds> <nx-or-xx>",
    "EXPIRE <key> <longer> <gt-or-lt>",
    "PEXPIRE <key> <longer>000 <gt-or-lt>",
    "EXPIREAT <key> <far> <condition>",
    "PEXPIREAT <key> <far-milliseconds> <condition>",
    "EXPIREAT <key> <far> <condition> <condition>",
    "EXPIREAT <key> 1",
    "PEXPIREAT <key> 1",
    "EXPIRE <key> -1",
    "EXPIREAT <key> <number>",
    "EXPIRE <key> <number>x",
    "PERSIST <key>",
    "TTL <key>~",
    "PTTL <key>~",
    "EXPIRETIME <key>~",
    "PEXPIRETIME <key>~",
    "TYPE <key>",
    "RENAME <key> <key>",
    "COPY <key> <key> REPLACE",
    "INCR <key>",
    "APPEND <key> <short>",
    "SETRANGE <key> <offset> <short>",
    "GETSET <key> <value>",
    "MSET <key> <value> <key> 1",
    "GETDEL <key>",
    "KEYS *",
    "<other>",
];

const DATABASES: &[&str] = &[
    "SELECT <database>",
    "SELECT <database>",
    "SET <key> <value>",
    "SET <key> <value>",
    "GET <key>",
    "GET <key>",
    "DEL <key> <key>",
    "MOVE <key> <database>",
    "MOVE <key> <database>",
    "COPY <key> <key> DB <database>",
    "COPY <key> <key> DB <database> REPLACE",
    "SWAPDB <database> <database>",
    "DBSIZE",
    "DBSIZE",
    "KEYS *",
    "EXISTS <key> <key>",
    "EXPIREAT <key> 100000000000",
    "PEXPIRETIME <key>~",
    "RENAME <key> <key>",
    "MSET <key> 1 <key> 2",
    "MGET <key> <key> <key>",
    "TYPE <key>",
    "<rarely>FLUSHDB",
    "<rarely>FLUSHALL",
    "<other>",
];

/// Commands whose words are then cut, repeated or replaced.
const MALFORMED: &[&str] = &[
    "SET <key> <value> EX 100 NX",
    "GET <key>",
    "GETEX <key> EX 100",
    "MSET <key> 1 <key> 2",
    "MGET <key> <key>",
    "SETRANGE <key> 1 x",
    "GETRANGE <key> 0 -1",
    "INCRBY <key> 1",
    "INCRBYFLOAT <key> 1",
    "APPEND <key> x",
    "LCS <key> <key> IDX",
    "EXPIRE <key> 1000 NX",
    "PEXPIREAT <key> 100000000000000 XX GT",
    "COPY <key> <key> DB 1 REPLACE",
    "MOVE <key> 1",
    "RENAME <key> <key>",
    "SELECT 0",
    "SWAPDB 0 1",
    "OBJECT ENCODING <key>",
    "ECHO x",
    "PING x",
    "TYPE <key>",
    "DEL <key>",
    "PERSIST <key>",
    "TTL <key>~",
    "SETEX <key> 1000 x",
    "DECRBY <key> 3",
    "PSETEX <key> 100000 x",
    "MSETNX <key> 1 <key> 2",
    "SETNX <key> 1",
    "EXISTS <key>",
    "GETDEL <key>",
];

impl Family {
    fn templates(self) -> &'static [&'static str] {
        match self {
            Family::Strings => STRINGS,
            Family::Keys => KEYS,
            Family::Expiry => EXPIRY,
            Family::Databases => DATABASES,
            Family::Malformed => MALFORMED,
            Family::Lists => collections::LISTS,
            Family::Hashes => collections::HASHES,
            Family::Sets => collections::SETS,
            Family::SortedSets => collections::SORTED_SETS,
            Family::Bitmaps => specials::BITMAPS,
            Family::HyperLogLogs => specials::HYPERLOGLOGS,
            Family::Places => specials::GEO,
            Family::Sorts => specials::SORTS,
            Family::Streams => entries::STREAMS,
            Family::Transactions => TRANSACTIONS,
        }
    }
}

/// The endless stream of one seed.
pub(super) struct Stream {
    family: Family,
    random: Rng,
    /// Numbers the entries of streams.
    entries: u64,
    /// The last relative deadline of those that get longer, in seconds.
    longer: u64,
    is_in_multi: bool,
}

impl Stream {
    pub(super) fn new(family: Family, seed: u64) -> Self {
        Stream {
            family,
            random: Rng::with_seed(seed),
            entries: 400,
            longer: 10_000_000,
            is_in_multi: false,
        }
    }

    fn step(&mut self) -> Step {
        let mut template = self.pick(self.family.templates());
        if let Some(rare) = template.strip_prefix("<rarely>") {
            template = if self.random.u8(0..20) == 0 { rare } else { "DBSIZE" };
        }
        if template == "<other>" {
            template = self.pick(OTHERS);
        }
        if matches!(self.family, Family::Transactions) {
            template = self.in_or_out_of_multi(template);
        }
        let compare = match template {
            _ if template.ends_with('~') => Compare::Time,
            _ if entries::tells_times(template) => Compare::WithoutTimes,
            _ if is_unordered(template) => Compare::Unordered,
            _ if is_walk(template) => Compare::Walk,
            _ => Compare::Exact,
        };
        let words = template.trim_end_matches('~').split(' ');
        let mut args: Vec<_> = words.flat_map(|word| self.fill(word)).collect();
        if matches!(self.family, Family::Malformed) {
            self.spoil(&mut args);
        }
        Step { args, compare }
    }

    /// Follows MULTI and EXEC; what is not to be sent inside of MULTI ends it instead.
    fn in_or_out_of_multi<'a>(&mut self, template: &'a str) -> &'a str {
        let begins = template == "MULTI";
        let ends = self.is_in_multi && (begins || template.starts_with("WATCH"));
        let waits = !self.is_in_multi && template.starts_with('B');
        let template = match (ends, waits) {
            (true, _) => "EXEC",
            (_, true) => "MULTI",
            _ => template,
        };
        let begins = begins || waits;
        self.is_in_multi = match template {
            "EXEC" | "DISCARD" => false,
            _ => self.is_in_multi || begins,
        };
        template
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.random.usize(0..list.len())]
    }

    /// The words that stand for a word of a template.
    fn fill(&mut self, word: &str) -> Vec<Vec<u8>> {
        if let Some(words) = collections::fill(word, &mut self.random) {
            return words;
        }
        if let Some(words) = entries::fill(word, &mut self.random, &mut self.entries) {
            return words;
        }
        if let Some(words) = specials::fill(word, &mut self.random) {
            return words;
        }
        let text = match word {
            "<key>" => self.key(),
            "<value>" => return vec![self.value()],
            "<short>" => self.pick(&["a", "b", "", "42", "\r\n", "yz", "-1"]).into(),
            "<number>" => self.number(),
            "<float>" => self.float(),
            "<index>" => self.random.i32(-25..25).to_string(),
            "<offset>" => self.random.u32(0..80).to_string(),
            "<database>" => self.random.u8(0..5).to_string(),
            "<seconds>" => (1_000 * self.random.u32(1..5)).to_string(),
            "<milliseconds>" => (1_000_000 * self.random.u32(1..5)).to_string(),
            "<far>" => (100_000_000_000 + self.random.u64(0..5)).to_string(),
            "<far-milliseconds>" => (100_000_000_000_000 + self.random.u64(0..5_000)).to_string(),
            "<condition>" => self.pick(&["NX", "XX", "GT", "LT", "gt", "lt"]).into(),
            "<gt-or-lt>" => self.pick(&["GT", "LT", "gt", "Lt"]).into(),
            "<longer>" => self.longer().to_string(),
            "<longer>000" => format!("{}000", self.longer()),
            "<nx-or-xx>" => self.pick(&["NX", "XX", "nx"]).into(),
            "<expiry-option>" => return self.expiry_option(),
            "<set-option>" => return self.set_option(),
            "<number>x" => format!("{}x", self.number()),
            plain => plain.into(),
        };
        vec![text.into_bytes()]
    }

    /// Few keys, so that commands meet; some share a slot by their tag. Redis cuts error texts at a
    /// zero byte, so there is none where words land in such texts.
    fn key(&mut self) -> String {
        match self.random.u8(0..20) {
            0..12 => format!("key:{}", self.random.u8(0..10)),
            12..18 => format!("{{t}}{}", self.random.u8(0..4)),
            18 => String::new(),
            _ if matches!(self.family, Family::Malformed) => "k\r\n\u{ff}".into(),
            _ => "a rather long key, with any bytes \r\n\0\u{ff}".into(),
        }
    }

    fn value(&mut self) -> Vec<u8> {
        let length = match self.random.u8(0..12) {
            0..4 => return self.pick(&["", "value", "other", " 1", "1 ", "0x1", "nan"]).into(),
            4 => return self.number().into_bytes(),
            5 => return self.float().into_bytes(),
            6 => self.random.usize(40..50),
            7 => self.random.usize(60..70),
            8 => self.random.usize(250..260),
            9 => self.random.usize(4_000..5_000),
            _ => self.random.usize(0..20),
        };
        (0..length).map(|_| self.random.u8(b'a'..=b'd')).collect()
    }

    fn number(&mut self) -> String {
        match self.random.u8(0..10) {
            0..5 => self.random.i64(-100..100).to_string(),
            5..7 => self.random.i64(..).to_string(),
            7 => (i64::MAX - self.random.i64(0..3)).to_string(),
            8 => (i64::MIN + self.random.i64(0..3)).to_string(),
            _ => {
                self.pick(&["007", "+1", "-0", "", " 5", "5 ", "1e3", "9223372036854775808"]).into()
            }
        }
    }

    /// A number that, taken for a time to live, does not end during the test.
    fn timeless_number(&mut self) -> String {
        let text = self.number();
        match text.parse::<i64>() {
            Ok(number @ 1..1_000_000_000) => (-number).to_string(),
            _ => text,
        }
    }

    /// A relative deadline in seconds, longer by far than any before, and shorter than fixed ones.
    fn longer(&mut self) -> u64 {
        self.longer += 1_000;
        self.longer
    }

    fn float(&mut self) -> String {
        match self.random.u8(0..8) {
            0..3 => format!("{}", f64::from(self.random.i32(-4_000..4_000)) / 8.0),
            3 => format!("{}", f64::from(self.random.i32(-400..400)) / 10.0),
            4 => self.random.i32(-9..9).to_string(),
            5 => format!("{}e{}", self.random.i32(-99..99), self.random.i32(-3..12)),
            _ => self
                .pick(&["0.1", "-0", "1e-5", ".5", "5.", "inf", "-inf", "nan", "x", "0x10"])
                .into(),
        }
    }

    fn expiry_option(&mut self) -> Vec<Vec<u8>> {
        let (name, value) = match self.random.u8(0..8) {
            0 => ("EX", "<seconds>"),
            1 => ("PX", "<milliseconds>"),
            2..4 => ("EXAT", "<far>"),
            4..6 => ("PXAT", "<far-milliseconds>"),
            6 => ("PXAT", "1"),
            _ => ("EX", "<number>x"),
        };
        [vec![name.into()], self.fill(value)].concat()
    }

    fn set_option(&mut self) -> Vec<Vec<u8>> {
        match self.random.u8(0..6) {
            0 => self.expiry_option(),
            1 => vec!["KEEPTTL".into()],
            2 => vec!["NX".into()],
            3 => vec!["xx".into()],
            _ => vec!["GET".into()],
        }
    }

    /// Cuts, repeats or replaces words, most times just one.
    fn spoil(&mut self, args: &mut Vec<Vec<u8>>) {
        for _ in 0..self.random.usize(0..3) {
            let at = self.random.usize(1..args.len().max(2)).min(args.len());
            match self.random.u8(0..4) {
                0 if at < args.len() => drop(args.remove(at)),
                1 => args.insert(at, self.pick(&["", "value", " 1", "nan"]).into()),
                2 if at < args.len() => args[at] = self.timeless_number().into_bytes(),
                _ => {
                    let word = self.pick(&["NX", "EX", "GET", "DB", "IDX", "LEN", "0", "x", ""]);
                    args.insert(at, word.into());
                }
            }
        }
    }
}

/// Whether the template is a walk over all keys or members in one call.
fn is_walk(template: &str) -> bool {
    template.split(' ').next().is_some_and(|name| name.ends_with("SCAN"))
}

/// Whether the reply to the template's command has no order.
fn is_unordered(template: &str) -> bool {
    let name = template.split(' ').next().unwrap_or_default();
    let is_search = name.starts_with("GEOSEARCH") || name.starts_with("GEORADIUS");
    let is_sorted = template.contains(" ASC") || template.contains(" DESC");
    collections::UNORDERED.contains(&name)
        || (is_search && !is_sorted)
        || template == "SORT {t}s BY nosort"
}

impl Iterator for Stream {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        Some(self.step())
    }
}

#[test]
fn a_seed_replays_its_stream() {
    let show =
        |seed| format!("{:?}", Stream::new(Family::Strings, seed).take(500).collect::<Vec<_>>());
    assert_eq!(show(1), show(1));
    assert_ne!(show(1), show(2));
}
