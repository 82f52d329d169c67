//! A worker: goes through its rounds in the smallest steps between which others may move.

use std::mem;

use super::{
    check::Effect,
    connection::{Action, Command},
    world::{Fault, Settings, Shared},
};
use crate::transaction::{
    ShardId,
    round::{Admission, Blocked, Round},
};

/// Messages that take one place together.
#[derive(Debug)]
pub(super) struct Batch {
    from: usize,
    place: u64,
    messages: Vec<Message>,
    /// Whether there are requests among them, for which a credit was spent.
    spent_credit: bool,
}

#[derive(Debug)]
enum Message {
    Request {
        part: Part,
        action: Action,
    },
    Reply {
        part: Part,
        effect: Effect,
    },
    /// Stands behind the replies to a batch of requests.
    Credit,
}

/// Which part of which command of which connection.
#[derive(Clone, Copy, Debug)]
struct Part {
    connection: usize,
    command: usize,
    part: usize,
    key: usize,
}

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
    values: Vec<u32>,
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
            values: vec![0; settings.keys],
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
        let open = drained || shared.has_fault(Fault::OwnDespiteUnfilled);
        Phase::Gather { round: Round::begin(self.own, open), connection: 0 }
    }

    fn serve(&mut self, shared: &mut Shared, batch: Batch) {
        shared.served[self.own].push(batch.place);
        for message in batch.messages {
            match message {
                Message::Request { part, action } => {
                    let effect = self.execute(part.key, action);
                    self.batches[batch.from].push(Message::Reply { part, effect });
                }
                Message::Reply { part, effect } => complete(shared, part, effect),
                Message::Credit => self.credits[batch.from] += 1,
            }
        }
        if batch.spent_credit {
            self.batches[batch.from].push(Message::Credit);
        }
    }

    fn gather(&mut self, shared: &mut Shared, round: Round, connection: usize) -> Phase {
        if connection == shared.connections.len() {
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
            let (command, Command { parts, .. }) = input.remove(number).expect("it was just seen");
            for (part, (key, action)) in parts.into_iter().enumerate() {
                self.dispatch(shared, Part { connection, command, part, key }, action);
            }
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
        for (number, (_, command)) in shared.connections[connection].input.iter().enumerate() {
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

    fn dispatch(&mut self, shared: &mut Shared, part: Part, action: Action) {
        let shard = shared.owner(part.key);
        if shard == self.own {
            let effect = self.execute(part.key, action);
            return complete(shared, part, effect);
        }
        if !self.requests[shard] {
            self.requests[shard] = true;
            self.credits[shard] -= 1;
        }
        self.batches[shard].push(Message::Request { part, action });
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

    fn execute(&mut self, key: usize, action: Action) -> Effect {
        match action {
            Action::Read => Effect::Read(self.values[key]),
            Action::Write(value) => {
                self.values[key] = value;
                Effect::Write(value)
            }
        }
    }
}

fn complete(shared: &mut Shared, part: Part, effect: Effect) {
    let now = shared.now;
    shared.connections[part.connection].complete(part.command, part.part, effect, now);
}
