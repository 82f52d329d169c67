//! A worker with a real shard: routes, packs, sends, lends and hosts as the server's does, in steps
//! between which others may move.
//!
//! What `simulation::worker` shows is taken for granted here: that places of a round and of a cut are
//! one step, so sending is one. What takes time is what lies between: commands are routed, and take
//! their places later; shards are away; waiters are given up by their worker while shards serve them.

use std::collections::VecDeque;

use tessera_proto::{Protocol, ReplyBuffer, RequestBatch};

use super::{
    client::{numbers, requests},
    model::{Op, Outcome},
    world::{Fault, Shared},
};
use crate::{
    command::{Effect, table},
    notice,
    shard::{Answer, Call, Caller, Shard},
    transaction::{
        Gathered, Missing, Route, ShardId, ShardSet,
        couplings::{Announcements, Change, Coupling, Couplings},
        parts::Splitter,
        simulation::random::Random,
    },
    waiting::Waiter,
};

/// Which command of which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) client: usize,
    pub(super) number: usize,
}

/// What workers tell each other.
pub(super) enum Message {
    Request { from: usize, origin: Origin, op: Op },
    Reply { origin: Origin, reply: Vec<u8> },
    Borrow { host: usize },
    Lent { owner: usize, shard: Box<Shard> },
    Return { shard: Box<Shard> },
    Coupled { host: usize, changes: std::sync::Arc<[Change]> },
    Heard,
    Answered(Answer),
}

/// A command over lent shards.
#[derive(Clone)]
struct Unit {
    origin: Origin,
    op: Op,
    shards: ShardSet,
}

/// A command that waits, at its worker.
struct Wait {
    origin: Origin,
    waiter: Waiter,
}

pub(super) struct Worker {
    own: usize,
    shard: Option<Box<Shard>>,
    /// What came for the shard while it was away.
    waiting_mail: VecDeque<Message>,
    /// Commands that have been routed and have not taken their places.
    packed: Vec<(usize, Message)>,
    couplings: Couplings,
    announcements: Announcements<Unit>,
    gathered: Gathered,
    /// Units for the next cut.
    promised: Vec<Unit>,
    running: Vec<Unit>,
    asked: ShardSet,
    here: usize,
    heard: u64,
    waits: Vec<Wait>,
    splitter: Splitter,
    positions: Vec<usize>,
}

impl Worker {
    pub(super) fn new(own: usize, shard: Box<Shard>, shared: &Shared) -> Self {
        let mut couplings = Couplings::new(1);
        couplings.one_step_only = shared.has_fault(Fault::OneStepOnly);
        Self {
            own,
            shard: Some(shard),
            waiting_mail: VecDeque::new(),
            packed: Vec::new(),
            couplings,
            announcements: Announcements::default(),
            gathered: Gathered::new(shared.map, 1),
            promised: Vec::new(),
            running: Vec::new(),
            asked: ShardSet::default(),
            here: 0,
            heard: 0,
            waits: Vec::new(),
            splitter: Splitter::default(),
            positions: Vec::new(),
        }
    }

    /// The shard, at the end.
    pub(super) fn into_shard(self) -> Option<Box<Shard>> {
        self.shard
    }

    /// Whether nothing is under way here.
    pub(super) fn is_quiet(&self) -> bool {
        self.packed.is_empty()
            && self.waiting_mail.is_empty()
            && self.promised.is_empty()
            && self.asked.is_empty()
            && self.shard.is_some()
    }

    pub(super) fn step(&mut self, shared: &mut Shared, random: &mut Random) {
        let is_packing = !self.packed.is_empty();
        // What is planted here shows only if a packed push lies for long.
        let hears = shared.has_fault(Fault::HearWhilePacked);
        match random.below(8) {
            0 | 1 if is_packing && (!hears || random.one_in(20)) => self.post(shared),
            0..=3 => self.route_next(shared, random),
            4 | 5 if !is_packing || hears => self.serve(shared),
            6 if !is_packing => self.cut(shared),
            6 | 7 if random.one_in(4) => self.give_up(shared, random),
            7 if !is_packing => self.announce(shared, random),
            _ => {}
        }
    }

    /// What is packed takes its places, in the order in which it was packed.
    fn post(&mut self, shared: &mut Shared) {
        for (to, message) in self.packed.drain(..) {
            shared.mailboxes[to].push_back(message);
        }
    }

    /// Takes the next command of one of the own clients.
    fn route_next(&mut self, shared: &mut Shared, random: &mut Random) {
        let mut own = shared.clients.iter().enumerate().filter(|(_, client)| {
            client.worker == self.own && !client.is_stopped && !client.input.is_empty()
        });
        let count = own.clone().count();
        let Some(client) = (count > 0).then(|| random.below(count)).and_then(|at| own.nth(at))
        else {
            return;
        };
        let client = client.0;
        let Some(number) = shared.clients[client].input.pop_front() else { return };
        let (origin, op) = (Origin { client, number }, shared.clients[client].op(number).clone());
        let (shards, is_across) = self.needs(shared, &op);
        match shards.single() {
            Some(shard) if !is_across => {
                let from = self.own;
                self.packed.push((shard as usize, Message::Request { from, origin, op }));
            }
            _ => {
                shared.clients[client].is_stopped = true;
                self.promised.push(Unit { origin, op, shards });
            }
        }
    }

    /// The shards that a command needs, by what is known of couplings, and whether they have to be lent.
    fn needs(&mut self, shared: &Shared, op: &Op) -> (ShardSet, bool) {
        let batch = requests(op);
        let (map, mut needed, mut is_across) = (shared.map, ShardSet::default(), false);
        for args in batch.iter() {
            let command = table().resolve(&args).expect("a command");
            let Self { couplings, splitter, positions, .. } = self;
            let route = map.route(command, &args, positions).expect("a route");
            needed.extend(splitter.shards(map, command, &args).expect("keys"));
            is_across |=
                couplings.route(map, (command, &args, route), splitter, positions) == Route::Across;
            needed.extend(couplings.reached_by(map, command, &args, positions));
        }
        (needed, is_across || needed.len() > 1)
    }

    fn serve(&mut self, shared: &mut Shared) {
        let Some(message) = shared.mailboxes[self.own].pop_front() else { return };
        self.receive(shared, message);
    }

    fn receive(&mut self, shared: &mut Shared, message: Message) {
        match message {
            Message::Request { .. } | Message::Borrow { .. } if self.shard.is_none() => {
                self.waiting_mail.push_back(message);
            }
            Message::Request { from, origin, op } => self.execute(shared, (from, origin), &op),
            Message::Borrow { host } => {
                if let Some(shard) = self.shard.take() {
                    let lent = Message::Lent { owner: self.own, shard };
                    shared.mailboxes[host].push_back(lent);
                }
            }
            Message::Lent { owner, shard } => self.borrow(shared, owner, shard),
            Message::Return { shard } => self.take_back(shared, shard),
            Message::Reply { origin, reply } => {
                let outcome = Outcome::Answered(numbers(&reply));
                shared.complete(origin, outcome);
            }
            Message::Coupled { host, changes } => {
                changes.iter().for_each(|change| self.couplings.apply(change));
                shared.mailboxes[host].push_back(Message::Heard);
            }
            Message::Heard => {
                let units = self.announcements.hear();
                self.promised.extend(units);
            }
            Message::Answered(answer) => self.take_answer(shared, answer),
        }
    }

    /// Executes a request on the own shard.
    fn execute(&mut self, shared: &mut Shared, (from, origin): (usize, Origin), op: &Op) {
        let Some(shard) = self.shard.take() else { return };
        let mut alone = Gathered::new(shared.map, 1);
        alone.put(self.own as ShardId, shard);
        let reply = run(&mut alone, &requests(op), self.caller(shared, origin.client))
            .expect("a request needs one shard");
        let reply = Message::Reply { origin, reply };
        if !shared.has_fault(Fault::ServeLater) {
            alone.serve_waiters();
        }
        shared.mailboxes[from].push_back(reply);
        let Some(mut shard) = alone.take(self.own as ShardId) else { return };
        deliver(&mut shard, shared);
        self.shard = Some(shard);
    }

    fn caller(&self, shared: &Shared, client: usize) -> Caller {
        let worker = shared.clients[client].worker as u32;
        let client = notice::Client { worker, connection: client as u64 };
        Caller { client, caches: false, may_wait: true, is_script: false }
    }

    /// Lets all units that wait take their places, if no loan is under way.
    fn cut(&mut self, shared: &mut Shared) {
        if !self.asked.is_empty() || self.promised.is_empty() {
            return;
        }
        self.running = std::mem::take(&mut self.promised);
        for unit in &self.running {
            self.asked.extend(unit.shards);
        }
        self.heard = self.announcements.heard();
        for owner in self.asked.iter() {
            shared.mailboxes[owner as usize].push_back(Message::Borrow { host: self.own });
        }
    }

    fn borrow(&mut self, shared: &mut Shared, owner: usize, shard: Box<Shard>) {
        self.gathered.put(owner as ShardId, shard);
        self.here += 1;
        if self.here < self.asked.len() {
            return;
        }
        self.here = 0;
        for unit in std::mem::take(&mut self.running) {
            self.execute_unit(shared, unit);
            if !shared.has_fault(Fault::ServeLater) {
                self.gathered.serve_waiters();
            }
        }
        for owner in std::mem::take(&mut self.asked).iter() {
            if let Some(shard) = self.gathered.take(owner) {
                shared.mailboxes[owner as usize].push_back(Message::Return { shard });
            }
        }
    }

    fn execute_unit(&mut self, shared: &mut Shared, unit: Unit) {
        let batch = requests(&unit.op);
        let Unit { origin, .. } = unit;
        let (needed, _) = self.needs(shared, &unit.op);
        if !self.gathered.has(needed) {
            return self.promised.push(Unit { shards: needed, ..unit });
        }
        let caller = self.caller(shared, origin.client);
        let waits =
            matches!(unit.op, Op::WaitPop { .. } | Op::WaitMove { .. } | Op::WaitRead { .. });
        if !waits {
            let caller = Caller { may_wait: false, ..caller };
            let reply = run(&mut self.gathered, &batch, caller).expect("all are here");
            shared.complete(origin, Outcome::Answered(numbers(&reply)));
            shared.clients[origin.client].is_stopped = false;
            return;
        }
        let args = batch.get(0).expect("one request");
        let command = table().resolve(&args).expect("a command");
        let protocol = Protocol::Resp2;
        let call = Call { command, args, database: 0, protocol, no_touch: false, caller };
        let mut out = ReplyBuffer::new();
        let executed = self.gathered.execute(&call, &mut out).expect("all are here");
        if !matches!(executed, Ok(Effect::Waits(_))) {
            shared.complete(origin, Outcome::Answered(numbers(&out.to_vec())));
            shared.clients[origin.client].is_stopped = false;
            return;
        }
        let heard = self.heard;
        if let Some(coupling) = Coupling::of(&call, shared.map)
            && !shared.has_fault(Fault::Unannounced)
            && !self.announcements.begin_wait(&coupling, heard)
        {
            let again = self.announcements.announce(coupling, unit);
            return self.promised.extend(again);
        }
        let waiter = self.gathered.wait(&call);
        self.waits.push(Wait { origin, waiter });
        let goes_on = shared.has_fault(Fault::GoOnWhileWaiting);
        let client = &mut shared.clients[origin.client];
        client.waits(origin.number, shared.now);
        client.is_stopped = !goes_on;
    }

    fn take_back(&mut self, shared: &mut Shared, mut shard: Box<Shard>) {
        deliver(&mut shard, shared);
        self.shard = Some(shard);
        while self.shard.is_some()
            && let Some(message) = self.waiting_mail.pop_front()
        {
            self.receive(shared, message);
        }
    }

    fn take_answer(&mut self, shared: &mut Shared, Answer { waiter, reply, .. }: Answer) {
        if let Some(at) = self.waits.iter().position(|wait| wait.waiter.is(&waiter)) {
            self.end_wait(shared, at, Outcome::Answered(numbers(&reply)));
        }
    }

    /// One of the own clients that wait has its time over, or leaves.
    fn give_up(&mut self, shared: &mut Shared, random: &mut Random) {
        if self.waits.is_empty() || random.one_in(2) {
            return;
        }
        let at = random.below(self.waits.len());
        let leaves = random.one_in(3);
        let is_careless = match shared.settings.fault {
            Some(Fault::TimeOutUnclaimed) => !leaves,
            Some(Fault::LeaveUnclaimed) => leaves,
            _ => false,
        };
        if is_careless || self.waits[at].waiter.claim() {
            shared.clients[self.waits[at].origin.client].has_left = leaves;
            self.end_wait(shared, at, if leaves { Outcome::Left } else { Outcome::TimedOut });
        }
    }

    fn end_wait(&mut self, shared: &mut Shared, at: usize, outcome: Outcome) {
        let Wait { origin, waiter } = self.waits.swap_remove(at);
        if let Some(coupling) = waiter.call().and_then(|call| Coupling::of(&call, shared.map))
            && !shared.has_fault(Fault::Unannounced)
        {
            self.announcements.end_wait(&coupling);
        }
        let client = &mut shared.clients[origin.client];
        client.is_stopped = client.has_left;
        shared.complete(origin, outcome);
    }

    fn announce(&mut self, shared: &mut Shared, random: &mut Random) {
        if random.one_in(3) {
            self.announcements.end_idle();
        }
        if !self.announcements.is_due() {
            return;
        }
        let changes = self.announcements.begin(shared.settings.workers);
        for mailbox in &mut shared.mailboxes {
            let changes = std::sync::Arc::clone(&changes);
            mailbox.push_back(Message::Coupled { host: self.own, changes });
        }
    }
}

/// Executes requests as one unit; answers their replies.
fn run(gathered: &mut Gathered, batch: &RequestBatch, caller: Caller) -> Result<Vec<u8>, Missing> {
    let mut out = ReplyBuffer::new();
    for args in batch.iter() {
        let command = table().resolve(&args).expect("a command");
        let protocol = Protocol::Resp2;
        let call = Call { command, args, database: 0, protocol, no_touch: false, caller };
        let _ = gathered.execute(&call, &mut out)?;
    }
    Ok(out.to_vec())
}

/// Brings what has become of waiters to their workers.
fn deliver(shard: &mut Shard, shared: &mut Shared) {
    for answer in shard.take_answers() {
        if shared.has_fault(Fault::AnsweredTwice) {
            answer.waiter.reopen();
        }
        let worker = answer.waiter.client().worker as usize;
        shared.mailboxes[worker].push_back(Message::Answered(answer));
    }
}
