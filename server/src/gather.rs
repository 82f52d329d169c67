//! Waits for the parts of a command that went to several workers; the last one to arrive finishes
//! the reply.
//!
//! Parts arrive in any order and are kept by number. How those of a command over keys become one
//! reply is the engine's matter ([`tessera_engine::transaction::merge`]); commands that ask every
//! worker have ways of their own.
#![forbid(unsafe_code)]

use std::sync::Arc;

use tessera_engine::{command::Command, transaction::merge};
use tessera_proto::{Protocol, ReplyBuffer, ReplyWriter};

use crate::metrics::WorkerMetrics;

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
        Self { merge, protocol, missing: parts.len(), parts, awaited: Vec::new(), count: None }
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

    /// Counts one part as arrived; answers whether it was the last.
    pub fn arrived(&mut self) -> bool {
        self.missing -= 1;
        self.missing == 0
    }

    /// Appends the reply to `out`.
    pub fn finish(mut self, out: &mut ReplyBuffer) {
        let count = self.count.take();
        self.merge.finish(&self.parts, self.protocol, out);
        if let Some(Count { metrics, command, nanos }) = count {
            metrics.executed(command, nanos, None);
        }
    }
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
    fn parts_come_in_any_order() {
        let merge = || Merge::Parts(merge::Merge::Sum);
        assert_eq!(merged(merge(), &[":2\r\n", ":0\r\n", ":40\r\n"]), ":42\r\n");
        assert_eq!(merged(Merge::AllOk, &["+OK\r\n", "+OK\r\n"]), "+OK\r\n");
        assert_eq!(merged(Merge::AllOk, &["+OK\r\n", "-ERR no\r\n"]), "-ERR no\r\n");
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
}
