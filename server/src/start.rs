//! From the command line to running workers, and to the exit status.
//!
//! Order: read the configuration, start the log, open the listening sockets, make the mesh, start
//! the workers. Whatever cannot work is found before the first worker runs, and is told in one line
//! that names the cause and the cure.
#![forbid(unsafe_code)]

use std::{
    ffi::{OsStr, OsString},
    hash::BuildHasher as _,
    io::Write as _,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tessera_engine::command::table;

use crate::{
    aof::{self, Aof},
    config::{Config, ConfigStore, Invocation, Sources, USAGE, load, parse_arguments},
    loading::Loading,
    log::{Log, announce_start},
    mesh::{Endpoint, credit::Limits, mesh},
    metrics::Metrics,
    net::{
        BindAddress, Board, ListenConfig, Listener, Network, NetworkConfig,
        listener::{self, Relocation},
    },
    parcel::Message,
    runtime::{
        executor::{self, WorkerContext},
        pace::Pacer,
        wake::Doorbell,
    },
    server::{NewListeners, Shared},
    signal, supervision,
    worker::{Next, Worker},
};

/// Descriptors that the process needs besides its clients: listeners, rings, files.
const DESCRIPTORS_RESERVED: u64 = 32;

/// Runs the server with the process's arguments, as `tessera-server` does.
pub fn main_with_args() -> ExitCode {
    let message = match parse_arguments(std::env::args_os().skip(1).collect::<Vec<OsString>>()) {
        Invocation::Version => version(),
        Invocation::Help => USAGE.to_string(),
        Invocation::Refused(reason) => return fail(&reason),
        Invocation::Run(sources) => match run(&sources) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => return fail(&error.to_string()),
        },
    };
    // A closed standard output is nobody's fault and nothing to tell anyone about.
    let _ = writeln!(std::io::stdout(), "{}", message.trim_end());
    ExitCode::SUCCESS
}

fn version() -> String {
    format!(
        "Tessera server v={} bits={} (commands and replies of Redis 7.2.4)",
        env!("CARGO_PKG_VERSION"),
        usize::BITS
    )
}

fn fail(reason: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{reason}");
    ExitCode::FAILURE
}

type StartError = Box<dyn std::error::Error>;

/// Starts the server and returns when it has stopped.
fn run(sources: &Sources) -> Result<(), StartError> {
    let loaded = load(sources)?;
    let mut config = loaded.config;
    let log = Log::start(&config)?;
    announce_start(&config);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    limit_clients(&mut config);
    std::env::set_current_dir(OsStr::from_bytes(&config.dir))?;
    let pid_file = PidFile::write(&config)?;
    let outcome = serve(config, loaded.file, log);
    drop(pid_file);
    if let Err(error) = &outcome {
        tracing::error!("{error}");
    }
    outcome
}

fn serve(config: Config, file: Option<PathBuf>, log: Log) -> Result<(), StartError> {
    let workers = usize::from(config.shards);
    let seed = secret_seed();
    let (aof, recovered) = aof::prepare(&config, workers, seed)?;
    let loading = match &recovered {
        Some(recovered) => Loading::of_log(recovered.bytes(), workers),
        None if aof.follows() => Loading::plan(&config, workers)?.followed_by_log(),
        None => Loading::plan(&config, workers)?,
    };
    let lists = listener::open(&listen_config(&config), workers)?;
    let board = Board::with_workers(workers, config.maxclients)?;
    let bells: Vec<Doorbell> = (0..workers).map(|worker| board.bell(worker)).collect();
    let wakes = bells.iter().cloned().map(|bell| move || bell.ring()).collect();
    let endpoints = mesh::<Message, _>(wakes, Limits::default());
    let unix_socket = unix_socket(&config);
    let (port, supervised) = (config.port, config.supervised);
    let new_listeners = Arc::new(NewListeners::default());
    let aof = Arc::new(aof);
    let apply =
        apply_change(log.clone(), Arc::clone(&board), Arc::clone(&new_listeners), Arc::clone(&aof));
    let store = Arc::new(ConfigStore::new(config, file, apply));
    let metrics = Metrics::new(workers, table().count());
    let shared =
        Arc::new(Shared::new(workers, store, metrics, board, log, new_listeners, (loading, aof)));
    let seats = Seats::new(lists, endpoints);
    let bells_to_stop = bells.clone();
    signal::watch(shared.stop.signal().clone(), move || {
        bells_to_stop.iter().for_each(Doorbell::ring);
    })?;
    let for_workers = Arc::clone(&shared);
    let running = executor::start(workers, move |context| {
        let shared = Arc::clone(&for_workers);
        let (listeners, endpoint) = seats.take(context.index);
        work(context, shared, listeners, endpoint, seed)
    })?;
    if let Some(recovered) = recovered {
        aof::load_in_background(&shared, recovered, seed, bells)?;
    }
    shared.loading.wait(|| shared.stop.is_asked());
    if !shared.stop.is_asked() {
        tracing::info!("Ready to accept connections tcp, port {port}");
        supervision::announce_ready(supervised);
    }
    let failures = running.join().into_iter().find_map(Result::err);
    if let Some(save) = shared.saves.current() {
        // It may have written nothing yet.
        let _ = std::fs::remove_file(save.temporary());
    }
    if let Some((path, _)) = unix_socket {
        // Whoever removed it before us has done what we wanted.
        let _ = std::fs::remove_file(path);
    }
    supervision::announce_stop(supervised);
    match failures.or_else(|| shared.loading.failure().map(str::to_owned)) {
        Some(error) => Err(error.into()),
        None => {
            tracing::info!("Tessera is now ready to exit, bye bye...");
            Ok(())
        }
    }
}

/// A number that clients cannot guess, from which hashes and random choices follow: the standard
/// library keys its hasher from the operating system's random source.
fn secret_seed() -> u64 {
    std::hash::RandomState::new().hash_one(std::process::id())
}

/// The life of one worker, on its own thread.
async fn work(
    context: WorkerContext,
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
    endpoint: Endpoint<Message>,
    seed: u64,
) -> Result<(), String> {
    let config = NetworkConfig { worker: context.index, ..NetworkConfig::default() };
    let network = Network::new(config, Arc::clone(&shared.board), listeners)
        .map_err(|error| error.to_string())?;
    let mut pacer = Pacer::new(&context);
    // Shards draw different random numbers.
    let seed = seed.wrapping_add(context.index as u64);
    let mut worker =
        Worker::new(context.index, shared, network, endpoint, context.background, seed);
    let mut deadline = Some(Instant::now());
    loop {
        worker
            .wait(&mut pacer, deadline)
            .await
            .map_err(|error| format!("worker {}: the ring has failed: {error}", context.index))?;
        deadline = match worker.serve_turn() {
            Next::Now => Some(Instant::now()),
            Next::Within(time) => Some(Instant::now() + time),
            Next::Stop => return Ok(()),
        };
    }
}

/// What each worker takes with it to its thread.
struct Seats(Mutex<Vec<Option<Seat>>>);

/// The listening sockets and the end of the mesh of one worker.
type Seat = (Vec<Listener>, Endpoint<Message>);

impl Seats {
    fn new(lists: Vec<Vec<Listener>>, endpoints: Vec<Endpoint<Message>>) -> Self {
        Self(Mutex::new(lists.into_iter().zip(endpoints).map(Some).collect()))
    }

    fn take(&self, worker: usize) -> Seat {
        let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seats[worker].take().expect("a worker is started once")
    }
}

/// What CONFIG SET changes outside the configuration itself.
fn apply_change(
    log: Log,
    board: Arc<Board>,
    new_listeners: Arc<NewListeners>,
    aof: Arc<Aof>,
) -> crate::config::ApplyChange {
    Box::new(move |before, after| {
        // What may fail comes first.
        let relocations = relocate(before, after)?;
        if before.loglevel != after.loglevel {
            log.set_level(after.loglevel);
        }
        if before.maxclients != after.maxclients {
            let room = client_room(after.maxclients);
            if room < after.maxclients {
                let reason = format!(
                    "The operating system is not able to handle the specified number of clients, \
                     try with {room}"
                );
                return Err(("maxclients", reason));
            }
            board.set_limit(after.maxclients);
        }
        if before.dir != after.dir {
            std::env::set_current_dir(OsStr::from_bytes(&after.dir))
                .map_err(|error| ("dir", error.to_string()))?;
        }
        if after.appendonly
            && !before.appendonly
            && let Err(error) = aof.turn_on(after, secret_seed())
        {
            tracing::warn!("{error}");
            if before.dir != after.dir {
                // It was the working directory a moment ago.
                let _ = std::env::set_current_dir(OsStr::from_bytes(&before.dir));
            }
            return Err(("appendonly", "Unable to turn on AOF. Check server logs.".to_owned()));
        }
        if let Some(relocations) = relocations {
            new_listeners.offer(relocations);
        }
        Ok(())
    })
}

/// What the workers have to do for another port or other addresses; nothing if both stay.
fn relocate(
    before: &Config,
    after: &Config,
) -> Result<Option<Vec<Relocation>>, (&'static str, String)> {
    if before.port == after.port && before.bind == after.bind {
        return Ok(None);
    }
    let (old, new) = (listen_config(before), listen_config(after));
    let relocations = listener::relocate(&old, &new, usize::from(after.shards));
    relocations.map(Some).map_err(|error| {
        tracing::warn!("{error}");
        if before.port == after.port {
            ("bind", "Failed to bind to specified addresses.".to_owned())
        } else {
            ("port", "Unable to listen on this port. Check server logs.".to_owned())
        }
    })
}

fn listen_config(config: &Config) -> ListenConfig {
    let words: Vec<String> =
        config.bind.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let bind = match words.as_slice() {
        [] => ListenConfig::default().bind,
        words => words.iter().map(|word| BindAddress::parse(word)).collect(),
    };
    ListenConfig {
        bind,
        port: (config.port != 0).then_some(config.port),
        unix_socket: unix_socket(config),
        backlog: i32::try_from(config.tcp_backlog).unwrap_or(i32::MAX),
        keepalive: config.tcp_keepalive,
        joins: false,
    }
}

fn unix_socket(config: &Config) -> Option<(PathBuf, Option<u32>)> {
    let path = PathBuf::from(OsStr::from_bytes(&config.unixsocket));
    let mode = (config.unixsocketperm != 0).then_some(config.unixsocketperm);
    (!config.unixsocket.is_empty()).then_some((path, mode))
}

/// Raises the limit of open files for `maxclients`, or lowers `maxclients` to what there is.
fn limit_clients(config: &mut Config) {
    let room = client_room(config.maxclients);
    if room < config.maxclients {
        tracing::warn!(
            "You requested maxclients of {} requiring at least {} max file descriptors, and the \
             system allows fewer: maxclients has been reduced to {room}. If you need more, raise \
             the limit with 'ulimit -n' or LimitNOFILE=.",
            config.maxclients,
            u64::from(config.maxclients) + DESCRIPTORS_RESERVED
        );
        config.maxclients = room;
    }
}

/// Raises the limit of open files for `clients`; answers for how many there is room then.
fn client_room(clients: u32) -> u32 {
    let wanted = u64::from(clients) + DESCRIPTORS_RESERVED;
    let have = raise_open_files(wanted).unwrap_or(1_024);
    u32::try_from(have.saturating_sub(DESCRIPTORS_RESERVED)).unwrap_or(u32::MAX).max(1)
}

/// Raises the soft limit of open files to `wanted`, as far as the hard limit or our rights allow.
/// Answers the limit then in force.
pub(crate) fn raise_open_files(wanted: u64) -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= wanted {
        return Ok(soft);
    }
    if setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_err() {
        setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard)?;
    }
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.0)
}

/// The file with the process id, there while the server runs.
struct PidFile(Option<PathBuf>);

impl PidFile {
    fn write(config: &Config) -> Result<Self, StartError> {
        if config.pidfile.is_empty() {
            return Ok(Self(None));
        }
        let path = PathBuf::from(OsStr::from_bytes(&config.pidfile));
        match std::fs::write(&path, format!("{}\n", std::process::id())) {
            Ok(()) => Ok(Self(Some(path))),
            Err(error) => {
                // As in Redis: a server without its pid file serves no worse.
                tracing::warn!("Failed to write PID file {}: {error}", path.display());
                Ok(Self(None))
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // It may be gone already; nothing depends on it.
            let _ = std::fs::remove_file(path);
        }
    }
}
