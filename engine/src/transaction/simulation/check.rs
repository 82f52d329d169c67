//! Judges histories: could the commands have taken effect one after the other?
//!
//! Each connection's operations must take effect in the order sent, each between its request and
//! its reply, and each read must return what was written last. The search goes through the possible
//! orders, as Wing and Gong describe, and remembers the states that it has seen, as Lowe added.
//! Unlike a check key by key this one judges the order between keys, which is where pipelines go wrong.

use ahash::AHashSet;

/// What a part of a command did to its key. Every key begins as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Read(u32),
    Write(u32),
}

/// A finished command, at times counted in steps of the simulation.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) invoked: u64,
    pub(super) returned: u64,
    pub(super) effects: Vec<(usize, Effect)>,
    /// Whether all effects must be at one instant. Otherwise each has an instant of its own.
    pub(super) atomic: bool,
}

/// The finished operations of each connection, in the order sent.
pub(super) type History = Vec<Vec<Operation>>;

/// Whether the history has an order as described above.
pub(super) fn has_one_order(history: &History, keys: usize) -> bool {
    let mut search = Search { history, seen: AHashSet::new() };
    search.completes(State {
        next: vec![0; history.len()],
        done: vec![0; history.len()],
        values: vec![0; keys],
    })
}

/// Whether no read is older than one before it, where one connection writes rising numbers to all
/// `keys` in one order again and again, and these reads pass through them in the reverse order.
/// Cheap enough for histories that the full search could not go through.
pub(super) fn never_older(reads: &[Operation], keys: usize) -> bool {
    let values: Vec<_> = reads
        .iter()
        .flat_map(|operation| &operation.effects)
        .filter_map(|&(_, effect)| match effect {
            Effect::Read(value) => Some(value),
            Effect::Write(_) => None,
        })
        .collect();
    // Within a pass, what is read later was written earlier; from pass to pass, each key rises.
    values.chunks(keys).all(<[u32]>::is_sorted)
        && values.iter().zip(values.iter().skip(keys)).all(|(before, after)| before <= after)
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    /// For each connection, its first operation that has not taken effect as a whole.
    next: Vec<u8>,
    /// For each connection, the effects of that operation which have happened, as a bit set.
    done: Vec<u8>,
    values: Vec<u32>,
}

struct Search<'a> {
    history: &'a History,
    seen: AHashSet<State>,
}

impl Search<'_> {
    fn completes(&mut self, state: State) -> bool {
        if (0..self.history.len()).all(|connection| self.current(&state, connection).is_none()) {
            return true;
        }
        if !self.seen.insert(state.clone()) {
            return false;
        }
        (0..self.history.len()).any(|connection| {
            self.may_be_next(&state, connection) && self.completes_with(&state, connection)
        })
    }

    fn current(&self, state: &State, connection: usize) -> Option<&Operation> {
        self.history[connection].get(usize::from(state.next[connection]))
    }

    /// Whether no operation of another connection had returned before this one was invoked.
    fn may_be_next(&self, state: &State, connection: usize) -> bool {
        let Some(operation) = self.current(state, connection) else { return false };
        (0..self.history.len()).all(|other| {
            self.current(state, other).is_none_or(|waiting| waiting.returned >= operation.invoked)
        })
    }

    fn completes_with(&mut self, state: &State, connection: usize) -> bool {
        let history = self.history;
        let operation = &history[connection][usize::from(state.next[connection])];
        let all = (1u8 << operation.effects.len()) - 1;
        if operation.atomic {
            return applied(state, connection, operation, all).is_some_and(|s| self.completes(s));
        }
        let left = all & !state.done[connection];
        (0..operation.effects.len()).map(|part| 1 << part).filter(|part| left & part != 0).any(
            |part| applied(state, connection, operation, part).is_some_and(|s| self.completes(s)),
        )
    }
}

/// The state after those parts of the operation, unless one of them read something else.
fn applied(state: &State, connection: usize, operation: &Operation, parts: u8) -> Option<State> {
    let mut after = state.clone();
    for (part, &(key, effect)) in operation.effects.iter().enumerate() {
        if parts & 1 << part == 0 {
            continue;
        }
        match effect {
            // The reads of an atomic operation see what was before it.
            Effect::Read(value) if state.values[key] != value => return None,
            Effect::Read(_) => {}
            Effect::Write(value) => after.values[key] = value,
        }
    }
    after.done[connection] |= parts;
    if after.done[connection].count_ones() as usize == operation.effects.len() {
        after.next[connection] += 1;
        after.done[connection] = 0;
    }
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::{Effect::*, *};

    fn operation(invoked: u64, returned: u64, effects: &[(usize, Effect)]) -> Operation {
        Operation { invoked, returned, effects: effects.to_vec(), atomic: false }
    }

    #[test]
    fn a_read_after_a_finished_write_must_see_it() {
        let history = |value| {
            vec![
                vec![operation(0, 1, &[(0, Write(1))])],
                vec![operation(2, 3, &[(0, Read(value))])],
            ]
        };
        assert!(has_one_order(&history(1), 1));
        assert!(!has_one_order(&history(0), 1));
    }

    #[test]
    fn a_read_during_a_write_may_see_either() {
        for value in [0, 1] {
            let write = vec![operation(0, 9, &[(0, Write(1))])];
            let read = vec![operation(2, 3, &[(0, Read(value))])];
            assert!(has_one_order(&vec![write, read], 1));
        }
    }

    #[test]
    fn a_pipelined_reader_must_not_see_the_pointer_without_the_data() {
        let writer = vec![operation(0, 9, &[(0, Write(1))]), operation(0, 9, &[(1, Write(1))])];
        let reader =
            |data| vec![operation(0, 9, &[(1, Read(1))]), operation(0, 9, &[(0, Read(data))])];
        assert!(has_one_order(&vec![writer.clone(), reader(1)], 2));
        assert!(!has_one_order(&vec![writer, reader(0)], 2));
    }

    #[test]
    fn only_an_atomic_operation_must_not_be_torn() {
        let both = [(0, Write(1)), (1, Write(1))];
        let torn = vec![operation(0, 9, &[(0, Read(1))]), operation(0, 9, &[(1, Read(0))])];
        let mut write = operation(0, 9, &both);
        assert!(has_one_order(&vec![vec![write.clone()], torn.clone()], 2));
        write.atomic = true;
        assert!(!has_one_order(&vec![vec![write], torn], 2));
    }

    #[test]
    fn what_is_read_later_is_never_older() {
        let reads = |values: [u32; 4]| values.map(|value| operation(0, 1, &[(0, Read(value))]));
        assert!(never_older(&reads([1, 2, 1, 3]), 2));
        assert!(!never_older(&reads([1, 2, 1, 1]), 2));
        assert!(!never_older(&reads([2, 1, 2, 2]), 2));
    }
}
