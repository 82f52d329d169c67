//! A worker made of its parts, and the configuration that it follows.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, sync::Arc};

use tessera_engine::{
    command::{table, table::flag},
    shard::Settings,
    sys::{clock::wall_clock_us, random::Random},
    transaction::parts::Splitter,
};
use tessera_proto::{Limits, RequestBatch};

use super::Worker;
use crate::{
    acks::Acks,
    client_eviction::Weighed,
    config::ConfigReader,
    couplings::Coupled,
    guests::Guests,
    in_place::{AHEAD_MAX, Ahead},
    loading::Loader,
    loan::Loans,
    mesh::Endpoint,
    net::Network,
    outbox::Outboxes,
    own_shard::OwnShard,
    parcel::Message,
    pause::Pause,
    replies::BufferPool,
    route::ShardMap,
    runtime::background::Background,
    saving::Why,
    scripts::Scripts,
    server::Shared,
    session::Session,
    session_commands::Codes,
    shard_settings::{own_settings, shard},
    slowlog::Watch,
    stopwatch::Stopwatch,
    upkeep::Upkeep,
    waiting::Waits,
};

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
            part_replies: Vec::new(),
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
}
