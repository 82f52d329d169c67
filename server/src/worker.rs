//! One worker: a shard, its connections, and its place in the mesh.
//!
//! A turn: wait for the network or mail; take up what connections received; serve rounds of their
//! commands (see `dispatch`); send replies; do a slice of background work. Nothing in a turn waits
//! for another worker.
#![forbid(unsafe_code)]

use std::{
    cell::RefCell,
    collections::VecDeque,
    io, mem,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tessera_engine::{
    command::{CommandTable, table, table::flag},
    notice::Client,
    shard::{Settings, Shard},
    sys::{
        clock::{SET_BACK_MIN_US, wall_clock_us},
        random::Random,
    },
    transaction::{Gathered, parts::Splitter},
};
use tessera_proto::{Limits, Protocol, ReplyWriter, RequestBatch};

use crate::{
    acks::Acks,
    aof::{Aof, WorkerLog},
    client_eviction::Weighed,
    config::{BufferLimit, ConfigReader},
    couplings::Coupled,
    exec::Question,
    guests::Guests,
    in_place::{AHEAD_MAX, Ahead},
    loading::Loader,
    loan::Loans,
    mesh::{Endpoint, berth::Berth, mailbox::Receiver, wake::Sleeper},
    metrics::{DatabaseKeys, WorkerMetrics},
    net::{CloseMode, ConnectionId, NetEvent, Network},
    outbox::Outboxes,
    own_shard::OwnShard,
    parcel::Message,
    pause::Pause,
    pubsub::Farewell,
    replies::BufferPool,
    route::ShardMap,
    runtime::{background::Background, pace::Pacer, ring::Wait, wake::Mail},
    saving::{
        Why,
        drive::{SaveWaiter, Saving},
    },
    scripts::{Scripts, shared::Busy},
    server::Shared,
    session::{Session, Standing},
    session_commands::{Codes, care},
    shard_settings::{own_settings, shard},
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

/// What a worker looks at before it sleeps.
struct Mailroom<'a> {
    own: u32,
    mail: &'a Receiver<Message>,
    sleeper: &'a Sleeper,
    log: Option<&'a WorkerLog>,
    aof: &'a Aof,
    /// The own shard with its berth, if it may be left there meanwhile.
    moor: RefCell<(&'a mut OwnShard, &'a Berth<Shard>)>,
    may_moor: bool,
}

impl Mailroom<'_> {
    /// The epochs of the log have moved on, or memory is short.
    fn is_called(&self) -> bool {
        let (shard, _) = &*self.moor.borrow();
        self.log.is_some_and(|log| log.is_called(self.aof)) || shard.is_here() && shard.wants_room()
    }

    /// The own shard has been away, and waits in its berth.
    fn is_shard_back(&self) -> bool {
        let (shard, berth) = &*self.moor.borrow();
        shard.is_back(berth)
    }
}

impl Mail for Mailroom<'_> {
    fn has_mail(&self) -> bool {
        !self.mail.is_drained() || self.is_called() || self.is_shard_back()
    }

    fn announce_sleep(&self) -> bool {
        let rest = self.log.and_then(WorkerLog::rest);
        if let Some(sequence) = rest {
            self.aof.announce_rest(self.own, self.mail.head(), sequence);
        }
        let may_sleep = self.sleeper.announce_sleep(|| !self.has_mail());
        if !may_sleep && rest.is_some() {
            self.aof.end_rest(self.own);
        }
        if may_sleep && self.may_moor {
            let (shard, berth) = &mut *self.moor.borrow_mut();
            shard.offer(berth);
        }
        may_sleep
    }

    fn announce_awake(&self) {
        if self.log.is_some() {
            self.aof.end_rest(self.own);
        }
        self.sleeper.announce_awake();
        let (shard, berth) = &mut *self.moor.borrow_mut();
        shard.reclaim(berth);
    }
}

/// Background work is done at least so often while there is any.
const TICK_MAX: Duration = Duration::from_secs(1);

impl Worker {
    /// A worker over its own shard, network and end of the mesh.
    pub fn new(
        own: usize,
        shared: Arc<Shared>,
        network: Network<Session>,
        endpoint: Endpoint<Message>,
        background: Background,
        seed: u64,
    ) -> Self {
        let config = ConfigReader::new(Arc::clone(&shared.config));
        let map = ShardMap::new(shared.workers);
        let own = own as u32;
        let mut worker = Self {
            shard: OwnShard::new(shard(own, seed, own_settings(config.get(), own))),
            network,
            own,
            map,
            commands: table(),
            codes: Codes::build(),
            mail: endpoint.mail,
            outboxes: Outboxes::new(own, endpoint.peers),
            pool: BufferPool::default(),
            metrics: shared.metrics.worker(own as usize),
            stopwatch: Stopwatch::new(),
            turns: Stopwatch::new(),
            random: Random::from_seed(seed.rotate_left(32)),
            now_us: wall_clock_us(),
            limits: Default::default(),
            guests: Guests::new(shared.workers),
            scripts: Scripts::new(seed.rotate_left(16)),
            busy: None,
            alone: None,
            questions: Vec::new(),
            loans: Loans::new(map, seed.rotate_left(16)),
            coupled: Coupled::new(seed.rotate_left(48)),
            configure_when_back: false,
            waiting_mail: VecDeque::new(),
            unfilled_waits: 0,
            pause: Pause::Off,
            has_heeded_signal: false,
            loader: Loader::new(&shared, own as usize),
            is_loading: true,
            care: flag::ADMIN,
            output_limits: config.get().client_output_buffer_limit,
            departed: VecDeque::new(),
            is_monitored: false,
            monitoring: Vec::new(),
            shown: Vec::new(),
            watch: Watch::default(),
            ready: Vec::new(),
            spare_ready: Vec::new(),
            next_turn: Vec::new(),
            without_credit: Vec::new(),
            for_cut: Vec::new(),
            spare_line: Vec::new(),
            positions: Vec::new(),
            splitter: Splitter::default(),
            made_up: RequestBatch::new(),
            looks: (0..AHEAD_MAX).map(|_| Ahead::default()).collect(),
            apart: Vec::new(),
            spare_look: Ahead::default(),
            waits: Waits::default(),
            upkeep: Upkeep::default(),
            saving: None,
            acks: Acks::default(),
            save_waiters: Vec::new(),
            save_is_due: false,
            due_why: Why::Background,
            log: None,
            background,
            is_over_limit: false,
            clients_weighed: Weighed::default(),
            sleeper: endpoint.sleeper,
            next_tick_us: 0,
            shard_due_us: 0,
            is_behind: false,
            is_winding_up: false,
            is_done: false,
            shared,
            config,
        };
        worker.configure();
        worker.metrics.counters.startup_bytes.set(worker.shard.keyspace.used_bytes() as u64);
        worker
    }

    /// Takes over the configuration in force.
    pub fn configure(&mut self) {
        // Guests follow the old configuration: nothing more is looked at for them.
        self.dismiss_guests();
        let config = self.config.get();
        self.limits = [false, true].map(|authenticated| Limits {
            bulk_max: config.proto_max_bulk_len,
            query_buffer_max: usize::try_from(config.client_query_buffer_limit)
                .unwrap_or(usize::MAX),
            authenticated,
            ..Limits::default()
        });
        self.output_limits = config.client_output_buffer_limit;
        self.watch = Watch::new(config);
        self.watch.monitor(self.is_monitored);
        if self.shard.is_here() {
            self.configure_shard();
        } else {
            self.configure_when_back = true;
        }
    }

    /// Tells the own shard of the configuration in force.
    pub(crate) fn configure_shard(&mut self) {
        let active_expire = self.shard.settings().active_expire;
        let memory = self.memory_settings();
        let settings = own_settings(self.config.get(), self.own);
        self.shard.configure(Settings { active_expire, memory, ..settings });
    }

    /// Waits until there is something to do, or until `deadline`.
    ///
    /// # Errors
    ///
    /// The ring has failed, and with it the worker.
    pub async fn wait(&mut self, pacer: &mut Pacer, deadline: Option<Instant>) -> io::Result<()> {
        self.note_turn(pacer.take_yielded());
        if self.saving.is_some() {
            // Replies leave before what may wait is done.
            let (log, aof) = (self.log.as_deref(), &self.shared.aof);
            let moor = RefCell::new((&mut self.shard, self.shared.berths.of(self.own)));
            let (own, mail, sleeper) = (self.own, &self.mail, &self.sleeper);
            let mailroom = Mailroom { own, mail, sleeper, log, aof, moor, may_moor: false };
            self.network.poll(Wait::NONE, &mailroom)?;
            let has_mail = mailroom.has_mail();
            self.take_save_events();
            let has_requests = has_mail || self.network.has_events();
            self.save_slice(has_requests);
        }
        let may_moor = self.may_moor();
        if may_moor {
            self.shared.berths.note_generation(self.own, self.config.generation());
        }
        let (log, aof) = (self.log.as_deref(), &self.shared.aof);
        let moor = RefCell::new((&mut self.shard, self.shared.berths.of(self.own)));
        let (own, mail, sleeper) = (self.own, &self.mail, &self.sleeper);
        let mailroom = Mailroom { own, mail, sleeper, log, aof, moor, may_moor };
        let outcome = pacer.turn(&mut self.network, &mailroom, deadline).await;
        self.turns.start();
        outcome
    }

    /// Enters how long the turn that ends now has taken, and how long background tasks have had the
    /// core before it.
    #[inline]
    fn note_turn(&mut self, yielded: Duration) {
        let nanos = self.turns.lap_ns();
        let steps = &self.metrics.steps;
        steps.turns.record(nanos);
        steps.nanos.add(nanos);
        if !yielded.is_zero() {
            steps.turns.record(yielded.as_nanos() as u64);
        }
    }

    /// One turn: serves everything that has come.
    pub fn serve_turn(&mut self) -> Next {
        if self.shared.stop.is_final() {
            return Next::Stop;
        }
        if self.own == 0 {
            self.heed_signal();
        }
        self.take_time(wall_clock_us());
        self.unmoor();
        self.stopwatch.start();
        if self.config.refresh() {
            self.configure();
        }
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
        self.next()
    }

    /// Takes over the time of this turn.
    #[inline]
    fn take_time(&mut self, now_us: i64) {
        let latest_us = self.shard.clock_us().unwrap_or(0).max(self.now_us);
        if now_us + SET_BACK_MIN_US < latest_us {
            self.clock_was_set_back(now_us);
        }
        self.now_us = now_us;
        self.shard.advance_clock_us(now_us);
    }

    /// The machine's clock was set back: nothing may wait for the times that were foreseen by the old
    /// one. Messages of workers that have not seen it yet carry the old time; whoever takes that over
    /// comes here again in its next turn.
    #[cold]
    fn clock_was_set_back(&mut self, now_us: i64) {
        self.shard.set_clock_back_us(now_us);
        (self.next_tick_us, self.shard_due_us) = (now_us, now_us);
        for connection in self.network.connections_mut() {
            let session = &mut connection.session;
            session.active_us = session.active_us.min(now_us);
            session.over_soft_limit_us = session.over_soft_limit_us.map(|since| since.min(now_us));
        }
        if self.own == 0 {
            tracing::warn!(
                "The machine's clock was set back: deadlines go by the new time from now on"
            );
        }
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

    fn next(&self) -> Next {
        // While the shard is lent, mail ends the wait for the next turn.
        let has_next_turn = !self.next_turn.is_empty() && self.shard.is_here();
        let is_busy = self.scripts.is_suspended()
            || !self.ready.is_empty()
            || has_next_turn
            || (self.is_behind && self.shard.is_here())
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

    /// The server is to stop: accepts nobody, and closes each connection once what was received
    /// from it is answered.
    fn wind_up(&mut self) {
        if !mem::replace(&mut self.is_winding_up, true) {
            self.network.stop_accepting();
            // Clients that go on sending would never be done.
            let ids: Vec<ConnectionId> = self.network.connections().map(|(id, _)| id).collect();
            ids.into_iter().for_each(|id| self.network.pause_receive(id));
        }
        let waiting = self.network.connections().filter(|(_, open)| open.session.wait.is_some());
        let waiting: Vec<ConnectionId> = waiting.map(|(id, _)| id).collect();
        waiting.into_iter().for_each(|id| self.abandon_wait(id));
        self.abandon_acks();
        let is_settled = |session: &Session| {
            session.replies.is_empty()
                && matches!(session.standing, Standing::Idle | Standing::Finished)
        };
        let settled: Vec<ConnectionId> = self
            .network
            .connections()
            .filter(|(_, connection)| is_settled(&connection.session))
            .map(|(id, _)| id)
            .collect();
        for id in settled {
            self.network.close(id, CloseMode::AfterReply);
        }
        let is_logged = self.log.as_ref().is_none_or(|log| log.is_settled(&self.shard));
        if self.network.is_empty() && self.outboxes.is_quiet() && is_logged && !self.is_done {
            self.is_done = true;
            self.shared.stop.worker_done();
        }
    }

    /// Takes up what has happened to connections.
    fn take_events(&mut self) {
        while let Some(event) = self.network.take_event() {
            match event {
                NetEvent::Opened(id) => self.open(id),
                NetEvent::Readable(id) => self.make_ready(id),
                NetEvent::Ended(id) => self.end(id),
                NetEvent::Closed(id, _) => self.forget(id),
            }
        }
    }

    fn open(&mut self, id: ConnectionId) {
        let config = self.config.get();
        let no_password = config.requirepass.is_empty();
        let is_protected = config.protected_mode && no_password;
        let Some(connection) = self.network.connection(id) else { return };
        let client = self.shared.next_client_id();
        let (peer, local) = (connection.peer.to_string(), connection.local.to_string());
        let is_near = connection.peer.is_loopback();
        connection.session = Session::new(client, peer, local, self.now_us, no_password);
        connection.session.client = Client { worker: self.own, connection: id.number() };
        connection.session.is_local = is_near;
        self.shared.clients.add(client, connection.session.client);
        self.metrics.counters.connections_received.add(1);
        if is_protected && !is_near {
            connection.session.standing = Standing::Finished;
            ReplyWriter::new(&mut connection.output, Protocol::Resp2).error(PROTECTED);
            self.network.mark_dirty(id);
            self.network.close(id, CloseMode::AfterReply);
        }
    }

    fn make_ready(&mut self, id: ConnectionId) {
        let Some(connection) = self.network.connection(id) else { return };
        if connection.session.standing == Standing::Idle {
            connection.session.standing = Standing::Ready;
            self.ready.push(id);
        }
    }

    /// The peer sends no more. As in Redis its connection is closed once the commands that it had
    /// sent are answered.
    fn end(&mut self, id: ConnectionId) {
        let Some(connection) = self.network.connection(id) else { return };
        connection.session.is_ended = true;
        if connection.session.wait.is_some() {
            return self.abandon_wait(id);
        }
        if connection.session.awaits_ack {
            return self.abandon_ack(id);
        }
        if connection.session.standing == Standing::Idle {
            connection.session.standing = Standing::Ready;
            self.ready.push(id);
        }
    }

    fn forget(&mut self, id: ConnectionId) {
        self.forget_wait(id);
        self.forget_ack(id);
        let Some(connection) = self.network.connection(id) else { return };
        connection.session.standing = Standing::Finished;
        self.shared.clients.remove(connection.session.id);
        let session = &connection.session;
        let (has_registered, monitors) =
            (session.has_subscriptions() || session.tracking.is_some(), session.monitors);
        if has_registered {
            self.take_leave(id);
        }
        if monitors {
            self.count_monitors();
        }
    }

    /// Background work, a slice at a time.
    fn tick(&mut self) {
        let is_due = self.is_behind || self.now_us >= self.next_tick_us.min(self.shard_due_us);
        if self.wants_room() {
            self.make_room();
        }
        if is_due && self.shard.is_here() {
            // Keys that expire now do so in the present epoch.
            self.shard.keyspace.journal.set_stamp(self.shared.aof.epoch());
            self.is_behind = self.tick_shard();
        }
        self.plan_shard_tick(is_due);
        if self.own == 0 {
            self.look_at_schedule();
        }
        if self.now_us < self.next_tick_us {
            return;
        }
        self.publish();
        self.end_idle_couplings();
        if self.own == 0 {
            self.shared.metrics.sample((self.now_us / 1_000) as u64);
            self.look_at_save_points();
            self.look_at_log_size();
        }
        self.check_clients();
        let hz = i64::from(self.config.get().hz);
        self.next_tick_us = self.now_us + if self.is_idle() { 1_000_000 } else { 1_000_000 / hz };
    }

    /// Whether nothing changes by itself: no deadlines, no clients that could time out.
    fn is_idle(&self) -> bool {
        if !self.shard.is_here() {
            return false;
        }
        let keyspace = &self.shard.keyspace;
        (0..keyspace.database_count()).all(|database| keyspace.volatile_len(database) == 0)
    }

    /// Publishes this worker's figures for INFO.
    pub(crate) fn publish(&mut self) {
        let counters = &self.metrics.counters;
        let network = self.network.counters();
        counters.connected_clients.set(self.network.len() as u64);
        counters.blocked_clients.set(self.blocked_clients() as u64);
        counters.watching_clients.set(self.watching_clients() as u64);
        counters.connections_rejected.set(network.rejected);
        counters.net_input_bytes.set(network.received);
        counters.net_output_bytes.set(network.sent);
        self.weigh_clients();
        self.scripts.tidy(&self.shared);
        let counters = &self.metrics.counters;
        let (scripts, functions) = self.scripts.used_bytes();
        counters.lua_bytes.set(scripts as u64);
        counters.lua_function_bytes.set(functions as u64);
        counters.mailbox_depth.set(self.mail.depth() as u64);
        if self.shard.is_here() {
            self.publish_shard();
            self.publish_upkeep();
            self.publish_audience();
        }
    }

    /// Publishes the own shard's figures.
    fn publish_shard(&mut self) {
        self.publish_memory();
        let counters = &self.metrics.counters;
        let stats = self.shard.keyspace.stats;
        counters.keyspace_hits.set(stats.hits);
        counters.keyspace_misses.set(stats.misses);
        counters.expired_keys.set(stats.expired);
        counters.expired_fields.set(stats.expired_fields);
        counters.evicted_keys.set(stats.evicted);
        counters.changes.set(self.shard.changes());
        let keyspace = &self.shard.keyspace;
        let databases = (0..keyspace.database_count()).filter(|&number| keyspace.len(number) > 0);
        self.metrics.publish_databases(databases.map(|number| DatabaseKeys {
            database: number as u32,
            keys: keyspace.len(number) as u64,
            expires: keyspace.volatile_len(number) as u64,
            average_ttl_ms: 0,
        }));
    }
}

impl Worker {
    /// Clients that wait with a command.
    fn blocked_clients(&self) -> usize {
        self.paused_clients() + self.waits.len() + self.acks.len()
    }
}

/// What a client of another machine reads while `protected-mode` is on and no password is set.
const PROTECTED: &str = "DENIED Tessera is running in protected mode because protected mode is \
    enabled and no password is set for the default user. In this mode connections are only \
    accepted from the loopback interface. To connect from other machines, set a password with \
    'CONFIG SET requirepass' or the option 'requirepass', or turn the protection off with \
    'CONFIG SET protected-mode no' sent from the machine itself if nobody else can reach its port.";
