//! Connections come: accepted, admitted here or handed to the worker that has fewest, or turned away.
//!
//! A listener that fails, as descriptors or memory have run out, rests for a moment: to try again at
//! once would spin.
#![forbid(unsafe_code)]

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use socket2::SockRef;

use super::{NetEvent, Network, Place};
use crate::net::{
    Connection, ConnectionId, Endpoint,
    board::Arrival,
    listener::{ListenAddress, Relocation},
};

/// What a client beyond `maxclients` reads before it is disconnected, as from Redis.
const TOO_MANY_CLIENTS: &[u8] = b"-ERR max number of clients reached\r\n";
/// How long a listener rests when the process is out of descriptors: trying at once would spin.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// At most so often is the log told that listeners rest.
const REST_REPORT_INTERVAL: Duration = Duration::from_secs(10);

impl<S: Default> Network<S> {
    /// Takes no more connections and closes the listeners: the first step of a graceful stop.
    pub fn stop_accepting(&mut self) {
        self.resting.clear();
        for listener in (0..).take(self.listeners.len()) {
            self.ring.stop_accept(listener);
        }
    }

    /// Listens elsewhere from now on; what has been accepted stays, and so does the UNIX socket.
    /// Numbers of listeners are never used twice.
    pub fn relocate(&mut self, relocation: Relocation) {
        for (number, address) in (0..).zip(&self.listeners) {
            if let ListenAddress::Tcp(address) = address
                && !relocation.kept.contains(address)
            {
                self.ring.stop_accept(number);
            }
        }
        for listener in relocation.opened {
            self.ring.accept(self.listeners.len() as u32, listener.socket);
            self.listeners.push(listener.address);
        }
    }

    pub(super) fn accepted(&mut self, arrival: Arrival) {
        match self.board.admit(self.worker) {
            None => {
                self.counters.rejected += 1;
                reject(&arrival.socket);
            }
            Some(worker) if worker == self.worker => self.open(arrival),
            Some(worker) => {
                self.counters.handed_over += 1;
                self.board.hand_over(worker, arrival);
            }
        }
    }

    pub(super) fn open(&mut self, arrival: Arrival) {
        let Some((peer, local)) = self.endpoints(&arrival) else {
            // The peer has gone already.
            self.board.leave(self.worker);
            return;
        };
        let descriptor = arrival.socket.as_raw_fd();
        let connection = Connection::new(S::default(), peer, local, descriptor);
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, connection: None });
            (self.places.len() - 1) as u32
        });
        let place = &mut self.places[index as usize];
        place.connection = Some(connection);
        let id = ConnectionId { index, generation: place.generation };
        self.ring.attach(index, arrival.socket);
        self.ring.start_receive(index);
        self.counters.opened += 1;
        self.events.push_back(NetEvent::Opened(id));
    }

    fn endpoints(&self, arrival: &Arrival) -> Option<(Endpoint, Endpoint)> {
        let socket = SockRef::from(&arrival.socket);
        // A Unix socket is listed only by the worker that listens there: it stands last.
        let local = socket.local_addr().ok()?;
        if let Some(local) = local.as_socket() {
            let peer = socket.peer_addr().ok()?.as_socket()?;
            return Some((Endpoint::Tcp(unmapped(peer)), Endpoint::Tcp(unmapped(local))));
        }
        let path = local.as_pathname().unwrap_or("".as_ref()).to_owned();
        Some((Endpoint::Unix(path.clone()), Endpoint::Unix(path)))
    }

    /// Lets a listener rest after it has failed.
    pub(super) fn rest(&mut self, listener: u32, error: &io::Error) {
        self.counters.accept_rests += 1;
        if self.resting.is_empty() {
            self.ring.set_timer(ACCEPT_REST);
        }
        self.resting.push(listener);
        if self.rest_reported.is_none_or(|last| last.elapsed() > REST_REPORT_INTERVAL) {
            self.rest_reported = Some(Instant::now());
            tracing::warn!(
                "Accepting client connection: {error}. If descriptors ran out, raise `ulimit -n` \
                 or lower `maxclients`"
            );
        }
    }
}

/// Tells a client that there are too many. As Redis does, it tries once and does not wait.
fn reject(socket: &OwnedFd) {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // The client is disconnected either way, so a failure changes nothing.
    let _ = SockRef::from(&socket.as_fd()).send_with_flags(TOO_MANY_CLIENTS, flags);
}

/// An IPv4 address that a dual-stack socket shows as IPv6, as itself.
fn unmapped(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, v6.port())),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}
