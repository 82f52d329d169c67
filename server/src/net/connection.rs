//! One connection: its input, its output, and what its owner keeps with it.
//!
//! Invariants:
//! - replies are appended to `output` while the bytes of the send before stand elsewhere, so a request can
//!   be parsed and answered without touching bytes that the kernel reads;
//! - a connection that is closing delivers no more input.

#![forbid(unsafe_code)]

use std::{collections::VecDeque, fmt, io, net::SocketAddr, path::PathBuf};

use tessera_proto::{Mark, ReplyBuffer};

use super::buffer::Input;

/// Names a connection of one worker. The generation tells a connection from an earlier one that had
/// the same place, so an id that is out of date finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// Its place among the connections of its worker.
    pub index: u32,
    /// How many connections have had this place before, modulo 2^32.
    pub generation: u32,
}

impl ConnectionId {
    /// The same as one number, for those who need not know what a connection is.
    pub fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The connection with that number.
    pub fn from_number(number: u64) -> Self {
        Self { index: number as u32, generation: (number >> 32) as u32 }
    }
}

/// One end of a connection, printed as Redis prints it in CLIENT LIST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Tcp(SocketAddr),
    /// The path of the listening socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// Whether the peer is on this machine.
    pub fn is_loopback(&self) -> bool {
        match self {
            Endpoint::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Endpoint::Unix(_) => true,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => address.fmt(f),
            Endpoint::Unix(path) => write!(f, "{}:0", path.display()),
        }
    }
}

/// How to close a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseMode {
    /// At once; output that has not been sent is lost.
    Now,
    /// When all output has been sent. No more input is delivered.
    AfterReply,
}

/// Why a connection was closed.
#[derive(Debug)]
pub enum CloseCause {
    /// Its owner closed it.
    Asked,
    /// The network failed, or the peer did: reset, timed out, unreachable.
    Failed(io::Error),
}

/// A connection with the state `S` that its owner keeps with it.
#[derive(Debug)]
pub struct Connection<S> {
    /// Bytes received and not consumed.
    pub input: Input,
    /// Replies that wait for their send. After appending, the network must be told with `mark_dirty`.
    pub output: ReplyBuffer,
    /// The end of the first part of `output` that tells nothing which may be lost: it need not wait
    /// at the gate. Nothing of what follows is known.
    pub ungated: Mark,
    /// What its owner keeps with it.
    pub session: S,
    /// The client's end.
    pub peer: Endpoint,
    /// The server's end.
    pub local: Endpoint,
    /// Output that must not leave before an epoch is durable, with that epoch, the first to leave
    /// first (see `Network::set_gate`).
    pub(super) held: VecDeque<(u64, ReplyBuffer)>,
    /// Whether it stands in the list of connections that wait for an epoch.
    pub(super) gated: bool,
    /// The descriptor's number, for CLIENT LIST. Not to be used for input or output.
    pub descriptor: i32,
    /// Bytes received in all.
    pub received: u64,
    /// Bytes sent in all.
    pub sent: u64,
    /// Bytes that the kernel has been given and has not confirmed.
    pub(super) in_flight: usize,
    pub(super) failure: Option<io::Error>,
    pub(super) state: State,
    pub(super) receiving: Receiving,
    /// Whether it stands in the list of connections with output to send.
    pub(super) dirty: bool,
    /// Whether it stands in the list of connections that have got pushes.
    pub(super) pushed: bool,
    /// Whether a `Readable` for it is queued.
    pub(super) announced: bool,
    /// Whether it stands in the list of connections whose input was touched in this turn.
    pub(super) touched: bool,
}

/// The life of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// All output is sent first.
    Closing,
    /// The ring has been told to release the socket, or the connection is broken.
    Closed,
}

/// What the ring does for the input of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiving {
    On,
    Paused,
    /// The peer sends no more, or nobody would read it.
    Ended,
}

impl<S> Connection<S> {
    pub(super) fn new(session: S, peer: Endpoint, local: Endpoint, descriptor: i32) -> Self {
        Connection {
            input: Input::default(),
            output: ReplyBuffer::new(),
            ungated: Mark::default(),
            session,
            held: VecDeque::new(),
            gated: false,
            peer,
            local,
            descriptor,
            received: 0,
            sent: 0,
            in_flight: 0,
            failure: None,
            state: State::Open,
            receiving: Receiving::On,
            dirty: false,
            pushed: false,
            announced: false,
            touched: false,
        }
    }

    /// Bytes of output that the kernel has not taken yet: what output buffer limits are about.
    #[inline]
    pub fn pending_output(&self) -> usize {
        let held: usize = self.held.iter().map(|(_, output)| output.len()).sum();
        self.output.len() + self.in_flight + held
    }

    /// Whether there is something to send, now or later.
    #[inline]
    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty() || !self.held.is_empty()
    }

    /// Whether more output waits than `bytes_max`; 0 is no limit.
    #[inline]
    pub fn is_over_limit(&self, bytes_max: u64) -> bool {
        bytes_max > 0 && self.pending_output() as u64 > bytes_max
    }

    /// Whether the connection is being closed; its input is not to be executed any more.
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.state != State::Open
    }

    /// Whether input is held back by `pause_receive`.
    pub fn is_paused(&self) -> bool {
        self.receiving == Receiving::Paused
    }
}
