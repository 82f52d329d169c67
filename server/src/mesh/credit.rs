//! Credits: the bound on what one worker may have under way to another.
//!
//! Why: a mailbox must never be full when a place in it is taken. So each producer has, for each
//! consumer, a number of credits, and the mailbox has room for the credits of all. They are plain
//! counters of the producer's thread: a credit comes back with the answer to the message it was
//! spent on, so nothing about it is shared.
//!
//! Why classes: if messages of all kinds drew on one stock, two workers could each wait for the
//! other's credits with requests, while the replies that would give them back find none. Each class
//! has its own stock, and serving a message makes only messages of higher classes, so the highest
//! is always served, then the next, and so on down.
//!
//! Every message but a reply is answered by a reply (a bare "seen" is one too, and one reply may
//! answer several messages). A reply needs no stock of its own: the right to it arrives with the
//! message it answers. The mailbox counts the answers to all that can be under way.
//!
//! Invariant, for each class but replies: credits left + messages not yet answered = the limit.

#![forbid(unsafe_code)]

/// What a message is, from the lowest class to the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Commands of connections. Without credit their connection stops.
    Request,
    /// Steps of transactions over shards.
    Hop,
    /// What tells other workers of effects: served waiters, published messages, invalidations.
    Notification,
    /// Answers to all of these.
    Reply,
}

impl Class {
    /// How many classes there are.
    pub const COUNT: usize = 4;

    /// Whether serving a message of this class may send one of class `other`.
    pub fn may_cause(self, other: Class) -> bool {
        other > self
    }
}

/// How many messages of each class one worker may have unanswered at one other worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of [`Class::Request`].
    pub requests: u16,
    /// Of [`Class::Hop`].
    pub hops: u16,
    /// Of [`Class::Notification`].
    pub notifications: u16,
}

impl Limits {
    const fn by_class(self) -> [u16; Class::COUNT] {
        [self.requests, self.hops, self.notifications, 0]
    }

    /// Places that one producer can fill in one consumer's mailbox: its own messages, and its
    /// answers to as many of the consumer's.
    pub const fn places_a_pair(self) -> usize {
        2 * (self.requests as usize + self.hops as usize + self.notifications as usize)
    }

    /// Capacity of a mailbox with that many producers, in places: enough for all credits, rounded
    /// up to the power of two that a mailbox needs.
    pub fn mailbox_capacity(self, producers: usize) -> usize {
        (self.places_a_pair() * producers).next_power_of_two()
    }
}

impl Default for Limits {
    /// A round sends one request to each shard, and a pipeline of 64 commands over random keys is
    /// about sixteen rounds: with sixteen requests connections stalled in most turns (see
    /// `tuning.md`).
    fn default() -> Self {
        Limits { requests: 64, hops: 16, notifications: 16 }
    }
}

/// One worker's credits for messages to one other worker.
#[derive(Debug)]
pub struct Credits {
    limits: Limits,
    left: [u16; Class::COUNT],
}

impl Credits {
    /// All credits that `limits` give.
    pub fn new(limits: Limits) -> Self {
        Credits { limits, left: limits.by_class() }
    }

    /// Spends a credit on a message of this class. Without one it returns false, and nothing may be sent.
    #[must_use = "without a credit no place may be taken"]
    #[inline]
    pub fn take(&mut self, class: Class) -> bool {
        let left = &mut self.left[class as usize];
        let some = *left > 0;
        *left -= u16::from(some);
        some
    }

    /// How many messages of this class may be sent now.
    #[inline]
    pub fn left(&self, class: Class) -> u16 {
        self.left[class as usize]
    }

    /// Notes that a message of this class came from the other worker: it gives the right to one reply.
    ///
    /// # Panics
    /// If more messages came than the other worker's credits allow.
    #[inline]
    pub fn received(&mut self, class: Class) {
        if class == Class::Reply {
            return;
        }
        self.left[Class::Reply as usize] += 1;
        assert!(
            usize::from(self.left(Class::Reply)) * 2 <= self.limits.places_a_pair(),
            "more messages came from a worker than it has credits"
        );
    }

    /// Spends the rights of `answered` messages on one reply that answers them all.
    ///
    /// # Panics
    /// If fewer messages wait for an answer.
    #[inline]
    pub fn take_reply(&mut self, answered: u16) {
        let owed = &mut self.left[Class::Reply as usize];
        assert!(answered > 0 && answered <= *owed, "a reply to messages that were not received");
        *owed -= answered;
    }

    /// Takes back the credits of `answered` messages of this class, as their reply has come.
    ///
    /// # Panics
    /// If fewer were spent: the mailbox would be too small for the credits.
    #[inline]
    pub fn give_back(&mut self, class: Class, answered: u16) {
        let left = &mut self.left[class as usize];
        *left += answered;
        assert!(
            *left <= self.limits.by_class()[class as usize],
            "more {class:?} credits came back than were spent"
        );
    }

    /// Whether nothing is under way in either direction.
    pub fn is_quiet(&self) -> bool {
        self.left == self.limits.by_class()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { requests: 2, hops: 1, notifications: 1 };

    #[test]
    fn a_class_ends_with_its_own_credits_and_leaves_the_others_alone() {
        let mut credits = Credits::new(LIMITS);
        assert!(credits.take(Class::Request));
        assert!(credits.take(Class::Request));
        assert!(!credits.take(Class::Request));
        assert!(credits.take(Class::Hop));
        assert_eq!(credits.left(Class::Notification), 1);
        credits.give_back(Class::Request, 2);
        assert!(credits.take(Class::Request));
    }

    #[test]
    fn a_reply_needs_a_message_that_it_answers() {
        let mut credits = Credits::new(LIMITS);
        assert!(!credits.take(Class::Reply));
        credits.received(Class::Request);
        credits.received(Class::Notification);
        assert!(!credits.is_quiet());
        credits.take_reply(2);
        assert!(credits.is_quiet());
    }

    #[test]
    #[should_panic(expected = "more Hop credits came back")]
    fn a_credit_that_was_never_spent_does_not_come_back() {
        Credits::new(LIMITS).give_back(Class::Hop, 1);
    }

    #[test]
    #[should_panic(expected = "more messages came")]
    fn a_worker_that_sends_beyond_its_credits_is_found_out() {
        let mut credits = Credits::new(LIMITS);
        (0..5).for_each(|_| credits.received(Class::Request));
    }

    #[test]
    fn serving_makes_only_higher_classes() {
        assert!(Class::Request.may_cause(Class::Hop));
        assert!(Class::Notification.may_cause(Class::Reply));
        assert!(!Class::Hop.may_cause(Class::Hop));
        assert!(!Class::Reply.may_cause(Class::Request));
    }

    #[test]
    fn a_mailbox_has_room_for_all_credits_and_all_answers() {
        assert_eq!(LIMITS.places_a_pair(), 8);
        assert_eq!(LIMITS.mailbox_capacity(3), 32);
    }
}
