//! Rounds: when a worker may run or send which command of which connection.
//!
//! Why rounds: replies must come as if all commands of all connections had been run one after the
//! other, each connection's in the order it sent them, although a pipeline is spread over shards
//! that work at their own speed. The order that counts is that of the *places* in the mailboxes:
//! - (a) a connection's commands take their places, or execute, in the order sent;
//! - (b) a consumer never passes a place that is taken and not yet filled;
//! - (c) a command for the worker's own shard executes after all that stood in the worker's own
//!   mailbox at a tail that was read later than the connection's places before it were taken.
//!
//! Why that is enough: give each command for another shard the moment at which its place is taken,
//! and each own command the moment at which that tail was read. Along a connection these moments
//! rise by (a) and (c). On a shard they rise too: places are served in their order by (b), what
//! an own command finds executed stood before its tail, and what comes after it is behind
//! that tail. Own commands of one round have one moment and execute one after the other. So all
//! commands stand in one line that every connection and every shard agrees with, each between its
//! request and its reply.
//!
//! A round has two halves, so that a pipeline over many shards needs few rounds:
//! 1. [`FirstHalf`]: each connection with input packs commands into the parcels for *other* shards,
//!    in ascending order of the shards; one that would break the ascent ends its connection's round.
//!    Then each parcel takes one place, in ascending order of the shards. So (a) holds within the
//!    round, whoever shares the parcels. A parcel that is full leaves earlier, but only behind
//!    those for lower shards.
//! 2. The worker reads its own mailbox's tail and executes all before it, or up to a place that is
//!    not filled.
//! 3. [`SecondHalf`]: each connection that is not held up executes its commands for the own shard,
//!    and may end with one command in parts over several shards, whose parcels take their places,
//!    in ascending order again, before the next round begins.
//!
//! What must wait stays where it is, and nothing of its connection overtakes it.
//!
//! `simulation` runs this rule on thousands of schedules and checks the one order, and that
//! breaking any part of it is noticed.

use super::ShardId;

/// Why a connection's next command does not go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// It belongs to a later round.
    NextRound,
    /// A place in the own mailbox is taken and not filled, so what is behind it may belong before
    /// this command.
    OwnMail,
    /// No credit for another parcel to one of its shards.
    Credit,
}

/// What one connection has sent in the first half of a round: begins as the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct FirstHalf {
    last: Option<ShardId>,
}

impl FirstHalf {
    /// Whether the connection's next command, for another shard, joins the parcel for it.
    /// `has_credit` says whether such a parcel is open already or can be opened. After a refusal
    /// nothing of the connection goes in this half.
    ///
    /// # Errors
    ///
    /// [`Blocked::NextRound`] or [`Blocked::Credit`].
    #[inline]
    pub fn admit(
        &mut self,
        to: ShardId,
        has_credit: impl FnOnce(ShardId) -> bool,
    ) -> Result<(), Blocked> {
        if self.last.is_some_and(|last| to < last) {
            return Err(Blocked::NextRound);
        }
        if !has_credit(to) {
            return Err(Blocked::Credit);
        }
        self.last = Some(to);
        Ok(())
    }
}

/// The second half of a round, as one connection finds it: each gets a copy of its own.
#[derive(Clone, Copy, Debug)]
pub struct SecondHalf {
    own: ShardId,
    own_open: bool,
    is_over: bool,
}

impl SecondHalf {
    /// Begins the second half of a round of the worker that owns shard `own`. `drained` says
    /// whether everything below the tail that was read between the halves has been executed.
    #[inline]
    pub fn begin(own: ShardId, drained: bool) -> Self {
        SecondHalf { own, own_open: drained, is_over: false }
    }

    /// Whether commands for the own shard execute now.
    ///
    /// # Errors
    ///
    /// [`Blocked::OwnMail`], or [`Blocked::NextRound`] after a command in parts.
    #[inline]
    pub fn admit_own(&self) -> Result<(), Blocked> {
        match (self.is_over, self.own_open) {
            (true, _) => Err(Blocked::NextRound),
            (false, false) => Err(Blocked::OwnMail),
            (false, true) => Ok(()),
        }
    }

    /// Whether the connection's next command, in parts over `shards`, goes now; it does so as a
    /// whole, and ends its connection's round. `has_credit` is as in [`FirstHalf::admit`].
    ///
    /// # Errors
    ///
    /// Any of them.
    pub fn admit_parts(
        &mut self,
        shards: impl IntoIterator<Item = ShardId>,
        has_credit: impl Fn(ShardId) -> bool,
    ) -> Result<(), Blocked> {
        if self.is_over {
            return Err(Blocked::NextRound);
        }
        for shard in shards {
            if shard == self.own {
                self.admit_own()?;
            } else if !has_credit(shard) {
                return Err(Blocked::Credit);
            }
        }
        self.is_over = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_sends_in_ascending_order_of_shards() {
        let mut half = FirstHalf::default();
        assert_eq!(half.admit(1, |_| true), Ok(()));
        assert_eq!(half.admit(1, |_| true), Ok(()));
        assert_eq!(half.admit(3, |_| true), Ok(()));
        assert_eq!(half.admit(2, |_| true), Err(Blocked::NextRound));
        assert_eq!(half.admit(0, |_| true), Err(Blocked::NextRound));
    }

    #[test]
    fn a_command_without_credit_waits_for_one() {
        let mut half = FirstHalf::default();
        assert_eq!(half.admit(2, |shard| shard != 2), Err(Blocked::Credit));
        // It did not go, so the ascent has not begun.
        assert_eq!(half.admit(1, |shard| shard != 2), Ok(()));
    }

    #[test]
    fn an_unfilled_place_holds_back_own_commands_and_no_others() {
        let mut half = SecondHalf::begin(1, false);
        assert_eq!(half.admit_own(), Err(Blocked::OwnMail));
        assert_eq!(half.admit_parts([0, 1], |_| true), Err(Blocked::OwnMail));
        assert_eq!(half.admit_parts([0, 2], |_| true), Ok(()));
    }

    #[test]
    fn a_command_in_parts_goes_as_a_whole_or_not_at_all() {
        let mut half = SecondHalf::begin(0, true);
        let without_two = |shard| shard != 2;
        assert_eq!(half.admit_parts([0, 1, 2], without_two), Err(Blocked::Credit));
        assert_eq!(half.admit_parts([0, 1], without_two), Ok(()));
    }

    #[test]
    fn a_command_in_parts_ends_its_connections_round() {
        let mut half = SecondHalf::begin(0, true);
        assert_eq!(half.admit_own(), Ok(()));
        assert_eq!(half.admit_parts([1, 2], |_| true), Ok(()));
        assert_eq!(half.admit_own(), Err(Blocked::NextRound));
        assert_eq!(half.admit_parts([1, 2], |_| true), Err(Blocked::NextRound));
    }

    #[test]
    fn the_own_shard_needs_no_credit() {
        let mut half = SecondHalf::begin(3, true);
        assert_eq!(half.admit_own(), Ok(()));
        assert_eq!(half.admit_parts([3], |_| false), Ok(()));
    }
}
