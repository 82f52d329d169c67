//! What the workers of one server share, and its start and end.
#![forbid(unsafe_code)]

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tessera_engine::keyspace::budget::Budget;

use crate::{
    aof::Aof,
    config::ConfigStore,
    cut::Cut,
    guests::Berths,
    latency::LatencyMonitor,
    loading::Loading,
    log::Log,
    memory::OverLimit,
    metrics::{Metrics, ProcessInfo, random_id},
    monitor::Monitors,
    net::{Board, listener::Relocation},
    pause::PauseState,
    saving::Saves,
    scripts::shared::SharedScripts,
    signal::Shutdown,
    slowlog::SlowLog,
    tracking::directory::Directory,
    worker::Next,
};

/// How long clients have to take their last replies when the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// How long a worker sleeps at most while it waits for the others to finish.
const STOP_NAP: Duration = Duration::from_millis(5);

/// What all workers can see. Nothing here is written on the way of an ordinary command.
pub struct Shared {
    /// Number of workers, and of shards.
    pub workers: usize,
    /// The configuration.
    pub config: Arc<ConfigStore>,
    /// The workers' figures.
    pub metrics: Metrics,
    /// Who has how many connections.
    pub board: Arc<Board>,
    /// The log.
    pub log: Log,
    /// Who takes places, and the cut that what concerns several shards needs.
    pub cut: Cut,
    /// Where workers that sleep leave their shards.
    pub berths: Berths,
    /// Scripts and libraries of functions.
    pub scripts: SharedScripts,
    /// CLIENT PAUSE.
    pub pause: PauseState,
    /// The file that is loaded at the start.
    pub loading: Loading,
    /// The server's end.
    pub stop: Stop,
    /// Facts about this process.
    pub process: ProcessInfo,
    /// Where each client is.
    pub clients: Directory,
    /// Who sees all commands.
    pub monitors: Monitors,
    /// Commands that took long.
    pub slowlog: SlowLog,
    /// Events that took long.
    pub latency: LatencyMonitor,
    /// `maxmemory`, and what the shards use of it.
    pub memory: Arc<Budget>,
    /// For how long that has been too much.
    pub over_limit: OverLimit,
    /// The append-only log.
    pub aof: Arc<Aof>,
    /// Saves, past and under way.
    pub saves: Saves,
    /// Listeners that CONFIG SET has opened.
    pub new_listeners: Arc<NewListeners>,
    replication_id: Mutex<String>,
    last_client: AtomicU64,
}

impl Shared {
    /// What `workers` workers share; `(loading, aof)` is where their data comes from and goes to.
    pub fn new(
        workers: usize,
        config: Arc<ConfigStore>,
        metrics: Metrics,
        board: Arc<Board>,
        log: Log,
        new_listeners: Arc<NewListeners>,
        (loading, aof): (Loading, Arc<Aof>),
    ) -> Self {
        let process = ProcessInfo::gather();
        Self {
            saves: Saves::new(process.started.as_secs(), workers),
            memory: Arc::new(Budget::new(workers)),
            over_limit: OverLimit::default(),
            aof,
            workers,
            config,
            metrics,
            board,
            log,
            cut: Cut::new(workers),
            berths: Berths::new(workers),
            scripts: SharedScripts::new(workers),
            pause: PauseState::default(),
            loading,
            stop: Stop::new(workers),
            process,
            clients: Directory::default(),
            monitors: Monitors::new(workers),
            slowlog: SlowLog::default(),
            latency: LatencyMonitor::default(),
            new_listeners,
            replication_id: Mutex::new(random_id()),
            last_client: AtomicU64::new(0),
        }
    }

    /// 40 hexadecimal digits that name the history of this server's data.
    pub fn replication_id(&self) -> String {
        self.replication_id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// DEBUG CHANGE-REPL-ID: the history goes on under a new name.
    pub fn change_replication_id(&self) {
        *self.replication_id.lock().unwrap_or_else(PoisonError::into_inner) = random_id();
    }

    /// Whether clients have to authenticate. Only asked for those that have not: the password may
    /// have been taken back since they came.
    #[cold]
    pub fn wants_password(&self) -> bool {
        !self.config.current().requirepass.is_empty()
    }

    /// The number of a new client.
    pub fn next_client_id(&self) -> u64 {
        self.last_client.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Listeners that CONFIG SET has opened, until each worker takes its own.
#[derive(Debug, Default)]
pub struct NewListeners(Mutex<Vec<Option<Relocation>>>);

impl NewListeners {
    /// Offers each worker its own; what was offered before and not taken is closed.
    pub fn offer(&self, relocations: Vec<Relocation>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            relocations.into_iter().map(Some).collect();
    }

    /// What is offered to `worker`.
    pub fn take(&self, worker: usize) -> Option<Relocation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(worker)?.take()
    }
}

/// The server's end: asked for once, and reached when every worker has nothing under way.
///
/// A worker that is done goes on serving the others' mail until all are done, since theirs may
/// need its shard.
#[derive(Debug)]
pub struct Stop {
    /// What signals set.
    signal: Shutdown,
    shutdown: Shutdown,
    is_final: AtomicBool,
    since: OnceLock<Instant>,
    undone: AtomicUsize,
}

impl Stop {
    fn new(workers: usize) -> Self {
        let undone = AtomicUsize::new(workers);
        Self {
            signal: Shutdown::default(),
            shutdown: Shutdown::default(),
            is_final: AtomicBool::new(false),
            since: OnceLock::new(),
            undone,
        }
    }

    /// What signals set; the first worker heeds it.
    pub fn signal(&self) -> &Shutdown {
        &self.signal
    }

    /// Ends the server now: nothing more is executed. Whoever sleeps must be woken by the caller.
    pub fn finish(&self) {
        self.is_final.store(true, Ordering::Release);
        self.shutdown.request();
    }

    /// Whether the server ends now.
    #[inline]
    pub fn is_final(&self) -> bool {
        self.is_final.load(Ordering::Acquire)
    }

    /// What makes the workers finish what they have received, and end.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Whether the server is to stop.
    #[inline]
    pub fn is_asked(&self) -> bool {
        self.shutdown.is_requested()
    }

    /// Notes that one more worker has nothing left to do for its own clients.
    pub fn worker_done(&self) {
        self.undone.fetch_sub(1, Ordering::SeqCst);
    }

    /// How a worker that has been told to stop goes on.
    pub fn next(&self) -> Next {
        let overdue = self.since.get_or_init(Instant::now).elapsed() > STOP_PATIENCE;
        if overdue || self.is_final() || self.undone.load(Ordering::SeqCst) == 0 {
            Next::Stop
        } else {
            Next::Within(STOP_NAP)
        }
    }
}
