//! Parcels being packed, one for each other shard.
//!
//! Invariant: a parcel is begun only while a credit for its destination is left, and spends it when
//! it is sent; so a parcel that is open can always be sent.
#![forbid(unsafe_code)]

use tessera_proto::Args;

use crate::{
    across::Loan,
    mesh::{Peer, credit::Class},
    parcel::{Addressee, CallHeader, Message, Parcel},
};

/// A worker's way to all other shards.
pub struct Outboxes {
    peers: Vec<Peer<Message>>,
    open: Vec<Option<Box<Parcel>>>,
    /// Emptied parcels. Boxed, since they travel as pointers.
    #[allow(clippy::vec_box)]
    free: Vec<Box<Parcel>>,
    own: u32,
    /// Destinations that got mail since they were last woken.
    to_wake: Vec<bool>,
}

impl Outboxes {
    /// Outboxes of worker `own` for the mailboxes of `peers`, itself included but never used.
    pub fn new(own: u32, peers: Vec<Peer<Message>>) -> Self {
        let open = peers.iter().map(|_| None).collect();
        let to_wake = vec![false; peers.len()];
        Self { peers, open, free: Vec::new(), own, to_wake }
    }

    /// Whether a call for `shard` can be packed now.
    #[inline]
    pub fn has_room(&self, shard: u32) -> bool {
        let shard = shard as usize;
        self.open[shard].is_some() || self.peers[shard].credits.left(Class::Request) > 0
    }

    /// Who gets the reply of the call that was packed last for `shard` and has not been sent.
    pub fn last(&self, shard: u32) -> Option<Addressee> {
        self.open[shard as usize].as_ref()?.last()
    }

    /// Packs a call.
    ///
    /// # Panics
    ///
    /// When there is no room.
    pub fn push(&mut self, shard: u32, to: Addressee, header: CallHeader, args: &Args<'_>) {
        assert!(self.has_room(shard), "a call was packed without a credit");
        let own = self.own;
        let free = &mut self.free;
        let parcel = self.open[shard as usize].get_or_insert_with(|| {
            let mut parcel = free.pop().unwrap_or_default();
            (parcel.origin, parcel.executor) = (own, shard);
            parcel
        });
        parcel.push(to, header, args);
    }

    /// Sends everything that is open, in ascending order of the shards.
    pub fn post_all(&mut self, now_us: i64) {
        for shard in 0..self.open.len() {
            self.post(shard, now_us);
        }
    }

    fn post(&mut self, shard: usize, now_us: i64) {
        let Some(mut parcel) = self.open[shard].take() else { return };
        parcel.now_us = now_us;
        let sent = self.peers[shard].send(Class::Request, Message::Request(parcel));
        assert!(sent.is_ok(), "an open parcel has a credit");
        self.to_wake[shard] = true;
    }

    /// Sends the parcel for `shard` if it is full, after those for lower shards: then they all take
    /// their places earlier than those of their round, and in the same order.
    pub fn post_if_full(&mut self, shard: u32, now_us: i64) {
        let shard = shard as usize;
        if self.open[shard].as_ref().is_some_and(|parcel| parcel.is_full()) {
            for lower in 0..=shard {
                self.post(lower, now_us);
            }
        }
    }

    /// Notes that `origin` sent a request, which gives the right to one reply.
    pub fn received(&mut self, origin: u32) {
        self.peers[origin as usize].credits.received(Class::Request);
    }

    /// Sends a parcel with its replies home.
    pub fn reply(&mut self, parcel: Box<Parcel>) {
        let origin = parcel.origin as usize;
        self.peers[origin].reply(1, Message::Reply(parcel));
        self.to_wake[origin] = true;
    }

    /// Whether a message of its own can be sent to `shard` besides the parcel that may be open.
    pub fn has_credit(&self, shard: u32) -> bool {
        let open = u16::from(self.open[shard as usize].is_some());
        self.peers[shard as usize].credits.left(Class::Request) > open
    }

    /// Asks a shard for keys.
    ///
    /// # Panics
    ///
    /// When there is no credit.
    pub fn send_loan(&mut self, loan: Box<Loan>) {
        let owner = loan.owner;
        self.send(owner, Class::Request, Message::Borrow(loan));
    }

    /// Sends lent keys back. At most one command borrows at a time, so there is a credit.
    ///
    /// # Panics
    ///
    /// When there is no credit.
    pub fn return_loan(&mut self, loan: Box<Loan>) {
        let owner = loan.owner;
        self.send(owner, Class::Hop, Message::Return(loan));
    }

    fn send(&mut self, shard: u32, class: Class, message: Message) {
        let sent = self.peers[shard as usize].send(class, message);
        assert!(sent.is_ok(), "a message was sent without a credit");
        self.to_wake[shard as usize] = true;
    }

    /// Answers a request of `host`.
    pub fn reply_to(&mut self, host: u32, message: Message) {
        self.peers[host as usize].reply(1, message);
        self.to_wake[host as usize] = true;
    }

    /// Notes that a request to `shard` other than a parcel has been answered.
    pub fn answered(&mut self, shard: u32) {
        self.peers[shard as usize].credits.give_back(Class::Request, 1);
    }

    /// Tells the host that its loan has come back.
    pub fn loan_is_back(&mut self, loan: Box<Loan>) {
        let host = loan.host;
        self.peers[host as usize].credits.received(Class::Hop);
        self.reply_to(host, Message::Returned(loan));
    }

    /// Notes that a loan's owner has it back.
    pub fn loan_is_settled(&mut self, loan: &Loan) {
        self.peers[loan.owner as usize].credits.give_back(Class::Hop, 1);
    }

    /// Hands the right to borrow keys to another worker. There is one right in the server, so there
    /// is a credit.
    ///
    /// # Panics
    ///
    /// When there is no credit.
    pub fn pass_right(&mut self, to: u32) {
        self.send(to, Class::Notification, Message::Right(self.own));
    }

    /// Tells `from` that the right has come.
    pub fn right_is_taken(&mut self, from: u32) {
        self.peers[from as usize].credits.received(Class::Notification);
        self.reply_to(from, Message::RightTaken(self.own));
    }

    /// Notes that the right has come to `by`.
    pub fn right_is_settled(&mut self, by: u32) {
        self.peers[by as usize].credits.give_back(Class::Notification, 1);
    }

    /// Takes an own parcel back after its replies were handed out.
    pub fn come_home(&mut self, mut parcel: Box<Parcel>) {
        self.peers[parcel.executor as usize].credits.give_back(Class::Request, 1);
        parcel.clear();
        self.free.push(parcel);
    }

    /// Wakes the sleepers among those that got mail.
    pub fn wake(&mut self) {
        for (peer, to_wake) in self.peers.iter().zip(&mut self.to_wake) {
            if std::mem::take(to_wake) {
                peer.wake_if_asleep();
            }
        }
    }

    /// Whether no parcel of this worker is under way and none of the others' is here.
    pub fn is_quiet(&self) -> bool {
        self.open.iter().all(Option::is_none)
            && self.peers.iter().all(|peer| peer.credits.is_quiet())
    }
}
