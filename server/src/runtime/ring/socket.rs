//! One socket of the ring's table: its descriptor, its receive and its send.

use std::{os::fd::OwnedFd, ptr};

use io_uring::{opcode, squeue, types};
use tessera_proto::ReplyBuffer;

/// Pieces of one gathering send. Longer replies take several sends.
const VECTORS_MAX: usize = 64;
/// Length of one send; the kernel counts in u32, and socket buffers are far smaller.
const SEND_MAX: usize = 1 << 30;

/// What the kernel does for the receiving side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receive {
    Idle,
    /// A multishot receive is in flight.
    Armed,
    /// In flight, and a cancellation is under way.
    Stopping,
}

/// Its number is its place in the table. Without a descriptor it is free.
pub(super) struct Socket {
    pub(super) fd: Option<OwnedFd>,
    pub(super) receive: Receive,
    /// Whether the caller wants bytes.
    pub(super) wanted: bool,
    /// Whether the number stands in the list of receives to arm.
    pub(super) arm_queued: bool,
    /// Whether to report the end of the receive in flight as `Stopped`.
    pub(super) report_stop: bool,
    /// Whether the caller has given the socket up.
    pub(super) releasing: bool,
    send: Send,
}

/// The send in flight. Its bytes are on the heap, in the buffer or in what the buffer shares, and
/// the buffer is not touched before its completion.
#[derive(Default)]
struct Send {
    buffer: ReplyBuffer,
    sent: usize,
    busy: bool,
    gather: Option<Box<Gather>>,
}

struct Gather {
    header: libc::msghdr,
    vectors: [libc::iovec; VECTORS_MAX],
}

impl Socket {
    pub(super) fn free() -> Socket {
        Socket {
            fd: None,
            receive: Receive::Idle,
            wanted: false,
            arm_queued: false,
            report_stop: false,
            releasing: false,
            send: Send::default(),
        }
    }

    pub(super) fn is_sending(&self) -> bool {
        self.send.busy
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.receive == Receive::Idle && !self.send.busy
    }

    /// Begins the send of a buffer, which is not empty.
    pub(super) fn load(&mut self, output: ReplyBuffer) {
        debug_assert!(!self.send.busy, "one send in flight a socket");
        self.send.buffer = output;
        self.send.sent = 0;
        self.send.busy = true;
    }

    /// Records a finished operation of the send. Returns whether bytes are left.
    pub(super) fn has_sent(&mut self, bytes: usize) -> bool {
        self.send.sent += bytes;
        self.send.sent < self.send.buffer.len()
    }

    /// Ends the send, finished or not, and returns its buffer.
    pub(super) fn unload(&mut self) -> ReplyBuffer {
        self.send.busy = false;
        std::mem::take(&mut self.send.buffer)
    }

    /// The operation that sends what is left. It points into `self` and its buffer.
    pub(super) fn send_operation(&mut self, fd: types::Fd) -> squeue::Entry {
        let send = &mut self.send;
        let mut chunks = send.buffer.chunks_from(send.sent);
        let first = chunks.next().unwrap_or(&[]);
        let Some(second) = chunks.next() else {
            let len = first.len().min(SEND_MAX) as u32;
            return opcode::Send::new(fd, first.as_ptr(), len).flags(libc::MSG_NOSIGNAL).build();
        };
        let gather = send.gather.get_or_insert_with(Gather::boxed);
        let pieces = [first, second].into_iter().chain(chunks);
        opcode::SendMsg::new(fd, gather.fill(pieces)).flags(libc::MSG_NOSIGNAL as u32).build()
    }
}

impl Gather {
    fn boxed() -> Box<Gather> {
        const NOTHING: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: a message header of zeroes is a valid empty one.
        let header = unsafe { std::mem::zeroed() };
        Box::new(Gather { header, vectors: [NOTHING; VECTORS_MAX] })
    }

    /// Points to the first pieces. The result points into this box.
    fn fill<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>) -> *const libc::msghdr {
        let mut count = 0;
        for (vector, piece) in self.vectors.iter_mut().zip(pieces) {
            vector.iov_base = piece.as_ptr().cast_mut().cast();
            vector.iov_len = piece.len();
            count += 1;
        }
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = count;
        &raw const self.header
    }
}
