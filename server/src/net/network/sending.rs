//! Output on its way to the ring: what is sent, when, and what waits.
//!
//! Replies leave with the next poll, all of them. What nobody has asked for, which is messages and their
//! like, leaves in slices of [`PUSHES_A_SLICE`] connections, in the order in which they got some: one
//! after the other in the same poll, until something comes.
//!
//! Why slices: a message to ten thousand subscribers is ten thousand sends, some 20 ms of the kernel's
//! time, in which nobody else would be served. Between slices the worker takes up what has come, and
//! what is published meanwhile joins what still waits for its send. So the more there is to deliver,
//! the fewer sends a message takes, and no timer holds anything back: as long as something waits, the
//! worker polls without sleeping. A slice more costs a system call that submits its sends, no turn of the
//! worker.
//!
//! A reply that is computed while it is sent (`proto::buffer::Source`) may have nothing to send yet: then
//! its connection has its turn again in the next poll, behind everybody else, and the worker does not
//! sleep before that.
//!
//! Invariants:
//! - a connection stands at most once in each list, and in the second one only for what may leave
//!   later; its output leaves by whichever comes first;
//! - while the gate is closed nothing waits in slices: the epoch for which output is held is the one in
//!   which it was written;
//! - what need not wait at the gate leaves although it is closed, unless something stands before it in
//!   its connection that has to (see `aof::doubt`).
#![forbid(unsafe_code)]

use std::{collections::VecDeque, mem};

use tessera_proto::{Mark, ReplyBuffer};

use super::{Network, State};
use crate::net::{Connection, ConnectionId};

/// Connections whose pushes one slice sends, beside all replies: less than 0.1 ms of sends.
const PUSHES_A_SLICE: usize = 32;
/// Slices of one poll while nothing comes, after which the worker looks whether something is due.
pub(super) const SLICES_A_POLL: usize = 4;

/// Who has output to send.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Connections with output that is sent in the next poll.
    dirty: Vec<u32>,
    /// Connections that have got pushes, which leave in slices.
    pushed: VecDeque<u32>,
    /// Connections whose replies were worked on in this poll, and are yet to be.
    working: Vec<u32>,
    gate: Gate,
}

/// What may leave.
#[derive(Debug, Default)]
struct Gate {
    /// Output that is written now leaves when this epoch is durable.
    hold: u64,
    /// The last durable epoch.
    durable: u64,
    /// Connections whose output waits for that.
    waiting: Vec<u32>,
}

impl Gate {
    /// Whether what is written now has to wait.
    #[inline]
    fn is_closed(&self) -> bool {
        self.hold > self.durable
    }
}

impl Outgoing {
    /// Whether pushes, or work on replies, wait for a later slice.
    #[inline]
    pub(super) fn has_more(&self) -> bool {
        !(self.pushed.is_empty() && self.working.is_empty())
    }

    /// Whether the next slice is of pushes alone. Work on replies has a slice in each poll, since it
    /// takes longer.
    #[inline]
    pub(super) fn has_only_pushes(&self) -> bool {
        self.working.is_empty() && !self.pushed.is_empty()
    }

    #[inline]
    fn mark<S>(&mut self, index: u32, connection: &mut Connection<S>) {
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(index);
        }
    }
}

impl<S: Default> Network<S> {
    /// Tells that output was appended: it is sent by the next poll, all in one send.
    #[inline]
    pub fn mark_dirty(&mut self, id: ConnectionId) {
        let Some(place) = self.places.get_mut(id.index as usize) else { return };
        if place.generation == id.generation
            && let Some(connection) = &mut place.connection
        {
            self.outgoing.mark(id.index, connection);
        }
    }

    /// Tells that something was appended that answers nothing: it is sent in its turn, or with what is
    /// sent before.
    #[inline]
    pub fn mark_pushed(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else { return };
        if !(connection.dirty || connection.pushed) {
            connection.pushed = true;
            self.outgoing.pushed.push_back(id.index);
        }
    }

    /// The connection of this id, with memory for output, unless it is gone.
    #[inline]
    pub fn connection_to_push(&mut self, id: ConnectionId) -> Option<&mut Connection<S>> {
        let place = self.places.get_mut(id.index as usize)?;
        if place.generation != id.generation {
            return None;
        }
        let connection = place.connection.as_mut()?;
        if connection.output.memory_bytes() == 0 {
            connection.output = self.ring.spare_buffer();
        }
        Some(connection)
    }

    /// Lets output that is written from now on leave only when the epoch `hold` is durable, and sends
    /// what `durable`, the last durable epoch, lets go. With `hold` 0 everything leaves at once.
    pub fn set_gate(&mut self, hold: u64, durable: u64) {
        let gate = &mut self.outgoing.gate;
        gate.hold = hold;
        if durable > gate.durable {
            gate.durable = durable;
            for index in mem::take(&mut gate.waiting) {
                if let Some(connection) = &mut self.places[index as usize].connection {
                    connection.gated = false;
                    self.outgoing.mark(index, connection);
                }
            }
        }
    }

    /// Whether output waits for an epoch to become durable.
    pub fn holds_output(&self) -> bool {
        !self.outgoing.gate.waiting.is_empty()
    }

    /// Starts the sends of all replies, and of a slice of pushes.
    pub(super) fn start_sends(&mut self) {
        if !self.outgoing.working.is_empty() {
            self.mark_working();
        }
        while let Some(index) = self.outgoing.dirty.pop() {
            if let Some(connection) = &mut self.places[index as usize].connection {
                connection.dirty = false;
                self.send_next(index);
            }
        }
        if !self.outgoing.pushed.is_empty() {
            self.send_pushes();
        }
    }

    /// Gives those whose replies are worked on their next turn.
    #[cold]
    fn mark_working(&mut self) {
        for index in mem::take(&mut self.outgoing.working) {
            if let Some(connection) = &mut self.places[index as usize].connection {
                self.outgoing.mark(index, connection);
            }
        }
    }

    fn send_pushes(&mut self) {
        let is_closed = self.outgoing.gate.is_closed();
        let slice = if is_closed { usize::MAX } else { PUSHES_A_SLICE };
        for _ in 0..slice {
            let Some(index) = self.outgoing.pushed.pop_front() else { return };
            // Another connection may have the place by now; then it is sent what it has.
            if let Some(connection) = &mut self.places[index as usize].connection {
                connection.pushed = false;
                self.send_next(index);
            }
        }
    }

    /// Sends what a connection has, unless a send is in flight, which is followed by the next.
    #[inline]
    fn send_next(&mut self, index: u32) {
        let Some(connection) = &mut self.places[index as usize].connection else { return };
        if self.outgoing.gate.is_closed() || !connection.held.is_empty() {
            return self.send_held(index);
        }
        let idle = connection.in_flight == 0 && connection.state != State::Closed;
        if idle && !connection.output.is_empty() {
            let output = next_written(&mut connection.output);
            connection.ungated = Mark::default();
            self.send(index, output);
        }
    }

    /// Sends `output`; if there is none, the reply is still worked on.
    #[inline]
    fn send(&mut self, index: u32, output: ReplyBuffer) {
        if output.is_empty() {
            return self.outgoing.working.push(index);
        }
        if let Some(connection) = &mut self.places[index as usize].connection {
            connection.in_flight = output.len();
            self.ring.send(index, output);
        }
    }

    /// Sends the first output of a connection that may leave; what was written since the last time
    /// waits for the epoch that is held now, but for what need not wait.
    #[cold]
    fn send_held(&mut self, index: u32) {
        let Some(connection) = &mut self.places[index as usize].connection else { return };
        if !connection.output.is_empty() {
            let hold = self.outgoing.gate.hold;
            let output = mem::take(&mut connection.output);
            connection.held.extend(gated(output, mem::take(&mut connection.ungated), hold));
        }
        if connection.in_flight > 0 || connection.state == State::Closed {
            return;
        }
        match connection.held.front() {
            Some(&(epoch, _)) if epoch <= self.outgoing.gate.durable => {
                if let Some((epoch, mut rest)) = connection.held.pop_front() {
                    let output = next_written(&mut rest);
                    if !rest.is_empty() {
                        connection.held.push_front((epoch, rest));
                    }
                    self.send(index, output);
                }
            }
            Some(_) if !connection.gated => {
                connection.gated = true;
                self.outgoing.gate.waiting.push(index);
            }
            Some(_) | None => {}
        }
    }

    /// A send, or a part of it, has been done.
    pub(super) fn sent(&mut self, index: u32, bytes: usize, finished: bool) {
        let Some(connection) = &mut self.places[index as usize].connection else { return };
        connection.sent += bytes as u64;
        connection.in_flight -= bytes;
        self.counters.sent += bytes as u64;
        if !finished {
            return;
        }
        if connection.has_output() {
            self.outgoing.mark(index, connection);
        } else if connection.state == State::Closing {
            self.release(index);
        }
    }
}

/// What of `output` is sent next: all of it, or what comes before a part that is yet to be written, with
/// a piece of that.
#[inline]
fn next_written(output: &mut ReplyBuffer) -> ReplyBuffer {
    if output.has_later() { output.take_written() } else { mem::take(output) }
}

/// `output` with the epoch for which it waits: none up to `ungated`, `hold` behind that.
fn gated(
    output: ReplyBuffer,
    ungated: Mark,
    hold: u64,
) -> impl Iterator<Item = (u64, ReplyBuffer)> {
    let whole = output.mark();
    let pieces = if ungated == whole {
        [Some((0, output)), None]
    } else if ungated == Mark::default() {
        [Some((hold, output)), None]
    } else {
        let mut first = ReplyBuffer::new();
        first.append_range(&output, Mark::default()..ungated);
        let mut rest = ReplyBuffer::new();
        rest.append_range(&output, ungated..whole);
        [Some((0, first)), Some((hold, rest))]
    };
    pieces.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read},
        net::TcpStream,
        sync::Arc,
        time::Duration,
    };

    use tessera_proto::buffer::Source;

    use super::*;
    use crate::{
        net::{
            BindAddress, Board, CloseMode, ListenConfig, NetEvent, NetworkConfig,
            listener::{self, ListenAddress},
        },
        runtime::ring::Wait,
    };

    const PUSHES_A_POLL: usize = SLICES_A_POLL * PUSHES_A_SLICE;
    const CLIENTS: usize = 2 * PUSHES_A_POLL + 1;
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A network with connected clients, in the order in which it knows them.
    struct Bench {
        network: Network<()>,
        clients: Vec<(ConnectionId, TcpStream)>,
    }

    impl Bench {
        fn new() -> Self {
            let bind = vec![BindAddress::parse("127.0.0.1")];
            let config = ListenConfig { bind, port: Some(0), ..ListenConfig::default() };
            let listeners = listener::open(&config, 1).expect("a free port").remove(0);
            let ListenAddress::Tcp(address) = listeners[0].address.clone() else { unreachable!() };
            let board = Board::with_workers(1, 10_000).expect("bells");
            let config = NetworkConfig::default();
            let network = Network::new(config, board, listeners).expect("io_uring works here");
            let mut bench = Self { network, clients: Vec::new() };
            while bench.clients.len() < CLIENTS {
                let client = TcpStream::connect(address).expect("the network listens");
                client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                let id = bench.await_opened();
                bench.clients.push((id, client));
            }
            bench
        }

        fn await_opened(&mut self) -> ConnectionId {
            loop {
                let wait = Wait { spin: Duration::ZERO, sleep: Duration::from_millis(20) };
                self.network.poll(wait, &|| false).expect("the ring works");
                if let Some(NetEvent::Opened(id)) = self.network.take_event() {
                    return id;
                }
            }
        }

        fn poll(&mut self) {
            self.network.poll(Wait::NONE, &|| false).expect("the ring works");
            while self.network.take_event().is_some() {}
            self.network.finish_turn();
        }

        /// Gives everyone the same text.
        fn push(&mut self, text: &[u8]) {
            for (id, _) in &self.clients {
                let connection = self.network.connection_to_push(*id).expect("it is open");
                connection.output.extend(text);
                self.network.mark_pushed(*id);
            }
        }

        /// What a client reads that has been sent `len` bytes, which may be on their way.
        fn read(&mut self, client: usize, len: usize) -> Vec<u8> {
            let stream = &mut self.clients[client].1;
            stream.set_nonblocking(false).expect("a socket");
            let mut bytes = vec![0; len];
            stream.read_exact(&mut bytes).expect("it was sent");
            bytes
        }

        /// Whether nothing has come to a client.
        fn has_nothing(&mut self, client: usize) -> bool {
            let stream = &mut self.clients[client].1;
            stream.set_nonblocking(true).expect("a socket");
            matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
        }

        fn finish(&mut self) {
            while self.network.is_busy() {
                self.poll();
            }
        }
    }

    #[test]
    fn pushes_leave_in_slices_and_in_their_order() {
        let mut bench = Bench::new();
        bench.push(b"m");
        for poll in 1..=2 {
            bench.poll();
            assert!(bench.network.is_busy(), "more waits behind poll {poll}");
            let (first, behind) = ((poll - 1) * PUSHES_A_POLL, poll * PUSHES_A_POLL);
            (first..behind).for_each(|client| assert_eq!(bench.read(client, 1), b"m"));
            assert!(bench.has_nothing(behind));
        }
        bench.poll();
        assert!(!bench.network.is_busy());
        assert_eq!(bench.read(CLIENTS - 1, 1), b"m");
    }

    #[test]
    fn slices_end_when_something_has_come() {
        let mut bench = Bench::new();
        bench.push(b"m");
        // Mail comes after the first slice.
        bench.network.poll(Wait::NONE, &|| true).expect("the ring works");
        assert_eq!(bench.read(PUSHES_A_SLICE - 1, 1), b"m");
        assert!(bench.has_nothing(PUSHES_A_SLICE));
        bench.finish();
    }

    #[test]
    fn what_is_pushed_while_more_waits_joins_it_and_replies_wait_for_nobody() {
        let mut bench = Bench::new();
        bench.push(b"1");
        bench.poll();
        bench.push(b"2");
        // It waits with both, and is asked something.
        let last = CLIENTS - 1;
        let asked = bench.clients[last].0;
        bench.network.connection(asked).expect("it is open").output.extend(b"!");
        bench.network.mark_dirty(asked);
        bench.poll();
        assert_eq!(bench.read(last, 3), b"12!");
        bench.finish();
        (0..last).for_each(|client| assert_eq!(bench.read(client, 2), b"12"));
        assert!(bench.has_nothing(last));
    }

    #[test]
    fn a_closed_gate_holds_all_pushes_at_once() {
        let mut bench = Bench::new();
        bench.network.set_gate(5, 4);
        bench.push(b"m");
        bench.poll();
        assert!(!bench.network.is_busy() && bench.network.holds_output());
        assert!((0..CLIENTS).all(|client| bench.has_nothing(client)));
        // What is written in the next epoch waits for that one.
        bench.network.set_gate(6, 5);
        bench.push(b"n");
        bench.poll();
        (0..CLIENTS).for_each(|client| assert_eq!(bench.read(client, 1), b"m"));
        assert!((0..CLIENTS).all(|client| bench.has_nothing(client)));
        bench.network.set_gate(0, 6);
        bench.finish();
        bench.poll();
        (0..CLIENTS).for_each(|client| assert_eq!(bench.read(client, 1), b"n"));
    }

    /// Works for so many slices before it writes.
    #[derive(Debug)]
    struct Slow(u64);

    impl Source for Slow {
        fn write(&self, position: u64, out: &mut ReplyBuffer) -> Option<u64> {
            if position < self.0 {
                return Some(position + 1);
            }
            out.extend(b"slow");
            None
        }
    }

    #[test]
    fn a_reply_that_is_worked_on_holds_up_nobody_and_keeps_its_place() {
        let mut bench = Bench::new();
        let (first, second) = (bench.clients[0].0, bench.clients[1].0);
        for is_held in [false, true] {
            if is_held {
                bench.network.set_gate(6, 5);
            }
            let output = &mut bench.network.connection(first).expect("it is open").output;
            output.later(Arc::new(Slow(3)));
            output.extend(b"behind");
            bench.network.mark_dirty(first);
            bench.network.connection(second).expect("it is open").output.extend(b"!");
            bench.network.mark_dirty(second);
            if is_held {
                bench.poll();
                assert!(!bench.network.is_busy() && bench.has_nothing(1));
                bench.network.set_gate(0, 6);
            }
            for _ in 0..3 {
                bench.poll();
                assert!(bench.network.is_busy() && bench.has_nothing(0));
            }
            assert_eq!(bench.read(1, 1), b"!");
            bench.poll();
            assert!(!bench.network.is_busy());
            while bench.network.connection(first).is_some_and(|first| first.has_output()) {
                bench.poll();
            }
            assert_eq!(bench.read(0, 10), b"slowbehind");
        }
    }

    #[test]
    fn what_need_not_wait_passes_a_closed_gate_up_to_what_has_to() {
        let mut bench = Bench::new();
        bench.network.set_gate(5, 4);
        let (id, _) = bench.clients[0];
        // Three replies, of which the first tells nothing; then one more that does not either.
        let connection = bench.network.connection_to_push(id).expect("it is open");
        connection.output.extend(b"a");
        connection.ungated = connection.output.mark();
        connection.output.extend(b"bc");
        bench.network.mark_dirty(id);
        bench.poll();
        assert_eq!(bench.read(0, 1), b"a");
        let connection = bench.network.connection_to_push(id).expect("it is open");
        connection.output.extend(b"d");
        connection.ungated = connection.output.mark();
        bench.network.mark_dirty(id);
        (0..3).for_each(|_| bench.poll());
        assert!(bench.has_nothing(0), "it stands behind what has to wait");
        bench.network.set_gate(0, 5);
        (0..3).for_each(|_| bench.poll());
        assert_eq!(bench.read(0, 3), b"bcd");
    }

    #[test]
    fn connections_that_are_closed_after_their_output_get_what_waits() {
        let mut bench = Bench::new();
        bench.push(b"m");
        let (gone, _) = bench.clients[0];
        bench.network.close(gone, CloseMode::Now);
        bench.network.close_all(CloseMode::AfterReply);
        while !bench.network.is_empty() {
            bench.poll();
        }
        (1..CLIENTS).for_each(|client| assert_eq!(bench.read(client, 1), b"m"));
    }
}
