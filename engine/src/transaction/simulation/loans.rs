//! The shards that one worker of the simulation borrows, as the server's `loan` does it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    message::{Asked, Found, Origin, execute},
    world::{Fault, Shared},
};

/// A command that is executed over shards that are lent.
pub(super) struct Unit {
    pub(super) origin: Origin,
    pub(super) asked: Vec<Asked>,
    /// The shards that it is known to need.
    pub(super) shards: BTreeSet<usize>,
}

#[derive(Default)]
pub(super) struct Loans {
    /// Units whose shards are asked for in the next cut.
    promised: Vec<Unit>,
    /// Units whose shards have been asked for.
    running: Vec<Unit>,
    /// The shards that have been asked for.
    asked: BTreeSet<usize>,
    /// Those that are here.
    here: BTreeMap<usize, Vec<u32>>,
    /// Units that need more shards than they had.
    again: Vec<Unit>,
}

impl Loans {
    pub(super) fn is_under_way(&self) -> bool {
        !self.asked.is_empty()
    }

    pub(super) fn promise(&mut self, unit: Unit) {
        self.promised.push(unit);
    }

    /// Whether anything waits for the next cut, those that start over included.
    pub(super) fn wants_cut(&mut self) -> bool {
        if !self.is_under_way() {
            self.promised.append(&mut self.again);
        }
        !self.promised.is_empty()
    }

    /// The units set out; answers the shards to ask for.
    pub(super) fn ask(&mut self) -> BTreeSet<usize> {
        if self.promised.is_empty() {
            return BTreeSet::new();
        }
        self.running = std::mem::take(&mut self.promised);
        self.asked = self.running.iter().flat_map(|unit| unit.shards.clone()).collect();
        self.asked.clone()
    }

    /// A shard has come; answers whether it was the last.
    pub(super) fn put(&mut self, owner: usize, values: Vec<u32>) -> bool {
        self.here.insert(owner, values);
        self.here.len() == self.asked.len()
    }

    /// Executes the units; answers the shards, to be sent back.
    pub(super) fn execute(&mut self, shared: &mut Shared) -> BTreeMap<usize, Vec<u32>> {
        for mut unit in std::mem::take(&mut self.running) {
            let needs = |&(_, key, _): &Asked| shared.owner(key);
            if !unit.asked.iter().map(needs).all(|shard| self.here.contains_key(&shard)) {
                unit.shards = (0..shared.settings.workers).collect();
                self.again.push(unit);
                continue;
            }
            let found = self.run(&unit.asked, shared);
            shared.connections[unit.origin.connection].stopped = false;
            shared.complete(unit.origin, found);
            shared.together += 1;
        }
        self.asked.clear();
        std::mem::take(&mut self.here)
    }

    fn run(&mut self, asked: &[Asked], shared: &Shared) -> Vec<Found> {
        let before = self.here.clone();
        let stale = shared.has_fault(Fault::ForgetWrites);
        execute(
            asked,
            |key| before[&shared.owner(key)][key],
            |key, new| {
                if let Some(values) = self.here.get_mut(&shared.owner(key)).filter(|_| !stale) {
                    values[key] = new;
                }
            },
        )
    }
}
