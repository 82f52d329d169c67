//! The order of a connection's replies.
//!
//! Commands of one connection may run on several shards and answer in any order; the client reads
//! the replies in the order of its commands. A reply that comes before its turn waits here.
//!
//! Invariants:
//! - a ticket is the place of a reply in the whole life of the connection; tickets are never used
//!   twice, so a late reply cannot be taken for another;
//! - the front of the queue is never ready: whatever is ready at the front has been written out.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, ops::Range};

use tessera_proto::{Mark, ReplyBuffer};

use crate::gather::Gather;

/// Buffers for replies that wait, kept for their next use by one worker.
#[derive(Default)]
pub struct BufferPool {
    free: Vec<ReplyBuffer>,
}

impl BufferPool {
    const FREE_MAX: usize = 256;

    /// An empty buffer.
    pub fn take(&mut self) -> ReplyBuffer {
        self.free.pop().unwrap_or_default()
    }

    /// Takes back a buffer.
    pub fn put(&mut self, mut buffer: ReplyBuffer) {
        if self.free.len() < Self::FREE_MAX {
            buffer.clear();
            self.free.push(buffer);
        }
    }
}

enum State {
    /// Sent to a shard.
    Waiting,
    /// Parts sent to several shards.
    Gathering(Box<Gather>),
    /// Here, but not at the front yet.
    Ready(ReplyBuffer),
}

struct Pending {
    state: State,
    /// CLIENT REPLY OFF or SKIP was in force: the reply is thrown away.
    discard: bool,
}

/// The replies that a connection still waits for, in the order of its commands.
#[derive(Default)]
pub struct ReplyQueue {
    queue: VecDeque<Pending>,
    /// The ticket of the front.
    first: u64,
}

impl ReplyQueue {
    /// Whether the next reply can be written out at once.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many replies are waited for.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// A place for a reply that a shard will send.
    pub fn wait(&mut self, discard: bool) -> u64 {
        self.push(State::Waiting, discard)
    }

    /// Whether a further reply may be added to those waited for at `ticket`: nothing stands behind.
    pub fn may_extend(&self, ticket: u64) -> bool {
        self.first + self.queue.len() as u64 == ticket + 1
            && matches!(self.queue.back(), Some(Pending { state: State::Waiting, discard: false }))
    }

    /// The ticket of the next place that is asked for.
    pub fn next_ticket(&self) -> u64 {
        self.first + self.queue.len() as u64
    }

    /// A place for a reply whose parts several shards will send.
    pub fn gather(&mut self, gather: Gather, discard: bool) -> u64 {
        self.push(State::Gathering(Box::new(gather)), discard)
    }

    /// Where the reply of a command that has just been executed is to be appended: `out` if it is
    /// its turn, else a buffer behind the replies that are still to come.
    #[inline]
    pub fn sink<'a>(
        &'a mut self,
        out: &'a mut ReplyBuffer,
        pool: &mut BufferPool,
    ) -> &'a mut ReplyBuffer {
        if self.queue.is_empty() { out } else { self.behind(pool) }
    }

    fn behind(&mut self, pool: &mut BufferPool) -> &mut ReplyBuffer {
        let may_extend =
            matches!(self.queue.back(), Some(Pending { state: State::Ready(_), discard: false }));
        if !may_extend {
            self.push(State::Ready(pool.take()), false);
        }
        match self.queue.back_mut() {
            Some(Pending { state: State::Ready(reply), .. }) => reply,
            _ => unreachable!("a ready reply has just been made sure of"),
        }
    }

    fn push(&mut self, state: State, discard: bool) -> u64 {
        let ticket = self.next_ticket();
        self.queue.push_back(Pending { state, discard });
        ticket
    }

    fn pending(&mut self, ticket: u64) -> Option<&mut Pending> {
        let at = usize::try_from(ticket.checked_sub(self.first)?).ok()?;
        self.queue.get_mut(at)
    }

    /// Part `part` of the reply at `ticket` has come: `range` of `replies`. Whatever can now leave
    /// in order is appended to `out`.
    pub fn arrive(
        &mut self,
        ticket: u64,
        part: u32,
        (replies, range): (&ReplyBuffer, Range<Mark>),
        out: &mut ReplyBuffer,
        pool: &mut BufferPool,
    ) {
        let is_front = ticket == self.first;
        let Some(pending) = self.pending(ticket) else { return };
        match &mut pending.state {
            State::Waiting if is_front => {
                if !pending.discard {
                    out.append_range(replies, range);
                }
                self.pop();
                self.release(out, pool);
            }
            State::Waiting => {
                let mut reply = pool.take();
                reply.append_range(replies, range);
                pending.state = State::Ready(reply);
            }
            State::Gathering(gather) => {
                gather.part_mut(part).append_range(replies, range);
                self.part_arrived(ticket, out, pool);
            }
            State::Ready(_) => {}
        }
    }

    /// A part of the command at `ticket` stands in its place.
    fn part_arrived(&mut self, ticket: u64, out: &mut ReplyBuffer, pool: &mut BufferPool) {
        let Some(pending) = self.pending(ticket) else { return };
        let State::Gathering(gather) = &mut pending.state else { return };
        if !gather.arrived() {
            return;
        }
        let mut reply = pool.take();
        let state = std::mem::replace(&mut pending.state, State::Waiting);
        if let State::Gathering(gather) = state {
            gather.finish(&mut reply);
        }
        pending.state = State::Ready(reply);
        if ticket == self.first {
            self.release(out, pool);
        }
    }

    /// Writes out what is ready at the front.
    fn release(&mut self, out: &mut ReplyBuffer, pool: &mut BufferPool) {
        while let Some(Pending { state: State::Ready(_), .. }) = self.queue.front() {
            if let Some(Pending { state: State::Ready(reply), discard }) = self.pop() {
                if !discard {
                    out.append(&reply);
                }
                pool.put(reply);
            }
        }
    }

    fn pop(&mut self) -> Option<Pending> {
        self.first += 1;
        self.queue.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use tessera_engine::transaction::merge;
    use tessera_proto::{Protocol, ReplyWriter};

    use super::*;
    use crate::gather::Merge;

    fn reply(text: &str) -> ReplyBuffer {
        let mut buffer = ReplyBuffer::default();
        ReplyWriter::new(&mut buffer, Protocol::Resp2).raw(text.as_bytes());
        buffer
    }

    fn arrive(queue: &mut ReplyQueue, ticket: u64, part: u32, text: &str, out: &mut ReplyBuffer) {
        let whole = reply(text);
        let range = Mark::default()..whole.mark();
        queue.arrive(ticket, part, (&whole, range), out, &mut BufferPool::default());
    }

    fn text(out: &ReplyBuffer) -> String {
        String::from_utf8(out.chunks().flatten().copied().collect()).unwrap()
    }

    #[test]
    fn replies_leave_in_the_order_of_the_commands() {
        let (mut queue, mut out) = (ReplyQueue::default(), ReplyBuffer::default());
        let (first, second) = (queue.wait(false), queue.wait(false));
        queue.sink(&mut out, &mut BufferPool::default()).append(&reply(":3\r\n"));
        arrive(&mut queue, second, 0, ":2\r\n", &mut out);
        assert!(out.is_empty());
        arrive(&mut queue, first, 0, ":1\r\n", &mut out);
        assert_eq!(text(&out), ":1\r\n:2\r\n:3\r\n");
        assert!(queue.is_empty());
    }

    #[test]
    fn a_gathered_reply_leaves_when_its_last_part_is_there() {
        let (mut queue, mut out) = (ReplyQueue::default(), ReplyBuffer::default());
        let ticket =
            queue.gather(Gather::new(Merge::Parts(merge::Merge::Sum), Protocol::Resp2, 2), false);
        arrive(&mut queue, ticket, 1, ":2\r\n", &mut out);
        assert!(out.is_empty());
        arrive(&mut queue, ticket, 0, ":1\r\n", &mut out);
        assert_eq!(text(&out), ":3\r\n");
    }

    #[test]
    fn discarded_replies_keep_their_place_and_are_not_written() {
        let (mut queue, mut out) = (ReplyQueue::default(), ReplyBuffer::default());
        let (first, second) = (queue.wait(true), queue.wait(false));
        arrive(&mut queue, second, 0, ":2\r\n", &mut out);
        arrive(&mut queue, first, 0, ":1\r\n", &mut out);
        assert_eq!(text(&out), ":2\r\n");
    }

    #[test]
    fn a_ticket_that_is_past_or_unknown_changes_nothing() {
        let (mut queue, mut out) = (ReplyQueue::default(), ReplyBuffer::default());
        let ticket = queue.wait(false);
        arrive(&mut queue, ticket + 5, 0, ":9\r\n", &mut out);
        arrive(&mut queue, ticket, 0, ":1\r\n", &mut out);
        arrive(&mut queue, ticket, 0, ":1\r\n", &mut out);
        assert_eq!(text(&out), ":1\r\n");
    }
}
