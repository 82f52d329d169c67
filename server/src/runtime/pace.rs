//! How a worker waits: polling, sleeping in its ring, or parked in the executor.
//!
//! - While background tasks can run, the worker never sleeps: it serves what is there and yields to the
//!   executor.
//! - Otherwise it sleeps in its ring, where sockets, the doorbell and the time end its sleep. Before that
//!   it polls for a while, if there are other workers that would have to wake it and the last waits were short
//!   enough for that to pay: to sleep and be woken costs 11 to 13 µs of CPU on either side. Others need
//!   not wake one that has left its shard to them (see `guests`), so that one does not poll.
//! - That replies have left is no reason to wake the worker: it sleeps on.
//! - While background tasks live and wait for files or timers of the executor, sleeping in the ring would
//!   not see those. The worker naps in its ring as long as traffic flows or it has work of its own, and
//!   when there is none it parks in the executor, which is woken by an eventfd that the ring signals.
//!
//! Nothing here wakes up periodically while the server is idle.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io, mem,
    os::fd::{FromRawFd, IntoRawFd},
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use glommio::io::BufferedFile;

use super::{background::Background, executor::WorkerContext, ring::Wait, wake::Mail};
use crate::net::Network;

/// How long a worker polls before it sleeps, at most. `tuning.md` has the measurement.
pub const SPIN_MAX: Duration = Duration::from_micros(12);
/// Polling pays while waits are shorter than this on average.
pub const SPIN_WAIT_MAX: Duration = Duration::from_micros(10);
/// How long a worker with background tasks that wait sleeps in its ring before it looks after them.
pub const NAP: Duration = Duration::from_millis(1);
/// How long runnable background tasks wait for their turn while traffic flows.
pub const YIELD_INTERVAL: Duration = Duration::from_micros(250);

/// Decides how one worker waits.
pub struct Pacer {
    background: Background,
    spin: Spin,
    yielded: Instant,
    /// How long background tasks have had the core in the last turn.
    yielded_for: Duration,
    /// Whether the last turn brought something.
    busy: bool,
    park: Option<Park>,
}

impl Pacer {
    /// The pace of this worker. It polls only if it has a CPU of its own and
    /// other workers that would have to wake it: sockets alone are no reason.
    pub fn new(context: &WorkerContext) -> Pacer {
        Pacer {
            background: context.background.clone(),
            spin: Spin {
                allowed: context.cpu.is_some() && context.workers > 1,
                mean: Duration::ZERO,
            },
            yielded: Instant::now(),
            yielded_for: Duration::ZERO,
            busy: false,
            park: None,
        }
    }

    /// Polls the network once, and waits until there is something to do: an event, mail, or the
    /// deadline. Background tasks get their turn meanwhile. It may return with nothing to do.
    pub async fn turn<S: Default>(
        &mut self,
        network: &mut Network<S>,
        mail: &impl Mail,
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        if self.background.alive() == 0 {
            self.wait_in_ring(network, mail, limit_of(deadline))?;
        } else if self.background.runnable() > 0 {
            network.poll(Wait::NONE, mail)?;
            self.busy = network.is_busy() || mail.has_mail();
            if !self.busy || self.yielded.elapsed() >= YIELD_INTERVAL {
                self.yield_now().await;
            }
        } else if self.busy || limit_of(deadline).is_zero() {
            self.wait_in_ring(network, mail, limit_of(deadline).min(NAP))?;
            if self.yielded.elapsed() >= NAP {
                self.yield_now().await;
            }
        } else {
            self.wait_parked(network, mail, limit_of(deadline)).await?;
        }
        Ok(())
    }

    fn wait_in_ring<S: Default>(
        &mut self,
        network: &mut Network<S>,
        mail: &impl Mail,
        sleep: Duration,
    ) -> io::Result<()> {
        if network.is_busy() || mail.has_mail() || sleep.is_zero() {
            self.busy = true;
            return network.poll(Wait::NONE, mail);
        }
        let spin = if mail.is_needed() { self.spin.duration() } else { Duration::ZERO };
        let start = Instant::now();
        let mut left = sleep;
        loop {
            network.poll(Wait { spin: spin.min(left), sleep: left }, mail)?;
            self.busy = network.is_busy() || mail.has_mail();
            if self.busy || !network.has_only_sent() {
                break;
            }
            if sleep != Duration::MAX {
                left = sleep.saturating_sub(start.elapsed());
            }
        }
        self.spin.waited(start.elapsed());
        Ok(())
    }

    /// How long background tasks have had the core since this was asked last.
    #[inline]
    pub fn take_yielded(&mut self) -> Duration {
        mem::take(&mut self.yielded_for)
    }

    async fn yield_now(&mut self) {
        let start = Instant::now();
        glommio::executor().yield_task_queue_now().await;
        self.yielded = Instant::now();
        self.yielded_for += self.yielded - start;
    }

    async fn wait_parked<S: Default>(
        &mut self,
        network: &mut Network<S>,
        mail: &impl Mail,
        limit: Duration,
    ) -> io::Result<()> {
        let park = match &self.park {
            Some(park) => park,
            None => self.park.insert(Park::new(network)?),
        };
        let outcome = network.begin_park(mail);
        if matches!(outcome, Ok(true)) {
            park.sleep(limit).await;
        }
        network.end_park(mail);
        outcome?;
        network.poll(Wait::NONE, mail)?;
        self.busy = network.is_busy() || mail.has_mail();
        self.yielded = Instant::now();
        Ok(())
    }
}

fn limit_of(deadline: Option<Instant>) -> Duration {
    deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()))
}

/// How long to poll before sleeping, by how long the last waits were.
#[derive(Debug)]
struct Spin {
    allowed: bool,
    /// Moving average of the waits.
    mean: Duration,
}

impl Spin {
    fn duration(&self) -> Duration {
        if self.allowed && self.mean <= SPIN_WAIT_MAX { SPIN_MAX } else { Duration::ZERO }
    }

    fn waited(&mut self, wait: Duration) {
        // One long pause must not weigh for ever.
        let wait = wait.min(8 * SPIN_WAIT_MAX);
        self.mean = (self.mean * 7 + wait) / 8;
    }
}

/// Sleeping in the executor until the ring's event is signalled.
struct Park {
    signal: Rc<Signal>,
}

#[derive(Default)]
struct Signal {
    raised: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Park {
    /// Registers an event with the ring, and reads it in a task of the executor from now on.
    fn new<S: Default>(network: &mut Network<S>) -> io::Result<Park> {
        let event = network.register_park_event()?;
        let signal = Rc::new(Signal::default());
        // SAFETY: the descriptor is ours alone and is given up here.
        let event = unsafe { BufferedFile::from_raw_fd(event.into_raw_fd()) };
        let raised = Rc::clone(&signal);
        glommio::spawn_local(async move {
            while event.read_at(0, 8).await.is_ok() {
                raised.raised.set(true);
                if let Some(waker) = raised.waker.take() {
                    waker.wake();
                }
            }
        })
        .detach();
        Ok(Park { signal })
    }

    async fn sleep(&self, limit: Duration) {
        let mut timer = pin!(async move {
            if limit == Duration::MAX {
                std::future::pending::<()>().await;
            }
            glommio::timer::sleep(limit).await;
        });
        poll_fn(|context| {
            if self.signal.raised.take() || timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            *self.signal.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        self.signal.waker.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polling_pays_only_while_waits_are_short() {
        let mut spin = Spin { allowed: true, mean: Duration::ZERO };
        assert_eq!(spin.duration(), SPIN_MAX);
        (0..20).for_each(|_| spin.waited(Duration::from_millis(5)));
        assert_eq!(spin.duration(), Duration::ZERO);
        (0..30).for_each(|_| spin.waited(Duration::from_micros(3)));
        assert_eq!(spin.duration(), SPIN_MAX);
    }

    #[test]
    fn a_worker_that_shares_its_cpu_never_polls() {
        let spin = Spin { allowed: false, mean: Duration::ZERO };
        assert_eq!(spin.duration(), Duration::ZERO);
    }
}
