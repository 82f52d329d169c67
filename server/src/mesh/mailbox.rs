//! One shard's mailbox: many producers, one consumer, one total order.
//!
//! Why own code: promise 1 needs more of a queue than a queue usually tells. A place in the order
//! is taken by one atomic add, apart from the filling of the slot; the consumer can read the tail
//! and so know a position below which everything sent so far stands; and it never passes a place
//! that is taken and not yet filled, so positions are the order in which messages are seen.
//!
//! How: a ring of slots, each a sequence word and a message. Position `p` lives in slot
//! `p mod capacity` and is filled when the slot's sequence word is `p + 1`. The word only ever
//! grows, so the consumer writes nothing into the slots: a line travels once from the producer to
//! the consumer and once back, when the ring comes round.
//!
//! A place is always free, because the capacity is the sum of all producers' credits
//! ([`super::credit`]) and a producer without a credit takes no place. The mailbox does not trust
//! this with memory safety: a producer compares its place with the consumer's head, of which it
//! keeps a copy that it renews once a turn of the ring, and panics before it would overwrite a
//! message. The panic stops the process, as it must: a taken place cannot be given back.
//!
//! Invariants:
//! - `head <= tail <= head + capacity`, but for a producer that is about to panic;
//! - between taking places and filling them a producer runs nothing but moves of finished
//!   messages, so an unfilled place is filled within a few stores;
//! - every operation that takes places, and every [`Receiver::tail`], stands in the single total
//!   order of `SeqCst` operations. So of two workers that each take a place in the other's mailbox
//!   and then read their own tail, at least one sees the other's message below its tail.

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    cell::Cell,
    mem::MaybeUninit,
    ops::Range,
    ptr::NonNull,
};

use super::sync::{
    Arc, AtomicU64, Fault, Ordering, Padded, Planted, UnsafeCell, model_failed, model_fence,
};

#[cfg(all(test, not(feature = "loom")))]
mod tests;

/// Where a message stands in the order of its mailbox: the number of messages before it since the
/// mailbox was made. At a thousand million a second the count would last for 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// What the consumer finds at its head.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// The next message; the head has moved past it.
    Message(T),
    /// The next place is taken and its message will be there within a few stores. Nothing behind
    /// it may be looked at, and nothing that must come after it may be done.
    Unfilled,
    /// No place beyond the head is taken.
    Empty,
}

/// Makes a mailbox of `capacity` places, a power of two.
///
/// Messages should be at most 56 bytes, so that a slot is one cache line.
///
/// # Panics
/// If `capacity` is not a power of two.
pub fn mailbox<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    mailbox_with(capacity, Planted::default())
}

pub(super) fn mailbox_with<T: Send>(capacity: usize, planted: Planted) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        tail: Padded(AtomicU64::new(0)),
        head: Padded(AtomicU64::new(0)),
        slots: Slots::new(capacity),
        planted,
    });
    let sender = Sender { shared: Arc::clone(&shared), head_seen: Cell::new(0) };
    (sender, Receiver { shared, head: 0 })
}

/// A producer's end. It is `Send` and not `Sync`: each worker has its own.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
    /// The consumer's head when last looked at; it has not gone back since.
    head_seen: Cell<u64>,
}

impl<T: Send> Sender<T> {
    /// Sends one message and returns its place.
    ///
    /// # Panics
    /// If no place is free, that is if the caller had no credit for this message.
    #[inline]
    pub fn send(&self, message: T) -> Position {
        let place = self.take(1).start;
        self.fill(place, message);
        Position(place)
    }

    /// Sends messages that stand next to each other in the order, with one atomic add.
    ///
    /// The consumer stands still between that add and the last message: `messages` should only
    /// move out what is complete already, such as the draining of a vector.
    ///
    /// # Panics
    /// If there are fewer free places than messages, or fewer messages than their iterator said.
    #[inline]
    pub fn send_all(&self, messages: impl ExactSizeIterator<Item = T>) -> Range<Position> {
        if messages.len() == 0 {
            let tail = Position(self.shared.tail.0.load(Ordering::SeqCst));
            return tail..tail;
        }
        let places = self.take(messages.len());
        let mut unfilled = places.clone();
        for (place, message) in unfilled.by_ref().zip(messages) {
            self.fill(place, message);
        }
        assert!(unfilled.is_empty(), "an iterator of messages was shorter than it said");
        Position(places.start)..Position(places.end)
    }

    /// The position after the last place that is taken.
    pub fn tail(&self) -> Position {
        Position(self.shared.tail.0.load(Ordering::SeqCst))
    }

    /// Whether the consumer has taken out all messages whose places had been taken before this call,
    /// by the single order of all calls to `send` and `tail`. It reads a line that the consumer
    /// writes with every message: ask it of a consumer that sleeps.
    #[inline]
    pub fn is_drained(&self) -> bool {
        let tail = self.shared.tail.0.load(Ordering::SeqCst);
        self.shared.head.0.load(Ordering::Acquire) == tail
    }

    /// Takes `count` places that stand together. From here on the consumer waits for them.
    fn take(&self, count: usize) -> Range<u64> {
        let capacity = self.shared.slots.capacity();
        assert!(count as u64 <= capacity, "{count} messages for a mailbox of {capacity} places");
        let start = self.shared.tail.0.fetch_add(count as u64, Ordering::SeqCst);
        if !self.shared.planted.is(Fault::UnorderedTake) {
            model_fence();
        }
        let end = start + count as u64;
        if end - self.head_seen.get() > capacity {
            self.renew_head_seen(end);
        }
        start..end
    }

    /// Looks at the consumer's head, which was a turn of the ring ago too low for places up to
    /// `end`. The consumer's Release store of it makes sure that the slots have been read.
    #[cold]
    fn renew_head_seen(&self, end: u64) {
        let capacity = self.shared.slots.capacity();
        let head = self.shared.head.0.load(Ordering::Acquire);
        self.head_seen.set(head);
        assert!(
            end - head <= capacity,
            "a message without a credit was sent to a mailbox of {capacity} places, all taken"
        );
    }

    /// Puts the message into a place that this producer has taken and not filled.
    #[inline(always)]
    fn fill(&self, place: u64, message: T) {
        let slot = self.shared.slots.at(place);
        slot.message.with_mut(|cell| {
            // SAFETY: the add in `take` gave this place to us alone, and `take` saw by an Acquire
            // load of `head` that the consumer has moved the slot's last message out. It will not
            // look into the slot before the store below.
            unsafe { (*cell).write(message) };
        });
        let relaxed = self.shared.planted.is(Fault::RelaxedFill);
        let order = if relaxed { Ordering::Relaxed } else { Ordering::Release };
        slot.sequence.store(place + 1, order);
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender { shared: Arc::clone(&self.shared), head_seen: self.head_seen.clone() }
    }
}

/// The consumer's end.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    head: u64,
}

impl<T: Send> Receiver<T> {
    /// The position after the last place that is taken. Whatever was sent before this call, by the
    /// single order of all calls to `send` and `tail`, stands at a lower position.
    #[inline]
    pub fn tail(&self) -> Position {
        Position(self.shared.tail.0.load(Ordering::SeqCst))
    }

    /// The position of the message that [`Receiver::next`] would return; all before it are taken out.
    #[inline]
    pub fn head(&self) -> Position {
        Position(self.head)
    }

    /// How many places are taken and not yet received, filled or not.
    #[inline]
    pub fn depth(&self) -> usize {
        (self.tail().0 - self.head) as usize
    }

    /// Whether no place beyond the head is taken. Only then may the consumer sleep; a look for
    /// *filled* places would miss a message whose sender is between taking and filling.
    #[inline]
    pub fn is_drained(&self) -> bool {
        self.tail().0 == self.head
    }

    /// Takes the next message out, in the order of positions.
    #[inline]
    #[expect(clippy::should_implement_trait, reason = "an end is not the end of an iteration")]
    pub fn next(&mut self) -> Next<T> {
        let slot = self.shared.slots.at(self.head);
        if slot.sequence.load(Ordering::Acquire) != self.head + 1 {
            return self.next_unfilled_or_empty();
        }
        let message = slot.message.with(|cell| {
            // SAFETY: the sequence word says that the place at `head` is filled; its producer's
            // Release store of the word pairs with our Acquire load. No producer writes the slot
            // again before the store of `head` below, and only this consumer moves `head`, so
            // each message is read out once.
            unsafe { (*cell).assume_init_read() }
        });
        self.advance();
        Next::Message(message)
    }

    fn next_unfilled_or_empty(&mut self) -> Next<T> {
        if self.is_drained() {
            return Next::Empty;
        }
        if self.shared.planted.is(Fault::PassUnfilled) {
            self.head += 1;
        }
        Next::Unfilled
    }

    /// Gives the slot at the head back to the producers.
    #[inline(always)]
    fn advance(&mut self) {
        self.head += 1;
        self.shared.head.0.store(self.head, Ordering::Release);
    }
}

impl<T> Drop for Receiver<T> {
    /// Drops what has arrived at once, as messages may hold what others wait for. What is sent
    /// later is dropped with the last sender.
    fn drop(&mut self) {
        self.shared.drop_filled_from(self.head, |head| {
            self.shared.head.0.store(head, Ordering::Release);
        });
    }
}

struct Shared<T> {
    /// The next place to take: written by every producer.
    tail: Padded<AtomicU64>,
    /// The consumer's head: written by the consumer alone, read once a turn of the ring.
    head: Padded<AtomicU64>,
    slots: Slots<T>,
    planted: Planted,
}

// SAFETY: the message cells are what is not `Sync` here. A cell is reached by the one producer that
// took its place and then, after the sequence word says so, by the one consumer; messages cross
// threads that way, hence `T: Send`.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: it owns its slots and the messages within; nothing in it belongs to a thread.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    /// Drops the messages from `head` on, up to the first place that is not filled. `moved` hears
    /// of each new head before the message is dropped, so that no panic makes it be dropped twice.
    fn drop_filled_from(&self, mut head: u64, moved: impl Fn(u64)) {
        if model_failed() {
            return;
        }
        while self.slots.at(head).sequence.load(Ordering::Acquire) == head + 1 {
            let message = self.slots.at(head).message.with(|cell| {
                // SAFETY: as in `Receiver::next`: the place is filled and nobody else reads it; the
                // callers are the receiver and, when there is none left, the last owner.
                unsafe { (*cell).assume_init_read() }
            });
            head += 1;
            moved(head);
            drop(message);
        }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let head = self.head.0.load(Ordering::Acquire);
        self.drop_filled_from(head, |_| ());
    }
}

/// A slot of the ring. The word stands first, so that with a message of 56 bytes both fill a line.
#[repr(C)]
struct Slot<T> {
    /// One more than the position that was filled here last; zero before the first.
    sequence: AtomicU64,
    message: UnsafeCell<MaybeUninit<T>>,
}

/// The ring, laid out from the start of a cache line.
struct Slots<T> {
    first: NonNull<Slot<T>>,
    /// The capacity less one; the capacity is a power of two.
    mask: u64,
}

impl<T> Slots<T> {
    const LINE: usize = 64;

    fn new(capacity: usize) -> Self {
        assert!(capacity.is_power_of_two(), "a mailbox of {capacity} places, not a power of two");
        let layout = Self::layout(capacity);
        // SAFETY: the layout is not of size zero: there is at least one slot, with its word.
        let Some(first) = NonNull::new(unsafe { alloc(layout) }.cast::<Slot<T>>()) else {
            handle_alloc_error(layout)
        };
        for index in 0..capacity {
            let slot = Slot {
                sequence: AtomicU64::new(0),
                message: UnsafeCell::new(MaybeUninit::uninit()),
            };
            // SAFETY: the allocation holds `capacity` slots and `index` is below that.
            unsafe { first.add(index).write(slot) };
        }
        Slots { first, mask: capacity as u64 - 1 }
    }

    fn layout(capacity: usize) -> Layout {
        Layout::array::<Slot<T>>(capacity)
            .and_then(|layout| layout.align_to(Self::LINE))
            .expect("a mailbox is far smaller than the address space")
    }

    #[inline(always)]
    fn capacity(&self) -> u64 {
        self.mask + 1
    }

    #[inline(always)]
    fn at(&self, position: u64) -> &Slot<T> {
        // SAFETY: the masked index is below the capacity, `new` initialised all slots, and they
        // live as long as `self`.
        unsafe { self.first.add((position & self.mask) as usize).as_ref() }
    }
}

impl<T> Drop for Slots<T> {
    /// Frees the ring. The messages in it are `Shared`'s to drop.
    fn drop(&mut self) {
        let capacity = self.capacity() as usize;
        for index in 0..capacity {
            // SAFETY: `new` initialised the slot, and we are its last user.
            unsafe { self.first.add(index).drop_in_place() };
        }
        // SAFETY: allocated by `new` with this same layout.
        unsafe { dealloc(self.first.as_ptr().cast(), Self::layout(capacity)) };
    }
}
