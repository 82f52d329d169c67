//! Tests of the mailbox on one thread, and under load on several.

use std::{collections::VecDeque, thread};

use proptest::prelude::*;

use super::*;

#[test]
fn messages_arrive_in_the_order_of_their_positions() {
    let (sender, mut receiver) = mailbox(4);
    assert_eq!(sender.send('a'), Position(0));
    assert_eq!(sender.send_all("bc".chars().collect::<Vec<_>>().into_iter()).end, Position(3));
    assert_eq!(receiver.depth(), 3);
    for (place, letter) in ['a', 'b', 'c'].into_iter().enumerate() {
        assert_eq!(receiver.head(), Position(place as u64));
        assert_eq!(receiver.next(), Next::Message(letter));
    }
    assert_eq!(receiver.next(), Next::Empty);
    assert!(receiver.is_drained());
}

#[test]
fn sending_nothing_takes_no_place() {
    let (sender, mut receiver) = mailbox::<u8>(2);
    assert_eq!(sender.send_all([].into_iter()), Position(0)..Position(0));
    assert_eq!(receiver.next(), Next::Empty);
}

#[test]
fn the_consumer_waits_at_a_place_that_is_taken_and_not_filled() {
    let (first, mut receiver) = mailbox(8);
    let second = first.clone();
    let place = first.take(2);
    second.send(7);
    assert_eq!(receiver.tail(), Position(3));
    assert_eq!(receiver.next(), Next::Unfilled);
    first.fill(place.start + 1, 6);
    assert_eq!(receiver.next(), Next::Unfilled);
    first.fill(place.start, 5);
    for message in 5..=7 {
        assert_eq!(receiver.next(), Next::Message(message));
    }
    assert_eq!(receiver.next(), Next::Empty);
}

#[test]
fn a_taken_place_forbids_sleep_even_unfilled() {
    let (sender, receiver) = mailbox::<u8>(2);
    let _place = sender.take(1);
    assert!(!receiver.is_drained());
}

#[test]
#[should_panic(expected = "without a credit")]
fn a_message_too_many_is_refused_and_overwrites_nothing() {
    let (sender, _receiver) = mailbox(2);
    for message in 0..3 {
        sender.send(message);
    }
}

#[test]
#[should_panic(expected = "not a power of two")]
fn the_capacity_is_a_power_of_two() {
    let _ends = mailbox::<u8>(3);
}

#[test]
#[should_panic(expected = "5 messages for a mailbox of 4")]
fn a_batch_fits_the_mailbox() {
    let (sender, _receiver) = mailbox(4);
    sender.send_all([0; 5].into_iter());
}

#[test]
fn a_slot_with_a_message_of_56_bytes_is_one_cache_line() {
    assert_eq!(size_of::<Slot<[u64; 7]>>(), 64);
    let (sender, _receiver) = mailbox::<[u64; 7]>(4);
    assert_eq!(sender.shared.slots.first.as_ptr().addr() % 64, 0);
}

#[test]
fn undelivered_messages_are_dropped_with_the_receiver() {
    let count = Arc::new(());
    let (sender, mut receiver) = mailbox(4);
    sender.send_all((0..3).map(|_| Arc::clone(&count)));
    drop(receiver.next());
    assert_eq!(Arc::strong_count(&count), 3);
    drop(receiver);
    assert_eq!(Arc::strong_count(&count), 1);
}

#[test]
fn messages_sent_to_nobody_are_dropped_with_the_last_sender() {
    let count = Arc::new(());
    let (sender, receiver) = mailbox(4);
    drop(receiver);
    sender.send(Arc::clone(&count));
    let other = sender.clone();
    drop(sender);
    assert_eq!(Arc::strong_count(&count), 2);
    drop(other);
    assert_eq!(Arc::strong_count(&count), 1);
}

proptest! {
    /// Sends and receives of one thread do what a plain queue does, over many turns of the ring.
    #[test]
    fn a_mailbox_is_a_queue(steps in prop::collection::vec((any::<bool>(), 1usize..5), 1..300)) {
        let (sender, mut receiver) = mailbox(8);
        let (mut model, mut sent) = (VecDeque::new(), 0u32);
        for (sends, count) in steps {
            for _ in 0..count {
                if sends && model.len() < 8 {
                    prop_assert_eq!(sender.send(sent), Position(u64::from(sent)));
                    model.push_back(sent);
                    sent += 1;
                } else if !sends {
                    let expected = model.pop_front().map_or(Next::Empty, Next::Message);
                    prop_assert_eq!(receiver.next(), expected);
                }
            }
            prop_assert_eq!(receiver.depth(), model.len());
        }
    }
}

/// Producers with credits of their own send batches of one to three; the consumer gives the credits
/// back. It must see every position once, and each producer's messages in its order.
#[test]
fn threads_agree_on_one_order_and_lose_nothing() {
    const PRODUCERS: usize = 3;
    const CREDITS: usize = 5;
    const EACH: u64 = 30_000;
    let (sender, mut receiver) = mailbox::<(usize, u64)>(16);
    let credits: Vec<_> = (0..PRODUCERS).map(|_| std::sync::mpsc::channel::<()>()).collect();
    let (returns, stocks): (Vec<_>, Vec<_>) = credits.into_iter().unzip();
    returns.iter().for_each(|credit| (0..CREDITS).for_each(|_| credit.send(()).unwrap()));

    thread::scope(|scope| {
        for (producer, stock) in stocks.into_iter().enumerate() {
            let sender = sender.clone();
            scope.spawn(move || {
                let mut sent = 0;
                while sent < EACH {
                    let batch = (sent % 3 + 1).min(EACH - sent);
                    (0..batch).for_each(|_| stock.recv().unwrap());
                    let messages: Vec<_> = (sent..sent + batch).map(|n| (producer, n)).collect();
                    let places = sender.send_all(messages.into_iter());
                    assert_eq!(places.end.0 - places.start.0, batch);
                    sent += batch;
                }
            });
        }
        let mut next = [0; PRODUCERS];
        while receiver.head().0 < PRODUCERS as u64 * EACH {
            match receiver.next() {
                Next::Message((producer, number)) => {
                    assert_eq!(number, next[producer]);
                    next[producer] += 1;
                    // The producer may have sent its last message and gone.
                    let _ = returns[producer].send(());
                }
                Next::Unfilled | Next::Empty => thread::yield_now(),
            }
        }
        assert_eq!(next, [EACH; PRODUCERS]);
    });
    assert_eq!(receiver.next(), Next::Empty);
}
