//! The worker's part: takes news from its shard, brings them to other workers and to its own clients.
#![forbid(unsafe_code)]

use tessera_engine::notice::{Message, Notice};
use tessera_proto::{Protocol, ReplyBuffer};

use super::{News, message::Push, queue::Lost};
use crate::{
    client_limits::output_limit,
    net::{Connection, ConnectionId},
    replies::NO_SHARD,
    worker::Worker,
};

impl Worker {
    /// Passes on what the own shard has to tell: after each stretch of commands, and before anything
    /// that changes who is told.
    #[inline]
    pub(crate) fn deliver(&mut self) {
        if self.shard.is_here() && self.shard.keyspace.has_notices() {
            self.deliver_notices();
        }
    }

    #[cold]
    fn deliver_notices(&mut self) {
        for (worker, notice) in self.shard.keyspace.take_notices() {
            self.tell(worker, News::Of(self.own, notice));
        }
        for answer in self.shard.take_answers() {
            self.tell(answer.client().worker, News::Answer(answer));
        }
    }

    /// Passes on what the own shard has to tell while it executes a parcel of `origin`: what is for
    /// that worker goes home with the parcel, behind the replies of `run` runs.
    #[cold]
    pub(crate) fn tell_with_parcel(
        &mut self,
        origin: u32,
        run: u32,
        with_parcel: &mut Vec<(u32, News)>,
    ) {
        for (worker, notice) in self.shard.keyspace.take_notices() {
            let news = News::Of(self.own, notice);
            if worker == origin {
                with_parcel.push((run, news));
            } else {
                self.tell(worker, news);
            }
        }
        for answer in self.shard.take_answers() {
            let worker = answer.client().worker;
            if worker == origin {
                with_parcel.push((run, News::Answer(answer)));
            } else {
                self.tell(worker, News::Answer(answer));
            }
        }
    }

    /// Brings a piece of news to the clients of `worker`.
    pub(crate) fn tell(&mut self, worker: u32, news: News) {
        if worker == self.own {
            self.hear(news);
        } else if !self.outboxes.tell(worker, news) {
            self.metrics.counters.lost_news.add(1);
        }
    }

    /// Tells the own clients what has come.
    pub(crate) fn hear(&mut self, news: News) {
        match news {
            News::Of(shard, Notice::Message(message)) => self.hand_on(shard, &message),
            News::Of(shard, Notice::Stale(stale)) => self.tell_stale(shard, &stale),
            News::Of(shard, Notice::AllStale) => self.tell_all_stale(shard),
            News::Redirected { from, to, keys } => self.tell_redirected(from, to, keys),
            News::RedirectionBroken { to } => self.tell_broken(to),
            News::Command(line) => self.hand_on_line(&line),
            News::Answer(answer) => self.take_answer(answer),
            News::Lost(lost) => self.make_good(lost),
        }
    }

    /// Writes a message to all its receivers here.
    fn hand_on(&mut self, shard: u32, message: &Message) {
        let mut push = Push::message(message);
        for &number in message.to.iter() {
            let id = ConnectionId::from_number(number);
            self.push(id, shard, |out, protocol| push.write(out, protocol));
        }
    }

    /// Writes something that is no reply to a connection, if it is still there. `shard` is where it
    /// arose, by which its place among the replies is found.
    pub(crate) fn push(
        &mut self,
        id: ConnectionId,
        shard: u32,
        write: impl FnOnce(&mut ReplyBuffer, Protocol),
    ) {
        let Some(connection) = self.network.connection(id) else { return };
        if connection.is_closing() {
            return;
        }
        let Connection { output, session, .. } = connection;
        write(session.replies.place_for_push(shard, output, &mut self.pool), session.protocol);
        let limit = output_limit(&self.output_limits, session);
        if connection.is_over_limit(limit.hard_bytes) {
            return self.disconnect_overrun(id);
        }
        self.network.mark_dirty(id);
    }

    /// Disconnects those who would miss something without knowing, and lets those who cache keys
    /// forget them all.
    #[cold]
    fn make_good(&mut self, lost: Lost) {
        let monitors = if lost.commands { self.monitoring.clone() } else { Vec::new() };
        let receivers = lost.receivers.into_iter().map(ConnectionId::from_number);
        for id in receivers.chain(monitors) {
            self.disconnect_overrun(id);
        }
        if lost.keys {
            self.tell_all_stale(NO_SHARD);
        }
        for (to, from) in lost.redirected {
            self.tell_redirected(from, to, None);
        }
        lost.broken.into_iter().for_each(|number| self.tell_broken(number));
    }
}
