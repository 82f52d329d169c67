//! Rounds: when a worker may run or send which command of which connection.
//!
//! Why rounds: replies must come as if all commands of all connections had been run one after the
//! other, each connection's in the order it sent them, although a pipeline is spread over shards
//! that work at their own speed. The order that counts is that of the *places* in the mailboxes.
//! Whatever a reader has seen took its place before the reader's next command takes one, if
//! - (a) a connection's runs take their places one round after the other, the k-th runs of all
//!   connections in one round;
//! - (b) a consumer never passes a place that is taken and not yet filled;
//! - (c) a run for the worker's own shard takes its turn like any other: the worker first reads its
//!   own mailbox's tail, after the last round's places were taken, and executes all up to there.
//!
//! A round goes like this, and [`Round`] holds what must be decided on the way:
//! 1. read the own mailbox's tail and drain up to it, or to a place that is not filled;
//! 2. ask each connection with input for its next run: the stretch of commands for one shard, or one
//!    command over several shards. What [`Round::admit`] lets go is executed here or joins the batch
//!    for its shard; what must wait stays where it is, and nothing of its connection overtakes it;
//! 3. take one place for each batch that is not empty, and fill it.
//!
//! `simulation` runs this rule on thousands of schedules and checks the one order, and that
//! breaking any part of it is noticed.

use super::ShardId;

/// One round of one worker, from the draining of its mailbox to the sending of its batches.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    own: ShardId,
    own_open: bool,
}

/// Whether a connection's next run takes part in this round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Go,
    Wait(Blocked),
}

/// Why a run waits for another round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocked {
    /// A place in the own mailbox is taken and not filled, so what is behind it may belong before
    /// this run.
    OwnMail,
    /// No credit for another batch to that shard.
    Credit(ShardId),
}

impl Round {
    /// Begins a round of the worker that owns shard `own`. `drained` says whether everything below
    /// the tail that was read at the beginning has been executed.
    pub fn begin(own: ShardId, drained: bool) -> Self {
        Round { own, own_open: drained }
    }

    /// Whether a run that goes to `shards` takes part. `has_credit` says whether a batch for that
    /// other shard is open already or can be opened. A command over several shards goes as a whole or waits as a whole.
    pub fn admit(&self, shards: &[ShardId], has_credit: impl Fn(ShardId) -> bool) -> Admission {
        if !self.own_open && shards.contains(&self.own) {
            return Admission::Wait(Blocked::OwnMail);
        }
        let short = shards.iter().find(|&&shard| shard != self.own && !has_credit(shard));
        short.map_or(Admission::Go, |&shard| Admission::Wait(Blocked::Credit(shard)))
    }

    /// Whether a command for `next` belongs to the same run as the command for `run` before it.
    pub fn continues(run: &[ShardId], next: &[ShardId]) -> bool {
        run.len() == 1 && run == next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfilled_place_holds_back_own_runs_and_no_others() {
        let round = Round::begin(1, false);
        assert_eq!(round.admit(&[1], |_| true), Admission::Wait(Blocked::OwnMail));
        assert_eq!(round.admit(&[0, 1], |_| true), Admission::Wait(Blocked::OwnMail));
        assert_eq!(round.admit(&[0, 2], |_| true), Admission::Go);
    }

    #[test]
    fn a_command_over_shards_goes_as_a_whole_or_not_at_all() {
        let round = Round::begin(0, true);
        let without_two = |shard| shard != 2;
        assert_eq!(round.admit(&[0, 1], without_two), Admission::Go);
        assert_eq!(round.admit(&[0, 1, 2], without_two), Admission::Wait(Blocked::Credit(2)));
    }

    #[test]
    fn the_own_shard_needs_no_credit() {
        assert_eq!(Round::begin(3, true).admit(&[3], |_| false), Admission::Go);
    }

    #[test]
    fn a_run_is_a_stretch_for_one_shard() {
        assert!(Round::continues(&[2], &[2]));
        assert!(!Round::continues(&[2], &[1]));
        assert!(!Round::continues(&[1, 2], &[1, 2]));
    }
}
