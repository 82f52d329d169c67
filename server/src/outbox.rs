//! Parcels being packed, one for each shard, and what else goes to other workers.
//!
//! The own shard has a place here too: what concerns several shards takes a place in every mailbox,
//! the own one included.
//!
//! Invariant: a parcel is begun, and a shard promised to be asked for, only while a credit for the
//! destination is left that no other promise counts on; so all that is open can always be sent.
#![forbid(unsafe_code)]

use tessera_engine::{
    shard::Shard,
    transaction::{ShardId, ShardSet},
};
use tessera_proto::Args;

use crate::{
    faults,
    mesh::{Peer, credit::Class, mailbox::Position},
    parcel::{Addressee, Attachment, CallHeader, Message, Parcel},
    pubsub::{News, queue::Queue},
};

/// Credits for notifications that news leave to others.
const RESERVED_NOTIFICATIONS: u16 = 4;

/// A worker's way to all shards.
pub struct Outboxes {
    peers: Vec<Peer<Message>>,
    /// What the clients of other workers are to be told.
    news: Vec<Queue>,
    open: Vec<Option<Box<Parcel>>>,
    /// Emptied parcels. Boxed, since they travel as pointers.
    #[allow(clippy::vec_box)]
    free: Vec<Box<Parcel>>,
    own: u32,
    /// Shards that are going to be asked for.
    to_borrow: ShardSet,
    /// Destinations that got mail since they were last woken.
    to_wake: Vec<bool>,
}

impl Outboxes {
    /// Outboxes of worker `own` for the mailboxes of `peers`, itself included.
    pub fn new(own: u32, peers: Vec<Peer<Message>>) -> Self {
        let open = peers.iter().map(|_| None).collect();
        let news = peers.iter().map(|_| Queue::default()).collect();
        let to_wake = vec![false; peers.len()];
        let (free, to_borrow) = (Vec::new(), ShardSet::default());
        Self { peers, news, open, free, own, to_borrow, to_wake }
    }

    /// Whether a call for `shard` can be packed now.
    #[inline]
    pub fn has_room(&self, shard: u32) -> bool {
        self.open[shard as usize].is_some() || self.credits(shard) > 0
    }

    /// Requests that can be sent to `shard` and that nothing counts on yet.
    #[inline]
    fn credits(&self, shard: u32) -> u16 {
        let promised = u16::from(self.open[shard as usize].is_some())
            + u16::from(self.to_borrow.contains(shard));
        self.peers[shard as usize].credits.left(Class::Request).saturating_sub(promised)
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

    /// Packs a call that is nothing but what is attached to it.
    ///
    /// # Panics
    ///
    /// When there is no room.
    pub fn push_attached(
        &mut self,
        shard: u32,
        to: Addressee,
        header: CallHeader,
        attachment: Attachment,
    ) {
        self.push(shard, to, header, &Args::new(&[], &[]));
        self.attach(shard, attachment);
    }

    /// Attaches something to the call that was packed last for `shard`.
    pub fn attach(&mut self, shard: u32, attachment: Attachment) {
        if let Some(parcel) = &mut self.open[shard as usize] {
            parcel.attach(attachment);
        }
    }

    /// Whether anything is packed for `shard` and not sent.
    pub fn has_open_for(&self, shard: u32) -> bool {
        self.open[shard as usize].is_some()
    }

    /// Whether the worker of `shard` has taken out all that was sent to it.
    pub fn is_drained(&self, shard: u32) -> bool {
        self.peers[shard as usize].is_drained()
    }

    /// Lets the worker of `shard` be woken with the next others, if it sleeps.
    pub fn wake_later(&mut self, shard: u32) {
        self.to_wake[shard as usize] = true;
    }

    /// Whether anything is packed and not sent.
    pub fn has_open(&self) -> bool {
        self.open.iter().any(Option::is_some)
    }

    /// Whether the parcel for `shard` should leave before its round ends.
    #[inline]
    pub fn is_full(&self, shard: u32) -> bool {
        self.open[shard as usize].as_ref().is_some_and(|parcel| parcel.is_full())
    }

    /// Whether any parcel should leave.
    pub fn has_full(&self) -> bool {
        self.open.iter().flatten().any(|parcel| parcel.is_full())
    }

    /// Sends everything that is open, in ascending order of the shards.
    pub fn post_all(&mut self, now_us: i64, stamp: u64) {
        for shard in 0..self.open.len() {
            self.post(shard, now_us, stamp);
        }
    }

    fn post(&mut self, shard: usize, now_us: i64, stamp: u64) {
        let Some(mut parcel) = self.open[shard].take() else { return };
        (parcel.now_us, parcel.stamp) = (now_us, stamp);
        let sent = self.peers[shard].send(Class::Request, Message::Request(parcel));
        assert!(sent.is_ok(), "an open parcel has a credit");
        self.to_wake[shard] = true;
        faults::pause_between_places();
    }

    /// Sends the parcels up to that for `shard`, in ascending order: then they all take their places
    /// earlier than those of their round, and in the same order.
    pub fn post_up_to(&mut self, shard: u32, now_us: i64, stamp: u64) {
        for lower in 0..=shard as usize {
            self.post(lower, now_us, stamp);
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

    /// Whether all of these shards can be asked for.
    pub fn may_borrow(&self, shards: ShardSet) -> bool {
        shards.iter().all(|shard| self.to_borrow.contains(shard) || self.credits(shard) > 0)
    }

    /// These shards are going to be asked for.
    pub fn will_borrow(&mut self, shards: ShardSet) {
        debug_assert!(self.may_borrow(shards));
        self.to_borrow.extend(shards);
    }

    /// Asks for all shards that are to be borrowed; answers which these are.
    pub fn send_borrows(&mut self, now_us: i64, stamp: u64) -> ShardSet {
        let shards = std::mem::take(&mut self.to_borrow);
        for shard in shards.iter() {
            self.send(shard, Class::Request, Message::Borrow { host: self.own, now_us, stamp });
        }
        shards
    }

    /// Whether a request can be sent to all of these workers, the own one aside.
    pub fn may_ask(&self, workers: ShardSet) -> bool {
        workers.iter().all(|worker| worker == self.own || self.credits(worker) > 0)
    }

    /// Sends a request that is no parcel, for which there is a credit.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn ask(&mut self, worker: u32, message: Message) {
        self.send(worker, Class::Request, message);
    }

    /// Sends a shard back to its owner. Its loan came with the right to do so: an owner lends its
    /// shard once, so there is a credit.
    ///
    /// # Panics
    ///
    /// When there is no credit.
    pub fn return_shard(&mut self, owner: ShardId, shard: Box<Shard>, now_us: i64) {
        self.send(owner, Class::Hop, Message::Return { host: self.own, shard, now_us });
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

    /// Tells the host that the shard which it had borrowed is back.
    pub fn shard_is_back(&mut self, host: u32) {
        self.peers[host as usize].credits.received(Class::Hop);
        self.reply_to(host, Message::Returned { owner: self.own });
    }

    /// Notes that a shard's owner has it back.
    pub fn loan_is_settled(&mut self, owner: ShardId) {
        self.peers[owner as usize].credits.give_back(Class::Hop, 1);
    }

    /// Adds a piece of news for the clients of `worker`; answers whether it could be kept.
    pub fn tell(&mut self, worker: u32, news: News) -> bool {
        self.news[worker as usize].push(news)
    }

    /// Takes the news for `worker`, to go with something else that is sent to it now.
    #[inline]
    pub fn take_news(&mut self, worker: u32) -> Vec<News> {
        self.news[worker as usize].take()
    }

    /// Whether there is news that has not been sent.
    pub fn has_news(&self) -> bool {
        self.news.iter().any(|news| !news.is_empty())
    }

    /// Sends all news for which there is a credit.
    #[inline]
    pub fn post_news(&mut self) {
        for worker in 0..self.news.len() {
            if !self.news[worker].is_empty() {
                self.post_news_to(worker);
            }
        }
    }

    #[cold]
    fn post_news_to(&mut self, worker: usize) {
        if self.peers[worker].credits.left(Class::Notification) <= RESERVED_NOTIFICATIONS {
            return;
        }
        if let Some((news, bytes)) = self.news[worker].take_to_send() {
            let message = Message::News { from: self.own, news, bytes };
            self.send(worker as u32, Class::Notification, message);
        }
    }

    /// Tells the sender of news that they have come.
    pub fn news_are_heard(&mut self, from: u32, bytes: usize) {
        self.peers[from as usize].credits.received(Class::Notification);
        self.reply_to(from, Message::NewsHeard { by: self.own, bytes });
    }

    /// Notes that news have come to `by`.
    pub fn news_are_settled(&mut self, by: u32, bytes: usize) {
        self.peers[by as usize].credits.give_back(Class::Notification, 1);
        self.news[by as usize].arrived(bytes);
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

    /// Wakes all sleepers but those that `may_sleep`, by the number of the worker; who is woken finds
    /// out itself what for.
    pub(crate) fn wake_all_but(&mut self, may_sleep: impl Fn(usize) -> bool) {
        for (number, peer) in self.peers.iter().enumerate() {
            if number != self.own as usize && !may_sleep(number) {
                peer.wake_if_asleep();
            }
        }
    }

    /// Where the mailbox of `worker` ends now.
    pub(crate) fn tail_of(&self, worker: usize) -> Position {
        self.peers[worker].tail()
    }

    /// Whether no parcel of this worker is under way and none of the others' is here.
    pub fn is_quiet(&self) -> bool {
        self.open.iter().all(Option::is_none)
            && self.peers.iter().all(|peer| peer.credits.is_quiet())
    }
}
