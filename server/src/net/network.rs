//! The network of one worker: drives the ring and keeps the connections.
//!
//! A worker's turn: [`Network::poll`] submits all sends of the last turn and collects what has happened,
//! [`Network::take_event`] tells it, the worker parses `connection.input` and appends to
//! `connection.output`, tells so with [`Network::mark_dirty`], and ends with [`Network::finish_turn`].
//!
//! Invariants:
//! - a connection's place is reused only after `Closed` has been reported for it, which comes after
//!   the kernel has finished with its socket;
//! - a connection has one send in flight; what is appended meanwhile goes with the next;
//! - each `Readable` is queued once per connection, however many buffers have arrived.

#![forbid(unsafe_code)]

mod admission;
mod sending;

use std::{
    collections::VecDeque,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
    time::Instant,
};

use socket2::SockRef;
use tessera_engine::{journal::record::RecordBuffer, sys::disk::DiskEvent};

use self::sending::{Outgoing, SLICES_A_POLL};
use super::{
    Board, CloseCause, CloseMode, Connection, ConnectionId, Listener,
    board::Arrival,
    connection::{Receiving, State},
    listener::{self, ListenAddress},
};
use crate::runtime::{
    RuntimeError,
    ring::{Completion, Lease, Ring, RingConfig, SaveEvent, Wait},
    wake::Mail,
};

/// Which worker a network belongs to, and the sizes of its ring.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetworkConfig {
    /// The worker's number on the [`Board`].
    pub worker: usize,
    /// The sizes of its ring.
    pub ring: RingConfig,
}

/// What a worker is told.
#[derive(Debug)]
pub enum NetEvent {
    /// A new connection, ready for input and output.
    Opened(ConnectionId),
    /// Bytes wait in `connection.input`.
    Readable(ConnectionId),
    /// The peer has shut down its sending side; all that it sent has been delivered. Redis frees
    /// such a client at once, but only after the commands it has read were answered; so the worker
    /// answers what is complete and then closes with [`CloseMode::AfterReply`].
    Ended(ConnectionId),
    /// The connection is gone. It can be looked at until the next event is taken, so that its
    /// session can be unregistered, and no longer.
    Closed(ConnectionId, CloseCause),
}

/// What has gone through this worker's network since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections opened here.
    pub opened: u64,
    /// Connections closed here.
    pub closed: u64,
    /// Connections turned away because of `maxclients`.
    pub rejected: u64,
    /// Connections accepted here and handed over to other workers.
    pub handed_over: u64,
    /// Times that a listener had to rest, out of descriptors or memory.
    pub accept_rests: u64,
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
}

/// The connections and listeners of one worker.
pub struct Network<S> {
    ring: Ring,
    board: Arc<Board>,
    worker: usize,
    places: Vec<Place<S>>,
    free: Vec<u32>,
    events: VecDeque<NetEvent>,
    outgoing: Outgoing,
    /// Connections whose input was touched in this turn.
    touched: Vec<u32>,
    /// The place of the connection whose `Closed` was taken last.
    retiring: Option<u32>,
    listeners: Vec<ListenAddress>,
    /// What has become of the log's files.
    disk_events: Vec<DiskEvent>,
    /// What has become of the file of a save.
    save_events: Vec<SaveEvent>,
    /// The last poll has brought nothing but the news that output has left.
    has_only_sent: bool,
    resting: Vec<u32>,
    rest_reported: Option<Instant>,
    counters: Counters,
}

struct Place<S> {
    generation: u32,
    connection: Option<Connection<S>>,
}

impl<S: Default> Network<S> {
    /// Makes the network of this thread and starts to accept.
    pub fn new(
        config: NetworkConfig,
        board: Arc<Board>,
        listeners: Vec<Listener>,
    ) -> Result<Network<S>, RuntimeError> {
        let mut ring = Ring::new(config.ring, board.bell(config.worker))?;
        let mut addresses = Vec::with_capacity(listeners.len());
        for (number, listener) in (0..).zip(listeners) {
            ring.accept(number, listener.socket);
            addresses.push(listener.address);
        }
        Ok(Network {
            ring,
            board,
            worker: config.worker,
            places: Vec::new(),
            free: Vec::new(),
            events: VecDeque::new(),
            outgoing: Outgoing::default(),
            touched: Vec::new(),
            retiring: None,
            listeners: addresses,
            disk_events: Vec::new(),
            save_events: Vec::new(),
            has_only_sent: false,
            resting: Vec::new(),
            rest_reported: None,
            counters: Counters::default(),
        })
    }

    /// Starts the sends of dirty connections, waits as told unless there is something to do, and
    /// turns what has happened into events. One system call, when nothing is long.
    pub fn poll(&mut self, wait: Wait, mail: &impl Mail) -> io::Result<()> {
        let (mut sent, mut others) = (0, 0);
        for slice in 1.. {
            self.start_sends();
            let attention = Attention { mail, board: &self.board, worker: self.worker };
            let wait = if self.is_busy() { Wait::NONE } else { wait };
            self.ring.turn(wait, &attention)?;
            while let Some(completion) = self.ring.next() {
                match completion {
                    Completion::Sent { .. } => sent += 1,
                    _ => others += 1,
                }
                self.handle(completion);
            }
            let goes_on = self.outgoing.has_only_pushes() && slice < SLICES_A_POLL;
            if !goes_on || self.has_events() || mail.has_mail() {
                break;
            }
        }
        self.has_only_sent = sent > 0 && others == 0;
        if self.board.has_arrivals(self.worker) {
            for arrival in self.board.take_arrivals(self.worker) {
                self.open(arrival);
            }
        }
        Ok(())
    }

    /// The next thing the worker is to be told, until there is none.
    #[inline]
    pub fn take_event(&mut self) -> Option<NetEvent> {
        self.retire();
        loop {
            let event = self.events.pop_front()?;
            match event {
                NetEvent::Readable(id) => {
                    if !self.present(id) {
                        continue;
                    }
                }
                NetEvent::Ended(id) => match self.connection(id) {
                    Some(connection) if !connection.is_closing() => {}
                    _ => continue,
                },
                NetEvent::Closed(id, _) => self.retiring = Some(id.index),
                NetEvent::Opened(_) => {}
            }
            return Some(event);
        }
    }

    /// Whether [`Network::take_event`] has something to tell.
    pub fn has_events(&self) -> bool {
        !(self.events.is_empty() && self.disk_events.is_empty() && self.save_events.is_empty())
    }

    /// Whether there is something to do without anything having to come: events to tell, or output
    /// that waits for its slice.
    #[inline]
    pub fn is_busy(&self) -> bool {
        self.has_events() || self.outgoing.has_more()
    }

    /// Whether the last poll has brought nothing but the news that output has left: which ends a wait
    /// and gives the worker nothing to do.
    pub fn has_only_sent(&self) -> bool {
        self.has_only_sent && !self.is_busy()
    }

    /// The connection of this id, unless it is gone.
    #[inline]
    pub fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection<S>> {
        let place = self.places.get_mut(id.index as usize)?;
        if place.generation != id.generation {
            return None;
        }
        place.connection.as_mut()
    }

    /// All connections, for listings.
    pub fn connections(&self) -> impl Iterator<Item = (ConnectionId, &Connection<S>)> {
        self.places.iter().zip(0..).filter_map(|(place, index)| {
            let id = ConnectionId { index, generation: place.generation };
            place.connection.as_ref().map(|connection| (id, connection))
        })
    }

    /// The open connections, to be changed.
    pub fn connections_mut(&mut self) -> impl Iterator<Item = &mut Connection<S>> {
        self.places.iter_mut().filter_map(|place| place.connection.as_mut())
    }

    /// How many connections this worker has.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether this worker has no connections.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Connections, bytes and refusals so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Has an eventfd end the sleep of a worker that parks outside of its ring; a descriptor to read it
    /// by.
    pub(crate) fn register_park_event(&mut self) -> io::Result<OwnedFd> {
        self.ring.register_park_event()
    }

    /// Prepares to sleep outside of the ring. Returns whether the worker may;
    /// [`Network::end_park`] must follow in either case.
    pub(crate) fn begin_park(&mut self, mail: &impl Mail) -> io::Result<bool> {
        self.start_sends();
        let attention = Attention { mail, board: &self.board, worker: self.worker };
        Ok(self.ring.begin_park(&attention)? && !self.is_busy())
    }

    pub(crate) fn end_park(&mut self, mail: &impl Mail) {
        self.ring.end_park(mail);
    }

    /// Writes to a file of the log (see [`Ring::write_file`]).
    pub fn write_file(
        &mut self,
        file: BorrowedFd<'_>,
        names: (u64, u32),
        offset: u64,
        bytes: RecordBuffer,
        durable: bool,
    ) {
        self.ring.write_file(file, names, offset, bytes, durable);
    }

    /// Syncs a file of the log.
    pub fn sync_file(&mut self, file: BorrowedFd<'_>, segment: u32) {
        self.ring.sync_file(file, segment);
    }

    /// What has become of writes and syncs, until there is no more.
    #[inline]
    pub fn take_disk_event(&mut self) -> Option<DiskEvent> {
        self.disk_events.pop()
    }

    /// What has become of operations on the file of a save, until there is no more.
    pub fn take_save_event(&mut self) -> Option<SaveEvent> {
        self.save_events.pop()
    }

    /// The ring, for operations on the file of a save.
    pub(crate) fn ring(&mut self) -> &mut Ring {
        &mut self.ring
    }

    /// Closes a connection. `Closed` is reported when its socket is closed.
    pub fn close(&mut self, id: ConnectionId, mode: CloseMode) {
        let Some(connection) = self.connection(id) else { return };
        if connection.state == State::Closed {
            return;
        }
        let is_done = connection.in_flight == 0 && !connection.has_output();
        if mode == CloseMode::Now || is_done {
            self.release(id.index);
            return;
        }
        if connection.state == State::Open {
            connection.state = State::Closing;
            let was = std::mem::replace(&mut connection.receiving, Receiving::Ended);
            if !matches!(was, Receiving::Ended | Receiving::Paused) {
                self.ring.stop_receive(id.index);
            }
            self.mark_dirty(id);
        }
    }

    /// Holds input back: nothing more is reported until [`Network::resume_receive`]. The peer is slowed
    /// down once the kernel's buffers are full.
    pub fn pause_receive(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else { return };
        if matches!(connection.receiving, Receiving::Paused | Receiving::Ended) {
            return;
        }
        connection.receiving = Receiving::Paused;
        self.ring.stop_receive(id.index);
    }

    /// Ends [`Network::pause_receive`], and reports what has come meanwhile.
    pub fn resume_receive(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else { return };
        if connection.receiving != Receiving::Paused {
            return;
        }
        connection.receiving = Receiving::On;
        let waiting = !connection.input.is_empty();
        self.ring.start_receive(id.index);
        if waiting {
            self.announce(id.index);
        }
    }

    /// Gives the ring's buffers back, carrying over what was not consumed. Call it when all events
    /// of a turn have been served.
    pub fn finish_turn(&mut self) {
        self.retire();
        while let Some(index) = self.touched.pop() {
            let Some(connection) = &mut self.places[index as usize].connection else { continue };
            connection.touched = false;
            connection.input.carry();
            if connection.output.is_empty() && connection.output.memory_bytes() > 0 {
                self.ring.keep_buffer(std::mem::take(&mut connection.output));
            }
        }
    }

    /// Closes all connections. The worker goes on polling until [`Network::is_empty`], or its patience
    /// ends.
    pub fn close_all(&mut self, mode: CloseMode) {
        let ids: Vec<ConnectionId> = self.connections().map(|(id, _)| id).collect();
        for id in ids {
            self.close(id, mode);
        }
    }

    /// Changes `tcp-keepalive` of a connection's socket.
    pub fn set_keepalive(&self, id: ConnectionId, seconds: u32) -> io::Result<()> {
        let descriptor = self.ring.descriptor(id.index).ok_or(io::ErrorKind::NotConnected)?;
        listener::set_keepalive(&SockRef::from(&descriptor), seconds)
    }

    fn handle(&mut self, completion: Completion) {
        match completion {
            Completion::Received { socket, bytes } => self.received(socket, bytes),
            Completion::Sent { socket, bytes, finished } => self.sent(socket, bytes, finished),
            Completion::Accepted { listener, socket } => {
                self.accepted(Arrival { socket, listener });
            }
            Completion::Ended { socket } => self.ended(socket),
            Completion::Failed { socket, error } => self.failed(socket, error),
            Completion::Released { socket } => self.released(socket),
            Completion::AcceptStopped { listener, error } => self.rest(listener, &error),
            Completion::Timer => {
                for listener in std::mem::take(&mut self.resting) {
                    self.ring.resume_accept(listener);
                }
            }
            Completion::Disk(event) => self.disk_events.push(event),
            Completion::Save(event) => self.save_events.push(event),
            // The worker looks at its mail in every turn, and a paused connection needs nothing.
            Completion::Rung | Completion::Stopped { .. } => {}
        }
    }

    #[inline]
    fn received(&mut self, index: u32, bytes: Lease) {
        let len = bytes.len();
        let Some(connection) = &mut self.places[index as usize].connection else { return };
        connection.received += len as u64;
        self.counters.received += len as u64;
        if connection.receiving == Receiving::Ended {
            return;
        }
        connection.input.receive(bytes);
        let quiet = connection.input.missing() > 0 || connection.receiving == Receiving::Paused;
        self.touch(index);
        if !quiet {
            self.announce(index);
        }
    }

    fn ended(&mut self, index: u32) {
        let place = &mut self.places[index as usize];
        let Some(connection) = &mut place.connection else { return };
        connection.receiving = Receiving::Ended;
        let id = ConnectionId { index, generation: place.generation };
        self.events.push_back(NetEvent::Ended(id));
    }

    fn failed(&mut self, index: u32, error: io::Error) {
        let Some(connection) = &mut self.places[index as usize].connection else { return };
        if connection.state != State::Closed {
            connection.failure = Some(error);
            self.release(index);
        }
    }

    fn release(&mut self, index: u32) {
        let Some(connection) = &mut self.places[index as usize].connection else { return };
        connection.state = State::Closed;
        connection.receiving = Receiving::Ended;
        self.ring.release(index);
    }

    fn released(&mut self, index: u32) {
        let place = &mut self.places[index as usize];
        let Some(connection) = &mut place.connection else { return };
        let cause = connection.failure.take().map_or(CloseCause::Asked, CloseCause::Failed);
        let id = ConnectionId { index, generation: place.generation };
        self.board.leave(self.worker);
        self.counters.closed += 1;
        self.events.push_back(NetEvent::Closed(id, cause));
    }

    /// Frees the place of the connection whose end the worker has been told.
    #[inline]
    fn retire(&mut self) {
        if let Some(index) = self.retiring.take() {
            let place = &mut self.places[index as usize];
            place.connection = None;
            place.generation = place.generation.wrapping_add(1);
            self.free.push(index);
        }
    }

    fn announce(&mut self, index: u32) {
        let place = &mut self.places[index as usize];
        let Some(connection) = &mut place.connection else { return };
        if !connection.announced {
            connection.announced = true;
            let id = ConnectionId { index, generation: place.generation };
            self.events.push_back(NetEvent::Readable(id));
        }
    }

    /// Prepares a connection for its `Readable`: lends it a buffer for its replies, unless it still has
    /// one. Returns whether the event is still true.
    #[inline]
    fn present(&mut self, id: ConnectionId) -> bool {
        let Some(place) = self.places.get_mut(id.index as usize) else { return false };
        let Some(connection) = &mut place.connection else { return false };
        if place.generation != id.generation {
            return false;
        }
        connection.announced = false;
        if connection.is_closing() {
            return false;
        }
        if connection.output.memory_bytes() == 0 {
            connection.output = self.ring.spare_buffer();
        }
        self.touch(id.index);
        true
    }

    fn touch(&mut self, index: u32) {
        let Some(connection) = &mut self.places[index as usize].connection else { return };
        if !connection.touched {
            connection.touched = true;
            self.touched.push(index);
        }
    }
}

/// What a worker looks at before it sleeps: its mail, and its desk.
struct Attention<'a, M> {
    mail: &'a M,
    board: &'a Board,
    worker: usize,
}

impl<M: Mail> Mail for Attention<'_, M> {
    fn has_mail(&self) -> bool {
        self.mail.has_mail() || self.board.has_arrivals(self.worker)
    }

    fn is_needed(&self) -> bool {
        self.mail.is_needed()
    }

    fn announce_sleep(&self) -> bool {
        !self.board.has_arrivals(self.worker) && self.mail.announce_sleep()
    }

    fn announce_awake(&self) {
        self.mail.announce_awake();
    }
}
