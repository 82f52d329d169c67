//! Keys that are coupled because a client waits for them, and they live on several shards (see
//! [`tessera_engine::transaction::couplings`]): how workers tell each other, and how commands are
//! routed by it.
//!
//! A command that may wait is tried like any other over lent shards. If it finds nothing, and its
//! keys are not coupled yet, it does not wait: all workers are told of the coupling first, and then it
//! is tried again, with later places. Every worker takes the news from its mailbox, where it stands
//! between rounds: nothing is packed then that was routed without knowing of it.
//!
//! A coupling stays for a moment after the last wait ([`Worker::end_idle_couplings`]), so that a
//! client which waits for the next element again need not announce anything.
#![forbid(unsafe_code)]

use std::sync::Arc;

use tessera_engine::{
    shard::Call,
    transaction::{
        Gathered, Missing, ShardSet,
        couplings::{Announcements, Change, Coupling, Couplings},
    },
    waiting::Waiter,
};

use crate::{loan::Unit, parcel::Message, worker::Worker};

/// What a worker knows of coupled keys.
pub(crate) struct Coupled {
    /// What it has heard, from all workers.
    pub(crate) known: Couplings,
    /// What it tells them itself, and the commands that wait for that.
    own: Announcements<Unit>,
}

impl Coupled {
    /// Nothing is coupled.
    pub(crate) fn new(seed: u64) -> Self {
        Self { known: Couplings::new(seed), own: Announcements::default() }
    }

    /// The couplings, if there are any: to be asked by which commands are routed.
    #[inline]
    pub(crate) fn any(&self) -> Option<&Couplings> {
        (!self.known.is_empty()).then_some(&self.known)
    }

    /// How many announcements have been heard by all; to be read before a cut.
    pub(crate) fn heard(&self) -> u64 {
        self.own.heard()
    }

    /// Whether a call that has found nothing may wait, when as many announcements as `heard` had been
    /// heard before its cut.
    pub(crate) fn may_wait(&mut self, coupling: Option<&Coupling>, heard: u64) -> bool {
        coupling.is_none_or(|coupling| self.own.begin_wait(coupling, heard))
    }
}

impl Worker {
    /// Lets a command wait until all workers have heard that its keys are coupled, and then be tried
    /// again.
    pub(crate) fn announce(&mut self, coupling: Coupling, unit: Unit) {
        if let Some(unit) = self.coupled.own.announce(coupling, unit) {
            self.loans.start_again(unit);
        }
    }

    /// A client of this worker that has begun to wait does so no more.
    pub(crate) fn end_coupling(&mut self, waiter: &Waiter) {
        if waiter.is_spread()
            && let Some(coupling) = waiter.call().and_then(|call| Coupling::of(&call, self.map))
        {
            self.coupled.own.end_wait(&coupling);
        }
    }

    /// Tells all workers what is new about couplings, if there are credits for that.
    #[inline]
    pub(crate) fn post_couplings(&mut self) {
        if self.coupled.own.is_due() {
            self.tell_of_couplings();
        }
    }

    #[cold]
    fn tell_of_couplings(&mut self) {
        let all = ShardSet::all(self.map.shards());
        if !self.outboxes.may_ask(all) {
            return;
        }
        let changes = self.coupled.own.begin(self.map.shards());
        for worker in all.iter().filter(|&worker| worker != self.own) {
            let changes = Arc::clone(&changes);
            self.outboxes.ask(worker, Message::Coupled { host: self.own, changes });
        }
        self.take_couplings(&changes);
        self.couplings_are_heard();
    }

    /// Routes by these changes from now on.
    pub(crate) fn take_couplings(&mut self, changes: &[Change]) {
        debug_assert!(!self.outboxes.has_open(), "something is packed that was routed before");
        changes.iter().for_each(|change| self.coupled.known.apply(change));
    }

    /// A worker routes by what was announced; with the last one, the commands that have waited for
    /// that are tried again.
    pub(crate) fn couplings_are_heard(&mut self) {
        for unit in self.coupled.own.hear() {
            self.loans.start_again(unit);
        }
    }

    /// Ends couplings by which nobody waits any more.
    pub(crate) fn end_idle_couplings(&mut self) {
        if !self.coupled.own.is_idle() {
            self.coupled.own.end_idle();
        }
    }

    /// What a call over lent shards needs besides the shards of its keys, and is not here.
    pub(crate) fn lacks_coupled(&mut self, call: &Call<'_>) -> Option<Missing> {
        let Self { coupled, map, positions, loans, .. } = self;
        let reached = coupled.any()?.reached_by(*map, call.command, &call.args, positions);
        missing(loans.gathered_mut(), reached)
    }

    /// What a script needs besides the shards of the keys that it names, which it may fill.
    pub(crate) fn reached_by_keys<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>) -> ShardSet {
        self.coupled.any().map_or_else(ShardSet::default, |known| known.reach(self.map, keys))
    }
}

/// The first of `shards` that is not here, if one is not.
fn missing(gathered: &Gathered, shards: ShardSet) -> Option<Missing> {
    shards.iter().find(|&shard| gathered.get(shard).is_none()).map(Missing::Shard)
}
