//! The worker's part: takes news from its shard, brings them to other workers and to its own clients.
#![forbid(unsafe_code)]

use std::sync::Arc;

use tessera_engine::notice::{Connections, Message, Notice};
use tessera_proto::{Protocol, ReplyBuffer};

use super::{News, message::Push, queue::Lost};
use crate::{
    client_limits::output_limit,
    net::{Connection, ConnectionId},
    replies::NO_SHARD,
    worker::Worker,
};

/// Messages that follow one another and have the same receivers, not written yet.
pub(crate) struct Joined {
    /// The shard where they arose.
    shard: u32,
    to: Connections,
    push: Push,
}

impl Joined {
    fn new(shard: u32, message: &Message) -> Self {
        Self { shard, to: Arc::clone(&message.to), push: Push::message(message) }
    }

    /// Adds a message that belongs to them; answers whether it does.
    fn join(&mut self, shard: u32, message: &Message) -> bool {
        self.shard == shard && Arc::ptr_eq(&self.to, &message.to) && self.push.join(message)
    }
}

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
        let mut joined = None;
        for (worker, notice) in self.shard.keyspace.take_notices() {
            let news = News::Of(self.own, notice);
            if worker == self.own {
                self.hear_joined(news, &mut joined);
            } else {
                self.tell(worker, news);
            }
        }
        self.hand_on(joined);
        for answer in self.shard.take_answers() {
            self.tell(answer.waiter.client().worker, News::Answer(answer));
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
            let worker = answer.waiter.client().worker;
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

    /// Tells the own clients what has come, in its order.
    pub(crate) fn hear_all(&mut self, news: impl IntoIterator<Item = News>) {
        let mut joined = None;
        news.into_iter().for_each(|news| self.hear_joined(news, &mut joined));
        self.hand_on(joined);
    }

    /// Tells the own clients what has come, or keeps a message in `joined` with what goes to the same
    /// clients. What is kept is to be handed on before anything else is told.
    fn hear_joined(&mut self, news: News, joined: &mut Option<Joined>) {
        let News::Of(shard, Notice::Message(message)) = &news else {
            self.hand_on(joined.take());
            return self.hear(news);
        };
        if !joined.as_mut().is_some_and(|joined| joined.join(*shard, message)) {
            self.hand_on(joined.replace(Joined::new(*shard, message)));
        }
    }

    /// Tells the own clients what has come.
    pub(crate) fn hear(&mut self, news: News) {
        match news {
            News::Of(shard, Notice::Message(message)) => {
                self.hand_on(Some(Joined::new(shard, &message)));
            }
            News::Of(shard, Notice::Stale(stale)) => self.tell_stale(shard, &stale),
            News::Of(shard, Notice::AllStale) => self.tell_all_stale(shard),
            News::Redirected { from, to, keys } => self.tell_redirected(from, to, keys),
            News::RedirectionBroken { to } => self.tell_broken(to),
            News::Command(line) => self.hand_on_line(&line),
            News::Answer(answer) => self.take_answer(answer),
            News::Lost(lost) => self.make_good(lost),
        }
    }

    /// Writes messages to all their receivers here.
    fn hand_on(&mut self, joined: Option<Joined>) {
        let Some(Joined { shard, to, mut push }) = joined else { return };
        for &number in to.iter() {
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
        let Some(connection) = self.network.connection_to_push(id) else { return };
        if connection.is_closing() {
            return;
        }
        let Connection { output, session, .. } = connection;
        write(session.replies.place_for_push(shard, output, &mut self.pool), session.protocol);
        let limit = output_limit(&self.output_limits, session);
        if connection.is_over_limit(limit.hard_bytes) {
            return self.disconnect_overrun(id);
        }
        self.network.mark_pushed(id);
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
