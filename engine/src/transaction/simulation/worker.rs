//! A worker: goes through its rounds in the smallest steps between which others may move.

use std::{collections::VecDeque, mem};

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
    round::{Blocked, FirstHalf, SecondHalf},
};

/// What comes next, once the places that are to be taken are taken.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Begin,
    /// First half: that connection is asked for its next command.
    Send {
        half: FirstHalf,
        connection: usize,
    },
    /// Reads the own mailbox's tail.
    Tail,
    Drain {
        end: u64,
    },
    /// Second half, as it began and as that connection finds it; the connection is asked for its
    /// next command.
    Own {
        begun: SecondHalf,
        half: SecondHalf,
        connection: usize,
    },
    /// Draws numbers for the transactions that want one.
    Draw,
}

/// A batch on its way into a mailbox.
#[derive(Clone, Copy, Debug)]
struct Placing {
    shard: usize,
    tag: Tag,
    /// Its place, once it is taken.
    place: Option<u64>,
}

pub(super) struct Worker {
    own: usize,
    phase: Phase,
    /// Shards whose batches take their places, in this order, before anything else happens.
    posting: VecDeque<usize>,
    placing: Option<Placing>,
    shard: Shard,
    transactions: Transactions,
    /// The tag of own commands in this half.
    tag: Tag,
    /// The tag at the beginning of the round: too early, which a planted fault uses.
    round_tag: Tag,
    /// How many commands each client had sent when the round began.
    arrived: Vec<usize>,
    batches: Vec<Vec<Message>>,
    /// How many requests the batch for a shard holds. If any, it has its credit.
    requests: Vec<usize>,
    credits: Vec<usize>,
    /// The own tail before the first half's places were taken: too early, which a planted fault uses.
    tail_before_places: u64,
}

impl Worker {
    pub(super) fn new(own: usize, settings: Settings) -> Self {
        Worker {
            own,
            phase: Phase::Begin,
            posting: VecDeque::new(),
            placing: None,
            shard: Shard::new(settings.keys, settings.fault),
            transactions: Transactions::new(own),
            tag: 0,
            round_tag: 0,
            arrived: Vec::new(),
            batches: (0..settings.workers).map(|_| Vec::new()).collect(),
            requests: vec![0; settings.workers],
            credits: vec![settings.credits; settings.workers],
            tail_before_places: 0,
        }
    }

    pub(super) fn step(&mut self, shared: &mut Shared) {
        if let Some(placing) = self.placing.take() {
            return self.place(shared, placing);
        }
        if let Some(shard) = self.posting.pop_front() {
            let tag = shared.ids.tag();
            self.placing = Some(Placing { shard, tag, place: None });
            return;
        }
        self.phase = match self.phase {
            Phase::Begin => self.begin(shared),
            Phase::Send { half, connection } => self.send_next(shared, half, connection),
            Phase::Tail => self.read_tail(shared),
            Phase::Drain { end } => self.drain_one(shared, end),
            Phase::Own { begun, half, connection } => {
                self.own_next(shared, begun, half, connection)
            }
            Phase::Draw => self.draw(shared),
        };
    }

    /// Lets all batches take their places, in the order that the rule wants.
    fn post_all(&mut self, shared: &Shared) {
        let open = (0..self.batches.len()).filter(|&shard| !self.batches[shard].is_empty());
        self.posting.extend(open);
        if shared.has_fault(Fault::DescendingPlaces) {
            self.posting.make_contiguous().reverse();
        }
    }

    /// Lets a batch that has become full take its place, behind those for lower shards.
    fn post_if_full(&mut self, shared: &Shared, shard: usize) {
        if self.requests[shard] >= shared.settings.full {
            let alone = shared.has_fault(Fault::FullParcelAlone);
            let first = if alone { shard } else { 0 };
            let open = (first..=shard).filter(|&shard| !self.batches[shard].is_empty());
            self.posting.extend(open);
        }
    }

    /// Takes the place, and in another step fills it.
    fn place(&mut self, shared: &mut Shared, placing: Placing) {
        let Placing { shard, mut tag, place } = placing;
        let mailbox = &mut shared.mailboxes[shard];
        let Some(place) = place else {
            self.placing = Some(Placing { place: Some(mailbox.take()), ..placing });
            return;
        };
        if shared.has_fault(Fault::TagOfRound) {
            tag = self.round_tag;
        }
        let mut messages = mem::take(&mut self.batches[shard]);
        for message in &mut messages {
            if let Message::Request(request) = message {
                request.tag = tag;
            }
        }
        let spent_credit = mem::take(&mut self.requests[shard]) > 0;
        let batch = Batch { from: self.own, place, messages, spent_credit };
        shared.mailboxes[shard].fill(place, batch);
    }

    fn begin(&mut self, shared: &Shared) -> Phase {
        self.arrived = shared.connections.iter().map(Connection::sent).collect();
        self.tag = shared.ids.tag();
        self.round_tag = self.tag;
        Phase::Send { half: FirstHalf::default(), connection: 0 }
    }

    /// First half: one command of that connection, if it goes, or on to the next.
    fn send_next(&mut self, shared: &mut Shared, mut half: FirstHalf, connection: usize) -> Phase {
        if connection == shared.connections.len() {
            self.tail_before_places = shared.mailboxes[self.own].tail();
            self.post_all(shared);
            return Phase::Tail;
        }
        let Some((number, shards)) = self.next_for_others(shared, &mut half, connection) else {
            return Phase::Send { half: FirstHalf::default(), connection: connection + 1 };
        };
        self.dispatch(shared, connection, number, &shards);
        if let [to] = shards[..] {
            self.post_if_full(shared, to);
        }
        Phase::Send { half, connection }
    }

    /// The command that the connection sends in the first half, if it sends any: its number in the
    /// input, and its shards.
    fn next_for_others(
        &self,
        shared: &Shared,
        half: &mut FirstHalf,
        connection: usize,
    ) -> Option<(usize, Vec<usize>)> {
        for (number, shards) in self.input(shared, connection).into_iter().enumerate() {
            let admission = match shards[..] {
                _ if shared.has_fault(Fault::AllRunsAtOnce) => {
                    let can = |&to: &usize| to == self.own || self.has_credit(to);
                    if shards.iter().all(can) { Ok(()) } else { Err(Blocked::Credit) }
                }
                [to] if to != self.own => {
                    half.admit(to as ShardId, |to| self.has_credit(to as usize))
                }
                [_] if shared.has_fault(Fault::OwnRunsFirst) => Ok(()),
                _ => return None,
            };
            match admission {
                Ok(()) => return Some((number, shards)),
                Err(Blocked::Credit) if shared.has_fault(Fault::OvertakeWithoutCredit) => {}
                Err(Blocked::NextRound) if shared.has_fault(Fault::DescendingRuns) => {
                    *half = FirstHalf::default();
                    return self.next_for_others(shared, half, connection);
                }
                Err(_) => return None,
            }
        }
        None
    }

    fn read_tail(&self, shared: &Shared) -> Phase {
        let late = shared.mailboxes[self.own].tail();
        let stale = shared.has_fault(Fault::TailBeforePlaces);
        Phase::Drain { end: if stale { self.tail_before_places } else { late } }
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
            self.post_all(shared);
            return Phase::Drain { end };
        }
        self.tag = shared.ids.tag();
        let open = drained || shared.has_fault(Fault::OwnDespiteUnfilled);
        let begun = SecondHalf::begin(self.own as ShardId, open);
        Phase::Own { begun, half: begun, connection: 0 }
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

    /// Second half: one command of that connection, if it goes, or on to the next.
    fn own_next(
        &mut self,
        shared: &mut Shared,
        begun: SecondHalf,
        mut half: SecondHalf,
        connection: usize,
    ) -> Phase {
        if connection == shared.connections.len() {
            self.post_all(shared);
            return Phase::Draw;
        }
        if shared.has_fault(Fault::OnAfterParts) {
            half = begun;
        }
        let next = self.input(shared, connection).into_iter().next();
        let admitted = next.filter(|shards| match shards[..] {
            [own] if own == self.own => half.admit_own().is_ok(),
            [_] => false,
            _ => {
                let shards = shards.iter().map(|&shard| shard as ShardId);
                half.admit_parts(shards, |to| self.has_credit(to as usize)).is_ok()
            }
        });
        let Some(shards) = admitted else {
            return Phase::Own { begun, half: begun, connection: connection + 1 };
        };
        self.dispatch(shared, connection, 0, &shards);
        Phase::Own { begun, half, connection }
    }

    /// The places of the second half are taken: now transactions set out, with places of their own.
    fn draw(&mut self, shared: &mut Shared) -> Phase {
        let mut messages = Vec::new();
        self.transactions.draw(shared, &mut messages);
        self.send(shared, messages);
        self.post_all(shared);
        Phase::Begin
    }

    /// Lets a command go: as a transaction, as one request, or in parts.
    fn dispatch(
        &mut self,
        shared: &mut Shared,
        connection: usize,
        number: usize,
        shards: &[usize],
    ) {
        let input = &mut shared.connections[connection].input;
        let (command, Command { parts, atomic }) = input.remove(number).expect("it was just seen");
        let origin = Origin { connection, command };
        let asked: Vec<Asked> =
            parts.into_iter().enumerate().map(|(part, (key, asks))| (part, key, asks)).collect();
        match (atomic, shards.len()) {
            (true, 1) => self.request(shared, origin, asked),
            (true, _) => {
                let at = |part: Asked| (shared.owner(part.1), part);
                let parts = asked.into_iter().map(at).collect();
                self.transactions.begin(origin, parts, shared);
            }
            (false, _) => asked.into_iter().for_each(|it| self.request(shared, origin, vec![it])),
        }
    }

    fn request(&mut self, shared: &mut Shared, origin: Origin, asked: Vec<Asked>) {
        let shard = shared.owner(asked[0].1);
        if shard != self.own {
            self.credits[shard] -= usize::from(self.requests[shard] == 0);
            self.requests[shard] += 1;
        }
        let request = Request { from: self.own, origin, tag: self.tag, asked };
        self.send(shared, vec![(shard, Message::Request(request))]);
    }

    /// The shards of each command that has arrived and not left yet.
    fn input(&self, shared: &Shared, connection: usize) -> Vec<Vec<usize>> {
        let Connection { worker, input, stopped, .. } = &shared.connections[connection];
        let arrived = |(sent, _): &&(usize, Command)| {
            *worker == self.own && !stopped && *sent < self.arrived[connection]
        };
        let shards = |(_, command): &(usize, Command)| {
            let mut shards: Vec<_> =
                command.parts.iter().map(|&(key, _)| shared.owner(key)).collect();
            shards.sort_unstable();
            shards.dedup();
            shards
        };
        input.iter().take_while(arrived).map(shards).collect()
    }

    fn has_credit(&self, shard: usize) -> bool {
        self.requests[shard] > 0 || self.credits[shard] > 0
    }
}
