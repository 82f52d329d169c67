//! One worker: a shard, its connections, and its place in the mesh.
//!
//! A turn ([`Worker::serve_turn`]): look at the time, the configuration and the state of the server;
//! take up what connections received and what other workers sent; serve rounds of commands (see
//! `dispatch`); do a slice of background work; hand on what others have to know. Then the worker
//! waits for the network or mail ([`Worker::wait`]), which sends the replies first.
//!
//! Invariants:
//! - nothing in a turn waits for another worker, but for the moments that taking places, and taking
//!   the own shard back, may last;
//! - own commands and background work are done only while the own shard is here;
//! - a turn ends with no parcel open, all guests at home, and all whom it has sent mail awake.
//!
//! `make` puts a worker together, `wait` is how it waits, `clients` how clients come and go, and
//! `tick` what time brings.
#![forbid(unsafe_code)]

mod clients;
mod make;
mod tick;
mod wait;

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use bytes::Bytes;
use tessera_engine::{
    command::CommandTable,
    sys::{clock::wall_clock_us, random::Random},
    transaction::{Gathered, parts::Splitter},
};
use tessera_proto::{Limits, ReplyBuffer, RequestBatch};

use crate::{
    acks::Acks,
    aof::WorkerLog,
    client_eviction::Weighed,
    config::{BufferLimit, ConfigReader},
    couplings::Coupled,
    exec::Question,
    guests::Guests,
    in_place::Ahead,
    loading::Loader,
    loan::Loans,
    mesh::{mailbox::Receiver, wake::Sleeper},
    metrics::WorkerMetrics,
    net::{ConnectionId, Network},
    outbox::Outboxes,
    own_shard::OwnShard,
    parcel::Message,
    pause::Pause,
    pubsub::Farewell,
    replies::BufferPool,
    route::ShardMap,
    runtime::background::Background,
    saving::{
        Why,
        drive::{SaveWaiter, Saving},
    },
    scripts::{Scripts, shared::Busy},
    server::Shared,
    session::Session,
    session_commands::{Codes, care},
    slowlog::Watch,
    stopwatch::Stopwatch,
    upkeep::Upkeep,
    waiting::Waits,
};

/// Everything that one worker thread owns.
pub struct Worker {
    /// This worker's part of the keyspace.
    pub shard: OwnShard,
    /// Its connections.
    pub network: Network<Session>,
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// The configuration in force.
    pub config: ConfigReader,
    pub(crate) own: u32,
    pub(crate) map: ShardMap,
    pub(crate) commands: &'static CommandTable,
    pub(crate) codes: Codes,
    pub(crate) mail: Receiver<Message>,
    pub(crate) outboxes: Outboxes,
    pub(crate) pool: BufferPool,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) stopwatch: Stopwatch,
    /// Measures the turns.
    turns: Stopwatch,
    pub(crate) random: Random,
    /// The turn's time in microseconds since the Unix epoch.
    pub(crate) now_us: i64,
    /// What clients may send, before and after they have authenticated.
    pub(crate) limits: [Limits; 2],
    /// Shards of sleeping workers that are here for this turn.
    pub(crate) guests: Guests,
    /// Scripts and functions.
    pub(crate) scripts: Scripts,
    /// A script that runs too long, anywhere.
    pub(crate) busy: Option<Busy>,
    /// What a transaction over the own shard alone is executed by, while none is.
    pub(crate) alone: Option<Box<Gathered>>,
    /// What transactions ask of all workers in the next cut.
    pub(crate) questions: Vec<Question>,
    /// Shards that this worker borrows.
    pub(crate) loans: Loans,
    /// Keys that are coupled.
    pub(crate) coupled: Coupled,
    /// The configuration has changed while the own shard was lent.
    pub(crate) configure_when_back: bool,
    /// What came for the own shard while that was lent.
    pub(crate) waiting_mail: VecDeque<Message>,
    /// How often in a row a place in the mailbox was found taken and not filled.
    pub(crate) unfilled_waits: u32,
    pub(crate) pause: Pause,
    /// This worker, the first, has heeded a signal to end.
    pub(crate) has_heeded_signal: bool,
    /// What this worker still has to load.
    pub(crate) loader: Option<Loader>,
    /// Some shard is not loaded yet.
    pub(crate) is_loading: bool,
    /// Flags of commands that are not permitted to everyone at any time, as it is in this turn.
    pub(crate) care: u32,
    /// How much output may wait for a client to read it, by the client's class.
    pub(crate) output_limits: [BufferLimit; 3],
    /// What shards have to be told of connections that are gone.
    pub(crate) departed: VecDeque<Farewell>,
    /// Somebody sees all commands.
    pub(crate) is_monitored: bool,
    /// Own connections that see all commands.
    pub(crate) monitoring: Vec<ConnectionId>,
    /// Lines for those who see all commands, which have not been handed on.
    pub(crate) shown: Vec<Bytes>,
    /// From when on a command is slow.
    pub(crate) watch: Watch,
    /// Connections to serve in the next round.
    pub(crate) ready: Vec<ConnectionId>,
    pub(crate) spare_ready: Vec<ConnectionId>,
    /// Connections to serve in the next turn.
    pub(crate) next_turn: Vec<ConnectionId>,
    /// Connections that wait for a credit.
    pub(crate) without_credit: Vec<ConnectionId>,
    /// Connections whose next command waits for a cut.
    pub(crate) for_cut: Vec<ConnectionId>,
    pub(crate) spare_line: Vec<ConnectionId>,
    /// Scratch space for the positions of keys.
    pub(crate) positions: Vec<usize>,
    /// Splits commands into parts.
    pub(crate) splitter: Splitter,
    /// Scratch space for the replies of parts that execute in place.
    pub(crate) part_replies: Vec<ReplyBuffer>,
    /// Scratch space for questions to other workers.
    pub(crate) made_up: RequestBatch,
    /// Requests of a group of connections, looked at and not executed yet; empty between rounds.
    pub(crate) looks: Vec<Ahead>,
    /// Scratch space for connections whose next command runs apart from their group.
    pub(crate) apart: Vec<ConnectionId>,
    /// Scratch space of the first half of a round.
    pub(crate) spare_look: Ahead,
    /// Connections whose commands wait for data.
    pub(crate) waits: Waits,
    /// Background work on the shard.
    pub(crate) upkeep: Upkeep,
    /// The save under way, as far as this worker takes part in it.
    pub(crate) saving: Option<Saving>,
    /// Connections that wait until what they have written is in the log.
    pub(crate) acks: Acks,
    /// Clients that wait for the end of a save.
    pub(crate) save_waiters: Vec<SaveWaiter>,
    /// A save point is reached, or the log is to be written anew; the save waits for a cut.
    pub(crate) save_is_due: bool,
    /// Why that save is due.
    pub(crate) due_why: Why,
    /// This worker's end of the log, if there is one and its shard is loaded.
    pub(crate) log: Option<Box<WorkerLog>>,
    /// Runs what must not hold up a turn.
    pub(crate) background: Background,
    /// More memory was used than `maxmemory` allows when it was last looked at.
    pub(crate) is_over_limit: bool,
    /// When the clients' memory was last looked at.
    pub(crate) clients_weighed: Weighed,
    sleeper: Sleeper,
    /// When background work is due again.
    next_tick_us: i64,
    /// When the shard's own background work is due, if that is sooner.
    pub(crate) shard_due_us: i64,
    /// Background work is left over from the last slice.
    is_behind: bool,
    /// The server is stopping, and this worker accepts no more connections.
    pub(crate) is_winding_up: bool,
    /// The server is stopping, and this worker's own clients are gone.
    is_done: bool,
}

/// How a worker goes on after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is something to do at once.
    Now,
    /// Nothing to do until something comes, or this time has passed.
    Within(Duration),
    /// The worker has stopped.
    Stop,
}

/// Background work is done at least so often while there is any.
const TICK_MAX: Duration = Duration::from_secs(1);

impl Worker {
    /// One turn: serves everything that has come.
    pub fn serve_turn(&mut self) -> Next {
        if self.shared.stop.is_final() {
            return Next::Stop;
        }
        self.begin_turn();
        self.take_events();
        self.end_due_waits();
        self.serve_mail();
        self.wake_stalled(|worker| mem::take(&mut worker.next_turn));
        self.run_rounds();
        if self.scripts.is_suspended() {
            self.resume_script();
        }
        self.unregister_departed();
        self.tick();
        self.end_turn();
        self.next()
    }

    /// Looks at what may have changed since the last turn: the time, the own shard, and the state of
    /// the server. Not the configuration: CONFIG SET tells of it, in its place among the commands.
    fn begin_turn(&mut self) {
        if self.own == 0 {
            self.heed_signal();
        }
        self.take_time(wall_clock_us());
        self.unmoor();
        self.stopwatch.start();
        self.look_at_pause();
        self.busy = self.shared.scripts.busy();
        if self.is_loading {
            self.load_slice();
            self.take_loaded();
            self.is_loading = self.shared.loading.is_active();
        }
        self.pause_for_storage();
        self.care = care(&self.shared);
        self.look_for_doubt();
        self.begin_turn_of_memory();
        self.look_for_monitors();
    }

    /// Hands on what the turn has brought to other workers, the log and the clients.
    fn end_turn(&mut self) {
        self.deliver();
        self.post_couplings();
        self.outboxes.post_news();
        self.outboxes.wake();
        self.end_turn_of_memory();
        self.look_after_clients();
        self.network.finish_turn();
        if !self.save_waiters.is_empty() {
            self.answer_save_waiters();
        }
        self.log_turn();
        if !self.acks.is_empty() {
            self.answer_acks();
        }
        if self.shared.stop.is_asked() {
            self.wind_up();
        }
        self.metrics.counters.loop_turns.add(1);
    }

    /// Lets commands be shown while somebody monitors.
    #[inline]
    fn look_for_monitors(&mut self) {
        let is_monitored = self.shared.monitors.any();
        if is_monitored != self.is_monitored {
            self.is_monitored = is_monitored;
            self.watch.monitor(is_monitored);
        }
    }

    /// How long this worker may wait now.
    fn next(&self) -> Next {
        // While the shard is lent, mail ends the wait for the next turn.
        let has_next_turn = !self.next_turn.is_empty() && self.shard.is_here();
        let is_busy = self.scripts.is_suspended()
            || !self.ready.is_empty()
            || has_next_turn
            || (self.is_behind && self.shard.is_here())
            || self.has_deferred_free()
            || self.wants_room();
        if self.shared.stop.is_asked() {
            return self.shared.stop.next();
        }
        let load_wait = self.loader.as_ref().map_or(TICK_MAX, Loader::due);
        let save_wait = self.save_due().unwrap_or(TICK_MAX).min(load_wait);
        if (self.pause == Pause::Off && is_busy) || save_wait.is_zero() {
            return Next::Now;
        }
        let wait_us = self.waits.due_us().min(self.acks.due_us());
        // What is due for a shard that is away is done when it is back.
        let shard_due_us = if self.shard.is_here() { self.shard_due_us } else { i64::MAX };
        let tick_us = self.next_tick_us.min(shard_due_us).min(wait_us);
        // What waits goes on when the pause ends.
        let pause_end_us = self.shared.pause.end_us();
        let due_us = if pause_end_us > self.now_us { tick_us.min(pause_end_us) } else { tick_us };
        let log_us = self.log.as_ref().and_then(|log| log.due_us(&self.shard));
        let due_us = due_us.min(log_us.unwrap_or(i64::MAX));
        let wait_us = u64::try_from(due_us - self.now_us).unwrap_or(0);
        Next::Within(Duration::from_micros(wait_us).min(save_wait))
    }
}
