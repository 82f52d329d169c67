//! Sleeping and waking of workers.
//!
//! Why: waking a sleeping core costs 11 to 13 µs on either side, a message to a busy one a fraction
//! of one. So a worker tells when it sleeps, a sender looks at that flag after it has sent (a load
//! of a line that hardly ever changes) and pays for a wake only if there is a sleeper; and of
//! several senders that see one sleeper, one wakes it.
//!
//! No wake is lost. The sleeper sets the flag and then reads the tail of its mailbox; the sender
//! adds to that tail and then reads the flag. All four are `SeqCst`, so either the sleeper sees
//! the place taken and stays awake, or the sender sees the flag. This is why the sleeper asks
//! [`Receiver::is_drained`](super::mailbox::Receiver::is_drained), for places *taken*: asking for
//! places filled would need a fence of the sender after each filling.

#![forbid(unsafe_code)]

use super::sync::{Arc, AtomicBool, Fault, Ordering, Padded, Planted, model_fence};

/// Makes the two ends of one worker's sleep. `wake` ends the sleep of that worker, from any thread;
/// in production it writes to an eventfd. It may be called when the worker no longer sleeps.
pub fn sleeper(wake: impl Fn() + Send + Sync + 'static) -> (Sleeper, Waker) {
    sleeper_with(wake, Planted::default())
}

pub(super) fn sleeper_with(
    wake: impl Fn() + Send + Sync + 'static,
    planted: Planted,
) -> (Sleeper, Waker) {
    let shared =
        Arc::new(Shared { asleep: Padded(AtomicBool::new(false)), wake: Box::new(wake), planted });
    (Sleeper { shared: Arc::clone(&shared) }, Waker { shared })
}

/// The end of the worker that sleeps.
pub struct Sleeper {
    shared: Arc<Shared>,
}

impl Sleeper {
    /// Announces that this worker sleeps from now on, and returns whether it may.
    ///
    /// `is_idle` is asked after the announcement; it must look at all that senders may have sent
    /// without waking, such as whether the mailbox is drained. If it is not idle the announcement is taken
    /// back.
    #[must_use = "without leave to sleep the worker must look at its mail again"]
    pub fn announce_sleep(&self, is_idle: impl FnOnce() -> bool) -> bool {
        if self.shared.planted.is(Fault::LookThenAnnounce) {
            let idle = is_idle();
            self.shared.asleep.0.store(idle, Ordering::SeqCst);
            return idle;
        }
        // A swap, which costs what a SeqCst store does: it reads the last waker's write, and so
        // this announcement is seen to come after that one by the checker too.
        self.shared.asleep.0.swap(true, Ordering::SeqCst);
        model_fence();
        let idle = is_idle();
        if !idle {
            self.announce_awake();
        }
        idle
    }

    /// Tells that the sleep is over, whatever ended it, so that senders no longer pay for wakes.
    pub fn announce_awake(&self) {
        // Relaxed: a sender that still reads the old flag wakes a worker that is awake, no more.
        self.shared.asleep.0.store(false, Ordering::Relaxed);
    }
}

/// The end of those that send to the worker.
#[derive(Clone)]
pub struct Waker {
    shared: Arc<Shared>,
}

impl Waker {
    /// Wakes the worker if it sleeps. Call it after sending, once for all messages of a round.
    /// Returns whether a wake was paid for.
    #[inline]
    pub fn wake_if_asleep(&self) -> bool {
        // SeqCst, after the add that took the place: see the head of this module.
        self.shared.asleep.0.load(Ordering::SeqCst) && self.wake()
    }

    #[cold]
    fn wake(&self) -> bool {
        let first = self.shared.asleep.0.swap(false, Ordering::SeqCst);
        if first {
            (self.shared.wake)();
        }
        first
    }
}

struct Shared {
    /// Whether the worker has announced that it sleeps, and nobody has woken it since.
    asleep: Padded<AtomicBool>,
    wake: Box<dyn Fn() + Send + Sync>,
    planted: Planted,
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn counted() -> (Sleeper, Waker, Arc<AtomicUsize>) {
        let wakes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&wakes);
        let (sleeper, waker) = sleeper(move || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        (sleeper, waker, wakes)
    }

    #[test]
    fn a_worker_that_is_awake_is_never_woken() {
        let (_sleeper, waker, wakes) = counted();
        assert!(!waker.wake_if_asleep());
        assert_eq!(wakes.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn of_two_senders_one_wakes_the_sleeper() {
        let (sleeper, waker, wakes) = counted();
        assert!(sleeper.announce_sleep(|| true));
        assert!(waker.clone().wake_if_asleep());
        assert!(!waker.wake_if_asleep());
        assert_eq!(wakes.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn mail_found_after_the_announcement_takes_it_back() {
        let (sleeper, waker, wakes) = counted();
        assert!(!sleeper.announce_sleep(|| false));
        assert!(!waker.wake_if_asleep());
        assert_eq!(wakes.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_sleep_that_something_else_ended_costs_no_wake() {
        let (sleeper, waker, _wakes) = counted();
        assert!(sleeper.announce_sleep(|| true));
        sleeper.announce_awake();
        assert!(!waker.wake_if_asleep());
    }
}
