//! Model checks of mailbox and sleep: loom runs each of these over all interleavings of a few
//! preemptions, and over all values that the memory model lets a load return. Run them with
//! `cargo test -p tessera-server --features loom --lib -- mesh::model`.
//!
//! Each property has a twin with a planted fault to which the checker must object.

use loom::{
    sync::{
        Arc, Notify,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    berth::Berth,
    checker::{SOUND, check, planted},
    mailbox::{Next, Position, Receiver, mailbox_with},
    sync::{Fault, Planted},
    wake::sleeper_with,
};

/// Receives up to that position; what it returns is in the order of arrival.
fn receive_to<T: Send>(receiver: &mut Receiver<T>, end: Position) -> Vec<(Position, T)> {
    let mut received = Vec::new();
    while receiver.head() < end {
        let place = receiver.head();
        match receiver.next() {
            Next::Message(message) => received.push((place, message)),
            Next::Unfilled | Next::Empty => thread::yield_now(),
        }
    }
    received
}

/// Two producers, one of them with a batch: everything arrives once, at the position that its
/// producer was told, and so in an order on which all agree.
fn two_producers(planted: Planted) {
    check(move || {
        let (sender, mut receiver) = mailbox_with(4, planted);
        let batch = sender.clone();
        let one = thread::spawn(move || vec![(sender.send(10), 10)]);
        let other = thread::spawn(move || {
            let places = batch.send_all([20, 21].into_iter());
            vec![(places.start, 20), (Position(places.end.0 - 1), 21)]
        });
        let received = receive_to(&mut receiver, Position(3));
        let mut sent = one.join().unwrap();
        sent.extend(other.join().unwrap());
        sent.sort_unstable();
        assert_eq!(received, sent, "what arrived is not what was sent");
        assert_eq!(receiver.next(), Next::Empty);
    });
}

#[test]
fn producers_and_consumer_agree_on_one_order() {
    two_producers(SOUND);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_relaxed_fill_is_found() {
    two_producers(planted(Fault::RelaxedFill));
}

#[test]
#[should_panic(expected = "what arrived is not what was sent")]
fn passing_an_unfilled_place_is_found() {
    two_producers(planted(Fault::PassUnfilled));
}

/// One producer sends through both slots on credits of its own and then once more on a credit that
/// came back. Nothing orders the consumer's reading of a slot before its next filling but the way
/// of the credit, which another producer's place may have come between.
fn slots_used_again(waits_for_credit: bool) {
    check(move || {
        let (sender, mut receiver) = mailbox_with(2, SOUND);
        let (returned, credit) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let other = sender.clone();
        let (wait, credit_seen) = (Arc::clone(&returned), Arc::clone(&credit));
        let producer = thread::spawn(move || {
            sender.send(0);
            while waits_for_credit && credit_seen.load(Ordering::Acquire) == 0 {
                wait.wait();
            }
            sender.send(1);
        });
        let third = thread::spawn(move || _ = other.send(7));
        let (mut next, mut others) = (0, 0);
        while (next, others) != (2, 1) {
            match receiver.next() {
                Next::Message(7) => others += 1,
                Next::Message(number) => {
                    assert_eq!(number, next);
                    next += 1;
                    credit.store(next, Ordering::Release);
                    returned.notify();
                }
                Next::Unfilled | Next::Empty => thread::yield_now(),
            }
        }
        producer.join().unwrap();
        third.join().unwrap();
    });
}

#[test]
fn a_slot_is_used_again_after_its_message_was_read() {
    slots_used_again(true);
}

#[test]
#[should_panic(expected = "without a credit")]
fn a_message_without_credit_is_found() {
    slots_used_again(false);
}

/// Two workers send to each other and then read their own tail: at least one must see the other's
/// message. Else each could run a command of its own that the other's should have preceded.
fn tails_after_sends(planted: Planted) {
    check(move || {
        let (to_one, one) = mailbox_with(2, planted);
        let (to_two, two) = mailbox_with(2, planted);
        let other = thread::spawn(move || {
            to_one.send(());
            (two.tail(), two)
        });
        to_two.send(());
        let own = one.tail();
        let (others, _two) = other.join().unwrap();
        assert!(own > Position(0) || others > Position(0), "neither saw the other's message");
    });
}

#[test]
fn of_two_who_send_and_look_one_sees_the_other() {
    tails_after_sends(SOUND);
}

#[test]
#[should_panic(expected = "neither saw the other's message")]
fn an_unordered_take_is_found() {
    tails_after_sends(planted(Fault::UnorderedTake));
}

/// Whoever finds its place in one mailbox behind another's, finds in its own mailbox whatever the
/// other sent there before.
#[test]
fn what_was_sent_before_a_lower_place_is_below_the_tail() {
    check(|| {
        let (to_own, own) = mailbox_with(2, SOUND);
        let (to_third, _third) = mailbox_with(2, SOUND);
        let mine = to_third.clone();
        let other = thread::spawn(move || {
            let sent = to_own.send("cause");
            (sent, to_third.send("effect"))
        });
        let place = mine.send("mine");
        let tail = own.tail();
        let (cause, effect) = other.join().unwrap();
        assert!(place < effect || cause < tail);
    });
}

/// A consumer that sleeps whenever it may, and a producer that wakes it only when it sleeps. A lost
/// wake is a deadlock, which loom reports.
fn sleeping(planted: Planted, looks_after_sending: bool) {
    check(move || {
        let (sender, mut receiver) = mailbox_with(2, planted);
        let bell = Arc::new(Notify::new());
        let ring = Arc::clone(&bell);
        let (sleeper, waker) = sleeper_with(move || ring.notify(), planted);
        let producer = thread::spawn(move || {
            for message in 0..2 {
                if !looks_after_sending {
                    waker.wake_if_asleep();
                }
                sender.send(message);
                if looks_after_sending {
                    waker.wake_if_asleep();
                }
            }
        });
        let mut received = 0;
        while received < 2 {
            match receiver.next() {
                Next::Message(message) => {
                    assert_eq!(message, received);
                    received += 1;
                }
                Next::Unfilled => thread::yield_now(),
                Next::Empty => {
                    if sleeper.announce_sleep(|| receiver.is_drained()) {
                        bell.wait();
                        sleeper.announce_awake();
                    }
                }
            }
        }
        producer.join().unwrap();
    });
}

#[test]
fn no_wake_is_lost() {
    sleeping(SOUND, true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn looking_for_mail_before_the_announcement_is_found() {
    sleeping(planted(Fault::LookThenAnnounce), true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_take_that_the_sleeper_may_miss_is_found() {
    sleeping(planted(Fault::UnorderedTake), true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn looking_for_a_sleeper_before_sending_is_found() {
    sleeping(SOUND, false);
}

/// The consumer goes while a producer still sends: each message is dropped once, wherever it was.
#[test]
fn messages_of_a_consumer_that_goes_are_dropped() {
    check(|| {
        let (sender, mut receiver) = mailbox_with(4, SOUND);
        let message = Arc::new(());
        let copies = [Arc::clone(&message), Arc::clone(&message)];
        let producer = thread::spawn(move || _ = sender.send_all(copies.into_iter()));
        let received = receiver.next();
        drop(receiver);
        drop(received);
        producer.join().unwrap();
        assert_eq!(Arc::strong_count(&message), 1);
    });
}

/// An owner leaves a number in its berth and wants it back, while another worker adds to it, and
/// wakes the owner if it waits for it.
fn berth(planted: Planted) {
    check(move || {
        let berth = Arc::new(Berth::with(planted));
        let wakes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&wakes);
        let (sleeper, waker) =
            sleeper_with(move || _ = count.fetch_add(1, Ordering::Relaxed), SOUND);
        let others = Arc::clone(&berth);
        let borrower = thread::spawn(move || {
            let Some(mut number) = others.borrow() else { return 0 };
            *number += 1;
            if others.give_back(number) {
                waker.wake_if_asleep();
            }
            1
        });
        berth.offer(Box::new(1));
        let mut number = berth.reclaim();
        let sleeps = number.is_none() && sleeper.announce_sleep(|| !berth.is_back());
        let added = borrower.join().unwrap();
        assert!(!sleeps || wakes.load(Ordering::Relaxed) > 0, "the owner sleeps for ever");
        if number.is_none() {
            number = berth.reclaim();
        }
        assert_eq!(number.as_deref(), Some(&(1 + added)));
    });
}

#[test]
fn what_lies_in_a_berth_comes_back_whole() {
    berth(SOUND);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_borrow_that_acquires_nothing_is_found() {
    berth(planted(Fault::RelaxedBorrow));
}

#[test]
#[should_panic(expected = "the owner sleeps for ever")]
fn offering_what_its_owner_wants_is_found() {
    berth(planted(Fault::OfferWanted));
}

/// The owner of a berth wakes, finds it lent and sets a message aside, as it cannot be executed. The
/// borrower must not take the empty mailbox for a sign that nothing stands before its own command.
fn set_aside(looks_at_the_mailbox_first: bool) {
    check(move || {
        let (sender, mut receiver) = mailbox_with(2, SOUND);
        let berth = Arc::new(Berth::with(SOUND));
        berth.offer(Box::new(()));
        let lent = berth.borrow().expect("it is offered");
        sender.send(());
        let owners = Arc::clone(&berth);
        let owner = thread::spawn(move || {
            assert!(owners.reclaim().is_none());
            assert_eq!(receiver.next(), Next::Message(()));
        });
        let goes_on = match looks_at_the_mailbox_first {
            true => sender.is_drained() && !berth.is_wanted(),
            false => !berth.is_wanted() && sender.is_drained(),
        };
        assert!(!goes_on, "the borrower passes a message that was set aside");
        owner.join().unwrap();
        assert!(berth.give_back(lent));
    });
}

#[test]
fn a_borrower_sees_that_something_was_set_aside() {
    set_aside(true);
}

#[test]
#[should_panic(expected = "was set aside")]
fn looking_at_the_berth_before_the_mailbox_is_found() {
    set_aside(false);
}
