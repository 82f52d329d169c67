//! A worker: goes through its rounds in the smallest steps between which others may move.

use std::{
    collections::{BTreeSet, VecDeque},
    mem,
};

use super::{
    connection::{Command, Connection},
    guests::Guests,
    loans::{Loans, Unit},
    message::{Asked, Batch, Message, Origin, Request, execute},
    world::{Fault, Settings, Shared},
};
use crate::transaction::{
    ShardId,
    round::{Blocked, FirstHalf, SecondHalf},
};

/// What comes next, once the places that are to be taken are taken.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Begin,
    /// Waits for something to do; the own shard may be with others.
    Resting,
    /// First half: that connection is asked for its next command.
    Send {
        half: FirstHalf,
        connection: usize,
    },
    /// Raises the flag that says that places are taken.
    Enter {
        then: Then,
    },
    /// Looks whether a cut is being made.
    Look {
        then: Then,
    },
    /// The places are taken; lowers the flag.
    Leave {
        then: Then,
    },
    /// Reads the own mailbox's tail.
    Tail,
    /// Looks at the mailboxes of the guests' owners.
    Admit {
        end: u64,
    },
    Drain {
        end: u64,
    },
    /// Second half: that connection is asked for its next command.
    Own {
        half: SecondHalf,
        connection: usize,
    },
    /// That connection is asked for commands that go through a cut.
    PackCut {
        connection: usize,
    },
    /// Closes the way for others.
    Close,
    /// Waits until that worker is not taking places.
    AwaitOthers {
        other: usize,
    },
    /// The places of the cut are taken; opens the way.
    Open,
}

/// What follows the taking of places.
#[derive(Clone, Copy, Debug)]
enum Then {
    Tail,
    /// A full parcel has left; the first half goes on.
    Send {
        half: FirstHalf,
        connection: usize,
    },
}

/// A batch on its way into a mailbox.
#[derive(Debug)]
struct Placing {
    to: usize,
    messages: Vec<Message>,
    spent_credit: bool,
    /// Its place, once it is taken.
    place: Option<u64>,
}

pub(super) struct Worker {
    own: usize,
    phase: Phase,
    placing: Option<Placing>,
    /// What takes its places next, in this order.
    posting: VecDeque<Placing>,
    /// The own shard, unless it is lent or left in its berth; and what waits for it.
    values: Option<Vec<u32>>,
    is_offered: bool,
    guests: Guests,
    waiting: VecDeque<(usize, Message)>,
    loans: Loans,
    /// How many commands each client had sent when the round began.
    arrived: Vec<usize>,
    /// Requests being packed.
    batches: Vec<Vec<Message>>,
    credits: Vec<usize>,
    /// The own tail before the first half's places were taken: too early, which a planted fault uses.
    tail_before_places: u64,
}

impl Worker {
    pub(super) fn new(own: usize, settings: Settings) -> Self {
        Worker {
            own,
            phase: Phase::Begin,
            placing: None,
            posting: VecDeque::new(),
            values: Some(vec![0; settings.keys]),
            is_offered: false,
            guests: Guests::new(settings.workers),
            waiting: VecDeque::new(),
            loans: Loans::default(),
            arrived: Vec::new(),
            batches: (0..settings.workers).map(|_| Vec::new()).collect(),
            credits: vec![settings.credits; settings.workers],
            tail_before_places: 0,
        }
    }

    pub(super) fn step(&mut self, shared: &mut Shared) {
        if let Some(placing) = self.placing.take() {
            return self.place(shared, placing);
        }
        if let Some(next) = self.posting.pop_front() {
            self.placing = Some(next);
            return;
        }
        self.phase = match self.phase {
            Phase::Begin => self.rest(shared),
            Phase::Resting => match self.has_work(shared) || self.loans.is_under_way() {
                true => self.wake(shared),
                false => Phase::Resting,
            },
            Phase::Send { half, connection } => self.send_next(shared, half, connection),
            Phase::Enter { then } => {
                shared.taking[self.own] = true;
                Phase::Look { then }
            }
            Phase::Look { then } => self.look(shared, then),
            Phase::Leave { then } => self.leave(shared, then),
            Phase::Tail => self.read_tail(shared),
            Phase::Admit { end } => {
                if !shared.has_fault(Fault::GuestsBeforeTail) {
                    self.guests.admit(shared);
                }
                Phase::Drain { end }
            }
            Phase::Drain { end } => self.drain_one(shared, end),
            Phase::Own { half, connection } => self.own_next(shared, half, connection),
            Phase::PackCut { connection } => self.pack_next(shared, connection),
            Phase::Close => self.close(shared),
            Phase::AwaitOthers { other } => self.await_others(shared, other),
            Phase::Open => {
                shared.closed = false;
                Phase::Begin
            }
        };
    }

    /// Takes the place, and in another step fills it.
    fn place(&mut self, shared: &mut Shared, placing: Placing) {
        let mailbox = &mut shared.mailboxes[placing.to];
        let Some(place) = placing.place else {
            self.placing = Some(Placing { place: Some(mailbox.take()), ..placing });
            return;
        };
        let Placing { messages, spent_credit, .. } = placing;
        mailbox.fill(place, Batch { from: self.own, place, messages, spent_credit });
    }

    /// Lets something that is no request take a place: that needs no entering.
    fn tell(&mut self, to: usize, message: Message) {
        let messages = vec![message];
        self.posting.push_back(Placing { to, messages, spent_credit: false, place: None });
    }

    /// Lets batches take their places, in the order that the rule wants.
    fn post(&mut self, shared: &Shared, shards: impl Iterator<Item = usize>) {
        let mut open: Vec<_> = shards.filter(|&shard| !self.batches[shard].is_empty()).collect();
        if shared.has_fault(Fault::DescendingPlaces) {
            open.reverse();
        }
        for to in open {
            let messages = mem::take(&mut self.batches[to]);
            self.posting.push_back(Placing { to, messages, spent_credit: true, place: None });
        }
    }

    /// Whether there is anything to do, for a worker that has nothing left over.
    fn has_work(&self, shared: &Shared) -> bool {
        let has_input = |connection: &Connection| {
            let next = connection.input.front();
            let has_arrived = next.is_some_and(|(number, _)| *number < connection.sent());
            connection.worker == self.own && !connection.stopped && has_arrived
        };
        !shared.mailboxes[self.own].is_drained()
            || shared.berths[self.own].is_kept()
            || shared.connections.iter().any(has_input)
    }

    /// Leaves the shard to others, if it is here, for as long as the worker sends and receives or
    /// sleeps: which it does between any two turns, whether it has work or not.
    fn rest(&mut self, shared: &mut Shared) -> Phase {
        // A planted fault lets an owner have a copy of what is away.
        if self.waiting.is_empty()
            && !self.is_offered
            && let Some(values) = self.values.take()
        {
            shared.berths[self.own].offer(values);
            self.is_offered = true;
        }
        Phase::Resting
    }

    /// Begins a turn, with the own shard if nobody has it.
    fn wake(&mut self, shared: &mut Shared) -> Phase {
        if self.is_offered
            && let Some(values) = shared.berths[self.own].reclaim()
        {
            self.is_offered = false;
            self.take_back(shared, values);
        }
        self.arrived = shared.connections.iter().map(Connection::sent).collect();
        Phase::Send { half: FirstHalf::default(), connection: 0 }
    }

    /// First half: one command of that connection, if it goes, or on to the next.
    fn send_next(&mut self, shared: &mut Shared, mut half: FirstHalf, connection: usize) -> Phase {
        if connection == shared.connections.len() {
            self.tail_before_places = shared.mailboxes[self.own].tail();
            return Phase::Enter { then: Then::Tail };
        }
        if let Some([to]) = self.input(shared, connection).first().map(Vec::as_slice)
            && *to != self.own
            && self.batches[*to].is_empty()
            && self.guests.invite(shared, *to)
        {
            return Phase::Send { half: FirstHalf::default(), connection: connection + 1 };
        }
        self.invite_for_parts(shared, connection);
        let Some((number, shards)) = self.next_for_others(shared, &mut half, connection) else {
            return Phase::Send { half: FirstHalf::default(), connection: connection + 1 };
        };
        self.dispatch(shared, connection, number, &shards);
        let is_full = |&to: &usize| self.batches[to].len() >= shared.settings.full;
        if shards.iter().any(is_full) {
            return Phase::Enter { then: Then::Send { half, connection } };
        }
        Phase::Send { half, connection }
    }

    /// Takes the shards of a command in parts as guests, as far as they can be had.
    fn invite_for_parts(&mut self, shared: &mut Shared, connection: usize) {
        let Some(shards) = self.next_in_parts(shared, connection) else { return };
        let own = self.own;
        let mut others = shards.into_iter().filter(|&shard| shard != own);
        let _ = others.all(|to| self.batches[to].is_empty() && self.guests.invite(shared, to));
    }

    /// The shards of the connection's next command, if that is one in parts.
    fn next_in_parts(&self, shared: &Shared, connection: usize) -> Option<Vec<usize>> {
        let shards = self.input(shared, connection).into_iter().next()?;
        let together = shared.connections[connection].input[0].1.together;
        (shards.len() > 1 && !together).then_some(shards)
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
                [_] | [_, _, ..] if shared.has_fault(Fault::AllRunsAtOnce) => {
                    let can = |&to: &usize| to == self.own || self.has_credit(to);
                    if shards.iter().all(can) { Ok(()) } else { Err(Blocked::Credit) }
                }
                [to] if to != self.own => {
                    half.admit(to as ShardId, |to| self.has_credit(to as usize))
                }
                [_] if shared.has_fault(Fault::OwnRunsFirst) && self.values.is_some() => Ok(()),
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

    /// The flag is raised: the places may be taken unless a cut is being made.
    fn look(&mut self, shared: &mut Shared, then: Then) -> Phase {
        if shared.closed && !shared.has_fault(Fault::EnterClosed) {
            shared.taking[self.own] = false;
            return Phase::Enter { then };
        }
        match then {
            Then::Tail => self.post(shared, 0..shared.settings.workers),
            Then::Send { .. } => {
                let is_full = |&to: &usize| self.batches[to].len() >= shared.settings.full;
                let full = (0..shared.settings.workers).rfind(is_full).unwrap_or(0);
                let alone = shared.has_fault(Fault::FullParcelAlone);
                self.post(shared, if alone { full..full + 1 } else { 0..full + 1 });
            }
        }
        Phase::Leave { then }
    }

    fn leave(&mut self, shared: &mut Shared, then: Then) -> Phase {
        shared.taking[self.own] = false;
        if shared.has_fault(Fault::GuestsBeforeTail) {
            self.guests.admit(shared);
        }
        match then {
            Then::Tail => Phase::Tail,
            Then::Send { half, connection } => Phase::Send { half, connection },
        }
    }

    fn read_tail(&self, shared: &Shared) -> Phase {
        let late = shared.mailboxes[self.own].tail();
        let stale = shared.has_fault(Fault::TailBeforePlaces);
        Phase::Admit { end: if stale { self.tail_before_places } else { late } }
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
        let half = SecondHalf::begin(open && self.values.is_some());
        Phase::Own { half, connection: 0 }
    }

    fn serve(&mut self, shared: &mut Shared, batch: Batch) {
        shared.served[self.own].push(batch.place);
        for message in batch.messages {
            self.handle(shared, batch.from, message);
        }
        if batch.spent_credit {
            if batch.from == self.own {
                self.credits[self.own] += 1;
            } else {
                self.tell(batch.from, Message::Credit);
            }
        }
    }

    fn handle(&mut self, shared: &mut Shared, from: usize, message: Message) {
        match message {
            Message::Request(_) | Message::Borrow { .. } if self.values.is_none() => {
                self.waiting.push_back((from, message));
            }
            Message::Request(request) => self.run(shared, request),
            Message::Borrow { host } => self.lend(shared, host),
            Message::Reply { origin, found } => shared.complete(origin, found),
            Message::Credit => self.credits[from] += 1,
            Message::Lent { owner, values } => self.borrow(shared, owner, values),
            Message::Return { values } => self.take_back(shared, values),
        }
    }

    /// Executes a request on the own shard.
    fn run(&mut self, shared: &mut Shared, request: Request) {
        let Some(values) = &mut self.values else { return };
        let before = values.clone();
        let write = |key: usize, new| values[key] = new;
        let found = execute(&request.asked, |key| before[key], write);
        if request.from == self.own {
            shared.complete(request.origin, found);
        } else {
            self.tell(request.from, Message::Reply { origin: request.origin, found });
        }
    }

    /// Executes a request on a guest, if its shard is one.
    fn run_on_guest(&mut self, shared: &mut Shared, shard: usize, request: &Request) -> bool {
        let Some(values) = self.guests.values_mut(shard) else { return false };
        let before = values.clone();
        let found = execute(&request.asked, |key| before[key], |key, new| values[key] = new);
        shared.on_guests += 1;
        shared.complete(request.origin, found);
        true
    }

    fn lend(&mut self, shared: &mut Shared, host: usize) {
        let goes_on = shared.has_fault(Fault::GoOnWhileLent);
        let Some(values) = (if goes_on { self.values.clone() } else { self.values.take() }) else {
            return;
        };
        if host == self.own {
            self.borrow(shared, host, values);
        } else {
            self.tell(host, Message::Lent { owner: self.own, values });
        }
    }

    fn borrow(&mut self, shared: &mut Shared, owner: usize, values: Vec<u32>) {
        if !self.loans.put(owner, values) {
            return;
        }
        for (owner, values) in self.loans.execute(shared) {
            if owner == self.own {
                self.take_back(shared, values);
            } else {
                self.tell(owner, Message::Return { values });
            }
        }
    }

    fn take_back(&mut self, shared: &mut Shared, values: Vec<u32>) {
        self.values = Some(values);
        while self.values.is_some()
            && let Some((from, message)) = self.waiting.pop_front()
        {
            self.handle(shared, from, message);
        }
    }

    /// Second half: one command of that connection, if it goes, or on to the next.
    fn own_next(&mut self, shared: &mut Shared, half: SecondHalf, connection: usize) -> Phase {
        if connection == shared.connections.len() {
            self.guests.send_all_home(shared);
            return Phase::PackCut { connection: 0 };
        }
        match self.input(shared, connection).first().map(Vec::as_slice) {
            Some(&[to]) if to == self.own && half.admit_own().is_ok() || self.guests.has(to) => {
                self.dispatch(shared, connection, 0, &[to]);
                Phase::Own { half, connection }
            }
            _ => self.own_parts_next(shared, half, connection),
        }
    }

    /// Second half: a command in parts executes here if all its shards are here.
    fn own_parts_next(
        &mut self,
        shared: &mut Shared,
        half: SecondHalf,
        connection: usize,
    ) -> Phase {
        let may_run = half.admit_own().is_ok() && self.values.is_some();
        let is_here = |&to: &usize| to == self.own && may_run || self.guests.has(to);
        match self.next_in_parts(shared, connection) {
            Some(shards) if shards.iter().all(is_here) => {
                self.run_parts(shared, connection, &shards);
                Phase::Own { half, connection }
            }
            _ => Phase::Own { half, connection: connection + 1 },
        }
    }

    /// Executes a command in parts on the shards that are here, in one step.
    fn run_parts(&mut self, shared: &mut Shared, connection: usize, shards: &[usize]) {
        let input = &mut shared.connections[connection].input;
        let (command, Command { parts, .. }) = input.pop_front().expect("it was just seen");
        let origin = Origin { connection, command };
        for &shard in shards {
            let asked = parts.iter().copied().enumerate();
            let asked = asked.filter(|&(_, (key, _))| shared.owner(key) == shard);
            let asked = asked.map(|(part, (key, asks))| (part, key, asks)).collect();
            let request = Request { from: self.own, origin, asked };
            if shard == self.own {
                self.run(shared, request);
            } else {
                self.run_on_guest(shared, shard, &request);
            }
        }
    }

    /// Packs a command of that connection which concerns several shards, if it can go.
    fn pack_next(&mut self, shared: &mut Shared, connection: usize) -> Phase {
        if connection == shared.connections.len() {
            return self.begin_cut(shared);
        }
        let next = self.input(shared, connection).into_iter().next();
        let Some(shards) = next.filter(|shards| shards.len() > 1) else {
            return Phase::PackCut { connection: connection + 1 };
        };
        let together = shared.connections[connection].input[0].1.together;
        let goes = if together {
            !self.loans.is_under_way()
        } else {
            shards.iter().all(|&shard| self.has_credit(shard))
        };
        if !goes {
            return Phase::PackCut { connection: connection + 1 };
        }
        self.dispatch(shared, connection, 0, &shards);
        Phase::PackCut { connection }
    }

    fn begin_cut(&mut self, shared: &Shared) -> Phase {
        let has_parts = self.batches.iter().any(|batch| !batch.is_empty());
        if !self.loans.wants_cut() && !has_parts {
            return Phase::Begin;
        }
        if shared.has_fault(Fault::NoCut) {
            self.post_cut(shared);
            return Phase::Begin;
        }
        Phase::Close
    }

    fn close(&mut self, shared: &mut Shared) -> Phase {
        if mem::replace(&mut shared.closed, true) {
            return Phase::Close;
        }
        Phase::AwaitOthers { other: 0 }
    }

    fn await_others(&mut self, shared: &Shared, other: usize) -> Phase {
        let hurries = shared.has_fault(Fault::CutDespiteOthers);
        if other < shared.settings.workers && !hurries {
            let is_out = !shared.taking[other];
            return Phase::AwaitOthers { other: other + usize::from(is_out) };
        }
        self.post_cut(shared);
        Phase::Open
    }

    /// Lets all that goes through the cut take its places: the parts, and behind them the loans.
    fn post_cut(&mut self, shared: &Shared) {
        self.post(shared, 0..shared.settings.workers);
        let parts = self.posting.len();
        for to in self.loans.ask() {
            self.tell(to, Message::Borrow { host: self.own });
        }
        if shared.has_fault(Fault::LoansAmongParts) {
            // Before the parts on some shards, behind them on others.
            self.posting.rotate_left(parts.min(1));
        }
    }

    /// Takes a command from the input to where it belongs.
    fn dispatch(
        &mut self,
        shared: &mut Shared,
        connection: usize,
        number: usize,
        shards: &[usize],
    ) {
        let input = &mut shared.connections[connection].input;
        let (command, Command { parts, together, hidden }) =
            input.remove(number).expect("it was just seen");
        let origin = Origin { connection, command };
        let asked: Vec<Asked> =
            parts.into_iter().enumerate().map(|(part, (key, asks))| (part, key, asks)).collect();
        if together && shards.len() > 1 && !shared.has_fault(Fault::AllRunsAtOnce) {
            // A key that the command does not declare is found when it runs.
            let declared = asked.len() - usize::from(hidden);
            let owners = asked[..declared].iter().map(|&(_, key, _)| shared.owner(key));
            let shards: BTreeSet<usize> = owners.collect();
            let goes_on = shared.has_fault(Fault::GoOnBeforeDone);
            shared.connections[connection].stopped = !goes_on;
            return self.loans.promise(Unit { origin, asked, shards });
        }
        for &shard in shards {
            let here = |&&(_, key, _): &&Asked| shared.owner(key) == shard;
            let asked: Vec<Asked> = asked.iter().filter(here).copied().collect();
            let request = Request { from: self.own, origin, asked };
            let in_place = shards.len() == 1 || shared.has_fault(Fault::OwnPartInPlace);
            if shard == self.own && in_place && self.values.is_some() {
                self.run(shared, request);
                continue;
            }
            if shards.len() == 1 && self.run_on_guest(shared, shard, &request) {
                continue;
            }
            self.credits[shard] -= usize::from(self.batches[shard].is_empty());
            self.batches[shard].push(Message::Request(request));
        }
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
        !self.batches[shard].is_empty() || self.credits[shard] > 0
    }
}
