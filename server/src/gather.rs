//! Waits for the parts of a command that went to several workers; the last one to arrive finishes
//! the reply.
//!
//! Parts arrive in any order and are kept by number. How those of a command over keys become one
//! reply is the engine's matter ([`tessera_engine::transaction::merge`]); commands that ask every
//! worker have ways of their own.
#![forbid(unsafe_code)]

use tessera_engine::{
    command::{Command, CommandError},
    transaction::merge,
};
use tessera_proto::{Protocol, ReplyBuffer, ReplyWriter, RequestBatch};

/// How parts become a reply.
pub enum Merge {
    /// Every part is OK.
    AllOk,
    /// The parts are those of one of the engine's commands.
    Parts(merge::Merge),
    /// The server's own way, for commands that ask every worker.
    Custom(Finish),
}

impl Merge {
    /// Appends the reply that `parts` make together to `out`.
    pub fn finish(self, parts: &[ReplyBuffer], protocol: Protocol, out: &mut ReplyBuffer) {
        match self {
            Self::AllOk => merge::Merge::AllOk.finish(parts, protocol, out),
            Self::Parts(merge) => merge.finish(parts, protocol, out),
            Self::Custom(finish) => finish(parts, &mut ReplyWriter::new(out, protocol)),
        }
    }
}

/// Writes the reply of a command whose parts are all there.
pub type Finish = Box<dyn FnOnce(&[ReplyBuffer], &mut ReplyWriter<'_>) + Send>;

/// A command over several shards that waits for its parts.
pub struct Gather {
    merge: Merge,
    protocol: Protocol,
    parts: Vec<ReplyBuffer>,
    missing: usize,
    /// The shard of each part that has not come, where that matters for the order of pushes.
    awaited: Vec<Option<u32>>,
    count: Option<Count>,
    /// The reply tells nothing that may be lost, whatever is said of its parts.
    is_ungated: bool,
    /// A part has come that may tell such things.
    has_gated_part: bool,
}

/// A call that is counted once its reply is written, so that what the reply shows of the counters
/// is what was before it, and CONFIG RESETSTAT is itself the first call after the reset.
pub struct Count {
    /// The command that was called.
    pub command: &'static Command,
    /// How long its execution took, all parts together and without what they waited for.
    pub nanos: u64,
    /// Its arguments as the slow log shows them, if it is to be noted there.
    pub shown: Option<RequestBatch>,
    /// What it was answered, if that is an error.
    pub error: Option<CommandError>,
}

impl Count {
    /// A call that its worker took `nanos` to begin with.
    pub fn begun(command: &'static Command, nanos: u64) -> Self {
        Self { command, nanos, shown: None, error: None }
    }
}

impl Gather {
    /// Waits for `parts` parts.
    pub fn new(merge: Merge, protocol: Protocol, parts: usize) -> Self {
        let parts: Vec<_> = (0..parts).map(|_| ReplyBuffer::default()).collect();
        Self {
            merge,
            protocol,
            missing: parts.len(),
            parts,
            awaited: Vec::new(),
            count: None,
            is_ungated: false,
            has_gated_part: false,
        }
    }

    /// The same for a reply that need not wait at the gate, if `is_ungated`.
    pub fn ungated(self, is_ungated: bool) -> Self {
        Self { is_ungated, ..self }
    }

    /// Whether the reply, all parts of which are there, need not wait at the gate.
    pub fn is_ungated(&self) -> bool {
        self.is_ungated || !self.has_gated_part
    }

    /// The same with the shards of the parts, in their order: pushes of a shard stand before the reply
    /// until its part has come.
    pub fn from_shards(self, shards: impl IntoIterator<Item = u32>) -> Self {
        Self { awaited: shards.into_iter().map(Some).collect(), ..self }
    }

    /// Whether a part of `shard` is still to come.
    pub fn waits_for(&self, shard: u32) -> bool {
        self.awaited.contains(&Some(shard))
    }

    /// The same for a call that is not counted yet.
    pub fn counted(self, count: Count) -> Self {
        Self { count: Some(count), ..self }
    }

    /// Where the reply of part `part` is to be written.
    pub fn part_mut(&mut self, part: u32) -> &mut ReplyBuffer {
        if let Some(awaited) = self.awaited.get_mut(part as usize) {
            *awaited = None;
        }
        &mut self.parts[part as usize]
    }

    /// Counts one part as arrived that took `nanos` to execute, and which `is_ungated` or may have to
    /// wait at the gate; answers whether it was the last.
    pub fn arrived(&mut self, nanos: u64, is_ungated: bool) -> bool {
        if let Some(count) = &mut self.count {
            count.nanos += nanos;
        }
        self.has_gated_part |= !is_ungated;
        self.missing -= 1;
        self.missing == 0
    }

    /// Writes the reply to `out`, which is empty; answers what is to be counted now.
    pub fn finish(self, out: &mut ReplyBuffer) -> Option<Count> {
        self.merge.finish(&self.parts, self.protocol, out);
        self.count.map(|count| Count { error: error_of(out), ..count })
    }
}

/// The error that a reply is, if it is one.
fn error_of(reply: &ReplyBuffer) -> Option<CommandError> {
    let is_error = reply.chunks().find(|chunk| !chunk.is_empty())?.first() == Some(&b'-');
    is_error.then(|| {
        let text = String::from_utf8_lossy(&reply.to_vec()).into_owned();
        CommandError::text(text.trim_start_matches('-').trim_end().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(merge: Merge, parts: &[&str]) -> String {
        let mut gather = Gather::new(merge, Protocol::Resp2, parts.len());
        for (number, part) in parts.iter().enumerate().rev() {
            ReplyWriter::new(gather.part_mut(number as u32), Protocol::Resp2).raw(part.as_bytes());
            assert_eq!(gather.arrived(0, false), number == 0);
        }
        let mut out = ReplyBuffer::default();
        gather.finish(&mut out);
        String::from_utf8(out.chunks().flatten().copied().collect()).unwrap()
    }

    #[test]
    fn parts_come_in_any_order() {
        let merge = || Merge::Parts(merge::Merge::Sum);
        assert_eq!(merged(merge(), &[":2\r\n", ":0\r\n", ":40\r\n"]), ":42\r\n");
        assert_eq!(merged(Merge::AllOk, &["+OK\r\n", "+OK\r\n"]), "+OK\r\n");
        assert_eq!(merged(Merge::AllOk, &["+OK\r\n", "-ERR no\r\n"]), "-ERR no\r\n");
    }

    #[test]
    fn a_call_is_counted_once_with_the_time_of_all_parts() {
        let command = tessera_engine::command::table().find(b"del").expect("a command");
        let merge = || Merge::Parts(merge::Merge::Sum);
        let gather = || Gather::new(merge(), Protocol::Resp2, 2).counted(Count::begun(command, 5));
        let counted = |parts: [&str; 2]| {
            let mut gather = gather();
            for (number, part) in (0..).zip(parts) {
                let out = gather.part_mut(number);
                ReplyWriter::new(out, Protocol::Resp2).raw(part.as_bytes());
                gather.arrived(10, true);
            }
            gather.finish(&mut ReplyBuffer::default()).expect("it is counted")
        };
        let well = counted([":1\r\n", ":2\r\n"]);
        assert_eq!((well.command.name, well.nanos, well.error.is_none()), ("del", 25, true));
        let failed = counted([":1\r\n", "-ERR no\r\n"]);
        assert_eq!(failed.error.map(|error| error.to_string()).as_deref(), Some("ERR no"));
    }
}
