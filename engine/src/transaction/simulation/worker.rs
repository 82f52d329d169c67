//! A worker: goes through its rounds in the smallest steps between which others may move.

use std::mem;

use super::{
    connection::{Command, Connection},
    message::{Asked, Batch, Message, Origin, Request},
    shard::{Answers, Shard},
    transactions::Transactions,
    world::{Fault, Settings, Shared},
};
use crate::transaction::{
    ShardId,
    ids::Tag,
    round::{Admission, Blocked, Round},
};

#[derive(Clone, Copy, Debug)]
enum Phase {
    Drain {
        end: u64,
    },
    /// That connection is asked next for its run.
    Gather {
        round: Round,
        connection: usize,
    },
    /// Takes a place for the batch to that shard.
    Take {
        shard: usize,
    },
    Fill {
        shard: usize,
        place: u64,
    },
}

pub(super) struct Worker {
    own: usize,
    phase: Phase,
    shard: Shard,
    transactions: Transactions,
    /// The tag of this round, and how many commands each client had sent before it was read. In
    /// truth the input is received first; what comes between may count as later.
    tag: Tag,
    arrived: Vec<usize>,
    batches: Vec<Vec<Message>>,
    /// Whether the batch for a shard holds requests, and so has its credit.
    requests: Vec<bool>,
    credits: Vec<usize>,
    /// The own tail before the last places were taken: too early, which a planted fault uses.
    tail_before_places: u64,
}

impl Worker {
    pub(super) fn new(own: usize, settings: Settings) -> Self {
        Worker {
            own,
            phase: Phase::Drain { end: 0 },
            shard: Shard::new(settings.keys, settings.fault),
            transactions: Transactions::new(own),
            tag: 0,
            arrived: Vec::new(),
            batches: (0..settings.workers).map(|_| Vec::new()).collect(),
            requests: vec![false; settings.workers],
            credits: vec![settings.credits; settings.workers],
            tail_before_places: 0,
        }
    }

    pub(super) fn step(&mut self, shared: &mut Shared) {
        self.phase = match self.phase {
            Phase::Drain { end } => self.drain_one(shared, end),
            Phase::Gather { round, connection } => self.gather(shared, round, connection),
            Phase::Take { shard } => self.take(shared, shard),
            Phase::Fill { shard, place } => self.fill(shared, shard, place),
        };
    }

    fn drain_one(&mut self, shared: &mut Shared, end: u64) -> Phase {
        let mailbox = &mut shared.mailboxes[self.own];
        let drained = mailbox.head() >= end;
        let next = match shared.settings.fault {
            _ if drained => None,
            Some(Fault::PassUnfilled) => mailbox.next_passing_unfilled(),
            _ => mailbox.next(),
        };
        if let Some(batch) = next {
            self.serve(shared, batch);
            return Phase::Drain { end };
        }
        self.arrived = shared.connections.iter().map(Connection::sent).collect();
        self.tag = shared.ids.tag();
        let open = drained || shared.has_fault(Fault::OwnDespiteUnfilled);
        Phase::Gather { round: Round::begin(self.own, open), connection: 0 }
    }

    fn serve(&mut self, shared: &mut Shared, batch: Batch) {
        shared.served[self.own].push(batch.place);
        for message in batch.messages {
            self.handle(shared, batch.from, message);
        }
        if batch.spent_credit {
            self.batches[batch.from].push(Message::Credit);
        }
    }

    fn handle(&mut self, shared: &mut Shared, from: usize, message: Message) {
        let mut answers = Vec::new();
        match message {
            Message::Request(request) => {
                self.shard.request(request, shared.ids.tag(), &mut answers);
            }
            Message::Reply { origin, found } => shared.complete(origin, found),
            Message::Credit => self.credits[from] += 1,
            Message::Schedule { id, scope } => answers.push((from, self.shard.schedule(id, scope))),
            Message::Scheduled { id, accepts } => {
                self.transactions.scheduled((id, from, accepts), shared, &mut answers);
            }
            Message::Hop(hop) => self.shard.hop(hop, &mut answers),
            Message::HopDone { id, found } => {
                self.transactions.hop_done((id, found), shared, &mut answers);
            }
            Message::Forget { id } => self.shard.forget(id, &mut answers),
        }
        self.send(shared, answers);
    }

    /// Puts messages into the batches; those to the own shard are handled at once.
    fn send(&mut self, shared: &mut Shared, messages: Answers) {
        for (to, message) in messages {
            if to == self.own {
                self.handle(shared, to, message);
            } else {
                self.batches[to].push(message);
            }
        }
    }

    fn gather(&mut self, shared: &mut Shared, round: Round, connection: usize) -> Phase {
        if connection == shared.connections.len() {
            let mut messages = Vec::new();
            self.transactions.draw(shared, &mut messages);
            self.send(shared, messages);
            self.tail_before_places = shared.mailboxes[self.own].tail();
            return Phase::Take { shard: 0 };
        }
        if shared.connections[connection].worker == self.own {
            self.next_run(shared, round, connection);
        }
        Phase::Gather { round, connection: connection + 1 }
    }

    /// Lets the connection's next run go, as far as the round admits it.
    fn next_run(&mut self, shared: &mut Shared, round: Round, connection: usize) {
        let mut run = None;
        while let Some((number, shards)) = self.next_command(shared, round, connection) {
            let goes_on = |run: &Vec<ShardId>| Round::continues(run, &shards);
            if !run.as_ref().is_none_or(goes_on) && !shared.has_fault(Fault::AllRunsAtOnce) {
                return;
            }
            let input = &mut shared.connections[connection].input;
            let (command, Command { parts, atomic }) =
                input.remove(number).expect("it was just seen");
            let asked = parts.into_iter().enumerate().map(|(part, (key, asks))| (part, key, asks));
            let origin = Origin { connection, command };
            self.dispatch(shared, origin, asked.collect(), atomic.then_some(shards.len()));
            run = Some(shards);
        }
    }

    /// The connection's next command, if the round admits it: its number in the input, and shards.
    fn next_command(
        &self,
        shared: &Shared,
        round: Round,
        connection: usize,
    ) -> Option<(usize, Vec<ShardId>)> {
        let has_credit = |shard: usize| self.requests[shard] || self.credits[shard] > 0;
        let Connection { input, stopped, .. } = &shared.connections[connection];
        let arrived = |(sent, _): &&(usize, Command)| !stopped && *sent < self.arrived[connection];
        for (number, (_, command)) in input.iter().take_while(arrived).enumerate() {
            let mut shards: Vec<_> =
                command.parts.iter().map(|&(key, _)| shared.owner(key)).collect();
            shards.sort_unstable();
            shards.dedup();
            match round.admit(&shards, has_credit) {
                Admission::Go => return Some((number, shards)),
                Admission::Wait(Blocked::Credit(_))
                    if shared.has_fault(Fault::OvertakeWithoutCredit) => {}
                Admission::Wait(_) => return None,
            }
        }
        None
    }

    /// Lets a command go: as a transaction, as one request, or in parts. `as_one` is the number of
    /// shards over which it must be atomic.
    fn dispatch(
        &mut self,
        shared: &mut Shared,
        origin: Origin,
        asked: Vec<Asked>,
        as_one: Option<usize>,
    ) {
        match as_one {
            Some(1) => self.request(shared, origin, asked),
            Some(_) => {
                let at = |part: Asked| (shared.owner(part.1), part);
                let parts = asked.into_iter().map(at).collect();
                self.transactions.begin(origin, parts, shared);
            }
            None => asked.into_iter().for_each(|part| self.request(shared, origin, vec![part])),
        }
    }

    fn request(&mut self, shared: &mut Shared, origin: Origin, asked: Vec<Asked>) {
        let shard = shared.owner(asked[0].1);
        if shard != self.own && !self.requests[shard] {
            self.requests[shard] = true;
            self.credits[shard] -= 1;
        }
        let request = Request { from: self.own, origin, tag: self.tag, asked };
        self.send(shared, vec![(shard, Message::Request(request))]);
    }

    fn take(&mut self, shared: &mut Shared, shard: usize) -> Phase {
        if shard == self.batches.len() {
            let late = shared.mailboxes[self.own].tail();
            let stale = shared.has_fault(Fault::TailBeforePlaces);
            return Phase::Drain { end: if stale { self.tail_before_places } else { late } };
        }
        if self.batches[shard].is_empty() {
            return Phase::Take { shard: shard + 1 };
        }
        Phase::Fill { shard, place: shared.mailboxes[shard].take() }
    }

    fn fill(&mut self, shared: &mut Shared, shard: usize, place: u64) -> Phase {
        let messages = mem::take(&mut self.batches[shard]);
        let spent_credit = mem::take(&mut self.requests[shard]);
        shared.mailboxes[shard]
            .fill(place, Batch { from: self.own, place, messages, spent_credit });
        Phase::Take { shard: shard + 1 }
    }
}
