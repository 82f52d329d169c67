//! Tests of the lock table, rule by rule.

use proptest::prelude::*;

use super::{Mode::*, *};

fn scope(intents: &[(Fingerprint, Mode)]) -> Scope {
    Scope::keys(intents.iter().copied())
}

fn released(locks: &mut LockTable, ticket: Ticket) -> Vec<Ticket> {
    let mut granted = Vec::new();
    locks.release(ticket, &mut granted);
    granted
}

#[test]
fn transactions_share_what_both_read_and_queue_for_what_one_writes() {
    let mut locks = LockTable::default();
    locks.schedule(1, scope(&[(7, Shared)])).unwrap();
    locks.schedule(2, scope(&[(7, Shared)])).unwrap();
    locks.schedule(3, scope(&[(7, Exclusive)])).unwrap();
    assert!(locks.begin(1) && locks.begin(2) && !locks.begin(3));
    assert_eq!(released(&mut locks, Ticket::Transaction(1)), []);
    assert_eq!(released(&mut locks, Ticket::Transaction(2)), [Ticket::Transaction(3)]);
    assert!(locks.begin(3));
    assert_eq!(released(&mut locks, Ticket::Transaction(3)), []);
    assert!(locks.is_empty());
}

#[test]
fn a_number_behind_a_conflicting_higher_one_is_refused() {
    let mut locks = LockTable::default();
    locks.schedule(5, scope(&[(7, Exclusive)])).unwrap();
    assert_eq!(locks.schedule(4, scope(&[(7, Shared)])), Err(Refused));
    assert_eq!(locks.schedule(4, scope(&[(8, Exclusive)])), Ok(()));
    assert!(locks.begin(4) && locks.begin(5));
}

#[test]
fn a_number_at_or_below_the_tag_of_a_command_that_was_here_is_refused() {
    let mut locks = LockTable::default();
    locks.observe(4);
    assert_eq!(locks.schedule(4, scope(&[(7, Shared)])), Err(Refused));
    assert_eq!(locks.schedule(5, scope(&[(7, Shared)])), Ok(()));
}

#[test]
fn a_number_below_a_transaction_that_has_run_and_gone_is_refused() {
    let mut locks = LockTable::default();
    locks.schedule(5, scope(&[(7, Exclusive)])).unwrap();
    assert!(locks.begin(5));
    assert_eq!(released(&mut locks, Ticket::Transaction(5)), []);
    assert_eq!(locks.schedule(4, scope(&[(7, Shared)])), Err(Refused));
}

#[test]
fn a_transaction_that_was_refused_elsewhere_leaves_no_trace() {
    let mut locks = LockTable::default();
    locks.schedule(5, scope(&[(7, Exclusive)])).unwrap();
    assert_eq!(released(&mut locks, Ticket::Transaction(5)), []);
    assert_eq!(locks.schedule(4, scope(&[(7, Shared)])), Ok(()));
}

#[test]
fn a_command_goes_ahead_of_a_transaction_that_was_drawn_later_and_has_not_begun() {
    let mut locks = LockTable::default();
    locks.schedule(5, scope(&[(7, Exclusive)])).unwrap();
    assert_eq!(locks.admit(4, scope(&[(7, Shared)])), Admission::Run);
    let Admission::Wait(waiting) = locks.admit(5, scope(&[(7, Shared)])) else { panic!("it ran") };
    assert!(locks.begin(5));
    assert!(matches!(locks.admit(4, scope(&[(7, Shared)])), Admission::Wait(_)));
    assert!(released(&mut locks, Ticket::Transaction(5)).contains(&waiting));
}

#[test]
fn nothing_later_on_a_key_overtakes_a_command_that_waits_compatible_or_not() {
    let mut locks = LockTable::default();
    locks.schedule(1, scope(&[(7, Shared)])).unwrap();
    assert!(locks.begin(1));
    let Admission::Wait(writer) = locks.admit(1, scope(&[(7, Exclusive)])) else {
        panic!("it ran")
    };
    let Admission::Wait(reader) = locks.admit(1, scope(&[(7, Shared)])) else { panic!("it ran") };
    assert_eq!(released(&mut locks, Ticket::Transaction(1)), [writer]);
    assert_eq!(released(&mut locks, writer), [reader]);
}

#[test]
fn a_command_behind_a_begun_transaction_is_behind_what_that_may_wait_for() {
    let mut locks = LockTable::default();
    locks.schedule(8, scope(&[(7, Shared)])).unwrap();
    locks.schedule(20, scope(&[(7, Shared)])).unwrap();
    assert!(locks.begin(20));
    let Admission::Wait(writer) = locks.admit(2, scope(&[(7, Exclusive)])) else {
        panic!("it ran")
    };
    assert!(locks.begin(8));
    assert_eq!(released(&mut locks, Ticket::Transaction(20)), []);
    assert_eq!(released(&mut locks, Ticket::Transaction(8)), [writer]);
}

#[test]
fn a_transaction_does_not_queue_behind_a_command_that_waits_for_a_higher_number() {
    let mut locks = LockTable::default();
    locks.schedule(20, scope(&[(7, Shared)])).unwrap();
    assert!(locks.begin(20));
    assert!(matches!(locks.admit(2, scope(&[(7, Exclusive)])), Admission::Wait(_)));
    assert_eq!(locks.schedule(8, scope(&[(7, Shared)])), Err(Refused));
}

#[test]
fn a_later_command_of_a_connection_stays_behind_an_earlier_one_that_waits() {
    let mut locks = LockTable::default();
    locks.schedule(9, scope(&[(1, Exclusive)])).unwrap();
    assert!(locks.begin(9));
    let both = scope(&[(1, Exclusive), (2, Exclusive)]);
    let Admission::Wait(first) = locks.admit(3, both) else { panic!("it ran") };
    let Admission::Wait(second) = locks.admit(4, scope(&[(2, Shared)])) else { panic!("it ran") };
    assert_eq!(released(&mut locks, Ticket::Transaction(9)), [first]);
    assert_eq!(released(&mut locks, first), [second]);
}

#[test]
fn a_whole_shard_conflicts_with_every_key() {
    let mut locks = LockTable::default();
    locks.schedule(1, scope(&[(7, Exclusive)])).unwrap();
    locks.schedule(2, Scope::Whole(Exclusive)).unwrap();
    assert!(locks.begin(1) && !locks.begin(2));
    assert!(matches!(locks.admit(2, scope(&[(8, Shared)])), Admission::Wait(_)));
    let granted = released(&mut locks, Ticket::Transaction(1));
    assert_eq!(granted, [Ticket::Transaction(2)]);
}

#[test]
fn a_key_named_twice_counts_once_with_the_stronger_mode() {
    assert_eq!(
        scope(&[(2, Shared), (1, Shared), (1, Exclusive)]),
        scope(&[(1, Exclusive), (2, Shared)])
    );
    let mut locks = LockTable::default();
    locks.schedule(1, scope(&[(1, Shared), (1, Exclusive)])).unwrap();
    assert!(matches!(locks.admit(1, scope(&[(1, Shared)])), Admission::Wait(_)));
}

#[derive(Clone, Debug)]
enum Op {
    Schedule(Vec<(Fingerprint, bool)>),
    /// A plain command of a round that began when that many numbers less were drawn.
    Admit(u64, Vec<(Fingerprint, bool)>),
    /// Lets whatever may begin begin.
    Begin,
    /// The entry of that number, counted round, goes if it runs.
    Finish(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let keys = || prop::collection::vec((0u64..4, any::<bool>()), 1..4);
    prop_oneof![
        keys().prop_map(Op::Schedule),
        (0u64..3, keys()).prop_map(|(age, keys)| Op::Admit(age, keys)),
        Just(Op::Begin),
        (0usize..8).prop_map(Op::Finish),
    ]
}

fn scope_of(keys: &[(Fingerprint, bool)]) -> Scope {
    Scope::keys(keys.iter().map(|&(key, write)| (key, if write { Exclusive } else { Shared })))
}

/// The entries that run, as the table's user knows them, and the numbers drawn so far.
#[derive(Default)]
struct User {
    locks: LockTable,
    queued: Vec<(Ticket, Scope)>,
    running: Vec<(Ticket, Scope)>,
    drawn: u64,
}

impl User {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Schedule(keys) => {
                self.drawn += 1;
                let (id, scope) = (self.drawn, scope_of(&keys));
                if self.locks.schedule(id, scope.clone()).is_ok() {
                    self.queued.push((Ticket::Transaction(id), scope));
                }
            }
            Op::Admit(age, keys) => {
                let (tag, scope) = (self.drawn.saturating_sub(age), scope_of(&keys));
                self.locks.observe(tag);
                match self.locks.admit(tag, scope.clone()) {
                    // What runs at once must not touch what a begun transaction holds.
                    Admission::Run => self.assert_free(&scope),
                    Admission::Wait(ticket) => self.queued.push((ticket, scope)),
                }
            }
            Op::Begin => self.begin(),
            Op::Finish(number) if !self.running.is_empty() => {
                let (ticket, _) = self.running.remove(number % self.running.len());
                self.release(ticket);
            }
            Op::Finish(_) => {}
        }
    }

    fn begin(&mut self) {
        for (ticket, scope) in std::mem::take(&mut self.queued) {
            match ticket {
                Ticket::Transaction(id) if self.locks.begin(id) => {
                    self.assert_free(&scope);
                    self.running.push((ticket, scope));
                }
                _ => self.queued.push((ticket, scope)),
            }
        }
    }

    fn release(&mut self, ticket: Ticket) {
        let mut granted = Vec::new();
        self.locks.release(ticket, &mut granted);
        for ticket in granted {
            if let Ticket::Command(_) = ticket
                && let Some(index) = self.queued.iter().position(|(it, _)| *it == ticket)
            {
                let (_, scope) = self.queued.remove(index);
                self.assert_free(&scope);
                self.release(ticket);
            }
        }
    }

    fn assert_free(&self, scope: &Scope) {
        assert!(self.running.iter().all(|(_, running)| !running.conflicts(scope)));
    }
}

proptest! {
    /// Whatever comes, nothing runs beside what it conflicts with, and nothing is left waiting
    /// once all that runs is finished.
    #[test]
    fn what_runs_is_alone_and_what_waits_gets_its_turn(
        ops in prop::collection::vec(op(), 1..60),
    ) {
        let mut user = User::default();
        ops.into_iter().for_each(|op| user.apply(op));
        while !user.queued.is_empty() || !user.running.is_empty() {
            user.begin();
            prop_assert!(!user.running.is_empty(), "nothing can run: {:?}", user.locks);
            user.apply(Op::Finish(0));
        }
        prop_assert!(user.locks.is_empty());
    }
}
