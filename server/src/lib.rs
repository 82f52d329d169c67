//! Tessera's server: threads, sockets and sessions around the engine.
//!
//! # Map
//!
//! ```text
//! start, signal       command line to running workers to exit status
//! config, log         redis.conf's options; lines in the form of Redis's log
//! server              what all workers share: configuration, figures, the end
//! supervision         telling systemd or upstart how far we are
//! loading             the RDB file of the start becomes the keyspace
//! aof                 the append-only log: epochs, files, recovery at the start
//! check               tessera-check: what a data directory holds, without a server
//! upkeep              a worker's background work on its shard: expiry, freeing
//! worker              one thread: a shard, its connections, its end of the mesh; one turn
//! dispatch            rounds: the one order of commands over all shards
//! in_place            commands of the own shard: look ahead, prefetch, execute
//! cross_protocol      requests of web browsers, whose connections are closed
//! client_limits       clients that are idle or do not read
//! client_eviction     clients that hold too much memory together
//! memory              maxmemory: who is refused, and who lets keys go when
//! several, gather     commands that concern several shards, and their joined reply
//! cut                 an instant in which no worker takes places
//! couplings           keys that must be at hand together while a client waits for them
//! loan, own_shard     shards that are lent whole to the worker that executes over several of them
//! guests              shards of workers that are in the kernel, executed upon by others
//! stop_the_world      what the server itself does over all shards at once: DEBUG RELOAD, the end
//! exec                EXEC and WATCH: transactions on their way to the shards
//! libraries           commands that change the libraries of functions
//! local               commands of the session, executed at their connection's worker
//! waiting             commands that wait for data: BLPOP and its like
//! acks                commands that wait for the log: WAIT and WAITAOF
//! mail                serving other workers' parcels, handing out own replies
//! parcel, outbox      what travels between workers
//! pause               what waits while clients are paused, or the log or a save cannot keep up
//! replies             the order of a connection's replies
//! storage             changes to the files of the data directory
//! faults              what tests break on purpose; empty but in their build
//! saving              snapshots of all shards in one file, written while commands go on
//! monitor             every command, for those who asked to see them
//! pubsub              messages, notifications and invalidations on their way to clients
//! tracking            what clients that cache keys are told
//! session, session_commands   a connection's state and the commands about it
//! scripts             scripts and functions: where they run, how they wait
//! metrics, info       figures, and INFO that shows them
//! slowlog, latency    commands and events that took long
//! stopwatch           how long a command takes
//! shard_settings      what shards need to know of the configuration
//! mesh                mailboxes, credits, sleep and wake, berths
//! net                 listeners, connections, buffers
//! runtime             executor (glommio) and ring (io_uring): the only modules that name them
//! ```
//!
//! # Words
//!
//! Terms of the field keep their meaning. These are the server's own, each with the module that says
//! more:
//!
//! ```text
//! turn        one pass of a worker's event loop (worker)
//! round       connections with input send their commands for other shards, then execute their own
//!             (dispatch)
//! run         a stretch of one connection's commands for one shard (dispatch)
//! place       a position in a mailbox, taken by an atomic add: what makes the one order (mesh)
//! parcel      a batch message: a round's runs for one shard; it comes home with the replies (parcel)
//! credit      the right to one more unanswered message to another worker (mesh)
//! ticket      the place of a reply among its connection's (replies)
//! cut         an instant in which no worker takes places: a consistent cut through all mailboxes (cut)
//! unit        what is executed as one step over several shards: a command, EXEC, a script (loan)
//! loan, host  shards handed by pointer to one worker, the host, for the length of a unit (loan)
//! guest       a shard whose worker is between two turns, with another worker for a turn (guests)
//! berth       where a worker leaves its shard between its turns, for others to take (mesh)
//! coupled     keys of several shards for all of which one client waits (couplings)
//! epoch       a span of the one order whose effects become durable together (aof)
//! board, desk who has how many connections; where one is left for the worker that is to have it (net)
//! news        what a shard has to tell another worker's clients besides replies (pubsub)
//! stalled     said of a connection: its next command waits for a credit, a cut or a shard (session)
//! ```
//!
//! # Invariants
//!
//! - no lock is taken between reading a request and writing its reply, and a worker never waits for
//!   another one: what cannot go on now is set aside. Two exceptions, of a few stores and a few
//!   microseconds: while a command over several shards takes its places, nobody else takes any (`cut`);
//!   and a worker that begins a turn looks for its shard for a moment if it is a guest elsewhere
//!   (`own_shard`);
//! - a panic anywhere ends the process.
#![deny(unsafe_code)]

mod acks;
pub mod aof;
pub mod check;
mod client_eviction;
pub mod client_limits;
pub mod config;
mod couplings;
mod cross_protocol;
pub mod cut;
pub mod dispatch;
mod exec;
mod faults;
pub mod gather;
pub mod guests;
pub mod in_place;
pub mod info;
mod latency;
mod libraries;
pub mod loading;
mod loan;
mod local;
pub mod log;
pub mod mail;
mod memory;
pub mod mesh;
pub mod metrics;
pub mod monitor;
pub mod net;
pub mod outbox;
mod own_shard;
pub mod parcel;
pub mod pause;
pub mod pubsub;
pub mod replies;
pub mod runtime;
pub mod saving;
pub mod scripts;
pub mod server;
pub mod session;
pub mod session_commands;
mod several;
mod shard_settings;
pub mod signal;
pub mod slowlog;
pub mod start;
mod stop_the_world;
mod stopwatch;
mod storage;
mod supervision;
pub mod tracking;
mod upkeep;
pub mod waiting;
pub mod worker;

pub use start::main_with_args;
pub use tessera_engine::transaction::map as route;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
