//! The mesh: how workers talk to each other, and nothing else that they share.
//!
//! Each worker has one [`mailbox`] with a total order of what all others send to it, [`credit`]s
//! that make sure of a place in each other mailbox, a way to sleep and be woken ([`wake`]), and a
//! place to leave its shard at between its turns ([`berth`]).
//! What the messages say is the business of `parcel`, in which order they are sent that of `dispatch`.
//!
//! Invariant: a worker sends to a mailbox only through its [`Peer`], which spends a credit first.

#[allow(unsafe_code)]
pub mod berth;
#[cfg(all(test, feature = "loom"))]
pub(crate) mod checker;
pub mod credit;
#[allow(unsafe_code)]
pub mod mailbox;
#[cfg(all(test, feature = "loom"))]
mod model;
pub(crate) mod sync;
pub mod wake;

use credit::{Class, Credits, Limits};
use mailbox::{Position, Receiver, Sender, mailbox};
use wake::{Sleeper, Waker, sleeper};

/// What one worker holds of the mesh.
pub struct Endpoint<T> {
    /// What the others send to this worker.
    pub mail: Receiver<T>,
    /// Says when this worker sleeps.
    pub sleeper: Sleeper,
    /// The other workers by number. The own place is there too and is not used: what a worker has
    /// to do itself, it does itself.
    pub peers: Vec<Peer<T>>,
}

/// Another worker, as one worker sees it.
pub struct Peer<T> {
    sender: Sender<T>,
    waker: Waker,
    /// What may be sent to it now.
    pub credits: Credits,
}

impl<T: Send> Peer<T> {
    /// Sends one message of this class, or gives it back if there is no credit for it. The other
    /// worker is not woken yet.
    #[inline]
    pub fn send(&mut self, class: Class, message: T) -> Result<Position, T> {
        if self.credits.take(class) { Ok(self.sender.send(message)) } else { Err(message) }
    }

    /// Sends one reply that answers that many messages received from the other worker.
    ///
    /// # Panics
    /// If fewer messages wait for an answer.
    #[inline]
    pub fn reply(&mut self, answered: u16, message: T) -> Position {
        self.credits.take_reply(answered);
        self.sender.send(message)
    }

    /// Where the other worker's mailbox ends now.
    pub fn tail(&self) -> Position {
        self.sender.tail()
    }

    /// Whether the other worker has taken out all that was sent to it (see [`Sender::is_drained`]).
    #[inline]
    pub fn is_drained(&self) -> bool {
        self.sender.is_drained()
    }

    /// Wakes the other worker if it sleeps: once, after all that a round had to send to it.
    #[inline]
    pub fn wake_if_asleep(&self) -> bool {
        self.waker.wake_if_asleep()
    }
}

/// Makes the mesh of as many workers as there are `wakes`, which end the sleep of one worker each.
/// The endpoints are in the order of the workers.
pub fn mesh<T: Send, W: Fn() + Send + Sync + 'static>(
    wakes: Vec<W>,
    limits: Limits,
) -> Vec<Endpoint<T>> {
    let capacity = limits.mailbox_capacity(wakes.len());
    let (inboxes, outboxes): (Vec<_>, Vec<_>) = wakes
        .into_iter()
        .map(|wake| {
            let (sender, mail) = mailbox(capacity);
            let (sleeper, waker) = sleeper(wake);
            ((mail, sleeper), (sender, waker))
        })
        .unzip();
    let peers = || outboxes.iter().map(|(sender, waker)| peer(sender, waker, limits)).collect();
    inboxes.into_iter().map(|(mail, sleeper)| Endpoint { mail, sleeper, peers: peers() }).collect()
}

fn peer<T>(sender: &Sender<T>, waker: &Waker, limits: Limits) -> Peer<T> {
    Peer { sender: sender.clone(), waker: waker.clone(), credits: Credits::new(limits) }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::{mailbox::Next, *};

    const LIMITS: Limits = Limits { requests: 2, hops: 1, notifications: 1 };

    fn pair() -> (Endpoint<u32>, Endpoint<u32>) {
        let mut endpoints = mesh(vec![|| (), || ()], LIMITS);
        let second = endpoints.pop().expect("two wakes make two endpoints");
        (endpoints.pop().expect("two wakes make two endpoints"), second)
    }

    #[test]
    fn a_request_without_credit_comes_back_until_a_reply_returns_one() {
        let (mut one, mut two) = pair();
        assert!(one.peers[1].send(Class::Request, 10).is_ok());
        assert!(one.peers[1].send(Class::Request, 11).is_ok());
        assert_eq!(one.peers[1].send(Class::Request, 12), Err(12));

        for expected in [10, 11] {
            assert_eq!(two.mail.next(), Next::Message(expected));
            two.peers[0].credits.received(Class::Request);
        }
        two.peers[0].reply(2, 99);
        assert_eq!(one.mail.next(), Next::Message(99));
        one.peers[1].credits.give_back(Class::Request, 2);
        assert!(one.peers[1].send(Class::Request, 12).is_ok());
    }

    #[test]
    fn each_worker_is_woken_by_its_own_wake() {
        let counts = [const { AtomicUsize::new(0) }; 3].map(Arc::new);
        let wakes = counts.clone().map(|count| move || _ = count.fetch_add(1, Ordering::SeqCst));
        let endpoints = mesh::<u32, _>(wakes.into(), LIMITS);
        assert!(endpoints[2].sleeper.announce_sleep(|| endpoints[2].mail.is_drained()));
        assert!(endpoints[0].peers[2].wake_if_asleep());
        assert!(!endpoints[2].peers[0].wake_if_asleep());
        assert_eq!(counts.map(|count| count.load(Ordering::SeqCst)), [0, 0, 1]);
    }
}
