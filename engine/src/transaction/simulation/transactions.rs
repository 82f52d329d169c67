//! The transactions that one worker of the simulation coordinates.
//!
//! One that only reads or only writes takes one hop; one that does both reads first and writes in a
//! second, concluding hop.

use super::{
    connection::Action as Asks,
    message::{Asked, Found, Hop, Message, Origin},
    shard::{Answers, scope_of},
    world::{Fault, Shared},
};
use crate::transaction::{
    ShardId,
    coordinator::{Action, Coordinator},
    ids::TransactionId,
    locks::{Mode, Scope},
};

pub(super) struct Transactions {
    own: usize,
    running: Vec<Running>,
}

struct Running {
    coordinator: Coordinator,
    origin: Origin,
    parts: Vec<(usize, Asked)>,
    found: Vec<Found>,
    /// It waits to draw a number, perhaps alone.
    draws: Option<bool>,
    hops: usize,
}

impl Transactions {
    pub(super) fn new(own: usize) -> Self {
        Transactions { own, running: Vec::new() }
    }

    /// Takes a command over several shards in hand. Its connection stops until it is scheduled.
    pub(super) fn begin(
        &mut self,
        origin: Origin,
        parts: Vec<(usize, Asked)>,
        shared: &mut Shared,
    ) {
        let mut shards: Vec<_> = parts.iter().map(|&(shard, _)| shard as ShardId).collect();
        shards.sort_unstable();
        shards.dedup();
        let mut actions = Vec::new();
        let coordinator = Coordinator::new(shards, &mut actions);
        let goes_on = shared.has_fault(Fault::LeaveBeforeScheduled);
        shared.connections[origin.connection].stopped = !goes_on;
        let found = Vec::new();
        self.running.push(Running { coordinator, origin, parts, found, draws: None, hops: 0 });
        self.carry_out(self.running.len() - 1, actions, shared, &mut Vec::new());
    }

    /// Draws numbers for those that want one, as far as they may.
    pub(super) fn draw(&mut self, shared: &mut Shared, messages: &mut Answers) {
        for index in 0..self.running.len() {
            let drawn = match self.running[index].draws {
                None => continue,
                Some(true) => shared.ids.draw_alone(),
                Some(false) => shared.ids.draw(),
            };
            if let Some(id) = drawn {
                shared.drawn_alone += usize::from(self.running[index].draws == Some(true));
                self.running[index].draws = None;
                self.step(index, shared, messages, |it, actions| it.drawn(id, actions));
            }
        }
    }

    pub(super) fn scheduled(
        &mut self,
        (id, from, accepts): (TransactionId, usize, bool),
        shared: &mut Shared,
        messages: &mut Answers,
    ) {
        let index = self.index_of(id);
        self.step(index, shared, messages, |it, actions| {
            it.scheduled(from as ShardId, accepts, actions)
        });
    }

    pub(super) fn hop_done(
        &mut self,
        (id, found): (TransactionId, Vec<Found>),
        shared: &mut Shared,
        messages: &mut Answers,
    ) {
        let index = self.index_of(id);
        self.running[index].found.extend(found);
        self.step(index, shared, messages, |it, actions| it.hop_done(actions));
    }

    fn index_of(&self, id: TransactionId) -> usize {
        let is_it = |running: &Running| running.coordinator.id() == Some(id);
        self.running.iter().position(is_it).expect("shards answer only what they were asked")
    }

    fn step(
        &mut self,
        index: usize,
        shared: &mut Shared,
        messages: &mut Answers,
        step: impl FnOnce(&mut Coordinator, &mut Vec<Action>),
    ) {
        let mut actions = Vec::new();
        step(&mut self.running[index].coordinator, &mut actions);
        self.carry_out(index, actions, shared, messages);
    }

    fn carry_out(
        &mut self,
        index: usize,
        actions: Vec<Action>,
        shared: &mut Shared,
        messages: &mut Answers,
    ) {
        for action in actions {
            let running = &mut self.running[index];
            match action {
                Action::Draw { alone } => running.draws = Some(alone),
                Action::Open => shared.ids.open(),
                Action::Schedule { shard, id } => {
                    let scope = running.scope(shard as usize, shared.settings.keys);
                    messages.push((shard as usize, Message::Schedule { id, scope }));
                }
                Action::Release { shard, id } | Action::Conclude { shard, id } => {
                    messages.push((shard as usize, Message::Forget { id }));
                }
                Action::Ready => {
                    shared.connections[running.origin.connection].stopped = false;
                    self.next_hop(index, shared, messages);
                }
                Action::Hop { shard, id, concludes } => {
                    let asked = running.work(shard as usize, running.in_hop());
                    let hop = Hop { from: self.own, id, asked, concludes };
                    messages.push((shard as usize, Message::Hop(hop)));
                }
                Action::HopFinished { concluded: false } => self.next_hop(index, shared, messages),
                Action::HopFinished { concluded: true } => {
                    let Running { origin, found, .. } = self.running.remove(index);
                    shared.complete(origin, found);
                    return;
                }
            }
        }
    }

    fn next_hop(&mut self, index: usize, shared: &mut Shared, messages: &mut Answers) {
        let running = &mut self.running[index];
        running.hops += 1;
        let wanted = running.in_hop();
        let mut shards: Vec<_> = running
            .parts
            .iter()
            .filter(|(_, (_, _, asks))| wanted(asks))
            .map(|&(shard, _)| shard as ShardId)
            .collect();
        shards.sort_unstable();
        shards.dedup();
        let concludes = running.hops == 2 || !running.reads_and_writes();
        self.step(index, shared, messages, |it, actions| it.hop(&shards, concludes, actions));
    }
}

impl Running {
    fn reads_and_writes(&self) -> bool {
        let reads = |&(_, (_, _, asks)): &(usize, Asked)| asks == Asks::Read;
        self.parts.iter().any(reads) && !self.parts.iter().all(reads)
    }

    /// Which parts belong to the current hop.
    fn in_hop(&self) -> fn(&Asks) -> bool {
        match (self.reads_and_writes(), self.hops) {
            (false, _) => |_| true,
            (true, 1) => |asks| *asks == Asks::Read,
            (true, _) => |asks| *asks != Asks::Read,
        }
    }

    /// What it touches on a shard: everything, if it names all keys, as FLUSHALL would.
    fn scope(&self, shard: usize, keys: usize) -> Scope {
        if self.parts.len() < keys {
            return scope_of(&self.work(shard, |_| true));
        }
        let reads = self.parts.iter().all(|(_, (_, _, asks))| *asks == Asks::Read);
        Scope::Whole(if reads { Mode::Shared } else { Mode::Exclusive })
    }

    fn work(&self, shard: usize, wanted: impl Fn(&Asks) -> bool) -> Vec<Asked> {
        let here = |&&(at, (_, _, asks)): &&(usize, Asked)| at == shard && wanted(&asks);
        self.parts.iter().filter(here).map(|&(_, asked)| asked).collect()
    }
}
