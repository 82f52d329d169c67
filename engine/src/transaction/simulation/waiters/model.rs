//! One Redis of one thread, and whether it could have answered as the workers did.
//!
//! The model has lists, and queues of clients that wait for them; a stream is a list of what its group
//! has not read. Each command takes effect at one instant, in its connection's order, between its
//! request and its reply; one that finds nothing begins to wait there, and ends within the instant of
//! the command that serves it. So a history that the model explains has no element lost or given twice,
//! nobody who was passed over, nobody who waits for what is there, and no unit of which half was seen.
//!
//! The search goes through the possible orders as `check` does.

use std::collections::{BTreeSet, VecDeque};

use ahash::AHashSet;

/// What a client asks. Keys are numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Puts a value behind a key's others.
    Push { key: usize, value: u32 },
    /// Takes the first value.
    Pop { key: usize },
    /// Shows all values of some keys.
    Look { keys: Vec<usize> },
    /// Moves the first value of one key behind the others of another.
    Move { from: usize, to: usize },
    /// Takes the first value of the first key that has one, or waits.
    WaitPop { keys: Vec<usize> },
    /// As [`Op::Move`], or waits.
    WaitMove { from: usize, to: usize },
    /// Takes all values of some keys, or waits.
    WaitRead { keys: Vec<usize> },
    /// Several as one; none of them waits.
    Unit(Vec<Op>),
}

/// What has become of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was answered: the values in the reply.
    Answered(Vec<u32>),
    /// Its time was over.
    TimedOut,
    /// Its client has left while it waited.
    Left,
    /// It waits still.
    Waits,
}

/// A command of a connection, at times counted in steps.
#[derive(Clone, Debug)]
pub(super) struct Called {
    pub(super) op: Op,
    pub(super) invoked: u64,
    /// When it was known to wait, if it was; else as below.
    pub(super) waited: u64,
    /// When the outcome was there; for what waits at the end, never.
    pub(super) returned: u64,
    pub(super) outcome: Outcome,
}

/// The commands of each connection in their order, and what the keys hold at the end.
#[derive(Debug)]
pub(super) struct History {
    pub(super) connections: Vec<Vec<Called>>,
    pub(super) left: Vec<Vec<u32>>,
}

impl History {
    /// Whether the model explains it.
    pub(super) fn is_explained(&self) -> bool {
        let mut search = Search { history: self, seen: AHashSet::new() };
        let connections = self.connections.len();
        search.completes(State {
            next: vec![0; connections],
            is_waiting: vec![false; connections],
            keys: vec![VecDeque::new(); self.left.len()],
            queue: VecDeque::new(),
        })
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    /// For each connection, its first command that is not done.
    next: Vec<u8>,
    /// Whether that waits.
    is_waiting: Vec<bool>,
    keys: Vec<VecDeque<u32>>,
    /// Connections that wait, in the order in which they began to.
    queue: VecDeque<usize>,
}

struct Search<'a> {
    history: &'a History,
    seen: AHashSet<State>,
}

impl Search<'_> {
    fn completes(&mut self, state: State) -> bool {
        if self.is_end(&state) {
            return true;
        }
        if !self.seen.insert(state.clone()) {
            return false;
        }
        (0..self.history.connections.len()).any(|connection| {
            self.after(&state, connection).is_some_and(|state| self.completes(state))
        })
    }

    fn current(&self, state: &State, connection: usize) -> Option<&Called> {
        self.history.connections[connection].get(usize::from(state.next[connection]))
    }

    fn is_end(&self, state: &State) -> bool {
        let is_settled = |connection| match self.current(state, connection) {
            None => true,
            Some(called) => called.outcome == Outcome::Waits && state.is_waiting[connection],
        };
        let connections = self.history.connections.len();
        (0..connections).all(is_settled)
            && state.keys.iter().zip(&self.history.left).all(|(keys, left)| keys == left)
    }

    /// The state after a connection's next move, if it may and the outcome is the one that was seen.
    fn after(&self, state: &State, connection: usize) -> Option<State> {
        let called = self.current(state, connection)?;
        let mut after = state.clone();
        if state.is_waiting[connection] {
            // Nothing but its end is left to be decided.
            if !matches!(called.outcome, Outcome::TimedOut | Outcome::Left) {
                return None;
            }
            after.queue.retain(|waiting| *waiting != connection);
            after.finish(connection);
            return Some(after);
        }
        let is_early = |other: usize| {
            let waiting = self.current(state, other);
            other != connection
                && waiting.is_some_and(|it| {
                    let must_wait = it.waited < called.invoked && !state.is_waiting[other];
                    it.returned < called.invoked || must_wait
                })
        };
        if (0..self.history.connections.len()).any(is_early) {
            return None;
        }
        let mut changed = Vec::new();
        match after.execute(&called.op, &mut changed) {
            None => {
                after.is_waiting[connection] = true;
                after.queue.push_back(connection);
                Some(after)
            }
            Some(reply) => {
                if called.outcome != Outcome::Answered(reply) {
                    return None;
                }
                after.finish(connection);
                self.serve(&mut after, changed).then_some(after)
            }
        }
    }

    /// Serves those who wait for what has changed, and those whom that serves; answers whether all
    /// were answered what they have seen.
    fn serve(&self, state: &mut State, mut ready: Vec<usize>) -> bool {
        while !ready.is_empty() {
            let mut changed = Vec::new();
            for key in std::mem::take(&mut ready) {
                while let Some(connection) = self.next_for(state, key) {
                    let Some(called) = self.current(state, connection) else { return false };
                    let Some(reply) = state.execute(&called.op, &mut changed) else { return false };
                    if called.outcome != Outcome::Answered(reply) {
                        return false;
                    }
                    state.queue.retain(|waiting| *waiting != connection);
                    state.finish(connection);
                }
            }
            ready = changed;
        }
        true
    }

    /// The first connection that waits for `key`, if that has something.
    fn next_for(&self, state: &State, key: usize) -> Option<usize> {
        let waits_for = |&&connection: &&usize| match &self.current(state, connection)?.op {
            Op::WaitPop { keys } | Op::WaitRead { keys } => Some(keys.contains(&key)),
            Op::WaitMove { from, .. } => Some(*from == key),
            _ => None,
        };
        if state.keys[key].is_empty() {
            return None;
        }
        state.queue.iter().find(|it| waits_for(it) == Some(true)).copied()
    }
}

impl State {
    fn finish(&mut self, connection: usize) {
        self.next[connection] += 1;
        self.is_waiting[connection] = false;
    }

    /// Executes a command; nothing if it waits. Notes the keys that it fills.
    fn execute(&mut self, op: &Op, changed: &mut Vec<usize>) -> Option<Vec<u32>> {
        match op {
            Op::Push { key, value } => {
                self.fill(*key, *value, changed);
                Some(Vec::new())
            }
            Op::Pop { key } => Some(self.keys[*key].pop_front().into_iter().collect()),
            Op::Look { keys } => {
                Some(keys.iter().flat_map(|&key| self.keys[key].iter().copied()).collect())
            }
            Op::Move { from, to } => Some(self.shift(*from, *to, changed).into_iter().collect()),
            Op::WaitMove { from, to } => self.shift(*from, *to, changed).map(|value| vec![value]),
            Op::WaitPop { keys } => {
                let key = keys.iter().find(|&&key| !self.keys[key].is_empty())?;
                self.keys[*key].pop_front().map(|value| vec![value])
            }
            Op::WaitRead { keys } => {
                let unique: BTreeSet<usize> = keys.iter().copied().collect();
                debug_assert_eq!(unique.len(), keys.len());
                let read: Vec<u32> =
                    keys.iter().flat_map(|&key| std::mem::take(&mut self.keys[key])).collect();
                (!read.is_empty()).then_some(read)
            }
            Op::Unit(ops) => Some(
                ops.iter().flat_map(|op| self.execute(op, changed).unwrap_or_default()).collect(),
            ),
        }
    }

    fn shift(&mut self, from: usize, to: usize, changed: &mut Vec<usize>) -> Option<u32> {
        let value = self.keys[from].pop_front()?;
        self.fill(to, value, changed);
        Some(value)
    }

    fn fill(&mut self, key: usize, value: u32, changed: &mut Vec<usize>) {
        self.keys[key].push_back(value);
        if !changed.contains(&key) {
            changed.push(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome::*, *};

    const NEVER: u64 = u64::MAX;

    fn called(op: Op, (invoked, returned): (u64, u64), outcome: Outcome) -> Called {
        Called { op, invoked, waited: returned, returned, outcome }
    }

    fn is_explained(connections: &[&[Called]], left: &[&[u32]]) -> bool {
        let connections = connections.iter().map(|calls| calls.to_vec()).collect();
        let left = left.iter().map(|values| values.to_vec()).collect();
        History { connections, left }.is_explained()
    }

    fn answered(values: &[u32]) -> Outcome {
        Answered(values.to_vec())
    }

    /// A client that waits for key 0 from time 2 on.
    fn waiter(outcome: Outcome) -> Called {
        let returned = if outcome == Waits { NEVER } else { 9 };
        Called { waited: 2, ..called(Op::WaitPop { keys: vec![0] }, (1, returned), outcome) }
    }

    fn push(value: u32, time: (u64, u64)) -> Called {
        called(Op::Push { key: 0, value }, time, answered(&[]))
    }

    #[test]
    fn what_was_owed_to_a_waiter_is_not_stolen() {
        let thief = |stolen: &[u32]| {
            [push(7, (5, 9)), called(Op::Pop { key: 0 }, (5, 9), answered(stolen))]
        };
        assert!(is_explained(&[&[waiter(answered(&[7]))], &thief(&[])], &[&[]]));
        assert!(!is_explained(&[&[waiter(answered(&[7]))], &thief(&[7])], &[&[]]));
        assert!(!is_explained(&[&[waiter(Waits)], &thief(&[7])], &[&[]]));
        assert!(!is_explained(&[&[waiter(Waits)], &thief(&[])], &[&[]]), "an element is lost");
        assert!(!is_explained(&[&[waiter(Waits)], &thief(&[])], &[&[7]]), "it waits in vain");
        for ended in [TimedOut, Left] {
            assert!(is_explained(&[&[waiter(ended.clone())], &thief(&[7])], &[&[]]));
            assert!(!is_explained(&[&[waiter(ended)], &thief(&[])], &[&[]]), "it is lost");
        }
    }

    #[test]
    fn who_came_first_is_served_first() {
        let late = |outcome| called(Op::WaitPop { keys: vec![1, 0] }, (3, 20), outcome);
        let pushes = [push(7, (5, 6)), push(8, (7, 8))];
        let [first, second] = [answered(&[7]), answered(&[8])];
        let in_order = [waiter(first.clone()), late(second.clone())];
        assert!(is_explained(&[&in_order[..1], &in_order[1..], &pushes], &[&[], &[]]));
        let passed_over = [waiter(second), late(first)];
        assert!(!is_explained(&[&passed_over[..1], &passed_over[1..], &pushes], &[&[], &[]]));
    }

    #[test]
    fn an_element_goes_on_in_the_same_instant() {
        let op = Op::WaitMove { from: 0, to: 1 };
        let mover = [Called { waited: 2, ..called(op, (0, 9), answered(&[7])) }];
        let reader = |seen: &[u32]| {
            [push(7, (5, 9)), called(Op::Look { keys: vec![1] }, (5, 9), answered(seen))]
        };
        assert!(is_explained(&[&mover, &reader(&[7])], &[&[], &[7]]));
        assert!(!is_explained(&[&mover, &reader(&[])], &[&[], &[7]]));
    }
}
