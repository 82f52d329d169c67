//! A shard of the simulation: values, its lock table, and what waits for locks.

use super::{
    check::Effect,
    connection::Action,
    message::{Asked, Found, Hop, Message, Request},
    world::Fault,
};
use crate::transaction::{
    ids::{Tag, TransactionId},
    locks::{Admission, LockTable, Mode, Scope, Ticket},
};

pub(super) struct Shard {
    values: Vec<u32>,
    locks: LockTable,
    waiting: Vec<(Ticket, Request)>,
    /// Hops that came before their transaction might run.
    parked: Vec<Hop>,
    fault: Option<Fault>,
}

/// Messages to workers.
pub(super) type Answers = Vec<(usize, Message)>;

impl Shard {
    pub(super) fn new(keys: usize, fault: Option<Fault>) -> Self {
        let (waiting, parked) = (Vec::new(), Vec::new());
        Shard { values: vec![0; keys], locks: LockTable::default(), waiting, parked, fault }
    }

    /// Runs a plain command, or queues it. `newest` is the tag of a round that would begin now.
    pub(super) fn request(&mut self, request: Request, newest: Tag, answers: &mut Answers) {
        if self.fault != Some(Fault::NoFloor) {
            self.locks.observe(request.tag);
        }
        if self.locks.is_empty() || self.fault == Some(Fault::SkipLockCheck) {
            return self.run(request, answers);
        }
        let waits_for_all = self.fault == Some(Fault::WaitForYounger);
        let tag = if waits_for_all { newest } else { request.tag };
        match self.locks.admit(tag, scope_of(&request.asked)) {
            Admission::Run => self.run(request, answers),
            Admission::Wait(ticket) => self.waiting.push((ticket, request)),
        }
    }

    pub(super) fn schedule(&mut self, id: TransactionId, scope: Scope) -> Message {
        Message::Scheduled { id, accepts: self.locks.schedule(id, scope).is_ok() }
    }

    pub(super) fn hop(&mut self, hop: Hop, answers: &mut Answers) {
        let early = self.fault == Some(Fault::ConcludeEarly);
        if !self.locks.begin(hop.id) && !early {
            return self.parked.push(hop);
        }
        let found = self.execute(&hop.asked);
        answers.push((hop.from, Message::HopDone { id: hop.id, found }));
        if hop.concludes || early {
            self.forget(hop.id, answers);
        }
    }

    pub(super) fn forget(&mut self, id: TransactionId, answers: &mut Answers) {
        self.release(Ticket::Transaction(id), answers);
    }

    /// Takes an entry out of the queue and runs what waited for it.
    fn release(&mut self, ticket: Ticket, answers: &mut Answers) {
        let mut granted = Vec::new();
        self.locks.release(ticket, &mut granted);
        for ticket in granted {
            match ticket {
                Ticket::Transaction(id) => {
                    if let Some(index) = self.parked.iter().position(|hop| hop.id == id) {
                        let hop = self.parked.remove(index);
                        self.hop(hop, answers);
                    }
                }
                Ticket::Command(_) => {
                    // One that was granted twice has run already.
                    let Some(index) = self.waiting.iter().position(|(it, _)| *it == ticket) else {
                        continue;
                    };
                    let (_, request) = self.waiting.remove(index);
                    self.run(request, answers);
                    self.release(ticket, answers);
                }
            }
        }
    }

    fn run(&mut self, request: Request, answers: &mut Answers) {
        let found = self.execute(&request.asked);
        answers.push((request.from, Message::Reply { origin: request.origin, found }));
    }

    fn execute(&mut self, asked: &[Asked]) -> Vec<Found> {
        let one = |&(part, key, action): &Asked| match action {
            Action::Read => (part, Effect::Read(self.values[key])),
            Action::Write(value) => {
                self.values[key] = value;
                (part, Effect::Write(value))
            }
        };
        asked.iter().map(one).collect()
    }
}

pub(super) fn scope_of(asked: &[Asked]) -> Scope {
    Scope::keys(asked.iter().map(|&(_, key, action)| match action {
        Action::Read => (key as u64, Mode::Shared),
        Action::Write(_) => (key as u64, Mode::Exclusive),
    }))
}
