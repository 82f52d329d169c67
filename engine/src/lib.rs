//! The storage engine of Tessera: everything that one core owns, without sockets or threads.
//!
//! # Layers
//!
//! Imports point downward only (`tests/architecture.rs` sees to it):
//!
//! ```text
//! transaction   commands over several shards: rounds, parts, gathered shards, EXEC, as plain data
//! persist       log and snapshots: how a shard outlives the process
//! script        scripts and functions in Lua, and the host that executes their commands
//! shard         one keyspace, its clock and its figures; executes commands, does background work
//! waiting       clients that wait for data, and who of them is served first
//! command       one row and one function per command, one file per family
//! persist::rdb  Redis's format of values and databases, for DUMP and RESTORE as for files
//! keyspace      databases of entries: table, deadlines, scanning; who hears of changes
//! notice        what shards tell clients besides replies, and who listens to what
//! journal       what was done to them, as records from which it can be repeated
//! value         what a key can hold (it names one thing above: `keyspace::Body`, an entry's content)
//! types         strings, lists, hashes, sets, sorted sets, streams and their encodings
//! sys           clock, random numbers and disk, real and simulated; asking for memory ahead
//! ```
//!
//! # Where to look
//!
//! - *A new command*: a row and a function in its family's file under [`command`], and an entry in
//!   the family's text under `command/docs`.
//! - *One command from end to end*: [`shard::Shard::execute`], then `command::string::get`, then
//!   [`keyspace`].
//! - *One order over all shards*: the rule and its proof in [`transaction::round`]; commands over
//!   several shards in [`transaction::gathered`] and [`transaction::parts`].
//! - *Why a snapshot does not block a writer*: [`keyspace::capture`]. A write to a key that is not
//!   captured yet preserves it first, and goes on.
//! - *What survives a crash*: [`persist::epoch`], then [`persist::recovery`].
//!
//! # Words
//!
//! ```text
//! slot       one of 16,384 to which CRC16 assigns keys; a shard owns a range of them (`proto::slot`).
//!            In the table, which knows nothing of those: the place of one entry in a bucket
//! cut        an instant between commands on all shards at once
//! capture    the keyspace as it is at a cut, held while commands go on changing it
//! preserve   to put a key's state at the cut aside before it is changed
//! effect     what a command did; recorded in the journal in a form that depends on no clock or chance
//! epoch      a span of the one order: what is flushed, and so becomes durable, together
//! in doubt   keys that a crash may take back: what was done to them is not durable yet
//! unit       what is executed as one step: a command, EXEC, a script
//! gathered   shards that one thread holds, to execute a unit over several of them
//! notice     what a shard has to tell clients besides replies
//! waiter     a client whose command waits for data (Redis says blocked)
//! coupled    keys on several shards that must be at hand together while a client waits for them
//! ```
//!
//! # Invariants
//!
//! - Nothing here reads a clock, a socket, a file or a random device except through `sys`, so that
//!   a whole set of shards runs in one deterministic test thread. Threads are made in one place: at the
//!   start, [`persist`] loads all shards at once.
//! - A shard is used by one thread at a time, and no command locks. What other threads may touch is
//!   named: the memory budget ([`keyspace::budget`]), the marks of clients that watch or wait
//!   ([`keyspace::watch`], [`waiting`]), values that replies hold by reference, and what these give back
//!   ([`keyspace::deferred_free`]).
//! - A command is one function without a wait inside: it sees and leaves its shard consistent.
#![deny(unsafe_code)]

pub mod command;
pub mod journal;
pub mod keyspace;
pub mod notice;
pub mod persist;
pub mod script;
pub mod shard;
pub mod sys;
pub mod transaction;
pub mod types;
pub mod value;
pub mod waiting;

pub use tessera_proto as proto;
