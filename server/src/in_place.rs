//! Commands that belong to the worker's own shard, executed where their bytes lie.
//!
//! Why it looks ahead: with more keys than the caches hold, a command waits for memory twice, for
//! its bucket and for its entry, and that is most of its time. So a batch of pipelined requests is
//! parsed first, and the buckets asked for; then the entries; and then the commands run and find
//! both there. Unpipelined requests of several connections are looked at together in the same way.
//!
//! Invariants:
//! - a batch holds only commands of the own shard and of guests (see `guests`), which cannot change
//!   how later requests are parsed, checked or routed; everything else ends it;
//! - what ends a batch is dealt with after the batch has run, so replies keep their order;
//! - what has been looked at is executed, or its connection is gone, before the group's next
//!   round: between rounds nothing is left in any [`Ahead`].
//!
//! `ahead` looks, `check` says what can be said against a request and where it goes, `execute` runs
//! it; here is what happens between: batch by batch, and what ended each.
#![forbid(unsafe_code)]

mod ahead;
mod check;
mod execute;

use bytes::Bytes;
use tessera_engine::{
    command::{CommandError, CommandTable},
    persist::doubt::Doubt,
    shard::Shard,
    transaction::{couplings::Couplings, parts::Splitter},
};
use tessera_proto::Limits;

pub(crate) use self::ahead::Ahead;
use self::{ahead::End, check::refused_in_multi};
use crate::{
    cross_protocol,
    dispatch::Advance,
    guests::{Guests, STAYS},
    metrics::WorkerMetrics,
    net::Connection,
    own_shard::OwnShard,
    pause::Pause,
    replies::BufferPool,
    route::{Route, ShardMap},
    scripts::shared::Busy,
    server::Shared,
    session::{Held, Session},
    slowlog::Watch,
    stopwatch::Stopwatch,
};

/// Requests in a batch at most: enough to hide the latency of memory, few enough that what was
/// fetched for the first is still in the nearest cache when it runs. See `tuning.md`.
pub(crate) const AHEAD_MAX: usize = 16;
/// From this length on, a request's own allocation may become the value, so that it is not copied.
pub(crate) const OWNED_REQUEST_MIN: usize = tessera_proto::buffer::SPLICE_MIN_BYTES;

/// Why the stretch of commands that a worker executes in place has ended.
pub(crate) enum Stop {
    /// At a request that something else has to be done with; it is held in the session.
    At(Held),
    /// For good, or for this round.
    With(Advance),
}

/// What executing in place needs besides the connection.
pub(crate) struct InPlace<'a> {
    pub(crate) shard: &'a mut OwnShard,
    pub(crate) guests: &'a mut Guests,
    pub(crate) own: u32,
    /// Whether own commands may execute in this round, by rules (a) and (c).
    pub(crate) may_run: bool,
    pub(crate) map: ShardMap,
    pub(crate) commands: &'static CommandTable,
    pub(crate) limits: &'a Limits,
    pub(crate) positions: &'a mut Vec<usize>,
    pub(crate) pool: &'a mut BufferPool,
    pub(crate) metrics: &'a WorkerMetrics,
    pub(crate) stopwatch: &'a mut Stopwatch,
    pub(crate) pause: Pause,
    /// Keys that are coupled, if any are.
    pub(crate) couplings: Option<&'a Couplings>,
    pub(crate) splitter: &'a mut Splitter,
    /// Bytes that commands may preserve for a save.
    pub(crate) preserve_bytes_max: Option<usize>,
    /// A script that runs too long, anywhere.
    pub(crate) busy: Option<Busy>,
    /// Some shard is not loaded yet: no key may be looked at.
    pub(crate) is_loading: bool,
    /// Flags of commands that are not permitted to everyone at any time.
    pub(crate) care: u32,
    /// `client-output-buffer-limit`, hard, in bytes; 0 is none.
    pub(crate) output_bytes_max: u64,
    pub(crate) watch: &'a Watch,
    pub(crate) is_monitored: bool,
    pub(crate) shown: &'a mut Vec<Bytes>,
    pub(crate) shared: &'a Shared,
    pub(crate) now_us: i64,
    /// What may be lost, while a log cannot be written.
    pub(crate) doubt: Option<&'a Doubt>,
}

impl InPlace<'_> {
    /// Executes requests until one is not for here.
    pub(crate) fn run(&mut self, connection: &mut Connection<Session>, ahead: &mut Ahead) -> Stop {
        // What has been looked at in a group executes first.
        let mut end = ahead.end.take();
        loop {
            let ended = match end.take() {
                Some(end) => end,
                None => {
                    let end = self.look_ahead(connection, ahead);
                    if ahead.len() > 1 {
                        ahead.fetch(self.shard, self.guests);
                    }
                    end
                }
            };
            self.execute_batch(connection, ahead);
            self.look_at_budget();
            if connection.is_over_limit(self.output_bytes_max) {
                return Stop::With(Advance::Overrun);
            }
            if matches!(ended, End::Full) && self.guests.is_one_wanted(&self.shared.berths) {
                return Stop::With(Advance::NextRound);
            }
            if let Some(stop) = self.stop_at(connection, ended) {
                return stop;
            }
        }
    }

    /// A save under way may have as much preserved as it takes: what would add to that waits from the
    /// next request on.
    #[inline]
    fn look_at_budget(&mut self) {
        if let Some(max) = self.preserve_bytes_max
            && self.pause == Pause::Off
            && self.shard.is_here()
            && self.shard.keyspace.preserved_bytes() >= max
        {
            self.pause = Pause::Uncaptured;
        }
    }

    /// The own shard or a guest.
    #[inline]
    fn shard(&self, shard: u32) -> &Shard {
        if shard == self.own {
            return self.shard;
        }
        self.guests.get(shard).expect(STAYS)
    }

    /// Deals with what ended a batch; answers why the stretch has ended, if it has.
    fn stop_at(&mut self, connection: &mut Connection<Session>, end: End) -> Option<Stop> {
        let Connection { input, session, .. } = &mut *connection;
        match end {
            End::Full => None,
            End::Input { missing } => {
                input.expect(missing);
                Some(Stop::With(Advance::Idle))
            }
            End::Held(held) => {
                let is_paused = self.is_held_up(session, &held, input.bytes());
                let is_own = held.route == Route::Shard(self.own) && self.may_run;
                if is_own && !is_paused && !self.waits_for_guests(session, &held, input.bytes()) {
                    self.execute_held(connection, held);
                    return None;
                }
                session.held = Some(Held { is_paused, ..held });
                if is_paused {
                    return Some(Stop::With(Advance::NextTurn));
                }
                Some(Stop::At(held))
            }
            End::Empty { consumed } => {
                input.consume(consumed);
                None
            }
            End::Queued { consumed, command } => {
                let args = session.parser.args(input.bytes());
                if let Some(queue) = &mut session.queue {
                    queue.push(command, &args);
                }
                input.consume(consumed);
                self.answer_with(connection, |reply| reply.simple("QUEUED"));
                None
            }
            End::Refused { consumed, command, error } => {
                input.consume(consumed);
                let error = refused_in_multi(session, command, error);
                self.metrics.refused(command, &error);
                self.answer(connection, &error);
                None
            }
            End::Foreign => {
                cross_protocol::warn(&session.peer, self.now_us);
                Some(Stop::With(Advance::Finished))
            }
            End::Broken(error) => {
                if !error.is_silent() {
                    self.answer(connection, &CommandError::text(format!("ERR {error}")));
                }
                Some(Stop::With(Advance::Finished))
            }
        }
    }
}
