//! Joins the parts of a command that went to several shards into the one reply that Redis gives.
//!
//! Parts arrive in any order and are kept by number; the last one to arrive finishes the reply.
//! If any part is an error, the reply is the error of the lowest-numbered part that has one.
#![forbid(unsafe_code)]

use std::sync::Arc;

use tessera_engine::command::Command;
use tessera_proto::{Protocol, ReplyBuffer, ReplyWriter, parse_i64};

use crate::metrics::WorkerMetrics;

/// How parts become a reply.
pub enum Merge {
    /// Integers are added up.
    Sum,
    /// Every part is OK.
    AllOk,
    /// Every part is an array of one element; the elements in the order of the parts.
    Elements,
    /// Every part is an array of any length; the arrays one behind the other.
    Join,
    /// One part: a cursor of shard `shard` and an array. The cursor is made the server's.
    Cursor {
        /// The shard that answers.
        shard: u32,
        /// Number of shards.
        shards: u32,
    },
    /// Parts in pairs, a number of keys and a random key, for every shard. `draw` chooses among
    /// the keys with the weight of their shard's number.
    Random {
        /// A random 64-bit number.
        draw: u64,
    },
    /// The server's own way, for commands that ask every worker.
    Custom(Finish),
}

/// Writes the reply of a command whose parts are all there.
pub type Finish = Box<dyn FnOnce(&[ReplyBuffer], &mut ReplyWriter<'_>) + Send>;

/// A command over several shards that waits for its parts.
pub struct Gather {
    merge: Merge,
    protocol: Protocol,
    parts: Vec<ReplyBuffer>,
    missing: usize,
    count: Option<Count>,
}

/// A call that is counted once its reply is written, so that what the reply shows of the counters
/// is what was before it, and CONFIG RESETSTAT is itself the first call after the reset.
pub struct Count {
    /// The counters of the connection's worker.
    pub metrics: Arc<WorkerMetrics>,
    /// The command that was called.
    pub command: &'static Command,
    /// How long it took its worker to begin with it.
    pub nanos: u64,
}

impl Gather {
    /// Waits for `parts` parts.
    pub fn new(merge: Merge, protocol: Protocol, parts: usize) -> Self {
        let parts: Vec<_> = (0..parts).map(|_| ReplyBuffer::default()).collect();
        Self { merge, protocol, missing: parts.len(), parts, count: None }
    }

    /// The same for a call that is not counted yet.
    pub fn counted(self, count: Count) -> Self {
        Self { count: Some(count), ..self }
    }

    /// Where the reply of part `part` is to be written.
    pub fn part_mut(&mut self, part: u32) -> &mut ReplyBuffer {
        &mut self.parts[part as usize]
    }

    /// Counts one part as arrived; answers whether it was the last.
    pub fn arrived(&mut self) -> bool {
        self.missing -= 1;
        self.missing == 0
    }

    /// Appends the reply to `out`.
    pub fn finish(mut self, out: &mut ReplyBuffer) {
        let count = self.count.take();
        self.merge_into(out);
        if let Some(Count { metrics, command, nanos }) = count {
            metrics.executed(command, nanos, None);
        }
    }

    fn merge_into(self, out: &mut ReplyBuffer) {
        let mut reply = ReplyWriter::new(out, self.protocol);
        if let Merge::Custom(finish) = self.merge {
            return finish(&self.parts, &mut reply);
        }
        if let Some(error) = self.parts.iter().find(|part| head(part).first() == Some(&b'-')) {
            return out.append(error);
        }
        match self.merge {
            Merge::Sum => reply.integer(self.parts.iter().filter_map(integer).sum()),
            Merge::AllOk => reply.simple("OK"),
            Merge::Elements => {
                reply.array(self.parts.len());
                join(&self.parts, out);
            }
            Merge::Join => {
                reply.array(self.parts.iter().filter_map(integer).sum::<i64>() as usize);
                join(&self.parts, out);
            }
            Merge::Cursor { shard, shards } => {
                cursor(&self.parts[0], shard, shards, out, self.protocol)
            }
            Merge::Random { draw } => match random(&self.parts, draw) {
                Some(part) => out.append(part),
                None => reply.null(),
            },
            Merge::Custom(_) => unreachable!("handled above"),
        }
    }
}

/// The first bytes of a reply: at least its first line, unless the reply is empty.
fn head(part: &ReplyBuffer) -> &[u8] {
    part.chunks().next().unwrap_or_default()
}

/// The length of a reply's first line, its CRLF included.
fn first_line(part: &ReplyBuffer) -> usize {
    head(part).iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1)
}

/// The number on a reply's first line: an integer's value, an aggregate's or a bulk's length.
fn integer(part: &ReplyBuffer) -> Option<i64> {
    let line = head(part).get(1..first_line(part).checked_sub(2)?)?;
    parse_i64(line)
}

fn join(parts: &[ReplyBuffer], out: &mut ReplyBuffer) {
    for part in parts {
        out.append_tail(part, first_line(part));
    }
}

/// The server's cursor for the `internal` cursor of `shard`: 0 once the last shard is done.
fn outer_cursor(internal: u64, shard: u32, shards: u32) -> u64 {
    match internal {
        0 if shard + 1 == shards => 0,
        0 => u64::from(shard) + 1,
        _ => internal * u64::from(shards) + u64::from(shard),
    }
}

/// The shard and its own cursor behind the server's cursor, over `shards` shards.
pub fn inner_cursor(outer: u64, shards: u32) -> (u32, u64) {
    ((outer % u64::from(shards)) as u32, outer / u64::from(shards))
}

/// `*2`, the cursor as a bulk string, and the rest as it is.
fn cursor(part: &ReplyBuffer, shard: u32, shards: u32, out: &mut ReplyBuffer, protocol: Protocol) {
    let bytes = head(part);
    let length_line = first_line(part);
    let digits_at = bytes[length_line..]
        .iter()
        .position(|&byte| byte == b'\n')
        .map_or(bytes.len(), |at| length_line + at + 1);
    let digits: &[u8] = bytes[digits_at..].split(|&byte| byte == b'\r').next().unwrap_or_default();
    let internal = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let rest = digits_at + digits.len() + 2;
    let mut reply = ReplyWriter::new(out, protocol);
    reply.array(2);
    reply.bulk(outer_cursor(internal, shard, shards).to_string().as_bytes());
    out.append_tail(part, rest);
}

fn random(parts: &[ReplyBuffer], draw: u64) -> Option<&ReplyBuffer> {
    let candidates: Vec<(u64, &ReplyBuffer)> = parts
        .chunks_exact(2)
        .filter(|pair| head(&pair[1]).first() == Some(&b'$') && !head(&pair[1]).starts_with(b"$-1"))
        .map(|pair| (integer(&pair[0]).unwrap_or(0).max(1) as u64, &pair[1]))
        .collect();
    let total: u64 = candidates.iter().map(|(weight, _)| weight).sum();
    let mut left = draw.checked_rem(total)?;
    for (weight, key) in candidates {
        if left < weight {
            return Some(key);
        }
        left -= weight;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn merged(merge: Merge, parts: &[&str]) -> String {
        let mut gather = Gather::new(merge, Protocol::Resp2, parts.len());
        for (number, part) in parts.iter().enumerate().rev() {
            ReplyWriter::new(gather.part_mut(number as u32), Protocol::Resp2).raw(part.as_bytes());
            assert_eq!(gather.arrived(), number == 0);
        }
        let mut out = ReplyBuffer::default();
        gather.finish(&mut out);
        String::from_utf8(out.chunks().flatten().copied().collect()).unwrap()
    }

    #[test]
    fn integers_are_added_up() {
        assert_eq!(merged(Merge::Sum, &[":2\r\n", ":0\r\n", ":40\r\n"]), ":42\r\n");
    }

    #[test]
    fn a_call_is_counted_after_its_reply() {
        let commands = tessera_engine::command::table();
        let all = Arc::new(Metrics::new(1, commands.count()));
        let command = commands.find(b"info").unwrap();
        let calls = move |all: &Metrics| all.snapshot().commands[usize::from(command.id)].calls;
        let seen = Arc::clone(&all);
        let finish = move |_: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| {
            reply.integer(calls(&seen) as i64);
        };
        let count = Count { metrics: all.worker(0), command, nanos: 5 };
        let mut out = ReplyBuffer::default();
        let gather = Gather::new(Merge::Custom(Box::new(finish)), Protocol::Resp2, 1);
        gather.counted(count).finish(&mut out);
        assert_eq!((out.to_vec().as_slice(), calls(&all)), (&b":0\r\n"[..], 1));
    }

    #[test]
    fn elements_keep_the_order_of_the_parts() {
        let parts = ["*1\r\n$1\r\na\r\n", "*1\r\n$-1\r\n", "*1\r\n$1\r\nc\r\n"];
        assert_eq!(merged(Merge::Elements, &parts), "*3\r\n$1\r\na\r\n$-1\r\n$1\r\nc\r\n");
    }

    #[test]
    fn arrays_are_joined() {
        let parts = ["*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*0\r\n", "*1\r\n$1\r\nc\r\n"];
        assert_eq!(merged(Merge::Join, &parts), "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n");
    }

    #[test]
    fn the_first_error_is_the_reply() {
        let parts = [":1\r\n", "-OOM no\r\n", "-ERR later\r\n"];
        assert_eq!(merged(Merge::Sum, &parts), "-OOM no\r\n");
    }

    #[test]
    fn a_cursor_leads_through_all_shards_and_back() {
        let reply = |shard, internal: u64| {
            let text = internal.to_string();
            let part = format!("*2\r\n${}\r\n{text}\r\n*0\r\n", text.len());
            merged(Merge::Cursor { shard, shards: 3 }, &[&part])
        };
        assert_eq!(reply(0, 0), "*2\r\n$1\r\n1\r\n*0\r\n");
        assert_eq!(reply(1, 7), "*2\r\n$2\r\n22\r\n*0\r\n");
        assert_eq!(inner_cursor(22, 3), (1, 7));
        assert_eq!(reply(2, 0), "*2\r\n$1\r\n0\r\n*0\r\n");
    }

    #[test]
    fn a_random_key_comes_from_shards_by_their_weight() {
        let parts = [":3\r\n", "$1\r\na\r\n", ":0\r\n", "$-1\r\n", ":1\r\n", "$1\r\nb\r\n"];
        let key = |draw| merged(Merge::Random { draw }, &parts);
        assert_eq!((key(2), key(3)), ("$1\r\na\r\n".into(), "$1\r\nb\r\n".into()));
        assert_eq!(merged(Merge::Random { draw: 5 }, &[":0\r\n", "$-1\r\n"]), "$-1\r\n");
    }
}
