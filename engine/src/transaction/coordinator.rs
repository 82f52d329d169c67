//! The course of one transaction over shards, seen from the worker whose connection asked for it.
//!
//! 1. Draw a number, and send every shard its part of the scope to schedule.
//! 2. If a shard refuses the number, release the shards that took it and begin again; after
//!    [`ATTEMPTS`] refusals draw alone, which cannot be refused.
//! 3. When all have scheduled it, the connection's later commands may leave, and the caller sends one
//!    hop after the other. With the concluding hop each shard releases its part when it has executed;
//!    shards without work in that hop are told to conclude at once.
//!
//! What a hop does is no business of this module: it names shards, and the caller puts the work
//! into the messages. A transaction without effect (its votes said no) concludes with a hop to no
//! shard.
//!
//! Invariants:
//! - no hop leaves before all shards have scheduled the same number;
//! - after a concluding hop nothing more is sent;
//! - each shard that scheduled a number is sent exactly one of: release, concluding hop, conclude.

use smallvec::SmallVec;

use super::{ShardId, ids::TransactionId};

/// Numbers that a transaction draws like any other before it draws alone.
pub const ATTEMPTS: u32 = 3;

/// What the caller must do, in this order. Each message to a shard carries the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Draw a number, in this round or a later one, and report it by [`Coordinator::drawn`].
    Draw { alone: bool },
    /// Let others draw again.
    Open,
    /// Send the shard its scope to schedule. It answers whether it did.
    Schedule { shard: ShardId, id: TransactionId },
    /// Tell the shard to forget the number, which another shard has refused.
    Release { shard: ShardId, id: TransactionId },
    /// All shards have scheduled it: let the connection's later commands leave, and begin a hop.
    Ready,
    /// Send the shard its work of this hop. It answers when that is done, and forgets the number if
    /// the hop concludes.
    Hop { shard: ShardId, id: TransactionId, concludes: bool },
    /// Tell the shard to forget the number; it has no work in the concluding hop.
    Conclude { shard: ShardId, id: TransactionId },
    /// All shards have answered the hop: begin the next, or reply to the client if it concluded.
    HopFinished { concluded: bool },
}

/// See the module's head.
#[derive(Debug)]
pub struct Coordinator {
    shards: SmallVec<[ShardId; 4]>,
    refusals: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Drawing,
    Scheduling {
        id: TransactionId,
        unanswered: usize,
        accepted: SmallVec<[ShardId; 4]>,
        refused: bool,
    },
    Ready {
        id: TransactionId,
    },
    Hopping {
        id: TransactionId,
        unanswered: usize,
        concludes: bool,
    },
    Concluded,
}

impl Coordinator {
    /// A transaction over these shards, each named once; it wants to draw a number.
    pub fn new(shards: impl IntoIterator<Item = ShardId>, actions: &mut Vec<Action>) -> Self {
        actions.push(Action::Draw { alone: false });
        Coordinator { shards: shards.into_iter().collect(), refusals: 0, state: State::Drawing }
    }

    /// The number is drawn. It must go out in this round.
    pub fn drawn(&mut self, id: TransactionId, actions: &mut Vec<Action>) {
        debug_assert!(matches!(self.state, State::Drawing));
        let unanswered = self.shards.len();
        let accepted = SmallVec::new();
        self.state = State::Scheduling { id, unanswered, accepted, refused: false };
        actions.extend(self.shards.iter().map(|&shard| Action::Schedule { shard, id }));
    }

    /// A shard has answered whether it scheduled the number.
    pub fn scheduled(&mut self, shard: ShardId, accepts: bool, actions: &mut Vec<Action>) {
        let State::Scheduling { id, unanswered, accepted, refused } = &mut self.state else {
            debug_assert!(false, "an answer to a question that was not asked");
            return;
        };
        *unanswered -= 1;
        if accepts {
            accepted.push(shard);
        }
        *refused |= !accepts;
        if *refused {
            let id = *id;
            actions.extend(accepted.drain(..).map(|shard| Action::Release { shard, id }));
        }
        if *unanswered == 0 {
            let (id, refused) = (*id, *refused);
            self.all_answered(id, refused, actions);
        }
    }

    fn all_answered(&mut self, id: TransactionId, refused: bool, actions: &mut Vec<Action>) {
        let was_alone = self.is_alone();
        if refused {
            debug_assert!(!was_alone, "a number that was drawn alone is not refused");
            self.refusals += 1;
            self.state = State::Drawing;
            actions.push(Action::Draw { alone: self.is_alone() });
            return;
        }
        if was_alone {
            actions.push(Action::Open);
        }
        self.state = State::Ready { id };
        actions.push(Action::Ready);
    }

    fn is_alone(&self) -> bool {
        self.refusals >= ATTEMPTS
    }

    /// Sends a hop to these shards, each named once. Call it after [`Action::Ready`], and again after
    /// each [`Action::HopFinished`] that did not conclude.
    pub fn hop(&mut self, shards: &[ShardId], concludes: bool, actions: &mut Vec<Action>) {
        let State::Ready { id } = self.state else {
            debug_assert!(false, "a hop before the transaction is ready for it");
            return;
        };
        actions.extend(shards.iter().map(|&shard| Action::Hop { shard, id, concludes }));
        if concludes {
            let idle = self.shards.iter().filter(|shard| !shards.contains(shard));
            actions.extend(idle.map(|&shard| Action::Conclude { shard, id }));
        }
        self.state = State::Hopping { id, unanswered: shards.len(), concludes };
        self.check_hop_finished(actions);
    }

    /// A shard has executed its part of the hop.
    pub fn hop_done(&mut self, actions: &mut Vec<Action>) {
        let State::Hopping { unanswered, .. } = &mut self.state else {
            debug_assert!(false, "an answer to a hop that was not sent");
            return;
        };
        *unanswered -= 1;
        self.check_hop_finished(actions);
    }

    fn check_hop_finished(&mut self, actions: &mut Vec<Action>) {
        if let State::Hopping { id, unanswered: 0, concludes } = self.state {
            self.state = if concludes { State::Concluded } else { State::Ready { id } };
            actions.push(Action::HopFinished { concluded: concludes });
        }
    }

    /// Whether nothing more will happen.
    pub fn is_concluded(&self) -> bool {
        matches!(self.state, State::Concluded)
    }

    /// The number of this attempt, while there is one.
    pub fn id(&self) -> Option<TransactionId> {
        match self.state {
            State::Scheduling { id, .. } | State::Ready { id } | State::Hopping { id, .. } => {
                Some(id)
            }
            State::Drawing | State::Concluded => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the coordinator wants after a step.
    fn after(step: impl FnOnce(&mut Vec<Action>)) -> Vec<Action> {
        let mut actions = Vec::new();
        step(&mut actions);
        actions
    }

    fn drawn(shards: &[ShardId], id: TransactionId) -> Coordinator {
        let mut actions = Vec::new();
        let mut coordinator = Coordinator::new(shards.iter().copied(), &mut actions);
        coordinator.drawn(id, &mut actions);
        coordinator
    }

    #[test]
    fn a_transaction_that_all_accept_runs_in_hops_and_concludes() {
        let mut it = drawn(&[0, 2], 9);
        assert_eq!(after(|actions| it.scheduled(2, true, actions)), []);
        assert_eq!(after(|actions| it.scheduled(0, true, actions)), [Action::Ready]);
        let hop = after(|actions| it.hop(&[0, 2], false, actions));
        assert_eq!(hop.len(), 2);
        assert_eq!(after(|actions| it.hop_done(actions)), []);
        let finished = after(|actions| it.hop_done(actions));
        assert_eq!(finished, [Action::HopFinished { concluded: false }]);
        let last = after(|actions| it.hop(&[2], true, actions));
        let hop = Action::Hop { shard: 2, id: 9, concludes: true };
        assert_eq!(last, [hop, Action::Conclude { shard: 0, id: 9 }]);
        let finished = after(|actions| it.hop_done(actions));
        assert_eq!(finished, [Action::HopFinished { concluded: true }]);
        assert!(it.is_concluded());
    }

    #[test]
    fn a_refusal_releases_each_shard_that_accepted_once_and_draws_again_when_all_answered() {
        let mut it = drawn(&[0, 1, 2], 5);
        assert_eq!(after(|actions| it.scheduled(0, true, actions)), []);
        let released = after(|actions| it.scheduled(1, false, actions));
        assert_eq!(released, [Action::Release { shard: 0, id: 5 }]);
        let again = after(|actions| it.scheduled(2, true, actions));
        assert_eq!(again, [Action::Release { shard: 2, id: 5 }, Action::Draw { alone: false }]);
    }

    #[test]
    fn who_was_refused_often_draws_alone_and_opens_when_scheduled() {
        let mut it = drawn(&[0], 1);
        for id in 2..=4 {
            let again = after(|actions| it.scheduled(0, false, actions));
            assert_eq!(again, [Action::Draw { alone: id == 4 }]);
            it.drawn(id, &mut Vec::new());
        }
        let ready = after(|actions| it.scheduled(0, true, actions));
        assert_eq!(ready, [Action::Open, Action::Ready]);
    }

    #[test]
    fn a_transaction_without_effect_concludes_with_a_hop_to_no_shard() {
        let mut it = drawn(&[0, 1], 3);
        (0..2).for_each(|shard| it.scheduled(shard, true, &mut Vec::new()));
        let actions = after(|actions| it.hop(&[], true, actions));
        assert_eq!(actions.len(), 3);
        assert_eq!(actions[2], Action::HopFinished { concluded: true });
    }
}
