//! The order of a connection's replies.
//!
//! Commands of one connection may run on several shards and answer in any order; the client reads
//! the replies in the order of its commands. A reply that comes before its turn waits here.
//!
//! Invariants:
//! - a ticket is the place of a reply in the whole life of the connection; tickets are never used
//!   twice, so a late reply cannot be taken for another;
//! - the front of the queue is never ready, and no push stands before it: whatever can leave has been
//!   written out;
//! - a push (a message, an invalidation) that arose at a shard stands before the first reply that is
//!   still to come from that shard, and behind all others (see `pubsub` for why);
//! - what is known to tell nothing that may be lost is never in one buffer with what may, but for the
//!   connection's output, where [`Out::ungated`] is its end.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, ops::Range};

use tessera_proto::{Mark, ReplyBuffer};

use crate::gather::{Count, Gather};

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
    /// Sent to this shard.
    Waiting(u32),
    /// Parts sent to several shards.
    Gathering(Box<Gather>),
    /// Here, but not at the front yet; the flag says that it need not wait at the gate.
    Ready(ReplyBuffer, bool),
}

impl State {
    /// Whether `shard` has still something to send for it.
    fn comes_from(&self, shard: u32) -> bool {
        match self {
            Self::Waiting(from) => *from == shard,
            Self::Gathering(gather) => gather.waits_for(shard),
            Self::Ready(..) => false,
        }
    }
}

struct Pending {
    state: State,
    /// CLIENT REPLY OFF or SKIP was in force: the reply is thrown away.
    discard: bool,
    /// Pushes that stand before this reply.
    pushes: Option<Box<ReplyBuffer>>,
}

/// The output of a connection.
pub struct Out<'a> {
    /// What is to be sent.
    pub buffer: &'a mut ReplyBuffer,
    /// The end of its first part that need not wait at the gate.
    pub ungated: &'a mut Mark,
}

impl Out<'_> {
    /// Lets `write` append something, which `is_ungated` or may have to wait at the gate.
    #[inline]
    pub fn append_with(&mut self, is_ungated: bool, write: impl FnOnce(&mut ReplyBuffer)) {
        let adjoins = is_ungated && *self.ungated == self.buffer.mark();
        write(self.buffer);
        if adjoins {
            *self.ungated = self.buffer.mark();
        }
    }
}

/// A reply that has come, or a part of one.
pub struct Arrived<'a> {
    /// Its command's place.
    pub ticket: u64,
    /// Which part of a command over several shards it is.
    pub part: u32,
    /// How long that took to execute.
    pub nanos: u64,
    /// The part itself, in a buffer that may hold more.
    pub reply: (&'a ReplyBuffer, Range<Mark>),
    /// It need not wait at the gate.
    pub is_ungated: bool,
}

/// In place of a shard: a reply that no push of any shard has to stand before.
pub const NO_SHARD: u32 = u32::MAX;

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

    /// A place for a reply that `shard` will send, or [`NO_SHARD`] in particular.
    pub fn wait(&mut self, shard: u32, discard: bool) -> u64 {
        self.push(State::Waiting(shard), discard)
    }

    /// Whether a further reply may be added to those waited for at `ticket`: nothing stands behind.
    pub fn may_extend(&self, ticket: u64) -> bool {
        self.first + self.queue.len() as u64 == ticket + 1
            && matches!(
                self.queue.back(),
                Some(Pending { state: State::Waiting(_), discard: false, .. })
            )
    }

    /// The ticket of the next place that is asked for.
    pub fn next_ticket(&self) -> u64 {
        self.first + self.queue.len() as u64
    }

    /// A place for a reply whose parts several shards will send.
    pub fn gather(&mut self, gather: Gather, discard: bool) -> u64 {
        self.push(State::Gathering(Box::new(gather)), discard)
    }

    /// Whether the reply at `ticket` is to come as a whole.
    pub fn is_waiting(&mut self, ticket: u64) -> bool {
        self.pending(ticket).is_some_and(|pending| matches!(pending.state, State::Waiting(_)))
    }

    /// The reply at `ticket`, which was to come as a whole, is gathered from parts instead.
    pub fn gather_at(&mut self, ticket: u64, gather: Gather) {
        if let Some(pending) = self.pending(ticket) {
            pending.state = State::Gathering(Box::new(gather));
        }
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

    /// Lets `write` append the reply of a command that has just been executed in its place. It
    /// `is_ungated`, or may have to wait at the gate.
    pub fn answer(
        &mut self,
        mut out: Out<'_>,
        is_ungated: bool,
        pool: &mut BufferPool,
        write: impl FnOnce(&mut ReplyBuffer),
    ) {
        if self.queue.is_empty() {
            out.append_with(is_ungated, write);
        } else {
            write(self.behind_as(is_ungated, pool));
        }
    }

    fn behind(&mut self, pool: &mut BufferPool) -> &mut ReplyBuffer {
        self.behind_as(false, pool)
    }

    fn behind_as(&mut self, is_ungated: bool, pool: &mut BufferPool) -> &mut ReplyBuffer {
        let may_extend = matches!(
            self.queue.back(),
            Some(Pending { state: State::Ready(_, flag), discard: false, .. }) if *flag == is_ungated
        );
        if !may_extend {
            self.push(State::Ready(pool.take(), is_ungated), false);
        }
        match self.queue.back_mut() {
            Some(Pending { state: State::Ready(reply, _), .. }) => reply,
            _ => unreachable!("a ready reply has just been made sure of"),
        }
    }

    /// Where a push that arose at `shard` is to be appended.
    #[inline]
    pub fn place_for_push<'a>(
        &'a mut self,
        shard: u32,
        out: &'a mut ReplyBuffer,
        pool: &mut BufferPool,
    ) -> &'a mut ReplyBuffer {
        if self.queue.is_empty() { out } else { self.place_among(shard, out, pool) }
    }

    fn place_among<'a>(
        &'a mut self,
        shard: u32,
        out: &'a mut ReplyBuffer,
        pool: &mut BufferPool,
    ) -> &'a mut ReplyBuffer {
        match self.queue.iter().position(|pending| pending.state.comes_from(shard)) {
            Some(0) => out,
            Some(at) => self.queue[at].pushes.get_or_insert_with(|| Box::new(pool.take())),
            None => self.behind(pool),
        }
    }

    fn push(&mut self, state: State, discard: bool) -> u64 {
        let ticket = self.next_ticket();
        self.queue.push_back(Pending { state, discard, pushes: None });
        ticket
    }

    fn pending(&mut self, ticket: u64) -> Option<&mut Pending> {
        let at = usize::try_from(ticket.checked_sub(self.first)?).ok()?;
        self.queue.get_mut(at)
    }

    /// A reply, or a part of one, has come. Whatever can now leave in order is appended to `out`.
    /// Answers what is to be counted, if with this part a command is done that is counted as a whole.
    pub fn arrive(
        &mut self,
        Arrived { ticket, part, nanos, reply: (replies, range), is_ungated }: Arrived<'_>,
        mut out: Out<'_>,
        pool: &mut BufferPool,
    ) -> Option<Count> {
        let is_front = ticket == self.first;
        let pending = self.pending(ticket)?;
        match &mut pending.state {
            State::Waiting(_) if is_front => {
                if !pending.discard {
                    out.append_with(is_ungated, |out| out.append_range(replies, range));
                }
                self.pop();
                self.release(out, pool);
            }
            State::Waiting(_) => {
                let mut reply = pool.take();
                reply.append_range(replies, range);
                pending.state = State::Ready(reply, is_ungated);
            }
            State::Gathering(gather) => {
                gather.part_mut(part).append_range(replies, range);
                if gather.arrived(nanos, is_ungated) {
                    return self.gathered(ticket, out, pool);
                }
            }
            State::Ready(..) => {}
        }
        None
    }

    /// All parts of the command at `ticket` have come.
    fn gathered(&mut self, ticket: u64, out: Out<'_>, pool: &mut BufferPool) -> Option<Count> {
        let pending = self.pending(ticket)?;
        let mut reply = pool.take();
        let (mut count, mut is_ungated) = (None, false);
        let state = std::mem::replace(&mut pending.state, State::Waiting(NO_SHARD));
        if let State::Gathering(gather) = state {
            is_ungated = gather.is_ungated();
            count = gather.finish(&mut reply);
        }
        pending.state = State::Ready(reply, is_ungated);
        if ticket == self.first {
            self.release(out, pool);
        }
        count
    }

    /// Writes out what is ready at the front.
    fn release(&mut self, mut out: Out<'_>, pool: &mut BufferPool) {
        while let Some(front) = self.queue.front_mut() {
            if let Some(pushes) = front.pushes.take() {
                out.append_with(false, |out| out.append(&pushes));
                pool.put(*pushes);
            }
            if !matches!(front.state, State::Ready(..)) {
                return;
            }
            if let Some(Pending { state: State::Ready(reply, is_ungated), discard, .. }) =
                self.pop()
            {
                if !discard {
                    out.append_with(is_ungated, |out| out.append(&reply));
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
        let out = Out { buffer: out, ungated: &mut Mark::default() };
        let arrived = Arrived { ticket, part, nanos: 0, reply: (&whole, range), is_ungated: false };
        assert!(queue.arrive(arrived, out, &mut BufferPool::default()).is_none());
    }

    fn text(out: &ReplyBuffer) -> String {
        String::from_utf8(out.chunks().flatten().copied().collect()).unwrap()
    }

    #[test]
    fn replies_leave_in_the_order_of_the_commands() {
        let (mut queue, mut out) = (ReplyQueue::default(), ReplyBuffer::default());
        let (first, second) = (queue.wait(1, false), queue.wait(1, false));
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
        let (first, second) = (queue.wait(1, true), queue.wait(1, false));
        arrive(&mut queue, second, 0, ":2\r\n", &mut out);
        arrive(&mut queue, first, 0, ":1\r\n", &mut out);
        assert_eq!(text(&out), ":2\r\n");
    }

    #[test]
    fn a_ticket_that_is_past_or_unknown_changes_nothing() {
        let (mut queue, mut out) = (ReplyQueue::default(), ReplyBuffer::default());
        let ticket = queue.wait(1, false);
        arrive(&mut queue, ticket + 5, 0, ":9\r\n", &mut out);
        arrive(&mut queue, ticket, 0, ":1\r\n", &mut out);
        arrive(&mut queue, ticket, 0, ":1\r\n", &mut out);
        assert_eq!(text(&out), ":1\r\n");
    }

    fn push(queue: &mut ReplyQueue, shard: u32, text: &str, out: &mut ReplyBuffer) {
        queue.place_for_push(shard, out, &mut BufferPool::default()).append(&reply(text));
    }

    #[test]
    fn a_push_stands_before_what_its_shard_has_still_to_send_and_behind_the_rest() {
        let (mut queue, mut out) = (ReplyQueue::default(), ReplyBuffer::default());
        push(&mut queue, 1, ">0", &mut out);
        let tickets = [2, 1, 2].map(|shard| queue.wait(shard, false));
        push(&mut queue, 2, ">a", &mut out);
        push(&mut queue, 1, ">b", &mut out);
        push(&mut queue, 3, ">c", &mut out);
        push(&mut queue, 1, ">d", &mut out);
        assert_eq!(text(&out), ">0>a", "nothing stands before the front");
        arrive(&mut queue, tickets[0], 0, ":1", &mut out);
        assert_eq!(text(&out), ">0>a:1>b>d");
        push(&mut queue, 1, ">e", &mut out);
        push(&mut queue, 2, ">f", &mut out);
        arrive(&mut queue, tickets[2], 0, ":3", &mut out);
        arrive(&mut queue, tickets[1], 0, ":2", &mut out);
        assert_eq!(text(&out), ">0>a:1>b>d>e:2>f:3>c");
        assert!(queue.is_empty());
    }

    #[test]
    fn a_gathered_reply_is_awaited_from_the_shards_that_have_not_answered() {
        let (mut queue, mut out) = (ReplyQueue::default(), ReplyBuffer::default());
        let first = queue.wait(9, false);
        let gather =
            Gather::new(Merge::Parts(merge::Merge::Sum), Protocol::Resp2, 2).from_shards([4, 5]);
        let ticket = queue.gather(gather, false);
        arrive(&mut queue, ticket, 0, ":1\r\n", &mut out);
        push(&mut queue, 4, ">behind", &mut out);
        push(&mut queue, 5, ">before", &mut out);
        arrive(&mut queue, first, 0, ":0", &mut out);
        arrive(&mut queue, ticket, 1, ":1\r\n", &mut out);
        assert_eq!(text(&out), ":0>before:2\r\n>behind");
    }

    /// A connection's output, how much of it need not wait at the gate, and what replies wait.
    #[derive(Default)]
    struct Told {
        queue: ReplyQueue,
        buffer: ReplyBuffer,
        ungated: Mark,
    }

    impl Told {
        fn answer(&mut self, text: &str, is_ungated: bool) {
            let out = Out { buffer: &mut self.buffer, ungated: &mut self.ungated };
            let mut pool = BufferPool::default();
            self.queue.answer(out, is_ungated, &mut pool, |out| out.append(&reply(text)));
        }

        fn arrive(&mut self, ticket: u64, part: u32, text: &str, is_ungated: bool) {
            let whole = reply(text);
            let out = Out { buffer: &mut self.buffer, ungated: &mut self.ungated };
            let reply = (&whole, Mark::default()..whole.mark());
            let arrived = Arrived { ticket, part, nanos: 0, reply, is_ungated };
            assert!(self.queue.arrive(arrived, out, &mut BufferPool::default()).is_none());
        }

        fn ungated(&self) -> String {
            let mut first = ReplyBuffer::default();
            first.append_range(&self.buffer, Mark::default()..self.ungated);
            text(&first)
        }
    }

    #[test]
    fn what_need_not_wait_ends_where_something_has_to() {
        let mut told = Told::default();
        told.answer("+PONG", true);
        told.answer("-MISCONF", true);
        assert_eq!(told.ungated(), "+PONG-MISCONF");
        told.answer("$data", false);
        told.answer("+PONG", true);
        assert_eq!(told.ungated(), "+PONG-MISCONF");
        assert_eq!(text(&told.buffer), "+PONG-MISCONF$data+PONG");
    }

    #[test]
    fn what_need_not_wait_does_not_behind_replies_that_were_awaited_either() {
        let mut told = Told::default();
        let tickets = [1, 2, 3].map(|shard| told.queue.wait(shard, false));
        told.answer("+a", true);
        told.answer("+b", false);
        told.answer("+c", true);
        told.arrive(tickets[1], 0, "+y", true);
        told.arrive(tickets[0], 0, "+x", true);
        assert_eq!(told.ungated(), "+x+y");
        told.arrive(tickets[2], 0, "+z", true);
        assert_eq!(text(&told.buffer), "+x+y+z+a+b+c");
        assert_eq!(told.ungated(), "+x+y+z+a");
    }

    #[test]
    fn a_gathered_reply_waits_if_any_part_does() {
        for (is_ungated, parts, expected) in [
            (false, [true, true], ":3\r\n"),
            (false, [true, false], ""),
            (true, [false, false], ":3\r\n"),
        ] {
            let mut told = Told::default();
            let gather = Gather::new(Merge::Parts(merge::Merge::Sum), Protocol::Resp2, 2);
            let ticket = told.queue.gather(gather.ungated(is_ungated), false);
            told.arrive(ticket, 0, ":1\r\n", parts[0]);
            told.arrive(ticket, 1, ":2\r\n", parts[1]);
            assert_eq!(told.ungated(), expected);
        }
    }
}
