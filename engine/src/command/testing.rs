//! Runs command lines on a shard, for the tests of the families.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use tessera_proto::{Args, Protocol, ReplyBuffer, ReplyWriter, Span};

use super::{CommandError, Effect, table};
use crate::shard::{Call, Caller, Settings, Shard};

/// The time at which a bench starts, in milliseconds since the Unix epoch.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

/// A shard with a client, and a clock that the test moves.
pub(crate) struct Bench {
    pub(crate) shard: Shard,
    pub(crate) database: u32,
    pub(crate) protocol: Protocol,
    now_ms: i64,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let mut shard = Shard::new(7, settings);
        shard.advance_clock_us(START_MS * 1_000);
        Self { shard, database: 0, protocol: Protocol::Resp2, now_ms: START_MS }
    }

    /// Lets `ms` milliseconds pass.
    pub(crate) fn pass_ms(&mut self, ms: i64) {
        self.now_ms += ms;
        self.shard.advance_clock_us(self.now_ms * 1_000);
    }

    /// Runs a command line, whose words are separated by single blanks, and answers its reply in a
    /// readable form (see [`Reply`]).
    pub(crate) fn run(&mut self, line: &str) -> String {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.call(&words)
    }

    /// Runs a command.
    pub(crate) fn call(&mut self, words: &[&[u8]]) -> String {
        self.effect(words).0
    }

    /// Runs a command; answers its reply and what it did.
    pub(crate) fn effect(&mut self, words: &[&[u8]]) -> (String, Result<Effect, CommandError>) {
        let (bytes, spans) = lay_out(words);
        let mut out = ReplyBuffer::new();
        let result = self.execute(Args::new(&bytes, &spans), &mut out);
        (render(&out.to_vec()), result)
    }

    /// Runs a command on arguments that lie where the test wants them.
    pub(crate) fn execute(
        &mut self,
        args: Args<'_>,
        out: &mut ReplyBuffer,
    ) -> Result<Effect, CommandError> {
        let command = match table().resolve(&args) {
            Ok(command) => command,
            Err(error) => {
                ReplyWriter::new(out, self.protocol).error(&error.to_string());
                return Err(error);
            }
        };
        let Self { database, protocol, .. } = *self;
        let call =
            Call { command, args, database, protocol, no_touch: false, caller: Caller::default() };
        self.shard.execute(&call, out)
    }

    /// Everything that the shard holds: for every database and key the value, in a form that does
    /// not depend on how it is kept, and the deadline.
    pub(crate) fn contents(&mut self) -> BTreeMap<(u32, Vec<u8>), (String, String)> {
        let (selected, mut contents) = (self.database, BTreeMap::new());
        for database in 0..self.shard.settings().databases as u32 {
            self.database = database;
            self.shard.keyspace.select(database as usize, true);
            let mut keys = Vec::new();
            self.shard.keyspace.for_each(|entry| keys.push(entry.key().to_vec()));
            for key in keys {
                let value = self.value_of(&key);
                let deadline = self.call(&[b"PEXPIRETIME", &key]);
                contents.insert((database, key), (value, deadline));
            }
        }
        self.database = selected;
        contents
    }

    fn value_of(&mut self, key: &[u8]) -> String {
        let kind = self.call(&[b"TYPE", key]);
        let (value, group) = match kind.as_str() {
            "string" => (self.call(&[b"GET", key]), 0),
            "list" => (self.call(&[b"LRANGE", key, b"0", b"-1"]), 0),
            "set" => (self.call(&[b"SMEMBERS", key]), 1),
            "hash" => (self.call(&[b"HGETALL", key]), 2),
            "zset" => (self.call(&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"]), 0),
            "stream" => {
                let shown = self.call(&[b"XINFO", b"STREAM", key, b"FULL", b"COUNT", b"0"]);
                (without_times(&shown), 0)
            }
            other => panic!("say here how a {other} is shown"),
        };
        if group == 0 {
            return value;
        }
        // The order of members and fields says nothing.
        let words: Vec<&str> = value.trim_matches(['[', ']']).split(' ').collect();
        let mut parts: Vec<String> = words.chunks(group).map(|part| part.join(" ")).collect();
        if kind == "hash" {
            for part in &mut parts {
                let field = part.split(' ').next().unwrap_or_default().trim_matches('"').to_owned();
                let words = [b"HPEXPIRETIME", key, b"FIELDS", b"1", field.as_bytes()];
                part.push_str(&self.call(&words));
            }
        }
        parts.sort();
        format!("{kind} {parts:?}")
    }

    /// Runs command lines and compares the replies.
    pub(crate) fn expect(&mut self, exchanges: &[(&str, &str)]) {
        for (line, reply) in exchanges {
            assert_eq!(self.run(line), *reply, "reply to {line}");
        }
    }
}

/// What XINFO STREAM shows, without when consumers were seen, which no record says.
fn without_times(shown: &str) -> String {
    let mut words = shown.split(' ');
    let mut kept = String::new();
    while let Some(word) = words.next() {
        if word.contains("seen-time") || word.contains("active-time") {
            words.next();
        } else {
            kept.push_str(word);
            kept.push(' ');
        }
    }
    kept
}

pub(crate) fn lay_out(words: &[&[u8]]) -> (Vec<u8>, Vec<Span>) {
    let mut bytes = Vec::new();
    let spans = words.iter().map(|word| {
        let start = bytes.len() as u32;
        bytes.extend_from_slice(word);
        Span { start, len: word.len() as u32 }
    });
    let spans = spans.collect();
    (bytes, spans)
}

/// A reply on one line: `OK` and other statuses as they are, `-ERR …`, `:1`, `"text"`, `nil`,
/// `[a b]` for arrays, `{a b}` for maps.
fn render(reply: &[u8]) -> String {
    let mut rest = reply;
    let text = render_one(&mut rest);
    assert!(rest.is_empty(), "more than one reply: {}", reply.escape_ascii());
    text
}

fn render_one(rest: &mut &[u8]) -> String {
    let end = rest.windows(2).position(|pair| pair == b"\r\n").expect("a whole line");
    let (kind, line) = (rest[0], String::from_utf8_lossy(&rest[1..end]).into_owned());
    *rest = &rest[end + 2..];
    let mut many = |open: &str, len: usize, close: &str| {
        let parts: Vec<String> = (0..len).map(|_| render_one(rest)).collect();
        format!("{open}{}{close}", parts.join(" "))
    };
    match kind {
        b'+' => line,
        b'-' | b':' => format!("{}{line}", kind as char),
        b'_' => "nil".into(),
        b'$' | b'*' if line == "-1" => "nil".into(),
        b'*' => many("[", line.parse().expect("a length"), "]"),
        b'%' => many("{", 2 * line.parse::<usize>().expect("a length"), "}"),
        b'$' => {
            let len: usize = line.parse().expect("a length");
            let text = format!("\"{}\"", rest[..len].escape_ascii());
            assert_eq!(&rest[len..len + 2], b"\r\n");
            *rest = &rest[len + 2..];
            text
        }
        _ => panic!("a reply of unknown kind: {}", kind as char),
    }
}
