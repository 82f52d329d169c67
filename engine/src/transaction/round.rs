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
//! 3. [`SecondHalf`]: each connection that is not held up executes its commands for the own shard.
//! 4. Between rounds, what concerns several shards takes all its places in a *cut*: at an instant at
//!    which no worker is between the first and the last place of a round. So it has one moment.
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

/// The second half of a round.
#[derive(Clone, Copy, Debug)]
pub struct SecondHalf {
    own_open: bool,
}

impl SecondHalf {
    /// Begins the second half of a round. `drained` says whether everything below the tail that was
    /// read between the halves has been executed, and the shard is here.
    #[inline]
    pub fn begin(drained: bool) -> Self {
        SecondHalf { own_open: drained }
    }

    /// Whether commands for the own shard execute now.
    ///
    /// # Errors
    ///
    /// [`Blocked::OwnMail`].
    #[inline]
    pub fn admit_own(&self) -> Result<(), Blocked> {
        if self.own_open { Ok(()) } else { Err(Blocked::OwnMail) }
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
    fn an_unfilled_place_holds_back_own_commands() {
        assert_eq!(SecondHalf::begin(false).admit_own(), Err(Blocked::OwnMail));
        assert_eq!(SecondHalf::begin(true).admit_own(), Ok(()));
    }
}
