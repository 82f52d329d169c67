//! The operations of the ring, and what their completions mean.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd},
    time::Duration,
};

use io_uring::{cqueue, opcode, types};
use tessera_proto::ReplyBuffer;

use super::{
    BUFFER_GROUP, Completion, Raw, Ring, SPARE_MAX,
    socket::{Receive, Socket},
};

/// A token is what the operation is (upper half) and the number of its socket or listener.
const ACCEPT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SEND: u64 = 3 << 32;
const TIMER: u64 = 4 << 32;
/// Cancellations and closes: nobody asks how they went.
const IGNORED: u64 = 5 << 32;
pub(super) const BELL: u64 = 6 << 32;

impl Ring {
    /// Takes connections from `listener` under this number until the ring is dropped, the listener
    /// is stopped or an error stops it.
    pub fn accept(&mut self, listener: u32, socket: OwnedFd) {
        let index = listener as usize;
        if self.listeners.len() <= index {
            self.listeners.resize_with(index + 1, || None);
        }
        self.listeners[index] = Some(socket);
        self.arm_accept(listener);
    }

    /// Starts a listener again after [`Completion::AcceptStopped`].
    pub fn resume_accept(&mut self, listener: u32) {
        self.arm_accept(listener);
    }

    /// Stops taking connections from this listener and closes it.
    pub fn stop_accept(&mut self, listener: u32) {
        if let Some(Some(_)) = self.listeners.get(listener as usize) {
            self.cancel(ACCEPT | u64::from(listener));
            // The operation in flight holds the file; the port is free once it has been cancelled.
            self.listeners[listener as usize] = None;
        }
    }

    /// Adds a connection to the table under this number, which must be free.
    pub fn attach(&mut self, socket: u32, fd: OwnedFd) {
        let index = socket as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || Box::new(Socket::free()));
        }
        let place = &mut self.sockets[index];
        debug_assert!(place.fd.is_none() && place.is_quiet(), "the number is free");
        place.fd = Some(fd);
        place.releasing = false;
    }

    /// The descriptor of a connection, for socket options and addresses.
    pub fn descriptor(&self, socket: u32) -> Option<BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        self.sockets.get(socket as usize)?.fd.as_ref().map(AsFd::as_fd)
    }

    /// Receives from this socket from the next turn on.
    pub fn start_receive(&mut self, socket: u32) {
        let place = &mut self.sockets[socket as usize];
        place.wanted = true;
        place.report_stop = false;
        self.queue_arm(socket);
    }

    /// Stops receiving. Bytes that have come meanwhile are still delivered, then
    /// [`Completion::Stopped`] follows.
    pub fn stop_receive(&mut self, socket: u32) {
        let place = &mut self.sockets[socket as usize];
        place.wanted = false;
        place.report_stop = true;
        match place.receive {
            Receive::Idle => {
                place.report_stop = false;
                self.extra.push_back(Completion::Stopped { socket });
            }
            Receive::Armed => self.cancel_receive(socket),
            Receive::Stopping => {}
        }
    }

    /// Whether a send of this socket is in flight.
    pub fn is_sending(&self, socket: u32) -> bool {
        self.sockets[socket as usize].is_sending()
    }

    /// Sends all bytes of `output`, which has some. No send may be in flight.
    pub fn send(&mut self, socket: u32, output: ReplyBuffer) {
        self.sockets[socket as usize].load(output);
        self.push_send(socket);
    }

    /// An empty buffer for replies, with memory if there is one to spare.
    #[inline]
    pub fn spare_buffer(&mut self) -> ReplyBuffer {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a buffer back for others to use.
    #[inline]
    pub fn keep_buffer(&mut self, mut buffer: ReplyBuffer) {
        buffer.clear();
        if self.spare.len() < SPARE_MAX && buffer.memory_bytes() > 0 {
            self.spare.push(buffer);
        }
    }

    /// Gives a socket up: nothing more is received, an unfinished send is abandoned. The number is
    /// free at [`Completion::Released`].
    pub fn release(&mut self, socket: u32) {
        let place = &mut self.sockets[socket as usize];
        if place.fd.is_none() || place.releasing {
            return;
        }
        place.releasing = true;
        place.wanted = false;
        place.report_stop = false;
        let (receiving, sending) = (place.receive == Receive::Armed, place.is_sending());
        if receiving {
            self.cancel_receive(socket);
        }
        if sending {
            self.cancel(SEND | u64::from(socket));
        }
        self.close_if_quiet(socket);
    }

    /// Reports [`Completion::Timer`] after this time. One timer can be set at a time.
    pub fn set_timer(&mut self, after: Duration) {
        *self.timer = types::Timespec::from(after);
        let entry = opcode::Timeout::new(&raw const *self.timer).build().user_data(TIMER);
        // SAFETY: the time is in a box that lives as long as the ring; the kernel copies it when
        // the operation is submitted, and it is not written before, as one timer is set at a time.
        unsafe { self.push(entry) };
        self.in_flight += 1;
    }

    /// The next thing that has happened. Call it after each turn until there is none.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<Completion> {
        loop {
            if let Some(completion) = self.extra.pop_front() {
                return Some(completion);
            }
            let raw = self.reaped.pop_front()?;
            if let Some(completion) = self.interpret(raw) {
                return Some(completion);
            }
        }
    }

    /// Arms the receives that are wanted. Called when a turn begins.
    pub(super) fn arm_receives(&mut self) {
        while let Some(socket) = self.to_arm.pop() {
            let place = &mut self.sockets[socket as usize];
            place.arm_queued = false;
            if place.wanted && place.receive == Receive::Idle {
                self.arm_receive(socket);
            }
        }
    }

    fn arm_receive(&mut self, socket: u32) {
        let place = &mut self.sockets[socket as usize];
        let Some(fd) = place.fd.as_ref().map(|fd| types::Fd(fd.as_raw_fd())) else { return };
        let entry =
            opcode::RecvMulti::new(fd, BUFFER_GROUP).build().user_data(RECEIVE | u64::from(socket));
        place.receive = Receive::Armed;
        self.in_flight += 1;
        // SAFETY: a multishot receive writes to the pool, which outlives the registration.
        unsafe { self.push(entry) };
    }

    fn queue_arm(&mut self, socket: u32) {
        let place = &mut self.sockets[socket as usize];
        if !place.arm_queued && !self.shutting_down {
            place.arm_queued = true;
            self.to_arm.push(socket);
        }
    }

    fn arm_accept(&mut self, listener: u32) {
        let Some(Some(socket)) = self.listeners.get(listener as usize) else { return };
        if self.shutting_down {
            return;
        }
        let entry = opcode::AcceptMulti::new(types::Fd(socket.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(ACCEPT | u64::from(listener));
        // SAFETY: a multishot accept points to no memory.
        unsafe { self.push(entry) };
        self.in_flight += 1;
    }

    fn push_send(&mut self, socket: u32) {
        let place = &mut self.sockets[socket as usize];
        let Some(fd) = place.fd.as_ref().map(|fd| types::Fd(fd.as_raw_fd())) else { return };
        let entry = place.send_operation(fd).user_data(SEND | u64::from(socket));
        self.in_flight += 1;
        // SAFETY: the operation points to heap memory of the send's buffer and to its boxed
        // header, both untouched until the completion and owned by a boxed entry of the table.
        unsafe { self.push(entry) };
    }

    fn cancel_receive(&mut self, socket: u32) {
        let place = &mut self.sockets[socket as usize];
        place.receive = Receive::Stopping;
        self.cancel(RECEIVE | u64::from(socket));
    }

    fn cancel(&mut self, token: u64) {
        let entry = opcode::AsyncCancel::new(token).build().user_data(IGNORED);
        // SAFETY: a cancellation points to no memory.
        unsafe { self.push(entry) };
    }

    fn interpret(&mut self, raw: Raw) -> Option<Completion> {
        let number = raw.token as u32;
        let more = cqueue::more(raw.flags);
        let kind = raw.token & !u64::from(u32::MAX);
        if kind != IGNORED && !more {
            self.in_flight -= 1;
        }
        match kind {
            RECEIVE => self.received(number, raw, more),
            SEND => self.sent(number, raw.result),
            ACCEPT => self.accepted(number, raw.result, more),
            BELL => {
                self.listen_to_bell();
                Some(Completion::Rung)
            }
            TIMER => Some(Completion::Timer),
            _ => self.file_done(kind, number, raw.result),
        }
    }

    fn received(&mut self, socket: u32, raw: Raw, more: bool) -> Option<Completion> {
        let len = usize::try_from(raw.result).unwrap_or(0);
        // SAFETY: the kernel names the buffer that it has filled and given up with this completion,
        // which is interpreted once.
        let bytes = cqueue::buffer_select(raw.flags).map(|id| unsafe { self.pool.lease(id, len) });
        if !more {
            self.receive_ended(socket);
        }
        let place = &mut self.sockets[socket as usize];
        if place.releasing {
            return None;
        }
        match (raw.result, bytes) {
            (1.., Some(bytes)) => Some(Completion::Received { socket, bytes }),
            (0, _) => {
                place.wanted = false;
                Some(Completion::Ended { socket })
            }
            (error, _) => self.receive_failed(socket, -error),
        }
    }

    /// Records that no receive is in flight, and does what waited for that.
    fn receive_ended(&mut self, socket: u32) {
        let place = &mut self.sockets[socket as usize];
        place.receive = Receive::Idle;
        if std::mem::take(&mut place.report_stop) {
            // After the completion that is being interpreted, which may hold bytes.
            self.extra.push_back(Completion::Stopped { socket });
        } else if place.wanted {
            self.queue_arm(socket);
        }
        self.close_if_quiet(socket);
    }

    /// Out of buffers, interrupted or cancelled are no failures of the connection.
    fn receive_failed(&mut self, socket: u32, errno: i32) -> Option<Completion> {
        if errno == libc::ENOBUFS {
            self.pool.grow();
        }
        if matches!(errno, libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN) {
            return None;
        }
        self.sockets[socket as usize].wanted = false;
        Some(Completion::Failed { socket, error: io::Error::from_raw_os_error(errno) })
    }

    fn sent(&mut self, socket: u32, result: i32) -> Option<Completion> {
        let place = &mut self.sockets[socket as usize];
        if place.releasing {
            let buffer = place.unload();
            self.keep_buffer(buffer);
            self.close_if_quiet(socket);
            return None;
        }
        match result {
            0.. => {
                let bytes = result as usize;
                let left = place.has_sent(bytes);
                if left {
                    self.push_send(socket);
                } else {
                    let buffer = place.unload();
                    self.keep_buffer(buffer);
                }
                Some(Completion::Sent { socket, bytes, finished: !left })
            }
            error if matches!(-error, libc::EINTR | libc::EAGAIN) => {
                self.push_send(socket);
                None
            }
            error => {
                let buffer = place.unload();
                self.keep_buffer(buffer);
                Some(Completion::Failed { socket, error: io::Error::from_raw_os_error(-error) })
            }
        }
    }

    fn accepted(&mut self, listener: u32, result: i32, more: bool) -> Option<Completion> {
        if result >= 0 {
            // SAFETY: the kernel has made this descriptor for us, and this completion, interpreted
            // once, is the only one that names it.
            let socket = unsafe { OwnedFd::from_raw_fd(result) };
            if !more {
                self.arm_accept(listener);
            }
            return Some(Completion::Accepted { listener, socket });
        }
        match -result {
            libc::ECANCELED => None,
            // The peer was gone before it was accepted, or a signal came.
            libc::ECONNABORTED | libc::EINTR | libc::EAGAIN | libc::EPROTO => {
                self.arm_accept(listener);
                None
            }
            errno => {
                let error = io::Error::from_raw_os_error(errno);
                Some(Completion::AcceptStopped { listener, error })
            }
        }
    }

    fn close_if_quiet(&mut self, socket: u32) {
        let place = &mut self.sockets[socket as usize];
        if !(place.releasing && place.is_quiet()) {
            return;
        }
        let Some(fd) = place.fd.take() else { return };
        let entry = opcode::Close::new(types::Fd(fd.into_raw_fd())).build().user_data(IGNORED);
        // SAFETY: a close points to no memory, and the descriptor was ours to close.
        unsafe { self.push(entry) };
        self.extra.push_back(Completion::Released { socket });
    }
}
