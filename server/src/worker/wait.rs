//! How a worker waits for the network and its mail, and what others may do meanwhile.
//!
//! Whenever a worker enters the kernel or polls, it leaves its shard in its berth, unless something
//! hangs on it (see [`Worker::may_moor`]), and takes it back when it begins its next turn: to send and
//! to receive is most of its time, and others that have commands for the shard need not wait for it
//! then, nor wake anybody (see `guests`).
//!
//! Invariant: nothing is done between leaving the shard and taking it back but waiting.
#![forbid(unsafe_code)]

use std::{
    io,
    time::{Duration, Instant},
};

use tessera_engine::shard::Shard;

use super::Worker;
use crate::{
    aof::{Aof, WorkerLog},
    mesh::{berth::Berth, mailbox::Receiver, wake::Sleeper},
    net::Network,
    own_shard::OwnShard,
    parcel::Message,
    runtime::{pace::Pacer, ring::Wait, wake::Mail},
    session::Session,
};

/// What a worker looks at before it sleeps.
struct Mailroom<'a> {
    own: u32,
    mail: &'a Receiver<Message>,
    sleeper: &'a Sleeper,
    log: Option<&'a WorkerLog>,
    aof: &'a Aof,
    /// The own shard, which may lie in its berth.
    shard: &'a OwnShard,
    berth: &'a Berth<Shard>,
}

impl Mailroom<'_> {
    /// The epochs of the log have moved on, or memory is short.
    fn is_called(&self) -> bool {
        let wants_room = || self.shard.is_here() && self.shard.wants_room();
        self.log.is_some_and(|log| log.is_called(self.aof)) || wants_room()
    }
}

impl Mail for Mailroom<'_> {
    fn has_mail(&self) -> bool {
        !self.mail.is_drained() || self.is_called() || self.shard.is_back(self.berth)
    }

    fn is_needed(&self) -> bool {
        self.shard.is_here()
    }

    fn announce_sleep(&self) -> bool {
        let rest = self.log.and_then(WorkerLog::rest);
        if let Some(sequence) = rest {
            self.aof.announce_rest(self.own, self.mail.head(), sequence);
        }
        let may_sleep = self.sleeper.announce_sleep(|| !self.has_mail());
        if !may_sleep && rest.is_some() {
            self.aof.end_rest(self.own);
        }
        may_sleep
    }

    fn announce_awake(&self) {
        if self.log.is_some() {
            self.aof.end_rest(self.own);
        }
        self.sleeper.announce_awake();
    }
}

impl Worker {
    /// Sends what is to be sent, and waits until there is something to do, or until `deadline`.
    ///
    /// # Errors
    ///
    /// The ring has failed, and with it the worker.
    pub async fn wait(&mut self, pacer: &mut Pacer, deadline: Option<Instant>) -> io::Result<()> {
        self.note_turn(pacer.take_yielded());
        if self.saving.is_some() {
            // Replies leave before what may wait is done.
            let (mailroom, network) = self.mailroom();
            network.poll(Wait::NONE, &mailroom)?;
            let has_mail = mailroom.has_mail();
            self.take_save_events();
            let has_requests = has_mail || self.network.has_events();
            self.save_slice(has_requests);
        }
        if self.may_moor() {
            self.moor();
        }
        let (mailroom, network) = self.mailroom();
        let outcome = pacer.turn(network, &mailroom, deadline).await;
        self.turns.start();
        outcome
    }

    fn mailroom(&mut self) -> (Mailroom<'_>, &mut Network<Session>) {
        let mailroom = Mailroom {
            own: self.own,
            mail: &self.mail,
            sleeper: &self.sleeper,
            log: self.log.as_deref(),
            aof: &self.shared.aof,
            shard: &self.shard,
            berth: self.shared.berths.of(self.own),
        };
        (mailroom, &mut self.network)
    }

    /// Enters how long the turn that ends now has taken, and how long background tasks have had the
    /// core before it.
    #[inline]
    fn note_turn(&mut self, yielded: Duration) {
        let nanos = self.turns.lap_ns();
        let steps = &self.metrics.steps;
        steps.turns.record(nanos);
        steps.nanos.add(nanos);
        if !yielded.is_zero() {
            steps.turns.record(yielded.as_nanos() as u64);
        }
    }
}
