//! Shards that workers leave to others between their turns, as the server's `guests` and `mesh::berth` do it.

use super::world::{Fault, Shared};

/// Who has what lies in a berth, in the order of the head of the server's `mesh::berth`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Home,
    Offered,
    Lent,
    Wanted,
    Kept,
}

/// Where a worker leaves its shard between its turns.
#[derive(Debug, Default)]
pub(super) struct Berth {
    state: State,
    values: Option<Vec<u32>>,
}

impl Berth {
    pub(super) fn offer(&mut self, values: Vec<u32>) {
        assert_eq!(self.state, State::Home, "it is offered already");
        (self.state, self.values) = (State::Offered, Some(values));
    }

    /// The owner takes it back, or says that it is wanted.
    pub(super) fn reclaim(&mut self) -> Option<Vec<u32>> {
        match self.state {
            State::Offered | State::Kept => {
                self.state = State::Home;
                self.values.take()
            }
            State::Lent | State::Wanted => {
                self.state = State::Wanted;
                None
            }
            State::Home => None,
        }
    }

    pub(super) fn is_kept(&self) -> bool {
        self.state == State::Kept
    }

    fn borrow(&mut self) -> Option<Vec<u32>> {
        if self.state != State::Offered {
            return None;
        }
        self.state = State::Lent;
        self.values.take()
    }

    fn give_back(&mut self, values: Vec<u32>) {
        let is_wanted = self.state == State::Wanted;
        self.state = if is_wanted { State::Kept } else { State::Offered };
        self.values = Some(values);
    }
}

/// The guests of one worker.
pub(super) struct Guests {
    shards: Vec<Option<Vec<u32>>>,
}

impl Guests {
    pub(super) fn new(workers: usize) -> Self {
        Guests { shards: vec![None; workers] }
    }

    pub(super) fn has(&self, shard: usize) -> bool {
        self.shards[shard].is_some()
    }

    pub(super) fn values_mut(&mut self, shard: usize) -> Option<&mut Vec<u32>> {
        self.shards[shard].as_mut()
    }

    /// Takes the shard of a worker that rests, if nothing waits for that worker; answers whether it
    /// is here.
    pub(super) fn invite(&mut self, shared: &mut Shared, shard: usize) -> bool {
        if self.has(shard) {
            return true;
        }
        if shared.mailboxes[shard].is_drained() || shared.has_fault(Fault::GuestDespiteMail) {
            self.shards[shard] = shared.berths[shard].borrow();
        }
        self.has(shard)
    }

    /// Sends those home whose owners have mail, or want them.
    pub(super) fn admit(&mut self, shared: &mut Shared) {
        for shard in 0..self.shards.len() {
            let is_drained = shared.mailboxes[shard].is_drained();
            let is_wanted = shared.berths[shard].state == State::Wanted;
            let stays = match shared.settings.fault {
                Some(Fault::GuestDespiteMail) => true,
                Some(Fault::GuestDespiteWanted) => is_drained,
                _ => is_drained && !is_wanted,
            };
            if !stays {
                self.send_home(shared, shard);
            }
        }
    }

    pub(super) fn send_all_home(&mut self, shared: &mut Shared) {
        (0..self.shards.len()).for_each(|shard| self.send_home(shared, shard));
    }

    fn send_home(&mut self, shared: &mut Shared, shard: usize) {
        if let Some(values) = self.shards[shard].take() {
            shared.berths[shard].give_back(values);
        }
    }
}
