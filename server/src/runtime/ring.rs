//! One io_uring a worker, for sockets and for being woken: the only module that names io_uring.
//!
//! What: accepts, receives and sends for a table of sockets known by number. All that a turn has
//! queued goes to the kernel, and all that has completed comes back, in one system call
//! ([`Ring::turn`]); [`Ring::next`] then tells what happened, one [`Completion`] at a time.
//!
//! Why this shape: with SINGLE_ISSUER, DEFER_TASKRUN and COOP_TASKRUN the kernel completes work only
//! inside our own calls, which saves 20 to 27 % of the server's CPU; and multishot accepts and
//! receives cost no submission per request. TASKRUN_FLAG shows in shared memory that work is
//! pending, so polling needs no system call. A back end on epoll can offer the same operations.
//!
//! Invariants:
//! - a socket has at most one receive and one send in flight; its number and its descriptor are
//!   given up only when both are finished ([`Completion::Released`]);
//! - bytes of a send are owned by this module and are untouched until its completion;
//! - a multishot operation is over when MORE is missing, whatever else the completion says;
//! - filled buffers are handed back to the kernel before receives are armed again, so that a
//!   receive that ran out of buffers finds some.

mod buffers;
mod files;
mod operations;
mod socket;

use std::{
    collections::VecDeque,
    io, mem,
    os::fd::{AsRawFd, OwnedFd},
    rc::Rc,
    time::{Duration, Instant},
};

use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};
use tessera_engine::sys::disk::DiskEvent;
use tessera_proto::ReplyBuffer;

#[cfg(test)]
pub(crate) use self::buffers::lease_of;
pub use self::{buffers::Lease, files::SaveEvent};
use self::{buffers::Pool, socket::Socket};
use super::{
    RuntimeError,
    wake::{Doorbell, Mail},
};

/// How often a polling worker looks at the ring between two looks at the clock.
const LOOKS_PER_CLOCK: usize = 8;
/// How long a ring that is dropped waits for the kernel to let go of its operations.
const QUIESCE_MAX: Duration = Duration::from_secs(1);
const BUFFER_GROUP: u16 = 0;
/// Empty reply buffers that a ring keeps, of at most [`tessera_proto::buffer::KEPT_MAX_BYTES`] each.
const SPARE_MAX: usize = 64;

/// Sizes of one ring. `tuning.md` says how the defaults were found.
#[derive(Clone, Copy, Debug)]
pub struct RingConfig {
    /// Operations that one system call can submit; more are sent in several calls.
    pub submissions: u32,
    /// Completions that wait without the kernel's slower overflow list.
    pub completions: u32,
    /// Receive buffers at most, a power of two. Memory is taken for those that are needed at once.
    pub buffers: u16,
    /// Bytes of one receive buffer.
    pub buffer_size: usize,
}

impl Default for RingConfig {
    fn default() -> RingConfig {
        RingConfig { submissions: 512, completions: 4096, buffers: 128, buffer_size: 64 * 1024 }
    }
}

/// How long a turn may wait if nothing has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Polls for this long, using the CPU, before it sleeps.
    pub spin: Duration,
    /// Sleeps for this long at most; `Duration::MAX` for as long as it takes.
    pub sleep: Duration,
}

impl Wait {
    /// Does not wait at all.
    pub const NONE: Wait = Wait { spin: Duration::ZERO, sleep: Duration::ZERO };
    /// Sleeps until something happens.
    pub const FOREVER: Wait = Wait { spin: Duration::ZERO, sleep: Duration::MAX };
}

/// What has happened. Sockets and listeners are named by the numbers that the caller gave them.
#[derive(Debug)]
pub enum Completion {
    /// A listener has a new connection.
    Accepted { listener: u32, socket: OwnedFd },
    /// A listener has stopped; [`Ring::accept`] starts it again.
    AcceptStopped { listener: u32, error: io::Error },
    /// Bytes have arrived.
    Received { socket: u32, bytes: Lease },
    /// The receive that was stopped by [`Ring::stop_receive`] is over.
    Stopped { socket: u32 },
    /// The peer sends no more.
    Ended { socket: u32 },
    /// Receiving or sending has failed.
    Failed { socket: u32, error: io::Error },
    /// Bytes have been sent; the last ones of the buffer if `finished`.
    Sent { socket: u32, bytes: usize, finished: bool },
    /// The socket that was released is closed; its number is free.
    Released { socket: u32 },
    /// The doorbell of this worker was rung.
    Rung,
    /// The timer set by [`Ring::set_timer`] is due.
    Timer,
    /// A file of the log was written or synced.
    Disk(DiskEvent),
    /// So was the file of a save.
    Save(SaveEvent),
}

/// A completion as the kernel wrote it.
#[derive(Clone, Copy)]
struct Raw {
    token: u64,
    result: i32,
    flags: u32,
}

/// The io_uring of one worker. Must be used by the thread that made it.
pub struct Ring {
    ring: IoUring,
    pool: Rc<Pool>,
    bell: Doorbell,
    /// Boxed, so that what the kernel points to stays in place while the table grows.
    #[allow(clippy::vec_box)]
    sockets: Vec<Box<Socket>>,
    listeners: Vec<Option<OwnedFd>>,
    /// Sockets whose receive is to be armed in the next turn.
    to_arm: Vec<u32>,
    /// Operations that did not fit into the submission queue, in order.
    backlog: VecDeque<squeue::Entry>,
    reaped: VecDeque<Raw>,
    /// Completions that follow from another one or that needed no operation.
    extra: VecDeque<Completion>,
    /// Empty reply buffers with memory, the last used first: a few serve all connections, and an
    /// idle connection holds none.
    spare: Vec<ReplyBuffer>,
    /// Writes and syncs of files under way. Boxed, so that what the kernel points to stays in place.
    files: Vec<Option<Box<files::Operation>>>,
    /// Where the kernel puts the count of the doorbell.
    rung: Box<u64>,
    timer: Box<types::Timespec>,
    /// Operations that the kernel has not finished, other than cancellations and closes.
    in_flight: usize,
    /// Set when the ring is being dropped: nothing is armed again.
    shutting_down: bool,
}

impl Ring {
    /// Makes the ring of this thread and waits for the bell from the first turn on.
    pub fn new(config: RingConfig, bell: Doorbell) -> Result<Ring, RuntimeError> {
        let ring = build(config).map_err(RuntimeError::from_setup)?;
        if !(ring.params().is_feature_ext_arg() && ring.params().is_feature_nodrop()) {
            return Err(RuntimeError::KernelTooOld(io::Error::from_raw_os_error(libc::EINVAL)));
        }
        let pool = Pool::new(config.buffers, config.buffer_size);
        // SAFETY: the entries live until `Drop` has removed the registration: the pool is held by
        // `Rc`, and is leaked if the kernel does not let go of it.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                pool.address(),
                pool.count(),
                BUFFER_GROUP,
                0,
            )
        }
        .map_err(RuntimeError::from_setup)?;
        // Saves the look-up of the descriptor in each call; nothing depends on it.
        let _ = ring.submitter().register_ring_fd();
        let mut ring = Ring {
            ring,
            pool,
            bell,
            sockets: Vec::new(),
            listeners: Vec::new(),
            to_arm: Vec::new(),
            backlog: VecDeque::new(),
            reaped: VecDeque::with_capacity(config.completions as usize),
            extra: VecDeque::new(),
            spare: Vec::new(),
            files: Vec::new(),
            rung: Box::new(0),
            timer: Box::new(types::Timespec::new()),
            in_flight: 0,
            shutting_down: false,
        };
        ring.listen_to_bell();
        Ok(ring)
    }

    /// Checks that this process may use io_uring as [`Ring`] does, for a clear error at the start.
    pub fn probe() -> Result<(), RuntimeError> {
        let config = RingConfig { submissions: 8, completions: 16, buffers: 1, buffer_size: 4096 };
        Ring::new(config, Doorbell::new()?).map(drop)
    }

    /// Submits what is queued, waits as told unless something has happened already, and collects
    /// what has completed.
    pub fn turn(&mut self, wait: Wait, mail: &impl Mail) -> io::Result<()> {
        self.arm_receives();
        self.pool.publish();
        let idle = self.extra.is_empty() && self.reaped.is_empty();
        if !idle || wait == Wait::NONE {
            self.enter_now()?;
        } else if wait.spin.is_zero() {
            self.enter_and_sleep(wait.sleep, mail)?;
        } else {
            self.enter_now()?;
            if !self.spin(wait.spin, mail)? && !wait.sleep.is_zero() {
                self.enter_and_sleep(wait.sleep, mail)?;
            }
        }
        self.reap();
        Ok(())
    }

    /// Has an eventfd signalled when something completes, or the bell rings, while the worker is parked.
    /// Returns a descriptor to read it by.
    pub fn register_park_event(&mut self) -> io::Result<OwnedFd> {
        let event = self.bell.park_event();
        self.ring.completion().disable_eventfd();
        self.ring.submitter().register_eventfd(event.as_raw_fd())?;
        event.try_clone_to_owned()
    }

    /// Prepares to sleep somewhere else than in the ring: submits everything, and has the park
    /// event signalled when something completes. Returns whether the caller may sleep;
    /// [`Ring::end_park`] must follow in either case.
    pub fn begin_park(&mut self, mail: &impl Mail) -> io::Result<bool> {
        // In this order: what completes after the signal is on is signalled, and what completed before
        // is found by the entering and reaping that follow.
        self.ring.completion().enable_eventfd();
        self.bell.announce_park();
        self.turn(Wait::NONE, mail)?;
        if self.has_completions() {
            return Ok(false);
        }
        self.bell.announce_sleep();
        Ok(mail.announce_sleep())
    }

    /// Ends the sleep that [`Ring::begin_park`] prepared.
    pub fn end_park(&mut self, mail: &impl Mail) {
        mail.announce_awake();
        self.bell.announce_awake();
        self.bell.end_park();
        self.ring.completion().disable_eventfd();
    }

    /// Whether the last turn left something for [`Ring::next`].
    pub fn has_completions(&self) -> bool {
        !self.reaped.is_empty() || !self.extra.is_empty()
    }

    /// Submits everything and completes what the kernel has ready, without waiting.
    fn enter_now(&mut self) -> io::Result<()> {
        loop {
            let more = self.fill_submissions();
            let (queued, pending) = {
                let queue = self.ring.submission();
                (queue.len(), queue.taskrun() || queue.cq_overflow())
            };
            if queued == 0 && !pending {
                return Ok(());
            }
            // SAFETY: no argument is passed, and all queued entries point to memory that lives
            // until their completion (see `push`).
            let entered = unsafe {
                self.ring.submitter().enter::<libc::sigset_t>(
                    queued as u32,
                    0,
                    EnterFlags::GETEVENTS.bits(),
                    None,
                )
            };
            self.settle(entered)?;
            if !more && self.ring.submission().is_empty() {
                return Ok(());
            }
        }
    }

    /// Submits everything and sleeps until something completes, mail comes or the time is over.
    fn enter_and_sleep(&mut self, limit: Duration, mail: &impl Mail) -> io::Result<()> {
        if self.fill_submissions() {
            return self.enter_now();
        }
        self.bell.announce_sleep();
        if !mail.announce_sleep() {
            self.bell.announce_awake();
            return self.enter_now();
        }
        let slept = if limit == Duration::MAX {
            self.ring.submit_and_wait(1)
        } else {
            let limit = types::Timespec::from(limit);
            let arguments = types::SubmitArgs::new().timespec(&limit);
            self.ring.submitter().submit_with_args(1, &arguments)
        };
        mail.announce_awake();
        self.bell.announce_awake();
        self.settle(slept)
    }

    /// Polls without sleeping. Returns whether there is something to do.
    fn spin(&mut self, limit: Duration, mail: &impl Mail) -> io::Result<bool> {
        let start = Instant::now();
        loop {
            for _ in 0..LOOKS_PER_CLOCK {
                if !self.ring.completion().is_empty() || mail.has_mail() {
                    return Ok(true);
                }
                if self.ring.submission().taskrun() {
                    self.enter_now()?;
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= limit {
                return Ok(false);
            }
        }
    }

    /// Sorts the outcomes of entering the kernel: interrupted, out of time and "collect your
    /// completions first" are no errors, since the caller collects and comes again.
    fn settle(&mut self, entered: io::Result<usize>) -> io::Result<()> {
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::EBUSY | libc::EAGAIN) => {
                    self.reap();
                    Ok(())
                }
                Some(libc::EINTR | libc::ETIME) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn reap(&mut self) {
        let reaped = &mut self.reaped;
        self.ring.completion().for_each(|entry: cqueue::Entry| {
            reaped.push_back(Raw {
                token: entry.user_data(),
                result: entry.result(),
                flags: entry.flags(),
            });
        });
    }

    /// Queues an operation.
    ///
    /// # Safety
    /// All memory that `entry` points to must stay valid and, where the kernel only reads it, unchanged
    /// until the completion of the operation.
    unsafe fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: the caller vouches for the memory.
        if !self.backlog.is_empty() || unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.backlog.push_back(entry);
        }
    }

    /// Moves what fits from the backlog to the submission queue. Returns whether some did not fit.
    fn fill_submissions(&mut self) -> bool {
        if self.backlog.is_empty() {
            return false;
        }
        let mut queue = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: `push` vouched for the memory of all entries of the backlog.
            if unsafe { queue.push(entry) }.is_err() {
                return true;
            }
            self.backlog.pop_front();
        }
        false
    }

    fn listen_to_bell(&mut self) {
        if self.shutting_down {
            return;
        }
        let event = types::Fd(self.bell.event().as_raw_fd());
        let place = (&raw mut *self.rung).cast::<u8>();
        let entry = opcode::Read::new(event, place, 8).build().user_data(operations::BELL);
        // SAFETY: `rung` is a box that lives as long as the ring, or is leaked with it, and is not
        // read by us. The descriptor is held by `bell`.
        unsafe { self.push(entry) };
        self.in_flight += 1;
    }
}

fn build(config: RingConfig) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(config.completions)
        .build(config.submissions)
}

impl Drop for Ring {
    /// Takes everything back from the kernel before the memory goes; what it does not give back in
    /// time is leaked, which is the lesser harm.
    fn drop(&mut self) {
        self.shutting_down = true;
        self.to_arm.clear();
        let start = Instant::now();
        let _ = self.enter_now();
        while self.in_flight > 0 && start.elapsed() < QUIESCE_MAX {
            let _ = self.ring.submitter().register_sync_cancel(None, types::CancelBuilder::any());
            let wait = Wait { spin: Duration::ZERO, sleep: Duration::from_millis(1) };
            if self.turn(wait, &|| false).is_err() {
                break;
            }
            while self.next().is_some() {}
        }
        if self.in_flight > 0 {
            mem::forget(mem::take(&mut self.sockets));
            mem::forget(mem::take(&mut self.files));
            mem::forget(Rc::clone(&self.pool));
            mem::forget(mem::take(&mut self.rung));
        }
        let _ = self.ring.submitter().unregister_buf_ring(BUFFER_GROUP);
    }
}
