//! Background tasks of one worker: work in slices that must not delay requests, such as active
//! expiry, freeing large values and snapshots.
//!
//! Why a count of our own: the worker's loop sleeps in its ring, where the executor cannot run
//! tasks, and glommio cannot be asked whether it has any. So each task is wrapped: its waker counts it as
//! runnable when it is woken, and its poll takes it off the count.
//!
//! Invariant: `runnable` counts the tasks that are woken and have not been polled since; `alive`
//! those that are spawned and have not ended.

#![forbid(unsafe_code)]

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use glommio::{Latency, Shares, TaskQueueHandle};

/// Shares of the background against the 1,000 of the foreground, when both want the whole core.
const BACKGROUND_SHARES: usize = 100;

/// Spawns background tasks on the executor of this thread. Clones spawn into the same queue.
#[derive(Clone, Debug)]
pub struct Background {
    queue: TaskQueueHandle,
    counts: Rc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Shared with wakers, which other threads may use.
    runnable: Arc<AtomicUsize>,
    alive: Cell<usize>,
}

impl Background {
    /// Makes the background queue. Call it within an executor, once.
    pub(super) fn new() -> Background {
        let shares = Shares::Static(BACKGROUND_SHARES);
        let queue =
            glommio::executor().create_task_queue(shares, Latency::NotImportant, "background");
        Background { queue, counts: Rc::default() }
    }

    /// Runs `task` in the background until it ends. It should [`yield_now`] at least every 0.5 ms.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let task = Counted::new(Box::pin(task), Rc::clone(&self.counts));
        glommio::spawn_local_into(task, self.queue)
            .expect("the queue was made by this executor and is never removed")
            .detach();
    }

    /// Tasks that could run now.
    #[inline]
    pub fn runnable(&self) -> usize {
        self.counts.runnable.load(Ordering::Relaxed)
    }

    /// Tasks that have not ended.
    #[inline]
    pub fn alive(&self) -> usize {
        self.counts.alive.get()
    }
}

/// Ends the slice of a background task, so that requests and other tasks get their turn.
pub async fn yield_now() {
    glommio::yield_if_needed().await;
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Lets a background task rest.
pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

/// A task with its account.
struct Counted<F> {
    task: Pin<Box<F>>,
    counts: Rc<Counts>,
    waker: Option<(Arc<CountingWaker>, Waker)>,
}

/// Counts the task as runnable once, then wakes it.
struct CountingWaker {
    scheduled: AtomicBool,
    runnable: Arc<AtomicUsize>,
    /// The executor's waker. It hardly ever changes and is hardly ever contended.
    inner: Mutex<Option<Waker>>,
}

impl<F: Future<Output = ()>> Counted<F> {
    fn new(task: Pin<Box<F>>, counts: Rc<Counts>) -> Counted<F> {
        counts.alive.set(counts.alive.get() + 1);
        counts.runnable.fetch_add(1, Ordering::Relaxed);
        let counting = Arc::new(CountingWaker {
            scheduled: AtomicBool::new(true),
            runnable: Arc::clone(&counts.runnable),
            inner: Mutex::new(None),
        });
        let waker = Waker::from(Arc::clone(&counting));
        Counted { task, counts, waker: Some((counting, waker)) }
    }
}

impl<F: Future<Output = ()>> Future for Counted<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some((counting, waker)) = &this.waker else { return Poll::Ready(()) };
        counting.adopt(context.waker());
        counting.begin();
        let polled = this.task.as_mut().poll(&mut Context::from_waker(waker));
        if polled.is_ready() {
            this.retire();
        }
        polled
    }
}

impl<F> Counted<F> {
    fn retire(&mut self) {
        if let Some((counting, _)) = self.waker.take() {
            counting.finish();
            self.counts.alive.set(self.counts.alive.get() - 1);
        }
    }
}

impl<F> Drop for Counted<F> {
    fn drop(&mut self) {
        self.retire();
    }
}

impl CountingWaker {
    /// Remembers the waker of the executor.
    fn adopt(&self, waker: &Waker) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *inner = Some(waker.clone());
        }
    }

    /// Takes the task off the count, as it runs now.
    fn begin(&self) {
        if self.scheduled.swap(false, Ordering::AcqRel) {
            self.runnable.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes the task off the count for good, whatever wakes it later.
    fn finish(&self) {
        if !self.scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        self.runnable.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        self.runnable.fetch_add(1, Ordering::Relaxed);
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(inner) = inner {
            inner.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll<F: Future<Output = ()>>(task: &mut Counted<F>) -> Poll<()> {
        Pin::new(task).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn counts_of(counts: &Counts) -> (usize, usize) {
        (counts.runnable.load(Ordering::Relaxed), counts.alive.get())
    }

    #[test]
    fn a_task_is_runnable_from_its_wake_to_its_poll() {
        let counts = Rc::new(Counts::default());
        let mut kept: Option<Waker> = None;
        let mut polls = 0;
        let mut task = Counted::new(
            Box::pin(std::future::poll_fn(|context| {
                kept = Some(context.waker().clone());
                polls += 1;
                if polls < 3 { Poll::Pending } else { Poll::Ready(()) }
            })),
            Rc::clone(&counts),
        );
        assert_eq!(counts_of(&counts), (1, 1));
        assert!(poll(&mut task).is_pending());
        assert_eq!(counts_of(&counts), (0, 1));
        let waker = task.waker.as_ref().expect("alive").1.clone();
        waker.wake_by_ref();
        waker.wake_by_ref();
        assert_eq!(counts_of(&counts), (1, 1));
        assert!(poll(&mut task).is_pending());
        assert!(poll(&mut task).is_ready());
        assert_eq!(counts_of(&counts), (0, 0));
        waker.wake();
        drop(task);
        assert_eq!(counts_of(&counts), (0, 0));
        assert!(kept.is_some());
    }

    #[test]
    fn a_task_dropped_while_runnable_is_taken_off_the_count() {
        let counts = Rc::new(Counts::default());
        drop(Counted::new(Box::pin(async {}), Rc::clone(&counts)));
        assert_eq!(counts_of(&counts), (0, 0));
    }
}
